/* SPDX-License-Identifier: MIT */
/*
 * The NIC as a VSP: its callbacks, and the life of channels and of what those of a guest have in common.
 * A callback begins by taking up what has changed of the shape, and ends by sending to the guest what
 * was gathered for it, with one signal.
 */
#include "net/vsp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* {f8615163-df3e-46c5-913f-f2d2f965ed0e}, [NET-INIT] */
#define CLASS VMBUS_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e)
#define PAYLOAD_MAX 4096u /* of an NVSP message; those that we know are of 40 bytes */
#define INBOX_BYTES (1u << 20)
#define STATE_BYTES_MAX (4u << 20)
#define WORK_FREE (128u << 10) /* bytes of frames in a callback that cost no more than packets */

/* ---- messages that are no frames ---- */

static bool send_answer(struct vmbus__net_chan *ch, const struct vmbus__net_answer *answer)
{
	const struct vmbus_msg msg = { .data = answer->msg,
				       .len = answer->len,
				       .type = VMBUS_PKT_INBAND };

	if (answer->inband)
		return vmbus_chan_send(ch->chan, &msg, 1) != VMBUS_E_FULL;
	return vmbus_chan_complete(ch->chan, answer->id, answer->msg, answer->len) != VMBUS_E_FULL;
}

static void answer(struct vmbus__net_chan *ch, const struct vmbus__net_answer *made)
{
	if (ch->answers == 0 && send_answer(ch, made))
		return;
	if (ch->answers == VMBUS__NET_ANSWERS) {
		vmbus_chan_fail(ch->chan, "more answers than the channel can have");
		return;
	}
	ch->answer[(ch->answer_first + ch->answers++) % VMBUS__NET_ANSWERS] = *made;
}

static void make_answer(struct vmbus__net_chan *ch, struct vmbus__net_answer *made, const void *msg,
			uint32_t len)
{
	made->len = len < sizeof(made->msg) ? len : (uint32_t)sizeof(made->msg);
	if (made->len)
		memcpy(made->msg, msg, made->len);
	answer(ch, made);
}

void vmbus__net_complete(struct vmbus__net_chan *ch, uint64_t id, const void *msg, uint32_t len)
{
	struct vmbus__net_answer made = { .id = id };

	make_answer(ch, &made, msg, len);
}

void vmbus__net_inband(struct vmbus__net_chan *ch, const void *msg, uint32_t len)
{
	struct vmbus__net_answer made = { .inband = true };

	make_answer(ch, &made, msg, len);
}

static void send_answers(struct vmbus__net_chan *ch)
{
	while (ch->answers && send_answer(ch, &ch->answer[ch->answer_first])) {
		ch->answer_first = (ch->answer_first + 1u) % VMBUS__NET_ANSWERS;
		ch->answers--;
	}
}

/* ---- callbacks of packets ---- */

static void begin_callback(struct vmbus__net_chan *ch)
{
	const uint64_t number =
		vmbus__ld64_relaxed(vmbus__as_a64(&ch->session->number)); /* NETSHAPE.look */

	if (VMBUS_UNLIKELY(number != ch->seen))
		vmbus__net_shape_refresh(ch);
}

static void show_counts(struct vmbus__net_chan *ch)
{
	uint64_t *const words = ch->net->count[ch->number];
	uint32_t i;

	for (i = 0; i < VMBUS__NET_COUNTS; i++) {
		if (!ch->count[i])
			continue;
		vmbus__add64_relaxed(vmbus__as_a64(&words[i]), ch->count[i]); /* NETSTAT.add */
		ch->count[i] = 0;
	}
}

static void end_callback(struct vmbus__net_chan *ch)
{
	vmbus__net_rx_end(ch);
	vmbus__net_queue_hear(ch);
	if (VMBUS_UNLIKELY(ch->work > WORK_FREE))
		vmbus_chan_charge(ch->chan, (uint32_t)((ch->work - WORK_FREE) / VMBUS_UNIT_BYTES));
	ch->work = ch->tx_work = 0;
	show_counts(ch);
}

/* Frames, or a control message, that may not come now, or are too short to tell where they are.  What a
   guest still sends while it stops is no mistake. */
static void refuse(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt)
{
	uint8_t msg[VMBUS__NVSP_BYTES] = { VMBUS__NVSP_RNDIS_DONE };

	vmbus__net_count(ch,
			 ch->ended && pkt->len >= VMBUS__NVSP_RNDIS_BYTES ? VMBUS__NET_STOPPED
									  : VMBUS__NET_SENT_BAD,
			 1);
	msg[VMBUS__NVSP_AT_STATUS] = VMBUS__NVSP_FAIL;
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		vmbus__net_complete(ch, pkt->id, msg, vmbus__nvsp_bytes(ch->shape.nvsp));
}

static VMBUS_NOINLINE void other_packet(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt)
{
	if (pkt->type != VMBUS_PKT_INBAND && pkt->type != VMBUS_PKT_GPA_DIRECT) {
		vmbus_chan_fail(ch->chan, "a packet of a type that is no message");
		return;
	}
	if (pkt->len < 4) {
		vmbus_chan_fail(ch->chan, "a network message of less than 4 bytes");
		return;
	}
	if (vmbus__net_get32(pkt->payload) == VMBUS__NVSP_RNDIS) {
		refuse(ch, pkt);
		return;
	}
	if (vmbus__net_is_primary(ch)) {
		vmbus__net_nvsp(ch, pkt);
		return;
	}
	vmbus_chan_fail(ch->chan, "a message for the primary channel on a sub-channel");
}

static void packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct vmbus__net_chan *const ch = vmbus_chan_priv(chan);

	if (pkt->type == VMBUS_PKT_COMPLETION) {
		vmbus__net_rx_returned(ch, pkt);
		return;
	}
	if (VMBUS_LIKELY(pkt->len >= VMBUS__NVSP_RNDIS_BYTES &&
			 (pkt->type == VMBUS_PKT_INBAND || pkt->type == VMBUS_PKT_GPA_DIRECT) &&
			 vmbus__net_get32(pkt->payload) == VMBUS__NVSP_RNDIS) &&
	    (VMBUS_LIKELY(ch->shape.messages) ||
	     (vmbus__net_is_primary(ch) && vmbus__net_may_begin(ch)))) {
		vmbus__net_tx_packet(ch, pkt);
		return;
	}
	other_packet(ch, pkt);
}

static void net_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus__net_chan *const ch = vmbus_chan_priv(chan);

	begin_callback(ch);
	vmbus_chan_each(chan, pkt, n, packet);
	vmbus__net_tx_run(ch);
	end_callback(ch);
}

/* Whether the control is to look: somebody wants it to, or its time is up. */
static bool control_is_due(struct vmbus__net_chan *ch)
{
	uint64_t times;
	bool due = false;

	/* A swap, and no store: that could overwrite a poke whose change is not seen yet. */
	if (vmbus__ld32_relaxed(&ch->session->poke) &&	    /* NETPOKE.look */
	    vmbus__cas32_acquire(&ch->session->poke, 1, 0)) /* NETPOKE.look */
		due = true;
	if (ch->timer_set && read(ch->timer_fd, &times, sizeof(times)) == (ssize_t)sizeof(times)) {
		ch->timer_set = false;
		due = true;
	}
	return due;
}

static void net_ready(struct vmbus_chan *chan)
{
	struct vmbus__net_chan *const ch = vmbus_chan_priv(chan);
	uint64_t times;

	if (VMBUS_UNLIKELY(ch->retry_set))
		(void)!read(ch->retry_fd, &times, sizeof(times));
	vmbus__net_rx_inbox(ch);
	begin_callback(ch);
	if (vmbus__net_is_primary(ch) && VMBUS_UNLIKELY(control_is_due(ch)))
		vmbus__net_control_again(ch);
	if (VMBUS_UNLIKELY(ch->answers))
		send_answers(ch);
	vmbus__net_rx_poll(ch);
	vmbus__net_rx_asked(ch); /* in this order: vmbus/port.h */
	end_callback(ch);
}

static void net_writable(struct vmbus_chan *chan)
{
	struct vmbus__net_chan *const ch = vmbus_chan_priv(chan);

	begin_callback(ch);
	send_answers(ch);
	vmbus__net_tx_run(ch);
	if (vmbus__net_is_primary(ch))
		vmbus__net_control_again(ch);
	end_callback(ch);
}

/* ---- sessions ---- */

static void free_session(struct vmbus__net_session *session)
{
	uint32_t i;

	for (i = 0; i < VMBUS__NET_CHANNELS; i++)
		vmbus__inbox_destroy(session->seat[i].inbox);
	free(session);
}

/* The frames in an inbox that nobody looks into any more: no more than fit. */
static void lose(struct vmbus__net_chan *ch, struct vmbus__inbox *inbox)
{
	const struct vmbus_frame *frame;
	uint32_t turns = INBOX_BYTES / 64u, n;

	while (inbox && turns-- && (n = vmbus__inbox_look(inbox, &frame, NULL))) {
		vmbus__inbox_done(inbox, n);
		vmbus__net_count(ch, VMBUS__NET_STOPPED, n);
	}
}

/* By the channel that leaves it.  Another one may have put frames into any inbox meanwhile. */
static void put_session(struct vmbus__net_chan *ch)
{
	struct vmbus__net_session *const session = ch->session;
	struct vmbus_net *const net = ch->net;
	uint32_t i;
	bool last;

	pthread_mutex_lock(&net->lock);
	last = --session->refs == 0;
	pthread_mutex_unlock(&net->lock);
	for (i = 0; last && i < VMBUS__NET_CHANNELS; i++)
		lose(ch, session->seat[i].inbox);
	show_counts(ch);
	if (last)
		free_session(session);
}

static int make_session(struct vmbus_net *net, struct vmbus_chan *chan,
			struct vmbus__net_session **made)
{
	struct vmbus__net_session *const session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return VMBUS_E_NOMEM;
	session->net = net;
	session->primary = chan;
	session->refs = 1;
	err = vmbus__inbox_create(INBOX_BYTES, &session->seat[0].inbox);
	if (err) {
		free(session);
		return err;
	}
	pthread_mutex_lock(&net->lock);
	if (net->session)
		err = VMBUS_E_STATE; /* another guest has it */
	else
		net->session = session;
	pthread_mutex_unlock(&net->lock);
	if (err) {
		vmbus__net_log(net, "another guest has this NIC: its second open is refused");
		free_session(session);
	} else {
		*made = session;
	}
	return err;
}

/* The session of a channel's primary, and its number in it. */
static int find_session(struct vmbus_net *net, struct vmbus_chan *chan, uint32_t number,
			struct vmbus__net_session **made)
{
	struct vmbus_chan *const primary = vmbus_chan_primary(chan);
	int err = VMBUS_E_STATE;

	pthread_mutex_lock(&net->lock);
	if (net->session && net->session->primary == primary && number <= net->session->subs &&
	    net->session->seat[number].inbox &&
	    !vmbus__ld32_relaxed(&net->session->seat[number].open)) { /* NETSEAT.look */
		*made = net->session;
		net->session->refs++;
		err = 0;
	}
	pthread_mutex_unlock(&net->lock);
	return err;
}

uint32_t vmbus__net_grant(struct vmbus__net_chan *ch, uint32_t asked)
{
	struct vmbus__net_session *const session = ch->session;
	uint32_t n;

	if (asked > ch->net->opts.subchannels || session->subs)
		return 0;
	asked = vmbus__net_rx_shares(ch, asked);
	for (n = 1; n <= asked; n++)
		if (vmbus__inbox_create(INBOX_BYTES, &session->seat[n].inbox))
			break;
	n--;
	pthread_mutex_lock(&ch->net->lock);
	vmbus__net_rx_share(ch, n);
	session->subs = n;
	pthread_mutex_unlock(&ch->net->lock);
	return n;
}

/* ---- opening and closing ---- */

static void free_chan(struct vmbus__net_chan *ch)
{
	vmbus__net_queue_close(ch);
	vmbus__net_tx_free(ch);
	vmbus__net_rx_free(ch);
	if (ch->epoll_fd >= 0)
		(void)close(ch->epoll_fd);
	if (ch->timer_fd >= 0)
		(void)close(ch->timer_fd);
	if (ch->retry_fd >= 0)
		(void)close(ch->retry_fd);
	free(ch->answer);
	free(ch);
}

static int make_chan(struct vmbus_net *net, struct vmbus_chan *chan, uint32_t number,
		     struct vmbus__net_chan **made)
{
	struct vmbus__net_chan *const ch = calloc(1, sizeof(*ch));
	int err;

	if (!ch)
		return VMBUS_E_NOMEM;
	ch->net = net;
	ch->chan = chan;
	ch->number = number;
	ch->timer_fd = ch->retry_fd = -1;
	ch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ch->answer = calloc(VMBUS__NET_ANSWERS, sizeof(*ch->answer));
	err = ch->epoll_fd < 0 ? VMBUS_E_SYSTEM : 0;
	if (!err && !ch->answer)
		err = VMBUS_E_NOMEM;
	if (!err)
		err = vmbus__net_tx_make(ch);
	if (!err)
		err = vmbus__net_rx_make(ch);
	if (err)
		free_chan(ch);
	else
		*made = ch;
	return err;
}

/* Leave the session; what the shape has of buffers is let go of. */
static void leave(struct vmbus__net_chan *ch)
{
	struct vmbus__net_session *const session = ch->session;
	struct vmbus_net *const net = ch->net;

	pthread_mutex_lock(&net->lock);
	if (ch->shape.receive)
		vmbus__net_rx_forget(ch);
	vmbus__net_tx_forget(ch);
	vmbus__net_buffer_drop(net, ch->shape.receive);
	vmbus__net_buffer_drop(net, ch->shape.send);
	ch->shape.receive = ch->shape.send = NULL;
	vmbus__st32_release(&ch->seat->open, 0); /* NETSEAT.tell */
	if (vmbus__net_is_primary(ch)) {
		vmbus__a64 *const number = vmbus__as_a64(&session->number);

		vmbus__net_buffer_drop(net, session->shape.receive);
		vmbus__net_buffer_drop(net, session->shape.send);
		session->shape = (struct vmbus__net_shape){ 0 };
		vmbus__st64_relaxed(number, vmbus__ld64_relaxed(number) + 1u); /* NETSHAPE.tell */
		vmbus__net_wake(session);
		net->session = NULL;
	}
	pthread_mutex_unlock(&net->lock);
	lose(ch, ch->seat->inbox);
	put_session(ch);
}

static void tell_port_down(struct vmbus__net_chan *ch)
{
	const struct vmbus_port *const port = &ch->net->opts.port;
	const struct vmbus_port_config config = { 0 };

	if (port->ops->configure && ch->told)
		port->ops->configure(port->ctx, &config);
}

static void end_chan(struct vmbus__net_chan *ch)
{
	if (vmbus__net_is_primary(ch))
		tell_port_down(ch);
	vmbus__net_queue_close(ch);
	leave(ch);
	free_chan(ch);
}

/* All granted sub-channels are open, or closed: the control may want to know. */
static void tell_control(struct vmbus__net_chan *ch)
{
	struct vmbus_net *const net = ch->net;

	pthread_mutex_lock(&net->lock);
	if (net->session == ch->session)
		vmbus__net_poke(ch->session);
	pthread_mutex_unlock(&net->lock);
}

static int enter(struct vmbus__net_chan *ch)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct vmbus_net *const net = ch->net;
	int err;

	ch->seat = &ch->session->seat[ch->number];
	if (epoll_ctl(ch->epoll_fd, EPOLL_CTL_ADD, vmbus__inbox_fd(ch->seat->inbox), &event))
		return VMBUS_E_SYSTEM;
	err = vmbus__net_queue_open(ch);
	if (err)
		return err;
	pthread_mutex_lock(&net->lock);
	if (net->channels_ever <= ch->number)
		net->channels_ever = ch->number + 1u;
	vmbus__st32_release(&ch->seat->open, 1); /* NETSEAT.tell */
	pthread_mutex_unlock(&net->lock);
	vmbus__net_shape_refresh(ch);
	return vmbus_chan_watch(ch->chan, ch->epoll_fd);
}

/* As both ways of opening begin. */
static int begin_open(struct vmbus_chan *chan, struct vmbus_net *net, struct vmbus__net_chan **made)
{
	struct vmbus__net_chan *ch;
	const uint32_t number = vmbus_chan_sub_index(chan);
	int err;

	vmbus_chan_set_priv(chan, NULL);
	if (number >= VMBUS__NET_CHANNELS)
		return VMBUS_E_RANGE;
	err = make_chan(net, chan, number, &ch);
	if (err)
		return err;
	if (number)
		err = find_session(net, chan, number, &ch->session);
	else
		err = make_session(net, chan, &ch->session);
	if (err) {
		free_chan(ch);
		return err;
	}
	err = enter(ch);
	if (err) {
		end_chan(ch);
		return err;
	}
	vmbus_chan_set_priv(chan, ch);
	*made = ch;
	return 0;
}

static int end_open(struct vmbus__net_chan *ch, int err)
{
	struct vmbus_chan *const chan = ch->chan;

	if (!err) {
		tell_control(ch);
		return 0;
	}
	(void)vmbus_chan_watch(chan, -1);
	vmbus_chan_set_priv(chan, NULL);
	if (vmbus__net_is_primary(ch) && ch->session->control)
		vmbus__net_control_close(ch);
	end_chan(ch);
	return err;
}

static int net_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus__net_chan *ch;
	int err = begin_open(chan, ctx, &ch);

	if (err)
		return err;
	if (vmbus__net_is_primary(ch))
		err = vmbus__net_control_open(ch);
	return end_open(ch, err);
}

static int net_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct vmbus__net_chan *ch;
	int err = begin_open(chan, vmbus_chan_ctx(chan), &ch);

	if (err)
		return err;
	return end_open(ch, vmbus__net_restore(ch, buf, bytes));
}

static int net_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	return vmbus__net_save(vmbus_chan_priv(chan), buf, bytes);
}

static int net_close(struct vmbus_chan *chan)
{
	struct vmbus__net_chan *const ch = vmbus_chan_priv(chan);

	(void)vmbus_chan_watch(chan, -1);
	vmbus_chan_set_priv(chan, NULL);
	if (vmbus__net_is_primary(ch))
		vmbus__net_control_close(ch);
	end_chan(ch);
	return 0;
}

static const struct vmbus_vsp net_vsp = {
	.struct_bytes = sizeof(net_vsp),
	.name = "net",
	.class_id = CLASS,
	.offer_flags = VMBUS_OFFER_ENUMERATE,
	.max_payload = PAYLOAD_MAX,
	.open = net_open,
	.packets = net_packets,
	.writable = net_writable,
	.ready = net_ready,
	.close = net_close,
	.save = net_save,
	.restore = net_restore,
	.save_bytes_max = STATE_BYTES_MAX,
};

const struct vmbus_vsp *vmbus_net_vsp(void)
{
	return &net_vsp;
}
