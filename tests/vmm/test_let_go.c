/* SPDX-License-Identifier: MIT */
/* What vmbus-vmm does with disks and providers that do not let go; the bus is made up (--wrap). */
#define _GNU_SOURCE
#include "vmm_test.h"

#include "vmm.h"

static struct vmm vmm;
static struct vmbus_block_opts opts;
static uint64_t now_ns;
static uint32_t open_channels, restored;

int __wrap_vmbus_block_create(const struct vmbus_block_opts *from, struct vmbus_block **block);
int __wrap_vmbus_block_create(const struct vmbus_block_opts *from, struct vmbus_block **block)
{
	(void)block;
	opts = *from;
	return VMBUS_E_NOMEM;
}

int __wrap_vmbus_chan_fd(const struct vmbus_chan *chan);
int __wrap_vmbus_chan_fd(const struct vmbus_chan *chan)
{
	(void)chan;
	return 1;
}

/* Channels are numbers; every other one is of the NIC. */
void *__wrap_vmbus_chan_ctx(const struct vmbus_chan *chan);
void *__wrap_vmbus_chan_ctx(const struct vmbus_chan *chan)
{
	return (uintptr_t)chan % 2 ? &now_ns : NULL;
}

void __wrap_vmbus_chan_info(const struct vmbus_chan *chan, struct vmbus_chan_info *info);
void __wrap_vmbus_chan_info(const struct vmbus_chan *chan, struct vmbus_chan_info *info)
{
	(void)chan;
	memset(info, 0, sizeof(*info));
	info->send_bytes = open_channels ? 4096 : 0;
}

int __wrap_vmbus_kvm_fd(const struct vmbus_kvm *kvm);
int __wrap_vmbus_kvm_fd(const struct vmbus_kvm *kvm)
{
	(void)kvm;
	return -1;
}

int __wrap_vmbus_kvm_dispatch(struct vmbus_kvm *kvm, uint32_t budget);
int __wrap_vmbus_kvm_dispatch(struct vmbus_kvm *kvm, uint32_t budget)
{
	(void)kvm;
	(void)budget;
	return 0;
}

int __wrap_vmbus_kvm_reset(struct vmbus_kvm *kvm);
int __wrap_vmbus_kvm_reset(struct vmbus_kvm *kvm)
{
	(void)kvm;
	return 0;
}

uint64_t __wrap_vmm_now_ns(void);
uint64_t __wrap_vmm_now_ns(void)
{
	return now_ns += 500000000u;
}

/* A provider that was killed, or says that it is done, lets go at some time. */
static uint64_t lets_go_ns;
static uint32_t told;

void __wrap_vmbus_provider_host_list(struct vmbus_provider_host *host,
				     void (*fn)(void *ctx, const struct vmbus_provider_info *info),
				     void *ctx);
void __wrap_vmbus_provider_host_list(struct vmbus_provider_host *host,
				     void (*fn)(void *ctx, const struct vmbus_provider_info *info),
				     void *ctx)
{
	const struct vmbus_provider_info info = { .name = "echo",
						  .pid = 77,
						  .held = now_ns < lets_go_ns };

	(void)host;
	fn(ctx, &info);
}

int __wrap_vmbus_provider_host_fd(const struct vmbus_provider_host *host);
int __wrap_vmbus_provider_host_fd(const struct vmbus_provider_host *host)
{
	(void)host;
	return -1;
}

int __wrap_vmbus_provider_host_dispatch(struct vmbus_provider_host *host, uint32_t budget);
int __wrap_vmbus_provider_host_dispatch(struct vmbus_provider_host *host, uint32_t budget)
{
	(void)host;
	(void)budget;
	told++;
	return 0;
}

int __wrap_vmm_pristine_restore(struct vmm *of);
int __wrap_vmm_pristine_restore(struct vmm *of)
{
	(void)of;
	restored++;
	return -1; /* no further */
}

static void begin(void)
{
	memset(&vmm, 0, sizeof(vmm));
	(void)pthread_mutex_init(&vmm.disks.lock, NULL);
	vmm.disks.chans[1] = (struct vmbus_chan *)&vmm; /* never looked at */
}

START_TEST(disks_let_go__is_over_when_no_ring_is_open)
{
	begin();
	ck_assert_int_eq(vmm_disks_let_go(&vmm), 0);
	vmm.disks.chans[1] = NULL;
	open_channels = 1;
	ck_assert_int_eq(vmm_disks_let_go(&vmm), 0);
	ck_assert_uint_lt(now_ns, UINT64_C(2000000000));
}
END_TEST

/* Memory stays as it is: what the store answers later would be in that of the next boot. */
START_TEST(partition_reset__ends_when_a_store_keeps_a_request)
{
	begin();
	open_channels = 1;
	listen_to_us();
	ck_assert_int_eq(vmm_partition_reset(&vmm), -1);
	ck_said("a store has not ended a request of the guest's in 6 s: the machine cannot be "
		"reset");
	ck_assert_uint_ge(now_ns, UINT64_C(6000000000));
	ck_assert_uint_eq(restored, 0);
	ck_assert(vmm.disks.stuck);
	open_channels = 0;
	ck_assert_int_eq(vmm_partition_reset(&vmm), -1);
	ck_assert_uint_eq(restored, 1);
	ck_assert(!vmm.disks.stuck);
}
END_TEST

/* What the bus has closed is told by a dispatch of the host, and a process may be at work until then. */
START_TEST(partition_reset__waits_for_providers)
{
	begin();
	vmm.disks.chans[1] = NULL;
	vmm.opts.provider_count = 2;
	vmm.providers[1].host = (struct vmbus_provider_host *)&vmm; /* never looked at */
	lets_go_ns = now_ns + UINT64_C(9000000000); /* its sub-channels, then its channel */
	ck_assert_int_eq(vmm_partition_reset(&vmm), -1);
	ck_assert_uint_ge(now_ns, lets_go_ns);
	ck_assert_uint_gt(told, 0);
	ck_assert_uint_eq(restored, 1);
	lets_go_ns = UINT64_MAX;
	listen_to_us();
	ck_assert_int_eq(vmm_partition_reset(&vmm), -1);
	ck_said("echo, process 77, has not let go of the guest's rings in 11 s: the machine cannot "
		"be "
		"reset");
	ck_assert_uint_eq(restored, 1);
}
END_TEST

/* The address may be another disk's by now. */
START_TEST(disks_removed__goes_by_the_store)
{
	static int stores[2];
	struct vmbus_store gone = { .ctx = &stores[0] };
	uint32_t i;

	begin();
	listen_to_us();
	vmm.opts.disk_count = 1;
	ck_assert_int_eq(vmm_disks_create(&vmm), -1);
	ck_said("the controller");
	for (i = 0; i < 2; i++)
		vmm.disks.disk[i] = (struct vmm_disk){
			.used = true, .target = 1, .lun = 3, .store = { .ctx = &stores[i] }
		};
	opts.removed(opts.ctx, 1, 3, &gone);
	ck_assert(!vmm.disks.disk[0].used);
	ck_assert(vmm.disks.disk[1].used && vmm.disks.disk[1].lun == 3);
}
END_TEST

/* However a bus came to have so many: each has a place, and is waited for. */
START_TEST(disks_offered__has_a_place_for_each_channel)
{
	uintptr_t n;
	uint32_t i;

	memset(&vmm, 0, sizeof(vmm));
	vmm.opts.net_count = 1;
	vmm.nets.net[0].net = (struct vmbus_net *)&now_ns;
	listen_to_us();
	for (n = 1; n <= VMM_CHANNELS_MAX; n++)
		vmm_disks_offered(&vmm, (struct vmbus_chan *)(2 * n - (uintptr_t)_i));
	ck_assert_str_eq(what_we_said(), "");
	for (i = 0; i < VMM_CHANNELS_MAX; i++)
		ck_assert_ptr_nonnull(_i ? vmm.nets.chans[i] : vmm.disks.chans[i]);
	open_channels = 1;
	listen_to_us();
	ck_assert_int_eq(_i ? vmm_nets_let_go(&vmm) : vmm_disks_let_go(&vmm), -1);
	for (n = 1; n <= VMM_CHANNELS_MAX; n++) {
		vmm_disks_removed(&vmm, (struct vmbus_chan *)(2 * n));
		vmm_nets_removed(&vmm, (struct vmbus_chan *)(2 * n - 1));
	}
	ck_assert_int_eq(_i ? vmm_nets_let_go(&vmm) : vmm_disks_let_go(&vmm), 0);
	ck_said("the machine cannot be reset");
	open_channels = 0;
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "let_go", 60);

	tcase_add_test(tc, disks_let_go__is_over_when_no_ring_is_open);
	tcase_add_test(tc, partition_reset__ends_when_a_store_keeps_a_request);
	tcase_add_test(tc, partition_reset__waits_for_providers);
	tcase_add_test(tc, disks_removed__goes_by_the_store);
	tcase_add_loop_test(tc, disks_offered__has_a_place_for_each_channel, 0, 2);
}

VMBUS_TEST_MAIN("vmm.let_go", tests)
