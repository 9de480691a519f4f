// SPDX-License-Identifier: Apache-2.0
// Arguments of JavaScript calls, checked: a value of another type is a TypeError.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

struct Bytes {
	const uint8_t *data;
	size_t size;
};

// Text without NUL bytes.
std::string textArgument(const Napi::CallbackInfo &info, size_t index);
// Text that is not empty.
std::string pathArgument(const Napi::CallbackInfo &info, size_t index);
uint32_t uintArgument(const Napi::CallbackInfo &info, size_t index);
uint64_t bigUintArgument(const Napi::CallbackInfo &info, size_t index);
bool boolArgument(const Napi::CallbackInfo &info, size_t index);
// Valid until the call returns to JavaScript; work on other threads copies.
Bytes bytesArgument(const Napi::CallbackInfo &info, size_t index);
std::vector<uint8_t> copiedArgument(const Napi::CallbackInfo &info, size_t index);
Napi::Array arrayArgument(const Napi::CallbackInfo &info, size_t index);

std::string textValue(Napi::Value value, const std::string &what);
Bytes bytesValue(Napi::Value value, const std::string &what);
uint32_t uintValue(Napi::Value value, const std::string &what);
