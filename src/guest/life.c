/* SPDX-License-Identifier: MIT */
/*
 * The life of a channel, from its offer to the release of its relid.  vmbus__vsc_step() does what
 * can be done now; everything that changes a channel only notes the change and puts the channel on
 * the work list.
 *
 * Invariants: the rings' pages are released only when their page list is over, and leaked when it
 * was lost; each open() that was accepted ends with opened() and an error, or with closed(); each
 * request ends before that.
 */
#include "guest/state.h"

static void unlink_channel(struct vmbus_guest *guest, struct vmbus_vsc *vsc)
{
	if (vsc->next)
		vsc->next->prev = vsc->prev;
	else
		guest->last = vsc->prev;
	if (vsc->prev)
		vsc->prev->next = vsc->next;
	else
		guest->first = vsc->next;
	vsc->next = NULL;
	vsc->prev = NULL;
}

static void link_channel(struct vmbus_guest *guest, struct vmbus_vsc *vsc)
{
	vsc->prev = guest->last;
	if (guest->last)
		guest->last->next = vsc;
	else
		guest->first = vsc;
	guest->last = vsc;
}

/* A sub-channel was offered: tell the one that has its device open. */
static void tell_primary(struct vmbus_guest *guest, struct vmbus_vsc *sub)
{
	struct vmbus_vsc *vsc;

	for (vsc = guest->first; vsc; vsc = vsc->next)
		if (vsc->offer.sub_index == 0 && vsc->owe != VMBUS__OWE_NOTHING &&
		    vsc->opts.subchannel && !vsc->rescinded &&
		    vmbus_guid_equal(&vsc->offer.class_id, &sub->offer.class_id) &&
		    vmbus_guid_equal(&vsc->offer.instance_id, &sub->offer.instance_id)) {
			vsc->opts.subchannel(vsc, sub);
			return;
		}
}

void vmbus__vsc_offered(struct vmbus_guest *guest, struct vmbus_cli_ref ref)
{
	struct vmbus_cli_info info;
	struct vmbus_vsc *vsc;

	if (ref.slot >= guest->chans_max || vmbus_cli_info(guest->cli, ref.slot, &info) != 1 ||
	    info.chan.gen != ref.gen || guest->by_slot[ref.slot])
		return;
	vsc = vmbus__vsc_new(guest);
	if (!vsc) {
		vmbus__guest_log(guest, info.offer.relid, "no memory for this offer", 0);
		return;
	}
	vsc->guest = guest;
	vsc->ref = ref;
	vsc->offer = info.offer;
	guest->by_slot[ref.slot] = vsc;
	guest->by_relid[info.offer.relid % VMBUS__RELIDS] = vsc;
	if (info.offer.relid / 64u >= guest->flag_words)
		guest->flag_words = info.offer.relid / 64u + 1;
	guest->chans++;
	link_channel(guest, vsc);
	/* Too late to be of use to anybody. */
	if (guest->state == VMBUS_GUEST_LEAVING || guest->state == VMBUS_GUEST_GONE)
		return;
	vsc->announced = true;
	if (guest->opts.offered)
		guest->opts.offered(guest->opts.ctx, vsc);
	if (vsc->offer.sub_index)
		tell_primary(guest, vsc);
}

/* The machine, and then we, forget a channel that was rescinded. */
static void bury(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;

	if (vsc->on_ready || vsc->on_work) /* its turn comes, and brings it back here */
		return;
	if (vmbus__cli_retry(guest, vmbus_cli_release(guest->cli, vsc->ref)))
		return;
	guest->by_slot[vsc->ref.slot] = NULL;
	if (guest->by_relid[vsc->offer.relid % VMBUS__RELIDS] == vsc)
		guest->by_relid[vsc->offer.relid % VMBUS__RELIDS] = NULL;
	unlink_channel(guest, vsc);
	guest->chans--;
	guest->leave_look = true;
	vmbus__vsc_release(vsc);
	if (vsc->announced && guest->opts.gone)
		guest->opts.gone(guest->opts.ctx, vsc);
	if (guest->waited == vsc)
		guest->waited = NULL;
	vmbus__vsc_free(guest, vsc);
}

/* Tell the VSC how its opening ended. */
static void tell_end(struct vmbus_vsc *vsc)
{
	const uint32_t owe = vsc->owe;

	vsc->owe = VMBUS__OWE_NOTHING;
	vsc->close_asked = false;
	if (owe == VMBUS__OWE_OPENED && vsc->opts.opened)
		vsc->opts.opened(vsc, vsc->open_err);
	if (owe == VMBUS__OWE_CLOSED && vsc->opts.closed)
		vsc->opts.closed(vsc);
}

/* Begin to take the rings back; an opening that has not succeeded has failed now. */
static void take(struct vmbus_vsc *vsc, int err)
{
	if (vsc->owe == VMBUS__OWE_OPENED && vsc->open_err == 0)
		vsc->open_err = err;
	vsc->life = VMBUS__LIFE_TAKING;
	vmbus__list_take_back(&vsc->rings);
	vmbus__work_push(vsc);
}

/* The channel was rescinded and nothing of ours runs on it: what is left are page lists. */
static void die(struct vmbus_vsc *vsc)
{
	if (vsc->owe == VMBUS__OWE_OPENED && vsc->open_err == 0)
		vsc->open_err = VMBUS_E_PEER;
	vsc->life = VMBUS__LIFE_DEAD;
	vmbus__shares_take_back(vsc);
	vmbus__work_push(vsc);
	tell_end(vsc);
}

static bool guest_gone(const struct vmbus_vsc *vsc)
{
	return vsc->guest->state == VMBUS_GUEST_GONE;
}

/* An opening ends with the connection. */
static void log_unanswered(struct vmbus_vsc *vsc)
{
	vmbus__guest_log(vsc->guest, vsc->offer.relid,
			 vsc->guest->ended_here
				 ? "given up: the parent has not answered its opening"
				 : "the parent is gone and has not answered its opening",
			 0);
}

void vmbus__rings_over(struct vmbus_vsc *vsc, int err)
{
	struct vmbus_guest *const guest = vsc->guest;

	if (err == VMBUS_E_FAULT) {
		vsc->lost = true;
		guest->leaked_pages += vsc->rings.count;
		vmbus__guest_log(guest, vsc->offer.relid,
				 guest->state == VMBUS_GUEST_GONE && !guest->ended_here
					 ? "the parent is gone and had the rings, pages lost: "
					 : "the parent has not let go of rings, pages lost: ",
				 vsc->rings.count);
	}
	if (vsc->life != VMBUS__LIFE_LIST || vsc->rescinded)
		return;
	if (guest_gone(vsc))
		log_unanswered(vsc);
	else
		vmbus__guest_log(guest, vsc->offer.relid, "the page list of the rings was refused",
				 0);
	vsc->open_err = err ? err : VMBUS_E_PEER;
}

/* Rings are described: ask the parent to open. */
static void ask_open(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;
	struct vmbus_cli_open open = { .list = vsc->rings.ref };
	int err = 0;

	if (!vsc->prepared)
		err = vmbus__vsc_rings(vsc);
	vsc->prepared = true;
	if (!err) {
		open.downstream_page = vsc->opts.send_bytes / VMBUS_PAGE_BYTES + 1;
		open.target_vp = vsc->opts.poll ? VMBUS_VP_NONE : vsc->opts.target_vp;
		__builtin_memcpy(open.user, vsc->opts.user, sizeof(open.user));
		err = vmbus_cli_open(guest->cli, vsc->ref, &open);
		if (vmbus__cli_retry(guest, err))
			return;
	}
	if (err)
		take(vsc, err);
	else
		vsc->life = VMBUS__LIFE_OPENING;
}

static void step_list(struct vmbus_vsc *vsc)
{
	if (vsc->close_asked)
		take(vsc, VMBUS_E_STATE);
	else if (vsc->rings.state == VMBUS__LIST_NONE)
		take(vsc, vsc->open_err);
	else if (vsc->rings.state == VMBUS__LIST_READY)
		ask_open(vsc);
	else
		vmbus__list_step(&vsc->rings);
}

static void own_add(struct vmbus_vsc *vsc)
{
	vsc->own_next = vsc->guest->own;
	vsc->guest->own = vsc;
}

static void own_remove(struct vmbus_vsc *vsc)
{
	struct vmbus_vsc **at = &vsc->guest->own;

	while (*at && *at != vsc)
		at = &(*at)->own_next;
	if (*at)
		*at = vsc->own_next;
}

void vmbus__vsc_opened(struct vmbus_vsc *vsc, uint32_t status)
{
	if (status == 0)
		vsc->cli_open = true;
	if (vsc->life != VMBUS__LIFE_OPENING)
		return;
	if (status) {
		/* The machine ends what nobody answers with this status. */
		if (guest_gone(vsc) && status == VMBUS_STATUS_FAILED)
			log_unanswered(vsc);
		else
			vmbus__guest_log_refusal(vsc, "the parent refused to open it", status);
		take(vsc, VMBUS_E_PEER);
		return;
	}
	vsc->life = VMBUS__LIFE_OPEN;
	vmbus__work_push(vsc);
	if (vsc->close_asked)
		return;
	vsc->owe = VMBUS__OWE_CLOSED;
	vsc->path.live = true;
	if (vsc->opts.own_thread)
		own_add(vsc);
	else
		vmbus__call_begin(vsc);
	if (vsc->opts.opened)
		vsc->opts.opened(vsc, 0);
	if (!vsc->opts.own_thread)
		vmbus__call_end(vsc);
	/* What came before the result, or before the callback was ready, is in the ring: look. */
	vmbus__ready_push(vsc);
}

/* Stop the packet path; a thread of its own is asked to leave it. */
static void stop(struct vmbus_vsc *vsc)
{
	vsc->life = VMBUS__LIFE_STOPPING;
	if (vsc->owe == VMBUS__OWE_OPENED) {
		vsc->open_err = VMBUS_E_STATE; /* closed before it was open */
		return;
	}
	if (!vsc->opts.own_thread) {
		vsc->path.live = false;
		return;
	}
	/* If the thread has left already, on a broken ring, then it stays so. */
	(void)vmbus__cas32_acquire(&vsc->path.leave, VMBUS__LEAVE_NO,
				   VMBUS__LEAVE_ASKED); /* LEAVE.guest */
	if (vsc->opts.wake)
		vsc->opts.wake(vsc);
}

bool vmbus__own_left(const struct vmbus_vsc *vsc)
{
	return vmbus__ld32_acquire(&vsc->path.leave) == VMBUS__LEAVE_DONE; /* LEAVE.guest */
}

static void log_end(struct vmbus_vsc *vsc)
{
	const struct vmbus_fault *fault = vmbus_ring_tx_fault(&vsc->path.tx);

	if (!vsc->path.broken || vsc->fault_logged)
		return;
	vsc->fault_logged = true;
	if (vsc->path.failed) {
		vmbus__guest_log(vsc->guest, vsc->offer.relid, vsc->path.failed, 0);
		return;
	}
	if (vsc->no_buffer) {
		vmbus__guest_log(vsc->guest, vsc->offer.relid,
				 "closed, no memory for a packet that needs ",
				 vmbus_ring_rx_need(&vsc->path.rx));
		return;
	}
	if (fault->field == VMBUS_FAULT_NONE)
		fault = vmbus_ring_rx_fault(&vsc->path.rx);
	vmbus__guest_log_fault(vsc->guest, vsc->offer.relid, fault);
}

/* No packet path any more: end the requests, then close. */
static void step_stopping(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;

	if (vsc->owe == VMBUS__OWE_CLOSED && vsc->opts.own_thread) {
		if (!vmbus__own_left(vsc))
			return;
		own_remove(vsc);
	}
	vmbus__req_end_all(vsc);
	log_end(vsc);
	if (vsc->rescinded) {
		die(vsc);
		return;
	}
	if (vmbus__cli_retry(guest, vmbus_cli_close(guest->cli, vsc->ref)))
		return;
	vsc->cli_open = false;
	take(vsc, VMBUS_E_STATE);
}

static void step_taking(struct vmbus_vsc *vsc)
{
	if (vsc->rings.state != VMBUS__LIST_NONE) {
		vmbus__list_step(&vsc->rings);
		return;
	}
	vmbus__vsc_release(vsc);
	vsc->life = VMBUS__LIFE_CLOSED;
	vsc->guest->leave_look = true;
	tell_end(vsc);
}

static void step_dead(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;

	if (vsc->cli_open) {
		if (vmbus__cli_retry(guest, vmbus_cli_close(guest->cli, vsc->ref)))
			return;
		vsc->cli_open = false;
	}
	vmbus__list_take_back(&vsc->rings);
	vmbus__list_step(&vsc->rings);
	if (vsc->rings.state == VMBUS__LIST_NONE && !vsc->shares)
		bury(vsc);
}

/* What a channel's own thread knows is read only when it has left. */
static bool is_broken(const struct vmbus_vsc *vsc)
{
	return vsc->opts.own_thread ? vmbus__own_left(vsc) : vsc->path.broken;
}

void vmbus__vsc_step(struct vmbus_vsc *vsc)
{
	vmbus__shares_step(vsc);
	if (vsc->life == VMBUS__LIFE_OPEN && (vsc->rescinded || vsc->close_asked || is_broken(vsc)))
		stop(vsc);
	else if (vsc->rescinded && vsc->life != VMBUS__LIFE_OPEN &&
		 vsc->life != VMBUS__LIFE_STOPPING && vsc->life != VMBUS__LIFE_DEAD)
		die(vsc);
	switch (vsc->life) {
	case VMBUS__LIFE_LIST:
		step_list(vsc);
		break;
	case VMBUS__LIFE_STOPPING:
		step_stopping(vsc);
		break;
	case VMBUS__LIFE_TAKING:
		step_taking(vsc);
		break;
	case VMBUS__LIFE_DEAD:
		step_dead(vsc);
		break;
	default:
		break;
	}
}

void vmbus__vsc_rescinded(struct vmbus_vsc *vsc)
{
	vsc->rescinded = true;
	vmbus__work_push(vsc);
}
