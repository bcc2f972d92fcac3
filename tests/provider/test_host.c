/* SPDX-License-Identifier: MIT */
/*
 * The host against a provider that is a raw socket, and a child made by hand: each message in its
 * place and out of it, and what the child sees of it.
 */
#include "stage.h"

#define FLOOD 10000u

START_TEST(provider_host__plays_a_whole_life)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	/* The fake's backend cannot bind: the child's signals come by the socket. */
	fake_child_signal(&s.chan);
	(void)expect(&s, VMBUS_PV_SIGNAL, 0);
	fake_child_signal(&s.chan);
	fake_child_signal(&s.chan);
	(void)expect(&s, VMBUS_PV_SIGNAL, 0);
	expect_none(&s);
	must_eq(s.f.raised, 0);
	say(&s, VMBUS_PV_SIGNAL);
	must_eq(s.f.raised, 1);
	step(&s, S_CHILD_CLOSES);
	fake_expect_none(&s.f);
	step(&s, S_CLOSED);
	fake_expect_none(&s.f);
	step(&s, S_DONE);
	fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	expect_none(&s);
	stage_fini(&s);
}
END_TEST

static void say_known(struct stage *s, uint32_t gpadl)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_GPADL_KNOWN,
					   .bus = s->bus,
					   .gpadl = gpadl };

	script_send(s->sock, &msg);
	run(s);
}

/* A packet may name it as soon as the child has its answer, so the provider knows it by then. */
START_TEST(provider_host__answers_a_list_when_it_is_known)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_post_share(&s.f, s.chan.relid, 41, 10, 3);
	must_eq(expect(&s, VMBUS_PV_GPADL, 0).gpadl, 41);
	fake_expect_none(&s.f);
	say_known(&s, 40); /* of which there is none */
	say_known(&s, s.chan.gpadl);
	fake_expect_none(&s.f);
	say_known(&s, 41);
	fake_expect(&s.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	must_eq(ctl.u.created.status, 0);
	say_known(&s, 41);
	fake_expect_none(&s.f);
	must(!script_closed(s.sock));
	/* The child closes, and has its answer by that. */
	fake_post_share(&s.f, s.chan.relid, 42, 10, 3);
	fake_expect_none(&s.f);
	fake_post_close(&s.f, &s.chan);
	fake_expect(&s.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.gpadl, 42);
	must_eq(ctl.u.created.status, 0);
	stage_fini(&s);
}
END_TEST

static uint64_t charged(const struct stage *s)
{
	struct vmbus_bus_stats stats;

	vmbus_bus_stats(s->f.bus, &stats);
	return stats.charged;
}

/* What it costs to find one among many is the child's. */
START_TEST(provider_host__charges_for_many_lists)
{
	uint64_t before, few;
	struct stage s;
	uint32_t id;

	stage_init(&s);
	steps_to(&s, S_READY);
	before = charged(&s);
	fake_post_share(&s.f, s.chan.relid, 100, 10, 1);
	run(&s);
	few = charged(&s) - before;
	for (id = 101; id < 356; id++) {
		fake_post_share(&s.f, s.chan.relid, id, 10, 1);
		run(&s);
	}
	before = charged(&s);
	fake_post_share(&s.f, s.chan.relid, id, 10, 1);
	run(&s);
	must(charged(&s) - before >= few + 32);
	stage_fini(&s);
}
END_TEST

/* The next provider is told of the list and has its word on it; one that says nothing is thrown out. */
START_TEST(provider_host__answers_a_list_that_the_next_one_knows)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_post_share(&s.f, s.chan.relid, 41, 10, 3);
	must_eq(expect(&s, VMBUS_PV_GPADL, 0).gpadl, 41);
	close(s.sock);
	s.sock = -1;
	run(&s);
	fake_expect_none(&s.f);
	provide(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	(void)expect(&s, VMBUS_PV_OPEN, 2);
	fake_expect_none(&s.f);
	say_known(&s, 41);
	fake_expect(&s.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	stage_fini(&s);
}
END_TEST

/* Not resumable: the child is told all the same, and that the channel is gone. */
START_TEST(provider_host__answers_a_list_that_nobody_will_know)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_post_share(&s.f, s.chan.relid, 41, 10, 3);
	must_eq(expect(&s, VMBUS_PV_GPADL, 0).gpadl, 41);
	close(s.sock);
	s.sock = -1;
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__tells_that_an_open_failed)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_OPENED, .err = 3 };
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_CHILD_OPENS);
	msg.bus = s.bus;
	msg.open = s.serial;
	script_send(s.sock, &msg);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must(ctl.u.result.status != 0);
	expect_none(&s);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__fails_a_channel_whose_provider_says_so)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_FAULT, .text = "ring\x1b[31m is broken" };
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	msg.bus = s.bus;
	msg.open = s.serial;
	script_send(s.sock, &msg);
	(void)expect(&s, VMBUS_PV_CLOSE, 0);
	must(fake_logged(&s.f, "ring?[31m is broken"));
	step(&s, S_OPENED); /* again: out of order */
	must(script_closed(s.sock));
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	stage_fini(&s);
}
END_TEST

/* A provider that comes after whatever was there before is served. */
static void next_one_lives(struct stage *s)
{
	struct vmbus_ctl ctl;

	reach(s);
	(void)expect(s, VMBUS_PV_PROVIDED, 0);
	(void)fake_take(&s->f, &ctl);
	run(s);
}

START_TEST(lesson_26_each_prefix_then_a_disconnect)
{
	uint32_t last, resumable;

	for (resumable = 0; resumable < 2; resumable++)
		for (last = 0; last < STEPS; last++) {
			struct stage s;

			stage_prepare(&s);
			s.flags = resumable ? VMBUS_PV_RESUMABLE : 0;
			stage_start(&s);
			steps_to(&s, (enum step)last);
			close(s.sock);
			s.sock = -1;
			run(&s);
			next_one_lives(&s);
			stage_fini(&s);
		}
}
END_TEST

START_TEST(lesson_26_each_message_twice)
{
	static const struct {
		enum step step;
		uint32_t type;
		bool harmless;
	} again[] = {
		{ S_READY, VMBUS_PV_BUS_READY, true },	    { S_OPENED, VMBUS_PV_OPENED, false },
		{ S_CLOSED, VMBUS_PV_CLOSED, true },	    { S_DONE, VMBUS_PV_GPADL_DONE, true },
		{ S_OPENED, VMBUS_PV_CLOSED, false },	    { S_OPENED, VMBUS_PV_YIELDED, false },
		{ S_OPENED, VMBUS_PV_PROVIDE, false },	    { S_OPENED, VMBUS_PV_SIGNAL, true },
		{ S_CHILD_CLOSES, VMBUS_PV_OPENED, false },
	};
	uint32_t i;

	for (i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
		struct stage s;

		stage_init(&s);
		steps_to(&s, again[i].step);
		vmbus_test_at("row %u", i);
		say(&s, again[i].type);
		must_eq(script_closed(s.sock), !again[i].harmless);
		next_one_lives(&s);
		stage_fini(&s);
	}
}
END_TEST

START_TEST(provider_host__throws_out_who_sends_what_it_may_not)
{
	uint32_t type;

	for (type = 0; type < 64; type++) {
		struct vmbus__pv_msg msg = { .type = type };
		struct stage s;

		if (!vmbus__pv_msg_bytes(type))
			continue;
		stage_init(&s);
		steps_to(&s, S_OPENED);
		vmbus_test_at("type %u", type);
		/* Of bus 0, which never was; those without a bus are not allowed now. */
		script_send(s.sock, &msg);
		run(&s);
		must(script_closed(s.sock));
		stage_fini(&s);
	}
}
END_TEST

START_TEST(provider_host__throws_out_impossible_numbers)
{
	static const struct vmbus__pv_msg wrong[] = {
		{ .type = VMBUS_PV_OPENED, .bus = 77 },
		{ .type = VMBUS_PV_OPENED, .bus = 1, .open = 77 },
		{ .type = VMBUS_PV_SIGNAL, .bus = 1, .open = UINT32_MAX },
		{ .type = VMBUS_PV_SUBS, .bus = 1, .count = 0 },
		{ .type = VMBUS_PV_SUBS, .bus = 1, .count = 2048 },
		{ .type = VMBUS_PV_SUBS, .bus = 1, .count = UINT32_MAX },
	};
	uint32_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct stage s;

		stage_init(&s);
		steps_to(&s, S_OPENED);
		vmbus_test_at("row %u", i);
		script_send(s.sock, &wrong[i]);
		run(&s);
		must(script_closed(s.sock));
		stage_fini(&s);
	}
}
END_TEST

START_TEST(provider_host__bounds_sub_channels)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_SUBS, .count = 2047 };
	struct stage s;

	stage_prepare(&s);
	s.f.opts.limits.struct_bytes = sizeof(s.f.opts.limits);
	s.f.opts.limits.chans_max = 8;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	msg.bus = s.bus;
	script_send(s.sock, &msg);
	run(&s);
	must(!script_closed(s.sock));
	msg.count = 2048;
	script_send(s.sock, &msg);
	run(&s);
	must(script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

static void say_subs(struct stage *s, uint32_t total)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_SUBS, .bus = s->bus, .count = total };

	script_send(s->sock, &msg);
	run(s);
}

/* SUBS has the total of an opening: what the next one says again is not offered again. */
START_TEST(provider_host__counts_sub_channels_over_a_death)
{
	struct vmbus_ctl ctl;
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	say_subs(&s, 2);
	for (i = 0; i < 2; i++)
		fake_expect(&s.f, VMBUS_CTL_OFFER, &ctl);
	provide(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	(void)expect(&s, VMBUS_PV_OPEN, 2);
	say(&s, VMBUS_PV_OPENED);
	say_subs(&s, 1);
	say_subs(&s, 2);
	fake_expect_none(&s.f);
	say_subs(&s, 3);
	fake_expect(&s.f, VMBUS_CTL_OFFER, &ctl);
	fake_expect_none(&s.f);
	must(!script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

START_TEST(lesson_25_descriptors_with_any_message_are_closed)
{
	static const uint32_t counts[] = { 1, 2, 8, 64, 253 };
	uint32_t type, i;

	for (type = 0; type < VMBUS_PV_END; type++)
		for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			struct vmbus__pv_msg msg = { .type = type };
			struct stage s;
			int fd, before;

			if (!vmbus__pv_msg_bytes(type))
				continue;
			stage_init(&s);
			steps_to(&s, S_READY);
			fd = eventfd(0, EFD_CLOEXEC);
			msg.bus = s.bus;
			before = vmbus_test_count_fds();
			vmbus_test_at("type %u, %u descriptors", type, counts[i]);
			must_eq(script_send_fds(s.sock, &msg, fd, counts[i]), 0);
			run(&s);
			must(script_closed(s.sock));
			must(vmbus_test_count_fds() <= before);
			close(fd);
			stage_fini(&s);
		}
}
END_TEST

START_TEST(lesson_25_descriptors_with_the_first_message_are_closed)
{
	struct vmbus__pv_msg msg = script_provide(0);
	struct stage s;
	int fd, before;

	stage_init(&s);
	fd = eventfd(0, EFD_CLOEXEC);
	before = vmbus_test_count_fds();
	s.sock = vmbus__shm_connect(s.path, 1000 * MS);
	must_eq(script_send_fds(s.sock, &msg, fd, 253), 0);
	run(&s);
	must(script_closed(s.sock));
	close(s.sock);
	s.sock = -1;
	must_eq(vmbus_test_count_fds(), before);
	close(fd);
	stage_fini(&s);
}
END_TEST

/* What the host answers to a PROVIDE. */
static uint32_t answer_to(struct stage *s, const struct vmbus__pv_msg *msg)
{
	const int sock = vmbus__shm_connect(s->path, 1000 * MS);
	struct vmbus__shm_record record;
	struct vmbus__pv_msg answer;

	must(sock >= 0);
	script_send(sock, msg);
	run(s);
	must(script_take(sock, &record, &answer));
	vmbus__shm_record_close(&record);
	close(sock);
	run(s);
	return answer.type == VMBUS_SHM_REFUSED ? answer.code : 0;
}

START_TEST(provider_host__refuses_and_says_why)
{
	struct vmbus__pv_msg msg = script_provide(0);
	struct stage s;

	stage_prepare(&s);
	s.opts.providers_max = 1;
	stage_start(&s);
	must_eq(answer_to(&s, &msg), 0);
	s.refuse = VMBUS_E_PERM;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_DENIED);
	s.refuse = 0;
	msg.flags = 0x80;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	msg.flags = VMBUS_PV_RESUMABLE; /* without a journal */
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	msg.journal = UINT64_MAX;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	msg = script_provide(0);
	msg.name[0] = 0;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	msg = script_provide(0);
	msg.offer_flags = 0x10000;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	/* One is there. */
	provide(&s);
	msg = script_provide(0);
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_TAKEN);
	msg = script_provide(VMBUS_PV_TAKE_OVER);
	msg.max_payload = 1;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_DENIED);
	msg = script_provide(0);
	(void)snprintf(msg.name, sizeof(msg.name), "another");
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_FULL);
	msg.type = VMBUS_PV_BUS_READY;
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_MESSAGE);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__survives_a_flood_of_signals)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_SIGNAL };
	struct stage s;
	uint32_t i;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	msg.bus = s.bus;
	msg.open = s.serial;
	for (i = 0; i < FLOOD; i++) {
		if (vmbus__pv_send(s.sock, &msg, NULL, 0) == VMBUS_E_AGAIN) {
			/* One call does no more than its share. */
			must(vmbus_provider_host_dispatch(s.host, 16) <= 256);
		}
	}
	run(&s);
	must(!script_closed(s.sock));
	must(s.f.raised > 100);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__throws_out_who_does_not_answer)
{
	static const enum step owed[] = { S_CHILD_OPENS, S_CHILD_CLOSES, S_CLOSED };
	uint32_t i;

	for (i = 0; i < 3; i++) {
		struct stage s;

		stage_prepare(&s);
		s.opts.answer_ns = 50 * MS;
		stage_start(&s);
		steps_to(&s, owed[i]);
		run_until_dead(&s, 5000 * MS);
		must(strstr(s.line, "is gone") != NULL);
		next_one_lives(&s);
		stage_fini(&s);
	}
}
END_TEST

/* A child opens and closes without pause, and the provider reads nothing: no memory piles up. */
START_TEST(provider_host__queues_nothing_for_who_does_not_read)
{
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.opts.answer_ns = 300 * MS;
	stage_start(&s);
	steps_to(&s, S_READY);
	fake_rings(&s.f, &s.chan, 4, 4);
	for (i = 0; i < 4000; i++) {
		must_eq(fake_share(&s.f, s.chan.relid, 0x1000 + i % 4000, s.chan.first, 8), 0);
		(void)vmbus_provider_host_dispatch(s.host, 64);
	}
	while (!strstr(s.line, "does not read its socket") && !strstr(s.line, "is gone")) {
		run(&s);
		usleep(1000);
	}
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__drops_who_says_nothing)
{
	struct stage s;
	uint32_t i;
	int socks[40];

	stage_init(&s);
	for (i = 0; i < 40; i++) {
		socks[i] = vmbus__shm_connect(s.path, 1000 * MS);
		must(socks[i] >= 0);
		run(&s);
	}
	provide(&s); /* there is room all the same */
	must(script_closed(socks[0]));
	for (i = 0; i < 40; i++)
		close(socks[i]);
	stage_fini(&s);
}
END_TEST

/* A death that nobody has looked at yet is no reason to refuse the next one. */
START_TEST(provider_host__sees_a_death_when_the_next_one_comes)
{
	const struct vmbus__pv_msg msg = script_provide(0);
	const struct vmbus__pv_msg signal = { .type = VMBUS_PV_SIGNAL, .bus = 1 };
	struct stage s;
	uint32_t i;

	stage_init(&s);
	steps_to(&s, S_READY);
	for (i = 0; i < 100; i++)
		script_send(s.sock, &signal);
	must_eq(answer_to((close(s.sock), s.sock = -1, &s), &msg), 0);
	stage_fini(&s);
}
END_TEST

/* Names that come and die do not use up the places of others for longer than wait_ns. */
START_TEST(provider_host__forgets_who_does_not_come_back)
{
	struct vmbus__pv_msg msg = script_provide(0);
	struct stage s;
	uint64_t end;

	stage_prepare(&s);
	s.opts.providers_max = 1;
	s.opts.wait_ns = 50 * MS;
	s.opts.attach = NULL;
	stage_start(&s);
	must_eq(answer_to(&s, &msg), 0);
	(void)snprintf(msg.name, sizeof(msg.name), "another");
	must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_FULL);
	end = fake_now_ns() + 5000 * MS;
	while (answer_to(&s, &msg)) {
		must(fake_now_ns() < end);
		usleep(5000);
	}
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__waits_as_long_as_told)
{
	struct vmbus__pv_msg msg = script_provide(0);
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.opts.providers_max = 1;
	s.opts.wait_ns = s.opts.answer_ns = UINT64_MAX;
	s.opts.attach = NULL;
	stage_start(&s);
	steps_to(&s, S_CHILD_OPENS); /* it owes an answer */
	for (i = 0; i < 10; i++) {
		run(&s);
		usleep(5000);
	}
	must(!strstr(s.line, "does not answer") && !strstr(s.line, "is gone"));
	close(s.sock);
	s.sock = -1;
	(void)snprintf(msg.name, sizeof(msg.name), "another");
	for (i = 0; i < 10; i++) {
		must_eq(answer_to(&s, &msg), VMBUS_SHM_CODE_FULL);
		usleep(5000);
	}
	stage_fini(&s);
}
END_TEST

/* A child that opens while its provider is away waits for the next one. */
START_TEST(provider_host__an_open_waits_for_the_next_provider)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_READY);
	close(s.sock);
	s.sock = -1;
	run(&s);
	child_opens(&s);
	run(&s);
	fake_expect_none(&s.f);
	provide(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	s.serial = expect(&s, VMBUS_PV_OPEN, 2).open;
	say(&s, VMBUS_PV_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	stage_fini(&s);
}
END_TEST

/* The journal that the next one is given is the one that the last one had. */
START_TEST(provider_host__keeps_the_journal)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	uint8_t byte = 0x77;
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_READY);
	child_opens(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	for (i = 0; i < 2; i++) {
		run(&s);
		must(script_take(s.sock, &record, &msg));
		must_eq(msg.type, VMBUS_PV_OPEN);
		must_eq((msg.flags & VMBUS_PV_RESUME) != 0, i == 1);
		must_eq(record.fd_count, 2);
		if (i == 0) {
			must_eq(pwrite(record.fds[1], &byte, 1, 100), 1);
			s.serial = msg.open;
			say(&s, VMBUS_PV_OPENED);
			provide(&s);
			(void)expect(&s, VMBUS_PV_GPADL, 0);
		} else {
			byte = 0;
			must_eq(pread(record.fds[1], &byte, 1, 100), 1);
			must_eq(byte, 0x77);
			must_eq(msg.open, s.serial);
		}
		vmbus__shm_record_close(&record);
	}
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__bounds_journals)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	s.opts.journal_bytes_max = 65535;
	stage_start(&s);
	steps_to(&s, S_READY);
	child_opens(&s);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must(ctl.u.result.status != 0);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_host__options_are_checked)
{
	struct vmbus_provider_host_opts opts = { 0 };
	struct vmbus_provider_host *host;
	struct stage s;

	must_eq(vmbus_provider_listen(&opts, &host), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	opts.path = "";
	must_eq(vmbus_provider_listen(&opts, &host), VMBUS_E_RANGE);
	opts.path = NULL;
	opts.providers_max = 257;
	must_eq(vmbus_provider_listen(&opts, &host), VMBUS_E_RANGE);
	opts.providers_max = 0;
	opts.path = "/nowhere/at/all";
	must(vmbus_provider_listen(&opts, &host) < 0);
	stage_init(&s);
	must_eq(vmbus_provider_host_add_bus(s.host, s.f.bus, s.f.regions, 1), VMBUS_E_STATE);
	vmbus_provider_host_remove_bus(s.host, s.f.bus);
	vmbus_provider_host_remove_bus(s.host, s.f.bus);
	s.f.region.fd = -1;
	must_eq(vmbus_provider_host_add_bus(s.host, s.f.bus, s.f.regions, 1), VMBUS_E_INVAL);
	must_eq(vmbus_provider_host_dispatch(s.host, 0), VMBUS_E_RANGE);
	vmbus_provider_host_destroy(NULL);
	stage_fini(&s);
}
END_TEST

/* A host that ends before its buses leaves nothing that they could stumble over. */
START_TEST(provider_host_destroy__leaves_buses_whole)
{
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	vmbus_provider_host_destroy(s.host);
	must(script_closed(s.sock));
	fake_run(&s.f);
	close(s.sock);
	fake_chan_free(&s.chan);
	fake_fini(&s.f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "host", 10);

	tcase_add_test(tc, provider_host__plays_a_whole_life);
	tcase_add_test(tc, provider_host__answers_a_list_when_it_is_known);
	tcase_add_test(tc, provider_host__charges_for_many_lists);
	tcase_add_test(tc, provider_host__answers_a_list_that_the_next_one_knows);
	tcase_add_test(tc, provider_host__answers_a_list_that_nobody_will_know);
	tcase_add_test(tc, provider_host__tells_that_an_open_failed);
	tcase_add_test(tc, provider_host__fails_a_channel_whose_provider_says_so);
	tcase_add_test(tc, lesson_26_each_prefix_then_a_disconnect);
	tcase_add_test(tc, lesson_26_each_message_twice);
	tcase_add_test(tc, provider_host__throws_out_who_sends_what_it_may_not);
	tcase_add_test(tc, provider_host__throws_out_impossible_numbers);
	tcase_add_test(tc, provider_host__bounds_sub_channels);
	tcase_add_test(tc, provider_host__counts_sub_channels_over_a_death);
	tcase_add_test(tc, lesson_25_descriptors_with_any_message_are_closed);
	tcase_add_test(tc, lesson_25_descriptors_with_the_first_message_are_closed);
	tcase_add_test(tc, provider_host__refuses_and_says_why);
	tcase_add_test(tc, provider_host__survives_a_flood_of_signals);
	tcase_add_test(tc, provider_host__throws_out_who_does_not_answer);
	tcase_add_test(tc, provider_host__queues_nothing_for_who_does_not_read);
	tcase_add_test(tc, provider_host__drops_who_says_nothing);
	tcase_add_test(tc, provider_host__sees_a_death_when_the_next_one_comes);
	tcase_add_test(tc, provider_host__forgets_who_does_not_come_back);
	tcase_add_test(tc, provider_host__waits_as_long_as_told);
	tcase_add_test(tc, provider_host__an_open_waits_for_the_next_provider);
	tcase_add_test(tc, provider_host__keeps_the_journal);
	tcase_add_test(tc, provider_host__bounds_journals);
	tcase_add_test(tc, provider_host__options_are_checked);
	tcase_add_test(tc, provider_host_destroy__leaves_buses_whole);
}
VMBUS_TEST_MAIN("provider.host", tests)
