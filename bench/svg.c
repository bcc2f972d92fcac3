/* SPDX-License-Identifier: MIT */
/*
 * A drawing of throughput and bandwidth by payload: one panel for each batch and unit, lines for
 * the subjects, the copy limit dashed.  Both axes are logarithmic.  Colours are set in a style
 * sheet that follows the reader's light or dark scheme.
 */
#include "results.h"

#include <math.h>
#include <stdio.h>

#define PANEL_W 470.0
#define PANEL_H 330.0
#define MARGIN_L 62.0
#define MARGIN_T 46.0
#define GAP_X 76.0
#define GAP_Y 74.0
#define LEGEND_H 64.0
#define PANELS_MAX 8u
#define SUBJECTS_MAX (PEERS_MAX + 2u)

/* Light and dark of each line; ours first, the copy limit last of all. */
static const char *const palette[][2] = {
	{ "#0b57d0", "#8ab4f8" }, { "#c5221f", "#f28b82" }, { "#e37400", "#fdd663" },
	{ "#188038", "#81c995" }, { "#8430ce", "#c58af9" }, { "#00798a", "#78d9ec" },
	{ "#b06000", "#d7aefb" }, { "#7a5c3e", "#e8c39e" }, { "#5f6368", "#bdc1c6" },
};
#define PALETTE (sizeof(palette) / sizeof(palette[0]))

struct axis {
	double low, high; /* log10 */
	double at, length;
};

struct panel {
	struct cell cell; /* payload does not matter */
	bool bandwidth;
	double x, y;
	struct axis ax, ay;
};

static double axis_pos(const struct axis *a, double v)
{
	return a->at + (log10(v) - a->low) / (a->high - a->low) * a->length;
}

static unsigned subjects_of(const struct results *res, const char **names)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < res->count && n < SUBJECTS_MAX; i++) {
		const struct result *r = &res->list[i];
		bool known = strcmp(r->metric, "throughput") != 0;

		for (unsigned k = 0; k < n && !known; k++)
			known = !strcmp(names[k], r->subject);
		if (!known)
			names[n++] = r->subject;
	}
	return n;
}

static bool in_panel(const struct panel *p, const struct result *r)
{
	struct cell cell = p->cell;

	cell.payload = r->cell.payload;
	return !strcmp(r->metric, p->bandwidth ? "bandwidth" : "throughput") &&
	       cell_equal(&cell, &r->cell);
}

static void axes_fit(struct panel *p, const struct results *res)
{
	double low = INFINITY, high = 0, plow = INFINITY, phigh = 0;

	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (!in_panel(p, r))
			continue;
		low = fmin(low, r->value.min);
		high = fmax(high, r->value.max);
		plow = fmin(plow, r->cell.payload);
		phigh = fmax(phigh, r->cell.payload);
	}
	if (low <= 0)
		low = high / 1e6;
	p->ay = (struct axis){ floor(log10(low)), ceil(log10(high)), p->y + PANEL_H, -PANEL_H };
	if (p->ay.high <= p->ay.low)
		p->ay.high = p->ay.low + 1;
	if (phigh <= plow) {
		plow /= 2;
		phigh = plow * 4;
	}
	p->ax = (struct axis){ log10(plow), log10(phigh), p->x + 14, PANEL_W - 28 };
}

static void si_text(char *buf, size_t bytes, double v)
{
	static const char *const unit[] = { "", "k", "M", "G", "T" };
	unsigned i = 0;

	while (v >= 999.5 && i < 4) {
		v /= 1000;
		i++;
	}
	snprintf(buf, bytes, "%.0f%s", v, unit[i]);
}

static void draw_axes(FILE *f, const struct panel *p, const struct results *res)
{
	fprintf(f, "<rect class='frame' x='%.1f' y='%.1f' width='%.1f' height='%.1f'/>\n", p->x,
		p->y, PANEL_W, PANEL_H);
	for (double e = p->ay.low; e <= p->ay.high + 0.01; e += 1) {
		double y = axis_pos(&p->ay, pow(10, e));
		char text[16];

		si_text(text, sizeof(text), pow(10, e));
		fprintf(f, "<line class='grid' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>", p->x,
			p->x + PANEL_W, y, y);
		fprintf(f, "<text class='tick' text-anchor='end' x='%.1f' y='%.1f'>%s</text>\n",
			p->x - 6, y + 4, text);
		for (int k = 2; k < 10 && e < p->ay.high - 0.01; k++) {
			y = axis_pos(&p->ay, k * pow(10, e));
			fprintf(f,
				"<line class='minor' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>\n",
				p->x, p->x + PANEL_W, y, y);
		}
	}
	for (uint32_t i = 0, last = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];
		double x;

		if (!in_panel(p, r) || r->cell.payload == last)
			continue;
		last = r->cell.payload;
		x = axis_pos(&p->ax, last);
		fprintf(f, "<line class='grid' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>", x, x,
			p->y, p->y + PANEL_H);
		if (last >= 1024u && last % 1024u == 0)
			fprintf(f,
				"<text class='tick' text-anchor='middle' x='%.1f' y='%.1f'>%u Ki"
				"</text>\n",
				x, p->y + PANEL_H + 17, last / 1024u);
		else
			fprintf(f,
				"<text class='tick' text-anchor='middle' x='%.1f' y='%.1f'>%u"
				"</text>\n",
				x, p->y + PANEL_H + 17, last);
	}
}

static void draw_line(FILE *f, const struct panel *p, const struct results *res, const char *name,
		      unsigned colour, bool dashed)
{
	bool any = false;

	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (strcmp(r->subject, name) || !in_panel(p, r))
			continue;
		if (!any)
			fprintf(f, "<polyline class='line c%u%s' points='", colour,
				dashed	 ? " limit"
				: colour ? ""
					 : " ours");
		any = true;
		fprintf(f, "%.1f,%.1f ", axis_pos(&p->ax, r->cell.payload),
			axis_pos(&p->ay, r->value.median));
	}
	if (!any)
		return;
	fputs("'/>\n", f);
	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];
		double x = axis_pos(&p->ax, r->cell.payload);

		if (strcmp(r->subject, name) || !in_panel(p, r) || dashed)
			continue;
		fprintf(f, "<line class='line c%u' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>",
			colour, x, x, axis_pos(&p->ay, r->value.min),
			axis_pos(&p->ay, r->value.max));
		fprintf(f, "<circle class='%s%u' cx='%.1f' cy='%.1f' r='%s'/>\n",
			r->unsteady ? "c" : "f", colour, x, axis_pos(&p->ay, r->value.median),
			colour ? "2.6" : "3.6");
	}
}

static void draw_panel(FILE *f, const struct panel *p, const struct results *res,
		       const char **names, unsigned n)
{
	fprintf(f, "<text class='title' x='%.1f' y='%.1f'>%s, batch %u, %u KiB ring</text>\n", p->x,
		p->y - 10, p->bandwidth ? "Payload bytes per second" : "Packets per second",
		p->cell.batch, p->cell.ring_bytes / 1024u);
	draw_axes(f, p, res);
	for (unsigned i = n; i-- > 0;) /* ours last, on top */
		draw_line(f, p, res, names[i], i % (PALETTE - 1u), false);
	if (p->bandwidth)
		draw_line(f, p, res, "limit.copy", PALETTE - 1u, true);
	fprintf(f,
		"<text class='tick' text-anchor='middle' x='%.1f' y='%.1f'>payload, bytes"
		"</text>\n",
		p->x + PANEL_W / 2, p->y + PANEL_H + 36);
}

static void draw_legend(FILE *f, const char **names, unsigned n, double y)
{
	double x = MARGIN_L;

	for (unsigned i = 0; i <= n; i++) {
		bool limit = i == n;
		const char *name = limit ? "limit.copy" : names[i];
		unsigned colour = limit ? PALETTE - 1u : i % (PALETTE - 1u);

		fprintf(f, "<line class='line c%u%s' x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f'/>",
			colour,
			limit ? " limit"
			: i   ? ""
			      : " ours",
			x, x + 22, y, y);
		fprintf(f, "<text class='key' x='%.1f' y='%.1f'>%s</text>\n", x + 27, y + 4, name);
		x += 48 + 7.4 * (double)strlen(name);
	}
	fprintf(f,
		"<text class='tick' x='%.1f' y='%.1f'>median of rounds, bars from the smallest "
		"to the largest; hollow points are unsteady</text>\n",
		MARGIN_L, y + 24);
}

static void put_style(FILE *f)
{
	fputs("<style>\n"
	      "text{font-family:sans-serif;fill:#202124}\n"
	      ".tick{font-size:11px;fill:#5f6368}.key{font-size:12px}.title{font-size:13px;"
	      "font-weight:bold}\n"
	      ".back{fill:#ffffff}.frame{fill:none;stroke:#9aa0a6}.grid{stroke:#dadce0}"
	      ".minor{stroke:#f1f3f4}\n"
	      ".line{fill:none;stroke-width:1.5}.ours{stroke-width:2.8}"
	      ".limit{stroke-dasharray:6 4;stroke-width:2}\n",
	      f);
	for (unsigned i = 0; i < PALETTE; i++)
		fprintf(f, ".c%u{stroke:%s;fill:none}.f%u{fill:%s}\n", i, palette[i][0], i,
			palette[i][0]);
	fputs("@media (prefers-color-scheme: dark){\n"
	      "text{fill:#e8eaed}.tick{fill:#9aa0a6}.back{fill:#1f2023}.frame{stroke:#5f6368}"
	      ".grid{stroke:#3c4043}.minor{stroke:#2b2d30}\n",
	      f);
	for (unsigned i = 0; i < PALETTE; i++)
		fprintf(f, ".c%u{stroke:%s}.f%u{fill:%s}\n", i, palette[i][1], i, palette[i][1]);
	fputs("}\n</style>\n", f);
}

/* A column for each batch of the first ring, window and mode; throughput over bandwidth. */
static unsigned panels_of(const struct results *res, struct panel *panels)
{
	const struct cell *first = NULL;
	unsigned columns = 0;

	for (uint32_t i = 0; i < res->count && columns < PANELS_MAX / 2u; i++) {
		const struct result *r = &res->list[i];
		struct cell cell = r->cell;
		struct panel *p = &panels[2u * columns];
		bool known = strcmp(r->metric, "throughput") != 0;

		if (!known && !first)
			first = &r->cell;
		for (unsigned k = 0; k < columns && !known; k++)
			known = cell.batch == panels[2u * k].cell.batch;
		if (known)
			continue;
		cell.batch = first->batch;
		cell.batch_used = first->batch_used;
		cell.payload = first->payload;
		if (!cell_equal(&cell, first))
			continue;
		p[0] = (struct panel){ .cell = r->cell, .y = MARGIN_T };
		p[0].x = MARGIN_L + columns * (PANEL_W + GAP_X);
		p[1] = p[0];
		p[1].bandwidth = true;
		p[1].y += PANEL_H + GAP_Y;
		columns++;
	}
	return 2u * columns;
}

static void draw(FILE *f, const struct results *res)
{
	const char *names[SUBJECTS_MAX];
	struct panel panels[PANELS_MAX];
	unsigned n = subjects_of(res, names), count = panels_of(res, panels);
	unsigned columns = count / 2u;
	double width = MARGIN_L + columns * (PANEL_W + GAP_X) - GAP_X + 20;
	double bottom = MARGIN_T + 2 * PANEL_H + GAP_Y + 46;

	if (width < 760)
		width = 760;
	fprintf(f,
		"<?xml version='1.0' encoding='UTF-8'?>\n"
		"<!-- SPDX-License-Identifier: MIT -->\n"
		"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' "
		"height='%.0f'>\n<title>vmbus-bench ring</title>\n",
		width, bottom + LEGEND_H, width, bottom + LEGEND_H);
	put_style(f);
	fprintf(f, "<rect class='back' width='%.0f' height='%.0f'/>\n", width, bottom + LEGEND_H);
	for (unsigned i = 0; i < count; i++) {
		axes_fit(&panels[i], res);
		draw_panel(f, &panels[i], res, names, n);
	}
	draw_legend(f, names, n, bottom + 14);
	fputs("</svg>\n", f);
}

int svg_write(const struct results *res, const struct options *opts, const char *path)
{
	FILE *f = !strcmp(path, "-") ? stdout : fopen(path, "we");
	int err;

	(void)opts;
	if (!f)
		return -1;
	draw(f, res);
	err = ferror(f) ? -1 : 0;
	if (f == stdout)
		return fflush(f) ? -1 : err;
	return fclose(f) ? -1 : err;
}
