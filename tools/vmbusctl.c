/* SPDX-License-Identifier: MIT */
/* vmbusctl: what a parent offers to its children, and what this machine can do.  It only reads. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/vmbus.h>

#include "capture.h"
#include "ctl.h"
#include "out.h"

static const char usage[] =
	"usage: vmbusctl list [-s SOCKET] [-t SECONDS] [--json]\n"
	"       vmbusctl stat [-s SOCKET] [-t SECONDS] [-i SECONDS] [-n N] [--json]\n"
	"       vmbusctl doctor [-s SOCKET] [-t SECONDS] [-i SECONDS] [-g SECONDS] "
	"[--json]\n"
	"       vmbusctl record [-s SOCKET] [-t SECONDS] [-c CHILD] [--json] [FILE]\n"
	"       vmbusctl capture [-s SOCKET] [-c CHILD] [-r RELID] [-n COUNT] "
	"[--snap BYTES] -w FILE\n"
	"       vmbusctl capture --print FILE [--json]\n"
	"       vmbusctl replay [--vsp NAME] [--channel N] FILE\n"
	"       vmbusctl check\n"
	"       vmbusctl --version | --help\n"
	"\n"
	"list    children of a parent and the channels that they are offered\n"
	"stat    rates and ring fill of the channels, busiest first\n"
	"doctor  what is stuck, since when, who waits for whom, what to do\n"
	"record  the last control events of the children, or of a file left behind\n"
	"capture packets of channels into a pcapng file, or such a file as text\n"
	"replay  a captured channel fed to a device again, and what differs\n"
	"check   what this machine's backends can do, and which limits apply\n"
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

/* Seconds of an option, as nanoseconds; 0 and a line when it is none. */
static uint64_t time_option(const char *text)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(text, &end);
	if (!errno && end != text && !*end && seconds >= 0.001 && seconds <= 86400.0)
		return (uint64_t)(seconds * 1e9);
	fprintf(stderr, "vmbusctl: %s: seconds are 0.001 to 86400\n", text);
	return 0;
}

/* A count of an option, 1 to 2^31 - 1; 0 and a line when it is none. */
static uint32_t count_option(const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 1 || n > INT32_MAX) {
		fprintf(stderr, "vmbusctl: %s: a count is 1 to %d\n", text, INT32_MAX);
		return 0;
	}
	return (uint32_t)n;
}

/* The options that list, stat, doctor and record share; child only for those that take it. */
static bool ask_options(int argc, char **argv, const char *shorts, struct ctl_ask *ask,
			const char **child)
{
	static const struct option longs[] = { { "socket", required_argument, NULL, 's' },
					       { "timeout", required_argument, NULL, 't' },
					       { "interval", required_argument, NULL, 'i' },
					       { "count", required_argument, NULL, 'n' },
					       { "grace", required_argument, NULL, 'g' },
					       { "child", required_argument, NULL, 'c' },
					       { "json", no_argument, NULL, 'j' },
					       { NULL, 0, NULL, 0 } };
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "s:t:i:n:g:c:", longs, NULL)) != -1) {
		if (!strchr(shorts, c)) {
			if (c != '?')
				fprintf(stderr, "vmbusctl: %s: -%c does not belong to it\n",
					argv[0], c);
			return false;
		}
		switch (c) {
		case 's':
			ask->path = optarg;
			break;
		case 't':
			good = (ask->timeout_ns = time_option(optarg)) != 0;
			break;
		case 'i':
			good = (ask->interval_ns = time_option(optarg)) != 0;
			break;
		case 'g':
			good = (ask->grace_ns = time_option(optarg)) != 0;
			break;
		case 'n':
			good = (ask->count = count_option(optarg)) != 0;
			break;
		case 'c':
			*child = optarg;
			break;
		default:
			ask->json = true;
			break;
		}
	}
	return good;
}

static int no_socket(void)
{
	fputs("vmbusctl: no socket: name the parent's with -s, or in VMBUS_SOCKET\n", stderr);
	return CTL_USAGE;
}

static int stat_or_doctor(int argc, char **argv, bool doctor)
{
	struct ctl_ask ask = { .path = getenv("VMBUS_SOCKET"),
			       .timeout_ns = 5000000000u,
			       .interval_ns = doctor ? 400000000u : 1000000000u,
			       .grace_ns = 2000000000u };
	const char *child;

	if (!ask_options(argc, argv, doctor ? "s:t:i:g:j" : "s:t:i:n:j", &ask, &child))
		return wrong_usage();
	if (optind != argc)
		return wrong_word(argv[optind], "no such word; -s names the socket");
	if (!ask.path || !*ask.path)
		return no_socket();
	return doctor ? ctl_doctor(&ask) : ctl_stat(&ask);
}

static int record(int argc, char **argv)
{
	struct ctl_ask ask = { .path = getenv("VMBUS_SOCKET"), .timeout_ns = 5000000000u };
	const char *child = NULL;

	if (!ask_options(argc, argv, "s:t:c:j", &ask, &child))
		return wrong_usage();
	if (argc - optind > 1)
		return wrong_word(argv[optind + 1], "record takes one file");
	if (optind == argc && (!ask.path || !*ask.path))
		return no_socket();
	return ctl_record(&ask, optind < argc ? argv[optind] : NULL, child);
}

static int list(int argc, char **argv)
{
	struct ctl_ask ask = { .path = getenv("VMBUS_SOCKET"), .timeout_ns = 5000000000u };
	const char *child;

	if (!ask_options(argc, argv, "s:t:j", &ask, &child))
		return wrong_usage();
	if (optind != argc)
		return wrong_word(argv[optind], "list takes no such word; -s names the socket");
	if (!ask.path || !*ask.path)
		return no_socket();
	return ctl_list(ask.path, ask.json, ask.timeout_ns);
}

static int run(int argc, char **argv)
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
	if (strcmp(argv[1], "stat") == 0 || strcmp(argv[1], "doctor") == 0)
		return stat_or_doctor(argc - 1, argv + 1, argv[1][0] == 'd');
	if (strcmp(argv[1], "record") == 0)
		return record(argc - 1, argv + 1);
	if (strcmp(argv[1], "check") == 0)
		return argc == 2 ? ctl_check() : wrong_word(argv[2], "check takes no words");
	if (strcmp(argv[1], "capture") == 0)
		return ctl_capture(argc - 1, argv + 1);
	if (strcmp(argv[1], "replay") == 0)
		return ctl_replay(argc - 1, argv + 1);
	return wrong_word(argv[1], "no such command");
}

int main(int argc, char **argv)
{
	return out_status("vmbusctl", run(argc, argv));
}
