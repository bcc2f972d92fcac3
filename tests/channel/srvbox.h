/* SPDX-License-Identifier: MIT */
/*
 * A host machine in a box: storage, memory for page lists that is counted, messages of a child made
 * from structs, and a check of every invariant after each call.
 */
#ifndef SRVBOX_H
#define SRVBOX_H

#include <stdlib.h>
#include <string.h>

#include "srv_check.h"
#include "vmbus_test.h"

#define SRVBOX_FEATURES                                                                            \
	(VMBUS_FEATURE_SIGNAL_PARAMS | VMBUS_FEATURE_REDIRECT | VMBUS_FEATURE_MODIFY_CONNECTION |  \
	 VMBUS_FEATURE_CLIENT_ID | VMBUS_FEATURE_PAUSE)

struct srvbox {
	struct vmbus_srv_opts opts;
	void *storage;
	size_t bytes;
	struct vmbus_srv *srv;
	struct vmbus_srv_action act; /* the last one taken */
	struct vmbus_ctl got;	     /* its message, decoded, if it is one */
	uint32_t lists;		     /* page lists that are not given back */
	uint64_t list_qwords;
	bool no_lists; /* list_get says no */
	struct srv_shadow shadow;
	bool use_shadow;
};

static inline uint64_t *srvbox_list_get(void *ctx, uint32_t qwords)
{
	struct srvbox *const box = ctx;
	uint64_t *list;

	if (box->no_lists)
		return NULL;
	must(qwords > 0 && qwords < 8192);
	list = malloc(qwords * sizeof(uint64_t));
	must(list);
	box->lists++;
	box->list_qwords += qwords;
	return list;
}

static inline void srvbox_list_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	struct srvbox *const box = ctx;

	must(box->lists > 0 && box->list_qwords >= qwords);
	box->lists--;
	box->list_qwords -= qwords;
	free(list);
}

static inline void srvbox_check(struct srvbox *box)
{
	const char *wrong = srv_check(box->srv);

	if (!wrong && box->use_shadow)
		wrong = shadow_check(&box->shadow, box->srv);
	if (wrong)
		ck_abort_msg("%s (%s)", wrong, vmbus_test_where);
}

/* Options as the test wants them; what it leaves 0 is small. */
static inline struct srvbox *srvbox_new(const struct vmbus_srv_opts *wanted)
{
	struct srvbox *const box = calloc(1, sizeof(*box));

	must(box);
	if (wanted)
		box->opts = *wanted;
	box->opts.struct_bytes = sizeof(box->opts);
	if (!box->opts.chans_max)
		box->opts.chans_max = 8;
	box->opts.list_get = srvbox_list_get;
	box->opts.list_put = srvbox_list_put;
	box->opts.list_ctx = box;
	box->bytes = vmbus_srv_bytes(&box->opts);
	must(box->bytes);
	box->storage = aligned_alloc(16, (box->bytes + 15) / 16 * 16);
	must(box->storage);
	must_eq(vmbus_srv_init(box->storage, box->bytes, &box->opts, &box->srv), 0);
	box->use_shadow = true;
	srvbox_check(box);
	return box;
}

static inline void srvbox_free(struct srvbox *box)
{
	srvbox_check(box);
	vmbus_srv_fini(box->srv);
	must_eq(box->lists, 0);
	must_eq(box->list_qwords, 0);
	free(box->storage);
	free(box);
}

static inline int srvbox_bytes(struct srvbox *box, uint32_t conn_id, const void *bytes, size_t len)
{
	const struct srv_shadow before = box->shadow;
	struct vmbus_ctl ctl;
	int err;

	if (len <= VMBUS_CTL_BYTES_MAX &&
	    vmbus_ctl_decode(bytes, len, box->srv->version, box->srv->features, &ctl) == 0)
		shadow_message(&box->shadow, box->srv, &ctl);
	err = vmbus_srv_message(box->srv, conn_id, bytes, len);
	if (err)
		box->shadow = before;
	srvbox_check(box);
	return err;
}

/* Post a message to connection 1; version and features are those of the machine. */
static inline int srvbox_post(struct srvbox *box, const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const uint32_t version = box->srv->version ? box->srv->version : VMBUS_PROTO_6_0;
	const int len = vmbus_ctl_encode(ctl, version,
					 box->srv->features | VMBUS_FEATURE_PAUSE |
						 VMBUS_FEATURE_MODIFY_CONNECTION,
					 bytes, sizeof(bytes));

	must(len > 0);
	return srvbox_bytes(box, VMBUS_CONN_MESSAGE, bytes, (size_t)len);
}

static inline int srvbox_contact(struct srvbox *box, uint32_t version, uint32_t features)
{
	struct vmbus_ctl ctl;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	int len;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_CONTACT;
	ctl.u.contact.version = version;
	ctl.u.contact.features = features;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	ctl.u.contact.has_client_id = (features & VMBUS_FEATURE_CLIENT_ID) != 0;
	len = vmbus_ctl_encode(&ctl, 0, 0, bytes, sizeof(bytes));
	must(len > 0);
	return srvbox_bytes(box,
			    version >= VMBUS_PROTO_5_0 ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE,
			    bytes, (size_t)len);
}

/* Messages with one or two numbers. */
static inline int srvbox_say(struct srvbox *box, uint32_t type, uint32_t relid, uint32_t number)
{
	struct vmbus_ctl ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = type;
	ctl.u.chan.relid = relid;
	if (type == VMBUS_CTL_MODIFY)
		ctl.u.modify.target_vp = number;
	else if (type == VMBUS_CTL_GPADL_TEARDOWN)
		ctl.u.created.gpadl = number;
	else if (type == VMBUS_CTL_CLOSE_RESERVED) {
		ctl.u.chan.target_vp = number;
		ctl.u.chan.target_sint = 5;
	}
	return srvbox_post(box, &ctl);
}

static inline int srvbox_say_open(struct srvbox *box, uint32_t relid, uint32_t gpadl, uint32_t page)
{
	struct vmbus_ctl ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_OPEN;
	ctl.u.open.relid = relid;
	ctl.u.open.open_id = relid + 100;
	ctl.u.open.gpadl = gpadl;
	ctl.u.open.downstream_page = page;
	ctl.u.open.conn_id = 0x2000 + relid;
	ctl.u.open.event_flag = (uint16_t)relid;
	return srvbox_post(box, &ctl);
}

static inline int srvbox_say_open_reserved(struct srvbox *box, uint32_t relid, uint32_t gpadl,
					   uint32_t page)
{
	struct vmbus_ctl ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_OPEN_RESERVED;
	ctl.u.open.relid = relid;
	ctl.u.open.gpadl = gpadl;
	ctl.u.open.target_vp = 3;
	ctl.u.open.target_sint = 5;
	ctl.u.open.downstream_page = page;
	return srvbox_post(box, &ctl);
}

/* A HEADER for one range of whole pages with the first page numbers, as many as send says. */
static inline int srvbox_say_header(struct srvbox *box, uint32_t relid, uint32_t gpadl,
				    uint32_t pages, uint32_t send)
{
	struct vmbus_ctl ctl;
	uint32_t i;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_GPADL_HEADER;
	ctl.u.gpadl.relid = relid;
	ctl.u.gpadl.gpadl = gpadl;
	ctl.u.gpadl.range_bytes = 8 + pages * 8;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.count = 1 + send;
	ctl.u.gpadl.qwords[0] = pages * 4096ull;
	for (i = 0; i < send; i++)
		ctl.u.gpadl.qwords[1 + i] = 0x1000 + i;
	return srvbox_post(box, &ctl);
}

static inline int srvbox_say_body(struct srvbox *box, uint32_t gpadl, uint32_t count)
{
	struct vmbus_ctl ctl;
	uint32_t i;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_GPADL_BODY;
	ctl.u.gpadl.gpadl = gpadl;
	ctl.u.gpadl.count = count;
	for (i = 0; i < count; i++)
		ctl.u.gpadl.qwords[i] = 0x2000 + i;
	return srvbox_post(box, &ctl);
}

/* What came with an action, looked at by shadow and decoder; returns act, 0 when there is none. */
static inline uint32_t srvbox_look(struct srvbox *box, int any)
{
	const char *wrong = NULL;

	if (!any)
		return 0;
	if (box->act.act == VMBUS_SRV_SEND) {
		must(box->act.len >= 8);
		if (box->use_shadow)
			wrong = shadow_sent(&box->shadow, box->srv, &box->act);
		if (wrong)
			ck_abort_msg("%s (%s)", wrong, vmbus_test_where);
		must_eq(vmbus_ctl_decode(box->act.bytes, box->act.len,
					 box->act.ctl_type == VMBUS_CTL_VERSION_RESPONSE ||
							 box->act.ctl_type ==
								 VMBUS_CTL_CLOSE_RESERVED_RESPONSE
						 ? 0
						 : box->srv->wire_version,
					 box->srv->features, &box->got),
			0);
	}
	srvbox_check(box);
	return box->act.act;
}

static inline uint32_t srvbox_take(struct srvbox *box)
{
	return srvbox_look(box, vmbus_srv_next(box->srv, &box->act));
}

static inline uint32_t srvbox_take_local(struct srvbox *box)
{
	return srvbox_look(box, vmbus_srv_next_local(box->srv, &box->act));
}

/* The next action must be this message. */
static inline const struct vmbus_ctl *srvbox_expect(struct srvbox *box, uint32_t type)
{
	must_eq(srvbox_take(box), VMBUS_SRV_SEND);
	must_eq(box->act.ctl_type, type);
	return &box->got;
}

static inline void srvbox_expect_nothing(struct srvbox *box)
{
	must_eq(srvbox_take(box), 0);
}

/* Contact, version, offers asked for; everything taken. */
static inline void srvbox_connect(struct srvbox *box, uint32_t version, uint32_t features)
{
	must_eq(srvbox_contact(box, version, features), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	must(srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE)->u.version.supported);
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	while (srvbox_take(box))
		must_eq(box->act.act, VMBUS_SRV_SEND);
	must_eq(box->act.ctl_type, VMBUS_CTL_ALL_OFFERS);
}

static inline struct vmbus_offer srvbox_offer_of(uint8_t number)
{
	struct vmbus_offer offer;

	memset(&offer, 0, sizeof(offer));
	offer.class_id.b[0] = 0xcc;
	offer.instance_id.b[0] = number;
	offer.monitor_id = VMBUS_MONITOR_NONE;
	return offer;
}

static inline struct vmbus_srv_ref srvbox_offer(struct srvbox *box, uint8_t number)
{
	const struct vmbus_offer offer = srvbox_offer_of(number);
	struct vmbus_srv_ref ref;

	must_eq(vmbus_srv_offer(box->srv, &offer, &ref), 0);
	srvbox_check(box);
	return ref;
}

/* A page list that was described, looked at and accepted; returns its ref. */
static inline struct vmbus_srv_ref srvbox_gpadl(struct srvbox *box, uint32_t relid, uint32_t gpadl,
						uint32_t pages)
{
	struct vmbus_srv_ref list;

	must_eq(srvbox_say_header(box, relid, gpadl, pages, pages), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	list = box->act.list;
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, 0);
	return list;
}

/* A channel with rings of 8 pages, open. */
static inline void srvbox_open(struct srvbox *box, struct vmbus_srv_ref chan, uint32_t gpadl)
{
	(void)srvbox_gpadl(box, chan.slot + 1, gpadl, 8);
	must_eq(srvbox_say_open(box, chan.slot + 1, gpadl, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, 0);
}

static inline uint32_t srvbox_state(struct srvbox *box, struct vmbus_srv_ref chan)
{
	struct vmbus_srv_info info;

	return vmbus_srv_info(box->srv, chan.slot, &info) ? info.state : (uint32_t)VMBUS_SRV_FREE;
}

#endif
