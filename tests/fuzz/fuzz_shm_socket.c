/* SPDX-License-Identifier: MIT */
/*
 * The socket of a live parent: connections that come and go, and say anything, whole messages with
 * changed bytes, cut ones and noise, each with 0 to 253 descriptors.  Afterwards nothing is left.
 */
#include "fuzz/shm_parent.h"

#define CONNECTIONS 4

static int socks[CONNECTIONS] = { -1, -1, -1, -1 };

/* A message as an honest child would say it, with up to four of its bytes changed. */
static uint32_t make(struct input *in, uint8_t bytes[VMBUS_SHM_MSG_MAX])
{
	struct vmbus__shm_msg msg = { .type = take(in, 1) % (VMBUS_SHM_TYPES + 1) };
	uint32_t len, changes = take(in, 1) % 5;

	msg.u.hello.memory = (uint64_t)take(in, 3) * 64;
	msg.u.hello.vps = take(in, 1) % 6;
	len = vmbus__shm_encode(&msg, bytes);
	while (changes--)
		bytes[take(in, 2) % VMBUS_SHM_MSG_MAX] = (uint8_t)take(in, 1);
	if (take(in, 1) % 4 == 0)
		len = take(in, 2) % (VMBUS_SHM_MSG_MAX + 1);
	return len;
}

static void send_with(int sock, const uint8_t *bytes, size_t len, uint32_t count)
{
	static union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * VMBUS_SHM_FDS_MAX)];
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	uint32_t i;

	if (count) {
		int fds[VMBUS_SHM_FDS_MAX];

		for (i = 0; i < count; i++)
			fds[i] = 0;
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * count);
	}
	(void)!sendmsg(sock, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void hang_up(uint32_t n)
{
	if (socks[n] >= 0)
		close(socks[n]);
	socks[n] = -1;
}

static void hear(int sock)
{
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;

	while (vmbus__shm_recv(sock, &record) > 0) {
		check(vmbus__shm_decode(record.bytes, record.len, &msg) == 0);
		vmbus__shm_record_close(&record);
	}
}

static void operate(struct input *in)
{
	const uint32_t op = take(in, 1), n = op / 8 % CONNECTIONS;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	uint32_t len;

	switch (op % 8) {
	case 0:
		hang_up(n);
		break;
	case 1:
	case 2:
		check(vmbus_shm_server_dispatch(parent.server, take(in, 1) + 1) >= 0);
		break;
	case 3:
		if (socks[n] >= 0)
			hear(socks[n]);
		break;
	default:
		if (socks[n] < 0)
			socks[n] = vmbus__shm_connect(parent.path, 1000000000u);
		len = make(in, bytes);
		if (socks[n] >= 0)
			send_with(socks[n], bytes, len,
				  op % 8 < 6 ? 0 : take(in, 1) % (VMBUS_SHM_FDS_MAX + 1));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus__shm_msg msg;
	uint32_t n, ops;

	(void)vmbus__shm_decode(data, size, &msg); /* the parser alone, any length */
	parent_start();
	for (ops = 0; ops < 64 && in.left; ops++)
		operate(&in);
	parent_spin();
	for (n = 0; n < CONNECTIONS; n++)
		hang_up(n);
	parent_is_clean();
	return 0;
}
