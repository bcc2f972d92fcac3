/* SPDX-License-Identifier: MIT */
/*
 * A tracer within the process, to be preloaded: at the start it puts a breakpoint on every probe of
 * provider vmbus in what is loaded, and counts which are met, with sums of their arguments, in a file
 * that the whole family of processes shares.  It needs no privilege and nothing of the kernel, and
 * reads the notes and arguments as perf and bpftrace do.  x86-64.
 *
 * VMBUS_PROBES_OUT  the file: struct counter, PROBES_MAX of them
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#define PROBES_MAX 64u
#define SITES_MAX 512u
#define ARGS_MAX 6u
#define BREAKPOINT 0xCCu
#define NOP 0x90u
#define NOTE_TYPE 3u

/* What the file has; times and sums of one probe, wherever it is. */
struct counter {
	char name[32];
	uint64_t times;
	uint64_t sum[ARGS_MAX];
};

struct site {
	uint8_t *at;
	const char *args;
	struct counter *counter;
};

static struct counter *counters;
static struct site sites[SITES_MAX];
static uint32_t site_count;

static void die(const char *why, const char *what)
{
	dprintf(2, "tracer: %s: %s\n", why, what);
	_exit(99);
}

/* ---- arguments ---- */

static const struct reg {
	const char *name[4]; /* of 8, 4, 2 and 1 bytes */
	int number;
} regs[] = {
	{ { "rax", "eax", "ax", "al" }, REG_RAX },
	{ { "rbx", "ebx", "bx", "bl" }, REG_RBX },
	{ { "rcx", "ecx", "cx", "cl" }, REG_RCX },
	{ { "rdx", "edx", "dx", "dl" }, REG_RDX },
	{ { "rsi", "esi", "si", "sil" }, REG_RSI },
	{ { "rdi", "edi", "di", "dil" }, REG_RDI },
	{ { "rbp", "ebp", "bp", "bpl" }, REG_RBP },
	{ { "rsp", "esp", "sp", "spl" }, REG_RSP },
	{ { "r8", "r8d", "r8w", "r8b" }, REG_R8 },
	{ { "r9", "r9d", "r9w", "r9b" }, REG_R9 },
	{ { "r10", "r10d", "r10w", "r10b" }, REG_R10 },
	{ { "r11", "r11d", "r11w", "r11b" }, REG_R11 },
	{ { "r12", "r12d", "r12w", "r12b" }, REG_R12 },
	{ { "r13", "r13d", "r13w", "r13b" }, REG_R13 },
	{ { "r14", "r14d", "r14w", "r14b" }, REG_R14 },
	{ { "r15", "r15d", "r15w", "r15b" }, REG_R15 },
};

/* The value of a register whose name begins at *text, which moves behind it. */
static uint64_t reg_value(const char **text, const ucontext_t *uc)
{
	const size_t len = strspn(*text, "abcdefghijklmnopqrstuvwxyz0123456789");
	size_t i, k;

	for (i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		for (k = 0; k < 4; k++)
			if (strlen(regs[i].name[k]) == len &&
			    !memcmp(regs[i].name[k], *text, len)) {
				*text += len;
				return (uint64_t)uc->uc_mcontext.gregs[regs[i].number];
			}
	die("register", *text);
	return 0;
}

/* One argument, "-4@%eax" or "8@16(%rbx)" or "4@$7"; *text moves behind it. */
static uint64_t argument(const char **text, const ucontext_t *uc)
{
	const long signed_bytes = strtol(*text, (char **)(uintptr_t)text, 10);
	const size_t bytes = (size_t)labs(signed_bytes);
	uint64_t value;
	long offset;

	if (*(*text)++ != '@' || bytes > 8)
		die("argument", *text);
	if (**text == '$') {
		++*text;
		return (uint64_t)strtol(*text, (char **)(uintptr_t)text, 10);
	}
	if (**text == '%') {
		++*text;
		value = reg_value(text, uc);
	} else {
		offset = strtol(*text, (char **)(uintptr_t)text, 10);
		if (strncmp(*text, "(%", 2))
			die("argument", *text);
		*text += 2;
		offset += (long)reg_value(text, uc);
		++*text; /* the bracket */
		value = 0;
		memcpy(&value, (const void *)(uintptr_t)offset, bytes);
	}
	return bytes == 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1);
}

/* The breakpoint stands for a no-operation, so all goes on behind it. */
static void met(int sig, siginfo_t *info, void *ctx)
{
	const ucontext_t *const uc = ctx;
	const uint8_t *const at =
		(const uint8_t *)(uintptr_t)((uint64_t)uc->uc_mcontext.gregs[REG_RIP] - 1u);
	uint32_t i, arg;

	(void)sig;
	(void)info;
	for (i = 0; i < site_count; i++)
		if (sites[i].at == at) {
			const char *text = sites[i].args;

			__atomic_add_fetch(&sites[i].counter->times, 1, __ATOMIC_RELAXED);
			for (arg = 0; *text && arg < ARGS_MAX; arg++) {
				__atomic_add_fetch(&sites[i].counter->sum[arg], argument(&text, uc),
						   __ATOMIC_RELAXED);
				text += *text == ' ';
			}
			return;
		}
	die("breakpoint", "that is none of ours");
}

/* Threads that take no signals take ours: one that is blocked there would end the process. */
static int mask_with(const char *name, int how, const sigset_t *set, sigset_t *old)
{
	int (*real)(int, const sigset_t *, sigset_t *);
	void *const symbol = dlsym(RTLD_NEXT, name);
	sigset_t ours;

	memcpy(&real, &symbol, sizeof(real));
	if (set) {
		ours = *set;
		if (how != SIG_UNBLOCK)
			sigdelset(&ours, SIGTRAP);
		set = &ours;
	}
	return real(how, set, old);
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return mask_with("pthread_sigmask", how, set, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return mask_with("sigprocmask", how, set, old);
}

/* ---- notes ---- */

static struct counter *counter_of(const char *name)
{
	uint32_t i;

	for (i = 0; i < PROBES_MAX; i++) {
		if (!counters[i].name[0])
			strncpy(counters[i].name, name, sizeof(counters[i].name) - 1u);
		if (!strcmp(counters[i].name, name))
			return &counters[i];
	}
	die("too many probes", name);
	return NULL;
}

static void set(uint8_t *at, const char *name, const char *args)
{
	const uintptr_t page = (uintptr_t)at & ~(uintptr_t)4095u;

	if (site_count == SITES_MAX || *at != NOP)
		die("no no-operation, or too many places", name);
	sites[site_count].at = at;
	sites[site_count].args = args;
	sites[site_count++].counter = counter_of(name);
	if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
		die("mprotect", name);
	*at = BREAKPOINT;
}

static const Elf64_Shdr *section(const uint8_t *file, const char *name)
{
	const Elf64_Ehdr *const head = (const Elf64_Ehdr *)(const void *)file;
	const Elf64_Shdr *const all = (const Elf64_Shdr *)(const void *)(file + head->e_shoff);
	const char *const names = (const char *)file + all[head->e_shstrndx].sh_offset;
	uint32_t i;

	for (i = 0; i < head->e_shnum; i++)
		if (!strcmp(names + all[i].sh_name, name))
			return &all[i];
	return NULL;
}

static void read_notes(const uint8_t *file, uintptr_t loaded)
{
	const Elf64_Shdr *const notes = section(file, ".note.stapsdt");
	const Elf64_Shdr *const base = section(file, ".stapsdt.base");
	const uint8_t *at, *end;

	if (!notes || !base)
		return;
	end = file + notes->sh_offset + notes->sh_size;
	for (at = file + notes->sh_offset; at < end;) {
		const Elf64_Nhdr *const note = (const Elf64_Nhdr *)(const void *)at;
		const uint8_t *const desc = at + sizeof(*note) + (note->n_namesz + 3u) / 4u * 4u;
		const char *const provider = (const char *)desc + 24;
		const char *const name = provider + strlen(provider) + 1;
		uint64_t word[2]; /* the place, and where the base section was then */

		memcpy(word, desc, sizeof(word));
		if (note->n_type == NOTE_TYPE && !strcmp(provider, "vmbus"))
			set((uint8_t *)(loaded + word[0] + base->sh_addr - word[1]), name,
			    name + strlen(name) + 1);
		at = desc + (note->n_descsz + 3u) / 4u * 4u;
	}
}

static int one_object(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
	const char *const path = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *file;

	(void)bytes;
	(void)ctx;
	if (fd < 0)
		return 0; /* the kernel's own */
	if (fstat(fd, &st))
		die("fstat", path);
	/* It stays: arguments are read in it. */
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED)
		die("mmap", path);
	read_notes(file, info->dlpi_addr);
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = { .sa_sigaction = met, .sa_flags = SA_SIGINFO | SA_RESTART };
	const char *const path = getenv("VMBUS_PROBES_OUT");
	const size_t bytes = PROBES_MAX * sizeof(*counters);
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		die("open", path);
	counters = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (counters == MAP_FAILED || sigaction(SIGTRAP, &action, NULL))
		die("begin", path);
	dl_iterate_phdr(one_object, NULL);
}
