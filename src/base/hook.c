/* SPDX-License-Identifier: MIT */
/* The test hook of untrusted loads; empty in every build that is shipped. */
#include "base/atomic.h"

#if defined(VMBUS_TEST_HOOKS)
void (*vmbus__test_hook)(const volatile void *p);
#else
typedef int vmbus__hook_is_empty; /* ISO C wants a declaration in each file */
#endif
