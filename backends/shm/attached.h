/* SPDX-License-Identifier: MIT */
/* What the files of the child's side share. */
#ifndef VMBUS_SHM_ATTACHED_H
#define VMBUS_SHM_ATTACHED_H

#include <pthread.h>

#include <vmbus/hypercall.h>
#include <vmbus/shm_bus.h>
#include <vmbus/synic.h>

#include "shm/pages.h"
#include "shm/proto.h"
#include "shm/sys.h"

/* How a channel is signalled; the lock is for a BIND that comes while another thread signals. */
struct vmbus__shm_bound {
	pthread_mutex_t lock;
	int fd; /* -1: by its event flag */
};

struct vmbus_shm_attach {
	struct vmbus_guest *guest;
	int sock;
	int pidfd;    /* of the parent, or -1 */
	int doorbell; /* we ring it */
	int listener; /* a set of the parent's that hears its bell */
	int memfd;
	int epoll_fd; /* all that can wake us */
	int again_fd;
	int kick_fd;  /* something was asked for outside of dispatch; rung by any thread */
	int timer_fd; /* when the guest wants a turn although nothing happens */
	bool again_set;
	bool ending;  /* detaching: the guest may be destroyed */
	bool gone;    /* the parent is gone, or broke the rules */
	bool told;    /* the guest knows that */
	bool posting; /* a hypercall is in the mailbox */
	bool huge;
	bool locks;			/* the locks of bound are there */
	bool logging;			/* log() is called from outside of the guest */
	bool lacked;			/* a descriptor found no room, which was told */
	char why[VMBUS_SHM_TEXT_BYTES]; /* it is gone; "" before */
	uint8_t *map;
	uint64_t bytes;
	uint32_t vps;
	uint32_t first_vp; /* page */
	uint32_t target_vp;
	uint32_t target_sint;
	uint32_t mailbox; /* page */
	uint32_t parents; /* that took over from another */
	struct vmbus__shm_pages pages;
	void (*log)(void *ctx, const char *line); /* the guest's */
	void *log_ctx;
	struct vmbus_synic out; /* our event flags for the parent, as a SynIC of its own */
	struct vmbus_hcbox_child box;
	struct vmbus__shm_bound bound[VMBUS_SHM_RELIDS];
};

/* What woke us: data of the epoll set. */
enum vmbus__shm_wake {
	VMBUS_SHM_WAKE_SOCK = 1,
	VMBUS_SHM_WAKE_PROCESS,
	VMBUS_SHM_WAKE_LISTENER,
	VMBUS_SHM_WAKE_AGAIN,
	VMBUS_SHM_WAKE_TIMER,
	VMBUS_SHM_WAKE_KICK
};

extern const struct vmbus_guest_backend vmbus__shm_guest_backend;

/* Wait for a wake-up and take it: doorbell, messages, the parent's end. */
int vmbus__shm_take_wakeups(struct vmbus_shm_attach *attach, uint64_t timeout_ns);
/* Take every message that waits in the socket. */
void vmbus__shm_take_messages(struct vmbus_shm_attach *attach);
void vmbus__shm_tell_guest(struct vmbus_shm_attach *attach);
/* Raise the event flag of a connection; any thread. */
void vmbus__shm_signal_once(struct vmbus_shm_attach *attach, uint32_t conn_id);
/* The parent is gone, for a reason; the first one counts. */
void vmbus__shm_lose_parent(struct vmbus_shm_attach *attach, const char *why);

#endif
