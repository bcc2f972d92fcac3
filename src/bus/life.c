/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing of a channel, on the thread that dispatches it.  The bus thread gives
 * commands, this side gives answers; each is a bit in a word, and what belongs to it is stored
 * before the bit and read after it.  For a channel without own_fd both sides are one thread.
 */
#include "bus/bus.h"
#include "bus/journal.h"
#include "bus/save.h"

#include <stdlib.h>
#include <string.h>

#include "base/probe.h"

#define BUF_BYTES                                                                                  \
	(16384u + 128u) /* what the reader copies at a time; grows to the largest packet */

/* Tell the bus thread.  Any thread. */
void vmbus__chan_answer(struct vmbus_chan *chan, uint64_t ans)
{
	struct vmbus_bus *bus = chan->bus;
	const uint32_t slot = chan->slot; /* it may be another channel as soon as it is answered */

	/* The bus may be destroyed as soon as it has seen the answer, and nobody visits it. */
	vmbus__add64_relaxed(&bus->visitors, 1); /* VISIT.enter */
	vmbus__or64_release(&chan->ans, ans);	 /* BITS.add */
	vmbus__slots_add(&bus->answers, slot);
	vmbus__kick(&bus->kick);
	vmbus__add64_release(&bus->visitors, UINT64_MAX); /* VISIT.leave */
}

/* Raise the child's event flag; the rings call it. */
void vmbus__chan_raise(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;

	if (chan->target_vp == VMBUS_VP_NONE)
		return;
	vmbus__add64_relaxed(&bus->raised, 1); /* COUNT.add */
	vmbus__note_raised(chan);
	(void)bus->opts.backend->raise(bus->opts.backend_ctx, chan->target_vp, chan->target_sint,
				       chan->event_flag);
}

static void raise_flag(void *ctx)
{
	vmbus__chan_raise(ctx);
}

static int init_rings(struct vmbus_chan *chan)
{
	struct vmbus_ring_opts opts = {
		.struct_bytes = sizeof(opts),
		.signal = raise_flag,
		.signal_ctx = chan,
	};
	const uint32_t most = vmbus_ring_rx_buf_bytes(chan->rings.mem[0].size_p);
	int err;

	chan->buf_bytes = most < BUF_BYTES ? most : BUF_BYTES;
	chan->buf = aligned_alloc(64, (chan->buf_bytes + 63u) / 64u * 64u);
	if (!chan->buf)
		return VMBUS_E_NOMEM;
	opts.buf = chan->buf;
	opts.buf_bytes = chan->buf_bytes;
	if (chan->journal)
		return vmbus__journal_rings(chan, &opts);
	if (chan->from) {
		opts.resume = true;
		opts.index = chan->from->rx_index;
		opts.next = chan->from->rx_next;
	}
	err = vmbus_ring_rx_init(&chan->rx, &chan->rings.mem[0], &opts);
	if (err) {
		vmbus__chan_note(chan, vmbus_ring_rx_fault(&chan->rx), "ring from the child");
		return err;
	}
	if (chan->from)
		opts.index = chan->from->tx_index;
	err = vmbus_ring_tx_init(&chan->tx, &chan->rings.mem[1], &opts);
	if (err)
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
	return err;
}

static void free_buf(struct vmbus_chan *chan)
{
	vmbus__chan_give_bytes(chan);
	free(chan->buf);
	chan->buf = NULL;
}

/* What the device says of its opening. */
static int open_device(struct vmbus_chan *chan)
{
	const bool again = chan->from && chan->vsp->restore;
	int err;

	if (!chan->vsp->open && !again)
		return 0;
	chan->stage = VMBUS__IN_OPEN;
	chan->in_callback = true;
	err = again ? chan->vsp->restore(chan, chan->from->data, chan->from->bytes)
		    : chan->vsp->open(chan, chan->ctx);
	chan->in_callback = false;
	return err == VMBUS_E_AGAIN && chan->stage == VMBUS__SAID ? chan->open_said : err;
}

/* The device ends; what it has sent and was not published is dropped. */
static void end_device(struct vmbus_chan *chan, uint64_t ans)
{
	int err = 0;

	VMBUS_PROBE3(chan_close, chan, chan->relid, chan->failed);
	vmbus__restore_free(chan);
	chan->live = false;
	chan->stage = VMBUS__SHUT;
	if (chan->batch) {
		chan->batch = 0;
		vmbus_ring_tx_abort(&chan->tx);
	}
	if (chan->tap)
		vmbus__tap_closed(chan, chan->failed ? VMBUS_E_PEER : 0);
	if (chan->need)
		vmbus_ring_tx_disarm(&chan->tx);
	chan->need = 0;
	vmbus__watch_again(chan);
	if (chan->journal)
		vmbus__journal_close(chan);
	vmbus__chan_show(chan);
	vmbus__st32_release(&chan->closing, 1); /* CLOSE.begin */
	if (chan->vsp->close)
		err = chan->vsp->close(chan);
	free_buf(chan);
	vmbus__chan_answer(chan, ans | VMBUS__ANS_CLOSED);
	if (err != VMBUS_E_AGAIN)
		vmbus_chan_close_done(chan);
}

void vmbus_chan_close_done(struct vmbus_chan *chan)
{
	/* Once for each close(), whoever calls it and how often. */
	if (!vmbus__cas32_acquire(&chan->closing, 1, 0)) /* CLOSE.done */
		return;
	vmbus__unwatch(chan);
	vmbus__chan_answer(chan, VMBUS__ANS_DONE);
}

void vmbus__restore_free(struct vmbus_chan *chan)
{
	free(chan->from);
	chan->from = NULL;
}

/* What a restored channel had on its mind besides its rings and its device. */
static void resume_rest(struct vmbus_chan *chan)
{
	const struct vmbus__restore *const from = chan->from;

	if (from->need && from->need <= vmbus_ring_max_send(chan->tx.mem_p.size_p) && !chan->need)
		chan->need = (from->need + 7u) / 8u * 8u;
	if (from->failed)
		vmbus__chan_note(chan, NULL, from->why);
	vmbus__restore_free(chan);
}

/* The device is open: what it sent meanwhile goes out, or the ring is broken already. */
static void serve(struct vmbus_chan *chan)
{
	int err = 0;

	chan->stage = VMBUS__SERVED;
	chan->live = !chan->foreign;
	if (!chan->failed)
		err = vmbus__chan_publish(chan);
	if (err)
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
	if (chan->failed) {
		end_device(chan, VMBUS__ANS_BROKE);
		return;
	}
	if (vmbus_chan_resumed(chan) || chan->from)
		vmbus__chan_raise(chan); /* a signal may have died with the process before us */
	if (chan->from)
		resume_rest(chan);
	vmbus__chan_show(chan);
	chan->open_err = 0;
	vmbus__chan_answer(chan, VMBUS__ANS_OPENED);
}

/* There is no device to close. */
static void refuse(struct vmbus_chan *chan, int err)
{
	vmbus__restore_free(chan);
	vmbus__unwatch(chan);
	chan->live = false;
	chan->stage = VMBUS__SHUT;
	chan->batch = 0;
	if (chan->tap)
		vmbus__tap_closed(chan, err);
	free_buf(chan);
	vmbus__chan_show(chan);
	chan->open_err = err;
	vmbus__chan_answer(chan, VMBUS__ANS_OPENED);
}

static void open_chan(struct vmbus_chan *chan)
{
	int err = 0;

	chan->batch = 0;
	chan->need = 0;
	chan->paused =
		vmbus__ld32_relaxed(&chan->drain) ? VMBUS__PAUSED_TO_SAVE : 0; /* BITS.take */
	chan->under_way_sent = 0;
	vmbus__st32_relaxed(&chan->under_way, 0); /* COUNT.show */
	chan->debt = 0;
	chan->armed = false;
	chan->failed = false;
	chan->let_go = false;
	chan->why[0] = '\0';
	chan->fault = (struct vmbus_fault){ 0 };
	if (!chan->foreign)
		err = init_rings(chan);
	if (!err) {
		chan->live = !chan->foreign;
		VMBUS_PROBE5(chan_open, chan, chan->relid, chan->vsp->name, &chan->rx, &chan->tx);
		if (chan->tap)
			vmbus__tap_opened(chan, false);
		err = open_device(chan);
	}
	if (err == VMBUS_E_AGAIN) {
		chan->stage = VMBUS__WAITS;
		chan->live = false;
		if (chan->failed)
			vmbus__chan_look(chan, chan->slot);
	} else if (err) {
		refuse(chan, err);
	} else {
		serve(chan);
	}
}

void vmbus_chan_open_done(struct vmbus_chan *chan, int err)
{
	if (err == VMBUS_E_AGAIN)
		err = VMBUS_E_STATE; /* that was said before */
	if (chan->stage == VMBUS__IN_OPEN) {
		chan->stage = VMBUS__SAID;
		chan->open_said = err;
	} else if (chan->stage == VMBUS__WAITS && err) {
		refuse(chan, err);
	} else if (chan->stage == VMBUS__WAITS) {
		serve(chan);
	}
}

/*
 * A turn of a channel without packets: it is closed, waits for its device, or is FOREIGN.  Returns
 * what was delivered.
 */
uint32_t vmbus__chan_idle(struct vmbus_chan *chan)
{
	uint32_t done = 0;

	if (VMBUS_UNLIKELY(chan->ready_due))
		done = vmbus__chan_ready(chan);
	if (chan->live || (chan->stage != VMBUS__WAITS && chan->stage != VMBUS__SERVED))
		return done;
	if (chan->failed)
		end_device(chan, chan->stage == VMBUS__WAITS ? VMBUS__ANS_BROKE : VMBUS__ANS_FAULT);
	else if (chan->foreign)
		vmbus__foreign_signal(chan);
	return done;
}

/* The child broke the channel: end it, and let the bus withdraw it. */
void vmbus__chan_break(struct vmbus_chan *chan)
{
	if (chan->live)
		end_device(chan, VMBUS__ANS_FAULT);
}

/* A restored channel is closed before its device has heard of it. */
static void never_resumed(struct vmbus_chan *chan)
{
	vmbus__restore_free(chan);
	vmbus__chan_answer(chan, VMBUS__ANS_CLOSED | VMBUS__ANS_DONE);
}

/* Do what the bus thread has asked for. */
void vmbus__chan_commands(struct vmbus_chan *chan)
{
	const uint64_t cmd = vmbus__take(&chan->cmd);

	if (cmd & VMBUS__CMD_TAP)
		vmbus__tap_take(chan);
	if (cmd & (VMBUS__CMD_OPEN | VMBUS__CMD_RESTORE))
		open_chan(chan);
	if (cmd & VMBUS__CMD_MODIFY) {
		chan->target_vp = vmbus__ld32_relaxed(&chan->new_vp); /* BITS.take */
		vmbus__chan_answer(chan, VMBUS__ANS_MODIFIED);
		if (chan->foreign && chan->stage == VMBUS__SERVED && chan->vsp->modified)
			chan->vsp->modified(chan);
	}
	if (cmd & VMBUS__CMD_DRAIN)
		vmbus__chan_pause(chan, VMBUS__PAUSED_TO_SAVE,
				  vmbus__ld32_relaxed(&chan->drain)); /* BITS.take */
	if ((cmd & VMBUS__CMD_UNSTICK) && chan->stage == VMBUS__SERVED)
		vmbus__chan_raise(chan); /* [RING-UNSTICK] */
	if ((cmd & VMBUS__CMD_CLOSE) &&
	    (chan->stage == VMBUS__WAITS || chan->stage == VMBUS__SERVED))
		end_device(chan, 0);
	else if ((cmd & VMBUS__CMD_CLOSE) && chan->from)
		never_resumed(chan);
}

/* Ask the channel's thread; for a channel without one of its own, do it now.  Bus thread. */
void vmbus__chan_command(struct vmbus_chan *chan, uint64_t cmd)
{
	vmbus__or64_release(&chan->cmd, cmd); /* BITS.add */
	if (chan->own_fd)
		vmbus__kick(&chan->kick);
	else
		vmbus__chan_commands(chan);
}
