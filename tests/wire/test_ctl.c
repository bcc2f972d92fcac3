/* SPDX-License-Identifier: MIT */
/*
 * Control messages: src/wire/ctl.c.  The model here is written from the layout tables of
 * vmbus_wire(7), [CTL-HEADER] [CTL-TYPE] [CTL-VERSION] [CTL-CONTACT] [CTL-OFFER] [CTL-OPEN]
 * [CTL-GPADL] [CTL-CLOSE] [CTL-RELEASE] [CTL-MODIFY] [CTL-UNLOAD] [CTL-RESERVED] [CTL-TL]
 * [CTL-MODIFY-CONNECTION] [CTL-PAUSE], offset by offset, and
 * shares nothing with the library.
 */
#include <vmbus/ctl.h>

#include "vmbus_test.h"

static const uint32_t versions[] = {
	0,
	0x0000000D,
	0x00010001,
	0x00020003,
	VMBUS_PROTO_2_4,
	VMBUS_PROTO_3_0,
	VMBUS_PROTO_4_0,
	VMBUS_PROTO_4_1,
	VMBUS_PROTO_5_0,
	VMBUS_PROTO_5_1,
	VMBUS_PROTO_5_2,
	VMBUS_PROTO_5_3,
	VMBUS_PROTO_6_0,
};
#define VERSIONS (sizeof(versions) / sizeof(versions[0]))
#define EVERY_FEATURE 0xFFu

static const struct {
	uint32_t min;
	uint32_t since; /* 0: also before there is a version */
	uint32_t feature;
} types[VMBUS_CTL_TYPES] = {
	[1] = { 196, 0x20004, 0 },   [2] = { 12, 0x20004, 0 },	  [3] = { 8, 0x20004, 0 },
	[4] = { 8, 0x20004, 0 },     [5] = { 148, 0x20004, 0 },	  [6] = { 20, 0x20004, 0 },
	[7] = { 12, 0x20004, 0 },    [8] = { 28, 0x20004, 0 },	  [9] = { 24, 0x20004, 0 },
	[10] = { 20, 0x20004, 0 },   [11] = { 16, 0x20004, 0 },	  [12] = { 12, 0x20004, 0 },
	[13] = { 12, 0x20004, 0 },   [14] = { 40, 0, 0 },	  [15] = { 16, 0, 0 },
	[16] = { 8, 0x20004, 0 },    [17] = { 8, 0x20004, 0 },	  [18] = { 28, 0x40000, 0 },
	[19] = { 20, 0, 0 },	     [20] = { 12, 0, 0 },	  [21] = { 40, 0x40000, 0 },
	[22] = { 16, 0x40001, 0 },   [23] = { 44, 0x40001, 0 },	  [24] = { 16, 0x50003, 0 },
	[25] = { 24, 0x60000, 4 },   [26] = { 9, 0x60000, 4 },	  [27] = { 8, 0x60000, 0x20 },
	[28] = { 8, 0x60000, 0x20 }, [29] = { 8, 0x60000, 0x20 },
};

static void put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t put_qwords(uint8_t *p, const struct vmbus_ctl_gpadl *g)
{
	uint32_t i;

	for (i = 0; i < g->count; i++)
		put(p + i * 8, 8, g->qwords[i]);
	return g->count * 8;
}

static uint32_t model_contact(const struct vmbus_ctl_contact *c, uint8_t *b)
{
	put(b + 8, 4, c->version);
	if (c->version >= 0x30000)
		put(b + 12, 4, c->target_vp);
	if (c->version < 0x50000)
		put(b + 16, 8, c->interrupt_page);
	else
		b[16] = c->target_sint;
	if (c->version >= 0x50001)
		b[17] = c->target_vtl;
	if (c->version >= 0x60000)
		put(b + 20, 4, c->features);
	put(b + 24, 8, c->monitor_p2c);
	put(b + 32, 8, c->monitor_c2p);
	if (!c->has_client_id)
		return 40;
	memcpy(b + 40, c->client_id.b, 16);
	return 56;
}

static uint32_t model_version(const struct vmbus_ctl_version *v, uint32_t version, uint8_t *b)
{
	const uint32_t form = v->form				   ? v->form
			      : !v->supported || version < 0x60000 ? 16u
			      : v->features & 0x40u		   ? 40u
								   : 20u;

	b[8] = v->supported;
	b[9] = v->state;
	put(b + 12, 4, v->conn_id);
	if (form > 16)
		put(b + 16, 4, v->features);
	if (form == 40) {
		put(b + 24, 8, v->monitor_p2c);
		put(b + 32, 8, v->monitor_c2p);
	}
	return form;
}

static uint32_t model_offer(const struct vmbus_ctl_offer *o, uint8_t *b)
{
	memcpy(b + 8, o->class_id.b, 16);
	memcpy(b + 24, o->instance_id.b, 16);
	put(b + 56, 2, o->flags);
	put(b + 58, 2, o->mmio_mb);
	memcpy(b + 60, o->user, 120);
	put(b + 180, 2, o->sub_index);
	put(b + 182, 2, o->mmio_mb_optional);
	put(b + 184, 4, o->relid);
	b[188] = o->monitor_id;
	b[189] = o->monitored ? 1 : 0;
	put(b + 190, 2, o->dedicated ? 1 : 0);
	put(b + 192, 4, o->conn_id);
	return 196;
}

static uint32_t model_open(const struct vmbus_ctl_open *o, uint32_t version, uint32_t features,
			   uint8_t *b)
{
	put(b + 8, 4, o->relid);
	put(b + 12, 4, o->open_id);
	put(b + 16, 4, o->gpadl);
	put(b + 20, 4, o->target_vp);
	put(b + 24, 4, o->downstream_page);
	memcpy(b + 28, o->user, 120);
	if (version < 0x60000 || !(features & 3))
		return 148;
	put(b + 148, 4, o->conn_id);
	put(b + 152, 2, o->event_flag);
	put(b + 154, 2, o->redirect ? 1 : 0);
	return 156;
}

static uint32_t model_three(uint8_t *b, uint32_t x, uint32_t y, uint32_t z, uint32_t bytes)
{
	put(b + 8, 4, x);
	if (bytes > 12)
		put(b + 12, 4, y);
	if (bytes > 16)
		put(b + 16, 4, z);
	return bytes;
}

static uint32_t model_tl(const struct vmbus_ctl *c, uint32_t version, uint8_t *b)
{
	memcpy(b + 8, c->u.tl.endpoint_id.b, 16);
	memcpy(b + 24, c->u.tl.service_id.b, 16);
	if (c->type == VMBUS_CTL_TL_RESULT) {
		put(b + 40, 4, c->u.tl.status);
		return 44;
	}
	if (!c->u.tl.has_silo || version < 0x50002)
		return 40;
	memcpy(b + 40, c->u.tl.silo_id.b, 16);
	return 56;
}

static uint32_t model_gpadl(const struct vmbus_ctl *c, uint8_t *b)
{
	const struct vmbus_ctl_gpadl *g = &c->u.gpadl;

	put(b + 12, 4, g->gpadl);
	if (c->type == VMBUS_CTL_GPADL_BODY)
		return 16 + put_qwords(b + 16, g);
	put(b + 8, 4, g->relid);
	put(b + 16, 2, g->range_bytes);
	put(b + 18, 2, g->range_count);
	return 20 + put_qwords(b + 20, g);
}

/* The message as the tables have it; b has 240 bytes. */
static uint32_t model(const struct vmbus_ctl *c, uint32_t version, uint32_t features, uint8_t *b)
{
	memset(b, 0, 240);
	put(b, 4, c->type);
	switch (c->type) {
	case VMBUS_CTL_OFFER:
		return model_offer(&c->u.offer, b);
	case VMBUS_CTL_OPEN:
		return model_open(&c->u.open, version, features, b);
	case VMBUS_CTL_OPEN_RESERVED:
		put(b + 8, 4, c->u.open.relid);
		put(b + 12, 4, c->u.open.target_vp);
		put(b + 16, 4, c->u.open.target_sint);
		put(b + 20, 4, c->u.open.gpadl);
		put(b + 24, 4, c->u.open.downstream_page);
		return 28;
	case VMBUS_CTL_GPADL_HEADER:
	case VMBUS_CTL_GPADL_BODY:
		return model_gpadl(c, b);
	case VMBUS_CTL_CONTACT:
		return model_contact(&c->u.contact, b);
	case VMBUS_CTL_VERSION_RESPONSE:
		return model_version(&c->u.version, version, b);
	case VMBUS_CTL_TL_CONNECT:
	case VMBUS_CTL_TL_RESULT:
		return model_tl(c, version, b);
	case VMBUS_CTL_OPEN_RESULT:
		return model_three(b, c->u.result.relid, c->u.result.open_id, c->u.result.status,
				   20);
	case VMBUS_CTL_GPADL_CREATED:
		return model_three(b, c->u.created.relid, c->u.created.gpadl, c->u.created.status,
				   20);
	case VMBUS_CTL_GPADL_TEARDOWN:
		return model_three(b, c->u.created.relid, c->u.created.gpadl, 0, 16);
	case VMBUS_CTL_GPADL_TORNDOWN:
		return model_three(b, c->u.created.gpadl, 0, 0, 12);
	case VMBUS_CTL_MODIFY:
		return model_three(b, c->u.modify.relid, c->u.modify.target_vp, 0, 16);
	case VMBUS_CTL_MODIFY_RESPONSE:
		return model_three(b, c->u.modify.relid, c->u.modify.status, 0, 16);
	case VMBUS_CTL_CLOSE_RESERVED:
		return model_three(b, c->u.chan.relid, c->u.chan.target_vp, c->u.chan.target_sint,
				   20);
	case VMBUS_CTL_RESCIND:
	case VMBUS_CTL_CLOSE:
	case VMBUS_CTL_RELID_RELEASED:
	case VMBUS_CTL_CLOSE_RESERVED_RESPONSE:
		return model_three(b, c->u.chan.relid, 0, 0, 12);
	case VMBUS_CTL_MODIFY_CONNECTION:
		put(b + 8, 8, c->u.connection.monitor_p2c);
		put(b + 16, 8, c->u.connection.monitor_c2p);
		return 24;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		b[8] = (uint8_t)c->u.connection.state;
		return 9;
	default:
		return 8;
	}
}

/* Whether a type has a meaning, written as the rule is and not as the library's table. */
static bool model_exists(uint32_t type, uint32_t version, uint32_t features)
{
	if (type == 0 || type >= VMBUS_CTL_TYPES)
		return false;
	if (type == VMBUS_CTL_CONTACT || type == VMBUS_CTL_VERSION_RESPONSE)
		return true;
	if (type == VMBUS_CTL_CLOSE_RESERVED || type == VMBUS_CTL_CLOSE_RESERVED_RESPONSE)
		return version == 0 || version >= 0x40000;
	return version >= types[type].since &&
	       (features & types[type].feature) == types[type].feature;
}

static uint64_t seed;

static uint8_t random_byte(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint8_t)(seed >> 56);
}

/* A message of this type with something in every member, and numbers within their limits. */
static void random_ctl(uint32_t type, struct vmbus_ctl *c)
{
	uint8_t *p = (uint8_t *)c;
	size_t i;

	for (i = 0; i < sizeof(*c); i++)
		p[i] = random_byte();
	c->type = type;
	switch (type) {
	case VMBUS_CTL_GPADL_HEADER:
	case VMBUS_CTL_GPADL_BODY:
		c->u.gpadl.range_bytes %= 65536;
		c->u.gpadl.range_count %= 65536;
		c->u.gpadl.count =
			1 + c->u.gpadl.count % (type == VMBUS_CTL_GPADL_HEADER ? 27 : 28);
		break;
	case VMBUS_CTL_CONTACT:
		c->u.contact.version = versions[random_byte() % VERSIONS];
		c->u.contact.has_client_id =
			c->u.contact.version >= 0x60000 && (c->u.contact.features & 8);
		break;
	case VMBUS_CTL_VERSION_RESPONSE:
		c->u.version.supported &= 1;
		c->u.version.form = 0;
		break;
	case VMBUS_CTL_TL_CONNECT:
		c->u.tl.has_silo &= 1;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		c->u.connection.state %= 256;
		break;
	default:
		break;
	}
}

/* Decoded from a block of its exact size, so that the sanitizer sees a byte too many. */
static int decode(const uint8_t *bytes, size_t len, uint32_t version, uint32_t features,
		  struct vmbus_ctl *ctl)
{
	uint8_t *exact = malloc(len ? len : 1);
	int err;

	must(exact != NULL);
	if (len)
		memcpy(exact, bytes, len);
	err = vmbus_ctl_decode(len ? exact : exact + 1, len, version, features, ctl);
	free(exact);
	return err;
}

/* Test i: version i.  Every type, in the form of the tables, both ways, with some features. */
START_TEST(ctl_encode__writes_what_the_tables_say)
{
	const uint32_t version = versions[_i];
	uint8_t want[240], got[240];
	struct vmbus_ctl c, d;
	uint32_t type, round, features;

	seed = (uint64_t)_i;
	for (type = 1; type < VMBUS_CTL_TYPES; type++)
		for (round = 0; round < 512; round++) {
			uint32_t len;

			features = round < 256 ? round : random_byte();
			random_ctl(type, &c);
			vmbus_test_at("type %u, round %u", type, round);
			len = model(&c, version, features, want);
			memset(got, 0xA5, sizeof(got));
			must_eq(vmbus_ctl_encode(&c, version, features, got, len), len);
			must(memcmp(got, want, len) == 0);
			must(len == 240 || got[len] == 0xA5);
			if (!model_exists(type, version, features)) {
				must_eq(decode(want, len, version, features, &d), VMBUS_E_INVAL);
				continue;
			}
			must_eq(decode(want, len, version, features, &d), 0);
			must_eq(d.type, type);
			must_eq(vmbus_ctl_encode(&d, version, features, got, sizeof(got)), len);
			if (type == VMBUS_CTL_OPEN && len == 156) { /* a half without its feature */
				if (!(features & 1))
					memset(want + 148, 0, 6);
				if (!(features & 2))
					memset(want + 154, 0, 2);
			}
			must(memcmp(got, want, len) == 0);
			must_eq(model(&d, version, features, got), len);
			must(memcmp(got, want, len) == 0);
		}
}
END_TEST

/* The shortest message that a type takes, given what its first bytes say. */
static uint32_t least(uint32_t type, uint32_t version, uint32_t features)
{
	if (type == VMBUS_CTL_OPEN && version >= 0x60000 && (features & 3))
		return 156;
	return types[type].min;
}

/* Test i: type i, 0 to 40.  Every version, all features and none, every length. */
START_TEST(ctl_decode__takes_exactly_what_exists_and_is_long_enough)
{
	static const uint32_t features[] = { 0, 1, 2, 3, 4, 8, 0x20, 0x40, EVERY_FEATURE };
	const uint32_t type = (uint32_t)_i;
	uint8_t bytes[300];
	struct vmbus_ctl c, before;
	uint32_t v, f, len;

	for (len = 0; len < sizeof(bytes); len++)
		bytes[len] = (uint8_t)(len * 37 + 1);
	memset(bytes, 0, 8);
	put(bytes, 4, type);
	memset(&before, 0x5A, sizeof(before));
	for (v = 0; v < VERSIONS; v++)
		for (f = 0; f < sizeof(features) / sizeof(features[0]); f++)
			for (len = 0; len <= sizeof(bytes); len++) {
				int want = 0;

				vmbus_test_at("version %x, features %x, %u bytes", versions[v],
					      features[f], len);
				if (len < 8)
					want = VMBUS_E_RANGE;
				else if (!model_exists(type, versions[v], features[f]))
					want = VMBUS_E_INVAL;
				else if (len < least(type, versions[v], features[f]))
					want = VMBUS_E_RANGE;
				c = before;
				must_eq(decode(bytes, len, versions[v], features[f], &c), want);
				if (want)
					must(memcmp(&c, &before, sizeof(c)) == 0);
				else
					must_eq(c.type, type);
			}
}
END_TEST

START_TEST(ctl_decode__refuses_type_numbers_of_all_widths)
{
	static const uint32_t odd[] = { 30, 31, 40, 0x100, 0x10001, 0x80000001u, UINT32_MAX };
	uint8_t bytes[240] = { 0 };
	struct vmbus_ctl c;
	size_t i;

	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		put(bytes, 4, odd[i]);
		must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_6_0, EVERY_FEATURE, &c),
			VMBUS_E_INVAL);
		memset(&c, 0, sizeof(c));
		c.type = odd[i];
		must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 0, bytes, 240), VMBUS_E_INVAL);
	}
	c.type = 0;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 0, bytes, 240), VMBUS_E_INVAL);
}
END_TEST

/* The second word of the header is padding: nobody looks at it. */
START_TEST(ctl_decode__passes_over_padding)
{
	uint8_t bytes[240];
	struct vmbus_ctl c;

	memset(bytes, 0xFF, sizeof(bytes));
	put(bytes, 4, VMBUS_CTL_CLOSE);
	put(bytes + 8, 4, 77);
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_5_3, 0, &c), 0);
	must_eq(c.u.chan.relid, 77);
	must_eq(c.u.chan.target_vp, 0);
	must_eq(c.u.chan.target_sint, 0);
	put(bytes, 4, VMBUS_CTL_TL_CONNECT);
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_5_1, 0, &c), 0);
	must_eq(c.u.tl.has_silo, 0); /* a form that 5.1 has not */
	must_eq(c.u.tl.silo_id.b[0], 0);
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_5_2, 0, &c), 0);
	must_eq(c.u.tl.has_silo, 1);
	must_eq(vmbus_ctl_decode(bytes, 55, VMBUS_PROTO_5_2, 0, &c), 0);
	must_eq(c.u.tl.has_silo, 0);
}
END_TEST

/* What is not the long form stays the short one, however many bytes follow. */
START_TEST(ctl_decode__tells_forms_of_contact)
{
	uint8_t bytes[240];
	struct vmbus_ctl c;

	memset(bytes, 0xFF, sizeof(bytes));
	put(bytes, 8, VMBUS_CTL_CONTACT);
	put(bytes + 8, 4, VMBUS_PROTO_5_3);
	must_eq(vmbus_ctl_decode(bytes, 240, 0, 0, &c), 0);
	must_eq(c.u.contact.has_client_id, 0);
	must_eq(c.u.contact.features, 0);
	must_eq(c.u.contact.interrupt_page, 0);
	must_eq(c.u.contact.target_sint, 255);
	must_eq(c.u.contact.target_vtl, 255);
	must_eq(c.u.contact.client_id.b[0], 0);
	put(bytes + 8, 4, VMBUS_PROTO_6_0);
	must_eq(vmbus_ctl_decode(bytes, 240, 0, 0, &c), 0);
	must_eq(c.u.contact.has_client_id, 1);
	must_eq(c.u.contact.client_id.b[15], 255);
	must_eq(vmbus_ctl_decode(bytes, 55, 0, 0, &c), 0);
	must_eq(c.u.contact.has_client_id, 0);
	must_eq(c.u.contact.features, UINT32_MAX);
	put(bytes + 20, 4, 0xF7);
	must_eq(vmbus_ctl_decode(bytes, 56, 0, 0, &c), 0);
	must_eq(c.u.contact.has_client_id, 0);
	put(bytes + 8, 4, VMBUS_PROTO_5_0);
	must_eq(vmbus_ctl_decode(bytes, 40, 0, 0, &c), 0);
	must_eq(c.u.contact.target_vtl, 0);
	must_eq(c.u.contact.target_vp, UINT32_MAX);
	put(bytes + 8, 4, VMBUS_PROTO_4_1);
	must_eq(vmbus_ctl_decode(bytes, 40, VMBUS_PROTO_6_0, 0, &c), 0);
	must(c.u.contact.interrupt_page == 0x000000F7FFFFFFFFu);
	must_eq(c.u.contact.target_sint, 0);
	put(bytes + 8, 4, VMBUS_PROTO_2_4);
	must_eq(vmbus_ctl_decode(bytes, 40, 0, 0, &c), 0);
	must_eq(c.u.contact.target_vp, 0);
}
END_TEST

START_TEST(ctl_decode__tells_forms_of_version_response)
{
	uint8_t bytes[240];
	struct vmbus_ctl c;

	memset(bytes, 0xFF, sizeof(bytes));
	put(bytes, 8, VMBUS_CTL_VERSION_RESPONSE);
	must_eq(vmbus_ctl_decode(bytes, 240, 0, 0, &c), 0);
	must_eq(c.u.version.form, 40);
	must_eq(c.u.version.supported, 255); /* any nonzero is yes */
	must(c.u.version.monitor_c2p == UINT64_MAX);
	must_eq(vmbus_ctl_decode(bytes, 39, 0, 0, &c), 0);
	must_eq(c.u.version.form, 20);
	must_eq(c.u.version.features, UINT32_MAX);
	must_eq(c.u.version.monitor_c2p, 0);
	must_eq(vmbus_ctl_decode(bytes, 19, 0, 0, &c), 0);
	must_eq(c.u.version.form, 16);
	must_eq(c.u.version.features, 0);
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_5_3, 0, &c), 0);
	must_eq(c.u.version.form, 16);
	bytes[16] = 0xBF;
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_6_0, 0, &c), 0);
	must_eq(c.u.version.form, 20);
	bytes[8] = 0;
	must_eq(vmbus_ctl_decode(bytes, 240, VMBUS_PROTO_6_0, 0, &c), 0);
	must_eq(c.u.version.form, 16);
	must_eq(c.u.version.features, 0);
}
END_TEST

/* Room: one byte too few for every type; the buffer stays as it was. */
START_TEST(ctl_encode__refuses_a_buffer_too_small)
{
	uint8_t want[240];
	struct vmbus_ctl c;
	uint32_t type, len, room;

	for (type = 1; type < VMBUS_CTL_TYPES; type++) {
		random_ctl(type, &c);
		len = model(&c, VMBUS_PROTO_6_0, EVERY_FEATURE, want);
		for (room = 0; room < len; room++) {
			uint8_t *exact = malloc(room + 1);
			uint32_t i;

			vmbus_test_at("type %u, room %u", type, room);
			must(exact != NULL);
			memset(exact, 0x77, room + 1);
			must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, EVERY_FEATURE, exact, room),
				VMBUS_E_RANGE);
			for (i = 0; i <= room; i++)
				must_eq(exact[i], 0x77);
			free(exact);
		}
	}
}
END_TEST

START_TEST(ctl_encode__refuses_numbers_past_their_limits)
{
	struct vmbus_ctl c = { .type = VMBUS_CTL_GPADL_HEADER };
	uint8_t b[VMBUS_CTL_BYTES_MAX];

	c.u.gpadl.count = 27;
	c.u.gpadl.range_bytes = UINT16_MAX;
	c.u.gpadl.range_count = UINT16_MAX;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), 236);
	c.u.gpadl.range_bytes++;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.u.gpadl.range_bytes--;
	c.u.gpadl.range_count++;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.u.gpadl.range_count--;
	c.u.gpadl.count = 28;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.u.gpadl.count = 0;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.type = VMBUS_CTL_GPADL_BODY;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.u.gpadl.count = 28;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), 240);
	c.u.gpadl.count = 29;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	c.u.gpadl.count = UINT32_MAX;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b)), VMBUS_E_RANGE);
	memset(&c, 0, sizeof(c));
	c.type = VMBUS_CTL_MODIFY_CONNECTION_RESPONSE;
	c.u.connection.state = 256;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 4, b, sizeof(b)), VMBUS_E_RANGE);
	memset(&c, 0, sizeof(c));
	c.type = VMBUS_CTL_VERSION_RESPONSE;
	c.u.version.form = 24;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 0, b, sizeof(b)), VMBUS_E_RANGE);
}
END_TEST

/* A peer's message of every type, garbage in every byte: an error or a message, never more. */
START_TEST(ctl_decode__takes_any_bytes)
{
	uint8_t bytes[240], again[240];
	struct vmbus_ctl c, d;
	uint32_t round, i;

	seed = 1234;
	for (round = 0; round < 200000; round++) {
		const uint32_t version = versions[random_byte() % VERSIONS];
		const uint32_t features = random_byte();
		const size_t len = random_byte() % 241u;
		int n;

		for (i = 0; i < len; i++)
			bytes[i] = random_byte();
		if (len >= 4)
			put(bytes, 4, random_byte() % 41u);
		if (len >= 12 && round % 2)
			put(bytes + 8, 4, versions[random_byte() % VERSIONS]);
		if (decode(bytes, len, version, features, &c))
			continue;
		vmbus_test_at("round %u, type %u", round, c.type);
		n = vmbus_ctl_encode(&c, version, features, again, sizeof(again));
		must(n >= 8 && n <= 240);
		must_eq(decode(again, (size_t)n, version, features, &d), 0);
		must(memcmp(&c, &d, sizeof(c)) == 0);
	}
}
END_TEST

/* The longest message ends where it ends: the last page is followed by one that traps. */
START_TEST(ctl_decode__reads_nothing_behind_the_message)
{
	uint8_t *const pages =
		mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vmbus_ctl c;
	uint32_t type;
	size_t len;

	must(pages != MAP_FAILED);
	must_eq(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	for (type = 0; type <= 40; type++)
		for (len = 0; len <= 240; len++) {
			uint8_t *at = pages + 4096 - len;
			uint8_t head[4];

			memset(pages, 0xFF, 4096);
			put(head, 4, type);
			memcpy(at, head, len < 4 ? len : 4);
			(void)vmbus_ctl_decode(at, len, VMBUS_PROTO_6_0, EVERY_FEATURE, &c);
			(void)vmbus_ctl_decode(at, len, 0, 0, &c);
		}
	munmap(pages, 2 * 4096);
}
END_TEST

START_TEST(ctl_type_name__names_all_types)
{
	uint32_t i;

	for (i = 1; i < VMBUS_CTL_TYPES; i++)
		must(strcmp(vmbus_ctl_type_name(i), "?") != 0);
	ck_assert_str_eq(vmbus_ctl_type_name(0), "?");
	ck_assert_str_eq(vmbus_ctl_type_name(VMBUS_CTL_TYPES), "?");
	ck_assert_str_eq(vmbus_ctl_type_name(UINT32_MAX), "?");
	ck_assert_str_eq(vmbus_ctl_type_name(VMBUS_CTL_OPEN), "open");
	ck_assert_str_eq(vmbus_ctl_type_name(VMBUS_CTL_RESUME), "resume");
}
END_TEST

/* Structs are ABI: their sizes, and that a message fits what callers were told. */
START_TEST(ctl__sizes_do_not_move)
{
	must_eq(sizeof(struct vmbus_guid), 16);
	must_eq(sizeof(struct vmbus_ctl_offer), 172);
	must_eq(sizeof(struct vmbus_ctl_open), 152);
	must_eq(sizeof(struct vmbus_ctl_gpadl), 248);
	must_eq(sizeof(struct vmbus_ctl_contact), 56);
	must_eq(sizeof(struct vmbus_ctl_version), 32);
	must_eq(sizeof(struct vmbus_ctl), 256);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ctl", 10);

	tcase_add_loop_test(tc, ctl_encode__writes_what_the_tables_say, 0, VERSIONS);
	tcase_add_loop_test(tc, ctl_decode__takes_exactly_what_exists_and_is_long_enough, 0, 41);
	tcase_add_test(tc, ctl_decode__refuses_type_numbers_of_all_widths);
	tcase_add_test(tc, ctl_decode__passes_over_padding);
	tcase_add_test(tc, ctl_decode__tells_forms_of_contact);
	tcase_add_test(tc, ctl_decode__tells_forms_of_version_response);
	tcase_add_test(tc, ctl_encode__refuses_a_buffer_too_small);
	tcase_add_test(tc, ctl_encode__refuses_numbers_past_their_limits);
	tcase_add_test(tc, ctl_decode__takes_any_bytes);
	tcase_add_test(tc, ctl_decode__reads_nothing_behind_the_message);
	tcase_add_test(tc, ctl_type_name__names_all_types);
	tcase_add_test(tc, ctl__sizes_do_not_move);
}

VMBUS_TEST_MAIN("wire.ctl", tests)
