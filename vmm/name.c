/* SPDX-License-Identifier: MIT */
/*
 * Names of sockets, which are taken away at the end although the root is another one then: their
 * folders stay open.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 128u /* more than a socket's name may have */

static const char *last_part(const char *path)
{
	const char *const slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int vmm_name_keep(struct vmm_name *name, const char *path)
{
	char folder[PATH_BYTES] = ".";
	const size_t bytes = (size_t)(last_part(path) - path);
	struct stat st;

	if (bytes >= sizeof(folder) || lstat(path, &st))
		return -1;
	if (bytes) {
		memcpy(folder, path, bytes);
		folder[bytes] = 0;
	}
	name->dev = st.st_dev;
	name->ino = st.st_ino;
	name->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return name->folder_fd < 0 ? -1 : 0;
}

/* If it is still the socket that we made.  0, or -1 and errno. */
int vmm_name_give(const struct vmm_name *name, const char *path, uid_t uid, gid_t gid)
{
	const int fd = openat(name->folder_fd, last_part(path), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int err = -1;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || st.st_dev != name->dev || st.st_ino != name->ino ||
	    !S_ISSOCK(st.st_mode))
		errno = ESTALE;
	else
		err = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	close(fd);
	return err;
}

/* If it is still the one that we made. */
void vmm_name_remove(struct vmm_name *name, const char *path)
{
	struct stat st;

	if (name->folder_fd < 0)
		return;
	if (fstatat(name->folder_fd, last_part(path), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == name->dev && st.st_ino == name->ino &&
	    unlinkat(name->folder_fd, last_part(path), 0))
		vmm_tell("%s stays: the folder is not ours", path);
	close(name->folder_fd);
	name->folder_fd = -1;
}
