/* SPDX-License-Identifier: MIT */
/*
 * A partition under load: vCPUs that write random registers, make random calls and move their pages,
 * while the bus is dispatched, other threads raise events, and memory comes and goes.  Nobody waits
 * for ever, nothing is touched after it is gone, and afterwards the guest is served as before.  And
 * one thread that is held before it writes into a page, while the guest uses that for other things.
 */
#include "kvm/part.h"

#include <dlfcn.h>
#include <time.h>
#include <urcu-bp.h>
#include <vmbus/echo.h>

#include "base/atomic.h"

#define VPS 3u
#define MORE_GPA (PART_PAGES * (uint64_t)VMBUS_PAGE_BYTES)
#define MORE_BYTES (64u * VMBUS_PAGE_BYTES)

/*
 * The thread sanitizer takes a guest that uses one page for two purposes, or moves a page while it is
 * used, for a bug of ours: there each purpose has a page of its own.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HONEST 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define HONEST 1
#endif
#if !defined(HONEST)
#define HONEST 0
#endif

static struct part p;
static struct vmbus_region more;
static uint32_t stop;
static unsigned long done[VPS];
extern const struct vmbus_backend vmbus__kvm_backend;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_ACQUIRE) != 0;
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void write_msr(uint32_t vp, uint32_t msr, uint64_t value)
{
	struct kvm_run *run = fake_run(vp);

	run->exit_reason = KVM_EXIT_X86_WRMSR;
	run->msr.index = msr;
	run->msr.data = value;
	must(vmbus_kvm_handle_exit(p.kvm, vp) >= 0);
}

static void kernel_synic(uint32_t vp, uint64_t control, uint64_t siefp, uint64_t simp)
{
	struct kvm_run *run = fake_run(vp);

	run->exit_reason = KVM_EXIT_HYPERV;
	run->hyperv.type = KVM_EXIT_HYPERV_SYNIC;
	run->hyperv.u.synic.control = control;
	run->hyperv.u.synic.evt_page = siefp;
	run->hyperv.u.synic.msg_page = simp;
	must_eq(vmbus_kvm_handle_exit(p.kvm, vp), 1);
}

/* A page for one of three purposes of a VP, or for one of the partition's, from 9 on; enabled or not. */
static uint64_t page_of(uint32_t vp, uint32_t purpose, uint64_t r)
{
	const uint64_t n = HONEST ? (purpose < 9 ? vp * 3 + purpose : purpose) : r % 64;

	return (MORE_GPA + n * VMBUS_PAGE_BYTES) | (r >> 63);
}

/* Any of the exits that a guest can cause. */
static void one_exit(uint32_t vp, uint64_t *seed)
{
	static const uint32_t msrs[] = {
		0x40000000, 0x40000001, 0x40000021, 0x40000080, 0x40000082,
		0x40000083, 0x40000084, 0x40000092, 0x40000105, 0x400000B0
	};
	static const uint32_t purposes[] = { 9, 10, 11, 2, 0, 1, 2, 2, 2, 2 };
	uint32_t which;
	const uint64_t r = next(seed);
	struct kvm_run *run = fake_run(vp);

	switch (r >> 32 & 7) {
	case 0:
		if (!fake_is_user(p.kvm))
			kernel_synic(vp, r >> 40 & 1, page_of(vp, 0, r), page_of(vp, 1, r >> 8));
		write_msr(vp, 0x40000082, page_of(vp, 0, r));
		break;
	case 1:
		write_msr(vp, 0x40000092, r & 0xFF);
		break;
	case 2:
	case 3:
		which = (uint32_t)((r >> 40) % 10);
		write_msr(vp, msrs[which],
			  r & 0x80000 || HONEST ? page_of(vp, purposes[which], r) : r);
		break;
	case 4:
		run->exit_reason = KVM_EXIT_X86_RDMSR;
		run->msr.index = 0x40000000 + (r & 0x1FF);
		must(vmbus_kvm_handle_exit(p.kvm, vp) >= 0);
		break;
	default:
		fake_regs(vp)->rcx = r & 1 ? 0x5C : 0x1005D;
		fake_regs(vp)->rax = page_of(vp, 2, r) & ~(uint64_t)4095;
		run->exit_reason = KVM_EXIT_IO;
		run->io.direction = KVM_EXIT_IO_OUT;
		run->io.size = 1;
		run->io.count = 1;
		run->io.port = 0xA000;
		run->io.data_offset = 4096;
		must(vmbus_kvm_handle_exit(p.kvm, vp) >= 0);
		break;
	}
}

static void *vcpu(void *arg)
{
	const uint32_t vp = (uint32_t)(uintptr_t)arg;
	uint64_t seed = 88172645463325252u + vp;

	while (!stopped()) {
		one_exit(vp, &seed);
		__atomic_fetch_add(&done[vp], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *raiser(void *arg)
{
	uint32_t n = 0;

	while (!stopped()) {
		(void)vmbus__kvm_backend.raise(p.kvm, n % VPS, 2, n % 2048);
		(void)vmbus_bus_time(p.bus);
		n++;
	}
	return arg;
}

static void *bus(void *arg)
{
	uint32_t n = 0;

	while (!stopped()) {
		(void)vmbus_kvm_dispatch(p.kvm, 64);
		(void)vmbus__kvm_backend.post(p.kvm, n++ % VPS, 2, 1, "message", 8);
	}
	return arg;
}

static void change_memory(void)
{
	void *map =
		mmap(NULL, MORE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(map != MAP_FAILED);
	more = (struct vmbus_region){ .gpa = MORE_GPA, .bytes = MORE_BYTES, .host = map, .fd = -1 };
	more.access = VMBUS_READ_WRITE;
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
	usleep(2000);
	while (vmbus_kvm_mem_remove(p.kvm, &more) == VMBUS_E_AGAIN)
		;
	must_eq(munmap(map, MORE_BYTES), 0); /* who uses it now gets a signal */
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static bool all_have_run(void)
{
	uint32_t n;

	for (n = 0; n < VPS; n++)
		if (__atomic_load_n(&done[n], __ATOMIC_RELAXED) < 100)
			return false;
	return true;
}

START_TEST(kvm_handle_exit__holds_under_load)
{
	const uint64_t until = now_ms() + (vmbus_test_full() ? 30000 : 1500);
	pthread_t threads[VPS + 3];
	uint32_t n, rounds = 0;

	part_begin(&p, _i);
	for (n = 1; n < VPS; n++)
		must_eq(part_add(&p, n), 0);
	must_eq(vmbus_bus_offer(p.bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	for (n = 0; n < VPS; n++)
		must_eq(pthread_create(&threads[n], NULL, vcpu, (void *)(uintptr_t)n), 0);
	must_eq(pthread_create(&threads[VPS], NULL, raiser, NULL), 0);
	must_eq(pthread_create(&threads[VPS + 1], NULL, raiser, NULL), 0);
	must_eq(pthread_create(&threads[VPS + 2], NULL, bus, NULL), 0);
	for (; now_ms() < until || rounds < 4 || !all_have_run(); rounds++)
		change_memory();
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (n = 0; n < VPS + 3; n++)
		must_eq(pthread_join(threads[n], NULL), 0);
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	part_dispatch(&p);
	part_enable(&p);
	part_guest(&p);
	part_connect(&p);
	must(p.vsc != NULL);
	part_end(&p);
}
END_TEST

#if defined(VMBUS_TEST_HOOKS)
#define HELD_MS 20u

/* Who posts or raises, between the load that tells it the page and its first write there. */
static struct {
	bool raises;
	uint8_t *page; /* as the parent sees it */
	bool knows;    /* the last load was that of the page's address */
	uint32_t there, left;
	uint32_t waits; /* a grace period has begun */
	uint32_t reused;
} held;
static _Thread_local bool is_held;

/* The library's, which tells that somebody waits for the end of one. */
void urcu_bp_synchronize_rcu(void)
{
	void (*real)(void);

	*(void **)&real = dlsym(RTLD_NEXT, "urcu_bp_synchronize_rcu");
	__atomic_store_n(&held.waits, 1, __ATOMIC_RELEASE);
	real();
}

/* Until the guest has gone on, or has waited for us long enough that it would have. */
static void hold(void)
{
	uint64_t since = 0;

	is_held = false;
	__atomic_store_n(&held.there, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&held.reused, __ATOMIC_ACQUIRE)) {
		if (!since && __atomic_load_n(&held.waits, __ATOMIC_ACQUIRE))
			since = now_ms();
		if (since && now_ms() - since >= HELD_MS)
			return;
		usleep(100);
	}
}

static void hook(const volatile void *at)
{
	const uint8_t *const slot = held.page + 2 * 256;

	if (!is_held)
		return;
	if (held.raises ? held.knows : at == slot)
		hold();
	else if (held.raises)
		held.knows = __atomic_load_n((const volatile uint64_t *)at, __ATOMIC_RELAXED) ==
			     (uintptr_t)held.page;
}

static void *write_late(void *arg)
{
	is_held = true;
	if (held.raises)
		(void)vmbus__kvm_backend.raise(p.kvm, 0, 2, 77);
	else
		(void)vmbus__kvm_backend.post(p.kvm, 0, 2, 1, "message", 8);
	__atomic_store_n(&held.left, 1, __ATOMIC_RELEASE);
	return arg;
}

/* Moved by a post, taken away by a post, moved by a raise; in both ways. */
START_TEST(kvm_handle_exit__waits_for_who_writes_into_the_old_page)
{
	const uint32_t what = (uint32_t)_i % 3u;
	static const uint8_t zeroes[VMBUS_PAGE_BYTES];
	pthread_t thread;
	uint64_t to = 0;
	uint8_t *old;

	part_begin(&p, _i >= 3);
	part_enable(&p);
	memset(&held, 0, sizeof(held));
	held.raises = what == 2;
	old = held.raises ? p.siefp : p.simp;
	held.page = p.mem.host + part_gpa(&p, old);
	if (what != 1)
		to = part_gpa(&p, child_alloc_shared(&p.mem, 1)) | 1;
	vmbus__test_hook = hook;
	must_eq(pthread_create(&thread, NULL, write_late, NULL), 0);
	while (!__atomic_load_n(&held.there, __ATOMIC_ACQUIRE)) {
		must(!__atomic_load_n(&held.left, __ATOMIC_ACQUIRE));
		usleep(100);
	}
	must(!fake_wrmsr(p.kvm, 0, held.raises ? 0x40000082 : 0x40000083, to));
	memset(old, 0, VMBUS_PAGE_BYTES);
	__atomic_store_n(&held.reused, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(thread, NULL), 0);
	vmbus__test_hook = NULL;
	must(memcmp(old, zeroes, sizeof(zeroes)) == 0);
	part_end(&p);
}
END_TEST
#endif

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "load", 20);

	tcase_add_loop_test(tc, kvm_handle_exit__holds_under_load, 0, 2);
#if defined(VMBUS_TEST_HOOKS)
	tc = vmbus_test_case(suite, "grace", 20);
	tcase_add_loop_test(tc, kvm_handle_exit__waits_for_who_writes_into_the_old_page, 0, 6);
#endif
}

VMBUS_TEST_MAIN("kvm.threads", tests)
