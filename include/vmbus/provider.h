/* SPDX-License-Identifier: MIT */
/*
 * Device providers: a VSP in a process of its own.  It attaches to a parent by a socket, serves its
 * device in the parent's child partitions, and may die or be replaced at any moment.  The rings are
 * mapped straight into it and signals go straight between it and the child.
 *
 * Concepts, who trusts whom, the socket protocol byte by byte: vmbus_provider(7).
 */
#ifndef VMBUS_PROVIDER_H
#define VMBUS_PROVIDER_H

#include <vmbus/bus.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The parent's side: a socket that providers attach to, and the buses that they serve. */
struct vmbus_provider_host; /* opaque */

/* A provider, as the parent knows it. */
struct vmbus_provider_info {
	const char *name; /* of the provider: its own claim, made printable */
	const char *vsp;  /* of its device */
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id; /* all zero: one is made for each bus */
	int32_t pid;
	bool resumable;
	bool present; /* false: it died, and its children wait for the next one */
	uint8_t reserved[2];
	uint32_t buses;	   /* that it is offered on */
	uint32_t channels; /* of its that are open */
	uint64_t deaths;
	uint64_t handovers;
	uint64_t last_pause_ns; /* from the death, or the hand-over's begin, to the last RESUMED */
	uint32_t held; /* channels whose rings it may touch: open, being opened or closed */
	uint32_t reserved2;
	uint64_t reserved3[3];
};

/* Options of vmbus_provider_listen(); 0 takes the default in brackets. */
struct vmbus_provider_host_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_provider_host_opts) */
	const char *path;    /* of the socket, 1 to 96 bytes; copied.  NULL: connections are given
				by vmbus_shm_server alone */
	uint32_t mode;	     /* [0600] */
	uint32_t providers_max;	    /* [16] devices, up to 256 */
	uint64_t wait_ns;	    /* [10 s] that a child waits for a resumable device to come back
				    before its channel is withdrawn */
	uint64_t answer_ns;	    /* [5 s] for a provider to answer; else it is killed */
	uint64_t journal_bytes_max; /* [64 MiB] of all journals together */
	/* May this provider attach?  0, or an error refuses it.  NULL: all that may connect. */
	int (*attach)(void *ctx, const struct vmbus_provider_info *info);
	/* A line of text, at most ten a second.  May be NULL. */
	void (*log)(void *ctx, enum vmbus_log_level level, const char *line);
	void *ctx;
	uint64_t memory_bytes_max; /* [1 GiB] of all vmbus_provider_memory() together */
	uint64_t reserved[3];
};

/*
 * Listen for providers.
 *
 * opts	 copied.
 * host	 on success; destroyed by vmbus_provider_host_destroy().
 *
 * Errors: as vmbus_shm_listen()
 * Effect: the socket appears, as with vmbus_shm_listen().
 * Threads: any.
 */
VMBUS_API int vmbus_provider_listen(const struct vmbus_provider_host_opts *opts,
				    struct vmbus_provider_host **host);

/*
 * End it: every provider is told, its channels are withdrawn from buses that are left.
 *
 * host	 NULL is allowed.  Buses may be destroyed before or after.
 *
 * Effect: none within a callback of the host.
 * Threads: the one that dispatches the host; not from a callback.
 */
VMBUS_API void vmbus_provider_host_destroy(struct vmbus_provider_host *host);

/*
 * The descriptor that is readable when vmbus_provider_host_dispatch() has work; the host's.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_provider_host_fd(const struct vmbus_provider_host *host);

/*
 * Do work, and never wait for a provider.
 *
 * budget  1 and up: messages.
 *
 * Returns what was done; 0: nothing to do.
 * Errors: STATE  within a callback
 *	   RANGE  budget
 * Threads: the one that dispatches all buses that were added.
 */
VMBUS_API int vmbus_provider_host_dispatch(struct vmbus_provider_host *host, uint32_t budget);

/*
 * Offer the devices of all providers, that are there and that come, on a bus.
 *
 * bus	    kept until vmbus_provider_host_remove_bus().
 * regions  the child's memory, 1 to 64: each with a descriptor, which providers are given and which
 *	    stays open until then.
 *
 * Errors: INVAL  a region has no descriptor, or count is out of bounds
 *	   STATE  it was added before
 *	   FULL	  4096 buses are there
 *	   NOMEM
 * Effect: none on error.
 * Threads: the one that dispatches host and bus; callbacks of vmbus_shm_server may call it.
 */
VMBUS_API int vmbus_provider_host_add_bus(struct vmbus_provider_host *host, struct vmbus_bus *bus,
					  struct vmbus_region *const *regions, uint32_t count);

/*
 * The end of it, before the bus is destroyed: providers let go of the child.
 *
 * bus	one that was not added: nothing happens.
 *
 * Effect: channels of providers on that bus are closed as if their device had gone.
 * Threads: as add.
 */
VMBUS_API void vmbus_provider_host_remove_bus(struct vmbus_provider_host *host,
					      struct vmbus_bus *bus);

/*
 * Tell of every provider.
 *
 * Effect: fn's, which may not dispatch.
 * Threads: the one that dispatches the host.
 */
VMBUS_API void
vmbus_provider_host_list(struct vmbus_provider_host *host,
			 void (*fn)(void *ctx, const struct vmbus_provider_info *info), void *ctx);

/* The provider's side. */
struct vmbus_provider; /* opaque */

/* Options of vmbus_provider_attach(); 0 takes the default in brackets. */
struct vmbus_provider_opts {
	size_t struct_bytes;	       /* sizeof(struct vmbus_provider_opts) */
	const char *path;	       /* of the parent's socket, 1 to 107 bytes */
	const char *name;	       /* that we give ourselves; up to 63 bytes */
	const struct vmbus_vsp *vsp;   /* the device; kept */
	void *ctx;		       /* of its channels: vmbus_chan_ctx() */
	struct vmbus_guid instance_id; /* all zero: the parent makes one for each child */
	/*
	 * Take over from the provider of the same class and name: the parent has it stop between two
	 * callbacks, and gives us its channels.  Else a second one of a class and name is refused.
	 */
	bool take_over;
	uint8_t reserved[7];
	uint64_t timeout_ns; /* [5 s] for the parent's answer */
	uint32_t monitor_us; /* as in vmbus_offer_opts */
	uint32_t reserved1;
	void (*log)(void *ctx, enum vmbus_log_level level, const char *line); /* may be NULL */
	void *log_ctx;
	char *why; /* NULL, or where a text goes when attaching fails */
	size_t why_bytes;
	uint64_t spin_ns; /* that vmbus_provider_wait() looks at busy rings before it sleeps, up to
			     1 s: no signals and no calls of the system meanwhile, but a CPU */
	uint64_t reserved2[3];
};

/*
 * Attach to a parent.  Waits for its answer.
 *
 * opts	     not kept, but what it names is.
 * provider  ended by vmbus_provider_detach().  NULL on error.
 *
 * Errors: INVAL   opts or vsp was not set up
 *	   RANGE   a path or a number is out of bounds
 *	   AGAIN   no answer in time
 *	   FULL    as many providers as the parent takes
 *	   STATE   there is one of this class and name, and take_over is not set
 *	   PERM    the parent does not want us, or takes no providers
 *	   NOTSUP  another version of the socket protocol
 *	   PEER    the answer makes no sense
 *	   NOMEM, SYSTEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_provider_attach(const struct vmbus_provider_opts *opts,
				    struct vmbus_provider **provider);

/*
 * Leave: devices are closed, and the parent is told that we do not come back.
 *
 * provider  NULL is allowed.
 *
 * Threads: none other in a call on it; not from a callback.
 */
VMBUS_API void vmbus_provider_detach(struct vmbus_provider *provider);

/*
 * The descriptor that is readable when vmbus_provider_dispatch() has work; the provider's.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_provider_fd(const struct vmbus_provider *provider);

/*
 * Do work: the parent's messages, signals, packets; each partition in its turn.  Waits for nothing,
 * but for devices to close when it ends with PEER.
 *
 * budget  1 to 2^31 - 1 units of work.
 *
 * Returns what was done; 0: nothing to do.
 * Errors: PEER   the parent is gone, or another provider took over: every device was closed
 *	   RANGE  budget
 *	   STATE  within a callback
 * Effect: callbacks of the device.
 * Threads: one at a time per provider.
 */
VMBUS_API int vmbus_provider_dispatch(struct vmbus_provider *provider, uint32_t budget);

/*
 * For programs that do nothing else: wait, for timeout_ns at most, then dispatch once.  With spin_ns, and
 * work at the last look, it looks at rings for that long before it sleeps; then timeout_ns begins.
 *
 * Returns, errors: as vmbus_provider_dispatch(), and AGAIN: nothing happened in that time, or a signal
 * handler ran; SYSTEM: the wait failed.
 * Threads: as vmbus_provider_dispatch().
 */
VMBUS_API int vmbus_provider_wait(struct vmbus_provider *provider, uint64_t timeout_ns);

/*
 * Why the connection ended, for people, also that another provider took over; "" while it is there.
 *
 * Effect: none.
 * Threads: the one that dispatches the provider.
 */
VMBUS_API const char *vmbus_provider_why(const struct vmbus_provider *provider);

/*
 * Memory of the parent's that outlives this process, as for the contents of a disk: of zeroes when a
 * name is new; then the same for every provider of our class and name that asks for it, until it is
 * freed or the parent's host ends.  What the last one left is whole in no other sense than that a
 * process that was killed has done all its stores up to one instruction.  One that takes over has it
 * together with the one that is still serving, until its first open().
 *
 * name   1 to 63 printable characters
 * bytes  1 to 2^46, rounded up to pages
 * fd	  on success: to be mapped; it can neither shrink nor grow, and is the caller's.  Else -1.
 *
 * Errors: RANGE   name, bytes
 *	   FULL	   more than memory_bytes_max, more than 16 of a provider, or 256 in all
 *	   STATE   there is one of another size; or within a callback
 *	   AGAIN   no answer in the timeout_ns of the attach; whether it was done is not known
 *	   PEER	   the parent is gone, or another provider took over: every device was closed
 *	   NOMEM, SYSTEM
 * Effect: waits for the parent; of the device's callbacks only close() may come, with PEER.
 * Threads: as vmbus_provider_dispatch().
 */
VMBUS_API int vmbus_provider_memory(struct vmbus_provider *provider, const char *name,
				    uint64_t bytes, int *fd);

/*
 * The parent forgets a memory of ours; who has mapped it still has it.
 *
 * Errors: as vmbus_provider_memory(), but FULL; one that is not there is no error.
 * Effect, threads: as vmbus_provider_memory().
 */
VMBUS_API int vmbus_provider_memory_free(struct vmbus_provider *provider, const char *name);

/*
 * From here on this process makes only the system calls that a provider of this library needs once it
 * is attached, and is killed for others: seccomp.
 *
 * Errors: NOTSUP  the kernel has no seccomp, or the library has no list for this kind of processor
 *	   PERM    this process may not
 *	   SYSTEM  errno tells why; ESRCH: another thread has a filter that this one has not
 * Effect: none on error.  Lasts until the process ends.
 * Threads: all of the process are covered; call it once attached.
 */
VMBUS_API int vmbus_provider_sandbox(void);

/*
 * The same with further system calls, those of a device's store for instance: whatever their
 * arguments, but that mmap(2), mprotect(2), tgkill(2) and fcntl(2) stay as they are without them.
 *
 * calls  n numbers, SYS_* of <sys/syscall.h>; borrowed.
 * n	  up to 128.
 *
 * Errors: RANGE  n, or a number below 0
 *	   NOTSUP, PERM, SYSTEM  as above
 * Effect, threads: as above.  A later call takes away what it does not allow, and allows nothing anew.
 */
VMBUS_API int vmbus_provider_sandbox_more(const int *calls, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
