/* SPDX-License-Identifier: MIT */
/* The writer against a peer that lies about its read index and its mask; see writer.h. */
#include "fuzz/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return writer_run(data, size, false);
}
