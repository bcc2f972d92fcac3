/* SPDX-License-Identifier: MIT */
/*
 * A NIC of the parent's: ARP and ICMP echo are answered, so that others can ping the payload, and with
 * peer=ADDRESS the payload pings as well.  Every frame is copied before it is looked at.
 */
#include <vmbus/netvsc.h>

#include "payload.h"

#define SECOND_NS 1000000000ull
#define SECOND_100NS 10000000u
#define STUCK_100NS (600ull * SECOND_100NS) /* without a frame: a wake-up was lost */
#define TURN 65536u
#define FRAME_MAX 1518u
#define ETHER 14u
#define ARP_BYTES 28u
#define IP_BYTES 20u
#define ICMP_BYTES 8u
#define ICMP_AT (ETHER + IP_BYTES)
#define ECHO 8u
#define ECHO_REPLY 0u
#define ECHO_ID 0x7662u

static const struct vmbus_guid net_class = VMBUS_NET_CLASS;

struct ping {
	const struct options *opts;
	struct vmbus_bare *bare;
	const struct vmbus_guest_backend *be;
	struct vmbus_guest *guest;
	struct vmbus_netvsc nv;
	bool ready, closed, peer_known, finished;
	int err;
	uint8_t peer[6];
	uint64_t due; /* when the next request, of ARP or ICMP, is sent (again) */
	uint64_t answered, arps, sent, replies, again;
};

static struct ping the_ping;
static struct vmbus_netvsc_chan chan;
static struct vmbus_netvsc_burst burst;

static void on_log(void *ctx, const char *line)
{
	(void)ctx;
	say_text("log", line);
}

static uint64_t now(const struct ping *p)
{
	return p->be->time(p->bare);
}

/* ---- bytes ---- */

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static uint32_t checksum(const uint8_t *p, uint32_t bytes)
{
	uint32_t sum = 0, i;

	for (i = 0; i + 1 < bytes; i += 2)
		sum += get16(p + i);
	if (bytes & 1)
		sum += (uint32_t)p[bytes - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xFFFF) + (sum >> 16);
	return ~sum & 0xFFFF;
}

/* ---- sending ---- */

/* Build a frame in the send buffer.  What finds no room is asked for again by the other side. */
static void send(struct ping *p, const uint8_t *data, uint32_t bytes)
{
	const struct vmbus_frame frame = { .bytes = bytes };
	void *to;
	int err = vmbus_netvsc_reserve(&p->nv, 0, bytes, 0, &to);

	if (err == VMBUS_E_FULL)
		return;
	if (!err) {
		__builtin_memcpy(to, data, bytes);
		err = vmbus_netvsc_commit(&p->nv, 0, &frame);
	}
	if (!err)
		err = vmbus_netvsc_flush(&p->nv, 0);
	if (err && err != VMBUS_E_FULL)
		fail("cannot send", vmbus_err_name(err));
}

static void put_ether(const struct ping *p, uint8_t *frame, const uint8_t to[6], uint32_t type)
{
	__builtin_memcpy(frame, to, 6);
	__builtin_memcpy(frame + 6, p->nv.mac, 6);
	put16(frame + 12, type);
}

static void put_arp(const struct ping *p, uint8_t *frame, uint32_t op, const uint8_t mac[6],
		    uint32_t ip)
{
	uint8_t *const arp = frame + ETHER;

	put16(arp, 1);
	put16(arp + 2, 0x0800);
	arp[4] = 6;
	arp[5] = 4;
	put16(arp + 6, op);
	__builtin_memcpy(arp + 8, p->nv.mac, 6);
	put32(arp + 14, p->opts->ip);
	__builtin_memcpy(arp + 18, mac, 6);
	put32(arp + 24, ip);
}

static void put_ip(const struct ping *p, uint8_t *frame, uint32_t to, uint32_t bytes)
{
	uint8_t *const ip = frame + ETHER;

	__builtin_memset(ip, 0, IP_BYTES);
	ip[0] = 0x45;
	put16(ip + 2, bytes);
	put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = 1;
	put32(ip + 12, p->opts->ip);
	put32(ip + 16, to);
	put16(ip + 10, checksum(ip, IP_BYTES));
}

static uint8_t pattern(uint64_t n, uint32_t i)
{
	return (uint8_t)(n * 7u + i);
}

/* Ask who the peer is, or for the next echo. */
static void ask(struct ping *p)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static const uint8_t nobody[6];
	uint8_t frame[FRAME_MAX];
	uint8_t *const icmp = frame + ICMP_AT;
	const uint32_t data = p->opts->payloads[p->replies % p->opts->payloads_n];
	uint32_t i;

	p->due = now(p) + SECOND_100NS;
	if (!p->peer_known) {
		put_ether(p, frame, all, 0x0806);
		put_arp(p, frame, 1, nobody, p->opts->peer);
		send(p, frame, ETHER + ARP_BYTES);
		return;
	}
	put_ether(p, frame, p->peer, 0x0800);
	put_ip(p, frame, p->opts->peer, IP_BYTES + ICMP_BYTES + data);
	__builtin_memset(icmp, 0, ICMP_BYTES);
	icmp[0] = ECHO;
	put16(icmp + 4, ECHO_ID);
	put16(icmp + 6, (uint32_t)(p->replies & 0xFFFF));
	for (i = 0; i < data; i++)
		icmp[ICMP_BYTES + i] = pattern(p->replies, i);
	put16(icmp + 2, checksum(icmp, ICMP_BYTES + data));
	send(p, frame, ICMP_AT + ICMP_BYTES + data);
	p->sent++;
}

/* ---- receiving ---- */

static void took_arp(struct ping *p, uint8_t *frame, uint32_t bytes)
{
	uint8_t *const arp = frame + ETHER;
	uint8_t from[6];

	if (bytes < ETHER + ARP_BYTES || get16(arp) != 1 || get16(arp + 2) != 0x0800)
		return;
	if (get16(arp + 6) == 2 && p->opts->peer && get32(arp + 14) == p->opts->peer) {
		p->due = p->peer_known ? p->due : 0;
		__builtin_memcpy(p->peer, arp + 8, 6);
		p->peer_known = true;
		return;
	}
	if (get16(arp + 6) != 1 || get32(arp + 24) != p->opts->ip)
		return;
	__builtin_memcpy(from, arp + 8, 6);
	put_arp(p, frame, 2, from, get32(arp + 14));
	put_ether(p, frame, from, 0x0806);
	send(p, frame, ETHER + ARP_BYTES);
	p->arps++;
}

static void took_reply(struct ping *p, const uint8_t *icmp, uint32_t bytes)
{
	const uint32_t data = p->opts->payloads[p->replies % p->opts->payloads_n];
	uint32_t i;

	if (!p->opts->peer || get16(icmp + 4) != ECHO_ID ||
	    get16(icmp + 6) != (uint32_t)(p->replies & 0xFFFF))
		return;
	if (bytes != ICMP_BYTES + data)
		fail_number("an echo reply of another length", bytes);
	for (i = 0; i < data; i++)
		if (icmp[ICMP_BYTES + i] != pattern(p->replies, i))
			fail_number("an echo reply with other bytes, at", i);
	p->replies++;
	p->due = 0;
}

static void took_ip(struct ping *p, uint8_t *frame, uint32_t bytes)
{
	uint8_t *const ip = frame + ETHER, *const icmp = frame + ICMP_AT;
	uint32_t len;

	if (bytes < ICMP_AT + ICMP_BYTES || ip[0] != 0x45 || ip[9] != 1 ||
	    get32(ip + 16) != p->opts->ip || get16(ip + 6) & 0x3FFF)
		return;
	len = get16(ip + 2);
	if (len < IP_BYTES + ICMP_BYTES || len > bytes - ETHER || checksum(ip, IP_BYTES) ||
	    checksum(icmp, len - IP_BYTES))
		return;
	if (icmp[0] == ECHO_REPLY) {
		took_reply(p, icmp, len - IP_BYTES);
		return;
	}
	if (icmp[0] != ECHO)
		return;
	icmp[0] = ECHO_REPLY;
	put16(icmp + 2, 0);
	put16(icmp + 2, checksum(icmp, len - IP_BYTES));
	__builtin_memcpy(p->peer, frame + 6, 6);
	put_ether(p, frame, p->peer, 0x0800);
	put_ip(p, frame, get32(ip + 12), len);
	send(p, frame, ETHER + len);
	p->answered++;
}

static void took(struct ping *p, const struct vmbus_frame *frame)
{
	uint8_t copy[FRAME_MAX];

	if (frame->pieces != 1 || frame->bytes > sizeof(copy) || frame->bytes < ETHER)
		return;
	__builtin_memcpy(copy, frame->piece[0].base, frame->bytes);
	if (get16(copy + 12) == 0x0806)
		took_arp(p, copy, frame->bytes);
	else if (get16(copy + 12) == 0x0800)
		took_ip(p, copy, frame->bytes);
}

/* Take what is there, and see what is due. */
static bool turn(struct ping *p)
{
	const uint64_t want = p->opts->packets;
	bool some = false;
	uint32_t i;

	while (vmbus_netvsc_receive(&p->nv, 0, &burst, VMBUS_NETVSC_BURST) > 0) {
		for (i = 0; i < burst.frames; i++)
			took(p, &burst.frame[i]);
		(void)vmbus_netvsc_release(&p->nv, 0, &burst);
		some = true;
	}
	if (p->opts->peer ? p->replies >= want : p->answered >= want)
		p->finished = true;
	else if (p->ready && p->opts->peer && now(p) >= p->due)
		ask(p);
	return some;
}

/* ---- begin and end ---- */

/* Dispatch, or sleep, until *flag. */
static void wait_for(struct ping *p, const bool *flag, const char *what)
{
	uint64_t begin = now(p), sleep;

	while (!*flag) {
		int done = vmbus_guest_dispatch(p->guest, TURN);

		if (turn(p)) {
			begin = now(p);
			continue;
		}
		if (done > 0)
			continue;
		if (now(p) - begin > STUCK_100NS)
			fail("stuck", what);
		sleep = vmbus_guest_timeout(p->guest);
		if (p->opts->poll)
			__asm__ volatile("pause");
		else if (sleep)
			(void)p->be->idle(p->bare, sleep < SECOND_NS / 4 ? sleep : SECOND_NS / 4);
	}
}

static void on_ready(void *ctx, int err)
{
	struct ping *const p = ctx;

	p->ready = true;
	p->err = err;
}

static void on_closed(void *ctx)
{
	((struct ping *)ctx)->closed = true;
}

static void connect(struct ping *p)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };
	int err;

	opts.backend = p->be;
	opts.backend_ctx = p->bare;
	opts.log = on_log;
	err = vmbus_guest_create(&opts, &p->guest);
	if (!err)
		err = vmbus_guest_connect(p->guest);
	if (!err)
		err = vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 600u * SECOND_NS);
	if (err)
		fail("cannot connect", vmbus_err_name(err));
}

static void start(struct ping *p)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(p->guest, &net_class, 0);
	int err;

	if (!vsc)
		fail("no NIC is offered", NULL);
	opts.chan = &chan;
	opts.open.target_vp = vmbus_bare_vp(p->bare);
	opts.open.poll = p->opts->poll;
	opts.ready = on_ready;
	opts.closed = on_closed;
	opts.ctx = p;
	err = vmbus_netvsc_start(&p->nv, vsc, &opts);
	if (err)
		fail("cannot start the NIC", vmbus_err_name(err));
	wait_for(p, &p->ready, "NIC");
	if (p->err)
		fail("the NIC is not ready", vmbus_err_name(p->err));
	say("ping_version", p->nv.version);
	say("ping_mtu", p->nv.mtu);
	say("ping_link", p->nv.up);
}

void run_ping(const struct options *opts, struct vmbus_bare *bare)
{
	struct ping *const p = &the_ping;
	struct vmbus_netvsc_stats stats;
	uint64_t begin;

	*p = (struct ping){ .opts = opts, .bare = bare, .be = vmbus_bare_backend() };
	connect(p);
	start(p);
	begin = now(p);
	out32(PORT_MARK, 1);
	wait_for(p, &p->finished, "frames");
	out32(PORT_MARK, 2);
	say("ping_ns", (now(p) - begin) * 100u);
	say("ping_replies", p->replies);
	say("ping_sent", p->sent);
	say("ping_answered", p->answered);
	say("ping_arps", p->arps);
	(void)vmbus_netvsc_stats(&p->nv, 0, &stats);
	say("ping_frames_in", stats.received_frames);
	say("ping_frames_out", stats.sent_frames);
	if (p->nv.bad || stats.bad)
		fail_number("messages that made no sense", p->nv.bad + stats.bad);
	(void)vmbus_netvsc_stop(&p->nv);
	wait_for(p, &p->closed, "the end");
	if (vmbus_guest_disconnect(p->guest) ||
	    vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, 600u * SECOND_NS))
		fail("cannot disconnect", NULL);
	vmbus_guest_destroy(p->guest);
}
