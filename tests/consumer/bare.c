/* SPDX-License-Identifier: MIT */
/* The bare backend as a component: links without a C library's help, and refuses wrong options. */
#include <stdio.h>
#include <string.h>

#include <vmbus/bare.h>
#include <vmbus/guest.h>

int main(void)
{
	struct vmbus_bare_opts opts = { 0 };
	struct vmbus_guest_opts guest_opts = { 0 };
	struct vmbus_guest *guest;
	struct vmbus_bare bare;

	opts.struct_bytes = sizeof(opts); /* no memory: nothing privileged is done */
	if (vmbus_bare_init(&bare, &opts) != VMBUS_E_INVAL)
		return 1;
	vmbus_bare_fini(&bare);
	if (vmbus_guest_create(&guest_opts, &guest) != VMBUS_E_INVAL)
		return 1;
	if (vmbus_bare_backend()->struct_bytes < sizeof(struct vmbus_guest_backend))
		return 1;
	printf("lack: %s\n", vmbus_bare_lack_name(vmbus_bare_lack(&bare)));
	return strcmp(vmbus_bare_lack_name(VMBUS_BARE_LACK_NOTHING), "nothing");
}
