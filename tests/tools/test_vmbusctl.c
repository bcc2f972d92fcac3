/* SPDX-License-Identifier: MIT */
/* vmbusctl as people run it, against a parent in this process. */
#include "shm/guests.h"

#include <pthread.h>

struct out {
	char text[1 << 20]; /* standard output and standard error */
	int status;
};

static const char *tool(void)
{
	static char path[512];
	const char *build = getenv("VMBUS_BUILD_DIR");

	(void)snprintf(path, sizeof(path), "%s/tools/vmbusctl", build ? build : ".");
	return path;
}

static void run(struct out *out, const char *args)
{
	char command[1024];
	size_t len;
	FILE *pipe;
	int status;

	(void)snprintf(command, sizeof(command), "%s %s 2>&1", tool(), args);
	pipe = popen(command, "re");
	must(pipe != NULL);
	len = fread(out->text, 1, sizeof(out->text) - 1, pipe);
	out->text[len] = 0;
	status = pclose(pipe);
	out->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The tool in a thread, while this one serves. */
struct runner {
	pthread_t thread;
	char args[256];
	struct out out;
	int done;
};

static void *run_thread(void *arg)
{
	struct runner *const runner = arg;

	run(&runner->out, runner->args);
	__atomic_store_n(&runner->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static struct runner *run_served(struct host *host, const char *args)
{
	static struct runner runner;

	memset(&runner, 0, sizeof(runner));
	(void)snprintf(runner.args, sizeof(runner.args), args, host->path);
	must_eq(pthread_create(&runner.thread, NULL, run_thread, &runner), 0);
	host_until(host, __atomic_load_n(&runner.done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(runner.thread, NULL), 0);
	return &runner;
}

static unsigned int count(const char *text, const char *what)
{
	unsigned int n = 0;

	for (text = strstr(text, what); text; text = strstr(text + 1, what))
		n++;
	return n;
}

static bool there_is_no_tool(void)
{
	return access(tool(), X_OK) != 0;
}

START_TEST(vmbusctl__usage_and_version)
{
	static const char *const wrong[] = { "",
					     "what",
					     "list -x",
					     "list -s",
					     "check x",
					     "list -s /tmp/x more",
					     "list -s x -t 0",
					     "list -t abc" };
	struct out *const out = calloc(1, sizeof(*out));
	unsigned int i;

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	unsetenv("VMBUS_SOCKET");
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vmbus_test_at("vmbusctl %s", wrong[i]);
		run(out, wrong[i]);
		must_eq(out->status, 2);
		must(out->text[0] != 0);
	}
	run(out, "frob");
	must(strstr(out->text, "frob: no such command") != NULL);
	run(out, "list more");
	must(strstr(out->text, "more: list takes no such word") != NULL);
	run(out, "check x");
	must(strstr(out->text, "x: check takes no words") != NULL);
	run(out, "list");
	must_eq(out->status, 2);
	must(strstr(out->text, "VMBUS_SOCKET") != NULL);
	run(out, "--version");
	must_eq(out->status, 0);
	must(strncmp(out->text, "vmbusctl ", 9) == 0);
	run(out, "--help");
	must_eq(out->status, 0);
	must(strstr(out->text, "usage") != NULL);
	/* What was not printed was not done. */
	run(out, "--help 3>&1 >/dev/full 2>&3 #");
	must_eq(out->status, 1);
	must(strstr(out->text, "what was printed is not complete: No space left") != NULL);
	run(out, "check 2>/dev/null >/dev/full #");
	must_eq(out->status, 1);
	free(out);
}
END_TEST

/* A socket that is of another kind than a parent's. */
static void list_stream_socket(struct out *out)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char args[128];

	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/vmbus-stream-%d", (int)getpid());
	must(sock >= 0);
	must_eq(bind(sock, (const struct sockaddr *)&at, sizeof(at)), 0);
	must_eq(listen(sock, 1), 0);
	(void)snprintf(args, sizeof(args), "list -s %s", at.sun_path);
	run(out, args);
	must_eq(out->status, 1);
	must(strstr(out->text, "a socket of another kind") != NULL);
	close(sock);
	unlink(at.sun_path);
}

START_TEST(vmbusctl_list__errors_name_socket_errno_and_remedy)
{
	struct out *const out = calloc(1, sizeof(*out));
	struct host host;
	char args[128];

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	run(out, "list -s /tmp/no-such-socket");
	must_eq(out->status, 1);
	must(strstr(out->text, "/tmp/no-such-socket") != NULL);
	must(strstr(out->text, "errno 2") != NULL);
	must(strstr(out->text, "-s") != NULL);
	list_stream_socket(out);
	host_open(&host); /* it listens, and nobody dispatches */
	(void)snprintf(args, sizeof(args), "list -t 0.05 -s %s", host.path);
	run(out, args);
	must_eq(out->status, 1);
	must(strstr(out->text, "in time") != NULL);
	host_close(&host);
	free(out);
}
END_TEST

START_TEST(vmbusctl_list__children_and_channels)
{
	static const struct job job = {
		.channels = 2, .payload = 100, .ring = 8192, .forever = true
	};
	const char *guid = "3c5a0b91-7d12-4e0a-9b44-102030405060";
	struct runner *runner;
	struct host host;
	char number[32];
	pid_t pid;

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	host_open(&host);
	runner = run_served(&host, "list -s %s");
	must_eq(runner->out.status, 0);
	must(strcmp(runner->out.text, "no child is attached\n") == 0);
	host.channels = 3;
	pid = guest_start(host.path, &job);
	host_until(&host, host.packets > 10);
	runner = run_served(&host, "list -s %s");
	must_eq(runner->out.status, 0);
	(void)snprintf(number, sizeof(number), "process %d,", (int)pid);
	must(strstr(runner->out.text, number) != NULL);
	must(strstr(runner->out.text, "child guest") != NULL);
	must_eq(count(runner->out.text, guid), 3);
	must_eq(count(runner->out.text, "8+8"), 2);
	must_eq(count(runner->out.text, " echo "), 3);
	runner = run_served(&host, "list --json -s %s | python3 -c 'import json, sys; "
				   "d = json.load(sys.stdin); c = d[\"children\"][0]; "
				   "print(d[\"schema\"], len(c[\"channels\"]), c[\"name\"], "
				   "sum(x[\"send_bytes\"] for x in c[\"channels\"]), "
				   "d[\"complete\"])'");
	if (strstr(runner->out.text, "not found") == NULL)
		must(strcmp(runner->out.text, "vmbusctl-list/1 3 guest 16384 True\n") == 0);
	setenv("VMBUS_SOCKET", host.path, 1);
	runner = run_served(&host, "list");
	must_eq(count(runner->out.text, guid), 3);
	kill(pid, SIGKILL);
	(void)guest_end(&host, pid);
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

START_TEST(vmbusctl_check__names_what_it_looked_at)
{
	static const char *const lines[] = { "kernel: Linux",	"shm: sealed memory",
					     "shm: doorbells",	"shm: descriptors",
					     "shm: mappings",	"shm: NUMA",
					     "shm: huge pages", "kvm: /dev/kvm",
					     "2047 channels" };
	struct out *const out = calloc(1, sizeof(*out));
	unsigned int i;

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	run(out, "check");
	must(out->status == 0 || out->status == 1);
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		vmbus_test_at("%s", lines[i]);
		must(strstr(out->text, lines[i]) != NULL);
	}
	/* A KVM that interprets its guests says that it can do all, so another source is asked. */
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		must_eq(strstr(out->text, "no: kvm_pvm") != NULL,
			access("/sys/module/kvm_pvm", F_OK) == 0);
	/* A limit that is too low is named, with the remedy. */
	(void)snprintf(out->text, sizeof(out->text), "ulimit -n 64; exec %s check", tool());
	{
		FILE *const pipe = popen(out->text, "re");
		const size_t len = fread(out->text, 1, sizeof(out->text) - 1, pipe);

		out->text[len] = 0;
		must_eq(WEXITSTATUS(pclose(pipe)), 1);
	}
	must(strstr(out->text, "ulimit -n 6") != NULL);
	free(out);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vmbusctl", 5);

	tcase_add_test(tc, vmbusctl__usage_and_version);
	tcase_add_test(tc, vmbusctl_list__errors_name_socket_errno_and_remedy);
	tcase_add_test(tc, vmbusctl_list__children_and_channels);
	tcase_add_test(tc, vmbusctl_check__names_what_it_looked_at);
}

VMBUS_TEST_MAIN("tools.vmbusctl", tests)
