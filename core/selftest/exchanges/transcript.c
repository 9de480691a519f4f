/* What a half records: lines of a file in memory that the parent process reads when the half has ended, in whatever way it ended. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "transcript.h"

char doing_now[128] = "starting";

/* One write() for each line: threads and children of a half may record too. */
static void record(const struct side *side, char kind, const char *text)
{
	char line[1200];
	int length = snprintf(line, sizeof line, "%c%s", kind, text);

	if (length > (int)sizeof line - 2)
		length = sizeof line - 2;
	for (int i = 0; i < length; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[length] = '\n';
	if (write(side->record, line, length + 1) < 0)
		_exit(EXIT_STOPPED);
}

void note(const struct side *side, const char *format, ...)
{
	char text[1000];
	va_list arguments;
	int begin = side->phase ? snprintf(text, sizeof text, "%s: ", side->phase) : 0;

	va_start(arguments, format);
	vsnprintf(text + begin, sizeof text - begin, format, arguments);
	va_end(arguments);
	record(side, RECORD_NOTE, text);
}

static void record_failure(const struct side *side, const char *file, int line, const char *condition, const char *format, va_list arguments)
{
	char text[1000], said[600];
	const char *base = strrchr(file, '/');

	vsnprintf(said, sizeof said, format, arguments);
	snprintf(text, sizeof text, "%s:%d: %s%s%s%s%s", base ? base + 1 : file, line, side->phase ? side->phase : "", side->phase ? ": " : "", said,
		 condition ? "; expected: " : "", condition ? condition : "");
	record(side, RECORD_FAILURE, text);
}

void fail(const struct side *side, const char *file, int line, const char *condition, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	record_failure(side, file, line, condition, format, arguments);
	va_end(arguments);
}

void observe_at(const struct side *side, const char *file, int line, const char *what, const char *got, const char *wanted)
{
	note(side, "%s: %s", what, got);
	if (strcmp(got, wanted) != 0)
		fail(side, file, line, NULL, "%s: %s instead of %s", what, got, wanted);
}

void observe_number_at(const struct side *side, const char *file, int line, const char *what, long long got, long long wanted)
{
	char shown[32], right[32];

	snprintf(shown, sizeof shown, "%lld", got);
	snprintf(right, sizeof right, "%lld", wanted);
	observe_at(side, file, line, what, shown, right);
}

noreturn void stop_at(const struct side *side, const char *file, int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	record_failure(side, file, line, NULL, format, arguments);
	va_end(arguments);
	_exit(EXIT_STOPPED);
}

noreturn void skip(const struct side *side, const char *format, ...)
{
	char text[600];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	record(side, RECORD_SKIP, text);
	_exit(0);
}

void doing(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(doing_now, sizeof doing_now, format, arguments);
	va_end(arguments);
}

const char *error_name(int number)
{
	const char *name = number ? strerrorname_np(number) : "0";

	return name ? name : "unknown error";
}

const char *outcome(char buffer[32], ssize_t result)
{
	if (result < 0)
		return error_name(errno);
	snprintf(buffer, 32, "%zd", result);
	return buffer;
}

const char *poll_bits(char buffer[64], short bits)
{
	static const struct {
		short bit;
		const char *name;
	} names[] = {{POLLIN, "IN"},   {POLLPRI, "PRI"},     {POLLOUT, "OUT"},	{POLLERR, "ERR"},
		     {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"}};

	buffer[0] = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (bits & names[i].bit)
			snprintf(buffer + strlen(buffer), 64 - strlen(buffer), "%s%s", buffer[0] ? "|" : "", names[i].name);
	return buffer[0] ? buffer : "none";
}
