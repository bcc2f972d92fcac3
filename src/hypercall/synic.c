/* SPDX-License-Identifier: MIT */
/*
 * The synthetic interrupt controller of one virtual processor: its registers, the message slots and
 * the event flags, on the parent's side; the taking of messages and flags on the child's.
 *
 * Registers are words of our own that several threads read and one writes.  The two pages are
 * shared with the other partition: a word there is loaded once or changed by one atomic step, and no
 * step is repeated, but in another page when the guest has moved it meanwhile, MOVES times at most.
 * This file delivers no interrupt; it tells the caller that one is due.
 */
#include <vmbus/synic.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "base/dirty.h"
#include "base/untrusted.h"

/* Registers, [SYNIC-MSR]. */
#define MSR_VP_ASSIST 0x40000073u
#define MSR_SCONTROL 0x40000080u
#define MSR_SVERSION 0x40000081u
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_EOM 0x40000084u
#define MSR_SINT0 0x40000090u

#define SVERSION 1u
#define ENABLE ((uint64_t)1)
#define PAGE_MASK (~(uint64_t)(VMBUS_PAGE_BYTES - 1u))
#define SINT_VECTOR 0xFFu
#define SINT_MASKED ((uint64_t)1 << 16)
#define SINT_AUTO_EOI ((uint64_t)1 << 17)
#define SINT_POLLING ((uint64_t)1 << 18)
#define VECTOR_MIN 16u

/* A message slot, [SYNIC-MESSAGE]: type; size, flags and two bytes of 0 as one word; sender. */
#define AREA_BYTES 256u /* of a SINT, in both pages */
#define SLOT_HEADER 4u
#define SLOT_SENDER 8u
#define SLOT_PAYLOAD 16u
#define HEADER_SIZE 0xFFu
#define HEADER_PENDING 0x100u

#define MOVES 8u

enum {
	MESSAGES,
	FLAGS
};

static uint64_t reg(const uint64_t *word)
{
	return vmbus__ld64_relaxed(vmbus__as_a64c(word)); /* REGISTER.read */
}

static void set_reg(uint64_t *word, uint64_t value)
{
	vmbus__st64_relaxed(vmbus__as_a64(word), value); /* REGISTER.write */
}

static void place_page(uint64_t *word, void *page)
{
	vmbus__st64_release(vmbus__as_a64(word), (uintptr_t)page); /* PAGES.set */
}

static uint8_t *page_at(const uint64_t *word)
{
	return (uint8_t *)(uintptr_t)vmbus__ld64_acquire(vmbus__as_a64c(word)); /* PAGES.use */
}

static void mark(const struct vmbus_synic *synic, const uint64_t *frame)
{
	const struct vmbus_dirty *dirty =
		(const struct vmbus_dirty *)(uintptr_t)reg(&synic->dirty_p);

	if (VMBUS_UNLIKELY(dirty))
		vmbus__dirty_frame(dirty, reg(frame));
}

void vmbus_synic_reset(struct vmbus_synic *synic)
{
	uint32_t i;

	place_page(&synic->messages_p, NULL);
	place_page(&synic->flags_p, NULL);
	set_reg(&synic->control_p, ENABLE);
	set_reg(&synic->siefp_p, 0);
	set_reg(&synic->simp_p, 0);
	set_reg(&synic->vp_assist_p, 0);
	for (i = 0; i < VMBUS_SINTS; i++)
		set_reg(&synic->sint_p[i], SINT_MASKED);
	set_reg(&synic->dirty_p, 0);
	set_reg(&synic->message_frame_p, 0);
	set_reg(&synic->flags_frame_p, 0);
	synic->content_p[MESSAGES] = 0;
	synic->content_p[FLAGS] = 0;
}

/* Where a register is that is nothing but a word; NULL for others. */
static const uint64_t *storage(const struct vmbus_synic *synic, uint32_t msr)
{
	if (msr >= MSR_SINT0 && msr - MSR_SINT0 < VMBUS_SINTS)
		return &synic->sint_p[msr - MSR_SINT0];
	switch (msr) {
	case MSR_VP_ASSIST:
		return &synic->vp_assist_p;
	case MSR_SCONTROL:
		return &synic->control_p;
	case MSR_SIEFP:
		return &synic->siefp_p;
	case MSR_SIMP:
		return &synic->simp_p;
	default:
		return NULL;
	}
}

int vmbus_synic_msr_read(const struct vmbus_synic *synic, uint32_t msr, uint64_t *value)
{
	const uint64_t *word = storage(synic, msr);

	if (word)
		*value = reg(word);
	else if (msr == MSR_SVERSION)
		*value = SVERSION;
	else if (msr == MSR_EOM)
		*value = 0;
	else
		return VMBUS_E_NOTSUP;
	return 0;
}

/* Whether messages get through: polling stands for unmasked without an interrupt. */
static bool is_open(uint64_t sint)
{
	return !(sint & SINT_MASKED) || (sint & SINT_POLLING);
}

static int write_sint(struct vmbus_synic *synic, uint32_t n, uint64_t value, bool from_host)
{
	const bool was_open = is_open(reg(&synic->sint_p[n]));

	if (!from_host && !(value & SINT_MASKED) && (value & SINT_VECTOR) < VECTOR_MIN)
		return VMBUS_E_INVAL;
	set_reg(&synic->sint_p[n], value);
	/*
	 * UNMASK: we store the register and then the guest looks at its flags; raise() sets a flag
	 * and then looks at the register.  One of the two sees the other's store.
	 */
	vmbus__fence_full(); /* UNMASK.guest */
	return is_open(value) && !was_open ? VMBUS_SYNIC_SLOT_FREE : 0;
}

static int write_page_reg(uint64_t *word, uint64_t value, uint32_t when_enabled)
{
	const uint64_t old = reg(word), looked_at = PAGE_MASK | ENABLE;
	uint32_t todo = 0;

	set_reg(word, value);
	if ((old & ENABLE || value & ENABLE) && (old & looked_at) != (value & looked_at))
		todo = VMBUS_SYNIC_PAGES;
	return (int)(todo && (value & ENABLE) ? todo | when_enabled : todo);
}

int vmbus_synic_msr_write(struct vmbus_synic *synic, uint32_t msr, uint64_t value, bool from_host)
{
	uint64_t old;

	if (msr >= MSR_SINT0 && msr - MSR_SINT0 < VMBUS_SINTS)
		return write_sint(synic, msr - MSR_SINT0, value, from_host);
	switch (msr) {
	case MSR_VP_ASSIST:
		set_reg(&synic->vp_assist_p, value);
		return 0;
	case MSR_SCONTROL:
		old = reg(&synic->control_p);
		set_reg(&synic->control_p, value);
		return value & ~old & ENABLE ? VMBUS_SYNIC_SLOT_FREE : 0;
	case MSR_SVERSION:
		return from_host && value == SVERSION ? 0 : VMBUS_E_INVAL;
	case MSR_SIEFP:
		return write_page_reg(&synic->siefp_p, value, 0);
	case MSR_SIMP:
		return write_page_reg(&synic->simp_p, value, VMBUS_SYNIC_SLOT_FREE);
	case MSR_EOM:
		return from_host ? 0 : VMBUS_SYNIC_SLOT_FREE;
	default:
		return VMBUS_E_NOTSUP;
	}
}

static uint64_t named_page(uint64_t value)
{
	return value & ENABLE ? value & PAGE_MASK : UINT64_MAX;
}

uint64_t vmbus_synic_simp(const struct vmbus_synic *synic)
{
	return named_page(reg(&synic->simp_p));
}

uint64_t vmbus_synic_siefp(const struct vmbus_synic *synic)
{
	return named_page(reg(&synic->siefp_p));
}

/*
 * MOVE: a page is replaced, and then we look into the old one; who posts or raises writes into the
 * page that it knows, and then looks which one is in use.  With a full fence between the two on each
 * side, either we find here what was written, or it is written again into the new page.
 */

static vmbus__a32 *as_a32(uint8_t *at)
{
	return (vmbus__a32 *)(void *)at;
}

static vmbus__a64 *as_a64(uint8_t *at)
{
	return (vmbus__a64 *)(void *)at;
}

/* A message is read while its slot is taken, and is ours if it is we who free that. */
static void carry_message(uint8_t *to, uint8_t *from)
{
	const uint32_t type = vmbus__ld32_acquire(as_a32(from)); /* MESSAGE.take */
	uint32_t header, at;

	if (type == 0)
		return;
	header = vmbus__ld32_relaxed(as_a32(from + SLOT_HEADER)); /* PENDING.take */
	vmbus__st32_relaxed(as_a32(to + SLOT_HEADER), header);	  /* PENDING.post */
	for (at = SLOT_SENDER; at < AREA_BYTES; at += sizeof(uint64_t))
		vmbus__peer_st64(to + at, vmbus__peer_ld64(from + at));
	if (vmbus__cas32_release(as_a32(from), type, 0)) /* EMPTY.take */
		vmbus__st32_relaxed(as_a32(to), type);	 /* PAGES.set */
}

/* No page is in use meanwhile: messages can wait, and nobody else must write into a slot of the new one. */
static void carry_messages(uint8_t *to, uint8_t *from)
{
	uint32_t at;

	vmbus__fence_full(); /* MOVE.set */
	for (at = 0; at < VMBUS_PAGE_BYTES; at += AREA_BYTES)
		carry_message(to + at, from + at);
}

/* The new page is in use already, for events cannot wait. */
static void carry_flags(uint8_t *to, uint8_t *from)
{
	uint32_t at;
	uint64_t v;

	vmbus__fence_full(); /* MOVE.set */
	for (at = 0; at < VMBUS_PAGE_BYTES; at += sizeof(v)) {
		v = vmbus__xchg64_acquire(as_a64(from + at), 0); /* EVENT.take */
		if (v)
			(void)vmbus__or64_release(as_a64(to + at), v); /* EVENT.raise */
	}
}

/*
 * Make a page fit for use before anybody sees it: empty when it is new to the SynIC, since stale bytes
 * would block a slot.  Returns whether it is to get what the page before it has.
 */
static bool prepare(struct vmbus_synic *synic, int which, uint64_t gpa, uint8_t *page, uint8_t *old)
{
	const uint64_t content = synic->content_p[which];

	if (!page || gpa == UINT64_MAX)
		return false;
	synic->content_p[which] = gpa | 1u;
	if (content == (gpa | 1u) || (content && page == old))
		return false;
	__builtin_memset(page, 0, VMBUS_PAGE_BYTES);
	return content && old;
}

void vmbus_synic_set_pages(struct vmbus_synic *synic, void *messages, void *flags,
			   const struct vmbus_dirty *dirty, uint64_t message_frame,
			   uint64_t flags_frame)
{
	const struct vmbus_dirty *const old_dirty =
		(const struct vmbus_dirty *)(uintptr_t)reg(&synic->dirty_p);
	const uint64_t old_frame = reg(&synic->flags_frame_p);
	uint8_t *const old_messages = page_at(&synic->messages_p);
	uint8_t *const old_flags = page_at(&synic->flags_p);
	const bool move_messages =
		prepare(synic, MESSAGES, vmbus_synic_simp(synic), messages, old_messages);
	const bool move_flags = prepare(synic, FLAGS, vmbus_synic_siefp(synic), flags, old_flags);

	if (move_messages) {
		place_page(&synic->messages_p, NULL);
		carry_messages(messages, old_messages);
		mark(synic, &synic->message_frame_p);
	}
	set_reg(&synic->dirty_p, (uintptr_t)dirty);
	set_reg(&synic->message_frame_p, message_frame);
	set_reg(&synic->flags_frame_p, flags_frame);
	if (messages)
		mark(synic, &synic->message_frame_p);
	place_page(&synic->messages_p, messages);
	place_page(&synic->flags_p, flags);
	if (move_flags) {
		carry_flags(flags, old_flags);
		if (old_dirty)
			vmbus__dirty_frame(old_dirty, old_frame);
	}
	if (flags)
		mark(synic, &synic->flags_frame_p);
}

/* The bits for an interrupt of this SINT, and its vector. */
static int interrupt(uint64_t sint, uint32_t *arg)
{
	const uint32_t vector = sint & SINT_VECTOR;

	*arg = vector | (sint & SINT_AUTO_EOI ? VMBUS_SYNIC_ARG_AUTO_EOI : 0);
	if (sint & (SINT_MASKED | SINT_POLLING) || vector < VECTOR_MIN)
		return 0;
	return (int)VMBUS_SYNIC_INTERRUPT;
}

/* Whether the slot is taken; if so, the child will tell us when it is not. */
static bool is_taken(const struct vmbus_synic *synic, uint8_t *slot)
{
	vmbus__a32 *const type = (vmbus__a32 *)(void *)slot;
	vmbus__a32 *const header = (vmbus__a32 *)(void *)(slot + SLOT_HEADER);

	if (vmbus__ld32_acquire(type) == 0) /* EMPTY.post */
		return false;
	/*
	 * PENDING: we set the flag and then look at the type; the child clears the type and then
	 * looks at the flag.  With a full fence between the two on each side, either we find the
	 * slot empty here, or the child sees the flag and writes EOM.
	 */
	vmbus__or32_relaxed(header, HEADER_PENDING); /* PENDING.post */
	mark(synic, &synic->message_frame_p);
	vmbus__fence_full();		       /* PENDING.post */
	return vmbus__ld32_acquire(type) != 0; /* EMPTY.post */
}

/* False: the slot is taken. */
static bool put(const struct vmbus_synic *synic, uint8_t *slot, const struct vmbus_synic_msg *msg,
		bool more)
{
	if (is_taken(synic, slot))
		return false;
	vmbus__st32_relaxed((vmbus__a32 *)(void *)(slot + SLOT_HEADER), /* PENDING.post */
			    msg->bytes | (more ? HEADER_PENDING : 0));
	vmbus__peer_st64(slot + SLOT_SENDER, msg->sender);
	vmbus__peer_write(slot + SLOT_PAYLOAD, msg->payload, msg->bytes);
	vmbus__st32_release((vmbus__a32 *)(void *)slot, msg->type); /* MESSAGE.post */
	mark(synic, &synic->message_frame_p);
	return true;
}

/* Whether the page has moved and nobody took the message along, which then is not there any more. */
static bool left_behind(const struct vmbus_synic *synic, const uint8_t *page, uint8_t *slot,
			uint32_t type)
{
	vmbus__fence_full(); /* MOVE.look */
	if (VMBUS_LIKELY(page_at(&synic->messages_p) == page))
		return false;
	return vmbus__cas32_release(as_a32(slot), type, 0); /* EMPTY.take */
}

int vmbus_synic_post(struct vmbus_synic *synic, uint32_t sint, const struct vmbus_synic_msg *msg,
		     bool more, uint32_t *arg)
{
	uint8_t *page, *slot;
	uint64_t value;
	uint32_t n;

	*arg = 0;
	if (sint >= VMBUS_SINTS || msg->bytes > VMBUS_SYNIC_PAYLOAD)
		return VMBUS_E_RANGE;
	if (msg->type == 0)
		return VMBUS_E_INVAL;
	for (n = 0; n < MOVES; n++) {
		value = reg(&synic->sint_p[sint]);
		page = page_at(&synic->messages_p);
		if (!page || !is_open(value) ||
		    !(reg(&synic->control_p) & reg(&synic->simp_p) & ENABLE))
			break;
		slot = page + sint * (size_t)AREA_BYTES;
		if (!put(synic, slot, msg, more))
			break;
		if (!left_behind(synic, page, slot, msg->type))
			return interrupt(value, arg);
	}
	return VMBUS_E_AGAIN;
}

int vmbus_synic_raise(struct vmbus_synic *synic, uint32_t sint, uint32_t flag, uint32_t *arg)
{
	const uint64_t bit = (uint64_t)1 << (flag % 64u);
	const size_t at = sint * (size_t)AREA_BYTES + flag / 64u * sizeof(uint64_t);
	bool was_clear = false;
	uint8_t *page;
	uint64_t old;
	uint32_t n;

	*arg = 0;
	if (sint >= VMBUS_SINTS || flag >= VMBUS_SYNIC_FLAGS)
		return VMBUS_E_RANGE;
	for (n = 0; n < MOVES; n++) {
		page = page_at(&synic->flags_p);
		if (!page || !(reg(&synic->control_p) & reg(&synic->siefp_p) & ENABLE))
			break;
		old = vmbus__or64_release(as_a64(page + at), bit); /* EVENT.raise */
		was_clear |= !(old & bit);
		mark(synic, &synic->flags_frame_p);
		vmbus__fence_full(); /* UNMASK.raise, MOVE.look */
		if (VMBUS_LIKELY(page_at(&synic->flags_p) == page))
			return was_clear ? interrupt(reg(&synic->sint_p[sint]), arg) : 0;
	}
	/* A flag that was set stays, also in a page that is not in use now, and later ones find it set. */
	return was_clear ? interrupt(reg(&synic->sint_p[sint]), arg) : VMBUS_E_AGAIN;
}

int vmbus_synic_take(void *message_page, uint32_t sint, struct vmbus_synic_msg *msg, bool *eom)
{
	uint8_t *slot = message_page;
	vmbus__a32 *header;
	bool swapped;

	*eom = false;
	if (sint >= VMBUS_SINTS)
		return VMBUS_E_RANGE;
	slot += sint * (size_t)AREA_BYTES;
	header = (vmbus__a32 *)(void *)(slot + SLOT_HEADER);
	msg->type = vmbus__ld32_acquire((vmbus__a32 *)(void *)slot); /* MESSAGE.take */
	if (msg->type == 0)
		return 0;
	msg->bytes = vmbus__ld32_relaxed(header) & HEADER_SIZE; /* PENDING.take */
	msg->sender = vmbus__peer_ld64(slot + SLOT_SENDER);
	if (msg->bytes <= VMBUS_SYNIC_PAYLOAD)
		vmbus__peer_read(msg->payload, slot + SLOT_PAYLOAD, msg->bytes);
	swapped = vmbus__cas32_release((vmbus__a32 *)(void *)slot, msg->type, 0); /* EMPTY.take */
	vmbus__fence_full();							  /* PENDING.take */
	*eom = (vmbus__ld32_relaxed(header) & HEADER_PENDING) != 0;		  /* PENDING.take */
	return swapped && msg->bytes <= VMBUS_SYNIC_PAYLOAD ? 1 : VMBUS_E_PEER;
}

uint64_t vmbus_synic_take_flags(void *flags_page, uint32_t sint, uint32_t word)
{
	vmbus__a64 *flags = flags_page;

	if (sint >= VMBUS_SINTS || word >= VMBUS_SYNIC_FLAGS / 64u)
		return 0;
	flags += sint * (AREA_BYTES / sizeof(*flags)) + word;
	/* Most words are 0, and a look leaves their line with the parent. */
	if (vmbus__ld64_relaxed(flags) == 0) /* EVENT.take */
		return 0;
	return vmbus__xchg64_acquire(flags, 0); /* EVENT.take */
}
