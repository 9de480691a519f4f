// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <bpf/libbpf.h>

#include <cstring>

// ENOTSUPP is not for user space, but bpf(2) returns it for an operation that a map type does not have.
constexpr int KERNEL_ENOTSUPP = 524;

static std::string errnoName(int error)
{
	if (const char *name = strerrorname_np(error))
		return name;
	return error == KERNEL_ENOTSUPP ? "ENOTSUPP" : "E" + std::to_string(error);
}

static std::string errnoText(int error)
{
	const char *text = strerrordesc_np(error);
	return text ? text : "Operation not supported";
}

Failure libbpfFailure(const std::string &operation, int error, const std::string &log)
{
	if (error < __LIBBPF_ERRNO__START)
		return Failure(operation, error, "", log);
	char text[128] = {};
	libbpf_strerror(error, text, sizeof(text));
	return Failure(operation, ENOEXEC, text, log);
}

Napi::Error nativeError(Napi::Env env, const Failure &failure)
{
	std::string code = errnoName(failure.error);
	std::string text = failure.detail.empty() ? errnoText(failure.error) : failure.detail;
	Napi::Error error = Napi::Error::New(env, failure.operation + ": " + text + " (" + code + ")");
	error.Set("name", "NativeError");
	error.Set("operation", failure.operation);
	error.Set("errno", static_cast<double>(failure.error));
	error.Set("code", code);
	if (!failure.log.empty())
		error.Set("log", failure.log);
	if (failure.done >= 0)
		error.Set("done", static_cast<double>(failure.done));
	return error;
}
