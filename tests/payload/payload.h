/* SPDX-License-Identifier: MIT */
/*
 * A program without an operating system, which runs as the kernel of a virtual machine: contacts the
 * parent through backends/bare, opens echo channels and moves verified packets.  It prints lines
 * "payload: KEY VALUE" to the serial port, the last of them "payload: ok" or "payload: FAILED why".
 *
 * No file of it knows a C library.  It enters in long mode as a 64-bit Linux kernel does.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <vmbus/bare.h>
#include <vmbus/echo.h>
#include <vmbus/guest.h>
#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#define CHANNELS_MAX 2047u
#define LIST_MAX 8u

/* Options, from the command line. */
struct options {
	bool echo, flood, disk, ping;
	bool poll;	  /* no interrupts */
	bool completions; /* the echo client asks for completions */
	bool keep;	  /* leave the connection as it is at the end */
	bool wait;	  /* for as many echo channels, which may be offered later */
	uint32_t channels, active;
	uint64_t packets; /* of each series, in all */
	uint32_t windows[LIST_MAX], payloads[LIST_MAX];
	uint32_t windows_n, payloads_n;
	uint32_t ring_kib;
	uint32_t seconds; /* of the flood */
	uint64_t seed;
	uint32_t spin_us;  /* before each halt */
	uint32_t ip, peer; /* of ping: our address, and 0, or whom we ping */
	uint32_t repeat;   /* connect, do it all, disconnect; so often */
};

/* ---- print.c ---- */

void print_text(const char *text);
void print_number(uint64_t value);
void print_hex(uint64_t value);
/* A line "payload: KEY VALUE". */
void say(const char *key, uint64_t value);
void say_text(const char *key, const char *text);
/* The last line, then power off.  Do not return. */
void fail(const char *why, const char *detail) __attribute__((noreturn));
void fail_number(const char *why, uint64_t number) __attribute__((noreturn));
void end_well(void) __attribute__((noreturn));

/* ---- options.c ---- */

/* Fails by itself, naming the word. */
void options_parse(struct options *opts, const char *line);

/* ---- machine.c ---- */

#define PORT_SERIAL 0x3F8u
#define PORT_POWER 0x600u
#define PORT_MARK 0x604u

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* Registers as the stubs of start.c save them. */
struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* Whether the register could be read, written: #GP is survived. */
bool try_rdmsr(uint32_t msr, uint64_t *value);
bool try_wrmsr(uint32_t msr, uint64_t value);

/* Tables, interrupt controller; on_vector() is called for every interrupt of that vector. */
void machine_init(uint8_t vector, void (*on_vector)(void *ctx), void *ctx);
/* struct vmbus_bare_opts.halt; ctx is a struct options. */
void machine_halt(void *ctx, uint64_t timeout_ns);
void machine_interrupts(bool on);
/* Interrupts of vectors that nobody waits for, and faults survived, so far. */
uint64_t machine_strays(void);
/* Interrupts that came between the last instruction before a sleep and the sleep. */
uint64_t machine_early(void);
uint64_t machine_faults(void);

/* The largest piece of RAM behind us and below 4 GiB. */
bool machine_memory(const uint8_t *zero_page, uint8_t **base, size_t *bytes);
const char *machine_command_line(const uint8_t *zero_page);

/* ---- scenarios ---- */

/* Connect, open, move packets, disconnect.  Fails by itself. */
void run_echo(const struct options *opts, struct vmbus_bare *bare, uint8_t *heap, size_t bytes);
/* Connect, write a disk, read and compare it, disconnect: packets requests, windows[0] at once, on so
   many channels.  Fails by itself. */
void run_disk(const struct options *opts, struct vmbus_bare *bare);
/* Be pinged, or ping: packets times, with payload bytes.  Fails by itself. */
void run_ping(const struct options *opts, struct vmbus_bare *bare);
/* Random registers, hypercalls, leaves and ports; scratch is memory that may be overwritten. */
void run_flood(const struct options *opts, uint8_t *scratch, size_t bytes);

#endif
