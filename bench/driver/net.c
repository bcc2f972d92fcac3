/* SPDX-License-Identifier: MIT */
/*
 * What bench/budget-check runs under callgrind: a fixed number of frames through a NIC over shared
 * memory, whose two ends take turns in one thread.  The two functions that are a client's turn and a
 * provider's are the only ones that callgrind collects in, one of them a run.
 */
#include <vmbus/net.h>
#include <vmbus/netvsc.h>
#include <vmbus/vmbus.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FRAMES 8192u
#define BATCH_MAX 32u
#define STRIDE 2048u
#define RING_BYTES 131072u
#define SECTION_BYTES 65536u
#define SEND_BYTES (64u * SECTION_BYTES)
#define RECEIVE_BYTES (4u << 20)
#define MTU 1504u
#define BUDGET 256u
#define SPIN_NS 1000000u
#define STEP_NS 1000000u
#define WAIT_NS 5000000000u

static const struct vmbus_guid net_class = VMBUS_NET_CLASS;

struct ends {
	struct vmbus_shm_server *server;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_net *net;
	struct vmbus_chan *chan;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan nvc;
	struct vmbus_netvsc_burst burst;
	struct vmbus_iov piece[BATCH_MAX];
	struct vmbus_frame frame[BATCH_MAX];
	uint8_t *bytes;
	uint32_t batch, due, received;
	bool to_host, opened;
	int told; /* 1, or an error */
	int wake_fd;
	char path[64];
	int stop; /* for the thread that serves while a call waits */
};

static struct ends ends;

int budget_client(struct ends *e, uint32_t n);
int budget_server(struct ends *e);

/* ---- the port ---- */

static int port_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	info->queues = 1;
	info->up = true;
	return 0;
}

static int port_open(struct vmbus_port_queue *queue)
{
	queue->fd = ((struct ends *)queue->ctx)->wake_fd;
	return 0;
}

static void port_close(struct vmbus_port_queue *queue)
{
	(void)queue;
}

static uint32_t port_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	(void)frame;
	((struct ends *)queue->ctx)->received += n;
	return n;
}

/* As many frames as are due; those without room come in the next call. */
static void port_ready(struct vmbus_port_queue *queue)
{
	struct ends *const e = queue->ctx;
	uint32_t n = e->due < e->batch ? e->due : e->batch;
	uint64_t count;

	(void)!read(e->wake_fd, &count, sizeof(count));
	if (n)
		e->due -= vmbus_port_deliver(queue, e->frame, n);
}

static const struct vmbus_port_ops port_ops = {
	.struct_bytes = sizeof(port_ops),
	.name = "budget",
	.info = port_info,
	.open = port_open,
	.close = port_close,
	.send = port_send,
	.ready = port_ready,
};

/* ---- the provider ---- */

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct ends *const e = ctx;

	(void)child;
	return vmbus_bus_offer(bus, vmbus_net_vsp(), e->net, &opts, &e->chan);
}

static int listen_for(struct ends *e)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = e->path };
	struct vmbus_net_opts nic = { .struct_bytes = sizeof(nic) };
	int err;

	nic.port = (struct vmbus_port){ &port_ops, e };
	nic.mac[0] = nic.mac[5] = 2;
	nic.section_bytes = SECTION_BYTES;
	nic.frames_max = BATCH_MAX;
	err = vmbus_net_create(&nic, &e->net);
	opts.attached = attached;
	opts.ctx = e;
	return err ? err : vmbus_shm_listen(&opts, &e->server);
}

static void *serve(void *arg)
{
	struct ends *const e = arg;

	while (!__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE)) {
		(void)vmbus_shm_server_run(e->server, STEP_NS);
		if (e->chan)
			(void)vmbus_chan_dispatch(e->chan, BUDGET);
	}
	return NULL;
}

/* ---- the client ---- */

static void ready(void *ctx, int err)
{
	((struct ends *)ctx)->told = err ? err : 1;
}

static void opened(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct ends *)ctx)->opened = true;
}

static int start(struct ends *e)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts), .chan = &e->nvc };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(e->guest, &net_class, 0);
	int err;

	opts.mtu = MTU;
	opts.send_bytes = SEND_BYTES;
	opts.receive_bytes = RECEIVE_BYTES;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.poll = true;
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	opts.ready = ready;
	opts.opened = opened;
	opts.ctx = e;
	err = vsc ? vmbus_netvsc_start(&e->nv, vsc, &opts) : VMBUS_E_PEER;
	while (!err && !e->told) {
		(void)vmbus_guest_dispatch(e->guest, BUDGET);
		if (e->opened && vmbus_netvsc_receive(&e->nv, 0, &e->burst, BATCH_MAX) > 0)
			(void)vmbus_netvsc_release(&e->nv, 0, &e->burst);
	}
	return err ? err : e->told < 0 ? e->told : 0;
}

static int open_client(struct ends *e)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = e->path };
	int err;

	opts.memory_bytes = SEND_BYTES + RECEIVE_BYTES + 4u * RING_BYTES + (1u << 20);
	err = vmbus_shm_attach(&opts, &e->attach);
	if (err)
		return err;
	e->guest = vmbus_shm_guest(e->attach);
	err = vmbus_guest_connect(e->guest);
	if (!err)
		err = vmbus_guest_wait(e->guest, VMBUS_GUEST_CONNECTED, WAIT_NS);
	return err < 0 ? err : start(e);
}

static int set_up(struct ends *e, uint32_t frame_bytes)
{
	pthread_t thread;
	int err;

	(void)snprintf(e->path, sizeof(e->path), "/tmp/vmbus-budget-%d.sock", (int)getpid());
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->bytes = calloc(BATCH_MAX, STRIDE);
	if (!e->bytes)
		return VMBUS_E_NOMEM;
	for (uint32_t i = 0; i < BATCH_MAX; i++) {
		e->bytes[i * STRIDE] = e->bytes[i * STRIDE + 5] = 2;
		e->bytes[i * STRIDE + 12] = 8; /* IPv4 */
		e->piece[i] = (struct vmbus_iov){ &e->bytes[i * STRIDE], frame_bytes };
		e->frame[i] = (struct vmbus_frame){ .piece = &e->piece[i],
						    .pieces = 1,
						    .bytes = frame_bytes };
	}
	err = listen_for(e);
	if (err)
		return err;
	if (pthread_create(&thread, NULL, serve, e))
		return VMBUS_E_SYSTEM;
	err = open_client(e);
	__atomic_store_n(&e->stop, 1, __ATOMIC_RELEASE);
	(void)pthread_join(thread, NULL);
	return err;
}

/* ---- what is counted ---- */

/* n: frames to send; 0: take what has come, completions and frames. */
__attribute__((noinline)) int budget_client(struct ends *e, uint32_t n)
{
	int got;

	if (n)
		return vmbus_netvsc_send(&e->nv, 0, e->frame, n);
	got = vmbus_netvsc_receive(&e->nv, 0, &e->burst, VMBUS_NETVSC_BURST);
	if (got <= 0)
		return got == VMBUS_E_AGAIN ? 0 : got;
	e->received += (uint32_t)got;
	return vmbus_netvsc_release(&e->nv, 0, &e->burst);
}

__attribute__((noinline)) int budget_server(struct ends *e)
{
	return vmbus_chan_poll(e->chan, BUDGET, SPIN_NS);
}

/* A batch one way, and what comes back. */
static int turn(struct ends *e, uint32_t done)
{
	const uint64_t one = 1;
	int err = 0;

	if (e->to_host) {
		err = budget_client(e, e->batch);
	} else {
		e->due = e->batch;
		(void)!write(e->wake_fd, &one, sizeof(one));
	}
	while (err >= 0 && e->received < done + e->batch) {
		err = budget_server(e);
		if (!e->to_host && e->received < done + e->batch)
			(void)!write(e->wake_fd, &one, sizeof(one));
		if (err >= 0)
			err = budget_client(e, 0);
	}
	return err < 0 ? err : budget_client(e, 0);
}

int main(int argc, char **argv)
{
	struct ends *const e = &ends;
	const char *size = argc == 3 ? strchr(argv[1], '-') : NULL;
	int err;

	if (!size) {
		fprintf(stderr, "usage: net to-host-BYTES|to-guest-BYTES BATCH\n");
		return 2;
	}
	e->to_host = strncmp(argv[1], "to-host-", 8) == 0;
	e->batch = (uint32_t)strtoul(argv[2], NULL, 10);
	size = strrchr(argv[1], '-') + 1;
	if (e->batch < 1 || e->batch > BATCH_MAX) {
		fprintf(stderr, "net: batch %s: expected 1 to %u\n", argv[2], BATCH_MAX);
		return 2;
	}
	err = set_up(e, (uint32_t)strtoul(size, NULL, 10));
	e->received = 0;
	for (uint32_t n = 0; n < FRAMES && err >= 0; n += e->batch)
		err = turn(e, n);
	if (e->attach)
		vmbus_shm_detach(e->attach);
	if (e->server)
		vmbus_shm_server_destroy(e->server);
	vmbus_net_destroy(e->net);
	if (err < 0 || e->received != FRAMES) {
		fprintf(stderr, "net: %s, %u frames\n", vmbus_err_name(err), e->received);
		return 1;
	}
	printf("%u\n", FRAMES);
	return 0;
}
