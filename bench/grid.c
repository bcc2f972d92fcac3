/* SPDX-License-Identifier: MIT */
/*
 * Which cells are measured.  The full grid is three grids: ring sizes and batches with all peers;
 * windows, modes and threads for our ring alone; and several producers.
 */
#include "grid.h"

#include <stdlib.h>

#define COPY_PAYLOAD_MIN 256u /* below this no ring comes near the copy limit */
#define GRID_MAX 8192u

static void grid_add(struct grid *grid, const struct cell *cell, bool peers_too, bool copy)
{
	struct grid_cell *g;
	uint32_t holds = cell->ring_bytes / 4u / cell->payload;

	if (grid->count == GRID_MAX)
		die(BENCH_EXIT_USAGE, "more than %u cells; ask for fewer values", GRID_MAX);
	g = &grid->list[grid->count++];
	g->cell = *cell;
	g->cell.batch_used = cell->batch < holds ? cell->batch : holds;
	if (!g->cell.batch_used)
		g->cell.batch_used = 1;
	g->with_peers = peers_too;
	g->with_copy = copy && cell->payload >= COPY_PAYLOAD_MIN && cell->producers == 1;
}

/* Every payload with every batch, for one kind of cell. */
static void grid_sizes(struct grid *grid, const struct options *opts, struct cell cell,
		       const struct list *batches, bool peers_too, bool copy)
{
	for (uint32_t b = 0; b < batches->count; b++) {
		for (uint32_t p = 0; p < opts->payloads.count; p++) {
			cell.batch = batches->value[b];
			cell.payload = opts->payloads.value[p];
			grid_add(grid, &cell, peers_too, copy);
		}
	}
}

static void grid_asked(struct grid *grid, const struct options *opts, struct cell cell)
{
	for (uint32_t r = 0; r < opts->rings_kib.count; r++) {
		for (uint32_t k = 0; k < opts->producers.count; k++) {
			for (int w = 0; w < BENCH_WINDOWS; w++) {
				if (!opts->windows[w])
					continue;
				cell.ring_bytes = opts->rings_kib.value[r] * 1024u;
				cell.producers = opts->producers.value[k];
				cell.window = (enum bench_window)w;
				grid_sizes(grid, opts, cell, &opts->batches, !cell.in_place, true);
			}
		}
	}
}

static void grid_full(struct grid *grid, const struct options *opts, struct cell cell)
{
	static const uint32_t rings[] = { 64, 256, 1024, 4096 };
	static const struct list many = { { 1, 4, 16, 32, 64, 256 }, 6 };
	static const struct list few = { { 1, 32 }, 2 };

	cell.producers = 1;
	cell.window = BENCH_MIRRORED;
	for (unsigned r = 0; r < sizeof(rings) / sizeof(rings[0]); r++) {
		cell.ring_bytes = rings[r] * 1024u;
		grid_sizes(grid, opts, cell, &many, true, true);
	}
	cell.ring_bytes = 1024u * 1024u;
	for (unsigned kind = 1; kind < 4u * BENCH_WINDOWS; kind++) {
		/* Kind 0 is in the grid above; the windows' order makes mirrored the first. */
		cell.window = (enum bench_window)((kind / 4u + BENCH_MIRRORED) % BENCH_WINDOWS);
		cell.in_place = kind & 1u;
		cell.threads = kind & 2u;
		grid_sizes(grid, opts, cell, &few, false, false);
	}
	cell.window = BENCH_MIRRORED;
	cell.in_place = false;
	cell.threads = false;
	cell.producers = 2;
	grid_sizes(grid, opts, cell, &few, true, false);
}

void grid_make(struct grid *grid, const struct options *opts)
{
	struct cell cell = { .threads = opts->threads,
			     .in_place = opts->in_place,
			     .node = opts->node };

	grid->list = must_alloc(GRID_MAX * sizeof(grid->list[0]));
	grid->count = 0;
	if (opts->full)
		grid_full(grid, opts, cell);
	else
		grid_asked(grid, opts, cell);
}

void grid_free(struct grid *grid)
{
	free(grid->list);
}
