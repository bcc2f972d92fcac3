/* SPDX-License-Identifier: MIT */
/*
 * What a VSC asks of its channel besides packets: find it, open it, close it, wait, look at it.
 * These calls only note what is wanted; dispatch does it (life.c).
 */
#include "guest/state.h"

#define RING_BYTES 65536u
#define REQUESTS 256u
#define REQUESTS_MAX 65535u

struct vmbus_vsc *vmbus_vsc_find(struct vmbus_guest *guest, const struct vmbus_guid *class_id,
				 uint32_t nth)
{
	struct vmbus_vsc *vsc;

	for (vsc = guest->first; vsc; vsc = vsc->next) {
		if (vsc->rescinded || vsc->offer.sub_index ||
		    !vmbus_guid_equal(&vsc->offer.class_id, class_id))
			continue;
		if (nth == 0)
			return vsc;
		nth--;
	}
	return NULL;
}

struct vmbus_vsc *vmbus_vsc_subchannel(struct vmbus_vsc *vsc, uint32_t sub_index)
{
	struct vmbus_vsc *sub;

	for (sub = vsc->guest->first; sub; sub = sub->next)
		if (!sub->rescinded && sub->offer.sub_index == sub_index &&
		    vmbus_guid_equal(&sub->offer.class_id, &vsc->offer.class_id) &&
		    vmbus_guid_equal(&sub->offer.instance_id, &vsc->offer.instance_id))
			return sub_index ? sub : NULL;
	return NULL;
}

static bool ring_bytes_ok(uint32_t bytes)
{
	return bytes >= VMBUS_RING_SIZE_MIN && bytes % VMBUS_PAGE_BYTES == 0 &&
	       bytes / VMBUS_PAGE_BYTES <= VMBUS__LIST_PAGES_MAX;
}

static int take_opts(struct vmbus_vsc *vsc, const struct vmbus_vsc_opts *opts)
{
	struct vmbus_vsc_opts ours = *opts;

	if (ours.send_bytes == 0)
		ours.send_bytes = RING_BYTES;
	if (ours.recv_bytes == 0)
		ours.recv_bytes = RING_BYTES;
	if (ours.requests_max == 0)
		ours.requests_max = REQUESTS;
	if (!ring_bytes_ok(ours.send_bytes) || !ring_bytes_ok(ours.recv_bytes) ||
	    (ours.send_bytes + ours.recv_bytes) / VMBUS_PAGE_BYTES + 2 > VMBUS__LIST_PAGES_MAX ||
	    ours.requests_max > REQUESTS_MAX)
		return VMBUS_E_RANGE;
	vsc->opts = ours;
	return 0;
}

int vmbus_vsc_open(struct vmbus_vsc *vsc, const struct vmbus_vsc_opts *opts)
{
	const struct vmbus__path fresh = { .req_gen = vsc->path.req_gen };
	int err;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	if (vsc->life != VMBUS__LIFE_CLOSED || vsc->rescinded || !vmbus__guest_usable(vsc->guest))
		return VMBUS_E_STATE;
	err = take_opts(vsc, opts);
	if (err)
		return err;
	vsc->path = fresh;
	err = vmbus__vsc_alloc(vsc);
	if (err)
		return err;
	vsc->open_err = 0;
	vsc->close_asked = false;
	vsc->prepared = false;
	vsc->no_buffer = false;
	vsc->fault_logged = false;
	vsc->rings.state = VMBUS__LIST_WANTED;
	vsc->rings.seen_ready = false;
	vsc->life = VMBUS__LIFE_LIST;
	vsc->owe = VMBUS__OWE_OPENED;
	vmbus__work_push(vsc);
	return 0;
}

int vmbus_vsc_close(struct vmbus_vsc *vsc)
{
	if (vsc->close_asked || vsc->rescinded ||
	    (vsc->life != VMBUS__LIFE_LIST && vsc->life != VMBUS__LIFE_OPENING &&
	     vsc->life != VMBUS__LIFE_OPEN))
		return VMBUS_E_STATE;
	vsc->close_asked = true;
	if (!vsc->opts.own_thread)
		vsc->path.live = false;
	vmbus__work_push(vsc);
	return 0;
}

int vmbus_vsc_set_vp(struct vmbus_vsc *vsc, uint32_t target_vp)
{
	struct vmbus_guest *const guest = vsc->guest;
	int err;

	if (vsc->life != VMBUS__LIFE_OPEN || vsc->close_asked || vsc->rescinded || vsc->opts.poll)
		return VMBUS_E_STATE;
	if (vmbus_guest_version(guest) < VMBUS_PROTO_4_1)
		return VMBUS_E_NOTSUP;
	err = vmbus_cli_modify(guest->cli, vsc->ref, target_vp);
	if (!err)
		vmbus__guest_asked(guest);
	return err;
}

enum vmbus_vsc_state vmbus_vsc_state(const struct vmbus_vsc *vsc)
{
	switch (vsc->life) {
	case VMBUS__LIFE_CLOSED:
		/* When the parent is gone, dispatch may not have said so to the channel yet. */
		return vsc->rescinded || vsc->guest->state == VMBUS_GUEST_GONE ? VMBUS_VSC_GONE
									       : VMBUS_VSC_OFFERED;
	case VMBUS__LIFE_LIST:
	case VMBUS__LIFE_OPENING:
		return vsc->close_asked || vsc->rescinded ? VMBUS_VSC_CLOSING : VMBUS_VSC_OPENING;
	case VMBUS__LIFE_OPEN:
		return vsc->close_asked || vsc->rescinded ? VMBUS_VSC_CLOSING : VMBUS_VSC_OPEN;
	case VMBUS__LIFE_DEAD:
		return VMBUS_VSC_GONE;
	default:
		return VMBUS_VSC_CLOSING;
	}
}

/* Whether it is in the state that is waited for.  GONE is waited for until it is forgotten. */
static bool is_in(const struct vmbus_vsc *vsc, enum vmbus_vsc_state state)
{
	return state != VMBUS_VSC_GONE && vmbus_vsc_state(vsc) == state;
}

/* Whether a state that is waited for can still be reached: 0, or an error. */
static int can_be(const struct vmbus_vsc *vsc, enum vmbus_vsc_state state)
{
	const enum vmbus_vsc_state now = vmbus_vsc_state(vsc);

	if (state == VMBUS_VSC_GONE)
		return 0;
	if (now == VMBUS_VSC_GONE)
		return VMBUS_E_PEER;
	if (now == VMBUS_VSC_OFFERED)
		return vsc->open_err && state == VMBUS_VSC_OPEN ? VMBUS_E_PEER : VMBUS_E_STATE;
	return 0;
}

int vmbus_vsc_wait(struct vmbus_vsc *vsc, enum vmbus_vsc_state state, uint64_t timeout_ns)
{
	struct vmbus_guest *const guest = vsc->guest;
	struct vmbus__wait wait;
	int err = 0;

	if (guest->busy)
		return VMBUS_E_STATE;
	if (!guest->be->idle)
		return VMBUS_E_NOTSUP;
	if (vsc->forgotten)
		return state == VMBUS_VSC_GONE ? 0 : VMBUS_E_PEER;
	vmbus__wait_begin(guest, &wait, timeout_ns);
	guest->waited = vsc;
	while (guest->waited && !is_in(vsc, state)) {
		if (!err)
			err = can_be(vsc, state);
		if (err)
			break;
		err = vmbus__wait_turn(guest, &wait);
	}
	vmbus__wait_end(guest, &wait);
	if (!guest->waited) /* forgotten: it was rescinded */
		return state == VMBUS_VSC_GONE ? 0 : VMBUS_E_PEER;
	err = is_in(vsc, state) ? 0 : err;
	guest->waited = NULL;
	return err;
}

void vmbus_vsc_info(const struct vmbus_vsc *vsc, struct vmbus_vsc_info *info)
{
	const struct vmbus_vsc_info none = { 0 };
	const struct vmbus__path *const path = &vsc->path;

	*info = none;
	info->offer = vsc->offer;
	info->state = vmbus_vsc_state(vsc);
	info->requests = path->reqs_used;
	info->bad_completions = path->bad_completions;
	info->fault = *vmbus_ring_tx_fault(&path->tx);
	if (info->fault.field == VMBUS_FAULT_NONE)
		info->fault = *vmbus_ring_rx_fault(&path->rx);
	vmbus_ring_tx_stats(&path->tx, &info->send);
	vmbus_ring_rx_stats(&path->rx, &info->recv);
}

void *vmbus_vsc_priv(const struct vmbus_vsc *vsc)
{
	return vsc->opts.priv;
}

uint64_t vmbus_vsc_pfn(const struct vmbus_vsc *vsc, const void *at)
{
	const struct vmbus_guest *const guest = vsc->guest;
	const uintptr_t in_page = (uintptr_t)at % VMBUS_PAGE_BYTES;

	return guest->be->pfn(guest->be_ctx, (const uint8_t *)at - in_page);
}

struct vmbus_guest *vmbus_vsc_guest(const struct vmbus_vsc *vsc)
{
	return vsc->guest;
}
