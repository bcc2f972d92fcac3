/* SPDX-License-Identifier: MIT */
/*
 * Captured channels: what a record says, how records come out of a tap, and files of them, which
 * are pcapng.  Neither a tap's memory nor a file is trusted by who reads it.
 *
 * Concepts, every byte of the format: vmbus_capture(7).  Taps are made by <vmbus/tap.h>.  Hosted: in
 * vmbus::vmbus.
 */
#ifndef VMBUS_CAPTURE_H
#define VMBUS_CAPTURE_H

#include <vmbus/ctl.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_CAPTURE_HEADER_BYTES 32u	 /* before the bytes of every record */
#define VMBUS_CAPTURE_SNAP_MAX 262144u	 /* header and payload bytes of a packet that are kept */
#define VMBUS_CAPTURE_LINKTYPE 147u	 /* LINKTYPE_USER0 */
#define VMBUS_CAPTURE_CHANNELS_MAX 4096u /* of one file */

enum vmbus_capture_kind {
	VMBUS_CAPTURE_PACKET = 1,
	VMBUS_CAPTURE_OPEN = 2,	  /* the child opens the channel, or it is open already */
	VMBUS_CAPTURE_CLOSE = 3,  /* it is closed, or its opening failed */
	VMBUS_CAPTURE_CHANNEL = 4 /* what the channel is; the first record of each */
};

enum vmbus_capture_dir {
	VMBUS_CAPTURE_NEITHER = 0,
	VMBUS_CAPTURE_FROM_CHILD = 1,
	VMBUS_CAPTURE_TO_CHILD = 2
};

/* One record. */
struct vmbus_capture_record {
	uint64_t time_ns; /* since 1970 */
	uint64_t dropped; /* records lost between the one before and this one */
	uint32_t kind;	  /* enum vmbus_capture_kind */
	uint32_t dir;	  /* enum vmbus_capture_dir */
	uint64_t batch;	  /* callbacks of packets() up to this record, since the tap began */
	/* Of a PACKET, as in struct vmbus_packet; of others 0. */
	uint64_t id;
	uint16_t type;
	uint16_t flags;
	uint32_t ext_len;
	uint32_t len; /* of others: bytes of the body */
	/* What was kept: data_len bytes, the type-specific header first, then the payload. */
	uint32_t data_len;
	uint32_t channel; /* number of the channel within its file, from 0 */
	uint32_t reserved;
	const uint8_t *data;
};

/* Body of a CHANNEL record. */
struct vmbus_capture_channel {
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	uint32_t relid;
	uint32_t sub_index;
	uint32_t snap; /* bytes kept of a packet at most */
	uint32_t reserved;
	char vsp[32];
	char child[64];
};

#define VMBUS_CAPTURE_OPEN_ALREADY 1u /* it was open when the tap began */

/* Body of an OPEN record. */
struct vmbus_capture_open {
	uint32_t from_bytes; /* data bytes of the ring from the child */
	uint32_t to_bytes;
	uint32_t target_vp;
	uint32_t flags; /* VMBUS_CAPTURE_OPEN_* */
	uint8_t user[120];
};

/* Body of a CLOSE record. */
struct vmbus_capture_close {
	int32_t err; /* 0; PEER: broken; others: the device refused the open */
	uint32_t reserved;
	char why[160];
};

/*
 * The body of a record of that kind.  Text becomes printable ASCII that ends.
 *
 * Errors: INVAL  a record of another kind, or without a whole body
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_capture_channel_get(const struct vmbus_capture_record *record,
					struct vmbus_capture_channel *body);
VMBUS_API int vmbus_capture_open_get(const struct vmbus_capture_record *record,
				     struct vmbus_capture_open *body);
VMBUS_API int vmbus_capture_close_get(const struct vmbus_capture_record *record,
				      struct vmbus_capture_close *body);

/* The reading end of a tap, of one thread at a time; opaque. */
struct vmbus_tap_reader;

struct vmbus_tap_counts {
	uint64_t records; /* put into the memory so far */
	uint64_t dropped; /* found no room */
	uint32_t snap;
	bool ended; /* nothing more will come */
	uint8_t reserved[3];
	uint64_t reserved2[2];
};

/*
 * Read what vmbus_chan_tap() writes into memory, also in another process.
 *
 * mem, bytes  the tap's; kept until vmbus_tap_reader_destroy().  One reader per tap.
 *
 * Errors: INVAL  mem is no tap's
 *	   PEER	  its words contradict one another
 *	   NOMEM  out of memory
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_tap_reader_create(void *mem, size_t bytes, struct vmbus_tap_reader **reader);

/*
 * The next record.
 *
 * record  on success; data is valid until the next call.
 *
 * Returns 1 with a record, 0 when there is none now.
 * Errors: STATE  the tap has ended, and everything was read
 *	   PEER	  the memory says what cannot be
 *	   FAULT  a call before this one said PEER
 * Effect: room for the tap.
 * Threads: one at a time per reader.
 */
VMBUS_API int vmbus_tap_reader_next(struct vmbus_tap_reader *reader,
				    struct vmbus_capture_record *record);

/*
 * Ask to be woken by the tap's wake() when there is a record; then look once more.
 *
 * Returns 0: sleep now.  1: do not sleep, there is something, or the tap has ended.
 * Errors: PEER, FAULT  as vmbus_tap_reader_next()
 * Effect, threads: the next vmbus_tap_reader_next() takes it back; one at a time per reader.
 */
VMBUS_API int vmbus_tap_reader_arm(struct vmbus_tap_reader *reader);

/*
 * What the tap has counted so far; as much to be believed as its memory.
 *
 * Effect: none.
 * Threads: one at a time per reader.
 */
VMBUS_API void vmbus_tap_reader_counts(const struct vmbus_tap_reader *reader,
				       struct vmbus_tap_counts *counts);

/*
 * The end of vmbus_tap_reader_create().
 *
 * reader  NULL is allowed.
 *
 * Effect: none on the tap: vmbus_chan_untap() ends that.
 * Threads: none other may be in a call on the reader.
 */
VMBUS_API void vmbus_tap_reader_destroy(struct vmbus_tap_reader *reader);

/* Writes a file of records; opaque. */
struct vmbus_capture_writer;

struct vmbus_capture_writer_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_capture_writer_opts) */
	/* Takes all bytes and returns 0, or an error, which the call that wrote then returns. */
	int (*write)(void *ctx, const void *bytes, size_t n);
	void *ctx;
	const char *application; /* NULL, or who writes, up to 63 bytes of printable ASCII */
	uint64_t reserved[2];
};

/*
 * Begin a file.
 *
 * Errors: INVAL  a size is wrong, or write is missing
 *	   NOMEM  out of memory
 *	   what write() returned
 * Effect: the section's header is written; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_capture_writer_create(const struct vmbus_capture_writer_opts *opts,
					  struct vmbus_capture_writer **writer);

/*
 * Write one record.  A CHANNEL record begins a channel of the file.
 *
 * source  0 to 4095: the caller's number of the tap that the record came from.
 * record  its member channel is not looked at.
 *
 * Errors: RANGE  source, data_len, or more than 4096 channels
 *	   INVAL  a record of no kind, or none of the source's before it was a CHANNEL, or one
 *		  without a whole body
 *	   what write() returned
 * Effect: on an error of write() the file may end within a block.
 * Threads: one at a time per writer.
 */
VMBUS_API int vmbus_capture_writer_put(struct vmbus_capture_writer *writer, uint32_t source,
				       const struct vmbus_capture_record *record);

/*
 * Write what a tap has counted, once when it has ended.
 *
 * Errors: RANGE, INVAL  as for vmbus_capture_writer_put(), or what write() returned
 * Effect, threads: as vmbus_capture_writer_put().
 */
VMBUS_API int vmbus_capture_writer_counts(struct vmbus_capture_writer *writer, uint32_t source,
					  const struct vmbus_tap_counts *counts);

/*
 * The end of a writer.
 *
 * writer  NULL is allowed.
 *
 * Effect: nothing is written.
 * Threads: none other may be in a call on it.
 */
VMBUS_API void vmbus_capture_writer_destroy(struct vmbus_capture_writer *writer);

/* Reads a file of records; opaque. */
struct vmbus_capture_reader;

struct vmbus_capture_reader_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_capture_reader_opts) */
	/* Up to n bytes of the file; returns how many, 0 at its end, or a negative error. */
	long (*read)(void *ctx, void *bytes, size_t n);
	void *ctx;
	uint64_t reserved[2];
};

/*
 * Read a pcapng file: of ours, or what other programs made of one.
 *
 * Errors: INVAL  a size is wrong, or read is missing
 *	   NOMEM  out of memory
 * Effect: nothing is read yet.
 * Threads: any.
 */
VMBUS_API int vmbus_capture_reader_create(const struct vmbus_capture_reader_opts *opts,
					  struct vmbus_capture_reader **reader);

/*
 * The next record.  Blocks that are none of ours are passed over.
 *
 * record  on success; data is valid until the next call.
 *
 * Returns 1 with a record, 0 at the end of the file.
 * Errors: PEER   the file is not as it should be: vmbus_capture_reader_why()
 *	   FAULT  a call before this one said PEER
 *	   what read() returned
 * Effect: none but on the reader.
 * Threads: one at a time per reader.
 */
VMBUS_API int vmbus_capture_reader_next(struct vmbus_capture_reader *reader,
					struct vmbus_capture_record *record);

/*
 * What is wrong with the file and where, for people; "" when nothing is.  Valid until
 * vmbus_capture_reader_destroy().
 *
 * Effect: none.
 * Threads: one at a time per reader.
 */
VMBUS_API const char *vmbus_capture_reader_why(const struct vmbus_capture_reader *reader);

/*
 * The end of a reader.
 *
 * reader  NULL is allowed.
 *
 * Effect: none on the file.
 * Threads: none other may be in a call on it.
 */
VMBUS_API void vmbus_capture_reader_destroy(struct vmbus_capture_reader *reader);

#ifdef __cplusplus
}
#endif
#endif
