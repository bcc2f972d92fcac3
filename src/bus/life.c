/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing of a channel, on the thread that dispatches it.  The bus thread gives
 * commands, this side gives answers; each is a bit in a word, and what belongs to it is stored
 * before the bit and read after it.  For a channel without own_fd both sides are one thread.
 */
#include "bus/bus.h"

#include <stdlib.h>
#include <string.h>

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
static void raise_flag(void *ctx)
{
	struct vmbus_chan *chan = ctx;
	struct vmbus_bus *bus = chan->bus;

	if (chan->target_vp == VMBUS_VP_NONE)
		return;
	vmbus__add64_relaxed(&bus->raised, 1); /* COUNT.add */
	(void)bus->opts.backend->raise(bus->opts.backend_ctx, chan->target_vp, chan->target_sint,
				       chan->event_flag);
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
	err = vmbus_ring_rx_init(&chan->rx, &chan->rings.mem[0], &opts);
	if (err) {
		vmbus__chan_note(chan, vmbus_ring_rx_fault(&chan->rx), "ring from the child");
		return err;
	}
	err = vmbus_ring_tx_init(&chan->tx, &chan->rings.mem[1], &opts);
	if (err)
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
	return err;
}

static void free_buf(struct vmbus_chan *chan)
{
	free(chan->buf);
	chan->buf = NULL;
}

static int open_device(struct vmbus_chan *chan)
{
	int err;

	if (!chan->vsp->open)
		return 0;
	chan->in_callback = true;
	err = chan->vsp->open(chan, chan->ctx);
	chan->in_callback = false;
	if (err)
		return err;
	if (chan->failed)
		return VMBUS_E_PEER;
	err = vmbus__chan_publish(chan);
	if (err)
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
	return err;
}

static void open_chan(struct vmbus_chan *chan)
{
	int err;

	chan->batch = 0;
	chan->need = 0;
	chan->armed = false;
	chan->failed = false;
	chan->why[0] = '\0';
	chan->fault = (struct vmbus_fault){ 0 };
	err = init_rings(chan);
	if (!err) {
		chan->live = true;
		err = open_device(chan);
	}
	if (err) {
		chan->live = false;
		free_buf(chan);
	}
	vmbus__chan_show(chan);
	chan->open_err = err;
	vmbus__chan_answer(chan, VMBUS__ANS_OPENED);
}

/* The device ends; what it has sent and was not published is dropped. */
static void end_device(struct vmbus_chan *chan, uint64_t ans)
{
	int err = 0;

	chan->live = false;
	if (chan->batch) {
		chan->batch = 0;
		vmbus_ring_tx_abort(&chan->tx);
	}
	if (chan->need)
		vmbus_ring_tx_disarm(&chan->tx);
	chan->need = 0;
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
	if (vmbus__cas32_acquire(&chan->closing, 1, 0)) /* CLOSE.done */
		vmbus__chan_answer(chan, VMBUS__ANS_DONE);
}

/* The child broke the channel: end it, and let the bus withdraw it. */
void vmbus__chan_break(struct vmbus_chan *chan)
{
	if (chan->live)
		end_device(chan, VMBUS__ANS_FAULT);
}

/* Do what the bus thread has asked for. */
void vmbus__chan_commands(struct vmbus_chan *chan)
{
	const uint64_t cmd = vmbus__take(&chan->cmd);

	if (cmd & VMBUS__CMD_OPEN)
		open_chan(chan);
	if (cmd & VMBUS__CMD_MODIFY) {
		chan->target_vp = vmbus__ld32_relaxed(&chan->new_vp); /* BITS.take */
		vmbus__chan_answer(chan, VMBUS__ANS_MODIFIED);
	}
	if ((cmd & VMBUS__CMD_UNSTICK) && chan->live)
		raise_flag(chan); /* [RING-UNSTICK] */
	if ((cmd & VMBUS__CMD_CLOSE) && chan->live)
		end_device(chan, 0);
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
