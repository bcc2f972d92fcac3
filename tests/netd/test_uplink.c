/* SPDX-License-Identifier: MIT */
/* The uplink port, with a parent that is a process of the test's own and does what vmbus-switch does not. */
#include "netd.h"

#include <vmbus/net.h>
#include <vmbus/shm_bus.h>

/* ---- the parent: a NIC for each child, withdrawn by a signal ---- */

static struct vmbus_chan *nic;
static volatile sig_atomic_t asked;

static int sink_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->up = true;
	info->queues = 1;
	info->mtu_max = 1500;
	return 0;
}

static uint32_t sink_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	(void)queue, (void)frame;
	return n;
}

static const struct vmbus_port_ops sink_ops = {
	.struct_bytes = sizeof(sink_ops),
	.name = "sink",
	.info = sink_info,
	.send = sink_send,
};

static int on_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)child;
	return vmbus_bus_offer(bus, vmbus_net_vsp(), ctx, NULL, &nic);
}

/* The child has let go of the NIC, and gets no answer to what it says next. */
static void on_removed(void *ctx, struct vmbus_chan *chan)
{
	(void)ctx, (void)chan;
	for (;;)
		(void)pause();
}

static void on_signal(int number)
{
	(void)number;
	asked = 1;
}

static void serve(const char *path)
{
	struct vmbus_net_opts net_opts = { .struct_bytes = sizeof(net_opts),
					   .port = { &sink_ops, NULL },
					   .mac = { 2, 0, 0, 0, 0, 1 } };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
					      .path = path,
					      .attached = on_attached,
					      .removed = on_removed };
	struct vmbus_shm_server *server;
	struct vmbus_net *net;
	int err;

	(void)signal(SIGUSR1, on_signal);
	if (vmbus_net_create(&net_opts, &net))
		_exit(1);
	opts.ctx = net;
	if (vmbus_shm_listen(&opts, &server))
		_exit(2);
	for (;;) {
		err = vmbus_shm_server_run(server, 10000000);
		if (err < 0 && err != VMBUS_E_AGAIN)
			_exit(3);
		if (asked && nic)
			(void)vmbus_bus_revoke(nic);
		asked = 0;
	}
}

static pid_t start_parent(void)
{
	const pid_t pid = fork();

	must(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(in_place("s"));
	}
	wait_for_file("s");
	return pid;
}

/* ---- tests ---- */

/* The longest of its calls until the NIC is gone. */
static uint64_t longest_until_gone(struct vmbus_port *port, struct vmbus_port_queue *queue)
{
	const uint64_t until = now_ns() + WAIT_NS;
	uint64_t began, longest = 0;
	struct vmbus_port_info info;

	while (!port->ops->info(port->ctx, &info)) {
		must(now_ns() < until);
		(void)poll(&(struct pollfd){ .fd = queue->fd, .events = POLLIN }, 1, 10);
		began = now_ns();
		port->ops->ready(queue);
		if (now_ns() - began > longest)
			longest = now_ns() - began;
	}
	must_eq(port->ops->info(port->ctx, &info), VMBUS_E_PEER);
	return longest;
}

/* The longest call of a port whose parent takes its NIC and then says nothing. */
static uint64_t longest_of_silent(void)
{
	struct vmbus_port_uplink_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_port_queue queue = { .fd = -1 };
	struct vmbus_port port;
	uint64_t longest;
	pid_t pid;

	begin();
	pid = start_parent();
	opts.path = in_place("s");
	must_eq(vmbus_port_uplink(&opts, &port), 0);
	queue.ctx = port.ctx;
	must_eq(port.ops->open(&queue), 0);
	must_eq(kill(pid, SIGUSR1), 0);
	longest = longest_until_gone(&port, &queue);
	port.ops->close(&queue);
	vmbus_port_destroy(&port);
	kill(pid, SIGKILL);
	must_eq(end_of(pid), 128 + SIGKILL);
	finish();
	return longest;
}

/*
 * The thread of its queue has other NICs: it does not wait for a parent that says nothing, which is half a
 * second each time.  A busy machine may take that long as well, but not each time.
 */
START_TEST(uplink__leaves_a_parent_that_takes_its_nic_and_is_silent)
{
	bool at_once = false;
	uint32_t i;

	for (i = 0; i < 10 && !at_once; i++)
		at_once = longest_of_silent() < 400000000u;
	must(at_once);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "uplink", 60);

	tcase_add_test(tc, uplink__leaves_a_parent_that_takes_its_nic_and_is_silent);
}

VMBUS_TEST_MAIN("netd.uplink", tests)
