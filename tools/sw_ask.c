/* SPDX-License-Identifier: MIT */
/* vmbus-switch stat and link: one line to a switch that runs, its answer to standard output. */
#define _GNU_SOURCE
#include "sw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_SECONDS 10
#define NAME_SECONDS 1

/* What is printed is kept until all of it is there: half an object is of no use. */
static int copy_answer(FILE *from, bool as_json)
{
	char line[1100], *text = NULL;
	struct sw_json json;
	size_t bytes = 0;
	FILE *const to = as_json ? open_memstream(&text, &bytes) : stdout;
	bool ok = false, sense = true;
	int status = 0;

	if (!to)
		return sw_failed("no memory");
	if (as_json)
		sw_json_begin(&json, to);
	while (!status && fgets(line, sizeof(line), from)) {
		ok = strncmp(line, "ok", 2) == 0;
		if (strncmp(line, "error ", 6) == 0) {
			line[strcspn(line, "\n")] = '\0';
			status = sw_failed("%s", line + 6);
		} else if (as_json) {
			sense = sw_json_line(&json, line) && sense;
		} else {
			(void)fputs(line, to);
		}
	}
	if (as_json) {
		(void)fclose(to);
		if (ok && sense && !status)
			(void)fputs(text, stdout);
		free(text);
	}
	if (status)
		return status;
	if (!sense)
		return sw_failed(
			"an answer that makes no sense: is it a switch of another version?");
	return ok ? SW_OK : sw_failed("no answer within %d seconds", WAIT_SECONDS);
}

/* A line is sent; what the answer comes from, or NULL. */
static FILE *begin(const char *path, const char *line, int seconds)
{
	const struct timeval wait = { .tv_sec = seconds };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	FILE *from = NULL;
	int error;

	memcpy(at.sun_path, path, sizeof(at.sun_path));
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&at, sizeof(at)) &&
	    !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) &&
	    send(fd, line, strlen(line), MSG_NOSIGNAL) >= 0)
		from = fdopen(fd, "r");
	error = errno;
	if (!from && fd >= 0)
		close(fd);
	errno = error;
	return from;
}

static int ask(const char *socket_path, const char *line, bool as_json)
{
	char path[108] = "";
	FILE *from;
	int status;

	if (sw_ctl_path(socket_path, path))
		return sw_failed("%s: the path is too long", socket_path);
	from = begin(path, line, WAIT_SECONDS);
	if (!from)
		return sw_failed("%s: no vmbus-switch serves there: %s: %s", socket_path, path,
				 strerror(errno));
	status = copy_answer(from, as_json);
	(void)fclose(from);
	return status;
}

bool sw_ask_name(const char *socket_path, const uint8_t mac[6], char name[VMBUS_SWITCH_NAME_BYTES])
{
	char path[108] = "", line[1100], text[18], has[18];
	bool found = false;
	FILE *from;

	if (sw_ctl_path(socket_path, path))
		return false;
	from = begin(path, "stat\n", NAME_SECONDS);
	while (from && !found && fgets(line, sizeof(line), from))
		found = sscanf(line, "nic %31s mac=%17s", name, has) == 2 &&
			strcmp(has, nic_mac_text(mac, text)) == 0;
	if (from)
		(void)fclose(from);
	return found;
}

int sw_ask(int argc, char **argv)
{
	char line[120];

	if (strcmp(argv[0], "stat") == 0) {
		const bool as_json = argc == 3 && strcmp(argv[2], "--json") == 0;

		if (argc != 2 && !as_json)
			return sw_usage("of which switch: vmbus-switch stat SOCKET [--json]");
		return ask(argv[1], "stat\n", as_json);
	}
	if (argc != 4)
		return sw_usage("link takes a switch's SOCKET, a NIC of it, and up or down");
	if (strcmp(argv[3], "up") != 0 && strcmp(argv[3], "down") != 0)
		return sw_usage("link: %s: up or down", argv[3]);
	(void)snprintf(line, sizeof(line), "link %.100s %s\n", argv[2], argv[3]);
	return ask(argv[1], line, false);
}
