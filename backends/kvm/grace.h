/* SPDX-License-Identifier: MIT */
/*
 * The grace period after which nobody uses a page any more that was taken out of use.
 */
#ifndef VMBUS_KVM_GRACE_H
#define VMBUS_KVM_GRACE_H

#include <urcu-bp.h>

/* liburcu is not compiled with the thread sanitizer, which is told what it orders. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VMBUS__KVM_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define VMBUS__KVM_TSAN 1
#endif

#if defined(VMBUS__KVM_TSAN)
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define VMBUS__KVM_ACQUIRE(p) __tsan_acquire(p)
#define VMBUS__KVM_RELEASE(p) __tsan_release(p)
#else
#define VMBUS__KVM_ACQUIRE(p) ((void)(p))
#define VMBUS__KVM_RELEASE(p) ((void)(p))
#endif

/* Between these two the pages of a SynIC stay mapped. */
static inline void vmbus__kvm_enter(void)
{
	urcu_bp_read_lock();
}

static inline void vmbus__kvm_leave(void *what)
{
	VMBUS__KVM_RELEASE(what);
	urcu_bp_read_unlock();
}

/* Until all who have entered before have left. */
static inline void vmbus__kvm_grace(void *what)
{
	urcu_bp_synchronize_rcu();
	VMBUS__KVM_ACQUIRE(what);
}

#endif
