/* SPDX-License-Identifier: MIT */
/*
 * Reset, and the state of a partition as bytes: a list of registers with their values, the same for
 * both ways.  What comes back is not trusted: all of it is looked at before anything is set, each
 * register is named at most once, and what cannot be set ends in a reset.
 *
 * What is in the pages of the guest is the guest's memory, and is saved with it.
 */
#include <errno.h>
#include <string.h>

#include "kvm/partition.h"

#define MAGIC 0x4D564B56u /* "VKVM" */
#define VERSION 1u
#define PARTITION 0xFFFFFFFFu /* instead of a VP */

struct head {
	uint32_t magic;
	uint32_t version;
	uint32_t count;
	uint32_t reserved; /* 0 */
};

struct entry {
	uint32_t vp;
	uint32_t msr;
	uint64_t value;
};

/* In the order in which they are set; the page of calls needs the id. */
static const uint32_t partition_msrs[] = {
	MSR_GUEST_OS_ID,  MSR_HYPERCALL,    MSR_REFERENCE_TSC, MSR_CRASH_P0,	  MSR_CRASH_P0 + 1,
	MSR_CRASH_P0 + 2, MSR_CRASH_P0 + 3, MSR_CRASH_P0 + 4,  MSR_TSC_INVARIANT,
};

static const uint32_t vp_msrs[] = {
	MSR_SIEFP,	MSR_SIMP,	MSR_VP_ASSIST,	MSR_SINT0,	MSR_SINT0 + 1,
	MSR_SINT0 + 2,	MSR_SINT0 + 3,	MSR_SINT0 + 4,	MSR_SINT0 + 5,	MSR_SINT0 + 6,
	MSR_SINT0 + 7,	MSR_SINT0 + 8,	MSR_SINT0 + 9,	MSR_SINT0 + 10, MSR_SINT0 + 11,
	MSR_SINT0 + 12, MSR_SINT0 + 13, MSR_SINT0 + 14, MSR_SINT0 + 15, MSR_SCONTROL,
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_here(const struct vmbus_kvm *kvm, uint32_t vp)
{
	return vp < kvm->opts.vps_max && vmbus__ld32_relaxed(&kvm->vp[vp].here); /* HERE.look */
}

static bool is_sint(uint32_t msr)
{
	return msr >= MSR_SINT0 && msr - MSR_SINT0 < VMBUS_SINTS;
}

static bool is_crash(uint32_t msr)
{
	return msr >= MSR_CRASH_P0 && msr - MSR_CRASH_P0 < CRASH_PARAMS;
}

/* A vCPU that registers of the partition can be had of; -1: there is none. */
static int any_vcpu(const struct vmbus_kvm *kvm)
{
	uint32_t vp;

	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		if (is_here(kvm, vp))
			return kvm->vp[vp].vcpu_fd;
	return -1;
}

/* Whether the kernel has the register, and not we. */
static bool is_kernels(const struct vmbus_kvm *kvm, uint32_t msr)
{
	return kvm->way == VMBUS_KVM_KERNEL && !is_crash(msr);
}

static int get_one(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t *value)
{
	const int fd = vp == PARTITION ? any_vcpu(kvm) : kvm->vp[vp].vcpu_fd;

	*value = 0;
	if (msr == MSR_TSC_INVARIANT && !kvm->has_invariant)
		return 0;
	if (is_kernels(kvm, msr))
		return fd < 0 ? 0 : vmbus__kvm_get_msr(kvm, fd, msr, value);
	if (vp == PARTITION)
		return vmbus_hv_msr_read(&kvm->hv, 0, msr, 0, value);
	return vmbus_synic_msr_read(&kvm->vp[vp].synic, msr, value);
}

/* The kernel's registers back to what they are at the beginning. */
static int reset_kernel(struct vmbus_kvm *kvm)
{
	const int fd = any_vcpu(kvm);
	uint32_t vp, n;
	int err = 0;

	if (kvm->way == VMBUS_KVM_USER || fd < 0)
		return 0;
	for (n = COUNT(partition_msrs); n > 0 && !err; n--)
		if (is_kernels(kvm, partition_msrs[n - 1]) &&
		    (partition_msrs[n - 1] != MSR_TSC_INVARIANT || kvm->has_invariant))
			err = vmbus__kvm_set_msr(kvm, fd, partition_msrs[n - 1], 0);
	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		for (n = COUNT(vp_msrs); n > 0 && is_here(kvm, vp) && !err; n--)
			err = vmbus__kvm_set_msr(kvm, kvm->vp[vp].vcpu_fd, vp_msrs[n - 1],
						 is_sint(vp_msrs[n - 1]) ? SINT_MASKED : 0);
	return err;
}

/* With the lock. */
static int reset_registers(struct vmbus_kvm *kvm)
{
	uint32_t vp;
	int err;

	err = vmbus__kvm_hv_init(kvm);
	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		if (is_here(kvm, vp))
			vmbus__kvm_synic_init(kvm, vp);
	return err ? err : reset_kernel(kvm);
}

int vmbus_kvm_reset(struct vmbus_kvm *kvm)
{
	int err;

	(void)pthread_mutex_lock(&kvm->lock);
	err = reset_registers(kvm);
	(void)pthread_mutex_unlock(&kvm->lock);
	vmbus_bus_wake_changed(kvm->bus, VMBUS_VP_NONE);
	vmbus_bus_reset(kvm->bus);
	return err;
}

static uint8_t *put(uint8_t *at, uint32_t vp, uint32_t msr, uint64_t value)
{
	const struct entry entry = { vp, msr, value };

	memcpy(at, &entry, sizeof(entry));
	return at + sizeof(entry);
}

static int save_list(struct vmbus_kvm *kvm, uint8_t **at, uint32_t vp, const uint32_t *msrs,
		     size_t count)
{
	uint64_t value;
	size_t n;
	int err = 0;

	for (n = 0; n < count && !err; n++) {
		err = get_one(kvm, vp, msrs[n], &value);
		*at = put(*at, vp, msrs[n], value);
	}
	return err;
}

static int save(struct vmbus_kvm *kvm, uint8_t *buf, uint32_t count)
{
	const struct head head = { MAGIC, VERSION, count, 0 };
	uint8_t *at = buf + sizeof(head);
	uint32_t vp;
	int err;

	memcpy(buf, &head, sizeof(head));
	err = save_list(kvm, &at, PARTITION, partition_msrs, COUNT(partition_msrs));
	for (vp = 0; vp < kvm->opts.vps_max && !err; vp++)
		if (is_here(kvm, vp))
			err = save_list(kvm, &at, vp, vp_msrs, COUNT(vp_msrs));
	return err;
}

int vmbus_kvm_save(struct vmbus_kvm *kvm, void *buf, size_t room)
{
	uint32_t count = COUNT(partition_msrs), vp;
	size_t bytes;
	int err = 0;

	(void)pthread_mutex_lock(&kvm->lock);
	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		count += is_here(kvm, vp) ? (uint32_t)COUNT(vp_msrs) : 0;
	bytes = sizeof(struct head) + count * sizeof(struct entry);
	if (buf && room >= bytes)
		err = save(kvm, buf, count);
	else if (buf || room)
		err = VMBUS_E_RANGE;
	(void)pthread_mutex_unlock(&kvm->lock);
	return err ? err : (int)bytes;
}

/* The place of a register in a list; -1: not there. */
static int place_of(const uint32_t *msrs, size_t count, uint32_t msr)
{
	size_t n;

	for (n = 0; n < count; n++)
		if (msrs[n] == msr)
			return (int)n;
	return -1;
}

/* Look at one entry.  seen: the registers that came before, of its VP or of the partition. */
static int check_entry(const struct vmbus_kvm *kvm, const struct entry *entry, uint32_t *seen)
{
	const bool whole = entry->vp == PARTITION;
	const int place = whole ? place_of(partition_msrs, COUNT(partition_msrs), entry->msr)
				: place_of(vp_msrs, COUNT(vp_msrs), entry->msr);

	if (place < 0)
		return VMBUS_E_NOTSUP;
	if (entry->msr == MSR_TSC_INVARIANT && entry->value && !kvm->has_invariant)
		return VMBUS_E_NOTSUP;
	if (*seen & 1u << place)
		return VMBUS_E_INVAL;
	*seen |= 1u << place;
	return 0;
}

static struct entry entry_at(const uint8_t *buf, uint32_t n)
{
	struct entry entry;

	memcpy(&entry, buf + sizeof(struct head) + n * sizeof(entry), sizeof(entry));
	return entry;
}

static int check_head(const uint8_t *buf, size_t bytes, uint32_t *count)
{
	struct head head;

	if (!buf || bytes < sizeof(head))
		return VMBUS_E_INVAL;
	memcpy(&head, buf, sizeof(head));
	if (head.magic != MAGIC)
		return VMBUS_E_INVAL;
	if (head.version != VERSION)
		return VMBUS_E_NOTSUP;
	if (head.reserved || (bytes - sizeof(head)) % sizeof(struct entry) ||
	    head.count != (bytes - sizeof(head)) / sizeof(struct entry))
		return VMBUS_E_INVAL;
	*count = head.count;
	return 0;
}

/* Look at all of a state before anything is set. */
static int check(struct vmbus_kvm *kvm, const uint8_t *buf, size_t bytes, uint32_t *count)
{
	uint32_t n, seen = 0;
	int err = check_head(buf, bytes, count);

	for (n = 0; n < kvm->opts.vps_max; n++)
		kvm->vp[n].seen = 0;
	for (n = 0; !err && n < *count; n++) {
		const struct entry entry = entry_at(buf, n);

		if (entry.vp != PARTITION && !is_here(kvm, entry.vp))
			err = VMBUS_E_RANGE;
		else
			err = check_entry(kvm, &entry,
					  entry.vp == PARTITION ? &seen : &kvm->vp[entry.vp].seen);
	}
	return err;
}

static int set_partition(struct vmbus_kvm *kvm, const struct entry *entry)
{
	const int fd = any_vcpu(kvm);
	int did;

	if (entry->msr == MSR_TSC_INVARIANT && !kvm->has_invariant)
		return 0;
	if (is_kernels(kvm, entry->msr)) {
		if (fd < 0)
			return entry->value ? VMBUS_E_RANGE : 0;
		return vmbus__kvm_set_msr(kvm, fd, entry->msr, entry->value);
	}
	did = vmbus_hv_msr_write(&kvm->hv, 0, entry->msr, entry->value);
	return did < 0 ? did : 0;
}

static int set_vp(struct vmbus_kvm *kvm, const struct entry *entry)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[entry->vp];
	int did, err = 0;

	if (kvm->way == VMBUS_KVM_KERNEL)
		err = vmbus__kvm_set_msr(kvm, vp->vcpu_fd, entry->msr, entry->value);
	else
		err = vmbus__kvm_route_sint(kvm, entry->vp, entry->msr, entry->value);
	if (err || (kvm->way == VMBUS_KVM_KERNEL && is_sint(entry->msr)))
		return err;
	did = vmbus_synic_msr_write(&vp->synic, entry->msr, entry->value, true);
	return did < 0 ? did : 0;
}

/* Set the registers of one list in its order, for the partition or for the VPs. */
static int set_list(struct vmbus_kvm *kvm, const uint8_t *buf, uint32_t count, bool whole)
{
	const uint32_t *msrs = whole ? partition_msrs : vp_msrs;
	const size_t msr_count = whole ? COUNT(partition_msrs) : COUNT(vp_msrs);
	size_t place;
	uint32_t n;
	int err = 0;

	for (place = 0; place < msr_count; place++)
		for (n = 0; n < count && !err; n++) {
			const struct entry entry = entry_at(buf, n);

			if ((entry.vp == PARTITION) != whole || entry.msr != msrs[place])
				continue;
			err = whole ? set_partition(kvm, &entry) : set_vp(kvm, &entry);
		}
	return err;
}

/* The pages that the registers name now. */
static int use_pages(struct vmbus_kvm *kvm)
{
	uint32_t vp;
	int err = 0;

	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		if (is_here(kvm, vp))
			vmbus__kvm_place_kept(kvm, vp);
	if (kvm->way == VMBUS_KVM_USER) {
		vmbus__kvm_follow_tsc(kvm);
		err = vmbus__kvm_fill_hypercall(kvm) ? VMBUS_E_INVAL : 0;
		for (vp = 0; vp < kvm->opts.vps_max; vp++)
			if (is_here(kvm, vp))
				break;
		if (vp < kvm->opts.vps_max)
			vmbus__kvm_fill_tsc(kvm, vp);
	}
	return err;
}

static int restore(struct vmbus_kvm *kvm, const uint8_t *buf, size_t bytes)
{
	uint32_t count = 0;
	int err = check(kvm, buf, bytes, &count);

	if (!err)
		err = reset_registers(kvm);
	if (!err)
		err = set_list(kvm, buf, count, true);
	if (!err)
		err = set_list(kvm, buf, count, false);
	return err ? err : use_pages(kvm);
}

int vmbus_kvm_restore(struct vmbus_kvm *kvm, const void *buf, size_t bytes)
{
	uint32_t vp;
	int err;

	(void)pthread_mutex_lock(&kvm->lock);
	vmbus__st64_relaxed(&kvm->clock, 0); /* TIME.keep: KVM_SET_CLOCK may have come before */
	err = restore(kvm, buf, bytes);
	(void)pthread_mutex_unlock(&kvm->lock);
	if (err) {
		const int saved = errno;

		(void)vmbus_kvm_reset(kvm);
		errno = saved;
		return err;
	}
	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		if (is_here(kvm, vp)) {
			vmbus__kvm_nudge(kvm, vp); /* one that was under way may be lost */
			vmbus__kvm_slot_free(kvm, vp);
		}
	vmbus_bus_wake_changed(kvm->bus, VMBUS_VP_NONE);
	return 0;
}
