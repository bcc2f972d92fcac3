/* SPDX-License-Identifier: MIT */
/* The sub-command ring. */
#ifndef BENCH_RING_H
#define BENCH_RING_H

int ring_main(int argc, char **argv);

#endif
