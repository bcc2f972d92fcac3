/* SPDX-License-Identifier: MIT */
/* A guest that runs on this machine's /dev/kvm, where there is one, and what is sent to it. */
#define _GNU_SOURCE
#include "vmm_guest.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

START_TEST(vmm_control__does_what_it_is_told)
{
	NEEDS_KVM();
	start("--device echo,count=2");
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("channel 1 echo ");
	ck_output("ok running synic=");
	ck_assert_int_eq(send_line("add echo"), 0);
	ck_output("ok relid=6");
	ck_assert_int_eq(send_line("add echo,monitor=100"), 0);
	ck_assert_int_eq(send_line("remove 6"), 0);
	ck_assert_int_eq(send_line("remove 6x"), 1);
	ck_output("error remove takes the RELID");
	ck_assert_int_eq(send_line("remove 99"), 1);
	ck_output("error no device with relid 99");
	ck_assert_int_eq(send_line("add disk"), 1);
	ck_output("error no such device: disk");
	ck_assert_int_eq(send_line("frob"), 1);
	ck_output("error no such command: frob; commands: add echo");
	ck_assert_int_eq(send_line("net"), 1);
	ck_output("| net NUMBER up | net NUMBER down |");
	ck_assert_int_eq(send_line("shutdown"), 1);
	ck_output("error the guest's shutdown component is not ready");
	ck_assert_int_eq(send_line("reset"), 0);
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("resets=1");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	ck_output("the guest resets itself, number 1");
}
END_TEST

START_TEST(vmm_control__many_clients_and_bad_ones)
{
	int i;

	NEEDS_KVM();
	start("");
	ck_assert_int_eq(shell("python3 -c 'import socket\n"
			       "for n in range(8):\n"
			       " s=socket.socket(socket.AF_UNIX); s.connect(\"%s\"); "
			       "s.send(b\"x\"*1000 if n %% 2 else b\"status\"); s.close()' 2>&1",
			       control),
			 0);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(send_line("status"), 0);
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

static unsigned long ticks(void)
{
	ck_assert_int_eq(
		shell("cut -d' ' -f14,15 /proc/%d/stat | { read a b; echo $((a + b)); }", (int)pid),
		0);
	return strtoul(output, NULL, 10);
}

/* A client for whom there is no descriptor waits, and nobody is busy with that. */
START_TEST(vmm_control__waits_for_a_descriptor)
{
	const struct timespec second = { .tv_sec = 1 };
	struct rlimit before, none;
	unsigned long from;
	pid_t client;
	int status;

	NEEDS_KVM();
	start("--disk none,queues=4 --sandbox off"); /* its limits can be set, and it has over 18 */
	ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, NULL, &before), 0);
	none = before;
	none.rlim_cur = 18; /* poll takes no more of them than this */
	ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &none, NULL), 0);
	client = fork();
	if (client == 0)
		_exit(send_line("status"));
	from = ticks();
	nanosleep(&second, NULL);
	ck_assert_uint_lt(ticks() - from, (unsigned long)sysconf(_SC_CLK_TCK) / 10);
	ck_assert_int_eq(waitpid(client, &status, WNOHANG), 0);
	ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &before, NULL), 0);
	ck_assert_int_eq(waitpid(client, &status, 0), client);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	ck_output("a client has to wait; raise ulimit -n");
}
END_TEST

/* Past ulimit -f there is less output, and no memory; no signal ends the machine. */
START_TEST(vmm__a_limit_on_files_does_not_end_it)
{
	struct rlimit limit;

	NEEDS_KVM();
	ck_assert_int_eq(shell("ulimit -f 1000; %s --kernel %s --mem 32M --timeout 30 " SANDBOX
			       " 2>&1 </dev/null",
			       vmm(), GUEST(powers_off)),
			 VMM_ERROR);
	ck_output("32 MiB of memory for the guest: File too large");
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 40 * MIB;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	start("--disk none");
	ck_assert_int_eq(send_line("disk add mem=48M"), 1);
	ck_assert_int_eq(send_line("disk add mem=1M"), 0);
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

/* More than a socket takes at once, and a client that reads late. */
START_TEST(vmm_control__tells_all_of_2047_channels)
{
	NEEDS_KVM();
	start("--no-ic --device echo,count=2047");
	ck_assert_int_eq(shell("%s --send %s status 2>&1 | grep -c '^channel '", vmm(), control),
			 0);
	ck_assert_str_eq(output, "2047\n");
	ck_assert_int_eq(shell("python3 -c 'import socket,time\n"
			       "s=socket.socket(socket.AF_UNIX); s.connect(\"%s\")\n"
			       "s.send(b\"status\\n\" * 3); s.shutdown(1); time.sleep(0.3)\n"
			       "t=b\"\".join(iter(lambda: s.recv(65536), b\"\"))\n"
			       "print(t.count(b\"channel \"), t.count(b\"ok running\"))' 2>&1",
			       control),
			 0);
	ck_assert_str_eq(output, "6141 3\n");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

/* A child is refused before the sandbox would see what making one takes; the socket's name goes. */
START_TEST(vmm_socket__takes_no_children_and_goes)
{
	char path[64], more[128], why[128] = "";
	struct vmbus_shm_attach_opts opts = {
		.struct_bytes = sizeof(opts), .path = path, .why = why, .why_bytes = sizeof(why)
	};
	struct vmbus_shm_attach *attach = NULL;
	int i;

	NEEDS_KVM();
	(void)snprintf(path, sizeof(path), "/tmp/vmm-test-%d-bus", (int)getpid());
	(void)snprintf(more, sizeof(more), "--socket %s", path);
	start(more);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_PERM);
		ck_assert_msg(strstr(why, "no children are taken here") != NULL, "why: %s", why);
	}
	ck_assert_int_eq(send_line("status"), 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* A guest that waits in a loop, with a machine that is like the one that was saved. */
START_TEST(vmm_save__and_what_restore_refuses)
{
	static const struct {
		const char *breaks, *says;
	} bad[] = {
		{ "truncate -s 32M %s/memory; truncate -s -8 %s/state", "its file state" },
		{ "truncate -s 31M %s/memory", "its file memory is not the machine's" },
		{ "rm %s/memory", "its file memory" },
		{ "printf x | dd of=%s/state bs=1 seek=70 conv=notrunc", "it is damaged" },
		{ "rm %s/state", "its file state: No such file" },
	};
	char folder[64], line[128], break_it[256];
	size_t i;

	NEEDS_KVM();
	(void)snprintf(folder, sizeof(folder), "/tmp/vmm-test-%d-saved", (int)getpid());
	start("--device echo,count=3");
	ck_assert_int_eq(send_line("save"), 1);
	ck_output("error save takes a folder");
	(void)snprintf(line, sizeof(line), "save /proc/none/%s", folder);
	ck_assert_int_eq(send_line(line), 1);
	ck_assert_int_eq(send_line("remove 2"), 0); /* not all numbers are in use */
	(void)snprintf(line, sizeof(line), "save %s", folder);
	ck_assert_int_eq(send_line(line), 0);
	ck_output("ok saved");
	ck_assert_int_eq(wait_for_end(), VMM_SAVED);
	ck_output("saved; --restore runs on");
	ck_assert_int_eq(shell("ls %s", folder), 0);
	ck_assert_str_eq(output, "memory\nstate\n");
	ck_assert_int_eq(shell("%s --restore %s --mem 64M 2>&1", vmm(), folder), VMM_USAGE);
	ck_output("leave out --mem");
	/* It runs on, twice, with the devices that it had. */
	for (i = 0; i < 2; i++) {
		start_with("", folder, "");
		ck_assert_int_eq(send_line("status"), 0);
		ck_output("ok running");
		ck_assert_int_eq(shell("%s --send %s status | grep -c ' echo '", vmm(), control),
				 0);
		ck_assert_str_eq(output, "2\n");
		ck_assert_int_eq(send_line(i ? "reset" : "quit"), 0);
		ck_assert_int_eq(wait_for_end(), i ? VMM_RESET : VMM_KILLED);
		ck_output(i ? "no --kernel is there to begin anew with" : "ended at once");
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)shell("rm -rf %s.bad; cp -r %s %s.bad", folder, folder, folder);
		(void)snprintf(line, sizeof(line), "%s.bad", folder);
		(void)snprintf(break_it, sizeof(break_it), bad[i].breaks, line, line);
		(void)shell("{ %s; } 2>&1", break_it);
		ck_assert_int_eq(shell("%s --restore %s.bad 2>&1", vmm(), folder), VMM_ERROR);
		ck_output(bad[i].says);
	}
	(void)shell("rm -rf %s %s.bad", folder, folder);
}
END_TEST

/* The page of hypercalls at 0x1003000 is written anew: where the guest stands, there is something else. */
START_TEST(vmm_restore__refuses_a_guest_whose_code_is_another)
{
	static const uint8_t stands_there[] = {
		WRMSR(0x40000000u, 1u, 0),
		WRMSR(0x40000001u, 0x1003001u, 0),
		0xC7,
		0x04,
		0x25,
		0x00,
		0x31,
		0x00,
		0x01,
		0xEB,
		0xFE,
		0x00,
		0x00, /* mov dword [0x1003100], jmp to itself */
		SERIAL('!'),
		SERIAL('\n'),
		0xB8,
		0x00,
		0x31,
		0x00,
		0x01,
		0xFF,
		0xE0, /* mov eax, 0x1003100; jmp rax */
	};
	char folder[64], line[128];

	NEEDS_KVM();
	(void)snprintf(folder, sizeof(folder), "/tmp/vmm-test-%d-saved", (int)getpid());
	start_guest(GUEST(stands_there), "--synic user");
	wait_for_words("!");
	(void)snprintf(line, sizeof(line), "save %s", folder);
	ck_assert_int_eq(send_line(line), 0);
	ck_assert_int_eq(wait_for_end(), VMM_SAVED);
	ck_assert_int_eq(
		shell("%s --restore %s --synic user --timeout 5 2>&1 </dev/null", vmm(), folder),
		VMM_ERROR);
	ck_output("vCPU 0 is in the midst of a hypercall");
	(void)shell("rm -rf %s", folder);
}
END_TEST

/* A device is removed and, before its removal has come to its end, the machine is saved. */
static void remove_and_save(unsigned int relid, const char *folder)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} files = { .head = { .cmsg_len = CMSG_LEN(2 * sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS } };
	char lines[64], path[2][96];
	struct iovec iov = { .iov_base = lines };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &files,
			      .msg_controllen = sizeof(files) };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int file[2], i;

	iov.iov_len = (size_t)snprintf(lines, sizeof(lines), "remove %u\nsave\n", relid);
	ck_assert_int_eq(mkdir(folder, 0700), 0);
	for (i = 0; i < 2; i++) {
		(void)snprintf(path[i], sizeof(path[i]), "%s/%s", folder, i ? "memory" : "state");
		file[i] = open(path[i], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		ck_assert_int_ge(file[i], 0);
	}
	memcpy(CMSG_DATA(&files.head), file, sizeof(file));
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", control);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	ck_assert_int_eq(sendmsg(fd, &msg, 0), (ssize_t)iov.iov_len);
	shutdown(fd, SHUT_WR);
	ck_assert_int_eq(wait_for_end(), VMM_SAVED);
	for (i = 0; i < 2; i++)
		close(file[i]);
	close(fd);
}

START_TEST(vmm_save__without_what_was_just_removed)
{
	char folder[64];
	unsigned int relid;

	NEEDS_KVM();
	(void)snprintf(folder, sizeof(folder), "/tmp/vmm-test-%d-removed", (int)getpid());
	start("--device echo,count=3");
	ck_assert_int_eq(send_line("add echo"), 0);
	ck_assert_int_eq(sscanf(output, "ok relid=%u", &relid), 1);
	remove_and_save(relid, folder);
	start_with("", folder, "");
	ck_assert_int_eq(shell("%s --send %s status | grep -c ' echo '", vmm(), control), 0);
	ck_assert_str_eq(output, "3\n");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	(void)shell("rm -rf %s", folder);
}
END_TEST

/* Somebody who listens and answers so, after so many seconds. */
static int send_to_slow(const char *answer, const char *line, int seconds)
{
	return shell("rm -f %s; python3 -c 'import os,socket,time\n"
		     "s=socket.socket(socket.AF_UNIX); s.bind(\"%s.new\"); s.listen(1)\n"
		     "os.rename(\"%s.new\", \"%s\")\n"
		     "c=s.accept()[0]; c.recv(100); time.sleep(%d); c.send(b\"%s\"); "
		     "c.close()' & "
		     "while [ ! -S %s ]; do sleep 0.02; done; "
		     "%s --send %s \"%s\" 2>&1; s=$?; wait; rm -f %s; exit $s",
		     control, control, control, control, seconds, answer, control, vmm(), control,
		     line, control);
}

static int send_to(const char *answer, const char *line)
{
	return send_to_slow(answer, line, 0);
}

/* A reset may wait for disks, NICs and providers, each for 6 s. */
START_TEST(vmm_send__waits_longer_for_a_reset)
{
	(void)snprintf(control, sizeof(control), "/tmp/vmm-test-%d-ctl", (int)getpid());
	ck_assert_int_eq(send_to_slow("ok", "reset", 11), 0);
	ck_assert_str_eq(output, "ok");
}
END_TEST

/* The folder of a save that was refused is empty again. */
START_TEST(vmm_send__says_what_did_not_come)
{
	char folder[64], line[80];

	(void)snprintf(control, sizeof(control), "/tmp/vmm-test-%d-ctl", (int)getpid());
	(void)snprintf(folder, sizeof(folder), "/tmp/vmm-test-%d-saved", (int)getpid());
	(void)snprintf(line, sizeof(line), "save %s", folder);
	ck_assert_int_eq(send_to("ok", "status"), 0);
	ck_assert_int_eq(send_to("error", "status"), VMM_ERROR);
	ck_assert_str_eq(output, "error");
	ck_assert_int_eq(send_to("", "status"), VMM_ERROR);
	ck_output("no answer: vmbus-vmm has ended, or has 4 other clients");
	ck_assert_int_eq(send_to("error", line), VMM_ERROR);
	ck_assert_int_eq(shell("ls %s", folder), 0);
	ck_assert_str_eq(output, "");
	ck_assert_int_eq(send_to("", line), VMM_ERROR);
	ck_assert_int_eq(shell("ls %s; rm -r %s", folder, folder), 0);
	ck_assert_str_eq(output, "memory.new\nstate.new\n");
}
END_TEST

/* The guest resets itself over and over: the second interrupt still is the second. */
START_TEST(vmm__a_guest_that_only_resets_can_be_ended)
{
	NEEDS_KVM();
	start_guest(GUEST(resets), "");
	wait_for_words("the guest resets itself, number 2");
	kill(pid, SIGINT);
	wait_for_words("does not listen for shutdown requests yet");
	wait_for_words("the guest resets itself, number 8");
	kill(pid, SIGINT);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

START_TEST(vmm__vmbusctl_lists_its_bus)
{
	char more[128];

	NEEDS_KVM();
	if (access(program("tools/vmbusctl"), X_OK))
		VMBUS_TEST_SKIP("no vmbusctl was built");
	(void)snprintf(more, sizeof(more), "--device echo --socket /tmp/vmm-test-%d-bus",
		       (int)getpid());
	start(more);
	ck_assert_int_eq(shell("%s list -s /tmp/vmm-test-%d-bus 2>&1", program("tools/vmbusctl"),
			       (int)getpid()),
			 0);
	ck_output("guest");
	ck_output("echo");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	(void)shell("rm -f /tmp/vmm-test-%d-bus", (int)getpid());
}
END_TEST

START_TEST(vmm__the_second_interrupt_ends_it)
{
	NEEDS_KVM();
	start("");
	kill(pid, _i ? SIGTERM : SIGINT);
	wait_for_words("does not listen for shutdown requests yet");
	kill(pid, _i ? SIGTERM : SIGINT);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	ck_output("ended at once");
}
END_TEST

/* What a terminal shows, until these words. */
static void see(int terminal, const char *words)
{
	size_t used = 0;
	ssize_t n;

	do {
		n = read(terminal, output + used, sizeof(output) - 1 - used);
		used += n > 0 ? (size_t)n : 0;
		output[used] = 0;
	} while (n > 0 && !strstr(output, words));
	ck_output(words);
}

static pid_t start_on_terminal(int slave, const char *path)
{
	const pid_t child = fork();

	if (child)
		return child;
	setsid();
	ioctl(slave, TIOCSCTTY, 0);
	dup2(slave, 0);
	dup2(slave, 1);
	dup2(slave, 2);
	execl(vmm(), "vmbus-vmm", "--kernel", path, "--mem", "32M", "--timeout", "60", "--sandbox",
	      strstr(SANDBOX, "off") ? "off" : "on", NULL);
	_exit(127);
}

START_TEST(vmm__gives_the_terminal_back)
{
	struct termios before, during, after;
	const char *const path = GUEST(hangs);
	int master, slave, status;
	pid_t child;

	NEEDS_KVM();
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	tcgetattr(slave, &before);
	child = start_on_terminal(slave, path);
	see(master, "!"); /* the guest's word */
	tcgetattr(slave, &during);
	ck_assert_uint_eq(during.c_lflag & (ICANON | ECHO | ISIG), ISIG);
	ck_assert_int_eq(write(master, "\x03", 1), 1);
	see(master, "does not listen for shutdown requests yet");
	ck_assert_int_eq(write(master, "\x03", 1), 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(WEXITSTATUS(status), VMM_KILLED);
	tcgetattr(slave, &after);
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	ck_assert_uint_eq(after.c_iflag, before.c_iflag);
	ck_assert_mem_eq(after.c_cc, before.c_cc, sizeof(after.c_cc));
	close(master);
	close(slave);
	unlink(path);
}
END_TEST

START_TEST(vmm__without_components_says_so)
{
	NEEDS_KVM();
	start("--no-ic");
	kill(pid, SIGINT);
	wait_for_words("does not listen for shutdown requests (--no-ic)");
	kill(pid, SIGINT);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

START_TEST(vmm__the_sandbox_is_there)
{
	NEEDS_KVM();
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	start("");
	ck_assert_int_eq(shell("cat /proc/%d/status", (int)pid), 0);
	ck_output("NoNewPrivs:\t1");
	ck_output("CapPrm:\t0000000000000000"); /* nor in a name space of users */
	if (vmm_filter_there())
		ck_output("Seccomp:\t2");
	if (geteuid() == 0)
		ck_no_output("Uid:\t0");
	if (vmm_filter_there()) {
		/* KVM has a thread of its own in newer kernels. */
		ck_assert_int_eq(
			shell("for t in /proc/%d/task/*/status; do "
			      "grep -q 'Name:.kvm-' $t || grep 'Seccomp:.2' $t; done | wc -l",
			      (int)pid),
			0);
		ck_assert_str_eq(output, "2\n"); /* one vCPU, and the bus */
	}
	if (geteuid() == 0 && shell("unshare -mn true 2>&1") == 0) {
		ck_assert_int_eq(shell("ls /proc/%d/root/", (int)pid), 0);
		ck_assert_str_eq(output, "");
	}
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "control", 20);

	tcase_add_test(tc, vmm_control__does_what_it_is_told);
	tcase_add_test(tc, vmm_control__many_clients_and_bad_ones);
	tcase_add_test(tc, vmm_control__waits_for_a_descriptor);
	tcase_add_test(tc, vmm__a_limit_on_files_does_not_end_it);
	tcase_add_test(tc, vmm_control__tells_all_of_2047_channels);
	tcase_add_test(tc, vmm_socket__takes_no_children_and_goes);
	tcase_add_test(tc, vmm_save__and_what_restore_refuses);
	tcase_add_test(tc, vmm_restore__refuses_a_guest_whose_code_is_another);
	tcase_add_test(tc, vmm_save__without_what_was_just_removed);
	tcase_add_test(tc, vmm_send__says_what_did_not_come);
	tcase_add_test(tc, vmm_send__waits_longer_for_a_reset);
	tcase_add_test(tc, vmm__a_guest_that_only_resets_can_be_ended);
	tcase_add_test(tc, vmm__vmbusctl_lists_its_bus);
	tcase_add_loop_test(tc, vmm__the_second_interrupt_ends_it, 0, 2);
	tcase_add_test(tc, vmm__gives_the_terminal_back);
	tcase_add_test(tc, vmm__without_components_says_so);
	tcase_add_test(tc, vmm__the_sandbox_is_there);
}

VMBUS_TEST_MAIN("vmm.control", tests)
