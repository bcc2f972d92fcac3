/* SPDX-License-Identifier: MIT */
/*
 * A provider with a disk that works and one that stalls, for two guests.  One guest closes its channel
 * with requests under way in the disk that stalls: the other one does not notice, and the parent, which
 * waits a limited time for the provider's answer, gets it.
 */
#include "vspbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <vmbus/provider.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MS UINT64_C(1000000)
#define DEADLINE_NS (10000 * MS)
#define ANSWER_NS (4000 * MS)

static struct {
	struct vmbus_provider_host *host;
	struct box box[2];
	char path[64];
	char line[200];
	pid_t pid;
	uint32_t buses, providers;
	bool present;
} w;

static void on_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)snprintf(w.line, sizeof(w.line), "%s", line);
}

static int on_attach(void *ctx, const struct vmbus_provider_info *info)
{
	(void)ctx;
	(void)info;
	return 0;
}

static void on_listed(void *ctx, const struct vmbus_provider_info *info)
{
	(void)ctx;
	w.providers++;
	w.buses = info->buses;
	w.present = info->present;
}

/* ---- the provider ---- */

static int provide(void)
{
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .path = w.path,
					    .name = "disks",
					    .vsp = vmbus_block_vsp() };
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };
	const struct vmbus_store_faults faults = { .stall = true };
	struct vmbus_provider *provider;
	struct vmbus_block *block;
	int err;

	if (vmbus_block_create(NULL, &block))
		return 2;
	for (; disk.lun < 2; disk.lun++)
		if (vmbus_store_memory(BOX_DISK_BYTES, -1, &disk.store) ||
		    vmbus_store_faulty(&disk.store, &disk.store) ||
		    (disk.lun == 1 && vmbus_store_faulty_set(&disk.store, &faults)) ||
		    vmbus_block_add(block, &disk))
			return 3;
	opts.ctx = block;
	if (vmbus_provider_attach(&opts, &provider) || (!SANITIZED && vmbus_provider_sandbox()))
		return 4;
	do
		err = vmbus_provider_wait(provider, 1000 * MS);
	while (err >= 0 || err == VMBUS_E_AGAIN);
	fprintf(stderr, "the provider ends: %s\n", vmbus_provider_why(provider));
	return 5;
}

static void start_provider(void)
{
	int fd;

	w.pid = fork();
	must(w.pid >= 0);
	if (w.pid)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (fd = 3; fd < 256; fd++)
		(void)close(fd);
	_exit(provide());
}

/* ---- the parent and its guests ---- */

static void turn(void)
{
	int i, status, done = vmbus_provider_host_dispatch(w.host, 64);

	must(done >= 0);
	for (i = 0; i < 2; i++)
		done |= vmbus_bus_dispatch(w.box[i].f.bus, 64);
	if (!done)
		usleep(200);
	if (waitpid(w.pid, &status, WNOHANG)) /* the provider lives */
		ck_abort_msg("the provider ended with status %x: %s (%s)", (unsigned)status, w.line,
			     vmbus_test_where);
}

#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		const uint64_t until_end = fake_now_ns() + DEADLINE_NS;                            \
		vmbus_test_at("waiting for %s, last line: %.120s", #cond, w.line);                 \
		while (!(cond)) {                                                                  \
			must(fake_now_ns() < until_end);                                           \
			turn();                                                                    \
		}                                                                                  \
	} while (0)

static bool ready(void)
{
	w.buses = 0;
	vmbus_provider_host_list(w.host, on_listed, NULL);
	return w.buses == 2;
}

static bool answered(struct box *b, struct box_reply *r)
{
	struct vmbus_packet pkt;

	if (fake_receive(&b->c[0], &pkt, 1) != 1)
		return false;
	must_eq(pkt.type, VMBUS_PKT_COMPLETION);
	box_decode(r, &pkt);
	return true;
}

static void open_guest(struct box *b)
{
	static const uint8_t steps[] = { 7, 9, 10, 8 };
	struct fake_chan *const c = &b->c[0];
	struct vmbus_ctl ctl;
	struct box_reply r;
	uint8_t msg[64];
	uint32_t i;

	must_eq(fake_offers(&b->f, b->c, 1), 1);
	b->data = fake_pages(&b->f, 8);
	fake_rings(&b->f, c, BOX_UP, BOX_DOWN);
	c->gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, c->relid, c->gpadl, c->first, BOX_UP + BOX_DOWN), 0);
	fake_post_open(&b->f, c, 0);
	UNTIL(fake_take(&b->f, &ctl) == VMBUS_CTL_OPEN_RESULT);
	must_eq(ctl.u.result.status, 0);
	for (i = 0; i < 4; i++) {
		memset(msg, 0, sizeof(msg));
		box_put(msg, 4, steps[i]);
		box_put(msg + 4, 4, 1);
		box_put(msg + 12, 2, steps[i] == 9 ? b->version : 0);
		box_send_pkt(b, 0, b->id++, msg, 64, NULL, 0);
		UNTIL(answered(b, &r));
		must_eq(r.status, 0);
	}
}

/* The child's memory, as a provider takes it. */
static void seal(struct fake *f)
{
	const int fd = memfd_create("child", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const size_t bytes = f->pages * FAKE_PAGE;

	must(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	must(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	must_eq(dup2(fd, f->fd), f->fd);
	must(!close(fd));
	must(mmap(f->mem, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f->fd, 0) ==
	     f->mem);
	f->region.fd = f->fd;
}

static void begin(void)
{
	struct vmbus_provider_host_opts opts = { .struct_bytes = sizeof(opts),
						 .path = w.path,
						 .answer_ns = ANSWER_NS,
						 .attach = on_attach,
						 .log = on_log };
	int i;

	memset(&w, 0, sizeof(w));
	(void)snprintf(w.path, sizeof(w.path), "/tmp/vmbus-bp-%d.sock", (int)getpid());
	must_eq(vmbus_provider_listen(&opts, &w.host), 0);
	for (i = 0; i < 2; i++) {
		struct box *const b = &w.box[i];

		box_prepare(b);
		fake_prepare(&b->f, 256);
		seal(&b->f);
		fake_create(&b->f);
		must_eq(vmbus_provider_host_add_bus(w.host, b->f.bus, b->f.regions, 1), 0);
		fake_contact(&b->f, VMBUS_PROTO_5_3);
	}
	start_provider();
	UNTIL(ready());
}

static void end(void)
{
	int i;

	must(!kill(w.pid, SIGKILL));
	must_eq(waitpid(w.pid, NULL, 0), w.pid);
	vmbus_provider_host_destroy(w.host);
	for (i = 0; i < 2; i++) {
		fake_chan_free(&w.box[i].c[0]);
		fake_fini(&w.box[i].f);
	}
}

START_TEST(provider__is_not_thrown_out_for_a_store_that_stalls)
{
	struct box_srb stalls = box_rw(1, true, 0, 8), load = box_rw(0, true, 0, 8);
	struct box *const a = &w.box[0], *const b = &w.box[1];
	uint64_t before, last, torn = 0, longest = 0, served = 0;
	struct vmbus_ctl ctl;
	struct box_reply r;
	int i;

	begin();
	open_guest(a);
	open_guest(b);
	for (i = 0; i < 3; i++)
		(void)box_command(a, 0, &stalls, 0);
	(void)box_command(a, 0, &load, 0); /* comes after them */
	UNTIL(answered(a, &r));
	must_eq(r.srb_status, 1);
	fake_post_close(&a->f, &a->c[0]);
	fake_post_teardown(&a->f, a->c[0].relid, a->c[0].gpadl);
	before = last = fake_now_ns();
	while (fake_now_ns() - before < ANSWER_NS + 1000 * MS) {
		(void)box_command(b, 0, &load, 0);
		UNTIL(answered(b, &r));
		must_eq(r.srb_status, 1);
		served++;
		if (fake_now_ns() - last > longest)
			longest = fake_now_ns() - last;
		last = fake_now_ns();
		if (!torn && fake_take(&a->f, &ctl) == VMBUS_CTL_GPADL_TORNDOWN)
			torn = fake_now_ns() - before;
	}
	vmbus_test_at("torn down after %u ms, %u served, longest %u ms", (unsigned)(torn / MS),
		      (unsigned)served, (unsigned)(longest / MS));
	must(torn >= 1900 * MS && torn < ANSWER_NS);
	must(served > 100 && longest < 1000 * MS);
	must(ready() && w.present && w.providers);
	end();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "provider", 40);

	tcase_add_test(tc, provider__is_not_thrown_out_for_a_store_that_stalls);
}
VMBUS_TEST_MAIN("block.vsp_provider", tests)
