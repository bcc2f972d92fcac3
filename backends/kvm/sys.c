/* SPDX-License-Identifier: MIT */
/*
 * The one way from this backend to KVM.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/ioctl.h>

#include "kvm/sys.h"

static int system_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg);
}

const struct vmbus__kvm_sys vmbus__kvm_system = { .ioctl = system_ioctl };
const struct vmbus__kvm_sys *vmbus__kvm_sys = &vmbus__kvm_system;
