/* SPDX-License-Identifier: MIT */
/*
 * Page lists: those of rings, and those that VSCs share.  A list's pages are the child's own again
 * only when the parent was never told of them, refused them, said that it has let go, or withdrew the
 * channel before it had taken them; whatever else ends a list leaves them lost.  A parent that lies may
 * map what it withdrew: an honest one does not, and nobody may wait for a channel that is gone.
 */
#include "guest/state.h"

static void forget(struct vmbus_guest *guest, struct vmbus__list *list)
{
	if (list->state != VMBUS__LIST_WANTED && list->state != VMBUS__LIST_NONE)
		guest->lists[list->ref.slot] = NULL;
	list->state = VMBUS__LIST_NONE;
	guest->leave_look = true;
}

/* A shared list is over: tell the VSC, and give its record back. */
static void share_over(struct vmbus__list *list, int err)
{
	struct vmbus_vsc *const vsc = list->vsc;
	struct vmbus_guest *const guest = vsc->guest;
	const struct vmbus__list over = *list;

	if (list->next)
		list->next->prev = list->prev;
	if (list->prev)
		list->prev->next = list->next;
	else
		vsc->shares = list->next;
	vmbus__guest_free(guest, list, over.bytes, false);
	if (err == VMBUS_E_FAULT) {
		guest->leaked_pages += over.count;
		vmbus__guest_log(
			guest, vsc->offer.relid,
			guest->state == VMBUS_GUEST_GONE && !guest->ended_here
				? "the parent is gone and had shared pages, they are lost: "
				: "the parent has not let go of shared pages, they are lost: ",
			over.count);
	}
	if (!over.told)
		over.ready(vsc, 0, err ? err : VMBUS_E_PEER);
	else if (over.gone)
		over.gone(vsc, over.gpadl, err);
}

/* A list is over.  err: 0, PEER (refused), another one (not asked), FAULT (lost). */
static void over(struct vmbus__list *list, int err)
{
	struct vmbus_vsc *const vsc = list->vsc;

	forget(vsc->guest, list);
	if (list == &vsc->rings)
		vmbus__rings_over(vsc, err);
	else
		share_over(list, err);
	vmbus__work_push(vsc);
}

static void make(struct vmbus__list *list)
{
	struct vmbus_guest *const guest = list->vsc->guest;
	const int err =
		vmbus_cli_gpadl(guest->cli, list->vsc->ref, list->pfns, list->count, &list->ref);

	if (vmbus__cli_retry(guest, err))
		return;
	if (err) {
		over(list, err);
		return;
	}
	list->state = VMBUS__LIST_CREATING;
	guest->lists[list->ref.slot] = list;
}

static void tear(struct vmbus__list *list)
{
	struct vmbus_guest *const guest = list->vsc->guest;
	const int err = vmbus_cli_gpadl_teardown(guest->cli, list->ref);

	if (vmbus__cli_retry(guest, err))
		return;
	if (err == 0)
		list->state = VMBUS__LIST_TAKING;
	else if (list->seen_ready)
		over(list, VMBUS_E_FAULT);
	/* Else its creation is under way, and the answer comes first. */
}

void vmbus__list_step(struct vmbus__list *list)
{
	if (list->state == VMBUS__LIST_WANTED)
		make(list);
	else if (list->state == VMBUS__LIST_TAKE)
		tear(list);
}

void vmbus__list_take_back(struct vmbus__list *list)
{
	if (list->state == VMBUS__LIST_WANTED) {
		over(list, VMBUS_E_STATE);
		return;
	}
	if (list->state != VMBUS__LIST_CREATING && list->state != VMBUS__LIST_READY)
		return;
	list->state = VMBUS__LIST_TAKE;
	vmbus__work_push(list->vsc);
}

void vmbus__shares_step(struct vmbus_vsc *vsc)
{
	struct vmbus__list *list, *next;

	for (list = vsc->shares; list; list = next) {
		next = list->next;
		vmbus__list_step(list);
	}
}

void vmbus__shares_take_back(struct vmbus_vsc *vsc)
{
	struct vmbus__list *list, *next;

	for (list = vsc->shares; list; list = next) {
		next = list->next;
		vmbus__list_take_back(list);
	}
}

/* The parent has taken a list. */
static void taken(struct vmbus__list *list)
{
	struct vmbus_vsc *const vsc = list->vsc;

	list->seen_ready = true;
	if (list->state != VMBUS__LIST_CREATING) {
		vmbus__work_push(vsc); /* meanwhile it is to be taken back */
		return;
	}
	list->state = VMBUS__LIST_READY;
	if (list == &vsc->rings) {
		vmbus__work_push(vsc);
		return;
	}
	list->gpadl = vmbus_cli_gpadl_id(vsc->guest->cli, list->ref);
	list->told = true;
	list->ready(vsc, list->gpadl, 0);
}

void vmbus__list_event(struct vmbus_guest *guest, const struct vmbus_cli_action *action)
{
	struct vmbus__list *const list =
		action->list.slot < guest->gpadls_max ? guest->lists[action->list.slot] : NULL;

	if (!list || list->ref.gen != action->list.gen)
		return;
	if (action->act == VMBUS_CLI_GPADL_LOST)
		over(list, VMBUS_E_FAULT);
	else if (action->act == VMBUS_CLI_GPADL_GONE)
		over(list, 0);
	else if (action->status == 0)
		taken(list);
	else
		over(list, VMBUS_E_PEER);
}

bool vmbus__pages_known(struct vmbus_guest *guest, const void *pages, uint32_t count)
{
	const uint8_t *page = pages;
	uint32_t i;

	if ((uintptr_t)pages % VMBUS_PAGE_BYTES)
		return false;
	for (i = 0; i < count; i++, page += VMBUS_PAGE_BYTES)
		if (guest->be->pfn(guest->be_ctx, page) == UINT64_MAX)
			return false;
	return true;
}

static bool overlap(const struct vmbus__list *list, const void *pages, uint32_t count)
{
	const uintptr_t a = (uintptr_t)list->pages, b = (uintptr_t)pages;

	return list->pages && a < b + count * (uintptr_t)VMBUS_PAGE_BYTES &&
	       b < a + list->count * (uintptr_t)VMBUS_PAGE_BYTES;
}

bool vmbus__pages_shared(const struct vmbus_guest *guest, const void *pages, uint32_t count)
{
	const struct vmbus__list *list;
	const struct vmbus_vsc *vsc;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (vmbus__monitor_has(guest, (const uint8_t *)pages + i * VMBUS_PAGE_BYTES))
			return true;
	for (vsc = guest->first; vsc; vsc = vsc->next) {
		if (overlap(&vsc->rings, pages, count))
			return true;
		for (list = vsc->shares; list; list = list->next)
			if (overlap(list, pages, count))
				return true;
	}
	return false;
}

int vmbus_vsc_share(struct vmbus_vsc *vsc, void *pages, uint32_t count,
		    void (*ready)(struct vmbus_vsc *vsc, uint32_t gpadl, int err))
{
	struct vmbus_guest *const guest = vsc->guest;
	const size_t bytes = sizeof(struct vmbus__list) + count * sizeof(uint64_t);
	struct vmbus__list *list;
	uint32_t i;

	if (!pages || (uintptr_t)pages % VMBUS_PAGE_BYTES || !ready)
		return VMBUS_E_INVAL;
	if (count == 0 || count > VMBUS__LIST_PAGES_MAX)
		return VMBUS_E_RANGE;
	if (!vmbus__guest_usable(guest) || vsc->rescinded)
		return VMBUS_E_STATE;
	if (!vmbus__pages_known(guest, pages, count))
		return VMBUS_E_INVAL;
	list = vmbus__guest_alloc(guest, bytes, false);
	if (!list)
		return VMBUS_E_NOMEM;
	list->bytes = bytes;
	list->state = VMBUS__LIST_WANTED;
	list->count = count;
	list->pages = pages;
	list->pfns = (uint64_t *)(void *)(list + 1);
	list->vsc = vsc;
	list->ready = ready;
	for (i = 0; i < count; i++)
		list->pfns[i] =
			guest->be->pfn(guest->be_ctx, list->pages + i * (size_t)VMBUS_PAGE_BYTES);
	list->next = vsc->shares;
	if (list->next)
		list->next->prev = list;
	vsc->shares = list;
	vmbus__work_push(vsc);
	return 0;
}

int vmbus_vsc_unshare(struct vmbus_vsc *vsc, uint32_t gpadl,
		      void (*gone)(struct vmbus_vsc *vsc, uint32_t gpadl, int err))
{
	struct vmbus__list *list;

	for (list = vsc->shares; list; list = list->next)
		if (list->told && list->gpadl == gpadl)
			break;
	if (!list)
		return VMBUS_E_RANGE;
	if (list->gone || (list->state != VMBUS__LIST_READY && !vsc->rescinded))
		return VMBUS_E_STATE;
	list->gone = gone;
	vmbus__list_take_back(list);
	return 0;
}
