/* SPDX-License-Identifier: MIT */
/* The threads of vCPUs, which have a filter before they run anything; it is made up (--wrap). */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <sys/eventfd.h>

#define CPUS 3u

static struct vmm vmm;
static struct kvm_run run[CPUS];
static int refused; /* of them */

int __wrap_vmm_filter_load(uint32_t roles);
int __wrap_vmm_filter_load(uint32_t roles)
{
	if (roles != VMM_ROLE_VCPU)
		return -1;
	return __atomic_fetch_sub(&refused, 1, __ATOMIC_RELAXED) > 0 ? -1 : 0;
}

/* A machine with three, of which so many get no filter. */
static int start(int without)
{
	uint32_t i;

	pthread_mutex_init(&vmm.lock, NULL);
	pthread_cond_init(&vmm.cond, NULL);
	vmm.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(vmm.event_fd, 0);
	vmm.vcpu_count = CPUS;
	for (i = 0; i < CPUS; i++)
		vmm.vcpus[i] =
			(struct vmm_vcpu){ .vmm = &vmm, .index = i, .fd = -1, .run = &run[i] };
	refused = without;
	return vmm_vcpus_start(&vmm);
}

START_TEST(vcpus_start__fails_when_one_has_no_filter)
{
	static const int without[] = { 0, 1, (int)CPUS };

	ck_assert_int_eq(start(without[_i]), without[_i] ? -1 : 0);
	ck_assert_uint_eq(vmm.parked, CPUS);
	vmm_vcpus_join(&vmm);
	close(vmm.event_fd);
}
END_TEST

/* With the sandbox off there is none, and nothing to refuse. */
START_TEST(vcpus_start__takes_none_without_the_sandbox)
{
	vmm.opts.no_sandbox = true;
	ck_assert_int_eq(start((int)CPUS), 0);
	ck_assert_int_eq(refused, (int)CPUS);
	vmm_vcpus_join(&vmm);
	close(vmm.event_fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vcpu", 20);

	tcase_add_loop_test(tc, vcpus_start__fails_when_one_has_no_filter, 0, 3);
	tcase_add_test(tc, vcpus_start__takes_none_without_the_sandbox);
}

VMBUS_TEST_MAIN("vmm.vcpu", tests)
