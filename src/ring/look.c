/* SPDX-License-Identifier: MIT */
/*
 * A look at the control page for people: what both sides have told each other last.  Nothing is
 * decided by it, and it must not know of either end's own cursors.
 */
#include <vmbus/look.h>

#include "ring/ctl.h"
#include "ring/index.h"

int vmbus_ring_look(const struct vmbus_ring_mem *mem, struct vmbus_ring_words *words)
{
	const struct vmbus_ring_words none = { 0 };
	const struct vmbus_ring_ctl *ctl = mem->ctl_p;

	*words = none;
	if (!ctl)
		return VMBUS_E_STATE;
	words->size = mem->size_p;
	words->write_index = vmbus__ld32_relaxed(&ctl->in);	       /* DATA.look */
	words->read_index = vmbus__ld32_relaxed(&ctl->out);	       /* DATA.look */
	words->mask = vmbus__ld32_relaxed(&ctl->mask);		       /* DATA.look */
	words->pending_send = vmbus__ld32_relaxed(&ctl->pending_send); /* DATA.look */
	words->features = vmbus__ld32_relaxed(&ctl->features);	       /* DATA.look */
	if (!vmbus__index_ok(words->size, words->write_index) ||
	    !vmbus__index_ok(words->size, words->read_index))
		return VMBUS_E_PEER;
	words->used = vmbus__ring_used(words->size, words->write_index, words->read_index);
	return 0;
}
