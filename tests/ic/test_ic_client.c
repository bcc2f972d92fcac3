/* SPDX-License-Identifier: MIT */
/*
 * The child's end of the integration components, byte by byte, against a parent that says what it
 * likes: devices/ic/vsc.c, wire.c.
 */
#include "ic.h"

/* ---- a parent by hand ---- */

static struct {
	struct vmbus_chan *chan;
	uint32_t count;
	uint32_t len;
	uint64_t id;
	uint8_t last[4096];
} parent;

static int parent_open(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	parent.chan = chan;
	return 0;
}

static void parent_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	parent.count += n;
	parent.len = pkt[n - 1].len;
	parent.id = pkt[n - 1].id;
	must(parent.len <= sizeof(parent.last));
	memcpy(parent.last, pkt[n - 1].payload, parent.len);
	must_eq(pkt[n - 1].type, VMBUS_PKT_INBAND);
	must_eq(pkt[n - 1].flags, 0);
}

static struct vmbus_vsp vsps[3];

/* ---- what the child is told ---- */

static struct {
	uint32_t shutdowns, times, beats;
	uint32_t flags, timeout_s, status;
	uint64_t host, reference, sequence;
	bool sync;
} told;

static uint32_t on_shutdown(void *ctx, uint32_t flags, uint32_t timeout_s)
{
	must(ctx == &told);
	told.shutdowns++;
	told.flags = flags;
	told.timeout_s = timeout_s;
	return told.status;
}

static void on_time(void *ctx, uint64_t host, uint64_t reference, bool sync)
{
	must(ctx == &told);
	told.times++;
	told.host = host;
	told.reference = reference;
	told.sync = sync;
}

static void on_beat(void *ctx, uint64_t sequence)
{
	must(ctx == &told);
	told.beats++;
	told.sequence = sequence;
}

static struct vmbus_ic_client_opts client_opts(void)
{
	return (struct vmbus_ic_client_opts){
		.struct_bytes = sizeof(struct vmbus_ic_client_opts),
		.shutdown = on_shutdown,
		.time = on_time,
		.beat = on_beat,
		.ctx = &told,
	};
}

static struct loop *begin(struct vmbus_ic_client *client, uint32_t n,
			  const struct vmbus_ic_client_opts *opts)
{
	struct loop *l = loop_new(NULL, NULL);

	memset(&parent, 0, sizeof(parent));
	memset(&told, 0, sizeof(told));
	vsps[n] = (struct vmbus_vsp){ .struct_bytes = sizeof(vsps[n]),
				      .name = "by hand",
				      .class_id = ic_class[n],
				      .open = parent_open,
				      .packets = parent_packets };
	must_eq(vmbus_bus_offer(l->bus, &vsps[n], NULL, NULL, NULL), 0);
	loop_connect(l);
	must_eq(vmbus_ic_client_start(client, vmbus_vsc_find(l->guest, &ic_class[n], 0), opts), 0);
	loop_settle(l);
	must(parent.chan != NULL);
	must_eq(parent.count, 0); /* the child never begins */
	return l;
}

/* ---- messages: [IC-MESSAGE] ---- */

static uint8_t out[4096];

/* A request with a body of so many bytes, which the caller fills in. */
static uint8_t *make(uint16_t type, uint32_t body)
{
	memset(out, 0, sizeof(out));
	ic_put(out, 4, 1);
	ic_put(out + 4, 4, 20 + body);
	ic_put(out + 12, 2, type);
	ic_put(out + 18, 2, body);
	out[24] = 200;
	out[25] = 3;
	return out + 28;
}

static void give(struct loop *l, uint32_t len)
{
	const struct vmbus_msg msg = {
		.type = VMBUS_PKT_INBAND, .id = 4711, .data = out, .len = len
	};

	must_eq(vmbus_chan_send(parent.chan, &msg, 1), 1);
	loop_settle(l);
}

/* Send it, and check the answer but for what is in the body. */
static const uint8_t *ask(struct loop *l, uint32_t status)
{
	const uint32_t len = 8 + (uint32_t)ic_get(out + 4, 4), count = parent.count;
	const uint8_t *m = parent.last;

	give(l, len);
	must_eq(parent.count, count + 1);
	must_eq(parent.len, (len + 7) / 8 * 8);
	must_eq(parent.id, 4711); /* the request's */
	must_eq(memcmp(m, out, 18), 0);
	must_eq(ic_get(m + 20, 4), status);
	must_eq(m[24], 200);
	must_eq(m[25], 5); /* transaction, response */
	return m + 28;
}

static uint32_t put_versions(uint8_t *to, const uint32_t *list, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		ic_put(to + 4 * i, 2, list[i] >> 16);
		ic_put(to + 4 * i + 2, 2, list[i] & 0xFFFF);
	}
	return 4 * n;
}

static const uint8_t *negotiate(struct loop *l, const uint32_t *f, uint32_t fs, const uint32_t *m,
				uint32_t ms)
{
	uint8_t *body = make(0, 8 + 4 * (fs + ms));
	const uint8_t *b;

	ic_put(body, 2, fs);
	ic_put(body + 2, 2, ms);
	put_versions(body + 8 + put_versions(body + 8, f, fs), m, ms);
	b = ask(l, 0);
	must_eq(ic_get(parent.last + 18, 2), 16);		    /* [IC-NEGOTIATE] */
	must_eq(memcmp(b + 16, out + 28 + 16, parent.len - 44), 0); /* what was behind it stays */
	return b;
}

static void agree(struct loop *l, uint32_t message)
{
	static const uint32_t framework = 0x30000;
	const uint8_t *b = negotiate(l, &framework, 1, &message, 1);

	must_eq(ic_get(b, 4), 0x10001);
}

START_TEST(ic_client_start__negotiates)
{
	static const struct {
		uint32_t n, fs, f[4], ms, m[4], framework, message; /* 0: no match */
	} t[] = {
		{ 0,
		  2,
		  { 0x10000, 0x30000 },
		  4,
		  { 0x10000, 0x30000, 0x30001, 0x30002 },
		  0x30000,
		  0x30002 },
		{ 0, 2, { 0x30000, 0x10000 }, 3, { 0x30001, 0x30000, 0x10000 }, 0x30000, 0x30001 },
		{ 1, 1, { 0x10000 }, 3, { 0x40000, 0x30000, 0x50000 }, 0x10000, 0x40000 },
		{ 1, 1, { 0x10000 }, 1, { 0x30000 }, 0x10000, 0x30000 },
		{ 2, 1, { 0x30000 }, 2, { 0x10000, 0x30000 }, 0x30000, 0x30000 },
		{ 2, 1, { 0x20000 }, 1, { 0x30000 }, 0, 0 },
		{ 2, 1, { 0x30000 }, 1, { 0x40000 }, 0, 0 },
		{ 2, 2, { 0x30000, 0x10000 }, 0, { 0 }, 0, 0 },
		{ 2, 0, { 0 }, 2, { 0x30000, 0x10000 }, 0, 0 },
	};
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, t[_i].n, &opts);
	const uint8_t *b = negotiate(l, t[_i].f, t[_i].fs, t[_i].m, t[_i].ms);

	must_eq(ic_get(b, 2), t[_i].message != 0);
	must_eq(ic_get(b + 2, 2), t[_i].message != 0);
	if (t[_i].message) {
		must_eq(ic_get(b + 8, 2) << 16 | ic_get(b + 10, 2), t[_i].framework);
		must_eq(ic_get(b + 12, 2) << 16 | ic_get(b + 14, 2), t[_i].message);
	}
	loop_free(l);
}
END_TEST

START_TEST(ic_client_start__shuts_down)
{
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, 0, &opts);
	uint8_t *body;

	make(3, 2060);
	ask(l, VMBUS_IC_FAILED); /* before the negotiation */
	agree(l, 0x30000);
	body = make(3, 2060);
	ic_put(body + 4, 4, 60);
	ic_put(body + 8, 4, 5);
	ask(l, 0);
	must_eq(parent.len, IC_SHUTDOWN_WHOLE);
	must_eq(told.shutdowns, 1);
	must_eq(told.flags, 5);
	must_eq(told.timeout_s, 60);
	told.status = VMBUS_IC_LOCKED;
	ask(l, VMBUS_IC_LOCKED);
	make(3, 2059);
	ask(l, VMBUS_IC_INVALID);
	make(1, 40);
	ask(l, VMBUS_IC_FAILED); /* another component's message */
	must_eq(told.shutdowns, 2);
	loop_free(l);
}
END_TEST

START_TEST(ic_client_start__gives_the_time)
{
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, 1, &opts);
	uint8_t *body;

	agree(l, 0x40000); /* [IC-TIME] */
	body = make(4, 24);
	ic_put(body, 8, IC_WALL);
	ic_put(body + 8, 8, 99);
	body[16] = 1;
	ask(l, 0);
	must_eq(told.times, 1);
	must_eq(told.host, IC_WALL);
	must_eq(told.reference, 99);
	must(told.sync);
	out[28 + 16] = 2;
	ask(l, 0);
	must_eq(told.times, 2);
	must(!told.sync);
	out[28 + 16] = 0; /* a probe */
	ask(l, 0);
	must_eq(told.times, 2);
	body = make(4, 17); /* as short as can be */
	body[16] = 1;
	ask(l, 0);
	must_eq(told.times, 3);
	make(4, 16);
	ask(l, VMBUS_IC_INVALID);
	agree(l, 0x30000);
	body = make(4, 25);
	ic_put(body, 8, IC_WALL + 1);
	ic_put(body + 8, 8, 99); /* the child's time, which a parent leaves 0 */
	body[24] = 1;
	ask(l, 0);
	must_eq(told.times, 4);
	must_eq(told.host, IC_WALL + 1);
	must_eq(told.reference, 0);
	make(4, 24);
	ask(l, VMBUS_IC_INVALID);
	must_eq(told.times, 4);
	loop_free(l);
}
END_TEST

START_TEST(ic_client_start__beats)
{
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, 2, &opts);
	static const uint32_t unknown = 0x70000;
	const uint8_t *b;
	uint8_t *body;

	agree(l, 0x30000); /* [IC-HEARTBEAT] */
	body = make(1, 40);
	ic_put(body, 8, 0xFFFFFFFF);
	body[8] = 1;
	b = ask(l, 0);
	must_eq(ic_get(b, 8), 0x100000000);
	must_eq(b[8], 1);
	must_eq(told.beats, 1);
	must_eq(told.sequence, 0xFFFFFFFF);
	body = make(1, 8);
	b = ask(l, 0);
	must_eq(ic_get(b, 8), 1);
	ic_put(body, 8, UINT64_MAX);
	b = ask(l, 0);
	must_eq(ic_get(b, 8), 0);
	make(1, 7);
	ask(l, VMBUS_IC_INVALID);
	must_eq(ic_get(negotiate(l, &unknown, 1, &unknown, 1), 4), 0);
	make(1, 40);
	ask(l, VMBUS_IC_FAILED); /* what was agreed on before holds no more */
	must_eq(told.beats, 3);
	loop_free(l);
}
END_TEST

START_TEST(ic_client_start__needs_no_callback)
{
	struct vmbus_ic_client_opts opts = { .struct_bytes = sizeof(opts) };
	static const uint16_t type[] = { 3, 4, 1 };
	static const uint32_t bytes[] = { 2060, 28, 40 };
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, (uint32_t)_i, &opts);
	uint8_t *body;

	agree(l, 0x30000);
	body = make(type[_i], bytes[_i]);
	body[_i == 1 ? 24 : 39] = 1;
	ask(l, _i == 0 ? VMBUS_IC_NOT_SUPPORTED : 0);
	loop_free(l);
}
END_TEST

/* What is no message gets no answer, and harms nothing. */
START_TEST(ic_client_start__passes_over)
{
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, 2, &opts);
	const struct vmbus_msg completion = { .type = VMBUS_PKT_COMPLETION, .id = 5 };
	uint32_t len, count;

	agree(l, 0x30000);
	count = parent.count;
	for (len = 0; len < 28; len++) {
		make(1, 40);
		give(l, len);
	}
	make(1, 40);
	out[0] = 2; /* pipe type */
	give(l, 68);
	make(1, 40);
	ic_put(out + 4, 4, 65); /* longer than the packet, which is 72 with its padding */
	give(l, 68);
	make(1, 40);
	ic_put(out + 4, 4, UINT32_MAX);
	give(l, 68);
	make(1, 40);
	ic_put(out + 4, 4, 19);
	give(l, 68);
	make(1, 40);
	ic_put(out + 18, 2, 41); /* longer than the pipe's message */
	give(l, 68);
	make(0, 15); /* a negotiation without versions */
	give(l, 44);
	make(0, 16); /* more versions than there are */
	ic_put(out + 28, 2, 1);
	ic_put(out + 30, 2, 2);
	give(l, 44);
	make(0, 16);
	ic_put(out + 28, 4, 0xFFFFFFFF);
	give(l, 44);
	make(0, 2000); /* more than anybody has */
	ic_put(out + 28, 2, 101);
	give(l, 2028);
	must_eq(vmbus_chan_send(parent.chan, &completion, 1), 1);
	loop_settle(l);
	must_eq(parent.count, count);
	make(1, 40);
	ask(l, 0);
	must_eq(told.beats, 1);
	loop_free(l);
}
END_TEST

/* Every length and every size: never an answer longer than the request. */
START_TEST(ic_client_start__every_length)
{
	const struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_ic_client client;
	struct loop *l = begin(&client, (uint32_t)_i, &opts);
	uint32_t len, type, pipe;

	agree(l, 0x30000);
	for (type = 0; type < 6; type++)
		for (len = 0; len <= 96; len++)
			for (pipe = 0; pipe <= 96; pipe += 3) {
				const uint32_t count = parent.count;

				make((uint16_t)type, 0);
				memset(out + 28, 1, 100);
				ic_put(out + 28, 4, len % 2 ? 0x10001 : 0);
				ic_put(out + 4, 4, pipe);
				ic_put(out + 18, 2, pipe < 20 ? len : pipe - 20);
				give(l, len);
				must(parent.count <= count + 1);
				must(parent.count == count || parent.len <= (len + 7) / 8 * 8);
			}
	loop_free(l);
}
END_TEST

/* More requests than the ring has room for answers: no harm, and the channel goes on. */
START_TEST(ic_client_start__is_flooded)
{
	struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_vsc_opts open = { .struct_bytes = sizeof(open) };
	struct vmbus_ic_client client;
	struct loop *l;
	uint32_t i, sent = 0;

	open.send_bytes = 4096;
	open.recv_bytes = 65536;
	opts.open = &open;
	l = begin(&client, 2, &opts);
	agree(l, 0x30000);
	make(1, 40);
	for (i = 0; i < 1000; i++) {
		const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = out, .len = 68 };

		if (vmbus_chan_send(parent.chan, &msg, 1) == 1)
			sent++;
	}
	loop_settle(l);
	must(sent > 500);
	must_eq(told.beats, sent);
	ask(l, 0);
	loop_free(l);
}
END_TEST

START_TEST(ic_client_start__refuses)
{
	static const struct vmbus_guid other = VMBUS_GUID(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
	struct vmbus_ic_client_opts opts = client_opts();
	struct vmbus_vsc_opts open = { .struct_bytes = sizeof(open) };
	struct vmbus_ic_client client, second;
	struct loop *l = begin(&client, 2, &opts);
	struct vmbus_vsc *vsc = vmbus_vsc_find(l->guest, &ic_class[2], 0);

	must_eq(vmbus_ic_client_start(&second, vsc, &opts), VMBUS_E_STATE); /* open already */
	opts.struct_bytes--;
	must_eq(vmbus_ic_client_start(&second, vsc, &opts), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_close(vsc), 0);
	loop_settle(l);
	opts = client_opts();
	opts.open = &open;
	open.send_bytes = 4095;
	must_eq(vmbus_ic_client_start(&second, vsc, &opts), VMBUS_E_RANGE);
	open.struct_bytes = 1;
	must_eq(vmbus_ic_client_start(&second, vsc, &opts), VMBUS_E_INVAL);
	vsps[0] = vsps[2];
	vsps[0].class_id = other;
	must_eq(vmbus_bus_offer(l->bus, &vsps[0], NULL, NULL, NULL), 0);
	loop_settle(l);
	opts = client_opts();
	vsc = vmbus_vsc_find(l->guest, &other, 0);
	must(vsc != NULL);
	must_eq(vmbus_ic_client_start(&second, vsc, &opts), VMBUS_E_INVAL);
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "client", 20);

	tcase_add_loop_test(tc, ic_client_start__negotiates, 0, 9);
	tcase_add_test(tc, ic_client_start__shuts_down);
	tcase_add_test(tc, ic_client_start__gives_the_time);
	tcase_add_test(tc, ic_client_start__beats);
	tcase_add_loop_test(tc, ic_client_start__needs_no_callback, 0, 3);
	tcase_add_test(tc, ic_client_start__passes_over);
	tcase_add_loop_test(tc, ic_client_start__every_length, 0, 3);
	tcase_add_test(tc, ic_client_start__is_flooded);
	tcase_add_test(tc, ic_client_start__refuses);
}
VMBUS_TEST_MAIN("ic.ic_client", tests)
