/* SPDX-License-Identifier: MIT */
/*
 * A drawing of groups of horizontal bars, which all sub-commands but ring share.  Each group has a
 * scale of its own, from 0 to its largest value.
 */
#ifndef BENCH_BARS_H
#define BENCH_BARS_H

#include "results.h"

struct bars;

/* An empty drawing. */
struct bars *bars_new(const char *title);

/* The bars that follow belong to a new group; mark: a line there, 0 for none. */
void bars_group(struct bars *bars, double mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * A bar of median / unit with a whisker from the smallest to the largest value; digits behind the
 * point of its figure.  Subjects named limit.* are drawn as limits, those named vmbus* as ours.
 */
void bars_add(struct bars *bars, const char *name, const struct spread *value, double unit,
	      int digits);

/* The last one is of values that are not to be judged. */
void bars_unsteady(struct bars *bars, bool unsteady);

/* Write it and free it.  Returns 0, or -1 with errno. */
int bars_write(struct bars *bars, const char *path);

#endif
