/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench net: one load for all, and the links that bear it: ours, and what people use today.  A
 * producer on one processor sends frames from its own memory as fast as they go, a sink on another one
 * copies them into its own; both poll.  Each link is measured in both directions.
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include "bench.h"
#include "results.h"

#include <sys/types.h>

#define NET_BURST 32u  /* frames of a call, and of a message of ours */
#define NET_FRAMES 32u /* that the producer has, and the sink has room for: a burst */
#define NET_FRAME_BYTES 2048u
#define NET_FRAME_STRIDE 2112u /* not of a power of two: they share no lines of a cache's set */
#define NET_FRAME_MIN 64u
#define NET_STAMP_AT 48u	 /* of the first stamp; the second one has the last 8 bytes */
#define NET_WAIT_NS 10000000000u /* for a process to come, or a frame to arrive */

/* What a link is to carry. */
struct net_work {
	const char *name; /* to-host: from the guest, client or front end to the other; to-guest */
	uint32_t bytes;	  /* of a frame, without FCS */
	bool to_host;
};

/* What the far process is to do, and did: in memory that both map. */
enum net_what {
	NET_IDLE,
	NET_PRODUCE,
	NET_SINK
};

struct net_ctl {
	uint32_t what; /* enum net_what; this side's word */
	uint32_t bytes;
	uint32_t go; /* number of the run */
	uint8_t pad0[52];
	uint32_t seen; /* the far side has begun that run */
	uint32_t idle; /* and ended it */
	uint64_t sent;
	uint64_t received;
	uint64_t wrong;
	uint8_t pad1[32];
};

/* One end of a load: frames to send, or room for those received. */
struct net_end {
	uint8_t *frame; /* NET_FRAMES of them */
	uint64_t next;	/* number of the next frame */
	uint64_t wrong;
	uint32_t bytes;
	uint32_t at; /* which room the next one gets */
};

/* A link that is open. */
struct net_link {
	const struct net_subject *subject;
	const struct place *place;
	pid_t far;  /* that has the far processor, set by open() */
	pid_t near; /* testpmd: that has this one; 0: this process */
	bool huge;  /* memory of huge pages */
	bool open;
	struct net_ctl *ctl;
	struct net_end end;
	void *priv;
	const char *missing; /* open() failed, since this is not installed */
	char why[160];	     /* open() failed */
};

struct net_outcome {
	double per_s;  /* frames that the sink got */
	double cpu_ns; /* of both sides, for each frame */
	double on_cpu; /* part of the time that the side that had less of it was running */
	const char *error;
};

struct net_subject {
	const char *name;
	const char *what;
	const char *package;
	const char *(*version)(void);
	int (*open)(struct net_link *link); /* 0, or -1 and why is set */
	void (*close)(struct net_link *link);
	/* Both sides are programs: run them, and tell what their sink counted. */
	void (*run)(struct net_link *link, const struct net_work *work, uint32_t us,
		    struct net_outcome *out);
	/* Else: send frames first to first + n - 1 of link->end.  How many went, or -1. */
	int (*send)(struct net_link *link, uint32_t first, uint32_t n);
	/* Copy what has come into link->end, see net_room() and net_got().  How many, or -1. */
	int (*receive)(struct net_link *link);
	/* What there is to do between two looks, when nothing moved: 0, or -1.  May be NULL. */
	int (*turn)(struct net_link *link);
	/* A run of the far side begins or ends.  May be NULL. */
	void (*tell)(struct net_link *link);
};

/* ---- subjects ---- */

extern const struct net_subject net_vmbus;
extern const struct net_subject net_memif, net_virtio, net_virtio_packed, net_unix;

/* ---- for subjects ---- */

int net_fail(struct net_link *link, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A control block that both processes map, and the memory of an end. */
struct net_ctl *net_ctl_new(void);
void net_end_new(struct net_end *end);
void net_end_free(struct net_end *end);
void net_end_begin(struct net_end *end, uint32_t bytes);

static inline uint8_t *net_frame(const struct net_end *end, uint32_t i)
{
	return end->frame + (size_t)(i % NET_FRAMES) * NET_FRAME_STRIDE;
}

/* Give frame i the next number. */
static inline void net_stamp(struct net_end *end, uint32_t i)
{
	uint8_t *const p = net_frame(end, i);
	const uint64_t number = end->next++;

	memcpy(p + NET_STAMP_AT, &number, sizeof(number));
	memcpy(p + end->bytes - sizeof(number), &number, sizeof(number));
}

/* Where the next received frame is to be copied to. */
static inline uint8_t *net_room(const struct net_end *end)
{
	return net_frame(end, end->at);
}

/* It is there: the next number, at both places, and so long. */
static inline void net_got(struct net_end *end, uint32_t bytes)
{
	const uint8_t *const p = net_room(end);
	uint64_t first, last;

	memcpy(&first, p + NET_STAMP_AT, sizeof(first));
	memcpy(&last, p + end->bytes - sizeof(last), sizeof(last));
	end->wrong += bytes != end->bytes || first != end->next || last != end->next;
	end->next++;
	end->at++;
}

/* ---- for the sub-command ---- */

int net_open(struct net_link *link);
void net_close(struct net_link *link);
/* Both sides stand still between runs. */
void net_stop(const struct net_link *link);
void net_go(const struct net_link *link);
void net_run(struct net_link *link, const struct net_work *work, uint32_t us,
	     struct net_outcome *out);
uint64_t net_cpu_ns(pid_t pid); /* 0: this process */
void net_reap(pid_t *pid);

int net_main(int argc, char **argv);

#endif
