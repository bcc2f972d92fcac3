/* SPDX-License-Identifier: MIT */
/*
 * vmbus_bus_save() and vmbus_bus_restore(): a session that is cut at every step.
 */
#include "cut.h"

#include "bank.h"

struct session {
	struct cut cut;
	struct bank_ctx bank[2];
	struct vmbus_chan *chan[2];
	uint32_t version;
	bool second_gone; /* the embedder withdrew it */
	uint64_t seq;
};

static struct session *session_of(struct cut *cut)
{
	return (struct session *)cut->ctx;
}

static void offer_both(struct cut *cut)
{
	struct session *s = session_of(cut);
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };

	s->bank[0] = (struct bank_ctx){ 0 };
	s->bank[1] = (struct bank_ctx){ .subs = 1 };
	opts.order = 1;
	opts.instance_id.b[0] = 1;
	must_eq(vmbus_bus_offer(cut->f.bus, &bank_vsp, &s->bank[0], &opts, &s->chan[0]), 0);
	opts.order = 2;
	opts.instance_id.b[0] = 2;
	if (!s->second_gone)
		must_eq(vmbus_bus_offer(cut->f.bus, &bank_vsp, &s->bank[1], &opts, &s->chan[1]), 0);
}

/* Send a request of len bytes; false when there is no room. */
static bool ask(struct session *s, uint32_t at, uint32_t op, uint32_t n, uint32_t len)
{
	uint8_t data[4096] = { 0 };
	const struct bank_request req = { op, n, s->seq + 1 };

	memcpy(data, &req, sizeof(req));
	if (fake_send(&s->cut.chan[at], s->seq + 1, data, len) != 1)
		return false;
	s->seq++;
	cut_point(&s->cut);
	return true;
}

/* Take at most n packets that came; returns how many. */
static uint32_t hear(struct session *s, uint32_t at, uint32_t n)
{
	struct vmbus_packet pkt;
	uint32_t got = 0;

	while (got < n && fake_receive(&s->cut.chan[at], &pkt, 1) == 1) {
		struct cut_log *log = &s->cut.packets[at];

		cut_log(log, &pkt.type, sizeof(pkt.type));
		cut_log(log, &pkt.id, sizeof(pkt.id));
		cut_log(log, pkt.payload, pkt.len);
		got++;
		cut_point(&s->cut);
	}
	return got;
}

/* Everything that comes until nothing does. */
static uint32_t hear_all(struct session *s, uint32_t at)
{
	uint32_t all = 0, some;

	do {
		fake_run(&s->cut.f);
		some = hear(s, at, 64);
		all += some;
	} while (some);
	return all;
}

static void traffic(struct session *s, uint32_t at)
{
	uint32_t i, sent = 0;

	for (i = 0; i < 4; i++)
		must(ask(s, at, BANK_ECHO, 0, 16 + 56 * i));
	must_eq(hear_all(s, at), 4);
	for (i = 0; i < 3; i++)
		must(ask(s, at, BANK_KEEP, 0, 16));
	fake_run(&s->cut.f);
	must_eq(hear(s, at, 64), 0);
	must(ask(s, at, BANK_FLOOD, 250, 16));
	fake_run(&s->cut.f);		       /* until the ring to the child is full */
	while (ask(s, at, BANK_ECHO, 0, 3000)) /* and that from it */
		sent++;
	must(sent > 2);
	fake_run(&s->cut.f);
	must_eq(hear(s, at, 7), 7);
	must_eq(hear_all(s, at) + 7, 250 + 1 + sent);
	must(ask(s, at, BANK_PAY, 0, 16));
	must_eq(hear_all(s, at), 4);
}

static void modify(struct session *s, const struct fake_chan *c)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };

	if (s->version < VMBUS_PROTO_4_1)
		return;
	ctl.u.modify.relid = c->relid;
	ctl.u.modify.target_vp = 1;
	s->cut.f.busy = true; /* answers wait for the child's slot */
	fake_post(&s->cut.f, &ctl);
	fake_post_teardown(&s->cut.f, c->relid, 0xdead);
	fake_run(&s->cut.f);
	s->cut.f.busy = false;
	vmbus_bus_slot_free(s->cut.f.bus, 0, VMBUS_SINT_MESSAGE);
	cut_point(&s->cut);
	if (s->version >= VMBUS_PROTO_5_3)
		fake_expect(&s->cut.f, VMBUS_CTL_MODIFY_RESPONSE, NULL);
	fake_expect(&s->cut.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_run(&s->cut.f);
}

static void open_second(struct session *s)
{
	struct fake *f = &s->cut.f;
	struct fake_chan *const second = &s->cut.chan[1], *const sub = &s->cut.chan[2];
	struct vmbus_ctl ctl, offer;

	fake_rings(f, second, 3, 3);
	second->gpadl = f->next_gpadl++;
	must_eq(fake_share(f, second->relid, second->gpadl, second->first, 6), 0);
	fake_post_open(f, second, 0);
	fake_expect(f, VMBUS_CTL_OFFER, &offer);
	must_eq(offer.u.offer.sub_index, 1);
	fake_expect(f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	sub->fake = f;
	sub->relid = offer.u.offer.relid;
	sub->conn = offer.u.offer.conn_id;
	must_eq(fake_open(f, sub, 3, 3), 0);
	must(ask(s, 2, BANK_ECHO, 0, 16));
	must(ask(s, 1, BANK_KEEP, 0, 16));
	must_eq(hear_all(s, 2), 1);
	must_eq(hear_all(s, 1), 0);
}

/* The host withdraws the second device; the child sees to it, sub-channel first. */
static void withdraw_second(struct session *s)
{
	struct fake *f = &s->cut.f;
	struct vmbus_ctl ctl;
	uint32_t i;

	must_eq(vmbus_bus_revoke(s->chan[1]), 0);
	s->second_gone = true;
	cut_point(&s->cut);
	for (i = 0; i < 2; i++) {
		fake_expect(f, VMBUS_CTL_RESCIND, &ctl);
		must_eq(ctl.u.chan.relid, s->cut.chan[2 - i].relid);
	}
	for (i = 2; i >= 1; i--) {
		struct fake_chan *c = &s->cut.chan[i];

		fake_post_teardown(f, c->relid, c->gpadl);
		fake_expect(f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		fake_post_released(f, c->relid);
		fake_chan_free(c);
	}
	fake_expect_none(f);
}

static void unload(struct fake *f)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };

	fake_post(f, &ctl);
	fake_expect(f, VMBUS_CTL_UNLOAD_RESPONSE, NULL);
}

static void script(struct session *s)
{
	struct fake *f = &s->cut.f;
	struct fake_chan *const c = s->cut.chan;

	fake_contact(f, s->version);
	must_eq(fake_offers(f, c, CUT_CHANS), 2);
	must_eq(fake_open(f, &c[0], 28, 3), 0); /* more pages than one message names */
	must_eq(fake_share(f, c[0].relid, f->next_gpadl++, fake_pages(f, 40), 40), 0);
	traffic(s, 0);
	modify(s, &c[0]);
	open_second(s);
	fake_close(f, &c[0]);
	must_eq(fake_open(f, &c[0], 3, 3), 0);
	must(ask(s, 0, BANK_ECHO, 0, 24));
	must_eq(hear_all(s, 0), 1);
	withdraw_second(s);
	must(ask(s, 0, BANK_KEEP, 0, 16));
	must(ask(s, 0, BANK_PAY, 0, 16));
	must_eq(hear_all(s, 0), 2);
	unload(f);
	fake_chan_free(&c[0]);
	fake_contact(f, s->version);
	must_eq(fake_offers(f, c, CUT_CHANS), 1);
	unload(f);
}

static void prepare(struct session *s, uint32_t version, uint32_t at, enum cut_how how)
{
	memset(s, 0, sizeof(*s));
	s->version = version;
	s->cut.ctx = s;
	s->cut.at = at;
	s->cut.how = how;
	s->cut.offer = offer_both;
}

static void play(struct session *s)
{
	cut_begin(&s->cut);
	script(s);
	cut_end(&s->cut);
}

static void run(struct session *s, uint32_t version, uint32_t at, enum cut_how how)
{
	prepare(s, version, at, how);
	play(s);
}

static const uint32_t versions[] = {
	VMBUS_PROTO_5_3, VMBUS_PROTO_6_0, VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0,
	VMBUS_PROTO_4_1, VMBUS_PROTO_5_0, VMBUS_PROTO_5_1, VMBUS_PROTO_5_2,
};

/* lesson 06: nothing is lost and nothing stalls, wherever the state was saved */
START_TEST(lesson_06_a_session_that_is_cut_anywhere)
{
	const uint32_t version = versions[_i / 2];
	const uint32_t stride = vmbus_test_full() || _i < 2 ? 1 : 13;
	struct session *whole = malloc(sizeof(*whole)), *s = malloc(sizeof(*s));
	uint32_t at;

	must(whole && s);
	run(whole, version, CUT_NEVER, CUT_HERE);
	for (at = (uint32_t)_i % 2; at < whole->cut.point; at += 2 * stride) {
		vmbus_test_at("cut at %u of %u, version %x", at, whole->cut.point, version);
		run(s, version, at, CUT_HERE);
		/* On a slow machine a session has a turn or two more than another. */
		must(s->cut.state_bytes > 0 || (s->cut.point <= at && at + 8 > whole->cut.point));
		cut_same(&s->cut, &whole->cut);
		must_eq(s->cut.f.removed > 0, true);
		cut_free_logs(&s->cut);
	}
	cut_free_logs(&whole->cut);
	free(whole);
	free(s);
}
END_TEST

/* The same with the state restored by another process. */
START_TEST(vmbus_bus_restore__in_another_process)
{
	struct session *whole = malloc(sizeof(*whole)), *s = malloc(sizeof(*s));
	uint32_t at, cuts = 0;

	must(whole && s);
	run(whole, VMBUS_PROTO_5_3, CUT_NEVER, CUT_HERE);
	for (at = 3; at < whole->cut.point; at += 29, cuts++) {
		const pid_t pid = fork();
		int status = -1;

		must(pid >= 0);
		if (pid == 0) {
			vmbus_test_at("cut at %u, in another process", at);
			run(s, VMBUS_PROTO_5_3, at, CUT_FORK);
			cut_same(&s->cut, &whole->cut);
			status = s->cut.forked ? 42 : 1;
			cut_free_logs(&s->cut);
			cut_free_logs(&whole->cut);
			free(whole);
			free(s);
			_exit(status);
		}
		must(waitpid(pid, &status, 0) == pid);
		must(WIFEXITED(status));
		must_eq(WEXITSTATUS(status), 42);
	}
	must(cuts > 10);
	cut_free_logs(&whole->cut);
	free(whole);
	free(s);
}
END_TEST

/* Every byte that the bus changes lies in a page that is marked, before a cut and after it. */
START_TEST(vmbus_bus__changes_only_marked_pages)
{
	struct session *s = malloc(sizeof(*s));
	uint32_t at;

	must(s != NULL);
	for (at = 0; at < 1400; at += 137) {
		vmbus_test_at("cut at %u", at);
		prepare(s, VMBUS_PROTO_5_3, at, CUT_HERE);
		s->cut.watch = true;
		play(s);
		must(s->cut.changed > 100);
		cut_free_logs(&s->cut);
	}
	free(s);
}
END_TEST

/* Saving itself, and restoring, writes nothing to the child's memory. */
static void must_not_write(struct cut *cut, const void *state, size_t bytes)
{
	uint8_t *copy = malloc(CUT_PAGES * FAKE_PAGE);
	size_t need;

	(void)state;
	must(copy != NULL);
	memcpy(copy, cut->f.mem, CUT_PAGES * FAKE_PAGE);
	must_eq(vmbus_bus_save(cut->f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	must_eq(need, bytes);
	must(memcmp(copy, cut->f.mem, CUT_PAGES * FAKE_PAGE) == 0);
	free(copy);
}

START_TEST(vmbus_bus_save__writes_nothing)
{
	struct session *s = malloc(sizeof(*s));
	uint32_t at;

	must(s != NULL);
	for (at = 0; at < 1400; at += 101) {
		vmbus_test_at("cut at %u", at);
		prepare(s, VMBUS_PROTO_5_3, at, CUT_HERE);
		s->cut.saved = must_not_write;
		play(s);
		cut_free_logs(&s->cut);
	}
	free(s);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "cut", 60);

	tcase_add_loop_test(tc, lesson_06_a_session_that_is_cut_anywhere, 0, 18);
	tcase_add_test(tc, vmbus_bus_restore__in_another_process);
	tcase_add_test(tc, vmbus_bus__changes_only_marked_pages);
	tcase_add_test(tc, vmbus_bus_save__writes_nothing);
}
VMBUS_TEST_MAIN("bus.save", tests)
