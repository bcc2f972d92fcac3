/* SPDX-License-Identifier: MIT */
/*
 * The link of a NIC, as its guest is told of it: the last state counts, and two changes are not told
 * within two seconds, which Linux would delay and others miss, [NET-SUB].
 */
#include "net/control.h"

#include <time.h>

#define NS_OF_MS 1000000u
#define BITS_OF_UNIT 100u /* of the speed that a guest is told */

uint64_t vmbus__net_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / NS_OF_MS;
}

void vmbus__net_link_told(struct vmbus__net_chan *ch, bool up)
{
	struct vmbus__net_control *const control = ch->session->control;

	control->told_up = up;
	control->told_ms = vmbus__net_now_ms();
}

/* The shape's link, and that the port has other abilities, which channels look at when it is counted. */
static void take_up(struct vmbus__net_chan *ch, bool up)
{
	struct vmbus_net *const net = ch->net;
	struct vmbus__net_shape *shape;
	bool asked;

	pthread_mutex_lock(&net->lock);
	asked = net->asked;
	net->asked = false;
	pthread_mutex_unlock(&net->lock);
	if (!asked && ch->session->shape.link == up)
		return;
	shape = vmbus__net_shape_begin(ch);
	shape->link = up;
	vmbus__net_shape_end(ch);
}

static bool tell_speed(struct vmbus__net_chan *ch, uint64_t bits)
{
	const uint64_t units = bits / BITS_OF_UNIT;
	uint8_t speed[4];

	vmbus__net_put32(speed, units > UINT32_MAX ? UINT32_MAX : (uint32_t)units);
	return vmbus__net_indicate(ch, VMBUS__RNDIS_LINK_SPEED, speed, sizeof(speed));
}

/* The guest is there to be told; what does not find room comes again. */
static void tell(struct vmbus__net_chan *ch, bool up, uint64_t bits)
{
	struct vmbus__net_control *const control = ch->session->control;

	if (control->told_bits != bits && tell_speed(ch, bits))
		control->told_bits = bits;
	if (control->told_up != up) {
		const uint64_t now = vmbus__net_now_ms(), past = now - control->told_ms;

		if (past < VMBUS__NET_LINK_MS) {
			vmbus__net_timer(ch, (uint32_t)(VMBUS__NET_LINK_MS - past));
			return;
		}
		if (vmbus__net_indicate(
			    ch, up ? VMBUS__RNDIS_MEDIA_CONNECT : VMBUS__RNDIS_MEDIA_DISCONNECT,
			    NULL, 0))
			vmbus__net_link_told(ch, up);
	}
}

void vmbus__net_link_go_on(struct vmbus__net_chan *ch)
{
	uint64_t bits;
	const bool up = vmbus__net_is_up(ch->net, &bits);

	take_up(ch, up);
	if (ch->session->control->state == VMBUS__NET_READY)
		tell(ch, up, bits);
}
