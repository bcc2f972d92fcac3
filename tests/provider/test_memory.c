/* SPDX-License-Identifier: MIT */
/*
 * Memory that the host keeps for providers: raw ones that say anything, and real ones that come, go and
 * find what they left.
 */
#include "stage.h"

#include <pthread.h>
#include <sys/stat.h>

#include "script.h"

#define PAGE ((uint64_t)4096)

/* Ask as a provider would; the code that comes back.  *fd is the test's. */
static uint32_t ask(struct stage *s, uint32_t serial, const char *name, uint64_t bytes, int *fd)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_MEMORY, .open = serial, .bytes = bytes };
	struct vmbus__shm_record record;

	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	script_send(s->sock, &msg);
	run(s);
	must(script_take(s->sock, &record, &msg));
	must_eq(msg.type, VMBUS_PV_MEMORY_IS);
	must_eq(msg.open, serial);
	must_eq(record.fd_count, msg.code == 0 && bytes ? 1 : 0);
	if (fd)
		*fd = record.fd_count ? record.fds[0] : -1;
	else
		vmbus__shm_record_close(&record);
	return msg.code;
}

static void come(struct stage *s)
{
	reach(s);
	(void)expect(s, VMBUS_PV_PROVIDED, 0);
	(void)expect(s, VMBUS_PV_BUS, 0);
	(void)expect(s, VMBUS_PV_REGION, 1);
}

static uint64_t peek(int fd, uint64_t at)
{
	uint64_t value = 77;

	must_eq(pread(fd, &value, sizeof(value), (off_t)at), sizeof(value));
	return value;
}

/* Of zeroes at first, of whole pages, sealed; the same at the next question. */
START_TEST(provider_memory__is_there_again)
{
	const uint64_t word = 0x1234567890abcdef;
	struct stage s;
	struct stat st;
	int fd, again;

	stage_init(&s);
	come(&s);
	must_eq(ask(&s, 1, "disk", 3 * PAGE - 5, &fd), 0);
	must_eq(fstat(fd, &st), 0);
	must_eq(st.st_size, 3 * PAGE);
	must_eq(peek(fd, 2 * PAGE), 0);
	must(ftruncate(fd, 0) < 0);
	must(ftruncate(fd, (off_t)(9 * PAGE)) < 0);
	must_eq(pwrite(fd, &word, sizeof(word), (off_t)PAGE), sizeof(word));
	must_eq(ask(&s, 2, "disk", 3 * PAGE, &again), 0);
	must_eq(peek(again, PAGE), word);
	close(fd);
	close(again);
	must_eq(ask(&s, 9, "other", 1, &fd), 0);
	must_eq(peek(fd, 0), 0);
	close(fd);
	stage_fini(&s);
}
END_TEST

/* It outlives whatever becomes of the provider, but not its giving it back. */
START_TEST(provider_memory__outlives_the_provider)
{
	const uint64_t word = 42;
	struct stage s;
	int fd;

	stage_prepare(&s);
	s.flags = _i == 0 ? VMBUS_PV_RESUMABLE : 0;
	s.with_helper = _i == 2;
	stage_start(&s);
	come(&s);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0);
	must_eq(pwrite(fd, &word, sizeof(word), 0), sizeof(word));
	close(fd);
	if (_i == 1) { /* it says that it leaves: the device is withdrawn */
		say(&s, VMBUS_SHM_BYE);
	} else if (_i == 2) {
		kill(s.helper, SIGKILL);
		must_eq(waitpid(s.helper, NULL, 0), s.helper);
		s.helper = 0;
		s.with_helper = false;
	}
	close(s.sock);
	s.sock = -1;
	run(&s);
	come(&s);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0);
	must_eq(peek(fd, 0), word);
	close(fd);
	must_eq(ask(&s, 2, "disk", 0, NULL), 0);
	must_eq(ask(&s, 3, "disk", 0, NULL), 0); /* nothing is left to forget */
	must_eq(ask(&s, 4, "disk", PAGE, &fd), 0);
	must_eq(peek(fd, 0), 0);
	close(fd);
	stage_fini(&s);
}
END_TEST

/* Another class or name has its own, and one that takes over has that of the one before. */
START_TEST(provider_memory__is_by_class_and_name)
{
	struct vmbus__pv_msg msg = script_provide(VMBUS_PV_TAKE_OVER);
	const uint64_t word = 42;
	struct stage s;
	int fd, first;

	stage_init(&s);
	come(&s);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0);
	must_eq(pwrite(fd, &word, sizeof(word), 0), sizeof(word));
	close(fd);
	first = s.sock;
	s.sock = vmbus__shm_connect(s.path, 1000 * MS);
	script_send(s.sock, &msg);
	(void)expect(&s, VMBUS_PV_PROVIDED, 0);
	(void)expect(&s, VMBUS_PV_BUS, 0);
	(void)expect(&s, VMBUS_PV_REGION, 1);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0);
	must_eq(peek(fd, 0), word);
	close(fd);
	close(s.sock);
	close(first);
	s.opts.attach = NULL;
	s.sock = -1;
	run(&s);
	vmbus_provider_host_remove_bus(s.host, s.f.bus);
	fake_fini(&s.f);
	vmbus_provider_host_destroy(s.host);

	stage_prepare(&s);
	s.opts.attach = NULL;
	stage_start(&s);
	come(&s);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0); /* of another host: nothing is left */
	must_eq(peek(fd, 0), 0);
	must_eq(pwrite(fd, &word, sizeof(word), 0), sizeof(word));
	close(fd);
	first = s.sock;
	msg = script_provide(0);
	msg.class_id.b[0] ^= 1;
	s.sock = vmbus__shm_connect(s.path, 1000 * MS);
	script_send(s.sock, &msg);
	(void)expect(&s, VMBUS_PV_PROVIDED, 0);
	(void)expect(&s, VMBUS_PV_BUS, 0);
	(void)expect(&s, VMBUS_PV_REGION, 1);
	must_eq(ask(&s, 1, "disk", PAGE, &fd), 0);
	must_eq(peek(fd, 0), 0);
	close(fd);
	close(first);
	stage_fini(&s);
}
END_TEST

START_TEST(provider_memory__keeps_to_the_quotas)
{
	struct stage s;
	char name[16];
	uint32_t i;
	int before;

	stage_prepare(&s);
	s.opts.memory_bytes_max = 20 * PAGE;
	stage_start(&s);
	come(&s);
	before = vmbus_test_count_fds();
	must_eq(ask(&s, 1, "a", 21 * PAGE, NULL), VMBUS_SHM_CODE_FULL);
	must_eq(ask(&s, 2, "a", 20 * PAGE, NULL), 0);
	must_eq(ask(&s, 3, "a", 19 * PAGE, NULL), VMBUS_SHM_CODE_TAKEN);
	must_eq(ask(&s, 4, "b", 1, NULL), VMBUS_SHM_CODE_FULL);
	must_eq(ask(&s, 5, "c", 0, NULL), 0);
	must_eq(ask(&s, 6, "a", 0, NULL), 0);
	must_eq(vmbus_test_count_fds(), before);
	for (i = 0; i < 16; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		must_eq(ask(&s, 7 + i, name, PAGE, NULL), 0);
	}
	must_eq(ask(&s, 50, "more", PAGE, NULL), VMBUS_SHM_CODE_FULL);
	must_eq(ask(&s, 51, "3", PAGE, NULL), 0);
	must_eq(ask(&s, 52, "3", 0, NULL), 0);
	must_eq(ask(&s, 53, "more", PAGE, NULL), 0);
	must_eq(vmbus_test_count_fds(), before + 16);
	stage_fini(&s);
	must(vmbus_test_count_fds() < before);
}
END_TEST

/* A provider that does not read makes the host keep one question, and no more. */
START_TEST(provider_memory__only_the_last_question_counts)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_MEMORY, .bytes = PAGE, .name = "x" };
	struct vmbus__shm_record record;
	struct stage s;
	uint32_t i, last = 0, count = 0;
	int before;

	stage_init(&s);
	come(&s);
	before = vmbus_test_count_fds();
	for (i = 1; i <= 3000; i++) {
		msg.open = i;
		if (vmbus__pv_send(s.sock, &msg, NULL, 0))
			break;
		if (i % 8 == 0)
			(void)vmbus_provider_host_dispatch(s.host, 64);
	}
	must(i > 100);
	must(vmbus_test_count_fds() <= before + 1);
	run(&s);
	for (count = 0; script_take(s.sock, &record, &msg); count++) {
		must_eq(msg.type, VMBUS_PV_MEMORY_IS);
		must(msg.open > last);
		last = msg.open;
		vmbus__shm_record_close(&record);
		run(&s);
	}
	must_eq(last, i - 1);
	must(count < i - 1); /* several came at once */
	stage_fini(&s);
}
END_TEST

START_TEST(provider_memory__impossible_questions_end_it)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_MEMORY, .open = 1, .bytes = PAGE };
	struct stage s;

	stage_init(&s);
	come(&s);
	if (_i == 1) {
		(void)snprintf(msg.name, sizeof(msg.name), "disk");
		msg.bytes = UINT64_MAX;
	}
	if (_i == 2) { /* said by the parent only */
		msg.type = VMBUS_PV_MEMORY_IS;
	}
	script_send(s.sock, &msg);
	run_until_dead(&s, 5000 * MS);
	stage_fini(&s);
}
END_TEST

/* ---- real ones ---- */

struct host_thread {
	struct stage *s;
	pthread_t thread;
	atomic_uint stop;
};

static void *serve(void *arg)
{
	struct host_thread *t = arg;
	struct pollfd fds[2] = { { .fd = vmbus_provider_host_fd(t->s->host), .events = POLLIN },
				 { .fd = vmbus_bus_fd(t->s->f.bus), .events = POLLIN } };

	while (!atomic_load(&t->stop)) {
		(void)vmbus_provider_host_dispatch(t->s->host, 64);
		(void)vmbus_bus_dispatch(t->s->f.bus, 64);
		(void)poll(fds, 2, 2);
	}
	return NULL;
}

static void serve_begin(struct host_thread *t, struct stage *s)
{
	*t = (struct host_thread){ .s = s };
	must_eq(pthread_create(&t->thread, NULL, serve, t), 0);
}

static void serve_end(struct host_thread *t)
{
	atomic_store(&t->stop, 1);
	must_eq(pthread_join(t->thread, NULL), 0);
}

static void nothing(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

static const struct vmbus_vsp vsp = { .struct_bytes = sizeof(vsp),
				      .name = "nothing",
				      .class_id = VMBUS_ECHO_CLASS,
				      .packets = nothing };

/* Without a bus: the memory of ours is none that a provider takes. */
static void real_init(struct stage *s)
{
	stage_init(s);
	vmbus_provider_host_remove_bus(s->host, s->f.bus);
}

static struct vmbus_provider *real(const struct stage *s, bool take_over)
{
	const struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
						  .path = s->path,
						  .name = "raw",
						  .vsp = &vsp,
						  .take_over = take_over };
	struct vmbus_provider *provider = NULL;

	must_eq(vmbus_provider_attach(&opts, &provider), 0);
	return provider;
}

/* Buses that are told while it asks are served afterwards. */
START_TEST(provider_memory__asks_and_serves)
{
	const uint64_t end = fake_now_ns() + 10000 * MS;
	struct vmbus_provider *p;
	struct host_thread t;
	struct stage s;
	uint8_t *map;
	int fd, before;

	real_init(&s);
	serve_begin(&t, &s);
	p = real(&s, false);
	before = vmbus_test_count_fds();
	must_eq(vmbus_provider_memory(p, "disk", 10, &fd), 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED);
	close(fd);
	must_eq(map[9], 0);
	map[9] = 9;
	must_eq(vmbus_provider_memory(p, "disk", 8192, &fd), VMBUS_E_STATE);
	must_eq(fd, -1);
	must_eq(vmbus_provider_memory(p, "large", (uint64_t)1 << 40, &fd), VMBUS_E_FULL);
	must_eq(vmbus_provider_memory(p, "", 10, &fd), VMBUS_E_RANGE);
	must_eq(vmbus_provider_memory(p, "line\n", 10, &fd), VMBUS_E_RANGE);
	must_eq(vmbus_provider_memory(p, NULL, 10, &fd), VMBUS_E_RANGE);
	must_eq(vmbus_provider_memory(p, "disk", 0, &fd), VMBUS_E_RANGE);
	must_eq(vmbus_provider_memory(p, "disk", UINT64_MAX, &fd), VMBUS_E_RANGE);
	must_eq(vmbus_provider_memory_free(p, ""), VMBUS_E_RANGE);
	must(vmbus_test_count_fds() >= before);
	while (vmbus_provider_dispatch(p, 64) >= 0 && fake_now_ns() < end) {
		fd = -1;
		if (vmbus_provider_memory(p, "disk", 10, &fd))
			break;
		close(fd);
		if (fake_now_ns() % 64 == 0)
			break;
	}
	must_eq(vmbus_provider_memory(p, "disk", 10, &fd), 0);
	close(fd);
	vmbus_provider_detach(p);
	p = real(&s, false);
	must_eq(vmbus_provider_memory(p, "disk", 4096, &fd), 0);
	must_eq(peek(fd, 8) >> 8 & 255, 9);
	close(fd);
	must_eq(vmbus_provider_memory_free(p, "disk"), 0);
	must_eq(map[9], 9); /* who has it has it */
	munmap(map, 4096);
	must_eq(vmbus_provider_memory(p, "disk", 4096, &fd), 0);
	must_eq(peek(fd, 8), 0);
	close(fd);
	vmbus_provider_detach(p);
	serve_end(&t);
	stage_fini(&s);
}
END_TEST

/* One that is told to give way while it asks gives way. */
START_TEST(provider_memory__gives_way_while_it_asks)
{
	const uint64_t end = fake_now_ns() + 10000 * MS;
	struct vmbus_provider *old, *next;
	struct host_thread t;
	struct stage s;
	int fd, err = 0;

	real_init(&s);
	serve_begin(&t, &s);
	old = real(&s, false);
	while (vmbus_provider_wait(old, MS) >= 0)
		;
	next = real(&s, true);
	while (err != VMBUS_E_PEER && fake_now_ns() < end) {
		(void)vmbus_provider_wait(next, MS);
		err = vmbus_provider_memory(old, "disk", 4096, &fd);
		must(err == 0 || err == VMBUS_E_PEER);
		if (!err)
			close(fd);
	}
	must_eq(err, VMBUS_E_PEER);
	must(strstr(vmbus_provider_why(old), "took over") != NULL);
	must_eq(vmbus_provider_memory(old, "disk", 4096, &fd), VMBUS_E_PEER);
	must_eq(vmbus_provider_dispatch(old, 1), VMBUS_E_PEER);
	must_eq(vmbus_provider_memory(next, "disk", 4096, &fd), 0);
	close(fd);
	vmbus_provider_detach(old);
	vmbus_provider_detach(next);
	serve_end(&t);
	stage_fini(&s);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "memory", 30);

	tcase_add_test(tc, provider_memory__is_there_again);
	tcase_add_loop_test(tc, provider_memory__outlives_the_provider, 0, 3);
	tcase_add_test(tc, provider_memory__is_by_class_and_name);
	tcase_add_test(tc, provider_memory__keeps_to_the_quotas);
	tcase_add_test(tc, provider_memory__only_the_last_question_counts);
	tcase_add_loop_test(tc, provider_memory__impossible_questions_end_it, 0, 3);
	tcase_add_test(tc, provider_memory__asks_and_serves);
	tcase_add_test(tc, provider_memory__gives_way_while_it_asks);
}

VMBUS_TEST_MAIN("provider.memory", tests)
