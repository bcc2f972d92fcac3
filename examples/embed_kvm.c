/* SPDX-License-Identifier: MIT */
/*
 * The bus in somebody else's VMM.  This one is the smallest there can be: one vCPU, 2 MiB of memory,
 * and a guest of a few instructions that asks CPUID who is there and powers off.  What the library
 * needs of a VMM begins with "vmbus:" below; docs/embedding.md goes through it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <vmbus/echo.h>
#include <vmbus/kvm.h>

#include "example.h"

#define MEMORY (2u << 20)
#define LEAVES 256u
#define CODE 0x1000

/* Real mode: asks leaf 0x40000000, writes three registers to port 0x10, and anything to 0x11. */
static const uint8_t code[] = { 0x66, 0xb8, 0,	  0,	0,    0x40, 0x0f, 0xa2, 0x66, 0x89,
				0xd8, 0x66, 0xe7, 0x10, 0x66, 0x89, 0xc8, 0x66, 0xe7, 0x10,
				0x66, 0x89, 0xd0, 0x66, 0xe7, 0x10, 0xe6, 0x11, 0xf4 };

struct machine {
	int kvm, vm, vcpu, off; /* off: an eventfd, when the vCPU's thread ends */
	bool powered_off;	/* why it ended */
	struct kvm_run *run;
	struct vmbus_region memory;
	struct vmbus_kvm *bus;
};

static int need(int value, const char *what)
{
	if (value < 0)
		perror(what);
	return must(value < 0 ? VMBUS_E_SYSTEM : value, what);
}

/* The VMM's own part: a VM with interrupt controllers, memory and a vCPU. */
static void machine_create(struct machine *m)
{
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY };

	m->off = need(eventfd(0, EFD_CLOEXEC), "eventfd");
	m->vm = need(ioctl(m->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	need(ioctl(m->vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
	need(ioctl(m->vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	m->memory.fd = need(memfd_create("guest", MFD_CLOEXEC), "memfd_create");
	need(ftruncate(m->memory.fd, MEMORY), "ftruncate");
	m->memory.host = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, m->memory.fd, 0);
	need(m->memory.host == MAP_FAILED ? -1 : 0, "mmap of the memory");
	m->memory.bytes = MEMORY;
	m->memory.access = VMBUS_READ_WRITE;
	slot.userspace_addr = (uint64_t)(uintptr_t)m->memory.host;
	need(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	m->vcpu = need(ioctl(m->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	m->run = mmap(NULL, (size_t)ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
		      PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	need(m->run == MAP_FAILED ? -1 : 0, "mmap of the vCPU");
	memcpy((uint8_t *)m->memory.host + CODE, code, sizeof(code));
}

/* vmbus: a bus, when the interrupt controllers are there, and a device on it. */
static void bus_create(struct machine *m)
{
	struct vmbus_region *const regions[] = { &m->memory };
	struct vmbus_kvm_opts opts = { .struct_bytes = sizeof(opts) };

	opts.kvm_fd = m->kvm;
	opts.vm_fd = m->vm;
	opts.tsc_hz = (uint64_t)need(ioctl(m->vcpu, KVM_GET_TSC_KHZ), "KVM_GET_TSC_KHZ") * 1000u;
	opts.bus.struct_bytes = sizeof(opts.bus);
	opts.bus.regions = regions;
	opts.bus.region_count = 1;
	must(vmbus_kvm_create(&opts, &m->bus), "make the bus");
	must(vmbus_bus_offer(vmbus_kvm_bus(m->bus), vmbus_echo_vsp(), NULL, NULL, NULL), "offer");
}

/* vmbus: each vCPU gets our CPUID leaves, and is shown to the library before it runs. */
static void vcpu_set_up(struct machine *m)
{
	struct kvm_cpuid2 *const cpuid =
		must_be(calloc(1, sizeof(*cpuid) + LEAVES * sizeof(cpuid->entries[0])), "memory");
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;

	cpuid->nent = LEAVES - 16;
	need(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
	cpuid->nent = (uint32_t)must(vmbus_kvm_cpuid(m->bus, cpuid->entries, cpuid->nent, LEAVES),
				     "CPUID");
	need(ioctl(m->vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	free(cpuid);
	must(vmbus_kvm_add_vcpu(m->bus, 0, 0, m->vcpu, m->run), "add the vCPU");
	need(ioctl(m->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	need(ioctl(m->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	need(ioctl(m->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* vmbus: a line in the loop of each vCPU.  What the library does not know is the VMM's. */
static void *vcpu_thread(void *arg)
{
	struct machine *const m = arg;

	/* A signal by itself is no reason to end; main() sets immediate_exit. */
	while (!m->powered_off && !__atomic_load_n(&m->run->immediate_exit, __ATOMIC_RELAXED)) {
		if (ioctl(m->vcpu, KVM_RUN, 0) && (errno == EINTR || errno == EAGAIN))
			continue;
		if (must(vmbus_kvm_handle_exit(m->bus, 0), "handle an exit"))
			continue;
		if (m->run->exit_reason != KVM_EXIT_IO)
			break;
		m->powered_off = m->run->io.port == 0x11;
		if (m->run->io.port == 0x10)
			printf("%.4s", (const char *)m->run + m->run->io.data_offset);
	}
	need(eventfd_write(m->off, 1), "eventfd_write");
	return NULL;
}

static void kick(int number)
{
	(void)number; /* that it came is enough */
}

int main(void)
{
	struct machine m = { .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
	pthread_t thread;

	if (m.kvm < 0) {
		perror("/dev/kvm: skipped");
		return 77;
	}
	machine_create(&m);
	bus_create(&m);
	vcpu_set_up(&m);
	signal(SIGUSR1, kick);
	must(pthread_create(&thread, NULL, vcpu_thread, &m) ? VMBUS_E_SYSTEM : 0, "start the vCPU");
	/* vmbus: one descriptor in the VMM's own event loop; the bus starts no thread. */
	struct pollfd fds[] = { { vmbus_kvm_fd(m.bus), POLLIN, 0 }, { m.off, POLLIN, 0 } };
	while (poll(fds, 2, 10000) > 0 && !fds[1].revents)
		must(vmbus_kvm_dispatch(m.bus, 64), "dispatch");
	/* First the flag, then a signal: a vCPU about to run sees one, one that runs the other. */
	__atomic_store_n(&m.run->immediate_exit, 1, __ATOMIC_RELAXED);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	/* vmbus: the bus ends before the VM that it lives in. */
	vmbus_kvm_destroy(m.bus);
	printf("\n");
	return m.powered_off ? 0 : 1;
}
