/* SPDX-License-Identifier: MIT */
/*
 * What the files of the bus share.  Two kinds of thread run here: the one that dispatches the bus,
 * and one for each channel with own_fd; for all other channels both are the same.  A member is
 * touched by the thread that its group names, or it is an atomic word.
 */
#ifndef VMBUS_BUS_BUS_H
#define VMBUS_BUS_BUS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmbus/bus.h>
#include <vmbus/watch.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "bus/note.h"
#include "bus/rcu.h"

#define VMBUS__RELIDS 2048u
#define VMBUS__INBOX 64u /* messages of the child that wait, [CTL-QUEUE] */
#define VMBUS__BATCH 64u /* packets of one callback */
#define VMBUS__MONITORS 128u
#define VMBUS__NONE UINT64_MAX
#define VMBUS__MS 1000000u /* ns */
#define VMBUS__WHY_BYTES 160u
#define VMBUS__SEIZED 1u /* holder: the bus, which ends; no thread has this number */

/* A descriptor that is readable while there is work, written at most once until it is cleared. */
struct vmbus__kick {
	int fd;
	vmbus__a32 set;
};

/* A set of channel slots that any thread adds to and one thread takes from. */
struct vmbus__slots {
	vmbus__a64 words; /* bit n: word n is not empty */
	vmbus__a64 word[VMBUS__RELIDS / 64u];
};

/* The rings of an open channel as they are mapped; bus thread. */
struct vmbus__rings {
	struct vmbus_sgl pages; /* pins them */
	struct vmbus_piece *pieces;
	void **list;	  /* address of each page, for scattered windows */
	uint64_t *frames; /* number of each page, for the dirty marker */
	struct vmbus_dirty dirty[2];
	void *mirror[2];
	size_t mirror_bytes[2];
	struct vmbus_ring_mem mem[2]; /* from the child, to the child */
	uint32_t total;		      /* pages of both rings, control pages included */
	uint32_t down_page;	      /* where the one to the child begins */
	bool mapped;		      /* or pinned, of a FOREIGN channel */
};

/* A page list of a channel that the child was told is accepted. */
struct vmbus__list {
	struct vmbus__list *next;
	struct vmbus_srv_ref ref;
	struct vmbus_chan *chan;
	const uint64_t *qwords; /* in memory of list_get(), until gpadl_gone() */
	uint32_t count;
	uint32_t ranges;
	uint32_t id;
	bool ring_users;	     /* the open channel's rings are this list */
	bool early;		     /* gpadl() said AGAIN: the child has no answer yet */
	bool answer_due;	     /* gpadl_done() came for it */
	bool foreign_user;	     /* gpadl_gone() said AGAIN */
	bool going;		     /* GPADL_DOWN came, views are still held */
	struct vmbus_region counter; /* counts views by its pins; no memory */
};

/* Why a channel gets no packets. */
#define VMBUS__PAUSED_BY_DEVICE 0x1u
#define VMBUS__PAUSED_TO_SAVE 0x2u

/* Commands of the bus to a channel's thread; bits. */
#define VMBUS__CMD_OPEN 0x1u
#define VMBUS__CMD_CLOSE 0x2u
#define VMBUS__CMD_MODIFY 0x4u
#define VMBUS__CMD_UNSTICK 0x8u
#define VMBUS__CMD_RESTORE 0x400u
#define VMBUS__CMD_TAP 0x800u
#define VMBUS__CMD_DRAIN 0x1000u /* or not any more */
/* Answers and wishes of a channel's thread, or of any other, to the bus; bits. */
#define VMBUS__ANS_OPENED 0x1u
#define VMBUS__ANS_CLOSED 0x2u /* close() returned */
#define VMBUS__ANS_DONE 0x4u   /* and nothing of the channel is in use any more */
#define VMBUS__ANS_MODIFIED 0x8u
#define VMBUS__ANS_FAULT 0x10u
#define VMBUS__ANS_REVOKE 0x20u
#define VMBUS__ANS_SUBS 0x40u
#define VMBUS__ANS_TAP 0x800u	/* a tap was taken, or let go of */
#define VMBUS__ANS_BROKE 0x100u /* an open that succeeded ends at once; CLOSED is with it */

/* What a channel is for the bus thread. */
enum vmbus__local {
	VMBUS__CLOSED = 0,
	VMBUS__OPENING,
	VMBUS__OPEN,
	VMBUS__CLOSING
};

/* What a channel is for its own thread. */
enum vmbus__stage {
	VMBUS__SHUT = 0,
	VMBUS__IN_OPEN, /* of the device */
	VMBUS__SAID,	/* the same, and vmbus_chan_open_done() was called within it */
	VMBUS__WAITS,	/* open() said AGAIN */
	VMBUS__SERVED
};

struct vmbus__journal; /* journal.h */
struct vmbus__restore; /* save.h */

struct vmbus_chan {
	/* The channel's thread. */
	const struct vmbus_vsp *vsp;
	void *ctx;
	void *priv;
	uint32_t max_payload;
	uint32_t batch;	  /* packets sent in this callback and not published */
	uint32_t need;	  /* ring bytes that a refused send waits for */
	bool live;	  /* rings are set up, sending is allowed */
	bool in_callback; /* what is sent is published when it returns */
	bool armed;	  /* the child will signal packets */
	bool more;	  /* own_fd: the last dispatch left work */
	bool failed;	  /* broken: close() is due, or was called */
	bool let_go;	  /* another process goes on with it: the rings are not ours any more */
	bool ready_due;	  /* the descriptor of vmbus_chan_watch() was readable */
	bool ready_was;	  /* and all that the last turn had a unit for */
	bool watch_off;	  /* and is not heard of while a send waits for room */
	uint8_t paused;	  /* no packets for now: VMBUS__PAUSED_* */
	bool tlnpi;	  /* constant */
	bool foreign;	  /* constant: rings are served elsewhere */
	enum vmbus__stage stage;
	int open_said;		 /* SAID: the error */
	int watch_fd;		 /* of vmbus_chan_watch(), or -1 */
	uint32_t watch_pause;	 /* own_fd: spins from one look at it to the next */
	uint32_t watch_spins;	 /* and since the last */
	uint32_t idle;		 /* turns that brought nothing, in a row */
	uint64_t debt;		 /* own_fd: units that no budget has paid for yet */
	uint64_t under_way_sent; /* packets to the child when the device told its number last */
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	struct vmbus__journal *journal; /* NULL: none */
	struct vmbus__tap *tap;		/* NULL: none */
	struct vmbus__restore *from;	/* NULL, or what a restored channel goes on from */
	void *buf;
	uint32_t buf_bytes;
	uint32_t buf_counted; /* of them, what was taken from buf_bytes_max */
	uint32_t event_flag;
	uint32_t target_sint;
	uint32_t target_vp;
	struct vmbus_fault fault;
	char why[VMBUS__WHY_BYTES];

	/* Any thread. */
	vmbus__a64 bad_completions;
	vmbus__a64 cmd;
	vmbus__a64 ans;
	vmbus__a32 new_vp;
	vmbus__a32 closing; /* 1: close() was called, close_done() was not */
	vmbus__a32 drain;   /* CMD_DRAIN: whether */
	vmbus__a64 subs_wanted;
	vmbus__a64 primary;   /* of a sub-channel, as long as it is there; the bus thread sets it */
	vmbus__a64 tap_next;  /* what its thread shall have as tap */
	vmbus__a64 tap_asked; /* how often that was said, and what of it its thread has done */
	vmbus__a64 tap_done;
	vmbus__a64 shown[16];	/* counters of both rings, for listings */
	vmbus__a64 accepted_at; /* the child was first seen to use the rings, 0: not yet */
	vmbus__a64 raised;	/* flags for the child, and the last time, for snapshots */
	vmbus__a64 raised_at;
	vmbus__a32 under_way; /* requests of the device's, for snapshots, and since when */
	vmbus__a64 under_way_at;
	struct vmbus_region sgls; /* counts lists that the device holds, by its pins */

	/* The bus thread; open_err and the rings' mem are handed over by the commands. */
	struct vmbus_srv_ref ref;
	uint32_t relid;
	uint32_t vp;	     /* as the channel's thread has it, or is told to */
	uint32_t conn_id;    /* of the present opening */
	uint32_t offer_conn; /* of the offer, 0: not known yet */
	uint32_t slot;
	uint32_t sub_index;
	uint32_t subs; /* of a primary: offered now */
	uint32_t next_sub;
	uint32_t subs_late; /* that wait for those of before, with their indices, to be gone */
	enum vmbus__local local;
	uint32_t got; /* answers seen of the present opening */
	int open_err;
	bool open_asked;  /* the machine waits for opened() */
	bool close_asked; /* the machine waits for closed() */
	bool revoked;
	bool released; /* the machine has forgotten it */
	bool gone;     /* removed */
	bool waits;    /* for pins to go */
	bool anew;     /* it was closed for sub-channels that were not to be had, and not since */
	bool resuming; /* it was open in the state that was restored, and is not yet */
	int bound_fd;  /* what the child's signals are bound to while open, or -1; never read */
	int sink_fd;   /* FOREIGN: of its owner, for the child's signals, or -1 */
	bool sunk;     /* FOREIGN: the backend writes sink_fd */
	uint64_t unstick_at;
	uint64_t accept_by;
	uint64_t drain_until; /* no packets until then, so that it can be saved; 0: not so */
	uint64_t opens;
	uint32_t monitor; /* VMBUS_MONITOR_NONE, or its id */
	uint32_t monitor_us;
	struct vmbus_srv_ref ring_list;
	uint32_t ring_gpadl; /* what the child calls it */
	struct vmbus_offer offer;
	struct vmbus__rings rings;
	uint8_t open_data[120];
	bool faulted;
	struct vmbus_fault last_fault;
	struct vmbus__chan_times times;
	struct vmbus__tap *tap_own;
	struct vmbus_chan *next; /* in the graveyard */

	/*
	 * What a thread may still look at that found the channel a moment before it was removed.
	 * It stays as it is when the storage becomes another channel of the same bus.
	 */
	struct vmbus_bus *bus;
	vmbus__a64 signals; /* from the child, of all whose storage this was; and the last time */
	vmbus__a64 signal_at;
	vmbus__a64 holder; /* own_fd: the thread that dispatches it now, or VMBUS__SEIZED, or 0 */
	bool own_fd;
	struct vmbus__kick kick; /* own_fd: what the bus writes */
	int wait_fd; /* own_fd: an epoll over kick and, while open, bound_fd and watch_fd; or -1 */
};

struct vmbus_bus {
	struct vmbus_bus_opts opts;
	char name[64];
	struct vmbus_srv *srv;
	void *srv_storage;
	size_t srv_bytes;
	int epoll_fd;
	int timer_fd;
	struct vmbus__kick kick;

	/* Any thread. */
	vmbus__a64 holder;		      /* the thread that is in a call now, or 0 */
	vmbus__a64 events;		      /* VMBUS__EV_* */
	vmbus__a64 woken;		      /* bit n: wake() of a VP n modulo 64 has changed */
	vmbus__a64 visitors;		      /* threads that tell of an answer and have not left */
	struct vmbus__slots ready;	      /* channels to look at */
	struct vmbus__slots answers;	      /* channels that have answered */
	vmbus__a64 by_slot[VMBUS__RELIDS];    /* channels; freed with the bus */
	vmbus__a64 conns[VMBUS__RELIDS * 2u]; /* connection id -> slot */
	struct vmbus__inbox *inbox;
	vmbus__a64 signals;
	vmbus__a64 signals_unknown;
	vmbus__a64 posts;
	vmbus__a64 posts_refused;
	vmbus__a64 raised;
	vmbus__a64 buf_bytes; /* of buffers that channels had to make larger */
	vmbus__a64 bufs_refused;
	vmbus__a64 mem; /* struct vmbus_mem *, freed after a grace period */
	pthread_mutex_t mem_lock;
	pthread_mutex_t lists_lock; /* lists; never on the path of packets */
	struct vmbus__list *lists[VMBUS__RELIDS];

	/* The bus thread. */
	uint64_t local_words;		     /* bit n: local[n] is not 0 */
	uint64_t local[VMBUS__RELIDS / 64u]; /* channels with work left */
	uint64_t hot_words;		     /* the same of those that vmbus_bus_poll() looks at */
	uint64_t hot[VMBUS__RELIDS / 64u];
	uint64_t polls;
	uint32_t hot_turn;    /* slot whose poll is next */
	uint32_t watch_pause; /* polls from one look at descriptors of devices to the next */
	uint32_t watch_spins; /* and since the last */
	uint32_t turn;	      /* slot whose turn is next */
	uint32_t first;	      /* what comes first in the next dispatch */
	uint32_t chans_max;
	uint32_t mirrors;
	uint32_t waiting; /* channels and lists that wait for pins to go */
	uint32_t bound;	  /* channels without own_fd whose signals come to the epoll */
	uint32_t watched; /* channels without own_fd that have a watch_fd */
	uint32_t opening; /* channels that are OPENING */
	uint32_t foreign; /* channels that are FOREIGN and not closed */
	bool blocked;	  /* the child's message slot is taken */
	bool held;	  /* the machine takes no message before its replies are posted */
	uint32_t timed;	  /* channels with a time of theirs */
	bool sending;	  /* out is to be posted */
	bool ending;
	bool wait_told; /* for whom the end waits */
	bool removed;	/* every channel was */
	bool restored;
	bool allow_capture;
	struct vmbus_srv_action out;
	uint64_t timer_at; /* when the timer is set to, 0: not at all */
	uint64_t offers;   /* made so far, for instance ids */
	uint64_t faults;
	uint64_t dispatches;
	uint64_t charge; /* units of this call beyond one for each message, packet and look */
	uint64_t debt;	 /* of it, what no budget has paid for yet */
	uint64_t charged;
	uint64_t offers_refused;
	uint64_t opens_refused;
	uint64_t lists_refused;
	uint64_t mirrors_refused;
	uint64_t monitors[VMBUS__MONITORS / 64u]; /* ids in use */
	struct vmbus_chan *monitored[VMBUS__MONITORS];
	uint64_t monitor_page; /* the child's, 0: none */
	uint64_t monitor_ns;
	uint64_t monitor_at;
	struct vmbus_chan *graveyard;
	uint64_t refusals; /* of the machine that were told */
	uint64_t log_window;
	uint32_t log_count;
	uint64_t log_held; /* not told yet */
	uint64_t log_dropped;
	struct vmbus__recorder recorder;
	struct vmbus__bus_times times;
};

#define VMBUS__EV_SLOT 0x1u	/* a message slot is free */
#define VMBUS__EV_RESET 0x2u	/* the child is gone */
#define VMBUS__EV_FOREIGN 0x4u	/* woken is not 0, or a page list is done with */
#define VMBUS__EV_RESTORE 0x10u /* restored channels go on */

/* kick.c: descriptors, sets of slots. */
int vmbus__kick_init(struct vmbus__kick *kick);
void vmbus__kick_fini(struct vmbus__kick *kick);
void vmbus__kick(struct vmbus__kick *kick);
bool vmbus__kick_is_set(const struct vmbus__kick *kick);
void vmbus__kick_clear(struct vmbus__kick *kick);
uint64_t vmbus__take(vmbus__a64 *word);
void vmbus__slots_add(struct vmbus__slots *slots, uint32_t slot);
bool vmbus__slots_any(const struct vmbus__slots *slots);
uint64_t vmbus__slots_take_word(struct vmbus__slots *slots, uint32_t word);
uint64_t vmbus__now(void);
uint64_t vmbus__self(void); /* the calling thread, above VMBUS__SEIZED */

/* Channels with work left: a set of the bus thread's. */
static inline void vmbus__local_add(struct vmbus_bus *bus, uint32_t word, uint64_t bits)
{
	bus->local[word] |= bits;
	if (bits)
		bus->local_words |= (uint64_t)1 << word;
}

static inline void vmbus__local_remove(struct vmbus_bus *bus, uint32_t slot)
{
	bus->local[slot / 64u] &= ~((uint64_t)1 << (slot % 64u));
	if (!bus->local[slot / 64u])
		bus->local_words &= ~((uint64_t)1 << (slot / 64u));
}

/*
 * Work of the child's making that is more than one unit.  A unit is about what a small packet costs;
 * the numbers are coarse, so that a child gains nothing by asking for what is dear.
 */
#define VMBUS__COST_OPEN 64u		       /* mappings of the rings */
#define VMBUS__PAGES_PER_UNIT 4u	       /* pinned and named */
#define VMBUS__CHECKS_PER_UNIT 8u	       /* pages looked up */
#define VMBUS__LOOKS_PER_UNIT 32u	       /* entries of a list or table gone through */
#define VMBUS__BYTES_PER_UNIT VMBUS_UNIT_BYTES /* of packets */
static inline void vmbus__charge(struct vmbus_bus *bus, uint64_t units)
{
	bus->charge += units;
}

/* window.c: rings from page lists; bus thread. */
struct vmbus__refusal {
	const char *step;
	uint64_t value;
	uint64_t limit;
};
int vmbus__rings_map(struct vmbus_chan *chan, struct vmbus_srv_ref list, uint32_t down_page,
		     struct vmbus__refusal *why);
void vmbus__rings_unmap(struct vmbus_chan *chan);

/* inbox.c: what the child posts and signals. */
struct vmbus__message {
	uint32_t conn_id;
	uint32_t bytes;
	uint8_t payload[VMBUS_HC_MESSAGE_MAX];
};
int vmbus__inbox_init(struct vmbus_bus *bus);
void vmbus__inbox_fini(struct vmbus_bus *bus);
const struct vmbus__message *vmbus__inbox_peek(struct vmbus_bus *bus);
void vmbus__inbox_drop(struct vmbus_bus *bus);
bool vmbus__inbox_any(struct vmbus_bus *bus);
typedef void vmbus__message_fn(void *ctx, const struct vmbus__message *message);
uint32_t vmbus__inbox_each(struct vmbus_bus *bus, vmbus__message_fn *fn, void *ctx);
struct vmbus_chan *vmbus__chan_at(struct vmbus_bus *bus, uint32_t slot);
void vmbus__chan_look(struct vmbus_chan *chan, uint32_t slot);

/* conns.c: connection id -> slot, read by any thread. */
int vmbus__conn_add(struct vmbus_bus *bus, uint32_t conn_id, uint32_t slot);
void vmbus__conn_remove(struct vmbus_bus *bus, uint32_t conn_id, uint32_t slot);
int vmbus__conn_find(struct vmbus_bus *bus, uint32_t conn_id);

/* chan.c: packets; on the channel's thread. */
uint32_t vmbus__chan_turn(struct vmbus_chan *chan, uint32_t budget, bool sleep, bool *again);
int vmbus__chan_publish(struct vmbus_chan *chan);
bool vmbus__chan_ready(struct vmbus_chan *chan);
void vmbus__chan_note(struct vmbus_chan *chan, const struct vmbus_fault *fault, const char *why);
void vmbus__chan_give_bytes(struct vmbus_chan *chan);

/* life.c: opening and closing; on the channel's thread. */
void vmbus__chan_commands(struct vmbus_chan *chan);
void vmbus__chan_break(struct vmbus_chan *chan);
void vmbus__chan_command(struct vmbus_chan *chan, uint64_t cmd); /* the bus thread's */
void vmbus__chan_answer(struct vmbus_chan *chan, uint64_t ans);	 /* any thread's */
void vmbus__chan_show(struct vmbus_chan *chan);
void vmbus__chan_raise(struct vmbus_chan *chan);
uint32_t vmbus__chan_idle(struct vmbus_chan *chan);
void vmbus__restore_free(struct vmbus_chan *chan);

/* opts.c: what a bus is asked to be, and why it is refused. */
int vmbus__opts_check(const struct vmbus_bus_opts *opts);
void vmbus__opts_tell_regions(const struct vmbus_bus_opts *opts, int err);

/* bus.c */
void vmbus__bus_free(struct vmbus_bus *bus);
int vmbus__watch(int epoll_fd, int fd, uint32_t events, uint64_t who);
uint32_t vmbus__bus_turn(struct vmbus_bus *bus, uint32_t slot, uint32_t budget, bool sleep);
uint32_t vmbus__bus_pay(struct vmbus_bus *bus, uint32_t budget);
uint32_t vmbus__next_slot(const uint64_t *set, uint64_t sum, uint32_t slot);

/* poll.c: who is worth a look without a signal. */
void vmbus__heat(struct vmbus_bus *bus, uint32_t slot, bool busy);

/* end.c: the end of a bus.  The backend for processes calls the first two as well. */
void vmbus__bus_remove(struct vmbus_bus *bus);
bool vmbus__bus_visited(const struct vmbus_bus *bus);

/* control.c: the machine's actions and the channels' answers; bus thread. */
uint32_t vmbus__actions(struct vmbus_bus *bus, uint32_t budget);
uint32_t vmbus__answers(struct vmbus_bus *bus, uint32_t budget);
void vmbus__chan_try_finish(struct vmbus_chan *chan);
void vmbus__chan_end(struct vmbus_chan *chan);
bool vmbus__primary_resumes(const struct vmbus_chan *chan);
void vmbus__chan_set_local(struct vmbus_chan *chan, enum vmbus__local local);
int vmbus__restore_rings(struct vmbus_chan *chan, const struct vmbus_srv_action *action,
			 struct vmbus__refusal *why);
void vmbus__restore_cancel(struct vmbus_chan *chan);
void vmbus__end_openings(struct vmbus_bus *bus);

/* bind.c: signals that come past the bus. */
void vmbus__bind(struct vmbus_chan *chan);
void vmbus__unbind(struct vmbus_chan *chan);
bool vmbus__take_bound(struct vmbus_bus *bus);

/* watch.c: a device's own descriptor; on the channel's thread. */
#define VMBUS__WATCHED ((uint64_t)1 << 32) /* in what an epoll tells, above the slot */
void vmbus__unwatch(struct vmbus_chan *chan);
void vmbus__watch_pause(struct vmbus_chan *chan);
void vmbus__watch_again(struct vmbus_chan *chan);
bool vmbus__watch_take(struct vmbus_chan *chan);

/* foreign.c: channels whose rings another process serves; bus thread. */
void vmbus__foreign_signal(struct vmbus_chan *chan);
void vmbus__foreign_unbind(struct vmbus_chan *chan);
void vmbus__foreign_events(struct vmbus_bus *bus);
void vmbus__foreign_dirty(const struct vmbus_chan *chan);

/* Of a sub-channel; NULL: it is none, or its primary is gone.  Any thread of the channel, and the bus's. */
static inline struct vmbus_chan *vmbus__chan_primary(const struct vmbus_chan *chan)
{
	const uint64_t at = vmbus__ld64_relaxed(&chan->primary); /* PRIMARY.look */

	return (struct vmbus_chan *)(uintptr_t)at;
}

/* offers.c; bus thread. */
int vmbus__offer_subs(struct vmbus_chan *primary, uint32_t count);
void vmbus__subs_connected(struct vmbus_bus *bus);
void vmbus__subs_asked(struct vmbus_chan *primary);
void vmbus__some_sub_removed(struct vmbus_bus *bus);
void vmbus__chan_drain(struct vmbus_chan *chan, bool on);
void vmbus__chan_pause(struct vmbus_chan *chan, uint32_t why, bool pause);
void vmbus__sub_removed(struct vmbus_chan *primary);
void vmbus__revoke(struct vmbus_chan *chan);
void vmbus__revoke_subs(struct vmbus_chan *primary);
void vmbus__forget_sub(struct vmbus_chan *chan);
void vmbus__chan_remove(struct vmbus_chan *chan);
void vmbus__graveyard_free(struct vmbus_bus *bus);
void vmbus__chan_displace(struct vmbus_chan *chan);
void vmbus__chan_place(struct vmbus_chan *chan, struct vmbus_srv_ref ref);
void vmbus__chan_bury_at(struct vmbus_chan *chan, uint32_t slot);
int vmbus__offer_again(struct vmbus_chan *chan);
struct vmbus_chan *vmbus__sub_again(struct vmbus_chan *primary);
void vmbus__sub_offered(struct vmbus_chan *chan);

/* restore.c; bus thread. */
void vmbus__restore_run(struct vmbus_bus *bus);

/* memory.c: the memory map, page lists. */
const struct vmbus_mem *vmbus__mem(struct vmbus_bus *bus);
int vmbus__list_ready(struct vmbus_bus *bus, struct vmbus_chan *chan,
		      const struct vmbus_srv_action *action);
void vmbus__list_down(struct vmbus_bus *bus, const struct vmbus_srv_action *action);
void vmbus__list_use(struct vmbus_chan *chan, bool use);
void vmbus__lists_poll(struct vmbus_bus *bus);
void vmbus__lists_free(struct vmbus_bus *bus);

/* timer.c; bus thread. */
void vmbus__timer_want(struct vmbus_bus *bus, uint64_t at);
uint32_t vmbus__timer_run(struct vmbus_bus *bus);
void vmbus__chan_at_time(struct vmbus_chan *chan, uint64_t *at, uint64_t delay);
void vmbus__chan_no_time(struct vmbus_chan *chan, uint64_t *at);
void vmbus__wait_for_pins(struct vmbus_bus *bus);
void vmbus__monitor_changed(struct vmbus_bus *bus);

/* tap.c; on the channel's thread, and the last two on that of the bus. */
void vmbus__tap_opened(struct vmbus_chan *chan, bool already);
void vmbus__tap_closed(struct vmbus_chan *chan, int err);
void vmbus__tap_received(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n);
void vmbus__tap_sent(struct vmbus_chan *chan, const struct vmbus_msg *msg, uint32_t n);
void vmbus__tap_publish(struct vmbus_chan *chan);
void vmbus__tap_take(struct vmbus_chan *chan);
void vmbus__tap_answered(struct vmbus_chan *chan);
void vmbus__tap_drop(struct vmbus_chan *chan);

/* log.c; bus thread. */
void vmbus__log(struct vmbus_bus *bus, enum vmbus_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void vmbus__log_refusal(struct vmbus_bus *bus);

#endif
