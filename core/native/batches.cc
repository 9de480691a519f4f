// SPDX-License-Identifier: Apache-2.0
// Many entries of a map in few system calls, on a native thread.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"
#include "job.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

struct Entries {
	std::vector<uint8_t> keys, values;
	std::vector<uint8_t> readable; // per entry: 0 when the kernel does not tell the value (a socket's)
};

// A map that changes while it is read may start again: no dump goes on for longer than this many times its size.
constexpr uint64_t PATIENCE = 2;

static uint32_t batchSize(const MapShape &shape)
{
	constexpr uint32_t BYTES = 1024 * 1024;
	uint32_t fitting = BYTES / std::max(1u, shape.keySize + shape.valueSize);
	return std::clamp(fitting, 1u, std::max(1u, shape.maxEntries));
}

// false: this map type has no such call, or the map changed in a way that it does not survive.
static bool readByBatch(int fd, const MapShape &shape, Entries &entries)
{
	// The place to go on from is a key, or for hash maps a bucket's number.
	std::vector<uint8_t> token(std::max<size_t>(shape.keySize, sizeof(uint32_t)));
	bool first = true;
	uint32_t room = batchSize(shape);
	for (uint64_t total = 0; total <= shape.maxEntries * PATIENCE;) {
		size_t keysBefore = entries.keys.size(), valuesBefore = entries.values.size();
		entries.keys.resize(keysBefore + size_t(room) * shape.keySize);
		entries.values.resize(valuesBefore + size_t(room) * shape.valueSize);
		uint32_t count = room;
		int result = bpf_map_lookup_batch(fd, first ? nullptr : token.data(), token.data(), entries.keys.data() + keysBefore,
						  entries.values.data() + valuesBefore, &count, nullptr);
		bool read = result == 0 || result == -ENOENT; // ENOENT: these were the last ones
		size_t taken = read ? count : 0;
		entries.keys.resize(keysBefore + taken * shape.keySize);
		entries.values.resize(valuesBefore + taken * shape.valueSize);
		if (result == -ENOSPC && room < shape.maxEntries) { // a hash bucket holds more than there is room for
			room = static_cast<uint32_t>(std::min<uint64_t>(uint64_t(room) * 2, shape.maxEntries));
			continue;
		}
		if (result == -ENOENT || (read && taken == 0))
			return true;
		if (!read)
			return false;
		total += taken;
		first = false;
	}
	return true;
}

static void readByKey(int fd, const MapShape &shape, Entries &entries)
{
	std::vector<uint8_t> key(shape.keySize), next(shape.keySize), value(shape.valueSize);
	bool first = true;
	for (uint64_t step = 0; step <= shape.maxEntries * PATIENCE; step++) {
		int result = bpf_map_get_next_key(fd, first ? nullptr : key.data(), next.data());
		if (result == -ENOENT)
			return;
		checked("read next key of map", result);
		first = false;
		key.swap(next);
		result = bpf_map_lookup_elem(fd, key.data(), value.data());
		if (result == -ENOENT) // gone meanwhile, or an empty slot
			continue;
		bool secret = result == -ENOSPC || result == -EOPNOTSUPP; // a sockhash whose values have 4 bytes; other special maps
		if (!secret)
			checked("look up in map", result);
		entries.keys.insert(entries.keys.end(), key.begin(), key.end());
		entries.values.insert(entries.values.end(), value.begin(), value.end());
		entries.readable.push_back(!secret);
	}
}

// Where a dump started again, the later reading of a key is the one to keep.
static void dropRepeated(const MapShape &shape, Entries &entries)
{
	size_t count = entries.readable.size();
	std::unordered_map<std::string_view, size_t> places(count);
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		const uint8_t *key = entries.keys.data() + i * shape.keySize;
		auto found = places.find({reinterpret_cast<const char *>(key), shape.keySize});
		size_t place = found == places.end() ? kept++ : found->second;
		std::copy_n(key, shape.keySize, entries.keys.data() + place * shape.keySize);
		std::copy_n(entries.values.data() + i * shape.valueSize, shape.valueSize, entries.values.data() + place * shape.valueSize);
		entries.readable[place] = entries.readable[i];
		if (found == places.end())
			places.emplace(std::string_view(reinterpret_cast<const char *>(entries.keys.data() + place * shape.keySize), shape.keySize),
				       place);
	}
	entries.keys.resize(kept * shape.keySize);
	entries.values.resize(kept * shape.valueSize);
	entries.readable.resize(kept);
}

static Entries readAll(int fd, const MapShape &shape)
{
	Entries entries;
	if (shape.keySize == 0)
		throw Failure("read map", EINVAL, "a map of this type has no keys");
	if (readByBatch(fd, shape, entries)) {
		entries.readable.assign(entries.keys.size() / shape.keySize, 1);
	} else {
		entries = {};
		readByKey(fd, shape, entries);
	}
	dropRepeated(shape, entries);
	return entries;
}

static Napi::Value bufferOf(Napi::Env env, const std::vector<uint8_t> &bytes)
{
	return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

// (map) -> {keys, values, readable, valueSize}: entries one after the other
static Napi::Value entries(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "read map");
	return inPool<Entries>(
	    info.Env(), [file, shape = map.shape] { return readAll(file->number, shape); },
	    [shape = map.shape](Napi::Env env, Entries &entries) -> Napi::Value {
		    Napi::Object result = Napi::Object::New(env);
		    result.Set("keys", bufferOf(env, entries.keys));
		    result.Set("values", bufferOf(env, entries.values));
		    result.Set("readable", bufferOf(env, entries.readable));
		    result.Set("valueSize", shape.valueSize);
		    return result;
	    });
}

// Goes through all items with `batch(first, &count)`, and where that stops, on to the next with `single(index)`, which decides whether it
// is an error. So a map type without batch calls, and a key that is not there, need no case of their own.
template <class Batch, class Single> static void forAll(uint32_t items, Batch batch, Single single)
{
	bool supported = true;
	for (uint32_t next = 0; next < items;) {
		if (supported) {
			uint32_t count = items - next;
			int result = batch(next, &count);
			if (result == 0)
				return;
			bool stopped = count < items - next; // else the call did not even start
			supported = stopped;
			next += stopped ? count : 0;
		}
		single(next++);
	}
}

struct Writes {
	SharedFile file;
	MapShape shape;
	std::vector<uint8_t> keys, values;
	uint32_t items;
};

static std::vector<uint8_t> itemsArgument(const Napi::CallbackInfo &info, size_t index, uint32_t size, const std::string &operation)
{
	std::vector<uint8_t> bytes = copiedArgument(info, index);
	if (size == 0 || bytes.size() % size != 0)
		throw Failure(operation, EINVAL, std::to_string(bytes.size()) + " bytes are no multiple of " + std::to_string(size));
	return bytes;
}

static Nothing writeAll(const Writes &writes)
{
	const auto &[file, shape, keys, values, items] = writes;
	int fd = file->number;
	auto key = [&](uint32_t index) { return keys.data() + size_t(index) * shape.keySize; };
	auto value = [&](uint32_t index) { return values.data() + size_t(index) * shape.valueSize; };
	forAll(
	    items, [&](uint32_t first, uint32_t *count) { return bpf_map_update_batch(fd, key(first), value(first), count, nullptr); },
	    [&](uint32_t index) {
		    int result = bpf_map_update_elem(fd, key(index), value(index), BPF_ANY);
		    if (result < 0)
			    throw Failure("update map", -result, "", "", index);
	    });
	return {};
}

// (map, keys, values): one after the other
static Napi::Value updateBatch(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	Writes writes = {fileOf(map, "update map"), map.shape, itemsArgument(info, 1, map.shape.keySize, "update map"),
			 itemsArgument(info, 2, map.shape.valueSize, "update map"), 0};
	writes.items = writes.keys.size() / map.shape.keySize;
	if (writes.items != writes.values.size() / map.shape.valueSize)
		throw Failure("update map", EINVAL, "there are not as many values as keys");
	return inPool<Nothing>(info.Env(), [writes = std::move(writes)] { return writeAll(writes); }, undefinedOf);
}

static uint32_t removeAll(const Writes &writes)
{
	const auto &[file, shape, keys, values, items] = writes;
	int fd = file->number;
	uint32_t missing = 0;
	auto key = [&](uint32_t index) { return keys.data() + size_t(index) * shape.keySize; };
	forAll(
	    items, [&](uint32_t first, uint32_t *count) { return bpf_map_delete_batch(fd, key(first), count, nullptr); },
	    [&](uint32_t index) {
		    int result = bpf_map_delete_elem(fd, key(index));
		    if (result == -ENOENT)
			    missing++;
		    else if (result < 0)
			    throw Failure("delete from map", -result, "", "", index);
	    });
	return items - missing;
}

// (map, keys): one after the other
static Napi::Value deleteBatch(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	Writes writes = {fileOf(map, "delete from map"), map.shape, itemsArgument(info, 1, map.shape.keySize, "delete from map"), {}, 0};
	writes.items = writes.keys.size() / map.shape.keySize;
	return inPool<uint32_t>(
	    info.Env(), [writes = std::move(writes)] { return removeAll(writes); },
	    [](Napi::Env env, uint32_t &deleted) -> Napi::Value { return Napi::Number::New(env, deleted); });
}

void exportBatches(Napi::Env env, Napi::Object exports)
{
	exports.Set("mapEntries", Napi::Function::New<guarded<entries>>(env));
	exports.Set("mapUpdateBatch", Napi::Function::New<guarded<updateBatch>>(env));
	exports.Set("mapDeleteBatch", Napi::Function::New<guarded<deleteBatch>>(env));
}
