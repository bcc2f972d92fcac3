/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue of frames between threads: a ring, a header before each frame, an eventfd.  It
 * knows nothing of ports.
 *
 * Both ends of the ring are ours, so nothing in it is hostile, and frames are used where they lie.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vmbus/mtx.h>

#include "base/atomic.h"
#include "lazy/lazy.h"
#include "port/inbox.h"

#define LINE_BYTES 64u
#define SLOTS 256u		 /* claims under way: threads that put at the same moment */
#define PUT_BURST 32u		 /* frames of one claim */
#define FRAME_RING_BYTES_MIN 72u /* descriptor, header, 14 bytes, trailer */

/* What stands before a frame's bytes. */
struct head {
	uint32_t bytes, flags;
	uint16_t csum_start, csum_offset, header_bytes, mss;
	uint16_t vlan, reserved1;
	uint32_t hash;
	uint32_t tag, reserved2;
};

_Static_assert(sizeof(struct head) == 32, "a frame begins on 8 bytes");

/* A header, and all of a small frame behind it. */
struct room {
	struct head head;
	uint8_t bytes[128];
};

struct vmbus__inbox {
	struct vmbus_ring_mtx mtx; /* of all who put; aligned to 64 bytes */
	struct vmbus_ring_mtx_slot slot[SLOTS];
	uint64_t want; /* shared: bit w: who w waits for room */
	uint64_t rung; /* shared: 1: the eventfd was written, or will be */
	int fd;
	uint64_t pad[8];
	/* The taker's. */
	struct vmbus_ring_rx rx;
	bool armed;
	uint32_t first, count; /* of frame: what was peeked and is not done */
	struct vmbus_frame frame[VMBUS__INBOX_BURST];
	struct vmbus_iov piece[VMBUS__INBOX_BURST];
	uint32_t tag[VMBUS__INBOX_BURST];
	uint32_t capacity; /* frames that fit, at most */
	void *buf;
	void *memory; /* the ring's control page and data */
	size_t buf_bytes, memory_bytes;
};

/*
 * INBOX: the word says that the eventfd was written, or will be: by who changed it from 0 to 1.  Who
 * found 1 has nothing to do, since the taker reads the eventfd first, then takes the word back to 0
 * and looks at the ring, so that it sees what was put before.
 */
void vmbus__inbox_ring(struct vmbus__inbox *inbox)
{
	const uint64_t one = 1;
	ssize_t written;

	if (vmbus__or64_release(vmbus__as_a64(&inbox->rung), 1)) /* INBOX.ring */
		return;
	do {
		written = write(inbox->fd, &one, sizeof(one));
	} while (written < 0 && errno == EINTR);
}

static void signal_taker(void *ctx)
{
	vmbus__inbox_ring(ctx);
}

static int ring_init(struct vmbus__inbox *inbox, uint32_t bytes)
{
	const struct vmbus_ring_mem_opts at = {
		.struct_bytes = sizeof(at),
		.window = VMBUS_RING_PLAIN,
		.size = bytes,
		.ctl = inbox->memory,
		.data = (uint8_t *)inbox->memory + VMBUS_PAGE_BYTES,
	};
	const struct vmbus_ring_opts put = {
		.struct_bytes = sizeof(put),
		.signal = signal_taker,
		.signal_ctx = inbox,
	};
	const struct vmbus_ring_opts take = {
		.struct_bytes = sizeof(take),
		.buf = inbox->buf,
		.buf_bytes = vmbus_ring_rx_buf_bytes(bytes),
	};
	struct vmbus_ring_mem mem;
	int err;

	err = vmbus_ring_mem_init(&mem, &at);
	if (err)
		return err;
	vmbus_ring_mem_clear(&mem);
	err = vmbus_ring_mtx_init(&inbox->mtx, &mem, &put, inbox->slot, SLOTS);
	if (!err)
		err = vmbus_ring_rx_init(&inbox->rx, &mem, &take);
	return err;
}

static bool is_size(uint32_t bytes)
{
	return bytes >= VMBUS__INBOX_BYTES_MIN && bytes <= VMBUS__INBOX_BYTES_MAX &&
	       (bytes & (bytes - 1)) == 0;
}

static size_t whole(size_t bytes, size_t unit)
{
	return (bytes + unit - 1) & ~(unit - 1);
}

int vmbus__inbox_create(uint32_t bytes, struct vmbus__inbox **inbox)
{
	struct vmbus__inbox *made;
	int err;

	if (!is_size(bytes))
		return VMBUS_E_RANGE;
	made = aligned_alloc(LINE_BYTES, whole(sizeof(*made), LINE_BYTES));
	if (!made)
		return VMBUS_E_NOMEM;
	memset(made, 0, sizeof(*made));
	made->capacity = bytes / FRAME_RING_BYTES_MIN;
	made->buf_bytes = vmbus_ring_rx_buf_bytes(bytes);
	made->memory_bytes = VMBUS_PAGE_BYTES + (size_t)bytes;
	made->buf = vmbus__lazy_get(made->buf_bytes);
	made->memory = vmbus__lazy_get(made->memory_bytes);
	made->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = made->fd < 0 ? VMBUS_E_SYSTEM : 0;
	if (!made->buf || !made->memory)
		err = VMBUS_E_NOMEM;
	if (!err)
		err = ring_init(made, bytes);
	if (err) {
		vmbus__inbox_destroy(made);
		return err;
	}
	*inbox = made;
	return 0;
}

void vmbus__inbox_destroy(struct vmbus__inbox *inbox)
{
	const int reason = errno;

	if (!inbox)
		return;
	if (inbox->fd >= 0)
		(void)close(inbox->fd);
	vmbus__lazy_put(inbox->memory, inbox->memory_bytes);
	vmbus__lazy_put(inbox->buf, inbox->buf_bytes);
	free(inbox);
	errno = reason;
}

int vmbus__inbox_fd(const struct vmbus__inbox *inbox)
{
	return inbox->fd;
}

static void put_head(struct head *head, const struct vmbus_frame *frame, uint32_t tag)
{
	head->bytes = frame->bytes;
	head->flags = frame->flags;
	head->csum_start = frame->csum_start;
	head->csum_offset = frame->csum_offset;
	head->header_bytes = frame->header_bytes;
	head->mss = frame->mss;
	head->vlan = frame->vlan;
	head->reserved1 = 0;
	head->hash = frame->hash;
	head->tag = tag;
	head->reserved2 = 0;
}

/* Copy a small frame behind its header, which the ring then writes in one go; or 0: it is not. */
static uint32_t flatten(struct room *room, const struct vmbus_frame *frame)
{
	uint32_t at = 0, i;

	for (i = 0; i < frame->pieces; i++) {
		const size_t len = frame->piece[i].len;

		if (len > sizeof(room->bytes) - at)
			return 0;
		memcpy(room->bytes + at, frame->piece[i].base, len);
		at += (uint32_t)len;
	}
	return at;
}

static void put_msg(struct vmbus_msg *msg, struct room *room, const struct vmbus_frame *frame,
		    uint32_t tag)
{
	const uint32_t flat = flatten(room, frame);

	put_head(&room->head, frame, tag);
	*msg = (struct vmbus_msg){
		.type = VMBUS_PKT_INBAND,
		.data = &room->head,
		.len = sizeof(room->head) + flat,
		.more = flat ? NULL : frame->piece,
		.more_count = flat ? 0 : frame->pieces,
	};
}

/* Up to PUT_BURST frames, as one claim. */
static uint32_t put_some(struct vmbus__inbox *inbox, const struct vmbus_frame *frame, uint32_t n,
			 uint32_t tag)
{
	struct room room[PUT_BURST];
	struct vmbus_msg msg[PUT_BURST];
	uint32_t i;
	int put;

	for (i = 0; i < n; i++)
		put_msg(&msg[i], &room[i], &frame[i], tag);
	put = vmbus_ring_mtx_put(&inbox->mtx, msg, n);
	return put < 0 ? 0 : (uint32_t)put;
}

uint32_t vmbus__inbox_put(struct vmbus__inbox *inbox, const struct vmbus_frame *frame, uint32_t n,
			  uint32_t tag)
{
	uint32_t done = 0;

	while (done < n) {
		const uint32_t some = n - done < PUT_BURST ? n - done : PUT_BURST;
		const uint32_t put = put_some(inbox, frame + done, some, tag);

		done += put;
		if (put < some)
			break;
	}
	return done;
}

/*
 * INBOX.want: we set a bit and then look for room; the taker makes room and then looks for bits.
 * With a full fence between the two on each side either finds what the other did.
 */
void vmbus__inbox_want(struct vmbus__inbox *inbox, uint32_t who)
{
	(void)vmbus__or64_release(vmbus__as_a64(&inbox->want), UINT64_C(1) << who); /* INBOX.want */
	vmbus__fence_full();							    /* INBOX.want */
}

uint64_t vmbus__inbox_wanted(struct vmbus__inbox *inbox)
{
	vmbus__a64 *const want = vmbus__as_a64(&inbox->want);

	/* What was peeked and is not done lies where it is until all of it is. */
	if (inbox->count == 0)
		(void)vmbus_ring_rx_consume(&inbox->rx);
	vmbus__fence_full();				    /* INBOX.room */
	if (vmbus__ld64_relaxed(want) == 0 || inbox->count) /* INBOX.room */
		return 0;
	return vmbus__xchg64_acquire(want, 0); /* INBOX.room */
}

/* Both ends are ours: what does not look like a frame is none, and was not put here. */
static void describe(struct vmbus__inbox *inbox, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct head head;

		memcpy(&head, pkt[i].payload, sizeof(head));
		inbox->piece[i] = (struct vmbus_iov){ pkt[i].payload + sizeof(head), head.bytes };
		inbox->tag[i] = head.tag;
		inbox->frame[i] = (struct vmbus_frame){
			.piece = &inbox->piece[i],
			.pieces = 1,
			.bytes = head.bytes,
			.flags = head.flags,
			.csum_start = head.csum_start,
			.csum_offset = head.csum_offset,
			.header_bytes = head.header_bytes,
			.mss = head.mss,
			.vlan = head.vlan,
			.hash = head.hash,
		};
	}
	inbox->first = 0;
	inbox->count = n;
}

/* Somebody rang since we armed: be awake.  False: nobody did. */
static bool wake(struct vmbus__inbox *inbox)
{
	vmbus__a64 *const rung = vmbus__as_a64(&inbox->rung);
	uint64_t count;

	if (vmbus__ld64_relaxed(rung) == 0) /* INBOX.see */
		return false;
	/* Not written yet: it will be, and then we come here once more. */
	if (read(inbox->fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
		(void)vmbus__xchg64_acquire(rung, 0); /* INBOX.see */
	else
		vmbus__fence_acquire(); /* INBOX.see */
	vmbus_ring_rx_disarm(&inbox->rx);
	inbox->armed = false;
	return true;
}

uint32_t vmbus__inbox_look(struct vmbus__inbox *inbox, const struct vmbus_frame **frame,
			   const uint32_t **tag)
{
	struct vmbus_packet pkt[VMBUS__INBOX_BURST];

	/* A ring is taken even while frames are left here, or the descriptor would stay readable. */
	if (!wake(inbox) && inbox->armed)
		return 0;
	while (inbox->count == 0) {
		const int n = vmbus_ring_rx_get_in_peer_memory(&inbox->rx, pkt, VMBUS__INBOX_BURST);

		if (n > 0) {
			describe(inbox, pkt, (uint32_t)n);
		} else if (n < 0 || vmbus_ring_rx_arm(&inbox->rx) != VMBUS_RING_READY) {
			inbox->armed = true;
			return 0;
		}
	}
	*frame = inbox->frame + inbox->first;
	if (tag)
		*tag = inbox->tag + inbox->first;
	return inbox->count;
}

void vmbus__inbox_done(struct vmbus__inbox *inbox, uint32_t n)
{
	inbox->first += n;
	inbox->count -= n;
}

uint32_t vmbus__inbox_drain(struct vmbus__inbox *inbox)
{
	const struct vmbus_frame *frame;
	uint32_t dropped = 0, n;

	/* No more than fit at one time: who goes on putting does not keep us here. */
	while (dropped < inbox->capacity && (n = vmbus__inbox_look(inbox, &frame, NULL)) != 0) {
		vmbus__inbox_done(inbox, n);
		dropped += n;
	}
	/* The last look has not armed: nobody who puts would ring. */
	if (dropped >= inbox->capacity)
		vmbus__inbox_ring(inbox);
	return dropped;
}
