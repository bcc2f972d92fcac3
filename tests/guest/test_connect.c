/* SPDX-License-Identifier: MIT */
/* Connecting, offers, waiting, leaving; a parent that refuses, is slow, or goes away. */
#include "parent.h"

/* [CTL-VERSION], [CTL-CONTACT] */
static const uint32_t versions[] = { VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0,
				     VMBUS_PROTO_4_1, VMBUS_PROTO_5_0, VMBUS_PROTO_5_1,
				     VMBUS_PROTO_5_2, VMBUS_PROTO_5_3 };

START_TEST(guest_connect__agrees_on_every_version)
{
	struct parent *p = parent_new(versions[_i]);

	p->no_contact_port = versions[_i] < VMBUS_PROTO_5_0;
	(void)parent_offer(p, 1);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	must_eq(vmbus_guest_version(p->guest), 0);
	parent_connect(p);
	must_eq(vmbus_guest_version(p->guest), versions[_i]);
	must_eq(p->version, versions[_i]);
	must_eq(p->lines, 0);
	must(vmbus_vsc_find(p->guest, &parent_class, 0) != NULL);
	must(vmbus_vsc_find(p->guest, &parent_class, 1) == NULL);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_connect__is_refused_when_no_version_suits)
{
	struct parent *p = parent_new(VMBUS_PROTO_4_1);
	struct vmbus_guest_opts opts = parent_guest_opts(p);

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.version_min = VMBUS_PROTO_5_0;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_CONNECTING);
	must_eq(vmbus_guest_connect(p->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_REFUSED);
	must_eq(vmbus_guest_disconnect(p->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_REFUSED, PARENT_SECOND), 0);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_create__refuses_what_cannot_be)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct vmbus_guest_backend broken = p->backend;
	struct vmbus_guest *guest = NULL;

	opts.struct_bytes--;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	opts = parent_guest_opts(p);
	opts.backend = NULL;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	opts.backend = &broken;
	broken.post = NULL;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	broken = p->backend;
	broken.struct_bytes--;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	opts = parent_guest_opts(p);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.chans_max = 2048;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_RANGE);
	opts.limits.chans_max = 1;
	opts.limits.struct_bytes = 1;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	opts.limits.struct_bytes = 0; /* limits that would not count */
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_INVAL);
	opts = parent_guest_opts(p);
	p->mem.fail_at = p->mem.allocs + 1;
	must_eq(vmbus_guest_create(&opts, &guest), VMBUS_E_NOMEM);
	must(guest == NULL);
	vmbus_guest_destroy(NULL);
	parent_free(p, 0);
}
END_TEST

/* [HC-STATUS]: insufficient buffers, insufficient memory, no such connection. */
START_TEST(guest_post__is_tried_again_while_the_parent_has_no_buffers)
{
	static const uint32_t statuses[] = { 0x13, 0x0B, 0x12 };
	struct parent *p = parent_new(0);

	parent_connect(p);
	(void)parent_offer(p, 1);
	parent_settle(p);
	p->posts = 0;
	p->post_status = statuses[_i];
	p->post_status_times = 40;
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, 10 * PARENT_SECOND), 0);
	must(p->posts >= 41);
	must_eq(p->unloads, 1);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_post__is_tried_at_a_growing_pace)
{
	struct parent *p = parent_new(0);
	unsigned long posts;
	uint64_t from, left;

	p->post_status = 0x13;
	p->post_status_times = UINT32_MAX;
	must_eq(vmbus_guest_connect(p->guest), 0);
	from = p->now;
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 10 * PARENT_SECOND),
		VMBUS_E_AGAIN);
	must(p->now - from >= 100000000);
	/* 17 doublings from 1 us to 100 ms, then ten in a second. */
	must(p->posts >= 100 && p->posts <= 130);
	left = vmbus_guest_timeout(p->guest);
	must(left > 0 && left <= 100000000);
	posts = p->posts;
	must_eq(vmbus_guest_dispatch(p->guest, 10), 0); /* nothing to do before that */
	must_eq(p->posts, posts);
	p->post_status_times = 0;
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), 0);
	must_eq(vmbus_guest_timeout(p->guest), UINT64_MAX);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_post__gives_the_same_message_until_it_is_done)
{
	struct parent *p = parent_new(0);

	p->post_again_times = 3;
	p->post_again_left = 3;
	(void)parent_offer(p, 1);
	parent_connect(p);
	must_eq(p->posts, 2); /* contact, request offers: each once */
	must_eq(p->version, VMBUS_PROTO_5_3);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_post__gives_up_on_a_status_that_is_final)
{
	struct parent *p = parent_new(0);

	p->post_status = 5; /* invalid parameter */
	p->post_status_times = UINT32_MAX;
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), VMBUS_E_PEER);
	must(p->lines > 0);
	parent_free(p, 0);
}
END_TEST

/* A message that has no answer, and is refused for good: the connection has ended. */
START_TEST(guest_post__ends_the_connection_without_its_request_for_offers)
{
	struct parent *p = parent_new(0);

	(void)parent_offer(p, 1);
	p->post_type = VMBUS_CTL_REQUEST_OFFERS;
	p->post_status = 5;
	p->post_status_times = 1;
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_REFUSED);
	must_eq(vmbus_guest_disconnect(p->guest), VMBUS_E_STATE);
	parent_connect(p);
	must_eq(p->offered, 1);
	parent_free(p, 0);
}
END_TEST

/* The same with a channel.  Test i: before or while it disconnects. */
START_TEST(guest_post__ends_the_connection_without_its_close)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct parent *p = parent_new(0);
	struct vmbus_vsc *vsc;

	(void)parent_offer(p, 1);
	parent_connect(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	p->post_type = VMBUS_CTL_CLOSE;
	p->post_status = 5;
	p->post_status_times = 1;
	if (_i)
		must_eq(vmbus_guest_disconnect(p->guest), 0);
	else
		must_eq(vmbus_vsc_close(vsc), 0);
	parent_settle(p);
	must_eq(vmbus_guest_state(p->guest), _i ? VMBUS_GUEST_IDLE : VMBUS_GUEST_REFUSED);
	must_eq(p->gone, 1);
	must_eq(vmbus_guest_disconnect(p->guest), VMBUS_E_STATE);
	parent_connect(p);
	must_eq(p->offered, 2);
	parent_free(p, PARENT_ANY); /* the rings are lost */
}
END_TEST

/*
 * A connection that is not there any more, and a backend that fails: tried for some seconds, and then
 * everything ends.  One unit of work at a time, so that no try hides behind another one's.
 */
START_TEST(guest_post__gives_up_in_the_end)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct parent *p = parent_new(0);
	struct vmbus_vsc *vsc;
	uint64_t left, end;
	int done;

	(void)parent_offer(p, 1);
	parent_connect(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	p->post_status = _i % 2 ? (uint32_t)VMBUS_E_SYSTEM : 0x12;
	p->post_status_times = UINT32_MAX;
	p->post_type = _i < 2 ? 0 : VMBUS_CTL_UNLOAD;
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	end = p->now + 60 * PARENT_SECOND / 100;
	while (vmbus_guest_state(p->guest) != VMBUS_GUEST_IDLE) {
		done = vmbus_guest_dispatch(p->guest, 1);
		left = vmbus_guest_timeout(p->guest);
		if (done == 0 && parent_turn(p) == 0) {
			must(left != UINT64_MAX);
			p->now += left / 100 + 1;
		}
		must(p->now < end);
	}
	must_eq(p->gone, 1);
	p->post_status_times = 0;
	parent_connect(p);
	must_eq(p->offered, 2);
	parent_free(p, PARENT_ANY);
}
END_TEST

START_TEST(lesson_15_every_wait_has_a_deadline)
{
	struct parent *p = parent_new(0);
	uint64_t from = p->now;

	p->mute = true;
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 3 * PARENT_SECOND),
		VMBUS_E_AGAIN);
	must(p->now - from >= 30000000);
	must(p->idles < 10); /* it slept, it did not spin */
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 0), VMBUS_E_AGAIN);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, UINT64_MAX), VMBUS_E_AGAIN);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_wait__needs_a_backend_that_can_idle)
{
	struct parent *p = parent_new(0);

	p->backend.idle = NULL;
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 1), VMBUS_E_NOTSUP);
	p->backend.idle = parent_idle;
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, 0), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 1000), VMBUS_E_STATE);
	parent_free(p, 0);
}
END_TEST

static unsigned long wakes;

static void count_wake(void *ctx)
{
	(void)ctx;
	wakes++;
}

static void not_ready(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	(void)gpadl;
	must_eq(err, 0);
}

/* At rest, then a call: it is due at once, and whoever sleeps is told. */
#define DUE(p, call)                                                                               \
	do {                                                                                       \
		parent_settle(p);                                                                  \
		must_eq(vmbus_guest_timeout((p)->guest), UINT64_MAX);                              \
		wakes = 0;                                                                         \
		must_eq((call), 0);                                                                \
		must_eq(vmbus_guest_timeout((p)->guest), 0);                                       \
		must(wakes > 0);                                                                   \
	} while (0)

START_TEST(guest_timeout__is_0_after_every_call_that_leaves_work)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct parent *p = parent_new(0);
	struct vmbus_vsc *vsc;
	uint8_t *pages;

	p->backend.wake = count_wake;
	(void)parent_offer(p, 1);
	DUE(p, vmbus_guest_connect(p->guest));
	parent_settle(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	pages = vmbus_guest_pages(p->guest, 1);
	DUE(p, vmbus_vsc_open(vsc, &opts));
	DUE(p, vmbus_vsc_set_vp(vsc, 0));
	DUE(p, vmbus_vsc_share(vsc, pages, 1, not_ready));
	wakes = 0;
	parent_settle(p);
	must_eq(wakes, 0); /* dispatch needs none */
	DUE(p, vmbus_vsc_close(vsc));
	DUE(p, vmbus_guest_disconnect(p->guest));
	parent_settle(p);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	vmbus_guest_pages_free(p->guest, pages, 1);
	parent_free(p, 0);
}
END_TEST

static bool keep;

static bool keeps(void *ctx)
{
	(void)ctx;
	return keep;
}

START_TEST(guest_destroy__is_the_backends_or_orderly)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .own_thread = true };
	struct parent *p = parent_new(0);
	struct vmbus_vsc *vsc;

	p->backend.keeps = keeps;
	p->backend.leave_ns = PARENT_SECOND;
	(void)parent_offer(p, 1);
	parent_connect(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	must_eq(vmbus_vsc_share(vsc, vmbus_guest_pages(p->guest, 1), 1, not_ready), 0);
	parent_settle(p);
	keep = true;
	vmbus_guest_destroy(p->guest);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_CONNECTED);
	must(strstr(p->last_line, "ignored") != NULL);
	keep = false;
	p->lines = 0;
	parent_new_guest(p);
	must_eq(p->unloads, 1);
	must_eq(p->lines, 0); /* nothing was lost */
	must_eq(p->mem.shared_pages, 1);
	parent_free(p, 1);
}
END_TEST

START_TEST(guest_log__names_messages_and_statuses)
{
	struct parent *p = parent_new(0);

	(void)parent_offer(p, 1);
	parent_connect(p);
	p->post_status = 0x12;
	p->post_status_times = 200;
	(void)vmbus_guest_disconnect(p->guest);
	(void)vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, 60 * PARENT_SECOND);
	must(strstr(p->last_line, "could not be posted, status 0x12 (") != NULL);
	must(strncmp(p->last_line, "could", 5) != 0); /* which message */
	parent_free(p, PARENT_ANY);
}
END_TEST

/* [CTL-UNLOAD] */
START_TEST(guest_disconnect__forgets_all_and_can_connect_again)
{
	struct parent *p = parent_new(0);
	int i;

	for (i = 0; i < 3; i++)
		(void)parent_offer(p, (uint8_t)i);
	for (i = 1; i <= 10; i++) {
		parent_connect(p);
		must_eq(p->offered, 3ul * (unsigned long)i);
		must_eq(vmbus_guest_disconnect(p->guest), 0);
		must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_LEAVING);
		must_eq(vmbus_guest_disconnect(p->guest), VMBUS_E_STATE);
		must_eq(vmbus_guest_connect(p->guest), VMBUS_E_STATE);
		must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
		must_eq(p->gone, p->offered);
		must_eq(p->unloads, (uint32_t)i);
		must_eq(vmbus_guest_version(p->guest), 0);
	}
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_disconnect__while_connecting)
{
	struct parent *p = parent_new(0);

	(void)parent_offer(p, 1);
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	must_eq(p->offered, 0); /* what is offered meanwhile is not told */
	must(vmbus_vsc_find(p->guest, &parent_class, 0) == NULL);
	parent_free(p, 0);
}
END_TEST

/* Test i: the parent does not answer; has no buffers; and the hypercall is under way. */
START_TEST(guest_disconnect__gives_up_a_contact)
{
	struct parent *p = parent_new(0);
	unsigned long posts;

	(void)parent_offer(p, 1);
	p->mute = true;
	p->post_status = _i == 1 ? 0x13 : (uint32_t)VMBUS_E_AGAIN;
	p->post_status_times = _i ? UINT32_MAX : 0;
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), VMBUS_E_AGAIN);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	if (_i < 2) {
		posts = p->posts;
		must_eq(vmbus_guest_timeout(p->guest), UINT64_MAX);
		p->now += 10000000;
		must_eq(vmbus_guest_dispatch(p->guest, 10), 0);
		must_eq(p->posts, posts);
	}
	p->post_status_times = 0;
	p->mute = false;
	parent_connect(p);
	must_eq(p->offered, 1);
	must_eq(p->lines, 0);
	parent_free(p, 0);
}
END_TEST

/* What the parent says to a contact that was given up is no answer to the next, which asks for more. */
START_TEST(guest_connect__takes_no_answer_to_an_older_contact)
{
	struct parent *p = parent_new(VMBUS_PROTO_4_1);

	p->no_contact_port = true;
	must_eq(vmbus_guest_connect(p->guest), 0);
	while (vmbus_guest_dispatch(p->guest, 64))
		;
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	while (vmbus_guest_dispatch(p->guest, 64))
		;
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	p->post_again_left = UINT32_MAX; /* nothing gets out for now */
	must_eq(vmbus_guest_connect(p->guest), 0);
	must(vmbus_guest_dispatch(p->guest, 64) >= 0);
	must(parent_turn(p) > 0);
	must(vmbus_guest_dispatch(p->guest, 64) >= 0);
	p->post_again_left = 0;
	parent_settle(p);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_CONNECTED);
	must_eq(vmbus_guest_version(p->guest), VMBUS_PROTO_4_1);
	parent_free(p, 0);
}
END_TEST

/* The parent was late, or never answers: what was given up does not cost the contacts that follow. */
START_TEST(guest_connect__after_one_that_was_given_up)
{
	struct parent *p = parent_new(0);
	uint32_t round, i;

	p->mailbox = true;
	must_eq(vmbus_guest_connect(p->guest), 0);
	must(vmbus_guest_dispatch(p->guest, 64) >= 0);
	p->mail_taken = true; /* and no answer yet */
	must(vmbus_guest_dispatch(p->guest, 64) >= 0);
	must(!p->mail);
	if (_i == 1) { /* it never comes */
		must(parent_turn(p) > 0);
		p->inbox_count = 0;
	}
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	for (i = 0; i < 8; i++) {
		must(vmbus_guest_dispatch(p->guest, 64) >= 0);
		(void)parent_turn(p);
	}
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	for (round = 0; round < 3; round++) {
		must_eq(vmbus_guest_connect(p->guest), 0);
		for (i = 0; i < 30; i++) {
			must(vmbus_guest_dispatch(p->guest, 64) >= 0);
			(void)parent_turn(p);
		}
		must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_CONNECTED);
		must_eq(vmbus_guest_disconnect(p->guest), 0);
		for (i = 0; i < 30; i++) {
			must(vmbus_guest_dispatch(p->guest, 64) >= 0);
			(void)parent_turn(p);
		}
		must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	}
	parent_free(p, 0);
}
END_TEST

/* A queue that is full of requests: UNLOAD waits for them, and goes then. */
START_TEST(guest_disconnect__waits_for_the_machines_queue)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct vmbus_ctl_tl tl = { 0 };
	uint32_t n = 0;

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.queue_max = 2;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	parent_connect(p);
	p->post_status = 0x13; /* no buffers */
	p->post_status_times = UINT32_MAX;
	do
		tl.endpoint_id.b[0] = (uint8_t)++n;
	while (vmbus_guest_tl_connect(p->guest, &tl) == 0);
	must_eq(n, 3);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), VMBUS_E_AGAIN);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_LEAVING);
	must_eq(p->unloads, 0);
	p->post_status_times = 0;
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	must_eq(p->unloads, 1);
	must_eq(p->lines, 0);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_parent_gone__ends_everything_for_good)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct parent *p = parent_new(0);
	struct vmbus_vsc *vsc;

	vmbus_guest_parent_gone(p->guest); /* not connected: nothing happens */
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_IDLE);
	(void)parent_offer(p, 1);
	parent_connect(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	vmbus_guest_parent_gone(p->guest);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_GONE);
	must_eq(p->gone, 0);			       /* callbacks come from dispatch */
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_GONE); /* dispatch has not told it yet */
	must_eq(vmbus_guest_timeout(p->guest), 0);
	must_eq(vmbus_guest_connect(p->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), VMBUS_E_PEER);
	while (vmbus_guest_dispatch(p->guest, 16))
		;
	must_eq(p->gone, 1);
	/* A pointer that was kept too long is told so as long as there is a guest. */
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_GONE);
	must_eq(vmbus_vsc_open(vsc, &opts), VMBUS_E_STATE);
	must_eq(vmbus_vsc_close(vsc), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_GONE, PARENT_SECOND), 0);
	/* The backend of a parent that is gone does not come back. */
	vmbus_srv_disconnect(p->srv);
	parent_settle(p);
	must_eq(vmbus_guest_connect(p->guest), VMBUS_E_STATE);
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_GONE);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_parent_gone__during_contact)
{
	struct parent *p = parent_new(0);

	must_eq(vmbus_guest_connect(p->guest), 0);
	vmbus_guest_parent_gone(p->guest);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, PARENT_SECOND), VMBUS_E_PEER);
	while (vmbus_guest_dispatch(p->guest, 16))
		;
	must_eq(vmbus_guest_state(p->guest), VMBUS_GUEST_GONE);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_offered__may_lack_memory)
{
	struct parent *p = parent_new(0);
	struct parent_chan *chan = parent_offer(p, 1);

	p->mem.fail_at = p->mem.allocs + 1;
	parent_connect(p);
	must_eq(p->offered, 0);
	must_eq(p->lines, 1);
	must(vmbus_vsc_find(p->guest, &parent_class, 0) == NULL);
	/* It is let go of when it is withdrawn, so that its relid is free again. */
	must_eq(vmbus_srv_revoke(p->srv, chan->ref), 0);
	parent_settle(p);
	must(!chan->offered);
	(void)parent_offer(p, 1);
	parent_settle(p);
	must_eq(p->offered, 1);
	parent_free(p, 0);
}
END_TEST

static void *no_private(void *ctx, size_t bytes, bool shared)
{
	return shared ? parent_alloc(ctx, bytes, shared) : NULL;
}

/* The same for many, while the messages that let go of them cannot be posted. */
START_TEST(guest_offered__may_lack_memory_for_many)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	uint32_t i;

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.queue_max = 2;
	opts.log = NULL; /* and nobody wants to know */
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	for (i = 0; i < 30; i++)
		(void)parent_offer(p, (uint8_t)i);
	p->backend.alloc = no_private;
	parent_connect(p);
	must_eq(p->offered, 0);
	p->post_status = 0x13;
	p->post_status_times = 20;
	for (i = 0; i < 30; i++)
		must_eq(vmbus_srv_revoke(p->srv, p->chans[i].ref), 0);
	parent_settle(p);
	for (i = 0; i < 30; i++)
		must(!p->chans[i].offered);
	p->backend.alloc = parent_alloc;
	(void)parent_offer(p, 1);
	parent_settle(p);
	must_eq(p->offered, 1);
	must_eq(p->lines, 0);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_log__is_limited)
{
	struct parent *p = parent_new(0);
	uint32_t i;

	parent_connect(p);
	p->mem.fail_at = 0;
	for (i = 0; i < 40; i++) { /* no memory, again and again */
		p->backend.alloc = parent_alloc;
		p->mem.fail_at = p->mem.allocs + 1;
		(void)parent_offer(p, (uint8_t)i);
		while (vmbus_guest_dispatch(p->guest, 8) || parent_turn(p))
			;
	}
	must_eq(p->lines, 10);
	p->now += 20000000;
	p->mem.fail_at = p->mem.allocs + 1;
	(void)parent_offer(p, 99);
	parent_settle(p);
	must_eq(p->lines, 12); /* how many were left out, and the line itself */
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_stats__count_messages)
{
	struct parent *p = parent_new(0);
	struct vmbus_cli_stats stats;
	const uint8_t garbage[4] = { 0xFF, 0xFF, 0xFF, 0xFF };

	parent_connect(p);
	parent_tell(p, garbage, sizeof(garbage));
	parent_settle(p);
	vmbus_guest_stats(p->guest, &stats);
	must_eq(stats.malformed, 1);
	must_eq(stats.posted, 2);
	parent_free(p, 0);
}
END_TEST

START_TEST(guest_pages__come_and_go)
{
	struct parent *p = parent_new(0);
	uint8_t *pages = vmbus_guest_pages(p->guest, 3);
	uint32_t i;

	must(pages != NULL && (uintptr_t)pages % VMBUS_PAGE_BYTES == 0);
	for (i = 0; i < 3 * VMBUS_PAGE_BYTES; i++)
		must_eq(pages[i], 0);
	must_eq(p->mem.shared_pages, 3);
	vmbus_guest_pages_free(p->guest, pages, 3);
	must(vmbus_guest_pages(p->guest, 0) == NULL);
	must(vmbus_guest_pages(p->guest, PARENT_PAGES_MAX + 1) == NULL);
	parent_free(p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "connect", 10);

	tcase_add_loop_test(tc, guest_connect__agrees_on_every_version, 0, 8);
	tcase_add_test(tc, guest_connect__is_refused_when_no_version_suits);
	tcase_add_test(tc, guest_create__refuses_what_cannot_be);
	tcase_add_test(tc, guest_disconnect__forgets_all_and_can_connect_again);
	tcase_add_test(tc, guest_disconnect__while_connecting);
	tcase_add_test(tc, guest_disconnect__waits_for_the_machines_queue);
	tcase_add_loop_test(tc, guest_disconnect__gives_up_a_contact, 0, 3);
	tcase_add_test(tc, guest_connect__takes_no_answer_to_an_older_contact);
	tcase_add_loop_test(tc, guest_connect__after_one_that_was_given_up, 0, 2);
	tcase_add_test(tc, guest_parent_gone__ends_everything_for_good);
	tcase_add_test(tc, guest_parent_gone__during_contact);
	tcase_add_test(tc, guest_pages__come_and_go);
	tcase_add_test(tc, guest_timeout__is_0_after_every_call_that_leaves_work);
	tcase_add_test(tc, guest_destroy__is_the_backends_or_orderly);
	tcase_add_test(tc, guest_log__names_messages_and_statuses);
	tc = vmbus_test_case(suite, "post", 10);
	tcase_add_loop_test(tc, guest_post__is_tried_again_while_the_parent_has_no_buffers, 0, 3);
	tcase_add_test(tc, guest_post__is_tried_at_a_growing_pace);
	tcase_add_test(tc, guest_post__gives_the_same_message_until_it_is_done);
	tcase_add_test(tc, guest_post__gives_up_on_a_status_that_is_final);
	tcase_add_test(tc, guest_post__ends_the_connection_without_its_request_for_offers);
	tcase_add_loop_test(tc, guest_post__ends_the_connection_without_its_close, 0, 2);
	tcase_add_loop_test(tc, guest_post__gives_up_in_the_end, 0, 4);
	tc = vmbus_test_case(suite, "wait", 10);
	tcase_add_test(tc, lesson_15_every_wait_has_a_deadline);
	tcase_add_test(tc, guest_wait__needs_a_backend_that_can_idle);
	tc = vmbus_test_case(suite, "offer", 10);
	tcase_add_test(tc, guest_offered__may_lack_memory);
	tcase_add_test(tc, guest_offered__may_lack_memory_for_many);
	tcase_add_test(tc, guest_log__is_limited);
	tcase_add_test(tc, guest_stats__count_messages);
}
VMBUS_TEST_MAIN("guest.connect", tests)
