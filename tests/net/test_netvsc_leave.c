/* SPDX-License-Identifier: MIT */
/*
 * The network device's client with own_thread: its thread leaves, whatever the parent does.  The guest's
 * goes on at once, within the backend's wake().
 */
#include "clienthost.h"

#define RING_BYTES 4096u
#define TURNS 1000u

struct storage {
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan;
};

static struct {
	struct host h;
	struct storage *s;
	uint32_t *rings;
	uint32_t starts, ready, closed;
	int ready_err;
	bool runs;    /* the thread of this start is to call */
	bool calling; /* it is within a call */
} t;

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

static void begin(void)
{
	memset(&t, 0, sizeof(t));
	host_start(&t.h);
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

	begin();
	break_ring();
	for (i = 0; i < TURNS && n == VMBUS_E_AGAIN; i++)
		n = receive();
	must_eq(n, VMBUS_E_PEER);
	loop_settle(t.h.l);
	must_eq(t.closed, 1);
	end();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "leave", 20);

	tcase_add_test(tc, netvsc_receive__leaves_when_a_bad_packet_finds_the_ring_broken);
}

VMBUS_TEST_MAIN("net.netvsc_leave", tests)
