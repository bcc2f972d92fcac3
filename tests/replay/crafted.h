/* SPDX-License-Identifier: MIT */
/* Captures written record by record, as no bus would, and what a replay of them says. */
#ifndef VMBUS_TESTS_CRAFTED_H
#define VMBUS_TESTS_CRAFTED_H

#include "capture/tapped.h"

#include <vmbus/replay.h>

struct crafted {
	struct file file;
	struct vmbus_capture_writer *writer;
	char text[8192]; /* what the replay said */
	size_t len;
	struct vmbus_replay_result result;
};

static inline void crafted_put(struct crafted *c, uint32_t kind, const void *body, uint32_t bytes)
{
	const struct vmbus_capture_record r = {
		.kind = kind, .len = bytes, .data_len = bytes, .data = body
	};

	must_eq(vmbus_capture_writer_put(c->writer, 0, &r), 0);
}

/* A file that begins with a channel of the class. */
static inline void crafted_begin(struct crafted *c, const struct vmbus_vsp *vsp)
{
	struct vmbus_capture_channel body = { .relid = 1, .snap = 65536, .vsp = "crafted" };

	memset(c, 0, sizeof(*c));
	c->writer = file_writer(&c->file, NULL);
	body.class_id = vsp->class_id;
	crafted_put(c, VMBUS_CAPTURE_CHANNEL, &body, sizeof(body));
}

static inline void crafted_open(struct crafted *c, uint32_t from_bytes, uint32_t to_bytes)
{
	const struct vmbus_capture_open body = { .from_bytes = from_bytes, .to_bytes = to_bytes };

	crafted_put(c, VMBUS_CAPTURE_OPEN, &body, sizeof(body));
}

static inline void crafted_close(struct crafted *c, int err)
{
	const struct vmbus_capture_close body = { .err = err, .why = "why it was" };

	crafted_put(c, VMBUS_CAPTURE_CLOSE, &body, sizeof(body));
}

/* Requests of the child's, the next in a batch of its own or in the same one. */
static inline void crafted_packet(struct crafted *c, uint32_t dir, uint64_t batch, uint64_t id,
				  uint32_t len)
{
	static const uint8_t data[65536];
	const struct vmbus_capture_record r = {
		.kind = VMBUS_CAPTURE_PACKET,
		.dir = dir,
		.batch = batch,
		.id = id,
		.type = dir == VMBUS_CAPTURE_FROM_CHILD ? VMBUS_PKT_INBAND : VMBUS_PKT_COMPLETION,
		.flags = dir == VMBUS_CAPTURE_FROM_CHILD ? VMBUS_PKT_FLAG_COMPLETE : 0,
		.len = len,
		.data_len = len,
		.data = data,
	};

	must(len <= sizeof(data));
	must_eq(vmbus_capture_writer_put(c->writer, 0, &r), 0);
}

static inline void crafted_tell(void *ctx, const char *text)
{
	struct crafted *c = ctx;

	c->len += (size_t)snprintf(c->text + c->len, sizeof(c->text) - c->len, "%s\n", text);
	must(c->len < sizeof(c->text));
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", text);
}

static inline int crafted_replay_with(struct crafted *c, const struct vmbus_vsp *vsp,
				      void (*settle)(void *ctx, struct vmbus_bus *bus))
{
	struct fake_echo echo = { 0 };
	struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts),
					  .vsp = vsp,
					  .ctx = &echo,
					  .settle = settle,
					  .line = crafted_tell,
					  .line_ctx = c };
	int err;

	if (c->writer)
		vmbus_capture_writer_destroy(c->writer);
	c->writer = NULL;
	c->len = 0;
	c->text[0] = '\0';
	opts.capture = file_reader(&c->file);
	err = vmbus_replay(&opts, &c->result);
	vmbus_capture_reader_destroy(opts.capture);
	return err;
}

static inline int crafted_replay(struct crafted *c, const struct vmbus_vsp *vsp)
{
	return crafted_replay_with(c, vsp, NULL);
}

/* It must have said this; then the capture is done with. */
static inline void crafted_end(struct crafted *c, const char *text)
{
	if (!strstr(c->text, text))
		ck_abort_msg("not said: %s\nsaid:\n%s", text, c->text);
	free(c->file.bytes);
}

#endif
