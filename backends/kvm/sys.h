/* SPDX-License-Identifier: MIT */
/*
 * What the KVM backend wants of the system: one call, which tests answer with a KVM of their own.
 */
#ifndef VMBUS_KVM_SYS_H
#define VMBUS_KVM_SYS_H

struct vmbus__kvm_sys {
	/* As ioctl(2). */
	int (*ioctl)(int fd, unsigned long request, void *arg);
};

/* The system's own. */
extern const struct vmbus__kvm_sys vmbus__kvm_system;
/* What a partition takes when it is made.  Tests put theirs here before. */
extern const struct vmbus__kvm_sys *vmbus__kvm_sys;

#endif
