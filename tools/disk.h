/* SPDX-License-Identifier: MIT */
/*
 * The words in which vmbus-vmm and vmbus-blk are told of a disk, and what they make of them: a store
 * and a disk on it.  vmbus-blk(1) lists the words.
 */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmbus/block.h>

#define DISK_QUEUES_MAX 64u
#define DISK_SPIN_US_MAX 10000u
#define DISK_LUN_NEXT -1

enum disk_kind {
	DISK_NONE, /* a controller without a disk */
	DISK_FILE,
	DISK_NBD,
	DISK_MEM,
	DISK_NULL
};

struct disk_spec {
	enum disk_kind kind;
	uint32_t sector;
	uint64_t bytes; /* of mem and null */
	int lun;	/* or DISK_LUN_NEXT */
	uint32_t queues, spin_us;
	uint8_t target;
	bool read_only, direct, thick, write_through, faulty, drop;
	bool id_of_place;     /* id is that of a place, in which target and LUN name the disk */
	struct vmbus_guid id; /* zero: the library makes one */
	char serial[33];
	char source[512]; /* a path or a URI */
};

/* 0, or -1 and a text that says what is wrong. */
int disk_parse(struct disk_spec *spec, const char *text, char *why, size_t why_bytes);

/* A decimal number with its limit; what follows it goes to *end, or with NULL there may be nothing. */
int disk_number(const char *text, uint64_t max, uint64_t *value, const char **end);

/* Bytes with K, M, G, T or nothing behind; 0, or -1. */
int disk_size(const char *text, uint64_t *bytes);

/* [TARGET:]LUN; 0, or -1. */
int disk_address(const char *text, uint8_t *target, uint8_t *lun);

/*
 * Make the id of a disk that was given neither one nor a serial from what names it: the absolute path of
 * its file, the URI of its server, or for memory the place where it is served.
 *
 * scope  a path that stands for that place, or NULL: none does; then the library makes an id.
 * name	  in that place, or NULL.
 */
void disk_identify(struct disk_spec *spec, const char *scope, const char *name);
/* For vmbus_block_add(), at this LUN. */
struct vmbus_guid disk_id_at(const struct disk_spec *spec, uint8_t lun);

/*
 * Open the store, with what makes it fail before it if that is wanted.
 *
 * fd  -1, or the descriptor of a file that somebody else has opened, or of memory that is not ours:
 *     stays the caller's.
 *
 * Returns 0, or -1 and a text.
 */
int disk_open(const struct disk_spec *spec, int fd, struct vmbus_store *store, char *why,
	      size_t why_bytes);

/*
 * Open a file for somebody who cannot, or who wants to see to its lock; a descriptor, or -1 and a text.
 *
 * alone  a block device is opened for nobody else.
 */
int disk_open_file(const struct disk_spec *spec, bool alone, char *why, size_t why_bytes);
/*
 * The lock of an open file, which a store that opens it by its name takes too: tried for so long.  It
 * goes when the last that was done with the file is done, also by a kernel for a process that died.
 *
 * Returns 0, or -1 and a text.
 */
int disk_lock(const struct disk_spec *spec, int fd, uint64_t wait_ns, char *why, size_t why_bytes);
void disk_unlock(int fd);

/*
 * Add it to a controller.  With DISK_LUN_NEXT the first free LUN is taken, and written to spec->lun.
 *
 * Returns 0, or -1 and a text; then the store is the caller's.
 */
int disk_add(struct vmbus_block *block, struct disk_spec *spec, const struct vmbus_store *store,
	     char *why, size_t why_bytes);

/* Words of the command fault: what the store is to do from now on; 0, or -1 and a text. */
int disk_faults(struct vmbus_store_faults *faults, const char *words, char *why, size_t why_bytes);

/* One line of a disk's counters, without its end; returns text. */
const char *disk_line(const struct vmbus_block_stats *stats, uint8_t target, uint8_t lun,
		      char *text, size_t bytes);

#endif
