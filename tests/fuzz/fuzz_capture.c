/* SPDX-License-Identifier: MIT */
/*
 * Capture files: whatever bytes they have, each record keeps what its header promises, text is
 * printable, and a replay of every channel ends, twice in the same way.
 *
 * Input: the file.
 */
#include <vmbus/echo.h>
#include <vmbus/replay.h>

#include "fuzz/input.h"

#define REPLAYED_MAX 48u /* records of a file that is replayed: a bus is dear */

struct source {
	const uint8_t *data;
	size_t size, at;
};

static long read_in(void *ctx, void *bytes, size_t n)
{
	struct source *s = ctx;

	if (n > s->size - s->at)
		n = s->size - s->at;
	if (n)
		memcpy(bytes, s->data + s->at, n);
	s->at += n;
	return (long)n;
}

static struct vmbus_capture_reader *reader_of(struct source *s)
{
	const struct vmbus_capture_reader_opts opts = { .struct_bytes = sizeof(opts),
							.read = read_in,
							.ctx = s };
	struct vmbus_capture_reader *r = NULL;

	MUST(vmbus_capture_reader_create(&opts, &r) == 0);
	return r;
}

static void check_text(const char *text, size_t bytes)
{
	size_t i;

	MUST(memchr(text, 0, bytes));
	for (i = 0; text[i]; i++)
		MUST(text[i] >= 0x20 && text[i] < 0x7F);
}

static void check_record(const struct vmbus_capture_record *r)
{
	struct vmbus_capture_channel channel;
	struct vmbus_capture_open open;
	struct vmbus_capture_close close;
	volatile uint8_t sum = 0;
	uint32_t i;

	MUST(r->kind >= VMBUS_CAPTURE_PACKET && r->kind <= VMBUS_CAPTURE_CHANNEL);
	MUST(r->channel < VMBUS_CAPTURE_CHANNELS_MAX);
	MUST(r->data_len <= r->ext_len + r->len);
	for (i = 0; i < r->data_len; i++)
		sum = (uint8_t)(sum + r->data[i]);
	if (r->kind == VMBUS_CAPTURE_PACKET) {
		MUST(r->dir == VMBUS_CAPTURE_FROM_CHILD || r->dir == VMBUS_CAPTURE_TO_CHILD);
		MUST((int)r->ext_len >= vmbus_wire_ext_min(r->type));
		MUST(r->len % 8 == 0 && r->ext_len % 8 == 0);
		MUST(r->ext_len + r->len <= VMBUS_PKT_LENGTH_MAX - VMBUS_PKT_DESC_BYTES);
	}
	if (vmbus_capture_channel_get(r, &channel) == 0) {
		check_text(channel.vsp, sizeof(channel.vsp));
		check_text(channel.child, sizeof(channel.child));
	}
	if (vmbus_capture_close_get(r, &close) == 0)
		check_text(close.why, sizeof(close.why));
	(void)vmbus_capture_open_get(r, &open);
}

static void add_line(void *ctx, const char *text)
{
	uint64_t *hash = ctx;

	for (; *text; text++)
		*hash = (*hash ^ (uint8_t)*text) * 0x100000001B3u;
}

static void replay(const uint8_t *data, size_t size, uint32_t channel)
{
	struct vmbus_replay_result result[2];
	uint64_t hash[2] = { 0, 0 };
	int i, err[2];

	for (i = 0; i < 2; i++) {
		struct source s = { .data = data, .size = size };
		struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts),
						  .vsp = vmbus_echo_vsp(),
						  .channel = channel,
						  .memory_bytes = 1 << 20,
						  .line = add_line,
						  .line_ctx = &hash[i] };

		opts.capture = reader_of(&s);
		err[i] = vmbus_replay(&opts, &result[i]);
		vmbus_capture_reader_destroy(opts.capture);
	}
	MUST(err[0] == err[1]);
	MUST(err[0] == 0 || err[0] == VMBUS_E_NOMEM);
	MUST(hash[0] == hash[1]);
	MUST(memcmp(&result[0], &result[1], sizeof(result[0])) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s = { .data = data, .size = size };
	struct vmbus_capture_reader *r = reader_of(&s);
	struct vmbus_capture_record record;
	uint32_t n = 0, last = 0;
	int got;

	while ((got = vmbus_capture_reader_next(r, &record)) == 1) {
		check_record(&record);
		last = record.channel;
		n++;
	}
	MUST(got == 0 || got == VMBUS_E_PEER);
	check_text(vmbus_capture_reader_why(r), 200);
	MUST((got == 0) == (vmbus_capture_reader_why(r)[0] == 0));
	vmbus_capture_reader_destroy(r);
	if (got == 0 && n && n <= REPLAYED_MAX)
		replay(data, size, last);
	return 0;
}
