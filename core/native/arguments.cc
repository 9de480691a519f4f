// SPDX-License-Identifier: Apache-2.0
#include "arguments.h"

static std::string argument(size_t index)
{
	return "argument " + std::to_string(index);
}

std::string textValue(Napi::Value value, const std::string &what)
{
	if (!value.IsString())
		throw Napi::TypeError::New(value.Env(), what + " must be a string");
	std::string text = value.As<Napi::String>().Utf8Value();
	if (text.find('\0') != std::string::npos)
		throw Napi::TypeError::New(value.Env(), what + " must not contain NUL");
	return text;
}

Bytes bytesValue(Napi::Value value, const std::string &what)
{
	if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
		throw Napi::TypeError::New(value.Env(), what + " must be a Uint8Array");
	auto array = value.As<Napi::Uint8Array>();
	return {array.Data(), array.ByteLength()};
}

uint32_t uintValue(Napi::Value value, const std::string &what)
{
	double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
	if (!(number >= 0 && number <= UINT32_MAX) || number != static_cast<uint32_t>(number))
		throw Napi::TypeError::New(value.Env(), what + " must be an integer between 0 and 4294967295");
	return static_cast<uint32_t>(number);
}

std::string textArgument(const Napi::CallbackInfo &info, size_t index)
{
	return textValue(info[index], argument(index));
}

std::string pathArgument(const Napi::CallbackInfo &info, size_t index)
{
	std::string path = textArgument(info, index);
	if (path.empty())
		throw Napi::TypeError::New(info.Env(), argument(index) + " must not be empty");
	return path;
}

uint32_t uintArgument(const Napi::CallbackInfo &info, size_t index)
{
	return uintValue(info[index], argument(index));
}

uint64_t bigUintArgument(const Napi::CallbackInfo &info, size_t index)
{
	bool exact = false;
	uint64_t number = info[index].IsBigInt() ? info[index].As<Napi::BigInt>().Uint64Value(&exact) : 0;
	if (!exact)
		throw Napi::TypeError::New(info.Env(), argument(index) + " must be a bigint of 64 bits without a sign");
	return number;
}

bool boolArgument(const Napi::CallbackInfo &info, size_t index)
{
	if (!info[index].IsBoolean())
		throw Napi::TypeError::New(info.Env(), argument(index) + " must be a boolean");
	return info[index].As<Napi::Boolean>();
}

Bytes bytesArgument(const Napi::CallbackInfo &info, size_t index)
{
	return bytesValue(info[index], argument(index));
}

std::vector<uint8_t> copiedArgument(const Napi::CallbackInfo &info, size_t index)
{
	Bytes bytes = bytesArgument(info, index);
	return std::vector<uint8_t>(bytes.data, bytes.data + bytes.size);
}

Napi::Array arrayArgument(const Napi::CallbackInfo &info, size_t index)
{
	if (!info[index].IsArray())
		throw Napi::TypeError::New(info.Env(), argument(index) + " must be an array");
	return info[index].As<Napi::Array>();
}
