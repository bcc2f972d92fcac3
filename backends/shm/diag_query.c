/* SPDX-License-Identifier: MIT */
/*
 * The client's half of DIAG and RECORDS.  The parent is not believed: what it sends is checked, and
 * what is kept of it is bounded.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>

#include "shm/diag_proto.h"
#include "shm/sys.h"

#include <vmbus/shm_bus.h>

#define TIMEOUT_DEFAULT_NS 5000000000u
#define RECORD_MAX ((uint64_t)64 << 20)

/* What is told so far, and to whom to tell it. */
struct asker {
	const struct vmbus_shm_diag_ops *ops;
	vmbus_shm_record_fn *record;
	void *ctx;
	struct vmbus__shm_msg child; /* told last; the bus's line is still to come, if at all */
	bool named;		     /* it is open: its bus was told, or its record is coming */
	bool waits;		     /* for the line of its bus */
	uint32_t children;
	uint32_t channels;
	uint8_t *mem; /* of the record that is coming */
	uint64_t have;
	uint64_t total;
};

static struct vmbus_shm_child_info info_of(const struct asker *a)
{
	const struct vmbus__shm_child_line *const line = &a->child.u.child;

	return (struct vmbus_shm_child_info){ .name = line->name,
					      .pid = line->pid,
					      .vps = line->vps,
					      .memory_bytes = line->memory,
					      .ending = line->state != 0 };
}

/* A record is whole, or there is none; it goes to the caller and is forgotten. */
static int end_child(struct asker *a)
{
	const struct vmbus_shm_child_info info = info_of(a);
	const bool whole = a->have == a->total;

	if (!a->named)
		return 0;
	if (a->waits)
		return VMBUS_E_PEER; /* a child without its bus */
	if (a->record && whole)
		a->record(a->ctx, &info, a->mem, (size_t)a->total);
	free(a->mem);
	a->mem = NULL;
	a->have = a->total = 0;
	a->named = false;
	return whole ? 0 : VMBUS_E_PEER;
}

static int take_part(struct asker *a, const struct vmbus__dg_part *part)
{
	if (!a->named || part->offset != a->have || part->bytes == 0)
		return VMBUS_E_PEER;
	if (a->have == 0) {
		if (part->total > RECORD_MAX)
			return VMBUS_E_PEER;
		a->total = part->total;
		a->mem = aligned_alloc(64, (size_t)(part->total + 63u) / 64u * 64u);
		if (!a->mem)
			return VMBUS_E_NOMEM;
	}
	if (part->total != a->total)
		return VMBUS_E_PEER;
	memcpy(a->mem + a->have, part->data, part->bytes);
	a->have += part->bytes;
	return 0;
}

static int take_diag(struct asker *a, const struct vmbus__shm_record *record)
{
	struct vmbus__dg_msg msg;
	struct vmbus_shm_child_info info;
	const int err = vmbus__dg_decode(record->bytes, record->len, &msg);

	if (err)
		return err == VMBUS_E_NOTSUP ? err : VMBUS_E_PEER;
	if (msg.type == VMBUS_DG_PART)
		return a->record ? take_part(a, &msg.part) : VMBUS_E_PEER;
	if (!a->ops || !a->named)
		return VMBUS_E_PEER;
	if (msg.type == VMBUS_DG_BUS && a->waits) {
		a->waits = false;
		info = info_of(a);
		msg.bus.name = info.name;
		if (a->ops->bus)
			a->ops->bus(a->ctx, &info, &msg.bus);
		return 0;
	}
	if (msg.type != VMBUS_DG_CHAN || a->waits)
		return VMBUS_E_PEER;
	if (a->ops->channel)
		a->ops->channel(a->ctx, &msg.chan);
	a->channels++;
	return 0;
}

/*
 * Why the parent refused.  MESSAGE says that it does not know these queries, or, from an earlier
 * version and behind lines that it told, that they were not taken in time.
 */
static int refusal(const struct asker *a, uint32_t code)
{
	switch (code) {
	case VMBUS_SHM_CODE_VERSION:
		return VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_MESSAGE:
		return a->children ? VMBUS_E_AGAIN : VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_LATE:
		return VMBUS_E_AGAIN;
	default:
		return VMBUS_E_PERM;
	}
}

/* One line.  Returns 1 at the end, 0 when more is to come. */
static int take_line(struct asker *a, const struct vmbus__shm_record *record)
{
	struct vmbus__shm_msg msg;
	int err;

	if (record->cut || record->fd_count)
		return VMBUS_E_PEER;
	if (vmbus__dg_type_of(record->bytes, record->len))
		return take_diag(a, record);
	err = vmbus__shm_decode(record->bytes, record->len, &msg);
	if (err)
		return err == VMBUS_E_NOTSUP ? err : VMBUS_E_PEER;
	switch (msg.type) {
	case VMBUS_SHM_CHILD:
		err = end_child(a);
		a->child = msg;
		a->named = true;
		a->waits = a->ops != NULL;
		a->children++;
		return err;
	case VMBUS_SHM_LIST_END:
		err = end_child(a);
		if (err)
			return err;
		return msg.u.end.children == a->children && msg.u.end.channels == a->channels
			       ? 1
			       : VMBUS_E_PEER;
	case VMBUS_SHM_REFUSED:
		return refusal(a, msg.u.text.code);
	default:
		return VMBUS_E_PEER;
	}
}

static int ask(const char *path, uint64_t timeout_ns, uint32_t query, struct asker *a)
{
	const uint64_t wait_ns = timeout_ns ? timeout_ns : TIMEOUT_DEFAULT_NS;
	const uint64_t end = vmbus__shm_in_ns(wait_ns);
	const struct vmbus__dg_msg msg = { .type = query };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	struct vmbus__shm_record record;
	int sock, err;

	sock = vmbus__shm_connect(path, wait_ns);
	if (sock < 0)
		return sock;
	err = vmbus__shm_send_bytes(sock, bytes, vmbus__dg_encode(&msg, bytes), NULL, 0);
	while (!err) {
		err = vmbus__shm_recv_until(sock, end, &record);
		if (err)
			break;
		err = take_line(a, &record);
		vmbus__shm_record_close(&record);
		if (!err && vmbus__shm_now_ns() > end)
			err = VMBUS_E_AGAIN;
	}
	free(a->mem);
	vmbus__shm_close(&sock);
	return err;
}

int vmbus_shm_diag(const char *path, uint64_t timeout_ns, const struct vmbus_shm_diag_ops *ops,
		   void *ctx)
{
	struct asker a = { .ops = ops, .ctx = ctx };
	int err;

	if (!ops || ops->struct_bytes < sizeof(*ops))
		return VMBUS_E_INVAL;
	err = ask(path, timeout_ns, VMBUS_DG_DIAG, &a);
	return err == 1 ? (int)a.channels : err;
}

int vmbus_shm_records(const char *path, uint64_t timeout_ns, vmbus_shm_record_fn *fn, void *ctx)
{
	struct asker a = { .record = fn, .ctx = ctx };
	int err;

	if (!fn)
		return VMBUS_E_INVAL;
	err = ask(path, timeout_ns, VMBUS_DG_RECORDS, &a);
	return err == 1 ? (int)a.children : err;
}
