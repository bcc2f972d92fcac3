/* SPDX-License-Identifier: MIT */
/* A user's program: one packet through one ring.  Compiled as C and, through ring.cpp, as C++. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <vmbus/ring.h>
#include <vmbus/version.h>

int main(void)
{
	if (vmbus_version() != VMBUS_VERSION_NUMBER ||
	    strcmp(vmbus_version_string(), VMBUS_VERSION_STRING) != 0) {
		fprintf(stderr, "headers %s, library %s\n", VMBUS_VERSION_STRING,
			vmbus_version_string());
		return 1;
	}
	/* The largest packet leaves room for descriptor, trailer and the unit that stays free. */
	if (vmbus_ring_max_send(4096) != 4080 || vmbus_ring_max_accept(4096) != 4088) {
		fprintf(stderr, "limits of a 4096-byte ring: %u, %u\n",
			(unsigned)vmbus_ring_max_send(4096), (unsigned)vmbus_ring_max_accept(4096));
		return 1;
	}
	return 0;
}
