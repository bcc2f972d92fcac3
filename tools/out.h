/* SPDX-License-Identifier: MIT */
/* What every tool does last. */
#ifndef VMBUS_TOOLS_OUT_H
#define VMBUS_TOOLS_OUT_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The exit status of a program: a failure, 1, if what it printed did not get out. */
static inline int out_status(const char *name, int status)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "%s: what was printed is not complete: %s\n", name,
		errno ? strerror(errno) : "writing to the standard output failed");
	return status ? status : 1;
}

#endif
