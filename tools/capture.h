/* SPDX-License-Identifier: MIT */
/* What the files of vmbusctl capture and replay share. */
#ifndef VMBUSCTL_CAPTURE_H
#define VMBUSCTL_CAPTURE_H

#include <stdio.h>

#include <vmbus/capture.h>
#include <vmbus/vmbus.h>

#include "ctl.h"

/* The command line of capture and of replay, from the command's name on; exit status. */
int ctl_capture(int argc, char **argv);
int ctl_replay(int argc, char **argv);

/* Every record of a file, a line or a JSON object for each. */
int ctl_capture_print(const char *path, bool json);

/* A file to read; NULL, and the reason is told, when it cannot be opened. */
struct vmbus_capture_reader *ctl_capture_open(const char *path, FILE **file);
/* Tell why it cannot be read on; returns the exit status. */
int ctl_capture_failed(const char *path, const struct vmbus_capture_reader *reader, int err);

#endif
