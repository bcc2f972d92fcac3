/* SPDX-License-Identifier: MIT */
/*
 * The client machine's connection with a parent that keeps to the protocol: src/channel/cli.c,
 * cli_post.c.  Channels: test_cli_chan.c; parents that lie: test_cli_parent.c; every state with every
 * event: test_cli_table.c, test_cli_explore.c.
 */
#include "clibox.h"

static const uint32_t versions[] = {
	VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_5_2, VMBUS_PROTO_5_1, VMBUS_PROTO_5_0,
	VMBUS_PROTO_4_1, VMBUS_PROTO_4_0, VMBUS_PROTO_3_0, VMBUS_PROTO_2_4,
};
#define VERSIONS 9

START_TEST(cli_init__refuses_arguments)
{
	static _Alignas(16) uint8_t storage[1 << 20];
	struct vmbus_cli_opts o = { .struct_bytes = sizeof(o), .chans_max = 4 };
	struct vmbus_cli *cli = NULL;
	const size_t bytes = vmbus_cli_bytes(&o);
	struct vmbus_cli_opts bad = o;

	must(bytes > 0 && bytes < sizeof(storage));
	must(vmbus_cli_bytes(&(struct vmbus_cli_opts){ .struct_bytes = sizeof(o) }) < 700 * 1024);
	must(vmbus_cli_bytes(&(struct vmbus_cli_opts){ .struct_bytes = sizeof(o),
						       .chans_max = 16 }) < 32 * 1024);
	must_eq(vmbus_cli_bytes(NULL), 0);
	must_eq(vmbus_cli_init(storage, bytes, NULL, &cli), VMBUS_E_INVAL);
	must_eq(vmbus_cli_init(NULL, bytes, &o, &cli), VMBUS_E_INVAL);
	must_eq(vmbus_cli_init(storage, bytes, &o, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_cli_init(storage + 8, bytes, &o, &cli), VMBUS_E_INVAL);
	must_eq(vmbus_cli_init(storage, bytes - 1, &o, &cli), VMBUS_E_RANGE);
	bad.struct_bytes--;
	must_eq(vmbus_cli_init(storage, bytes, &bad, &cli), VMBUS_E_INVAL);
	must_eq(vmbus_cli_bytes(&bad), 0);
	must(cli == NULL && storage[0] == 0);
	must_eq(vmbus_cli_init(storage, bytes, &o, &cli), 0);
	must((void *)cli == (void *)storage);
}
END_TEST

static const struct {
	struct vmbus_cli_opts o;
	int err;
} limits[] = {
	{ { .chans_max = 2047 }, 0 },
	{ { .chans_max = 2048 }, VMBUS_E_RANGE },
	{ { .chans_max = UINT32_MAX }, VMBUS_E_RANGE },
	{ { .gpadls_max = 8192 }, 0 },
	{ { .gpadls_max = 8193 }, VMBUS_E_RANGE },
	{ { .gpadls_max = UINT32_MAX }, VMBUS_E_RANGE },
	{ { .queue_max = 1 }, VMBUS_E_RANGE },
	{ { .queue_max = 4096 }, 0 },
	{ { .queue_max = 4097 }, VMBUS_E_RANGE },
	{ { .version_max = VMBUS_PROTO_5_3 + 1 }, VMBUS_E_INVAL },
	{ { .version_max = 0x00010001 }, VMBUS_E_INVAL },
	{ { .version_min = VMBUS_PROTO_6_0 }, VMBUS_E_INVAL },
	{ { .version_min = 0x0000000d }, VMBUS_E_INVAL },
	{ { .version_min = VMBUS_PROTO_4_1, .version_max = VMBUS_PROTO_4_0 }, VMBUS_E_INVAL },
	{ { .features = VMBUS_FEATURE_CONFIDENTIAL }, VMBUS_E_INVAL },
	{ { .features = VMBUS_FEATURE_PINNING }, VMBUS_E_INVAL },
	{ { .features = 0x100 }, VMBUS_E_INVAL },
	{ { .features = 0x6f }, 0 },
	{ { .target_vp = VMBUS_VP_NONE }, VMBUS_E_RANGE },
	{ { .target_sint = 15 }, 0 },
	{ { .target_sint = 16 }, VMBUS_E_RANGE },
	{ { .monitor_p2c = 0x1000 }, VMBUS_E_INVAL },
	{ { .monitor_c2p = 0x1000 }, VMBUS_E_INVAL },
	{ { .monitor_p2c = 0x1000, .monitor_c2p = 0x2008 }, VMBUS_E_INVAL },
	{ { .monitor_p2c = 0x1000, .monitor_c2p = 0x2000 }, 0 },
};
#define LIMITS (int)(sizeof(limits) / sizeof(limits[0]))

START_TEST(cli_init__limits)
{
	struct vmbus_cli_opts o = limits[_i].o;
	struct vmbus_cli *cli = NULL;
	void *storage;
	size_t bytes;

	o.struct_bytes = sizeof(o);
	bytes = vmbus_cli_bytes(&o);
	must_eq(bytes > 0, limits[_i].err == 0);
	storage = aligned_alloc(16, bytes ? bytes : 16);
	must_eq(vmbus_cli_init(storage, bytes, &o, &cli), limits[_i].err);
	must((cli != NULL) == (limits[_i].err == 0));
	free(storage);
}
END_TEST

/* [CTL-CONTACT], [CTL-VERSION]: the versions in their order, each at its connection. */
START_TEST(cli_connect__tries_versions_downwards)
{
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_PAUSE,
					  .chans_max = 1,
					  .target_vp = 3,
					  .monitor_p2c = 0x5000,
					  .monitor_c2p = 0x6000 };
	struct clibox b;
	struct vmbus_ctl ctl;
	uint32_t i;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_connect(b.cli), 0);
	must_eq(vmbus_cli_connect(b.cli), VMBUS_E_STATE);
	for (i = 0; i < VERSIONS; i++) {
		vmbus_test_at("version %x", versions[i]);
		clibox_post(&b, VMBUS_CTL_CONTACT, 0);
		must_eq(b.act.conn_id, versions[i] >= VMBUS_PROTO_5_0 ? 4 : 1);
		must_eq(b.act.len, 40);
		ctl = clibox_posted(&b);
		must_eq(ctl.u.contact.version, versions[i]);
		must_eq(ctl.u.contact.target_vp, versions[i] >= VMBUS_PROTO_3_0 ? 3 : 0);
		must_eq(ctl.u.contact.target_sint, versions[i] >= VMBUS_PROTO_5_0 ? 2 : 0);
		must_eq(ctl.u.contact.features, i == 0 ? VMBUS_FEATURE_PAUSE : 0);
		must_eq(ctl.u.contact.monitor_p2c, 0x5000);
		must_eq(ctl.u.contact.monitor_c2p, 0x6000);
		clibox_take(&b, 0);
		must_eq(vmbus_cli_version(b.cli), 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0), 0);
	}
	clibox_take(&b, VMBUS_CLI_REFUSED);
	must(b.act.status != 0);
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	must_eq(vmbus_cli_connect(b.cli), 0); /* and from the first one again */
	clibox_post(&b, VMBUS_CTL_CONTACT, 0);
	must_eq(clibox_posted(&b).u.contact.version, VMBUS_PROTO_6_0);
	clibox_close(&b);
}
END_TEST

/* Every version as the agreed one; the connection id is the parent's from 5.0 on. */
START_TEST(cli_connect__agrees)
{
	const struct vmbus_cli_opts o = { .version_max = versions[_i], .chans_max = 1 };
	const uint32_t conn = versions[_i] >= VMBUS_PROTO_5_0 ? 0x800074 : 1;
	struct clibox b;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_post(&b, VMBUS_CTL_CONTACT, 0);
	must_eq(clibox_posted(&b).u.contact.version, versions[_i]);
	must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, conn == 1 ? versions[_i] : conn, 0),
		0);
	clibox_take(&b, VMBUS_CLI_CONNECTED);
	must_eq(vmbus_cli_version(b.cli), versions[_i]);
	clibox_post(&b, VMBUS_CTL_REQUEST_OFFERS, 0);
	must_eq(b.act.conn_id, conn);
	must_eq(b.act.len, 8);
	must_eq(clibox_say3(&b, VMBUS_CTL_ALL_OFFERS, 0, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_ALL_OFFERED);
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* [HC-STATUS]: 0x12 says that the parent is older; any other failure goes on the same way. */
START_TEST(cli_connect__no_contact_port_means_next_version)
{
	const struct vmbus_cli_opts o = { .version_min = VMBUS_PROTO_4_1, .chans_max = 1 };
	static const uint32_t statuses[] = { 0x12, 0x05, 0x12, 0x06, 0x12 };
	struct clibox b;
	uint32_t i;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_connect(b.cli), 0);
	for (i = 0; i < 4; i++)
		clibox_post(&b, VMBUS_CTL_CONTACT, statuses[i]);
	clibox_post(&b, VMBUS_CTL_CONTACT, statuses[4]);
	must_eq(clibox_posted(&b).u.contact.version, VMBUS_PROTO_4_1);
	clibox_take(&b, VMBUS_CLI_REFUSED);
	must_eq(b.act.status, 0x12);
	clibox_take(&b, 0);
	must_eq(clibox_stats(&b).posted, 0);
	must_eq(clibox_stats(&b).post_failures, 5);
	clibox_close(&b);
}
END_TEST

/* [CTL-FEATURES]: what was asked for and granted; the long form carries the client id. */
START_TEST(cli_connect__features)
{
	const uint32_t all = 0x6f;
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = all,
					  .chans_max = 1,
					  .client_id = { { 1, 2, 3 } } };
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_VERSION_RESPONSE };
	struct clibox b;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_post(&b, VMBUS_CTL_CONTACT, 0);
	must_eq(b.act.len, 56);
	must_eq(clibox_posted(&b).u.contact.features, all);
	must_eq(clibox_posted(&b).u.contact.client_id.b[2], 3);
	ctl.u.version.supported = 1;
	ctl.u.version.conn_id = 1;
	ctl.u.version.features = VMBUS_FEATURE_SERVER_MONITOR | VMBUS_FEATURE_PAUSE |
				 VMBUS_FEATURE_CONFIDENTIAL; /* which nobody asked for */
	ctl.u.version.monitor_p2c = 0x7000;
	ctl.u.version.monitor_c2p = 0x8000;
	ctl.u.version.form = 40;
	must_eq(clibox_say(&b, &ctl), 0);
	clibox_take(&b, VMBUS_CLI_CONNECTED);
	must_eq(b.act.features, VMBUS_FEATURE_SERVER_MONITOR | VMBUS_FEATURE_PAUSE);
	must_eq(b.act.monitor_p2c, 0x7000);
	must_eq(b.act.monitor_c2p, 0x8000);
	clibox_close(&b);
}
END_TEST

/* The same message again, other actions first, and one look without it in between. */
START_TEST(cli_posted__not_now_tries_again)
{
	static const uint32_t statuses[] = { 0x13, 0x0b, 0x12 };
	struct clibox b;
	uint32_t i;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_posted(b.cli, 0), VMBUS_E_STATE);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_posted(b.cli, 0), VMBUS_E_STATE);
	must_eq(vmbus_cli_unload(b.cli), 0);
	for (i = 0; i < 3; i++) {
		clibox_post(&b, VMBUS_CTL_UNLOAD, statuses[i]);
		must_eq(clibox_say3(&b, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0),
			0); /* not posted yet */
		if (i == 0) {
			must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
			clibox_take(&b, VMBUS_CLI_RESCINDED);
		}
		clibox_take(&b, 0);
	}
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(b.act.ctl_type, VMBUS_CTL_UNLOAD);
	clibox_take(&b, 0); /* none other before its answer */
	must_eq(vmbus_cli_posted(b.cli, 0), 0);
	clibox_take(&b, 0);
	must_eq(clibox_stats(&b).out_of_order, 3);
	clibox_close(&b);
}
END_TEST

/* A status that no retry helps ends what the message was for. */
START_TEST(cli_posted__failure_goes_to_the_owner)
{
	const struct vmbus_ctl_tl tl = { .endpoint_id = { { 1 } }, .service_id = { { 2 } } };
	struct vmbus_cli_ref list, second;
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), clibox_pfns, 4, &list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0x05);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must_eq(b.act.status, 0x05);
	must_eq(vmbus_cli_gpadl_id(b.cli, list), 0);
	list = clibox_gpadl(&b, 1);
	open = clibox_rings(list);
	must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 1), &open), 0);
	clibox_post(&b, VMBUS_CTL_OPEN, 0x06);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must_eq(b.act.status, 0x06);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_CLOSED);
	second = clibox_open_chan(&b, 1);
	must_eq(vmbus_cli_modify(b.cli, clibox_chan(&b, 1), 1), 0);
	clibox_post(&b, VMBUS_CTL_MODIFY, 0x07);
	clibox_take(&b, VMBUS_CLI_MODIFIED);
	must_eq(b.act.status, 0x07);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl), 0);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0x08);
	clibox_take(&b, VMBUS_CLI_TL_RESULT);
	must_eq(b.act.status, 0x08);
	/* lesson 27: a teardown that fails leaves the memory with the parent. */
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0x09);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.status, 0x09);
	clibox_take(&b, 0);
	cli_check(b.cli);
	/* A close without effect would leave the two apart: the connection is given up. */
	must_eq(vmbus_cli_close(b.cli, clibox_chan(&b, 1)), 0);
	clibox_post(&b, VMBUS_CTL_CLOSE, 0x05);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, second.slot);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, VMBUS_CLI_UNLOADED);
	must_eq(b.act.status, 0x05);
	clibox_take(&b, 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* A full queue refuses every call and changes nothing. */
START_TEST(cli_calls__full_queue)
{
	const struct vmbus_ctl_tl tl[2] = { { .endpoint_id = { { 1 } } },
					    { .endpoint_id = { { 2 } } } };
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_PAUSE |
						      VMBUS_FEATURE_MODIFY_CONNECTION,
					  .chans_max = 3,
					  .gpadls_max = 8,
					  .queue_max = 2 };
	struct vmbus_cli_ref list, closed, lists[2];
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 3);
	lists[0] = clibox_open_chan(&b, 1);
	closed = clibox_chan(&b, 2);
	lists[1] = clibox_gpadl(&b, 2);
	open = clibox_rings(lists[1]);
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 3, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl[0]), 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl[1]), 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &(struct vmbus_ctl_tl){ .has_silo = 0 }), VMBUS_E_FULL);
	must_eq(vmbus_cli_gpadl(b.cli, closed, clibox_pfns, 4, &list), VMBUS_E_FULL);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, lists[1]), VMBUS_E_FULL);
	must_eq(vmbus_cli_open(b.cli, closed, &open), VMBUS_E_FULL);
	must_eq(vmbus_cli_close(b.cli, clibox_chan(&b, 1)), VMBUS_E_FULL);
	must_eq(vmbus_cli_modify(b.cli, clibox_chan(&b, 1), 0), VMBUS_E_FULL);
	must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 3)), VMBUS_E_FULL);
	must_eq(vmbus_cli_pause(b.cli), VMBUS_E_FULL);
	must_eq(vmbus_cli_modify_connection(b.cli, 0, 0), VMBUS_E_FULL);
	cli_check(b.cli);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPEN);
	must_eq(clibox_state(&b, 2), VMBUS_CLI_CLOSED);
	must_eq(clibox_state(&b, 3), VMBUS_CLI_RESCINDED_CLOSED);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	must_eq(vmbus_cli_close(b.cli, clibox_chan(&b, 1)), 0);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, lists[0]), 0);
	clibox_post(&b, VMBUS_CTL_CLOSE, 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, lists[0].gen, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* [CTL-PAUSE] */
START_TEST(cli_pause__and_resume)
{
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_PAUSE };
	struct vmbus_cli_ref chan, list;
	struct clibox b;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_pause(b.cli), VMBUS_E_STATE);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	must_eq(vmbus_cli_resume(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_pause(b.cli), 0);
	must_eq(vmbus_cli_pause(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_resume(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_PAUSE, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_PAUSE_RESPONSE, 0, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_PAUSED);
	must_eq(b.act.status, 0);
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), VMBUS_E_STATE);
	must_eq(vmbus_cli_resume(b.cli), 0);
	must_eq(vmbus_cli_resume(b.cli), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_RESUME, 0);
	(void)clibox_open_chan(&b, 1);
	must_eq(vmbus_cli_pause(b.cli), 0);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, VMBUS_CLI_PAUSED);
	must(b.act.status != 0);
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_pause__needs_the_feature)
{
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_pause(b.cli), VMBUS_E_NOTSUP);
	must_eq(vmbus_cli_resume(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_modify_connection(b.cli, 0, 0), VMBUS_E_NOTSUP);
	must_eq(vmbus_cli_modify_connection(b.cli, 0x1000, 0), VMBUS_E_INVAL);
	clibox_close(&b);
}
END_TEST

/* [CTL-MODIFY-CONNECTION] */
START_TEST(cli_modify_connection__answered)
{
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_MODIFY_CONNECTION };
	struct clibox b;

	clibox_open(&b, &o);
	must_eq(vmbus_cli_modify_connection(b.cli, 0, 0), VMBUS_E_STATE);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_modify_connection(b.cli, 0x1000, 0x2000), 0);
	must_eq(vmbus_cli_modify_connection(b.cli, 0x1000, 0x2000), VMBUS_E_AGAIN);
	clibox_post(&b, VMBUS_CTL_MODIFY_CONNECTION, 0);
	must_eq(clibox_posted(&b).u.connection.monitor_c2p, 0x2000);
	must_eq(clibox_say3(&b, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE, (uint32_t)_i, 0, 0), 0);
	must_eq(vmbus_cli_modify_connection(b.cli, 0, 0), VMBUS_E_AGAIN);
	clibox_take(&b, VMBUS_CLI_CONNECTION_MODIFIED);
	must_eq(b.act.status != 0, _i != 0);
	must_eq(vmbus_cli_modify_connection(b.cli, 0, 0), 0);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_CONNECTION_MODIFIED);
	must(b.act.status != 0);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* A pause and new monitor pages that cannot be posted for good; and answers that come too early. */
START_TEST(cli_pause__failures)
{
	const struct vmbus_cli_opts o = { .version_max = VMBUS_PROTO_6_0,
					  .features = VMBUS_FEATURE_PAUSE |
						      VMBUS_FEATURE_MODIFY_CONNECTION,
					  .queue_max = 2 };
	const struct vmbus_ctl_tl tl[2] = { { .endpoint_id = { { 1 } } },
					    { .endpoint_id = { { 2 } } } };
	struct clibox b;

	clibox_open(&b, &o);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_modify_connection(b.cli, 0x1000, 0x2000), 0);
	clibox_post(&b, VMBUS_CTL_MODIFY_CONNECTION, 0x05);
	clibox_take(&b, VMBUS_CLI_CONNECTION_MODIFIED);
	must_eq(b.act.status, 0x05);
	must_eq(vmbus_cli_pause(b.cli), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_PAUSE_RESPONSE, 0, 0, 0), 0);
	must_eq(clibox_stats(&b).out_of_order, 1);
	clibox_post(&b, VMBUS_CTL_PAUSE, 0x06);
	must_eq(vmbus_cli_resume(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_pause(b.cli), VMBUS_E_AGAIN); /* PAUSED not taken */
	clibox_take(&b, VMBUS_CLI_PAUSED);
	must_eq(b.act.status, 0x06);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl[0]), 0);
	must_eq(vmbus_cli_tl_connect(b.cli, &tl[1]), 0);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_FULL);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	must_eq(vmbus_cli_pause(b.cli), 0);
	clibox_post(&b, VMBUS_CTL_TL_CONNECT, 0);
	clibox_post(&b, VMBUS_CTL_PAUSE, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_PAUSE_RESPONSE, 0, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_PAUSED);
	must_eq(vmbus_cli_resume(b.cli), 0);
	must_eq(vmbus_cli_pause(b.cli), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(b.act.ctl_type, VMBUS_CTL_RESUME);
	must_eq(vmbus_cli_posted(b.cli, 0x05), 0); /* the parent would stay silent for ever */
	while (vmbus_cli_next(b.cli, &b.act) == 1 && b.act.act != VMBUS_CLI_UNLOADED)
		must(b.act.act == VMBUS_CLI_TL_RESULT || b.act.act == VMBUS_CLI_PAUSED);
	must_eq(b.act.act, VMBUS_CLI_UNLOADED);
	must_eq(b.act.status, 0x05);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

START_TEST(cli_unload__refuses_and_answers)
{
	struct vmbus_cli_ref list;
	struct clibox b;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	clibox_connect_n(&b, 2);
	list = clibox_gpadl(&b, 2);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	must_eq(vmbus_cli_unload(b.cli), 0);
	must_eq(vmbus_cli_unload(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_connect(b.cli), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), clibox_pfns, 4, &list), VMBUS_E_STATE);
	if (_i == 0) { /* the hypercall fails for good */
		clibox_post(&b, VMBUS_CTL_UNLOAD, 0x05);
	} else {
		clibox_post(&b, VMBUS_CTL_UNLOAD, 0);
		/* What was on its way is no violation: an offer, the rescind of one. */
		must_eq(clibox_offer(&b, 3, 3, 0), 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
		clibox_take(&b, VMBUS_CLI_RESCINDED);
		must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 1)), 0);
		must_eq(clibox_refused(&b), 0);
		if (_i == 1)
			must_eq(clibox_say3(&b, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0), 0);
		else
			vmbus_cli_disconnect(b.cli);
	}
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	if (_i == 0)
		clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_eq(vmbus_cli_connect(b.cli), VMBUS_E_AGAIN);
	clibox_take(&b, VMBUS_CLI_UNLOADED);
	must_eq(b.act.status == 0, _i == 1);
	clibox_take(&b, 0);
	cli_check(b.cli);
	/* Channels of the old connection are let go of without a message, the new one has its own. */
	clibox_connect_n(&b, 2);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* In each state of a page list and of a channel: every request is answered, what was seen is lost. */
START_TEST(cli_disconnect__answers_everything)
{
	struct vmbus_cli_ref list, seen, unseen, tearing, ring;
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, NULL);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, 0);
	must_eq(vmbus_cli_connect(b.cli), 0);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_REFUSED);
	clibox_take(&b, 0);
	clibox_connect_n(&b, 3);
	ring = clibox_open_chan(&b, 1);
	must_eq(vmbus_cli_modify(b.cli, clibox_chan(&b, 1), 1), 0);
	clibox_post(&b, VMBUS_CTL_MODIFY, 0);
	list = clibox_gpadl(&b, 2);
	open = clibox_rings(list);
	tearing = clibox_gpadl(&b, 2);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, tearing), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 3), clibox_pfns, 1, &seen), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 3), clibox_pfns, 1, &unseen), 0);
	must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 2), &open), 0);
	cli_check(b.cli);
	vmbus_cli_disconnect(b.cli);
	cli_check(b.cli);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, ring.slot);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, list.slot);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, tearing.slot);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, seen.slot);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must(b.act.list.slot == unseen.slot && b.act.status != 0);
	clibox_take(&b, VMBUS_CLI_MODIFIED);
	must(b.act.status != 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must(b.act.status != 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, 0);
	must_eq(vmbus_cli_version(b.cli), 0);
	must_eq(vmbus_cli_close(b.cli, clibox_chan(&b, 1)), 0); /* nothing is posted any more */
	must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 1)), 0);
	must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 2)), 0);
	clibox_take(&b, 0);
	cli_check(b.cli);
	clibox_connect_n(&b, 3);
	must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 3)), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* A POST handed out before the end is answered after it, and means nothing then. */
START_TEST(cli_disconnect__while_posting)
{
	struct clibox b;

	clibox_open(&b, NULL);
	clibox_connect_n(&b, 0);
	must_eq(vmbus_cli_unload(b.cli), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_UNLOADED);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_take(&b, 0); /* the hypercall is still under way */
	must_eq(vmbus_cli_posted(b.cli, 0x05), 0);
	must_eq(vmbus_cli_posted(b.cli, 0), VMBUS_E_STATE);
	clibox_post(&b, VMBUS_CTL_CONTACT, 0);
	must_eq(clibox_stats(&b).post_failures, 0);
	clibox_close(&b);
}
END_TEST

/*
 * A contact that is given up while it is posted: its answer, whenever it comes, is not taken for that
 * to the next one, which is.
 */
START_TEST(cli_disconnect__while_the_contact_is_posted)
{
	struct clibox b;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_REFUSED);
	if (_i == 1)
		must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0), 0);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_take(&b, 0);
	if (_i == 2)
		must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0), 0);
	if (_i == 3) { /* once more, and neither has gone out */
		vmbus_cli_disconnect(b.cli);
		clibox_take(&b, VMBUS_CLI_REFUSED);
		must_eq(vmbus_cli_connect(b.cli), 0);
	}
	must_eq(vmbus_cli_posted(b.cli, _i == 4 ? 0x05 : 0), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_posted(&b).u.contact.version, VMBUS_PROTO_5_3);
	if (_i == 0 || _i == 3)
		must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0), 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, VMBUS_CONN_MESSAGE, 0), 0);
	must_eq(vmbus_cli_posted(b.cli, 0), 0);
	clibox_take(&b, VMBUS_CLI_CONNECTED);
	must_eq(clibox_stats(&b).out_of_order, _i != 4);
	clibox_close(&b);
}
END_TEST

/* An answer may overtake the status of the hypercall that asked for it. */
START_TEST(cli_posted__after_the_answer)
{
	static const uint32_t statuses[] = { 0, 0x13, 0x05 };
	const uint32_t status = statuses[_i];
	struct vmbus_cli_ref chan, list;
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_connect(b.cli), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0), 0);
	must_eq(vmbus_cli_posted(b.cli, status), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_posted(&b).u.contact.version, VMBUS_PROTO_5_2);
	must_eq(clibox_say3(&b, VMBUS_CTL_VERSION_RESPONSE, 1, 1, 0), 0);
	clibox_take(&b, VMBUS_CLI_CONNECTED);
	clibox_take(&b, 0);
	must_eq(vmbus_cli_posted(b.cli, status), 0);
	clibox_post(&b, VMBUS_CTL_REQUEST_OFFERS, 0);
	must_eq(clibox_offer(&b, 1, 1, 0), 0);
	clibox_take(&b, VMBUS_CLI_OFFERED);
	chan = b.act.chan;
	must_eq(vmbus_cli_gpadl(b.cli, chan, clibox_pfns, 4, &list), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 0), 0);
	must_eq(vmbus_cli_posted(b.cli, status), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must_eq(b.act.status, 0);
	open = clibox_rings(list);
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, clibox_posted(&b).u.open.open_id, 0), 0);
	must_eq(vmbus_cli_posted(b.cli, status), 0);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must_eq(b.act.status, 0);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPEN);
	clibox_take(&b, 0);
	must_eq(clibox_refused(&b), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "connection", 10);

	tcase_add_test(tc, cli_init__refuses_arguments);
	tcase_add_loop_test(tc, cli_init__limits, 0, LIMITS);
	tcase_add_test(tc, cli_connect__tries_versions_downwards);
	tcase_add_loop_test(tc, cli_connect__agrees, 0, VERSIONS);
	tcase_add_test(tc, cli_connect__no_contact_port_means_next_version);
	tcase_add_test(tc, cli_connect__features);
	tcase_add_loop_test(tc, cli_unload__refuses_and_answers, 0, 3);
	tcase_add_test(tc, cli_disconnect__answers_everything);
	tcase_add_test(tc, cli_disconnect__while_posting);
	tcase_add_loop_test(tc, cli_disconnect__while_the_contact_is_posted, 0, 5);
	tcase_add_test(tc, cli_pause__and_resume);
	tcase_add_test(tc, cli_pause__needs_the_feature);
	tcase_add_test(tc, cli_pause__failures);
	tcase_add_loop_test(tc, cli_modify_connection__answered, 0, 2);
	tc = vmbus_test_case(suite, "posting", 10);
	tcase_add_test(tc, cli_posted__not_now_tries_again);
	tcase_add_test(tc, cli_posted__failure_goes_to_the_owner);
	tcase_add_loop_test(tc, cli_posted__after_the_answer, 0, 3);
	tcase_add_test(tc, cli_calls__full_queue);
}

VMBUS_TEST_MAIN("channel.cli", tests)
