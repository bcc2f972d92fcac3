/* SPDX-License-Identifier: MIT */
/*
 * What every layer of the library shares: pieces of memory, errors with a code and a class, the
 * record of how a peer broke an object, and the marker for dirty pages.
 *
 * Concepts: vmbus(7).  Nothing here needs a C library.
 */
#ifndef VMBUS_BASE_H
#define VMBUS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define VMBUS_API __attribute__((visibility("default")))
#else
#define VMBUS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A page of the protocol is 4096 bytes, whatever the page size of host or guest. */
#define VMBUS_PAGE_BYTES 4096u

/* Memory to read from: a piece of a payload. */
struct vmbus_iov {
	const void *base;
	size_t len;
};

/* Memory to write to: a piece of a ring, lent by a reservation. */
struct vmbus_span {
	void *base;
	size_t len;
};

/*
 * Errors are negative.  Branch on the class, log the code.
 *
 * RETRY   nothing is wrong; try again after the other side has moved
 * CALLER  this call was wrong; nothing has changed
 * PEER    the other side broke the protocol; this object stays broken
 * SYSTEM  the operating system refused
 */
enum vmbus_err {
	VMBUS_OK = 0,
	VMBUS_E_AGAIN = -1,   /* RETRY: not now */
	VMBUS_E_FULL = -2,    /* RETRY: no room now; arm, then wait */
	VMBUS_E_INVAL = -3,   /* CALLER: an argument has no meaning here */
	VMBUS_E_RANGE = -4,   /* CALLER: a number is past its limit */
	VMBUS_E_STATE = -5,   /* CALLER: not allowed in this state */
	VMBUS_E_PEER = -6,    /* PEER: the peer broke this object just now */
	VMBUS_E_FAULT = -7,   /* PEER: the object was broken earlier */
	VMBUS_E_NOMEM = -8,   /* SYSTEM: out of memory */
	VMBUS_E_PERM = -9,    /* SYSTEM: not permitted */
	VMBUS_E_NOTSUP = -10, /* SYSTEM: this system or build has it not */
	VMBUS_E_SYSTEM = -11  /* SYSTEM: another failure of the operating system */
};

enum vmbus_err_class {
	VMBUS_CLASS_NONE = 0, /* not an error */
	VMBUS_CLASS_RETRY,
	VMBUS_CLASS_CALLER,
	VMBUS_CLASS_PEER,
	VMBUS_CLASS_SYSTEM
};

/*
 * The class of a return value.
 *
 * err	  any return value of the library; 0 and positive numbers are no error,
 *	  an unknown negative number is of class SYSTEM.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API enum vmbus_err_class vmbus_err_class(int err);

/*
 * The name of a return value, for instance "FULL"; "OK" for 0 and positive numbers, "?" for a
 * number that is no error of ours.  Constant text.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_err_name(int err);

/* Which word of the peer's was wrong. */
enum vmbus_fault_field {
	VMBUS_FAULT_NONE = 0,
	VMBUS_FAULT_WRITE_INDEX,       /* past the end of the ring */
	VMBUS_FAULT_WRITE_INDEX_ALIGN, /* no multiple of 8 */
	VMBUS_FAULT_WRITE_INDEX_BACK,  /* moved back over packets already seen */
	VMBUS_FAULT_READ_INDEX,	       /* past the end of the ring */
	VMBUS_FAULT_READ_INDEX_ALIGN,  /* no multiple of 8 */
	VMBUS_FAULT_READ_INDEX_BACK,   /* moved back, or past what was published */
	VMBUS_FAULT_PKT_SPACE,	       /* fewer bytes in the ring than the smallest packet */
	VMBUS_FAULT_PKT_TYPE,	       /* a type that does not exist */
	VMBUS_FAULT_PKT_FLAGS,	       /* a flag that does not exist */
	VMBUS_FAULT_PKT_OFFSET,	       /* header shorter than the type needs */
	VMBUS_FAULT_PKT_OFFSET_PAST,   /* header longer than the packet */
	VMBUS_FAULT_PKT_LENGTH,	       /* packet and trailer reach past the write index */
	VMBUS_FAULT_RANGE_COUNT,       /* zero, or more ranges than the header holds */
	VMBUS_FAULT_RANGE_BYTES,       /* a range of no or too many bytes */
	VMBUS_FAULT_RANGE_OFFSET,      /* a range that starts past its first page */
	VMBUS_FAULT_RANGE_PFNS,	       /* page numbers missing */
	VMBUS_FAULT_RESUME_INDEX       /* an index of ours is not what we had left there */
};

/* The first violation by a peer; kept until the object is set up anew. */
struct vmbus_fault {
	uint32_t field; /* enum vmbus_fault_field */
	uint32_t where; /* byte offset in the ring of the packet or index concerned */
	uint64_t value; /* what the peer wrote */
	uint64_t limit; /* what it had to keep; vmbus_fault_format() words it */
};

/*
 * The name of a fault's field, for instance "write index".  Constant text.
 *
 * field  enum vmbus_fault_field; "?" for a number that is none.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_fault_name(uint32_t field);

/*
 * Write a fault as one line of text: field, value, limit and place.
 *
 * fault  the fault to describe.
 * buf	  where the text goes; always terminated when bytes is not 0.
 * bytes  size of buf; a longer text is cut.
 *
 * Returns the length of the whole text without the terminator.
 * Effect: none but on buf.
 * Threads: any.
 */
VMBUS_API size_t vmbus_fault_format(const struct vmbus_fault *fault, char *buf, size_t bytes);

/*
 * Marks every page of the peer's memory that we write, for migration and snapshots.
 *
 * One bit per 4096-byte frame; bit n is bit n % 64 of word n / 64.  Bits are set with an atomic OR
 * after the bytes were written; who collects them exchanges a word with 0 and copies then.  Frame
 * numbers at or past frames are passed over.
 */
struct vmbus_dirty {
	uint64_t *bitmap;
	uint64_t frames;	    /* bits in bitmap */
	uint64_t ctl_frame;	    /* frame of the ring's control page */
	uint64_t first_frame;	    /* frame of the first data page, when frame_list is NULL */
	const uint64_t *frame_list; /* or one frame per data page; kept until the ring is gone */
};

#ifdef __cplusplus
}
#endif
#endif
