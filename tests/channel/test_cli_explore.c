/* SPDX-License-Identifier: MIT */
/*
 * The client machine through every state that it can reach with two channels and two page lists, and
 * in each of them every call, every message of a parent good or bad, and every fate of a posted
 * message.  After each step: the invariants of cli_check.h; what was refused has changed nothing; and
 * every request is still under way or was answered, once.
 *
 * Two states are the same if they differ only in generations, in ids, and in which slot holds what.
 * After each step all actions but POST are taken.  Long runs: VMBUS_TEST_FULL=1.
 */
#include "clibox.h"

#define CHANS 2u /* at most */
#define LISTS 2u
#define PAGES 27u /* a header and a body */

static uint32_t chans, lists; /* of this run */
static const uint64_t pfns[PAGES] = { 1, 2, 3 };

struct config {
	uint32_t version;
	uint32_t features;
	uint32_t chans, lists;
	uint32_t limit; /* of states, where there are too many for every day */
};

static const struct config configs[] = {
	{ VMBUS_PROTO_5_2, 0, 2, 2, 20000 },
	{ VMBUS_PROTO_6_0, VMBUS_FEATURE_PAUSE, 2, 2, 20000 },
	{ VMBUS_PROTO_5_2, 0, 1, 2, UINT32_MAX },
	{ VMBUS_PROTO_5_3, 0, 1, 2, UINT32_MAX },
	{ VMBUS_PROTO_6_0, VMBUS_FEATURE_PAUSE, 1, 2, UINT32_MAX },
	{ VMBUS_PROTO_5_3, 0, 2, 1, 20000 },
};
#define CONFIGS 6

/* Steps. */
enum step_kind {
	CALL_CONNECT,
	CALL_UNLOAD,
	CALL_DISCONNECT,
	CALL_PAUSE,
	CALL_RESUME,
	CALL_GPADL,    /* channel */
	CALL_TEARDOWN, /* list */
	CALL_OPEN,     /* channel, list */
	CALL_CLOSE,
	CALL_MODIFY,
	CALL_RELEASE,
	TAKE_POST,
	POSTED, /* status */
	SAY	/* type, x: relid or other, y: list or variant, z: status */
};

struct step {
	uint32_t kind, a, b, c, d;
};

static struct step steps[256];
static uint32_t step_count;

static void add(uint32_t kind, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	must(step_count < 256);
	steps[step_count++] = (struct step){ kind, a, b, c, d };
}

static void add_messages(void)
{
	uint32_t r, l, status;

	add(SAY, VMBUS_CTL_VERSION_RESPONSE, 0, 0, 0);
	add(SAY, VMBUS_CTL_VERSION_RESPONSE, 1, 1, 0);
	add(SAY, VMBUS_CTL_VERSION_RESPONSE, 1, 0, 0);
	add(SAY, VMBUS_CTL_ALL_OFFERS, 0, 0, 0);
	add(SAY, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0);
	add(SAY, VMBUS_CTL_PAUSE_RESPONSE, 0, 0, 0);
	for (r = 0; r <= chans + 1; r++) {
		add(SAY, VMBUS_CTL_OFFER, r, 0, 0);
		add(SAY, VMBUS_CTL_RESCIND, r, 0, 0);
		for (status = 0; status < 2; status++) {
			add(SAY, VMBUS_CTL_MODIFY_RESPONSE, r, 0, status);
			add(SAY, VMBUS_CTL_OPEN_RESULT, r, 0, status); /* of the open under way */
			add(SAY, VMBUS_CTL_OPEN_RESULT, r, 1, status); /* of another one */
			for (l = 0; l <= lists && r > 0; l++)
				add(SAY, VMBUS_CTL_GPADL_CREATED, r, l, status);
		}
	}
	for (l = 0; l <= lists; l++)
		add(SAY, VMBUS_CTL_GPADL_TORNDOWN, 0, l, 0);
}

static void make_steps(void)
{
	uint32_t c, l;

	step_count = 0;
	for (c = CALL_CONNECT; c <= CALL_RESUME; c++)
		add(c, 0, 0, 0, 0);
	for (c = 0; c < chans; c++) {
		add(CALL_GPADL, c, 0, 0, 0);
		add(CALL_CLOSE, c, 0, 0, 0);
		add(CALL_MODIFY, c, 0, 0, 0);
		add(CALL_RELEASE, c, 0, 0, 0);
		for (l = 0; l < lists; l++)
			add(CALL_OPEN, c, l, 0, 0);
	}
	for (l = 0; l < lists; l++)
		add(CALL_TEARDOWN, l, 0, 0, 0);
	add(TAKE_POST, 0, 0, 0, 0);
	add(POSTED, 0, 0, 0, 0);
	add(POSTED, 0x13, 0, 0, 0);
	add(POSTED, 0x05, 0, 0, 0);
	add_messages();
}

/* What tells one state from another. */
struct view {
	uint8_t conn, version_at, asked, offers_asked, posting, stale, hold, relids[CHANS + 2];
	uint8_t chan[CHANS][8];
	uint8_t list[LISTS][7];
	uint8_t queue[4][4];
};

static void view_chan(const struct vmbus_cli *cli, uint32_t slot, uint8_t out[8])
{
	const struct vmbus__cli_chan *const c = &cli->chans[slot];
	uint32_t l;

	memset(out, 0, 8);
	out[0] = (uint8_t)c->state;
	if (c->state == VMBUS_CLI_FREE)
		return;
	out[1] = c->orphan;
	out[2] = (uint8_t)c->offer.relid;
	out[3] = c->open_sent;
	out[4] = c->modify;
	for (l = 0; l < lists; l++)
		if (cli->lists[l].state != VMBUS__LIST_FREE && cli->lists[l].id == c->ring_id)
			out[5] = 1;
}

static void view_list(const struct vmbus_cli *cli, uint32_t slot, const uint32_t *chan_order,
		      uint8_t out[7])
{
	const struct vmbus__cli_list *const l = &cli->lists[slot];

	memset(out, 0, 7);
	out[0] = (uint8_t)l->state;
	if (l->state == VMBUS__LIST_FREE)
		return;
	out[1] = (uint8_t)chan_order[l->chan];
	out[2] = l->sent;
	out[3] = l->header_posted;
	out[4] = (uint8_t)l->posted;
	out[5] = cli->chans[l->chan].ring_id == l->id;
	out[6] = l->cut;
}

/* Places of n things of size bytes each when they are sorted. */
static void order_of(const uint8_t *things, uint32_t n, size_t bytes, uint32_t *order)
{
	uint32_t i, j;

	for (i = 0; i < n; i++) {
		order[i] = 0;
		for (j = 0; j < n; j++) {
			const int cmp = memcmp(things + j * bytes, things + i * bytes, bytes);

			order[i] += cmp < 0 || (cmp == 0 && j < i);
		}
	}
}

/* Whether the queue's entry is still wanted by what it names, seen from outside. */
static uint8_t entry_live(const struct vmbus_cli *cli, const struct vmbus__cli_entry *e)
{
	if (e->kind == VMBUS__POST_GPADL)
		return cli->lists[e->slot].id == e->tag &&
		       cli->lists[e->slot].state == VMBUS__LIST_CREATING;
	if (e->kind == VMBUS__POST_TEARDOWN)
		return cli->lists[e->slot].id == e->tag &&
		       cli->lists[e->slot].state == VMBUS__LIST_TEARING;
	if (e->kind == VMBUS__POST_OPEN)
		return cli->chans[e->slot].open_id == e->tag &&
		       cli->chans[e->slot].state == VMBUS_CLI_OPENING;
	if (e->kind == VMBUS__POST_MODIFY)
		return cli->chans[e->slot].gen == e->tag && cli->chans[e->slot].modify != 0;
	if (e->kind == VMBUS__POST_CONTACT)
		return cli->version_at == e->tag && cli->conn == VMBUS__CONN_CONTACT;
	return 1;
}

static void view_queue(const struct vmbus_cli *cli, const uint32_t *chan_order,
		       const uint32_t *list_order, struct view *v)
{
	uint32_t i;

	for (i = 0; i < cli->queue_count; i++) {
		const struct vmbus__cli_entry *const e =
			&cli->queue[(cli->queue_first + i) % cli->opts.queue_max];
		uint8_t *const out = v->queue[i];

		out[0] = (uint8_t)e->kind;
		out[1] = entry_live(cli, e);
		if (e->kind == VMBUS__POST_OPEN || e->kind == VMBUS__POST_MODIFY)
			out[2] = (uint8_t)(out[1] ? chan_order[e->slot] : 9);
		else if (e->kind == VMBUS__POST_GPADL || e->kind == VMBUS__POST_TEARDOWN)
			out[2] = (uint8_t)(out[1] ? list_order[e->slot] : 9);
		else if (e->kind == VMBUS__POST_RELEASED)
			out[2] = (uint8_t)e->slot;
		else if (e->kind == VMBUS__POST_CLOSE)
			out[2] = e->bytes[8];
	}
}

static void view_of(const struct vmbus_cli *cli, struct view *v)
{
	uint8_t view_chans[CHANS][8] = { { 0 } }, view_lists[LISTS][7] = { { 0 } };
	uint32_t chan_order[CHANS], list_order[LISTS], i;

	memset(v, 0, sizeof(*v));
	v->conn = (uint8_t)cli->conn;
	v->version_at = cli->conn == VMBUS__CONN_CONTACT ? (uint8_t)cli->version_at : 0;
	if (cli->conn == VMBUS__CONN_CONTACT || cli->conn == VMBUS__CONN_PAUSING ||
	    cli->conn == VMBUS__CONN_LEAVING)
		v->asked = cli->asked;
	v->offers_asked = cli->conn >= VMBUS__CONN_OFFERS && cli->offers_asked;
	v->posting = cli->posting;
	/* Not whether it is a contact, as not unanswered: an answer that is refused changes them. */
	v->stale = cli->posting_stale != VMBUS__STALE_NO;
	v->hold = cli->hold;
	for (i = 0; i < CHANS + 2; i++)
		v->relids[i] = cli->relids[i] == VMBUS__CLI_RELEASING ? 2 : cli->relids[i] != 0;
	for (i = 0; i < chans; i++)
		view_chan(cli, i, view_chans[i]);
	order_of(view_chans[0], chans, 8, chan_order);
	for (i = 0; i < chans; i++)
		memcpy(v->chan[chan_order[i]], view_chans[i], 8);
	for (i = 0; i < lists; i++)
		view_list(cli, i, chan_order, view_lists[i]);
	order_of(view_lists[0], lists, 7, list_order);
	for (i = 0; i < lists; i++)
		memcpy(v->list[list_order[i]], view_lists[i], 7);
	view_queue(cli, chan_order, list_order, v);
}

/* The states seen, as hashes of 64 bits. */
#define SEEN_BITS 23
static uint64_t *seen;
static uint32_t seen_count;

static bool is_new(const struct view *v)
{
	const uint8_t *const p = (const uint8_t *)v;
	uint64_t h = 0xcbf29ce484222325u;
	size_t i;

	for (i = 0; i < sizeof(*v); i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 32;
	h |= 1;
	for (i = h >> (64 - SEEN_BITS);; i = (i + 1) % (1u << SEEN_BITS)) {
		if (seen[i] == h)
			return false;
		if (seen[i] == 0)
			break;
	}
	seen[i] = h;
	seen_count++;
	must(seen_count < 3u << (SEEN_BITS - 2));
	return true;
}

/* Requests under way and answers to them, of each kind. */
struct ledger {
	int opens, lists, makings, modifies, connection, leaving;
};

/* Whether the caller knows nothing of it yet. */
static bool in_the_making(const struct vmbus__cli_list *l)
{
	return l->state == VMBUS__LIST_CREATING || (l->state == VMBUS__LIST_TEARING && l->cut);
}

static struct ledger under_way(const struct vmbus_cli *cli)
{
	struct ledger l = { 0 };
	uint32_t i;

	for (i = 0; i < chans; i++) {
		l.opens += cli->chans[i].state == VMBUS_CLI_OPENING;
		l.modifies += cli->chans[i].modify != VMBUS__ASK_NONE;
	}
	for (i = 0; i < lists; i++) {
		l.lists += cli->lists[i].state != VMBUS__LIST_FREE;
		l.makings += in_the_making(&cli->lists[i]);
	}
	/* A contact, an unload and a pause are one after the other. */
	l.connection = cli->conn == VMBUS__CONN_CONTACT || cli->conn == VMBUS__CONN_LEAVING ||
		       cli->conn == VMBUS__CONN_PAUSING;
	l.leaving = cli->conn == VMBUS__CONN_LEAVING;
	return l;
}

struct outcome {
	struct ledger answered;
	uint32_t actions;
	uint32_t rescinded;
	bool ended; /* UNLOADED although nobody asked */
};

/* Take what there is to tell; a POST that is due is left alone. */
static void drain(struct vmbus_cli *cli, const uint32_t *making, struct outcome *o)
{
	struct vmbus_cli_action act;

	while (cli->tell_first != VMBUS__CLI_NONE) {
		must_eq(vmbus_cli_next(cli, &act), 1);
		o->actions++;
		switch (act.act) {
		case VMBUS_CLI_OPENED:
			o->answered.opens++;
			break;
		case VMBUS_CLI_MODIFIED:
			o->answered.modifies++;
			break;
		case VMBUS_CLI_GPADL_READY:
			o->answered.makings++;
			o->answered.lists += act.status != 0;
			break;
		case VMBUS_CLI_GPADL_LOST:
			o->answered.makings += making[act.list.slot] == act.list.gen;
			o->answered.lists++;
			break;
		case VMBUS_CLI_GPADL_GONE:
			o->answered.makings += making[act.list.slot] == act.list.gen;
			o->answered.lists++;
			break;
		case VMBUS_CLI_CONNECTED:
		case VMBUS_CLI_REFUSED:
		case VMBUS_CLI_PAUSED:
			o->answered.connection++;
			break;
		case VMBUS_CLI_UNLOADED:
			o->ended = true;
			o->answered.connection++;
			break;
		case VMBUS_CLI_RESCINDED:
			o->rescinded++;
			break;
		default:
			break;
		}
	}
}

static int say(struct clibox *b, const struct step *s)
{
	const struct vmbus_cli *const cli = b->cli;
	uint32_t slot, y = s->c;

	if (s->a == VMBUS_CTL_OFFER)
		return clibox_offer(b, s->b, s->b, 0);
	if (s->a == VMBUS_CTL_GPADL_CREATED || s->a == VMBUS_CTL_GPADL_TORNDOWN)
		y = s->c < lists ? cli->lists[s->c].id : 0x12345;
	if (s->a == VMBUS_CTL_OPEN_RESULT) {
		slot = s->b <= chans ? cli->relids[s->b] : 0;
		y = slot && slot <= chans ? cli->chans[slot - 1].open_id + s->c : 77;
	}
	return clibox_say3(b, s->a, s->b, y,
			   s->a == VMBUS_CTL_VERSION_RESPONSE && s->b && y ? b->opts.features
									   : s->d);
}

/* Make one step: what it returned. */
static int make_step(struct clibox *b, const struct step *s)
{
	struct vmbus_cli *const cli = b->cli;
	const struct vmbus_cli_ref chan = { s->a, s->a < chans ? cli->chans[s->a].gen : 0 };
	struct vmbus_cli_ref list;
	struct vmbus_cli_open open = { .downstream_page = 2 };

	switch (s->kind) {
	case CALL_CONNECT:
		return vmbus_cli_connect(cli);
	case CALL_UNLOAD:
		return vmbus_cli_unload(cli);
	case CALL_DISCONNECT:
		vmbus_cli_disconnect(cli);
		return 0;
	case CALL_PAUSE:
		return vmbus_cli_pause(cli);
	case CALL_RESUME:
		return vmbus_cli_resume(cli);
	case CALL_GPADL:
		return vmbus_cli_gpadl(cli, chan, pfns, PAGES, &list);
	case CALL_TEARDOWN:
		list = (struct vmbus_cli_ref){ s->a, cli->lists[s->a].id };
		return vmbus_cli_gpadl_teardown(cli, list);
	case CALL_OPEN:
		open.list = (struct vmbus_cli_ref){ s->b, cli->lists[s->b].id };
		return vmbus_cli_open(cli, chan, &open);
	case CALL_CLOSE:
		return vmbus_cli_close(cli, chan);
	case CALL_MODIFY:
		return vmbus_cli_modify(cli, chan, 0);
	case CALL_RELEASE:
		return vmbus_cli_release(cli, chan);
	case TAKE_POST:
		return vmbus_cli_next(cli, &b->act) == 1 ? 0 : VMBUS_E_AGAIN;
	case POSTED:
		return vmbus_cli_posted(cli, s->a);
	default:
		return say(b, s);
	}
}

static void must_balance(const struct ledger *before, const struct ledger *after,
			 const struct outcome *o, const struct step *s, bool taken)
{
	const int opened = taken && s->kind == CALL_OPEN;
	const int described = taken && s->kind == CALL_GPADL;
	const int modified = taken && s->kind == CALL_MODIFY;
	const int asked = taken && (s->kind == CALL_CONNECT || s->kind == CALL_UNLOAD ||
				    s->kind == CALL_PAUSE);

	must_eq(before->opens + opened, after->opens + o->answered.opens);
	must_eq(before->lists + described, after->lists + o->answered.lists);
	must_eq(before->makings + described, after->makings + o->answered.makings);
	must_eq(before->modifies + modified, after->modifies + o->answered.modifies);
	must_eq(before->connection + asked + (o->ended && !before->leaving),
		after->connection + o->answered.connection);
}

static void check_step(struct clibox *b, const struct step *s)
{
	struct vmbus_cli *const cli = b->cli;
	const struct ledger before = under_way(cli);
	const uint64_t refused = clibox_refused(b);
	uint32_t making[LISTS], i;
	struct outcome o = { .actions = 0 };
	struct ledger after;
	struct view was, is;
	bool no_change;
	int ret;

	for (i = 0; i < lists; i++)
		making[i] = in_the_making(&cli->lists[i]) ? cli->lists[i].id : 0;
	view_of(cli, &was);
	ret = make_step(b, s);
	cli_check(cli);
	drain(cli, making, &o);
	cli_check(cli);
	view_of(cli, &is);
	after = under_way(cli);
	/* The look that a held message costs, and passing over what nobody wants, are no change. */
	no_change = (ret < 0 && ret != VMBUS_E_PEER && s->kind != TAKE_POST) ||
		    clibox_refused(b) != refused;
	if (no_change) {
		must_eq(o.actions, 0);
		must(memcmp(&was, &is, sizeof(was)) == 0);
	}
	must_balance(&before, &after, &o, s, ret == 0);
}

/* Snapshots: all but the tail of the map of relids, which stays empty. */
static size_t head_bytes(void)
{
	return offsetof(struct vmbus_cli, relids) + 16;
}

static void save(const struct clibox *b, uint8_t *to)
{
	const uint8_t *const from = b->storage;

	memcpy(to, from, head_bytes());
	memcpy(to + head_bytes(), from + sizeof(struct vmbus_cli),
	       b->bytes - sizeof(struct vmbus_cli));
}

static void restore(struct clibox *b, const uint8_t *from)
{
	uint8_t *const to = b->storage;

	memcpy(to, from, head_bytes());
	memcpy(to + sizeof(struct vmbus_cli), from + head_bytes(),
	       b->bytes - sizeof(struct vmbus_cli));
}

struct frontier {
	uint8_t **snap;
	uint32_t count, room;
};

static void keep(struct frontier *f, const struct clibox *b)
{
	uint8_t *const snap = malloc(b->bytes);

	if (f->count == f->room) {
		f->room = f->room ? f->room * 2 : 1024;
		f->snap = realloc(f->snap, f->room * sizeof(*f->snap));
	}
	must(snap != NULL && f->snap != NULL);
	save(b, snap);
	f->snap[f->count++] = snap;
}

/* Depth first: the states not looked at yet stay few. */
static void explore(struct clibox *b, uint32_t limit)
{
	struct frontier f = { 0 };
	uint64_t made = 0;
	struct view v;
	uint32_t s;

	view_of(b->cli, &v);
	(void)is_new(&v);
	keep(&f, b);
	while (f.count && seen_count < limit) {
		uint8_t *const snap = f.snap[--f.count];

		for (s = 0; s < step_count; s++) {
			restore(b, snap);
			vmbus_test_at("state %u step %u: kind %u %u %u %u %u, conn %u", seen_count,
				      s, steps[s].kind, steps[s].a, steps[s].b, steps[s].c,
				      steps[s].d, b->cli->conn);
			check_step(b, &steps[s]);
			made++;
			view_of(b->cli, &v);
			if (is_new(&v))
				keep(&f, b);
		}
		free(snap);
	}
	printf("%u states, %llu steps, %s\n", seen_count, (unsigned long long)made,
	       f.count ? "not all" : "all");
	while (f.count)
		free(f.snap[--f.count]);
	free(f.snap);
}

START_TEST(cli_explore__every_state_and_step)
{
	const struct vmbus_cli_opts o = { .chans_max = configs[_i].chans,
					  .gpadls_max = configs[_i].lists,
					  .queue_max = 2,
					  .version_max = configs[_i].version,
					  .version_min = configs[_i].version,
					  .features = configs[_i].features };
	struct clibox b;

	chans = configs[_i].chans;
	lists = configs[_i].lists;
	make_steps();
	seen = calloc(1u << SEEN_BITS, sizeof(*seen));
	must(seen != NULL);
	clibox_open(&b, &o);
	explore(&b, vmbus_test_full() ? UINT32_MAX : configs[_i].limit);
	free(seen);
	clibox_close(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "explore", 30);

	tcase_add_loop_test(tc, cli_explore__every_state_and_step, 0, CONFIGS);
}

VMBUS_TEST_MAIN("channel.cli_explore", tests)
