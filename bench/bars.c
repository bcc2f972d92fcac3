/* SPDX-License-Identifier: MIT */
/* The drawing of bars, as SVG in the colours of the reader's light or dark scheme. */
#include "bars.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS_MAX 192u
#define ROW_H 15.0
#define HEAD_H 20.0
#define GROUP_GAP 16.0
#define TOP 44.0
#define BARS_X 190.0
#define BARS_W 320.0
#define WIDTH 620.0

/* A bar, or the head of a group: then there is no unit, and value.max is the mark. */
struct row {
	char text[72];
	struct spread value;
	int digits;
	bool head, unsteady;
};

struct bars {
	char title[96];
	struct row row[ROWS_MAX];
	uint32_t count;
};

struct bars *bars_new(const char *title)
{
	struct bars *const bars = must_alloc(sizeof(*bars));

	memset(bars, 0, sizeof(*bars));
	snprintf(bars->title, sizeof(bars->title), "%s", title);
	return bars;
}

/* A new row; past the last one the last is written over, which no sub-command reaches. */
static struct row *row_new(struct bars *bars)
{
	struct row *const row = &bars->row[bars->count < ROWS_MAX ? bars->count++ : ROWS_MAX - 1u];

	memset(row, 0, sizeof(*row));
	return row;
}

void bars_group(struct bars *bars, double mark, const char *fmt, ...)
{
	struct row *const row = row_new(bars);
	va_list ap;

	row->head = true;
	row->value.max = mark;
	va_start(ap, fmt);
	(void)vsnprintf(row->text, sizeof(row->text), fmt, ap);
	va_end(ap);
}

void bars_add(struct bars *bars, const char *name, const struct spread *value, double unit,
	      int digits)
{
	struct row *const row = row_new(bars);

	snprintf(row->text, sizeof(row->text), "%s", name);
	row->value = (struct spread){ value->median / unit, value->min / unit, value->max / unit,
				      value->runs };
	row->digits = digits;
}

void bars_unsteady(struct bars *bars, bool unsteady)
{
	if (bars->count)
		bars->row[bars->count - 1u].unsteady = unsteady;
}

/* The largest value of the group whose head is at; what it is scaled to. */
static double most_of(const struct bars *bars, uint32_t at)
{
	double most = bars->row[at].value.max;

	for (uint32_t i = at + 1u; i < bars->count && !bars->row[i].head; i++)
		most = bars->row[i].value.max > most ? bars->row[i].value.max : most;
	return most > 0 ? most : 1;
}

static uint32_t rows_of(const struct bars *bars, uint32_t at)
{
	uint32_t n = 0;

	while (at + 1u + n < bars->count && !bars->row[at + 1u + n].head)
		n++;
	return n;
}

static void draw_bar(FILE *f, const struct row *row, double most, double y)
{
	const double width = row->value.median > 0 ? row->value.median / most * BARS_W : 0;
	const double low = row->value.min > 0 ? row->value.min / most * BARS_W : 0;
	const double high = row->value.max > 0 ? row->value.max / most * BARS_W : 0;
	const char *const cls = strncmp(row->text, "limit.", 6) == 0  ? "c"
				: strncmp(row->text, "vmbus", 5) == 0 ? "a"
								      : "b";

	fprintf(f,
		"<text class='n' x='10' y='%.1f'>%s</text><rect class='%s%s' x='%.1f' y='%.1f' "
		"width='%.1f' height='%.1f'/>",
		y + 11, row->text, cls, row->unsteady ? " u" : "", BARS_X, y + 1, width, ROW_H - 4);
	fprintf(f, "<line class='w' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>", BARS_X + low,
		BARS_X + high, y + ROW_H / 2 - 1, y + ROW_H / 2 - 1);
	fprintf(f, "<text class='n' x='%.1f' y='%.1f'>%.*f</text>\n",
		BARS_X + (width > high ? width : high) + 6, y + 11, row->digits, row->value.median);
}

static void draw_group(FILE *f, const struct bars *bars, uint32_t at, double y)
{
	const double most = most_of(bars, at), mark = bars->row[at].value.max;
	const uint32_t rows = rows_of(bars, at);

	fprintf(f, "<text class='h' x='10' y='%.1f'>%s</text>\n", y + 12, bars->row[at].text);
	y += HEAD_H;
	for (uint32_t i = 0; i < rows; i++)
		draw_bar(f, &bars->row[at + 1u + i], most, y + i * ROW_H);
	if (mark > 0)
		fprintf(f, "<line class='m' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>\n",
			BARS_X + mark / most * BARS_W, BARS_X + mark / most * BARS_W, y,
			y + rows * ROW_H);
}

static void draw_head(FILE *f, const struct bars *bars, double height)
{
	fprintf(f,
		"<?xml version='1.0' encoding='UTF-8'?>\n<!-- SPDX-License-Identifier: MIT -->\n"
		"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' "
		"height='%.0f' font-family='sans-serif' font-size='12'>\n",
		WIDTH, height, WIDTH, height);
	fputs("<style>text{fill:#202124}.n{font-size:10.5px}.h{font-weight:bold}.k{fill:#5f6368;"
	      "font-size:10px}.z{fill:#ffffff}.a{fill:#0b57d0}.b{fill:#e37400}.c{fill:#9aa0a6}"
	      ".u{fill-opacity:0.35}.w{stroke:#202124;stroke-width:1}.m{stroke:#c5221f;"
	      "stroke-dasharray:3 3}@media (prefers-color-scheme:dark){text{fill:#e8eaed}"
	      ".k{fill:#9aa0a6}.z{fill:#1f2023}.a{fill:#8ab4f8}.b{fill:#fdd663}.c{fill:#80868b}"
	      ".w{stroke:#e8eaed}.m{stroke:#f28b82}}</style>\n",
	      f);
	fprintf(f,
		"<rect class='z' width='%.0f' height='%.0f'/>\n<text x='10' y='18'>%s</text>\n"
		"<text class='k' x='10' y='33'>median of rounds, lines from the smallest to the "
		"largest; pale bars are unsteady, a dashed line is a goal</text>\n",
		WIDTH, height, bars->title);
}

int bars_write(struct bars *bars, const char *path)
{
	FILE *const f = !strcmp(path, "-") ? stdout : fopen(path, "we");
	double y = TOP;
	int bad, err;

	for (uint32_t i = 0; i < bars->count; i++)
		y += bars->row[i].head ? HEAD_H + GROUP_GAP : ROW_H;
	if (!f) {
		free(bars);
		return -1;
	}
	draw_head(f, bars, y);
	y = TOP;
	for (uint32_t i = 0; i < bars->count; i++) {
		if (!bars->row[i].head)
			continue;
		draw_group(f, bars, i, y);
		y += HEAD_H + GROUP_GAP + rows_of(bars, i) * ROW_H;
	}
	fputs("</svg>\n", f);
	free(bars);
	bad = ferror(f);
	if (f == stdout)
		return fflush(f) || bad ? -1 : 0;
	err = fclose(f);
	return err || bad ? -1 : 0;
}
