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

static const char help[] = "commands: add echo[,monitor=US] | remove RELID | shutdown | reset | "
			   "status | quit";

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

/* Its folder stays open: at the end the socket's name is taken away, from an empty name space. */
static int open_folder(struct vmm *vmm)
{
	char folder[128];
	char *slash;

	strcpy(folder, vmm->opts.control);
	slash = strrchr(folder, '/');
	if (slash == folder)
		slash++;
	if (slash)
		*slash = 0;
	vmm->control_dir_fd = open(slash ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return vmm->control_dir_fd < 0 ? -1 : 0;
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
	if (bad || listen(vmm->control_fd, 4) || open_folder(vmm))
		return vmm_errno("--control %s", path);
	return 0;
}

void vmm_control_accept(struct vmm *vmm)
{
	const int fd = accept4(vmm->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	uint32_t i;

	if (fd < 0)
		return;
	for (i = 0; i < VMM_CLIENTS_MAX; i++) {
		if (vmm->clients[i].fd >= 0)
			continue;
		vmm->clients[i].fd = fd;
		vmm->clients[i].used = 0;
		return;
	}
	close(fd); /* too many at once: it may come again */
}

static void drop(struct vmm *vmm, uint32_t client)
{
	close(vmm->clients[client].fd);
	vmm->clients[client].fd = -1;
}

/* A client that does not read is not waited for. */
static void answer(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void answer(int fd, const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	n = n < (int)sizeof(line) - 1 ? n : (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void tell_channel(void *ctx, const struct vmbus_chan_info *info)
{
	const int *const fd = ctx;

	answer(*fd, "channel %u %s %s opens=%llu", info->relid, info->vsp, info->state,
	       (unsigned long long)info->opens);
}

static void status(struct vmm *vmm, int fd)
{
	struct vmbus_ic_info ic = { 0 };
	struct vmbus_kvm_stats s;

	if (vmm->ic)
		vmbus_ic_info(vmm->ic, &ic);
	vmbus_kvm_stats(vmm->kvm, &s);
	vmbus_bus_list(vmm->bus, tell_channel, &fd);
	answer(fd, "ic ready=%u alive=%d beats=%llu missed=%llu samples=%llu", ic.ready, ic.alive,
	       (unsigned long long)ic.beats, (unsigned long long)ic.missed,
	       (unsigned long long)ic.samples);
	answer(fd, "kvm exits=%llu messages=%llu interrupts=%llu bad=%llu",
	       (unsigned long long)s.exits, (unsigned long long)s.messages,
	       (unsigned long long)s.interrupts, (unsigned long long)s.bad);
	answer(fd, "ok running synic=%s cpus=%u resets=%u crashed=%d seconds=%llu",
	       vmbus_kvm_way(vmm->kvm) == VMBUS_KVM_KERNEL ? "kernel" : "user", vmm->vcpu_count,
	       vmm->resets, vmm->crashed,
	       (unsigned long long)((vmm_now_ns() - vmm->start_ns) / 1000000000u));
}

static void add(struct vmm *vmm, int fd, const char *what)
{
	struct vmm_device device = { .count = 1 };
	unsigned int us;
	uint32_t relid;
	char rest;
	int err;

	if (sscanf(what, "echo,monitor=%u%c", &us, &rest) == 1 && us >= 1 && us <= 1000000)
		device.monitor_us = us;
	else if (strcmp(what, "echo") != 0) {
		answer(fd, "error no such device: %s; there is echo[,monitor=US]", what);
		return;
	}
	err = vmm_devices_add_echo(vmm, &device, &relid);
	if (err)
		answer(fd, "error adding it: %s", vmbus_err_name(err));
	else
		answer(fd, "ok relid=%u", relid);
}

static void remove_device(struct vmm *vmm, int fd, const char *number)
{
	char *end;
	const unsigned long relid = strtoul(number, &end, 10);

	if (end == number || *end || relid > UINT32_MAX)
		answer(fd, "error remove takes the RELID of a device, which status lists");
	else if (vmm_devices_remove(vmm, (uint32_t)relid))
		answer(fd, "error no device with relid %lu was added; status lists them", relid);
	else
		answer(fd, "ok");
}

static void shutdown_guest(struct vmm *vmm, int fd)
{
	const int err = vmm_devices_ask_shutdown(vmm);

	if (err)
		answer(fd, "error the guest's shutdown component is not ready, or was asked: %s",
		       vmbus_err_name(err));
	else
		answer(fd, "ok asked");
}

static void command(struct vmm *vmm, uint32_t client, const char *line)
{
	const int fd = vmm->clients[client].fd;

	if (strncmp(line, "add ", 4) == 0) {
		add(vmm, fd, line + 4);
	} else if (strncmp(line, "remove ", 7) == 0) {
		remove_device(vmm, fd, line + 7);
	} else if (strcmp(line, "status") == 0) {
		status(vmm, fd);
	} else if (strcmp(line, "shutdown") == 0) {
		shutdown_guest(vmm, fd);
	} else if (strcmp(line, "reset") == 0) {
		answer(fd, "ok");
		vmm_bus_reset(vmm);
	} else if (strcmp(line, "quit") == 0) {
		answer(fd, "ok");
		vmm_bus_end(vmm, VMM_KILLED);
	} else {
		answer(fd, "error no such command: %.40s; %s", line, help);
	}
}

void vmm_control_read(struct vmm *vmm, uint32_t client)
{
	char *const line = vmm->clients[client].line;
	uint32_t *const used = &vmm->clients[client].used;
	const size_t room = sizeof(vmm->clients[client].line) - 1 - *used;
	const ssize_t n = recv(vmm->clients[client].fd, line + *used, room, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(vmm, client);
		return;
	}
	*used += (uint32_t)n;
	line[*used] = 0;
	while (!vmm->ended && (end = memchr(line, '\n', *used))) {
		*end = 0;
		command(vmm, client, line);
		*used -= (uint32_t)(end + 1 - line);
		memmove(line, end + 1, *used);
	}
	if (*used == sizeof(vmm->clients[client].line) - 1) {
		answer(vmm->clients[client].fd, "error the line is too long; %s", help);
		drop(vmm, client);
	}
}

void vmm_control_close(struct vmm *vmm)
{
	const char *slash;
	uint32_t i;

	for (i = 0; i < VMM_CLIENTS_MAX; i++)
		if (vmm->clients[i].fd >= 0)
			drop(vmm, i);
	if (vmm->control_fd >= 0)
		close(vmm->control_fd);
	vmm->control_fd = -1;
	if (vmm->control_dir_fd < 0)
		return;
	slash = strrchr(vmm->opts.control, '/');
	if (unlinkat(vmm->control_dir_fd, slash ? slash + 1 : vmm->opts.control, 0))
		vmm_tell("--control %s stays: the folder is not ours", vmm->opts.control);
	close(vmm->control_dir_fd);
	vmm->control_dir_fd = -1;
}
