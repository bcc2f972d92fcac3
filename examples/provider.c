/* SPDX-License-Identifier: MIT */
/*
 * A device in a process of its own: a parent that lets providers attach, a provider that is killed
 * and started again, and a child that sees nothing of it but a pause.
 *
 * Shows: a resumable VSP; the parent's side in two calls; what a provider's program is made of.
 */
#include <signal.h>
#include <string.h>

#include <vmbus/provider.h>

#include "example.h"

#define REQUESTS 300000u

#define CLASS VMBUS_GUID(0x5ad1c0de, 0x0e1f, 0x4a2b, 0x8c, 0x3d, 0x10, 0x21, 0x32, 0x43, 0x54, 0x65)
static const struct vmbus_guid class_id = CLASS;

/* ---- the provider ---- */

/* Each request is completed before the callback ends, so nothing is pended, and no state is kept. */
static void double_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	uint64_t n = 0;

	memcpy(&n, pkt->payload, pkt->len < sizeof(n) ? pkt->len : sizeof(n));
	n *= 2;
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		must(vmbus_chan_complete(chan, pkt->id, &n, sizeof(n)), "complete");
}

static void packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, double_one);
}

static const struct vmbus_vsp doubler = {
	.struct_bytes = sizeof(doubler),
	.name = "doubler",
	.class_id = CLASS,
	.max_payload = 64,
	.flags = VMBUS_VSP_RESUMABLE,
	.packets = packets,
};

static void provide(const char *path)
{
	struct vmbus_provider_opts opts = {
		.struct_bytes = sizeof(opts), .path = path, .name = "doubler", .vsp = &doubler
	};
	struct vmbus_provider *provider;
	int err;

	must(vmbus_provider_attach(&opts, &provider), "attach as a provider");
	do
		err = vmbus_provider_wait(provider, 10 * SECONDS);
	while (err >= 0 || err == VMBUS_E_AGAIN);
	vmbus_provider_detach(provider); /* the parent has ended */
}

/* ---- the child ---- */

static uint32_t done, wrong;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	const uint64_t n = 2 * (uint64_t)(uintptr_t)cookie;

	(void)vsc;
	done++;
	wrong += !pkt || pkt->len != sizeof(n) || memcmp(pkt->payload, &n, sizeof(n)) != 0;
}

static void child(const char *path)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = completed };
	struct example_child me = example_open(path, "example", &class_id, &opts);
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	uint64_t n = 0;
	int err;

	while (done < REQUESTS) {
		msg.data = &n;
		msg.len = sizeof(n);
		err = n < REQUESTS ? vmbus_vsc_request(me.vsc, &msg, (void *)(uintptr_t)n)
				   : VMBUS_E_FULL;
		if (err >= 0)
			n++;
		else if (err != VMBUS_E_FULL)
			must(err, "request");
		else
			must(vmbus_shm_attach_wait(me.attach, 5 * SECONDS), "wait");
	}
	printf("child:  %u requests answered, %u of them wrong\n", done, wrong);
	example_close(&me);
	exit(wrong ? 1 : 0);
}

/* ---- the parent ---- */

static pid_t start(void (*what)(const char *path), const char *path)
{
	const pid_t pid = fork();

	must(pid < 0 ? VMBUS_E_SYSTEM : 0, "fork");
	if (pid == 0) {
		what(path);
		_exit(0);
	}
	return pid;
}

int main(void)
{
	struct vmbus_provider_host_opts host = { .struct_bytes = sizeof(host) };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_shm_server *server;
	pid_t provider, kid;
	int status, rounds;
	char path[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(path, sizeof(path), "/tmp/vmbus-provider-%d.sock", (int)getpid());
	opts.path = path;
	must(vmbus_provider_listen(&host, &opts.providers), "let providers attach");
	must(vmbus_shm_listen(&opts, &server), "listen");
	provider = start(provide, path);
	for (rounds = 0; rounds < 50; rounds++) /* so that the child finds the device */
		(void)vmbus_shm_server_run(server, SECONDS / 100);
	kid = start(child, path);
	for (rounds = 0; waitpid(kid, &status, WNOHANG) == 0; rounds++) {
		(void)vmbus_shm_server_run(server, SECONDS / 100);
		if (rounds % 4 == 3 && rounds < 16) {
			kill(provider, SIGKILL);
			waitpid(provider, NULL, 0);
			printf("parent: the provider was killed; starting another one\n");
			provider = start(provide, path);
		}
	}
	vmbus_shm_server_destroy(server);
	vmbus_provider_host_destroy(opts.providers);
	waitpid(provider, NULL, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
