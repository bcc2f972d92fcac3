/* SPDX-License-Identifier: MIT */
/*
 * A whole partition, registers and bus, saved in the middle of a transfer and gone on with in a new
 * one on the same memory, in the order of vmbus_save(7).  The loop variable _i is the way: 0 user
 * space, 1 the kernel's, 2 from one to the other each time.
 */
#include "kvm/part.h"

#include <vmbus/echo.h>

static struct part p;
static uint32_t moves, most, every, calls;
static bool kernel, turns;
static const struct vmbus_guid instance = { { 0xE1 } };

static void offer(void)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					       .instance_id = instance };

	must_eq(vmbus_bus_offer(p.bus, vmbus_echo_vsp(), NULL, &opts, NULL), 0);
}

/* As part_begin(), on memory that there is. */
static void begin_again(void)
{
	struct vmbus_kvm_opts opts;

	fake_begin(kernel);
	part_opts(&p, &opts);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	p.bus = vmbus_kvm_bus(p.kvm);
	must_eq(part_add(&p, 0), 0);
	offer();
}

static void *save_bus(size_t *bytes)
{
	size_t again;
	void *state;
	int err;

	while ((err = vmbus_bus_save(p.bus, NULL, 0, bytes)) == VMBUS_E_AGAIN)
		must(vmbus_kvm_dispatch(p.kvm, 1) >= 0);
	must_eq(err, VMBUS_E_RANGE);
	state = malloc(*bytes);
	must(state != NULL);
	must_eq(vmbus_bus_save(p.bus, state, *bytes, &again), 0);
	return state;
}

/* The pages that the guest has. */
static void copy_used(uint8_t *to, const uint8_t *from)
{
	size_t page;

	for (page = 0; page < PART_PAGES; page++)
		if (p.mem.used[page])
			memcpy(to + page * CHILD_PAGE, from + page * CHILD_PAGE, CHILD_PAGE);
}

/* Bus, registers, memory; and back: memory, registers, bus. */
static void move(void)
{
	const size_t mem_bytes = PART_PAGES * CHILD_PAGE;
	uint8_t *mem = malloc(mem_bytes);
	size_t bytes;
	void *bus = save_bus(&bytes), *registers;
	const int n = vmbus_kvm_save(p.kvm, NULL, 0);
	char why[160];

	must(mem && n > 0);
	registers = malloc((size_t)n);
	must(registers != NULL);
	must_eq(vmbus_kvm_save(p.kvm, registers, (size_t)n), n);
	copy_used(mem, p.mem.host);
	vmbus_kvm_destroy(p.kvm);
	must_eq(vmbus_region_pins(&p.region), 0);
	kernel ^= turns;
	copy_used(p.mem.host, mem);
	begin_again();
	must_eq(vmbus_kvm_restore(p.kvm, registers, (size_t)n), 0);
	must_eq(vmbus_bus_restore(p.bus, bus, bytes, why, sizeof(why)), 0);
	must_eq(why[0], '\0');
	free(mem);
	free(registers);
	free(bus);
	moves++;
}

static void now_and_then(void)
{
	if (every && moves < most && ++calls % every == 0) /* each makes the guest look, too */
		move();
}

static int idle(void *ctx, uint64_t timeout_ns)
{
	now_and_then();
	return part_idle(ctx, timeout_ns);
}

static int post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t bytes)
{
	const int status = part_post(ctx, conn_id, type, payload, bytes);

	now_and_then();
	return status;
}

static int receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	now_and_then();
	return part_receive(ctx, type, payload, bytes);
}

static int sign(void *ctx, uint32_t conn_id, uint32_t flag)
{
	const int err = part_signal(ctx, conn_id, flag);

	now_and_then();
	return err;
}

/* lesson 06, for registers, messages, flags and channels at once */
START_TEST(lesson_06_a_partition_saved_at_every_point)
{
	static struct vmbus_echo echo;
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts), .packets = 200 };

	kernel = _i == 1;
	turns = _i == 2;
	every = 0;
	calls = moves = 0;
	part_begin(&p, kernel);
	offer();
	part_enable(&p);
	part_guest(&p);
	p.backend.idle = idle;
	p.backend.post = post;
	p.backend.receive = receive;
	p.backend.signal = sign;
	every = vmbus_test_full() ? 3 : 4;
	most = vmbus_test_full() ? 500 : 60;
	part_connect(&p);
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = 8192;
	opts.window = 8;
	opts.payload = 1000;
	must_eq(vmbus_echo_start(&echo, p.vsc, &opts), 0);
	part_settle(&p);
	must(echo.done);
	must_eq(echo.received, 200);
	must_eq(echo.wrong, 0);
	must_eq(vmbus_vsc_close(p.vsc), 0);
	part_settle(&p);
	must(moves > 30);
	every = 0;
	part_end(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save", 30);

	tcase_add_loop_test(tc, lesson_06_a_partition_saved_at_every_point, 0, 3);
}

VMBUS_TEST_MAIN("kvm.save", tests)
