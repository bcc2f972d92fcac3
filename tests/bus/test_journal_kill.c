/* SPDX-License-Identifier: MIT */
/*
 * A process with a journal dies, at any instruction, and another goes on: every request is answered
 * once, whole, and those without a completion in order.
 *
 * The exhaustive test lets a process run instruction by instruction; whenever a word has changed
 * that the process after it looks at, all that outlives it is copied, and a bus that goes on from the
 * copy has to bring the rest.  The other one sends SIGKILL at random moments.
 */
#include "journalbox.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

/* An instrumented program has several times the instructions. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INSTRUMENTED 1
#endif
#endif
#ifndef INSTRUMENTED
#define INSTRUMENTED 0
#endif

#define STEPS_MAX 3000000u
#define HEAD_BYTES 192u /* of the journal, before the slots */

enum {
	AT_ONCE,
	LATER,
	BOTH,
	KINDS
};

static void set_kind(struct jb *b, int kind)
{
	b->dev.later = kind != AT_ONCE;
	b->dev.both = kind == BOTH;
}

/* ---- from an image on ---- */

/* Loses its bus without a word, as a death does. */
static void die(struct jb *b)
{
	uint8_t journal[sizeof(((struct jb_image *)0)->journal)];
	const size_t bytes = b->journal_bytes;

	memcpy(journal, b->journal, bytes);
	must_eq(vmbus_chan_set_journal(b->chan, NULL, 0), 0);
	must(memcmp(journal, b->journal, bytes) == 0);
	jb_free(b);
}

/*
 * Another process goes on from an image, perhaps after one that died at once: everything comes, once;
 * then it is closed.
 */
static void verify(const struct jb_image *image, int kind, bool again)
{
	static struct jb b;
	static struct jb_child child;
	struct vmbus_ctl ctl;

	child = image->child;
	jb_from(&b, &jb_vsp, image);
	set_kind(&b, kind);
	jb_open(&b);
	must_eq(b.err, 0);
	must(b.dev.resumed);
	must(atomic_load(&b.f.raised) > 0);
	if (again) { /* it dies as well, as soon as it has begun */
		static struct jb_image second;

		jb_save(&b, &second);
		second.child = image->child;
		die(&b);
		verify(&second, kind, false);
		return;
	}
	jb_drain(&b, &child);
	(void)jb_send(&b, &child, 7);
	vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
	jb_drain(&b, &child);
	must_eq(child.came, child.sent);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(b.dev.closes, 1);
	jb_free(&b);
}

static void verify_both(const struct jb_image *image, int kind)
{
	verify(image, kind, false);
	verify(image, kind, true);
}

/* ---- instruction by instruction ---- */

struct watch {
	const struct jb *b;
	const uint8_t *slots;
	size_t slots_bytes;
	uint8_t was[4096 * 8];
	uint32_t copies;
	uint64_t steps;
};

/* What the next process looks at: our two indices, and the journal. */
static bool changed(struct watch *w)
{
	const uint8_t *mem = w->b->f.mem;
	const uint8_t *const out = mem + JB_FIRST * FAKE_PAGE + 4;
	const uint8_t *const in = mem + (JB_FIRST + JB_UP) * FAKE_PAGE;
	const size_t bytes = w->b->journal_bytes;
	bool same = memcmp(w->was, out, 4) == 0 && memcmp(w->was + 4, in, 4) == 0 &&
		    memcmp(w->was + 8, w->b->journal, bytes) == 0;

	if (same)
		return false;
	memcpy(w->was, out, 4);
	memcpy(w->was + 4, in, 4);
	memcpy(w->was + 8, w->b->journal, bytes);
	return true;
}

/* What the process that is traced does. */
static void act(struct jb *b, bool open)
{
	if (open)
		jb_open(b);
	else
		fake_run(&b->f);
	if (!open) {
		jb_pay(&b->dev, 2, false);
		fake_run(&b->f);
	}
}

/* Whether a commit is noted, and its index is not stored. */
static bool is_between(const struct jb *b)
{
	const uint64_t count = JB_ACTIVE(b->journal);
	uint32_t tx[3];

	memcpy(tx, b->journal + 64 + count % 2 * 64 + 8, 8);
	memcpy(&tx[2], b->f.mem + (JB_FIRST + JB_UP) * FAKE_PAGE, 4);
	return count && tx[0] != tx[1] && tx[2] == tx[0];
}

/*
 * Let a copy of this process act, and look at each state that it leaves.  Returns false when no
 * process can be traced here.  What it did is in the shared memory afterwards; b's bus knows nothing
 * of it, and is good for nothing but to be freed.  between: NULL, or where a state goes that is_between(),
 * the last one.
 */
static bool trace(struct jb *b, const struct jb_child *child, struct jb_image *between, int kind,
		  struct watch *w)
{
	static struct jb_image image;
	int status;
	pid_t pid;

	must(b->journal_bytes + 8 <= sizeof(w->was));
	memset(w, 0, sizeof(*w));
	w->b = b;
	(void)changed(w);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(VMBUS_TEST_SKIPPED);
		raise(SIGSTOP);
		act(b, between == NULL);
		_exit(0);
	}
	must_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		return false;
	for (;;) {
		must(++w->steps < STEPS_MAX);
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL)) {
			kill(pid, SIGKILL);
			(void)waitpid(pid, &status, 0);
			return false;
		}
		must_eq(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		if (!changed(w))
			continue;
		w->copies++;
		jb_save(b, &image);
		image.child = *child;
		/* Before the first commit there is no open channel. */
		if (between && is_between(b))
			*between = image;
		if (JB_ACTIVE(image.journal))
			verify_both(&image, kind);
	}
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 0);
	return true;
}

START_TEST(lesson_a2_goes_on_after_a_death_at_any_instruction)
{
	static struct jb b;
	static struct jb_image image, between;
	static struct jb_child child;
	static struct watch w;
	const uint32_t stages = INSTRUMENTED ? 1 : vmbus_test_full() ? 8 : 3;
	uint32_t stage, copies = 0, betweens = 0;
	uint64_t steps = 0;

	jb_new(&b, &jb_vsp);
	memset(&child, 0, sizeof(child));
	set_kind(&b, _i);
	for (stage = 0; stage < stages; stage++) {
		vmbus_test_at("stage %u", stage);
		/* The first answers fit; then the ring is full; then there is room for some. */
		(void)jb_send(&b, &child, stage == 0 ? 3 : 40);
		(void)jb_take(&b, &child, stage * 4);
		vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
		memset(between.journal, 0, sizeof(between.journal));
		if (!trace(&b, &child, &between, _i, &w)) {
			die(&b);
			VMBUS_TEST_SKIP("no process can be traced here");
		}
		copies += w.copies;
		steps += w.steps;
		jb_save(&b, &image);
		image.child = child;
		die(&b);
		jb_from(&b, &jb_vsp, &image);
		set_kind(&b, _i);
		must(trace(&b, &child, NULL, _i, &w));
		copies += w.copies;
		steps += w.steps;
		if (JB_ACTIVE(between.journal)) {
			jb_free(&b);
			jb_from(&b, &jb_vsp, &between);
			set_kind(&b, _i);
			must(trace(&b, &between.child, NULL, _i, &w));
			copies += w.copies;
			steps += w.steps;
			betweens++;
			jb_free(&b);
			jb_from(&b, &jb_vsp, &image);
		}
		/* This process's bus has not opened it: from the beginning, for the next stage. */
		jb_free(&b);
		jb_from(&b, &jb_vsp, &image);
		set_kind(&b, _i);
		jb_open(&b);
		must_eq(b.err, 0);
	}
	jb_drain(&b, &child);
	printf("%s: %u states of %llu instructions\n", __func__, copies, (unsigned long long)steps);
	must(copies > 10 && betweens > 0);
	die(&b);
}
END_TEST

/* ---- SIGKILL at random moments ---- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* The process that serves: until it is killed. */
static void serve(struct jb *b, int kind)
{
	jb_offer(b);
	set_kind(b, kind);
	jb_open(b);
	if (b->err || !b->dev.resumed)
		_exit(3);
	for (;;) {
		(void)vmbus_bus_signal_event(b->f.bus, b->c.conn, 0);
		fake_run(&b->f);
		jb_pay(&b->dev, 4, false);
	}
}

START_TEST(lesson_a2_goes_on_after_sigkill_at_random_moments)
{
	static struct jb b;
	static struct jb_image image;
	static struct jb_child child;
	const uint32_t rounds = vmbus_test_full() ? 1000 : 120;
	uint32_t seed = (uint32_t)getpid(), round;
	uint64_t came = 0;

	printf("seed %u\n", seed);
	memset(&child, 0, sizeof(child));
	jb_new(&b, &jb_vsp);
	for (round = 0; round < rounds; round++) {
		const uint64_t until = fake_now_ns() + 500000u + next_random(&seed) % 2500000u;
		const uint64_t late = until + 5000000000u, had = child.came;
		int status;
		pid_t pid;

		vmbus_test_at("round %u", round);
		pid = fork();
		must(pid >= 0);
		if (pid == 0) {
			memset(&b.dev, 0, sizeof(b.dev));
			b.f.posted = b.f.taken = 0;
			serve(&b, (int)(round % KINDS));
		}
		/* Every third process lives until it has answered something, however slow it is. */
		while (fake_now_ns() < until ||
		       (round % 3 == 0 && child.came == had && fake_now_ns() < late)) {
			if (child.sent + 64 < JB_IDS)
				(void)jb_send(&b, &child, 1 + next_random(&seed) % 12);
			(void)jb_take(&b, &child, 1 + next_random(&seed) % 9);
			(void)sched_yield();
			if (child.sent + 64 >= JB_IDS && child.came == child.sent)
				break;
		}
		kill(pid, SIGKILL);
		must_eq(waitpid(pid, &status, 0), pid);
		must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		if (child.sent + 64 >= JB_IDS && child.came == child.sent) { /* ids from 1 again */
			came += child.came;
			memset(&child, 0, sizeof(child));
		}
	}
	jb_save(&b, &image);
	image.child = child;
	verify(&image, AT_ONCE, true);
	came += child.came;
	printf("%u deaths, %llu answers\n", rounds, (unsigned long long)came);
	must(came > rounds / 4);
	die(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "kill", 110);

	tcase_add_loop_test(tc, lesson_a2_goes_on_after_a_death_at_any_instruction, 0, KINDS);
	tcase_add_test(tc, lesson_a2_goes_on_after_sigkill_at_random_moments);
}

VMBUS_TEST_MAIN("bus.journal_kill", tests)
