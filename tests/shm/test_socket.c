/* SPDX-License-Identifier: MIT */
/* The parent's socket: backends/shm/socket.c, server.c, and the end of a child in turn.c. */
#include "shm/host.h"

#include <sys/mman.h>
#include <sys/resource.h>

/* Every type, and numbers that are none. */
#define TYPES (VMBUS_SHM_TYPES + 1)

static struct vmbus__shm_msg msg_of(uint32_t type)
{
	struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);

	msg.type = type;
	return msg;
}

START_TEST(shm_listen__refuses_options)
{
	struct host host;
	char path[128];

	host_init(&host);
	host.opts.struct_bytes = 0;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_INVAL);
	must(host.server == NULL);
	host_init(&host);
	host.opts.path = NULL;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_INVAL);
	host_init(&host);
	host.opts.limits.struct_bytes = 4;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_INVAL);
	host_init(&host);
	host.opts.children_max = 4097;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host_init(&host);
	host.opts.mode = 01600;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host_init(&host);
	host.opts.budget = UINT32_MAX;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host.opts.budget = 0;
	host.opts.path = "";
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	memset(path, 'x', sizeof(path));
	path[97] = 0;
	memcpy(path, "/tmp/", 5);
	host.opts.path = path;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	path[96] = 0;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), 0);
	vmbus_shm_server_destroy(host.server);
}
END_TEST

START_TEST(shm_listen__permissions_whatever_the_umask)
{
	struct host host;
	struct stat st;

	umask(0177);
	host_open(&host);
	must_eq(stat(host.path, &st), 0);
	must_eq(st.st_mode & 0777, 0600);
	host_close(&host);
	host_init(&host);
	host.opts.mode = 0666;
	host_listen(&host);
	must_eq(stat(host.path, &st), 0);
	must_eq(st.st_mode & 0777, 0666);
	host_close(&host);
}
END_TEST

START_TEST(shm_listen__a_stale_socket_is_replaced_and_a_live_one_is_not)
{
	struct host host, other;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	int sock;

	host_init(&host);
	memcpy(at.sun_path, host.path, sizeof(host.path));
	sock = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	must_eq(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	close(sock);
	must_eq(lstat(host.path, &st), 0);
	host_listen(&host);

	other = host;
	must_eq(vmbus_shm_listen(&other.opts, &other.server), VMBUS_E_STATE);
	must_eq(errno, EADDRINUSE);
	host_spin(&host);
	host_close(&host);

	sock = open(host.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(sock);
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_SYSTEM);
	must_eq(errno, EEXIST);
	must_eq(unlink(host.path), 0);
	host.opts.path = "/tmp/no such folder/socket";
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_SYSTEM);
	must_eq(errno, ENOENT);
}
END_TEST

START_TEST(shm_server_destroy__leaves_a_path_that_is_another_s)
{
	struct host host;
	int fd;

	host_open(&host);
	must_eq(unlink(host.path), 0);
	fd = open(host.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	must(fd >= 0);
	close(fd);
	vmbus_shm_server_destroy(host.server);
	must_eq(unlink(host.path), 0);
	vmbus_shm_server_destroy(NULL);
}
END_TEST

START_TEST(shm_listen__no_descriptors_left)
{
	struct rlimit limit, low;
	struct host host;
	unsigned int n;

	must_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (n = 3; n < 9; n++) {
		host_init(&host);
		low = limit;
		low.rlim_cur = n;
		must_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
		if (vmbus_shm_listen(&host.opts, &host.server) == 0)
			vmbus_shm_server_destroy(host.server);
		else
			must_eq(errno, EMFILE);
		must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		must_eq(access(host.path, F_OK), -1);
	}
}
END_TEST

START_TEST(hello__is_answered_with_sealed_memory)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct host host;
	struct stat st;
	int sock;

	host_open(&host);
	sock = raw_attach(&host, &welcome, &record);
	must_eq(record.fd_count, 4);
	must_eq(fcntl(record.fds[0], F_GET_SEALS) & all, all);
	must_eq(fstat(record.fds[0], &st), 0);
	must_eq(st.st_size, 1 << 20);
	must_eq(welcome.memory, 1 << 20);
	must_eq(welcome.vps, 1);
	must_eq(welcome.heap, 4);
	must_eq(fcntl(record.fds[0], F_GETFD), FD_CLOEXEC);
	must_eq(host.attached, 1);
	must_eq(vmbus_shm_child_pid(host.child), getpid());
	must(strcmp(vmbus_shm_child_name(host.child), "raw") == 0);
	must_eq(host.detached, 0);
	vmbus__shm_record_close(&record);
	close(sock);
	host_spin(&host);
	must_eq(host.ends[VMBUS_SHM_DIED], 1);
	host_close(&host);
}
END_TEST

START_TEST(hello__refused_with_a_reason)
{
	struct {
		uint64_t memory;
		uint32_t vps, flags, code;
	} row[] = {
		{ (1 << 24) + 1, 1, 0, VMBUS_SHM_CODE_MEMORY },
		{ UINT64_MAX, 1, 0, VMBUS_SHM_CODE_MEMORY },
		{ 5 * 4096 - 1, 1, 0, VMBUS_SHM_CODE_MEMORY },
		{ 0, 1, 0, VMBUS_SHM_CODE_MEMORY },
		{ 11 * 4096 - 1, 4, 0, VMBUS_SHM_CODE_MEMORY },
		{ 1 << 20, 0, 0, VMBUS_SHM_CODE_VPS },
		{ 1 << 20, 5, 0, VMBUS_SHM_CODE_VPS },
		{ 1 << 20, UINT32_MAX, 0, VMBUS_SHM_CODE_VPS },
		{ 1 << 20, 1, 2, VMBUS_SHM_CODE_MESSAGE },
	};
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	unsigned int i;

	host_init(&host);
	host.opts.memory_bytes_max = 1 << 24;
	host.opts.vps_max = 4;
	host_listen(&host);
	for (i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const int sock = raw_connect(host.path);

		vmbus_test_at("row %u", i);
		msg = raw_hello(row[i].memory, row[i].vps);
		msg.u.hello.flags = row[i].flags;
		raw_say(sock, &msg);
		msg = raw_answer(&host, sock, &record);
		must_eq(msg.type, VMBUS_SHM_REFUSED);
		must_eq(msg.u.text.code, row[i].code);
		must(msg.u.text.text[0] != 0);
		must_eq(record.fd_count, 0);
		must(raw_is_closed(sock));
		close(sock);
	}
	must_eq(host.attached, 0);
	host.refuse = VMBUS_E_PERM;
	{
		const int sock = raw_connect(host.path);

		msg = raw_hello(1 << 20, 1);
		raw_say(sock, &msg);
		msg = raw_answer(&host, sock, &record);
		must_eq(msg.u.text.code, VMBUS_SHM_CODE_DENIED);
		close(sock);
	}
	must_eq(host.attached, 1);
	must_eq(host.detached, 0);
	must_eq(count_memory(), 0);
	host_close(&host);
}
END_TEST

static char unsent[400]; /* the line of a WELCOME that could not be sent */

static void keep_unsent(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (strstr(line, "WELCOME"))
		(void)snprintf(unsent, sizeof(unsent), "%s", line);
}

START_TEST(hello__welcome_that_cannot_be_sent_is_logged)
{
	const struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
	struct host host;
	int sock;

	host_init(&host);
	host.opts.log = keep_unsent;
	host_listen(&host);
	sock = raw_connect(host.path);
	raw_say(sock, &msg);
	close(sock);
	host_spin(&host);
	must_eq(host.ends[VMBUS_SHM_DIED], 1);
	must(strstr(unsent, strerror(EPIPE)) != NULL);
	host_close(&host);
}
END_TEST

START_TEST(hello__as_many_children_as_the_option_says)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	int sock[3], i;

	host_init(&host);
	host.opts.children_max = 2;
	host_listen(&host);
	for (i = 0; i < 2; i++) {
		sock[i] = raw_attach(&host, &welcome, &record);
		vmbus__shm_record_close(&record);
	}
	sock[2] = raw_connect(host.path);
	msg = raw_hello(1 << 20, 1);
	raw_say(sock[2], &msg);
	msg = raw_answer(&host, sock[2], &record);
	must_eq(msg.u.text.code, VMBUS_SHM_CODE_FULL);
	close(sock[2]);
	close(sock[0]); /* one leaves, the next may come at once */
	host_spin(&host);
	sock[0] = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	host_close(&host); /* with two attached */
	must_eq(host.ends[VMBUS_SHM_LEFT], 2);
	must_eq(host.detached, 3);
	must(raw_is_closed(sock[0]) && raw_is_closed(sock[1]));
	close(sock[0]);
	close(sock[1]);
	must_eq(count_memory(), 0);
}
END_TEST

START_TEST(attached_child__bye_garbage_and_kick)
{
	static const uint32_t end_of[] = { VMBUS_SHM_LEFT, VMBUS_SHM_BROKE, VMBUS_SHM_BROKE };
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	int i;

	host_open(&host);
	for (i = 0; i < 3; i++) {
		const int sock = raw_attach(&host, &welcome, &record);

		vmbus__shm_record_close(&record);
		if (i == 0)
			vmbus__shm_send_text(sock, VMBUS_SHM_BYE, 0, "");
		else if (i == 1)
			must_eq(raw_send(sock, "garbage", 7, 0), 7);
		else
			vmbus_shm_child_kick(host.child, "because");
		if (i == 2) {
			msg = raw_answer(&host, sock, &record);
			must_eq(msg.type, VMBUS_SHM_BYE);
			must_eq(msg.u.text.code, VMBUS_SHM_CODE_KICKED);
			must(strcmp(msg.u.text.text, "because") == 0);
		}
		host_spin(&host);
		must_eq(host.detached, i + 1);
		must(host.ends[end_of[i]] > 0);
		must(raw_is_closed(sock));
		close(sock);
	}
	must_eq(host.ends[VMBUS_SHM_BROKE], 2);
	host_close(&host);
}
END_TEST

/* To a connection that said nothing, and to a child that is attached: with 0 to 253 descriptors. */
START_TEST(lesson_25_descriptors_with_every_message_are_closed)
{
	static const int counts[] = { 0, 1, 2, 3, 4, 5, 16, 64, 200, 252, 253 };
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	struct host host;
	unsigned int type, c, attach;
	int before;

	host_init(&host);
	host.opts.attach_rate_max = 1000000;
	host_listen(&host);
	host_spin(&host);
	before = vmbus_test_count_fds();
	for (type = 0; type < TYPES; type++) {
		for (c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
			for (attach = 0; attach < 2; attach++) {
				const struct vmbus__shm_msg msg = msg_of(type);
				const uint32_t len = vmbus__shm_encode(&msg, bytes);
				int sock;

				vmbus_test_at("type %u, %d descriptors", type, counts[c]);
				if (attach) {
					sock = raw_attach(&host, &welcome, &record);
					vmbus__shm_record_close(&record);
				} else {
					sock = raw_connect(host.path);
				}
				must(raw_send(sock, bytes, len ? len : 16, counts[c]) > 0);
				host_spin(&host);
				(void)raw_is_closed(sock);
				close(sock);
				host_spin(&host);
				must_eq(vmbus_test_count_fds(), before);
			}
		}
	}
	must_eq(host.attached, host.detached);
	must_eq(count_memory(), 0);
	host_close(&host);
}
END_TEST

/* Every length of every message, and one byte more; what does not fit ends the connection. */
START_TEST(lesson_26_messages_cut_at_every_length)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX + 1] = { 0 };
	struct host host;
	unsigned int type;
	uint32_t len, full;

	host_open(&host);
	for (type = 1; type < TYPES; type++) {
		const struct vmbus__shm_msg msg = msg_of(type);

		full = vmbus__shm_encode(&msg, bytes);
		for (len = 1; len <= full + 8; len++) {
			const int sock = raw_connect(host.path);

			vmbus_test_at("type %u, %u of %u bytes", type, len, full);
			must_eq(raw_send(sock, bytes, len, 0), len);
			host_spin(&host);
			if (len != full)
				must(raw_is_closed(sock));
			close(sock);
			host_spin(&host);
		}
	}
	must_eq(host.attached, 1);
	must_eq(host.detached, 1);
	must_eq(raw_send(-1, bytes, 1, 0), -1);
	{
		const int sock = raw_connect(host.path);

		must_eq(raw_send(sock, bytes, VMBUS_SHM_MSG_MAX + 1, 0), VMBUS_SHM_MSG_MAX + 1);
		host_spin(&host);
		must(raw_is_closed(sock));
		close(sock);
	}
	host_close(&host);
}
END_TEST

/* Two messages of any types in any order, sent at once or one by one, then silence and the end. */
START_TEST(lesson_26_any_two_messages_then_disconnect)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	struct vmbus__shm_msg msg;
	struct host host;
	unsigned int a, b, at_once;
	int before;

	host_open(&host);
	host.channels = 3;
	before = vmbus_test_count_fds();
	for (a = 0; a < TYPES; a++) {
		for (b = 0; b < TYPES; b++) {
			for (at_once = 0; at_once < 2; at_once++) {
				const int sock = raw_connect(host.path);
				uint32_t len;

				vmbus_test_at("types %u, %u", a, b);
				msg = msg_of(a);
				len = vmbus__shm_encode(&msg, bytes);
				(void)raw_send(sock, bytes, len ? len : 16, 0);
				if (!at_once)
					host_spin(&host);
				msg = msg_of(b);
				len = vmbus__shm_encode(&msg, bytes);
				(void)raw_send(sock, bytes, len ? len : 16, 0);
				host_spin(&host);
				if (b != VMBUS_SHM_HELLO || a != VMBUS_SHM_HELLO)
					(void)raw_is_closed(sock);
				close(sock);
				host_spin(&host);
				must_eq(host.attached, host.detached);
				must_eq(vmbus_test_count_fds(), before);
			}
		}
	}
	must(host.ends[VMBUS_SHM_BROKE] > 0);
	must(host.ends[VMBUS_SHM_LEFT] > 0);
	host_close(&host);
}
END_TEST

START_TEST(lesson_26_hello_twice_ends_the_child)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	const struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
	struct host host;
	int sock;

	host_open(&host);
	sock = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	raw_say(sock, &msg);
	host_spin(&host);
	must_eq(host.attached, 1);
	must_eq(host.ends[VMBUS_SHM_BROKE], 1);
	close(sock);
	host_close(&host);
}
END_TEST

START_TEST(silent_connections__are_bounded_and_dropped)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct host host;
	int sock[100], before, child, i, open_ones = 0;

	host_open(&host);
	before = vmbus_test_count_fds();
	for (i = 0; i < 100; i++) {
		sock[i] = raw_connect(host.path);
		host_spin(&host);
	}
	must_eq(vmbus_test_count_fds(), before + 100 + 64);
	child = raw_attach(&host, &welcome, &record); /* in spite of them */
	vmbus__shm_record_close(&record);
	for (i = 0; i < 100; i++)
		open_ones += !raw_is_closed(sock[i]);
	must_eq(open_ones, 63);
	/* The others have two seconds. */
	host_until(&host, raw_is_closed(sock[99]));
	for (i = 0; i < 100; i++) {
		host_spin(&host);
		must(raw_is_closed(sock[i]));
		close(sock[i]);
	}
	must_eq(host.detached, 0);
	close(child);
	host_close(&host);
}
END_TEST

START_TEST(accept__descriptors_run_out_and_come_back)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct rlimit limit, low;
	struct host host;
	int sock, turns, n;

	host_open(&host);
	sock = raw_connect(host.path);
	must_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)sock + 1;
	must_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (turns = 0; turns < 100; turns++)
		must(vmbus_shm_server_dispatch(host.server, 64) >= 0);
	must(strstr(host.line, "ulimit -n") != NULL);
	must_eq(host.lines, 1); /* not one for each turn */
	must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(sock);
	host_until(&host, vmbus_shm_server_run(host.server, 300000000) >= 0);
	sock = raw_attach(&host, &welcome, &record);
	vmbus__shm_record_close(&record);
	close(sock);
	host_spin(&host);
	/* And within the making of a child, at each descriptor. */
	for (n = 1; n < 16; n++) {
		struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
		int probe;

		vmbus_test_at("%d descriptors left", n);
		sock = raw_connect(host.path);
		host_spin(&host);
		probe = dup(0);
		close(probe);
		low.rlim_cur = (rlim_t)(probe + n);
		raw_say(sock, &msg);
		must_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
		host_spin(&host);
		must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		close(sock);
		host_spin(&host);
		must_eq(host.attached, host.detached);
		must_eq(count_memory(), 0);
	}
	host_close(&host);
}
END_TEST

START_TEST(lesson_31_refusals_do_not_flood_the_log)
{
	struct host host;
	const uint64_t begin = vmbus__shm_now_ns();
	int i;

	host_open(&host);
	for (i = 0; i < 2000; i++) {
		const int sock = raw_connect(host.path);

		must_eq(raw_send(sock, "x", 1, 0), 1);
		host_spin(&host);
		close(sock);
	}
	must(host.lines <= 11 * ((vmbus__shm_now_ns() - begin) / SECOND_NS + 2));
	must(host.lines >= 10);
	host_close(&host);
}
END_TEST

START_TEST(options__numa_node_and_huge_pages)
{
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	struct host host;
	int sock, huge;

	for (huge = 0; huge < 2; huge++) {
		host_init(&host);
		host.opts.on_node = !huge;
		host.opts.node = 4000;
		host.opts.huge_pages = huge;
		host_listen(&host);
		sock = raw_connect(host.path);
		msg = raw_hello(1 << 20, 1);
		raw_say(sock, &msg);
		msg = raw_answer(&host, sock, &record);
		must_eq(msg.type, VMBUS_SHM_REFUSED);
		must_eq(msg.u.text.code, huge ? VMBUS_SHM_CODE_HUGE : VMBUS_SHM_CODE_SYSTEM);
		close(sock);
		must_eq(count_memory(), 0);
		host_close(&host);
	}
	host_init(&host);
	host.opts.huge_pages = true;
	host_listen(&host);
	sock = raw_connect(host.path);
	msg = raw_hello(1 << 20, 1);
	msg.u.hello.flags = VMBUS_SHM_HELLO_HUGE;
	raw_say(sock, &msg);
	msg = raw_answer(&host, sock, &record);
	if (msg.type == VMBUS_SHM_WELCOME) {
		must(msg.u.welcome.flags & VMBUS_SHM_WELCOME_HUGE);
		must(msg.u.welcome.memory >= 1 << 21);
	} else { /* this machine has no huge page free */
		must_eq(msg.u.text.code, VMBUS_SHM_CODE_SYSTEM);
	}
	vmbus__shm_record_close(&record);
	close(sock);
	host_close(&host);
}
END_TEST

/* Limits of the parent's process: refused, with the system's word for it, and nothing stays. */
START_TEST(hello__memory_that_the_system_does_not_give)
{
	struct vmbus__shm_record record;
	struct rlimit was, low;
	struct vmbus__shm_msg msg;
	struct host host;
	int sock, what;

	host_open(&host);
	for (what = 0; what < 2; what++) {
#ifdef HOST_SANITIZED
		if (what == 1)
			break; /* a sanitizer has its own view of the address space */
#endif
		must_eq(getrlimit(what ? RLIMIT_AS : RLIMIT_FSIZE, &was), 0);
		low = was;
		low.rlim_cur = what ? 1 << 29 : 1 << 20; /* a file past its limit gets SIGXFSZ */
		must_eq(setrlimit(what ? RLIMIT_AS : RLIMIT_FSIZE, &low), 0);
		sock = raw_connect(host.path);
		msg = raw_hello(1 << 30, 1);
		raw_say(sock, &msg);
		msg = raw_answer(&host, sock, &record);
		must_eq(setrlimit(what ? RLIMIT_AS : RLIMIT_FSIZE, &was), 0);
		must_eq(msg.type, VMBUS_SHM_REFUSED);
		must_eq(msg.u.text.code, VMBUS_SHM_CODE_SYSTEM);
		must(strstr(msg.u.text.text, strerror(what ? ENOMEM : EFBIG)) != NULL);
		close(sock);
		must_eq(count_memory(), 0);
	}
	must_eq(host.attached, 0);
	host_close(&host);
}
END_TEST

/* A file past the limit of this process: no record, no signal, and a child all the same. */
START_TEST(hello__a_record_that_may_not_be_so_long)
{
	char folder[] = "/tmp/vmbus-rec-XXXXXX";
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct rlimit was, low;
	struct host host;
	int sock;

	must(mkdtemp(folder) != NULL);
	host_init(&host);
	host.opts.record_dir = folder;
	host.opts.record_bytes = 4 << 20;
	host_listen(&host);
	must_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	low = was;
	low.rlim_cur = 2 << 20; /* the child's memory has 1 MiB */
	must_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
	sock = raw_attach(&host, &welcome, &record);
	must_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	vmbus__shm_record_close(&record);
	must_eq(host.attached, 1);
	must_eq(rmdir(folder), 0); /* it is empty */
	close(sock);
	host_spin(&host);
	host_close(&host);
}
END_TEST

START_TEST(shm_server_dispatch__budget_and_idle)
{
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct pollfd fd = { .events = POLLIN };
	struct host host;
	int sock;

	host_open(&host);
	must_eq(vmbus_shm_server_dispatch(host.server, 0), VMBUS_E_RANGE);
	must_eq(vmbus_shm_server_dispatch(host.server, UINT32_MAX), VMBUS_E_RANGE);
	must_eq(vmbus_shm_server_dispatch(host.server, 1), 0);
	must_eq(vmbus_shm_server_run(host.server, 0), VMBUS_E_AGAIN);
	must_eq(vmbus_shm_server_run(host.server, 1000000), VMBUS_E_AGAIN);
	sock = raw_attach(&host, &welcome, &record); /* an idle child costs nothing */
	vmbus__shm_record_close(&record);
	host_spin(&host);
	fd.fd = vmbus_shm_server_fd(host.server);
	must_eq(poll(&fd, 1, 50), 0);
	close(sock);
	must_eq(poll(&fd, 1, 1000), 1);
	host_close(&host);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "listen", 2);

	tcase_add_test(tc, shm_listen__refuses_options);
	tcase_add_test(tc, shm_listen__permissions_whatever_the_umask);
	tcase_add_test(tc, shm_listen__a_stale_socket_is_replaced_and_a_live_one_is_not);
	tcase_add_test(tc, shm_server_destroy__leaves_a_path_that_is_another_s);
	tcase_add_test(tc, shm_listen__no_descriptors_left);
	tcase_add_test(tc, shm_server_dispatch__budget_and_idle);
	tc = vmbus_test_case(suite, "hello", 2);
	tcase_add_test(tc, hello__is_answered_with_sealed_memory);
	tcase_add_test(tc, hello__refused_with_a_reason);
	tcase_add_test(tc, hello__memory_that_the_system_does_not_give);
	tcase_add_test(tc, hello__a_record_that_may_not_be_so_long);
	tcase_add_test(tc, hello__welcome_that_cannot_be_sent_is_logged);
	tcase_add_test(tc, hello__as_many_children_as_the_option_says);
	tcase_add_test(tc, attached_child__bye_garbage_and_kick);
	tcase_add_test(tc, options__numa_node_and_huge_pages);
	tc = vmbus_test_case(suite, "hostile", 6);
	tcase_add_test(tc, lesson_25_descriptors_with_every_message_are_closed);
	tcase_add_test(tc, lesson_26_messages_cut_at_every_length);
	tcase_add_test(tc, lesson_26_any_two_messages_then_disconnect);
	tcase_add_test(tc, lesson_26_hello_twice_ends_the_child);
	tcase_add_test(tc, silent_connections__are_bounded_and_dropped);
	tcase_add_test(tc, accept__descriptors_run_out_and_come_back);
	tcase_add_test(tc, lesson_31_refusals_do_not_flood_the_log);
}

VMBUS_TEST_MAIN("shm.socket", tests)
