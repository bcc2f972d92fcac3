/* SPDX-License-Identifier: MIT */
/* A file in memory (tmpfs) by pread(2) and pwrite(2), one at a time. */
#include "../block.h"
#include "kernel.h"

#include <stdlib.h>
#include <unistd.h>

struct psync_disk {
	struct block_req req;
	uint32_t slot;
	int fd;
	bool begun;
};

static int psync_open(struct block_disk *disk)
{
	struct psync_disk *const pd = must_alloc(sizeof(*pd));

	memset(pd, 0, sizeof(*pd));
	pd->fd = block_tmpfs(disk->bytes);
	if (pd->fd < 0) {
		free(pd);
		return block_fail(disk, "no memory");
	}
	disk->priv = pd;
	disk->buf = block_memory();
	return 0;
}

static int psync_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	struct psync_disk *const pd = disk->priv;

	pd->req = *req;
	pd->slot = slot;
	pd->begun = true;
	return 0;
}

static int psync_turn(struct block_disk *disk)
{
	struct psync_disk *const pd = disk->priv;
	uint8_t *const buf = block_slot(disk, pd->slot);
	ssize_t n;

	if (!pd->begun)
		return 0;
	if (pd->req.write)
		n = pwrite(pd->fd, buf, pd->req.bytes, (off_t)pd->req.offset);
	else
		n = pread(pd->fd, buf, pd->req.bytes, (off_t)pd->req.offset);
	pd->begun = false;
	block_ended(disk, pd->slot, n == (ssize_t)pd->req.bytes);
	return 0;
}

static void psync_close(struct block_disk *disk)
{
	struct psync_disk *const pd = disk->priv;

	(void)close(pd->fd);
	free(disk->buf);
	free(pd);
}

const struct block_subject block_psync = {
	.name = "limit.pread",
	.what = "a file on tmpfs by pread and pwrite, in one process",
	.keeps = true,
	.depth_max = 1,
	.version = kernel_version,
	.open = psync_open,
	.submit = psync_submit,
	.turn = psync_turn,
	.close = psync_close,
};
