/* SPDX-License-Identifier: MIT */
/* Replays: a session of a fake child, captured, and fed to the same device and to changed ones. */
#include "capture/tapped.h"

#include <sys/eventfd.h>

#include <vmbus/echo.h>
#include <vmbus/replay.h>
#include <vmbus/watch.h>

#define RING 16u

/* A session with an echo device, as a file. */
struct session {
	struct file file;
	uint32_t requests;
	uint32_t opens;
	uint32_t snap;
	uint32_t bytes; /* of the tap */
	bool late;	/* the tap comes when the channel is open */
};

static void drain(struct tapped *t, struct vmbus_capture_writer *w)
{
	struct vmbus_capture_record r;

	while (vmbus_tap_reader_next(t->reader, &r) == 1)
		must_eq(vmbus_capture_writer_put(w, 0, &r), 0);
}

static void talk(struct fake *f, struct fake_chan *c, uint32_t requests)
{
	struct vmbus_packet pkt[64];
	uint8_t payload[256];
	uint32_t i;

	for (i = 1; i <= requests; i++) {
		memset(payload, (int)i, sizeof(payload));
		must_eq(fake_send(c, i, payload, i % 250), 1);
		if (i % 7 && i != requests)
			continue;
		fake_run(f);
		while (fake_receive(c, pkt, 64) > 0)
			;
	}
}

static void record(struct session *s, const struct vmbus_vsp *vsp)
{
	struct vmbus_capture_writer *w = file_writer(&s->file, NULL);
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct tapped t;
	struct fake f;
	struct vmbus_chan *chan;
	uint32_t i;

	fake_init(&f, 256);
	chan = fake_offer(&f, vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	vmbus_bus_allow_capture(f.bus, true);
	if (!s->late)
		tapped_begin(&t, chan, s->bytes ? s->bytes : 1 << 20, s->snap);
	for (i = 0; i < s->opens; i++) {
		must_eq(fake_open(&f, &c, RING, RING), 0);
		if (s->late)
			tapped_begin(&t, chan, s->bytes ? s->bytes : 1 << 20, s->snap);
		talk(&f, &c, s->requests);
		fake_close(&f, &c);
		drain(&t, w);
	}
	vmbus_capture_writer_destroy(w);
	fake_fini(&f);
	tapped_free(&t);
}

struct told {
	char text[8192];
	size_t len;
};

static void tell(void *ctx, const char *text)
{
	struct told *told = ctx;

	told->len += (size_t)snprintf(told->text + told->len, sizeof(told->text) - told->len,
				      "%s\n", text);
	must(told->len < sizeof(told->text));
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", text);
}

static int replay(struct session *s, const struct vmbus_vsp *vsp,
		  struct vmbus_replay_result *result, struct told *told)
{
	struct fake_echo echo = { 0 };
	struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts),
					  .vsp = vsp,
					  .ctx = &echo,
					  .line = tell,
					  .line_ctx = told };
	int err;

	memset(told, 0, sizeof(*told));
	opts.capture = file_reader(&s->file);
	err = vmbus_replay(&opts, result);
	vmbus_capture_reader_destroy(opts.capture);
	return err;
}

START_TEST(replay__of_the_same_device_differs_in_nothing)
{
	struct session s = { .requests = 100, .opens = 3 };
	struct vmbus_replay_result result;
	struct told told;

	record(&s, &fake_echo_vsp);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0);
	must_eq(result.opens, 3);
	must_eq(result.fed, 300);
	must_eq(result.expected, 300);
	must_eq(result.sent, 300);
	must_eq(result.batches, 3 * 15);
	must_eq(result.differences, 0);
	must(result.complete);
	must(told.text[0] == 0);
	free(s.file.bytes);
}
END_TEST

static void wrong_byte(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	uint8_t copy[256];

	memcpy(copy, pkt->payload, pkt->len);
	if (pkt->id == 42)
		copy[3] ^= 0x10;
	(void)vmbus_chan_complete(chan, pkt->id, copy, pkt->len);
}

static void wrong_length(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->id == 42 ? 8 : pkt->len);
}

static void forgets(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	if (pkt->id != 42)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void twice(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
	if (pkt->id == 42)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void fails(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	if (pkt->id == 42)
		vmbus_chan_fail(chan, "wanted");
	else
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static vmbus_chan_packet_fn *changed;

static void changed_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, changed);
}

/* Backwards: every batch from its end. */
static void backwards(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	while (n--)
		(void)vmbus_chan_complete(chan, pkt[n].id, pkt[n].payload, pkt[n].len);
}

static int refuse(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return VMBUS_E_PERM;
}

START_TEST(replay__tells_how_a_changed_device_differs)
{
	static const struct {
		vmbus_chan_packet_fn *fn;
		uint64_t differences;
		const char *text;
		bool ends;
	} changes[] = {
		{ wrong_byte, 1, "completion, id 42: byte 3 of the payload is 0x3a, captured: 0x2a",
		  false },
		{ wrong_length, 1,
		  "id 42: flags 0, header of 0, payload of 8 bytes; captured: 0, 0, 48", false },
		{ forgets, 1, "id 42, 48 bytes: was captured, is not sent", false },
		{ twice, 1, "id 42, 48 bytes: is sent, was not captured", false },
		{ fails, 8, "the channel is broken, the captured one was not", true },
	};
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct session s = { .requests = 100, .opens = 1 };
	struct vmbus_replay_result result;
	struct told told, again;
	uint32_t i;

	record(&s, &fake_echo_vsp);
	vsp.packets = changed_packets;
	for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		vmbus_test_at("change %u", i);
		changed = changes[i].fn;
		must_eq(replay(&s, &vsp, &result, &told), 0);
		must_eq(result.differences, changes[i].differences);
		must_eq(result.complete, !changes[i].ends);
		if (!strstr(told.text, changes[i].text))
			ck_abort_msg("%s", told.text);
		must_eq(replay(&s, &vsp, &result, &again), 0);
		must(strcmp(told.text, again.text) == 0);
	}
	vsp.packets = backwards;
	must_eq(replay(&s, &vsp, &result, &told), 0);
	must(result.complete);
	must(result.differences > 50);
	must(strstr(told.text, "record 11: completion, id 2: is sent before packets that were "
			       "captured before it") != NULL);
	vsp.open = refuse;
	must_eq(replay(&s, &vsp, &result, &told), 0);
	must(!result.complete);
	must(strstr(told.text, "the device refuses the opening") != NULL);
	free(s.file.bytes);
}
END_TEST

START_TEST(replay__of_a_refused_opening)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct session s = { 0 };
	struct vmbus_capture_writer *w = file_writer(&s.file, NULL);
	struct vmbus_replay_result result;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct tapped t;
	struct told told;
	struct fake f;

	vsp.open = refuse;
	fake_init(&f, 256);
	chan = fake_offer(&f, &vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	vmbus_bus_allow_capture(f.bus, true);
	tapped_begin(&t, chan, 65536, 0);
	must(fake_open(&f, &c, RING, RING) != 0);
	drain(&t, w);
	vmbus_capture_writer_destroy(w);
	fake_chan_free(&c);
	fake_fini(&f);
	tapped_free(&t);
	must_eq(replay(&s, &vsp, &result, &told), 0);
	must_eq(result.differences, 0);
	must(result.complete);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0);
	must_eq(result.differences, 1);
	must(strstr(told.text, "accepts the opening, captured: PERM") != NULL);
	free(s.file.bytes);
}
END_TEST

START_TEST(replay__tells_of_another_class)
{
	struct session s = { .requests = 10, .opens = 1 };
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct vmbus_replay_result result;
	struct told told;

	record(&s, &fake_echo_vsp);
	vsp.class_id.b[0] ^= 1;
	must_eq(replay(&s, &vsp, &result, &told), 0);
	must(strstr(told.text, "record 1: the capture is of a device ") == told.text);
	must_eq(result.differences, 0);
	must(result.complete);
	free(s.file.bytes);
}
END_TEST

START_TEST(replay__says_what_a_capture_lacks)
{
	struct session s = { .requests = 100, .opens = 1, .snap = 16 };
	struct vmbus_replay_result result;
	struct told told;

	record(&s, &fake_echo_vsp);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0);
	must(!result.complete);
	must(strstr(told.text, "was cut") != NULL);
	free(s.file.bytes);
	s = (struct session){ .requests = 100, .opens = 2, .bytes = VMBUS_TAP_BYTES_MIN };
	record(&s, &fake_echo_vsp);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0);
	must(!result.complete);
	must(strstr(told.text, "records are missing before it") != NULL);
	free(s.file.bytes);
	s = (struct session){ .requests = 100, .opens = 1, .late = true };
	record(&s, &fake_echo_vsp);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0);
	must(result.complete);
	must_eq(result.differences, 0);
	must(strstr(told.text, "was open before the capture") != NULL);
	free(s.file.bytes);
}
END_TEST

START_TEST(replay__refuses_what_cannot_be)
{
	struct session s = { .requests = 1, .opens = 1 };
	struct vmbus_replay_result result;
	struct vmbus_vsp nameless = { .struct_bytes = sizeof(nameless) };
	struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts), .vsp = &fake_echo_vsp };

	record(&s, &fake_echo_vsp);
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_INVAL);
	opts.capture = file_reader(&s.file);
	opts.vsp = NULL;
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_INVAL);
	opts.vsp = &nameless;
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_INVAL);
	opts.vsp = &fake_echo_vsp;
	opts.struct_bytes--;
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_INVAL);
	opts.struct_bytes++;
	opts.memory_bytes = 4097;
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_RANGE);
	opts.memory_bytes = ((uint64_t)1 << 40) + 4096;
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_RANGE);
	opts.memory_bytes = 0;
	opts.channel = 1; /* there is none */
	must_eq(vmbus_replay(&opts, &result), 0);
	must_eq(result.records, 0);
	vmbus_capture_reader_destroy(opts.capture);
	s.file.bytes[s.file.len - 1] ^= 1;
	opts.capture = file_reader(&s.file);
	must_eq(vmbus_replay(&opts, &result), VMBUS_E_PEER);
	vmbus_capture_reader_destroy(opts.capture);
	free(s.file.bytes);
}
END_TEST

/* A device that answers when it is settled, as one with threads of its own. */
static struct {
	struct vmbus_chan *chan;
	uint64_t id[16];
	uint32_t n;
} late;

static void late_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	late.chan = chan;
	for (i = 0; i < n; i++)
		late.id[late.n++] = pkt[i].id;
}

static void late_settle(void *ctx, struct vmbus_bus *bus)
{
	uint32_t i;

	(void)ctx;
	(void)bus;
	for (i = 0; i < late.n; i++)
		must_eq(vmbus_chan_complete(late.chan, late.id[i], "late", 4), 0);
	late.n = 0;
}

START_TEST(replay__settle_lets_a_device_finish)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct session s = { .requests = 20, .opens = 1 };
	struct vmbus_replay_result result;
	struct told told = { 0 };
	struct fake_echo echo = { 0 };
	struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts),
					  .vsp = &vsp,
					  .ctx = &echo,
					  .settle = late_settle,
					  .line = tell,
					  .line_ctx = &told,
					  .lines_max = 1 };

	record(&s, &fake_echo_vsp);
	vsp.packets = late_packets;
	opts.capture = file_reader(&s.file);
	must_eq(vmbus_replay(&opts, &result), 0);
	must(result.complete);
	must_eq(result.sent, 20);
	must(result.differences >= 12 && result.differences <= 20); /* all that were not 8 long */
	must(strchr(told.text, '\n') == told.text + told.len - 1);  /* one line */
	vmbus_capture_reader_destroy(opts.capture);
	free(s.file.bytes);
}
END_TEST

/* A device that answers when a descriptor of its own says so, captured and replayed. */
static struct {
	struct fake_echo *echo;
	uint64_t id[16];
	uint8_t data[16][256];
	uint32_t len[16], n;
	int fd;
} watched;

static int watched_open(struct vmbus_chan *chan, void *ctx)
{
	watched.n = 0;
	((struct fake_echo *)ctx)->opens++;
	return vmbus_chan_watch(chan, watched.fd);
}

static void watched_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	(void)chan;
	for (i = 0; i < n; i++, watched.n++) {
		watched.id[watched.n] = pkt[i].id;
		watched.len[watched.n] = pkt[i].len;
		memcpy(watched.data[watched.n], pkt[i].payload, pkt[i].len);
	}
	must_eq(eventfd_write(watched.fd, 1), 0);
}

static void watched_ready(struct vmbus_chan *chan)
{
	eventfd_t count;
	uint32_t i;

	(void)eventfd_read(watched.fd, &count);
	for (i = 0; i < watched.n; i++)
		must_eq(vmbus_chan_complete(chan, watched.id[i], watched.data[i], watched.len[i]),
			0);
	watched.n = 0;
}

START_TEST(replay__of_a_device_with_a_watched_descriptor)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct session s = { .requests = 100, .opens = 2 };
	struct vmbus_replay_result result;
	struct told told;

	watched.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	vsp.open = watched_open;
	vsp.packets = watched_packets;
	vsp.ready = watched_ready;
	record(&s, &vsp);
	must_eq(replay(&s, &vsp, &result, &told), 0);
	must_eq(result.fed, 200);
	must_eq(result.sent, 200);
	must_eq(result.differences, 0);
	must(result.complete);
	must_eq(replay(&s, &fake_echo_vsp, &result, &told), 0); /* the bytes are those of an echo */
	must_eq(result.differences, 0);
	close(watched.fd);
	free(s.file.bytes);
}
END_TEST

/* The library's echo device, with a ring to the child that fills: it waits for room. */
START_TEST(replay__of_the_echo_device_when_rings_are_full)
{
	struct session s = { 0 };
	struct vmbus_capture_writer *w = file_writer(&s.file, NULL);
	struct vmbus_replay_result result;
	struct vmbus_packet pkt[64];
	uint8_t payload[200] = { 1, 2, 3 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct tapped t;
	struct told told;
	uint64_t sent = 0, got = 0;
	struct fake f;
	int n;

	fake_init(&f, 256);
	chan = fake_offer(&f, vmbus_echo_vsp(), NULL, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	vmbus_bus_allow_capture(f.bus, true);
	tapped_begin(&t, chan, 4 << 20, 0);
	fake_rings(&f, &c, RING, 2);
	c.gpadl = f.next_gpadl++;
	must_eq(fake_share(&f, c.relid, c.gpadl, c.first, RING + 2), 0);
	{
		struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };

		ctl.u.open.relid = c.relid;
		ctl.u.open.gpadl = c.gpadl;
		ctl.u.open.downstream_page = RING;
		fake_post(&f, &ctl);
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.status, 0);
	}
	while (got < 1000) {
		while (sent < 1000 && fake_send(&c, sent + 1, payload, sizeof(payload)) == 1)
			sent++;
		fake_run(&f);
		while ((n = fake_receive(&c, pkt, 64)) > 0)
			got += (uint64_t)n;
		must_eq(n, 0);
	}
	fake_close(&f, &c);
	drain(&t, w);
	vmbus_capture_writer_destroy(w);
	fake_fini(&f);
	tapped_free(&t);
	must_eq(replay(&s, vmbus_echo_vsp(), &result, &told), 0);
	if (result.differences || !result.complete)
		ck_abort_msg("%s", told.text);
	must_eq(result.sent, 1000);
	free(s.file.bytes);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "replay", 30);

	tcase_add_test(tc, replay__of_the_same_device_differs_in_nothing);
	tcase_add_test(tc, replay__tells_how_a_changed_device_differs);
	tcase_add_test(tc, replay__of_a_refused_opening);
	tcase_add_test(tc, replay__tells_of_another_class);
	tcase_add_test(tc, replay__says_what_a_capture_lacks);
	tcase_add_test(tc, replay__refuses_what_cannot_be);
	tcase_add_test(tc, replay__settle_lets_a_device_finish);
	tcase_add_test(tc, replay__of_a_device_with_a_watched_descriptor);
	tcase_add_test(tc, replay__of_the_echo_device_when_rings_are_full);
}

VMBUS_TEST_MAIN("capture.replay", tests)
