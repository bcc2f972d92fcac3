/* SPDX-License-Identifier: MIT */
/*
 * A pool of threads for channels: how it is set up, where its threads run, and the commands that
 * other threads give them.  What a thread does is in worker.c.  Channels are known by their public
 * calls only.
 */
#include "pool/pool.h"

#include <errno.h>
#include <numa.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BUDGET_DEFAULT 256u

/* The processors that we may use: those of the caller, of one node if so wanted. */
static int processors(const struct vmbus_pool_opts *opts, cpu_set_t *set)
{
	struct bitmask *of_node;
	uint32_t cpu;

	if (sched_getaffinity(0, sizeof(*set), set))
		return VMBUS_E_SYSTEM;
	if (!opts->on_node)
		return 0;
	if (numa_available() < 0)
		return VMBUS_E_NOTSUP;
	if (opts->node > (uint32_t)numa_max_node())
		return VMBUS_E_RANGE;
	of_node = numa_allocate_cpumask();
	if (numa_node_to_cpus((int)opts->node, of_node)) {
		numa_free_cpumask(of_node);
		return VMBUS_E_RANGE;
	}
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (!numa_bitmask_isbitset(of_node, cpu))
			CPU_CLR(cpu, set);
	numa_free_cpumask(of_node);
	return CPU_COUNT(set) ? 0 : VMBUS_E_RANGE;
}

/* The nth processor of a set alone. */
static void only(const cpu_set_t *from, uint32_t n, cpu_set_t *one)
{
	uint32_t cpu;

	CPU_ZERO(one);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, from))
			continue;
		if (n == 0) {
			CPU_SET(cpu, one);
			return;
		}
		n--;
	}
}

static int check(const struct vmbus_pool_opts *opts, cpu_set_t *set)
{
	int err;

	if (!opts || opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	if (opts->threads == 0 || opts->threads > VMBUS_POOL_THREADS_MAX ||
	    opts->budget > INT32_MAX || opts->spin_ns > VMBUS_POOL_SPIN_NS_MAX)
		return VMBUS_E_RANGE;
	err = processors(opts, set);
	if (err)
		return err;
	return opts->pin && opts->threads > (uint32_t)CPU_COUNT(set) ? VMBUS_E_RANGE : 0;
}

static int start_thread(struct vmbus__pool_worker *w, const cpu_set_t *set, uint32_t index)
{
	const struct vmbus_pool_opts *opts = &w->pool->opts;
	sigset_t all, old;
	pthread_attr_t attr;
	cpu_set_t one = *set;
	int err;

	if (opts->pin)
		only(set, index, &one);
	if (pthread_attr_init(&attr))
		return VMBUS_E_NOMEM;
	err = opts->pin || opts->on_node ? pthread_attr_setaffinity_np(&attr, sizeof(one), &one)
					 : 0;
	if (!err) {
		(void)sigfillset(&all);	       /* signals are the embedder's threads' */
		(void)sigdelset(&all, SIGSYS); /* but what a filter of system calls says to one */
		(void)pthread_sigmask(SIG_SETMASK, &all, &old);
		err = pthread_create(&w->thread, &attr, vmbus__pool_run, w);
		(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	(void)pthread_attr_destroy(&attr);
	if (err)
		return err == ENOMEM ? VMBUS_E_NOMEM : VMBUS_E_SYSTEM;
	return 0;
}

static int start(struct vmbus__pool_worker *w, struct vmbus_pool *pool, const cpu_set_t *set,
		 uint32_t index)
{
	struct epoll_event event = { .events = EPOLLIN };
	int err;

	w->pool = pool;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epoll_fd < 0 || w->wake_fd < 0 ||
	    epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &event))
		err = VMBUS_E_SYSTEM;
	else
		err = start_thread(w, set, index);
	if (err) {
		if (w->epoll_fd >= 0)
			(void)close(w->epoll_fd);
		if (w->wake_fd >= 0)
			(void)close(w->wake_fd);
	}
	return err;
}

int vmbus_pool_create(const struct vmbus_pool_opts *opts, struct vmbus_pool **made)
{
	struct vmbus_pool *pool;
	cpu_set_t set;
	int err = check(opts, &set);

	if (err)
		return err;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return VMBUS_E_NOMEM;
	memcpy(&pool->opts, opts, sizeof(*opts));
	if (!pool->opts.budget)
		pool->opts.budget = BUDGET_DEFAULT;
	pool->workers = calloc(opts->threads, sizeof(*pool->workers));
	if (!pool->workers) {
		free(pool);
		return VMBUS_E_NOMEM;
	}
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_cond_init(&pool->answered, NULL);
	while (pool->started < opts->threads) {
		err = start(&pool->workers[pool->started], pool, &set, pool->started);
		if (err) {
			vmbus_pool_destroy(pool);
			return err;
		}
		pool->started++;
	}
	*made = pool;
	return 0;
}

/* Give a worker a command and wait until it has obeyed.  The lock is held on entry and return. */
static int command(struct vmbus__pool_worker *w, enum vmbus__pool_op op,
		   struct vmbus__pool_entry *entry)
{
	struct vmbus__pool_cmd cmd = { .op = op, .entry = entry, .next = w->cmds };
	const uint64_t one = 1;

	w->cmds = &cmd;
	vmbus__st32_release(&w->mail, 1); /* POOLMAIL.post */
	(void)!write(w->wake_fd, &one, sizeof(one));
	while (!cmd.done)
		pthread_cond_wait(&w->pool->answered, &w->pool->lock);
	return cmd.err;
}

void vmbus_pool_destroy(struct vmbus_pool *pool)
{
	struct vmbus__pool_entry *entry;
	uint32_t i;

	if (!pool)
		return;
	for (i = 0; i < pool->started; i++) {
		struct vmbus__pool_worker *w = &pool->workers[i];

		pthread_mutex_lock(&pool->lock);
		(void)command(w, VMBUS__POOL_STOP, NULL);
		pthread_mutex_unlock(&pool->lock);
		(void)pthread_join(w->thread, NULL);
		(void)close(w->epoll_fd);
		(void)close(w->wake_fd);
	}
	while ((entry = pool->entries)) {
		pool->entries = entry->registry;
		free(entry);
	}
	(void)pthread_cond_destroy(&pool->answered);
	(void)pthread_mutex_destroy(&pool->lock);
	free(pool->workers);
	free(pool);
}

/* The link to a channel's entry, or to the end. */
static struct vmbus__pool_entry **find(struct vmbus_pool *pool, const struct vmbus_chan *chan)
{
	struct vmbus__pool_entry **link = &pool->entries;

	while (*link && (*link)->chan != chan)
		link = &(*link)->registry;
	return link;
}

static uint64_t channels(const struct vmbus__pool_worker *w)
{
	return vmbus__ld64_relaxed(&w->channels); /* POOLSTAT.reader */
}

static struct vmbus__pool_worker *least_loaded(struct vmbus_pool *pool)
{
	struct vmbus__pool_worker *best = &pool->workers[0];
	uint32_t i;

	for (i = 1; i < pool->started; i++)
		if (channels(&pool->workers[i]) < channels(best))
			best = &pool->workers[i];
	return best;
}

/* One channel more or fewer; under the lock. */
static void channels_add(struct vmbus__pool_worker *w, bool more)
{
	const uint64_t n = channels(w);

	vmbus__st64_relaxed(&w->channels, more ? n + 1 : n - 1); /* POOLSTAT.worker */
}

int vmbus_pool_add(struct vmbus_pool *pool, struct vmbus_chan *chan)
{
	struct vmbus__pool_worker *worker;
	struct vmbus__pool_entry *entry;
	int err;

	if (vmbus__pool_is_worker())
		return VMBUS_E_STATE;
	if (vmbus_chan_fd(chan) < 0)
		return VMBUS_E_INVAL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return VMBUS_E_NOMEM;
	entry->chan = chan;
	entry->fd = vmbus_chan_fd(chan);
	pthread_mutex_lock(&pool->lock);
	if (*find(pool, chan)) {
		pthread_mutex_unlock(&pool->lock);
		free(entry);
		return VMBUS_E_STATE;
	}
	worker = least_loaded(pool);
	channels_add(worker, true);
	entry->registry = pool->entries;
	pool->entries = entry;
	err = command(worker, VMBUS__POOL_ADD, entry);
	entry->worker = worker;
	if (err) {
		*find(pool, chan) = entry->registry;
		channels_add(worker, false);
	}
	pthread_cond_broadcast(&pool->answered); /* to a removal that waits for this */
	pthread_mutex_unlock(&pool->lock);
	if (err)
		free(entry);
	return err;
}

int vmbus_pool_remove(struct vmbus_pool *pool, struct vmbus_chan *chan)
{
	struct vmbus__pool_entry *entry;
	int err = 0;

	if (vmbus__pool_is_worker())
		return VMBUS_E_STATE;
	pthread_mutex_lock(&pool->lock);
	/* Also for another removal: until that one is through, its thread may be in the channel. */
	while ((entry = *find(pool, chan)) && (!entry->worker || entry->leaving))
		pthread_cond_wait(&pool->answered, &pool->lock);
	if (!entry) {
		err = VMBUS_E_INVAL;
	} else {
		entry->leaving = true;
		(void)command(entry->worker, VMBUS__POOL_REMOVE, entry);
		*find(pool, chan) = entry->registry;
		channels_add(entry->worker, false);
		pthread_cond_broadcast(&pool->answered); /* to another removal */
	}
	pthread_mutex_unlock(&pool->lock);
	free(entry);
	return err;
}

void vmbus_pool_stats(const struct vmbus_pool *pool, struct vmbus_pool_stats *stats)
{
	uint32_t i;

	memset(stats, 0, sizeof(*stats));
	for (i = 0; i < pool->started; i++) {
		const struct vmbus__pool_worker *w = &pool->workers[i];

		stats->channels += channels(w);
		stats->dispatches += vmbus__ld64_relaxed(&w->dispatches); /* POOLSTAT.reader */
		stats->sleeps += vmbus__ld64_relaxed(&w->sleeps);	  /* POOLSTAT.reader */
		stats->spins_won += vmbus__ld64_relaxed(&w->spins_won);	  /* POOLSTAT.reader */
	}
}
