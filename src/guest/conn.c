/* SPDX-License-Identifier: MIT */
/*
 * What a guest asks of its connection besides making and ending it: hv_sock channels, a pause, other
 * monitor pages.  Each call asks the machine at once; the answer is an action, told by a callback.
 *
 * While a pause lasts no channel is stepped (dispatch.c), so what is wanted of channels meanwhile
 * waits for the end of the pause.
 *
 * Monitor pages are the child's own again when the parent said that it uses others, or has answered
 * UNLOAD; if the connection ends otherwise, they are lost.
 */
#include "guest/state.h"

int vmbus_guest_tl_connect(struct vmbus_guest *guest, const struct vmbus_ctl_tl *tl)
{
	int err;

	if (!vmbus__guest_usable(guest))
		return VMBUS_E_STATE;
	err = vmbus_cli_tl_connect(guest->cli, tl);
	if (!err)
		vmbus__guest_asked(guest);
	return err;
}

int vmbus_guest_pause(struct vmbus_guest *guest)
{
	int err;

	if (guest->state != VMBUS_GUEST_CONNECTED)
		return VMBUS_E_STATE;
	err = vmbus_cli_pause(guest->cli);
	if (err)
		return err;
	guest->pause = VMBUS__PAUSE_ASKED;
	vmbus__guest_asked(guest);
	return 0;
}

int vmbus_guest_resume(struct vmbus_guest *guest)
{
	int err;

	if (guest->pause != VMBUS__PAUSE_ON)
		return VMBUS_E_STATE;
	err = vmbus_cli_resume(guest->cli);
	if (err)
		return err;
	guest->pause = VMBUS__PAUSE_OFF;
	vmbus__guest_asked(guest);
	return 0;
}

static void end_pause(struct vmbus_guest *guest, const struct vmbus_cli_action *action)
{
	/* A parent that has answered and is gone has paused nothing: what is left of its channels goes on. */
	const bool failed = action->status || guest->parent_gone;

	if (guest->pause != VMBUS__PAUSE_ASKED)
		return;
	guest->pause = failed ? VMBUS__PAUSE_OFF : VMBUS__PAUSE_ON;
	if (guest->opts.paused)
		guest->opts.paused(guest->opts.ctx, failed ? VMBUS_E_PEER : 0);
}

/* Whether two pages can be given to the parent: both of the backend's, and not in use there. */
static bool monitor_ok(struct vmbus_guest *guest, const void *p2c, const void *c2p)
{
	return p2c != c2p && vmbus__pages_known(guest, p2c, 1) &&
	       vmbus__pages_known(guest, c2p, 1) && !vmbus__pages_shared(guest, p2c, 1) &&
	       !vmbus__pages_shared(guest, c2p, 1);
}

static uint64_t gpa_of(struct vmbus_guest *guest, const void *page)
{
	return page ? guest->be->pfn(guest->be_ctx, page) * VMBUS_PAGE_BYTES : 0;
}

int vmbus_guest_set_monitor(struct vmbus_guest *guest, void *p2c, void *c2p)
{
	int err;

	if (!p2c != !c2p || (p2c && !monitor_ok(guest, p2c, c2p)))
		return VMBUS_E_INVAL;
	if (!vmbus__guest_usable(guest))
		return VMBUS_E_STATE;
	err = vmbus_cli_modify_connection(guest->cli, gpa_of(guest, p2c), gpa_of(guest, c2p));
	if (err)
		return err;
	guest->monitor_next[0] = p2c;
	guest->monitor_next[1] = c2p;
	vmbus__guest_asked(guest);
	return 0;
}

static void forget(uint8_t *pages[2])
{
	pages[0] = NULL;
	pages[1] = NULL;
}

void vmbus__monitor_over(struct vmbus_guest *guest, bool lost)
{
	const uint32_t pages = (guest->monitor[0] ? 2u : 0) + (guest->monitor_next[0] ? 2u : 0);

	forget(guest->monitor);
	forget(guest->monitor_next);
	if (!lost || !pages)
		return;
	guest->leaked_pages += pages;
	vmbus__guest_log(guest, 0,
			 "the parent has not let go of monitor pages, pages lost: ", pages);
}

/* The answer to set_monitor(). */
static void end_monitor(struct vmbus_guest *guest, const struct vmbus_cli_action *action)
{
	/* With the connection over, nobody has answered: the parent may use either. */
	const bool over = vmbus_cli_version(guest->cli) == 0;

	if (!action->status) {
		guest->monitor[0] = guest->monitor_next[0];
		guest->monitor[1] = guest->monitor_next[1];
	}
	if (!over)
		forget(guest->monitor_next);
	if (guest->opts.monitor_set)
		guest->opts.monitor_set(guest->opts.ctx, !action->status ? 0
							 : over		 ? VMBUS_E_FAULT
									 : VMBUS_E_PEER);
}

bool vmbus__monitor_has(const struct vmbus_guest *guest, const uint8_t *page)
{
	return page == guest->monitor[0] || page == guest->monitor[1] ||
	       page == guest->monitor_next[0] || page == guest->monitor_next[1];
}

void vmbus__conn_action(struct vmbus_guest *guest, const struct vmbus_cli_action *action)
{
	switch (action->act) {
	case VMBUS_CLI_TL_RESULT:
		if (guest->opts.tl_refused)
			guest->opts.tl_refused(guest->opts.ctx, &action->tl, action->status);
		break;
	case VMBUS_CLI_PAUSED:
		end_pause(guest, action);
		break;
	case VMBUS_CLI_CONNECTION_MODIFIED:
		end_monitor(guest, action);
		break;
	case VMBUS_CLI_UNLOADED:
		if (vmbus__guest_usable(guest))
			guest->state = VMBUS_GUEST_REFUSED; /* nobody left: a message had no way */
		else
			guest->unloaded = true;
		guest->pause = VMBUS__PAUSE_OFF;
		vmbus__monitor_over(guest, action->status != 0);
		break;
	default:
		break;
	}
}
