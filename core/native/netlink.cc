// SPDX-License-Identifier: Apache-2.0
// Netlink dumps and requests. What the messages mean is decoded in TypeScript.
#include "netlink.h"
#include "error.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstring>

// The kernel fills a datagram of a dump up to 32 KiB, nfnetlink may go beyond.
constexpr size_t DATAGRAM = 128 * 1024;
// A namespace with more than this is no pod.
constexpr size_t LONGEST_ANSWER = 64 * 1024 * 1024;
constexpr int ATTEMPTS = 8;

Netlink::Netlink(int protocol, const std::string &operation, Message &room) : operation(operation), room(room)
{
	room.resize(DATAGRAM);
	fd = checked(operation, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
	timeval patience = {5, 0};
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

Netlink::~Netlink()
{
	close(fd);
}

uint64_t Netlink::cookie()
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);
	int result = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
	if (result < 0 && errno == ENOPROTOOPT)
		return 0;
	checked(operation + ", read its cookie", result);
	return cookie;
}

void Netlink::send(const Message &request)
{
	if (request.size() < sizeof(nlmsghdr))
		throw Failure(operation, EINVAL, "the request has no header");
	Message message = request;
	auto *header = reinterpret_cast<nlmsghdr *>(message.data());
	header->nlmsg_len = message.size();
	header->nlmsg_seq = ++sequence;
	header->nlmsg_pid = 0;
	sockaddr_nl kernel = {};
	kernel.nl_family = AF_NETLINK;
	ssize_t sent = sendto(fd, message.data(), message.size(), 0, reinterpret_cast<sockaddr *>(&kernel), sizeof(kernel));
	checked(operation, static_cast<int>(sent));
}

Message Netlink::dump(const Message &request)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		send(request);
		Message answer;
		if (receive(answer) == Ending::Whole)
			return answer;
	}
	throw Failure(operation, EAGAIN, "it changes faster than it can be read");
}

void Netlink::request(const Message &request)
{
	send(request);
	Message nothing;
	receive(nothing); // the acknowledgement is an error of 0
}

Netlink::Ending Netlink::receive(Message &answer)
{
	bool interrupted = false;
	while (answer.size() < LONGEST_ANSWER) {
		ssize_t got = recv(fd, room.data(), room.size(), MSG_TRUNC);
		if (got < 0 && errno == EINTR)
			continue;
		size_t left = checked(operation, static_cast<int>(got));
		if (left > room.size())
			throw Failure(operation, EMSGSIZE);
		auto *header = reinterpret_cast<nlmsghdr *>(room.data());
		for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
			if (header->nlmsg_seq != sequence)
				continue;
			interrupted |= (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
			if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
				int32_t error = 0; // the first field of both
				if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
					memcpy(&error, NLMSG_DATA(header), sizeof(error));
				if (error < 0)
					throw Failure(operation, -error);
				return interrupted ? Ending::Interrupted : Ending::Whole;
			}
			auto *bytes = reinterpret_cast<uint8_t *>(header);
			answer.insert(answer.end(), bytes, bytes + NLMSG_ALIGN(header->nlmsg_len));
		}
	}
	throw Failure(operation, EMSGSIZE);
}
