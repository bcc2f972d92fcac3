/* SPDX-License-Identifier: MIT */
/*
 * Channels: their table and its actions.
 *
 * Keeps: an OPEN that was taken is answered once, or the channel is rescinded; a relid is free only
 * when the child has released it and the device let go of everything.  Knows nothing of the
 * connection but whether offers may go out.
 */
#include "channel/srv.h"

#define SINT_SHIFT 12u

static srv_act_fn act_none, act_open, act_hold, act_refuse, act_close, act_offer, act_revoke,
	act_revoke_close, act_release, act_release_close, act_opened, act_failed, act_closed,
	act_reopen, act_device_close, act_idle, act_settle, act_free, act_keep, act_modify,
	act_fate, act_owe_nothing;

/* clang-format off */
/* A cell left out refuses the event. */
static const struct srv_cell table[VMBUS_SRV_STATES][EV_COUNT] = {
	[VMBUS_SRV_CLIENT_RELEASED] = {
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLIENT_RELEASED,	"",			act_none },
		[EV_OFFER]	 = { VMBUS_SRV_CLOSED,		"OFFER",		act_offer },
		[EV_REVOKE]	 = { VMBUS_SRV_RELEASING,	"settle",		act_settle },
	},
	[VMBUS_SRV_CLOSED] = {
		[EV_OPEN]	 = { VMBUS_SRV_OPENING,		"open device",		act_open },
		[EV_OPEN_BAD]	 = { VMBUS_SRV_CLOSED,		"OPEN_RESULT(failed)",	act_refuse },
		[EV_GPADL]	 = { VMBUS_SRV_CLOSED,		"page list",		act_none },
		[EV_RELEASE]	 = { VMBUS_SRV_RELEASING,	"settle",		act_release },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_RELEASING,	"settle",		act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED,		"RESCIND",		act_revoke },
	},
	[VMBUS_SRV_OPENING] = {
		[EV_GPADL]	 = { VMBUS_SRV_OPENING,		"page list",		act_none },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_OPENING_RELEASE,	"",			act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_OPENING,	"RESCIND",		act_revoke },
		[EV_OPENED]	 = { VMBUS_SRV_OPENED,		"OPEN_RESULT(ok)",	act_opened },
		[EV_OPEN_FAILED] = { VMBUS_SRV_CLOSED,		"OPEN_RESULT(failed)",	act_failed },
	},
	[VMBUS_SRV_OPENED] = {
		[EV_CLOSE]	 = { VMBUS_SRV_CLOSING,		"close device",		act_close },
		[EV_GPADL]	 = { VMBUS_SRV_OPENED,		"page list",		act_none },
		[EV_MODIFY]	 = { VMBUS_SRV_OPENED,		"modify device",	act_modify },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"close device",		act_release_close },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_CLOSING,	"RESCIND, close device",act_revoke_close },
	},
	[VMBUS_SRV_CLOSING] = {
		[EV_OPEN]	 = { VMBUS_SRV_CLOSING_REOPEN,	"hold it",		act_hold },
		[EV_OPEN_BAD]	 = { VMBUS_SRV_CLOSING,		"OPEN_RESULT(failed)",	act_refuse },
		[EV_GPADL]	 = { VMBUS_SRV_CLOSING,		"page list",		act_none },
		[EV_RELEASE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_release },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_CLOSING,	"RESCIND",		act_revoke },
		[EV_CLOSED]	 = { VMBUS_SRV_CLOSED,		"hv_sock: RESCIND",	act_closed },
	},
	[VMBUS_SRV_CLOSING_REOPEN] = {
		[EV_GPADL]	 = { VMBUS_SRV_CLOSING_REOPEN,	"page list",		act_none },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_CLOSING,	"RESCIND",		act_revoke },
		[EV_CLOSED]	 = { VMBUS_SRV_OPENING,		"open device, or OPEN_RESULT(failed)", act_reopen },
	},
	[VMBUS_SRV_REVOKED] = {
		[EV_OPEN]	 = { VMBUS_SRV_REVOKED,		"",			act_none },
		[EV_OPEN_BAD]	 = { VMBUS_SRV_REVOKED,		"",			act_none },
		[EV_CLOSE]	 = { VMBUS_SRV_REVOKED,		"",			act_none },
		[EV_GPADL]	 = { VMBUS_SRV_REVOKED,		"CREATED(ok) at once",	act_none },
		[EV_RELEASE]	 = { VMBUS_SRV_RELEASING,	"settle",		act_release },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_RELEASING,	"settle",		act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED,		"",			act_fate },
	},
	[VMBUS_SRV_REVOKED_OPENING] = {
		[EV_OPEN]	 = { VMBUS_SRV_REVOKED_OPENING,	"",			act_none },
		[EV_OPEN_BAD]	 = { VMBUS_SRV_REVOKED_OPENING,	"",			act_none },
		[EV_CLOSE]	 = { VMBUS_SRV_REVOKED_OPENING,	"",			act_none },
		[EV_GPADL]	 = { VMBUS_SRV_REVOKED_OPENING,	"CREATED(ok) at once",	act_none },
		[EV_RELEASE]	 = { VMBUS_SRV_OPENING_RELEASE,	"",			act_release },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_OPENING_RELEASE,	"",			act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_OPENING,	"",			act_fate },
		[EV_OPENED]	 = { VMBUS_SRV_REVOKED_CLOSING,	"close device",		act_device_close },
		[EV_OPEN_FAILED] = { VMBUS_SRV_REVOKED,		"",			act_idle },
	},
	[VMBUS_SRV_REVOKED_CLOSING] = {
		[EV_OPEN]	 = { VMBUS_SRV_REVOKED_CLOSING,	"",			act_none },
		[EV_OPEN_BAD]	 = { VMBUS_SRV_REVOKED_CLOSING,	"",			act_none },
		[EV_CLOSE]	 = { VMBUS_SRV_REVOKED_CLOSING,	"",			act_none },
		[EV_GPADL]	 = { VMBUS_SRV_REVOKED_CLOSING,	"CREATED(ok) at once",	act_none },
		[EV_RELEASE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_release },
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_release },
		[EV_REVOKE]	 = { VMBUS_SRV_REVOKED_CLOSING,	"",			act_fate },
		[EV_CLOSED]	 = { VMBUS_SRV_REVOKED,		"",			act_idle },
	},
	[VMBUS_SRV_OPENING_RELEASE] = {
		[EV_CHILD_GONE]	 = { VMBUS_SRV_OPENING_RELEASE,	"",			act_owe_nothing },
		[EV_REVOKE]	 = { VMBUS_SRV_OPENING_RELEASE,	"",			act_fate },
		[EV_OPENED]	 = { VMBUS_SRV_CLOSING_RELEASE,	"close device",		act_device_close },
		[EV_OPEN_FAILED] = { VMBUS_SRV_RELEASING,	"settle",		act_idle },
	},
	[VMBUS_SRV_CLOSING_RELEASE] = {
		[EV_CHILD_GONE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_owe_nothing },
		[EV_REVOKE]	 = { VMBUS_SRV_CLOSING_RELEASE,	"",			act_fate },
		[EV_CLOSED]	 = { VMBUS_SRV_RELEASING,	"settle",		act_idle },
	},
	[VMBUS_SRV_RELEASING] = {
		[EV_CHILD_GONE]	 = { VMBUS_SRV_RELEASING,	"",			act_owe_nothing },
		[EV_REVOKE]	 = { VMBUS_SRV_RELEASING,	"",			act_fate },
		[EV_SETTLED]	 = { VMBUS_SRV_CLIENT_RELEASED,	"",			act_keep },
		[EV_SETTLED_OFFER] = { VMBUS_SRV_CLOSED,	"OFFER",		act_offer },
		[EV_SETTLED_FREE] = { VMBUS_SRV_FREE,		"RELEASED",		act_free },
	},
};
/* clang-format on */

static const char *const state_names[VMBUS_SRV_STATES] = {
	[VMBUS_SRV_FREE] = "free",
	[VMBUS_SRV_CLIENT_RELEASED] = "client released",
	[VMBUS_SRV_CLOSED] = "closed",
	[VMBUS_SRV_OPENING] = "opening",
	[VMBUS_SRV_OPENED] = "opened",
	[VMBUS_SRV_CLOSING] = "closing",
	[VMBUS_SRV_CLOSING_REOPEN] = "closing, reopen",
	[VMBUS_SRV_REVOKED] = "revoked",
	[VMBUS_SRV_REVOKED_OPENING] = "revoked, opening",
	[VMBUS_SRV_REVOKED_CLOSING] = "revoked, closing",
	[VMBUS_SRV_CLOSING_RELEASE] = "closing, release",
	[VMBUS_SRV_OPENING_RELEASE] = "opening, release",
	[VMBUS_SRV_RELEASING] = "releasing",
};

static const char *const event_names[EV_COUNT] = {
	[EV_OPEN] = "OPEN",
	[EV_OPEN_BAD] = "OPEN, bad ring",
	[EV_CLOSE] = "CLOSE",
	[EV_GPADL] = "GPADL_HEADER",
	[EV_MODIFY] = "MODIFY",
	[EV_RELEASE] = "RELID_RELEASED",
	[EV_CHILD_GONE] = "child gone",
	[EV_OFFER] = "offers asked for",
	[EV_REVOKE] = "revoke, reoffer",
	[EV_OPENED] = "opened(0)",
	[EV_OPEN_FAILED] = "opened(status)",
	[EV_CLOSED] = "closed",
	[EV_SETTLED] = "settled, keep",
	[EV_SETTLED_OFFER] = "settled, offer",
	[EV_SETTLED_FREE] = "settled, forget",
};

const struct srv_cell *vmbus__srv_cell(uint32_t state, uint32_t event)
{
	return &table[state][event];
}

const char *vmbus__srv_event_name(uint32_t event)
{
	return event_names[event];
}

const char *vmbus_srv_state_name(uint32_t state)
{
	return state < VMBUS_SRV_STATES ? state_names[state] : "?";
}

bool vmbus__srv_is_revoked(uint32_t state)
{
	return state == VMBUS_SRV_REVOKED || state == VMBUS_SRV_REVOKED_OPENING ||
	       state == VMBUS_SRV_REVOKED_CLOSING;
}

/* Whether the relid is the child's: offered, and not released. */
bool vmbus__srv_child_has(const struct srv_chan *chan)
{
	return !chan->survives && chan->state >= VMBUS_SRV_CLOSED &&
	       chan->state <= VMBUS_SRV_REVOKED_CLOSING;
}

/* Whether a child that leaves must wait for the channel. */
bool vmbus__srv_is_away(const struct srv_chan *chan)
{
	return !chan->survives && chan->state > VMBUS_SRV_CLIENT_RELEASED;
}

/* The channel of a relid, unless its slot is free or an earlier connection's. */
uint32_t vmbus__srv_chan_by_relid(const struct vmbus_srv *srv, uint32_t relid)
{
	if (relid == 0 || relid > srv->opts.chans_max)
		return NIL;
	if (srv->chans[relid - 1].state == VMBUS_SRV_FREE || srv->chans[relid - 1].survives)
		return NIL;
	return relid - 1;
}

struct srv_chan *vmbus__srv_chan_of(const struct vmbus_srv *srv, struct vmbus_srv_ref ref)
{
	struct srv_chan *chan;

	if (ref.slot >= srv->opts.chans_max)
		return NULL;
	chan = &srv->chans[ref.slot];
	return chan->state != VMBUS_SRV_FREE && chan->gen == ref.gen ? chan : NULL;
}

/* Connection id of a channel: its relid and SINT 2, [CTL-CONNID]. */
uint32_t vmbus__srv_conn_id(const struct vmbus_srv *srv, uint32_t slot)
{
	(void)srv;
	return (VMBUS_SINT_MESSAGE << SINT_SHIFT) + slot + 1;
}

bool vmbus__srv_fire(struct vmbus_srv *srv, uint32_t slot, enum srv_event event, const void *arg)
{
	struct srv_chan *const chan = &srv->chans[slot];
	const struct srv_cell *const cell = &table[chan->state][event];
	const bool was_away = vmbus__srv_is_away(chan);
	bool away;

	if (!cell->act)
		return false;
	chan->state = cell->next;
	away = vmbus__srv_is_away(chan);
	srv->away += (uint32_t)(away && !was_away);
	srv->away -= (uint32_t)(was_away && !away);
	cell->act(srv, slot, arg);
	return true;
}

/* A reserved channel stays open when the child goes, or is the new connection's no longer. */
static void set_survives(struct vmbus_srv *srv, struct srv_chan *chan, bool survives)
{
	const bool was_away = vmbus__srv_is_away(chan);

	chan->survives = survives;
	srv->away += (uint32_t)(vmbus__srv_is_away(chan) && !was_away);
	srv->away -= (uint32_t)(was_away && !vmbus__srv_is_away(chan));
}

/* Actions. */

static void act_none(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)srv;
	(void)slot;
	(void)arg;
}

static void act_offer(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	srv->chans[slot].fate = VMBUS_SRV_KEEP;
	vmbus__srv_due(srv, K_OFFER, slot);
}

static void take_open(struct vmbus_srv *srv, uint32_t slot, const struct srv_open_arg *arg)
{
	struct srv_chan *const chan = &srv->chans[slot];

	chan->open = *arg->open;
	chan->reserved = arg->reserved;
	chan->open_id = arg->open->open_id;
	if (arg->reserved) {
		chan->reserved_vp = arg->open->target_vp;
		chan->reserved_sint = arg->open->target_sint;
		chan->open_id = 0;
	}
}

static void open_device(struct vmbus_srv *srv, uint32_t slot)
{
	struct srv_chan *const chan = &srv->chans[slot];

	chan->ring = vmbus__srv_list_find(srv, slot, chan->open.gpadl);
	chan->target_vp = chan->reserved ? VMBUS_VP_NONE : chan->open.target_vp;
	vmbus__srv_due(srv, K_OPEN, slot);
}

static void act_open(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	take_open(srv, slot, arg);
	open_device(srv, slot);
}

static void act_hold(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	take_open(srv, slot, arg);
}

void vmbus__srv_refuse_open(struct vmbus_srv *srv, const struct vmbus_ctl_open *open, bool reserved)
{
	const struct srv_entry entry = { .type = VMBUS_CTL_OPEN_RESULT,
					 .vp = reserved ? open->target_vp : srv->vp,
					 .sint = reserved ? open->target_sint : srv->sint,
					 .relid = open->relid,
					 .id = reserved ? 0 : open->open_id,
					 .status = VMBUS_STATUS_FAILED };

	vmbus__srv_entry(srv, &entry);
}

static void act_refuse(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	const struct srv_open_arg *const a = arg;

	(void)slot;
	vmbus__srv_refuse_open(srv, a->open, a->reserved);
}

static void act_close(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	vmbus__srv_due(srv, K_CLOSE, slot);
}

static void act_device_close(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	act_close(srv, slot, arg);
}

/* Fates only get worse: what is to be forgotten is not offered again. */
static void act_fate(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	const enum vmbus_srv_fate *const fate = arg;

	if (srv->chans[slot].fate < (uint8_t)*fate)
		srv->chans[slot].fate = (uint8_t)*fate;
}

/* Answers of page lists first, then RESCIND; OPEN is answered by it. */
static void act_revoke(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	act_fate(srv, slot, arg);
	vmbus__srv_lists_all(srv, slot, LV_REVOKE);
	vmbus__srv_due(srv, K_RESCIND, slot);
}

static void act_revoke_close(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	act_revoke(srv, slot, arg);
	vmbus__srv_due(srv, K_CLOSE, slot);
}

/* Nothing is due to the child for a channel that it let go of. */
static void act_release(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	struct srv_chan *const chan = &srv->chans[slot];

	(void)arg;
	vmbus__srv_undo(srv, K_OFFER, slot);
	vmbus__srv_undo(srv, K_RESCIND, slot);
	vmbus__srv_undo(srv, K_RESULT, slot);
	vmbus__srv_undo(srv, K_MODIFIED, slot);
	if (vmbus__srv_is_due(srv, K_MODIFY, slot)) {
		vmbus__srv_undo(srv, K_MODIFY, slot);
		chan->modifying = false;
	}
	chan->modify_again = false;
	/* Who connected a socket is gone with it. */
	if (chan->offer.flags & VMBUS_OFFER_TLNPI)
		chan->fate = VMBUS_SRV_FORGET;
	vmbus__srv_lists_all(srv, slot, LV_RELEASE);
	vmbus__srv_settle(srv, slot);
}

/* A child that let go of the channel may have asked for a teardown since. */
static void act_owe_nothing(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	vmbus__srv_lists_all(srv, slot, LV_RELEASE);
}

static void act_release_close(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	vmbus__srv_due(srv, K_CLOSE, slot);
	act_release(srv, slot, arg);
}

/* A reserved channel's OPEN of an earlier connection has nobody to hear of it. */
static void answer_open(struct vmbus_srv *srv, uint32_t slot, uint32_t status)
{
	srv->chans[slot].open_status = status;
	if (!srv->chans[slot].survives)
		vmbus__srv_due(srv, K_RESULT, slot);
}

static void act_opened(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	answer_open(srv, slot, VMBUS_STATUS_OK);
	if (srv->chans[slot].reserved_reply)
		(void)vmbus__srv_fire(srv, slot, EV_CLOSE, NULL);
}

/* CLOSE_RESERVED is answered when the device has closed, or could not be opened. */
static void answer_reserved(struct vmbus_srv *srv, uint32_t slot)
{
	if (!srv->chans[slot].reserved_reply)
		return;
	srv->chans[slot].reserved_reply = false;
	vmbus__srv_due(srv, K_RESERVED_CLOSED, slot);
}

/* The device has let go of the rings, and of everything else if the channel was let go of. */
static void act_idle(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	srv->chans[slot].ring = NIL;
	answer_reserved(srv, slot);
	vmbus__srv_lists_all(srv, slot, LV_IDLE);
	vmbus__srv_settle(srv, slot);
}

/* A reserved channel of an earlier connection is offered to this one once it is closed. */
static void end_survival(struct vmbus_srv *srv, uint32_t slot)
{
	struct srv_chan *const chan = &srv->chans[slot];

	if (!chan->survives)
		return;
	set_survives(srv, chan, false);
	chan->fate = chan->fate == VMBUS_SRV_KEEP ? VMBUS_SRV_OFFER : chan->fate;
	(void)vmbus__srv_fire(srv, slot, EV_CHILD_GONE, NULL);
}

static void act_failed(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	const uint32_t *const status = arg;

	answer_open(srv, slot, *status);
	act_idle(srv, slot, NULL);
	end_survival(srv, slot);
}

static void act_closed(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	static const enum vmbus_srv_fate forget = VMBUS_SRV_FORGET;

	act_idle(srv, slot, arg);
	end_survival(srv, slot);
	/* Linux waits for it after each CLOSE of a socket, [CTL-TL]. */
	if ((srv->chans[slot].offer.flags & VMBUS_OFFER_TLNPI) &&
	    srv->chans[slot].state == VMBUS_SRV_CLOSED)
		(void)vmbus__srv_fire(srv, slot, EV_REVOKE, &forget);
}

/* The page list that the held OPEN named may be gone by now. */
static void act_reopen(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	struct srv_chan *const chan = &srv->chans[slot];
	uint32_t at;

	srv->chans[slot].ring = NIL;
	vmbus__srv_lists_all(srv, slot, LV_IDLE);
	at = vmbus__srv_list_find(srv, slot, chan->open.gpadl);
	if (!(chan->offer.flags & VMBUS_OFFER_TLNPI) && at != NIL &&
	    vmbus__srv_ring_can_be(srv, at, chan->open.downstream_page)) {
		open_device(srv, slot);
		return;
	}
	chan->state = VMBUS_SRV_CLOSED;
	if (!(chan->offer.flags & VMBUS_OFFER_TLNPI))
		answer_open(srv, slot, VMBUS_STATUS_FAILED);
	act_closed(srv, slot, arg);
}

static void act_modify(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	const uint32_t *const vp = arg;

	srv->chans[slot].modifying = true;
	srv->chans[slot].modify_vp = *vp;
	vmbus__srv_due(srv, K_MODIFY, slot);
}

static void act_settle(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	act_fate(srv, slot, arg);
	vmbus__srv_settle(srv, slot);
}

static void act_free(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	vmbus__srv_remove_from_order(srv, slot);
	srv->stats.channels--;
	vmbus__srv_due(srv, K_RELEASED, slot);
}

static void act_keep(struct vmbus_srv *srv, uint32_t slot, const void *arg)
{
	(void)arg;
	srv->chans[slot].fate = VMBUS_SRV_KEEP;
}

/* RELEASED was taken: the slot may be used again, after all others that are free. */
void vmbus__srv_chan_freed(struct vmbus_srv *srv, uint32_t slot)
{
	struct srv_chan *const chan = &srv->chans[slot];

	chan->gen = chan->gen == UINT32_MAX ? 1 : chan->gen + 1;
	chan->next = NIL;
	if (srv->free_chan == NIL)
		srv->free_chan = slot;
	else
		srv->chans[srv->free_chan_last].next = slot;
	srv->free_chan_last = slot;
}

/* Device idle, page lists gone, no question open: what the child let go of meets its fate. */
void vmbus__srv_settle(struct vmbus_srv *srv, uint32_t slot)
{
	const struct srv_chan *const chan = &srv->chans[slot];

	if (chan->state != VMBUS_SRV_RELEASING || chan->list_count || chan->modifying ||
	    vmbus__srv_is_due(srv, K_RESERVED_CLOSED, slot))
		return;
	if (chan->fate == VMBUS_SRV_FORGET)
		(void)vmbus__srv_fire(srv, slot, EV_SETTLED_FREE, NULL);
	else if (chan->fate == VMBUS_SRV_OFFER && vmbus__srv_conn_is_ready(srv))
		(void)vmbus__srv_fire(srv, slot, EV_SETTLED_OFFER, NULL);
	else
		(void)vmbus__srv_fire(srv, slot, EV_SETTLED, NULL);
	vmbus__srv_conn_check_empty(srv);
}

/* The child is gone: every channel but the open reserved ones. */
void vmbus__srv_child_gone(struct vmbus_srv *srv)
{
	uint32_t slot;

	for (slot = 0; slot < srv->opts.chans_max; slot++) {
		struct srv_chan *const chan = &srv->chans[slot];

		if (chan->state == VMBUS_SRV_FREE || chan->survives)
			continue;
		if (chan->reserved &&
		    (chan->state == VMBUS_SRV_OPENING || chan->state == VMBUS_SRV_OPENED ||
		     chan->state == VMBUS_SRV_CLOSING)) {
			vmbus__srv_lists_all(srv, slot, LV_RELEASE);
			set_survives(srv, chan, true);
		} else {
			(void)vmbus__srv_fire(srv, slot, EV_CHILD_GONE, NULL);
		}
	}
}

/* Withdraw one channel. */
void vmbus__srv_revoke(struct vmbus_srv *srv, uint32_t slot, enum vmbus_srv_fate fate)
{
	struct srv_chan *const chan = &srv->chans[slot];

	if (chan->survives) {
		/* The child of now does not know the relid: nothing to rescind. */
		act_fate(srv, slot, &fate);
		set_survives(srv, chan, false);
		(void)vmbus__srv_fire(srv, slot, EV_CHILD_GONE, NULL);
	} else {
		(void)vmbus__srv_fire(srv, slot, EV_REVOKE, &fate);
	}
}
