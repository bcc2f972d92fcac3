/* SPDX-License-Identifier: MIT */
/*
 * The block device's provider goes on in another process: from a saved state, and from journals
 * after it was killed, at each step of the initialisation and under load.
 */
#include "vspbox.h"

#include <pthread.h>

#define PARAMETER 0xC000000Du
#define ENUMERATE_BUS 11u

static const struct {
	uint32_t op;
	uint16_t number;
} steps[] = { { 7, 0 }, { 9, 0x0602 }, { 10, 0 }, { 8, 0 }, { 13, 1 } };

static void run_steps(struct box *b, uint32_t from, uint32_t to)
{
	struct box_reply r;

	for (; from < to; from++)
		must_eq(box_step(b, 0, steps[from].op, steps[from].number, &r), 0);
}

/* ---- saved states ---- */

START_TEST(block_vsp__goes_on_from_a_saved_state)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_begin(&b, 2);
	box_open(&b);
	run_steps(&b, 0, (uint32_t)_i);
	box_move(&b, 2);
	run_steps(&b, (uint32_t)_i, 4);
	box_good(&b, 0, &srb, 0);
	box_none(&b, 0);
	box_end(&b);
}
END_TEST

START_TEST(block_vsp__goes_on_with_sub_channels)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 2;
	box_start(&b, 1);
	box_subs(&b, 2);
	box_move(&b, 1);
	box_good(&b, 2, &srb, 0);
	box_good(&b, 1, &srb, 0);
	box_good(&b, 0, &srb, 0);
	must_eq(box_step(&b, 0, 13, 2, &r), 0);
	must_eq(box_step(&b, 0, 13, 1, &r), PARAMETER);
	fake_expect_none(&b.f);
	box_end(&b);
}
END_TEST

/* Of a disk that may be another, or tell other things of itself. */
static void two_attentions(struct box *b, const struct box_srb *tur)
{
	struct box_reply r;

	box_do(b, 0, tur, 0, &r);
	box_sense(&r, 0x62A09);
	box_do(b, 0, tur, 0, &r);
	box_sense(&r, 0x63F01);
}

/* The disks are others: the guest is told, and each disk has unit attentions. */
START_TEST(block_vsp__tells_of_other_disks_after_a_restore)
{
	struct box_srb tur = box_tur(0);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_start(&b, 2);
	box_move(&b, 2);
	box_none(&b, 0);
	box_move(&b, 1);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	box_move(&b, 1); /* the unit attention is still there */
	two_attentions(&b, &tur);
	box_good(&b, 0, &tur, 0);
	b.serial[0] = "another";
	box_move(&b, 1);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	two_attentions(&b, &tur);
	box_end(&b);
}
END_TEST

/* The same disk, which has no write cache any more or has one now: the guest is to look. */
START_TEST(block_vsp__tells_of_another_cache_after_a_restore)
{
	struct box_srb tur = box_tur(0);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.write_through = _i;
	box_start(&b, 1);
	box_move(&b, 1);
	box_none(&b, 0);
	b.write_through = !_i;
	box_move(&b, 1);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	two_attentions(&b, &tur);
	box_good(&b, 0, &tur, 0);
	b.opts.transfer_bytes = 256u << 10;
	box_move(&b, 1);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	two_attentions(&b, &tur);
	box_end(&b);
}
END_TEST

/* A disk changes right before the bus is saved, or before it goes on: the guest is told once. */
START_TEST(block_vsp__tells_what_changes_about_a_save)
{
	struct box_srb tur = box_tur(0);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_start(&b, 2);
	if (_i == 0) /* the next process has the same disks */
		must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	box_arrive(&b, 2);
	if (_i == 1)
		must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	two_attentions(&b, &tur);
	box_none(&b, 0);
	box_end(&b);
}
END_TEST

/* What a store has is waited for; what waits for room in the ring, or to be ready, goes along. */
START_TEST(block_vsp__saves_what_waits)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	size_t bytes;
	struct box_reply r;
	struct box b;
	uint64_t id;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_begin(&b, 1);
	box_open(&b);
	run_steps(&b, 0, 3);
	box_subs(&b, 1);
	id = box_command(&b, 1, &srb, 0);
	box_none(&b, 1);
	box_move(&b, 1);
	box_reply(&b, 1, id, &r); /* held: it is asked again */
	must_eq(r.scsi_status, 8);
	must_eq(r.srb_status, 5);
	must_eq(r.status, 0x80000011u);
	run_steps(&b, 3, 4);
	box_good(&b, 1, &srb, 0);
	box_stall(&b, 0, true);
	id = box_command(&b, 1, &srb, 0);
	box_none(&b, 1);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &bytes), VMBUS_E_AGAIN);
	box_stall(&b, 0, false);
	box_reply(&b, 1, id, &r);
	must_eq(r.srb_status, 1);
	box_move(&b, 1);
	box_good(&b, 1, &srb, 0);
	box_end(&b);
}
END_TEST

START_TEST(block_vsp__saves_answers_that_wait_for_room)
{
	struct box_srb srb = box_rw(0, true, 0, 1);
	struct vmbus_packet pkt[64];
	uint64_t first, got = 0;
	struct box b;
	uint32_t i;
	int n, k;

	box_prepare(&b);
	box_begin(&b, 1);
	must_eq(fake_open(&b.f, &b.c[0], 33, 2), 0);
	box_init(&b);
	first = b.id;
	for (i = 0; i < 200; i++)
		(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	box_move(&b, 1);
	while ((n = fake_receive(&b.c[0], pkt, 64)) > 0) {
		for (k = 0; k < n; k++)
			must_eq(pkt[k].id, first + got++);
		fake_run(&b.f);
		if (got % 3 == 0)
			box_move(&b, 1);
	}
	must_eq(got, 200);
	box_end(&b);
}
END_TEST

/* More than the next controller has requests for. */
START_TEST(block_vsp__takes_answers_of_a_larger_controller)
{
	struct box_srb srb = box_rw(0, true, 0, 1);
	uint64_t first, got = 0;
	struct vmbus_packet pkt;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_begin(&b, 1);
	must_eq(fake_open(&b.f, &b.c[0], 33, 2), 0);
	box_init(&b);
	first = b.id;
	box_stall(&b, 0, true);
	for (i = 0; i < 150; i++)
		(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	box_stall(&b, 0, false);
	fake_run(&b.f);
	b.opts.requests = 8;
	box_move(&b, 1);
	for (; fake_receive(&b.c[0], &pkt, 1) == 1; fake_run(&b.f))
		must_eq(pkt.id, first + got++);
	must_eq(got, 150);
	box_good(&b, 0, &srb, 0);
	box_end(&b);
}
END_TEST

/* ---- at a lock ---- */

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_vmbus_bus_save(struct vmbus_bus *bus, void *buf, size_t room, size_t *need);
int __wrap_vmbus_bus_save(struct vmbus_bus *bus, void *buf, size_t room, size_t *need);

static struct {
	struct box *box;
	uint32_t in_save, in; /* so many locks LUN 1 comes; 0: not */
	bool came, after;
	void (*next)(void); /* at the lock after that */
} at_lock;

static void wait_for_lock(struct box *b, uint32_t in)
{
	b->store[1] = box_store(BOX_DISK_BYTES);
	memset(&at_lock, 0, sizeof(at_lock));
	at_lock.box = b;
	at_lock.in = in;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (at_lock.after) {
		at_lock.after = false;
		if (at_lock.next)
			at_lock.next();
	}
	if (at_lock.in && --at_lock.in == 0) {
		must_eq(box_add(at_lock.box, 1), 0);
		at_lock.came = at_lock.after = true;
	}
	return __real_pthread_mutex_lock(mutex);
}

/* When it is really saved, and not asked how large it is. */
int __wrap_vmbus_bus_save(struct vmbus_bus *bus, void *buf, size_t room, size_t *need)
{
	int err;

	if (buf)
		at_lock.in = at_lock.in_save;
	err = __real_vmbus_bus_save(bus, buf, room, need);
	at_lock.in = 0;
	return err;
}

/* A disk comes while the bus is saved, and the next process has it: the guest is told. */
START_TEST(block_vsp__tells_what_comes_while_it_is_saved)
{
	struct box_reply r;
	uint32_t n = 0;
	struct box b;

	do {
		vmbus_test_at("lock %u", n + 1);
		box_prepare(&b);
		box_start(&b, 1);
		wait_for_lock(&b, 0);
		at_lock.in_save = ++n;
		box_move(&b, 2);
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
		must_eq(r.op, ENUMERATE_BUS);
		box_end(&b);
	} while (at_lock.came);
	must(n > 1);
}
END_TEST

/* ---- hostile states ---- */

static struct {
	uint8_t bytes[4096];
	size_t len;
	int err;
} state;

static int open_as_restore(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	state.err = vmbus_block_vsp()->restore(chan, state.bytes, state.len);
	must(!state.err == !!vmbus_chan_priv(chan)); /* nothing that was freed */
	return state.err;
}

static void try_state(struct box *b)
{
	struct vmbus_ctl ctl;

	fake_post_open(&b->f, &b->c[0], 0);
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status != 0, state.err != 0);
	if (state.err)
		return;
	fake_post_close(&b->f, &b->c[0]);
	fake_run(&b->f);
}

static void state_of(uint64_t word, uint64_t told, uint32_t marks, uint32_t replies)
{
	uint32_t i;

	memset(state.bytes, 0, sizeof(state.bytes));
	box_put(state.bytes, 8, word);
	box_put(state.bytes + 8, 8, told);
	box_put(state.bytes + 16, 4, marks);
	box_put(state.bytes + 20, 4, replies);
	for (i = 0; i < marks && i < 100; i++)
		state.bytes[24 + 4 * i + 2] = 1;
	for (i = 0; i < replies && i < 30; i++)
		box_put(state.bytes + 24 + 4 * marks + 76 * i + 8, 4, 64);
	state.len = 24 + 4 * (size_t)marks + 76 * (size_t)replies;
}

#define READY_WORD (1ull << 56 | 4ull << 48 | 0x0602ull << 32 | 2ull << 16)

/* lesson 36: every count and length, and every byte. */
START_TEST(lesson_36_hostile_states)
{
	static const uint64_t words[] = {
		2ull << 56 | 4ull << 48 | 0x0602ull << 32, /* another form */
		1ull << 56 | 5ull << 48 | 0x0602ull << 32, /* no such state */
		1ull << 56 | 4ull << 48 | 0x0603ull << 32, /* no such version */
		1ull << 56 | 4ull << 48,		   /* none */
		1ull << 56 | 1ull << 48 | 0x0602ull << 32, /* too early for one */
		1ull << 56 | 4ull << 48 | 0x0602ull << 32 | 65ull << 16,
		1ull << 56 | 2ull << 48 | 0x0602ull << 32 | 1ull << 16, /* too early for them */
		READY_WORD | 1,
	};
	struct vmbus_vsp vsp = *vmbus_block_vsp();
	struct box b;
	uint32_t i, v;

	vsp.open = open_as_restore;
	box_prepare(&b);
	fake_init(&b.f, 1024);
	box_disks(&b, 1);
	(void)fake_offer(&b.f, &vsp, b.block, 0);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	fake_rings(&b.f, &b.c[0], BOX_UP, BOX_DOWN);
	b.c[0].gpadl = 77;
	must_eq(fake_share(&b.f, b.c[0].relid, 77, b.c[0].first, BOX_UP + BOX_DOWN), 0);
#define STATE(want)                                                                                \
	do {                                                                                       \
		try_state(&b);                                                                     \
		must_eq(state.err, want);                                                          \
	} while (0)
	state_of(0, 0, 0, 0);
	STATE(0);
	state_of(READY_WORD, 0, 3, 2);
	STATE(0);
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		vmbus_test_at("word %u", i);
		state_of(words[i], 0, 0, 0);
		STATE(VMBUS_E_INVAL);
	}
	for (state.len = 0; state.len < 24 + 12 + 2 * 76 + 8; state.len++) {
		const size_t len = state.len;

		vmbus_test_at("%zu bytes", len);
		state_of(READY_WORD, 0, 3, 2);
		state.len = len;
		STATE(len == 24 + 12 + 2 * 76 ? 0 : VMBUS_E_INVAL);
		state.len = len;
	}
	state_of(READY_WORD, 0, 0x40000001, 0);
	state.len = 28;
	STATE(VMBUS_E_INVAL);
	state_of(READY_WORD, 0, 0, 0);
	box_put(state.bytes + 20, 4, 0x1AF286BD); /* times 76 it wraps around 32 bits */
	STATE(VMBUS_E_INVAL);
	for (i = 0; i < 24 + 12 + 2 * 76; i++)
		for (v = 0; v < 256; v += v < 8 ? 1 : 31) {
			vmbus_test_at("byte %u is %u", i, v);
			state_of(READY_WORD, 0, 3, 2);
			state.bytes[i] = (uint8_t)v;
			try_state(&b);
			must(state.err == 0 || state.err == VMBUS_E_INVAL);
		}
	box_end(&b);
}
END_TEST

/* ---- journals ---- */

#define JOURNALS 2u

/* A box whose channels have journals. */
struct jbox {
	struct box b;
	uint8_t *journal[JOURNALS];
	size_t bytes;
	struct vmbus_chan *chan;
	uint32_t given;
};

static uint64_t *own_words(const struct jbox *j)
{
	return (uint64_t *)(void *)(j->journal[0] + j->bytes - 64);
}

static void sub_offered(void *ctx, struct vmbus_chan *sub)
{
	struct jbox *j = ctx;

	must(j->given < JOURNALS);
	must_eq(vmbus_chan_set_journal(sub, j->journal[j->given++], j->bytes), 0);
}

static void jbox_offer(struct jbox *j)
{
	j->b.f.opts.offered = sub_offered;
	j->b.f.opts.events_ctx = j;
	fake_create(&j->b.f);
	j->chan = fake_offer(&j->b.f, vmbus_block_vsp(), j->b.block, 0);
	must_eq(vmbus_chan_set_journal(j->chan, j->journal[0], j->bytes), 0);
	j->given = 1;
	fake_contact(&j->b.f, VMBUS_PROTO_5_3);
}

static void jbox_begin(struct jbox *j, uint32_t disks)
{
	uint32_t i;

	memset(j, 0, sizeof(*j));
	box_prepare(&j->b);
	j->b.opts.subchannels = 1;
	fake_prepare(&j->b.f, 1024);
	box_disks(&j->b, disks);
	j->bytes = vmbus_journal_bytes(vmbus_block_vsp());
	must(j->bytes > 0);
	for (i = 0; i < JOURNALS; i++) {
		j->journal[i] = mmap(NULL, j->bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(j->journal[i] != MAP_FAILED);
	}
	jbox_offer(j);
	must_eq(fake_offers(&j->b.f, j->b.c, 1), 1);
	j->b.data = fake_pages(&j->b.f, BOX_DATA_PAGES);
	box_open(&j->b);
}

static void jbox_end(struct jbox *j)
{
	uint32_t i;

	box_end(&j->b);
	for (i = 0; i < JOURNALS; i++)
		munmap(j->journal[i], j->bytes);
}

/* What a kill at this moment would leave. */
struct image {
	uint8_t *mem, *journal[JOURNALS];
};

static struct image take(const struct jbox *j)
{
	const size_t all = j->b.f.pages * FAKE_PAGE;
	struct image image = { .mem = malloc(all) };
	uint32_t i;

	must(image.mem != NULL);
	memcpy(image.mem, j->b.f.mem, all);
	for (i = 0; i < JOURNALS; i++) {
		image.journal[i] = malloc(j->bytes);
		must(image.journal[i] != NULL);
		memcpy(image.journal[i], j->journal[i], j->bytes);
	}
	return image;
}

static uint32_t open_again(struct jbox *j, uint32_t n)
{
	struct fake_chan *const c = &j->b.c[n];
	struct vmbus_ctl ctl;

	c->gpadl = j->b.f.next_gpadl++;
	must_eq(fake_share(&j->b.f, c->relid, c->gpadl, c->first, c->up + c->down), 0);
	fake_post_open(&j->b.f, c, 0);
	fake_expect(&j->b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	return ctl.u.result.status;
}

/* Another process goes on; returns the status of its open.  The image is used up. */
static uint32_t go_on(struct jbox *j, struct image *image, uint32_t disks)
{
	struct fake_chan offered[2];
	uint32_t i, status;

	for (i = 0; i < 4; i++) /* what the old one has in its stores is done, or not */
		if (j->b.store[i].ops && i < 2)
			box_stall(&j->b, i, false);
	vmbus_bus_destroy(j->b.f.bus);
	memcpy(j->b.f.mem, image->mem, j->b.f.pages * FAKE_PAGE);
	free(image->mem);
	for (i = 0; i < JOURNALS; i++) {
		memcpy(j->journal[i], image->journal[i], j->bytes);
		free(image->journal[i]);
	}
	box_anew(&j->b, disks);
	j->b.f.taken = j->b.f.posted = 0;
	jbox_offer(j);
	must_eq(fake_offers(&j->b.f, offered, 2), 1);
	j->b.c[0].relid = offered[0].relid;
	j->b.c[0].conn = offered[0].conn;
	status = open_again(j, 0);
	return status;
}

/* A kill between two steps: the next process takes the next one. */
START_TEST(block_vsp__is_killed_between_steps)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	struct image image;
	struct jbox j;

	jbox_begin(&j, 1);
	run_steps(&j.b, 0, (uint32_t)_i);
	image = take(&j);
	must_eq(go_on(&j, &image, 1), 0);
	run_steps(&j.b, (uint32_t)_i, 4);
	box_good(&j.b, 0, &srb, 0);
	box_none(&j.b, 0);
	jbox_end(&j);
}
END_TEST

/* A kill within a step, its state noted and its answer not sent: it comes again. */
START_TEST(block_vsp__is_killed_within_a_step)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	uint64_t noted[2], id;
	struct image image;
	struct vmbus_ctl ctl;
	struct box_reply r;
	uint8_t msg[64] = { 0 };
	struct jbox j;

	jbox_begin(&j, 1);
	run_steps(&j.b, 0, (uint32_t)_i);
	box_put(msg, 4, steps[_i].op);
	box_put(msg + 12, 2, steps[_i].number);
	id = j.b.id++;
	box_send_pkt(&j.b, 0, id, msg, 64, NULL, 0);
	image = take(&j);
	fake_run(&j.b.f);
	memcpy(noted, own_words(&j), 16);
	memcpy(image.journal[0] + j.bytes - 64, noted, 16);
	must_eq(go_on(&j, &image, 1), 0);
	box_reply(&j.b, 0, id, &r);
	must_eq(r.status, 0);
	if (_i < 4)
		run_steps(&j.b, (uint32_t)_i + 1, 4);
	else
		while (fake_take(&j.b.f, &ctl))
			must(ctl.type != VMBUS_CTL_OFFER); /* there are no more than there were */
	box_good(&j.b, 0, &srb, 0);
	jbox_end(&j);
}
END_TEST

/* Requests in the store, in the ring, and answered and not read: each is answered once. */
START_TEST(block_vsp__is_killed_under_load)
{
	struct box_srb srb = box_rw(0, true, 0, 8), other = box_rw(1, true, 8, 8);
	uint8_t seen[64] = { 0 };
	struct box_reply r;
	struct image image;
	struct jbox j;
	uint64_t first;
	uint32_t i, got;

	jbox_begin(&j, 2);
	run_steps(&j.b, 0, 4);
	first = j.b.id;
	if (_i)
		box_stall(&j.b, 0, true);
	for (i = 0; i < 20; i++)
		(void)box_command(&j.b, 0, i % 2 ? &other : &srb, i);
	fake_run(&j.b.f);
	if (_i == 2) { /* some are done, in the midst */
		box_stall(&j.b, 0, false);
		fake_run(&j.b.f);
		box_stall(&j.b, 0, true);
	}
	for (i = 20; i < 30; i++)
		(void)box_command(&j.b, 0, i % 2 ? &other : &srb, i);
	image = take(&j);
	fake_run(&j.b.f); /* published, and then the image is of before */
	must_eq(go_on(&j, &image, 2), 0);
	for (got = 0; got < 30; got++) {
		must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_COMPLETION);
		must(r.id >= first && r.id < first + 30);
		must_eq(seen[r.id - first]++, 0);
		must_eq(r.srb_status, 1);
	}
	box_none(&j.b, 0);
	for (i = 0; i < 30; i++)
		must_eq(seen[i], 1);
	jbox_end(&j);
}
END_TEST

/* The next process has other disks: the guest is told; with the same ones it is not. */
START_TEST(block_vsp__is_killed_and_has_other_disks)
{
	struct box_srb tur = box_tur(0);
	struct image image;
	struct box_reply r;
	struct jbox j;
	uint32_t i;

	jbox_begin(&j, 2);
	run_steps(&j.b, 0, 4);
	image = take(&j);
	must_eq(go_on(&j, &image, 2), 0);
	box_none(&j.b, 0);
	box_good(&j.b, 0, &tur, 0);
	if (_i ==
	    2) { /* told of what the list does not show, and killed before the guest has looked */
		must_eq(vmbus_block_resized(j.b.block, 0, 0), 0);
		must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
		image = take(&j);
		must_eq(go_on(&j, &image, 2), 0);
		must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
		two_attentions(&j.b, &tur);
		jbox_end(&j);
		return;
	}
	image = take(&j);
	must_eq(go_on(&j, &image, 1), 0);
	must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	if (_i == 0) { /* killed once more before the guest has looked: it is told once more */
		image = take(&j);
		must_eq(go_on(&j, &image, 1), 0);
		must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
		must_eq(r.op, ENUMERATE_BUS);
	}
	two_attentions(&j.b, &tur);
	box_good(&j.b, 0, &tur, 0);
	if (_i == 1) { /* the guest has looked, and some time has passed */
		for (i = 0; i < 200; i++)
			box_good(&j.b, 0, &tur, 0);
		image = take(&j);
		must_eq(go_on(&j, &image, 1), 0);
		box_none(&j.b, 0);
		box_good(&j.b, 0, &tur, 0);
	}
	jbox_end(&j);
}
END_TEST

static struct jbox *locked;
static struct image left;

static void kill_at_lock(void)
{
	left = take(locked);
}

/* After a change of its size; a disk comes when so many locks were taken, and the process dies at the next
   one.  Returns whether one came. */
static bool comes_and_dies(uint32_t in)
{
	struct box_srb tur = box_tur(0);
	struct vmbus_packet pkt;
	uint32_t i, type, told = 0;
	struct box_reply r;
	struct jbox j;

	jbox_begin(&j, 1);
	run_steps(&j.b, 0, 4);
	must_eq(vmbus_block_resized(j.b.block, 0, 0), 0);
	must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
	box_do(&j.b, 0, &tur, 0, &r);
	box_sense(&r, 0x62A09);
	locked = &j;
	wait_for_lock(&j.b, in);
	at_lock.next = kill_at_lock;
	for (i = 0; i < 200 && !at_lock.came; i++) {
		(void)box_command(&j.b, 0, &tur, 0);
		fake_run(&j.b.f);
		must(at_lock.came || fake_receive(&j.b.c[0], &pkt, 1) == 1);
	}
	at_lock.in = 0;
	if (at_lock.came) {
		must(!at_lock.after);
		must_eq(go_on(&j, &left, 2), 0);
		while ((type = box_any(&j.b, 0, &r)))
			told += type == VMBUS_PKT_INBAND;
		must_eq(told, 1);
	}
	jbox_end(&j);
	return at_lock.came;
}

START_TEST(block_vsp__is_killed_when_a_disk_comes)
{
	uint32_t n = 0;

	do
		vmbus_test_at("lock %u", n + 1);
	while (comes_and_dies(++n));
	must(n > 1);
}
END_TEST

/* What a process of an earlier version has left: a number without ids, and no table. */
static void make_old(struct jbox *j, struct image *image)
{
	static const uint8_t fields[] = { 2, 8, 1, 1 };
	uint8_t *const own = image->journal[0] + j->bytes - 64;
	uint64_t h = UINT64_MAX;
	uint32_t f, i, lun;

	for (lun = 0; lun < 2; lun++) {
		const uint64_t values[] = { lun, BOX_DISK_BYTES, 9, 0 };

		for (f = 0; f < 4; f++)
			for (i = 0; i < 8u * fields[f]; i++)
				h = h >> 1 ^ ((h ^ values[f] >> i) & 1u ? 0xC96C5795D7870F42u : 0);
	}
	memcpy(own + 8, &h, 8);
	memset(own + 16, 0, 48);
}

/*
 * The next process has another disk at an address, of the same size: what was sent to the one before is
 * not for it, whether a process had begun it or not.  0 has the same disk, 1 another one; 2 and 3 are the
 * same after an earlier version, which has left nothing that tells them apart.
 */
START_TEST(block_vsp__is_killed_and_has_another_disk)
{
	struct box_srb write = box_rw(0, true, 0, 8), read = box_rw(1, false, 0, 8);
	struct box_reply r, done[3];
	uint32_t i, type, told = 0;
	struct image image;
	uint64_t first;
	struct jbox j;

	jbox_begin(&j, 2);
	run_steps(&j.b, 0, 4);
	box_stall(&j.b, 0, true);
	first = box_command(&j.b, 0, &write, 0);
	fake_run(&j.b.f);
	(void)box_command(&j.b, 0, &write, 1);
	(void)box_command(&j.b, 0, &read, 2);
	image = take(&j);
	if (_i >= 2)
		make_old(&j, &image);
	j.b.serial[0] = _i & 1 ? "another" : NULL;
	must_eq(go_on(&j, &image, 2), 0);
	memset(done, 0, sizeof(done));
	while ((type = box_any(&j.b, 0, &r)))
		if (type == VMBUS_PKT_COMPLETION)
			done[r.id - first] = r;
		else
			told++;
	must_eq(told, _i == 1 ? 2 : 0); /* and again after an answer that a disk is gone */
	for (i = 0; i < 3; i++)
		must_eq(done[i].srb_status, _i != 1 ? 1 : i < 2 ? 0x20 : 0x84);
	if (_i == 1) {
		done[2].sense = done[2].raw + 28;
		box_sense(&done[2], 0x62A09);
		box_do(&j.b, 0, &read, 0, &r);
		box_sense(&r, 0x63F01);
		box_good(&j.b, 0, &read, 0);
		box_do(&j.b, 0, &write, 0, &r); /* it has not asked what is there */
		must_eq(r.srb_status, 0x20);
		box_inquiry(&j.b, 0, 0);
	}
	box_good(&j.b, 0, &write, 0);
	jbox_end(&j);
}
END_TEST

/* What a version before the one that bounds UNMAP has left: the guest is told to look what the limits are. */
START_TEST(block_vsp__is_killed_and_bounds_unmap)
{
	const struct box_srb tur = box_tur(0);
	struct box_reply r;
	struct image image;
	struct jbox j;

	jbox_begin(&j, 1);
	run_steps(&j.b, 0, 4);
	image = take(&j);
	box_put(image.journal[0] + j.bytes - 64 + 8, 8, 0x8F6AC0732BA1FECD); /* as it had */
	must_eq(go_on(&j, &image, 1), 0);
	must_eq(box_any(&j.b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	two_attentions(&j.b, &tur);
	box_good(&j.b, 0, &tur, 0);
	jbox_end(&j);
}
END_TEST

/* Words that no process of ours has left: the channel fails, and nothing else. */
START_TEST(block_vsp__takes_no_words_that_cannot_be)
{
	static const uint64_t words[] = { 2ull << 56, READY_WORD | 1, 1ull << 56 | 9ull << 48,
					  UINT64_MAX };
	struct image image;
	struct jbox j;
	uint32_t i;

	for (i = 0; i < 4; i++) {
		jbox_begin(&j, 1);
		run_steps(&j.b, 0, 4);
		image = take(&j);
		memcpy(image.journal[0] + j.bytes - 64, &words[i], 8);
		must(go_on(&j, &image, 1) != 0);
		jbox_end(&j);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "state", 10);

	tcase_add_loop_test(tc, block_vsp__goes_on_from_a_saved_state, 0, 5);
	tcase_add_test(tc, block_vsp__goes_on_with_sub_channels);
	tcase_add_test(tc, block_vsp__tells_of_other_disks_after_a_restore);
	tcase_add_loop_test(tc, block_vsp__tells_of_another_cache_after_a_restore, 0, 2);
	tcase_add_loop_test(tc, block_vsp__tells_what_changes_about_a_save, 0, 2);
	tcase_add_test(tc, block_vsp__saves_what_waits);
	tcase_add_test(tc, block_vsp__saves_answers_that_wait_for_room);
	tcase_add_test(tc, block_vsp__takes_answers_of_a_larger_controller);
	tcase_add_test(tc, block_vsp__tells_what_comes_while_it_is_saved);
	tcase_add_test(tc, lesson_36_hostile_states);
	tcase_add_loop_test(tc, block_vsp__is_killed_between_steps, 0, 5);
	tcase_add_loop_test(tc, block_vsp__is_killed_within_a_step, 0, 5);
	tcase_add_loop_test(tc, block_vsp__is_killed_under_load, 0, 3);
	tcase_add_loop_test(tc, block_vsp__is_killed_and_has_other_disks, 0, 3);
	tcase_add_loop_test(tc, block_vsp__is_killed_and_has_another_disk, 0, 4);
	tcase_add_test(tc, block_vsp__is_killed_when_a_disk_comes);
	tcase_add_test(tc, block_vsp__is_killed_and_bounds_unmap);
	tcase_add_test(tc, block_vsp__takes_no_words_that_cannot_be);
}
VMBUS_TEST_MAIN("block.vsp_state", tests)
