/* SPDX-License-Identifier: MIT */
/*
 * GUIDs: their text, and the names of the device classes that we know.  A GUID is kept as it lies
 * on the wire, so the first three groups of its text are little-endian numbers.
 */
#include <vmbus/ctl.h>

#define DASH 0xFFu

/* The byte behind each pair of digits of the text, in order; DASH where a dash stands.  [GUID] */
static const uint8_t order[] = { 3,    2, 1, 0,	   DASH, 5,  4,	 DASH, 7,  6,
				 DASH, 8, 9, DASH, 10,	 11, 12, 13,   14, 15 };

/* [CTL-CLASS] */
static const struct {
	const char *name;
	struct vmbus_guid id;
} classes[] = {
	{ "ide",
	  VMBUS_GUID(0x32412632, 0x86cb, 0x44a2, 0x9b, 0x5c, 0x50, 0xd1, 0x41, 0x73, 0x54, 0xf5) },
	{ "scsi",
	  VMBUS_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f) },
	{ "fc",
	  VMBUS_GUID(0x2f9bcc4a, 0x0069, 0x4af3, 0xb7, 0x6b, 0x6f, 0xd0, 0xbe, 0x52, 0x8c, 0xda) },
	{ "net",
	  VMBUS_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e) },
	{ "nd",
	  VMBUS_GUID(0x8c2eaf3d, 0x32a7, 0x4b09, 0xab, 0x99, 0xbd, 0x1f, 0x1c, 0x86, 0xb5, 0x01) },
	{ "pci",
	  VMBUS_GUID(0x44c4f61d, 0x4444, 0x4400, 0x9d, 0x52, 0x80, 0x2e, 0x27, 0xed, 0xe1, 0x9f) },
	{ "video",
	  VMBUS_GUID(0xda0a7802, 0xe377, 0x4aac, 0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8) },
	{ "keyboard",
	  VMBUS_GUID(0xf912ad6d, 0x2b17, 0x48ea, 0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84) },
	{ "mouse",
	  VMBUS_GUID(0xcfa8b69e, 0x5b4a, 0x4cc0, 0xb9, 0x8b, 0x8b, 0xa1, 0xa1, 0xf3, 0xf9, 0x5a) },
	{ "kvp",
	  VMBUS_GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6) },
	{ "timesync",
	  VMBUS_GUID(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf) },
	{ "heartbeat",
	  VMBUS_GUID(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d) },
	{ "shutdown",
	  VMBUS_GUID(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb) },
	{ "fcopy",
	  VMBUS_GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9a, 0xe7, 0x6b, 0x17, 0x49, 0x77, 0xc1, 0x92) },
	{ "vss",
	  VMBUS_GUID(0x35fa2e29, 0xea23, 0x4236, 0x96, 0xae, 0x3a, 0x6e, 0xba, 0xcb, 0xa4, 0x40) },
	{ "balloon",
	  VMBUS_GUID(0x525074dc, 0x8985, 0x46e2, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18, 0xa5, 0x02) },
};

/* A vsock port as a service: the port is the first group.  [CTL-TL] */
static const struct vmbus_guid vsock =
	VMBUS_GUID(0, 0xfacb, 0x11e6, 0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3);
#define VSOCK_PORT_BYTES 4u

bool vmbus_guid_equal(const struct vmbus_guid *a, const struct vmbus_guid *b)
{
	return __builtin_memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* The value of a hexadecimal digit, or -1; the terminator is no digit. */
static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int vmbus_guid_parse(const char *text, struct vmbus_guid *guid)
{
	const bool braces = text[0] == '{';
	struct vmbus_guid found;
	uint32_t i;

	if (braces)
		text++;
	for (i = 0; i < sizeof(order); i++) {
		int high, low;

		if (order[i] == DASH) {
			if (*text++ != '-')
				return VMBUS_E_INVAL;
			continue;
		}
		high = digit(text[0]);
		low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return VMBUS_E_INVAL;
		found.b[order[i]] = (uint8_t)(high * 16 + low);
		text += 2;
	}
	if (braces && *text++ != '}')
		return VMBUS_E_INVAL;
	if (*text != '\0')
		return VMBUS_E_INVAL;
	*guid = found;
	return 0;
}

void vmbus_guid_format(const struct vmbus_guid *guid, char buf[37])
{
	static const char digits[] = "0123456789abcdef";
	char *to = buf;
	uint32_t i;

	for (i = 0; i < sizeof(order); i++) {
		if (order[i] == DASH) {
			*to++ = '-';
			continue;
		}
		*to++ = digits[guid->b[order[i]] / 16u];
		*to++ = digits[guid->b[order[i]] % 16u];
	}
	*to = '\0';
}

const char *vmbus_class_name(const struct vmbus_guid *class_id)
{
	uint32_t i;

	for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (vmbus_guid_equal(class_id, &classes[i].id))
			return classes[i].name;
	if (__builtin_memcmp(class_id->b + VSOCK_PORT_BYTES, vsock.b + VSOCK_PORT_BYTES,
			     sizeof(vsock.b) - VSOCK_PORT_BYTES) == 0)
		return "hvsock";
	return NULL;
}
