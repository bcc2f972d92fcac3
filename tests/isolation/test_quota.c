/* SPDX-License-Identifier: MIT */
/*
 * Everything that a child can grow has a limit, an option that sets it, and a counter that tells when
 * it was reached; the table is QUOTAS in vmbus_bus(7).  Quotas of the machine of the protocol are
 * tests/channel's, and those of providers tests/provider's.
 */
#include "bus/fake.h"
#include "isolation/shared.h"

static struct vmbus_bus_stats stats_of(const struct fake *f)
{
	struct vmbus_bus_stats stats;

	vmbus_bus_stats(f->bus, &stats);
	return stats;
}

START_TEST(quota__posts_max)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct vmbus_bus *bus = NULL;
	struct fake f;
	uint32_t i;

	fake_prepare(&f, 64);
	f.opts.posts_max = 65;
	must_eq(vmbus_bus_create(&f.opts, &bus), VMBUS_E_RANGE);
	f.opts.posts_max = 4;
	fake_create(&f);
	for (i = 0; i < 4; i++)
		must_eq(fake_try_post(&f, VMBUS_CONN_MESSAGE, &ctl), VMBUS_HC_OK);
	must_eq(fake_try_post(&f, VMBUS_CONN_MESSAGE, &ctl), VMBUS_HC_NO_BUFFERS);
	must_eq(stats_of(&f).posts_refused, 1);
	fake_run(&f);
	must_eq(fake_try_post(&f, VMBUS_CONN_MESSAGE, &ctl), VMBUS_HC_OK);
	fake_run(&f);
	fake_fini(&f);
}
END_TEST

START_TEST(quota__log_lines_max)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct fake f;
	uint32_t i;

	fake_prepare(&f, 64);
	f.opts.log_lines_max = 2;
	fake_create(&f);
	for (i = 0; i < 30; i++) { /* out of order: each is refused, and would be a line */
		must_eq(fake_try_post(&f, VMBUS_CONN_MESSAGE, &ctl), VMBUS_HC_OK);
		fake_run(&f);
	}
	must(f.lines >= 2 && f.lines <= 6); /* the second may have ended meanwhile, once */
	must(stats_of(&f).log_dropped >= 30 - 6);
	must_eq(stats_of(&f).srv.out_of_order, 30);
	fake_fini(&f);
}
END_TEST

START_TEST(quota__channels)
{
	const struct vmbus_offer_opts monitored = { .struct_bytes = sizeof(monitored),
						    .monitor_us = 1000 };
	struct fake_echo echo = { 0 };
	struct fake f;
	uint32_t i;

	fake_prepare(&f, 64);
	f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits), .chans_max = 130 };
	fake_create(&f);
	for (i = 0; i < 128; i++)
		must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &monitored, NULL), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &monitored, NULL), VMBUS_E_FULL);
	must_eq(stats_of(&f).offers_refused, 1);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), VMBUS_E_FULL);
	must_eq(stats_of(&f).offers_refused, 2);
	must_eq(vmbus_bus_offer(f.bus, NULL, &echo, NULL, NULL), VMBUS_E_INVAL);
	must_eq(stats_of(&f).offers_refused, 2);
	fake_fini(&f);
}
END_TEST

/* Sub-channels that a child asks a device for. */
static void subs_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	(void)n;
	(void)vmbus_chan_offer_subchannels(chan, 10);
}

static const struct vmbus_vsp subs_vsp = {
	.struct_bytes = sizeof(subs_vsp),
	.name = "subs",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0003, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 1),
	.packets = subs_packets,
};

START_TEST(quota__sub_channels)
{
	struct fake_chan c;
	struct fake f;

	fake_prepare(&f, 64);
	f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits), .chans_max = 5 };
	fake_create(&f);
	fake_offer(&f, &subs_vsp, NULL, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	must_eq(fake_send(&c, 1, "more", 4), 1);
	fake_run(&f);
	must_eq(stats_of(&f).srv.channels, 5);
	must_eq(stats_of(&f).offers_refused, 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static void set_up(struct fake *f, struct fake_echo *echo, struct fake_chan *c)
{
	memset(echo, 0, sizeof(*echo));
	fake_offer(f, &fake_echo_vsp, echo, 0);
	fake_contact(f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(f, c, 1), 1);
}

START_TEST(quota__ring_bytes_and_lists_of_no_memory)
{
	static uint64_t nowhere[4] = { 1, 2, 1 << 20, 4 };
	struct fake_echo echo;
	struct vmbus_ctl ctl;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 2200);
	set_up(&f, &echo, &c);
	must(fake_open(&f, &c, 1026, 1026) != 0); /* 4 MiB and a page each */
	must_eq(stats_of(&f).opens_refused, 1);
	must(fake_logged(&f, "limit 4194304"));
	fake_gpadl(&f, c.relid, 0x77, nowhere, 4);
	fake_expect(&f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must(ctl.u.created.status != 0);
	must_eq(stats_of(&f).lists_refused, 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(quota__mirrors_max)
{
	struct fake_echo echo;
	struct fake_chan c;
	struct fake f;

	fake_prepare(&f, 64);
	f.region.fd = f.fd;
	f.opts.mirrors_max = 1;
	fake_create(&f);
	set_up(&f, &echo, &c);
	must_eq(fake_open(&f, &c, 5, 5), 0); /* the other ring has a split window, and works */
	must_eq(stats_of(&f).mirrored, 1);
	must_eq(stats_of(&f).mirrors_refused, 1);
	must_eq(fake_send(&c, 1, "x", 1), 1);
	fake_run(&f);
	must_eq(echo.packets, 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* Two channels want a buffer of 100 KB each, and there is a quota for one. */
START_TEST(quota__buf_bytes_max)
{
	static uint8_t large[100000];
	struct fake_echo echo[2] = { { 0 } };
	struct fake_chan c[2];
	struct fake f;
	uint32_t i;

	fake_prepare(&f, 400);
	f.opts.buf_bytes_max = 150000;
	fake_create(&f);
	fake_offer(&f, &fake_echo_vsp, &echo[0], 0);
	fake_offer(&f, &fake_echo_vsp, &echo[1], 1);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 2), 2);
	for (i = 0; i < 2; i++)
		must_eq(fake_open(&f, &c[i], 40, 40), 0);
	for (i = 0; i < 2; i++) {
		must_eq(fake_send(&c[i], 1, large, sizeof(large)), 1);
		fake_run(&f);
	}
	must_eq(echo[0].packets, 1);
	must_eq(echo[1].packets, 0);
	must_eq(stats_of(&f).bufs_refused, 1);
	must_eq(stats_of(&f).faults, 1);
	must(fake_logged(&f, "no memory for a packet"));
	/* The quota comes back with the close. */
	fake_post_close(&f, &c[0]);
	fake_run(&f);
	fake_rings(&f, &c[0], 40, 40);
	fake_post_open(&f, &c[0], 0);
	fake_run(&f);
	must_eq(fake_send(&c[0], 1, large, sizeof(large)), 1);
	fake_run(&f);
	must_eq(echo[0].packets, 2);
	must_eq(stats_of(&f).bufs_refused, 1);
	for (i = 0; i < 2; i++)
		fake_chan_free(&c[i]);
	fake_fini(&f);
}
END_TEST

/* A buffer that grows takes what it grows by, not its whole length beside what it was. */
START_TEST(quota__buf_bytes_max_of_a_buffer_that_grows)
{
	static uint8_t large[120000];
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct fake f;
	uint32_t round;

	fake_prepare(&f, 400);
	f.opts.buf_bytes_max = 130000;
	fake_create(&f);
	fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	for (round = 0; round < 2; round++) {
		uint32_t bytes;

		fake_rings(&f, &c, 80, 80);
		if (round == 0) {
			c.gpadl = f.next_gpadl++;
			must_eq(fake_share(&f, c.relid, c.gpadl, c.first, 160), 0);
		}
		fake_post_open(&f, &c, 0);
		fake_run(&f);
		for (bytes = 20000; bytes <= sizeof(large); bytes += 20000) {
			must_eq(fake_send(&c, 0, large, bytes), 1);
			fake_run(&f);
		}
		must_eq(echo.packets, 6 * (round + 1));
		must_eq(stats_of(&f).bufs_refused, 0);
		fake_post_close(&f, &c);
		fake_run(&f);
	}
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static struct vmbus_shm_server_stats server_of(const struct host *host)
{
	struct vmbus_shm_server_stats stats;

	vmbus_shm_server_stats(host->server, &stats);
	return stats;
}

static uint32_t refused_with(struct host *host, uint64_t memory, uint32_t vps)
{
	const struct vmbus__shm_msg hello = raw_hello(memory, vps);
	struct vmbus__shm_record record;
	const int sock = raw_connect(host->path);
	struct vmbus__shm_msg msg;

	raw_say(sock, &hello);
	msg = raw_answer(host, sock, &record);
	must_eq(msg.type, VMBUS_SHM_REFUSED);
	vmbus__shm_record_close(&record);
	close(sock);
	host_spin(host);
	return msg.u.text.code;
}

START_TEST(quota__of_a_server)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct host host;
	int sock;

	host_init(&host);
	host.opts.children_max = 1;
	host.opts.memory_bytes_max = 1 << 20;
	host.opts.vps_max = 2;
	host_listen(&host);
	must_eq(refused_with(&host, 2 << 20, 1), VMBUS_SHM_CODE_MEMORY);
	must_eq(server_of(&host).quota_memory, 1);
	must_eq(refused_with(&host, 1 << 20, 3), VMBUS_SHM_CODE_VPS);
	must_eq(server_of(&host).quota_vps, 1);
	sock = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	must_eq(server_of(&host).attached, 1);
	must_eq(server_of(&host).children, 1);
	must_eq(refused_with(&host, 1 << 20, 1), VMBUS_SHM_CODE_FULL);
	must_eq(server_of(&host).quota_children, 1);
	close(sock);
	host_spin(&host);
	must_eq(server_of(&host).children, 0);
	must_eq(server_of(&host).ended[VMBUS_SHM_DIED], 1);
	host.refuse = VMBUS_E_PERM;
	must_eq(refused_with(&host, 1 << 20, 1), VMBUS_SHM_CODE_DENIED);
	must_eq(server_of(&host).refused, 1);
	must_eq(server_of(&host).attached, 1);
	host_close(&host);
}
END_TEST

/* Connections that say nothing: the oldest gives way to the 65th. */
START_TEST(quota__silent_connections)
{
	int sock[70], i;
	struct host host;

	host_open(&host);
	for (i = 0; i < 70; i++) {
		sock[i] = raw_connect(host.path);
		host_spin(&host);
	}
	must_eq(server_of(&host).quota_conns, 70 - 64);
	must(raw_is_closed(sock[0]));
	must(!raw_is_closed(sock[69]));
	for (i = 0; i < 70; i++)
		close(sock[i]);
	host_spin(&host);
	host_close(&host);
}
END_TEST

/* Children that die and return all the time: 64 at once, then so many in a second. */
START_TEST(quota__attach_rate_max)
{
	const struct vmbus__shm_msg hello = raw_hello(1 << 20, 1);
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	int sock, i;

	host_init(&host);
	host.opts.attach_rate_max = 1; /* one a second: none comes meanwhile, but for one at most */
	host_listen(&host);
	for (i = 0; i < 64; i++) {
		sock = raw_attach(&host, &welcome, &record);
		vmbus__shm_record_close(&record);
		close(sock);
		host_spin(&host);
	}
	for (i = 0; i < 64 && server_of(&host).quota_attach == 0; i++) {
		sock = raw_connect(host.path);
		raw_say(sock, &hello);
		host_spin(&host);
		if (server_of(&host).quota_attach == 0)
			close(sock);
	}
	must(i >= 1 && i < 64);
	must_eq(server_of(&host).quota_attach, 1);
	must_eq(vmbus__shm_recv(sock, &record), 0); /* it waits, and is not refused */
	host_until(&host, vmbus__shm_recv(sock, &record) == 1);
	must_eq(vmbus__shm_decode(record.bytes, record.len, &msg), 0);
	must_eq(msg.type, VMBUS_SHM_WELCOME);
	vmbus__shm_record_close(&record);
	must_eq(server_of(&host).quota_attach, 1); /* it waited once */
	close(sock);
	host_spin(&host);
	must_eq(host.attached, host.detached);
	host_close(&host);
}
END_TEST

/* A child that waits for its time to attach and goes away is forgotten. */
START_TEST(quota__attach_rate_and_no_patience)
{
	const struct vmbus__shm_msg hello = raw_hello(1 << 20, 1);
	struct host host;
	int sock, i, fds;

	host_init(&host);
	host.opts.attach_rate_max = 1;
	host_listen(&host);
	fds = vmbus_test_count_fds();
	for (i = 0; i < 80; i++) {
		sock = raw_connect(host.path);
		raw_say(sock, &hello);
		host_spin(&host);
		close(sock);
		host_spin(&host);
	}
	must(server_of(&host).quota_attach >= 10);
	must(server_of(&host).attached <= 70);
	must_eq(vmbus_test_count_fds(), fds);
	host_close(&host);
}
END_TEST

/* A child that attached() finds no place for was made; one that asks for the impossible was not. */
START_TEST(quota__attach_rate_counts_what_was_made)
{
	struct vmbus__shm_msg hello = raw_hello(1 << 20, 1);
	const time_t start = time(NULL);
	struct host host;
	int sock, i;

	host_init(&host);
	host.opts.attach_rate_max = 1;
	host.refuse = VMBUS_E_FULL;
	host_listen(&host);
	hello.u.hello.flags = 1u << 31;
	for (i = 0; i < 160; i++) {
		if (i == 80)
			hello.u.hello.flags = 0;
		must(i != 80 || server_of(&host).refused == 80);
		sock = raw_connect(host.path);
		raw_say(sock, &hello);
		host_spin(&host);
		close(sock);
		host_spin(&host);
	}
	must(host.attached >= 60);
	must(host.attached <= 67 + (time(NULL) - start));
	must(server_of(&host).quota_attach >= 10);
	host_close(&host);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "quota", 10);

	tcase_add_test(tc, quota__posts_max);
	tcase_add_test(tc, quota__log_lines_max);
	tcase_add_test(tc, quota__channels);
	tcase_add_test(tc, quota__sub_channels);
	tcase_add_test(tc, quota__ring_bytes_and_lists_of_no_memory);
	tcase_add_test(tc, quota__mirrors_max);
	tcase_add_test(tc, quota__buf_bytes_max);
	tcase_add_test(tc, quota__buf_bytes_max_of_a_buffer_that_grows);
	tcase_add_test(tc, quota__of_a_server);
	tcase_add_test(tc, quota__silent_connections);
	tcase_add_test(tc, quota__attach_rate_max);
	tcase_add_test(tc, quota__attach_rate_and_no_patience);
	tcase_add_test(tc, quota__attach_rate_counts_what_was_made);
}

VMBUS_TEST_MAIN("isolation.quota", tests)
