/* SPDX-License-Identifier: MIT */
/* The stores that are components: each is asked for something that cannot be. */
#include <stdio.h>

#include <vmbus/store_nbd.h>
#include <vmbus/store_uring.h>

int main(void)
{
	struct vmbus_store_uring_opts file = { 0 };
	struct vmbus_store_nbd_opts export = { 0 };
	struct vmbus_store store = { NULL, NULL };

	file.struct_bytes = sizeof(file);
	file.path = "/";
	export.struct_bytes = sizeof(export);
	if (vmbus_store_uring(&file, &store) != VMBUS_E_NOTSUP ||
	    vmbus_store_nbd(&export, &store) != VMBUS_E_INVAL)
		return 1;
	vmbus_store_destroy(&store);
	puts("refused");
	return 0;
}
