/* SPDX-License-Identifier: MIT */
/*
 * liburcu, flavour bp: its own functions, never its inline code, and no thread of its.
 *
 * The library is not compiled with the thread sanitizer, which therefore cannot see that what a
 * reader did comes before the end of a grace period; in such builds it is told.
 */
#ifndef VMBUS_BUS_RCU_H
#define VMBUS_BUS_RCU_H

#include <urcu-bp.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VMBUS__TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define VMBUS__TSAN 1
#endif

#if defined(VMBUS__TSAN)
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define VMBUS__TSAN_ACQUIRE(p) __tsan_acquire(p)
#define VMBUS__TSAN_RELEASE(p) __tsan_release(p)
#else
#define VMBUS__TSAN_ACQUIRE(p) ((void)(p))
#define VMBUS__TSAN_RELEASE(p) ((void)(p))
#endif

static inline void vmbus__rcu_enter(void)
{
	urcu_bp_read_lock();
}

/* what: anything that names the data; the same for readers and the one who frees. */
static inline void vmbus__rcu_leave(void *what)
{
	VMBUS__TSAN_RELEASE(what);
	urcu_bp_read_unlock();
}

static inline void vmbus__rcu_wait(void *what)
{
	urcu_bp_synchronize_rcu();
	VMBUS__TSAN_ACQUIRE(what);
}

#endif
