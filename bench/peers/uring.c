/* SPDX-License-Identifier: MIT */
/*
 * A file in memory (tmpfs) by io_uring, with a registered descriptor and registered buffers: what a
 * process gets from the kernel when nobody else is between.  No second process.
 */
#include "../block.h"
#include "kernel.h"

#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

struct uring_disk {
	struct io_uring ring;
	int fd;
	bool fixed; /* the buffers are registered */
	uint32_t under_way;
};

static void uring_close(struct block_disk *disk)
{
	struct uring_disk *const ud = disk->priv;

	io_uring_queue_exit(&ud->ring);
	(void)close(ud->fd);
	free(disk->buf);
	free(ud);
}

static int ring_open(struct io_uring *ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER |
						   IORING_SETUP_DEFER_TASKRUN };

	if (io_uring_queue_init_params(2 * BLOCK_DEPTH_MAX, ring, &params) == 0)
		return 0;
	return io_uring_queue_init(2 * BLOCK_DEPTH_MAX, ring, 0);
}

static int uring_open(struct block_disk *disk)
{
	struct uring_disk *const ud = must_alloc(sizeof(*ud));
	struct iovec iov;

	memset(ud, 0, sizeof(*ud));
	ud->fd = block_tmpfs(disk->bytes);
	if (ud->fd < 0 || ring_open(&ud->ring)) {
		if (ud->fd >= 0)
			(void)close(ud->fd);
		free(ud);
		return block_fail(disk, "no io_uring, or no memory");
	}
	disk->priv = ud;
	disk->buf = block_memory();
	iov = (struct iovec){ disk->buf, BLOCK_BUF_BYTES };
	ud->fixed = io_uring_register_buffers(&ud->ring, &iov, 1) == 0;
	if (io_uring_register_files(&ud->ring, &ud->fd, 1)) {
		uring_close(disk);
		return block_fail(disk, "io_uring registers no descriptor");
	}
	return 0;
}

static int uring_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	struct uring_disk *const ud = disk->priv;
	struct io_uring_sqe *const sqe = io_uring_get_sqe(&ud->ring);
	void *const buf = block_slot(disk, slot);

	if (!sqe)
		return -1;
	if (ud->fixed && req->write)
		io_uring_prep_write_fixed(sqe, 0, buf, req->bytes, req->offset, 0);
	else if (ud->fixed)
		io_uring_prep_read_fixed(sqe, 0, buf, req->bytes, req->offset, 0);
	else if (req->write)
		io_uring_prep_write(sqe, 0, buf, req->bytes, req->offset);
	else
		io_uring_prep_read(sqe, 0, buf, req->bytes, req->offset);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, (uint64_t)req->bytes << 32 | slot);
	ud->under_way++;
	return 0;
}

/* Waits for one, since that is quicker here than looking again and again: the kernel works for us. */
static int uring_turn(struct block_disk *disk)
{
	struct uring_disk *const ud = disk->priv;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	if (!ud->under_way)
		return 0;
	if (io_uring_submit_and_wait(&ud->ring, 1) < 0)
		return -1;
	io_uring_for_each_cqe(&ud->ring, head, cqe)
	{
		const uint64_t data = io_uring_cqe_get_data64(cqe);

		block_ended(disk, (uint32_t)data, cqe->res == (int)(data >> 32));
		n++;
	}
	io_uring_cq_advance(&ud->ring, n);
	ud->under_way -= n;
	return 0;
}

const struct block_subject block_uring = {
	.name = "limit.io_uring",
	.what = "a file on tmpfs by io_uring, in one process",
	.keeps = true,
	.sleeps = true,
	.version = kernel_version,
	.open = uring_open,
	.submit = uring_submit,
	.turn = uring_turn,
	.close = uring_close,
};
