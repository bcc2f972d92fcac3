/* SPDX-License-Identifier: MIT */
/* What the files of vmbus-uio share. */
#ifndef VMBUS_TOOLS_UIO_H
#define VMBUS_TOOLS_UIO_H

#include <vmbus/uio.h>

/* Exit statuses. */
#define UIO_OK 0
#define UIO_FAILED 1
#define UIO_USAGE 2

struct uio_echo {
	uint64_t packets;
	uint32_t payload;
	uint32_t window;
	uint32_t opens; /* so often the whole, each time on a new opening of the channel */
	uint32_t timeout_s;
	bool completions;
	bool json;
};

/* A number on the command line, 1 to max; ends the program if it is none. */
uint64_t uio_number(const char *word, const char *what, uint64_t max);
/* Say why something failed. */
int uio_failed(const char *word, int err, const char *why);

void uio_echo_option(struct uio_echo *echo, const char *name, const char *value);
int uio_echo(struct vmbus_uio_opts *opts, const struct uio_echo *echo);

#endif
