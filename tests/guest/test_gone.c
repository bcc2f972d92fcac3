/* SPDX-License-Identifier: MIT */
/*
 * A channel that the parent takes away: a rescind at every step, what may be done with it then, hot
 * add and remove; the end of the parent, and of the guest.
 */
#include "client.h"

/* Fill the queue of two messages, of which no one can be posted. */
static void fill_queue(struct parent *p)
{
	struct vmbus_ctl_tl tl = { 0 };

	p->post_status = 0x13; /* no buffers */
	p->post_status_times = UINT32_MAX;
	do
		tl.endpoint_id.b[0]++;
	while (vmbus_guest_tl_connect(p->guest, &tl) == 0);
	must_eq(tl.endpoint_id.b[0], 3);
}

/*
 * A rescind while the queue is full: the close and the release of the channel wait for their places
 * in it, and are done then.  Test i: whether the channel is open.
 */
START_TEST(vsc_closed__of_a_rescind_waits_for_the_machines_queue)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct parent_chan *chan = parent_offer(p, 1);
	struct client c;
	unsigned long posts;
	uint32_t i;

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.queue_max = 2;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	parent_connect(p);
	client_init(&c, p, vmbus_vsc_find(p->guest, &parent_class, 0));
	if (_i)
		client_open(&c);
	fill_queue(p);
	must_eq(vmbus_srv_revoke(p->srv, chan->ref), 0);
	for (i = 0; i < 100; i++) {
		must(vmbus_guest_dispatch(p->guest, 16) >= 0);
		(void)parent_turn(p);
		p->now += 100;
	}
	must_eq(vmbus_vsc_state(c.vsc), VMBUS_VSC_GONE);
	must_eq(c.closed, (unsigned long)_i);
	must_eq(p->gone, 0); /* the parent has heard of nothing yet */
	must(chan->offered);
	p->post_status_times = 0;
	posts = p->posts;
	parent_settle(p);
	must_eq(p->posts - posts, _i ? 5 : 3); /* the queue, CLOSE, TEARDOWN; RELID_RELEASED */
	must_eq(p->gone, 1);
	must(!chan->offered);
	must_eq(p->lines, 0);
	parent_free(p, 0);
}
END_TEST

/* One unit of work at a time; _i of them, then the parent withdraws the channel. */
START_TEST(lesson_16_rescind_at_every_step_of_an_open)
{
	struct pair s;
	const uint64_t n = 1;
	int i;

	pair_init(&s);
	must_eq(client_begin(&s.c), 0);
	for (i = 0; i < _i; i++)
		if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
			(void)parent_turn(s.p);
	if (s.c.live)
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	parent_settle(s.p);
	must_eq(s.p->gone, 1);
	must_eq(s.c.opened + s.c.failed, 1);
	must_eq(s.c.closed, s.c.opened);
	must(!s.chan->offered); /* the relid was released */
	must_eq(s.p->mem.shared_pages, 0);
	must(vmbus_vsc_find(s.p->guest, &parent_class, 0) == NULL);
	/* The slot is used again, by a channel that works. */
	s.chan = parent_offer(s.p, 2);
	parent_settle(s.p);
	client_init(&s.c, s.p, vmbus_vsc_find(s.p->guest, &parent_class, 0));
	client_open(&s.c);
	must_eq(client_request(&s.c, &n, 8, NULL), 0);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(lesson_16_rescind_at_every_step_of_a_close)
{
	struct pair s;
	int i;

	pair_init(&s);
	client_open(&s.c);
	s.chan->on_packet = parent_ignore;
	must_eq(client_request(&s.c, &i, sizeof(i), NULL), 0);
	must_eq(vmbus_vsc_close(s.c.vsc), 0);
	for (i = 0; i < _i; i++)
		if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
			(void)parent_turn(s.p);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	parent_settle(s.p);
	must_eq(s.p->gone, 1);
	must_eq(s.c.closed, 1);
	must_eq(s.c.ended, 1);
	must(!s.chan->offered);
	must_eq(s.p->mem.shared_pages, 0);
	parent_free(s.p, 0);
}
END_TEST

/* What may be done with a channel that is gone, in its last callbacks. */
static void closed_gone(struct client *c)
{
	struct vmbus_vsc_info info;

	must_eq(vmbus_vsc_state(c->vsc), VMBUS_VSC_GONE);
	must_eq(vmbus_vsc_open(c->vsc, &c->opts), VMBUS_E_STATE);
	must_eq(vmbus_vsc_close(c->vsc), VMBUS_E_STATE);
	must_eq(vmbus_vsc_set_vp(c->vsc, 1), VMBUS_E_STATE);
	must_eq(vmbus_vsc_share(c->vsc, c->parent->mem.guest, 1,
				(void (*)(struct vmbus_vsc *, uint32_t, int))abort),
		VMBUS_E_STATE);
	must_eq(client_send(c, &info, 8), VMBUS_E_STATE);
	vmbus_vsc_info(c->vsc, &info);
	must_eq(info.requests, 0);
	must(vmbus_vsc_find(vmbus_vsc_guest(c->vsc), &parent_class, 0) == NULL);
}

START_TEST(vsc_closed__tells_of_a_rescind)
{
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	s.c.on_closed = closed_gone;
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(s.c.closed, 1);
	parent_settle(s.p);
	must_eq(s.p->gone, 1);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_wait__for_the_end)
{
	struct pair s;

	pair_init(&s);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_STATE);
	client_open(&s.c);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), VMBUS_E_AGAIN);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_GONE, PARENT_SECOND), 0);
	must_eq(s.p->gone, 1); /* vsc has no meaning any more */
	must_eq(s.c.closed, 1);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_find__hot_add_and_remove)
{
	struct parent *p = parent_new(0);
	size_t private_pages = 0;
	struct client c;
	uint64_t n;

	parent_connect(p);
	for (n = 0; n < 500; n++) {
		struct parent_chan *chan = parent_offer(p, (uint8_t)n);

		parent_settle(p);
		client_init(&c, p, vmbus_vsc_find(p->guest, &parent_class, 0));
		client_open(&c);
		must_eq(client_request(&c, &n, 8, NULL), 0);
		parent_settle(p);
		must_eq(c.completed, 1);
		must_eq(vmbus_srv_revoke(p->srv, chan->ref), 0);
		parent_settle(p);
		must_eq(p->gone, n + 1);
		must_eq(p->mem.shared_pages, 0);
		if (n == 0)
			private_pages = p->mem.private_pages;
		must_eq(p->mem.private_pages, private_pages);
	}
	parent_free(p, 0);
}
END_TEST

/* ---- the end of the parent ---- */

START_TEST(guest_parent_gone__at_every_step_of_an_open)
{
	struct pair s;
	size_t leaked;
	int i;

	pair_init(&s);
	must_eq(client_begin(&s.c), 0);
	for (i = 0; i < _i; i++)
		if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
			(void)parent_turn(s.p);
	if (s.c.live)
		must_eq(client_request(&s.c, &i, sizeof(i), NULL), 0);
	vmbus_guest_parent_gone(s.p->guest);
	while (vmbus_guest_dispatch(s.p->guest, 16))
		;
	must_eq(s.p->gone, 1);
	must_eq(s.c.opened + s.c.failed, 1);
	must_eq(s.c.closed, s.c.opened);
	/* If the parent knew the pages, they are lost, and that is logged. */
	leaked = s.p->mem.shared_pages;
	must(leaked == 0 || (leaked == 34 && s.p->lines > 0));
	must_eq(s.p->refusals, 0); /* nothing was refused, and the log does not say so */
	must(leaked == 34 || s.p->posts <= 3);
	parent_free(s.p, leaked);
}
END_TEST

START_TEST(guest_destroy__with_an_open_channel)
{
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	s.chan->on_packet = parent_ignore;
	must_eq(client_request(&s.c, &s, 8, NULL), 0);
	parent_free(s.p, 34); /* ends the request, closes, and leaks what the parent may use */
	must_eq(s.c.ended, 1);
	must_eq(s.c.closed, 1);
}
END_TEST

/* ---- a pause amid the end of a channel ---- */

static void pause_now(struct vmbus_guest *guest)
{
	must_eq(vmbus_guest_pause(guest), 0);
}

static void pause_in_completed(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	(void)cookie;
	must(pkt == NULL);
	c->on_completed = NULL;
	pause_now(c->parent->guest);
}

static void pause_in_opened(struct client *c, int err)
{
	must(err != 0);
	pause_now(c->parent->guest);
}

static void pause_in_ready(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)gpadl;
	must(err != 0);
	pause_now(vmbus_vsc_guest(vsc));
}

static uint32_t shared_as;
static int unshared_err;

static void shared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	must_eq(err, 0);
	shared_as = gpadl;
}

static void unshared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	must_eq(gpadl, shared_as);
	unshared_err = err;
}

static void pausing_pair(struct pair *s, void (*paused_p)(void *ctx, int err))
{
	struct parent *p = parent_new(VMBUS_PROTO_6_0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.version_max = VMBUS_PROTO_6_0;
	opts.limits.features = VMBUS_FEATURE_PAUSE;
	opts.paused = paused_p;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	s->p = p;
	s->chan = parent_offer(p, 1);
	parent_connect(p);
	client_init(&s->c, p, vmbus_vsc_find(p->guest, &parent_class, 0));
}

static int paused_err;

static void paused(void *ctx, int err)
{
	(void)ctx;
	paused_err = err;
}

/* The parent has answered, and is gone before the guest has taken that up, after so many units. */
START_TEST(guest_pause__by_a_parent_that_is_gone)
{
	struct pair s;
	int i;

	pausing_pair(&s, paused);
	paused_err = 1;
	client_open(&s.c);
	must_eq(vmbus_guest_pause(s.p->guest), 0);
	for (i = 0; i < _i; i++) {
		(void)parent_turn(s.p);
		(void)vmbus_guest_dispatch(s.p->guest, 1);
	}
	vmbus_guest_parent_gone(s.p->guest);
	for (i = 0; i < 50; i++)
		(void)vmbus_guest_dispatch(s.p->guest, 64);
	must(paused_err != 1); /* told */
	must_eq(s.p->gone, 1);
	must_eq(s.c.closed, 1);
	must(vmbus_guest_timeout(s.p->guest) == UINT64_MAX);
	parent_free(s.p, PARENT_ANY);
}
END_TEST

/*
 * The connection has ended amid leaving, and a thread has not left its channel yet: there is nothing to
 * look at until it has, and then it goes on.
 */
START_TEST(guest_timeout__while_leaving_a_connection_that_has_ended)
{
	struct client other;
	struct pair s;
	int i;

	pair_init(&s);
	(void)parent_offer(s.p, 2);
	parent_settle(s.p);
	client_init(&other, s.p, vmbus_vsc_find(s.p->guest, &parent_class, 1));
	s.c.opts.own_thread = true;
	client_open(&s.c);
	client_open(&other);
	s.p->post_type = VMBUS_CTL_CLOSE;
	s.p->post_status = 5;
	s.p->post_status_times = 1;
	must_eq(vmbus_guest_disconnect(s.p->guest), 0);
	for (i = 0; i < 50; i++) {
		(void)vmbus_guest_dispatch(s.p->guest, 64);
		(void)parent_turn(s.p);
	}
	must_eq(vmbus_guest_state(s.p->guest), VMBUS_GUEST_LEAVING);
	must_eq(vmbus_guest_timeout(s.p->guest), 1000000); /* for the thread */
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), VMBUS_E_STATE);
	parent_settle(s.p);
	must_eq(vmbus_guest_state(s.p->guest), VMBUS_GUEST_IDLE);
	must_eq(s.p->gone, 2);
	parent_free(s.p, PARENT_ANY); /* the rings are lost */
}
END_TEST

static struct {
	int tl, paused;
} told;

static void tl_told(void *ctx, const struct vmbus_ctl_tl *tl, uint32_t status)
{
	(void)ctx;
	must_eq(tl->endpoint_id.b[0], 1);
	must(status != 0);
	told.tl++;
}

static void pause_told(void *ctx, int err)
{
	(void)ctx;
	must_eq(err, VMBUS_E_PEER);
	told.paused++;
}

/* Requests about the connection end as those of a channel do, also where there is no channel. */
START_TEST(guest_destroy__answers_what_the_connection_was_asked)
{
	const struct vmbus_ctl_tl tl = { .endpoint_id = { { 1 } }, .service_id = { { 9 } } };
	struct parent *p = parent_new(VMBUS_PROTO_6_0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.version_max = VMBUS_PROTO_6_0;
	opts.limits.features = VMBUS_FEATURE_PAUSE;
	opts.tl_refused = tl_told;
	opts.paused = pause_told;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	if (_i & 1)
		(void)parent_offer(p, 1);
	if (_i & 2)
		p->backend.leave_ns = PARENT_SECOND;
	parent_connect(p);
	p->mute = true;
	memset(&told, 0, sizeof(told));
	must_eq(vmbus_guest_tl_connect(p->guest, &tl), 0);
	must_eq(vmbus_guest_pause(p->guest), 0);
	while (vmbus_guest_dispatch(p->guest, 16) > 0)
		;
	parent_free(p, 0);
	must_eq(told.tl, 1);
	must_eq(told.paused, 1);
}
END_TEST

/* What a step has left to ask of the parent waits for the end of the pause, and nothing is lost. */
START_TEST(guest_pause__in_a_callback_of_a_channel_that_ends)
{
	struct pair s;
	uint8_t *pages;

	pausing_pair(&s, NULL);
	pages = vmbus_guest_pages(s.p->guest, 2);
	unshared_err = _i == 2;
	s.chan->on_packet = parent_ignore;
	if (_i == 0) { /* before CLOSE */
		s.c.on_completed = pause_in_completed;
		client_open(&s.c);
		must_eq(client_request(&s.c, "1", 1, NULL), 0);
		must_eq(vmbus_vsc_close(s.c.vsc), 0);
	} else if (_i == 1) { /* before the teardown of the rings */
		s.c.on_opened = pause_in_opened;
		s.chan->hold_open = true;
		must_eq(client_begin(&s.c), 0);
		parent_settle(s.p);
		must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	} else { /* before the teardown of shared pages */
		must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, shared), 0);
		parent_settle(s.p);
		must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
		(void)parent_turn(s.p);
		must_eq(vmbus_guest_dispatch(s.p->guest, 1), 1); /* the machine knows */
		must_eq(vmbus_vsc_share(s.c.vsc, pages + 4096, 1, pause_in_ready), 0);
		must_eq(vmbus_vsc_unshare(s.c.vsc, shared_as, unshared), 0);
	}
	parent_settle(s.p);
	must_eq(s.p->gone, 0);
	must_eq(vmbus_guest_resume(s.p->guest), 0);
	parent_settle(s.p);
	if (_i == 1) {
		parent_answer_open(s.chan, VMBUS_STATUS_FAILED);
		parent_settle(s.p);
	}
	must_eq(s.p->gone, _i != 0);
	must_eq(s.c.closed, _i == 0);
	must(!s.chan->is_open);
	must_eq(unshared_err, 0);
	vmbus_guest_pages_free(s.p->guest, pages, 2);
	if (_i == 0) {
		client_open(&s.c);
		client_close(&s.c);
	}
	must_eq(vmbus_guest_disconnect(s.p->guest), 0);
	must_eq(vmbus_guest_wait(s.p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	parent_free(s.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rescind", 20);

	tcase_add_loop_test(tc, vsc_closed__of_a_rescind_waits_for_the_machines_queue, 0, 2);
	tcase_add_loop_test(tc, lesson_16_rescind_at_every_step_of_an_open, 0, 24);
	tcase_add_loop_test(tc, lesson_16_rescind_at_every_step_of_a_close, 0, 16);
	tcase_add_test(tc, vsc_closed__tells_of_a_rescind);
	tcase_add_test(tc, vsc_wait__for_the_end);
	tcase_add_test(tc, vsc_find__hot_add_and_remove);
	tc = vmbus_test_case(suite, "pause", 20);
	tcase_add_loop_test(tc, guest_pause__in_a_callback_of_a_channel_that_ends, 0, 3);
	tcase_add_loop_test(tc, guest_pause__by_a_parent_that_is_gone, 0, 8);
	tc = vmbus_test_case(suite, "end", 20);
	tcase_add_loop_test(tc, guest_parent_gone__at_every_step_of_an_open, 0, 24);
	tcase_add_test(tc, guest_destroy__with_an_open_channel);
	tcase_add_test(tc, guest_timeout__while_leaving_a_connection_that_has_ended);
	tcase_add_loop_test(tc, guest_destroy__answers_what_the_connection_was_asked, 0, 4);
}
VMBUS_TEST_MAIN("guest.gone", tests)
