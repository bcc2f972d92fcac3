/* SPDX-License-Identifier: MIT */
/*
 * Telling the thread that dispatches to look: an eventfd that is written once until it is cleared,
 * and sets of channel slots that any thread adds to.
 *
 * KICK: who has work to tell stores it (into a set or a word of bits) and then loads `set`; the
 * dispatcher stores 0 to `set` and then looks at the sets.  With a full fence between the two on
 * each side, one of them sees the other's store: the descriptor is written, or the work is found.
 */
#include "bus/bus.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int vmbus__kick_init(struct vmbus__kick *kick)
{
	vmbus__st32_relaxed(&kick->set, 0); /* KICK.look */
	kick->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return kick->fd < 0 ? VMBUS_E_SYSTEM : 0;
}

void vmbus__kick_fini(struct vmbus__kick *kick)
{
	if (kick->fd >= 0)
		close(kick->fd);
	kick->fd = -1;
}

void vmbus__kick(struct vmbus__kick *kick)
{
	vmbus__fence_full();			  /* KICK.tell */
	if (vmbus__ld32_relaxed(&kick->set) != 0) /* KICK.tell */
		return;
	if (vmbus__cas32_acquire(&kick->set, 0, 1)) /* KICK.tell */
		(void)!eventfd_write(kick->fd, 1);
}

bool vmbus__kick_is_set(const struct vmbus__kick *kick)
{
	return vmbus__ld32_relaxed(&kick->set) != 0; /* KICK.look */
}

void vmbus__kick_clear(struct vmbus__kick *kick)
{
	eventfd_t count;

	/* Set and not written yet: it will be, and then we come here once more. */
	if (eventfd_read(kick->fd, &count) == 0)
		vmbus__st32_relaxed(&kick->set, 0); /* KICK.look */
	vmbus__fence_full();			    /* KICK.look */
}

/* All bits of a word, which is 0 then. */
uint64_t vmbus__take(vmbus__a64 *word)
{
	uint64_t v = vmbus__ld64_relaxed(word); /* BITS.take */

	while (v && !vmbus__cas64_acq_rel(word, v, 0)) /* BITS.take */
		v = vmbus__ld64_relaxed(word);	       /* BITS.take */
	return v;
}

void vmbus__slots_add(struct vmbus__slots *slots, uint32_t slot)
{
	const uint32_t word = slot / 64u;

	vmbus__or64_release(&slots->word[word], (uint64_t)1 << (slot % 64u)); /* BITS.add */
	vmbus__or64_release(&slots->words, (uint64_t)1 << word);	      /* BITS.add */
}

bool vmbus__slots_any(const struct vmbus__slots *slots)
{
	return vmbus__ld64_relaxed(&slots->words) != 0; /* BITS.take */
}

uint64_t vmbus__slots_take_word(struct vmbus__slots *slots, uint32_t word)
{
	return vmbus__take(&slots->word[word]);
}

uint64_t vmbus__self(void)
{
	return (uint64_t)(uintptr_t)pthread_self();
}

/* Monotonic time, ns. */
uint64_t vmbus__now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
