/* SPDX-License-Identifier: MIT */
/*
 * The search: depth first over schedules, each run from the start.  Partial order reduction by
 * sleep sets and by backtracking only where two steps that depend on each other could have come in
 * the other order (Flanagan, Godefroid 2005; Abdulla et al. 2014).  Steps depend on each other when
 * both write the same word, both are full fences, or use the same bell; a load depends on a later
 * store that it could have read, but not on an earlier one, since it may still read what was there
 * before.
 */
#undef _FORTIFY_SOURCE /* we jump between stacks */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "internal.h"

#define STACK_BYTES (128u * 1024u)
#define DEPTH 1500u
#define NOBODY EX_THREADS

struct node {
	uint8_t enabled; /* threads, one bit each */
	uint8_t asleep;	 /* as the node was entered: equal to what was searched elsewhere */
	uint8_t backtrack, done;
	uint8_t current, last; /* thread that steps now, and that stepped before */
	uint32_t option, options;
	uint32_t avail[EX_THREADS]; /* options that are not asleep */
	uint32_t count[EX_THREADS]; /* messages of the word that each thread is at */
	uint32_t floor[EX_THREADS]; /* a sleeping load: older messages were searched elsewhere */
	uint32_t preemptions;
};

struct event {
	struct step step;
	struct effect effect;
	uint32_t thread, number;    /* within the thread, from 1 */
	uint32_t clock[EX_THREADS]; /* steps that come before it in every equal run */
};

struct coroutine {
	ucontext_t start;
	jmp_buf base, here;
	bool is_made, is_done;
	struct step step;
	uint64_t result;
	uint32_t steps;
	uint32_t clock[EX_THREADS];
};

enum end {
	END_WHOLE,
	END_CUT,
	END_FAIL
};

static struct coroutine threads[EX_THREADS];
static char stacks[EX_THREADS][STACK_BYTES] __attribute__((aligned(64)));
static struct node nodes[DEPTH];
static struct event events[DEPTH];
static uint32_t depth, top; /* steps of this run; nodes of the search */
static const struct ex_scenario *scenario;
static struct ex_result *result_of;
static uint32_t running = NOBODY;
static bool is_concurrent, is_reduced;
static jmp_buf to_search, to_failed, to_boot;

/* Every place in the sources under test; the linker makes the two names. */
extern struct vmbus__site *__start_vmbus_sites[], *__stop_vmbus_sites[];
static struct vmbus__site **sites;
static uint32_t site_count;
static bool *site_run;

static int by_place(const void *a, const void *b)
{
	const struct vmbus__site *x = *(struct vmbus__site *const *)a;
	const struct vmbus__site *y = *(struct vmbus__site *const *)b;
	const int files = strcmp(x->file, y->file);

	return files ? files : x->line < y->line ? -1 : x->line > y->line;
}

static void find_sites(void)
{
	uint32_t i;

	if (sites)
		return;
	site_count = (uint32_t)(__stop_vmbus_sites - __start_vmbus_sites);
	sites = malloc(site_count * sizeof(struct vmbus__site *));
	site_run = calloc(site_count, sizeof(bool));
	if (!sites || !site_run)
		abort();
	memcpy(sites, __start_vmbus_sites, site_count * sizeof(struct vmbus__site *));
	qsort(sites, site_count, sizeof(struct vmbus__site *), by_place);
	for (i = 0; i < site_count; i++)
		sites[i]->number =
			i && by_place(&sites[i - 1], &sites[i]) == 0 ? sites[i - 1]->number : i;
}

uint32_t ex_sites(struct vmbus__site *const **out)
{
	find_sites();
	*out = sites;
	return site_count;
}

bool ex_site_was_run(const struct vmbus__site *site)
{
	return site_run[site->number];
}

void ex_sites_forget(void)
{
	find_sites();
	memset(site_run, 0, site_count * sizeof(bool));
}

const char *ex_site_file(const struct vmbus__site *site)
{
	const char *slash = strrchr(site->file, '/');

	return slash ? slash + 1 : site->file;
}

uint32_t ex_self(void)
{
	return running;
}

uint32_t ex_steps(void)
{
	return threads[running].steps;
}

void ex_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(result_of->why, sizeof(result_of->why), format, args);
	va_end(args);
	result_of->failed = true;
	running = NOBODY;
	_longjmp(to_failed, 1);
}

void ex_give_up(void)
{
	running = NOBODY;
	_longjmp(to_failed, 2);
}

/* Coroutines.  A run that is given up leaves its stacks as they are; base starts anew. */
static void coroutine_main(void)
{
	const uint32_t self = running;

	if (_setjmp(threads[self].base) == 0)
		_longjmp(to_boot, 1);
	scenario->body[running]();
	threads[running].is_done = true;
	_longjmp(to_search, 1);
}

static void make_coroutine(uint32_t i)
{
	struct coroutine *t = &threads[i];

	if (t->is_made)
		return;
	t->is_made = true;
	if (getcontext(&t->start))
		abort();
	t->start.uc_stack.ss_sp = stacks[i];
	t->start.uc_stack.ss_size = STACK_BYTES;
	t->start.uc_link = NULL;
	makecontext(&t->start, coroutine_main, 0);
	running = i;
	if (_setjmp(to_boot) == 0)
		(void)setcontext(&t->start);
	running = NOBODY;
}

/* Let a thread run to its next step. */
static void resume(uint32_t i, bool first)
{
	running = i;
	if (_setjmp(to_search) == 0)
		_longjmp(first ? threads[i].base : threads[i].here, 1);
	running = NOBODY;
}

/* In a thread: the search makes the step and comes back with its result. */
static uint64_t make_step(const struct step *step)
{
	struct coroutine *t = &threads[running];

	t->step = *step;
	if (_setjmp(t->here) == 0)
		_longjmp(to_search, 1);
	return threads[running].result;
}

static uint64_t direct(const struct vmbus__site *site, void *p, uint64_t a, uint64_t b)
{
	uint64_t old = 0, now = a;
	uint32_t v32;

	if (site->op == VMBUS__EX_FENCE_ACQUIRE || site->op == VMBUS__EX_FENCE_FULL)
		return 0;
	if (site->bytes == 4) {
		memcpy(&v32, p, sizeof(v32));
		old = v32;
	} else {
		memcpy(&old, p, sizeof(old));
	}
	switch (site->op) {
	case VMBUS__EX_LOAD:
		return old;
	case VMBUS__EX_CAS:
		if (old != a)
			return 0;
		now = b;
		break;
	case VMBUS__EX_ADD:
		now = old + a;
		break;
	case VMBUS__EX_OR:
		now = old | a;
		break;
	default:
		break;
	}
	v32 = (uint32_t)now;
	memcpy(p, site->bytes == 4 ? (const void *)&v32 : (const void *)&now, site->bytes);
	return site->op == VMBUS__EX_CAS ? 1 : old;
}

uint64_t vmbus__explore(const struct vmbus__site *site, const void *p, uint64_t a, uint64_t b)
{
	struct step step = {
		STEP_ATOMIC, 0, site, a, b, site->acquire, site->release, true, false
	};

	if (!is_concurrent || running == NOBODY)
		return direct(site, (void *)(uintptr_t)p, a, b);
	if (site->number != EX_OUR_SITE)
		site_run[site->number] = true;
	if (ex_mutant.site && ex_mutant.site->number == site->number) {
		if (ex_mutant.drop)
			return 0;
		step.acquire = ex_mutant.acquire;
		step.release = ex_mutant.release;
		step.total = false;
	}
	if (site->op == VMBUS__EX_FENCE_ACQUIRE || site->op == VMBUS__EX_FENCE_FULL) {
		step.fence = true;
		if (site->op == VMBUS__EX_FENCE_ACQUIRE || !step.total) {
			mem_fence_local(running, step.acquire, step.release);
			return 0;
		}
	} else {
		step.where = mem_word(p);
	}
	return make_step(&step);
}

uint64_t ex_atomic(const struct vmbus__site *site, void *p, uint64_t a, uint64_t b)
{
	return vmbus__explore(site, p, a, b);
}

void ex_ring(uint32_t bell)
{
	const struct step step = { .kind = STEP_RING, .where = bell };

	if (is_concurrent)
		(void)make_step(&step);
}

void ex_wait(uint32_t bell)
{
	const struct step step = { .kind = STEP_WAIT, .where = bell };

	if (running == NOBODY)
		ex_fail("all have ended, and packets are missing");
	(void)make_step(&step);
}

void ex_await(const void *word, uint32_t bytes)
{
	const struct step step = { .kind = STEP_AWAIT, .where = mem_word(word), .a = bytes };

	if (running == NOBODY)
		ex_fail("all have ended, and packets are missing");
	(void)make_step(&step);
}

static bool is_load(const struct step *s)
{
	return s->kind == STEP_AWAIT ||
	       (s->kind == STEP_ATOMIC && !s->fence && s->site->op == VMBUS__EX_LOAD);
}

static bool is_bell(const struct step *s)
{
	return s->kind == STEP_RING || s->kind == STEP_WAIT;
}

/* Whether the order of two steps matters; early is the earlier one. */
static bool depends(const struct step *early, const struct step *late)
{
	if (is_bell(early) || is_bell(late))
		return is_bell(early) && is_bell(late) && early->where == late->where &&
		       early->kind != late->kind;
	if (early->fence || late->fence)
		return early->fence && late->fence;
	return early->where == late->where && step_writes(late);
}

/*
 * The step that thread p has just made (event e) could have come before event i: see that this is
 * searched.  Of the steps after i, one that must come before e and has none before it is enough,
 * or e itself.
 */
static void want_before(uint32_t i, uint32_t e, const uint32_t *clock)
{
	struct node *n = &nodes[i];
	const uint32_t p = events[e].thread;
	uint32_t j, k, first = NOBODY;
	uint8_t initials = 0, seen = 0;

	for (j = i + 1; j <= e; j++) {
		const struct event *ev = &events[j];
		bool is_initial = true;

		if (j < e && ev->number > clock[ev->thread])
			continue; /* need not come before e */
		if (seen >> ev->thread & 1u)
			continue;
		seen |= (uint8_t)(1u << ev->thread);
		for (k = i + 1; k < j && is_initial; k++)
			if (events[k].thread != ev->thread &&
			    events[k].number <= (j < e ? ev->clock : clock)[events[k].thread])
				is_initial = false;
		if (!is_initial)
			continue;
		initials |= (uint8_t)(1u << ev->thread);
		if (first == NOBODY || ev->thread == p)
			first = ev->thread;
	}
	if (initials & n->backtrack)
		return;
	if (initials & n->enabled)
		n->backtrack |= (uint8_t)(1u << first);
	else
		n->backtrack |= n->enabled;
}

/* Find what could have come in the other order than event e, and time e. */
static void note_event(uint32_t e)
{
	struct event *ev = &events[e];
	struct coroutine *t = &threads[ev->thread];
	uint32_t before[EX_THREADS], i, u;

	memcpy(before, t->clock, sizeof(before));
	t->clock[ev->thread]++;
	ev->number = t->clock[ev->thread];
	for (i = e; i-- > 0;) {
		const struct event *other = &events[i];

		if (other->thread == ev->thread || !depends(&other->step, &ev->step))
			continue;
		if (is_reduced && other->number > before[other->thread])
			want_before(i, e, before);
		if (is_load(&other->step))
			continue; /* does not come before e in every equal run */
		for (u = 0; u < EX_THREADS; u++)
			if (t->clock[u] < other->clock[u])
				t->clock[u] = other->clock[u];
	}
	if (ev->effect.read_from != NO_EVENT) {
		const struct event *other = &events[ev->effect.read_from];

		for (u = 0; u < EX_THREADS; u++)
			if (t->clock[u] < other->clock[u])
				t->clock[u] = other->clock[u];
	}
	memcpy(ev->clock, t->clock, sizeof(ev->clock));
}

static bool is_past_bound(const struct node *n, uint32_t thread)
{
	return scenario->preemptions && n->preemptions == scenario->preemptions &&
	       n->last != NOBODY && thread != n->last && (n->enabled >> n->last & 1u);
}

/* Choose a thread that has not been searched here; false if there is none. */
static bool choose(struct node *n, uint32_t from)
{
	const uint32_t todo = n->backtrack & ~(uint32_t)n->done;
	uint32_t i;

	for (i = 0; i < scenario->threads; i++) {
		const uint32_t t = (from + i) % scenario->threads;

		if ((todo >> t & 1u) && n->avail[t] && !is_past_bound(n, t)) {
			n->current = (uint8_t)t;
			n->option = 0;
			n->options = n->avail[t];
			return true;
		}
	}
	return false;
}

/* What sleeps after the step of event d. */
static void fall_asleep(struct node *next, const struct node *n, const struct step *made)
{
	uint32_t t;

	next->asleep = 0;
	if (!is_reduced)
		return;
	for (t = 0; t < scenario->threads; t++) {
		const bool searched = n->done >> t & 1u;

		if (t == n->current || (!searched && !(n->asleep >> t & 1u)))
			continue;
		if (!is_load(&threads[t].step) && !is_load(made) && depends(made, &threads[t].step))
			continue;
		next->asleep |= (uint8_t)(1u << t);
		next->floor[t] = searched ? n->count[t] : n->floor[t];
	}
}

/* Set up the node of a state that is seen for the first time; false if all was seen elsewhere. */
static bool open_node(struct node *n, uint32_t last)
{
	uint32_t option[MAX_OPTIONS], t;

	n->enabled = 0;
	n->done = 0;
	n->last = (uint8_t)last;
	for (t = 0; t < scenario->threads; t++) {
		const struct step *s = &threads[t].step;
		const bool asleep = n->asleep >> t & 1u;
		uint32_t all;

		n->avail[t] = 0;
		n->count[t] = 0;
		if (threads[t].is_done)
			continue;
		all = mem_options(t, s, 0, option);
		if (all)
			n->enabled |= (uint8_t)(1u << t);
		if (is_load(s))
			n->count[t] = mem_count(s->where);
		if (!asleep)
			n->avail[t] = all;
		else if (is_load(s))
			n->avail[t] = mem_options(t, s, n->floor[t], option);
	}
	n->backtrack = n->enabled;
	if (!choose(n, last == NOBODY ? 0 : last))
		return false;
	if (is_reduced)
		n->backtrack = (uint8_t)(1u << n->current);
	return true;
}

static void all_must_be_done(void)
{
	char text[120] = "";
	uint32_t t;
	size_t n = 0;

	for (t = 0; t < scenario->threads; t++)
		if (!threads[t].is_done)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%sthread %u",
					      n ? ", " : "", t);
	if (n)
		ex_fail("nobody can go on, and work is left: asleep for ever: %s", text);
}

/* Make the step that the node has chosen, and let its thread run on. */
static void do_step(struct node *n)
{
	struct event *ev = &events[depth];
	struct coroutine *t = &threads[n->current];
	uint32_t option[MAX_OPTIONS];
	const bool asleep = n->asleep >> n->current & 1u;

	ev->step = t->step;
	ev->thread = n->current;
	if (mem_options(n->current, &t->step, asleep ? n->floor[n->current] : 0, option) <=
	    n->option)
		ex_fail("the test is not deterministic");
	memset(&ev->effect, 0, sizeof(ev->effect));
	depth++;
	mem_apply(n->current, &ev->step, option[n->option], depth - 1, &ev->effect);
	note_event(depth - 1);
	t->result = ev->effect.value;
	t->steps++;
	resume(n->current, false);
}

static void start_run(void)
{
	uint32_t t, u;

	depth = 0;
	is_concurrent = false;
	running = NOBODY;
	mem_reset();
	scenario->setup();
	is_concurrent = true;
	for (t = 0; t < scenario->threads; t++) {
		make_coroutine(t);
		threads[t].is_done = false;
		threads[t].steps = 0;
		for (u = 0; u < EX_THREADS; u++)
			threads[t].clock[u] = 0;
	}
	for (t = 0; t < scenario->threads; t++)
		resume(t, true);
}

static enum end run_steps(void)
{
	uint32_t last = NOBODY;

	start_run();
	nodes[0].asleep = 0;
	nodes[0].preemptions = 0;
	for (;;) {
		struct node *n = &nodes[depth];
		const bool is_new = depth == top;

		if (depth + 1 == DEPTH)
			ex_fail("the run does not end in %u steps", DEPTH - 1);
		if (is_new && !open_node(n, last))
			break;
		top += is_new;
		do_step(n);
		result_of->steps++;
		if (depth == top) {
			fall_asleep(n + 1, n, &events[depth - 1].step);
			n[1].preemptions = n->preemptions + (last != NOBODY && last != n->current &&
							     (n->enabled >> last & 1u));
		}
		last = n->current;
	}
	if (nodes[depth].enabled)
		return END_CUT;
	all_must_be_done();
	is_concurrent = false;
	if (scenario->finish)
		scenario->finish();
	return END_WHOLE;
}

static enum end run(void)
{
	switch (_setjmp(to_failed)) {
	case 0:
		return run_steps();
	case 1:
		return END_FAIL;
	default:
		return END_CUT;
	}
}

/* The next schedule; false when all have been searched. */
static bool next_schedule(void)
{
	for (; top > 0; top--) {
		struct node *n = &nodes[top - 1];

		if (++n->option < n->options)
			return true;
		n->done |= (uint8_t)(1u << n->current);
		if (choose(n, 0))
			return true;
	}
	return false;
}

static void print_site(const struct vmbus__site *site)
{
	printf("%-10s:%-4u %-22s %-14s", ex_site_file(site), site->line, site->func, site->name);
}

static void print_trace(void)
{
	uint32_t i;

	printf("    the run, in the order of its steps (older: not the latest store):\n");
	for (i = 0; i < depth; i++) {
		const struct event *ev = &events[i];

		printf("    %4u  thread %u  ", i, ev->thread);
		if (ev->step.kind == STEP_ATOMIC) {
			print_site(ev->step.site);
			if (!ev->step.fence)
				printf(" %s = 0x%llx", mem_word_name(ev->step.where),
				       (unsigned long long)ev->effect.value);
		} else {
			static const char *const names[] = { "", "sees news of", "rings",
							     "wakes by" };

			printf("%s ", names[ev->step.kind]);
			if (is_bell(&ev->step))
				printf("bell %u", ev->step.where);
			else
				printf("%s = 0x%llx", mem_word_name(ev->step.where),
				       (unsigned long long)ev->effect.value);
		}
		printf("%s%s\n", ev->effect.older ? " (older)" : "",
		       ev->step.site && ex_mutant.site &&
				       ev->step.site->number == ex_mutant.site->number
			       ? "  <- mutant"
			       : "");
	}
}

void ex_search(const struct ex_scenario *s, const struct ex_mutant *mutant, uint64_t max_runs,
	       bool reduce, bool trace, struct ex_result *result)
{
	const struct ex_mutant none = { NULL, false, false, false };
	enum end end;

	find_sites();
	scenario = s;
	result_of = result;
	is_reduced = reduce;
	ex_mutant = mutant ? *mutant : none;
	memset(result, 0, sizeof(*result));
	top = 0;
	do {
		end = run();
		result->runs += end == END_WHOLE;
		result->cut += end == END_CUT;
		if (result->longest < depth)
			result->longest = depth;
		if (max_runs && result->runs + result->cut >= max_runs && end != END_FAIL) {
			result->capped = next_schedule();
			break;
		}
	} while (end != END_FAIL && next_schedule());
	if (end == END_FAIL && trace)
		print_trace();
	is_concurrent = false;
	running = NOBODY;
}
