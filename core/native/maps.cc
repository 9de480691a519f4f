// SPDX-License-Identifier: Apache-2.0
// Maps: create, open, one entry at a time.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static bool isPerCpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
	       type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

static bpf_map_info infoOf(int fd, const std::string &operation)
{
	bpf_map_info info = {};
	uint32_t size = sizeof(info);
	checked(operation, bpf_obj_get_info_by_fd(fd, &info, &size));
	return info;
}

Napi::Value wrapMap(Napi::Env env, int fd, const std::string &operation)
{
	File file(fd);
	bpf_map_info info = infoOf(fd, operation);
	MapShape shape = {info.type, info.key_size, info.value_size, info.max_entries};
	if (isPerCpu(info.type)) // each CPU's value is padded to 8 bytes
		shape.valueSize = (info.value_size + 7) / 8 * 8 * checked("count CPUs", libbpf_num_possible_cpus());
	return wrap(env, Kind::Map, file.release(), shape);
}

static Napi::Value create(const Napi::CallbackInfo &info)
{
	std::string name = textArgument(info, 0);
	std::string operation = "create map " + name;
	if (name.size() >= BPF_OBJ_NAME_LEN)
		throw Failure(operation, ENAMETOOLONG, "a map's name has at most 15 characters");
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.map_flags = uintArgument(info, 5);
	int fd = bpf_map_create(static_cast<bpf_map_type>(uintArgument(info, 1)), name.c_str(), uintArgument(info, 2), uintArgument(info, 3),
				uintArgument(info, 4), &options);
	return wrapMap(info.Env(), checked(operation, fd), operation);
}

static Napi::Value open(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "open map " + path;
	return wrapMap(info.Env(), openPin(path, Kind::Map, operation), operation);
}

static Napi::Value mapInfo(const Napi::CallbackInfo &info)
{
	SharedFile file = fileArgument(info, 0, Kind::Map, "read map info");
	bpf_map_info map = infoOf(file->number, "read map info");
	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("id", map.id);
	result.Set("name", map.name);
	result.Set("type", map.type);
	result.Set("keySize", map.key_size);
	result.Set("valueSize", map.value_size);
	result.Set("maxEntries", map.max_entries);
	result.Set("flags", map.map_flags);
	return result;
}

// What every key and value must have, as user space sees it: of a per-CPU map, all values.
static Napi::Value sizes(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("keySize", map.shape.keySize);
	result.Set("valueSize", map.shape.valueSize);
	return result;
}

static Bytes sized(const Napi::CallbackInfo &info, size_t index, const std::string &operation, const char *what, uint32_t size)
{
	Bytes bytes = bytesArgument(info, index);
	if (bytes.size != size)
		throw Failure(operation, EINVAL,
			      std::string(what) + " has " + std::to_string(bytes.size) + " bytes, the map wants " + std::to_string(size));
	return bytes;
}

// No copy of what it has.
static Napi::Value isEmpty(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "read next key of map");
	std::vector<uint8_t> key(map.shape.keySize);
	int result = bpf_map_get_next_key(file->number, nullptr, key.data());
	if (result != -ENOENT)
		checked("read next key of map", result);
	return Napi::Boolean::New(info.Env(), result == -ENOENT);
}

static Napi::Value lookup(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "look up in map");
	Bytes key = sized(info, 1, "look up in map", "the key", map.shape.keySize);
	auto value = Napi::Buffer<uint8_t>::New(info.Env(), map.shape.valueSize);
	int result = bpf_map_lookup_elem(file->number, key.data, value.Data());
	if (result == -ENOENT)
		return info.Env().Undefined();
	checked("look up in map", result);
	return value;
}

static Napi::Value update(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "update map");
	Bytes key = sized(info, 1, "update map", "the key", map.shape.keySize);
	Bytes value = sized(info, 2, "update map", "the value", map.shape.valueSize);
	checked("update map", bpf_map_update_elem(file->number, key.data, value.data, uintArgument(info, 3)));
	return info.Env().Undefined();
}

static Napi::Value remove(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "delete from map");
	Bytes key = sized(info, 1, "delete from map", "the key", map.shape.keySize);
	int result = bpf_map_delete_elem(file->number, key.data);
	if (result != -ENOENT)
		checked("delete from map", result);
	return Napi::Boolean::New(info.Env(), result == 0);
}

static Napi::Value freeze(const Napi::CallbackInfo &info)
{
	SharedFile file = fileArgument(info, 0, Kind::Map, "freeze map");
	checked("freeze map", bpf_map_freeze(file->number));
	return info.Env().Undefined();
}

// (array, index, program): the value of a BPF_MAP_TYPE_PROG_ARRAY is a descriptor number, of this process and this moment.
static Napi::Value setProgram(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "set program");
	uint32_t index = uintArgument(info, 1);
	SharedFile program = fileArgument(info, 2, Kind::Program, "set program");
	if (map.shape.type != BPF_MAP_TYPE_PROG_ARRAY)
		throw Failure("set program", EINVAL, "the map is not an array of programs");
	checked("set program " + std::to_string(index), bpf_map_update_elem(file->number, &index, &program->number, BPF_ANY));
	return info.Env().Undefined();
}

void exportMaps(Napi::Env env, Napi::Object exports)
{
	exports.Set("mapCreate", Napi::Function::New<guarded<create>>(env));
	exports.Set("mapOpen", Napi::Function::New<guarded<open>>(env));
	exports.Set("mapInfo", Napi::Function::New<guarded<mapInfo>>(env));
	exports.Set("mapSizes", Napi::Function::New<guarded<sizes>>(env));
	exports.Set("mapLookup", Napi::Function::New<guarded<lookup>>(env));
	exports.Set("mapIsEmpty", Napi::Function::New<guarded<isEmpty>>(env));
	exports.Set("mapUpdate", Napi::Function::New<guarded<update>>(env));
	exports.Set("mapDelete", Napi::Function::New<guarded<remove>>(env));
	exports.Set("mapFreeze", Napi::Function::New<guarded<freeze>>(env));
	exports.Set("setProgram", Napi::Function::New<guarded<setProgram>>(env));
}
