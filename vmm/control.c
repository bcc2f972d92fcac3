/* SPDX-License-Identifier: MIT */
/*
 * The socket for commands: a line each, answered by lines of which the last begins with "ok" or
 * "error".  Who may connect may do all this; the socket's permissions are 0600.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OUT_MAX (1u << 20)	     /* 2,047 channels in status are a quarter of it */
#define NO_DESCRIPTOR_NS 1000000000u /* until it is tried again */

static const char help[] =
	"commands: add echo[,monitor=US] | remove RELID | disk VERB | "
	"net NUMBER up | net NUMBER down | shutdown | reset | status | save FOLDER | quit";

static bool is_dead_socket(const struct sockaddr_un *at)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;
	bool dead;

	dead = fd >= 0 && lstat(at->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       connect(fd, (const struct sockaddr *)at, sizeof(*at)) && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return dead;
}

int vmm_control_listen(struct vmm *vmm)
{
	const char *const path = vmm->opts.control;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	mode_t mask;
	int bad;

	if (!path)
		return 0;
	if (!*path || strlen(path) >= sizeof(at.sun_path))
		return vmm_error("--control %s: a socket's path has 1 to %zu characters", path,
				 sizeof(at.sun_path) - 1);
	strcpy(at.sun_path, path);
	if (is_dead_socket(&at))
		unlink(path);
	vmm->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	bad = vmm->control_fd < 0 ||
	      bind(vmm->control_fd, (const struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (bad && errno == EADDRINUSE)
		return vmm_error("--control %s: something is there already; remove it or choose "
				 "another name",
				 path);
	if (bad || listen(vmm->control_fd, 4) || vmm_name_keep(&vmm->control_name, path))
		return vmm_errno("--control %s", path);
	return 0;
}

/* The client waits in line, and the socket stays readable: it is not polled for a while. */
static void no_client(struct vmm *vmm)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
		return;
	vmm_errno("--control %s: a client has to wait; raise ulimit -n", vmm->opts.control);
	vmm->accept_ns = vmm_now_ns() + NO_DESCRIPTOR_NS;
}

void vmm_control_accept(struct vmm *vmm)
{
	const int fd = accept4(vmm->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	uint32_t i;

	if (fd < 0) {
		no_client(vmm);
		return;
	}
	for (i = 0; i < VMM_CLIENTS_MAX; i++) {
		if (vmm->clients[i].fd >= 0)
			continue;
		vmm->clients[i].fd = fd;
		vmm->clients[i].used = 0;
		vmm->clients[i].files[0] = vmm->clients[i].files[1] = -1;
		return;
	}
	close(fd); /* too many at once: it may come again */
}

static void close_files(struct vmm_client *client)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (client->files[i] >= 0)
			close(client->files[i]);
		client->files[i] = -1;
	}
}

static void drop(struct vmm_client *client)
{
	close_files(client);
	close(client->fd);
	free(client->out);
	memset(client, 0, sizeof(*client));
	client->fd = client->files[0] = client->files[1] = -1;
}

/* Room for more of an answer; false: there is none, and the client goes. */
static bool make_room(struct vmm_client *client, size_t more)
{
	const size_t room = client->out_room ? 2 * client->out_room : 4096;
	char *out;

	if (more <= client->out_room - client->out_used)
		return true;
	out = room <= OUT_MAX ? realloc(client->out, room) : NULL;
	if (!out)
		return false;
	client->out = out;
	client->out_room = room;
	return true;
}

/* Kept until the client takes it, who is not waited for: send_out(). */
static void answer(struct vmm_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void answer(struct vmm_client *client, const char *format, ...)
{
	char line[768];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0 || !make_room(client, sizeof(line)))
		return;
	n = n < (int)sizeof(line) - 1 ? n : (int)sizeof(line) - 2;
	line[n++] = '\n';
	memcpy(client->out + client->out_used, line, (size_t)n);
	client->out_used += (size_t)n;
}

/* What the client takes now; false: it is gone. */
static bool send_out(struct vmm_client *client)
{
	ssize_t n;

	while (client->out_at < client->out_used) {
		n = send(client->fd, client->out + client->out_at,
			 client->out_used - client->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true; /* poll tells when it takes more */
		if (n < 0) {
			drop(client);
			return false;
		}
		client->out_at += (size_t)n;
	}
	free(client->out);
	client->out = NULL;
	client->out_at = client->out_used = client->out_room = 0;
	if (client->last)
		drop(client);
	return client->fd >= 0;
}

static void tell_channel(void *ctx, const struct vmbus_chan_info *info)
{
	answer(ctx, "channel %u %s %s opens=%llu", info->relid, info->vsp, info->state,
	       (unsigned long long)info->opens);
}

static void tell_provider(void *ctx, const struct vmbus_provider_info *info)
{
	answer(ctx,
	       "provider %s %s pid=%d present=%d resumable=%d channels=%u deaths=%llu "
	       "handovers=%llu pause_ns=%llu",
	       info->name, info->vsp, info->pid, info->present, info->resumable, info->channels,
	       (unsigned long long)info->deaths, (unsigned long long)info->handovers,
	       (unsigned long long)info->last_pause_ns);
}

static void tell_line(void *ctx, const char *line)
{
	answer(ctx, "%s", line);
}

static void status(struct vmm *vmm, struct vmm_client *client)
{
	struct vmbus_ic_info ic = { 0 };
	struct vmbus_kvm_stats s;

	if (vmm->ic)
		vmbus_ic_info(vmm->ic, &ic);
	vmbus_kvm_stats(vmm->kvm, &s);
	vmbus_bus_list(vmm->bus, tell_channel, client);
	vmm_providers_list(vmm, tell_provider, client);
	vmm_disks_list(vmm, tell_line, client);
	vmm_nets_list(vmm, tell_line, client);
	answer(client, "ic ready=%u alive=%d beats=%llu missed=%llu samples=%llu", ic.ready,
	       ic.alive, (unsigned long long)ic.beats, (unsigned long long)ic.missed,
	       (unsigned long long)ic.samples);
	answer(client, "kvm exits=%llu messages=%llu interrupts=%llu bad=%llu",
	       (unsigned long long)s.exits, (unsigned long long)s.messages,
	       (unsigned long long)s.interrupts, (unsigned long long)s.bad);
	answer(client, "ok running synic=%s cpus=%u resets=%u crashed=%d seconds=%llu",
	       vmbus_kvm_way(vmm->kvm) == VMBUS_KVM_KERNEL ? "kernel" : "user", vmm->vcpu_count,
	       vmm->resets, vmm->crashed,
	       (unsigned long long)((vmm_now_ns() - vmm->start_ns) / 1000000000u));
}

static void add(struct vmm *vmm, struct vmm_client *client, const char *what)
{
	struct vmm_device device = { .count = 1 };
	unsigned int us;
	uint32_t relid;
	char rest;
	int err;

	if (sscanf(what, "echo,monitor=%u%c", &us, &rest) == 1 && us >= 1 && us <= 1000000)
		device.monitor_us = us;
	else if (strcmp(what, "echo") != 0) {
		answer(client, "error no such device: %s; there is echo[,monitor=US]", what);
		return;
	}
	err = vmm_devices_add_echo(vmm, &device, &relid);
	if (err)
		answer(client, "error adding it: %s", vmbus_err_name(err));
	else
		answer(client, "ok relid=%u", relid);
}

static void remove_device(struct vmm *vmm, struct vmm_client *client, const char *number)
{
	char *end;
	const unsigned long relid = strtoul(number, &end, 10);

	if (end == number || *end || relid > UINT32_MAX)
		answer(client, "error remove takes the RELID of a device, which status lists");
	else if (vmm_devices_remove(vmm, (uint32_t)relid))
		answer(client, "error no device with relid %lu was added; status lists them",
		       relid);
	else
		answer(client, "ok");
}

/* A file comes opened, as with save. */
static void disk(struct vmm *vmm, struct vmm_client *client, const char *line)
{
	char text[480];
	const int err = vmm_disks_command(vmm, line, client->files[0], text, sizeof(text));

	answer(client, "%s%s%s", err ? "error" : "ok", *text ? " " : "", text);
	close_files(client);
}

static void net(struct vmm *vmm, struct vmm_client *client, const char *line)
{
	char text[480];
	const int err = vmm_nets_command(vmm, line, text, sizeof(text));

	answer(client, "%s%s%s", err ? "error" : "ok", *text ? " " : "", text);
}

static void shutdown_guest(struct vmm *vmm, struct vmm_client *client)
{
	const int err = vmm_devices_ask_shutdown(vmm);

	if (err)
		answer(client,
		       "error the guest's shutdown component is not ready, or was asked: %s",
		       vmbus_err_name(err));
	else
		answer(client, "ok asked");
}

/* What it waits for may take longer than other commands: send.c knows. */
static void reset(struct vmm *vmm, struct vmm_client *client)
{
	if (vmm_bus_reset(vmm))
		answer(client, "error it could not be reset and ends; vmbus-vmm has said why");
	else
		answer(client, "ok");
}

/* The client has opened both files: there is no file system here. */
static void save(struct vmm *vmm, struct vmm_client *client)
{
	if (client->files[1] < 0) {
		answer(client, "error save takes a folder, and comes with two files of it: send it "
			       "by vmbus-vmm --send");
		return;
	}
	vmm_console_drain(vmm);
	if (vmm_save(vmm, client->files[0], client->files[1])) {
		answer(client, "error it is not saved and runs on; vmbus-vmm has said why");
	} else {
		answer(client, "ok saved");
		vmm_bus_end(vmm, VMM_SAVED);
	}
	close_files(client);
}

static void command(struct vmm *vmm, struct vmm_client *client, const char *line)
{
	if (strncmp(line, "add ", 4) == 0) {
		add(vmm, client, line + 4);
	} else if (strncmp(line, "remove ", 7) == 0) {
		remove_device(vmm, client, line + 7);
	} else if (strncmp(line, "disk ", 5) == 0) {
		disk(vmm, client, line + 5);
	} else if (strncmp(line, "net ", 4) == 0) {
		net(vmm, client, line + 4);
	} else if (strcmp(line, "status") == 0) {
		status(vmm, client);
	} else if (strcmp(line, "shutdown") == 0) {
		shutdown_guest(vmm, client);
	} else if (strcmp(line, "reset") == 0) {
		reset(vmm, client);
	} else if (strcmp(line, "save") == 0) {
		save(vmm, client);
	} else if (strcmp(line, "quit") == 0) {
		answer(client, "ok");
		vmm_bus_end(vmm, VMM_KILLED);
	} else {
		answer(client, "error no such command: %.40s; %s", line, help);
	}
}

/* Lines that are there; the next is taken when the last has its answer. */
static void lines(struct vmm *vmm, struct vmm_client *client)
{
	char *end;

	while (!vmm->ended && client->fd >= 0 && !client->out &&
	       (end = memchr(client->line, '\n', client->used))) {
		*end = 0;
		command(vmm, client, client->line);
		client->used -= (uint32_t)(end + 1 - client->line);
		memmove(client->line, end + 1, client->used);
		send_out(client);
	}
	if (client->fd >= 0 && client->used == sizeof(client->line) - 1 && !client->out) {
		answer(client, "error the line is too long; %s", help);
		client->last = true;
		send_out(client);
	}
}

static void take_files(struct vmm_client *client, struct msghdr *msg)
{
	struct cmsghdr *const head = CMSG_FIRSTHDR(msg);
	uint32_t count, i;
	int fd;

	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
		return;
	close_files(client);
	count = (uint32_t)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (i = 0; i < count; i++) {
		memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(fd));
		if (i < 2)
			client->files[i] = fd;
		else
			close(fd);
	}
}

static void take(struct vmm_client *client)
{
	struct iovec part = { .iov_base = client->line + client->used,
			      .iov_len = sizeof(client->line) - 1 - client->used };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &part,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	const ssize_t n = recvmsg(client->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n > 0)
		take_files(client, &msg);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		drop(client);
	else
		client->used += (uint32_t)n;
}

void vmm_control_ready(struct vmm *vmm, uint32_t number)
{
	struct vmm_client *const client = &vmm->clients[number];

	if (client->out)
		send_out(client);
	else
		take(client);
	lines(vmm, client);
}

void vmm_control_close(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < VMM_CLIENTS_MAX; i++)
		if (vmm->clients[i].fd >= 0 && send_out(&vmm->clients[i]))
			drop(&vmm->clients[i]);
	if (vmm->control_fd >= 0)
		close(vmm->control_fd);
	vmm->control_fd = -1;
	vmm_name_remove(&vmm->control_name, vmm->opts.control);
}
