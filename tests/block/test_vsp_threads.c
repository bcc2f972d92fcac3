/* SPDX-License-Identifier: MIT */
/*
 * A controller whose channels are dispatched by threads of their own, a guest that uses all of them
 * at once, and disks that come, go and grow meanwhile: each request is answered once, a disk that
 * is there does what it is told, and stores are let go of.
 */
#include "vspbox.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SUBS 2u
#define CHANNELS (SUBS + 1u)
#define ROUNDS 1500u
#define CHANGES 150u
#define DEADLINE_NS 60000000000ull

struct server {
	pthread_t thread;
	struct vmbus_chan *chan;
};

struct guest {
	pthread_t thread;
	struct box *box;
	uint32_t n; /* of the channel */
	uint32_t tells, attentions, absent, good;
};

static struct server servers[CHANNELS];
static uint32_t serving;
static _Atomic(bool) stop, guests_done;

static void *serve(void *ctx)
{
	struct server *s = ctx;
	struct pollfd p = { .fd = vmbus_chan_fd(s->chan), .events = POLLIN };

	while (!stop) {
		(void)poll(&p, 1, 10);
		while (vmbus_chan_dispatch(s->chan, 64) > 0)
			;
	}
	return NULL;
}

static void start_server(struct vmbus_chan *chan)
{
	struct server *s = &servers[serving++];

	s->chan = chan;
	must_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void offered(void *ctx, struct vmbus_chan *sub)
{
	(void)ctx;
	start_server(sub);
}

/* The next message of the parent, which may take its time. */
static void wait_for(struct box *b, uint32_t type, struct vmbus_ctl *ctl)
{
	const uint64_t end = fake_now_ns() + DEADLINE_NS;
	uint32_t got;

	while (!(got = fake_take(&b->f, ctl)))
		must(fake_now_ns() < end);
	must_eq(got, type);
}

static void open_chan(struct box *b, struct fake_chan *c)
{
	struct vmbus_ctl ctl;

	fake_rings(&b->f, c, BOX_UP, BOX_DOWN);
	c->gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, c->relid, c->gpadl, c->first, BOX_UP + BOX_DOWN), 0);
	fake_post_open(&b->f, c, 0);
	wait_for(b, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
}

/* A request and its answer, on the guest's thread of the channel. */
static void ask(struct guest *g, uint64_t id, const uint8_t *msg, const uint8_t *ext,
		uint32_t ext_len, struct box_reply *r)
{
	const uint64_t end = fake_now_ns() + DEADLINE_NS;
	struct vmbus_packet pkt;

	box_send_pkt(g->box, g->n, id, msg, 64, ext, ext_len);
	for (;;) {
		if (fake_receive(&g->box->c[g->n], &pkt, 1) != 1) {
			must(fake_now_ns() < end);
			(void)sched_yield();
			continue;
		}
		box_decode(r, &pkt);
		if (pkt.type == VMBUS_PKT_COMPLETION)
			break;
		must_eq(r->op, 11);
		g->tells++;
	}
	must_eq(r->id, id);
}

static void one(struct guest *g, uint64_t id)
{
	const uint32_t page = g->n * 16, sector = g->n * 128 + (uint32_t)id % 16 * 8;
	const bool write = id % 2;
	const uint8_t lun = id % 3 == 0;
	const struct box_srb srb = box_rw(lun, write, sector, 8);
	uint8_t msg[64], ext[64];
	struct box_reply r;
	uint32_t n;

	n = box_range(ext, g->box->data + page, 0, 4096);
	box_srb(msg, &srb);
	if (write)
		memset(box_page(g->box, page), (int)id, 4096);
	do { /* a disk that grew is asked again */
		ask(g, id, msg, ext, n, &r);
		g->attentions += r.scsi_status == 2 && r.srb_status == 0x84;
	} while (r.scsi_status == 2 && r.srb_status == 0x84);
	if (r.srb_status == 0x20 && lun == 1) {
		g->absent++;
		return;
	}
	must_eq(r.srb_status, 1);
	must_eq(r.bytes, 4096);
	g->good++;
}

static void *guest(void *ctx)
{
	struct guest *g = ctx;
	uint64_t id;

	for (id = 1; id <= ROUNDS; id++)
		one(g, id);
	return NULL;
}

/* Disk 1 comes and goes, disk 0 grows, counters are read. */
static void *change(void *ctx)
{
	struct box *b = ctx;
	struct vmbus_block_stats stats;
	const struct timespec t = { .tv_nsec = 200000 };
	uint32_t i;

	for (i = 0; i < CHANGES && !guests_done; i++) {
		must_eq(vmbus_block_stats(b->block, 0, 0, &stats), 0);
		must_eq(vmbus_block_resized(b->block, 0, 0), 0);
		must_eq(vmbus_block_remove(b->block, 0, 1), 0);
		nanosleep(&t, NULL);
		while (box_add(b, 1) == VMBUS_E_STATE) /* until every channel has let go */
			nanosleep(&t, NULL);
		(void)vmbus_block_stats(b->block, 0, 1, &stats);
	}
	return NULL;
}

START_TEST(block_vsp__serves_channels_on_threads)
{
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer), .own_fd = true };
	struct guest g[CHANNELS];
	struct vmbus_chan *chan;
	struct vmbus_ctl ctl;
	struct box_reply r;
	pthread_t changer;
	struct box b;
	uint32_t i;

	static const uint8_t ops[] = { 7, 9, 10, 8, 13 };

	memset(g, 0, sizeof(g));
	box_prepare(&b);
	b.opts.subchannels = SUBS;
	b.opts.removed = NULL;
	fake_prepare(&b.f, 1024);
	b.f.opts.offered = offered;
	fake_create(&b.f);
	box_disks(&b, 2);
	must_eq(vmbus_bus_offer(b.f.bus, vmbus_block_vsp(), b.block, &offer, &chan), 0);
	start_server(chan);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	b.data = fake_pages(&b.f, BOX_DATA_PAGES);
	open_chan(&b, &b.c[0]);
	for (i = 0; i < CHANNELS; i++)
		g[i] = (struct guest){ .box = &b, .n = i };
	for (i = 0; i < 5; i++) {
		uint8_t msg[64] = {
			ops[i], [12] = ops[i] == 13 ? SUBS : 2, [13] = ops[i] == 9 ? 6 : 0
		};

		ask(&g[0], 1000 + i, msg, NULL, 0, &r);
		must_eq(r.status, 0);
	}
	for (i = 1; i < CHANNELS; i++) {
		wait_for(&b, VMBUS_CTL_OFFER, &ctl);
		b.c[i].fake = &b.f;
		b.c[i].relid = ctl.u.offer.relid;
		b.c[i].conn = ctl.u.offer.conn_id;
	}
	for (i = 1; i < CHANNELS; i++)
		open_chan(&b, &b.c[i]);
	for (i = 0; i < CHANNELS; i++)
		must_eq(pthread_create(&g[i].thread, NULL, guest, &g[i]), 0);
	must_eq(pthread_create(&changer, NULL, change, &b), 0);
	for (i = 0; i < CHANNELS; i++)
		must_eq(pthread_join(g[i].thread, NULL), 0);
	guests_done = true;
	must_eq(pthread_join(changer, NULL), 0);
	for (i = 0; i < CHANNELS; i++)
		must(g[i].good > ROUNDS / 3);
	vmbus_bus_close(b.f.bus);
	stop = true;
	for (i = 0; i < CHANNELS; i++)
		must_eq(pthread_join(servers[i].thread, NULL), 0);
	box_end(&b);
}
END_TEST

/* A thread that stops before it writes a descriptor, until the other one was there. */
static _Thread_local bool stops;
static _Atomic(bool) stopped, was_there;

ssize_t write(int fd, const void *from, size_t bytes)
{
	uint64_t end;

	if (stops) {
		end = fake_now_ns() +
		      100000000u; /* the other one may wait for a lock that we have */
		stopped = true;
		while (!was_there && fake_now_ns() < end)
			(void)sched_yield();
	}
	return syscall(SYS_write, fd, from, bytes);
}

static void *grow(void *ctx)
{
	struct box *b = ctx;

	stops = true;
	must_eq(vmbus_block_resized(b->block, 0, 0), 0);
	return NULL;
}

/* A change that is told while the one before it is heard leaves nothing that wakes the thread for ever. */
START_TEST(block_vsp__sleeps_after_changes)
{
	pthread_t grower;
	struct box b;

	box_prepare(&b);
	box_begin(&b, 1);
	box_open(&b);
	fake_run(&b.f);
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	must_eq(pthread_create(&grower, NULL, grow, &b), 0);
	while (!stopped)
		(void)sched_yield();
	(void)vmbus_bus_dispatch(b.f.bus, 64);
	was_there = true;
	must_eq(pthread_join(grower, NULL), 0);
	fake_run(&b.f); /* until the descriptor is quiet */
	box_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "threads", 20);

	tcase_add_test(tc, block_vsp__sleeps_after_changes);
	tcase_add_test(tc, block_vsp__serves_channels_on_threads);
}
VMBUS_TEST_MAIN("block.vsp_threads", tests)
