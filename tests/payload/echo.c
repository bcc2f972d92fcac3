/* SPDX-License-Identifier: MIT */
/*
 * Packets through echo channels: opens so many, then runs a series for each window and payload, each
 * between two marks.  A series is over when every byte has come back and was compared.
 */
#include "payload.h"

#define SECOND_NS 1000000000ull
#define STUCK_100NS (600ull * 10000000u) /* of reference time without an end: a wake-up was lost */
#define TURN 65536u /* a turn that ends in between would split what is sent together */
#define POLL_TURN 64u
#define HEADER_BYTES 24u   /* of a packet in the ring: descriptor and trailer */
#define SPARE_CHANNELS 64u /* of other devices */
#define RING_MIN_KIB 8u
#define RING_MAX_KIB 4096u

static const struct vmbus_guid echo_class = VMBUS_ECHO_CLASS;

struct run {
	const struct options *opts;
	struct vmbus_bare *bare;
	const struct vmbus_guest_backend *be;
	struct vmbus_guest *guest;
	struct vmbus_echo *echos;
	struct vmbus_vsc **vscs;
	uint32_t offered; /* echo channels among the offers */
	uint32_t left;	  /* clients that are not done */
	uint32_t series;
};

static void on_log(void *ctx, const char *line)
{
	(void)ctx;
	say_text("log", line);
}

static void on_offered(void *ctx, struct vmbus_vsc *vsc)
{
	struct run *const run = ctx;
	struct vmbus_vsc_info info;

	vmbus_vsc_info(vsc, &info);
	if (vmbus_guid_equal(&info.offer.class_id, &echo_class) && info.offer.sub_index == 0 &&
	    run->offered < CHANNELS_MAX)
		run->vscs[run->offered++] = vsc;
}

static void on_done(void *ctx, int err)
{
	struct run *const run = ctx;

	if (err)
		fail("a channel ended", vmbus_err_name(err));
	run->left--;
}

static uint64_t now(struct run *run)
{
	return run->be->time(run->bare);
}

/* One look at everything.  Returns how much was done. */
static uint32_t look(struct run *run)
{
	const int done = vmbus_guest_dispatch(run->guest, TURN);
	uint32_t sum = done > 0 ? (uint32_t)done : 0, i;

	for (i = 0; run->opts->poll && i < run->opts->active; i++) {
		const int got = vmbus_vsc_dispatch(run->vscs[i], POLL_TURN);

		sum += got > 0 ? (uint32_t)got : 0;
	}
	return sum;
}

/* Look on for a while before sleeping; whoever asked for no spin sleeps at once. */
static bool spin(struct run *run)
{
	const uint64_t end = now(run) + run->opts->spin_us * 10u;

	while (run->opts->spin_us && now(run) < end)
		if (look(run))
			return true;
	return false;
}

static void wait_all(struct run *run)
{
	const uint64_t begin = now(run);
	uint64_t due;

	while (run->left) {
		if (look(run))
			continue;
		if (now(run) - begin > STUCK_100NS)
			fail_number("stuck: channels that did not end", run->left);
		if (run->opts->poll) {
			__asm__ volatile("pause");
			continue;
		}
		if (spin(run))
			continue;
		due = vmbus_guest_timeout(run->guest);
		if (due) /* without end costs no timer: vmbus-vmm --timeout ends a sleep too long */
			(void)run->be->idle(run->bare, due);
	}
}

/*
 * KiB of a ring that holds the largest window twice: the parent gives room back in parts, and a ring
 * that is full costs a signal more.
 */
static uint32_t ring_kib(const struct options *opts)
{
	uint64_t most = 0, bytes;
	uint32_t w, p, kib;

	if (opts->ring_kib)
		return opts->ring_kib;
	for (w = 0; w < opts->windows_n; w++)
		for (p = 0; p < opts->payloads_n; p++) {
			bytes = 2u * (uint64_t)opts->windows[w] *
				(opts->payloads[p] + HEADER_BYTES);
			most = bytes > most ? bytes : most;
		}
	kib = most / 1024u < RING_MAX_KIB ? (uint32_t)(most / 1024u + 1) : RING_MAX_KIB;
	kib = (kib + 3u) / 4u * 4u;
	return kib < RING_MIN_KIB ? RING_MIN_KIB : kib;
}

static void take_series(const struct run *run, struct vmbus_echo_opts *echo, uint64_t packets)
{
	echo->struct_bytes = sizeof(*echo);
	echo->packets = packets;
	echo->completions = run->opts->completions;
	echo->done = on_done;
	echo->ctx = (void *)(uintptr_t)run;
}

/* Open every channel, with one packet each to see that it works. */
static void open_all(struct run *run)
{
	const uint64_t begin = now(run);
	struct vmbus_echo_opts opts = { 0 };
	uint32_t i, most = 1;
	int err;

	for (i = 0; i < run->opts->windows_n; i++)
		most = run->opts->windows[i] > most ? run->opts->windows[i] : most;
	take_series(run, &opts, 1);
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = ring_kib(run->opts) * 1024u;
	opts.open.recv_bytes = opts.open.send_bytes;
	opts.open.requests_max = run->opts->completions ? most : 1;
	opts.open.target_vp = vmbus_bare_vp(run->bare);
	opts.open.poll = run->opts->poll;
	run->left = run->opts->channels;
	for (i = 0; i < run->opts->channels; i++) {
		err = vmbus_echo_start(&run->echos[i], run->vscs[i], &opts);
		if (err)
			fail("cannot open a channel", vmbus_err_name(err));
	}
	if (run->opts->poll) { /* all are open now, so all are looked at */
		struct options every = *run->opts;
		const struct options *const opts_now = run->opts;

		every.active = every.channels;
		run->opts = &every;
		wait_all(run);
		run->opts = opts_now;
	} else {
		wait_all(run);
	}
	say("open_ns", (now(run) - begin) * 100u);
}

static void word(const char *key, uint64_t value)
{
	print_text(" ");
	print_text(key);
	print_text(" ");
	print_number(value);
}

static void tell_series(const struct run *run, const struct vmbus_echo_opts *opts,
			const struct vmbus_bare_stats *before, uint64_t ns)
{
	struct vmbus_bare_stats after;

	vmbus_bare_stats(run->bare, &after);
	print_text("payload: series ");
	print_number(run->series);
	word("channels", run->opts->channels);
	word("active", run->opts->active);
	word("window", opts->window);
	word("payload", opts->payload);
	word("packets", opts->packets * run->opts->active);
	word("ns", ns);
	word("interrupts", after.interrupts - before->interrupts);
	word("signals", after.signals - before->signals);
	word("halts", after.halts - before->halts);
	print_text("\n");
}

static void one_series(struct run *run, uint32_t window, uint32_t payload)
{
	const uint32_t active = run->opts->active;
	struct vmbus_echo_opts opts = { 0 };
	struct vmbus_bare_stats before;
	uint64_t begin, ns;
	uint32_t i;
	int err;

	take_series(run, &opts, (run->opts->packets + active - 1) / active);
	opts.window = window;
	opts.payload = payload;
	run->left = active;
	vmbus_bare_stats(run->bare, &before);
	out32(PORT_MARK, run->series * 2 + 1);
	begin = now(run);
	for (i = 0; i < active; i++) {
		err = vmbus_echo_again(&run->echos[i], &opts);
		if (err)
			fail("cannot send", vmbus_err_name(err));
	}
	wait_all(run);
	ns = (now(run) - begin) * 100u;
	out32(PORT_MARK, run->series * 2 + 2);
	for (i = 0; i < active; i++)
		if (run->echos[i].received != opts.packets || run->echos[i].wrong)
			fail_number("packets that came back wrong", run->echos[i].wrong);
	tell_series(run, &opts, &before, ns);
	run->series++;
}

/* Channels of a provider are offered when it is there. */
static void wait_for_offers(struct run *run)
{
	const uint64_t begin = now(run);

	while (run->opts->wait && run->offered < run->opts->channels) {
		if (look(run))
			continue;
		if (now(run) - begin > STUCK_100NS)
			return;
		(void)run->be->idle(run->bare, SECOND_NS);
	}
}

static void connect(struct run *run)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };
	uint64_t begin;
	int err;

	opts.backend = run->be;
	opts.backend_ctx = run->bare;
	opts.offered = on_offered;
	opts.log = on_log;
	opts.ctx = run;
	/* Each offer is compared with all channels that there can be. */
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.chans_max = run->opts->channels + SPARE_CHANNELS;
	if (opts.limits.chans_max > CHANNELS_MAX)
		opts.limits.chans_max = CHANNELS_MAX;
	run->offered = 0;
	err = vmbus_guest_create(&opts, &run->guest);
	if (err)
		fail("cannot make a guest", vmbus_err_name(err));
	begin = now(run);
	err = vmbus_guest_connect(run->guest);
	if (!err)
		err = vmbus_guest_wait(run->guest, VMBUS_GUEST_CONNECTED, 600u * SECOND_NS);
	if (err)
		fail("cannot connect", vmbus_err_name(err));
	say("connect_ns", (now(run) - begin) * 100u);
	print_text("payload: version ");
	print_number(vmbus_guest_version(run->guest) >> 16);
	print_text(".");
	print_number(vmbus_guest_version(run->guest) & 0xFFFFu);
	print_text("\n");
	wait_for_offers(run);
	say("echo_channels", run->offered);
	if (run->offered < run->opts->channels)
		fail("not so many echo channels are offered", NULL);
}

static void disconnect(struct run *run)
{
	struct vmbus_bare_stats stats;
	int err;

	if (run->opts->keep)
		return;
	err = vmbus_guest_disconnect(run->guest);
	if (!err)
		err = vmbus_guest_wait(run->guest, VMBUS_GUEST_IDLE, 600u * SECOND_NS);
	if (err)
		fail("cannot disconnect", vmbus_err_name(err));
	vmbus_guest_destroy(run->guest);
	vmbus_bare_stats(run->bare, &stats);
	if (stats.pages || stats.bad_releases)
		fail_number("pages that were not given back", stats.pages);
}

void run_echo(const struct options *opts, struct vmbus_bare *bare, uint8_t *heap, size_t bytes)
{
	struct run run = { .opts = opts, .bare = bare, .be = vmbus_bare_backend() };
	const size_t need = CHANNELS_MAX * sizeof(*run.vscs) + opts->channels * sizeof(*run.echos);
	uint32_t w, p;

	if (need > bytes)
		fail_number("too little memory for so many clients, bytes needed", need);
	run.vscs = (struct vmbus_vsc **)(void *)heap;
	run.echos = (struct vmbus_echo *)(void *)(heap + CHANNELS_MAX * sizeof(*run.vscs));
	connect(&run);
	open_all(&run);
	for (w = 0; w < opts->windows_n; w++)
		for (p = 0; p < opts->payloads_n; p++)
			one_series(&run, opts->windows[w], opts->payloads[p]);
	disconnect(&run);
}
