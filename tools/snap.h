/* SPDX-License-Identifier: MIT */
/* What a parent said of its buses and channels at one time, for stat and doctor. */
#ifndef VMBUSCTL_SNAP_H
#define VMBUSCTL_SNAP_H

#include <vmbus/shm_bus.h>

#include "ctl.h"

#define SNAP_TEXT 128

struct snap_chan {
	struct vmbus_chan_diag d; /* its texts are below */
	char vsp[SNAP_TEXT];
	char refused[SNAP_TEXT];
	uint64_t gone_at; /* of another process, which is gone; 0: not known, see snap_gone() */
	uint32_t gone;	  /* the process */
};

struct snap_bus {
	struct vmbus_bus_diag d; /* its texts are below */
	char name[SNAP_TEXT];
	char what[SNAP_TEXT];
	int pid;
	bool ending;
	uint32_t first; /* of its channels */
	uint32_t count;
};

struct snap {
	struct snap_bus *bus;
	struct snap_chan *chan;
	uint32_t buses, buses_room;
	uint32_t chans, chans_room;
	bool broken; /* no memory, or more than can be */
};

/* Ask a parent.  Returns 0, or the error; what snap had is freed. */
int snap_take(struct snap *snap, const struct ctl_ask *ask);
void snap_free(struct snap *snap);

/* The same bus, or channel, in another snapshot; NULL: it is not there, or was opened anew. */
const struct snap_bus *snap_same_bus(const struct snap *in, const struct snap_bus *bus);
const struct snap_chan *snap_same_chan(const struct snap *in, const struct snap_bus *bus,
				       const struct snap_chan *chan);

/*
 * Ask the flight records since when the providers of channels are gone, if channels have none.
 * What cannot be asked stays unknown.
 */
void snap_gone(struct snap *snap, const struct ctl_ask *ask);

/* Wait for so long. */
void snap_sleep(uint64_t ns);

#endif
