/* SPDX-License-Identifier: MIT */
/*
 * A provider that is killed, again and again, under a load that looks at every byte: no request fails,
 * and nothing that was told to be done is lost.  The same for hand-overs.  Pauses are told.
 */
#include "blk.h"

#ifdef SANITIZED /* which starts slowly */
#define KILLS 40
#define HAND_OVERS 10
#else
#define KILLS 200
#define HAND_OVERS 50
#endif

static const struct {
	const char *disk, *load;
} ways[] = {
	{ "mem=64M,queues=2", "--channels 2 --size 512-64K --unaligned --trim 3 --flush 3" },
	{ "file=f", "--flush 5 --fua 10 --size 4K-32K" },
};

static uint64_t pauses[KILLS];

static int rising(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The next line of the parent's: ns, and whether it was this. */
static uint64_t next_pause(int fd, const char *what)
{
	const uint64_t until = now_ns() + WAIT_NS;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char line[128], kind[16];
	unsigned long long ns;
	size_t used = 0;

	while (used == 0 || line[used - 1] != '\n') {
		must(now_ns() < until && used < sizeof(line) - 1);
		if (poll(&p, 1, 1000) == 1)
			must_eq(read(fd, line + used++, 1), 1);
	}
	line[used] = 0;
	ck_assert_msg(sscanf(line, "pause blk %15s %llu", kind, &ns) == 2, "%s", line);
	ck_assert_msg(strcmp(kind, what) == 0, "%s", line);
	return ns;
}

static void tell(const char *what, const char *disk, uint32_t n)
{
	qsort(pauses, n, sizeof(pauses[0]), rising);
	printf("%s, %s: %u pauses, median %.3f ms, nine of ten below %.3f ms, longest %.3f ms\n",
	       what, disk, n, (double)pauses[n / 2] / 1e6, (double)pauses[n * 9 / 10] / 1e6,
	       (double)pauses[n - 1] / 1e6);
}

static void ends_well(pid_t client)
{
	kill(client, SIGINT);
	if (end_of(client)) {
		shell("cat errors");
		ck_abort_msg("the load failed: %s", said);
	}
	must_eq(shell("cat load"), 0);
	must_say("\"ok\": true");
	must(member(said, "requests") > KILLS);
	must_eq(member(said, "failed"), 0);
	must_eq(member(said, "wrong"), 0);
}

START_TEST(blk_serve__is_killed_again_and_again)
{
	pid_t parent, provider, client;
	uint32_t i;
	int out;

	NEEDS_BLK();
	begin();
	must_eq(shell("truncate -s 64M f"), 0);
	parent = start_parent("", &out);
	provider = start_provider(ways[_i].disk);
	client = start_load(ways[_i].load);
	for (i = 0; i < KILLS; i++) {
		vmbus_test_at("kill %u", i);
		nanosleep(&(struct timespec){ .tv_nsec = (long)(i * 7919u % 13u) * 1000000 + 1 },
			  NULL);
		kill(provider, SIGKILL);
		must_eq(end_of(provider), 128 + SIGKILL);
		provider = start_provider(ways[_i].disk);
		pauses[i] = next_pause(out, "death");
	}
	ends_well(client);
	tell("killed", ways[_i].disk, KILLS);
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	close(out);
	finish();
}
END_TEST

START_TEST(blk_serve__is_taken_over_from)
{
	char words[128];
	pid_t parent, provider, next, client;
	uint32_t i;
	int out;

	NEEDS_BLK();
	begin();
	must_eq(shell("truncate -s 64M f"), 0);
	parent = start_parent("", &out);
	provider = start_provider(ways[_i].disk);
	client = start_load(ways[_i].load);
	(void)snprintf(words, sizeof(words), "--take-over %s", ways[_i].disk);
	for (i = 0; i < HAND_OVERS; i++) {
		vmbus_test_at("hand-over %u", i);
		next = start_provider(words);
		must_eq(end_of(provider), 3);
		pauses[i] = next_pause(out, "hand-over");
		provider = next;
	}
	ends_well(client);
	tell("handed over", ways[_i].disk, HAND_OVERS);
	must_eq(stop(provider), 0);
	must_eq(stop(parent), 0);
	close(out);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "kill", 110);

	tcase_add_loop_test(tc, blk_serve__is_killed_again_and_again, 0, 2);
	tcase_add_loop_test(tc, blk_serve__is_taken_over_from, 0, 2);
}

VMBUS_TEST_MAIN("blk.kill", tests)
