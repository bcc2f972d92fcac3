/* SPDX-License-Identifier: MIT */
/* The client of control.c: one line there, the answer to standard output. */
#include "vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_SECONDS 10

/* Reads to the end; returns 0 when the last line begins with "ok". */
static int answer(int fd)
{
	char all[65536];
	size_t used = 0;
	const char *last;
	ssize_t n;

	while (used < sizeof(all) - 1) {
		n = read(fd, all + used, sizeof(all) - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmm_errno("no answer within %d seconds", WAIT_SECONDS);
		if (n == 0)
			break;
		used += (size_t)n;
	}
	all[used] = 0;
	fputs(all, stdout);
	fflush(stdout);
	while (used && all[used - 1] == '\n')
		all[--used] = 0;
	last = strrchr(all, '\n');
	last = last ? last + 1 : all;
	return strncmp(last, "ok", 2) == 0 ? 0 : -1;
}

int vmm_send(const char *path, const char *line)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval wait = { .tv_sec = WAIT_SECONDS };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char text[256];
	int n;

	n = snprintf(text, sizeof(text), "%s\n", line);
	if (strlen(path) >= sizeof(at.sun_path) || n < 0 || n >= (int)sizeof(text)) {
		close(fd);
		return vmm_error("--send: the path or the line is too long");
	}
	strcpy(at.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) ||
	    send(fd, text, (size_t)n, MSG_NOSIGNAL) != n || shutdown(fd, SHUT_WR)) {
		vmm_errno("--send %s: no vmbus-vmm --control listens there", path);
		close(fd);
		return -1;
	}
	n = answer(fd);
	close(fd);
	return n;
}
