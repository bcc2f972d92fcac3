/* SPDX-License-Identifier: MIT */
/* Saved states in tests: copies with something changed whose checksum is right all the same. */
#ifndef SRV_STATE_CHECK_H
#define SRV_STATE_CHECK_H

#include <stdlib.h>
#include <string.h>

#include "base/state.h"

/* Make length and checksum those of the bytes, so that what lies behind them is looked at. */
static inline void state_mend(uint8_t *state, size_t bytes)
{
	struct vmbus__out out = { .buf = state, .room = bytes, .at = bytes };

	if (bytes < VMBUS__STATE_HEAD)
		return;
	memset(state + VMBUS__STATE_SUM_AT, 0, 4);
	vmbus__out_end(&out);
}

/* Where the nth section of a type begins, header included; 0: there is none. */
static inline size_t state_section(const uint8_t *state, size_t bytes, uint32_t type, size_t *len)
{
	struct vmbus__in in = { state + VMBUS__STATE_HEAD, bytes - VMBUS__STATE_HEAD, false };
	struct vmbus__section s;

	while (vmbus__in_section(&in, &s) == 1)
		if (s.type == type) {
			*len = s.in.left;
			return (size_t)(s.in.at - state) - VMBUS__SECTION_HEAD;
		}
	return 0;
}

/* A copy with n bytes put in at a place; *bytes grows. */
static inline uint8_t *state_with(const uint8_t *state, size_t *bytes, size_t at, const void *more,
				  size_t n)
{
	uint8_t *copy = malloc(*bytes + n);

	if (!copy)
		abort();
	memcpy(copy, state, at);
	memcpy(copy + at, more, n);
	memcpy(copy + at + n, state + at, *bytes - at);
	*bytes += n;
	state_mend(copy, *bytes);
	return copy;
}

#endif
