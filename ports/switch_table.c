/* SPDX-License-Identifier: MIT */
/*
 * The addresses that a switch knows: a table of buckets, read and written by all senders without a
 * lock.  A word is all of an entry but its age, so that nobody sees half of one.
 *
 * Two threads that learn one address at the same moment may store it twice; the first in its bucket
 * counts, and the other one grows old.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "switch/switch.h"

#define LINE_BYTES 64u
#define MIX 0x9E3779B1u /* odd, and its bits are in no order */

int vmbus__switch_table_init(struct vmbus__switch_table *table, uint32_t entries)
{
	if (getrandom(table->salt, sizeof(table->salt), 0) != (ssize_t)sizeof(table->salt))
		return VMBUS_E_SYSTEM;
	table->entries = entries;
	table->mask = entries / VMBUS__SWITCH_WAYS - 1;
	table->word = aligned_alloc(LINE_BYTES, entries * sizeof(*table->word));
	table->seen = calloc(entries, sizeof(*table->seen));
	if (!table->word || !table->seen)
		return VMBUS_E_NOMEM;
	memset(table->word, 0, entries * sizeof(*table->word));
	return 0;
}

void vmbus__switch_table_end(struct vmbus__switch_table *table)
{
	free(table->word);
	free(table->seen);
}

/* The first entry of an address's bucket.  Twice a product of halves, for addresses are often in a row. */
static uint32_t bucket(const struct vmbus__switch_table *table, uint64_t mac)
{
	const uint64_t low = (mac & UINT32_MAX) ^ table->salt[0];
	const uint64_t high = (mac >> 32 ^ table->salt[1]) | 1u;
	const uint64_t product = low * high;
	const uint64_t mixed = ((product >> 32 ^ product) & UINT32_MAX) * MIX;

	return (uint32_t)((mixed >> 32 ^ mixed >> 12) & table->mask);
}

static uint64_t load(const struct vmbus__switch_table *table, uint32_t at)
{
	return vmbus__ld64_acquire(vmbus__as_a64c(&table->word[at])); /* SWITCHMAC.find */
}

/* For how long an entry was silent; clocks of threads may differ by one second. */
static uint32_t age(const struct vmbus__switch_table *table, uint32_t at, uint32_t now)
{
	const uint32_t seen =
		vmbus__ld32_relaxed(vmbus__as_a32c(&table->seen[at])); /* SWITCHAGE.look */

	return now > seen ? now - seen : 0;
}

uint32_t vmbus__switch_find(const struct vmbus_switch *sw, uint64_t mac, uint32_t now)
{
	const struct vmbus__switch_table *const table = &sw->table;
	const uint32_t first = bucket(table, mac) * VMBUS__SWITCH_WAYS;
	uint32_t i;

	for (i = first; i < first + VMBUS__SWITCH_WAYS; i++) {
		const uint64_t word = load(table, i);

		if (word >> 16 == mac && word && age(table, i, now) < sw->opts.age_s)
			return (uint32_t)(word & 0xffffu);
	}
	return VMBUS__SWITCH_NONE;
}

static uint32_t number_of(uint64_t word)
{
	return (uint32_t)(word & ((1u << VMBUS__SWITCH_NUMBER_BITS) - 1));
}

static void add_address(struct vmbus_switch *sw, uint64_t word, uint64_t v)
{
	if (word)
		vmbus__add64_relaxed(vmbus__as_a64(&sw->port[number_of(word)].addresses),
				     v); /* SWITCHCOUNT.count */
}

/* Put an entry where another one, or none, was.  False: somebody else did, and it stays so. */
static bool replace(struct vmbus_switch *sw, uint32_t at, uint64_t old, uint64_t word)
{
	if (!vmbus__cas64_acq_rel(vmbus__as_a64(&sw->table.word[at]), old,
				  word)) /* SWITCHMAC.set */
		return false;
	add_address(sw, old, UINT64_MAX); /* one less */
	add_address(sw, word, 1);
	return true;
}

static bool is_full(const struct vmbus__switch_port *from)
{
	return vmbus__ld64_relaxed(vmbus__as_a64c(&from->addresses)) >= /* SWITCHCOUNT.look */
	       from->sw->opts.learn_max;
}

/* Those of a port that has as many as it may; once a second, since all of the table is looked at. */
static void give_up_silent(struct vmbus__switch_port *from, uint32_t now)
{
	struct vmbus_switch *const sw = from->sw;
	uint32_t i;

	if (from->swept_second == now)
		return;
	from->swept_second = now;
	for (i = 0; i < sw->table.entries; i++) {
		const uint64_t word = load(&sw->table, i);

		if (word && number_of(word) == from->number &&
		    age(&sw->table, i, now) >= sw->opts.age_s)
			(void)replace(sw, i, word, 0);
	}
}

/* How many addresses of a port are in a bucket. */
static uint32_t ways_of(const uint64_t *word, uint32_t number)
{
	uint32_t i, n = 0;

	for (i = 0; i < VMBUS__SWITCH_WAYS; i++)
		n += number_of(word[i]) == number;
	return n;
}

/* In a full bucket: one of the port that has most there, if it still has as many as the other then. */
static uint32_t place_of_most(const struct vmbus_switch *sw, uint32_t first, uint32_t number)
{
	uint64_t word[VMBUS__SWITCH_WAYS];
	uint32_t i, ways, most, found = VMBUS__SWITCH_NONE;

	for (i = 0; i < VMBUS__SWITCH_WAYS; i++)
		word[i] = load(&sw->table, first + i);
	most = ways_of(word, number) + 1;
	for (i = 0; i < VMBUS__SWITCH_WAYS; i++) {
		ways = ways_of(word, number_of(word[i]));
		if (ways > most) {
			most = ways;
			found = first + i;
		}
	}
	return found;
}

/* A place for a new address: an empty one, or one that has been silent; or of who has most; or NONE. */
static uint32_t place(const struct vmbus_switch *sw, uint32_t first, uint32_t number, uint32_t now)
{
	const struct vmbus__switch_table *const table = &sw->table;
	uint32_t found = VMBUS__SWITCH_NONE, i;

	for (i = first; i < first + VMBUS__SWITCH_WAYS; i++) {
		if (load(table, i) == 0)
			return i;
		if (age(table, i, now) >= sw->opts.age_s)
			found = i;
	}
	return found != VMBUS__SWITCH_NONE ? found : place_of_most(sw, first, number);
}

static void learn_new(struct vmbus__switch_port *from, uint32_t first, uint64_t word, uint32_t now)
{
	struct vmbus_switch *const sw = from->sw;
	uint32_t at;

	if (is_full(from))
		give_up_silent(from, now);
	at = is_full(from) ? VMBUS__SWITCH_NONE : place(sw, first, from->number, now);
	if (at == VMBUS__SWITCH_NONE) {
		vmbus__switch_count(&from->not_learned, 1);
		return;
	}
	vmbus__st32_relaxed(vmbus__as_a32(&sw->table.seen[at]), now); /* SWITCHAGE.set */
	(void)replace(sw, at, load(&sw->table, at), word);
}

void vmbus__switch_learn(struct vmbus__switch_port *from, uint64_t mac, uint32_t now)
{
	struct vmbus__switch_table *const table = &from->sw->table;
	const uint32_t first = bucket(table, mac) * VMBUS__SWITCH_WAYS;
	const uint64_t generation =
		vmbus__ld32_relaxed(vmbus__as_a32(&from->generation)); /* SWITCHOPEN.own */
	const uint64_t word = mac << 16 | generation << VMBUS__SWITCH_NUMBER_BITS | from->number;
	uint32_t i;

	for (i = first; i < first + VMBUS__SWITCH_WAYS; i++) {
		vmbus__a32 *const seen = vmbus__as_a32(&table->seen[i]);
		const uint64_t old = load(table, i);

		if (old >> 16 != mac || !old)
			continue;
		if (old != word && is_full(from))
			give_up_silent(from, now);
		if (old != word && is_full(from)) {
			vmbus__switch_count(&from->not_learned, 1);
			return; /* it stays the other's, and as old as it is */
		}
		if (old != word) {
			if (!replace(from->sw, i, old, word))
				return;
			vmbus__switch_count(&from->moved, 1);
		}
		if (vmbus__ld32_relaxed(seen) != now)	/* SWITCHAGE.look */
			vmbus__st32_relaxed(seen, now); /* SWITCHAGE.set */
		return;
	}
	learn_new(from, first, word, now);
}

void vmbus__switch_forget(struct vmbus_switch *sw, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < sw->table.entries; i++) {
		const uint64_t word = load(&sw->table, i);

		if (word && number_of(word) == number)
			(void)replace(sw, i, word, 0);
	}
}

int vmbus_switch_addresses(const struct vmbus_switch *sw, struct vmbus_switch_address *address,
			   uint32_t n)
{
	const uint32_t now = vmbus__switch_now();
	uint32_t i, found = 0, byte;

	for (i = 0; i < sw->table.entries; i++) {
		const uint64_t word = load(&sw->table, i);
		const uint32_t silent = age(&sw->table, i, now);

		if (!word || silent >= sw->opts.age_s)
			continue;
		if (found++ >= n)
			continue;
		address[found - 1] = (struct vmbus_switch_address){
			.port = number_of(word),
			.age_s = silent,
		};
		for (byte = 0; byte < 6; byte++)
			address[found - 1].mac[byte] = (uint8_t)(word >> (16 + 8 * byte) & 0xffu);
	}
	return (int)found;
}
