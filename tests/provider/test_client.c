/* SPDX-License-Identifier: MIT */
/*
 * The provider's side against a parent that is a raw socket: what it answers, what it touches in the
 * child's memory, and that a parent which says what it may not is left, with nothing behind.
 */
#include "play.h"

#include <poll.h>

#include <vmbus/mem.h>

START_TEST(provider_dispatch__serves_a_channel)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_CLOSE, .bus = 1, .open = 3 };
	struct play p;
	uint64_t count;

	play_init(&p);
	bring_bus(&p);
	open_chan(&p);
	request(&p, 77);
	must_eq(packets, 1);
	must_eq(flags_of(&p), (uint64_t)1 << FLAG);
	must_eq(eventfd_read(p.wake, &count), 0);
	must_eq(count, 1);
	/* The flag is not taken yet: no second write. */
	request(&p, 78);
	must(eventfd_read(p.wake, &count) != 0);
	script_send(p.sock, &msg);
	must_eq(expect(&p, VMBUS_PV_CLOSED).open, 3);
	must_eq(closes, 1);
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_GPADL_GONE, .bus = 1, .gpadl = 5 };
	script_send(p.sock, &msg);
	must_eq(expect(&p, VMBUS_PV_GPADL_DONE).gpadl, 5);
	/* And again. */
	open_chan((opens = 0, make_rings(&p), &p));
	request(&p, 79);
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_BUS_GONE, .bus = 1 };
	script_send(p.sock, &msg);
	must_eq(run(&p), 0);
	must_eq(closes, 2);
	play_fini(&p);
}
END_TEST

START_TEST(provider_dispatch__asks_the_parent_to_signal)
{
	struct vmbus__pv_msg list = list_msg(), msg = open_msg();
	struct play p;

	play_init(&p);
	bring_bus(&p);
	msg.flags = VMBUS_PV_LISTENER;
	script_send(p.sock, &list);
	send_open(&p, msg);
	(void)expect(&p, VMBUS_PV_OPENED);
	request(&p, 77);
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	must_eq(flags_of(&p), 0);
	/* From now on by itself, and once for what went the old way. */
	msg = open_msg();
	msg.type = VMBUS_PV_MODIFY;
	msg.flags = VMBUS_PV_WAKE;
	must_eq(vmbus__pv_send(p.sock, &msg, &p.wake, 1), 0);
	must_eq(run(&p), 0);
	must_eq(flags_of(&p), (uint64_t)1 << FLAG);
	/* The child wants none. */
	msg.flags = VMBUS_PV_QUIET;
	script_send(p.sock, &msg);
	must_eq(run(&p), 0);
	*(uint64_t *)(void *)(p.mem + 2 * PAGE + 256) = 0;
	request(&p, 78);
	must_eq(flags_of(&p), 0);
	/* A signal that comes by the parent. */
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_SIGNAL, .bus = 1, .open = 3 };
	script_send(p.sock, &msg);
	must_eq(run(&p), 0);
	play_fini(&p);
}
END_TEST

/* The last provider died after it had set the flag, and before it wrote the eventfd. */
START_TEST(provider_dispatch__wakes_a_child_whose_flag_was_left_set)
{
	const struct vmbus__pv_msg list = list_msg();
	struct vmbus__pv_msg msg = open_msg();
	struct play p;
	uint64_t count;

	play_init(&p);
	bring_bus(&p);
	*(uint64_t *)(void *)(p.mem + 2 * PAGE + 256) = (uint64_t)1 << FLAG;
	script_send(p.sock, &list);
	msg.flags |= VMBUS_PV_RESUME;
	send_open(&p, msg);
	(void)expect(&p, VMBUS_PV_OPENED);
	must_eq(eventfd_read(p.wake, &count), 0);
	play_fini(&p);
}
END_TEST

START_TEST(provider_dispatch__tells_of_a_broken_ring)
{
	struct vmbus__pv_msg msg;
	struct play p;

	play_init(&p);
	bring_bus(&p);
	open_chan(&p);
	*(uint32_t *)(void *)(p.mem + RING_FIRST * PAGE) = 0xFFFFFFF7u; /* the write index */
	child_signal(&p);
	msg = expect(&p, VMBUS_PV_FAULT);
	must_eq(msg.open, 3);
	must(strstr(msg.text, "its provider: ") != NULL);
	must_eq(closes, 1);
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_CLOSE, .bus = 1, .open = 3 };
	script_send(p.sock, &msg);
	(void)expect(&p, VMBUS_PV_CLOSED);
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_GPADL_GONE, .bus = 1, .gpadl = 5 };
	script_send(p.sock, &msg);
	(void)expect(&p, VMBUS_PV_GPADL_DONE);
	make_rings(&p);
	opens = 0;
	open_chan(&p);
	play_fini(&p);
}
END_TEST

START_TEST(provider_dispatch__tells_that_an_open_failed)
{
	const struct vmbus__pv_msg list = list_msg();
	int refuse = VMBUS_E_PERM;
	struct vmbus__pv_msg msg;
	struct play p;

	play_prepare(&p);
	must_eq(attach(&p, &refuse), 0);
	bring_bus(&p);
	script_send(p.sock, &list);
	send_open(&p, open_msg());
	must(expect(&p, VMBUS_PV_OPENED).err != 0);
	/* Rings of a list that was never told, and of pages that are none. */
	msg = open_msg();
	msg.gpadl = 99;
	msg.open = 4;
	send_open(&p, msg);
	must(expect(&p, VMBUS_PV_OPENED).err != 0);
	msg = list_msg();
	msg.gpadl = 6;
	msg.qwords[3] = 1u << 20;
	script_send(p.sock, &msg);
	msg = open_msg();
	msg.gpadl = 6;
	msg.open = 5;
	send_open(&p, msg);
	must(expect(&p, VMBUS_PV_OPENED).err != 0);
	play_fini(&p);
}
END_TEST

START_TEST(provider_dispatch__gives_way)
{
	const struct vmbus__pv_msg yield = { .type = VMBUS_PV_YIELD };
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct play p;

	play_init(&p);
	bring_bus(&p);
	open_chan(&p);
	script_send(p.sock, &yield);
	must_eq(run(&p), VMBUS_E_PEER);
	must(script_take(p.sock, &record, &msg));
	must_eq(msg.type, VMBUS_PV_YIELDED);
	must_eq(closes, 1);
	must(strstr(vmbus_provider_why(p.provider), "took over") != NULL);
	must_eq(vmbus_provider_dispatch(p.provider, 1), VMBUS_E_PEER);
	play_fini(&p);
}
END_TEST

START_TEST(provider_dispatch__closes_all_when_the_parent_goes)
{
	struct play p;

	play_init(&p);
	must(vmbus_provider_why(p.provider)[0] == 0);
	bring_bus(&p);
	open_chan(&p);
	close(p.sock);
	p.sock = -1;
	must_eq(vmbus_provider_wait(p.provider, 1000 * MS), VMBUS_E_PEER);
	must_eq(closes, 1);
	must(vmbus_provider_why(p.provider)[0] != 0);
	play_fini(&p);
}
END_TEST

/* What a parent may not say: the provider leaves, and nothing of it stays. */
static void must_leave(struct play *p, const struct vmbus__pv_msg *msg, const int *fds, int n)
{
	must_eq(vmbus__pv_send(p->sock, msg, fds, n), 0);
	must_eq(run(p), VMBUS_E_PEER);
	must(strstr(vmbus_provider_why(p->provider), "the parent sent ") != NULL);
}

START_TEST(provider_dispatch__leaves_a_parent_out_of_order)
{
	uint32_t type, open;

	for (open = 0; open < 2; open++)
		for (type = 0; type < VMBUS_PV_END; type++) {
			const struct vmbus__pv_msg msg = { .type = type, .bus = 9 };
			struct play p;

			if (!vmbus__pv_msg_bytes(type) || type == VMBUS_SHM_BYE ||
			    type == VMBUS_PV_YIELD)
				continue;
			vmbus_test_at("type %u, open %u", type, open);
			play_init(&p);
			if (open) {
				bring_bus(&p);
				open_chan(&p);
			}
			must_leave(&p, &msg, NULL, 0);
			play_fini(&p);
		}
}
END_TEST

START_TEST(provider_dispatch__leaves_a_parent_with_impossible_numbers)
{
	const struct vmbus__pv_msg list = list_msg(), open = open_msg();
	struct vmbus__pv_msg wrong[24];
	uint32_t n = 0, i;

	for (i = 0; i < 24; i++)
		wrong[i] = i < 5 ? list : open;
	wrong[n++].count = 1;
	wrong[n++].count = UINT32_MAX;
	wrong[n++].ranges = 0;
	wrong[n++].sub = 2048;
	wrong[n++].count = 57; /* needs a descriptor */
	wrong[n++].flags = 0;
	wrong[n++].flags = 0xFFFFFFFF;
	wrong[n++].flags = VMBUS_PV_LISTENER | VMBUS_PV_JOURNAL;
	wrong[n++].gpa = 3;
	wrong[n++].gpa = PAGES * PAGE - 255;
	wrong[n++].gpa = UINT64_MAX - 7;
	wrong[n++].event_flag = 2048;
	wrong[n++].sub = 2048;
	wrong[n++] = (struct vmbus__pv_msg){ .type = VMBUS_PV_BUS, .bus = 1, .count = 1 };
	wrong[n++] = (struct vmbus__pv_msg){ .type = VMBUS_PV_BUS, .bus = 2, .count = 65 };
	wrong[n++] = (struct vmbus__pv_msg){ .type = VMBUS_PV_BUS, .bus = 2, .count = 0 };
	wrong[n++] = (struct vmbus__pv_msg){ .type = VMBUS_PV_REGION, .bus = 1 };
	wrong[n++] = (struct vmbus__pv_msg){ .type = VMBUS_PV_GPADL_GONE, .bus = 1, .gpadl = 8 };
	for (i = 0; i < n; i++) {
		struct play p;
		int fds[2];

		vmbus_test_at("row %u", i);
		play_init(&p);
		bring_bus(&p);
		fds[0] = p.listener;
		fds[1] = p.wake;
		must_leave(&p, &wrong[i], fds, wrong[i].type == VMBUS_PV_OPEN ? 2 : 0);
		play_fini(&p);
	}
}
END_TEST

START_TEST(provider_dispatch__takes_no_memory_that_could_go)
{
	struct vmbus__pv_msg region = {
		.type = VMBUS_PV_REGION, .bus = 1, .access = 3, .bytes = PAGES * PAGE
	};
	const struct vmbus__pv_msg bus = { .type = VMBUS_PV_BUS, .bus = 1, .count = 1 };
	struct play p;
	uint32_t i;

	for (i = 0; i < 6; i++) {
		int fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);

		must_eq(ftruncate(fd, (off_t)(PAGES * PAGE)), 0);
		vmbus_test_at("row %u", i);
		play_init(&p);
		script_send(p.sock, &bus);
		if (i == 1) /* too small */
			region.bytes = 2 * PAGES * PAGE;
		if (i == 2)
			region.offset = INT64_MAX;
		if (i == 3)
			region.access = 4;
		if (i == 4)
			region.bytes = 0;
		if (i == 5)
			region.gpa = 1;
		must_leave(&p, &region, i == 0 ? &fd : &p.memfd, 1);
		region.bytes = PAGES * PAGE;
		region.offset = 0;
		region.access = 3;
		close(fd);
		play_fini(&p);
	}
}
END_TEST

START_TEST(lesson_25_descriptors_of_a_parent_are_closed)
{
	static const uint32_t counts[] = { 1, 3, 64, 253 };
	uint32_t type, i;

	for (type = VMBUS_PV_FIRST; type < VMBUS_PV_END; type++)
		for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			const struct vmbus__pv_msg msg = { .type = type, .bus = 1 };
			struct play p;
			int before, got;

			vmbus_test_at("type %u, %u descriptors", type, counts[i]);
			before = vmbus_test_count_fds();
			play_init(&p);
			bring_bus(&p);
			must_eq(script_send_fds(p.sock, &msg, p.event, counts[i]), 0);
			got = run(&p);
			must_eq(got, VMBUS_E_PEER);
			play_fini(&p);
			must_eq(vmbus_test_count_fds(), before);
		}
}
END_TEST

START_TEST(provider_attach__tells_why_not)
{
	static const struct {
		uint32_t code;
		int err;
	} rows[] = {
		{ VMBUS_SHM_CODE_VERSION, VMBUS_E_NOTSUP },
		{ VMBUS_SHM_CODE_FULL, VMBUS_E_FULL },
		{ VMBUS_SHM_CODE_TAKEN, VMBUS_E_STATE },
		{ VMBUS_SHM_CODE_SYSTEM, VMBUS_E_NOMEM },
		{ VMBUS_SHM_CODE_MESSAGE, VMBUS_E_PEER },
		{ VMBUS_SHM_CODE_DENIED, VMBUS_E_PERM },
		{ 0xFFFFFFFFu, VMBUS_E_PERM },
	};
	struct play p;
	uint32_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		play_prepare(&p);
		p.answer = (struct vmbus__pv_msg){ .type = VMBUS_SHM_REFUSED,
						   .code = rows[i].code,
						   .text = "no" };
		must_eq(attach(&p, NULL), rows[i].err);
		must(p.provider == NULL);
		play_fini(&p);
	}
	play_prepare(&p);
	p.answer.type = VMBUS_PV_YIELD;
	must_eq(attach(&p, NULL), VMBUS_E_PEER);
	play_fini(&p);
	play_prepare(&p);
	p.answer.type = 0; /* closes without a word */
	must_eq(attach(&p, NULL), VMBUS_E_PEER);
	play_fini(&p);
}
END_TEST

START_TEST(provider_attach__options_are_checked)
{
	struct vmbus_provider_opts opts = { 0 };
	struct vmbus_provider *provider;
	struct vmbus_vsp vsp = *vmbus_echo_vsp();
	char longer[200];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_INVAL);
	opts.path = longer;
	opts.name = "x";
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_INVAL);
	opts.vsp = &vsp;
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_RANGE);
	opts.name = longer;
	opts.path = "/nowhere";
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_RANGE);
	opts.name = "x";
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_SYSTEM);
	vsp.pending_max = 5000;
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_RANGE);
	vsp.flags = VMBUS_VSP_FOREIGN;
	must_eq(vmbus_provider_attach(&opts, &provider), VMBUS_E_INVAL);
	must(provider == NULL);
	vmbus_provider_detach(NULL);
}
END_TEST

START_TEST(provider_dispatch__refuses_a_wrong_budget)
{
	struct play p;

	play_init(&p);
	must_eq(vmbus_provider_dispatch(p.provider, 0), VMBUS_E_RANGE);
	must_eq(vmbus_provider_dispatch(p.provider, UINT32_MAX), VMBUS_E_RANGE);
	must_eq(vmbus_provider_wait(p.provider, 0), VMBUS_E_AGAIN);
	must(vmbus_provider_fd(p.provider) >= 0);
	play_fini(&p);
}
END_TEST

static void tell_bus(struct play *p, uint32_t id, uint32_t regions)
{
	const struct vmbus__pv_msg bus = { .type = VMBUS_PV_BUS, .bus = id, .count = regions };
	const struct vmbus__pv_msg region = { .type = VMBUS_PV_REGION,
					      .bus = id,
					      .access = VMBUS_READ_WRITE,
					      .bytes = PAGES * PAGE };

	script_send(p->sock, &bus);
	must_eq(vmbus__pv_send(p->sock, &region, &p->memfd, 1), 0);
	must_eq(run(p), 0);
}

static void tell_end(struct play *p, uint32_t id)
{
	const struct vmbus__pv_msg gone = { .type = VMBUS_PV_BUS_GONE, .bus = id };

	script_send(p->sock, &gone);
}

/* As a loop that knows the descriptor only. */
static bool dispatch_if_readable(struct play *p)
{
	struct pollfd set = { .fd = vmbus_provider_fd(p->provider), .events = POLLIN };

	if (poll(&set, 1, 0) != 1)
		return false;
	must(vmbus_provider_dispatch(p->provider, 1) >= 0);
	return true;
}

/* Ends of two partitions spend it, a unit at a time; after how many turns another is told of a list. */
static int tell_list_after(int turns)
{
	const struct vmbus__pv_msg list = list_msg();
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct play p;
	int i;

	play_init(&p);
	bring_bus(&p);
	tell_bus(&p, 2, 1);
	tell_bus(&p, 3, 1);
	tell_end(&p, 2);
	tell_end(&p, 3);
	for (i = 0; i < turns; i++)
		(void)dispatch_if_readable(&p);
	script_send(p.sock, &list);
	while (dispatch_if_readable(&p))
		must(i++ < 1000);
	do
		must(script_take(p.sock, &record, &msg));
	while (msg.type == VMBUS_PV_BUS_READY);
	must_eq(msg.type, VMBUS_PV_GPADL_KNOWN);
	must_eq(msg.gpadl, list.gpadl);
	play_fini(&p);
	return i;
}

START_TEST(provider_dispatch__stays_readable_when_its_budget_is_spent)
{
	int turns = tell_list_after(0);

	must(turns > 4);
	while (turns-- > 1) {
		vmbus_test_at("told after %d turns", turns - 1);
		(void)tell_list_after(turns - 1);
	}
}
END_TEST

/* No bus of theirs would bring them a turn. */
START_TEST(provider_dispatch__lets_go_of_all_that_were_not_all_told)
{
	struct play p;
	uint32_t i;
	int before;

	play_init(&p);
	bring_bus(&p);
	before = vmbus_test_count_fds();
	for (i = 2; i < 6; i++)
		tell_bus(&p, i, 2);
	must_eq(vmbus_test_count_fds(), before + 4);
	for (i = 2; i < 6; i++)
		tell_end(&p, i);
	while (dispatch_if_readable(&p))
		continue;
	must_eq(vmbus_test_count_fds(), before);
	play_fini(&p);
}
END_TEST

#define LISTS 8000u /* that a child may have, if its parent's limit is set so */

static void view_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_piece piece[2];
	struct vmbus_sgl view = { .pieces = piece, .room = 2 };

	(void)pkt;
	must_eq(vmbus_chan_gpadl(chan, 100 + LISTS - 1, VMBUS_READ_WRITE, &view), 0);
	vmbus_sgl_release(&view);
	packets += n;
}

/* The parent counts them; who serves the channel takes whatever it allows. */
START_TEST(provider_dispatch__has_as_many_lists_as_a_parent_may_allow)
{
	struct vmbus__pv_msg list = {
		.type = VMBUS_PV_GPADL, .bus = 1, .count = 2, .ranges = 1, .qwords = { PAGE, 40 }
	};
	const struct vmbus_msg msg = { .data = "", .len = 1, .type = VMBUS_PKT_INBAND };
	struct play p;
	uint32_t i;

	play_prepare(&p);
	p.vsp.packets = view_packets;
	must_eq(attach(&p, NULL), 0);
	bring_bus(&p);
	open_chan(&p);
	for (i = 0; i < LISTS; i++) {
		list.gpadl = 100 + i;
		script_send(p.sock, &list);
		must_eq(expect(&p, VMBUS_PV_GPADL_KNOWN).gpadl, list.gpadl);
	}
	must_eq(vmbus_ring_tx_put(&p.tx, &msg, 1), 1);
	must_eq(run(&p), 0);
	must_eq(packets, 1);
	play_fini(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "client", 10);

	tcase_add_test(tc, provider_dispatch__serves_a_channel);
	tcase_add_test(tc, provider_dispatch__asks_the_parent_to_signal);
	tcase_add_test(tc, provider_dispatch__wakes_a_child_whose_flag_was_left_set);
	tcase_add_test(tc, provider_dispatch__tells_of_a_broken_ring);
	tcase_add_test(tc, provider_dispatch__tells_that_an_open_failed);
	tcase_add_test(tc, provider_dispatch__gives_way);
	tcase_add_test(tc, provider_dispatch__closes_all_when_the_parent_goes);
	tcase_add_test(tc, provider_dispatch__leaves_a_parent_out_of_order);
	tcase_add_test(tc, provider_dispatch__leaves_a_parent_with_impossible_numbers);
	tcase_add_test(tc, provider_dispatch__takes_no_memory_that_could_go);
	tcase_add_test(tc, lesson_25_descriptors_of_a_parent_are_closed);
	tcase_add_test(tc, provider_attach__tells_why_not);
	tcase_add_test(tc, provider_attach__options_are_checked);
	tcase_add_test(tc, provider_dispatch__refuses_a_wrong_budget);
	tcase_add_test(tc, provider_dispatch__stays_readable_when_its_budget_is_spent);
	tcase_add_test(tc, provider_dispatch__lets_go_of_all_that_were_not_all_told);
	tcase_add_test(tc, provider_dispatch__has_as_many_lists_as_a_parent_may_allow);
}
VMBUS_TEST_MAIN("provider.client", tests)
