/* SPDX-License-Identifier: MIT */
/* The cells that a call measures, in order. */
#ifndef BENCH_GRID_H
#define BENCH_GRID_H

#include "options.h"

struct grid_cell {
	struct cell cell;
	bool with_peers;
	bool with_copy; /* limit.copy takes part */
};

struct grid {
	struct grid_cell *list;
	uint32_t count;
};

void grid_make(struct grid *grid, const struct options *opts);
void grid_free(struct grid *grid);

#endif
