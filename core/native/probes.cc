// SPDX-License-Identifier: Apache-2.0
// What this kernel has, found by asking it: each question is a tiny program or map that the kernel takes or refuses. (libbpf's own probes of
// helpers look for words in the verifier's log, which newer kernels have changed.)
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

// (programType, attachType, instructions) -> the kernel takes the program. EPERM is an error: it says nothing about the kernel.
static Napi::Value takesProgram(const Napi::CallbackInfo &info)
{
	auto type = static_cast<bpf_prog_type>(uintArgument(info, 0));
	uint32_t attachType = uintArgument(info, 1);
	Bytes bytes = bytesArgument(info, 2);
	std::string operation = "probe program type " + std::to_string(type);
	if (bytes.size == 0 || bytes.size % sizeof(bpf_insn) != 0)
		throw Failure(operation, EINVAL, "an instruction has " + std::to_string(sizeof(bpf_insn)) + " bytes");
	std::vector<bpf_insn> instructions(bytes.size / sizeof(bpf_insn));
	memcpy(instructions.data(), bytes.data, bytes.size);
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	options.expected_attach_type = static_cast<bpf_attach_type>(attachType);
	int fd = bpf_prog_load(type, "probe", "Dual BSD/GPL", instructions.data(), instructions.size(), &options);
	if (fd == -EPERM || fd == -ENOMEM || fd == -EMFILE)
		checked(operation, fd);
	if (fd < 0)
		return Napi::Boolean::New(info.Env(), false);
	File taken(fd);
	return Napi::Boolean::New(info.Env(), true);
}

// A map of socket storage must tell the types of key and value: both are one int here.
static Napi::Value storageMap(const Napi::CallbackInfo &info)
{
	constexpr char OPERATION[] = "probe socket storage";
	std::unique_ptr<btf, void (*)(btf *)> types(btf__new_empty(), btf__free);
	if (!types)
		throw Failure(OPERATION, errno);
	int number = checked(OPERATION, btf__add_int(types.get(), "int", sizeof(int), BTF_INT_SIGNED));
	uint32_t size = 0;
	const void *raw = btf__raw_data(types.get(), &size);
	File loaded(checked(OPERATION, bpf_btf_load(raw, size, nullptr)));
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.map_flags = BPF_F_NO_PREALLOC;
	options.btf_fd = loaded.number;
	options.btf_key_type_id = number;
	options.btf_value_type_id = number;
	int fd = bpf_map_create(BPF_MAP_TYPE_SK_STORAGE, "probe", sizeof(int), sizeof(int), 0, &options);
	return wrapMap(info.Env(), checked(OPERATION, fd), OPERATION);
}

// A program for tc that lets the next one decide: mov r0, -1; exit.
static Napi::Value filterProgram(const Napi::CallbackInfo &info)
{
	bpf_insn instructions[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, -1}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe", "Dual BSD/GPL", instructions, std::size(instructions), nullptr);
	return wrap(info.Env(), Kind::Program, checked("probe filters", fd));
}

// (mapType)
static Napi::Value hasMapType(const Napi::CallbackInfo &info)
{
	auto type = static_cast<bpf_map_type>(uintArgument(info, 0));
	std::string operation = "probe map type " + std::to_string(type);
	return Napi::Boolean::New(info.Env(), checked(operation, libbpf_probe_bpf_map_type(type, nullptr)) == 1);
}

// A kernel with BPF_LINK_CREATE looks for the program first, and there is none; an older one does not know the command.
static Napi::Value hasLinks(const Napi::CallbackInfo &info)
{
	int result = bpf_link_create(-1, -1, BPF_CGROUP_INET4_CONNECT, nullptr);
	return Napi::Boolean::New(info.Env(), result == -EBADF);
}

void exportProbes(Napi::Env env, Napi::Object exports)
{
	exports.Set("takesProgram", Napi::Function::New<guarded<takesProgram>>(env));
	exports.Set("filterProgram", Napi::Function::New<guarded<filterProgram>>(env));
	exports.Set("storageMap", Napi::Function::New<guarded<storageMap>>(env));
	exports.Set("hasMapType", Napi::Function::New<guarded<hasMapType>>(env));
	exports.Set("hasLinks", Napi::Function::New<guarded<hasLinks>>(env));
}
