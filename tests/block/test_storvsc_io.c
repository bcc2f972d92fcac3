/* SPDX-License-Identifier: MIT */
/* Requests of the block device's client: the bytes that go out, and every answer that may come. */
#include "host.h"

static struct {
	uint32_t count;
	struct vmbus_storvsc_req *last;
	struct host *again; /* submit it again from done(), once */
} done_calls;

static void done(struct vmbus_storvsc_req *req)
{
	struct host *const again = done_calls.again;

	done_calls.count++;
	done_calls.last = req;
	done_calls.again = NULL;
	if (again)
		must_eq(vmbus_storvsc_submit(&again->s, 0, req), 0);
}

static uint8_t *pages(struct host *h, uint32_t count)
{
	uint8_t *p = vmbus_guest_pages(h->l->guest, count);

	must(p != NULL);
	return p;
}

static struct vmbus_storvsc_req request(uint8_t way, const struct vmbus_storvsc_piece *piece,
					uint32_t count)
{
	struct vmbus_storvsc_req req = { .target = 1, .lun = 7, .cdb_bytes = 10, .way = way };
	uint32_t i;

	req.piece = piece;
	req.pieces = count;
	for (i = 0; i < 16; i++)
		req.cdb[i] = (uint8_t)(0xA0 + i);
	req.done = done;
	return req;
}

static struct host *ready_host(const struct vmbus_storvsc_opts *opts)
{
	static struct host h;

	memset(&done_calls, 0, sizeof(done_calls));
	host_start(&h);
	must_eq(host_client(&h, opts), 0);
	return &h;
}

/* [STOR-SRB]: each byte of a message. */
START_TEST(storvsc_submit__says)
{
	static const uint8_t lengths[] = { 6, 10, 12, 16 };
	static const struct {
		uint8_t way, data_in;
		uint32_t flags;
	} ways[] = { { VMBUS_STORVSC_NONE, 2, 0x10A },
		     { VMBUS_STORVSC_TO_DISK, 0, 0x18A },
		     { VMBUS_STORVSC_FROM_DISK, 1, 0x14A } };
	struct host *const h = ready_host(NULL);
	uint8_t *const p = pages(h, 1);
	const struct vmbus_storvsc_piece piece = { p + 512, 1024, 0 };
	struct vmbus_storvsc_req req = request(ways[_i].way, &piece, ways[_i].way != 0);
	uint8_t want[64];
	uint32_t n, i;

	for (n = 0; n < 4; n++) {
		const uint32_t bytes = ways[_i].way ? 1024 : 0;

		req.cdb_bytes = lengths[n];
		must_eq(vmbus_storvsc_submit(&h->s, 0, &req), 0);
		loop_settle(h->l);
		must_eq(h->kept_count, n + 1);
		memset(want, 0, sizeof(want));
		want[0] = 3;
		want[4] = 1;
		want[12] = 52;
		want[18] = 1;
		want[19] = 7;
		want[20] = lengths[n];
		want[21] = 20;
		want[22] = ways[_i].data_in;
		host_put(want + 24, 4, bytes);
		for (i = 0; i < lengths[n]; i++)
			want[28 + i] = (uint8_t)(0xA0 + i);
		want[50] = 0xFF;
		want[51] = 0x20;
		host_put(want + 52, 4, ways[_i].flags);
		host_put(want + 56, 4, 60);
		for (i = 0; i < 64; i++) {
			vmbus_test_at("byte %u", i);
			must_eq(h->kept[n].msg[i], want[i]);
		}
		must_eq(h->kept[n].type, bytes ? VMBUS_PKT_GPA_DIRECT : VMBUS_PKT_INBAND);
		must_eq(h->kept[n].ext_len, bytes ? 24u : 0u);
		if (bytes) {
			must_eq(host_get(h->kept[n].ext, 4), 0);
			must_eq(host_get(h->kept[n].ext + 4, 4), 1);
			must_eq(host_get(h->kept[n].ext + 8, 4), 1024);
			must_eq(host_get(h->kept[n].ext + 12, 4), 512);
			must(host_byte(h, &h->kept[n], 0) ==
			     h->l->mem.host + (p + 512 - h->l->mem.guest));
		}
	}
	host_free(h);
	must_eq(done_calls.count, 4);
	must_eq(req.err, VMBUS_E_PEER);
}
END_TEST

/* Lesson B 9: where each byte of a buffer is, whatever its pieces. */
START_TEST(lesson_09_every_byte_of_the_buffer)
{
	static const struct {
		uint32_t pieces;
		struct {
			uint32_t page, offset, bytes;
		} piece[4];
	} cases[] = {
		{ 1, { { 0, 0, 1 } } },
		{ 1, { { 0, 4095, 1 } } },
		{ 1, { { 0, 4095, 2 } } },
		{ 1, { { 3, 0, 4096 } } },
		{ 1, { { 0, 1, 4096 } } },
		{ 1, { { 0, 512, 16384 } } },
		{ 2, { { 5, 0, 4096 }, { 2, 0, 4096 } } },
		{ 2, { { 5, 4095, 1 }, { 2, 0, 1 } } },
		{ 3, { { 6, 100, 3996 }, { 0, 0, 8192 }, { 4, 0, 77 } } },
		{ 1, { { 0, 0, 33 * 4096 } } },
		{ 1, { { 0, 1, 33 * 4096 } } }, /* one page more, on another path */
		{ 4, { { 1, 0, 4096 }, { 1, 0, 4096 }, { 0, 0, 4096 }, { 3, 0, 4096 } } },
	};
	struct host *const h = ready_host(NULL);
	uint8_t *const p = pages(h, 40);
	struct vmbus_storvsc_piece piece[4];
	struct vmbus_storvsc_req req;
	uint32_t i, at, total = 0;

	for (i = 0; i < cases[_i].pieces; i++) {
		piece[i].data = p + cases[_i].piece[i].page * 4096u + cases[_i].piece[i].offset;
		piece[i].bytes = cases[_i].piece[i].bytes;
	}
	req = request(VMBUS_STORVSC_TO_DISK, piece, cases[_i].pieces);
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), 0);
	loop_settle(h->l);
	must_eq(h->kept_count, 1);
	for (i = 0; i < cases[_i].pieces; i++)
		for (at = 0; at < piece[i].bytes; at++, total++)
			must(host_byte(h, &h->kept[0], total) ==
			     h->l->mem.host + ((uint8_t *)piece[i].data + at - h->l->mem.guest));
	must_eq(host_get(h->kept[0].ext + 8, 4), total);
	must_eq(host_get(h->kept[0].msg + 24, 4), total);
	must_eq(h->kept[0].ext_len, 16u + (cases[_i].piece[0].offset + total + 4095u) / 4096u * 8u);
	host_free(h);
}
END_TEST

/* The largest there is, at the worst offset, and one byte more. */
START_TEST(storvsc_submit__largest)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct host h;
	struct vmbus_storvsc_piece piece;
	struct vmbus_storvsc_req req;
	uint8_t *p;

	memset(&done_calls, 0, sizeof(done_calls));
	host_start(&h);
	h.transfer = UINT32_MAX;
	opts = host_opts(&h);
	opts.open.send_bytes = _i ? 1u << 20 : 4096;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.transfer_bytes, _i ? 8u << 20 : 496u * 4096u);
	p = pages(&h, h.s.transfer_bytes / 4096u + 1);
	piece = (struct vmbus_storvsc_piece){ p + 4095, h.s.transfer_bytes, 0 };
	req = request(VMBUS_STORVSC_FROM_DISK, &piece, 1);
	must_eq(vmbus_storvsc_submit(&h.s, 0, &req), 0);
	loop_settle(h.l);
	must_eq(h.kept_count, 1);
	must_eq(h.kept[0].ext_len, 16u + (h.s.transfer_bytes / 4096u + 1) * 8u);
	piece.bytes++;
	must_eq(vmbus_storvsc_submit(&h.s, 0, &req), VMBUS_E_RANGE);
	host_free(&h);
	must_eq(done_calls.count, 1);
}
END_TEST

START_TEST(storvsc_submit__refuses)
{
	struct host *const h = ready_host(NULL);
	uint8_t *const p = pages(h, 4);
	struct vmbus_storvsc_piece piece[2] = { { p, 4096, 0 }, { p + 4096, 4096, 0 } };
	struct vmbus_storvsc_req req = request(VMBUS_STORVSC_TO_DISK, piece, 2);
	const struct vmbus_storvsc_req whole = req;
	uint32_t i;

	must_eq(vmbus_storvsc_submit(&h->s, 1, &req), VMBUS_E_RANGE);
	must_eq(vmbus_storvsc_submit(&h->s, 65, &req), VMBUS_E_RANGE);
	must_eq(vmbus_storvsc_submit(&h->s, UINT32_MAX, &req), VMBUS_E_RANGE);
	for (i = 0; i < 256; i++) {
		req = whole;
		req.cdb_bytes = (uint8_t)i;
		if (i != 6 && i != 10 && i != 12 && i != 16)
			must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_RANGE);
	}
	req = whole;
	req.way = 3;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_RANGE);
	req = whole;
	req.way = VMBUS_STORVSC_NONE;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	req = whole;
	req.pieces = 0;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	req = whole;
	req.piece = NULL;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	req = whole;
	piece[0].bytes = 4095; /* the first ends within a page */
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece[0].bytes = 4097;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece[0].bytes = 0;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece[0].bytes = 4096;
	piece[1].data = p + 4097; /* the second begins within one */
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece[1].data = NULL;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece[1].data = p + 4096;
	piece[1].bytes = UINT32_MAX;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_RANGE);
	piece[1].bytes = (1u << 20) - 4095;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_RANGE);
	must_eq(h->kept_count, 0);
	piece[1].bytes = 4096;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), 0);
	loop_settle(h->l);
	must_eq(h->kept_count, 1);
	must_eq(done_calls.count, 0);
	must_eq(vmbus_storvsc_stop(&h->s), 0);
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_STATE);
	loop_settle(h->l);
	must_eq(done_calls.count, 1);
	must_eq(req.err, VMBUS_E_PEER);
	must_eq(h->closed, 1);
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_STATE);
	host_free(h);
}
END_TEST

/* ---- answers ---- */

static uint8_t script[64];
static uint32_t script_bytes;

static uint32_t scripted(struct host *h, const struct host_srb *srb, uint8_t *answer)
{
	(void)h;
	(void)srb;
	memcpy(answer, script, 64);
	return script_bytes;
}

static void answered(struct host *h, struct vmbus_storvsc_req *req)
{
	const uint32_t before = done_calls.count;

	h->srb = scripted;
	must_eq(vmbus_storvsc_submit(&h->s, 0, req), 0);
	loop_settle(h->l);
	must_eq(done_calls.count, before + 1);
	must(done_calls.last == req);
}

START_TEST(storvsc_done__tells_the_outcome)
{
	static const struct {
		uint8_t srb, scsi, sense;
		uint32_t moved;
		int err;
		uint32_t sense_is, moved_is;
	} cases[] = {
		{ 0x01, 0x00, 0, 1024, 0, 0, 1024 },
		{ 0x01, 0x00, 20, 1000, 0, 0, 1000 }, /* no sense without CHECK CONDITION */
		{ 0x01, 0x00, 0, UINT32_MAX, 0, 0, 1024 },
		{ 0x84, 0x02, 18, 0, VMBUS_E_RANGE, 18, 0 },
		{ 0x84, 0x02, 255, 512, VMBUS_E_RANGE, 20, 512 },
		{ 0x04, 0x02, 18, 0, VMBUS_E_RANGE, 0, 0 }, /* no autosense */
		{ 0x05, 0x28, 0, 0, VMBUS_E_RANGE, 0, 0 },
		{ 0x05, 0x08, 0, 0, VMBUS_E_RANGE, 0, 0 },
		{ 0x20, 0x02, 0, 0, VMBUS_E_RANGE, 0, 0 },
		{ 0x20, 0x00, 0, 0, VMBUS_E_RANGE, 0, 0 }, /* GOOD, says one half alone */
		{ 0x12, 0x00, 0, 4096, VMBUS_E_RANGE, 0, 1024 },
		{ 0x81, 0x00, 18, 1024, 0, 0, 1024 },
		{ 0x00, 0x00, 0, 0, VMBUS_E_RANGE, 0, 0 },
	};
	struct host *const h = ready_host(NULL);
	const struct vmbus_storvsc_piece piece = { pages(h, 1), 1024, 0 };
	struct vmbus_storvsc_req req = request(VMBUS_STORVSC_FROM_DISK, &piece, 1);
	uint32_t i;

	host_good(script, cases[_i].moved);
	script[14] = cases[_i].srb;
	script[15] = cases[_i].scsi;
	script[21] = cases[_i].sense;
	for (i = 0; i < 20; i++)
		script[28 + i] = (uint8_t)(0x70 + i);
	script_bytes = 64;
	memset(req.sense, 0xEE, sizeof(req.sense));
	answered(h, &req);
	must_eq(req.err, cases[_i].err);
	must_eq(req.srb_status, cases[_i].srb);
	must_eq(req.scsi_status, cases[_i].scsi);
	must_eq(req.sense_bytes, cases[_i].sense_is);
	must_eq(req.moved, cases[_i].moved_is);
	for (i = 0; i < 20; i++)
		must_eq(req.sense[i], i < cases[_i].sense_is ? 0x70 + i : 0xEE);
	must_eq(h->s.bad, 0);
	host_free(h);
}
END_TEST

/* Lesson B 11: answers of every length; only those that have an SRB are taken. */
START_TEST(lesson_11_answers_of_every_length)
{
	struct host *const h = ready_host(NULL);
	const struct vmbus_storvsc_piece piece = { pages(h, 1), 1024, 0 };
	struct vmbus_storvsc_req req = request(VMBUS_STORVSC_FROM_DISK, &piece, 1);
	uint32_t bad = 0;

	host_good(script, 1024);
	for (script_bytes = 1; script_bytes <= 64; script_bytes++) {
		const bool taken = (script_bytes + 7u) / 8u * 8u >= 48u;

		vmbus_test_at("%u bytes", script_bytes);
		answered(h, &req);
		must_eq(req.err, taken ? 0 : VMBUS_E_PEER);
		must_eq(req.moved, taken ? 1024u : 0u);
		bad += !taken;
		must_eq(h->s.bad, bad);
	}
	script_bytes = 64;
	host_put(script, 4, 3); /* no answer at all */
	answered(h, &req);
	must_eq(req.err, VMBUS_E_PEER);
	must_eq(h->s.bad, bad + 1);
	host_free(h);
}
END_TEST

/* A read or write of a disk that says GOOD has moved all of it, or is not believed. */
START_TEST(storvsc_done__believes_no_short_good)
{
	struct host *const h = ready_host(NULL);
	const struct vmbus_storvsc_disk disk = { .storvsc = &h->s, .sector = 512, .sectors = 100 };
	struct vmbus_storvsc_piece piece = { pages(h, 1), 1024, 0 };
	struct vmbus_storvsc_req req = request(VMBUS_STORVSC_FROM_DISK, &piece, 1);

	script_bytes = 64;
	host_good(script, 1023);
	must_eq(vmbus_storvsc_read(&disk, &req, 0, 2), 0);
	answered(h, &req);
	must_eq(req.err, VMBUS_E_PEER);
	must_eq(h->s.bad, 1);
	must_eq(vmbus_storvsc_write(&disk, &req, 0, 2, false), 0);
	answered(h, &req);
	must_eq(req.err, VMBUS_E_PEER);
	must_eq(h->s.bad, 2);
	host_sense(script, 3, 0x11, 0);
	must_eq(vmbus_storvsc_read(&disk, &req, 0, 2), 0);
	answered(h, &req);
	must_eq(req.err, VMBUS_E_RANGE);
	must_eq(h->s.bad, 2);
	/* Not filled in again: a command like any other. */
	host_good(script, 512);
	answered(h, &req);
	must_eq(req.err, 0);
	/* Pieces that are not what was said. */
	must_eq(vmbus_storvsc_read(&disk, &req, 0, 3), 0);
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), VMBUS_E_INVAL);
	piece.bytes = 1536;
	host_good(script, 1536);
	answered(h, &req);
	must_eq(req.err, 0);
	host_free(h);
}
END_TEST

/* Whether it is worth another try: by outcome, status and sense key, in both formats. */
START_TEST(storvsc_retry__tells_what_was_not_done)
{
	static const struct {
		struct vmbus_storvsc_req req;
		bool again;
	} cases[] = {
		{ { .err = 0 }, false },
		{ { .err = VMBUS_E_PEER, .scsi_status = 8 }, false },
		{ { .err = VMBUS_E_RANGE, .scsi_status = 8 }, true },
		{ { .err = VMBUS_E_RANGE, .scsi_status = 0x28 }, true },
		{ { .err = VMBUS_E_RANGE, .scsi_status = 2, .srb_status = 0x20 }, false },
		{ { .err = VMBUS_E_RANGE, .scsi_status = 2, .sense = { 0x70, 0, 6 } }, false },
		{ { .err = VMBUS_E_RANGE,
		    .scsi_status = 2,
		    .sense_bytes = 18,
		    .sense = { 0x70, 0, 6 } },
		  true },
		{ { .err = VMBUS_E_RANGE,
		    .scsi_status = 2,
		    .sense_bytes = 18,
		    .sense = { 0xF0, 0, 0x4B } },
		  true },
		{ { .err = VMBUS_E_RANGE,
		    .scsi_status = 2,
		    .sense_bytes = 18,
		    .sense = { 0x70, 6, 3 } },
		  false },
		{ { .err = VMBUS_E_RANGE,
		    .scsi_status = 2,
		    .sense_bytes = 8,
		    .sense = { 0x72, 6, 3 } },
		  true },
		{ { .err = VMBUS_E_RANGE,
		    .scsi_status = 2,
		    .sense_bytes = 8,
		    .sense = { 0x74, 6, 6 } },
		  false },
	};
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vmbus_test_at("case %u", i);
		must_eq(vmbus_storvsc_retry(&cases[i].req), cases[i].again);
	}
}
END_TEST

START_TEST(storvsc_submit__from_done)
{
	struct host *const h = ready_host(NULL);
	struct vmbus_storvsc_req req = request(VMBUS_STORVSC_NONE, NULL, 0);

	script_bytes = 64;
	host_good(script, 0);
	h->srb = scripted;
	done_calls.again = h;
	must_eq(vmbus_storvsc_submit(&h->s, 0, &req), 0);
	loop_settle(h->l);
	must_eq(done_calls.count, 2);
	must_eq(req.err, 0);
	host_free(h);
}
END_TEST

/* ---- full ---- */

START_TEST(storvsc_submit__full)
{
	static struct vmbus_storvsc_req req[64];
	struct vmbus_storvsc_opts opts;
	struct host h;
	uint32_t i, n = 0;
	int err = 0;

	memset(&done_calls, 0, sizeof(done_calls));
	host_start(&h);
	opts = host_opts(&h);
	opts.depth = _i ? 3 : 64;
	opts.open.send_bytes = 4096;
	must_eq(host_client(&h, &opts), 0);
	for (i = 0; i < 64 && !err; i++) {
		req[i] = request(VMBUS_STORVSC_NONE, NULL, 0);
		err = vmbus_storvsc_submit(&h.s, 0, &req[i]);
		n += !err;
	}
	must_eq(err, VMBUS_E_FULL);
	must(_i ? n == 3 : n > 3 && n < 64);
	must_eq(h.writable, 0);
	loop_settle(h.l);
	must_eq(h.kept_count, n);
	must_eq(h.writable, _i ? 0 : 1); /* the ring has room when the host has read it */
	script_bytes = 64;
	host_good(script, 0);
	h.srb = scripted;
	for (i = 0; i < n; i++)
		host_answer(&h, &h.kept[i]);
	loop_settle(h.l);
	must_eq(done_calls.count, n);
	must_eq(h.writable, 1);
	must_eq(vmbus_storvsc_submit(&h.s, 0, &req[0]), 0);
	host_free(&h);
}
END_TEST

START_TEST(storvsc_submit_many__one_signal)
{
	struct host *const h = ready_host(NULL);
	struct vmbus_storvsc_req req[20], *list[20];
	unsigned long signals = h->l->signals;
	struct vmbus_vsc_info info;
	uint64_t batches;
	uint32_t i;

	vmbus_vsc_info(host_vsc(h), &info);
	batches = info.send.batches;
	for (i = 0; i < 20; i++) {
		req[i] = request(VMBUS_STORVSC_NONE, NULL, 0);
		list[i] = &req[i];
	}
	must_eq(vmbus_storvsc_submit_many(&h->s, 0, list, 20), 20);
	must_eq(h->l->signals, signals + 1);
	vmbus_vsc_info(host_vsc(h), &info);
	must_eq(info.send.batches, batches + 1);
	loop_settle(h->l);
	must_eq(h->kept_count, 20);
	for (i = 0; i < 20; i++)
		must_eq(h->kept[i].msg[18], 1);
	/* One of them cannot be: those before it go, and the next call says why. */
	script_bytes = 64;
	host_good(script, 0);
	h->srb = scripted;
	for (i = 0; i < 20; i++)
		host_answer(h, &h->kept[i]);
	loop_settle(h->l);
	must_eq(done_calls.count, 20);
	req[5].cdb_bytes = 7;
	signals = h->l->signals;
	must_eq(vmbus_storvsc_submit_many(&h->s, 0, list, 20), 5);
	must_eq(h->l->signals, signals + 1);
	must_eq(vmbus_storvsc_submit_many(&h->s, 0, list + 5, 15), VMBUS_E_RANGE);
	must_eq(vmbus_storvsc_submit_many(&h->s, 1, list, 1), VMBUS_E_RANGE);
	loop_settle(h->l);
	must_eq(done_calls.count, 25);
	host_free(h);
}
END_TEST

/* Each channel has its own requests; one that goes takes only its own with it. */
START_TEST(storvsc_submit__channels)
{
	struct vmbus_storvsc_opts opts;
	struct vmbus_storvsc_req req[3];
	struct host h;
	uint32_t i;

	memset(&done_calls, 0, sizeof(done_calls));
	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 2;
	h.subchannels = h.offers = 2;
	h.flags = 1;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.channels, 3);
	for (i = 0; i < 3; i++) {
		req[i] = request(VMBUS_STORVSC_NONE, NULL, 0);
		must_eq(vmbus_storvsc_submit(&h.s, i, &req[i]), 0);
	}
	loop_settle(h.l);
	must_eq(h.kept_count, 3);
	must(h.kept[0].chan != h.kept[1].chan && h.kept[1].chan != h.kept[2].chan);
	for (i = 0; i < 3; i++)
		if (h.kept[i].chan != h.chan)
			break;
	vmbus_chan_fail(h.kept[i].chan, "test");
	loop_settle(h.l);
	must_eq(done_calls.count, 1);
	must_eq(h.closed, 0);
	i = (uint32_t)(done_calls.last - req);
	must(i == 1 || i == 2);
	must_eq(vmbus_storvsc_submit(&h.s, i, &req[i]), VMBUS_E_STATE);
	must(vmbus_storvsc_channel(&h.s, i) == NULL);
	script_bytes = 64;
	host_good(script, 0);
	h.srb = scripted;
	host_free(&h);
	must_eq(done_calls.count, 3);
	must_eq(h.closed, 1);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "submit", 60);

	tcase_add_loop_test(tc, storvsc_submit__says, 0, 3);
	tcase_add_loop_test(tc, lesson_09_every_byte_of_the_buffer, 0, 12);
	tcase_add_loop_test(tc, storvsc_submit__largest, 0, 2);
	tcase_add_test(tc, storvsc_submit__refuses);
	tcase_add_test(tc, storvsc_retry__tells_what_was_not_done);
	tcase_add_test(tc, storvsc_submit__from_done);
	tcase_add_loop_test(tc, storvsc_submit__full, 0, 2);
	tcase_add_test(tc, storvsc_submit_many__one_signal);
	tcase_add_test(tc, storvsc_submit__channels);
	tc = vmbus_test_case(suite, "done", 60);
	tcase_add_loop_test(tc, storvsc_done__tells_the_outcome, 0, 13);
	tcase_add_test(tc, lesson_11_answers_of_every_length);
	tcase_add_test(tc, storvsc_done__believes_no_short_good);
}

VMBUS_TEST_MAIN("block.storvsc_io", tests)
