/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder.  The writer keeps its place in private and believes nothing of the memory,
 * which may be a file that others have mapped; one event is 16 stores and a look at the clock.  It is
 * written by the thread that dispatches the bus, so there is one writer at a time.
 */
#include "bus/bus.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bus/record.h"

static vmbus__a64 *word_at(void *mem, size_t word)
{
	return vmbus__as_a64((uint64_t *)mem + word);
}

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void put_word(void *mem, size_t word, uint64_t v)
{
	vmbus__st64_relaxed(word_at(mem, word), v); /* RECORD.write */
}

/* Text as whole words, zeroes behind it; what does not fit is left out. */
static void put_text(void *mem, size_t word, const char *text, size_t bytes)
{
	const size_t len = text ? strnlen(text, bytes - 1) : 0;
	size_t at;

	for (at = 0; at < bytes; at += 8) {
		uint64_t v = 0;

		if (at < len)
			memcpy(&v, text + at, len - at < 8 ? len - at : 8);
		put_word(mem, word + at / 8, v);
	}
}

void vmbus__record_init(struct vmbus_bus *bus)
{
	struct vmbus__recorder *const rec = &bus->recorder;
	const struct vmbus_bus_opts *const opts = &bus->opts;
	const size_t head = VMBUS__RECORD_HEAD_WORDS * 8u;

	bus->times.created = vmbus__now();
	if (!opts->record)
		return;
	rec->mem = opts->record;
	rec->room = (uint32_t)((opts->record_bytes - head) / (VMBUS__RECORD_WORDS * 8u));
	put_word(rec->mem, VMBUS__RECORD_HEAD_FORM,
		 VMBUS__RECORD_VERSION | (uint64_t)VMBUS__RECORD_WORDS * 8u << 32);
	put_word(rec->mem, VMBUS__RECORD_HEAD_ROOM, rec->room | (uint64_t)(uint32_t)getpid() << 32);
	put_word(rec->mem, VMBUS__RECORD_HEAD_MONO, bus->times.created);
	put_word(rec->mem, VMBUS__RECORD_HEAD_REAL, real_ns());
	put_text(rec->mem, VMBUS__RECORD_HEAD_NAME, bus->name, sizeof(bus->name));
	vmbus__st64_release(word_at(rec->mem, VMBUS__RECORD_HEAD_MAGIC), /* RECORD.write */
			    VMBUS__RECORD_MAGIC);
}

void vmbus__record(struct vmbus_bus *bus, const struct vmbus_record_note *note, uint64_t now)
{
	struct vmbus__recorder *const rec = &bus->recorder;
	size_t at;

	if (!rec->mem)
		return;
	at = VMBUS__RECORD_HEAD_WORDS + rec->at * (size_t)VMBUS__RECORD_WORDS;
	vmbus__st64_relaxed(word_at(rec->mem, at + VMBUS__RECORD_SEQ), /* RECORD.write */
			    2 * rec->next + 1);
	vmbus__fence_full(); /* RECORD.write */
	put_word(rec->mem, at + VMBUS__RECORD_MONO, now);
	put_word(rec->mem, at + VMBUS__RECORD_KIND, note->kind | (uint64_t)note->relid << 32);
	put_word(rec->mem, at + VMBUS__RECORD_A, note->a);
	put_word(rec->mem, at + VMBUS__RECORD_B, note->b);
	put_text(rec->mem, at + VMBUS__RECORD_TEXT, note->text, VMBUS_RECORD_TEXT);
	rec->next++;
	vmbus__st64_release(word_at(rec->mem, at + VMBUS__RECORD_SEQ), /* RECORD.write */
			    2 * rec->next);
	rec->at = rec->at + 1 < rec->room ? rec->at + 1 : 0;
}

void vmbus_bus_record(struct vmbus_bus *bus, const struct vmbus_record_note *note)
{
	vmbus__note_owner(bus, note);
	if (bus->recorder.mem)
		vmbus__record(bus, note, vmbus__now());
}

const void *vmbus_bus_record_mem(const struct vmbus_bus *bus, size_t *bytes)
{
	*bytes = bus->recorder.mem ? bus->opts.record_bytes : 0;
	return bus->recorder.mem;
}
