/* SPDX-License-Identifier: MIT */
/* Built without libseccomp: there is no filter of system calls. */
#include "sw.h"

int sw_unprivileged(void)
{
	return 0;
}

int sw_sandbox(bool sockets)
{
	(void)sockets;
	return sw_failed(
		"sandbox: this was built without libseccomp; --no-sandbox runs without one");
}
