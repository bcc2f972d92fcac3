/* SPDX-License-Identifier: MIT */
/* The thread pool as a component: makes one, reads its counters, ends it. */
#include <stdio.h>

#include <vmbus/pool.h>

int main(void)
{
	struct vmbus_pool_opts opts = { 0 };
	struct vmbus_pool_stats stats;
	struct vmbus_pool *pool;

	opts.struct_bytes = sizeof(opts);
	opts.threads = 2;
	if (vmbus_pool_create(&opts, &pool))
		return 1;
	vmbus_pool_stats(pool, &stats);
	vmbus_pool_destroy(pool);
	printf("%lu channels\n", (unsigned long)stats.channels);
	return stats.channels == 0 ? 0 : 1;
}
