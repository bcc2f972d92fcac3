/* SPDX-License-Identifier: MIT */
/* The flight recorder: what is written, and a reader that believes nothing. */
#include "bus/fake.h"

#include <pthread.h>
#include <stdalign.h>
#include <sys/wait.h>

#include <vmbus/diag.h>

#define RECORD_BYTES 8192u
#define EVENT_BYTES 128u

struct seen {
	uint32_t count;
	uint64_t first, last, mono;
	uint32_t kinds[64];
	struct vmbus_record_event event[256];
	char text[256][VMBUS_RECORD_TEXT];
};

static void see(void *ctx, const struct vmbus_record_event *event)
{
	struct seen *const seen = ctx;
	const uint32_t n = seen->count++ % 256;

	if (n == 0 && seen->count == 1)
		seen->first = event->number;
	must(event->mono_ns >= seen->mono);
	seen->mono = event->mono_ns;
	seen->last = event->number;
	if (event->kind < 64)
		seen->kinds[event->kind]++;
	seen->event[n] = *event;
	memcpy(seen->text[n], event->text, strlen(event->text) + 1);
	seen->event[n].text = seen->text[n];
}

static void recorded(struct fake *f, void *mem, size_t bytes)
{
	memset(mem, 0, bytes);
	fake_prepare(f, 256);
	f->opts.record = mem;
	f->opts.record_bytes = bytes;
	fake_create(f);
}

static const struct vmbus_record_event *find(const struct seen *seen, uint32_t kind, uint32_t relid)
{
	uint32_t n;

	for (n = 0; n < seen->count && n < 256; n++)
		if (seen->event[n].kind == kind && (!relid || seen->event[n].relid == relid))
			return &seen->event[n];
	return NULL;
}

START_TEST(bus_record__keeps_the_steps_of_a_channel)
{
	static alignas(64) uint8_t mem[RECORD_BYTES];
	struct fake_echo echo = { 0 };
	struct vmbus_record_info info;
	struct seen seen = { 0 };
	struct fake_chan c;
	struct fake f;

	recorded(&f, mem, sizeof(mem));
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), 0);
	fake_close(&f, &c);
	must_eq(vmbus_record_read(mem, sizeof(mem), &info, see, &seen), 0);
	must_eq(info.torn, 0);
	must_eq(info.told, seen.count);
	must_eq(info.next, seen.count);
	must_eq(info.pid, (uint32_t)getpid());
	must_eq(info.room, (RECORD_BYTES - 128) / EVENT_BYTES);
	ck_assert_str_eq(info.name, "kid");
	must(find(&seen, VMBUS_RECORD_OFFER, c.relid) != NULL);
	ck_assert_str_eq(find(&seen, VMBUS_RECORD_OFFER, 0)->text, "echo");
	must_eq(find(&seen, VMBUS_RECORD_CONNECTED, 0)->a, VMBUS_PROTO_5_3);
	must_eq(find(&seen, VMBUS_RECORD_GPADL, c.relid)->b, 0);
	must_eq(find(&seen, VMBUS_RECORD_OPEN, c.relid)->a, c.gpadl);
	must_eq(find(&seen, VMBUS_RECORD_OPENED, c.relid)->a, 0);
	must(find(&seen, VMBUS_RECORD_CLOSE, c.relid) != NULL);
	must(find(&seen, VMBUS_RECORD_CLOSED, c.relid) != NULL);
	must_eq(find(&seen, VMBUS_RECORD_GPADL_DOWN, c.relid)->a, c.gpadl);
	must_eq(seen.kinds[VMBUS_RECORD_IN],
		6); /* contact, request, page list, open, close, down */
	must(seen.kinds[VMBUS_RECORD_OUT] >= 6);
	must(find(&seen, VMBUS_RECORD_OUT, c.relid)->a == VMBUS_CTL_OFFER);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_record__tells_why_an_open_was_refused)
{
	static alignas(64) uint8_t mem[RECORD_BYTES];
	const struct vmbus_record_event *event;
	struct vmbus_vsp small = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct vmbus_record_info info;
	struct seen seen = { 0 };
	struct fake_chan c;
	struct fake f;

	recorded(&f, mem, sizeof(mem));
	small.ring_bytes_max = 4096;
	(void)fake_offer(&f, &small, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), VMBUS_STATUS_FAILED);
	must_eq(vmbus_record_read(mem, sizeof(mem), &info, see, &seen), 0);
	event = find(&seen, VMBUS_RECORD_NOT_OPENED, c.relid);
	must(event != NULL);
	must_eq(event->a, 12288);
	must_eq(event->b, 4096);
	ck_assert_str_eq(event->text, "bytes of a ring");
	must(find(&seen, VMBUS_RECORD_OPENED, 0) == NULL);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_record__keeps_the_last_ones)
{
	static alignas(64) uint8_t mem[VMBUS_RECORD_BYTES_MIN];
	struct vmbus_record_note note = { .kind = VMBUS_RECORD_NOTE + 3, .relid = 5, .text = "x" };
	struct vmbus_record_info info;
	struct seen seen = { 0 };
	struct fake f;
	uint32_t n;

	recorded(&f, mem, sizeof(mem));
	for (n = 0; n < 100; n++) {
		note.a = n;
		vmbus_bus_record(f.bus, &note);
	}
	must_eq(vmbus_record_read(mem, sizeof(mem), &info, see, &seen), 0);
	must_eq(info.room, 7);
	must_eq(info.next, 100);
	must_eq(seen.count, 7);
	must_eq(seen.first, 93);
	must_eq(seen.last, 99);
	must_eq(seen.event[6].a, 99);
	must_eq(seen.event[6].relid, 5);
	must(seen.event[6].real_ns > seen.event[6].mono_ns || info.begin_real_ns == 0);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_record__without_a_record_does_nothing)
{
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_NOTE };
	struct fake f;
	size_t bytes = 1;

	fake_init(&f, 16);
	vmbus_bus_record(f.bus, &note);
	must(vmbus_bus_record_mem(f.bus, &bytes) == NULL);
	must_eq(bytes, 0);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_record_mem__is_what_was_given)
{
	static alignas(64) uint8_t mem[RECORD_BYTES];
	size_t bytes = 0;
	struct fake f;

	recorded(&f, mem, sizeof(mem));
	must(vmbus_bus_record_mem(f.bus, &bytes) == mem);
	must_eq(bytes, sizeof(mem));
	fake_fini(&f);
}
END_TEST

START_TEST(bus_create__record_errors)
{
	static alignas(64) uint8_t mem[RECORD_BYTES];
	struct fake f;

	fake_prepare(&f, 16);
	f.opts.record = mem + 8;
	f.opts.record_bytes = 4096;
	must_eq(vmbus_bus_create(&f.opts, &f.bus), VMBUS_E_INVAL);
	f.opts.record = mem;
	f.opts.record_bytes = VMBUS_RECORD_BYTES_MIN - 1;
	must_eq(vmbus_bus_create(&f.opts, &f.bus), VMBUS_E_RANGE);
	f.opts.record_bytes = ((size_t)1 << 30) + 1;
	must_eq(vmbus_bus_create(&f.opts, &f.bus), VMBUS_E_RANGE);
	f.opts.record_bytes = VMBUS_RECORD_BYTES_MIN;
	fake_create(&f);
	fake_fini(&f);
}
END_TEST

/* A process that dies in the middle leaves a record that can be read. */
START_TEST(record_read__after_a_crash)
{
	struct vmbus_record_info info;
	struct seen seen = { 0 };
	const int fd = memfd_create("record", MFD_CLOEXEC);
	uint64_t *mem;
	pid_t pid;
	int status;

	must(ftruncate(fd, 1 << 16) == 0);
	mem = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(mem != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		const struct vmbus_record_note note = { .kind = VMBUS_RECORD_NOTE, .text = "last" };
		struct fake f;

		fake_prepare(&f, 16);
		f.opts.record = mem;
		f.opts.record_bytes = 1 << 16;
		fake_create(&f);
		for (;;)
			vmbus_bus_record(f.bus, &note);
	}
	while (__atomic_load_n(&mem[(1 << 13) - 16], __ATOMIC_ACQUIRE) == 0)
		; /* the last entry: it has gone round once */
	kill(pid, SIGKILL);
	must_eq(waitpid(pid, &status, 0), pid);
	must_eq(vmbus_record_read(mem, 1 << 16, &info, see, &seen), 0);
	must_eq(info.pid, (uint32_t)pid);
	must(info.torn <= 1);
	must(seen.count >= info.room - 1u);
	munmap(mem, 1 << 16);
	close(fd);
}
END_TEST

struct writer {
	struct fake f;
	int stop;
};

static void *write_on(void *arg)
{
	struct writer *const w = arg;
	char text[VMBUS_RECORD_TEXT];
	struct vmbus_record_note note = { .kind = VMBUS_RECORD_NOTE, .text = text };

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		note.a++;
		note.b = note.a * 3;
		memset(text, 'a' + (int)(note.a % 26), sizeof(text) - 1);
		text[sizeof(text) - 1] = 0;
		vmbus_bus_record(w->f.bus, &note);
	}
	return NULL;
}

static void check_whole(void *ctx, const struct vmbus_record_event *event)
{
	const char letter = (char)('a' + (int)(event->a % 26));
	uint32_t *const bad = ctx, i;

	*bad += event->kind != VMBUS_RECORD_NOTE || event->b != event->a * 3;
	for (i = 0; i + 1 < VMBUS_RECORD_TEXT; i++)
		*bad += event->text[i] != letter;
}

/* A record that is being written: an event is told whole or not at all. */
START_TEST(record_read__never_tells_a_torn_event)
{
	static alignas(64) uint8_t mem[VMBUS_RECORD_BYTES_MIN];
	static struct writer w;
	struct vmbus_record_info info;
	uint32_t bad = 0, torn = 0, n;
	pthread_t thread;
	uint64_t end;

	recorded(&w.f, mem, sizeof(mem));
	must_eq(pthread_create(&thread, NULL, write_on, &w), 0);
	end = fake_now_ns() + 1000000000u;
	for (n = 0; n < 20000 || (torn < 1000 && fake_now_ns() < end); n++) {
		must_eq(vmbus_record_read(mem, sizeof(mem), &info, check_whole, &bad), 0);
		torn += info.torn;
	}
	__atomic_store_n(&w.stop, 1, __ATOMIC_RELAXED);
	must_eq(pthread_join(thread, NULL), 0);
	must_eq(bad, 0);
	fake_fini(&w.f);
}
END_TEST

static void count_it(void *ctx, const struct vmbus_record_event *event)
{
	char line[256];
	const char *at;

	must(vmbus_record_format(event, line, sizeof(line)) < sizeof(line));
	must(strlen(event->text) < VMBUS_RECORD_TEXT);
	for (at = event->text; *at; at++)
		must(*at >= 0x20 && *at < 0x7F);
	++*(uint32_t *)ctx;
}

START_TEST(record_read__errors)
{
	static alignas(64) uint8_t mem[RECORD_BYTES], bad[RECORD_BYTES];
	struct vmbus_record_info info;
	struct fake f;
	uint32_t v;

	recorded(&f, mem, sizeof(mem));
	memcpy(bad, mem, sizeof(mem));
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), 0);
	must_eq(vmbus_record_read(NULL, 0, &info, NULL, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_record_read(bad, 127, &info, NULL, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_record_read(bad + 4, 4096, &info, NULL, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_record_read(bad, sizeof(bad) - 1, &info, NULL, NULL), VMBUS_E_RANGE);
	bad[0] ^= 1;
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), VMBUS_E_INVAL);
	memcpy(bad, mem, sizeof(mem));
	v = 2;
	memcpy(bad + 8, &v, 4);
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), VMBUS_E_NOTSUP);
	v = 0;
	memcpy(bad + 8, &v, 4);
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), VMBUS_E_INVAL);
	memcpy(bad, mem, sizeof(mem));
	v = 64;
	memcpy(bad + 12, &v, 4); /* bytes of an entry */
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), VMBUS_E_INVAL);
	memcpy(bad, mem, sizeof(mem));
	v = 0;
	memcpy(bad + 16, &v, 4); /* entries */
	must_eq(vmbus_record_read(bad, sizeof(bad), &info, NULL, NULL), VMBUS_E_INVAL);
	fake_fini(&f);
}
END_TEST

/* Bytes of any value behind a good header: bounded work, text that a terminal can have. */
START_TEST(record_read__hostile_bytes)
{
	static alignas(64) uint8_t mem[RECORD_BYTES];
	struct vmbus_record_info info;
	uint32_t told, round, i;
	uint64_t seed = 88172645463325252ull;
	struct fake f;

	recorded(&f, mem, sizeof(mem));
	for (round = 0; round < 2000; round++) {
		for (i = 0; i < 64; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			memcpy(mem + 128 + seed % (RECORD_BYTES - 136), &seed, 8);
			if (i % 8 == 0) /* a number that looks right */
				memcpy(mem + 128 + EVENT_BYTES * (i % 63),
				       &(uint64_t){ 2 * ((uint64_t)i % 63 + 63 * (seed % 99) + 1) },
				       8);
		}
		told = 0;
		must_eq(vmbus_record_read(mem, sizeof(mem), &info, count_it, &told), 0);
		must_eq(info.told, told);
		must(told + info.torn <= info.room);
	}
	fake_fini(&f);
}
END_TEST

START_TEST(record_format__says_what_happened)
{
	struct vmbus_record_event event = { .kind = VMBUS_RECORD_NOT_OPENED,
					    .relid = 4,
					    .a = 3,
					    .b = 4,
					    .text = "pages of both rings" };
	char line[200], cut[8];
	size_t n;

	n = vmbus_record_format(&event, line, sizeof(line));
	ck_assert_str_eq(line, "channel 4: open refused: value 3, limit 4: pages of both rings");
	must_eq(n, strlen(line));
	must_eq(vmbus_record_format(&event, cut, sizeof(cut)), n);
	ck_assert_str_eq(cut, "channel");
	must_eq(vmbus_record_format(&event, NULL, 0), n);
	event = (struct vmbus_record_event){ .kind = VMBUS_RECORD_IN,
					     .a = VMBUS_CTL_CONTACT,
					     .text = "" };
	(void)vmbus_record_format(&event, line, sizeof(line));
	must(strncmp(line, "message from the child: ", 24) == 0);
}
END_TEST

/* Every kind with numbers of its own says what they are; any numbers are let through. */
START_TEST(record_format__of_every_kind)
{
	static const struct {
		uint32_t kind;
		uint64_t a, b;
		const char *text;
	} kinds[] = {
		{ VMBUS_RECORD_IN, VMBUS_CTL_OPEN, 0, "message from the child: open" },
		{ VMBUS_RECORD_IN, VMBUS_CTL_OPEN, (uint64_t)VMBUS_E_PEER, ": open, PEER" },
		{ VMBUS_RECORD_REFUSED, VMBUS_CTL_OPEN, 9, ": open, value 9" },
		{ VMBUS_RECORD_CONNECTED, 0x50003, 6, ", version 5.3, features 0x6" },
		{ VMBUS_RECORD_GPADL, 5, 0, " 5: accepted" },
		{ VMBUS_RECORD_GPADL, 5, (uint64_t)VMBUS_E_NOMEM, " 5: NOMEM" },
		{ VMBUS_RECORD_GPADL_DOWN, 5, 1, " 5" },
		{ VMBUS_RECORD_OPEN, 5, 3, ": page list 5, second ring at page 3" },
		{ VMBUS_RECORD_OPENED, (uint64_t)VMBUS_E_PERM, 0, ": PERM" },
		{ VMBUS_RECORD_OPENED, 0, 0, "" },
		{ VMBUS_RECORD_MODIFY, 3, 0, "interrupts move to VP 3" },
		{ VMBUS_RECORD_NOTE, 1, 2, ": 1, 2" },
		{ UINT32_MAX, UINT64_MAX, 0, ": 18446744073709551615, 0" },
		{ VMBUS_RECORD_NOTE, 0, 0, "" },
	};
	char line[256];
	size_t n;
	uint32_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct vmbus_record_event event = { .kind = kinds[i].kind,
							  .a = kinds[i].a,
							  .b = kinds[i].b };

		n = vmbus_record_format(&event, line, sizeof(line));
		must_eq(n, strlen(line));
		must(n >= strlen(kinds[i].text));
		must(strstr(line, kinds[i].text) != NULL);
		ck_assert_str_eq(line + n - strlen(kinds[i].text), kinds[i].text);
	}
}
END_TEST

START_TEST(record_kind_name__every_kind_has_one)
{
	uint32_t kind;

	for (kind = 1; kind <= VMBUS_RECORD_NOTE; kind++)
		must(vmbus_record_kind_name(kind)[0] != '?');
	ck_assert_str_eq(vmbus_record_kind_name(0), "?");
	ck_assert_str_eq(vmbus_record_kind_name(UINT32_MAX), "note");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "record", 20);

	tcase_add_test(tc, bus_record__keeps_the_steps_of_a_channel);
	tcase_add_test(tc, bus_record__tells_why_an_open_was_refused);
	tcase_add_test(tc, bus_record__keeps_the_last_ones);
	tcase_add_test(tc, bus_record__without_a_record_does_nothing);
	tcase_add_test(tc, bus_record_mem__is_what_was_given);
	tcase_add_test(tc, bus_create__record_errors);
	tcase_add_test(tc, record_read__after_a_crash);
	tcase_add_test(tc, record_read__never_tells_a_torn_event);
	tcase_add_test(tc, record_read__errors);
	tcase_add_test(tc, record_read__hostile_bytes);
	tcase_add_test(tc, record_format__says_what_happened);
	tcase_add_test(tc, record_format__of_every_kind);
	tcase_add_test(tc, record_kind_name__every_kind_has_one);
}

VMBUS_TEST_MAIN("bus.record", tests)
