/* SPDX-License-Identifier: MIT */
/*
 * What the files of the provider host share.  All of it belongs to the one thread that dispatches
 * the host and its buses.
 *
 *	host --- device (class, name) --- session (a connection; the next one while it takes over)
 *	    \--- bus		 \--- seat (the device on one bus) --- channel --- page list
 *
 * Nothing is queued for a provider: each channel knows what its provider has been told and what it
 * should be told, and waits in a list of its device until there is room in the socket.  So what a
 * child does without pause costs no memory, and a new provider is told all by marking it untold.
 */
#ifndef VMBUS_SHM_PROVIDER_HOST_H
#define VMBUS_SHM_PROVIDER_HOST_H

#include <sys/types.h>

#include <vmbus/diag.h>
#include <vmbus/provider.h>

#include "shm/provider_proto.h"
#include "shm/sys.h"

#define VMBUS_PVH_CONNS 32u /* connections that have not said what they are */
#define VMBUS_PVH_BUSES_MAX 4096u
#define VMBUS_PVH_DEVICES_MAX 256u
#define VMBUS_PVH_LAST_WORDS 4096u /* messages that one may have sent before it died */

struct vmbus__pvh_chan;
struct vmbus__pvh_seat;
struct vmbus__pvh_device;

/* An answer that is waited for; in a list of its session's by time. */
struct vmbus__pvh_wait {
	struct vmbus__pvh_wait *next, *prev;
	struct vmbus__pvh_session *session; /* NULL: nothing is waited for */
	uint64_t since;
};

/* A page list that the child described. */
struct vmbus__pvh_list {
	struct vmbus__pvh_list *next;
	struct vmbus__pvh_wait wait; /* for GPADL_KNOWN or GPADL_DONE */
	uint32_t id;
	uint32_t count;
	uint32_t ranges;
	bool told;	/* the provider was told of it */
	bool early;	/* the child's answer waits until the provider knows it */
	bool going;	/* the child tears it down */
	bool told_gone; /* and the provider was told */
	uint64_t qwords[];
};

enum vmbus__pvh_state {
	VMBUS_PVH_IDLE = 0,
	VMBUS_PVH_OPENING, /* the bus waits for open_done() */
	VMBUS_PVH_OPEN,
	VMBUS_PVH_CLOSING /* the bus waits for close_done() */
};

/* A channel of the bus that our device is on. */
struct vmbus__pvh_chan {
	struct vmbus__pvh_chan *next; /* of the seat */
	struct vmbus__pvh_chan *due_next;
	struct vmbus__pvh_seat *seat;
	struct vmbus_chan *chan;
	struct vmbus__pvh_list *lists;
	uint32_t listed;	     /* so many */
	struct vmbus__pvh_wait wait; /* for OPENED or CLOSED */
	enum vmbus__pvh_state state;
	uint32_t sub;
	uint32_t serial; /* of the opening */
	uint32_t subs;	 /* asked for in this opening, by whichever provider */
	int event;	 /* what the child's signals are written to; kept until the next opening */
	int journal;	 /* of this opening, or -1 */
	bool due;	 /* in the list of what is to be told */
	bool told_open;
	bool told_close;
	bool served;   /* the provider has it open */
	bool was_open; /* the child has it open by another one: RESUME */
	bool tell_wake;
	bool tell_signal;
};

/* What a session knows of a seat. */
struct vmbus__pvh_view {
	uint32_t step; /* 0 nothing, 1 BUS, 2 and up: regions */
	bool ready;    /* BUS_READY came */
};

/* A device on a bus.  Lives until the last of its channels is removed. */
struct vmbus__pvh_seat {
	struct vmbus__pvh_seat *next; /* of the device */
	struct vmbus__pvh_device *device;
	struct vmbus__pvh_bus *bus; /* NULL: gone */
	struct vmbus_chan *primary; /* offered now, or NULL */
	struct vmbus__pvh_chan *chans;
	uint32_t id;	 /* the bus's number on the socket */
	uint32_t offers; /* channels of the bus that name us */
	struct vmbus__pvh_view view[2];
};

struct vmbus__pvh_region {
	uint64_t gpa, bytes, offset;
	uint32_t access;
	int fd; /* the embedder's */
};

struct vmbus__pvh_bus {
	struct vmbus__pvh_bus *next;
	struct vmbus_bus *bus;
	char name[VMBUS_SHM_NAME_BYTES];
	uint32_t region_count;
	struct vmbus__pvh_region regions[];
};

/* Memory that is kept for providers of a class and name. */
struct vmbus__pvh_memory {
	struct vmbus__pvh_memory *next;
	struct vmbus_guid class_id;
	uint64_t bytes; /* whole pages */
	int fd;
	char provider[VMBUS_SHM_NAME_BYTES];
	char name[VMBUS_SHM_NAME_BYTES];
};

/* A connection of a provider. */
struct vmbus__pvh_session {
	struct vmbus__pvh_device *device;
	uint32_t slot, gen;
	uint32_t which; /* index of its views */
	int sock;
	int pidfd;
	int32_t pid;
	bool takes_over; /* it is the next one */
	bool yielding;	 /* YIELD is due, or was told */
	bool told_yield;
	bool dead; /* ended; freed at the end of the dispatch */
	bool dying; /* thrown out, killed or not ours to kill: kept until the pidfd says that it is dead */
	bool lied;   /* thrown out for what it said: no more of that is read */
	bool exited; /* the process is dead; its last words are read */
	bool unsure; /* thrown out, and it may live on: nobody resumes what it had */
	bool readable;
	bool blocked;	     /* the socket had no room */
	bool watched_out;    /* EPOLLOUT is on */
	uint64_t die_by;     /* dying, and not killed: then it counts as one that lives on */
	uint64_t blocked_at; /* since when */
	uint64_t retry_at;   /* we lacked something to tell it more */
	uint32_t last_words; /* read since it exited */
	uint64_t yield_at;
	uint64_t ready_by; /* takes_over: to say BUS_READY of all */
	struct vmbus__pvh_wait waits;
	bool memory_asked;	     /* and not answered */
	struct vmbus__pv_msg memory; /* the question */
	uint32_t *gone;		     /* buses to say BUS_GONE of */
	uint32_t gone_count, gone_room;
};

struct vmbus__pvh_device {
	struct vmbus_vsp vsp; /* what the buses see; stays while a seat is there */
	struct vmbus__pvh_device *next;
	struct vmbus_provider_host *host;
	struct vmbus__pvh_seat *seats;
	struct vmbus__pvh_session *session; /* NULL: absent */
	struct vmbus__pvh_session *heir;    /* takes over */
	struct vmbus__pvh_chan *due_first, **due_last;
	struct vmbus_guid instance_id;
	uint64_t journal_bytes; /* of each channel; 0: not resumable */
	uint32_t monitor_us;
	int32_t pid;	  /* of the last session */
	uint64_t gone_at; /* absent since; 0: present, or nothing to wait for */
	uint64_t pause_from;
	uint64_t pause_ns;
	uint64_t deaths;
	uint64_t handovers;
	bool ended; /* no provider will come; freed with its last seat */
	char name[VMBUS_SHM_NAME_BYTES];
	char vsp_name[VMBUS_PV_VSP_BYTES];
};

struct vmbus__pvh_conn {
	int fd; /* -1: free */
	uint64_t deadline;
	uint32_t gen;
};

struct vmbus_provider_host {
	struct vmbus_provider_host_opts opts;
	struct vmbus__shm_log log;
	char *path; /* NULL: no socket of our own */
	dev_t dev;
	ino_t ino;
	int epoll_fd;
	int listen_fd;
	int timer_fd;
	int again_fd;
	bool again_set;
	bool calling;
	bool ended;	/* freed with the last seat */
	bool offer_due; /* a seat may be offered again */
	bool deaf;	/* no descriptors left: the listening socket is not watched */
	uint64_t timer_at;
	struct vmbus__pvh_conn conns[VMBUS_PVH_CONNS];
	struct vmbus__pvh_session *sessions[2u * VMBUS_PVH_DEVICES_MAX];
	struct vmbus__pvh_device *devices;
	struct vmbus__pvh_bus *buses;
	uint32_t device_count;
	uint32_t bus_count;
	uint32_t seats; /* that are left anywhere */
	uint32_t next_id;
	uint32_t next_serial;
	uint32_t gen;
	uint32_t turn;
	uint64_t journal_used;
	struct vmbus__pvh_memory *memories;
	uint64_t memory_used;
	uint32_t memory_count;
};

/* provider_host.c */
void vmbus__pvh_kick(struct vmbus_provider_host *host);
/* Give a connection that said PROVIDE to the host, which takes sock in any case. */
void vmbus__pvh_take(struct vmbus_provider_host *host, int sock, const struct vmbus__pv_msg *msg);

/* provider_session.c */
void vmbus__pvh_session_start(struct vmbus_provider_host *host, int sock,
			      const struct vmbus__pv_msg *msg);
/* The process is dead. */
void vmbus__pvh_session_lives_on(struct vmbus__pvh_session *session);
void vmbus__pvh_session_exited(struct vmbus__pvh_session *session);
/* It is gone: it left, died, or (why) is thrown out. */
void vmbus__pvh_session_lost(struct vmbus__pvh_session *session, bool left, const char *why);
void vmbus__pvh_session_free(struct vmbus__pvh_session *session);
/* Throw it out for what it does (why) or does not do in time; NULL: it has gone by itself. */
void vmbus__pvh_throw(struct vmbus__pvh_session *session, const char *why);
void vmbus__pvh_throw_late(struct vmbus__pvh_session *session, const char *why);
/* Whether the other side has closed the connection for good. */
bool vmbus__pvh_hung_up(const struct vmbus__pvh_session *session);
/* The next one is ready, or the old one has let go: go on with the hand-over. */
void vmbus__pvh_handover(struct vmbus__pvh_device *device);
void vmbus__pvh_device_end(struct vmbus__pvh_device *device, const char *why);
void vmbus__pvh_device_free(struct vmbus__pvh_device *device);
void vmbus__pvh_info(const struct vmbus__pvh_device *device, struct vmbus_provider_info *info);

/* provider_words.c: take up to budget messages; returns how many. */
uint32_t vmbus__pvh_session_read(struct vmbus__pvh_session *session, uint32_t budget);

/* provider_emit.c: tell a session what it should know.  Returns messages sent. */
uint32_t vmbus__pvh_emit(struct vmbus__pvh_session *session, uint32_t budget);
void vmbus__pvh_wait_begin(struct vmbus__pvh_session *session, struct vmbus__pvh_wait *wait);
void vmbus__pvh_wait_end(struct vmbus__pvh_wait *wait);

/* provider_memory.c */
/* MEMORY came.  Returns what is wrong with it, or NULL. */
const char *vmbus__pvh_memory_ask(struct vmbus__pvh_session *session,
				  const struct vmbus__pv_msg *msg);
/* Do what was asked for: the answer, and the descriptor that goes with it, or -1. */
int vmbus__pvh_memory_answer(struct vmbus__pvh_session *session, struct vmbus__pv_msg *answer);
void vmbus__pvh_memory_free(struct vmbus_provider_host *host);

/* provider_seat.c */
extern const struct vmbus_vsp vmbus__pvh_vsp; /* callbacks of every device */
int vmbus__pvh_seat_add(struct vmbus__pvh_device *device, struct vmbus__pvh_bus *bus);
void vmbus__pvh_seat_offer(struct vmbus__pvh_seat *seat);
/* Whether none of its channels, or of its sub-channels, is open, opening or closing. */
bool vmbus__pvh_seat_idle(const struct vmbus__pvh_seat *seat, bool subs);
/* The bus is gone, or no provider will come. */
void vmbus__pvh_seat_end(struct vmbus__pvh_seat *seat);
void vmbus__pvh_seat_try_free(struct vmbus__pvh_seat *seat);
/* The provider is gone: complete what only it could, revoke all unless it resumes. */
void vmbus__pvh_seat_orphan(struct vmbus__pvh_seat *seat, bool keep);
struct vmbus__pvh_chan *vmbus__pvh_chan_find(struct vmbus__pvh_seat *seat, uint32_t sub);
void vmbus__pvh_chan_due(struct vmbus__pvh_chan *c);
void vmbus__pvh_list_free(struct vmbus__pvh_chan *c, struct vmbus__pvh_list *list);
/* The provider knows the list, or will not need it: the child gets its answer. */
void vmbus__pvh_list_known(struct vmbus__pvh_chan *c, struct vmbus__pvh_list *list);
/* Close is done: the bus hears of it, the journal goes. */
void vmbus__pvh_chan_closed(struct vmbus__pvh_chan *c);
void vmbus__pvh_chan_opened(struct vmbus__pvh_chan *c, int err);
/* An event of the channel for the flight record of its bus; relid is filled in. */
void vmbus__pvh_chan_note(struct vmbus__pvh_chan *c, struct vmbus_record_note *note);

#endif
