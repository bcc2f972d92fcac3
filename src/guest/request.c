/* SPDX-License-Identifier: MIT */
/*
 * The table of requests under way on one channel.  An id is generation, channel and entry in one
 * number: it is never 0, and neither another channel's id nor that of an earlier use of the entry
 * fits.  Free entries are chained, so nothing is searched.
 */
#include "base/probe.h"
#include "guest/state.h"

#define INDEX_BITS 16u
#define GEN_SHIFT 32u

static uint64_t make_id(uint32_t gen, uint32_t slot, uint32_t index)
{
	return (uint64_t)gen << GEN_SHIFT | (uint64_t)(slot & 0xFFFFu) << INDEX_BITS | (index + 1u);
}

void vmbus__req_init(struct vmbus__path *path, struct vmbus__req *reqs, uint32_t max)
{
	uint32_t i;

	path->reqs = reqs;
	path->reqs_max = max;
	path->reqs_used = 0;
	path->req_free = 0;
	for (i = 0; i < max; i++)
		reqs[i].next_free = i + 1;
}

uint64_t vmbus__req_take(struct vmbus__path *path, uint32_t slot, void *cookie)
{
	const uint32_t index = path->req_free;
	struct vmbus__req *req;

	if (index == path->reqs_max)
		return 0;
	req = &path->reqs[index];
	path->req_free = req->next_free;
	path->reqs_used++;
	path->req_gen = path->req_gen == UINT32_MAX ? 0 : path->req_gen + 1;
	req->gen = path->req_gen;
	req->cookie = cookie;
	req->next_free = VMBUS__USED;
	return make_id(req->gen, slot, index);
}

static void put(struct vmbus__path *path, uint32_t index)
{
	path->reqs[index].next_free = path->req_free;
	path->reqs[index].cookie = NULL;
	path->req_free = index;
	path->reqs_used--;
}

void vmbus__req_undo(struct vmbus__path *path, uint64_t id)
{
	put(path, (uint32_t)(id & 0xFFFFu) - 1u);
}

bool vmbus__req_end(struct vmbus__path *path, uint32_t slot, uint64_t id, void **cookie)
{
	const uint32_t place = (uint32_t)(id & 0xFFFFu);
	const struct vmbus__req *req;

	if (place == 0 || place > path->reqs_max)
		return false;
	req = &path->reqs[place - 1u];
	if (req->next_free != VMBUS__USED || id != make_id(req->gen, slot, place - 1u))
		return false;
	*cookie = req->cookie;
	put(path, place - 1u);
	return true;
}

void vmbus__req_end_all(struct vmbus_vsc *vsc)
{
	struct vmbus__path *const path = &vsc->path;
	void *cookie;
	uint32_t i;

	for (i = 0; i < path->reqs_max && path->reqs_used; i++) {
		if (path->reqs[i].next_free != VMBUS__USED)
			continue;
		cookie = path->reqs[i].cookie;
		VMBUS_PROBE3(request_end, vsc, make_id(path->reqs[i].gen, vsc->ref.slot, i),
			     cookie);
		put(path, i);
		if (vsc->opts.completed)
			vsc->opts.completed(vsc, cookie, NULL);
	}
}
