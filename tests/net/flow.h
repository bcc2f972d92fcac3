/* SPDX-License-Identifier: MIT */
/*
 * A flow of frames whose bytes and order are verified: it sends as long as fewer than a window of
 * frames are out that have not come back, or whose counterparts have not come, in bursts, by copy and
 * in place; every byte of every frame that comes is compared with what it must be.
 */
#ifndef TESTS_NET_FLOW_H
#define TESTS_NET_FLOW_H

#include <stdbool.h>
#include <string.h>

#include <vmbus/netvsc.h>

#define FLOW_BURST 32u
#define FLOW_BYTES 1514u

struct flow {
	struct vmbus_netvsc *nv;
	uint32_t channel;
	uint32_t window;
	uint64_t total; /* frames */
	uint8_t out_id, in_id;
	uint64_t sent, got, bytes;
	uint64_t hellos, heard; /* of a pair: frames until both are there */
	uint64_t wrong;
	uint32_t full;
	int err;
	uint8_t data[FLOW_BURST][FLOW_BYTES];
	struct vmbus_iov piece[FLOW_BURST * 2];
	struct vmbus_frame frame[FLOW_BURST];
	struct vmbus_netvsc_burst burst;
};

static inline uint32_t flow_size(uint64_t n)
{
	return 14u + (uint32_t)(n * 0x9E3779B1u >> 7 & 0xFFFFFFu) % (FLOW_BYTES - 13u);
}

static inline void flow_fill(uint8_t *p, uint64_t n, uint8_t id)
{
	const uint32_t bytes = flow_size(n);
	const uint64_t step = (n + 1) * 0x9E3779B97F4A7C15ull ^ id;
	uint64_t v = step;
	uint32_t i;

	for (i = 0; i < bytes; i += 8, v += step)
		memcpy(p + i, &v, bytes - i < 8 ? bytes - i : 8);
	memset(p, 2, 12);
	p[12] = 0x88;
	if (bytes > 13)
		p[13] = 0xB5;
}

/* Frames that were made, one half by copy, in one piece or two, the other in place. */
static inline uint32_t flow_send_some(struct flow *f, uint32_t n)
{
	uint32_t i;
	int sent = 0;
	void *to;

	for (i = 0; i < n; i++) {
		const uint32_t bytes = flow_size(f->sent + i);
		const uint32_t cut = i & 1 && bytes > 40 ? 33u : bytes;

		flow_fill(f->data[i], f->sent + i, f->out_id);
		f->piece[i * 2] = (struct vmbus_iov){ f->data[i], cut };
		f->piece[i * 2 + 1] = (struct vmbus_iov){ f->data[i] + cut, bytes - cut };
		f->frame[i] = (struct vmbus_frame){ .piece = &f->piece[i * 2],
						    .pieces = cut < bytes ? 2 : 1,
						    .bytes = bytes };
	}
	if (f->sent / FLOW_BURST % 2 == 0 || f->nv->section_bytes < FLOW_BYTES + 100) {
		sent = vmbus_netvsc_send(f->nv, f->channel, f->frame, n);
		if (sent < 0 && sent != VMBUS_E_FULL)
			f->err = sent;
		f->full += sent == VMBUS_E_FULL;
		return sent < 0 ? 0 : (uint32_t)sent;
	}
	for (i = 0; i < n; i++) {
		f->frame[i].pieces = 0;
		sent = vmbus_netvsc_reserve(f->nv, f->channel, f->frame[i].bytes, 0, &to);
		if (sent)
			break;
		memcpy(to, f->data[i], f->frame[i].bytes);
		sent = vmbus_netvsc_commit(f->nv, f->channel, &f->frame[i]);
		if (sent)
			break;
	}
	if (sent && sent != VMBUS_E_FULL)
		f->err = sent;
	f->full += sent == VMBUS_E_FULL;
	sent = vmbus_netvsc_flush(f->nv, f->channel);
	if (sent && sent != VMBUS_E_FULL)
		f->err = sent;
	return i;
}

/* One frame of another type.  What comes before both ends are there is lost. */
static inline void flow_hello(struct flow *f)
{
	static const uint8_t hello[60] = { 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0x88, 0xB6 };
	const struct vmbus_iov piece = { hello, sizeof(hello) };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = sizeof(hello) };

	if (vmbus_netvsc_send(f->nv, f->channel, &frame, 1) == 1)
		f->hellos++;
}

static inline void flow_take(struct flow *f, const struct vmbus_frame *frame)
{
	uint8_t want[FLOW_BYTES];
	uint32_t i, at = 0;

	if (frame->bytes == 60 && ((const uint8_t *)frame->piece[0].base)[13] == 0xB6) {
		f->heard++;
		return;
	}
	flow_fill(want, f->got, f->in_id);
	if (frame->bytes != flow_size(f->got))
		f->wrong++;
	for (i = 0; i < frame->pieces && frame->bytes <= FLOW_BYTES; i++) {
		if (memcmp(want + at, frame->piece[i].base, frame->piece[i].len) != 0)
			f->wrong++;
		at += (uint32_t)frame->piece[i].len;
	}
	f->got++;
	f->bytes += frame->bytes;
}

static inline bool flow_is_done(const struct flow *f)
{
	return f->got >= f->total && f->sent >= f->total;
}

/* Send what the window allows. */
static inline void flow_fill_window(struct flow *f)
{
	uint32_t i, n;

	while (f->sent < f->total && f->sent < f->got + f->window) {
		const uint64_t out = f->got + f->window - f->sent;

		n = out < FLOW_BURST ? (uint32_t)out : FLOW_BURST;
		if (f->total - f->sent < n)
			n = (uint32_t)(f->total - f->sent);
		i = flow_send_some(f, n);
		f->sent += i;
		if (i < n)
			break;
	}
}

/* Send and take, until nothing is there.  Returns what vmbus_netvsc_receive() said last: 0, or an
   error. */
static inline int flow_turn(struct flow *f)
{
	uint32_t i;
	int err;

	for (;;) {
		flow_fill_window(f);
		err = vmbus_netvsc_receive(f->nv, f->channel, &f->burst, 1 + f->got % 64);
		if (err <= 0)
			return err;
		for (i = 0; i < f->burst.frames; i++)
			flow_take(f, &f->burst.frame[i]);
		err = vmbus_netvsc_release(f->nv, f->channel, &f->burst);
		if (err)
			return err;
	}
}

#endif
