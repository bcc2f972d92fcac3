/* SPDX-License-Identifier: MIT */
/*
 * Lines for people, made without a C library.  At most LINES_MAX in a second come through, since
 * a parent can cause many of them; the next one that does tells how many did not.
 */
#include "guest/state.h"

#define LINES_MAX 10u
#define SECOND 10000000u /* of 100 ns */
#define LINE_BYTES 160u

struct line {
	char text[LINE_BYTES];
	size_t len;
};

static void add(struct line *line, const char *text)
{
	while (*text && line->len < LINE_BYTES - 1)
		line->text[line->len++] = *text++;
	line->text[line->len] = '\0';
}

static void add_number(struct line *line, uint64_t number)
{
	char digits[21];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + number % 10u);
		number /= 10u;
	} while (number);
	add(line, &digits[at]);
}

static void begin(struct line *line, uint32_t chan)
{
	line->len = 0;
	line->text[0] = '\0';
	if (chan) {
		add(line, "channel ");
		add_number(line, chan);
		add(line, ": ");
	}
}

/* Whether one more line may go out now. */
static bool admit(struct vmbus_guest *guest)
{
	uint64_t now;

	if (!guest->opts.log)
		return false;
	now = guest->be->time(guest->be_ctx);
	if (now - guest->log_since >= SECOND) {
		guest->log_since = now;
		guest->log_lines = 0;
	}
	if (guest->log_lines == LINES_MAX) {
		guest->log_dropped++;
		return false;
	}
	guest->log_lines++;
	return true;
}

static void out(struct vmbus_guest *guest, const struct line *line)
{
	struct line left_out;

	if (guest->log_dropped) {
		begin(&left_out, 0);
		add(&left_out, "lines left out: ");
		add_number(&left_out, guest->log_dropped);
		guest->log_dropped = 0;
		guest->opts.log(guest->opts.ctx, left_out.text);
	}
	guest->opts.log(guest->opts.ctx, line->text);
}

void vmbus__guest_log(struct vmbus_guest *guest, uint32_t chan, const char *text, uint64_t number)
{
	struct line line;

	if (!admit(guest))
		return;
	begin(&line, chan);
	add(&line, text);
	if (line.len && line.text[line.len - 1] == ' ')
		add_number(&line, number);
	out(guest, &line);
}

static void add_hex(struct line *line, uint32_t number)
{
	char digits[11];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[number % 16u];
		number /= 16u;
	} while (number);
	digits[--at] = 'x';
	digits[--at] = '0';
	add(line, &digits[at]);
}

void vmbus__guest_log_status(struct vmbus_guest *guest, uint32_t chan,
			     const struct vmbus__words *words)
{
	struct line line;

	if (!admit(guest))
		return;
	begin(&line, chan);
	if (words->name) {
		add(&line, words->name);
		add(&line, " ");
	}
	add(&line, words->what);
	add(&line, ", status ");
	add_hex(&line, words->status);
	if (words->status_name && words->status_name[0] != '?') {
		add(&line, " (");
		add(&line, words->status_name);
		add(&line, ")");
	}
	out(guest, &line);
}

/* Statuses of answers are the parent's choice; these are the ones that parents are known to use. */
static const char *refusal_name(uint32_t status)
{
	switch (status) {
	case 0x80000005u:
		return "buffer overflow";
	case 0x8000FFFFu:
		return "catastrophic failure";
	case 0xC0000001u:
		return "unsuccessful";
	case 0xC000000Du:
		return "invalid parameter";
	case 0xC000009Au:
		return "insufficient resources";
	default:
		return NULL;
	}
}

void vmbus__guest_log_refusal(struct vmbus_vsc *vsc, const char *what, uint32_t status)
{
	const struct vmbus__words words = { .what = what,
					    .status = status,
					    .status_name = refusal_name(status) };

	vmbus__guest_log_status(vsc->guest, vsc->offer.relid, &words);
}

void vmbus__guest_log_fault(struct vmbus_guest *guest, uint32_t chan,
			    const struct vmbus_fault *fault)
{
	char text[128];
	struct line line;

	if (!admit(guest))
		return;
	(void)vmbus_fault_format(fault, text, sizeof(text));
	begin(&line, chan);
	add(&line, "the parent broke a ring: ");
	add(&line, text);
	out(guest, &line);
}
