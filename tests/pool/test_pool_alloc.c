/* SPDX-License-Identifier: MIT */
/*
 * A pool without memory: every allocation of vmbus_pool_create() and vmbus_pool_add() fails once.  And one that
 * ends while it still has channels.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vmbus/pool.h>

#include "scarce.h"

/* What stands for a channel: a descriptor that is never readable. */
struct vmbus_chan {
	int fd;
};

int vmbus_chan_fd(const struct vmbus_chan *chan)
{
	return chan->fd;
}

int vmbus_chan_dispatch(struct vmbus_chan *chan, uint32_t budget)
{
	(void)chan;
	(void)budget;
	return 0;
}

int vmbus_chan_poll(struct vmbus_chan *chan, uint32_t budget, uint64_t spin_ns)
{
	(void)chan;
	(void)budget;
	(void)spin_ns;
	return 0;
}

START_TEST(pool_create__every_allocation_fails_once)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .threads = 2 };
	struct vmbus_pool *pool = NULL;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	EACH(n)
	{
		err = vmbus_pool_create(&opts, &pool);
		end_of_step();
		vmbus_test_at("allocation %u", n);
		if (failures)
			must(err == VMBUS_E_NOMEM || err == VMBUS_E_SYSTEM); /* a thread's own */
		else
			must_eq(err, 0);
	}
	must(n > 2);
	vmbus_pool_destroy(pool);
}
END_TEST

START_TEST(pool_add__every_allocation_fails_once)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .threads = 1 };
	struct vmbus_chan chan = { .fd = -1 };
	struct vmbus_pool_stats stats;
	struct vmbus_pool *pool;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	chan.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must_eq(vmbus_pool_create(&opts, &pool), 0);
	EACH(n)
	{
		err = vmbus_pool_add(pool, &chan);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
		vmbus_pool_stats(pool, &stats);
		must_eq(stats.channels, failures ? 0 : 1);
	}
	must(n > 1);
	vmbus_pool_destroy(pool); /* with the channel in it: it forgets it */
	close(chan.fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "alloc", 20);

	tcase_add_test(tc, pool_create__every_allocation_fails_once);
	tcase_add_test(tc, pool_add__every_allocation_fails_once);
}

VMBUS_TEST_MAIN("pool.pool_alloc", tests)
