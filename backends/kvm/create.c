/* SPDX-License-Identifier: MIT */
/*
 * The life of a partition under KVM: what this KVM can do, which of the two ways that allows, and
 * what is set up once.  Everything that depends on a vCPU is in vcpu.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvm/partition.h"

#define VPS_DEFAULT 16u
#define GSI_DEFAULT 32u
#define GSI_IRQCHIP 24u	  /* the kernel's PIC and I/O APIC have those below */
#define GSI_LIMIT 0xFFFFu /* so that sums do not wrap; KVM has 4,096 */
#define PORT_DEFAULT 0xA000u
#define PORT_LAST (0x10000u - VMBUS_KVM_PORTS)
#define APIC_HZ 1000000000u /* KVM's local APIC timer counts in ns */
#define CPUID_ENTRIES 256u
#define LEAF_FEATURES 0x40000003u    /* [HV-CPUID] */
#define FEATURE_INVARIANT (1u << 15) /* of its EAX */
#define LEAF_POWER 0x80000007u
#define POWER_INVARIANT (1u << 8) /* of its EDX */
#define CRASH_MSRS 6u
#define SPARE_FDS 64u

int vmbus__kvm_ioctl(const struct vmbus_kvm *kvm, int fd, unsigned long request, void *arg)
{
	return kvm->sys->ioctl(fd, request, arg);
}

void vmbus__kvm_count(uint64_t *counter)
{
	vmbus__add64_relaxed(vmbus__as_a64(counter), 1); /* COUNT.add */
}

void vmbus__kvm_close(int *fd)
{
	const int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

void vmbus__kvm_say(const struct vmbus_bus_opts *bus, enum vmbus_log_level level,
		    const char *format, ...)
{
	const int saved = errno;
	char line[256];
	va_list args;
	int n;

	if (!bus->log)
		return;
	n = snprintf(line, sizeof(line), "%.63s: ", bus->name ? bus->name : "");
	va_start(args, format);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	bus->log(bus->log_ctx, level, line);
	errno = saved;
}

/* The value of a capability; 0: not there. */
static int cap(const struct vmbus_kvm *kvm, int number)
{
	const int got = vmbus__kvm_ioctl(kvm, kvm->opts.kvm_fd, KVM_CHECK_EXTENSION,
					 (void *)(uintptr_t)number);

	return got > 0 ? got : 0;
}

struct need {
	int number;
	const char *name;
};

static const struct need both_need[] = {
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR" },
	{ KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER" },
};

static const struct need kernel_needs[] = {
	{ KVM_CAP_HYPERV_SYNIC2, "KVM_CAP_HYPERV_SYNIC2" },
	{ KVM_CAP_HYPERV_EVENTFD, "KVM_CAP_HYPERV_EVENTFD" },
	{ KVM_CAP_HYPERV_VP_INDEX, "KVM_CAP_HYPERV_VP_INDEX" },
	{ KVM_CAP_HYPERV_TIME, "KVM_CAP_HYPERV_TIME" },
	{ KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE" },
};

static const struct need user_needs[] = {
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
};

/* The first that is missing, or NULL. */
static const char *missing(const struct vmbus_kvm *kvm, const struct need *needs, size_t count)
{
	size_t n;

	for (n = 0; n < count; n++)
		if (!cap(kvm, needs[n].number))
			return needs[n].name;
	return NULL;
}

#define MISSING(kvm, needs) missing(kvm, needs, sizeof(needs) / sizeof((needs)[0]))

/*
 * What the kernel's way lacks, or NULL.  Resampling needs the kernel's own I/O APIC; that it could not
 * be tried says nothing about KVM, and must not choose the way.
 */
static int missing_for_kernel(struct vmbus_kvm *kvm, const char **lack)
{
	int err;

	*lack = NULL;
	if (kvm->opts.way == VMBUS_KVM_USER)
		return 0;
	*lack = MISSING(kvm, kernel_needs);
	if (*lack)
		return 0;
	err = vmbus__kvm_try_resample(kvm);
	if (err == VMBUS_E_NOTSUP) {
		*lack = "I/O APIC in the kernel (KVM_CREATE_IRQCHIP)";
		return 0;
	}
	if (err)
		vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR,
			       "cannot try whether KVM goes the kernel's way, which takes two "
			       "eventfds: %s%s",
			       strerror(errno), errno == EMFILE ? "; raise ulimit -n" : "");
	return err;
}

static int choose_way(struct vmbus_kvm *kvm)
{
	const char *lack = MISSING(kvm, both_need);
	const char *lack_kernel, *lack_user;
	int err;

	if (lack) {
		vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR,
			       "this KVM has no %s: no partition is possible", lack);
		return VMBUS_E_NOTSUP;
	}
	err = missing_for_kernel(kvm, &lack_kernel);
	if (err)
		return err;
	lack_user = MISSING(kvm, user_needs);
	if (kvm->opts.way == VMBUS_KVM_KERNEL && lack_kernel) {
		vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR,
			       "this KVM has no %s, which the kernel's way needs: ask for the "
			       "user-space way",
			       lack_kernel);
		return VMBUS_E_NOTSUP;
	}
	kvm->way = kvm->opts.way;
	if (kvm->way == VMBUS_KVM_AUTO)
		kvm->way = lack_kernel ? VMBUS_KVM_USER : VMBUS_KVM_KERNEL;
	if (kvm->way == VMBUS_KVM_USER && lack_user) {
		vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR,
			       "this KVM has no %s, which the user-space way needs%s%s", lack_user,
			       lack_kernel ? "; the kernel's way lacks " : "",
			       lack_kernel ? lack_kernel : "");
		return VMBUS_E_NOTSUP;
	}
	return 0;
}

/* A leaf of what KVM supports; regs are 0 when it is not there. */
static int supported_leaf(struct vmbus_kvm *kvm, unsigned long request, uint32_t leaf,
			  uint32_t regs[4])
{
	struct kvm_cpuid2 *list =
		calloc(1, sizeof(*list) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
	uint32_t n;

	memset(regs, 0, 4 * sizeof(regs[0]));
	if (!list)
		return VMBUS_E_NOMEM;
	list->nent = CPUID_ENTRIES;
	if (vmbus__kvm_ioctl(kvm, kvm->opts.kvm_fd, request, list))
		list->nent = 0; /* then it is not offered */
	for (n = 0; n < list->nent && n < CPUID_ENTRIES; n++)
		if (list->entries[n].function == leaf) {
			regs[0] = list->entries[n].eax;
			regs[3] = list->entries[n].edx;
		}
	free(list);
	return 0;
}

/* The TSC can be used as it is if it never changes its rate, and the guest may be told so. */
static int look_for_invariant(struct vmbus_kvm *kvm)
{
	uint32_t regs[4];
	int err = supported_leaf(kvm, KVM_GET_SUPPORTED_CPUID, LEAF_POWER, regs);

	kvm->has_invariant = (regs[3] & POWER_INVARIANT) != 0;
	if (err || kvm->way == VMBUS_KVM_USER)
		return err;
	err = supported_leaf(kvm, KVM_GET_SUPPORTED_HV_CPUID, LEAF_FEATURES, regs);
	kvm->has_invariant = kvm->has_invariant && (regs[0] & FEATURE_INVARIANT);
	return err;
}

static void look_for_rates(struct vmbus_kvm *kvm)
{
	int khz = 0;

	/* Asked of the VM; KVM_CAP_VM_TSC_CONTROL is about setting it. */
	if (!kvm->opts.tsc_hz)
		khz = vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_GET_TSC_KHZ, NULL);
	if (khz > 0)
		kvm->opts.tsc_hz = (uint64_t)khz * 1000u;
	if (!kvm->opts.apic_hz)
		kvm->opts.apic_hz = APIC_HZ;
}

int vmbus__kvm_hv_init(struct vmbus_kvm *kvm)
{
	const struct vmbus_hv_opts opts = {
		.struct_bytes = sizeof(opts),
		.tsc_hz = kvm->opts.tsc_hz,
		.apic_hz = kvm->opts.apic_hz,
		.reference_tsc = true,
		.crash = true,
		.reset = kvm->opts.reset != NULL,
		.invariant_tsc = kvm->has_invariant,
		.apic_msrs = kvm->opts.apic_msrs && kvm->way == VMBUS_KVM_KERNEL,
		.vps_max = kvm->opts.vps_max,
	};

	return vmbus_hv_init(&kvm->hv, &opts);
}

/* What differs between kernels, asked for once. */
static int probe(struct vmbus_kvm *kvm)
{
	int err = choose_way(kvm);

	if (err)
		return err;
	kvm->sync_regs = ((unsigned int)cap(kvm, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS) != 0;
	kvm->enforce_cpuid = cap(kvm, KVM_CAP_HYPERV_ENFORCE_CPUID) != 0;
	kvm->tells_tsc = (cap(kvm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_TSC_STABLE) != 0;
	look_for_rates(kvm);
	err = look_for_invariant(kvm);
	return err ? err : vmbus__kvm_hv_init(kvm);
}

/* Registers that must come to user space: all, or those that the kernel does less well. */
static int set_filter(struct vmbus_kvm *kvm)
{
	uint8_t none[VMBUS__KVM_MSR_COUNT / 8u] = { 0 }; /* 0: not allowed */
	struct kvm_enable_cap enable = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
					 .args = { KVM_MSR_EXIT_REASON_FILTER } };
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;

	if (kvm->opts.keeps_filter)
		return 0;
	filter.ranges[0] = (struct kvm_msr_filter_range){ both, VMBUS__KVM_MSR_COUNT,
							  VMBUS__KVM_MSR_FIRST, none };
	if (kvm->way == VMBUS_KVM_KERNEL) {
		filter.ranges[0] = (struct kvm_msr_filter_range){ both, 1, MSR_RESET, none };
		filter.ranges[1] =
			(struct kvm_msr_filter_range){ both, CRASH_MSRS, MSR_CRASH_P0, none };
	}
	if (vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_ENABLE_CAP, &enable) ||
	    vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_X86_SET_MSR_FILTER, &filter))
		return VMBUS_E_SYSTEM;
	return 0;
}

static int make_routes(struct vmbus_kvm *kvm)
{
	const int err = vmbus__kvm_routes_init(kvm);

	if (err == VMBUS_E_SYSTEM)
		vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR,
			       "KVM refused the table of routes (errno %d): make the interrupt "
			       "controllers "
			       "by KVM_CREATE_IRQCHIP before, or give opts.routes",
			       errno);
	return err;
}

static int make_epoll(struct vmbus_kvm *kvm)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = UINT64_MAX };

	if (kvm->way == VMBUS_KVM_USER)
		return 0;
	kvm->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (kvm->epoll_fd < 0 ||
	    epoll_ctl(kvm->epoll_fd, EPOLL_CTL_ADD, vmbus_bus_fd(kvm->bus), &event))
		return VMBUS_E_SYSTEM;
	return 0;
}

static int make_bus(struct vmbus_kvm *kvm)
{
	int err;

	kvm->opts.bus.backend = &vmbus__kvm_backend;
	kvm->opts.bus.backend_ctx = kvm;
	kvm->opts.bus.bind_all = true;
	err = vmbus_bus_create(&kvm->opts.bus, &kvm->bus);
	if (!err)
		kvm->opts.bus.name = vmbus_bus_name(kvm->bus); /* the embedder's may go */
	return err;
}

/* A signal that stays in the kernel needs a descriptor for each open channel. */
static void look_at_limit(const struct vmbus_kvm *kvm)
{
	const uint64_t want = VMBUS_KVM_PORTS + 3u * (uint64_t)kvm->opts.vps_max + SPARE_FDS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
		return;
	vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_INFO,
		       "%llu descriptors are allowed, and each open channel takes one: without it "
		       "its signals "
		       "come to user space; ulimit -n %llu is enough for all",
		       (unsigned long long)limit.rlim_cur, (unsigned long long)want);
}

/* Which option it is that is refused. */
static int wrong(const struct vmbus_kvm_opts *opts, int err, const char *option, int64_t value,
		 const char *must)
{
	vmbus__kvm_say(&opts->bus, VMBUS_LOG_ERROR,
		       "no partition: opts.%s is %lld, must be %s (%s)", option, (long long)value,
		       must, vmbus_err_name(err));
	return err;
}

static int check_opts(const struct vmbus_kvm_opts *opts)
{
	const uint32_t vps = opts->vps_max ? opts->vps_max : VPS_DEFAULT;
	const uint32_t gsi = opts->gsi ? opts->gsi : GSI_DEFAULT;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL; /* then log is not where it should be */
	if (opts->bus.struct_bytes < sizeof(opts->bus))
		return VMBUS_E_INVAL;
	if (opts->way > VMBUS_KVM_USER)
		return wrong(opts, VMBUS_E_INVAL, "way", (int64_t)opts->way, "0 to 2");
	if (opts->kvm_fd < 0)
		return wrong(opts, VMBUS_E_INVAL, "kvm_fd", opts->kvm_fd, "/dev/kvm");
	if (opts->vm_fd < 0)
		return wrong(opts, VMBUS_E_INVAL, "vm_fd", opts->vm_fd,
			     "a virtual machine, of KVM_CREATE_VM");
	if (vps > VMBUS_KVM_VPS_MAX)
		return wrong(opts, VMBUS_E_RANGE, "vps_max", vps, "at most 254");
	if (opts->port > PORT_LAST)
		return wrong(opts, VMBUS_E_RANGE, "port", opts->port, "at most 0xF800 (63488)");
	if (gsi > GSI_LIMIT)
		return wrong(opts, VMBUS_E_RANGE, "gsi", gsi, "at most 65535");
	if (!opts->routes && gsi < GSI_IRQCHIP)
		return wrong(
			opts, VMBUS_E_RANGE, "gsi", gsi,
			"24 or more: those below are the I/O APIC's, unless opts.routes is set");
	return 0;
}

/* Whether the descriptors are KVM's, and how many GSIs it has. */
static int check_kvm(struct vmbus_kvm *kvm)
{
	const int gsis = cap(kvm, KVM_CAP_IRQ_ROUTING);

	if (vmbus__kvm_ioctl(kvm, kvm->opts.kvm_fd, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
		return wrong(&kvm->opts, VMBUS_E_INVAL, "kvm_fd", kvm->opts.kvm_fd,
			     "/dev/kvm, with version 12 of its interface");
	if (vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_CHECK_EXTENSION,
			     (void *)(uintptr_t)KVM_CAP_IRQ_ROUTING) < 0 ||
	    vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_GET_API_VERSION, NULL) >= 0) /* /dev/kvm */
		return wrong(&kvm->opts, VMBUS_E_INVAL, "vm_fd", kvm->opts.vm_fd,
			     "a virtual machine, of KVM_CREATE_VM");
	if (gsis > 1 && kvm->opts.gsi + 2u * kvm->opts.vps_max > (uint32_t)gsis)
		return wrong(&kvm->opts, VMBUS_E_RANGE, "gsi", kvm->opts.gsi,
			     "lower: two for each of vps_max do not fit below what KVM has");
	return 0;
}

static void free_partition(struct vmbus_kvm *kvm)
{
	uint32_t vp;

	for (vp = 0; vp < kvm->opts.vps_max; vp++)
		vmbus__kvm_disconnect(kvm, vp);
	vmbus__kvm_unpin_all(kvm);
	vmbus__kvm_close(&kvm->epoll_fd);
	(void)pthread_mutex_destroy(&kvm->lock);
	free(kvm->table);
	free(kvm);
}

static struct vmbus_kvm *alloc_partition(const struct vmbus_kvm_opts *opts)
{
	const uint32_t vps = opts->vps_max ? opts->vps_max : VPS_DEFAULT;
	struct vmbus_kvm *kvm = calloc(1, sizeof(*kvm) + vps * sizeof(kvm->vp[0]));
	uint32_t vp;

	if (!kvm)
		return NULL;
	kvm->sys = vmbus__kvm_sys;
	kvm->opts = *opts;
	kvm->opts.vps_max = vps;
	kvm->opts.gsi = opts->gsi ? opts->gsi : GSI_DEFAULT;
	kvm->opts.port = opts->port ? opts->port : PORT_DEFAULT;
	kvm->epoll_fd = -1;
	memset(kvm->bound, 0xFF, sizeof(kvm->bound)); /* -1 */
	for (vp = 0; vp < vps; vp++) {
		kvm->vp[vp].vcpu_fd = kvm->vp[vp].event_fd = kvm->vp[vp].wake_fd = -1;
		kvm->vp[vp].message_fd = kvm->vp[vp].resample_fd = -1;
	}
	if (pthread_mutex_init(&kvm->lock, NULL)) {
		free(kvm);
		return NULL;
	}
	return kvm;
}

int vmbus_kvm_create(const struct vmbus_kvm_opts *opts, struct vmbus_kvm **out)
{
	struct vmbus_kvm *kvm;
	int err = check_opts(opts);

	if (err)
		return err;
	kvm = alloc_partition(opts);
	if (!kvm)
		return VMBUS_E_NOMEM;
	err = check_kvm(kvm);
	if (!err)
		err = probe(kvm);
	if (!err)
		err = make_routes(kvm);
	if (!err)
		err = make_bus(kvm); /* which says what is wrong with the regions */
	if (err)
		goto err_free;
	err = vmbus__kvm_memory_init(kvm);
	if (!err)
		err = make_epoll(kvm);
	if (!err)
		err = set_filter(kvm);
	if (err)
		goto err_bus;
	kvm->opts.bus.regions = NULL; /* the embedder's, and not looked at any more */
	look_at_limit(kvm);
	*out = kvm;
	return 0;

err_bus:
	vmbus_bus_destroy(kvm->bus);
err_free:
	free_partition(kvm);
	return err;
}

void vmbus_kvm_destroy(struct vmbus_kvm *kvm)
{
	bool busy;

	if (!kvm)
		return;
	busy = vmbus_bus_in_callback(kvm->bus); /* then the bus only says that it cannot end now */
	vmbus_bus_destroy(kvm->bus);
	if (!busy)
		free_partition(kvm);
}

struct vmbus_bus *vmbus_kvm_bus(const struct vmbus_kvm *kvm)
{
	return kvm->bus;
}

enum vmbus_kvm_way vmbus_kvm_way(const struct vmbus_kvm *kvm)
{
	return kvm->way;
}

int vmbus_kvm_fd(const struct vmbus_kvm *kvm)
{
	return kvm->epoll_fd >= 0 ? kvm->epoll_fd : vmbus_bus_fd(kvm->bus);
}

int vmbus_kvm_dispatch(struct vmbus_kvm *kvm, uint32_t budget)
{
	/* To find out goes through every slot of the bus: only while a message waits. */
	if (kvm->listening && !vmbus_bus_in_callback(kvm->bus))
		vmbus__kvm_hear(kvm);
	return vmbus_bus_dispatch(kvm->bus, budget);
}

void vmbus_kvm_stats(const struct vmbus_kvm *kvm, struct vmbus_kvm_stats *stats)
{
	const uint64_t *from = (const uint64_t *)&kvm->stats;
	uint64_t *to = (uint64_t *)stats;
	size_t n;

	for (n = 0; n < sizeof(*stats) / sizeof(*to); n++)
		to[n] = vmbus__ld64_relaxed(vmbus__as_a64c(&from[n])); /* COUNT.read */
}
