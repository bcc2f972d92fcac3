/* SPDX-License-Identifier: MIT */
/*
 * The timer of a bus whose descriptor becomes readable later than the clock says, as it does on a
 * loaded machine: here by as much as the test wants.
 */
#include "fake.h"

#include <sys/syscall.h>
#include <sys/timerfd.h>

#define MS 1000000u

static uint64_t late_ns;

static uint64_t now_ns(void)
{
	struct timespec now;

	must_eq(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wait_until(uint64_t at)
{
	const struct timespec when = { .tv_sec = (time_t)(at / 1000000000u),
				       .tv_nsec = (long)(at % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL))
		continue;
}

/* In the place of the C library's. */
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
	struct itimerspec late = *value;
	const uint64_t at =
		(uint64_t)value->it_value.tv_sec * 1000000000u + (uint64_t)value->it_value.tv_nsec;

	if (at) {
		late.it_value.tv_sec = (time_t)((at + late_ns) / 1000000000u);
		late.it_value.tv_nsec = (long)((at + late_ns) % 1000000000u);
	}
	return (int)syscall(SYS_timerfd_settime, fd, flags, &late, old);
}

/* The clock is past the time and the descriptor is not: what is done then is done once. */
START_TEST(bus_fd__rests_after_a_late_timer)
{
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct fake f;
	uint64_t begin;

	late_ns = 60 * MS;
	fake_init(&f, 64);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	begin = now_ns();
	fake_run(&f);
	wait_until(begin + 110 * MS); /* the second signal after an open is due at 100 ms */
	must(vmbus_bus_dispatch(f.bus, 64) > 0);
	wait_until(begin + 200 * MS);
	must_eq(fake_readable(vmbus_bus_fd(f.bus)), 0);
	must_eq(vmbus_bus_dispatch(f.bus, 64), 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "timer", 20);

	tcase_add_test(tc, bus_fd__rests_after_a_late_timer);
}

VMBUS_TEST_MAIN("bus.timer", tests)
