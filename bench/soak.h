/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench soak: a parent with many children for a long time, with everything coming and going.
 * The roles, each a process of its own, and what they share.
 */
#ifndef BENCH_SOAK_H
#define BENCH_SOAK_H

#include "bench.h"
#include "hist.h"

#include <vmbus/base.h>

#include <stdio.h>
#include <sys/types.h>

#define SOAK_CHILDREN_MAX 256u
#define SOAK_STEADY 8u /* seats, the first ones, whose children are never killed */
#define SOAK_WINDOWS_MAX 240u
#define SOAK_PATH_BYTES 64u
#define SOAK_SECOND UINT64_C(1000000000)
#define SOAK_SHARE 65536u /* bytes of a shared disk that a seat has for itself */

/* What latencies are taken of; the first ones are the devices, by instance. */
enum soak_series {
	SOAK_ECHO,	   /* an echo device in the parent */
	SOAK_BLOCK,	   /* a disk in the parent */
	SOAK_NET,	   /* a NIC on the parent's switch: to another child and back */
	SOAK_ECHO_OUT,	   /* an echo device in a provider that is killed and replaced */
	SOAK_BLOCK_OUT,	   /* a disk in a provider that is killed */
	SOAK_BLOCK_STEADY, /* a disk in a provider that stays */
	SOAK_NET_OUT,	   /* a NIC in a provider that is killed; of one child */
	SOAK_DEVICES,
	SOAK_CONTROL = SOAK_DEVICES, /* a Unix socket between two processes, nothing of ours */
	SOAK_SERIES
};

/* What was done to whom; counted by who did it. */
enum soak_deed {
	SOAK_KILL_CHILD,
	SOAK_KILL_PROVIDER,
	SOAK_HAND_OVER,
	SOAK_REVOKE, /* an echo device, a controller, or a NIC was withdrawn, and offered again */
	SOAK_LUN_ADD,
	SOAK_LUN_REMOVE,
	SOAK_LINK, /* up or down */
	SOAK_PLUG, /* a port joined the switch, and left it */
	SOAK_DEEDS
};

/* One place for a child, whichever process has it now. */
struct soak_seat {
	uint64_t done[SOAK_DEVICES];
	uint64_t last_ns[SOAK_DEVICES]; /* when it was last done, or the child began */
	uint64_t wrong;			/* answers that were not what was sent */
	uint64_t lost;			/* frames that did not come back */
	uint64_t failed;	 /* requests that ended with an error that no kill explains */
	uint64_t opened, closed; /* channels, by all children of the seat */
	uint64_t luns, links;	 /* seen to come and go */
	uint32_t ready;		 /* the child is connected */
	uint32_t pad;
};

/* What all processes map. */
struct soak_shared {
	uint32_t stop;	   /* children leave in order */
	uint32_t stop_all; /* the parent and the others, too */
	uint32_t listening;
	uint32_t children; /* of the parent now, those that are ending included */
	uint32_t plugging; /* the parent may hot-plug */
	uint32_t count;	   /* seats */
	uint64_t deed[SOAK_DEEDS];
	uint64_t ended[3]; /* the parent's, by enum vmbus_shm_end */
	uint64_t refused;
	struct soak_seat seat[SOAK_CHILDREN_MAX];
	struct hist hist[SOAK_SERIES]; /* ns; any process adds */
};

extern const char *const soak_series_name[SOAK_SERIES];
extern const char *const soak_deed_name[SOAK_DEEDS];

/* The device's instance id tells its series. */
#define SOAK_INSTANCE(series)                                                                      \
	VMBUS_GUID(0x50a40000u + (series), 0x0001, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67,     \
		   0x89, 0xab)

/* Frames between children: type 0x88b5 is for experiments. */
struct soak_frame {
	uint8_t to[6], from[6], type[2];
	uint8_t answer;
	uint8_t pad;
	uint32_t bytes;
	uint64_t number;
	uint64_t at_ns;
	uint64_t again; /* number; the last of what is checked */
};
#define SOAK_FRAME_BYTES 1514u

static inline void soak_mac(uint8_t mac[6], uint32_t seat)
{
	memset(mac, 0, 6);
	mac[0] = 2;
	mac[4] = (uint8_t)(seat >> 8);
	mac[5] = (uint8_t)seat;
}

static inline void soak_add(struct hist *h, uint64_t ns)
{
	(void)__atomic_fetch_add(&h->bucket[hist_index(ns)], 1, __ATOMIC_RELAXED);
	(void)__atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
}

static inline void soak_count(uint64_t *n)
{
	(void)__atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

/* A small generator, seeded for each process. */
static inline uint32_t soak_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

/* The roles; none returns before its end, and the value is an exit state. */
int soak_parent(struct soak_shared *shared, const char *path, uint64_t seed);
int soak_child(struct soak_shared *shared, const char *path, uint32_t seat, uint64_t seed);
int soak_provider(struct soak_shared *shared, const char *path, enum soak_series series,
		  bool take_over);
int soak_control(struct soak_shared *shared);

/* ---- figures ---- */

/* What is known of a process from outside. */
struct soak_figures {
	double anon_kib; /* memory of its own */
	double shmem_kib;
	double fds, threads, maps;
};

enum soak_who {
	SOAK_PARENT,
	SOAK_PROVIDER, /* the one that stays */
	SOAK_CHILD,    /* mean of those that stay */
	SOAK_WHO
};

struct soak_window {
	double from_s, to_s;
	struct soak_figures who[SOAK_WHO];
	double p50[SOAK_SERIES], p99[SOAK_SERIES]; /* ns; 0 without any */
	uint64_t count[SOAK_SERIES];
	double children; /* attached, mean */
	double busy;	 /* part of the time of all processors */
	uint64_t deed[SOAK_DEEDS];
	uint32_t samples;
};

/* One line of the judgement: the median of the first and of the last quarter. */
struct soak_judged {
	char name[40];
	const char *unit;
	double first, last, limit; /* last may be up to limit */
	double slope;		   /* per hour, least squares */
	bool judged, flat;	   /* not judged: told, and flat */
};
#define SOAK_JUDGED_MAX (SOAK_WHO * 5u + SOAK_SERIES * 2u)

struct soak_run {
	struct soak_shared *shared;
	uint32_t children;
	uint64_t seed;
	double minutes, seconds;
	const char *json, *svg;
	struct soak_window window[SOAK_WINDOWS_MAX];
	uint32_t windows;
	/* When the window began. */
	uint64_t from_ns, window_ns;
	uint64_t busy, all;
	struct hist hist[SOAK_SERIES];
	uint64_t deed[SOAK_DEEDS];
	struct soak_figures before, after; /* the parent without children */
	bool complete;
	uint64_t stalls, exits; /* children that stood still, or ended by themselves */
	struct soak_judged judged[SOAK_JUDGED_MAX];
	double busy_first, busy_last; /* the machine, medians of the quarters */
	uint32_t judged_count;
};

/* A window: begin one, look at all processes once, end it.  child: the first SOAK_STEADY are looked at. */
void soak_open_window(struct soak_run *run, uint64_t now);
void soak_sample(struct soak_run *run, pid_t parent, pid_t provider, const pid_t *child);
void soak_close_window(struct soak_run *run, uint64_t now);

/* false: there is no such process. */
bool soak_look(pid_t pid, struct soak_figures *figures);

/* Processor time since boot, busy and all, in ticks of the kernel's. */
void soak_cpu(uint64_t *busy, uint64_t *all);

/* Fill run->judged; false when something is not flat. */
bool soak_judge(struct soak_run *run);
/* What is wrong besides, each a line on to; how many. */
uint32_t soak_faults(const struct soak_run *run, FILE *to);

void soak_report(const struct soak_run *run, FILE *to);
int soak_json(const struct soak_run *run, const char *path);
int soak_svg(const struct soak_run *run, const char *path);

int soak_main(int argc, char **argv);

#endif
