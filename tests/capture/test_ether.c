/* SPDX-License-Identifier: MIT */
/* Ethernet frames in a file, byte by byte. */
#include "capture/ether.h"
#include "vmbus_test.h"

#include "capture/frame.h"
#include "capture/pcapng.h"

static struct sink {
	uint8_t at[8192];
	uint32_t bytes;
	uint32_t calls;
	int err;
} sink;

static int sink_write(void *ctx, const void *bytes, size_t n)
{
	struct sink *const s = ctx;

	if (s->err)
		return s->err;
	must(n <= sizeof(s->at));
	memcpy(s->at, bytes, n);
	s->bytes = (uint32_t)n;
	s->calls++;
	return 0;
}

static struct vmbus_capture_writer *begin(void)
{
	const struct vmbus_capture_writer_opts opts = { .struct_bytes = sizeof(opts),
							.write = sink_write,
							.ctx = &sink };
	struct vmbus_capture_writer *writer;

	memset(&sink, 0, sizeof(sink));
	must_eq(vmbus_capture_writer_create(&opts, &writer), 0);
	return writer;
}

static uint32_t word(uint32_t at)
{
	return vmbus__capture_get32(sink.at + at);
}

START_TEST(capture_ether__begins_an_interface)
{
	struct vmbus_capture_writer *const w = begin();
	const struct vmbus__capture_ether none = { .snap = 100 };
	uint32_t i;

	must_eq(vmbus__capture_ether_put(w, 0, &none), VMBUS_E_INVAL);
	must_eq(vmbus__capture_ether_begin(w, VMBUS_CAPTURE_CHANNELS_MAX, "x", 100), VMBUS_E_RANGE);
	must_eq(vmbus__capture_ether_begin(w, 7, "eth7", 100), 0);
	must_eq(word(0), PCAPNG_IDB);
	must_eq(word(4), sink.bytes);
	must_eq(word(sink.bytes - 4), sink.bytes);
	must_eq(word(8), 1); /* LINKTYPE_ETHERNET */
	must_eq(word(12), 100);
	must(memcmp(sink.at + 20, "eth7", 4) == 0);
	must_eq(vmbus__capture_ether_put(w, VMBUS_CAPTURE_CHANNELS_MAX, &none), VMBUS_E_RANGE);
	sink.err = VMBUS_E_FULL;
	must_eq(vmbus__capture_ether_put(w, 7, &none), VMBUS_E_FULL);
	must_eq(vmbus__capture_ether_begin(w, 8, "x", 100), VMBUS_E_FULL);
	sink.err = 0;
	for (i = 2; i < VMBUS_CAPTURE_CHANNELS_MAX; i++)
		must_eq(vmbus__capture_ether_begin(w, 0, "x", 100), 0);
	must_eq(vmbus__capture_ether_begin(w, 0, "x", 100), VMBUS_E_RANGE);
	vmbus_capture_writer_destroy(w);
}
END_TEST

/* Pieces of all lengths, with and without a tag, cut at each length. */
START_TEST(capture_ether__keeps_what_fits)
{
	struct vmbus_capture_writer *const w = begin();
	uint8_t bytes[64], whole[68];
	struct vmbus_iov piece[4];
	uint32_t first, snap, tagged, kept, len, i;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i + 1);
	must_eq(vmbus__capture_ether_begin(w, 0, "x", 100), 0);
	for (first = 0; first <= 40; first++)
		for (snap = 0; snap <= 72; snap++)
			for (tagged = 0; tagged < 2; tagged++) {
				struct vmbus__capture_ether f = {
					.time_ns = UINT64_C(0x1122334455667788),
					.dropped = 9,
					.piece = piece,
					.pieces = 4,
					.bytes = 64,
					.snap = snap,
					.from_guest = tagged,
					.tagged = tagged,
					.tag = 0x6123,
				};

				vmbus_test_at("first %u snap %u tagged %u", first, snap, tagged);
				piece[0] = (struct vmbus_iov){ bytes, first };
				piece[1] = (struct vmbus_iov){ NULL, 0 };
				piece[2] = (struct vmbus_iov){ bytes + first, 5 };
				piece[3] = (struct vmbus_iov){ bytes + first + 5, 59 - first };
				memcpy(whole, bytes, 12);
				memcpy(whole + 12, "\x81\x00\x61\x23", 4);
				memcpy(whole + (tagged ? 16 : 12), bytes + 12, 52);
				len = tagged ? 68 : 64;
				kept = snap < len ? snap : len;
				must_eq(vmbus__capture_ether_put(w, 0, &f), 0);
				must(word(0) == PCAPNG_EPB && word(8) == 0);
				must(word(12) == 0x11223344 && word(16) == 0x55667788);
				must(word(20) == kept && word(24) == len);
				if (!tagged || kept >= 16)
					must(memcmp(sink.at + 28, whole, kept) == 0);
				i = 28 + (kept + 3) / 4 * 4;
				must(word(i) == (4u << 16 | PCAPNG_EPB_FLAGS));
				must_eq(word(i + 4), tagged ? PCAPNG_OUTBOUND : PCAPNG_INBOUND);
				must(word(i + 8) == (8u << 16 | PCAPNG_EPB_DROPCOUNT) &&
				     word(i + 12) == 9);
				must(word(4) == sink.bytes && word(sink.bytes - 4) == sink.bytes);
			}
	vmbus_capture_writer_destroy(w);
}
END_TEST

/* A frame that lies about its length gives zeroes, and not what stood there before. */
START_TEST(capture_ether__fills_up_with_zeroes)
{
	struct vmbus_capture_writer *const w = begin();
	const struct vmbus_iov piece = { "abc", 3 };
	const struct vmbus__capture_ether f = {
		.piece = &piece, .pieces = 1, .bytes = 7, .snap = 60
	};

	must_eq(vmbus__capture_ether_begin(w, 0, "a name that stood there before", 100), 0);
	must_eq(vmbus__capture_ether_put(w, 0, &f), 0);
	must_eq(word(20), 7);
	must(memcmp(sink.at + 28, "abc\0\0\0\0\0", 8) == 0);
	vmbus_capture_writer_destroy(w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ether", 10);

	tcase_add_test(tc, capture_ether__begins_an_interface);
	tcase_add_test(tc, capture_ether__keeps_what_fits);
	tcase_add_test(tc, capture_ether__fills_up_with_zeroes);
}

VMBUS_TEST_MAIN("capture.ether", tests)
