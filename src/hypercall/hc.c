/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls: the control word, the input blocks of the two calls that VMBus needs, and the
 * dispatch of a call to those who carry it out.
 *
 * The input of a call is in the guest's hands until it is copied: it is copied once, here, and only
 * the copy is looked at.  No state is kept between calls.  This file knows no port and no channel.
 */
#include <vmbus/hypercall.h>

#include "base/contract.h"

/* The control word, [HC-CONTROL]. */
#define CONTROL_FAST ((uint64_t)1 << 16)
#define CONTROL_VAR_SHIFT 17u
#define CONTROL_VAR_MAX 0x3FFu
#define CONTROL_NESTED ((uint64_t)1 << 31)
#define CONTROL_COUNT_SHIFT 32u
#define CONTROL_START_SHIFT 48u
#define CONTROL_REP_MAX 0xFFFu
#define CONTROL_RESERVED                                                                           \
	((uint64_t)0xF << 27 | (uint64_t)0xF << 44 | (uint64_t)0xF << 60) /* 30:27, 47:44, 63:60 */

#define FAST_BYTES 16u	    /* RDX and R8, [HC-INPUT] */
#define FAST_XMM_BYTES 112u /* and XMM0 to XMM5 */

/* The input blocks, [HC-POST], [HC-SIGNAL]. */
#define POST_HEADER_BYTES 16u
#define SIGNAL_BYTES 8u
#define CONN_ID_MAX 0xFFFFFFu
#define MESSAGE_TYPE_MAX 0x7FFFFFFFu /* bit 31 is the hypervisor's */
#define EVENT_FLAGS 2048u

#define RESULT_STATUS 0xFFFFu

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static void put32(uint8_t *p, uint32_t v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}

uint32_t vmbus_hc_control_decode(uint64_t word, struct vmbus_hc_control *control)
{
	control->code = (uint16_t)word;
	control->fast = (word & CONTROL_FAST) != 0;
	control->nested = (word & CONTROL_NESTED) != 0;
	control->var_header_qwords = (uint16_t)(word >> CONTROL_VAR_SHIFT & CONTROL_VAR_MAX);
	control->rep_count = (uint16_t)(word >> CONTROL_COUNT_SHIFT & CONTROL_REP_MAX);
	control->rep_start = (uint16_t)(word >> CONTROL_START_SHIFT & CONTROL_REP_MAX);
	return word & CONTROL_RESERVED ? VMBUS_HC_INVALID_INPUT : VMBUS_HC_OK;
}

uint64_t vmbus_hc_control_encode(const struct vmbus_hc_control *control)
{
	return control->code | (control->fast ? CONTROL_FAST : 0) |
	       (control->nested ? CONTROL_NESTED : 0) |
	       (uint64_t)(control->var_header_qwords & CONTROL_VAR_MAX) << CONTROL_VAR_SHIFT |
	       (uint64_t)(control->rep_count & CONTROL_REP_MAX) << CONTROL_COUNT_SHIFT |
	       (uint64_t)(control->rep_start & CONTROL_REP_MAX) << CONTROL_START_SHIFT;
}

static uint32_t check_post(const struct vmbus_hc_call *call)
{
	if (call->bytes > VMBUS_HC_MESSAGE_MAX)
		return VMBUS_HC_PARAMETER;
	if (call->type == 0 || call->type > MESSAGE_TYPE_MAX)
		return VMBUS_HC_PARAMETER;
	return call->conn_id > CONN_ID_MAX ? VMBUS_HC_CONNECTION_ID : VMBUS_HC_OK;
}

static uint32_t check_signal(const struct vmbus_hc_call *call)
{
	if (call->flag >= EVENT_FLAGS)
		return VMBUS_HC_PARAMETER;
	return call->conn_id > CONN_ID_MAX ? VMBUS_HC_CONNECTION_ID : VMBUS_HC_OK;
}

static uint32_t decode_post(const uint8_t *block, size_t bytes, struct vmbus_hc_call *call)
{
	uint32_t status;

	if (bytes < POST_HEADER_BYTES)
		return VMBUS_HC_INVALID_INPUT;
	call->conn_id = get32(block);
	call->type = get32(block + 8);
	call->bytes = get32(block + 12);
	status = check_post(call);
	if (status)
		return status;
	if (call->bytes > bytes - POST_HEADER_BYTES)
		return VMBUS_HC_INVALID_INPUT;
	__builtin_memcpy(call->payload, block + POST_HEADER_BYTES, call->bytes);
	return VMBUS_HC_OK;
}

static uint32_t decode_signal(const uint8_t *block, size_t bytes, struct vmbus_hc_call *call)
{
	if (bytes < SIGNAL_BYTES)
		return VMBUS_HC_INVALID_INPUT;
	call->conn_id = get32(block);
	call->flag = get32(block + 4) & 0xFFFFu;
	return check_signal(call);
}

uint32_t vmbus_hc_decode(uint32_t code, const void *input, size_t bytes, struct vmbus_hc_call *call)
{
	__builtin_memset(call, 0, sizeof(*call));
	call->code = code;
	if (code == VMBUS_HC_POST_MESSAGE)
		return decode_post(input, bytes, call);
	if (code == VMBUS_HC_SIGNAL_EVENT)
		return decode_signal(input, bytes, call);
	return VMBUS_HC_INVALID_CODE;
}

int vmbus_hc_encode(const struct vmbus_hc_call *call, void *input, size_t bytes)
{
	const bool post = call->code == VMBUS_HC_POST_MESSAGE;
	uint8_t *block = input;
	size_t need = SIGNAL_BYTES;

	if (!post && call->code != VMBUS_HC_SIGNAL_EVENT)
		return VMBUS_E_INVAL;
	if ((post ? check_post(call) : check_signal(call)) != VMBUS_HC_OK)
		return VMBUS_E_RANGE;
	if (post)
		need = POST_HEADER_BYTES + call->bytes;
	if (need > bytes)
		return VMBUS_E_RANGE;
	put32(block, call->conn_id);
	put32(block + 4, post ? 0 : call->flag);
	if (post) {
		put32(block + 8, call->type);
		put32(block + 12, call->bytes);
		__builtin_memcpy(block + POST_HEADER_BYTES, call->payload, call->bytes);
	}
	return (int)need;
}

void vmbus_hc_encode_fast_signal(uint32_t conn_id, uint32_t flag, struct vmbus_hc_regs *regs)
{
	__builtin_memset(regs, 0, sizeof(*regs));
	regs->control = VMBUS_HC_SIGNAL_EVENT | CONTROL_FAST;
	regs->in = conn_id | (uint64_t)(flag & 0xFFFFu) << 32;
}

/* Bytes of the input block that a slow call must have within one page, [HC-INPUT]. */
static uint32_t slow_bytes(uint32_t code)
{
	return code == VMBUS_HC_POST_MESSAGE ? VMBUS_HC_INPUT_MAX : SIGNAL_BYTES;
}

/* Copy the input block, once. */
static uint32_t take_input(const struct vmbus_hc_ops *ops, void *ctx,
			   const struct vmbus_hc_control *control, const struct vmbus_hc_regs *regs,
			   uint8_t block[VMBUS_HC_INPUT_MAX])
{
	const uint32_t bytes = slow_bytes(control->code);

	if (control->fast) {
		__builtin_memcpy(block, &regs->in, 8);
		__builtin_memcpy(block + 8, &regs->out, 8);
		__builtin_memcpy(block + FAST_BYTES, regs->xmm, FAST_XMM_BYTES - FAST_BYTES);
		return VMBUS_HC_OK;
	}
	if (regs->in % 8u || bytes > VMBUS_PAGE_BYTES - regs->in % VMBUS_PAGE_BYTES)
		return VMBUS_HC_ALIGNMENT;
	if (!ops->read || ops->read(ctx, regs->in, block, bytes) != 0)
		return VMBUS_HC_PARAMETER;
	return VMBUS_HC_OK;
}

/* One of our calls, whose control word is one of a simple call. */
static uint32_t simple_call(const struct vmbus_hc_ops *ops, void *ctx,
			    const struct vmbus_hc_control *control,
			    const struct vmbus_hc_regs *regs)
{
	uint8_t block[VMBUS_HC_INPUT_MAX];
	struct vmbus_hc_call call;
	uint32_t status, bytes = slow_bytes(control->code);

	if (control->rep_count || control->rep_start || control->var_header_qwords ||
	    control->nested)
		return VMBUS_HC_INVALID_INPUT;
	if (control->fast)
		bytes = regs->xmm_valid ? FAST_XMM_BYTES : FAST_BYTES;
	status = take_input(ops, ctx, control, regs, block);
	if (status)
		return status;
	status = vmbus_hc_decode(control->code, block, bytes, &call);
	if (status)
		return status;
	if (control->code == VMBUS_HC_POST_MESSAGE)
		return ops->post_message(ctx, call.conn_id, call.type, call.payload, call.bytes);
	return ops->signal_event(ctx, call.conn_id, call.flag);
}

uint64_t vmbus_hc_dispatch(const struct vmbus_hc_ops *ops, void *ctx,
			   const struct vmbus_hc_regs *regs)
{
	struct vmbus_hc_control control;
	uint32_t status;

	if (!ops || ops->struct_bytes < sizeof(*ops))
		return VMBUS_HC_OPERATION_DENIED;
	status = vmbus_hc_control_decode(regs->control, &control);
	if (status)
		return status;
	if ((control.code == VMBUS_HC_POST_MESSAGE && ops->post_message) ||
	    (control.code == VMBUS_HC_SIGNAL_EVENT && ops->signal_event))
		return simple_call(ops, ctx, &control, regs) & RESULT_STATUS;
	return ops->other ? ops->other(ctx, &control, regs) : VMBUS_HC_INVALID_CODE;
}

const char *vmbus_hc_status_name(uint32_t status)
{
	static const struct {
		uint32_t status;
		const char *name;
	} names[] = {
		{ VMBUS_HC_OK, "ok" },
		{ VMBUS_HC_INVALID_CODE, "invalid code" },
		{ VMBUS_HC_INVALID_INPUT, "invalid input" },
		{ VMBUS_HC_ALIGNMENT, "alignment" },
		{ VMBUS_HC_PARAMETER, "invalid parameter" },
		{ VMBUS_HC_ACCESS_DENIED, "access denied" },
		{ VMBUS_HC_PARTITION_STATE, "partition state" },
		{ VMBUS_HC_OPERATION_DENIED, "operation denied" },
		{ VMBUS_HC_NO_MEMORY, "out of memory" },
		{ VMBUS_HC_VP_INDEX, "invalid VP index" },
		{ VMBUS_HC_PORT_ID, "invalid port id" },
		{ VMBUS_HC_CONNECTION_ID, "invalid connection id" },
		{ VMBUS_HC_NO_BUFFERS, "no message buffers" },
		{ VMBUS_HC_SYNIC_STATE, "SynIC state" },
		{ VMBUS_HC_TIMEOUT, "timeout" },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].status == status)
			return names[i].name;
	return "?";
}
