/* SPDX-License-Identifier: MIT */
/*
 * A host machine driven by a stream of bytes: messages of the child, well and badly formed, calls
 * of the host and answers of devices, in any order.  The stream comes from a random generator in
 * the tests and from libFuzzer in tests/fuzz.  After each step every invariant is checked.
 */
#ifndef SRV_DRIVE_H
#define SRV_DRIVE_H

#include <stdlib.h>
#include <string.h>

#include "channel/srv_check.h"

#define DRIVE_CHANS 4u

struct srv_drive {
	const uint8_t *at;
	size_t left;
	struct vmbus_srv *srv;
	void *storage;
	struct srv_shadow shadow;
	uint32_t lists; /* that are not given back */
	uint32_t steps;
	const char *trouble;
};

static inline uint32_t drive_byte(struct srv_drive *d)
{
	if (!d->left)
		return 0;
	d->left--;
	return *d->at++;
}

static inline uint64_t *drive_list_get(void *ctx, uint32_t qwords)
{
	struct srv_drive *const d = ctx;

	if (d->lists >= 6)
		return NULL;
	d->lists++;
	return malloc(qwords * sizeof(uint64_t)); /* exact, so that a sanitizer sees its end */
}

static inline void drive_list_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	struct srv_drive *const d = ctx;

	(void)qwords;
	d->lists--;
	free(list);
}

static inline void drive_complain(struct srv_drive *d, const char *what)
{
	if (!d->trouble)
		d->trouble = what;
}

static inline void drive_check(struct srv_drive *d)
{
	const char *wrong = srv_check(d->srv);

	if (wrong)
		drive_complain(d, wrong);
	wrong = shadow_check(&d->shadow, d->srv);
	if (wrong)
		drive_complain(d, wrong);
	if (d->srv->replies > d->srv->opts.queue_max + 4u + d->srv->opts.gpadls_max * 2u +
				      d->srv->opts.chans_max * 3u + d->srv->opts.tl_max)
		drive_complain(d, "more replies than requests can be open");
}

static inline void drive_begin(struct srv_drive *d, const uint8_t *at, size_t left)
{
	struct vmbus_srv_opts o;
	uint32_t byte;

	memset(d, 0, sizeof(*d));
	d->at = at;
	d->left = left;
	byte = drive_byte(d);
	memset(&o, 0, sizeof(o));
	o.struct_bytes = sizeof(o);
	o.chans_max = 1 + byte % DRIVE_CHANS;
	o.gpadls_max = 1 + byte / 4 % 8;
	o.gpadls_unfinished_max = 1 + byte / 32 % 3;
	o.gpadl_bytes_max = 100 * 4096;
	o.queue_max = 1 + byte / 64;
	o.tl_max = 2;
	o.version_max = VMBUS_PROTO_6_0;
	o.features = 0x2f;
	o.list_get = drive_list_get;
	o.list_put = drive_list_put;
	o.list_ctx = d;
	d->storage = aligned_alloc(16, (vmbus_srv_bytes(&o) + 15) / 16 * 16);
	if (!d->storage || vmbus_srv_init(d->storage, vmbus_srv_bytes(&o), &o, &d->srv))
		drive_complain(d, "init");
}

static inline bool drive_take(struct srv_drive *d, bool local)
{
	struct vmbus_srv_action a;
	const char *wrong;

	if (!(local ? vmbus_srv_next_local(d->srv, &a) : vmbus_srv_next(d->srv, &a)))
		return false;
	if (a.act == VMBUS_SRV_SEND) {
		wrong = shadow_sent(&d->shadow, d->srv, &a);
		if (wrong)
			drive_complain(d, wrong);
		if (local)
			drive_complain(d, "next_local gave a message");
	}
	return true;
}

static inline void drive_post(struct srv_drive *d, uint32_t conn_id, const uint8_t *bytes,
			      size_t len)
{
	const struct srv_shadow before = d->shadow;
	const uint64_t refused = d->srv->refusal.count;
	struct vmbus_ctl ctl;
	uint8_t *const copy = malloc(len + 1);
	int err;

	memcpy(copy, bytes, len);
	if (len <= VMBUS_CTL_BYTES_MAX &&
	    vmbus_ctl_decode(copy, len, d->srv->version, d->srv->features, &ctl) == 0)
		shadow_message(&d->shadow, d->srv, &ctl);
	err = vmbus_srv_message(d->srv, conn_id, copy, len);
	if (err)
		d->shadow = before;
	if (err && d->srv->refusal.count != refused)
		drive_complain(d, "an error that also counts as refused");
	if (err && err != VMBUS_E_AGAIN && err != VMBUS_E_INVAL)
		drive_complain(d, "an error that vmbus_srv_message() has not");
	free(copy);
}

static const uint32_t drive_versions[8] = { VMBUS_PROTO_5_3, VMBUS_PROTO_6_0, VMBUS_PROTO_2_4,
					    VMBUS_PROTO_4_0, VMBUS_PROTO_4_1, VMBUS_PROTO_5_0,
					    0x30001,	     VMBUS_PROTO_3_0 };

/* A message of type with small numbers in all the places that matter. */
static inline void drive_message(struct srv_drive *d, uint32_t type)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	struct vmbus_ctl ctl;
	uint32_t i, relid, number;
	int len;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = type;
	i = drive_byte(d);
	relid = i % 6;
	number = i / 6 % 4;
	switch (type) {
	case VMBUS_CTL_CONTACT:
		ctl.u.contact.version = drive_versions[i % 8];
		ctl.u.contact.features = drive_byte(d);
		ctl.u.contact.has_client_id = ctl.u.contact.features >> 3 & 1;
		ctl.u.contact.target_sint = i / 8 % 8 == 7 ? 5 : 2;
		break;
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESERVED:
		ctl.u.open.relid = relid;
		ctl.u.open.gpadl = number;
		ctl.u.open.open_id = i;
		ctl.u.open.downstream_page = i >= 240 ? i : 2;
		ctl.u.open.conn_id = 0x2000 + i % 12;
		ctl.u.open.event_flag = (uint16_t)(i % 7);
		ctl.u.open.target_sint = 3;
		ctl.u.open.target_vp = i % 5 ? 0 : VMBUS_VP_NONE;
		break;
	case VMBUS_CTL_GPADL_HEADER:
		ctl.u.gpadl.relid = relid;
		ctl.u.gpadl.gpadl = number;
		ctl.u.gpadl.range_count = i >= 250 ? i - 250 : 1;
		ctl.u.gpadl.range_bytes = 40 + (i / 24 % 3) * 16;
		ctl.u.gpadl.count = i / 72 % 3 ? 5 : 3;
		ctl.u.gpadl.qwords[0] = (4 + i / 24 % 3 * 2) * 4096ull;
		break;
	case VMBUS_CTL_GPADL_BODY:
		ctl.u.gpadl.gpadl = number;
		ctl.u.gpadl.count = 1 + relid;
		ctl.u.gpadl.qwords[0] = i >= 250 ? UINT64_MAX : i;
		break;
	case VMBUS_CTL_GPADL_TEARDOWN:
		ctl.u.created.relid = relid;
		ctl.u.created.gpadl = number;
		break;
	case VMBUS_CTL_MODIFY:
		ctl.u.modify.relid = relid;
		ctl.u.modify.target_vp = number == 3 ? VMBUS_VP_NONE : number;
		break;
	case VMBUS_CTL_TL_CONNECT:
		ctl.u.tl.endpoint_id.b[0] = (uint8_t)(i % 5);
		ctl.u.tl.service_id.b[0] = 0x55;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION:
		ctl.u.connection.monitor_p2c = i & 1;
		ctl.u.connection.monitor_c2p = i >> 1 & 1;
		break;
	default:
		ctl.u.chan.relid = relid;
		ctl.u.chan.target_sint = 4;
		break;
	}
	len = vmbus_ctl_encode(&ctl, d->srv->version ? d->srv->version : VMBUS_PROTO_6_0,
			       d->srv->features | 0x24, bytes, sizeof(bytes));
	if (len > 0)
		drive_post(d, type == VMBUS_CTL_CONTACT && i % 8 != 2 ? 4 : 1, bytes, (size_t)len);
}

static inline void drive_raw(struct srv_drive *d)
{
	uint8_t bytes[256];
	const uint32_t type = drive_byte(d);
	size_t len = drive_byte(d), i;

	memset(bytes, 0, sizeof(bytes));
	bytes[0] = (uint8_t)type;
	for (i = 8; i < len && d->left; i++)
		bytes[i] = (uint8_t)drive_byte(d);
	drive_post(d, len % 3 ? 1 : 4, bytes, len);
}

static inline void drive_offer(struct srv_drive *d)
{
	const uint32_t byte = drive_byte(d);
	struct vmbus_offer offer;
	struct vmbus_srv_ref ref;

	memset(&offer, 0, sizeof(offer));
	offer.monitor_id = VMBUS_MONITOR_NONE;
	offer.class_id.b[0] = byte & 8 ? 0x55 : 0xcc;
	offer.instance_id.b[0] = (uint8_t)(byte % 5);
	offer.sub_index = (uint16_t)(byte / 16 % 3);
	offer.order = byte / 64;
	offer.flags = byte & 8 ? VMBUS_OFFER_TLNPI : 0;
	(void)vmbus_srv_offer(d->srv, &offer, &ref);
}

static inline void drive_device(struct srv_drive *d, uint32_t what)
{
	const uint32_t byte = drive_byte(d);
	const struct vmbus_srv_ref chan = { byte % d->srv->opts.chans_max,
					    d->srv->chans[byte % d->srv->opts.chans_max].gen };
	const struct vmbus_srv_ref list = { byte % d->srv->opts.gpadls_max,
					    d->srv->lists[byte % d->srv->opts.gpadls_max].gen };
	struct vmbus_ctl_tl tl;

	switch (what) {
	case 0:
		(void)vmbus_srv_opened(d->srv, chan, byte / 8 % 3 == 2 ? 5 : 0);
		break;
	case 1:
		(void)vmbus_srv_closed(d->srv, chan);
		break;
	case 2:
		(void)vmbus_srv_gpadl_ready(d->srv, list, byte / 8 % 4 == 3 ? 5 : 0);
		break;
	case 3:
		(void)vmbus_srv_gpadl_gone(d->srv, list);
		break;
	case 4:
		(void)vmbus_srv_modified(d->srv, chan, byte >> 7);
		break;
	case 5:
		(void)vmbus_srv_connection_modified(d->srv, byte >> 7);
		break;
	case 6:
		(void)vmbus_srv_revoke(d->srv, chan);
		break;
	case 7:
		(void)vmbus_srv_reoffer(d->srv, chan);
		break;
	default:
		memset(&tl, 0, sizeof(tl));
		tl.endpoint_id.b[0] = (uint8_t)(byte % 5);
		tl.service_id.b[0] = 0x55;
		(void)vmbus_srv_tl_refuse(d->srv, &tl, byte);
		break;
	}
}

static inline void drive_disconnect(struct srv_drive *d)
{
	uint32_t i;

	vmbus_srv_disconnect(d->srv);
	memset(&d->shadow, 0, sizeof(d->shadow));
	for (i = 0; i < d->srv->opts.chans_max; i++)
		d->shadow.reserved[shadow_relid(i + 1)].may =
			(uint8_t)(d->shadow.reserved[shadow_relid(i + 1)].may +
				  d->srv->chans[i].reserved_reply);
}

/* One step; false when the stream is at its end or something is wrong. */
static inline bool drive_step(struct srv_drive *d)
{
	static const uint8_t types[] = {
		VMBUS_CTL_CONTACT,
		VMBUS_CTL_REQUEST_OFFERS,
		VMBUS_CTL_GPADL_HEADER,
		VMBUS_CTL_OPEN,
		VMBUS_CTL_CLOSE,
		VMBUS_CTL_GPADL_BODY,
		VMBUS_CTL_GPADL_TEARDOWN,
		VMBUS_CTL_RELID_RELEASED,
		VMBUS_CTL_MODIFY,
		VMBUS_CTL_GPADL_HEADER,
		VMBUS_CTL_OPEN,
		VMBUS_CTL_GPADL_HEADER,
		VMBUS_CTL_UNLOAD,
		VMBUS_CTL_PAUSE,
		VMBUS_CTL_RESUME,
		VMBUS_CTL_OPEN_RESERVED,
		VMBUS_CTL_CLOSE_RESERVED,
		VMBUS_CTL_TL_CONNECT,
		VMBUS_CTL_MODIFY_CONNECTION,
		VMBUS_CTL_GPADL_BODY,
	};
	const uint32_t ntypes = sizeof(types) / sizeof(types[0]);
	uint32_t op, n;

	if (!d->left || d->trouble)
		return false;
	op = drive_byte(d) % 64u;
	if (op < ntypes) {
		drive_message(d, types[op]);
	} else if (op < ntypes + 9) {
		drive_device(d, op - ntypes);
	} else if (op < ntypes + 13) {
		drive_device(d, op - ntypes - 9);
	} else if (op < ntypes + 16) {
		drive_offer(d);
	} else if (op == ntypes + 16) {
		drive_disconnect(d);
	} else if (op == ntypes + 17) {
		drive_raw(d);
	} else if (op == ntypes + 18) {
		(void)drive_take(d, true);
	} else {
		for (n = op - ntypes - 18; n > 0; n--)
			if (!drive_take(d, false))
				break;
	}
	d->steps++;
	drive_check(d);
	return !d->trouble;
}

/*
 * The end: every device answers everything, and the child is told all; then nobody is owed anything
 * but for page lists that it has not finished and rings that it has not closed.
 */
static inline void drive_finish(struct srv_drive *d)
{
	uint32_t round, i;

	for (round = 0; round < 200 && !d->trouble; round++) {
		bool moved = false;

		if (round == 100)
			drive_disconnect(d); /* and the same without a child */
		while (drive_take(d, false))
			moved = true;
		for (i = 0; i < d->srv->opts.chans_max; i++) {
			const struct vmbus_srv_ref chan = { i, d->srv->chans[i].gen };

			moved |= vmbus_srv_opened(d->srv, chan, 0) == 0;
			moved |= vmbus_srv_closed(d->srv, chan) == 0;
			moved |= vmbus_srv_modified(d->srv, chan, 0) == 0;
		}
		for (i = 0; i < d->srv->opts.gpadls_max; i++) {
			const struct vmbus_srv_ref list = { i, d->srv->lists[i].gen };

			moved |= vmbus_srv_gpadl_ready(d->srv, list, 0) == 0;
			moved |= vmbus_srv_gpadl_gone(d->srv, list) == 0;
		}
		moved |= vmbus_srv_connection_modified(d->srv, 0) == 0;
		drive_check(d);
		if (!moved && round < 100)
			round = 99;
		else if (!moved)
			break;
	}
	if (d->srv->head[SIDE_CHILD] != NIL && !d->srv->hold)
		drive_complain(d, "output is left");
	if (d->srv->conn != CONN_OFF || d->srv->away)
		drive_complain(d, "the machine does not come to rest");
	for (i = 0; i < d->srv->opts.gpadls_max; i++)
		if (d->srv->lists[i].state != L_FREE &&
		    !d->srv->chans[d->srv->lists[i].chan].survives)
			drive_complain(d, "a page list of a child that is gone");
}

static inline void drive_end(struct srv_drive *d)
{
	vmbus_srv_fini(d->srv);
	if (d->lists)
		drive_complain(d, "page lists were not given back");
	free(d->storage);
}

#endif
