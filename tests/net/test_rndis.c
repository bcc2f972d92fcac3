/* SPDX-License-Identifier: MIT */
/*
 * RNDIS messages to the NIC: those that are no objects, each cut at every length and with offsets that
 * lie elsewhere, and a guest that does not read its answers.  [NET-RNDIS]
 */
#include "netbox.h"

#define FAILURE 0xC0000001u
#define INVALID_LENGTH 0xC0010014u

static void start(struct netbox *b)
{
	nb_prepare(b);
	nb_start(b);
}

/* ---- messages ---- */

START_TEST(rndis_initialize__tells_the_limits)
{
	uint8_t msg[24] = { 2 };
	const uint8_t *answer;
	struct netbox b;

	nb_prepare(&b);
	b.opts.frames_max = 32;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 5);
	nb_put(msg + 8, 4, 0x1234);
	nb_put(msg + 12, 4, 2); /* a version that there is not */
	answer = nb_control(&b, msg, sizeof(msg));
	must_eq(nb_32(answer + 12), 0xC0010004);
	answer = nb_initialize(&b);
	must_eq(nb_32(answer + 4), 52);
	must_eq(nb_32(answer + 12), 0);
	must_eq(nb_32(answer + 16), 1);
	must_eq(nb_32(answer + 20), 0);
	must_eq(nb_32(answer + 24), 1);
	must_eq(nb_32(answer + 28), 0);
	must_eq(nb_32(answer + 32), 32);
	must(nb_32(answer + 36) >= 65536);
	must_eq(nb_32(answer + 40), 3);
	must_eq(nb_32(nb_initialize(&b) + 12), FAILURE); /* once */
	nb_end(&b);
}
END_TEST

START_TEST(rndis__has_no_objects_before_initialize)
{
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 5);
	must_eq(nb_query(&b, 0x00010106, NULL, 0, &out, &bytes), FAILURE);
	must_eq(nb_set(&b, 0x0001010E, "\r\0\0", 4), FAILURE);
	nb_steps(&b, 5, NB_STEPS);
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

START_TEST(rndis__other_messages)
{
	uint8_t keepalive[12] = { 8, 0, 0, 0, 12, 0, 0, 0, 9 }, reset[12] = { 6, 0, 0, 0, 12 };
	uint8_t ex[32] = { 9 };
	const struct nb_message *m;
	const uint8_t *answer;
	struct netbox b;

	start(&b);
	answer = nb_control(&b, keepalive, sizeof(keepalive));
	must_eq(nb_32(answer + 4), 16);
	must_eq(nb_32(answer + 12), 0);
	must_eq(nb_rndis(&b, 0, true, reset, sizeof(reset)), 1);
	m = nb_message(&b);
	must(m != NULL);
	must_eq(nb_32(m->msg), 0x80000006);
	must_eq(nb_32(m->msg + 4), 16);
	must_eq(nb_get(m->msg + 8, 8), 0);
	must_eq(nb_number(&b, 0x0001010E), 0x0D); /* nothing was lost by it */
	nb_put(ex + 12, 4, 0x0001010E);
	nb_put(ex + 16, 4, 4);
	nb_put(ex + 20, 4, 20);
	nb_put(ex + 28, 4, 0x20);
	answer = nb_control(&b, ex, sizeof(ex));
	must_eq(nb_32(answer + 4), 24);
	must_eq(nb_32(answer + 12), 0);
	must_eq(nb_number(&b, 0x0001010E), 0x20);
	/* An answer of the guest's to what we did not ask, and messages that are none. */
	nb_put(keepalive, 4, 0x80000008);
	must_eq(nb_rndis(&b, 0, true, keepalive, sizeof(keepalive)), 1);
	nb_put(keepalive, 4, 7);
	must_eq(nb_rndis(&b, 0, true, keepalive, sizeof(keepalive)), 2);
	nb_put(keepalive, 4, 77);
	must_eq(nb_rndis(&b, 0, true, keepalive, sizeof(keepalive)), 2);
	must(nb_message(&b) == NULL);
	nb_end(&b);
}
END_TEST

START_TEST(rndis_halt__lets_the_guest_begin_again)
{
	uint8_t msg[12] = { 3, 0, 0, 0, 12 };
	const uint8_t *out;
	struct vmbus_net_state state;
	struct netbox b;
	uint32_t bytes;

	start(&b);
	must_eq(nb_rndis(&b, 0, true, msg, sizeof(msg)), 1);
	must(nb_message(&b) == NULL);
	vmbus_net_state(b.net, &state);
	must_eq(state.filter, 0);
	must_eq(nb_query(&b, 0x00010106, NULL, 0, &out, &bytes), FAILURE);
	must_eq(nb_rndis(&b, 0, true, msg, sizeof(msg)), 1);
	nb_steps(&b, 5, NB_STEPS);
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

/* Cut at each byte, by its own length and by its packet: an answer or a refusal, never silence. */
START_TEST(lesson_11_rndis__cut_at_each_byte)
{
	static const uint32_t types[] = { 2, 3, 4, 5, 6, 8, 9, 1, 7, 0, UINT32_MAX };
	uint8_t msg[40];
	struct netbox b;
	uint32_t len, told;

	start(&b);
	for (len = 1; len <= sizeof(msg); len++)
		for (told = 0; told <= sizeof(msg) + 8; told++) {
			memset(msg, 0, sizeof(msg));
			nb_put(msg, 4, types[_i]);
			nb_put(msg + 4, 4, told);
			nb_put(msg + 12, 4, 0x00010106);
			nb_put(msg + 16, 4, 8);
			nb_put(msg + 20, 4, 20);
			must(nb_rndis(&b, 0, true, msg, len) != 0);
			if (told < 12 || told > len)
				must_eq(nb_32(b.done + 4), 2);
			while (nb_message(&b))
				;
		}
	nb_end(&b);
}
END_TEST

/* Where the information lies is the guest's to say, within its message. */
START_TEST(rndis__honours_the_offset_of_information)
{
	static const struct {
		uint32_t offset, bytes;
		bool good;
	} t[] = {
		{ 20, 4, true },	   { 24, 4, true },   { 28, 4, true },
		{ 32, 4, true },	   { 33, 4, false },  { 19, 4, false },
		{ 0, 4, false },	   { 36, 4, false },  { UINT32_MAX, 4, false },
		{ 20, UINT32_MAX, false }, { 20, 17, false }, { 20, 16, true },
		{ 0xFFFFFFFC, 8, false },
	};
	uint8_t msg[44] = { 5 };
	struct netbox b;
	uint32_t i;

	start(&b);
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		vmbus_test_at("row %u", i);
		memset(msg + 4, 0, sizeof(msg) - 4);
		nb_put(msg + 12, 4, 0x0001010E);
		nb_put(msg + 16, 4, t[i].bytes);
		nb_put(msg + 20, 4, t[i].offset);
		if (t[i].good)
			nb_put(msg + 8 + t[i].offset, 4, 0x20);
		must_eq(nb_32(nb_control(&b, msg, sizeof(msg)) + 12),
			t[i].good ? 0 : INVALID_LENGTH);
		must_eq(nb_number(&b, 0x0001010E), t[i].good ? 0x20 : 0x0D);
		nb_filter(&b, 0x0D);
	}
	nb_end(&b);
}
END_TEST

/* ---- a guest that does not read ---- */

/* Answers wait for a section, up to a limit; then requests are refused; then all goes on. */
START_TEST(rndis__is_bounded_when_sections_do_not_come_back)
{
	uint8_t msg[28] = { 4, 0, 0, 0, 28 };
	struct netbox b;
	uint32_t i, good = 0, refused = 0;

	start(&b);
	(void)nb_run(&b, 0);
	b.taken = b.messages = 0;
	b.keep = true;
	nb_put(msg + 12, 4, 0x00010106);
	for (i = 0; i < 100; i++) {
		nb_put(msg + 8, 4, i);
		if (nb_rndis(&b, 0, true, msg, sizeof(msg)) == 1)
			good++;
		else
			refused++;
	}
	must_eq(b.messages, 16);
	must_eq(good, 16 + 32);
	must_eq(refused, 100 - 48);
	b.keep = false;
	for (i = 0; i < 16; i++) {
		must_eq(nb_32(b.message[i].msg + 8), i);
		nb_return(&b, 0, b.message[i].id);
	}
	(void)nb_run(&b, 0);
	must_eq(b.messages, 48);
	for (i = 0; i < 48; i++)
		must_eq(nb_32(b.message[i].msg + 8), i);
	b.taken = b.messages;
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rndis", 60);

	tcase_add_test(tc, rndis_initialize__tells_the_limits);
	tcase_add_test(tc, rndis__has_no_objects_before_initialize);
	tcase_add_test(tc, rndis__other_messages);
	tcase_add_test(tc, rndis_halt__lets_the_guest_begin_again);
	tcase_add_loop_test(tc, lesson_11_rndis__cut_at_each_byte, 0, 11);
	tcase_add_test(tc, rndis__honours_the_offset_of_information);
	tcase_add_test(tc, rndis__is_bounded_when_sections_do_not_come_back);
}
VMBUS_TEST_MAIN("net.rndis", tests)
