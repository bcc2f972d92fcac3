/* SPDX-License-Identifier: MIT */
/* Finding the hypervisor, registers up and down, clocks, sleep, and packets over the whole of it. */
#include "machine.h"

#define SECOND_NS 1000000000ull

/* Registers, [HV-MSR], [SYNIC-MSR]. */
#define OS_ID 0x40000000u
#define HYPERCALL 0x40000001u
#define REF_TSC 0x40000021u
#define SCONTROL 0x40000080u
#define SIEFP 0x40000082u
#define SIMP 0x40000083u
#define SINT2 0x40000092u

static void wrote(const struct machine *m, uint32_t at, uint32_t msr, uint64_t value)
{
	vmbus_test_at("write %u, register 0x%x", at, msr);
	must(at < m->writes_n);
	must_eq(m->writes[at].msr, msr);
	must_eq(m->writes[at].value, value);
}

START_TEST(bare_init__sets_registers_in_order)
{
	struct machine *const m = machine_new();

	m->opts.os_id = 0x8123456789ABCDEFull;
	m->opts.poll = _i != 0;
	must_eq(machine_init(m), 0);
	must_eq(vmbus_bare_lack(&m->bare), VMBUS_BARE_LACK_NOTHING);
	must_eq(vmbus_bare_vp(&m->bare), 0);
	must_eq(m->writes_n, 7);
	wrote(m, 0, OS_ID, m->opts.os_id);
	wrote(m, 1, HYPERCALL, GPA | 1u);
	wrote(m, 2, REF_TSC, (GPA + 4 * PAGE) | 1u);
	wrote(m, 3, SIMP, (GPA + 2 * PAGE) | 1u);
	wrote(m, 4, SIEFP, (GPA + 3 * PAGE) | 1u);
	wrote(m, 5, SINT2, VMBUS_BARE_VECTOR | (_i ? 0x40000u : 0u));
	wrote(m, 6, SCONTROL, 1);
	/* Code of the parent's, and pages of zeroes. */
	must(m->mem[0] != 0xA5);
	must_eq(m->mem[2 * PAGE + 512], 0);
	must_eq(m->mem[3 * PAGE + 512], 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_init__keeps_bits_it_does_not_know)
{
	struct machine *const m = machine_new();

	must_eq(vmbus_synic_msr_write(&m->synic, SIMP, 0x6, true) < 0, 0);
	must_eq(vmbus_synic_msr_write(&m->synic, SINT2, 0xABC0000000030055ull, true) < 0, 0);
	must_eq(vmbus_synic_msr_write(&m->synic, SCONTROL, 0x30, true) < 0, 0);
	must_eq(machine_init(m), 0);
	wrote(m, 3, SIMP, (GPA + 2 * PAGE) | 7u);
	wrote(m, 5, SINT2, 0xABC0000000000000ull | VMBUS_BARE_VECTOR);
	wrote(m, 6, SCONTROL, 0x31);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_fini__undoes_in_order)
{
	struct machine *const m = machine_new();

	must_eq(machine_init(m), 0);
	m->writes_n = 0;
	vmbus_bare_fini(&m->bare);
	must_eq(m->writes_n, 7);
	wrote(m, 0, SINT2, 0x10000);
	wrote(m, 1, SCONTROL, 0);
	wrote(m, 2, SIEFP, 0);
	wrote(m, 3, SIMP, 0);
	wrote(m, 4, REF_TSC, 0);
	wrote(m, 5, HYPERCALL, 0);
	wrote(m, 6, OS_ID, 0);
	vmbus_bare_fini(&m->bare); /* again: nothing */
	must_eq(m->writes_n, 7);
	must_eq(machine_init(m), 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_init__checks_options)
{
	struct machine *const m = machine_new();
	const struct vmbus_bare_opts good = m->opts;
	const struct {
		struct vmbus_bare_opts opts;
		int err;
	} cases[] = {
		{ { .struct_bytes = sizeof(good) - 1 }, VMBUS_E_INVAL },
		{ { .memory = NULL }, VMBUS_E_INVAL },
		{ { .memory = m->mem + 8 }, VMBUS_E_INVAL },
		{ { .memory_gpa = GPA + 8 }, VMBUS_E_INVAL },
		{ { .memory_bytes = 64 * PAGE + 8 }, VMBUS_E_INVAL },
		{ { .memory_bytes = 63 * PAGE }, VMBUS_E_RANGE },
		{ { .memory_bytes = (VMBUS_BARE_PAGES_MAX + 1ull) * PAGE }, VMBUS_E_RANGE },
		{ { .memory_gpa = 0 - 64 * (uint64_t)PAGE }, VMBUS_E_RANGE },
		{ { .vector = 31 }, VMBUS_E_RANGE },
		{ { .os_id = 1 }, VMBUS_E_RANGE },
	};
	uint32_t i;

	must_eq(vmbus__bare_init(&m->bare, NULL, &machine_cpu, m), VMBUS_E_INVAL);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct vmbus_bare_opts *const o = &cases[i].opts;

		vmbus_test_at("case %u", i);
		m->opts = good;
		m->opts.struct_bytes = o->struct_bytes ? o->struct_bytes : good.struct_bytes;
		m->opts.memory = i == 1 ? NULL : o->memory ? o->memory : good.memory;
		m->opts.memory_gpa = o->memory_gpa ? o->memory_gpa : GPA;
		m->opts.memory_bytes = o->memory_bytes ? o->memory_bytes : good.memory_bytes;
		m->opts.vector = o->vector;
		m->opts.os_id = o->os_id;
		must_eq(machine_init(m), cases[i].err);
		must_eq(m->writes_n + m->reads, 0);
		vmbus_bare_fini(&m->bare); /* nothing to undo */
		must_eq(m->writes_n, 0);
	}
	machine_free(m);
}
END_TEST

/* One thing at a time is missing: it is named, and all registers are 0. */
START_TEST(bare_init__names_what_is_missing)
{
	static const struct {
		enum vmbus_bare_lack lack;
		uint32_t clear_a, clear_b;
	} cases[] = {
		{ VMBUS_BARE_LACK_HYPERVISOR, 0, 0 },
		{ VMBUS_BARE_LACK_SIGNATURE, 0, 0 },
		{ VMBUS_BARE_LACK_LEAVES, 0, 0 },
		{ VMBUS_BARE_LACK_HYPERCALL, 1u << 5, 0 },
		{ VMBUS_BARE_LACK_VP_INDEX, 1u << 6, 0 },
		{ VMBUS_BARE_LACK_SYNIC, 1u << 2, 0 },
		{ VMBUS_BARE_LACK_POST, 0, 1u << 4 },
		{ VMBUS_BARE_LACK_SIGNAL, 0, 1u << 5 },
		{ VMBUS_BARE_LACK_CLOCK, 1u << 1 | 1u << 9 | 1u << 11, 0 },
		{ VMBUS_BARE_LACK_PAGE, 0, 0 },
		{ VMBUS_BARE_LACK_PAGE, 0, 0 },
		{ VMBUS_BARE_LACK_LEAVES, 0, 0 },
	};
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct machine *const m = machine_new();
		uint64_t value = 1;

		vmbus_test_at("case %u", i);
		m->bare_metal = i == 0;
		m->vendor = i == 1 ? 0x4B4D564Bu : 0;
		m->leaves = i == 2 ? 0x40000004u : i == 11 ? 0x40010000u : 0;
		m->refuse_page = i == 9;
		m->locked = i == 10;
		m->clear_a = cases[i].clear_a;
		m->clear_b = cases[i].clear_b;
		must_eq(machine_init(m), VMBUS_E_NOTSUP);
		must_eq(vmbus_bare_lack(&m->bare), cases[i].lack);
		must_eq(vmbus_hv_msr_read(&m->hv, 0, OS_ID, 0, &value), 0);
		must_eq(value, 0);
		must_eq(vmbus_hv_hypercall_gpa(&m->hv), UINT64_MAX);
		vmbus_bare_fini(&m->bare);
		machine_free(m);
	}
}
END_TEST

START_TEST(bare_lack_name__differs)
{
	int i, j;

	for (i = 0; i <= VMBUS_BARE_LACK_PAGE; i++) {
		const char *const name = vmbus_bare_lack_name((enum vmbus_bare_lack)i);

		must(name && strlen(name) > 5);
		for (j = 0; j < i; j++)
			must(strcmp(name, vmbus_bare_lack_name((enum vmbus_bare_lack)j)) != 0);
	}
	must(strcmp(vmbus_bare_lack_name((enum vmbus_bare_lack)i), "?") == 0);
	must(strcmp(vmbus_bare_lack_name((enum vmbus_bare_lack) - 1), "?") == 0);
}
END_TEST

/* ---- clocks ---- */

static void time_goes(struct machine *m)
{
	const uint64_t first = be()->time(&m->bare);
	uint64_t later;

	m->now += 10000000; /* a second */
	later = be()->time(&m->bare) - first;
	must(later >= 9999990 && later <= 10000010);
}

START_TEST(bare_time__by_page_counter_or_frequency)
{
	static const uint32_t clear[] = { 0, 1u << 9 | 1u << 11, 1u << 9 | 1u << 1, 1u << 1,
					  1u << 11 };
	struct machine *const m = machine_new();
	unsigned long reads;

	m->clear_a = clear[_i];
	must_eq(machine_init(m), 0);
	reads = m->reads;
	time_goes(m);
	must_eq(m->reads - reads, _i == 1 ? 2 : 0); /* only the counter is a register */
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* The parent's page says that it does not hold: the counter does. */
START_TEST(bare_time__falls_back_to_the_counter)
{
	struct machine *const m = machine_new();

	must_eq(machine_init(m), 0);
	time_goes(m);
	vmbus_hv_fill_tsc(m->mem + 4 * PAGE, 0, 0, 0);
	time_goes(m);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_time__never_goes_back)
{
	struct machine *const m = machine_new();
	uint64_t before;

	must_eq(machine_init(m), 0);
	m->now += 50000000;
	before = be()->time(&m->bare);
	vmbus_hv_fill_tsc(m->mem + 4 * PAGE, 2, vmbus_hv_tsc_scale(TSC_HZ), -40000000);
	must_eq(be()->time(&m->bare), before);
	m->now += 50000000;
	must(be()->time(&m->bare) > before);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* No page, no counter, and a frequency that cannot be one. */
START_TEST(bare_init__refuses_a_frequency_that_cannot_be)
{
	struct machine *const m = machine_new();

	m->hv_opts.tsc_hz = 1000;
	must_eq(vmbus_hv_init(&m->hv, &m->hv_opts), 0);
	m->clear_a = 1u << 9 | 1u << 1;
	must_eq(machine_init(m), VMBUS_E_NOTSUP);
	must_eq(vmbus_bare_lack(&m->bare), VMBUS_BARE_LACK_CLOCK);
	must_eq(vmbus_hv_hypercall_gpa(&m->hv), UINT64_MAX);
	machine_free(m);
}
END_TEST

/* ---- sleep ---- */

START_TEST(bare_idle__halts_with_interrupts_off)
{
	struct machine *const m = machine_new();

	must_eq(machine_init(m), 0);
	must_eq(be()->idle(&m->bare, 1000), 0); /* the halt looks at the flag */
	must_eq(m->halts, 1);
	must(m->irq_on);
	m->irq_on = false; /* who calls it with interrupts off gets them back off */
	must_eq(be()->idle(&m->bare, 1000), 0);
	must(!m->irq_on);
	must_eq(machine_stats(m).halts, 2);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

static void raise_now(struct machine *m)
{
	m->at_irq_save = NULL;
	must_eq(machine_raise(m, 0, VMBUS_SINT_MESSAGE, 5), 0);
}

/* The interrupt comes after the last look of the guest and before interrupts are off. */
START_TEST(bare_idle__sees_an_interrupt_that_came_just_before)
{
	struct machine *const m = machine_new();

	must_eq(machine_init(m), 0);
	m->at_irq_save = raise_now;
	must_eq(be()->idle(&m->bare, UINT64_MAX), 0);
	must_eq(m->halts, 0);
	must_eq(be()->flags(&m->bare, 0), 1u << 5);
	/* The same with interrupts off all the time: it waits, and ends the halt at once. */
	m->irq_on = false;
	m->at_irq_save = raise_now;
	must_eq(be()->idle(&m->bare, UINT64_MAX), 0);
	must_eq(m->halts, 1);
	must_eq(be()->flags(&m->bare, 0), 1u << 5);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* A flag of a channel that is not there is taken by nobody: it must not keep the guest awake. */
START_TEST(bare_idle__sleeps_though_a_flag_is_set)
{
	struct machine *const m = machine_new();

	must_eq(machine_init(m), 0);
	m->mem[3 * PAGE + 512 + 200] = 1;
	must_eq(be()->idle(&m->bare, 1000), 0);
	must_eq(m->halts, 1);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_wake__ends_the_next_idle)
{
	struct machine *const m = machine_new();

	m->opts.poll = _i != 0;
	must_eq(machine_init(m), 0);
	be()->wake(&m->bare);
	must_eq(be()->idle(&m->bare, UINT64_MAX), 0);
	must_eq(m->halts + m->pauses, 0);
	vmbus_bare_interrupt(&m->bare);
	must_eq(be()->idle(&m->bare, UINT64_MAX), 0);
	must_eq(m->halts + m->pauses, 0);
	must_eq(machine_stats(m).interrupts, 1);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_idle__spins_until_the_time_is_over)
{
	struct machine *const m = machine_new();
	uint64_t begin;

	m->opts.halt = _i ? NULL : machine_halt;
	m->opts.poll = !_i;
	must_eq(machine_init(m), 0);
	begin = be()->time(&m->bare);
	must_eq(be()->idle(&m->bare, 100 * (uint64_t)STEP * 100u), 0);
	must_eq(m->halts, 0);
	must(be()->time(&m->bare) - begin >= 100 * STEP);
	must(be()->time(&m->bare) - begin <= 102 * STEP);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* ---- memory ---- */

START_TEST(bare_alloc__hands_out_zeroed_pages_until_none_is_left)
{
	struct machine *const m = machine_new();
	uint32_t n = 0, i, last = 0;
	uint8_t *p, *held[PAGES];

	m->opts.memory_bytes = 200 * PAGE;
	must_eq(machine_init(m), 0);
	while ((p = be()->alloc(&m->bare, PAGE, true)) != NULL) {
		must_eq(be()->pfn(&m->bare, p), GPA / PAGE + (uint64_t)(p - m->mem) / PAGE);
		must_eq(be()->pfn(&m->bare, p + 1), be()->pfn(&m->bare, p));
		for (i = 0; i < PAGE; i++)
			must_eq(p[i], 0);
		memset(p, 0x77, PAGE);
		held[n++] = p;
	}
	must_eq(n, 200 - 6); /* five of ours, one of bits */
	must_eq(machine_stats(m).pages, n);
	must(be()->alloc(&m->bare, 0, true) == NULL);
	must(be()->alloc(&m->bare, SIZE_MAX, true) == NULL);
	for (i = 0; i < n; i += 2)
		be()->release(&m->bare, held[i], PAGE, true);
	must(be()->alloc(&m->bare, 2 * PAGE, false) == NULL); /* none side by side */
	for (i = 0; i < n; i += 2, last++) {
		p = be()->alloc(&m->bare, 1, false);
		must(p != NULL);
		must_eq(p[0], 0);
		must_eq(p[PAGE - 1], 0);
	}
	must(be()->alloc(&m->bare, 1, false) == NULL);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* Against a model: no page twice, none lost, and zeroes, also when fresh memory is said to be zero. */
START_TEST(bare_alloc__holds_against_a_model)
{
	struct machine *const m = machine_new();
	uint8_t *at[64] = { NULL };
	uint32_t pages[64] = { 0 }, seed = 12345, i, k, held = 0;

	memset(m->mem, 0, PAGES * PAGE);
	m->opts.zeroed = _i != 0;
	m->opts.memory_bytes = 700 * PAGE;
	must_eq(machine_init(m), 0);
	for (i = 0; i < 4000; i++) {
		seed = seed * 1664525u + 1013904223u;
		k = seed >> 26;
		vmbus_test_at("step %u", i);
		if (at[k]) {
			for (seed = 0; seed < pages[k] * PAGE; seed += 512)
				must_eq(at[k][seed], k + 1);
			be()->release(&m->bare, at[k], pages[k] * PAGE, true);
			held -= pages[k];
			at[k] = NULL;
			seed = i * 2654435761u;
		} else {
			pages[k] = (seed >> 20) % 70u + 1;
			at[k] = be()->alloc(&m->bare, pages[k] * PAGE, i & 1u);
			if (at[k]) {
				held += pages[k];
				must(at[k][0] == 0 && at[k][pages[k] * PAGE - 1] == 0);
				for (uint32_t b = 0; b < pages[k] * PAGE; b += 512) {
					must_eq(at[k][b], 0);
					at[k][b] = (uint8_t)(k + 1);
				}
				at[k][pages[k] * PAGE - 1] = 1;
			}
		}
		must_eq(machine_stats(m).pages, held);
	}
	must_eq(machine_stats(m).bad_releases, 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_release__ignores_what_was_not_handed_out)
{
	struct machine *const m = machine_new();
	uint8_t *p, outside[16];

	must_eq(machine_init(m), 0);
	p = be()->alloc(&m->bare, 2 * PAGE, true);
	be()->release(&m->bare, NULL, PAGE, true);
	must_eq(machine_stats(m).bad_releases, 0);
	be()->release(&m->bare, m->mem, PAGE, true);		    /* ours */
	be()->release(&m->bare, p + 8, PAGE, true);		    /* not aligned */
	be()->release(&m->bare, p, 3 * PAGE, true);		    /* too much */
	be()->release(&m->bare, p, SIZE_MAX, true);		    /* far too much */
	be()->release(&m->bare, outside, PAGE, true);		    /* not memory */
	be()->release(&m->bare, m->mem + PAGES * PAGE, PAGE, true); /* past it */
	must_eq(machine_stats(m).bad_releases, 6);
	must_eq(machine_stats(m).pages, 2);
	be()->release(&m->bare, p, 2 * PAGE, true);
	be()->release(&m->bare, p, 2 * PAGE, true); /* twice */
	must_eq(machine_stats(m).bad_releases, 7);
	must_eq(machine_stats(m).pages, 0);
	must_eq(be()->pfn(&m->bare, m->mem), UINT64_MAX); /* the parent gets no page of ours */
	must_eq(be()->pfn(&m->bare, outside), UINT64_MAX);
	must_eq(be()->pfn(&m->bare, m->mem + PAGES * PAGE), UINT64_MAX);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* ---- the whole of it ---- */

static void echo_done(void *ctx, int err)
{
	must_eq(err, 0);
	++*(unsigned *)ctx;
}

static void echo(struct machine *m, uint32_t channels, uint64_t packets)
{
	static struct vmbus_echo echos[20]; /* until the channels are closed */
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts) };
	unsigned done = 0;
	uint32_t i, turns;

	must(channels <= 20);
	opts.packets = packets;
	opts.done = echo_done;
	opts.ctx = &done;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = 8192;
	opts.open.recv_bytes = 8192;
	for (i = 0; i < channels; i++)
		must_eq(vmbus_echo_start(&echos[i], vmbus_vsc_find(m->guest, &echo_class, i),
					 &opts),
			0);
	for (turns = 0; done < channels && turns < 1000000; turns++)
		if (vmbus_guest_dispatch(m->guest, 64) == 0)
			(void)be()->idle(&m->bare, SECOND_NS);
	must_eq(done, channels);
	for (i = 0; i < channels; i++) {
		must_eq(echos[i].received, packets);
		must_eq(echos[i].wrong, 0);
		if (i % 2) /* the others are closed by whoever leaves */
			continue;
		must_eq(vmbus_vsc_close(vmbus_vsc_find(m->guest, &echo_class, i)), 0);
		must_eq(vmbus_vsc_wait(vmbus_vsc_find(m->guest, &echo_class, i), VMBUS_VSC_OFFERED,
				       SECOND_NS),
			0);
	}
}

/* 0: by interrupt; 1: polling; 2: spinning with interrupts; three times over the same memory. */
START_TEST(bare__moves_packets)
{
	struct machine *const m = machine_new();
	uint32_t i, round;

	m->opts.poll = _i == 1;
	m->opts.halt = _i == 2 ? NULL : machine_halt;
	for (i = 0; i < 20; i++)
		must_eq(vmbus_bus_offer(m->bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	for (round = 0; round < 3; round++) {
		vmbus_test_at("round %u", round);
		must_eq(machine_init(m), 0);
		machine_guest(m);
		must_eq(vmbus_guest_connect(m->guest), 0);
		must_eq(vmbus_guest_wait(m->guest, VMBUS_GUEST_CONNECTED, SECOND_NS), 0);
		echo(m, 20, 500);
		must_eq(machine_stats(m).bad_messages, 0);
		must(_i == 1 || machine_stats(m).interrupts > 0);
		must(_i != 1 || machine_stats(m).interrupts == 0);
		must_eq(machine_stats(m).halts != 0, _i == 0);
		must_eq(m->vector, _i == 1 ? 0 : VMBUS_BARE_VECTOR);
		must_eq(vmbus_guest_disconnect(m->guest), 0);
		must_eq(vmbus_guest_wait(m->guest, VMBUS_GUEST_IDLE, SECOND_NS), 0);
		vmbus_guest_destroy(m->guest);
		must_eq(machine_stats(m).pages, 0);
		must_eq(machine_stats(m).bad_releases, 0);
		vmbus_bare_fini(&m->bare);
	}
	must_eq(m->gone, 60);
	machine_free(m);
}
END_TEST

/* destroy without disconnect: the backend has it done in order, for half a second at most. */
START_TEST(bare__leaves_in_order)
{
	struct machine *const m = machine_new();

	must_eq(vmbus_bus_offer(m->bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	must_eq(machine_init(m), 0);
	machine_guest(m);
	must_eq(vmbus_guest_connect(m->guest), 0);
	must_eq(vmbus_guest_wait(m->guest, VMBUS_GUEST_CONNECTED, SECOND_NS), 0);
	echo(m, 1, 10);
	vmbus_guest_destroy(m->guest);
	must_eq(machine_stats(m).pages, 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare__says_when_memory_is_short)
{
	struct machine *const m = machine_new();
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };

	opts.backend = vmbus_bare_backend();
	opts.backend_ctx = &m->bare;
	must_eq(machine_init(m), 0);
	while (be()->alloc(&m->bare, PAGE, false))
		;
	must_eq(vmbus_guest_create(&opts, &m->guest), VMBUS_E_NOMEM);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "init", 10);

	tcase_add_loop_test(tc, bare_init__sets_registers_in_order, 0, 2);
	tcase_add_test(tc, bare_init__keeps_bits_it_does_not_know);
	tcase_add_test(tc, bare_fini__undoes_in_order);
	tcase_add_test(tc, bare_init__checks_options);
	tcase_add_test(tc, bare_init__names_what_is_missing);
	tcase_add_test(tc, bare_lack_name__differs);
	tc = vmbus_test_case(suite, "time", 10);
	tcase_add_loop_test(tc, bare_time__by_page_counter_or_frequency, 0, 5);
	tcase_add_test(tc, bare_time__falls_back_to_the_counter);
	tcase_add_test(tc, bare_time__never_goes_back);
	tcase_add_test(tc, bare_init__refuses_a_frequency_that_cannot_be);
	tc = vmbus_test_case(suite, "idle", 10);
	tcase_add_test(tc, bare_idle__halts_with_interrupts_off);
	tcase_add_test(tc, bare_idle__sees_an_interrupt_that_came_just_before);
	tcase_add_test(tc, bare_idle__sleeps_though_a_flag_is_set);
	tcase_add_loop_test(tc, bare_wake__ends_the_next_idle, 0, 2);
	tcase_add_loop_test(tc, bare_idle__spins_until_the_time_is_over, 0, 2);
	tc = vmbus_test_case(suite, "pages", 10);
	tcase_add_test(tc, bare_alloc__hands_out_zeroed_pages_until_none_is_left);
	tcase_add_loop_test(tc, bare_alloc__holds_against_a_model, 0, 2);
	tcase_add_test(tc, bare_release__ignores_what_was_not_handed_out);
	tc = vmbus_test_case(suite, "all", 20);
	tcase_add_loop_test(tc, bare__moves_packets, 0, 3);
	tcase_add_test(tc, bare__leaves_in_order);
	tcase_add_test(tc, bare__says_when_memory_is_short);
}

VMBUS_TEST_MAIN("bare.bare", tests)
