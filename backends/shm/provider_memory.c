/* SPDX-License-Identifier: MIT */
/*
 * Memory that the host keeps for providers, by class, name of the provider, and a name of its own.  It
 * outlives the provider, its device and every channel, until the provider gives it back or the host
 * ends.  Nothing of it is mapped or looked at here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>

#include <vmbus/shm.h>

#include "shm/provider_host.h"

#define OF_ONE_MAX 16u /* memories of one class and name */
#define ALL_MAX 256u

/* The place of a memory in the list, or of its end; how many there are of this provider. */
static struct vmbus__pvh_memory **find(const struct vmbus__pvh_device *device, const char *name,
				       uint32_t *count)
{
	struct vmbus__pvh_memory **at = &device->host->memories;

	for (*count = 0; *at; at = &(*at)->next) {
		if (!vmbus_guid_equal(&(*at)->class_id, &device->vsp.class_id) ||
		    strcmp((*at)->provider, device->name) != 0)
			continue;
		if (strcmp((*at)->name, name) == 0)
			break;
		++*count;
	}
	return at;
}

static void drop(struct vmbus_provider_host *host, struct vmbus__pvh_memory **at)
{
	struct vmbus__pvh_memory *const memory = *at;

	*at = memory->next;
	host->memory_used -= memory->bytes;
	host->memory_count--;
	vmbus__shm_close(&memory->fd);
	free(memory);
}

void vmbus__pvh_memory_free(struct vmbus_provider_host *host)
{
	while (host->memories)
		drop(host, &host->memories);
}

/* Make one of zeroes; a code of the protocol. */
static uint32_t make(const struct vmbus__pvh_device *device, const char *name, uint64_t bytes,
		     struct vmbus__pvh_memory **at)
{
	struct vmbus_provider_host *const host = device->host;
	struct vmbus__pvh_memory *made;

	if (bytes > host->opts.memory_bytes_max - host->memory_used ||
	    host->memory_count >= ALL_MAX)
		return VMBUS_SHM_CODE_FULL;
	made = calloc(1, sizeof(*made));
	if (!made)
		return VMBUS_SHM_CODE_SYSTEM;
	made->fd = vmbus_shm_create(bytes);
	if (made->fd < 0) {
		free(made);
		return VMBUS_SHM_CODE_SYSTEM;
	}
	made->class_id = device->vsp.class_id;
	made->bytes = bytes;
	memcpy(made->provider, device->name, sizeof(made->provider));
	memcpy(made->name, name, sizeof(made->name));
	*at = made;
	host->memory_used += bytes;
	host->memory_count++;
	return VMBUS_SHM_CODE_NONE;
}

/* The last question counts: who asks anew has given up waiting for the answer to the one before. */
const char *vmbus__pvh_memory_ask(struct vmbus__pvh_session *session,
				  const struct vmbus__pv_msg *msg)
{
	if (!msg->name[0] || msg->bytes > VMBUS_PV_MEMORY_MAX)
		return "memory that cannot be";
	session->memory_asked = true;
	session->memory = *msg;
	vmbus__pvh_kick(session->device->host);
	return NULL;
}

int vmbus__pvh_memory_answer(struct vmbus__pvh_session *session, struct vmbus__pv_msg *answer)
{
	const struct vmbus__pv_msg *const asked = &session->memory;
	const uint64_t bytes = vmbus__shm_whole_pages(asked->bytes);
	uint32_t count;
	struct vmbus__pvh_memory **const at = find(session->device, asked->name, &count);

	*answer = (struct vmbus__pv_msg){ .type = VMBUS_PV_MEMORY_IS,
					  .open = asked->open,
					  .bytes = bytes };
	if (bytes == 0 && *at)
		drop(session->device->host, at);
	if (bytes == 0)
		return -1;
	if (*at && (*at)->bytes != bytes)
		answer->code = VMBUS_SHM_CODE_TAKEN;
	else if (!*at && count >= OF_ONE_MAX)
		answer->code = VMBUS_SHM_CODE_FULL;
	else if (!*at)
		answer->code = make(session->device, asked->name, bytes, at);
	return answer->code ? -1 : (*at)->fd;
}
