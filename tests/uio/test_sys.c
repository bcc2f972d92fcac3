/* SPDX-License-Identifier: MIT */
/* The calls of the kernel that other suites play: backends/uio/sys.c, on files that are at hand. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "uio/kernel.h"

static const struct vmbus__uio_sys *const sys = &vmbus__uio_kernel;

START_TEST(uio_sys_open__takes_devices_only)
{
	char path[] = "/tmp/vmbus-uio-file-XXXXXX";
	int fd = mkstemp(path);

	must(fd >= 0);
	must_eq(sys->open(path), -1);
	must_eq(errno, ENODEV);
	must_eq(close(fd), 0);
	must_eq(unlink(path), 0);
	must_eq(sys->open(path), -1);
	must_eq(errno, ENOENT);
	fd = sys->open("/dev/null");
	must(fd >= 0);
	must(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	must(fcntl(fd, F_GETFL) & O_NONBLOCK);
	errno = 77;
	sys->close(fd);
	must_eq(errno, 77);
	must_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

START_TEST(uio_sys_map__maps_an_area_by_its_number)
{
	const int fd = memfd_create("areas", MFD_CLOEXEC);
	uint8_t *place, *page;

	must(fd >= 0);
	must_eq(ftruncate(fd, 3 * 4096), 0);
	must_eq(pwrite(fd, "two", 4, 2 * 4096), 4);
	page = sys->map(fd, NULL, 4096, 2);
	must(page != MAP_FAILED && memcmp(page, "two", 4) == 0);
	place = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(place != MAP_FAILED);
	must(sys->map(fd, place, 8192, 1) == place);
	must(memcmp(place + 4096, "two", 4) == 0);
	munmap(place, 8192);
	munmap(page, 4096);
	close(fd);
	must(sys->map(fd, NULL, 4096, 0) == MAP_FAILED);
}
END_TEST

START_TEST(uio_sys_event__reads_without_waiting)
{
	int32_t count = 7;
	int ends[2];

	must_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	must_eq(sys->event(ends[0]), 0);
	must_eq(write(ends[1], &count, sizeof(count)), sizeof(count));
	must_eq(sys->event(ends[0]), 1);
	must_eq(sys->event(ends[0]), 0);
	must_eq(sys->enable(ends[1]), 0);
	must_eq(read(ends[0], &count, sizeof(count)), sizeof(count));
	must_eq(count, 1);
	must_eq(sys->event(ends[1]), -1); /* not open for reading */
	must_eq(sys->enable(ends[0]), -1);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(uio_sys_put__writes_a_text)
{
	char path[] = "/tmp/vmbus-uio-file-XXXXXX", text[16] = "";
	const int fd = mkstemp(path);

	must(fd >= 0);
	must_eq(sys->put(path, "some text"), 0);
	must_eq(read(fd, text, sizeof(text)), 9);
	ck_assert_str_eq(text, "some text");
	close(fd);
	unlink(path);
	must_eq(sys->put(path, "some text"), -1);
	must_eq(errno, ENOENT);
	must_eq(sys->put("/dev/full", "some text"), -1);
	must_eq(errno, ENOSPC);
}
END_TEST

START_TEST(uio_errno__has_a_code_for_each)
{
	errno = ENOMEM;
	must_eq(vmbus__uio_errno(), VMBUS_E_NOMEM);
	errno = EACCES;
	must_eq(vmbus__uio_errno(), VMBUS_E_PERM);
	errno = EIO;
	must_eq(vmbus__uio_errno(), VMBUS_E_SYSTEM);
	must_eq(errno, EIO);
}
END_TEST

/* With no, one, two... descriptors left: an error each time, nothing left behind, then it works. */
START_TEST(uio_open__with_too_few_descriptors)
{
	static struct kernel k;
	struct rlimit was, limit;
	struct vmbus_uio_opts opts;
	struct vmbus_uio *uio;
	int err = VMBUS_E_SYSTEM, lowest, tries;

	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	opts = kernel_opts(&k, KERNEL_GUID);
	must_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	limit = was;
	lowest = dup(0);
	must(lowest >= 0);
	close(lowest);
	for (tries = 0; err && tries < 20; tries++) {
		limit.rlim_cur = (rlim_t)(lowest + tries);
		must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		err = vmbus_uio_open(&opts, &uio);
		if (err)
			must(uio == NULL);
	}
	must(tries > 4);
	must_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
	must_eq(err, 0);
	/* Nothing to do: the wait is the backend's idle(). */
	must_eq(vmbus_guest_connect(vmbus_uio_guest(uio)), 0);
	must_eq(vmbus_guest_wait(vmbus_uio_guest(uio), VMBUS_GUEST_CONNECTED, 1000000000u), 0);
	must_eq(vmbus_guest_wait(vmbus_uio_guest(uio), VMBUS_GUEST_IDLE, 3000000), VMBUS_E_AGAIN);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "sys", 10);

	tcase_add_test(tc, uio_sys_open__takes_devices_only);
	tcase_add_test(tc, uio_sys_map__maps_an_area_by_its_number);
	tcase_add_test(tc, uio_sys_event__reads_without_waiting);
	tcase_add_test(tc, uio_sys_put__writes_a_text);
	tcase_add_test(tc, uio_errno__has_a_code_for_each);
	tcase_add_test(tc, uio_open__with_too_few_descriptors);
}
VMBUS_TEST_MAIN("uio.sys", tests)
