/* SPDX-License-Identifier: MIT */
/*
 * Disks: one SCSI controller with all of them, its channels each on a thread of a pool.  Stores are
 * opened before there is a sandbox, or by whoever sends the command (control.c); their requests are
 * made by the pool's threads, which have a filter of their own.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define BUDGET 256u
#define LET_GO_NS 6000000000u /* for requests under way to end */
#define DISK_REQUESTS 1024u
#define NOWHERE UINT8_MAX /* no target */

/* Of the controller: the same in each machine, so that a saved one finds it again. */
static const struct vmbus_guid instance =
	VMBUS_GUID(0x6d9b1ad5, 0x33a4, 0x4c1e, 0x9f, 0x21, 0x76, 0x6d, 0x62, 0x75, 0x73, 0x01);

static void block_log(void *ctx, const char *line)
{
	(void)ctx;
	vmm_tell("disks: %s", line);
}

/* Of a store that no queue uses any more, on any thread. */
static void block_removed(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store)
{
	struct vmm_disks *const d = &((struct vmm *)ctx)->disks;
	struct vmbus_store gone = *store;
	uint32_t i;

	(void)target; /* there may be another disk by now */
	(void)lun;
	pthread_mutex_lock(&d->lock);
	for (i = 0; i < VMM_DISKS_MAX; i++)
		if (d->disk[i].used && d->disk[i].store.ops == store->ops &&
		    d->disk[i].store.ctx == store->ctx)
			memset(&d->disk[i], 0, sizeof(d->disk[i]));
	pthread_mutex_unlock(&d->lock);
	vmbus_store_destroy(&gone);
}

static struct vmm_disk *take_place(struct vmm_disks *d)
{
	struct vmm_disk *place = NULL;
	uint32_t i;

	pthread_mutex_lock(&d->lock);
	for (i = 0; i < VMM_DISKS_MAX && !place; i++)
		if (!d->disk[i].used)
			place = &d->disk[i];
	if (place)
		place->used = true;
	pthread_mutex_unlock(&d->lock);
	return place;
}

/* An entry has its store, and no address yet: it is known before the disk can be removed again.
   NULL: it is free. */
static void set_place(struct vmm_disks *d, struct vmm_disk *place, const struct vmbus_store *store)
{
	pthread_mutex_lock(&d->lock);
	memset(place, 0, sizeof(*place));
	if (store) {
		place->used = true;
		place->target = NOWHERE;
		place->store = *store;
	}
	pthread_mutex_unlock(&d->lock);
}

/* The disk was added; it may have been removed since. */
static void set_address(struct vmm_disks *d, struct vmm_disk *place, const struct disk_spec *spec,
			const struct vmbus_store *store)
{
	pthread_mutex_lock(&d->lock);
	if (place->used && place->store.ctx == store->ctx) {
		place->target = spec->target;
		place->lun = (uint8_t)spec->lun;
	}
	pthread_mutex_unlock(&d->lock);
}

/* fd: of a file that somebody else has opened, or -1.  0, or -1 and a text. */
static int add(struct vmm *vmm, struct disk_spec *spec, int fd, char *why, size_t why_bytes)
{
	struct vmm_disks *const d = &vmm->disks;
	struct vmm_disk *const place = take_place(d);
	struct vmbus_store store;
	int err;

	if (!place) {
		(void)snprintf(why, why_bytes, "%u disks are the most", VMM_DISKS_MAX);
		return -1;
	}
	err = disk_open(spec, fd, &store, why, why_bytes);
	set_place(d, place, err ? NULL : &store);
	if (err)
		return err;
	err = disk_add(d->block, spec, &store, why, why_bytes);
	if (err) {
		set_place(d, place, NULL);
		vmbus_store_destroy(&store);
		return err;
	}
	set_address(d, place, spec, &store);
	return 0;
}

static int add_all(struct vmm *vmm)
{
	char why[800];
	uint32_t i;

	for (i = 0; i < vmm->opts.disk_count; i++) {
		struct disk_spec *const spec = &vmm->opts.disks[i];

		if (spec->kind != DISK_NONE && add(vmm, spec, -1, why, sizeof(why)))
			return vmm_error("--disk %s", why);
	}
	return 0;
}

/* Options of the controller are given with its disks: the largest counts. */
static void most(const struct vmm *vmm, uint32_t *queues, uint32_t *spin_us)
{
	uint32_t i;

	*queues = 1;
	*spin_us = 0;
	for (i = 0; i < vmm->opts.disk_count; i++) {
		const struct disk_spec *const spec = &vmm->opts.disks[i];

		*queues = spec->queues > *queues ? spec->queues : *queues;
		*spin_us = spec->spin_us > *spin_us ? spec->spin_us : *spin_us;
	}
}

/* The controller and its disks; nothing is served yet. */
int vmm_disks_create(struct vmm *vmm)
{
	struct vmm_disks *const d = &vmm->disks;
	struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts),
					 .requests = DISK_REQUESTS,
					 .log = block_log,
					 .removed = block_removed,
					 .ctx = vmm };
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer),
						.instance_id = instance,
						.own_fd = true };
	uint32_t queues, spin_us;
	int err;

	if (vmm->opts.disk_count == 0)
		return 0;
	most(vmm, &queues, &spin_us);
	opts.subchannels = queues - 1;
	err = vmbus_block_create(&opts, &d->block);
	if (err)
		return vmm_error("--disk: the controller: %s", vmbus_err_name(err));
	if (add_all(vmm))
		return -1;
	err = vmbus_bus_offer(vmm->bus, vmbus_block_vsp(), d->block, &offer, &d->chans[0]);
	if (err)
		return vmm_error("--disk: offering the controller: %s", vmbus_err_name(err));
	return 0;
}

/* ---- threads ---- */

struct beginning {
	const struct vmm *vmm;
	struct vmbus_pool_opts opts;
	struct vmbus_pool *pool;
	int err;
};

/* A filter is inherited: what the pool's threads may do is said before there are any. */
static void *begin(void *arg)
{
	struct beginning *const b = arg;

	if (!b->vmm->opts.no_sandbox && vmm_filter_load(VMM_ROLE_QUEUE))
		b->err = VMBUS_E_SYSTEM;
	else
		b->err = vmbus_pool_create(&b->opts, &b->pool);
	return NULL;
}

/* All channels that there are, with no thread in them. */
void vmm_disks_go(struct vmm *vmm)
{
	struct vmm_disks *const d = &vmm->disks;
	uint32_t i;
	int err;

	for (i = 0; d->pool && i < VMM_CHANNELS_MAX; i++) {
		if (!d->chans[i])
			continue;
		err = vmbus_pool_add(d->pool, d->chans[i]);
		if (err && err != VMBUS_E_STATE) /* it is there */
			vmm_warn("--disk: a queue has no thread: %s", vmbus_err_name(err));
	}
	d->running = d->pool != NULL;
}

void vmm_disks_stop(struct vmm *vmm)
{
	struct vmm_disks *const d = &vmm->disks;
	uint32_t i;

	for (i = 0; d->running && i < VMM_CHANNELS_MAX; i++)
		if (d->chans[i])
			(void)vmbus_pool_remove(d->pool, d->chans[i]);
	d->running = false;
}

int vmm_disks_start(struct vmm *vmm)
{
	struct beginning b = { .vmm = vmm };
	pthread_t thread;
	uint32_t queues, spin_us;
	int err;

	if (!vmm->disks.block)
		return 0;
	most(vmm, &queues, &spin_us);
	b.opts.struct_bytes = sizeof(b.opts);
	b.opts.threads = queues;
	b.opts.spin_ns = 1000u * (uint64_t)spin_us;
	err = pthread_create(&thread, NULL, begin, &b);
	if (err) {
		errno = err;
		return vmm_errno("--disk: a thread");
	}
	pthread_join(thread, NULL);
	if (b.err)
		return vmm_error("--disk: threads for %u queues: %s", queues,
				 vmbus_err_name(b.err));
	vmm->disks.pool = b.pool;
	vmm_disks_go(vmm);
	return 0;
}

/* offered() of the bus. */
void vmm_disks_offered(void *ctx, struct vmbus_chan *sub)
{
	struct vmm *const vmm = ctx;
	struct vmm_disks *const d = &vmm->disks;
	uint32_t i;

	if (vmbus_chan_fd(sub) < 0 || vmm_nets_offered(vmm, sub))
		return; /* of a provider, of a NIC */
	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (d->chans[i])
			continue;
		d->chans[i] = sub;
		if (d->running && vmbus_pool_add(d->pool, sub))
			vmm_warn("--disk: a queue has no thread");
		return;
	}
	vmm_warn("--disk: more than %u channels", VMM_CHANNELS_MAX);
}

/* From removed() of the bus: no thread is in it any more when this returns. */
void vmm_disks_removed(struct vmm *vmm, struct vmbus_chan *chan)
{
	struct vmm_disks *const d = &vmm->disks;
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (d->chans[i] != chan)
			continue;
		if (d->running)
			(void)vmbus_pool_remove(d->pool, chan);
		d->chans[i] = NULL;
	}
}

/* Without threads: a turn of each channel on this one. */
void vmm_disks_dispatch(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++)
		if (vmm->disks.chans[i])
			(void)vmbus_chan_dispatch(vmm->disks.chans[i], BUDGET);
}

static bool any_open(const struct vmm *vmm)
{
	struct vmbus_chan_info info;
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (!vmm->disks.chans[i])
			continue;
		vmbus_chan_info(vmm->disks.chans[i], &info);
		if (info.send_bytes)
			return true;
	}
	return false;
}

/*
 * Until no ring of the guest's is open, after a reset of the bus: before memory is emptied.  -1: a store
 * keeps a request, and what it answers would be written into the memory of the next boot.
 */
int vmm_disks_let_go(struct vmm *vmm)
{
	const uint64_t until = vmm_now_ns() + LET_GO_NS;
	struct pollfd p = { .fd = vmbus_kvm_fd(vmm->kvm), .events = POLLIN };

	while (any_open(vmm) && vmm_now_ns() < until) {
		poll(&p, 1, 10);
		vmbus_kvm_dispatch(vmm->kvm, BUDGET);
	}
	vmm->disks.stuck = any_open(vmm);
	if (vmm->disks.stuck)
		return vmm_error("--disk: a store has not ended a request of the guest's in %u s: "
				 "the machine cannot be reset; see what its disks stand on",
				 (unsigned)(LET_GO_NS / 1000000000u));
	return 0;
}

/* After the bus is gone. */
void vmm_disks_destroy(struct vmm *vmm)
{
	struct vmm_disks *const d = &vmm->disks;

	vmbus_pool_destroy(d->pool);
	d->pool = NULL;
	vmbus_block_destroy(d->block);
	d->block = NULL;
}

/* ---- commands ---- */

static int command_add(struct vmm *vmm, const char *text, int fd, char *answer, size_t bytes)
{
	struct disk_spec spec;

	if (disk_parse(&spec, text, answer, bytes))
		return -1;
	if (spec.kind == DISK_NONE) {
		(void)snprintf(answer, bytes, "none is no disk");
		return -1;
	}
	if (spec.kind == DISK_FILE && fd < 0) {
		(void)snprintf(answer, bytes, "a file comes opened: send it by vmbus-vmm --send");
		return -1;
	}
	if (add(vmm, &spec, spec.kind == DISK_FILE ? fd : -1, answer, bytes))
		return -1;
	(void)snprintf(answer, bytes, "lun=%u:%d", spec.target, spec.lun);
	return 0;
}

static int command_fault(struct vmm_disks *d, const char *words, uint8_t target, uint8_t lun,
			 char *answer, size_t bytes)
{
	struct vmbus_store_faults faults;
	int err = VMBUS_E_RANGE;
	uint32_t i;

	if (disk_faults(&faults, words, answer, bytes))
		return -1;
	pthread_mutex_lock(&d->lock);
	for (i = 0; i < VMM_DISKS_MAX; i++)
		if (d->disk[i].used && d->disk[i].target == target && d->disk[i].lun == lun &&
		    d->disk[i].store.ops)
			err = vmbus_store_faulty_set(&d->disk[i].store, &faults);
	pthread_mutex_unlock(&d->lock);
	if (err)
		(void)snprintf(answer, bytes, "%s",
			       err == VMBUS_E_RANGE ? "there is no such disk; status lists them"
						    : "it was not added with the word faulty");
	return err ? -1 : 0;
}

/* What follows "disk "; 0, or -1, and the answer. */
int vmm_disks_command(struct vmm *vmm, const char *line, int fd, char *answer, size_t bytes)
{
	struct vmm_disks *const d = &vmm->disks;
	struct vmbus_block_stats stats;
	char verb[16] = "", where[16] = "";
	uint8_t target, lun;
	int at = 0, err;

	*answer = 0;
	if (!d->block) {
		(void)snprintf(answer, bytes, "there is no controller; --disk none makes one");
		return -1;
	}
	if (strncmp(line, "add ", 4) == 0)
		return command_add(vmm, line + 4, fd, answer, bytes);
	if (sscanf(line, "%15s %15s %n", verb, where, &at) < 2 ||
	    disk_address(where, &target, &lun)) {
		(void)snprintf(answer, bytes,
			       "disk add SPEC | remove LUN | resize LUN | fault LUN WORDS");
		return -1;
	}
	if (strcmp(verb, "fault") == 0)
		return command_fault(d, at ? line + at : "", target, lun, answer, bytes);
	if (strcmp(verb, "remove") == 0)
		err = vmbus_block_remove(d->block, target, lun);
	else if (strcmp(verb, "resize") == 0)
		err = vmbus_block_resized(d->block, target, lun);
	else {
		(void)snprintf(answer, bytes, "%s: disk has add, remove, resize and fault", verb);
		return -1;
	}
	if (err)
		(void)snprintf(answer, bytes, "%s",
			       err != VMBUS_E_RANGE ? vmbus_err_name(err)
			       : vmbus_block_stats(d->block, target, lun, &stats)
				       ? "there is no such disk; status lists them"
				       : "what is left of it is no whole sector");
	return err ? -1 : 0;
}

void vmm_disks_list(struct vmm *vmm, void (*tell)(void *ctx, const char *line), void *ctx)
{
	struct vmm_disks *const d = &vmm->disks;
	struct vmbus_block_stats stats;
	uint32_t target, lun;
	char line[512];

	for (target = 0; d->block && target < VMBUS_BLOCK_TARGETS_MAX; target++)
		for (lun = 0; lun < VMBUS_BLOCK_LUNS_MAX; lun++)
			if (!vmbus_block_stats(d->block, (uint8_t)target, (uint8_t)lun, &stats))
				tell(ctx, disk_line(&stats, (uint8_t)target, (uint8_t)lun, line,
						    sizeof(line)));
}
