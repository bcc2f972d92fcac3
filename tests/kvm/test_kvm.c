/* SPDX-License-Identifier: MIT */
/*
 * A partition as a whole, over a KVM of our own, by both ways: what it asks of KVM, what it refuses,
 * and a guest that connects and moves data through it.  The loop variable _i is the way.
 */
#include "kvm/part.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <vmbus/echo.h>

static struct part p;

START_TEST(kvm_create__asks_for_what_its_way_needs)
{
	struct vmbus_kvm_stats stats;

	part_begin(&p, _i);
	must_eq(fake.msr_exits, KVM_MSR_EXIT_REASON_FILTER);
	if (_i) {
		must_eq(fake.filter_ranges, 2);
		must_eq(fake.filter_first[0], 0x40000003);
		must_eq(fake.filter_count[0], 1);
		must_eq(fake.filter_first[1], 0x40000100);
		must_eq(fake.filter_count[1], 6);
		must(fake.vcpu[0].has_synic && fake.vcpu[0].enforces);
		must_eq(fake.route_count, 42); /* 40 pins, and 2 of ours */
		must_eq(fake.routes[40].type, KVM_IRQ_ROUTING_HV_SINT);
		must(fake.event_fd[33] && fake.resample_fd[33]);
		must(fake.resample_fd[32] == 0);
	} else {
		must_eq(fake.filter_ranges, 1);
		must_eq(fake.filter_first[0], 0x40000000);
		must_eq(fake.filter_count[0], 0x200);
		must_eq(fake.routings, 1); /* the default table */
		must_eq(fake_run(0)->kvm_valid_regs, KVM_SYNC_X86_REGS);
	}
	must(fake.event_fd[32] != 0);
	vmbus_kvm_stats(p.kvm, &stats);
	must_eq(stats.exits, 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_create__leaves_an_embedders_filter_alone)
{
	struct vmbus_kvm_opts opts;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.keeps_filter = true;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(fake.msr_exits, 0);
	must_eq(fake.filter_ranges, 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_create__tells_of_a_refused_table_of_routes)
{
	struct vmbus_kvm_opts opts;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	fake.fail_request = KVM_SET_GSI_ROUTING;
	fake.fail_in = 1;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), VMBUS_E_SYSTEM);
	must_eq(errno, EIO);
	must_eq(p.lines, 1);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	part_end(&p);
}
END_TEST

static int create_with(struct vmbus_kvm_opts *opts)
{
	const int err = vmbus_kvm_create(opts, &p.kvm);

	must(err != 0);
	return err;
}

START_TEST(kvm_create__refuses_wrong_options)
{
	struct vmbus_kvm_opts good, opts;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &good);
	opts = good;
	opts.struct_bytes--;
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	opts = good;
	opts.way = (enum vmbus_kvm_way)7;
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "opts.way is 7, must be 0 to 2 (INVAL)"));
	opts = good;
	opts.vm_fd = -1;
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "opts.vm_fd is -1"));
	opts = good;
	opts.vm_fd = 0; /* one, but not KVM's */
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "opts.vm_fd is 0, must be a virtual machine"));
	opts = good;
	opts.vm_fd = FAKE_KVM_FD; /* KVM's, and none that was made with it */
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "must be a virtual machine"));
	opts = good;
	opts.kvm_fd = -1;
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "opts.kvm_fd is -1"));
	opts = good;
	opts.kvm_fd = 0; /* one, but not KVM's */
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	must(strstr(p.line, "opts.kvm_fd is 0, must be /dev/kvm"));
	opts = good;
	opts.bus.struct_bytes = 1;
	must_eq(create_with(&opts), VMBUS_E_INVAL);
	opts = good;
	opts.vps_max = VMBUS_KVM_VPS_MAX + 1;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "opts.vps_max is 255, must be at most 254 (RANGE)"));
	opts = good;
	opts.gsi = 23;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "opts.gsi is 23, must be 24 or more"));
	opts = good;
	opts.gsi = FAKE_GSIS - 2 * FAKE_VPS + 1;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	opts = good;
	must(strstr(p.line, "opts.gsi is 4081"));
	opts.gsi = 0xFFFFFFFF;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "opts.gsi is 4294967295, must be at most 65535"));
	opts = good;
	opts.port = 0xF801;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "opts.port is 63489"));
	opts = good;
	opts.bus.posts_max = 1000; /* of the bus: it tells */
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "opts.posts_max is 1000, must be at most 64"));
	opts = good;
	p.region.bytes++;
	must_eq(create_with(&opts), VMBUS_E_RANGE);
	must(strstr(p.line, "regions[0]->bytes is "));
	p.region.bytes--;
	child_fini(&p.mem);
}
END_TEST

static const uint32_t needs[][8] = {
	{ KVM_CAP_IRQFD, KVM_CAP_IRQ_ROUTING, KVM_CAP_ADJUST_CLOCK, KVM_CAP_X86_USER_SPACE_MSR,
	  KVM_CAP_X86_MSR_FILTER, KVM_CAP_IOEVENTFD, KVM_CAP_SIGNAL_MSI },
	{ KVM_CAP_IRQFD, KVM_CAP_HYPERV_SYNIC2, KVM_CAP_HYPERV_EVENTFD, KVM_CAP_HYPERV_VP_INDEX,
	  KVM_CAP_HYPERV_TIME, KVM_CAP_IRQFD_RESAMPLE },
};

START_TEST(kvm_create__says_what_kvm_lacks)
{
	struct vmbus_kvm_opts opts;
	uint32_t n;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	for (n = 0; n < 8 && needs[_i][n]; n++) {
		vmbus_test_at("capability %u", needs[_i][n]);
		opts.way = _i ? VMBUS_KVM_KERNEL : VMBUS_KVM_USER;
		fake.lacks = needs[_i][n];
		p.lines = 0;
		must_eq(create_with(&opts), VMBUS_E_NOTSUP);
		must_eq(p.lines, 1);
		must(strstr(p.line, "KVM_CAP_") != NULL);
	}
	child_fini(&p.mem);
}
END_TEST

START_TEST(kvm_create__goes_the_other_way_if_it_may)
{
	struct vmbus_kvm_opts opts;

	fake_begin(true);
	part_memory(&p);
	part_opts(&p, &opts);
	fake.lacks = KVM_CAP_HYPERV_EVENTFD;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(vmbus_kvm_way(p.kvm), VMBUS_KVM_USER);
	part_end(&p);
	/* With the I/O APIC in user space nobody tells of an end of interrupt. */
	fake_begin(true);
	fake.split = true;
	part_memory(&p);
	part_opts(&p, &opts);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(vmbus_kvm_way(p.kvm), VMBUS_KVM_USER);
	part_end(&p);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.way = VMBUS_KVM_KERNEL;
	must_eq(create_with(&opts), VMBUS_E_NOTSUP);
	must(strstr(p.line, "I/O APIC") != NULL);
	child_fini(&p.mem);
}
END_TEST

START_TEST(kvm_create__fails_as_kvm_does)
{
	static const unsigned long requests[] = { KVM_ENABLE_CAP, KVM_X86_SET_MSR_FILTER };
	struct vmbus_kvm_opts opts;
	uint32_t n;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	for (n = 0; n < 2; n++) {
		fake.fail_request = requests[n];
		fake.fail_in = 1;
		must_eq(create_with(&opts), VMBUS_E_SYSTEM);
		must_eq(errno, EIO);
		must_eq(vmbus_region_pins(&p.region), 0);
	}
	child_fini(&p.mem);
}
END_TEST

START_TEST(kvm_create__tells_of_few_descriptors)
{
	const struct rlimit few = { 200, 200 };
	struct vmbus_kvm_opts opts;
	int fds[200], n = 0;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	must_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must(strstr(p.line, "200 descriptors") && strstr(p.line, "ulimit -n"));
	vmbus_kvm_destroy(p.kvm);
	/* And with fewer than it needs, however many these are. */
	while ((fds[n] = dup(0)) >= 0)
		n++;
	for (;;) {
		const int err = vmbus_kvm_create(&opts, &p.kvm);

		if (!err)
			break;
		must_eq(err, VMBUS_E_SYSTEM);
		must_eq(errno, EMFILE);
		must(n > 0);
		close(fds[--n]);
	}
	must_eq(vmbus_kvm_way(p.kvm), _i ? VMBUS_KVM_KERNEL : VMBUS_KVM_USER);
	while (part_add(&p, 0) == VMBUS_E_SYSTEM) {
		must_eq(errno, EMFILE);
		must(n > 0);
		close(fds[--n]);
	}
	while (n > 0)
		close(fds[--n]);
	part_end(&p);
	vmbus_kvm_destroy(NULL);
}
END_TEST

/* What it could not try is nothing that KVM lacks, and no reason to go the other way. */
START_TEST(kvm_create__without_descriptors_does_not_choose_a_way)
{
	const struct rlimit few = { 200, 200 };
	struct vmbus_kvm_opts opts;
	int fds[200], n = 0, left;

	fake_begin(true);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.way = _i ? VMBUS_KVM_KERNEL : VMBUS_KVM_AUTO;
	must_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((fds[n] = dup(0)) >= 0)
		n++;
	for (left = 0; left < 2; left++) {
		vmbus_test_at("%d descriptors left", left);
		must_eq(vmbus_kvm_create(&opts, &p.kvm), VMBUS_E_SYSTEM);
		must_eq(errno, EMFILE);
		must(strstr(p.line, "eventfds: Too many open files; raise ulimit -n") != NULL);
		must(strstr(p.line, "has no") == NULL);
		close(fds[--n]);
	}
	while (n > 0)
		close(fds[--n]);
	/* And when it is KVM that has no memory for it. */
	fake.fail_request = KVM_IRQFD;
	fake.fail_in = 1;
	fake.fail_errno = ENOMEM;
	must_eq(create_with(&opts), VMBUS_E_SYSTEM);
	must_eq(errno, ENOMEM);
	must(strstr(p.line, "eventfds: Cannot allocate memory") != NULL);
	child_fini(&p.mem);
}
END_TEST

/* Name and list of regions are the embedder's again after create. */
START_TEST(kvm_create__keeps_no_name_of_the_embedders)
{
	struct vmbus_kvm_opts opts;
	char *const name = strdup("guest 7");

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.bus.name = name;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	memset(name, 'x', strlen(name));
	free(name);
	fake.fail_request = KVM_IRQFD;
	fake.fail_in = 1;
	must_eq(part_add(&p, 0), VMBUS_E_SYSTEM);
	must(strncmp(p.line, "guest 7: no interrupts for vCPU 0", 33) == 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_create__without_a_rate_offers_none)
{
	struct kvm_cpuid_entry2 entries[32] = { { .function = 1 } };
	struct vmbus_kvm_opts opts;
	uint64_t value;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	fake.fail_request = KVM_GET_TSC_KHZ;
	fake.fail_in = 1;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(vmbus_kvm_cpuid(p.kvm, entries, 1, 32), 17);
	must_eq(entries[4].eax & 1u << 11, 0);
	must_eq(part_add(&p, 0), 0);
	part_enable(&p);
	if (!_i) { /* the page takes that of the vCPU */
		must(!fake_wrmsr(p.kvm, 0, 0x40000021, part_gpa(&p, p.input) | 1));
		must(vmbus_hv_read_tsc(p.input, fake.tsc, &value));
	}
	part_end(&p);
}
END_TEST

START_TEST(kvm_add_vcpu__refuses)
{
	static const unsigned long requests[2][3] = {
		{ KVM_IRQFD }, { KVM_ENABLE_CAP, KVM_IRQFD, KVM_SET_GSI_ROUTING }
	};
	uint32_t n;

	part_begin(&p, _i);
	must_eq(part_add(&p, 0), VMBUS_E_STATE);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 0, 0, -1, fake_run(0)), VMBUS_E_INVAL);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 0, 0, FAKE_VCPU_FD, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 0, 0, FAKE_VCPU_FD, MAP_FAILED), VMBUS_E_INVAL);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, FAKE_VPS, 1, FAKE_VCPU_FD, fake_run(0)), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 1, 255, FAKE_VCPU_FD + 1, fake_run(1)), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 1, 256, FAKE_VCPU_FD + 1, fake_run(1)), VMBUS_E_RANGE);
	for (n = 0; n < 3 && requests[_i][n]; n++) {
		vmbus_test_at("request %u", n);
		fake.fail_request = requests[_i][n];
		fake.fail_in = 1;
		must_eq(part_add(&p, 1), VMBUS_E_SYSTEM);
		must_eq(errno, EIO);
		if (requests[_i][n] == KVM_IRQFD)
			must(strstr(p.line, "no interrupts for vCPU 1 (errno 5): KVM refused"));
		must_eq(vmbus_kvm_handle_exit(p.kvm, 1), VMBUS_E_STATE);
	}
	fake.frozen = 0x40000002;
	must_eq(part_add(&p, 1), _i ? VMBUS_E_SYSTEM : 0);
	fake.frozen = 0;
	must_eq(part_add(&p, 1), _i ? 0 : VMBUS_E_STATE);
	must_eq(fake.vcpu[1].vp_index, _i);
	must_eq(vmbus_kvm_remove_vcpu(p.kvm, 1), 0);
	must_eq(vmbus_kvm_remove_vcpu(p.kvm, 1), VMBUS_E_STATE);
	must_eq(vmbus_kvm_remove_vcpu(p.kvm, FAKE_VPS), VMBUS_E_STATE);
	must_eq(vmbus_kvm_handle_exit(p.kvm, 1), VMBUS_E_STATE);
	must_eq(vmbus_kvm_handle_exit(p.kvm, FAKE_VPS), VMBUS_E_STATE);
	must_eq(part_add(&p, 1), 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_cpuid__replaces_leaves_of_others)
{
	struct kvm_cpuid_entry2 entries[32] = { { .function = 1 },
						{ .function = 0x40000000, .ebx = 1 },
						{ .function = 6 },
						{ .function = 0x40000100, .ebx = 2 },
						{ .function = 0x80000000 } };
	int count, n;

	part_begin(&p, _i);
	must_eq(vmbus_kvm_cpuid(p.kvm, entries, 5, 18), VMBUS_E_RANGE);
	must_eq(vmbus_kvm_cpuid(p.kvm, entries, 5, 4), VMBUS_E_RANGE);
	must_eq(entries[1].ebx, 1);
	count = vmbus_kvm_cpuid(p.kvm, entries, 5, 5 + 16);
	must_eq(count, 19);
	must(entries[0].ecx & 1u << 31);
	must(entries[1].function == 6 && (entries[1].eax & 4));
	must_eq(entries[3].function, 0x40000000);
	must_eq(entries[3].ebx, 0x7263694D);
	must_eq(entries[6].function, 0x40000003);
	must_eq(entries[6].eax & 0x8AEE, 0x8AE6); /* no synthetic timers */
	must(entries[6].edx & 1u << 10);	  /* crash */
	must(entries[7].eax & 1u << 9);		  /* no auto-EOI */
	for (n = 4; n < count; n++)
		must(entries[n].function < 0x40000100);
	must_eq(entries[count - 1].function, 0x40000082);
	part_end(&p);
}
END_TEST

START_TEST(kvm_handle_exit__leaves_others_alone)
{
	struct kvm_run *run = fake_run(0);

	part_begin(&p, _i);
	run->exit_reason = KVM_EXIT_MMIO;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->exit_reason = KVM_EXIT_IO;
	run->io.count = run->io.size = 1;
	run->io.port = 0x3F8;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->io.port = 0x9FFF;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->io.port = 0xA800;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->io.port = 0xA000;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), _i ? 0 : 1);
	run->exit_reason = KVM_EXIT_X86_RDMSR;
	run->msr.index = 0x3FFFFFFF;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->msr.index = 0x40000200;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	run->msr.index = 0x40000080;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), _i ? 0 : 1);
	run->exit_reason = KVM_EXIT_HYPERV;
	run->hyperv.type = KVM_EXIT_HYPERV_SYNDBG;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), 0);
	part_end(&p);
}
END_TEST

/* ---- data ---- */

static void offer_echo(uint32_t count)
{
	uint32_t n;

	for (n = 0; n < count; n++)
		must_eq(vmbus_bus_offer(p.bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
}

static void run_echo(uint64_t packets)
{
	static struct vmbus_echo echo;
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts), .packets = packets };

	opts.window = 64;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = 65536;
	opts.completions = true;
	memset(&echo, 0, sizeof(echo));
	must(p.vsc != NULL);
	must_eq(vmbus_echo_start(&echo, p.vsc, &opts), 0);
	part_settle(&p);
	must(echo.done);
	must_eq(echo.err, 0);
	must_eq(echo.received, packets);
	must_eq(vmbus_vsc_close(p.vsc), 0);
	part_settle(&p);
}

START_TEST(kvm_dispatch__serves_a_guest)
{
	struct vmbus_kvm_stats stats;
	struct pollfd poll_fd;

	part_begin(&p, _i);
	offer_echo(1);
	part_enable(&p);
	part_guest(&p);
	part_connect(&p);
	run_echo(10000);
	vmbus_kvm_stats(p.kvm, &stats);
	must_eq(stats.exits_signal, 0); /* all by descriptor */
	must_eq(stats.bad, 0);
	must_eq(stats.bound, 0);
	must(stats.messages > 3 && stats.interrupts > 3 && stats.slots_busy > 0);
	must_eq(stats.exits_synic, _i ? 3 : 0);
	must(fake_interrupts(0) > 0);
	part_dispatch(&p);
	poll_fd = (struct pollfd){ .fd = vmbus_kvm_fd(p.kvm), .events = POLLIN };
	must_eq(poll(&poll_fd, 1, 0), 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_dispatch__serves_a_guest_without_descriptors)
{
	struct vmbus_kvm_stats stats;

	part_begin(&p, _i);
	offer_echo(1);
	part_enable(&p);
	part_guest(&p);
	part_connect(&p);
	fake.fail_request = _i ? KVM_HYPERV_EVENTFD : KVM_IOEVENTFD;
	fake.fail_in = 1;
	run_echo(1000);
	vmbus_kvm_stats(p.kvm, &stats);
	must(stats.exits_signal > 0);
	must_eq(stats.bad, 0);
	part_end(&p);
}
END_TEST

static uint32_t opened;

static void count_opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	must_eq(err, 0);
	opened++;
}

static void open_one(void *ctx, struct vmbus_vsc *vsc)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };

	(void)ctx;
	opts.send_bytes = opts.recv_bytes = 8192;
	opts.opened = count_opened;
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
}

START_TEST(kvm_dispatch__binds_every_open_channel)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_kvm_stats stats;

	part_begin(&p, _i);
	offer_echo(100);
	part_enable(&p);
	part_guest(&p);
	vmbus_guest_destroy(p.guest);
	opts.backend = &p.backend;
	opts.backend_ctx = &p;
	opts.offered = open_one;
	opened = 0;
	must_eq(vmbus_guest_create(&opts, &p.guest), 0);
	part_connect(&p);
	part_settle(&p);
	must_eq(opened, 100);
	vmbus_kvm_stats(p.kvm, &stats);
	must_eq(stats.bound, 100);
	must_eq(vmbus_guest_disconnect(p.guest), 0);
	part_settle(&p);
	vmbus_kvm_stats(p.kvm, &stats);
	must_eq(stats.bound, 0);
	part_end(&p);
}
END_TEST

/* However the guest before it ended. */
START_TEST(kvm_reset__serves_the_next_guest)
{
	uint32_t n;

	part_begin(&p, _i);
	offer_echo(1);
	for (n = 0; n < 20; n++) {
		vmbus_test_at("round %u", n);
		part_enable(&p);
		part_guest(&p);
		part_connect(&p);
		if (n % 3 == 0)
			run_echo(100);
		if (n % 3 == 1)
			must_eq(vmbus_guest_disconnect(p.guest), 0);
		vmbus_guest_destroy(p.guest);
		p.guest = NULL;
		must_eq(vmbus_kvm_reset(p.kvm), 0);
		part_dispatch(&p);
	}
	part_end(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "create", 10);

	tcase_add_loop_test(tc, kvm_create__asks_for_what_its_way_needs, 0, 2);
	tcase_add_loop_test(tc, kvm_create__leaves_an_embedders_filter_alone, 0, 2);
	tcase_add_loop_test(tc, kvm_create__tells_of_a_refused_table_of_routes, 0, 2);
	tcase_add_loop_test(tc, kvm_create__refuses_wrong_options, 0, 2);
	tcase_add_loop_test(tc, kvm_create__says_what_kvm_lacks, 0, 2);
	tcase_add_test(tc, kvm_create__goes_the_other_way_if_it_may);
	tcase_add_loop_test(tc, kvm_create__fails_as_kvm_does, 0, 2);
	tcase_add_loop_test(tc, kvm_create__tells_of_few_descriptors, 0, 2);
	tcase_add_loop_test(tc, kvm_create__without_descriptors_does_not_choose_a_way, 0, 2);
	tcase_add_loop_test(tc, kvm_create__keeps_no_name_of_the_embedders, 0, 2);
	tcase_add_loop_test(tc, kvm_create__without_a_rate_offers_none, 0, 2);
	tcase_add_loop_test(tc, kvm_add_vcpu__refuses, 0, 2);
	tcase_add_loop_test(tc, kvm_cpuid__replaces_leaves_of_others, 0, 2);
	tcase_add_loop_test(tc, kvm_handle_exit__leaves_others_alone, 0, 2);
	tc = vmbus_test_case(suite, "data", 20);
	tcase_add_loop_test(tc, kvm_dispatch__serves_a_guest, 0, 2);
	tcase_add_loop_test(tc, kvm_dispatch__serves_a_guest_without_descriptors, 0, 2);
	tcase_add_loop_test(tc, kvm_dispatch__binds_every_open_channel, 0, 2);
	tcase_add_loop_test(tc, kvm_reset__serves_the_next_guest, 0, 2);
}

VMBUS_TEST_MAIN("kvm.kvm", tests)
