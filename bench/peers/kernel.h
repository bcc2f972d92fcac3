/* SPDX-License-Identifier: MIT */
/* What the pipe and the Unix socket share: the kernel's release as their version. */
#ifndef BENCH_PEERS_KERNEL_H
#define BENCH_PEERS_KERNEL_H

#include <sys/utsname.h>

static inline const char *kernel_version(void)
{
	static struct utsname name;

	return uname(&name) ? "unknown" : name.release;
}

#endif
