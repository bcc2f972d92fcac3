/* SPDX-License-Identifier: MIT */
/*
 * vmbus-switch: a learning switch with NICs for partitions, and ports of this machine.  vmbus-switch(1).
 */
#define _GNU_SOURCE
#include "out.h"
#include "sw.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/version.h>

bool sw_quiet, sw_explained;
static volatile sig_atomic_t stopped, asked;
static sigset_t waiting; /* the signals that are held back while sw_wait() waits */

static const char usage[] =
	"usage: vmbus-switch serve SOCKET [--tap NAME] [--user] [--packet INTERFACE]\n"
	"                    [--port PORT[,WORD...]] [--attach SOCKET] [--name NAME] [--ports N]\n"
	"                    [--channels N] [--mtu N] [--threads N] [--spin US] [--age S]\n"
	"                    [--flood N] [--queue-bytes N] [--no-sandbox] [--quiet]\n"
	"       vmbus-switch join SOCKET [--tap NAME] [--packet INTERFACE] [--user]\n"
	"                    [--port PORT[,WORD...]] [--name NAME] [--queue-bytes N]\n"
	"                    [--no-sandbox] [--quiet]\n"
	"       vmbus-switch stat SOCKET [--json]\n"
	"       vmbus-switch link SOCKET NIC up|down\n"
	"       vmbus-switch --help | --version\n"
	"A PORT is tap=NAME, user, switch=SOCKET, packet=INTERFACE or null: vmbus-switch(1)\n";

static void tell(const char *format, va_list args)
{
	char line[1200];
	size_t n = (size_t)snprintf(line, sizeof(line), "vmbus-switch: ");

	(void)vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	n = strlen(line);
	line[n++] = '\n';
	(void)fwrite(line, 1, n, stderr);
}

void sw_say(const char *format, ...)
{
	va_list args;

	if (sw_quiet)
		return;
	va_start(args, format);
	tell(format, args);
	va_end(args);
}

int sw_failed(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(format, args);
	va_end(args);
	return SW_FAILED;
}

int sw_usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(format, args);
	va_end(args);
	(void)fputs(usage, stderr);
	return SW_USAGE;
}

void sw_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	if (level == VMBUS_LOG_ERROR) {
		sw_explained = true;
		(void)sw_failed("%s", line);
	} else {
		sw_say("%s", line);
	}
}

void sw_line(void *ctx, const char *line)
{
	sw_say("%s: %s", (const char *)ctx, line);
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static void handle(int signal, void (*handler)(int signal))
{
	const struct sigaction on = { .sa_handler = handler };
	sigset_t one;

	(void)sigemptyset(&one);
	(void)sigaddset(&one, signal);
	(void)pthread_sigmask(SIG_BLOCK, &one, NULL);
	(void)sigaction(signal, &on, NULL);
	(void)sigdelset(&waiting, signal);
}

void sw_catch_signals(void)
{
	(void)pthread_sigmask(SIG_BLOCK, NULL, &waiting);
	handle(SIGTERM, stop);
	handle(SIGINT, stop);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* past ulimit -f a capture ends, and no more */
}

int sw_wait(struct pollfd *polls, nfds_t count)
{
	return ppoll(polls, count, NULL, &waiting);
}

bool sw_stopped(void)
{
	return stopped != 0;
}

static void ask(int signal)
{
	(void)signal;
	asked = 1;
}

void sw_catch_ask(void)
{
	handle(SIGUSR1, ask);
}

bool sw_asked(void)
{
	const bool was = asked != 0;

	asked = 0;
	return was;
}

int sw_queue_word(int argc, char **argv, int *i, uint32_t *queue_bytes)
{
	uint64_t value;

	if (strcmp(argv[*i], "--queue-bytes") != 0)
		return SW_GONE;
	if (*i + 1 >= argc || sw_number(argv[*i + 1], 131072, 16777216, &value) ||
	    (value & (value - 1)))
		return sw_usage("--queue-bytes takes a power of two, 131072 to 16777216");
	*queue_bytes = (uint32_t)value;
	++*i;
	return 0;
}

int sw_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || *end || *value < min || *value > max ? -1 : 0;
}

static bool wants_help(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static int run(int argc, char **argv)
{
	const char *const verb = argc > 1 ? argv[1] : "";

	if (wants_help(argc, argv)) {
		(void)fputs(usage, stdout);
		return SW_OK;
	}
	if (strcmp(verb, "--version") == 0) {
		(void)printf("vmbus-switch %s\n", vmbus_version_string());
		return SW_OK;
	}
	if (strcmp(verb, "serve") == 0)
		return sw_serve(argc - 1, argv + 1);
	if (strcmp(verb, "join") == 0)
		return sw_join(argc - 1, argv + 1);
	if (strcmp(verb, "stat") == 0 || strcmp(verb, "link") == 0)
		return sw_ask(argc - 1, argv + 1);
	return sw_usage("%s%swhat? serve, join, stat or link", verb, *verb ? ": " : "");
}

int main(int argc, char **argv)
{
	return out_status("vmbus-switch", run(argc, argv));
}
