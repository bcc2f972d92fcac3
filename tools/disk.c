/* SPDX-License-Identifier: MIT */
/* Disks as the command line tells of them.  Shared by vmbus-vmm and vmbus-blk; prints nothing. */
#define _GNU_SOURCE
#include "disk.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef DISK_HAS_URING
#include <vmbus/store_uring.h>
#endif
#ifdef DISK_NBD_LIBRARY
#include <vmbus/store_nbd.h>
#endif

#define TEXT_BYTES 640u
#define LOCK_TURN_NS 100000u

static int wrong(char *why, size_t why_bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int wrong(char *why, size_t why_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return -1;
}

int disk_number(const char *text, uint64_t max, uint64_t *value, const char **end)
{
	char *stop;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	*value = strtoull(text, &stop, 10);
	if (errno || *value > max || (!end && *stop))
		return -1;
	if (end)
		*end = stop;
	return 0;
}

int disk_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "kmgt";
	const char *unit, *at;
	uint32_t shift = 0;

	if (disk_number(text, VMBUS_STORE_BYTES_MAX, bytes, &unit))
		return -1;
	if (*unit) {
		at = strchr(units, tolower((unsigned char)*unit));
		if (!at || unit[1])
			return -1;
		shift = 10u * (uint32_t)(at - units + 1);
	}
	if (*bytes == 0 || *bytes > VMBUS_STORE_BYTES_MAX >> shift)
		return -1;
	*bytes <<= shift;
	return 0;
}

int disk_address(const char *text, uint8_t *target, uint8_t *lun)
{
	uint64_t first, second;
	const char *rest;

	if (disk_number(text, VMBUS_BLOCK_LUNS_MAX - 1, &first, &rest))
		return -1;
	*target = 0;
	*lun = (uint8_t)first;
	if (!*rest)
		return 0;
	if (*rest != ':' || first >= VMBUS_BLOCK_TARGETS_MAX ||
	    disk_number(rest + 1, VMBUS_BLOCK_LUNS_MAX - 1, &second, NULL))
		return -1;
	*target = (uint8_t)first;
	*lun = (uint8_t)second;
	return 0;
}

/* The first word: where the bytes are. */
static int source(struct disk_spec *spec, const char *word, char *why, size_t why_bytes)
{
	const char *const is = strchr(word, '=');
	const char *const value = is ? is + 1 : "";

	if (strcmp(word, "none") == 0) {
		spec->kind = DISK_NONE;
		return 0;
	}
	if (strncmp(word, "file=", 5) == 0)
		spec->kind = DISK_FILE;
	else if (strncmp(word, "nbd=", 4) == 0)
		spec->kind = DISK_NBD;
	else if (strncmp(word, "mem=", 4) == 0)
		spec->kind = DISK_MEM;
	else if (strncmp(word, "null=", 5) == 0)
		spec->kind = DISK_NULL;
	else
		return wrong(why, why_bytes,
			     "%s: a disk begins with file=PATH, nbd=URI, mem=SIZE, null=SIZE or "
			     "none",
			     word);
	if ((spec->kind == DISK_MEM || spec->kind == DISK_NULL) && disk_size(value, &spec->bytes))
		return wrong(why, why_bytes, "%s: a size is a number, with K, M, G or T", word);
	if (!*value || strlen(value) >= sizeof(spec->source))
		return wrong(why, why_bytes, "%s: 1 to %zu characters follow", word,
			     sizeof(spec->source) - 1);
	strcpy(spec->source, value);
	return 0;
}

/* Words without a value. */
static bool *flag(struct disk_spec *spec, const char *word)
{
	const struct {
		const char *word;
		bool *flag;
	} flags[] = { { "ro", &spec->read_only },
		      { "direct", &spec->direct },
		      { "thick", &spec->thick },
		      { "write-through", &spec->write_through },
		      { "faulty", &spec->faulty } };
	size_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (strcmp(word, flags[i].word) == 0)
			return flags[i].flag;
	return NULL;
}

static int serial(struct disk_spec *spec, const char *value, char *why, size_t why_bytes)
{
	const char *at;

	for (at = value; *at; at++)
		if (!isgraph((unsigned char)*at))
			break;
	if (*at || !*value || at - value > 32)
		return wrong(why, why_bytes, "serial=%s: 1 to 32 printable characters", value);
	strcpy(spec->serial, value);
	return 0;
}

static int part(struct disk_spec *spec, const char *word, char *why, size_t why_bytes)
{
	bool *const on = flag(spec, word);
	uint64_t n;

	if (on) {
		*on = true;
		return 0;
	}
	if (strcmp(word, "faulty=drop") == 0) {
		spec->faulty = spec->drop = true;
		return 0;
	}
	if (strncmp(word, "serial=", 7) == 0)
		return serial(spec, word + 7, why, why_bytes);
	if (strncmp(word, "id=", 3) == 0) {
		if (vmbus_guid_parse(word + 3, &spec->id))
			return wrong(why, why_bytes,
				     "%s: it is a GUID, 8-4-4-4-12 hexadecimal digits", word);
	} else if (strncmp(word, "sector=", 7) == 0) {
		if (disk_number(word + 7, 4096, &n, NULL) || (n != 512 && n != 4096))
			return wrong(why, why_bytes, "%s: it is 512 or 4096", word);
		spec->sector = (uint32_t)n;
	} else if (strncmp(word, "lun=", 4) == 0) {
		if (disk_number(word + 4, VMBUS_BLOCK_LUNS_MAX - 1, &n, NULL))
			return wrong(why, why_bytes, "%s: it is 0 to %u", word,
				     VMBUS_BLOCK_LUNS_MAX - 1);
		spec->lun = (int)n;
	} else if (strncmp(word, "target=", 7) == 0) {
		if (disk_number(word + 7, VMBUS_BLOCK_TARGETS_MAX - 1, &n, NULL))
			return wrong(why, why_bytes, "%s: it is 0 to %u", word,
				     VMBUS_BLOCK_TARGETS_MAX - 1);
		spec->target = (uint8_t)n;
	} else if (strncmp(word, "queues=", 7) == 0) {
		if (disk_number(word + 7, DISK_QUEUES_MAX, &n, NULL) || n == 0)
			return wrong(why, why_bytes, "%s: it is 1 to %u", word, DISK_QUEUES_MAX);
		spec->queues = (uint32_t)n;
	} else if (strncmp(word, "spin=", 5) == 0) {
		if (disk_number(word + 5, DISK_SPIN_US_MAX, &n, NULL))
			return wrong(why, why_bytes, "%s: microseconds are 0 to %u", word,
				     DISK_SPIN_US_MAX);
		spec->spin_us = (uint32_t)n;
	} else {
		return wrong(why, why_bytes,
			     "%s: no such word; there are ro, sector=, lun=, target=, serial=, "
			     "id=, direct, thick, write-through, faulty, queues= and spin=",
			     word);
	}
	return 0;
}

int disk_parse(struct disk_spec *spec, const char *text, char *why, size_t why_bytes)
{
	char copy[TEXT_BYTES], *save, *word;
	uint64_t n;

	memset(spec, 0, sizeof(*spec));
	spec->lun = DISK_LUN_NEXT;
	spec->queues = 1;
	if (strlen(text) >= sizeof(copy))
		return wrong(why, why_bytes, "%.40s... is too long", text);
	strcpy(copy, text);
	word = strtok_r(copy, ",", &save);
	if (source(spec, word ? word : "", why, why_bytes))
		return -1;
	while ((word = strtok_r(NULL, ",", &save)))
		if (part(spec, word, why, why_bytes))
			return -1;
	if (spec->kind != DISK_FILE && (spec->direct || spec->thick))
		return wrong(why, why_bytes, "direct and thick are for file=");
	n = spec->sector ? spec->sector : 512;
	if ((spec->kind == DISK_MEM || spec->kind == DISK_NULL) && spec->bytes % n)
		return wrong(why, why_bytes, "%s: it is not of whole sectors of %" PRIu64 " bytes",
			     text, n);
	return 0;
}

/* ---- stores ---- */

static int no_store(const struct disk_spec *spec, int err, char *why, size_t why_bytes)
{
	const char *const reason = err == VMBUS_E_SYSTEM ? strerror(errno) : vmbus_err_name(err);

	if (spec->kind == DISK_FILE && err == VMBUS_E_PERM)
		return wrong(why, why_bytes,
			     "%s: no right to it, or another process has it open for writing",
			     spec->source);
	if (spec->kind == DISK_FILE && err == VMBUS_E_NOTSUP)
		return wrong(why, why_bytes,
			     "%s: it is no file and no block device, or this kernel has no "
			     "io_uring",
			     spec->source);
	return wrong(why, why_bytes, "%s: %s", spec->source, reason);
}

static int open_uring(const struct disk_spec *spec, int fd, struct vmbus_store *store, char *why,
		      size_t why_bytes)
{
#ifdef DISK_HAS_URING
	const struct vmbus_store_uring_opts opts = {
		.struct_bytes = sizeof(opts),
		.path = fd >= 0 ? NULL : spec->source,
		.fd = fd,
		.read_only = spec->read_only,
		.direct = spec->direct,
		.sparse = !spec->thick,
		.busy_ns = 0,
	};
	const int err = vmbus_store_uring(&opts, store);

	return err ? no_store(spec, err, why, why_bytes) : 0;
#else
	(void)fd;
	(void)store;
	return wrong(why, why_bytes, "%s: file= needs liburing, and this was built without it",
		     spec->source);
#endif
}

#ifdef DISK_NBD_LIBRARY
typedef int store_nbd_fn(const struct vmbus_store_nbd_opts *opts, struct vmbus_store *store);

/* Only who asks for it has it loaded: with libnbd come libraries for TLS and XML, 7 MiB of them. */
static store_nbd_fn *load_nbd(void)
{
	void *const library = dlopen(DISK_NBD_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	void *const found = library ? dlsym(library, "vmbus_store_nbd") : NULL;
	store_nbd_fn *fn = NULL;

	if (found)
		memcpy(&fn, &found, sizeof(fn));
	return fn;
}
#endif

static int open_nbd(const struct disk_spec *spec, struct vmbus_store *store, char *why,
		    size_t why_bytes)
{
#ifdef DISK_NBD_LIBRARY
	store_nbd_fn *const store_nbd = load_nbd();
	char text[200] = "";
	const struct vmbus_store_nbd_opts opts = { .struct_bytes = sizeof(opts),
						   .uri = spec->source,
						   .read_only = spec->read_only,
						   .why = text,
						   .why_bytes = sizeof(text) };
	int err;

	if (!store_nbd)
		return wrong(why, why_bytes, "%s: nbd= needs " DISK_NBD_LIBRARY ": %s",
			     spec->source, dlerror());
	err = store_nbd(&opts, store);
	if (err && text[0])
		return wrong(why, why_bytes, "%s: %s", spec->source, text);
	return err ? no_store(spec, err, why, why_bytes) : 0;
#else
	(void)store;
	return wrong(why, why_bytes, "%s: nbd= needs libnbd, and this was built without it",
		     spec->source);
#endif
}

static int open_below(const struct disk_spec *spec, int fd, struct vmbus_store *store, char *why,
		      size_t why_bytes)
{
	int err;

	switch (spec->kind) {
	case DISK_FILE:
		return open_uring(spec, fd, store, why, why_bytes);
	case DISK_NBD:
		return open_nbd(spec, store, why, why_bytes);
	case DISK_MEM:
		err = vmbus_store_memory(spec->bytes, fd, store);
		break;
	case DISK_NULL:
		err = vmbus_store_null(spec->bytes, false, store);
		break;
	default:
		return wrong(why, why_bytes, "there is no store in none");
	}
	return err ? no_store(spec, err, why, why_bytes) : 0;
}

int disk_open(const struct disk_spec *spec, int fd, struct vmbus_store *store, char *why,
	      size_t why_bytes)
{
	const struct vmbus_store_faults drop = { .drop = true };
	int err;

	if (open_below(spec, fd, store, why, why_bytes))
		return -1;
	if (!spec->faulty)
		return 0;
	err = vmbus_store_faulty(store, store);
	if (!err && spec->drop)
		err = vmbus_store_faulty_set(store, &drop);
	if (!err)
		return 0;
	vmbus_store_destroy(store);
	return wrong(why, why_bytes, "%s: faulty: %s", spec->source, vmbus_err_name(err));
}

int disk_open_file(const struct disk_spec *spec, bool alone, char *why, size_t why_bytes)
{
	const int flags = (spec->read_only ? O_RDONLY : O_RDWR) | (spec->direct ? O_DIRECT : 0) |
			  O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat stat;
	const bool device = fstatat(AT_FDCWD, spec->source, &stat, 0) == 0 && S_ISBLK(stat.st_mode);
	const int fd =
		open(spec->source, flags | (device && alone && !spec->read_only ? O_EXCL : 0));

	if (fd < 0)
		return wrong(why, why_bytes, "%s: %s", spec->source, strerror(errno));
	return fd;
}

int disk_lock(const struct disk_spec *spec, int fd, uint64_t wait_ns, char *why, size_t why_bytes)
{
	const struct timespec pause = { .tv_nsec = LOCK_TURN_NS };
	struct flock lock = { .l_type = spec->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	uint64_t waited;

	for (waited = 0; fcntl(fd, F_OFD_SETLK, &lock); waited += LOCK_TURN_NS) {
		if (errno != EAGAIN && errno != EACCES)
			return wrong(why, why_bytes, "%s: its lock: %s", spec->source,
				     strerror(errno));
		if (waited >= wait_ns)
			return wrong(why, why_bytes, "%s: another process has it open%s",
				     spec->source, spec->read_only ? " for writing" : "");
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

void disk_unlock(int fd)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	(void)fcntl(fd, F_OFD_SETLK, &lock);
}

/* ---- disks ---- */

static int try_add(struct vmbus_block *block, const struct disk_spec *spec,
		   const struct vmbus_store *store, uint8_t lun)
{
	const struct vmbus_block_disk disk = {
		.struct_bytes = sizeof(disk),
		.store = *store,
		.target = spec->target,
		.lun = lun,
		.read_only = spec->read_only,
		.write_through = spec->write_through,
		.sector = spec->sector,
		.id = disk_id_at(spec, lun),
		.serial = spec->serial[0] ? spec->serial : NULL,
	};

	return vmbus_block_add(block, &disk);
}

/* What is out of range of a disk whose words were all checked: something that its store says. */
static int wrong_size(const struct disk_spec *spec, const struct vmbus_store *store, char *why,
		      size_t why_bytes)
{
	const uint32_t sector = spec->sector ? spec->sector : 512;
	struct vmbus_store_info info = { 0 };

	if (store->ops->info(store->ctx, &info))
		return wrong(why, why_bytes, "%s does not tell its size", spec->source);
	if (info.align_bytes > sector)
		return wrong(why, why_bytes,
			     "%s takes whole multiples of %u bytes only, and a sector has %u%s",
			     spec->source, info.align_bytes, sector,
			     info.align_bytes == 4096 ? ": say sector=4096" : "");
	if (info.bytes < sector)
		return wrong(why, why_bytes, "%s is smaller than a sector of %u bytes",
			     spec->source, sector);
	return wrong(why, why_bytes, "%s: what its store says of itself is out of range",
		     spec->source);
}

int disk_add(struct vmbus_block *block, struct disk_spec *spec, const struct vmbus_store *store,
	     char *why, size_t why_bytes)
{
	const uint32_t from = spec->lun == DISK_LUN_NEXT ? 0 : (uint32_t)spec->lun;
	const uint32_t to = spec->lun == DISK_LUN_NEXT ? VMBUS_BLOCK_LUNS_MAX - 1 : from;
	int err = VMBUS_E_STATE;
	uint32_t lun;

	for (lun = from; lun <= to && err == VMBUS_E_STATE; lun++)
		err = try_add(block, spec, store, (uint8_t)lun);
	if (!err) {
		spec->lun = (int)lun - 1;
		return 0;
	}
	if (err == VMBUS_E_STATE && from == to)
		return wrong(why, why_bytes,
			     "there is a disk at target %u, LUN %u, or one that is not quite gone",
			     spec->target, from);
	if (err == VMBUS_E_STATE)
		return wrong(why, why_bytes, "all LUNs of target %u have disks", spec->target);
	if (err == VMBUS_E_RANGE)
		return wrong_size(spec, store, why, why_bytes);
	return wrong(why, why_bytes, "%s: %s", spec->source, vmbus_err_name(err));
}

static bool kind_of_end(const char *word, uint32_t *end)
{
	static const struct {
		const char *word;
		enum vmbus_io_end end;
	} ends[] = { { "medium", VMBUS_IO_MEDIUM },
		     { "space", VMBUS_IO_SPACE },
		     { "readonly", VMBUS_IO_READ_ONLY },
		     { "gone", VMBUS_IO_GONE },
		     { "busy", VMBUS_IO_BUSY } };
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strcmp(word, ends[i].word) == 0) {
			*end = (uint32_t)ends[i].end;
			return true;
		}
	return false;
}

static int fault_word(struct vmbus_store_faults *faults, const char *word)
{
	uint64_t n;

	if (kind_of_end(word, &faults->end)) {
		faults->bytes = faults->bytes ? faults->bytes : VMBUS_STORE_BYTES_MAX;
		faults->ops = faults->ops ? faults->ops : 15;
	} else if (strncmp(word, "from=", 5) == 0 && !disk_number(word + 5, UINT64_MAX, &n, NULL)) {
		faults->from = n;
	} else if (strncmp(word, "bytes=", 6) == 0 &&
		   !disk_number(word + 6, UINT64_MAX, &n, NULL)) {
		faults->bytes = n;
	} else if (strncmp(word, "ops=", 4) == 0 && !disk_number(word + 4, 15, &n, NULL)) {
		faults->ops = (uint32_t)n;
	} else if (strcmp(word, "stall") == 0) {
		faults->stall = true;
	} else if (strcmp(word, "drop") == 0) {
		faults->drop = true;
	} else if (strcmp(word, "cut") == 0) {
		faults->drop = faults->cut = true;
	} else {
		return strcmp(word, "none") == 0 ? 0 : -1;
	}
	return 0;
}

int disk_faults(struct vmbus_store_faults *faults, const char *words, char *why, size_t why_bytes)
{
	char copy[200], *save, *word;

	memset(faults, 0, sizeof(*faults));
	if (strlen(words) >= sizeof(copy))
		return wrong(why, why_bytes, "the line is too long");
	strcpy(copy, words);
	word = strtok_r(copy, " ", &save);
	if (!word)
		return wrong(why, why_bytes, "which faults? none is one");
	for (; word; word = strtok_r(NULL, " ", &save))
		if (fault_word(faults, word))
			return wrong(why, why_bytes,
				     "%s: there are none, medium, space, readonly, gone, busy, "
				     "from=, bytes=, ops=0..15, stall, drop and cut",
				     word);
	return 0;
}

const char *disk_line(const struct vmbus_block_stats *stats, uint8_t target, uint8_t lun,
		      char *text, size_t bytes)
{
	(void)snprintf(text, bytes,
		       "disk %u:%u bytes=%llu reads=%llu writes=%llu flushes=%llu discards=%llu "
		       "read_bytes=%llu written_bytes=%llu discarded_bytes=%llu others=%llu "
		       "failed=%llu refused=%llu in_flight=%u",
		       target, lun, (unsigned long long)stats->bytes,
		       (unsigned long long)stats->reads, (unsigned long long)stats->writes,
		       (unsigned long long)stats->flushes, (unsigned long long)stats->discards,
		       (unsigned long long)stats->read_bytes,
		       (unsigned long long)stats->written_bytes,
		       (unsigned long long)stats->discarded_bytes,
		       (unsigned long long)stats->others, (unsigned long long)stats->failed,
		       (unsigned long long)stats->refused, stats->in_flight);
	return text;
}
