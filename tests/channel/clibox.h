/* SPDX-License-Identifier: MIT */
/*
 * A client machine in storage of exactly its size, the hand of a parent that says what the test
 * wants, and a check of everything that must hold between two calls.
 */
#ifndef VMBUS_TESTS_CHANNEL_CLIBOX_H
#define VMBUS_TESTS_CHANNEL_CLIBOX_H

#include "channel/cli_machine.h"
#include "vmbus_test.h"
#include "cli_check.h"

struct clibox {
	void *storage;
	size_t bytes;
	struct vmbus_cli *cli;
	struct vmbus_cli_opts opts;
	struct vmbus_cli_action act; /* the last one taken */
};

static const struct vmbus_guid clibox_class =
	VMBUS_GUID(0x6b3f2d51, 0x4e0a, 0x4c77, 0x9a, 0x10, 0x5e, 0x21, 0x88, 0x04, 0x6d, 0x3c);

static inline void clibox_open(struct clibox *b, const struct vmbus_cli_opts *opts)
{
	memset(b, 0, sizeof(*b));
	if (opts)
		b->opts = *opts;
	b->opts.struct_bytes = sizeof(b->opts);
	b->bytes = vmbus_cli_bytes(&b->opts);
	must(b->bytes > 0);
	b->storage = aligned_alloc(16, b->bytes);
	must(b->storage != NULL);
	memset(b->storage, 0xa5, b->bytes);
	must_eq(vmbus_cli_init(b->storage, b->bytes, &b->opts, &b->cli), 0);
}

static inline void clibox_close(struct clibox *b)
{
	cli_check_relids(b->cli);
	free(b->storage);
}

/* The instance of a device of the test's: n. */
static inline struct vmbus_guid clibox_instance(uint32_t n)
{
	struct vmbus_guid id = { { 0xd0 } };

	id.b[1] = (uint8_t)n;
	id.b[2] = (uint8_t)(n >> 8);
	return id;
}

static inline int clibox_say(struct clibox *b, const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const int len =
		vmbus_ctl_encode(ctl, b->cli->version, b->cli->features, bytes, sizeof(bytes));

	must(len > 0);
	return vmbus_cli_message(b->cli, bytes, (size_t)len);
}

/* A message of at most three numbers behind its header, as the type has them in struct vmbus_ctl. */
static inline int clibox_say3(struct clibox *b, uint32_t type, uint32_t x, uint32_t y, uint32_t z)
{
	struct vmbus_ctl ctl = { .type = type };

	switch (type) {
	case VMBUS_CTL_OPEN_RESULT:
		ctl.u.result.relid = x;
		ctl.u.result.open_id = y;
		ctl.u.result.status = z;
		break;
	case VMBUS_CTL_GPADL_CREATED:
	case VMBUS_CTL_GPADL_TORNDOWN:
		ctl.u.created.relid = x;
		ctl.u.created.gpadl = y;
		ctl.u.created.status = z;
		break;
	case VMBUS_CTL_MODIFY_RESPONSE:
		ctl.u.modify.relid = x;
		ctl.u.modify.status = z;
		break;
	case VMBUS_CTL_VERSION_RESPONSE:
		ctl.u.version.supported = (uint8_t)x;
		ctl.u.version.conn_id = y;
		ctl.u.version.features = z;
		ctl.u.version.form = z ? 20 : 16;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		ctl.u.connection.state = x;
		break;
	default:
		ctl.u.chan.relid = x;
		break;
	}
	return clibox_say(b, &ctl);
}

static inline int clibox_offer(struct clibox *b, uint32_t relid, uint32_t instance,
			       uint16_t sub_index)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OFFER };

	ctl.u.offer.class_id = clibox_class;
	ctl.u.offer.instance_id = clibox_instance(instance);
	ctl.u.offer.relid = relid;
	ctl.u.offer.sub_index = sub_index;
	ctl.u.offer.monitor_id = VMBUS_MONITOR_NONE;
	ctl.u.offer.dedicated = 1;
	ctl.u.offer.conn_id = 0x10000 + relid;
	return clibox_say(b, &ctl);
}

/* The next action must be of this kind. */
static inline void clibox_take_at(struct clibox *b, uint32_t act, const char *file, int line)
{
	const int got = vmbus_cli_next(b->cli, &b->act);

	if (got != (act ? 1 : 0) || b->act.act != act)
		ck_abort_msg("%s:%d: action %u wanted, got %d: %u, message %s (%s)", file, line,
			     act, got, b->act.act, vmbus_ctl_type_name(b->act.ctl_type),
			     vmbus_test_where);
}
#define clibox_take(b, act) clibox_take_at(b, act, __FILE__, __LINE__)

/* The next action must be this message, and the hypercall answers with the status. */
static inline void clibox_post_at(struct clibox *b, uint32_t type, uint32_t status,
				  const char *file, int line)
{
	clibox_take_at(b, VMBUS_CLI_POST, file, line);
	if (b->act.ctl_type != type)
		ck_abort_msg("%s:%d: message %s wanted, got %s (%s)", file, line,
			     vmbus_ctl_type_name(type), vmbus_ctl_type_name(b->act.ctl_type),
			     vmbus_test_where);
	must_eq(vmbus_cli_posted(b->cli, status), 0);
}
#define clibox_post(b, type, status) clibox_post_at(b, type, status, __FILE__, __LINE__)

/* The message of the action just taken. */
static inline struct vmbus_ctl clibox_posted(struct clibox *b)
{
	struct vmbus_ctl ctl;

	must_eq(b->act.act, VMBUS_CLI_POST);
	must_eq(vmbus_ctl_decode(b->act.bytes, b->act.len, b->cli->version, b->cli->features, &ctl),
		0);
	must_eq(ctl.type, b->act.ctl_type);
	return ctl;
}

/* Connected at the first version tried, REQUEST_OFFERS posted. */
static inline void clibox_connect(struct clibox *b)
{
	must_eq(vmbus_cli_connect(b->cli), 0);
	clibox_post(b, VMBUS_CTL_CONTACT, 0);
	must_eq(clibox_say3(b, VMBUS_CTL_VERSION_RESPONSE, 1, VMBUS_CONN_MESSAGE, b->opts.features),
		0);
	clibox_take(b, VMBUS_CLI_CONNECTED);
	clibox_post(b, VMBUS_CTL_REQUEST_OFFERS, 0);
	clibox_take(b, 0);
}

/* Connected, with channels of relids 1 to n and instances of the same numbers. */
static inline void clibox_connect_n(struct clibox *b, uint32_t n)
{
	uint32_t i;

	clibox_connect(b);
	for (i = 1; i <= n; i++) {
		must_eq(clibox_offer(b, i, i, 0), 0);
		clibox_take(b, VMBUS_CLI_OFFERED);
	}
	must_eq(clibox_say3(b, VMBUS_CTL_ALL_OFFERS, 0, 0, 0), 0);
	clibox_take(b, VMBUS_CLI_ALL_OFFERED);
	clibox_take(b, 0);
}

/* The channel with a relid. */
static inline struct vmbus_cli_info clibox_info(struct clibox *b, uint32_t relid)
{
	struct vmbus_cli_info info;
	uint32_t slot;

	for (slot = 0; slot < b->cli->opts.chans_max; slot++)
		if (vmbus_cli_info(b->cli, slot, &info) == 1 && info.offer.relid == relid)
			return info;
	ck_abort_msg("no channel with relid %u (%s)", relid, vmbus_test_where);
}

static inline struct vmbus_cli_ref clibox_chan(struct clibox *b, uint32_t relid)
{
	return clibox_info(b, relid).chan;
}

static inline uint32_t clibox_state(struct clibox *b, uint32_t relid)
{
	return clibox_info(b, relid).state;
}

static const uint64_t clibox_pfns[4] = { 0x100, 0x101, 0x102, 0x103 };

/* A page list of four pages, accepted. */
static inline struct vmbus_cli_ref clibox_gpadl(struct clibox *b, uint32_t relid)
{
	struct vmbus_cli_ref list;

	must_eq(vmbus_cli_gpadl(b->cli, clibox_chan(b, relid), clibox_pfns, 4, &list), 0);
	clibox_post(b, VMBUS_CTL_GPADL_HEADER, 0);
	must_eq(clibox_say3(b, VMBUS_CTL_GPADL_CREATED, relid, vmbus_cli_gpadl_id(b->cli, list), 0),
		0);
	clibox_take(b, VMBUS_CLI_GPADL_READY);
	must_eq(b->act.status, 0);
	must(b->act.list.slot == list.slot && b->act.list.gen == list.gen);
	return list;
}

static inline struct vmbus_cli_open clibox_rings(struct vmbus_cli_ref list)
{
	const struct vmbus_cli_open open = { .list = list, .downstream_page = 2 };

	return open;
}

/* An open channel; returns the page list of its rings. */
static inline struct vmbus_cli_ref clibox_open_chan(struct clibox *b, uint32_t relid)
{
	const struct vmbus_cli_ref list = clibox_gpadl(b, relid);
	const struct vmbus_cli_open open = clibox_rings(list);

	must_eq(vmbus_cli_open(b->cli, clibox_chan(b, relid), &open), 0);
	clibox_post(b, VMBUS_CTL_OPEN, 0);
	must_eq(clibox_say3(b, VMBUS_CTL_OPEN_RESULT, relid, clibox_posted(b).u.open.open_id, 0),
		0);
	clibox_take(b, VMBUS_CLI_OPENED);
	must_eq(b->act.status, 0);
	return list;
}

static inline struct vmbus_cli_stats clibox_stats(struct clibox *b)
{
	struct vmbus_cli_stats stats;

	vmbus_cli_stats(b->cli, &stats);
	return stats;
}

/* How many of the parent's messages were refused. */
static inline uint64_t clibox_refused(struct clibox *b)
{
	const struct vmbus_cli_stats s = clibox_stats(b);

	return s.malformed + s.out_of_order + s.unknown_chan + s.refused_offers;
}

#endif
