/* SPDX-License-Identifier: MIT */
/*
 * A guest without a driver: the messages of a StorVSC made by hand, on the rings of a child that is
 * made by hand too, against a controller with disks in memory behind stores that stall and fail.
 */
#ifndef VMBUS_TESTS_BLOCK_VSPBOX_H
#define VMBUS_TESTS_BLOCK_VSPBOX_H

#include "../bus/fake.h"

#include <vmbus/block.h>
#include <vmbus/store.h>

#define BOX_CHANNELS 4u
#define BOX_DISK_BYTES (1u << 20)
#define BOX_UP 9u
#define BOX_DOWN 9u
#define BOX_DATA_PAGES 300u

struct box {
	struct fake f;
	struct vmbus_block *block;
	struct vmbus_block_opts opts;
	struct vmbus_store store[4]; /* faulty ones before memory; LUNs 0 and up of target 0 */
	const char *serial[4];	     /* of its disks; NULL: box */
	struct fake_chan c[BOX_CHANNELS];
	uint32_t channels; /* open */
	size_t data;	   /* first of BOX_DATA_PAGES pages for buffers */
	uint32_t removed;
	uint64_t removed_ctx;
	uint64_t id;
	uint16_t version;
	bool write_through; /* its disks */
};

/* What came back: the payload of the completion. */
struct box_reply {
	uint64_t id;
	uint32_t len;
	uint32_t op, flags, status;
	uint8_t srb_status, scsi_status, sense_len;
	uint32_t bytes;
	uint8_t raw[64];
	const uint8_t *sense;
};

static inline uint64_t box_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes; bytes--)
		v = v << 8 | p[bytes - 1];
	return v;
}

static inline void box_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

static inline void box_removed(void *ctx, uint8_t target, uint8_t lun,
			       const struct vmbus_store *store)
{
	struct box *b = ctx;

	(void)target;
	(void)lun;
	b->removed++;
	b->removed_ctx = (uint64_t)(uintptr_t)store->ctx;
}

static inline struct vmbus_store box_store(uint64_t bytes)
{
	struct vmbus_store store;

	must_eq(vmbus_store_memory(bytes, -1, &store), 0);
	must_eq(vmbus_store_faulty(&store, &store), 0);
	return store;
}

static inline void box_faults(struct box *b, uint32_t lun, const struct vmbus_store_faults *faults)
{
	must_eq(vmbus_store_faulty_set(&b->store[lun], faults), 0);
}

static inline void box_stall(struct box *b, uint32_t lun, bool stall)
{
	const struct vmbus_store_faults faults = { .stall = stall };

	box_faults(b, lun, &faults);
}

/* A store whose context is what it tells of itself; with reserved[0] that it cannot. */
static inline int box_bad_info(void *ctx, struct vmbus_store_info *info)
{
	*info = *(const struct vmbus_store_info *)ctx;
	return info->reserved[0] ? VMBUS_E_SYSTEM : 0;
}

static inline void box_no_io(struct vmbus_io *io)
{
	vmbus_io_done(io, VMBUS_IO_OK);
}

static const struct vmbus_store_ops box_bad_ops = { .struct_bytes = sizeof(box_bad_ops),
						    .name = "bad",
						    .info = box_bad_info,
						    .read = box_no_io,
						    .write = box_no_io };

static inline int box_add(struct box *b, uint32_t lun)
{
	const struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					       .store = b->store[lun],
					       .lun = (uint8_t)lun,
					       .serial = b->serial[lun] ? b->serial[lun] : "box",
					       .write_through = b->write_through };

	return vmbus_block_add(b->block, &disk);
}

/* A controller with disks, offered; opts may be changed before. */
static inline void box_prepare(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->opts = (struct vmbus_block_opts){ .struct_bytes = sizeof(b->opts),
					     .removed = box_removed,
					     .ctx = b };
	b->id = 1;
	b->version = 0x0602;
}

static inline void box_disks(struct box *b, uint32_t disks)
{
	uint32_t i;

	must_eq(vmbus_block_create(&b->opts, &b->block), 0);
	for (i = 0; i < disks; i++) {
		b->store[i] = box_store(BOX_DISK_BYTES);
		must_eq(box_add(b, i), 0);
	}
}

static inline void box_begin(struct box *b, uint32_t disks)
{
	fake_init(&b->f, 1024);
	box_disks(b, disks);
	(void)fake_offer(&b->f, vmbus_block_vsp(), b->block, 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 1), 1);
	b->data = fake_pages(&b->f, BOX_DATA_PAGES);
}

static inline void box_open(struct box *b)
{
	must_eq(fake_open(&b->f, &b->c[0], BOX_UP, BOX_DOWN), 0);
	b->channels = 1;
}

static inline uint8_t *box_page(struct box *b, uint32_t n)
{
	return b->f.mem + (b->data + n) * FAKE_PAGE;
}

static inline void box_end(struct box *b)
{
	uint32_t i;

	vmbus_bus_destroy(b->f.bus);
	b->f.bus = NULL;
	vmbus_block_destroy(b->block);
	for (i = 0; i < 4; i++)
		vmbus_store_destroy(&b->store[i]);
	for (i = 0; i < BOX_CHANNELS; i++)
		fake_chan_free(&b->c[i]);
	munmap(b->f.mem, b->f.pages * FAKE_PAGE);
	close(b->f.fd);
	free(b->f.posts);
}

/* ---- another process ---- */

/* Another controller with the same stores. */
static inline void box_anew(struct box *b, uint32_t disks)
{
	uint32_t i;

	vmbus_block_destroy(b->block);
	must_eq(vmbus_block_create(&b->opts, &b->block), 0);
	for (i = 0; i < disks; i++)
		must_eq(box_add(b, i), 0);
}

/* Another bus, and another controller, on the memory as it was; nothing has run there yet. */
static inline void box_arrive(struct box *b, uint32_t disks)
{
	const size_t all = b->f.pages * FAKE_PAGE;
	uint8_t *mem = malloc(all), *state;
	size_t bytes, again;
	char why[160];
	int err;

	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	must(mem && state);
	must_eq(vmbus_bus_save(b->f.bus, state, bytes, &again), 0);
	memcpy(mem, b->f.mem, all);
	vmbus_bus_destroy(b->f.bus);
	memcpy(b->f.mem, mem, all);
	box_anew(b, disks);
	fake_create(&b->f);
	(void)fake_offer(&b->f, vmbus_block_vsp(), b->block, 0);
	err = vmbus_bus_restore(b->f.bus, state, bytes, why, sizeof(why));
	if (err)
		ck_abort_msg("restore: %d, %s", err, why);
	free(mem);
	free(state);
}

static inline void box_move(struct box *b, uint32_t disks)
{
	box_arrive(b, disks);
	fake_run(&b->f);
}

/* ---- packets ---- */

static inline void box_send_pkt(struct box *b, uint32_t chan, uint64_t id, const void *data,
				uint32_t len, const void *ext, uint32_t ext_len)
{
	const struct vmbus_msg msg = { .id = id,
				       .data = data,
				       .len = len,
				       .ext = ext,
				       .ext_len = ext_len,
				       .type = ext_len ? VMBUS_PKT_GPA_DIRECT : VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };

	must_eq(vmbus_ring_tx_put(&b->c[chan].tx, &msg, 1), 1);
}

static inline void box_decode(struct box_reply *r, const struct vmbus_packet *pkt)
{
	memset(r, 0, sizeof(*r));
	r->id = pkt->id;
	r->len = pkt->len;
	memcpy(r->raw, pkt->payload, pkt->len < 64 ? pkt->len : 64);
	r->op = (uint32_t)box_get(r->raw, 4);
	r->flags = (uint32_t)box_get(r->raw + 4, 4);
	r->status = (uint32_t)box_get(r->raw + 8, 4);
	r->srb_status = r->raw[14];
	r->scsi_status = r->raw[15];
	r->sense_len = r->raw[21];
	r->bytes = (uint32_t)box_get(r->raw + 24, 4);
	r->sense = r->raw + 28;
}

/* The next packet of any kind; returns its type, 0: none. */
static inline uint32_t box_any(struct box *b, uint32_t chan, struct box_reply *r)
{
	struct vmbus_packet pkt;

	fake_run(&b->f);
	if (fake_receive(&b->c[chan], &pkt, 1) != 1)
		return 0;
	box_decode(r, &pkt);
	return pkt.type;
}

static inline void box_reply(struct box *b, uint32_t chan, uint64_t id, struct box_reply *r)
{
	must_eq(box_any(b, chan, r), VMBUS_PKT_COMPLETION);
	must_eq(r->id, id);
	must_eq(r->op, 1);
	must_eq(r->flags, 0);
}

static inline void box_none(struct box *b, uint32_t chan)
{
	struct box_reply r;

	must_eq(box_any(b, chan, &r), 0);
}

/* A message with one number in its body, and the status of its answer. */
static inline uint32_t box_step(struct box *b, uint32_t chan, uint32_t op, uint16_t number,
				struct box_reply *r)
{
	const uint64_t id = b->id++;
	uint8_t msg[64] = { 0 };

	box_put(msg, 4, op);
	box_put(msg + 4, 4, 1);
	box_put(msg + 12, 2, number);
	box_send_pkt(b, chan, id, msg, b->version < 0x0501 ? 48 : 64, NULL, 0);
	box_reply(b, chan, id, r);
	must_eq(r->len, b->version < 0x0501 ? 48 : 64);
	return r->status;
}

/* The whole initialisation. */
static inline void box_init(struct box *b)
{
	struct box_reply r;

	must_eq(box_step(b, 0, 7, 0, &r), 0);
	must_eq(box_step(b, 0, 9, b->version, &r), 0);
	must_eq(box_step(b, 0, 10, 0, &r), 0);
	must_eq(box_step(b, 0, 8, 0, &r), 0);
}

static inline void box_start(struct box *b, uint32_t disks)
{
	box_begin(b, disks);
	box_open(b);
	box_init(b);
}

/* Sub-channels: asked for, offered, opened. */
static inline void box_subs(struct box *b, uint32_t n)
{
	struct vmbus_ctl ctl;
	struct box_reply r;
	uint32_t i;

	must_eq(box_step(b, 0, 13, (uint16_t)n, &r), 0);
	for (i = 1; i <= n; i++) {
		fake_expect(&b->f, VMBUS_CTL_OFFER, &ctl);
		must_eq(ctl.u.offer.sub_index, i);
		memset(&b->c[i], 0, sizeof(b->c[i]));
		b->c[i].fake = &b->f;
		b->c[i].relid = ctl.u.offer.relid;
		b->c[i].conn = ctl.u.offer.conn_id;
	}
	for (i = 1; i <= n; i++)
		must_eq(fake_open(&b->f, &b->c[i], BOX_UP, BOX_DOWN), 0);
	b->channels += n;
}

/* An SRB. */
struct box_srb {
	uint8_t path, target, lun, data_in;
	uint32_t bytes;
	uint8_t cdb[16];
};

static inline void box_srb(uint8_t *msg, const struct box_srb *srb)
{
	memset(msg, 0, 64);
	box_put(msg, 4, 3);
	box_put(msg + 4, 4, 1);
	box_put(msg + 12, 2, 52);
	msg[17] = srb->path;
	msg[18] = srb->target;
	msg[19] = srb->lun;
	msg[20] = 16;
	msg[21] = 20;
	msg[22] = srb->data_in;
	box_put(msg + 24, 4, srb->bytes);
	memcpy(msg + 28, srb->cdb, 16);
	msg[50] = 0xFF;
	msg[51] = 0x20;
	box_put(msg + 56, 4, 60);
}

/* A range of pages that follow each other; returns the bytes of the header. */
static inline uint32_t box_range(uint8_t *ext, size_t page, uint32_t offset, uint32_t bytes)
{
	const struct vmbus_wire_ext head = { .range_count = 1 };
	const uint32_t pages = (offset + bytes + 4095) / 4096;
	uint64_t pfns[BOX_DATA_PAGES];
	uint32_t i;
	int n;

	for (i = 0; i < pages; i++)
		pfns[i] = page + i;
	n = vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, 16);
	must_eq(n, 8);
	n = vmbus_wire_range_put(bytes, offset, pfns, ext + 8, 8 + 8 * BOX_DATA_PAGES);
	must(n > 0);
	return 8 + (uint32_t)n;
}

/* Send a command with a buffer at page n of ours; returns its id. */
static inline uint64_t box_command(struct box *b, uint32_t chan, const struct box_srb *srb,
				   uint32_t n)
{
	const uint64_t id = b->id++;
	uint8_t msg[64], ext[32 + 8 * BOX_DATA_PAGES];
	uint32_t ext_len = 0;

	box_srb(msg, srb);
	if (srb->bytes)
		ext_len = box_range(ext, b->data + n, 0, srb->bytes);
	box_send_pkt(b, chan, id, msg, b->version < 0x0501 ? 48 : 64, ext, ext_len);
	return id;
}

/* READ(10) or WRITE(10) of sectors of 512 bytes. */
static inline struct box_srb box_rw(uint8_t lun, bool write, uint32_t sector, uint32_t sectors)
{
	struct box_srb srb = { .lun = lun, .data_in = !write, .bytes = sectors * 512u };

	srb.cdb[0] = write ? 0x2A : 0x28;
	srb.cdb[2] = (uint8_t)(sector >> 24);
	srb.cdb[3] = (uint8_t)(sector >> 16);
	srb.cdb[4] = (uint8_t)(sector >> 8);
	srb.cdb[5] = (uint8_t)sector;
	srb.cdb[7] = (uint8_t)(sectors >> 8);
	srb.cdb[8] = (uint8_t)sectors;
	return srb;
}

static inline struct box_srb box_tur(uint8_t lun)
{
	return (struct box_srb){ .lun = lun, .data_in = 2 };
}

/* A command and its answer. */
static inline void box_do(struct box *b, uint32_t chan, const struct box_srb *srb, uint32_t n,
			  struct box_reply *r)
{
	const uint64_t id = box_command(b, chan, srb, n);

	box_reply(b, chan, id, r);
}

static inline void box_good(struct box *b, uint32_t chan, const struct box_srb *srb, uint32_t n)
{
	struct box_reply r;

	box_do(b, chan, srb, n, &r);
	must_eq(r.status, 0);
	must_eq(r.srb_status, 1);
	must_eq(r.scsi_status, 0);
	must_eq(r.bytes, srb->bytes);
}

/* A look at what is at an address. */
static inline void box_inquiry(struct box *b, uint32_t chan, uint8_t lun)
{
	const struct box_srb srb = {
		.lun = lun, .data_in = 1, .bytes = 36, .cdb = { 0x12, [4] = 36 }
	};

	box_good(b, chan, &srb, 2);
}

/* CHECK CONDITION with sense 0xKAAQQ. */
static inline void box_sense(const struct box_reply *r, uint32_t sense)
{
	must_eq(r->scsi_status, 2);
	must_eq(r->srb_status & 0xC0, 0x80);
	must_eq(r->sense[0] & 0x7F, 0x70);
	must_eq((uint32_t)r->sense[2] << 16 | (uint32_t)r->sense[12] << 8 | r->sense[13], sense);
}

#endif
