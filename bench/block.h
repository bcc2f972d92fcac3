/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench block: one load for all, and the disks that bear it: ours, and what people use today.
 * The load keeps so many requests under way from one thread that polls, and verifies what is read.
 */
#ifndef BENCH_BLOCK_H
#define BENCH_BLOCK_H

#include "bench.h"
#include "hist.h"
#include "results.h"

#include <sys/types.h>

#define BLOCK_BYTES 4096u /* of a block, which has a stamp of 8 bytes at its begin and at its end */
#define BLOCK_REQUEST_MAX 131072u
#define BLOCK_DEPTH_MAX 64u
#define BLOCK_BUF_BYTES ((size_t)BLOCK_REQUEST_MAX * BLOCK_DEPTH_MAX)
#define BLOCK_WAIT_NS 10000000000u /* for a server to come, or a request to end */

/* What is asked of a disk. */
struct block_work {
	const char *name; /* as fio names it */
	uint32_t bytes;	  /* of a request */
	uint32_t depth;	  /* requests under way */
	bool write;
	bool random;
};

struct block_req {
	uint64_t offset;
	uint32_t bytes;
	bool write;
};

struct block_load;

/* A disk that is open. */
struct block_disk {
	const struct block_subject *subject;
	const struct place *place;
	uint64_t bytes;
	uint8_t *
		buf; /* BLOCK_BUF_BYTES at a page's begin, set by open(); slot i has the i-th part */
	pid_t server; /* that serves it, set by open(); 0: nobody does */
	void *priv;
	struct block_load *load;
	uint8_t *generation; /* of each block's stamp, 0: not written yet */
	const char *missing; /* open() failed, since this is not installed */
	char why[160];	     /* open() failed */
};

struct block_subject {
	const char *name;
	const char *what;
	const char *package; /* that brings it on Debian, NULL: nothing is needed */
	bool keeps;	     /* what was written can be read again */
	bool sleeps;	     /* this side does not poll */
	bool spins;	     /* its server polls all the time */
	uint32_t depth_max;  /* 0: any */
	uint32_t bytes_max;  /* 0: any */
	const char *(*version)(void);
	int (*open)(struct block_disk *disk); /* 0, or -1 and why is set */
	/* Begin a request with the buffer of that slot.  0, or -1: no more now. */
	int (*submit)(struct block_disk *disk, uint32_t slot, const struct block_req *req);
	/* Send what was begun, and call block_ended() for what has ended.  0, or -1: it is broken. */
	int (*turn)(struct block_disk *disk);
	void (*close)(struct block_disk *disk);
};

/* ---- subjects ---- */

extern const struct block_subject block_vmbus, block_vmbus_sleep, block_vmbus_null, block_channel;
extern const struct block_subject block_nbdkit;
extern const struct block_subject block_vhost, block_vhost_null;
extern const struct block_subject block_uring, block_psync;

/* ---- for subjects ---- */

static inline uint8_t *block_slot(const struct block_disk *disk, uint32_t slot)
{
	return disk->buf + (size_t)slot * BLOCK_REQUEST_MAX;
}

/* The request of a slot has ended, well or not.  From turn() or submit(). */
void block_ended(struct block_disk *disk, uint32_t slot, bool good);

/* Start a program on the far processor; it dies with us.  Its number, or -1 with errno. */
pid_t block_spawn(const struct place *place, const char *const argv[]);
/* A child process on the far processor: 0 in the child. */
pid_t block_fork(const struct place *place);
/* End the server, or wait until it has ended. */
void block_reap(struct block_disk *disk);
bool block_is_gone(struct block_disk *disk);
/* Buffers for a subject that takes any memory, and a file of that size on tmpfs. */
uint8_t *block_memory(void);
int block_tmpfs(uint64_t bytes);
/* Whether a program is in PATH. */
bool block_is_installed(const char *program);
/* The word behind that text in what "program --version" prints, or "unknown"; text that stays. */
const char *block_version(const char *program, const char *after);
int block_fail(struct block_disk *disk, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- for the sub-command ---- */

struct block_outcome {
	double per_s;
	double cpu_ns;	 /* of both sides, for each request */
	double p50, p99; /* ns; 0 unless one request is under way at a time */
	double on_cpu;
	const char *error; /* NULL: it went well */
};

/* Open it, and fill it if it keeps what is written. */
int block_open(struct block_disk *disk);
void block_close(struct block_disk *disk);
/* The server stands still between runs. */
void block_server_stop(const struct block_disk *disk);
void block_server_go(const struct block_disk *disk);
void block_run(struct block_disk *disk, const struct block_work *work, uint32_t us,
	       struct block_outcome *out);

int block_main(int argc, char **argv);

#endif
