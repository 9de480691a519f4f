// SPDX-License-Identifier: Apache-2.0
// From an object file to programs and maps in the kernel.
#include "error.h"
#include "log.h"
#include "object.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/stat.h>

std::string mapName(const bpf_map *map)
{
	std::string name = bpf_map__name(map);
	size_t dot = bpf_map__is_internal(map) ? name.find('.') : std::string::npos;
	return dot == std::string::npos ? name : name.substr(dot);
}

bpf_map *findMap(bpf_object *object, const std::string &name, const std::string &operation)
{
	bpf_map *map;
	bpf_object__for_each_map(map, object)
	{
		if (mapName(map) == name)
			return map;
	}
	throw Failure(operation, ENOENT, "the object has no map " + name);
}

bpf_program *findProgram(bpf_object *object, const std::string &name, const std::string &operation)
{
	bpf_program *program = bpf_object__find_program_by_name(object, name.c_str());
	if (!program)
		throw Failure(operation, ENOENT, "the object has no program " + name);
	return program;
}

// bpf_map__reuse_fd would silently take the shape of whatever it is given.
static void reuse(bpf_map *map, int fd, const std::string &operation)
{
	bpf_map_info info = {};
	uint32_t size = sizeof(info);
	checked(operation, bpf_obj_get_info_by_fd(fd, &info, &size));
	const struct {
		const char *field;
		uint32_t have, want;
	} fields[] = {
	    {"type", info.type, bpf_map__type(map)},
	    {"key_size", info.key_size, bpf_map__key_size(map)},
	    {"value_size", info.value_size, bpf_map__value_size(map)},
	    {"max_entries", info.max_entries, bpf_map__max_entries(map)},
	    {"map_flags", info.map_flags, bpf_map__map_flags(map)},
	};
	for (const auto &[field, have, want] : fields) {
		if (have != want)
			throw Failure(operation, EINVAL,
				      "map " + mapName(map) + " has " + field + " " + std::to_string(have) + ", the object wants " +
					  std::to_string(want));
	}
	checked(operation, bpf_map__reuse_fd(map, fd));
}

static void apply(const OpenPlan &plan, bpf_object *object, const std::string &operation)
{
	for (const std::string &name : plan.skip)
		checked(operation, bpf_program__set_autoload(findProgram(object, name, operation), false));
	for (const auto &[name, maxEntries] : plan.maxEntries)
		checked(operation, bpf_map__set_max_entries(findMap(object, name, operation), maxEntries));
	for (const auto &[name, bytes] : plan.rodata) {
		bpf_map *map = findMap(object, name, operation);
		if (!bpf_map__is_internal(map) || bytes.size() != bpf_map__value_size(map))
			throw Failure(operation, EINVAL,
				      name + " gets " + std::to_string(bytes.size()) + " bytes, it has " + std::to_string(bpf_map__value_size(map)));
		checked(operation, bpf_map__set_initial_value(map, bytes.data(), bytes.size()));
	}
	for (const auto &[name, file] : plan.reuse)
		reuse(findMap(object, name, operation), file->number, operation);
	bpf_map *map;
	bpf_object__for_each_map(map, object)
	{
		if (plan.onlyReused && !bpf_map__is_internal(map) && !plan.reuse.count(bpf_map__name(map)))
			checked(operation, bpf_map__set_autocreate(map, false));
	}
}

static std::vector<char> readFile(const std::string &path, const std::string &operation)
{
	constexpr off_t LARGEST = 64 * 1024 * 1024;
	File file(checked(operation, open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)));
	struct stat status;
	checked(operation, fstat(file.number, &status));
	if (status.st_size > LARGEST)
		throw Failure(operation, EFBIG, "an object file has at most 64 MiB");
	std::vector<char> bytes(status.st_size);
	size_t have = 0;
	while (have < bytes.size()) {
		size_t got = checked(operation, static_cast<int>(read(file.number, bytes.data() + have, bytes.size() - have)));
		if (got == 0)
			break;
		have += got;
	}
	bytes.resize(have);
	return bytes;
}

OwnedObject loadObject(const OpenPlan &plan)
{
	std::string operation = "load " + plan.path;
	Log log;
	// Not bpf_object__open_file, which leaves its descriptor open when the file is no object (libbpf 1.1).
	std::vector<char> bytes = readFile(plan.path, operation);
	LIBBPF_OPTS(bpf_object_open_opts, options);
	std::string name = plan.path.substr(plan.path.rfind('/') + 1);
	name = name.substr(0, name.find('.'));
	options.object_name = name.c_str();
	if (!plan.btf.empty())
		options.btf_custom_path = plan.btf.c_str();
	OwnedObject object(bpf_object__open_mem(bytes.data(), bytes.size(), &options));
	if (!object)
		throw libbpfFailure(operation, errno, log.text());
	bpf_map *map;
	bpf_object__for_each_map(map, object.get()) bpf_map__set_pin_path(map, nullptr); // names and places of pins are the caller's business
	apply(plan, object.get(), operation);
	int result = bpf_object__load(object.get());
	if (result < 0)
		throw libbpfFailure(operation, -result, log.text());
	return object;
}
