/* SPDX-License-Identifier: MIT */
/*
 * The guest as a whole: its storage, its connection, waiting.  What happens in between is
 * dispatch's.
 */
#include "guest/state.h"

#define CHANS_MAX 2047u
#define GPADLS_MAX 8192u
#define QUEUE_MAX 64u
#define DRAIN_STEPS 1000000u

bool vmbus__guest_usable(const struct vmbus_guest *guest)
{
	return guest->state == VMBUS_GUEST_CONNECTING || guest->state == VMBUS_GUEST_CONNECTED;
}

static size_t align64(size_t bytes)
{
	return (bytes + 63u) / 64u * 64u;
}

static bool backend_ok(const struct vmbus_guest_backend *be)
{
	return be && be->struct_bytes >= sizeof(*be) && be->post && be->receive && be->flags &&
	       be->signal && be->alloc && be->release && be->pfn && be->time;
}

/* Either set up, or all of it zero: a limit without struct_bytes was forgotten, not left out. */
static bool limits_ok(const struct vmbus_cli_opts *limits)
{
	const uint8_t *const bytes = (const uint8_t *)limits;
	size_t i;

	if (limits->struct_bytes)
		return limits->struct_bytes >= sizeof(*limits);
	for (i = 0; i < sizeof(*limits); i++)
		if (bytes[i])
			return false;
	return true;
}

/* Limits with the defaults that we have to know filled in. */
static struct vmbus_cli_opts limits_of(const struct vmbus_guest_opts *opts)
{
	struct vmbus_cli_opts limits = opts->limits;

	limits.struct_bytes = sizeof(limits);
	if (limits.chans_max == 0)
		limits.chans_max = CHANS_MAX;
	if (limits.gpadls_max == 0)
		limits.gpadls_max = limits.chans_max * 2u + 64u;
	if (limits.queue_max == 0)
		limits.queue_max = QUEUE_MAX;
	return limits;
}

static int place(struct vmbus_guest *guest, size_t bytes, size_t cli_bytes,
		 const struct vmbus_cli_opts *limits)
{
	uint8_t *at = (uint8_t *)guest + align64(sizeof(*guest));

	guest->bytes = bytes;
	guest->chans_max = limits->chans_max;
	guest->gpadls_max = limits->gpadls_max;
	guest->by_slot = (struct vmbus_vsc **)(void *)at;
	at += align64(limits->chans_max * sizeof(*guest->by_slot));
	guest->by_relid = (struct vmbus_vsc **)(void *)at;
	at += align64(VMBUS__RELIDS * sizeof(*guest->by_relid));
	guest->lists = (struct vmbus__list **)(void *)at;
	at += align64(limits->gpadls_max * sizeof(*guest->lists));
	return vmbus_cli_init(at, cli_bytes, limits, &guest->cli);
}

int vmbus_guest_create(const struct vmbus_guest_opts *opts, struct vmbus_guest **guest)
{
	struct vmbus_guest *g;
	struct vmbus_cli_opts limits;
	size_t bytes, cli_bytes;
	int err;

	if (opts->struct_bytes < sizeof(*opts) || !backend_ok(opts->backend) ||
	    !limits_ok(&opts->limits))
		return VMBUS_E_INVAL;
	limits = limits_of(opts);
	cli_bytes = vmbus_cli_bytes(&limits);
	if (cli_bytes == 0 || limits.chans_max > CHANS_MAX || limits.gpadls_max > GPADLS_MAX)
		return VMBUS_E_RANGE;
	bytes = align64(sizeof(*g)) + align64(limits.chans_max * sizeof(*g->by_slot)) +
		align64(VMBUS__RELIDS * sizeof(*g->by_relid)) +
		align64(limits.gpadls_max * sizeof(*g->lists)) + cli_bytes;
	bytes = (bytes + VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES * VMBUS_PAGE_BYTES;
	g = opts->backend->alloc(opts->backend_ctx, bytes, false);
	if (!g)
		return VMBUS_E_NOMEM;
	g->opts = *opts;
	g->be = opts->backend;
	g->be_ctx = opts->backend_ctx;
	g->cli_drained = true;
	err = place(g, bytes, cli_bytes, &limits);
	if (err) {
		opts->backend->release(opts->backend_ctx, g, bytes, false);
		return err;
	}
	*guest = g;
	return 0;
}

/*
 * No thread dispatches a channel any more: end what such channels left under way.  What is being
 * opened must not be given to a thread only now: nobody would leave it.
 */
static void leave_for_threads(struct vmbus_guest *guest)
{
	struct vmbus_vsc *vsc;

	for (vsc = guest->own; vsc; vsc = vsc->own_next)
		vmbus__own_leave(vsc);
	for (vsc = guest->first; vsc; vsc = vsc->next)
		if (vsc->life == VMBUS__LIFE_LIST || vsc->life == VMBUS__LIFE_OPENING)
			(void)vmbus_vsc_close(vsc);
}

void vmbus_guest_destroy(struct vmbus_guest *guest)
{
	uint32_t steps;

	if (!guest || guest->busy)
		return;
	if (guest->be->keeps && guest->be->keeps(guest->be_ctx)) {
		vmbus__guest_log(guest, 0, "vmbus_guest_destroy: ignored, the backend ends it", 0);
		return;
	}
	leave_for_threads(guest);
	if (guest->be->leave_ns && guest->be->idle && guest->state != VMBUS_GUEST_GONE) {
		(void)vmbus_guest_disconnect(guest);
		(void)vmbus_guest_wait(guest, VMBUS_GUEST_IDLE, guest->be->leave_ns);
	}
	guest->ended_here = guest->state != VMBUS_GUEST_GONE;
	vmbus_guest_parent_gone(guest);
	/* All that is left to do is ours, and finite: channels to end, requests to answer. */
	for (steps = 0; (guest->chans || vmbus__guest_due(guest)) && steps < DRAIN_STEPS; steps++)
		(void)vmbus__guest_run(guest, VMBUS__CHAN_TURN);
	if (guest->leaked_pages)
		vmbus__guest_log(guest, 0, "pages lost, since the parent did not let go of them: ",
				 guest->leaked_pages);
	vmbus__slabs_free(guest);
	guest->be->release(guest->be_ctx, guest, guest->bytes, false);
}

int vmbus_guest_connect(struct vmbus_guest *guest)
{
	int err;

	if (guest->state != VMBUS_GUEST_IDLE && guest->state != VMBUS_GUEST_REFUSED)
		return VMBUS_E_STATE;
	if (guest->chans)
		return VMBUS_E_AGAIN;
	err = vmbus_cli_connect(guest->cli);
	if (err)
		return err;
	guest->state = VMBUS_GUEST_CONNECTING;
	vmbus__guest_asked(guest);
	return 0;
}

int vmbus_guest_disconnect(struct vmbus_guest *guest)
{
	if (!vmbus__guest_usable(guest))
		return VMBUS_E_STATE;
	guest->state = VMBUS_GUEST_LEAVING;
	guest->leave_look = true;
	vmbus__guest_note(guest);
	return 0;
}

void vmbus_guest_parent_gone(struct vmbus_guest *guest)
{
	if (guest->state == VMBUS_GUEST_IDLE && guest->chans == 0)
		return;
	guest->state = VMBUS_GUEST_GONE;
	guest->unloaded = false;
	guest->unload_asked = false;
	guest->parent_gone = true;
	vmbus__guest_note(guest);
}

enum vmbus_guest_state vmbus_guest_state(const struct vmbus_guest *guest)
{
	return guest->state;
}

uint32_t vmbus_guest_version(const struct vmbus_guest *guest)
{
	return vmbus_cli_version(guest->cli);
}

void vmbus_guest_stats(const struct vmbus_guest *guest, struct vmbus_cli_stats *stats)
{
	vmbus_cli_stats(guest->cli, stats);
}

void *vmbus_guest_pages(struct vmbus_guest *guest, uint32_t count)
{
	if (count == 0)
		return NULL;
	return vmbus__guest_alloc(guest, count * (size_t)VMBUS_PAGE_BYTES, true);
}

void vmbus_guest_pages_free(struct vmbus_guest *guest, void *pages, uint32_t count)
{
	if (!pages || count == 0)
		return;
	if (!vmbus__pages_known(guest, pages, count) || vmbus__pages_shared(guest, pages, count)) {
		vmbus__guest_log(
			guest, 0,
			"vmbus_guest_pages_free: ignored, not ours or still shared, pages: ",
			count);
		return;
	}
	vmbus__guest_free(guest, pages, count * (size_t)VMBUS_PAGE_BYTES, true);
}

/* Whether a state that is waited for can still be reached: 0, or an error. */
static int can_be(const struct vmbus_guest *guest, enum vmbus_guest_state state)
{
	if (guest->state == VMBUS_GUEST_REFUSED || guest->state == VMBUS_GUEST_GONE)
		return VMBUS_E_PEER;
	if (guest->state == VMBUS_GUEST_IDLE && state != VMBUS_GUEST_GONE)
		return VMBUS_E_STATE;
	return 0;
}

void vmbus__wait_begin(struct vmbus_guest *guest, struct vmbus__wait *wait, uint64_t timeout_ns)
{
	const uint64_t now = guest->be->time(guest->be_ctx);
	const uint64_t span = timeout_ns / 100u;

	wait->full = false;
	wait->end = span < UINT64_MAX - now ? now + span : UINT64_MAX;
}

int vmbus__wait_turn(struct vmbus_guest *guest, struct vmbus__wait *wait)
{
	const int done = vmbus_guest_dispatch(guest, VMBUS__CHAN_TURN);
	const uint64_t now = guest->be->time(guest->be_ctx);
	uint64_t left, due;

	if (done < 0)
		return done;
	wait->full = (uint32_t)done >= VMBUS__CHAN_TURN;
	if (now >= wait->end)
		return VMBUS_E_AGAIN;
	if (done)
		return 0;
	left = wait->end - now;
	left = left < UINT64_MAX / 100u ? left * 100u : UINT64_MAX;
	due = vmbus_guest_timeout(guest);
	(void)guest->be->idle(guest->be_ctx, due < left ? due : left);
	return 0;
}

void vmbus__wait_end(struct vmbus_guest *guest, const struct vmbus__wait *wait)
{
	if (wait->full || vmbus_guest_timeout(guest) != UINT64_MAX)
		vmbus__guest_note(guest);
}

int vmbus_guest_wait(struct vmbus_guest *guest, enum vmbus_guest_state state, uint64_t timeout_ns)
{
	struct vmbus__wait wait;
	int err = 0;

	if (guest->busy)
		return VMBUS_E_STATE;
	if (!guest->be->idle)
		return VMBUS_E_NOTSUP;
	if (guest->state == state) /* no turn, so that no wake-up is taken */
		return 0;
	vmbus__wait_begin(guest, &wait, timeout_ns);
	while (guest->state != state) {
		if (!err)
			err = can_be(guest, state);
		if (err)
			break;
		err = vmbus__wait_turn(guest, &wait);
	}
	vmbus__wait_end(guest, &wait);
	return guest->state == state ? 0 : err;
}
