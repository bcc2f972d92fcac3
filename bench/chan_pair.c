/* SPDX-License-Identifier: MIT */
/*
 * Parent and child over shared memory, and what runs through their channels: packets as fast as
 * they go, with both sides polling, and one echo at a time, with both sides asleep.
 */
#include "bench.h"
#include "chan_pair.h"
#include "latency.h"
#include "loop.h"

#include <vmbus/vmbus.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TRY_US 200u	   /* between attempts to attach to a parent that is not there yet */
#define POLL_PACKETS 4096u /* budget of one turn */
#define POLL_NS 20000u	   /* of spinning in one turn */
#define PROBE_BLOCKS 128u
#define CLIENT_SPARE (1u << 20) /* memory of a child beside its rings */

#define PAIR_CLASS                                                                                 \
	VMBUS_GUID(0xbe9c0000, 0x0001, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid pair_class = PAIR_CLASS;
#define SINK_CLASS                                                                                 \
	VMBUS_GUID(0xbe9c0000, 0x0002, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid sink_class = SINK_CLASS;

void pair_path(char *buf, size_t bytes)
{
	static unsigned int count;

	snprintf(buf, bytes, "/tmp/vmbus-bench-%d-%u.sock", (int)getpid(), count++);
}

/* ---- the parent ---- */

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	/* The child has fewer requests under way than the ring holds. */
	(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "bench echo",
	.class_id = PAIR_CLASS,
	.packets = echo_packets,
};

static int pair_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct pair_server *ps = ctx;
	uint32_t i;
	int err = 0;

	(void)child;
	ps->bus = bus;
	for (i = 0; i < ps->count && !err; i++)
		err = vmbus_bus_offer(bus, &echo_vsp, NULL, NULL, NULL);
	return err;
}

static void pair_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	struct pair_server *ps = ctx;

	(void)child;
	(void)why;
	ps->bus = NULL;
	ps->left++;
}

int pair_listen(struct pair_server *ps, const char *path, uint32_t count)
{
	return pair_listen_many(ps, path, count, 0);
}

int pair_listen_many(struct pair_server *ps, const char *path, uint32_t count, uint32_t children)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = path };

	memset(ps, 0, sizeof(*ps));
	ps->count = count;
	opts.children_max = children;
	opts.attached = pair_attached;
	opts.detached = pair_detached;
	opts.ctx = ps;
	return vmbus_shm_listen(&opts, &ps->server);
}

void pair_unlisten(struct pair_server *ps)
{
	if (ps->server)
		vmbus_shm_server_destroy(ps->server);
	ps->server = NULL;
}

/* ---- the child ---- */

int pair_attach(struct pair_client *pc, const char *path, uint64_t memory_bytes)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	const uint64_t until = now_ns() + PAIR_WAIT_NS;
	int err;

	opts.name = "bench";
	opts.memory_bytes = memory_bytes + CLIENT_SPARE;
	while ((err = vmbus_shm_attach(&opts, &pc->attach)) < 0) {
		if (now_ns() > until ||
		    (err == VMBUS_E_SYSTEM && errno != ENOENT && errno != ECONNREFUSED))
			return err;
		usleep(TRY_US);
	}
	pc->guest = vmbus_shm_guest(pc->attach);
	err = vmbus_guest_connect(pc->guest);
	if (!err)
		err = vmbus_guest_wait(pc->guest, VMBUS_GUEST_CONNECTED, PAIR_WAIT_NS);
	if (err < 0)
		vmbus_shm_detach(pc->attach);
	return err < 0 ? err : 0;
}

static struct vmbus_vsc *open_class(struct pair_client *pc, const struct vmbus_guid *class_id,
				    uint32_t nth, struct vmbus_vsc_opts *opts)
{
	struct vmbus_vsc *vsc = vmbus_vsc_find(pc->guest, class_id, nth);

	opts->struct_bytes = sizeof(*opts);
	if (!vsc || vmbus_vsc_open(vsc, opts) ||
	    vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PAIR_WAIT_NS) < 0)
		return NULL;
	return vsc;
}

struct vmbus_vsc *pair_open(struct pair_client *pc, uint32_t nth, struct vmbus_vsc_opts *opts)
{
	return open_class(pc, &pair_class, nth, opts);
}

/* ---- packets as fast as they go ---- */

struct stream {
	char path[64];
	bool one_by_one;
};

/* The parent's side of a stream; the device finds it as its context. */
struct sink {
	struct side *side;
	struct vmbus_chan *chan;
	bool open;
	bool over;
	bool gone;
	bool one_by_one;
};

static void sink_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct sink *sink = vmbus_chan_ctx(chan);

	if (!sink->over)
		side_check(sink->side, pkt->payload);
}

static void sink_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct sink *sink = vmbus_chan_ctx(chan);
	uint32_t i;

	if (sink->over)
		return;
	if (sink->one_by_one) {
		vmbus_chan_each(chan, pkt, n, sink_one);
	} else {
		for (i = 0; i < n; i++)
			side_check(sink->side, pkt[i].payload);
	}
	sink->over = side_count(sink->side, n);
}

static int sink_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	((struct sink *)ctx)->open = true;
	return 0;
}

static const struct vmbus_vsp sink_vsp = {
	.struct_bytes = sizeof(sink_vsp),
	.name = "bench sink",
	.class_id = SINK_CLASS,
	.open = sink_open,
	.packets = sink_packets,
};

static int sink_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct sink *sink = ctx;

	(void)child;
	return vmbus_bus_offer(bus, &sink_vsp, sink, &opts, &sink->chan);
}

static void sink_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	struct sink *sink = ctx;

	(void)child;
	(void)why;
	sink->chan = NULL;
	sink->gone = true;
}

static const char *stream_refuses(const struct cell *cell)
{
	if (vmbus_wire_ring_bytes(0, cell->payload) > vmbus_ring_max_send(cell->ring_bytes))
		return "packet larger than the ring takes";
	if (cell->producers > 1 || cell->in_place || cell->threads)
		return "channels copy, between two processes, from one sender";
	return NULL;
}

static size_t stream_bytes(const struct chan *chan)
{
	(void)chan;
	return 0;
}

static int stream_setup(struct chan *chan)
{
	struct stream *stream = must_alloc(sizeof(*stream));

	memset(stream, 0, sizeof(*stream));
	pair_path(stream->path, sizeof(stream->path));
	chan->priv = stream;
	return 0;
}

static int each_setup(struct chan *chan)
{
	stream_setup(chan);
	((struct stream *)chan->priv)->one_by_one = true;
	return 0;
}

static void stream_teardown(struct chan *chan)
{
	free(chan->priv);
	chan->priv = NULL;
}

/* The far side: a child that sends. */
static void stream_produce(struct chan *chan, struct side *side)
{
	const struct stream *stream = chan->priv;
	const uint32_t ring = chan->cell->ring_bytes, batch = side->batch;
	struct vmbus_vsc_opts opts = { .send_bytes = ring, .recv_bytes = 4096, .poll = true };
	struct vmbus_msg *msg = side_alloc(side, batch * sizeof(*msg));
	struct pair_client pc;
	struct vmbus_vsc *vsc;
	uint32_t i, done;
	int sent;

	if (pair_attach(&pc, stream->path, ring)) {
		fprintf(stderr, "vmbus-bench: the child cannot attach: %s\n", strerror(errno));
		return;
	}
	vsc = open_class(&pc, &sink_class, 0, &opts);
	if (!vsc)
		fprintf(stderr, "vmbus-bench: the child cannot open its channel\n");
	for (i = 0; i < batch; i++)
		msg[i].type = VMBUS_PKT_INBAND;
	while (vsc && !stopped(side->ctl)) {
		side_stamp(side, batch);
		for (i = 0; i < batch; i++) {
			msg[i].id = i + 1u;
			msg[i].data = side_packet(side, i);
			msg[i].len = side->payload;
		}
		for (done = 0; done < batch && !stopped(side->ctl);) {
			sent = vmbus_vsc_send(vsc, &msg[done], batch - done);
			if (sent > 0)
				done += (uint32_t)sent;
			else
				relax();
		}
	}
	vmbus_shm_detach(pc.attach);
}

/* This side: the parent that receives. */
static void stream_consume(struct chan *chan, struct side *side)
{
	const struct stream *stream = chan->priv;
	struct sink sink = { .side = side, .one_by_one = stream->one_by_one };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = stream->path };
	struct vmbus_shm_server *server;
	uint64_t until = now_ns() + PAIR_WAIT_NS;

	opts.attached = sink_attached;
	opts.detached = sink_detached;
	opts.ctx = &sink;
	if (vmbus_shm_listen(&opts, &server)) {
		side->stalled = true;
		return;
	}
	while (!sink.open && now_ns() < until) {
		(void)vmbus_shm_server_run(server, 1000000u);
		if (sink.chan)
			(void)vmbus_chan_dispatch(sink.chan, POLL_PACKETS);
	}
	if (!sink.open)
		side->stalled = true;
	while (sink.open && !sink.over) {
		if (vmbus_chan_poll(sink.chan, POLL_PACKETS, POLL_NS) > 0)
			continue;
		/* The answer to the child's request is the bus's to send, from this thread too. */
		(void)vmbus_shm_server_dispatch(server, POLL_PACKETS);
		if (!sink.chan || side_empty(side))
			break;
	}
	store32(&side->ctl->stop, 1);
	until = now_ns() + PAIR_WAIT_NS;
	while (!sink.gone && now_ns() < until) {
		(void)vmbus_shm_server_run(server, 1000000u);
		if (sink.chan)
			(void)vmbus_chan_dispatch(sink.chan, POLL_PACKETS);
	}
	vmbus_shm_server_destroy(server);
}

const struct subject subject_channel = {
	.name = "vmbus.channel",
	.what = "a channel: packets() gets them as an array",
	.caps = CAP_VARIABLE | CAP_BATCH,
	.version = vmbus_version_string,
	.refuses = stream_refuses,
	.bytes = stream_bytes,
	.setup = stream_setup,
	.produce = stream_produce,
	.consume = stream_consume,
	.teardown = stream_teardown,
};

const struct subject subject_channel_each = {
	.name = "vmbus.channel-each",
	.what = "a channel: the helper that gives packets one by one",
	.caps = CAP_VARIABLE | CAP_BATCH,
	.version = vmbus_version_string,
	.refuses = stream_refuses,
	.bytes = stream_bytes,
	.setup = each_setup,
	.produce = stream_produce,
	.consume = stream_consume,
	.teardown = stream_teardown,
};

/* ---- one echo at a time, both sides asleep in between ---- */

struct wake {
	char path[64];
	struct run_ctl *ctl;
	struct hist hist;
	uint64_t warm_ns, measure_ns;
	double rtt[2];
	uint32_t payload;
	bool answered;
	bool failed;
};

static void wake_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct wake *wake = cookie;

	(void)vsc;
	wake->answered = true;
	wake->failed = wake->failed || !pkt;
}

static void wake_loop(struct wake *wake, struct pair_client *pc, struct vmbus_vsc *vsc)
{
	uint8_t payload[BENCH_LINE * 64] = { 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = payload, .len = wake->payload };
	const uint64_t from = now_ns();
	uint64_t now = from, then, t;

	while (now - from < wake->warm_ns + wake->measure_ns && !wake->failed) {
		wake->answered = false;
		then = ticks();
		wake->failed = vmbus_vsc_request(vsc, &msg, wake) < 0;
		while (!wake->answered && !wake->failed)
			wake->failed = vmbus_shm_attach_wait(pc->attach, PAIR_WAIT_NS) < 0;
		t = ticks();
		now = now_ns();
		if (now - from > wake->warm_ns)
			hist_add(&wake->hist, t - then);
	}
}

static void wake_here(void *arg)
{
	struct wake *wake = arg;
	struct vmbus_vsc_opts opts = { .completed = wake_completed };
	struct pair_client pc;
	struct vmbus_vsc *vsc;

	wake->rtt[0] = probe_here(wake->ctl, PROBE_BLOCKS);
	wake->failed = pair_attach(&pc, wake->path, 1u << 20) != 0;
	if (!wake->failed) {
		vsc = pair_open(&pc, 0, &opts);
		wake->failed = !vsc;
		if (vsc)
			wake_loop(wake, &pc, vsc);
		vmbus_shm_detach(pc.attach);
	}
	store32(&wake->ctl->stop, 1);
	wake->rtt[1] = probe_here(wake->ctl, PROBE_BLOCKS);
}

static void wake_there(void *arg, uint32_t index)
{
	struct wake *wake = arg;
	struct pair_server ps;

	(void)index;
	probe_there(wake->ctl, PROBE_BLOCKS);
	if (pair_listen(&ps, wake->path, 1) == 0) {
		while (!stopped(wake->ctl) && !ps.left)
			(void)vmbus_shm_server_run(ps.server, 100000000u);
		pair_unlisten(&ps);
	}
	probe_there(wake->ctl, PROBE_BLOCKS);
}

int pair_wake(const struct cell *cell, const struct place *place, uint32_t us,
	      struct rtt_result *res)
{
	struct wake *wake = must_alloc(sizeof(*wake));
	struct pair_job job = { wake_here, wake_there, wake, run_ctl_get(), place, false, 1 };
	const double rate = ticks_per_ns() * 2; /* half a round trip */
	int err = -1;

	memset(wake, 0, sizeof(*wake));
	pair_path(wake->path, sizeof(wake->path));
	wake->ctl = job.ctl;
	wake->payload = cell->payload;
	wake->warm_ns = us * 250u;
	wake->measure_ns = us * 1000u;
	if (job.ctl)
		err = run_pair(&job);
	res->p50 = hist_percentile(&wake->hist, 0.5) / rate;
	res->p99 = hist_percentile(&wake->hist, 0.99) / rate;
	res->p999 = hist_percentile(&wake->hist, 0.999) / rate;
	res->rtt_before = wake->rtt[0];
	res->rtt_after = wake->rtt[1];
	res->valid = !err && !wake->failed && wake->hist.count > 0;
	free(wake);
	return err;
}
