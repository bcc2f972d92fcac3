/* SPDX-License-Identifier: MIT */
/*
 * Messages of the parent's: each is decoded from the caller's private copy, checked against what
 * was asked for, and turned into events.  Nothing here queues a message of ours but the one that
 * follows the agreement on a version, and nothing that the parent says can fill a queue.
 *
 * What was not asked for, comes twice, or names what does not exist, is counted and has no effect.
 */
#include "base/probe.h"
#include "channel/cli_machine.h"

#define CONN_ID_MAX 0xFFFFFFu /* connection ids are 24 bits wide, [CTL-CONNID] */

typedef int handler(struct vmbus_cli *cli, const struct vmbus_ctl *ctl);

static int out_of_order(struct vmbus_cli *cli)
{
	cli->stats.out_of_order++;
	return 0;
}

static int event(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t ev, uint32_t status)
{
	if (vmbus__cli_event(cli, chan, ev, status))
		return out_of_order(cli);
	return 0;
}

/* The channel with a relid of the parent's; counted when there is none. */
static struct vmbus__cli_chan *by_relid(struct vmbus_cli *cli, uint32_t relid)
{
	uint32_t slot = 0;

	if (relid <= VMBUS_RELID_MAX)
		slot = cli->relids[relid];
	if (slot == 0 || slot == VMBUS__CLI_RELEASING) {
		cli->stats.unknown_chan++;
		return NULL;
	}
	return &cli->chans[slot - 1u];
}

static bool live(const struct vmbus__cli_chan *chan)
{
	return chan->state == VMBUS_CLI_CLOSED || chan->state == VMBUS_CLI_OPENING ||
	       chan->state == VMBUS_CLI_OPEN;
}

/*
 * [CTL-OFFER]: among the live channels, an instance is one primary, and a sub-channel's primary of
 * the same class is there before it.
 */
static bool instance_ok(const struct vmbus_cli *cli, const struct vmbus_ctl_offer *offer)
{
	bool primary = offer->sub_index == 0;
	uint32_t i;

	for (i = 0; i < cli->opts.chans_max; i++) {
		const struct vmbus__cli_chan *const c = &cli->chans[i];

		if (!live(c) || !vmbus_guid_equal(&c->offer.instance_id, &offer->instance_id))
			continue;
		if (c->offer.sub_index == offer->sub_index)
			return false;
		if (c->offer.sub_index == 0 &&
		    vmbus_guid_equal(&c->offer.class_id, &offer->class_id))
			primary = true;
	}
	return primary;
}

/* [CTL-TL]: an offer of this service for this endpoint is the answer to a request of ours. */
static void answer_tl(struct vmbus_cli *cli, const struct vmbus_ctl_offer *offer)
{
	uint32_t i;

	if (!(offer->flags & VMBUS_OFFER_TLNPI))
		return;
	for (i = 0; i < VMBUS__CLI_TL_MAX; i++) {
		struct vmbus__cli_tl *const t = &cli->tl[i];

		if (t->ask == VMBUS__ASK_SENT &&
		    vmbus_guid_equal(&t->tl.endpoint_id, &offer->instance_id) &&
		    vmbus_guid_equal(&t->tl.service_id, &offer->class_id))
			t->ask = VMBUS__ASK_NONE;
	}
}

static int on_offer(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_offer *const offer = &ctl->u.offer;
	struct vmbus__cli_chan *chan = NULL;

	if (!cli->offers_asked)
		return out_of_order(cli);
	if (offer->relid > 0 && offer->relid <= VMBUS_RELID_MAX && !cli->relids[offer->relid] &&
	    instance_ok(cli, offer))
		chan = vmbus__cli_chan_take(cli);
	if (!chan) {
		cli->stats.refused_offers++;
		return 0;
	}
	chan->offer = *offer;
	(void)vmbus__cli_event(cli, chan, VMBUS__CLI_EV_OFFER, 0);
	cli->relids[offer->relid] = (uint16_t)(chan - cli->chans + 1);
	answer_tl(cli, offer);
	VMBUS_PROBE5(child_offer, cli, offer->relid, offer->sub_index, &offer->class_id,
		     &offer->instance_id);
	vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_OFFERED);
	return 0;
}

static int on_rescind(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_chan *const chan = by_relid(cli, ctl->u.chan.relid);

	return chan ? event(cli, chan, VMBUS__CLI_EV_RESCIND, 0) : 0;
}

static int on_all_offers(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	if (!cli->offers_asked)
		return out_of_order(cli);
	cli->conn = VMBUS__CONN_READY;
	vmbus__cli_tell(cli, VMBUS__TELL_ALL_OFFERED, 0);
	return 0;
}

static int on_open_result(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_chan *const chan = by_relid(cli, ctl->u.result.relid);
	const uint32_t status = ctl->u.result.status;

	if (!chan)
		return 0;
	if (!chan->open_sent || chan->open_id != ctl->u.result.open_id)
		return out_of_order(cli);
	VMBUS_PROBE3(child_open_result, cli, ctl->u.result.relid, status);
	return event(cli, chan, status ? VMBUS__CLI_EV_OPEN_FAILED : VMBUS__CLI_EV_OPENED, status);
}

static int on_modify_response(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_chan *const chan = by_relid(cli, ctl->u.modify.relid);

	if (!chan)
		return 0;
	if (chan->modify != VMBUS__ASK_SENT)
		return out_of_order(cli);
	return event(cli, chan, VMBUS__CLI_EV_MODIFIED, ctl->u.modify.status);
}

/*
 * [CTL-GPADL]: the answer may come before the last body was posted, from a parent that refuses the
 * header, or that has withdrawn the channel and takes any list.
 */
static int on_created(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_list *const list = vmbus__cli_list_by_id(cli, ctl->u.created.gpadl);
	const uint32_t status = ctl->u.created.status;

	if (list && list->cut && status)
		return 0; /* asked to let go, a parent may answer the creation as well */
	if (!list || list->state != VMBUS__LIST_CREATING || !list->sent ||
	    cli->chans[list->chan].offer.relid != ctl->u.created.relid)
		return out_of_order(cli);
	list->state = status ? VMBUS__LIST_DEAD : VMBUS__LIST_READY;
	vmbus__cli_tell_list(cli, list, VMBUS__LIST_TELL_READY, status);
	return 0;
}

static int on_torndown(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_list *const list = vmbus__cli_list_by_id(cli, ctl->u.created.gpadl);

	if (!list || list->state != VMBUS__LIST_TEARING || !list->sent)
		return out_of_order(cli);
	list->state = VMBUS__LIST_DEAD;
	vmbus__cli_tell_list(cli, list, VMBUS__LIST_TELL_GONE, 0);
	return 0;
}

/* An answer to a contact that was given up, and that may be posted still.  False: there is none. */
static bool answers_given_up(struct vmbus_cli *cli)
{
	if (cli->unanswered)
		cli->unanswered--;
	else if (cli->posting_stale == VMBUS__STALE_CONTACT)
		cli->posting_stale = VMBUS__STALE;
	else
		return false;
	return true;
}

/*
 * An answer to a contact that was given up.  It names no version, so it can be told from that to the
 * present one only as long as this has not been posted.
 */
static bool answers_another(struct vmbus_cli *cli)
{
	return !(cli->asked && !cli->posting) && answers_given_up(cli);
}

/* [CTL-CONTACT]; features that nobody asked for do not count. */
static int on_version(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_version *const v = &ctl->u.version;
	const struct vmbus_ctl ask = { .type = VMBUS_CTL_REQUEST_OFFERS };
	const uint32_t version = vmbus__cli_versions[cli->version_at];
	const bool names_conn = version >= VMBUS_PROTO_5_0;

	if (answers_another(cli) || !cli->asked)
		return out_of_order(cli);
	if (!v->supported) {
		vmbus__cli_next_version(cli, VMBUS_STATUS_REFUSED);
		return 0;
	}
	if (names_conn && (v->conn_id == 0 || v->conn_id > CONN_ID_MAX)) {
		vmbus__cli_refused(cli, VMBUS_STATUS_FAILED);
		return VMBUS_E_PEER;
	}
	if (v->state) { /* the parent has failed, and says that it is not connected */
		vmbus__cli_refused(cli, VMBUS_STATUS_FAILED);
		return 0;
	}
	cli->version = version;
	cli->features = version >= VMBUS_PROTO_6_0 ? v->features & cli->opts.features : 0;
	cli->server_p2c = cli->features & VMBUS_FEATURE_SERVER_MONITOR ? v->monitor_p2c : 0;
	cli->server_c2p = cli->features & VMBUS_FEATURE_SERVER_MONITOR ? v->monitor_c2p : 0;
	cli->conn_id = names_conn ? v->conn_id : VMBUS_CONN_MESSAGE;
	cli->conn = VMBUS__CONN_OFFERS;
	cli->asked = 0;
	cli->offers_asked = 0;
	vmbus__cli_tell(cli, VMBUS__TELL_CONNECTED, 0);
	return vmbus__cli_push(cli, VMBUS__POST_REQUEST_OFFERS, 0, 0, &ask);
}

static int on_unloaded(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	if (!cli->asked)
		return out_of_order(cli);
	vmbus__cli_end(cli);
	vmbus__cli_tell(cli, VMBUS__TELL_UNLOADED, 0);
	return 0;
}

static int on_tl_result(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_tl *const tl = &ctl->u.tl;
	uint32_t i;

	for (i = 0; i < VMBUS__CLI_TL_MAX; i++) {
		struct vmbus__cli_tl *const t = &cli->tl[i];

		if (t->ask != VMBUS__ASK_SENT ||
		    !vmbus_guid_equal(&t->tl.endpoint_id, &tl->endpoint_id) ||
		    !vmbus_guid_equal(&t->tl.service_id, &tl->service_id))
			continue;
		/* Only refusals are told this way: a status of 0 makes no channel. */
		vmbus__cli_tell_tl(cli, t, tl->status ? tl->status : VMBUS_STATUS_FAILED);
		return 0;
	}
	return out_of_order(cli);
}

static int on_connection_modified(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	if (cli->modifying != VMBUS__ASK_SENT)
		return out_of_order(cli);
	cli->modifying = VMBUS__ASK_NONE;
	vmbus__cli_tell(cli, VMBUS__TELL_CONNECTION_MODIFIED,
			ctl->u.connection.state ? VMBUS_STATUS_FAILED : 0);
	return 0;
}

static int on_paused(struct vmbus_cli *cli, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	if (!cli->asked)
		return out_of_order(cli);
	cli->conn = VMBUS__CONN_PAUSED;
	cli->asked = 0;
	vmbus__cli_tell(cli, VMBUS__TELL_PAUSED, 0);
	return 0;
}

#define IN(state) (1u << VMBUS__CONN_##state)
#define IN_TALK (IN(OFFERS) | IN(READY) | IN(PAUSING) | IN(PAUSED))

/*
 * In which states of the connection a message has a meaning.  Everywhere else it is out of order,
 * but for what may cross an UNLOAD on its way, which is passed over.
 */
static const struct {
	handler *handle;
	uint32_t states;
	uint32_t crossing;
} messages[VMBUS_CTL_TYPES] = {
	[VMBUS_CTL_OFFER] = { on_offer, IN_TALK, IN(LEAVING) },
	[VMBUS_CTL_RESCIND] = { on_rescind, IN_TALK | IN(LEAVING), 0 },
	[VMBUS_CTL_ALL_OFFERS] = { on_all_offers, IN(OFFERS), IN(LEAVING) },
	[VMBUS_CTL_OPEN_RESULT] = { on_open_result, IN_TALK, 0 },
	[VMBUS_CTL_GPADL_CREATED] = { on_created, IN_TALK, 0 },
	[VMBUS_CTL_GPADL_TORNDOWN] = { on_torndown, IN_TALK, 0 },
	[VMBUS_CTL_VERSION_RESPONSE] = { on_version, IN(CONTACT), 0 },
	[VMBUS_CTL_UNLOAD_RESPONSE] = { on_unloaded, IN(LEAVING), 0 },
	[VMBUS_CTL_TL_RESULT] = { on_tl_result, IN_TALK | IN(LEAVING), 0 },
	[VMBUS_CTL_MODIFY_RESPONSE] = { on_modify_response, IN_TALK | IN(LEAVING), 0 },
	[VMBUS_CTL_MODIFY_CONNECTION_RESPONSE] = { on_connection_modified, IN_TALK | IN(LEAVING),
						   0 },
	[VMBUS_CTL_PAUSE_RESPONSE] = { on_paused, IN(PAUSING), 0 },
};

uint32_t vmbus__cli_message_in(uint32_t conn, uint32_t type)
{
	if (messages[type].states & 1u << conn)
		return VMBUS__MESSAGE_TAKEN;
	return messages[type].crossing & 1u << conn ? VMBUS__MESSAGE_PASSED
						    : VMBUS__MESSAGE_REFUSED;
}

int vmbus_cli_message(struct vmbus_cli *cli, const void *bytes, size_t len)
{
	struct vmbus_ctl ctl;

	if (!bytes)
		return VMBUS_E_INVAL;
	cli->stats.messages++;
	if (len > VMBUS_CTL_BYTES_MAX)
		len = VMBUS_CTL_BYTES_MAX;
	if (vmbus_ctl_decode(bytes, len, cli->version, cli->features, &ctl) < 0) {
		cli->stats.malformed++;
		return 0;
	}
	switch (vmbus__cli_message_in(cli->conn, ctl.type)) {
	case VMBUS__MESSAGE_TAKEN:
		return messages[ctl.type].handle(cli, &ctl);
	case VMBUS__MESSAGE_PASSED:
		return 0;
	default:
		if (ctl.type == VMBUS_CTL_VERSION_RESPONSE)
			(void)answers_given_up(cli);
		return out_of_order(cli);
	}
}
