/* SPDX-License-Identifier: MIT */
/* Names of sockets: what is done to them is done to what we made, and to nothing else. */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un at = { .sun_family = AF_UNIX };

static int listener(void)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/vmm-test-%d-name", (int)getpid());
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

START_TEST(name_give__only_gives_what_was_made)
{
	struct vmm_name name = { .folder_fd = -1 };
	const uid_t to = geteuid() ? geteuid() : 1234;
	const int fd = listener();
	char moved[128];
	struct stat st;

	(void)snprintf(moved, sizeof(moved), "%s.moved", at.sun_path);
	ck_assert_int_eq(vmm_name_keep(&name, at.sun_path), 0);
	ck_assert_int_eq(rename(at.sun_path, moved), 0);
	ck_assert_int_eq(vmm_name_give(&name, at.sun_path, to, getegid()), -1);
	ck_assert_int_eq(errno, ENOENT);
	close(listener()); /* another one, and a link to what is not ours */
	ck_assert_int_eq(vmm_name_give(&name, at.sun_path, to, getegid()), -1);
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(unlink(at.sun_path), 0);
	ck_assert_int_eq(symlink(moved, at.sun_path), 0);
	ck_assert_int_eq(vmm_name_give(&name, at.sun_path, to, getegid()), -1);
	ck_assert_int_eq(lstat(moved, &st), 0);
	ck_assert_uint_eq(st.st_uid, geteuid());
	ck_assert_int_eq(rename(moved, at.sun_path), 0);
	ck_assert_int_eq(vmm_name_give(&name, at.sun_path, to, getegid()), 0);
	ck_assert_int_eq(lstat(at.sun_path, &st), 0);
	ck_assert_uint_eq(st.st_uid, to);
	vmm_name_remove(&name, at.sun_path);
	ck_assert_int_ne(access(at.sun_path, F_OK), 0);
	close(fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "name", 10);

	tcase_add_test(tc, name_give__only_gives_what_was_made);
}

VMBUS_TEST_MAIN("vmm.name", tests)
