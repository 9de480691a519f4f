// SPDX-License-Identifier: Apache-2.0
// What failed: thrown by native code on any thread, turned into a NativeError where a call returns to JavaScript.
#pragma once

#include <napi.h>

#include <cerrno>
#include <string>
#include <utility>

struct Failure {
	std::string operation; // "load bpf/merbridge.o", with the path or name
	int error;	       // positive errno
	std::string detail;    // replaces the errno's own text in the message
	std::string log;       // libbpf's and the verifier's words
	int64_t done;	       // of a batch, how many items were done; -1: not a batch

	Failure(std::string operation, int error, std::string detail = "", std::string log = "", int64_t done = -1)
	    : operation(std::move(operation)), error(error), detail(std::move(detail)), log(std::move(log)), done(done)
	{
	}
};

Napi::Error nativeError(Napi::Env env, const Failure &failure);

// libbpf has errors of its own above the kernel's (wrong file formats): ENOEXEC, with libbpf's words.
Failure libbpfFailure(const std::string &operation, int error, const std::string &log);

// libbpf returns -errno, raw system calls -1 and errno: both of libbpf 1.x also set errno, so this takes either.
inline int checked(const std::string &operation, int result)
{
	if (result < 0)
		throw Failure(operation, result == -1 && errno ? errno : -result);
	return result;
}

// Makes a JavaScript function of one that throws Failure. Nothing but JavaScript exceptions may leave a callback.
template <Napi::Value (*Function)(const Napi::CallbackInfo &)> Napi::Value guarded(const Napi::CallbackInfo &info)
{
	try {
		return Function(info);
	} catch (const Failure &failure) {
		throw nativeError(info.Env(), failure);
	} catch (const std::bad_alloc &) {
		throw nativeError(info.Env(), Failure("allocate memory", ENOMEM));
	}
}
