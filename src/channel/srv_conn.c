/* SPDX-License-Identifier: MIT */
/*
 * The connection: its table, contact and version, the request for offers, pause, unload, and the
 * monitor pages of MODIFY_CONNECTION.
 *
 * Keeps: VERSION_RESPONSE is the first message after a contact and UNLOAD_RESPONSE the last one of
 * a connection; both go out only when every device has let go; of several contacts in a row the
 * newest is answered.  Knows nothing of what channels do with an event.
 */
#include "channel/srv.h"

#define FEATURES_WE_HAVE                                                                           \
	(VMBUS_FEATURE_SIGNAL_PARAMS | VMBUS_FEATURE_REDIRECT | VMBUS_FEATURE_MODIFY_CONNECTION |  \
	 VMBUS_FEATURE_CLIENT_ID | VMBUS_FEATURE_PAUSE)
#define SINTS 16u
#define CONNECTION_OK 0u
#define CONNECTION_FAILED 2u /* unknown failure, [CTL-CONTACT] */

static srv_conn_fn act_contact, act_recontact, act_newer, act_offers, act_all_again, act_channel,
	act_reserved, act_pause, act_resume, act_unload, act_unload_instead, act_reset, act_drop,
	act_none, act_unloaded, act_connect, act_quiet;

/* clang-format off */
/* A cell left out refuses the event. */
static const struct srv_conn_cell table[CONN_STATES][CV_COUNT] = {
	[CONN_OFF] = {
		[CV_CONTACT]	    = { CONN_OFF,	   "VERSION_RESPONSE, on if it suits", act_contact },
		[CV_CLOSE_RESERVED] = { CONN_OFF,	   "reserved",		act_reserved },
		[CV_RESET]	    = { CONN_OFF,	   "",			act_drop },
	},
	[CONN_ON] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "child gone",	act_recontact },
		[CV_REQUEST_OFFERS] = { CONN_READY,	   "OFFERs, ALL_OFFERS", act_offers },
		[CV_CHANNEL]	    = { CONN_ON,	   "channel",		act_channel },
		[CV_CLOSE_RESERVED] = { CONN_ON,	   "reserved",		act_reserved },
		[CV_PAUSE]	    = { CONN_ON_PAUSED,	   "PAUSE_RESPONSE",	act_pause },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "child gone",	act_unload },
		[CV_RESET]	    = { CONN_RESETTING,	   "child gone",	act_reset },
	},
	[CONN_ON_PAUSED] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "child gone",	act_recontact },
		[CV_RESUME]	    = { CONN_ON,	   "send what is held",	act_resume },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "child gone",	act_unload },
		[CV_RESET]	    = { CONN_RESETTING,	   "child gone",	act_reset },
	},
	[CONN_READY] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "child gone",	act_recontact },
		[CV_REQUEST_OFFERS] = { CONN_READY,	   "ALL_OFFERS",	act_all_again },
		[CV_CHANNEL]	    = { CONN_READY,	   "channel",		act_channel },
		[CV_CLOSE_RESERVED] = { CONN_READY,	   "reserved",		act_reserved },
		[CV_PAUSE]	    = { CONN_READY_PAUSED, "PAUSE_RESPONSE",	act_pause },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "child gone",	act_unload },
		[CV_RESET]	    = { CONN_RESETTING,	   "child gone",	act_reset },
	},
	[CONN_READY_PAUSED] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "child gone",	act_recontact },
		[CV_RESUME]	    = { CONN_READY,	   "send what is held",	act_resume },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "child gone",	act_unload },
		[CV_RESET]	    = { CONN_RESETTING,	   "child gone",	act_reset },
	},
	[CONN_UNLOADING] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "",			act_newer },
		[CV_CLOSE_RESERVED] = { CONN_UNLOADING,	   "reserved",		act_reserved },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "",			act_none },
		[CV_RESET]	    = { CONN_RESETTING,	   "",			act_drop },
		[CV_EMPTY]	    = { CONN_OFF,	   "UNLOAD_RESPONSE",	act_unloaded },
	},
	[CONN_RECONNECTING] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "",			act_newer },
		[CV_CLOSE_RESERVED] = { CONN_RECONNECTING, "reserved",		act_reserved },
		[CV_UNLOAD]	    = { CONN_UNLOADING,	   "",			act_unload_instead },
		[CV_RESET]	    = { CONN_RESETTING,	   "",			act_drop },
		[CV_EMPTY]	    = { CONN_OFF,	   "VERSION_RESPONSE, on if it suits", act_connect },
	},
	[CONN_RESETTING] = {
		[CV_CONTACT]	    = { CONN_RECONNECTING, "",			act_newer },
		[CV_CLOSE_RESERVED] = { CONN_RESETTING,	   "reserved",		act_reserved },
		[CV_RESET]	    = { CONN_RESETTING,	   "",			act_drop },
		[CV_EMPTY]	    = { CONN_OFF,	   "",			act_quiet },
	},
};

static const char *const state_names[CONN_STATES] = {
	"off", "on", "on, paused", "ready", "ready, paused", "unloading", "reconnecting", "resetting",
};

static const char *const event_names[CV_COUNT] = {
	"CONTACT", "REQUEST_OFFERS", "channel message", "CLOSE_RESERVED", "PAUSE", "RESUME", "UNLOAD",
	"disconnect", "all let go",
};

/* Which event a message is; what the parent alone may send is none. */
static const uint8_t events[VMBUS_CTL_TYPES] = {
	[0] = CV_NONE,
	[VMBUS_CTL_OFFER] = CV_NONE,
	[VMBUS_CTL_RESCIND] = CV_NONE,
	[VMBUS_CTL_REQUEST_OFFERS] = CV_REQUEST_OFFERS,
	[VMBUS_CTL_ALL_OFFERS] = CV_NONE,
	[VMBUS_CTL_OPEN] = CV_CHANNEL,
	[VMBUS_CTL_OPEN_RESULT] = CV_NONE,
	[VMBUS_CTL_CLOSE] = CV_CHANNEL,
	[VMBUS_CTL_GPADL_HEADER] = CV_CHANNEL,
	[VMBUS_CTL_GPADL_BODY] = CV_CHANNEL,
	[VMBUS_CTL_GPADL_CREATED] = CV_NONE,
	[VMBUS_CTL_GPADL_TEARDOWN] = CV_CHANNEL,
	[VMBUS_CTL_GPADL_TORNDOWN] = CV_NONE,
	[VMBUS_CTL_RELID_RELEASED] = CV_CHANNEL,
	[VMBUS_CTL_CONTACT] = CV_CONTACT,
	[VMBUS_CTL_VERSION_RESPONSE] = CV_NONE,
	[VMBUS_CTL_UNLOAD] = CV_UNLOAD,
	[VMBUS_CTL_UNLOAD_RESPONSE] = CV_NONE,
	[VMBUS_CTL_OPEN_RESERVED] = CV_CHANNEL,
	[VMBUS_CTL_CLOSE_RESERVED] = CV_CLOSE_RESERVED,
	[VMBUS_CTL_CLOSE_RESERVED_RESPONSE] = CV_NONE,
	[VMBUS_CTL_TL_CONNECT] = CV_CHANNEL,
	[VMBUS_CTL_MODIFY] = CV_CHANNEL,
	[VMBUS_CTL_TL_RESULT] = CV_NONE,
	[VMBUS_CTL_MODIFY_RESPONSE] = CV_NONE,
	[VMBUS_CTL_MODIFY_CONNECTION] = CV_CHANNEL,
	[VMBUS_CTL_MODIFY_CONNECTION_RESPONSE] = CV_NONE,
	[VMBUS_CTL_PAUSE] = CV_PAUSE,
	[VMBUS_CTL_PAUSE_RESPONSE] = CV_NONE,
	[VMBUS_CTL_RESUME] = CV_RESUME,
};
/* clang-format on */

/* [CTL-VERSION]; older ones are not had. */
static const uint32_t versions[] = {
	VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0, VMBUS_PROTO_4_1, VMBUS_PROTO_5_0,
	VMBUS_PROTO_5_1, VMBUS_PROTO_5_2, VMBUS_PROTO_5_3, VMBUS_PROTO_6_0,
};

const struct srv_conn_cell *vmbus__srv_conn_cell(uint32_t state, uint32_t event)
{
	return &table[state][event];
}

const char *vmbus__srv_conn_state_name(uint32_t state)
{
	return state_names[state];
}

const char *vmbus__srv_conn_event_name(uint32_t event)
{
	return event_names[event];
}

bool vmbus__srv_conn_version_is_known(uint32_t version)
{
	uint32_t i;

	for (i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
		if (versions[i] == version)
			return true;
	return false;
}

bool vmbus__srv_conn_features_are_had(uint32_t features)
{
	return (features & ~FEATURES_WE_HAVE) == 0;
}

bool vmbus__srv_conn_is_ready(const struct vmbus_srv *srv)
{
	return srv->conn == CONN_READY || srv->conn == CONN_READY_PAUSED;
}

static void fire(struct vmbus_srv *srv, uint32_t event, const struct vmbus_ctl *ctl)
{
	const struct srv_conn_cell *const cell = &table[srv->conn][event];

	srv->conn = cell->next;
	cell->act(srv, ctl);
}

/* Everything let go: also the question about monitor pages. */
void vmbus__srv_conn_check_empty(struct vmbus_srv *srv)
{
	if (srv->away == 0 && !srv->modifying && !srv->dropping && table[srv->conn][CV_EMPTY].act)
		fire(srv, CV_EMPTY, NULL);
}

/* Take back all that is due to the child; whether that was the last is looked at afterwards. */
static void drop_messages(struct vmbus_srv *srv)
{
	srv->dropping = true;
	vmbus__srv_drop_messages(srv);
	srv->dropping = false;
}

static void refuse(struct vmbus_srv *srv, uint64_t *counter, uint32_t type, const char *what)
{
	const struct vmbus_srv_refusal why = { .what = what, .ctl_type = type };

	vmbus__srv_refuse(srv, counter, &why);
}

static void act_none(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)srv;
	(void)ctl;
}

/* Where the answer to a contact goes, [CTL-CONTACT] [CTL-SINT]. */
static void aim(struct vmbus_srv *srv, const struct vmbus_ctl_contact *c)
{
	const bool own_sint = srv->contact_conn == VMBUS_CONN_CONTACT &&
			      c->version >= VMBUS_PROTO_5_0 && c->target_sint < SINTS;

	srv->vp = c->version >= VMBUS_PROTO_3_0 ? c->target_vp : 0;
	srv->sint = own_sint ? c->target_sint : VMBUS_SINT_MESSAGE;
}

/* What a contact asks for and does not get; NULL when it suits. */
static const char *contact_breaks(const struct vmbus_srv *srv, const struct vmbus_ctl_contact *c)
{
	if (c->version > srv->opts.version_max || !vmbus__srv_conn_version_is_known(c->version))
		return "contact: no such version, or above version_max";
	if (srv->contact_conn == VMBUS_CONN_CONTACT && c->version >= VMBUS_PROTO_5_0) {
		if (c->target_sint != VMBUS_SINT_MESSAGE)
			return "contact: messages go to SINT 2 only";
		if (c->target_vtl != 0)
			return "contact: there is no VTL but 0";
	}
	if (!c->monitor_p2c != !c->monitor_c2p)
		return "contact: monitor pages come in pairs";
	return NULL;
}

static void answer_contact(struct vmbus_srv *srv)
{
	const struct vmbus_ctl_contact *const c = &srv->contact;
	const char *const broken = contact_breaks(srv, c);
	const struct vmbus_srv_refusal why = { .what = broken,
					       .ctl_type = VMBUS_CTL_CONTACT,
					       .value = c->version,
					       .limit = srv->opts.version_max };

	aim(srv, c);
	srv->supported = !broken;
	srv->wire_version = c->version;
	srv->features = 0;
	if (broken) {
		vmbus__srv_refuse(srv, &srv->stats.out_of_order, &why);
		vmbus__srv_due(srv, K_VERSION, 0);
		return;
	}
	srv->version = c->version;
	if (c->version >= VMBUS_PROTO_6_0)
		srv->features = c->features & srv->opts.features;
	if (!c->has_client_id)
		srv->features &= ~VMBUS_FEATURE_CLIENT_ID;
	srv->monitor_p2c = c->monitor_p2c;
	srv->monitor_c2p = c->monitor_c2p;
	srv->conn = CONN_ON;
	vmbus__srv_due(srv, K_CONNECTED, 0);
	vmbus__srv_due(srv, K_VERSION, 0);
}

static void take_contact(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	srv->contact = ctl->u.contact;
	srv->contact_conn = srv->post_conn;
}

static void act_contact(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	take_contact(srv, ctl);
	/* Answers to an earlier contact or unload that nobody took. */
	drop_messages(srv);
	answer_contact(srv);
}

/* The child lets go of everything: what is due to it is dropped, devices are told. */
static void leave(struct vmbus_srv *srv)
{
	drop_messages(srv);
	srv->dropping = true;
	srv->hold = false;
	if (vmbus__srv_is_due(srv, K_CONN_MODIFY, 0)) {
		vmbus__srv_undo(srv, K_CONN_MODIFY, 0);
		srv->modifying = false;
	}
	vmbus__srv_tl_drop_all(srv);
	vmbus__srv_child_gone(srv);
	srv->dropping = false;
	vmbus__srv_conn_check_empty(srv);
}

static void act_recontact(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	srv->stats.resets++;
	take_contact(srv, ctl);
	leave(srv);
}

static void act_newer(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	srv->stats.resets++;
	take_contact(srv, ctl);
	drop_messages(srv);
	vmbus__srv_conn_check_empty(srv);
}

static void act_unload(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	leave(srv);
}

/* A contact that was not answered yet, and then an unload: the unload is answered. */
static void act_unload_instead(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	aim(srv, &srv->contact);
}

static void act_reset(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	leave(srv);
}

static void act_drop(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	drop_messages(srv);
	vmbus__srv_conn_check_empty(srv);
}

/* The old connection is over. */
static void act_quiet(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	srv->version = 0;
	srv->monitor_p2c = 0;
	srv->monitor_c2p = 0;
	if (vmbus__srv_is_due(srv, K_CONNECTED, 0))
		vmbus__srv_undo(srv, K_CONNECTED, 0);
	else if (!vmbus__srv_is_due(srv, K_DISCONNECTED, 0))
		vmbus__srv_due(srv, K_DISCONNECTED, 0);
}

static void act_unloaded(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	act_quiet(srv, ctl);
	vmbus__srv_due(srv, K_UNLOADED, 0);
}

static void act_connect(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	act_quiet(srv, ctl);
	answer_contact(srv);
}

static void act_offers(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	vmbus__srv_offer_all(srv);
	vmbus__srv_due(srv, K_ALL_OFFERS, 0);
}

/* Asked for again: all offers have been made, and the child may wait for the answer. */
static void act_all_again(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	refuse(srv, &srv->stats.out_of_order, ctl->type, "request offers: asked for already");
	vmbus__srv_due(srv, K_ALL_OFFERS, 0);
}

static void act_pause(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	vmbus__srv_due(srv, K_PAUSED, 0);
}

static void act_resume(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	(void)ctl;
	srv->hold = false;
}

static void act_reserved(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	vmbus__srv_close_reserved(srv, ctl);
}

/* New monitor pages, [CTL-MODIFY-CONNECTION]. */
static void on_modify_connection(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const bool odd = !ctl->u.connection.monitor_p2c != !ctl->u.connection.monitor_c2p;
	const struct srv_entry entry = { .type = VMBUS_CTL_MODIFY_CONNECTION_RESPONSE,
					 .vp = srv->vp,
					 .sint = srv->sint,
					 .status = CONNECTION_FAILED };

	if (!odd && !srv->modifying) {
		srv->modifying = true;
		srv->modify_p2c = ctl->u.connection.monitor_p2c;
		srv->modify_c2p = ctl->u.connection.monitor_c2p;
		vmbus__srv_due(srv, K_CONN_MODIFY, 0);
		return;
	}
	refuse(srv, odd ? &srv->stats.malformed : &srv->stats.out_of_order, ctl->type,
	       odd ? "modify connection: monitor pages come in pairs"
		   : "modify connection: one is under way");
	vmbus__srv_entry(srv, &entry);
}

static void act_channel(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	switch (ctl->type) {
	case VMBUS_CTL_GPADL_HEADER:
		vmbus__srv_gpadl_header(srv, ctl);
		break;
	case VMBUS_CTL_GPADL_BODY:
		vmbus__srv_gpadl_body(srv, ctl);
		break;
	case VMBUS_CTL_GPADL_TEARDOWN:
		vmbus__srv_gpadl_teardown(srv, ctl);
		break;
	case VMBUS_CTL_TL_CONNECT:
		vmbus__srv_tl_connect(srv, ctl);
		break;
	case VMBUS_CTL_MODIFY_CONNECTION:
		on_modify_connection(srv, ctl);
		break;
	default:
		vmbus__srv_chan_message(srv, ctl);
		break;
	}
}

void vmbus__srv_conn_message(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t event = events[ctl->type];

	if (event == CV_NONE)
		refuse(srv, &srv->stats.out_of_order, ctl->type,
		       "message: only the parent sends this type");
	else if (!table[srv->conn][event].act)
		refuse(srv, &srv->stats.out_of_order, ctl->type,
		       "message: not in this state of the connection");
	else
		fire(srv, event, ctl);
}

static bool chan_must_wait(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t relid)
{
	return relid > 0 && relid <= srv->opts.chans_max && vmbus__srv_is_due(srv, kind, relid - 1);
}

/*
 * Whether a message must wait until the child has taken what is due to it.  Those that only end
 * something never wait, so a child can always leave.
 */
bool vmbus__srv_conn_must_wait(const struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	if (events[ctl->type] == CV_NONE || !table[srv->conn][events[ctl->type]].act)
		return false;
	switch (ctl->type) {
	case VMBUS_CTL_CONTACT:
	case VMBUS_CTL_UNLOAD:
	case VMBUS_CTL_RESUME:
	case VMBUS_CTL_CLOSE:
	case VMBUS_CTL_RELID_RELEASED:
		return false;
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESERVED:
		if (chan_must_wait(srv, K_RESULT, ctl->u.open.relid))
			return true;
		break;
	case VMBUS_CTL_MODIFY:
		if (chan_must_wait(srv, K_MODIFIED, ctl->u.modify.relid))
			return true;
		break;
	case VMBUS_CTL_REQUEST_OFFERS:
		if (vmbus__srv_is_due(srv, K_ALL_OFFERS, 0))
			return true;
		break;
	case VMBUS_CTL_PAUSE:
		if (vmbus__srv_is_due(srv, K_PAUSED, 0))
			return true;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION:
		if (vmbus__srv_is_due(srv, K_CONN_MODIFIED, 0))
			return true;
		break;
	default:
		break;
	}
	return srv->replies >= srv->opts.queue_max;
}

void vmbus__srv_conn_reset(struct vmbus_srv *srv)
{
	fire(srv, CV_RESET, NULL);
}

int vmbus_srv_connection_modified(struct vmbus_srv *srv, uint32_t state)
{
	if (!srv->modifying || vmbus__srv_is_due(srv, K_CONN_MODIFY, 0))
		return VMBUS_E_STATE;
	if (state > UINT8_MAX)
		return VMBUS_E_RANGE;
	srv->modifying = false;
	if (table[srv->conn][CV_EMPTY].act) {
		vmbus__srv_conn_check_empty(srv);
		return 0;
	}
	if (state == CONNECTION_OK) {
		srv->monitor_p2c = srv->modify_p2c;
		srv->monitor_c2p = srv->modify_c2p;
	}
	srv->modify_state = state;
	vmbus__srv_due(srv, K_CONN_MODIFIED, 0);
	return 0;
}
