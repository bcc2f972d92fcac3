/* SPDX-License-Identifier: MIT */
/*
 * The client machine: its storage, and the life of the connection from the first contact to the
 * end.  Whatever ends a connection goes through vmbus__cli_end(), which answers everything that was
 * asked for.
 */
#include "channel/cli_machine.h"

#define ALIGN 16u
#define PAGE_MASK ((uint64_t)VMBUS_PAGE_BYTES - 1u)
#define SINTS 16u

/* What may be asked for: confidential channels and pinning are not offered by this library. */
#define FEATURES                                                                                   \
	(VMBUS_FEATURE_SIGNAL_PARAMS | VMBUS_FEATURE_REDIRECT | VMBUS_FEATURE_MODIFY_CONNECTION |  \
	 VMBUS_FEATURE_CLIENT_ID | VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_SERVER_MONITOR)

/* [CTL-VERSION], in the order in which they are tried. */
const uint32_t vmbus__cli_versions[] = {
	VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_5_2, VMBUS_PROTO_5_1, VMBUS_PROTO_5_0,
	VMBUS_PROTO_4_1, VMBUS_PROTO_4_0, VMBUS_PROTO_3_0, VMBUS_PROTO_2_4,
};
#define VERSIONS ((uint32_t)(sizeof(vmbus__cli_versions) / sizeof(vmbus__cli_versions[0])))

/* Its place in the list; VERSIONS when it is not there. */
static uint32_t version_place(uint32_t version)
{
	uint32_t i = 0;

	while (i < VERSIONS && vmbus__cli_versions[i] != version)
		i++;
	return i;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static bool monitors_ok(uint64_t p2c, uint64_t c2p)
{
	return !p2c == !c2p && !(p2c & PAGE_MASK) && !(c2p & PAGE_MASK);
}

/* Options with the defaults filled in.  0, INVAL or RANGE. */
static int settle(const struct vmbus_cli_opts *in, struct vmbus_cli_opts *o)
{
	uint32_t gpadls;

	if (!in || in->struct_bytes < sizeof(*in))
		return VMBUS_E_INVAL;
	*o = *in;
	o->chans_max = or_default(o->chans_max, VMBUS_RELID_MAX);
	gpadls = o->chans_max <= VMBUS_RELID_MAX ? o->chans_max * 2u + 64u : 0;
	o->gpadls_max = or_default(o->gpadls_max, gpadls);
	o->queue_max = or_default(o->queue_max, 64);
	o->version_max = or_default(o->version_max, VMBUS_PROTO_5_3);
	o->version_min = or_default(o->version_min, VMBUS_PROTO_2_4);
	o->target_sint = or_default(o->target_sint, VMBUS_SINT_MESSAGE);
	if (o->chans_max > VMBUS_RELID_MAX || o->gpadls_max > VMBUS__CLI_GPADLS_MAX ||
	    o->queue_max < VMBUS__CLI_QUEUE_MIN || o->queue_max > VMBUS__CLI_QUEUE_MAX ||
	    o->target_sint >= SINTS || o->target_vp == VMBUS_VP_NONE)
		return VMBUS_E_RANGE;
	if (version_place(o->version_max) == VERSIONS ||
	    version_place(o->version_min) == VERSIONS || o->version_min > o->version_max ||
	    o->features & ~FEATURES || !monitors_ok(o->monitor_p2c, o->monitor_c2p))
		return VMBUS_E_INVAL;
	return 0;
}

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1u) / ALIGN * ALIGN;
}

size_t vmbus_cli_bytes(const struct vmbus_cli_opts *opts)
{
	struct vmbus_cli_opts o;

	if (settle(opts, &o))
		return 0;
	return aligned(sizeof(struct vmbus_cli)) +
	       aligned(o.chans_max * sizeof(struct vmbus__cli_chan)) +
	       aligned(o.gpadls_max * sizeof(struct vmbus__cli_list)) +
	       aligned(o.queue_max * sizeof(struct vmbus__cli_entry));
}

static void chain_slots(struct vmbus_cli *cli)
{
	const uint32_t chans = cli->opts.chans_max, lists = cli->opts.gpadls_max;
	uint32_t i;

	while (1u << cli->id_shift < lists)
		cli->id_shift++;
	for (i = 0; i < chans; i++) {
		cli->chans[i].gen = 1;
		cli->chans[i].free_next = i + 1u < chans ? i + 1u : VMBUS__CLI_NONE;
	}
	for (i = 0; i < lists; i++) {
		cli->lists[i].id = 1u << cli->id_shift | i;
		cli->lists[i].free_next = i + 1u < lists ? i + 1u : VMBUS__CLI_NONE;
	}
	cli->chan_free_last = chans - 1u;
	cli->list_free_last = lists - 1u;
}

int vmbus_cli_init(void *storage, size_t bytes, const struct vmbus_cli_opts *opts,
		   struct vmbus_cli **out)
{
	struct vmbus_cli *const cli = storage;
	uint8_t *at = storage;
	struct vmbus_cli_opts o;
	int err = settle(opts, &o);

	if (err)
		return err;
	if (!storage || (uintptr_t)storage % ALIGN || !out)
		return VMBUS_E_INVAL;
	if (bytes < vmbus_cli_bytes(&o))
		return VMBUS_E_RANGE;
	__builtin_memset(storage, 0, vmbus_cli_bytes(&o));
	at += aligned(sizeof(*cli));
	cli->chans = (struct vmbus__cli_chan *)(void *)at;
	at += aligned(o.chans_max * sizeof(*cli->chans));
	cli->lists = (struct vmbus__cli_list *)(void *)at;
	at += aligned(o.gpadls_max * sizeof(*cli->lists));
	cli->queue = (struct vmbus__cli_entry *)(void *)at;
	cli->opts = o;
	cli->tell_first = VMBUS__CLI_NONE;
	chain_slots(cli);
	*out = cli;
	return 0;
}

/* [CTL-CONTACT]: from 5.0 on at a connection of its own. */
void vmbus__cli_contact(struct vmbus_cli *cli)
{
	const uint32_t version = vmbus__cli_versions[cli->version_at];
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	struct vmbus_ctl_contact *const c = &ctl.u.contact;

	c->version = version;
	c->target_vp = cli->opts.target_vp;
	c->target_sint = (uint8_t)cli->opts.target_sint;
	c->monitor_p2c = cli->opts.monitor_p2c;
	c->monitor_c2p = cli->opts.monitor_c2p;
	if (version >= VMBUS_PROTO_6_0) {
		c->features = cli->opts.features;
		c->has_client_id = (c->features & VMBUS_FEATURE_CLIENT_ID) != 0;
		c->client_id = cli->opts.client_id;
	}
	cli->conn_id = version >= VMBUS_PROTO_5_0 ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE;
	cli->asked = 0;
	(void)vmbus__cli_push(cli, VMBUS__POST_CONTACT, 0, cli->version_at, &ctl);
}

void vmbus__cli_refused(struct vmbus_cli *cli, uint32_t status)
{
	cli->conn = VMBUS__CONN_IDLE;
	vmbus__cli_queue_clear(cli);
	vmbus__cli_tell(cli, VMBUS__TELL_REFUSED, status);
}

void vmbus__cli_next_version(struct vmbus_cli *cli, uint32_t status)
{
	const uint32_t last = version_place(cli->opts.version_min);

	if (cli->version_at >= last) {
		vmbus__cli_refused(cli, status);
		return;
	}
	cli->version_at++;
	vmbus__cli_contact(cli);
}

int vmbus_cli_connect(struct vmbus_cli *cli)
{
	uint32_t i;

	if (cli->conn != VMBUS__CONN_IDLE)
		return VMBUS_E_STATE;
	for (i = 0; i < VMBUS__TELL_COUNT; i++)
		if (cli->tell[i].events)
			return VMBUS_E_AGAIN;
	cli->conn = VMBUS__CONN_CONTACT;
	cli->version_at = version_place(cli->opts.version_max);
	vmbus__cli_contact(cli);
	return 0;
}

static bool all_closed(const struct vmbus_cli *cli)
{
	uint32_t i;

	for (i = 0; i < cli->opts.chans_max; i++) {
		const uint32_t state = cli->chans[i].state;

		if (!cli->chans[i].orphan &&
		    (state == VMBUS_CLI_OPENING || state == VMBUS_CLI_OPEN ||
		     state == VMBUS_CLI_RESCINDED_OPEN))
			return false;
	}
	return cli->lists_used == 0;
}

int vmbus_cli_unload(struct vmbus_cli *cli)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };
	int err;

	if ((cli->conn != VMBUS__CONN_OFFERS && cli->conn != VMBUS__CONN_READY &&
	     cli->conn != VMBUS__CONN_PAUSED) ||
	    !all_closed(cli))
		return VMBUS_E_STATE;
	err = vmbus__cli_push(cli, VMBUS__POST_UNLOAD, 0, 0, &ctl);
	if (err)
		return err;
	cli->conn = VMBUS__CONN_LEAVING;
	cli->asked = 0;
	return 0;
}

/* A page list when the connection ends: what the parent may have seen of it, it may still use. */
static void end_list(struct vmbus_cli *cli, struct vmbus__cli_list *list)
{
	const bool unseen = list->state == VMBUS__LIST_CREATING && !list->sent;

	if (list->state == VMBUS__LIST_FREE || list->state == VMBUS__LIST_DEAD)
		return;
	list->state = VMBUS__LIST_DEAD;
	/* One whose READY was not taken yet is told as ready first, and then as lost. */
	vmbus__cli_tell_list(cli, list, unseen ? VMBUS__LIST_TELL_READY : VMBUS__LIST_TELL_LOST,
			     list->node.events ? 0 : VMBUS_STATUS_FAILED);
}

void vmbus__cli_end(struct vmbus_cli *cli)
{
	const uint32_t conn = cli->conn;
	uint32_t i;

	vmbus__cli_queue_clear(cli);
	for (i = 0; i < cli->opts.gpadls_max; i++)
		end_list(cli, &cli->lists[i]);
	for (i = 0; i < cli->opts.chans_max; i++)
		if (cli->chans[i].state != VMBUS_CLI_FREE && !cli->chans[i].orphan)
			(void)vmbus__cli_event(cli, &cli->chans[i], VMBUS__CLI_EV_LOST, 0);
	for (i = 0; i < VMBUS__CLI_TL_MAX; i++)
		if (cli->tl[i].ask != VMBUS__ASK_NONE)
			vmbus__cli_tell_tl(cli, &cli->tl[i], VMBUS_STATUS_REFUSED);
	__builtin_memset(cli->relids, 0, sizeof(cli->relids));
	if (conn == VMBUS__CONN_PAUSING)
		vmbus__cli_tell(cli, VMBUS__TELL_PAUSED, VMBUS_STATUS_FAILED);
	if (cli->modifying != VMBUS__ASK_NONE)
		vmbus__cli_tell(cli, VMBUS__TELL_CONNECTION_MODIFIED, VMBUS_STATUS_FAILED);
	cli->modifying = VMBUS__ASK_NONE;
	cli->conn = VMBUS__CONN_IDLE;
	cli->version = 0;
	cli->features = 0;
	cli->server_p2c = 0;
	cli->server_c2p = 0;
}

void vmbus__cli_unanswered(struct vmbus_cli *cli)
{
	if (cli->unanswered < UINT8_MAX)
		cli->unanswered++;
}

void vmbus_cli_disconnect(struct vmbus_cli *cli)
{
	const uint32_t conn = cli->conn;
	const bool contact = conn == VMBUS__CONN_CONTACT && cli->asked;

	if (conn == VMBUS__CONN_IDLE)
		return;
	if (contact && !cli->posting)
		vmbus__cli_unanswered(cli);
	vmbus__cli_end(cli);
	if (contact && cli->posting) /* counted when it was posted */
		cli->posting_stale = VMBUS__STALE_CONTACT;
	if (conn == VMBUS__CONN_CONTACT)
		vmbus__cli_tell(cli, VMBUS__TELL_REFUSED, VMBUS_STATUS_FAILED);
	if (conn == VMBUS__CONN_LEAVING)
		vmbus__cli_tell(cli, VMBUS__TELL_UNLOADED, VMBUS_STATUS_FAILED);
}

int vmbus_cli_pause(struct vmbus_cli *cli)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_PAUSE };
	int err;

	if (cli->conn != VMBUS__CONN_READY)
		return VMBUS_E_STATE;
	if (!(cli->features & VMBUS_FEATURE_PAUSE))
		return VMBUS_E_NOTSUP;
	if (cli->tell[VMBUS__TELL_PAUSED].events)
		return VMBUS_E_AGAIN;
	err = vmbus__cli_push(cli, VMBUS__POST_PAUSE, 0, 0, &ctl);
	if (err)
		return err;
	cli->conn = VMBUS__CONN_PAUSING;
	cli->asked = 0;
	return 0;
}

int vmbus_cli_resume(struct vmbus_cli *cli)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_RESUME };
	int err;

	if (cli->conn != VMBUS__CONN_PAUSED)
		return VMBUS_E_STATE;
	err = vmbus__cli_push(cli, VMBUS__POST_RESUME, 0, 0, &ctl);
	if (err)
		return err;
	cli->conn = VMBUS__CONN_READY;
	return 0;
}

int vmbus_cli_modify_connection(struct vmbus_cli *cli, uint64_t monitor_p2c, uint64_t monitor_c2p)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY_CONNECTION };
	int err;

	if (cli->conn != VMBUS__CONN_OFFERS && cli->conn != VMBUS__CONN_READY)
		return VMBUS_E_STATE;
	if (!monitors_ok(monitor_p2c, monitor_c2p))
		return VMBUS_E_INVAL;
	if (!(cli->features & VMBUS_FEATURE_MODIFY_CONNECTION))
		return VMBUS_E_NOTSUP;
	if (cli->modifying != VMBUS__ASK_NONE || cli->tell[VMBUS__TELL_CONNECTION_MODIFIED].events)
		return VMBUS_E_AGAIN;
	ctl.u.connection.monitor_p2c = monitor_p2c;
	ctl.u.connection.monitor_c2p = monitor_c2p;
	err = vmbus__cli_push(cli, VMBUS__POST_MODIFY_CONNECTION, 0, 0, &ctl);
	if (err)
		return err;
	cli->modifying = VMBUS__ASK_QUEUED;
	return 0;
}

int vmbus_cli_info(const struct vmbus_cli *cli, uint32_t slot, struct vmbus_cli_info *info)
{
	const struct vmbus__cli_chan *chan;

	if (slot >= cli->opts.chans_max)
		return VMBUS_E_RANGE;
	chan = &cli->chans[slot];
	if (chan->state == VMBUS_CLI_FREE)
		return 0;
	info->chan = vmbus__cli_chan_ref(cli, slot);
	info->state = chan->state;
	info->gpadls = chan->gpadls;
	info->offer = chan->offer;
	return 1;
}

void vmbus_cli_stats(const struct vmbus_cli *cli, struct vmbus_cli_stats *stats)
{
	*stats = cli->stats;
}

uint32_t vmbus_cli_version(const struct vmbus_cli *cli)
{
	return cli->version;
}

uint32_t vmbus_cli_gpadl_id(const struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	if (ref.slot >= cli->opts.gpadls_max || cli->lists[ref.slot].state == VMBUS__LIST_FREE ||
	    cli->lists[ref.slot].id != ref.gen)
		return 0;
	return ref.gen;
}
