/* SPDX-License-Identifier: MIT */
/*
 * The file of a saved machine: a head, then sections of a type, a number and bytes.  Whoever may write
 * the file is not trusted when it is read: lengths are compared before anything is used, and a
 * section is there once.  vmbus-vmm(1) lists the sections.
 */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION 1u
#define BYTES_MAX (UINT64_C(256) << 20)
#define SECTIONS_MAX 4096u

struct head {
	char magic[8];
	uint32_t version;
	uint32_t sections;
	uint64_t bytes; /* of all of it */
	uint64_t sum;	/* of what follows */
};

struct section {
	uint32_t type;
	uint32_t index;
	uint64_t bytes; /* padded to 8 with zeros */
};

static const char magic[8] = { 'V', 'M', 'B', 'U', 'S', 'V', 'M', 'M' };

/* Against damage, not against malice. */
static uint64_t sum_of(const uint8_t *at, size_t bytes)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	while (bytes--)
		sum = (sum ^ *at++) * UINT64_C(0x100000001b3);
	return sum;
}

static size_t padded(size_t bytes)
{
	return (bytes + 7u) & ~(size_t)7u;
}

void vmm_saved_free(struct vmm_saved *saved)
{
	free(saved->buf);
	memset(saved, 0, sizeof(*saved));
}

static bool make_room(struct vmm_saved *saved, size_t more)
{
	size_t room = saved->room ? saved->room : 65536;
	uint8_t *buf;

	if (more > BYTES_MAX || saved->used + more > BYTES_MAX)
		return false;
	while (room < saved->used + more)
		room *= 2;
	buf = room == saved->room ? saved->buf : realloc(saved->buf, room);
	if (!buf)
		return false;
	saved->buf = buf;
	saved->room = room;
	return true;
}

/* Begin a section; its bytes are zero, and valid until the next.  NULL: no memory. */
void *vmm_saved_add(struct vmm_saved *saved, uint32_t type, uint32_t index, size_t bytes)
{
	const struct section section = { type, index, bytes };
	uint8_t *at;

	if (saved->used == 0)
		saved->used = make_room(saved, sizeof(struct head)) ? sizeof(struct head) : 0;
	if (saved->used == 0 || !make_room(saved, sizeof(section) + padded(bytes)))
		return NULL;
	at = saved->buf + saved->used;
	memset(at, 0, sizeof(section) + padded(bytes));
	memcpy(at, &section, sizeof(section));
	saved->used += sizeof(section) + padded(bytes);
	saved->sections++;
	return at + sizeof(section);
}

const void *vmm_saved_put(struct vmm_saved *saved, uint32_t type, uint32_t index, const void *bytes,
			  size_t count)
{
	void *const at = vmm_saved_add(saved, type, index, count);

	if (at && count)
		memcpy(at, bytes, count);
	return at;
}

/* All bytes to a file, from an offset on. */
int vmm_write_all(int fd, const uint8_t *from, uint64_t bytes, uint64_t offset)
{
	uint64_t done = 0;
	ssize_t n;

	while (done < bytes) {
		const uint64_t left = bytes - done;

		n = pwrite(fd, from + done, left < 16 * MIB ? left : 16 * MIB,
			   (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (uint64_t)n;
	}
	return 0;
}

int vmm_saved_write(struct vmm_saved *saved, int fd)
{
	struct head head = { .version = VERSION,
			     .sections = saved->sections,
			     .bytes = saved->used };

	memcpy(head.magic, magic, sizeof(magic));
	head.sum = sum_of(saved->buf + sizeof(head), saved->used - sizeof(head));
	memcpy(saved->buf, &head, sizeof(head));
	return vmm_write_all(fd, saved->buf, saved->used, 0);
}

const void *vmm_saved_find(const struct vmm_saved *saved, uint32_t type, uint32_t index,
			   size_t *bytes)
{
	size_t at = sizeof(struct head);
	struct section section;
	uint32_t i;

	for (i = 0; i < saved->sections; i++) {
		memcpy(&section, saved->buf + at, sizeof(section));
		at += sizeof(section);
		if (section.type == type && section.index == index) {
			*bytes = (size_t)section.bytes;
			return saved->buf + at;
		}
		at += padded((size_t)section.bytes);
	}
	*bytes = 0;
	return NULL;
}

/* What is wrong with the head, or NULL. */
static const char *check_head(const struct head *head, const struct vmm_saved *saved)
{
	if (memcmp(head->magic, magic, sizeof(magic)) != 0)
		return "it is no saved machine";
	if (head->version != VERSION)
		return "it is of another version of vmbus-vmm";
	if (head->bytes != saved->used || head->sections > SECTIONS_MAX)
		return "it was cut off";
	if (head->sum != sum_of(saved->buf + sizeof(*head), saved->used - sizeof(*head)))
		return "it is damaged";
	return NULL;
}

/* Sections follow each other to the end, and none has the type and index of one before. */
static const char *check_sections(struct vmm_saved *saved, uint32_t sections)
{
	size_t at = sizeof(struct head), bytes;
	struct section section;

	for (saved->sections = 0; saved->sections < sections; saved->sections++) {
		if (saved->used - at < sizeof(section))
			return "a section is cut off";
		memcpy(&section, saved->buf + at, sizeof(section));
		at += sizeof(section);
		if (section.bytes > saved->used - at ||
		    padded((size_t)section.bytes) > saved->used - at)
			return "a section is longer than the file";
		if (vmm_saved_find(saved, section.type, section.index, &bytes))
			return "a section is there twice";
		at += padded((size_t)section.bytes);
	}
	return at == saved->used ? NULL : "there is something behind the last section";
}

/* Read it all.  NULL, or what is wrong with it. */
const char *vmm_saved_read(struct vmm_saved *saved, int fd)
{
	const char *why;
	struct head head;
	struct stat st;
	ssize_t n;

	memset(saved, 0, sizeof(*saved));
	if (fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof(head) ||
	    (uint64_t)st.st_size > BYTES_MAX)
		return "it is no saved machine";
	if (!make_room(saved, (size_t)st.st_size))
		return "no memory to read it";
	while (saved->used < (size_t)st.st_size) {
		n = pread(fd, saved->buf + saved->used, (size_t)st.st_size - saved->used,
			  (off_t)saved->used);
		if (n <= 0)
			return n < 0 ? strerror(errno) : "it became shorter";
		saved->used += (size_t)n;
	}
	memcpy(&head, saved->buf, sizeof(head));
	why = check_head(&head, saved);
	return why ? why : check_sections(saved, head.sections);
}
