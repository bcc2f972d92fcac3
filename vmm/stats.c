/* SPDX-License-Identifier: MIT */
/*
 * KVM's own counters, summed over the VM and its vCPUs under their KVM names, and snapshots of them
 * at the moments that the guest marks.
 */
#include "vmm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NAME_BYTES 128u

struct desc {
	uint32_t flags; /* as struct kvm_stats_desc */
	int16_t exponent;
	uint16_t size;
	uint32_t offset, bucket_bytes;
	char name[NAME_BYTES];
};

static uint32_t index_of(struct vmm_stats *stats, const char *name)
{
	uint32_t i;

	for (i = 0; i < stats->names; i++)
		if (strcmp(stats->name[i], name) == 0)
			return i;
	if (i == VMM_STATS_MAX || strlen(name) >= sizeof(stats->name[i]))
		return VMM_STATS_MAX;
	strcpy(stats->name[i], name);
	stats->names++;
	return i;
}

static bool is_counter(const struct desc *d)
{
	const uint32_t type = d->flags & KVM_STATS_TYPE_MASK;

	return d->size == 1 &&
	       (type == KVM_STATS_TYPE_CUMULATIVE || type == KVM_STATS_TYPE_INSTANT);
}

static void add(struct vmm_stats *stats, int fd, uint64_t *values)
{
	struct kvm_stats_header head;
	struct desc desc;
	uint64_t value;
	uint32_t i, at;

	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    head.name_size > NAME_BYTES)
		return;
	for (i = 0; i < head.num_desc; i++) {
		const size_t bytes = offsetof(struct desc, name) + head.name_size;

		if (pread(fd, &desc, bytes, (off_t)(head.desc_offset + i * bytes)) !=
		    (ssize_t)bytes)
			return;
		desc.name[head.name_size ? head.name_size - 1 : 0] = 0;
		if (!is_counter(&desc) ||
		    pread(fd, &value, sizeof(value), (off_t)(head.data_offset + desc.offset)) !=
			    sizeof(value))
			continue;
		at = index_of(stats, desc.name);
		if (at < VMM_STATS_MAX)
			values[at] += value;
	}
}

static void read_locked(struct vmm *vmm, uint64_t *values)
{
	uint32_t i;

	memset(values, 0, VMM_STATS_MAX * sizeof(*values));
	add(&vmm->stats, vmm->vm_stats_fd, values);
	for (i = 0; i < vmm->vcpu_count; i++)
		add(&vmm->stats, vmm->vcpus[i].stats_fd, values);
}

void vmm_stats_read(struct vmm *vmm, uint64_t values[VMM_STATS_MAX])
{
	pthread_mutex_lock(&vmm->stats.lock);
	read_locked(vmm, values);
	pthread_mutex_unlock(&vmm->stats.lock);
}

/* Older kernels have no such descriptors: then there are no numbers, and the report says so. */
int vmm_stats_open(struct vmm *vmm)
{
	uint32_t i;

	pthread_mutex_init(&vmm->stats.lock, NULL);
	vmm->vm_stats_fd = -1;
	if (!vmm->opts.report ||
	    ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD) <= 0)
		return 0;
	vmm->vm_stats_fd = ioctl(vmm->vm_fd, KVM_GET_STATS_FD, NULL);
	for (i = 0; i < vmm->vcpu_count; i++)
		vmm->vcpus[i].stats_fd = ioctl(vmm->vcpus[i].fd, KVM_GET_STATS_FD, NULL);
	return 0;
}

void vmm_stats_close(struct vmm *vmm)
{
	uint32_t i;

	if (vmm->vm_stats_fd >= 0)
		close(vmm->vm_stats_fd);
	vmm->vm_stats_fd = -1;
	for (i = 0; i < vmm->vcpu_count; i++) {
		if (vmm->vcpus[i].stats_fd >= 0)
			close(vmm->vcpus[i].stats_fd);
		vmm->vcpus[i].stats_fd = -1;
	}
	for (i = 0; i < vmm->stats.mark_count; i++)
		free(vmm->stats.marks[i]);
	vmm->stats.mark_count = 0;
}

/* On a vCPU's thread. */
void vmm_stats_mark(struct vmm *vmm, uint32_t id)
{
	struct vmm_stats *const stats = &vmm->stats;
	struct vmm_mark *mark = NULL;

	pthread_mutex_lock(&stats->lock);
	if (stats->mark_count < VMM_MARKS_MAX)
		mark = calloc(1, sizeof(*mark));
	if (mark) {
		mark->id = id;
		mark->time_ns = vmm_now_ns() - vmm->start_ns;
		vmbus_kvm_stats(vmm->kvm, &mark->stats);
		read_locked(vmm, mark->kvm);
		stats->marks[stats->mark_count++] = mark;
	} else {
		stats->marks_lost++;
	}
	pthread_mutex_unlock(&stats->lock);
}
