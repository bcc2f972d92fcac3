/* SPDX-License-Identifier: MIT */
/*
 * Options from the kernel's command line: words, and KEY=NUMBER, where windows and payloads take a
 * list with commas.  An unknown word is an error, since a test that does not do what it says is
 * worse than none.
 */
#include "payload.h"

#define WORD_MAX 64u

static bool same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

/* What follows "KEY=" in word; NULL: another key. */
static const char *value_of(const char *word, const char *key)
{
	for (; *key && *word == *key; word++, key++)
		;
	return !*key && *word == '=' ? word + 1 : NULL;
}

/* A number, up to a comma or the end; *at moves behind it. */
static bool number(const char **at, uint64_t most, uint64_t *value)
{
	const char *p = *at;

	*value = 0;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		const uint64_t digit = (uint64_t)(*p - '0');

		if (digit > most || *value > (most - digit) / 10)
			return false;
		*value = *value * 10 + digit;
	}
	*at = p;
	return *p == '\0' || *p == ',';
}

static bool one(const char *text, uint64_t most, uint64_t *value)
{
	return text && number(&text, most, value) && *text == '\0';
}

static bool one32(const char *text, uint32_t most, uint32_t *value)
{
	uint64_t v;

	if (!one(text, most, &v))
		return false;
	*value = (uint32_t)v;
	return true;
}

/* An address: four numbers, with dots. */
static bool address(const char *text, uint32_t *value)
{
	uint32_t i, n, digits;

	if (!text)
		return false;
	*value = 0;
	for (i = 0; i < 4; i++) {
		for (n = 0, digits = 0; *text >= '0' && *text <= '9' && digits < 3; digits++)
			n = n * 10 + (uint32_t)(*text++ - '0');
		if (digits == 0 || n > 255 || *text != (i < 3 ? '.' : '\0'))
			return false;
		text += i < 3;
		*value = *value << 8 | n;
	}
	return true;
}

static bool list(const char *text, uint32_t values[LIST_MAX], uint32_t *count)
{
	uint64_t v;

	if (!text)
		return false;
	for (*count = 0; *count < LIST_MAX; text++) {
		if (!number(&text, UINT32_MAX, &v))
			return false;
		values[(*count)++] = (uint32_t)v;
		if (*text == '\0')
			return true;
	}
	return false;
}

static bool flag(struct options *opts, const char *word)
{
	const struct {
		const char *name;
		bool *value;
	} flags[] = {
		{ "echo", &opts->echo }, { "flood", &opts->flood },
		{ "poll", &opts->poll }, { "completions", &opts->completions },
		{ "keep", &opts->keep }, { "wait", &opts->wait },
		{ "disk", &opts->disk }, { "ping", &opts->ping },
	};
	uint32_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (same(word, flags[i].name)) {
			*flags[i].value = true;
			return true;
		}
	}
	return false;
}

static bool take(struct options *opts, const char *word)
{
	return flag(opts, word) || one(value_of(word, "packets"), 1ull << 40, &opts->packets) ||
	       list(value_of(word, "window"), opts->windows, &opts->windows_n) ||
	       list(value_of(word, "payload"), opts->payloads, &opts->payloads_n) ||
	       one32(value_of(word, "channels"), CHANNELS_MAX, &opts->channels) ||
	       one32(value_of(word, "active"), CHANNELS_MAX, &opts->active) ||
	       one32(value_of(word, "ring"), 8192, &opts->ring_kib) ||
	       one32(value_of(word, "seconds"), 86400, &opts->seconds) ||
	       one32(value_of(word, "spin"), 1000000, &opts->spin_us) ||
	       one32(value_of(word, "repeat"), 1000, &opts->repeat) ||
	       address(value_of(word, "ip"), &opts->ip) ||
	       address(value_of(word, "peer"), &opts->peer) ||
	       one(value_of(word, "seed"), UINT64_MAX, &opts->seed);
}

static void defaults(struct options *opts)
{
	uint32_t i;

	if (!opts->echo && !opts->flood && !opts->disk && !opts->ping)
		opts->echo = true;
	if (!opts->windows_n) {
		opts->windows[0] = 64;
		opts->windows_n = 1;
	}
	if (!opts->payloads_n) {
		opts->payloads[0] = 64;
		opts->payloads_n = 1;
	}
	if (!opts->channels)
		opts->channels = 1;
	if (!opts->active || opts->active > opts->channels)
		opts->active = opts->channels;
	if (!opts->packets)
		opts->packets = 1000;
	if (!opts->repeat)
		opts->repeat = 1;
	for (i = 0; i < opts->payloads_n && opts->ping; i++)
		if (opts->payloads[i] > 1472)
			fail_number("ping: payload is at most 1472, not", opts->payloads[i]);
	if (opts->ping && !opts->ip)
		fail("ping needs ip=ADDRESS", NULL);
	if (!opts->seed)
		opts->seed = 1;
}

void options_parse(struct options *opts, const char *line)
{
	char word[WORD_MAX];
	uint32_t n;

	*opts = (struct options){ 0 };
	while (*line) {
		for (; *line == ' ' || *line == '\n'; line++)
			;
		for (n = 0; *line && *line != ' ' && *line != '\n'; line++)
			if (n < WORD_MAX - 1)
				word[n++] = *line;
		word[n] = '\0';
		if (n && !take(opts, word))
			fail("unknown option", word);
	}
	defaults(opts);
}
