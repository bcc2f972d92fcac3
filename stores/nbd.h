/* SPDX-License-Identifier: MIT */
/*
 * What the two files of the NBD store share: connections, and who uses which.
 */
#ifndef VMBUS_BLOCK_NBD_H
#define VMBUS_BLOCK_NBD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <libnbd.h>
#include <pthread.h>

#include <vmbus/store_nbd.h>

struct vmbus__nbd_queue;

/* A connection.  Several queues use it where the server allows one only: whoever comes first reads
   what has arrived, and rings for the others.  Everything in it is under the lock. */
struct vmbus__nbd_conn {
	pthread_mutex_t lock;
	struct nbd_handle *h;
	int fd;
	uint32_t events; /* that the epoll descriptors of its queues wait for */
	bool dead;
	struct vmbus__nbd_queue *users;
};

/* What one channel uses. */
struct vmbus__nbd_queue {
	struct vmbus__nbd_conn *conn;
	struct vmbus__nbd_queue *next; /* of the connection */
	int epoll_fd;
	int bell_fd;
	bool rung;
	struct vmbus_io *first, *last; /* ended, and not reported; linked by store[] */
};

struct vmbus__nbd {
	struct vmbus_store_ops ops;
	struct vmbus_store_info info;
	char *uri;
	uint64_t timeout_ns;
	uint32_t transfer_bytes; /* of one read or write */
	bool several;		 /* connections at once are allowed */
	pthread_mutex_t lock;	 /* of what follows, and who uses it */
	struct vmbus__nbd_conn *first;
};

/* A new connection, ready.  why, bytes: a text if it fails.  Errors: those of vmbus_store_nbd(). */
int vmbus__nbd_connect(const struct vmbus__nbd *nbd, struct vmbus__nbd_conn **conn, char *why,
		       size_t bytes);
void vmbus__nbd_disconnect(struct vmbus__nbd_conn *conn);

/* A queue begins, ends to use a connection. */
int vmbus__nbd_join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q);
void vmbus__nbd_leave(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q);

/* After any call on the handle, under the lock: what the epoll descriptors must wait for now. */
void vmbus__nbd_update(struct vmbus__nbd_conn *conn);
/* Read and send what can be without waiting, under the lock. */
void vmbus__nbd_drive(struct vmbus__nbd_conn *conn);

#endif
