/* SPDX-License-Identifier: MIT */
/* For the tests of vmbus-vmm: the program as people run it, and guests of a few instructions. */
#ifndef VMM_GUEST_H
#define VMM_GUEST_H

#include "vmm_test.h"

#include <signal.h>
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

static inline const char *program(const char *name)
{
	static char path[512];
	const char *build = getenv("VMBUS_BUILD_DIR");

	(void)snprintf(path, sizeof(path), "%s/%s", build ? build : ".", name);
	return path;
}

static inline const char *vmm(void)
{
	return program("vmm/vmbus-vmm");
}

/* A command of the shell's; its output, errors too, and its status. */
static inline int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int shell(const char *format, ...)
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

static inline bool can_run(void)
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
static inline const char *guest(const uint8_t *code, size_t bytes)
{
	static uint8_t file[3 * 4096], all[2 * 4096];

	memset(all, 0, sizeof(all));
	memcpy(all, code, bytes);
	memcpy(all + 4096, "it\nburns\n", 9);
	return make_file("guest", file, make_elf(file, all, 4096 + 9, 8192));
}

#define GUEST(code) guest(code, sizeof(code))

static inline int run(const char *kernel, const char *args)
{
	const int status =
		shell("%s --kernel %s --mem 32M --timeout 30 " SANDBOX " %s 2>&1 </dev/null", vmm(),
		      kernel, args);

	unlink(kernel);
	return status;
}

/* ---- one that runs, and what is sent to it ---- */

static char control[64];
static pid_t pid;

/* A guest or a saved one, with a control socket; its messages go to a file. */
static inline void start_with(const char *path, const char *folder, const char *more)
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

static inline void start_guest(const char *path, const char *more)
{
	start_with(path, NULL, more);
}

static inline void start(const char *more)
{
	start_guest(GUEST(hangs), more);
}

/* Its end: its status, and in output what it said. */
static inline int wait_for_end(void)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	shell("cat %s.out; rm -f %s.out", control, control);
	ck_assert_int_ne(access(control, F_OK), 0); /* the socket is gone */
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int send_line(const char *line)
{
	return shell("%s --send %s '%s' 2>&1", vmm(), control, line);
}

static inline void wait_for_words(const char *words)
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

#endif
