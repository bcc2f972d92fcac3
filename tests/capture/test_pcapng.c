/* SPDX-License-Identifier: MIT */
/* Files of records: the bytes that are written, and what a reader makes of any bytes. */
#include "capture/tapped.h"

#define TIME 0x17A1B2C3D4E5F607u /* ns */

static const uint8_t payload[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

/* Records as a tap gives them; the bodies are made by hand. */
struct made {
	uint8_t channel[144], open[136], close[168];
};

static void put32(uint8_t *to, uint32_t v)
{
	memcpy(to, &v, 4); /* tests run on little-endian machines */
}

static void make_bodies(struct made *m)
{
	memset(m, 0, sizeof(*m));
	memset(m->channel, 0xC1, 16);
	memset(m->channel + 16, 0x1D, 16);
	put32(m->channel + 32, 3);
	put32(m->channel + 40, 96);
	memcpy(m->channel + 48, "echo", 4);
	memcpy(m->channel + 80, "kid", 3);
	put32(m->open, 4096);
	put32(m->open + 4, 8192);
	m->open[16] = 0xAB;
	put32(m->close, (uint32_t)VMBUS_E_PEER);
	memcpy(m->close + 8, "why", 3);
}

static struct vmbus_capture_record body(uint32_t kind, const uint8_t *data, uint32_t len)
{
	return (struct vmbus_capture_record){
		.time_ns = TIME, .kind = kind, .len = len, .data_len = len, .data = data
	};
}

static struct vmbus_capture_record packet(void)
{
	return (struct vmbus_capture_record){ .time_ns = TIME + 1,
					      .dropped = 5,
					      .kind = VMBUS_CAPTURE_PACKET,
					      .dir = VMBUS_CAPTURE_TO_CHILD,
					      .batch = 9,
					      .id = 0x1122334455667788u,
					      .type = VMBUS_PKT_COMPLETION,
					      .len = 16,
					      .data_len = 8,
					      .data = payload };
}

static void write_session(struct file *f)
{
	struct vmbus_capture_writer *w = file_writer(f, "test");
	const struct vmbus_tap_counts counts = { .records = 4, .dropped = 5 };
	struct vmbus_capture_record r;
	struct made m;

	make_bodies(&m);
	r = body(VMBUS_CAPTURE_CHANNEL, m.channel, sizeof(m.channel));
	must_eq(vmbus_capture_writer_put(w, 7, &r), 0);
	r = body(VMBUS_CAPTURE_OPEN, m.open, sizeof(m.open));
	must_eq(vmbus_capture_writer_put(w, 7, &r), 0);
	r = packet();
	must_eq(vmbus_capture_writer_put(w, 7, &r), 0);
	r = body(VMBUS_CAPTURE_CLOSE, m.close, sizeof(m.close));
	must_eq(vmbus_capture_writer_put(w, 7, &r), 0);
	must_eq(vmbus_capture_writer_counts(w, 7, &counts), 0);
	vmbus_capture_writer_destroy(w);
}

/* The blocks of a file: where each begins. */
static uint32_t blocks_of(const struct file *f, size_t at[16])
{
	uint32_t n = 0, bytes;
	size_t pos = 0;

	while (pos < f->len) {
		must(n < 16 && f->len - pos >= 12);
		at[n++] = pos;
		memcpy(&bytes, f->bytes + pos + 4, 4);
		must(bytes % 4 == 0 && bytes <= f->len - pos);
		must(memcmp(f->bytes + pos + 4, f->bytes + pos + bytes - 4, 4) == 0);
		pos += bytes;
	}
	return n;
}

#define B4(v) (uint8_t)(v), (uint8_t)((v) >> 8), (uint8_t)((v) >> 16), (uint8_t)((v) >> 24)

/* The section, and the packet's block, byte by byte: what vmbus_capture(7) promises. */
START_TEST(capture_writer__writes_these_bytes)
{
	/* Type, length, order, version 1.0, length not known, shb_userappl, end, length. */
	static const char section[] = "\x0a\x0d\x0d\x0a"
				      "\x28\0\0\0"
				      "\x4d\x3c\x2b\x1a"
				      "\1\0\0\0"
				      "\xff\xff\xff\xff\xff\xff\xff\xff"
				      "\4\0\4\0"
				      "test"
				      "\0\0\0\0"
				      "\x28\0\0";
	/*
	 * Type, length, interface, time, bytes kept and whole; our header: version, kind,
	 * direction, 0, type, flags, id, batch, header and payload bytes; what was kept; epb_flags
	 * (outbound), epb_dropcount, epb_packetid; end, length.
	 */
	static const char block[] = "\6\0\0\0"
				    "\x6c\0\0\0"
				    "\0\0\0\0"
				    "\xc3\xb2\xa1\x17"
				    "\x08\xf6\xe5\xd4"
				    "\x28\0\0\0"
				    "\x30\0\0\0"
				    "\1\1\2\0"
				    "\x0b\0\0\0"
				    "\x88\x77\x66\x55\x44\x33\x22\x11"
				    "\x09\0\0\0\0\0\0\0"
				    "\0\0\0\0"
				    "\x10\0\0\0"
				    "\1\2\3\4\5\6\7\x08"
				    "\2\0\4\0"
				    "\2\0\0\0"
				    "\4\0\x08\0"
				    "\5\0\0\0\0\0\0\0"
				    "\5\0\x08\0"
				    "\2\0\0\0\0\0\0\0"
				    "\0\0\0\0"
				    "\x6c\0\0";
	struct file f = { 0 };
	size_t at[16];
	uint32_t type;

	write_session(&f);
	must_eq(blocks_of(&f, at),
		7); /* section, interface, channel, open, packet, close, counts */
	must_eq(sizeof(section), 40);
	must(memcmp(f.bytes, section, sizeof(section)) == 0);
	memcpy(&type, f.bytes + at[1], 4);
	must_eq(type, 1);
	must_eq(f.bytes[at[1] + 8], VMBUS_CAPTURE_LINKTYPE);
	must(memmem(f.bytes + at[1], at[2] - at[1], "kid:3", 5) != NULL);
	must(memmem(f.bytes + at[1], at[2] - at[1], "served by echo", 14) != NULL);
	must(memmem(f.bytes + at[3], at[4] - at[3], "open data ab", 12) != NULL);
	must_eq(at[5] - at[4], 108);
	must_eq(sizeof(block), 108);
	must(memcmp(f.bytes + at[4], block, sizeof(block)) == 0);
	must(memmem(f.bytes + at[5], at[6] - at[5], "closed, PEER: why", 17) != NULL);
	memcpy(&type, f.bytes + at[6], 4);
	must_eq(type, 5);
	free(f.bytes);
}
END_TEST

START_TEST(capture_writer__refuses_what_cannot_be)
{
	struct file f = { 0 };
	struct vmbus_capture_writer_opts opts = { .struct_bytes = sizeof(opts),
						  .write = file_write,
						  .ctx = &f };
	struct vmbus_capture_writer *w;
	const struct vmbus_tap_counts counts = { 0 };
	struct vmbus_capture_record r = packet();
	struct made m;

	opts.struct_bytes--;
	must_eq(vmbus_capture_writer_create(&opts, &w), VMBUS_E_INVAL);
	opts.struct_bytes++;
	opts.write = NULL;
	must_eq(vmbus_capture_writer_create(&opts, &w), VMBUS_E_INVAL);
	opts.write = file_write;
	opts.application = "1234567890123456789012345678901234567890123456789012345678901234";
	must_eq(vmbus_capture_writer_create(&opts, &w), VMBUS_E_INVAL);
	opts.application = NULL;
	f.err = VMBUS_E_SYSTEM;
	must_eq(vmbus_capture_writer_create(&opts, &w), VMBUS_E_SYSTEM);
	must(w == NULL);
	f.err = 0;
	must_eq(vmbus_capture_writer_create(&opts, &w), 0);
	must_eq(vmbus_capture_writer_put(w, 0, &r), VMBUS_E_INVAL); /* no CHANNEL before it */
	must_eq(vmbus_capture_writer_counts(w, 0, &counts), VMBUS_E_INVAL);
	must_eq(vmbus_capture_writer_counts(w, 4096, &counts), VMBUS_E_RANGE);
	make_bodies(&m);
	r = body(VMBUS_CAPTURE_CHANNEL, m.channel, 8);
	must_eq(vmbus_capture_writer_put(w, 0, &r), VMBUS_E_INVAL);
	r = body(VMBUS_CAPTURE_CHANNEL, m.channel, sizeof(m.channel));
	must_eq(vmbus_capture_writer_put(w, 4096, &r), VMBUS_E_RANGE);
	must_eq(vmbus_capture_writer_put(w, 4095, &r), 0);
	r.kind = 5;
	must_eq(vmbus_capture_writer_put(w, 4095, &r), VMBUS_E_INVAL);
	r.kind = 0;
	must_eq(vmbus_capture_writer_put(w, 4095, &r), VMBUS_E_INVAL);
	r = packet();
	r.data_len = VMBUS_CAPTURE_SNAP_MAX + 1;
	must_eq(vmbus_capture_writer_put(w, 4095, &r), VMBUS_E_RANGE);
	r = packet();
	f.err = VMBUS_E_NOMEM;
	must_eq(vmbus_capture_writer_put(w, 4095, &r), VMBUS_E_NOMEM);
	vmbus_capture_writer_destroy(w);
	vmbus_capture_writer_destroy(NULL);
	free(f.bytes);
}
END_TEST

/* As many channels as a file takes, and one more. */
START_TEST(capture_writer__takes_4096_channels)
{
	struct file f = { 0 };
	struct vmbus_capture_writer *w = file_writer(&f, NULL);
	struct vmbus_capture_record r;
	struct made m;
	uint32_t i;

	make_bodies(&m);
	r = body(VMBUS_CAPTURE_CHANNEL, m.channel, sizeof(m.channel));
	for (i = 0; i < VMBUS_CAPTURE_CHANNELS_MAX; i++)
		must_eq(vmbus_capture_writer_put(w, i % 3, &r), 0);
	must_eq(vmbus_capture_writer_put(w, 0, &r), VMBUS_E_RANGE);
	vmbus_capture_writer_destroy(w);
	free(f.bytes);
}
END_TEST

static void check_session(struct file *f, uint32_t channel)
{
	struct vmbus_capture_reader *r = file_reader(f);
	struct vmbus_capture_channel what;
	struct vmbus_capture_record rec;
	struct vmbus_capture_open open;
	struct vmbus_capture_close close;

	must_eq(vmbus_capture_reader_next(r, &rec), 1);
	must_eq(vmbus_capture_channel_get(&rec, &what), 0);
	must_eq(what.relid, 3);
	must_eq(what.snap, 96);
	must(strcmp(what.vsp, "echo") == 0 && strcmp(what.child, "kid") == 0);
	must_eq(rec.time_ns, TIME);
	must_eq(rec.channel, channel);
	must_eq(vmbus_capture_reader_next(r, &rec), 1);
	must_eq(vmbus_capture_open_get(&rec, &open), 0);
	must_eq(open.to_bytes, 8192);
	must_eq(open.user[0], 0xAB);
	must_eq(vmbus_capture_reader_next(r, &rec), 1);
	must_eq(rec.kind, VMBUS_CAPTURE_PACKET);
	must_eq(rec.dir, VMBUS_CAPTURE_TO_CHILD);
	must_eq(rec.dropped, 5);
	must_eq(rec.batch, 9);
	must_eq(rec.id, 0x1122334455667788u);
	must_eq(rec.type, VMBUS_PKT_COMPLETION);
	must_eq(rec.time_ns, TIME + 1);
	must_eq(rec.len, 16);
	must_eq(rec.data_len, 8);
	must(memcmp(rec.data, payload, 8) == 0);
	must_eq(vmbus_capture_close_get(&rec, &close), VMBUS_E_INVAL);
	must_eq(vmbus_capture_reader_next(r, &rec), 1);
	must_eq(vmbus_capture_close_get(&rec, &close), 0);
	must_eq(close.err, VMBUS_E_PEER);
	must(strcmp(close.why, "why") == 0);
	must_eq(vmbus_capture_reader_next(r, &rec), 0);
	must_eq(vmbus_capture_reader_next(r, &rec), 0);
	must(vmbus_capture_reader_why(r)[0] == 0);
	vmbus_capture_reader_destroy(r);
}

START_TEST(capture_reader__reads_what_was_written)
{
	struct file f = { 0 };

	write_session(&f);
	check_session(&f, 0);
	f.most = 1; /* a read may bring less than was asked for */
	check_session(&f, 0);
	free(f.bytes);
}
END_TEST

static void swap(uint8_t *p, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n / 2; i++) {
		const uint8_t t = p[i];

		p[i] = p[n - 1 - i];
		p[n - 1 - i] = t;
	}
}

/* The other byte order: headers and options of blocks, not what is ours within. */
static void swap_file(struct file *f)
{
	size_t at[16];
	const uint32_t n = blocks_of(f, at);
	uint32_t i, type, bytes, kept;

	for (i = 0; i < n; i++) {
		uint8_t *const b = f->bytes + at[i];
		size_t opt, k;

		memcpy(&type, b, 4);
		memcpy(&bytes, b + 4, 4);
		memcpy(&kept, b + 20, 4);
		for (k = 0; k < 8; k += 4)
			swap(b + k, 4);
		swap(b + bytes - 4, 4);
		if (type == 0x0A0D0D0A) {
			swap(b + 8, 4);
			swap(b + 12, 2);
			swap(b + 14, 2);
			opt = 24;
		} else if (type == 1) {
			swap(b + 8, 2);
			swap(b + 12, 4);
			opt = 16;
		} else {
			opt = type == 6 ? 28 + (kept + 3) / 4 * 4 : 20;
			for (k = 8; k < (type == 6 ? 28u : 20u); k += 4)
				swap(b + k, 4);
		}
		while (opt < bytes - 4) {
			uint16_t code, len;

			memcpy(&code, b + opt, 2);
			memcpy(&len, b + opt + 2, 2);
			if (type == 6 && (code == 2 || code == 4 || code == 5))
				swap(b + opt + 4, len);
			swap(b + opt, 2);
			swap(b + opt + 2, 2);
			opt += 4 + (len + 3u) / 4 * 4;
		}
	}
}

START_TEST(capture_reader__reads_the_other_byte_order)
{
	struct file f = { 0 };

	write_session(&f);
	swap_file(&f);
	must_eq(f.bytes[8], 0x1A);
	check_session(&f, 0);
	free(f.bytes);
}
END_TEST

/* What other programs put into such files, and two sections. */
START_TEST(capture_reader__passes_over_what_is_not_ours)
{
	static const uint8_t other[] = {
		/* a custom block, an Ethernet interface, its packet */
		B4(0xBAD), B4(16), B4(0), B4(16), B4(1), B4(20), 1, 0, 0, 0, B4(0), B4(20), B4(6),
		B4(36), B4(0), B4(0), B4(0), B4(2), B4(2), 0xFF, 0xFF, 0, 0, B4(36),
		/* one in picoseconds, and one in 2^-60 s */
		B4(1), B4(32), 1, 0, 0, 0, B4(0), 9, 0, 1, 0, 12, 0, 0, 0, B4(0), B4(32), B4(1),
		B4(32), 1, 0, 0, 0, B4(0), 9, 0, 1, 0, 0xBC, 0, 0, 0, B4(0), B4(32)
	};
	struct file one = { 0 }, f = { 0 };
	struct vmbus_capture_reader *r;
	struct vmbus_capture_record rec;
	uint32_t n = 0, highest = 0;

	write_session(&one);
	must_eq(file_write(&f, one.bytes, 40), 0);
	must_eq(file_write(&f, other, sizeof(other)), 0);
	must_eq(file_write(&f, one.bytes, one.len), 0); /* interfaces begin anew */
	must_eq(file_write(&f, one.bytes, one.len), 0);
	r = file_reader(&f);
	while (vmbus_capture_reader_next(r, &rec) == 1) {
		n++;
		highest = rec.channel;
	}
	must(vmbus_capture_reader_why(r)[0] == 0);
	must_eq(n, 8);
	must_eq(highest, 1);
	vmbus_capture_reader_destroy(r);
	free(one.bytes);
	free(f.bytes);
}
END_TEST

struct damage {
	uint32_t block, at; /* offset within */
	uint32_t value;	    /* 32 bits written there */
	const char *why;
};

/* Each length and number of the file, made wrong, is named. */
START_TEST(capture_reader__names_what_is_wrong)
{
	static const struct damage damage[] = {
		{ 0, 0, 1, "no section header" },
		{ 0, 8, 0x12345678, "byte order" },
		{ 0, 12, 2, "version 2.0" },
		{ 0, 4, 8, "its length is 8" },
		{ 0, 24, 0x00FF0004, "option 4 is 255 bytes long" },
		{ 1, 4, 0xFFFFFFFC, "its length is" },
		{ 1, 16, 0xFF000002, "option 2 is 65280" },
		{ 4, 4, 109, "its length is 109" },
		{ 4, 104, 4, "its two lengths" },
		{ 4, 8, 1, "of interface 1, there are 1" },
		{ 4, 20, 200, "200 bytes kept" },
		{ 4, 20, 31, "without its header" },
		{ 4, 24, 47, "its length was 47" },
		{ 4, 28, 0x00020102, "another version" },
		{ 4, 28, 0x00020901, "no kind" },
		{ 4, 28, 0x00030101, "without a direction" },
		{ 4, 28, 0x00010101, "another direction" },
		{ 4, 32, 14, "no type" },
		{ 4, 32, 0x0002000B, "unknown flags" },
		{ 4, 52, 4, "impossible length" },
		{ 4, 56, 0xFFFFFFF8, "impossible length" },
		{ 4, 56, 0, "more bytes than" },
		{ 4, 76, 0x00C80002, "option 2 is 200 bytes long, 24 are left" },
		{ 3, 32, 1, "only packets have" },
		{ 3, 56, 8192, "body of an impossible length" },
	};
	struct vmbus_capture_record rec;
	size_t at[16], i;

	for (i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		struct vmbus_capture_reader *r;
		struct file f = { 0 };
		int got;

		vmbus_test_at("damage %zu: %s", i, damage[i].why);
		write_session(&f);
		(void)blocks_of(&f, at);
		put32(f.bytes + at[damage[i].block] + damage[i].at, damage[i].value);
		r = file_reader(&f);
		while ((got = vmbus_capture_reader_next(r, &rec)) == 1)
			;
		must_eq(got, VMBUS_E_PEER);
		if (!strstr(vmbus_capture_reader_why(r), damage[i].why))
			ck_abort_msg("%s", vmbus_capture_reader_why(r));
		must_eq(vmbus_capture_reader_next(r, &rec), VMBUS_E_FAULT);
		vmbus_capture_reader_destroy(r);
		free(f.bytes);
	}
}
END_TEST

/* A block of zeros but for its length and what the caller says. */
static void add_block(struct file *f, uint32_t type, uint32_t bytes, uint32_t word)
{
	uint8_t block[64] = { 0 };

	must(bytes >= 12 && bytes <= sizeof(block));
	put32(block, type);
	put32(block + 8, word);
	put32(block + 4, bytes);
	put32(block + bytes - 4, bytes);
	must_eq(file_write(f, block, bytes), 0);
}

static void add_section(struct file *f)
{
	const size_t at = f->len;

	add_block(f, 0x0A0D0D0A, 28, 0x1A2B3C4D);
	f->bytes[at + 12] = 1; /* version 1.0 */
}

static void expect_wrong(struct file *f, const char *why)
{
	struct vmbus_capture_record rec;
	struct vmbus_capture_reader *r = file_reader(f);

	must_eq(vmbus_capture_reader_next(r, &rec), VMBUS_E_PEER);
	if (!strstr(vmbus_capture_reader_why(r), why))
		ck_abort_msg("%s", vmbus_capture_reader_why(r));
	vmbus_capture_reader_destroy(r);
	free(f->bytes);
	*f = (struct file){ 0 };
}

/* Blocks too short for what every block of their type has. */
START_TEST(capture_reader__names_short_blocks)
{
	struct file f = { 0 };

	add_block(&f, 0x0A0D0D0A, 24, 0x1A2B3C4D);
	expect_wrong(&f, "a section header of 24 bytes");
	add_section(&f);
	add_block(&f, 1, 16, VMBUS_CAPTURE_LINKTYPE);
	expect_wrong(&f, "an interface of 16 bytes");
	add_section(&f);
	add_block(&f, 1, 20, VMBUS_CAPTURE_LINKTYPE);
	add_block(&f, 6, 28, 0);
	expect_wrong(&f, "a packet of 28 bytes");
}
END_TEST

/* As many interfaces as a reader remembers, ours and others', and one more. */
START_TEST(capture_reader__names_too_many_interfaces)
{
	const uint32_t most = 2 * VMBUS_CAPTURE_CHANNELS_MAX;
	struct file f = { 0 };
	uint32_t i;

	add_section(&f);
	for (i = 0; i <= most; i++)
		add_block(&f, 1, 20, 1);
	expect_wrong(&f, "more than 8192 interfaces");
	add_section(&f);
	for (i = 0; i <= VMBUS_CAPTURE_CHANNELS_MAX; i++)
		add_block(&f, 1, 20, VMBUS_CAPTURE_LINKTYPE);
	expect_wrong(&f, "more than 4096 channels");
	/* A second section has interfaces of its own, the file's channels go on. */
	add_section(&f);
	for (i = 0; i < most; i++)
		add_block(&f, 1, 20, 1);
	add_section(&f);
	add_block(&f, 1, 20, 1);
	add_block(&f, 6, 32, 1);
	expect_wrong(&f, "of interface 1, there are 1");
}
END_TEST

/* Cut anywhere: records up to there, then the end or an error, never anything else. */
START_TEST(capture_reader__a_file_cut_anywhere)
{
	struct vmbus_capture_record rec;
	struct file whole = { 0 };
	size_t at[16], n;
	uint32_t blocks, b;

	write_session(&whole);
	blocks = blocks_of(&whole, at);
	for (n = 0; n < whole.len; n++) {
		struct file f = { .bytes = whole.bytes, .len = n };
		struct vmbus_capture_reader *r = file_reader(&f);
		bool border = false;
		int got;

		for (b = 1; b < blocks; b++)
			border = border || n == at[b];
		while ((got = vmbus_capture_reader_next(r, &rec)) == 1)
			;
		must_eq(got, border ? 0 : VMBUS_E_PEER);
		vmbus_capture_reader_destroy(r);
	}
	free(whole.bytes);
}
END_TEST

static long read_too_much(void *ctx, void *bytes, size_t n)
{
	(void)ctx;
	(void)bytes;
	return (long)n + 1;
}

START_TEST(capture_reader__errors_of_the_caller)
{
	struct file f = { 0 };
	struct vmbus_capture_reader_opts opts = { .struct_bytes = sizeof(opts),
						  .read = file_read,
						  .ctx = &f };
	struct vmbus_capture_record rec;
	struct vmbus_capture_reader *r;

	opts.struct_bytes--;
	must_eq(vmbus_capture_reader_create(&opts, &r), VMBUS_E_INVAL);
	opts.struct_bytes++;
	opts.read = NULL;
	must_eq(vmbus_capture_reader_create(&opts, &r), VMBUS_E_INVAL);
	opts.read = file_read;
	must_eq(vmbus_capture_reader_create(&opts, &r), 0);
	f.err = VMBUS_E_SYSTEM;
	must_eq(vmbus_capture_reader_next(r, &rec), VMBUS_E_SYSTEM);
	vmbus_capture_reader_destroy(r);
	opts.read = read_too_much;
	must_eq(vmbus_capture_reader_create(&opts, &r), 0);
	must_eq(vmbus_capture_reader_next(r, &rec), VMBUS_E_PEER);
	vmbus_capture_reader_destroy(r);
	vmbus_capture_reader_destroy(NULL);
}
END_TEST

/* Units of time that other programs write. */
START_TEST(capture_reader__units_of_time)
{
	static const struct {
		uint8_t unit;
		uint64_t ns;
	} units[] = { { 0, 1000000000000u }, { 3, 1000000000u }, { 6, 1000000u }, { 9, 1000u },
		      { 0x8A, 976562500u },  { 10, 0 },		 { 0xA1, 0 } };
	struct vmbus_capture_record rec;
	size_t at[16], i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		struct vmbus_capture_reader *r;
		struct file f = { 0 };
		uint8_t *unit;

		write_session(&f);
		(void)blocks_of(&f, at);
		unit = memmem(f.bytes + at[1], at[2] - at[1], "\x09\x00\x01\x00\x09", 5);
		must(unit != NULL);
		unit[4] = units[i].unit;
		put32(f.bytes + at[2] + 12, 0);
		put32(f.bytes + at[2] + 16, 1000);
		r = file_reader(&f);
		must_eq(vmbus_capture_reader_next(r, &rec), units[i].ns ? 1 : VMBUS_E_PEER);
		if (units[i].ns)
			must_eq(rec.time_ns, units[i].ns);
		vmbus_capture_reader_destroy(r);
		free(f.bytes);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pcapng", 30);

	tcase_add_test(tc, capture_writer__writes_these_bytes);
	tcase_add_test(tc, capture_writer__refuses_what_cannot_be);
	tcase_add_test(tc, capture_writer__takes_4096_channels);
	tcase_add_test(tc, capture_reader__reads_what_was_written);
	tcase_add_test(tc, capture_reader__reads_the_other_byte_order);
	tcase_add_test(tc, capture_reader__passes_over_what_is_not_ours);
	tcase_add_test(tc, capture_reader__names_what_is_wrong);
	tcase_add_test(tc, capture_reader__names_short_blocks);
	tcase_add_test(tc, capture_reader__names_too_many_interfaces);
	tcase_add_test(tc, capture_reader__a_file_cut_anywhere);
	tcase_add_test(tc, capture_reader__errors_of_the_caller);
	tcase_add_test(tc, capture_reader__units_of_time);
}

VMBUS_TEST_MAIN("capture.pcapng", tests)
