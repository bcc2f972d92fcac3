/* SPDX-License-Identifier: MIT */
/*
 * What was agreed on, for several threads: changed with the lock and counted, and copied by each channel
 * at the begin of its next callback.
 */
#include "net/vsp.h"

#include <string.h>

/* Lock: the channels of a session are to look. */
void vmbus__net_wake(struct vmbus__net_session *session)
{
	uint32_t i;

	for (i = 0; i <= session->subs; i++)
		if (session->seat[i].inbox)
			vmbus__inbox_ring(session->seat[i].inbox);
}

void vmbus__net_poke(struct vmbus__net_session *session)
{
	vmbus__st32_release(&session->poke, 1); /* NETPOKE.set */
	vmbus__inbox_ring(session->seat[0].inbox);
}

/* Take the shape of the session; what the old one had of buffers is let go of. */
void vmbus__net_shape_refresh(struct vmbus__net_chan *ch)
{
	struct vmbus__net_session *const session = ch->session;
	const struct vmbus__net_shape old = ch->shape;

	pthread_mutex_lock(&ch->net->lock);
	if (old.receive && session->shape.receive != old.receive)
		vmbus__net_rx_forget(ch);
	if (old.send && session->shape.send != old.send)
		vmbus__net_tx_forget(ch);
	ch->shape = session->shape;
	vmbus__net_queue_takes(ch);
	if ((old.messages && !ch->shape.messages) || (old.send && !ch->shape.send))
		ch->ended = true;
	else if (ch->shape.messages && ch->shape.send)
		ch->ended = false;
	ch->seen = vmbus__ld64_relaxed(vmbus__as_a64(&session->number)); /* NETSHAPE.look */
	vmbus__net_buffer_use(ch->shape.receive);
	vmbus__net_buffer_use(ch->shape.send);
	vmbus__net_buffer_drop(ch->net, old.receive);
	vmbus__net_buffer_drop(ch->net, old.send);
	if (ch->shape.receive && ch->shape.receive != old.receive)
		vmbus__net_rx_begin(ch);
	pthread_mutex_unlock(&ch->net->lock);
	vmbus__net_queue_hear(ch);
}

struct vmbus__net_shape *vmbus__net_shape_begin(struct vmbus__net_chan *ch)
{
	pthread_mutex_lock(&ch->net->lock);
	return &ch->session->shape;
}

void vmbus__net_shape_end(struct vmbus__net_chan *ch)
{
	struct vmbus__net_session *const session = ch->session;
	vmbus__a64 *const number = vmbus__as_a64(&session->number);

	vmbus__st64_relaxed(number, vmbus__ld64_relaxed(number) + 1u); /* NETSHAPE.tell */
	vmbus__net_wake(session);
	pthread_mutex_unlock(&ch->net->lock);
	vmbus__net_shape_refresh(ch);
	vmbus__net_configure(ch);
}
