/* SPDX-License-Identifier: MIT */
/*
 * Messages of the network device, to and from bytes: the vectors of [NET-DATA] and [NET-PPI],
 * every element of per-packet information cut at each byte, and structures that go out and come back.
 */
#include "vmbus_test.h"

#include "netwire/wire.h"
#include "netwire/wire_oid.h"

static uint32_t from_hex(const char *hex, uint8_t *to)
{
	uint32_t n = 0, v;

	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		must_eq(sscanf(hex, "%2x", &v), 1);
		to[n++] = (uint8_t)v;
		hex++;
	}
	return n;
}

/* A frame of 60 bytes, TCP over IPv4 with a header at 34, checksum to be made. */
static const char vector[] =
	"01000000 78000000 34000000 3c000000 00000000 00000000 00000000 24000000 10000000"
	"00000000 00000000 10000000 00000000 0c000000 05002200";

START_TEST(rndis_packet__is_the_vector)
{
	const struct vmbus__ppis ppis = { .has = VMBUS__PPI_HAS_CSUM,
					  .csum = VMBUS__PPI_CSUM_IPV4 | VMBUS__PPI_CSUM_TCP |
						  34u << VMBUS__PPI_CSUM_START_SHIFT };
	uint8_t want[64], got[64];
	struct vmbus__rndis_packet packet;
	struct vmbus__ppis back;
	uint32_t n;

	must_eq(from_hex(vector, want), 60);
	n = vmbus__ppi_put(got + VMBUS__RNDIS_PACKET_BYTES, &ppis);
	must_eq(n, 16);
	vmbus__rndis_packet_put(got, 120, 60, n);
	ck_assert_mem_eq(got, want, 60);
	vmbus__rndis_packet_get(&packet, want);
	must_eq(packet.type, 1);
	must_eq(packet.bytes, 120);
	must_eq(packet.data_offset, 52);
	must_eq(packet.data_bytes, 60);
	must_eq(packet.ppi_offset, 36);
	must_eq(packet.ppi_bytes, 16);
	must_eq(packet.oob_offset | packet.oob_bytes | packet.oob_count | packet.vc, 0);
	must(vmbus__ppi_get(&back, want + VMBUS__RNDIS_PACKET_BYTES, 16));
	must_eq(back.has, ppis.has);
	must_eq(back.csum, ppis.csum);
}
END_TEST

/* The header of the receive packet of two frames. */
START_TEST(nvsp_rndis__is_the_vector)
{
	static const char hex[] = "6b000000 00000000 ffffffff 00000000";
	const struct vmbus__nvsp_rndis rndis = { .channel = VMBUS__NVSP_CHANNEL_DATA,
						 .section = VMBUS__NVSP_NO_SECTION };
	struct vmbus__nvsp_rndis back;
	uint8_t want[16], got[16];

	must_eq(from_hex(hex, want), 16);
	vmbus__nvsp_rndis_put(got, &rndis);
	ck_assert_mem_eq(got, want, 16);
	vmbus__nvsp_rndis_get(&back, want);
	must_eq(back.channel, 0);
	must_eq(back.section, UINT32_MAX);
	must_eq(back.section_bytes, 0);
	must_eq(vmbus__nvsp_bytes(VMBUS__NVSP_61), 40);
	must_eq(vmbus__nvsp_bytes(VMBUS__NVSP_6), 32);
}
END_TEST

START_TEST(ppi__goes_out_and_comes_back)
{
	struct vmbus__ppis ppis = { .csum = 0x11223344,
				    .lso = 0x55667788,
				    .vlan = 0x0FF3,
				    .hash = 0xDEADBEEF,
				    .id = 0x00070301 };
	struct vmbus__ppis back;
	uint8_t p[VMBUS__PPI_ALL_BYTES];
	uint32_t n;

	ppis.has = (uint32_t)_i;
	n = vmbus__ppi_put(p, &ppis);
	must_eq(n, 16u * (uint32_t)__builtin_popcount((unsigned)_i));
	must(vmbus__ppi_get(&back, p, n));
	must_eq(back.has, ppis.has);
	must(!(back.has & VMBUS__PPI_HAS_CSUM) || back.csum == ppis.csum);
	must(!(back.has & VMBUS__PPI_HAS_LSO) || back.lso == ppis.lso);
	must(!(back.has & VMBUS__PPI_HAS_VLAN) || back.vlan == ppis.vlan);
	must(!(back.has & VMBUS__PPI_HAS_HASH) || back.hash == ppis.hash);
	must(!(back.has & VMBUS__PPI_HAS_ID) || back.id == ppis.id);
}
END_TEST

/* Each cut of all of them is refused but between two; the copy lies at the end of what may be read. */
START_TEST(lesson_11_ppi__cut_at_each_byte)
{
	const struct vmbus__ppis ppis = { .has = 31 };
	struct vmbus__ppis back;
	uint8_t all[VMBUS__PPI_ALL_BYTES];
	uint32_t n;

	must_eq(vmbus__ppi_put(all, &ppis), sizeof(all));
	for (n = 0; n <= sizeof(all); n++) {
		uint8_t *const p = malloc(n + 1u);

		must(p != NULL);
		memcpy(p + 1, all, n);
		must_eq(vmbus__ppi_get(&back, p + 1, n), n % 16u == 0);
		free(p);
	}
}
END_TEST

START_TEST(ppi_get__refuses_sizes_and_offsets)
{
	static const struct {
		uint32_t size, type, offset;
		bool good;
	} t[] = {
		{ 16, 0, 12, true },	       { 0, 0, 12, false },
		{ 8, 0, 12, false },	       { 12, 0, 12, false },
		{ 14, 0, 12, false },	       { 20, 0, 12, false },
		{ 16, 0, 13, false },	       { 16, 0, 0, false },
		{ 16, 0, UINT32_MAX, false },  { 16, 0, 16, false },
		{ UINT32_MAX, 0, 12, false },  { 16, 77, UINT32_MAX, true },
		{ 12, 77, 0, false },	       { 16, 1, UINT32_MAX, true },
		{ 16, 0x80000001, 16, false }, { 16, 0x80000000, 16, true },
	};
	struct vmbus__ppis back;
	uint8_t p[16] = { 0 };
	uint32_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		vmbus_test_at("row %u", i);
		vmbus__net_put32(p, t[i].size);
		vmbus__net_put32(p + 4, t[i].type);
		vmbus__net_put32(p + 8, t[i].offset);
		must_eq(vmbus__ppi_get(&back, p, sizeof(p)), t[i].good);
	}
}
END_TEST

/* An element that is not known is passed over, whatever is in it, and the next one counts. */
START_TEST(ppi_get__passes_over_others)
{
	const struct vmbus__ppis ppis = { .has = VMBUS__PPI_HAS_VLAN, .vlan = 5 };
	struct vmbus__ppis back;
	uint8_t p[36] = { 20, 0, 0, 0, 9 };

	memset(p + 8, 0xFF, 12);
	must_eq(vmbus__ppi_put(p + 20, &ppis), 16);
	must(vmbus__ppi_get(&back, p, sizeof(p)));
	must_eq(back.has, VMBUS__PPI_HAS_VLAN);
	must_eq(back.vlan, 5);
}
END_TEST

START_TEST(ppi_vlan__turns_a_tag_round)
{
	uint32_t tag;

	must_eq(vmbus__ppi_vlan_of_tag(5u << 13 | 1u << 12 | 0x123u), 5u | 1u << 3 | 0x123u << 4);
	for (tag = 0; tag <= 0xFFFF; tag++)
		must_eq(vmbus__ppi_tag_of_vlan(vmbus__ppi_vlan_of_tag(tag)), tag);
}
END_TEST

START_TEST(offload__goes_out_and_comes_back)
{
	static const uint32_t sizes[] = { 112, 144, 156 };
	const struct vmbus__offload offload = { .tx4 = 0x155,
						.rx4 = 0x155,
						.tx6 = 0x55,
						.rx6 = 0x11,
						.lso4_bytes = 62780,
						.lso6_bytes = 62780,
						.lso_segments = 2,
						.rsc4 = 1,
						.rsc6 = 1 };
	const uint32_t size = sizes[_i];
	struct vmbus__offload back;
	uint8_t p[156];
	uint32_t n;

	vmbus__offload_put(p, size, &offload);
	must_eq(p[0], 0xA7);
	must_eq(p[1], (uint8_t)(_i + 1));
	must_eq(vmbus__net_get16(p + 2), size);
	must_eq(vmbus__net_get32(p + 80), 2);
	must_eq(vmbus__net_get32(p + 84), 62780);
	must_eq(vmbus__net_get32(p + 104), 5);
	for (n = 0; n < size; n++)
		must(!vmbus__offload_get(&back, p, n));
	must(vmbus__offload_get(&back, p, size));
	must_eq(back.tx4, 0x155);
	must_eq(back.rx4, 0x155);
	must_eq(back.tx6, 0x55);
	must_eq(back.rx6, 0x11);
	must_eq(back.lso4_bytes, 62780);
	must_eq(back.lso6_bytes, 62780);
	must_eq(back.lso_segments, 2);
	must_eq(back.rsc4, size == 156);
	must_eq(back.rsc6, size == 156);
	p[0] = 1;
	must(!vmbus__offload_get(&back, p, size));
}
END_TEST

START_TEST(offload_set__goes_out_and_comes_back)
{
	const struct vmbus__offload_set set = { 1, 2, 3, 4, 1, 2, 1, 2, 1, 2 };
	struct vmbus__offload_set back;
	uint8_t p[VMBUS__OFFLOAD_SET_BYTES];

	vmbus__offload_set_put(p, &set);
	must_eq(p[0], 0x80);
	must_eq(p[1], 3);
	must_eq(p[5], 2);
	vmbus__offload_set_get(&back, p, sizeof(p));
	ck_assert_mem_eq(&back, &set, sizeof(set));
	vmbus__offload_set_get(&back, p, 22);
	must_eq(back.rsc4 | back.rsc6, 0);
	must_eq(back.lso6, 2);
}
END_TEST

START_TEST(rss__goes_out_and_comes_back)
{
	const struct vmbus__rss_caps caps = { .flags = 0x301, .queues = 5, .entries = 128 };
	const struct vmbus__rss_set set = { .flags = 4,
					    .hash = 0x1701,
					    .table_bytes = 512,
					    .table_offset = 40,
					    .key_bytes = 40,
					    .key_offset = 552 };
	struct vmbus__rss_caps caps_back;
	struct vmbus__rss_set set_back;
	uint8_t p[VMBUS__RSS_BYTES];

	vmbus__rss_caps_put(p, &caps);
	must_eq(p[0], 0x88);
	must_eq(vmbus__net_get16(p + 2), 18);
	vmbus__rss_caps_get(&caps_back, p);
	ck_assert_mem_eq(&caps_back, &caps, sizeof(caps));
	vmbus__rss_set_put(p, &set);
	must_eq(p[0], 0x89);
	vmbus__rss_set_get(&set_back, p);
	ck_assert_mem_eq(&set_back, &set, sizeof(set));
}
END_TEST

START_TEST(param__goes_out_and_comes_back)
{
	const struct vmbus__param param = { 20, 28, 2, 48, 24 };
	struct vmbus__param back;
	uint8_t p[VMBUS__PARAM_BYTES];

	vmbus__param_put(p, &param);
	vmbus__param_get(&back, p);
	ck_assert_mem_eq(&back, &param, sizeof(param));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "wire", 20);

	tcase_add_test(tc, rndis_packet__is_the_vector);
	tcase_add_test(tc, nvsp_rndis__is_the_vector);
	tcase_add_loop_test(tc, ppi__goes_out_and_comes_back, 0, 32);
	tcase_add_test(tc, lesson_11_ppi__cut_at_each_byte);
	tcase_add_test(tc, ppi_get__refuses_sizes_and_offsets);
	tcase_add_test(tc, ppi_get__passes_over_others);
	tcase_add_test(tc, ppi_vlan__turns_a_tag_round);
	tcase_add_loop_test(tc, offload__goes_out_and_comes_back, 0, 3);
	tcase_add_test(tc, offload_set__goes_out_and_comes_back);
	tcase_add_test(tc, rss__goes_out_and_comes_back);
	tcase_add_test(tc, param__goes_out_and_comes_back);
}
VMBUS_TEST_MAIN("net.wire", tests)
