/* SPDX-License-Identifier: MIT */
/*
 * The version of the library: the numbers of the headers that a program was compiled with, and a
 * call that tells the version of the library that it runs with.  See vmbus(7).
 */
#ifndef VMBUS_VERSION_H
#define VMBUS_VERSION_H

#include <vmbus/base.h>

#define VMBUS_VERSION_MAJOR 0
#define VMBUS_VERSION_MINOR 1
#define VMBUS_VERSION_PATCH 0
#define VMBUS_VERSION_STRING "0.1.0"

/* One number to compare: 0x00MMmmpp. */
#define VMBUS_VERSION_NUMBER                                                                       \
	((VMBUS_VERSION_MAJOR << 16) | (VMBUS_VERSION_MINOR << 8) | VMBUS_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The version of the library in use, in the form of VMBUS_VERSION_NUMBER.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint32_t vmbus_version(void);

/*
 * The same as text, for instance "0.1.0".
 *
 * Effect: none.  The string is constant and lives as long as the library.
 * Threads: any.
 */
VMBUS_API const char *vmbus_version_string(void);

#ifdef __cplusplus
}
#endif
#endif
