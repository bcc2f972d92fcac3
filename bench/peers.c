/* SPDX-License-Identifier: MIT */
/* The peers, and the few helpers that every file uses. */
#include "subject.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef VMBUS_BENCH_HAVE_CK
#define PEER_CK &subject_ck
#else
#define PEER_CK NULL
#endif
#ifdef VMBUS_BENCH_HAVE_URCU
#define PEER_WFCQUEUE &subject_wfcqueue
#else
#define PEER_WFCQUEUE NULL
#endif
#ifdef VMBUS_BENCH_HAVE_QB
#define PEER_LIBQB &subject_libqb
#else
#define PEER_LIBQB NULL
#endif
#ifdef VMBUS_BENCH_HAVE_DPDK
#define PEER_RTE_RING &subject_rte_ring
#define PEER_RTE_RING_PTR &subject_rte_ring_ptr
#else
#define PEER_RTE_RING NULL
#define PEER_RTE_RING_PTR NULL
#endif

const struct peer peers[] = {
	{ "rte_ring", "libdpdk-dev", "DPDK's rte_ring, elements of the payload's size",
	  PEER_RTE_RING },
	{ "rte_ring-ptr", "libdpdk-dev", "DPDK's rte_ring of offsets into a pool",
	  PEER_RTE_RING_PTR },
	{ "ck", "libck-dev", "Concurrency Kit's ring, elements of the payload's size", PEER_CK },
	{ "libqb", "libqb-dev", "libqb's ring buffer, chunks of any length", PEER_LIBQB },
	{ "wfcqueue", "liburcu-dev", "liburcu's wait-free queue over a pool", PEER_WFCQUEUE },
	{ "pipe", NULL, "a pipe, polled", &subject_pipe },
	{ "unix", NULL, "a Unix socket that keeps packets apart, polled", &subject_unix },
};
const unsigned peer_count = sizeof(peers) / sizeof(peers[0]);

const char *window_name(enum bench_window window)
{
	static const char *const names[BENCH_WINDOWS] = {
		[BENCH_PLAIN] = "plain",
		[BENCH_MIRRORED] = "mirrored",
		[BENCH_SCATTERED] = "scattered",
	};

	return names[window];
}

void die(enum bench_exit status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "vmbus-bench: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit((int)status);
}

void *must_alloc(size_t bytes)
{
	void *p = aligned_alloc(BENCH_LINE, round_up(bytes ? bytes : 1, BENCH_LINE));

	if (!p)
		die(BENCH_EXIT_MACHINE, "out of memory: %zu bytes", bytes);
	return p;
}
