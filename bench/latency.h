/* SPDX-License-Identifier: MIT */
/* Round trips of our ring: asleep in between, and the processor time of two idle sides. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include "limits.h"

/* A polled round trip of any subject that has one; percentiles in ns. */
int latency_polled(const struct subject *subject, const struct cell *cell,
		   const struct place *place, uint32_t us, struct rtt_result *res);

/*
 * Half a round trip of our ring where each side arms, sleeps in an eventfd and is woken by the
 * other side's signal, with the processor time of both for each message.
 */
int latency_sleeping(const struct cell *cell, const struct place *place, uint32_t us,
		     struct rtt_result *res);

/* Two sides of our ring that are armed and asleep, started and ended apart. */
struct idle;
struct idle *idle_start(const struct cell *cell, const struct place *place);
/* Waits until it has lasted for at least ms; the processor time that both used meanwhile. */
int idle_end(struct idle *idle, uint32_t ms, double *idle_ms, double *cpu_us);

#endif
