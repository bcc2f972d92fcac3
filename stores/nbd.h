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

/* A queue's part in a connection. */
struct vmbus__nbd_use {
	struct vmbus__nbd_conn *conn; /* NULL: none */
	struct vmbus__nbd_use *next;  /* of the connection's */
	int epoll_fd;
};

/* A connection.  Several queues use it where the server allows one only: whoever comes first reads
   what has arrived, and rings for the others.  Everything in it is under the lock, but until it is
   ready: then it is of the one who makes it. */
struct vmbus__nbd_conn {
	pthread_mutex_t lock;
	struct nbd_handle *h;
	uint64_t until_ns; /* it is to be ready */
	int fd;
	uint32_t events; /* that the epoll descriptors of its queues wait for */
	bool dead;
	struct vmbus__nbd_use *users;
};

/*
 * What one channel uses: the store's connection, or one of its own.  The latter comes up while the
 * former is used; then both are, with the locks of both held, until what was begun on the former has
 * ended.
 */
struct vmbus__nbd_queue {
	struct vmbus__nbd_use shared, own;
	struct vmbus__nbd_conn *coming; /* not ready yet, or NULL */
	uint32_t on_shared;		/* rounds under way there */
	int epoll_fd;
	int bell_fd;
	bool rung;
	bool lost;		 /* what others were told done may be lost: no flush is good */
	uint64_t bounced;	 /* bytes of buffers */
	struct vmbus_io *giving; /* to libnbd just now, and has not ended */
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
	struct vmbus__nbd_conn
		*renewed; /* to come after first, which is dead; not ready, or NULL */
	uint32_t queues;
	bool lost; /* first was renewed while there were queues, and some of those are there still */
};

/* A new connection, ready.  why, bytes: a text if it fails.  Errors: those of vmbus_store_nbd(). */
int vmbus__nbd_connect(const struct vmbus__nbd *nbd, struct vmbus__nbd_conn **conn, char *why,
		       size_t bytes);
void vmbus__nbd_disconnect(struct vmbus__nbd_conn *conn);

/* A queue begins, ends to use connections. */
int vmbus__nbd_join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q);
void vmbus__nbd_leave(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q);

/* All that a queue uses. */
void vmbus__nbd_lock(struct vmbus__nbd_queue *q);
void vmbus__nbd_unlock(struct vmbus__nbd_queue *q);

/* From ready(), without the lock: have the queue's own connection come, and go over to it. */
void vmbus__nbd_come(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q);

/* After any call on the handle, under the lock: what the epoll descriptors must wait for now. */
void vmbus__nbd_update(struct vmbus__nbd_conn *conn);
/* Read and send what can be without waiting, under the lock. */
void vmbus__nbd_drive(struct vmbus__nbd_conn *conn);

#endif
