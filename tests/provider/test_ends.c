/* SPDX-License-Identifier: MIT */
/*
 * Ends of a provider, as the host sees them: last words, who is thrown out and who is not, and what
 * the next one is told.
 */
#include "stage.h"

#include <pthread.h>
#include <sys/resource.h>
#include <urcu-bp.h>

#include "../../backends/shm/provider_host.h"

/* The child does not know of an opening that nobody answered, so that is not one to resume. */
START_TEST(provider_host__resumes_what_was_open_only)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_CHILD_OPENS);
	provide(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	run(&s);
	must(script_take(s.sock, &record, &msg));
	vmbus__shm_record_close(&record);
	must_eq(msg.type, VMBUS_PV_OPEN);
	must_eq(msg.open, s.serial);
	must_eq(record.fd_count, 0);
	must_eq(msg.flags & VMBUS_PV_RESUME, 0);
	must(msg.flags & VMBUS_PV_JOURNAL);
	stage_fini(&s);
}
END_TEST

/* A reset of the connection is told before what was said last; both are heard. */
START_TEST(shm_recv__hears_last_words_after_a_reset)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_YIELDED };
	struct vmbus__shm_record record;
	int pair[2];

	must_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	script_send(pair[0], &msg);
	script_send(pair[0], &msg);
	script_send(pair[1], &msg); /* never read */
	close(pair[0]);
	must_eq(vmbus__shm_recv(pair[1], &record), 1);
	must_eq(vmbus__shm_recv(pair[1], &record), 1);
	must_eq(vmbus__shm_recv(pair[1], &record), VMBUS_E_PEER);
	must_eq(vmbus__shm_recv(pair[1], &record), VMBUS_E_PEER);
	close(pair[1]);
}
END_TEST

/* It failed a channel and died, with a message of ours that it had not read. */
START_TEST(provider_host__hears_last_words)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_FAULT, .text = "over" };
	const struct vmbus__pv_msg signal = { .type = VMBUS_PV_SIGNAL, .bus = 1 };
	struct vmbus_ctl ctl;
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_child_signal(&s.chan);
	run(&s);
	for (i = 0; i < 100; i++)
		script_send(s.sock, &signal);
	msg.bus = s.bus;
	msg.open = s.serial;
	script_send(s.sock, &msg);
	close(s.sock);
	s.sock = -1;
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	stage_fini(&s);
}
END_TEST

static bool helper_is_dead(const struct stage *s)
{
	siginfo_t info = { 0 };

	must_eq(waitid(P_PID, (id_t)s->helper, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == s->helper;
}

/* A channel that a hung provider does not close is closed when the provider is dead. */
START_TEST(provider_host__closes_when_the_provider_is_dead)
{
	struct vmbus_ctl ctl;
	struct stage s;
	uint64_t end;
	int status;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	s.opts.answer_ns = 50 * MS;
	s.with_helper = true;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	step(&s, S_CHILD_CLOSES);
	fake_expect_none(&s.f);
	end = fake_now_ns() + 5000 * MS;
	while (s.f.taken == s.f.posted) {
		must(fake_now_ns() < end);
		run(&s);
	}
	must(helper_is_dead(&s));
	must_eq(waitpid(s.helper, &status, 0), s.helper);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	fake_expect_none(&s.f);
	must(script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

/* The process is dead, and its words are in a socket that somebody holds open. */
START_TEST(provider_host__hears_last_words_of_the_dead)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_FAULT, .text = "over" };
	const struct vmbus__pv_msg signal = { .type = VMBUS_PV_SIGNAL, .bus = 1 };
	struct vmbus_ctl ctl;
	struct stage s;
	uint32_t i;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	s.with_helper = true;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	for (i = 0; i < 150; i++)
		script_send(s.sock, &signal);
	msg.bus = s.bus;
	msg.open = s.serial;
	script_send(s.sock, &msg);
	kill(s.helper, SIGKILL);
	while (!helper_is_dead(&s))
		usleep(1000);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(waitpid(s.helper, NULL, 0), s.helper);
	must(script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

/* What the child does to channels of a bus that was taken away is told to nobody. */
START_TEST(provider_host__tells_nothing_of_a_bus_that_is_gone)
{
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_OPENED);
	vmbus_provider_host_remove_bus(s.host, s.f.bus);
	fake_child_signal(&s.chan);
	(void)expect(&s, VMBUS_PV_BUS_GONE, 0);
	fake_child_signal(&s.chan);
	expect_none(&s);
	fake_post_close(&s.f, &s.chan);
	expect_none(&s);
	must(!script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

static struct vmbus__pvh_session *its_session(struct stage *s)
{
	must(s->host->devices && s->host->devices->session);
	return s->host->devices->session;
}

/* The child describes pages until the socket takes no more; returns the first list not told. */
static uint32_t fill_socket(struct stage *s)
{
	uint32_t id = 0x1000;

	fake_rings(&s->f, &s->chan, 4, 4);
	for (;; id++) {
		must(id < 0x3000);
		must_eq(fake_share(&s->f, s->chan.relid, id, s->chan.first, 8), 0);
		run(s);
		if (its_session(s)->blocked)
			return id;
	}
}

START_TEST(provider_host__waits_for_no_room_without_need)
{
	struct vmbus_ctl ctl;
	struct stage s;
	uint32_t id;

	stage_prepare(&s);
	s.opts.answer_ns = 50 * MS;
	stage_start(&s);
	steps_to(&s, S_READY);
	id = fill_socket(&s);
	fake_post_teardown(&s.f, s.chan.relid, id);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must(!its_session(&s)->blocked);
	must(!its_session(&s)->watched_out);
	usleep(80 * 1000);
	run(&s);
	must(!script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

/* The answer came in time, and it is the host that did not look. */
START_TEST(provider_host__is_late_itself)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_OPENED };
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.opts.answer_ns = 30 * MS;
	stage_start(&s);
	steps_to(&s, S_CHILD_OPENS);
	msg.bus = s.bus;
	msg.open = s.serial;
	script_send(s.sock, &msg);
	usleep(60 * 1000);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	must(!script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

/* The parent has no descriptor left: that opening fails, and the provider stays. */
START_TEST(provider_host__lacks_descriptors)
{
	int fds[256], n = 0;
	struct rlimit old, limit;
	struct vmbus_ctl ctl;
	struct stage s;

	stage_init(&s);
	steps_to(&s, S_READY);
	must_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = 200;
	must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (n < 256 && (fds[n] = eventfd(0, EFD_CLOEXEC)) >= 0)
		n++;
	must(n > 0 && n < 256);
	close(fds[--n]); /* one is left, for what the child signals */
	child_opens(&s);
	run(&s);
	while (n > 0)
		close(fds[--n]);
	must_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must(ctl.u.result.status != 0);
	must(!script_closed(s.sock));
	stage_fini(&s);
}
END_TEST

/* The next one died before the one that is there heard of it: no pause began. */
START_TEST(provider_host__forgets_a_pause_that_was_none)
{
	struct vmbus__pv_msg msg = script_provide(VMBUS_PV_RESUMABLE | VMBUS_PV_TAKE_OVER);
	struct stage s;
	int heir;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_READY);
	(void)fill_socket(&s);
	heir = vmbus__shm_connect(s.path, 1000 * MS);
	must(heir >= 0);
	script_send(heir, &msg);
	run(&s);
	memset(&msg, 0, sizeof(msg));
	msg.type = VMBUS_PV_BUS_READY;
	msg.bus = s.bus;
	script_send(heir, &msg);
	run(&s);
	must(its_session(&s)->yielding && !its_session(&s)->told_yield);
	must(s.host->devices->pause_from != 0);
	close(heir);
	run(&s);
	must(!its_session(&s)->yielding);
	must_eq(s.host->devices->pause_from, 0);
	stage_fini(&s);
}
END_TEST

/* What was open when its provider died is closed when the next one comes: nothing waits for it. */
START_TEST(provider_host__forgets_a_pause_that_nobody_waits_for)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	close(s.sock);
	s.sock = -1;
	run(&s);
	must(s.host->devices->pause_from != 0);
	fake_post_close(&s.f, &s.chan);
	run(&s);
	provide(&s);
	must_eq(s.host->devices->pause_from, 0);
	stage_fini(&s);
}
END_TEST

static int reading, read_enough;

/* Returns NULL if it was not told in time. */
static void *read_on(void *arg)
{
	const uint64_t end = fake_now_ns() + 3000 * MS;
	int told;

	urcu_bp_read_lock();
	__atomic_store_n(&reading, 1, __ATOMIC_RELEASE);
	while (!(told = __atomic_load_n(&read_enough, __ATOMIC_ACQUIRE)) && fake_now_ns() < end)
		usleep(100);
	urcu_bp_read_unlock();
	return told ? arg : NULL;
}

/* A device that was gone is offered again while a thread reads: grace periods do not end then. */
START_TEST(provider_host__waits_for_no_grace_period)
{
	const struct vmbus__pv_msg bye = { .type = VMBUS_SHM_BYE };
	struct vmbus_ctl ctl;
	pthread_t reader;
	struct stage s;
	void *told;

	stage_init(&s);
	steps_to(&s, S_READY);
	script_send(s.sock, &bye);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	fake_post_released(&s.f, s.chan.relid);
	run(&s);
	must_eq(pthread_create(&reader, NULL, read_on, &s), 0);
	while (!__atomic_load_n(&reading, __ATOMIC_ACQUIRE))
		usleep(100);
	provide(&s);
	fake_expect(&s.f, VMBUS_CTL_OFFER, &ctl);
	__atomic_store_n(&read_enough, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(reader, &told), 0);
	must(told != NULL);
	stage_fini(&s);
}
END_TEST

/* When the one that is there gives way, the next one is not late, and the host waits for no time of its. */
START_TEST(provider_host__sleeps_while_the_one_that_is_there_gives_way)
{
	struct vmbus__pv_msg msg = script_provide(VMBUS_PV_RESUMABLE | VMBUS_PV_TAKE_OVER);
	struct stage s;
	int heir;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_READY);
	heir = vmbus__shm_connect(s.path, 1000 * MS);
	must(heir >= 0);
	script_send(heir, &msg);
	run(&s);
	memset(&msg, 0, sizeof(msg));
	msg.type = VMBUS_PV_BUS_READY;
	msg.bus = s.bus;
	script_send(heir, &msg);
	(void)expect(&s, VMBUS_PV_YIELD, 0);
	s.host->devices->heir->ready_by = fake_now_ns() - 1;
	vmbus__pvh_kick(s.host);
	run(&s);
	must(its_session(&s)->yielding);
	close(heir);
	stage_fini(&s);
}
END_TEST

/* A thread of this process is no process to kill: what it had is withdrawn, and not resumed. */
START_TEST(provider_host__withdraws_what_one_that_lives_had)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	say(&s, VMBUS_PV_YIELDED); /* was not asked for */
	must(script_closed(s.sock));
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	stage_fini(&s);
}
END_TEST

/* Whose device has an instance id of its own is back before the child has let go of the last one. */
START_TEST(provider_host__offers_an_instance_when_the_last_one_is_let_go)
{
	const struct vmbus__pv_msg bye = { .type = VMBUS_SHM_BYE };
	const struct vmbus_guid instance = { .b = { 0x77 } };
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	s.instance = instance;
	stage_start(&s);
	steps_to(&s, S_READY);
	script_send(s.sock, &bye);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl);
	provide(&s);
	fake_expect_none(&s.f);
	fake_post_released(&s.f, s.chan.relid);
	run(&s);
	fake_expect(&s.f, VMBUS_CTL_OFFER, &ctl);
	must(vmbus_guid_equal(&ctl.u.offer.instance_id, &instance));
	stage_fini(&s);
}
END_TEST

/* One of another kind does not end what children have open and the next of the same kind resumes. */
START_TEST(provider_host__refuses_another_kind_while_children_wait)
{
	struct vmbus__pv_msg msg = script_provide(VMBUS_PV_RESUMABLE), answer;
	struct vmbus__shm_record record;
	struct vmbus_ctl ctl;
	struct stage s;
	int sock;

	stage_prepare(&s);
	s.flags = VMBUS_PV_RESUMABLE;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	close(s.sock);
	s.sock = -1;
	run(&s);
	msg.journal *= 2;
	sock = vmbus__shm_connect(s.path, 1000 * MS);
	must(sock >= 0);
	script_send(sock, &msg);
	run(&s);
	must(script_take(sock, &record, &answer));
	must_eq(answer.type, VMBUS_SHM_REFUSED);
	must_eq(answer.code, VMBUS_SHM_CODE_DENIED);
	close(sock);
	fake_expect_none(&s.f);
	provide(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	must(expect(&s, VMBUS_PV_OPEN, 2).flags & VMBUS_PV_RESUME);
	stage_fini(&s);
}
END_TEST

static void fake_expect_offer(struct stage *s, struct fake_chan *sub)
{
	struct vmbus_ctl ctl;

	run(s);
	fake_expect(&s->f, VMBUS_CTL_OFFER, &ctl);
	*sub = (struct fake_chan){ .fake = &s->f,
				   .relid = ctl.u.offer.relid,
				   .conn = ctl.u.offer.conn_id,
				   .instance = ctl.u.offer.instance_id };
}

static void say_list(struct stage *s, uint32_t type, uint32_t gpadl)
{
	const struct vmbus__pv_msg msg = { .type = type, .bus = s->bus, .gpadl = gpadl };

	script_send(s->sock, &msg);
	run(s);
}

/*
 * A child takes back pages that the device may look at until it is closed.  That is no silence of the
 * provider's; after the closing it is.
 */
START_TEST(provider_host__waits_for_no_list_that_a_device_may_keep)
{
	struct vmbus_ctl ctl;
	struct stage s;
	uint64_t end;

	stage_prepare(&s);
	s.opts.answer_ns = 50 * MS;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_post_share(&s.f, s.chan.relid, 41, 10, 3);
	must_eq(expect(&s, VMBUS_PV_GPADL, 0).gpadl, 41);
	say_list(&s, VMBUS_PV_GPADL_KNOWN, 41);
	fake_expect(&s.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	fake_post_teardown(&s.f, s.chan.relid, 41);
	must_eq(expect(&s, VMBUS_PV_GPADL_GONE, 0).gpadl, 41);
	for (end = fake_now_ns() + 300 * MS; fake_now_ns() < end; usleep(1000)) {
		run(&s);
		must(!script_closed(s.sock));
	}
	fake_expect_none(&s.f);
	/* Test 1: the device has let go, and the child has its answer. */
	if (_i == 1) {
		say_list(&s, VMBUS_PV_GPADL_DONE, 41);
		fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
		must_eq(ctl.u.created.gpadl, 41);
	}
	fake_post_close(&s.f, &s.chan);
	(void)expect(&s, VMBUS_PV_CLOSE, 0);
	say(&s, VMBUS_PV_CLOSED);
	if (_i == 0) {
		run_until_dead(&s, 5000 * MS);
		must(strstr(s.line, "is gone") != NULL);
	} else {
		for (end = fake_now_ns() + 300 * MS; fake_now_ns() < end; usleep(1000))
			run(&s);
		must(!script_closed(s.sock));
	}
	stage_fini(&s);
}
END_TEST

/* Nor is it one while the child keeps a sub-channel open, that a primary channel is not closed. */
START_TEST(provider_host__waits_for_no_closing_before_the_sub_channels)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_SUBS, .count = 1 };
	struct fake_chan primary, sub;
	struct vmbus_ctl ctl;
	struct stage s;
	uint64_t end;

	stage_prepare(&s);
	s.opts.answer_ns = 50 * MS;
	stage_start(&s);
	steps_to(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	msg.bus = s.bus;
	script_send(s.sock, &msg);
	fake_expect_offer(&s, &sub);
	primary = s.chan;
	s.chan = sub;
	child_opens(&s);
	(void)expect(&s, VMBUS_PV_GPADL, 0);
	msg = expect(&s, VMBUS_PV_OPEN, 1);
	must_eq(msg.sub, 1);
	sub = s.chan;
	s.chan = primary;
	msg.type = VMBUS_PV_OPENED;
	script_send(s.sock, &msg);
	drop_signals(&s);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	fake_post_close(&s.f, &primary);
	(void)expect(&s, VMBUS_PV_CLOSE, 0);
	for (end = fake_now_ns() + 300 * MS; fake_now_ns() < end; usleep(1000)) {
		run(&s);
		must(!script_closed(s.sock));
	}
	fake_post_close(&s.f, &sub);
	must_eq(expect(&s, VMBUS_PV_CLOSE, 0).sub, 1);
	msg.type = VMBUS_PV_CLOSED;
	script_send(s.sock, &msg);
	run(&s);
	must(!script_closed(s.sock));
	run_until_dead(&s, 5000 * MS);
	must(strstr(s.line, "is gone") != NULL);
	fake_chan_free(&sub);
	stage_fini(&s);
}
END_TEST

static void on_listed(void *ctx, const struct vmbus_provider_info *info)
{
	*(struct vmbus_provider_info *)ctx = *info;
}

static void must_hold(struct stage *s, uint32_t channels, uint32_t held)
{
	struct vmbus_provider_info info = { 0 };

	vmbus_provider_host_list(s->host, on_listed, &info);
	must_eq(info.channels, channels);
	must_eq(info.held, held);
}

/* After a reset memory may be emptied when nothing is held, and not when nothing is open. */
START_TEST(provider_host_list__tells_what_is_held)
{
	struct vmbus_ctl ctl;
	struct stage s;

	stage_prepare(&s);
	stage_start(&s);
	steps_to(&s, S_READY);
	must_hold(&s, 0, 0);
	step(&s, S_CHILD_OPENS);
	must_hold(&s, 0, 1);
	step(&s, S_OPENED);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_hold(&s, 1, 1);
	vmbus_bus_reset(s.f.bus);
	while (vmbus_bus_dispatch(s.f.bus, 64) > 0)
		;
	must_hold(&s, 0, 1);
	(void)expect(&s, VMBUS_PV_CLOSE, 0);
	must_hold(&s, 0, 1);
	step(&s, S_CLOSED);
	must_hold(&s, 0, 0);
	step(&s, S_DONE);
	stage_fini(&s);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ends", 10);

	tcase_add_test(tc, provider_host__offers_an_instance_when_the_last_one_is_let_go);
	tcase_add_test(tc, provider_host__refuses_another_kind_while_children_wait);
	tcase_add_test(tc, provider_host__resumes_what_was_open_only);
	tcase_add_test(tc, shm_recv__hears_last_words_after_a_reset);
	tcase_add_test(tc, provider_host__hears_last_words);
	tcase_add_test(tc, provider_host__closes_when_the_provider_is_dead);
	tcase_add_test(tc, provider_host__hears_last_words_of_the_dead);
	tcase_add_test(tc, provider_host__tells_nothing_of_a_bus_that_is_gone);
	tcase_add_loop_test(tc, provider_host__waits_for_no_list_that_a_device_may_keep, 0, 2);
	tcase_add_test(tc, provider_host__waits_for_no_closing_before_the_sub_channels);
	tcase_add_test(tc, provider_host_list__tells_what_is_held);
	tcase_add_test(tc, provider_host__waits_for_no_room_without_need);
	tcase_add_test(tc, provider_host__is_late_itself);
	tcase_add_test(tc, provider_host__lacks_descriptors);
	tcase_add_test(tc, provider_host__forgets_a_pause_that_was_none);
	tcase_add_test(tc, provider_host__forgets_a_pause_that_nobody_waits_for);
	tcase_add_test(tc, provider_host__waits_for_no_grace_period);
	tcase_add_test(tc, provider_host__sleeps_while_the_one_that_is_there_gives_way);
	tcase_add_test(tc, provider_host__withdraws_what_one_that_lives_had);
}
VMBUS_TEST_MAIN("provider.ends", tests)
