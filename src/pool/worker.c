/* SPDX-License-Identifier: MIT */
/*
 * The thread of a pool.  A channel whose descriptor became readable is dispatched, a budget at a
 * time and in turn with the others, until it says that there is nothing left: only then is its
 * child asked to signal again, so the edge of the next signal cannot be missed.  Before the thread
 * sleeps it spins, for as long as spinning has paid lately and never longer than it was allowed.
 */
#include "pool/pool.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define SPIN_LEAST_NS 500u /* a shorter spin is none */
#define SLICE_NS 2000u	   /* of one channel before the next has its turn; bounds pool_remove() */
#define TURNS 4u	   /* without a look at the channels that had no work */

static _Thread_local bool is_worker;

bool vmbus__pool_is_worker(void)
{
	return is_worker;
}

static uint64_t now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Only the worker writes its counters. */
static void count(vmbus__a64 *counter)
{
	vmbus__st64_relaxed(counter,			       /* POOLSTAT.worker */
			    vmbus__ld64_relaxed(counter) + 1); /* POOLSTAT.worker */
}

static void enqueue(struct vmbus__pool_worker *w, struct vmbus__pool_entry *entry)
{
	if (entry->ready)
		return;
	entry->ready = true;
	entry->queue = NULL;
	if (w->queue)
		w->tail->queue = entry;
	else
		w->queue = entry;
	w->tail = entry;
}

static struct vmbus__pool_entry *dequeue(struct vmbus__pool_worker *w)
{
	struct vmbus__pool_entry *entry = w->queue;

	if (!entry)
		return NULL;
	w->queue = entry->queue;
	entry->ready = false;
	return entry;
}

static void forget(struct vmbus__pool_worker *w, struct vmbus__pool_entry *entry)
{
	struct vmbus__pool_entry **link = &w->queue, *before = NULL;
	uint32_t i;

	for (; *link && *link != entry; link = &before->queue)
		before = *link;
	if (*link) {
		*link = entry->queue;
		if (w->tail == entry)
			w->tail = before;
	}
	for (i = 0; i < w->hot_count; i++)
		if (w->hot[i] == entry) { /* it is there once */
			w->hot[i] = w->hot[--w->hot_count];
			return;
		}
}

static int obey(struct vmbus__pool_worker *w, struct vmbus__pool_cmd *cmd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = cmd->entry };

	switch (cmd->op) {
	case VMBUS__POOL_ADD:
		if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, cmd->entry->fd, &event))
			return errno == ENOMEM || errno == ENOSPC ? VMBUS_E_NOMEM : VMBUS_E_SYSTEM;
		enqueue(w, cmd->entry); /* there may be work from before */
		w->mine++;
		return 0;
	case VMBUS__POOL_REMOVE:
		(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, cmd->entry->fd, NULL);
		forget(w, cmd->entry);
		w->mine--;
		return 0;
	default:
		w->stop = true;
		return 0;
	}
}

/* A turn: after it the child signals, or the descriptor is readable. */
static int dispatch(struct vmbus__pool_worker *w, struct vmbus__pool_entry *entry)
{
	count(&w->dispatches);
	return vmbus_chan_dispatch(entry->chan, w->pool->opts.budget);
}

/* Whether the child may not have been asked to signal: only in a spin, or before the first turn. */
static bool may_be_unarmed(const struct vmbus__pool_worker *w,
			   const struct vmbus__pool_entry *entry)
{
	uint32_t i;

	for (i = 0; i < w->hot_count; i++)
		if (w->hot[i] == entry)
			return true;
	return entry->ready;
}

static void take_commands(struct vmbus__pool_worker *w)
{
	struct vmbus_pool *pool = w->pool;
	struct vmbus__pool_cmd *cmd;

	if (!vmbus__ld32_acquire(&w->mail)) /* POOLMAIL.take */
		return;
	pthread_mutex_lock(&pool->lock);
	vmbus__st32_relaxed(&w->mail, 0); /* POOLMAIL.take */
	while ((cmd = w->cmds)) {
		w->cmds = cmd->next;
		if (cmd->op == VMBUS__POOL_REMOVE && may_be_unarmed(w, cmd->entry)) {
			pthread_mutex_unlock(&pool->lock);
			(void)dispatch(w, cmd->entry); /* who has it next may sleep first */
			pthread_mutex_lock(&pool->lock);
		}
		cmd->err = obey(w, cmd);
		cmd->done = true;
	}
	pthread_cond_broadcast(&pool->answered);
	pthread_mutex_unlock(&pool->lock);
}

/* A channel that had work is worth a look while we spin. */
static void heat(struct vmbus__pool_worker *w, struct vmbus__pool_entry *entry)
{
	uint32_t i;

	for (i = 0; i < w->hot_count; i++)
		if (w->hot[i] == entry)
			return;
	if (w->hot_count < VMBUS__POOL_HOT)
		w->hot[w->hot_count++] = entry;
}

/* One turn of every channel in the queue; those with more to do are in it again. */
static void turn(struct vmbus__pool_worker *w)
{
	const struct vmbus__pool_entry *const last = w->tail;
	struct vmbus__pool_entry *entry;

	do {
		entry = dequeue(w);
		if (!entry)
			return;
		if (dispatch(w, entry) > 0) {
			enqueue(w, entry);
			heat(w, entry);
		}
	} while (entry != last && !vmbus__ld32_acquire(&w->mail)); /* POOLMAIL.take */
}

/* Take what became readable; wait_ms as for epoll_wait().  Returns whether there is work now. */
static bool look(struct vmbus__pool_worker *w, int wait_ms)
{
	struct epoll_event events[EVENTS];
	const int n = epoll_wait(w->epoll_fd, events, EVENTS, wait_ms);
	uint64_t ignored;
	int i;

	for (i = 0; i < n; i++) {
		if (events[i].data.ptr)
			enqueue(w, events[i].data.ptr);
		else /* a command, which is looked for elsewhere */
			(void)!read(w->wake_fd, &ignored, sizeof(ignored));
	}
	return w->queue != NULL;
}

/*
 * Look at the channels that were busy last, without sleeping; true when one had work.  What is found
 * here is taken here, so a child that answers at once is not asked to signal.  A channel that had
 * nothing was asked, and the last round asks all of them.
 */
static bool spin(struct vmbus__pool_worker *w)
{
	const uint32_t budget = w->pool->opts.budget;
	const uint64_t begin = now();
	uint64_t slice = w->spin_ns / w->hot_count;
	uint32_t i;

	if (slice > SLICE_NS)
		slice = SLICE_NS;
	do {
		for (i = 0; i < w->hot_count; i++) {
			struct vmbus__pool_entry *entry;
			int n;

			w->next_hot = (w->next_hot + 1) % w->hot_count;
			entry = w->hot[w->next_hot];
			if (vmbus__ld32_acquire(&w->mail)) /* POOLMAIL.take */
				return true;
			n = vmbus_chan_poll(entry->chan, budget, slice);
			if (n <= 0)
				continue;
			count(&w->dispatches);
			if ((uint32_t)n >= budget)
				enqueue(w, entry);
			return true;
		}
		if (w->mine > w->hot_count && look(w, 0))
			return true;
	} while (now() - begin < w->spin_ns);
	return false;
}

/*
 * A spin that brought nothing halves the next one.  A sleep that ended sooner than the longest spin
 * doubles it: that spin would have paid.
 */
static void idle(struct vmbus__pool_worker *w)
{
	const uint64_t most = w->pool->opts.spin_ns;
	uint64_t begin;

	if (w->spin_ns >= SPIN_LEAST_NS && w->hot_count > 0) {
		if (spin(w)) {
			count(&w->spins_won);
			w->spin_ns = w->spin_ns < most / 2 ? w->spin_ns * 2 : most;
			return;
		}
		w->spin_ns /= 2;
		/* The spin's last look may have read the wake-up of a command. */
		if (vmbus__ld32_acquire(&w->mail)) /* POOLMAIL.take */
			return;
	}
	begin = now();
	count(&w->sleeps);
	w->hot_count = 0;
	(void)look(w, -1);
	if (now() - begin >= most)
		return;
	w->spin_ns = w->spin_ns < SPIN_LEAST_NS ? SPIN_LEAST_NS : w->spin_ns * 2;
	if (w->spin_ns > most)
		w->spin_ns = most;
}

void *vmbus__pool_run(void *worker)
{
	struct vmbus__pool_worker *w = worker;

	is_worker = true;
	/* Of a thread's own: another one's is a file, which a sandbox may not have. */
	(void)pthread_setname_np(pthread_self(), "vmbus-pool");
	w->spin_ns = w->pool->opts.spin_ns;
	for (;;) {
		take_commands(w);
		if (w->stop)
			return NULL;
		if (w->queue)
			turn(w);
		else
			idle(w);
		w->turns = (w->turns + 1) % TURNS;
		if (w->turns == 0 && w->mine > 1)
			(void)look(w, 0);
	}
}
