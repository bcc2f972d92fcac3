/* SPDX-License-Identifier: MIT */
/*
 * Runs vmbus-vmm once, and reads what came of it: its report (JSON, "vmbus-vmm-report/1") and the
 * lines of the payload on the serial console.
 */
#include "kvm.h"

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 40
#define FILE_MAX_BYTES (16u << 20)

extern char **environ;

struct files {
	char dir[32];
	char report[48], serial[48], out[48];
};

static int files_make(struct files *files)
{
	snprintf(files->dir, sizeof(files->dir), "/tmp/vmbus-bench-XXXXXX");
	if (!mkdtemp(files->dir))
		return -1;
	snprintf(files->report, sizeof(files->report), "%s/report", files->dir);
	snprintf(files->serial, sizeof(files->serial), "%s/serial", files->dir);
	snprintf(files->out, sizeof(files->out), "%s/out", files->dir);
	return 0;
}

static void files_remove(const struct files *files)
{
	(void)unlink(files->report);
	(void)unlink(files->serial);
	(void)unlink(files->out);
	(void)rmdir(files->dir);
}

/* The whole of a file as text; NULL when there is none. */
static char *load(const char *path)
{
	FILE *const f = fopen(path, "re");
	char *text = f ? malloc(FILE_MAX_BYTES + 1u) : NULL;

	if (text)
		text[fread(text, 1, FILE_MAX_BYTES, f)] = '\0';
	if (f)
		fclose(f);
	return text;
}

static uint32_t arguments(const struct kvm_start *s, const struct files *files, const char **argv,
			  char numbers[3][32])
{
	uint32_t n = 0;

	snprintf(numbers[0], sizeof(numbers[0]), "%uM", s->mem_mib);
	snprintf(numbers[1], sizeof(numbers[1]), "%u", s->timeout_s);
	snprintf(numbers[2], sizeof(numbers[2]), "echo,count=%u", s->devices);
	argv[n++] = s->vmm;
	argv[n++] = "--kernel";
	argv[n++] = s->kernel;
	if (s->initrd) {
		argv[n++] = "--initrd";
		argv[n++] = s->initrd;
	}
	argv[n++] = "--append";
	argv[n++] = s->append;
	argv[n++] = "--mem";
	argv[n++] = numbers[0];
	argv[n++] = "--synic";
	argv[n++] = s->way;
	if (s->devices) {
		argv[n++] = "--device";
		argv[n++] = numbers[2];
	}
	if (!s->ic)
		argv[n++] = "--no-ic";
	argv[n++] = "--no-reboot";
	argv[n++] = "--report";
	argv[n++] = files->report;
	argv[n++] = "--serial";
	argv[n++] = files->serial;
	argv[n++] = "--timeout";
	argv[n++] = numbers[1];
	argv[n] = NULL;
	return n;
}

/* Returns its exit status, or -1 with errno. */
static int start(const struct kvm_start *s, const struct files *files)
{
	const char *argv[ARGS_MAX];
	posix_spawn_file_actions_t acts;
	char numbers[3][32];
	int err, status;
	pid_t pid;

	(void)arguments(s, files, argv, numbers);
	if (posix_spawn_file_actions_init(&acts))
		return -1;
	posix_spawn_file_actions_addopen(&acts, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&acts, 1, files->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&acts, 1, 2);
	err = posix_spawnp(&pid, s->vmm, &acts, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&acts);
	if (err) {
		errno = err;
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- the report ---- */

/* The number behind "key": between at and end; false when there is none. */
static bool number(const char *at, const char *end, const char *key, uint64_t *value)
{
	char name[64];
	const char *found;

	snprintf(name, sizeof(name), "\"%s\": ", key);
	found = at ? strstr(at, name) : NULL;
	if (!found || (end && found >= end))
		return false;
	found += strlen(name);
	if (*found < '0' || *found > '9')
		return false;
	*value = strtoull(found, NULL, 10);
	return true;
}

struct mark {
	bool counted;
	uint64_t id, exits, host_exits, injected, interpreted, user_exits, user_signals, asked;
};

/* The next mark of the list; NULL when there is none. */
static const char *next_mark(const char *at, struct mark *mark)
{
	const char *end, *kvm, *stats;

	memset(mark, 0, sizeof(*mark));
	at = at ? strstr(at, "{\"id\": ") : NULL;
	if (!at)
		return NULL;
	end = strstr(at + 1, "{\"id\": ");
	(void)number(at, end, "id", &mark->id);
	kvm = strstr(at, "\"kvm\": {");
	stats = strstr(at, "\"stats\": {");
	if (kvm && stats) {
		mark->counted = number(kvm, stats, "exits", &mark->exits);
		(void)number(kvm, stats, "irq_exits", &mark->host_exits);
		(void)number(kvm, stats, "irq_injections", &mark->injected);
		(void)number(kvm, stats, "insn_emulation", &mark->interpreted);
	}
	(void)number(stats, end, "exits", &mark->user_exits);
	(void)number(stats, end, "exits_signal", &mark->user_signals);
	(void)number(stats, end, "interrupts", &mark->asked);
	return end ? end : at + strlen(at);
}

/* Series k lies between the marks 2k + 1 and 2k + 2.  The second one is an exit itself. */
static void take_marks(const char *report, struct kvm_outcome *outcome)
{
	const char *at = strstr(report, "\"marks\": [");
	struct mark before, after;

	while ((at = next_mark(at, &before)) && (at = next_mark(at, &after))) {
		const uint64_t k = (before.id - 1) / 2;
		struct kvm_series *s;

		if (before.id % 2 != 1 || after.id != before.id + 1 || k >= outcome->count)
			continue;
		s = &outcome->series[k];
		s->counted = after.counted && before.counted;
		s->exits = after.exits - before.exits;
		s->exits -= s->exits != 0;
		s->host_exits = after.host_exits - before.host_exits;
		s->injected = after.injected - before.injected;
		s->interpreted = after.interpreted - before.interpreted;
		s->user_exits = after.user_exits - before.user_exits;
		s->user_exits -= s->user_exits != 0;
		s->user_signals = after.user_signals - before.user_signals;
		s->asked = after.asked - before.asked;
	}
}

/* ---- the serial console ---- */

static void take_lines(const char *lines, struct kvm_outcome *outcome)
{
	for (const char *at = strstr(lines, "payload: series "); at;
	     at = strstr(at + 1, "payload: series ")) {
		struct kvm_series *const s = &outcome->series[outcome->count];
		uint32_t k;

		if (outcome->count == KVM_SERIES_MAX)
			return;
		if (sscanf(at,
			   "payload: series %" SCNu32 " channels %" SCNu32 " active %" SCNu32
			   " window %" SCNu32 " payload %" SCNu32 " packets %" SCNu64 " ns %" SCNu64
			   " interrupts %" SCNu64 " signals %" SCNu64 " halts %" SCNu64,
			   &k, &s->channels, &s->active, &s->window, &s->payload, &s->packets,
			   &s->ns, &s->guest_interrupts, &s->signals, &s->halts) == 10 &&
		    k == outcome->count && s->packets && s->ns)
			outcome->count++;
	}
}

/* The last line of what it wrote. */
static void last_line(const char *text, struct kvm_outcome *outcome)
{
	const char *end = text + strlen(text), *from;

	while (end > text && (end[-1] == '\n' || end[-1] == '\r'))
		end--;
	for (from = end; from > text && from[-1] != '\n'; from--)
		;
	snprintf(outcome->error, sizeof(outcome->error), "%.*s", (int)(end - from), from);
}

static int judge(int status, const char *out, const char *lines, const char *report,
		 struct kvm_outcome *outcome)
{
	const char *const bad = lines ? strstr(lines, "payload: FAILED") : NULL;
	uint64_t value;

	if (status < 0) {
		snprintf(outcome->error, sizeof(outcome->error), "%s", strerror(errno));
		return -1;
	}
	if (bad) {
		snprintf(outcome->error, sizeof(outcome->error), "%.*s", (int)strcspn(bad, "\r\n"),
			 bad);
		return -1;
	}
	if (status || !report || !lines) {
		last_line(out ? out : "it wrote nothing", outcome);
		return -1;
	}
	take_lines(lines, outcome);
	take_marks(report, outcome);
	if (number(report, NULL, "boot_ns", &value))
		outcome->boot_ns = (double)value;
	if (number(report, NULL, "overhead_bytes", &value))
		outcome->overhead_bytes = (double)value;
	return 0;
}

int kvm_run(const struct kvm_start *s, struct kvm_outcome *outcome)
{
	char *out, *lines, *report;
	struct files files;
	int err;

	memset(outcome, 0, sizeof(*outcome));
	if (files_make(&files)) {
		snprintf(outcome->error, sizeof(outcome->error), "/tmp: %s", strerror(errno));
		return -1;
	}
	err = start(s, &files);
	out = load(files.out);
	lines = load(files.serial);
	report = load(files.report);
	err = judge(err, out, lines, report, outcome);
	free(out);
	free(lines);
	free(report);
	files_remove(&files);
	return err;
}
