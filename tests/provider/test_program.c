/* SPDX-License-Identifier: MIT */
/*
 * The program vmbus-provider, as it is built, sandboxed; and what the sandbox forbids.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Start the program; its words go to a pipe whose reading end is returned. */
static int run_program(struct world *w, uint32_t n, const char *more)
{
	const char *const dir = getenv("VMBUS_BUILD_DIR");
	char program[300];
	int out[2];

	(void)snprintf(program, sizeof(program), "%s/tools/vmbus-provider", dir ? dir : ".");
	must_eq(pipe2(out, O_CLOEXEC), 0);
	w->providers[n] = fork();
	must(w->providers[n] >= 0);
	if (w->providers[n] == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 2);
		if (SANITIZED)
			execl(program, program, "echo", "-s", w->path, "--no-sandbox", more, NULL);
		else
			execl(program, program, "echo", "-s", w->path, more, NULL);
		_exit(99);
	}
	close(out[1]);
	return out[0];
}

static bool there(void)
{
	const char *const dir = getenv("VMBUS_BUILD_DIR");
	char program[300];

	(void)snprintf(program, sizeof(program), "%s/tools/vmbus-provider", dir ? dir : ".");
	return access(program, X_OK) == 0;
}

static void read_all(int fd, char *text, size_t room)
{
	size_t at = 0;
	ssize_t n;

	while (at < room - 1 && (n = read(fd, text + at, room - 1 - at)) > 0)
		at += (size_t)n;
	text[at] = 0;
	close(fd);
}

static int wait_for(struct world *w, uint32_t n)
{
	int status;

	world_until(w, waitpid(w->providers[n], &status, WNOHANG) == w->providers[n]);
	w->providers[n] = 0;
	must(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(vmbus_provider__serves_and_is_taken_over)
{
	char text[4000];
	struct world w;
	uint64_t before;
	int out[2];

	if (!there())
		VMBUS_TEST_SKIP("tools were not built");
	world_init(&w);
	out[0] = run_program(&w, 0, NULL);
	world_child(&w, 0);
	world_until(&w, received(&w) > 4000);
	out[1] = run_program(&w, 1, "--take-over");
	world_until(&w, world_info(&w)->handovers == 1 && w.info.last_pause_ns);
	must_eq(wait_for(&w, 0), 3);
	read_all(out[0], text, sizeof(text));
	must(strstr(text, "echo serves ") != NULL);
	must(strstr(text, "another provider took over") != NULL);
	before = received(&w);
	world_until(&w, received(&w) > before);
	must_eq(w.shared->child[0].gone, 0);
	kill(w.providers[1], SIGTERM);
	must_eq(wait_for(&w, 1), 0);
	read_all(out[1], text, sizeof(text));
	must(strstr(text, "stopped by a signal") != NULL);
	world_until(&w, w.shared->child[0].gone == 1);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	world_fini(&w);
}
END_TEST

START_TEST(vmbus_provider__says_why_it_cannot_attach)
{
	char text[4000];
	struct world w;
	int out;

	if (!there())
		VMBUS_TEST_SKIP("tools were not built");
	world_init(&w);
	world_provider(&w, 1, vmbus_echo_vsp(), false);
	world_until(&w, world_info(&w)->present);
	out = run_program(&w, 0, NULL);
	must_eq(wait_for(&w, 0), 1);
	read_all(out, text, sizeof(text));
	must(strstr(text, "there is a provider of this class and name") != NULL);
	out = run_program(&w, 0, "--nonsense");
	must_eq(wait_for(&w, 0), 2);
	read_all(out, text, sizeof(text));
	must(strstr(text, "usage: ") != NULL);
	world_fini(&w);
}
END_TEST

static pid_t test_pid; /* getppid() is not on the list */

/* What happens to a process in the sandbox, with further calls allowed, that does this. */
static int end_with(const int *calls, uint32_t n, void (*what)(void))
{
	pid_t pid;
	int status;

	test_pid = getpid();
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		if (n ? vmbus_provider_sandbox_more(calls, n) : vmbus_provider_sandbox())
			_exit(50);
		what();
		_exit(0);
	}
	must_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int end_of(void (*what)(void))
{
	return end_with(NULL, 0, what);
}

static void does_nothing(void)
{
}

static void opens(void)
{
	(void)!open("/dev/null", O_RDONLY);
}

static void connects(void)
{
	(void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void executes(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

static void forks(void)
{
	if (fork() == 0)
		_exit(0);
}

static void traces(void)
{
	(void)kill(test_pid, 0);
}

static void kills(void)
{
	(void)syscall(SYS_tgkill, test_pid, test_pid, 0);
}

static void gets_signals_for_another(void)
{
	(void)fcntl(2, F_SETOWN, test_pid);
}

static void maps_code(void)
{
	(void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void makes_code(void)
{
	void *const p =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static void works(void)
{
	void *const p =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *const heap = malloc(1 << 20);

	memset(p, 1, 4096);
	munmap(p, 4096);
	if (heap)
		memset(heap, 1, 1 << 20);
	free(heap);
	(void)now_ns();
	(void)fcntl(2, F_GETFL);
	close(fcntl(2, F_DUPFD_CLOEXEC, 3));
	(void)raise(0);
	fprintf(stderr, "%s", "");
	exit(7);
}

START_TEST(provider_sandbox__kills_for_what_serving_does_not_take)
{
	void (*const forbidden[])(void) = { opens,	connects, executes,
					    forks,	traces,	  maps_code,
					    makes_code, kills,	  gets_signals_for_another };
	uint32_t i;

	if (SANITIZED)
		VMBUS_TEST_SKIP("sanitizers make calls of their own");
	if (end_of(does_nothing) == 50)
		VMBUS_TEST_SKIP("no seccomp here");
	must_eq(end_of(does_nothing), 0);
	must_eq(end_of(works), 7);
	for (i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		vmbus_test_at("row %u", i);
		must_eq(end_of(forbidden[i]), -SIGSYS);
	}
}
END_TEST

START_TEST(provider_sandbox_more__allows_what_it_names)
{
	int calls[129];
	uint32_t i;

	if (SANITIZED)
		VMBUS_TEST_SKIP("sanitizers make calls of their own");
	if (end_of(does_nothing) == 50)
		VMBUS_TEST_SKIP("no seccomp here");
	for (i = 0; i < 129; i++)
		calls[i] = SYS_openat;
	must_eq(end_with(calls, 1, opens), 0);
	must_eq(end_with(calls, 1, works), 7);
	must_eq(end_with(calls, 1, connects), -SIGSYS);
	calls[0] = SYS_socket;
	must_eq(end_with(calls, 1, connects), 0);
	must_eq(end_with(calls, 1, opens), -SIGSYS);
	calls[0] = SYS_mmap; /* they are looked at by their arguments all the same */
	calls[1] = SYS_mprotect;
	calls[2] = SYS_tgkill;
	calls[3] = SYS_fcntl;
	must_eq(end_with(calls, 128, opens), 0); /* the last of as many as can be */
	must_eq(end_with(calls, 128, works), 7);
	must_eq(end_with(calls, 128, connects), -SIGSYS);
	must_eq(end_with(calls, 128, maps_code), -SIGSYS);
	must_eq(end_with(calls, 128, makes_code), -SIGSYS);
	must_eq(end_with(calls, 128, kills), -SIGSYS);
	must_eq(end_with(calls, 128, gets_signals_for_another), -SIGSYS);
	must_eq(vmbus_provider_sandbox_more(calls, 129), VMBUS_E_RANGE);
	calls[0] = -1;
	must_eq(vmbus_provider_sandbox_more(calls, 1), VMBUS_E_RANGE);
}
END_TEST

/* A thread with a filter that the others have not; it allows everything. */
static void *filters_itself(void *arg)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_fprog program = { 1, &all };
	int *const pipes = arg;
	char word = 'n';

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
		word = 'y';
	(void)!write(pipes[1], &word, 1);
	for (;;)
		pause();
	return NULL;
}

/* Exit status of a process whose sandbox cannot cover its other thread. */
static void enters_beside_a_filter(void)
{
	pthread_t thread;
	int pipes[2], err;
	char word;

	alarm(20);
	if (pipe(pipes) || pthread_create(&thread, NULL, filters_itself, pipes) ||
	    read(pipes[0], &word, 1) != 1 || word != 'y')
		_exit(77);
	errno = EINVAL; /* of an earlier call: the kernel says nothing by it */
	err = vmbus_provider_sandbox();
	if (err != VMBUS_E_SYSTEM)
		_exit(err == VMBUS_E_NOTSUP ? 51 : 52);
	if (errno != ESRCH)
		_exit(53);
	opens(); /* there is no filter */
	_exit(0);
}

START_TEST(provider_sandbox__that_cannot_cover_a_thread_is_an_error)
{
	pid_t pid;
	int status;

	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		enters_beside_a_filter();
	must_eq(waitpid(pid, &status, 0), pid);
	must(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		VMBUS_TEST_SKIP("no seccomp here");
	must_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* A whole life in the sandbox: children come and go, and one takes over. */
START_TEST(provider_sandbox__leaves_what_serving_takes)
{
	struct world w;

	if (SANITIZED)
		VMBUS_TEST_SKIP("sanitizers make calls of their own");
	world_init(&w);
	w.shared->sandboxed = 1;
	w.shared->subchannels = 2;
	world_provider(&w, 0, vmbus_echo_vsp(), false);
	world_child(&w, 0);
	world_until(&w, received(&w) > 4000);
	world_child(&w, 1);
	world_until(&w, w.shared->child[1].received > 4000);
	reap(&w.children[1]);
	world_until(&w, w.detached == 1);
	world_provider(&w, 1, vmbus_echo_vsp(), true);
	world_until(&w, world_info(&w)->handovers == 1 && w.info.last_pause_ns);
	must_eq(wait_for(&w, 0), 30);
	world_stop_children(&w);
	must_eq(wrong(&w), 0);
	must_eq(world_info(&w)->deaths, 0);
	kill(w.providers[1], SIGTERM);
	must_eq(wait_for(&w, 1), 0);
	world_fini(&w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "program", 10);

	tcase_add_test(tc, vmbus_provider__serves_and_is_taken_over);
	tcase_add_test(tc, vmbus_provider__says_why_it_cannot_attach);
	tcase_add_test(tc, provider_sandbox__kills_for_what_serving_does_not_take);
	tcase_add_test(tc, provider_sandbox_more__allows_what_it_names);
	tcase_add_test(tc, provider_sandbox__that_cannot_cover_a_thread_is_an_error);
	tcase_add_test(tc, provider_sandbox__leaves_what_serving_takes);
}
VMBUS_TEST_MAIN("provider.program", tests)
