/* SPDX-License-Identifier: MIT */
/*
 * A child that plays against a live parent and its bus: honest control messages with changed fields,
 * and between any two turns of the parent any bytes in any page that both share.
 */
#include "fuzz/shm_parent.h"

#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#define MEMORY_BYTES ((uint64_t)256 << 10)
#define HEAP_PAGE 4u
#define FLAGS_AT (2u * 256u) /* of SINT 2 in a page of event flags */

static struct {
	int sock, bell;
	int fds[4];
	uint8_t *map;
	struct vmbus_hcbox_child box;
	uint64_t heard; /* messages taken */
} child;

static void attach(void)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_HELLO };
	struct vmbus__shm_record record;
	int i;

	msg.u.hello.memory = MEMORY_BYTES;
	msg.u.hello.vps = 1;
	child.sock = vmbus__shm_connect(parent.path, 1000000000u);
	check(child.sock >= 0);
	check(vmbus__shm_send(child.sock, &msg, NULL, 0) == 0);
	parent_spin();
	check(vmbus__shm_recv(child.sock, &record) == 1 && record.fd_count == 4);
	for (i = 0; i < 4; i++)
		child.fds[i] = record.fds[i];
	child.bell = child.fds[1];
	child.map = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, child.fds[0], 0);
	check(child.map != MAP_FAILED);
	check(vmbus_hcbox_child_init(&child.box, child.map) == 0);
}

static void leave(void)
{
	int i;

	munmap(child.map, MEMORY_BYTES);
	close(child.sock);
	for (i = 0; i < 4; i++)
		close(child.fds[i]);
}

static void ring(void)
{
	vmbus__shm_ring_doorbell(child.bell);
}

static void set_flag(uint32_t flag)
{
	child.map[VMBUS_PAGE_BYTES + FLAGS_AT + flag / 8 % 256] |= (uint8_t)(1u << flag % 8);
	ring();
}

/* A control message of a type, whose fields come mostly from a few likely values. */
static uint32_t small(struct input *in)
{
	static const uint32_t likely[] = {
		0, 1, 2, 3, 4, 0xE1E10, 0xE1E11, 2047, 2048, 0xFFFFFFFF
	};
	const uint32_t v = take(in, 1);

	return v < 250 ? likely[v % 10] : take(in, 4);
}

static void fill_gpadl(struct input *in, struct vmbus_ctl_gpadl *gpadl)
{
	const uint32_t pages = take(in, 1) % 26;
	const uint64_t range = (uint64_t)(pages * 4096u);
	uint32_t i;

	gpadl->relid = small(in);
	gpadl->gpadl = small(in);
	gpadl->range_bytes = 8 + pages * 8;
	gpadl->range_count = 1;
	gpadl->count = 1 + pages;
	gpadl->qwords[0] = range;
	for (i = 0; i < pages; i++)
		gpadl->qwords[1 + i] = HEAP_PAGE + (take(in, 1) + i) % 62;
	if (take(in, 1) % 8 == 0)
		gpadl->qwords[take(in, 1) % 27] = take(in, 4);
}

static void fill(struct input *in, struct vmbus_ctl *ctl)
{
	switch (ctl->type) {
	case VMBUS_CTL_CONTACT:
		ctl->u.contact.version = take(in, 1) % 4 ? VMBUS_PROTO_5_3 : take(in, 4);
		ctl->u.contact.target_sint = VMBUS_SINT_MESSAGE;
		break;
	case VMBUS_CTL_GPADL_HEADER:
	case VMBUS_CTL_GPADL_BODY:
		fill_gpadl(in, &ctl->u.gpadl);
		break;
	case VMBUS_CTL_OPEN:
		ctl->u.open.relid = small(in);
		ctl->u.open.open_id = small(in);
		ctl->u.open.gpadl = small(in);
		ctl->u.open.downstream_page = take(in, 1) % 26;
		break;
	default:
		ctl->u.created.relid = small(in);
		ctl->u.created.gpadl = small(in);
		ctl->u.created.status = small(in);
		break;
	}
}

static void post(struct input *in)
{
	struct vmbus_ctl ctl = { .type = take(in, 1) % VMBUS_CTL_TYPES };
	struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE, .type = 1 };
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_regs regs = { 0 };
	uint8_t input[VMBUS_HC_INPUT_MAX];
	uint64_t result;
	int bytes;

	(void)vmbus_hcbox_result(&child.box, &result);
	fill(in, &ctl);
	bytes = vmbus_ctl_encode(&ctl, VMBUS_PROTO_5_3, 0, call.payload, sizeof(call.payload));
	if (bytes < 0)
		return;
	call.bytes = (uint32_t)bytes;
	call.conn_id = ctl.type == VMBUS_CTL_CONTACT ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE;
	if (take(in, 1) % 16 == 0)
		call.payload[take(in, 1) % 240] = (uint8_t)take(in, 1);
	bytes = vmbus_hc_encode(&call, input, sizeof(input));
	check(bytes > 0);
	regs.control = vmbus_hc_control_encode(&control);
	(void)vmbus_hcbox_put(&child.box, &regs, input, (size_t)bytes);
	set_flag(VMBUS_SHM_CONTROL_BIT);
	check(vmbus_shm_server_dispatch(parent.server, 8) >= 0);
}

/* Take the message that lies there, or leave it. */
static void listen_to_parent(void)
{
	struct vmbus_synic_msg msg;
	bool eom;

	if (vmbus_synic_take(child.map + 2 * VMBUS_PAGE_BYTES, VMBUS_SINT_MESSAGE, &msg, &eom) > 0)
		child.heard++;
	if (eom)
		set_flag(VMBUS_SHM_CONTROL_BIT);
}

static void scribble(struct input *in, uint64_t from, uint64_t bytes)
{
	uint64_t at = from + take(in, 3) % bytes;
	uint32_t n = take(in, 1) % 16 + 1;

	while (n-- && at < from + bytes)
		child.map[at++] = (uint8_t)take(in, 1);
}

static void operate(struct input *in)
{
	const uint32_t op = take(in, 1);

	switch (op % 12) {
	case 0:
	case 1:
	case 2:
	case 3:
		post(in);
		break;
	case 4:
		listen_to_parent();
		break;
	case 5:
		set_flag(take(in, 2));
		break;
	case 6:
		scribble(in, 0, HEAP_PAGE * VMBUS_PAGE_BYTES);
		break;
	case 7:
		scribble(in, HEAP_PAGE * VMBUS_PAGE_BYTES,
			 MEMORY_BYTES - HEAP_PAGE * VMBUS_PAGE_BYTES);
		break;
	case 8: /* a ring's control words */
		scribble(in, (HEAP_PAGE + take(in, 1) % 60) * (uint64_t)VMBUS_PAGE_BYTES, 16);
		break;
	case 9:
		memset(child.map + VMBUS_PAGE_BYTES, 0xFF, VMBUS_PAGE_BYTES);
		ring();
		break;
	case 10:
		memset(child.map + take(in, 1) % 4 * VMBUS_PAGE_BYTES, (int)take(in, 1),
		       VMBUS_PAGE_BYTES);
		break;
	default:
		check(vmbus_shm_server_dispatch(parent.server, take(in, 1) + 1) >= 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t ops;

	parent_start();
	attach();
	for (ops = 0; ops < 200 && in.left; ops++)
		operate(&in);
	parent_spin();
	leave();
	parent_is_clean();
	return 0;
}
