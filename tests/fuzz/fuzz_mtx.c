/* SPDX-License-Identifier: MIT */
/* The writer for many threads, called from one, against the same peer; see writer.h. */
#include "fuzz/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return writer_run(data, size, true);
}
