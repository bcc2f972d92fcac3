/* SPDX-License-Identifier: MIT */
/* The sub-command channel. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

int channel_main(int argc, char **argv);
void channel_usage(void);

#endif
