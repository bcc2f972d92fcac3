/* SPDX-License-Identifier: MIT */
/*
 * A device pair: the parent process provides an echo device, the child process drives it.
 *
 * Shows: a VSP in one const struct; a parent that listens for children; a child that attaches,
 * finds the device by its class, opens it, and awaits the completions of its requests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#define REQUESTS 20000u
#define SECONDS 1000000000u /* of nanoseconds */

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0xf2a3b1c4, 0x5d6e, 0x4f70, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8)
static const struct vmbus_guid echo_class = ECHO_CLASS;

static int must(int err, const char *what)
{
	if (err >= 0)
		return err;
	fprintf(stderr, "%s: %s\n", what, vmbus_err_name(err));
	exit(1);
}

/* ---- the parent ---- */

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	/* Requests under way are fewer than the ring to the child holds, so there is room. */
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		must(vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len), "complete");
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = ECHO_CLASS,
	.max_payload = 256,
	.packets = echo_packets,
};

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_chan *chan;

	(void)ctx;
	printf("parent: process %d attached as \"%s\"; offering it an echo device\n",
	       (int)vmbus_shm_child_pid(child), vmbus_shm_child_name(child));
	return vmbus_bus_offer(bus, &echo_vsp, NULL, NULL, &chan);
}

static void detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	printf("parent: process %d %s\n", (int)vmbus_shm_child_pid(child),
	       why == VMBUS_SHM_LEFT ? "has left" : "is gone");
	*(int *)ctx = 1;
}

/* ---- the child ---- */

static uint32_t done, wrong;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	const uint64_t n = (uint64_t)(uintptr_t)cookie;

	(void)vsc;
	done++;
	wrong += !pkt || pkt->len != sizeof(n) || memcmp(pkt->payload, &n, sizeof(n)) != 0;
}

static int child(const char *path)
{
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = completed };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc;
	uint64_t n = 0;
	int err;

	at.name = "example";
	must(vmbus_shm_attach(&at, &attach), "attach");
	guest = vmbus_shm_guest(attach);
	must(vmbus_guest_connect(guest), "connect");
	must(vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 5ull * SECONDS), "wait for offers");
	printf("child:  connected, version %u.%u\n", vmbus_guest_version(guest) >> 16,
	       vmbus_guest_version(guest) & 0xFFFFu);
	vsc = vmbus_vsc_find(guest, &echo_class, 0);
	must(vsc ? 0 : VMBUS_E_STATE, "find the echo device");
	must(vmbus_vsc_open(vsc, &opts), "open");
	must(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, 5ull * SECONDS), "wait for the open channel");
	while (done < REQUESTS) {
		msg.data = &n;
		msg.len = sizeof(n);
		err = n < REQUESTS ? vmbus_vsc_request(vsc, &msg, (void *)(uintptr_t)n)
				   : VMBUS_E_FULL;
		if (err >= 0)
			n++;
		else if (err != VMBUS_E_FULL)
			must(err, "request");
		else if (vmbus_guest_dispatch(guest, 256) == 0)
			must(vmbus_shm_attach_wait(attach, 5ull * SECONDS), "wait");
	}
	printf("child:  %u requests echoed, %u of them wrong\n", done, wrong);
	must(vmbus_vsc_close(vsc), "close");
	must(vmbus_vsc_wait(vsc, VMBUS_VSC_OFFERED, 5ull * SECONDS), "wait for the closed channel");
	vmbus_shm_detach(attach);
	return wrong ? 1 : 0;
}

int main(void)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_shm_server *server;
	char path[64];
	int over = 0, status = 1;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(path, sizeof(path), "/tmp/vmbus-echo-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.detached = detached;
	opts.ctx = &over;
	must(vmbus_shm_listen(&opts, &server), "listen");
	printf("parent: listening at %s\n", path);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exit(child(path));
	while (pid > 0 && !over)
		must(vmbus_shm_server_run(server, 5ull * SECONDS), "serve");
	vmbus_shm_server_destroy(server);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									       : 1;
}
