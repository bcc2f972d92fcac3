/* SPDX-License-Identifier: MIT */
/* Captures that the parent's side has under way: what the server calls. */
#ifndef VMBUS_SHM_CAPTURE_H
#define VMBUS_SHM_CAPTURE_H

#include "shm/capture_proto.h"
#include "shm/parent.h"

/* Begin one: 0, and sock is taken, or an error with code and text for REFUSED. */
int vmbus__shm_capture_begin(struct vmbus_shm_server *server, int sock,
			     const struct vmbus__cp_capture *msg, struct vmbus__shm_text *refused);

/* Its socket is readable or closed: it ends. */
void vmbus__shm_capture_event(struct vmbus_shm_server *server, uint32_t slot, uint32_t gen);

/* End those of a bus, or with NULL all; the server forgets them. */
void vmbus__shm_capture_forget(struct vmbus_shm_server *server, const struct vmbus_bus *bus);

#endif
