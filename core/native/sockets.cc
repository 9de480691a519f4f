// SPDX-License-Identifier: Apache-2.0
// Listening sockets of other processes.
#include "arguments.h"
#include "descriptor.h"
#include "exports.h"
#include "job.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct Owner {
	uint32_t pid;
	uint32_t fd;
	uint64_t cookie;
};

static std::string nameOf(const Owner &owner)
{
	return "descriptor " + std::to_string(owner.fd) + " of process " + std::to_string(owner.pid);
}

static int duplicate(const Owner &owner)
{
	std::string operation = "duplicate " + nameOf(owner);
	File process(checked(operation, static_cast<int>(syscall(SYS_pidfd_open, owner.pid, 0))));
	return checked(operation, static_cast<int>(syscall(SYS_pidfd_getfd, process.number, owner.fd, 0)));
}

template <class Value> static Value option(int socket, int name, const std::string &operation)
{
	Value value = {};
	socklen_t size = sizeof(value);
	checked(operation, getsockopt(socket, SOL_SOCKET, name, &value, &size));
	return value;
}

// Numbers of processes, descriptors and inodes are used again, a cookie is not.
static void checkListener(int socket, uint64_t cookie, const std::string &operation)
{
	if (option<uint64_t>(socket, SO_COOKIE, operation) != cookie)
		throw Failure(operation, ESTALE, "it is another socket now");
	if (option<int>(socket, SO_PROTOCOL, operation) != IPPROTO_TCP || !option<int>(socket, SO_ACCEPTCONN, operation))
		throw Failure(operation, EINVAL, "it is not a TCP listener");
}

// -> the index of the key, -1: none is free
static int64_t addListener(int map, const std::vector<uint8_t> &keys, uint32_t keySize, const Owner &owner)
{
	File socket(duplicate(owner));
	std::string operation = "add " + nameOf(owner) + " to map";
	checkListener(socket.number, owner.cookie, operation);
	uint64_t value = static_cast<uint64_t>(socket.number);
	for (size_t offset = 0; offset < keys.size(); offset += keySize) {
		int result = bpf_map_update_elem(map, &keys[offset], &value, BPF_NOEXIST);
		if (result == -EEXIST)
			continue;
		checked(operation, result);
		return static_cast<int64_t>(offset / keySize);
	}
	return -1;
}

// (map, keys, pid, descriptor, cookie). One piece of work: as long as our duplicate is open, a listener outlives its process and keeps its port.
static Napi::Value add(const Napi::CallbackInfo &info)
{
	constexpr char OPERATION[] = "add listener to map";
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, OPERATION);
	uint32_t keySize = map.shape.keySize;
	if (map.shape.type != BPF_MAP_TYPE_SOCKHASH || map.shape.valueSize != sizeof(uint64_t))
		throw Failure(OPERATION, EINVAL, "the map is not a sockhash with values of 8 bytes");
	std::vector<uint8_t> keys = copiedArgument(info, 1);
	if (keys.size() % keySize != 0)
		throw Failure(OPERATION, EINVAL, "the keys are not a multiple of " + std::to_string(keySize) + " bytes");
	Owner owner = {uintArgument(info, 2), uintArgument(info, 3), bigUintArgument(info, 4)};
	return inPool<int64_t>(
	    info.Env(), [file, keySize, owner, keys = std::move(keys)] { return addListener(file->number, keys, keySize, owner); },
	    [](Napi::Env env, int64_t &index) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(index)); });
}

void exportSockets(Napi::Env env, Napi::Object exports)
{
	exports.Set("listenerAdd", Napi::Function::New<guarded<add>>(env));
}
