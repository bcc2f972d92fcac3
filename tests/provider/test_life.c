/* SPDX-License-Identifier: MIT */
/*
 * Real processes: a parent, children, providers.  Every echo is checked, byte by byte and in order,
 * so what is lost or comes twice shows.
 */
#include "world.h"

#define ROUNDS_SHORT 50u
#define KILLS_LONG 1000u

static int by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *list, uint32_t n)
{
	qsort(list, n, sizeof(*list), by_size);
	return list[n / 2u];
}

static uint32_t kill_rounds(void)
{
	return vmbus_test_full() ? KILLS_LONG : ROUNDS_SHORT;
}

/* A pause of the test's own between two events, of 0 to 8 ms. */
static uint64_t some_time(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (uint64_t)(*seed >> 8) % (8 * MS);
}

/* Descriptors and mappings of this process. */
static int count_maps(void)
{
	FILE *const file = fopen("/proc/self/maps", "r");
	int c, lines = 0;

	must(file != NULL);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

START_TEST(provider_attach__serves_an_echo)
{
	struct world w;

	world_init(&w);
	world_provider(&w, 0, &plain_vsp, false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 10000);
	must_eq(wrong(&w), 0);
	must(world_info(&w)->present);
	must_eq(w.info.channels, 1);
	must_eq(w.info.buses, 1);
	must(strcmp(w.info.name, "echo") == 0);
	must(strcmp(w.info.vsp, "plain") == 0);
	must_eq(w.info.pid, w.providers[0]);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	must_eq(w.shared->child[0].gone, 0);
	world_until(&w, w.shared->closed == 1);
	must_eq(w.shared->opened, 1);
	world_fini(&w);
}
END_TEST

START_TEST(provider_attach__serves_children_that_were_there_before)
{
	struct world w;

	world_init(&w);
	world_child(&w, 0);
	world_child(&w, 1);
	world_until(&w, w.attached == 2);
	world_provider(&w, 0, &plain_vsp, false);
	world_until(&w, w.shared->child[0].received > 2000 && w.shared->child[1].received > 2000);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

START_TEST(provider_attach__serves_subchannels)
{
	struct world w;

	world_init(&w);
	w.shared->subchannels = 3;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, w.shared->child[0].opens == 4 && received(&w) > 20000);
	must_eq(world_info(&w)->channels, 4);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	must_eq(w.shared->child[0].gone, 0);
	world_fini(&w);
}
END_TEST

START_TEST(provider_detach__withdraws_the_device)
{
	struct world w;
	int status;

	world_init(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	kill(w.providers[0], SIGTERM);
	world_until(&w, w.shared->child[0].gone == 1);
	must_eq(waitpid(w.providers[0], &status, 0), w.providers[0]);
	w.providers[0] = 0;
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)world_info(&w);
	must_eq(w.listed, 0);
	/* And when it is back, the child has a new offer. */
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_until(&w, w.shared->child[0].opens == 2);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

/* Kill the provider, time until it is noticed. */
static uint64_t kill_and_notice(struct world *w)
{
	const uint64_t deaths = world_info(w)->deaths;
	uint64_t start;

	start = now_ns();
	kill(w->providers[0], SIGKILL);
	world_until(w, world_info(w)->deaths > deaths);
	start = now_ns() - start;
	must_eq(waitpid(w->providers[0], NULL, 0), w->providers[0]);
	w->providers[0] = 0;
	return start;
}

static void kill_resumable(uint32_t completions, uint32_t subchannels)
{
	const uint32_t rounds = kill_rounds();
	uint64_t *const pauses = calloc(rounds, sizeof(*pauses));
	uint64_t *const notices = calloc(rounds, sizeof(*notices));
	int fds = 0, maps = 0;
	uint32_t i, seed = 7 + completions;
	struct world w;

	world_init(&w);
	w.shared->completions = completions;
	w.shared->subchannels = subchannels;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_child(&w, 1);
	world_until(&w, received(&w) > 4000 && world_info(&w)->channels == 2 * (1 + subchannels));
	for (i = 0; i < rounds; i++) {
		uint64_t before;

		world_serve_ns(&w, some_time(&seed));
		notices[i] = kill_and_notice(&w);
		must(!world_info(&w)->present);
		must_eq(w.info.channels, 2 * (1 + subchannels)); /* the children see none of it */
		world_provider(&w, 0, vmbus_echo_vsp(), false);
		before = w.info.last_pause_ns;
		world_until(&w, world_info(&w)->present && w.info.last_pause_ns != before);
		pauses[i] = w.info.last_pause_ns;
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
		if (i == 5) {
			fds = vmbus_test_count_fds();
			maps = count_maps();
		}
	}
	must_eq(vmbus_test_count_fds(), fds);
	must(count_maps() <= maps + 2);
	must_eq(world_info(&w)->deaths, rounds);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	for (i = 0; i < CHILDREN; i++) {
		must_eq(w.shared->child[i].gone, 0);
		must_eq(w.shared->child[i].failed, 0);
	}
	printf("kill, %s, %u sub-channels: %u rounds, median pause %.3f ms (with the start of the "
	       "next one), noticed after %.3f ms\n",
	       completions ? "completions" : "packets", subchannels, rounds,
	       (double)median(pauses, rounds) / 1e6, (double)median(notices, rounds) / 1e6);
	free(pauses);
	free(notices);
	world_fini(&w);
}

START_TEST(lesson_a2_a_resumable_device_survives_kill)
{
	kill_resumable(0, 0);
}
END_TEST

START_TEST(lesson_a2_a_resumable_device_survives_kill_with_completions)
{
	kill_resumable(1, 0);
}
END_TEST

START_TEST(lesson_a2_a_resumable_device_survives_kill_with_subchannels)
{
	kill_resumable(1, 2);
}
END_TEST

START_TEST(lesson_a1_another_device_is_withdrawn_and_offered_again)
{
	struct world w;
	uint32_t i, seed = 3;
	int fds = 0;

	world_init(&w);
	world_provider(&w, 0, &plain_vsp, false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	for (i = 0; i < kill_rounds(); i++) {
		uint64_t before;

		world_serve_ns(&w, some_time(&seed));
		(void)kill_and_notice(&w);
		world_until(&w, w.shared->child[0].gone == i + 1u);
		must_eq(world_info(&w)->channels, 0);
		world_provider(&w, 0, &plain_vsp, false);
		world_until(&w, w.shared->child[0].opens == i + 2u);
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
		if (i == 5)
			fds = vmbus_test_count_fds();
	}
	must_eq(vmbus_test_count_fds(), fds);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

/* The old one ends by itself, with the words that it was taken over. */
static void wait_for_old(struct world *w)
{
	int status;

	world_until(w, waitpid(w->providers[0], &status, WNOHANG) == w->providers[0]);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 30);
	w->providers[0] = w->providers[1];
	w->providers[1] = 0;
}

START_TEST(provider_host__hands_over_without_a_loss)
{
	uint64_t pauses[ROUNDS_SHORT];
	struct world w;
	uint32_t i, seed = 11;
	int fds = 0, maps = 0;

	world_init(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	for (i = 0; i < ROUNDS_SHORT; i++) {
		uint64_t before;

		world_serve_ns(&w, some_time(&seed));
		world_provider(&w, 1, vmbus_echo_vsp(), true);
		world_until(&w, world_info(&w)->handovers == i + 1u);
		world_until(&w, world_info(&w)->last_pause_ns != 0 && w.info.pid == w.providers[1]);
		wait_for_old(&w);
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
		pauses[i] = world_info(&w)->last_pause_ns;
		if (i == 5) {
			fds = vmbus_test_count_fds();
			maps = count_maps();
		}
	}
	must_eq(vmbus_test_count_fds(), fds);
	must(count_maps() <= maps + 2);
	must_eq(world_info(&w)->deaths, 0);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	must_eq(w.shared->child[0].gone, 0);
	must_eq(w.shared->child[0].failed, 0);
	printf("hand-over: %u rounds, median pause %.3f ms\n", ROUNDS_SHORT,
	       (double)median(pauses, ROUNDS_SHORT) / 1e6);
	world_fini(&w);
}
END_TEST

START_TEST(provider_host__withdraws_what_does_not_come_back_in_time)
{
	struct world w;

	world_prepare(&w);
	w.opts.wait_ns = 100 * MS;
	world_start(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	(void)kill_and_notice(&w);
	must_eq(w.shared->child[0].gone, 0);
	world_until(&w, w.shared->child[0].gone == 1);
	(void)world_info(&w);
	must_eq(w.listed, 0);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_until(&w, w.shared->child[0].opens == 2);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

/* A provider that stops is thrown out when it owes an answer, and its child is withdrawn. */
START_TEST(provider_host__throws_out_a_hung_provider)
{
	struct world w;

	world_prepare(&w);
	w.opts.answer_ns = 200 * MS;
	w.opts.wait_ns = 200 * MS;
	world_start(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	kill(w.providers[0], SIGSTOP);
	world_child(&w, 1); /* opens, and gets no answer */
	world_until(&w, w.attached == 2);
	world_until(&w, world_info(&w)->deaths == 1);
	world_until(&w, w.shared->child[0].gone == 1);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

/*
 * One that is stopped in whatever it was doing, and thrown out for it, is dead before the next one
 * has its channels: it writes nothing when it is woken.
 */
START_TEST(lesson_a2_a_thrown_out_provider_writes_no_more)
{
	const uint32_t rounds = vmbus_test_full() ? 30 : 5;
	uint32_t i, seed = 5;
	struct world w;

	world_prepare(&w);
	w.opts.answer_ns = 250 * MS;
	world_start(&w);
	w.shared->completions = 1;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	for (i = 0; i < rounds; i++) {
		const uint64_t attached = w.attached;
		uint64_t before;
		int status;

		world_serve_ns(&w, some_time(&seed));
		kill(w.providers[0], SIGSTOP);
		world_child(&w, 1); /* opens, and gets no answer */
		world_until(&w, w.attached > attached && !world_info(&w)->present);
		world_provider(&w, 1, vmbus_echo_vsp(), false);
		world_until(&w, world_info(&w)->present && w.info.pid == w.providers[1]);
		kill(w.providers[0], SIGCONT);
		must_eq(waitpid(w.providers[0], &status, WNOHANG), w.providers[0]);
		must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		w.providers[0] = w.providers[1];
		w.providers[1] = 0;
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
		reap(&w.children[1]);
		world_until(&w, w.detached == i + 1u);
	}
	must_eq(world_info(&w)->deaths, rounds);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	must_eq(w.shared->child[0].gone, 0);
	must_eq(w.shared->child[0].failed, 0);
	world_fini(&w);
}
END_TEST

/* Root may kill whom it likes; from here on the host is somebody who may not. */
static void as_nobody(bool nobody)
{
	const uid_t uid = nobody ? 65534 : 0;

	must_eq(setresuid(uid, uid, 0), 0);
}

/* A provider that the host may not kill, and that stops: _i 0: it goes on later, 1: never. */
START_TEST(lesson_a2_a_hung_provider_of_another_user)
{
	struct world w;

	if (geteuid() != 0)
		VMBUS_TEST_SKIP("only root can become another user");
	world_prepare(&w);
	w.opts.answer_ns = 250 * MS;
	w.opts.wait_ns = _i ? 250 * MS : 20000 * MS;
	world_start(&w);
	w.shared->completions = 1;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	kill(w.providers[0], SIGSTOP);
	world_child(&w, 1); /* opens, and gets no answer */
	as_nobody(true);
	world_until(&w, w.attached == 2);
	if (_i) {
		world_until(&w, w.shared->child[0].gone == 1);
		must_eq(world_info(&w)->deaths, 1);
	} else {
		uint64_t before;

		world_until(&w, !world_info(&w)->present);
		as_nobody(false);
		world_provider(&w, 1, vmbus_echo_vsp(), false);
		world_serve_ns(&w, 300 * MS);
		must(!world_info(&w)->present);
		must_eq(kill(w.providers[0], 0), 0);
		kill(w.providers[0], SIGCONT);
		world_until(&w, world_info(&w)->present && w.info.pid == w.providers[1]);
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
		must_eq(w.shared->child[0].gone, 0);
	}
	as_nobody(false);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

/* Told to end, and killed somewhere on its way out: it has left, or is resumed; nothing is lost. */
START_TEST(lesson_a2_killed_while_it_detaches)
{
	const uint32_t rounds = kill_rounds();
	uint32_t i, seed = 13, resumed = 0;
	struct world w;

	world_init(&w);
	w.shared->completions = 1;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	for (i = 0; i < rounds; i++) {
		const uint64_t gone = w.shared->child[0].gone, opens = w.shared->child[0].opens;
		struct timespec pause = { .tv_nsec = (long)(some_time(&seed) / 16) };
		uint64_t before;

		world_serve_ns(&w, some_time(&seed) / 2);
		kill(w.providers[0], SIGTERM);
		nanosleep(&pause, NULL);
		reap(&w.providers[0]);
		world_until(&w, !world_info(&w)->present);
		resumed += w.listed;
		if (!w.listed)
			world_until(&w, w.shared->child[0].gone > gone);
		world_provider(&w, 0, vmbus_echo_vsp(), false);
		world_until(&w, world_info(&w)->present);
		world_until(&w,
			    w.shared->child[0].gone == gone || w.shared->child[0].opens > opens);
		before = w.shared->child[0].received;
		world_until(&w, w.shared->child[0].received > before);
	}
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	printf("killed while it detaches: %u rounds, %u resumed\n", rounds, resumed);
	world_fini(&w);
}
END_TEST

START_TEST(provider_host__children_come_and_go)
{
	struct world w;
	uint32_t i;
	int fds = 0;

	world_init(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	for (i = 0; i < 20; i++) {
		world_child(&w, 0);
		world_until(&w, w.shared->child[0].opens == i + 1u);
		if (i % 2u) {
			world_serve_ns(&w, 2 * MS);
			reap(&w.children[0]);
			world_until(&w, w.detached == i + 1u);
		} else {
			world_stop_children(&w);
			w.shared->stop = 0;
			w.shared->child[0].left = 0;
		}
		if (i == 3)
			fds = vmbus_test_count_fds();
	}
	must_eq(vmbus_test_count_fds(), fds);
	must_eq(world_info(&w)->buses, 0);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "life", 20);

	tcase_add_test(tc, provider_attach__serves_an_echo);
	tcase_add_test(tc, provider_attach__serves_children_that_were_there_before);
	tcase_add_test(tc, provider_attach__serves_subchannels);
	tcase_add_test(tc, provider_detach__withdraws_the_device);
	tcase_add_test(tc, provider_host__withdraws_what_does_not_come_back_in_time);
	tcase_add_test(tc, provider_host__throws_out_a_hung_provider);
	tcase_add_test(tc, provider_host__children_come_and_go);
	tc = vmbus_test_case(suite, "kill", 30);
	tcase_add_test(tc, lesson_a2_a_resumable_device_survives_kill);
	tcase_add_test(tc, lesson_a2_a_resumable_device_survives_kill_with_completions);
	tcase_add_test(tc, lesson_a2_a_resumable_device_survives_kill_with_subchannels);
	tcase_add_test(tc, lesson_a2_a_thrown_out_provider_writes_no_more);
	tcase_add_loop_test(tc, lesson_a2_a_hung_provider_of_another_user, 0, 2);
	tcase_add_test(tc, lesson_a1_another_device_is_withdrawn_and_offered_again);
	tcase_add_test(tc, provider_host__hands_over_without_a_loss);
	tc = vmbus_test_case(suite, "detach", 30);
	tcase_add_test(tc, lesson_a2_killed_while_it_detaches);
}
VMBUS_TEST_MAIN("provider.life", tests)
