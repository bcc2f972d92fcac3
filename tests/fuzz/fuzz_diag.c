/* SPDX-License-Identifier: MIT */
/*
 * What tools read of parents and of files that these left behind: flight records, and the answers to
 * DIAG and RECORDS.  Texts end and are printable, the work is bounded by the bytes, and an answer that
 * is taken is written and read again as the same.
 *
 * The first byte: 0, a record with its header; 1, entries under a header that is right; else the body
 * of the message type 40 + n % 5.
 */
#include <string.h>

#include <vmbus/diag.h>

#include "../../backends/shm/diag_proto.h"
#include "fuzz/input.h"

#define RECORD_MAX 8192u

struct told {
	uint32_t events;
	uint64_t last;
};

static void check_text(const char *text, size_t bytes)
{
	size_t i;

	MUST(memchr(text, 0, bytes));
	for (i = 0; text[i]; i++)
		MUST(text[i] >= 0x20 && text[i] < 0x7F);
}

static void event(void *ctx, const struct vmbus_record_event *e)
{
	struct told *const told = ctx;
	char line[200];

	MUST(told->events == 0 || e->number == told->last + 1 || e->number > told->last);
	told->last = e->number;
	told->events++;
	check_text(e->text, VMBUS_RECORD_TEXT);
	(void)vmbus_record_format(e, line, sizeof(line));
	check_text(line, sizeof(line));
	MUST(vmbus_record_kind_name(e->kind)[0]);
}

static void record(const uint8_t *data, size_t size, bool under_a_head)
{
	static _Alignas(64) uint8_t mem[RECORD_MAX];
	const size_t head = under_a_head ? 128 : 0;
	const uint64_t words[] = { 0x3144434552534D56ull, 1u | (uint64_t)128 << 32,
				   (RECORD_MAX - 128) / 128, 1000, 2000 };
	struct vmbus_record_info info;
	struct told told = { 0 };
	size_t bytes = size < RECORD_MAX - head ? size : RECORD_MAX - head;

	memset(mem, 0, sizeof(mem));
	if (under_a_head)
		memcpy(mem, words, sizeof(words));
	if (bytes)
		memcpy(mem + head, data, bytes);
	if (vmbus_record_read(mem, under_a_head ? RECORD_MAX : bytes, &info, event, &told))
		return;
	check_text(info.name, sizeof(info.name));
	MUST(info.told == told.events);
	MUST((uint64_t)info.told + info.torn <= info.room);
	MUST(info.room <= (RECORD_MAX - 128) / 128);
}

static void message(const uint8_t *data, size_t size, uint32_t type)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX], again[VMBUS_SHM_MSG_MAX];
	static struct vmbus__dg_msg msg, back;
	uint32_t len;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	len = vmbus__dg_encode(&msg, bytes);
	MUST(len == vmbus__dg_msg_bytes(type) && len <= sizeof(bytes));
	if (size > len - 16u)
		size = len - 16u;
	if (size)
		memcpy(bytes + 16, data, size);
	if (vmbus__dg_decode(bytes, len, &msg))
		return;
	check_text(msg.what, sizeof(msg.what));
	check_text(msg.vsp, sizeof(msg.vsp));
	check_text(msg.refused, sizeof(msg.refused));
	MUST(msg.part.bytes <= sizeof(msg.part.data));
	MUST(vmbus__dg_encode(&msg, again) == len);
	MUST(vmbus__dg_decode(again, len, &back) == 0);
	MUST(memcmp(msg.what, back.what, sizeof(msg.what)) == 0);
	MUST(memcmp(&msg.part, &back.part, sizeof(msg.part)) == 0);
	MUST(memcmp(msg.chan.steps, back.chan.steps, sizeof(msg.chan.steps)) == 0);
	MUST(msg.chan.owner == back.chan.owner && msg.bus.version == back.bus.version);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] < 2)
		record(data + 1, size - 1, data[0] == 1);
	else
		message(data + 1, size - 1, VMBUS_DG_FIRST + data[0] % 5u);
	return 0;
}
