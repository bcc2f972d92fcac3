/* SPDX-License-Identifier: MIT */
/*
 * Ordinary programs over vmbus-switch: three network name spaces, the switch with a TAP in the first,
 * and one that joined with a TAP in each of the others.  Ping and TCP between all of them.
 */
#include "netd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>

#define NS_COUNT 3u
#define TCP_BYTES (32u << 20)

static pid_t spaces[NS_COUNT]; /* who has them open; the first is our own */

static bool put(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* A user and a network name space of this process's. */
static bool own_space(void)
{
	const unsigned int uid = getuid(), gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) || !put("/proc/self/setgroups", "deny"))
		return false;
	(void)snprintf(map, sizeof(map), "0 %u 1\n", uid);
	if (!put("/proc/self/uid_map", map))
		return false;
	(void)snprintf(map, sizeof(map), "0 %u 1\n", gid);
	return put("/proc/self/gid_map", map);
}

/* Somebody who sleeps in a network name space of his own. */
static pid_t other_space(void)
{
	int ends[2];
	pid_t pid;
	char c;

	must_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET))
			_exit(1);
		(void)!write(ends[1], "x", 1);
		for (;;)
			pause();
	}
	close(ends[1]);
	must_eq(read(ends[0], &c, 1), 1);
	close(ends[0]);
	return pid;
}

#define NEEDS_TAP()                                                                                \
	do {                                                                                       \
		NEEDS_SWITCH();                                                                    \
		if (access("/dev/net/tun", R_OK | W_OK))                                           \
			VMBUS_TEST_SKIP("/dev/net/tun cannot be used");                            \
		if (system("ip -V >/dev/null 2>&1; test $? = 0 && nsenter --version >/dev/null "   \
			   "2>&1 && ping -V >/dev/null 2>&1"))                                     \
			VMBUS_TEST_SKIP("ip, nsenter or ping is missing");                         \
		if (!own_space())                                                                  \
			VMBUS_TEST_SKIP("no user name space here");                                \
	} while (0)

/* In name space i: a TAP that joins the switch, with the address 10.9.0.(i + 1). */
static pid_t joined(uint32_t i, const char *words)
{
	char command[256];
	pid_t pid;

	spaces[i] = other_space();
	(void)snprintf(command, sizeof(command),
		       "nsenter -t %d -n $sw join s --name j%u --port tap=j%u%s" SANDBOX,
		       (int)spaces[i], i, i, words);
	pid = start(command, NULL);
	must_eq(shell("for i in $(seq 1000); do nsenter -t %d -n ip link show j%u >/dev/null 2>&1 "
		      "&& "
		      "break; sleep 0.01; done; nsenter -t %d -n sh -c 'ip link set lo up && "
		      "ip addr add 10.9.0.%u/24 dev j%u && ip link set j%u up mtu 9000' 2>&1",
		      (int)spaces[i], i, (int)spaces[i], i + 1, i, i),
		0);
	return pid;
}

static void ping(uint32_t from, uint32_t to, uint32_t bytes)
{
	const int status =
		shell("nsenter -t %d -n ping -c 3 -i 0.1 -W 5 -M do -s %u 10.9.0.%u 2>&1",
		      (int)spaces[from], bytes, to + 1);

	ck_assert_msg(status == 0, "ping of %u bytes: %s", bytes, said);
	must_say(" 0% packet loss");
}

static void enter(uint32_t i)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)spaces[i]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		_exit(10);
	close(fd);
}

static uint8_t byte_at(uint32_t i)
{
	return (uint8_t)(i * 2654435761u >> 24);
}

/* The side that listens, and looks at each byte. */
static void take_all(int listener)
{
	static uint8_t some[65536];
	const int fd = accept(listener, NULL, NULL);
	uint32_t got = 0;
	ssize_t n, k;

	while ((n = read(fd, some, sizeof(some))) > 0)
		for (k = 0; k < n; k++)
			if (some[k] != byte_at(got++))
				_exit(2);
	_exit(n == 0 && got == TCP_BYTES ? 0 : 3);
}

static void give_all(uint32_t to)
{
	const struct timeval wait = { .tv_sec = 20 };
	static uint8_t some[65536];
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(7000) };
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint32_t sent = 0, i;

	at.sin_addr.s_addr = htonl(0x0A090000u + to + 1);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) ||
	    connect(fd, (const struct sockaddr *)&at, sizeof(at)))
		_exit(4);
	while (sent < TCP_BYTES) {
		const uint32_t part =
			TCP_BYTES - sent < sizeof(some) ? TCP_BYTES - sent : (uint32_t)sizeof(some);
		ssize_t n;

		for (i = 0; i < part; i++)
			some[i] = byte_at(sent + i);
		n = write(fd, some, part);
		if (n <= 0)
			_exit(5);
		sent += (uint32_t)n;
	}
	close(fd);
	_exit(0);
}

static void tcp(uint32_t from, uint32_t to)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(7000) };
	int ready[2], listener, one = 1;
	pid_t taker, giver;
	char c;

	must_eq(pipe2(ready, O_CLOEXEC), 0);
	taker = fork();
	must(taker >= 0);
	if (taker == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter(to);
		listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
		    bind(listener, (const struct sockaddr *)&at, sizeof(at)) ||
		    listen(listener, 1) || write(ready[1], "x", 1) != 1)
			_exit(11);
		take_all(listener);
	}
	close(ready[1]);
	must_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	giver = fork();
	must(giver >= 0);
	if (giver == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter(from);
		give_all(to);
	}
	must_eq(end_of(giver), 0);
	must_eq(end_of(taker), 0);
}

START_TEST(vmbus_switch__carries_ping_and_tcp)
{
	static const struct {
		uint32_t from, to;
	} ways[] = { { 1, 2 }, { 0, 1 }, { 2, 0 } };
	pid_t pid, two, three;
	uint32_t i;

	NEEDS_TAP();
	begin();
	spaces[0] = getpid();
	pid = start_switch("--tap sw0");
	must_eq(shell("ip link set lo up; ip addr add 10.9.0.1/24 dev sw0 && "
		      "ip link set sw0 up mtu 9000 2>&1"),
		0);
	two = joined(1, "");
	three = joined(2, ",capture=j2.pcapng,snap=128");
	for (i = 0; i < 3; i++) {
		ping(ways[i].from, ways[i].to, 56);
		ping(ways[i].from, ways[i].to, 1472);
		ping(ways[i].from, ways[i].to, 8972);
		tcp(ways[i].from, ways[i].to);
	}
	must_eq(shell("$sw stat s"), 0);
	must(counter(" tap=sw0 plug", "in") > 0);
	must(counter(" j1 nic", "out") > 0);
	kill(two, SIGKILL); /* what it was to others */
	(void)end_of(two);
	ping(0, 2, 1000);
	tcp(2, 0);
	must_eq(stop(three), 0);
	must_eq(stop(pid), 0);
	must_eq(shell("test $(wc -c <j2.pcapng) -gt 100000"), 0);
	for (i = 1; i < NS_COUNT; i++) {
		kill(spaces[i], SIGKILL);
		(void)end_of(spaces[i]);
	}
	finish();
}
END_TEST

/* The sandbox lets a network in user mode do what it needs. */
START_TEST(vmbus_switch__carries_the_user_network)
{
	pid_t pid, two;

	NEEDS_TAP();
	if (access(built("libvmbus-slirp.so"), R_OK))
		VMBUS_TEST_SKIP("vmbus::slirp was not built");
	begin();
	spaces[0] = getpid();
	must_eq(shell("ip link set lo up"), 0);
	pid = start_switch("--user --threads 1");
	two = joined(1, "");
	must_eq(shell("nsenter -t %d -n sh -c 'ip addr add 10.0.2.15/24 dev j1; "
		      "ping -c 3 -i 0.1 -W 5 10.0.2.2' 2>&1",
		      (int)spaces[1]),
		0);
	must_say(" 0% packet loss");
	must_eq(shell("$sw stat s"), 0);
	must(counter(" user plug", "in") >= 4);
	must_eq(stop(two), 0);
	must_eq(stop(pid), 0);
	kill(spaces[1], SIGKILL);
	(void)end_of(spaces[1]);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tap", 110);

	tcase_add_test(tc, vmbus_switch__carries_ping_and_tcp);
	tcase_add_test(tc, vmbus_switch__carries_the_user_network);
}

VMBUS_TEST_MAIN("netd.tap", tests)
