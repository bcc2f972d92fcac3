/* SPDX-License-Identifier: MIT */
/* The front end of vhost-user, as far as one queue of one device needs it. */
#include "vhost_user.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18
};

#define VERSION 1u
#define PROTOCOL_FEATURES (UINT64_C(1) << 30)
#define ANSWER_S 10

struct region {
	uint64_t guest, bytes, user, offset;
};

struct message {
	uint32_t request, flags, bytes;
	union {
		uint64_t u64;
		struct {
			uint32_t index, num;
		} state;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} addr;
		struct {
			uint32_t count, pad;
			struct region region;
		} table;
	} u;
} __attribute__((packed));
#define HEADER_BYTES 12u

void vhost_user_init(struct vhost_user *vu)
{
	memset(vu, 0, sizeof(*vu));
	vu->sock = vu->memfd = vu->kick = vu->call = -1;
}

static int say(const struct vhost_user *vu, struct message *m, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { m, HEADER_BYTES + m->bytes };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	m->flags = VERSION;
	if (fd >= 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		hdr.msg_control = &control;
		hdr.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(vu->sock, &hdr, MSG_NOSIGNAL) == (ssize_t)iov.iov_len ? 0 : -1;
}

static int say_u64(const struct vhost_user *vu, enum request request, uint64_t v, int fd)
{
	struct message m = { .request = request, .bytes = sizeof(v), .u.u64 = v };

	return say(vu, &m, fd);
}

static int say_state(const struct vhost_user *vu, enum request request, uint32_t num)
{
	struct message m = { .request = request, .bytes = sizeof(m.u.state) };

	m.u.state.num = num;
	return say(vu, &m, -1);
}

static int ask_u64(const struct vhost_user *vu, enum request request, uint64_t *v)
{
	struct message m = { .request = request };
	const ssize_t want = (ssize_t)(HEADER_BYTES + sizeof(*v));

	if (say(vu, &m, -1) || recv(vu->sock, &m, (size_t)want, MSG_WAITALL) != want ||
	    m.request != request || m.bytes != sizeof(*v))
		return -1;
	*v = m.u.u64;
	return 0;
}

int vhost_user_connect(struct vhost_user *vu, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const struct timeval answer = { .tv_sec = ANSWER_S };

	memcpy(at.sun_path, path, strnlen(path, sizeof(at.sun_path) - 1));
	vu->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (vu->sock < 0)
		return -1;
	if (connect(vu->sock, (struct sockaddr *)&at, sizeof(at)) == 0 &&
	    setsockopt(vu->sock, SOL_SOCKET, SO_RCVTIMEO, &answer, sizeof(answer)) == 0)
		return 0;
	(void)close(vu->sock);
	vu->sock = -1;
	return -1;
}

int vhost_user_memory(struct vhost_user *vu, size_t bytes)
{
	void *mem = MAP_FAILED;

	vu->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vu->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vu->memfd = memfd_create("vmbus-bench vhost", MFD_CLOEXEC);
	vu->bytes = round_up(bytes, 4096);
	if (vu->kick < 0 || vu->call < 0 || vu->memfd < 0)
		return -1;
	if (ftruncate(vu->memfd, (off_t)vu->bytes) == 0)
		mem = mmap(NULL, vu->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			   vu->memfd, 0);
	if (mem == MAP_FAILED)
		return -1;
	vu->mem = mem;
	return 0;
}

static int agree(struct vhost_user *vu)
{
	const uint64_t need = UINT64_C(1) << VIRTIO_F_VERSION_1 | PROTOCOL_FEATURES;
	const uint64_t event = UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX;
	uint64_t features, protocol;

	vu->why = "does not agree on features";
	if (ask_u64(vu, GET_FEATURES, &features) || (features & need) != need ||
	    ask_u64(vu, GET_PROTOCOL_FEATURES, &protocol) ||
	    say_u64(vu, SET_PROTOCOL_FEATURES, 0, -1))
		return -1;
	vu->event_index = features & event;
	features &= need | event;
	return say_u64(vu, SET_FEATURES, features, -1);
}

static int hand_over_memory(struct vhost_user *vu)
{
	struct message m = { .request = SET_MEM_TABLE, .bytes = sizeof(m.u.table) };

	vu->why = "does not take the memory";
	m.u.table.count = 1;
	m.u.table.region = (struct region){ 0, vu->bytes, (uint64_t)(uintptr_t)vu->mem, 0 };
	return say(vu, &m, vu->memfd);
}

static int start_queue(struct vhost_user *vu, const struct vhost_user_queue *queue)
{
	struct message m = { .request = SET_VRING_ADDR, .bytes = sizeof(m.u.addr) };
	struct vring ring;

	vu->why = "does not start the queue";
	vring_init(&ring, queue->size, vu->mem + queue->at, 4096);
	m.u.addr.desc = (uint64_t)(uintptr_t)ring.desc;
	m.u.addr.used = (uint64_t)(uintptr_t)ring.used;
	m.u.addr.avail = (uint64_t)(uintptr_t)ring.avail;
	if (say_state(vu, SET_VRING_NUM, queue->size) || say_state(vu, SET_VRING_BASE, 0) ||
	    say(vu, &m, -1) || say_u64(vu, SET_VRING_CALL, 0, vu->call) ||
	    say_u64(vu, SET_VRING_KICK, 0, vu->kick))
		return -1;
	return say_state(vu, SET_VRING_ENABLE, 1);
}

int vhost_user_start(struct vhost_user *vu, const struct vhost_user_queue *queue)
{
	struct message owner = { .request = SET_OWNER };
	uint64_t features;

	if (agree(vu) || say(vu, &owner, -1) || hand_over_memory(vu) || start_queue(vu, queue))
		return -1;
	/* An answer tells that all of it has been read. */
	return ask_u64(vu, GET_FEATURES, &features);
}

void vhost_user_kick(const struct vhost_user *vu)
{
	const uint64_t one = 1;

	(void)!write(vu->kick, &one, sizeof(one));
}

void vhost_user_close(struct vhost_user *vu)
{
	const int fds[4] = { vu->sock, vu->memfd, vu->kick, vu->call };

	if (vu->mem)
		(void)munmap(vu->mem, vu->bytes);
	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	vhost_user_init(vu);
}
