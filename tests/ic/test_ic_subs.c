/* SPDX-License-Identifier: MIT */
/*
 * A saved state that tells of a sub-channel of a component, which offers none: it is not opened and
 * does not go on, and nothing of the component's own channel changes.
 */
#include "bus/fake.h"

#include <vmbus/ic.h>
#include <vmbus/tap.h>

#define STATE_BYTES 32u

/* Saved as a heartbeat that is in use would be. */
static int impostor_open(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	return vmbus_chan_primary(chan) == chan ? vmbus_chan_offer_subchannels(chan, 1) : 0;
}

static void impostor_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

static int impostor_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	static const uint8_t state[STATE_BYTES] = { 1, 3, [6] = 1, [10] = 3, [14] = 3 };

	(void)chan;
	must(bytes >= STATE_BYTES);
	memcpy(buf, state, STATE_BYTES);
	return (int)STATE_BYTES;
}

static const struct vmbus_vsp impostor = {
	.struct_bytes = sizeof(impostor),
	.name = "impostor",
	.class_id = VMBUS_IC_HEARTBEAT_CLASS,
	.open = impostor_open,
	.packets = impostor_packets,
	.save = impostor_save,
};

static const struct vmbus_guid instance =
	VMBUS_GUID(0xfd149e91, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0);

/* The impostor's channel open, and its sub-channel offered. */
static void begin(struct fake *f, struct fake_chan c[2])
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					       .instance_id = instance };
	struct vmbus_ctl ctl;
	uint32_t got, n;

	memset(c, 0, 2 * sizeof(*c));
	fake_init(f, 128);
	must_eq(vmbus_bus_offer(f->bus, &impostor, NULL, &opts, NULL), 0);
	fake_contact(f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(f, c, 1), 1);
	fake_rings(f, &c[0], 2, 2);
	c[0].gpadl = f->next_gpadl++;
	must_eq(fake_share(f, c[0].relid, c[0].gpadl, c[0].first, 4), 0);
	fake_post_open(f, &c[0], 0);
	for (n = 0; n < 2; n++) {
		got = fake_take(f, &ctl);
		if (got == VMBUS_CTL_OFFER)
			c[1] = (struct fake_chan){ .fake = f,
						   .relid = ctl.u.offer.relid,
						   .conn = ctl.u.offer.conn_id };
		else
			must_eq(got, VMBUS_CTL_OPEN_RESULT);
	}
	must(c[1].relid != 0);
}

static struct vmbus_ic *move(struct fake *f)
{
	const struct vmbus_ic_opts opts = { .struct_bytes = sizeof(opts),
					    .components = VMBUS_IC_HEARTBEAT };
	const size_t all = f->pages * FAKE_PAGE;
	uint8_t *const copy = malloc(all);
	struct vmbus_ic *ic;
	size_t bytes, again;
	char why[160];
	void *state;

	must_eq(vmbus_bus_save(f->bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	must(copy && state);
	must_eq(vmbus_bus_save(f->bus, state, bytes, &again), 0);
	memcpy(copy, f->mem, all);
	vmbus_bus_destroy(f->bus);
	memcpy(f->mem, copy, all);
	fake_create(f);
	must_eq(vmbus_ic_create(f->bus, &opts, &ic), 0);
	must_eq(vmbus_bus_restore(f->bus, state, bytes, why, sizeof(why)), 0);
	free(state);
	free(copy);
	return ic;
}

START_TEST(ic__sub_channel_that_it_never_offered)
{
	const struct vmbus_msg msg = {
		.type = VMBUS_PKT_COMPLETION, .id = 1, .data = "12345678", .len = 8
	};
	const bool open = _i == 1;
	struct vmbus_chan_info info;
	struct vmbus_ic *ic;
	struct vmbus_ctl ctl;
	struct fake_chan c[2];
	struct fake f;

	begin(&f, c);
	if (open)
		must_eq(fake_open(&f, &c[1], 2, 2), 0);
	ic = move(&f);
	if (open) {
		fake_expect(&f, VMBUS_CTL_RESCIND, &ctl);
		must_eq(ctl.u.chan.relid, c[1].relid);
	} else {
		must(fake_open(&f, &c[1], 2, 2) != 0);
	}
	must_eq(vmbus_ring_tx_put(&c[0].tx, &msg, 1), 1);
	(void)vmbus_bus_signal_event(f.bus, c[0].conn, 0);
	fake_run(&f);
	vmbus_chan_info(vmbus_chan_find(f.bus, c[0].relid), &info);
	must_eq(info.bad_completions, 1);
	fake_chan_free(&c[0]);
	fake_chan_free(&c[1]);
	fake_fini(&f);
	vmbus_ic_destroy(ic);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "subs", 20);

	tcase_add_loop_test(tc, ic__sub_channel_that_it_never_offered, 0, 2);
}
VMBUS_TEST_MAIN("ic.ic_subs", tests)
