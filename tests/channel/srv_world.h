/* SPDX-License-Identifier: MIT */
/*
 * For the exploration of the host machine: one world, which is the machine, its memory for page
 * lists and the shadow that knows what the child is owed; and what two worlds have in common.
 *
 * concrete() is a hash of everything but counters and generations.  canonical() is one of what is
 * left when names do not matter: which slot a channel or a page list lies in, which of the relids
 * and page list ids it has, which instance it is; nor, where output is taken as soon as it may be,
 * in which order messages wait while the child has paused us; nor what is written before it is read
 * again.  That worlds with the same canonical hash have the same futures is not assumed: the test
 * compares the successors of all of them.
 */
#ifndef SRV_WORLD_H
#define SRV_WORLD_H

#include "channel/srvbox.h"

#define CHANS 2u /* at most */
#define LISTS 2u
#define QWORDS 8u

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

static inline void world_init(void)
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
}

/* A hash of words, by multiplication and folding. */
static inline uint64_t mixed(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93ull;
	return h ^ h >> 29;
}

static inline uint64_t mixed_bytes(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t v;

	for (; n >= 8; n -= 8, b += 8) {
		memcpy(&v, b, 8);
		h = mixed(h, v);
	}
	for (v = 0; n; n--)
		v = v << 8 | *b++;
	return mixed(h, v);
}

/* Bytes of a struct from one member up to another. */
#define SPAN(h, object, from, to)                                                                  \
	mixed_bytes(h, (const uint8_t *)(object) + offsetof(__typeof__(*(object)), from),          \
		    offsetof(__typeof__(*(object)), to) - offsetof(__typeof__(*(object)), from))

/* Everything as it lies there, also what will not be read again, but for what is free. */
static uint64_t concrete(void)
{
	uint64_t h = SPAN(0, machine, conn, chans);
	uint32_t i, side;

	for (i = 0; i < chans; i++) {
		const struct srv_chan *const c = &machine->chans[i];

		h = mixed(h, c->state);
		if (c->state == VMBUS_SRV_FREE)
			continue;
		h = mixed(h, c->offer.instance_id.b[0] | (uint64_t)c->offer.sub_index << 8 |
				     (uint64_t)c->open.gpadl << 32);
		h = SPAN(h, c, state, lists);
	}
	for (i = 0; i < lists; i++) {
		const struct srv_list *const l = &machine->lists[i];

		h = mixed(h, l->state);
		if (l->state == L_FREE)
			continue;
		h = SPAN(h, l, id, qwords);
		h = mixed(h, l->qwords ? l->qwords[0] : 1);
	}
	for (i = machine->order; i != NIL; i = machine->chans[i].next)
		h = mixed(h, i);
	for (i = machine->free_chan; i != NIL; i = machine->chans[i].next)
		h = mixed(h, i + 8u);
	for (side = 0; side < SIDES; side++) {
		for (i = machine->head[side]; i != NIL; i = machine->nodes[i].next)
			h = mixed(h, i);
		h = mixed(h, NIL);
	}
	for (i = 0; i < machine->opts.queue_max; i++)
		if (srv_due(machine, K_ENTRY, i))
			h = SPAN(h, &machine->entries[i], type, next_free);
	return mixed_bytes(h, &world.shadow, sizeof(world.shadow));
}

static inline bool is_same(const struct world *other, const void *from, const void *to)
{
	const size_t at = (size_t)((const uint8_t *)from - (const uint8_t *)&world);

	return memcmp(from, (const uint8_t *)other + at,
		      (size_t)((const uint8_t *)to - (const uint8_t *)from)) == 0;
}

/*
 * Whether an event has changed nothing but counters, and entries that nobody will read: then all that
 * was checked before holds still.
 */
static bool is_unchanged(const struct world *here)
{
	const struct vmbus_srv *const was = (const struct vmbus_srv *)(const void *)here->storage;
	const uint8_t *const end = (const uint8_t *)&world + world_bytes;

	return machine->head[SIDE_CHILD] == NIL && machine->head[SIDE_LOCAL] == NIL &&
	       machine->stats.channels == was->stats.channels &&
	       machine->stats.gpadls == was->stats.gpadls &&
	       machine->stats.gpadl_bytes == was->stats.gpadl_bytes &&
	       is_same(here, &machine->conn, &machine->chans) &&
	       is_same(here, machine->base, machine->chans) &&
	       is_same(here, machine->chans, machine->entries) &&
	       is_same(here, machine->nodes, end) && is_same(here, &world, world.storage);
}

/* A way to rename: slots of channels, with their relids, and page list ids, 1 and 2 for 2 and 1. */
struct names {
	bool chan, id;
};

static inline uint32_t relid_of(const struct names *n, uint32_t relid)
{
	return n->chan && (relid == 1 || relid == 2) ? 3 - relid : relid;
}

static inline uint32_t id_of(const struct names *n, uint32_t id)
{
	return n->id && (id == 1 || id == 2) ? 3 - id : id;
}

/* Which kinds are due of an object, a bit each. */
static inline uint64_t due_bits(enum srv_kind first, enum srv_kind last, uint32_t index)
{
	uint64_t bits = 0;
	uint32_t k;

	if (machine->head[SIDE_LOCAL] == NIL && machine->head[SIDE_CHILD] == NIL)
		return 0;
	for (k = first; k <= (uint32_t)last; k++)
		bits |= (uint64_t)srv_due(machine, (enum srv_kind)k, index) << (k - first);
	return bits;
}

static inline uint64_t word_of_list(const struct names *n, uint32_t at)
{
	const struct srv_list *const l = &machine->lists[at];
	const bool ring = machine->chans[l->chan].ring == at;

	return 1u | (uint64_t)l->state << 1 | (uint64_t)id_of(n, l->id) << 8 |
	       (uint64_t)l->created_owed << 16 | (uint64_t)l->torn_owed << 17 |
	       (uint64_t)ring << 18 | (uint64_t)(l->qwords && l->qwords[0]) << 19 |
	       (uint64_t)l->have << 20 | (uint64_t)l->want << 24 |
	       due_bits(K_CREATED, K_DOWN, at) << 32;
}

/* The page lists of a channel, in an order that does not depend on their slots. */
static inline uint64_t words_of_lists(const struct names *n, uint32_t slot, uint64_t h)
{
	uint64_t word[LISTS] = { 0 }, swap;
	uint32_t i, k = 0;

	for (i = 0; i < lists; i++)
		if (machine->lists[i].state != L_FREE && machine->lists[i].chan == slot)
			word[k++] = word_of_list(n, i);
	if (word[0] < word[1]) {
		swap = word[0];
		word[0] = word[1];
		word[1] = swap;
	}
	return mixed(mixed(h, word[0]), word[1]);
}

/* What the channel is as the other one's: its sub-channel, its primary, or a stranger. */
static inline uint64_t family_of(uint32_t slot)
{
	const struct srv_chan *const c = &machine->chans[slot];
	const struct srv_chan *const other = &machine->chans[chans - 1u - slot];

	return c->offer.sub_index |
	       (uint64_t)(chans > 1 && other->state != VMBUS_SRV_FREE &&
			  vmbus_guid_equal(&c->offer.instance_id, &other->offer.instance_id))
		       << 8;
}

static inline uint64_t word_of_chan(const struct names *n, uint32_t slot)
{
	const struct srv_chan *const c = &machine->chans[slot];
	const bool open = c->ring != NIL;
	uint64_t w = c->state | due_bits(K_OFFER, K_RELEASED, slot) << 8;

	if (c->state == VMBUS_SRV_FREE)
		return w;
	w |= (uint64_t)c->fate << 20 | (uint64_t)c->survives << 22 | (uint64_t)c->modifying << 23 |
	     (uint64_t)c->modify_again << 24 | (uint64_t)c->reserved_reply << 25 |
	     family_of(slot) << 26;
	/* How it was opened is nobody's business once it is closed, nor which list a new OPEN named. */
	if (open)
		w |= (uint64_t)c->reserved << 40 | (uint64_t)(c->target_vp == VMBUS_VP_NONE) << 41;
	if (c->state == VMBUS_SRV_CLOSING_REOPEN)
		w |= (uint64_t)id_of(n, c->open.gpadl) << 42;
	return w;
}

static inline uint64_t counts(uint64_t h, const struct srv_count *c, uint32_t n)
{
	uint64_t w = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		w = w << 16 | (uint64_t)c[i].owed << 8 | c[i].may;
	return mixed(h, w);
}

static inline uint64_t hash_shadow_relid(const struct names *n, uint32_t relid, uint64_t h)
{
	const struct srv_shadow *const s = &world.shadow;
	const struct srv_count c[3] = { s->open[relid], s->modify[relid], s->reserved[relid] };
	struct srv_count created[SHADOW_IDS];
	uint32_t i;

	for (i = 0; i < SHADOW_IDS; i++)
		created[id_of(n, i)] = s->created[relid][i];
	h = counts(mixed(h, s->known[relid]), c, 3);
	return counts(h, created, SHADOW_IDS);
}

static inline uint64_t hash_shadow(const struct names *n, uint64_t h)
{
	const struct srv_shadow *const s = &world.shadow;
	const struct srv_count c[4] = { s->version, s->unloaded, s->all, s->paused };
	const struct srv_count d[2] = { s->connection, s->tl };
	struct srv_count torn[SHADOW_IDS];
	uint32_t i;

	for (i = 0; i < SHADOW_IDS; i++)
		torn[id_of(n, i)] = s->torn[i];
	h = counts(counts(mixed(h, s->first), c, 4), d, 2);
	h = counts(h, torn, SHADOW_IDS);
	for (i = 0; i < SHADOW_RELIDS; i++)
		h = hash_shadow_relid(n, relid_of(n, i), h);
	return h;
}

static inline uint64_t word_of_entry(const struct names *n, uint32_t at)
{
	const struct srv_entry *const e = &machine->entries[at];

	return mixed(e->type | (uint64_t)relid_of(n, e->relid) << 16 |
			     (uint64_t)id_of(n, e->id) << 32,
		     e->status | (uint64_t)e->vp << 32 | (uint64_t)e->sint << 60);
}

static inline uint64_t hash_conn(void)
{
	uint64_t h = mixed(0, machine->conn | (uint64_t)machine->supported << 32);

	h = mixed(h, machine->version | (uint64_t)machine->wire_version << 32);
	h = mixed(h, (uint64_t)machine->hold | (uint64_t)machine->modifying << 1);
	/* The newest contact is answered when all devices have let go. */
	return mixed(h, machine->conn == CONN_RECONNECTING ? machine->contact.version : 0);
}

/* One naming. */
static inline uint64_t hash_named(const struct names *n, uint64_t h)
{
	uint64_t entries = 0;
	uint32_t i;

	for (i = 0; i < chans; i++) {
		const uint32_t slot = relid_of(n, i + 1) - 1;

		h = words_of_lists(n, slot, mixed(h, word_of_chan(n, slot)));
	}
	for (i = 0; i < machine->opts.queue_max; i++)
		if (srv_due(machine, K_ENTRY, i))
			entries += word_of_entry(n, i);
	return hash_shadow(n, mixed(h, entries));
}

/* What tells the channels from one another without a name in it; equal ones are tried both ways. */
static uint64_t key_of_chan(uint32_t slot)
{
	const struct srv_shadow *const s = &world.shadow;
	const struct srv_count c[3] = { s->open[slot + 1], s->modify[slot + 1],
					s->reserved[slot + 1] };
	const struct names none = { false, false };

	/* But the page list id that a held OPEN names. */
	return counts(mixed(s->known[slot + 1], word_of_chan(&none, slot) & ~(7ull << 42)), c, 3);
}

static uint64_t canonical(void)
{
	uint64_t least = UINT64_MAX, conn, key[2];
	uint32_t i;

	if (lazy) /* output is taken one by one, so its order is a difference */
		return concrete();
	conn = mixed(hash_conn(), due_bits(K_VERSION, K_CONN_MODIFY, 0));
	for (i = 0; i < 2; i++)
		key[i] = i < chans ? key_of_chan(i) : UINT64_MAX;
	for (i = 0; i < 4; i++) {
		const struct names n = { (i & 1u) != 0, (i & 2u) != 0 };
		uint64_t h;

		if (n.chan ? key[0] < key[1] : key[0] > key[1])
			continue;
		h = hash_named(&n, conn);
		least = h < least ? h : least;
	}
	return least;
}

#endif
