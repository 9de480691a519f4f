// SPDX-License-Identifier: Apache-2.0
// What is read, and the little that is changed, inside other network namespaces.
#include "arguments.h"
#include "descriptor.h"
#include "exports.h"
#include "namespaces.h"
#include "netfilter.h"
#include "netlink.h"
#include "userns.h"

#include <bpf/bpf.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstring>

struct Answer {
	std::optional<Failure> failure;
	uint64_t cookie = 0;
	uint64_t inode = 0;
	uint64_t users = 0; // inode of the user namespace that owns it; 0: our own
	std::vector<Message> replies;
};

// SO_COOKIE of a socket is the key under which the program at socket creation has left the cookie of the socket's namespace.
static uint64_t cookieFromMap(int map, const std::string &operation)
{
	File udp(checked(operation, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
	uint64_t key = 0, cookie = 0;
	socklen_t size = sizeof(key);
	checked(operation, getsockopt(udp.number, SOL_SOCKET, SO_COOKIE, &key, &size));
	if (bpf_map_lookup_elem(map, &key, &cookie) < 0)
		throw Failure(operation, ENODATA, "the program at socket creation did not run for this process: its cgroup is elsewhere");
	(void)bpf_map_delete_elem(map, &key);
	return cookie;
}

// A kernel built without policy routing has no rules to tell.
static Message dumpRules(Netlink &netlink, const Message &request)
{
	try {
		return netlink.dump(request);
	} catch (const Failure &failure) {
		if (failure.error != EOPNOTSUPP)
			throw;
		return {};
	}
}

static bool asksForRules(int protocol, const Message &request)
{
	nlmsghdr header;
	if (protocol != NETLINK_ROUTE || request.size() < sizeof(header))
		return false;
	memcpy(&header, request.data(), sizeof(header));
	return header.nlmsg_type == RTM_GETRULE;
}

static Answer ask(const std::string &path, int protocol, const std::vector<Message> &requests, const SharedFile &cookies, Message &room)
{
	std::string operation = "read network namespace " + path;
	Answer answer;
	try {
		inside(path, operation, [&](int netns) {
			struct stat status;
			checked(operation, fstat(netns, &status));
			answer.inode = status.st_ino;
			answer.users = foreignUserNamespace(netns, operation);
			Netlink netlink(protocol, operation, room);
			answer.cookie = cookies ? cookieFromMap(cookies->number, operation) : netlink.cookie();
			for (const Message &request : requests)
				answer.replies.push_back(asksForRules(protocol, request) ? dumpRules(netlink, request) : netlink.dump(request));
		});
	} catch (const Failure &failure) {
		answer.failure = failure;
	}
	return answer;
}

static Napi::Value valueOf(Napi::Env env, const Answer &answer)
{
	if (answer.failure)
		return nativeError(env, *answer.failure).Value();
	Napi::Array replies = Napi::Array::New(env, answer.replies.size());
	for (size_t i = 0; i < answer.replies.size(); i++)
		replies.Set(i, Napi::Buffer<uint8_t>::Copy(env, answer.replies[i].data(), answer.replies[i].size()));
	Napi::Object result = Napi::Object::New(env);
	result.Set("cookie", Napi::BigInt::New(env, answer.cookie));
	result.Set("inode", static_cast<double>(answer.inode));
	result.Set("users", static_cast<double>(answer.users));
	result.Set("replies", replies);
	return result;
}

static std::vector<std::string> pathsArgument(const Napi::CallbackInfo &info, size_t index)
{
	std::vector<std::string> paths;
	Napi::Array names = arrayArgument(info, index);
	for (uint32_t i = 0; i < names.Length(); i++)
		paths.push_back(textValue(names.Get(i), "a path"));
	return paths;
}

static std::vector<Message> requestsArgument(const Napi::CallbackInfo &info, size_t index)
{
	std::vector<Message> requests;
	Napi::Array messages = arrayArgument(info, index);
	for (uint32_t i = 0; i < messages.Length(); i++) {
		Bytes bytes = bytesValue(messages.Get(i), "a request");
		requests.emplace_back(bytes.data, bytes.data + bytes.size);
	}
	return requests;
}

// (paths) -> the inode of the namespace behind each, of whatever type; 0: there is none
static Napi::Value inodes(const Napi::CallbackInfo &info)
{
	return onNamespaceThread<std::vector<uint64_t>>(
	    info.Env(),
	    [paths = pathsArgument(info, 0)] {
		    struct stat own;
		    struct stat status;
		    checked("read own network namespace", stat("/proc/self/ns/net", &own));
		    std::vector<uint64_t> found;
		    for (const std::string &path : paths)
			    found.push_back(stat(path.c_str(), &status) == 0 && status.st_dev == own.st_dev ? status.st_ino : 0);
		    return found;
	    },
	    [](Napi::Env env, std::vector<uint64_t> &found) -> Napi::Value {
		    Napi::Array results = Napi::Array::New(env, found.size());
		    for (size_t i = 0; i < found.size(); i++)
			    results.Set(i, static_cast<double>(found[i]));
		    return results;
	    });
}

// (paths, protocol, requests, cookie map or undefined) -> per path {cookie, inode, users, replies} or an error
static Napi::Value dump(const Napi::CallbackInfo &info)
{
	std::vector<std::string> paths = pathsArgument(info, 0);
	int protocol = uintArgument(info, 1);
	std::vector<Message> requests = requestsArgument(info, 2);
	SharedFile cookies;
	if (!info[3].IsUndefined())
		cookies = fileArgument(info, 3, Kind::Map, "read network namespaces");
	return onNamespaceThread<std::vector<Answer>>(
	    info.Env(),
	    [paths = std::move(paths), protocol, requests = std::move(requests), cookies] {
		    std::vector<Answer> answers;
		    Message room;
		    for (const std::string &path : paths)
			    answers.push_back(ask(path, protocol, requests, cookies, room));
		    return answers;
	    },
	    [](Napi::Env env, std::vector<Answer> &answers) -> Napi::Value {
		    Napi::Array results = Napi::Array::New(env, answers.size());
		    for (size_t i = 0; i < answers.size(); i++)
			    results.Set(i, valueOf(env, answers[i]));
		    return results;
	    });
}

static void changeHere(const std::string &operation, const std::vector<Message> &requests)
{
	Message room;
	Netlink netlink(NETLINK_ROUTE, operation, room);
	for (const Message &request : requests)
		netlink.request(request);
}

// (path, inode, requests of rtnetlink that ask for an acknowledgement); path "": in a new namespace, which ends then. The first that fails ends it.
static Napi::Value change(const Napi::CallbackInfo &info)
{
	std::string path = textArgument(info, 0);
	uint32_t inode = uintArgument(info, 1);
	return onNamespaceThread<Nothing>(
	    info.Env(),
	    [path, inode, requests = requestsArgument(info, 2)] {
		    std::string operation = "change network namespace " + (path.empty() ? "of a probe" : path);
		    if (path.empty()) {
			    insideNew(operation, [&] { changeHere(operation, requests); });
		    } else {
			    inside(path, operation, [&](int netns) {
				    requireInode(netns, inode, operation);
				    changeHere(operation, requests);
			    });
		    }
		    return Nothing{};
	    },
	    undefinedOf);
}

// (path) -> the port of each rule of legacy iptables that redirects
static Napi::Value legacyRules(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	return onNamespaceThread<std::vector<uint16_t>>(
	    info.Env(),
	    [path] {
		    std::string operation = "read nat tables of network namespace " + path;
		    std::vector<uint16_t> ports;
		    inside(path, operation, [&](int) { ports = legacyRedirects(operation); });
		    return ports;
	    },
	    [](Napi::Env env, std::vector<uint16_t> &ports) -> Napi::Value {
		    Napi::Array results = Napi::Array::New(env, ports.size());
		    for (size_t i = 0; i < ports.size(); i++)
			    results.Set(i, static_cast<double>(ports[i]));
		    return results;
	    });
}

static std::string readIterator(int link, const std::string &operation)
{
	constexpr size_t LONGEST = 16 * 1024 * 1024;
	constexpr int IDLE_READS = 10000;
	File iterator(checked(operation, bpf_iter_create(link)));
	std::string text;
	std::vector<char> room(64 * 1024);
	int idle = 0;
	for (;;) {
		ssize_t got = read(iterator.number, room.data(), room.size());
		if (got == 0)
			return text;
		// EAGAIN: the kernel went over a million objects of which the program printed none, and wants to be asked on.
		if (got < 0 && (errno == EAGAIN || errno == EINTR) && ++idle < IDLE_READS)
			continue;
		text.append(room.data(), checked(operation, static_cast<int>(got)));
		if (text.size() > LONGEST)
			throw Failure(operation, EMSGSIZE, "the iterator prints more than 16 MiB");
	}
}

// (path, link)
static Napi::Value iterate(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "iterate in network namespace " + path;
	SharedFile link = fileArgument(info, 1, Kind::Link, operation);
	return onNamespaceThread<std::string>(
	    info.Env(),
	    [path, operation, link] {
		    std::string text;
		    inside(path, operation, [&](int) { text = readIterator(link->number, operation); });
		    return text;
	    },
	    [](Napi::Env env, std::string &text) -> Napi::Value { return Napi::String::New(env, text); });
}

void exportNamespaces(Napi::Env env, Napi::Object exports)
{
	exports.Set("namespaceInodes", Napi::Function::New<guarded<inodes>>(env));
	exports.Set("namespaceDump", Napi::Function::New<guarded<dump>>(env));
	exports.Set("namespaceChange", Napi::Function::New<guarded<change>>(env));
	exports.Set("namespaceLegacyRules", Napi::Function::New<guarded<legacyRules>>(env));
	exports.Set("namespaceIterate", Napi::Function::New<guarded<iterate>>(env));
}
