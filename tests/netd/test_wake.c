/* SPDX-License-Identifier: MIT */
/*
 * No wake-up is lost between two children of vmbus-switch: a few frames are under way, each is sent
 * again by who gets it, and both sleep without a timer in between.  A wake-up that is lost therefore
 * stops everything for good: nothing else comes that would wake anybody.
 */
#include "netd.h"

#ifdef SANITIZED
#define ECHOES 500u
#else
#define ECHOES 5000u
#endif
#define PATIENCE_MS 20000 /* of a sleep: a machine that is busy is not that late */

static const char *const ways[] = { "", "--threads 1", "--threads 2 --channels 2",
				    "--threads 2 --spin 20" };
static const uint32_t windows[] = { 1, 3, 64 };
#define WAYS (int)(sizeof(ways) / sizeof(ways[0]))

/* Sleep until there is something.  False: nothing came, for very long. */
static bool sleep_once(struct end *e, int ms)
{
	struct pollfd p = { .fd = e->queue.fd, .events = POLLIN };

	if (poll(&p, 1, ms) != 1)
		return false;
	e->port.ops->ready(&e->queue);
	return true;
}

/* A child that sends back whatever comes to it; its address comes by the pipe. */
static pid_t start_echo(struct end *there)
{
	int ends[2];
	pid_t pid;

	must_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		static struct end e;
		struct end *const to = there;
		uint64_t answered = 0;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		end_open(&e, "echo");
		e.from = to;
		if (write(ends[1], e.mac, sizeof(e.mac)) != (ssize_t)sizeof(e.mac))
			_exit(1);
		while (sleep_once(&e, -1))
			for (; answered < e.got; answered++)
				if (!end_send(&e, to, (uint32_t)answered))
					_exit(2);
		_exit(3);
	}
	close(ends[1]);
	must_eq(read(ends[0], there->mac, sizeof(there->mac)), (ssize_t)sizeof(there->mac));
	close(ends[0]);
	return pid;
}

/* Echoes, so many under way.  Returns the longest sleep in ns. */
static uint64_t echoes(struct end *a, const struct end *echo, uint32_t window)
{
	const uint64_t want = a->got + ECHOES;
	uint64_t sent = a->got, began, longest = 0;

	while (a->got < want) {
		for (; sent < want && sent - a->got < window; sent++)
			must(end_send(a, echo, (uint32_t)sent));
		began = now_ns();
		ck_assert_msg(sleep_once(a, PATIENCE_MS),
			      "%u under way: nothing came for %d ms after %llu of %llu", window,
			      PATIENCE_MS, (unsigned long long)a->got, (unsigned long long)want);
		if (now_ns() - began > longest)
			longest = now_ns() - began;
	}
	return longest;
}

START_TEST(uplink__loses_no_wakeup)
{
	struct end a = { 0 }, echo = { 0 };
	pid_t pid, child;
	uint32_t i;

	NEEDS_SWITCH();
	begin();
	pid = start_switch(ways[_i]);
	end_open(&a, "a");
	memcpy(echo.mac, a.mac, sizeof(echo.mac)); /* whom it answers, as it is forked */
	child = start_echo(&echo);
	a.from = &echo;
	for (i = 0; i < sizeof(windows) / sizeof(windows[0]); i++)
		printf("# %s, %u under way: longest sleep %.1f ms\n", ways[_i], windows[i],
		       (double)echoes(&a, &echo, windows[i]) / 1e6);
	must_eq(a.wrong, 0);
	kill(child, SIGKILL);
	must_eq(end_of(child), 128 + SIGKILL);
	end_close(&a);
	must_eq(stop(pid), 0);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "wake", 100);

	tcase_add_loop_test(tc, uplink__loses_no_wakeup, 0, WAYS);
}

VMBUS_TEST_MAIN("netd.wake", tests)
