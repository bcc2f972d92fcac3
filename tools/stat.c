/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl stat: rates and ring fill of all channels, busiest first, from two snapshots each time; on
 * a terminal in place, else as lines.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "snap.h"

#define BAR 8
#define STATE 10	    /* places of a state; wider only while a longer one is shown */
#define BUSY_NS 1000000000u /* a device that has answered nothing for so long is shown as busy */
#define ROWS_DEFAULT 24u

/* A channel's rates in a second; in is from the child. */
struct row {
	const struct snap_bus *bus;
	const struct snap_chan *chan;
	double in, out, in_bytes, out_bytes, signals, raised, kept;
};

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return now >= before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static void fill_row(struct row *row, const struct snap *before, const struct snap_bus *bus,
		     const struct snap_chan *chan)
{
	const struct snap_chan *const old = snap_same_chan(before, bus, chan);
	const struct vmbus_chan_info *const n = &chan->d.info;
	const struct vmbus_chan_info *o;
	double seconds;

	memset(row, 0, sizeof(*row));
	row->bus = bus;
	row->chan = chan;
	if (!old || old->d.now >= chan->d.now)
		return;
	o = &old->d.info;
	seconds = (double)(chan->d.now - old->d.now) / 1e9;
	row->in = rate(n->recv.packets, o->recv.packets, seconds);
	row->out = rate(n->send.packets, o->send.packets, seconds);
	row->in_bytes = rate(n->recv.bytes, o->recv.bytes, seconds);
	row->out_bytes = rate(n->send.bytes, o->send.bytes, seconds);
	row->signals = rate(chan->d.signals, old->d.signals, seconds);
	row->raised = rate(chan->d.raised, old->d.raised, seconds);
	row->kept = rate(n->send.signals_suppressed + n->recv.signals_suppressed,
			 o->send.signals_suppressed + o->recv.signals_suppressed, seconds);
}

static int busier(const void *a, const void *b)
{
	const struct row *const x = a, *const y = b;
	const double dx = x->in + x->out, dy = y->in + y->out;

	if (dx != dy)
		return dx > dy ? -1 : 1;
	if (x->bus != y->bus)
		return x->bus < y->bus ? -1 : 1;
	return x->chan < y->chan ? -1 : x->chan > y->chan;
}

/* Rows of all channels of the newer snapshot; NULL when there are none, or no memory. */
static struct row *make_rows(const struct snap *before, const struct snap *now)
{
	struct row *const rows = now->chans ? calloc(now->chans, sizeof(*rows)) : NULL;
	uint32_t b, c, n = 0;

	for (b = 0; rows && b < now->buses; b++)
		for (c = 0; c < now->bus[b].count; c++)
			fill_row(&rows[n++], before, &now->bus[b],
				 &now->chan[now->bus[b].first + c]);
	if (rows)
		qsort(rows, now->chans, sizeof(*rows), busier);
	return rows;
}

static unsigned int percent(const struct vmbus_ring_words *words)
{
	return words->size ? (unsigned int)((uint64_t)words->used * 100 / words->size) : 0;
}

static void bar(char to[BAR + 3], const struct vmbus_ring_words *words)
{
	const unsigned int full = (percent(words) * BAR + 99) / 100;

	memset(to, 0, BAR + 3);
	if (!words->size) {
		to[0] = '-';
		return;
	}
	to[0] = '[';
	memset(to + 1, '.', BAR);
	memset(to + 1, '#', full < BAR ? full : BAR);
	to[BAR + 1] = ']';
}

/* A number in at most five places. */
static void short_number(char to[8], double v)
{
	static const char units[] = " kMGT";
	unsigned int u = 0;

	while (v >= 9999.5 && u < 4) {
		v /= 1000;
		u++;
	}
	(void)snprintf(to, 8, "%.0f%c", v, units[u]);
	if (!u)
		to[strlen(to) - 1] = 0;
}

/* What the channel waits for, or how it is, in a word. */
static const char *word_of(const struct vmbus_chan_diag *d)
{
	if (d->waits & VMBUS_WAIT_DEVICE_OPEN)
		return "opening";
	if (d->waits & VMBUS_WAIT_DEVICE_CLOSE)
		return "closing";
	if (d->waits & VMBUS_WAIT_PINS)
		return "pinned";
	if (d->waits & VMBUS_WAIT_RELEASE)
		return "rescinded";
	if (d->waits & VMBUS_WAIT_ROOM)
		return "no room";
	if (d->waits & VMBUS_WAIT_PAUSED)
		return "paused";
	if (d->under_way && d->now > d->under_way_since + BUSY_NS)
		return "busy";
	return vmbus_srv_state_name(d->state);
}

/* Another process serves the rings, and the parent does not know how much passes through them. */
static bool unknown(const struct row *row)
{
	return row->chan->d.foreign;
}

/* Most states are short; the column is as wide as the longest of a table, so that it fits. */
static int state_width(const struct row *rows, uint32_t n)
{
	size_t width = STATE, len;
	uint32_t i;

	for (i = 0; rows && i < n; i++) {
		len = strlen(word_of(&rows[i].chan->d));
		width = len > width ? len : width;
	}
	return (int)width;
}

static void print_row(const struct row *row, int state)
{
	const struct vmbus_chan_diag *const d = &row->chan->d;
	const double values[7] = { row->in,	 row->out,    row->in_bytes, row->out_bytes,
				   row->signals, row->raised, row->kept };
	char n[7][8], in[BAR + 3], out[BAR + 3];
	uint32_t i;

	for (i = 0; i < 7; i++)
		if (unknown(row))
			(void)snprintf(n[i], sizeof(n[i]), "-");
		else
			short_number(n[i], values[i]);
	bar(in, &d->from_child);
	bar(out, &d->to_child);
	printf("%-16.16s %5u %3u %-10.10s %-*s %6s %6s %6s %6s %6s %6s %6s %-10s %-10s\n",
	       row->bus->name, d->info.relid, d->info.sub_index, row->chan->vsp, state, word_of(d),
	       n[0], n[1], n[2], n[3], n[4], n[5], n[6], in, out);
}

static void table(const struct snap *now, const struct row *rows, uint32_t most)
{
	const uint32_t n = now->chans < most ? now->chans : most;
	const int state = state_width(rows, n);
	uint32_t i;

	printf("%-16s %5s %3s %-10s %-*s %6s %6s %6s %6s %6s %6s %6s %-10s %-10s\n", "child",
	       "relid", "sub", "owner", state, "state", "pk/s<", "pk/s>", "B/s<", "B/s>", "sig/s<",
	       "sig/s>", "kept/s", "ring<", "ring>");
	for (i = 0; rows && i < n; i++)
		print_row(&rows[i], state);
	if (i < now->chans)
		printf("and %u more\n", now->chans - i);
}

static void json_ring(const char *name, const struct vmbus_ring_words *w)
{
	printf(", \"%s\": {\"size\": %u, \"used\": %u, \"write_index\": %u, \"read_index\": %u, "
	       "\"mask\": %u, \"pending_send\": %u}",
	       name, w->size, w->used, w->write_index, w->read_index, w->mask, w->pending_send);
}

static void json_counts(const struct row *row)
{
	const struct vmbus_chan_diag *const d = &row->chan->d;
	static const char *const names[] = { "packets_in_s",   "packets_out_s", "bytes_in_s",
					     "bytes_out_s",    "signals_in_s",	"signals_out_s",
					     "signals_kept_s", "packets_in",	"packets_out",
					     "signals_in",     "signals_out" };
	uint32_t i;

	if (unknown(row)) {
		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			printf(", \"%s\": null", names[i]);
		return;
	}
	printf(", \"packets_in_s\": %.1f, "
	       "\"packets_out_s\": %.1f, \"bytes_in_s\": %.1f, \"bytes_out_s\": %.1f, "
	       "\"signals_in_s\": %.1f, \"signals_out_s\": %.1f, \"signals_kept_s\": %.1f, "
	       "\"packets_in\": %llu, \"packets_out\": %llu, \"signals_in\": %llu, "
	       "\"signals_out\": %llu",
	       row->in, row->out, row->in_bytes, row->out_bytes, row->signals, row->raised,
	       row->kept, (unsigned long long)d->info.recv.packets,
	       (unsigned long long)d->info.send.packets, (unsigned long long)d->signals,
	       (unsigned long long)d->raised);
}

static void json_row(const struct row *row)
{
	const struct vmbus_chan_diag *const d = &row->chan->d;

	printf("{\"child\": ");
	ctl_json_string(row->bus->name);
	printf(", \"pid\": %d, \"relid\": %u, \"sub_index\": %u, \"owner\": ", row->bus->pid,
	       d->info.relid, d->info.sub_index);
	ctl_json_string(row->chan->vsp);
	printf(", \"state\": \"%s\", \"waits\": %u, \"since_ns\": %llu",
	       vmbus_srv_state_name(d->state), d->waits,
	       (unsigned long long)(d->now > d->since ? d->now - d->since : 0));
	json_counts(row);
	json_ring("from_child", &d->from_child);
	json_ring("to_child", &d->to_child);
	putchar('}');
}

/* One line for each time. */
static void json(const struct ctl_ask *ask, const struct snap *now, const struct row *rows)
{
	uint32_t i;

	printf("{\"schema\": \"vmbusctl-stat/1\", \"socket\": ");
	ctl_json_string(ask->path);
	printf(", \"channels\": [");
	for (i = 0; rows && i < now->chans; i++) {
		if (i)
			printf(", ");
		json_row(&rows[i]);
	}
	printf("]}\n");
}

static uint32_t terminal_rows(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row < 4)
		return ROWS_DEFAULT;
	return size.ws_row - 3u;
}

int ctl_stat(const struct ctl_ask *ask)
{
	const bool top = !ask->json && isatty(STDOUT_FILENO) && ask->count != 1;
	struct snap before = { 0 }, now = { 0 };
	uint32_t n;
	int err = snap_take(&before, ask);

	for (n = 0; !err && (ask->count == 0 || n < ask->count); n++) {
		struct row *rows;

		snap_sleep(ask->interval_ns);
		err = snap_take(&now, ask);
		if (err)
			break;
		rows = make_rows(&before, &now);
		if (top)
			printf("\033[H\033[J");
		if (ask->json)
			json(ask, &now, rows);
		else
			table(&now, rows, top ? terminal_rows() : UINT32_MAX);
		free(rows);
		snap_free(&before);
		before = now;
		memset(&now, 0, sizeof(now));
		if (fflush(stdout))
			break; /* whoever read it is gone */
	}
	snap_free(&before);
	snap_free(&now);
	return err ? ctl_failed(ask->path, err) : CTL_OK;
}
