/* SPDX-License-Identifier: MIT */
/*
 * A server with device providers: connections that say PROVIDE are the provider host's, each child's
 * bus is its too, and it is dispatched with the server.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>
#include <sys/epoll.h>

#include "shm/parent.h"
#include "shm/provider_host.h"

#define MESSAGES 256u /* of providers, in one dispatch of the server */

int vmbus__shm_providers_watch(struct vmbus_shm_server *server)
{
	if (!server->opts.providers)
		return 0;
	return vmbus__shm_epoll_add(server->epoll_fd,
				    vmbus_provider_host_fd(server->opts.providers), EPOLLIN,
				    vmbus__shm_tag(VMBUS_SHM_EV_PROVIDERS, 0, 0));
}

uint32_t vmbus__shm_providers_event(struct vmbus_shm_server *server)
{
	const int done = vmbus_provider_host_dispatch(server->opts.providers, MESSAGES);

	return done > 0 ? (uint32_t)done : 0;
}

/* A connection's first message is a provider's: 0, and sock is taken, or a code with a text. */
uint32_t vmbus__shm_providers_take(struct vmbus_shm_server *server, int sock,
				   const struct vmbus__shm_record *record, const char **text)
{
	struct vmbus__pv_msg msg;
	const int err = vmbus__pv_decode(record->bytes, record->len, &msg);

	*text = err == VMBUS_E_NOTSUP ? "another version of the socket protocol"
				      : "a message that nobody begins with";
	if (err == VMBUS_E_NOTSUP)
		return VMBUS_SHM_CODE_VERSION;
	if (err || msg.type != VMBUS_PV_PROVIDE)
		return VMBUS_SHM_CODE_MESSAGE;
	*text = "this parent takes no device providers";
	if (!server->opts.providers)
		return VMBUS_SHM_CODE_DENIED;
	vmbus__shm_epoll_del(server->epoll_fd, sock);
	vmbus__pvh_take(server->opts.providers, sock, &msg);
	return 0;
}

void vmbus__shm_providers_add(struct vmbus_shm_child *child)
{
	struct vmbus_provider_host *const host = child->server->opts.providers;
	int err;

	if (!host)
		return;
	err = vmbus_provider_host_add_bus(host, child->bus, child->regions, 1);
	if (err)
		vmbus__shm_log(&child->server->log, VMBUS_LOG_ERROR,
			       "%s: no devices of providers for it: %s%s", child->name,
			       vmbus_err_name(err),
			       err == VMBUS_E_INVAL ? ", its memory is of huge pages" : "");
}

void vmbus__shm_providers_remove(struct vmbus_shm_child *child)
{
	if (child->server->opts.providers && child->bus)
		vmbus_provider_host_remove_bus(child->server->opts.providers, child->bus);
}
