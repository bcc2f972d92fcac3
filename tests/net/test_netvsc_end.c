/* SPDX-License-Identifier: MIT */
/*
 * The network device's client ends while its second buffer is being shared: the parent answers when it
 * likes, in any order, and pages that it still has are not the guest's.
 */
#include "../guest/parent.h"

#include <vmbus/netvsc.h>

#define RECEIVE_PAGES 16u
#define SEND_PAGES 32u

struct nic {
	struct parent *p;
	struct parent_chan *offer;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan;
	size_t before; /* pages shared, without the NIC */
	uint32_t ready;
	int err;
};

static void on_ready(void *ctx, int err)
{
	struct nic *const nic = ctx;

	nic->ready++;
	nic->err = err;
}

/* The parent answers the one list that is held. */
static void answer_ready(struct parent *p, uint32_t status)
{
	must_eq(p->held_ready_count, 1);
	p->held_ready_count = 0;
	(void)vmbus_srv_gpadl_ready(p->srv, p->held_ready[0], status);
	parent_settle(p);
}

static void answer_gone(struct parent *p)
{
	must_eq(p->held_gone_count, 1);
	p->held_gone_count = 0;
	(void)vmbus_srv_gpadl_gone(p->srv, p->held_gone[0]);
	parent_settle(p);
}

/* Up to where the parent has the first buffer, and has not answered for the second. */
static void nic_start(struct nic *nic)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts), .ready = on_ready };
	struct parent *const p = parent_new(0);

	memset(nic, 0, sizeof(*nic));
	nic->p = p;
	nic->offer = parent_offer(p, 1);
	nic->offer->on_packet = parent_ignore;
	parent_connect(p);
	parent_settle(p);
	nic->before = p->mem.shared_pages;
	opts.chan = &nic->chan;
	opts.receive_bytes = RECEIVE_PAGES * VMBUS_PAGE_BYTES;
	opts.send_bytes = SEND_PAGES * VMBUS_PAGE_BYTES;
	opts.ctx = nic;
	p->hold_ready = p->hold_gone = true;
	must_eq(vmbus_netvsc_start(&nic->nv, vmbus_vsc_find(p->guest, &parent_class, 0), &opts), 0);
	parent_settle(p);
	answer_ready(p, 0); /* of the rings */
	answer_ready(p, 0);
	must_eq(p->held_ready_count, 1);
}

/* It is stopped, the parent lets go of the rings, and is asked for the first buffer. */
static void nic_stop(struct nic *nic)
{
	must_eq(vmbus_netvsc_stop(&nic->nv), 0);
	parent_settle(nic->p);
	answer_gone(nic->p);
	must_eq(nic->p->held_gone_count, 1);
	must_eq(nic->ready, 0);
}

/* ready() has come, once, with err, and so many pages are lost, which the parent still has. */
static void nic_free(struct nic *nic, int err, uint32_t lost)
{
	must_eq(nic->ready, 1);
	must_eq(nic->err, err);
	must_eq(nic->nv.pending_p, 0);
	parent_free(nic->p, lost);
}

static void parent_leaves(struct parent *p)
{
	vmbus_guest_parent_gone(p->guest);
	parent_settle(p);
}

/* The parent takes the second buffer late, and gives it back; the first one late as well, or never. */
START_TEST(netvsc_stop__while_sharing)
{
	struct nic nic;
	struct vmbus_srv_ref first;

	nic_start(&nic);
	nic_stop(&nic);
	first = nic.p->held_gone[0];
	nic.p->held_gone_count = 0;
	answer_ready(nic.p, 0);
	answer_gone(nic.p);
	must_eq(nic.ready, 0);
	if (_i == 0) {
		(void)vmbus_srv_gpadl_gone(nic.p->srv, first);
		parent_settle(nic.p);
		must_eq(nic.p->mem.shared_pages, nic.before);
		nic_free(&nic, VMBUS_E_STATE, 0);
		return;
	}
	parent_leaves(nic.p);
	nic_free(&nic, VMBUS_E_STATE, RECEIVE_PAGES);
}
END_TEST

/* The parent refuses the second buffer, and keeps the first; or gives it back, and keeps the second. */
START_TEST(netvsc_stop__while_sharing_fails)
{
	struct nic nic;

	nic_start(&nic);
	nic_stop(&nic);
	if (_i == 0)
		answer_ready(nic.p, 1);
	else
		answer_gone(nic.p);
	must_eq(nic.ready, 0);
	parent_leaves(nic.p);
	nic_free(&nic, VMBUS_E_STATE, _i == 0 ? RECEIVE_PAGES : SEND_PAGES);
}
END_TEST

/* The parent withdraws the channel, takes or refuses the second buffer late, and gives all back: nobody
   has stopped it, and nobody can any more. */
START_TEST(netvsc_start__withdrawn_while_sharing)
{
	struct nic nic;

	nic_start(&nic);
	must_eq(vmbus_srv_revoke(nic.p->srv, nic.offer->ref), 0);
	parent_settle(nic.p);
	must_eq(vmbus_netvsc_stop(&nic.nv), VMBUS_E_STATE);
	nic.p->hold_gone = false;
	while (nic.p->held_gone_count)
		(void)vmbus_srv_gpadl_gone(nic.p->srv, nic.p->held_gone[--nic.p->held_gone_count]);
	must_eq(nic.ready, 0);
	answer_ready(nic.p, (uint32_t)_i);
	must_eq(nic.p->mem.shared_pages, 0);
	nic_free(&nic, VMBUS_E_PEER, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "end", 20);

	tcase_add_loop_test(tc, netvsc_stop__while_sharing, 0, 2);
	tcase_add_loop_test(tc, netvsc_stop__while_sharing_fails, 0, 2);
	tcase_add_loop_test(tc, netvsc_start__withdrawn_while_sharing, 0, 2);
}

VMBUS_TEST_MAIN("net.netvsc_end", tests)
