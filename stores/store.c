/* SPDX-License-Identifier: MIT */
/*
 * What all block stores share: how a request ends, and how a store does.  It knows no store.
 */
#include <vmbus/store.h>

void vmbus_io_done(struct vmbus_io *io, enum vmbus_io_end end)
{
	io->done_p(io, end);
}

void vmbus_store_destroy(struct vmbus_store *store)
{
	if (store->ops && store->ops->destroy)
		store->ops->destroy(store->ctx);
	store->ops = NULL;
	store->ctx = NULL;
}
