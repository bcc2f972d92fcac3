/* SPDX-License-Identifier: MIT */
/*
 * Raw messages of providers: one side of the socket played by hand, in any order.
 */
#ifndef VMBUS_TESTS_PROVIDER_SCRIPT_H
#define VMBUS_TESTS_PROVIDER_SCRIPT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/echo.h>
#include <vmbus/provider.h>

#include "../../backends/shm/provider_proto.h"
#include "../../backends/shm/sys.h"
#include "vmbus_test.h"

#define MS ((uint64_t)1000000u)

/* The next record, if there is one; its descriptors are the test's. */
static inline bool script_take(int sock, struct vmbus__shm_record *record,
			       struct vmbus__pv_msg *msg)
{
	if (vmbus__shm_recv(sock, record) != 1)
		return false;
	must_eq(vmbus__pv_decode(record->bytes, record->len, msg), 0);
	return true;
}

/* Whether the other side has closed the connection, whatever it said before. */
static inline bool script_closed(int sock)
{
	struct vmbus__shm_record record;
	int got;

	do {
		got = vmbus__shm_recv(sock, &record);
		vmbus__shm_record_close(&record);
	} while (got == 1);
	return got == VMBUS_E_PEER;
}

static inline void script_send(int sock, const struct vmbus__pv_msg *msg)
{
	must_eq(vmbus__pv_send(sock, msg, NULL, 0), 0);
}

/* A message with any number of descriptors, up to 253; 0 when it was sent. */
static inline int script_send_fds(int sock, const struct vmbus__pv_msg *msg, int fd, uint32_t n)
{
	static union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 253)];
	} control;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	struct iovec iov = { bytes, vmbus__pv_encode(msg, bytes) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[253];
	uint32_t i;

	for (i = 0; i < n; i++)
		fds[i] = fd;
	memset(&control, 0, sizeof(control));
	if (n) {
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n);
	}
	return sendmsg(sock, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static inline struct vmbus__pv_msg script_provide(uint32_t flags)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_PROVIDE,
				     .flags = flags,
				     .max_payload = 4096,
				     .journal = flags & VMBUS_PV_RESUMABLE ? 65536 : 0,
				     .class_id = VMBUS_ECHO_CLASS,
				     .name = "raw",
				     .vsp = "echo" };

	return msg;
}

#endif
