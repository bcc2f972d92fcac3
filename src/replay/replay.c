/* SPDX-License-Identifier: MIT */
/*
 * The records of a channel one after the other: batches from the child go into the ring as they
 * were delivered; what the device sends waits in a list, in order, until the record of it comes.
 * What is said follows from the file and the device alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/replay.h"

#define LINES_MAX 100u
#define SENT_MAX 65536u /* packets of the device that no record has claimed */
#define BATCH_MAX 64u	/* packets of one batch; the bus delivers no more */

/* A packet that the device has sent now. */
struct sent {
	struct sent *next;
	uint64_t id;
	uint64_t number; /* of all that it sent */
	uint32_t ext_len, len;
	uint16_t type, flags;
	uint8_t data[];
};

/* A packet of the batch that is being read. */
struct fed {
	struct vmbus_msg msg;
	uint8_t *data;
};

struct replay {
	const struct vmbus_replay_opts *opts;
	struct vmbus_replay_result *result;
	struct vmbus__replay_part *part;
	struct sent *first, **last;
	uint32_t waiting; /* in that list */
	uint64_t claimed; /* the highest number that a record has claimed */
	struct fed batch[BATCH_MAX];
	uint32_t in_batch;
	uint64_t batch_number;
	uint64_t record; /* of the channel, from 1 */
	bool seen_open;
	bool already; /* the channel was open before the capture */
	bool refused; /* the device refused the last opening */
	bool over;    /* it cannot go on */
};

static void say(struct replay *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct replay *r, const char *format, ...)
{
	char line[400];
	va_list args;
	int n;

	if (!r->opts->line)
		return;
	n = snprintf(line, sizeof(line), "record %llu: ", (unsigned long long)r->record);
	va_start(args, format);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	r->opts->line(r->opts->line_ctx, line);
}

/* A difference: counted, and told while there are few. */
#define differ(r, ...)                                                                             \
	do {                                                                                       \
		const uint32_t most_ = (r)->opts->lines_max ? (r)->opts->lines_max : LINES_MAX;    \
		if ((r)->result->differences++ < most_)                                            \
			say((r), __VA_ARGS__);                                                     \
	} while (0)

static void stop(struct replay *r, const char *why)
{
	if (!r->over)
		say(r, "the replay ends here: %s", why);
	r->over = true;
}

static int keep(struct replay *r, const struct vmbus_packet *pkt)
{
	struct sent *one;

	if (r->waiting == SENT_MAX) {
		stop(r, "the device sends what was not captured, and does not cease");
		return 0;
	}
	one = malloc(sizeof(*one) + pkt->ext_len + pkt->len);
	if (!one)
		return VMBUS_E_NOMEM;
	*one = (struct sent){ .id = pkt->id,
			      .number = ++r->result->sent,
			      .ext_len = pkt->ext_len,
			      .len = pkt->len,
			      .type = pkt->type,
			      .flags = pkt->flags };
	memcpy(one->data, pkt->ext, pkt->ext_len);
	memcpy(one->data + pkt->ext_len, pkt->payload, pkt->len);
	*r->last = one;
	r->last = &one->next;
	r->waiting++;
	return 0;
}

/* Run the bus and take what the device sends, until both are quiet. */
static int settle(struct replay *r, bool wait)
{
	struct vmbus_packet pkt[BATCH_MAX];
	uint32_t quiet = 0;
	int err = 0, got, i;

	if (wait && r->opts->settle)
		r->opts->settle(r->opts->ctx, r->part->bus);
	while (!err && !r->over && quiet < 2) {
		err = vmbus__part_run(r->part);
		got = err || !r->part->open ? 0 : vmbus_ring_rx_get(&r->part->rx, pkt, BATCH_MAX);
		if (got < 0)
			err = got;
		for (i = 0; i < got && !err; i++)
			err = keep(r, &pkt[i]);
		/* A look that finds nothing makes room, for which the device may have waited. */
		quiet = got ? 0 : quiet + 1;
	}
	return err;
}

/* As vmbus_ring_tx_put(); what it refuses ends the replay, and counts as done. */
static int put_some(struct replay *r, const struct vmbus_msg *msg, uint32_t n)
{
	const int got = vmbus_ring_tx_put(&r->part->tx, msg, n);

	if (got != VMBUS_E_RANGE && got != VMBUS_E_INVAL)
		return got;
	stop(r, "a packet from the child that the ring of this opening does not take");
	return (int)n;
}

/* The ring is full only if the device does not read, since a batch fitted in once. */
static int put(struct replay *r, const struct vmbus_msg *msg, uint32_t n)
{
	uint32_t done = 0;
	int got, err;

	while (done < n && !r->over) {
		got = put_some(r, msg + done, n - done);
		if (got < 0 && got != VMBUS_E_FULL)
			return got;
		if (got > 0) {
			done += (uint32_t)got;
			continue;
		}
		err = settle(r, true);
		if (err)
			return err;
		got = put_some(r, msg + done, n - done);
		if (got == VMBUS_E_FULL) {
			differ(r, "the device does not read: no room for %u packets", n - done);
			stop(r, "the ring from the child is full");
			return 0;
		}
		if (got < 0)
			return got;
		done += (uint32_t)got;
	}
	return 0;
}

static void free_batch(struct replay *r)
{
	uint32_t i;

	for (i = 0; i < r->in_batch; i++)
		free(r->batch[i].data);
	r->in_batch = 0;
}

/* Deliver the batch that was read. */
static int flush(struct replay *r)
{
	struct vmbus_msg msg[BATCH_MAX];
	uint32_t i;
	int err = 0;

	if (r->in_batch == 0 || r->over)
		return 0;
	for (i = 0; i < r->in_batch; i++)
		msg[i] = r->batch[i].msg;
	if (r->part->rescinded || !r->part->open) {
		differ(r, "the channel is broken, the captured one was not");
		stop(r, "nothing can be delivered any more");
	} else {
		err = put(r, msg, r->in_batch);
		r->result->fed += r->in_batch;
		r->result->batches++;
	}
	free_batch(r);
	return err ? err : settle(r, true);
}

static int feed(struct replay *r, const struct vmbus_capture_record *record)
{
	struct fed *fed;

	if (record->data_len < record->ext_len + record->len) {
		stop(r, "a packet from the child was cut: capture with a larger snap length");
		return 0;
	}
	if (r->in_batch && (record->batch != r->batch_number || r->in_batch == BATCH_MAX)) {
		const int err = flush(r);

		if (err)
			return err;
	}
	fed = &r->batch[r->in_batch];
	fed->data = malloc(record->data_len + 1u);
	if (!fed->data)
		return VMBUS_E_NOMEM;
	if (record->data_len)
		memcpy(fed->data, record->data, record->data_len);
	fed->msg = (struct vmbus_msg){ .id = record->id,
				       .data = fed->data + record->ext_len,
				       .len = record->len,
				       .type = record->type,
				       .flags = record->flags,
				       .ext = fed->data,
				       .ext_len = record->ext_len };
	r->in_batch++;
	r->batch_number = record->batch;
	return 0;
}

static const char *name_of(uint32_t type)
{
	return vmbus_wire_type_name(type);
}

/* The first byte in which the two differ, of those that were kept. */
static void compare(struct replay *r, const struct vmbus_capture_record *record,
		    const struct sent *one)
{
	const uint32_t all = one->ext_len + one->len;
	const uint32_t n = record->data_len < all ? record->data_len : all;
	uint32_t i;

	if (one->flags != record->flags || one->ext_len != record->ext_len ||
	    one->len != record->len) {
		differ(r,
		       "%s, id %llu: flags %u, header of %u, payload of %u bytes; captured: %u, "
		       "%u, %u",
		       name_of(record->type), (unsigned long long)record->id, one->flags,
		       one->ext_len, one->len, record->flags, record->ext_len, record->len);
		return;
	}
	for (i = 0; i < n; i++)
		if (one->data[i] != record->data[i])
			break;
	if (i < n)
		differ(r, "%s, id %llu: byte %u of the %s is 0x%02x, captured: 0x%02x",
		       name_of(record->type), (unsigned long long)record->id,
		       i < record->ext_len ? i : i - record->ext_len,
		       i < record->ext_len ? "header" : "payload", one->data[i], record->data[i]);
}

/* The first packet like this that nobody has claimed. */
static struct sent **find(struct replay *r, const struct vmbus_capture_record *record)
{
	struct sent **at;

	for (at = &r->first; *at; at = &(*at)->next)
		if ((*at)->type == record->type && (*at)->id == record->id)
			return at;
	return NULL;
}

static void claim(struct replay *r, const struct vmbus_capture_record *record, struct sent **at)
{
	struct sent *const one = *at;

	if (one->number < r->claimed)
		differ(r, "%s, id %llu: is sent before packets that were captured before it",
		       name_of(record->type), (unsigned long long)record->id);
	else
		r->claimed = one->number;
	compare(r, record, one);
	*at = one->next;
	if (!*at && r->last == &one->next)
		r->last = at;
	r->waiting--;
	free(one);
}

static int expect(struct replay *r, const struct vmbus_capture_record *record)
{
	struct sent **at;
	int err = flush(r);

	r->result->expected++;
	if (err || r->over)
		return err;
	at = find(r, record);
	if (!at) {
		err = settle(r, true);
		at = find(r, record);
	}
	if (at)
		claim(r, record, at);
	else if (r->already && record->batch == 0)
		return err; /* an answer to what came before the capture */
	else
		differ(r, "%s, id %llu, %u bytes: was captured, is not sent", name_of(record->type),
		       (unsigned long long)record->id, record->len);
	return err;
}

/* What the device has sent beyond the capture. */
static void claim_rest(struct replay *r)
{
	while (r->first) {
		struct sent *const one = r->first;

		if (r->result->differences < UINT32_MAX && !r->over)
			differ(r, "%s, id %llu, %u bytes: is sent, was not captured",
			       name_of(one->type), (unsigned long long)one->id, one->len);
		r->first = one->next;
		free(one);
	}
	r->last = &r->first;
	r->waiting = 0;
}

static int open_it(struct replay *r, const struct vmbus_capture_record *record)
{
	struct vmbus_capture_open open;
	int got;

	if (vmbus_capture_open_get(record, &open) || r->part->open) {
		stop(r, "an opening that cannot be");
		return 0;
	}
	r->already = (open.flags & VMBUS_CAPTURE_OPEN_ALREADY) != 0;
	if (r->already)
		say(r, "the channel was open before the capture: what came before is not known");
	got = vmbus__part_open(r->part, &open);
	if (got == VMBUS_E_RANGE) {
		stop(r, "rings of these sizes cannot be");
		return 0;
	}
	if (got == VMBUS_E_AGAIN) {
		differ(r, "the device has not answered the opening");
		stop(r, "the channel is not open");
		return 0;
	}
	if (got < 0)
		return got;
	r->seen_open = true;
	r->refused = got == 0;
	r->result->opens++;
	return settle(r, true);
}

static int close_it(struct replay *r, const struct vmbus_capture_record *record)
{
	struct vmbus_capture_close body;
	int err = flush(r);

	if (err || r->over)
		return err;
	if (vmbus_capture_close_get(record, &body) || !r->seen_open) {
		stop(r, "a closing that cannot be");
		return 0;
	}
	err = settle(r, true);
	if (err)
		return err;
	claim_rest(r);
	r->seen_open = false;
	if (body.err == VMBUS_E_PEER) {
		if (!r->part->rescinded)
			differ(r, "the channel is not broken, the captured one was: %s", body.why);
		stop(r, "the channel was broken");
		r->result->complete = true; /* nothing of the same opening can follow */
		return 0;
	}
	if ((body.err != 0) != r->refused)
		differ(r, "the device %s the opening, captured: %s",
		       r->refused ? "refuses" : "accepts",
		       body.err ? vmbus_err_name(body.err) : "accepted");
	if (r->part->rescinded) {
		differ(r, "the channel is broken, the captured one was not");
		stop(r, "the channel is broken");
		return 0;
	}
	err = r->refused ? 0 : vmbus__part_close(r->part);
	if (err != VMBUS_E_AGAIN)
		return err;
	differ(r, "the device has not finished what it does, with the channel closed");
	stop(r, "the channel is not closed");
	return 0;
}

/* A capture of another kind of device: what follows will differ, and this is why. */
static void compare_class(struct replay *r, const struct vmbus_capture_record *record)
{
	const struct vmbus_vsp *const vsp = r->opts->vsp;
	struct vmbus_capture_channel chan;
	char was[37], is[37];

	if (vmbus_capture_channel_get(record, &chan) ||
	    vmbus_guid_equal(&chan.class_id, &vsp->class_id))
		return;
	vmbus_guid_format(&chan.class_id, was);
	vmbus_guid_format(&vsp->class_id, is);
	say(r, "the capture is of a device %s, class %s; it is replayed to %s, class %s", chan.vsp,
	    was, vsp->name, is);
}

static int take(struct replay *r, const struct vmbus_capture_record *record)
{
	if (record->dropped) {
		stop(r, "records are missing before it: capture with more memory");
		return 0;
	}
	switch (record->kind) {
	case VMBUS_CAPTURE_CHANNEL:
		compare_class(r, record);
		return 0;
	case VMBUS_CAPTURE_OPEN:
		return open_it(r, record);
	case VMBUS_CAPTURE_CLOSE:
		return close_it(r, record);
	case VMBUS_CAPTURE_PACKET:
		if (!r->seen_open) {
			stop(r, "a packet of a channel that is not open");
			return 0;
		}
		if (r->refused) {
			differ(r, "the device refuses the opening, captured: accepted");
			stop(r, "the channel is not open");
			return 0;
		}
		return record->dir == VMBUS_CAPTURE_FROM_CHILD ? feed(r, record)
							       : expect(r, record);
	default:
		return 0;
	}
}

static int all(struct replay *r)
{
	struct vmbus_capture_record record;
	int got, err = 0;

	while (!err && !r->over &&
	       (got = vmbus_capture_reader_next(r->opts->capture, &record)) != 0) {
		if (got < 0)
			return got;
		if (record.channel != r->opts->channel)
			continue;
		r->record++;
		r->result->records++;
		err = take(r, &record);
	}
	if (!err)
		err = flush(r);
	if (err || r->over)
		return err;
	err = settle(r, true);
	if (r->waiting && r->seen_open)
		say(r, "the capture ends before the channel: the last %u packets are not compared",
		    r->waiting);
	if (!r->seen_open)
		claim_rest(r);
	r->result->complete = !r->over;
	return err;
}

int vmbus_replay(const struct vmbus_replay_opts *opts, struct vmbus_replay_result *result)
{
	struct vmbus__replay_part *part;
	struct replay *r;
	int err;

	memset(result, 0, sizeof(*result));
	if (opts->struct_bytes < sizeof(*opts) || !opts->vsp || !opts->capture)
		return VMBUS_E_INVAL;
	part = calloc(1, sizeof(*part));
	r = calloc(1, sizeof(*r));
	err = part && r ? vmbus__part_create(part, opts) : VMBUS_E_NOMEM;
	if (!err) {
		r->opts = opts;
		r->result = result;
		r->part = part;
		r->last = &r->first;
		err = all(r);
		r->over = true; /* what is left is not told again */
		claim_rest(r);
		free_batch(r);
	}
	if (part)
		vmbus__part_destroy(part);
	free(part);
	free(r);
	return err;
}
