/* SPDX-License-Identifier: MIT */
/* vmbusctl check: what /dev/kvm says about the means to be a parent of virtual machines. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "ctl.h"

struct capability {
	int number;
	const char *what;
	const char *missing; /* what follows when it is not there */
};

static const struct capability capabilities[] = {
#ifdef KVM_CAP_HYPERV_SYNIC2
	{ KVM_CAP_HYPERV_SYNIC2, "kvm: SynIC in the kernel (KVM_CAP_HYPERV_SYNIC2)",
	  "the kernel has no Hyper-V emulation (CONFIG_KVM_HYPERV); the SynIC is done in user "
	  "space" },
#endif
#ifdef KVM_CAP_HYPERV_EVENTFD
	{ KVM_CAP_HYPERV_EVENTFD, "kvm: signals as eventfds (KVM_CAP_HYPERV_EVENTFD)",
	  "signals leave the kernel by port I/O" },
#endif
#ifdef KVM_CAP_X86_MSR_FILTER
	{ KVM_CAP_X86_MSR_FILTER, "kvm: MSR filter (KVM_CAP_X86_MSR_FILTER)",
	  "a SynIC in user space needs it" },
#endif
#ifdef KVM_CAP_X86_USER_SPACE_MSR
	{ KVM_CAP_X86_USER_SPACE_MSR, "kvm: MSR exits (KVM_CAP_X86_USER_SPACE_MSR)",
	  "a SynIC in user space needs it" },
#endif
	{ KVM_CAP_IOEVENTFD, "kvm: ioeventfd (KVM_CAP_IOEVENTFD)", "signals cost an exit each" },
	{ KVM_CAP_IRQFD, "kvm: irqfd (KVM_CAP_IRQFD)", "interrupts cost a system call each" },
};

#define INTERPRETER "/sys/module/kvm_pvm" /* one module at a time is behind /dev/kvm */

/* What is behind the interface, which promises the same of all. */
static void check_module(void)
{
	if (access(INTERPRETER, F_OK) == 0)
		ctl_report(
			CTL_LIMITED, "kvm: guests on the processor itself", "no: kvm_pvm",
			"this module interprets what a guest does at level 0, without most vector "
			"instructions: small guests run, an ordinary kernel takes hours or stops");
}

void ctl_check_kvm(void)
{
	const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	char how[96];
	size_t i;
	int version;

	if (fd < 0) {
		(void)snprintf(how, sizeof(how), "cannot open: %s", strerror(errno));
		ctl_report(CTL_LIMITED, "kvm: /dev/kvm", how,
			   errno == EACCES || errno == EPERM
				   ? "be a member of the device's group"
				   : "only partitions that are virtual machines need it: load the "
				     "module kvm_intel or kvm_amd, or allow nested virtualisation");
		return;
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	(void)snprintf(how, sizeof(how), "interface %d", version);
	ctl_report(version == KVM_API_VERSION ? CTL_GOOD : CTL_BAD, "kvm: /dev/kvm", how,
		   version == KVM_API_VERSION ? NULL : "interface 12 is the one that counts");
	check_module();
	for (i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		const int has = ioctl(fd, KVM_CHECK_EXTENSION, capabilities[i].number);

		ctl_report(has > 0 ? CTL_GOOD : CTL_LIMITED, capabilities[i].what,
			   has > 0 ? "yes" : "no", has > 0 ? NULL : capabilities[i].missing);
	}
	close(fd);
}
