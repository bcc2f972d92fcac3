/* SPDX-License-Identifier: MIT */
/*
 * What the files of the controller share.  Two kinds of thread come here: those that change the
 * controller (add, remove), and one for each channel.  What belongs to a channel is touched by its
 * thread; what several touch is under the controller's lock, or an atomic word.
 *
 * Each channel sees the disks by a list of its own (views), which it brings up to date when the
 * number of the list has changed, so a packet takes no lock.  A disk is freed when the last view of
 * it is closed.
 */
#ifndef VMBUS_BLOCK_VSP_H
#define VMBUS_BLOCK_VSP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sys/uio.h>

#include <vmbus/block.h>
#include <vmbus/vsp.h>

#include "base/atomic.h"
#include "block/scsi.h"
#include "storwire/wire.h"

#define VMBUS__LUNS VMBUS_BLOCK_LUNS_MAX
#define VMBUS__TARGETS VMBUS_BLOCK_TARGETS_MAX
#define VMBUS__BATCH_MAX 64u	     /* packets of one callback */
#define VMBUS__FEW 8u		     /* pieces of a buffer that a task has by itself */
#define VMBUS__WIDE_MAX 256u	     /* tasks of a channel that have more at the same time */
#define VMBUS__WIDE_BYTES (4u << 20) /* of their pieces */
#define VMBUS__WORK_FREE                                                                           \
	(512u << 10) /* bytes of work in a callback that cost no more than packets */
#define VMBUS__WORK_MAX (UINT64_C(1) << 30) /* of work in a callback, after which none is begun */
#define VMBUS__NOWHERE 0xFFu		    /* a task that is not of the present callback */
#define VMBUS__REQUESTS_MAX 4096u
#define VMBUS__SUBS_MAX 64u

/* With a journal: the most that is kept of a request, and what its transfer is limited to. */
#define VMBUS__PAYLOAD_MAX 256u
#define VMBUS__KEPT_TRANSFER (1u << 20)
#define VMBUS__KEPT_BYTES                                                                          \
	(VMBUS__PAYLOAD_MAX + 16u + 8u * (VMBUS__KEPT_TRANSFER / VMBUS_PAGE_BYTES + 1u))

enum vmbus__count {
	VMBUS__COUNT_READS,
	VMBUS__COUNT_WRITES,
	VMBUS__COUNT_FLUSHES,
	VMBUS__COUNT_DISCARDS,
	VMBUS__COUNT_READ_BYTES,
	VMBUS__COUNT_WRITTEN_BYTES,
	VMBUS__COUNT_DISCARDED_BYTES,
	VMBUS__COUNT_OTHERS,
	VMBUS__COUNT_FAILED,
	VMBUS__COUNT_REFUSED,
	VMBUS__COUNTS
};

/* A disk that was added.  With other limits it is replaced by another one of the same store. */
struct vmbus__unit {
	struct vmbus__disk disk;
	struct vmbus__place *place;
	uint32_t refs;	/* lock: its place, and views */
	bool read_only; /* as the embedder wants it, whatever the store tells */
};

/* An address; lock. */
struct vmbus__place {
	struct vmbus__unit *unit;      /* NULL: no disk there */
	uint32_t alive;		       /* units that are not freed, or of which removed() runs */
	bool leaving;		       /* removed() is due when the last of them goes */
	uint64_t count[VMBUS__COUNTS]; /* of views that are closed */
};

/* What a guest and its channels have in common: one for each primary channel. */
struct vmbus__nexus {
	struct vmbus__nexus *next; /* lock */
	struct vmbus_chan *primary;
	uint32_t refs;	  /* lock: channels */
	vmbus__a32 ready; /* the initialisation is over */
	vmbus__a32 tell;  /* the guest is to look at its disks */
	/* The thread of the primary channel. */
	uint8_t state;	  /* enum vmbus__init */
	bool repeat;	  /* the last step may come once more: the process before us died in it */
	bool unsettled;	  /* told is 0: unit attentions may be left */
	uint8_t patience; /* callbacks until it is looked at whether any is left */
	uint16_t version;
	uint16_t subs;
	uint64_t ua[VMBUS__TARGETS][VMBUS__LUNS]; /* atomic: unit attentions, VMBUS__UA_* */
};

/* Where the initialisation is, [STOR-INIT]. */
enum vmbus__init {
	VMBUS__INIT_BEGIN = 0,
	VMBUS__INIT_VERSION = 1,
	VMBUS__INIT_PROPERTIES = 2,
	VMBUS__INIT_END = 3,
	VMBUS__INIT_READY = 4
};

/* A disk as a channel has it. */
struct vmbus__view {
	struct vmbus__unit *unit;
	struct vmbus__view *next;    /* among those that are gone */
	struct vmbus__view *touched; /* to be committed at the end of the callback */
	struct vmbus__view *next_fd;
	struct vmbus_store_queue queue;
	uint32_t in_flight;
	int fd; /* in the channel's epoll, or -1; queue.fd or a duplicate */
	bool open, is_touched;
	bool begun;		  /* a request was given to its store since commit() was called */
	bool over;		  /* its store was told to end what is under way */
	uint32_t tried;		  /* the callback in which the store was last asked for a queue */
	uint64_t shown_in_flight; /* atomic */
	uint64_t count[VMBUS__COUNTS]; /* atomic, one writer */
};

/* Room for the pieces of a large buffer: transfer_bytes / 4096 + 1 of each. */
struct vmbus__wide {
	struct vmbus__wide *next;
	struct vmbus_piece *pieces;
	struct iovec *iov;
};

/* A request, and the answer to it while the ring has no room. */
struct vmbus__task {
	struct vmbus__scsi_task scsi;
	struct vmbus__port *port;
	struct vmbus__view *view;
	struct vmbus__task *next;
	struct vmbus__wide *wide;
	uint64_t id;
	uint8_t at; /* number of its packet in this callback, or VMBUS__NOWHERE */
	uint8_t reply_bytes;
	uint8_t path; /* as addressed */
	struct vmbus_sgl sgl;
	struct vmbus_piece pieces[VMBUS__FEW];
	struct iovec iov[VMBUS__FEW];
	uint8_t reply[VMBUS__STOR_BYTES];
};

struct vmbus__queue { /* of tasks, in order */
	struct vmbus__task *first, **last;
};

/* An open channel. */
struct vmbus__port {
	struct vmbus_block *block;
	struct vmbus_chan *chan;
	struct vmbus__nexus *nexus;
	struct vmbus__port *next, **prev; /* of the controller's list; lock */
	vmbus__a32 look;		  /* somebody wrote event_fd; any thread */
	int event_fd, epoll_fd;
	int timer_fd; /* -1, or while it is closing: when stores are to end what is under way */
	/* The thread of the channel. */
	uint64_t number; /* of the list of disks, as views have it */
	bool primary, journal, closing;
	bool ready;	 /* requests are served, as the thread of the channel knows */
	bool reap;	 /* a view that is gone has nothing under way any more */
	bool goes_on;	 /* what was held is begun */
	bool tell_after; /* once the guest has what this callback answers, it was told of said */
	uint64_t said[VMBUS__TARGETS][VMBUS__LUNS / 64u]; /* addresses whose disk is gone */
	uint32_t fds;					  /* views in epoll_fd */
	struct vmbus__view *with_fd;
	uint32_t under_way; /* tasks that are held, or in a store */
	uint32_t scratches; /* of the SCSI layer's commands */
	uint32_t transfer_bytes;
	struct vmbus__view *views[VMBUS__TARGETS][VMBUS__LUNS];
	struct vmbus__view *gone, *touched;
	struct vmbus__task *free, *tasks;
	uint32_t turn; /* number of this callback */
	uint64_t work; /* of stores in this callback, in bytes */
	uint32_t task_count;
	uint32_t fresh; /* tasks that were never used */
	struct vmbus__wide *wide, *wides;
	void *wide_memory;
	size_t wide_bytes;
	struct vmbus__queue replies; /* wait for room */
	struct vmbus__queue held;    /* wait for the primary channel to be ready */
	struct vmbus__task *batch[VMBUS__BATCH_MAX];
};

struct vmbus_block {
	struct vmbus_block_opts opts;
	pthread_mutex_t asking; /* a store of its size; taken before the lock */
	pthread_mutex_t lock;
	uint64_t number; /* atomic; changed with the lock: of the list of disks */
	struct vmbus__place place[VMBUS__TARGETS][VMBUS__LUNS];
	struct vmbus__port *ports;
	struct vmbus__nexus *nexuses;
	uint64_t log_second, log_lines;
};

/* What stands for the disks that there are. */
#define VMBUS__WHO 12u
#define VMBUS__WHO_BITS 22u
struct vmbus__known {
	uint64_t number; /* never 0 */
	uint64_t shapes; /* the number of earlier versions, without ids and limits; never 0 */
	uint32_t who[VMBUS__WHO]; /* the first ones: vmbus__disk_who(), or 0 */
};

/* block.c */
void vmbus__block_log(struct vmbus_block *block, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void vmbus__unit_put(struct vmbus_block *block, struct vmbus__unit *unit);
void vmbus__block_known(struct vmbus_block *block, struct vmbus__known *known);
uint32_t vmbus__disk_who(const struct vmbus__disk *disk);
void vmbus__port_wake(struct vmbus__port *port);

/* disk.c: what an embedder says of a disk, struct_bytes checked.  Returns 0 or an error of
   vmbus_block_add(), and then why has the reason for a log, in VMBUS__WHY_BYTES. */
#define VMBUS__WHY_BYTES 128u
int vmbus__disk_make(struct vmbus__disk *to, const struct vmbus_block_disk *from,
		     const struct vmbus_block_opts *opts, char *why);
int vmbus__disk_size(const struct vmbus__disk *disk, const struct vmbus_store_info *info,
		     uint64_t *bytes, char *why);
int vmbus__disk_ask(const struct vmbus_store *store, struct vmbus_store_info *info, char *why);
uint64_t vmbus__block_mix(uint64_t h, uint64_t v, uint32_t bytes);

/* port.c: tasks and rooms of a channel. */
int vmbus__port_make(struct vmbus_block *block, struct vmbus_chan *chan, struct vmbus__port **port);
void vmbus__port_free(struct vmbus__port *port);
int vmbus__port_answers(struct vmbus__port *port, uint64_t count);
void vmbus__port_set_timer(struct vmbus__port *port);
bool vmbus__port_is_time(struct vmbus__port *port);
struct vmbus__task *vmbus__task_take(struct vmbus__port *port);
void vmbus__task_give(struct vmbus__port *port, struct vmbus__task *task);
void vmbus__queue_add(struct vmbus__queue *queue, struct vmbus__task *task);
struct vmbus__task *vmbus__queue_take(struct vmbus__queue *queue);

/* view.c */
void vmbus__views_refresh(struct vmbus__port *port);
void vmbus__views_reap(struct vmbus__port *port);
void vmbus__views_ready(struct vmbus__port *port);
void vmbus__views_commit(struct vmbus__port *port);
void vmbus__views_close(struct vmbus__port *port);
void vmbus__views_cancel(struct vmbus__port *port);
int vmbus__view_open(struct vmbus__port *port, struct vmbus__view *view);
uint32_t vmbus__view_luns(void *ctx, uint8_t target, uint8_t *luns, uint32_t room);

static inline void vmbus__view_touch(struct vmbus__port *port, struct vmbus__view *view)
{
	if (view->is_touched)
		return;
	view->is_touched = true;
	view->touched = port->touched;
	port->touched = view;
}

/* Counters of a view: one thread writes them, others read them for statistics. */
static inline void vmbus__view_count(struct vmbus__view *view, enum vmbus__count which, uint64_t n)
{
	vmbus__a64 *const word = vmbus__as_a64(&view->count[which]);

	vmbus__st64_relaxed(word, vmbus__ld64_relaxed(word) + n); /* BLOCKSTAT.add */
}

static inline void vmbus__view_flight(struct vmbus__view *view, uint32_t now)
{
	view->in_flight = now;
	vmbus__st64_relaxed(vmbus__as_a64(&view->shown_in_flight), now); /* BLOCKSTAT.add */
}

/* nexus.c: guests, and the initialisation. */
struct vmbus__nexus *vmbus__nexus_get(struct vmbus_block *block, struct vmbus_chan *primary);
void vmbus__nexus_put(struct vmbus_block *block, struct vmbus__nexus *nexus);
void vmbus__nexus_forget(struct vmbus_block *block, struct vmbus__nexus *nexus);
void vmbus__nexus_ready(struct vmbus__port *port);
void vmbus__nexus_tell(struct vmbus__port *port);
void vmbus__nexus_tell_after(struct vmbus__port *port, uint8_t target, uint8_t lun);
void vmbus__nexus_tell_now(struct vmbus__port *port);
void vmbus__nexus_settle(struct vmbus__port *port);
/* Whether it is a version of the protocol that we speak. */
bool vmbus__nexus_knows(uint16_t version);
uint32_t vmbus__nexus_step(struct vmbus__port *port, uint32_t op, const uint8_t *msg,
			   uint8_t *reply);

/* srb.c: requests from the packet to the answer. */
void vmbus__srb_execute(struct vmbus__port *port, const struct vmbus_packet *pkt,
			struct vmbus__task *task);
void vmbus__srb_go_on(struct vmbus__port *port);
void vmbus__srb_drop(struct vmbus__port *port);
void vmbus__task_reply(struct vmbus__task *task);
void vmbus__task_send_replies(struct vmbus__port *port);

/* state.c: what outlives a process. */
void vmbus__state_note(struct vmbus__port *port);
void vmbus__state_note_told(struct vmbus__port *port, bool told);
int vmbus__state_resume(struct vmbus__port *port);
bool vmbus__state_set(struct vmbus__nexus *nexus, uint64_t word);
uint64_t vmbus__state_word(const struct vmbus__nexus *nexus);
int vmbus__state_save(struct vmbus_chan *chan, void *buf, size_t bytes);
int vmbus__state_restore(struct vmbus__port *port, const void *buf, size_t bytes);

#endif
