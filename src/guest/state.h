/* SPDX-License-Identifier: MIT */
/*
 * The guest runtime from inside: the guest, its channels, page lists, request tables, and the
 * functions that its files share.
 *
 * A channel is moved forward by one function, vmbus__vsc_step(), that looks at what is the case
 * and does what is next; whoever changes something puts the channel on the work list, and dispatch
 * calls step.  So nothing depends on the order in which calls and messages arrive, and no callback
 * is made from within a call of the user's.
 */
#ifndef VMBUS_GUEST_STATE_H
#define VMBUS_GUEST_STATE_H

#include <vmbus/guest.h>
#include <vmbus/hypercall.h>

#include "base/atomic.h"
#include "base/contract.h"

#define VMBUS__BATCH 64u     /* packets handed to a VSC at once, and so sent with one signal */
#define VMBUS__CHAN_TURN 64u /* packets of one channel before the next one has its turn */
#define VMBUS__LIST_PAGES_MAX 8190u /* of one page list, [CTL-GPADL] */
#define VMBUS__RELIDS (VMBUS_RELID_MAX + 1u)
#define VMBUS__USED UINT32_MAX /* next_free of a request under way */

/* Where a channel is in its life. */
enum vmbus__life {
	VMBUS__LIFE_CLOSED,   /* offered; nothing of an opening is left */
	VMBUS__LIFE_LIST,     /* the rings are being described to the parent */
	VMBUS__LIFE_OPENING,  /* OPEN is asked for */
	VMBUS__LIFE_OPEN,     /* packets flow */
	VMBUS__LIFE_STOPPING, /* they do no more; the thread leaves, requests are ended */
	VMBUS__LIFE_TAKING,   /* the rings are being taken back */
	VMBUS__LIFE_DEAD      /* rescinded, and told so; page lists are being taken back */
};

/* Which callback ends the present opening. */
enum vmbus__owe {
	VMBUS__OWE_NOTHING,
	VMBUS__OWE_OPENED,
	VMBUS__OWE_CLOSED
};

/* A page list, of rings or shared by a VSC. */
enum vmbus__list_state {
	VMBUS__LIST_NONE,
	VMBUS__LIST_WANTED,   /* not known to the machine yet */
	VMBUS__LIST_CREATING, /* the parent's answer is awaited */
	VMBUS__LIST_READY,
	VMBUS__LIST_TAKE, /* to be taken back as soon as the machine allows it */
	VMBUS__LIST_TAKING
};

struct vmbus__list {
	struct vmbus_cli_ref ref;
	uint32_t state; /* enum vmbus__list_state */
	uint32_t count; /* pages */
	uint8_t *pages;
	uint64_t *pfns; /* kept while CREATING */
	struct vmbus_vsc *vsc;
	/* The rest is for lists that a VSC shared. */
	struct vmbus__list *next, *prev;
	size_t bytes; /* of the storage of this list */
	void (*ready)(struct vmbus_vsc *vsc, uint32_t gpadl, int err);
	void (*gone)(struct vmbus_vsc *vsc, uint32_t gpadl, int err);
	uint32_t gpadl;
	bool told; /* ready() was called with 0 */
	bool seen_ready;
};

/* A request under way, or a free entry. */
struct vmbus__req {
	void *cookie;
	uint32_t gen;
	uint32_t next_free; /* VMBUS__USED: under way */
};

/* Where the packet path has to stop: set by the guest, answered by the thread of the channel. */
enum vmbus__leave {
	VMBUS__LEAVE_NO,
	VMBUS__LEAVE_ASKED,
	VMBUS__LEAVE_DONE
};

/*
 * What the packet path of a channel uses.  With own_thread it belongs to the channel's thread from
 * opened() until it has left; the guest's thread uses only leave.
 */
struct vmbus__path {
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	struct vmbus__req *reqs;
	uint32_t reqs_max;
	uint32_t reqs_used;
	uint32_t req_free; /* index of the first free entry, reqs_max: none */
	uint32_t req_gen;
	uint64_t bad_completions;
	uint64_t signals_failed;
	uint32_t tx_need; /* ring bytes that a send waits for */
	bool live;	  /* send and receive are allowed */
	bool broken;	  /* the parent broke a ring */
	bool in_call;	  /* within a callback: sends are published at its end */
	bool held;     /* vmbus_vsc_hold() has set in_call: until flush, or the end of a callback */
	bool running;  /* within dispatch */
	bool tx_waits; /* writable() is due when the ring has room */
	bool table_waits; /* writable() is due when the table has */
	bool rx_armed;
	bool signal_again;  /* a signal did not go out */
	const char *failed; /* NULL, or what vmbus_vsc_fail() was told */
	vmbus__a32 leave;   /* enum vmbus__leave */
};

struct vmbus_vsc {
	struct vmbus__path path;
	struct vmbus_guest *guest;
	struct vmbus_cli_ref ref;
	struct vmbus_ctl_offer offer;
	struct vmbus_vsc_opts opts;
	uint32_t life; /* enum vmbus__life */
	uint32_t owe;  /* enum vmbus__owe */
	int open_err;
	bool rescinded;
	bool close_asked;
	bool announced; /* offered() was called: gone() is due */
	bool cli_open;	/* the machine has it open: a CLOSE is due */
	bool prepared;	/* the rings are set up */
	bool fault_logged;
	bool no_buffer; /* no memory for a packet of the parent's */
	bool lost;	/* the parent may still use the rings' pages */
	bool forgotten; /* gone() has returned; the storage waits for the next offer */
	bool on_work;
	bool on_ready;
	bool on_own;
	struct vmbus_vsc *next, *prev; /* all channels, in the order of their offers */
	struct vmbus_vsc *work_next;   /* the list of channels to step */
	struct vmbus_vsc *ready_next;  /* the list of channels that may have packets */
	struct vmbus_vsc *own_next;    /* the list of open channels with own_thread */
	struct vmbus__list rings;
	struct vmbus__list *shares;
	void *window[2]; /* mirrors of the two rings' data, or NULL */
	uint8_t *block;	 /* private memory: receive buffer, request table */
	size_t block_bytes;
	uint8_t *large; /* a receive buffer that had to grow, or NULL */
	size_t large_bytes;
};

/* vmbus_guest_pause(). */
enum vmbus__pause {
	VMBUS__PAUSE_OFF,
	VMBUS__PAUSE_ASKED, /* the parent's answer is awaited */
	VMBUS__PAUSE_ON
};

/* What the machine has to do before it takes what it refused. */
enum vmbus__cli_wait {
	VMBUS__WAIT_NOTHING,
	VMBUS__WAIT_ACTIONS, /* hand out the actions that it has */
	VMBUS__WAIT_POSTED   /* post a message: its queue is full */
};

/* A first-in first-out list of channels, linked through the member of its name. */
struct vmbus__queue {
	struct vmbus_vsc *first, *last;
};

struct vmbus_guest {
	struct vmbus_guest_opts opts;
	const struct vmbus_guest_backend *be;
	void *be_ctx;
	size_t bytes; /* of this block */
	struct vmbus_cli *cli;
	struct vmbus_vsc **by_slot;  /* chans_max */
	struct vmbus_vsc **by_relid; /* VMBUS__RELIDS */
	struct vmbus__list **lists;  /* gpadls_max, by slot */
	uint32_t chans_max, gpadls_max;
	enum vmbus_guest_state state;
	bool busy;	   /* dispatching: not again from a callback */
	bool parent_gone;  /* told so by the backend; dispatch does the rest */
	bool leave_look;   /* something ended: look whether all is closed */
	bool signals_wait; /* a channel has signal_again */
	bool parent_lost;  /* dispatch has done it */
	bool ended_here;   /* destroyed, and the parent may well be there */
	bool unload_asked;
	bool unloaded;
	bool leave_later;	  /* look again when something has happened */
	bool unknown_rescinds;	  /* offers without memory are to be let go of */
	uint32_t cli_wait;	  /* enum vmbus__cli_wait: why channels are not stepped */
	bool cli_drained;	  /* nothing was asked since it had no action left */
	uint32_t pause;		  /* enum vmbus__pause: channels are not stepped unless OFF */
	uint8_t *monitor[2];	  /* pages that the parent uses: its own, ours; or NULL */
	uint8_t *monitor_next[2]; /* those of a set_monitor() that is not answered yet */
	uint32_t turn;		  /* which source of work begins */
	uint32_t flag_words;
	struct vmbus_vsc *first, *last; /* all channels, in the order of their offers */
	struct vmbus__queue work, ready;
	struct vmbus_vsc *own;	 /* open channels with own_thread */
	struct vmbus_vsc *spare; /* free storage of channels, linked by next */
	void *slabs;
	struct vmbus_vsc *waited; /* vmbus_vsc_wait() waits for this one; NULL when it is freed */
	uint32_t chans;
	/* The message being posted. */
	struct vmbus_cli_action post;
	bool posting;
	bool post_flying; /* the backend has it: its answer is awaited */
	uint32_t post_tries;
	uint64_t post_due;		/* reference time */
	uint64_t post_pace;		/* 100 ns */
	struct vmbus_cli_action action; /* the one being carried out */
	/* Limit of the log. */
	uint64_t log_since;
	uint32_t log_lines;
	uint64_t log_dropped;
	uint64_t leaked_pages;
};

/* memory.c: memory of the backend's, whole pages of zeroes; NULL: none left. */
void *vmbus__guest_alloc(struct vmbus_guest *guest, size_t bytes, bool shared);
void vmbus__guest_free(struct vmbus_guest *guest, void *p, size_t bytes, bool shared);
struct vmbus_vsc *vmbus__vsc_new(struct vmbus_guest *guest);
void vmbus__vsc_free(struct vmbus_guest *guest, struct vmbus_vsc *vsc);
void vmbus__slabs_free(struct vmbus_guest *guest);
/* All memory of an opening, and back.  Errors: NOMEM. */
int vmbus__vsc_alloc(struct vmbus_vsc *vsc);
void vmbus__vsc_release(struct vmbus_vsc *vsc);
/* Empty rings in the pages of the opening, and their ends.  Errors: as vmbus_ring_mem_init(). */
int vmbus__vsc_rings(struct vmbus_vsc *vsc);
/* A larger receive buffer.  Errors: NOMEM. */
int vmbus__vsc_grow(struct vmbus_vsc *vsc, uint32_t need);

/* log.c: a line; chan is a relid, or 0. */
void vmbus__guest_log(struct vmbus_guest *guest, uint32_t chan, const char *text, uint64_t number);
/* "NAME WHAT, status 0x12 (STATUS_NAME)": name and status_name may be NULL. */
struct vmbus__words {
	const char *name;
	const char *what;
	uint32_t status;
	const char *status_name;
};
void vmbus__guest_log_status(struct vmbus_guest *guest, uint32_t chan,
			     const struct vmbus__words *words);
void vmbus__guest_log_refusal(struct vmbus_vsc *vsc, const char *what, uint32_t status);
void vmbus__guest_log_fault(struct vmbus_guest *guest, uint32_t chan,
			    const struct vmbus_fault *fault);

/* request.c: the table.  take returns an id, 0 when the table is full; end NULL: none such. */
void vmbus__req_init(struct vmbus__path *path, struct vmbus__req *reqs, uint32_t max);
uint64_t vmbus__req_take(struct vmbus__path *path, uint32_t slot, void *cookie);
void vmbus__req_undo(struct vmbus__path *path, uint64_t id);
bool vmbus__req_end(struct vmbus__path *path, uint32_t slot, uint64_t id, void **cookie);
/* End all that are under way: completed() with NULL for each. */
void vmbus__req_end_all(struct vmbus_vsc *vsc);

/* packet.c: the packet path. */
void vmbus__own_leave(struct vmbus_vsc *vsc);
uint32_t vmbus__vsc_run(struct vmbus_vsc *vsc, uint32_t budget, bool *more);
void vmbus__vsc_signal(void *vsc);
/* Around a callback: what is sent within it is published at its end. */
void vmbus__call_begin(struct vmbus_vsc *vsc);
void vmbus__call_end(struct vmbus_vsc *vsc);

/* list.c: page lists. */
void vmbus__list_step(struct vmbus__list *list);
/* Whether all pages are the backend's; whether one is shared, or of a ring. */
bool vmbus__pages_known(struct vmbus_guest *guest, const void *pages, uint32_t count);
bool vmbus__pages_shared(const struct vmbus_guest *guest, const void *pages, uint32_t count);
void vmbus__list_take_back(struct vmbus__list *list);
void vmbus__list_event(struct vmbus_guest *guest, const struct vmbus_cli_action *action);
void vmbus__shares_step(struct vmbus_vsc *vsc);
void vmbus__shares_take_back(struct vmbus_vsc *vsc);

/* life.c: the life of a channel. */
void vmbus__vsc_step(struct vmbus_vsc *vsc);
void vmbus__vsc_offered(struct vmbus_guest *guest, struct vmbus_cli_ref ref);
void vmbus__vsc_rescinded(struct vmbus_vsc *vsc);
void vmbus__vsc_opened(struct vmbus_vsc *vsc, uint32_t status);
/* The rings' page list is over: 0, or why; FAULT: lost. */
void vmbus__rings_over(struct vmbus_vsc *vsc, int err);
bool vmbus__own_left(const struct vmbus_vsc *vsc);

/* dispatch.c */
void vmbus__work_push(struct vmbus_vsc *vsc);
void vmbus__ready_push(struct vmbus_vsc *vsc);
/* Something is due: have the backend wake whoever sleeps, unless this is dispatch. */
void vmbus__guest_note(struct vmbus_guest *guest);
bool vmbus__guest_due(const struct vmbus_guest *guest);
/* The machine was asked for something outside of the lists of channels. */
void vmbus__guest_asked(struct vmbus_guest *guest);
/* What the machine said to a call: whether it was done, or is to be tried again (see cli_wait). */
bool vmbus__cli_retry(struct vmbus_guest *guest, int err);
int vmbus__guest_run(struct vmbus_guest *guest, uint32_t budget);

/* conn.c: actions that concern the connection; the parent uses no monitor pages any more. */
void vmbus__conn_action(struct vmbus_guest *guest, const struct vmbus_cli_action *action);
void vmbus__monitor_over(struct vmbus_guest *guest, bool lost);
bool vmbus__monitor_has(const struct vmbus_guest *guest, const uint8_t *page);

/* guest.c: whether channels may be opened and pages shared; a wait with a deadline. */
struct vmbus__wait {
	uint64_t end; /* reference time */
	bool full;    /* the last dispatch did as much as it may: more may be there */
};
bool vmbus__guest_usable(const struct vmbus_guest *guest);
void vmbus__wait_begin(struct vmbus_guest *guest, struct vmbus__wait *wait, uint64_t timeout_ns);
/* Dispatch, or sleep.  Errors: AGAIN (the deadline). */
int vmbus__wait_turn(struct vmbus_guest *guest, struct vmbus__wait *wait);
/* The user sleeps by itself from now on: a wake-up that the wait took is given again. */
void vmbus__wait_end(struct vmbus_guest *guest, const struct vmbus__wait *wait);

#endif
