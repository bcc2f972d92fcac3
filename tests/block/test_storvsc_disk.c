/* SPDX-License-Identifier: MIT */
/* Disks of the block device's client: what a probe makes of answers, and the commands of a disk. */
#include "host.h"

/* What the disk of a test answers. */
struct answer {
	uint32_t bytes; /* 0: refuse: 5/24/00 */
	uint8_t data[256];
};

enum {
	INQUIRY,
	PAGES,
	SERIAL,
	ID,
	LIMITS,
	PROVISIONING,
	CAPACITY16,
	CAPACITY10,
	MODES,
	CACHING,
	ANSWERS
};

static struct {
	struct answer answer[ANSWERS];
	uint32_t asked[ANSWERS];
	uint32_t news, busy, odd; /* so many answers before the right one: unit attention, busy */
	uint8_t news_key;
	bool descriptors; /* sense in the other format */
	uint32_t lie;	  /* tell that this was moved */
	uint32_t cut;	  /* 0, or give and tell no more than that */
	uint32_t broken;  /* 0, or 1 and the answer that is a hardware error instead */
} disk;

static void found(void *to, const char *text, uint32_t room)
{
	memset(to, ' ', room);
	memcpy(to, text, strlen(text));
}

/* A disk as the reference has it: 512 bytes, 1 GiB, all pages. */
static void usual(void)
{
	uint8_t *p;

	memset(&disk, 0, sizeof(disk));
	p = disk.answer[INQUIRY].data;
	disk.answer[INQUIRY].bytes = 96;
	p[2] = 5;
	p[3] = 2;
	p[4] = 99;
	p[7] = 2;
	found(p + 8, "Msft", 8);
	found(p + 16, "Virtual Disk", 16);
	found(p + 32, "1.0", 4);
	disk.answer[PAGES] =
		(struct answer){ 10, { 0, 0, 0, 6, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2 } };
	disk.answer[SERIAL] = (struct answer){ 10, { 0, 0x80, 0, 6, ' ', 'A', 'B', 7, 'C', ' ' } };
	p = disk.answer[ID].data;
	disk.answer[ID].bytes = 52;
	p[1] = 0x83;
	p[3] = 48;
	p[4] = 1;
	p[5] = 1;
	p[7] = 24;
	found(p + 8, "Msft", 8);
	memset(p + 16, 0x5A, 16);
	p[32] = 1;
	p[33] = 3;
	p[35] = 16;
	memset(p + 36, 0x60, 16);
	p = disk.answer[LIMITS].data;
	disk.answer[LIMITS].bytes = 64;
	p[1] = 0xB0;
	p[3] = 60;
	host_put_be(p + 20, 4, 100000);
	host_put_be(p + 24, 4, 16);
	host_put_be(p + 28, 4, 8);
	disk.answer[PROVISIONING] = (struct answer){ 8, { 0, 0xB2, 0, 4, 1, 0x80, 2, 0 } };
	p = disk.answer[CAPACITY16].data;
	disk.answer[CAPACITY16].bytes = 32;
	host_put_be(p, 8, 2097151);
	host_put_be(p + 8, 4, 512);
	p[13] = 3;
	p[14] = 0xC0;
	p = disk.answer[CAPACITY10].data;
	disk.answer[CAPACITY10].bytes = 8;
	host_put_be(p, 4, 2097151);
	host_put_be(p + 4, 4, 512);
	disk.answer[MODES] = (struct answer){ 16, { 15, 0, 0x10, 0, 8, 10, 4 } };
	disk.answer[CACHING] = disk.answer[MODES];
}

static uint32_t which(const uint8_t *cdb)
{
	switch (cdb[0]) {
	case 0x12:
		if (!(cdb[1] & 1))
			return INQUIRY;
		return cdb[2] == 0	? PAGES
		       : cdb[2] == 0x80 ? SERIAL
		       : cdb[2] == 0x83 ? ID
		       : cdb[2] == 0xB0 ? LIMITS
					: PROVISIONING;
	case 0x9E:
		return CAPACITY16;
	case 0x25:
		return CAPACITY10;
	default:
		must_eq(cdb[0], 0x1A);
		return cdb[2] == 0x3F ? MODES : CACHING;
	}
}

static uint32_t serve(struct host *h, const struct host_srb *srb, uint8_t *answer)
{
	const uint8_t *const cdb = srb->msg + 28;
	const uint32_t n = which(cdb);
	const struct answer *const is = &disk.answer[n];
	uint32_t moved;

	must_eq(srb->msg[18], 1);
	must_eq(srb->msg[19], 9);
	must_eq(srb->msg[22], 1);
	if (disk.busy) {
		disk.busy--;
		host_good(answer, 0);
		answer[14] = 5;
		answer[15] = disk.busy & 1 ? 0x08 : 0x28;
		return 64;
	}
	if (disk.news && n != INQUIRY) {
		disk.news--;
		host_sense(answer, disk.news_key, 0x2A, 9);
		if (disk.descriptors) {
			answer[28] = 0x72;
			answer[29] = disk.news_key;
			answer[30] = 0x2A;
			answer[31] = 9;
		}
		return 64;
	}
	disk.asked[n]++;
	if (disk.broken == 1 + n) {
		host_sense(answer, 4, 0x44, 0);
		return 64;
	}
	if (!is->bytes) {
		host_sense(answer, 5, 0x24, 0);
		return 64;
	}
	moved = host_give(h, srb, is->data,
			  disk.cut && disk.cut < is->bytes ? disk.cut : is->bytes);
	host_put(answer + 24, 4, disk.lie ? disk.lie : moved);
	return 64;
}

static struct {
	uint32_t calls;
	int err;
} probed;

static void on_probed(struct vmbus_storvsc_disk *d, int err, void *ctx)
{
	must(ctx == (void *)d);
	probed.calls++;
	probed.err = err;
}

static struct host host;

static void begin(void)
{
	usual();
	host_start(&host);
	host.srb = serve;
	must_eq(host_client(&host, NULL), 0);
}

static int probe(struct vmbus_storvsc_disk *d)
{
	uint8_t *const page = vmbus_guest_pages(host.l->guest, 1);

	probed.calls = 0;
	memset(d, 0xEE, sizeof(*d));
	memset(page, 0xFF, 4096); /* what is left of before is not to be believed */
	must_eq(vmbus_storvsc_probe(d, &host.s, 1, 9, page, on_probed, d), 0);
	loop_settle(host.l);
	must_eq(probed.calls, 1);
	vmbus_guest_pages_free(host.l->guest, page, 1);
	return probed.err;
}

START_TEST(storvsc_probe__finds)
{
	struct vmbus_storvsc_disk d;
	uint32_t i;

	begin();
	must_eq(probe(&d), 0);
	must(d.storvsc == &host.s);
	must_eq(d.target, 1);
	must_eq(d.lun, 9);
	must(!d.read_only);
	must(d.cached);
	must(d.fua);
	must(d.discard);
	must(d.discard_zeroes);
	must_eq(d.sector, 512);
	must_eq(d.block, 4096);
	must_eq(d.sectors, 2097152);
	must_eq(d.discard_max, 100000);
	must_eq(d.discard_grain, 8);
	ck_assert_str_eq(d.vendor, "Msft");
	ck_assert_str_eq(d.product, "Virtual Disk");
	ck_assert_str_eq(d.revision, "1.0");
	ck_assert_str_eq(d.serial, "AB C");
	for (i = 0; i < 16; i++)
		must_eq(d.id[i], 0x5A);
	for (i = 0; i < ANSWERS; i++)
		must_eq(disk.asked[i], i != CAPACITY10 && i != CACHING);
	must_eq(host.s.bad, 0);
	host_free(&host);
}
END_TEST

/* One thing is other than usual; what it means. */
#define D 1u  /* discard */
#define Z 2u  /* which gives zeroes */
#define R 4u  /* read-only */
#define C 8u  /* cached */
#define F 16u /* FUA */
#define KEEP UINT32_MAX

struct change {
	uint32_t answer, bytes; /* how long it is then; KEEP: as it was */
	uint32_t at, n;		/* n bytes of it */
	uint64_t value;
};

static const struct {
	struct change change[2];
	uint32_t changes;
	int err;
	uint32_t flags, grain, block;
	char serial;
	uint8_t id;
} odd[] = {
	/* Nobody is there; a DVD; not enough to tell; refused. */
	{ { { INQUIRY, KEEP, 0, 1, 0x7F } }, 1, VMBUS_E_RANGE, 0, 0, 0, 0, 0 },
	{ { { INQUIRY, KEEP, 0, 1, 0x05 } }, 1, VMBUS_E_RANGE, 0, 0, 0, 0, 0 },
	{ { { INQUIRY, 35, 0, 0, 0 } }, 1, VMBUS_E_RANGE, 0, 0, 0, 0, 0 },
	{ { { INQUIRY, 0, 0, 0, 0 } }, 1, VMBUS_E_RANGE, 0, 0, 0, 0, 0 },
	/* The short form of the capacity, which cannot say as much, or is refused too. */
	{ { { CAPACITY16, 0, 0, 0, 0 } }, 1, 0, C | F, 8, 512, 'A', 0x5A },
	{ { { CAPACITY16, 0, 0, 0, 0 }, { CAPACITY10, KEEP, 0, 4, UINT32_MAX } },
	  2,
	  VMBUS_E_PEER,
	  0,
	  0,
	  0,
	  0,
	  0 },
	{ { { CAPACITY16, 0, 0, 0, 0 }, { CAPACITY10, 0, 0, 0, 0 } },
	  2,
	  VMBUS_E_RANGE,
	  0,
	  0,
	  0,
	  0,
	  0 },
	/* Capacities that cannot be. */
	{ { { CAPACITY16, 11, 0, 0, 0 } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	{ { { CAPACITY16, KEEP, 8, 4, 0 } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	{ { { CAPACITY16, KEEP, 8, 4, 520 } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	{ { { CAPACITY16, KEEP, 8, 4, 8192 } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	{ { { CAPACITY16, KEEP, 0, 8, UINT64_MAX } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	{ { { CAPACITY16, KEEP, 0, 8, UINT64_MAX / 2 } }, 1, VMBUS_E_PEER, 0, 0, 0, 0, 0 },
	/* A physical sector that nobody has; no discard; one that leaves what it likes. */
	{ { { CAPACITY16, KEEP, 13, 1, 15 } }, 1, 0, D | Z | C | F, 8, 512, 'A', 0x5A },
	{ { { CAPACITY16, KEEP, 14, 1, 0 } }, 1, 0, C | F, 8, 4096, 'A', 0x5A },
	{ { { CAPACITY16, KEEP, 14, 1, 0x80 } }, 1, 0, D | C | F, 8, 4096, 'A', 0x5A },
	/* No list of pages, a list that says more than there is, another page. */
	{ { { PAGES, 0, 0, 0, 0 } }, 1, 0, C | F, 0, 4096, 0, 0 },
	{ { { PAGES, 6, 2, 1, 0xFF } }, 1, 0, C | F, 0, 4096, 'A', 0 },
	{ { { PAGES, KEEP, 1, 1, 0x80 } }, 1, 0, C | F, 0, 4096, 0, 0 },
	/* Designators that lead past the end, only a NAA, cut off. */
	{ { { ID, KEEP, 7, 1, 200 } }, 1, 0, D | Z | C | F, 8, 4096, 'A', 0 },
	{ { { ID, KEEP, 5, 1, 2 } }, 1, 0, D | Z | C | F, 8, 4096, 'A', 0x60 },
	{ { { ID, 20, 0, 0, 0 } }, 1, 0, D | Z | C | F, 8, 4096, 'A', 0 },
	{ { { ID, 7, 0, 0, 0 } }, 1, 0, D | Z | C | F, 8, 4096, 'A', 0 },
	/* No sectors, no descriptors, no granularity; cut off; discard that is not UNMAP. */
	{ { { LIMITS, KEEP, 20, 4, 0 } }, 1, 0, C | F, 8, 4096, 'A', 0x5A },
	{ { { LIMITS, KEEP, 24, 4, 0 } }, 1, 0, C | F, 0, 4096, 'A', 0x5A },
	{ { { LIMITS, KEEP, 28, 4, 0 } }, 1, 0, D | Z | C | F, 1, 4096, 'A', 0x5A },
	{ { { LIMITS, 20, 0, 0, 0 } }, 1, 0, C | F, 0, 4096, 'A', 0x5A },
	{ { { PROVISIONING, KEEP, 5, 1, 0x40 } }, 1, 0, C | F, 8, 4096, 'A', 0x5A },
	/* Write protection; the caching page by itself; none; headers longer than all of it. */
	{ { { MODES, KEEP, 2, 1, 0x80 } }, 1, 0, D | Z | C | R, 8, 4096, 'A', 0x5A },
	{ { { MODES, 4, 0, 0, 0 }, { CACHING, KEEP, 6, 1, 0 } },
	  2,
	  0,
	  D | Z | F,
	  8,
	  4096,
	  'A',
	  0x5A },
	{ { { MODES, 0, 0, 0, 0 }, { CACHING, 0, 0, 0, 0 } }, 2, 0, D | Z, 8, 4096, 'A', 0x5A },
	{ { { MODES, KEEP, 3, 1, 255 }, { CACHING, KEEP, 3, 1, 255 } },
	  2,
	  0,
	  D | Z | F,
	  8,
	  4096,
	  'A',
	  0x5A },
	{ { { MODES, KEEP, 0, 1, 3 }, { CACHING, KEEP, 0, 1, 3 } },
	  2,
	  0,
	  D | Z | F,
	  8,
	  4096,
	  'A',
	  0x5A },
	/* Behind a block descriptor of 8 bytes and a page of 1. */
	{ { { MODES, 28, 0, 4, 0x1B001008 }, { MODES, KEEP, 12, 6, 0x0A01FF880A04 } },
	  2,
	  0,
	  D | Z | C | F,
	  8,
	  4096,
	  'A',
	  0x5A },
	{ { { MODES, 16, 4, 1, 0x48 }, { CACHING, KEEP, 6, 1, 0 } }, /* a sub-page */
	  2,
	  0,
	  D | Z | F,
	  8,
	  4096,
	  'A',
	  0x5A },
};
#define ODD ((int)(sizeof(odd) / sizeof(odd[0])))

START_TEST(storvsc_probe__understands)
{
	struct vmbus_storvsc_disk d;
	uint32_t i, flags;

	begin();
	for (i = 0; i < odd[_i].changes; i++) {
		const struct change *const c = &odd[_i].change[i];

		if (c->bytes != KEEP)
			disk.answer[c->answer].bytes = c->bytes;
		host_put_be(disk.answer[c->answer].data + c->at, c->n, c->value);
	}
	must_eq(probe(&d), odd[_i].err);
	must_eq(host.s.bad, 0);
	host_free(&host);
	if (odd[_i].err)
		return;
	flags = (d.discard ? D : 0) | (d.discard_zeroes ? Z : 0) | (d.read_only ? R : 0) |
		(d.cached ? C : 0) | (d.fua ? F : 0);
	must_eq(flags, odd[_i].flags);
	must_eq(d.sectors, 2097152);
	must_eq(d.sector, 512);
	must_eq(d.block, odd[_i].block);
	must_eq(d.discard_grain, odd[_i].grain);
	must_eq(d.serial[0], odd[_i].serial);
	must_eq(d.id[0], odd[_i].id);
}
END_TEST

/* Lesson B 11: every answer cut off at every length, over a page full of other bytes. */
START_TEST(lesson_11_answers_cut_off)
{
	struct vmbus_storvsc_disk d;
	int err;

	begin();
	for (disk.cut = 1; disk.cut <= 100; disk.cut++) {
		vmbus_test_at("%u bytes", disk.cut);
		err = probe(&d);
		must_eq(err, disk.cut < 36 ? VMBUS_E_RANGE : 0);
		if (!err)
			must_eq(d.sectors, 2097152);
	}
	/* More than was asked for is not believed either. */
	disk.cut = 0;
	disk.lie = UINT32_MAX;
	must_eq(probe(&d), 0);
	must_eq(d.sectors, 2097152);
	host_free(&host);
}
END_TEST

START_TEST(storvsc_probe__asks_again)
{
	struct vmbus_storvsc_disk d;

	begin();
	disk.news = 5;
	disk.news_key = 6;
	disk.descriptors = _i;
	must_eq(probe(&d), 0);
	must_eq(disk.news, 0);
	disk.busy = 200;
	must_eq(probe(&d), 0);
	disk.busy = UINT32_MAX;
	must_eq(probe(&d), VMBUS_E_AGAIN);
	disk.busy = 0;
	disk.news = UINT32_MAX;
	must_eq(probe(&d), VMBUS_E_AGAIN);
	disk.news = 0;
	disk.broken = 1 + CAPACITY16; /* not "no such command": the short form is not asked */
	must_eq(probe(&d), VMBUS_E_RANGE);
	must_eq(disk.asked[CAPACITY10], 0);
	disk.broken = 0;
	disk.news = UINT32_MAX;
	disk.news_key = 2; /* not ready: no disk to use */
	must_eq(probe(&d), VMBUS_E_RANGE);
	host_free(&host);
}
END_TEST

/* There is no room: it waits, together with others, and goes on. */
START_TEST(storvsc_probe__waits_for_room)
{
	struct vmbus_storvsc_opts opts;
	struct vmbus_storvsc_disk d[3];
	uint8_t *page;
	uint32_t i;

	usual();
	host_start(&host);
	host.srb = serve;
	opts = host_opts(&host);
	opts.depth = 1;
	must_eq(host_client(&host, &opts), 0);
	page = vmbus_guest_pages(host.l->guest, 3);
	probed.calls = 0;
	for (i = 0; i < 3; i++)
		must_eq(vmbus_storvsc_probe(&d[i], &host.s, 1, 9, page + i * 4096u, on_probed,
					    &d[i]),
			0);
	if (_i == 0) {
		loop_settle(host.l);
		for (i = 0; i < 3; i++)
			must_eq(d[i].sectors, 2097152);
		must_eq(probed.err, 0);
	} else {
		must_eq(vmbus_storvsc_stop(&host.s), 0);
		loop_settle(host.l);
		must_eq(probed.err, VMBUS_E_PEER);
		must_eq(host.closed, 1);
	}
	must_eq(probed.calls, 3);
	host_free(&host);
}
END_TEST

START_TEST(storvsc_probe__refuses)
{
	struct vmbus_storvsc_disk d;
	uint8_t *page;

	begin();
	page = vmbus_guest_pages(host.l->guest, 1);
	must_eq(vmbus_storvsc_probe(&d, &host.s, 1, 9, NULL, on_probed, &d), VMBUS_E_INVAL);
	must_eq(vmbus_storvsc_probe(&d, &host.s, 1, 9, page + 8, on_probed, &d), VMBUS_E_INVAL);
	must_eq(vmbus_storvsc_probe(&d, &host.s, 1, 9, page, NULL, &d), VMBUS_E_INVAL);
	must_eq(vmbus_storvsc_stop(&host.s), 0);
	must_eq(vmbus_storvsc_probe(&d, &host.s, 1, 9, page, on_probed, &d), VMBUS_E_STATE);
	loop_settle(host.l);
	must_eq(vmbus_storvsc_probe(&d, &host.s, 1, 9, page, on_probed, &d), VMBUS_E_STATE);
	host_free(&host);
}
END_TEST

/* ---- the commands of a disk ---- */

static struct vmbus_storvsc fake;

static struct vmbus_storvsc_disk made(uint64_t sectors, uint32_t sector)
{
	const struct vmbus_storvsc_disk d = { .storvsc = &fake,
					      .target = 1,
					      .lun = 200,
					      .sector = sector,
					      .sectors = sectors,
					      .fua = true,
					      .discard = true,
					      .discard_max = 50 };

	fake.transfer_bytes = 64u << 20; /* more than a host can tell: for the forms */
	return d;
}

START_TEST(storvsc_read__makes)
{
	static const struct {
		uint64_t sector;
		uint32_t sectors, cdb_bytes;
	} cases[] = {
		{ 0, 1, 10 },
		{ 5, 65535, 10 },
		{ 5, 65536, 16 },
		{ UINT32_MAX - 1ull, 1, 10 },
		{ UINT32_MAX, 1, 16 },
		{ UINT32_MAX - 1ull, 2, 16 },
		{ 1ull << 40, 100, 16 },
	};
	const struct vmbus_storvsc_disk d = made(1ull << 41, 512);
	struct vmbus_storvsc_req req;
	uint32_t i, write;

	for (i = 0; i < 7; i++)
		for (write = 0; write < 3; write++) {
			memset(&req, 0xEE, sizeof(req));
			must_eq(write ? vmbus_storvsc_write(&d, &req, cases[i].sector,
							    cases[i].sectors, write == 2)
				      : vmbus_storvsc_read(&d, &req, cases[i].sector,
							   cases[i].sectors),
				0);
			must_eq(req.target, 1);
			must_eq(req.lun, 200);
			must_eq(req.cdb_bytes, cases[i].cdb_bytes);
			must_eq(req.way, write ? VMBUS_STORVSC_TO_DISK : VMBUS_STORVSC_FROM_DISK);
			must_eq(req.cdb[1], write == 2 ? 8 : 0);
			if (cases[i].cdb_bytes == 10) {
				must_eq(req.cdb[0], write ? 0x2A : 0x28);
				must_eq(host_get_be(req.cdb + 2, 4), cases[i].sector);
				must_eq(host_get_be(req.cdb + 7, 2), cases[i].sectors);
				must_eq(host_get_be(req.cdb + 9, 7), 0);
			} else {
				must_eq(req.cdb[0], write ? 0x8A : 0x88);
				must_eq(host_get_be(req.cdb + 2, 8), cases[i].sector);
				must_eq(host_get_be(req.cdb + 10, 4), cases[i].sectors);
				must_eq(host_get_be(req.cdb + 14, 2), 0);
			}
		}
}
END_TEST

START_TEST(storvsc_read__refuses)
{
	struct vmbus_storvsc_disk d = made(1000, 4096);
	struct vmbus_storvsc_req req = { 0 };
	static const struct {
		uint64_t sector;
		uint32_t sectors;
	} cases[] = { { 0, 0 },		{ 1000, 1 },	   { 999, 2 },
		      { 0, 1001 },	{ UINT64_MAX, 1 }, { UINT64_MAX, UINT32_MAX },
		      { 1ull << 63, 8 } };
	uint32_t i;

	for (i = 0; i < 7; i++) {
		must_eq(vmbus_storvsc_read(&d, &req, cases[i].sector, cases[i].sectors),
			VMBUS_E_RANGE);
		must_eq(vmbus_storvsc_write(&d, &req, cases[i].sector, cases[i].sectors, false),
			VMBUS_E_RANGE);
		must_eq(vmbus_storvsc_discard(&d, &req, cases[i].sector, cases[i].sectors),
			VMBUS_E_RANGE);
	}
	fake.transfer_bytes = 8192;
	must_eq(vmbus_storvsc_read(&d, &req, 0, 2), 0);
	must_eq(vmbus_storvsc_read(&d, &req, 0, 3), VMBUS_E_RANGE);
	must_eq(vmbus_storvsc_write(&d, &req, 0, 3, false), VMBUS_E_RANGE);
	must_eq(vmbus_storvsc_read(&d, &req, 0, 1u << 20), VMBUS_E_RANGE); /* 2^32 bytes */
	d.fua = false;
	must_eq(vmbus_storvsc_write(&d, &req, 0, 1, true), VMBUS_E_NOTSUP);
	d.read_only = true;
	must_eq(vmbus_storvsc_write(&d, &req, 0, 1, false), VMBUS_E_PERM);
	must_eq(vmbus_storvsc_read(&d, &req, 0, 1), 0);
}
END_TEST

START_TEST(storvsc_flush__makes)
{
	static const uint8_t want[16] = { 0x35 };
	const struct vmbus_storvsc_disk d = made(1000, 512);
	struct vmbus_storvsc_req req;

	memset(&req, 0xEE, sizeof(req));
	must_eq(vmbus_storvsc_flush(&d, &req), 0);
	must_eq(req.cdb_bytes, 10);
	must_eq(req.way, VMBUS_STORVSC_NONE);
	must_eq(req.pieces, 0);
	must_eq(req.lun, 200);
	must_eq(memcmp(req.cdb, want, 16), 0);
}
END_TEST

START_TEST(storvsc_discard__makes)
{
	static const uint8_t want[16] = { 0x42, 0, 0, 0, 0, 0, 0, 0, 24 };
	struct vmbus_storvsc_disk d = made(1ull << 40, 512);
	struct vmbus_storvsc_piece piece = { 0 };
	struct vmbus_storvsc_req req = { .piece = &piece, .pieces = 1 };
	uint8_t list[24];

	memset(list, 0xEE, sizeof(list));
	piece.data = list;
	piece.bytes = 24;
	must_eq(vmbus_storvsc_discard(&d, &req, (1ull << 39) + 5, 50), 0);
	must_eq(req.cdb_bytes, 10);
	must_eq(req.way, VMBUS_STORVSC_TO_DISK);
	must_eq(memcmp(req.cdb, want, 16), 0);
	must_eq(host_get_be(list, 2), 22);
	must_eq(host_get_be(list + 2, 2), 16);
	must_eq(host_get_be(list + 4, 4), 0);
	must_eq(host_get_be(list + 8, 8), (1ull << 39) + 5);
	must_eq(host_get_be(list + 16, 4), 50);
	must_eq(host_get_be(list + 20, 4), 0);
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 51), VMBUS_E_RANGE);
	piece.bytes = 23;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_INVAL);
	piece.bytes = 25;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_INVAL);
	piece.bytes = 24;
	piece.data = NULL;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_INVAL);
	req.pieces = 0;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_INVAL);
	d.discard = false;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_NOTSUP);
	d.read_only = true;
	must_eq(vmbus_storvsc_discard(&d, &req, 0, 5), VMBUS_E_PERM);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "probe", 60);

	tcase_add_test(tc, storvsc_probe__finds);
	tcase_add_loop_test(tc, storvsc_probe__understands, 0, ODD);
	tcase_add_test(tc, lesson_11_answers_cut_off);
	tcase_add_loop_test(tc, storvsc_probe__asks_again, 0, 2);
	tcase_add_loop_test(tc, storvsc_probe__waits_for_room, 0, 2);
	tcase_add_test(tc, storvsc_probe__refuses);
	tc = vmbus_test_case(suite, "commands", 60);
	tcase_add_test(tc, storvsc_read__makes);
	tcase_add_test(tc, storvsc_read__refuses);
	tcase_add_test(tc, storvsc_flush__makes);
	tcase_add_test(tc, storvsc_discard__makes);
}

VMBUS_TEST_MAIN("block.storvsc_disk", tests)
