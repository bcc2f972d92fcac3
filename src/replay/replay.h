/* SPDX-License-Identifier: MIT */
/* The partition of a replay: a bus, and the child's part of it done by hand. */
#ifndef VMBUS_REPLAY_PRIVATE_H
#define VMBUS_REPLAY_PRIVATE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <vmbus/replay.h>

#define VMBUS__REPLAY_POSTS 256u

struct vmbus__replay_post {
	uint32_t bytes;
	uint8_t payload[VMBUS_HC_MESSAGE_MAX];
};

struct vmbus__replay_part {
	const struct vmbus_replay_opts *opts;
	struct vmbus_backend backend;
	struct vmbus_bus *bus;
	struct vmbus_chan *chan;
	struct vmbus_region memory, rings;
	struct vmbus_region *regions[2];
	uint32_t relid, conn;
	uint32_t gpadl;
	bool asked; /* OPEN was posted, and neither refused nor followed by CLOSE */
	bool open;
	bool rescinded;
	uint32_t from_pages, to_pages;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	void *buf;
	uint32_t posted; /* waiting in posts */
	struct vmbus__replay_post posts[VMBUS__REPLAY_POSTS];
};

/* Memory, a bus, contact, an offer. */
int vmbus__part_create(struct vmbus__replay_part *part, const struct vmbus_replay_opts *opts);
void vmbus__part_destroy(struct vmbus__replay_part *part);

/* Dispatch until nothing is left to do; messages to the child are taken. */
int vmbus__part_run(struct vmbus__replay_part *part);

/*
 * Open with rings of these data bytes.  Returns 1: open; 0: the device refused.
 * Errors: RANGE (rings that cannot be), NOMEM, AGAIN (the device has not answered, also when it was let finish)
 */
int vmbus__part_open(struct vmbus__replay_part *part, const struct vmbus_capture_open *open);
/* Errors: AGAIN (the device has not ended what it does) */
int vmbus__part_close(struct vmbus__replay_part *part);

#endif
