/* SPDX-License-Identifier: MIT */
/*
 * How a provider waits: before it sleeps it looks at the rings of channels that were busy, for as long
 * as it may spin.  They are not armed meanwhile, so a child that answers at once does not signal.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <vmbus/poll.h>

#include "shm/provider_client.h"

#define SHARE 256u	   /* units of one partition before the next */
#define LOOKS_PER_TIME 32u /* looks at the rings for each look at the clock */
#define FINDS_MAX 64u	   /* looks that found something, in a row, without one at the socket */

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* One look at every partition; the work done. */
static uint32_t look(struct vmbus_provider *provider)
{
	struct vmbus__pvc_part *part;
	uint32_t done = 0;
	int got;

	for (part = provider->parts; part; part = part->next) {
		if (part->state != VMBUS_PVC_SERVING)
			continue;
		got = vmbus_bus_poll(part->bus, SHARE);
		done += got > 0 ? (uint32_t)got : 0;
		if (part->advance) {
			vmbus__pvc_move_on(provider);
			break; /* the list may have changed */
		}
	}
	return done;
}

/* Look until something comes or the time is over; 0: it is. */
static uint32_t spin(struct vmbus_provider *provider)
{
	uint64_t end = 0;
	uint32_t looks, done;

	for (looks = 1;; looks++) {
		done = look(provider);
		if (done || provider->gone)
			return done;
		relax();
		if (looks % LOOKS_PER_TIME == 0) {
			const uint64_t now = vmbus__shm_now_ns();

			if (end == 0)
				end = now + provider->spin_ns;
			else if (now >= end)
				return 0;
		}
	}
}

/* Spin, then see that every ring is armed, then sleep. */
static int wait_spinning(struct vmbus_provider *provider, uint64_t timeout_ns)
{
	bool again;
	int got;

	while (provider->hot) {
		again = provider->finds == FINDS_MAX; /* it is time for the socket, not to sleep */
		got = again ? 0 : (int)spin(provider);
		if (got && !provider->gone) {
			provider->finds++;
			return got;
		}
		provider->finds = 0;
		got = vmbus__pvc_dispatch(provider, 4u * SHARE, 0);
		if (got != 0 && got != VMBUS_E_AGAIN)
			return got;
		provider->hot = again;
	}
	return vmbus__pvc_dispatch(provider, 4u * SHARE, timeout_ns);
}

int vmbus_provider_wait(struct vmbus_provider *provider, uint64_t timeout_ns)
{
	int done;

	if (provider->calling)
		return VMBUS_E_STATE;
	if (provider->ended)
		return VMBUS_E_PEER;
	provider->calling = true;
	done = provider->spin_ns ? wait_spinning(provider, timeout_ns)
				 : vmbus__pvc_dispatch(provider, 4u * SHARE, timeout_ns);
	provider->calling = false;
	return done;
}
