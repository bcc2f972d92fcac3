/* SPDX-License-Identifier: MIT */
/*
 * The control of the NIC goes on in another process, from a saved state: after each step of the
 * initialisation, with sub-channels, with answers that wait; and states that cannot be.
 */
#include "netbox.h"

#include "../channel/srv_state_check.h"

static void new_net(struct netbox *b)
{
	vmbus_net_destroy(b->net);
	must_eq(vmbus_net_create(&b->opts, &b->net), 0);
}

struct saved {
	uint8_t *state, *mem;
	size_t bytes;
};

static void save(struct netbox *b, struct saved *s)
{
	const size_t all = b->f.pages * FAKE_PAGE;
	size_t again;

	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &s->bytes), VMBUS_E_RANGE);
	s->state = malloc(s->bytes);
	s->mem = malloc(all);
	must(s->state && s->mem);
	must_eq(vmbus_bus_save(b->f.bus, s->state, s->bytes, &again), 0);
	memcpy(s->mem, b->f.mem, all);
	vmbus_bus_destroy(b->f.bus);
	memcpy(b->f.mem, s->mem, all);
}

static int restore(struct netbox *b, struct saved *s)
{
	char why[160];
	int err;

	new_net(b);
	fake_create(&b->f);
	nb_offer(b);
	err = vmbus_bus_restore(b->f.bus, s->state, s->bytes, why, sizeof(why));
	free(s->state);
	free(s->mem);
	return err;
}

static void move(struct netbox *b)
{
	struct saved s;

	save(b, &s);
	must_eq(restore(b, &s), 0);
	fake_run(&b->f);
}

START_TEST(net_state__goes_on_after_each_step)
{
	struct vmbus_net_state before, after;
	struct netbox b;

	nb_prepare(&b);
	b.mtu = 9014;
	b.caps = 8 + 128;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, (uint32_t)_i);
	vmbus_net_state(b.net, &before);
	move(&b);
	vmbus_net_state(b.net, &after);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	nb_steps(&b, (uint32_t)_i, NB_STEPS);
	must_eq(nb_number(&b, 0x00010106), 9000);
	nb_end(&b);
}
END_TEST

static void set_all(struct netbox *b)
{
	uint8_t offloads[28] = { 0x80, 3, 28, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2, [22] = 2, [23] = 2 };
	uint8_t rss[592] = { 0x89, 2, 40 }, name[72] = { 20 };
	uint32_t i;

	must_eq(nb_set(b, 0xFC01020C, offloads, sizeof(offloads)), 0);
	must(nb_message(b) != NULL);
	nb_put(rss + 8, 4, 0x1701);
	nb_put(rss + 12, 2, 512);
	nb_put(rss + 16, 4, 40);
	nb_put(rss + 20, 2, 40);
	nb_put(rss + 24, 4, 552);
	for (i = 0; i < 128; i++)
		nb_put(rss + 40 + 4 * i, 4, i % 3);
	memset(rss + 552, 0x5A, 40);
	must_eq(nb_set(b, 0x00010204, rss, sizeof(rss)), 0);
	nb_put(name + 4, 4, 28);
	nb_put(name + 8, 4, 2);
	nb_put(name + 12, 4, 48);
	nb_put(name + 16, 4, 24);
	for (i = 0; i < 14; i++)
		name[20 + 2 * i] = (uint8_t) "NetworkAddress"[i];
	for (i = 0; i < 12; i++)
		name[48 + 2 * i] = (uint8_t) "0A0B0C0D0E0F"[i];
	must_eq(nb_set(b, 0x0001021B, name, sizeof(name)), 0);
}

START_TEST(net_state__keeps_what_was_set)
{
	static const uint8_t mac[6] = { 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F };
	struct vmbus_net_state before, after;
	struct netbox b;

	nb_prepare(&b);
	b.caps = 8 + 128;
	b.opts.subchannels = 2;
	nb_start(&b);
	nb_subs(&b, 2);
	(void)nb_run(&b, 0);
	set_all(&b);
	vmbus_net_state(b.net, &before);
	must(before.rss && before.rsc);
	move(&b);
	vmbus_net_state(b.net, &after);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	ck_assert_mem_eq(after.mac, mac, 6);
	ck_assert_mem_eq(b.port.config.mac, mac, 6);
	must(b.port.config.running);
	must_eq(b.inbands, 1); /* the table is not told again */
	must_eq(nb_number(&b, 0x0001010E), 0x0D);
	must_eq(b.inbands, 1);
	nb_end(&b);
}
END_TEST

START_TEST(net_state__keeps_answers_that_wait)
{
	uint8_t msg[28] = { 4, 0, 0, 0, 28 };
	struct netbox b;
	uint32_t i;

	nb_prepare(&b);
	nb_start(&b);
	b.taken = b.messages = 0;
	b.keep = true;
	nb_put(msg + 12, 4, 0x00010106);
	for (i = 0; i < 40; i++) {
		nb_put(msg + 8, 4, i);
		must_eq(nb_rndis(&b, 0, true, msg, sizeof(msg)), 1);
	}
	must_eq(b.messages, 16);
	move(&b);
	must_eq(nb_run(&b, 0), 0);
	b.keep = false;
	for (i = 0; i < 16; i++)
		nb_return(&b, 0, b.message[i].id);
	(void)nb_run(&b, 0);
	must_eq(b.messages, 40);
	for (i = 0; i < 40; i++)
		must_eq(nb_32(b.message[i].msg + 8), i);
	nb_end(&b);
}
END_TEST

/* Another send section size is not what the guest was told. */
START_TEST(net_state__wants_the_same_sections)
{
	struct vmbus_net_state state;
	struct saved s;
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	save(&b, &s);
	b.opts.section_bytes = 4096;
	(void)restore(&b, &s);
	fake_run(&b.f);
	vmbus_net_state(b.net, &state);
	must_eq(state.channels, 0);
	nb_end(&b);
}
END_TEST

/* Every byte of the state is something else: an error, or a NIC that goes on, never more. */
START_TEST(net_state__any_byte_changed)
{
	static const uint8_t with[] = { 0xFF, 0x01, 0x80 };
	struct saved s, t;
	struct netbox b;
	size_t i, from, all;

	nb_prepare(&b);
	b.pages = 320;
	b.rx_pages = 32;
	b.caps = 8 + 128;
	b.opts.subchannels = 2;
	nb_start(&b);
	nb_subs(&b, 2);
	(void)nb_run(&b, 0);
	set_all(&b);
	all = b.f.pages * FAKE_PAGE;
	save(&b, &s);
	new_net(&b);
	from = s.bytes * (size_t)_i / 8;
	for (i = from; i < s.bytes * ((size_t)_i + 1) / 8; i++) {
		char why[160];

		vmbus_test_at("byte %zu", i);
		t = s;
		t.state = malloc(s.bytes);
		must(t.state != NULL);
		memcpy(t.state, s.state, s.bytes);
		t.state[i] ^= with[i % 3];
		state_mend(t.state, t.bytes);
		memcpy(b.f.mem, s.mem, all);
		fake_create(&b.f);
		nb_offer(&b);
		if (vmbus_bus_restore(b.f.bus, t.state, t.bytes, why, sizeof(why)) == 0)
			fake_run(&b.f);
		free(t.state);
		vmbus_bus_destroy(b.f.bus);
		b.f.posted = b.f.taken = 0;
	}
	free(s.state);
	free(s.mem);
	fake_create(&b.f);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "state", 60);

	tcase_add_loop_test(tc, net_state__goes_on_after_each_step, 0, NB_STEPS + 1);
	tcase_add_test(tc, net_state__keeps_what_was_set);
	tcase_add_test(tc, net_state__keeps_answers_that_wait);
	tcase_add_test(tc, net_state__wants_the_same_sections);
	tcase_add_loop_test(tc, net_state__any_byte_changed, 0, 8);
}
VMBUS_TEST_MAIN("net.state", tests)
