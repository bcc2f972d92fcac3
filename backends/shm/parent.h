/* SPDX-License-Identifier: MIT */
/*
 * What the files of the parent's side share: the server, its children, and connections that are
 * nobody's child yet.
 */
#ifndef VMBUS_SHM_PARENT_H
#define VMBUS_SHM_PARENT_H

#include <sys/types.h>

#include <vmbus/shm_bus.h>
#include <vmbus/synic.h>

#include "shm/proto.h"
#include "shm/sys.h"

#define VMBUS_SHM_CONNS_MAX 64u /* connections that said nothing yet, or are being told a list */
#define VMBUS_SHM_FLAG_WORDS 32u
#define VMBUS_SHM_CAPTURES_MAX 64u
#define VMBUS_SHM_BUSES_MAX 64u /* of no child, in listings */
#define VMBUS_SHM_RECORD_PATH 4096u
#define VMBUS_SHM_PATH_MAX 96u /* of sun_path, so that a name of our own fits too */

/* Which descriptor became ready: data of the epoll set, generation << 32 | kind << 24 | slot. */
enum vmbus__shm_kind {
	VMBUS_SHM_EV_LISTEN = 1,
	VMBUS_SHM_EV_TIMER,
	VMBUS_SHM_EV_AGAIN,
	VMBUS_SHM_EV_CONN,
	VMBUS_SHM_EV_SOCK,
	VMBUS_SHM_EV_PROCESS,
	VMBUS_SHM_EV_DOORBELL,
	VMBUS_SHM_EV_BUS,
	VMBUS_SHM_EV_CAPTURE,
	VMBUS_SHM_EV_PROVIDERS
};

static inline uint64_t vmbus__shm_tag(enum vmbus__shm_kind kind, uint32_t slot, uint32_t gen)
{
	return (uint64_t)gen << 32 | (uint64_t)kind << 24 | slot;
}

/* Where a listing goes on. */
struct vmbus__shm_lister {
	uint32_t slot;	/* of the child being told; from slots on, of a bus that is no child's */
	uint32_t gen;	/* of its occupant */
	uint32_t index; /* of the next channel */
	uint32_t children;
	uint32_t channels;
	bool half;	/* its CHILD line is out, the line of its bus is not */
	bool named;	/* all before its channels is out */
	uint32_t query; /* what is wanted: LIST, or a query of diag_proto.h */
};

/* A bus that is no child's, for listings only. */
struct vmbus__shm_other {
	struct vmbus_bus *bus; /* NULL: free */
	uint64_t bytes;
	uint32_t vps;
	uint32_t gen;
};

/* A connection that is not a child's. */
struct vmbus__shm_conn {
	int fd; /* -1: free */
	uint32_t gen;
	uint64_t deadline;
	uint64_t age; /* the lowest is the oldest */
	bool listing;
	bool waits; /* said HELLO, and may not attach before the deadline */
	struct vmbus__shm_hello hello;
	struct vmbus__shm_lister lister;
};

enum vmbus__shm_child_state {
	VMBUS_SHM_STARTING, /* attached() has not returned */
	VMBUS_SHM_ATTACHED,
	VMBUS_SHM_ENDING /* it is gone; devices are closing */
};

struct vmbus_shm_child {
	struct vmbus_shm_server *server;
	struct vmbus_bus *bus;
	enum vmbus__shm_child_state state;
	enum vmbus_shm_end why;
	uint32_t slot, gen;
	int32_t pid;
	int sock;
	int pidfd;
	int doorbell; /* rung by the child, watched by the server's epoll set */
	int knock;    /* rung by us, also from threads that dispatch channels */
	int wake;     /* rung by other processes that serve rings of the child, never by us */
	int memfd;
	uint8_t *map;
	uint64_t bytes;
	struct vmbus_dirty dirty; /* of the pages that we write; bitmap NULL: not wanted */
	struct vmbus_region region;
	struct vmbus_region *regions[1];
	uint32_t vps;
	struct vmbus_synic *synic; /* one per VP */
	uint16_t *waiting;	   /* per VP, a bit per SINT: a message found its slot taken */
	struct vmbus_hcbox_parent box;
	uint64_t flags[VMBUS_SHM_FLAG_WORDS];  /* taken from the child, not forwarded yet */
	uint64_t unbind[VMBUS_SHM_FLAG_WORDS]; /* UNBIND that found no room in the socket */
	uint32_t flag_word;		       /* where forwarding goes on */
	bool rung;
	bool box_due;
	bool bus_due;
	bool kicked;
	bool unbind_due;
	bool parent_due; /* PARENT found no room in the socket */
	bool mute;	 /* of another parent still: nothing is sent to it */
	bool told;	 /* detached() was called, or must not be */
	uint32_t tried;	 /* the round in which its bus could not be ended yet */
	char name[VMBUS_SHM_NAME_BYTES];
	char kick_why[VMBUS_SHM_TEXT_BYTES];
	void *record; /* the flight record, of opts.record_bytes; NULL: none */
	char record_name[VMBUS_SHM_NAME_BYTES + 40]; /* of its file; "": it has none */
};

struct vmbus_shm_server {
	struct vmbus_shm_server_opts opts;
	struct vmbus__shm_log log;
	char *path;
	char *record_dir;
	dev_t dev;
	ino_t ino;
	int epoll_fd;
	int listen_fd;
	int timer_fd;
	int again_fd;
	bool again_set;
	bool calling;	/* within a dispatch or the end: callbacks may call neither */
	bool deaf;	/* the listening socket is not watched: no descriptors left */
	uint32_t slots; /* of children: twice children_max, so that ending ones hold up nobody */
	struct vmbus_shm_child **children;
	uint32_t attached;
	uint32_t ending;
	uint32_t cursor;       /* whose turn is next */
	uint32_t round;	       /* of dispatch */
	uint32_t attach_round; /* in which the last child attached: one in each is enough */
	uint64_t attach_due;   /* when the rate of attaches would be as it may be, ns */
	struct vmbus_shm_server_stats stats;
	uint32_t gen;
	uint64_t age;
	struct vmbus__shm_conn conns[VMBUS_SHM_CONNS_MAX];
	struct vmbus__shm_other others[VMBUS_SHM_BUSES_MAX];
	struct vmbus__shm_capture *captures[VMBUS_SHM_CAPTURES_MAX];
	uint32_t capturing;
};

/* The backend of a child's bus; its context is the child. */
extern const struct vmbus_backend vmbus__shm_backend;

/* Listen at a path; dev and ino tell later whether it is still ours. */
int vmbus__shm_listen_at(const char *path, uint32_t mode, dev_t *dev, ino_t *ino);
void vmbus__shm_unlink_own(const char *path, dev_t dev, ino_t ino);

/* Whether what a child asks for is allowed, and there is a place; errors as the next one's. */
int vmbus__shm_child_check(const struct vmbus_shm_server *server,
			   const struct vmbus__shm_hello *hello, struct vmbus__shm_text *refused);
/*
 * Make a child of a connection whose hello was checked: 0, and sock is taken, or an error with code
 * and text for REFUSED.
 */
int vmbus__shm_child_create(struct vmbus_shm_server *server, int sock,
			    const struct vmbus__shm_hello *hello, struct vmbus__shm_text *refused);
/* A unit of work is a signal, a message or a packet; returns how many were done. */
uint32_t vmbus__shm_child_turn(struct vmbus_shm_child *child, uint32_t budget);
bool vmbus__shm_child_due(const struct vmbus_shm_child *child);
/* Whether it is to be tried again in the next dispatch, and not in this one. */
bool vmbus__shm_child_due_later(const struct vmbus_shm_child *child);
/* Its socket is readable or closed, or its process is dead. */
void vmbus__shm_child_socket(struct vmbus_shm_child *child, bool dead);
/* Close what it could wake us by. */
void vmbus__shm_child_silence(struct vmbus_shm_child *child);
/* Memory and descriptors are gone, and the bus; false: a thread is in it, try again later. */
bool vmbus__shm_child_free(struct vmbus_shm_child *child);
/* A child that was told of goes as soon as it can; the embedder hears nothing more of it. */
void vmbus__shm_child_retire(struct vmbus_shm_child *child);
/* We wrote to the page of its event flags, or to its mailbox. */
void vmbus__shm_child_wrote_flags(const struct vmbus_shm_child *child);
void vmbus__shm_child_wrote_box(const struct vmbus_shm_child *child);
/* The page of event flags that it sets for us. */
void *vmbus__shm_child_flags(const struct vmbus_shm_child *child);
int vmbus__shm_child_unbind(struct vmbus_shm_child *child, uint32_t relid);
/* Parent restart: a child of another process's, whose descriptors are taken; it hears nothing yet. */
struct vmbus__rs_state;
int vmbus__shm_child_adopt(struct vmbus_shm_server *server, const struct vmbus__rs_state *state,
			   int *fds, struct vmbus_shm_child **child);
/* Tell it whose it is; AGAIN: when there is room, which is noted. */
int vmbus__shm_child_tell_parent(struct vmbus_shm_child *child);
/* It is ours: tell it, and watch it. */
void vmbus__shm_child_begin(struct vmbus_shm_child *child);
/* It is another process's: nothing of it is written, and it is told nothing; it goes. */
void vmbus__shm_child_disown(struct vmbus_shm_child *child);
bool vmbus__shm_within_callback(const struct vmbus_shm_server *server);
int vmbus__shm_listen_by(const struct vmbus_shm_server_opts *opts, int listen_fd,
			 struct vmbus_shm_server **server);
/* The server ends: devices are waited for. */
void vmbus__shm_child_destroy(struct vmbus_shm_child *child);
/* The same, without a word to the child. */
void vmbus__shm_child_leave(struct vmbus_shm_child *child, const char *why);

/* Tell up to rows lines.  Returns 1 at the end, 0 when more is to come; AGAIN: no room now. */
int vmbus__shm_list_some(struct vmbus_shm_server *server, struct vmbus__shm_lister *lister,
			 int sock, uint32_t rows);

/* diag.c: the lines of one bus; the last two return how many were told, or an error. */
int vmbus__shm_tell_bus(struct vmbus_bus *bus, int sock);
int vmbus__shm_tell_diags(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
			  uint32_t room);
int vmbus__shm_tell_record(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
			   uint32_t room);

/* server_providers.c: device providers; 0, or a code of the protocol with a text. */
int vmbus__shm_providers_watch(struct vmbus_shm_server *server);
uint32_t vmbus__shm_providers_event(struct vmbus_shm_server *server);
uint32_t vmbus__shm_providers_take(struct vmbus_shm_server *server, int sock,
				   const struct vmbus__shm_record *record, const char **text);
void vmbus__shm_providers_add(struct vmbus_shm_child *child);
void vmbus__shm_providers_remove(struct vmbus_shm_child *child);

/* record.c: the flight record of a child. */
void vmbus__shm_record_make(struct vmbus_shm_child *child);
void vmbus__shm_record_end(struct vmbus_shm_child *child); /* after the bus */
void vmbus__shm_record_note(struct vmbus_shm_child *child, uint32_t kind, uint64_t a,
			    const char *text);

#endif
