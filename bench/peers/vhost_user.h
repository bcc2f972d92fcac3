/* SPDX-License-Identifier: MIT */
/* The front end of vhost-user, as far as one queue of one device needs it. */
#ifndef BENCH_PEERS_VHOST_USER_H
#define BENCH_PEERS_VHOST_USER_H

#include "../bench.h"

struct vhost_user {
	int sock;
	int memfd;
	int kick, call;
	uint8_t *mem; /* shared with the back end; its addresses are offsets into it */
	size_t bytes;
	bool event_index;
	const char *why; /* vhost_user_start() failed */
};

struct vhost_user_queue {
	uint32_t size;
	size_t at; /* of the rings, in the shared memory */
};

void vhost_user_init(struct vhost_user *vu);
int vhost_user_connect(struct vhost_user *vu, const char *path);
int vhost_user_memory(struct vhost_user *vu, size_t bytes);
/* Agree on features, hand over the memory, start queue 0. */
int vhost_user_start(struct vhost_user *vu, const struct vhost_user_queue *queue);
void vhost_user_kick(const struct vhost_user *vu);
void vhost_user_close(struct vhost_user *vu);

static inline uint64_t vhost_user_addr(const struct vhost_user *vu, const void *p)
{
	return (uint64_t)((const uint8_t *)p - vu->mem);
}

#endif
