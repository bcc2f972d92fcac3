/* SPDX-License-Identifier: MIT */
/*
 * What the files of the provider's side share.  Each partition of the parent's is an ordinary bus
 * here, over a backend of ours; towards that bus we play the child's part of the channel protocol,
 * with the page numbers and in the order that the parent tells.  One thread.
 */
#ifndef VMBUS_SHM_PROVIDER_CLIENT_H
#define VMBUS_SHM_PROVIDER_CLIENT_H

#include <vmbus/provider.h>

#include "base/atomic.h"
#include "shm/provider_proto.h"
#include "shm/sys.h"

#define VMBUS_PVC_OUT_MAX 8192u /* messages that wait for room; an honest parent reads them */
#define VMBUS_PVC_PARTS_MAX 4096u
#define VMBUS_PVC_LISTS_MAX 8192u	/* of one channel */
#define VMBUS_PVC_QWORDS_MAX (1u << 22) /* of one list: 16 GiB */

struct vmbus__pvc_part;

/* What an event of the epoll set is of. */
enum vmbus__pvc_kind {
	VMBUS_PVC_SOCKET = 0,
	VMBUS_PVC_BUS,
	VMBUS_PVC_LISTENER
};

struct vmbus__pvc_source {
	enum vmbus__pvc_kind kind;
	void *owner; /* the partition, or the channel */
};

enum vmbus__pvc_list_state {
	VMBUS_PVC_NEW = 0, /* `sent` qwords of it are posted */
	VMBUS_PVC_POSTED,
	VMBUS_PVC_READY,
	VMBUS_PVC_DEAD, /* refused, or its channel was withdrawn */
	VMBUS_PVC_TEARING
};

struct vmbus__pvc_list {
	struct vmbus__pvc_list *next;
	enum vmbus__pvc_list_state state;
	uint32_t id;
	uint32_t count;
	uint32_t ranges;
	uint32_t sent;
	bool going; /* the parent wants it gone */
	uint64_t qwords[];
};

enum vmbus__pvc_state {
	VMBUS_PVC_CLOSED = 0,
	VMBUS_PVC_OPENING,
	VMBUS_PVC_OPEN,
	VMBUS_PVC_CLOSING
};

struct vmbus__pvc_chan {
	struct vmbus__pvc_chan *next;
	struct vmbus__pvc_part *part;
	struct vmbus_chan *chan; /* of our bus; NULL: not offered, or gone */
	struct vmbus__pvc_list *lists;
	struct vmbus__pvc_source source;
	enum vmbus__pvc_state state;
	uint32_t sub;
	uint32_t slot;	/* our bus signals it as this VP */
	uint32_t relid; /* 0: our bus has not offered it */
	uint32_t conn;
	/* The opening that the parent wants, or that is there. */
	bool want_open;
	bool want_close;
	bool signal_due;
	bool rescinded; /* our bus has withdrawn it, and its device may hold pages still */
	uint32_t serial;
	uint32_t gpadl;
	uint32_t down_page;
	uint32_t flags;
	uint32_t event_flag;
	uint8_t user[120];
	int listener;
	void *journal; /* mapped */
	size_t journal_bytes;
	vmbus__a64 *wake; /* the word with the child's flag; NULL: ask the parent */
	int wake_fd;
};

enum vmbus__pvc_part_state {
	VMBUS_PVC_LOADING = 0, /* regions are missing */
	VMBUS_PVC_CONTACTING,
	VMBUS_PVC_ASKING, /* for offers */
	VMBUS_PVC_SERVING,
	VMBUS_PVC_ENDING
};

struct vmbus__pvc_part {
	struct vmbus__pvc_part *next;
	struct vmbus_provider *provider;
	struct vmbus_bus *bus;
	struct vmbus__pvc_source source;
	enum vmbus__pvc_part_state state;
	uint32_t id;
	uint32_t region_count;
	uint32_t regions_told;
	uint32_t conn; /* where messages are posted */
	bool due;      /* its bus has work */
	bool advance;  /* there may be something to post or to tell */
	bool own_offer;
	uint32_t subs; /* sub-channels that were offered in this opening of the primary */
	uint64_t release[VMBUS_RELID_MAX / 64u + 1u]; /* RELID_RELEASED is to be posted; bits */
	struct vmbus__pvc_chan *chans;
	struct vmbus__pvc_chan **slots; /* by slot */
	uint32_t slot_count;
	struct vmbus_region regions[VMBUS_REGIONS_MAX];
	char name[VMBUS_SHM_NAME_BYTES];
};

struct vmbus__pvc_out {
	struct vmbus__pvc_out *next;
	uint32_t len;
	uint8_t bytes[];
};

/* Memory of the parent's that is asked for. */
struct vmbus__pvc_memory {
	bool waits;
	uint32_t serial; /* of the last question */
	uint32_t code;
	int fd; /* or -1 */
	uint64_t bytes;
};

struct vmbus_provider {
	const struct vmbus_vsp *vsp;
	void *ctx;
	struct vmbus_guid instance_id;
	uint64_t journal_bytes;
	struct vmbus__shm_log log;
	int sock;
	int epoll_fd;
	bool calling;
	bool gone;  /* the parent is, or we gave way */
	bool ended; /* and every device is closed */
	bool watched_out;
	struct vmbus__pvc_source source;
	struct vmbus__pvc_part *parts;
	uint32_t part_count;
	uint32_t bus_last; /* the highest number of a partition that was told */
	struct vmbus__pvc_out *out, **out_last;
	uint32_t out_count;
	uint64_t timeout_ns;
	uint64_t spin_ns;
	uint32_t finds; /* while we spin: waits that found something, in a row */
	bool hot;	/* the last look found something: it is worth spinning */
	struct vmbus__pvc_memory memory;
	char why[VMBUS_SHM_TEXT_BYTES + 40];
};

/* provider_client.c */
/* A provider of a connection on which all was said; takes sock. */
int vmbus__pvc_start(const struct vmbus_provider_opts *opts, int sock,
		     struct vmbus_provider **provider);
void vmbus__pvc_lose(struct vmbus_provider *provider, const char *why);
void vmbus__pvc_send(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg);
/* Take what the parent says, and send what waits for room. */
void vmbus__pvc_hear(struct vmbus_provider *provider);
/* What was taken outside of a dispatch is under way: the next one is woken for it. */
void vmbus__pvc_move_on(struct vmbus_provider *provider);
void vmbus__pvc_end(struct vmbus_provider *provider);
/* Wait up to timeout_ns, and do work; AGAIN: there was none. */
int vmbus__pvc_dispatch(struct vmbus_provider *provider, uint32_t budget, uint64_t timeout_ns);

/* provider_client_memory.c */
const char *vmbus__pvc_take_memory(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
				   struct vmbus__shm_record *record);

/* provider_part.c */
extern const struct vmbus_backend vmbus__pvc_backend;
/* Take a message about a partition.  Returns what is wrong with it, or NULL. */
const char *vmbus__pvc_take_bus(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg);
const char *vmbus__pvc_take_region(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
				   int *fd);
const char *vmbus__pvc_take_gone(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg);
struct vmbus__pvc_part *vmbus__pvc_part_find(struct vmbus_provider *provider, uint32_t id);
/* Dispatch it.  Returns the work done; the partition may be gone after that. */
uint32_t vmbus__pvc_part_turn(struct vmbus__pvc_part *part, uint32_t budget);
void vmbus__pvc_part_destroy(struct vmbus__pvc_part *part);
/* Devices close, without a trace in what a successor goes on with.  The parent hears of broken ones. */
void vmbus__pvc_part_let_go(struct vmbus__pvc_part *part);

/* provider_chan.c: what the parent says of channels */
const char *vmbus__pvc_take_chan(struct vmbus__pvc_part *part, const struct vmbus__pv_msg *msg,
				 int *fds, int fd_count);
struct vmbus__pvc_chan *vmbus__pvc_chan_get(struct vmbus__pvc_part *part, uint32_t sub);
/* Close what an opening had; the bus does not use it any more. */
void vmbus__pvc_chan_drop(struct vmbus__pvc_chan *c);
void vmbus__pvc_chan_free(struct vmbus__pvc_chan *c);
void vmbus__pvc_chan_raise(struct vmbus__pvc_chan *c);
void vmbus__pvc_chan_raise_anew(struct vmbus__pvc_chan *c); /* the first of a resumed channel */
void vmbus__pvc_tell(struct vmbus__pvc_chan *c, uint32_t type, int err);

/* provider_glue.c: the child's part towards our bus */
void vmbus__pvc_contact(struct vmbus__pvc_part *part);
void vmbus__pvc_posted(struct vmbus__pvc_part *part, const void *payload, uint32_t bytes);
void vmbus__pvc_advance(struct vmbus__pvc_part *part);
void vmbus__pvc_tell_fault(struct vmbus__pvc_chan *c);
/* Ask the parent for the signals that it owes the child, as far as the socket has room. */
void vmbus__pvc_tell_signals(struct vmbus__pvc_part *part);

#endif
