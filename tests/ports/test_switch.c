/* SPDX-License-Identifier: MIT */
/* The learning switch: NICs of this process, and ports plugged in. */
#include <pthread.h>
#include <sched.h>

#include <vmbus/switch.h>

#include "nic.h"
#include "switch/switch.h"

#define NICS 4

static struct vmbus_switch *sw;
static struct vmbus_port port[NICS];
static struct nic nic[NICS];

static void make(const struct vmbus_switch_opts *opts, int nics)
{
	char name[8];
	int i;

	must_eq(vmbus_switch_create(opts, &sw), 0);
	for (i = 0; i < nics; i++) {
		(void)snprintf(name, sizeof(name), "nic%u", (unsigned int)i % 1000u);
		must_eq(vmbus_switch_port(sw, name, &port[i]), 0);
		nic_open(&nic[i], &port[i]);
		must_eq(nic_take(&nic[i]), 0);
	}
}

static void unmake(int nics)
{
	int i;

	for (i = 0; i < nics; i++) {
		nic_close(&nic[i]);
		vmbus_port_destroy(&port[i]);
	}
	vmbus_switch_destroy(sw);
}

static struct vmbus_switch_stats stats_of(uint32_t number)
{
	struct vmbus_switch_stats stats;

	must_eq(vmbus_switch_stats(sw, number, &stats), 1);
	return stats;
}

/* Let the switch learn that NIC i has address i + 1. */
static void teach(int nics)
{
	int i;

	for (i = 0; i < nics; i++)
		nic_send(&nic[i], i + 1, 255, 0);
	for (i = 0; i < nics; i++) {
		(void)nic_take(&nic[i]);
		nic_clear(&nic[i]);
	}
}

/* ---- making ---- */

START_TEST(switch_create__refuses_numbers)
{
	const struct vmbus_switch_opts good = { .struct_bytes = sizeof(good) };
	struct vmbus_switch_opts opts = good;

	sw = NULL;
	opts.struct_bytes--;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_INVAL);
	opts = good;
	opts.ports = VMBUS_SWITCH_PORTS_MAX + 1;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts = good;
	opts.addresses = 32;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts.addresses = 96;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts.addresses = 131072;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts = good;
	opts.queue_bytes = 65536;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts.queue_bytes = 33554432;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	opts.queue_bytes = 196608;
	ck_assert_int_eq(vmbus_switch_create(&opts, &sw), VMBUS_E_RANGE);
	ck_assert_ptr_null(sw);
	vmbus_switch_destroy(NULL);
}
END_TEST

START_TEST(switch_port__refuses_names_and_one_too_many)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .ports = 2 };
	struct vmbus_switch_stats stats;
	struct vmbus_port other;

	make(&opts, 2);
	ck_assert_int_eq(vmbus_switch_port(sw, "third", &other), VMBUS_E_FULL);
	ck_assert_int_eq(vmbus_switch_port(sw, NULL, &other), VMBUS_E_INVAL);
	ck_assert_int_eq(vmbus_switch_port(sw, "", &other), VMBUS_E_INVAL);
	ck_assert_int_eq(vmbus_switch_port(sw, "line\n", &other), VMBUS_E_INVAL);
	ck_assert_int_eq(vmbus_switch_port(sw, "12345678901234567890123456789012", &other),
			 VMBUS_E_INVAL);
	ck_assert_int_eq(vmbus_switch_stats(sw, 2, &stats), VMBUS_E_RANGE);
	nic_close(&nic[1]);
	vmbus_port_destroy(&port[1]);
	ck_assert_int_eq(vmbus_switch_stats(sw, 1, &stats), 0);
	ck_assert_int_eq(vmbus_switch_port(sw, "1234567890123456789012345678901", &port[1]), 0);
	ck_assert_str_eq(stats_of(1).name, "1234567890123456789012345678901");
	nic_open(&nic[1], &port[1]);
	unmake(2);
}
END_TEST

START_TEST(switch_port__is_opened_once)
{
	struct nic second;

	make(NULL, 1);
	ck_assert_int_eq(nic_try_open(&second, &port[0], 0), VMBUS_E_STATE);
	nic_close(&nic[0]);
	ck_assert_int_eq(nic_try_open(&second, &port[0], 1), VMBUS_E_STATE);
	ck_assert_int_eq(nic_try_open(&nic[0], &port[0], 0), 0);
	unmake(1);
}
END_TEST

/* ---- learning ---- */

START_TEST(switch__floods_until_it_knows)
{
	int i;

	make(NULL, 3);
	nic_send(&nic[0], 1, 2, 7); /* 2 is not known */
	for (i = 0; i < 3; i++)
		ck_assert_uint_eq(nic_take(&nic[i]), i ? 1 : 0);
	nic_send(&nic[1], 2, 1, 8); /* 1 is, now */
	ck_assert_uint_eq(nic_take(&nic[0]), 1);
	ck_assert_uint_eq(nic_take(&nic[2]), 0);
	nic_send(&nic[0], 1, 2, 9);
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	ck_assert_uint_eq(nic_take(&nic[2]), 0);
	ck_assert_uint_eq(nic_number(&nic[1], 1), 9);
	ck_assert_uint_eq(stats_of(0).flooded, 1);
	ck_assert_uint_eq(stats_of(0).in_frames, 2);
	ck_assert_uint_eq(stats_of(0).in_bytes, 120);
	ck_assert_uint_eq(stats_of(1).out_frames, 2);
	ck_assert_uint_eq(stats_of(1).out_bytes, 120);
	ck_assert_uint_eq(stats_of(1).addresses, 1);
	unmake(3);
}
END_TEST

START_TEST(switch__never_sends_a_frame_back)
{
	make(NULL, 2);
	teach(2);
	nic_send(&nic[0], 1, 1, 0); /* to itself */
	nic_send(&nic[0], 3, 1, 0); /* two addresses behind one port */
	ck_assert_uint_eq(nic_take(&nic[0]) + nic_take(&nic[1]), 0);
	ck_assert_uint_eq(stats_of(0).nowhere, 2);
	nic_send(&nic[0], 1, 255, 0);
	ck_assert_uint_eq(nic_take(&nic[0]), 0);
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	unmake(2);
}
END_TEST

START_TEST(switch__follows_an_address_that_moves)
{
	make(NULL, 3);
	teach(3);
	nic_send(&nic[2], 1, 255, 0); /* 1 is behind 2 now */
	(void)nic_take(&nic[0]);
	nic_clear(&nic[0]);
	nic_send(&nic[1], 2, 1, 5);
	ck_assert_uint_eq(nic_take(&nic[0]), 0);
	ck_assert_uint_eq(nic_take(&nic[2]), 1);
	ck_assert_uint_eq(stats_of(2).moved, 1);
	ck_assert_uint_eq(stats_of(2).addresses, 2);
	ck_assert_uint_eq(stats_of(0).addresses, 0);
	unmake(3);
}
END_TEST

START_TEST(switch_addresses__lists_what_is_known)
{
	static const uint8_t two[6] = { 2, 0, 0, 0, 0, 2 };
	struct vmbus_switch_address list[3];
	int n, i, found = 0;

	make(NULL, 2);
	ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 0);
	teach(2);
	ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 2);
	ck_assert_int_eq(vmbus_switch_addresses(sw, list, 1), 2);
	n = vmbus_switch_addresses(sw, list, 3);
	ck_assert_int_eq(n, 2);
	for (i = 0; i < n; i++)
		if (memcmp(list[i].mac, two, 6) == 0)
			found += list[i].port == 1 && list[i].age_s < 60;
	ck_assert_int_eq(found, 1);
	unmake(2);
}
END_TEST

/* Nanoseconds of the test's own clock would not do: the switch counts seconds. */
static void wait_seconds(unsigned int seconds)
{
	struct timespec time = { .tv_sec = seconds };

	(void)nanosleep(&time, NULL);
}

START_TEST(switch__forgets_a_silent_address_when_it_needs_the_place)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts),
						.age_s = 1,
						.addresses = 64 };
	uint64_t before;
	int i;

	make(&opts, 2);
	for (i = 0; i < 250; i++)
		nic_send(&nic[0], i, 255, 0);
	before = stats_of(0).not_learned;
	ck_assert(before >= 250 - 64);
	ck_assert_uint_eq(stats_of(0).addresses + before, 250);
	wait_seconds(3);
	ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 0);
	for (i = 250; i < 255; i++)
		nic_send(&nic[1], i, 255, 0);
	ck_assert_uint_eq(stats_of(1).not_learned, 0);
	ck_assert_uint_eq(stats_of(1).moved, 0);
	ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 5);
	unmake(2);
}
END_TEST

START_TEST(switch__floods_to_an_address_that_was_silent_for_too_long)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .age_s = 1 };

	make(&opts, 3);
	nic_send(&nic[0], 1, 255, 0);
	nic_send(&nic[1], 2, 1, 0);
	ck_assert_uint_eq(stats_of(1).flooded, 0);
	wait_seconds(3);
	nic_send(&nic[1], 2, 1, 0);
	ck_assert_uint_eq(stats_of(1).flooded, 1);
	unmake(3);
}
END_TEST

START_TEST(switch__gives_up_silent_addresses_of_a_port_that_has_all)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts),
						.age_s = 1,
						.learn_max = 10 };
	int i;

	make(&opts, 2);
	for (i = 1; i <= 10; i++)
		nic_send(&nic[0], i, 255, 0);
	ck_assert_uint_eq(stats_of(0).not_learned, 0);
	wait_seconds(3);
	for (i = 11; i <= 20; i++)
		nic_send(&nic[0], i, 255, 0);
	ck_assert_uint_eq(stats_of(0).not_learned, 0);
	ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 10);
	unmake(2);
}
END_TEST

START_TEST(switch__learns_so_many_from_a_port_and_no_more)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .learn_max = 10 };
	int i;

	make(&opts, 2);
	for (i = 1; i < 100; i++)
		nic_send(&nic[0], i, 255, 0);
	ck_assert_uint_eq(stats_of(0).addresses, 10);
	ck_assert_uint_eq(stats_of(0).not_learned, 89);
	nic_send(&nic[1], 101, 255, 0);
	ck_assert_uint_eq(stats_of(1).addresses, 1);
	unmake(2);
}
END_TEST

/* Who has no room to learn does not keep another one's address young. */
START_TEST(switch__ages_an_address_that_a_full_port_sends_from)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts),
						.age_s = 2,
						.learn_max = 1 };
	struct vmbus_switch_address known[4];
	int i, n;

	make(&opts, 3);
	nic_send(&nic[1], 9, 255, 0);
	for (i = 0; i < 4; i++) {
		nic_send(&nic[0], 1, 255, 0);
		nic_send(&nic[0], 9, 255, 0);
		wait_seconds(1);
	}
	n = vmbus_switch_addresses(sw, known, 4);
	ck_assert_int_le(n, 1); /* the full port's own, if it was heard of in time */
	ck_assert(n == 0 || known[0].mac[5] == 1);
	nic_send(&nic[2], 3, 9, 0);
	ck_assert_uint_eq(stats_of(2).flooded, 1);
	unmake(3);
}
END_TEST

/* Ports that have filled the table together make room for one that has few. */
START_TEST(switch__learns_from_a_port_when_others_have_filled_the_table)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .addresses = 64 };
	uint64_t flooded;
	int i, round;

	make(&opts, 4);
	for (round = 0; round < 4; round++) {
		for (i = 1000; i < 3000; i++) /* so many that no bucket has room */
			nic_send(&nic[i % 3], i, 255, 0);
		if (round) /* they do not drive it out again */
			ck_assert_uint_eq(stats_of(3).addresses, 1);
		ck_assert_int_eq(vmbus_switch_addresses(sw, NULL, 0), 64);
		nic_send(&nic[3], 250, 255, 0);
		ck_assert_uint_eq(stats_of(3).addresses, 1);
	}
	ck_assert_uint_eq(stats_of(3).not_learned, 0);
	flooded = stats_of(0).flooded;
	nic_send(&nic[0], 0, 250, 0);
	ck_assert_uint_eq(stats_of(0).flooded, flooded);
	unmake(4);
}
END_TEST

/* ---- what is dropped ---- */

static void send_bytes(struct nic *from, const uint8_t *bytes, uint32_t len)
{
	const struct vmbus_iov iov = { bytes, len };
	const struct vmbus_frame frame = { .piece = &iov, .pieces = 1, .bytes = len };

	must_eq(from->port.ops->send(&from->queue, &frame, 1), 1);
}

START_TEST(switch__drops_what_is_no_frame_and_what_bridges_keep)
{
	uint8_t bytes[60] = { 1, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 1 };

	make(NULL, 2);
	for (bytes[5] = 0; bytes[5] < 16; bytes[5]++)
		send_bytes(&nic[0], bytes, 60);
	ck_assert_uint_eq(nic_take(&nic[1]), 0);
	ck_assert_uint_eq(stats_of(0).nowhere, 16);
	send_bytes(&nic[0], bytes, 60); /* 01:80:c2:00:00:10 */
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	send_bytes(&nic[0], bytes, 13);
	bytes[6] = 3; /* from a group */
	send_bytes(&nic[0], bytes, 60);
	ck_assert_uint_eq(nic_take(&nic[1]), 0);
	ck_assert_uint_eq(stats_of(0).bad, 2);
	unmake(2);
}
END_TEST

START_TEST(switch__limits_what_goes_to_all)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .flood_max = 100 };
	struct vmbus_switch_stats stats;
	int i;

	make(&opts, 2);
	for (i = 0; i < 1000; i++)
		nic_send(&nic[0], 1, 255, 0);
	stats = stats_of(0);
	ck_assert_uint_eq(stats.flooded + stats.flood_limit, 1000);
	/* Seconds may pass meanwhile. */
	ck_assert(stats.flooded >= 100 && stats.flooded <= 900 && stats.flooded % 100 == 0);
	nic_send(&nic[1], 2, 1, 0); /* what is known is not limited */
	ck_assert_uint_eq(nic_take(&nic[0]), 1);
	unmake(2);
}
END_TEST

/* What is limited is the work: each copy, and a large frame's by its length. */
START_TEST(switch__limits_copies_of_large_frames)
{
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .flood_max = 90 };
	static uint8_t bytes[2048 * 10 - 1] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1 };
	struct vmbus_switch_stats stats;
	int i;

	make(&opts, NICS);
	for (i = 0; i < 100; i++)
		send_bytes(&nic[0], bytes, sizeof(bytes)); /* 10 units, 3 receivers */
	stats = stats_of(0);
	ck_assert_uint_eq(stats.flooded + stats.flood_limit, 100);
	ck_assert(stats.flooded >= 3 && stats.flooded <= 60 && stats.flooded % 3 == 0);
	unmake(NICS);
}
END_TEST

START_TEST(switch__costs_a_slow_receiver_its_own_frames_only)
{
	struct vmbus_switch_stats slow, quick;
	uint32_t i, came = 0;

	make(NULL, 3);
	teach(3);
	for (i = 0; i < 20000; i++) {
		nic_send(&nic[0], 1, 2, i); /* nobody takes these */
		nic_send(&nic[0], 1, 3, i);
		if (i % 64 == 63)
			came += nic_take(&nic[2]);
	}
	came += nic_take(&nic[2]);
	ck_assert_uint_eq(came, 20000);
	slow = stats_of(1);
	quick = stats_of(2);
	ck_assert_uint_eq(quick.no_room, 0);
	ck_assert(slow.no_room > 1000);
	ck_assert_uint_eq(nic_take(&nic[1]) + slow.no_room, 20000);
	unmake(3);
}
END_TEST

START_TEST(switch__gives_nobody_the_frames_of_who_had_the_port_before)
{
	make(NULL, 2);
	teach(2);
	nic_send(&nic[0], 1, 2, 1);
	nic_close(&nic[1]);
	nic_send(&nic[0], 1, 2, 2); /* not known any more, and there is nobody */
	ck_assert_uint_eq(stats_of(1).addresses, 0);
	vmbus_port_destroy(&port[1]);
	must_eq(vmbus_switch_port(sw, "next", &port[1]), 0);
	nic_open(&nic[1], &port[1]);
	ck_assert_uint_eq(nic_take(&nic[1]), 0);
	ck_assert_uint_eq(stats_of(1).out_frames, 0);
	nic_send(&nic[0], 1, 255, 3);
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	ck_assert_uint_eq(nic_number(&nic[1], 0), 3);
	unmake(2);
}
END_TEST

/* One that sends while the port changes its user, and puts a moment too late. */
START_TEST(switch__drops_what_comes_late_for_who_had_the_port_before)
{
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	uint8_t bytes[60];
	uint32_t old;

	make(NULL, 2);
	frame = between(bytes, &iov, 1, 2, 1);
	old = sw->port[1].generation;
	nic_close(&nic[1]);
	nic_open(&nic[1], &port[1]);
	must_eq(vmbus__inbox_put(sw->port[1].inbox, &frame, 1, old), 1);
	nic_send(&nic[0], 1, 2, 2);
	must_eq(vmbus__inbox_put(sw->port[1].inbox, &frame, 1, old), 1);
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	ck_assert_uint_eq(nic_number(&nic[1], 0), 2);
	unmake(2);
}
END_TEST

START_TEST(switch__keeps_offloads_with_their_frames)
{
	static uint8_t bytes[9000];
	struct vmbus_frame frame;
	struct vmbus_iov iov;

	make(NULL, 2);
	frame = between(bytes, &iov, 1, 2, 1);
	frame.bytes = 9000;
	iov.len = 9000;
	frame.flags = VMBUS_FRAME_TSO4 | VMBUS_FRAME_VLAN;
	frame.mss = 1448;
	frame.vlan = 9;
	must_eq(nic[0].port.ops->send(&nic[0].queue, &frame, 1), 1);
	ck_assert_uint_eq(nic_take(&nic[1]), 1);
	ck_assert_uint_eq(nic[1].frame[0].flags, frame.flags);
	ck_assert_uint_eq(nic[1].frame[0].mss, 1448);
	ck_assert_uint_eq(nic[1].frame[0].vlan, 9);
	ck_assert_uint_eq(nic[1].bytes, 9000);
	unmake(2);
}
END_TEST

/* ---- many threads ---- */

struct talker {
	struct nic nic;
	int address;
	uint32_t got[NICS + 1];
	pthread_t thread;
	uint32_t left;
};

static uint32_t talk_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			     uint32_t n)
{
	struct talker *const me = queue->up_p;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint8_t *const bytes = frame[i].piece[0].base;
		uint32_t number;

		memcpy(&number, bytes + 14, 4);
		must_eq(frame[i].bytes, 60);
		must(bytes[11] != me->address && bytes[11] <= NICS);
		must(bytes[0] == 255 || bytes[5] == me->address);
		/* Never back in time, and never twice. */
		must(number > me->got[bytes[11]]);
		me->got[bytes[11]] = number;
	}
	return n;
}

static void *talk(void *arg)
{
	struct talker *const me = arg;
	struct vmbus_frame frame[16];
	struct vmbus_iov iov[16];
	uint8_t bytes[16][60];
	uint32_t number = 0, i;

	while (number < me->left) {
		for (i = 0; i < 16; i++) {
			const int to = (int)(number / 5 % NICS) + 1;

			number++;
			frame[i] = between(bytes[i], &iov[i], me->address,
					   number % 50 == 0 ? 255 : to, number);
		}
		must_eq(me->nic.port.ops->send(&me->nic.queue, frame, 16), 16);
		me->nic.port.ops->ready(&me->nic.queue);
		if (number % 1024 == 0)
			(void)sched_yield();
	}
	return NULL;
}

/* No frame twice, none back in time, none for somebody else, all counted. */
START_TEST(switch__keeps_order_between_many_threads)
{
	static struct talker talker[NICS];
	struct vmbus_switch_stats stats;
	uint64_t in = 0;
	int i;

	must_eq(vmbus_switch_create(NULL, &sw), 0);
	for (i = 0; i < NICS; i++) {
		talker[i].address = i + 1;
		talker[i].left = vmbus_test_full() ? 1000000 : 50000;
		must_eq(vmbus_switch_port(sw, "talker", &port[i]), 0);
		nic_open(&talker[i].nic, &port[i]);
		talker[i].nic.queue.up_p = &talker[i];
		talker[i].nic.queue.deliver_p = talk_deliver;
		nic_send(&talker[i].nic, i + 1, 255, 0);
	}
	for (i = 0; i < NICS; i++) {
		talker[i].nic.queue.up_p = &talker[i].nic;
		talker[i].nic.queue.deliver_p = nic_deliver;
		(void)nic_take(&talker[i].nic);
		talker[i].nic.queue.up_p = &talker[i];
		talker[i].nic.queue.deliver_p = talk_deliver;
	}
	for (i = 0; i < NICS; i++)
		must(!pthread_create(&talker[i].thread, NULL, talk, &talker[i]));
	for (i = 0; i < NICS; i++)
		must(!pthread_join(talker[i].thread, NULL));
	for (i = 0; i < NICS; i++) {
		talker[i].nic.port.ops->ready(&talker[i].nic.queue);
		stats = stats_of((uint32_t)i);
		in += stats.in_frames;
		/* A quarter of what a port sends is for itself. */
		must(stats.nowhere > stats.in_frames / 5);
		nic_close(&talker[i].nic);
		vmbus_port_destroy(&port[i]);
	}
	must(in >= NICS * (uint64_t)talker[0].left);
	vmbus_switch_destroy(sw);
}
END_TEST

static void *come_and_go(void *arg)
{
	struct nic *const me = arg;
	uint32_t i;

	for (i = 0; i < 2000; i++) {
		must_eq(vmbus_switch_port(sw, "guest", &me->port), 0);
		{
			struct vmbus_port own = me->port;

			nic_open(me, &own);
		}
		nic_send(me, 2, 255, i);
		(void)nic_take(me);
		nic_close(me);
		vmbus_port_destroy(&me->port);
	}
	return NULL;
}

START_TEST(switch_port__comes_and_goes_while_others_send)
{
	static struct nic guest;
	struct vmbus_switch_stats stats;
	pthread_t thread;
	uint32_t i;

	make(NULL, 1);
	must(!pthread_create(&thread, NULL, come_and_go, &guest));
	for (i = 0; i < 50000; i++) {
		nic_send(&nic[0], 1, i % 16 ? 2 : 255, i);
		if (i % 64 == 0)
			(void)nic_take(&nic[0]);
		(void)vmbus_switch_stats(sw, 1, &stats);
	}
	must(!pthread_join(thread, NULL));
	unmake(1);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "make", 10);

	tcase_add_test(tc, switch_create__refuses_numbers);
	tcase_add_test(tc, switch_port__refuses_names_and_one_too_many);
	tcase_add_test(tc, switch_port__is_opened_once);
	tc = vmbus_test_case(suite, "learn", 20);
	tcase_add_test(tc, switch__floods_until_it_knows);
	tcase_add_test(tc, switch__never_sends_a_frame_back);
	tcase_add_test(tc, switch__follows_an_address_that_moves);
	tcase_add_test(tc, switch_addresses__lists_what_is_known);
	tcase_add_test(tc, switch__forgets_a_silent_address_when_it_needs_the_place);
	tcase_add_test(tc, switch__learns_so_many_from_a_port_and_no_more);
	tcase_add_test(tc, switch__ages_an_address_that_a_full_port_sends_from);
	tcase_add_test(tc, switch__learns_from_a_port_when_others_have_filled_the_table);
	tcase_add_test(tc, switch__floods_to_an_address_that_was_silent_for_too_long);
	tcase_add_test(tc, switch__gives_up_silent_addresses_of_a_port_that_has_all);
	tc = vmbus_test_case(suite, "drop", 20);
	tcase_add_test(tc, switch__drops_what_is_no_frame_and_what_bridges_keep);
	tcase_add_test(tc, switch__limits_what_goes_to_all);
	tcase_add_test(tc, switch__limits_copies_of_large_frames);
	tcase_add_test(tc, switch__costs_a_slow_receiver_its_own_frames_only);
	tcase_add_test(tc, switch__gives_nobody_the_frames_of_who_had_the_port_before);
	tcase_add_test(tc, switch__drops_what_comes_late_for_who_had_the_port_before);
	tcase_add_test(tc, switch__keeps_offloads_with_their_frames);
	tc = vmbus_test_case(suite, "threads", 30);
	tcase_add_test(tc, switch__keeps_order_between_many_threads);
	tcase_add_test(tc, switch_port__comes_and_goes_while_others_send);
}

VMBUS_TEST_MAIN("ports.switch", tests)
