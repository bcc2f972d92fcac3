/* SPDX-License-Identifier: MIT */
/* Ports plugged into a switch: what they receive, what they are given, what they cannot do. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vmbus/switch.h>

#include "nic.h"

#define SENT_MAX 512u

/* A port as an author writes one, which keeps what it is sent. */
struct cable {
	uint32_t can, mtu, tso_max;
	uint64_t lost_sent, lost_received; /* that it says it has dropped */
	int fd;
	bool fails_info, fails_open, is_open, running;
	uint32_t takes; /* frames that it still takes */
	uint32_t sent, calls;
	struct vmbus_frame frame[SENT_MAX];
	uint8_t kept[SENT_MAX][2048];
	struct vmbus_frame *coming; /* that receive() or ready() gives, `left` of them */
	uint32_t left;
	bool pushes;
	bool deaf; /* it has no descriptor */
	bool lies; /* receive() tells of more rooms than there are, and of more bytes than they have */
	struct vmbus_port_config config;
};

static struct cable cable;

static int cable_info(void *ctx, struct vmbus_port_info *info)
{
	const struct cable *const c = ctx;

	memset(info, 0, sizeof(*info));
	info->can = c->can;
	info->mtu_max = c->mtu;
	info->tso_max = c->tso_max;
	info->queues = 1;
	return c->fails_info ? VMBUS_E_PERM : 0;
}

static int cable_open(struct vmbus_port_queue *queue)
{
	struct cable *const c = queue->ctx;

	if (c->fails_open)
		return VMBUS_E_NOTSUP;
	c->fd = eventfd(0, EFD_NONBLOCK);
	c->is_open = true;
	if (!c->deaf)
		queue->fd = c->fd;
	return 0;
}

static void cable_close(struct vmbus_port_queue *queue)
{
	struct cable *const c = queue->ctx;

	close(c->fd);
	c->is_open = false;
}

static uint32_t cable_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			   uint32_t n)
{
	struct cable *const c = queue->ctx;
	uint32_t i, at, p;

	c->calls++;
	n = n < c->takes ? n : c->takes;
	for (i = 0; i < n; i++, c->sent++) {
		must(c->sent < SENT_MAX);
		c->frame[c->sent] = frame[i];
		for (p = 0, at = 0; p < frame[i].pieces && at < 2048; p++) {
			const size_t len = frame[i].piece[p].len;
			const size_t some = len < 2048 - at ? len : 2048 - at;

			memcpy(c->kept[c->sent] + at, frame[i].piece[p].base, some);
			at += (uint32_t)some;
		}
	}
	c->takes -= n;
	return n;
}

static void drain(struct cable *c)
{
	uint64_t count;

	(void)!read(c->fd, &count, sizeof(count));
}

static uint32_t cable_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			      uint32_t n)
{
	struct cable *const c = queue->ctx;
	uint32_t i;

	n = n < c->left ? n : c->left;
	for (i = 0; i < n; i++) {
		must(room[i].room >= VMBUS_FRAME_BYTES_MAX && room[i].spans == 1);
		memcpy(room[i].span[0].base, c->coming[i].piece[0].base, c->coming[i].bytes);
		room[i].bytes = c->coming[i].bytes;
		room[i].flags = c->coming[i].flags;
		room[i].mss = c->coming[i].mss;
	}
	if (n)
		c->coming += n;
	c->left -= n;
	if (c->left == 0)
		drain(c);
	if (c->lies && n)
		room[0].bytes = UINT32_MAX;
	return n + c->lies;
}

static void cable_ready(struct vmbus_port_queue *queue)
{
	struct cable *const c = queue->ctx;

	drain(c);
	must_eq(vmbus_port_deliver(queue, c->coming, c->left), c->left);
	c->left = 0;
}

static void cable_configure(void *ctx, const struct vmbus_port_config *config)
{
	((struct cable *)ctx)->config = *config;
}

static void cable_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	const struct cable *const c = ctx;

	*sent = c->lost_sent;
	*received = c->lost_received;
}

static int far_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->queues = 1;
	return 0;
}

static const struct vmbus_port_ops rooms_ops = {
	.struct_bytes = sizeof(rooms_ops),
	.name = "cable",
	.info = cable_info,
	.open = cable_open,
	.close = cable_close,
	.send = cable_send,
	.receive = cable_receive,
	.configure = cable_configure,
	.dropped = cable_dropped,
};
static const struct vmbus_port_ops pushes_ops = {
	.struct_bytes = sizeof(pushes_ops),
	.name = "cable",
	.info = cable_info,
	.open = cable_open,
	.close = cable_close,
	.send = cable_send,
	.ready = cable_ready,
};

static struct vmbus_switch *sw;
static struct vmbus_port nic_port;
static struct nic nic;
static uint32_t number;

static uint32_t tso_max; /* of the next cable */
static bool deaf;

static void make(uint32_t can, uint32_t mtu, bool pushes)
{
	const struct vmbus_port port = { pushes ? &pushes_ops : &rooms_ops, &cable };

	memset(&cable, 0, sizeof(cable));
	cable.can = can;
	cable.mtu = mtu;
	cable.takes = UINT32_MAX;
	cable.tso_max = tso_max;
	cable.deaf = deaf;
	must_eq(vmbus_switch_create(NULL, &sw), 0);
	must_eq(vmbus_switch_port(sw, "nic", &nic_port), 0);
	nic_open(&nic, &nic_port);
	must_eq(nic_take(&nic), 0);
	must_eq(vmbus_switch_plug(sw, "cable", &port, &number), 0);
	must(cable.is_open);
	/* The inbox says that it is empty. */
	while (vmbus_switch_dispatch(sw, 0) > 0)
		;
}

static void unmake(void)
{
	nic_close(&nic);
	vmbus_port_destroy(&nic_port);
	vmbus_switch_destroy(sw);
	must(!cable.is_open);
}

static bool has_work(void)
{
	struct pollfd p = { .fd = vmbus_switch_fd(sw), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Until there is no more; how many frames. */
static int dispatch_all(void)
{
	int sum = 0, turns = 1000;

	while (has_work()) {
		must(turns--);
		sum += vmbus_switch_dispatch(sw, 0);
	}
	return sum;
}

static struct vmbus_switch_stats cable_stats(void)
{
	struct vmbus_switch_stats stats;

	must_eq(vmbus_switch_stats(sw, number, &stats), 1);
	must(stats.plugged);
	return stats;
}

START_TEST(switch_plug__refuses_ports_and_tells_their_errors)
{
	struct vmbus_port_ops ops = rooms_ops;
	struct vmbus_port port = { &ops, &cable };
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts), .ports = 1 };
	struct vmbus_switch_stats stats;

	memset(&cable, 0, sizeof(cable));
	must_eq(vmbus_switch_create(&opts, &sw), 0);
	ops.struct_bytes--;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_INVAL);
	ops = rooms_ops;
	ops.send = NULL;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_INVAL);
	ops = rooms_ops;
	ops.info = NULL;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_INVAL);
	port.ops = NULL;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_INVAL);
	ops = rooms_ops;
	port.ops = &ops;
	ck_assert_int_eq(vmbus_switch_plug(sw, "", &port, NULL), VMBUS_E_INVAL);
	cable.fails_info = true;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_PERM);
	cable.fails_info = false;
	cable.fails_open = true;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), VMBUS_E_NOTSUP);
	ck_assert_int_eq(vmbus_switch_stats(sw, 0, &stats), 0);
	cable.fails_open = false;
	ck_assert_int_eq(vmbus_switch_plug(sw, "c", &port, NULL), 0);
	ck_assert_int_eq(vmbus_switch_plug(sw, "d", &port, NULL), VMBUS_E_FULL);
	ck_assert_int_eq(vmbus_switch_unplug(sw, 1), VMBUS_E_RANGE);
	ck_assert_int_eq(vmbus_switch_unplug(sw, 0), 0);
	ck_assert_int_eq(vmbus_switch_unplug(sw, 0), VMBUS_E_RANGE);
	ck_assert(!cable.is_open && !cable.config.running);
	vmbus_switch_destroy(sw);
}
END_TEST

START_TEST(switch_unplug__takes_no_port_of_a_nic)
{
	make(0, 0, false);
	ck_assert_int_eq(vmbus_switch_unplug(sw, 0), VMBUS_E_RANGE);
	ck_assert_int_eq(vmbus_switch_unplug(sw, UINT32_MAX), VMBUS_E_RANGE);
	unmake();
}
END_TEST

START_TEST(switch_plug__configures_the_port)
{
	make(0, 1500, false);
	ck_assert(cable.config.running && cable.config.promiscuous);
	ck_assert_uint_eq(cable.config.queues, 1);
	ck_assert_uint_eq(cable.config.mtu, 1500);
	ck_assert_uint_eq(cable.config.takes, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 |
						      VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN);
	unmake();
}
END_TEST

START_TEST(switch_plug__believes_any_mtu)
{
	static const uint32_t mtu[] = { 0, 65535, 65536, UINT32_MAX - 17, UINT32_MAX };

	make(0, mtu[_i], false);
	nic_send(&nic, 1, 255, 7);
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, 1);
	ck_assert_uint_eq(cable_stats().refused, 0);
	ck_assert_uint_eq(cable.config.mtu, 65535);
	unmake();
}
END_TEST

static int opens_the_same(struct vmbus_port_queue *queue)
{
	queue->fd = cable.fd;
	return 0;
}

/* The first plug goes on as if nothing had been. */
START_TEST(switch_plug__takes_a_port_once)
{
	struct vmbus_port port = { &rooms_ops, &cable };
	struct vmbus_port_ops ops = pushes_ops;
	struct cable other = { .fd = -1 };
	const uint64_t one = 1;
	struct vmbus_switch_stats stats;

	make(0, 0, false);
	ck_assert_int_eq(vmbus_switch_plug(sw, "again", &port, NULL), VMBUS_E_STATE);
	ops.open = opens_the_same; /* another port, with a descriptor that is watched already */
	ops.close = NULL;
	port = (struct vmbus_port){ &ops, &other };
	ck_assert_int_eq(vmbus_switch_plug(sw, "other", &port, NULL), VMBUS_E_SYSTEM);
	ck_assert_int_eq(vmbus_switch_stats(sw, 2, &stats), 0);
	ck_assert(cable.is_open && cable.config.running);
	cable.takes = 0;
	nic_send(&nic, 1, 255, 7);
	ck_assert_int_eq(dispatch_all(), 0);
	cable.takes = 1;
	must_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, 1);
	unmake();
}
END_TEST

START_TEST(switch_plug__refuses_a_port_of_its_own)
{
	struct vmbus_port port;

	make(0, 0, false);
	must_eq(vmbus_switch_port(sw, "own", &port), 0);
	ck_assert_int_eq(vmbus_switch_plug(sw, "p", &port, NULL), VMBUS_E_INVAL);
	vmbus_port_destroy(&port);
	unmake();
}
END_TEST

#define JOINS 2000u

struct join {
	struct vmbus_switch *sw;
	struct vmbus_port port; /* of the other switch */
};

static void *plug_and_unplug(void *arg)
{
	const struct join *const join = arg;
	uint32_t i, at;

	for (i = 0; i < JOINS; i++) {
		must_eq(vmbus_switch_plug(join->sw, "other", &join->port, &at), 0);
		(void)vmbus_switch_dispatch(join->sw, 0);
		must_eq(vmbus_switch_unplug(join->sw, at), 0);
	}
	return NULL;
}

/* Each has a port of the other's, and neither waits for the other. */
START_TEST(switch_plug__joins_two_switches_from_both_sides)
{
	struct join join[2];
	pthread_t thread[2];
	uint32_t i;

	for (i = 0; i < 2; i++)
		must_eq(vmbus_switch_create(NULL, &join[i].sw), 0);
	for (i = 0; i < 2; i++)
		must_eq(vmbus_switch_port(join[1 - i].sw, "port", &join[i].port), 0);
	for (i = 0; i < 2; i++)
		must(pthread_create(&thread[i], NULL, plug_and_unplug, &join[i]) == 0);
	for (i = 0; i < 2; i++)
		must(pthread_join(thread[i], NULL) == 0);
	for (i = 0; i < 2; i++)
		vmbus_port_destroy(&join[i].port);
	for (i = 0; i < 2; i++)
		vmbus_switch_destroy(join[i].sw);
}
END_TEST

START_TEST(switch_stats__have_what_the_port_drops_itself)
{
	const struct vmbus_port port = { &rooms_ops, &cable };

	make(0, 0, false);
	ck_assert_uint_eq(cable_stats().refused, 0);
	cable.lost_sent = 5;
	cable.lost_received = 3;
	ck_assert_uint_eq(cable_stats().refused, 5);
	ck_assert_uint_eq(cable_stats().in_lost, 3);
	must_eq(vmbus_switch_unplug(sw, number), 0);
	must_eq(vmbus_switch_plug(sw, "cable", &port, &number), 0);
	ck_assert_uint_eq(cable_stats().refused, 0);
	ck_assert_uint_eq(cable_stats().in_lost, 0);
	cable.lost_sent = 6;
	ck_assert_uint_eq(cable_stats().refused, 1);
	unmake();
}
END_TEST

static void carry_both_ways(bool pushes)
{
	struct vmbus_frame frame[100];
	struct vmbus_iov iov[100];
	static uint8_t bytes[100][60];
	const uint64_t one = 1;
	uint32_t i;

	make(0, 0, pushes);
	for (i = 0; i < 100; i++)
		frame[i] = between(bytes[i], &iov[i], 2, 1, i);
	nic_send(&nic, 1, 255, 7);
	must_eq(dispatch_all(), 1);
	must_eq(cable.sent, 1);
	cable.coming = frame;
	cable.left = 100;
	must_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
	must_eq(dispatch_all(), 100);
	must_eq(nic_take(&nic), 100);
	for (i = 0; i < 100; i++)
		must_eq(nic_number(&nic, i), i);
	for (i = 0; i < 300; i++)
		nic_send(&nic, 1, 2, 1000 + i);
	must_eq(dispatch_all(), 300);
	must_eq(cable.sent, 301);
	for (i = 0; i < 300; i++)
		must(memcmp(cable.kept[1 + i] + 14, &(uint32_t){ 1000 + i }, 4) == 0);
	must_eq(cable_stats().in_frames, 100);
	must_eq(cable_stats().out_frames, 301);
	unmake();
}

START_TEST(switch_dispatch__carries_frames_of_a_port_that_fills_rooms)
{
	carry_both_ways(false);
}
END_TEST

START_TEST(switch_dispatch__believes_no_port_that_tells_of_more_than_there_is)
{
	struct vmbus_frame frame[32];
	struct vmbus_iov iov[32];
	static uint8_t bytes[32][60];
	const uint64_t one = 1;
	uint32_t i;

	make(0, 0, false);
	for (i = 0; i < 32; i++) /* as many as there are rooms */
		frame[i] = between(bytes[i], &iov[i], 2, 1, i);
	nic_send(&nic, 1, 255, 7);
	ck_assert_int_eq(dispatch_all(), 1);
	cable.coming = frame;
	cable.left = 32;
	cable.lies = true;
	ck_assert_int_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(vmbus_switch_dispatch(sw, 32), 32);
	cable.lies = false;
	(void)dispatch_all();
	ck_assert_uint_eq(nic_take(&nic), 31);
	for (i = 1; i < 32; i++)
		ck_assert_uint_eq(nic_number(&nic, i - 1), i);
	ck_assert_uint_eq(cable_stats().bad, 1);
	unmake();
}
END_TEST

START_TEST(switch_dispatch__carries_frames_of_a_port_that_delivers)
{
	carry_both_ways(true);
}
END_TEST

START_TEST(switch_dispatch__keeps_to_its_budget)
{
	uint32_t i;
	int n;

	make(0, 0, false);
	for (i = 0; i < 300; i++)
		nic_send(&nic, 1, 255, i);
	n = vmbus_switch_dispatch(sw, 64);
	ck_assert(n >= 64 && n <= 128);
	ck_assert(has_work());
	ck_assert_int_eq(n + dispatch_all(), 300);
	unmake();
}
END_TEST

static uint32_t far_got;
static uint32_t far_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n)
{
	(void)queue;
	(void)frame;
	far_got += n;
	return n;
}

/* 3.9 MB in one call of ready(), through an inbox of 256 KiB. */
START_TEST(switch_dispatch__passes_on_more_than_an_inbox_holds)
{
	enum {
		N = 60
	};
	static uint8_t bytes[65000];
	static struct vmbus_frame frame[N];
	struct vmbus_port_ops ops = rooms_ops;
	struct vmbus_iov iov;
	const struct vmbus_port port = { &ops, NULL };
	const uint64_t one = 1;
	uint32_t i;

	make(0, 0, true);
	ops.open = NULL;
	ops.close = NULL;
	ops.receive = NULL;
	ops.configure = NULL;
	ops.dropped = NULL;
	ops.info = far_info;
	ops.send = far_send;
	far_got = 0;
	must_eq(vmbus_switch_plug(sw, "far", &port, NULL), 0);
	(void)between(bytes, &iov, 2, 9, 0);
	iov.len = sizeof(bytes);
	for (i = 0; i < N; i++)
		frame[i] =
			(struct vmbus_frame){ .piece = &iov, .pieces = 1, .bytes = sizeof(bytes) };
	cable.coming = frame;
	cable.left = N;
	must_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(dispatch_all(), 2 * N);
	ck_assert_uint_eq(far_got, N);
	unmake();
}
END_TEST

/* It waits for the port's descriptor, and spins for nobody. */
START_TEST(switch_dispatch__waits_for_a_port_that_takes_no_more)
{
	const uint64_t one = 1;
	uint32_t i, calls;

	make(0, 0, false);
	cable.takes = 10;
	for (i = 0; i < 20000; i++)
		nic_send(&nic, 1, 255, i);
	ck_assert_int_eq(dispatch_all(), 10);
	ck_assert_uint_eq(cable.sent, 10);
	calls = cable.calls;
	ck_assert(!has_work());
	ck_assert(cable_stats().no_room > 1000);
	cable.takes = 40;
	must_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
	(void)vmbus_switch_dispatch(sw, 0);
	ck_assert_uint_eq(cable.sent, 50);
	ck_assert(cable.calls > calls);
	for (i = 0; i < 50; i++)
		must(memcmp(cable.kept[i] + 14, &i, 4) == 0);
	unmake();
}
END_TEST

/* A port without a descriptor has nothing to wait for. */
START_TEST(switch_dispatch__drops_what_a_deaf_port_does_not_take)
{
	uint32_t i;

	deaf = true;
	make(0, 0, false);
	cable.takes = 10;
	for (i = 0; i < 30; i++)
		nic_send(&nic, 1, 255, i);
	(void)dispatch_all();
	ck_assert_uint_eq(cable.sent, 10);
	ck_assert_uint_eq(cable_stats().refused, 20);
	cable.takes = 1;
	nic_send(&nic, 1, 255, 30);
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, 11);
	must(memcmp(cable.kept[10] + 14, &(uint32_t){ 30 }, 4) == 0);
	unmake();
	deaf = false;
}
END_TEST

/* A port that puts another file at its number, while somebody else has the first one open: nobody can
   take that out of the set. */
START_TEST(switch_dispatch__bears_a_file_that_outlives_its_plug)
{
	const uint64_t one = 1;
	int copy, other;

	make(0, 0, _i);
	copy = dup(cable.fd);
	other = eventfd(0, EFD_NONBLOCK);
	must(copy >= 0 && other >= 0);
	must_eq(dup2(other, cable.fd), cable.fd);
	must_eq(write(copy, &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(vmbus_switch_dispatch(sw, 0), 0);
	must_eq(vmbus_switch_unplug(sw, number), 0);
	must(has_work());
	ck_assert_int_eq(vmbus_switch_dispatch(sw, 0), 0);
	must_eq(close(copy), 0);
	must_eq(close(other), 0);
	must(!has_work());
	unmake();
}
END_TEST

/* ---- what the port cannot do is done before ---- */

static struct built b;
static uint16_t mss = 1000;

static void send_built(const struct shape *s, uint32_t flags)
{
	struct vmbus_iov iov;
	struct vmbus_frame frame;

	build(&b, s);
	iov = (struct vmbus_iov){ b.at, b.bytes };
	frame = (struct vmbus_frame){ .piece = &iov,
				      .pieces = 1,
				      .bytes = b.bytes,
				      .flags = flags,
				      .csum_start = (uint16_t)b.transport,
				      .csum_offset = 16,
				      .header_bytes = (uint16_t)b.payload,
				      .mss = mss,
				      .vlan = 77 };
	put16(b.at + b.transport + 16,
	      slow_pseudo(b.at + b.network, s->ip, 6, b.bytes - b.transport));
	must_eq(nic.port.ops->send(&nic.queue, &frame, 1), 1);
}

START_TEST(switch_dispatch__sums_cuts_and_tags_for_a_port_that_cannot)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5001 };
	const struct shape small = { .ip = 4, .protocol = 6, .payload = 500 };
	const uint32_t ip = 18, tcp = 38;
	uint32_t i;

	make(0, 1500, false);
	send_built(&s, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN);
	send_built(&small, VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN | VMBUS_FRAME_IP_CSUM);
	ck_assert_int_eq(dispatch_all(), 2);
	ck_assert_uint_eq(cable.sent, 7);
	for (i = 0; i < 7; i++) {
		const uint8_t *const frame = cable.kept[i];

		vmbus_test_at("segment %u", i);
		must_eq(cable.frame[i].flags, VMBUS_FRAME_CSUM_OK);
		must_eq(get16(frame + 12), 0x8100);
		must_eq(get16(frame + 14), 77);
		must_eq(slow_sum(0, frame + ip, 20), 0xffff);
		must_eq(transport_wrong(frame + ip, frame + tcp, 6, cable.frame[i].bytes - tcp), 0);
	}
	must_eq(cable.frame[5].bytes, 58 + 1);
	must_eq(cable.frame[6].bytes, 58 + 500);
	unmake();
}
END_TEST

START_TEST(switch_dispatch__counts_segments_against_its_budget)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 1024 };
	const struct shape large = { .ip = 4, .protocol = 6, .payload = 8193 };
	uint32_t i;

	make(0, 0, false);
	mss = 8;
	for (i = 0; i < 3; i++)
		send_built(&s, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	ck_assert_int_eq(vmbus_switch_dispatch(sw, 64), 1);
	ck_assert_uint_eq(cable.sent, 128);
	ck_assert(has_work());
	ck_assert_int_eq(dispatch_all(), 2);
	cable.sent = 0;
	send_built(&large, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	(void)dispatch_all();
	ck_assert_uint_eq(cable.sent, 0);
	ck_assert_uint_eq(cable_stats().refused, 1);
	unmake();
}
END_TEST

START_TEST(switch_dispatch__goes_on_in_the_midst_of_a_frame_that_is_cut)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5001 };
	const uint64_t one = 1;
	uint32_t i;

	make(VMBUS_FRAME_CSUM, 0, false);
	cable.takes = 0;
	send_built(&s, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	ck_assert_int_eq(dispatch_all(), 0);
	for (i = 0; i < 6; i++) {
		cable.takes = 1;
		must_eq(write(cable.fd, &one, sizeof(one)), sizeof(one));
		(void)vmbus_switch_dispatch(sw, 0);
		must_eq(cable.sent, i + 1);
		must_eq(get32(cable.kept[i] + 38), (0xffffff00u + i * 1000ull) & 0xffffffffu);
		drain(&cable);
	}
	ck_assert_uint_eq(cable_stats().out_frames, 1);
	unmake();
}
END_TEST

START_TEST(switch_dispatch__drops_the_rest_of_a_frame_that_a_deaf_port_does_not_take)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5001 };

	deaf = true;
	make(VMBUS_FRAME_CSUM, 0, false);
	cable.takes = 2;
	send_built(&s, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	(void)dispatch_all();
	ck_assert_uint_eq(cable.sent, 2);
	ck_assert_uint_eq(cable_stats().refused, 1);
	cable.takes = 1;
	nic_send(&nic, 1, 255, 30);
	(void)dispatch_all();
	ck_assert_uint_eq(cable.sent, 3);
	ck_assert_uint_eq(cable.frame[2].bytes, 60);
	unmake();
	deaf = false;
}
END_TEST

START_TEST(switch_dispatch__leaves_to_the_port_what_it_can)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5001 };
	const uint32_t all = VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN;

	make(all, 1500, false);
	send_built(&s, all);
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, 1);
	ck_assert_uint_eq(cable.frame[0].flags, all);
	ck_assert_uint_eq(cable.frame[0].mss, 1000);
	unmake();
}
END_TEST

/* 5055 bytes. */
START_TEST(switch_dispatch__cuts_what_is_larger_than_the_port_takes)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5001 };
	const uint32_t flags = VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM;
	uint32_t i;

	tso_max = _i ? 5055 : 5054;
	make(flags, 1500, false);
	send_built(&s, flags);
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, _i ? 1 : 6);
	for (i = 0; i < cable.sent; i++) {
		ck_assert_uint_eq(cable.frame[i].flags, _i ? flags : VMBUS_FRAME_CSUM_OK);
		ck_assert_uint_eq(cable.frame[i].bytes, _i ? 5055 : i < 5 ? 1054 : 55);
	}
	unmake();
	tso_max = 0;
}
END_TEST

START_TEST(switch_dispatch__refuses_and_counts_what_cannot_be_done)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 2000 };
	const struct shape udp = { .ip = 4, .protocol = 17, .payload = 200 };

	make(0, 1500, false);
	send_built(&s, 0);		    /* longer than the port takes */
	send_built(&udp, VMBUS_FRAME_TSO4); /* no TCP */
	mss = 1465;			    /* segments that are longer than it takes */
	send_built(&s, VMBUS_FRAME_TSO4);
	ck_assert_int_eq(dispatch_all(), 3);
	ck_assert_uint_eq(cable.sent, 0);
	ck_assert_uint_eq(cable_stats().refused, 3);
	nic_send(&nic, 1, 255, 0);
	ck_assert_int_eq(dispatch_all(), 1);
	ck_assert_uint_eq(cable.sent, 1);
	unmake();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "plug", 10);

	tcase_add_test(tc, switch_plug__refuses_ports_and_tells_their_errors);
	tcase_add_test(tc, switch_unplug__takes_no_port_of_a_nic);
	tcase_add_test(tc, switch_plug__configures_the_port);
	tcase_add_loop_test(tc, switch_plug__believes_any_mtu, 0, 5);
	tcase_add_test(tc, switch_plug__takes_a_port_once);
	tcase_add_test(tc, switch_plug__refuses_a_port_of_its_own);
	tcase_add_test(tc, switch_plug__joins_two_switches_from_both_sides);
	tcase_add_test(tc, switch_stats__have_what_the_port_drops_itself);
	tc = vmbus_test_case(suite, "dispatch", 10);
	tcase_add_test(tc, switch_dispatch__carries_frames_of_a_port_that_fills_rooms);
	tcase_add_test(tc, switch_dispatch__believes_no_port_that_tells_of_more_than_there_is);
	tcase_add_test(tc, switch_dispatch__carries_frames_of_a_port_that_delivers);
	tcase_add_test(tc, switch_dispatch__keeps_to_its_budget);
	tcase_add_test(tc, switch_dispatch__waits_for_a_port_that_takes_no_more);
	tcase_add_test(tc, switch_dispatch__drops_what_a_deaf_port_does_not_take);
	tcase_add_loop_test(tc, switch_dispatch__bears_a_file_that_outlives_its_plug, 0, 2);
	tcase_add_test(tc, switch_dispatch__passes_on_more_than_an_inbox_holds);
	tcase_add_test(tc, switch_dispatch__sums_cuts_and_tags_for_a_port_that_cannot);
	tcase_add_test(tc, switch_dispatch__counts_segments_against_its_budget);
	tcase_add_test(tc, switch_dispatch__goes_on_in_the_midst_of_a_frame_that_is_cut);
	tcase_add_test(tc,
		       switch_dispatch__drops_the_rest_of_a_frame_that_a_deaf_port_does_not_take);
	tcase_add_test(tc, switch_dispatch__leaves_to_the_port_what_it_can);
	tcase_add_loop_test(tc, switch_dispatch__cuts_what_is_larger_than_the_port_takes, 0, 2);
	tcase_add_test(tc, switch_dispatch__refuses_and_counts_what_cannot_be_done);
}

VMBUS_TEST_MAIN("ports.switch_plug", tests)
