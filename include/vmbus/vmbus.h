/* SPDX-License-Identifier: MIT */
/* All of the library's public headers.  Start with vmbus(7). */
#ifndef VMBUS_VMBUS_H
#define VMBUS_VMBUS_H

#include <vmbus/base.h>
#include <vmbus/mtx.h>
#include <vmbus/ring.h>
#include <vmbus/shm.h>
#include <vmbus/version.h>
#include <vmbus/wire.h>

#endif
