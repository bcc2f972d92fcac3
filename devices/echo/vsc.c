/* SPDX-License-Identifier: MIT */
/*
 * The client of the echo device: keeps a window of numbered packets in flight and checks every byte
 * that comes back.  It allocates nothing; one buffer serves for what is sent and what is compared,
 * since a packet's number says all of its bytes.
 *
 * Invariant: while it runs, sent - received - wrong packets are in flight, at most window, and the
 * next one to come back is number first + received + wrong.
 */
#include <vmbus/echo.h>

#define PACKETS 1u /* defaults of struct vmbus_echo_opts */
#define PAYLOAD 64u
#define WINDOW 64u
#define PAYLOAD_MIN 16u
#define RING_BYTES 65536u /* default of struct vmbus_vsc_opts */
#define REQUESTS 256u
#define REQUESTS_MAX 65535u
#define BATCH 64u /* sent together, so with one signal */
/* Odd numbers without a pattern of their own, so that each word of each packet differs. */
#define BY_PACKET 0x9E3779B1u
#define BY_WORD 0x85EBCA6B77ull

static uint64_t word_of(uint64_t number, uint32_t i)
{
	return i == 0 ? number : (number & UINT32_MAX) * BY_PACKET ^ number >> 32 ^ i * BY_WORD;
}

static void fill(uint8_t *to, uint64_t number, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes / 8u; i++) {
		const uint64_t v = word_of(number, i);

		__builtin_memcpy(to + (size_t)i * 8u, &v, 8);
	}
}

static bool is_right(const uint8_t *from, uint64_t number, uint32_t bytes)
{
	uint64_t differ = 0;
	uint32_t i;

	for (i = 0; i < bytes / 8u; i++) {
		uint64_t v;

		__builtin_memcpy(&v, from + (size_t)i * 8u, 8);
		differ |= v ^ word_of(number, i);
	}
	return differ == 0;
}

static void finish(struct vmbus_echo *echo, int err)
{
	if (echo->done)
		return;
	echo->done = true;
	echo->err = err;
	if (echo->opts_p.done)
		echo->opts_p.done(echo->opts_p.ctx, err);
}

static uint64_t flying(const struct vmbus_echo *echo)
{
	return echo->sent - echo->received - echo->wrong;
}

/* How many may be sent now, a batch at most. */
static uint32_t may_send(const struct vmbus_echo *echo)
{
	const uint64_t left = echo->opts_p.packets - echo->sent;
	const uint64_t room = echo->opts_p.window - flying(echo);
	const uint64_t n = left < room ? left : room;

	return n < BATCH ? (uint32_t)n : BATCH;
}

/* Send up to n packets.  Returns how many, or an error. */
static int send_some(struct vmbus_echo *echo, uint32_t n)
{
	const uint32_t bytes = echo->opts_p.payload;
	struct vmbus_msg msg[BATCH] = { 0 };
	uint32_t i, fit = VMBUS_ECHO_PAYLOAD_MAX / bytes;
	int err;

	if (echo->opts_p.completions || fit == 0)
		fit = 1;
	if (n > fit)
		n = fit;
	for (i = 0; i < n; i++) {
		const uint64_t number = echo->first_p + echo->sent + i;

		msg[i].id = number + 1u;
		msg[i].type = VMBUS_PKT_INBAND;
		msg[i].data = echo->buf_p + (size_t)i * bytes;
		msg[i].len = bytes;
		fill(echo->buf_p + (size_t)i * bytes, number, bytes);
	}
	if (!echo->opts_p.completions)
		return vmbus_vsc_send(echo->vsc_p, msg, n);
	err = vmbus_vsc_request(echo->vsc_p, msg, echo);
	return err ? err : 1;
}

/* Fill the window.  What finds the ring full goes on in writable(). */
static void pump(struct vmbus_echo *echo)
{
	uint32_t n;

	while (!echo->done && echo->open_p && (n = may_send(echo)) > 0) {
		const int sent = send_some(echo, n);

		if (sent == VMBUS_E_FULL)
			return;
		if (sent < 0) {
			finish(echo, sent);
			return;
		}
		echo->sent += (uint32_t)sent;
	}
}

/*
 * Fill it again, once three quarters of it are back: a window that goes round in small pieces costs a
 * signal for each of them.
 */
static void refill(struct vmbus_echo *echo)
{
	if (!echo->done && flying(echo) <= echo->opts_p.window / 2u)
		pump(echo);
}

static void came_back(struct vmbus_echo *echo, const struct vmbus_packet *pkt)
{
	const uint64_t number = echo->first_p + echo->received + echo->wrong;

	if (echo->done)
		return;
	if (flying(echo) == 0) { /* of the parent's own making: it ends here */
		echo->wrong++;
		finish(echo, VMBUS_E_PEER);
		return;
	}
	if (pkt->len == echo->opts_p.payload && is_right(pkt->payload, number, pkt->len))
		echo->received++;
	else
		echo->wrong++;
	if (echo->received + echo->wrong == echo->opts_p.packets)
		finish(echo, echo->wrong ? VMBUS_E_PEER : 0);
}

/* ---- callbacks of the channel ---- */

static void on_opened(struct vmbus_vsc *vsc, int err)
{
	struct vmbus_echo *const echo = vmbus_vsc_priv(vsc);

	if (err) {
		finish(echo, err);
		return;
	}
	echo->open_p = true;
	pump(echo);
}

static void on_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_echo *const echo = vmbus_vsc_priv(vsc);
	uint32_t i;

	for (i = 0; i < n; i++)
		if (!echo->opts_p.completions && pkt[i].type == VMBUS_PKT_INBAND)
			came_back(echo, &pkt[i]);
	refill(echo);
}

static void on_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct vmbus_echo *const echo = cookie;

	(void)vsc;
	if (!pkt) /* the channel ended; closed() follows */
		return;
	came_back(echo, pkt);
	refill(echo);
}

static void on_writable(struct vmbus_vsc *vsc)
{
	pump(vmbus_vsc_priv(vsc));
}

static void on_closed(struct vmbus_vsc *vsc)
{
	struct vmbus_echo *const echo = vmbus_vsc_priv(vsc);

	echo->open_p = false;
	finish(echo, VMBUS_E_PEER);
}

/* ---- options ---- */

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

/* Check options and put the defaults in. */
static int take_opts(struct vmbus_echo_opts *to, const struct vmbus_echo_opts *from)
{
	const uint64_t most = UINT64_MAX / 2u;

	if (from->struct_bytes < sizeof(*from))
		return VMBUS_E_INVAL;
	*to = *from;
	to->packets = from->packets ? from->packets : PACKETS;
	to->payload = or_default(from->payload, PAYLOAD);
	to->window = or_default(from->window, WINDOW);
	if (to->payload % 8u || to->payload < PAYLOAD_MIN || to->payload > VMBUS_ECHO_PAYLOAD_MAX ||
	    to->packets > most || to->subchannels > VMBUS_ECHO_SUBCHANNELS_MAX ||
	    (to->completions && to->window > REQUESTS_MAX))
		return VMBUS_E_RANGE;
	return 0;
}

/* Whether the payload fits through both rings. */
static int check_rings(const struct vmbus_echo_opts *opts, const struct vmbus_vsc_opts *open)
{
	const uint64_t need = vmbus_wire_ring_bytes(0, opts->payload);

	if (need > vmbus_ring_max_send(or_default(open->send_bytes, RING_BYTES)) ||
	    need > vmbus_ring_max_send(or_default(open->recv_bytes, RING_BYTES)))
		return VMBUS_E_RANGE;
	return 0;
}

static void begin(struct vmbus_echo *echo)
{
	echo->sent = 0;
	echo->received = 0;
	echo->wrong = 0;
	echo->err = 0;
	echo->done = false;
}

int vmbus_echo_start(struct vmbus_echo *echo, struct vmbus_vsc *vsc,
		     const struct vmbus_echo_opts *opts)
{
	struct vmbus_echo_opts ours;
	struct vmbus_vsc_opts open;
	int err = take_opts(&ours, opts);
	uint32_t i;

	if (!err)
		err = check_rings(&ours, &ours.open);
	if (err)
		return err;
	open = ours.open;
	if (ours.completions && or_default(open.requests_max, REQUESTS) < ours.window)
		open.requests_max = ours.window;
	for (i = 0; i < 4; i++)
		open.user[i] = (uint8_t)(ours.subchannels >> 8u * i & 255u);
	open.opened = on_opened;
	open.packets = on_packets;
	open.completed = on_completed;
	open.writable = on_writable;
	open.closed = on_closed;
	open.priv = echo;
	/* Nothing is called back before the guest is dispatched. */
	err = vmbus_vsc_open(vsc, &open);
	if (err)
		return err;
	begin(echo);
	echo->first_p = 0;
	echo->open_p = false;
	echo->vsc_p = vsc;
	echo->opts_p = ours;
	return 0;
}

int vmbus_echo_again(struct vmbus_echo *echo, const struct vmbus_echo_opts *opts)
{
	struct vmbus_echo_opts ours;
	int err = take_opts(&ours, opts);

	if (err)
		return err;
	if (!echo->done || !echo->open_p)
		return VMBUS_E_STATE;
	err = check_rings(&ours, &echo->opts_p.open);
	if (err)
		return err;
	ours.open = echo->opts_p.open;
	echo->opts_p = ours;
	echo->first_p += echo->sent;
	begin(echo);
	pump(echo);
	return 0;
}
