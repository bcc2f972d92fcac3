/* SPDX-License-Identifier: MIT */
/*
 * Devices of other processes: a socket for each --device provider=, on which providers attach and
 * offer what they have to the guest.  They get the guest's memory; what they do to the bus is the
 * library's to check.
 */
#include "vmm.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define BUDGET 256u
#define LET_GO_NS                                                                                  \
	11000000000u /* for two answers of a provider: of its sub-channels, then of its channel */

static void provider_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	const struct vmm_provider *const p = ctx;

	if (level == VMBUS_LOG_ERROR)
		vmm_warn("--device provider=%s: %s", p->path, line);
	else
		vmm_tell("--device provider=%s: %s", p->path, line);
}

static int open_one(struct vmm *vmm, struct vmm_provider *p)
{
	struct vmbus_region *regions[2] = { &vmm->memory.regions[0], &vmm->memory.regions[1] };
	struct vmbus_provider_host_opts opts = {
		.struct_bytes = sizeof(opts), .path = p->path, .log = provider_log, .ctx = p
	};
	int err = vmbus_provider_listen(&opts, &p->host);

	if (!err)
		err = vmbus_provider_host_add_bus(p->host, vmm->bus, regions, vmm->memory.count);
	if (err == VMBUS_E_SYSTEM)
		return vmm_errno("--device provider=%s", p->path);
	if (err)
		return vmm_error("--device provider=%s: %s", p->path, vmbus_err_name(err));
	if (vmm_name_keep(&p->name, p->path))
		return vmm_errno("--device provider=%s", p->path);
	return 0;
}

int vmm_providers_open(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->opts.provider_count; i++) {
		vmm->providers[i].path = vmm->opts.providers[i];
		if (open_one(vmm, &vmm->providers[i]))
			return -1;
	}
	return 0;
}

int vmm_provider_fd(const struct vmm *vmm, uint32_t i)
{
	return vmm->providers[i].host ? vmbus_provider_host_fd(vmm->providers[i].host) : -1;
}

void vmm_provider_dispatch(struct vmm *vmm, uint32_t i)
{
	vmbus_provider_host_dispatch(vmm->providers[i].host, BUDGET);
}

/* Who has not let go, one of them for a message. */
struct holders {
	uint32_t channels;
	int32_t pid;
	char name[64];
};

static void count_held(void *ctx, const struct vmbus_provider_info *info)
{
	struct holders *const h = ctx;

	h->channels += info->held;
	if (!info->held)
		return;
	h->pid = info->pid;
	(void)snprintf(h->name, sizeof(h->name), "%s", info->name);
}

static bool any_held(struct vmm *vmm, struct holders *h)
{
	*h = (struct holders){ 0 };
	vmm_providers_list(vmm, count_held, h);
	return h->channels > 0;
}

static void wait_and_dispatch(struct vmm *vmm, int ms)
{
	struct pollfd p[VMM_PROVIDERS_MAX + 1];
	uint32_t i;

	for (i = 0; i < VMM_PROVIDERS_MAX; i++)
		p[i] = (struct pollfd){ .fd = vmm_provider_fd(vmm, i), .events = POLLIN };
	p[i] = (struct pollfd){ .fd = vmbus_kvm_fd(vmm->kvm), .events = POLLIN };
	poll(p, VMM_PROVIDERS_MAX + 1, ms);
	for (i = 0; i < VMM_PROVIDERS_MAX; i++)
		if (vmm->providers[i].host)
			vmm_provider_dispatch(vmm, i);
	vmbus_kvm_dispatch(vmm->kvm, BUDGET);
}

/*
 * Until no provider has a ring of the guest's, after a reset of the bus: before memory is emptied.  What
 * the bus has closed a provider hears of here only, and it may be at work on the ring until it says that
 * it is not; one that says nothing is killed.  -1: it lives, and would work in the memory of the next boot.
 */
int vmm_providers_let_go(struct vmm *vmm)
{
	const uint64_t until = vmm_now_ns() + LET_GO_NS;
	struct holders h;

	while (any_held(vmm, &h)) {
		if (vmm_now_ns() >= until)
			return vmm_error(
				"--device provider=: %s, process %d, has not let go of the "
				"guest's rings in %u s: the machine cannot be reset; end "
				"that process",
				h.name, h.pid, (unsigned)(LET_GO_NS / 1000000000u));
		wait_and_dispatch(vmm, 100);
	}
	return 0;
}

void vmm_providers_list(struct vmm *vmm,
			void (*tell)(void *ctx, const struct vmbus_provider_info *info), void *ctx)
{
	uint32_t i;

	for (i = 0; i < vmm->opts.provider_count; i++)
		if (vmm->providers[i].host)
			vmbus_provider_host_list(vmm->providers[i].host, tell, ctx);
}

/* Before the bus ends. */
void vmm_providers_close(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < VMM_PROVIDERS_MAX; i++) {
		struct vmm_provider *const p = &vmm->providers[i];

		if (p->host && vmm->bus)
			vmbus_provider_host_remove_bus(p->host, vmm->bus);
		vmbus_provider_host_destroy(p->host);
		p->host = NULL;
		vmm_name_remove(&p->name, p->path);
	}
}
