// SPDX-License-Identifier: Apache-2.0
// A file descriptor that JavaScript owns: an external value with a type tag, so that nothing else can be taken for one.
#pragma once

#include <napi.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>

// Work on another thread keeps a reference, so that a number is never closed (and reused by the kernel) under a running call.
class File
{
      public:
	explicit File(int number) : number(number)
	{
	}
	~File()
	{
		if (number >= 0)
			close(number);
	}
	File(const File &) = delete;
	File &operator=(const File &) = delete;
	int release()
	{
		int taken = number;
		number = -1;
		return taken;
	}
	int number;
};

using SharedFile = std::shared_ptr<File>;

enum class Kind { Map, Program, Link, Lock, Socket };

// What every access to a map is checked against.
struct MapShape {
	uint32_t type = 0;
	uint32_t keySize = 0;
	uint32_t valueSize = 0; // as user space sees it: of a per-CPU map, all values
	uint32_t maxEntries = 0;
};

struct Descriptor {
	Kind kind;
	SharedFile file; // empty: closed
	MapShape shape;
};

// Takes the descriptor over, also when it throws.
Napi::Value wrap(Napi::Env env, Kind kind, int fd, MapShape shape = {});

// TypeError when the value is no descriptor of this kind. A closed one is Failure EBADF from file().
Descriptor &descriptorValue(Napi::Value value, const std::string &what);
Descriptor &descriptorValue(Napi::Value value, Kind kind, const std::string &what);
Descriptor &descriptorArgument(const Napi::CallbackInfo &info, size_t index, Kind kind);
SharedFile fileOf(const Descriptor &descriptor, const std::string &operation);
SharedFile fileArgument(const Napi::CallbackInfo &info, size_t index, Kind kind, const std::string &operation);

// Opens a pin. What is pinned there but is of another kind is Failure EINVAL.
int openPin(const std::string &path, Kind kind, const std::string &operation);

// A map's descriptor with its shape. Takes the descriptor over, also when it throws.
Napi::Value wrapMap(Napi::Env env, int fd, const std::string &operation);
