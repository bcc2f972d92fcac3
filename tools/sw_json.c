/* SPDX-License-Identifier: MIT */
/*
 * vmbus-switch stat --json: the lines that a switch answers, as one JSON object.  A name is whatever a
 * child gave itself, so it is found by what the switch writes behind it, from the end of the line.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void put_string(FILE *to, const char *text, size_t len)
{
	size_t i;

	(void)fputc('"', to);
	for (i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			(void)fprintf(to, "\\%c", c);
		else if (c < 0x20)
			(void)fprintf(to, "\\u%04x", c);
		else
			(void)fputc(c, to);
	}
	(void)fputc('"', to);
}

static bool is_number(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len && isdigit((unsigned char)text[i]); i++)
		;
	return len > 0 && len < 21 && i == len && (len == 1 || text[0] != '0');
}

/* Words NAME=VALUE, each as a member behind others. */
static void put_words(FILE *to, const char *words)
{
	while (*words) {
		const size_t len = strcspn(words, " "), name = strcspn(words, "= ");

		if (name < len) {
			(void)fputs(", ", to);
			put_string(to, words, name);
			(void)fputs(": ", to);
			if (is_number(words + name + 1, len - name - 1))
				(void)fwrite(words + name + 1, 1, len - name - 1, to);
			else
				put_string(to, words + name + 1, len - name - 1);
		}
		words += len;
		words += strspn(words, " ");
	}
}

/* The last place in a line where the text is. */
static char *last(char *line, const char *text)
{
	char *found = NULL, *at = line;

	while ((at = strstr(at, text)) != NULL)
		found = at++;
	return found;
}

/* port NUMBER NAME nic|plug addresses=... */
static bool put_port(FILE *to, char *line)
{
	char *name = strchr(line, ' '), *nic = last(line, " nic addresses=");
	char *plug = last(line, " plug addresses=");
	char *const kind = plug > nic ? plug : nic;

	if (!name || !kind || kind < name || !is_number(line, (size_t)(name - line)))
		return false;
	(void)fprintf(to, "{\"port\": %.*s, \"name\": ", (int)(name - line), line);
	name = name < kind ? name + 1 : kind;
	put_string(to, name, (size_t)(kind - name));
	(void)fprintf(to, ", \"kind\": \"%s\"", kind == plug ? "plug" : "nic");
	put_words(to, strstr(kind, "addresses="));
	(void)fputc('}', to);
	return true;
}

/* nic NAME mac=... */
static bool put_nic(FILE *to, char *line)
{
	char *const words = last(line, " mac=");

	if (!words)
		return false;
	(void)fputs("{\"name\": ", to);
	put_string(to, line, (size_t)(words - line));
	put_words(to, words + 1);
	(void)fputc('}', to);
	return true;
}

/* address MAC port=... */
static bool put_address(FILE *to, char *line)
{
	const size_t mac = strcspn(line, " ");

	(void)fputs("{\"mac\": ", to);
	put_string(to, line, mac);
	put_words(to, line + mac + strspn(line + mac, " "));
	(void)fputc('}', to);
	return true;
}

static const struct {
	const char *begin, *list;
	bool (*put)(FILE *to, char *line);
} kinds[] = {
	{ "port ", "ports", put_port },
	{ "nic ", "nics", put_nic },
	{ "address ", "addresses", put_address },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void sw_json_begin(struct sw_json *json, FILE *to)
{
	*json = (struct sw_json){ .to = to };
	(void)fprintf(to, "{\"schema\": \"vmbus-switch-stat/1\", \"%s\": [", kinds[0].list);
}

/* Lists that have come to their end, up to that one; a list without a line is empty. */
static void move_to(struct sw_json *json, uint32_t list)
{
	while (json->list < list) {
		json->list++;
		(void)fprintf(json->to, "%s]", json->lines ? "\n  " : "");
		if (json->list < KINDS)
			(void)fprintf(json->to, ",\n \"%s\": [", kinds[json->list].list);
		json->lines = 0;
	}
}

bool sw_json_line(struct sw_json *json, char *line)
{
	uint32_t i;

	line[strcspn(line, "\n")] = '\0';
	for (i = json->list; i < KINDS; i++) {
		const size_t begin = strlen(kinds[i].begin);

		if (strncmp(line, kinds[i].begin, begin) != 0)
			continue;
		move_to(json, i);
		(void)fprintf(json->to, "%s\n  ", json->lines++ ? "," : "");
		return kinds[i].put(json->to, line + begin);
	}
	if (strncmp(line, "ok addresses=", 13) != 0 || !is_number(line + 13, strlen(line + 13)))
		return false;
	move_to(json, KINDS);
	(void)fprintf(json->to, ",\n \"addresses_known\": %s}\n", line + 13);
	return true;
}
