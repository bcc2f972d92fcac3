/* SPDX-License-Identifier: MIT */
/*
 * The table of src/channel/cli_table.c: every state with every event, through the calls and messages
 * that make the event, and the table of vmbus_channel(7), which is the same one in print.
 */
#include "clibox.h"

/* A machine with one channel in a state; ring is the page list that it was opened with, if it was. */
struct scene {
	struct clibox b;
	struct vmbus_cli_ref chan, spare, ring;
	uint32_t open_id;
};

static void make_scene(struct scene *s, uint32_t state)
{
	const struct vmbus_cli_opts o = { .chans_max = 2, .gpadls_max = 4 };
	struct vmbus_cli_open open;

	clibox_open(&s->b, &o);
	clibox_connect_n(&s->b, 1);
	s->chan = clibox_chan(&s->b, 1);
	s->spare = clibox_gpadl(&s->b, 1);
	s->ring = clibox_gpadl(&s->b, 1);
	open = clibox_rings(s->ring);
	must_eq(vmbus_cli_open(s->b.cli, s->chan, &open), 0);
	clibox_post(&s->b, VMBUS_CTL_OPEN, 0);
	s->open_id = clibox_posted(&s->b).u.open.open_id;
	if (state == VMBUS_CLI_OPENING)
		return;
	must_eq(clibox_say3(&s->b, VMBUS_CTL_OPEN_RESULT, 1, s->open_id, 0), 0);
	clibox_take(&s->b, VMBUS_CLI_OPENED);
	if (state == VMBUS_CLI_CLOSED || state == VMBUS_CLI_RESCINDED_CLOSED) {
		must_eq(vmbus_cli_close(s->b.cli, s->chan), 0);
		clibox_post(&s->b, VMBUS_CTL_CLOSE, 0);
	}
	if (state != VMBUS_CLI_RESCINDED_CLOSED && state != VMBUS_CLI_RESCINDED_OPEN)
		return;
	must_eq(clibox_say3(&s->b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	clibox_take(&s->b, VMBUS_CLI_RESCINDED);
}

/* For the release: no page list is left. */
static void drop_lists(struct scene *s)
{
	struct vmbus__cli_list *lists[2];
	int i;

	lists[0] = &s->b.cli->lists[s->spare.slot];
	lists[1] = &s->b.cli->lists[s->ring.slot];
	for (i = 0; i < 2; i++)
		vmbus__cli_list_put(s->b.cli, lists[i]);
}

/* A modify that waits for its answer, where one can be. */
static void begin_modify(struct scene *s, uint32_t state)
{
	struct vmbus__cli_chan *const chan = &s->b.cli->chans[s->chan.slot];

	if (state == VMBUS_CLI_CLOSED || state == VMBUS_CLI_OPENING || state == VMBUS_CLI_OPEN)
		chan->modify = VMBUS__ASK_SENT; /* begun while it was open */
}

/* Let the event happen; whether the machine took it. */
static bool happen(struct scene *s, uint32_t state, uint32_t event)
{
	const uint64_t refused = clibox_refused(&s->b);
	struct vmbus_cli *const cli = s->b.cli;
	const struct vmbus_cli_open open = clibox_rings(s->spare);
	struct vmbus_cli_ref list;

	switch (event) {
	case VMBUS__CLI_EV_OPEN:
		return vmbus_cli_open(cli, s->chan, &open) == 0;
	case VMBUS__CLI_EV_CLOSE:
		return vmbus_cli_close(cli, s->chan) == 0;
	case VMBUS__CLI_EV_MODIFY:
		return vmbus_cli_modify(cli, s->chan, 1) == 0;
	case VMBUS__CLI_EV_GPADL:
		return vmbus_cli_gpadl(cli, s->chan, clibox_pfns, 4, &list) == 0;
	case VMBUS__CLI_EV_TEARDOWN:
		return vmbus_cli_gpadl_teardown(cli, s->spare) == 0;
	case VMBUS__CLI_EV_TEARDOWN_RING:
		return vmbus_cli_gpadl_teardown(cli, s->ring) == 0;
	case VMBUS__CLI_EV_RELEASE:
		drop_lists(s);
		return vmbus_cli_release(cli, s->chan) == 0;
	case VMBUS__CLI_EV_OFFER:
		must_eq(clibox_offer(&s->b, 1, 1, 0), 0);
		break;
	case VMBUS__CLI_EV_OPENED:
	case VMBUS__CLI_EV_OPEN_FAILED:
		must_eq(clibox_say3(&s->b, VMBUS_CTL_OPEN_RESULT, 1, s->open_id,
				    event != VMBUS__CLI_EV_OPENED),
			0);
		break;
	case VMBUS__CLI_EV_MODIFIED:
		begin_modify(s, state);
		must_eq(clibox_say3(&s->b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, 0), 0);
		break;
	case VMBUS__CLI_EV_RESCIND:
		must_eq(clibox_say3(&s->b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
		break;
	default:
		vmbus_cli_disconnect(cli);
		break;
	}
	return clibox_refused(&s->b) == refused;
}

START_TEST(cli_table__every_cell)
{
	const uint32_t state = (uint32_t)_i / VMBUS__CLI_EVENTS;
	const uint32_t event = (uint32_t)_i % VMBUS__CLI_EVENTS;
	const bool want = vmbus__cli_allows(state, event, &(uint32_t){ 0 });
	struct scene s;
	uint32_t to;

	vmbus_test_at("%s, %s", vmbus_cli_state_name(state), vmbus__cli_event_name(event));
	if (state == VMBUS_CLI_FREE) /* refs of a free slot: cli_calls__stale_refs */
		return;
	make_scene(&s, state);
	must_eq(s.b.cli->chans[s.chan.slot].state, state);
	must_eq(happen(&s, state, event), want);
	(void)vmbus__cli_allows(state, event, &to);
	must_eq(s.b.cli->chans[s.chan.slot].state, want ? to : state);
	cli_check(s.b.cli);
	clibox_close(&s.b);
}
END_TEST

static const char *const columns[VMBUS_CLI_STATES] = { "free", "closed",   "opening",
						       "open", "r.closed", "r.open" };

static void table_text(char *text, size_t bytes)
{
	size_t at = 0;
	uint32_t state, event, to;

	at += (size_t)snprintf(text + at, bytes - at, "%-32s", "");
	for (state = 0; state < VMBUS_CLI_STATES; state++)
		at += (size_t)snprintf(text + at, bytes - at, "%s%-8s", state ? " " : "",
				       columns[state]);
	for (event = 0; event < VMBUS__CLI_EVENTS; event++) {
		while (text[at - 1] == ' ')
			at--;
		at += (size_t)snprintf(text + at, bytes - at, "\n%-32s",
				       vmbus__cli_event_name(event));
		for (state = 0; state < VMBUS_CLI_STATES; state++) {
			const bool taken = vmbus__cli_allows(state, event, &to);

			at += (size_t)snprintf(text + at, bytes - at, "%s%-8s", state ? " " : "",
					       !taken	     ? "-"
					       : to == state ? "stays"
							     : columns[to]);
		}
	}
	while (text[at - 1] == ' ')
		at--;
	text[at++] = '\n';
	text[at] = '\0';
}

static const char *const conns[VMBUS__CONN_STATES] = { "idle",	  "contact", "offers", "ready",
						       "pausing", "paused",  "leaving" };

/* Which message has a meaning in which state of the connection. */
static void message_text(char *text, size_t bytes)
{
	static const char *const fates[] = { "-", "passed", "taken" };
	size_t at = 0;
	uint32_t conn, type;

	at += (size_t)snprintf(text + at, bytes - at, "%-28s", "");
	for (conn = 0; conn < VMBUS__CONN_STATES; conn++)
		at += (size_t)snprintf(text + at, bytes - at, "%s%-7s", conn ? " " : "",
				       conns[conn]);
	for (type = 1; type < VMBUS_CTL_TYPES; type++) {
		bool any = false;

		for (conn = 0; conn < VMBUS__CONN_STATES; conn++)
			any |= vmbus__cli_message_in(conn, type) != VMBUS__MESSAGE_REFUSED;
		if (!any)
			continue;
		while (text[at - 1] == ' ')
			at--;
		at += (size_t)snprintf(text + at, bytes - at, "\n%-28s", vmbus_ctl_type_name(type));
		for (conn = 0; conn < VMBUS__CONN_STATES; conn++)
			at += (size_t)snprintf(text + at, bytes - at, "%s%-7s", conn ? " " : "",
					       fates[vmbus__cli_message_in(conn, type)]);
	}
	while (text[at - 1] == ' ')
		at--;
	text[at++] = '\n';
	text[at] = '\0';
}

/* The page as one string; NULL when this is not the source tree. */
static char *read_page(void)
{
	const char *const source = getenv("VMBUS_SOURCE_DIR");
	char path[512];
	char *text;
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/man/vmbus_channel.7", source ? source : ".");
	file = fopen(path, "r");
	if (!file)
		return NULL;
	text = malloc(1 << 20);
	must(text != NULL);
	n = fread(text, 1, (1 << 20) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

/* VMBUS_PRINT=1 in the environment prints the tables for the page. */
START_TEST(cli_table__is_the_page_s)
{
	static char text[16384];
	char *page;

	if (_i == 0)
		table_text(text, sizeof(text));
	else
		message_text(text, sizeof(text));
	if (getenv("VMBUS_PRINT"))
		printf("%s", text);
	page = read_page();
	if (!page)
		VMBUS_TEST_SKIP("man/vmbus_channel.7 is not here");
	ck_assert_msg(strstr(page, text) != NULL, "vmbus_channel(7) must have this table:\n%s",
		      text);
	free(page);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "table", 10);

	tcase_add_loop_test(tc, cli_table__every_cell, 0, VMBUS_CLI_STATES * VMBUS__CLI_EVENTS);
	tcase_add_loop_test(tc, cli_table__is_the_page_s, 0, 2);
}

VMBUS_TEST_MAIN("channel.cli_table", tests)
