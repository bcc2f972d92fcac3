/* SPDX-License-Identifier: MIT */
/*
 * Reset, save and restore, by both ways and from one to the other; states that are cut, changed or
 * made up.  The loop variable _i is the way: 0 user space, 1 the kernel's.
 */
#include "kvm/part.h"

#include <vmbus/echo.h>

#define STATE_MAX 8192u
#define HEAD 16u
#define ENTRY 16u
#define NO_MEMORY (PART_PAGES * (uint64_t)VMBUS_PAGE_BYTES)
#define WHOLE 0xFFFFFFFFu

static struct part p;
static uint8_t state[STATE_MAX];
static int state_bytes;

static void save_state(void)
{
	state_bytes = vmbus_kvm_save(p.kvm, NULL, 0);
	must(state_bytes > 0 && state_bytes <= (int)STATE_MAX);
	must_eq(vmbus_kvm_save(p.kvm, state, (size_t)state_bytes - 1), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_save(p.kvm, NULL, 1), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_save(p.kvm, state, STATE_MAX), state_bytes);
}

static int restore_state(void)
{
	return vmbus_kvm_restore(p.kvm, state, (size_t)state_bytes);
}

static uint32_t get32(uint32_t at)
{
	uint32_t v;

	memcpy(&v, state + at, sizeof(v));
	return v;
}

static void put32(uint32_t at, uint32_t v)
{
	memcpy(state + at, &v, sizeof(v));
}

static void put64(uint32_t at, uint64_t v)
{
	memcpy(state + at, &v, sizeof(v));
}

/* Where a register is in the state. */
static uint32_t entry_of(uint32_t vp, uint32_t msr)
{
	uint32_t at;

	for (at = HEAD; at < (uint32_t)state_bytes; at += ENTRY)
		if (get32(at) == vp && get32(at + 4) == msr)
			return at;
	ck_abort_msg("register 0x%x of %u is not in the state", msr, vp);
	return 0;
}

static uint64_t read_ok(uint32_t msr)
{
	uint64_t value = 0;

	must(!fake_rdmsr(p.kvm, 0, msr, &value));
	return value;
}

static const uint32_t kept[] = { 0x40000000, 0x40000001, 0x40000021, 0x40000073, 0x40000080,
				 0x40000082, 0x40000083, 0x40000090, 0x40000092, 0x4000009F,
				 0x40000100, 0x40000104, 0x40000118 };
#define KEPT (sizeof(kept) / sizeof(kept[0]))

static void set_all(void)
{
	part_enable(&p);
	must(!fake_wrmsr(p.kvm, 0, 0x40000073, 0x5000));
	must(!fake_wrmsr(p.kvm, 0, 0x4000009F, 0x10077));
	must(!fake_wrmsr(p.kvm, 0, 0x40000100, 0x1111));
	must(!fake_wrmsr(p.kvm, 0, 0x40000104, 0x4444));
	must(!fake_wrmsr(p.kvm, 0, 0x40000118, 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, part_gpa(&p, p.input) | 1));
}

static void look_all(uint64_t values[KEPT])
{
	uint32_t n;

	for (n = 0; n < KEPT; n++)
		values[n] = read_ok(kept[n]);
}

static void same_all(const uint64_t values[KEPT])
{
	uint32_t n;

	for (n = 0; n < KEPT; n++) {
		vmbus_test_at("register 0x%x", kept[n]);
		must_eq(read_ok(kept[n]), values[n]);
	}
}

START_TEST(kvm_reset__begins_anew)
{
	uint64_t before[KEPT];

	part_begin(&p, _i);
	look_all(before);
	set_all();
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	same_all(before);
	part_enable(&p);
	must_eq(p.page[0], _i ? 0 : 0xF3);
	if (_i) {
		fake.frozen = 0x40000083;
		must_eq(vmbus_kvm_reset(p.kvm), VMBUS_E_SYSTEM);
		must_eq(errno, EINVAL);
		fake.frozen = 0;
	}
	part_end(&p);
}
END_TEST

/* _i: from way _i % 2 to way _i / 2. */
START_TEST(kvm_restore__takes_what_save_gave)
{
	uint64_t values[KEPT], page;

	part_begin(&p, _i % 2);
	set_all();
	look_all(values);
	page = part_gpa(&p, p.page);
	save_state();
	part_end(&p);

	part_begin(&p, _i / 2);
	must_eq(restore_state(), 0);
	same_all(values);
	must_eq(p.mem.host[page], _i / 2 ? 0 : 0xF3); /* the kernel writes its own */
	if (_i / 2 == 0) {
		must_eq(fake.routings, 2);
		must_eq(fake.routes[40].u.msi.data, PART_VECTOR);
	}
	must_eq(fake_interrupts(0), 1); /* so that the guest looks */
	part_end(&p);
}
END_TEST

/* A clock that was set back before is followed, by however little. */
START_TEST(kvm_restore__takes_the_clock_as_it_is)
{
	part_begin(&p, _i);
	part_enable(&p);
	save_state();
	must_eq(vmbus_bus_time(p.bus), fake.clock_ns / 100);
	fake.clock_ns -= 100000;
	must_eq(restore_state(), 0);
	must_eq(vmbus_bus_time(p.bus), fake.clock_ns / 100);
	part_end(&p);
}
END_TEST

START_TEST(kvm_restore__keeps_what_is_in_the_pages)
{
	static const struct vmbus_synic_msg msg = { .type = 1, .bytes = 8, .payload = "message" };
	struct vmbus_synic_msg got;
	bool eom;

	part_begin(&p, _i);
	part_enable(&p);
	save_state();
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	/* As the embedder brings the memory back. */
	memcpy(p.simp + 512, &msg.type, 4);
	p.simp[516] = 8;
	memcpy(p.simp + 528, msg.payload, 8);
	p.siefp[512] = 0x20;
	must_eq(restore_state(), 0);
	must_eq(vmbus_synic_take(p.simp, 2, &got, &eom), 1);
	must(memcmp(got.payload, "message", 8) == 0);
	must_eq(vmbus_synic_take_flags(p.siefp, 2, 0), 0x20);
	part_end(&p);
}
END_TEST

/*
 * A vCPU that was saved between its two looks at the number of the TSC page must see another one, since
 * the words that it has are those of the old partition.
 */
START_TEST(kvm_restore__goes_on_from_the_number_of_the_tsc_page)
{
	static const struct {
		uint32_t was, next;
	} rows[] = { { 1, 2 },
		     { 0, 1 },
		     { 0x1234, 0x1235 },
		     { UINT32_MAX - 2, UINT32_MAX - 1 },
		     { UINT32_MAX - 1, 1 },
		     { UINT32_MAX, 2 } };
	uint64_t gpa, time;
	uint32_t number;

	part_begin(&p, false);
	set_all();
	gpa = part_gpa(&p, p.input);
	memcpy(&number, p.input, sizeof(number));
	must_eq(number, 1);
	save_state();
	part_end(&p);

	part_begin(&p, false);
	memcpy(p.mem.host + gpa, &rows[_i].was, sizeof(number)); /* the memory comes back first */
	must_eq(restore_state(), 0);
	memcpy(&number, p.mem.host + gpa, sizeof(number));
	must_eq(number, rows[_i].next);
	must(vmbus_hv_read_tsc(p.mem.host + gpa, fake.tsc, &time));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, gpa | 1)); /* and from there */
	memcpy(&number, p.mem.host + gpa, sizeof(number));
	must_eq(number, rows[_i].next % (UINT32_MAX - 1u) + 1u);
	part_end(&p);
}
END_TEST

START_TEST(kvm_restore__refuses_other_things)
{
	static uint8_t good[STATE_MAX];
	uint64_t before[KEPT];
	int good_bytes, n;

	part_begin(&p, _i);
	look_all(before);
	set_all();
	save_state();
	memcpy(good, state, sizeof(good));
	good_bytes = state_bytes;
	for (n = 0; n < good_bytes; n++) { /* cut anywhere */
		state_bytes = n;
		must_eq(restore_state(), VMBUS_E_INVAL);
	}
	same_all(before); /* as after a reset */
	state_bytes = good_bytes + 16;
	must_eq(restore_state(), VMBUS_E_INVAL);
	state_bytes = good_bytes;
	must_eq(vmbus_kvm_restore(p.kvm, NULL, 0), VMBUS_E_INVAL);

#define CHANGED(change, err)                                                                       \
	do {                                                                                       \
		memcpy(state, good, sizeof(good));                                                 \
		change;                                                                            \
		must_eq(restore_state(), err);                                                     \
	} while (0)
	CHANGED(put32(0, 1), VMBUS_E_INVAL);
	CHANGED(put32(4, 2), VMBUS_E_NOTSUP);
	CHANGED(put32(8, 0xFFFFFFFF), VMBUS_E_INVAL);
	CHANGED(put32(12, 1), VMBUS_E_INVAL);
	CHANGED(put32(entry_of(0, 0x40000080), 1), VMBUS_E_RANGE);
	CHANGED(put32(entry_of(0, 0x40000080), FAKE_VPS), VMBUS_E_RANGE);
	CHANGED(put32(entry_of(0, 0x40000080) + 4, 0x40000084), VMBUS_E_NOTSUP);
	CHANGED(put32(entry_of(0, 0x40000080) + 4, 0x40000083), VMBUS_E_INVAL); /* twice */
	CHANGED(put32(entry_of(WHOLE, 0x40000001) + 4, 0x40000105), VMBUS_E_NOTSUP);
	if (_i == 0) {
		CHANGED(put64(entry_of(WHOLE, 0x40000118) + 8, 2), VMBUS_E_INVAL);
		CHANGED(put64(entry_of(WHOLE, 0x40000001) + 8, NO_MEMORY | 1), VMBUS_E_INVAL);
		same_all(before);
	}
	/* Values of a guest's that mean nothing are the guest's business. */
	CHANGED(put64(entry_of(0, 0x40000092) + 8, 3), 0);
	CHANGED(put64(entry_of(0, 0x40000083) + 8, NO_MEMORY | 1), 0);
	CHANGED((void)0, 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_restore__knows_registers_that_are_not_offered)
{
	part_begin(&p, _i);
	set_all();
	save_state();
	part_end(&p);
	part_begin(&p, _i);
	vmbus_kvm_destroy(p.kvm);
	{
		struct vmbus_kvm_opts opts;

		fake.fail_request = _i ? KVM_GET_SUPPORTED_HV_CPUID : KVM_GET_SUPPORTED_CPUID;
		fake.fail_in = 1; /* so nobody says that the TSC is invariant */
		part_opts(&p, &opts);
		must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
		must_eq(part_add(&p, 0), 0);
	}
	must_eq(restore_state(), VMBUS_E_NOTSUP);
	put64(entry_of(WHOLE, 0x40000118) + 8, 0);
	must_eq(restore_state(), 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_restore__without_a_vcpu)
{
	struct vmbus_kvm_opts opts;

	part_begin(&p, _i);
	set_all();
	save_state();
	part_end(&p);
	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(restore_state(), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	save_state();
	must_eq(restore_state(), 0);
	put64(entry_of(WHOLE, 0x40000000) + 8, 1); /* there is none to set it by */
	must_eq(restore_state(), _i ? VMBUS_E_RANGE : 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_restore__fails_as_kvm_does)
{
	part_begin(&p, true);
	set_all();
	save_state();
	fake.frozen = 0x40000082;
	must_eq(restore_state(), VMBUS_E_SYSTEM);
	must_eq(errno, EINVAL);
	fake.frozen = 0;
	fake.fail_request = KVM_GET_MSRS;
	fake.fail_in = 3;
	must_eq(vmbus_kvm_save(p.kvm, state, STATE_MAX), VMBUS_E_SYSTEM);
	must_eq(errno, EIO);
	part_end(&p);
}
END_TEST

/* At every point of a transfer the state is saved and put back, and nothing stalls. */
static int cut_at_every_point(void *ctx, uint64_t timeout_ns)
{
	save_state();
	must_eq(restore_state(), 0);
	return part_idle(ctx, timeout_ns);
}

static int post_and_cut(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			uint32_t bytes)
{
	const int status = part_post(ctx, conn_id, type, payload, bytes);

	save_state();
	must_eq(restore_state(), 0);
	return status;
}

static int receive_and_cut(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	save_state();
	must_eq(restore_state(), 0);
	return part_receive(ctx, type, payload, bytes);
}

static int signal_and_cut(void *ctx, uint32_t conn_id, uint32_t flag)
{
	const int err = part_signal(ctx, conn_id, flag);

	save_state();
	must_eq(restore_state(), 0);
	return err;
}

START_TEST(lesson_06_state_saved_at_every_point)
{
	static struct vmbus_echo echo;
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts), .packets = 500 };

	part_begin(&p, _i);
	must_eq(vmbus_bus_offer(p.bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	part_enable(&p);
	part_guest(&p);
	p.backend.idle = cut_at_every_point;
	p.backend.post = post_and_cut;
	p.backend.receive = receive_and_cut;
	p.backend.signal = signal_and_cut;
	part_connect(&p);
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = 8192;
	opts.window = 8;
	must_eq(vmbus_echo_start(&echo, p.vsc, &opts), 0);
	part_settle(&p);
	must(echo.done);
	must_eq(echo.received, 500);
	part_end(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "state", 10);

	tcase_add_loop_test(tc, kvm_reset__begins_anew, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__takes_what_save_gave, 0, 4);
	tcase_add_loop_test(tc, kvm_restore__takes_the_clock_as_it_is, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__keeps_what_is_in_the_pages, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__goes_on_from_the_number_of_the_tsc_page, 0, 6);
	tcase_add_loop_test(tc, kvm_restore__refuses_other_things, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__knows_registers_that_are_not_offered, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__without_a_vcpu, 0, 2);
	tcase_add_test(tc, kvm_restore__fails_as_kvm_does);
	tcase_add_loop_test(tc, lesson_06_state_saved_at_every_point, 0, 2);
}

VMBUS_TEST_MAIN("kvm.state", tests)
