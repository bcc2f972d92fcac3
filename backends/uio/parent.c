/* SPDX-License-Identifier: MIT */
/*
 * The parent of one channel: answers the control messages of the guest runtime in the real parent's
 * stead, since the kernel has spoken with that one.  What the guest says is our own program's and
 * still checked, for only what the kernel can do may be answered with yes.
 *
 * Invariants: a message brings two answers at most, and is refused while there is no room for two;
 * the channel is open in the kernel exactly while the guest thinks that it is, or was withdrawn.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vmbus/hypercall.h>

#include "uio/uio.h"

#define FIRST_PFN 1u /* our own numbering of the rings' pages; 0 is nobody's */
#define ANSWERS_PER_MESSAGE 2u

uint64_t vmbus__uio_pfn(const struct vmbus_uio *uio, const void *page)
{
	const uintptr_t at = (uintptr_t)page, base = (uintptr_t)uio->rings;

	if (at < base || at - base >= uio->areas.ring_bytes)
		return UINT64_MAX;
	return FIRST_PFN + (at - base) / VMBUS_PAGE_BYTES;
}

static void answer(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus__uio_answer *to;
	int len;

	if (uio->answer_count == VMBUS__UIO_ANSWERS)
		return; /* cannot be: room was looked for */
	to = &uio->answers[(uio->first_answer + uio->answer_count) % VMBUS__UIO_ANSWERS];
	len = vmbus_ctl_encode(ctl, uio->version, 0, to->bytes, sizeof(to->bytes));
	if (len <= 0)
		return;
	to->len = (uint32_t)len;
	uio->answer_count++;
}

void vmbus__uio_parent_rescind(struct vmbus_uio *uio)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_RESCIND,
				       .u.chan = { .relid = uio->offer.relid } };

	if (!uio->gone || uio->told || uio->answer_count == VMBUS__UIO_ANSWERS)
		return;
	uio->told = true;
	if (uio->offered)
		answer(uio, &ctl);
}

/* Begin anew: the guest starts a connection, or ended one. */
static void forget(struct vmbus_uio *uio)
{
	vmbus__uio_device_close(uio);
	uio->opened = false;
	uio->offered = false;
	memset(&uio->list, 0, sizeof(uio->list));
}

static void on_contact(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_VERSION_RESPONSE };
	const uint32_t version = ctl->u.contact.version;

	forget(uio);
	uio->first_answer = uio->answer_count = 0;
	/* No feature of later versions could be kept. */
	reply.u.version.supported = version >= VMBUS_PROTO_2_4 && version <= VMBUS_PROTO_5_3;
	reply.u.version.conn_id = VMBUS_CONN_MESSAGE;
	uio->version = version;
	answer(uio, &reply);
}

static void on_request_offers(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_OFFER };

	(void)ctl;
	if (!uio->gone && !uio->offered) {
		reply.u.offer = uio->offer;
		answer(uio, &reply);
		uio->offered = true;
	}
	reply = (struct vmbus_ctl){ .type = VMBUS_CTL_ALL_OFFERS };
	answer(uio, &reply);
}

static void created(struct vmbus_uio *uio, uint32_t relid, uint32_t gpadl, bool good)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_GPADL_CREATED };

	reply.u.created.relid = relid;
	reply.u.created.gpadl = gpadl;
	reply.u.created.status = good ? VMBUS_STATUS_OK : VMBUS_STATUS_FAILED;
	answer(uio, &reply);
}

/* Compare the next numbers of a list with those of the rings. */
static void take_numbers(struct vmbus_uio *uio, const struct vmbus_ctl_gpadl *g)
{
	struct vmbus__uio_list *const list = &uio->list;
	uint64_t right;
	uint32_t i;

	for (i = 0; i < g->count && list->got < list->qwords; i++, list->got++) {
		/* [CTL-GPADL]: bytes of the range, and no offset in its first page */
		right = list->got == 0 ? uio->areas.ring_bytes : FIRST_PFN + list->got - 1;
		if (g->qwords[i] != right)
			list->right = false;
	}
	if (list->got < list->qwords)
		return;
	list->open = false;
	list->known = list->right;
	if (!list->known)
		vmbus__uio_log(uio, "%s: memory other than the rings cannot be shared", uio->name);
	created(uio, uio->offer.relid, list->gpadl, list->known);
}

static void on_gpadl_header(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_gpadl *const g = &ctl->u.gpadl;
	const uint64_t pages = uio->areas.ring_bytes / VMBUS_PAGE_BYTES;

	if (uio->gone) { /* as with any withdrawn channel: it is never looked at */
		created(uio, g->relid, g->gpadl, true);
		return;
	}
	if (g->relid != uio->offer.relid || g->range_count != 1 || uio->list.open ||
	    uio->list.known || g->range_bytes != 8 * (pages + 1)) {
		vmbus__uio_log(uio, "%s: memory other than the rings cannot be shared", uio->name);
		created(uio, g->relid, g->gpadl, false);
		return;
	}
	uio->list = (struct vmbus__uio_list){
		.gpadl = g->gpadl, .qwords = (uint32_t)pages + 1, .open = true, .right = true
	};
	take_numbers(uio, g);
}

static void on_gpadl_body(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	if (uio->list.open && ctl->u.gpadl.gpadl == uio->list.gpadl)
		take_numbers(uio, &ctl->u.gpadl);
}

static void on_gpadl_teardown(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_GPADL_TORNDOWN };

	if (uio->list.gpadl == ctl->u.created.gpadl)
		memset(&uio->list, 0, sizeof(uio->list));
	reply.u.created.gpadl = ctl->u.created.gpadl;
	answer(uio, &reply);
}

/* Why an open cannot be done, or NULL. */
static const char *open_fault(const struct vmbus_uio *uio, const struct vmbus_ctl_open *open)
{
	static const uint8_t zeroes[sizeof(open->user)];

	if (open->relid != uio->offer.relid || uio->gone)
		return "no such channel";
	if (uio->opened || !uio->list.known || open->gpadl != uio->list.gpadl)
		return "its rings are not described";
	if (open->downstream_page != uio->areas.ring_bytes / 2 / VMBUS_PAGE_BYTES)
		return "the rings are not of the kernel's sizes, see vmbus_uio_ring_bytes(3)";
	if (memcmp(open->user, zeroes, sizeof(zeroes)) != 0)
		return "the kernel passes no user data on to the parent";
	return NULL;
}

static void on_open(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_open *const open = &ctl->u.open;
	const char *const fault = open_fault(uio, open);
	struct vmbus_ctl reply = { .type = VMBUS_CTL_OPEN_RESULT };

	if (fault)
		vmbus__uio_log(uio, "%s: not opened: %s", uio->name, fault);
	uio->opened = !fault && vmbus__uio_device_open(uio) == 0;
	reply.u.result.relid = open->relid;
	reply.u.result.open_id = open->open_id;
	reply.u.result.status = uio->opened ? VMBUS_STATUS_OK : VMBUS_STATUS_FAILED;
	answer(uio, &reply);
}

static void on_close(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	if (ctl->u.chan.relid != uio->offer.relid)
		return;
	vmbus__uio_device_close(uio);
	uio->opened = false;
}

static void on_released(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	if (ctl->u.chan.relid == uio->offer.relid)
		forget(uio);
}

/* [UIO-SYSFS]: the kernel moves interrupts to another processor. */
static void on_modify(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_MODIFY_RESPONSE };
	char text[16];
	bool good = false;

	if (ctl->u.modify.relid == uio->offer.relid && uio->opened) {
		(void)snprintf(text, sizeof(text), "%u", ctl->u.modify.target_vp);
		good = vmbus__uio_sys->put(uio->cpu_path, text) == 0;
		if (!good)
			vmbus__uio_log(uio, "%s: interrupts to processor %u: %s", uio->cpu_path,
				       ctl->u.modify.target_vp, strerror(errno));
	}
	if (uio->version < VMBUS_PROTO_5_3)
		return;
	reply.u.modify.relid = ctl->u.modify.relid;
	reply.u.modify.status = good ? VMBUS_STATUS_OK : VMBUS_STATUS_FAILED;
	answer(uio, &reply);
}

static void on_unload(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl reply = { .type = VMBUS_CTL_UNLOAD_RESPONSE };

	(void)ctl;
	forget(uio);
	answer(uio, &reply);
}

/* There is no hv_sock on one device. */
static void on_tl_connect(struct vmbus_uio *uio, const struct vmbus_ctl *ctl)
{
	struct vmbus_ctl reply = { .type = VMBUS_CTL_TL_RESULT };

	reply.u.tl = ctl->u.tl;
	reply.u.tl.status = VMBUS_STATUS_REFUSED;
	answer(uio, &reply);
}

int vmbus__uio_parent_post(struct vmbus_uio *uio, const void *payload, uint32_t bytes)
{
	static void (*const handlers[VMBUS_CTL_TYPES])(struct vmbus_uio * uio,
						       const struct vmbus_ctl *ctl) = {
		[VMBUS_CTL_CONTACT] = on_contact,
		[VMBUS_CTL_REQUEST_OFFERS] = on_request_offers,
		[VMBUS_CTL_GPADL_HEADER] = on_gpadl_header,
		[VMBUS_CTL_GPADL_BODY] = on_gpadl_body,
		[VMBUS_CTL_GPADL_TEARDOWN] = on_gpadl_teardown,
		[VMBUS_CTL_OPEN] = on_open,
		[VMBUS_CTL_CLOSE] = on_close,
		[VMBUS_CTL_RELID_RELEASED] = on_released,
		[VMBUS_CTL_MODIFY] = on_modify,
		[VMBUS_CTL_UNLOAD] = on_unload,
		[VMBUS_CTL_TL_CONNECT] = on_tl_connect,
	};
	struct vmbus_ctl ctl;

	if (VMBUS__UIO_ANSWERS - uio->answer_count < ANSWERS_PER_MESSAGE)
		return VMBUS_HC_NO_BUFFERS;
	if (vmbus_ctl_decode(payload, bytes, uio->version, 0, &ctl))
		return VMBUS_HC_PARAMETER;
	if (ctl.type < VMBUS_CTL_TYPES && handlers[ctl.type])
		handlers[ctl.type](uio, &ctl);
	return VMBUS_HC_OK;
}
