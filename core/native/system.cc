// SPDX-License-Identifier: Apache-2.0
// libbpf's facts, BTF, the RCU barrier, the agent's lock, file systems.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"
#include "job.h"
#include "log.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/vfs.h>

static Napi::Value libbpfVersion(const Napi::CallbackInfo &info)
{
	std::string version = libbpf_version_string(); // "v1.1"
	return Napi::String::New(info.Env(), version[0] == 'v' ? version.substr(1) : version);
}

static Napi::Value possibleCpus(const Napi::CallbackInfo &info)
{
	return Napi::Number::New(info.Env(), checked("count CPUs", libbpf_num_possible_cpus()));
}

// (path) -> the BTF section of an ELF object, or raw BTF, in the machine's byte order
static Napi::Value btf(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "read BTF of " + path;
	Log log;
	std::unique_ptr<struct btf, void (*)(struct btf *)> parsed(btf__parse(path.c_str(), nullptr), btf__free);
	if (!parsed)
		throw libbpfFailure(operation, errno, log.text());
	uint32_t size = 0;
	const void *bytes = btf__raw_data(parsed.get(), &size);
	if (!bytes)
		throw libbpfFailure(operation, errno, log.text());
	return Napi::Buffer<uint8_t>::Copy(info.Env(), static_cast<const uint8_t *>(bytes), size);
}

// Since Linux 5.0 a change of a map of maps returns only after every program that may still see the old value has ended: an RCU grace period.
// membarrier(MEMBARRIER_CMD_GLOBAL) would be one call, but it fails with EINVAL under nohz_full, and on one CPU it returns at once, although
// a preemptible kernel may have interrupted a program there.
static Nothing waitForPrograms()
{
	constexpr char OPERATION[] = "wait for running programs";
	File inner(checked(OPERATION, bpf_map_create(BPF_MAP_TYPE_ARRAY, "barrier_inner", 4, 4, 1, nullptr)));
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.inner_map_fd = inner.number;
	File outer(checked(OPERATION, bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "barrier", 4, 4, 1, &options)));
	uint32_t zero = 0;
	checked(OPERATION, bpf_map_update_elem(outer.number, &zero, &inner.number, BPF_ANY));
	return {};
}

static Napi::Value barrier(const Napi::CallbackInfo &info)
{
	return inPool<Nothing>(info.Env(), waitForPrograms, undefinedOf);
}

// (path) -> descriptor, or undefined when somebody else holds the lock
static Napi::Value lock(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	std::string operation = "lock " + path;
	File file(checked(operation, open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)));
	if (flock(file.number, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return info.Env().Undefined();
		throw Failure(operation, errno);
	}
	std::string pid = std::to_string(getpid()) + "\n";
	checked(operation, ftruncate(file.number, 0));
	checked(operation, static_cast<int>(pwrite(file.number, pid.data(), pid.size(), 0)));
	return wrap(info.Env(), Kind::Lock, file.release());
}

static Napi::Value filesystemType(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	struct statfs filesystem;
	checked("read the file system of " + path, statfs(path.c_str(), &filesystem));
	return Napi::Number::New(info.Env(), static_cast<double>(filesystem.f_type));
}

static Napi::Value mountBpffs(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	checked("mount bpffs at " + path, mount("bpf", path.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"));
	return info.Env().Undefined();
}

void exportSystem(Napi::Env env, Napi::Object exports)
{
	exports.Set("libbpfVersion", Napi::Function::New<guarded<libbpfVersion>>(env));
	exports.Set("possibleCpus", Napi::Function::New<guarded<possibleCpus>>(env));
	exports.Set("btf", Napi::Function::New<guarded<btf>>(env));
	exports.Set("barrier", Napi::Function::New<guarded<barrier>>(env));
	exports.Set("lock", Napi::Function::New<guarded<lock>>(env));
	exports.Set("filesystemType", Napi::Function::New<guarded<filesystemType>>(env));
	exports.Set("mountBpffs", Napi::Function::New<guarded<mountBpffs>>(env));
}
