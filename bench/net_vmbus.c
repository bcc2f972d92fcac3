/* SPDX-License-Identifier: MIT */
/*
 * Our NIC: its provider in a process of its own, whose pool thread polls, with a port that makes frames
 * or copies them away; and a client over shared memory, which does the same at its end.
 */
#include "block.h"
#include "net.h"

#include "chan_pair.h"

#include <vmbus/net.h>
#include <vmbus/netvsc.h>
#include <vmbus/pool.h>
#include <vmbus/vmbus.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPIN_NS 1000000000u /* the longest that a pool allows */
#define SLEEP_NS 100000000u
#define RING_BYTES 131072u
#define SECTION_BYTES 65536u /* for NET_BURST frames of either size */
#define SEND_BYTES (64u * SECTION_BYTES)
#define RECEIVE_BYTES (4u << 20)
#define BUDGET 256u
#define TURNS 8u /* bursts to the guest in one callback */
#define MTU                                                                                        \
	1504u /* frames of 1518 bytes, as testpmd counts them: without FCS, with 14 of Ethernet */

static const struct vmbus_guid net_class = VMBUS_NET_CLASS;

/* ---- the far process ---- */

struct far_side {
	struct vmbus_pool *pool;
	struct vmbus_net *net;
	struct net_ctl *ctl;
	struct net_end end;
	uint32_t go;  /* the run that end is of */
	uint32_t due; /* frames of the last burst that the guest has not got */
	struct vmbus_iov piece[NET_FRAMES];
	struct vmbus_frame frame[NET_FRAMES];
	int wake_fd;
	bool left;
};

static int far_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	info->queues = 1;
	info->up = true;
	return 0;
}

static int far_open(struct vmbus_port_queue *queue)
{
	queue->fd = ((struct far_side *)queue->ctx)->wake_fd;
	return 0;
}

static void far_close(struct vmbus_port_queue *queue)
{
	(void)queue;
}

static void far_begin(struct far_side *far)
{
	if (far->go == far->ctl->go)
		return;
	far->go = far->ctl->go;
	far->due = 0;
	net_end_begin(&far->end, far->ctl->bytes);
}

static inline void copy_pieces(uint8_t *to, const struct vmbus_iov *piece, uint32_t pieces)
{
	for (uint32_t i = 0; i < pieces; i++) {
		memcpy(to, piece[i].base, piece[i].len);
		to += piece[i].len;
	}
}

static uint32_t far_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n)
{
	struct far_side *const far = queue->ctx;

	far_begin(far);
	for (uint32_t i = 0; i < n; i++) {
		if (frame[i].bytes <= NET_FRAME_BYTES)
			copy_pieces(net_room(&far->end), frame[i].piece, frame[i].pieces);
		net_got(&far->end, frame[i].bytes);
	}
	store64(&far->ctl->wrong, far->end.wrong);
	store64(&far->ctl->received, far->end.next);
	return n;
}

/* Frames for the guest, some bursts in one call, until it has no room. */
static void far_produce(struct far_side *far, struct vmbus_port_queue *queue)
{
	for (uint32_t turn = 0; turn < TURNS; turn++) {
		uint32_t taken;

		if (!far->due) {
			for (uint32_t i = 0; i < NET_BURST; i++) {
				net_stamp(&far->end, i);
				far->frame[i].bytes = far->end.bytes;
				far->piece[i].len = far->end.bytes;
			}
			far->due = NET_BURST;
		}
		taken = vmbus_port_deliver(queue, &far->frame[NET_BURST - far->due], far->due);
		far->due -= taken;
		if (far->due)
			break;
	}
	store64(&far->ctl->sent, far->end.next - far->due);
}

static void far_ready(struct vmbus_port_queue *queue)
{
	struct far_side *const far = queue->ctx;
	const uint32_t what = load32(&far->ctl->what);
	uint64_t count;

	far_begin(far);
	if (what == NET_PRODUCE) {
		far_produce(far, queue);
		return;
	}
	(void)!read(far->wake_fd, &count, sizeof(count));
	if (what == NET_IDLE)
		store32(&far->ctl->idle, far->go);
}

static const struct vmbus_port_ops far_ops = {
	.struct_bytes = sizeof(far_ops),
	.name = "bench",
	.info = far_info,
	.open = far_open,
	.close = far_close,
	.send = far_send,
	.ready = far_ready,
};

static int far_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct far_side *const far = ctx;
	struct vmbus_chan *chan;
	int err;

	(void)child;
	err = vmbus_bus_offer(bus, vmbus_net_vsp(), far->net, &opts, &chan);
	return err ? err : vmbus_pool_add(far->pool, chan);
}

static void far_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)child;
	(void)why;
	((struct far_side *)ctx)->left = true;
}

static void far_removed(void *ctx, struct vmbus_chan *chan)
{
	(void)vmbus_pool_remove(((struct far_side *)ctx)->pool, chan);
}

static int far_nic(struct far_side *far)
{
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts) };

	opts.port = (struct vmbus_port){ &far_ops, far };
	opts.mac[0] = opts.mac[5] = 2; /* where the frames go to */
	opts.section_bytes = SECTION_BYTES;
	opts.frames_max = NET_BURST;
	return vmbus_net_create(&opts, &far->net);
}

static int far_main(const struct net_link *link, const char *path, int wake_fd)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	struct vmbus_pool_opts threads = { .struct_bytes = sizeof(threads), .threads = 1 };
	struct far_side far = { .ctl = link->ctl, .end = link->end, .wake_fd = wake_fd };
	struct vmbus_shm_server *server;

	for (uint32_t i = 0; i < NET_FRAMES; i++) {
		far.piece[i].base = net_frame(&far.end, i);
		far.frame[i].piece = &far.piece[i];
		far.frame[i].pieces = 1;
	}
	threads.spin_ns = SPIN_NS;
	opts.attached = far_attached;
	opts.detached = far_detached;
	opts.removed = far_removed;
	opts.ctx = &far;
	opts.huge_pages = link->huge;
	if (vmbus_pool_create(&threads, &far.pool) || far_nic(&far) ||
	    vmbus_shm_listen(&opts, &server))
		return 1;
	while (!far.left)
		(void)vmbus_shm_server_run(server, SLEEP_NS);
	vmbus_shm_server_destroy(server);
	return 0;
}

/* ---- this process ---- */

struct our_nic {
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan;
	struct vmbus_netvsc_burst burst;
	struct vmbus_iov piece[NET_FRAMES];
	struct vmbus_frame frame[NET_FRAMES];
	bool opened, ready;
	int err;
	int wake_fd;
	char path[64];
};

static void our_close(struct net_link *link)
{
	struct our_nic *const nic = link->priv;

	if (nic->attach)
		vmbus_shm_detach(nic->attach);
	net_reap(&link->far);
	(void)unlink(nic->path);
	(void)close(nic->wake_fd);
	free(nic);
}

static void nic_ready(void *ctx, int err)
{
	struct our_nic *const nic = ctx;

	nic->ready = true;
	nic->err = err;
}

static void nic_opened(void *ctx, uint32_t channel)
{
	(void)channel;
	((struct our_nic *)ctx)->opened = true;
}

static int start(struct our_nic *nic)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts), .chan = &nic->chan };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(nic->guest, &net_class, 0);
	const uint64_t until = now_ns() + NET_WAIT_NS;
	int err;

	opts.mtu = MTU;
	opts.send_bytes = SEND_BYTES;
	opts.receive_bytes = RECEIVE_BYTES;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.poll = true;
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	opts.ready = nic_ready;
	opts.opened = nic_opened;
	opts.ctx = nic;
	err = vsc ? vmbus_netvsc_start(&nic->nv, vsc, &opts) : VMBUS_E_STATE;
	while (!err && !nic->ready && now_ns() < until) {
		(void)vmbus_guest_dispatch(nic->guest, BUDGET);
		if (nic->opened && vmbus_netvsc_receive(&nic->nv, 0, &nic->burst, NET_BURST) > 0)
			(void)vmbus_netvsc_release(&nic->nv, 0, &nic->burst);
	}
	return err ? err : nic->ready ? nic->err : VMBUS_E_AGAIN;
}

/* As pair_attach(), which has no huge pages. */
static int attach(struct net_link *link, struct our_nic *nic)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = nic->path };
	const uint64_t until = now_ns() + NET_WAIT_NS;
	int err;

	opts.name = "bench";
	opts.memory_bytes = SEND_BYTES + RECEIVE_BYTES + 4u * RING_BYTES + (1u << 20);
	opts.allow_huge_pages = link->huge;
	while ((err = vmbus_shm_attach(&opts, &nic->attach)) < 0) {
		if (now_ns() > until ||
		    (err == VMBUS_E_SYSTEM && errno != ENOENT && errno != ECONNREFUSED))
			return err;
		(void)usleep(200);
	}
	nic->guest = vmbus_shm_guest(nic->attach);
	err = vmbus_guest_connect(nic->guest);
	if (!err)
		err = vmbus_guest_wait(nic->guest, VMBUS_GUEST_CONNECTED, NET_WAIT_NS);
	return err < 0 ? err : start(nic);
}

static int our_open(struct net_link *link)
{
	struct our_nic *const nic = must_alloc(sizeof(*nic));
	int err;

	memset(nic, 0, sizeof(*nic));
	pair_path(nic->path, sizeof(nic->path));
	link->priv = nic;
	nic->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	link->far = block_fork(link->place);
	if (link->far == 0)
		_exit(far_main(link, nic->path, nic->wake_fd));
	for (uint32_t i = 0; i < NET_FRAMES; i++) {
		nic->piece[i].base = net_frame(&link->end, i);
		nic->frame[i].piece = &nic->piece[i];
		nic->frame[i].pieces = 1;
	}
	err = link->far > 0 ? attach(link, nic) : VMBUS_E_SYSTEM;
	if (!err)
		return 0;
	our_close(link);
	return net_fail(link, "the NIC cannot be opened: %s", vmbus_err_name(err));
}

static void our_tell(struct net_link *link)
{
	struct our_nic *const nic = link->priv;
	const uint64_t one = 1;

	for (uint32_t i = 0; i < NET_FRAMES; i++)
		nic->frame[i].bytes = (uint32_t)(nic->piece[i].len = link->end.bytes);
	(void)!write(nic->wake_fd, &one, sizeof(one));
}

static int our_send(struct net_link *link, uint32_t first, uint32_t n)
{
	struct our_nic *const nic = link->priv;
	const int sent = vmbus_netvsc_send(&nic->nv, 0, &nic->frame[first], n);

	return sent == VMBUS_E_FULL ? 0 : sent;
}

static int our_receive(struct net_link *link)
{
	struct our_nic *const nic = link->priv;
	struct net_end *const end = &link->end;
	const int n = vmbus_netvsc_receive(&nic->nv, 0, &nic->burst, VMBUS_NETVSC_BURST);

	if (n <= 0)
		return n == VMBUS_E_AGAIN ? 0 : n;
	for (uint32_t i = 0; i < (uint32_t)n; i++) {
		const struct vmbus_frame *const frame = &nic->burst.frame[i];

		if (frame->bytes <= NET_FRAME_BYTES)
			copy_pieces(net_room(end), frame->piece, frame->pieces);
		net_got(end, frame->bytes);
	}
	return vmbus_netvsc_release(&nic->nv, 0, &nic->burst) < 0 ? -1 : n;
}

/* Completions of what was sent come. */
static int our_turn(struct net_link *link)
{
	struct our_nic *const nic = link->priv;
	const int n = vmbus_netvsc_receive(&nic->nv, 0, &nic->burst, VMBUS_NETVSC_BURST);

	if (n > 0)
		(void)vmbus_netvsc_release(&nic->nv, 0, &nic->burst);
	return n < 0 && n != VMBUS_E_AGAIN ? -1 : 0;
}

const struct net_subject net_vmbus = {
	.name = "vmbus.net",
	.what = "a NIC behind a channel, both sides polling",
	.version = vmbus_version_string,
	.open = our_open,
	.close = our_close,
	.send = our_send,
	.receive = our_receive,
	.turn = our_turn,
	.tell = our_tell,
};
