/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl doctor of a parent whose device is another process: healthy, then stopped in the middle of
 * a load.  The flight record tells who served the channel.
 */
#include "provider/world.h"

#include <pthread.h>

struct runner {
	pthread_t thread;
	char command[1100];
	char out[1 << 16];
	int status;
	_Atomic int done;
};

static const char *tool(void)
{
	static char path[512];
	const char *build = getenv("VMBUS_BUILD_DIR");

	(void)snprintf(path, sizeof(path), "%s/tools/vmbusctl", build ? build : ".");
	return path;
}

static void *run_thread(void *arg)
{
	struct runner *const r = arg;
	FILE *const pipe = popen(r->command, "re");
	size_t len = 0;
	int status = -1;

	if (pipe) {
		len = fread(r->out, 1, sizeof(r->out) - 1, pipe);
		status = pclose(pipe);
	}
	r->out[len] = 0;
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	atomic_store(&r->done, 1);
	return NULL;
}

static struct runner *ctl(struct world *w, const char *args)
{
	static struct runner r;

	memset(&r, 0, sizeof(r));
	(void)snprintf(r.command, sizeof(r.command), "%s %s -s %s 2>&1", tool(), args, w->path);
	must_eq(pthread_create(&r.thread, NULL, run_thread, &r), 0);
	world_until(w, atomic_load(&r.done));
	must_eq(pthread_join(r.thread, NULL), 0);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s", r.out);
	return &r;
}

static uint64_t got(const struct world *w)
{
	return atomic_load(&w->shared->child[0].received);
}

START_TEST(doctor__provider_of_another_process_hung)
{
	struct runner *r;
	struct world w;
	uint64_t before;

	if (access(tool(), X_OK))
		VMBUS_TEST_SKIP("vmbusctl is not built");
	world_init(&w);
	world_provider(&w, 0, &plain_vsp, false);
	world_child(&w, 0);
	world_until(&w, got(&w) > 1000);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must(strstr(r->out, "\"findings\": []") != NULL);
	must_eq(r->status, 0);
	must_eq(kill(w.providers[0], SIGSTOP), 0);
	do {
		before = got(&w);
		world_serve_ns(&w, 100 * MS);
	} while (got(&w) != before);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must_eq(r->status, 1);
	must(strstr(r->out, "\"code\": \"provider-hung\"") != NULL);
	must(strstr(r->out, "which is stopped") != NULL);
	must(strstr(r->out, "kill -CONT") != NULL);
	must_eq(kill(w.providers[0], SIGCONT), 0);
	world_until(&w, got(&w) > before + 1000);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must_eq(r->status, 0);
	/* The same when nothing waits for it. */
	must_eq(kill(w.children[0], SIGSTOP), 0);
	world_serve_ns(&w, 300 * MS);
	must_eq(kill(w.providers[0], SIGSTOP), 0);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must(strstr(r->out, "which serves it, is stopped") != NULL);
	must_eq(kill(w.providers[0], SIGCONT), 0);
	must_eq(kill(w.children[0], SIGCONT), 0);
	world_fini(&w);
}
END_TEST

/* With a record doctor knows since when; without one, only that nobody is there. */
START_TEST(doctor__provider_of_another_process_gone)
{
	struct runner *r;
	struct world w;
	const char *at;
	uint64_t before;

	if (access(tool(), X_OK))
		VMBUS_TEST_SKIP("vmbusctl is not built");
	world_prepare(&w);
	w.record_bytes = _i ? 0 : 65536;
	w.opts.wait_ns = 60 * SECOND;
	world_start(&w);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, got(&w) > 1000);
	r = ctl(&w, "stat -n 1 -i 0.1");
	must_eq(r->status, 0);
	at = strstr(r->out, " open");
	must(at && strstr(at, "  - ") != NULL);
	r = ctl(&w, "stat -n 1 -i 0.1 --json");
	must(strstr(r->out, "\"packets_in_s\": null, ") != NULL);
	must(strstr(r->out, "\"signals_out\": null, \"from_child\": {") != NULL);
	must_eq(kill(w.providers[0], SIGKILL), 0);
	do {
		before = got(&w);
		world_serve_ns(&w, 100 * MS);
	} while (got(&w) != before);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must_eq(r->status, 1);
	must(strstr(r->out, "\"code\": \"provider-gone\"") != NULL);
	must((strstr(r->out, "is gone, and no other has come") != NULL) == !_i);
	at = strstr(r->out, "\"for_ns\": ");
	must(at != NULL);
	if (!_i)
		must(strtoull(at + 10, NULL, 10) > 100 * MS);
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_until(&w, got(&w) > before + 1000);
	r = ctl(&w, "doctor -i 0.2 -g 0.3 --json");
	must_eq(r->status, 0);
	world_fini(&w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "provider", 60);

	tcase_add_test(tc, doctor__provider_of_another_process_hung);
	tcase_add_loop_test(tc, doctor__provider_of_another_process_gone, 0, 2);
}

VMBUS_TEST_MAIN("diag.provider", tests)
