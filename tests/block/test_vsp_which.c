/* SPDX-License-Identifier: MIT */
/* Which disk it is: another one at the same address, and the ids that guests know disks by. */
#include "vspbox.h"

#define ENUMERATE_BUS 11u

static void told(struct box *b)
{
	struct box_reply r;

	must_eq(box_any(b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
}

/* Another disk at the same address, before the guest knew that the first one was gone: what it sends
   is not for the new one until it was told and has asked. */
START_TEST(block_add__at_an_address_that_a_guest_still_uses)
{
	struct box_srb write = box_rw(1, true, 0, 8), read = box_rw(1, false, 0, 8);
	struct box_srb luns = { .lun = 1, .data_in = 1, .bytes = 16, .cdb = { 0xA0, [9] = 16 } };
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2);
	box_subs(&b, 1);
	memset(box_page(&b, 0), 0x55, 4096);
	box_good(&b, 0, &write, 0);
	box_good(&b, 1, &read, 0);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	told(&b); /* that something has changed, and it looks later */
	must_eq(b.removed, 1);
	vmbus_store_destroy(&b.store[1]);
	b.store[1] = box_store(BOX_DISK_BYTES);
	must_eq(box_add(&b, 1), 0);
	told(&b);
	box_inquiry(&b, 0, 1); /* the guest did not know yet why it asks */
	box_good(&b, 0, &luns, 1);
	box_do(&b, (uint32_t)_i, &read, 1, &r);
	must_eq(r.srb_status, 0x20);
	must_eq(r.scsi_status, 2);
	told(&b); /* once it has that answer */
	for (i = 0; i < 2; i++) {
		box_do(&b, i, &write, 0, &r);
		must_eq(r.srb_status, 0x20);
	}
	box_none(&b, 0); /* told once */
	box_inquiry(&b, 1 - (uint32_t)_i, 1);
	for (i = 0; i < 2; i++) {
		memset(box_page(&b, 1), 0xAA, 4096);
		box_good(&b, i, &read, 1);
		must_eq(box_page(&b, 1)[0], 0); /* the first write is not in the new disk */
	}
	box_good(&b, 0, &(struct box_srb){ .lun = 0, .data_in = 2 }, 0);
	box_end(&b);
}
END_TEST

/* What the guest has sent in one go, an INQUIRY in the midst, it has sent before it had any answer.  1: on
   a sub-channel; 2: and the other disk comes later. */
START_TEST(block_add__is_not_asked_by_what_was_sent_before_an_answer)
{
	struct box_srb write = box_rw(1, true, 0, 8), read = box_rw(1, false, 0, 8);
	const uint32_t chan = _i > 0;
	uint64_t first, ids[3];
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2);
	box_subs(&b, 1);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	told(&b);
	if (_i < 2) {
		must_eq(box_add(&b, 1), 0);
		told(&b);
	}
	memset(box_page(&b, 0), 0x55, 4096);
	first = box_command(&b, chan, &write, 0);
	ids[0] = box_command(
		&b, chan,
		&(struct box_srb){ .lun = 1, .data_in = 1, .bytes = 36, .cdb = { 0x12, [4] = 36 } },
		2);
	ids[1] = box_command(&b, chan, &write, 0);
	ids[2] = box_command(&b, chan, &read, 1);
	box_reply(&b, chan, first, &r);
	must_eq(r.srb_status, 0x20);
	box_reply(&b, chan, ids[0], &r);
	must_eq(r.srb_status, 1);
	if (_i == 2) {
		must_eq(box_add(&b, 1), 0);
		fake_run(&b.f);
	}
	for (i = 1; i < 3; i++) {
		box_reply(&b, chan, ids[i], &r);
		must_eq(r.srb_status, 0x20);
	}
	told(&b);
	box_none(&b, 0);
	box_inquiry(&b, 0, 1);
	box_good(&b, chan, &read, 1);
	must_eq(box_page(&b, 1)[0], 0);
	box_end(&b);
}
END_TEST

/* The bus cannot be saved while a store has a request, and is not saved when it has ended. */
static void ask_to_save(struct box *b)
{
	size_t bytes;

	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &bytes), VMBUS_E_AGAIN);
	box_stall(b, 2, false);
	fake_run(&b->f);
	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &bytes), VMBUS_E_RANGE);
}

/* The guest takes no answers, and that its disk is gone waits among them; 1: the bus is saved then, and
   goes on elsewhere; 2: it is to be saved, and a request of the same channel is waited for. */
START_TEST(block_add__is_asked_once_the_answer_has_left)
{
	struct box_srb write = box_rw(1, true, 0, 1), read = box_rw(0, false, 0, 1);
	const struct box_srb slow = box_rw(2, false, 0, 1);
	const uint32_t more = _i == 2;
	struct vmbus_packet pkt;
	struct vmbus_ctl ctl;
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2 + more);
	must_eq(box_step(&b, 0, 13, 1, &r), 0);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	b.c[1] = (struct fake_chan){ .fake = &b.f,
				     .relid = ctl.u.offer.relid,
				     .conn = ctl.u.offer.conn_id };
	must_eq(fake_open(&b.f, &b.c[1], 33, 2), 0);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	told(&b);
	must_eq(box_add(&b, 1), 0);
	told(&b);
	if (more) {
		box_stall(&b, 2, true);
		(void)box_command(&b, 1, &slow, 1);
	}
	for (i = 0; i < 60; i++)
		(void)box_command(&b, 1, &read, 0);
	(void)box_command(&b, 1, &write, 0);
	fake_run(&b.f);
	if (more)
		ask_to_save(&b);
	box_inquiry(&b, 0, 1);
	box_do(&b, 0, &write, 0, &r);
	must_eq(r.srb_status, 0x20);
	if (_i == 1) {
		box_move(&b, 2);
		box_inquiry(&b, 0, 1);
		box_do(&b, 0, &write, 0, &r);
		must_eq(r.srb_status, 0x20);
	}
	for (i = 0; i < 61 + more; i++) {
		fake_run(&b.f);
		must_eq(fake_receive(&b.c[1], &pkt, 1), 1);
		box_decode(&r, &pkt);
		must_eq(r.srb_status, i == 60 ? 0x20 : 1);
	}
	told(&b);
	box_inquiry(&b, 0, 1);
	box_good(&b, 0, &write, 0);
	box_end(&b);
}
END_TEST

/* The channel on which the guest was told is closed after so many steps; returns whether nothing was left
   to do then. */
static bool closed_after(uint32_t steps)
{
	struct box_srb write = box_rw(1, true, 0, 8);
	struct box_reply r;
	bool through;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2);
	box_subs(&b, 1);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	told(&b);
	must_eq(box_add(&b, 1), 0);
	told(&b);
	(void)box_command(&b, 1, &write, 0);
	for (; steps; steps--)
		(void)vmbus_bus_dispatch(b.f.bus, 1);
	through = !fake_readable(vmbus_bus_fd(b.f.bus));
	fake_post_close(&b.f, &b.c[1]);
	if (box_any(&b, 0, &r) == 0) { /* it was not told there */
		box_do(&b, 0, &write, 0, &r);
		must_eq(r.srb_status, 0x20);
		told(&b);
	}
	box_inquiry(&b, 0, 1);
	box_good(&b, 0, &write, 0);
	box_end(&b);
	return through;
}

START_TEST(block_add__is_asked_when_the_channel_that_had_the_answer_is_closed)
{
	uint32_t n = 0;

	do
		vmbus_test_at("%u steps", n);
	while (!closed_after(n++));
	must(n > 2);
}
END_TEST

/* The guest has sent to a disk that is another one now, and is to look after that answer.  The bus
   is saved after so many steps; returns whether nothing was left to do then. */
static bool saved_after(uint32_t steps, uint32_t chan)
{
	struct box_srb write = box_rw(1, true, 0, 8);
	uint32_t asked = 0;
	struct box_reply r;
	bool through;
	struct box b;
	size_t bytes;
	uint64_t id;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2);
	box_subs(&b, 1);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	told(&b);
	must_eq(box_add(&b, 1), 0);
	told(&b);
	id = box_command(&b, chan, &write, 0);
	for (; steps; steps--)
		(void)vmbus_bus_dispatch(b.f.bus, 1);
	through = !fake_readable(vmbus_bus_fd(b.f.bus));
	while (vmbus_bus_save(b.f.bus, NULL, 0, &bytes) == VMBUS_E_AGAIN) {
		must(asked++ < 100);
		(void)vmbus_bus_dispatch(b.f.bus, 1);
	}
	box_move(&b, 2);
	box_reply(&b, chan, id, &r);
	must_eq(r.srb_status, 0x20);
	told(&b);
	box_none(&b, 0);
	box_end(&b);
	return through;
}

/* Wherever in that the bus is saved, it is told once. */
START_TEST(block_vsp__tells_of_another_disk_across_a_save)
{
	uint32_t n = 0;

	do
		vmbus_test_at("%u steps", n);
	while (!saved_after(n++, (uint32_t)_i));
	must(n > 2);
}
END_TEST

/* A store that tells other limits is the same disk. */
START_TEST(block_resized__is_no_other_disk)
{
	struct box_srb read = box_rw(0, false, 0, 8);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_start(&b, 1);
	box_good(&b, 0, &read, 0);
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	told(&b);
	box_do(&b, 0, &read, 0, &r);
	box_sense(&r, 0x62A09);
	box_good(&b, 0, &read, 0);
	box_end(&b);
}
END_TEST

/* ---- ids ---- */

static struct vmbus_guid id_of(const struct vmbus_guid *controller, const char *serial, uint8_t lun)
{
	const struct box_srb srb = {
		.lun = lun, .data_in = 1, .bytes = 52, .cdb = { 0x12, 1, 0x83, 0, 52 }
	};
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					 .lun = lun,
					 .serial = serial };
	struct vmbus_guid id;
	struct box b;

	box_prepare(&b);
	b.opts.id = *controller;
	box_start(&b, 0);
	disk.store = b.store[0] = box_store(BOX_DISK_BYTES);
	must_eq(vmbus_block_add(b.block, &disk), 0);
	told(&b);
	box_good(&b, 0, &srb, 0);
	memcpy(id.b, box_page(&b, 0) + 16, 16); /* of the first designator */
	box_end(&b);
	return id;
}

/* Without an id of the disk's own: by controller, serial and address, and the same at each start. */
START_TEST(block_create__id_tells_controllers_apart)
{
	static const struct vmbus_guid none, a = { { 1 } }, b = { { [15] = 1 } };
	static const struct {
		const struct vmbus_guid *controller;
		const char *serial;
		uint8_t lun;
	} cases[] = { { &none, NULL, 0 }, { &none, NULL, 1 }, { &none, "s", 0 }, { &a, NULL, 0 },
		      { &a, NULL, 1 },	  { &a, "s", 0 },     { &b, NULL, 0 },	 { &b, "s", 0 } };
	struct vmbus_guid ids[sizeof(cases) / sizeof(cases[0])], again;
	uint32_t i, j;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ids[i] = id_of(cases[i].controller, cases[i].serial, cases[i].lun);
		again = id_of(cases[i].controller, cases[i].serial, cases[i].lun);
		must(memcmp(&ids[i], &again, 16) == 0);
		for (j = 0; j < i; j++) {
			vmbus_test_at("cases %u and %u", i, j);
			must(memcmp(&ids[i], &ids[j], 16) != 0);
		}
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "which", 10);

	tcase_add_loop_test(tc, block_add__at_an_address_that_a_guest_still_uses, 0, 2);
	tcase_add_loop_test(tc, block_add__is_not_asked_by_what_was_sent_before_an_answer, 0, 3);
	tcase_add_loop_test(tc, block_add__is_asked_once_the_answer_has_left, 0, 3);
	tcase_add_test(tc, block_add__is_asked_when_the_channel_that_had_the_answer_is_closed);
	tcase_add_loop_test(tc, block_vsp__tells_of_another_disk_across_a_save, 0, 2);
	tcase_add_test(tc, block_resized__is_no_other_disk);
	tcase_add_test(tc, block_create__id_tells_controllers_apart);
}
VMBUS_TEST_MAIN("block.vsp_which", tests)
