/* SPDX-License-Identifier: MIT */
/*
 * Control messages: what decodes encodes, to bytes that decode to the same message.
 *
 * Input: a byte for the version, a byte of features, then the message.
 */
#include <vmbus/ctl.h>

#include "fuzz/input.h"

static const uint32_t versions[] = { 0,
				     0x0000000D,
				     0x00010001,
				     VMBUS_PROTO_2_4,
				     VMBUS_PROTO_3_0,
				     VMBUS_PROTO_4_0,
				     VMBUS_PROTO_4_1,
				     VMBUS_PROTO_5_0,
				     VMBUS_PROTO_5_1,
				     VMBUS_PROTO_5_2,
				     VMBUS_PROTO_5_3,
				     VMBUS_PROTO_6_0 };

/* Members that later layers use as lengths and counts stay within what the message can hold. */
static void check_limits(const struct vmbus_ctl *c, size_t len)
{
	switch (c->type) {
	case VMBUS_CTL_GPADL_HEADER:
		MUST(c->u.gpadl.count >= 1 && c->u.gpadl.count <= 27);
		MUST(20 + c->u.gpadl.count * 8 <= len);
		MUST(c->u.gpadl.range_bytes <= 65535 && c->u.gpadl.range_count <= 65535);
		break;
	case VMBUS_CTL_GPADL_BODY:
		MUST(c->u.gpadl.count >= 1 && c->u.gpadl.count <= 28);
		MUST(16 + c->u.gpadl.count * 8 <= len);
		break;
	case VMBUS_CTL_VERSION_RESPONSE:
		MUST(c->u.version.form == 16 || c->u.version.form == 20 || c->u.version.form == 40);
		MUST(c->u.version.form <= len);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmbus_ctl first, second;
	uint8_t once[VMBUS_CTL_BYTES_MAX], twice[VMBUS_CTL_BYTES_MAX];
	uint32_t version, features;
	int ret, n;

	if (size < 2)
		return 0;
	version = versions[data[0] % (sizeof(versions) / sizeof(versions[0]))];
	features = data[1];
	memset(&first, 0x55, sizeof(first));
	ret = vmbus_ctl_decode(data + 2, size - 2, version, features, &first);
	if (ret) {
		MUST(ret == VMBUS_E_INVAL || ret == VMBUS_E_RANGE);
		MUST(first.type == 0x55555555u);
		return 0;
	}
	MUST(first.type >= 1 && first.type < VMBUS_CTL_TYPES);
	check_limits(&first, size - 2);
	n = vmbus_ctl_encode(&first, version, features, once, sizeof(once));
	MUST(n >= 8 && n <= (int)sizeof(once) && (size_t)n <= size - 2);
	MUST(vmbus_ctl_decode(once, (size_t)n, version, features, &second) == 0);
	MUST(memcmp(&first, &second, sizeof(first)) == 0);
	MUST(vmbus_ctl_encode(&second, version, features, twice, (size_t)n) == n);
	MUST(memcmp(once, twice, (size_t)n) == 0);
	return 0;
}
