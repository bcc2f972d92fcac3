/* SPDX-License-Identifier: MIT */
/*
 * For people who look for what is stuck: snapshots of a bus and its channels, and the flight
 * recorder, which keeps the last control events of a child where they survive the process.
 *
 * What a snapshot tells, the events and their format: vmbus_bus(7).
 */
#ifndef VMBUS_DIAG_H
#define VMBUS_DIAG_H

#include <vmbus/bus.h>
#include <vmbus/look.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Steps of a channel's life; a snapshot has the time of each. */
enum vmbus_step {
	VMBUS_STEP_OFFERED = 0, /* by the device */
	VMBUS_STEP_TOLD,	/* the child was sent the offer */
	VMBUS_STEP_GPADL,	/* a page list of its was accepted */
	VMBUS_STEP_OPEN,	/* the child asked to open it */
	VMBUS_STEP_OPENED,	/* the device did */
	VMBUS_STEP_REFUSED,	/* an open failed, or a page list was refused */
	VMBUS_STEP_ACCEPTED,	/* the child was first seen to use the rings */
	VMBUS_STEP_CLOSE,	/* the close began, whoever wanted it */
	VMBUS_STEP_CLOSED,	/* the device is closed */
	VMBUS_STEP_FAULT,	/* the child broke it */
	VMBUS_STEP_RESCINDED,	/* the child was sent the rescind */
	VMBUS_STEP_MESSAGE,	/* the last message of the child's that names it */
	VMBUS_STEPS
};

/* Who is waited for; bits. */
#define VMBUS_WAIT_DEVICE_OPEN 0x1u  /* channel: the device has not answered open */
#define VMBUS_WAIT_DEVICE_CLOSE 0x2u /* channel: nor close */
#define VMBUS_WAIT_PINS 0x4u	     /* channel: the device holds pages of the child's */
#define VMBUS_WAIT_ROOM 0x8u	     /* channel: a send waits for room: the child must read */
#define VMBUS_WAIT_RELEASE 0x10u     /* channel: the child has not released a withdrawn one */
#define VMBUS_WAIT_THREAD 0x20u	     /* channel with own_fd: it was woken, nobody has come */
#define VMBUS_WAIT_PAUSED 0x40u	     /* channel: the device takes no packets: vmbus_chan_pause() */
#define VMBUS_WAIT_SLOT 0x100u	     /* bus: the child has not taken a message */
#define VMBUS_WAIT_CONTACT 0x200u    /* bus: the child has not made contact */
#define VMBUS_WAIT_REPLIES 0x400u    /* bus: messages of the child wait for replies to be posted */
#define VMBUS_WAIT_LISTS 0x800u	     /* bus: page lists wait for views of them to go */

/* A channel, as it is now.  Times are CLOCK_MONOTONIC in ns, 0: never, or not known. */
struct vmbus_chan_diag {
	struct vmbus_chan_info info; /* counters included; texts are valid until the next call */
	uint64_t now;
	uint64_t since;		     /* the last step: so long it is as it is */
	uint64_t steps[VMBUS_STEPS]; /* by enum vmbus_step: the last time of each */
	uint32_t state;		     /* enum vmbus_srv_state */
	uint32_t waits;		     /* VMBUS_WAIT_* */
	uint32_t gpadls;	     /* page lists of the channel */
	uint32_t pins;		     /* lists that the device holds */
	uint32_t need;		     /* bytes of room that a send waits for */
	bool own_fd;
	bool foreign;	    /* served by another process */
	bool armed;	    /* not own_fd: we sleep until the child signals */
	bool bound;	    /* the child's signals come past the bus */
	bool from_child_ok; /* the words were read, and the indices can be */
	bool to_child_ok;
	uint8_t reserved1[2];
	struct vmbus_ring_words from_child; /* all 0 while closed */
	struct vmbus_ring_words to_child;
	uint64_t signals;	  /* from the child; bound ones may be counted once for several */
	uint64_t signal_at;	  /* the last of them; only with a recorder */
	uint64_t raised;	  /* to the child */
	uint64_t raised_at;	  /* the last of them; only with a recorder */
	const char *refused;	  /* why the last refusal, "" for none */
	uint32_t owner;		  /* foreign: process of its provider, if it is known; 0: none */
	uint32_t under_way;	  /* requests that the device has, vmbus_chan_under_way() */
	uint64_t under_way_since; /* the last of them was answered, or the first one came */
	uint64_t reserved2[7];
};

/* A bus, as it is now. */
struct vmbus_bus_diag {
	const char *name;
	uint64_t now;
	uint64_t created;
	uint64_t contact;      /* the child made contact, last */
	uint64_t offers;       /* it asked for offers, last */
	uint64_t message;      /* its last message */
	uint64_t slot_since;   /* WAIT_SLOT: since when */
	uint64_t refused;      /* a message of its was refused, last */
	uint32_t version;      /* agreed, 0: not connected */
	uint32_t waits;	       /* VMBUS_WAIT_* */
	uint32_t slot_message; /* WAIT_SLOT: enum vmbus_ctl_type of what waits */
	uint32_t channels;
	struct vmbus_srv_refusal refusal; /* the last one */
	struct vmbus_bus_stats stats;
	uint64_t reserved[8];
};

/*
 * Tell how a bus is.
 *
 * diag	 filled in; name is valid as long as the bus, refusal.what for ever.
 *
 * Effect: none.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_bus_diag(struct vmbus_bus *bus, struct vmbus_bus_diag *diag);

/*
 * Tell how the channels of a bus are, one with each call, by rising relid.
 *
 * at	 where to look from: 0 at first; moved on behind the channel told.
 * diag	 filled in on 1.
 *
 * Returns 1 with a channel, 0 when there are no more.  Channels that come or go between calls may be
 * missing.
 * Effect: none: the words of the rings are read once, and a channel with own_fd is asked by poll(2)
 * whether it was woken.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_bus_diag_next(struct vmbus_bus *bus, uint32_t *at,
				  struct vmbus_chan_diag *diag);

/* The name of a step, for instance "opened"; "?" for a number that is none.  Threads: any. */
VMBUS_API const char *vmbus_step_name(uint32_t step);

#define VMBUS_RECORD_BYTES_MIN 1024u
#define VMBUS_RECORD_TEXT 80u /* bytes of an event's text, its end included */

/* What an event tells; a and b are numbers that belong to it. */
enum vmbus_record_kind {
	VMBUS_RECORD_IN = 1,	    /* a message of the child's: type, 0 or why not taken */
	VMBUS_RECORD_OUT,	    /* a message to it: type, VP */
	VMBUS_RECORD_DROPPED,	    /* a message to it that the backend refused: type, error */
	VMBUS_RECORD_BLOCKED,	    /* its message slot is taken: type of what waits, VP */
	VMBUS_RECORD_REFUSED,	    /* its message was refused: type, value; text says why */
	VMBUS_RECORD_CONNECTED,	    /* version, features */
	VMBUS_RECORD_DISCONNECTED,  /* it unloaded, or is gone */
	VMBUS_RECORD_RESET,	    /* the backend told that it is gone */
	VMBUS_RECORD_OFFER,	    /* by a device; text is its name */
	VMBUS_RECORD_REVOKE,	    /* withdrawn */
	VMBUS_RECORD_GPADL,	    /* a page list: its id, 0 or why it was refused */
	VMBUS_RECORD_GPADL_DOWN,    /* its id */
	VMBUS_RECORD_OPEN,	    /* asked for: page list of the rings, page of the second ring */
	VMBUS_RECORD_OPENED,	    /* by the device: 0 or its error */
	VMBUS_RECORD_NOT_OPENED,    /* refused: value, limit; text says what */
	VMBUS_RECORD_CLOSE,	    /* begins */
	VMBUS_RECORD_CLOSED,	    /* the device is */
	VMBUS_RECORD_MODIFY,	    /* interrupts move: VP */
	VMBUS_RECORD_RELEASED,	    /* child and machine have forgotten it */
	VMBUS_RECORD_FAULT,	    /* broken by the child: field, value; text says what */
	VMBUS_RECORD_ATTACHED,	    /* a child: process, VPs */
	VMBUS_RECORD_ENDED,	    /* it: enum vmbus_shm_end, process; text says why */
	VMBUS_RECORD_PROVIDER,	    /* a provider serves the channel: process */
	VMBUS_RECORD_PROVIDER_GONE, /* it died or was thrown out: process; text says why */
	VMBUS_RECORD_PROVIDER_AGAIN, /* another goes on: process, pause in ns */
	VMBUS_RECORD_SAVED,	     /* state written: bytes */
	VMBUS_RECORD_RESTORED,	     /* state read: bytes, 0 or an error */
	VMBUS_RECORD_NOTE	     /* the embedder's; from this number on all are */
};

struct vmbus_record_event {
	uint64_t number;  /* from 0 on, from the beginning of the record */
	uint64_t mono_ns; /* CLOCK_MONOTONIC */
	uint64_t real_ns; /* CLOCK_REALTIME, by the clocks' distance at the beginning; 0: damaged */
	uint32_t kind;	  /* enum vmbus_record_kind, or another number */
	uint32_t relid;	  /* 0: of no channel */
	uint64_t a;
	uint64_t b;
	const char *text; /* printable ASCII; valid for the callback */
};

struct vmbus_record_info {
	uint64_t begin_mono_ns;
	uint64_t begin_real_ns;
	uint64_t next; /* number that the next event would have */
	uint32_t pid;  /* of the parent */
	uint32_t room; /* events kept */
	uint32_t told; /* events given to the callback */
	uint32_t torn; /* left out: being written, or damaged */
	char name[64]; /* of the bus, made printable */
	uint64_t reserved[4];
};

/* An event to write. */
struct vmbus_record_note {
	uint32_t kind; /* enum vmbus_record_kind; the embedder's own: VMBUS_RECORD_NOTE and up */
	uint32_t relid;
	uint64_t a;
	uint64_t b;
	const char *text; /* NULL, or up to 79 bytes; copied */
};

/*
 * Write an event into the record of a bus, if it has one.
 *
 * note	 copied.
 *
 * Effect: the oldest event is overwritten when the record is full.
 * Threads: the one that dispatches the bus, callbacks included.  Never blocks.
 */
VMBUS_API void vmbus_bus_record(struct vmbus_bus *bus, const struct vmbus_record_note *note);

/*
 * The memory of the record of a bus, as `record` of struct vmbus_bus_opts gave it.
 *
 * bytes  where its size goes.
 *
 * Returns NULL, and 0 bytes, when there is none.
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const void *vmbus_bus_record_mem(const struct vmbus_bus *bus, size_t *bytes);

/*
 * Read a record: a mapping that is still written, or the bytes of a file that a parent left behind.
 *
 * mem, bytes  aligned to 8; hostile.
 * info	       filled in on success.
 * fn	       called for each event, oldest first; may be NULL.
 *
 * Errors: INVAL  it is no record, or damaged, or mem is not aligned
 *	   NOTSUP of a later version
 *	   RANGE  it says that it is longer than bytes
 * Effect: fn's.
 * Threads: any.
 */
VMBUS_API int vmbus_record_read(const void *mem, size_t bytes, struct vmbus_record_info *info,
				void (*fn)(void *ctx, const struct vmbus_record_event *event),
				void *ctx);

/*
 * An event as one line for people, without its time.
 *
 * buf	bytes of room; 200 is always enough; cut if it is less, and ended if it is not 0.
 *
 * Returns the length of the whole line.
 * Effect: none but on buf.
 * Threads: any.
 */
VMBUS_API size_t vmbus_record_format(const struct vmbus_record_event *event, char *buf,
				     size_t bytes);

/* The name of a kind of event, for instance "opened"; "note" from NOTE on; "?" for 0.  Threads: any. */
VMBUS_API const char *vmbus_record_kind_name(uint32_t kind);

#ifdef __cplusplus
}
#endif
#endif
