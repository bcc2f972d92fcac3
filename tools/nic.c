/* SPDX-License-Identifier: MIT */
/* Network ports as the command line tells of them.  Shared by vmbus-vmm and vmbus-switch; prints nothing. */
#define _GNU_SOURCE
#include "nic.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 1024u
#define MTU_MIN 1500u
#define INTERFACE_MAX 15u /* characters of its name */

static int wrong(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int wrong(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, NIC_WHY_BYTES, format, args);
	va_end(args);
	return -1;
}

/* A decimal number with its limits; what follows it goes to *end, or there may be nothing. */
static int number(const char *text, uint32_t min, uint32_t max, uint32_t *value, const char **end)
{
	unsigned long n;
	char *stop;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	n = strtoul(text, &stop, 10);
	if (errno || n < min || n > max || (!end && *stop))
		return -1;
	*value = (uint32_t)n;
	if (end)
		*end = stop;
	return 0;
}

int nic_mac(const char *text, uint8_t mac[6])
{
	uint32_t i;

	for (i = 0; i < 6; i++) {
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
		    text[2] != (i < 5 ? ':' : '\0'))
			return -1;
		mac[i] = (uint8_t)strtoul((const char[]){ text[0], text[1], 0 }, NULL, 16);
		text += 3;
	}
	return 0;
}

const char *nic_mac_text(const uint8_t mac[6], char text[18])
{
	(void)snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		       mac[4], mac[5]);
	return text;
}

/* The first word: where frames go. */
static int source(struct nic_spec *spec, const char *word, char *why)
{
	const struct {
		const char *word;
		enum nic_kind kind;
		size_t most;
	} sources[] = { { "tap=", NIC_TAP, INTERFACE_MAX },
			{ "packet=", NIC_PACKET, INTERFACE_MAX },
			{ "switch=", NIC_SWITCH, NIC_SOURCE_MAX - 1 } };
	const char *value;
	size_t i;

	if (strcmp(word, "null") == 0 || strcmp(word, "user") == 0) {
		spec->kind = *word == 'u' ? NIC_USER : NIC_NULL;
		return 0;
	}
	for (i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		if (strncmp(word, sources[i].word, strlen(sources[i].word)) != 0)
			continue;
		value = word + strlen(sources[i].word);
		if (!*value || strlen(value) > sources[i].most)
			return wrong(why, "%s: 1 to %zu characters follow", word, sources[i].most);
		spec->kind = sources[i].kind;
		strcpy(spec->source, value);
		return 0;
	}
	return wrong(why,
		     "%s: a network begins with tap=NAME, user, switch=SOCKET, packet=INTERFACE or "
		     "null",
		     word);
}

/* Words without a value. */
static bool *flag(struct nic_spec *spec, const char *word)
{
	const struct {
		const char *word;
		bool *flag;
	} flags[] = { { "link=down", &spec->link_down },
		      { "no-offload", &spec->no_offload },
		      { "no-pack", &spec->no_pack },
		      { "no-rsc", &spec->no_rsc },
		      { "restrict", &spec->restricted } };
	size_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (strcmp(word, flags[i].word) == 0)
			return flags[i].flag;
	return NULL;
}

struct place {
	char *to;
	size_t bytes;
};

/* What follows the first skip characters of a word. */
static int copy_of(const char *word, size_t skip, struct place to, char *why)
{
	const size_t n = strlen(word + skip);

	if (n == 0 || n >= to.bytes)
		return wrong(why, "%s: 1 to %zu characters follow", word, to.bytes - 1);
	memcpy(to.to, word + skip, n + 1);
	return 0;
}

#define PLACE(array) ((struct place){ array, sizeof(array) })

static int text_word(struct nic_spec *spec, const char *word, char *why)
{
	if (strncmp(word, "mac=", 4) == 0) {
		if (nic_mac(word + 4, spec->mac) || (spec->mac[0] & 1))
			return wrong(why,
				     "%s: it is six bytes as in 02:00:00:00:00:01, of which the "
				     "first is even",
				     word);
	} else if (strncmp(word, "id=", 3) == 0) {
		if (vmbus_guid_parse(word + 3, &spec->id))
			return wrong(why, "%s: it is a GUID, 8-4-4-4-12 hexadecimal digits", word);
	} else if (strncmp(word, "capture=", 8) == 0) {
		return copy_of(word, 8, PLACE(spec->capture), why);
	} else if (strncmp(word, "name=", 5) == 0) {
		return copy_of(word, 5, PLACE(spec->name), why);
	} else if (strncmp(word, "network=", 8) == 0) {
		return copy_of(word, 8, PLACE(spec->network), why);
	} else if (strncmp(word, "hostfwd=", 8) == 0) {
		if (spec->forwards == NIC_FORWARDS_MAX)
			return wrong(why, "%s: %u of them are the most", word, NIC_FORWARDS_MAX);
		spec->forwards++;
		return copy_of(word, 8, PLACE(spec->forward[spec->forwards - 1]), why);
	} else {
		return wrong(why,
			     "%s: no such word; there are mac=, queues=, mtu=, link=up|down, "
			     "name=, capture=, snap=, hostfwd=, network=, restrict, spin=, id=, "
			     "no-offload, no-pack and no-rsc",
			     word);
	}
	return 0;
}

static int part(struct nic_spec *spec, const char *word, char *why)
{
	const struct {
		const char *word;
		uint32_t min, max;
		uint32_t *value;
	} numbers[] = { { "queues=", 1, VMBUS_NET_SUBCHANNELS_MAX + 1, &spec->queues },
			{ "mtu=", MTU_MIN, VMBUS_NET_MTU_MAX, &spec->mtu },
			{ "snap=", 64, VMBUS_FRAME_BYTES_MAX, &spec->snap },
			{ "spin=", 0, NIC_SPIN_US_MAX, &spec->spin_us } };
	bool *const on = flag(spec, word);
	size_t i, n;

	if (on) {
		*on = true;
		return 0;
	}
	if (strcmp(word, "link=up") == 0) {
		spec->link_down = false;
		return 0;
	}
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		n = strlen(numbers[i].word);
		if (strncmp(word, numbers[i].word, n) != 0)
			continue;
		if (number(word + n, numbers[i].min, numbers[i].max, numbers[i].value, NULL))
			return wrong(why, "%s: it is %" PRIu32 " to %" PRIu32, word, numbers[i].min,
				     numbers[i].max);
		return 0;
	}
	return text_word(spec, word, why);
}

static int fits(const struct nic_spec *spec, char *why)
{
	if (spec->kind != NIC_USER && (spec->forwards || spec->restricted || spec->network[0]))
		return wrong(why, "hostfwd=, network= and restrict are for user");
	if (spec->snap && !spec->capture[0])
		return wrong(why, "snap= is for capture=");
	return 0;
}

/* The characters of a word that are its name: hostfwd= may come again. */
static size_t name_of(const char *word)
{
	const size_t n = strcspn(word, "=");

	return strncmp(word, "hostfwd=", 8) == 0 ? 0 : n + (word[n] == '=');
}

/* One word more, which none of those before it is.  first is where they begin. */
static int once(const char *first, const char *word, char *why)
{
	const size_t n = name_of(word);
	const char *at;

	if (!*word)
		return wrong(why, "%s: a comma with nothing behind it", first);
	for (at = first; n && at < word; at += strlen(at) + 1)
		if (name_of(at) == n && strncmp(at, word, n) == 0)
			return wrong(why, "%s: %.*s is there already", word, (int)n, word);
	return 0;
}

int nic_alone(const struct nic_spec *spec, uint32_t before, char *why)
{
	const struct nic_spec *const last = &spec[before];
	uint32_t i;

	for (i = 0; i < before; i++)
		if (last->capture[0] && strcmp(spec[i].capture, last->capture) == 0)
			return wrong(why, "capture=%s: another port writes to that file",
				     last->capture);
	return 0;
}

int nic_parse(struct nic_spec *spec, const char *text, char *why)
{
	char copy[TEXT_BYTES], *rest = copy, *word;

	memset(spec, 0, sizeof(*spec));
	spec->queues = 1;
	if (strlen(text) >= sizeof(copy))
		return wrong(why, "%.40s... is too long", text);
	strcpy(copy, text);
	if (source(spec, strsep(&rest, ","), why))
		return -1;
	while ((word = strsep(&rest, ",")))
		if (once(copy, word, why) || part(spec, word, why))
			return -1;
	return fits(spec, why);
}
