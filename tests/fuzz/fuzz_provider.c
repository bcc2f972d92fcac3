/* SPDX-License-Identifier: MIT */
/*
 * The socket of device providers from both ends: a live host, with a bus and a child that opens and
 * closes, against a provider that says anything; and a live provider against a parent that does.
 * Messages are such as an honest side says, with members and bytes changed.  Afterwards nothing is
 * left.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/echo.h>
#include <vmbus/shm.h>

#include "fuzz/input.h"
#include "shm/provider_client.h"
#include "shm/provider_host.h"

#define check(cond) ((cond) ? (void)0 : (fprintf(stderr, "%s\n", #cond), abort()))
#define PAGES 64u
#define PAGE ((size_t)VMBUS_PAGE_BYTES)
#define JOURNAL 65536u

/* ---- shared ---- */

static struct {
	int memfd;
	uint8_t *mem;
	int event;
	int set;
	int journal;
} things;

static void make_things(void)
{
	if (things.mem)
		return;
	things.memfd = vmbus_shm_create(PAGES * PAGE);
	things.mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, things.memfd, 0);
	things.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	things.set = epoll_create1(EPOLL_CLOEXEC);
	things.journal = vmbus_shm_create((uint64_t)16 << 20);
	check(things.memfd >= 0 && things.mem != MAP_FAILED && things.event >= 0 &&
	      things.set >= 0 && things.journal >= 0);
}

static int lowest_free_fd(void)
{
	const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int some_fd(struct input *in)
{
	const int fds[] = { things.memfd, things.event, things.set, things.journal, 0 };

	return fds[take(in, 1) % 5u];
}

static void change(struct input *in, uint8_t *bytes, uint32_t *len)
{
	uint32_t changes = take(in, 1);

	changes = changes < 224 ? 0 : changes % 5u;
	while (changes--)
		bytes[take(in, 2) % VMBUS_SHM_MSG_MAX] = (uint8_t)take(in, 1);
	if (take(in, 1) == 255)
		*len = take(in, 2) % (VMBUS_SHM_MSG_MAX + 1u);
}

static void send_any(struct input *in, int sock, const struct vmbus__pv_msg *msg, const int *fds,
		     int fd_count)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX] = { 0 };
	uint32_t len = vmbus__pv_encode(msg, bytes);

	change(in, bytes, &len);
	(void)vmbus__shm_send_bytes(sock, bytes, len, fds, fd_count);
}

static void hear(int sock)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	while (sock >= 0 && vmbus__shm_recv(sock, &record) > 0) {
		check(vmbus__pv_decode(record.bytes, record.len, &msg) == 0);
		vmbus__shm_record_close(&record);
	}
}

/* ---- a host ---- */

static struct {
	struct vmbus_provider_host *host;
	struct vmbus_bus *bus;
	struct vmbus_region region;
	int socks[3];
} h;

static int be_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		   uint32_t bytes)
{
	(void)ctx;
	(void)vp;
	(void)sint;
	(void)type;
	(void)payload;
	(void)bytes;
	return 0;
}

static int be_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	(void)ctx;
	(void)vp;
	(void)sint;
	(void)flag;
	return 0;
}

static int be_wake(void *ctx, uint32_t vp, uint32_t sint, struct vmbus_wake *wake)
{
	(void)ctx;
	(void)sint;
	wake->gpa = PAGE;
	wake->fd = things.event;
	return vp ? VMBUS_E_NOTSUP : 0;
}

static const struct vmbus_backend backend = {
	.struct_bytes = sizeof(backend), .post = be_post, .raise = be_raise, .wake = be_wake
};

static void add_bus(void)
{
	struct vmbus_region *const regions[] = { &h.region };
	const struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts),
					     .backend = &backend,
					     .name = "fuzz",
					     .regions = regions,
					     .region_count = 1 };

	if (h.bus)
		return;
	check(vmbus_bus_create(&opts, &h.bus) == 0);
	check(vmbus_provider_host_add_bus(h.host, h.bus, regions, 1) == 0);
}

static void remove_bus(void)
{
	if (!h.bus)
		return;
	vmbus_provider_host_remove_bus(h.host, h.bus);
	vmbus_bus_destroy(h.bus);
	h.bus = NULL;
}

static void post(const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const int len = vmbus_ctl_encode(ctl, VMBUS_PROTO_5_3, 0, bytes, sizeof(bytes));

	if (len > 0)
		(void)vmbus_bus_post_message(h.bus,
					     ctl->type == VMBUS_CTL_CONTACT ? VMBUS_CONN_CONTACT
									    : VMBUS_CONN_MESSAGE,
					     VMBUS_MSG_TYPE_CTL, bytes, (uint32_t)len);
}

/* Something that a child may do. */
static void child_does(struct input *in)
{
	struct vmbus_ctl ctl = { 0 };
	const uint32_t relid = 1 + take(in, 1) % 4u, what = take(in, 1) % 9u;
	uint32_t i;

	if (!h.bus)
		return;
	switch (what) {
	case 0:
		ctl.type = VMBUS_CTL_CONTACT;
		ctl.u.contact.version = VMBUS_PROTO_5_3;
		ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
		post(&ctl);
		vmbus_bus_dispatch(h.bus, 16);
		memset(&ctl, 0, sizeof(ctl));
		ctl.type = VMBUS_CTL_REQUEST_OFFERS;
		break;
	case 1:
	case 2:
		ctl.type = VMBUS_CTL_GPADL_HEADER;
		ctl.u.gpadl.relid = relid;
		ctl.u.gpadl.gpadl = 1 + take(in, 1) % 4u;
		ctl.u.gpadl.range_bytes = 72;
		ctl.u.gpadl.range_count = 1;
		ctl.u.gpadl.count = 9;
		ctl.u.gpadl.qwords[0] = 8 * PAGE;
		for (i = 0; i < 8; i++)
			ctl.u.gpadl.qwords[1 + i] = 8 + i;
		break;
	case 3:
	case 4:
		ctl.type = VMBUS_CTL_OPEN;
		ctl.u.open.relid = relid;
		ctl.u.open.gpadl = 1 + take(in, 1) % 4u;
		ctl.u.open.downstream_page = 4;
		ctl.u.open.target_vp = take(in, 1) % 3u - 1u;
		break;
	case 5:
		ctl.type = VMBUS_CTL_CLOSE;
		ctl.u.chan.relid = relid;
		break;
	case 6:
		ctl.type = VMBUS_CTL_GPADL_TEARDOWN;
		ctl.u.created.relid = relid;
		ctl.u.created.gpadl = 1 + take(in, 1) % 4u;
		break;
	case 7:
		ctl.type = VMBUS_CTL_RELID_RELEASED;
		ctl.u.chan.relid = relid;
		break;
	default:
		(void)vmbus_bus_signal_event(h.bus, 0x2000u + relid, 0);
		return;
	}
	post(&ctl);
}

static void spin(struct input *in)
{
	uint32_t i, n = take(in, 1) % 8u;

	for (i = 0; i <= n; i++) {
		check(vmbus_provider_host_dispatch(h.host, 1 + i * 16u) >= 0);
		if (h.bus)
			(void)vmbus_bus_dispatch(h.bus, 16);
	}
}

static void provide(struct input *in, uint32_t n)
{
	static const char *const names[] = { "a", "b", "" };
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_PROVIDE,
				     .flags = take(in, 1) % 4u,
				     .class_id = VMBUS_ECHO_CLASS,
				     .vsp = "echo" };
	int pair[2];

	if (h.socks[n] >= 0)
		close(h.socks[n]);
	h.socks[n] = -1;
	msg.journal = msg.flags & VMBUS_PV_RESUMABLE ? JOURNAL : 0;
	(void)snprintf(msg.name, sizeof(msg.name), "%s", names[take(in, 1) % 3u]);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return;
	vmbus__pvh_take(h.host, pair[0], &msg);
	h.socks[n] = pair[1];
}

static void provider_says(struct input *in, uint32_t n)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_FIRST + take(in, 1) % 21u };
	const int fds[] = { things.event, things.memfd };
	const uint32_t count = take(in, 1);

	msg.bus = take(in, 1) % 6u;
	msg.sub = take(in, 1) % 4u;
	msg.open = take(in, 1) % 8u;
	msg.gpadl = take(in, 1) % 5u;
	msg.count = take(in, 1) % 5u;
	msg.err = take(in, 1) % 3u;
	if (msg.type == VMBUS_PV_MEMORY) {
		msg.name[0] = (char)('a' + msg.sub);
		msg.bytes = msg.gpadl * PAGE;
	}
	if (h.socks[n] >= 0)
		send_any(in, h.socks[n], &msg, fds, count > 250 ? (int)(count - 250) % 3 : 0);
}

static void host_operate(struct input *in)
{
	const uint32_t op = take(in, 1), n = op / 16u % 3u;

	switch (op % 16u) {
	case 0:
		provide(in, n);
		break;
	case 1:
		if (h.socks[n] >= 0)
			close(h.socks[n]);
		h.socks[n] = -1;
		break;
	case 2:
		add_bus();
		break;
	case 3:
		if (take(in, 1) % 4u == 0)
			remove_bus();
		break;
	case 4:
		hear(h.socks[n]);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		child_does(in);
		spin(in);
		break;
	case 9:
		spin(in);
		break;
	default:
		provider_says(in, n);
		spin(in);
		break;
	}
}

static void fuzz_host(struct input *in)
{
	struct vmbus_provider_host_opts opts = { .struct_bytes = sizeof(opts), .providers_max = 2 };
	uint32_t ops, n;

	h.region = (struct vmbus_region){
		.bytes = PAGES * PAGE, .host = things.mem, .fd = things.memfd, .access = 3
	};
	h.socks[0] = h.socks[1] = h.socks[2] = -1;
	check(vmbus_provider_listen(&opts, &h.host) == 0);
	add_bus();
	for (ops = 0; ops < 128 && in->left; ops++)
		host_operate(in);
	for (n = 0; n < 3; n++)
		if (h.socks[n] >= 0)
			close(h.socks[n]);
	if (take(in, 1) % 2u)
		remove_bus();
	vmbus_provider_host_destroy(h.host);
	if (h.bus)
		vmbus_bus_destroy(h.bus);
	h.bus = NULL;
}

/* ---- a provider ---- */

static struct vmbus__pv_msg parent_msg(struct input *in)
{
	static const uint8_t types[] = { VMBUS_PV_BUS,	 VMBUS_PV_REGION,   VMBUS_PV_GPADL,
					 VMBUS_PV_OPEN,	 VMBUS_PV_CLOSE,    VMBUS_PV_GPADL_GONE,
					 VMBUS_PV_OPEN,	 VMBUS_PV_MODIFY,   VMBUS_PV_SIGNAL,
					 VMBUS_PV_GPADL, VMBUS_PV_BUS_GONE, VMBUS_PV_BUS,
					 VMBUS_PV_YIELD, VMBUS_PV_OPEN,	    VMBUS_PV_MEMORY_IS };
	struct vmbus__pv_msg msg = { .type = types[take(in, 1) % sizeof(types)] };
	uint32_t i;

	msg.bus = take(in, 1) % 3u;
	msg.sub = take(in, 1) % 8u ? 0 : take(in, 1) % 4u;
	msg.open = take(in, 1) % 4u;
	msg.gpadl = take(in, 1) % 3u;
	msg.event_flag = 21;
	msg.gpa = 2 * PAGE;
	msg.down_page = 4;
	msg.ranges = 1;
	if (msg.type == VMBUS_PV_GPADL) {
		msg.count = 9;
		msg.qwords[0] = 8 * PAGE;
		for (i = 0; i < 8; i++)
			msg.qwords[1 + i] = 8 + i;
	} else if (msg.type == VMBUS_PV_BUS) {
		msg.count = 1;
	} else if (msg.type == VMBUS_PV_REGION) {
		msg.access = 3;
		msg.gpa = 0;
		msg.bytes = PAGES * PAGE;
	} else if (msg.type == VMBUS_PV_MEMORY_IS) {
		msg.bytes = (take(in, 1) % 3u) * PAGE;
		msg.code = take(in, 1) % 4u ? 0 : take(in, 1);
	}
	return msg;
}

static void parent_says(struct input *in, int sock, bool resumable)
{
	struct vmbus__pv_msg msg = parent_msg(in);
	int fds[4], count = 0;

	if (msg.type == VMBUS_PV_REGION || (msg.type == VMBUS_PV_MEMORY_IS && msg.bytes))
		fds[count++] = things.memfd;
	if (msg.type == VMBUS_PV_OPEN) {
		msg.flags = VMBUS_PV_LISTENER | (resumable ? VMBUS_PV_JOURNAL : 0) |
			    (take(in, 1) % 4u ? 0 : VMBUS_PV_RESUME);
		fds[count++] = things.set;
		if (resumable)
			fds[count++] = things.journal;
	}
	if ((msg.type == VMBUS_PV_OPEN || msg.type == VMBUS_PV_MODIFY) && take(in, 1) % 4u) {
		msg.flags |= VMBUS_PV_WAKE;
		fds[count++] = things.event;
	}
	if (take(in, 1) > 250)
		fds[count++] = some_fd(in);
	send_any(in, sock, &msg, fds, count);
}

/* What a child leaves in its memory. */
static void scribble(struct input *in)
{
	uint32_t n = take(in, 1) % 16u;

	while (n--)
		things.mem[8 * PAGE + take(in, 2) % (8 * PAGE)] = (uint8_t)take(in, 1);
}

/* Ask for memory; the answer may be there already, or come too late. */
static bool ask(struct input *in, struct vmbus_provider *provider)
{
	const uint32_t how = take(in, 1);
	int fd = -1, got;

	if (how % 4u)
		return true;
	got = how % 8u ? vmbus_provider_memory_free(provider, "a")
		       : vmbus_provider_memory(provider, "a", PAGE, &fd);
	check((fd >= 0) == (how % 8u == 0 && got == 0));
	if (fd >= 0)
		close(fd);
	return got != VMBUS_E_PEER;
}

static void fuzz_client(struct input *in, bool resumable)
{
	struct vmbus_vsp vsp = *vmbus_echo_vsp();
	struct vmbus_provider_opts opts = {
		.struct_bytes = sizeof(opts), .vsp = &vsp, .timeout_ns = 1000, .spin_ns = 1000
	};
	struct vmbus_provider *provider;
	uint32_t ops, i, calls;
	int pair[2], got = 0;

	if (!resumable)
		vsp.flags = 0;
	memset(things.mem, 0, PAGES * PAGE);
	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	check(vmbus__pvc_start(&opts, pair[0], &provider) == 0);
	for (ops = 0; ops < 128 && in->left && got != VMBUS_E_PEER; ops++) {
		parent_says(in, pair[1], resumable);
		if (take(in, 1) % 4u == 0)
			scribble(in);
		if (!ask(in, provider))
			break;
		calls = 1u + take(in, 1) % 6u;
		for (i = 0; i < calls; i++) {
			got = i % 2u ? vmbus_provider_wait(provider, 0)
				     : vmbus_provider_dispatch(provider, 1u + i * 16u);
			check(got >= 0 || got == VMBUS_E_PEER || got == VMBUS_E_AGAIN);
		}
		hear(pair[1]);
	}
	vmbus_provider_detach(provider);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus__pv_msg msg;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	int before;

	make_things();
	if (vmbus__pv_decode(data, size, &msg) == 0) /* the parser alone, any length */
		check(vmbus__pv_encode(&msg, bytes) == size);
	before = lowest_free_fd();
	switch (take(&in, 1) % 3u) {
	case 0:
		fuzz_host(&in);
		break;
	case 1:
		fuzz_client(&in, false);
		break;
	default:
		fuzz_client(&in, true);
		break;
	}
	check(lowest_free_fd() == before);
	return 0;
}
