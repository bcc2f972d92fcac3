/* SPDX-License-Identifier: MIT */
/*
 * The network device's client with own_thread: its thread leaves, whatever the parent does, and touches
 * nothing from the moment on that the guest's thread may tell closed().  That one goes on at once here,
 * within the backend's wake(), so closed() comes before the last call has returned.
 */
#include "clienthost.h"

#define RING_BYTES 4096u
#define TURNS 1000u
#define SECTIONS 42u

struct storage {
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan;
};

/* What closed() does with the storage. */
enum then {
	KEEP,
	TAKE_AWAY, /* who touches it is killed */
	START_AGAIN
};

static struct {
	struct host h;
	struct storage *s;
	enum then then;
	uint32_t *rings;
	uint32_t starts, ready, closed;
	int ready_err;
	bool runs;    /* the thread of this start is to call */
	bool calling; /* it is within a call */
} t;

static void start(void);

static size_t storage_bytes(void)
{
	return (sizeof(struct storage) + VMBUS_PAGE_BYTES - 1u) / VMBUS_PAGE_BYTES *
	       VMBUS_PAGE_BYTES;
}

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	t.ready++;
	t.ready_err = err;
}

static void on_opened(void *ctx, uint32_t channel)
{
	(void)ctx;
	(void)channel;
	t.runs = true;
}

static void on_closed(void *ctx)
{
	(void)ctx;
	t.closed++;
	if (t.then == TAKE_AWAY)
		must(!mprotect(t.s, storage_bytes(), PROT_NONE));
	if (t.then == START_AGAIN) {
		t.then = KEEP;
		start();
	}
}

static void start(void)
{
	struct vmbus_netvsc_opts opts = host_opts(&t.h);

	opts.chan = &t.s->chan;
	opts.open.own_thread = true;
	opts.open.send_bytes = t.starts ? 0 : RING_BYTES;
	opts.ready = on_ready;
	opts.opened = on_opened;
	opts.writable = NULL;
	opts.readable = NULL;
	opts.link = NULL;
	opts.closed = on_closed;
	t.starts++;
	must_eq(vmbus_netvsc_start(&t.s->nv, host_vsc(&t.h), &opts), 0);
}

/* The thread has left: the guest's has its turn before it is back. */
static void on_wake(void *ctx)
{
	if (!t.calling)
		return;
	t.calling = false;
	loop_settle(ctx);
}

static void *on_alloc(void *ctx, size_t bytes, bool shared)
{
	void *const p = loop_alloc(ctx, bytes, shared);

	if (shared && bytes == 2 * VMBUS_PAGE_BYTES + RING_BYTES + 262144u)
		t.rings = p;
	return p;
}

/* One call of the thread's. */
static int receive(void)
{
	const uint32_t starts = t.starts;
	int n;

	t.calling = true;
	n = vmbus_netvsc_receive(&t.s->nv, 0, &t.h.burst, 64);
	t.calling = false;
	if (n > 0)
		must_eq(vmbus_netvsc_release(&t.s->nv, 0, &t.h.burst), 0);
	if (n < 0 && n != VMBUS_E_AGAIN && t.starts == starts)
		t.runs = false;
	return n;
}

static void wait_ready(uint32_t ready)
{
	uint32_t i;

	for (i = 0; i < TURNS && t.ready < ready; i++) {
		loop_settle(t.h.l);
		if (t.runs)
			(void)receive();
	}
	must_eq(t.ready, ready);
	must_eq(t.ready_err, 0);
}

static void begin(enum then then)
{
	memset(&t, 0, sizeof(t));
	host_start(&t.h);
	t.then = then;
	t.s = mmap(NULL, storage_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	must(t.s != MAP_FAILED);
	t.h.l->backend.alloc = on_alloc;
	t.h.l->backend.wake = on_wake;
	start();
	wait_ready(1);
	must(t.rings != NULL);
}

static void end(void)
{
	host_free(&t.h);
	must(!munmap(t.s, storage_bytes()));
}

/* The thread is asked to leave. */
static void stop(void)
{
	must_eq(vmbus_netvsc_stop(&t.s->nv), 0);
	must(vmbus_guest_dispatch(t.h.l->guest, LOOP_BUDGET) >= 0);
}

/* Packets whose frames are all bad, and a ring to the host that has no room and is broken. */
static void break_ring(void)
{
	const uint32_t range[1][2] = { { 1, 0 } };
	uint32_t i;

	for (i = 0; i < 2 * RING_BYTES / 32; i++)
		(void)host_ranges(&t.h, t.h.channel[0], 0, range, 1);
	t.rings[1] = 3; /* the host's index */
}

START_TEST(netvsc_receive__leaves_when_a_bad_packet_finds_the_ring_broken)
{
	uint32_t i;
	int n = VMBUS_E_AGAIN;

	begin(KEEP);
	break_ring();
	for (i = 0; i < TURNS && n == VMBUS_E_AGAIN; i++)
		n = receive();
	must_eq(n, VMBUS_E_PEER);
	loop_settle(t.h.l);
	must_eq(t.closed, 1);
	end();
}
END_TEST

/* By a stop, by a ring that is broken. */
START_TEST(netvsc_receive__leaves_the_storage)
{
	uint32_t i;
	int n = VMBUS_E_AGAIN;

	begin(TAKE_AWAY);
	if (_i)
		break_ring();
	else
		stop();
	for (i = 0; i < TURNS && n == VMBUS_E_AGAIN; i++)
		n = receive();
	must_eq(n, _i ? VMBUS_E_PEER : VMBUS_E_STATE);
	must_eq(t.closed, 1);
	end();
}
END_TEST

START_TEST(netvsc_receive__leaves_the_storage_to_another_start)
{
	uint8_t data[60];

	begin(START_AGAIN);
	stop();
	must_eq(receive(), VMBUS_E_STATE);
	must_eq(t.closed, 1);
	must_eq(t.starts, 2);
	wait_ready(2);
	host_pattern(data, sizeof(data), 1);
	(void)host_deliver(&t.h, 0, data, sizeof(data), NULL, 0);
	must_eq(receive(), 1);
	stop();
	must_eq(receive(), VMBUS_E_STATE);
	must_eq(t.closed, 2);
	end();
}
END_TEST

/* Within a send, which looks for completions: when no section is free, and after frames were taken into
   the last one. */
START_TEST(netvsc_send__leaves_the_storage)
{
	static uint8_t data[60];
	static const struct vmbus_iov piece = { data, sizeof(data) };
	struct vmbus_frame frame[9];
	uint32_t i;

	begin(TAKE_AWAY);
	for (i = 0; i < 9; i++)
		frame[i] = (struct vmbus_frame){ .piece = &piece, .pieces = 1, .bytes = 60 };
	for (i = 0; i < SECTIONS - (uint32_t)_i; i++)
		must_eq(vmbus_netvsc_send(&t.s->nv, 0, frame, 1), 1);
	must_eq(t.s->chan.free_count_p, (uint32_t)_i);
	stop();
	t.calling = true;
	must_eq(vmbus_netvsc_send(&t.s->nv, 0, frame, 9), VMBUS_E_STATE);
	must_eq(t.closed, 1);
	end();
}
END_TEST

/* Until closed() too, after callbacks in the call in which it left. */
START_TEST(netvsc_receive__says_so_again)
{
	static uint8_t data[60];
	const struct vmbus_iov piece = { data, sizeof(data) };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = 60 };
	uint32_t i;

	begin(KEEP);
	must_eq(vmbus_netvsc_send(&t.s->nv, 0, &frame, 1), 1); /* its end is told */
	stop();
	for (i = 0; i < 2; i++) {
		must_eq(vmbus_netvsc_receive(&t.s->nv, 0, &t.h.burst, 64), VMBUS_E_STATE);
		must_eq(vmbus_netvsc_send(&t.s->nv, 0, &frame, 1), VMBUS_E_STATE);
	}
	must_eq(t.closed, 0);
	loop_settle(t.h.l);
	must_eq(t.closed, 1);
	end();
}
END_TEST

static void on_done(struct vmbus_netvsc_req *req)
{
	static uint8_t data[60];
	const struct vmbus_iov piece = { data, sizeof(data) };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = 60 };

	must_eq(req->err, 0);
	must_eq(vmbus_netvsc_receive(&t.s->nv, 0, &t.h.burst, 64), 0);
	must_eq(vmbus_netvsc_send(&t.s->nv, 0, &frame, 1), 1);
}

/* Whether a call is the last one is not known within its callbacks: there it is not. */
START_TEST(netvsc_send__within_callback)
{
	struct vmbus_netvsc_req req = { .oid = 0x00020101, .done = on_done };
	uint8_t out[4];
	uint32_t i;

	begin(TAKE_AWAY);
	req.out = out;
	req.out_bytes = sizeof(out);
	must_eq(vmbus_netvsc_control(&t.s->nv, &req), 0);
	for (i = 0; i < TURNS && t.h.frames == 0; i++) {
		loop_settle(t.h.l);
		must(receive() >= 0);
	}
	must_eq(t.h.frames, 1);
	stop();
	must_eq(receive(), VMBUS_E_STATE);
	must_eq(t.closed, 1);
	end();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "leave", 20);

	tcase_add_test(tc, netvsc_receive__leaves_when_a_bad_packet_finds_the_ring_broken);
	tcase_add_loop_test(tc, netvsc_receive__leaves_the_storage, 0, 2);
	tcase_add_test(tc, netvsc_receive__leaves_the_storage_to_another_start);
	tcase_add_loop_test(tc, netvsc_send__leaves_the_storage, 0, 2);
	tcase_add_test(tc, netvsc_receive__says_so_again);
	tcase_add_test(tc, netvsc_send__within_callback);
}

VMBUS_TEST_MAIN("net.netvsc_leave", tests)
