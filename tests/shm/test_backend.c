/* SPDX-License-Identifier: MIT */
/* The guest's backend, call by call: backends/shm/guest_backend.c and pages.c. */
#include "shm/liar.h"

#include <sys/resource.h>
#include <sys/time.h>

#include "../../backends/shm/pages.h"

extern const struct vmbus_guest_backend vmbus__shm_guest_backend;
#define BE (&vmbus__shm_guest_backend)
#define PAGES_FREE (MEMORY / VMBUS_PAGE_BYTES - 4)

static void play_right(int sock, int n)
{
	struct welcome w = right_welcome();

	(void)n;
	send_welcome(sock, &w);
	wait_for_end(sock);
}

static struct vmbus_shm_attach *attach_to(struct liar *liar, void (*play)(int sock, int n), int n)
{
	struct vmbus_shm_attach_opts opts;
	struct vmbus_shm_attach *attach;

	liar_start(liar, play, n);
	opts = opts_of(liar->path);
	must_eq(vmbus_shm_attach(&opts, &attach), 0);
	return attach;
}

START_TEST(pages__next_fit_and_never_twice)
{
	struct vmbus__shm_pages pages;
	uint8_t owner[1000] = { 0 };
	uint32_t at[64], count[64], old, i, k, round, page;

	must_eq(vmbus__shm_pages_init(&pages, 5, 4), VMBUS_E_RANGE);
	must_eq(vmbus__shm_pages_init(&pages, 4, 1000), 0);
	must_eq(vmbus__shm_pages_take(&pages, 0, &old), UINT32_MAX);
	must_eq(vmbus__shm_pages_take(&pages, 997, &old), UINT32_MAX);
	must_eq(vmbus__shm_pages_take(&pages, UINT32_MAX, &old), UINT32_MAX);
	must_eq(vmbus__shm_pages_take(&pages, 996, &old), 4);
	must_eq(old, 0);
	must_eq(vmbus__shm_pages_take(&pages, 1, &old), UINT32_MAX);
	must(!vmbus__shm_pages_give(&pages, 3, 2));
	must(!vmbus__shm_pages_give(&pages, 999, 2));
	must(!vmbus__shm_pages_give(&pages, UINT32_MAX, 2));
	must(vmbus__shm_pages_give(&pages, 4, 996));
	must(!vmbus__shm_pages_give(&pages, 4, 1));
	memset(at, 0xFF, sizeof(at));
	for (round = 0; round < 20000; round++) {
		i = (round * 2654435761u >> 16) % 64;
		if (at[i] != UINT32_MAX) {
			memset(owner + at[i], 0, count[i]);
			must(vmbus__shm_pages_give(&pages, at[i], count[i]));
			at[i] = UINT32_MAX;
			continue;
		}
		count[i] = 1 + (round * 40503u >> 8) % 40;
		page = vmbus__shm_pages_take(&pages, count[i], &old);
		if (page == UINT32_MAX)
			continue;
		at[i] = page;
		must(page >= 4 && page + count[i] <= 1000);
		must_eq(old, count[i]); /* all were given out before */
		for (k = page; k < page + count[i]; k++) {
			must(!owner[k]);
			owner[k] = 1;
		}
	}
	vmbus__shm_pages_fini(&pages);
}
END_TEST

START_TEST(alloc__shared_pages_are_zero_and_bounded)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);
	static const uint8_t zeroes[8192];
	uint8_t *p, *q;
	unsigned int n;

	must(BE->alloc(attach, 0, true) == NULL);
	must(BE->alloc(attach, MEMORY, true) == NULL);
	must(BE->alloc(attach, SIZE_MAX, true) == NULL);
	must(BE->alloc(attach, SIZE_MAX, false) == NULL);
	p = BE->alloc(attach, 8192, true);
	must(p != NULL);
	must_eq(BE->pfn(attach, p), 4);
	must_eq(BE->pfn(attach, p + 4096), 5);
	must(memcmp(p, zeroes, 8192) == 0);
	memset(p, 0xA5, 8192);
	BE->release(attach, p, 8192, true);
	q = BE->alloc(attach, 8192, true);
	must(p == q);
	must(memcmp(q, zeroes, 8192) == 0);
	BE->release(attach, q, 8192, true);
	for (n = 0; BE->alloc(attach, 4096, true); n++)
		;
	must_eq(n, PAGES_FREE);
	BE->release(attach, NULL, 4096, true);
	p = BE->alloc(attach, 5000, false);
	must(p != NULL);
	memset(p, 1, 8192);
	BE->release(attach, p, 5000, false);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

START_TEST(mirror__pages_twice_or_not_at_all)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);
	uint8_t *const p = BE->alloc(attach, 16384, true);
	uint8_t *window;

	must(p != NULL);
	window = BE->mirror(attach, p + 4096, 8192);
	must(window != NULL);
	p[4096] = 17;
	p[4096 + 8191] = 18;
	must_eq(window[0], 17);
	must_eq(window[8192], 17);
	window[8192 + 8191] = 19;
	must_eq(p[4096 + 8191], 19);
	BE->unmirror(attach, window, 8192);
	must(BE->mirror(attach, p, 0) == NULL);
	must(BE->mirror(attach, p, 100) == NULL);
	must(BE->mirror(attach, p + 8, 4096) == NULL);
	must(BE->mirror(attach, p, MEMORY) == NULL);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

START_TEST(post_signal_receive_flags__refuse_numbers)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);
	uint8_t payload[240] = { 0 };
	uint32_t type, bytes;

	must_eq(BE->signal(attach, 0x2000, 0), VMBUS_E_RANGE);
	must_eq(BE->signal(attach, 0x2800, 0), VMBUS_E_RANGE);
	must_eq(BE->signal(attach, 0, 0), VMBUS_E_RANGE);
	must_eq(BE->signal(attach, UINT32_MAX, 0), VMBUS_E_RANGE);
	must_eq(BE->signal(attach, 0x2001, 1), VMBUS_E_RANGE);
	must_eq(BE->signal(attach, 0x2001, 0), 0);
	must_eq(BE->signal(attach, 0x27FF, 0), 0);
	must_eq(BE->flags(attach, 32), 0);
	must_eq(BE->flags(attach, UINT32_MAX), 0);
	must_eq(BE->receive(attach, &type, payload, &bytes), 0);
	must_eq(BE->post(attach, 1, 1, payload, 241), VMBUS_E_RANGE);
	must_eq(BE->post(attach, 1, 1, payload, 240), VMBUS_E_AGAIN);
	must_eq(BE->post(attach, 1, 1, payload, 240), VMBUS_E_AGAIN); /* nobody answers */
	must(BE->time(attach) > 0);
	must_eq(BE->idle(attach, 1000000), 0);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

/* A BIND, and after it a message in the slot; then the bound eventfd must be signalled. */
static void play_bind(int sock, int n)
{
	struct welcome w = right_welcome();
	struct vmbus__shm_msg bind = { .type = VMBUS_SHM_BIND };
	uint8_t *map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, w.fds[0], 0);
	const int fd = eventfd(0, 0);
	const uint32_t type = 1;
	uint64_t count;

	(void)n;
	bind.u.bind.conn_id = 0x2005;
	send_welcome(sock, &w);
	usleep(20000);
	(void)vmbus__shm_send(sock, &bind, &fd, 1);
	memcpy(map + 2 * 4096 + 2 * 256, &type, sizeof(type)); /* processor 0, SINT 2 */
	alarm(5);
	_exit(read(fd, &count, sizeof(count)) == sizeof(count) ? 42 : 1);
}

START_TEST(receive__what_the_socket_said_before_a_message_counts)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_bind, 0);
	const uint64_t end = vmbus__shm_now_ns() + 5ull * SECOND_NS;
	uint8_t payload[240];
	uint32_t type, bytes;
	int status;

	while (!BE->receive(attach, &type, payload, &bytes))
		must(vmbus__shm_now_ns() < end);
	must_eq(type, 1);
	must_eq(bytes, 0);
	must_eq(BE->signal(attach, 0x2005, 0), 0);
	must_eq(waitpid(liar.pid, &status, 0), liar.pid);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 42);
	vmbus_shm_detach(attach);
	close(liar.sock);
	unlink(liar.path);
}
END_TEST

/* Descriptors that the child has no room for; the last parent breaks the rules besides. */
static void play_lost(int sock, int n)
{
	struct welcome w = right_welcome();
	struct vmbus__shm_msg msg = { .type = n == 2 ? VMBUS_SHM_UNBIND : VMBUS_SHM_BIND };
	volatile uint64_t *map = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, w.fds[0], 0);
	static const uint8_t none[4], type = 55; /* PARENT: its header, and no more */
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	uint32_t len;

	msg.u.bind.conn_id = 0x2005;
	send_welcome(sock, &w);
	len = vmbus__shm_encode(&msg, bytes);
	if (n == 1) {
		bytes[6] = type;
		memcpy(bytes + 16, none, sizeof(none));
	}
	send_raw(sock, bytes, len, &w.fds[1], 1);
	alarm(5);
	while (n == 0 && !(map[512 + 2 * 32] & 1u << 5)) /* page 1, SINT 2 */
		usleep(1000);
	vmbus__shm_send_text(sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_NONE, "seen");
	wait_for_end(sock);
}

START_TEST(take_messages__a_lack_of_descriptors_is_not_the_parents_end)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_lost, _i);
	const uint64_t end = vmbus__shm_now_ns() + 2ull * SECOND_NS;
	struct rlimit room, none;
	int next;

	must_eq(getrlimit(RLIMIT_NOFILE, &room), 0);
	next = dup(liar.sock);
	must(next >= 0);
	close(next);
	none = room;
	none.rlim_cur = (rlim_t)next;
	must_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (vmbus_shm_attach_wait(attach, 20000000) != VMBUS_E_PEER)
		must(vmbus__shm_now_ns() < end);
	must_eq(setrlimit(RLIMIT_NOFILE, &room), 0);
	ck_assert_str_eq(vmbus_shm_attach_why(attach),
			 _i < 2 ? "seen" : "it sent a message that a parent does not send");
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

START_TEST(shm_attach_fd__is_not_readable_while_idle)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);
	struct pollfd fd = { .fd = vmbus_shm_attach_fd(attach), .events = POLLIN };

	while (vmbus_shm_attach_dispatch(attach, 64) > 0)
		;
	must_eq(poll(&fd, 1, 50), 0);
	must_eq(vmbus_shm_attach_wait(attach, 0), VMBUS_E_AGAIN);
	must_eq(vmbus_shm_attach_wait(attach, 1000000), VMBUS_E_AGAIN);
	kill(liar.pid, SIGKILL);
	must_eq(poll(&fd, 1, 5000), 1);
	must_eq(vmbus_shm_attach_wait(attach, 1000000), VMBUS_E_PEER);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

/* What a dispatch left undone wakes one who waits in the guest once, and not for ever. */
START_TEST(idle__takes_what_a_dispatch_left_undone)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);
	struct pollfd fd = { .fd = vmbus_shm_attach_fd(attach), .events = POLLIN };
	uint64_t since;
	int i;

	must_eq(vmbus_guest_connect(vmbus_shm_guest(attach)), 0);
	must_eq(vmbus_shm_attach_dispatch(attach, 1), 1);
	must_eq(poll(&fd, 1, 0), 1);
	since = vmbus__shm_now_ns();
	for (i = 0; i < 4; i++)
		must_eq(BE->idle(attach, SECOND_NS / 20), 0);
	must(vmbus__shm_now_ns() - since >= SECOND_NS / 20);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

static void on_alarm(int number)
{
	(void)number;
}

/* Many times, since the first may come before the wait. */
static void alarms(bool on)
{
	const struct itimerval when = { { 0, on ? 5000 : 0 }, { 0, on ? 5000 : 0 } };

	must(signal(SIGALRM, on_alarm) != SIG_ERR);
	must_eq(setitimer(ITIMER_REAL, &when, NULL), 0);
}

START_TEST(shm_attach_wait__without_end_ends_with_a_signal_handler)
{
	struct liar liar;
	struct vmbus_shm_attach *const attach = attach_to(&liar, play_right, 0);

	while (vmbus_shm_attach_wait(attach, 0) != VMBUS_E_AGAIN)
		;
	must_eq(vmbus_guest_timeout(vmbus_shm_guest(attach)), UINT64_MAX);
	alarms(true);
	must_eq(vmbus_shm_attach_wait(attach, UINT64_MAX), VMBUS_E_AGAIN);
	alarms(false);
	vmbus_shm_detach(attach);
	liar_end(&liar);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "backend", 2);

	tcase_add_test(tc, pages__next_fit_and_never_twice);
	tcase_add_test(tc, alloc__shared_pages_are_zero_and_bounded);
	tcase_add_test(tc, mirror__pages_twice_or_not_at_all);
	tcase_add_test(tc, post_signal_receive_flags__refuse_numbers);
	tcase_add_test(tc, shm_attach_fd__is_not_readable_while_idle);
	tcase_add_loop_test(tc, take_messages__a_lack_of_descriptors_is_not_the_parents_end, 0, 3);
	tcase_add_test(tc, idle__takes_what_a_dispatch_left_undone);
	tcase_add_test(tc, shm_attach_wait__without_end_ends_with_a_signal_handler);
	tcase_add_test(tc, receive__what_the_socket_said_before_a_message_counts);
}

VMBUS_TEST_MAIN("shm.backend", tests)
