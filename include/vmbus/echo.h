/* SPDX-License-Identifier: MIT */
/*
 * The echo device: whatever the child sends comes back.  For trying a backend out, and measuring it.
 *
 * The provider is hosted (vmbus::vmbus), the client freestanding (vmbus::core): the same client runs
 * in a process, in a guest's user space and in a payload without an operating system.
 */
#ifndef VMBUS_ECHO_H
#define VMBUS_ECHO_H

#include <vmbus/vsc.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_vsp;

/* {f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8} */
#define VMBUS_ECHO_CLASS                                                                           \
	VMBUS_GUID(0xf2a3b1c4, 0x5d6e, 0x4f70, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8)
#define VMBUS_ECHO_PAYLOAD_MAX 4096u
#define VMBUS_ECHO_SUBCHANNELS_MAX 64u

/*
 * The provider, for vmbus_bus_offer(); its context is not used.  A packet that asks for completion is
 * completed with its own payload, another in-band packet is sent back as it is, with its id; others
 * are ignored.  What finds the ring full is kept and sent when there is room, in order; until then
 * no packets are taken.
 *
 * The first 4 bytes of a primary's open data, little-endian, are how many sub-channels the child
 * wants, VMBUS_ECHO_SUBCHANNELS_MAX at most; they echo as well.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const struct vmbus_vsp *vmbus_echo_vsp(void);

/* How the client sends; 0 takes the default in brackets. */
struct vmbus_echo_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_echo_opts) */
	uint64_t packets;    /* [1] to send in all */
	uint32_t payload;    /* [64] bytes of each: a multiple of 8, 16 to VMBUS_ECHO_PAYLOAD_MAX */
	uint32_t window;     /* [64] in flight at most; filled up again when half of it is back */
	bool completions;    /* ask for completions; else count what comes back */
	uint8_t reserved1[3];
	uint32_t subchannels; /* that the provider is asked to offer, when a primary is opened */
	/* Ring sizes, target_vp, poll, own_thread, wake.  requests_max is made large enough for
	   window; user, priv and the other callbacks are filled in. */
	struct vmbus_vsc_opts open;
	void (*done)(void *ctx, int err); /* all came back, or the channel ended; may be NULL */
	void *ctx;
	uint64_t reserved2[2];
};

/* The client, in the caller's storage; what is not _p may be read at any time on its thread. */
struct vmbus_echo {
	uint64_t sent;
	uint64_t received; /* came back, in order, every byte checked */
	uint64_t wrong;	   /* came back otherwise, or was never sent */
	int err; /* why it ended: 0 all is well, PEER if one is wrong or the parent left */
	bool done;
	bool open_p;
	uint8_t reserved1_p[2];
	struct vmbus_vsc *vsc_p;
	struct vmbus_echo_opts opts_p;
	uint64_t first_p; /* number of the first packet of this series */
	uint64_t reserved_p[7];
	uint8_t buf_p[VMBUS_ECHO_PAYLOAD_MAX];
};

/*
 * Open a channel of the echo device, send packets and check what comes back.  Goes on in the
 * callbacks of the channel; ends with done.  The channel stays open then: close it.
 *
 * echo	 caller's storage; kept until the channel is closed.  vmbus_vsc_priv() of vsc is echo.
 * vsc	 an offered channel of class VMBUS_ECHO_CLASS.
 * opts	 copied.
 *
 * Errors: INVAL  struct_bytes is too small
 *	   RANGE  payload, window or subchannels is out of bounds, or the payload does not fit in
 *		  one of the rings
 *	   STATE, NOMEM, and INVAL and RANGE for open  as vmbus_vsc_open()
 * Effect: opens the channel; none on error.
 * Threads: the guest's.
 */
VMBUS_API int vmbus_echo_start(struct vmbus_echo *echo, struct vmbus_vsc *vsc,
			       const struct vmbus_echo_opts *opts);

/*
 * Send another series on the channel that is open.
 *
 * opts	 its members open and subchannels are not looked at, requests_max stays what it was.
 *
 * Errors: STATE  the one before is not done, or the channel is not open
 *	   INVAL, RANGE  as vmbus_echo_start()
 * Effect: the counters begin at 0; none on error.
 * Threads: the channel's; done() may call it.
 */
VMBUS_API int vmbus_echo_again(struct vmbus_echo *echo, const struct vmbus_echo_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
