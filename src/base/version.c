/* SPDX-License-Identifier: MIT */
/* The version that the library was built as. */
#include <vmbus/version.h>

uint32_t vmbus_version(void)
{
	return VMBUS_VERSION_NUMBER;
}

const char *vmbus_version_string(void)
{
	return VMBUS_VERSION_STRING;
}
