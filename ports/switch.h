/* SPDX-License-Identifier: MIT */
/*
 * What the files of the switch share.
 *
 * A port is a slot.  Its inbox, once made, lives as long as the switch, so that who still has an old
 * destination in hand puts into memory that is there; a generation tells the slot's users apart.
 *
 * Who sends runs on the thread of the port that it comes from, and takes no lock: it reads the bits
 * of open ports and the table of addresses.  With the switch's lock, ports begin and end.
 */
#ifndef VMBUS_SWITCH_PRIVATE_H
#define VMBUS_SWITCH_PRIVATE_H

#include <pthread.h>

#include <vmbus/switch.h>

#include "base/atomic.h"
#include "port/inbox.h"

#define VMBUS__SWITCH_WAYS 8u /* addresses of one bucket: a line of memory */
#define VMBUS__SWITCH_NONE UINT32_MAX

/*
 * Where a frame goes to, in 16 bits of the table: the number of a slot, and above it what is left of
 * its generation.
 */
#define VMBUS__SWITCH_NUMBER_BITS 10u
#define VMBUS__SWITCH_GENERATIONS 64u

struct vmbus__switch_plug; /* switch_plug.c */

struct vmbus__switch_port {
	struct vmbus_switch *sw;
	uint32_t number;
	/* With the switch's lock. */
	bool used, open;
	char name[VMBUS_SWITCH_NAME_BYTES];
	/* Set with the turn and the lock, read with either.  NULL: of vmbus_switch_port(). */
	struct vmbus__switch_plug *plug;
	/* Set before the slot is first open, and then there for ever. */
	struct vmbus__inbox *inbox;
	uint32_t generation; /* shared: 0 to VMBUS__SWITCH_GENERATIONS - 1 */
	/* Of who sends. */
	uint32_t flood_second, flood_left;
	uint32_t swept_second; /* when addresses that were silent were given up */
	uint64_t pad0[8];
	/* Shared counters: of who sends; of who takes; of all others. */
	uint64_t in_frames, in_bytes, flooded, flood_limit, nowhere, bad, not_learned, moved;
	uint64_t pad1[8];
	uint64_t out_frames, out_bytes, refused;
	uint64_t pad2[8];
	uint64_t no_room, addresses;
};

/* Words of 48 bits of address and 16 of destination; 0 is empty.  Beside each the second in which
   it was last heard of. */
struct vmbus__switch_table {
	uint64_t *word;		/* shared; buckets of WAYS, aligned to a line */
	uint32_t *seen;		/* shared */
	uint32_t entries, mask; /* of buckets */
	uint32_t salt[2];	/* so that nobody outside knows who shares a bucket */
};

struct vmbus_switch {
	struct vmbus_switch_opts opts;
	struct vmbus__switch_table table;
	struct vmbus__switch_port *port;	    /* opts.ports of them */
	uint64_t open[VMBUS_SWITCH_PORTS_MAX / 64]; /* shared: bit of each open port */
	/* Held while nothing of a port is called but dropped(): its open() and close() may be those of
	   another switch, which take that one's. */
	pthread_mutex_t lock;
	pthread_mutex_t turn; /* of dispatch, plug and unplug; taken before lock */
	bool passing;	      /* with the turn: frames go on to other plugs; see switch_plug.c */
	uint32_t passed;      /* with the turn: how many did in this dispatch */
	int epoll;
};

/* A counter that one thread at a time writes and any may read. */
static inline void vmbus__switch_count(uint64_t *counter, uint64_t v)
{
	vmbus__a64 *const word = vmbus__as_a64(counter);

	vmbus__st64_relaxed(word, vmbus__ld64_relaxed(word) + v); /* SWITCHCOUNT.count */
}

/* Seconds of a clock that only goes forward. */
uint32_t vmbus__switch_now(void);

/* switch_table.c.  An address is in the lower 48 bits, its first byte lowest. */
int vmbus__switch_table_init(struct vmbus__switch_table *table, uint32_t entries);
void vmbus__switch_table_end(struct vmbus__switch_table *table);
/* A destination, or VMBUS__SWITCH_NONE: unknown, or silent for too long. */
uint32_t vmbus__switch_find(const struct vmbus_switch *sw, uint64_t mac, uint32_t now);
/* Any number of threads; from is the sender's own. */
void vmbus__switch_learn(struct vmbus__switch_port *from, uint64_t mac, uint32_t now);
/* Forget what leads to a slot. */
void vmbus__switch_forget(struct vmbus_switch *sw, uint32_t number);

/* switch_send.c: n frames, at most VMBUS_PORT_BURST, that come from a port. */
void vmbus__switch_send(struct vmbus__switch_port *from, const struct vmbus_frame *frame,
			uint32_t n);
/* The taker's: what waits for an open port and is meant for it; as vmbus__inbox_look(). */
uint32_t vmbus__switch_peek(struct vmbus__switch_port *port, const struct vmbus_frame **frame);
/* The taker's: the first n of them are where they should be. */
void vmbus__switch_done(struct vmbus__switch_port *port, const struct vmbus_frame *frame,
			uint32_t n);

/* switch.c.  A free slot, named; with the lock of the switch. */
int vmbus__switch_slot(struct vmbus_switch *sw, const char *name, struct vmbus__switch_port **port);
/* A port begins and ends to take part; with the lock. */
void vmbus__switch_begin(struct vmbus__switch_port *port);
void vmbus__switch_end(struct vmbus__switch_port *port);

/* Whether it is a port that vmbus_switch_port() made of this switch. */
bool vmbus__switch_is_own(const struct vmbus_switch *sw, const struct vmbus_port *port);

/* switch_plug.c.  What a port itself has dropped since it was plugged in; with the lock. */
void vmbus__switch_plug_dropped(const struct vmbus__switch_plug *plug, uint64_t *sent,
				uint64_t *received);
void vmbus__switch_unplug_all(struct vmbus_switch *sw);

#endif
