/* SPDX-License-Identifier: MIT */
/*
 * Control messages: one table with the layout of every type, read by the decoder and the encoder
 * alike, and four functions for what a table cannot say.
 *
 * A form is the bytes that a message of a type has.  A field is copied if it lies in the form, so
 * that what a form has not stays 0; bytes past the form are never looked at.  Nothing here knows
 * which side it is on or what was said before.
 */
#include <vmbus/ctl.h>

#include "base/contract.h"
#include "wire/le.h"

#define HEADER_BYTES 8u	       /* type and padding, [CTL-HEADER] */
#define GPADL_HEADER_FIXED 20u /* bytes before the qwords, [CTL-GPADL] */
#define GPADL_BODY_FIXED 16u
#define CONTACT_OVERLAY 16u /* eight bytes whose meaning depends on the version, [CTL-CONTACT] */
#define OPEN_FORM_FEATURES (VMBUS_FEATURE_SIGNAL_PARAMS | VMBUS_FEATURE_REDIRECT)

/* A number of 1, 2, 4 or 8 bytes, or, as BYTES, something that is copied as it lies. */
enum field_kind {
	NUMBER,
	BIT0,
	BYTES
};

struct field {
	uint8_t wire;  /* offset in the message */
	uint8_t bytes; /* on the wire, and in the struct */
	uint8_t kind;
	uint8_t reserved;
	uint16_t at; /* offset in struct vmbus_ctl */
};

#define FIELD(wire_, kind_, member)                                                                \
	{                                                                                          \
		wire_, sizeof(((struct vmbus_ctl *)0)->u.member), kind_, 0,                        \
			offsetof(struct vmbus_ctl, u.member)                                       \
	}

/* clang-format off */
static const struct field offer[] = {
	FIELD(8, BYTES, offer.class_id),
	FIELD(24, BYTES, offer.instance_id),
	FIELD(56, NUMBER, offer.flags),
	FIELD(58, NUMBER, offer.mmio_mb),
	FIELD(60, BYTES, offer.user),
	FIELD(180, NUMBER, offer.sub_index),
	FIELD(182, NUMBER, offer.mmio_mb_optional),
	FIELD(184, NUMBER, offer.relid),
	FIELD(188, NUMBER, offer.monitor_id),
	FIELD(189, BIT0, offer.monitored),
	FIELD(190, BIT0, offer.dedicated),
	FIELD(192, NUMBER, offer.conn_id),
};
static const struct field open[] = {
	FIELD(8, NUMBER, open.relid),
	FIELD(12, NUMBER, open.open_id),
	FIELD(16, NUMBER, open.gpadl),
	FIELD(20, NUMBER, open.target_vp),
	FIELD(24, NUMBER, open.downstream_page),
	FIELD(28, BYTES, open.user),
	FIELD(148, NUMBER, open.conn_id),
	FIELD(152, NUMBER, open.event_flag),
	FIELD(154, BIT0, open.redirect),
};
static const struct field open_reserved[] = {
	FIELD(8, NUMBER, open.relid),
	FIELD(12, NUMBER, open.target_vp),
	FIELD(16, NUMBER, open.target_sint),
	FIELD(20, NUMBER, open.gpadl),
	FIELD(24, NUMBER, open.downstream_page),
};
static const struct field result[] = {
	FIELD(8, NUMBER, result.relid),
	FIELD(12, NUMBER, result.open_id),
	FIELD(16, NUMBER, result.status),
};
static const struct field gpadl_header[] = {
	FIELD(8, NUMBER, gpadl.relid),
	FIELD(12, NUMBER, gpadl.gpadl),
};
static const struct field gpadl_body[] = {
	FIELD(12, NUMBER, gpadl.gpadl),
};
static const struct field created[] = {
	FIELD(8, NUMBER, created.relid),
	FIELD(12, NUMBER, created.gpadl),
	FIELD(16, NUMBER, created.status),
};
static const struct field torndown[] = {
	FIELD(8, NUMBER, created.gpadl),
};
static const struct field chan[] = {
	FIELD(8, NUMBER, chan.relid),
	FIELD(12, NUMBER, chan.target_vp),
	FIELD(16, NUMBER, chan.target_sint),
};
static const struct field contact[] = {
	FIELD(8, NUMBER, contact.version),
	FIELD(12, NUMBER, contact.target_vp),
	FIELD(24, NUMBER, contact.monitor_p2c),
	FIELD(32, NUMBER, contact.monitor_c2p),
	FIELD(40, BYTES, contact.client_id),
};
static const struct field version_response[] = {
	FIELD(8, NUMBER, version.supported),
	FIELD(9, NUMBER, version.state),
	FIELD(12, NUMBER, version.conn_id),
	FIELD(16, NUMBER, version.features),
	FIELD(24, NUMBER, version.monitor_p2c),
	FIELD(32, NUMBER, version.monitor_c2p),
};
static const struct field tl_connect[] = {
	FIELD(8, BYTES, tl.endpoint_id),
	FIELD(24, BYTES, tl.service_id),
	FIELD(40, BYTES, tl.silo_id),
};
static const struct field tl_result[] = {
	FIELD(8, BYTES, tl.endpoint_id),
	FIELD(24, BYTES, tl.service_id),
	FIELD(40, NUMBER, tl.status),
};
static const struct field modify[] = {
	FIELD(8, NUMBER, modify.relid),
	FIELD(12, NUMBER, modify.target_vp),
};
static const struct field modify_response[] = {
	FIELD(8, NUMBER, modify.relid),
	FIELD(12, NUMBER, modify.status),
};
static const struct field connection[] = {
	FIELD(8, NUMBER, connection.monitor_p2c),
	FIELD(16, NUMBER, connection.monitor_c2p),
};

/* Types that have a meaning before a version was agreed on. */
#define ANY 0u
#define ALL VMBUS_PROTO_2_4
#define MODIFY_CONNECTION VMBUS_FEATURE_MODIFY_CONNECTION
#define PAUSE VMBUS_FEATURE_PAUSE
#define FIELDS(list) list, sizeof(list) / sizeof((list)[0])

/* [CTL-TYPE].  A row without a name is no type. */
static const struct row {
	const char *name;
	const struct field *fields;
	uint8_t count;
	uint8_t min;	  /* bytes of the shortest form, header included */
	uint16_t feature; /* that must have been agreed on, or 0 */
	uint32_t since;	  /* first version that has the type, or ANY */
} rows[VMBUS_CTL_TYPES] = {
	[VMBUS_CTL_OFFER] = { "offer", FIELDS(offer), 196, 0, ALL },
	[VMBUS_CTL_RESCIND] = { "rescind", chan, 1, 12, 0, ALL },
	[VMBUS_CTL_REQUEST_OFFERS] = { "request offers", NULL, 0, 8, 0, ALL },
	[VMBUS_CTL_ALL_OFFERS] = { "all offers", NULL, 0, 8, 0, ALL },
	[VMBUS_CTL_OPEN] = { "open", FIELDS(open), 148, 0, ALL },
	[VMBUS_CTL_OPEN_RESULT] = { "open result", FIELDS(result), 20, 0, ALL },
	[VMBUS_CTL_CLOSE] = { "close", chan, 1, 12, 0, ALL },
	[VMBUS_CTL_GPADL_HEADER] = { "GPADL header", FIELDS(gpadl_header), 28, 0, ALL },
	[VMBUS_CTL_GPADL_BODY] = { "GPADL body", FIELDS(gpadl_body), 24, 0, ALL },
	[VMBUS_CTL_GPADL_CREATED] = { "GPADL created", FIELDS(created), 20, 0, ALL },
	[VMBUS_CTL_GPADL_TEARDOWN] = { "GPADL teardown", created, 2, 16, 0, ALL },
	[VMBUS_CTL_GPADL_TORNDOWN] = { "GPADL torn down", FIELDS(torndown), 12, 0, ALL },
	[VMBUS_CTL_RELID_RELEASED] = { "relid released", chan, 1, 12, 0, ALL },
	[VMBUS_CTL_CONTACT] = { "contact", FIELDS(contact), 40, 0, ANY },
	[VMBUS_CTL_VERSION_RESPONSE] = { "version response", FIELDS(version_response), 16, 0, ANY },
	[VMBUS_CTL_UNLOAD] = { "unload", NULL, 0, 8, 0, ALL },
	[VMBUS_CTL_UNLOAD_RESPONSE] = { "unload response", NULL, 0, 8, 0, ALL },
	[VMBUS_CTL_OPEN_RESERVED] = { "open reserved", FIELDS(open_reserved), 28, 0,
				      VMBUS_PROTO_4_0 },
	[VMBUS_CTL_CLOSE_RESERVED] = { "close reserved", FIELDS(chan), 20, 0, ANY },
	[VMBUS_CTL_CLOSE_RESERVED_RESPONSE] = { "close reserved response", chan, 1, 12, 0, ANY },
	[VMBUS_CTL_TL_CONNECT] = { "transport connect", FIELDS(tl_connect), 40, 0,
				   VMBUS_PROTO_4_0 },
	[VMBUS_CTL_MODIFY] = { "modify", FIELDS(modify), 16, 0, VMBUS_PROTO_4_1 },
	[VMBUS_CTL_TL_RESULT] = { "transport result", FIELDS(tl_result), 44, 0, VMBUS_PROTO_4_1 },
	[VMBUS_CTL_MODIFY_RESPONSE] = { "modify response", FIELDS(modify_response), 16, 0,
					VMBUS_PROTO_5_3 },
	[VMBUS_CTL_MODIFY_CONNECTION] = { "modify connection", FIELDS(connection), 24,
					  MODIFY_CONNECTION, VMBUS_PROTO_6_0 },
	[VMBUS_CTL_MODIFY_CONNECTION_RESPONSE] = { "modify connection response", NULL, 0, 9,
						   MODIFY_CONNECTION, VMBUS_PROTO_6_0 },
	[VMBUS_CTL_PAUSE] = { "pause", NULL, 0, 8, PAUSE, VMBUS_PROTO_6_0 },
	[VMBUS_CTL_PAUSE_RESPONSE] = { "pause response", NULL, 0, 8, PAUSE, VMBUS_PROTO_6_0 },
	[VMBUS_CTL_RESUME] = { "resume", NULL, 0, 8, PAUSE, VMBUS_PROTO_6_0 },
};
/* clang-format on */

static const struct row *row_of(uint32_t type)
{
	return type < VMBUS_CTL_TYPES && rows[type].name ? &rows[type] : NULL;
}

/* Types of 4.0 that also exist without a version, but not in an older one. */
static bool is_reserved_close(uint32_t type)
{
	return type == VMBUS_CTL_CLOSE_RESERVED || type == VMBUS_CTL_CLOSE_RESERVED_RESPONSE;
}

static bool exists(uint32_t type, const struct row *row, uint32_t version, uint32_t features)
{
	if (row->since == ANY)
		return version == 0 || version >= VMBUS_PROTO_4_0 || !is_reserved_close(type);
	return version >= row->since && (features & row->feature) == row->feature;
}

/* The fields of a form of so many bytes; members are numbers of the machine's own byte order. */
static void get_fields(const struct row *row, const uint8_t *p, uint32_t form,
		       struct vmbus_ctl *ctl)
{
	uint8_t *const base = (uint8_t *)ctl;
	uint32_t i;

	for (i = 0; i < row->count; i++) {
		const struct field *f = &row->fields[i];
		uint8_t *to = base + f->at;
		uint64_t v;

		if ((uint32_t)f->wire + f->bytes > form)
			continue;
		if (f->kind == BYTES) {
			__builtin_memcpy(to, p + f->wire, f->bytes);
			continue;
		}
		v = vmbus__le_get(p + f->wire, f->bytes);
		if (f->kind == BIT0)
			v &= 1u;
		if (f->bytes == 1)
			*to = (uint8_t)v;
		else if (f->bytes == 2)
			*(uint16_t *)(void *)to = (uint16_t)v;
		else if (f->bytes == 4)
			*(uint32_t *)(void *)to = (uint32_t)v;
		else
			*(uint64_t *)(void *)to = v;
	}
}

static void put_fields(const struct row *row, const struct vmbus_ctl *ctl, uint32_t form,
		       uint8_t *p)
{
	const uint8_t *const base = (const uint8_t *)ctl;
	uint32_t i;

	for (i = 0; i < row->count; i++) {
		const struct field *f = &row->fields[i];
		const uint8_t *from = base + f->at;
		uint64_t v;

		if ((uint32_t)f->wire + f->bytes > form)
			continue;
		if (f->kind == BYTES) {
			__builtin_memcpy(p + f->wire, from, f->bytes);
			continue;
		}
		if (f->bytes == 1)
			v = *from;
		else if (f->bytes == 2)
			v = *(const uint16_t *)(const void *)from;
		else if (f->bytes == 4)
			v = *(const uint32_t *)(const void *)from;
		else
			v = *(const uint64_t *)(const void *)from;
		if (f->kind == BIT0)
			v = v != 0;
		vmbus__le_put(p + f->wire, f->bytes, v);
	}
}

/* Whether OPEN has its long form, [CTL-OPEN]. */
static bool open_is_long(uint32_t version, uint32_t features)
{
	return version >= VMBUS_PROTO_6_0 && (features & OPEN_FORM_FEATURES) != 0;
}

/* Bytes of the form of VERSION_RESPONSE that the message's own numbers name, [CTL-CONTACT]. */
static uint32_t version_form(const struct vmbus_ctl_version *v, uint32_t version)
{
	if (!v->supported || version < VMBUS_PROTO_6_0)
		return 16;
	return v->features & VMBUS_FEATURE_SERVER_MONITOR ? 40 : 20;
}

/*
 * Bytes of the form that lies in len bytes at p.  Senders may pad a message, so that a longer form
 * needs more than room: what tells it from padding is the version or a feature.
 */
static uint32_t form_of(uint32_t type, const uint8_t *p, uint32_t len, uint32_t version,
			uint32_t features)
{
	struct vmbus_ctl_version v = { 0 };
	uint32_t form;

	switch (type) {
	case VMBUS_CTL_OPEN:
		return open_is_long(version, features) ? 156 : 148;
	case VMBUS_CTL_CONTACT:
		return len >= 56 && vmbus__le_get(p + 8, 4) >= VMBUS_PROTO_6_0 &&
				       (vmbus__le_get(p + 20, 4) & VMBUS_FEATURE_CLIENT_ID)
			       ? 56
			       : 40;
	case VMBUS_CTL_VERSION_RESPONSE:
		v.supported = p[8];
		if (len >= 20)
			v.features = (uint32_t)vmbus__le_get(p + 16, 4);
		form = version_form(&v, version ? version : VMBUS_PROTO_6_0);
		return form <= len ? form : len >= 20 && form == 40 ? 20 : 16;
	case VMBUS_CTL_TL_CONNECT:
		return len >= 56 && version >= VMBUS_PROTO_5_2 ? 56 : 40;
	default:
		return rows[type].min;
	}
}

static void get_qwords(struct vmbus_ctl_gpadl *g, const uint8_t *p, uint32_t len)
{
	uint32_t i;

	g->count = len / 8u;
	for (i = 0; i < g->count; i++)
		g->qwords[i] = vmbus__le_get(p + i * 8u, 8);
}

/* The eight bytes of CONTACT that are one number below 5.0 and four from there on. */
static void get_overlay(struct vmbus_ctl_contact *c, const uint8_t *p)
{
	if (c->version < VMBUS_PROTO_3_0)
		c->target_vp = 0;
	if (c->version < VMBUS_PROTO_5_0) {
		c->interrupt_page = vmbus__le_get(p, 8);
		return;
	}
	c->target_sint = p[0];
	if (c->version >= VMBUS_PROTO_5_1)
		c->target_vtl = p[1];
	if (c->version >= VMBUS_PROTO_6_0)
		c->features = (uint32_t)vmbus__le_get(p + 4, 4);
}

static void put_overlay(const struct vmbus_ctl_contact *c, uint8_t *msg)
{
	uint8_t *const p = msg + CONTACT_OVERLAY;

	if (c->version < VMBUS_PROTO_3_0)
		vmbus__le_put(msg + 12, 4, 0);
	if (c->version < VMBUS_PROTO_5_0) {
		vmbus__le_put(p, 8, c->interrupt_page);
		return;
	}
	p[0] = c->target_sint;
	if (c->version >= VMBUS_PROTO_5_1)
		p[1] = c->target_vtl;
	if (c->version >= VMBUS_PROTO_6_0)
		vmbus__le_put(p + 4, 4, c->features);
}

/* What the table of fields does not say. */
static void get_rest(struct vmbus_ctl *ctl, const uint8_t *p, uint32_t len, uint32_t form,
		     uint32_t features)
{
	switch (ctl->type) {
	case VMBUS_CTL_OPEN:
		if (!(features & VMBUS_FEATURE_SIGNAL_PARAMS)) {
			ctl->u.open.conn_id = 0;
			ctl->u.open.event_flag = 0;
		}
		if (!(features & VMBUS_FEATURE_REDIRECT))
			ctl->u.open.redirect = 0;
		break;
	case VMBUS_CTL_GPADL_HEADER:
		ctl->u.gpadl.range_bytes = (uint32_t)vmbus__le_get(p + 16, 2);
		ctl->u.gpadl.range_count = (uint32_t)vmbus__le_get(p + 18, 2);
		get_qwords(&ctl->u.gpadl, p + GPADL_HEADER_FIXED, len - GPADL_HEADER_FIXED);
		break;
	case VMBUS_CTL_GPADL_BODY:
		get_qwords(&ctl->u.gpadl, p + GPADL_BODY_FIXED, len - GPADL_BODY_FIXED);
		break;
	case VMBUS_CTL_CONTACT:
		get_overlay(&ctl->u.contact, p + CONTACT_OVERLAY);
		ctl->u.contact.has_client_id = form == 56;
		break;
	case VMBUS_CTL_VERSION_RESPONSE:
		ctl->u.version.form = form;
		break;
	case VMBUS_CTL_TL_CONNECT:
		ctl->u.tl.has_silo = form == 56;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		ctl->u.connection.state = p[8];
		break;
	default:
		break;
	}
}

int vmbus_ctl_decode(const void *bytes, size_t len, uint32_t version, uint32_t features,
		     struct vmbus_ctl *ctl)
{
	const uint8_t *p = bytes;
	const struct row *row;
	uint32_t type, form, have;

	if (len < HEADER_BYTES)
		return VMBUS_E_RANGE;
	have = len > VMBUS_CTL_BYTES_MAX ? VMBUS_CTL_BYTES_MAX : (uint32_t)len;
	type = (uint32_t)vmbus__le_get(p, 4);
	row = row_of(type);
	if (!row || !exists(type, row, version, features))
		return VMBUS_E_INVAL;
	if (have < row->min)
		return VMBUS_E_RANGE;
	form = form_of(type, p, have, version, features);
	if (have < form)
		return VMBUS_E_RANGE;
	__builtin_memset(ctl, 0, sizeof(*ctl));
	ctl->type = type;
	get_fields(row, p, form, ctl);
	get_rest(ctl, p, have, form, features);
	return 0;
}

/* Bytes of the form that a message will have, or an error. */
static int form_to_write(const struct vmbus_ctl *ctl, uint32_t version, uint32_t features)
{
	const struct vmbus_ctl_gpadl *const g = &ctl->u.gpadl;
	const uint32_t form = ctl->u.version.form;

	switch (ctl->type) {
	case VMBUS_CTL_OPEN:
		return open_is_long(version, features) ? 156 : 148;
	case VMBUS_CTL_GPADL_HEADER:
		if (g->range_bytes > UINT16_MAX || g->range_count > UINT16_MAX || g->count == 0 ||
		    g->count > (VMBUS_CTL_BYTES_MAX - GPADL_HEADER_FIXED) / 8u)
			return VMBUS_E_RANGE;
		return (int)(GPADL_HEADER_FIXED + g->count * 8u);
	case VMBUS_CTL_GPADL_BODY:
		if (g->count == 0 || g->count > (VMBUS_CTL_BYTES_MAX - GPADL_BODY_FIXED) / 8u)
			return VMBUS_E_RANGE;
		return (int)(GPADL_BODY_FIXED + g->count * 8u);
	case VMBUS_CTL_CONTACT:
		return ctl->u.contact.has_client_id ? 56 : 40;
	case VMBUS_CTL_VERSION_RESPONSE:
		if (form == 0)
			return (int)version_form(&ctl->u.version, version);
		return form == 16 || form == 20 || form == 40 ? (int)form : VMBUS_E_RANGE;
	case VMBUS_CTL_TL_CONNECT:
		return ctl->u.tl.has_silo && version >= VMBUS_PROTO_5_2 ? 56 : 40;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		return ctl->u.connection.state <= UINT8_MAX ? rows[ctl->type].min : VMBUS_E_RANGE;
	default:
		return rows[ctl->type].min;
	}
}

static void put_qwords(const struct vmbus_ctl_gpadl *g, uint8_t *p)
{
	uint32_t i;

	for (i = 0; i < g->count; i++)
		vmbus__le_put(p + i * 8u, 8, g->qwords[i]);
}

static void put_rest(const struct vmbus_ctl *ctl, uint8_t *p)
{
	switch (ctl->type) {
	case VMBUS_CTL_GPADL_HEADER:
		vmbus__le_put(p + 16, 2, ctl->u.gpadl.range_bytes);
		vmbus__le_put(p + 18, 2, ctl->u.gpadl.range_count);
		put_qwords(&ctl->u.gpadl, p + GPADL_HEADER_FIXED);
		break;
	case VMBUS_CTL_GPADL_BODY:
		put_qwords(&ctl->u.gpadl, p + GPADL_BODY_FIXED);
		break;
	case VMBUS_CTL_CONTACT:
		put_overlay(&ctl->u.contact, p);
		break;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		p[8] = (uint8_t)ctl->u.connection.state;
		break;
	default:
		break;
	}
}

int vmbus_ctl_encode(const struct vmbus_ctl *ctl, uint32_t version, uint32_t features, void *buf,
		     size_t bytes)
{
	const struct row *const row = row_of(ctl->type);
	uint8_t *p = buf;
	int form;

	if (!row)
		return VMBUS_E_INVAL;
	form = form_to_write(ctl, version, features);
	if (form < 0)
		return form;
	if ((size_t)form > bytes)
		return VMBUS_E_RANGE;
	__builtin_memset(p, 0, (size_t)form);
	vmbus__le_put(p, 4, ctl->type);
	put_fields(row, ctl, (uint32_t)form, p);
	put_rest(ctl, p);
	return form;
}

const char *vmbus_ctl_type_name(uint32_t type)
{
	const struct row *const row = row_of(type);

	return row ? row->name : "?";
}
