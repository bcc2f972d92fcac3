/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl capture: channels of a parent into a file, or a file as text.  The file is written as it
 * comes, so that what was captured is there when the tool is stopped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>
#include <vmbus/shm_capture.h>

#include "capture.h"

#define CHANNELS_MAX 64u /* at once: as many as a parent allows */
#define RECORDS_PER_TURN 256u
#define TIMEOUT_NS 5000000000u

struct wish {
	const char *socket;
	const char *child; /* NULL: all */
	uint32_t relid;	   /* 0: all */
	uint32_t snap;
	uint64_t count; /* packets, 0: for ever */
	const char *file;
};

/* A channel that is to be captured. */
struct target {
	char child[64];
	int32_t pid;
	uint32_t relid;
	struct vmbus_shm_capture *capture;
	bool ended;
};

struct session {
	const struct wish *wish;
	struct target target[CHANNELS_MAX];
	uint32_t targets;
	uint32_t left_out;
	char child[64]; /* the listing's present one */
	int32_t pid;
	bool wanted;
	uint64_t packets, dropped;
	struct vmbus_capture_writer *writer;
	FILE *out;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static void list_child(void *ctx, const struct vmbus_shm_child_info *info)
{
	struct session *const s = ctx;
	char pid[16];

	(void)snprintf(s->child, sizeof(s->child), "%s", info->name);
	(void)snprintf(pid, sizeof(pid), "%d", info->pid);
	s->pid = info->pid;
	s->wanted = !info->ending && (!s->wish->child || strcmp(s->wish->child, s->child) == 0 ||
				      strcmp(s->wish->child, pid) == 0);
}

static void list_channel(void *ctx, const struct vmbus_chan_info *info)
{
	struct session *const s = ctx;
	struct target *t;

	if (!s->wanted || (s->wish->relid && s->wish->relid != info->relid))
		return;
	if (s->targets == CHANNELS_MAX) {
		s->left_out++;
		return;
	}
	t = &s->target[s->targets++];
	memcpy(t->child, s->child, sizeof(t->child));
	t->pid = s->pid;
	t->relid = info->relid;
}

static int find_targets(struct session *s)
{
	const struct vmbus_shm_list_ops ops = { .struct_bytes = sizeof(ops),
						.child = list_child,
						.channel = list_channel };
	const int n = vmbus_shm_list(s->wish->socket, TIMEOUT_NS, &ops, s);

	if (n < 0)
		return ctl_failed(s->wish->socket, n);
	if (s->targets == 0) {
		fprintf(stderr, "vmbusctl: %s: no such channel; vmbusctl list shows them\n",
			s->wish->socket);
		return CTL_FAILED;
	}
	if (s->left_out)
		fprintf(stderr, "vmbusctl: %u channels are left out: at most %u at once\n",
			s->left_out, CHANNELS_MAX);
	return CTL_OK;
}

static int begin(struct session *s)
{
	uint32_t i, begun = 0;

	for (i = 0; i < s->targets; i++) {
		struct target *const t = &s->target[i];
		char why[128];
		const struct vmbus_shm_capture_opts opts = { .struct_bytes = sizeof(opts),
							     .path = s->wish->socket,
							     .child = t->child,
							     .pid = t->pid,
							     .relid = t->relid,
							     .snap = s->wish->snap,
							     .why = why,
							     .why_bytes = sizeof(why) };
		const int err = vmbus_shm_capture_begin(&opts, &t->capture);

		t->ended = err != 0;
		begun += !err;
		if (err)
			fprintf(stderr, "vmbusctl: %s: channel %u of %s: %s\n", s->wish->socket,
				t->relid, t->child, why[0] ? why : vmbus_err_name(err));
	}
	return begun ? CTL_OK : CTL_FAILED;
}

static int write_out(void *ctx, const void *bytes, size_t n)
{
	struct session *const s = ctx;

	return fwrite(bytes, 1, n, s->out) == n ? 0 : VMBUS_E_SYSTEM;
}

static int file_failed(const struct session *s)
{
	fprintf(stderr, "vmbusctl: %s: %s (errno %d)\n", s->wish->file, strerror(errno), errno);
	return CTL_FAILED;
}

/* For its owner alone: there are a guest's bytes in it. */
static FILE *create_file(const char *path)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	FILE *file = NULL;

	/* One that is there already may be anybody's, and read by anybody; no pipe or device, though. */
	if (fd >= 0 && fstat(fd, &st) == 0 &&
	    (!S_ISREG(st.st_mode) || (fchmod(fd, 0600) == 0 && ftruncate(fd, 0) == 0)))
		file = fdopen(fd, "wb");
	if (fd >= 0 && !file)
		(void)close(fd);
	return file;
}

static int open_file(struct session *s)
{
	const char *const path = s->wish->file;
	char application[64];
	const struct vmbus_capture_writer_opts opts = { .struct_bytes = sizeof(opts),
							.write = write_out,
							.ctx = s,
							.application = application };

	(void)snprintf(application, sizeof(application), "libvmbus %s", vmbus_version_string());
	s->out = strcmp(path, "-") == 0 ? stdout : create_file(path);
	return s->out && vmbus_capture_writer_create(&opts, &s->writer) == 0 ? CTL_OK
									     : file_failed(s);
}

static void end_target(struct session *s, struct target *t)
{
	struct vmbus_tap_counts counts;

	if (!t->capture)
		return;
	vmbus_shm_capture_counts(t->capture, &counts);
	(void)vmbus_capture_writer_counts(s->writer, (uint32_t)(t - s->target), &counts);
	s->dropped += counts.dropped;
	vmbus_shm_capture_end(t->capture);
	t->capture = NULL;
	t->ended = true;
}

static bool enough(const struct session *s)
{
	return stopped || (s->wish->count && s->packets >= s->wish->count);
}

/* Records of one channel, so many that the others have their turn.  Returns whether more may come. */
static int take(struct session *s, struct target *t, bool *more)
{
	struct vmbus_capture_record record;
	uint32_t i;
	int got = 1;

	for (i = 0; i < RECORDS_PER_TURN && !enough(s); i++) {
		got = vmbus_shm_capture_next(t->capture, &record);
		if (got <= 0)
			break;
		s->packets += record.kind == VMBUS_CAPTURE_PACKET;
		if (vmbus_capture_writer_put(s->writer, (uint32_t)(t - s->target), &record))
			return file_failed(s);
	}
	*more = *more || got > 0;
	if (got < 0) {
		fprintf(stderr, "vmbusctl: channel %u of %s: %s\n", t->relid, t->child,
			got == VMBUS_E_STATE  ? "it has ended"
			: got == VMBUS_E_PEER ? "the parent is gone"
					      : vmbus_err_name(got));
		end_target(s, t);
	}
	return CTL_OK;
}

static void sleep_all(const struct session *s)
{
	struct pollfd fds[CHANNELS_MAX];
	nfds_t n = 0;
	uint32_t i;

	for (i = 0; i < s->targets; i++)
		if (!s->target[i].ended)
			fds[n++] =
				(struct pollfd){ .fd = vmbus_shm_capture_fd(s->target[i].capture),
						 .events = POLLIN };
	(void)poll(fds, n, 1000);
}

static int copy(struct session *s)
{
	uint32_t i, alive = 1;
	int status = CTL_OK;

	while (alive && !enough(s) && !status) {
		bool more = false;

		for (i = 0, alive = 0; i < s->targets && !status; i++) {
			if (!s->target[i].ended)
				status = take(s, &s->target[i], &more);
			alive += !s->target[i].ended;
		}
		if (!status && !more && fflush(s->out) != 0)
			status = file_failed(s);
		if (!status && alive && !more && !enough(s))
			sleep_all(s);
	}
	return status;
}

static int capture(const struct wish *wish)
{
	const struct sigaction on = { .sa_handler = stop };
	struct session *const s = calloc(1, sizeof(*s));
	uint32_t i;
	int status;

	if (!s)
		return CTL_FAILED;
	s->wish = wish;
	(void)sigaction(SIGINT, &on, NULL);
	(void)sigaction(SIGTERM, &on, NULL);
	(void)signal(SIGXFSZ, SIG_IGN); /* past ulimit -f writing fails, and taps end in order */
	status = find_targets(s);
	if (!status)
		status = begin(s);
	if (!status)
		status = open_file(s);
	if (!status)
		status = copy(s);
	for (i = 0; i < s->targets && s->writer; i++)
		end_target(s, &s->target[i]);
	for (i = 0; i < s->targets; i++)
		vmbus_shm_capture_end(s->target[i].capture);
	if (s->out && (s->out == stdout ? fflush(s->out) : fclose(s->out)) && !status)
		status = file_failed(s);
	if (s->writer)
		fprintf(stderr, "%llu packets captured, %llu records dropped\n",
			(unsigned long long)s->packets, (unsigned long long)s->dropped);
	vmbus_capture_writer_destroy(s->writer);
	free(s);
	return status;
}

static bool number(const char *text, uint64_t most, uint64_t *to)
{
	char *end;

	errno = 0;
	*to = strtoull(text, &end, 10);
	if (!errno && end != text && !*end && *text != '-' && *to && *to <= most)
		return true;
	fprintf(stderr, "vmbusctl: %s: a number from 1 to %llu is wanted\n", text,
		(unsigned long long)most);
	return false;
}

static bool option(int c, struct wish *wish)
{
	uint64_t n = 0;

	switch (c) {
	case 's':
		wish->socket = optarg;
		return true;
	case 'c':
		wish->child = optarg;
		return true;
	case 'w':
		wish->file = optarg;
		return true;
	case 'r':
		if (!number(optarg, 2047, &n))
			return false;
		wish->relid = (uint32_t)n;
		return true;
	case 'n':
		return number(optarg, UINT64_MAX, &wish->count);
	case 'S':
		if (!number(optarg, VMBUS_CAPTURE_SNAP_MAX, &n))
			return false;
		wish->snap = (uint32_t)n;
		return true;
	default:
		return false;
	}
}

int ctl_capture(int argc, char **argv)
{
	static const struct option longs[] = { { "socket", required_argument, NULL, 's' },
					       { "child", required_argument, NULL, 'c' },
					       { "relid", required_argument, NULL, 'r' },
					       { "count", required_argument, NULL, 'n' },
					       { "snap", required_argument, NULL, 'S' },
					       { "write", required_argument, NULL, 'w' },
					       { "print", required_argument, NULL, 'p' },
					       { "json", no_argument, NULL, 'j' },
					       { NULL, 0, NULL, 0 } };
	struct wish wish = { .socket = getenv("VMBUS_SOCKET") };
	const char *print = NULL;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "s:c:r:n:w:", longs, NULL)) != -1) {
		if (c == 'p')
			print = optarg;
		else if (c == 'j')
			json = true;
		else if (!option(c, &wish))
			return CTL_USAGE;
	}
	if (optind != argc) {
		fprintf(stderr, "vmbusctl: %s: capture takes no such word\n", argv[optind]);
		return CTL_USAGE;
	}
	if (print && (wish.file || wish.count || wish.snap || wish.child || wish.relid)) {
		fputs("vmbusctl: --print reads a file and captures nothing\n", stderr);
		return CTL_USAGE;
	}
	if (print)
		return ctl_capture_print(print, json);
	if (!wish.file || json) {
		fputs(json ? "vmbusctl: --json belongs to --print\n"
			   : "vmbusctl: no file: name one with -w, - for the standard output\n",
		      stderr);
		return CTL_USAGE;
	}
	if (!wish.socket || !*wish.socket) {
		fputs("vmbusctl: no socket: name the parent's with -s, or in VMBUS_SOCKET\n",
		      stderr);
		return CTL_USAGE;
	}
	return capture(&wish);
}
