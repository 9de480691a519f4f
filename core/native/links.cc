// SPDX-License-Identifier: Apache-2.0
// bpf_link: attachments that live as long as a descriptor or a pin refers to them.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"
#include "namespaces.h"

#include <bpf/bpf.h>
#include <fcntl.h>

static Napi::Value open(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	return wrap(info.Env(), Kind::Link, openPin(path, Kind::Link, "open link " + path));
}

static Napi::Value linkInfo(const Napi::CallbackInfo &info)
{
	SharedFile file = fileArgument(info, 0, Kind::Link, "read link info");
	bpf_link_info link = {};
	uint32_t size = sizeof(link);
	checked("read link info", bpf_obj_get_info_by_fd(file->number, &link, &size));
	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("id", link.id);
	result.Set("type", link.type);
	result.Set("programId", link.prog_id);
	if (link.type == BPF_LINK_TYPE_CGROUP) {
		result.Set("cgroupId", Napi::BigInt::New(info.Env(), static_cast<uint64_t>(link.cgroup.cgroup_id)));
		result.Set("attachType", link.cgroup.attach_type);
	}
	if (link.type == BPF_LINK_TYPE_NETNS) {
		result.Set("netnsInode", link.netns.netns_ino);
		result.Set("attachType", link.netns.attach_type);
	}
	return result;
}

static Napi::Value createLink(Napi::Env env, int program, int target, uint32_t type, const std::string &operation)
{
	int fd = bpf_link_create(program, target, static_cast<bpf_attach_type>(type), nullptr);
	return wrap(env, Kind::Link, checked(operation, fd));
}

// (program, cgroup, attachType)
static Napi::Value attachCgroup(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 1);
	std::string operation = "attach to cgroup " + path;
	SharedFile program = fileArgument(info, 0, Kind::Program, operation);
	uint32_t type = uintArgument(info, 2);
	File cgroup(checked(operation, ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
	return createLink(info.Env(), program->number, cgroup.number, type, operation);
}

// (program, netns, attachType)
static Napi::Value attachNetns(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 1);
	std::string operation = "attach to network namespace " + path;
	SharedFile program = fileArgument(info, 0, Kind::Program, operation);
	uint32_t type = uintArgument(info, 2);
	File netns(openNamespace(path, operation));
	return createLink(info.Env(), program->number, netns.number, type, operation);
}

static Napi::Value attachIterator(const Napi::CallbackInfo &info)
{
	SharedFile program = fileArgument(info, 0, Kind::Program, "attach iterator");
	return createLink(info.Env(), program->number, 0, BPF_TRACE_ITER, "attach iterator");
}

// (link, program)
static Napi::Value update(const Napi::CallbackInfo &info)
{
	SharedFile link = fileArgument(info, 0, Kind::Link, "update link");
	SharedFile program = fileArgument(info, 1, Kind::Program, "update link");
	checked("update link", bpf_link_update(link->number, program->number, nullptr));
	return info.Env().Undefined();
}

static Napi::Value detach(const Napi::CallbackInfo &info)
{
	SharedFile link = fileArgument(info, 0, Kind::Link, "detach link");
	checked("detach link", bpf_link_detach(link->number));
	return info.Env().Undefined();
}

void exportLinks(Napi::Env env, Napi::Object exports)
{
	exports.Set("linkOpen", Napi::Function::New<guarded<open>>(env));
	exports.Set("linkInfo", Napi::Function::New<guarded<linkInfo>>(env));
	exports.Set("attachCgroup", Napi::Function::New<guarded<attachCgroup>>(env));
	exports.Set("attachNetns", Napi::Function::New<guarded<attachNetns>>(env));
	exports.Set("attachIterator", Napi::Function::New<guarded<attachIterator>>(env));
	exports.Set("linkUpdate", Napi::Function::New<guarded<update>>(env));
	exports.Set("linkDetach", Napi::Function::New<guarded<detach>>(env));
}
