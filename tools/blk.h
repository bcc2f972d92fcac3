/* SPDX-License-Identifier: MIT */
/* vmbus-blk: what its files share. */
#ifndef BLK_H
#define BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmbus/bus.h>

#define BLK_SECOND ((uint64_t)1000000000u)

/* Exit status; vmbus-blk(1) lists them. */
enum blk_end {
	BLK_OK = 0,
	BLK_FAILED = 1, /* data, requests, or something here went wrong */
	BLK_USAGE = 2,
	BLK_GONE = 3 /* the parent ended, or another provider took over */
};

extern bool blk_quiet;

void blk_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int blk_failed(const char *format, ...) __attribute__((format(printf, 1, 2))); /* BLK_FAILED */
int blk_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* BLK_USAGE */
void blk_log(void *ctx, enum vmbus_log_level level, const char *line);
uint64_t blk_now_ns(void);
/* SIGTERM and SIGINT set it from then on. */
void blk_catch_signals(void);
bool blk_stopped(void);

/* Each is given what follows its name. */
int blk_serve(int argc, char **argv);
int blk_parent(int argc, char **argv);
int blk_load(int argc, char **argv);

#endif
