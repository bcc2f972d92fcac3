/* SPDX-License-Identifier: MIT */
/* vmbusctl record: prints flight records, of a parent's children or out of a file. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#include "ctl.h"

#define FILE_MAX ((size_t)64 << 20)

struct printing {
	const struct ctl_ask *ask;
	const char *child; /* only this one, or NULL */
	uint32_t records;  /* printed */
	uint32_t events;   /* of the present one */
	int status;
};

static void time_text(char to[40], uint64_t real_ns)
{
	const time_t seconds = (time_t)(real_ns / 1000000000u);
	struct tm tm;
	size_t n;

	if (!gmtime_r(&seconds, &tm)) {
		(void)snprintf(to, 40, "%llu", (unsigned long long)real_ns);
		return;
	}
	n = strftime(to, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(to + n, 40 - n, ".%06uZ", (unsigned int)(real_ns % 1000000000u / 1000u));
}

static void event_json(struct printing *p, const struct vmbus_record_event *e)
{
	printf("%s\n      {\"number\": %llu, \"mono_ns\": %llu, \"real_ns\": %llu, \"kind\": %u, "
	       "\"name\": ",
	       p->events ? "," : "", (unsigned long long)e->number, (unsigned long long)e->mono_ns,
	       (unsigned long long)e->real_ns, e->kind);
	ctl_json_string(vmbus_record_kind_name(e->kind));
	printf(", \"relid\": %u, \"a\": %llu, \"b\": %llu, \"text\": ", e->relid,
	       (unsigned long long)e->a, (unsigned long long)e->b);
	ctl_json_string(e->text);
	putchar('}');
}

static void event(void *ctx, const struct vmbus_record_event *e)
{
	struct printing *const p = ctx;
	char line[256], when[40];

	if (p->ask->json) {
		event_json(p, e);
	} else {
		(void)vmbus_record_format(e, line, sizeof(line));
		time_text(when, e->real_ns);
		printf("  %6llu %s %s\n", (unsigned long long)e->number, when, line);
	}
	p->events++;
}

static void head(const struct printing *p, const struct vmbus_record_info *info)
{
	if (p->ask->json) {
		printf("%s\n    {\"name\": ", p->records ? "," : "");
		ctl_json_string(info->name);
		printf(", \"parent_pid\": %u, \"room\": %u, \"events\": [", info->pid, info->room);
	} else {
		printf("%srecord of %s, written by process %u, the last %u of %llu events\n",
		       p->records ? "\n" : "", info->name, info->pid, info->told,
		       (unsigned long long)info->next);
	}
}

static void tail(const struct printing *p, const struct vmbus_record_info *info)
{
	if (p->ask->json)
		printf("%s], \"torn\": %u, \"next\": %llu}", p->events ? "\n    " : "", info->torn,
		       (unsigned long long)info->next);
	else if (info->torn)
		printf("  %u events were being written, or are damaged\n", info->torn);
}

/* What is wrong with a record, for people. */
static const char *wrong(int err)
{
	switch (err) {
	case VMBUS_E_NOTSUP:
		return "it is of a later version";
	case VMBUS_E_RANGE:
		return "it was cut: it says that it is longer";
	default:
		return "it is no flight record";
	}
}

static void print(struct printing *p, const char *from, const void *mem, size_t bytes)
{
	struct vmbus_record_info info;
	int err = vmbus_record_read(mem, bytes, &info, NULL, NULL);

	if (err) {
		fprintf(stderr, "vmbusctl: %s: %s (%s)\n", from, wrong(err), vmbus_err_name(err));
		p->status = CTL_FAILED;
		return;
	}
	p->events = 0;
	head(p, &info);
	(void)vmbus_record_read(mem, bytes, &info, event, p);
	tail(p, &info);
	p->records++;
}

static void child(void *ctx, const struct vmbus_shm_child_info *info, const void *mem, size_t bytes)
{
	struct printing *const p = ctx;

	if (p->child && strcmp(p->child, info->name) != 0)
		return;
	if (mem)
		print(p, info->name, mem, bytes);
	else if (p->child || !p->ask->json)
		fprintf(stderr,
			"vmbusctl: %s: the parent keeps no record of it: "
			"none was begun when it attached; who is taken over has none\n",
			info->name);
}

/* The bytes of a file, aligned; NULL: they cannot be had, and it was said why. */
static void *read_file(const char *file, size_t *bytes)
{
	const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st = { 0 };
	uint8_t *mem = NULL;
	ssize_t n = 1;

	*bytes = 0;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size <= FILE_MAX)
		mem = aligned_alloc(64, ((size_t)st.st_size + 64) / 64 * 64);
	while (mem && n > 0 && *bytes < (size_t)st.st_size) {
		n = read(fd, mem + *bytes, (size_t)st.st_size - *bytes);
		*bytes += n > 0 ? (size_t)n : 0;
	}
	if (!mem || n < 0) {
		fprintf(stderr, "vmbusctl: %s: %s\n", file,
			fd >= 0 && !mem ? "no regular file of at most 64 MiB" : strerror(errno));
		free(mem);
		mem = NULL;
	}
	if (fd >= 0)
		close(fd);
	return mem;
}

static void print_file(struct printing *p, const char *file)
{
	size_t bytes;
	void *const mem = read_file(file, &bytes);

	if (mem)
		print(p, file, mem, bytes);
	else
		p->status = CTL_FAILED;
	free(mem);
}

int ctl_record(const struct ctl_ask *ask, const char *file, const char *name)
{
	struct printing p = { .ask = ask, .child = name };
	int n = 0;

	if (ask->json)
		printf("{\"schema\": \"vmbusctl-record/1\", \"records\": [");
	if (file)
		print_file(&p, file);
	else
		n = vmbus_shm_records(ask->path, ask->timeout_ns, child, &p);
	if (ask->json)
		printf("%s], \"complete\": %s}\n", p.records ? "\n  " : "",
		       n >= 0 && p.status == CTL_OK ? "true" : "false");
	if (n < 0)
		return ctl_failed(ask->path, n);
	if (!file && n == 0 && !ask->json)
		puts("no child is attached");
	return p.status;
}
