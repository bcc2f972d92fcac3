/* SPDX-License-Identifier: MIT */
/* The child without the library's guest: vmbus_shm(7) has the bytes, vmbus_channel(7) the messages. */
#include "raw_child.h"

#include <vmbus/synic.h>

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAGIC 0x53424D56u
#define HELLO 1u
#define HELLO_BYTES 112u
#define WELCOME 2u
#define WELCOME_BYTES 64u
#define WAIT_NS 2000000000u
#define FLAGS_BYTES 256u /* of one SINT */

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v)); /* little-endian, as both sides are */
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int say_hello(int sock, uint64_t bytes)
{
	uint8_t hello[HELLO_BYTES] = { 0 };

	put32(hello, MAGIC);
	put32(hello + 4, HELLO << 16 | 1u);
	put32(hello + 8, HELLO_BYTES);
	memcpy(hello + 16, &bytes, sizeof(bytes));
	put32(hello + 24, 1);
	memcpy(hello + 32, "hostile", 7);
	return send(sock, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello) ? 0 : -1;
}

/* The parent's answer and its descriptors. */
static int take_welcome(struct raw_child *rc)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 4)];
	} control;
	uint8_t bytes[1024];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr hdr = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	const ssize_t n = recvmsg(rc->sock, &hdr, MSG_CMSG_CLOEXEC);
	int fds[4] = { -1, -1, -1, -1 };
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&hdr) : NULL;

	if (n != (ssize_t)WELCOME_BYTES || get32(bytes + 4) >> 16 != WELCOME || !c)
		return -1;
	memcpy(fds, CMSG_DATA(c),
	       c->cmsg_len - CMSG_LEN(0) < sizeof(fds) ? c->cmsg_len - CMSG_LEN(0) : sizeof(fds));
	rc->memfd = fds[0];
	rc->bell = fds[1];
	rc->listener = fds[2];
	if (fds[3] >= 0)
		(void)close(fds[3]);
	memcpy(&rc->bytes, bytes + 16, sizeof(rc->bytes));
	rc->flags_page = get32(bytes + 36);
	rc->first_vp = get32(bytes + 40);
	rc->heap = get32(bytes + 44);
	rc->map = mmap(NULL, rc->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rc->memfd, 0);
	if (rc->map == MAP_FAILED)
		return -1;
	return vmbus_hcbox_child_init(&rc->box, rc->map + get32(bytes + 32) * VMBUS_PAGE_BYTES);
}

int raw_attach(struct raw_child *rc, const char *path, uint64_t bytes)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memset(rc, 0, sizeof(*rc));
	rc->memfd = rc->bell = rc->listener = -1;
	rc->map = MAP_FAILED;
	memcpy(at.sun_path, path, strnlen(path, sizeof(at.sun_path) - 1));
	rc->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (rc->sock >= 0 && !connect(rc->sock, (struct sockaddr *)&at, sizeof(at)) &&
	    !say_hello(rc->sock, bytes) && !take_welcome(rc))
		return 0;
	raw_die(rc);
	return -1;
}

void raw_die(struct raw_child *rc)
{
	const int fds[4] = { rc->sock, rc->memfd, rc->bell, rc->listener };

	if (rc->map != MAP_FAILED)
		(void)munmap(rc->map, rc->bytes);
	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

void raw_flags(struct raw_child *rc, uint32_t word, uint64_t bits)
{
	uint64_t *const page = (uint64_t *)(void *)(rc->map + rc->flags_page * VMBUS_PAGE_BYTES +
						    VMBUS_SINT_MESSAGE * FLAGS_BYTES);
	const uint64_t one = 1;

	__atomic_fetch_or(&page[word], bits, __ATOMIC_RELEASE);
	(void)!write(rc->bell, &one, sizeof(one));
}

int raw_post(struct raw_child *rc, const struct vmbus_ctl *ctl)
{
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_regs regs = { .control = vmbus_hc_control_encode(&control) };
	struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE,
				      .conn_id = ctl->type == VMBUS_CTL_CONTACT
							 ? VMBUS_CONN_CONTACT
							 : VMBUS_CONN_MESSAGE,
				      .type = VMBUS_MSG_TYPE_CTL };
	const uint64_t until = now_ns() + WAIT_NS;
	const int bytes = vmbus_ctl_encode(ctl, rc->version, 0, call.payload, sizeof(call.payload));
	uint8_t input[VMBUS_HC_INPUT_MAX];
	uint64_t result;
	int err, in;

	call.bytes = bytes > 0 ? (uint32_t)bytes : 0;
	in = vmbus_hc_encode(&call, input, sizeof(input));
	if (bytes < 0 || in < 0 || vmbus_hcbox_put(&rc->box, &regs, input, (size_t)in))
		return -1;
	raw_flags(rc, 0, 1);
	while ((err = vmbus_hcbox_result(&rc->box, &result)) == VMBUS_E_AGAIN && now_ns() < until)
		relax();
	return err == 1 ? (int)(result & 0xFFFFu) : -1;
}

uint32_t raw_take(struct raw_child *rc, struct vmbus_ctl *ctl, uint64_t ns)
{
	const uint64_t until = now_ns() + ns;
	struct vmbus_synic_msg msg;
	bool eom = false;

	do {
		const int got = vmbus_synic_take(rc->map + rc->first_vp * VMBUS_PAGE_BYTES,
						 VMBUS_SINT_MESSAGE, &msg, &eom);

		if (eom)
			raw_flags(rc, 0, 1);
		if (got == 1 && !vmbus_ctl_decode(msg.payload, msg.bytes, rc->version, 0, ctl))
			return ctl->type;
		relax();
	} while (now_ns() < until);
	return 0;
}

uint32_t raw_connect(struct raw_child *rc)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	uint32_t relid = 0, type;

	ctl.u.contact.version = VMBUS_PROTO_5_3;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	if (raw_post(rc, &ctl) || raw_take(rc, &ctl, WAIT_NS) != VMBUS_CTL_VERSION_RESPONSE)
		return 0;
	rc->version = VMBUS_PROTO_5_3;
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_REQUEST_OFFERS };
	if (raw_post(rc, &ctl))
		return 0;
	while ((type = raw_take(rc, &ctl, WAIT_NS)) == VMBUS_CTL_OFFER)
		relid = relid ? relid : ctl.u.offer.relid;
	return type == VMBUS_CTL_ALL_OFFERS ? relid : 0;
}

int raw_gpadl(struct raw_child *rc, uint32_t relid, uint32_t gpadl, uint32_t first, uint32_t pages)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };

	ctl.u.gpadl.relid = relid;
	ctl.u.gpadl.gpadl = gpadl;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.range_bytes = 8u + 8u * pages;
	ctl.u.gpadl.count = 1u + pages;
	ctl.u.gpadl.qwords[0] = (uint64_t)pages * VMBUS_PAGE_BYTES;
	for (uint32_t i = 0; i < pages; i++)
		ctl.u.gpadl.qwords[1 + i] = rc->heap + first + i;
	return raw_post(rc, &ctl);
}
