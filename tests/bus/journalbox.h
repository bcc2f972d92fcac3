/* SPDX-License-Identifier: MIT */
/*
 * A child that counts what comes back, a device that pends, and a bus that goes on from a journal:
 * all that outlives a process is an image, memory of the child and journal, which can be copied at
 * any moment and given to another bus.
 *
 * Requests have ids from 1 on and payloads that tell them.  Odd ones want a completion; even ones
 * are sent back as they are.
 */
#ifndef VMBUS_TESTS_BUS_JOURNALBOX_H
#define VMBUS_TESTS_BUS_JOURNALBOX_H

#include "fake.h"

#include <vmbus/echo.h>

#define JB_PAGES 64u
#define JB_UP 3u /* pages of the rings */
#define JB_DOWN 2u
#define JB_FIRST 8u /* page of the first ring */
#define JB_IDS 16384u
#define JB_PENDING 6u
#define JB_BYTES 320u
#define JB_OWN 64u

/* What the child knows of its requests; it does not die. */
struct jb_child {
	uint64_t sent;
	uint64_t came;
	uint8_t seen[JB_IDS];
	uint64_t last_plain; /* of those that are sent back as they are: they keep their order */
};

/* A device that answers at once, or later. */
struct jb_dev {
	struct vmbus_chan *chan;
	bool later;
	bool both; /* every third later */
	uint64_t queue[256];
	uint32_t head, tail;
	uint32_t opens, closes, delivered;
	bool resumed;
};

struct jb {
	struct fake f;
	struct fake_chan c;
	struct jb_dev dev;
	const struct vmbus_vsp *vsp;
	struct vmbus_chan *chan;
	uint8_t *journal;
	size_t journal_bytes;
	int err; /* of the open: a status */
};

/* All that outlives a process. */
struct jb_image {
	uint8_t mem[JB_PAGES * 4096];
	uint8_t journal[4096 * 40];
	struct jb_child child;
};

/* The number of the commit that counts: 0, the journal tells of a closed channel. */
#define JB_ACTIVE(journal) (((const uint64_t *)(const void *)(journal))[4])

static inline uint32_t jb_len(uint64_t id)
{
	return 8u + (uint32_t)(id * 37 % 30) * 8u;
}

static inline void jb_fill(uint8_t *to, uint64_t id)
{
	uint32_t i;

	memcpy(to, &id, 8);
	for (i = 8; i < jb_len(id); i++)
		to[i] = (uint8_t)(id * 7 + i);
}

/* ---- devices ---- */

static inline int jb_answer(struct vmbus_chan *chan, uint64_t id)
{
	uint8_t data[JB_BYTES];
	struct vmbus_msg msg = {
		.id = id, .data = data, .len = jb_len(id), .type = VMBUS_PKT_INBAND
	};
	int err;

	jb_fill(data, id);
	if (id % 2)
		return vmbus_chan_complete(chan, id, data, msg.len);
	err = vmbus_chan_send(chan, &msg, 1);
	return err < 0 ? err : 0;
}

/*
 * Answer what is queued.  Outside of callbacks only what wants a completion: to send a message and to
 * be done with a request are two steps there.
 */
static inline void jb_pay(struct jb_dev *dev, uint32_t n, bool in_callback)
{
	for (; dev->head != dev->tail && n; n--) {
		const uint64_t id = dev->queue[dev->head % 256];
		int err;

		if (id % 2 == 0 && !in_callback)
			return;
		err = jb_answer(dev->chan, id);
		if (err == VMBUS_E_FULL)
			return;
		must_eq(err, 0);
		if (id % 2 == 0)
			vmbus_chan_pend_done(dev->chan, id);
		dev->head++;
	}
}

static inline void jb_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct jb_dev *dev = vmbus_chan_ctx(chan);
	uint8_t data[JB_BYTES];

	dev->delivered++;
	jb_fill(data, pkt->id);
	must_eq(pkt->len, jb_len(pkt->id));
	must(memcmp(pkt->payload, data, pkt->len) == 0);
	must_eq(pkt->flags, pkt->id % 2);
	if (pkt->id % 2 == 0 || !dev->later || (dev->both && pkt->id % 3)) {
		const int err = jb_answer(chan, pkt->id);

		if (err == 0)
			return;
		must_eq(err, VMBUS_E_FULL);
	}
	must_eq(vmbus_chan_pend(chan, pkt), 0);
	must(dev->tail - dev->head < 256);
	dev->queue[dev->tail++ % 256] = pkt->id;
}

static inline void jb_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct jb_dev *dev = vmbus_chan_ctx(chan);

	if (dev->both) /* in one commit with what is pended now */
		jb_pay(dev, 2, true);
	vmbus_chan_each(chan, pkt, n, jb_packet);
}

static inline void jb_writable(struct vmbus_chan *chan)
{
	jb_pay(vmbus_chan_ctx(chan), UINT32_MAX, true);
}

static inline int jb_dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct jb_dev *dev = ctx;

	dev->chan = chan;
	dev->head = dev->tail = 0;
	dev->opens++;
	dev->resumed = vmbus_chan_resumed(chan);
	return 0;
}

static inline int jb_dev_close(struct vmbus_chan *chan)
{
	((struct jb_dev *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp jb_vsp = {
	.struct_bytes = sizeof(jb_vsp),
	.name = "jb",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 9),
	.flags = VMBUS_VSP_RESUMABLE,
	.pending_max = JB_PENDING,
	.pending_bytes = JB_BYTES,
	.own_bytes = JB_OWN,
	.open = jb_dev_open,
	.packets = jb_packets,
	.writable = jb_writable,
	.close = jb_dev_close,
};

/* ---- the bus ---- */

/* The child's ends, as the indices in memory are; it gives back what it reads at once. */
static inline void jb_rings(struct jb *b)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = fake_child_signal,
					.signal_ctx = &b->c };

	b->c.fake = &b->f;
	b->c.first = JB_FIRST;
	b->c.up = JB_UP;
	b->c.down = JB_DOWN;
	fake_mem_init(&b->f, &b->c.tx_mem, JB_FIRST, JB_UP);
	fake_mem_init(&b->f, &b->c.rx_mem, JB_FIRST + JB_UP, JB_DOWN);
	must_eq(vmbus_ring_tx_init(&b->c.tx, &b->c.tx_mem, &opts), 0);
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(b->c.rx_mem.size_p);
	if (!b->c.buf)
		b->c.buf = aligned_alloc(64, (opts.buf_bytes + 63) / 64 * 64);
	opts.buf = b->c.buf;
	must_eq(vmbus_ring_rx_init(&b->c.rx, &b->c.rx_mem, &opts), 0);
	must(vmbus_ring_rx_arm(&b->c.rx) >= 0);
}

/* Memory of a child, before there is a bus; journal: memory of the caller's, or NULL for ours. */
static inline void jb_prepare(struct jb *b, const struct vmbus_vsp *vsp, void *journal)
{
	memset(b, 0, sizeof(*b));
	b->vsp = vsp;
	fake_prepare(&b->f, JB_PAGES);
	b->journal_bytes = vmbus_journal_bytes(vsp);
	must(b->journal_bytes > 0 && b->journal_bytes <= sizeof(((struct jb_image *)0)->journal));
	b->journal = journal;
	if (!journal) {
		b->journal = mmap(NULL, b->journal_bytes, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		must(b->journal != MAP_FAILED);
	}
}

/* A bus on it, up to the page list of the rings. */
static inline void jb_offer(struct jb *b)
{
	fake_create(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, b->vsp, &b->dev, NULL, &b->chan), 0);
	must_eq(vmbus_chan_set_journal(b->chan, b->journal, b->journal_bytes), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
	jb_rings(b);
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, JB_FIRST, JB_UP + JB_DOWN), 0);
}

static inline void jb_open(struct jb *b)
{
	struct vmbus_ctl ctl;

	fake_post_open(&b->f, &b->c, 0);
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	b->err = (int)ctl.u.result.status;
}

static inline void jb_new(struct jb *b, const struct vmbus_vsp *vsp)
{
	struct vmbus_ring_mem up, down;

	jb_prepare(b, vsp, NULL);
	fake_mem_init(&b->f, &up, JB_FIRST, JB_UP);
	fake_mem_init(&b->f, &down, JB_FIRST + JB_UP, JB_DOWN);
	vmbus_ring_mem_clear(&up);
	vmbus_ring_mem_clear(&down);
	jb_offer(b);
	jb_open(b);
	must_eq(b->err, 0);
}

static inline void jb_save(const struct jb *b, struct jb_image *to)
{
	memcpy(to->mem, b->f.mem, sizeof(to->mem));
	memcpy(to->journal, b->journal, b->journal_bytes);
}

/* A new process's bus on an image, up to the page list. */
static inline void jb_from(struct jb *b, const struct vmbus_vsp *vsp, const struct jb_image *from)
{
	jb_prepare(b, vsp, NULL);
	memcpy(b->f.mem, from->mem, sizeof(from->mem));
	memcpy(b->journal, from->journal, b->journal_bytes);
	jb_offer(b);
}

static inline void jb_free(struct jb *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
	munmap(b->journal, b->journal_bytes);
}

/* ---- the child ---- */

/* Send up to n requests; returns how many there was room for. */
static inline uint32_t jb_send(struct jb *b, struct jb_child *child, uint32_t n)
{
	uint8_t data[JB_BYTES];
	uint32_t done;

	for (done = 0; done < n; done++) {
		const uint64_t id = child->sent + 1;
		const struct vmbus_msg msg = { .id = id,
					       .data = data,
					       .len = jb_len(id),
					       .type = VMBUS_PKT_INBAND,
					       .flags = id % 2 };
		int sent;

		must(id < JB_IDS);
		jb_fill(data, id);
		sent = vmbus_ring_tx_put(&b->c.tx, &msg, 1);
		if (sent == VMBUS_E_FULL)
			break;
		must_eq(sent, 1);
		child->sent++;
	}
	return done;
}

/* Take up to n answers: each is one that is owed, and whole. */
static inline uint32_t jb_take(struct jb *b, struct jb_child *child, uint32_t n)
{
	uint8_t data[JB_BYTES];
	struct vmbus_packet pkt;
	uint32_t done;

	for (done = 0; done < n; done++) {
		const int got = fake_receive(&b->c, &pkt, 1);

		if (got == 0)
			break;
		must_eq(got, 1);
		vmbus_test_at("answer to %llu of %llu", (unsigned long long)pkt.id,
			      (unsigned long long)child->sent);
		must(pkt.id >= 1 && pkt.id <= child->sent);
		must_eq(child->seen[pkt.id], 0);
		child->seen[pkt.id] = 1;
		child->came++;
		must_eq(pkt.type, pkt.id % 2 ? VMBUS_PKT_COMPLETION : VMBUS_PKT_INBAND);
		jb_fill(data, pkt.id);
		must_eq(pkt.len, jb_len(pkt.id));
		must(memcmp(pkt.payload, data, pkt.len) == 0);
		must_eq(vmbus_ring_rx_consume(&b->c.rx), 0);
	}
	return done;
}

/* Until all is answered: the device pays, the child takes. */
static inline void jb_drain(struct jb *b, struct jb_child *child)
{
	uint32_t rounds = 0;

	while (child->came != child->sent) {
		fake_run(&b->f);
		jb_pay(&b->dev, 3, false);
		(void)jb_take(b, child, 5);
		must(++rounds < 20000);
	}
	fake_run(&b->f);
	must_eq(jb_take(b, child, 1), 0);
}

#endif
