/* SPDX-License-Identifier: MIT */
/*
 * The child's side without an operating system: what a payload, a boot loader or a kernel of its own
 * puts below a struct vmbus_guest.  It finds Hyper-V by CPUID, sets up the hypercall page and the
 * SynIC of the calling processor, and gives the backend that vmbus_guest_create() takes.
 *
 * Concepts, and what the processor must be set up for: vmbus_bare(7).  Freestanding, x86-64; a
 * component of its own (vmbus::bare).
 */
#ifndef VMBUS_BARE_H
#define VMBUS_BARE_H

#include <vmbus/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_BARE_VECTOR 0xF3u		     /* that Linux uses as well */
#define VMBUS_BARE_PAGES_MIN 64u	     /* enough for a guest of a small chans_max */
#define VMBUS_BARE_PAGES_MAX 0x1000000u	     /* 64 GiB */
#define VMBUS_BARE_OS_ID 0x8000000000000000u /* an open-source system, [HV-MSR] */

/* What is missing on this machine; vmbus_bare_lack_name() words it. */
enum vmbus_bare_lack {
	VMBUS_BARE_LACK_NOTHING = 0,
	VMBUS_BARE_LACK_HYPERVISOR, /* CPUID says that this is no virtual machine */
	VMBUS_BARE_LACK_SIGNATURE,  /* another hypervisor's than "Microsoft Hv" */
	VMBUS_BARE_LACK_LEAVES,	    /* fewer CPUID leaves than are needed */
	VMBUS_BARE_LACK_HYPERCALL,  /* no hypercall registers */
	VMBUS_BARE_LACK_VP_INDEX,   /* no VP index register */
	VMBUS_BARE_LACK_SYNIC,	    /* no SynIC registers */
	VMBUS_BARE_LACK_POST,	    /* no permission to post messages */
	VMBUS_BARE_LACK_SIGNAL,	    /* no permission to signal events */
	VMBUS_BARE_LACK_CLOCK,	    /* no reference time in any form */
	VMBUS_BARE_LACK_PAGE	    /* the hypercall page could not be enabled */
};

/* Options of vmbus_bare_init(); 0 takes the default in brackets. */
struct vmbus_bare_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_bare_opts) */
	/*
	 * Memory that all of it comes from: hypercall page, SynIC pages, rings, the guest's state.
	 * Page-aligned, one piece in our addresses and in guest physical memory, writable, and its
	 * first page executable.  Kept until vmbus_bare_fini() has returned.
	 */
	void *memory;
	uint64_t memory_gpa; /* the guest physical address of its first byte */
	size_t memory_bytes; /* whole pages, from VMBUS_BARE_PAGES_MIN to VMBUS_BARE_PAGES_MAX */
	bool zeroed;	     /* memory is all zeroes, so that fresh pages need not be cleared */
	bool poll; /* ask for no interrupts: SINT2 is in polling mode.  Hypervisors may ignore that,
		      so keep them disabled then */
	uint8_t vector; /* [VMBUS_BARE_VECTOR] of the interrupts, 32 to 255 */
	uint8_t reserved1[5];
	uint64_t os_id; /* [VMBUS_BARE_OS_ID] what we say that we are; bit 63 set */
	/*
	 * Sleep until the next interrupt, at most for timeout_ns (UINT64_MAX: without end); it may
	 * return sooner.  Called with interrupts disabled: it enables them and halts in one step
	 * ("sti; hlt"), so that one that has come meanwhile is not slept through, and may leave
	 * them either way.  NULL, or with poll: vmbus_guest_wait() spins.
	 */
	void (*halt)(void *ctx, uint64_t timeout_ns);
	void *ctx;
	uint64_t reserved2[4];
};

/* Counters since init. */
struct vmbus_bare_stats {
	uint64_t posts;	       /* hypercalls that post a message */
	uint64_t signals;      /* hypercalls that signal an event */
	uint64_t messages;     /* taken from the slot */
	uint64_t eoms;	       /* ends of message told */
	uint64_t bad_messages; /* slots that the parent filled against the rules */
	uint64_t interrupts;   /* calls of vmbus_bare_interrupt() */
	uint64_t halts;	       /* calls of halt() */
	uint64_t pages;	       /* of memory handed out now */
	uint64_t bad_releases; /* pages given back that were not handed out: ignored */
	uint64_t reserved[7];
};

/* In the caller's storage; members are private. */
struct vmbus_bare {
	struct vmbus_bare_opts opts_p;
	struct vmbus_bare_stats stats_p;
	const void *cpu_p;
	void *cpu_ctx_p;
	uint8_t *pages_p[5]; /* hypercall, input, messages, flags, TSC */
	uint64_t *map_p;     /* a bit for each page: handed out */
	uint64_t first_p;    /* the first page that can be handed out */
	uint64_t count_p;    /* pages in memory */
	uint64_t low_p;	     /* no free page is below this one */
	uint64_t fresh_p;    /* pages from here on were never handed out */
	uint64_t scale_p;    /* of the processor's counter, when that is the clock */
	uint64_t last_p;     /* the time that was told last */
	uint32_t clock_p;
	uint32_t vp_p;
	uint32_t lack_p;
	uint32_t state_p;
	volatile uint32_t woken_p;
	uint32_t reserved1_p;
	uint64_t reserved_p[16];
};

/*
 * Find the hypervisor, tell it what we are, enable the hypercall page, then SIMP, SIEFP, SINT2 and
 * SCONTROL of the calling processor.
 *
 * bare	 caller's storage; what is in it does not matter.
 * opts	 copied; memory is kept.
 *
 * Errors: INVAL   struct_bytes is too small, memory is missing, or memory, memory_gpa or memory_bytes
 *		   is no multiple of 4096
 *	   RANGE   memory_bytes, vector or os_id is out of bounds
 *	   NOTSUP  this machine lacks something: vmbus_bare_lack() tells what
 * Effect: on error all registers are as they were, or 0.
 * Threads: one at a time, on the processor that is to get messages and interrupts.
 * Source: [HV-CPUID], [HV-MSR], [HV-PAGE], [SYNIC-MSR] in vmbus_wire(7).
 */
VMBUS_API int vmbus_bare_init(struct vmbus_bare *bare, const struct vmbus_bare_opts *opts);

/*
 * Undo it, in the opposite order: SINT2 masked, SynIC and its pages off, hypercall page off, our id 0.
 *
 * bare	 after vmbus_bare_init(), also if that failed; no guest may use it any more.
 *
 * Effect: memory is the caller's again, unless a guest lost pages to the parent.  None when init
 * failed, or fini was called already.
 * Threads: as vmbus_bare_init(), on the same processor.
 */
VMBUS_API void vmbus_bare_fini(struct vmbus_bare *bare);

/*
 * What the machine lacks, after vmbus_bare_init() said NOTSUP; else NOTHING.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API enum vmbus_bare_lack vmbus_bare_lack(const struct vmbus_bare *bare);

/*
 * In words, for instance "no hypercall registers (CPUID 0x40000003 EAX bit 5)".  Constant text.
 *
 * lack	 "?" for a number that is none.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_bare_lack_name(enum vmbus_bare_lack lack);

/*
 * The backend for struct vmbus_guest_opts; its backend_ctx is the struct vmbus_bare.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const struct vmbus_guest_backend *vmbus_bare_backend(void);

/*
 * To be called by the handler of the vector's interrupt; the handler itself tells the local APIC
 * its end of interrupt.
 *
 * Effect: vmbus_guest_wait() and whoever else idles look for work.
 * Threads: an interrupt handler of the processor that called vmbus_bare_init().
 */
VMBUS_API void vmbus_bare_interrupt(struct vmbus_bare *bare);

/*
 * The index of the processor that called vmbus_bare_init(): target_vp of struct vmbus_vsc_opts.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint32_t vmbus_bare_vp(const struct vmbus_bare *bare);

/*
 * The counters.
 *
 * Effect: none but on stats.
 * Threads: any; numbers of one moment are not promised.
 */
VMBUS_API void vmbus_bare_stats(const struct vmbus_bare *bare, struct vmbus_bare_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
