/* SPDX-License-Identifier: MIT */
/* vmbusctl: what a parent offers to its children, and what this machine can do.  It only reads. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/vmbus.h>

#include "ctl.h"

static const char usage[] = "usage: vmbusctl list [-s SOCKET] [-t SECONDS] [--json]\n"
			    "       vmbusctl check\n"
			    "       vmbusctl --version | --help\n"
			    "\n"
			    "list   children of a parent and the channels that they are offered\n"
			    "check  what this machine's backends can do, and which limits apply\n"
			    "\n"
			    "Without -s the socket is that named by the variable VMBUS_SOCKET.\n";

static int wrong_usage(void)
{
	fputs(usage, stderr);
	return CTL_USAGE;
}

static int wrong_word(const char *word, const char *why)
{
	fprintf(stderr, "vmbusctl: %s: %s\n", word, why);
	return wrong_usage();
}

/* Seconds as text, 0.001 to 86400, as nanoseconds; 0: none of those. */
static uint64_t timeout_of(const char *text)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(text, &end);
	if (errno || end == text || *end || !(seconds >= 0.001 && seconds <= 86400.0))
		return 0;
	return (uint64_t)(seconds * 1e9);
}

static int list(int argc, char **argv)
{
	static const struct option longs[] = { { "socket", required_argument, NULL, 's' },
					       { "timeout", required_argument, NULL, 't' },
					       { "json", no_argument, NULL, 'j' },
					       { NULL, 0, NULL, 0 } };
	const char *path = getenv("VMBUS_SOCKET");
	uint64_t timeout_ns = 5000000000u;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "s:t:", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			path = optarg;
			break;
		case 't':
			timeout_ns = timeout_of(optarg);
			if (!timeout_ns) {
				fprintf(stderr, "vmbusctl: %s: seconds are 0.001 to 86400\n",
					optarg);
				return CTL_USAGE;
			}
			break;
		case 'j':
			json = true;
			break;
		default:
			return wrong_usage();
		}
	}
	if (optind != argc)
		return wrong_word(argv[optind], "list takes no such word; -s names the socket");
	if (!path || !*path) {
		fputs("vmbusctl: no socket: name the parent's with -s, or in VMBUS_SOCKET\n",
		      stderr);
		return CTL_USAGE;
	}
	return ctl_list(path, json, timeout_ns);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return wrong_usage();
	if (strcmp(argv[1], "--version") == 0) {
		printf("vmbusctl %s\n", vmbus_version_string());
		return CTL_OK;
	}
	if (strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return CTL_OK;
	}
	if (strcmp(argv[1], "list") == 0)
		return list(argc - 1, argv + 1);
	if (strcmp(argv[1], "check") == 0)
		return argc == 2 ? ctl_check() : wrong_word(argv[2], "check takes no words");
	return wrong_word(argv[1], "no such command");
}
