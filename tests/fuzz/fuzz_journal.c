/* SPDX-License-Identifier: MIT */
/*
 * A journal that is changed in places, or input from the first byte on, and the two indices of ours in
 * the child's memory.  The open fails, or the channel goes on within bounds, and then what it leaves
 * is a journal to go on from.
 *
 * The first byte: 1, the journal is what follows, under a head that is right; 2, under any head; else
 * changes follow: 2 bytes offset, in units of 4, and 4 bytes to put there.  Bit 7 and bit 6: the input
 * begins with our write index, our read index, 2 bytes each.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "bus/journal_lies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *at;
static size_t left_bytes;

static uint32_t take(uint32_t bytes)
{
	uint32_t v = 0, i;

	for (i = 0; i < bytes && left_bytes; i++, at++, left_bytes--)
		v |= (uint32_t)*at << (8 * i);
	return v;
}

static void put_index(size_t page, size_t offset)
{
	const uint32_t v = take(2);

	memcpy(lying.mem + page * FAKE_PAGE + offset, &v, 4);
}

static void change(size_t bytes)
{
	while (left_bytes) {
		const size_t where = take(2) * (size_t)4 % bytes;
		const uint32_t v = take(4);

		memcpy(lying.journal + where, &v, 4);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool made;
	const size_t bytes = vmbus_journal_bytes(&jb_vsp);
	uint32_t how;

	if (!made)
		make_honest();
	made = true;
	at = data;
	left_bytes = size;
	lying = honest;
	how = take(1);
	if (how & 0x80u)
		put_index(JB_FIRST + JB_UP, 0);
	if (how & 0x40u)
		put_index(JB_FIRST, 4);
	if (how % 64 == 1 || how % 64 == 2) {
		const size_t from = how % 64 == 1 ? 32 : 0;
		const size_t n = left_bytes < bytes - from ? left_bytes : bytes - from;

		if (n)
			memcpy(lying.journal + from, at, n);
	} else {
		change(bytes);
	}
	(void)go_on(NULL);
	return 0;
}
