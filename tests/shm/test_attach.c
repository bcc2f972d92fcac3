/* SPDX-License-Identifier: MIT */
/* A child against parents that lie: backends/shm/attach.c and guest_backend.c. */
#include "shm/liar.h"

START_TEST(shm_attach__refuses_options)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts = opts_of("/tmp/x");
	char path[200];

	opts.struct_bytes = 0;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_INVAL);
	must(attach == NULL);
	opts = opts_of(NULL);
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_INVAL);
	opts = opts_of("/tmp/x");
	opts.guest.struct_bytes = 1;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_INVAL);
	/* Options of the guest without struct_bytes were meant, and would be lost. */
	opts = opts_of("/tmp/x");
	opts.guest.ctx = &opts;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_INVAL);
	opts = opts_of("/tmp/x");
	opts.guest.limits.chans_max = 5;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_INVAL);
	opts = opts_of("");
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_RANGE);
	memset(path, 'x', sizeof(path));
	path[108] = 0;
	opts = opts_of(path);
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_RANGE);
	must(strstr(why, "too long") != NULL);
	opts = opts_of("/tmp/no such socket");
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_SYSTEM);
	must_eq(errno, ENOENT);
	must(strstr(why, "no parent listens there") != NULL);
	vmbus_shm_detach(NULL);
}
END_TEST

static void play_refused(int sock, int n)
{
	vmbus__shm_send_text(sock, VMBUS_SHM_REFUSED, (uint32_t)n, "so it is");
	wait_for_end(sock);
}

START_TEST(shm_attach__refusals_have_codes)
{
	static const int err_of[] = { VMBUS_E_PERM,  VMBUS_E_NOTSUP, VMBUS_E_PEER, VMBUS_E_RANGE,
				      VMBUS_E_RANGE, VMBUS_E_FULL,   VMBUS_E_PERM, VMBUS_E_NOMEM,
				      VMBUS_E_PERM,  VMBUS_E_PERM,   VMBUS_E_PERM };
	struct liar liar;
	int n;

	for (n = 0; n < (int)(sizeof(err_of) / sizeof(err_of[0])); n++) {
		struct vmbus_shm_attach *attach;
		struct vmbus_shm_attach_opts opts;

		vmbus_test_at("code %d", n);
		liar_start(&liar, play_refused, n);
		opts = opts_of(liar.path);
		must_eq(vmbus_shm_attach(&opts, &attach), err_of[n]);
		must(strcmp(why, "so it is") == 0);
		liar_end(&liar);
	}
}
END_TEST

static void play_silent(int sock, int n)
{
	if (n)
		close(sock);
	pause();
}

START_TEST(shm_attach__waits_no_longer_than_told)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts;
	struct liar liar;

	liar_start(&liar, play_silent, 0);
	opts = opts_of(liar.path);
	opts.timeout_ns = 50000000;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_AGAIN);
	must(strstr(why, "in time") != NULL);
	liar_end(&liar);
	liar_start(&liar, play_silent, 1);
	opts = opts_of(liar.path);
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_PEER);
	liar_end(&liar);
}
END_TEST

static void play_late(int sock, int n)
{
	usleep(50000);
	play_refused(sock, n);
}

START_TEST(shm_attach__waits_as_long_as_told)
{
	struct vmbus_shm_attach_opts opts;
	struct vmbus_shm_attach *attach;
	struct liar liar;

	liar_start(&liar, play_late, VMBUS_SHM_CODE_FULL);
	opts = opts_of(liar.path);
	opts.timeout_ns = UINT64_MAX;
	must_eq(vmbus_shm_attach(&opts, &attach), VMBUS_E_FULL);
	liar_end(&liar);
}
END_TEST

/* One thing is wrong with a WELCOME. */
static const struct {
	const char *what;
	int err;
} wrongs[] = {
	{ "nothing", 0 },
	{ "memory not sealed", VMBUS_E_PEER },
	{ "memory too small", VMBUS_E_PEER },
	{ "memory is no memfd", VMBUS_E_PEER },
	{ "less memory than asked for", VMBUS_E_PEER },
	{ "more memory than can be", VMBUS_E_PEER },
	{ "another number of processors", VMBUS_E_PEER },
	{ "mailbox in the heap", VMBUS_E_PEER },
	{ "flags in the heap", VMBUS_E_PEER },
	{ "processors in the heap", VMBUS_E_PEER },
	{ "processors past the end", VMBUS_E_PEER },
	{ "mailbox on the flags", VMBUS_E_PEER },
	{ "mailbox on a processor", VMBUS_E_PEER },
	{ "flags on a processor", VMBUS_E_PEER },
	{ "no heap", VMBUS_E_PEER },
	{ "doorbell is a pipe", VMBUS_E_PEER },
	{ "doorbell is a file", VMBUS_E_PEER },
	{ "a descriptor missing", VMBUS_E_PEER },
	{ "a descriptor too many", VMBUS_E_PEER },
	{ "all descriptors that fit", VMBUS_E_PEER },
	{ "no descriptor", VMBUS_E_PEER },
	{ "pidfd told but not sent", VMBUS_E_PEER },
	{ "another type", VMBUS_E_PEER },
	{ "mailbox not empty", VMBUS_E_PEER },
	{ "huge pages", VMBUS_E_PERM },
};
#define WRONGS ((int)(sizeof(wrongs) / sizeof(wrongs[0])))

static void wrong_memory(struct welcome *w, int n)
{
	char one[4096] = { 1 };

	switch (n) {
	case 1:
		w->fds[0] = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		(void)!ftruncate(w->fds[0], (off_t)MEMORY);
		break;
	case 2:
		w->fds[0] = vmbus_shm_create(MEMORY - 4096);
		break;
	case 3:
		w->fds[0] = open("/dev/zero", O_RDWR);
		break;
	case 23:
		(void)!pwrite(w->fds[0], one, sizeof(one), 0);
		break;
	case 24:
		w->fds[0] = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
		(void)!ftruncate(w->fds[0], 1 << 21);
		(void)fcntl(w->fds[0], F_ADD_SEALS, F_SEAL_SHRINK);
		break;
	default:
		break;
	}
}

static void wrong_layout(struct vmbus__shm_welcome *w, int n)
{
	w->memory = n == 4 ? MEMORY - 1 : n == 5 ? UINT64_MAX : w->memory;
	w->vps = n == 6 ? 2 : w->vps;
	w->mailbox = n == 7 ? 4 : n == 11 ? 1 : n == 12 ? 3 : w->mailbox;
	w->flags_page = n == 8 ? UINT32_MAX : n == 13 ? 2 : w->flags_page;
	w->first_vp = n == 9 ? 3 : n == 10 ? UINT32_MAX : w->first_vp;
	w->heap = n == 14 ? (uint32_t)(MEMORY / 4096) : w->heap;
	w->flags = n == 21 ? VMBUS_SHM_WELCOME_PIDFD : n == 24 ? VMBUS_SHM_WELCOME_HUGE : 0;
}

static void play_wrong(int sock, int n)
{
	struct welcome w = right_welcome();
	int ends[2], i;

	wrong_memory(&w, n);
	wrong_layout(&w.msg.u.welcome, n);
	if (n == 15 && pipe(ends) == 0)
		w.fds[1] = ends[1];
	if (n == 16)
		w.fds[1] = open("/dev/null", O_RDWR);
	for (i = 3; i < VMBUS_SHM_FDS_MAX; i++)
		w.fds[i] = w.fds[1];
	w.count = n == 17 ? 2 : n == 18 ? 4 : n == 19 ? VMBUS_SHM_FDS_MAX : n == 20 ? 0 : 3;
	if (n == 22)
		w.msg.type = VMBUS_SHM_LIST;
	send_welcome(sock, &w);
	wait_for_end(sock);
}

START_TEST(shm_attach__checks_what_it_is_handed)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts;
	const int before = vmbus_test_count_fds();
	struct liar liar;
	int err;

	vmbus_test_at("%s", wrongs[_i].what);
	if (_i == 24) {
		const int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

		if (fd < 0)
			VMBUS_TEST_SKIP("no huge pages in this kernel");
		close(fd);
	}
	liar_start(&liar, play_wrong, _i);
	opts = opts_of(liar.path);
	err = vmbus_shm_attach(&opts, &attach);
	must_eq(err, wrongs[_i].err);
	must(err == 0 || (attach == NULL && why[0]));
	vmbus_shm_detach(attach);
	liar_end(&liar);
	must_eq(vmbus_test_count_fds(), before);
	must_eq(count_memory(), 0);
}
END_TEST

static void play_plain(int sock, int n)
{
	struct welcome w = right_welcome();

	(void)n;
	send_welcome(sock, &w);
	wait_for_end(sock);
}

START_TEST(shm_attach__target_processor_and_sint_must_exist)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts;
	struct liar liar;
	int n;

	for (n = 0; n < 3; n++) {
		liar_start(&liar, play_plain, 0);
		opts = opts_of(liar.path);
		opts.guest.struct_bytes = sizeof(opts.guest);
		opts.guest.limits.struct_bytes = sizeof(opts.guest.limits);
		opts.guest.limits.target_vp = n == 1 ? 1 : 0;
		opts.guest.limits.target_sint = n == 2 ? 16 : 0;
		must_eq(vmbus_shm_attach(&opts, &attach), n ? VMBUS_E_RANGE : 0);
		vmbus_shm_detach(attach);
		liar_end(&liar);
	}
}
END_TEST

static void play_cut(int sock, int n)
{
	struct welcome w = right_welcome();
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	(void)vmbus__shm_encode(&w.msg, bytes);
	send_raw(sock, bytes, (size_t)n, w.fds, w.count);
	wait_for_end(sock);
}

START_TEST(lesson_26_welcome_cut_at_every_length)
{
	const int before = vmbus_test_count_fds();
	int n;

	for (n = 1; n <= 66; n++) {
		struct vmbus_shm_attach *attach;
		struct vmbus_shm_attach_opts opts;
		struct liar liar;

		vmbus_test_at("%d bytes", n);
		liar_start(&liar, play_cut, n);
		opts = opts_of(liar.path);
		must_eq(vmbus_shm_attach(&opts, &attach), n == 64 ? 0 : VMBUS_E_PEER);
		vmbus_shm_detach(attach);
		liar_end(&liar);
		must_eq(vmbus_test_count_fds(), before);
	}
}
END_TEST

/* What a parent may do to a child that is attached; all but the first are the end of it. */
static void play_attached(int sock, int n)
{
	struct welcome w = right_welcome();
	struct vmbus__shm_msg bind = { .type = VMBUS_SHM_BIND };
	int fds[VMBUS_SHM_FDS_MAX], ends[2], i;

	if (n == 9) {
		w.fds[w.count++] = vmbus__shm_pidfd((int32_t)getpid());
		w.msg.u.welcome.flags |= VMBUS_SHM_WELCOME_PIDFD;
	}
	send_welcome(sock, &w);
	bind.u.bind.conn_id = 0x2001;
	for (i = 0; i < VMBUS_SHM_FDS_MAX; i++)
		fds[i] = w.fds[1];
	switch (n) {
	case 0: /* BIND and UNBIND of every number, right and wrong, again and again */
		for (i = 0; i < 3000; i++) {
			bind.u.bind.conn_id = 0x1F00u + (uint32_t)i;
			bind.type = i % 3 ? VMBUS_SHM_BIND : VMBUS_SHM_UNBIND;
			while (vmbus__shm_send(sock, &bind, fds, i % 3 ? 1 : 0) == VMBUS_E_AGAIN)
				usleep(1000);
		}
		vmbus__shm_send_text(sock, VMBUS_SHM_BYE, 0, "done");
		break;
	case 1:
		(void)vmbus__shm_send(sock, &bind, NULL, 0);
		break;
	case 2:
		(void)vmbus__shm_send(sock, &bind, fds, 2);
		break;
	case 3:
		fds[0] = pipe(ends) == 0 ? ends[1] : -1;
		(void)vmbus__shm_send(sock, &bind, fds, 1);
		break;
	case 4:
		bind.type = VMBUS_SHM_UNBIND;
		(void)vmbus__shm_send(sock, &bind, fds, 1);
		break;
	case 5:
		send_raw(sock, "nonsense", 8, fds, VMBUS_SHM_FDS_MAX);
		break;
	case 6:
		send_welcome(sock, &w);
		break;
	case 7:
		vmbus__shm_send_text(sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_KICKED, "go");
		break;
	case 8:
		_exit(0);
	case 9: /* dead, but another process keeps the socket open: the pidfd tells */
		if (fork() == 0) {
			alarm(3);
			pause();
		}
		_exit(0);
	default:
		break;
	}
	wait_for_end(sock);
}

START_TEST(attached__a_parent_that_breaks_the_rules_is_gone)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts;
	const int before = vmbus_test_count_fds();
	const uint64_t end = vmbus__shm_now_ns() + 2ull * SECOND_NS;
	struct liar liar;
	int did = 0;

	liar_start(&liar, play_attached, _i);
	opts = opts_of(liar.path);
	must_eq(vmbus_shm_attach(&opts, &attach), 0);
	must_eq(vmbus_guest_connect(vmbus_shm_guest(attach)), 0);
	while (did != VMBUS_E_PEER && vmbus__shm_now_ns() < end) {
		did = vmbus_shm_attach_wait(attach, 100000000);
		must(did >= 0 || did == VMBUS_E_AGAIN || did == VMBUS_E_PEER);
	}
	must_eq(did, VMBUS_E_PEER);
	(void)vmbus_shm_attach_dispatch(attach, 64);
	must_eq(vmbus_guest_state(vmbus_shm_guest(attach)), VMBUS_GUEST_GONE);
	/* There is no coming back over a dead attachment. */
	must_eq(vmbus_guest_connect(vmbus_shm_guest(attach)), VMBUS_E_STATE);
	must_eq(vmbus_guest_state(vmbus_shm_guest(attach)), VMBUS_GUEST_GONE);
	must_eq(vmbus_guest_wait(vmbus_shm_guest(attach), VMBUS_GUEST_CONNECTED, SECOND_NS),
		VMBUS_E_PEER);
	must_eq(vmbus_shm_attach_dispatch(attach, 0), VMBUS_E_RANGE);
	vmbus_shm_detach(attach);
	liar_end(&liar);
	must_eq(vmbus_test_count_fds(), before);
	must_eq(count_memory(), 0);
}
END_TEST

/* A parent that answers no hypercall, or writes noise into every page all the time. */
static void play_noise(int sock, int n)
{
	struct welcome w = right_welcome();
	uint64_t x = 88172645463325252u + (uint64_t)n;
	volatile uint64_t *map =
		mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, w.fds[0], 0);
	struct pollfd fd = { .fd = sock, .events = POLLIN | POLLRDHUP };

	send_welcome(sock, &w);
	usleep(20000); /* the attaching itself is not the subject */
	for (;;) {
		unsigned int i;

		for (i = 0; i < 4096; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			map[x % (4 * 512)] = i % 3 ? x : x & 0xFF;
		}
		if (poll(&fd, 1, 0) > 0)
			break;
	}
	_exit(0);
}

START_TEST(attached__survives_noise_in_every_page)
{
	struct vmbus_shm_attach *attach;
	struct vmbus_shm_attach_opts opts;
	const uint64_t end = vmbus__shm_now_ns() + SECOND_NS / 2;
	struct liar liar;

	liar_start(&liar, play_noise, _i);
	opts = opts_of(liar.path);
	must_eq(vmbus_shm_attach(&opts, &attach), 0);
	(void)vmbus_guest_connect(vmbus_shm_guest(attach));
	while (vmbus__shm_now_ns() < end) {
		must(vmbus_shm_attach_dispatch(attach, 64) >= 0);
		if (vmbus_guest_state(vmbus_shm_guest(attach)) == VMBUS_GUEST_GONE)
			break;
	}
	vmbus_shm_detach(attach);
	liar_end(&liar);
	must_eq(count_memory(), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "attach", 3);

	tcase_add_test(tc, shm_attach__refuses_options);
	tcase_add_test(tc, shm_attach__refusals_have_codes);
	tcase_add_test(tc, shm_attach__waits_no_longer_than_told);
	tcase_add_test(tc, shm_attach__waits_as_long_as_told);
	tcase_add_loop_test(tc, shm_attach__checks_what_it_is_handed, 0, WRONGS);
	tcase_add_test(tc, shm_attach__target_processor_and_sint_must_exist);
	tcase_add_test(tc, lesson_26_welcome_cut_at_every_length);
	tc = vmbus_test_case(suite, "attached", 3);
	tcase_add_loop_test(tc, attached__a_parent_that_breaks_the_rules_is_gone, 0, 10);
	tcase_add_loop_test(tc, attached__survives_noise_in_every_page, 0, 4);
}

VMBUS_TEST_MAIN("shm.attach", tests)
