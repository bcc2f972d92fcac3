/* SPDX-License-Identifier: MIT */
/*
 * Messages about channels, checked and turned into events, and the answers of the devices.
 *
 * Keeps: every OPEN, MODIFY and CLOSE_RESERVED gets an answer, also when the channel does not exist.
 * Knows nothing of states but through the table.
 */
#include "base/probe.h"
#include "channel/srv.h"

#define CONN_ID_LIMIT 0x1000000u /* connection ids have 24 bits, [CTL-CONNID] */

static void note(struct vmbus_srv *srv, uint64_t *counter, const struct vmbus_ctl *ctl,
		 uint32_t relid, const char *what)
{
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, relid);
	const struct vmbus_srv_refusal why = { .what = what,
					       .ctl_type = ctl->type,
					       .relid = relid,
					       .state = slot == NIL ? (uint32_t)VMBUS_SRV_FREE
								    : srv->chans[slot].state };

	vmbus__srv_refuse(srv, counter, &why);
}

/* A connection id that the child chose must be no other channel's, nor one of messages. */
bool vmbus__srv_conn_id_is_free(const struct vmbus_srv *srv, uint32_t slot, uint32_t conn_id)
{
	uint32_t i;

	if (conn_id <= VMBUS_CONN_CONTACT || conn_id >= CONN_ID_LIMIT ||
	    conn_id == srv->opts.message_conn)
		return false;
	for (i = 0; i < srv->opts.chans_max; i++)
		if (i != slot && srv->chans[i].ring != NIL && srv->chans[i].open.conn_id == conn_id)
			return false;
	return true;
}

/* Whether the device can be given what OPEN names. */
static const char *open_breaks(const struct vmbus_srv *srv, uint32_t slot,
			       const struct srv_open_arg *arg)
{
	const struct vmbus_ctl_open *const open = arg->open;
	const uint32_t at = vmbus__srv_list_find(srv, slot, open->gpadl);

	if (srv->chans[slot].reserved_reply)
		return "open: the channel is being closed; wait for CLOSE_RESERVED_RESPONSE";
	if (at == NIL || !vmbus__srv_ring_can_be(srv, at, open->downstream_page))
		return "open: rings need an accepted page list of one range of whole pages, "
		       "2 pages or more each way";
	if (arg->reserved || !(srv->features & VMBUS_FEATURE_SIGNAL_PARAMS))
		return NULL;
	if (open->event_flag == 0 || open->event_flag > VMBUS_RELID_MAX)
		return "open: the event flag is past its limit";
	return vmbus__srv_conn_id_is_free(srv, slot, open->conn_id)
		       ? NULL
		       : "open: the connection id is in use";
}

static void on_open(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const struct srv_open_arg arg = { &ctl->u.open, ctl->type == VMBUS_CTL_OPEN_RESERVED };
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, arg.open->relid);
	const char *broken;

	VMBUS_PROBE3(open, srv, arg.open->relid, arg.open->gpadl);
	if (slot == NIL || !vmbus__srv_child_has(&srv->chans[slot])) {
		note(srv, &srv->stats.unknown_chan, ctl, arg.open->relid,
		     "open: the channel is not offered");
		vmbus__srv_refuse_open(srv, arg.open, arg.reserved);
		return;
	}
	broken = open_breaks(srv, slot, &arg);
	if (!vmbus__srv_fire(srv, slot, broken ? EV_OPEN_BAD : EV_OPEN, &arg)) {
		note(srv, &srv->stats.out_of_order, ctl, arg.open->relid,
		     "open: the channel is not closed");
		vmbus__srv_refuse_open(srv, arg.open, arg.reserved);
	} else if (broken && !vmbus__srv_is_revoked(srv->chans[slot].state)) {
		note(srv, &srv->stats.malformed, ctl, arg.open->relid, broken);
	}
}

static void on_close(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t relid = ctl->u.chan.relid;
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, relid);

	if (slot == NIL || !vmbus__srv_child_has(&srv->chans[slot]))
		note(srv, &srv->stats.unknown_chan, ctl, relid,
		     "close: the channel is not offered");
	else if (srv->chans[slot].state == VMBUS_SRV_OPENED && srv->chans[slot].reserved)
		note(srv, &srv->stats.out_of_order, ctl, relid,
		     "close: the channel was opened as reserved; close it as reserved");
	else if (!vmbus__srv_fire(srv, slot, EV_CLOSE, NULL))
		note(srv, &srv->stats.out_of_order, ctl, relid, "close: the channel is not open");
}

static void on_release(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t relid = ctl->u.chan.relid;
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, relid);

	if (slot == NIL || !vmbus__srv_child_has(&srv->chans[slot]))
		note(srv, &srv->stats.unknown_chan, ctl, relid,
		     "release: the channel is not offered");
	else if (!vmbus__srv_fire(srv, slot, EV_RELEASE, NULL))
		note(srv, &srv->stats.out_of_order, ctl, relid,
		     "release: the channel is in use; close it first");
}

/* From 5.3 on every MODIFY is answered, [CTL-MODIFY]. */
static void refuse_modify(struct vmbus_srv *srv, uint32_t relid)
{
	const struct srv_entry entry = { .type = VMBUS_CTL_MODIFY_RESPONSE,
					 .vp = srv->vp,
					 .sint = srv->sint,
					 .relid = relid,
					 .status = VMBUS_STATUS_FAILED };

	if (srv->version >= VMBUS_PROTO_5_3)
		vmbus__srv_entry(srv, &entry);
}

static void on_modify(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t relid = ctl->u.modify.relid, vp = ctl->u.modify.target_vp;
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, relid);
	struct srv_chan *const chan = slot == NIL ? NULL : &srv->chans[slot];

	if (!chan || !vmbus__srv_child_has(chan)) {
		note(srv, &srv->stats.unknown_chan, ctl, relid,
		     "modify: the channel is not offered");
	} else if (vp == VMBUS_VP_NONE || chan->target_vp == VMBUS_VP_NONE) {
		note(srv, &srv->stats.malformed, ctl, relid, "modify: only from one VP to another");
	} else if (chan->modifying && srv->version < VMBUS_PROTO_5_3 &&
		   chan->state == VMBUS_SRV_OPENED) {
		chan->modify_again = true;
		chan->modify_next = vp;
		return;
	} else if (!chan->modifying && vmbus__srv_fire(srv, slot, EV_MODIFY, &vp)) {
		return;
	} else {
		note(srv, &srv->stats.out_of_order, ctl, relid,
		     "modify: the channel is not open, or is being modified");
	}
	refuse_modify(srv, relid);
}

void vmbus__srv_chan_message(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	switch (ctl->type) {
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESERVED:
		on_open(srv, ctl);
		break;
	case VMBUS_CTL_CLOSE:
		on_close(srv, ctl);
		break;
	case VMBUS_CTL_MODIFY:
		on_modify(srv, ctl);
		break;
	default:
		on_release(srv, ctl);
		break;
	}
}

/* CLOSE_RESERVED: always answered, also when nothing is open or nobody is connected. */
void vmbus__srv_close_reserved(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t relid = ctl->u.chan.relid;
	const struct srv_entry entry = { .type = VMBUS_CTL_CLOSE_RESERVED_RESPONSE,
					 .vp = ctl->u.chan.target_vp,
					 .sint = ctl->u.chan.target_sint,
					 .relid = relid };
	struct srv_chan *chan = NULL;

	if (relid > 0 && relid <= srv->opts.chans_max && srv->chans[relid - 1].reserved)
		chan = &srv->chans[relid - 1];
	if (!chan || chan->ring == NIL || vmbus__srv_is_due(srv, K_RESERVED_CLOSED, relid - 1)) {
		note(srv, &srv->stats.unknown_chan, ctl, relid,
		     "close: no reserved channel is open there");
		vmbus__srv_entry(srv, &entry);
		return;
	}
	chan->reserved_vp = ctl->u.chan.target_vp;
	chan->reserved_sint = ctl->u.chan.target_sint;
	chan->reserved_reply = true;
	if (chan->state == VMBUS_SRV_OPENED)
		(void)vmbus__srv_fire(srv, relid - 1, EV_CLOSE, NULL);
}

int vmbus_srv_opened(struct vmbus_srv *srv, struct vmbus_srv_ref chan, uint32_t status)
{
	if (!vmbus__srv_chan_of(srv, chan) || vmbus__srv_is_due(srv, K_OPEN, chan.slot))
		return VMBUS_E_STATE;
	return vmbus__srv_fire(srv, chan.slot, status ? EV_OPEN_FAILED : EV_OPENED, &status)
		       ? 0
		       : VMBUS_E_STATE;
}

int vmbus_srv_closed(struct vmbus_srv *srv, struct vmbus_srv_ref chan)
{
	if (!vmbus__srv_chan_of(srv, chan) || vmbus__srv_is_due(srv, K_CLOSE, chan.slot))
		return VMBUS_E_STATE;
	return vmbus__srv_fire(srv, chan.slot, EV_CLOSED, NULL) ? 0 : VMBUS_E_STATE;
}

int vmbus_srv_modified(struct vmbus_srv *srv, struct vmbus_srv_ref ref, uint32_t status)
{
	struct srv_chan *const chan = vmbus__srv_chan_of(srv, ref);

	if (!chan || !chan->modifying || vmbus__srv_is_due(srv, K_MODIFY, ref.slot))
		return VMBUS_E_STATE;
	chan->modifying = false;
	if (!status)
		chan->target_vp = chan->modify_vp;
	if (chan->modify_again) {
		chan->modify_again = false;
		(void)vmbus__srv_fire(srv, ref.slot, EV_MODIFY, &chan->modify_next);
		return 0;
	}
	if (vmbus__srv_child_has(chan) && srv->version >= VMBUS_PROTO_5_3) {
		chan->modify_status = status;
		vmbus__srv_due(srv, K_MODIFIED, ref.slot);
	}
	vmbus__srv_settle(srv, ref.slot);
	return 0;
}
