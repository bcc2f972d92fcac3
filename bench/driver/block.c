/* SPDX-License-Identifier: MIT */
/*
 * What bench/budget-check runs under callgrind: a fixed number of requests of 4 KiB through a channel
 * over shared memory, whose two ends take turns in one thread.  The two functions that are a client's
 * turn and a provider's are the only ones that callgrind collects in, one of them a run.
 */
#include <vmbus/block.h>
#include <vmbus/storvsc.h>
#include <vmbus/vmbus.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS 4096u
#define BATCH_MAX 32u
#define PAGE 4096u
#define DISK_BYTES (UINT64_C(16) << 20)
#define BUDGET 256u
#define SPIN_NS 1000000u
#define STEP_NS 1000000u
#define WAIT_NS 5000000000u

enum how {
	ECHO,
	NOTHING,
	READ,
	WRITE
};

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0xbe9c0000, 0x0004, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid echo_class = ECHO_CLASS;
static const struct vmbus_guid block_class = VMBUS_BLOCK_CLASS;

struct ends {
	struct vmbus_shm_server *server;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_block *block;
	struct vmbus_chan *chan;
	struct vmbus_vsc *vsc;
	struct vmbus_storvsc storvsc;
	struct vmbus_storvsc_disk disk;
	struct vmbus_storvsc_req req[BATCH_MAX], *list[BATCH_MAX];
	struct vmbus_storvsc_piece piece[BATCH_MAX];
	uint32_t batch, done, failed;
	enum how how;
	int told; /* 1, or an error */
	char path[64];
	int stop; /* for the thread that serves while a call waits */
};

static struct ends ends;

int budget_client(struct ends *e, uint32_t first);
int budget_server(struct ends *e);

/* ---- the provider ---- */

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "budget echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
};

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct ends *const e = ctx;

	(void)child;
	return vmbus_bus_offer(bus, e->block ? vmbus_block_vsp() : &echo_vsp, e->block, &opts,
			       &e->chan);
}

static int listen_for(struct ends *e)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = e->path };
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };
	int err = 0;

	if (e->how == NOTHING)
		err = vmbus_store_null(DISK_BYTES, false, &disk.store);
	else if (e->how != ECHO)
		err = vmbus_store_memory(DISK_BYTES, -1, &disk.store);
	if (!err && e->how != ECHO)
		err = vmbus_block_create(NULL, &e->block);
	if (!err && e->how != ECHO)
		err = vmbus_block_add(e->block, &disk);
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

static void found(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	(void)disk;
	ready(ctx, err);
}

static void request_done(struct vmbus_storvsc_req *req)
{
	ends.done++;
	ends.failed += req->err != 0;
}

static void echo_done(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc;
	(void)cookie;
	ends.done++;
	ends.failed += !pkt;
}

static int wait_told(struct ends *e, int err)
{
	while (!err && !e->told) {
		struct vmbus_vsc *const vsc = vmbus_storvsc_channel(&e->storvsc, 0);

		(void)vmbus_guest_dispatch(e->guest, BUDGET);
		if (vsc)
			(void)vmbus_vsc_dispatch(vsc, BUDGET);
	}
	err = err ? err : e->told;
	e->told = 0;
	return err < 0 ? err : 0;
}

static int open_disk(struct ends *e)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts), .ready = ready, .ctx = e };
	uint8_t *const pages = vmbus_guest_pages(e->guest, BATCH_MAX);
	int err;

	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.poll = true;
	err = wait_told(e, vmbus_storvsc_start(&e->storvsc, e->vsc, &opts));
	if (!err)
		err = wait_told(e,
				vmbus_storvsc_probe(&e->disk, &e->storvsc, 0, 0, pages, found, e));
	for (uint32_t i = 0; i < BATCH_MAX && pages; i++) {
		e->piece[i] =
			(struct vmbus_storvsc_piece){ .data = pages + i * PAGE, .bytes = PAGE };
		e->req[i].piece = &e->piece[i];
		e->req[i].pieces = 1;
		e->req[i].done = request_done;
		e->list[i] = &e->req[i];
	}
	return err || pages ? err : VMBUS_E_NOMEM;
}

static int open_echo(struct ends *e)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = echo_done };
	int err;

	opts.poll = true;
	err = vmbus_vsc_open(e->vsc, &opts);
	return err ? err : vmbus_vsc_wait(e->vsc, VMBUS_VSC_OPEN, WAIT_NS);
}

static int open_client(struct ends *e)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = e->path };
	int err = vmbus_shm_attach(&opts, &e->attach);

	if (err)
		return err;
	e->guest = vmbus_shm_guest(e->attach);
	err = vmbus_guest_connect(e->guest);
	if (!err)
		err = vmbus_guest_wait(e->guest, VMBUS_GUEST_CONNECTED, WAIT_NS);
	if (err < 0)
		return err;
	e->vsc = vmbus_vsc_find(e->guest, e->how == ECHO ? &echo_class : &block_class, 0);
	if (!e->vsc)
		return VMBUS_E_PEER;
	return e->how == ECHO ? open_echo(e) : open_disk(e);
}

static int set_up(struct ends *e)
{
	pthread_t thread;
	int err;

	(void)snprintf(e->path, sizeof(e->path), "/tmp/vmbus-budget-%d.sock", (int)getpid());
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

static int echo_begin(struct ends *e)
{
	static const uint8_t payload[64];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload) };
	int err = vmbus_vsc_hold(e->vsc);

	for (uint32_t i = 0; i < e->batch && err >= 0; i++)
		err = vmbus_vsc_request(e->vsc, &msg, e);
	return err < 0 ? err : vmbus_vsc_flush(e->vsc);
}

/* first: sector of a batch to begin; UINT32_MAX: take what has ended. */
__attribute__((noinline)) int budget_client(struct ends *e, uint32_t first)
{
	int err = 0;

	if (first == UINT32_MAX)
		return vmbus_vsc_dispatch(e->vsc, BUDGET);
	if (e->how == ECHO)
		return echo_begin(e);
	for (uint32_t i = 0; i < e->batch && !err; i++)
		err = e->how == WRITE
			      ? vmbus_storvsc_write(&e->disk, e->list[i], first + i * 8u, 8, false)
			      : vmbus_storvsc_read(&e->disk, e->list[i], first + i * 8u, 8);
	return err ? err : vmbus_storvsc_submit_many(&e->storvsc, 0, e->list, e->batch);
}

__attribute__((noinline)) int budget_server(struct ends *e)
{
	return vmbus_chan_poll(e->chan, BUDGET, SPIN_NS);
}

int main(int argc, char **argv)
{
	static const char *const hows[] = { "echo", "null", "read", "write" };
	struct ends *const e = &ends;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: block echo|null|read|write BATCH\n");
		return 2;
	}
	while (e->how < WRITE && strcmp(argv[1], hows[e->how]))
		e->how++;
	e->batch = (uint32_t)strtoul(argv[2], NULL, 10);
	if (e->batch < 1 || e->batch > BATCH_MAX) {
		fprintf(stderr, "block: batch %s: expected 1 to %u\n", argv[2], BATCH_MAX);
		return 2;
	}
	err = set_up(e);
	for (uint32_t n = 0; n < REQUESTS && err >= 0; n += e->batch) {
		err = budget_client(e, n % 1024u * 8u);
		while (err >= 0 && e->done < n + e->batch) {
			err = budget_server(e);
			if (err >= 0)
				err = budget_client(e, UINT32_MAX);
		}
	}
	if (e->attach)
		vmbus_shm_detach(e->attach);
	if (e->server)
		vmbus_shm_server_destroy(e->server);
	vmbus_block_destroy(e->block);
	if (err < 0 || e->failed) {
		fprintf(stderr, "block: %s, %u requests failed\n", vmbus_err_name(err), e->failed);
		return 1;
	}
	printf("%u\n", REQUESTS);
	return 0;
}
