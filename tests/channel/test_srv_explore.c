/* SPDX-License-Identifier: MIT */
/*
 * The host machine, every reachable state times every event: two channels, two page list ids, two
 * page lists.  A state is everything in the machine but its counters and generations, together with
 * the shadow that knows what the child is owed; after each event all invariants are checked, so
 * that no order of messages, calls and answers leaves the machine undefined (lessons 16 to 19, 26).
 *
 * Actions are taken at once, but for the answers of devices, which are events of their own; the
 * long form (VMBUS_TEST_FULL) also leaves actions and messages in their lists, so that everything
 * meets output that nobody has taken.
 */
#include "srvbox.h"

#define CHANS 2u /* at most */
#define LISTS 2u
#define QWORDS 8u

/* One world: the box's machine and its memory for lists, copied as a whole. */
static struct world {
	uint64_t memory[LISTS][QWORDS];
	bool taken[LISTS];
	struct srv_shadow shadow;
	_Alignas(16) uint8_t storage[16384]; /* as much of it as the machine needs is copied */
} world;

static size_t world_bytes;
static struct vmbus_srv *machine;
static bool lazy;	      /* actions are left in their lists */
static uint32_t chans, lists; /* of this run */
static struct vmbus_ctl message;

static uint64_t *get_list(void *ctx, uint32_t qwords)
{
	uint32_t i;

	(void)ctx;
	must(qwords <= QWORDS);
	for (i = 0; i < lists; i++)
		if (!world.taken[i]) {
			world.taken[i] = true;
			return world.memory[i];
		}
	return NULL;
}

static void put_list(void *ctx, uint64_t *list, uint32_t qwords)
{
	const size_t i = (size_t)(list - world.memory[0]) / QWORDS;

	(void)ctx;
	(void)qwords;
	must(i < lists && world.taken[i]);
	world.taken[i] = false;
}

/* What a run leaves out, so that the rest can be explored to its end. */
enum {
	NO_PAUSE = 1,
	NO_UNFINISHED = 2, /* page lists come in one message, and can be */
	NO_RESERVED = 4,
	NO_MODIFY = 8,
	NO_REOFFER = 16,
	NO_SUB = 32,
	NO_BAD_VERSION = 64
};
static uint32_t without;

/* A hash of all that matters, FNV-1a. */
static uint64_t hash;

static void mix(uint64_t v)
{
	uint32_t i;

	for (i = 0; i < 8; i++, v >>= 8) {
		hash ^= v & 255u;
		hash *= 0x100000001b3ull;
	}
}

static void mix_bytes(const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--) {
		hash ^= *b++;
		hash *= 0x100000001b3ull;
	}
}

/* Which of two free slots comes next makes no difference but to its number. */
static uint64_t fingerprint(void)
{
	uint32_t i, side;

	hash = 0xcbf29ce484222325ull;
	mix(machine->conn);
	mix(machine->version);
	mix(machine->wire_version);
	mix(machine->supported);
	mix((uint64_t)machine->hold | (uint64_t)machine->modifying << 1);
	for (i = 0; i < chans; i++) {
		const struct srv_chan *c = &machine->chans[i];

		mix(c->state | (uint64_t)c->fate << 8);
		if (c->state == VMBUS_SRV_FREE)
			continue;
		mix((uint64_t)c->reserved | (uint64_t)c->survives << 1 |
		    (uint64_t)c->modifying << 2 | (uint64_t)c->modify_again << 3 |
		    (uint64_t)c->reserved_reply << 4);
		mix(c->ring);
		mix(c->open.gpadl);
		mix(c->offer.instance_id.b[0]);
		mix(c->target_vp == VMBUS_VP_NONE);
	}
	for (i = 0; i < lists; i++) {
		const struct srv_list *l = &machine->lists[i];

		mix(l->state);
		if (l->state == L_FREE)
			continue;
		mix(l->id);
		mix(l->chan);
		mix((uint64_t)l->created_owed | (uint64_t)l->torn_owed << 1);
		mix(l->have | (uint64_t)l->want << 32);
		if (l->qwords)
			mix(l->qwords[0]);
	}
	for (side = 0; side < SIDES; side++) {
		for (i = machine->head[side]; i != NIL; i = machine->nodes[i].next)
			mix(i);
		mix(NIL);
	}
	for (i = 0; i < machine->opts.queue_max; i++)
		if (srv_due(machine, K_ENTRY, i))
			mix_bytes(&machine->entries[i], offsetof(struct srv_entry, next_free));
	mix_bytes(&world.shadow, sizeof(world.shadow));
	return hash;
}

static const char *trouble;
static char detail[512];

static void complain(const char *what, const char *where)
{
	if (what && !trouble) {
		snprintf(detail, sizeof(detail), "%s (%s)", what, where);
		trouble = detail;
	}
}

static bool take(bool local)
{
	struct vmbus_srv_action a;

	if (!(local ? vmbus_srv_next_local(machine, &a) : vmbus_srv_next(machine, &a)))
		return false;
	if (a.act == VMBUS_SRV_SEND)
		complain(shadow_sent(&world.shadow, machine, &a), "message");
	return true;
}

static void post(uint32_t conn_id)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const struct srv_shadow before = world.shadow;
	const uint32_t version = machine->version ? machine->version : VMBUS_PROTO_6_0;
	const int len = vmbus_ctl_encode(&message, version, machine->features | SRVBOX_FEATURES,
					 bytes, sizeof(bytes));
	struct vmbus_ctl ctl;

	must(len > 0);
	if (vmbus_ctl_decode(bytes, (size_t)len, machine->version, machine->features, &ctl) == 0)
		shadow_message(&world.shadow, machine, &ctl);
	if (vmbus_srv_message(machine, conn_id, bytes, (size_t)len))
		world.shadow = before;
}

static void say(uint32_t type, uint32_t relid, uint32_t number)
{
	memset(&message, 0, sizeof(message));
	message.type = type;
	switch (type) {
	case VMBUS_CTL_MODIFY:
		message.u.modify.relid = relid;
		message.u.modify.target_vp = number;
		break;
	case VMBUS_CTL_GPADL_TEARDOWN:
		message.u.created.relid = relid;
		message.u.created.gpadl = number;
		break;
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESERVED:
		message.u.open.relid = relid;
		message.u.open.gpadl = number;
		message.u.open.downstream_page = 2;
		message.u.open.conn_id = 0x2000 + relid;
		message.u.open.event_flag = (uint16_t)relid;
		message.u.open.target_sint = 5;
		break;
	case VMBUS_CTL_GPADL_BODY:
		message.u.gpadl.gpadl = number;
		message.u.gpadl.count = 2;
		break;
	default:
		message.u.chan.relid = relid;
		message.u.chan.target_sint = 4;
		break;
	}
	post(VMBUS_CONN_MESSAGE);
}

/* Pages 4, in one message, or all but two of them, or ranges that cannot be. */
static void say_header(uint32_t relid, uint32_t id, uint32_t form)
{
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_GPADL_HEADER;
	message.u.gpadl.relid = relid;
	message.u.gpadl.gpadl = id;
	message.u.gpadl.range_bytes = 40;
	message.u.gpadl.range_count = 1;
	message.u.gpadl.count = form == 1 ? 3 : 5;
	message.u.gpadl.qwords[0] = form == 2 ? 0 : 4 * 4096;
	post(VMBUS_CONN_MESSAGE);
}

static void say_contact(uint32_t version, uint32_t features)
{
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_CONTACT;
	message.u.contact.version = version;
	message.u.contact.features = features;
	message.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	post(version >= VMBUS_PROTO_5_0 ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE);
}

static void offer_one(void)
{
	struct vmbus_offer offer = srvbox_offer_of(1);
	struct vmbus_srv_ref ref;
	uint8_t i;

	/* The second one is a sub-channel of the first while that one can have it. */
	offer.sub_index = 1;
	if (!(without & NO_SUB) && vmbus_srv_offer(machine, &offer, &ref) == 0)
		return;
	for (i = 1; i <= 2; i++) {
		offer = srvbox_offer_of(i);
		if (vmbus_srv_offer(machine, &offer, &ref) == 0)
			return;
	}
}

static struct vmbus_srv_ref chan_ref(uint32_t slot)
{
	const struct vmbus_srv_ref ref = { slot, machine->chans[slot].gen };

	return ref;
}

static struct vmbus_srv_ref list_ref(uint32_t slot)
{
	const struct vmbus_srv_ref ref = { slot, machine->lists[slot].gen };

	return ref;
}

/* The events.  Returns false past the last one. */
#define EVENTS_OF_CHILD 12u
#define EVENTS_OF_RELID 14u
#define RELIDS 3u /* 1, 2, and one that is none */
#define EVENTS_OF_DEVICE 5u
#define EVENTS_OF_LIST 3u

static uint32_t version_now;

static bool is_left_out(uint32_t n)
{
	static const uint8_t child[EVENTS_OF_CHILD] = {
		0, NO_BAD_VERSION, 0, 0, NO_PAUSE, NO_PAUSE, NO_UNFINISHED, NO_UNFINISHED, 0, 0,
		0, NO_MODIFY
	};
	static const uint8_t relid[EVENTS_OF_RELID] = { 0,
							0,
							0,
							0,
							NO_MODIFY,
							0,
							NO_UNFINISHED,
							NO_UNFINISHED,
							0,
							NO_UNFINISHED,
							0,
							0,
							NO_RESERVED,
							NO_RESERVED };

	if (n < EVENTS_OF_CHILD)
		return (without & child[n]) != 0;
	n -= EVENTS_OF_CHILD;
	if (n < RELIDS * EVENTS_OF_RELID)
		return (without & relid[n % EVENTS_OF_RELID]) != 0;
	n -= RELIDS * EVENTS_OF_RELID;
	return n < chans * EVENTS_OF_DEVICE && n % EVENTS_OF_DEVICE == EVENTS_OF_DEVICE - 1 &&
	       (without & NO_REOFFER);
}

static void child_event(uint32_t n)
{
	switch (n) {
	case 0:
		say_contact(version_now, SRVBOX_FEATURES);
		break;
	case 1:
		say_contact(VMBUS_PROTO_2_4 - 1, 0);
		break;
	case 2:
		say(VMBUS_CTL_REQUEST_OFFERS, 0, 0);
		break;
	case 3:
		say(VMBUS_CTL_UNLOAD, 0, 0);
		break;
	case 4:
		say(VMBUS_CTL_PAUSE, 0, 0);
		break;
	case 5:
		say(VMBUS_CTL_RESUME, 0, 0);
		break;
	case 6:
		say(VMBUS_CTL_GPADL_BODY, 0, 1);
		break;
	case 7:
		say(VMBUS_CTL_GPADL_BODY, 0, 2);
		break;
	case 8:
		say(VMBUS_CTL_RESCIND, 1, 0); /* the parent's */
		break;
	case 9:
		offer_one();
		break;
	case 10:
		vmbus_srv_disconnect(machine);
		memset(&world.shadow, 0, sizeof(world.shadow));
		{
			uint32_t i;

			for (i = 0; i < chans; i++)
				world.shadow.reserved[i + 1].may = machine->chans[i].reserved_reply;
		}
		break;
	default:
		say(VMBUS_CTL_MODIFY_CONNECTION, 0, 0);
		break;
	}
}

static void relid_event(uint32_t relid, uint32_t n)
{
	switch (n) {
	case 0:
	case 1:
		say(VMBUS_CTL_OPEN, relid, 1 + n);
		break;
	case 2:
		say(VMBUS_CTL_CLOSE, relid, 0);
		break;
	case 3:
		say(VMBUS_CTL_RELID_RELEASED, relid, 0);
		break;
	case 4:
		say(VMBUS_CTL_MODIFY, relid, 1);
		break;
	case 5:
	case 6:
	case 7:
		say_header(relid, 1, n - 5);
		break;
	case 8:
	case 9:
		say_header(relid, 2, n - 8);
		break;
	case 10:
	case 11:
		say(VMBUS_CTL_GPADL_TEARDOWN, relid, n - 9);
		break;
	case 12:
		say(VMBUS_CTL_OPEN_RESERVED, relid, 1);
		break;
	default:
		say(VMBUS_CTL_CLOSE_RESERVED, relid, 0);
		break;
	}
}

/* Calls of the host about one channel; stale references are refused in every state. */
static void device_event(uint32_t slot, uint32_t n)
{
	const struct vmbus_srv_ref ref = chan_ref(slot);
	const struct vmbus_srv_ref stale = { slot, ref.gen - 1 };

	must_eq(vmbus_srv_opened(machine, stale, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_closed(machine, stale), VMBUS_E_STATE);
	must_eq(vmbus_srv_revoke(machine, stale), VMBUS_E_STATE);
	switch (n) {
	case 0:
		(void)vmbus_srv_opened(machine, ref, 0);
		break;
	case 1:
		(void)vmbus_srv_opened(machine, ref, VMBUS_STATUS_FAILED);
		break;
	case 2:
		(void)vmbus_srv_closed(machine, ref);
		break;
	case 3:
		(void)vmbus_srv_revoke(machine, ref);
		break;
	default:
		(void)vmbus_srv_reoffer(machine, ref);
		break;
	}
}

static void list_event(uint32_t slot, uint32_t n)
{
	const struct vmbus_srv_ref ref = list_ref(slot);
	const struct vmbus_srv_ref stale = { slot, ref.gen - 1 };

	must_eq(vmbus_srv_gpadl_ready(machine, stale, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_gpadl_gone(machine, stale), VMBUS_E_STATE);
	if (n < 2)
		(void)vmbus_srv_gpadl_ready(machine, ref, n ? VMBUS_STATUS_FAILED : 0);
	else
		(void)vmbus_srv_gpadl_gone(machine, ref);
}

static bool run_event(uint32_t n)
{
	if (n < EVENTS_OF_CHILD) {
		child_event(n);
		return true;
	}
	n -= EVENTS_OF_CHILD;
	if (n < RELIDS * EVENTS_OF_RELID) {
		relid_event(1 + n / EVENTS_OF_RELID, n % EVENTS_OF_RELID);
		return true;
	}
	n -= RELIDS * EVENTS_OF_RELID;
	if (n < chans * EVENTS_OF_DEVICE) {
		device_event(n / EVENTS_OF_DEVICE, n % EVENTS_OF_DEVICE);
		return true;
	}
	n -= chans * EVENTS_OF_DEVICE;
	if (n < lists * EVENTS_OF_LIST) {
		list_event(n / EVENTS_OF_LIST, n % EVENTS_OF_LIST);
		return true;
	}
	n -= lists * EVENTS_OF_LIST;
	switch (n) {
	case 0:
	case 1:
		(void)vmbus_srv_modified(machine, chan_ref(n), 0);
		return true;
	case 2:
		(void)vmbus_srv_connection_modified(machine, 0);
		return true;
	case 3:
		if (lazy)
			(void)take(true);
		return true;
	case 4:
		if (lazy)
			(void)take(false);
		return true;
	default:
		return false;
	}
}

/* The states that were seen, as hashes, and those whose events are still to be tried. */
static uint64_t *seen;
static size_t seen_mask, seen_count;
static uint8_t *queue;
static size_t queue_room, queue_head, queue_count;

static bool is_new(uint64_t h)
{
	size_t at = (size_t)h & seen_mask;

	h += h == 0;
	while (seen[at]) {
		if (seen[at] == h)
			return false;
		at = (at + 1) & seen_mask;
	}
	seen[at] = h;
	seen_count++;
	return true;
}

static void push(void)
{
	must(queue_count < queue_room);
	memcpy(queue + (queue_head + queue_count) % queue_room * world_bytes, &world, world_bytes);
	queue_count++;
}

/* How each state in the queue was reached, so that trouble comes with its story. */
static uint32_t *parents;
static uint8_t *causes;
static size_t room;  /* of these two */
static bool dropped; /* a state whose events will not be tried */

static const char *story(uint32_t state, uint32_t event)
{
	static char text[512];
	char part[512];

	snprintf(text, sizeof(text), "%u", event);
	for (; state; state = parents[state]) {
		snprintf(part, sizeof(part), "%u %.480s", causes[state], text);
		memcpy(text, part, sizeof(text));
	}
	return text;
}

static void settle_world(void)
{
	const char *wrong;

	while (!lazy && take(false))
		continue;
	wrong = srv_check(machine);
	complain(wrong, "machine");
	complain(shadow_check(&world.shadow, machine), "shadow");
}

/* In how many states each cell was met, for the count below. */
static uint32_t chan_met[VMBUS_SRV_STATES], list_met[L_STATES], conn_met[CONN_STATES];

static void note_states(void)
{
	uint32_t i;

	for (i = 0; i < chans; i++)
		chan_met[machine->chans[i].state]++;
	for (i = 0; i < lists; i++)
		list_met[machine->lists[i].state]++;
	conn_met[machine->conn]++;
}

static void begin(size_t most, size_t frontier)
{
	struct vmbus_srv_opts opts;

	memset(&world, 0, sizeof(world));
	memset(&opts, 0, sizeof(opts));
	opts.struct_bytes = sizeof(opts);
	opts.chans_max = chans;
	opts.gpadls_max = lists;
	opts.queue_max = 2;
	opts.tl_max = 1;
	opts.version_max = VMBUS_PROTO_6_0;
	opts.features = SRVBOX_FEATURES;
	opts.list_get = get_list;
	opts.list_put = put_list;
	must(vmbus_srv_bytes(&opts) <= sizeof(world.storage));
	must_eq(vmbus_srv_init(world.storage, sizeof(world.storage), &opts, &machine), 0);
	world_bytes = offsetof(struct world, storage) + vmbus_srv_bytes(&opts);
	seen_mask = 1;
	while (seen_mask < most * 2)
		seen_mask *= 2;
	seen = calloc(seen_mask, sizeof(*seen));
	seen_mask--;
	queue_room = frontier;
	queue = malloc(queue_room * world_bytes);
	parents = malloc(most * sizeof(*parents));
	causes = malloc(most);
	room = most;
	must(seen && queue && parents && causes);
	seen_count = queue_head = queue_count = 0;
}

/* Breadth first; most: how many states are expanded. */
static void explore(size_t most)
{
	static uint8_t here[sizeof(world)];
	uint64_t tried = 0;
	size_t expanded = 0, pushed = 1;

	settle_world();
	(void)is_new(fingerprint());
	push();
	while (queue_count && expanded < most) {
		uint32_t event;

		memcpy(here, queue + queue_head * world_bytes, world_bytes);
		queue_head = (queue_head + 1) % queue_room;
		queue_count--;
		expanded++;
		for (event = 0;; event++) {
			if (is_left_out(event))
				continue;
			memcpy(&world, here, world_bytes);
			vmbus_test_at("state %zu, event %u", expanded, event);
			if (!run_event(event))
				break;
			settle_world();
			if (trouble)
				ck_abort_msg("%s after events %s", trouble,
					     story((uint32_t)expanded - 1, event));
			tried++;
			if (is_new(fingerprint())) {
				note_states();
				must(seen_count < seen_mask / 4 * 3);
				if (queue_count < queue_room && pushed < room) {
					parents[pushed] = (uint32_t)expanded - 1;
					causes[pushed++] = (uint8_t)event;
					push();
				} else {
					dropped = true;
				}
			}
		}
	}
	printf("%u channels, %u page lists, version %u.%u%s%s: %zu states%s, %llu events\n", chans,
	       lists, version_now >> 16, version_now & 0xffffu, without ? ", core" : "",
	       lazy ? ", output left" : "", seen_count,
	       queue_count || dropped ? " and more" : ", all", (unsigned long long)tried);
	fflush(stdout);
	free(seen);
	free(queue);
	free(parents);
	free(causes);
}

#define CORE_ONLY                                                                                  \
	(NO_PAUSE | NO_UNFINISHED | NO_RESERVED | NO_MODIFY | NO_REOFFER | NO_SUB | NO_BAD_VERSION)
#define TO_THE_END 4000000u

/* Where each step takes five times as long and more: the short runs only. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW true
#endif
#endif
#if defined(VMBUS_MINICHECK) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW true
#endif
#ifndef SLOW
#define SLOW false
#endif

/* Runs; how many states each may expand, in the short form and in the long one. */
static const struct run {
	uint32_t chans, lists, without, version;
	bool lazy;
	uint32_t most, most_full;
} runs[] = {
	{ 1, 1, 0, VMBUS_PROTO_5_3, false, TO_THE_END, TO_THE_END },
	{ 1, 1, 0, VMBUS_PROTO_6_0, false, TO_THE_END, TO_THE_END },
	{ 1, 1, 0, VMBUS_PROTO_4_1, false, TO_THE_END, TO_THE_END },
	{ 1, 2, 0, VMBUS_PROTO_5_3, false, TO_THE_END, TO_THE_END },
	{ 2, 1, CORE_ONLY, VMBUS_PROTO_5_3, false, TO_THE_END, TO_THE_END },
	{ 2, 1, 0, VMBUS_PROTO_6_0, false, 6000, 400000 },
	{ 2, 2, CORE_ONLY, VMBUS_PROTO_5_3, false, 12000, TO_THE_END },
	{ 2, 2, 0, VMBUS_PROTO_6_0, false, 6000, 400000 },
	{ 1, 1, 0, VMBUS_PROTO_6_0, true, 12000, 400000 },
	{ 1, 2, CORE_ONLY, VMBUS_PROTO_5_3, true, 12000, 400000 },
	{ 2, 2, 0, VMBUS_PROTO_6_0, true, 6000, 400000 },
};
#define RUNS (int)(sizeof(runs) / sizeof(runs[0]))

/* lesson 16: all pairs of open, close, gpadl, modify, revoke, reset at all states. */
START_TEST(srv__every_state_times_every_event)
{
	const struct run *const run = &runs[_i];
	const bool slow = SLOW && run->chans * run->lists > 1;
	const size_t most = vmbus_test_full() ? run->most_full : slow ? 1000 : run->most;
	uint32_t i;

	version_now = run->version;
	lazy = run->lazy;
	without = run->without;
	chans = run->chans;
	lists = run->lists;
	begin(most < 400000 ? 400000 : most, most < 60000 ? 100000 : 400000);
	explore(most);
	if (most != TO_THE_END)
		return;
	ck_assert_msg(queue_count == 0 && !dropped, "the run did not come to its end");
	if (without)
		return;
	for (i = 0; i < VMBUS_SRV_STATES; i++)
		ck_assert_msg(chan_met[i], "state %s was never met", vmbus_srv_state_name(i));
	for (i = 0; i < L_DONE; i++)
		ck_assert_msg(list_met[i], "page list %s was never met",
			      vmbus__srv_list_state_name(i));
	for (i = 0; i < CONN_STATES; i++)
		ck_assert_msg(conn_met[i] || run->version < VMBUS_PROTO_6_0,
			      "connection %s was never met", vmbus__srv_conn_state_name(i));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "explore", 60);

	tcase_add_loop_test(tc, srv__every_state_times_every_event, 0, RUNS);
}
VMBUS_TEST_MAIN("channel.srv_explore", tests)
