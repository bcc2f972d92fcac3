/* SPDX-License-Identifier: MIT */
/*
 * Partitions under KVM: makes a bus for a virtual machine of somebody else's VMM.  The VMM keeps its
 * descriptors, its memory and its threads, and adds to its vCPU loop one call,
 * vmbus_kvm_handle_exit().
 *
 * Concepts, the two ways, what each costs: vmbus_kvm(7).  Hosted, x86-64: in vmbus::vmbus.
 */
#ifndef VMBUS_KVM_H
#define VMBUS_KVM_H

#include <vmbus/bus.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of <linux/kvm.h>. */
struct kvm_run;
struct kvm_cpuid_entry2;
struct kvm_irq_routing_entry;

struct vmbus_kvm; /* opaque: one partition */

enum vmbus_kvm_way {
	VMBUS_KVM_AUTO = 0, /* KERNEL if this KVM can, else USER */
	VMBUS_KVM_KERNEL, /* SynIC and synthetic registers in the kernel (KVM_CAP_HYPERV_SYNIC2) */
	VMBUS_KVM_USER	  /* all of it here: MSR filter, our own hypercall page, MSIs */
};

#define VMBUS_KVM_PORTS 2048u  /* I/O ports that the user-space way takes */
#define VMBUS_KVM_VPS_MAX 254u /* virtual processors; APIC ids are 8 bits */

/* A crash that the guest reported. */
struct vmbus_kvm_crash {
	uint64_t params[5];
	uint32_t vp;
	uint32_t text_bytes; /* of text; 0: it sent none */
	const char
		*text; /* printable, lines end with \n; ends with a zero byte; valid in the call */
};

/* Options of vmbus_kvm_create(); 0 takes the default in brackets. */
struct vmbus_kvm_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_kvm_opts) */
	int kvm_fd;	     /* /dev/kvm; used during the call */
	int vm_fd;	     /* the VM, with its interrupt controllers in the kernel; kept */
	enum vmbus_kvm_way way;
	uint32_t vps_max; /* [16] most virtual processors, up to VMBUS_KVM_VPS_MAX */
	uint32_t gsi;  /* [32] first of 2 * vps_max GSIs that are ours; 24 or more without routes */
	uint16_t port; /* [0xA000] user-space way: the first of VMBUS_KVM_PORTS I/O ports */
	bool keeps_filter; /* the embedder has set an MSR filter that includes ours, vmbus_kvm(7) */
	/* Kernel's way: advise the guest to use KVM's APIC registers, vmbus_kvm(7): fewer exits where
	   the processor does not virtualize the APIC, more where it does. */
	bool apic_msrs;
	uint64_t tsc_hz;  /* [KVM_GET_TSC_KHZ of the VM; Linux before 5.19: give a vCPU's] */
	uint64_t apic_hz; /* [10^9] */
	/*
	 * Our GSI routes have changed: put them into the VM's table, which is replaced as a whole,
	 * beside the embedder's own.  0, or an error.  NULL: the table is the kernel's default one
	 * for its PIC and I/O APIC, and ours.  It must make no call of this library.  Threads: a vCPU's,
	 * or the one that adds vCPUs; one at a time.
	 */
	int (*routes)(void *ctx, const struct kvm_irq_routing_entry *ours, uint32_t count);
	/* The guest reported a crash; 16 reports per vCPU at most between two resets.  May be NULL.
	   Threads: that vCPU's. */
	void (*crashed)(void *ctx, const struct vmbus_kvm_crash *crash);
	/* The guest asks for a reset by its register.  NULL: not offered.  Threads: that vCPU's. */
	void (*reset)(void *ctx);
	void *ctx;
	struct vmbus_bus_opts bus; /* backend, backend_ctx and bind_all are filled in */
	uint64_t reserved2[4];
};

struct vmbus_kvm_stats {
	uint64_t exits;		  /* that handle_exit() was shown */
	uint64_t exits_msr;	  /* and handled, by kind */
	uint64_t exits_hypercall; /* posts, and calls that nobody knows */
	uint64_t exits_signal;	  /* signals that came to user space */
	uint64_t exits_synic;	  /* pages that moved, kernel's way */
	uint64_t bad;		  /* accesses and calls that were refused */
	uint64_t interrupts;	  /* that we asked for: messages and events */
	uint64_t messages;	  /* put into slots */
	uint64_t slots_busy;	  /* found taken: sent after EOM */
	uint64_t bound;		  /* signals bound to descriptors now */
	uint64_t reserved[8];
};

/*
 * Make a partition and its bus.  Call it after the interrupt controllers are made, and before the
 * first vCPU runs.
 *
 * opts	 descriptors are borrowed, vm_fd until destroy; bus.regions as for vmbus_bus_create().
 * kvm	 on success, the partition.
 *
 * Errors: INVAL   a size is wrong, a descriptor is none, or as for vmbus_bus_create()
 *	   RANGE   vps_max, gsi or port are out of bounds, or as for vmbus_bus_create()
 *	   NOTSUP  this KVM cannot go the way that was asked for, or neither: the bus's log says
 *		   what it lacks
 *	   NOMEM   out of memory
 *	   SYSTEM  a system call failed; errno tells why.  A line in the log if KVM refused the table
 *		   of routes: there are no interrupt controllers, or not all of them are in the kernel
 * Effect: none on error, but that the VM's MSR exits may be switched on without a filter.
 * Threads: any.
 */
VMBUS_API int vmbus_kvm_create(const struct vmbus_kvm_opts *opts, struct vmbus_kvm **kvm);

/*
 * End the bus, then the partition: everything that was bound is unbound.  Descriptors of the
 * embedder's stay open.
 *
 * kvm	 may be NULL.
 *
 * Effect: as vmbus_bus_destroy().
 * Threads: no vCPU may run, and no other call be under way.
 */
VMBUS_API void vmbus_kvm_destroy(struct vmbus_kvm *kvm);

/*
 * The bus of the partition: offer devices on it.  It is dispatched by vmbus_kvm_dispatch(), reset by
 * vmbus_kvm_reset() and destroyed by vmbus_kvm_destroy(), not by the calls of vmbus/bus.h.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API struct vmbus_bus *vmbus_kvm_bus(const struct vmbus_kvm *kvm);

/*
 * Which of the two ways it goes: KERNEL or USER.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API enum vmbus_kvm_way vmbus_kvm_way(const struct vmbus_kvm *kvm);

/*
 * A descriptor to poll: readable while vmbus_kvm_dispatch() has work.  The partition owns it.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_kvm_fd(const struct vmbus_kvm *kvm);

/*
 * Do work: see which message slots are free again, then dispatch the bus.
 *
 * budget, returns, errors: as vmbus_bus_dispatch().
 *
 * Effect: as vmbus_bus_dispatch().
 * Threads: one at a time per partition; never from a callback.
 */
VMBUS_API int vmbus_kvm_dispatch(struct vmbus_kvm *kvm, uint32_t budget);

/*
 * Add memory to the partition: vmbus_bus_mem_add(), and pages of a SynIC that lie in it are found.
 * The partition has a pin on it, as on those of opts.bus.regions.
 *
 * region  kept until it is removed.
 *
 * Errors, effect, threads: as vmbus_bus_mem_add().
 */
VMBUS_API int vmbus_kvm_mem_add(struct vmbus_kvm *kvm, struct vmbus_region *region);

/*
 * Take memory away.  Pages of a SynIC that lie in it are let go first: messages wait and events are
 * dropped until the guest names other pages or the memory comes back.  Only this call gives up the
 * partition's pin: vmbus_bus_mem_remove() alone says AGAIN for ever.
 *
 * Errors, effect, threads: as vmbus_bus_mem_remove().
 */
VMBUS_API int vmbus_kvm_mem_remove(struct vmbus_kvm *kvm, struct vmbus_region *region);

/*
 * Merge our CPUID leaves into those that a vCPU gets: hypervisor leaves of others are removed,
 * features that we need are set.
 *
 * entries  room for that many; count of them are set, as KVM_GET_SUPPORTED_CPUID gave them.
 *
 * Returns the new count.
 * Errors: RANGE  more room is needed: 16 entries beyond count are always enough
 * Effect: none on error.
 * Threads: any.
 * Source: [HV-CPUID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_kvm_cpuid(const struct vmbus_kvm *kvm, struct kvm_cpuid_entry2 *entries,
			      uint32_t count, uint32_t room);

/*
 * A vCPU is there: call it before it runs, after KVM_SET_CPUID2, and in the order of the numbers.
 *
 * vp	    virtual processor index, below vps_max.
 * apic_id  its local APIC's.
 * vcpu_fd  borrowed until vmbus_kvm_remove_vcpu().
 * run	    its shared page; the same.
 *
 * Errors: INVAL   vcpu_fd is no descriptor, or run is NULL or MAP_FAILED
 *	   RANGE   vp, or an apic_id past 254: 255 is all of them
 *	   STATE   that one is there already
 *	   SYSTEM  a system call failed, and errno tells why; or opts.routes returned an error
 * Effect: none on error.
 * Threads: one at a time per partition, or the thread of that vCPU.
 */
VMBUS_API int vmbus_kvm_add_vcpu(struct vmbus_kvm *kvm, uint32_t vp, uint32_t apic_id, int vcpu_fd,
				 struct kvm_run *run);

/*
 * A vCPU is gone.
 *
 * Errors: STATE  it was not there
 * Effect: messages for it wait, events are dropped.
 * Threads: as vmbus_kvm_add_vcpu(); the vCPU does not run.
 */
VMBUS_API int vmbus_kvm_remove_vcpu(struct vmbus_kvm *kvm, uint32_t vp);

/*
 * KVM_RUN has returned 0: see whether the exit is ours.
 *
 * vp  of the vCPU whose run page tells of the exit.
 *
 * Returns 1: handled, run the vCPU again; 0: not ours.
 * Errors: STATE   no such vCPU
 *	   SYSTEM  KVM refused something that it must grant; errno tells why
 * Effect: registers and memory of the guest, as the exit asks.  A lock is held for the time of a
 * register write.  Waits for nobody but for a grace period of RCU, where the guest enables, moves or
 * disables a SynIC page.
 * Threads: the vCPU's.
 * Source: [HV-MSR], [HV-PAGE], [HC-CONTROL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_kvm_handle_exit(struct vmbus_kvm *kvm, uint32_t vp);

/*
 * The machine was reset: registers, SynICs and the bus begin anew; the offers stay.  The embedder
 * resets the vCPUs.
 *
 * Errors: SYSTEM  KVM refused; errno tells why
 * Effect: as vmbus_bus_reset(): devices close in the dispatches that follow, and their rings lie in the
 * guest's memory until then.
 * Threads: no vCPU runs, none before vmbus_kvm_dispatch() has returned 0, and the memory stays as it is
 * until then.
 */
VMBUS_API int vmbus_kvm_reset(struct vmbus_kvm *kvm);

/*
 * The partition's state: registers and SynICs, in a form that vmbus_kvm_restore() takes, in any
 * process and under either way.
 *
 * buf	  NULL with room 0: only tell how much is needed.
 *
 * Returns the bytes of the state.
 * Errors: RANGE   room is less than that
 *	   SYSTEM  KVM refused; errno tells why
 * Effect: none but on buf.
 * Threads: no vCPU runs, and the bus is not dispatched.
 */
VMBUS_API int vmbus_kvm_save(struct vmbus_kvm *kvm, void *buf, size_t room);

/*
 * Take over such a state, after the vCPUs were added and before they run.
 *
 * buf, bytes  not trusted; copied.
 *
 * Errors: NOTSUP  a version or register that we do not know
 *	   INVAL   no such state: too short, too long, values that cannot be
 *	   RANGE   it has a vCPU that is not there
 *	   SYSTEM  KVM refused; errno tells why
 * Effect: on error the partition is as after vmbus_kvm_reset().
 * Threads: as vmbus_kvm_save().
 */
VMBUS_API int vmbus_kvm_restore(struct vmbus_kvm *kvm, const void *buf, size_t bytes);

/*
 * The counters.
 *
 * Effect: none but on stats.
 * Threads: any; numbers of one moment are not promised.
 */
VMBUS_API void vmbus_kvm_stats(const struct vmbus_kvm *kvm, struct vmbus_kvm_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
