/* SPDX-License-Identifier: MIT */
/* Rounds of alternating runs, and which of their pairs count. */
#include "rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct progress progress;

static void progress_tell(bool last)
{
	uint64_t now = now_ns();
	double gone = (double)(now - progress.from_ns) / 1e9, left = 0;
	unsigned percent = 100;
	int tty = isatty(STDERR_FILENO);

	/* A terminal's line is written over, a log gets one now and then. */
	if (!last && now - progress.told_ns < (tty ? 200000000u : 5000000000u))
		return;
	progress.told_ns = now;
	if (progress.done < progress.planned) {
		percent = (unsigned)(100.0 * progress.done / progress.planned);
		left = gone / (progress.done ? progress.done : 1) *
		       (progress.planned - progress.done);
	}
	if (last)
		fprintf(stderr, "%smeasured in %.0f s%s\n", tty ? "\r" : "", gone,
			tty ? "                " : "");
	else
		fprintf(stderr, "%s%3u %%, about %.0f s left  %s", tty ? "\r" : "", percent, left,
			tty ? "" : "\n");
	fflush(stderr);
}

void progress_step(void)
{
	progress.done++;
	if (progress.done > progress.planned)
		progress.planned = progress.done;
	progress_tell(false);
}

void progress_end(void)
{
	progress_tell(true);
}

uint32_t progress_shorten(uint32_t us, uint32_t least)
{
	uint64_t now = now_ns();
	double gone = (double)(now - progress.from_ns), each, may;

	if (!progress.end_ns || !progress.done || progress.done >= progress.planned)
		return us;
	each = gone / progress.done;
	may = now < progress.end_ns ? (double)(progress.end_ns - now) : 0;
	may /= progress.planned - progress.done;
	if (may >= each)
		return us;
	us = (uint32_t)(us * may / each);
	return us > least ? us : least;
}

static bool steady(const struct sample *a, const struct sample *b)
{
	double rtt[4] = { a->rtt_before, a->rtt_after, b->rtt_before, b->rtt_after };
	double low = rtt[0], high = rtt[0];

	if (!a->valid || !b->valid || a->on_cpu < STEADY_ON_CPU || b->on_cpu < STEADY_ON_CPU)
		return false;
	for (int i = 1; i < 4; i++) {
		low = rtt[i] < low ? rtt[i] : low;
		high = rtt[i] > high ? rtt[i] : high;
	}
	return low > 0 && high <= low * STEADY_RATIO;
}

static bool pair_counts(const struct rounds *r, uint32_t i, uint32_t round)
{
	return steady(&r->c[i].samples[round], &r->c[r->c[i].pair_with].samples[round]);
}

static uint32_t pairs_counted(const struct rounds *r, uint32_t i)
{
	uint32_t n = 0;

	for (uint32_t round = 0; round < r->done; round++)
		n += pair_counts(r, i, round);
	return n;
}

static void round_once(struct rounds *r, const bool *wanted)
{
	for (uint32_t i = 0; i < r->count; i++) {
		struct contestant *c = &r->c[i];

		if (!wanted[i])
			continue;
		if (r->done >= r->wanted) /* repeats come on top of the plan */
			progress.planned++;
		c->run(c, &c->samples[r->done]);
		progress_step();
	}
	r->done++;
}

static bool want_again(const struct rounds *r, bool *wanted)
{
	bool any = false;

	memset(wanted, 0, CONTESTANTS_MAX * sizeof(wanted[0]));
	for (uint32_t i = 0; i < r->count; i++) {
		if (pairs_counted(r, i) >= r->wanted)
			continue;
		any = true;
		wanted[i] = true;
		wanted[r->c[i].pair_with] = true;
	}
	return any;
}

void rounds_run(struct rounds *r)
{
	bool wanted[CONTESTANTS_MAX];

	for (uint32_t i = 0; i < r->count; i++) {
		r->c[i].samples = must_alloc(ROUNDS_MAX * sizeof(struct sample));
		memset(r->c[i].samples, 0, ROUNDS_MAX * sizeof(struct sample));
	}
	memset(wanted, 1, sizeof(wanted));
	while (r->done < r->wanted) {
		if (r->done && progress.end_ns && now_ns() > progress.end_ns) {
			progress.gave_up = true; /* one round of each cell, whatever it takes */
			break;
		}
		round_once(r, wanted);
	}
	while (r->repeated < ROUNDS_REPEAT_MAX && want_again(r, wanted)) {
		if (progress.until_ns && now_ns() > progress.until_ns) {
			progress.gave_up = true;
			break;
		}
		round_once(r, wanted);
		r->repeated++;
	}
}

bool rounds_unsteady(const struct rounds *r, uint32_t i)
{
	return pairs_counted(r, i) < r->wanted;
}

/* Of the pairs that count; when there is none, of all runs that ended well. */
struct spread rounds_value(const struct rounds *r, uint32_t i, uint32_t v, double scale)
{
	double values[ROUNDS_MAX];
	bool any = pairs_counted(r, i) > 0;
	uint32_t n = 0;

	for (uint32_t round = 0; round < r->done; round++) {
		const struct sample *s = &r->c[i].samples[round];

		if (any ? pair_counts(r, i, round) : s->valid)
			values[n++] = s->value[v] * scale;
	}
	return spread_of(values, n);
}

double rounds_line_rtt(const struct rounds *r, uint32_t i)
{
	double values[2u * ROUNDS_MAX];
	uint32_t n = 0;

	for (uint32_t round = 0; round < r->done; round++) {
		const struct sample *s = &r->c[i].samples[round];

		if (!s->valid)
			continue;
		values[n++] = s->rtt_before;
		values[n++] = s->rtt_after;
	}
	return spread_of(values, n).median;
}

struct spread rounds_ratio(const struct rounds *r, uint32_t i, uint32_t v)
{
	double values[ROUNDS_MAX];
	bool any = pairs_counted(r, i) > 0;
	const struct contestant *a = &r->c[r->c[i].pair_with], *b = &r->c[i];
	uint32_t n = 0;

	for (uint32_t round = 0; round < r->done; round++) {
		const struct sample *ours = &a->samples[round], *other = &b->samples[round];

		if (any ? !pair_counts(r, i, round) : !(ours->valid && other->valid))
			continue;
		if (other->value[v] > 0)
			values[n++] = ours->value[v] / other->value[v];
	}
	return spread_of(values, n);
}

void rounds_free(struct rounds *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		free(r->c[i].samples);
}
