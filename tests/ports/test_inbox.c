/* SPDX-License-Identifier: MIT */
/* The queue of frames between threads. */
#include "frames.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "ports/inbox.h"

#define FRAME_BYTES 60u
#define PRODUCERS 4u
#define EACH (vmbus_test_full() ? 2000000u : 100000u)

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static struct vmbus__inbox *make(uint32_t bytes)
{
	struct vmbus__inbox *inbox;

	must_eq(vmbus__inbox_create(bytes, &inbox), 0);
	return inbox;
}

/* A frame of so many bytes, the first of which say who and which. */
static struct vmbus_frame numbered(uint8_t *bytes, struct vmbus_iov *iov, uint32_t len,
				   uint32_t number)
{
	memcpy(bytes, &number, 4);
	*iov = (struct vmbus_iov){ bytes, len };
	return (struct vmbus_frame){ .piece = iov, .pieces = 1, .bytes = len };
}

static uint32_t number_of(const struct vmbus_frame *frame)
{
	uint32_t number;

	memcpy(&number, frame->piece[0].base, 4);
	return number;
}

START_TEST(inbox_create__refuses_sizes)
{
	static const uint32_t sizes[] = { 0, 65536, 131071, 196608, 33554432, UINT32_MAX };
	struct vmbus__inbox *inbox = NULL;
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		ck_assert_int_eq(vmbus__inbox_create(sizes[i], &inbox), VMBUS_E_RANGE);
	ck_assert_ptr_null(inbox);
	vmbus__inbox_destroy(NULL);
}
END_TEST

START_TEST(inbox__carries_frames_of_every_kind_whole_and_in_order)
{
	struct vmbus__inbox *const inbox = make(131072);
	static struct built b;
	static struct vmbus_iov iov[70000];
	static uint8_t flat[VMBUS_FRAME_BYTES_MAX];
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 65000 };
	const uint32_t lens[] = { 14, 15, 60, 191, 192, 193, 1514, 9014, 65054 };
	const struct vmbus_frame *out;
	const uint32_t *tag;
	uint32_t round, i;

	build(&b, &s);
	for (round = 0; round < 400; round++) {
		for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			struct vmbus_frame frame = { .piece = iov,
						     .bytes = lens[i],
						     .flags = i,
						     .csum_start = 1,
						     .csum_offset = 2,
						     .header_bytes = 3,
						     .mss = 4,
						     .vlan = 5,
						     .hash = round };

			vmbus_test_at("round %u, %u bytes", round, lens[i]);
			b.bytes = lens[i];
			frame.pieces = pieces_of(iov, 70000, &b, 14, 500 + round);
			must_eq(vmbus__inbox_put(inbox, &frame, 1, i + 1), 1);
			must_eq(vmbus__inbox_look(inbox, &out, &tag), 1);
			must_eq(tag[0], i + 1);
			must_eq(out->pieces, 1);
			must_eq(out->flags, i);
			must_eq(out->csum_start, 1);
			must_eq(out->csum_offset, 2);
			must_eq(out->header_bytes, 3);
			must_eq(out->mss, 4);
			must_eq(out->vlan, 5);
			must_eq(out->hash, round);
			gather(flat, out);
			must(out->bytes == lens[i] && memcmp(flat, b.at, lens[i]) == 0);
			vmbus__inbox_done(inbox, 1);
		}
	}
	vmbus__inbox_destroy(inbox);
}
END_TEST

START_TEST(inbox_peek__gives_again_what_is_not_done)
{
	struct vmbus__inbox *const inbox = make(131072);
	const struct vmbus_frame *out;
	uint8_t bytes[3][FRAME_BYTES];
	struct vmbus_frame frame[3];
	struct vmbus_iov iov[3];
	uint32_t i;

	for (i = 0; i < 3; i++)
		frame[i] = numbered(bytes[i], &iov[i], FRAME_BYTES, i);
	ck_assert_uint_eq(vmbus__inbox_put(inbox, frame, 3, 0), 3);
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 3);
	vmbus__inbox_done(inbox, 1);
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 2);
	ck_assert_uint_eq(number_of(out), 1);
	vmbus__inbox_done(inbox, 2);
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	vmbus__inbox_destroy(inbox);
}
END_TEST

START_TEST(inbox_put__says_how_many_found_room_and_goes_on_after_that)
{
	struct vmbus__inbox *const inbox = make(131072);
	static uint8_t bytes[64][4000];
	const struct vmbus_frame *out;
	struct vmbus_frame frame[64];
	struct vmbus_iov iov[64];
	uint32_t i, put, n, taken = 0;

	for (i = 0; i < 64; i++)
		frame[i] = numbered(bytes[i], &iov[i], 4000, i);
	put = vmbus__inbox_put(inbox, frame, 64, 0);
	ck_assert(put > 20 && put < 33);
	ck_assert_uint_eq(vmbus__inbox_put(inbox, frame + put, 64 - put, 0), 0);
	while ((n = vmbus__inbox_look(inbox, &out, NULL)) != 0) {
		for (i = 0; i < n; i++)
			must_eq(number_of(&out[i]), taken + i);
		vmbus__inbox_done(inbox, n);
		taken += n;
	}
	ck_assert_uint_eq(taken, put);
	ck_assert_uint_eq(vmbus__inbox_put(inbox, frame + put, 20, 0), 20);
	ck_assert_uint_eq(vmbus__inbox_drain(inbox), 20);
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	vmbus__inbox_destroy(inbox);
}
END_TEST

START_TEST(inbox_fd__is_readable_when_there_is_something_and_not_else)
{
	struct vmbus__inbox *const inbox = make(131072);
	const int fd = vmbus__inbox_fd(inbox);
	const struct vmbus_frame *out;
	uint8_t bytes[FRAME_BYTES];
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	int i;

	frame = numbered(bytes, &iov, FRAME_BYTES, 1);
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0); /* armed now */
	for (i = 0; i < 3; i++) {
		ck_assert(!readable(fd));
		ck_assert_uint_eq(vmbus__inbox_put(inbox, &frame, 1, 0), 1);
		ck_assert(readable(fd));
		ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 1);
		ck_assert(!readable(fd));
		vmbus__inbox_done(inbox, 1);
		ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	}
	vmbus__inbox_ring(inbox);
	ck_assert(readable(fd));
	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	ck_assert(!readable(fd));
	vmbus__inbox_destroy(inbox);
}
END_TEST

/* Of 262,144 bytes 3,640 of the shortest frames fit, and as many are thrown away at most. */
START_TEST(inbox_drain__of_a_full_one_hears_of_the_next)
{
	struct vmbus__inbox *const inbox = make(262144);
	const struct vmbus_frame *out;
	uint32_t put = 0, got;
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	uint8_t bytes[14];

	ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	frame = numbered(bytes, &iov, sizeof(bytes), 1);
	while ((got = vmbus__inbox_put(inbox, &frame, 1, 0)) != 0)
		put += got;
	ck_assert_uint_eq(put, 3640);
	ck_assert_uint_eq(vmbus__inbox_drain(inbox), put);
	if (readable(vmbus__inbox_fd(inbox)))
		ck_assert_uint_eq(vmbus__inbox_look(inbox, &out, NULL), 0);
	ck_assert_uint_eq(vmbus__inbox_put(inbox, &frame, 1, 0), 1);
	ck_assert(readable(vmbus__inbox_fd(inbox)));
	vmbus__inbox_destroy(inbox);
}
END_TEST

START_TEST(inbox_wanted__tells_once_who_wants_room)
{
	struct vmbus__inbox *const inbox = make(131072);
	static uint8_t bytes[4000];
	const struct vmbus_frame *out;
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	uint32_t n;

	frame = numbered(bytes, &iov, 4000, 1);
	while (vmbus__inbox_put(inbox, &frame, 1, 0))
		;
	vmbus__inbox_want(inbox, 0);
	vmbus__inbox_want(inbox, 63);
	n = vmbus__inbox_look(inbox, &out, NULL);
	vmbus__inbox_done(inbox, n - 1);
	ck_assert_uint_eq(vmbus__inbox_wanted(inbox), 0); /* one is held, and all of them with it */
	vmbus__inbox_done(inbox, 1);
	ck_assert(vmbus__inbox_wanted(inbox) == (UINT64_C(1) << 63 | 1u));
	ck_assert_uint_eq(vmbus__inbox_wanted(inbox), 0);
	ck_assert_uint_eq(vmbus__inbox_put(inbox, &frame, 1, 0), 1);
	vmbus__inbox_destroy(inbox);
}
END_TEST

struct producer {
	struct vmbus__inbox *inbox;
	uint32_t who;
	pthread_t thread;
};

static void *produce(void *arg)
{
	const struct producer *const me = arg;
	uint8_t bytes[8][FRAME_BYTES];
	struct vmbus_frame frame[8];
	struct vmbus_iov iov[8];
	const uint32_t each = EACH;
	uint32_t next = 0, i, n;

	while (next < each) {
		n = 1 + next % 8;
		n = n < each - next ? n : each - next;
		for (i = 0; i < n; i++)
			frame[i] = numbered(bytes[i], &iov[i], FRAME_BYTES, next + i);
		i = vmbus__inbox_put(me->inbox, frame, n, me->who);
		if (i < n)
			(void)sched_yield();
		next += i;
	}
	return NULL;
}

/* Frames of each come in order and whole; nobody sleeps over one. */
START_TEST(inbox__takes_from_many_threads_without_a_lost_wakeup)
{
	struct producer producer[PRODUCERS];
	struct vmbus__inbox *const inbox = make(131072);
	uint32_t next[PRODUCERS] = { 0 }, left = PRODUCERS * EACH, i, n;
	struct pollfd p = { .fd = vmbus__inbox_fd(inbox), .events = POLLIN };
	const struct vmbus_frame *out;
	const uint32_t *tag;

	for (i = 0; i < PRODUCERS; i++) {
		producer[i] = (struct producer){ .inbox = inbox, .who = i };
		must(!pthread_create(&producer[i].thread, NULL, produce, &producer[i]));
	}
	while (left) {
		n = vmbus__inbox_look(inbox, &out, &tag);
		if (n == 0) {
			must_eq(poll(&p, 1, 10000), 1);
			continue;
		}
		for (i = 0; i < n; i++)
			must_eq(number_of(&out[i]), next[tag[i]]++);
		vmbus__inbox_done(inbox, n);
		left -= n;
	}
	for (i = 0; i < PRODUCERS; i++) {
		must(!pthread_join(producer[i].thread, NULL));
		must_eq(next[i], EACH);
	}
	vmbus__inbox_destroy(inbox);
}
END_TEST

/* Who finds no room waits for a word of the taker's, never for time to pass. */
struct waiter {
	struct vmbus__inbox *inbox;
	struct vmbus__inbox *back;
	pthread_t thread;
};

static void *produce_and_wait(void *arg)
{
	const struct waiter *const me = arg;
	struct pollfd p = { .fd = vmbus__inbox_fd(me->back), .events = POLLIN };
	static uint8_t bytes[2000];
	const struct vmbus_frame *none;
	struct vmbus_frame frame;
	struct vmbus_iov iov;
	uint32_t i;

	(void)vmbus__inbox_look(me->back, &none, NULL);
	const uint32_t each = EACH;

	for (i = 0; i < each; i++) {
		frame = numbered(bytes, &iov, 2000, i);
		while (!vmbus__inbox_put(me->inbox, &frame, 1, 0)) {
			vmbus__inbox_want(me->inbox, 5);
			if (vmbus__inbox_put(me->inbox, &frame, 1, 0))
				break;
			must_eq(poll(&p, 1, 10000), 1);
			(void)vmbus__inbox_look(me->back, &none, NULL);
		}
	}
	return NULL;
}

START_TEST(inbox_want__loses_no_wakeup)
{
	struct waiter waiter = { .inbox = make(131072), .back = make(131072) };
	struct pollfd p = { .fd = vmbus__inbox_fd(waiter.inbox), .events = POLLIN };
	const struct vmbus_frame *out;
	uint32_t next = 0, n, i;
	const uint32_t each = EACH;

	must(!pthread_create(&waiter.thread, NULL, produce_and_wait, &waiter));
	while (next < each) {
		n = vmbus__inbox_look(waiter.inbox, &out, NULL);
		for (i = 0; i < n; i++)
			must_eq(number_of(&out[i]), next++);
		vmbus__inbox_done(waiter.inbox, n);
		if (vmbus__inbox_wanted(waiter.inbox))
			vmbus__inbox_ring(waiter.back);
		if (n == 0 && next < each)
			must_eq(poll(&p, 1, 10000), 1);
	}
	must(!pthread_join(waiter.thread, NULL));
	vmbus__inbox_destroy(waiter.inbox);
	vmbus__inbox_destroy(waiter.back);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "inbox", 20);

	tcase_add_test(tc, inbox_create__refuses_sizes);
	tcase_add_test(tc, inbox__carries_frames_of_every_kind_whole_and_in_order);
	tcase_add_test(tc, inbox_peek__gives_again_what_is_not_done);
	tcase_add_test(tc, inbox_put__says_how_many_found_room_and_goes_on_after_that);
	tcase_add_test(tc, inbox_fd__is_readable_when_there_is_something_and_not_else);
	tcase_add_test(tc, inbox_drain__of_a_full_one_hears_of_the_next);
	tcase_add_test(tc, inbox_wanted__tells_once_who_wants_room);
	tcase_add_test(tc, inbox__takes_from_many_threads_without_a_lost_wakeup);
	tcase_add_test(tc, inbox_want__loses_no_wakeup);
}

VMBUS_TEST_MAIN("ports.inbox", tests)
