// SPDX-License-Identifier: Apache-2.0
// bpf_link: attachments that live as long as a descriptor or a pin refers to them.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"
#include "namespaces.h"

#include <bpf/bpf.h>
#include <fcntl.h>

// What libbpf 1.1 does not know: TCX, Linux 6.6 (linux/bpf.h).
constexpr uint32_t LINK_TYPE_TCX = 11;
constexpr uint32_t TCX_EGRESS = 47;
constexpr uint32_t FLAG_BEFORE = 1 << 3; // relative to nothing: the first

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
	if (link.type == LINK_TYPE_TCX) { // the same two numbers there
		result.Set("ifindex", link.netns.netns_ino);
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

// (program, map): the map whose elements it walks; undefined: it walks no map
static Napi::Value attachIterator(const Napi::CallbackInfo &info)
{
	constexpr char OPERATION[] = "attach iterator";
	SharedFile program = fileArgument(info, 0, Kind::Program, OPERATION);
	if (info[1].IsUndefined())
		return createLink(info.Env(), program->number, 0, BPF_TRACE_ITER, OPERATION);
	SharedFile map = fileArgument(info, 1, Kind::Map, OPERATION);
	bpf_iter_link_info target = {};
	target.map.map_fd = map->number;
	LIBBPF_OPTS(bpf_link_create_opts, options);
	options.iter_info = &target;
	options.iter_info_len = sizeof(target);
	int fd = bpf_link_create(program->number, 0, BPF_TRACE_ITER, &options);
	return wrap(info.Env(), Kind::Link, checked(OPERATION, fd));
}

// (program): at the tracepoint that it was loaded for
static Napi::Value attachTracing(const Napi::CallbackInfo &info)
{
	SharedFile program = fileArgument(info, 0, Kind::Program, "attach to tracepoint");
	return wrap(info.Env(), Kind::Link, checked("attach to tracepoint", bpf_raw_tracepoint_open(nullptr, program->number)));
}

// (program, path, inode, interface) -> a TCX link at the interface's egress, where it is the first
static Napi::Value attachEgress(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 1);
	std::string operation = "attach to an interface of network namespace " + path;
	SharedFile program = fileArgument(info, 0, Kind::Program, operation);
	uint32_t inode = uintArgument(info, 2);
	int interface = static_cast<int>(uintArgument(info, 3));
	return onNamespaceThread<SharedFile>(
	    info.Env(),
	    [path, operation, program, inode, interface] {
		    SharedFile link;
		    inside(path, operation, [&](int netns) {
			    requireInode(netns, inode, operation);
			    LIBBPF_OPTS(bpf_link_create_opts, options);
			    options.flags = FLAG_BEFORE;
			    int fd = bpf_link_create(program->number, interface, static_cast<bpf_attach_type>(TCX_EGRESS), &options);
			    link = std::make_shared<File>(checked(operation, fd));
		    });
		    return link;
	    },
	    [](Napi::Env env, SharedFile &link) { return wrap(env, Kind::Link, link->release()); });
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
	exports.Set("attachTracing", Napi::Function::New<guarded<attachTracing>>(env));
	exports.Set("attachEgress", Napi::Function::New<guarded<attachEgress>>(env));
	exports.Set("linkUpdate", Napi::Function::New<guarded<update>>(env));
	exports.Set("linkDetach", Napi::Function::New<guarded<detach>>(env));
}
