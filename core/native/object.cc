// SPDX-License-Identifier: Apache-2.0
// Loaded objects as JavaScript sees them: an external value with a type tag.
#include "object.h"
#include "arguments.h"
#include "error.h"
#include "exports.h"
#include "job.h"

#include <fcntl.h>

static constexpr napi_type_tag TAG = {0x6d65726272696467ull, 0x6f626a6563740000ull};

struct Loaded {
	OwnedObject object; // empty: closed
};

static Loaded &loadedArgument(const Napi::CallbackInfo &info)
{
	Napi::Value value = info[0];
	if (!value.IsExternal() || !value.As<Napi::External<Loaded>>().CheckTypeTag(&TAG))
		throw Napi::TypeError::New(info.Env(), "argument 0 is not a loaded object");
	return *value.As<Napi::External<Loaded>>().Data();
}

static bpf_object *objectArgument(const Napi::CallbackInfo &info, const std::string &operation)
{
	Loaded &loaded = loadedArgument(info);
	if (!loaded.object)
		throw Failure(operation, EBADF, "the object is closed");
	return loaded.object.get();
}

// Calls back with each of [name, value][].
template <class Each> static void eachPair(const Napi::CallbackInfo &info, size_t index, Each each)
{
	Napi::Array pairs = arrayArgument(info, index);
	for (uint32_t i = 0; i < pairs.Length(); i++) {
		Napi::Value pair = pairs.Get(i);
		if (!pair.IsArray())
			throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + " must have pairs");
		each(textValue(pair.As<Napi::Array>().Get(0u), "a name"), pair.As<Napi::Array>().Get(1u));
	}
}

// (path, skip: string[], reuse: [name, descriptor][], maxEntries: [name, number][], rodata: [name, bytes][], btf: path or '', onlyReused)
static Napi::Value load(const Napi::CallbackInfo &info)
{
	OpenPlan plan;
	plan.path = pathArgument(info, 0);
	Napi::Array skip = arrayArgument(info, 1);
	for (uint32_t i = 0; i < skip.Length(); i++)
		plan.skip.insert(textValue(skip.Get(i), "skip"));
	eachPair(info, 2, [&](const std::string &name, Napi::Value map) {
		plan.reuse[name] = fileOf(descriptorValue(map, Kind::Map, "reuse"), "load " + plan.path);
	});
	eachPair(info, 3, [&](const std::string &name, Napi::Value value) { plan.maxEntries[name] = uintValue(value, "maxEntries"); });
	eachPair(info, 4, [&](const std::string &name, Napi::Value value) {
		Bytes bytes = bytesValue(value, "rodata");
		plan.rodata[name].assign(bytes.data, bytes.data + bytes.size);
	});
	plan.btf = textArgument(info, 5);
	plan.onlyReused = boolArgument(info, 6);
	return inPool<OwnedObject>(
	    info.Env(), [plan = std::move(plan)] { return loadObject(plan); },
	    [](Napi::Env env, OwnedObject &object) -> Napi::Value {
		    auto owned = std::make_unique<Loaded>(Loaded{std::move(object)});
		    auto value = Napi::External<Loaded>::New(env, owned.get(), [](Napi::Env, Loaded *loaded) { delete loaded; });
		    owned.release();
		    value.TypeTag(&TAG);
		    return value;
	    });
}

static Napi::Value programs(const Napi::CallbackInfo &info)
{
	Napi::Array names = Napi::Array::New(info.Env());
	bpf_program *program;
	bpf_object__for_each_program(program, objectArgument(info, "list programs"))
	{
		if (bpf_program__fd(program) >= 0)
			names.Set(names.Length(), bpf_program__name(program));
	}
	return names;
}

static Napi::Value maps(const Napi::CallbackInfo &info)
{
	Napi::Array names = Napi::Array::New(info.Env());
	bpf_map *map;
	bpf_object__for_each_map(map, objectArgument(info, "list maps"))
	{
		if (bpf_map__fd(map) >= 0)
			names.Set(names.Length(), mapName(map));
	}
	return names;
}

static int duplicate(int fd, const std::string &operation)
{
	return checked(operation, fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static Napi::Value map(const Napi::CallbackInfo &info)
{
	std::string name = textArgument(info, 1);
	std::string operation = "take map " + name;
	bpf_map *map = findMap(objectArgument(info, operation), name, operation);
	return wrapMap(info.Env(), duplicate(bpf_map__fd(map), operation), operation);
}

static Napi::Value program(const Napi::CallbackInfo &info)
{
	std::string name = textArgument(info, 1);
	std::string operation = "take program " + name;
	bpf_program *program = findProgram(objectArgument(info, operation), name, operation);
	if (bpf_program__fd(program) < 0)
		throw Failure(operation, ENOENT, "the program was skipped when the object was loaded");
	return wrap(info.Env(), Kind::Program, duplicate(bpf_program__fd(program), operation));
}

// (object, program, section, bytes)
static Napi::Value clone(const Napi::CallbackInfo &info)
{
	std::string name = textArgument(info, 1);
	std::string section = textArgument(info, 2);
	Bytes bytes = bytesArgument(info, 3);
	bpf_object *object = objectArgument(info, "clone program " + name);
	return wrap(info.Env(), Kind::Program, cloneProgram(object, name, section, bytes.data, bytes.size));
}

static Napi::Value closeObject(const Napi::CallbackInfo &info)
{
	loadedArgument(info).object.reset();
	return info.Env().Undefined();
}

void exportObjects(Napi::Env env, Napi::Object exports)
{
	exports.Set("objectLoad", Napi::Function::New<guarded<load>>(env));
	exports.Set("objectPrograms", Napi::Function::New<guarded<programs>>(env));
	exports.Set("objectMaps", Napi::Function::New<guarded<maps>>(env));
	exports.Set("objectMap", Napi::Function::New<guarded<map>>(env));
	exports.Set("objectProgram", Napi::Function::New<guarded<program>>(env));
	exports.Set("objectClone", Napi::Function::New<guarded<clone>>(env));
	exports.Set("objectClose", Napi::Function::New<guarded<closeObject>>(env));
}
