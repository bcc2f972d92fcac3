/* SPDX-License-Identifier: MIT */
/* The TAP port, on an interface in a network namespace; the packet port is at the kernel's side of it. */
#include "drive.h"
#include "frames.h"

#include <linux/if_tun.h>
#include <pthread.h>
#include <sys/epoll.h>

#include <vmbus/port_capture.h>
#include <vmbus/port_packet.h>
#include <vmbus/port_tap.h>

#define OURS 0x88b5u /* an EtherType for experiments */

static char why[160];

static bool is_type(const struct got *got, const void *what)
{
	return got->bytes >= 14 && get16(got->at + 12) == *(const uint32_t *)what;
}

/* A frame of ours, with its number in it. */
static bool is_ours(const struct got *got, const void *what)
{
	return got->bytes >= 18 && get16(got->at + 12) == OURS &&
	       get32(got->at + 14) == *(const uint32_t *)what;
}

static void ours(uint8_t *at, uint32_t bytes, uint32_t number)
{
	uint32_t i;

	memset(at, 0xff, 6);
	memcpy(at + 6, "\x02\0\0\0\0\x02", 6);
	put16(at + 12, OURS);
	put16(at + 14, number >> 16);
	put16(at + 16, number & 0xffffu);
	for (i = 18; i < bytes; i++)
		at[i] = (uint8_t)(i * 7 + number);
}

static const char *make_tap(struct vmbus_port_tap_opts opts, struct vmbus_port *port)
{
	int err;

	opts.struct_bytes = sizeof(opts);
	opts.why = why;
	opts.why_bytes = sizeof(why);
	err = vmbus_port_tap(&opts, port);
	if (err == VMBUS_E_NOTSUP || err == VMBUS_E_PERM)
		return why;
	vmbus_test_at("%s", why);
	must_eq(err, 0);
	return NULL;
}

/* The TAP port, and a packet port that sees what the kernel sees. */
static const char *make_both(struct drive *tap, struct drive *packet)
{
	const struct vmbus_port_packet_opts opts = { .struct_bytes = sizeof(opts),
						     .interface = "vt0" };
	struct vmbus_port port;
	const char *reason = own_network();

	if (!reason)
		reason = make_tap((struct vmbus_port_tap_opts){ .name = "vt0" }, &port);
	if (reason)
		return reason;
	drive_open(tap, &port);
	interface_up("vt0");
	must_eq(vmbus_port_packet(&opts, &port), 0);
	drive_open(packet, &port);
	return NULL;
}

static void end(struct drive *d)
{
	struct vmbus_port port = d->port;

	drive_close(d);
	vmbus_port_destroy(&port);
}

/* Refused, with a text that says so. */
static void refused(const struct vmbus_port_tap_opts *opts, int err, const char *text)
{
	struct vmbus_port port;

	why[0] = 0;
	must_eq(vmbus_port_tap(opts, &port), err);
	if (!strstr(why, text))
		ck_abort_msg("%s: %s", text, why);
}

START_TEST(port_tap__refuses_what_makes_no_sense)
{
	const int fds[2] = { open("/dev/null", O_RDWR | O_CLOEXEC), -1 };
	struct vmbus_port port = { NULL, NULL };
	struct vmbus_port_tap_opts opts = { .name = "vt0" };
	char name[16];

	must_eq(vmbus_port_tap(&opts, &port), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	opts.fd = fds;
	must_eq(vmbus_port_tap(&opts, &port), VMBUS_E_INVAL);
	opts.name = NULL;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	must_eq(vmbus_port_tap(&opts, &port), VMBUS_E_INVAL); /* no TAP's */
	must(strstr(why, "descriptor"));
	opts.flags = VMBUS_PORT_TAP_PERSIST;
	refused(&opts, VMBUS_E_INVAL, "flags: with fd");
	opts.flags = 0;
	opts.fd = NULL;
	refused(&opts, VMBUS_E_INVAL, "neither name nor fd");
	opts.name = "";
	refused(&opts, VMBUS_E_INVAL, "1 to 15 characters");
	opts.name = "a23456789012345";
	opts.flags = 8;
	refused(&opts, VMBUS_E_INVAL, "flags that do not exist");
	opts.flags = 0;
	opts.name = "a234567890123456";
	refused(&opts, VMBUS_E_INVAL, "1 to 15 characters");
	opts.name = "vt0";
	opts.queues = VMBUS_PORT_QUEUES_MAX + 1;
	refused(&opts, VMBUS_E_RANGE, "queues");
	must(!port.ops);
	must_eq(vmbus_port_tap_name(NULL, name), VMBUS_E_INVAL);
	must_eq(vmbus_port_tap_name(&port, name), VMBUS_E_INVAL);
	must_eq(close(fds[0]), 0);
}
END_TEST

START_TEST(port_tap__tells_what_it_can)
{
	const char *reason = own_network();
	struct vmbus_port_info info;
	struct vmbus_port port;
	char name[16];

	if (!reason)
		reason = make_tap((struct vmbus_port_tap_opts){ .name = "vt%d", .queues = 3 },
				  &port);
	if (reason)
		VMBUS_TEST_SKIP(reason);
	must_eq(port.ops->info(port.ctx, &info), 0);
	must_eq(info.can,
		VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN);
	must(info.queues == 3 && info.up);
	must_eq(vmbus_port_tap_name(&port, name), 0);
	must(strcmp(name, "vt0") == 0);
	vmbus_port_destroy(&port);
	must(!port.ops && if_nametoindex("vt0") == 0);
	(void)make_tap(
		(struct vmbus_port_tap_opts){ .name = "vt0", .flags = VMBUS_PORT_TAP_NO_OFFLOAD },
		&port);
	must_eq(port.ops->info(port.ctx, &info), 0);
	must_eq(info.can, VMBUS_FRAME_VLAN);
	vmbus_port_destroy(&port);
}
END_TEST

START_TEST(port_tap__passes_frames_of_every_length_both_ways)
{
	static uint8_t frame[1514];
	struct drive tap, packet;
	const struct got *got;
	const char *reason = make_both(&tap, &packet);
	uint32_t bytes;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	for (bytes = 18; bytes <= 1514; bytes += bytes < 200 ? 1 : 73) {
		const struct vmbus_iov piece[3] = { { frame, 17 },
						    { frame + 17, 0 },
						    { frame + 17, bytes - 17 } };

		vmbus_test_at("%u bytes", bytes);
		ours(frame, bytes, bytes);
		must_eq(drive_send_pieces(&tap, piece, 3, (struct vmbus_frame){ 0 }), 1);
		got = drive_find(&packet, is_ours, &bytes, WAIT_MS);
		must(got && got->bytes == bytes && memcmp(got->at, frame, bytes) == 0);
		drive_forget(&packet);
		must_eq(drive_send_pieces(&packet, piece, 3, (struct vmbus_frame){ 0 }), 1);
		got = drive_find(&tap, is_ours, &bytes, WAIT_MS);
		must(got && got->bytes == bytes && memcmp(got->at, frame, bytes) == 0);
		must_eq(got->flags & ~VMBUS_FRAME_CSUM_OK, 0);
		drive_forget(&tap);
	}
	end(&packet);
	end(&tap);
}
END_TEST

START_TEST(port_tap__drops_and_counts_what_is_too_long_for_the_room)
{
	static uint8_t frame[300];
	struct drive tap, packet;
	const char *reason = make_both(&tap, &packet);
	uint32_t number;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	tap.room_bytes = 200;
	for (number = 0; number < 4; number++) {
		ours(frame, sizeof(frame), number);
		drive_send(&packet, frame, number == 1 ? 200 : 201 + number);
	}
	ours(frame, 200, 9);
	drive_send(&packet, frame, 200);
	number = 9;
	must(drive_find(&tap, is_ours, &number, WAIT_MS));
	must_eq(tap.n, 2);
	must_eq(get32(tap.got[0].at + 14), 1);
	drive_drops(&tap, 0, 3);
	end(&packet);
	end(&tap);
}
END_TEST

START_TEST(port_tap__throws_away_what_comes_while_the_guest_wants_none)
{
	static uint8_t frame[60];
	struct drive tap, packet;
	const char *reason = make_both(&tap, &packet);
	uint32_t number = 2;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	drive_config(&tap, 0, false);
	ours(frame, sizeof(frame), 1);
	drive_send(&packet, frame, sizeof(frame));
	must(drive_turn(&tap, WAIT_MS));
	must_eq(tap.n, 0);
	must(!drive_turn(&tap, 0));
	drive_drops(&tap, 0, 1);
	drive_config(&tap, 0, true);
	ours(frame, sizeof(frame), 2);
	drive_send(&packet, frame, sizeof(frame));
	must(drive_find(&tap, is_ours, &number, WAIT_MS));
	must_eq(tap.n, 1);
	end(&packet);
	end(&tap);
}
END_TEST

/* While a guest takes no frames its NIC does not look at the descriptors. */
START_TEST(port_tap__gives_nothing_old_to_a_guest_that_begins)
{
	static uint8_t frame[60];
	struct drive tap, packet;
	const char *reason = make_both(&tap, &packet);
	struct vmbus_port port;
	uint32_t number;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	drive_config(&tap, 0, false);
	for (number = 0; number < 200; number++) {
		ours(frame, sizeof(frame), number);
		drive_send(&packet, frame, sizeof(frame));
	}
	drive_config(&tap, 0, true);
	ours(frame, sizeof(frame), number);
	drive_send(&packet, frame, sizeof(frame));
	must(drive_find(&tap, is_ours, &number, WAIT_MS));
	must_eq(tap.n, 1);
	drive_drops(&tap, 0, 200);
	/* The same for another NIC. */
	port = tap.port;
	drive_close(&tap);
	for (number = 0; number < 200; number++)
		drive_send(&packet, frame, sizeof(frame));
	drive_open_queue(&tap, &port, 0);
	must(!drive_turn(&tap, 0));
	must_eq(tap.n, 0);
	drive_drops(&tap, 0, 400);
	end(&packet);
	end(&tap);
}
END_TEST

START_TEST(port_tap__counts_what_the_kernel_does_not_take)
{
	static uint8_t frame[60];
	const struct vmbus_iov piece = { frame, sizeof(frame) };
	struct vmbus_iov pieces[100];
	struct drive tap, packet;
	const char *reason = make_both(&tap, &packet);
	struct vmbus_frame bad = { .flags = VMBUS_FRAME_CSUM, .csum_start = 60 };
	uint32_t i;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(frame, sizeof(frame), 1);
	must_eq(drive_send_pieces(&tap, &piece, 1, bad), 1);
	drive_drops(&tap, 1, 0);
	for (i = 0; i < 100; i++)
		pieces[i] = (struct vmbus_iov){ frame + (i < 14 ? 0 : 14), i ? 1 : 14 };
	must_eq(drive_send_pieces(&tap, pieces, 100, (struct vmbus_frame){ 0 }), 1);
	drive_drops(&tap, 2, 0);
	must_eq(drive_send_pieces(&packet, pieces, 100, (struct vmbus_frame){ 0 }), 1);
	must_eq(drive_send_pieces(&packet, &piece, 1, bad), 1);
	drive_drops(&packet, 2, 0);
	end(&packet);
	end(&tap);
}
END_TEST

START_TEST(port_tap__puts_tags_in)
{
	static uint8_t frame[200];
	const uint32_t type = 0x8100, number = 5;
	const struct vmbus_frame tagged = { .flags = VMBUS_FRAME_VLAN, .vlan = 0x6123 };
	const struct vmbus_iov piece[2] = { { frame, 100 }, { frame + 100, 100 } };
	struct drive tap, packet;
	const struct got *got;
	const char *reason = make_both(&tap, &packet);

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(frame, sizeof(frame), number);
	must_eq(drive_send_pieces(&tap, piece, 2, tagged), 1);
	got = drive_find(&packet, is_ours, &number,
			 WAIT_MS); /* the kernel has taken it out again */
	must(got && got->bytes == 200 && got->flags & VMBUS_FRAME_VLAN && got->vlan == 0x6123);
	must(memcmp(got->at, frame, 200) == 0);
	must_eq(drive_send_pieces(&packet, piece, 2, tagged), 1);
	got = drive_find(&tap, is_type, &type, WAIT_MS);
	must(got && got->bytes == 204 && get16(got->at + 14) == 0x6123);
	must(memcmp(got->at, frame, 12) == 0 && memcmp(got->at + 16, frame + 12, 188) == 0);
	end(&packet);
	end(&tap);
}
END_TEST

/* A TCP frame whose sum is due: that of the pseudo header stands where it goes. */
static struct vmbus_frame partial(struct built *b, const struct shape *shape, uint32_t tso)
{
	struct vmbus_frame frame = { .flags = VMBUS_FRAME_CSUM | tso };
	const uint32_t tcp = b->bytes - b->transport;
	const uint8_t *const ip = b->at + b->network;

	put16(b->at + b->transport + 16, slow_pseudo(ip, shape->ip, 6, tcp));
	frame.csum_start = (uint16_t)b->transport;
	frame.csum_offset = 16;
	frame.header_bytes = (uint16_t)b->payload;
	frame.mss = tso ? 1000 : 0;
	return frame;
}

static bool is_ip(const struct got *got, const void *what)
{
	const struct built *const b = what;

	return got->bytes > b->payload && memcmp(got->at, b->at, 14) == 0;
}

static void check_segments(const struct drive *tap, const struct built *b,
			   const struct shape *shape)
{
	uint32_t i, at = b->payload, k;

	for (i = 0; i < tap->n; i++) {
		const struct got *const g = &tap->got[i];
		const uint32_t tcp = g->bytes - b->transport;

		if (!is_ip(g, b))
			continue;
		must(g->bytes <= b->payload + 1000);
		must_eq(g->flags & ~VMBUS_FRAME_CSUM_OK, 0);
		must_eq(transport_wrong(g->at + b->network, g->at + b->transport, 6, tcp), 0);
		(void)shape;
		for (k = b->payload; k < g->bytes; k++)
			must_eq(g->at[k], b->at[at++]);
	}
	must_eq(at, b->bytes);
}

/* All ways of a frame that is to be cut, or summed: the kernel does what the guest does not take. */
START_TEST(port_tap__passes_offloads_both_ways)
{
	static struct built b;
	static const struct shape shapes[] = {
		{ .ip = 4, .protocol = 6, .payload = 20000 },
		{ .ip = 6, .protocol = 6, .payload = 20000, .tcp_options = 12 },
		{ .ip = 4, .protocol = 6, .payload = 100, .tcp_options = 12 },
	};
	const struct shape *const shape = &shapes[_i];
	const uint32_t tso = shape->payload < 1500 ? 0
			     : shape->ip == 4	   ? VMBUS_FRAME_TSO4
						   : VMBUS_FRAME_TSO6;
	struct drive tap, packet;
	const struct got *got;
	const char *reason = make_both(&tap, &packet);
	struct vmbus_frame frame;
	struct vmbus_iov piece[3];

	if (reason)
		VMBUS_TEST_SKIP(reason);
	build(&b, shape);
	frame = partial(&b, shape, tso);
	piece[0] = (struct vmbus_iov){ b.at, b.bytes < 192 ? b.bytes : 192 };
	piece[1] = (struct vmbus_iov){ b.at + piece[0].len, (b.bytes - piece[0].len) / 2 };
	piece[2] = (struct vmbus_iov){ b.at + piece[0].len + piece[1].len,
				       b.bytes - piece[0].len - piece[1].len };
	/* To the kernel. */
	must_eq(drive_send_pieces(&tap, piece, 3, frame), 1);
	got = drive_find(&packet, is_ip, &b, WAIT_MS);
	must(got && got->bytes == b.bytes && memcmp(got->at, b.at, b.bytes) == 0);
	must_eq(got->flags, VMBUS_FRAME_CSUM | tso);
	must(got->csum_start == b.transport && got->csum_offset == 16);
	must(!tso || (got->mss == 1000 && got->header_bytes == b.payload));
	/* From it, for a guest that takes everything. */
	drive_config(&tap, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6, true);
	must_eq(drive_send_pieces(&packet, piece, 3, frame), 1);
	got = drive_find(&tap, is_ip, &b, WAIT_MS);
	must(got && got->bytes == b.bytes && memcmp(got->at, b.at, b.bytes) == 0);
	must_eq(got->flags, VMBUS_FRAME_CSUM | tso);
	must(!tso || (got->mss == 1000 && got->header_bytes == b.payload));
	drive_forget(&tap);
	/* For one that takes nothing. */
	drive_config(&tap, 0, true);
	must_eq(drive_send_pieces(&packet, piece, 3, frame), 1);
	must(drive_find(&tap, is_ip, &b, WAIT_MS));
	while (drive_turn(&tap, 50))
		continue;
	check_segments(&tap, &b, shape);
	drive_drops(&tap, 0, 0);
	drive_drops(&packet, 0, 0);
	end(&packet);
	end(&tap);
}
END_TEST

/* The tag moves what the flags tell of. */
START_TEST(port_tap__puts_tags_into_undone_frames)
{
	static struct built b;
	const struct shape shape = { .ip = 4, .protocol = 6, .payload = 5000 };
	const uint32_t type = 0x8100;
	struct drive tap, packet;
	const struct got *got;
	const char *reason = make_both(&tap, &packet);
	struct vmbus_frame frame;
	struct vmbus_iov piece;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	build(&b, &shape);
	frame = partial(&b, &shape, VMBUS_FRAME_TSO4);
	frame.flags |= VMBUS_FRAME_VLAN;
	frame.vlan = 7;
	piece = (struct vmbus_iov){ b.at, b.bytes };
	drive_config(&tap, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4, true);
	must_eq(drive_send_pieces(&packet, &piece, 1, frame), 1);
	got = drive_find(&tap, is_type, &type, WAIT_MS);
	must(got && got->bytes == b.bytes + 4);
	must_eq(got->flags, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4);
	must(got->csum_start == b.transport + 4 && got->header_bytes == b.payload + 4);
	must_eq(drive_send_pieces(&tap, &piece, 1, frame), 1);
	got = drive_find(&packet, is_ip, &b, WAIT_MS);
	must(got && got->bytes == b.bytes && got->vlan == 7);
	must_eq(got->flags, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_VLAN);
	must(got->csum_start == b.transport && got->header_bytes == b.payload);
	end(&packet);
	end(&tap);
}
END_TEST

START_TEST(port_tap__gives_frames_to_open_queues_only)
{
	static uint8_t frame[60];
	const struct vmbus_port_packet_opts packet_opts = { .struct_bytes = sizeof(packet_opts),
							    .interface = "vt0" };
	const char *reason = own_network();
	struct drive queue[4], packet;
	struct vmbus_port port, other;
	struct vmbus_port_queue past = { .number = 4 };
	uint32_t i, number, got, used = 0;

	if (!reason)
		reason =
			make_tap((struct vmbus_port_tap_opts){ .name = "vt0", .queues = 4 }, &port);
	if (reason)
		VMBUS_TEST_SKIP(reason);
	interface_up("vt0");
	must_eq(vmbus_port_packet(&packet_opts, &other), 0);
	drive_open(&packet, &other);
	for (i = 0; i < 4; i++)
		drive_open_queue(&queue[i], &port, i);
	past.ctx = port.ctx;
	must_eq(port.ops->open(&past), VMBUS_E_RANGE);
	drive_config(&queue[0], 0, true);
	for (i = 0; i < 4; i++) {
		ours(frame, sizeof(frame), 100 + i);
		drive_send(&queue[i], frame, sizeof(frame));
		number = 100 + i;
		must(drive_find(&packet, is_ours, &number, WAIT_MS));
	}
	/* Flows of different hashes, to whichever queue the kernel likes. */
	for (i = 0; i < 64; i++) {
		struct built b;

		build(&b, &(struct shape){ .ip = 4, .protocol = 17, .payload = 20 });
		put16(b.at + b.transport, 1000 + i);
		drive_send(&packet, b.at, b.bytes);
	}
	for (i = 0, got = 0; i < 4; i++) {
		while (drive_turn(&queue[i], 50))
			continue;
		got += queue[i].n;
		used += queue[i].n != 0;
	}
	must_eq(got, 64);
	must(used > 1);
	for (i = 1; i < 4; i++)
		drive_close(&queue[i]);
	drive_forget(&queue[0]);
	for (i = 0; i < 64; i++) {
		struct built b;

		build(&b, &(struct shape){ .ip = 4, .protocol = 17, .payload = 20 });
		put16(b.at + b.transport, 1000 + i);
		drive_send(&packet, b.at, b.bytes);
	}
	while (queue[0].n < 64 && drive_turn(&queue[0], WAIT_MS))
		continue;
	must_eq(queue[0].n, 64);
	end(&packet);
	end(&queue[0]);
}
END_TEST

START_TEST(port_tap__leaves_what_is_to_stay)
{
	const char *reason = own_network();
	struct vmbus_port port, second = { NULL, NULL };
	struct vmbus_port_tap_opts opts = { .struct_bytes = sizeof(opts), .name = "vt0" };

	if (!reason)
		reason = make_tap((struct vmbus_port_tap_opts){ .name = "vt0",
								.flags = VMBUS_PORT_TAP_PERSIST |
									 VMBUS_PORT_TAP_OWNER,
								.owner = geteuid() },
				  &port);
	if (reason)
		VMBUS_TEST_SKIP(reason);
	must_eq(vmbus_port_tap(&opts, &second), VMBUS_E_STATE); /* it is in use */
	must(!second.ops);
	opts.queues = 2;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	must_eq(vmbus_port_tap(&opts, &second), VMBUS_E_STATE);
	must(strstr(why, "vt0"));
	vmbus_port_destroy(&port);
	must(if_nametoindex("vt0") != 0);
	must_eq(vmbus_port_tap(&opts, &second), VMBUS_E_STATE); /* made for one queue */
	opts.queues = 1;
	must_eq(vmbus_port_tap(&opts, &second), 0);
	vmbus_port_destroy(&second);
}
END_TEST

static int open_tun(int flags)
{
	const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr;

	if (fd < 0)
		return -1;
	memset(&ifr, 0, sizeof(ifr));
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "vt0");
	ifr.ifr_flags = (short)flags;
	if (ioctl(fd, TUNSETIFF, &ifr)) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

START_TEST(port_tap__takes_descriptors)
{
	static const int kinds[] = { IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, IFF_TAP | IFF_NO_PI,
				     IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE,
				     IFF_TUN | IFF_NO_PI };
	static uint8_t frame[60];
	const struct vmbus_port_packet_opts packet_opts = { .struct_bytes = sizeof(packet_opts),
							    .interface = "vt0" };
	const char *reason = own_network();
	int fd[2] = { -1, -1 }, i;
	struct vmbus_port_tap_opts opts = { .struct_bytes = sizeof(opts), .fd = fd };
	struct drive tap, packet;
	struct vmbus_port port;
	struct vmbus_port_info info;
	uint32_t number = 3;

	for (i = 0; i < 2; i++) {
		if (reason || (i && !(kinds[_i] & IFF_MULTI_QUEUE)))
			continue;
		fd[i] = open_tun(kinds[_i]);
		opts.queues++;
		if (fd[i] < 0)
			reason = "no TAP interface can be made";
	}
	if (reason)
		VMBUS_TEST_SKIP(reason);
	if (_i == 3) {
		must_eq(vmbus_port_tap(&opts, &port), VMBUS_E_INVAL);
		must_eq(close(fd[0]), 0);
		return;
	}
	must_eq(vmbus_port_tap(&opts, &port), 0);
	for (i = 0; i < 2; i++)
		must(fd[i] < 0 || close(fd[i]) == 0);
	must_eq(port.ops->info(port.ctx, &info), 0);
	must_eq((info.can & VMBUS_FRAME_CSUM) != 0, (kinds[_i] & IFF_VNET_HDR) != 0);
	drive_open(&tap, &port);
	interface_up("vt0");
	must_eq(vmbus_port_packet(&packet_opts, &port), 0);
	drive_open(&packet, &port);
	ours(frame, sizeof(frame), number);
	drive_send(&tap, frame, sizeof(frame));
	must(drive_find(&packet, is_ours, &number, WAIT_MS));
	drive_send(&packet, frame, sizeof(frame));
	must(drive_find(&tap, is_ours, &number, WAIT_MS));
	end(&packet);
	end(&tap);
}
END_TEST

#define THREAD_FRAMES 2000u

static void *thread_of_queue(void *arg)
{
	struct drive *const d = arg;
	uint8_t frame[60];
	uint32_t i;

	for (i = 0; i < THREAD_FRAMES; i++) {
		ours(frame, sizeof(frame), d->queue.number << 16 | i);
		drive_send(d, frame, sizeof(frame));
		(void)drive_turn(d, 0);
		drive_forget(d);
	}
	return NULL;
}

/* Queues have threads of their own, the capture before them too, and anybody may ask and tell. */
START_TEST(port_tap__has_queues_for_threads)
{
	const struct vmbus_port_packet_opts packet_opts = { .struct_bytes = sizeof(packet_opts),
							    .interface = "vt0" };
	struct vmbus_port_capture_opts capture = { .struct_bytes = sizeof(capture) };
	const char *reason = own_network();
	struct vmbus_port_capture_counts counts;
	struct drive queue[3], packet;
	struct vmbus_port port, other;
	pthread_t thread[3];
	uint64_t sent, received;
	uint8_t frame[60];
	uint32_t i;

	if (!reason)
		reason =
			make_tap((struct vmbus_port_tap_opts){ .name = "vt0", .queues = 3 }, &port);
	if (reason)
		VMBUS_TEST_SKIP(reason);
	capture.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	must_eq(vmbus_port_capture(&capture, &port, &port), 0);
	must_eq(close(capture.fd), 0);
	interface_up("vt0");
	must_eq(vmbus_port_packet(&packet_opts, &other), 0);
	drive_open(&packet, &other);
	for (i = 0; i < 3; i++) {
		drive_open_queue(&queue[i], &port, i);
		queue[i].room_bytes = 2000;
	}
	drive_config(&queue[0], 0, true);
	for (i = 0; i < 3; i++)
		must(pthread_create(&thread[i], NULL, thread_of_queue, &queue[i]) == 0);
	for (i = 0; i < 200; i++) {
		ours(frame, sizeof(frame), 9u << 16 | i);
		drive_send(&packet, frame, sizeof(frame));
		drive_config(&queue[0], i % 2 ? VMBUS_FRAME_CSUM : 0, true);
		port.ops->dropped(port.ctx, &sent, &received);
		must_eq(vmbus_port_capture_counts(&port, &counts), 0);
	}
	for (i = 0; i < 3; i++)
		must(pthread_join(thread[i], NULL) == 0);
	must_eq(vmbus_port_capture_counts(&port, &counts), 0);
	must(counts.frames >= 3ull * THREAD_FRAMES && counts.dropped == 0);
	drive_drops(&queue[0], 0, 0);
	for (i = 1; i < 3; i++)
		drive_close(&queue[i]);
	end(&packet);
	end(&queue[0]);
}
END_TEST

/* Its thread would never sleep again; whether the guest takes frames or not. */
START_TEST(port_tap__is_silent_when_its_interface_is_gone)
{
	struct drive tap, packet;
	struct vmbus_port_info info;
	uint64_t sent, received;
	uint8_t frame[60];
	const char *reason = make_both(&tap, &packet);
	struct pollfd pollfd;
	uint32_t i;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	drive_config(&tap, 0, _i);
	must_eq(tap.port.ops->info(tap.port.ctx, &info), 0);
	must(info.up);
	must_eq(system("ip link del vt0"), 0);
	for (i = 0; i < 100; i++)
		(void)drive_turn(&tap, 0);
	pollfd = (struct pollfd){ .fd = tap.queue.fd, .events = POLLIN };
	must_eq(poll(&pollfd, 1, 0), 0);
	must_eq(tap.port.ops->info(tap.port.ctx, &info), 0);
	must(!info.up);
	ours(frame, sizeof(frame), 1);
	drive_send(&tap, frame, sizeof(frame));
	tap.port.ops->dropped(tap.port.ctx, &sent, &received);
	must_eq(sent, 1);
	must_eq(poll(&pollfd, 1, 0), 0);
	must_eq(drive_receive(&tap), 0);
	end(&packet);
	end(&tap);
}
END_TEST

/* Who gave the descriptor has it open still, so that the file outlives what the port does to its own. */
START_TEST(port_tap__is_silent_though_its_file_stays_open)
{
	struct epoll_event event = { .events = EPOLLIN }, got;
	const char *reason = own_network();
	int fd = reason ? -1 : open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	const struct vmbus_port_tap_opts opts = { .struct_bytes = sizeof(opts), .fd = &fd };
	const int watch = epoll_create1(EPOLL_CLOEXEC);
	struct vmbus_port port;
	struct drive tap;
	uint32_t i;

	if (!reason && fd < 0)
		reason = "no TAP interface can be made";
	if (reason)
		VMBUS_TEST_SKIP(reason);
	must_eq(vmbus_port_tap(&opts, &port), 0);
	drive_open(&tap, &port);
	must_eq(epoll_ctl(watch, EPOLL_CTL_ADD, tap.queue.fd, &event), 0);
	must_eq(system("ip link del vt0"), 0);
	must_eq(epoll_wait(watch, &got, 1, WAIT_MS), 1);
	for (i = 0; i < 3; i++)
		(void)drive_receive(&tap);
	must_eq(epoll_wait(watch, &got, 1, 0), 0);
	must_eq(epoll_ctl(watch, EPOLL_CTL_DEL, tap.queue.fd, NULL), 0);
	must_eq(close(watch), 0);
	end(&tap);
	must_eq(close(fd), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tap", 20);

	tcase_add_test(tc, port_tap__refuses_what_makes_no_sense);
	tcase_add_test(tc, port_tap__tells_what_it_can);
	tcase_add_test(tc, port_tap__passes_frames_of_every_length_both_ways);
	tcase_add_test(tc, port_tap__drops_and_counts_what_is_too_long_for_the_room);
	tcase_add_test(tc, port_tap__throws_away_what_comes_while_the_guest_wants_none);
	tcase_add_test(tc, port_tap__gives_nothing_old_to_a_guest_that_begins);
	tcase_add_test(tc, port_tap__counts_what_the_kernel_does_not_take);
	tcase_add_test(tc, port_tap__puts_tags_in);
	tcase_add_loop_test(tc, port_tap__passes_offloads_both_ways, 0, 3);
	tcase_add_test(tc, port_tap__puts_tags_into_undone_frames);
	tcase_add_test(tc, port_tap__gives_frames_to_open_queues_only);
	tcase_add_test(tc, port_tap__has_queues_for_threads);
	tcase_add_loop_test(tc, port_tap__is_silent_when_its_interface_is_gone, 0, 2);
	tcase_add_test(tc, port_tap__is_silent_though_its_file_stays_open);
	tcase_add_test(tc, port_tap__leaves_what_is_to_stay);
	tcase_add_loop_test(tc, port_tap__takes_descriptors, 0, 4);
}

VMBUS_TEST_MAIN("ports.tap", tests)
