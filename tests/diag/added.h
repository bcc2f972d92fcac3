/* SPDX-License-Identifier: MIT */
/*
 * A bus that is told by the server, with a child made by hand, as a virtual machine's is.  The server does
 * not dispatch it.
 */
#ifndef VMBUS_TESTS_DIAG_ADDED_H
#define VMBUS_TESTS_DIAG_ADDED_H

#include "diag/broken.h"

#include "bus/fake.h"

struct added {
	struct host host;
	struct fake fake;
	struct vmbus_chan *offered;
	struct fake_chan chan;
	struct fake_echo echo;
};

/* With a device that the child has not asked for. */
static inline void added_begin(struct added *a, const struct vmbus_vsp *vsp)
{
	NEED_TOOL();
	memset(a, 0, sizeof(*a));
	host_init(&a->host);
	host_listen(&a->host);
	fake_init(&a->fake, 256);
	a->offered = fake_offer(&a->fake, vsp, &a->echo, 0);
	must_eq(vmbus_shm_server_add_bus(a->host.server, a->fake.bus, 1, 0), 0);
	fake_contact(&a->fake, VMBUS_PROTO_5_3);
}

static inline void added_open(struct added *a, const struct vmbus_vsp *vsp)
{
	added_begin(a, vsp);
	must_eq(fake_offers(&a->fake, &a->chan, 1), 1);
}

static inline void added_close(struct added *a)
{
	fake_chan_free(&a->chan);
	vmbus_shm_server_remove_bus(a->host.server, a->fake.bus);
	fake_fini(&a->fake);
	host_close(&a->host);
}

#endif
