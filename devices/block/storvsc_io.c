/* SPDX-License-Identifier: MIT */
/*
 * Requests of the block device's client: a SCSI command to a message with a page list, and an answer
 * to an outcome.  Runs on the thread of the channel, and touches nothing that the threads of other
 * channels write.  [STOR-SRB]
 */
#include "storvsc/storvsc_state.h"

#define TIMEOUT_SECONDS 60u
/* Pages of a list that is made on a small stack: 128 KiB of data. */
#define SMALL_PAGES 33u
#define LARGE_PAGES (VMBUS_STORVSC_TRANSFER_MAX / VMBUS_PAGE_BYTES + 1u)
#define UNIT_ATTENTION 6u /* sense keys */
#define ABORTED_COMMAND 11u
#define LIST_FIXED 16u /* of the header, before the page numbers */

/* The buffer of a request. */
struct buffer {
	uint32_t bytes;
	uint32_t offset; /* in its first page */
	uint32_t pages;
};

static uint32_t in_page(const void *p)
{
	return (uint32_t)((uintptr_t)p % VMBUS_PAGE_BYTES);
}

void vmbus__storvsc_bad(struct vmbus_storvsc *s)
{
	vmbus__add64_relaxed(vmbus__as_a64(&s->bad), 1); /* COUNT.add */
}

/* Add up the pieces: one run of bytes in pages. */
static int measure(const struct vmbus_storvsc *s, const struct vmbus_storvsc_req *req,
		   struct buffer *buf)
{
	uint32_t i, bytes = 0;

	for (i = 0; i < req->pieces; i++) {
		const struct vmbus_storvsc_piece *const piece = &req->piece[i];

		if (!piece->data || !piece->bytes || (i && in_page(piece->data)) ||
		    (i + 1 < req->pieces &&
		     (in_page(piece->data) + piece->bytes) % VMBUS_PAGE_BYTES))
			return VMBUS_E_INVAL;
		if (piece->bytes > s->transfer_bytes - bytes)
			return VMBUS_E_RANGE;
		bytes += piece->bytes;
	}
	buf->bytes = bytes;
	buf->offset = req->pieces ? in_page(req->piece[0].data) : 0;
	buf->pages = (buf->offset + bytes + VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES;
	return 0;
}

static int check(const struct vmbus_storvsc *s, const struct vmbus_storvsc_req *req,
		 struct buffer *buf)
{
	int err;

	if ((req->cdb_bytes != 6 && req->cdb_bytes != 10 && req->cdb_bytes != 12 &&
	     req->cdb_bytes != 16) ||
	    req->way > VMBUS_STORVSC_FROM_DISK)
		return VMBUS_E_RANGE;
	if ((req->way == VMBUS_STORVSC_NONE) != (req->pieces == 0) || (req->pieces && !req->piece))
		return VMBUS_E_INVAL;
	err = measure(s, req, buf);
	if (err)
		return err;
	return req->want_p && req->want_p != buf->bytes ? VMBUS_E_INVAL : 0;
}

static void put64(uint8_t *p, uint64_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
	p[4] = (uint8_t)(v >> 32);
	p[5] = (uint8_t)(v >> 40);
	p[6] = (uint8_t)(v >> 48);
	p[7] = (uint8_t)(v >> 56);
}

/* Write the header of a packet with one range; there is room for LIST_FIXED and all pages.  [PKT-GPA] */
static int list(const struct vmbus_vsc *vsc, const struct vmbus_storvsc_req *req,
		const struct buffer *buf, uint8_t *to)
{
	uint32_t i, at;

	put64(to, UINT64_C(1) << 32);
	put64(to + 8, (uint64_t)buf->offset << 32 | buf->bytes);
	to += LIST_FIXED;
	for (i = 0; i < req->pieces; i++) {
		const struct vmbus_storvsc_piece *const piece = &req->piece[i];
		const uint8_t *const first = (const uint8_t *)piece->data - in_page(piece->data);
		const uint32_t end = in_page(piece->data) + piece->bytes;

		for (at = 0; at < end; at += VMBUS_PAGE_BYTES, to += 8) {
			const uint64_t pfn = vmbus_vsc_pfn(vsc, first + at);

			if (pfn == UINT64_MAX)
				return VMBUS_E_INVAL;
			put64(to, pfn);
		}
	}
	return 0;
}

static void put_request(uint8_t *to, const struct vmbus_storvsc_req *req, uint32_t bytes)
{
	static const uint8_t data_in[] = { VMBUS__SRB_NO_DATA, VMBUS__SRB_TO_DEVICE,
					   VMBUS__SRB_FROM_DEVICE };
	static const uint32_t flags[] = { 0, VMBUS__SRB_DATA_OUT, VMBUS__SRB_DATA_IN };
	const struct vmbus__stor_head head = { .op = VMBUS__STOR_EXECUTE_SRB,
					       .flags = VMBUS__STOR_REPLY_WANTED };
	struct vmbus__stor_srb srb = { .target = req->target,
				       .lun = req->lun,
				       .cdb_bytes = req->cdb_bytes,
				       .sense_bytes = VMBUS__SRB_SENSE_BYTES,
				       .data_in = data_in[req->way],
				       .bytes = bytes,
				       .flags = VMBUS__SRB_QUEUE_ACTION |
						VMBUS__SRB_NO_SYNCH_TRANSFER |
						VMBUS__SRB_NO_QUEUE_FREEZE | flags[req->way],
				       .timeout = TIMEOUT_SECONDS };

	__builtin_memcpy(srb.data, req->cdb, req->cdb_bytes);
	vmbus__stor_head_put(to, &head);
	vmbus__stor_request_put(to, &srb);
}

/* Send it; ext has room for the list. */
static int send(struct vmbus_vsc *vsc, struct vmbus_storvsc_req *req, const struct buffer *buf,
		uint8_t *ext)
{
	uint8_t bytes[VMBUS__STOR_BYTES];
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = bytes, .len = sizeof(bytes) };
	int err;

	if (buf->pages) {
		err = list(vsc, req, buf, ext);
		if (err)
			return err;
		msg.type = VMBUS_PKT_GPA_DIRECT;
		msg.ext = ext;
		msg.ext_len = LIST_FIXED + buf->pages * 8u;
	}
	put_request(bytes, req, buf->bytes);
	return vmbus_vsc_request(vsc, &msg, req);
}

static int send_small(struct vmbus_vsc *vsc, struct vmbus_storvsc_req *req,
		      const struct buffer *buf)
{
	uint8_t ext[LIST_FIXED + SMALL_PAGES * 8u];

	return send(vsc, req, buf, ext);
}

__attribute__((noinline)) static int
send_large(struct vmbus_vsc *vsc, struct vmbus_storvsc_req *req, const struct buffer *buf)
{
	uint8_t ext[LIST_FIXED + LARGE_PAGES * 8u];

	return send(vsc, req, buf, ext);
}

int vmbus_storvsc_submit(struct vmbus_storvsc *s, uint32_t channel, struct vmbus_storvsc_req *req)
{
	struct vmbus_vsc *vsc;
	struct buffer buf;
	int err;

	if (!vmbus__storvsc_is_ready(s))
		return VMBUS_E_STATE;
	if (channel >= VMBUS_STORVSC_CHANNELS_MAX || !s->by_p[channel])
		return VMBUS_E_RANGE;
	vsc = s->by_p[channel]->vsc_p;
	if (!vsc)
		return VMBUS_E_STATE;
	err = check(s, req, &buf);
	if (err)
		return err;
	err = buf.pages <= SMALL_PAGES ? send_small(vsc, req, &buf) : send_large(vsc, req, &buf);
	if (err)
		return err;
	/* The answer comes from dispatch, on this thread. */
	req->storvsc_p = s;
	req->bytes_p = buf.bytes;
	req->expect_p = req->want_p;
	req->want_p = 0;
	return 0;
}

int vmbus_storvsc_submit_many(struct vmbus_storvsc *s, uint32_t channel,
			      struct vmbus_storvsc_req *const *req, uint32_t n)
{
	struct vmbus_vsc *const vsc = vmbus_storvsc_channel(s, channel);
	const bool held = vsc && vmbus_vsc_hold(vsc) == 1;
	uint32_t i;
	int err = 0;

	for (i = 0; i < n; i++) {
		err = vmbus_storvsc_submit(s, channel, req[i]);
		if (err)
			break;
	}
	/* If the ring turns out to be broken, the requests end with the channel. */
	if (held)
		(void)vmbus_vsc_flush(vsc);
	return i ? (int)i : err;
}

/* ---- the answer ---- */

static void outcome(struct vmbus_storvsc_req *req, const struct vmbus__stor_srb *srb)
{
	const uint32_t code = srb->srb_status & VMBUS__SRB_CODE;
	const uint32_t sense = srb->sense_bytes < VMBUS_STORVSC_SENSE_BYTES
				       ? srb->sense_bytes
				       : VMBUS_STORVSC_SENSE_BYTES;

	req->scsi_status = srb->scsi_status;
	req->srb_status = srb->srb_status;
	req->moved = srb->bytes < req->bytes_p ? srb->bytes : req->bytes_p;
	if (srb->scsi_status == VMBUS__SCSI_CHECK_CONDITION &&
	    srb->srb_status & VMBUS__SRB_AUTOSENSE) {
		__builtin_memcpy(req->sense, srb->data, sense);
		req->sense_bytes = (uint8_t)sense;
	}
	req->err = srb->scsi_status == VMBUS__SCSI_GOOD && code == VMBUS__SRB_SUCCESS
			   ? 0
			   : VMBUS_E_RANGE;
}

/* Whether it is an answer, and says no more than was asked for. */
static bool makes_sense(struct vmbus_storvsc_req *req, const struct vmbus_packet *pkt)
{
	struct vmbus__stor_head head;
	struct vmbus__stor_srb srb;

	if (pkt->len < VMBUS__STOR_SHORT_BYTES)
		return false;
	vmbus__stor_head_get(&head, pkt->payload);
	if (head.op != VMBUS__STOR_COMPLETE_IO)
		return false;
	vmbus__stor_srb_get(&srb, pkt->payload, pkt->len);
	outcome(req, &srb);
	/* A read or write that is good is whole. */
	return req->err || !req->expect_p || req->moved == req->expect_p;
}

void vmbus__storvsc_done(struct vmbus_storvsc *s, struct vmbus_storvsc_req *req,
			 const struct vmbus_packet *pkt)
{
	req->err = VMBUS_E_PEER;
	req->scsi_status = 0;
	req->srb_status = 0;
	req->sense_bytes = 0;
	req->moved = 0;
	if (pkt && !makes_sense(req, pkt)) {
		req->err = VMBUS_E_PEER;
		vmbus__storvsc_bad(s);
	}
	if (req->done)
		req->done(req);
}

uint32_t vmbus__storvsc_key(const struct vmbus_storvsc_req *req)
{
	const uint32_t format = req->sense[0] & 0x7Eu;

	if (req->sense_bytes < 3)
		return 0;
	return format == 0x70 ? req->sense[2] & 15u : format == 0x72 ? req->sense[1] & 15u : 0;
}

bool vmbus_storvsc_retry(const struct vmbus_storvsc_req *req)
{
	const uint32_t key = vmbus__storvsc_key(req);

	if (req->err != VMBUS_E_RANGE)
		return false;
	return req->scsi_status == VMBUS__SCSI_BUSY ||
	       req->scsi_status == VMBUS__SCSI_TASK_SET_FULL || key == UNIT_ATTENTION ||
	       key == ABORTED_COMMAND;
}
