/* SPDX-License-Identifier: MIT */
/* The port that is a component: it is asked for something that cannot be, and then made. */
#include <stdio.h>

#include <vmbus/port_slirp.h>

int main(void)
{
	struct vmbus_port_slirp_opts opts = { 0 };
	struct vmbus_port port = { NULL, NULL };

	opts.struct_bytes = sizeof(opts);
	opts.mtu = 1;
	if (vmbus_port_slirp(&opts, &port) != VMBUS_E_RANGE)
		return 1;
	opts.mtu = 0;
	if (vmbus_port_slirp(&opts, &port) || !port.ops)
		return 1;
	vmbus_port_destroy(&port);
	puts("made");
	return 0;
}
