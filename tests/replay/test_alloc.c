/* SPDX-License-Identifier: MIT */
/* Every allocation of captures, taps and replays fails once: each call says so, and nothing is lost. */
#include "crafted.h"

#include "scarce.h"

#define RING 65536u

static void craft(struct crafted *c)
{
	uint32_t i;

	crafted_begin(c, &fake_echo_vsp);
	crafted_open(c, RING, RING);
	for (i = 1; i <= 3; i++) {
		crafted_packet(c, VMBUS_CAPTURE_FROM_CHILD, i, i, 8);
		crafted_packet(c, VMBUS_CAPTURE_TO_CHILD, i, i, 8);
	}
	crafted_close(c, 0);
	vmbus_capture_writer_destroy(c->writer);
	c->writer = NULL;
}

START_TEST(replay__every_allocation_fails_once)
{
	struct vmbus_replay_opts opts = { .struct_bytes = sizeof(opts), .vsp = &fake_echo_vsp };
	struct vmbus_replay_result result;
	struct fake_echo echo;
	struct crafted c;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	craft(&c);
	opts.ctx = &echo;
	EACH(n)
	{
		end_of_step(); /* the reader's own are not meant */
		opts.capture = file_reader(&c.file);
		memset(&echo, 0, sizeof(echo));
		fail_in = n;
		failures = 0;
		err = vmbus_replay(&opts, &result);
		end_of_step();
		vmbus_test_at("allocation %u", n);
		/* The bus tells the child of what it has no memory for, and the replay that it was told. */
		if (failures)
			must(err == VMBUS_E_NOMEM || err == VMBUS_E_RANGE || !result.complete ||
			     result.differences);
		else
			must_eq(err, 0);
		vmbus_capture_reader_destroy(opts.capture);
	}
	must(n > 10);
	must(result.complete);
	must_eq(result.differences, 0);
	must_eq(result.sent, 3);
	free(c.file.bytes);
}
END_TEST

START_TEST(capture__every_allocation_fails_once)
{
	struct crafted c;
	struct vmbus_capture_reader *reader = NULL;
	struct vmbus_capture_writer *writer = NULL;
	struct file other = { .room = 0 };
	const struct vmbus_capture_writer_opts wopts = { .struct_bytes = sizeof(wopts),
							 .write = file_write,
							 .ctx = &other };
	struct vmbus_capture_reader_opts ropts = { .struct_bytes = sizeof(ropts),
						   .read = file_read };
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	craft(&c);
	other.bytes = malloc(65536);
	other.room = 65536;
	ropts.ctx = &c.file;
	EACH(n)
	{
		err = vmbus_capture_writer_create(&wopts, &writer);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	vmbus_capture_writer_destroy(writer);
	c.file.at = 0;
	EACH(n)
	{
		err = vmbus_capture_reader_create(&ropts, &reader);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
		must(!failures || c.file.at == 0);
	}
	must(n > 1);
	vmbus_capture_reader_destroy(reader);
	free(other.bytes);
	free(c.file.bytes);
}
END_TEST

START_TEST(tap__every_allocation_fails_once)
{
	struct vmbus_tap_opts opts;
	struct vmbus_chan *chan;
	struct tapped t = { 0 };
	struct fake f;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	fake_init(&f, 16);
	chan = fake_offer(&f, &fake_echo_vsp, NULL, 0);
	vmbus_bus_allow_capture(f.bus, true);
	opts = tapped_opts(&t, VMBUS_TAP_BYTES_MIN);
	EACH(n)
	{
		err = vmbus_chan_tap(chan, &opts);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	EACH(n)
	{
		err = vmbus_tap_reader_create(t.mem, t.bytes, &t.reader);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	fake_fini(&f);
	tapped_free(&t);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "alloc", 30);

	tcase_add_test(tc, replay__every_allocation_fails_once);
	tcase_add_test(tc, capture__every_allocation_fails_once);
	tcase_add_test(tc, tap__every_allocation_fails_once);
}

VMBUS_TEST_MAIN("replay.alloc", tests)
