/* SPDX-License-Identifier: MIT */
/*
 * The controller as a VSP: its callbacks.  A callback begins by taking what has changed of the
 * disks, and ends by having the stores begin with what was gathered; answers are published after
 * it, with one signal.  With a journal it also has what is not answered yet kept.
 */
#include "block/vsp.h"

#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <vmbus/watch.h>

/* {ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}, [STOR-INIT] */
#define CLASS VMBUS_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f)
#define OWN_BYTES 64u
#define STATE_BYTES_MAX (1u << 20)

/* ---- callbacks of packets ---- */

/* What has changed since the last callback; a request that comes now sees it. */
static void begin_callback(struct vmbus__port *port)
{
	const uint64_t number =
		vmbus__ld64_relaxed(vmbus__as_a64(&port->block->number)); /* BLOCKLIST.look */

	port->turn = (port->turn + 1u) & INT32_MAX;
	if (VMBUS_UNLIKELY(number != port->number))
		vmbus__views_refresh(port);
	if (VMBUS_UNLIKELY(!port->ready) &&
	    vmbus__ld32_acquire(&port->nexus->ready)) /* NEXUS.take */
		vmbus__srb_go_on(port);
}

static void end_callback(struct vmbus__port *port)
{
	vmbus__views_commit(port);
	if (VMBUS_UNLIKELY(port->reap))
		vmbus__views_reap(port);
	if (VMBUS_UNLIKELY(port->work > VMBUS__WORK_FREE))
		vmbus_chan_charge(port->chan,
				  (uint32_t)((port->work - VMBUS__WORK_FREE) / VMBUS_UNIT_BYTES));
	port->work = 0;
	vmbus_chan_under_way(port->chan, port->under_way);
}

/* A message that is no request. */
static void reply_step(struct vmbus__port *port, const struct vmbus_packet *pkt,
		       const struct vmbus__stor_head *asked, struct vmbus__task *task)
{
	struct vmbus__stor_head head = { .op = VMBUS__STOR_COMPLETE_IO };
	uint8_t msg[VMBUS__STOR_BYTES] = { 0 };

	memcpy(msg, pkt->payload, pkt->len < sizeof(msg) ? pkt->len : sizeof(msg));
	vmbus__stor_head_put(task->reply, &head);
	switch (asked->op) {
	case VMBUS__STOR_RESET_LUN:
	case VMBUS__STOR_RESET_ADAPTER:
	case VMBUS__STOR_RESET_BUS: /* requests end by themselves, [STOR-EVENT] */
		head.status =
			!port->primary || port->ready ? VMBUS__STOR_OK : VMBUS__STOR_INVALID_STATE;
		break;
	case VMBUS__STOR_EXECUTE_SRB: /* too early, or too short */
		head.status = port->primary && !port->ready ? VMBUS__STOR_INVALID_STATE
							    : VMBUS__STOR_INVALID_PARAMETER;
		break;
	default:
		head.status = vmbus__nexus_step(port, asked->op, msg, task->reply);
		break;
	}
	vmbus__stor_put(task->reply + 8, 4, head.status);
	vmbus__task_reply(task);
}

static void packet(struct vmbus__port *port, const struct vmbus_packet *pkt, uint32_t at)
{
	struct vmbus__stor_head head;
	struct vmbus__task *task;

	if (pkt->type == VMBUS_PKT_COMPLETION) {
		vmbus_chan_bad_completion(port->chan);
		return;
	}
	if (pkt->type != VMBUS_PKT_INBAND && pkt->type != VMBUS_PKT_GPA_DIRECT) {
		vmbus_chan_fail(port->chan, "a packet of a type that is no request");
		return;
	}
	if (pkt->len < VMBUS__STOR_HEAD_BYTES) {
		vmbus_chan_fail(port->chan, "a storage message of less than 12 bytes");
		return;
	}
	if (!(pkt->flags & VMBUS_PKT_FLAG_COMPLETE))
		return; /* it cannot be answered */
	task = vmbus__task_take(port);
	if (!task) {
		vmbus_chan_fail(port->chan, "more requests than the channel can have");
		return;
	}
	vmbus__stor_head_get(&head, pkt->payload);
	task->id = pkt->id;
	task->at = (uint8_t)at;
	task->reply_bytes = (uint8_t)(pkt->len < VMBUS__STOR_BYTES ? pkt->len : VMBUS__STOR_BYTES);
	port->batch[at] = task;
	if (VMBUS_LIKELY(head.op == VMBUS__STOR_EXECUTE_SRB) &&
	    pkt->len >= VMBUS__STOR_SHORT_BYTES && (port->ready || !port->primary))
		vmbus__srb_execute(port, pkt, task);
	else
		reply_step(port, pkt, &head, task);
}

/* What is not answered yet is beyond this callback from now on. */
static void keep_rest(struct vmbus__port *port, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct vmbus__task *const task = port->batch[i];

		if (!task)
			continue;
		port->batch[i] = NULL;
		task->at = VMBUS__NOWHERE;
		if (port->journal && vmbus_chan_pend(port->chan, &pkt[i]))
			vmbus_chan_fail(port->chan, "a request that cannot be kept");
	}
}

static void block_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus__port *const port = vmbus_chan_priv(chan);
	uint32_t i;

	begin_callback(port);
	for (i = 0; i < n; i++)
		packet(port, &pkt[i], i);
	end_callback(port);
	keep_rest(port, pkt, n);
	if (port->primary && VMBUS_UNLIKELY(port->nexus->unsettled))
		vmbus__nexus_settle(port);
}

/* With the lock: who says that there is something to see writes the descriptor after that, and a count
   without its word would keep us awake for ever. */
static void hear(struct vmbus__port *port)
{
	uint64_t count;

	pthread_mutex_lock(&port->block->lock);
	vmbus__st32_relaxed(&port->look, 0); /* BLOCKLIST.look */
	(void)!read(port->event_fd, &count, sizeof(count));
	pthread_mutex_unlock(&port->block->lock);
}

/* Somebody has written our descriptor: disks came or went, or the primary channel is ready. */
static void look(struct vmbus__port *port)
{
	hear(port);
	begin_callback(port);
	/* A channel that is to be saved is woken while answers wait, too: writable() wakes it again. */
	if (VMBUS_UNLIKELY(port->tell_after) && !port->replies.first)
		vmbus__nexus_tell_now(port);
	if (port->primary)
		vmbus__nexus_tell(port);
}

/* Nothing of the port is in a store any more. */
static void end_port(struct vmbus__port *port)
{
	struct vmbus_block *const block = port->block;

	vmbus__views_close(port);
	pthread_mutex_lock(&block->lock);
	*port->prev = port->next;
	if (port->next)
		port->next->prev = port->prev;
	pthread_mutex_unlock(&block->lock);
	vmbus__nexus_put(block, port->nexus);
	vmbus__port_free(port);
}

/* The channel was closed while stores had requests of it; nothing can be sent. */
static void go_on_closing(struct vmbus_chan *chan, struct vmbus__port *port)
{
	if (vmbus__ld32_relaxed(&port->look)) /* BLOCKLIST.look */
		hear(port);
	vmbus__views_ready(port);
	if (VMBUS_UNLIKELY(port->under_way && vmbus__port_is_time(port)))
		vmbus__views_cancel(port);
	vmbus__views_commit(port);
	if (VMBUS_UNLIKELY(port->reap))
		vmbus__views_reap(port);
	if (port->under_way)
		return;
	(void)vmbus_chan_watch(chan, -1);
	vmbus_chan_set_priv(chan, NULL);
	end_port(port);
	vmbus_chan_close_done(chan);
}

static void block_ready(struct vmbus_chan *chan)
{
	struct vmbus__port *const port = vmbus_chan_priv(chan);

	if (VMBUS_UNLIKELY(port->closing)) {
		go_on_closing(chan, port);
		return;
	}
	if (VMBUS_UNLIKELY(vmbus__ld32_relaxed(&port->look))) /* BLOCKLIST.look */
		look(port);
	vmbus__views_ready(port);
	end_callback(port);
}

static void block_writable(struct vmbus_chan *chan)
{
	struct vmbus__port *const port = vmbus_chan_priv(chan);

	vmbus__task_send_replies(port);
	if (port->replies.first)
		return;
	if (VMBUS_UNLIKELY(port->tell_after))
		vmbus__port_wake(port);
	if (port->primary)
		vmbus__nexus_tell(port);
}

/* ---- opening and closing ---- */

static void link_port(struct vmbus__port *port)
{
	struct vmbus_block *const block = port->block;

	pthread_mutex_lock(&block->lock);
	port->next = block->ports;
	port->prev = &block->ports;
	if (block->ports)
		block->ports->prev = &port->next;
	block->ports = port;
	pthread_mutex_unlock(&block->lock);
}

/* As both ways of opening begin. */
static int begin_open(struct vmbus_chan *chan, struct vmbus_block *block, struct vmbus__port **made)
{
	struct vmbus__port *port;
	int err;

	vmbus_chan_set_priv(chan, NULL);
	err = vmbus__port_make(block, chan, &port);
	if (err)
		return err;
	port->nexus = vmbus__nexus_get(block, vmbus_chan_primary(chan));
	if (!port->nexus) {
		vmbus__port_free(port);
		return VMBUS_E_NOMEM;
	}
	link_port(port);
	vmbus__views_refresh(port);
	*made = port;
	return 0;
}

static int end_open(struct vmbus_chan *chan, struct vmbus__port *port, int err)
{
	if (!err)
		err = vmbus_chan_watch(chan, port->epoll_fd);
	if (!err) {
		vmbus_chan_set_priv(chan, port);
		return 0;
	}
	vmbus_chan_set_priv(chan, NULL); /* restoring has set it */
	if (port->primary)
		vmbus__nexus_forget(port->block, port->nexus);
	end_port(port);
	return err;
}

static int block_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus__port *port;
	int err = begin_open(chan, ctx, &port);

	if (err)
		return err;
	if (port->primary && vmbus_chan_resumed(chan))
		err = vmbus__state_resume(port);
	return end_open(chan, port, err);
}

static int block_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct vmbus__port *port;
	const int err = begin_open(chan, vmbus_chan_ctx(chan), &port);

	if (err)
		return err;
	vmbus_chan_set_priv(chan, port);
	return end_open(chan, port, vmbus__state_restore(port, buf, bytes));
}

static int block_close(struct vmbus_chan *chan)
{
	struct vmbus__port *const port = vmbus_chan_priv(chan);

	port->closing = true;
	if (VMBUS_UNLIKELY(port->tell_after))
		vmbus__nexus_tell_now(port); /* other channels of the guest go on */
	vmbus__srb_drop(port);
	if (port->primary)
		vmbus__nexus_forget(port->block, port->nexus);
	if (port->under_way) {
		/* A disk that nothing of ours waits for may go, and another may come. */
		vmbus__views_close(port);
		vmbus__port_set_timer(port);
		return VMBUS_E_AGAIN; /* ready() comes until they are done */
	}
	vmbus_chan_set_priv(chan, NULL);
	end_port(port);
	return 0;
}

static const struct vmbus_vsp block_vsp = {
	.struct_bytes = sizeof(block_vsp),
	.name = "block",
	.class_id = CLASS,
	.offer_flags = VMBUS_OFFER_ENUMERATE,
	.max_payload = VMBUS__PAYLOAD_MAX,
	.flags = VMBUS_VSP_RESUMABLE,
	.open = block_open,
	.packets = block_packets,
	.writable = block_writable,
	.ready = block_ready,
	.close = block_close,
	.save = vmbus__state_save,
	.restore = block_restore,
	.save_bytes_max = STATE_BYTES_MAX,
	.pending_max = 1024,
	.pending_bytes = VMBUS__KEPT_BYTES,
	.own_bytes = OWN_BYTES,
};

const struct vmbus_vsp *vmbus_block_vsp(void)
{
	return &block_vsp;
}
