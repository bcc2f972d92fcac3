/* SPDX-License-Identifier: MIT */
/*
 * A partition without a child: the messages that a child would post, and its ends of the rings.  The
 * rings lie in memory of their own, far above what honest captures name, which is zero; a packet that
 * names them breaks them, and ends the replay.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "replay/replay.h"

#define RINGS_GPA ((uint64_t)1 << 46)
#define RINGS_BYTES ((uint64_t)256 << 20)
#define RING_PAGES_MAX 32768u
#define MEMORY_BYTES ((uint64_t)256 << 20)
#define MEMORY_BYTES_MAX ((uint64_t)1 << 40)
#define RUNS 1000000u
#define BUDGET 256u

static int be_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		   uint32_t bytes)
{
	struct vmbus__replay_part *const part = ctx;
	struct vmbus__replay_post *post;

	(void)vp;
	(void)sint;
	(void)type;
	if (bytes > sizeof(post->payload))
		return VMBUS_E_RANGE;
	if (part->posted == VMBUS__REPLAY_POSTS)
		return VMBUS_E_AGAIN;
	post = &part->posts[part->posted++];
	post->bytes = bytes;
	memcpy(post->payload, payload, bytes);
	return 0;
}

static int be_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	(void)ctx;
	(void)vp;
	(void)sint;
	(void)flag;
	return 0;
}

static int map(struct vmbus_region *region, uint64_t gpa, uint64_t bytes)
{
	void *const host = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (host == MAP_FAILED)
		return VMBUS_E_NOMEM;
	*region = (struct vmbus_region){
		.gpa = gpa, .bytes = bytes, .host = host, .fd = -1, .access = VMBUS_READ_WRITE
	};
	return 0;
}

static int post(struct vmbus__replay_part *part, const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX] = { 0 };
	const uint32_t conn =
		ctl->type == VMBUS_CTL_CONTACT ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE;
	const int len = vmbus_ctl_encode(ctl, VMBUS_PROTO_5_3, 0, bytes, sizeof(bytes));

	if (len < 0)
		return len;
	return vmbus_bus_post_message(part->bus, conn, VMBUS_MSG_TYPE_CTL, bytes, (uint32_t)len) ==
			       VMBUS_HC_OK
		       ? 0
		       : VMBUS_E_PEER;
}

/* Look for an answer of a type among what was posted; what is not it is of no interest. */
static bool take(struct vmbus__replay_part *part, uint32_t type, struct vmbus_ctl *answer)
{
	const bool full = part->posted == VMBUS__REPLAY_POSTS;
	struct vmbus_ctl ctl;
	bool found = false;
	uint32_t i;

	for (i = 0; i < part->posted; i++) {
		if (vmbus_ctl_decode(part->posts[i].payload, part->posts[i].bytes, VMBUS_PROTO_5_3,
				     0, &ctl))
			continue;
		if (ctl.type == VMBUS_CTL_RESCIND && ctl.u.chan.relid == part->relid)
			part->rescinded = true;
		if (ctl.type != type || found ||
		    (type == VMBUS_CTL_OFFER && ctl.u.offer.sub_index != 0))
			continue;
		*answer = ctl;
		found = true;
	}
	part->posted = 0;
	if (full)
		vmbus_bus_slot_free(part->bus, 0, VMBUS_SINT_MESSAGE);
	return found;
}

static int run(struct vmbus__replay_part *part, uint32_t type, struct vmbus_ctl *answer)
{
	struct vmbus_ctl ctl;
	bool found = false;
	uint32_t i;
	int done = 1;

	for (i = 0; i < RUNS && done; i++) {
		done = vmbus_bus_dispatch(part->bus, BUDGET);
		if (done < 0)
			return done;
		found = take(part, type, &ctl) || found;
		if (found && answer)
			*answer = ctl;
		if (found)
			answer = NULL;
	}
	return type && !found ? VMBUS_E_PEER : 0;
}

/* For an answer that the device may give only when it is let finish. */
static int await(struct vmbus__replay_part *part, uint32_t type, struct vmbus_ctl *answer)
{
	int err = run(part, type, answer);

	if (err != VMBUS_E_PEER || !part->opts->settle)
		return err;
	part->opts->settle(part->opts->ctx, part->bus);
	return run(part, type, answer);
}

int vmbus__part_run(struct vmbus__replay_part *part)
{
	return run(part, 0, NULL);
}

static int contact(struct vmbus__replay_part *part)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	int err;

	ctl.u.contact.version = VMBUS_PROTO_5_3;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	err = post(part, &ctl);
	if (!err)
		err = run(part, VMBUS_CTL_VERSION_RESPONSE, &ctl);
	if (err)
		return err;
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_REQUEST_OFFERS };
	err = post(part, &ctl);
	if (!err)
		err = run(part, VMBUS_CTL_OFFER, &ctl);
	if (err)
		return err;
	part->relid = ctl.u.offer.relid;
	part->conn = ctl.u.offer.conn_id;
	return 0;
}

int vmbus__part_create(struct vmbus__replay_part *part, const struct vmbus_replay_opts *opts)
{
	const uint64_t bytes = opts->memory_bytes ? opts->memory_bytes : MEMORY_BYTES;
	struct vmbus_bus_opts bus = { .struct_bytes = sizeof(bus),
				      .backend = &part->backend,
				      .backend_ctx = part,
				      .name = "replay",
				      .regions = part->regions,
				      .region_count = 2 };
	int err;

	part->opts = opts;
	if (bytes > MEMORY_BYTES_MAX || bytes % VMBUS_PAGE_BYTES)
		return VMBUS_E_RANGE;
	part->backend = (struct vmbus_backend){ .struct_bytes = sizeof(part->backend),
						.post = be_post,
						.raise = be_raise };
	err = map(&part->memory, 0, bytes);
	if (!err)
		err = map(&part->rings, RINGS_GPA, RINGS_BYTES);
	part->regions[0] = &part->memory;
	part->regions[1] = &part->rings;
	if (!err)
		err = vmbus_bus_create(&bus, &part->bus);
	if (!err)
		err = vmbus_bus_offer(part->bus, opts->vsp, opts->ctx, NULL, &part->chan);
	return err ? err : contact(part);
}

void vmbus__part_destroy(struct vmbus__replay_part *part)
{
	/* The bus waits for a device that has said AGAIN to close(), and does not let it finish. */
	if (part->asked && vmbus__part_close(part) && part->opts->settle) {
		vmbus_bus_reset(part->bus);
		(void)vmbus__part_run(part);
		part->opts->settle(part->opts->ctx, part->bus);
	}
	vmbus_bus_destroy(part->bus);
	if (part->memory.host)
		munmap(part->memory.host, part->memory.bytes);
	if (part->rings.host)
		munmap(part->rings.host, part->rings.bytes);
	free(part->buf);
}

/* Describe the rings' pages, as many in a message as fit. */
static int share(struct vmbus__replay_part *part)
{
	const uint32_t n = part->from_pages + part->to_pages;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };
	uint64_t pfn = RINGS_GPA / VMBUS_PAGE_BYTES;
	uint32_t done, i;
	int err;

	ctl.u.gpadl.relid = part->relid;
	ctl.u.gpadl.gpadl = ++part->gpadl;
	ctl.u.gpadl.range_bytes = 8 + 8 * n;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.qwords[0] = (uint64_t)n * VMBUS_PAGE_BYTES;
	for (done = 0; done < n && done < 26; done++)
		ctl.u.gpadl.qwords[1 + done] = pfn++;
	ctl.u.gpadl.count = 1 + done;
	err = post(part, &ctl);
	while (!err && done < n) {
		err = vmbus__part_run(part); /* the bus keeps 64 messages at most */
		ctl.type = VMBUS_CTL_GPADL_BODY;
		for (i = 0; i < 28 && done < n; i++, done++)
			ctl.u.gpadl.qwords[i] = pfn++;
		ctl.u.gpadl.count = i;
		if (!err)
			err = post(part, &ctl);
	}
	if (!err)
		err = run(part, VMBUS_CTL_GPADL_CREATED, &ctl);
	return err ? err : ctl.u.created.status ? VMBUS_E_RANGE : 0;
}

/* Before a signal would be sent: the bus looks at the channel. */
static void signal_parent(void *ctx)
{
	struct vmbus__replay_part *const part = ctx;

	(void)vmbus_bus_signal_event(part->bus, part->conn, 0);
}

static int ring(struct vmbus__replay_part *part, uint32_t first, uint32_t pages,
		struct vmbus_ring_mem *mem)
{
	uint8_t *const at = (uint8_t *)part->rings.host + (size_t)first * VMBUS_PAGE_BYTES;
	const struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
						  .window = VMBUS_RING_PLAIN,
						  .size = (pages - 1u) * VMBUS_PAGE_BYTES,
						  .ctl = at,
						  .data = at + VMBUS_PAGE_BYTES };
	const int err = vmbus_ring_mem_init(mem, &opts);

	if (!err)
		vmbus_ring_mem_clear(mem);
	return err;
}

static int make_rings(struct vmbus__replay_part *part)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = signal_parent,
					.signal_ctx = part };
	struct vmbus_ring_mem mem;
	int err = ring(part, 0, part->from_pages, &mem);

	if (!err)
		err = vmbus_ring_tx_init(&part->tx, &mem, &opts);
	if (!err)
		err = ring(part, part->from_pages, part->to_pages, &mem);
	if (err)
		return err;
	opts.buf_bytes = (vmbus_ring_rx_buf_bytes(mem.size_p) + 63u) / 64u * 64u;
	free(part->buf);
	part->buf = aligned_alloc(64, opts.buf_bytes);
	if (!part->buf)
		return VMBUS_E_NOMEM;
	opts.buf = part->buf;
	return vmbus_ring_rx_init(&part->rx, &mem, &opts);
}

int vmbus__part_open(struct vmbus__replay_part *part, const struct vmbus_capture_open *open)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };
	int err;

	if (open->from_bytes % VMBUS_PAGE_BYTES || open->to_bytes % VMBUS_PAGE_BYTES ||
	    !open->from_bytes || !open->to_bytes ||
	    open->from_bytes / VMBUS_PAGE_BYTES > RING_PAGES_MAX - 1u ||
	    open->to_bytes / VMBUS_PAGE_BYTES > RING_PAGES_MAX - 1u)
		return VMBUS_E_RANGE;
	part->from_pages = open->from_bytes / VMBUS_PAGE_BYTES + 1u;
	part->to_pages = open->to_bytes / VMBUS_PAGE_BYTES + 1u;
	err = make_rings(part);
	if (!err)
		err = share(part);
	if (err)
		return err;
	ctl.u.open.relid = part->relid;
	ctl.u.open.open_id = part->gpadl;
	ctl.u.open.gpadl = part->gpadl;
	ctl.u.open.target_vp = 0;
	ctl.u.open.downstream_page = part->from_pages;
	memcpy(ctl.u.open.user, open->user, sizeof(ctl.u.open.user));
	err = post(part, &ctl);
	part->asked = !err;
	if (!err)
		err = await(part, VMBUS_CTL_OPEN_RESULT, &ctl);
	if (err)
		return err == VMBUS_E_PEER ? VMBUS_E_AGAIN : err;
	part->asked = part->open = ctl.u.result.status == VMBUS_STATUS_OK;
	if (!part->open)
		return vmbus__part_close(part);
	return 1;
}

int vmbus__part_close(struct vmbus__replay_part *part)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CLOSE };
	int err = 0;

	ctl.u.chan.relid = part->relid;
	if (part->asked)
		err = post(part, &ctl);
	part->open = false;
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_GPADL_TEARDOWN };
	ctl.u.created.relid = part->relid;
	ctl.u.created.gpadl = part->gpadl;
	if (!err)
		err = post(part, &ctl);
	if (!err)
		err = await(part, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	part->asked = part->asked && err;
	return err == VMBUS_E_PEER ? VMBUS_E_AGAIN : err;
}
