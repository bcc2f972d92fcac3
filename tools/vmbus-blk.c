/* SPDX-License-Identifier: MIT */
/*
 * vmbus-blk: disks of this library in processes: a provider with disks, a parent that children attach
 * to, and a client that makes load and looks at every byte.  vmbus-blk(1).
 */
#define _GNU_SOURCE
#include "blk.h"
#include "out.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/version.h>

/* timeout(1) sends its signal to the program and then to its group: that is not asking twice. */
#define AGAIN_NS (BLK_SECOND / 2)

bool blk_quiet;
static volatile sig_atomic_t stopped;
static uint64_t stopped_ns; /* only the handler's, in which the other signal is blocked */

static const char usage[] =
	"usage: vmbus-blk serve -s SOCKET [--name NAME] [--take-over] [--no-sandbox] [--quiet]\n"
	"                 DISK...\n"
	"       vmbus-blk parent -s SOCKET [--answer S] [--wait S] [--quiet] [DISK...]\n"
	"       vmbus-blk load -s SOCKET [--disk LUN] [--serial TEXT] [--depth N] [--channels N]\n"
	"                 [--size BYTES[-BYTES]] [--read PERCENT] [--trim PERCENT]\n"
	"                 [--flush PERCENT] [--fua PERCENT] [--sequential] [--region BYTES]\n"
	"                 [--requests N | --seconds S] [--verify] [--unaligned] [--seed N]\n"
	"                 [--spin] [--timeout S] [--json]\n"
	"       vmbus-blk --help | --version\n"
	"A DISK is file=PATH, nbd=URI, mem=SIZE or null=SIZE, and words after commas: "
	"vmbus-blk(1)\n";

static void tell(const char *format, va_list args)
{
	char line[1200];
	size_t n = (size_t)snprintf(line, sizeof(line), "vmbus-blk: ");

	(void)vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	n = strlen(line);
	line[n++] = '\n';
	(void)fwrite(line, 1, n, stderr);
}

void blk_say(const char *format, ...)
{
	va_list args;

	if (blk_quiet)
		return;
	va_start(args, format);
	tell(format, args);
	va_end(args);
}

int blk_failed(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(format, args);
	va_end(args);
	return BLK_FAILED;
}

int blk_usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(format, args);
	va_end(args);
	(void)fputs(usage, stderr);
	return BLK_USAGE;
}

void blk_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	if (level == VMBUS_LOG_ERROR)
		(void)blk_failed("%s", line);
	else
		blk_say("%s", line);
}

uint64_t blk_now_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * BLK_SECOND + (uint64_t)t.tv_nsec;
}

static void stop(int signal)
{
	static const char text[] = "vmbus-blk: a second signal: ends at once\n";

	const int saved = errno;
	const uint64_t now = blk_now_ns();

	(void)signal;
	if (!stopped)
		stopped_ns = now;
	stopped = 1;
	if (now - stopped_ns >= AGAIN_NS) { /* what it waits for may never come */
		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
		_exit(BLK_FAILED);
	}
	errno = saved;
}

void blk_catch_signals(void)
{
	struct sigaction on_stop = { .sa_handler = stop };

	(void)sigaddset(&on_stop.sa_mask, SIGTERM);
	(void)sigaddset(&on_stop.sa_mask, SIGINT);
	(void)sigaction(SIGTERM, &on_stop, NULL);
	(void)sigaction(SIGINT, &on_stop, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* past ulimit -f a request fails, and no more */
}

bool blk_stopped(void)
{
	return stopped != 0;
}

static int run(int argc, char **argv)
{
	const char *const verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "--help") == 0) {
		(void)fputs(usage, stdout);
		return BLK_OK;
	}
	if (strcmp(verb, "--version") == 0) {
		(void)printf("vmbus-blk %s\n", vmbus_version_string());
		return BLK_OK;
	}
	if (strcmp(verb, "serve") == 0)
		return blk_serve(argc - 1, argv + 1);
	if (strcmp(verb, "parent") == 0)
		return blk_parent(argc - 1, argv + 1);
	if (strcmp(verb, "load") == 0)
		return blk_load(argc - 1, argv + 1);
	return blk_usage("%s%swhat? serve, parent or load", verb, *verb ? ": " : "");
}

int main(int argc, char **argv)
{
	return out_status("vmbus-blk", run(argc, argv));
}
