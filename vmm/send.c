/* SPDX-License-Identifier: MIT */
/* The client of control.c: one line there, the answer to standard output. */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_SECONDS 10
#define WAIT_RESET_SECONDS 60 /* for disks, NICs and providers, one after the other, 6 s each */

/* Copies to standard output; *ok: the last line with something in it begins with "ok". */
static void copy(const char *bytes, size_t count, char first[2], uint32_t *column, bool *ok)
{
	size_t i;

	fwrite(bytes, 1, count, stdout);
	for (i = 0; i < count; i++) {
		if (bytes[i] == '\n') {
			*column = 0;
			continue;
		}
		if (*column < 2) {
			first[*column] = bytes[i];
			first[1] = *column ? first[1] : 0;
			*ok = first[0] == 'o' && first[1] == 'k';
		}
		(*column) += *column < 2;
	}
}

/*
 * Reads to the end, waiting so long (0: for ever).  0: the last line begins with "ok"; 1: it does not;
 * -1: no answer came, or not all of it, as was said.
 */
static int answer(int fd, int seconds)
{
	const struct timeval wait = { .tv_sec = seconds };
	char some[4096], first[2] = { 0 };
	bool any = false, ok = false;
	uint32_t column = 0;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	for (;;) {
		n = read(fd, some, sizeof(some));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		any = true;
		copy(some, (size_t)n, first, &column, &ok);
	}
	if (n < 0 && errno == EAGAIN)
		return vmm_error(
			"--send: no answer within %d seconds; is vmbus-vmm stopped, or its "
			"machine very busy?",
			seconds);
	if (n < 0)
		return vmm_errno("--send: the answer");
	fflush(stdout);
	if (!any)
		return vmm_error("--send: no answer: vmbus-vmm has ended, or has %u other clients; "
				 "try again",
				 VMM_CLIENTS_MAX);
	return ok ? 0 : 1;
}

/* Files of a saved machine: under these names until it is complete. */
static const char *const new_names[2] = { "state.new", "memory.new" };

static int open_files(const char *folder, int files[2])
{
	int dir, i;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return vmm_errno("save %s", folder);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (i = 0; dir >= 0 && i < 2; i++) {
		files[i] = openat(dir, new_names[i],
				  O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (files[i] < 0)
			break;
	}
	if (i < 2)
		return vmm_errno("save %s", folder);
	return dir;
}

/* Never one of the old machine beside one of the new. */
static int name_files(const char *folder, int dir)
{
	if ((unlinkat(dir, "state", 0) && errno != ENOENT) ||
	    renameat(dir, "memory.new", dir, "memory") ||
	    renameat(dir, "state.new", dir, "state") || fsync(dir))
		return vmm_errno("save %s", folder);
	return 0;
}

static void remove_files(int dir)
{
	(void)unlinkat(dir, new_names[0], 0);
	(void)unlinkat(dir, new_names[1], 0);
}

static int send_line(int fd, const char *text, const int *files, uint32_t count)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	if (count) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), files, count * sizeof(int));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)part.iov_len ? 0 : -1;
}

static int send_save(int fd, const char *folder)
{
	int files[2] = { -1, -1 }, err = -1;
	const int dir = open_files(folder, files);

	if (dir >= 0 && (send_line(fd, "save\n", files, 2) || shutdown(fd, SHUT_WR)))
		vmm_errno("save %s", folder);
	else if (dir >= 0)
		err = answer(fd, 0);
	if (err > 0) /* it runs on, and what is in the files is not all of it */
		remove_files(dir);
	else if (err == 0)
		err = name_files(folder, dir);
	close(files[0]);
	close(files[1]);
	close(dir);
	return err ? -1 : 0;
}

/* The line of a disk with the id that is made of its path, which is none there. */
static void tell_id(struct disk_spec *spec, const char *words, char *line, size_t bytes)
{
	const struct vmbus_guid none = { { 0 } };
	char guid[37];

	disk_identify(spec, NULL, NULL);
	vmbus_guid_format(&spec->id, guid);
	if (!vmbus_guid_equal(&spec->id, &none))
		(void)snprintf(line, bytes, "disk add %s,id=%s\n", words, guid);
	else
		(void)snprintf(line, bytes, "disk add %s\n", words);
}

/* The file of a disk: opened here, since there is no file system there. */
static int send_disk(int fd, const char *words)
{
	struct disk_spec spec;
	char why[800], text[320];
	int file = -1, err;

	if (disk_parse(&spec, words, why, sizeof(why)))
		return vmm_error("disk add %s", why);
	tell_id(&spec, words, text, sizeof(text));
	if (spec.kind == DISK_FILE) {
		file = disk_open_file(&spec, true, why, sizeof(why));
		if (file < 0 || disk_lock(&spec, file, 0, why, sizeof(why))) {
			close(file);
			return vmm_error("disk add %s", why);
		}
	}
	if (send_line(fd, text, &file, file >= 0) || shutdown(fd, SHUT_WR))
		err = vmm_errno("disk add");
	else
		err = answer(fd, WAIT_SECONDS);
	if (file >= 0)
		close(file);
	return err;
}

int vmm_send(const char *path, const char *line)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char text[256];
	int n;

	n = snprintf(text, sizeof(text), "%s\n", line);
	if (strlen(path) >= sizeof(at.sun_path) || n < 0 || n >= (int)sizeof(text)) {
		close(fd);
		return vmm_error("--send: the path or the line is too long");
	}
	strcpy(at.sun_path, path);
	n = -1;
	if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)))
		vmm_errno("--send %s: no vmbus-vmm --control listens there", path);
	else if (strncmp(line, "save ", 5) == 0)
		n = send_save(fd, line + 5);
	else if (strncmp(line, "disk add ", 9) == 0)
		n = send_disk(fd, line + 9);
	else if (send_line(fd, text, NULL, 0) || shutdown(fd, SHUT_WR))
		vmm_errno("--send %s: no vmbus-vmm --control listens there", path);
	else
		n = answer(fd, strcmp(line, "reset") == 0 ? WAIT_RESET_SECONDS : WAIT_SECONDS);
	close(fd);
	return n;
}
