/* SPDX-License-Identifier: MIT */
/*
 * nbdkit's memory plugin behind a Unix socket, asked by libnbd, asynchronously.  This side looks at the
 * socket all the time, and does not sleep.
 */
#include "../block.h"

#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct nbd_slot {
	struct block_disk *disk;
	uint32_t slot;
};

struct nbd_disk {
	struct nbd_handle *nbd;
	struct nbd_slot slot[BLOCK_DEPTH_MAX];
	char path[64];
};

static const char *nbd_subject_version(void)
{
	static char text[64];

	if (!*text)
		(void)snprintf(text, sizeof(text), "%s, libnbd %s",
			       block_version("nbdkit", "nbdkit "), VMBUS_BENCH_NBD_VERSION);
	return text;
}

static void nbd_subject_close(struct block_disk *disk)
{
	struct nbd_disk *const nd = disk->priv;

	if (nd->nbd) {
		(void)nbd_shutdown(nd->nbd, 0);
		nbd_close(nd->nbd);
	}
	block_reap(disk);
	(void)unlink(nd->path);
	free(disk->buf);
	free(nd);
}

static int connect_to(struct block_disk *disk, struct nbd_disk *nd)
{
	const uint64_t until = now_ns() + BLOCK_WAIT_NS;

	for (;;) {
		nd->nbd = nbd_create();
		if (!nd->nbd)
			return block_fail(disk, "libnbd: %s", nbd_get_error());
		/* What would be checked and cleared for each request, for nothing. */
		(void)nbd_set_strict_mode(nd->nbd, 0);
		(void)nbd_set_pread_initialize(nd->nbd, false);
		if (nbd_connect_unix(nd->nbd, nd->path) == 0)
			return 0;
		nbd_close(nd->nbd);
		nd->nbd = NULL;
		if (now_ns() > until || block_is_gone(disk))
			return block_fail(disk, "nbdkit: %s", nbd_get_error());
		usleep(1000);
	}
}

static int nbd_subject_open(struct block_disk *disk)
{
	struct nbd_disk *nd;
	char size[32];
	const char *const argv[] = { "nbdkit", "-f", "-U", NULL, "memory", size, NULL };
	const char *args[sizeof(argv) / sizeof(argv[0])];

	if (!block_is_installed("nbdkit")) {
		disk->missing = "nbdkit";
		return block_fail(disk, "no nbdkit in PATH");
	}
	nd = must_alloc(sizeof(*nd));
	memset(nd, 0, sizeof(*nd));
	disk->priv = nd;
	disk->buf = block_memory();
	for (uint32_t i = 0; i < BLOCK_DEPTH_MAX; i++)
		nd->slot[i] = (struct nbd_slot){ disk, i };
	(void)snprintf(nd->path, sizeof(nd->path), "/tmp/vmbus-bench-%d.nbd", (int)getpid());
	(void)snprintf(size, sizeof(size), "%llu", (unsigned long long)disk->bytes);
	memcpy(args, argv, sizeof(args));
	args[3] = nd->path;
	disk->server = block_spawn(disk->place, args);
	if (disk->server < 0 || connect_to(disk, nd)) {
		nbd_subject_close(disk);
		return -1;
	}
	return 0;
}

static int nbd_ended(void *ctx, int *error)
{
	const struct nbd_slot *const s = ctx;

	block_ended(s->disk, s->slot, *error == 0);
	return 1; /* it is forgotten */
}

static int nbd_subject_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	struct nbd_disk *const nd = disk->priv;
	const nbd_completion_callback ended = { .callback = nbd_ended,
						.user_data = &nd->slot[slot] };
	int64_t cookie;

	if (req->write)
		cookie = nbd_aio_pwrite(nd->nbd, block_slot(disk, slot), req->bytes, req->offset,
					ended, 0);
	else
		cookie = nbd_aio_pread(nd->nbd, block_slot(disk, slot), req->bytes, req->offset,
				       ended, 0);
	return cookie < 0 ? -1 : 0;
}

static int nbd_subject_turn(struct block_disk *disk)
{
	struct nbd_disk *const nd = disk->priv;

	return nbd_poll(nd->nbd, 0) < 0 ? -1 : 0;
}

const struct block_subject block_nbdkit = {
	.name = "nbdkit",
	.what = "nbdkit's memory plugin through a Unix socket, by libnbd",
	.package = "nbdkit",
	.keeps = true,
	.version = nbd_subject_version,
	.open = nbd_subject_open,
	.submit = nbd_subject_submit,
	.turn = nbd_subject_turn,
	.close = nbd_subject_close,
};
