/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user-blk disk of QEMU's storage daemon, on a file on tmpfs or on its null driver: one split
 * queue in shared memory.  This side polls the used ring, asks for no calls, and kicks as the daemon
 * asks for by the event index.
 */
#include "../block.h"
#include "vhost_user.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define QUEUE 256u /* descriptors: three for each request */
#define PER_REQUEST 3u

/* What precedes and follows the data of a request. */
struct blk_parts {
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint8_t pad[47];
};

struct blk_disk {
	struct vhost_user vu;
	struct vring ring;
	struct blk_parts *parts; /* one for each slot */
	uint16_t avail, told;	 /* begun, and published */
	uint16_t used;
	int file;
	char path[64];
};

static const char *blk_version(void)
{
	static const char *text;

	if (!text)
		text = block_version("qemu-storage-daemon", "version ");
	return text;
}

static void blk_close(struct block_disk *disk)
{
	struct blk_disk *const bd = disk->priv;

	vhost_user_close(&bd->vu);
	block_reap(disk);
	(void)unlink(bd->path);
	if (bd->file >= 0)
		(void)close(bd->file);
	free(bd);
}

/* Where everything is in the shared memory: buffers, then rings, then headers. */
static size_t rings_at(void)
{
	return BLOCK_BUF_BYTES;
}

static size_t parts_at(void)
{
	return rings_at() + round_up(vring_size(QUEUE, BLOCK_BYTES), BLOCK_BYTES);
}

static void ring_init(struct block_disk *disk, struct blk_disk *bd)
{
	disk->buf = bd->vu.mem;
	bd->parts = (struct blk_parts *)(void *)(bd->vu.mem + parts_at());
	vring_init(&bd->ring, QUEUE, bd->vu.mem + rings_at(), BLOCK_BYTES);
	bd->ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	for (uint32_t slot = 0; slot < BLOCK_DEPTH_MAX; slot++) {
		struct vring_desc *const desc = &bd->ring.desc[slot * PER_REQUEST];

		for (uint16_t i = 0; i < PER_REQUEST; i++)
			desc[i].next = (uint16_t)(slot * PER_REQUEST + i + 1u);
		desc[0].addr = vhost_user_addr(&bd->vu, &bd->parts[slot].header);
		desc[0].len = sizeof(bd->parts[slot].header);
		desc[0].flags = VRING_DESC_F_NEXT;
		desc[1].addr = vhost_user_addr(&bd->vu, block_slot(disk, slot));
		desc[2].addr = vhost_user_addr(&bd->vu, &bd->parts[slot].status);
		desc[2].len = 1;
		desc[2].flags = VRING_DESC_F_WRITE;
	}
}

/* Without the page cache it does what is asked at once; not every kernel has that for tmpfs. */
static pid_t daemon_start(struct block_disk *disk, struct blk_disk *bd, bool direct)
{
	char node[160], export[224];
	const char *const argv[] = { "qemu-storage-daemon",
				     "--object",
				     "iothread,id=thread,poll-max-ns=100000",
				     "--blockdev",
				     node,
				     "--export",
				     export,
				     NULL };
	pid_t pid;

	if (bd->file < 0)
		(void)snprintf(node, sizeof(node),
			       "driver=null-co,node-name=disk,size=%llu,read-zeroes=off",
			       (unsigned long long)disk->bytes);
	else
		(void)snprintf(
			node, sizeof(node),
			"driver=file,node-name=disk,filename=/proc/self/fd/%d,locking=off,%s",
			bd->file, direct ? "aio=native,cache.direct=on" : "aio=threads");
	(void)snprintf(export, sizeof(export),
		       "type=vhost-user-blk,id=export,node-name=disk,writable=on,iothread=thread,"
		       "addr.type=unix,addr.path=%s",
		       bd->path);
	if (bd->file >= 0)
		(void)fcntl(bd->file, F_SETFD, 0);
	pid = block_spawn(disk->place, argv);
	if (bd->file >= 0)
		(void)fcntl(bd->file, F_SETFD, FD_CLOEXEC);
	return pid;
}

static int blk_connect(struct block_disk *disk, struct blk_disk *bd, bool direct)
{
	const uint64_t until = now_ns() + BLOCK_WAIT_NS;

	disk->server = daemon_start(disk, bd, direct);
	if (disk->server < 0)
		return block_fail(disk, "fork failed");
	while (vhost_user_connect(&bd->vu, bd->path)) {
		if (now_ns() > until || block_is_gone(disk))
			return block_fail(disk, "qemu-storage-daemon does not listen");
		usleep(1000);
	}
	return 0;
}

static int blk_begin(struct block_disk *disk, bool null)
{
	const struct vhost_user_queue queue = { QUEUE, rings_at() };
	struct blk_disk *const bd = disk->priv;

	bd->file = null ? -1 : block_tmpfs(disk->bytes);
	if (!null && bd->file < 0)
		return block_fail(disk, "no memory");
	if (blk_connect(disk, bd, true) && (null || blk_connect(disk, bd, false)))
		return -1;
	if (vhost_user_memory(&bd->vu, parts_at() + BLOCK_DEPTH_MAX * sizeof(struct blk_parts)))
		return block_fail(disk, "no shared memory");
	ring_init(disk, bd);
	if (vhost_user_start(&bd->vu, &queue))
		return block_fail(disk, "qemu-storage-daemon: %s", bd->vu.why);
	return 0;
}

static int blk_open_any(struct block_disk *disk, bool null)
{
	static unsigned int count;
	struct blk_disk *bd;

	if (!block_is_installed("qemu-storage-daemon")) {
		disk->missing = "qemu-storage-daemon";
		return block_fail(disk, "no qemu-storage-daemon in PATH");
	}
	bd = must_alloc(sizeof(*bd));
	memset(bd, 0, sizeof(*bd));
	vhost_user_init(&bd->vu);
	bd->file = -1;
	(void)snprintf(bd->path, sizeof(bd->path), "/tmp/vmbus-bench-%d-%u.vhost", (int)getpid(),
		       count++);
	disk->priv = bd;
	if (blk_begin(disk, null) == 0)
		return 0;
	blk_close(disk);
	return -1;
}

static int blk_open(struct block_disk *disk)
{
	return blk_open_any(disk, false);
}

static int blk_open_null(struct block_disk *disk)
{
	return blk_open_any(disk, true);
}

static int blk_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	struct blk_disk *const bd = disk->priv;
	struct vring_desc *const data = &bd->ring.desc[slot * PER_REQUEST + 1u];
	struct blk_parts *const parts = &bd->parts[slot];

	parts->header.type = req->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	parts->header.sector = req->offset / 512u;
	parts->status = 0xff;
	data->len = req->bytes;
	data->flags = VRING_DESC_F_NEXT | (req->write ? 0 : VRING_DESC_F_WRITE);
	bd->ring.avail->ring[bd->avail % QUEUE] = (uint16_t)(slot * PER_REQUEST);
	bd->avail++;
	return 0;
}

static void blk_publish(struct blk_disk *bd)
{
	const uint16_t from = bd->told;
	uint16_t event;

	if (bd->avail == from)
		return;
	__atomic_store_n(&bd->ring.avail->idx, bd->avail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(&vring_avail_event(&bd->ring), __ATOMIC_RELAXED);
	bd->told = bd->avail;
	if (bd->vu.event_index ? vring_need_event(event, bd->avail, from)
			       : !(bd->ring.used->flags & VRING_USED_F_NO_NOTIFY))
		vhost_user_kick(&bd->vu);
}

static int blk_turn(struct block_disk *disk)
{
	struct blk_disk *const bd = disk->priv;
	const uint16_t idx =
		(blk_publish(bd), __atomic_load_n(&bd->ring.used->idx, __ATOMIC_ACQUIRE));

	/* No call before all of the ring has been used: this side polls. */
	while (bd->used != idx) {
		const uint32_t head = bd->ring.used->ring[bd->used % QUEUE].id;
		const uint32_t slot = head / PER_REQUEST;

		bd->used++;
		if (slot >= BLOCK_DEPTH_MAX)
			return -1;
		block_ended(disk, slot, bd->parts[slot].status == VIRTIO_BLK_S_OK);
	}
	vring_used_event(&bd->ring) = (uint16_t)(bd->used - 1u);
	return 0;
}

const struct block_subject block_vhost = {
	.name = "vhost-user-blk",
	.what = "QEMU's storage daemon, a file on tmpfs, through a queue in shared memory",
	.package = "qemu-system-common",
	.keeps = true,
	.version = blk_version,
	.open = blk_open,
	.submit = blk_submit,
	.turn = blk_turn,
	.close = blk_close,
};

const struct block_subject block_vhost_null = {
	.name = "vhost-user-blk-null",
	.what = "the same with QEMU's null driver",
	.package = "qemu-system-common",
	.version = blk_version,
	.open = blk_open_null,
	.submit = blk_submit,
	.turn = blk_turn,
	.close = blk_close,
};
