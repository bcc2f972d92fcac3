/* SPDX-License-Identifier: MIT */
/*
 * The table of connection ids against a plain list, with ids that meet in one place.
 */
#include "bus/bus.h"

#include <stdlib.h>

#include "fake.h"
#include "vmbus_test.h"

#define IDS 64u

static uint32_t seed = 1;

static uint32_t next(uint32_t n)
{
	seed = (uint32_t)((seed * 1103515245ull + 12345u) % 2147483648ull);
	return seed / 8u % n;
}

START_TEST(conns__as_a_list)
{
	struct vmbus_bus *bus = calloc(1, sizeof(*bus));
	uint32_t id[IDS], slot[IDS];
	uint32_t i, round, used = 0;
	const uint32_t rounds = vmbus_test_full() ? 2000000 : 100000;

	must(bus != NULL);
	for (i = 0; i < IDS; i++) {
		/* Few places, so that most of them meet. */
		id[i] = (i % 4u) * 4096u * 7u + 4090u + i / 8u;
		slot[i] = UINT32_MAX;
	}
	for (i = 0; i < IDS; i++)
		id[i] += i / 4u % 2u * 4096u * 64u;
	for (round = 0; round < rounds; round++) {
		const uint32_t k = next(IDS), s = next(2047);

		if (slot[k] == UINT32_MAX) {
			must_eq(vmbus__conn_add(bus, id[k], s), 0);
			slot[k] = s;
			used++;
		} else if (next(4) == 0) {
			must_eq(vmbus__conn_add(bus, id[k], slot[k]), 0); /* again is no change */
			must_eq(vmbus__conn_add(bus, id[k], (slot[k] + 1) % 2047), VMBUS_E_STATE);
			vmbus__conn_remove(bus, id[k], (slot[k] + 1) % 2047); /* another's */
		} else {
			vmbus__conn_remove(bus, id[k], slot[k]);
			slot[k] = UINT32_MAX;
			used--;
		}
		vmbus_test_at("round %u", round);
		for (i = 0; i < IDS; i++)
			must_eq(vmbus__conn_find(bus, id[i]),
				slot[i] == UINT32_MAX ? -1 : (int)slot[i]);
	}
	for (i = 0; i < IDS; i++)
		if (slot[i] != UINT32_MAX)
			vmbus__conn_remove(bus, id[i], slot[i]);
	/* Nothing is left behind that a look would have to pass. */
	for (i = 0; i < VMBUS__RELIDS * 2u; i++)
		must_eq(vmbus__ld64_relaxed(&bus->conns[i]), 0);
	must(used <= IDS);
	free(bus);
}
END_TEST

START_TEST(conns__full)
{
	struct vmbus_bus *bus = calloc(1, sizeof(*bus));
	uint32_t i;

	must(bus != NULL);
	for (i = 0; i < VMBUS__RELIDS * 2u; i++)
		must_eq(vmbus__conn_add(bus, 77u + i * 3u, i % 2047u), 0);
	must_eq(vmbus__conn_add(bus, 5, 1), VMBUS_E_FULL);
	must_eq(vmbus__conn_find(bus, 5), -1);
	must_eq(vmbus__conn_find(bus, UINT32_MAX), -1);
	for (i = 0; i < VMBUS__RELIDS * 2u; i++)
		must_eq(vmbus__conn_find(bus, 77u + i * 3u), i % 2047u);
	free(bus);
}
END_TEST

/* A signal that looked it up meanwhile may still hold it: it is freed later, not at once. */
START_TEST(bus_offer__buries_what_it_refuses)
{
	struct vmbus_chan *chan = NULL;
	struct fake_echo echo = { 0 };
	struct fake f;

	fake_prepare(&f, 64);
	f.opts.limits.struct_bytes = sizeof(f.opts.limits);
	f.opts.limits.chans_max = 1;
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), 0);
	must(f.bus->graveyard == NULL);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), VMBUS_E_FULL);
	must(f.bus->graveyard != NULL);
	must(f.bus->graveyard->next == NULL);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "conns", 20);

	tcase_add_test(tc, conns__as_a_list);
	tcase_add_test(tc, conns__full);
	tcase_add_test(tc, bus_offer__buries_what_it_refuses);
}

VMBUS_TEST_MAIN("bus.conns", tests)
