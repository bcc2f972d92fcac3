/* SPDX-License-Identifier: MIT */
/*
 * Rings of a child that somebody else than its parent serves: here a part of the same process that
 * keeps to what vmbus_chan_rings() and vmbus_chan_wake() tell.  While data moves the parent has no
 * turn.
 */
#include "shm/local.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

#define PAGES_MAX 64u
#define REQUESTS 500u

extern const struct vmbus_backend vmbus__shm_backend;

/* Who serves the rings. */
struct server {
	struct vmbus_chan *chan;
	uint8_t *base; /* the child's memory */
	struct vmbus_chan_rings rings;
	void *page[PAGES_MAX];
	struct vmbus_wake wake;
	int fd; /* that the child's signals are bound to */
	struct vmbus_ring_rx rx;
	struct vmbus_ring_tx tx;
	void *buf;
	uint32_t closes, wakes, signalled;
	int close_err;
};

static struct {
	struct host host;
	struct local local;
	struct vmbus_vsc *vsc;
	struct server srv;
	uint32_t completed;
	bool open;
} t;

static uint8_t *find_map(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	uint8_t *found = NULL;
	char line[512];

	must(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "memfd:vmbus") && sscanf(line, "%lx-%lx", &from, &to) == 2 &&
		    to - from >= 16u << 20)
			found = (uint8_t *)(uintptr_t)from; /* NOLINT: an address is what it is */
	fclose(f);
	return found;
}

/* All that struct vmbus_wake says. */
static void wake_child(void *ctx)
{
	struct server *s = ctx;
	const uint32_t flag = s->rings.event_flag;
	_Atomic(uint64_t) *word =
		(_Atomic(uint64_t) *)(void *)(s->base + s->wake.gpa + flag / 64 * 8);
	const uint64_t bit = (uint64_t)1 << flag % 64;

	s->wakes++;
	if (!(atomic_fetch_or_explicit(word, bit, memory_order_release) & bit))
		must_eq(eventfd_write(s->wake.fd, 1), 0);
}

static void map_ring(struct server *s, struct vmbus_ring_mem *mem, uint32_t first, uint32_t pages)
{
	struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
					    .window = VMBUS_RING_SCATTERED,
					    .size = (pages - 1) * VMBUS_PAGE_BYTES };

	opts.ctl = s->page[first];
	opts.data = s->page[first + 1];
	opts.pages = (void *const *)&s->page[first + 1];
	must_eq(vmbus_ring_mem_init(mem, &opts), 0);
}

static void serve(struct server *s)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = wake_child,
					.signal_ctx = s };
	struct vmbus_ring_mem up, down;
	uint32_t i;

	s->base = find_map();
	must(s->base != NULL);
	must(s->rings.pages <= PAGES_MAX);
	for (i = 0; i < s->rings.pages; i++)
		s->page[i] = s->base + s->rings.frames[i] * VMBUS_PAGE_BYTES;
	map_ring(s, &up, 0, s->rings.down_page);
	map_ring(s, &down, s->rings.down_page, s->rings.pages - s->rings.down_page);
	must_eq(vmbus_ring_tx_init(&s->tx, &down, &opts), 0);
	opts.buf_bytes = vmbus_ring_rx_buf_bytes(up.size_p);
	s->buf = aligned_alloc(64, (opts.buf_bytes + 63) / 64 * 64);
	opts.buf = s->buf;
	must_eq(vmbus_ring_rx_init(&s->rx, &up, &opts), 0);
}

/* Echo what is there; sleeps when nothing is. */
static void turn(struct server *s)
{
	struct vmbus_packet pkt[16];
	int got, i;

	do {
		got = vmbus_ring_rx_get(&s->rx, pkt, 16);
		must(got >= 0);
		for (i = 0; i < got; i++) {
			const struct vmbus_msg msg = { .type = VMBUS_PKT_COMPLETION,
						       .id = pkt[i].id,
						       .data = pkt[i].payload,
						       .len = pkt[i].len };

			must_eq(vmbus_ring_tx_put(&s->tx, &msg, 1), 1);
		}
	} while (got || vmbus_ring_rx_arm(&s->rx) != VMBUS_RING_SLEEP);
}

static int srv_open(struct vmbus_chan *chan, void *ctx)
{
	struct server *s = ctx;

	s->chan = chan;
	must_eq(vmbus_chan_rings(chan, &s->rings), 0);
	must_eq(vmbus_chan_wake(chan, &s->wake), 0);
	must_eq(vmbus_chan_bind(chan, s->fd), 0);
	return VMBUS_E_AGAIN;
}

static int srv_close(struct vmbus_chan *chan)
{
	struct server *s = vmbus_chan_ctx(chan);

	s->closes++;
	free(s->buf);
	s->buf = NULL;
	return s->close_err;
}

static void srv_signalled(struct vmbus_chan *chan)
{
	((struct server *)vmbus_chan_ctx(chan))->signalled++;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "elsewhere",
	.class_id = ECHO_CLASS,
	.flags = VMBUS_VSP_FOREIGN,
	.open = srv_open,
	.close = srv_close,
	.signalled = srv_signalled,
};

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	((struct host *)ctx)->child = child;
	return vmbus_bus_offer(bus, &vsp, &t.srv, NULL, NULL);
}

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc, (void)cookie;
	t.completed += pkt != NULL;
}

static void opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	t.open = err == 0;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Child and parent, until a condition holds. */
#define run_until(cond)                                                                            \
	do {                                                                                       \
		const uint64_t end_ns = vmbus__shm_now_ns() + 10ull * SECOND_NS;                   \
		while (!(cond)) {                                                                  \
			must(vmbus_shm_attach_dispatch(t.local.attach, 64) >= 0);                  \
			must(vmbus_shm_server_dispatch(t.host.server, 64) >= 0);                   \
			must(vmbus__shm_now_ns() < end_ns);                                        \
		}                                                                                  \
	} while (0)

static void begin(void)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = 16384,
				       .recv_bytes = 16384,
				       .requests_max = 32,
				       .opened = opened,
				       .completed = completed };
	struct vmbus_guest *guest;

	memset(&t, 0, sizeof(t));
	t.srv.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	must(t.srv.fd >= 0);
	host_init(&t.host);
	t.host.opts.attached = attached;
	host_listen(&t.host);
	local_attach(&t.host, &t.local);
	guest = vmbus_shm_guest(t.local.attach);
	must_eq(vmbus_guest_connect(guest), 0);
	run_until((t.vsc = vmbus_vsc_find(guest, &echo_class, 0)) != NULL);
	must_eq(vmbus_vsc_open(t.vsc, &opts), 0);
	run_until(t.srv.chan != NULL);
	serve(&t.srv);
	vmbus_chan_open_done(t.srv.chan, 0);
	run_until(t.open);
	while (vmbus_shm_attach_dispatch(t.local.attach, 64) > 0)
		;
	host_spin(&t.host);
}

static void end(void)
{
	vmbus_shm_detach(t.local.attach);
	host_until(&t.host, t.host.detached);
	host_close(&t.host);
	must_eq(t.srv.closes, 1);
	close(t.srv.fd);
}

START_TEST(shm_wake__data_moves_without_the_parent)
{
	uint64_t payload = 0, count;
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = &payload, .len = 8 };

	begin();
	turn(&t.srv);
	(void)read(t.srv.fd, &count, sizeof(count));
	while (t.completed < REQUESTS) {
		const uint32_t before = t.completed;

		payload++;
		must(vmbus_vsc_request(t.vsc, &msg, NULL) >= 0);
		while (vmbus_shm_attach_dispatch(t.local.attach, 64) > 0)
			;
		must(!readable(vmbus_shm_attach_fd(t.local.attach)));
		must(read(t.srv.fd, &count, sizeof(count)) == sizeof(count)); /* woken */
		turn(&t.srv);
		must(readable(vmbus_shm_attach_fd(t.local.attach)));
		while (vmbus_shm_attach_dispatch(t.local.attach, 64) > 0)
			;
		must_eq(t.completed, before + 1);
		must(!readable(vmbus_shm_server_fd(t.host.server)));
	}
	must(t.srv.wakes >= REQUESTS);
	end();
}
END_TEST

/* The parent's bell and the other one may ring at once, and none is lost. */
START_TEST(shm_wake__has_a_bell_of_its_own)
{
	struct raw_child child;
	struct vmbus_wake wake;
	struct host *host = &t.host;
	uint32_t rings;

	memset(&t, 0, sizeof(t));
	host_init(host);
	host->opts.attached = attached;
	host_listen(host);
	raw_child_attach(host, &child);
	must_eq(vmbus__shm_backend.wake(host->child, 0, 2, &wake), 0);
	must_eq(wake.gpa, (child.welcome.first_vp + 1u) * (uint64_t)VMBUS_PAGE_BYTES + 2 * 256);
	while (raw_child_hears(&child))
		;
	must_eq(eventfd_write(wake.fd, 1), 0);
	must(raw_child_hears(&child));
	must(!raw_child_hears(&child));
	must_eq(vmbus__shm_backend.raise(host->child, 0, 2, 1), 0);
	must(raw_child_hears(&child));
	must(!raw_child_hears(&child));
	must_eq(eventfd_write(wake.fd, 1), 0);
	must_eq(vmbus__shm_backend.raise(host->child, 0, 2, 2), 0);
	for (rings = 0; raw_child_hears(&child); rings++)
		;
	must_eq(rings, 2);
	raw_child_leave(&child);
	host_until(host, host->detached);
	host_close(host);
}
END_TEST

/* Whoever has the bell can fill it and make writes wait: the parent never writes it. */
START_TEST(shm_wake__cannot_hold_up_the_parent)
{
	struct raw_child child;
	struct vmbus_wake wake;
	struct host *host = &t.host;

	memset(&t, 0, sizeof(t));
	host_init(host);
	host->opts.attached = attached;
	host_listen(host);
	raw_child_attach(host, &child);
	must_eq(vmbus__shm_backend.wake(host->child, 0, 2, &wake), 0);
	must_eq(fcntl(wake.fd, F_SETFL, fcntl(wake.fd, F_GETFL) & ~O_NONBLOCK), 0);
	must_eq(eventfd_write(wake.fd, UINT64_MAX - 1), 0);
	while (raw_child_hears(&child))
		;
	must_eq(vmbus__shm_backend.raise(host->child, 0, 2, 1), 0); /* does not wait */
	must(raw_child_hears(&child));
	raw_child_leave(&child);
	host_until(host, host->detached);
	host_close(host);
}
END_TEST

START_TEST(shm_wake__errors)
{
	struct vmbus_shm_child *child;
	struct vmbus_wake wake;

	begin();
	child = t.host.child;
	must_eq(vmbus__shm_backend.wake(child, 1, 2, &wake), VMBUS_E_RANGE);
	must_eq(vmbus__shm_backend.wake(child, 0, 16, &wake), VMBUS_E_RANGE);
	t.srv.close_err = VMBUS_E_AGAIN;
	vmbus_shm_detach(t.local.attach);
	host_until(&t.host, t.srv.closes);
	must_eq(vmbus__shm_backend.wake(child, 0, 2, &wake), VMBUS_E_STATE); /* it has left */
	vmbus_chan_close_done(t.srv.chan);
	host_until(&t.host, t.host.removed);
	host_close(&t.host);
	close(t.srv.fd);
}
END_TEST

/* A child that dies while its device opens or is open elsewhere: everything is given back. */
START_TEST(lesson_16_shm_child_dies_while_a_device_opens)
{
	struct job job = { .channels = 1, .requests = 1, .payload = 64, .ring = 16384 };
	int fds, maps, n;
	pid_t pid;

	memset(&t, 0, sizeof(t));
	t.srv.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	host_init(&t.host);
	t.host.opts.attached = attached;
	host_listen(&t.host);
	fds = vmbus_test_count_fds();
	maps = count_memory();
	for (n = 0; n < 20; n++) {
		t.srv.chan = NULL;
		pid = guest_start(t.host.path, &job);
		host_until(&t.host, t.srv.chan != NULL); /* and it is never open */
		if (n % 2) {
			vmbus_chan_open_done(t.srv.chan, 0);
			host_spin(&t.host);
		}
		must_eq(kill(pid, SIGKILL), 0);
		must_eq(guest_end(&t.host, pid), 1000 + SIGKILL);
		host_until(&t.host, t.host.removed == (unsigned int)n + 1);
		must_eq(t.srv.closes, n + 1);
		host_spin(&t.host);
		must_eq(vmbus_test_count_fds(), fds);
		must_eq(count_memory(), maps);
	}
	host_close(&t.host);
	close(t.srv.fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "wake", 60);

	tcase_add_test(tc, shm_wake__data_moves_without_the_parent);
	tcase_add_test(tc, shm_wake__has_a_bell_of_its_own);
	tcase_add_test(tc, shm_wake__cannot_hold_up_the_parent);
	tcase_add_test(tc, shm_wake__errors);
	tcase_add_test(tc, lesson_16_shm_child_dies_while_a_device_opens);
}

VMBUS_TEST_MAIN("shm.wake", tests)
