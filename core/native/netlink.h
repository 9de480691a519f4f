// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

using Message = std::vector<uint8_t>;

// A netlink socket of the namespace that the thread is in.
class Netlink
{
      public:
	// `room` is for datagrams that arrive; it may be used again by the next socket.
	Netlink(int protocol, const std::string &operation, Message &room);
	~Netlink();
	Netlink(const Netlink &) = delete;
	Netlink &operator=(const Netlink &) = delete;
	// SO_NETNS_COOKIE, Linux 5.14; 0: the kernel does not have it
	uint64_t cookie();
	// Sends a dump request and returns all messages of the answer, whole, one after the other, without the closing NLMSG_DONE.
	Message dump(const Message &request);
	// Sends a request that asks for an acknowledgement, and waits for it.
	void request(const Message &request);

      private:
	enum class Ending { Whole, Interrupted };
	void send(const Message &request);
	Ending receive(Message &answer);
	int fd;
	uint32_t sequence = 0;
	std::string operation;
	Message &room;
};
