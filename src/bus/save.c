/* SPDX-License-Identifier: MIT */
/*
 * The state of a bus as bytes: its machine, what the child has posted and nobody looked at, the
 * message that waits for its slot, and of each open channel where our ends of its rings are and
 * what the device says.  What the bus can find out again is not written: the rings' mappings, who
 * is armed, what was signalled; whoever restores looks at everything once.
 *
 * Answers that were given are taken first, so that no open or close is half done but for those that
 * a device has not finished, and these are asked for again.
 */
#include "bus/save.h"

#include <vmbus/srv_save.h>

#include <stdlib.h>
#include <string.h>

#define ROUNDS 64u	     /* of answers that lead to answers */
#define DRAIN_NS 1000000000u /* without packets, after each attempt to save */

static int take_answers(struct vmbus_bus *bus)
{
	uint32_t round;

	for (round = 0; round < ROUNDS; round++) {
		if (!vmbus__slots_any(&bus->answers))
			return 0;
		(void)vmbus__answers(bus, UINT32_MAX);
	}
	return VMBUS_E_AGAIN;
}

static bool is_open(const struct vmbus_chan *chan)
{
	struct vmbus_srv_action action;

	return vmbus_srv_open_info(chan->bus->srv, chan->ref, &action) == 1;
}

/*
 * A device that has requests under way is given no more for a while: else one that always has some could
 * never be saved.
 */
void vmbus__chan_drain(struct vmbus_chan *chan, bool on)
{
	if (on && !chan->drain_until)
		vmbus__log(chan->bus, VMBUS_LOG_INFO,
			   "channel %u (%s): cannot be saved yet: no packets until it can",
			   chan->relid, chan->vsp->name);
	if (on)
		vmbus__chan_at_time(chan, &chan->drain_until, DRAIN_NS);
	else
		vmbus__chan_no_time(chan, &chan->drain_until);
	vmbus__st32_relaxed(&chan->drain, on); /* BITS.add */
	vmbus__chan_command(chan, VMBUS__CMD_DRAIN);
}

/* Another attempt follows, or none. */
static void drain_on(struct vmbus_bus *bus, bool on)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->drain_until)
			vmbus__chan_drain(chan, on);
	}
}

/* What the device says, in memory of ours; *bytes of it. */
static int ask_device(struct vmbus_chan *chan, uint8_t **data, size_t *bytes)
{
	const struct vmbus_vsp *vsp = chan->vsp;
	const uint32_t most = vsp->save_bytes_max ? vsp->save_bytes_max : VMBUS__SAVE_DEVICE_BYTES;
	int n;

	*data = NULL;
	*bytes = 0;
	if (!vsp->save)
		return 0;
	if (most > VMBUS__SAVE_DEVICE_BYTES_MAX)
		return VMBUS_E_NOTSUP;
	*data = malloc(most);
	if (!*data)
		return VMBUS_E_NOMEM;
	n = vsp->save(chan, *data, most);
	if (n >= 0 && (uint32_t)n <= most) {
		*bytes = (size_t)n;
		return 0;
	}
	free(*data);
	*data = NULL;
	if (n == VMBUS_E_AGAIN)
		vmbus__chan_drain(chan, true);
	else
		vmbus__log(chan->bus, VMBUS_LOG_ERROR, "channel %u (%s): cannot be saved: %s",
			   chan->relid, vsp->name, n < 0 ? vmbus_err_name(n) : "too many bytes");
	return n == VMBUS_E_AGAIN || n == VMBUS_E_NOMEM ? n : VMBUS_E_NOTSUP;
}

/* Only whether it has anything under way; what it would go on with is not kept. */
static int ask_whether(struct vmbus_chan *chan)
{
	uint8_t *data;
	size_t bytes;
	const int err = ask_device(chan, &data, &bytes);

	if (!err)
		free(data);
	return err && err != VMBUS_E_NOMEM ? VMBUS_E_AGAIN : err;
}

/* Whether something of a channel is in use that no saved state can tell of. */
static int check_chan(struct vmbus_chan *chan)
{
	const bool closing = chan->local == VMBUS__CLOSING;
	const uint64_t pins = vmbus_region_pins(&chan->sgls);

	if (chan->local == VMBUS__CLOSED)
		return 0;
	if (chan->foreign || chan->let_go || (chan->journal && chan->live)) {
		vmbus__log(chan->bus, VMBUS_LOG_ERROR, "channel %u (%s): cannot be saved: %s",
			   chan->relid, chan->vsp->name,
			   chan->foreign  ? "another process has its rings, as a provider does"
			   : chan->let_go ? "it was let go of"
					  : "it is open, and has a journal");
		return VMBUS_E_NOTSUP;
	}
	/* A device that has said AGAIN may still write to the child's pages. */
	if (closing && (vmbus__ld32_relaxed(&chan->closing) || pins)) { /* CLOSE.done */
		vmbus__chan_drain(chan, true);				/* it may be opened again */
		return VMBUS_E_AGAIN;
	}
	if (chan->stage == VMBUS__WAITS && pins)
		return VMBUS_E_AGAIN;
	/* Its device is open still, and is saved as one that is closed. */
	if (!is_open(chan) && chan->live && chan->stage == VMBUS__SERVED)
		return ask_whether(chan);
	if (is_open(chan) && !(chan->live && chan->stage == VMBUS__SERVED) && !chan->from)
		return VMBUS_E_AGAIN;
	return 0;
}

/* The bus cannot be saved now; those that are open end what they have under way at the same time. */
static void ask_others(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->live && chan->stage == VMBUS__SERVED && !chan->from &&
		    is_open(chan))
			(void)ask_whether(chan);
	}
}

static int check_chans(struct vmbus_bus *bus)
{
	int err = 0, one;
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max && (!err || err == VMBUS_E_AGAIN); slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		one = chan ? check_chan(chan) : 0;
		err = one ? one : err;
	}
	if (err == VMBUS_E_AGAIN)
		ask_others(bus);
	return err;
}

static void put_bus(struct vmbus__out *out, struct vmbus_bus *bus)
{
	const uint64_t counters[VMBUS__SAVE_BUS_COUNTERS] = {
		vmbus__ld64_relaxed(&bus->signals),	    /* COUNT.read */
		vmbus__ld64_relaxed(&bus->signals_unknown), /* COUNT.read */
		vmbus__ld64_relaxed(&bus->posts),	    /* COUNT.read */
		vmbus__ld64_relaxed(&bus->posts_refused),   /* COUNT.read */
		vmbus__ld64_relaxed(&bus->raised),	    /* COUNT.read */
		bus->faults,
	};
	const bool reset = vmbus__ld64_relaxed(&bus->events) & VMBUS__EV_RESET; /* BITS.take */
	const size_t begun = vmbus__out_section(out, VMBUS__SAVE_BUS, VMBUS__SAVE_VERSION, 0);
	uint32_t i;

	vmbus__out(out, 4,
		   (bus->sending ? VMBUS__SAVE_SENDING : 0) | (reset ? VMBUS__SAVE_RESET : 0));
	for (i = 0; i < VMBUS__SAVE_BUS_COUNTERS; i++)
		vmbus__out(out, 8, counters[i]);
	vmbus__out(out, 4, bus->sending ? bus->out.target_vp : 0);
	vmbus__out(out, 4, bus->sending ? bus->out.target_sint : 0);
	vmbus__out(out, 4, bus->sending ? bus->out.ctl_type : 0);
	vmbus__out(out, 4, bus->sending ? bus->out.len : 0);
	if (bus->sending)
		vmbus__out_bytes(out, bus->out.bytes, bus->out.len);
	vmbus__out_section_end(out, begun);
}

static int put_machine(struct vmbus__out *out, const struct vmbus_bus *bus)
{
	const size_t begun = vmbus__out_section(out, VMBUS__SAVE_MACHINE, VMBUS__SAVE_VERSION, 0);
	const bool fits = out->at < out->room;
	size_t bytes = 0;
	const int err = vmbus_srv_save(bus->srv, fits ? out->buf + out->at : NULL,
				       fits ? out->room - out->at : 0, &bytes);

	if (err && err != VMBUS_E_RANGE)
		return err;
	if (err)
		out->room = 0;
	out->at += bytes;
	vmbus__out_section_end(out, begun);
	return 0;
}

static void put_message(void *ctx, const struct vmbus__message *message)
{
	struct vmbus__out *out = ctx;

	vmbus__out(out, 4, message->conn_id);
	vmbus__out(out, 4, message->bytes);
	vmbus__out_bytes(out, message->payload, message->bytes);
}

static void put_inbox(struct vmbus__out *out, struct vmbus_bus *bus)
{
	const size_t begun = vmbus__out_section(out, VMBUS__SAVE_INBOX, VMBUS__SAVE_VERSION, 0);
	const size_t at = out->at;

	vmbus__out(out, 4, 0);
	vmbus__out_again(out, at, 4, vmbus__inbox_each(bus, put_message, out));
	vmbus__out_section_end(out, begun);
}

static void put_text(struct vmbus__out *out, const char *text)
{
	const size_t len = strlen(text);

	vmbus__out(out, 4, len);
	vmbus__out_bytes(out, text, len);
}

static uint32_t open_bits(const struct vmbus_chan *chan, bool failed)
{
	return VMBUS__SAVE_OPEN | (failed ? VMBUS__SAVE_FAILED : 0) |
	       (chan->subs_late ? VMBUS__SAVE_SUBS : 0);
}

static void put_subs_late(struct vmbus__out *out, const struct vmbus_chan *chan)
{
	if (chan->subs_late)
		vmbus__out(out, 4, chan->subs_late);
}

/* An open channel that goes on from a state and has not yet: the same again. */
static void put_kept(struct vmbus__out *out, const struct vmbus_chan *chan)
{
	const struct vmbus__restore *from = chan->from;

	vmbus__out(out, 4, open_bits(chan, from->failed));
	vmbus__out(out, 4, from->need);
	vmbus__out(out, 4, from->tx_index);
	vmbus__out(out, 4, from->rx_index);
	vmbus__out(out, 4, from->rx_next);
	put_text(out, from->why);
	vmbus__out(out, 4, from->bytes);
	vmbus__out_bytes(out, from->data, from->bytes);
}

static int put_open(struct vmbus__out *out, struct vmbus_chan *chan)
{
	uint8_t *data;
	size_t bytes;
	int err;

	if (chan->from) {
		put_kept(out, chan);
		put_subs_late(out, chan);
		return 0;
	}
	err = ask_device(chan, &data, &bytes);
	if (err)
		return err;
	/* Afterwards, for the device may have sent something. */
	vmbus__out(out, 4, open_bits(chan, chan->failed));
	vmbus__out(out, 4, chan->need);
	vmbus__out(out, 4, chan->tx.committed_p);
	vmbus__out(out, 4, chan->rx.committed_p);
	vmbus__out(out, 4, chan->rx.next_p);
	put_text(out, chan->failed ? chan->why : "");
	vmbus__out(out, 4, bytes);
	vmbus__out_bytes(out, data, bytes);
	put_subs_late(out, chan);
	free(data);
	return 0;
}

static int put_chan(struct vmbus__out *out, struct vmbus_chan *chan)
{
	const size_t begun = vmbus__out_section(out, VMBUS__SAVE_CHAN, VMBUS__SAVE_VERSION, 0);
	int err = 0;

	vmbus__out(out, 4, chan->ref.slot);
	vmbus__out(out, 4, chan->ref.gen);
	vmbus__out(out, 8, chan->opens);
	vmbus__out(out, 8, vmbus__ld64_relaxed(&chan->bad_completions)); /* COUNT.read */
	if (is_open(chan))
		err = put_open(out, chan);
	else
		vmbus__out(out, 4, 0);
	vmbus__out_section_end(out, begun);
	return err;
}

static int put_chans(struct vmbus__out *out, struct vmbus_bus *bus)
{
	struct vmbus_srv_info info;
	uint32_t slot;
	int err = 0, one;

	/* All are asked, so that all end what they have under way at the same time. */
	for (slot = 0; slot < bus->chans_max && (!err || err == VMBUS_E_AGAIN); slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		/* The machine may have forgotten a channel that is not removed yet. */
		if (chan && vmbus_srv_info(bus->srv, slot, &info) == 1 &&
		    info.chan.gen == chan->ref.gen) {
			one = put_chan(out, chan);
			err = one ? one : err;
		}
	}
	return err;
}

static int save(struct vmbus_bus *bus, struct vmbus__out *out)
{
	int err = take_answers(bus);

	if (!err)
		err = check_chans(bus);
	if (err)
		return err;
	vmbus__out_head(out, VMBUS__STATE_BUS);
	put_bus(out, bus);
	err = put_machine(out, bus);
	if (err)
		return err;
	put_inbox(out, bus);
	err = put_chans(out, bus);
	vmbus__out_end(out);
	return err;
}

int vmbus_bus_save(struct vmbus_bus *bus, void *buf, size_t room, size_t *need)
{
	struct vmbus__out out = { .buf = buf, .room = buf ? room : 0 };
	int err;

	if (!need || (!buf && room))
		return VMBUS_E_INVAL;
	if (bus->ending || vmbus_bus_in_callback(bus))
		return VMBUS_E_STATE;
	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	err = save(bus, &out);
	drain_on(bus, err == VMBUS_E_AGAIN || (!err && out.at > out.room));
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
	if (err)
		return err;
	*need = out.at;
	return out.at <= out.room ? 0 : VMBUS_E_RANGE;
}
