/* SPDX-License-Identifier: MIT */
/*
 * The main thread's loop.  It is the bus thread: it dispatches the bus, the components, the sockets
 * and the console, and does what vCPUs ask for.
 */
#include "vmm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BUDGET 256u	     /* units of work on the bus before other descriptors have their turn */
#define CRASH_NS 2000000000u /* for what a guest that crashed still has to say */
#define INPUT_NS 20000000u   /* between two looks whether the guest has read its input */

enum {
	P_EVENT,
	P_SIGNAL,
	P_BUS,
	P_IC,
	P_SERVER,
	P_CONTROL,
	P_STDIN,
	P_STDOUT,
	P_CLIENTS,
	P_PROVIDERS = P_CLIENTS + VMM_CLIENTS_MAX,
	POLLS = P_PROVIDERS + VMM_PROVIDERS_MAX
};

static void server_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	if (level == VMBUS_LOG_ERROR)
		vmm_warn("--socket: %s", line);
	else
		vmm_tell("--socket: %s", line);
}

static int listen_socket(struct vmm *vmm)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
					      .path = vmm->opts.socket,
					      .no_children = true,
					      .log = server_log };
	int err;

	if (!vmm->opts.socket)
		return 0;
	err = vmbus_shm_listen(&opts, &vmm->server);
	if (err == VMBUS_E_SYSTEM)
		return vmm_errno("--socket %s", vmm->opts.socket);
	if (err)
		return vmm_error("--socket %s: %s", vmm->opts.socket, vmbus_err_name(err));
	err = vmbus_shm_server_add_bus(vmm->server, vmm->bus, vmm->opts.cpus,
				       vmm->opts.memory_bytes);
	if (err)
		return vmm_error("--socket %s: %s", vmm->opts.socket, vmbus_err_name(err));
	if (vmm_name_keep(&vmm->socket_name, vmm->opts.socket))
		return vmm_errno("--socket %s", vmm->opts.socket);
	return 0;
}

int vmm_bus_open(struct vmm *vmm)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	vmm->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vmm->signal_fd < 0)
		return vmm_errno("no descriptor for signals; raise ulimit -n");
	return listen_socket(vmm) || vmm_control_listen(vmm) || vmm_providers_open(vmm) ? -1 : 0;
}

void vmm_bus_close(struct vmm *vmm)
{
	vmm_control_close(vmm);
	vmm_providers_close(vmm);
	vmbus_shm_server_destroy(vmm->server);
	vmm->server = NULL;
	vmm_name_remove(&vmm->socket_name, vmm->opts.socket);
	if (vmm->signal_fd >= 0)
		close(vmm->signal_fd);
	vmm->signal_fd = -1;
}

void vmm_bus_end(struct vmm *vmm, enum vmm_end end)
{
	if (vmm->ended)
		return;
	vmm->ended = true;
	vmm->end = vmm->crashed ? VMM_CRASH : end;
}

int vmm_bus_reset(struct vmm *vmm)
{
	/* A machine that was restored has no kernel to begin with, unless one was named. */
	if (vmm->crashed || vmm->opts.no_reboot || !vmm->opts.kernel) {
		vmm_bus_end(vmm, VMM_RESET);
		return 0;
	}
	vmm_vcpus_stop(vmm);
	/* What others asked for on their way to the stop was of the old machine. */
	pthread_mutex_lock(&vmm->lock);
	vmm->asks &= ~(uint32_t)(VMM_ASK_RESET | VMM_ASK_OFF);
	pthread_mutex_unlock(&vmm->lock);
	vmm->resets++;
	/* A guest that does nothing else does not fill the log. */
	if (vmm->resets <= 8 || (vmm->resets & (vmm->resets - 1)) == 0)
		vmm_say("the guest resets itself, number %u", vmm->resets);
	vmm->sent_shutdown = false; /* a second signal still ends us */
	if (vmm_partition_reset(vmm)) {
		vmm_bus_end(vmm, VMM_ERROR);
		return -1;
	}
	vmm_vcpus_go(vmm);
	return 0;
}

/* The shutdown component may not be ready yet; then this is tried again. */
static void send_shutdown(struct vmm *vmm)
{
	if (!vmm->asked_shutdown || vmm->sent_shutdown || vmm_devices_ask_shutdown(vmm))
		return;
	vmm->sent_shutdown = true;
	vmm_warn("asked the guest to shut down; ctrl-C again ends it at once");
}

void vmm_bus_please(struct vmm *vmm)
{
	if (vmm->asked_shutdown) {
		vmm_bus_end(vmm, VMM_KILLED);
		return;
	}
	vmm->asked_shutdown = true;
	send_shutdown(vmm);
	if (!vmm->sent_shutdown)
		vmm_warn("the guest does not listen for shutdown requests%s; ctrl-C again ends it "
			 "at once",
			 vmm->ic ? " yet, and will be asked as soon as it does" : " (--no-ic)");
}

static void take_signal(struct vmm *vmm)
{
	struct signalfd_siginfo info;

	while (read(vmm->signal_fd, &info, sizeof(info)) == sizeof(info))
		vmm_bus_please(vmm);
}

static void guest_crashed(struct vmm *vmm)
{
	char text[sizeof(vmm->crash)], *line, *save;

	if (vmm->crashed)
		return;
	vmm->crashed = true;
	vmm->crash_deadline_ns = vmm_now_ns() + CRASH_NS;
	vmm_console_flush(vmm);
	pthread_mutex_lock(&vmm->lock);
	memcpy(text, vmm->crash, sizeof(text));
	pthread_mutex_unlock(&vmm->lock);
	vmm_warn("the guest crashed:");
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		vmm_warn("  %s", line);
}

void vmm_bus_asks(struct vmm *vmm)
{
	uint64_t count;
	uint32_t asks;

	if (read(vmm->event_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&vmm->lock);
	asks = vmm->asks;
	vmm->asks = 0;
	pthread_mutex_unlock(&vmm->lock);
	if (asks & VMM_ASK_OUTPUT) /* written since the last flush: it does not ask again */
		vmm_console_flush(vmm);
	if (asks & VMM_ASK_CRASH)
		guest_crashed(vmm);
	if (asks & VMM_ASK_STUCK)
		vmm_bus_end(vmm, VMM_STUCK);
	else if (asks & VMM_ASK_OFF)
		vmm_bus_end(vmm, VMM_POWEROFF);
	else if (asks & VMM_ASK_RESET)
		(void)vmm_bus_reset(vmm);
}

static void set(struct pollfd *p, int fd, bool wanted, int16_t events)
{
	p->fd = wanted ? fd : -1;
	p->events = events;
	p->revents = 0;
}

static void set_all(struct vmm *vmm, struct pollfd *p)
{
	uint32_t i;

	set(&p[P_EVENT], vmm->event_fd, true, POLLIN);
	set(&p[P_SIGNAL], vmm->signal_fd, true, POLLIN);
	set(&p[P_BUS], vmbus_kvm_fd(vmm->kvm), true, POLLIN);
	set(&p[P_IC], vmm->ic ? vmbus_ic_fd(vmm->ic) : -1, vmm->ic, POLLIN);
	set(&p[P_SERVER], vmm->server ? vmbus_shm_server_fd(vmm->server) : -1, vmm->server, POLLIN);
	set(&p[P_CONTROL], vmm->control_fd, vmm->accept_ns == 0, POLLIN);
	set(&p[P_STDIN], STDIN_FILENO,
	    vmm->stdin_open && vmm_serial_room(&vmm->platform.serial) > 0, POLLIN);
	set(&p[P_STDOUT], vmm->out_fd, vmm->pending > 0, POLLOUT);
	for (i = 0; i < VMM_CLIENTS_MAX; i++)
		set(&p[P_CLIENTS + i], vmm->clients[i].fd, true,
		    vmm->clients[i].out ? POLLOUT : POLLIN);
	for (i = 0; i < VMM_PROVIDERS_MAX; i++)
		set(&p[P_PROVIDERS + i], vmm_provider_fd(vmm, i), true, POLLIN);
}

/* Milliseconds to the next moment that matters; -1: none. */
static int timeout(struct vmm *vmm)
{
	const uint64_t now = vmm_now_ns();
	uint64_t next = vmm->crashed ? vmm->crash_deadline_ns : UINT64_MAX;

	if (vmm->deadline_ns && vmm->deadline_ns < next)
		next = vmm->deadline_ns;
	/* A guest that is behind with its input gets it when it has read some. */
	if (vmm->stdin_open && vmm_serial_room(&vmm->platform.serial) == 0 && next > now + INPUT_NS)
		next = now + INPUT_NS;
	if (vmm->accept_ns && vmm->accept_ns < next)
		next = vmm->accept_ns;
	if (next == UINT64_MAX)
		return -1;
	if (next <= now)
		return 0;
	return next - now > 3600000000000u ? 3600000 : (int)((next - now) / 1000000u) + 1;
}

static void deadlines(struct vmm *vmm)
{
	const uint64_t now = vmm_now_ns();

	if (now >= vmm->accept_ns)
		vmm->accept_ns = 0;
	if (vmm->crashed && now >= vmm->crash_deadline_ns)
		vmm_bus_end(vmm, VMM_CRASH);
	if (vmm->deadline_ns && now >= vmm->deadline_ns && !vmm->ended) {
		vmm_warn("--timeout: %g seconds are over", (double)vmm->opts.timeout_ns / 1e9);
		vmm_bus_end(vmm, VMM_TIMEOUT);
	}
}

/* What is ready has its turn, each once. */
static void turn(struct vmm *vmm, const struct pollfd *p)
{
	uint32_t i;

	if (p[P_SIGNAL].revents)
		take_signal(vmm);
	if (p[P_BUS].revents)
		vmbus_kvm_dispatch(vmm->kvm, BUDGET);
	if (p[P_IC].revents)
		vmbus_ic_dispatch(vmm->ic);
	for (i = 0; i < VMM_PROVIDERS_MAX; i++)
		if (p[P_PROVIDERS + i].revents)
			vmm_provider_dispatch(vmm, i);
	send_shutdown(vmm);
	if (p[P_SERVER].revents)
		vmbus_shm_server_dispatch(vmm->server, BUDGET);
	if (p[P_STDIN].revents)
		vmm_console_read(vmm);
	vmm_console_flush(vmm);
	for (i = 0; i < VMM_CLIENTS_MAX; i++)
		if (p[P_CLIENTS + i].revents)
			vmm_control_ready(vmm, i);
	if (p[P_CONTROL].revents)
		vmm_control_accept(vmm);
	if (p[P_EVENT].revents)
		vmm_bus_asks(vmm);
}

/* For who wonders why a guest went no further. */
static void where_they_are(const struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->vcpu_count; i++) {
		vmm_warn("vCPU %u:", i);
		vmm_cpu_dump(&vmm->vcpus[i]);
	}
}

enum vmm_end vmm_bus_run(struct vmm *vmm)
{
	struct pollfd p[POLLS];
	int n;

	while (!vmm->ended) {
		set_all(vmm, p);
		n = poll(p, POLLS, timeout(vmm));
		if (n < 0 && errno != EINTR) {
			vmm_errno("waiting for events");
			vmm_bus_end(vmm, VMM_ERROR);
		}
		if (n > 0)
			turn(vmm, p);
		deadlines(vmm);
	}
	vmm_vcpus_stop(vmm);
	if (vmm_verbose && (vmm->end == VMM_TIMEOUT || vmm->end == VMM_KILLED))
		where_they_are(vmm);
	vmm_console_drain(vmm);
	return vmm->end;
}
