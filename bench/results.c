/* SPDX-License-Identifier: MIT */
/* The list of results. */
#include "results.h"

#include <stdarg.h>
#include <stdlib.h>

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread spread_of(double *values, uint32_t n)
{
	struct spread s = { 0, 0, 0, n };

	if (!n)
		return s;
	qsort(values, n, sizeof(values[0]), cmp_double);
	s.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
	s.min = values[0];
	s.max = values[n - 1];
	return s;
}

static void *grow(void *list, uint32_t count, uint32_t *room, size_t each)
{
	if (count < *room)
		return list;
	*room = *room ? *room * 2u : 64u;
	list = realloc(list, *room * each);
	if (!list)
		die(BENCH_EXIT_MACHINE, "out of memory");
	return list;
}

struct result *results_add(struct results *res, const struct result *r)
{
	res->list = grow(res->list, res->count, &res->room, sizeof(res->list[0]));
	res->list[res->count] = *r;
	return &res->list[res->count++];
}

void results_leave_out(struct results *res, const char *subject, const char *why,
		       const struct cell *cell)
{
	res->left = grow(res->left, res->left_count, &res->left_room, sizeof(res->left[0]));
	res->left[res->left_count++] = (struct left_out){ subject, why, *cell };
}

bool goal_met(const struct goal *goal)
{
	return goal->at_most ? goal->got <= goal->bound : goal->got >= goal->bound;
}

bool results_goal(struct results *res, const struct goal *goal, const char *fmt, ...)
{
	struct goal *g;
	va_list ap;

	res->goals = grow(res->goals, res->goal_count, &res->goal_room, sizeof(res->goals[0]));
	g = &res->goals[res->goal_count++];
	*g = *goal;
	va_start(ap, fmt);
	(void)vsnprintf(g->what, sizeof(g->what), fmt, ap);
	va_end(ap);
	return goal_met(g);
}

void results_free(struct results *res)
{
	free(res->list);
	free(res->left);
	free(res->goals);
}

bool cell_equal(const struct cell *a, const struct cell *b)
{
	return a->payload == b->payload && a->batch == b->batch && a->ring_bytes == b->ring_bytes &&
	       a->producers == b->producers && a->window == b->window && a->threads == b->threads &&
	       a->in_place == b->in_place;
}

const struct result *results_find(const struct results *res, const char *subject,
				  const char *metric, const struct cell *cell)
{
	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (!strcmp(r->subject, subject) && !strcmp(r->metric, metric) &&
		    cell_equal(&r->cell, cell))
			return r;
	}
	return NULL;
}
