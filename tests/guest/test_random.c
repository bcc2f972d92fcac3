/* SPDX-License-Identifier: MIT */
/*
 * Random lives: a driver that opens, closes, shares, sends and leaves at any time, against a parent
 * that offers, withdraws, refuses, holds its answers and dies at any time.  The callbacks check
 * themselves (client.h); at the end of each life nothing may be left over.
 */
#include "client.h"

#define CLIENTS 6u
#define SHARES 24u

struct share {
	uint8_t *pages;
	uint32_t gpadl;
	struct client *owner;
	bool asked, ready, taking;
};

struct life {
	struct parent *p;
	struct client c[CLIENTS];
	uint64_t seed;
	bool lost; /* the parent was gone: pages may be leaked */
	unsigned long opens, requests, rescinds, gones, answered;
};

static struct life *life;
static struct share shares[SHARES];

static uint32_t rnd(struct life *l, uint32_t n)
{
	l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(l->seed >> 33) % n;
}

static struct client *client_of(struct life *l, const struct vmbus_vsc *vsc)
{
	uint32_t i;

	for (i = 0; i < CLIENTS; i++)
		if (l->c[i].vsc == vsc)
			return &l->c[i];
	return NULL;
}

static void offered(struct parent *p, struct vmbus_vsc *vsc)
{
	struct client *c = client_of(life, NULL);

	if (c)
		client_init(c, p, vsc);
}

static void forget_share(struct share *s, int err)
{
	if (err != VMBUS_E_FAULT)
		vmbus_guest_pages_free(life->p->guest, s->pages, 1);
	memset(s, 0, sizeof(*s));
}

static void gone(struct parent *p, struct vmbus_vsc *vsc)
{
	struct client *c = client_of(life, vsc);
	uint32_t i;

	(void)p;
	life->gones++;
	if (!c)
		return;
	must(!c->live && !c->opening);
	/* What was shared and not asked back is ours again, or lost if the parent died. */
	for (i = 0; i < SHARES; i++) {
		if (shares[i].owner != c)
			continue;
		must(!shares[i].asked && !shares[i].taking);
		forget_share(&shares[i], life->lost ? VMBUS_E_FAULT : 0);
	}
	memset(c, 0, sizeof(*c));
}

/* Shares are asked for one at a time, so that ready() knows whose it is. */
static void share_ready(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	struct client *c = client_of(life, vsc);
	uint32_t i;

	for (i = 0; i < SHARES; i++)
		if (shares[i].owner == c && shares[i].asked)
			break;
	must(i < SHARES);
	shares[i].asked = false;
	shares[i].gpadl = gpadl;
	shares[i].ready = err == 0;
	if (err)
		forget_share(&shares[i], err);
}

static void share_gone(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	struct client *c = client_of(life, vsc);
	uint32_t i;

	for (i = 0; i < SHARES; i++)
		if (shares[i].owner == c && shares[i].taking && shares[i].gpadl == gpadl)
			break;
	must(i < SHARES);
	must(err == 0 || life->lost);
	forget_share(&shares[i], err);
}

static void share_some(struct life *l, struct client *c)
{
	uint32_t i, at = SHARES;

	for (i = 0; i < SHARES; i++) {
		if (!shares[i].owner)
			at = i;
		else if (shares[i].owner == c && shares[i].asked)
			return;
	}
	if (at == SHARES)
		return;
	shares[at].pages = vmbus_guest_pages(l->p->guest, 1);
	if (vmbus_vsc_share(c->vsc, shares[at].pages, 1, share_ready)) {
		forget_share(&shares[at], 0);
		return;
	}
	shares[at].owner = c;
	shares[at].asked = true;
}

static void unshare_some(struct life *l, struct client *c)
{
	struct share *s = &shares[rnd(l, SHARES)];

	if (s->owner == c && s->ready && !s->taking &&
	    vmbus_vsc_unshare(c->vsc, s->gpadl, share_gone) == 0)
		s->taking = true;
}

static void child_does(struct life *l)
{
	struct client *c = &l->c[rnd(l, CLIENTS)];
	const uint64_t n = l->seed;
	int err;

	if (!c->vsc)
		return;
	switch (rnd(l, 9)) {
	case 0:
	case 1:
		c->opts.send_bytes = 4096;
		c->opts.recv_bytes = 4096 + 4096 * rnd(l, 40);
		c->opts.requests_max = 1 + rnd(l, 8);
		if (client_begin(c) == 0)
			l->opens++;
		break;
	case 2:
		err = vmbus_vsc_close(c->vsc);
		must(err == 0 || err == VMBUS_E_STATE);
		break;
	case 3:
		share_some(l, c);
		break;
	case 4:
		unshare_some(l, c);
		break;
	case 5:
		(void)vmbus_vsc_set_vp(c->vsc, rnd(l, 4));
		break;
	case 6:
		(void)client_send(c, &n, 8);
		break;
	default:
		if (client_request(c, &n, 8, NULL) == 0)
			l->requests++;
		break;
	}
}

static void echo_if_room(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_COMPLETION, .id = pkt->id };

	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_ring_tx_put(&chan->tx, &msg, 1);
}

/* No two channels that the parent knows have the same instance. */
static uint8_t first_free(const struct parent *p)
{
	uint8_t i = 0;

	while (p->chans[i].offered)
		i++;
	return i;
}

static void parent_does(struct life *l)
{
	struct parent *p = l->p;
	struct parent_chan *chan = &p->chans[rnd(l, CLIENTS)];

	switch (rnd(l, 10)) {
	case 0:
	case 1:
		if (!chan->offered) {
			chan = parent_offer(p, first_free(p));
			chan->on_packet = echo_if_room;
			chan->hold_open = rnd(l, 4) == 0;
			chan->open_status = rnd(l, 8) == 0 ? VMBUS_STATUS_FAILED : 0;
		}
		break;
	case 2:
		if (chan->offered && rnd(l, 4) == 0 && vmbus_srv_revoke(p->srv, chan->ref) == 0)
			l->rescinds++;
		break;
	case 3:
		if (chan->opening)
			parent_answer_open(chan, rnd(l, 3) ? 0 : VMBUS_STATUS_FAILED);
		break;
	case 4:
		p->hold_ready = rnd(l, 4) == 0 && p->held_ready_count < 60;
		break;
	case 5:
		p->hold_gone = rnd(l, 4) == 0 && p->held_gone_count < 60;
		break;
	case 6:
		parent_answer_lists(p, rnd(l, 4) ? 0 : VMBUS_STATUS_FAILED);
		break;
	case 7:
		p->post_status = rnd(l, 2) ? 0x13 : 0x0B;
		p->post_status_times = rnd(l, 4);
		break;
	case 8:
		p->post_again_left = rnd(l, 3);
		break;
	default:
		p->gpadl_status = rnd(l, 6) ? 0 : VMBUS_STATUS_FAILED;
		break;
	}
	if (p->held_ready_count >= 60)
		p->hold_ready = false;
	if (p->held_gone_count >= 60)
		p->hold_gone = false;
}

static void parent_drops_all(struct parent *p)
{
	uint32_t i;

	vmbus_srv_disconnect(p->srv);
	p->inbox_count = 0;
	for (i = 0; i < PARENT_CHANS; i++)
		if (p->chans[i].opening)
			parent_answer_open(&p->chans[i], VMBUS_STATUS_FAILED);
	p->hold_gone = p->hold_ready = false;
	parent_answer_lists(p, 0);
}

static void step(struct life *l)
{
	uint32_t i, n;

	switch (rnd(l, 40)) {
	case 0:
		(void)vmbus_guest_connect(l->p->guest);
		break;
	case 1:
		if (rnd(l, 10) == 0)
			(void)vmbus_guest_disconnect(l->p->guest);
		break;
	case 2:
		l->p->now += 1000000;
		break;
	default:
		if (rnd(l, 2))
			child_does(l);
		else
			parent_does(l);
		break;
	}
	for (i = 0, n = rnd(l, 6); i < n; i++)
		must(vmbus_guest_dispatch(l->p->guest, 1 + rnd(l, 3)) >= 0);
	if (rnd(l, 3) == 0)
		(void)parent_turn(l->p);
}

/* Let both sides come to rest, everything answered, and the child leave. */
static void end_well(struct life *l)
{
	uint32_t i;

	l->p->hold_gone = l->p->hold_ready = false;
	for (i = 0; i < PARENT_CHANS; i++) {
		l->p->chans[i].hold_open = false;
		if (l->p->chans[i].opening)
			parent_answer_open(&l->p->chans[i], 0);
	}
	parent_answer_lists(l->p, 0);
	parent_settle(l->p);
	if (vmbus_guest_state(l->p->guest) != VMBUS_GUEST_IDLE) {
		(void)vmbus_guest_disconnect(l->p->guest);
		parent_settle(l->p);
	}
	must_eq(vmbus_guest_state(l->p->guest), VMBUS_GUEST_IDLE);
	must_eq(l->p->mem.shared_pages, 0);
}

/* The parent dies: what it knew is lost, everything else comes to its end. */
static void end_badly(struct life *l)
{
	l->lost = true;
	vmbus_guest_parent_gone(l->p->guest);
	while (vmbus_guest_dispatch(l->p->guest, 64))
		;
	must_eq(l->p->offered, l->p->gone);
	parent_new_guest(l->p);
	parent_drops_all(l->p);
	while (parent_turn(l->p) > l->p->inbox_count)
		;
	l->p->inbox_count = 0;
	memset(l->p->mem.used, 0, l->p->mem.pages);
	l->p->mem.shared_pages = 0;
	l->lost = false;
}

START_TEST(lesson_16_random_lives)
{
	const uint32_t lives = vmbus_test_full() ? 2000 : 30;
	static struct life l;
	uint32_t n, steps, i;

	memset(&l, 0, sizeof(l));
	memset(shares, 0, sizeof(shares));
	life = &l;
	l.seed = 77 + (uint64_t)_i * 1000003;
	l.p = parent_new(_i % 2 ? 0 : VMBUS_PROTO_4_0);
	l.p->no_contact_port = _i % 2 == 0;
	l.p->on_offered = offered;
	l.p->on_gone = gone;
	for (n = 0; n < lives; n++) {
		must_eq(vmbus_guest_connect(l.p->guest), 0);
		for (i = 0, steps = rnd(&l, 600); i < steps; i++)
			step(&l);
		if (rnd(&l, 4))
			end_well(&l);
		else
			end_badly(&l);
	}
	must(l.opens > lives && l.requests > 0 && l.rescinds > 0 && l.gones > 0);
	parent_free(l.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "random", 30);

	tcase_add_loop_test(tc, lesson_16_random_lives, 0, 24);
}
VMBUS_TEST_MAIN("guest.random", tests)
