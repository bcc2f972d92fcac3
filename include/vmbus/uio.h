/* SPDX-License-Identifier: MIT */
/*
 * The child's side in user space of a Linux guest: one device of the bus, which the kernel hands
 * out by its driver uio_hv_generic.  A VSC runs on it as it runs in a process; what the kernel has
 * done already is answered by the backend.
 *
 * Concepts, what differs from other backends: vmbus_uio(7).  Hosted: needs Linux.
 */
#ifndef VMBUS_UIO_H
#define VMBUS_UIO_H

#include <vmbus/guest.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_uio; /* opaque */

/* Which device, and where the kernel's files are; 0 takes the default in brackets. */
struct vmbus_uio_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_uio_opts) */
	/*
	 * "uio0" or "/dev/uio0"; or a GUID, braces allowed: that of an instance, or of a class,
	 * which means the first free device of the class for open, and all of them for bind and
	 * unbind.  Not looked at by list.
	 */
	const char *device;
	const char *sysfs; /* [/sys] */
	const char *dev;   /* [/dev] */
	bool force;	   /* bind: take the device from the driver that holds it */
	uint8_t reserved1[7];
	/* open: backend and backend_ctx are filled in; all zero: all defaults */
	struct vmbus_guest_opts guest;
	char *why;	  /* NULL, or where a text for people goes on error */
	size_t why_bytes; /* size of why; 320 is always enough */
	uint64_t reserved2[2];
};

/* A device, as the kernel tells of it. */
struct vmbus_uio_info {
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	uint32_t relid;
	uint32_t monitor_id; /* VMBUS_MONITOR_NONE: it has none, and old kernels cannot bind it */
	uint32_t ring_bytes; /* data bytes of each ring; 0 while it is not bound */
	char driver[32];     /* that holds it; empty: none */
	char uio[16];	     /* "uio0"; empty while it is not bound */
	uint64_t reserved[2];
};

/*
 * Tell of every device on the bus, whoever holds it, ordered by instance.
 *
 * opts	 its device and guest are not looked at.
 * each	 called for each device; info is valid during the call.
 *
 * Returns how many devices there are, at most 2,047.
 * Errors: INVAL   struct_bytes is too small
 *	   NOTSUP  there is no VMBus here
 *	   NOMEM, PERM, SYSTEM  the kernel's files cannot be read; why and errno tell
 * Effect: calls each.
 * Threads: any.
 * Source: [UIO-SYSFS] in vmbus_wire(7).
 */
VMBUS_API int vmbus_uio_list(const struct vmbus_uio_opts *opts,
			     void (*each)(void *ctx, const struct vmbus_uio_info *info), void *ctx);

/*
 * Have uio_hv_generic hold a device, or every device of a class.  A device that is bound already
 * stays so.  Needs the right to write in sysfs, which is root's.
 *
 * opts	 device is a GUID.
 *
 * Returns how many devices are bound.
 * Errors: INVAL   struct_bytes is too small, or device is no GUID
 *	   RANGE   there is no such device
 *	   STATE   another driver holds it, and force is not set; why names the driver
 *	   NOTSUP  no VMBus here, the driver is not loaded, or the channel has no monitor id and
 *		   this kernel's driver wants one
 *	   PERM, NOMEM, SYSTEM  the kernel refused; why and errno tell
 * Effect: with force, the driver that held the device lets go of it first.  Of a class, those
 *	  before the one that failed are bound.
 * Threads: any.
 * Source: [UIO-BIND] in vmbus_wire(7).
 */
VMBUS_API int vmbus_uio_bind(const struct vmbus_uio_opts *opts);

/*
 * Take a device, or every device of a class, from uio_hv_generic, and let the kernel find the
 * driver that it has without us.
 *
 * opts	 device as for vmbus_uio_open().
 *
 * Returns how many devices were unbound.
 * Errors: INVAL   struct_bytes is too small, or device is no device's name
 *	   RANGE   there is no such device
 *	   STATE   uio_hv_generic does not hold it; why names who does
 *	   AGAIN   a program has opened it with vmbus_uio_open()
 *	   NOTSUP, PERM, NOMEM, SYSTEM  as vmbus_uio_bind()
 * Effect: as told.
 * Threads: any.
 * Source: [UIO-BIND] in vmbus_wire(7).
 */
VMBUS_API int vmbus_uio_unbind(const struct vmbus_uio_opts *opts);

/*
 * Take a bound device and make a guest runtime over it; vmbus_guest_connect() is the next step, and
 * brings one offer.  The channel is opened by vmbus_vsc_open().
 *
 * opts	 not kept, but what opts->guest names is.
 * uio	 ended by vmbus_uio_close().  NULL on error.
 *
 * Errors: INVAL   opts or opts->guest was not set up, or device is no device's name
 *	   RANGE   there is no such device, or a limit of opts->guest is out of bounds
 *	   STATE   it is not bound to uio_hv_generic; why names who holds it
 *	   AGAIN   another program has it
 *	   PERM	   we may not open it
 *	   NOTSUP  no VMBus here, or pages of this machine are not of 4096 bytes
 *	   PEER	   what the kernel tells of the device makes no sense
 *	   NOMEM, SYSTEM  a system call failed; why and errno tell
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_uio_open(const struct vmbus_uio_opts *opts, struct vmbus_uio **uio);

/*
 * Give the device back: the channel is closed in order, the guest destroyed.  It stays bound.
 *
 * uio	NULL is allowed.
 *
 * Effect: callbacks come from here: closed(), gone() and what else the end brings.  Pointers to the
 *	  guest and its channel have no meaning any more.  Ignored from within a callback.
 * Threads: none other may be in a call on it, its guest or its channel.
 */
VMBUS_API void vmbus_uio_close(struct vmbus_uio *uio);

/*
 * The guest runtime, which is the device's; valid until vmbus_uio_close().  vmbus_guest_destroy()
 * of it is ignored.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API struct vmbus_guest *vmbus_uio_guest(const struct vmbus_uio *uio);

/*
 * Data bytes of each ring.  The kernel chose them, so send_bytes and recv_bytes of struct
 * vmbus_vsc_opts must be this number; others have vmbus_vsc_open() return NOMEM.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint32_t vmbus_uio_ring_bytes(const struct vmbus_uio *uio);

/*
 * The descriptor that is readable when vmbus_uio_dispatch() has work, also work that a call outside
 * of callbacks left: an epoll set, which the device owns.  Its promise holds for programs that
 * dispatch by vmbus_uio_dispatch(), not by vmbus_guest_dispatch().
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_uio_fd(const struct vmbus_uio *uio);

/*
 * Take interrupts, dispatch the guest.  Never waits, but for the parent's answer when the channel
 * is opened or closed: the kernel asks it then.
 *
 * budget  1 to 2^31 - 1 units of work, which are messages and packets.
 *
 * Returns what was done, 0: nothing to do.
 * Errors: RANGE  budget is out of bounds
 *	   STATE  called from a callback
 * Effect: calls back as vmbus_guest_dispatch() does.
 * Threads: one at a time; not from a callback.
 */
VMBUS_API int vmbus_uio_dispatch(struct vmbus_uio *uio, uint32_t budget);

/*
 * For programs that do nothing else: wait until there is work, then dispatch once.
 *
 * timeout_ns  longest wait in nanoseconds; 0 only looks.
 *
 * Returns what was done.
 * Errors: AGAIN   nothing happened in that time, or a signal handler ran
 *	   PEER	   the parent withdrew the device: the channel has had its gone(), so pointers to it
 *		   may not be used any more
 *	   STATE   called from a callback; at once
 *	   SYSTEM  the wait failed; errno tells why
 * Effect: as vmbus_uio_dispatch().
 * Threads: as vmbus_uio_dispatch().
 */
VMBUS_API int vmbus_uio_wait(struct vmbus_uio *uio, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
