/* SPDX-License-Identifier: MIT */
/*
 * Memory of the parent's, as its provider asks for it: one question at a time, and the thread waits
 * for the answer.  What else the parent says meanwhile is taken as ever, and acted upon later.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/provider_client.h"

/* What the parent says of a memory, for the question that waits if it is that one's. */
const char *vmbus__pvc_take_memory(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
				   struct vmbus__shm_record *record)
{
	struct vmbus__pvc_memory *const m = &provider->memory;
	const bool given = msg->code == VMBUS_SHM_CODE_NONE && msg->bytes;
	bool huge = false;

	if (msg->open == 0 || msg->open > m->serial || record->fd_count != (given ? 1 : 0))
		return "memory that was not asked for";
	if (!m->waits || msg->open != m->serial)
		return NULL; /* nobody waits for it any more */
	if (given &&
	    (m->bytes == 0 || vmbus__shm_check_memory(record->fds[0], m->bytes, &huge) || huge))
		return "memory that is not sealed against shrinking, too small, or of huge pages";
	m->waits = false;
	m->code = msg->code;
	m->fd = -1;
	if (given) {
		m->fd = record->fds[0];
		record->fds[0] = -1;
	} else if (!msg->code && m->bytes) {
		return "an answer without memory";
	}
	return NULL;
}

static int wait_for_socket(struct vmbus_provider *provider, uint64_t end)
{
	struct pollfd fd = { .fd = provider->sock,
			     .events = (short)(POLLIN | (provider->out ? POLLOUT : 0)) };
	const uint64_t now = vmbus__shm_now_ns();
	const uint64_t left = now < end ? end - now : 0;
	const struct timespec wait = { .tv_sec = (time_t)(left / 1000000000u),
				       .tv_nsec = (long)(left % 1000000000u) };

	if (left == 0)
		return VMBUS_E_AGAIN;
	return ppoll(&fd, 1, &wait, NULL) < 0 && errno != EINTR ? vmbus__shm_errno() : 0;
}

static int result(uint32_t code)
{
	switch (code) {
	case VMBUS_SHM_CODE_NONE:
		return 0;
	case VMBUS_SHM_CODE_FULL:
		return VMBUS_E_FULL;
	case VMBUS_SHM_CODE_TAKEN:
		return VMBUS_E_STATE;
	default:
		return VMBUS_E_NOMEM;
	}
}

/* Ask, and wait for the answer. */
static int ask(struct vmbus_provider *provider, const char *name, uint64_t bytes)
{
	const uint64_t end = vmbus__shm_in_ns(provider->timeout_ns);
	struct vmbus__pvc_memory *const m = &provider->memory;
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_MEMORY, .open = m->serial + 1u };
	int err = 0;

	if (m->serial == UINT32_MAX)
		return VMBUS_E_RANGE;
	msg.bytes = bytes;
	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	*m = (struct vmbus__pvc_memory){
		.waits = true, .serial = msg.open, .bytes = bytes, .fd = -1
	};
	vmbus__pvc_send(provider, &msg);
	while (m->waits && !provider->gone && !err) {
		vmbus__pvc_hear(provider);
		if (m->waits && !provider->gone)
			err = wait_for_socket(provider, end);
	}
	m->waits = false;
	vmbus__pvc_move_on(provider);
	if (provider->gone) {
		vmbus__shm_close(&m->fd);
		vmbus__pvc_end(provider);
		return VMBUS_E_PEER;
	}
	return err ? err : result(m->code);
}

/* Whether a name is what the parent will make of it. */
static bool name_ok(const char *name)
{
	size_t i;

	for (i = 0; name[i]; i++)
		if ((unsigned char)name[i] < 0x20 || (unsigned char)name[i] >= 0x7F)
			return false;
	return i > 0 && i < VMBUS_SHM_NAME_BYTES;
}

static int call(struct vmbus_provider *provider, const char *name, uint64_t bytes)
{
	int err;

	if (!name || !name_ok(name) || bytes > VMBUS_PV_MEMORY_MAX)
		return VMBUS_E_RANGE;
	if (provider->calling)
		return VMBUS_E_STATE;
	if (provider->ended)
		return VMBUS_E_PEER;
	provider->calling = true;
	err = ask(provider, name, bytes);
	provider->calling = false;
	return err;
}

int vmbus_provider_memory(struct vmbus_provider *provider, const char *name, uint64_t bytes,
			  int *fd)
{
	int err;

	*fd = -1;
	if (bytes == 0)
		return VMBUS_E_RANGE;
	err = call(provider, name, bytes);
	if (!err)
		*fd = provider->memory.fd;
	return err;
}

int vmbus_provider_memory_free(struct vmbus_provider *provider, const char *name)
{
	return call(provider, name, 0);
}
