/* SPDX-License-Identifier: MIT */
/*
 * The states of a channel as a child sees it, and what each event does in each of them.
 *
 * A cell left out refuses the event, so a forgotten case fails closed.  The table of
 * vmbus_channel(7) is compared with this one by tests/channel/test_cli_table.c.
 */
#include "channel/cli_machine.h"

struct cell {
	uint8_t allowed;
	uint8_t to;
};

/* clang-format off */
static const struct cell table[VMBUS_CLI_STATES][VMBUS__CLI_EVENTS] = {
	[VMBUS_CLI_FREE] = {
		[VMBUS__CLI_EV_OFFER]	      = { 1, VMBUS_CLI_CLOSED },
	},
	[VMBUS_CLI_CLOSED] = {
		[VMBUS__CLI_EV_OPEN]	      = { 1, VMBUS_CLI_OPENING },
		[VMBUS__CLI_EV_GPADL]	      = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_TEARDOWN]      = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_TEARDOWN_RING] = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_MODIFIED]      = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_RESCIND]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
		[VMBUS__CLI_EV_LOST]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
	},
	[VMBUS_CLI_OPENING] = {
		[VMBUS__CLI_EV_GPADL]	      = { 1, VMBUS_CLI_OPENING },
		[VMBUS__CLI_EV_TEARDOWN]      = { 1, VMBUS_CLI_OPENING },
		[VMBUS__CLI_EV_OPENED]	      = { 1, VMBUS_CLI_OPEN },
		[VMBUS__CLI_EV_OPEN_FAILED]   = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_MODIFIED]      = { 1, VMBUS_CLI_OPENING },
		[VMBUS__CLI_EV_RESCIND]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
		[VMBUS__CLI_EV_LOST]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
	},
	[VMBUS_CLI_OPEN] = {
		[VMBUS__CLI_EV_CLOSE]	      = { 1, VMBUS_CLI_CLOSED },
		[VMBUS__CLI_EV_MODIFY]	      = { 1, VMBUS_CLI_OPEN },
		[VMBUS__CLI_EV_GPADL]	      = { 1, VMBUS_CLI_OPEN },
		[VMBUS__CLI_EV_TEARDOWN]      = { 1, VMBUS_CLI_OPEN },
		[VMBUS__CLI_EV_MODIFIED]      = { 1, VMBUS_CLI_OPEN },
		[VMBUS__CLI_EV_RESCIND]	      = { 1, VMBUS_CLI_RESCINDED_OPEN },
		[VMBUS__CLI_EV_LOST]	      = { 1, VMBUS_CLI_RESCINDED_OPEN },
	},
	[VMBUS_CLI_RESCINDED_CLOSED] = {
		[VMBUS__CLI_EV_TEARDOWN]      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
		[VMBUS__CLI_EV_TEARDOWN_RING] = { 1, VMBUS_CLI_RESCINDED_CLOSED },
		[VMBUS__CLI_EV_RELEASE]	      = { 1, VMBUS_CLI_FREE },
		[VMBUS__CLI_EV_LOST]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
	},
	[VMBUS_CLI_RESCINDED_OPEN] = {
		[VMBUS__CLI_EV_CLOSE]	      = { 1, VMBUS_CLI_RESCINDED_CLOSED },
		[VMBUS__CLI_EV_TEARDOWN]      = { 1, VMBUS_CLI_RESCINDED_OPEN },
		[VMBUS__CLI_EV_RELEASE]	      = { 1, VMBUS_CLI_FREE },
		[VMBUS__CLI_EV_LOST]	      = { 1, VMBUS_CLI_RESCINDED_OPEN },
	},
};
/* clang-format on */

static const char *const state_names[VMBUS_CLI_STATES] = {
	[VMBUS_CLI_FREE] = "free",
	[VMBUS_CLI_CLOSED] = "closed",
	[VMBUS_CLI_OPENING] = "opening",
	[VMBUS_CLI_OPEN] = "open",
	[VMBUS_CLI_RESCINDED_CLOSED] = "rescinded closed",
	[VMBUS_CLI_RESCINDED_OPEN] = "rescinded open",
};

static const char *const event_names[VMBUS__CLI_EVENTS] = {
	[VMBUS__CLI_EV_OPEN] = "open()",
	[VMBUS__CLI_EV_CLOSE] = "close()",
	[VMBUS__CLI_EV_MODIFY] = "modify()",
	[VMBUS__CLI_EV_GPADL] = "gpadl()",
	[VMBUS__CLI_EV_TEARDOWN] = "gpadl_teardown(), other",
	[VMBUS__CLI_EV_TEARDOWN_RING] = "gpadl_teardown(), the rings'",
	[VMBUS__CLI_EV_RELEASE] = "release()",
	[VMBUS__CLI_EV_OFFER] = "offer",
	[VMBUS__CLI_EV_OPENED] = "open result, 0",
	[VMBUS__CLI_EV_OPEN_FAILED] = "open result, failure",
	[VMBUS__CLI_EV_MODIFIED] = "modify response",
	[VMBUS__CLI_EV_RESCIND] = "rescind",
	[VMBUS__CLI_EV_LOST] = "end of the connection",
};

bool vmbus__cli_allows(uint32_t state, uint32_t event, uint32_t *to)
{
	VMBUS_REQUIRE(state < VMBUS_CLI_STATES && event < VMBUS__CLI_EVENTS);
	*to = table[state][event].to;
	return table[state][event].allowed != 0;
}

const char *vmbus__cli_event_name(uint32_t event)
{
	return event < VMBUS__CLI_EVENTS ? event_names[event] : "?";
}

const char *vmbus_cli_state_name(uint32_t state)
{
	return state < VMBUS_CLI_STATES ? state_names[state] : "?";
}
