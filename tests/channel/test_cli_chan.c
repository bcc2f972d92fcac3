/* SPDX-License-Identifier: MIT */
/* The client machine's channels and page lists: src/channel/cli_chan.c, cli_post.c. */
#include "clibox.h"

static const uint32_t versions[] = {
	VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_5_2, VMBUS_PROTO_5_1, VMBUS_PROTO_5_0,
	VMBUS_PROTO_4_1, VMBUS_PROTO_4_0, VMBUS_PROTO_3_0, VMBUS_PROTO_2_4,
};
#define VERSIONS 9

static const uint32_t page_counts[] = { 1, 2, 25, 26, 27, 53, 54, 55, 82, 83, 512, 8189, 8190 };

/* [CTL-GPADL]: 26 page numbers, then 28 a message; one range of whole pages. */
START_TEST(cli_gpadl__fragments)
{
	const uint32_t pages = page_counts[_i];
	uint64_t *const pfns = malloc(pages * sizeof(*pfns));
	const uint32_t messages = 1 + (pages > 26 ? (pages - 26 + 27) / 28 : 0);
	struct vmbus_cli_ref list;
	struct vmbus_ctl ctl;
	uint32_t i, n, seen = 0, gpadl = 0;
	struct clibox b;

	for (i = 0; i < pages; i++)
		pfns[i] = 0xabc0000000u + i * 3u;
	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), pfns, pages, &list), 0);
	for (n = 0; n < messages; n++) {
		clibox_post(&b, n ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER, 0);
		ctl = clibox_posted(&b);
		must(b.act.len <= VMBUS_CTL_BYTES_MAX);
		if (n == 0) {
			gpadl = ctl.u.gpadl.gpadl;
			must_eq(ctl.u.gpadl.relid, 1);
			must_eq(ctl.u.gpadl.range_bytes, 8 + 8 * pages);
			must_eq(ctl.u.gpadl.range_count, 1);
			must_eq(ctl.u.gpadl.qwords[0], (uint64_t)pages * 4096);
		}
		must_eq(ctl.u.gpadl.gpadl, gpadl);
		for (i = n == 0; i < ctl.u.gpadl.count; i++)
			must_eq(ctl.u.gpadl.qwords[i], 0xabc0000000u + seen++ * 3u);
		if (n + 1 < messages)
			must_eq(ctl.u.gpadl.count, n ? 28 : 27);
	}
	must_eq(seen, pages);
	clibox_take(&b, 0);
	must_eq(gpadl, vmbus_cli_gpadl_id(b.cli, list));
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, gpadl, 0), 0);
	free(pfns); /* kept until here */
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must_eq(b.act.gpadl, gpadl);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* A hypercall that says "not now" in the middle repeats the message, and none is left out. */
START_TEST(cli_gpadl__repeats_a_message)
{
	static uint64_t pfns[100];
	struct vmbus_cli_ref list;
	struct clibox b;
	uint8_t first[VMBUS_CTL_BYTES_MAX];
	uint32_t i;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), pfns, 100, &list), 0);
	for (i = 0; i < 4; i++) {
		clibox_post(&b, i ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER, 0x13);
		memcpy(first, b.act.bytes, sizeof(first));
		clibox_take(&b, 0);
		clibox_post(&b, i ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER, 0);
		must(memcmp(first, b.act.bytes, b.act.len) == 0);
	}
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/*
 * A body that cannot be posted: the parent, which has the header, is told to let go before the memory
 * is the caller's again.  Test i: it answers the teardown alone; the creation as well; that cannot be
 * posted either.
 */
START_TEST(cli_gpadl__a_body_is_not_posted)
{
	static uint64_t pfns[100];
	struct vmbus_cli_ref list;
	struct vmbus_ctl ctl;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), pfns, 100, &list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	clibox_post(&b, VMBUS_CTL_GPADL_BODY, 0);
	clibox_post(&b, VMBUS_CTL_GPADL_BODY, 5);
	cli_check(b.cli);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, _i == 2 ? 5 : 0);
	ctl = clibox_posted(&b);
	must_eq(ctl.u.created.relid, 1);
	must_eq(ctl.u.created.gpadl, list.gen);
	if (_i == 1)
		must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 1), 0);
	if (_i < 2) {
		clibox_take(&b, 0); /* still the parent's */
		must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
	}
	clibox_take(&b, _i == 2 ? VMBUS_CLI_GPADL_LOST : VMBUS_CLI_GPADL_GONE);
	must(b.act.list.slot == list.slot && b.act.list.gen == list.gen);
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_gpadl__refuses)
{
	const struct vmbus_cli_opts o = { .chans_max = 2, .gpadls_max = 2, .queue_max = 2 };
	const struct vmbus_cli_ref none = { 0, 0 }, far = { 2, 1 }, stale = { 0, 2 };
	struct vmbus_cli_ref chan, list;
	struct clibox b;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_gpadl(b.cli, (struct vmbus_cli_ref){ 0, 1 }, clibox_pfns, 4, &list),
		VMBUS_E_STATE);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, chan, NULL, 4, &list), VMBUS_E_INVAL);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 0, &list), VMBUS_E_RANGE);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 8191, &list), VMBUS_E_RANGE);
	must_eq(vmbus_cli_gpadl(b.cli, none, clibox_pfns, 4, &list), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl(b.cli, far, clibox_pfns, 4, &list), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl(b.cli, stale, clibox_pfns, 4, &list), VMBUS_E_STATE);
	(void)clibox_gpadl(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), 0);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), VMBUS_E_FULL); /* lists */
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), VMBUS_E_STATE);		    /* not READY */
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	must_eq(clibox_refused(&b), 0);
	clibox_close(&b);
}
END_TEST

/* [CTL-OPEN], [CTL-CLOSE]: a channel's life, and the words of each message. */
START_TEST(cli_open__life)
{
	struct vmbus_cli_ref chan, list;
	struct vmbus_cli_open open;
	struct vmbus_ctl ctl;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	list = clibox_gpadl(&b, 1);
	open = clibox_rings(list);
	open.target_vp = 5;
	open.user[0] = 1;
	open.user[119] = 120;
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPENING);
	clibox_post(&b, VMBUS_CTL_OPEN, 0);
	must_eq(b.act.len, 148);
	ctl = clibox_posted(&b);
	must_eq(ctl.u.open.relid, 1);
	must_eq(ctl.u.open.gpadl, vmbus_cli_gpadl_id(b.cli, list));
	must_eq(ctl.u.open.target_vp, 5);
	must_eq(ctl.u.open.downstream_page, 2);
	must_eq(ctl.u.open.user[119], 120);
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, ctl.u.open.open_id, 0), 0);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), VMBUS_E_STATE); /* rings in use */
	clibox_take(&b, VMBUS_CLI_OPENED);
	must(b.act.chan.slot == chan.slot && b.act.chan.gen == chan.gen && b.act.status == 0);
	must_eq(vmbus_cli_close(b.cli, chan), 0);
	must_eq(vmbus_cli_close(b.cli, chan), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_CLOSE, 0);
	must_eq(clibox_posted(&b).u.chan.relid, 1);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_posted(&b).u.created.relid, 1);
	must_eq(clibox_posted(&b).u.created.gpadl, list.gen);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
	must_eq(clibox_info(&b, 1).gpadls, 1);
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	must_eq(clibox_info(&b, 1).gpadls, 0);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), VMBUS_E_STATE);
	must_eq(clibox_refused(&b), 0);
	must_eq(vmbus_cli_unload(b.cli), 0);
	clibox_post(&b, VMBUS_CTL_UNLOAD, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, VMBUS_CLI_UNLOADED);
	must_eq(b.act.status, 0);
	must_eq(vmbus_cli_release(b.cli, chan), 0);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* [CTL-OPEN]: the long form of 6.0, its words the caller's or the offer's. */
START_TEST(cli_open__long_form)
{
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_SIGNAL_PARAMS |
						      VMBUS_FEATURE_REDIRECT };
	struct vmbus_cli_open open;
	struct vmbus_ctl ctl;
	struct clibox b;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 2);
	open = clibox_rings(clibox_gpadl(&b, 1));
	must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 1), &open), 0);
	clibox_post(&b, VMBUS_CTL_OPEN, 0);
	must_eq(b.act.len, 156);
	ctl = clibox_posted(&b);
	must_eq(ctl.u.open.conn_id, 0x10001);
	must_eq(ctl.u.open.event_flag, 1);
	must_eq(ctl.u.open.redirect, 0);
	open = clibox_rings(clibox_gpadl(&b, 2));
	open.conn_id = 77;
	open.event_flag = 78;
	open.redirect = 1;
	must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 2), &open), 0);
	clibox_post(&b, VMBUS_CTL_OPEN, 0);
	ctl = clibox_posted(&b);
	must_eq(ctl.u.open.conn_id, 77);
	must_eq(ctl.u.open.event_flag, 78);
	must_eq(ctl.u.open.redirect, 1);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_open__refuses)
{
	struct vmbus_cli_ref chan, list, other;
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 2);
	chan = clibox_chan(&b, 1);
	other = clibox_gpadl(&b, 2);
	must_eq(vmbus_cli_open(b.cli, chan, NULL), VMBUS_E_INVAL);
	open = clibox_rings(other);
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_STATE); /* another channel's */
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), 0);
	open.list = list;
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_STATE); /* not accepted */
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 0), 0);
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_AGAIN);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), VMBUS_E_AGAIN);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	open.downstream_page = 1;
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_RANGE);
	open.downstream_page = 3;
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_RANGE);
	open.downstream_page = UINT32_MAX;
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_RANGE);
	open.downstream_page = 2;
	must_eq(vmbus_cli_open(b.cli, (struct vmbus_cli_ref){ chan.slot, chan.gen + 1 }, &open),
		VMBUS_E_STATE);
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_STATE);
	must_eq(vmbus_cli_close(b.cli, chan), VMBUS_E_STATE);
	must_eq(vmbus_cli_modify(b.cli, chan, 1), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_OPEN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, clibox_posted(&b).u.open.open_id,
			    VMBUS_STATUS_FAILED),
		0);
	must_eq(vmbus_cli_open(b.cli, chan, &open), VMBUS_E_AGAIN); /* OPENED not taken */
	clibox_take(&b, VMBUS_CLI_OPENED);
	must_eq(b.act.status, VMBUS_STATUS_FAILED);
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	must_eq(clibox_refused(&b), 0);
	clibox_close(&b);
}
END_TEST

/* [CTL-MODIFY]: none below 4.1, unanswered below 5.3. */
START_TEST(cli_modify__by_version)
{
	const struct vmbus_cli_opts o = { .version_max = versions[_i], .features = 0 };
	struct vmbus_cli_ref chan;
	struct clibox b;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	(void)clibox_open_chan(&b, 1);
	must_eq(vmbus_cli_modify(b.cli, chan, VMBUS_VP_NONE), VMBUS_E_RANGE);
	if (versions[_i] < VMBUS_PROTO_4_1) {
		must_eq(vmbus_cli_modify(b.cli, chan, 2), VMBUS_E_NOTSUP);
		clibox_close(&b);
		return;
	}
	must_eq(vmbus_cli_modify(b.cli, chan, 2), 0);
	must_eq(vmbus_cli_modify(b.cli, chan, 3), VMBUS_E_AGAIN);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_posted(&b).u.modify.target_vp, 2);
	must_eq(vmbus_cli_posted(b.cli, 0), 0);
	if (versions[_i] >= VMBUS_PROTO_5_3) {
		clibox_take(&b, 0);
		must_eq(vmbus_cli_modify(b.cli, chan, 3), VMBUS_E_AGAIN);
		must_eq(clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, VMBUS_STATUS_FAILED), 0);
	}
	must_eq(vmbus_cli_modify(b.cli, chan, 3), VMBUS_E_AGAIN); /* MODIFIED not taken */
	clibox_take(&b, VMBUS_CLI_MODIFIED);
	must_eq(b.act.status, versions[_i] >= VMBUS_PROTO_5_3 ? VMBUS_STATUS_FAILED : 0);
	must_eq(vmbus_cli_modify(b.cli, chan, 3), 0);
	must_eq(clibox_refused(&b), 0);
	clibox_close(&b);
}
END_TEST

/* A close does not take the answer to a modify away; it comes when the parent sends it. */
START_TEST(cli_modify__answer_after_close)
{
	struct vmbus_cli_ref chan;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	(void)clibox_open_chan(&b, 1);
	must_eq(vmbus_cli_modify(b.cli, chan, 2), 0);
	must_eq(vmbus_cli_close(b.cli, chan), 0);
	clibox_post(&b, VMBUS_CTL_MODIFY, 0);
	clibox_post(&b, VMBUS_CTL_CLOSE, 0);
	clibox_take(&b, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, VMBUS_STATUS_FAILED), 0);
	clibox_take(&b, VMBUS_CLI_MODIFIED);
	must_eq(clibox_refused(&b), 0);
	clibox_close(&b);
}
END_TEST

/* [CTL-RELEASE]: in each state of the page lists and of the channel. */
START_TEST(cli_release__after_the_lists)
{
	struct vmbus_cli_ref chan, list;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	list = clibox_open_chan(&b, 1);
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_AGAIN);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_RESCINDED_OPEN);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), VMBUS_E_STATE);
	must_eq(vmbus_cli_close(b.cli, chan), 0);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_CLOSE, 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE); /* GONE not taken */
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	must_eq(vmbus_cli_release(b.cli, chan), 0);
	clibox_post(&b, VMBUS_CTL_RELID_RELEASED, 0);
	must_eq(clibox_posted(&b).u.chan.relid, 1);
	/* Offered again: the same relid, another channel. */
	must_eq(clibox_offer(&b, 1, 1, 0), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must(clibox_chan(&b, 1).gen != chan.gen || clibox_chan(&b, 1).slot != chan.slot);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	must_eq(clibox_refused(&b), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* [CTL-TL]: the answer is an offer or a refusal. */
START_TEST(cli_tl_connect__offer_or_refusal)
{
	const struct vmbus_ctl_tl one = { .endpoint_id = { { 1 } }, .service_id = { { 9 } } };
	const struct vmbus_ctl_tl two = { .endpoint_id = { { 2 } }, .service_id = { { 9 } } };
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OFFER };
	struct clibox b;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_tl_connect(b.cli, &one), VMBUS_E_STATE);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_tl_connect(b.cli, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_cli_tl_connect(b.cli, &one), 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &one), VMBUS_E_AGAIN);
	must_eq(vmbus_cli_tl_connect(b.cli, &two), 0);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	must_eq(b.act.len, 40);
	must_eq(clibox_posted(&b).u.tl.endpoint_id.b[0], 1);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	ctl.u.offer.class_id = one.service_id;
	ctl.u.offer.instance_id = one.endpoint_id;
	ctl.u.offer.flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_PIPE | VMBUS_OFFER_TLNPI;
	ctl.u.offer.relid = 8;
	must_eq(clibox_say(&b, &ctl), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	clibox_take(&b, 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &one), 0); /* that one was answered */
	ctl.type = VMBUS_CTL_TL_RESULT;
	ctl.u.tl = one;
	must_eq(clibox_say(&b, &ctl), 0); /* and the new one is not posted yet */
	must_eq(clibox_stats(&b).out_of_order, 1);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	must_eq(clibox_say(&b, &ctl), 0); /* with a status of 0, which makes no channel */
	clibox_take(&b, VMBUS_CLI_TL_RESULT);
	must(b.act.status != 0);
	ctl.u.tl = two;
	ctl.u.tl.status = VMBUS_STATUS_REFUSED;
	must_eq(clibox_say(&b, &ctl), 0);
	clibox_take(&b, VMBUS_CLI_TL_RESULT);
	must_eq(b.act.status, VMBUS_STATUS_REFUSED);
	must_eq(b.act.tl.endpoint_id.b[0], 2);
	must_eq(clibox_refused(&b), 1);
	must_eq(clibox_say(&b, &ctl), 0); /* once only */
	must_eq(clibox_refused(&b), 2);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* How a post ends that was answered meanwhile is not for the request that has its place now. */
START_TEST(cli_tl_connect__answered_before_it_is_posted)
{
	static const uint32_t versions_at[] = { VMBUS_PROTO_4_0, VMBUS_PROTO_6_0 };
	static const uint32_t statuses[] = { 0, 0x13, 0x05 }; /* posted, not now, refused */
	const struct vmbus_cli_opts o = { .version_max = versions_at[_i % 2], .chans_max = 2 };
	const struct vmbus_ctl_tl one = { .endpoint_id = { { 1 } }, .service_id = { { 9 } } };
	const struct vmbus_ctl_tl two = { .endpoint_id = { { 2 } }, .service_id = { { 9 } } };
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OFFER };
	struct clibox b;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &one), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	ctl.u.offer.class_id = one.service_id;
	ctl.u.offer.instance_id = one.endpoint_id;
	ctl.u.offer.flags = VMBUS_OFFER_TLNPI;
	ctl.u.offer.relid = 8;
	must_eq(clibox_say(&b, &ctl), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	must_eq(vmbus_cli_tl_connect(b.cli, &two), 0);
	must_eq(vmbus_cli_posted(b.cli, statuses[_i / 2]), 0);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	must_eq(clibox_posted(&b).u.tl.endpoint_id.b[0], 2);
	clibox_take(&b, 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_tl_connect__bounds_and_versions)
{
	const struct vmbus_cli_opts o = { .version_max = versions[_i], .chans_max = 2 };
	struct vmbus_ctl_tl tl = { .service_id = { { 9 } }, .has_silo = 1 };
	struct clibox b;
	uint32_t i;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl),
		versions[_i] >= VMBUS_PROTO_5_2 ? 0 : VMBUS_E_NOTSUP);
	if (versions[_i] >= VMBUS_PROTO_5_2) {
		clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
		must_eq(b.act.len, 56);
	}
	tl.has_silo = 0;
	for (i = 1; i < 40; i++) {
		int want = 0;

		tl.endpoint_id.b[0] = (uint8_t)i;
		if (versions[_i] < VMBUS_PROTO_4_0)
			want = VMBUS_E_NOTSUP;
		else if (versions[_i] >= VMBUS_PROTO_5_2 && i >= 16)
			want = VMBUS_E_FULL;
		else if (versions[_i] >= VMBUS_PROTO_4_1 && i > 16)
			want = VMBUS_E_FULL;
		must_eq(vmbus_cli_tl_connect(b.cli, &tl), want);
		if (want == 0)
			clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	}
	if (versions[_i] >= VMBUS_PROTO_4_1) {
		vmbus_cli_disconnect(b.cli);
		for (i = 0; i < 16; i++) { /* each is answered */
			clibox_take(&b, VMBUS_CLI_TL_RESULT);
			must(b.act.status != 0);
		}
	}
	clibox_close(&b);
}
END_TEST

START_TEST(cli_info__and_names)
{
	struct vmbus_cli_info info;
	struct clibox b;
	uint32_t i, j;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_info(b.cli, 0, &info), 0);
	must_eq(vmbus_cli_info(b.cli, 2047, &info), VMBUS_E_RANGE);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_info(b.cli, 0, &info), 1);
	must_eq(info.offer.conn_id, 0x10001);
	must_eq(vmbus_cli_message(b.cli, NULL, 8), VMBUS_E_INVAL);
	for (i = 0; i < VMBUS_CLI_STATES; i++)
		for (j = 0; j < i; j++)
			ck_assert_str_ne(vmbus_cli_state_name(i), vmbus_cli_state_name(j));
	ck_assert_str_eq(vmbus_cli_state_name(VMBUS_CLI_STATES), "?");
	ck_assert_str_eq(vmbus__cli_event_name(VMBUS__CLI_EVENTS), "?");
	must_eq(vmbus_cli_gpadl_id(b.cli, (struct vmbus_cli_ref){ 0, 0 }), 0);
	must_eq(vmbus_cli_gpadl_id(b.cli, (struct vmbus_cli_ref){ 99999, 1 }), 0);
	clibox_close(&b);
}
END_TEST

/* All 2,047 at once, each opened, closed, and withdrawn. */
START_TEST(cli__2047_channels)
{
	struct vmbus_cli_ref *const lists = calloc(2048, sizeof(*lists));
	struct clibox b;
	uint32_t i;

	clibox_open(&b, NULL);
	clibox_connect(&b);
	for (i = 1; i <= 2047; i++)
		must_eq(clibox_offer(&b, i, i, 0), 0);
	for (i = 1; i <= 2047; i++)
		clibox_take(&b, VMBUS_CLI_OFFERED);
	for (i = 1; i <= 2047; i++)
		lists[i] = clibox_open_chan(&b, i);
	cli_check(b.cli);
	for (i = 1; i <= 2047; i++) {
		const struct vmbus_cli_ref chan = clibox_chan(&b, i);

		must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, i, 0, 0), 0);
		clibox_take(&b, VMBUS_CLI_RESCINDED);
		must_eq(vmbus_cli_close(b.cli, chan), 0);
		must_eq(vmbus_cli_gpadl_teardown(b.cli, lists[i]), 0);
		clibox_post(&b, VMBUS_CTL_CLOSE, 0);
		clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, lists[i].gen, 0), 0);
		clibox_take(&b, VMBUS_CLI_GPADL_GONE);
		must_eq(vmbus_cli_release(b.cli, chan), 0);
		clibox_post(&b, VMBUS_CTL_RELID_RELEASED, 0);
	}
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	cli_check(b.cli);
	free(lists);
	clibox_close(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "channels", 10);

	tcase_add_loop_test(tc, cli_gpadl__fragments, 0, 13);
	tcase_add_test(tc, cli_gpadl__repeats_a_message);
	tcase_add_loop_test(tc, cli_gpadl__a_body_is_not_posted, 0, 3);
	tcase_add_test(tc, cli_gpadl__refuses);
	tcase_add_test(tc, cli_open__life);
	tcase_add_test(tc, cli_open__long_form);
	tcase_add_test(tc, cli_open__refuses);
	tcase_add_loop_test(tc, cli_modify__by_version, 0, VERSIONS);
	tcase_add_test(tc, cli_modify__answer_after_close);
	tcase_add_test(tc, cli_release__after_the_lists);
	tcase_add_test(tc, cli_tl_connect__offer_or_refusal);
	tcase_add_loop_test(tc, cli_tl_connect__answered_before_it_is_posted, 0, 6);
	tcase_add_loop_test(tc, cli_tl_connect__bounds_and_versions, 0, VERSIONS);
	tcase_add_test(tc, cli_info__and_names);
	tcase_add_test(tc, cli__2047_channels);
}

VMBUS_TEST_MAIN("channel.cli_chan", tests)
