/* SPDX-License-Identifier: MIT */
/*
 * Page lists (GPADLs): their table, how they are put together from fragments, checked, counted
 * and given back.
 *
 * Keeps: ids in progress are unique over the connection, since a BODY names no channel; a list
 * that the child was told of is answered exactly once for its creation and once for its teardown;
 * TORNDOWN goes out only after the device dropped its views; the counters equal what is held.
 * Knows nothing of where pages are, nor whether they exist: that is the device's side.
 */
#include "channel/srv.h"

#include <vmbus/srv_save.h>

#define RANGE_HEADER_QWORDS 1u
#define PFN_LIMIT (1ull << 52) /* page numbers are below: an address has 64 bits */

static void act_nothing(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_ask(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_fail(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_instant(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_give_up(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_silence(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_accept(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_refuse(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_withdraw(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_teardown(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_owe(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_drop(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_down(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_accept_down(struct vmbus_srv *srv, uint32_t at, const void *arg);
static void act_gone(struct vmbus_srv *srv, uint32_t at, const void *arg);

/* clang-format off */
/* A cell left out refuses the event. */
static const struct srv_list_cell table[L_STATES][LV_COUNT] = {
	[L_UNFINISHED] = {
		[LV_COMPLETE]	= { L_OFFERED,	    "ask the device",	   act_ask },
		[LV_IMPOSSIBLE]	= { L_DONE,	    "CREATED(failed)",	   act_fail },
		[LV_INSTANT]	= { L_DONE,	    "CREATED(ok)",	   act_instant },
		[LV_TEARDOWN]	= { L_DONE,	    "CREATED(failed), TORNDOWN", act_give_up },
		[LV_RELEASE]	= { L_DONE,	    "drop",		   act_silence },
		[LV_REVOKE]	= { L_UNFINISHED,   "",			   act_nothing },
	},
	[L_OFFERED] = {
		[LV_READY]	= { L_ACCEPTED,	    "CREATED(ok)",	   act_accept },
		[LV_REFUSED]	= { L_DONE,	    "CREATED(failed)",	   act_refuse },
		[LV_TEARDOWN]	= { L_OFFERED_DROP, "",			   act_owe },
		[LV_RELEASE]	= { L_OFFERED_DROP, "owe nothing",	   act_silence },
		[LV_REVOKE]	= { L_OFFERED_DROP, "CREATED(failed)",	   act_withdraw },
	},
	[L_OFFERED_DROP] = {
		[LV_READY]	= { L_DOWN,	    "CREATED(ok) if owed, down", act_accept_down },
		[LV_REFUSED]	= { L_DONE,	    "CREATED(failed), TORNDOWN if owed", act_refuse },
		[LV_TEARDOWN]	= { L_OFFERED_DROP, "",			   act_owe },
		[LV_RELEASE]	= { L_OFFERED_DROP, "owe nothing",	   act_silence },
		[LV_REVOKE]	= { L_OFFERED_DROP, "CREATED(failed) if owed", act_withdraw },
	},
	[L_ACCEPTED] = {
		[LV_TEARDOWN]	= { L_HELD,	    "down unless it is the open ring", act_teardown },
		[LV_RELEASE]	= { L_HELD,	    "down unless the device is open", act_drop },
		[LV_REVOKE]	= { L_ACCEPTED,	    "",			   act_nothing },
		[LV_IDLE]	= { L_ACCEPTED,	    "",			   act_nothing },
	},
	[L_HELD] = {
		[LV_TEARDOWN]	= { L_HELD,	    "",			   act_owe },
		[LV_RELEASE]	= { L_HELD,	    "owe nothing",	   act_silence },
		[LV_REVOKE]	= { L_HELD,	    "",			   act_nothing },
		[LV_IDLE]	= { L_DOWN,	    "down",		   act_down },
	},
	[L_DOWN] = {
		[LV_TEARDOWN]	= { L_DOWN,	    "",			   act_owe },
		[LV_RELEASE]	= { L_DOWN,	    "owe nothing",	   act_silence },
		[LV_REVOKE]	= { L_DOWN,	    "",			   act_nothing },
		[LV_IDLE]	= { L_DOWN,	    "",			   act_nothing },
		[LV_GONE]	= { L_DONE,	    "TORNDOWN if owed",	   act_gone },
	},
	[L_DONE] = {
		[LV_RELEASE]	= { L_DONE,	    "owe nothing",	   act_silence },
		[LV_REVOKE]	= { L_DONE,	    "",			   act_nothing },
		[LV_IDLE]	= { L_DONE,	    "",			   act_nothing },
	},
};
/* clang-format on */

static const char *const state_names[L_STATES] = {
	"free",	    "unfinished", "offered", "offered, to be dropped",
	"accepted", "held",	  "down",    "done",
};

static const char *const event_names[LV_COUNT] = {
	"complete", "impossible", "instant", "ready", "refused",
	"teardown", "release",	  "revoke",  "idle",  "gone",
};

const struct srv_list_cell *vmbus__srv_list_cell(uint32_t state, uint32_t event)
{
	return &table[state][event];
}

const char *vmbus__srv_list_state_name(uint32_t state)
{
	return state_names[state];
}

const char *vmbus__srv_list_event_name(uint32_t event)
{
	return event_names[event];
}

/*
 * The child picks ids, so consecutive ones must not meet in one bucket, and it must not know which
 * ones do.
 */
static uint32_t bucket_of(const struct vmbus_srv *srv, uint32_t id)
{
	uint32_t h = id ^ srv->opts.hash_seed;

	h = (uint32_t)((h ^ h >> 16) * (uint64_t)0x7feb352du);
	h = (uint32_t)((h ^ h >> 15) * (uint64_t)0x846ca68bu);
	return (h ^ h >> 16) & srv->bucket_mask;
}

/* The page list of a channel by the child's id; those that are done are not its any more. */
uint32_t vmbus__srv_list_find(const struct vmbus_srv *srv, uint32_t slot, uint32_t id)
{
	uint32_t at;

	for (at = srv->buckets[bucket_of(srv, id)]; at != NIL; at = srv->lists[at].next_in_bucket)
		if (srv->lists[at].id == id && srv->lists[at].chan == slot &&
		    srv->lists[at].state != L_DONE)
			return at;
	return NIL;
}

/* A page list by id alone: one that bodies are missing of, or any. */
static uint32_t find_anywhere(const struct vmbus_srv *srv, uint32_t id, bool unfinished)
{
	uint32_t at;

	for (at = srv->buckets[bucket_of(srv, id)]; at != NIL; at = srv->lists[at].next_in_bucket) {
		const struct srv_list *const list = &srv->lists[at];

		if (list->id != id || list->state == L_DONE)
			continue;
		if (!unfinished || list->state == L_UNFINISHED)
			return at;
	}
	return NIL;
}

uint32_t vmbus__srv_list_find_unfinished(const struct vmbus_srv *srv, uint32_t id)
{
	return find_anywhere(srv, id, true);
}

static uint64_t bytes_of(uint32_t pages)
{
	return (uint64_t)pages * VMBUS_PAGE_BYTES;
}

/* Hang a list up under its id and its channel, and count it. */
void vmbus__srv_list_hang_up(struct vmbus_srv *srv, uint32_t at)
{
	struct srv_list *const list = &srv->lists[at];
	struct srv_chan *const chan = &srv->chans[list->chan];
	uint32_t *const bucket = &srv->buckets[bucket_of(srv, list->id)];

	list->next_in_bucket = *bucket;
	*bucket = at;
	list->next_in_chan = chan->lists;
	list->prev_in_chan = NIL;
	if (chan->lists != NIL)
		srv->lists[chan->lists].prev_in_chan = at;
	chan->lists = at;
	chan->list_count++;
	srv->stats.gpadls++;
	srv->unfinished += list->state == L_UNFINISHED;
}

/* Take a free slot. */
static uint32_t add(struct vmbus_srv *srv, uint32_t slot, uint32_t id)
{
	const uint32_t at = srv->free_list;
	struct srv_list *const list = &srv->lists[at];
	const uint32_t gen = list->gen;

	VMBUS_REQUIRE(at != NIL);
	srv->free_list = list->next_in_bucket;
	__builtin_memset(list, 0, sizeof(*list));
	list->gen = gen;
	list->id = id;
	list->chan = slot;
	list->state = L_UNFINISHED;
	list->created_owed = true;
	vmbus__srv_list_hang_up(srv, at);
	return at;
}

static void remove_from_bucket(struct vmbus_srv *srv, uint32_t at)
{
	uint32_t *link = &srv->buckets[bucket_of(srv, srv->lists[at].id)];

	while (*link != at)
		link = &srv->lists[*link].next_in_bucket;
	*link = srv->lists[at].next_in_bucket;
}

/* The memory goes back as soon as nobody needs it, the slot when its answers were taken. */
static void free_qwords(struct vmbus_srv *srv, struct srv_list *list)
{
	if (!list->qwords)
		return;
	srv->opts.list_put(srv->opts.list_ctx, list->qwords, list->room);
	list->qwords = NULL;
	srv->stats.gpadl_bytes -= bytes_of(list->pages);
	list->pages = 0;
}

static void free_slot(struct vmbus_srv *srv, uint32_t at)
{
	struct srv_list *const list = &srv->lists[at];
	const uint32_t slot = list->chan;
	struct srv_chan *const chan = &srv->chans[slot];

	remove_from_bucket(srv, at);
	if (list->prev_in_chan == NIL)
		chan->lists = list->next_in_chan;
	else
		srv->lists[list->prev_in_chan].next_in_chan = list->next_in_chan;
	if (list->next_in_chan != NIL)
		srv->lists[list->next_in_chan].prev_in_chan = list->prev_in_chan;
	chan->list_count--;
	srv->stats.gpadls--;
	list->state = L_FREE;
	list->gen = list->gen == UINT32_MAX ? 1 : list->gen + 1;
	list->next_in_bucket = srv->free_list;
	srv->free_list = at;
	vmbus__srv_settle(srv, slot);
}

void vmbus__srv_list_sent(struct vmbus_srv *srv, uint32_t at)
{
	if (srv->lists[at].state == L_DONE && !vmbus__srv_is_due(srv, K_CREATED, at) &&
	    !vmbus__srv_is_due(srv, K_TORNDOWN, at))
		free_slot(srv, at);
}

static void answer_created(struct vmbus_srv *srv, uint32_t at, uint32_t status)
{
	struct srv_list *const list = &srv->lists[at];

	if (!list->created_owed)
		return;
	list->created_owed = false;
	list->status = status;
	vmbus__srv_due(srv, K_CREATED, at);
}

static void answer_torndown(struct vmbus_srv *srv, uint32_t at)
{
	if (!srv->lists[at].torn_owed)
		return;
	srv->lists[at].torn_owed = false;
	vmbus__srv_due(srv, K_TORNDOWN, at);
}

/* Actions. */

static void act_nothing(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)srv;
	(void)at;
	(void)arg;
}

static void act_ask(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	vmbus__srv_due(srv, K_ASK, at);
}

static void act_fail(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_created(srv, at, VMBUS_STATUS_FAILED);
}

static void act_instant(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_created(srv, at, VMBUS_STATUS_OK);
}

static void act_give_up(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_created(srv, at, VMBUS_STATUS_FAILED);
	srv->lists[at].torn_owed = true;
	answer_torndown(srv, at);
}

/* The child let go of the channel: it waits for no answer. */
static void act_silence(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	srv->lists[at].created_owed = false;
	srv->lists[at].torn_owed = false;
	vmbus__srv_undo(srv, K_CREATED, at);
	vmbus__srv_undo(srv, K_TORNDOWN, at);
}

static void act_accept(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_created(srv, at, VMBUS_STATUS_OK);
}

static void act_refuse(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	const uint32_t *const status = arg;

	answer_created(srv, at, *status);
	answer_torndown(srv, at);
}

static void act_withdraw(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_created(srv, at, VMBUS_STATUS_FAILED);
}

static void act_owe(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	srv->lists[at].torn_owed = true;
}

static void act_down(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	vmbus__srv_due(srv, K_DOWN, at);
}

/* The device is told at once, unless the rings of an open channel are in the list. */
static void act_teardown(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	act_owe(srv, at, arg);
	if (srv->chans[srv->lists[at].chan].ring != at)
		(void)vmbus__srv_list_fire(srv, at, LV_IDLE);
}

/* An open device may use any list of its channel, so all wait until it is closed. */
static void act_drop(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	act_silence(srv, at, arg);
	if (srv->chans[srv->lists[at].chan].ring == NIL)
		(void)vmbus__srv_list_fire(srv, at, LV_IDLE);
}

static void act_accept_down(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	answer_created(srv, at, VMBUS_STATUS_OK);
	act_down(srv, at, arg);
}

static void act_gone(struct vmbus_srv *srv, uint32_t at, const void *arg)
{
	(void)arg;
	answer_torndown(srv, at);
}

/* Run one event; arg of the actions that want it is a status. */
static bool fire(struct vmbus_srv *srv, uint32_t at, enum srv_list_event event, uint32_t status)
{
	struct srv_list *const list = &srv->lists[at];
	const struct srv_list_cell *const cell = &table[list->state][event];
	const uint32_t gen = list->gen;

	if (!cell->act)
		return false;
	if (list->state == L_UNFINISHED && cell->next != L_UNFINISHED)
		srv->unfinished--;
	list->state = cell->next;
	if (cell->next == L_DONE)
		free_qwords(srv, list);
	cell->act(srv, at, &status);
	/* The last answer may have been taken back by the action itself. */
	if (list->gen == gen && list->state == L_DONE)
		vmbus__srv_list_sent(srv, at);
	return true;
}

bool vmbus__srv_list_fire(struct vmbus_srv *srv, uint32_t at, enum srv_list_event event)
{
	return fire(srv, at, event, VMBUS_STATUS_FAILED);
}

void vmbus__srv_lists_all(struct vmbus_srv *srv, uint32_t slot, enum srv_list_event event)
{
	uint32_t at = srv->chans[slot].lists;

	while (at != NIL) {
		const uint32_t next = srv->lists[at].next_in_chan;

		if (vmbus__srv_is_due(srv, K_ASK, at) &&
		    (event == LV_RELEASE || event == LV_REVOKE)) {
			/* The device has not seen it: as if it had refused. */
			vmbus__srv_undo(srv, K_ASK, at);
			if (event == LV_RELEASE)
				act_silence(srv, at, NULL);
			(void)vmbus__srv_list_fire(srv, at, LV_REFUSED);
		} else {
			(void)vmbus__srv_list_fire(srv, at, event);
		}
		at = next;
	}
}

/* The ranges of a complete list, [CTL-GPADL]; the qwords behind the last range are cut off. */
bool vmbus__srv_ranges_can_be(struct srv_list *list, struct vmbus_srv_refusal *why)
{
	uint32_t at = 0, r, pages = 0;

	for (r = 0; r < list->range_count; r++) {
		uint64_t head, count, offset, pfns;

		if (list->have - at < RANGE_HEADER_QWORDS) {
			why->what = "page list: shorter than its ranges";
			return false;
		}
		head = list->qwords[at++];
		count = head & UINT32_MAX;
		offset = head >> 32;
		pfns = (count + offset + VMBUS_PAGE_BYTES - 1u) / VMBUS_PAGE_BYTES;
		if (count == 0 || offset >= VMBUS_PAGE_BYTES || pfns > list->have - at) {
			why->what = count == 0 ? "page list: a range of no bytes"
				    : offset >= VMBUS_PAGE_BYTES
					    ? "page list: a range begins past its first page"
					    : "page list: a range with more pages than follow";
			why->value = offset >= VMBUS_PAGE_BYTES ? offset : pfns;
			why->limit = offset >= VMBUS_PAGE_BYTES ? VMBUS_PAGE_BYTES - 1u
								: list->have - at;
			return false;
		}
		pages += (uint32_t)pfns;
		for (; pfns > 0; pfns--) {
			if (list->qwords[at++] < PFN_LIMIT)
				continue;
			why->what = "page list: a page number past the end of the address space";
			why->value = list->qwords[at - 1];
			why->limit = PFN_LIMIT - 1u;
			return false;
		}
	}
	list->have = at;
	list->pages = pages;
	return true;
}

static void complete(struct vmbus_srv *srv, uint32_t at)
{
	struct srv_list *const list = &srv->lists[at];
	struct vmbus_srv_refusal why = { .ctl_type = VMBUS_CTL_GPADL_BODY,
					 .relid = list->chan + 1,
					 .gpadl = list->id,
					 .state = srv->chans[list->chan].state };
	const uint32_t charged = list->pages;

	if (vmbus__srv_is_revoked(srv->chans[list->chan].state)) {
		(void)vmbus__srv_list_fire(srv, at, LV_INSTANT);
		return;
	}
	if (!vmbus__srv_ranges_can_be(list, &why)) {
		vmbus__srv_refuse(srv, &srv->stats.malformed, &why);
		(void)vmbus__srv_list_fire(srv, at, LV_IMPOSSIBLE);
		return;
	}
	srv->stats.gpadl_bytes -= bytes_of(charged - list->pages);
	(void)vmbus__srv_list_fire(srv, at, LV_COMPLETE);
}

static void collect(struct vmbus_srv *srv, uint32_t at, const struct vmbus_ctl_gpadl *from)
{
	struct srv_list *const list = &srv->lists[at];
	const uint32_t missing = list->want - list->have;
	const uint32_t n = from->count < missing ? from->count : missing;

	__builtin_memcpy(list->qwords + list->have, from->qwords, n * sizeof(uint64_t));
	list->have += n;
	if (list->have == list->want)
		complete(srv, at);
}

static void created(struct vmbus_srv *srv, const struct vmbus_ctl_gpadl *g, uint32_t status)
{
	const struct srv_entry entry = { .type = VMBUS_CTL_GPADL_CREATED,
					 .vp = srv->vp,
					 .sint = srv->sint,
					 .relid = g->relid,
					 .id = g->gpadl,
					 .status = status };

	vmbus__srv_entry(srv, &entry);
}

/*
 * Everything that a new list must keep to before memory is taken for it.  Returns the counter of
 * what it breaks, NULL if it may come.
 */
static uint64_t *header_breaks(struct vmbus_srv *srv, uint32_t slot,
			       const struct vmbus_ctl_gpadl *g, struct vmbus_srv_refusal *why)
{
	const uint32_t qwords = g->range_bytes / 8u;
	const uint64_t left = srv->opts.gpadl_bytes_max - srv->stats.gpadl_bytes;

	if (g->range_count == 0 || qwords / (RANGE_HEADER_QWORDS + 1u) < g->range_count) {
		why->what = "page list: number of ranges, each takes 16 bytes at least";
		why->value = g->range_count;
		why->limit = qwords / (RANGE_HEADER_QWORDS + 1u);
		return &srv->stats.malformed;
	}
	if (vmbus__srv_list_find(srv, slot, g->gpadl) != NIL ||
	    find_anywhere(srv, g->gpadl, true) != NIL) {
		why->what = "page list: id is in use; take another, or tear the old one down";
		return &srv->stats.out_of_order;
	}
	why->value = srv->stats.gpadls;
	why->limit = srv->opts.gpadls_max;
	why->what = "page list: too many (gpadls_max); tear some down, or raise the limit";
	if (srv->free_list == NIL)
		return &srv->stats.quota_gpadls;
	why->value = srv->unfinished;
	why->limit = srv->opts.gpadls_unfinished_max;
	why->what = "page list: too many unfinished (gpadls_unfinished_max); send the bodies first";
	if (g->count < qwords && srv->unfinished >= srv->opts.gpadls_unfinished_max)
		return &srv->stats.quota_unfinished;
	why->value = srv->stats.gpadl_bytes;
	why->limit = srv->opts.gpadl_bytes_max;
	why->what = "page list: too much memory described (gpadl_bytes_max); tear lists down";
	if (bytes_of(qwords - g->range_count) > left)
		return &srv->stats.quota_bytes;
	return NULL;
}

void vmbus__srv_gpadl_header(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const struct vmbus_ctl_gpadl *const g = &ctl->u.gpadl;
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, g->relid);
	struct vmbus_srv_refusal why = { .ctl_type = ctl->type,
					 .relid = g->relid,
					 .gpadl = g->gpadl };
	uint64_t *counter;
	uint64_t *qwords = NULL;
	struct srv_list *list;
	uint32_t at;

	if (slot == NIL || !vmbus__srv_fire(srv, slot, EV_GPADL, NULL)) {
		why.what = "page list: the channel is not offered";
		vmbus__srv_refuse(srv, &srv->stats.unknown_chan, &why);
		created(srv, g, VMBUS_STATUS_FAILED);
		return;
	}
	why.state = srv->chans[slot].state;
	if (vmbus__srv_is_revoked(srv->chans[slot].state)) {
		created(srv, g, VMBUS_STATUS_OK);
		return;
	}
	counter = header_breaks(srv, slot, g, &why);
	if (!counter) {
		qwords = srv->opts.list_get(srv->opts.list_ctx, g->range_bytes / 8u);
		why.what = "page list: no memory for it (list_get)";
		counter = qwords ? NULL : &srv->stats.quota_gpadls;
	}
	if (counter) {
		vmbus__srv_refuse(srv, counter, &why);
		created(srv, g, VMBUS_STATUS_FAILED);
		return;
	}
	at = add(srv, slot, g->gpadl);
	list = &srv->lists[at];
	list->qwords = qwords;
	list->want = g->range_bytes / 8u;
	list->room = list->want;
	list->range_count = g->range_count;
	list->pages = list->want - g->range_count;
	srv->stats.gpadl_bytes += bytes_of(list->pages);
	collect(srv, at, g);
}

void vmbus__srv_gpadl_body(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t at = find_anywhere(srv, ctl->u.gpadl.gpadl, true);
	const struct vmbus_srv_refusal why = {
		.what = "page list: a body for an id that is not in progress",
		.ctl_type = ctl->type,
		.gpadl = ctl->u.gpadl.gpadl
	};

	if (at == NIL)
		vmbus__srv_refuse(srv, &srv->stats.unknown_gpadl, &why);
	else
		collect(srv, at, &ctl->u.gpadl);
}

/*
 * TEARDOWN of a list that does not exist: nothing is held, so TORNDOWN is true.  It names no
 * channel, so it must not go out while another channel holds a list of this id, unless the channel
 * was withdrawn: lists created since then were never kept.
 */
static void teardown_unknown(struct vmbus_srv *srv, const struct vmbus_ctl *ctl, uint32_t slot)
{
	const bool revoked = slot != NIL && vmbus__srv_is_revoked(srv->chans[slot].state);
	const struct srv_entry entry = { .type = VMBUS_CTL_GPADL_TORNDOWN,
					 .vp = srv->vp,
					 .sint = srv->sint,
					 .id = ctl->u.created.gpadl };
	struct vmbus_srv_refusal why = { .what = "teardown: the channel has no such page list",
					 .ctl_type = ctl->type,
					 .relid = ctl->u.created.relid,
					 .gpadl = ctl->u.created.gpadl };

	if (!revoked && find_anywhere(srv, ctl->u.created.gpadl, false) != NIL) {
		why.what = "teardown: the page list is another channel's; not answered";
		vmbus__srv_refuse(srv, &srv->stats.unknown_gpadl, &why);
		return;
	}
	if (!revoked)
		vmbus__srv_refuse(srv, &srv->stats.unknown_gpadl, &why);
	vmbus__srv_entry(srv, &entry);
}

void vmbus__srv_gpadl_teardown(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, ctl->u.created.relid);
	const uint32_t at =
		slot == NIL ? NIL : vmbus__srv_list_find(srv, slot, ctl->u.created.gpadl);
	struct vmbus_srv_refusal why = { .ctl_type = ctl->type,
					 .relid = ctl->u.created.relid,
					 .gpadl = ctl->u.created.gpadl };

	if (at == NIL) {
		teardown_unknown(srv, ctl, slot);
	} else if (srv->lists[at].torn_owed) {
		why.what = "teardown: asked for already; one answer is due";
		why.state = srv->chans[slot].state;
		vmbus__srv_refuse(srv, &srv->stats.out_of_order, &why);
	} else {
		(void)vmbus__srv_list_fire(srv, at, LV_TEARDOWN);
	}
}

/* Rings lie in one range of whole pages: a control page and a data page at least, each way. */
bool vmbus__srv_ring_shape_can_be(const struct srv_list *list, uint32_t downstream_page)
{
	uint64_t head;

	if (list->range_count != 1)
		return false;
	head = list->qwords[0];
	if (head >> 32 != 0 || (head & UINT32_MAX) % VMBUS_PAGE_BYTES != 0)
		return false;
	return list->pages >= 4 && downstream_page >= 2 && downstream_page <= list->pages - 2;
}

bool vmbus__srv_ring_can_be(const struct vmbus_srv *srv, uint32_t at, uint32_t downstream_page)
{
	const struct srv_list *const list = &srv->lists[at];

	return list->state == L_ACCEPTED && vmbus__srv_ring_shape_can_be(list, downstream_page);
}

void vmbus__srv_lists_fini(struct vmbus_srv *srv)
{
	uint32_t at;

	for (at = 0; at < srv->opts.gpadls_max; at++)
		if (srv->lists[at].state != L_FREE)
			free_qwords(srv, &srv->lists[at]);
}

static struct srv_list *by_ref(const struct vmbus_srv *srv, struct vmbus_srv_ref ref)
{
	struct srv_list *list;

	if (ref.slot >= srv->opts.gpadls_max)
		return NULL;
	list = &srv->lists[ref.slot];
	return list->state != L_FREE && list->gen == ref.gen ? list : NULL;
}

int vmbus_srv_gpadl_ready(struct vmbus_srv *srv, struct vmbus_srv_ref list, uint32_t status)
{
	if (!by_ref(srv, list) || vmbus__srv_is_due(srv, K_ASK, list.slot))
		return VMBUS_E_STATE;
	return fire(srv, list.slot, status ? LV_REFUSED : LV_READY, status) ? 0 : VMBUS_E_STATE;
}

int vmbus_srv_gpadl_gone(struct vmbus_srv *srv, struct vmbus_srv_ref list)
{
	if (!by_ref(srv, list) || vmbus__srv_is_due(srv, K_DOWN, list.slot))
		return VMBUS_E_STATE;
	return vmbus__srv_list_fire(srv, list.slot, LV_GONE) ? 0 : VMBUS_E_STATE;
}

uint32_t vmbus_srv_list(const struct vmbus_srv *srv, struct vmbus_srv_ref list,
			const uint64_t **qwords, uint32_t *range_count)
{
	const struct srv_list *const l = by_ref(srv, list);

	if (!l || !l->qwords || l->state == L_UNFINISHED)
		return 0;
	*qwords = l->qwords;
	*range_count = l->range_count;
	return l->have;
}

int vmbus_srv_list_info(const struct vmbus_srv *srv, uint32_t slot,
			struct vmbus_srv_list_info *info)
{
	const struct srv_list *list;

	if (slot >= srv->opts.gpadls_max)
		return VMBUS_E_RANGE;
	list = &srv->lists[slot];
	if (list->state == L_FREE)
		return 0;
	__builtin_memset(info, 0, sizeof(*info));
	info->list.slot = slot;
	info->list.gen = list->gen;
	info->chan.slot = list->chan;
	info->chan.gen = srv->chans[list->chan].gen;
	info->gpadl = list->id;
	info->had = list->state == L_ACCEPTED || list->state == L_HELD || list->state == L_DOWN;
	info->going = list->state == L_DOWN;
	return 1;
}

int vmbus_srv_find_list(const struct vmbus_srv *srv, struct vmbus_srv_ref chan, uint32_t gpadl,
			struct vmbus_srv_ref *list)
{
	uint32_t at = NIL;

	if (chan.slot < srv->opts.chans_max && srv->chans[chan.slot].gen == chan.gen)
		at = vmbus__srv_list_find(srv, chan.slot, gpadl);
	if (at == NIL || srv->lists[at].state != L_ACCEPTED)
		return VMBUS_E_RANGE;
	list->slot = at;
	list->gen = srv->lists[at].gen;
	return 0;
}
