/* SPDX-License-Identifier: MIT */
/*
 * The synthetic interrupt controller of one virtual processor, and the synthetic machine-specific
 * registers and CPUID leaves around it, as pure state: what the parent keeps for a child, and the
 * few steps that a child takes on its message and event pages.
 *
 * Concepts, the message-slot handshake: vmbus_backend(7).  Nothing here needs a C library.
 */
#ifndef VMBUS_SYNIC_H
#define VMBUS_SYNIC_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_SINTS 16u
#define VMBUS_SYNIC_FLAGS 2048u	 /* event flags of a SINT, [SYNIC-EVENT] */
#define VMBUS_SYNIC_PAYLOAD 240u /* of a message, [SYNIC-MESSAGE] */

/* A message as it lies in its slot, decoded. */
struct vmbus_synic_msg {
	uint32_t type; /* never 0 */
	uint32_t bytes;
	uint64_t sender;
	uint8_t payload[VMBUS_SYNIC_PAYLOAD];
};

/* What the caller must do after a call on the parent's side: bits. */
#define VMBUS_SYNIC_INTERRUPT 0x1u /* raise the vector in the low 8 bits of *arg on this VP */
#define VMBUS_SYNIC_PAGES 0x2u	   /* SIMP or SIEFP changed: look at simp() and siefp(), set them */
#define VMBUS_SYNIC_SLOT_FREE 0x4u /* then: try queued messages again */

/* In *arg, besides the vector: the SINT is one with auto-EOI. */
#define VMBUS_SYNIC_ARG_AUTO_EOI 0x100u

/* The parent's side of one VP.  Members are private; words, for several threads use them. */
struct vmbus_synic {
	uint64_t control_p;
	uint64_t siefp_p;
	uint64_t simp_p;
	uint64_t vp_assist_p;
	uint64_t sint_p[VMBUS_SINTS];
	uint64_t messages_p; /* address of the page as we map it, or 0 */
	uint64_t flags_p;
	uint64_t dirty_p; /* address of a struct vmbus_dirty, or 0 */
	uint64_t message_frame_p;
	uint64_t flags_frame_p;
	uint64_t content_p[2]; /* guest address | 1 of what holds messages, flags; 0 since reset */
	uint64_t reserved_p[8];
};

/*
 * Begin, or reset the VP: SCONTROL enabled, SINTs masked, SIMP, SIEFP and VP assist 0, no pages.
 *
 * synic  caller's storage; what is in it does not matter.
 *
 * Effect: what was in the pages is forgotten: the next ones are zeroed.
 * Threads: one at a time per SynIC, as msr_write and set_pages; post and raise may run meanwhile if
 * the SynIC was set up before.
 * Source: [SYNIC-MSR] in vmbus_wire(7).
 */
VMBUS_API void vmbus_synic_reset(struct vmbus_synic *synic);

/*
 * A read of a register of the VP: SCONTROL, SVERSION, SIEFP, SIMP, EOM, SINT0 to SINT15, and the
 * VP assist page's, which is kept here as it is one per VP.
 *
 * msr	  any number.
 * value  on success, what the guest reads.
 *
 * Errors: NOTSUP  none of ours: ask others, then raise #GP
 * Effect: none.
 * Threads: any.
 * Source: [SYNIC-MSR] in vmbus_wire(7).
 */
VMBUS_API int vmbus_synic_msr_read(const struct vmbus_synic *synic, uint32_t msr, uint64_t *value);

/*
 * A write to such a register.  Reserved bits are kept as written and have no effect.
 *
 * from_host  by the embedder, who restores a VP, and not by the guest: then a SINT may have a
 *	      vector below 16 unmasked (it raises no interrupt), SVERSION may be written with its own
 *	      value, and EOM does nothing.
 *
 * Returns VMBUS_SYNIC_* bits: PAGES and SLOT_FREE, to be done in this order.
 * Errors: NOTSUP  none of ours
 *	   INVAL   raise #GP: a vector below 16 in a SINT that is not masked; SVERSION
 * Effect: none on error.
 * Threads: one at a time per SynIC; post and raise may run meanwhile.
 * Source: [SYNIC-MSR] in vmbus_wire(7).
 */
VMBUS_API int vmbus_synic_msr_write(struct vmbus_synic *synic, uint32_t msr, uint64_t value,
				    bool from_host);

/*
 * The guest physical address of the message page, and of the event flags page; UINT64_MAX when it
 * is disabled.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint64_t vmbus_synic_simp(const struct vmbus_synic *synic);
VMBUS_API uint64_t vmbus_synic_siefp(const struct vmbus_synic *synic);

/*
 * Say where these pages are in our address space.
 *
 * A page is zeroed here when it is the first one that is enabled since reset, for what a guest left
 * there would block a slot; when the guest moves its page, what was in the one before is carried
 * over, if that is still mapped as it was set before, else the new one is zeroed too.  A page that
 * is set again as it was, or enabled again at the same address, is left as it is.
 *
 * messages, flags  a page each, 8-aligned; NULL: not there, messages wait and events are dropped.
 *		    Kept, and must stay mapped, until another one was set and every post and raise
 *		    that began before has returned.
 * dirty	    marked for each page that is written; NULL: not wanted.  Kept in the same way.
 * message_frame, flags_frame  the pages' frames in dirty.
 *
 * Effect: after pages appear that were not there, queued messages can be tried again.
 * Threads: as msr_write; post and raise may run meanwhile, and what they put into a page that moves
 * goes with it or into the new one.
 */
VMBUS_API void vmbus_synic_set_pages(struct vmbus_synic *synic, void *messages, void *flags,
				     const struct vmbus_dirty *dirty, uint64_t message_frame,
				     uint64_t flags_frame);

/*
 * Put a message into the slot of a SINT.
 *
 * sint	 0 to 15.
 * msg	 type not 0, bytes at most 240.
 * more	 further messages wait: the guest must write EOM.
 * arg	 the vector, when INTERRUPT is returned.
 *
 * Returns VMBUS_SYNIC_* bits: INTERRUPT, unless the SINT polls.
 * Errors: AGAIN  the slot is taken, and the guest was told to write EOM; or SCONTROL, SIMP or the
 *		  SINT is off: a register write returns SLOT_FREE when it is worth a retry
 *	   RANGE  sint or bytes
 *	   INVAL  type
 * Effect: none on RANGE and INVAL.
 * Threads: one at a time per SynIC; msr_write and raise may run meanwhile.
 * Source: [SYNIC-MESSAGE], [SYNIC-SLOT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_synic_post(struct vmbus_synic *synic, uint32_t sint,
			       const struct vmbus_synic_msg *msg, bool more, uint32_t *arg);

/*
 * Set an event flag.  If the SINT is masked the flag is set and nobody is interrupted: a guest
 * looks at its flags after it unmasks.
 *
 * sint	 0 to 15.
 * flag	 0 to 2,047.
 * arg	 the vector, when INTERRUPT is returned.
 *
 * Returns VMBUS_SYNIC_* bits: INTERRUPT if the flag was clear and the SINT is neither masked
 * nor polling.
 * Errors: AGAIN  SCONTROL or SIEFP is off or the page is not there, and no flag was set: the event
 *		  is dropped
 *	   RANGE  sint or flag
 * Effect: what this thread wrote before is seen by whoever takes the flag.
 * Threads: any, at the same time.
 * Source: [SYNIC-EVENT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_synic_raise(struct vmbus_synic *synic, uint32_t sint, uint32_t flag,
				uint32_t *arg);

/*
 * The child's side: take the message of a slot as a copy.
 *
 * message_page  8-aligned.
 * sint		 0 to 15.
 * msg		 the copy; only its first bytes of payload are written.
 * eom		 an EOM is due: write 0 to the register, or tell the parent in another way.
 *
 * Returns 1 with a message, 0 when the slot is empty.
 * Errors: PEER   a length past the slot (it was freed), or the parent changed the slot meanwhile;
 *		  *eom is right all the same
 *	   RANGE  sint
 * Effect: the slot is empty after 1.
 * Threads: one at a time per slot.
 * Source: [SYNIC-MESSAGE], [SYNIC-SLOT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_synic_take(void *message_page, uint32_t sint, struct vmbus_synic_msg *msg,
			       bool *eom);

/*
 * The child's side: take 64 event flags of a SINT, 64 * word and up, and leave them clear.
 *
 * flags_page  8-aligned.
 * word	       0 to 31; 0 flags beyond, and for a sint past 15.
 *
 * Effect: what was written before a flag was raised is seen by the thread that took it.
 * Threads: any, at the same time; each flag goes to one.
 * Source: [SYNIC-EVENT] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_synic_take_flags(void *flags_page, uint32_t sint, uint32_t word);

/* Partition-wide registers: GUEST_OS_ID, HYPERCALL, reference time, TSC page, crash, reset. */
struct vmbus_hv_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_hv_opts) */
	uint64_t tsc_hz;     /* with apic_hz: offer both; 0: neither */
	uint64_t apic_hz;
	bool reference_tsc; /* offer the TSC page */
	bool crash;	    /* offer the crash registers */
	bool reset;	    /* offer the reset register */
	bool stimers;	    /* somebody provides synthetic timers */
	bool xmm_fast;	    /* the embedder delivers XMM registers */
	bool auto_eoi;	    /* the interrupt controller can do auto-EOI */
	bool invariant_tsc; /* the TSC never changes its rate; offer its control register */
	bool apic_msrs;	    /* advise the guest to use the APIC registers of the hypervisor's */
	uint32_t vps_max;
	uint32_t reserved2;
};

/* What the caller must do after a write: bits. */
#define VMBUS_HV_PAGE 0x10u  /* fill the hypercall page at hypercall_gpa(), if that is not off */
#define VMBUS_HV_TSC 0x20u   /* fill the reference TSC page at tsc_gpa(), if that is not off */
#define VMBUS_HV_CRASH 0x40u /* the guest reported a crash: crash() tells */
#define VMBUS_HV_RESET 0x80u /* the guest asks for a reset */

/* Members are private. */
struct vmbus_hv {
	struct vmbus_hv_opts opts_p;
	uint64_t os_id_p;
	uint64_t hypercall_p;
	uint64_t tsc_page_p;
	uint64_t crash_p[5];
	uint64_t crash_ctl_p;
	uint64_t invariant_p;
	uint64_t reserved_p[16];
};

/*
 * Begin, or reset the partition: all registers 0.
 *
 * hv	 caller's storage.
 * opts	 copied; what they do not offer is neither announced nor accepted.
 *
 * Errors: INVAL  hv or opts missing, or opts smaller than ours
 * Effect: none on error.
 * Threads: one at a time per partition.
 */
VMBUS_API int vmbus_hv_init(struct vmbus_hv *hv, const struct vmbus_hv_opts *opts);

/*
 * A read of a partition-wide register, VP_INDEX among them.
 *
 * vp	  index of the VP that asks.
 * msr	  any number.
 * now	  reference time, 100 ns since the partition was made; used by TIME_REF_COUNT alone.
 * value  on success, what the guest reads.
 *
 * Errors: NOTSUP  none of ours, or not offered: ask others, then raise #GP
 * Effect: none.
 * Threads: not beside a write; VP_INDEX, TIME_REF_COUNT and the frequencies never change, and any
 * thread may read these at any time.
 * Source: [HV-MSR] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hv_msr_read(const struct vmbus_hv *hv, uint32_t vp, uint32_t msr, uint64_t now,
				uint64_t *value);

/*
 * A write to such a register.  The hypercall page cannot be enabled or locked while the guest's id
 * is 0, and is disabled when that becomes 0; the write that tries succeeds and the bits stay clear.
 *
 * Returns VMBUS_HV_* bits.
 * Errors: NOTSUP  none of ours, or not offered
 *	   INVAL   raise #GP: a register that cannot be written, the hypercall register once it is
 *		   locked, a reserved bit of TSC_INVARIANT_CONTROL
 * Effect: none on error.
 * Threads: one at a time per partition.
 * Source: [HV-MSR] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hv_msr_write(struct vmbus_hv *hv, uint32_t vp, uint32_t msr, uint64_t value);

/*
 * The guest physical address of the hypercall page, and of the reference TSC page; UINT64_MAX when
 * it is disabled.
 *
 * Effect: none.
 * Threads: not beside a write.
 */
VMBUS_API uint64_t vmbus_hv_hypercall_gpa(const struct vmbus_hv *hv);
VMBUS_API uint64_t vmbus_hv_tsc_gpa(const struct vmbus_hv *hv);

/*
 * What the guest reported last: its five words, and ctl with bit 63 (it has crashed) and bit 62
 * (the fourth word is the address of a text, the fifth its length).  Addresses are the guest's.
 *
 * Effect: none.
 * Threads: not beside a write.
 * Source: [HV-MSR] in vmbus_wire(7).
 */
VMBUS_API void vmbus_hv_crash(const struct vmbus_hv *hv, uint64_t params[5], uint64_t *ctl);

enum vmbus_hv_call {
	VMBUS_HV_VMCALL,  /* Intel */
	VMBUS_HV_VMMCALL, /* AMD */
	VMBUS_HV_PORT_IO  /* our own page for a hypervisor that does not pass calls on */
};

/*
 * Write the 4096 bytes of a hypercall page for a 64-bit guest.
 *
 * page	 ours to write; a guest maps it for execution.
 * how	 the instruction that it has.
 * port	 PORT_IO only: the first of 2,048 ports, at most 0xF800.  A fast signal of flag 0 to
 *	 connection id 0x2000 + n, n from 1 to 2,047, is an OUT of the id, 4 bytes, to port + n; any
 *	 other call is an OUT of 1 byte to port, with the control word in RCX, the input in RAX and
 *	 the output in R8.  See vmbus_backend(7).
 *
 * Errors: INVAL  how
 *	   RANGE  port
 * Effect: none on error.
 * Threads: one at a time per page.
 * Source: [HV-PAGE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hv_fill_page(void *page, enum vmbus_hv_call how, uint16_t port);

/*
 * Write a reference TSC page: time = (tsc * scale >> 64) + offset.
 *
 * page	     8-aligned; guests may read it meanwhile.
 * sequence  not the one before; 0: the page says that it is not valid.
 * scale     vmbus_hv_tsc_scale().
 * offset    100 ns.
 *
 * Effect: only the first 24 bytes are written.
 * Threads: one at a time per page.
 * Source: [HV-TSC] in vmbus_wire(7).
 */
VMBUS_API void vmbus_hv_fill_tsc(void *page, uint32_t sequence, uint64_t scale, int64_t offset);

/*
 * The scale for a TSC of this rate: 10,000,000 * 2^64 / tsc_hz, rounded down.
 *
 * tsc_hz  more than 10,000,000; else the answer is 0.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint64_t vmbus_hv_tsc_scale(uint64_t tsc_hz);

/*
 * The child's side: reference time from a TSC page.
 *
 * tsc	 the processor's counter, read just before.
 * time	 on 1, 100 ns.
 *
 * Returns 1; 0 when the page is not valid or changed meanwhile: try again with a new tsc, a few
 * times, then read the register.
 * Effect: none.
 * Threads: any.
 * Source: [HV-TSC] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hv_read_tsc(const void *page, uint64_t tsc, uint64_t *time);

/*
 * A CPUID leaf: what the options offer, and the hint to leave auto-EOI alone unless they have it.
 *
 * leaf	 any number; ours are 0x40000000 to 0x4000000C.
 * regs	 EAX, EBX, ECX, EDX.
 *
 * Returns 1 with regs, 0 for a leaf that is not ours.
 * Effect: none.
 * Threads: any.
 * Source: [HV-CPUID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hv_cpuid(const struct vmbus_hv *hv, uint32_t leaf, uint32_t regs[4]);

#ifdef __cplusplus
}
#endif
#endif
