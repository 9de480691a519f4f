// SPDX-License-Identifier: Apache-2.0
// A copy of a loaded program with a .rodata of its own: its instructions, with one descriptor patched. libbpf's own way, opening and loading the
// file again, takes 11 ms, because it parses the kernel's BTF each time.
#include "error.h"
#include "log.h"
#include "object.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

// Before Linux 6.4 a log that does not fit hides the reason of the failure behind ENOSPC.
constexpr uint32_t LOG_ROOM = 16 * 1024 * 1024;

// Like the original: read-only for programs and frozen, so that the verifier takes its bytes for constants and drops dead branches.
static int constantMap(const std::string &name, const uint8_t *bytes, size_t size, const std::string &operation)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	options.map_flags = BPF_F_RDONLY_PROG;
	File map(checked(operation, bpf_map_create(BPF_MAP_TYPE_ARRAY, name.c_str(), sizeof(uint32_t), size, 1, &options)));
	uint32_t zero = 0;
	checked(operation, bpf_map_update_elem(map.number, &zero, bytes, BPF_ANY));
	checked(operation, bpf_map_freeze(map.number));
	return map.release();
}

static std::vector<bpf_insn> patched(const bpf_program *program, int from, int to, const std::string &operation)
{
	const bpf_insn *first = bpf_program__insns(program);
	std::vector<bpf_insn> instructions(first, first + bpf_program__insn_cnt(program));
	bool found = false;
	for (size_t i = 0; i < instructions.size(); i++) {
		bpf_insn &instruction = instructions[i];
		if (instruction.code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if (instruction.src_reg == BPF_PSEUDO_MAP_VALUE && instruction.imm == from) {
			instruction.imm = to;
			found = true;
		}
		// A callback (of bpf_loop and the like) must have BTF, which libbpf 1.1 does not give out for a loaded program.
		if (instruction.src_reg == BPF_PSEUDO_FUNC)
			throw Failure(operation, EINVAL, "a program with callbacks cannot be cloned");
		i++; // the second half of a 64-bit load has no opcode
	}
	if (!found)
		throw Failure(operation, EINVAL, "the program does not read that section");
	return instructions;
}

// The kernel keeps of the licence only whether it is compatible with the GPL.
static const char *licence(int fd, const std::string &operation)
{
	bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	checked(operation, bpf_obj_get_info_by_fd(fd, &info, &size));
	return info.gpl_compatible ? "Dual BSD/GPL" : "Proprietary";
}

int cloneProgram(bpf_object *object, const std::string &name, const std::string &section, const uint8_t *bytes, size_t size)
{
	std::string operation = "clone program " + name;
	bpf_program *program = findProgram(object, name, operation);
	bpf_map *map = findMap(object, section, operation);
	if (bpf_program__fd(program) < 0)
		throw Failure(operation, ENOENT, "the program was skipped when the object was loaded");
	if (size != bpf_map__value_size(map))
		throw Failure(operation, EINVAL,
			      section + " gets " + std::to_string(size) + " bytes, it has " + std::to_string(bpf_map__value_size(map)));

	File constants(constantMap("rodata", bytes, size, operation)); // the program holds it from here on
	std::vector<bpf_insn> instructions = patched(program, bpf_map__fd(map), constants.number, operation);
	Log log;
	std::unique_ptr<char[]> words(new char[LOG_ROOM]); // not touched unless there is something to say
	words[0] = '\0';
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	options.expected_attach_type = bpf_program__expected_attach_type(program);
	options.prog_flags = bpf_program__flags(program);
	options.log_buf = words.get();
	options.log_size = LOG_ROOM; // with log_level 0 libbpf asks for the log only after a failure
	int fd = bpf_prog_load(bpf_program__type(program), name.c_str(), licence(bpf_program__fd(program), operation), instructions.data(),
			       instructions.size(), &options);
	if (fd < 0) {
		log.append(words.get());
		throw Failure(operation, -fd, "", log.text());
	}
	return fd;
}
