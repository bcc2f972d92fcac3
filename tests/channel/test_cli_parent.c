/* SPDX-License-Identifier: MIT */
/*
 * The client machine with a parent that lies, repeats itself, answers what nobody asked, or falls
 * silent: everything is counted, nothing is believed, and every request of the caller's is answered.
 */
#include "clibox_liar.h"

/* [CTL-TYPE]: shorter than the type needs, by every number of bytes; and longer, which is fine. */
START_TEST(cli_message__every_length)
{
	static const struct {
		uint32_t type, bytes;
	} types[] = { { 1, 196 }, { 2, 12 },  { 4, 8 },	 { 6, 20 },  { 10, 20 },
		      { 12, 12 }, { 15, 16 }, { 17, 8 }, { 23, 44 }, { 24, 16 },
		      { 26, 9 },  { 28, 8 },  { 20, 12 } };
	uint8_t bytes[300];
	struct clibox b;
	uint32_t t, len;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	for (t = 0; t < sizeof(types) / sizeof(types[0]); t++)
		for (len = 0; len <= types[t].bytes; len++) {
			/* Exactly as long, so that a sanitizer sees its end. */
			uint8_t *const exact = malloc(len + 1u);
			const uint64_t was = clibox_stats(&b).malformed;

			memset(exact, 0, len + 1u);
			if (len > 0)
				exact[0] = (uint8_t)types[t].type;
			must_eq(vmbus_cli_message(b.cli, exact, len), 0);
			must_eq(clibox_stats(&b).malformed, was + (len < types[t].bytes));
			free(exact);
		}
	clibox_take(&b, 0);
	memset(bytes, 0, sizeof(bytes));
	bytes[0] = VMBUS_CTL_RESCIND;
	bytes[8] = 1;
	must_eq(vmbus_cli_message(b.cli, bytes, sizeof(bytes)), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_close(&b);
}
END_TEST

/* lesson 19: every type there is and is not, with any words behind it, in every connection state. */
START_TEST(lesson_19_no_message_stops_us)
{
	static const uint8_t fills[] = { 0x00, 0x01, 0x7f, 0xff };
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	struct vmbus_cli_ref list;
	struct vmbus_cli_action act;
	struct clibox b;
	uint32_t type, f, len;

	clibox_open(&b, &small);
	if (_i > 0)
		must_eq(vmbus_cli_connect(b.cli), 0);
	if (_i > 1) {
		vmbus_cli_disconnect(b.cli);
		clibox_take(&b, VMBUS_CLI_REFUSED);
		clibox_connect_n(&b, 2);
		list = clibox_open_chan(&b, 1);
		must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 2), clibox_pfns, 4, &list), 0);
		clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	}
	if (_i == 3) {
		must_eq(vmbus_cli_pause(b.cli), 0);
		clibox_post(&b, VMBUS_CTL_PAUSE, 0);
	}
	for (type = 0; type < 300; type++)
		for (f = 0; f < 4; f++)
			for (len = 8; len <= sizeof(bytes); len += 4) {
				memset(bytes, fills[f], sizeof(bytes));
				memset(bytes, 0, 8);
				bytes[0] = (uint8_t)type;
				bytes[1] = (uint8_t)(type >> 8);
				(void)vmbus_cli_message(b.cli, bytes, len);
				cli_check(b.cli);
			}
	while (vmbus_cli_next(b.cli, &act) == 1)
		if (act.act == VMBUS_CLI_POST)
			must_eq(vmbus_cli_posted(b.cli, 0), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* [CTL-OFFER]: numbers out of bounds, numbers and instances in use. */
START_TEST(cli_offer__refused)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OFFER };
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	must_refuse(&b, refused_offers, clibox_offer(&b, 0, 7, 0));
	must_refuse(&b, refused_offers, clibox_offer(&b, 2048, 7, 0));
	must_refuse(&b, refused_offers, clibox_offer(&b, UINT32_MAX, 7, 0));
	must_refuse(&b, refused_offers, clibox_offer(&b, 1, 7, 0)); /* relid in use */
	must_refuse(&b, refused_offers, clibox_offer(&b, 2, 1, 0)); /* instance in use */
	must_refuse(&b, refused_offers, clibox_offer(&b, 2, 7, 1)); /* no primary */
	ctl.u.offer.instance_id = clibox_instance(1);
	ctl.u.offer.sub_index = 1;
	ctl.u.offer.relid = 2;
	must_refuse(&b, refused_offers, clibox_say(&b, &ctl)); /* another class */
	must_eq(clibox_offer(&b, 2, 1, 1), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must_refuse(&b, refused_offers, clibox_offer(&b, 3, 1, 1)); /* index in use */
	must_eq(clibox_offer(&b, 2047, 1, 65535), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must_eq(clibox_offer(&b, 4, 4, 0), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must_refuse(&b, refused_offers, clibox_offer(&b, 5, 5, 0)); /* no room */
	clibox_close(&b);
}
END_TEST

/* A flood of offers, and of offers and rescinds, ends at the limits. */
START_TEST(cli_offer__flood)
{
	struct vmbus_cli_action act;
	struct clibox b;
	uint32_t i, told = 0;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 0);
	for (i = 0; i < 100000; i++) {
		must_eq(clibox_offer(&b, i % 2100, i % 3000, (uint16_t)(i % 3)), 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, i % 2051, 0, 0), 0);
	}
	while (vmbus_cli_next(b.cli, &act) == 1)
		told++;
	must(told <= 8); /* of four channels: offered, rescinded */
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* A relid is the parent's again only when RELID_RELEASED is on its way. */
START_TEST(cli_offer__before_the_release)
{
	struct vmbus_cli_ref chan;
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_refuse(&b, refused_offers, clibox_offer(&b, 1, 1, 0));
	/* The device itself may come back at once, with another relid. */
	must_eq(clibox_offer(&b, 2, 1, 0), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must_eq(vmbus_cli_release(b.cli, chan), 0);
	must_eq(clibox_offer(&b, 1, 3, 0), 0);
	must_eq(clibox_stats(&b).refused_offers, 2);
	clibox_post(&b, VMBUS_CTL_RELID_RELEASED, 0x13);
	must_eq(clibox_offer(&b, 1, 3, 0), 0);
	must_eq(clibox_stats(&b).refused_offers, 3);
	clibox_take(&b, 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_offer(&b, 1, 3, 0), 0);
	must_eq(vmbus_cli_posted(b.cli, 0x13), 0); /* says the hypercall, but it was seen */
	clibox_take(&b, VMBUS_CLI_OFFERED);
	clibox_take(&b, 0);
	clibox_post(&b, VMBUS_CTL_RELID_RELEASED, 0);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_CLOSED);
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_rescind__unknown_and_twice)
{
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_RESCIND, 0, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_RESCIND, 2, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_RESCIND, 2047, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_RESCIND, 2048, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_RESCIND, UINT32_MAX, 0, 0));
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0));
	clibox_close(&b);
}
END_TEST

/* Answers that were not asked for: nothing was posted, another id, another channel. */
START_TEST(cli_answers__not_asked_for)
{
	struct vmbus_cli_ref chan, list, stale;
	struct vmbus_cli_open open;
	struct clibox b;
	uint32_t id;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 2);
	chan = clibox_chan(&b, 1);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 9, 0, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, 0));
	must_refuse(&b, unknown_chan, clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 9, 0, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_PAUSE_RESPONSE, 0, 0, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_ALL_OFFERS, 0, 0, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, 1, 0));
	must_refuse(&b, out_of_order,
		    clibox_say3(&b, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE, 0, 0, 0));
	for (id = 0; id < 16; id++) {
		must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, id, 0));
		must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, id, 0));
	}
	stale = clibox_gpadl(&b, 1);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, stale.gen, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, stale.gen, 0));
	must_eq(vmbus_cli_gpadl_teardown(b.cli, stale), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, stale.gen, 0), 0); /* not posted */
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, stale.gen, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, stale.gen, 0));
	/* Of a list being made: another channel, another id, and success before it was seen. */
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 0), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 2, list.gen, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, stale.gen, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0));
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	/* Of an open: before it was posted, for another open id. */
	open = clibox_rings(list);
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	id = b.cli->chans[chan.slot].open_id;
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, id, 0), 0);
	clibox_post(&b, VMBUS_CTL_OPEN, 0);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, id + 1, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, 1 - id, 0));
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 2, id, 0));
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPENING);
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, id, 0), 0);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, id, 0));
	must_refuse(&b, out_of_order,
		    clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, id, VMBUS_STATUS_FAILED));
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPEN);
	/* Of a modify: before it was posted. */
	must_eq(vmbus_cli_modify(b.cli, chan, 1), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, 0), 0);
	clibox_post(&b, VMBUS_CTL_MODIFY, 0);
	clibox_take(&b, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_MODIFIED);
	clibox_close(&b);
}
END_TEST

/* Answers to the contact that nothing can be done with. */
START_TEST(cli_version_response__bad)
{
	static const struct {
		uint32_t conn_id;
		uint8_t state;
		int err;
	} answers[] = { { 0, 0, VMBUS_E_PEER },
			{ 0x1000000, 0, VMBUS_E_PEER },
			{ UINT32_MAX, 0, VMBUS_E_PEER },
			{ 1, 1, 0 },
			{ 1, 2, 0 },
			{ 1, 255, 0 } };
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_VERSION_RESPONSE };
	struct clibox b;
	uint32_t i;

	clibox_open(&b, &small);
	for (i = 0; i < 6; i++) {
		vmbus_test_at("answer %u", i);
		must_eq(vmbus_cli_connect(b.cli), 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, 1, 0), 0); /* too early */
		must_eq(clibox_stats(&b).out_of_order, i + 1);
		clibox_post(&b, VMBUS_CTL_CONTACT, 0);
		ctl.u.version.supported = 1;
		ctl.u.version.state = answers[i].state;
		ctl.u.version.conn_id = answers[i].conn_id;
		must_eq(clibox_say(&b, &ctl), answers[i].err);
		clibox_take(&b, VMBUS_CLI_REFUSED);
		must(b.act.status != 0);
		clibox_take(&b, 0);
		must_eq(vmbus_cli_version(b.cli), 0);
		cli_check(b.cli);
	}
	clibox_connect_n(&b, 1);
	clibox_close(&b);
}
END_TEST

/* [CTL-CONTACT]: offers before they were asked for are none. */
START_TEST(cli_offer__before_request_offers)
{
	struct clibox b;

	clibox_open(&b, &small);
	must_refuse(&b, malformed, clibox_offer(&b, 1, 1, 0));
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_post(&b, VMBUS_CTL_CONTACT, 0);
	must_refuse(&b, malformed, clibox_offer(&b, 1, 1, 0));
	must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, 1, 0), 0);
	clibox_take(&b, VMBUS_CLI_CONNECTED);
	must_eq(clibox_offer(&b, 1, 1, 0), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_ALL_OFFERS, 0, 0, 0), 0);
	must_eq(clibox_stats(&b).out_of_order, 2);
	clibox_post(&b, VMBUS_CTL_REQUEST_OFFERS, 0);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* A parent that answers the header alone: with success, having withdrawn the channel, or failure. */
START_TEST(cli_gpadl__answer_before_the_last_body)
{
	static uint64_t pfns[100];
	const uint32_t status = _i ? VMBUS_STATUS_FAILED : 0;
	struct vmbus_cli_ref list;
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), pfns, 100, &list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, status), 0);
	must_eq(vmbus_cli_posted(b.cli, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must_eq(b.act.status, status);
	clibox_take(&b, 0);
	must_eq(vmbus_cli_gpadl_id(b.cli, list), status ? 0 : list.gen);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* Every call with refs that were never handed out. */
START_TEST(cli_calls__stale_refs)
{
	static const uint32_t slots[] = { 0, 1, 3, 4, 2047, UINT32_MAX };
	struct vmbus_cli_open open = { .downstream_page = 1 };
	struct vmbus_cli_ref list;
	struct clibox b;
	uint32_t i, gen;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	for (i = 0; i < 6; i++)
		for (gen = i == 0 ? 2 : 0; gen < 40; gen++) {
			const struct vmbus_cli_ref ref = { slots[i], gen };

			open.list = ref;
			must_eq(vmbus_cli_open(b.cli, ref, &open), VMBUS_E_STATE);
			must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 1), &open), VMBUS_E_STATE);
			must_eq(vmbus_cli_close(b.cli, ref), VMBUS_E_STATE);
			must_eq(vmbus_cli_modify(b.cli, ref, 0), VMBUS_E_STATE);
			must_eq(vmbus_cli_release(b.cli, ref), VMBUS_E_STATE);
			must_eq(vmbus_cli_gpadl(b.cli, ref, clibox_pfns, 1, &list), VMBUS_E_STATE);
			must_eq(vmbus_cli_gpadl_teardown(b.cli, ref), VMBUS_E_STATE);
		}
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "messages", 10);

	tcase_add_test(tc, cli_message__every_length);
	tcase_add_loop_test(tc, lesson_19_no_message_stops_us, 0, 4);
	tcase_add_test(tc, cli_version_response__bad);
	tcase_add_test(tc, cli_offer__before_request_offers);
	tcase_add_test(tc, cli_offer__refused);
	tcase_add_test(tc, cli_offer__flood);
	tcase_add_test(tc, cli_offer__before_the_release);
	tcase_add_test(tc, cli_rescind__unknown_and_twice);
	tcase_add_test(tc, cli_answers__not_asked_for);
	tcase_add_loop_test(tc, cli_gpadl__answer_before_the_last_body, 0, 2);
	tcase_add_test(tc, cli_calls__stale_refs);
}

VMBUS_TEST_MAIN("channel.cli_parent", tests)
