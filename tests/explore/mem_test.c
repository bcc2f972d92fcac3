/* SPDX-License-Identifier: MIT */
/*
 * Pins of a region over the real sgl.c and mem.c: two lists are released by their threads, and who
 * sees no pin any more takes the memory away.
 */
#include <vmbus/mem.h>

#include "programs.h"

static uint8_t memory[4096] __attribute__((aligned(4096)));
static struct vmbus_region region;
static struct vmbus_mem map;
static struct vmbus_piece pieces[2][1];
static struct vmbus_sgl lists[2];

static void setup(void)
{
	static const struct vmbus_region fresh = {
		.gpa = 0x1000, .bytes = 4096, .host = memory, .fd = -1, .access = VMBUS_READ_WRITE
	};
	/* One range of 64 bytes in page 1. */
	static const uint64_t qwords[2] = { 64, 1 };
	struct vmbus_region *const regions[1] = { &region };
	uint32_t i;

	region = fresh;
	EX_CHECK(vmbus_mem_init(&map, regions, 1, NULL) == 0, "mem_init");
	for (i = 0; i < 2; i++) {
		lists[i] = (struct vmbus_sgl){ .pieces = pieces[i], .room = 1 };
		EX_CHECK(vmbus_sgl_from_ranges(&lists[i], &map, qwords, 2, 1, VMBUS_READ) == 0,
			 "from_ranges");
	}
	ex_name(&region.pins_p, "pins");
	ex_window(memory, sizeof(memory));
}

static void use_and_release(struct vmbus_sgl *sgl)
{
	uint64_t bytes;

	EX_CHECK(vmbus_sgl_read(sgl, 0, &bytes, sizeof(bytes)) == sizeof(bytes), "read");
	vmbus_sgl_release(sgl);
}

static void first(void)
{
	use_and_release(&lists[0]);
}

static void second(void)
{
	use_and_release(&lists[1]);
}

static void take_away(void)
{
	const uint64_t gone = 0;

	while (vmbus_region_pins(&region) != 0)
		ex_await(&region.pins_p, 8);
	vmbus__peer_write(memory, &gone, sizeof(gone));
}

const struct ex_scenario pin_scenarios[] = {
	{ .name = "mem.pins",
	  .what = "memory that is taken away is not in use",
	  .threads = 3,
	  .setup = setup,
	  .body = { first, second, take_away } },
};

const uint32_t pin_count = sizeof(pin_scenarios) / sizeof(pin_scenarios[0]);
