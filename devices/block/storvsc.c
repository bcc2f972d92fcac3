/* SPDX-License-Identifier: MIT */
/*
 * The block device's client: its channels, from start to the end.  The guest's thread opens and closes
 * them; what is said on them is storvsc_init.c's and storvsc_io.c's.
 *
 * Invariants: pending_p counts the channels for which opened() with an error, or closed(), is due; when
 * the last of them has ended, so has the controller, and that callback is the last one.  A channel has
 * a number from the moment that it is open on, and keeps it.
 */
#include "storvsc/storvsc_state.h"

#define RING_BYTES 131072u
#define DEPTH 256u
#define DEPTH_MAX 65535u

static struct vmbus_storvsc_chan *primary_of(struct vmbus_storvsc *s)
{
	return &s->chan_p[0];
}

/* After the last channel: nothing of ours is used any more when the callback returns. */
static void end_if_last(struct vmbus_storvsc *s)
{
	int err = s->err_p;

	if (s->pending_p)
		return;
	if (vmbus__storvsc_is_ready(s)) {
		if (s->opts_p.closed)
			s->opts_p.closed(s->opts_p.ctx);
		return;
	}
	if (!err)
		err = s->stop_p ? VMBUS_E_STATE : VMBUS_E_PEER;
	if (s->opts_p.ready)
		s->opts_p.ready(s->opts_p.ctx, err);
}

/*
 * Close what is opening or open; what is closing already says STATE.  The primary is the last: with it
 * the parent withdraws the others, which then end while their requests may still be worked on.
 */
static void close_all(struct vmbus_storvsc *s)
{
	bool others = false;
	uint32_t i;

	s->stop_p = true;
	for (i = 1; i < VMBUS_STORVSC_CHANNELS_MAX; i++)
		if (s->chan_p[i].vsc_p) {
			(void)vmbus_vsc_close(s->chan_p[i].vsc_p);
			others = true;
		}
	if (!others && primary_of(s)->vsc_p)
		(void)vmbus_vsc_close(primary_of(s)->vsc_p);
}

static void ended(struct vmbus_storvsc_chan *chan)
{
	struct vmbus_storvsc *const s = chan->storvsc_p;

	chan->vsc_p = NULL;
	s->pending_p--;
	if (chan == primary_of(s)) {
		close_all(s);
		vmbus__storvsc_probe_end(s);
	} else if (s->stop_p) {
		close_all(s);
	}
	end_if_last(s);
}

static int open_channel(struct vmbus_storvsc *s, uint32_t index, struct vmbus_vsc *vsc);

/* ---- callbacks of a channel: the guest's thread ---- */

static void on_opened(struct vmbus_vsc *vsc, int err)
{
	struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_storvsc *const s = chan->storvsc_p;
	uint32_t i;

	if (err) {
		if (chan == primary_of(s) && !s->err_p)
			s->err_p = err;
		ended(chan);
		return;
	}
	chan->number_p = s->channels;
	s->by_p[s->channels++] = chan;
	if (chan == primary_of(s)) {
		s->err_p = vmbus__storvsc_begin(s);
		if (s->err_p)
			(void)vmbus_vsc_close(vsc);
		/* Those that were offered before, or meanwhile. */
		for (i = 1; i <= s->opts_p.subchannels && !s->err_p; i++)
			(void)open_channel(s, i, vmbus_vsc_subchannel(vsc, i));
	}
	if (s->opts_p.opened)
		s->opts_p.opened(s->opts_p.ctx, chan->number_p);
}

static void on_subchannel(struct vmbus_vsc *vsc, struct vmbus_vsc *sub)
{
	const struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_vsc_info info;

	vmbus_vsc_info(sub, &info);
	(void)open_channel(chan->storvsc_p, info.offer.sub_index, sub);
}

static void on_closed(struct vmbus_vsc *vsc)
{
	ended(vmbus_vsc_priv(vsc));
}

/* ---- callbacks of a channel: its thread ---- */

static void on_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	const struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_storvsc *const s = chan->storvsc_p;
	struct vmbus__stor_head head;
	bool changed = false;
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (pkt[i].type != VMBUS_PKT_INBAND || pkt[i].len < VMBUS__STOR_HEAD_BYTES) {
			vmbus__storvsc_bad(s);
			continue;
		}
		vmbus__stor_head_get(&head, pkt[i].payload);
		if (head.op == VMBUS__STOR_ENUMERATE_BUS || head.op == VMBUS__STOR_REMOVE_DEVICE)
			changed = true;
		else if (head.op != VMBUS__STOR_EVENT)
			vmbus__storvsc_bad(s);
	}
	if (!changed || chan != primary_of(s))
		return;
	if (!vmbus__storvsc_is_ready(s))
		s->changed_p = true; /* told after ready() */
	else if (s->opts_p.changed)
		s->opts_p.changed(s->opts_p.ctx);
}

static void on_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	const struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);

	if (cookie == chan)
		vmbus__storvsc_answer(chan->storvsc_p, pkt);
	else
		vmbus__storvsc_done(chan->storvsc_p, cookie, pkt);
}

static void on_writable(struct vmbus_vsc *vsc)
{
	const struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_storvsc *const s = chan->storvsc_p;

	if (chan == primary_of(s))
		vmbus__storvsc_probe_more(s);
	if (s->opts_p.writable)
		s->opts_p.writable(s->opts_p.ctx, chan->number_p);
}

static void on_wake(struct vmbus_vsc *vsc)
{
	const struct vmbus_storvsc_chan *const chan = vmbus_vsc_priv(vsc);

	if (chan->storvsc_p->opts_p.wake)
		chan->storvsc_p->opts_p.wake(chan->storvsc_p->opts_p.ctx, chan->number_p);
}

/* ---- open and close ---- */

/* index: 0, or that of an offered sub-channel.  Errors: STATE, or as vmbus_vsc_open(). */
static int open_channel(struct vmbus_storvsc *s, uint32_t index, struct vmbus_vsc *vsc)
{
	struct vmbus_vsc_opts open = s->opts_p.open;
	struct vmbus_storvsc_chan *chan;
	int err;

	if (!vsc || index > s->opts_p.subchannels || s->stop_p || s->chan_p[index].vsc_p ||
	    s->chan_p[index].storvsc_p)
		return VMBUS_E_STATE;
	chan = &s->chan_p[index];
	open.struct_bytes = sizeof(open);
	open.target_vp += index % s->opts_p.vps;
	open.opened = on_opened;
	open.packets = on_packets;
	open.completed = on_completed;
	open.writable = on_writable;
	open.closed = on_closed;
	open.wake = on_wake;
	open.subchannel = index ? NULL : on_subchannel;
	open.priv = chan;
	err = vmbus_vsc_open(vsc, &open);
	if (err)
		return err;
	/* Nothing is called back before the guest is dispatched. */
	chan->storvsc_p = s;
	chan->vsc_p = vsc;
	s->pending_p++;
	return 0;
}

/* How much one request may have, so that its page list fits the ring: whole pages. */
static uint32_t transfer_of(uint32_t ring)
{
	const uint32_t most = vmbus_ring_max_send(ring);
	/* A page list has one page more than the data, which need not begin at one. */
	const uint32_t fixed = (uint32_t)vmbus_wire_ring_bytes(24, VMBUS__STOR_BYTES);
	uint32_t pages;

	if (most < fixed + 8u)
		return 0;
	pages = (most - fixed) / 8u;
	return pages > VMBUS_STORVSC_TRANSFER_MAX / VMBUS_PAGE_BYTES ? VMBUS_STORVSC_TRANSFER_MAX
								     : pages * VMBUS_PAGE_BYTES;
}

static int take_opts(struct vmbus_storvsc_opts *to, const struct vmbus_storvsc_opts *from)
{
	if (from->struct_bytes < sizeof(*from) ||
	    (from->open.struct_bytes && from->open.struct_bytes < sizeof(from->open)))
		return VMBUS_E_INVAL;
	*to = *from;
	if (to->depth == 0)
		to->depth = DEPTH;
	if (to->vps == 0)
		to->vps = 1;
	if (to->open.send_bytes == 0)
		to->open.send_bytes = RING_BYTES;
	if (to->open.recv_bytes == 0)
		to->open.recv_bytes = RING_BYTES;
	to->open.requests_max = to->depth;
	__builtin_memset(to->open.user, 0, sizeof(to->open.user));
	if (to->subchannels >= VMBUS_STORVSC_CHANNELS_MAX || to->depth > DEPTH_MAX ||
	    transfer_of(to->open.send_bytes) == 0)
		return VMBUS_E_RANGE;
	return 0;
}

int vmbus_storvsc_start(struct vmbus_storvsc *s, struct vmbus_vsc *vsc,
			const struct vmbus_storvsc_opts *opts)
{
	struct vmbus_storvsc_opts ours;
	const int err = take_opts(&ours, opts);

	if (err)
		return err;
	if (vmbus_vsc_state(vsc) != VMBUS_VSC_OFFERED) /* perhaps s itself has it open */
		return VMBUS_E_STATE;
	__builtin_memset(s, 0, sizeof(*s));
	s->opts_p = ours;
	s->transfer_bytes = transfer_of(ours.open.send_bytes);
	return open_channel(s, 0, vsc);
}

int vmbus_storvsc_stop(struct vmbus_storvsc *s)
{
	if (s->stop_p || !s->pending_p)
		return VMBUS_E_STATE;
	close_all(s);
	return 0;
}

struct vmbus_vsc *vmbus_storvsc_channel(struct vmbus_storvsc *s, uint32_t channel)
{
	if (channel >= VMBUS_STORVSC_CHANNELS_MAX || !s->by_p[channel])
		return NULL;
	return s->by_p[channel]->vsc_p;
}
