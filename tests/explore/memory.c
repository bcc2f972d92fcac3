/* SPDX-License-Identifier: MIT */
/*
 * The memory of the interleaving test: for each word the stores in modification order, for each
 * thread the oldest store of each word that it may still read (its view), and clocks for races on
 * bytes that are handed over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define WORDS 64u
#define MESSAGES 2048u
#define PER_WORD 256u
#define TIME_GAP (1u << 20)
#define HASH 256u
#define QWORDS 512u

struct view {
	uint32_t time[WORDS];
	uint32_t clock[EX_THREADS];
};

struct message {
	uint64_t value;
	uint32_t time;
	uint32_t serial; /* within the word, in the order of the run */
	uint32_t event;
	bool followed; /* by a read-modify-write that read it: nothing fits between */
	struct view view;
};

/* Who touched something that is handed over, and when. */
struct touch {
	uint32_t writer, write_clock;
	uint32_t read_clock[EX_THREADS];
};

struct word {
	const void *at;
	const char *name;
	uint32_t bytes;
	bool handed_over;
	ex_store_fn *on_store;
	uint32_t count;
	uint32_t order[PER_WORD]; /* messages in modification order */
	struct touch touch;
};

struct thread {
	struct view now;	/* what loads must respect */
	struct view acquired;	/* what an acquire fence adds */
	struct view fenced;	/* what relaxed stores pass on: as of the last release fence */
	uint32_t loaded[WORDS]; /* the newest that it has itself loaded */
};

struct ex_mutant ex_mutant;

static struct word words[WORDS];
static uint32_t word_count;
static uint8_t hash[HASH]; /* word + 1 */
static struct message pool[MESSAGES];
static uint32_t pool_used;
static struct thread threads[EX_THREADS];
static struct view total; /* of full fences */
static bool bells[EX_BELLS];
static struct touch touches[QWORDS], plain;
static uint32_t stepping; /* the thread whose step is being made */
static const uint8_t *window;
static uint32_t window_size;
static void (*on_write)(const uint8_t *to, size_t len);

static void join_times(struct view *to, const struct view *from)
{
	uint32_t i;

	for (i = 0; i < word_count; i++)
		if (to->time[i] < from->time[i])
			to->time[i] = from->time[i];
}

static void join(struct view *to, const struct view *from)
{
	uint32_t i;

	join_times(to, from);
	for (i = 0; i < EX_THREADS; i++)
		if (to->clock[i] < from->clock[i])
			to->clock[i] = from->clock[i];
}

void mem_reset(void)
{
	uint32_t i;

	word_count = 0;
	pool_used = 0;
	memset(hash, 0, sizeof(hash));
	memset(threads, 0, sizeof(threads));
	memset(&total, 0, sizeof(total));
	memset(bells, 0, sizeof(bells));
	memset(touches, 0, sizeof(touches));
	memset(&plain, 0, sizeof(plain));
	window = NULL;
	on_write = NULL;
	for (i = 0; i < EX_THREADS; i++) {
		threads[i].now.clock[i] = 1;
		threads[i].acquired.clock[i] = 1;
	}
}

uint32_t mem_word(const void *p)
{
	uint32_t slot = (uint32_t)((uintptr_t)p / 4u * 2654435761u >> 13) % HASH;
	struct word *w;

	for (; hash[slot]; slot = (slot + 1) % HASH)
		if (words[hash[slot] - 1u].at == p)
			return hash[slot] - 1u;
	if (word_count == WORDS)
		ex_fail("the test needs more than %u words", WORDS);
	hash[slot] = (uint8_t)(word_count + 1);
	w = &words[word_count];
	w->at = p;
	w->name = NULL;
	w->bytes = 0;
	w->handed_over = false;
	w->on_store = NULL;
	w->count = 0;
	memset(&w->touch, 0, sizeof(w->touch));
	return word_count++;
}

const char *mem_word_name(uint32_t word)
{
	static char text[40];

	if (words[word].name)
		return words[word].name;
	(void)snprintf(text, sizeof(text), "word %u", word);
	return text;
}

void ex_name(const void *word, const char *name)
{
	words[mem_word(word)].name = name;
}

void ex_handed_over(const void *word)
{
	words[mem_word(word)].handed_over = true;
}

void ex_on_store(const void *word, ex_store_fn *fn)
{
	words[mem_word(word)].on_store = fn;
}

void ex_window(const uint8_t *data, uint32_t size)
{
	if (size > QWORDS * 8u)
		ex_fail("the window is too large for the test");
	window = data;
	window_size = size;
}

void ex_on_write(void (*fn)(const uint8_t *to, size_t len))
{
	on_write = fn;
}

/* The first message of a word is what memory held when the threads began. */
static struct word *open_word(uint32_t number, uint32_t bytes)
{
	struct word *w = &words[number];
	struct message *m;
	uint32_t v32;

	if (w->count)
		return w;
	w->bytes = bytes;
	if (pool_used == MESSAGES)
		ex_fail("the run makes too many stores");
	m = &pool[pool_used];
	memset(m, 0, sizeof(*m));
	if (bytes == 4) {
		memcpy(&v32, w->at, sizeof(v32));
		m->value = v32;
	} else {
		memcpy(&m->value, w->at, sizeof(m->value));
	}
	m->event = NO_EVENT;
	w->order[0] = pool_used++;
	w->count = 1;
	return w;
}

static uint32_t step_bytes(const struct step *s)
{
	return s->kind == STEP_AWAIT ? (uint32_t)s->a : s->site->bytes;
}

uint32_t mem_count(uint32_t word)
{
	return words[word].count;
}

bool step_writes(const struct step *s)
{
	return s->kind == STEP_ATOMIC && !s->fence && s->site->op != VMBUS__EX_LOAD;
}

/* Whether a step may use this message: read it, or be stored behind it. */
static bool fits(const struct step *s, const struct message *m, uint32_t floor)
{
	if (!step_writes(s))
		return m->serial >= floor;
	if (s->site->op == VMBUS__EX_CAS && m->value != s->a)
		return true; /* a swap that fails is a load */
	return !m->followed;
}

uint32_t mem_options(uint32_t thread, const struct step *s, uint32_t floor, uint32_t *option)
{
	const struct word *w;
	uint32_t n = 0, i, oldest;

	if (s->kind == STEP_WAIT && !bells[s->where])
		return 0;
	if (s->fence || s->kind == STEP_RING || s->kind == STEP_WAIT) {
		option[0] = 0;
		return 1;
	}
	w = open_word(s->where, step_bytes(s));
	oldest = threads[thread].now.time[s->where];
	if (s->kind == STEP_AWAIT && oldest <= threads[thread].loaded[s->where])
		oldest = threads[thread].loaded[s->where] + 1;
	for (i = w->count; i-- > 0 && pool[w->order[i]].time >= oldest;) {
		if (!fits(s, &pool[w->order[i]], floor))
			continue;
		if (n == MAX_OPTIONS)
			ex_fail("a step has more than %u outcomes", MAX_OPTIONS);
		option[n++] = i;
	}
	return n;
}

static void race(uint32_t thread, const char *what, uint32_t other, const char *name)
{
	ex_fail("race on %s: thread %u %s, not ordered after an access by thread %u", name, thread,
		what, other);
}

static void touch_read(uint32_t thread, struct touch *t, const char *name)
{
	const struct view *now = &threads[thread].now;

	if (t->write_clock > now->clock[t->writer])
		race(thread, "reads", t->writer, name);
	t->read_clock[thread] = now->clock[thread];
}

static void touch_write(uint32_t thread, struct touch *t, const char *name)
{
	const struct view *now = &threads[thread].now;
	uint32_t i;

	if (t->write_clock > now->clock[t->writer])
		race(thread, "writes", t->writer, name);
	for (i = 0; i < EX_THREADS; i++)
		if (t->read_clock[i] > now->clock[i])
			race(thread, "writes", i, name);
	t->writer = thread;
	t->write_clock = now->clock[thread];
}

static void touch_bytes(uint32_t thread, const uint8_t *at, size_t len, bool write)
{
	char name[32];
	size_t i;

	if (!window || at < window || at + len > window + window_size)
		return;
	for (i = (size_t)(at - window) / 8u; i * 8u < (size_t)(at - window) + len; i++) {
		struct touch *t = &touches[i];
		const struct view *now = &threads[thread].now;

		if (t->write_clock <= now->clock[t->writer] && !write) {
			t->read_clock[thread] = now->clock[thread];
			continue;
		}
		(void)snprintf(name, sizeof(name), "data byte %zu", i * 8u);
		if (write)
			touch_write(thread, t, name);
		else
			touch_read(thread, t, name);
	}
}

/* Insert a message behind the one at a place in modification order. */
static struct message *insert(struct word *w, uint32_t behind, uint64_t value, uint32_t event)
{
	const uint32_t before = pool[w->order[behind]].time;
	struct message *m;

	if (pool_used == MESSAGES || w->count == PER_WORD)
		ex_fail("the run makes too many stores");
	m = &pool[pool_used];
	m->value = value;
	m->serial = w->count;
	m->event = event;
	m->followed = false;
	if (behind + 1 == w->count) {
		m->time = before + TIME_GAP;
	} else {
		m->time = before + (pool[w->order[behind + 1]].time - before) / 2u;
		if (m->time == before)
			ex_fail("the test has no room between two stores");
		memmove(&w->order[behind + 2], &w->order[behind + 1],
			(w->count - behind - 1) * sizeof(w->order[0]));
	}
	w->order[behind + 1] = pool_used++;
	w->count++;
	return m;
}

/* Memory itself has the last value in modification order, for finish() and debuggers. */
static void write_back(const struct word *w)
{
	const uint64_t v = pool[w->order[w->count - 1]].value;
	const uint32_t v32 = (uint32_t)v;
	void *to = (void *)(uintptr_t)w->at;

	if (w->bytes == 4)
		memcpy(to, &v32, sizeof(v32));
	else
		memcpy(to, &v, sizeof(v));
}

static void read_message(struct thread *t, uint32_t word, const struct message *m, bool acquire)
{
	if (t->now.time[word] < m->time)
		t->now.time[word] = m->time;
	t->loaded[word] = m->time;
	join(&t->acquired, &m->view);
	if (acquire)
		join(&t->now, &m->view);
	if (t->acquired.time[word] < m->time)
		t->acquired.time[word] = m->time;
}

static void store(uint32_t thread, const struct step *s, uint32_t behind, uint64_t value,
		  const struct message *read, uint32_t event)
{
	struct thread *t = &threads[thread];
	struct word *w = &words[s->where];
	const uint64_t before = pool[w->order[behind]].value;
	struct message *m = insert(w, behind, value, event);

	t->loaded[s->where] = m->time;
	t->now.time[s->where] = m->time;
	t->acquired.time[s->where] = m->time;
	m->view = s->release ? t->now : t->fenced;
	if (m->view.time[s->where] < m->time)
		m->view.time[s->where] = m->time;
	if (read)
		join(&m->view, &read->view); /* a release sequence goes on */
	write_back(w);
	if (w->handed_over)
		touch_write(thread, &w->touch, mem_word_name(s->where));
	if (w->on_store)
		w->on_store(before, value, behind + 2 == w->count);
}

static void apply_fence(uint32_t thread, const struct step *s)
{
	struct thread *t = &threads[thread];

	if (s->acquire)
		join(&t->now, &t->acquired);
	/* The total order is about words only: it hands no bytes over. */
	join_times(&t->now, &total);
	join_times(&total, &t->now);
	join_times(&t->acquired, &t->now);
	if (s->release)
		t->fenced = t->now;
}

void mem_fence_local(uint32_t thread, bool acquire, bool release)
{
	struct thread *t = &threads[thread];

	if (acquire)
		join(&t->now, &t->acquired);
	if (release) {
		t->fenced = t->now;
		t->now.clock[thread]++;
		t->acquired.clock[thread] = t->now.clock[thread];
	}
}

/* What a read-modify-write that cannot fail leaves in a word. */
static uint64_t changed(enum vmbus__explore_op op, uint64_t value, uint64_t a)
{
	if (op == VMBUS__EX_ADD)
		return value + a;
	return op == VMBUS__EX_OR ? value | a : a;
}

static void apply_word(uint32_t thread, const struct step *s, uint32_t option, uint32_t event,
		       struct effect *effect)
{
	struct word *w = &words[s->where];
	struct message *m = &pool[w->order[option]];
	const enum vmbus__explore_op op =
		s->kind == STEP_AWAIT ? VMBUS__EX_LOAD : (enum vmbus__explore_op)s->site->op;

	effect->older = option + 1 != w->count;
	effect->value = s->a;
	if (op == VMBUS__EX_STORE) {
		store(thread, s, option, s->a, NULL, event);
		return;
	}
	effect->read_from = m->event;
	if (op == VMBUS__EX_LOAD) {
		if (w->handed_over)
			touch_read(thread, &w->touch, mem_word_name(s->where));
		read_message(&threads[thread], s->where, m, s->acquire);
		effect->value = m->value;
		return;
	}
	if (op == VMBUS__EX_CAS && m->value != s->a) {
		read_message(&threads[thread], s->where, m, false);
		effect->value = 0;
		return;
	}
	read_message(&threads[thread], s->where, m, s->acquire);
	m->followed = true;
	if (op == VMBUS__EX_CAS) {
		store(thread, s, option, s->b, m, event);
		effect->value = 1;
	} else {
		effect->value = m->value;
		store(thread, s, option, changed(op, m->value, s->a), m, event);
	}
}

void mem_apply(uint32_t thread, const struct step *s, uint32_t option, uint32_t event,
	       struct effect *effect)
{
	struct thread *t = &threads[thread];

	stepping = thread;
	effect->value = 0;
	effect->read_from = NO_EVENT;
	effect->older = false;
	if (s->kind == STEP_RING)
		bells[s->where] = true;
	else if (s->kind == STEP_WAIT)
		bells[s->where] = false;
	else if (s->fence)
		apply_fence(thread, s);
	else
		apply_word(thread, s, option, event, effect);
	/* What follows is not yet part of what this step has passed on. */
	t->now.clock[thread]++;
	t->acquired.clock[thread] = t->now.clock[thread];
}

void ex_touch(bool write)
{
	const uint32_t thread = ex_self() < EX_THREADS ? ex_self() : stepping;

	if (write)
		touch_write(thread, &plain, "the plain object");
	else
		touch_read(thread, &plain, "the plain object");
}

void ex_read_bytes(const void *from, size_t len)
{
	if (ex_self() < EX_THREADS)
		touch_bytes(ex_self(), from, len, false);
}

void vmbus__explore_read(const uint8_t *from, size_t len)
{
	ex_read_bytes(from, len);
}

void vmbus__explore_write(const uint8_t *to, size_t len)
{
	if (ex_self() >= EX_THREADS)
		return;
	if (on_write)
		on_write(to, len);
	touch_bytes(ex_self(), to, len, true);
}
