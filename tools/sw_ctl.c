/* SPDX-License-Identifier: MIT */
/*
 * The socket beside the switch's: a line each, answered by lines of which the last begins with "ok" or
 * "error".  Who may connect may pull a NIC's plug; the socket's permissions are 0600.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OUT_MAX (4u << 20)
#define ADDRESSES 1024u

int sw_ctl_path(const char *socket, char path[108])
{
	return snprintf(path, 108, "%s.ctl", socket) < 108 ? 0 : -1;
}

int sw_ctl_listen(struct sw_ctl *ctl, const char *path, const struct sw_nics *nics)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	uint32_t i;
	int bad;

	for (i = 0; i < SW_CLIENTS_MAX; i++)
		ctl->client[i].fd = -1;
	ctl->nics = nics;
	if (sw_ctl_path(path, ctl->path))
		return sw_failed("%s: the path is too long", path);
	memcpy(at.sun_path, ctl->path, sizeof(ctl->path));
	ctl->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	if (lstat(ctl->path, &st) == 0 && S_ISSOCK(st.st_mode))
		(void)unlink(ctl->path); /* of another switch on that socket, which has ended */
	bad = ctl->fd < 0 || bind(ctl->fd, (const struct sockaddr *)&at, sizeof(at)) ||
	      listen(ctl->fd, SW_CLIENTS_MAX);
	umask(mask);
	if (!bad)
		return 0;
	bad = sw_failed("%s: %s", ctl->path, strerror(errno));
	if (ctl->fd >= 0)
		close(ctl->fd);
	ctl->fd = -1; /* what is there is not ours to take away */
	return bad;
}

static void drop(struct sw_client *c)
{
	close(c->fd);
	free(c->out);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void answer(struct sw_client *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void answer(struct sw_client *c, const char *format, ...)
{
	char line[1024], *out;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	n = n < (int)sizeof(line) - 1 ? n : (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (c->out_room - c->out_used < (size_t)n) {
		const size_t room = c->out_room ? 2 * c->out_room : 8192;

		out = room <= OUT_MAX ? realloc(c->out, room) : NULL;
		if (!out)
			return;
		c->out = out;
		c->out_room = room;
	}
	memcpy(c->out + c->out_used, line, (size_t)n);
	c->out_used += (size_t)n;
}

static void tell_port(const struct sw_ctl *ctl, struct sw_client *c, uint32_t number)
{
	struct vmbus_switch_stats s;

	if (vmbus_switch_stats(ctl->nics->sw, number, &s) <= 0)
		return;
	answer(c,
	       "port %" PRIu32 " %s %s addresses=%" PRIu32 " in=%" PRIu64 " in_bytes=%" PRIu64
	       " out=%" PRIu64 " out_bytes=%" PRIu64 " flooded=%" PRIu64 " flood_limit=%" PRIu64
	       " nowhere=%" PRIu64 " bad=%" PRIu64 " no_room=%" PRIu64 " refused=%" PRIu64
	       " not_learned=%" PRIu64 " moved=%" PRIu64 " in_lost=%" PRIu64,
	       number, s.name, s.plugged ? "plug" : "nic", s.addresses, s.in_frames, s.in_bytes,
	       s.out_frames, s.out_bytes, s.flooded, s.flood_limit, s.nowhere, s.bad, s.no_room,
	       s.refused, s.not_learned, s.moved, s.in_lost);
}

static void tell_addresses(const struct sw_ctl *ctl, struct sw_client *c)
{
	static struct vmbus_switch_address all[ADDRESSES];
	const int known = vmbus_switch_addresses(ctl->nics->sw, all, ADDRESSES);
	char mac[18];
	int i;

	for (i = 0; i < known && i < (int)ADDRESSES; i++)
		answer(c, "address %s port=%" PRIu32 " age=%" PRIu32, nic_mac_text(all[i].mac, mac),
		       all[i].port, all[i].age_s);
	answer(c, "ok addresses=%d", known);
}

static void tell_all(const struct sw_ctl *ctl, struct sw_client *c)
{
	char line[700];
	uint32_t i;

	for (i = 0; i < ctl->nics->max; i++)
		tell_port(ctl, c, i);
	for (i = 0; i < ctl->nics->max; i++)
		if (ctl->nics->nic[i].name[0])
			answer(c, "nic %s %s", ctl->nics->nic[i].name,
			       nic_line(ctl->nics->nic[i].net, line, sizeof(line)));
	tell_addresses(ctl, c);
}

static void set_link(const struct sw_ctl *ctl, struct sw_client *c, char *words)
{
	char *const space = strrchr(words, ' ');
	const struct sw_nic *nic;

	if (!space || (strcmp(space + 1, "up") != 0 && strcmp(space + 1, "down") != 0)) {
		answer(c, "error link takes the name of a NIC, and up or down");
		return;
	}
	*space = '\0';
	nic = sw_nics_find(ctl->nics, words);
	if (!nic) {
		answer(c, "error there is no NIC %s; stat lists them", words);
		return;
	}
	vmbus_net_link(nic->net, space[1] == 'u');
	answer(c, "ok");
}

static void command(const struct sw_ctl *ctl, struct sw_client *c)
{
	if (strcmp(c->line, "stat") == 0)
		tell_all(ctl, c);
	else if (strncmp(c->line, "link ", 5) == 0)
		set_link(ctl, c, c->line + 5);
	else
		answer(c, "error no such command: %.40s; there are stat and link", c->line);
	c->last = true;
}

static void send_out(struct sw_client *c)
{
	ssize_t n;

	while (c->fd >= 0 && c->out_at < c->out_used) {
		n = send(c->fd, c->out + c->out_at, c->out_used - c->out_at,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			drop(c);
		else
			c->out_at += (size_t)n;
	}
	if (c->fd >= 0 && c->last)
		drop(c);
}

static void take(const struct sw_ctl *ctl, struct sw_client *c)
{
	const ssize_t n =
		recv(c->fd, c->line + c->used, sizeof(c->line) - 1 - c->used, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	c->used += (uint32_t)n;
	c->line[c->used] = '\0';
	end = memchr(c->line, '\n', c->used);
	if (end) {
		*end = '\0';
		command(ctl, c);
	} else if (c->used == sizeof(c->line) - 1) {
		answer(c, "error the line is too long");
		c->last = true;
	}
	send_out(c);
}

void sw_ctl_polls(const struct sw_ctl *ctl, struct pollfd polls[SW_CTL_POLLS])
{
	uint32_t i;

	polls[0] = (struct pollfd){ .fd = ctl->fd, .events = POLLIN };
	for (i = 0; i < SW_CLIENTS_MAX; i++) {
		const struct sw_client *const c = &ctl->client[i];

		polls[1 + i] = (struct pollfd){ .fd = c->fd, .events = c->out ? POLLOUT : POLLIN };
	}
}

static void come_in(struct sw_ctl *ctl)
{
	const int fd = accept4(ctl->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	uint32_t i;

	if (fd < 0)
		return;
	for (i = 0; i < SW_CLIENTS_MAX; i++) {
		if (ctl->client[i].fd >= 0)
			continue;
		ctl->client[i].fd = fd;
		return;
	}
	close(fd); /* too many at once: it may come again */
}

void sw_ctl_turn(struct sw_ctl *ctl, const struct pollfd polls[SW_CTL_POLLS])
{
	uint32_t i;

	for (i = 0; i < SW_CLIENTS_MAX; i++) {
		struct sw_client *const c = &ctl->client[i];

		if (!polls[1 + i].revents || c->fd < 0)
			continue;
		if (c->out)
			send_out(c);
		else
			take(ctl, c);
	}
	if (polls[0].revents)
		come_in(ctl);
}

void sw_ctl_close(struct sw_ctl *ctl)
{
	uint32_t i;

	if (ctl->fd < 0)
		return;
	for (i = 0; i < SW_CLIENTS_MAX; i++)
		if (ctl->client[i].fd >= 0)
			drop(&ctl->client[i]);
	close(ctl->fd);
	ctl->fd = -1;
	(void)unlink(ctl->path);
}
