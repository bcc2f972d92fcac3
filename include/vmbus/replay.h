/* SPDX-License-Identifier: MIT */
/*
 * Feed a captured channel to a VSP again, and compare what it says with what was captured: a test
 * for authors of devices that needs no child.  A private bus carries it; no clock plays a part.
 *
 * Concepts, what cannot be replayed: vmbus_capture(7).  Hosted: in vmbus::vmbus.
 */
#ifndef VMBUS_REPLAY_H
#define VMBUS_REPLAY_H

#include <vmbus/bus.h>
#include <vmbus/capture.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options of vmbus_replay(); 0 takes the default in brackets. */
struct vmbus_replay_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_replay_opts) */
	const struct vmbus_vsp *vsp;
	void *ctx;			      /* of vmbus_chan_ctx() */
	struct vmbus_capture_reader *capture; /* read up to its end */
	uint32_t channel;		      /* which of the file's */
	uint32_t lines_max;		      /* [100] differences that line() hears of */
	uint64_t memory_bytes; /* [256 MiB] of memory from page 0 on, all zero at first */
	/*
	 * Let a device finish what it does on other threads, or when its timers come; called after
	 * each batch, and where an answer is missing, also one to open() or close().  NULL: it does
	 * everything within its callbacks.
	 */
	void (*settle)(void *ctx, struct vmbus_bus *bus);
	/* One difference, what ends the replay, or that the class is another; the same for the same
	   file.  NULL: only counted. */
	void (*line)(void *line_ctx, const char *text);
	void *line_ctx;
	uint64_t reserved[4];
};

struct vmbus_replay_result {
	uint64_t records; /* of the channel */
	uint64_t opens;
	uint64_t batches;
	uint64_t fed;	   /* packets from the child */
	uint64_t expected; /* packets to the child that were captured */
	uint64_t sent;	   /* that the device has sent now */
	uint64_t differences;
	bool complete; /* the capture was replayed to its end, wherever it began */
	uint8_t reserved[7];
	uint64_t reserved2[4];
};

/*
 * Replay a channel.
 *
 * result  what was found, also when the replay ends early.
 *
 * Returns 0: differences and complete tell how it went.
 * Errors: INVAL   a size is wrong, vsp or capture is missing, or the vsp cannot be offered
 *	   RANGE   memory_bytes is over 1 TiB or no multiple of 4096
 *	   PEER	   the file is not as it should be: vmbus_capture_reader_why(); or, with no text
 *		   there, the rings were broken
 *	   FAULT   the capture was found wrong before
 *	   NOMEM, SYSTEM  a system call failed
 *	   what the capture's read() returned
 * Effect: callbacks of the device.  The capture is read.
 * Threads: any; callbacks come on this one.
 */
VMBUS_API int vmbus_replay(const struct vmbus_replay_opts *opts,
			   struct vmbus_replay_result *result);

#ifdef __cplusplus
}
#endif
#endif
