/* SPDX-License-Identifier: MIT */
/*
 * A thread for each vCPU: runs the guest, shows each exit to the library first, then to the ports.
 *
 * To stop them the main thread clears vmm->go and sends each a signal, whose handler sets
 * immediate_exit in the run page: so a signal that comes just before KVM_RUN is not lost.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define KICK SIGUSR1
#define STACK_BYTES (256u * 1024u)
#define COMPLETIONS 64u /* exits of one instruction */

static __thread struct vmm_vcpu *self;

static void kicked(int signal)
{
	(void)signal;
	if (self)
		self->run->immediate_exit = 1;
}

void vmm_ask(struct vmm *vmm, uint32_t ask)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&vmm->lock);
	vmm->asks |= ask;
	/* Whoever asks for an end or a reset runs no further; the others are stopped. */
	if (ask & (VMM_ASK_OFF | VMM_ASK_RESET | VMM_ASK_STUCK))
		vmm->go = false;
	pthread_mutex_unlock(&vmm->lock);
	if (write(vmm->event_fd, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

void vmm_vcpu_reset_register(void *vmm)
{
	if (self)
		self->halted = true;
	vmm_ask(vmm, VMM_ASK_RESET);
}

/* Wait until vCPUs may run.  False: the end. */
static bool may_run(struct vmm_vcpu *vcpu)
{
	struct vmm *const vmm = vcpu->vmm;
	bool quit;

	vcpu->run->immediate_exit = 0;
	vcpu->halted = false;
	pthread_mutex_lock(&vmm->lock);
	while (!vmm->go && !vmm->quit) {
		if (!vcpu->parked) {
			vcpu->parked = true;
			vmm->parked++;
			pthread_cond_broadcast(&vmm->cond);
		}
		pthread_cond_wait(&vmm->cond, &vmm->lock);
	}
	if (vcpu->parked && !vmm->quit) {
		vcpu->parked = false;
		vmm->parked--;
	}
	quit = vmm->quit;
	pthread_mutex_unlock(&vmm->lock);
	return !quit;
}

/* Returns false when this vCPU must stop and look. */
static bool port_event(struct vmm *vmm, enum vmm_port_event event, uint32_t value)
{
	switch (event) {
	case VMM_PORT_OFF:
		vmm_ask(vmm, VMM_ASK_OFF);
		return false;
	case VMM_PORT_RESET:
		vmm_ask(vmm, VMM_ASK_RESET);
		return false;
	case VMM_PORT_MARKED:
		vmm_stats_mark(vmm, value);
		return true;
	default:
		return true;
	}
}

static bool port_exit(struct vmm_vcpu *vcpu)
{
	struct kvm_run *const run = vcpu->run;
	uint8_t *at = (uint8_t *)run + run->io.data_offset;
	struct vmm *const vmm = vcpu->vmm;
	uint32_t i, value;
	bool on = true;

	for (i = 0; i < run->io.count; i++, at += run->io.size) {
		value = 0;
		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = vmm_port_in(&vmm->platform, run->io.port, run->io.size);
			memcpy(at, &value, run->io.size);
			continue;
		}
		memcpy(&value, at, run->io.size);
		on &= port_event(vmm, vmm_port_out(&vmm->platform, run->io.port, value), value);
	}
	return on;
}

static bool stuck(struct vmm_vcpu *vcpu, const char *why, uint64_t code)
{
	vmm_warn("vCPU %u: %s (0x%llx)", vcpu->index, why, (unsigned long long)code);
	vmm_cpu_dump(vcpu);
	vmm_ask(vcpu->vmm, VMM_ASK_STUCK);
	return false;
}

static bool system_event(struct vmm_vcpu *vcpu)
{
	const uint32_t type = vcpu->run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_RESET)
		vmm_ask(vcpu->vmm, VMM_ASK_RESET);
	else if (type == KVM_SYSTEM_EVENT_SHUTDOWN)
		vmm_ask(vcpu->vmm, VMM_ASK_OFF);
	else
		return stuck(vcpu, "KVM tells of an event that is not known here", type);
	return false;
}

/* An exit that the library does not know.  False: stop and look. */
static bool our_exit(struct vmm_vcpu *vcpu)
{
	struct kvm_run *const run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return port_exit(vcpu);
	case KVM_EXIT_MMIO:
		vmm_platform_unclaimed(&vcpu->vmm->platform);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xFF, sizeof(run->mmio.data));
		return true;
	case KVM_EXIT_SHUTDOWN:
		vmm_tell("vCPU %u: triple fault, taken as a reset", vcpu->index);
		vmm_ask(vcpu->vmm, VMM_ASK_RESET);
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		return system_event(vcpu);
	case KVM_EXIT_INTERNAL_ERROR:
		return stuck(vcpu,
			     "KVM cannot run what the guest does; a KVM without hardware behind it "
			     "knows few instructions.  Its error",
			     run->internal.suberror);
	case KVM_EXIT_FAIL_ENTRY:
		return stuck(vcpu, "the processor refuses the guest's state, reason",
			     run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_HLT:
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	default:
		return stuck(vcpu, "an exit that is not known here", run->exit_reason);
	}
}

/* False: stop and look. */
static bool handle(struct vmm_vcpu *vcpu)
{
	const int err = vmbus_kvm_handle_exit(vcpu->vmm->kvm, vcpu->index);

	if (err == 0)
		return our_exit(vcpu);
	if (err < 0)
		return stuck(vcpu, "KVM refused what the bus needs, exit", vcpu->run->exit_reason);
	return !vcpu->halted;
}

/*
 * KVM completes an exit at the beginning of the next run: one that runs nothing.  An instruction may
 * need several exits, of which each is told by such a run, until there is none.
 */
static void complete(struct vmm_vcpu *vcpu)
{
	uint32_t n;

	for (n = 0; n < COMPLETIONS; n++) {
		vcpu->run->immediate_exit = 1;
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
			return; /* EINTR, as it should */
		(void)handle(vcpu);
	}
}

/* Run until there is reason to look. */
static void run(struct vmm_vcpu *vcpu)
{
	bool on = true;

	while (on) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				return;
			stuck(vcpu, "KVM_RUN failed, errno", (uint64_t)errno);
			return;
		}
		on = handle(vcpu);
	}
	complete(vcpu);
}

static void *thread(void *arg)
{
	struct vmm_vcpu *const vcpu = arg;
	char name[16];
	sigset_t mask;

	self = vcpu;
	(void)snprintf(name, sizeof(name), "vcpu %u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	sigfillset(&mask);
	sigdelset(&mask, KICK);
	sigdelset(&mask, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (!vcpu->vmm->opts.no_sandbox && vmm_filter_load(VMM_ROLE_VCPU))
		vmm_ask(vcpu->vmm, VMM_ASK_STUCK);
	while (may_run(vcpu))
		run(vcpu);
	return NULL;
}

/* Whether one could not be filtered, and has said why. */
static bool has_stuck(struct vmm *vmm)
{
	bool yes;

	pthread_mutex_lock(&vmm->lock);
	yes = (vmm->asks & VMM_ASK_STUCK) != 0;
	pthread_mutex_unlock(&vmm->lock);
	return yes;
}

int vmm_vcpus_start(struct vmm *vmm)
{
	const struct sigaction on_kick = { .sa_handler = kicked };
	pthread_attr_t attr;
	uint32_t i;
	int err = 0;

	sigaction(KICK, &on_kick, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (i = 0; i < vmm->vcpu_count && !err; i++) {
		err = pthread_create(&vmm->vcpus[i].thread, &attr, thread, &vmm->vcpus[i]);
		vmm->vcpus[i].started = err == 0;
	}
	pthread_attr_destroy(&attr);
	if (err) {
		errno = err;
		return vmm_errno("a thread for vCPU %u; try fewer --cpus, or raise ulimit -u",
				 i - 1);
	}
	vmm_vcpus_stop(vmm); /* until all have come to may_run(), filtered */
	return has_stuck(vmm) ? -1 : 0;
}

void vmm_vcpus_go(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	vmm->go = true;
	pthread_cond_broadcast(&vmm->cond);
	pthread_mutex_unlock(&vmm->lock);
}

static uint32_t started(const struct vmm *vmm)
{
	uint32_t i, n = 0;

	for (i = 0; i < vmm->vcpu_count; i++)
		n += vmm->vcpus[i].started;
	return n;
}

void vmm_vcpus_stop(struct vmm *vmm)
{
	uint32_t i;

	pthread_mutex_lock(&vmm->lock);
	vmm->go = false;
	for (i = 0; i < vmm->vcpu_count; i++)
		if (vmm->vcpus[i].started && !vmm->vcpus[i].parked)
			pthread_kill(vmm->vcpus[i].thread, KICK);
	while (vmm->parked < started(vmm))
		pthread_cond_wait(&vmm->cond, &vmm->lock);
	pthread_mutex_unlock(&vmm->lock);
}

void vmm_vcpus_join(struct vmm *vmm)
{
	uint32_t i;

	pthread_mutex_lock(&vmm->lock);
	vmm->quit = true;
	pthread_cond_broadcast(&vmm->cond);
	pthread_mutex_unlock(&vmm->lock);
	for (i = 0; i < vmm->vcpu_count; i++)
		if (vmm->vcpus[i].started)
			pthread_join(vmm->vcpus[i].thread, NULL);
}
