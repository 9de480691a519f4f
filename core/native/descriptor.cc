// SPDX-License-Identifier: Apache-2.0
#include "descriptor.h"
#include "arguments.h"
#include "error.h"
#include "exports.h"

#include <bpf/bpf.h>

static constexpr napi_type_tag TAG = {0x6d65726272696467ull, 0x6465736372697074ull};
static constexpr const char *NAMES[] = {"map", "program", "link", "lock", "socket"};

Napi::Value wrap(Napi::Env env, Kind kind, int fd, MapShape shape)
{
	auto file = std::make_shared<File>(fd);
	auto owned = std::make_unique<Descriptor>(Descriptor{kind, std::move(file), shape});
	auto value = Napi::External<Descriptor>::New(env, owned.get(), [](Napi::Env, Descriptor *descriptor) { delete descriptor; });
	owned.release();
	value.TypeTag(&TAG);
	return value;
}

Descriptor &descriptorValue(Napi::Value value, const std::string &what)
{
	if (!value.IsExternal() || !value.As<Napi::External<Descriptor>>().CheckTypeTag(&TAG))
		throw Napi::TypeError::New(value.Env(), what + " is not a handle of this addon");
	return *value.As<Napi::External<Descriptor>>().Data();
}

Descriptor &descriptorValue(Napi::Value value, Kind kind, const std::string &what)
{
	Descriptor &descriptor = descriptorValue(value, what);
	if (descriptor.kind != kind)
		throw Napi::TypeError::New(value.Env(), what + " must be a " + NAMES[static_cast<int>(kind)] + ", not a " +
							    NAMES[static_cast<int>(descriptor.kind)]);
	return descriptor;
}

Descriptor &descriptorArgument(const Napi::CallbackInfo &info, size_t index, Kind kind)
{
	return descriptorValue(info[index], kind, "argument " + std::to_string(index));
}

SharedFile fileOf(const Descriptor &descriptor, const std::string &operation)
{
	if (!descriptor.file)
		throw Failure(operation, EBADF, "the handle is closed");
	return descriptor.file;
}

SharedFile fileArgument(const Napi::CallbackInfo &info, size_t index, Kind kind, const std::string &operation)
{
	return fileOf(descriptorArgument(info, index, kind), operation);
}

int openPin(const std::string &path, Kind kind, const std::string &operation)
{
	static constexpr const char *ANONYMOUS_INODES[] = {"anon_inode:bpf-map", "anon_inode:bpf-prog", "anon_inode:bpf-link"};
	File file(checked(operation, bpf_obj_get(path.c_str())));
	// BPF_OBJ_GET opens whatever is there, and BPF_OBJ_GET_INFO_BY_FD fills whatever fits: only the name of the inode tells.
	char inode[64] = {};
	std::string self = "/proc/self/fd/" + std::to_string(file.number);
	checked(operation, static_cast<int>(readlink(self.c_str(), inode, sizeof(inode) - 1)));
	if (std::string(inode) != ANONYMOUS_INODES[static_cast<int>(kind)])
		throw Failure(operation, EINVAL, std::string("what is pinned there is not a ") + NAMES[static_cast<int>(kind)]);
	return file.release();
}

// -> -1 when closed
static Napi::Value number(const Napi::CallbackInfo &info)
{
	Descriptor &descriptor = descriptorValue(info[0], "argument 0");
	return Napi::Number::New(info.Env(), descriptor.file ? descriptor.file->number : -1);
}

static Napi::Value closeDescriptor(const Napi::CallbackInfo &info)
{
	descriptorValue(info[0], "argument 0").file.reset();
	return info.Env().Undefined();
}

static Napi::Value pin(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 1);
	SharedFile file = fileOf(descriptorValue(info[0], "argument 0"), "pin " + path);
	checked("pin " + path, bpf_obj_pin(file->number, path.c_str()));
	return info.Env().Undefined();
}

void exportDescriptors(Napi::Env env, Napi::Object exports)
{
	exports.Set("descriptorNumber", Napi::Function::New<guarded<number>>(env));
	exports.Set("descriptorClose", Napi::Function::New<guarded<closeDescriptor>>(env));
	exports.Set("descriptorPin", Napi::Function::New<guarded<pin>>(env));
}
