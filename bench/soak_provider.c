/* SPDX-License-Identifier: MIT */
/*
 * The device providers of vmbus-bench soak, which are killed, replaced, or stay: an echo device, disks in
 * memory of the parent's, and a NIC that sends every frame back; and the control, two processes with a
 * Unix socket between them and nothing of this library.
 */
#include "soak.h"

#include <vmbus/block.h>
#include <vmbus/echo.h>
#include <vmbus/net.h>
#include <vmbus/provider.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#define WAIT_NS (SOAK_SECOND / 2)
#define RETRY_US 2000u
#define RETRIES 2500u /* until the parent has noticed the death of the one before */
#define CONTROL_US 5000u

/* ---- a port that is a mirror ---- */

static int mirror_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	info->queues = 1;
	info->up = true;
	return 0;
}

static int mirror_open(struct vmbus_port_queue *queue)
{
	(void)queue;
	return 0;
}

static void mirror_close(struct vmbus_port_queue *queue)
{
	(void)queue;
}

static uint32_t mirror_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	uint8_t bytes[SOAK_FRAME_BYTES], mac[6];
	struct vmbus_iov piece = { .base = bytes };
	struct vmbus_frame back = { .piece = &piece, .pieces = 1 };

	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = 0;

		if (frame[i].bytes > sizeof(bytes))
			continue;
		for (uint32_t j = 0; j < frame[i].pieces; j++) {
			memcpy(bytes + len, frame[i].piece[j].base, frame[i].piece[j].len);
			len += (uint32_t)frame[i].piece[j].len;
		}
		memcpy(mac, bytes, 6);
		memcpy(bytes, bytes + 6, 6);
		memcpy(bytes + 6, mac, 6);
		if (len > offsetof(struct soak_frame, answer))
			bytes[offsetof(struct soak_frame, answer)] = 1;
		piece.len = back.bytes = len;
		(void)vmbus_port_deliver(queue, &back, 1);
	}
	return n;
}

static const struct vmbus_port_ops mirror_ops = {
	.struct_bytes = sizeof(mirror_ops),
	.name = "mirror",
	.info = mirror_info,
	.open = mirror_open,
	.close = mirror_close,
	.send = mirror_send,
};

/* ---- a provider ---- */

static int device(enum soak_series series, struct vmbus_provider_opts *opts)
{
	struct vmbus_net_opts net_opts = { .struct_bytes = sizeof(net_opts) };
	struct vmbus_block *block;
	struct vmbus_net *net;
	int err;

	switch (series) {
	case SOAK_ECHO_OUT:
		opts->vsp = vmbus_echo_vsp();
		opts->name = "soak-echo";
		return 0;
	case SOAK_NET_OUT:
		net_opts.port.ops = &mirror_ops;
		soak_mac(net_opts.mac, SOAK_CHILDREN_MAX);
		opts->vsp = vmbus_net_vsp();
		opts->name = "soak-net";
		err = vmbus_net_create(&net_opts, &net);
		opts->ctx = net;
		return err;
	default:
		opts->vsp = vmbus_block_vsp();
		opts->name = series == SOAK_BLOCK_OUT ? "soak-disk" : "soak-disk-steady";
		err = vmbus_block_create(NULL, &block);
		opts->ctx = block;
		return err;
	}
}

/* The disk's bytes are the parent's and outlive us. */
static int disk(struct vmbus_provider *provider, struct vmbus_block *block, uint32_t seats)
{
	struct vmbus_block_disk d = { .struct_bytes = sizeof(d) };
	const uint64_t bytes = (uint64_t)seats * SOAK_SHARE;
	int fd, err = vmbus_provider_memory(provider, "disk", bytes, &fd);

	if (err)
		return err;
	err = vmbus_store_memory(bytes, fd, &d.store);
	(void)close(fd);
	return err ? err : vmbus_block_add(block, &d);
}

int soak_provider(struct soak_shared *shared, const char *path, enum soak_series series,
		  bool take_over)
{
	const struct vmbus_guid id = SOAK_INSTANCE((uint32_t)series);
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	struct vmbus_provider *provider = NULL;
	char why[160] = "";
	int err;

	opts.instance_id = id;
	opts.take_over = take_over;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	err = device(series, &opts);
	for (uint32_t i = 0; !err && i < RETRIES; i++) {
		err = vmbus_provider_attach(&opts, &provider);
		if (err != VMBUS_E_STATE || take_over)
			break;
		err = 0;
		(void)usleep(RETRY_US);
	}
	if (!err && provider && opts.vsp == vmbus_block_vsp())
		err = disk(provider, opts.ctx, shared->count);
	if (err || !provider) {
		fprintf(stderr, "vmbus-bench: the provider of %s cannot begin: %s (%s)\n",
			soak_series_name[series], why, vmbus_err_name(err));
		return BENCH_EXIT_FAILED;
	}
	do
		err = vmbus_provider_wait(provider, WAIT_NS);
	while ((err >= 0 || err == VMBUS_E_AGAIN) && !load32(&shared->stop_all));
	vmbus_provider_detach(provider);
	return BENCH_EXIT_OK;
}

/* ---- the control ---- */

static _Noreturn void answer(int fd)
{
	uint8_t buf[64];
	ssize_t n;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		(void)!send(fd, buf, (size_t)n, 0);
	_exit(0);
}

int soak_control(struct soak_shared *shared)
{
	uint8_t buf[64] = { 0 };
	int fd[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) || (pid = fork()) < 0)
		return BENCH_EXIT_MACHINE;
	if (pid == 0) {
		(void)close(fd[0]);
		answer(fd[1]);
	}
	(void)close(fd[1]);
	while (!load32(&shared->stop_all)) {
		const uint64_t from = now_ns();

		if (send(fd[0], buf, sizeof(buf), 0) != (ssize_t)sizeof(buf) ||
		    recv(fd[0], buf, sizeof(buf), 0) != (ssize_t)sizeof(buf))
			break;
		soak_add(&shared->hist[SOAK_CONTROL], now_ns() - from);
		(void)usleep(CONTROL_US);
	}
	return BENCH_EXIT_OK;
}
