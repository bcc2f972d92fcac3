/* SPDX-License-Identifier: MIT */
/*
 * The network device's client: its channels and buffers, from start to the end.  The guest's thread
 * opens, shares and closes; what is said on channels is the other files'.
 *
 * Invariants: pending_p counts the channels for which opened() with an error, or closed(), is due, and
 * the page lists that are being made or taken back; when it is 0, so has the NIC ended, and that
 * callback is the last one.  A primary with own_thread belongs to the guest's thread until handed_p.
 */
#include "netvsc/netvsc_state.h"

#define RING_BYTES 262144u
#define MTU 1500u
#define MTU_MIN 68u
#define MTU_MAX 65521u
#define FILTER (VMBUS_NETVSC_DIRECTED | VMBUS_NETVSC_ALL_MULTICAST | VMBUS_NETVSC_BROADCAST)
#define RECEIVE_BYTES (UINT32_C(2) << 20)
#define SEND_BYTES (UINT32_C(1) << 20)
#define BUFFER_MIN (UINT32_C(64) << 10)
#define BUFFER_MAX (UINT32_C(31) << 20)
#define FRAMES_MAX 64u
/* Sections and messages of the client's own. */
#define REQUESTS_MAX (VMBUS_NETVSC_SECTIONS + 16u)
#define DISPATCH 64u

static struct vmbus_netvsc_chan *primary_of(struct vmbus_netvsc *nv)
{
	return &nv->opts_p.chan[0];
}

/* ---- the end ---- */

static void give_pages_back(struct vmbus_netvsc *nv)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (nv->buffer_p[i].pages && !nv->buffer_p[i].lost)
			vmbus_guest_pages_free(nv->guest_p, nv->buffer_p[i].pages,
					       nv->buffer_p[i].count);
		nv->buffer_p[i].pages = NULL;
	}
	if (nv->page_p)
		vmbus_guest_pages_free(nv->guest_p, nv->page_p, 1);
	nv->page_p = NULL;
}

/* After the last channel and list: nothing of ours is used any more when the callback returns. */
static void end_if_last(struct vmbus_netvsc *nv)
{
	int err = nv->err_p;

	if (nv->pending_p)
		return;
	give_pages_back(nv);
	if (vmbus__netvsc_state(nv) == VMBUS__NETVSC_READY) {
		if (nv->opts_p.closed)
			nv->opts_p.closed(nv->opts_p.ctx);
		return;
	}
	/* STATE is also what a channel says that the parent has withdrawn, to who uses it further. */
	if (!err || err == VMBUS_E_STATE)
		err = nv->stop_p ? VMBUS_E_STATE : VMBUS_E_PEER;
	if (nv->opts_p.ready)
		nv->opts_p.ready(nv->opts_p.ctx, err);
}

static void on_unshared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	const struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_netvsc *const nv = chan->netvsc_p;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (!nv->buffer_p[i].going || nv->buffer_p[i].gpadl != gpadl)
			continue;
		nv->buffer_p[i].going = false;
		nv->buffer_p[i].lost = err != 0;
	}
	nv->pending_p--;
	end_if_last(nv);
}

/* The primary has ended: take back what it was lent. */
static void take_back(struct vmbus_netvsc *nv)
{
	struct vmbus_vsc *const vsc = primary_of(nv)->vsc_p;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (!nv->buffer_p[i].shared)
			continue;
		nv->buffer_p[i].shared = false;
		if (vmbus_vsc_unshare(vsc, nv->buffer_p[i].gpadl, on_unshared)) {
			nv->buffer_p[i].lost = true; /* who has it is not known */
			continue;
		}
		nv->buffer_p[i].going = true;
		nv->pending_p++;
	}
}

/* Close what is opening or open; what is closing already says STATE. */
static void close_all(struct vmbus_netvsc *nv)
{
	uint32_t i;

	for (i = 0; i <= nv->opts_p.subchannels; i++)
		if (nv->opts_p.chan[i].vsc_p && !(i == 0 && nv->ended_p))
			(void)vmbus_vsc_close(nv->opts_p.chan[i].vsc_p);
}

static void ended(struct vmbus_netvsc_chan *chan)
{
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	chan->open_p = false;
	if (chan == primary_of(nv)) {
		nv->ended_p = true;
		close_all(nv);
		take_back(nv);
		vmbus__netvsc_ask_end(nv);
	} else {
		chan->vsc_p = NULL;
	}
	nv->pending_p--;
	end_if_last(nv);
}

/* ---- the primary's buffers ---- */

static void on_shared(struct vmbus_vsc *vsc, uint32_t gpadl, int err);

static int share(struct vmbus_netvsc *nv, uint32_t which)
{
	const int err = vmbus_vsc_share(primary_of(nv)->vsc_p, nv->buffer_p[which].pages,
					nv->buffer_p[which].count, on_shared);

	if (!err)
		nv->pending_p++;
	return err;
}

/* Both are shared: from here on the channel is its thread's. */
static int hand_over(struct vmbus_netvsc *nv)
{
	struct vmbus_netvsc_chan *const chan = primary_of(nv);
	const int err = vmbus__netvsc_begin(nv);

	if (err)
		return err;
	nv->handed_p = true;
	chan->open_p = true;
	if (nv->opts_p.opened)
		nv->opts_p.opened(nv->opts_p.ctx, 0);
	return 0;
}

static int shared(struct vmbus_netvsc *nv, uint32_t gpadl, int err)
{
	/* The first has its id, never 0, from then on that the second is shared. */
	const uint32_t which = nv->buffer_p[VMBUS__NETVSC_RECEIVE].gpadl ? VMBUS__NETVSC_SEND
									 : VMBUS__NETVSC_RECEIVE;

	if (err) {
		nv->buffer_p[which].lost = err == VMBUS_E_FAULT;
		return err;
	}
	nv->buffer_p[which].gpadl = gpadl;
	nv->buffer_p[which].shared = true;
	if (nv->ended_p || nv->stop_p)
		return VMBUS_E_STATE;
	return which == VMBUS__NETVSC_RECEIVE ? share(nv, VMBUS__NETVSC_SEND) : hand_over(nv);
}

static void on_shared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	const struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	nv->pending_p--;
	err = shared(nv, gpadl, err);
	if (!err)
		return;
	if (!nv->err_p && !nv->stop_p && !nv->ended_p)
		nv->err_p = err;
	if (nv->ended_p) {
		take_back(nv);
		end_if_last(nv);
	} else {
		(void)vmbus_vsc_close(vsc);
	}
}

/* ---- callbacks of a channel: the guest's thread ---- */

static int open_channel(struct vmbus_netvsc *nv, uint32_t index, struct vmbus_vsc *vsc);

static void opened_primary(struct vmbus_netvsc *nv, struct vmbus_vsc *vsc)
{
	uint32_t i;

	nv->err_p = share(nv, VMBUS__NETVSC_RECEIVE);
	if (nv->err_p) {
		(void)vmbus_vsc_close(vsc);
		return;
	}
	/* Those that were offered before, or meanwhile. */
	for (i = 1; i <= nv->opts_p.subchannels; i++)
		(void)open_channel(nv, i, vmbus_vsc_subchannel(vsc, i));
}

static void on_opened(struct vmbus_vsc *vsc, int err)
{
	struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (err) {
		if (chan == primary_of(nv) && !nv->err_p)
			nv->err_p = err;
		ended(chan);
		return;
	}
	if (chan == primary_of(nv)) {
		opened_primary(nv, vsc);
		return;
	}
	chan->open_p = true;
	if (nv->opts_p.opened)
		nv->opts_p.opened(nv->opts_p.ctx, chan->number_p);
}

static void on_subchannel(struct vmbus_vsc *vsc, struct vmbus_vsc *sub)
{
	const struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_vsc_info info;

	vmbus_vsc_info(sub, &info);
	(void)open_channel(chan->netvsc_p, info.offer.sub_index, sub);
}

static void on_closed(struct vmbus_vsc *vsc)
{
	ended(vmbus_vsc_priv(vsc));
}

static void on_wake(struct vmbus_vsc *vsc)
{
	const struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (chan == primary_of(nv) && !nv->handed_p)
		(void)vmbus_vsc_dispatch(vsc, DISPATCH);
	else if (nv->opts_p.wake)
		nv->opts_p.wake(nv->opts_p.ctx, chan->number_p);
}

/* ---- callbacks of a channel: its thread ---- */

/* Whether a dispatch is the last one is known when it returns, and then nothing can be written any
   more: so it counts as that, but not within callbacks. */
static struct vmbus_netvsc_chan *call_begin(struct vmbus_vsc *vsc)
{
	struct vmbus_netvsc_chan *const chan = vmbus_vsc_priv(vsc);

	chan->left_p = false;
	return chan;
}

static void call_end(struct vmbus_netvsc_chan *chan)
{
	chan->left_p = chan->own_p && chan->inside_p;
}

static void on_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_netvsc_chan *const chan = call_begin(vsc);

	vmbus__netvsc_packets(chan, pkt, n);
	call_end(chan);
}

static void on_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct vmbus_netvsc_chan *const chan = call_begin(vsc);
	struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (VMBUS_LIKELY((uintptr_t)cookie <= VMBUS_NETVSC_SECTIONS))
		vmbus__netvsc_sent(chan, (uint32_t)(uintptr_t)cookie - 1u, pkt);
	else if (cookie == nv)
		vmbus__netvsc_answer(nv, pkt);
	else if (cookie == nv->page_p)
		vmbus__netvsc_copied(nv, pkt);
	call_end(chan);
}

static void on_writable(struct vmbus_vsc *vsc)
{
	struct vmbus_netvsc_chan *const chan = call_begin(vsc);

	(void)vmbus__netvsc_complete_more(chan);
	vmbus__netvsc_send_more(chan);
	call_end(chan);
}

/* ---- open and close ---- */

/* index: 0, or that of an offered sub-channel.  Errors: STATE, or as vmbus_vsc_open(). */
static int open_channel(struct vmbus_netvsc *nv, uint32_t index, struct vmbus_vsc *vsc)
{
	struct vmbus_vsc_opts open = nv->opts_p.open;
	struct vmbus_netvsc_chan *chan;
	int err;

	if (!vsc || index > nv->opts_p.subchannels || nv->stop_p || nv->ended_p ||
	    nv->opts_p.chan[index].vsc_p || nv->opts_p.chan[index].netvsc_p)
		return VMBUS_E_STATE;
	chan = &nv->opts_p.chan[index];
	open.struct_bytes = sizeof(open);
	open.target_vp += index % nv->opts_p.vps;
	open.requests_max = REQUESTS_MAX;
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
	chan->netvsc_p = nv;
	chan->vsc_p = vsc;
	nv->pending_p++;
	return 0;
}

static void take_defaults(struct vmbus_netvsc_opts *to)
{
	if (to->mtu == 0)
		to->mtu = MTU;
	if (to->filter == 0)
		to->filter = FILTER;
	if (to->receive_bytes == 0)
		to->receive_bytes = RECEIVE_BYTES;
	if (to->send_bytes == 0)
		to->send_bytes = SEND_BYTES;
	if (to->frames_max == 0)
		to->frames_max = FRAMES_MAX;
	if (to->vps == 0)
		to->vps = 1;
	if (to->open.send_bytes == 0)
		to->open.send_bytes = RING_BYTES;
	if (to->open.recv_bytes == 0)
		to->open.recv_bytes = RING_BYTES;
	__builtin_memset(to->open.user, 0, sizeof(to->open.user));
}

static bool is_buffer(uint32_t bytes)
{
	return bytes >= BUFFER_MIN && bytes <= BUFFER_MAX;
}

static int take_opts(struct vmbus_netvsc_opts *to, const struct vmbus_netvsc_opts *from)
{
	if (from->struct_bytes < sizeof(*from) ||
	    (from->open.struct_bytes && from->open.struct_bytes < sizeof(from->open)) ||
	    !from->chan || from->mac[0] & 1u)
		return VMBUS_E_INVAL;
	*to = *from;
	take_defaults(to);
	if (to->subchannels >= VMBUS_NETVSC_CHANNELS_MAX || to->mtu < MTU_MIN ||
	    to->mtu > MTU_MAX || to->frames_max > FRAMES_MAX || !is_buffer(to->receive_bytes) ||
	    !is_buffer(to->send_bytes))
		return VMBUS_E_RANGE;
	to->receive_bytes -= to->receive_bytes % VMBUS_PAGE_BYTES;
	to->send_bytes -= to->send_bytes % VMBUS_PAGE_BYTES;
	return 0;
}

static int take_pages(struct vmbus_netvsc *nv, const struct vmbus_vsc *vsc)
{
	nv->buffer_p[VMBUS__NETVSC_RECEIVE].count = nv->opts_p.receive_bytes / VMBUS_PAGE_BYTES;
	nv->buffer_p[VMBUS__NETVSC_SEND].count = nv->opts_p.send_bytes / VMBUS_PAGE_BYTES;
	nv->page_p = vmbus_guest_pages(nv->guest_p, 1);
	nv->buffer_p[0].pages = vmbus_guest_pages(nv->guest_p, nv->buffer_p[0].count);
	nv->buffer_p[1].pages = vmbus_guest_pages(nv->guest_p, nv->buffer_p[1].count);
	if (!nv->page_p || !nv->buffer_p[0].pages || !nv->buffer_p[1].pages)
		return VMBUS_E_NOMEM;
	nv->page_pfn_p = vmbus_vsc_pfn(vsc, nv->page_p);
	return 0;
}

int vmbus_netvsc_start(struct vmbus_netvsc *nv, struct vmbus_vsc *vsc,
		       const struct vmbus_netvsc_opts *opts)
{
	struct vmbus_netvsc_opts ours;
	uint32_t i;
	int err = take_opts(&ours, opts);

	if (err)
		return err;
	if (vmbus_vsc_state(vsc) != VMBUS_VSC_OFFERED) /* perhaps nv itself has it open */
		return VMBUS_E_STATE;
	__builtin_memset(nv, 0, sizeof(*nv));
	nv->opts_p = ours;
	nv->guest_p = vmbus_vsc_guest(vsc);
	for (i = 0; i <= ours.subchannels; i++) {
		__builtin_memset(&ours.chan[i], 0, sizeof(ours.chan[i]));
		ours.chan[i].number_p = i;
		ours.chan[i].own_p = ours.open.own_thread;
		ours.chan[i].pull_p = ours.open.own_thread || ours.open.poll;
		vmbus__netvsc_sections(&ours.chan[i], 0, 0);
		vmbus__netvsc_packets_init(&ours.chan[i]);
	}
	err = take_pages(nv, vsc);
	if (!err)
		err = open_channel(nv, 0, vsc);
	if (err)
		give_pages_back(nv);
	return err;
}

int vmbus_netvsc_stop(struct vmbus_netvsc *nv)
{
	if (nv->stop_p || nv->ended_p || !nv->pending_p)
		return VMBUS_E_STATE;
	if (!nv->opts_p.open.own_thread && vmbus__netvsc_state(nv) == VMBUS__NETVSC_READY)
		vmbus__netvsc_halt(nv);
	nv->stop_p = true;
	close_all(nv);
	return 0;
}

struct vmbus_vsc *vmbus_netvsc_channel(struct vmbus_netvsc *nv, uint32_t channel)
{
	if (channel > nv->opts_p.subchannels || !nv->opts_p.chan[channel].open_p)
		return NULL;
	return nv->opts_p.chan[channel].vsc_p;
}

int vmbus_netvsc_stats(const struct vmbus_netvsc *nv, uint32_t channel,
		       struct vmbus_netvsc_stats *stats)
{
	const struct vmbus_netvsc_chan *chan;

	if (channel > nv->opts_p.subchannels)
		return VMBUS_E_RANGE;
	chan = &nv->opts_p.chan[channel];
	*stats = chan->stats_p;
	stats->waiting = chan->range_count_p;
	stats->held = chan->packet_count_p;
	stats->sections = chan->count_p;
	stats->sections_free = chan->free_count_p;
	return 0;
}
