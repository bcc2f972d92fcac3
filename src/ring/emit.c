/* SPDX-License-Identifier: MIT */
/*
 * The general case of writing a packet: any type, a header, a payload in many pieces, a window in
 * many pieces.  Knows no cursors.
 */
#include "ring/emit.h"

#include "ring/index.h"

int vmbus__msg_check(const struct vmbus_msg *msg, uint32_t ring_size, uint32_t *bytes)
{
	const int ext_min = vmbus_wire_ext_min(msg->type);
	uint64_t len = msg->len, total;
	uint32_t i;

	if (ext_min < 0 || msg->flags > VMBUS_PKT_FLAG_COMPLETE || msg->ext_len % 8u ||
	    msg->ext_len < (uint32_t)ext_min || (msg->ext_len && !msg->ext) ||
	    (msg->more_count && !msg->more))
		return VMBUS_E_INVAL;
	for (i = 0; i < msg->more_count; i++) {
		if (msg->more[i].len > VMBUS_PKT_LENGTH_MAX)
			return VMBUS_E_RANGE;
		len += msg->more[i].len;
		if (len > VMBUS_PKT_LENGTH_MAX)
			return VMBUS_E_RANGE;
	}
	total = vmbus_wire_ring_bytes(msg->ext_len, len);
	if (total > vmbus_ring_max_send(ring_size))
		return VMBUS_E_RANGE;
	*bytes = (uint32_t)total;
	return 0;
}

/* A qword at an index; a qword is never split. */
static void write_qword(const struct vmbus_ring_mem *mem, uint32_t at, uint64_t v)
{
	uint32_t here;

	vmbus__peer_st64(vmbus__mem_piece(mem, at, 8, &here), v);
}

void vmbus__msg_frame(const struct vmbus_ring_mem *mem, uint32_t at, const struct vmbus_msg *msg,
		      uint32_t bytes)
{
	const uint32_t size = mem->size_p;
	const uint32_t length8 = bytes / 8u - 1u;
	const uint32_t offset8 = (VMBUS_PKT_DESC_BYTES + msg->ext_len) / 8u;

	write_qword(mem, at, VMBUS__DESC(msg->type, offset8, length8, msg->flags));
	write_qword(mem, vmbus__ring_advance(size, at, 8), msg->id);
	if (length8 > offset8)
		write_qword(mem, vmbus__ring_advance(size, at, bytes - 16u), 0);
	write_qword(mem, vmbus__ring_advance(size, at, bytes - 8u), (uint64_t)at << 32);
	vmbus__mem_write(mem, vmbus__ring_advance(size, at, VMBUS_PKT_DESC_BYTES), msg->ext,
			 msg->ext_len);
}

void vmbus__msg_write(const struct vmbus_ring_mem *mem, uint32_t at, const struct vmbus_msg *msg,
		      uint32_t bytes)
{
	const uint32_t size = mem->size_p;
	uint32_t to = vmbus__ring_advance(size, at, VMBUS_PKT_DESC_BYTES + msg->ext_len);
	uint32_t i;

	vmbus__msg_frame(mem, at, msg, bytes);
	vmbus__mem_write(mem, to, msg->data, msg->len);
	to = vmbus__ring_advance(size, to, msg->len);
	for (i = 0; i < msg->more_count; i++) {
		const uint32_t len = (uint32_t)msg->more[i].len;

		vmbus__mem_write(mem, to, msg->more[i].base, len);
		to = vmbus__ring_advance(size, to, len);
	}
}
