/* SPDX-License-Identifier: MIT */
/*
 * Reading a flight record: of this process, of another one that still writes it, or of a file that
 * was left behind.  Nothing in it is believed: each word is loaded once, what does not fit together
 * is counted and left out, and the work is bounded by the bytes that are there.
 */
#include <stdio.h>
#include <string.h>

#include "bus/record.h"

#define ENTRY_BYTES (VMBUS__RECORD_WORDS * 8u)
#define HEAD_BYTES (VMBUS__RECORD_HEAD_WORDS * 8u)

/* A record whose header was checked. */
struct source {
	const uint64_t *mem;
	uint32_t room;
};

static uint64_t word(const uint64_t *mem, size_t at)
{
	return vmbus__ld64_relaxed(vmbus__as_a64c(mem + at)); /* RECORD.read */
}

/* Text from words; it always ends, and what a terminal would obey becomes a question mark. */
static void get_text(const uint64_t *mem, size_t at, char *to, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i += 8) {
		const uint64_t v = word(mem, at + i / 8);

		memcpy(to + i, &v, 8);
	}
	to[bytes - 1] = 0;
	for (i = 0; to[i]; i++)
		if ((unsigned char)to[i] < 0x20 || (unsigned char)to[i] >= 0x7F)
			to[i] = '?';
}

static int read_head(const void *mem, size_t bytes, struct source *src,
		     struct vmbus_record_info *info)
{
	const uint64_t *const words = mem;
	uint64_t form, room;

	memset(info, 0, sizeof(*info));
	if (!mem || (uintptr_t)mem % 8u || bytes < HEAD_BYTES)
		return VMBUS_E_INVAL;
	if (vmbus__ld64_acquire(vmbus__as_a64c(words)) != VMBUS__RECORD_MAGIC) /* RECORD.read */
		return VMBUS_E_INVAL;
	form = word(words, VMBUS__RECORD_HEAD_FORM);
	if ((uint32_t)form != VMBUS__RECORD_VERSION)
		return (uint32_t)form > VMBUS__RECORD_VERSION ? VMBUS_E_NOTSUP : VMBUS_E_INVAL;
	room = word(words, VMBUS__RECORD_HEAD_ROOM);
	src->mem = words;
	src->room = (uint32_t)room;
	if (form >> 32 != ENTRY_BYTES || src->room == 0)
		return VMBUS_E_INVAL;
	if (src->room > (bytes - HEAD_BYTES) / ENTRY_BYTES)
		return VMBUS_E_RANGE;
	info->room = src->room;
	info->pid = (uint32_t)(room >> 32);
	info->begin_mono_ns = word(words, VMBUS__RECORD_HEAD_MONO);
	info->begin_real_ns = word(words, VMBUS__RECORD_HEAD_REAL);
	get_text(words, VMBUS__RECORD_HEAD_NAME, info->name, sizeof(info->name));
	return 0;
}

static size_t entry(uint32_t slot)
{
	return VMBUS__RECORD_HEAD_WORDS + (size_t)slot * VMBUS__RECORD_WORDS;
}

/* The number behind the newest event that is whole and in its place; others are not believed. */
static uint64_t find_next(const struct source *src)
{
	uint64_t next = 0;
	uint32_t slot;

	for (slot = 0; slot < src->room; slot++) {
		const uint64_t seq = word(src->mem, entry(slot) + VMBUS__RECORD_SEQ);

		if (seq && seq % 2 == 0 && (seq / 2 - 1) % src->room == slot && seq / 2 > next)
			next = seq / 2;
	}
	return next;
}

/* Copy an event; false: it is not there, or was written meanwhile. */
static bool get_event(const struct source *src, uint64_t number, struct vmbus_record_event *event,
		      char text[VMBUS_RECORD_TEXT])
{
	const size_t at = entry((uint32_t)(number % src->room));
	const vmbus__a64 *const seq = vmbus__as_a64c(src->mem + at + VMBUS__RECORD_SEQ);
	uint64_t kind;

	if (vmbus__ld64_acquire(seq) != 2 * (number + 1)) /* RECORD.read */
		return false;
	kind = word(src->mem, at + VMBUS__RECORD_KIND);
	*event = (struct vmbus_record_event){
		.number = number,
		.mono_ns = word(src->mem, at + VMBUS__RECORD_MONO),
		.kind = (uint32_t)kind,
		.relid = (uint32_t)(kind >> 32),
		.a = word(src->mem, at + VMBUS__RECORD_A),
		.b = word(src->mem, at + VMBUS__RECORD_B),
		.text = text,
	};
	get_text(src->mem, at + VMBUS__RECORD_TEXT, text, VMBUS_RECORD_TEXT);
	vmbus__fence_acquire();				     /* RECORD.read */
	return vmbus__ld64_relaxed(seq) == 2 * (number + 1); /* RECORD.read */
}

/* A time before the beginning, or out of all bounds, is none. */
static uint64_t real_time(const struct vmbus_record_info *info, uint64_t mono_ns)
{
	const uint64_t after = mono_ns >= info->begin_mono_ns ? mono_ns - info->begin_mono_ns : 0;

	return after && after <= UINT64_MAX - info->begin_real_ns ? info->begin_real_ns + after
	       : mono_ns == info->begin_mono_ns			  ? info->begin_real_ns
								  : 0;
}

int vmbus_record_read(const void *mem, size_t bytes, struct vmbus_record_info *info,
		      void (*fn)(void *ctx, const struct vmbus_record_event *event), void *ctx)
{
	struct vmbus_record_event event;
	char text[VMBUS_RECORD_TEXT];
	struct source src;
	uint64_t number;
	const int err = read_head(mem, bytes, &src, info);

	if (err)
		return err;
	info->next = find_next(&src);
	for (number = info->next > src.room ? info->next - src.room : 0; number < info->next;
	     number++) {
		if (!get_event(&src, number, &event, text)) {
			info->torn++;
			continue;
		}
		event.real_ns = real_time(info, event.mono_ns);
		info->told++;
		if (fn)
			fn(ctx, &event);
	}
	return 0;
}

static const char *const kind_names[] = {
	[VMBUS_RECORD_IN] = "message from the child",
	[VMBUS_RECORD_OUT] = "message to the child",
	[VMBUS_RECORD_DROPPED] = "message dropped",
	[VMBUS_RECORD_BLOCKED] = "message slot taken",
	[VMBUS_RECORD_REFUSED] = "message refused",
	[VMBUS_RECORD_CONNECTED] = "connected",
	[VMBUS_RECORD_DISCONNECTED] = "disconnected",
	[VMBUS_RECORD_RESET] = "reset",
	[VMBUS_RECORD_OFFER] = "offered",
	[VMBUS_RECORD_REVOKE] = "withdrawn",
	[VMBUS_RECORD_GPADL] = "page list",
	[VMBUS_RECORD_GPADL_DOWN] = "page list torn down",
	[VMBUS_RECORD_OPEN] = "open asked for",
	[VMBUS_RECORD_OPENED] = "opened",
	[VMBUS_RECORD_NOT_OPENED] = "open refused",
	[VMBUS_RECORD_CLOSE] = "close begins",
	[VMBUS_RECORD_CLOSED] = "closed",
	[VMBUS_RECORD_MODIFY] = "interrupts move",
	[VMBUS_RECORD_RELEASED] = "released",
	[VMBUS_RECORD_FAULT] = "broken by the child",
	[VMBUS_RECORD_ATTACHED] = "attached",
	[VMBUS_RECORD_ENDED] = "ended",
	[VMBUS_RECORD_PROVIDER] = "provider attached",
	[VMBUS_RECORD_PROVIDER_GONE] = "provider gone",
	[VMBUS_RECORD_PROVIDER_AGAIN] = "provider goes on",
	[VMBUS_RECORD_SAVED] = "saved",
	[VMBUS_RECORD_RESTORED] = "restored",
	[VMBUS_RECORD_NOTE] = "note",
};

const char *vmbus_record_kind_name(uint32_t kind)
{
	if (kind >= VMBUS_RECORD_NOTE)
		kind = VMBUS_RECORD_NOTE;
	return kind_names[kind] ? kind_names[kind] : "?";
}

/* What a and b mean, as text. */
static void numbers(const struct vmbus_record_event *e, char *buf, size_t bytes)
{
	const unsigned long long a = e->a, b = e->b;
	const char *const err = vmbus_err_name((int)(int64_t)e->b);

	switch (e->kind) {
	case VMBUS_RECORD_IN:
	case VMBUS_RECORD_DROPPED:
		(void)snprintf(buf, bytes, ": %s%s%s", vmbus_ctl_type_name((uint32_t)a),
			       b ? ", " : "", b ? err : "");
		break;
	case VMBUS_RECORD_OUT:
	case VMBUS_RECORD_BLOCKED:
		(void)snprintf(buf, bytes, ": %s, VP %llu", vmbus_ctl_type_name((uint32_t)a), b);
		break;
	case VMBUS_RECORD_REFUSED:
		(void)snprintf(buf, bytes, ": %s, value %llu", vmbus_ctl_type_name((uint32_t)a), b);
		break;
	case VMBUS_RECORD_CONNECTED:
		(void)snprintf(buf, bytes, ", version %llu.%llu, features 0x%llx", a >> 16,
			       a & 0xffffu, b);
		break;
	case VMBUS_RECORD_GPADL:
		(void)snprintf(buf, bytes, " %llu: %s", a, b ? err : "accepted");
		break;
	case VMBUS_RECORD_GPADL_DOWN:
		(void)snprintf(buf, bytes, " %llu", a);
		break;
	case VMBUS_RECORD_OPEN:
		(void)snprintf(buf, bytes, ": page list %llu, second ring at page %llu", a, b);
		break;
	case VMBUS_RECORD_OPENED:
		(void)snprintf(buf, bytes, "%s%s", a ? ": " : "",
			       a ? vmbus_err_name((int)(int64_t)a) : "");
		break;
	case VMBUS_RECORD_NOT_OPENED:
		(void)snprintf(buf, bytes, ": value %llu, limit %llu", a, b);
		break;
	case VMBUS_RECORD_MODIFY:
		(void)snprintf(buf, bytes, " to VP %llu", a);
		break;
	default:
		if (a || b)
			(void)snprintf(buf, bytes, ": %llu, %llu", a, b);
		break;
	}
}

size_t vmbus_record_format(const struct vmbus_record_event *event, char *buf, size_t bytes)
{
	char more[96] = "", chan[24] = "", line[256];
	int n;

	numbers(event, more, sizeof(more));
	if (event->relid)
		(void)snprintf(chan, sizeof(chan), "channel %u: ", event->relid);
	n = snprintf(line, sizeof(line), "%s%s%s%s%s", chan, vmbus_record_kind_name(event->kind),
		     more, event->text && event->text[0] ? ": " : "",
		     event->text ? event->text : "");
	if (bytes)
		(void)snprintf(buf, bytes, "%s", line);
	return n > 0 ? (size_t)n : 0;
}
