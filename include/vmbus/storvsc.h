/* SPDX-License-Identifier: MIT */
/*
 * The block device's client (StorVSC): SCSI commands, and disks on top of them, asynchronous, on a
 * primary channel and its sub-channels.  Freestanding: it runs in a process, in a guest's user space
 * and in a program without an operating system.
 *
 * Concepts: vmbus_storvsc(7).
 *
 * Threads: "the guest's" and "the channel's" as in <vmbus/vsc.h>.  A request's done() comes from the
 * thread of the channel that it was submitted on.
 */
#ifndef VMBUS_STORVSC_H
#define VMBUS_STORVSC_H

#include <vmbus/vsc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* {ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}, the synthetic SCSI controller */
#define VMBUS_BLOCK_CLASS                                                                          \
	VMBUS_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f)

#define VMBUS_STORVSC_CHANNELS_MAX 65u
#define VMBUS_STORVSC_SENSE_BYTES 20u
#define VMBUS_STORVSC_TRANSFER_MAX (UINT32_C(8) << 20) /* of one request, whatever a host tells */

/* A piece of a buffer, in memory that the parent can reach: of vmbus_guest_pages(), or another that
   the backend's pfn() knows. */
struct vmbus_storvsc_piece {
	void *data;
	uint32_t bytes;
	uint32_t reserved;
};

enum vmbus_storvsc_way {
	VMBUS_STORVSC_NONE = 0,
	VMBUS_STORVSC_TO_DISK = 1,
	VMBUS_STORVSC_FROM_DISK = 2
};

/*
 * A SCSI command: caller's storage, the client's from submit to done().  Set what is above "outcome",
 * zero the rest.
 */
struct vmbus_storvsc_req {
	uint8_t target, lun;
	uint8_t cdb_bytes; /* 6, 10, 12 or 16 */
	uint8_t way;	   /* enum vmbus_storvsc_way */
	uint32_t pieces;   /* 0 and up */
	/* All but the first begin at a page, all but the last end at one. */
	const struct vmbus_storvsc_piece *piece;
	uint8_t cdb[16];
	void (*done)(struct vmbus_storvsc_req *req);
	void *ctx;
	/* Outcome: 0 with GOOD; RANGE with another status; PEER when the channel ended before, or the
	   answer made no sense. */
	int err;
	uint8_t scsi_status, srb_status;
	uint8_t sense_bytes; /* valid in sense */
	uint8_t reserved1;
	uint32_t moved; /* bytes of the buffer, never more than it has */
	uint8_t sense[VMBUS_STORVSC_SENSE_BYTES];
	uint32_t bytes_p;
	uint32_t want_p;   /* of vmbus_storvsc_read() and _write(): what the pieces must have */
	uint32_t expect_p; /* the same while it is under way: what must have been moved */
	struct vmbus_storvsc *storvsc_p;
	uint64_t reserved_p[2];
};

/* How to open; 0 takes the default in brackets. */
struct vmbus_storvsc_opts {
	size_t struct_bytes;  /* sizeof(struct vmbus_storvsc_opts) */
	uint32_t subchannels; /* wanted, up to 64; the host may give fewer */
	uint32_t depth;	      /* [256] requests at once on each channel, up to 65,535 */
	uint32_t vps;	      /* [1] channel n interrupts the VP open.target_vp + n % vps */
	uint32_t reserved1;
	/* Ring sizes [128 KiB each], target_vp, poll and own_thread of all channels; the rest is
	   filled in.  All zero: all defaults. */
	struct vmbus_vsc_opts open;
	/* The controller can be used, from the primary channel's thread; or why not, from the
	   guest's, and that is the end.  Once for each start. */
	void (*ready)(void *ctx, int err);
	/* One more channel is open, the primary first.  With own_thread its thread may begin, and
	   must for the primary: ready() comes from there.  May be NULL. */
	void (*opened)(void *ctx, uint32_t channel);
	/* own_thread: as wake() in struct vmbus_vsc_opts. */
	void (*wake)(void *ctx, uint32_t channel);
	/* Disks came, went or changed: look again.  From the primary's thread.  May be NULL. */
	void (*changed)(void *ctx);
	/* After FULL there is room again on that channel.  May be NULL. */
	void (*writable)(void *ctx, uint32_t channel);
	/* The end, after ready(0), from the guest's thread: it was stopped, or the parent left.  All
	   requests were done before.  May be NULL. */
	void (*closed)(void *ctx);
	void *ctx;
	uint64_t reserved2[4];
};

struct vmbus_storvsc;
struct vmbus_storvsc_disk;

struct vmbus_storvsc_chan {
	struct vmbus_storvsc *storvsc_p;
	struct vmbus_vsc *vsc_p; /* NULL: not opening, not open */
	uint32_t number_p;	 /* as told by opened() */
	uint32_t reserved_p;
};

/* A controller, in the caller's storage.  transfer_bytes, version and offered may be read from
   ready() on, channels by the guest's thread. */
struct vmbus_storvsc {
	uint32_t channels;	 /* opened so far: 0 to channels - 1 can be used from ready() on */
	uint32_t offered;	 /* that the host has promised, the primary included */
	uint32_t transfer_bytes; /* of one request at most, a multiple of 4096 */
	uint16_t version;	 /* negotiated, major in the high byte: 0x0602, 0x0600, 0x0501 */
	uint16_t reserved1;
	uint64_t bad; /* answers that made no sense */
	struct vmbus_storvsc_chan chan_p[VMBUS_STORVSC_CHANNELS_MAX]; /* by index of sub-channel */
	struct vmbus_storvsc_chan *by_p[VMBUS_STORVSC_CHANNELS_MAX];  /* by number */
	struct vmbus_storvsc_opts opts_p;
	uint32_t ready_p; /* set by the primary's thread */
	uint32_t step_p;
	uint32_t versions_p; /* tried */
	uint32_t subs_p;     /* granted */
	uint32_t pending_p;  /* channels that are not closed */
	int err_p;
	bool changed_p;
	bool stop_p;
	uint8_t reserved2[6];
	struct vmbus_storvsc_disk *waiting_p; /* probes that found no room */
	uint64_t reserved_p[8];
};

/*
 * Open a controller's channel and agree on version and limits.  Goes on in callbacks; ends with
 * ready().  Sub-channels are asked for and opened as well.
 *
 * s	 caller's storage; kept until closed(), or a ready() with an error.
 * vsc	 an offered primary of class VMBUS_BLOCK_CLASS.
 * opts	 copied.
 *
 * Errors: INVAL  struct_bytes is too small
 *	   RANGE  subchannels or depth is out of bounds, or a ring is too small for a page of data
 *	   STATE, NOMEM, and INVAL and RANGE for open  as vmbus_vsc_open()
 * ready() may tell: PEER    the parent refused, made no sense, or withdrew the channel
 *		     NOTSUP  none of the versions above
 *		     STATE   vmbus_storvsc_stop() came first
 *		     FULL    as vmbus_vsc_open()
 * Effect: opens the channel; none on error.
 * Threads: the guest's.
 * Source: [STOR-INIT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_storvsc_start(struct vmbus_storvsc *s, struct vmbus_vsc *vsc,
				  const struct vmbus_storvsc_opts *opts);

/*
 * Begin to close all channels: requests under way end with PEER, closed() follows.
 *
 * Errors: STATE  it is not started, or stopping
 * Threads: the guest's.
 */
VMBUS_API int vmbus_storvsc_stop(struct vmbus_storvsc *s);

/*
 * The channel, for vmbus_vsc_dispatch() of those with own_thread or poll, and vmbus_vsc_flush().
 *
 * channel  0 (the primary) to channels - 1.
 *
 * Returns NULL for others, and for those that have ended.
 * Effect: none.
 * Threads: the channel's, and the guest's.
 */
VMBUS_API struct vmbus_vsc *vmbus_storvsc_channel(struct vmbus_storvsc *s, uint32_t channel);

/*
 * Submit a command.  Within a callback of that channel it is published when the callback returns,
 * elsewhere at once.
 *
 * channel  0 to channels - 1.
 * req	    kept until its done(), which follows exactly once.
 *
 * Errors: RANGE  channel, cdb_bytes, way, or more bytes than transfer_bytes
 *	   INVAL  a piece that the parent cannot reach, has no bytes, or an inner border that is no
 *		  page border; a way without pieces, or pieces without one; or not as many bytes as
 *		  vmbus_storvsc_read() or _write() was told
 *	   FULL	  depth requests are under way, or no room in the ring; writable() follows
 *	   STATE  it is not ready, or stopped, or that channel has ended
 *	   PEER, FAULT  as vmbus_vsc_send()
 * Effect: none on error, and no done().
 * Threads: the channel's.
 * Source: [STOR-SRB] in vmbus_wire(7).
 */
VMBUS_API int vmbus_storvsc_submit(struct vmbus_storvsc *s, uint32_t channel,
				   struct vmbus_storvsc_req *req);

/*
 * Whether a request that is done was not carried out and may well be when it is submitted again: BUSY,
 * TASK SET FULL, UNIT ATTENTION (something has changed, as the size) and ABORTED COMMAND.  The caller
 * limits how often.
 *
 * req  as done() has it.
 *
 * Effect: none.
 * Threads: any.
 * Source: [STOR-SENSE] in vmbus_wire(7).
 */
VMBUS_API bool vmbus_storvsc_retry(const struct vmbus_storvsc_req *req);

/*
 * Submit several, with one signal.
 *
 * n  1 and up.
 *
 * Returns how many were submitted: fewer than n when one cannot be, and then the next call tells why.
 * Errors, effect, threads: as vmbus_storvsc_submit(), of the first.
 */
VMBUS_API int vmbus_storvsc_submit_many(struct vmbus_storvsc *s, uint32_t channel,
					struct vmbus_storvsc_req *const *req, uint32_t n);

/* A disk, in the caller's storage: what vmbus_storvsc_probe() found. */
struct vmbus_storvsc_disk {
	struct vmbus_storvsc *storvsc;
	uint8_t target, lun;
	bool read_only;
	bool cached;	     /* writes are durable after a flush only */
	bool fua;	     /* vmbus_storvsc_write() with fua works */
	bool discard;	     /* vmbus_storvsc_discard() works */
	bool discard_zeroes; /* and gives zeroes */
	uint8_t reserved1;
	uint32_t sector;	/* bytes */
	uint32_t block;		/* bytes that it works on best */
	uint32_t discard_max;	/* sectors at once */
	uint32_t discard_grain; /* sectors */
	uint64_t sectors;
	char vendor[9], product[17], revision[5], serial[33];
	uint8_t id[16]; /* of page 83, zero: none */
	/* While it is looked at. */
	struct vmbus_storvsc_req req_p;
	struct vmbus_storvsc_piece piece_p;
	struct vmbus_storvsc_disk *next_p;
	void (*done_p)(struct vmbus_storvsc_disk *disk, int err, void *ctx);
	void *ctx_p;
	uint32_t step_p, tries_p;
	uint32_t pages_p; /* of those that have a meaning here, which it has */
	uint32_t reserved_p;
	uint64_t reserved2_p[4];
};

/*
 * Look what is at an address: size, sector, cache, limits.
 *
 * disk	    caller's storage; kept until done, and as long as it is used.
 * page	    4096 bytes that the parent can reach, at a page's begin; kept until done.
 * done	    follows once: 0; RANGE: no disk there, or not ready; AGAIN: too busy to tell; PEER: answers
 *	    that make no sense, or the end.
 *
 * Errors: INVAL  page is NULL, not aligned, or cannot be reached; done is NULL
 *	   STATE  it is not ready, or stopped
 *	   PEER, FAULT  as vmbus_vsc_send()
 * Effect: commands on channel 0.
 * Threads: the primary channel's.
 */
VMBUS_API int vmbus_storvsc_probe(struct vmbus_storvsc_disk *disk, struct vmbus_storvsc *s,
				  uint8_t target, uint8_t lun, void *page,
				  void (*done)(struct vmbus_storvsc_disk *disk, int err, void *ctx),
				  void *ctx);

/*
 * Fill in a request that reads, writes, flushes or discards; submit it then.  Set piece, pieces, done
 * and ctx by yourself; discard takes one piece of 24 bytes, which is filled in, flush none.  Fill in
 * again what is submitted again.
 *
 * sector   the first; sectors: how many, 1 and up.
 * fua	    done when it is durable.
 *
 * Errors: RANGE   not all of it is on the disk, or more than one request may have
 *	   NOTSUP  no discard; fua, and the disk has none
 *	   PERM	   a write, and the disk is read-only
 *	   INVAL   discard: not one piece of 24 bytes
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_storvsc_read(const struct vmbus_storvsc_disk *disk,
				 struct vmbus_storvsc_req *req, uint64_t sector, uint32_t sectors);
VMBUS_API int vmbus_storvsc_write(const struct vmbus_storvsc_disk *disk,
				  struct vmbus_storvsc_req *req, uint64_t sector, uint32_t sectors,
				  bool fua);
VMBUS_API int vmbus_storvsc_flush(const struct vmbus_storvsc_disk *disk,
				  struct vmbus_storvsc_req *req);
VMBUS_API int vmbus_storvsc_discard(const struct vmbus_storvsc_disk *disk,
				    struct vmbus_storvsc_req *req, uint64_t sector,
				    uint32_t sectors);

#ifdef __cplusplus
}
#endif
#endif
