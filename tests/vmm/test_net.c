/* SPDX-License-Identifier: MIT */
/* Networks of vmbus-vmm: the words, the options, and what is told of what cannot be opened. */
#define _GNU_SOURCE
#include "vmm_test.h"

#include "nic.h"

static struct nic_spec spec;
static char why[NIC_WHY_BYTES];

START_TEST(nic_parse__takes_all_words)
{
	const uint8_t mac[6] = { 2, 0, 0, 0, 0xAB, 0x1c };

	ck_assert_int_eq(
		nic_parse(&spec,
			  "tap=tap0,mac=02:00:00:00:aB:1C,queues=4,mtu=9000,capture=a.pcapng,"
			  "name=one,snap=128,spin=20,link=down,no-offload,no-pack,no-rsc,"
			  "id=00112233-4455-6677-8899-aabbccddeeff",
			  why),
		0);
	ck_assert_int_eq(spec.kind, NIC_TAP);
	ck_assert_str_eq(spec.source, "tap0");
	ck_assert(memcmp(spec.mac, mac, 6) == 0);
	ck_assert_uint_eq(spec.queues, 4);
	ck_assert_uint_eq(spec.mtu, 9000);
	ck_assert_str_eq(spec.capture, "a.pcapng");
	ck_assert_uint_eq(spec.snap, 128);
	ck_assert_str_eq(spec.name, "one");
	ck_assert_uint_eq(spec.spin_us, 20);
	ck_assert(spec.link_down && spec.no_offload && spec.no_pack && spec.no_rsc);
	ck_assert_int_eq(nic_parse(&spec,
				   "user,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:53-:53,"
				   "restrict,network=10.1.0.0/16,link=up",
				   why),
			 0);
	ck_assert_int_eq(spec.kind, NIC_USER);
	ck_assert(spec.restricted && !spec.link_down);
	ck_assert_uint_eq(spec.forwards, 2);
	ck_assert_str_eq(spec.forward[0], "tcp::2222-:22");
	ck_assert_str_eq(spec.forward[1], "udp:127.0.0.1:53-:53");
	ck_assert_str_eq(spec.network, "10.1.0.0/16");
	ck_assert_uint_eq(spec.queues, 1);
	ck_assert_int_eq(nic_parse(&spec, "switch=/run/s", why), 0);
	ck_assert_int_eq(spec.kind, NIC_SWITCH);
	ck_assert_str_eq(spec.source, "/run/s");
	ck_assert_int_eq(nic_parse(&spec, "packet=eth0", why), 0);
	ck_assert_int_eq(spec.kind, NIC_PACKET);
	ck_assert_int_eq(nic_parse(&spec, "null", why), 0);
	ck_assert_int_eq(spec.kind, NIC_NULL);
}
END_TEST

static const struct {
	const char *text, *said;
} wrong_words[] = {
	{ "", "a network begins with tap=NAME, user" },
	{ "tap", "tap: a network begins with" },
	{ "tap=", "tap=: 1 to 15 characters follow" },
	{ "tap=0123456789abcdef", "1 to 15 characters" },
	{ "packet=", "packet=: 1 to 15" },
	{ "switch=", "switch=: 1 to 96" },
	{ "null,frob", "frob: no such word; there are mac=" },
	{ "null,mac=02:00:00:00:00", "mac=02:00:00:00:00: it is six bytes" },
	{ "null,mac=02:00:00:00:00:0g", "it is six bytes" },
	{ "null,mac=02:00:00:00:00:001", "it is six bytes" },
	{ "null,mac=01:00:00:00:00:01", "of which the first is even" },
	{ "null,queues=0", "queues=0: it is 1 to 64" },
	{ "null,queues=65", "queues=65: it is 1 to 64" },
	{ "null,queues=", "queues=: it is" },
	{ "null,mtu=1499", "mtu=1499: it is 1500 to 9202" },
	{ "null,mtu=9203", "mtu=9203" },
	{ "null,mtu=99999999999999999999", "mtu=9999" },
	{ "null,spin=10001", "spin=10001: it is 0 to 10000" },
	{ "null,snap=63,capture=c", "snap=63: it is 64 to" },
	{ "null,snap=64", "snap= is for capture=" },
	{ "null,capture=", "capture=: 1 to 255" },
	{ "null,name=", "name=: 1 to 31" },
	{ "null,id=12", "id=12: it is a GUID" },
	{ "null,hostfwd=tcp::1-:2", "hostfwd=, network= and restrict are for user" },
	{ "null,restrict", "are for user" },
	{ "tap=a,network=10.0.0.0/8", "are for user" },
	{ "user,hostfwd=", "hostfwd=: 1 to 63" },
	{ "user,network=", "network=: 1 to 23" },
	{ "null,link=sideways", "link=sideways: no such word" },
	{ "null,", "null: a comma with nothing behind it" },
	{ "null,,mtu=1500", "a comma with nothing behind it" },
	{ "null,queues=2,queues=3", "queues=3: queues= is there already" },
	{ "null,link=up,mtu=1500,link=down", "link=down: link= is there already" },
	{ "null,no-rsc,no-rsc", "no-rsc is there already" },
};

START_TEST(nic_parse__says_what_is_wrong)
{
	ck_assert_int_eq(nic_parse(&spec, wrong_words[_i].text, why), -1);
	ck_assert_msg(strstr(why, wrong_words[_i].said) != NULL, "said: %s", why);
}
END_TEST

START_TEST(nic_parse__takes_so_many_forwards_and_no_more)
{
	char text[1200] = "user";
	uint32_t i;

	for (i = 0; i < NIC_FORWARDS_MAX; i++)
		strcat(text, ",hostfwd=:1-:1");
	ck_assert_int_eq(nic_parse(&spec, text, why), 0);
	ck_assert_uint_eq(spec.forwards, NIC_FORWARDS_MAX);
	strcat(text, ",hostfwd=:1-:1");
	ck_assert_int_eq(nic_parse(&spec, text, why), -1);
	ck_assert(strstr(why, "16 of them are the most") != NULL);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ck_assert_int_eq(nic_parse(&spec, text, why), -1);
	ck_assert(strstr(why, "is too long") != NULL);
}
END_TEST

START_TEST(nic_mac_text__is_what_nic_mac_takes)
{
	uint8_t mac[6];
	char text[18];

	ck_assert_int_eq(nic_mac("fe:dc:BA:98:00:01", mac), 0);
	ck_assert_str_eq(nic_mac_text(mac, text), "fe:dc:ba:98:00:01");
}
END_TEST

static struct vmm_opts opts;

START_TEST(options__takes_networks)
{
	char *argv[32] = { "vmbus-vmm", "--kernel", "k" };
	int i, argc = 3;

	for (i = 0; i < 8; i++) {
		argv[argc++] = "--net";
		argv[argc++] = i == 2 ? "user,queues=1" : "null,mac=02:00:00:00:00:01";
	}
	ck_assert_int_eq(vmm_options(&opts, argc, argv), 0);
	ck_assert_uint_eq(opts.net_count, 8);
	ck_assert_int_eq(opts.nets[2].kind, NIC_USER);
	argv[argc++] = "--net";
	argv[argc++] = "null";
	listen_to_us();
	ck_assert_int_eq(vmm_options(&opts, argc, argv), -1);
	ck_said("--net null: 8 of them are the most");
	argv[4] = "null,queues=65";
	listen_to_us();
	ck_assert_int_eq(vmm_options(&opts, argc, argv), -1);
	ck_said("--net queues=65: it is 1 to 64");
	argv[4] = "null,capture=one";
	argv[6] = "null,capture=two";
	listen_to_us();
	ck_assert_int_eq(vmm_options(&opts, 9, argv), 0);
	argv[8] = "null,capture=one";
	ck_assert_int_eq(vmm_options(&opts, 9, argv), -1);
	ck_said("--net capture=one: another port writes to that file");
}
END_TEST

static const struct {
	const char *text, *said;
} not_there[] = {
	{ "switch=/nowhere/at/all", "switch=/nowhere/at/all: " },
	{ "packet=nosuchport", "packet=nosuchport: " },
	{ "tap=a/b", "tap=a/b: " },
	{ "packet=lo", "packet=lo: lo: " },
	{ "null,capture=/nowhere/at/all", "capture=/nowhere/at/all: No such file or directory" },
};

START_TEST(nic_open__says_what_is_not_there)
{
	struct vmbus_port port;

	ck_assert_int_eq(nic_parse(&spec, not_there[_i].text, why), 0);
	ck_assert_int_eq(nic_open(&spec, "test", NULL, &port, why), -1);
	ck_assert_msg(strstr(why, not_there[_i].said) == why, "said: %s", why);
	ck_assert(port.ops == NULL);
}
END_TEST

START_TEST(nic_open__null_takes_all)
{
	struct vmbus_port_queue queue = { .fd = -1 };
	const struct vmbus_frame frames[3] = { { 0 } };
	struct vmbus_port_info info;
	struct vmbus_port port;

	ck_assert_int_eq(nic_parse(&spec, "null", why), 0);
	ck_assert_int_eq(nic_open(&spec, "test", NULL, &port, why), 0);
	ck_assert_int_eq(port.ops->info(port.ctx, &info), 0);
	ck_assert(info.up);
	ck_assert_uint_eq(port.ops->send(&queue, frames, 3), 3);
	nic_close(&port);
	ck_assert(port.ops == NULL);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "net", 20);

	tcase_add_test(tc, nic_parse__takes_all_words);
	tcase_add_loop_test(tc, nic_parse__says_what_is_wrong, 0,
			    (int)(sizeof(wrong_words) / sizeof(wrong_words[0])));
	tcase_add_test(tc, nic_parse__takes_so_many_forwards_and_no_more);
	tcase_add_test(tc, nic_mac_text__is_what_nic_mac_takes);
	tcase_add_test(tc, options__takes_networks);
	tcase_add_loop_test(tc, nic_open__says_what_is_not_there, 0,
			    (int)(sizeof(not_there) / sizeof(not_there[0])));
	tcase_add_test(tc, nic_open__null_takes_all);
}

VMBUS_TEST_MAIN("vmm.net", tests)
