/* SPDX-License-Identifier: MIT */
/*
 * One partition under KVM, as the files of this backend share it.
 *
 * Registers and the memory map belong to the lock.  A SynIC is written under the lock and read by
 * any thread; its pages stay mapped for whoever is between vmbus__kvm_enter() and _leave(), because
 * every region of the map has a pin of ours until vmbus_kvm_mem_remove() lets go of it.
 */
#ifndef VMBUS_KVM_PARTITION_H
#define VMBUS_KVM_PARTITION_H

#include <vmbus/ctl.h>
#include <vmbus/kvm.h>
#include <vmbus/mem.h>
#include <vmbus/synic.h>

#include <linux/kvm.h>
#include <pthread.h>

#include "base/atomic.h"
#include "kvm/numbers.h"
#include "kvm/sys.h"

#define VMBUS__KVM_SINT VMBUS_SINT_MESSAGE
#define VMBUS__KVM_MSR_FIRST 0x40000000u /* synthetic registers, [HV-MSR] */
#define VMBUS__KVM_MSR_COUNT 0x200u
#define VMBUS__KVM_PINS VMBUS_REGIONS_MAX
#define VMBUS__KVM_CONN_BASE 0x2000u /* of connection ids of channels, [HV-PAGE] */
#define VMBUS__KVM_FLAG_BYTES 256u   /* of each SINT's flags in their page, [SYNIC-EVENT] */
#define VMBUS__KVM_CRASHES 16u	     /* reports between two resets */

struct vmbus__kvm_vp {
	struct vmbus_synic synic;
	struct kvm_run *run;
	int vcpu_fd;
	int event_fd;	/* irqfd: events, and in the user-space way messages */
	int wake_fd;	/* irqfd: events that other processes raise; the bus's thread */
	int message_fd; /* irqfd with resampling; kernel's way */
	int resample_fd;
	uint32_t apic_id;
	vmbus__a32 here;  /* a vCPU is there */
	vmbus__a32 waits; /* a message waits for this VP */
	uint32_t vector;  /* that our route leads to; 0: none */
	uint32_t crashes;
	uint32_t seen;	/* restore: registers that the state has named */
	bool listening; /* resample_fd is in the set; the dispatching thread's */
};

/* A region of the map. */
struct vmbus__kvm_pin {
	struct vmbus_region *region;
	struct vmbus_sgl sgl; /* no piece, one pin */
};

struct vmbus_kvm {
	const struct vmbus__kvm_sys *sys;
	struct vmbus_kvm_opts opts; /* with defaults filled in */
	enum vmbus_kvm_way way;
	bool sync_regs;	    /* KVM_CAP_SYNC_REGS has the general registers */
	bool enforce_cpuid; /* KVM_CAP_HYPERV_ENFORCE_CPUID is there */
	bool tells_tsc;	    /* KVM_GET_CLOCK says whether the TSC is stable */
	bool has_invariant; /* TSC_INVARIANT_CONTROL is offered */
	struct vmbus_bus *bus;
	int epoll_fd; /* kernel's way: the bus's descriptor and resample descriptors; else -1 */
	uint32_t listening;

	pthread_mutex_t lock;
	struct vmbus_hv hv;
	struct vmbus_mem maps[2];
	uint32_t map;
	uint32_t tsc_sequence;
	struct vmbus__kvm_pin pins[VMBUS__KVM_PINS];
	struct kvm_irq_routing *table;
	int bound[VMBUS_KVM_PORTS]; /* the bus's thread only; -1: none */

	vmbus__a32 vps; /* highest that is there, and one */
	vmbus__a64 clock;
	struct vmbus_kvm_stats stats; /* words */
	struct vmbus__kvm_vp vp[];
};

/* ioctl by the partition's table. */
int vmbus__kvm_ioctl(const struct vmbus_kvm *kvm, int fd, unsigned long request, void *arg);
void vmbus__kvm_count(uint64_t *counter);
/* Close *fd if it is one and make it -1; errno stays. */
void vmbus__kvm_close(int *fd);

/* A line in the log of the bus; errno stays. */
void vmbus__kvm_say(const struct vmbus_bus_opts *bus, enum vmbus_log_level level,
		    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Registers of the partition as they are at the beginning. */
int vmbus__kvm_hv_init(struct vmbus_kvm *kvm);

/* deliver.c */
extern const struct vmbus_backend vmbus__kvm_backend;
/* A slot of this VP may be free, or the VP takes messages again. */
void vmbus__kvm_slot_free(struct vmbus_kvm *kvm, uint32_t vp);
/* See which resample descriptors are readable. */
void vmbus__kvm_hear(struct vmbus_kvm *kvm);
/* Raise the vector of SINT 2 whatever is new, so that the guest looks. */
void vmbus__kvm_nudge(struct vmbus_kvm *kvm, uint32_t vp);
uint64_t vmbus__kvm_time(struct vmbus_kvm *kvm);

/* route.c.  Room for the table, and a first one, so that KVM refuses here if it must. */
int vmbus__kvm_routes_init(struct vmbus_kvm *kvm);
/* With the lock. */
int vmbus__kvm_routes(struct vmbus_kvm *kvm);
/* Before the guest's write of SINT 2: interrupts of the new vector must have a way. */
int vmbus__kvm_route_sint(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t value);
/* Whether this VM can have descriptors with resampling: 0, NOTSUP, or SYSTEM.  Without the lock. */
int vmbus__kvm_try_resample(struct vmbus_kvm *kvm);
int vmbus__kvm_connect(struct vmbus_kvm *kvm, uint32_t vp);
void vmbus__kvm_disconnect(struct vmbus_kvm *kvm, uint32_t vp);
int vmbus__kvm_wake_fd(struct vmbus_kvm *kvm, uint32_t vp);

/* memory.c; with the lock. */
int vmbus__kvm_memory_init(struct vmbus_kvm *kvm);
void vmbus__kvm_unpin_all(struct vmbus_kvm *kvm);
const struct vmbus_mem *vmbus__kvm_map(const struct vmbus_kvm *kvm);
/* Find the pages that a VP's SynIC names now. */
void vmbus__kvm_place(struct vmbus_kvm *kvm, uint32_t vp);
/* The same, and what is in the pages stays. */
void vmbus__kvm_place_kept(struct vmbus_kvm *kvm, uint32_t vp);
/* Errors: RANGE, PERM: no memory that we may write. */
int vmbus__kvm_fill_hypercall(struct vmbus_kvm *kvm);
/* Before the first fill of a page whose number another partition may have written. */
void vmbus__kvm_follow_tsc(struct vmbus_kvm *kvm);
void vmbus__kvm_fill_tsc(struct vmbus_kvm *kvm, uint32_t vp);

/* msr.c */
int vmbus__kvm_exit_msr(struct vmbus_kvm *kvm, uint32_t vp, bool write);
/* Do what a SynIC register write asks for; with the lock.  Returns what is left: SLOT_FREE. */
uint32_t vmbus__kvm_synic_did(struct vmbus_kvm *kvm, uint32_t vp, int did);

/* call.c */
int vmbus__kvm_exit_io(struct vmbus_kvm *kvm, uint32_t vp);
int vmbus__kvm_exit_hyperv(struct vmbus_kvm *kvm, uint32_t vp);

/* registers.c: kernel's way, registers of a vCPU that does not run. */
int vmbus__kvm_get_msr(const struct vmbus_kvm *kvm, int vcpu_fd, uint32_t msr, uint64_t *value);
int vmbus__kvm_set_msr(const struct vmbus_kvm *kvm, int vcpu_fd, uint32_t msr, uint64_t value);
void vmbus__kvm_synic_init(struct vmbus_kvm *kvm, uint32_t vp);

#endif
