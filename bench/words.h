/* SPDX-License-Identifier: MIT */
/* Values of options that several commands have.  A bad one ends the program with a line that names it. */
#ifndef BENCH_WORDS_H
#define BENCH_WORDS_H

#include "bench.h"

/* The number that is the whole of text. */
uint64_t word_number64(const char *name, const char *text, uint64_t min, uint64_t max);
uint32_t word_number(const char *name, const char *text, uint32_t min, uint32_t max);

/* The word that a list with commas begins with, by number; count: none of them.  The list goes on behind
   it. */
uint32_t word_of(const char **list, const char *const *word, uint32_t count);

/* That a result can be written, before minutes are spent; NULL and "-" are fine. */
void word_writable(const char *name, const char *path);

#endif
