/* SPDX-License-Identifier: MIT */
/* The controller and its embedder: removed(), and stores that take their time to tell their size. */
#include "vspbox.h"

#include <pthread.h>

/* ---- an address is free when removed() has returned ---- */

struct keeper {
	struct vmbus_block *block;
	struct vmbus_store other;
	uint32_t removed;
	int again, elsewhere;
};

static int add_at(struct vmbus_block *block, const struct vmbus_store *store, uint8_t lun)
{
	const struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					       .store = *store,
					       .lun = lun };

	return vmbus_block_add(block, &disk);
}

static void keeper_removed(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store)
{
	struct keeper *const k = ctx;

	(void)target;
	(void)store;
	if (k->removed++)
		return;
	k->again = add_at(k->block, &k->other, lun);
	k->elsewhere = add_at(k->block, &k->other, (uint8_t)(lun + 1));
}

START_TEST(block_add__waits_until_removed_has_returned)
{
	struct keeper k = { .removed = 0 };
	const struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts),
					       .removed = keeper_removed,
					       .ctx = &k };
	struct vmbus_store store = box_store(BOX_DISK_BYTES);

	k.other = box_store(BOX_DISK_BYTES);
	must_eq(vmbus_block_create(&opts, &k.block), 0);
	must_eq(add_at(k.block, &store, 3), 0);
	must_eq(vmbus_block_remove(k.block, 0, 3), 0);
	must_eq(k.removed, 1);
	must_eq(k.again, VMBUS_E_STATE);
	must_eq(k.elsewhere, 0);
	must_eq(add_at(k.block, &store, 3), 0);
	vmbus_block_destroy(k.block);
	must_eq(k.removed, 3);
	vmbus_store_destroy(&store);
	vmbus_store_destroy(&k.other);
}
END_TEST

/* ---- a store that is asked ---- */

static struct {
	struct vmbus_store_ops ops;
	struct vmbus_block *block;
	uint64_t bytes;
	bool look, leave;
	int err;
	uint32_t removed;
} slow;

static void *look_meanwhile(void *arg)
{
	struct vmbus_block_stats stats;

	(void)arg;
	slow.err = slow.leave ? vmbus_block_remove(slow.block, 0, 0)
			      : vmbus_block_stats(slow.block, 0, 0, &stats);
	return NULL;
}

static int slow_info(void *ctx, struct vmbus_store_info *info)
{
	pthread_t thread;

	(void)ctx;
	*info = (struct vmbus_store_info){ .bytes = slow.bytes };
	if (!slow.look)
		return 0;
	must(!pthread_create(&thread, NULL, look_meanwhile, NULL));
	must(!pthread_join(thread, NULL));
	return 0;
}

static void slow_read(struct vmbus_io *io)
{
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void slow_removed(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store)
{
	(void)ctx;
	(void)target;
	(void)lun;
	(void)store;
	slow.removed++;
}

static void slow_begin(void)
{
	const struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts),
					       .removed = slow_removed };
	const struct vmbus_store store = { .ops = &slow.ops };

	slow.ops = (struct vmbus_store_ops){ .struct_bytes = sizeof(slow.ops),
					     .info = slow_info,
					     .read = slow_read,
					     .write = slow_read };
	slow.bytes = 1 << 20;
	must_eq(vmbus_block_create(&opts, &slow.block), 0);
	must_eq(add_at(slow.block, &store, 0), 0);
	slow.look = true;
}

START_TEST(block_resized__lets_others_go_on_while_the_store_is_asked)
{
	struct vmbus_block_stats stats;

	slow_begin();
	slow.bytes = 2 << 20;
	must_eq(vmbus_block_resized(slow.block, 0, 0), 0);
	must_eq(slow.err, 0);
	must_eq(vmbus_block_stats(slow.block, 0, 0, &stats), 0);
	must_eq(stats.bytes, 2 << 20);
	slow.leave = true;
	must_eq(vmbus_block_resized(slow.block, 0, 0), VMBUS_E_RANGE);
	must_eq(slow.err, 0);
	must_eq(slow.removed, 1);
	must_eq(vmbus_block_resized(slow.block, 0, 0), VMBUS_E_RANGE);
	must_eq(vmbus_block_resized(slow.block, 2, 0), VMBUS_E_RANGE);
	vmbus_block_destroy(slow.block);
	must_eq(slow.removed, 1);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "removed", 30);

	tcase_add_test(tc, block_add__waits_until_removed_has_returned);
	tcase_add_test(tc, block_resized__lets_others_go_on_while_the_store_is_asked);
}

VMBUS_TEST_MAIN("block.vsp_removed", tests)
