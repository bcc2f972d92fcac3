/* SPDX-License-Identifier: MIT */
/*
 * Both sides of the SynIC pages in threads that are honest: messages through one slot, with every
 * EOM that is due and none that is not asked for, and flags raised by many threads at once.
 * The thread sanitizer runs this too.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <vmbus/synic.h>

#include "base/atomic.h"
#include "vmbus_test.h"

#define MESSAGES 20000u
#define RAISERS 3u
#define RAISES 20000u
#define FLAGS 130u /* three words */

enum {
	SIEFP = 0x40000082,
	SIMP = 0x40000083,
	EOM = 0x40000084,
	SINT2 = 0x40000092
};

static _Alignas(4096) uint8_t messages[4096], flags[4096];
static struct vmbus_synic synic;

/* Between the two sides: interrupts are a bell that stays rung; so is the news of a free slot. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool rung, slot_free, done;
} bells = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void ring(bool *bell)
{
	pthread_mutex_lock(&bells.lock);
	*bell = true;
	pthread_cond_broadcast(&bells.changed);
	pthread_mutex_unlock(&bells.lock);
}

/* Sleep until the bell is rung, and take it; false: nothing for a minute, a wake-up was lost. */
static bool wait_for(bool *bell)
{
	struct timespec end;
	int err = 0;
	bool rung;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 60;
	pthread_mutex_lock(&bells.lock);
	while (!*bell && !bells.done && err == 0)
		err = pthread_cond_timedwait(&bells.changed, &bells.lock, &end);
	rung = *bell || bells.done;
	*bell = false;
	pthread_mutex_unlock(&bells.lock);
	return rung;
}

static void fresh(void)
{
	vmbus_synic_reset(&synic);
	must(vmbus_synic_msr_write(&synic, SIMP, 0x7001, false) >= 0);
	must(vmbus_synic_msr_write(&synic, SIEFP, 0x9001, false) >= 0);
	vmbus_synic_set_pages(&synic, messages, flags, NULL, 0, 0);
	must(vmbus_synic_msr_write(&synic, SINT2, 0xF3, false) >= 0);
	bells.rung = bells.slot_free = bells.done = false;
}

/* The parent: a message that finds the slot taken waits for the guest's EOM, and for nothing else. */
static void *post_all(void *arg)
{
	struct vmbus_synic_msg msg = { .type = 1 };
	uint32_t i = 0, vector, b;
	int ret;

	(void)arg;
	while (i < MESSAGES) {
		msg.bytes = i % 241;
		msg.sender = i;
		for (b = 0; b < msg.bytes; b++)
			msg.payload[b] = (uint8_t)(i + b);
		ret = vmbus_synic_post(&synic, 2, &msg, i % 3 == 0, &vector);
		if (ret == VMBUS_E_AGAIN) {
			if (!wait_for(&bells.slot_free))
				return (void *)(uintptr_t) "no EOM came";
			continue;
		}
		if (ret != (int)VMBUS_SYNIC_INTERRUPT)
			return (void *)(uintptr_t) "post refused";
		ring(&bells.rung);
		i++;
	}
	return NULL;
}

/* The guest: on an interrupt, one message, as Linux does it; EOM when it is due. */
START_TEST(synic__messages_between_two_threads)
{
	struct vmbus_synic_msg got;
	pthread_t thread;
	void *failure;
	uint32_t i = 0, b, eoms = 0;
	bool eom;
	int ret;

	fresh();
	must_eq(pthread_create(&thread, NULL, post_all, NULL), 0);
	while (i < MESSAGES) {
		vmbus_test_at("message %u", i);
		must(wait_for(&bells.rung));
		ret = vmbus_synic_take(messages, 2, &got, &eom);
		if (ret == 0)
			continue;
		must_eq(ret, 1);
		must_eq(got.type, 1);
		must_eq(got.bytes, i % 241);
		must_eq(got.sender, i);
		for (b = 0; b < got.bytes; b++)
			must_eq(got.payload[b], (uint8_t)(i + b));
		i++;
		if (!eom)
			continue;
		eoms++;
		must_eq(vmbus_synic_msr_write(&synic, EOM, 0, false), VMBUS_SYNIC_SLOT_FREE);
		ring(&bells.slot_free);
	}
	must_eq(pthread_join(thread, &failure), 0);
	must(failure == NULL);
	must(eoms >= MESSAGES / 3); /* those that said that more waits */
}
END_TEST

static vmbus__a64 sent[RAISERS]; /* what each raiser did before its flag, one writer each */
static uint64_t interrupts[RAISERS], last[RAISERS];

static void *raise_many(void *arg)
{
	const uint32_t me = (uint32_t)(uintptr_t)arg;
	uint32_t i, vector;
	int ret;

	for (i = 1; i <= RAISES; i++) {
		vmbus__st64_relaxed(&sent[me], i);
		ret = vmbus_synic_raise(&synic, 2, me + (i % 2) * 64, &vector);
		if (ret < 0)
			return (void *)(uintptr_t) "raise refused";
		if (ret == (int)VMBUS_SYNIC_INTERRUPT) {
			interrupts[me]++;
			ring(&bells.rung);
		}
	}
	return NULL;
}

/* Each event is seen: after the last one of a raiser the guest has seen all that it did. */
START_TEST(synic__flags_of_many_threads)
{
	pthread_t thread[RAISERS];
	void *failure;
	uint32_t t, word, done = 0;
	uint64_t taken = 0;

	fresh();
	for (t = 0; t < RAISERS; t++)
		must_eq(pthread_create(&thread[t], NULL, raise_many, (void *)(uintptr_t)t), 0);
	while (done < RAISERS) {
		must(wait_for(&bells.rung));
		for (word = 0; word < 2; word++) {
			const uint64_t bits = vmbus_synic_take_flags(flags, 2, word);

			taken += (uint64_t)__builtin_popcountll(bits);
			must_eq(bits >> RAISERS, 0);
			for (t = 0; t < RAISERS; t++)
				if (bits >> t & 1)
					last[t] = vmbus__ld64_relaxed(&sent[t]);
		}
		for (done = 0, t = 0; t < RAISERS; t++)
			done += last[t] == RAISES;
	}
	for (t = 0; t < RAISERS; t++) {
		must_eq(pthread_join(thread[t], &failure), 0);
		must(failure == NULL);
	}
	for (word = 0; word < 2; word++)
		taken += (uint64_t)__builtin_popcountll(vmbus_synic_take_flags(flags, 2, word));
	/* An interrupt for each flag that was clear, and a flag was clear as often as it was taken. */
	must_eq(taken, interrupts[0] + interrupts[1] + interrupts[2]);
}
END_TEST

/* The guest writes registers while others post and raise: no more than that nothing breaks. */
static void *raise_and_post(void *arg)
{
	const struct vmbus_synic_msg msg = { .type = 1, .bytes = 8 };
	uint32_t i, vector;

	for (i = 0; i < RAISES; i++) {
		(void)vmbus_synic_raise(&synic, 2, i % FLAGS, &vector);
		if (arg)
			(void)vmbus_synic_post(&synic, 2, &msg, false, &vector);
	}
	return NULL;
}

START_TEST(synic__register_writes_beside_them)
{
	pthread_t thread[2];
	struct vmbus_synic_msg got;
	uint32_t i;
	bool eom;
	int err;

	fresh();
	must_eq(pthread_create(&thread[0], NULL, raise_and_post, &synic), 0);
	must_eq(pthread_create(&thread[1], NULL, raise_and_post, NULL), 0);
	for (i = 0; i < RAISES; i++) {
		must(vmbus_synic_msr_write(&synic, SINT2, i % 2 ? 0xF3 : 0x100F3, false) >= 0);
		if (i % 16 == 0) {
			must(vmbus_synic_msr_write(&synic, SIMP, i % 32 ? 0x7001 : 0x7000, false) >=
			     0);
			vmbus_synic_set_pages(&synic, i % 32 ? messages : NULL, flags, NULL, 0, 0);
		}
		/* From a page that is taken away one may be taken back at the same moment. */
		err = vmbus_synic_take(messages, 2, &got, &eom);
		must(err >= 0 || err == VMBUS_E_PEER);
		(void)vmbus_synic_take_flags(flags, 2, i % 3);
	}
	must_eq(pthread_join(thread[0], NULL), 0);
	must_eq(pthread_join(thread[1], NULL), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "threads", 20);

	tcase_add_test(tc, synic__messages_between_two_threads);
	tcase_add_test(tc, synic__flags_of_many_threads);
	tcase_add_test(tc, synic__register_writes_beside_them);
}

VMBUS_TEST_MAIN("hypercall.synic_threads", tests)
