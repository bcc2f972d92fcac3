/* SPDX-License-Identifier: MIT */
/*
 * Honest children beside a hostile one over shm, all in one process and one thread: what the honest
 * ones are served is counted in dispatches of their parent, each of the same number of units, and
 * compared with the same beside an honest child that is as busy as it can be.
 */
#include "isolation/shared.h"

#include <vmbus/hypercall.h>

#define HONEST 3u
#define REQUESTS 1500u /* of each */
#define WINDOW 16u
#define WINDOW_BUSY 128u
#define RING_BYTES 16384u
#define UNITS 96u /* of a dispatch: the turns of three */
#define TURN 32u

enum kind {
	BUSY,
	BELL,
	CONTACTS,
	LISTS,
	RETURNS,
	KINDS
};

/* An honest child; its requests carry 64 bytes. */
struct member {
	struct local local;
	struct vmbus_vsc *vsc;
	uint32_t sent, done, window;
};

/* The hostile one. */
struct bad {
	struct raw_child raw;
	struct vmbus_hcbox_child box;
	bool waits; /* for the answer of a call */
	uint32_t posts, gpadl;
	bool there;
};

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct member *const m = vmbus_vsc_priv(vsc);

	(void)cookie;
	must(!pkt || pkt->len == 64);
	m->done += pkt != NULL; /* none: the channel ends */
}

static void both(struct host *host, struct member *m)
{
	must(vmbus_shm_attach_dispatch(m->local.attach, 256) >= 0);
	must(vmbus_shm_server_dispatch(host->server, UNITS) >= 0);
}

static void join(struct host *host, struct member *m, uint32_t window)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = RING_BYTES,
				       .recv_bytes = RING_BYTES,
				       .requests_max = window,
				       .completed = completed,
				       .priv = m };
	struct vmbus_guest *guest;
	int i;

	memset(m, 0, sizeof(*m));
	m->window = window;
	local_attach(host, &m->local);
	guest = vmbus_shm_guest(m->local.attach);
	must_eq(vmbus_guest_connect(guest), 0);
	for (i = 0; i < 1000 && vmbus_guest_state(guest) != VMBUS_GUEST_CONNECTED; i++)
		both(host, m);
	m->vsc = vmbus_vsc_find(guest, &echo_class, 0);
	must(m->vsc != NULL);
	must_eq(vmbus_vsc_open(m->vsc, &opts), 0);
	for (i = 0; i < 1000 && vmbus_vsc_state(m->vsc) != VMBUS_VSC_OPEN; i++)
		both(host, m);
	must_eq(vmbus_vsc_state(m->vsc), VMBUS_VSC_OPEN);
}

/* Take answers, and have a window of requests under way. */
static void act(struct member *m)
{
	static const uint8_t payload[64];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload) };

	must(vmbus_shm_attach_dispatch(m->local.attach, 256) >= 0);
	while (m->sent < m->done + m->window && vmbus_vsc_request(m->vsc, &msg, NULL) >= 0)
		m->sent++;
}

static void ring_control(struct bad *bad)
{
	raw_child_page(&bad->raw, bad->raw.welcome.flags_page)[2 * 256] |= 1; /* flag 0 */
	raw_child_ring(&bad->raw);
}

/* Post a message, if the one before was answered. */
static void post(struct bad *bad, const struct vmbus_ctl *ctl)
{
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_regs regs = { .control = vmbus_hc_control_encode(&control) };
	struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE,
				      .conn_id = VMBUS_CONN_CONTACT,
				      .type = VMBUS_MSG_TYPE_CTL };
	uint8_t input[VMBUS_HC_INPUT_MAX];
	uint64_t result;
	int bytes;

	if (bad->waits && vmbus_hcbox_result(&bad->box, &result) != 1)
		return;
	bytes = vmbus_ctl_encode(ctl, VMBUS_PROTO_5_3, 0, call.payload, sizeof(call.payload));
	must(bytes > 0);
	call.bytes = (uint32_t)bytes;
	call.conn_id = ctl->type == VMBUS_CTL_CONTACT ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE;
	bytes = vmbus_hc_encode(&call, input, sizeof(input));
	must(bytes > 0);
	must_eq(vmbus_hcbox_put(&bad->box, &regs, input, (size_t)bytes), 0);
	bad->waits = true;
	bad->posts++;
	ring_control(bad);
}

static void empty_slot(struct bad *bad)
{
	uint8_t *const page = raw_child_page(&bad->raw, bad->raw.welcome.first_vp);

	memset(page + 2 * 256, 0, 4); /* no message is there */
	ring_control(bad);
}

static void come(struct host *host, struct bad *bad)
{
	raw_child_attach(host, &bad->raw);
	must_eq(vmbus_hcbox_child_init(&bad->box,
				       raw_child_page(&bad->raw, bad->raw.welcome.mailbox)),
		0);
	bad->there = true;
}

/* One step of the hostile child. */
static void hurt(struct host *host, struct bad *bad, enum kind kind)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	const struct vmbus__shm_msg hello = raw_hello(1 << 20, 1);
	int sock;

	switch (kind) {
	case BELL:
		memset(raw_child_page(&bad->raw, bad->raw.welcome.flags_page), 0xFF,
		       VMBUS_PAGE_BYTES);
		raw_child_ring(&bad->raw);
		break;
	case CONTACTS:
		ctl.u.contact.version = VMBUS_PROTO_5_3;
		ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
		empty_slot(bad);
		post(bad, &ctl);
		break;
	case LISTS:
		if (bad->posts < 2) {
			ctl.type = bad->posts ? VMBUS_CTL_REQUEST_OFFERS : VMBUS_CTL_CONTACT;
			ctl.u.contact.version = bad->posts ? 0 : VMBUS_PROTO_5_3;
			ctl.u.contact.target_sint = bad->posts ? 0 : VMBUS_SINT_MESSAGE;
		} else {
			ctl.type = VMBUS_CTL_GPADL_HEADER;
			ctl.u.gpadl.relid = 1;
			ctl.u.gpadl.gpadl = ++bad->gpadl;
			ctl.u.gpadl.range_count = 1;
			ctl.u.gpadl.range_bytes = 16;
			ctl.u.gpadl.count = 2;
			ctl.u.gpadl.qwords[0] = VMBUS_PAGE_BYTES;
			ctl.u.gpadl.qwords[1] = bad->raw.welcome.heap;
		}
		empty_slot(bad);
		post(bad, &ctl);
		break;
	case RETURNS:
	default:
		sock = raw_connect(host->path);
		raw_say(sock, &hello);
		close(sock);
		break;
	}
}

/* Dispatches that the parent, which makes so many children a second, needs to serve the honest ones all
   that they want. */
static uint32_t dispatches_beside(enum kind kind, uint32_t rate,
				  struct vmbus_shm_server_stats *stats)
{
	struct member *const m = calloc(HONEST + 1, sizeof(*m));
	struct bad bad = { .there = false };
	uint32_t rounds, i, least = 0;
	struct host host;

	host_init(&host);
	host.opts.budget = TURN;
	host.opts.attach_rate_max = rate;
	host_listen(&host);
	host.channels = 1;
	for (i = 0; i < HONEST + (kind == BUSY); i++)
		join(&host, &m[i], i < HONEST ? WINDOW : WINDOW_BUSY);
	if (kind != BUSY && kind != RETURNS)
		come(&host, &bad);
	for (rounds = 0; least < REQUESTS; rounds++) {
		must(rounds < 100 * REQUESTS);
		for (i = 0; i < HONEST + (kind == BUSY); i++)
			act(&m[i]);
		if (kind != BUSY)
			hurt(&host, &bad, kind);
		must(vmbus_shm_server_dispatch(host.server, UNITS) >= 0);
		for (i = 1, least = m[0].done; i < HONEST; i++)
			least = m[i].done < least ? m[i].done : least;
	}
	vmbus_shm_server_stats(host.server, stats);
	for (i = 0; i < HONEST + (kind == BUSY); i++)
		vmbus_shm_detach(m[i].local.attach);
	if (bad.there)
		raw_child_leave(&bad.raw);
	host_until(&host, host.attached == host.detached);
	host_close(&host);
	free(m);
	return rounds;
}

START_TEST(herd__a_hostile_child_costs_the_others_no_more_than_an_honest_one)
{
	struct vmbus_shm_server_stats stats;
	const uint32_t fair = dispatches_beside(BUSY, 0, &stats);
	const uint32_t beside = dispatches_beside((enum kind)_i, 0, &stats);

	vmbus_test_at("kind %d: %u dispatches, %u beside an honest one", _i, beside, fair);
	/* Those that return are made at once 64 times; each of these may cost a dispatch, once. */
	must(beside <= fair + fair / 5 + (_i == RETURNS ? 64 : 0));
	must(fair <= 3 * REQUESTS);
}
END_TEST

/* To be made, and to end, is dear: who does nothing else may do it so often, which is seldom enough for a
   busy machine to come to it. */
START_TEST(herd__a_child_that_returns_is_made_to_wait)
{
	struct vmbus_shm_server_stats stats;
	const uint64_t began = vmbus__shm_now_ns();
	uint64_t seconds;

	(void)dispatches_beside(RETURNS, 1, &stats);
	seconds = (vmbus__shm_now_ns() - began) / 1000000000u;
	must(stats.attached <= HONEST + 64 + seconds + 1u); /* 64, and one a second */
	must(stats.quota_attach > 0 || stats.attached < 64 + HONEST);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "herd", 10);

	tcase_add_loop_test(tc, herd__a_hostile_child_costs_the_others_no_more_than_an_honest_one,
			    BELL, KINDS);
	tcase_add_test(tc, herd__a_child_that_returns_is_made_to_wait);
}

VMBUS_TEST_MAIN("isolation.herd", tests)
