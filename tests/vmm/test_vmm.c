/* SPDX-License-Identifier: MIT */
/*
 * The program as people run it: what it says when something is missing, and guests of a few
 * instructions on this machine's /dev/kvm, where there is one.
 */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <pty.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if !defined(SANITIZED) && defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifdef SANITIZED /* which makes system calls of its own */
#define SANDBOX "--sandbox off"
#else
#define SANDBOX "--sandbox on"
#endif

static char output[1 << 16];

static const char *program(const char *name)
{
	static char path[512];
	const char *build = getenv("VMBUS_BUILD_DIR");

	(void)snprintf(path, sizeof(path), "%s/%s", build ? build : ".", name);
	return path;
}

static const char *vmm(void)
{
	return program("vmm/vmbus-vmm");
}

/* A command of the shell's; its output, errors too, and its status. */
static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *format, ...)
{
	char command[2048];
	va_list args;
	FILE *pipe;
	int status;
	size_t n;

	va_start(args, format);
	(void)vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	n = fread(output, 1, sizeof(output) - 1, pipe);
	output[n] = 0;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define ck_output(part) ck_assert_msg(strstr(output, part) != NULL, "it said: %s", output)
#define ck_no_output(part) ck_assert_msg(strstr(output, part) == NULL, "it said: %s", output)

static bool can_run(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

#define NEEDS_KVM()                                                                                \
	do {                                                                                       \
		if (!can_run())                                                                    \
			VMBUS_TEST_SKIP("no /dev/kvm that we may use");                            \
	} while (0)

/* ---- guests ---- */

#define OUT(port, value) 0x66, 0xBA, (port)&0xFF, (port) >> 8, 0xB0, (value), 0xEE
#define STOP 0xF4, 0xEB, 0xFD
#define POWER_OFF OUT(0x600, 0x34), STOP
#define SERIAL(c) OUT(0x3F8, c)
#define WRMSR(msr, low, high)                                                                      \
	0xB9, (msr)&0xFF, (msr) >> 8 & 0xFF, (msr) >> 16 & 0xFF, (msr) >> 24, 0xB8, (low)&0xFF,    \
		(low) >> 8 & 0xFF, (low) >> 16 & 0xFF, (uint8_t)((low) >> 24), 0xBA, (high)&0xFF,  \
		(high) >> 8 & 0xFF, (high) >> 16 & 0xFF, (uint8_t)((uint32_t)(high) >> 24), 0x0F,  \
		0x30

static const uint8_t powers_off[] = { SERIAL('h'), SERIAL('i'), SERIAL('\n'), POWER_OFF };
static const uint8_t resets[] = { OUT(0x600, 1), STOP };
/* The reset register, and a word that is too late. */
static const uint8_t resets_by_register[] = { WRMSR(0x40000003u, 1u, 0), SERIAL('x'), POWER_OFF };
static const uint8_t faults[] = { 0x0F, 0x0B };
static const uint8_t hangs[] = { SERIAL('!'), STOP };
static const uint8_t marks[] = { 0x66, 0xBA, 0x04, 0x06, 0xB8, 42, 0, 0, 0, 0xEF, POWER_OFF };
static const uint8_t crashes[] = { WRMSR(0x40000103u, 0x01001000u, 0), WRMSR(0x40000104u, 9u, 0),
				   WRMSR(0x40000105u, 0u, 0xC0000000u), STOP };
static const uint8_t reads_nothing[] = {
	0xA1,	     0,	       0,    0,	   0xF8, 0, 0, 0, 0, /* mov eax, [0xF8000000] */
	0x83,	     0xF8,     0xFF,			     /* cmp eax, -1 */
	0x75,	     27,				     /* to STOP */
	0x66,	     0xBA,     0xFC, 0x0C, 0xED,	     /* mov dx, 0xCFC; in eax, dx */
	0x83,	     0xF8,     0xFF,			     /* cmp eax, -1 */
	0x75,	     17,				     /* to STOP */
	SERIAL('k'), POWER_OFF
};
/* Reads the serial line, says nothing, and powers off at a q. */
static const uint8_t reads_to_q[] = { 0x66,	0xBA, 0xFD, 0x03,
				      0xEC,			  /* mov dx, 0x3FD; in al, dx */
				      0xA8,	0x01, 0x74, 0xF7, /* test al, 1; jz to begin */
				      0x66,	0xBA, 0xF8, 0x03,
				      0xEC,			  /* mov dx, 0x3F8; in al, dx */
				      0x3C,	'q',  0x75, 0xEE, /* cmp al, 'q'; jnz to begin */
				      POWER_OFF };
/* Memory must be zero at each start: says A and resets itself, or B and powers off. */
static const uint8_t resets_again[] = { 0x81,	     0x3C,
					0x25,	     0,
					0x20,	     0,
					1,	     0,
					0,	     0,
					0,		 /* cmp dword [0x1002000], 0 */
					0x75,	     28, /* to B */
					0xC7,	     0x04,
					0x25,	     0,
					0x20,	     0,
					1,	     1,
					0,	     0,
					0, /* mov dword [0x1002000], 1 */
					SERIAL('A'), OUT(0x600, 1),
					STOP,	     SERIAL('B'),
					POWER_OFF };

/* The guest as a file; its name stays good until the third one after it. */
static const char *guest(const uint8_t *code, size_t bytes)
{
	static uint8_t file[3 * 4096], all[2 * 4096];

	memset(all, 0, sizeof(all));
	memcpy(all, code, bytes);
	memcpy(all + 4096, "it\nburns\n", 9);
	return make_file("guest", file, make_elf(file, all, 4096 + 9, 8192));
}

#define GUEST(code) guest(code, sizeof(code))

static int run(const char *kernel, const char *args)
{
	const int status =
		shell("%s --kernel %s --mem 32M --timeout 30 " SANDBOX " %s 2>&1 </dev/null", vmm(),
		      kernel, args);

	unlink(kernel);
	return status;
}

/* ---- without KVM ---- */

START_TEST(vmm__usage_and_version)
{
	ck_assert_int_eq(shell("%s --help 2>&1", vmm()), 0);
	ck_output("usage: vmbus-vmm --kernel FILE");
	ck_assert_int_eq(shell("%s --version 2>&1", vmm()), 0);
	ck_output("vmbus-vmm 0.");
	ck_assert_int_eq(shell("%s 2>&1", vmm()), VMM_USAGE);
	ck_output("no kernel: name one with --kernel");
	ck_assert_int_eq(shell("%s --kernel k --frob 2>&1", vmm()), VMM_USAGE);
	ck_output("--frob: no such option");
}
END_TEST

START_TEST(vmm__a_bad_image_or_too_little_memory)
{
	static uint8_t image[BZ_BYTES];
	const char *path;

	ck_assert_int_eq(shell("%s --kernel /etc/passwd 2>&1", vmm()), VMM_ERROR);
	ck_output("--kernel /etc/passwd: is neither a bzImage");
	make_bzimage(image);
	path = make_file("image", image, sizeof(image));
	ck_assert_int_eq(shell("%s --kernel %s --mem 16M 2>&1", vmm(), path), VMM_ERROR);
	ck_output("--mem 16M is too little: kernel and initrd alone need 18M");
	unlink(path);
}
END_TEST

START_TEST(vmm__without_kvm_says_what_to_do)
{
	const char *const path = GUEST(powers_off);

	if (geteuid() != 0)
		VMBUS_TEST_SKIP("only root can hide /dev/kvm");
	if (shell("unshare -m true 2>&1"))
		VMBUS_TEST_SKIP("no mount name space here");
	ck_assert_int_eq(shell("unshare -m sh -c 'mount -t tmpfs none /dev && exec %s --kernel %s' "
			       "2>&1",
			       vmm(), path),
			 VMM_ERROR);
	ck_output("/dev/kvm is missing: load the module kvm_intel or kvm_amd");
	unlink(path);
}
END_TEST

START_TEST(vmm__a_forbidden_kvm_names_the_group)
{
	const char *const path = GUEST(powers_off);

	if (geteuid() != 0)
		VMBUS_TEST_SKIP("only root can become nobody");
	if (shell("unshare -m sh -c 'mount -t tmpfs none /dev && mknod -m 600 /dev/kvm c 10 232 && "
		  "exec setpriv --reuid 65534 --regid 65534 --clear-groups %s --kernel %s' 2>&1",
		  vmm(), path) != VMM_ERROR ||
	    strstr(output, "ermission denied"))
		VMBUS_TEST_SKIP("nobody cannot start programs of this build tree");
	ck_output("/dev/kvm: not allowed: join the group kvm");
	unlink(path);
}
END_TEST

START_TEST(vmm_send__says_that_nobody_listens)
{
	ck_assert_int_eq(shell("%s --send /tmp/vmm-test-none status 2>&1", vmm()), VMM_ERROR);
	ck_output("no vmbus-vmm --control listens there");
}
END_TEST

/* ---- with KVM ---- */

START_TEST(vmm__a_guest_that_powers_off)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(powers_off), "--cpus 2") == VMM_POWEROFF, "%s", output);
	ck_output("hi\n");
	ck_output("loading kernel ... 0 MB");
	ck_output("started 2 processors, SynIC in ");
	ck_output("the guest powered off");
}
END_TEST

START_TEST(vmm__quiet_leaves_the_guests_words)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--quiet"), VMM_POWEROFF);
	ck_assert_str_eq(output, "hi\n");
}
END_TEST

START_TEST(vmm__no_reboot_ends_at_a_reset)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets), "--no-reboot"), VMM_RESET);
	ck_output("the guest reset itself (--no-reboot)");
}
END_TEST

START_TEST(vmm__the_reset_register_is_the_last_that_it_does)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets_by_register), "--no-reboot --quiet"), VMM_RESET);
	ck_assert_str_eq(output, "");
}
END_TEST

START_TEST(vmm__two_hundred_processors)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--cpus 200"), VMM_POWEROFF);
	ck_output("started 200 processors");
	ck_output("hi\n");
}
END_TEST

START_TEST(vmm__a_triple_fault_is_a_reset)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(faults), "--no-reboot --verbose") == VMM_RESET, "%s", output);
	ck_output("triple fault, taken as a reset");
}
END_TEST

START_TEST(vmm__a_reset_begins_with_empty_memory)
{
	const char *at;
	int count = 0;

	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(resets_again), "--quiet --cpus 2 --timeout 3"), VMM_TIMEOUT);
	for (at = output; *at == 'A'; at++)
		count++;
	ck_assert_msg(count >= 3, "it said: %s", output);
	ck_no_output("B");
	ck_output("--timeout: 3 seconds are over");
}
END_TEST

START_TEST(vmm__a_guest_that_hangs_ends_by_timeout)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(hangs), "--timeout 0.3"), VMM_TIMEOUT);
	ck_output("--timeout: 0.3 seconds are over");
}
END_TEST

/* More than the port's FIFO at once, while there is a deadline too. */
START_TEST(vmm__pasted_input_arrives)
{
	const char *const path = GUEST(reads_to_q);

	NEEDS_KVM();
	ck_assert_int_eq(shell("{ head -c 300 /dev/zero | tr '\\0' a; printf q; } | %s --kernel %s "
			       "--mem 32M --timeout 15 " SANDBOX " 2>&1",
			       vmm(), path),
			 VMM_POWEROFF);
	unlink(path);
}
END_TEST

START_TEST(vmm__a_crash_is_told_with_its_text)
{
	NEEDS_KVM();
	ck_assert_msg(run(GUEST(crashes), "") == VMM_CRASH, "%s", output);
	ck_output("the guest crashed:\nvmbus-vmm:   it\nvmbus-vmm:   burns\n");
}
END_TEST

START_TEST(vmm__where_nothing_is_reads_are_ones)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(reads_nothing), "--quiet --timeout 3"), VMM_POWEROFF);
	ck_assert_str_eq(output, "k");
}
END_TEST

START_TEST(vmm__reports)
{
	const char *const name = make_file("report", "", 0);
	const char *overhead;
	char args[256];

	NEEDS_KVM();
	(void)snprintf(args, sizeof(args), "--report %s", name);
	ck_assert_int_eq(run(GUEST(marks), args), VMM_POWEROFF);
	ck_assert_int_eq(shell("python3 -m json.tool %s 2>&1", name), 0);
	ck_output("\"schema\": \"vmbus-vmm-report/1\"");
	ck_output("\"end\": \"poweroff\"");
	ck_output("\"id\": 42");
	ck_output("\"exits\": ");
	ck_output("\"guest_bytes\": 33554432");
	overhead = strstr(output, "\"overhead_bytes\": ");
	ck_assert_ptr_nonnull(overhead);
#ifndef SANITIZED
	ck_assert_int_lt(atoll(overhead + strlen("\"overhead_bytes\": ")), 8 << 20);
#endif
	unlink(name);
}
END_TEST

START_TEST(vmm__copies_the_console_to_a_file)
{
	const char *const name = make_file("serial", "", 0);
	char args[256];

	NEEDS_KVM();
	(void)snprintf(args, sizeof(args), "--serial %s", name);
	ck_assert_int_eq(run(GUEST(powers_off), args), VMM_POWEROFF);
	ck_assert_int_eq(shell("cat %s", name), 0);
	ck_assert_str_eq(output, "hi\n");
	unlink(name);
}
END_TEST

START_TEST(vmm__files_that_cannot_be_made)
{
	NEEDS_KVM();
	ck_assert_int_eq(run(GUEST(powers_off), "--serial /nowhere/x"), VMM_ERROR);
	ck_output("--serial /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--report /nowhere/x"), VMM_ERROR);
	ck_output("--report /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--control /nowhere/x"), VMM_ERROR);
	ck_output("--control /nowhere/x: No such file");
	ck_assert_int_eq(run(GUEST(powers_off), "--socket /nowhere/x"), VMM_ERROR);
	ck_output("--socket /nowhere/x");
	ck_assert_int_eq(run(GUEST(powers_off), "--control /etc/passwd"), VMM_ERROR);
	ck_output("something is there already");
}
END_TEST

START_TEST(vmm__a_way_that_this_kvm_cannot_go)
{
	int status;

	NEEDS_KVM();
	status = run(GUEST(powers_off), "--synic kernel");
	if (status == VMM_POWEROFF)
		VMBUS_TEST_SKIP("this KVM has Hyper-V emulation");
	ck_assert_int_eq(status, VMM_ERROR);
	ck_output("use --synic user");
}
END_TEST

/* ---- one that runs, and what is sent to it ---- */

static char control[64];
static pid_t pid;

/* A guest or a saved one, with a control socket; its messages go to a file. */
static void start_with(const char *path, const char *folder, const char *more)
{
	char command[1024];
	int i;

	(void)snprintf(control, sizeof(control), "/tmp/vmm-test-%d-ctl", (int)getpid());
	(void)snprintf(command, sizeof(command),
		       "exec %s %s %s --timeout 60 " SANDBOX
		       " --control %s %s >%s.out 2>&1 </dev/null",
		       vmm(), folder ? "--restore" : "--mem 32M --kernel", folder ? folder : path,
		       control, more, control);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	for (i = 0; i < 2000 && shell("%s --send %s status 2>&1", vmm(), control); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	unlink(path);
}

static void start_guest(const char *path, const char *more)
{
	start_with(path, NULL, more);
}

static void start(const char *more)
{
	start_guest(GUEST(hangs), more);
}

/* Its end: its status, and in output what it said. */
static int wait_for_end(void)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	shell("cat %s.out; rm -f %s.out", control, control);
	ck_assert_int_ne(access(control, F_OK), 0); /* the socket is gone */
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int send_line(const char *line)
{
	return shell("%s --send %s '%s' 2>&1", vmm(), control, line);
}

static void wait_for_words(const char *words)
{
	int i;

	for (i = 0; i < 1000; i++) {
		shell("cat %s.out", control);
		if (strstr(output, words))
			return;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	ck_abort_msg("it did not say %s but %s", words, output);
}

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
		ck_assert_int_eq(send_line("quit"), 0);
		ck_assert_int_eq(wait_for_end(), VMM_KILLED);
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

/* ---- the filter by itself ---- */

static int in_a_process(enum vmm_role role, void (*call)(void))
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		if (vmm_filter_prepare(NULL) || vmm_filter_load(role))
			_exit(99);
		call();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void opens(void)
{
	(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void maps_code(void)
{
	(void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void punches(void)
{
	(void)!fallocate(0, 0, 0, 1);
}

static void does_nothing(void)
{
	(void)!write(-1, "", 1);
}

START_TEST(filter_load__ends_who_does_something_else)
{
	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, does_nothing), 0);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, does_nothing), 0);
	listen_to_us();
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, opens), VMM_FILTER);
	ck_said("sandbox: forbidden system call 257");
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, opens), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, maps_code), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, maps_code), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, punches), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, punches), 0);
}
END_TEST

/* A thread of either role that ends the process gives the terminal back first. */
START_TEST(filter_load__a_violation_gives_the_terminal_back)
{
	struct termios t;
	int master, slave, status;
	pid_t child;

	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	child = fork();
	if (child == 0) {
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		dup2(slave, STDIN_FILENO);
		vmm_console_raw();
		tcgetattr(slave, &t);
		if ((t.c_lflag & ICANON) || vmm_filter_prepare(NULL) ||
		    vmm_filter_load(_i ? VMM_ROLE_BUS : VMM_ROLE_VCPU))
			_exit(99);
		opens();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, VMM_FILTER << 8);
	tcgetattr(slave, &t);
	ck_assert_uint_eq(t.c_lflag & (ICANON | ECHO), ICANON | ECHO);
	close(master);
	close(slave);
}
END_TEST

/* What other vCPUs asked for on their way to the stop was of the machine before. */
START_TEST(bus_reset__forgets_what_the_old_machine_asked_for)
{
	static struct vmm m;

	NEEDS_KVM();
	m.opts = (struct vmm_opts){ .kernel = GUEST(powers_off),
				    .append = "",
				    .cpus = 1,
				    .node = -1,
				    .no_ic = true,
				    .memory_bytes = 32 * MIB };
	m.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m.image.kernel_fd = m.image.initrd_fd = m.out_fd = m.serial_fd = -1;
	vmm_platform_init(&m.platform);
	pthread_mutex_init(&m.lock, NULL);
	ck_assert_int_eq(vmm_image_open(&m.image, &m.opts), 0);
	ck_assert_int_eq(vmm_memory_create(&m.memory, &m.opts), 0);
	ck_assert_int_eq(vmm_partition_create(&m), 0);
	m.asked_shutdown = m.sent_shutdown = true;
	m.asks = VMM_ASK_RESET | VMM_ASK_OFF | VMM_ASK_OUTPUT;
	listen_to_us();
	vmm_bus_reset(&m);
	ck_said("the guest resets itself, number 1");
	ck_assert_uint_eq(m.asks, VMM_ASK_OUTPUT);
	ck_assert(!m.ended && m.asked_shutdown && !m.sent_shutdown);
	vmm_partition_destroy(&m);
	vmm_memory_destroy(&m.memory);
	vmm_image_close(&m.image);
	unlink(m.opts.kernel);
	close(m.event_fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vmm", 20);

	tcase_add_test(tc, vmm__usage_and_version);
	tcase_add_test(tc, vmm__a_bad_image_or_too_little_memory);
	tcase_add_test(tc, vmm__without_kvm_says_what_to_do);
	tcase_add_test(tc, vmm__a_forbidden_kvm_names_the_group);
	tcase_add_test(tc, vmm_send__says_that_nobody_listens);
	tcase_add_test(tc, filter_load__ends_who_does_something_else);
	tcase_add_loop_test(tc, filter_load__a_violation_gives_the_terminal_back, 0, 2);
	tc = vmbus_test_case(suite, "guests", 20);
	tcase_add_test(tc, vmm__a_guest_that_powers_off);
	tcase_add_test(tc, vmm__quiet_leaves_the_guests_words);
	tcase_add_test(tc, vmm__no_reboot_ends_at_a_reset);
	tcase_add_test(tc, vmm__the_reset_register_is_the_last_that_it_does);
	tcase_add_test(tc, bus_reset__forgets_what_the_old_machine_asked_for);
	tcase_add_test(tc, vmm__two_hundred_processors);
	tcase_add_test(tc, vmm__pasted_input_arrives);
	tcase_add_test(tc, vmm__a_triple_fault_is_a_reset);
	tcase_add_test(tc, vmm__a_reset_begins_with_empty_memory);
	tcase_add_test(tc, vmm__a_guest_that_hangs_ends_by_timeout);
	tcase_add_test(tc, vmm__a_crash_is_told_with_its_text);
	tcase_add_test(tc, vmm__where_nothing_is_reads_are_ones);
	tcase_add_test(tc, vmm__reports);
	tcase_add_test(tc, vmm__copies_the_console_to_a_file);
	tcase_add_test(tc, vmm__files_that_cannot_be_made);
	tcase_add_test(tc, vmm__a_way_that_this_kvm_cannot_go);
	tc = vmbus_test_case(suite, "control", 20);
	tcase_add_test(tc, vmm_control__does_what_it_is_told);
	tcase_add_test(tc, vmm_control__many_clients_and_bad_ones);
	tcase_add_test(tc, vmm_control__tells_all_of_2047_channels);
	tcase_add_test(tc, vmm_socket__takes_no_children_and_goes);
	tcase_add_test(tc, vmm_save__and_what_restore_refuses);
	tcase_add_test(tc, vmm__a_guest_that_only_resets_can_be_ended);
	tcase_add_test(tc, vmm__vmbusctl_lists_its_bus);
	tcase_add_loop_test(tc, vmm__the_second_interrupt_ends_it, 0, 2);
	tcase_add_test(tc, vmm__gives_the_terminal_back);
	tcase_add_test(tc, vmm__without_components_says_so);
	tcase_add_test(tc, vmm__the_sandbox_is_there);
}

VMBUS_TEST_MAIN("vmm.vmm", tests)
