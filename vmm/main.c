/* SPDX-License-Identifier: MIT */
/*
 * vmbus-vmm: a virtual machine with nothing but a bus.  This is the order of things; vmm.h says which
 * file does what, vmbus-vmm(1) what it is for, docs/embedding.md how to do the same elsewhere.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define DESCRIPTORS 8192u /* 2,047 channels, 254 vCPUs, and some */

static struct vmm vmm; /* large, and there is one */

/* Each open channel takes a descriptor: the soft limit goes up to the hard one, within reason. */
static void more_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		vmm_tell("raising the limit on descriptors failed");
}

static int init(void)
{
	uint32_t i;

	more_descriptors();
	signal(SIGXFSZ, SIG_IGN); /* past ulimit -f a guest's words end a file, not the machine */

	mallopt(M_ARENA_MAX, 1); /* threads here allocate little */
	vmm_platform_init(&vmm.platform);
	pthread_mutex_init(&vmm.lock, NULL);
	pthread_mutex_init(&vmm.disks.lock, NULL);
	pthread_cond_init(&vmm.cond, NULL);
	vmm.kvm_fd = vmm.vm_fd = vmm.vm_stats_fd = vmm.signal_fd = vmm.control_fd = -1;
	vmm.report_fd = vmm.serial_fd = vmm.status_fd = vmm.out_fd = -1;
	vmm.control_name.folder_fd = vmm.socket_name.folder_fd = -1;
	for (i = 0; i < VMM_PROVIDERS_MAX; i++)
		vmm.providers[i].name.folder_fd = -1;
	vmm.memory.fd = vmm.image.kernel_fd = vmm.image.initrd_fd = -1;
	for (i = 0; i < VMM_CLIENTS_MAX; i++)
		vmm.clients[i].fd = vmm.clients[i].files[0] = vmm.clients[i].files[1] = -1;
	vmm.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return vmm.event_fd < 0 ? vmm_errno("no descriptor; raise ulimit -n") : 0;
}

/* What is in memory when the first processor runs. */
static int first_memory(void)
{
	return vmm.opts.restore ? vmm_restore_memory(&vmm)
				: vmm_boot_load(&vmm.image, &vmm.memory, vmm.opts.cpus, true);
}

/* All that needs a name in the file system, or privileges. */
static int prepare(void)
{
	if (vmm.opts.restore && vmm_restore_open(&vmm))
		return -1;
	if (vmm_nets_open(&vmm))
		return -1;
	if ((vmm.opts.kernel && vmm_image_open(&vmm.image, &vmm.opts)) ||
	    vmm_memory_create(&vmm.memory, &vmm.opts) ||
	    (vmm.opts.kernel && vmm_boot_fits(&vmm.image, &vmm.memory)) ||
	    vmm_partition_create(&vmm) || first_memory() || vmm_devices_create(&vmm) ||
	    vmm_bus_open(&vmm) || vmm_console_open(&vmm) || vmm_report_open(&vmm) ||
	    vmm_stats_open(&vmm) || (vmm.opts.restore && vmm_restore(&vmm)))
		return -1;
	return vmm.opts.no_sandbox ? 0 : vmm_sandbox_enter(&vmm);
}

/* What the main thread does. */
static uint32_t roles(void)
{
	return VMM_ROLE_BUS | (vmm.opts.provider_count ? VMM_ROLE_HOST : 0u) |
	       (vmm.opts.disk_count ? VMM_ROLE_DISKS : 0u) | vmm_nets_roles(&vmm);
}

static int start(void)
{
	if (!vmm.opts.no_sandbox && vmm_filter_prepare(&vmm))
		return -1;
	if (vmm_vcpus_start(&vmm) || vmm_disks_start(&vmm) || vmm_nets_start(&vmm))
		return -1;
	vmm_console_raw();
	if (!vmm.opts.no_sandbox && vmm_filter_load(roles()))
		return -1;
	vmm_say("started %u processor%s, SynIC in %s", vmm.opts.cpus, vmm.opts.cpus > 1 ? "s" : "",
		vmbus_kvm_way(vmm.kvm) == VMBUS_KVM_KERNEL ? "the kernel" : "this process");
	vmm.start_ns = vmm_now_ns();
	vmm.deadline_ns = vmm.opts.timeout_ns ? vmm.start_ns + vmm.opts.timeout_ns : 0;
	vmm_vcpus_go(&vmm);
	return 0;
}

static void finish(void)
{
	vmm_vcpus_join(&vmm);
	if (vmm.kvm && vmm.start_ns)
		vmm_report_write(&vmm);
	vmm_console_close(&vmm);
	vmm_bus_close(&vmm);
	vmm_stats_close(&vmm);
	if (vmm.disks.stuck)
		return; /* all else would wait for it, or take the memory that it writes */
	vmm_partition_destroy(&vmm);
	vmm_devices_destroy(&vmm);
	vmm_image_close(&vmm.image);
	vmm_saved_free(&vmm.saved);
	vmm_memory_destroy(&vmm.memory);
	close(vmm.event_fd);
}

static void farewell(enum vmm_end end)
{
	static const char *const words[] = {
		[VMM_POWEROFF] = "the guest powered off",
		[VMM_CRASH] = "ended, since the guest crashed",
		[VMM_RESET] = "ended, since the guest reset itself (--no-reboot)",
		[VMM_KILLED] = "ended at once",
		[VMM_STUCK] = "ended, since KVM cannot go on",
		[VMM_SAVED] = "saved; --restore runs on",
	};

	if (end == VMM_RESET && !vmm.opts.no_reboot)
		vmm_say("ended, since the guest reset itself, and no --kernel is there to begin "
			"anew with");
	else if ((size_t)end < sizeof(words) / sizeof(words[0]) && words[end])
		vmm_say("%s", words[end]);
}

int main(int argc, char **argv)
{
	enum vmm_end end = VMM_ERROR;
	int err = vmm_options(&vmm.opts, argc, argv);

	if (err)
		return err > 0 ? 0 : VMM_USAGE;
	if (vmm.opts.send)
		return vmm_send(vmm.opts.send, vmm.opts.send_line) ? VMM_ERROR : 0;
	if (init())
		return VMM_ERROR;
	if (prepare() == 0 && start() == 0)
		end = vmm_bus_run(&vmm);
	finish();
	farewell(end);
	return (int)end;
}
