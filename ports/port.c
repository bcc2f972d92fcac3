/* SPDX-License-Identifier: MIT */
/*
 * What all ports share: how one ends.  It knows no port.
 */
#include <vmbus/port.h>

void vmbus_port_destroy(struct vmbus_port *port)
{
	if (port->ops && port->ops->destroy)
		port->ops->destroy(port->ctx);
	port->ops = NULL;
	port->ctx = NULL;
}

uint32_t vmbus_port_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	return queue->deliver_p(queue, frame, n);
}
