/* SPDX-License-Identifier: MIT */
/*
 * The listening socket as a name in the file system.  The name appears only when somebody listens
 * behind it and has the permissions wanted: the socket is made under a name of its own, then linked.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/parent.h"

#define BACKLOG 128
#define LOCK_TRIES 1000 /* of a millisecond */

static int address(const char *path, struct sockaddr_un *at)
{
	const size_t len = strlen(path);

	memset(at, 0, sizeof(*at));
	at->sun_family = AF_UNIX;
	if (len == 0 || len >= sizeof(at->sun_path))
		return VMBUS_E_RANGE;
	memcpy(at->sun_path, path, len);
	return 0;
}

/* 1: somebody listens there; 0: a socket that is nobody's any more. */
static int is_alive(const char *path)
{
	struct sockaddr_un at;
	struct stat st;
	int sock, err;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : vmbus__shm_errno();
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return VMBUS_E_SYSTEM;
	}
	err = address(path, &at);
	if (err)
		return err;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return vmbus__shm_errno();
	err = connect(sock, (const struct sockaddr *)&at, sizeof(at)) ? errno : 0;
	vmbus__shm_close(&sock);
	if (err == EACCES) {
		errno = err;
		return VMBUS_E_PERM;
	}
	return err != ECONNREFUSED && err != ENOENT;
}

static int taken(void)
{
	errno = EADDRINUSE;
	return VMBUS_E_STATE;
}

/*
 * Take the place of a socket that nobody listened behind.  Another server may have taken it since: so
 * the two change places, and it gets its name back.
 */
static int displace(const char *own, const char *path)
{
	int alive, saved;

	if (renameat2(AT_FDCWD, own, AT_FDCWD, path, RENAME_EXCHANGE)) {
		if (errno == EINVAL || errno == ENOSYS || errno == EPERM) /* not here */
			return rename(own, path) ? vmbus__shm_errno() : 0;
		if (errno != ENOENT)
			return vmbus__shm_errno();
		if (link(own, path))
			return errno == EEXIST ? taken() : vmbus__shm_errno();
		return unlink(own) ? vmbus__shm_errno() : 0;
	}
	alive = is_alive(own);
	if (alive == 0)
		return unlink(own) && errno != ENOENT ? vmbus__shm_errno() : 0;
	saved = errno;
	(void)renameat2(AT_FDCWD, own, AT_FDCWD, path, RENAME_EXCHANGE);
	errno = saved;
	return alive < 0 ? alive : taken();
}

/*
 * Servers that take the same name do so one after the other.  Whoever may open the folder can hold this
 * lock, so it is not waited for without end; without it two of them still get it right.
 */
static int lock_folder(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *const slash = strrchr(path, '/');
	int fd, tries = 0;

	(void)snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		       slash ? path : ".");
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK &&
	       tries++ < LOCK_TRIES)
		usleep(1000);
	return fd;
}

/* Give the listening socket its name, in place of one that nobody listens behind. */
static int take_name(const char *own, const char *path)
{
	int alive;

	if (link(own, path) == 0)
		return unlink(own) ? vmbus__shm_errno() : 0;
	if (errno != EEXIST)
		return vmbus__shm_errno();
	alive = is_alive(path);
	if (alive < 0)
		return alive;
	return alive ? taken() : displace(own, path);
}

static int listen_as(int sock, const char *own, const struct sockaddr_un *at, uint32_t mode)
{
	/* The permissions hold from the first moment; umask may have taken some away. */
	if (fchmod(sock, mode & 0777u))
		return vmbus__shm_errno();
	(void)unlink(own); /* of a dead process that had our number */
	if (bind(sock, (const struct sockaddr *)at, sizeof(*at)))
		return vmbus__shm_errno();
	if (chmod(own, mode & 0777u) || listen(sock, BACKLOG))
		return vmbus__shm_errno();
	return 0;
}

int vmbus__shm_listen_at(const char *path, uint32_t mode, dev_t *dev, ino_t *ino)
{
	char own[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct sockaddr_un at;
	struct stat st;
	int sock, err, saved, lock = -1;

	if (!path[0] || strlen(path) > VMBUS_SHM_PATH_MAX)
		return VMBUS_E_RANGE;
	(void)snprintf(own, sizeof(own), "%s.%x", path, (unsigned int)getpid());
	err = address(own, &at);
	if (err)
		return err;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return vmbus__shm_errno();
	err = listen_as(sock, own, &at, mode);
	if (!err && lstat(own, &st))
		err = vmbus__shm_errno();
	if (!err) {
		lock = lock_folder(path);
		err = take_name(own, path);
	}
	saved = errno;
	if (err) {
		(void)unlink(own);
		vmbus__shm_close(&sock);
	}
	vmbus__shm_close(&lock);
	errno = saved;
	if (err)
		return err;
	*dev = st.st_dev;
	*ino = st.st_ino;
	return sock;
}

void vmbus__shm_unlink_own(const char *path, dev_t dev, ino_t ino)
{
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino)
		(void)unlink(path);
}
