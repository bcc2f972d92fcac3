/* SPDX-License-Identifier: MIT */
/*
 * Control messages, calls of the host and answers of devices into the host machine, in any order.
 * The first byte chooses the limits, each further byte a step; see tests/channel/srv_drive.h.  A
 * broken invariant or account of answers traps.
 */
#include "channel/srv_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct srv_drive d;

	drive_begin(&d, data, size);
	while (drive_step(&d))
		continue;
	if (!d.trouble)
		drive_finish(&d);
	drive_end(&d);
	if (d.trouble) {
		fprintf(stderr, "not true: %s, step %u\n", d.trouble, d.steps);
		__builtin_trap();
	}
	return 0;
}
