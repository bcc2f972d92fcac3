/* SPDX-License-Identifier: MIT */
/*
 * The network device between two processes while vmbusctl captures its channel: frames go on, and
 * tcpdump opens the file.  What is in the file are packets of the channel; files of the frames
 * themselves are those of the capturing port, tests/ports/test_portcap.c.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/net.h>
#include <vmbus/shm_bus.h>

#include "flow.h"
#include "vmbus_test.h"

#define SECOND 1000000000ull
#define PACKETS 300

static struct vmbus_net *net;
static uint64_t frames;

/* ---- a port that sends everything back ---- */

static int loop_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	*info = (struct vmbus_port_info){ .queues = 1, .up = true };
	return 0;
}

static uint32_t loop_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	must_eq(vmbus_port_deliver(queue, frame, n), n);
	frames += n;
	return n;
}

static const struct vmbus_port_ops loop_ops = {
	.struct_bytes = sizeof(loop_ops),
	.name = "loop",
	.info = loop_info,
	.send = loop_send,
};

/* ---- the child, which sends until it is ended ---- */

static bool is_ready;

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	if (err)
		_exit(2);
	is_ready = true;
}

static int child(const char *path)
{
	static const struct vmbus_guid class_id = VMBUS_NET_CLASS;
	static struct vmbus_netvsc nv;
	static struct vmbus_netvsc_chan chan;
	static struct flow flow = { .nv = &nv, .window = 64, .total = UINT32_MAX };
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts),
					  .chan = &chan,
					  .filter = VMBUS_NETVSC_PROMISCUOUS,
					  .ready = on_ready };
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc;

	at.memory_bytes = UINT64_C(32) << 20;
	at.name = "sender";
	if (vmbus_shm_attach(&at, &attach))
		return 3;
	guest = vmbus_shm_guest(attach);
	if (vmbus_guest_connect(guest) ||
	    vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 10 * SECOND))
		return 4;
	vsc = vmbus_vsc_find(guest, &class_id, 0);
	if (!vsc || vmbus_netvsc_start(&nv, vsc, &opts))
		return 5;
	while (vmbus_shm_attach_wait(attach, SECOND / 20) != VMBUS_E_PEER) {
		const int n = is_ready ? flow_turn(&flow) : 0;

		if (flow.wrong || flow.err || (n < 0 && n != VMBUS_E_AGAIN))
			return 6;
	}
	return 0;
}

/* ---- the parent, and the tools ---- */

static int attached(void *ctx, struct vmbus_shm_child *process, struct vmbus_bus *bus)
{
	struct vmbus_chan *chan;

	(void)ctx;
	(void)process;
	return vmbus_bus_offer(bus, vmbus_net_vsp(), net, NULL, &chan);
}

struct tool {
	char command[512], text[1 << 16];
	int status;
	bool done;
};

static void *run(void *arg)
{
	struct tool *const tool = arg;
	FILE *const pipe = popen(tool->command, "re");
	size_t len;

	must(pipe != NULL);
	len = fread(tool->text, 1, sizeof(tool->text) - 1, pipe);
	tool->text[len] = '\0';
	tool->status = pclose(pipe);
	__atomic_store_n(&tool->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void serve(struct vmbus_shm_server *server)
{
	const int err = vmbus_shm_server_run(server, SECOND / 10);

	must(err >= 0 || err == VMBUS_E_AGAIN);
}

static uint32_t lines_of(const char *text)
{
	uint32_t n = 0;

	while ((text = strchr(text, '\n')) != NULL) {
		text++;
		n++;
	}
	return n;
}

static void look_into(const char *file)
{
	static struct tool tool;

	if (system("tcpdump --version >/dev/null 2>&1"))
		VMBUS_TEST_SKIP("tcpdump is not installed");
	/* It says so of packets whose contents it does not know, and prints their bytes. */
	(void)snprintf(tool.command, sizeof(tool.command),
		       "tcpdump -nr %s 2>&1 | grep -E 'link-type 147|^[0-9:.]+ UNSUPPORTED'", file);
	(void)run(&tool);
	must_eq(tool.status, 0);
	must(strstr(tool.text, "link-type 147") != NULL);
	must(lines_of(tool.text) > PACKETS);
}

/* vmbusctl in a thread, while this one serves. */
static void capture(struct vmbus_shm_server *server, const char *program, const char *path,
		    const char *file)
{
	static struct tool tool;
	pthread_t thread;

	(void)snprintf(tool.command, sizeof(tool.command), "%s capture -s %s -n %d -w %s 2>&1",
		       program, path, PACKETS, file);
	must_eq(pthread_create(&thread, NULL, run, &tool), 0);
	while (!__atomic_load_n(&tool.done, __ATOMIC_ACQUIRE))
		serve(server);
	must_eq(pthread_join(thread, NULL), 0);
	if (tool.status || !strstr(tool.text, "300 packets captured"))
		ck_abort_msg("status %d: %s", tool.status, tool.text);
}

START_TEST(netvsc__is_captured_between_processes)
{
	const char *const build = getenv("VMBUS_BUILD_DIR");
	struct vmbus_net_opts nic = { .struct_bytes = sizeof(nic), .port = { &loop_ops, NULL } };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_shm_server *server;
	char path[64], file[64], program[300];
	int status;
	pid_t pid;

	(void)snprintf(program, sizeof(program), "%s/tools/vmbusctl", build ? build : ".");
	if (access(program, X_OK))
		VMBUS_TEST_SKIP("vmbusctl is not built");
	(void)snprintf(path, sizeof(path), "/tmp/vmbus-captured-%d.sock", (int)getpid());
	(void)snprintf(file, sizeof(file), "/tmp/vmbus-captured-%d.pcapng", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.allow_capture = true;
	must_eq(vmbus_shm_listen(&opts, &server), 0);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		_exit(child(path));
	must_eq(vmbus_net_create(&nic, &net), 0);
	while (frames < 1000)
		serve(server);
	capture(server, program, path, file);
	vmbus_shm_server_destroy(server);
	must_eq(waitpid(pid, &status, 0), pid);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 0);
	vmbus_net_destroy(net);
	look_into(file);
	must(unlink(file) == 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "processes", 60);

	tcase_add_test(tc, netvsc__is_captured_between_processes);
}

VMBUS_TEST_MAIN("net.captured", tests)
