/* SPDX-License-Identifier: MIT */
/*
 * Ethernet frames in a file of a writer, instead of records: for a network port that captures.  A
 * source is the one or the other.
 */
#ifndef VMBUS_CAPTURE_ETHER_H
#define VMBUS_CAPTURE_ETHER_H

#include <stdbool.h>

#include <vmbus/capture.h>

struct vmbus__capture_ether {
	uint64_t time_ns; /* since 1970 */
	uint64_t dropped; /* frames that were not written since the one before */
	const struct vmbus_iov *piece;
	uint32_t pieces;
	uint32_t bytes; /* of the frame, without the tag */
	uint32_t snap;	/* kept at most, with the tag; up to VMBUS_CAPTURE_SNAP_MAX */
	bool from_guest;
	bool tagged; /* with a VLAN tag that is not in the pieces */
	uint16_t tag;
};

/* Begin the source's interface, with the errors of vmbus_capture_writer_put(). */
int vmbus__capture_ether_begin(struct vmbus_capture_writer *writer, uint32_t source,
			       const char *name, uint32_t snap);

/* Write one frame, in one call of write(). */
int vmbus__capture_ether_put(struct vmbus_capture_writer *writer, uint32_t source,
			     const struct vmbus__capture_ether *frame);

#endif
