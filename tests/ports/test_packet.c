/* SPDX-License-Identifier: MIT */
/* The packet port, on the ends of a cable between two interfaces in a network namespace. */
#include "drive.h"
#include "frames.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <vmbus/port_packet.h>

#define OURS 0x88b5u

static char why[160];

static bool is_ours(const struct got *got, const void *what)
{
	return got->bytes >= 18 && get16(got->at + 12) == OURS &&
	       get32(got->at + 14) == *(const uint32_t *)what;
}

static bool is_udp(const struct got *got, const void *what)
{
	return got->bytes > 42 && get16(got->at + 12) == 0x0800 && got->at[23] == 17 &&
	       get16(got->at + 36) == *(const uint32_t *)what;
}

static void ours(uint8_t *at, uint32_t bytes, uint32_t number)
{
	uint32_t i;

	memcpy(at, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
	put16(at + 12, OURS);
	put16(at + 14, number >> 16);
	put16(at + 16, number & 0xffffu);
	for (i = 18; i < bytes; i++)
		at[i] = (uint8_t)(i * 7 + number);
}

static int make_port(const char *interface, uint32_t flags, struct vmbus_port *port)
{
	const struct vmbus_port_packet_opts opts = {
		.struct_bytes = sizeof(opts),
		.interface = interface,
		.flags = flags,
		.why = why,
		.why_bytes = sizeof(why),
	};

	return vmbus_port_packet(&opts, port);
}

static const char *make_cable(void)
{
	const char *reason = own_network();

	if (reason)
		return reason;
	if (system("ip link add vp0 type veth peer name vp1 2>/dev/null"))
		return "no pair of interfaces can be made (ip link add, veth)";
	interface_up("vp0");
	interface_up("vp1");
	interface_runs("vp0");
	interface_runs("vp1");
	return NULL;
}

static const char *make_both(struct drive d[2])
{
	const char *reason = make_cable();
	struct vmbus_port port;
	int err;

	if (reason)
		return reason;
	err = make_port("vp0", 0, &port);
	if (err == VMBUS_E_PERM)
		return why;
	must_eq(err, 0);
	drive_open(&d[0], &port);
	must_eq(make_port("vp1", 0, &port), 0);
	drive_open(&d[1], &port);
	return NULL;
}

static void end(struct drive *d)
{
	struct vmbus_port port = d->port;

	drive_close(d);
	vmbus_port_destroy(&port);
}

START_TEST(port_packet__refuses_what_makes_no_sense)
{
	struct vmbus_port_packet_opts opts = { .interface = "lo" };
	const char *reason;
	struct vmbus_port port = { NULL, NULL };
	int err;

	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	opts.flags = 8;
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_INVAL);
	opts.flags = 0;
	opts.buffer_bytes = 65535;
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = (64u << 20) + 1;
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = 0;
	opts.interface = "a234567890123456";
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_INVAL);
	opts.interface = "";
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_INVAL);
	opts.interface = NULL;
	must_eq(vmbus_port_packet(&opts, &port), VMBUS_E_INVAL);
	reason = own_network();
	if (reason)
		VMBUS_TEST_SKIP(reason);
	err = make_port("none0", 0, &port);
	if (err == VMBUS_E_PERM)
		VMBUS_TEST_SKIP(why);
	must_eq(err, VMBUS_E_NOTSUP);
	must(strstr(why, "none0: there is no such interface"));
	must_eq(make_port("lo", 0, &port), VMBUS_E_NOTSUP);
	must(strstr(why, "not an Ethernet interface"));
	must(!port.ops);
}
END_TEST

START_TEST(port_packet__needs_a_right)
{
	struct vmbus_port port = { NULL, NULL };

	if (geteuid() == 0 && seteuid(65534))
		VMBUS_TEST_SKIP("cannot become another user");
	must_eq(make_port("lo", 0, &port), VMBUS_E_PERM);
	must(strstr(why, "lo: "));
	if (getuid() == 0)
		must_eq(seteuid(0), 0);
}
END_TEST

START_TEST(port_packet__tells_what_it_can)
{
	struct vmbus_port_queue past = { .number = 1 }, second = { .number = 0 };
	struct vmbus_port_info info;
	struct drive d[2];
	const char *reason = make_both(d);
	struct vmbus_port port;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	must_eq(d[0].port.ops->info(d[0].port.ctx, &info), 0);
	must_eq(info.can,
		VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN);
	must(info.queues == 1 && info.up && info.mtu_max == 1500);
	must_eq(info.bits_per_s, UINT64_C(10000000000)); /* what such a cable says of itself */
	past.ctx = second.ctx = d[0].port.ctx;
	must_eq(d[0].port.ops->open(&past), VMBUS_E_RANGE);
	must_eq(d[0].port.ops->open(&second), VMBUS_E_STATE);
	must_eq(make_port("vp0", VMBUS_PORT_PACKET_NO_OFFLOAD, &port), 0);
	must_eq(port.ops->info(port.ctx, &info), 0);
	must_eq(info.can, VMBUS_FRAME_VLAN);
	must_eq(system("ip link del vp0"), 0);
	must_eq(port.ops->info(port.ctx, &info), VMBUS_E_NOTSUP);
	vmbus_port_destroy(&port);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__passes_bursts_in_order)
{
	static uint8_t bytes[64][1514];
	struct vmbus_frame frame[64];
	struct vmbus_iov piece[64][2];
	struct drive d[2];
	const char *reason = make_both(d);
	uint32_t i, burst, number, taken;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	for (burst = 0; burst < 5; burst++) {
		for (i = 0; i < 64; i++) {
			const uint32_t len = 60 + (i * 23 + burst * 331) % 1455;

			ours(bytes[i], len, burst * 64 + i);
			piece[i][0] = (struct vmbus_iov){ bytes[i], 50 };
			piece[i][1] = (struct vmbus_iov){ bytes[i] + 50, len - 50 };
			frame[i] = (struct vmbus_frame){ .piece = piece[i],
							 .pieces = 2,
							 .bytes = len };
		}
		for (taken = 0; taken < 64;)
			taken += d[0].port.ops->send(&d[0].queue, frame + taken, 64 - taken);
		number = burst * 64 + 63;
		must(drive_find(&d[1], is_ours, &number, WAIT_MS));
		must_eq(d[1].n, 64);
		for (i = 0; i < 64; i++) {
			must(d[1].got[i].bytes == frame[i].bytes);
			must(memcmp(d[1].got[i].at, bytes[i], frame[i].bytes) == 0);
		}
		drive_forget(&d[1]);
	}
	must_eq(d[0].n, 0); /* its own do not come back */
	drive_drops(&d[0], 0, 0);
	drive_drops(&d[1], 0, 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__sees_the_wire_and_not_what_this_machine_sends)
{
	const struct sockaddr_in to = { .sin_family = AF_INET,
					.sin_port = htons(5555),
					.sin_addr = { .s_addr = htonl(0x0a0800ff) } };
	const int one = 1;
	struct drive d[2];
	const char *reason = make_both(d);
	const uint32_t port = 5555;
	int own;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	must_eq(system("ip addr add 10.8.0.1/24 broadcast 10.8.0.255 dev vp0"), 0);
	own = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(own >= 0 && setsockopt(own, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)) == 0);
	must_eq(sendto(own, "hello", 5, 0, (const struct sockaddr *)&to, sizeof(to)), 5);
	must(drive_find(&d[1], is_udp, &port, WAIT_MS));
	must(!drive_find(&d[0], is_udp, &port, 50));
	must_eq(close(own), 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__keeps_what_finds_no_room)
{
	uint8_t bytes[60];
	struct drive d[2];
	const char *reason = make_both(d);
	uint32_t i;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	d[1].room = 3;
	for (i = 0; i < 10; i++) {
		ours(bytes, sizeof(bytes), i);
		drive_send(&d[0], bytes, sizeof(bytes));
	}
	while (d[1].n < 3)
		must(drive_turn(&d[1], WAIT_MS));
	must(drive_turn(&d[1], WAIT_MS)); /* what is left keeps it readable */
	must_eq(d[1].n, 3);
	d[1].room = 100;
	while (d[1].n < 10)
		must(drive_turn(&d[1], WAIT_MS));
	for (i = 0; i < 10; i++)
		must_eq(get32(d[1].got[i].at + 14), i);
	must(!drive_turn(&d[1], 0));
	drive_drops(&d[1], 0, 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__throws_away_what_comes_while_the_guest_wants_none)
{
	uint8_t bytes[60];
	struct drive d[2];
	const char *reason = make_both(d);

	if (reason)
		VMBUS_TEST_SKIP(reason);
	drive_config(&d[1], 0, false);
	ours(bytes, sizeof(bytes), 1);
	drive_send(&d[0], bytes, sizeof(bytes));
	must(drive_turn(&d[1], WAIT_MS));
	must_eq(d[1].n, 0);
	drive_drops(&d[1], 0, 1);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

static const char *make_slow(struct drive d[2])
{
	const char *reason = make_both(d);

	if (!reason && system("tc qdisc add dev vp0 root tbf rate 40mbit burst 3000 limit 9000000 "
			      "2>/dev/null"))
		reason = "the interface cannot be made slow (tc, tbf)";
	return reason;
}

/* The interface is slow: frames wait, and none is lost. */
START_TEST(port_packet__waits_for_room)
{
	static uint8_t bytes[1500];
	const struct vmbus_iov piece = { bytes, sizeof(bytes) };
	struct drive d[2];
	const char *reason = make_slow(d);
	uint32_t i, waits = 0;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	for (i = 0; i < 250; i++) {
		ours(bytes, sizeof(bytes), i);
		while (drive_send_pieces(&d[0], &piece, 1, (struct vmbus_frame){ 0 }) == 0) {
			waits++;
			must(drive_turn(&d[0], WAIT_MS)); /* readable: there is room */
		}
		(void)drive_turn(&d[1], 0);
	}
	must(waits);
	while (d[1].n < 250)
		must(drive_turn(&d[1], WAIT_MS));
	for (i = 0; i < 250; i++)
		must_eq(get32(d[1].got[i].at + 14), i);
	must(!drive_turn(&d[0], 0));
	drive_drops(&d[0], 0, 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

/* Until there is no room. */
static void fill_up(struct drive *d)
{
	static uint8_t bytes[1500];
	const struct vmbus_iov piece = { bytes, sizeof(bytes) };
	uint32_t number = 0;

	do {
		ours(bytes, sizeof(bytes), number);
		must(number++ < 10000);
	} while (drive_send_pieces(d, &piece, 1, (struct vmbus_frame){ 0 }));
}

/* A NIC may ask for frames between a send that found no room and the room. */
START_TEST(port_packet__tells_of_room_whatever_is_received_meanwhile)
{
	uint8_t bytes[60];
	struct drive d[2];
	const char *reason = make_slow(d);
	uint32_t number = 77;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(bytes, sizeof(bytes), number);
	drive_send(&d[1], bytes, sizeof(bytes));
	fill_up(&d[0]);
	d[0].port.ops->ready(&d[0].queue);
	d[0].port.ops->ready(&d[0].queue);
	must(drive_find(&d[0], is_ours, &number, 0));
	must(drive_turn(&d[0], WAIT_MS));
	drive_send(&d[0], bytes, sizeof(bytes));
	must(!drive_turn(&d[0], 0));
	end(&d[0]);
	end(&d[1]);
}
END_TEST

/* Who has given up what it was to send is not told for ever. */
START_TEST(port_packet__is_not_readable_for_ever_for_one_that_sends_no_more)
{
	struct drive d[2];
	const char *reason = make_slow(d);
	struct vmbus_port port;
	uint32_t turns = 0;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	fill_up(&d[0]);
	must(drive_turn(&d[0], WAIT_MS));
	while (drive_turn(&d[0], 100))
		must(turns++ < 100);
	fill_up(&d[0]);
	must(drive_turn(&d[0], WAIT_MS));
	port = d[0].port;
	drive_close(&d[0]);
	drive_open(&d[0], &port);
	must(!drive_turn(&d[0], 0));
	end(&d[0]);
	end(&d[1]);
}
END_TEST

static void send_some(struct drive *d, uint32_t n)
{
	uint8_t bytes[60];
	uint32_t i;

	for (i = 0; i < n; i++) {
		ours(bytes, sizeof(bytes), i);
		drive_send(d, bytes, sizeof(bytes));
	}
}

/* While a guest takes no frames its NIC does not look at the descriptor. */
START_TEST(port_packet__gives_nothing_old_to_a_guest_that_begins)
{
	uint8_t bytes[60];
	struct drive d[2];
	const char *reason = make_both(d);
	const uint32_t number = 1000;
	struct vmbus_port port;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	d[1].room = 0;
	send_some(&d[0], 3);
	must(drive_turn(&d[1], WAIT_MS)); /* some it has read, and keeps */
	drive_config(&d[1], 0, false);
	send_some(&d[0], 100);
	drive_config(&d[1], 0, true);
	d[1].room = 1000;
	ours(bytes, sizeof(bytes), number);
	drive_send(&d[0], bytes, sizeof(bytes));
	must(drive_find(&d[1], is_ours, &number, WAIT_MS));
	must_eq(d[1].n, 1);
	drive_drops(&d[1], 0, 103);
	/* The same for another NIC. */
	d[1].room = 0;
	send_some(&d[0], 3);
	must(drive_turn(&d[1], WAIT_MS));
	port = d[1].port;
	drive_close(&d[1]);
	send_some(&d[0], 100);
	drive_open_queue(&d[1], &port, 0);
	must(!drive_turn(&d[1], 0));
	must_eq(d[1].n, 0);
	drive_drops(&d[1], 0, 206);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__counts_what_the_kernel_does_not_take)
{
	static uint8_t bytes[1600];
	struct drive d[2];
	const char *reason = make_both(d);
	uint32_t number = 7;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(bytes, sizeof(bytes), 6);
	drive_send(&d[0], bytes, 1600); /* longer than its MTU */
	ours(bytes, sizeof(bytes), 7);
	drive_send(&d[0], bytes, 100);
	must(drive_find(&d[1], is_ours, &number, WAIT_MS));
	must_eq(d[1].n, 1);
	drive_drops(&d[0], 1, 0);
	must_eq(system("ip link set vp0 down"), 0);
	drive_send(&d[0], bytes, 100);
	drive_drops(&d[0], 2, 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__counts_what_the_socket_loses)
{
	const struct vmbus_port_packet_opts opts = { .struct_bytes = sizeof(opts),
						     .interface = "vp1",
						     .buffer_bytes = 65536 };
	static uint8_t bytes[1000];
	const char *reason = make_cable();
	uint64_t sent, received;
	struct vmbus_port port;
	struct drive d[2];
	uint32_t i;

	if (!reason && make_port("vp0", 0, &port))
		reason = why;
	if (reason)
		VMBUS_TEST_SKIP(reason);
	drive_open(&d[0], &port);
	must_eq(vmbus_port_packet(&opts, &port), 0);
	drive_open(&d[1], &port);
	for (i = 0; i < 200; i++) {
		ours(bytes, sizeof(bytes), i);
		drive_send(&d[0], bytes, sizeof(bytes));
	}
	while (drive_turn(&d[1], 20))
		continue;
	must(d[1].n > 1 && d[1].n < 200);
	port.ops->dropped(port.ctx, &sent, &received);
	must_eq(received, 200 - d[1].n);
	port.ops->dropped(port.ctx, &sent, &received);
	must_eq(received, 200 - d[1].n);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__passes_tags_beside_frames)
{
	static uint8_t bytes[100];
	const struct vmbus_iov piece = { bytes, sizeof(bytes) };
	const struct vmbus_frame tagged = { .flags = VMBUS_FRAME_VLAN, .vlan = 0xe001 };
	struct drive d[2];
	const char *reason = make_both(d);
	const struct got *got;
	const uint32_t number = 4;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(bytes, sizeof(bytes), number);
	must_eq(drive_send_pieces(&d[0], &piece, 1, tagged), 1);
	got = drive_find(&d[1], is_ours, &number, WAIT_MS);
	must(got && got->bytes == 100 && memcmp(got->at, bytes, 100) == 0);
	must(got->flags & VMBUS_FRAME_VLAN && got->vlan == 0xe001);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

/* An outer tag that is none of 802.1Q stays in the frame. */
START_TEST(port_packet__keeps_other_tags_in)
{
	static uint8_t bytes[100];
	struct drive d[2];
	const char *reason = make_both(d);
	const struct got *got;

	if (reason)
		VMBUS_TEST_SKIP(reason);
	ours(bytes, sizeof(bytes), 1);
	put16(bytes + 12, 0x88a8);
	put16(bytes + 14, 0x0123);
	put16(bytes + 16, OURS);
	drive_send(&d[0], bytes, sizeof(bytes));
	while (d[1].n < 1)
		must(drive_turn(&d[1], WAIT_MS));
	got = &d[1].got[0];
	must(got->bytes == sizeof(bytes) && memcmp(got->at, bytes, sizeof(bytes)) == 0);
	must_eq(got->flags & VMBUS_FRAME_VLAN, 0);
	end(&d[0]);
	end(&d[1]);
}
END_TEST

START_TEST(port_packet__is_promiscuous_while_it_is_there)
{
	const char *reason = make_cable();
	struct vmbus_port port;

	if (!reason &&
	    make_port("vp0", VMBUS_PORT_PACKET_NO_PROMISC | VMBUS_PORT_PACKET_NO_QUEUE, &port))
		reason = why;
	if (reason)
		VMBUS_TEST_SKIP(reason);
	must(system("ip -d link show vp0 | grep -q 'promiscuity 0 '") == 0);
	vmbus_port_destroy(&port);
	must_eq(make_port("vp0", 0, &port), 0);
	must(system("ip -d link show vp0 | grep -q 'promiscuity 1 '") == 0);
	vmbus_port_destroy(&port);
	must(system("ip -d link show vp0 | grep -q 'promiscuity 0 '") == 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "packet", 20);

	tcase_add_test(tc, port_packet__refuses_what_makes_no_sense);
	tcase_add_test(tc, port_packet__needs_a_right);
	tcase_add_test(tc, port_packet__tells_what_it_can);
	tcase_add_test(tc, port_packet__passes_bursts_in_order);
	tcase_add_test(tc, port_packet__sees_the_wire_and_not_what_this_machine_sends);
	tcase_add_test(tc, port_packet__keeps_what_finds_no_room);
	tcase_add_test(tc, port_packet__throws_away_what_comes_while_the_guest_wants_none);
	tcase_add_test(tc, port_packet__waits_for_room);
	tcase_add_test(tc, port_packet__tells_of_room_whatever_is_received_meanwhile);
	tcase_add_test(tc, port_packet__is_not_readable_for_ever_for_one_that_sends_no_more);
	tcase_add_test(tc, port_packet__gives_nothing_old_to_a_guest_that_begins);
	tcase_add_test(tc, port_packet__counts_what_the_kernel_does_not_take);
	tcase_add_test(tc, port_packet__counts_what_the_socket_loses);
	tcase_add_test(tc, port_packet__passes_tags_beside_frames);
	tcase_add_test(tc, port_packet__keeps_other_tags_in);
	tcase_add_test(tc, port_packet__is_promiscuous_while_it_is_there);
}

VMBUS_TEST_MAIN("ports.packet", tests)
