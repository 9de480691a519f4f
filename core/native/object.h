// SPDX-License-Identifier: Apache-2.0
// An object file in the kernel: its programs and maps.
#pragma once

#include "descriptor.h"

#include <bpf/libbpf.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

struct OpenPlan {
	std::string path;
	std::set<std::string> skip;
	std::map<std::string, SharedFile> reuse;
	std::map<std::string, uint32_t> maxEntries;
	std::map<std::string, std::vector<uint8_t>> rodata;
	std::string btf; // empty: the kernel's own
	bool onlyReused = false;
};

struct ObjectCloser {
	void operator()(bpf_object *object) const
	{
		bpf_object__close(object);
	}
};
using OwnedObject = std::unique_ptr<bpf_object, ObjectCloser>;

// The name of a section's map is the section's (".rodata.pod"), whatever libbpf puts before it.
std::string mapName(const bpf_map *map);
bpf_map *findMap(bpf_object *object, const std::string &name, const std::string &operation);
bpf_program *findProgram(bpf_object *object, const std::string &name, const std::string &operation);

// Parses, relocates and loads. Blocks for milliseconds: for a native thread.
OwnedObject loadObject(const OpenPlan &plan);

// Loads the program once more with other bytes in a read-only section. Returns the new descriptor.
int cloneProgram(bpf_object *object, const std::string &program, const std::string &section, const uint8_t *bytes, size_t size);
