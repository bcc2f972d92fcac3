/* SPDX-License-Identifier: MIT */
/* The drawing of vmbus-bench soak: memory, descriptors and latencies of each window. */
#include "soak.h"

#include <math.h>

#define WIDTH 640.0
#define LEFT 110.0
#define HIGH 70.0
#define STEP 105.0

/* One small drawing: some lines over time. */
struct panel {
	const char *title, *unit;
	bool logarithmic;
	uint32_t lines;
	const char *name[SOAK_SERIES];
	double (*value)(const struct soak_window *w, uint32_t line);
};

static double memory(const struct soak_window *w, uint32_t line)
{
	return w->who[line].anon_kib;
}

static double descriptors(const struct soak_window *w, uint32_t line)
{
	return line == SOAK_PARENT ? w->who[line].fds : w->who[line].threads;
}

static double middle(const struct soak_window *w, uint32_t line)
{
	return w->p50[line] / 1e3;
}

static double late(const struct soak_window *w, uint32_t line)
{
	return w->p99[line] / 1e3;
}

static const char *const colours[SOAK_SERIES] = { "#0b57d0", "#d93025", "#188038", "#9334e6",
						  "#e8710a", "#12858d", "#b06000", "#80868b" };

static double scaled(const struct panel *p, double v)
{
	return p->logarithmic ? log10(v > 1 ? v : 1) : v;
}

static void draw(const struct panel *p, const struct soak_run *run, double top, FILE *f)
{
	double most = 0;

	for (uint32_t i = 0; i < run->windows; i++)
		for (uint32_t k = 0; k < p->lines; k++)
			most = fmax(most, scaled(p, p->value(&run->window[i], k)));
	if (most <= 0)
		most = 1;
	fprintf(f, "<text x=\"10\" y=\"%.0f\">%s</text>", top + 12, p->title);
	fprintf(f, "<text x=\"10\" y=\"%.0f\">to %.0f %s</text>\n", top + 28,
		p->logarithmic ? pow(10, most) : most, p->unit);
	fprintf(f, "<path class=\"frame\" d=\"M%.0f %.0fV%.0fH%.0f\"/>\n", LEFT, top, top + HIGH,
		LEFT + WIDTH);
	for (uint32_t k = 0; k < p->lines; k++) {
		fprintf(f, "<polyline stroke=\"%s\" points=\"", colours[k]);
		for (uint32_t i = 0; i < run->windows; i++)
			fprintf(f, "%.1f,%.1f ",
				LEFT + WIDTH * run->window[i].to_s / (run->minutes * 60 + 1),
				top + HIGH - HIGH * scaled(p, p->value(&run->window[i], k)) / most);
		fputs("\"/>\n", f);
		fprintf(f, "<text x=\"%.0f\" y=\"%.0f\" style=\"fill:%s\">%s</text>\n",
			LEFT + WIDTH + 8, top + 10 + 10 * k, colours[k], p->name[k]);
	}
}

int soak_svg(const struct soak_run *run, const char *path)
{
	static const struct panel panels[] = {
		{ "memory of its own", "KiB", false, 3, { "parent", "provider", "child" }, memory },
		{ "descriptors, threads", "", false, 1, { "parent" }, descriptors },
		{ "p50, logarithmic",
		  "us",
		  true,
		  SOAK_SERIES,
		  { "echo", "block", "net", "echo-provider", "block-provider", "block-steady",
		    "net-provider", "control" },
		  middle },
		{ "p99, logarithmic",
		  "us",
		  true,
		  SOAK_SERIES,
		  { "echo", "block", "net", "echo-provider", "block-provider", "block-steady",
		    "net-provider", "control" },
		  late },
	};
	const uint32_t count = sizeof(panels) / sizeof(panels[0]);
	FILE *const f = fopen(path, "we");
	int bad;

	if (!f)
		return -1;
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
		"font-family=\"sans-serif\" font-size=\"10\">\n<style>text{fill:#202124}polyline,"
		".frame{fill:none}.frame{stroke:#80868b}@media (prefers-color-scheme:dark){text"
		"{fill:#e8eaed}}</style>\n<text x=\"10\" y=\"14\">%u children, %.0f minutes, "
		"children and providers killed at random, hot-plug: means of windows</text>\n",
		LEFT + WIDTH + 100, 30 + count * STEP, run->children, run->minutes);
	for (uint32_t i = 0; i < count; i++)
		draw(&panels[i], run, 25 + i * STEP, f);
	fputs("</svg>\n", f);
	bad = ferror(f);
	return fclose(f) || bad ? -1 : 0;
}
