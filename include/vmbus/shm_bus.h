/* SPDX-License-Identifier: MIT */
/*
 * Partitions that are processes: a parent that listens on a Unix socket, children that attach to it
 * and are handed their memory and wake-ups.  The bytes on the control path are those of a real
 * partition: message pages, event-flag pages, page numbers.
 *
 * Concepts, the socket's protocol, who is trusted with what: vmbus_shm(7).  Hosted: in vmbus::vmbus.
 */
#ifndef VMBUS_SHM_BUS_H
#define VMBUS_SHM_BUS_H

#include <vmbus/bus.h>
#include <vmbus/diag.h>
#include <vmbus/guest.h>
#include <vmbus/shm_query.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A parent that serves children which are processes.  It listens on a Unix socket; who may connect
 * to the socket may become a child.  No thread: poll the descriptor and dispatch.
 */
struct vmbus_provider_host; /* provider.h */
struct vmbus_shm_server;    /* opaque */
struct vmbus_shm_child;	    /* opaque: a child as the parent sees it */

enum vmbus_shm_end {
	VMBUS_SHM_LEFT = 0, /* the child detached, or the server was destroyed */
	VMBUS_SHM_DIED,	    /* its process or its connection is gone */
	VMBUS_SHM_BROKE	    /* it broke the socket protocol or a limit, or was thrown out */
};

/* Options of vmbus_shm_listen(); 0 takes the default in brackets. */
struct vmbus_shm_server_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_server_opts) */
	const char *path;    /* of the socket, 1 to 96 bytes; copied; a stale socket is replaced */
	uint32_t mode;	     /* [0600] permissions of the socket, whatever the umask */
	uint32_t children_max;	   /* [64] attached at once, up to 4096 */
	uint64_t memory_bytes_max; /* [1 GiB] that one child may ask for */
	uint32_t vps_max;	   /* [16] virtual processors that one child may ask for */
	uint32_t budget;  /* [256] units of work for one child before the next has its turn */
	bool on_node;	  /* place the children's memory on a NUMA node */
	bool huge_pages;  /* vmbus_shm(7) says what that means for parent and children */
	bool dirty;	  /* mark the pages that we write: vmbus_shm_child_dirty() */
	bool no_children; /* refuse all of them, before anything is made for one: only listings */
	uint32_t node;
	struct vmbus_srv_opts limits; /* of each child's bus; struct_bytes 0: defaults */
	/*
	 * A child attached: offer channels on its bus.  0, or an error, and the child is refused;
	 * then its bus is destroyed and detached() is not called.  May be NULL.
	 */
	int (*attached)(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus);
	/*
	 * It is gone.  The order is the same whoever ended it, vmbus_shm_server_destroy() too:
	 * close() of every open device, then detached(), then removed() of the channels that are
	 * left, then child and bus are destroyed.  A channel that the child had let go of before,
	 * and sub-channels, are removed earlier.  Threads of channels with own_fd must be stopped
	 * here or in removed().  May be NULL.
	 */
	void (*detached)(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why);
	void (*removed)(void *ctx, struct vmbus_chan *chan); /* as in vmbus_bus_opts */
	void *ctx;
	/* A line of text, at most ten a second from the server and from each bus.  May be NULL. */
	void (*log)(void *ctx, enum vmbus_log_level level, const char *line);
	/* [32] children that may attach in a second, after the first 64, or children_max; others wait. */
	uint32_t attach_rate_max;
	uint32_t mirrors_max;	/* of each child's bus, as in vmbus_bus_opts */
	uint64_t buf_bytes_max; /* of each child's bus, as in vmbus_bus_opts */
	/*
	 * Bytes of a flight record of each child, 0: none.  With record_dir it is the file
	 * DIR/CHILDNAME-PID.vmbusrec, removed when the child leaves in order and kept when it dies or
	 * breaks the rules, and when this process dies: see vmbus_shm_listen(3).
	 */
	uint64_t record_bytes;
	const char *record_dir;	    /* NULL: in memory, for vmbus_shm_records() only; copied */
	uint64_t records_bytes_max; /* [64 MiB] of files in it; the oldest are removed */
	uint32_t records_max;	    /* [64] files in it; the oldest are removed */
	uint32_t captures_max;	    /* [16] captures at once, up to 64 */
	bool allow_capture;	    /* who may connect may see packets: vmbus_capture(7) */
	uint8_t reserved3[7];
	/*
	 * NULL, or device providers: who connects to the socket may attach as one, unless the host
	 * refuses; its devices are offered to every child; the server dispatches it.  Kept, and
	 * destroyed after the server.  vmbus_provider(7).
	 */
	struct vmbus_provider_host *providers;
	/* A sub-channel was offered, as in vmbus_bus_opts; with ctx.  May be NULL. */
	void (*offered)(void *ctx, struct vmbus_chan *sub);
};

/* Counters of a server, from its beginning; those of a child's bus are vmbus_bus_stats(). */
struct vmbus_shm_server_stats {
	uint64_t attached;
	uint64_t ended[3];	 /* by enum vmbus_shm_end */
	uint64_t children;	 /* now */
	uint64_t ending;	 /* now: gone, but a device is still closing */
	uint64_t quota_children; /* refused: children_max */
	uint64_t quota_memory;	 /* refused: memory_bytes_max, or too little for its own pages */
	uint64_t quota_vps;	 /* refused: vps_max */
	uint64_t quota_conns;	 /* thrown out: 64 connections that say nothing, or no time left */
	uint64_t quota_attach;	 /* made to wait: attach_rate_max */
	uint64_t refused;	 /* for any other reason: no descriptor, no memory, the embedder */
	uint64_t no_descriptors; /* times that no connection could be accepted */
	uint64_t turns;		 /* of children */
	uint64_t units;		 /* of work, in turns */
	uint64_t log_dropped;	 /* lines */
	uint64_t reserved[8];
};

/*
 * Listen for children.
 *
 * opts	   copied.
 * server  the server; destroyed by vmbus_shm_server_destroy().  NULL on error.
 *
 * Errors: INVAL   opts was not set up, has no path, limits without limits.struct_bytes, or limits
 *		   with list_get or list_put
 *	   RANGE   the path is empty or longer than 96 bytes, or a number is past its limit, those in
 *		   limits as for vmbus_bus_create()
 *	   STATE   somebody listens at that path
 *	   PERM, NOMEM, SYSTEM	a system call failed; errno tells why.  EEXIST: something at that
 *		   path is no socket
 * Effect: the socket appears in the file system, with its permissions, when somebody listens behind
 * it and not before.  On an error log() gets a line that says what is wrong, unless struct_bytes is
 * too small for it to be found, or memory is out.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_listen(const struct vmbus_shm_server_opts *opts,
			       struct vmbus_shm_server **server);

/*
 * End the server: every child is told, and ends as one that leaves: close() of every open device,
 * then detached(), with LEFT for those that were attached, then removed() of its channels; then its
 * bus is destroyed.  The socket is removed if the path still names it.
 *
 * server  NULL is allowed.
 *
 * Effect: none within a callback of the server, of a child's bus or of a device: the call is ignored.
 * Threads: none other may be in a call on the server, but threads may dispatch channels with own_fd
 * until removed() of each: vmbus_bus_destroy() says which thread then calls close().  May block as it
 * does, for each child.
 */
VMBUS_API void vmbus_shm_server_destroy(struct vmbus_shm_server *server);

/*
 * The descriptor that is readable when vmbus_shm_server_dispatch() has work: an epoll set, which the
 * server owns.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_server_fd(const struct vmbus_shm_server *server);

/*
 * Serve the socket, the children and their buses, each child in its turn and for no more than the
 * option budget at a time.  Never waits, for a child, a thread of a channel, or a grace period of RCU.
 *
 * budget  1 to 2^31 - 1 units of work, which are signals, messages, packets and connections.
 *
 * Returns what was done, 0: nothing to do.
 * Errors: RANGE  budget is out of bounds
 *	   STATE  within a callback: nothing was done
 * Effect: calls back: attached(), detached(), removed(), log(), and the devices.
 * Threads: one at a time per server; not from a callback.
 */
VMBUS_API int vmbus_shm_server_dispatch(struct vmbus_shm_server *server, uint32_t budget);

/*
 * For programs that do nothing else: wait until there is work, then dispatch once.
 *
 * timeout_ns  longest wait in nanoseconds; 0 only looks.
 *
 * Returns what was done.
 * Errors: AGAIN   nothing happened in that time, or a signal handler ran: no failure, call again
 *	   STATE   within a callback: nothing was done
 *	   SYSTEM  the wait failed; errno tells why
 * Effect: as vmbus_shm_server_dispatch().
 * Threads: as vmbus_shm_server_dispatch().
 */
VMBUS_API int vmbus_shm_server_run(struct vmbus_shm_server *server, uint64_t timeout_ns);

/*
 * Let listings, vmbus_shm_list() and vmbusctl(1), tell also of a bus that is no child of the server,
 * for instance a virtual machine's.  It is told as a child with the bus's name and our process; the
 * server neither dispatches it nor watches it.
 *
 * bus	         kept until vmbus_shm_server_remove_bus(), which must come before its destruction.
 * vps           virtual processors to tell.
 * memory_bytes  memory to tell.
 *
 * Errors: STATE  it is told already, as another bus or as a child's
 *	   FULL   64 such buses are told already
 * Effect: none on error.
 * Threads: the one that dispatches the server, which must be the one that dispatches the bus;
 * callbacks may call this.
 */
VMBUS_API int vmbus_shm_server_add_bus(struct vmbus_shm_server *server, struct vmbus_bus *bus,
				       uint32_t vps, uint64_t memory_bytes);

/*
 * The end of vmbus_shm_server_add_bus().
 *
 * bus  one that is not told: nothing happens; NULL is allowed.
 *
 * Effect: listings that come later do not tell of it; one that is under way goes on with what
 * follows it.
 * Threads: as vmbus_shm_server_add_bus().
 */
VMBUS_API void vmbus_shm_server_remove_bus(struct vmbus_shm_server *server,
					   const struct vmbus_bus *bus);

/*
 * The counters of a server.
 *
 * Effect: none.
 * Threads: the one that dispatches the server, callbacks included.
 */
VMBUS_API void vmbus_shm_server_stats(const struct vmbus_shm_server *server,
				      struct vmbus_shm_server_stats *stats);

/*
 * The bus of a child; valid until detached() has returned.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API struct vmbus_bus *vmbus_shm_child_bus(const struct vmbus_shm_child *child);

/*
 * The process that attached, as the kernel told it at connect(2); 0 when it is in a PID namespace
 * that we cannot see.  Valid until detached() has returned.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int32_t vmbus_shm_child_pid(const struct vmbus_shm_child *child);

/*
 * The name that the child gave itself, up to 63 printable ASCII characters; "child" when it gave
 * none.  It is the child's claim and need not be unique.  Valid until detached() has returned.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_shm_child_name(const struct vmbus_shm_child *child);

/*
 * Which pages of a child's memory the parent has written, with the option dirty: by its bus and rings,
 * in message and flag pages, in the mailbox.  What a device writes through the pieces of a list is
 * marked by vmbus_sgl_dirty().
 *
 * pages  where the number of pages goes; may be NULL.
 *
 * Returns a bit for each page, from page 0 in bit 0 of the first word on; NULL without the option.
 * Bits are set after the bytes were written, by an atomic OR; take a word by an atomic exchange with 0
 * that acquires.  Valid until detached() has returned.
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint64_t *vmbus_shm_child_dirty(const struct vmbus_shm_child *child, uint64_t *pages);

/*
 * Throw a child out.  The reason goes to the child's side in BYE, the last message on the socket, and
 * into the parent's log.  The child's program sees that the parent is gone, and can ask
 * vmbus_shm_attach_why().
 *
 * why	text for people, up to 119 bytes; copied.  NULL: none.
 *
 * Effect: detached() with BROKE follows from a later dispatch.
 * Threads: the one that dispatches the server; callbacks may call this.
 */
VMBUS_API void vmbus_shm_child_kick(struct vmbus_shm_child *child, const char *why);

/* A child: attached to a parent by its socket. */
struct vmbus_shm_attach; /* opaque */

/* Options of vmbus_shm_attach(); 0 takes the default in brackets. */
struct vmbus_shm_attach_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_attach_opts) */
	const char *path;    /* of the parent's socket, 1 to 107 bytes */
	const char *name;    /* that we give ourselves, for the parent's messages; up to 63 bytes */
	uint64_t memory_bytes; /* [16 MiB] of shared memory */
	uint32_t vps;	       /* [1] */
	bool allow_huge_pages; /* take memory of huge pages, though the parent can then kill us */
	uint8_t reserved[3];
	uint64_t timeout_ns; /* [5 s] for the parent's answer */
	struct vmbus_guest_opts
		guest;	  /* backend and backend_ctx are filled in; all zero: all defaults */
	char *why;	  /* NULL, or where a text for people goes when attaching fails */
	size_t why_bytes; /* size of why; 160 is always enough */
	uint64_t reserved2[2];
};

/*
 * Attach to a parent and make a guest runtime over it; vmbus_guest_connect() is the next step.
 * Waits for the parent's answer.
 *
 * opts	   not kept, but what opts->guest names is.
 * attach  the attachment; ended by vmbus_shm_detach().  NULL on error.
 *
 * Errors: INVAL   opts was not set up, or has no path; or members of opts->guest or its limits are
 *		   set, and their struct_bytes is not
 *	   RANGE   path too long, or more memory or processors asked for than the parent allows
 *	   AGAIN   no answer in time
 *	   FULL    the parent has as many children as it takes
 *	   PERM    we may not use the socket, the parent does not want us, or its memory is of huge
 *		   pages and allow_huge_pages is not set
 *	   NOTSUP  the parent speaks another version of the socket protocol
 *	   PEER    the parent's answer makes no sense, or its memory is not sealed against shrinking
 *	   NOMEM, SYSTEM  a system call failed, here (errno tells why) or in the parent
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_attach(const struct vmbus_shm_attach_opts *opts,
			       struct vmbus_shm_attach **attach);

/*
 * Detach: leave in order if the parent is there (every channel closed, shared pages taken back, the
 * connection unloaded), for half a second at most; then the guest is destroyed, shared memory
 * unmapped, the parent told.
 *
 * attach  NULL is allowed.
 *
 * Effect: callbacks come from here: closed(), gone() and what else the end brings.  Pointers to the
 *	  guest, shared pages, rings and channels have no meaning any more.  Ignored from within a
 *	  callback.
 * Threads: none other may be in a call on the attachment, its guest or its channels.
 */
VMBUS_API void vmbus_shm_detach(struct vmbus_shm_attach *attach);

/*
 * The guest runtime, which is the attachment's; valid until vmbus_shm_detach().
 * vmbus_guest_destroy() of it is ignored.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API struct vmbus_guest *vmbus_shm_guest(const struct vmbus_shm_attach *attach);

/*
 * The descriptor that is readable when vmbus_shm_attach_dispatch() has work, also work that a call
 * outside of callbacks left, such as vmbus_vsc_open(): an epoll set, which the attachment owns.  Its
 * promise holds for programs that dispatch by vmbus_shm_attach_dispatch(), not by
 * vmbus_guest_dispatch().
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_attach_fd(const struct vmbus_shm_attach *attach);

/*
 * Take wake-ups, notice the parent's end, dispatch the guest.  Never waits.
 *
 * budget  1 to 2^31 - 1 units of work, which are messages and packets.
 *
 * Returns what was done, 0: nothing to do.
 * Errors: RANGE  budget is out of bounds
 *	   STATE  called from a callback
 * Effect: calls back as vmbus_guest_dispatch() does.  When the parent is gone the guest's state is
 * GONE, and every channel is told, many of them in several calls.
 * Threads: one at a time per attachment; not from a callback.
 */
VMBUS_API int vmbus_shm_attach_dispatch(struct vmbus_shm_attach *attach, uint32_t budget);

/*
 * For programs that do nothing else: wait until there is work, then dispatch once.
 *
 * timeout_ns  longest wait in nanoseconds; 0 only looks.
 *
 * Returns what was done.
 * Errors: AGAIN   nothing happened in that time, or a signal handler ran
 *	   PEER    the parent is gone, and every channel has had its gone(): pointers to channels may
 *		   not be used any more.  Not before threads have left the channels with own_thread
 *	   STATE   called from a callback; at once
 *	   SYSTEM  the wait failed; errno tells why
 * Effect: as vmbus_shm_attach_dispatch().
 * Threads: as vmbus_shm_attach_dispatch().
 */
VMBUS_API int vmbus_shm_attach_wait(struct vmbus_shm_attach *attach, uint64_t timeout_ns);

/*
 * Why the parent is gone, for people: what it said in its last message, as vmbus_shm_child_kick()
 * gives it, or what was found of it.  The log of opts->guest gets the same.
 *
 * Returns printable ASCII of up to 119 bytes, "" while the parent is there; valid until
 * vmbus_shm_detach().
 * Effect: none.
 * Threads: the one that dispatches the attachment.
 */
VMBUS_API const char *vmbus_shm_attach_why(const struct vmbus_shm_attach *attach);

#ifdef __cplusplus
}
#endif
#endif
