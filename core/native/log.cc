// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>

constexpr size_t LONGEST = 64 * 1024;

// libbpf has one print callback for the process; it finds the log of the call that runs on its thread. No log: the words are dropped.
static thread_local Log *current = nullptr;

static int print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_DEBUG || !current)
		return 0;
	va_list again;
	va_copy(again, arguments);
	int length = vsnprintf(nullptr, 0, format, arguments);
	std::string words(length > 0 ? length : 0, '\0');
	vsnprintf(words.data(), words.size() + 1, format, again);
	va_end(again);
	current->append(words);
	return 0;
}

Log::Log()
{
	static std::once_flag once;
	std::call_once(once, [] { libbpf_set_print(print); });
	current = this;
}

Log::~Log()
{
	current = nullptr;
}

void Log::append(const std::string &words)
{
	said += words;
	if (said.size() > 2 * LONGEST)
		said = text();
}

std::string Log::text() const
{
	if (said.size() <= LONGEST)
		return said;
	size_t start = said.find('\n', said.size() - LONGEST);
	return said.substr(start == std::string::npos ? said.size() - LONGEST : start + 1);
}
