/* SPDX-License-Identifier: MIT */
/*
 * Control messages in bytes, worked out by hand from the layout tables of vmbus_wire(7):
 * [CTL-CONTACT], [CTL-GPADL], [CTL-OPEN], [CTL-OFFER].  And the text of GUIDs, [GUID], and the
 * names of classes, [CTL-CLASS]: src/wire/guid.c.
 */
#include <vmbus/ctl.h>

#include "vmbus_test.h"

/* "0e 00 .." as bytes; returns how many. */
static uint32_t hex(const char *text, uint8_t *to)
{
	uint32_t n = 0;

	for (; *text; text++) {
		if (*text == ' ')
			continue;
		to[n++] = (uint8_t)strtoul((char[3]){ text[0], text[1], '\0' }, NULL, 16);
		text++;
	}
	return n;
}

static void must_encode(const struct vmbus_ctl *c, uint32_t version, const char *text)
{
	uint8_t want[240], got[240];
	const uint32_t n = hex(text, want);

	vmbus_test_at("%.20s", text);
	must_eq(vmbus_ctl_encode(c, version, 0, got, sizeof(got)), n);
	must(memcmp(want, got, n) == 0);
}

#define CONTACT_5_3                                                                                \
	"0e 00 00 00 00 00 00 00 03 00 05 00 00 00 00 00 02 00 00 00 00 00 00 00"                  \
	" 00 10 01 00 00 00 00 00 00 20 01 00 00 00 00 00"

START_TEST(ctl__contact_of_5_3)
{
	struct vmbus_ctl c;
	uint8_t bytes[240];
	const uint32_t n = hex(CONTACT_5_3, bytes);

	must_eq(n, 40);
	must_eq(vmbus_ctl_decode(bytes, n, 0, 0, &c), 0);
	must_eq(c.type, VMBUS_CTL_CONTACT);
	must_eq(c.u.contact.version, VMBUS_PROTO_5_3);
	must_eq(c.u.contact.target_vp, 0);
	must_eq(c.u.contact.target_sint, VMBUS_SINT_MESSAGE); /* [CTL-SINT] */
	must_eq(c.u.contact.monitor_p2c, 0x11000);
	must_eq(c.u.contact.monitor_c2p, 0x12000);
	must_encode(&c, 0, CONTACT_5_3);
}
END_TEST

START_TEST(ctl__version_response)
{
	struct vmbus_ctl c = { .type = VMBUS_CTL_VERSION_RESPONSE };

	c.u.version.supported = 1;
	c.u.version.conn_id = VMBUS_CONN_MESSAGE; /* [CTL-CONNID] */
	must_encode(&c, VMBUS_PROTO_5_3, "0f 00 00 00 00 00 00 00 01 00 00 00 01 00 00 00");
	c.u.version.supported = 0;
	c.u.version.conn_id = 0;
	c.u.version.features = VMBUS_FEATURE_SERVER_MONITOR; /* [CTL-FEATURES] */
	must_encode(&c, VMBUS_PROTO_6_0, "0f 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
	c.u.version.supported = 1;
	must_encode(&c, VMBUS_PROTO_6_0,
		    "0f 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 40 00 00 00 00 00 00 00"
		    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
}
END_TEST

/* 66 pages: one range of 0x42000 bytes, 26 page numbers here, then 28 and 12. */
START_TEST(ctl__gpadl_of_66_pages)
{
	static const uint32_t counts[] = { 27, 28, 12 };
	struct vmbus_ctl c = { .type = VMBUS_CTL_GPADL_HEADER }, d;
	uint8_t head[28], got[240];
	uint32_t i, m, pfn = 0;

	must_eq(hex("08 00 00 00 00 00 00 00 01 00 00 00 10 1e 0e 00 18 02 01 00"
		    "00 20 04 00 00 00 00 00",
		    head),
		28);
	for (m = 0; m < 3; m++) {
		memset(&c, 0, sizeof(c));
		c.type = m ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER;
		c.u.gpadl.relid = m ? 0 : 1;
		c.u.gpadl.gpadl = 0xE1E10;
		c.u.gpadl.range_bytes = m ? 0 : 8 + 66 * 8;
		c.u.gpadl.range_count = m ? 0 : 1;
		c.u.gpadl.count = counts[m];
		for (i = 0; i < counts[m]; i++)
			c.u.gpadl.qwords[i] = m == 0 && i == 0 ? 66u * 4096u : 0x100u + pfn++;
		must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, got, sizeof(got)),
			(m ? 16u : 20u) + counts[m] * 8u);
		if (m == 0)
			must(memcmp(got, head, sizeof(head)) == 0);
		must_eq(vmbus_ctl_decode(got, (m ? 16u : 20u) + counts[m] * 8u, VMBUS_PROTO_5_3, 0,
					 &d),
			0);
		must(memcmp(&c, &d, sizeof(c)) == 0);
	}
	must_eq(pfn, 66);
}
END_TEST

/* 31 MiB: the range list just fits its 16-bit length; 1 + 283 messages. */
START_TEST(ctl__gpadl_of_31_mib)
{
	const uint32_t qwords = 1 + 31u * 1024 * 1024 / 4096;
	struct vmbus_ctl c = { .type = VMBUS_CTL_GPADL_HEADER }, d;
	uint32_t left = qwords, messages = 0;
	uint8_t b[240];

	c.u.gpadl.range_bytes = qwords * 8;
	c.u.gpadl.range_count = 1;
	must_eq(qwords * 8, 0xF808);
	for (c.u.gpadl.count = 27; left > 0; messages++) {
		int n;

		if (c.u.gpadl.count > left)
			c.u.gpadl.count = left;
		n = vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0, b, sizeof(b));
		must(n > 0);
		must_eq(vmbus_ctl_decode(b, (size_t)n, VMBUS_PROTO_5_3, 0, &d), 0);
		left -= d.u.gpadl.count;
		c.type = VMBUS_CTL_GPADL_BODY;
		c.u.gpadl.count = 28;
	}
	must_eq(messages, 1 + 283);
}
END_TEST

/* A header whose last qword is cut, and padding up to 240 bytes: whole qwords count. */
START_TEST(ctl_decode__counts_whole_qwords)
{
	uint8_t bytes[300] = { 8 };
	struct vmbus_ctl c;
	uint32_t len;

	for (len = 28; len <= sizeof(bytes); len++) {
		vmbus_test_at("%u bytes", len);
		bytes[0] = VMBUS_CTL_GPADL_HEADER;
		must_eq(vmbus_ctl_decode(bytes, len, VMBUS_PROTO_5_3, 0, &c), 0);
		must_eq(c.u.gpadl.count, len > 240 ? 27 : (len - 20) / 8);
		bytes[0] = VMBUS_CTL_GPADL_BODY;
		must_eq(vmbus_ctl_decode(bytes, len, VMBUS_PROTO_5_3, 0, &c), 0);
		must_eq(c.u.gpadl.count, len > 240 ? 28 : (len - 16) / 8);
	}
}
END_TEST

START_TEST(ctl__open_of_relid_1)
{
	struct vmbus_ctl c = { .type = VMBUS_CTL_OPEN }, d;
	uint8_t want[240] = { 0 }, got[240];

	must_eq(hex("05 00 00 00 00 00 00 00 01 00 00 00 01 00 00 00 10 1e 0e 00 00 00 00 00"
		    "21 00 00 00",
		    want),
		28);
	c.u.open.relid = 1;
	c.u.open.open_id = 1;
	c.u.open.gpadl = 0xE1E10;
	c.u.open.target_vp = 0;
	c.u.open.downstream_page = 33;
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_5_3, 0xFFu, got, sizeof(got)), 148);
	must(memcmp(want, got, 148) == 0);
	must_eq(vmbus_ctl_decode(want, 148, VMBUS_PROTO_5_3, 0xFFu, &d), 0);
	must(memcmp(&c, &d, sizeof(c)) == 0);
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 4, got, sizeof(got)), 148);
	must_eq(vmbus_ctl_encode(&c, VMBUS_PROTO_6_0, 2, got, sizeof(got)), 156);
	must_eq(vmbus_ctl_decode(want, 155, VMBUS_PROTO_6_0, 1, &d), VMBUS_E_RANGE);
}
END_TEST

/* Status values of failures, [CTL-STATUS]. */
START_TEST(ctl__statuses)
{
	struct vmbus_ctl c = { .type = VMBUS_CTL_OPEN_RESULT };

	c.u.result.relid = 1;
	c.u.result.open_id = 2;
	c.u.result.status = VMBUS_STATUS_FAILED;
	must_encode(&c, VMBUS_PROTO_5_3,
		    "06 00 00 00 00 00 00 00 01 00 00 00 02 00 00 00 ff ff 00 80");
	c.u.result.status = VMBUS_STATUS_REFUSED;
	must_encode(&c, VMBUS_PROTO_5_3,
		    "06 00 00 00 00 00 00 00 01 00 00 00 02 00 00 00 36 02 00 c0");
}
END_TEST

static const char *const good[] = {
	"f8615163-df3e-46c5-913f-f2d2f965ed0e",
	"F8615163-DF3E-46C5-913F-F2D2F965ED0E",
	"{f8615163-df3e-46c5-913f-f2d2f965ed0e}",
};
static const char *const bad[] = {
	"",
	"{",
	"{}",
	"f8615163-df3e-46c5-913f-f2d2f965ed0",
	"f8615163-df3e-46c5-913f-f2d2f965ed0e0",
	"f8615163-df3e-46c5-913f-f2d2f965ed0e}",
	"{f8615163-df3e-46c5-913f-f2d2f965ed0e",
	"{f8615163-df3e-46c5-913f-f2d2f965ed0e} ",
	" f8615163-df3e-46c5-913f-f2d2f965ed0e",
	"f8615163df3e46c5913ff2d2f965ed0e",
	"f8615163-df3e-46c5-913f_f2d2f965ed0e",
	"f861516-3df3e-46c5-913f-f2d2f965ed0e",
	"g8615163-df3e-46c5-913f-f2d2f965ed0e",
	"f8615163-df3e-46c5-913f-f2d2f965ed0g",
	"+8615163-df3e-46c5-913f-f2d2f965ed0e",
	"f8615163-df3e-46c5-913f-f2d2f965ed0\xff",
};
static const uint8_t net[16] = { 0x63, 0x51, 0x61, 0xf8, 0x3e, 0xdf, 0xc5, 0x46,
				 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e };

START_TEST(guid_parse__reads_text_and_refuses_other)
{
	struct vmbus_guid g, before;
	size_t i, cut;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		memset(&g, 0, sizeof(g));
		must_eq(vmbus_guid_parse(good[i], &g), 0);
		must(memcmp(g.b, net, 16) == 0);
	}
	memset(&before, 0x5A, sizeof(before));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vmbus_test_at("\"%s\"", bad[i]);
		g = before;
		must_eq(vmbus_guid_parse(bad[i], &g), VMBUS_E_INVAL);
		must(vmbus_guid_equal(&g, &before));
	}
	for (cut = 0; cut < 38; cut++) { /* each length, in a block of that size */
		char *text = malloc(cut + 1);

		must(text != NULL);
		memcpy(text, good[2], cut);
		text[cut] = '\0';
		must_eq(vmbus_guid_parse(text, &g), VMBUS_E_INVAL);
		free(text);
	}
}
END_TEST

START_TEST(guid_format__writes_what_parse_reads)
{
	struct vmbus_guid g, h;
	char text[37 + 1];
	uint32_t i, k;

	memcpy(g.b, net, 16);
	memset(text, 'x', sizeof(text));
	vmbus_guid_format(&g, text);
	ck_assert_str_eq(text, good[0]);
	must_eq(text[37], 'x');
	for (i = 0; i < 16; i++)
		for (k = 0; k < 256; k++) {
			memset(&g, 0, sizeof(g));
			g.b[i] = (uint8_t)k;
			vmbus_guid_format(&g, text);
			must_eq(vmbus_guid_parse(text, &h), 0);
			must(vmbus_guid_equal(&g, &h));
		}
}
END_TEST

START_TEST(guid_equal__compares_every_byte)
{
	struct vmbus_guid a = { { 0 } }, b;
	uint32_t i;

	for (i = 0; i < 16; i++) {
		b = a;
		must(vmbus_guid_equal(&a, &b));
		b.b[i] ^= 0x80;
		must(!vmbus_guid_equal(&a, &b));
	}
}
END_TEST

static const struct {
	const char *name, *id;
} classes[] = {
	{ "ide", "32412632-86cb-44a2-9b5c-50d1417354f5" },
	{ "scsi", "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f" },
	{ "fc", "2f9bcc4a-0069-4af3-b76b-6fd0be528cda" },
	{ "net", "f8615163-df3e-46c5-913f-f2d2f965ed0e" },
	{ "nd", "8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501" },
	{ "pci", "44c4f61d-4444-4400-9d52-802e27ede19f" },
	{ "video", "da0a7802-e377-4aac-8e77-0558eb1073f8" },
	{ "keyboard", "f912ad6d-2b17-48ea-bd65-f927a61c7684" },
	{ "mouse", "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a" },
	{ "kvp", "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6" },
	{ "timesync", "9527e630-d0ae-497b-adce-e80ab0175caf" },
	{ "heartbeat", "57164f39-9115-4e78-ab55-382f3bd5422d" },
	{ "shutdown", "0e0b6031-5213-4934-818b-38d90ced39db" },
	{ "fcopy", "34d14be3-dee4-41c8-9ae7-6b174977c192" },
	{ "vss", "35fa2e29-ea23-4236-96ae-3a6ebacba440" },
	{ "balloon", "525074dc-8985-46e2-8057-a307dc18a502" },
	{ "hvsock", "00000400-facb-11e6-bd58-64006a7986d3" },
	{ "hvsock", "ffffffff-facb-11e6-bd58-64006a7986d3" },
	{ NULL, "00000000-0000-0000-0000-000000000000" },
	{ NULL, "f8615163-df3e-46c5-913f-f2d2f965ed0f" },
	{ NULL, "00000400-facb-11e6-bd58-64006a7986d2" },
};

START_TEST(class_name__knows_the_devices)
{
	struct vmbus_guid g;
	size_t i;

	for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		const char *name;

		must_eq(vmbus_guid_parse(classes[i].id, &g), 0);
		name = vmbus_class_name(&g);
		vmbus_test_at("%s: %s", classes[i].id, name ? name : "none");
		must((name == NULL) == (classes[i].name == NULL));
		must(!name || strcmp(name, classes[i].name) == 0);
	}
}
END_TEST

/* The macro and the parser agree on where the bytes of a GUID lie. */
START_TEST(guid__macro_is_what_parse_reads)
{
	static const struct vmbus_guid made = VMBUS_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f,
							 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e);

	must(memcmp(made.b, net, 16) == 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vectors", 5);

	tcase_add_test(tc, ctl__contact_of_5_3);
	tcase_add_test(tc, ctl__version_response);
	tcase_add_test(tc, ctl__gpadl_of_66_pages);
	tcase_add_test(tc, ctl__gpadl_of_31_mib);
	tcase_add_test(tc, ctl_decode__counts_whole_qwords);
	tcase_add_test(tc, ctl__open_of_relid_1);
	tcase_add_test(tc, ctl__statuses);
	tc = vmbus_test_case(suite, "guid", 5);
	tcase_add_test(tc, guid_parse__reads_text_and_refuses_other);
	tcase_add_test(tc, guid_format__writes_what_parse_reads);
	tcase_add_test(tc, guid_equal__compares_every_byte);
	tcase_add_test(tc, class_name__knows_the_devices);
	tcase_add_test(tc, guid__macro_is_what_parse_reads);
}

VMBUS_TEST_MAIN("wire.ctl_vectors", tests)
