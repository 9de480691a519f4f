// SPDX-License-Identifier: Apache-2.0
// Loaded programs: what they are, where they are attached.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"
#include "namespaces.h"

#include <bpf/bpf.h>
#include <fcntl.h>

#include <vector>

// A program of ours uses a handful; what others use is cut off beyond this.
constexpr uint32_t MOST_MAPS = 1024;
// The kernel allows 64 programs at one cgroup; the effective list adds those of its ancestors.
constexpr uint32_t MOST_PROGRAMS = 64 * 64;

static Napi::Object describe(Napi::Env env, int fd)
{
	std::vector<uint32_t> mapIds(MOST_MAPS);
	bpf_prog_info program = {};
	uint32_t size = sizeof(program);
	program.nr_map_ids = MOST_MAPS;
	program.map_ids = reinterpret_cast<uintptr_t>(mapIds.data());
	checked("read program info", bpf_obj_get_info_by_fd(fd, &program, &size));
	std::string tag;
	for (uint8_t byte : program.tag) {
		static constexpr char DIGITS[] = "0123456789abcdef";
		tag += {DIGITS[byte >> 4], DIGITS[byte & 15]};
	}
	uint32_t count = std::min(program.nr_map_ids, MOST_MAPS);
	Napi::Array ids = Napi::Array::New(env, count);
	for (uint32_t i = 0; i < count; i++)
		ids.Set(i, mapIds[i]);
	Napi::Object result = Napi::Object::New(env);
	result.Set("id", program.id);
	result.Set("name", program.name);
	result.Set("type", program.type);
	result.Set("tag", tag);
	result.Set("mapIds", ids);
	return result;
}

static Napi::Value open(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	return wrap(info.Env(), Kind::Program, openPin(path, Kind::Program, "open program " + path));
}

static Napi::Value programInfo(const Napi::CallbackInfo &info)
{
	SharedFile file = fileArgument(info, 0, Kind::Program, "read program info");
	return describe(info.Env(), file->number);
}

static Napi::Value byId(const Napi::CallbackInfo &info)
{
	uint32_t id = uintArgument(info, 0);
	int fd = bpf_prog_get_fd_by_id(id);
	if (fd == -ENOENT)
		return info.Env().Undefined();
	File file(checked("open program " + std::to_string(id), fd));
	return describe(info.Env(), file.number);
}

// (program, map, attachType)
static Napi::Value attachMap(const Napi::CallbackInfo &info)
{
	SharedFile program = fileArgument(info, 0, Kind::Program, "attach program to map");
	SharedFile map = fileArgument(info, 1, Kind::Map, "attach program to map");
	auto type = static_cast<bpf_attach_type>(uintArgument(info, 2));
	checked("attach program to map", bpf_prog_attach(program->number, map->number, type, 0));
	return info.Env().Undefined();
}

static Napi::Value detachMap(const Napi::CallbackInfo &info)
{
	SharedFile program = fileArgument(info, 0, Kind::Program, "detach program from map");
	SharedFile map = fileArgument(info, 1, Kind::Map, "detach program from map");
	auto type = static_cast<bpf_attach_type>(uintArgument(info, 2));
	checked("detach program from map", bpf_prog_detach2(program->number, map->number, type));
	return info.Env().Undefined();
}

static Napi::Value query(Napi::Env env, int target, uint32_t type, uint32_t flags, const std::string &operation)
{
	for (uint32_t room = 64;; room *= 4) {
		std::vector<uint32_t> ids(room);
		uint32_t attachFlags = 0, count = room;
		int result = bpf_prog_query(target, static_cast<bpf_attach_type>(type), flags, &attachFlags, ids.data(), &count);
		if (result == -ENOSPC && room < MOST_PROGRAMS)
			continue;
		checked(operation, result);
		Napi::Array list = Napi::Array::New(env, count);
		for (uint32_t i = 0; i < count; i++)
			list.Set(i, ids[i]);
		return list;
	}
}

// (cgroup, attachType, effective)
static Napi::Value queryCgroup(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "query cgroup " + path;
	uint32_t type = uintArgument(info, 1);
	uint32_t flags = boolArgument(info, 2) ? BPF_F_QUERY_EFFECTIVE : 0;
	File cgroup(checked(operation, ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
	return query(info.Env(), cgroup.number, type, flags, operation);
}

// (netns, attachType)
static Napi::Value queryNetns(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "query network namespace " + path;
	File netns(openNamespace(path, operation));
	return query(info.Env(), netns.number, uintArgument(info, 1), 0, operation);
}

// (map, attachType)
static Napi::Value queryMap(const Napi::CallbackInfo &info)
{
	SharedFile map = fileArgument(info, 0, Kind::Map, "query map");
	return query(info.Env(), map->number, uintArgument(info, 1), 0, "query map");
}

void exportPrograms(Napi::Env env, Napi::Object exports)
{
	exports.Set("programOpen", Napi::Function::New<guarded<open>>(env));
	exports.Set("programInfo", Napi::Function::New<guarded<programInfo>>(env));
	exports.Set("programById", Napi::Function::New<guarded<byId>>(env));
	exports.Set("attachMap", Napi::Function::New<guarded<attachMap>>(env));
	exports.Set("detachMap", Napi::Function::New<guarded<detachMap>>(env));
	exports.Set("queryCgroup", Napi::Function::New<guarded<queryCgroup>>(env));
	exports.Set("queryMap", Napi::Function::New<guarded<queryMap>>(env));
	exports.Set("queryNetns", Napi::Function::New<guarded<queryNetns>>(env));
}
