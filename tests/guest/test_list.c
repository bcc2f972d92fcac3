/* SPDX-License-Identifier: MIT */
/* Pages that are shared and taken back, and every way in which that does not come to its end. */
#include "client.h"

static struct {
	uint32_t gpadl;
	int ready_err, gone_err;
	unsigned long ready, gone;
} got;

static void ready(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	got.ready++;
	got.ready_err = err;
	got.gpadl = gpadl;
	must((gpadl != 0) == (err == 0));
}

static void gone(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	must_eq(gpadl, got.gpadl);
	got.gone++;
	got.gone_err = err;
}

static void pair_pages(struct pair *s, uint8_t **pages, uint32_t count)
{
	memset(&got, 0, sizeof(got));
	pair_init(s);
	*pages = vmbus_guest_pages(s->p->guest, count);
	must(*pages != NULL);
}

/* [CTL-GPADL]: one message, and every number of further ones. */
START_TEST(vsc_share__describes_pages_to_the_parent)
{
	static const uint32_t counts[] = { 1, 2, 26, 27, 54, 55, 1000, 8000 };
	const uint32_t count = counts[_i];
	struct vmbus_srv_ref list;
	const uint64_t *qwords;
	uint32_t ranges, n, i;
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, count);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, count, ready), 0);
	must_eq(got.ready, 0);
	parent_settle(s.p);
	must_eq(got.ready, 1);
	must_eq(got.ready_err, 0);
	must_eq(vmbus_srv_find_list(s.p->srv, s.chan->ref, got.gpadl, &list), 0);
	n = vmbus_srv_list(s.p->srv, list, &qwords, &ranges);
	must_eq(n, count + 1);
	must_eq(qwords[0], (uint64_t)count * 4096);
	for (i = 0; i < count; i++)
		must_eq(qwords[i + 1], child_pfn(&s.p->mem, pages + i * CHILD_PAGE));
	/* Open and closed, the pages stay the parent's. */
	if (count <= 1000) {
		client_open(&s.c);
		client_close(&s.c);
	}
	must_eq(got.gone, 0);
	must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl + 1, gone), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl, gone), 0);
	must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl, gone), VMBUS_E_STATE);
	parent_settle(s.p);
	must_eq(got.gone, 1);
	must_eq(got.gone_err, 0);
	must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl, gone), VMBUS_E_RANGE);
	must_eq(vmbus_srv_find_list(s.p->srv, s.chan->ref, got.gpadl, &list), VMBUS_E_RANGE);
	vmbus_guest_pages_free(s.p->guest, pages, count);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_share__refuses_what_cannot_be)
{
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, 1);
	must_eq(vmbus_vsc_share(s.c.vsc, NULL, 1, ready), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_share(s.c.vsc, pages + 8, 1, ready), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 0, ready), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 8191, ready), VMBUS_E_RANGE);
	s.p->mem.fail_at = s.p->mem.allocs + 1;
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, ready), VMBUS_E_NOMEM);
	must_eq(vmbus_guest_disconnect(s.p->guest), 0);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, ready), VMBUS_E_STATE);
	parent_settle(s.p);
	must_eq(got.ready, 0);
	vmbus_guest_pages_free(s.p->guest, pages, 1);
	parent_free(s.p, 0);
}
END_TEST

static void *opened_page(const struct pair *s, uint32_t n)
{
	const size_t at = (size_t)((uint8_t *)s->chan->pages[n] - s->p->mem.host);

	return s->p->mem.guest + at;
}

/* A page of open rings is not given back, nor becomes the monitor's.  Test i: first, last. */
START_TEST(guest_pages_free__not_the_pages_of_rings)
{
	const uint64_t n = 7;
	struct pair s;
	uint8_t *pages;
	void *page;

	pair_pages(&s, &pages, 2);
	client_open(&s.c);
	must_eq(s.p->mem.shared_pages, 36);
	page = opened_page(&s, _i ? 33 : 0);
	vmbus_guest_pages_free(s.p->guest, page, 1);
	must_eq(s.p->mem.shared_pages, 36);
	must_eq(s.p->lines, 1);
	must(strstr(s.p->last_line, "not ours or still shared, pages: 1") != NULL);
	must_eq(vmbus_guest_set_monitor(s.p->guest, pages, page), VMBUS_E_INVAL);
	must_eq(client_request(&s.c, &n, 8, NULL), 0);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	client_close(&s.c);
	vmbus_guest_pages_free(s.p->guest, pages, 2);
	must_eq(s.p->lines, 1);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_share__may_be_refused)
{
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, 1);
	s.p->gpadl_status = VMBUS_STATUS_FAILED;
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, ready), 0);
	parent_settle(s.p);
	must_eq(got.ready, 1);
	must_eq(got.ready_err, VMBUS_E_PEER);
	vmbus_guest_pages_free(s.p->guest, pages, 1);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_share__more_than_there_are_lists)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct vmbus_vsc *vsc;
	uint8_t *pages;

	memset(&got, 0, sizeof(got));
	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.gpadls_max = 3;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	(void)parent_offer(p, 1);
	parent_connect(p);
	vsc = vmbus_vsc_find(p->guest, &parent_class, 0);
	pages = vmbus_guest_pages(p->guest, 1);
	must_eq(vmbus_vsc_share(vsc, pages, 1, ready), 0);
	must_eq(vmbus_vsc_share(vsc, pages, 1, ready), 0);
	must_eq(vmbus_vsc_share(vsc, pages, 1, ready), 0);
	parent_settle(p);
	must_eq(got.ready, 3);
	must_eq(got.ready_err, 0);
	must_eq(vmbus_vsc_share(vsc, pages, 1, ready), 0);
	parent_settle(p);
	must_eq(got.ready, 4);
	must_eq(got.ready_err, VMBUS_E_FULL);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	vmbus_guest_pages_free(p->guest, pages, 1);
	parent_free(p, 0);
}
END_TEST

/* ---- withdrawn ---- */

static bool unshare_in_closed;

static void closed_unshare(struct client *c)
{
	if (unshare_in_closed)
		must_eq(vmbus_vsc_unshare(c->vsc, got.gpadl, gone), 0);
}

/* The parent withdraws the channel; its answers may come at once, or only later. */
START_TEST(lesson_17_a_rescind_takes_shared_pages_back)
{
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, 3);
	s.p->hold_gone = _i & 1;
	unshare_in_closed = _i & 2;
	s.c.on_closed = closed_unshare;
	client_open(&s.c);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 3, ready), 0);
	parent_settle(s.p);
	must_eq(got.ready, 1);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	parent_settle(s.p);
	must_eq(s.c.closed, 1); /* not kept waiting by page lists */
	s.p->hold_gone = false;
	parent_answer_lists(s.p, 0);
	parent_settle(s.p);
	must_eq(s.p->gone, 1);
	must_eq(got.gone, (unsigned long)(_i & 2) / 2);
	must_eq(got.gone_err, 0);
	must_eq(s.p->lines, 0);
	vmbus_guest_pages_free(s.p->guest, pages, 3);
	parent_free(s.p, 0);
}
END_TEST

/* A rescind while the parent's answer to the page list is awaited. */
START_TEST(lesson_17_a_rescind_before_a_list_is_ready)
{
	struct pair s;
	uint8_t *pages;
	int i;

	pair_pages(&s, &pages, 60);
	s.p->hold_ready = true;
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 60, ready), 0);
	for (i = 0; i < _i; i++)
		if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
			(void)parent_turn(s.p);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	parent_answer_lists(s.p, 0);
	s.p->hold_ready = false;
	parent_settle(s.p);
	must_eq(got.ready, 1);
	must_eq(got.ready_err, VMBUS_E_PEER);
	must_eq(s.p->gone, 1);
	vmbus_guest_pages_free(s.p->guest, pages, 60);
	parent_free(s.p, 0);
}
END_TEST

/* ---- no answer ---- */

/* The parent takes page lists back, and then is gone before it says so: all of it is lost. */
START_TEST(lesson_27_no_torndown_means_lost)
{
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, 3);
	client_open(&s.c);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 3, ready), 0);
	parent_settle(s.p);
	s.p->hold_gone = true;
	if (_i & 1)
		must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl, gone), 0);
	if (_i & 2)
		must_eq(vmbus_vsc_close(s.c.vsc), 0);
	parent_settle(s.p);
	must_eq(got.gone, 0);
	must_eq(s.c.closed, 0);
	must_eq(s.p->mem.shared_pages, 34 + 3);
	vmbus_guest_parent_gone(s.p->guest);
	while (vmbus_guest_dispatch(s.p->guest, 16))
		;
	must_eq(s.c.closed, 1);
	must_eq(s.p->gone, 1);
	must_eq(got.gone, (unsigned long)(_i & 1));
	if (_i & 1)
		must_eq(got.gone_err, VMBUS_E_FAULT);
	must_eq(s.p->mem.shared_pages, 34 + 3); /* leaked, and told */
	must_eq(s.p->lines, 2);
	parent_free(s.p, 34 + 3);
}
END_TEST

/* The parent does not answer the teardown of rings: the channel stays closing, and can wait. */
START_TEST(lesson_27_a_late_torndown)
{
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	s.p->hold_gone = true;
	must_eq(vmbus_vsc_close(s.c.vsc), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), VMBUS_E_AGAIN);
	must_eq(s.p->mem.shared_pages, 34);
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_CLOSING);
	must_eq(vmbus_vsc_open(s.c.vsc, &s.c.opts), VMBUS_E_STATE);
	must_eq(vmbus_guest_disconnect(s.p->guest), 0);
	must_eq(vmbus_guest_wait(s.p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), VMBUS_E_AGAIN);
	parent_answer_lists(s.p, 0);
	must_eq(vmbus_guest_wait(s.p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	must_eq(s.c.closed, 1);
	must_eq(s.p->mem.shared_pages, 0);
	parent_free(s.p, 0);
}
END_TEST

/* Answers that nobody asked for, to lists in every state: nothing is given back too early. */
START_TEST(lesson_27_a_torndown_that_was_not_asked_for)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TORNDOWN };
	struct vmbus_cli_stats stats;
	uint8_t buf[VMBUS_CTL_BYTES_MAX];
	struct pair s;
	uint8_t *pages;
	int len;

	pair_pages(&s, &pages, 1);
	client_open(&s.c);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, ready), 0);
	parent_settle(s.p);
	ctl.u.created.gpadl = got.gpadl;
	len = vmbus_ctl_encode(&ctl, VMBUS_PROTO_5_3, 0, buf, sizeof(buf));
	parent_tell(s.p, buf, (uint32_t)len);
	ctl.u.created.gpadl = s.chan->open.gpadl;
	len = vmbus_ctl_encode(&ctl, VMBUS_PROTO_5_3, 0, buf, sizeof(buf));
	parent_tell(s.p, buf, (uint32_t)len);
	parent_settle(s.p);
	must_eq(s.p->mem.shared_pages, 35);
	vmbus_guest_stats(s.p->guest, &stats);
	must_eq(stats.out_of_order, 2);
	must(s.c.live);
	must_eq(vmbus_vsc_unshare(s.c.vsc, got.gpadl, NULL), 0); /* nobody wants to know */
	client_close(&s.c);
	parent_settle(s.p);
	vmbus_guest_pages_free(s.p->guest, pages, 1);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_unshare__while_leaving)
{
	struct pair s;
	uint8_t *pages;

	pair_pages(&s, &pages, 1);
	must_eq(vmbus_vsc_share(s.c.vsc, pages, 1, ready), 0);
	parent_settle(s.p);
	must_eq(vmbus_guest_disconnect(s.p->guest), 0);
	must_eq(vmbus_guest_wait(s.p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	must_eq(s.p->gone, 1);
	vmbus_guest_pages_free(s.p->guest, pages, 1);
	parent_free(s.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "share", 20);

	tcase_add_loop_test(tc, vsc_share__describes_pages_to_the_parent, 0, 8);
	tcase_add_test(tc, vsc_share__refuses_what_cannot_be);
	tcase_add_loop_test(tc, guest_pages_free__not_the_pages_of_rings, 0, 2);
	tcase_add_test(tc, vsc_share__may_be_refused);
	tcase_add_test(tc, vsc_share__more_than_there_are_lists);
	tcase_add_test(tc, vsc_unshare__while_leaving);
	tc = vmbus_test_case(suite, "rescind", 20);
	tcase_add_loop_test(tc, lesson_17_a_rescind_takes_shared_pages_back, 0, 4);
	tcase_add_loop_test(tc, lesson_17_a_rescind_before_a_list_is_ready, 0, 12);
	tc = vmbus_test_case(suite, "lost", 20);
	tcase_add_loop_test(tc, lesson_27_no_torndown_means_lost, 0, 4);
	tcase_add_test(tc, lesson_27_a_late_torndown);
	tcase_add_test(tc, lesson_27_a_torndown_that_was_not_asked_for);
}
VMBUS_TEST_MAIN("guest.list", tests)
