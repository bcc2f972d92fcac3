/* SPDX-License-Identifier: MIT */
/* The other side of a disk: programs and processes on the far processor. */
#include "block.h"

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

bool block_is_installed(const char *program)
{
	const char *at = getenv("PATH");
	char path[512];

	while (at && *at) {
		const size_t len = strcspn(at, ":");

		if (len &&
		    snprintf(path, sizeof(path), "%.*s/%s", (int)len, at, program) <
			    (int)sizeof(path) &&
		    access(path, X_OK) == 0)
			return true;
		at += len + (at[len] == ':');
	}
	return false;
}

const char *block_version(const char *program, const char *after)
{
	static char texts[4][32];
	static unsigned int used;
	char *const text = texts[used++ % 4u];
	char command[64], line[128];
	const char *at = NULL;
	FILE *f;

	(void)snprintf(text, sizeof(texts[0]), "unknown");
	(void)snprintf(command, sizeof(command), "%s --version 2>/dev/null", program);
	f = block_is_installed(program) ? popen(command, "re") : NULL;
	if (f && fgets(line, sizeof(line), f))
		at = strstr(line, after);
	if (at) {
		at += strlen(after);
		(void)snprintf(text, sizeof(texts[0]), "%.*s", (int)strcspn(at, " \n"), at);
	}
	if (f)
		(void)pclose(f);
	return text;
}

pid_t block_fork(const struct place *place)
{
	const pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || (place->pin && pin_to(place->cpu_there)))
		_exit(1);
	return 0;
}

pid_t block_spawn(const struct place *place, const char *const argv[])
{
	const pid_t pid = block_fork(place);
	int null;

	if (pid)
		return pid;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
	}
	/* execvp() does not write to them. */
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

bool block_is_gone(struct block_disk *disk)
{
	if (disk->server > 0 && waitpid(disk->server, NULL, WNOHANG) == disk->server)
		disk->server = 0;
	return disk->server <= 0;
}

void block_reap(struct block_disk *disk)
{
	if (disk->server <= 0)
		return;
	(void)kill(disk->server, SIGKILL);
	(void)waitpid(disk->server, NULL, 0);
	disk->server = 0;
}

uint8_t *block_memory(void)
{
	uint8_t *const p = aligned_alloc(BLOCK_BYTES, BLOCK_BUF_BYTES);

	if (!p)
		die(BENCH_EXIT_MACHINE, "out of memory: %zu bytes", BLOCK_BUF_BYTES);
	memset(p, 0, BLOCK_BUF_BYTES);
	return p;
}

int block_tmpfs(uint64_t bytes)
{
	/* A file without a name, of the tmpfs that the kernel has for itself. */
	const int fd = memfd_create("vmbus-bench disk", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)bytes)) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

void block_server_stop(const struct block_disk *disk)
{
	int status;

	if (disk->server > 0 && kill(disk->server, SIGSTOP) == 0)
		(void)waitpid(disk->server, &status, WUNTRACED);
}

void block_server_go(const struct block_disk *disk)
{
	if (disk->server > 0)
		(void)kill(disk->server, SIGCONT);
}
