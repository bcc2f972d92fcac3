/* SPDX-License-Identifier: MIT */
/*
 * A provider that asks its parent for memory, and parents that answer with anything, late, or never.
 */
#include "play.h"

/* What the parent does when it is asked, on a thread of its own. */
struct answer {
	struct play *p;
	struct vmbus__pv_msg msg;
	int fd;		/* -1: none */
	uint32_t delay; /* questions that are not answered before this one */
	bool bus;	/* it brings a bus first, and a channel */
	bool part;	/* it hangs up instead */
	bool late;	/* it takes its time */
	uint32_t asked;
};

static void *answer_thread(void *arg)
{
	struct answer *const a = arg;
	const uint64_t end = vmbus__shm_now_ns() + 5000 * MS;
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;

	for (;;) {
		if (vmbus__shm_recv_until(a->p->sock, end, &record) ||
		    vmbus__pv_decode(record.bytes, record.len, &msg))
			return NULL;
		if (msg.type != VMBUS_PV_MEMORY)
			continue;
		a->asked++;
		if (a->delay == 0)
			break;
		a->delay--;
	}
	if (a->late)
		usleep(50000);
	if (a->bus) {
		const struct vmbus__pv_msg bus = {
			.type = VMBUS_PV_BUS, .bus = 1, .count = 1, .name = "kid"
		};

		script_send(a->p->sock, &bus);
		send_region(a->p);
	}
	if (a->part) {
		shutdown(a->p->sock, SHUT_RDWR);
		return NULL;
	}
	if (a->msg.type == VMBUS_PV_MEMORY_IS)
		a->msg.open += msg.open;
	(void)vmbus__pv_send(a->p->sock, &a->msg, &a->fd, a->fd >= 0 ? 1 : 0);
	return NULL;
}

static int ask(struct answer *a, int *fd)
{
	pthread_t thread;
	int err;

	must_eq(pthread_create(&thread, NULL, answer_thread, a), 0);
	err = vmbus_provider_memory(a->p->provider, "disk", 8192, fd);
	must_eq(pthread_join(thread, NULL), 0);
	must_eq(*fd >= 0, err == 0);
	return err;
}

static int memory(uint64_t bytes, bool sealed)
{
	const int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must_eq(ftruncate(fd, (off_t)bytes), 0);
	if (sealed)
		must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	return fd;
}

static const struct vmbus__pv_msg given = { .type = VMBUS_PV_MEMORY_IS, .bytes = 8192 };

/* What the parent says besides is taken, and acted upon without anything else happening. */
START_TEST(provider_memory__what_is_said_meanwhile_is_not_lost)
{
	struct play p;
	struct answer a = { .p = &p, .msg = given, .fd = memory(8192, true), .bus = true };
	int fd;

	play_init(&p);
	must_eq(ask(&a, &fd), 0);
	close(fd);
	must_eq(expect(&p, VMBUS_PV_BUS_READY).bus, 1);
	open_chan(&p);
	request(&p, 7);
	a.bus = false;
	a.msg = given;
	must_eq(ask(&a, &fd), 0); /* in the midst of it */
	close(fd);
	request(&p, 8);
	close(a.fd);
	play_fini(&p);
}
END_TEST

START_TEST(provider_memory__refusals)
{
	static const struct {
		uint32_t code;
		int err;
	} rows[] = { { VMBUS_SHM_CODE_FULL, VMBUS_E_FULL },
		     { VMBUS_SHM_CODE_TAKEN, VMBUS_E_STATE },
		     { VMBUS_SHM_CODE_SYSTEM, VMBUS_E_NOMEM },
		     { 77, VMBUS_E_NOMEM } };
	struct play p;
	uint32_t i;
	int fd;

	play_init(&p);
	for (i = 0; i < 4; i++) {
		struct answer a = { .p = &p, .msg = given, .fd = -1 };

		a.msg.code = rows[i].code;
		must_eq(ask(&a, &fd), rows[i].err);
	}
	play_fini(&p);
}
END_TEST

/* A parent that answers what cannot be is left. */
START_TEST(provider_memory__leaves_a_parent_that_lies)
{
	const int before = vmbus_test_count_fds();
	struct play p;
	struct answer a = { .p = &p, .msg = given, .fd = -1 };
	int fd;

	switch (_i) {
	case 0: /* without memory */
		break;
	case 1: /* that can shrink */
		a.fd = memory(8192, false);
		break;
	case 2: /* too small */
		a.fd = memory(8191, true);
		break;
	case 3: /* a refusal with memory */
		a.fd = memory(8192, true);
		a.msg.code = VMBUS_SHM_CODE_FULL;
		break;
	case 4: /* to a question that was not asked */
		a.fd = memory(8192, true);
		a.msg.open = 1;
		break;
	case 5: /* no memory at all */
		a.fd = eventfd(0, EFD_CLOEXEC);
		break;
	case 6:
		a.part = true;
		break;
	default:
		a.msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_PROVIDED };
		break;
	}
	play_init(&p);
	must_eq(ask(&a, &fd), VMBUS_E_PEER);
	must_eq(vmbus_provider_dispatch(p.provider, 1), VMBUS_E_PEER);
	must_eq(vmbus_provider_memory(p.provider, "disk", 1, &fd), VMBUS_E_PEER);
	must_eq(vmbus_provider_memory_free(p.provider, "disk"), VMBUS_E_PEER);
	if (a.fd >= 0)
		close(a.fd);
	play_fini(&p);
	must_eq(vmbus_test_count_fds(), before);
}
END_TEST

/* No answer in time; one that comes later is not taken for that of the next question. */
START_TEST(provider_memory__an_answer_too_late)
{
	const int before = vmbus_test_count_fds();
	struct play p;
	struct answer a = { .p = &p, .msg = given, .fd = memory(8192, true) };
	struct vmbus__pv_msg late = given;
	int fd, small = memory(4096, true);

	play_prepare(&p);
	p.timeout_ns = 50 * MS;
	must_eq(attach(&p, NULL), 0);
	must_eq(vmbus_provider_memory(p.provider, "disk", 4096, &fd), VMBUS_E_AGAIN);
	must_eq(fd, -1);
	must_eq(vmbus_provider_memory_free(p.provider, "disk"), VMBUS_E_AGAIN);
	late.open = 1;
	must_eq(vmbus__pv_send(p.sock, &late, &small, 1), 0); /* of the first */
	a.delay = 2;
	must_eq(ask(&a, &fd), 0);
	must_eq(lseek(fd, 0, SEEK_END), 8192);
	close(fd);
	close(a.fd);
	close(small);
	must_eq(run(&p), 0);
	play_fini(&p);
	must_eq(vmbus_test_count_fds(), before);
}
END_TEST

/* The parent is asked, and thinks for a while. */
START_TEST(provider_memory__waits_as_long_as_told)
{
	struct play p;
	struct answer a = { .p = &p, .msg = given, .fd = memory(8192, true), .late = true };
	int fd;

	play_prepare(&p);
	p.timeout_ns = UINT64_MAX;
	must_eq(attach(&p, NULL), 0);
	must_eq(ask(&a, &fd), 0);
	close(fd);
	close(a.fd);
	play_fini(&p);
}
END_TEST

static int memory_err;
static struct vmbus_provider *asked;

static void ask_inside(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	int fd;

	memory_err = vmbus_provider_memory(asked, "disk", 1, &fd);
	must_eq(vmbus_provider_memory_free(asked, "disk"), memory_err);
	on_packets(chan, pkt, n);
}

START_TEST(provider_memory__not_in_a_callback)
{
	struct play p;

	play_prepare(&p);
	p.vsp.packets = ask_inside;
	must_eq(attach(&p, NULL), 0);
	asked = p.provider;
	bring_bus(&p);
	open_chan(&p);
	request(&p, 1);
	must_eq(memory_err, VMBUS_E_STATE);
	play_fini(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "memory", 30);

	tcase_add_test(tc, provider_memory__what_is_said_meanwhile_is_not_lost);
	tcase_add_test(tc, provider_memory__refusals);
	tcase_add_loop_test(tc, provider_memory__leaves_a_parent_that_lies, 0, 8);
	tcase_add_test(tc, provider_memory__an_answer_too_late);
	tcase_add_test(tc, provider_memory__waits_as_long_as_told);
	tcase_add_test(tc, provider_memory__not_in_a_callback);
}

VMBUS_TEST_MAIN("provider.memory_client", tests)
