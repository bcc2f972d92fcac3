/* SPDX-License-Identifier: MIT */
/* Messages: each is one line and one write to standard error, from any thread. */
#include "vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool vmm_verbose, vmm_quiet;

static void say(const char *format, va_list args, const char *more)
{
	static const char name[] = "vmbus-vmm: ";
	char line[1024];
	size_t used = sizeof(name) - 1, at;
	int n;

	memcpy(line, name, sizeof(name));
	n = vsnprintf(line + used, sizeof(line) - used, format, args);
	used += n < 0 ? 0 : (size_t)n;
	used = used < sizeof(line) - 2 ? used : sizeof(line) - 2;
	if (more) {
		n = snprintf(line + used, sizeof(line) - used, ": %s", more);
		used += n < 0 ? 0 : (size_t)n;
		used = used < sizeof(line) - 2 ? used : sizeof(line) - 2;
	}
	/* Some of it is a guest's words, which are not to command a terminal or look like our lines. */
	for (at = 0; at < used; at++)
		if ((unsigned char)line[at] < 0x20 || line[at] == 0x7f)
			line[at] = '?';
	line[used++] = '\n';
	/* Where could one complain that complaining failed? */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

void vmm_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!vmm_quiet)
		say(format, args, NULL);
	va_end(args);
}

void vmm_tell(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vmm_verbose)
		say(format, args, NULL);
	va_end(args);
}

void vmm_warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args, NULL);
	va_end(args);
}

int vmm_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args, NULL);
	va_end(args);
	return -1;
}

int vmm_errno(const char *format, ...)
{
	const char *const why = strerror(errno);
	va_list args;

	va_start(args, format);
	say(format, args, why);
	va_end(args);
	return -1;
}

uint64_t vmm_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
