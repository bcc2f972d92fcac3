/* SPDX-License-Identifier: MIT */
/*
 * The order of things: options, machine, flood if asked for, then the backend and packets, a disk, or a NIC.
 */
#include "payload.h"

#define SCRATCH_BYTES (64u * 4096u)
#define HEAP_BYTES (12u << 20) /* the clients of 2,047 channels, a little more */
#define MEMORY_MIN (HEAP_BYTES + SCRATCH_BYTES + (2u << 20))

void payload_main(const uint8_t *zero_page);

static struct vmbus_bare bare;

static void on_interrupt(void *ctx)
{
	vmbus_bare_interrupt(ctx);
}

static void begin(const struct options *opts, uint8_t *memory, size_t bytes)
{
	struct vmbus_bare_opts bo = { .struct_bytes = sizeof(bo) };
	int err;

	bo.memory = memory;
	bo.memory_gpa = (uintptr_t)memory;
	bo.memory_bytes = bytes;
	bo.zeroed = true;
	bo.poll = opts->poll;
	bo.halt = opts->poll ? NULL : machine_halt;
	err = vmbus_bare_init(&bare, &bo);
	if (err == VMBUS_E_NOTSUP)
		fail("this machine lacks", vmbus_bare_lack_name(vmbus_bare_lack(&bare)));
	if (err)
		fail("vmbus_bare_init", vmbus_err_name(err));
}

static void counters(void)
{
	struct vmbus_bare_stats stats;

	vmbus_bare_stats(&bare, &stats);
	say("posts", stats.posts);
	say("signals", stats.signals);
	say("messages", stats.messages);
	say("bad_messages", stats.bad_messages);
	say("interrupts", stats.interrupts);
	say("halts", stats.halts);
	say("strays", machine_strays());
	say("early", machine_early());
}

void payload_main(const uint8_t *zero_page)
{
	struct options opts;
	uint8_t *memory = NULL, *pool;
	size_t bytes = 0;
	uint32_t i;

	options_parse(&opts, machine_command_line(zero_page));
	if (!machine_memory(zero_page, &memory, &bytes) || bytes < MEMORY_MIN)
		fail_number("too little memory behind the payload, bytes", bytes);
	say("memory", bytes);
	machine_init(VMBUS_BARE_VECTOR, on_interrupt, &bare);
	if (opts.flood)
		run_flood(&opts, memory + HEAP_BYTES, SCRATCH_BYTES);
	pool = memory + HEAP_BYTES + SCRATCH_BYTES;
	bytes -= HEAP_BYTES + SCRATCH_BYTES;
	for (i = 0; i < opts.repeat; i++) {
		begin(&opts, pool, bytes);
		if (opts.ping)
			run_ping(&opts, &bare);
		else if (opts.disk)
			run_disk(&opts, &bare);
		else
			run_echo(&opts, &bare, memory, HEAP_BYTES);
		counters();
		vmbus_bare_fini(&bare);
	}
	end_well();
}
