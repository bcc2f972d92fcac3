/* SPDX-License-Identifier: MIT */
/* Both sides in one thread, and a device that speaks first: for the suites with a real bus. */
#ifndef UIO_DRIVE_H
#define UIO_DRIVE_H

#include "uio/kernel.h"

#define SECOND 1000000000ull
#define DEADLINE_NS (20 * SECOND)

static struct kernel k;

/* ---- both sides in one thread ---- */

static inline void turn(struct vmbus_uio *uio)
{
	const int done = vmbus_uio_dispatch(uio, 64);

	must(done >= 0);
	kernel_run(&k);
	/* The descriptor must agree when there is nothing to do. */
	if (done == 0 && !fake_readable(vmbus_uio_fd(uio)))
		usleep(20);
}

#define drive(uio, until)                                                                          \
	do {                                                                                       \
		const uint64_t drive_end = fake_now_ns() + DEADLINE_NS;                            \
		while (!(until)) {                                                                 \
			turn(uio);                                                                 \
			must(fake_now_ns() < drive_end);                                           \
		}                                                                                  \
	} while (0)

/* Until the channel is open; the bus runs only for that. */
static inline void open_alone(struct vmbus_uio *uio)
{
	uint32_t i;

	for (i = 0; i < 1000 && vmbus_vsc_state(k.vsc) != VMBUS_VSC_OPEN; i++)
		must(vmbus_uio_dispatch(uio, 64) >= 0);
	must_eq(vmbus_vsc_state(k.vsc), VMBUS_VSC_OPEN);
}

static inline struct vmbus_echo_opts echo_opts(struct vmbus_uio *uio, uint64_t packets,
					       uint32_t window)
{
	struct vmbus_echo_opts opts = {
		.struct_bytes = sizeof(opts), .packets = packets, .payload = 256, .window = window
	};

	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = vmbus_uio_ring_bytes(uio);
	return opts;
}

static inline void close_channel(struct vmbus_uio *uio)
{
	must_eq(vmbus_vsc_close(k.vsc), 0);
	drive(uio, vmbus_vsc_state(k.vsc) == VMBUS_VSC_OFFERED);
	must(!k.open);
}

/* ---- a device that speaks first ---- */

static const char early[8] = "early";

static inline int speak(struct vmbus_chan *chan, void *ctx)
{
	const struct vmbus_msg msg = { .data = early, .len = 8, .type = VMBUS_PKT_INBAND };
	uint32_t i;

	(void)ctx;
	for (i = 0; i < 5; i++)
		must_eq(vmbus_chan_send(chan, &msg, 1), 1);
	return 0;
}

static inline void hear_parent(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

static const struct vmbus_vsp early_vsp = {
	.struct_bytes = sizeof(early_vsp),
	.name = "early",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 7),
	.open = speak,
	.packets = hear_parent,
};

static uint32_t heard, opened_calls, closed_calls;
static int opened_err;

static inline void hear(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	(void)vsc;
	for (i = 0; i < n; i++)
		must(pkt[i].len == 8 && memcmp(pkt[i].payload, early, 8) == 0);
	heard += n;
}

static inline void on_opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	opened_calls++;
	opened_err = err;
}

static inline void on_closed(struct vmbus_vsc *vsc)
{
	(void)vsc;
	closed_calls++;
}

static inline struct vmbus_vsc_opts plain_opts(struct vmbus_uio *uio)
{
	return (struct vmbus_vsc_opts){ .struct_bytes = sizeof(struct vmbus_vsc_opts),
					.send_bytes = vmbus_uio_ring_bytes(uio),
					.recv_bytes = vmbus_uio_ring_bytes(uio),
					.opened = on_opened,
					.closed = on_closed,
					.packets = hear };
}

#endif
