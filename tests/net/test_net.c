/* SPDX-License-Identifier: MIT */
/*
 * A NIC as its embedder sees it: options, what its port must have, link and port that change, counters,
 * lines in the log.
 */
#include "netbox.h"

#include <pthread.h>

/* ---- making ---- */

static uint32_t refusals;
static char refusal[200];

static void keep_refusal(void *ctx, const char *line)
{
	(void)ctx;
	(void)snprintf(refusal, sizeof(refusal), "%s", line);
	refusals++;
}

START_TEST(net_create__refuses)
{
	static const struct vmbus_guid zero;
	struct vmbus_port_ops ops = nb_port_ops;
	struct nb_port port = { .info = { .queues = 1 } };
	struct vmbus_net_opts good = { .struct_bytes = sizeof(good), .port = { &ops, &port } }, bad;
	struct vmbus_net *net = NULL;
	char name[300];

	must(memcmp(&good.id, &zero, sizeof(zero)) == 0);
	must_eq(vmbus_net_create(&good, &net), 0);
	vmbus_net_destroy(net);
	vmbus_net_destroy(NULL);
	must_eq(vmbus_net_create(NULL, &net), VMBUS_E_INVAL);
#define BAD(field, value, error)                                                                   \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.field = value;                                                                 \
		must_eq(vmbus_net_create(&bad, &net), error);                                      \
	} while (0)
	BAD(struct_bytes, sizeof(bad) - 1, VMBUS_E_INVAL);
	BAD(port.ops, NULL, VMBUS_E_INVAL);
	BAD(mac[0], 1, VMBUS_E_INVAL);
	BAD(flags, 16, VMBUS_E_RANGE);
	BAD(subchannels, 64, VMBUS_E_RANGE);
	BAD(mtu_max, 1499, VMBUS_E_RANGE);
	BAD(mtu_max, 9203, VMBUS_E_RANGE);
	BAD(section_bytes, 248, VMBUS_E_RANGE);
	BAD(section_bytes, 260, VMBUS_E_RANGE);
	BAD(section_bytes, (1u << 20) + 8, VMBUS_E_RANGE);
	BAD(frames_max, 65, VMBUS_E_RANGE);
	BAD(packets_max, 4097, VMBUS_E_RANGE);
	BAD(name, "two\nlines", VMBUS_E_INVAL);
	memset(name, 'a', sizeof(name));
	name[256] = '\0';
	BAD(name, name, VMBUS_E_RANGE);
	name[255] = '\0';
	bad = good;
	bad.name = name;
	must_eq(vmbus_net_create(&bad, &net), 0);
	vmbus_net_destroy(net);
	ops.info = NULL;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_INVAL);
	ops = nb_port_ops;
	ops.send = NULL;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_INVAL);
	ops = nb_port_ops;
	ops.struct_bytes--;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_INVAL);
	ops = nb_port_ops;
	port.info_err = VMBUS_E_SYSTEM;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_SYSTEM);
	port.info_err = 0;
	port.info.queues = 0;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_RANGE);
	port.info.queues = 65;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_RANGE);
	port.info.queues = 1;
	port.info.mac[0] = 1;
	must_eq(vmbus_net_create(&good, &net), VMBUS_E_RANGE);
	must_eq(port.destroys, 0);
}
END_TEST

static void push(struct vmbus_port_queue *queue)
{
	(void)queue;
}

/* One line for each refusal: what, and what it may be. */
START_TEST(net_create__says_what_it_refuses)
{
	struct vmbus_port_ops ops = nb_port_ops;
	struct nb_port port = { .info = { .queues = 1 } };
	const struct vmbus_net_opts good = { .struct_bytes = sizeof(good),
					     .port = { &ops, &port },
					     .log = keep_refusal };
	struct vmbus_net_opts bad;
	struct vmbus_net *net = NULL;
	uint32_t before;

#define SAYS(change, error, text)                                                                  \
	do {                                                                                       \
		bad = good;                                                                        \
		before = refusals;                                                                 \
		change;                                                                            \
		must_eq(vmbus_net_create(&bad, &net), error);                                      \
		must_eq(refusals, before + 1);                                                     \
		ck_assert_msg(strstr(refusal, text), "%s", refusal);                               \
	} while (0)
	SAYS(bad.flags = 16, VMBUS_E_RANGE, "flags is 16");
	SAYS(bad.subchannels = 64, VMBUS_E_RANGE, "subchannels is 64, and may be 0 to 63");
	SAYS(bad.mtu_max = 10, VMBUS_E_RANGE, "mtu_max is 10, and may be 1500 to 9202");
	SAYS(bad.section_bytes = 260, VMBUS_E_RANGE, "section_bytes is 260");
	SAYS(bad.frames_max = 65, VMBUS_E_RANGE, "frames_max is 65");
	SAYS(bad.packets_max = 4097, VMBUS_E_RANGE, "packets_max is 4097");
	SAYS(bad.name = "a\tb", VMBUS_E_INVAL, "name");
	SAYS(bad.mac[0] = 1, VMBUS_E_INVAL, "mac is a multicast");
	SAYS(bad.port.ops = NULL, VMBUS_E_INVAL, "no port");
	SAYS(ops.send = NULL, VMBUS_E_INVAL, "lacks info or send");
	ops = nb_port_ops;
	SAYS(ops.ready = push, VMBUS_E_INVAL, "both receive and ready");
	ops = nb_port_ops;
	SAYS(port.info.queues = 65, VMBUS_E_RANGE, "port box: cannot be used: 65 queues");
	port.info.queues = 1;
	SAYS(port.info.can = 1u << 30, VMBUS_E_RANGE, "unknown bits 0x40000000");
	port.info.can = 0;
	SAYS(port.info_err = VMBUS_E_PERM, VMBUS_E_PERM, "PERM");
	port.info_err = 0;
	before = refusals;
	must_eq(vmbus_net_create(&good, &net), 0);
	must_eq(refusals, before);
	vmbus_net_destroy(net);
}
END_TEST

START_TEST(net_vsp__tells_that_another_guest_has_it)
{
	struct netbox b;
	uint32_t before;

	nb_prepare(&b);
	b.opts.log = keep_refusal;
	fake_init(&b.f, 1024);
	must_eq(vmbus_net_create(&b.opts, &b.net), 0);
	nb_offer(&b);
	nb_offer(&b);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 2), 2);
	nb_open(&b);
	before = refusals;
	must(fake_open(&b.f, &b.c[1], NB_UP, NB_DOWN) != 0);
	must_eq(refusals, before + 1);
	ck_assert_msg(strstr(refusal, "another guest has this NIC"), "%s", refusal);
	nb_steps(&b, 0, NB_STEPS);
	nb_end(&b);
}
END_TEST

/* The option's, else the port's, else one that is made of the id. */
START_TEST(net_create__has_an_address)
{
	struct nb_port port = { .info = { .queues = 1, .mac = { 2, 7, 7, 7, 7, 7 } } };
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts),
				       .port = { &nb_port_ops, &port },
				       .mac = { 2, 9, 9, 9, 9, 9 } };
	struct vmbus_net_state state, again;
	struct vmbus_net *net;

	must_eq(vmbus_net_create(&opts, &net), 0);
	vmbus_net_state(net, &state);
	ck_assert_mem_eq(state.mac, opts.mac, 6);
	vmbus_net_destroy(net);
	memset(opts.mac, 0, 6);
	must_eq(vmbus_net_create(&opts, &net), 0);
	vmbus_net_state(net, &state);
	ck_assert_mem_eq(state.mac, port.info.mac, 6);
	vmbus_net_destroy(net);
	memset(port.info.mac, 0, 6);
	opts.id.b[0] = 1;
	must_eq(vmbus_net_create(&opts, &net), 0);
	vmbus_net_state(net, &state);
	must_eq(state.mac[0], 2);
	vmbus_net_destroy(net);
	must_eq(vmbus_net_create(&opts, &net), 0);
	vmbus_net_state(net, &again);
	ck_assert_mem_eq(again.mac, state.mac, 6);
	vmbus_net_destroy(net);
	opts.id.b[0] = 2;
	must_eq(vmbus_net_create(&opts, &net), 0);
	vmbus_net_state(net, &again);
	must(memcmp(again.mac, state.mac, 6) != 0);
	vmbus_net_destroy(net);
}
END_TEST

/* ---- the link ---- */

/* Messages of the NIC's that come within so many milliseconds, at most n; in order. */
static uint32_t indications(struct netbox *b, uint32_t ms, uint32_t n, uint32_t *status)
{
	const uint64_t end = fake_now_ns() + (uint64_t)ms * 1000000u;
	const struct nb_message *m;
	uint32_t got = 0;

	while (got < n && fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(b->f.bus), .events = POLLIN };

		(void)poll(&p, 1, 50);
		(void)nb_run(b, 0);
		while ((m = nb_message(b)) && got < n) {
			must_eq(nb_32(m->msg), 7);
			must_eq(nb_32(m->msg + 4), 20 + nb_32(m->msg + 12));
			status[got++] = nb_32(m->msg + 8);
		}
	}
	return got;
}

START_TEST(net_link__is_told_two_seconds_apart)
{
	struct vmbus_net_state state;
	uint32_t status[4];
	struct netbox b;
	uint64_t begin;

	nb_prepare(&b);
	nb_start(&b);
	begin = fake_now_ns();
	vmbus_net_link(b.net, false);
	vmbus_net_state(b.net, &state);
	must(!state.up);
	(void)nb_run(&b, 0);
	must(nb_message(&b) == NULL);
	must_eq(nb_number(&b, 0x0001010E), 0x0D);
	must_eq(indications(&b, 6000, 1, status), 1);
	must_eq(status[0], 0x4001000C);
	must(fake_now_ns() - begin >= 1500000000u);
	begin = fake_now_ns();
	/* There and back again is no change, and the last state counts. */
	vmbus_net_link(b.net, true);
	(void)nb_run(&b, 0);
	vmbus_net_link(b.net, false);
	(void)nb_run(&b, 0);
	vmbus_net_link(b.net, true);
	must_eq(indications(&b, 6000, 1, status), 1);
	must_eq(status[0], 0x4001000B);
	must(fake_now_ns() - begin >= 1500000000u);
	must_eq(indications(&b, 300, 1, status), 0);
	nb_end(&b);
}
END_TEST

/* A guest that asks knows, and is not told the same. */
START_TEST(net_link__is_not_told_who_has_asked)
{
	uint32_t status[2];
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	vmbus_net_link(b.net, false);
	must_eq(nb_number(&b, 0x00010114), 1);
	must_eq(indications(&b, 2500, 1, status), 0);
	nb_end(&b);
}
END_TEST

START_TEST(net_link__takes_frames_off_the_wire)
{
	uint8_t frame[44 + 60] = { 1 };
	struct vmbus_net_stats stats;
	struct netbox b;

	nb_put(frame + 4, 4, sizeof(frame));
	nb_put(frame + 8, 4, 36);
	nb_put(frame + 12, 4, 60);
	nb_prepare(&b);
	b.opts.flags = VMBUS_NET_LINK_DOWN;
	nb_start(&b);
	must_eq(nb_rndis(&b, 0, false, frame, sizeof(frame)), 1);
	must_eq(b.port.sent, 0);
	must_eq(vmbus_net_stats(b.net, 0, &stats), 0);
	must_eq(stats.stopped, 1);
	vmbus_net_link(b.net, true);
	(void)nb_run(&b, 0);
	must_eq(nb_rndis(&b, 0, false, frame, sizeof(frame)), 1);
	must_eq(b.port.sent, 1);
	nb_end(&b);
}
END_TEST

/* The port's own link and speed. */
START_TEST(net_port_changed__tells_of_link_and_speed)
{
	uint32_t status[2];
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	b.port.info.bits_per_s = 2500000000u;
	must_eq(vmbus_net_port_changed(b.net), 0);
	must_eq(indications(&b, 1000, 1, status), 1);
	must_eq(status[0], 0x40010013);
	must_eq(nb_32(b.message[(b.taken - 1) % NB_MESSAGES].msg + 20), 25000000);
	must_eq(nb_number(&b, 0x00010107), 25000000);
	b.port.info.up = false;
	must_eq(vmbus_net_port_changed(b.net), 0);
	must_eq(indications(&b, 6000, 1, status), 1);
	must_eq(status[0], 0x4001000C);
	b.port.info.queues = 0;
	must_eq(vmbus_net_port_changed(b.net), VMBUS_E_RANGE);
	b.port.info.queues = 1;
	b.port.info_err = VMBUS_E_SYSTEM;
	must_eq(vmbus_net_port_changed(b.net), VMBUS_E_SYSTEM);
	nb_end(&b);
}
END_TEST

/* As an uplink does whose parent has ended. */
START_TEST(net_port_changed__takes_the_link_down_when_the_port_fails)
{
	struct vmbus_net_state state;
	uint32_t status[2];
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	b.port.info_err = VMBUS_E_PEER;
	must_eq(vmbus_net_port_changed(b.net), VMBUS_E_PEER);
	vmbus_net_state(b.net, &state);
	must(!state.up);
	must_eq(indications(&b, 6000, 1, status), 1);
	must_eq(status[0], 0x4001000C);
	b.port.info_err = 0;
	must_eq(vmbus_net_port_changed(b.net), 0);
	must_eq(indications(&b, 6000, 1, status), 1);
	must_eq(status[0], 0x4001000B);
	nb_end(&b);
}
END_TEST

/* While a thread has asked the port, and not told yet, the port changes and another one asks and tells. */
static struct vmbus_net *changes;

static void *ask_later(void *arg)
{
	must_eq(vmbus_net_port_changed(arg), 0);
	return NULL;
}

static int slow_info(void *ctx, struct vmbus_port_info *info)
{
	const int err = nb_port_info(ctx, info);
	struct vmbus_net *const net = changes;
	pthread_t thread;

	changes = NULL;
	if (net) {
		((struct nb_port *)ctx)->info.up = false;
		must(!pthread_create(&thread, NULL, ask_later, net));
		must(!pthread_join(thread, NULL));
	}
	return err;
}

START_TEST(net_port_changed__keeps_what_was_asked_last)
{
	struct vmbus_port_ops ops = nb_port_ops;
	struct vmbus_net_state state;
	struct netbox b;

	ops.info = slow_info;
	changes = NULL;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	nb_start(&b);
	changes = b.net;
	must_eq(vmbus_net_port_changed(b.net), 0);
	vmbus_net_state(b.net, &state);
	must(!state.up);
	b.port.info.up = true;
	must_eq(vmbus_net_port_changed(b.net), 0);
	vmbus_net_state(b.net, &state);
	must(state.up);
	nb_end(&b);
}
END_TEST

/* Without a guest there is nobody to tell. */
START_TEST(net_link__without_a_guest)
{
	struct vmbus_net_state state;
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	vmbus_net_link(b.net, false);
	b.port.info.up = false;
	must_eq(vmbus_net_port_changed(b.net), 0);
	vmbus_net_link(b.net, true);
	vmbus_net_state(b.net, &state);
	must(!state.up);
	must_eq(state.version, 0);
	must_eq(state.channels, 0);
	nb_end(&b);
}
END_TEST

/* ---- counters ---- */

START_TEST(net_stats__of_channels_and_of_all)
{
	struct vmbus_net_stats stats;
	struct netbox b;

	nb_prepare(&b);
	b.opts.subchannels = 1;
	nb_begin(&b);
	must_eq(vmbus_net_stats(b.net, 0, &stats), VMBUS_E_RANGE);
	must_eq(vmbus_net_stats(b.net, VMBUS_NET_ALL, &stats), 0);
	must_eq(stats.port_sent, 3);
	must_eq(stats.port_received, 4);
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
	must_eq(vmbus_net_stats(b.net, 0, &stats), 0);
	must_eq(stats.control, 2);
	must_eq(stats.port_sent, 0);
	must_eq(vmbus_net_stats(b.net, 1, &stats), VMBUS_E_RANGE);
	nb_subs(&b, 1);
	must_eq(vmbus_net_stats(b.net, 1, &stats), 0);
	must_eq(stats.control, 0);
	must_eq(vmbus_net_stats(b.net, 2, &stats), VMBUS_E_RANGE);
	must_eq(vmbus_net_stats(b.net, VMBUS_NET_ALL - 1, &stats), VMBUS_E_RANGE);
	must_eq(vmbus_net_stats(b.net, VMBUS_NET_ALL, &stats), 0);
	must_eq(stats.control, 2);
	nb_end(&b);
}
END_TEST

/* ---- the log ---- */

static uint32_t lines;

static void count_line(void *ctx, const char *line)
{
	must(ctx != NULL && strchr(line, '\n') == NULL && strlen(line) < 200);
	lines++;
}

/* One bad message after the other: ten lines a second at most. */
START_TEST(lesson_31_net__log_is_bounded)
{
	uint8_t msg[40] = { 101 };
	const uint64_t begin = fake_now_ns();
	uint32_t tiny, i, seconds;
	struct netbox b;

	nb_prepare(&b);
	b.opts.log = count_line;
	b.opts.ctx = &b;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 3);
	tiny = b.f.next_gpadl++;
	must_eq(fake_share(&b.f, b.c[0].relid, tiny, b.data, 1), 0);
	nb_put(msg + 4, 4, tiny);
	for (i = 0; i < 20000; i++)
		must(nb_ask(&b, 0, msg, sizeof(msg)));
	seconds = (uint32_t)((fake_now_ns() - begin) / 1000000000u);
	must(lines >= 10 && lines <= 10 * (seconds + 2));
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "net", 60);

	tcase_add_test(tc, net_create__refuses);
	tcase_add_test(tc, net_create__says_what_it_refuses);
	tcase_add_test(tc, net_vsp__tells_that_another_guest_has_it);
	tcase_add_test(tc, net_create__has_an_address);
	tcase_add_test(tc, net_link__is_told_two_seconds_apart);
	tcase_add_test(tc, net_link__is_not_told_who_has_asked);
	tcase_add_test(tc, net_link__takes_frames_off_the_wire);
	tcase_add_test(tc, net_port_changed__tells_of_link_and_speed);
	tcase_add_test(tc, net_port_changed__takes_the_link_down_when_the_port_fails);
	tcase_add_test(tc, net_port_changed__keeps_what_was_asked_last);
	tcase_add_test(tc, net_link__without_a_guest);
	tcase_add_test(tc, net_stats__of_channels_and_of_all);
	tcase_add_test(tc, lesson_31_net__log_is_bounded);
}
VMBUS_TEST_MAIN("net.net", tests)
