/* SPDX-License-Identifier: MIT */
/* vmbus-switch and its children: who hears whom, what a kill and a slow receiver cost, plugs, names. */
#include "netd.h"

#define MANY 20000u

/* All that it is to serve NICs with. */
static const char *const ways[] = { "", "--threads 2 --channels 2",
				    "--no-sandbox --spin 20 --threads 1" };
#define WAYS (int)(sizeof(ways) / sizeof(ways[0]))

/* One more frame from a to b, which gets it. */
static void pass(struct end *a, struct end *b, uint32_t number)
{
	const uint64_t until = now_ns() + WAIT_NS;
	const uint64_t want = b->got + 1;

	while (!end_send(a, b, number)) {
		ck_assert_msg(now_ns() < until, "there is no room");
		end_turn(a, 10);
		end_turn(b, 0);
	}
	until_got(b, want);
}

START_TEST(serve__children_reach_each_other)
{
	struct end a = { 0 }, b = { 0 }, c = { 0 };
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch(ways[_i]);
	end_open(&a, "a");
	end_open(&b, "b");
	end_open(&c, "c");
	must(memcmp(a.mac, b.mac, 6) != 0 && !(a.mac[0] & 1));
	must(end_send(&a, NULL, 1));
	until_got(&b, 1);
	until_got(&c, 1);
	pass(&b, &a, 2);
	pass(&a, &b, 3);
	pass(&c, &b, 4);
	end_turn(&c, 20);
	must_eq(c.got, 1); /* what was for others it has not heard */
	must_eq(shell("$sw stat s 2>&1"), 0);
	must_eq(counter(" a nic", "in"), 2);
	must_eq(counter(" a nic", "out"), 1);
	must_eq(counter(" b nic", "out"), 3);
	must_eq(counter(" c nic", "out"), 1);
	must_eq(counter(" a nic", "flooded"), 1);
	must_eq(counter("\nnic b", "received"), 3);
	must_eq(counter("\nnic c", "sent"), 1);
	must_say("ok addresses=3");
	must_eq(shell("$sw stat s --json | python3 -c 'import json,sys; j = json.load(sys.stdin); "
		      "p = {x[\"name\"]: x for x in j[\"ports\"]}; "
		      "n = {x[\"name\"]: x for x in j[\"nics\"]}; "
		      "print(j[\"schema\"], p[\"a\"][\"kind\"], p[\"a\"][\"in\"], "
		      "p[\"b\"][\"out\"], n[\"c\"][\"sent\"], n[\"a\"][\"mac\"], "
		      "len(j[\"addresses\"]), j[\"addresses_known\"])'"),
		0);
	must_say("vmbus-switch-stat/1 nic 2 3 1 ");
	must_say(" 3 3\n");
	end_close(&a);
	end_close(&b);
	end_close(&c);
	must_eq(stop(pid), 0);
	must_eq(access(in_place("s.ctl"), F_OK), -1);
	must_eq(access(in_place("s"), F_OK), -1);
	finish();
}
END_TEST

/* A child that does nothing but send, to itself: the switch drops that. */
static pid_t start_sender(void)
{
	int ends[2];
	pid_t pid;
	char c;

	must_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		static struct end e;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		end_open(&e, "sender");
		(void)!write(ends[1], "x", 1);
		for (;;)
			if (!end_send(&e, &e, 0))
				end_turn(&e, 1);
	}
	close(ends[1]);
	must_eq(read(ends[0], &c, 1), 1);
	close(ends[0]);
	return pid;
}

START_TEST(serve__a_killed_child_costs_others_nothing)
{
	struct end a = { 0 }, b = { .counts = true, .from = &a };
	uint32_t i, kills = 0;
	pid_t pid, sender;

	NEEDS_SWITCH();
	begin();
	pid = start_switch(ways[_i]);
	end_open(&a, "a");
	end_open(&b, "b");
	sender = start_sender();
	pass(&b, &a, 0);
	for (i = 0; i < 2000; i++) {
		pass(&a, &b, i);
		if (i % 500 == 250) {
			kill(sender, SIGKILL);
			must_eq(end_of(sender), 128 + SIGKILL);
			sender = start_sender();
			kills++;
		}
	}
	must_eq(kills, 4);
	must_eq(b.wrong, 0);
	kill(sender, SIGKILL);
	(void)end_of(sender);
	must_eq(shell("for i in $(seq 500); do grep -c 'sender.* has died' errors | grep -qx 5 && "
		      "break; "
		      "sleep 0.01; done; grep -c 'sender.* has died' errors"),
		0);
	must_say("5\n");
	/* Nothing of it is left. */
	must_eq(shell("for i in $(seq 500); do $sw stat s | grep -q sender || break; sleep 0.01; "
		      "done; $sw stat s | grep -c sender"),
		1);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* Frames for c were dropped, by the switch for want of room or by c's own queue, and counted. */
static bool lost_some(const struct end *c)
{
	uint64_t sent, received;

	must_eq(shell("$sw stat s 2>&1"), 0);
	c->port.ops->dropped(c->port.ctx, &sent, &received);
	return counter(" c nic", "no_room") + counter("\nnic c", "no_room") + received > 0;
}

/*
 * c takes nothing: what is for it fills its own queues and no more.  How many frames they hold depends on
 * how many go together into one message, which the scheduler decides: so they are filled until they are full.
 */
START_TEST(serve__a_slow_receiver_loses_its_own_frames_only)
{
	struct end a = { 0 }, b = { .counts = true, .from = &a }, c = { .full = true };
	char way[160];
	uint32_t i;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	/* A small queue, so that it is full soon however slow we are. */
	(void)snprintf(way, sizeof(way), "%s --queue-bytes 131072", ways[_i]);
	pid = start_switch(way);
	end_open(&a, "a");
	end_open(&b, "b");
	end_open(&c, "c");
	pass(&b, &a, 0);
	must(end_send(&c, &a, 0));
	until_got(&a, 2);
	for (i = 0; i < 20 * MANY && (i < MANY || i % MANY != 0 || !lost_some(&c)); i++) {
		while (!end_send(&a, &c, i))
			end_turn(&a, 10);
		if (i % 8 == 0)
			pass(&a, &b, i / 8);
		if (i % 64 == 0)
			end_turn(&c, 0);
	}
	ck_assert_msg(lost_some(&c), "%u frames, and c lost none: %s", i, said);
	must_eq(b.got, i / 8);
	must_eq(b.wrong, 0);
	must_eq(counter(" b nic", "no_room") + counter("\nnic b", "no_room"), 0);
	c.full = false; /* and it goes on as soon as it likes */
	c.port.ops->ready(&c.queue);
	must(c.got > 0);
	for (i = 0; i < 200; i++)
		end_turn(&c, 5);
	pass(&a, &c, 0);
	end_close(&a);
	end_close(&b);
	end_close(&c);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

static bool is_up(struct end *e)
{
	struct vmbus_port_info info;

	must_eq(e->port.ops->info(e->port.ctx, &info), 0);
	return info.up;
}

START_TEST(link__pulls_a_plug_and_puts_it_in)
{
	const uint64_t until = now_ns() + WAIT_NS;
	struct end a = { 0 }, b = { 0 };
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	end_open(&b, "b");
	must(is_up(&a));
	must_eq(shell("$sw link s a down 2>&1"), 0);
	while (is_up(&a) && now_ns() < until)
		end_turn(&a, 10);
	must(!is_up(&a) && a.changed && is_up(&b));
	a.changed = false;
	must_eq(shell("$sw link s a up 2>&1"), 0);
	while (!is_up(&a) && now_ns() < until)
		end_turn(&a, 10);
	must(is_up(&a) && a.changed);
	pass(&a, &b, 0);
	must_eq(shell("$sw link s nobody up 2>&1"), 1);
	must_say("there is no NIC nobody");
	must_eq(shell("$sw link s a sideways 2>&1"), 2);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(serve__names_and_addresses_stay)
{
	struct end a = { 0 }, b = { 0 };
	uint8_t mac[2][6];
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "same");
	end_open(&b, "same");
	memcpy(mac[0], a.mac, 6);
	memcpy(mac[1], b.mac, 6);
	must(memcmp(mac[0], mac[1], 6) != 0);
	must_eq(shell("$sw stat s 2>&1"), 0);
	must_say(" same nic");
	must_say(" same-2 nic");
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	must_eq(shell("rm -f errors"), 0);
	pid = start_switch("");
	memset(&a, 0, sizeof(a));
	end_open(&a, "same");
	must(memcmp(mac[0], a.mac, 6) == 0);
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(serve__refuses_more_than_its_ports)
{
	char why[200] = "";
	struct vmbus_port_uplink_opts opts = {
		.struct_bytes = sizeof(opts), .name = "c", .why = why, .why_bytes = sizeof(why)
	};
	struct end a = { 0 }, b = { 0 };
	struct vmbus_port port;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	opts.path = in_place("s");
	pid = start_switch("--ports 2");
	end_open(&a, "a");
	end_open(&b, "b");
	must(vmbus_port_uplink(&opts, &port) < 0);
	must(why[0] != 0);
	must_eq(shell("$sw join s --port null 2>&1"), 1);
	must_say("switch=s: all its ports are taken (");
	must_say("--ports gives more");
	pass(&a, &b, 0);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* The plug is one of the ports: there are fewer children than --ports, and still none more. */
START_TEST(serve__refuses_more_than_its_ports_beside_plugs)
{
	struct end a = { 0 };
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("--ports 2 --port null");
	end_open(&a, "a");
	must_eq(shell("$sw join s --port null --name k 2>&1"), 1);
	must_say("switch=s: all its ports are taken (k: the parent has no place left");
	must_eq(shell("grep 'k is refused: all 2 ports are taken, --ports gives more' errors"), 0);
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(join__says_what_the_switch_calls_it)
{
	struct end a = { 0 };
	pid_t pid, joined;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "same");
	joined = start("$sw join s --port null --name same" SANDBOX, NULL);
	must_eq(shell("for i in $(seq 1000); do grep -q 'joined s' errors && break; sleep 0.01; "
		      "done; grep 'joined s as same-2$' errors"),
		0);
	must_eq(shell("grep 'same-2 has come: process [0-9]*, which calls itself same$' errors"),
		0);
	must_eq(stop(joined), 0);
	must_eq(shell("grep 'pages lost' errors"), 1);
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(uplink__tells_that_its_parent_is_gone)
{
	const uint64_t until = now_ns() + WAIT_NS;
	struct vmbus_port_info info;
	uint64_t sent, received;
	struct end a = { 0 };
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	kill(pid, SIGKILL);
	must_eq(end_of(pid), 128 + SIGKILL);
	while (!a.port.ops->info(a.port.ctx, &info) && now_ns() < until)
		end_turn(&a, 10);
	must_eq(a.port.ops->info(a.port.ctx, &info), VMBUS_E_PEER);
	must(a.changed && !info.up);
	must(end_send(&a, NULL, 0)); /* taken, and dropped */
	a.port.ops->dropped(a.port.ctx, &sent, &received);
	must_eq(sent, 1);
	must_eq(received, 0);
	must_eq(poll(&(struct pollfd){ .fd = a.queue.fd, .events = POLLIN }, 1, 0), 0);
	end_close(&a);
	finish();
}
END_TEST

static bool is_readable(const struct end *e)
{
	struct pollfd p = { .fd = e->queue.fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void until_readable(const struct end *e)
{
	const uint64_t until = now_ns() + WAIT_NS;

	while (!is_readable(e)) {
		must(now_ns() < until);
		a_while();
	}
}

/* The frames that its guest had no room for. */
START_TEST(uplink__counts_what_goes_with_its_parent)
{
	const uint64_t until = now_ns() + WAIT_NS;
	struct end a = { 0 }, b = { .full = true };
	uint64_t sent, received;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	end_open(&b, "b");
	must(end_send(&a, &b, 0));
	while (!b.refused) {
		must(now_ns() < until);
		end_turn(&b, 10);
	}
	kill(pid, SIGKILL);
	(void)end_of(pid);
	b.changed = false;
	while (!b.changed) {
		must(now_ns() < until);
		end_turn(&b, 10);
	}
	b.port.ops->dropped(b.port.ctx, &sent, &received);
	must_eq(received, 1);
	must_eq(sent, 0);
	end_close(&a);
	end_close(&b);
	finish();
}
END_TEST

/* What a send that waits has seen to is not looked for again: nothing else tells of it. */
START_TEST(uplink__receives_while_it_cannot_send)
{
	struct end a = { .buffer_bytes = 256u << 10 }, b = { 0 };
	uint32_t i;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	end_open(&b, "b");
	while (is_readable(&a))
		end_turn(&a, 0);
	must(end_send(&b, &a, 0));
	until_readable(&a);
	must_eq(kill(pid, SIGSTOP), 0);
	for (i = 0; end_send(&a, &b, i); i++)
		must(i < 100000);
	must_eq(a.got, 1);
	kill(pid, SIGCONT);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* One that asks for frames before it sends again is still told that it can. */
START_TEST(uplink__tells_of_room_whatever_is_received_meanwhile)
{
	struct end a = { .buffer_bytes = 256u << 10 };
	uint32_t sent = 0;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	while (is_readable(&a))
		end_turn(&a, 0);
	must_eq(kill(pid, SIGSTOP), 0);
	while (end_send(&a, NULL, sent))
		must(sent++ < 100000);
	must_eq(kill(pid, SIGCONT), 0);
	must_eq(shell("for i in $(seq 1000); do $sw stat s | grep ' a nic' | grep ' in=%u ' && "
		      "break; "
		      "sleep 0.01; done",
		      sent),
		0);
	must_say(" in=");
	until_readable(&a);
	a.port.ops->ready(&a.queue);
	must(is_readable(&a));
	must(end_send(&a, NULL, 0));
	while (is_readable(&a))
		end_turn(&a, 0);
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* What came while nobody had it open: some of it waits in the ring, and is old all the same. */
START_TEST(uplink__drops_what_is_old_when_it_is_opened)
{
	struct end a = { 0 }, b = { 0 };
	uint64_t sent, received, before;
	uint32_t i;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	end_open(&b, "b");
	must(end_send(&b, &a, 0)); /* the switch knows where b is */
	until_got(&a, 1);
	b.port.ops->close(&b.queue);
	b.port.ops->dropped(b.port.ctx, &sent, &before);
	for (i = 0; i < 50; i++) {
		must(end_send(&a, &b, i));
		end_turn(&a, 1);
	}
	must_eq(shell("for i in $(seq 1000); do $sw stat s | grep ' b nic' | grep ' out=50 ' && "
		      "break; sleep 0.01; done"),
		0);
	must_say(" out=50 ");
	b.got = 0;
	must_eq(b.port.ops->open(&b.queue), 0);
	b.port.ops->dropped(b.port.ctx, &sent, &received);
	must_eq(received - before, 50);
	for (i = 0; i < 10; i++)
		end_turn(&b, 10);
	must_eq(b.got, 0);
	must(end_send(&a, &b, 0)); /* and what comes from now on is not */
	until_got(&b, 1);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(uplink__waits_as_long_as_told)
{
	struct end a = { .timeout_ns = UINT64_MAX };
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(uplink__says_what_is_wrong)
{
	char why[200] = "";
	struct vmbus_port_uplink_opts opts = { .struct_bytes = sizeof(opts),
					       .path = "/nowhere/at/all",
					       .why = why,
					       .why_bytes = sizeof(why) };
	struct vmbus_port port;
	pid_t pid;

	must(vmbus_port_uplink(&opts, &port) < 0);
	must(why[0] != 0);
	opts.struct_bytes = 8;
	must_eq(vmbus_port_uplink(&opts, &port), VMBUS_E_INVAL);
	must_eq(vmbus_port_uplink(NULL, &port), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	must_eq(vmbus_port_uplink(&opts, NULL), VMBUS_E_INVAL);
	opts.path = NULL;
	must_eq(vmbus_port_uplink(&opts, &port), VMBUS_E_INVAL);
	opts.path = "/nowhere";
	opts.buffer_bytes = (256u << 10) - 1;
	must_eq(vmbus_port_uplink(&opts, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = (15u << 20) + 1;
	must_eq(vmbus_port_uplink(&opts, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = 0;
	if (access(built("tools/vmbus-blk"), X_OK))
		return;
	begin(); /* a parent without a NIC */
	pid = start("$blk parent --quiet -s p", NULL);
	wait_for_file("p");
	opts.path = in_place("p");
	must_eq(vmbus_port_uplink(&opts, &port), VMBUS_E_RANGE);
	ck_assert_msg(strstr(why, "no network interface number 0") != NULL, "said: %s", why);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* A NIC in what somebody else is the parent of. */
START_TEST(serve__provides_a_nic_to_others)
{
	const uint64_t until = now_ns() + WAIT_NS;
	char why[200] = "";
	struct vmbus_port_uplink_opts opts = {
		.struct_bytes = sizeof(opts), .name = "child", .why = why, .why_bytes = sizeof(why)
	};
	struct end a = { 0 }, b = { 0 };
	struct vmbus_port port;
	pid_t parent, pid;

	NEEDS_SWITCH();
	if (access(built("tools/vmbus-blk"), X_OK))
		VMBUS_TEST_SKIP("vmbus-blk was not built");
	begin();
	parent = start("$blk parent --quiet -s p", NULL);
	wait_for_file("p");
	pid = start_switch("--attach p --name there");
	end_open(&a, "a");
	opts.path = in_place("p");
	while (vmbus_port_uplink(&opts, &port) && now_ns() < until)
		a_while();
	vmbus_port_destroy(&port);
	must_eq(shell("mv s s2; ln -s p s"), 0); /* end_open() goes to s */
	end_open(&b, "b");
	pass(&b, &a, 0);
	pass(&a, &b, 0);
	must_eq(shell("$sw stat s 2>&1"), 0);
	must_eq(counter(" there nic", "in"), 1);
	must_eq(stop(parent), 0);
	must_eq(shell("for i in $(seq 500); do $sw stat s | grep -q ' there ' || break; sleep "
		      "0.01; "
		      "done; $sw stat s | grep -c ' there '"),
		1);
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

static const struct {
	const char *words, *said;
	int status;
} wrong[] = {
	{ "", "what? serve, join, stat or link", 2 },
	{ "frob", "frob: what?", 2 },
	{ "serve", "where to listen", 2 },
	{ "serve s --frob", "what is this: --frob", 2 },
	{ "serve s t", "what is this: t", 2 },
	{ "serve --help", "usage: vmbus-switch serve SOCKET", 0 },
	{ "join s --help", "usage: vmbus-switch serve SOCKET", 0 },
	{ "stat --help", "usage: vmbus-switch serve SOCKET", 0 },
	{ "serve s --tap a --port tap=b,capture=c --port null,capture=c", "another port writes",
	  2 },
	{ "serve s --port user,hostfwd=::1-:1", "user: hostfwd=::1-:1: it is tcp:[HOST]:PORT", 1 },
	{ "serve s --port user,network=10.0.0.1/8", "user: network=10.0.0.1/8: ", 1 },
	{ "serve /etc/passwd", "there is something that is no socket", 1 },
	{ "serve s --ports 1", "--ports takes a number, 2 to 1024", 2 },
	{ "serve s --mtu", "--mtu takes a number, 1500 to 9202", 2 },
	{ "serve s --tap", "--tap needs a value", 2 },
	{ "serve s --port frob=1", "frob=1: a network begins with", 2 },
	{ "serve s --name ''", "1 to 31 characters", 2 },
	{ "serve s --packet nosuchport", "packet=nosuchport: ", 1 },
	{ "serve s --attach nowhere", "--attach nowhere: ", 1 },
	{ "serve /nowhere/at/all", "/nowhere/at/all", 1 },
	{ "join", "which switch", 2 },
	{ "join s", "what joins it?", 2 },
	{ "join nowhere --port null", "switch=nowhere: ", 1 },
	{ "join nowhere --port null --queue-bytes 200000", "a power of two, 131072 to", 2 },
	{ "serve s --queue-bytes 65536", "a power of two, 131072 to", 2 },
	{ "stat", "of which switch", 2 },
	{ "stat s --frob", "of which switch", 2 },
	{ "stat nowhere --json", "nowhere: no vmbus-switch serves there: nowhere.ctl: No such", 1 },
	{ "stat nowhere", "nowhere: no vmbus-switch serves there: nowhere.ctl: No such file", 1 },
	{ "link nowhere a up", "nowhere: no vmbus-switch serves there: nowhere.ctl: ", 1 },
	{ "link nowhere a", "link takes a switch's SOCKET", 2 },
	{ "link nowhere a sideways", "link: sideways: up or down", 2 },
};

START_TEST(vmbus_switch__says_what_is_wrong)
{
	NEEDS_SWITCH();
	begin();
	must_eq(shell("$sw %s 2>&1", wrong[_i].words), wrong[_i].status);
	if (strstr(said, "user: it needs")) {
		finish();
		VMBUS_TEST_SKIP("libvmbus-slirp is not there");
	}
	must_say(wrong[_i].said);
	finish();
}
END_TEST

START_TEST(serve__is_the_only_one_on_its_socket)
{
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	must_eq(shell("$sw --version; $sw --help"), 0);
	must_say("vmbus-switch ");
	must_say("usage: ");
	pid = start_switch("");
	must_eq(shell("$sw serve s 2>&1"), 1);
	must_say("somebody listens there already");
	must_eq(shell("$sw serve s 2>&1 | wc -l"), 0);
	must_say("1\n");
	must_eq(shell("$sw stat s"), 0);
	kill(pid, SIGKILL); /* what it leaves behind is in nobody's way */
	(void)end_of(pid);
	must_eq(shell("rm errors"), 0);
	pid = start_switch("");
	must_eq(stop(pid), 0);
	must_eq(shell("echo mine >s.ctl; $sw serve s 2>&1"), 1); /* what is no socket stays */
	must_say("s.ctl: Address already in use");
	must_eq(shell("cat s.ctl; rm s.ctl"), 0);
	must_say("mine");
	finish();
}
END_TEST

/* Signals that a process holds back now. */
static uint64_t held_back(pid_t pid)
{
	char path[64], line[128];
	uint64_t mask = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	must(file != NULL);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "SigBlk:", 7) == 0)
			mask = strtoull(line + 7, NULL, 16);
	(void)fclose(file);
	return mask;
}

/* One that comes while it works is held back until it waits: nobody would see it there otherwise. */
START_TEST(serve__holds_signals_back_while_it_works)
{
	const uint64_t term = UINT64_C(1) << (SIGTERM - 1), until = now_ns() + WAIT_NS;
	struct end a = { 0 };
	uint32_t i, number = 0;
	pid_t pid;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	end_open(&a, "a");
	while (!(held_back(pid) & term)) {
		must(now_ns() < until);
		for (i = 0; i < 100 && end_send(&a, NULL, number); i++)
			number++;
		end_turn(&a, 0);
	}
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

/* The sandbox lets it write there, and find that the reader has gone. */
START_TEST(serve__captures_into_a_pipe_whose_reader_goes)
{
	struct end a = { 0 }, b = { 0 };
	pid_t pid, reader;
	uint32_t i;

	NEEDS_SWITCH();
	begin();
	must_eq(shell("mkfifo f"), 0);
	reader = start("head -c 600 f >got", NULL);
	pid = start_switch("--port null,capture=f");
	end_open(&a, "a");
	end_open(&b, "b");
	for (i = 0; i < 10; i++) {
		must(end_send(&a, NULL, i));
		until_got(&b, i + 1);
	}
	must_eq(end_of(reader), 0);
	must_eq(shell("test $(wc -c <got) = 600"), 0);
	for (; i < 20; i++) {
		must(end_send(&a, NULL, i));
		until_got(&b, i + 1);
	}
	must_eq(shell("for i in $(seq 500); do $sw stat s | grep ' null plug' | grep ' out=20 ' && "
		      "break; sleep 0.01; done"),
		0);
	must_say(" out=20 ");
	end_close(&a);
	end_close(&b);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

START_TEST(join__ends_with_its_switch)
{
	struct end a = { 0 };
	pid_t pid, joined;

	NEEDS_SWITCH();
	begin();
	pid = start_switch("");
	joined = start("$sw join s --port null --name there" SANDBOX, NULL);
	must_eq(shell("for i in $(seq 1000); do grep -q joined errors && break; sleep 0.01; done; "
		      "grep joined errors"),
		0);
	end_open(&a, "a");
	must(end_send(&a, NULL, 0));
	must_eq(shell("for i in $(seq 500); do $sw stat s | grep ' there nic' | grep ' out=1 ' && "
		      "break; sleep 0.01; done"),
		0);
	must_say(" out=1 ");
	must_eq(kill(joined, SIGUSR1), 0);
	must_eq(shell("for i in $(seq 1000); do grep lost: errors && break; sleep 0.01; done"), 0);
	must_say("lost: there no_room=0 refused=0 in_lost=0 in_dropped=");
	must_eq(stop(pid), 0);
	must_eq(end_of(joined), 3);
	must_eq(shell("grep -c lost: errors"), 0);
	must_say("2");
	/* Of its end one line is told: nothing of the bus below. */
	must_eq(shell("sed -n '/joined/,$p' errors | grep -c 'pages\\|the parent is gone'"), 1);
	must_eq(shell("grep 's: the switch has ended: ' errors"), 0);
	end_close(&a);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "switch", 100);

	tcase_add_loop_test(tc, serve__children_reach_each_other, 0, WAYS);
	tcase_add_loop_test(tc, serve__a_killed_child_costs_others_nothing, 0, WAYS);
	tcase_add_loop_test(tc, serve__a_slow_receiver_loses_its_own_frames_only, 0, WAYS);
	tcase_add_test(tc, link__pulls_a_plug_and_puts_it_in);
	tcase_add_test(tc, serve__names_and_addresses_stay);
	tcase_add_test(tc, serve__refuses_more_than_its_ports);
	tcase_add_test(tc, serve__refuses_more_than_its_ports_beside_plugs);
	tcase_add_test(tc, join__says_what_the_switch_calls_it);
	tcase_add_test(tc, uplink__tells_that_its_parent_is_gone);
	tcase_add_test(tc, uplink__counts_what_goes_with_its_parent);
	tcase_add_test(tc, uplink__receives_while_it_cannot_send);
	tcase_add_test(tc, uplink__tells_of_room_whatever_is_received_meanwhile);
	tcase_add_test(tc, uplink__drops_what_is_old_when_it_is_opened);
	tcase_add_test(tc, uplink__waits_as_long_as_told);
	tcase_add_test(tc, uplink__says_what_is_wrong);
	tcase_add_test(tc, serve__provides_a_nic_to_others);
	tcase_add_loop_test(tc, vmbus_switch__says_what_is_wrong, 0,
			    (int)(sizeof(wrong) / sizeof(wrong[0])));
	tcase_add_test(tc, serve__is_the_only_one_on_its_socket);
	tcase_add_test(tc, serve__holds_signals_back_while_it_works);
	tcase_add_test(tc, serve__captures_into_a_pipe_whose_reader_goes);
	tcase_add_test(tc, join__ends_with_its_switch);
}

VMBUS_TEST_MAIN("netd.switch", tests)
