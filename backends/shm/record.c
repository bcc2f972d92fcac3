/* SPDX-License-Identifier: MIT */
/*
 * Where the flight records of children are: in memory, or in files of a folder, which survive this
 * process.  A file is made once and never grows; how many there are, and their bytes, is bounded, and
 * the oldest go first.  That a record cannot be made is no reason to refuse a child.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/parent.h"

#define SUFFIX ".vmbusrec"
#define ENTRIES_MAX 8192u /* of a folder that are looked at */
#define SAME_MAX 99u	  /* records of one name and process */

/* What a look through the folder found. */
struct found {
	uint64_t bytes;
	uint32_t files;
	struct timespec when; /* of the oldest that is nobody's */
	char oldest[256];
};

static bool is_record(const char *name)
{
	const size_t len = strlen(name), tail = sizeof(SUFFIX) - 1;

	return len > tail && strcmp(name + len - tail, SUFFIX) == 0;
}

/* Whether a child that is here writes it. */
static bool in_use(const struct vmbus_shm_server *server, const char *name)
{
	uint32_t i;

	for (i = 0; i < server->slots; i++)
		if (server->children[i] && strcmp(server->children[i]->record_name, name) == 0)
			return true;
	return false;
}

static bool older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static int look(const struct vmbus_shm_server *server, struct found *found)
{
	DIR *const dir = opendir(server->record_dir);
	struct dirent *entry;
	struct stat st;
	uint32_t n;

	memset(found, 0, sizeof(*found));
	if (!dir)
		return VMBUS_E_SYSTEM;
	for (n = 0; n < ENTRIES_MAX && (entry = readdir(dir)); n++) {
		if (!is_record(entry->d_name) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue;
		found->files++;
		found->bytes += (uint64_t)st.st_size;
		if (in_use(server, entry->d_name))
			continue;
		if (!found->oldest[0] || older(&st.st_mtim, &found->when)) {
			found->when = st.st_mtim;
			(void)snprintf(found->oldest, sizeof(found->oldest), "%s", entry->d_name);
		}
	}
	closedir(dir);
	return 0;
}

/* Path of a file in the folder. */
static void path_of(const struct vmbus_shm_server *server, const char *name, char *path,
		    size_t bytes)
{
	(void)snprintf(path, bytes, "%s/%s", server->record_dir, name);
}

/* Have room for one more file; false: all that is there is in use. */
static bool make_room(struct vmbus_shm_server *server)
{
	const struct vmbus_shm_server_opts *const opts = &server->opts;
	char path[VMBUS_SHM_RECORD_PATH];
	struct found found;
	uint32_t n;

	for (n = 0; n < ENTRIES_MAX && look(server, &found) == 0; n++) {
		if (found.files < opts->records_max &&
		    found.bytes + opts->record_bytes <= opts->records_bytes_max)
			return true;
		if (!found.oldest[0])
			return false;
		path_of(server, found.oldest, path, sizeof(path));
		if (unlink(path))
			return false;
	}
	return false;
}

/* The child's name as a part of a file's: what it may be is ours to say. */
static void plain_name(char *to, size_t bytes, const char *from)
{
	size_t i;

	for (i = 0; from[i] && i + 1 < bytes; i++)
		to[i] = (from[i] >= '0' && from[i] <= '9') || (from[i] >= 'A' && from[i] <= 'Z') ||
					(from[i] >= 'a' && from[i] <= 'z') || from[i] == '-' ||
					(from[i] == '.' && i)
				? from[i]
				: '_';
	to[i] = 0;
}

static int make_file(struct vmbus_shm_child *child)
{
	struct vmbus_shm_server *const server = child->server;
	char path[VMBUS_SHM_RECORD_PATH], plain[VMBUS_SHM_NAME_BYTES], more[8] = "";
	uint32_t n;
	int fd = -1;

	if (vmbus__shm_size_allowed(server->opts.record_bytes))
		return -1;
	if (!make_room(server)) {
		errno = EDQUOT;
		return -1;
	}
	plain_name(plain, sizeof(plain), child->name);
	for (n = 1; fd < 0 && n <= SAME_MAX; n++) {
		if (n > 1)
			(void)snprintf(more, sizeof(more), "-%u", n);
		(void)snprintf(child->record_name, sizeof(child->record_name), "%s-%d%s" SUFFIX,
			       plain, child->pid, more);
		path_of(server, child->record_name, path, sizeof(path));
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd < 0) {
		child->record_name[0] = 0;
		return -1;
	}
	errno = posix_fallocate(fd, 0, (off_t)server->opts.record_bytes);
	if (errno) { /* no hole: a store must not find the disk full */
		vmbus__shm_close(&fd);
		(void)unlink(path);
		child->record_name[0] = 0;
	}
	return fd;
}

void vmbus__shm_record_make(struct vmbus_shm_child *child)
{
	struct vmbus_shm_server *const server = child->server;
	const size_t bytes = (size_t)server->opts.record_bytes;
	int fd = -1, saved;
	void *mem;

	if (!bytes)
		return;
	if (server->record_dir)
		fd = make_file(child);
	mem = server->record_dir && fd < 0
		      ? MAP_FAILED
		      : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	saved = errno;
	vmbus__shm_close(&fd);
	if (mem != MAP_FAILED) {
		child->record = mem;
		return;
	}
	vmbus__shm_log(&server->log, VMBUS_LOG_ERROR, "%s: no flight record%s%s: %s", child->name,
		       server->record_dir ? " in " : "",
		       server->record_dir ? server->record_dir : "", strerror(saved));
}

void vmbus__shm_record_end(struct vmbus_shm_child *child)
{
	struct vmbus_shm_server *const server = child->server;
	char path[VMBUS_SHM_RECORD_PATH];

	if (!child->record)
		return;
	munmap(child->record, (size_t)server->opts.record_bytes);
	child->record = NULL;
	if (!child->record_name[0])
		return;
	path_of(server, child->record_name, path, sizeof(path));
	if (child->why == VMBUS_SHM_LEFT)
		(void)unlink(path);
	else
		vmbus__shm_log(&server->log, VMBUS_LOG_INFO, "%s: its flight record is %s",
			       child->name, path);
}

void vmbus__shm_record_note(struct vmbus_shm_child *child, uint32_t kind, uint64_t a,
			    const char *text)
{
	const struct vmbus_record_note note = {
		.kind = kind, .a = a, .b = (uint64_t)(uint32_t)child->pid, .text = text
	};

	if (child->bus)
		vmbus_bus_record(child->bus, &note);
}
