/* SPDX-License-Identifier: MIT */
/*
 * A request from its packet to its answer: the guest's buffer is looked up, the SCSI layer does the
 * rest, and the answer is sent, or kept while the ring has no room.  What a command means is not
 * known here, but for the direction of its data, which is that of its opcode.
 *
 * A task is in one place: free, held, with the SCSI layer, or among the answers that wait.  While
 * answers wait no packets come, so there is a free task for each packet of a callback.
 */
#include "block/vsp.h"

#include <string.h>

#include "base/probe.h"

static struct vmbus__task *task_of(struct vmbus__scsi_task *scsi)
{
	return (struct vmbus__task *)(void *)((uint8_t *)scsi - offsetof(struct vmbus__task, scsi));
}

/* ---- answers ---- */

/* The answer is in task->reply: send it, or keep it. */
void vmbus__task_reply(struct vmbus__task *task)
{
	struct vmbus__port *const port = task->port;
	int err = VMBUS_E_FULL;

	if (port->closing)
		err = VMBUS_E_STATE;
	else if (!port->replies.first)
		err = vmbus_chan_complete(port->chan, task->id, task->reply, task->reply_bytes);
	if (err == VMBUS_E_FULL) {
		vmbus__queue_add(&port->replies, task);
		return;
	}
	if (task->at != VMBUS__NOWHERE)
		port->batch[task->at] = NULL;
	vmbus__task_give(port, task);
}

/* There is room again. */
void vmbus__task_send_replies(struct vmbus__port *port)
{
	struct vmbus__task *task;

	while ((task = port->replies.first)) {
		if (vmbus_chan_complete(port->chan, task->id, task->reply, task->reply_bytes) ==
		    VMBUS_E_FULL)
			return;
		vmbus__task_give(port, vmbus__queue_take(&port->replies));
	}
}

static void release_buffer(struct vmbus__task *task)
{
	struct vmbus__port *const port = task->port;

	if (!task->scsi.data)
		return;
	vmbus_sgl_dirty(&task->sgl, 0, task->scsi.data_bytes);
	vmbus_sgl_release(&task->sgl);
	task->scsi.data = NULL;
	if (task->wide) {
		task->wide->next = port->wide;
		port->wide = task->wide;
		task->wide = NULL;
	}
}

/* An answer that is not GOOD. */
static VMBUS_NOINLINE void put_answer(uint8_t *reply, const struct vmbus__scsi_task *scsi)
{
	const struct vmbus__stor_head head = { .op = VMBUS__STOR_COMPLETE_IO,
					       .status = scsi->status };
	struct vmbus__stor_srb srb = { .srb_status = scsi->srb_status,
				       .scsi_status = scsi->scsi_status,
				       .cdb_bytes = VMBUS__SRB_CDB_BYTES,
				       .sense_bytes = VMBUS__SRB_SENSE_BYTES,
				       .bytes = scsi->moved };

	if (scsi->sense_len)
		memcpy(srb.data, scsi->sense,
		       scsi->sense_len < sizeof(srb.data) ? scsi->sense_len : sizeof(srb.data));
	vmbus__stor_head_put(reply, &head);
	vmbus__stor_answer_put(reply, &srb);
}

static void answer(struct vmbus__task *task)
{
	/* As put_answer() makes it of success; only the bytes that were moved differ, [STOR-SRB]. */
	static const uint8_t good[VMBUS__STOR_BYTES] = { [0] = VMBUS__STOR_COMPLETE_IO,
							 [12] = VMBUS__SRB_BYTES,
							 [14] = VMBUS__SRB_SUCCESS,
							 [20] = VMBUS__SRB_CDB_BYTES,
							 [21] = VMBUS__SRB_SENSE_BYTES };
	const struct vmbus__scsi_task *const scsi = &task->scsi;

	VMBUS_PROBE5(block_end, task->port->chan, task->id, scsi->srb_status, scsi->scsi_status,
		     scsi->moved);
	if (VMBUS_LIKELY(scsi->srb_status == VMBUS__SRB_SUCCESS && !scsi->scsi_status)) {
		memcpy(task->reply, good, sizeof(good));
		vmbus__stor_put(task->reply + 24, 4, scsi->moved);
	} else {
		put_answer(task->reply, scsi);
	}
	release_buffer(task);
	vmbus__task_reply(task);
}

static void count(struct vmbus__view *view, const struct vmbus__scsi_task *scsi)
{
	if (scsi->scsi_status == VMBUS__SCSI_BUSY ||
	    scsi->scsi_status == VMBUS__SCSI_TASK_SET_FULL) {
		vmbus__view_count(view, VMBUS__COUNT_REFUSED, 1);
	} else if (scsi->scsi_status != VMBUS__SCSI_GOOD) {
		vmbus__view_count(view, VMBUS__COUNT_FAILED, 1);
	} else if (scsi->kind == VMBUS__SCSI_READ) {
		vmbus__view_count(view, VMBUS__COUNT_READS, 1);
		vmbus__view_count(view, VMBUS__COUNT_READ_BYTES, scsi->moved);
	} else if (scsi->kind == VMBUS__SCSI_WRITE) {
		vmbus__view_count(view, VMBUS__COUNT_WRITES, 1);
		vmbus__view_count(view, VMBUS__COUNT_WRITTEN_BYTES, scsi->moved);
	} else if (scsi->kind == VMBUS__SCSI_FLUSH) {
		vmbus__view_count(view, VMBUS__COUNT_FLUSHES, 1);
	} else if (scsi->kind == VMBUS__SCSI_DISCARD) {
		vmbus__view_count(view, VMBUS__COUNT_DISCARDS, 1);
		vmbus__view_count(view, VMBUS__COUNT_DISCARDED_BYTES, scsi->covered);
	} else {
		vmbus__view_count(view, VMBUS__COUNT_OTHERS, 1);
	}
}

/* The SCSI layer is done with a command. */
static void done(struct vmbus__scsi_task *scsi)
{
	struct vmbus__task *const task = task_of(scsi);
	struct vmbus__port *const port = task->port;
	struct vmbus__view *const view = task->view;

	port->under_way--;
	/* By ourselves, in this callback; of what began earlier, what a store does is its own affair. */
	port->work += task->at != VMBUS__NOWHERE || port->goes_on ? scsi->work : scsi->looked_at;
	if (VMBUS_UNLIKELY(scsi->told))
		vmbus__nexus_tell_after(port, scsi->target, scsi->lun);
	if (view) {
		vmbus__view_flight(view, view->in_flight - 1u);
		count(view, scsi);
		if (view->in_flight == 0 && port->views[scsi->target][scsi->lun] != view)
			port->reap = true;
	}
	answer(task);
}

/* ---- requests ---- */

static uint32_t no_luns(void *ctx, uint8_t target, uint8_t *luns, uint32_t room)
{
	(void)ctx;
	(void)target;
	(void)luns;
	(void)room;
	return 0;
}

/* The disk has no place for another: the guest asks again.  The task is under way. */
static void refuse(struct vmbus__task *task, struct vmbus__view *view, bool full)
{
	task->port->under_way--;
	vmbus__view_count(view, VMBUS__COUNT_REFUSED, 1);
	vmbus__scsi_refuse(&task->scsi, full);
	answer(task);
}

static void start(struct vmbus__task *task)
{
	struct vmbus__scsi_task *const scsi = &task->scsi;
	struct vmbus__port *const port = task->port;
	struct vmbus__view *view = NULL;

	scsi->disk = NULL;
	scsi->queue = NULL;
	scsi->over = NULL;
	scsi->begun = NULL;
	scsi->ua = NULL;
	if (task->path == 0 && scsi->target < VMBUS__TARGETS) {
		view = port->views[scsi->target][scsi->lun];
		scsi->ua = &port->nexus->ua[scsi->target][scsi->lun];
	}
	task->view = view;
	if (view) {
		if (VMBUS_UNLIKELY(view->in_flight >= port->block->opts.depth ||
				   port->work >= VMBUS__WORK_MAX)) {
			refuse(task, view, true);
			return;
		}
		if (VMBUS_UNLIKELY(!view->open) && vmbus__view_open(port, view)) {
			refuse(task, view, false);
			return;
		}
		vmbus__view_flight(view, view->in_flight + 1u);
		vmbus__view_touch(port, view);
		scsi->disk = &view->unit->disk;
		scsi->queue = &view->queue;
		scsi->over = &view->over;
		scsi->begun = &view->begun;
	}
	scsi->luns = task->path == 0 ? vmbus__view_luns : no_luns;
	scsi->ctx = port;
	scsi->scratches = &port->scratches;
	scsi->done = done;
	vmbus__scsi_start(scsi);
}

/* Pieces of the buffer as the store wants them, no more than the guest told. */
static void list_pieces(struct vmbus__task *task, struct iovec *iov, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < task->sgl.count && bytes; i++) {
		const uint32_t len = task->sgl.pieces[i].len;

		iov[i].iov_base = task->sgl.pieces[i].host;
		iov[i].iov_len = len < bytes ? len : bytes;
		bytes -= (uint32_t)iov[i].iov_len;
	}
	task->scsi.iov = iov;
	task->scsi.iov_count = i;
}

enum buffer {
	BUFFER_OK,
	BUFFER_BAD, /* [STOR-DATA] */
	BUFFER_BUSY
};

/* What the guest tells of its buffer, [STOR-DATA]: one range, long enough, of as many pages. */
static bool is_buffer(const struct vmbus__port *port, const struct vmbus_packet *pkt,
		      const struct vmbus__stor_srb *srb, enum vmbus_access access)
{
	const bool to_guest = access == VMBUS_WRITE;

	if (srb->bytes > port->transfer_bytes || pkt->type != VMBUS_PKT_GPA_DIRECT ||
	    pkt->ext_len < 16 || vmbus__stor_get32(pkt->ext + 4) != 1 ||
	    vmbus__stor_get32(pkt->ext + 8) < srb->bytes)
		return false;
	return srb->data_in == (to_guest ? VMBUS__SRB_FROM_DEVICE : VMBUS__SRB_TO_DEVICE) ||
	       srb->data_in > VMBUS__SRB_FROM_DEVICE;
}

static enum buffer take_buffer(struct vmbus__task *task, const struct vmbus_packet *pkt,
			       const struct vmbus__stor_srb *srb)
{
	const enum vmbus_access access = vmbus__scsi_access(task->scsi.cdb);
	struct vmbus__port *const port = task->port;
	struct iovec *iov = task->iov;
	uint32_t pages;

	task->scsi.data_in = srb->data_in == VMBUS__SRB_FROM_DEVICE ||
			     (srb->data_in != VMBUS__SRB_TO_DEVICE && access == VMBUS_WRITE);
	if (!access || srb->bytes == 0)
		return BUFFER_OK;
	if (!is_buffer(port, pkt, srb, access))
		return BUFFER_BAD;
	pages = (pkt->ext_len - 16u) / 8u;
	task->sgl.pieces = task->pieces;
	task->sgl.room = VMBUS__FEW;
	if (pages > VMBUS__FEW) {
		if (pages > port->transfer_bytes / VMBUS_PAGE_BYTES + 1u)
			return BUFFER_BAD;
		task->wide = port->wide;
		if (!task->wide)
			return BUFFER_BUSY;
		port->wide = task->wide->next;
		task->sgl.pieces = task->wide->pieces;
		task->sgl.room = pages;
		iov = task->wide->iov;
	}
	task->scsi.data = &task->sgl;
	task->scsi.data_bytes = srb->bytes;
	if (vmbus_chan_sgl(port->chan, pkt, access, &task->sgl))
		return BUFFER_BAD;
	list_pieces(task, iov, srb->bytes);
	return BUFFER_OK;
}

/* The message is a private copy, of at least VMBUS__STOR_SHORT_BYTES. */
void vmbus__srb_execute(struct vmbus__port *port, const struct vmbus_packet *pkt,
			struct vmbus__task *task)
{
	struct vmbus__scsi_task *const scsi = &task->scsi;
	struct vmbus__stor_srb srb;
	enum buffer buffer = BUFFER_BUSY;

	vmbus__stor_srb_get(&srb, pkt->payload, pkt->len);
	memcpy(scsi->cdb, srb.data, sizeof(scsi->cdb));
	VMBUS_PROBE6(block_start, port->chan, task->id, scsi->cdb[0], srb.target, srb.lun,
		     srb.bytes);
	scsi->target = srb.target;
	scsi->lun = srb.lun;
	scsi->data = NULL;
	scsi->iov = NULL;
	scsi->iov_count = 0;
	scsi->data_bytes = 0;
	task->path = srb.path;
	task->wide = NULL;
	if (VMBUS_LIKELY(port->under_way < port->block->opts.requests))
		buffer = take_buffer(task, pkt, &srb);
	if (VMBUS_UNLIKELY(buffer != BUFFER_OK)) {
		if (buffer == BUFFER_BAD)
			vmbus__scsi_bad_buffer(scsi);
		else
			vmbus__scsi_refuse(scsi, false);
		answer(task);
		return;
	}
	port->under_way++;
	if (VMBUS_LIKELY(port->ready))
		start(task);
	else
		vmbus__queue_add(&port->held, task);
}

/* The primary channel is ready. */
void vmbus__srb_go_on(struct vmbus__port *port)
{
	struct vmbus__task *task;

	port->ready = true;
	port->goes_on = true;
	while ((task = vmbus__queue_take(&port->held)))
		start(task);
	port->goes_on = false;
}

/* The channel is closed: what no store has is forgotten. */
void vmbus__srb_drop(struct vmbus__port *port)
{
	struct vmbus__task *task;

	while ((task = vmbus__queue_take(&port->held))) {
		port->under_way--;
		release_buffer(task);
		vmbus__task_give(port, task);
	}
	while ((task = vmbus__queue_take(&port->replies)))
		vmbus__task_give(port, task);
}
