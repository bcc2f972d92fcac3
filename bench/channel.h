/* SPDX-License-Identifier: MIT */
/* The sub-command channel: what is measured, and what came out. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include "results.h"

#define CHANNEL_PAYLOAD 64u
#define CHANNEL_SMALL_RING 4096u /* data bytes of each ring, with thousands of channels */

struct channel_run {
	struct options opts;
	struct results results;
	uint32_t counts[8];
	uint32_t count;
};

int channel_main(int argc, char **argv);

/* Table and judgement. */
void channel_report(struct channel_run *run, FILE *to);
int channel_svg(const struct channel_run *run, const char *path);

#endif
