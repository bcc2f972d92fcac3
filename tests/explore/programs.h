/* SPDX-License-Identifier: MIT */
/* The programs of this folder, and their scenarios. */
#ifndef VMBUS_TESTS_EXPLORE_PROGRAMS_H
#define VMBUS_TESTS_EXPLORE_PROGRAMS_H

#include "explore.h"

struct tally {
	uint32_t passed, failed, skipped;
};

void count(struct tally *tally, bool ok, const char *name);

extern const struct ex_scenario spsc_scenarios[], mtx_scenarios[], hypercall_scenarios[],
	pin_scenarios[];
extern const uint32_t spsc_count, mtx_count, hypercall_count, pin_count;

void run_litmus(bool full, struct tally *tally);
void run_mutants(bool full, const char *excused, const char *only, struct tally *tally);

#endif
