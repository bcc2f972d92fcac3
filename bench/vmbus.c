/* SPDX-License-Identifier: MIT */
/*
 * Our subject: the ring of the installed library, through its public interface only.  Copying
 * sends arrays with vmbus_ring_tx_put() and receives with vmbus_ring_rx_get(); in place reserves,
 * fills and commits, and reads in the peer's memory.  Several producers use vmbus_ring_mtx_put().
 */
#include "loop.h"
#include "subject.h"

#include <vmbus/vmbus.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MTX_SLOTS 1024u

/* Set up once for a direction, before the sides part. */
struct vmbus_dir {
	struct vmbus_shm_ring ring;
	struct vmbus_ring_mtx *mtx;
	struct vmbus_ring_mtx_slot *slots;
};

struct vmbus_state {
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	struct vmbus_ring_mtx *mtx;
	struct vmbus_msg *msg;
	struct vmbus_packet *pkt;
	bool failed;
};

static const char *vmbus_refuses(const struct cell *cell)
{
	uint64_t need = vmbus_wire_ring_bytes(0, cell->payload);

	if (need > vmbus_ring_max_send(cell->ring_bytes))
		return "packet larger than the ring takes";
	if (cell->producers > 1 && cell->in_place)
		return "several producers copy";
	return NULL;
}

static size_t vmbus_bytes(const struct chan *chan)
{
	(void)chan;
	return 0; /* maps its own */
}

static void vmbus_teardown(struct chan *chan)
{
	struct vmbus_dir *vc = chan->priv;

	vmbus_shm_ring_unmap(&vc->ring);
	free(vc->mtx);
	free(vc->slots);
	free(vc);
	chan->priv = NULL;
}

static int vmbus_map(struct vmbus_dir *vc, const struct cell *cell)
{
	static const enum vmbus_ring_window windows[BENCH_WINDOWS] = {
		[BENCH_PLAIN] = VMBUS_RING_PLAIN,
		[BENCH_MIRRORED] = VMBUS_RING_MIRRORED,
		[BENCH_SCATTERED] = VMBUS_RING_SCATTERED,
	};
	struct vmbus_shm_ring_opts opts = { .struct_bytes = sizeof(opts) };
	int fd, err;

	opts.window = windows[cell->window];
	opts.size = cell->ring_bytes;
	opts.on_node = cell->node >= 0;
	opts.node = opts.on_node ? (uint32_t)cell->node : 0;
	fd = vmbus_shm_create(vmbus_shm_ring_bytes(cell->ring_bytes));
	if (fd < 0)
		return fd;
	err = vmbus_shm_ring_map(&vc->ring, fd, &opts);
	close(fd);
	if (!err)
		vmbus_ring_mem_clear(&vc->ring.mem);
	return err;
}

static int vmbus_setup(struct chan *chan)
{
	struct vmbus_dir *vc = must_alloc(sizeof(*vc));
	int err;

	memset(vc, 0, sizeof(*vc));
	err = vmbus_map(vc, chan->cell);
	if (err) {
		free(vc);
		errno = vmbus_err_to_errno(err);
		return -1;
	}
	chan->priv = vc;
	if (chan->cell->producers == 1)
		return 0;
	vc->mtx = must_alloc(sizeof(*vc->mtx));
	vc->slots = must_alloc(MTX_SLOTS * sizeof(*vc->slots));
	memset(vc->mtx, 0, sizeof(*vc->mtx));
	memset(vc->slots, 0, MTX_SLOTS * sizeof(*vc->slots));
	err = vmbus_ring_mtx_init(vc->mtx, &vc->ring.mem, NULL, vc->slots, MTX_SLOTS);
	if (!err)
		return 0;
	vmbus_teardown(chan);
	errno = vmbus_err_to_errno(err);
	return -1;
}

static void open_tx(struct vmbus_state *st, struct chan *chan, struct side *side)
{
	struct vmbus_dir *vc = chan->priv;

	memset(st, 0, sizeof(*st));
	st->mtx = vc->mtx;
	if (!st->mtx)
		st->failed = vmbus_ring_tx_init(&st->tx, &vc->ring.mem, NULL) != 0;
	st->msg = side_alloc(side, side->batch * sizeof(*st->msg));
	for (uint32_t i = 0; i < side->batch; i++)
		st->msg[i].type = VMBUS_PKT_INBAND;
}

static void open_rx(struct vmbus_state *st, struct chan *chan, struct side *side)
{
	struct vmbus_dir *vc = chan->priv;
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };

	memset(st, 0, sizeof(*st));
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(chan->cell->ring_bytes);
	opts.buf = side_alloc(side, opts.buf_bytes);
	st->failed = vmbus_ring_rx_init(&st->rx, &vc->ring.mem, &opts) != 0;
	st->pkt = side_alloc(side, side->batch * sizeof(*st->pkt));
}

/* Fills what changes from packet to packet. */
static inline void fill(struct vmbus_state *st, const struct side *side, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++) {
		st->msg[i].id = i + 1u;
		st->msg[i].data = side_packet(side, i);
		st->msg[i].len = side->payload;
	}
}

static inline uint32_t copy_send(struct vmbus_state *st, struct side *side, uint32_t first,
				 uint32_t n)
{
	int sent;

	fill(st, side, first, n);
	sent = vmbus_ring_tx_put(&st->tx, &st->msg[first], n);
	return sent > 0 ? (uint32_t)sent : 0;
}

static inline uint32_t copy_receive(struct vmbus_state *st, struct side *side, uint32_t n)
{
	int got = vmbus_ring_rx_get(&st->rx, st->pkt, n);

	if (got < 0)
		side->bad = ~(uint64_t)0;
	if (got <= 0)
		return 0;
	for (int i = 0; i < got; i++)
		side_check(side, st->pkt[i].payload);
	return (uint32_t)got;
}

static inline uint32_t mtx_send(struct vmbus_state *st, struct side *side, uint32_t first,
				uint32_t n)
{
	int sent;

	fill(st, side, first, n);
	sent = vmbus_ring_mtx_put(st->mtx, &st->msg[first], n);
	return sent > 0 ? (uint32_t)sent : 0;
}

static inline uint32_t place_send(struct vmbus_state *st, struct side *side, uint32_t first,
				  uint32_t n)
{
	struct vmbus_span span[BENCH_PAYLOAD_MAX / VMBUS_PAGE_BYTES + 2u];
	uint32_t i;

	for (i = first; i < first + n; i++) {
		const uint8_t *from = side_packet(side, i);
		int pieces;

		st->msg[i].id = i + 1u;
		st->msg[i].len = side->payload;
		pieces = vmbus_ring_tx_reserve(&st->tx, &st->msg[i], span,
					       sizeof(span) / sizeof(span[0]));
		if (pieces < 0)
			break;
		for (int k = 0; k < pieces; k++) {
			memcpy(span[k].base, from, span[k].len);
			from += span[k].len;
		}
	}
	if (i > first)
		vmbus_ring_tx_commit(&st->tx);
	return i - first;
}

static inline uint32_t place_receive(struct vmbus_state *st, struct side *side, uint32_t n)
{
	int got = vmbus_ring_rx_get_in_peer_memory(&st->rx, st->pkt, n);

	if (got < 0)
		side->bad = ~(uint64_t)0;
	if (got <= 0)
		return 0;
	for (int i = 0; i < got; i++)
		side_check(side, st->pkt[i].payload);
	return (uint32_t)got;
}

SUBJECT_LOOPS(copying, struct vmbus_state, open_tx, open_rx, copy_send, copy_receive);
SUBJECT_LOOPS(placing, struct vmbus_state, open_tx, open_rx, place_send, place_receive);
SUBJECT_LOOPS(sharing, struct vmbus_state, open_tx, open_rx, mtx_send, copy_receive);

static void vmbus_produce(struct chan *chan, struct side *side)
{
	if (chan->cell->producers > 1)
		sharing_produce(chan, side);
	else if (chan->cell->in_place)
		placing_produce(chan, side);
	else
		copying_produce(chan, side);
}

static void vmbus_consume(struct chan *chan, struct side *side)
{
	if (chan->cell->in_place)
		placing_consume(chan, side);
	else
		copying_consume(chan, side);
}

static void vmbus_ping(struct chan *there, struct chan *back, struct side *side, struct hist *hist)
{
	if (there->cell->in_place)
		placing_ping(there, back, side, hist);
	else
		copying_ping(there, back, side, hist);
}

static void vmbus_pong(struct chan *there, struct chan *back, struct side *side)
{
	if (there->cell->in_place)
		placing_pong(there, back, side);
	else
		copying_pong(there, back, side);
}

const struct subject subject_vmbus = {
	.name = "vmbus",
	.what = "the ring of this library",
	.caps = CAP_VARIABLE | CAP_BATCH | CAP_PRODUCERS | CAP_IN_PLACE,
	.version = vmbus_version_string,
	.refuses = vmbus_refuses,
	.bytes = vmbus_bytes,
	.setup = vmbus_setup,
	.produce = vmbus_produce,
	.consume = vmbus_consume,
	.ping = vmbus_ping,
	.pong = vmbus_pong,
	.teardown = vmbus_teardown,
};
