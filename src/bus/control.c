/* SPDX-License-Identifier: MIT */
/*
 * The machine's actions carried out, and the channels' answers taken to it.  Bus thread.
 *
 * Every action that asks is answered once: open_asked and close_asked say what is owed.  `local`
 * follows what the channel's thread was told, which may lag behind the machine's state.
 */
#include "bus/bus.h"

#include <vmbus/srv_save.h>

#include <stdlib.h>
#include <string.h>

#define UNSTICK_NS ((uint64_t)100 * VMBUS__MS) /* [RING-UNSTICK] */

static struct vmbus_chan *chan_of(struct vmbus_bus *bus, struct vmbus_srv_ref ref)
{
	struct vmbus_chan *chan = vmbus__chan_at(bus, ref.slot);

	return chan && chan->ref.gen == ref.gen ? chan : NULL;
}

void vmbus__chan_set_local(struct vmbus_chan *chan, enum vmbus__local local)
{
	struct vmbus_bus *bus = chan->bus;

	bus->opening -= chan->local == VMBUS__OPENING;
	bus->opening += local == VMBUS__OPENING;
	if (chan->foreign) {
		bus->foreign -= chan->local != VMBUS__CLOSED;
		bus->foreign += local != VMBUS__CLOSED;
	}
	chan->local = local;
}

static bool vp_exists(const struct vmbus_bus *bus, uint32_t vp)
{
	const struct vmbus_backend *backend = bus->opts.backend;

	return !backend->vps || vp < backend->vps(bus->opts.backend_ctx);
}

/* Events of the child from now on find the channel, before the device knows of it. */
static int bind_events(struct vmbus_chan *chan)
{
	const int err = vmbus__conn_add(chan->bus, chan->conn_id, chan->slot);

	if (!err)
		vmbus__bind(chan);
	return err;
}

static void unbind_events(struct vmbus_chan *chan)
{
	vmbus__unbind(chan);
	/* The id of an offer stays known: a late signal is no error of the child's. */
	if (chan->conn_id != chan->offer_conn)
		vmbus__conn_remove(chan->bus, chan->conn_id, chan->slot);
}

static void refuse_open(struct vmbus_chan *chan, const struct vmbus__refusal *why, int err)
{
	if (why->limit)
		vmbus__log(chan->bus, VMBUS_LOG_ERROR,
			   "channel %u (%s): open refused: %s is %llu, limit %llu", chan->relid,
			   chan->vsp->name, why->step, (unsigned long long)why->value,
			   (unsigned long long)why->limit);
	else
		vmbus__log(chan->bus, VMBUS_LOG_ERROR, "channel %u (%s): open refused: %s: %s",
			   chan->relid, chan->vsp->name, why->step, vmbus_err_name(err));
	chan->open_asked = false;
	chan->bus->opens_refused++;
	vmbus__note_not_opened(chan, why, err);
	(void)vmbus_srv_opened(chan->bus->srv, chan->ref, VMBUS_STATUS_FAILED);
}

static int prepare_open(struct vmbus_chan *chan, const struct vmbus_srv_action *a,
			struct vmbus__refusal *why)
{
	struct vmbus_bus *bus = chan->bus;
	int err;

	if (a->target_vp != VMBUS_VP_NONE && !vp_exists(bus, a->target_vp)) {
		*why = (struct vmbus__refusal){ "target VP", a->target_vp,
						bus->opts.backend->vps(bus->opts.backend_ctx) -
							1u };
		return VMBUS_E_PEER;
	}
	err = vmbus__rings_map(chan, a->list, a->downstream_page, why);
	if (err)
		return err;
	chan->ring_list = a->list;
	chan->relid = a->relid;
	chan->conn_id = a->conn_id;
	chan->event_flag = a->event_flag;
	chan->target_vp = a->target_vp;
	chan->vp = a->target_vp;
	chan->target_sint = a->target_sint;
	memcpy(chan->open_data, a->user, sizeof(chan->open_data));
	err = bind_events(chan);
	if (err) {
		*why = (struct vmbus__refusal){ "connection id", a->conn_id, 0 };
		vmbus__rings_unmap(chan);
	}
	return err;
}

/* Rings of a channel that was open in the state that is restored. */
int vmbus__restore_rings(struct vmbus_chan *chan, const struct vmbus_srv_action *action,
			 struct vmbus__refusal *why)
{
	const int err = prepare_open(chan, action, why);

	if (err)
		return err;
	vmbus__chan_no_time(chan, &chan->accept_by);
	vmbus__list_use(chan, true);
	vmbus__chan_set_local(chan, VMBUS__OPENING);
	chan->got = 0;
	chan->resuming = true;
	return 0;
}

/* It does not go on: the child sees it withdrawn, and offered again. */
static void not_resumed(struct vmbus_chan *chan)
{
	struct vmbus_srv_action action;

	if (!chan->resuming)
		return;
	vmbus__revoke_subs(chan); /* while it is known who of them was told of nothing */
	chan->resuming = false;
	if (chan->revoked || vmbus_srv_open_info(chan->bus->srv, chan->ref, &action) != 1)
		return;
	if (chan->sub_index || chan->tlnpi)
		vmbus__revoke(chan);
	else
		(void)vmbus_srv_reoffer(chan->bus->srv, chan->ref);
}

/*
 * Whether a sub-channel has to wait: its primary is to go on from a saved state, and has not, and what
 * its device knows of the sub-channel is there when it has.
 */
bool vmbus__primary_resumes(const struct vmbus_chan *chan)
{
	const struct vmbus_chan *const primary = vmbus__chan_primary(chan);

	return primary && primary->resuming;
}

/* Those that waited for it go on, or open. */
static void resume_subs(struct vmbus_chan *primary)
{
	struct vmbus_bus *bus = primary->bus;
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max && primary->subs; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && vmbus__chan_primary(chan) == primary && chan->local == VMBUS__OPENING)
			vmbus__chan_command(chan,
					    chan->resuming ? VMBUS__CMD_RESTORE : VMBUS__CMD_OPEN);
	}
}

static void act_open(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	struct vmbus_chan *chan = chan_of(bus, a->chan);
	struct vmbus__refusal why = { "state", 0, 0 };
	int err = VMBUS_E_STATE;

	if (!chan) {
		(void)vmbus_srv_opened(bus->srv, a->chan, VMBUS_STATUS_FAILED);
		return;
	}
	chan->open_asked = true;
	if (chan->local == VMBUS__CLOSED && !chan->revoked)
		err = prepare_open(chan, a, &why);
	if (err) {
		refuse_open(chan, &why, err);
		return;
	}
	vmbus__chan_no_time(chan, &chan->accept_by);
	vmbus__list_use(chan, true);
	vmbus__chan_set_local(chan, VMBUS__OPENING);
	chan->got = 0;
	if (!vmbus__primary_resumes(chan))
		vmbus__chan_command(chan, VMBUS__CMD_OPEN);
}

/* A command to close that its thread did not take before the device had ended must not end the next. */
static void forget_close(struct vmbus_chan *chan)
{
	uint64_t cmd = vmbus__ld64_relaxed(&chan->cmd); /* BITS.take */

	while ((cmd & VMBUS__CMD_CLOSE) &&
	       !vmbus__cas64_acq_rel(&chan->cmd, cmd,
				     cmd & ~(uint64_t)VMBUS__CMD_CLOSE)) /* BITS.take */
		cmd = vmbus__ld64_relaxed(&chan->cmd);			 /* BITS.take */
}

/* The rings go, and the machine hears of it. */
static void finish(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;

	forget_close(chan);
	unbind_events(chan);
	if (chan->foreign)
		vmbus__foreign_dirty(chan);
	vmbus__rings_unmap(chan);
	vmbus__list_use(chan, false);
	/* Of one that did not open it was noted that, and why. */
	if (chan->local == VMBUS__CLOSING && !chan->open_asked)
		vmbus__note_step(chan, VMBUS_STEP_CLOSED, VMBUS_RECORD_CLOSED);
	vmbus__chan_set_local(chan, VMBUS__CLOSED);
	chan->got = 0;
	vmbus__chan_no_time(chan, &chan->unstick_at);
	if (bus->waiting)
		vmbus__lists_poll(bus);
	not_resumed(chan);
	if (chan->open_asked) { /* it was refused, or ended before it was open */
		chan->open_asked = false;
		(void)vmbus_srv_opened(bus->srv, chan->ref, VMBUS_STATUS_FAILED);
	}
	if (chan->close_asked) {
		chan->close_asked = false;
		(void)vmbus_srv_closed(bus->srv, chan->ref);
	}
}

static void remove_chan(struct vmbus_chan *chan)
{
	struct vmbus_chan *const primary = vmbus__chan_primary(chan);

	vmbus__chan_remove(chan);
	if (primary)
		vmbus__sub_removed(primary);
}

/* Finish a close when the device is through and holds no page of the child's any more. */
void vmbus__chan_try_finish(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;

	if (chan->local != VMBUS__CLOSING ||
	    (~chan->got & (VMBUS__ANS_CLOSED | VMBUS__ANS_DONE)) != 0)
		return;
	if (vmbus_region_pins(&chan->sgls)) {
		if (!chan->waits)
			vmbus__wait_for_pins(bus);
		chan->waits = true;
		return;
	}
	if (chan->waits) {
		chan->waits = false;
		bus->waiting--;
	}
	finish(chan);
	vmbus__log(bus, VMBUS_LOG_INFO, "channel %u (%s): %s", chan->relid, chan->vsp->name,
		   chan->let_go ? "let go of, for another process" : "closed");
	if (chan->released) {
		remove_chan(chan);
		return;
	}
	vmbus__revoke_subs(chan);
}

/* A channel that was to go on from a saved state ends before it has. */
void vmbus__restore_cancel(struct vmbus_chan *chan)
{
	vmbus__restore_free(chan);
	chan->resuming = false;
	if (chan->local != VMBUS__CLOSED)
		finish(chan);
	vmbus__rings_unmap(chan);
}

/* Have a channel closed, if it is not, and tell the machine if it asked. */
void vmbus__chan_end(struct vmbus_chan *chan)
{
	/* Its thread has not heard of an opening that waits. */
	const bool unheard =
		chan->local == VMBUS__OPENING && !chan->resuming && vmbus__primary_resumes(chan);

	switch (chan->local) {
	case VMBUS__CLOSED:
		if (chan->close_asked) {
			chan->close_asked = false;
			(void)vmbus_srv_closed(chan->bus->srv, chan->ref);
		}
		break;
	case VMBUS__OPENING:
	case VMBUS__OPEN:
		vmbus__chan_set_local(chan, VMBUS__CLOSING);
		if (chan->monitor != VMBUS_MONITOR_NONE)
			vmbus__monitor_changed(chan->bus);
		vmbus__chan_command(chan, VMBUS__CMD_CLOSE | (unheard ? VMBUS__CMD_OPEN : 0u));
		break;
	case VMBUS__CLOSING:
	default:
		break;
	}
}

/*
 * The child is gone while devices are opening: it will not have them closed, and the machine waits for
 * each to be open before it does.  Some may take long, so they are closed now.
 */
void vmbus__end_openings(struct vmbus_bus *bus)
{
	uint32_t slot;

	if (!bus->opening || vmbus_srv_version(bus->srv))
		return;
	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);
		struct vmbus_srv_info info;

		if (chan && chan->local == VMBUS__OPENING &&
		    vmbus_srv_info(bus->srv, slot, &info) == 1 &&
		    info.state == VMBUS_SRV_OPENING_RELEASE)
			vmbus__chan_end(chan);
	}
}

static void act_close(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	struct vmbus_chan *chan = chan_of(bus, a->chan);

	if (!chan) {
		(void)vmbus_srv_closed(bus->srv, a->chan);
		return;
	}
	chan->close_asked = true;
	if (chan->local == VMBUS__OPEN) /* by the child, not because the device began anew */
		chan->anew = false;
	vmbus__chan_end(chan);
}

static void act_gpadl(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	struct vmbus_chan *chan = chan_of(bus, a->chan);
	const int err = chan ? vmbus__list_ready(bus, chan, a) : VMBUS_E_STATE;

	vmbus__note_gpadl(chan, a, err == VMBUS_E_AGAIN ? 0 : err);
	if (err == VMBUS_E_AGAIN)
		return;
	if (err) {
		bus->lists_refused++;
		vmbus__log(bus, VMBUS_LOG_ERROR, "channel %u: page list %u refused: %s", a->relid,
			   a->gpadl, vmbus__list_refusal(err));
	}
	(void)vmbus_srv_gpadl_ready(bus->srv, a->list, err ? VMBUS_STATUS_FAILED : VMBUS_STATUS_OK);
}

static void act_modify(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	struct vmbus_chan *chan = chan_of(bus, a->chan);

	if (!chan || (chan->local != VMBUS__OPEN && !chan->resuming) ||
	    !vp_exists(bus, a->target_vp)) {
		(void)vmbus_srv_modified(bus->srv, a->chan, VMBUS_STATUS_FAILED);
		return;
	}
	chan->vp = a->target_vp;
	vmbus__st32_relaxed(&chan->new_vp, a->target_vp); /* BITS.add */
	vmbus__chan_command(chan, VMBUS__CMD_MODIFY);
}

static void act_released(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	struct vmbus_chan *chan = chan_of(bus, a->chan);

	if (!chan) {
		vmbus__some_sub_removed(bus);
		return;
	}
	chan->released = true;
	vmbus__forget_sub(chan);
	vmbus__chan_end(chan);
	if (chan->local == VMBUS__CLOSED)
		remove_chan(chan);
}

static void act_tl_connect(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	const struct vmbus_bus_opts *opts = &bus->opts;
	char service[37];

	if (opts->tl_connect && opts->tl_connect(opts->events_ctx, &a->tl) == 0)
		return;
	vmbus_guid_format(&a->tl.service_id, service);
	vmbus__log(bus, VMBUS_LOG_INFO, "connection to service %s refused", service);
	(void)vmbus_srv_tl_refuse(bus->srv, &a->tl, VMBUS_STATUS_REFUSED);
}

static void set_monitor(struct vmbus_bus *bus, uint64_t page)
{
	bus->monitor_page = page / VMBUS_PAGE_BYTES * VMBUS_PAGE_BYTES;
	vmbus__monitor_changed(bus);
}

static void act_connection(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	switch (a->act) {
	case VMBUS_SRV_CONNECTED:
		set_monitor(bus, a->monitor_c2p);
		vmbus__subs_connected(bus);
		vmbus__log(bus, VMBUS_LOG_INFO, "connected, version %u.%u", a->version >> 16,
			   a->version & 0xffffu);
		break;
	case VMBUS_SRV_DISCONNECTED:
		set_monitor(bus, 0);
		vmbus__log(bus, VMBUS_LOG_INFO, "disconnected");
		break;
	case VMBUS_SRV_MODIFY_CONNECTION:
		set_monitor(bus, a->monitor_c2p);
		(void)vmbus_srv_connection_modified(bus->srv, 0);
		break;
	default:
		break;
	}
}

static void act(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	vmbus__note_action(bus, a);
	switch (a->act) {
	case VMBUS_SRV_OPEN:
		act_open(bus, a);
		break;
	case VMBUS_SRV_CLOSE:
		act_close(bus, a);
		break;
	case VMBUS_SRV_GPADL:
		act_gpadl(bus, a);
		break;
	case VMBUS_SRV_GPADL_DOWN:
		vmbus__list_down(bus, a);
		break;
	case VMBUS_SRV_MODIFY:
		act_modify(bus, a);
		break;
	case VMBUS_SRV_RELEASED:
		act_released(bus, a);
		break;
	case VMBUS_SRV_TL_CONNECT:
		act_tl_connect(bus, a);
		break;
	default:
		act_connection(bus, a);
		break;
	}
}

/* Post the message that is due.  Returns whether the slot took it, or it was dropped. */
static bool post(struct vmbus_bus *bus)
{
	const struct vmbus_srv_action *out = &bus->out;
	int err = VMBUS_E_RANGE;

	if (vp_exists(bus, out->target_vp))
		err = bus->opts.backend->post(bus->opts.backend_ctx, out->target_vp,
					      out->target_sint, VMBUS_MSG_TYPE_CTL, out->bytes,
					      out->len);
	vmbus__note_posted(bus, err);
	if (err == VMBUS_E_AGAIN) {
		bus->blocked = true;
		return false;
	}
	if (err)
		vmbus__log(bus, VMBUS_LOG_ERROR, "message %s to VP %u dropped: %s",
			   vmbus_ctl_type_name(out->ctl_type), out->target_vp, vmbus_err_name(err));
	bus->sending = false;
	return true;
}

/* The next action that can be carried out now: none to post while a message waits for its slot. */
static bool next_action(struct vmbus_bus *bus, struct vmbus_srv_action *action)
{
	const int got = bus->sending ? vmbus_srv_next_local(bus->srv, action)
				     : vmbus_srv_next(bus->srv, action);

	return got == 1;
}

/* Take actions while they can be carried out.  Returns how many. */
uint32_t vmbus__actions(struct vmbus_bus *bus, uint32_t budget)
{
	struct vmbus_srv_action action;
	uint32_t done = 0;

	while (done + bus->charge < budget) {
		if (bus->sending && !bus->blocked && post(bus))
			continue;
		if (!next_action(bus, &action))
			break;
		bus->held = false;
		done++;
		if (action.act == VMBUS_SRV_SEND) {
			bus->out = action;
			bus->sending = true;
		} else {
			act(bus, &action);
		}
	}
	return done;
}

static void opened(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;
	const int err = chan->open_err;

	vmbus__note_opened(chan, err);
	if (err) {
		vmbus__log(bus, VMBUS_LOG_ERROR, "channel %u (%s): open failed: %s: %s",
			   chan->relid, chan->vsp->name, vmbus_err_name(err),
			   chan->why[0] ? chan->why : "the device refused");
		finish(chan);
		if (chan->released)
			remove_chan(chan);
		else
			vmbus__revoke_subs(chan); /* that it offered in open() */
	} else {
		chan->opens += !chan->resuming;
		if (chan->resuming) {
			chan->resuming = false;
			resume_subs(chan);
			vmbus__sub_removed(chan); /* since then, perhaps */
		}
		if (chan->local == VMBUS__OPENING)
			vmbus__chan_set_local(chan, VMBUS__OPEN);
		vmbus__chan_at_time(chan, &chan->unstick_at, UNSTICK_NS);
		vmbus__log(bus, VMBUS_LOG_INFO, "channel %u (%s): open", chan->relid,
			   chan->vsp->name);
		if (chan->monitor != VMBUS_MONITOR_NONE)
			vmbus__monitor_changed(bus);
		vmbus__chan_look(chan, chan->slot); /* whatever was signalled, or was not */
	}
	if (chan->open_asked) {
		chan->open_asked = false;
		(void)vmbus_srv_opened(bus->srv, chan->ref, VMBUS_STATUS_OK);
	}
}

/* The device was open, or about to be, and is closed again: the child is told that it failed. */
static void broke(struct vmbus_chan *chan)
{
	vmbus__note_opened(chan, VMBUS_E_PEER);
	vmbus__log(chan->bus, VMBUS_LOG_ERROR, "channel %u (%s): open failed: %s", chan->relid,
		   chan->vsp->name, chan->why);
	vmbus__chan_set_local(chan, VMBUS__CLOSING);
}

static void faulted(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;

	bus->faults++;
	chan->faulted = true;
	chan->last_fault = chan->fault;
	vmbus__note_fault(chan);
	vmbus__chan_set_local(chan, VMBUS__CLOSING);
	vmbus__log(bus, VMBUS_LOG_ERROR, "channel %u (%s): broken by the child: %s", chan->relid,
		   chan->vsp->name, chan->why);
	if (chan->monitor != VMBUS_MONITOR_NONE)
		vmbus__monitor_changed(bus);
	vmbus__revoke_subs(chan);
	if (chan->revoked)
		return;
	if (chan->sub_index || chan->tlnpi)
		vmbus__revoke(chan);
	else
		(void)vmbus_srv_reoffer(bus->srv, chan->ref);
}

static void answer(struct vmbus_chan *chan)
{
	const uint64_t ans = vmbus__take(&chan->ans);

	chan->got |= (uint32_t)ans & (VMBUS__ANS_CLOSED | VMBUS__ANS_DONE);
	if (ans & VMBUS__ANS_TAP)
		vmbus__tap_answered(chan);
	if (ans & VMBUS__ANS_OPENED)
		opened(chan);
	if (chan->gone)
		return;
	if (ans & VMBUS__ANS_BROKE)
		broke(chan);
	if (ans & VMBUS__ANS_MODIFIED)
		(void)vmbus_srv_modified(chan->bus->srv, chan->ref, VMBUS_STATUS_OK);
	if (ans & VMBUS__ANS_FAULT)
		faulted(chan);
	if (ans & VMBUS__ANS_SUBS)
		vmbus__subs_asked(chan);
	if (ans & VMBUS__ANS_REVOKE)
		vmbus__revoke(chan);
	vmbus__chan_try_finish(chan);
}

/*
 * Take the channels' answers to the machine.  Returns how many channels had one, which is up to 63
 * more than the budget.
 */
uint32_t vmbus__answers(struct vmbus_bus *bus, uint32_t budget)
{
	uint64_t words = vmbus__take(&bus->answers.words);
	uint32_t done = 0;

	for (; words && done < budget; words &= words - 1u) {
		const uint32_t word = (uint32_t)__builtin_ctzll(words);
		uint64_t bits = vmbus__slots_take_word(&bus->answers, word);

		for (; bits; bits &= bits - 1u) {
			struct vmbus_chan *chan =
				vmbus__chan_at(bus, word * 64u + (uint32_t)__builtin_ctzll(bits));

			if (chan)
				answer(chan);
			bus->held = false; /* the machine may be ready for messages again */
			done++;
		}
	}
	if (words)
		vmbus__or64_release(&bus->answers.words, words); /* BITS.add */
	return done;
}
