/* SPDX-License-Identifier: MIT */
/* Values of options that several commands have.  See words.h. */
#include "words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t word_number64(const char *name, const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v < min || v > max)
		die(BENCH_EXIT_USAGE, "%s %s: expected a number from %llu to %llu", name, text,
		    (unsigned long long)min, (unsigned long long)max);
	return v;
}

uint32_t word_number(const char *name, const char *text, uint32_t min, uint32_t max)
{
	return (uint32_t)word_number64(name, text, min, max);
}

uint32_t word_of(const char **list, const char *const *word, uint32_t count)
{
	const size_t len = strcspn(*list, ",");
	uint32_t i = 0;

	while (i < count && (strlen(word[i]) != len || strncmp(word[i], *list, len) != 0))
		i++;
	*list += len + ((*list)[len] == ',');
	return i;
}

void word_writable(const char *name, const char *path)
{
	FILE *f;

	if (!path || !strcmp(path, "-"))
		return;
	f = fopen(path, "ae");
	if (!f)
		die(BENCH_EXIT_USAGE, "%s %s: %s", name, path, strerror(errno));
	(void)fclose(f);
}
