/* SPDX-License-Identifier: MIT */
/* A bus that another process goes on with: its end leaves the child's memory alone. */
#include "bus/fake.h"

static int sent_in_close;

static int send_at_close(struct vmbus_chan *chan)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "x", .len = 1 };

	sent_in_close = vmbus_chan_send(chan, &msg, 1);
	return 0;
}

/* Leaves a send waiting for room: the ring to the child says so in its control page. */
static void fill(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint8_t payload[2048] = { 0 };

	(void)pkt;
	(void)n;
	while (vmbus_chan_complete(chan, 1, payload, sizeof(payload)) == 0)
		;
}

START_TEST(bus_let_go__nothing_is_written_any_more)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct fake f;
	uint8_t *before;
	bool let_go;

	vsp.packets = fill;
	vsp.close = send_at_close;
	for (let_go = true;; let_go = false) {
		fake_init(&f, 64);
		(void)fake_offer(&f, &vsp, &echo, 0);
		fake_contact(&f, VMBUS_PROTO_5_3);
		must_eq(fake_offers(&f, &c, 1), 1);
		must_eq(fake_open(&f, &c, 4, 4), 0);
		must_eq(fake_send(&c, 1, "go", 2), 1);
		fake_run(&f);
		before = malloc(f.pages * FAKE_PAGE);
		must(before != NULL);
		memcpy(before, f.mem, f.pages * FAKE_PAGE);
		if (let_go)
			vmbus_bus_let_go(f.bus);
		vmbus_bus_destroy(f.bus);
		f.bus = NULL;
		must_eq(sent_in_close, VMBUS_E_STATE);
		/* Without it the wish for room is taken back: that is what the other would lose. */
		must((memcmp(before, f.mem, f.pages * FAKE_PAGE) == 0) == let_go);
		free(before);
		fake_chan_free(&c);
		fake_fini(&f);
		if (!let_go)
			break;
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "let_go", 20);

	tcase_add_test(tc, bus_let_go__nothing_is_written_any_more);
}

VMBUS_TEST_MAIN("bus.let_go", tests)
