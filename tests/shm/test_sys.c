/* SPDX-License-Identifier: MIT */
/* A system without epoll_pwait2(), as before Linux 5.11 and under some tools. */
#include "shm/host.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static uint32_t asked;

/* In place of the C library's. */
int epoll_pwait2(int epoll_fd, struct epoll_event *events, int room, const struct timespec *timeout,
		 const sigset_t *mask)
{
	(void)epoll_fd;
	(void)events;
	(void)room;
	(void)timeout;
	(void)mask;
	asked++;
	errno = ENOSYS;
	return -1;
}

START_TEST(epoll_wait__asks_once_for_what_is_missing)
{
	const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct epoll_event events[4];
	uint32_t n;

	must(epoll_fd >= 0 && fd >= 0);
	must_eq(vmbus__shm_epoll_add(epoll_fd, fd, EPOLLIN, 42), 0);
	must_eq(vmbus__shm_epoll_wait(epoll_fd, events, 4, 0), 0);
	must_eq(asked, 0);
	for (n = 0; n < 3; n++) {
		const uint64_t began = vmbus__shm_now_ns();

		must_eq(vmbus__shm_epoll_wait(epoll_fd, events, 4, 5000000), 0);
		must(vmbus__shm_now_ns() - began >= 5000000);
		must_eq(asked, 1);
	}
	must_eq(eventfd_write(fd, 1), 0);
	must_eq(vmbus__shm_epoll_wait(epoll_fd, events, 4, UINT64_MAX / 2), 1);
	must_eq(events[0].data.u64, 42);
	must_eq(asked, 1);
	close(fd);
	close(epoll_fd);
}
END_TEST

static void tests(Suite *s)
{
	TCase *tc = vmbus_test_case(s, "sys", 20);

	tcase_add_test(tc, epoll_wait__asks_once_for_what_is_missing);
}

VMBUS_TEST_MAIN("shm.sys", tests)
