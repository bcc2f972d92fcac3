/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory as this backend needs it: where the pages of a SynIC are, and the two pages
 * that the parent writes, hypercall code and reference clock.  Both of these are written into plain
 * memory of the guest, once; nothing is laid over it.
 *
 * Every region of our map is pinned, for the guest may name a page in it at any time.  So an embedder
 * that takes it away behind our back is told to wait; vmbus_kvm_mem_remove() takes it out of our map
 * first, and its pages out of use.
 */
#include <stdlib.h>
#include <string.h>

#include "kvm/grace.h"
#include "kvm/partition.h"

#define TSC_TRIES 4

const struct vmbus_mem *vmbus__kvm_map(const struct vmbus_kvm *kvm)
{
	return &kvm->maps[kvm->map];
}

/* A list of one page, with a pin on its region. */
static int list_page(const struct vmbus_kvm *kvm, uint64_t gpa, struct vmbus_sgl *sgl,
		     struct vmbus_piece *piece)
{
	const uint64_t qwords[2] = { VMBUS_PAGE_BYTES, gpa / VMBUS_PAGE_BYTES }; /* [PKT-GPA] */
	int err;

	memset(sgl, 0, sizeof(*sgl));
	sgl->pieces = piece;
	sgl->room = 1;
	err = vmbus_sgl_from_ranges(sgl, vmbus__kvm_map(kvm), qwords, 2, 1, VMBUS_READ_WRITE);
	if (!err && (uintptr_t)piece->host % sizeof(uint64_t)) {
		vmbus_sgl_release(sgl);
		err = VMBUS_E_RANGE;
	}
	return err;
}

/* A region comes into our map, and is pinned as long as it is there; the map has no more than pins. */
static void pin(struct vmbus_kvm *kvm, struct vmbus_region *region)
{
	struct vmbus__kvm_pin *at = kvm->pins;

	while (at->region)
		at++;
	at->region = region;
	memset(&at->sgl, 0, sizeof(at->sgl));
	(void)vmbus_sgl_pin(&at->sgl, region); /* an empty list has room */
}

int vmbus__kvm_memory_init(struct vmbus_kvm *kvm)
{
	const struct vmbus_bus_opts *opts = &kvm->opts.bus;
	const int err =
		vmbus_mem_init(&kvm->maps[0], opts->regions, opts->region_count, opts->dirty);
	uint32_t n;

	for (n = 0; !err && n < opts->region_count; n++)
		pin(kvm, opts->regions[n]);
	return err;
}

void vmbus__kvm_unpin_all(struct vmbus_kvm *kvm)
{
	uint32_t n;

	for (n = 0; n < VMBUS__KVM_PINS; n++)
		vmbus_sgl_release(&kvm->pins[n].sgl);
}

/* Where we have a page of a SynIC mapped; NULL if it is no memory that we may use. */
static void *synic_page(const struct vmbus_kvm *kvm, uint64_t gpa)
{
	const struct vmbus_mem *map = vmbus__kvm_map(kvm);
	const vmbus_gpa_t at = { gpa };
	void *host;

	if (gpa == UINT64_MAX || vmbus_mem_map(map, at, VMBUS_PAGE_BYTES, VMBUS_READ_WRITE, &host))
		return NULL;
	return (uintptr_t)host % sizeof(uint64_t) ? NULL : host;
}

void vmbus__kvm_place(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus_synic *synic = &kvm->vp[n].synic;
	const uint64_t simp = vmbus_synic_simp(synic), siefp = vmbus_synic_siefp(synic);

	vmbus_synic_set_pages(synic, synic_page(kvm, simp), synic_page(kvm, siefp),
			      kvm->opts.bus.dirty, simp / VMBUS_PAGE_BYTES,
			      siefp / VMBUS_PAGE_BYTES);
}

void vmbus__kvm_place_kept(struct vmbus_kvm *kvm, uint32_t n)
{
	const struct vmbus_synic *synic = &kvm->vp[n].synic;
	const vmbus_gpa_t at[2] = { { vmbus_synic_simp(synic) }, { vmbus_synic_siefp(synic) } };
	uint8_t content[2][VMBUS_PAGE_BYTES];
	bool there[2];
	int i;

	for (i = 0; i < 2; i++)
		there[i] = at[i].v != UINT64_MAX && !vmbus_mem_read(vmbus__kvm_map(kvm), at[i],
								    content[i], VMBUS_PAGE_BYTES);
	vmbus__kvm_place(kvm, n); /* which clears pages that are new to it */
	for (i = 0; i < 2; i++)
		if (there[i])
			(void)vmbus_mem_write(vmbus__kvm_map(kvm), at[i], content[i],
					      VMBUS_PAGE_BYTES);
}

static void place_all(struct vmbus_kvm *kvm)
{
	uint32_t vp;

	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		if (vmbus__ld32_relaxed(&kvm->vp[vp].here)) /* HERE.look */
			vmbus__kvm_place(kvm, vp);
}

int vmbus_kvm_mem_add(struct vmbus_kvm *kvm, struct vmbus_region *region)
{
	uint32_t vp;
	int err;

	/* Ours may have what was taken from the bus alone: then the bus must not have this either. */
	(void)pthread_mutex_lock(&kvm->lock);
	err = vmbus_mem_with(&kvm->maps[!kvm->map], vmbus__kvm_map(kvm), region);
	(void)pthread_mutex_unlock(&kvm->lock);
	if (!err)
		err = vmbus_bus_mem_add(kvm->bus, region);
	if (err)
		return err;
	(void)pthread_mutex_lock(&kvm->lock);
	err = vmbus_mem_with(&kvm->maps[!kvm->map], vmbus__kvm_map(kvm), region);
	if (!err) {
		kvm->map = !kvm->map;
		pin(kvm, region);
		place_all(kvm);
	}
	(void)pthread_mutex_unlock(&kvm->lock);
	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		vmbus__kvm_slot_free(kvm, vp);
	vmbus_bus_wake_changed(kvm->bus, VMBUS_VP_NONE);
	return err;
}

/* Take a region out of the map and its pages out of use; held takes over our pin.  False: not there. */
static bool forget(struct vmbus_kvm *kvm, struct vmbus_region *region, struct vmbus_sgl *held)
{
	uint32_t n;

	if (vmbus_mem_without(&kvm->maps[!kvm->map], vmbus__kvm_map(kvm), region))
		return false;
	kvm->map = !kvm->map;
	place_all(kvm);
	for (n = 0; n < VMBUS__KVM_PINS; n++)
		if (kvm->pins[n].region == region) {
			*held = kvm->pins[n].sgl;
			memset(&kvm->pins[n], 0, sizeof(kvm->pins[n]));
			break;
		}
	return true;
}

int vmbus_kvm_mem_remove(struct vmbus_kvm *kvm, struct vmbus_region *region)
{
	struct vmbus_sgl held = { 0 };
	bool was_there;
	int err;

	(void)pthread_mutex_lock(&kvm->lock);
	was_there = forget(kvm, region, &held);
	(void)pthread_mutex_unlock(&kvm->lock);
	if (was_there)
		vmbus__kvm_grace(kvm); /* who posts or raises now may still see a page */
	vmbus_sgl_release(&held);
	err = vmbus_bus_mem_remove(kvm->bus, region);
	vmbus_bus_wake_changed(kvm->bus, VMBUS_VP_NONE);
	return err;
}

int vmbus__kvm_fill_hypercall(struct vmbus_kvm *kvm)
{
	const uint64_t gpa = vmbus_hv_hypercall_gpa(&kvm->hv);
	uint8_t page[VMBUS_PAGE_BYTES];

	if (gpa == UINT64_MAX)
		return 0;
	if (vmbus_hv_fill_page(page, VMBUS_HV_PORT_IO, kvm->opts.port))
		return VMBUS_E_RANGE;
	return vmbus_mem_write(vmbus__kvm_map(kvm), (vmbus_gpa_t){ gpa }, page, sizeof(page));
}

/* The upper half of a product. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
	__extension__ typedef unsigned __int128 wide;

	return (uint64_t)((wide)a * b >> 64);
}

static bool read_clock(struct vmbus_kvm *kvm, struct kvm_clock_data *clock)
{
	memset(clock, 0, sizeof(*clock));
	if (vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_GET_CLOCK, clock))
		return false;
	return !kvm->tells_tsc || (clock->flags & KVM_CLOCK_TSC_STABLE);
}

/* Whether v is in a stretch of the guest's counter, which may go round. */
static bool lies_between(uint64_t v, uint64_t from, uint64_t to)
{
	uint64_t after, all;

	(void)__builtin_sub_overflow(v, from, &after);
	(void)__builtin_sub_overflow(to, from, &all);
	return after <= all;
}

/*
 * Reference time and the guest's counter of one moment: KVM tells the host's counter with its clock,
 * and what the guest's is ahead, if both have one rate.  That of the VM is not the host's where it
 * was set, so the counter itself is asked whether the sum can be right.
 */
static bool exact_clocks(struct vmbus_kvm *kvm, uint32_t vp, uint64_t *tsc, uint64_t *time)
{
	const int fd = kvm->vp[vp].vcpu_fd;
	const int khz = vmbus__kvm_ioctl(kvm, fd, KVM_GET_TSC_KHZ, NULL);
	uint64_t ahead = 0, before = 0, after = 0;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
					.attr = KVM_VCPU_TSC_OFFSET,
					.addr = (uintptr_t)&ahead };
	struct kvm_clock_data clock;

	if (khz <= 0 || khz != vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_GET_TSC_KHZ, NULL) ||
	    vmbus__kvm_ioctl(kvm, fd, KVM_GET_DEVICE_ATTR, &attr) ||
	    vmbus__kvm_get_msr(kvm, fd, MSR_TSC, &before) || !read_clock(kvm, &clock) ||
	    !(clock.flags & KVM_CLOCK_HOST_TSC) || vmbus__kvm_get_msr(kvm, fd, MSR_TSC, &after))
		return false;
	(void)__builtin_add_overflow(clock.host_tsc, ahead, tsc);
	*time = clock.clock / REFERENCE_NS;
	return lies_between(*tsc, before, after);
}

/* The same of about one moment: the best of a few tries. */
static bool close_clocks(struct vmbus_kvm *kvm, uint32_t vp, uint64_t *tsc, uint64_t *time)
{
	uint64_t before = 0, after = 0, took = 0, best = UINT64_MAX;
	struct kvm_clock_data clock;
	int n;

	for (n = 0; n < TSC_TRIES; n++) {
		if (vmbus__kvm_get_msr(kvm, kvm->vp[vp].vcpu_fd, MSR_TSC, &before) ||
		    !read_clock(kvm, &clock) ||
		    vmbus__kvm_get_msr(kvm, kvm->vp[vp].vcpu_fd, MSR_TSC, &after))
			return false;
		/* The counter is the guest's to write, and may go round. */
		(void)__builtin_sub_overflow(after, before, &took);
		if (took < best) {
			best = took;
			(void)__builtin_add_overflow(before, took / 2u, tsc);
			*time = clock.clock / REFERENCE_NS;
		}
	}
	return true;
}

static uint64_t scale_of(struct vmbus_kvm *kvm, uint32_t vp)
{
	uint64_t hz = kvm->opts.tsc_hz;
	int khz = 0;

	if (!hz)
		khz = vmbus__kvm_ioctl(kvm, kvm->vp[vp].vcpu_fd, KVM_GET_TSC_KHZ, NULL);
	if (khz > 0)
		hz = (uint64_t)khz * 1000u;
	return vmbus_hv_tsc_scale(hz);
}

/*
 * After a restore: go on from the number in the page.  A vCPU may have been saved between its two looks
 * at it, and must not find it again beside other words.
 */
void vmbus__kvm_follow_tsc(struct vmbus_kvm *kvm)
{
	const uint64_t gpa = vmbus_hv_tsc_gpa(&kvm->hv);
	uint32_t number = 0; /* the page begins with it, [HV-TSC] */

	if (gpa != UINT64_MAX)
		(void)vmbus_mem_read(vmbus__kvm_map(kvm), (vmbus_gpa_t){ gpa }, &number,
				     sizeof(number));
	if (number)
		kvm->tsc_sequence = number;
}

/*
 * Write the reference TSC page, if there is memory for it.  Where the counter cannot be relied on
 * the page says that it is not valid, and the guest reads the register.
 */
void vmbus__kvm_fill_tsc(struct vmbus_kvm *kvm, uint32_t vp)
{
	const uint64_t gpa = vmbus_hv_tsc_gpa(&kvm->hv);
	uint64_t tsc = 0, time = 0, offset = 0, scale;
	struct vmbus_piece piece;
	struct vmbus_sgl sgl;

	if (gpa == UINT64_MAX || list_page(kvm, gpa, &sgl, &piece))
		return;
	scale = scale_of(kvm, vp);
	if (scale && (exact_clocks(kvm, vp, &tsc, &time) || close_clocks(kvm, vp, &tsc, &time))) {
		/* Never 0, which is not valid, nor UINT32_MAX. */
		kvm->tsc_sequence = kvm->tsc_sequence % (UINT32_MAX - 1u) + 1u;
		(void)__builtin_sub_overflow(time, multiply_high(tsc, scale), &offset);
		vmbus_hv_fill_tsc(piece.host, kvm->tsc_sequence, scale, (int64_t)offset);
	} else {
		vmbus_hv_fill_tsc(piece.host, 0, 0, 0);
	}
	vmbus_sgl_dirty(&sgl, 0, VMBUS_PAGE_BYTES);
	vmbus_sgl_release(&sgl);
}
