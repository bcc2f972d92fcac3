/* SPDX-License-Identifier: MIT */
/*
 * Static probes: places that perf, bpftrace and others can watch in a process that runs.  Each is one
 * no-operation instruction and a note in the file, which says where it is and where its arguments
 * are.  The names and arguments are in vmbus_probes(7).
 *
 * Built with VMBUS_PROBES only, which libvmbus is where <sys/sdt.h> is, and the freestanding library
 * never.  Else a probe is nothing, and its arguments are not evaluated.
 *
 * Arguments are values that the code has at hand, without effects: what has to be computed for a probe
 * is paid for by everybody.
 */
#ifndef VMBUS_BASE_PROBE_H
#define VMBUS_BASE_PROBE_H

#if defined(VMBUS_PROBES)

#include <sys/sdt.h>

/* Macros of that header are no ISO C within, of which clang tells where they are used. */
#if defined(__clang__)
#define VMBUS__PROBE_BEGIN                                                                         \
	_Pragma("clang diagnostic push")                                                           \
		_Pragma("clang diagnostic ignored \"-Wgnu-zero-variadic-macro-arguments\"")
#define VMBUS__PROBE_END _Pragma("clang diagnostic pop")
#else
#define VMBUS__PROBE_BEGIN
#define VMBUS__PROBE_END
#endif

#define VMBUS_PROBE1(name, a)                                                                      \
	do {                                                                                       \
		VMBUS__PROBE_BEGIN STAP_PROBE1(vmbus, name, (a));                                  \
		VMBUS__PROBE_END                                                                   \
	} while (0)
#define VMBUS_PROBE3(name, a, b, c)                                                                \
	do {                                                                                       \
		VMBUS__PROBE_BEGIN STAP_PROBE3(vmbus, name, (a), (b), (c));                        \
		VMBUS__PROBE_END                                                                   \
	} while (0)
#define VMBUS_PROBE5(name, a, b, c, d, e)                                                          \
	do {                                                                                       \
		VMBUS__PROBE_BEGIN STAP_PROBE5(vmbus, name, (a), (b), (c), (d), (e));              \
		VMBUS__PROBE_END                                                                   \
	} while (0)
#define VMBUS_PROBE6(name, a, b, c, d, e, f)                                                       \
	do {                                                                                       \
		VMBUS__PROBE_BEGIN STAP_PROBE6(vmbus, name, (a), (b), (c), (d), (e), (f));         \
		VMBUS__PROBE_END                                                                   \
	} while (0)

#elif defined(__FRAMAC__)

#define VMBUS_PROBE1(name, a) ((void)0)
#define VMBUS_PROBE3(name, a, b, c) ((void)0)
#define VMBUS_PROBE5(name, a, b, c, d, e) ((void)0)
#define VMBUS_PROBE6(name, a, b, c, d, e, f) ((void)0)

#else

/* The arguments are compiled all the same, so that no build breaks another. */
#define VMBUS__PROBE_ARG(x) ((void)sizeof(x))
#define VMBUS_PROBE1(name, a) VMBUS__PROBE_ARG(a)
#define VMBUS_PROBE3(name, a, b, c) (VMBUS__PROBE_ARG(a), VMBUS__PROBE_ARG(b), VMBUS__PROBE_ARG(c))
#define VMBUS_PROBE5(name, a, b, c, d, e)                                                          \
	(VMBUS_PROBE3(name, a, b, c), VMBUS__PROBE_ARG(d), VMBUS__PROBE_ARG(e))
#define VMBUS_PROBE6(name, a, b, c, d, e, f)                                                       \
	(VMBUS_PROBE5(name, a, b, c, d, e), VMBUS__PROBE_ARG(f))

#endif

#endif
