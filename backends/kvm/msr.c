/* SPDX-License-Identifier: MIT */
/*
 * Exits for synthetic registers.  In the user-space way they are all ours; in the kernel's way only
 * those of a crash and of a reset, which the filter sends here.
 *
 * What is written is the guest's: any value at any time.  A write takes the lock for as long as it
 * lasts, which is bounded; reads of a VP's own registers, its index and the time take none.
 */
#include <string.h>

#include "kvm/grace.h"
#include "kvm/partition.h"

#define CRASH_MESSAGE ((uint64_t)1 << 62)
#define CRASH_TEXT_MAX 4096u
#define CRASH_TEXT_GPA 3 /* of the parameters, when there is a text */
#define CRASH_TEXT_BYTES 4

/*
 * The two that a guest reads most need no lock, for they are not kept: a write to another register
 * may be taken back by writing all of kvm->hv, so nothing there is read beside it.
 */
static int read_msr(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t *value)
{
	int err = vmbus_synic_msr_read(&kvm->vp[vp].synic, msr, value);

	if (err != VMBUS_E_NOTSUP)
		return err;
	if (msr == MSR_VP_INDEX || msr == MSR_TIME_REF_COUNT) {
		*value = msr == MSR_VP_INDEX ? vp : vmbus__kvm_time(kvm);
		return 0;
	}
	(void)pthread_mutex_lock(&kvm->lock);
	err = vmbus_hv_msr_read(&kvm->hv, vp, msr, 0, value);
	(void)pthread_mutex_unlock(&kvm->lock);
	return err;
}

uint32_t vmbus__kvm_synic_did(struct vmbus_kvm *kvm, uint32_t vp, int did)
{
	if (did < 0)
		return 0;
	if ((uint32_t)did & VMBUS_SYNIC_PAGES)
		vmbus__kvm_place(kvm, vp);
	return (uint32_t)did & VMBUS_SYNIC_SLOT_FREE;
}

/* A text that can be shown: the guest wrote it. */
static uint32_t read_text(struct vmbus_kvm *kvm, const uint64_t params[5], char *text)
{
	const uint64_t said = params[CRASH_TEXT_BYTES];
	const uint32_t len = said < CRASH_TEXT_MAX ? (uint32_t)said : CRASH_TEXT_MAX;
	uint32_t n;

	if (vmbus_bus_mem_read(kvm->bus, (vmbus_gpa_t){ params[CRASH_TEXT_GPA] }, text, len))
		return 0;
	for (n = 0; n < len && text[n]; n++)
		if ((text[n] < ' ' || text[n] > '~') && text[n] != '\n')
			text[n] = '?';
	text[n] = '\0';
	return n;
}

/* Tell the embedder, but not as often as a guest likes. */
static void report_crash(struct vmbus_kvm *kvm, uint32_t vp, const uint64_t params[5], uint64_t ctl)
{
	struct vmbus_kvm_crash crash = { .vp = vp };
	char text[CRASH_TEXT_MAX + 1];

	memcpy(crash.params, params, sizeof(crash.params));
	text[0] = '\0';
	if (ctl & CRASH_MESSAGE)
		crash.text_bytes = read_text(kvm, params, text);
	crash.text = text;
	kvm->opts.crashed(kvm->opts.ctx, &crash);
}

/* The pages that the write wants filled; a page without memory is refused. */
static int fill_pages(struct vmbus_kvm *kvm, uint32_t vp, uint32_t did)
{
	int err = 0;

	if (did & VMBUS_HV_PAGE)
		err = vmbus__kvm_fill_hypercall(kvm);
	if (did & VMBUS_HV_TSC)
		vmbus__kvm_fill_tsc(kvm, vp);
	return err ? VMBUS_E_INVAL : 0;
}

static int write_hv(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t value)
{
	struct vmbus_hv before;
	uint64_t params[5], ctl = 0;
	bool crashed;
	int did, err = 0;

	(void)pthread_mutex_lock(&kvm->lock);
	before = kvm->hv;
	did = vmbus_hv_msr_write(&kvm->hv, vp, msr, value);
	if (did > 0)
		err = fill_pages(kvm, vp, (uint32_t)did);
	if (err)
		kvm->hv = before;
	crashed = !err && did > 0 && ((uint32_t)did & VMBUS_HV_CRASH) && kvm->opts.crashed &&
		  kvm->vp[vp].crashes < VMBUS__KVM_CRASHES;
	kvm->vp[vp].crashes += crashed;
	vmbus_hv_crash(&kvm->hv, params, &ctl);
	(void)pthread_mutex_unlock(&kvm->lock);
	if (did < 0 || err)
		return did < 0 ? did : err;
	if (crashed)
		report_crash(kvm, vp, params, ctl);
	if ((uint32_t)did & VMBUS_HV_RESET)
		kvm->opts.reset(kvm->opts.ctx);
	return 0;
}

/* Whether a register says how events reach the guest. */
static bool is_of_events(uint32_t msr)
{
	return msr == MSR_SCONTROL || msr == MSR_SIEFP || msr == MSR_SINT0 + VMBUS__KVM_SINT;
}

static int write_msr(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t value)
{
	uint32_t left = 0;
	int did, err;

	(void)pthread_mutex_lock(&kvm->lock);
	err = vmbus__kvm_route_sint(kvm, vp, msr, value);
	did = err ? err : vmbus_synic_msr_write(&kvm->vp[vp].synic, msr, value, false);
	left = vmbus__kvm_synic_did(kvm, vp, did);
	(void)pthread_mutex_unlock(&kvm->lock);
	if (did > 0 && (uint32_t)did & VMBUS_SYNIC_PAGES)
		vmbus__kvm_grace(kvm); /* nobody writes into the old page when the guest goes on */
	if (err || did != VMBUS_E_NOTSUP) {
		if (left)
			vmbus__kvm_slot_free(kvm, vp);
		if (is_of_events(msr))
			vmbus_bus_wake_changed(kvm->bus, vp);
		return did < 0 ? did : 0;
	}
	return write_hv(kvm, vp, msr, value);
}

static bool is_ours(const struct vmbus_kvm *kvm, uint32_t msr)
{
	if (kvm->way == VMBUS_KVM_KERNEL)
		return msr == MSR_RESET || (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_CTL);
	return msr >= VMBUS__KVM_MSR_FIRST && msr - VMBUS__KVM_MSR_FIRST < VMBUS__KVM_MSR_COUNT;
}

int vmbus__kvm_exit_msr(struct vmbus_kvm *kvm, uint32_t vp, bool write)
{
	struct kvm_run *run = kvm->vp[vp].run;
	const uint32_t msr = run->msr.index;
	uint64_t value = 0;
	int err;

	if (!is_ours(kvm, msr))
		return 0;
	vmbus__kvm_count(&kvm->stats.exits_msr);
	if (write) {
		err = write_msr(kvm, vp, msr, run->msr.data);
	} else {
		err = read_msr(kvm, vp, msr, &value);
		run->msr.data = value;
	}
	run->msr.error = err != 0; /* then the guest gets #GP */
	if (err == VMBUS_E_INVAL || err == VMBUS_E_NOTSUP) {
		vmbus__kvm_count(&kvm->stats.bad);
		err = 0;
	}
	return err ? err : 1;
}
