/* SPDX-License-Identifier: MIT */
/*
 * A block store that keeps nothing: what the path to a store costs, without the store.  Every
 * request is done before its call returns.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <vmbus/store.h>

struct null {
	uint64_t bytes;
	bool fill;
};

static int null_info(void *ctx, struct vmbus_store_info *info)
{
	const struct null *const null = ctx;

	memset(info, 0, sizeof(*info));
	info->bytes = null->bytes;
	return 0;
}

static void null_read(struct vmbus_io *io)
{
	const struct null *const null = io->queue->ctx;
	uint32_t i;

	if (null->fill)
		for (i = 0; i < io->iov_count; i++)
			memset(io->iov[i].iov_base, 0, io->iov[i].iov_len);
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void null_done(struct vmbus_io *io)
{
	vmbus_io_done(io, VMBUS_IO_OK);
}

static const struct vmbus_store_ops null_ops = {
	.struct_bytes = sizeof(null_ops),
	.name = "null",
	.info = null_info,
	.read = null_read,
	.write = null_done,
	.discard = null_done,
	.zero = null_done,
	.destroy = free,
};

int vmbus_store_null(uint64_t bytes, bool fill, struct vmbus_store *store)
{
	struct null *null;

	if (bytes == 0 || bytes > VMBUS_STORE_BYTES_MAX)
		return VMBUS_E_RANGE;
	null = malloc(sizeof(*null));
	if (!null)
		return VMBUS_E_NOMEM;
	*null = (struct null){ .bytes = bytes, .fill = fill };
	*store = (struct vmbus_store){ .ops = &null_ops, .ctx = null };
	return 0;
}
