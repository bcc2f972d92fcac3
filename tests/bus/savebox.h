/* SPDX-License-Identifier: MIT */
/* A bus with one or two devices that is saved and goes on in another, and their child. */
#ifndef VMBUS_TESTS_BUS_SAVEBOX_H
#define VMBUS_TESTS_BUS_SAVEBOX_H

#include "bank.h"

struct box {
	struct fake f;
	struct bank_ctx bank[2];
	struct vmbus_chan *chan[2];
	struct fake_chan c[2];
	struct vmbus_vsp vsp;
	uint32_t second; /* instance of the other device, 0: none */
	bool own_fd;
	uint32_t monitor_us;
	uint8_t *state;
	size_t bytes;
};

static inline void create(struct box *b)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					 .own_fd = b->own_fd,
					 .monitor_us = b->monitor_us };

	fake_create(&b->f);
	opts.instance_id.b[0] = 1;
	must_eq(vmbus_bus_offer(b->f.bus, &b->vsp, &b->bank[0], &opts, &b->chan[0]), 0);
	opts.instance_id.b[0] = (uint8_t)b->second;
	opts.order = 1;
	opts.own_fd = false;
	opts.monitor_us = 0;
	if (b->second)
		must_eq(vmbus_bus_offer(b->f.bus, &b->vsp, &b->bank[1], &opts, &b->chan[1]), 0);
}

static inline void begin(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->vsp = bank_vsp;
	b->second = 2;
	fake_prepare(&b->f, 128);
}

/* Both channels open, a request kept. */
static inline void live(struct box *b)
{
	uint32_t i;

	create(b);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 2), b->second ? 2 : 1);
	for (i = 0; i < (b->second ? 2u : 1u); i++)
		must_eq(fake_open(&b->f, &b->c[i], 2, 2), 0);
}

static inline void take_state(struct box *b)
{
	size_t again;

	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &b->bytes), VMBUS_E_RANGE);
	free(b->state);
	b->state = malloc(b->bytes);
	must(b->state != NULL);
	must_eq(vmbus_bus_save(b->f.bus, b->state, b->bytes, &again), 0);
	must_eq(again, b->bytes);
}

/* Save, destroy, and make a new bus with what is offered now; the memory stays as it was. */
static inline void move(struct box *b)
{
	uint8_t *copy = malloc(b->f.pages * FAKE_PAGE);

	must(copy != NULL);
	take_state(b);
	memcpy(copy, b->f.mem, b->f.pages * FAKE_PAGE);
	vmbus_bus_destroy(b->f.bus);
	memcpy(b->f.mem, copy, b->f.pages * FAKE_PAGE);
	free(copy);
	memset(b->bank, 0, sizeof(b->bank));
	b->f.removed = 0;
	create(b);
}

static inline int restore(struct box *b)
{
	char why[160] = "x";
	const int err = vmbus_bus_restore(b->f.bus, b->state, b->bytes, why, sizeof(why));

	must((err == 0) == (why[0] == '\0'));
	return err;
}

static inline void end(struct box *b)
{
	fake_chan_free(&b->c[0]);
	fake_chan_free(&b->c[1]);
	fake_fini(&b->f);
	must_eq(vmbus_region_pins(&b->f.region), 0);
	free(b->state);
}

static inline uint64_t ask(struct box *b, uint32_t at, uint32_t op)
{
	static uint64_t seq;
	const struct bank_request req = { op, 0, ++seq };

	must_eq(fake_send(&b->c[at], seq, &req, sizeof(req)), 1);
	return seq;
}

static inline void must_answer(struct box *b, uint32_t at)
{
	struct vmbus_packet pkt;

	fake_run(&b->f);
	must_eq(fake_receive(&b->c[at], &pkt, 1), 1);
	must_eq(pkt.type, VMBUS_PKT_COMPLETION);
}

#endif
