/* SPDX-License-Identifier: MIT */
/* What is on the bus: echo devices, which come and go, disks, NICs, the integration components. */
#include "vmm.h"

#include <string.h>

static const char *component_name(uint32_t component)
{
	switch (component) {
	case VMBUS_IC_SHUTDOWN:
		return "shutdown";
	case VMBUS_IC_TIMESYNC:
		return "time synchronization";
	case VMBUS_IC_HEARTBEAT:
		return "heartbeat";
	default:
		return "component";
	}
}

static void event(void *ctx, uint32_t component, enum vmbus_ic_event what, uint64_t value)
{
	struct vmm *const vmm = ctx;

	switch (what) {
	case VMBUS_IC_READY:
		vmm_tell("the guest has opened: %s", component_name(component));
		break;
	case VMBUS_IC_GONE:
		vmm_tell("the guest has closed: %s", component_name(component));
		break;
	case VMBUS_IC_ANSWERED:
		if (value == 0)
			vmm_say("the guest shuts down");
		else
			vmm_warn("the guest refuses to shut down, status 0x%llx; ctrl-C again "
				 "ends it",
				 (unsigned long long)value);
		break;
	case VMBUS_IC_REFUSED:
		if (!(vmm->refused & component))
			vmm_warn("the guest speaks no version of a component that we do: %s",
				 component_name(component));
		vmm->refused |= component; /* the guest may ask as often as it likes */
		break;
	case VMBUS_IC_LOST:
		vmm->lost = true;
		vmm_warn("the guest hangs: %llu heartbeats in a row have no answer",
			 (unsigned long long)value);
		break;
	case VMBUS_IC_ALIVE:
		if (vmm->lost)
			vmm_warn("the guest's heartbeats are answered again");
		else
			vmm_tell("the guest's heart beats");
		vmm->lost = false;
		break;
	default:
		break;
	}
}

static int add_ic(struct vmm *vmm)
{
	struct vmbus_ic_opts opts = { .struct_bytes = sizeof(opts), .event = event, .ctx = vmm };
	const int err = vmbus_ic_create(vmm->bus, &opts, &vmm->ic);

	if (err)
		return vmm_error("offering the integration components: %s", vmbus_err_name(err));
	return 0;
}

static struct vmbus_chan **free_place(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++)
		if (!vmm->chans[i])
			return &vmm->chans[i];
	return NULL;
}

/* One channel; its number goes to relid, which may be NULL. */
int vmm_devices_add_echo(struct vmm *vmm, const struct vmm_device *device, uint32_t *relid)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					 .monitor_us = device->monitor_us,
					 .instance_id = device->instance };
	struct vmbus_chan **const place = free_place(vmm);
	struct vmbus_chan_info info;
	int err;

	if (!place)
		return VMBUS_E_FULL;
	err = vmbus_bus_offer(vmm->bus, vmbus_echo_vsp(), NULL, &opts, place);
	if (err) {
		*place = NULL;
		return err;
	}
	vmm->monitor_us[place - vmm->chans] = device->monitor_us;
	if (relid) {
		vmbus_chan_info(*place, &info);
		*relid = info.relid;
	}
	return 0;
}

int vmm_devices_create(struct vmm *vmm)
{
	uint32_t d, i;
	int err;

	if (vmm->opts.restore && vmm_restore_devices(vmm))
		return -1;
	for (d = 0; d < vmm->opts.device_count; d++) {
		for (i = 0; i < vmm->opts.devices[d].count; i++) {
			err = vmm_devices_add_echo(vmm, &vmm->opts.devices[d], NULL);
			if (err)
				return vmm_error("--device echo: number %u of %u: %s%s", i + 1,
						 vmm->opts.devices[d].count, vmbus_err_name(err),
						 err == VMBUS_E_FULL &&
								 vmm->opts.devices[d].monitor_us
							 ? "; 128 devices with monitor= are the "
							   "most"
							 : "");
		}
	}
	if (vmm_disks_create(vmm) || vmm_nets_create(vmm))
		return -1;
	return vmm->opts.no_ic ? 0 : add_ic(vmm);
}

void vmm_devices_removed(void *ctx, struct vmbus_chan *chan)
{
	struct vmm *const vmm = ctx;
	uint32_t i;

	vmm_disks_removed(vmm, chan);
	vmm_nets_removed(vmm, chan);
	for (i = 0; i < VMM_CHANNELS_MAX; i++)
		if (vmm->chans[i] == chan)
			vmm->chans[i] = NULL;
}

int vmm_devices_remove(struct vmm *vmm, uint32_t relid)
{
	struct vmbus_chan_info info;
	uint32_t i;
	int err;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (!vmm->chans[i])
			continue;
		vmbus_chan_info(vmm->chans[i], &info);
		if (info.relid != relid)
			continue;
		err = vmbus_bus_revoke(vmm->chans[i]);
		if (!err)
			vmm->chans[i] = NULL; /* at once, for a save may come before removed() */
		return err;
	}
	return VMBUS_E_RANGE;
}

int vmm_devices_ask_shutdown(struct vmm *vmm)
{
	if (!vmm->ic)
		return VMBUS_E_STATE;
	return vmbus_ic_shutdown(vmm->ic, VMBUS_IC_FORCE, 60, "vmbus-vmm");
}

/* After the bus is gone. */
void vmm_devices_destroy(struct vmm *vmm)
{
	vmbus_ic_destroy(vmm->ic);
	vmm->ic = NULL;
	vmm_disks_destroy(vmm);
	vmm_nets_destroy(vmm);
}
