/* SPDX-License-Identifier: MIT */
/*
 * The tables of the host machine: every state of a channel with every event, by the messages and
 * calls that make the event; and the tables in vmbus_channel(7), which are printed from the code's.
 * When they differ the test prints what the page should have.
 */
#include "srvbox.h"

/* A machine with channel 1 in a state, rings in page list 1, and list 2, which keeps it busy. */
struct scene {
	struct srvbox *box;
	struct vmbus_srv_ref chan;
	struct vmbus_srv_ref spare;
};

static void say(struct scene *s, uint32_t type)
{
	must_eq(srvbox_say(s->box, type, 1, 1), 0);
	while (srvbox_take(s->box))
		continue;
}

static void drain(struct scene *s)
{
	while (srvbox_take(s->box))
		continue;
}

static void open_scene(struct scene *s)
{
	s->box = srvbox_new(NULL);
	s->chan = srvbox_offer(s->box, 1);
	srvbox_connect(s->box, VMBUS_PROTO_5_3, 0);
	(void)srvbox_gpadl(s->box, 1, 1, 8);
	s->spare = srvbox_gpadl(s->box, 1, 2, 8);
}

/* Bring the channel to a state. */
static void make_scene(struct scene *s, uint32_t state)
{
	open_scene(s);
	switch (state) {
	case VMBUS_SRV_CLIENT_RELEASED:
		vmbus_srv_disconnect(s->box->srv);
		memset(&s->box->shadow, 0, sizeof(s->box->shadow));
		drain(s);
		must_eq(vmbus_srv_gpadl_gone(s->box->srv, s->spare), 0);
		must_eq(vmbus_srv_gpadl_gone(s->box->srv, (struct vmbus_srv_ref){ 0, 1 }), 0);
		drain(s);
		must_eq(srvbox_contact(s->box, VMBUS_PROTO_5_3, 0), 0);
		drain(s);
		return;
	case VMBUS_SRV_CLOSED:
		return;
	case VMBUS_SRV_REVOKED:
		must_eq(vmbus_srv_reoffer(s->box->srv, s->chan), 0);
		drain(s);
		return;
	case VMBUS_SRV_RELEASING:
		say(s, VMBUS_CTL_RELID_RELEASED);
		return;
	default:
		break;
	}
	must_eq(srvbox_say_open(s->box, 1, 1, 4), 0);
	drain(s);
	if (state == VMBUS_SRV_OPENING)
		return;
	if (state == VMBUS_SRV_REVOKED_OPENING || state == VMBUS_SRV_OPENING_RELEASE) {
		must_eq(vmbus_srv_reoffer(s->box->srv, s->chan), 0);
		drain(s);
		if (state == VMBUS_SRV_OPENING_RELEASE)
			say(s, VMBUS_CTL_RELID_RELEASED);
		return;
	}
	must_eq(vmbus_srv_opened(s->box->srv, s->chan, 0), 0);
	drain(s);
	if (state == VMBUS_SRV_OPENED)
		return;
	if (state == VMBUS_SRV_REVOKED_CLOSING)
		must_eq(vmbus_srv_reoffer(s->box->srv, s->chan), 0);
	else
		say(s, VMBUS_CTL_CLOSE);
	drain(s);
	if (state == VMBUS_SRV_CLOSING_REOPEN)
		must_eq(srvbox_say_open(s->box, 1, 1, 4), 0);
	if (state == VMBUS_SRV_CLOSING_RELEASE)
		say(s, VMBUS_CTL_RELID_RELEASED);
}

static void happen(struct scene *s, uint32_t event)
{
	struct srvbox *const box = s->box;

	switch (event) {
	case EV_OPEN:
		(void)srvbox_say_open(box, 1, 1, 4);
		break;
	case EV_OPEN_BAD:
		(void)srvbox_say_open(box, 1, 1, 1);
		break;
	case EV_CLOSE:
		(void)srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0);
		break;
	case EV_GPADL:
		(void)srvbox_say_header(box, 1, 3, 8, 8);
		break;
	case EV_MODIFY:
		(void)srvbox_say(box, VMBUS_CTL_MODIFY, 1, 1);
		break;
	case EV_RELEASE:
		(void)srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0);
		break;
	case EV_CHILD_GONE:
		(void)srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0);
		break;
	case EV_OFFER:
		(void)srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0);
		break;
	case EV_REVOKE:
		must_eq(vmbus_srv_revoke(box->srv, s->chan), 0);
		break;
	case EV_OPENED:
		(void)vmbus_srv_opened(box->srv, s->chan, 0);
		break;
	case EV_OPEN_FAILED:
		(void)vmbus_srv_opened(box->srv, s->chan, 1);
		break;
	default:
		(void)vmbus_srv_closed(box->srv, s->chan);
		break;
	}
	srvbox_check(box);
}

START_TEST(srv__every_cell)
{
	const uint32_t state = (uint32_t)_i;
	uint32_t event;

	for (event = 0; event < EV_SETTLED; event++) {
		const struct srv_cell *const cell = vmbus__srv_cell(state, event);
		struct scene s;
		uint32_t next = cell->act ? cell->next : state, is;

		vmbus_test_at("%s, %s", vmbus_srv_state_name(state), vmbus__srv_event_name(event));
		make_scene(&s, state);
		must_eq(s.box->srv->chans[0].state, state);
		happen(&s, event);
		is = s.box->srv->chans[0].state;
		/* One that nobody heard of settles at once. */
		if (state == VMBUS_SRV_CLIENT_RELEASED && event == EV_REVOKE)
			next = VMBUS_SRV_FREE;
		must_eq(is, next);
		srvbox_free(s.box);
	}
}
END_TEST

/* How a channel settles, by its fate. */
START_TEST(srv__every_fate)
{
	struct scene s;

	make_scene(&s, VMBUS_SRV_RELEASING);
	if (_i == 1)
		must_eq(vmbus_srv_reoffer(s.box->srv, s.chan), 0);
	if (_i == 2)
		must_eq(vmbus_srv_revoke(s.box->srv, s.chan), 0);
	must_eq(vmbus_srv_gpadl_gone(s.box->srv, s.spare), 0);
	must_eq(s.box->srv->chans[0].state, VMBUS_SRV_RELEASING);
	must_eq(vmbus_srv_gpadl_gone(s.box->srv, (struct vmbus_srv_ref){ 0, 1 }), 0);
	must_eq(s.box->srv->chans[0].state, _i == 0   ? VMBUS_SRV_CLIENT_RELEASED
					    : _i == 1 ? VMBUS_SRV_CLOSED
						      : VMBUS_SRV_FREE);
	must_eq(srvbox_take(s.box), _i == 0 ? 0 : _i == 1 ? VMBUS_SRV_SEND : VMBUS_SRV_RELEASED);
	srvbox_free(s.box);
}
END_TEST

/* The tables in print. */
static char text[20000];
static size_t used;

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void print(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	used += (size_t)vsnprintf(text + used, sizeof(text) - used, format, args);
	va_end(args);
	must(used < sizeof(text));
}

static void print_cell(const char *event, const char *next, const char *what)
{
	print(what[0] ? "    %-17s %-18s %s\n" : "    %-17s %s\n", event, next, what);
}

static void print_channels(void)
{
	uint32_t s, e;

	for (s = 1; s < VMBUS_SRV_STATES; s++) {
		print("%s\n", vmbus_srv_state_name(s));
		for (e = 0; e < EV_COUNT; e++) {
			const struct srv_cell *const cell = vmbus__srv_cell(s, e);

			if (cell->act)
				print_cell(vmbus__srv_event_name(e),
					   vmbus_srv_state_name(cell->next), cell->name);
		}
	}
}

static void print_lists(void)
{
	uint32_t s, e;

	for (s = 1; s < L_STATES; s++) {
		print("%s\n", vmbus__srv_list_state_name(s));
		for (e = 0; e < LV_COUNT; e++) {
			const struct srv_list_cell *const cell = vmbus__srv_list_cell(s, e);

			if (cell->act)
				print_cell(vmbus__srv_list_event_name(e),
					   vmbus__srv_list_state_name(cell->next), cell->name);
		}
	}
}

static void print_connection(void)
{
	uint32_t s, e;

	for (s = 0; s < CONN_STATES; s++) {
		print("%s\n", vmbus__srv_conn_state_name(s));
		for (e = 0; e < CV_COUNT; e++) {
			const struct srv_conn_cell *const cell = vmbus__srv_conn_cell(s, e);

			if (cell->act)
				print_cell(vmbus__srv_conn_event_name(e),
					   vmbus__srv_conn_state_name(cell->next), cell->name);
		}
	}
}

/* The page between a comment that begins with the table's name, and .Ed. */
START_TEST(srv__tables_are_those_of_the_manual)
{
	static void (*const printers[])(void) = { print_connection, print_channels, print_lists };
	static const char *const marks[] = { ".\\\" table: srv connection\n",
					     ".\\\" table: srv channel\n",
					     ".\\\" table: srv page list\n" };
	static char page[200000];
	const char *const source = getenv("VMBUS_SOURCE_DIR");
	char path[1000];
	const char *at;
	size_t n;
	FILE *f;

	if (!source)
		VMBUS_TEST_SKIP("VMBUS_SOURCE_DIR is not set");
	snprintf(path, sizeof(path), "%s/man/vmbus_channel.7", source);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	n = fread(page, 1, sizeof(page) - 1, f);
	page[n] = '\0';
	fclose(f);
	used = 0;
	print("%s.Bd -literal\n", marks[_i]);
	printers[_i]();
	print(".Ed\n");
	at = strstr(page, text);
	if (!at) {
		printf("%s", text);
		fflush(stdout);
	}
	ck_assert_msg(at != NULL, "%s differs from the code; the right table was printed", path);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "table", 10);

	tcase_add_loop_test(tc, srv__every_cell, 1, VMBUS_SRV_STATES);
	tcase_add_loop_test(tc, srv__every_fate, 0, 3);
	tcase_add_loop_test(tc, srv__tables_are_those_of_the_manual, 0, 3);
}
VMBUS_TEST_MAIN("channel.srv_table", tests)
