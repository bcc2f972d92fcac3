/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl doctor: set-ups that are broken in one way each are named by their code, and healthy ones
 * are not.  lesson_12: which step did not happen, with its time.
 */
#include "diag/added.h"

#include <vmbus/watch.h>

static const struct vmbus_vsp *offered_vsp;

static int attached_one(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct host *const host = ctx;
	struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer), .own_fd = host->own_fd };

	host->attached++;
	host->child = child;
	return vmbus_bus_offer(bus, offered_vsp, host, &offer, &host->chan);
}

static void open_with(struct host *host, const struct vmbus_vsp *vsp)
{
	NEED_TOOL();
	host_init(host);
	offered_vsp = vsp;
	host->opts.attached = attached_one;
	host_listen(host);
}

/* 1: the device has a class that no driver of the child's asks for. */
START_TEST(doctor__wrong_guid)
{
	struct vmbus_vsp other = echo_vsp;
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	other.class_id.b[15] ^= 1;
	open_with(&host, &other);
	pid = kid_start(&host, KID_NOTHING);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_TOLD]);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "offer-unclaimed", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 2: the rings are larger than the device takes. */
START_TEST(doctor__ring_refused)
{
	struct vmbus_vsp small = echo_vsp;
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid;

	small.ring_bytes_max = 4096;
	open_with(&host, &small);
	pid = kid_start(&host, KID_REFUSED);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_REFUSED]);
	expect_found(&host, "ring-refused", 1);
	out = ctl(&host, "doctor -s %s -g 0.2 -i 0.05");
	must(strstr(out->text, "ring-refused: child guest") != NULL);
	must(strstr(out->text, "bytes of a ring is 65536, limit 4096") != NULL);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

static int no_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return VMBUS_E_PERM;
}

/* 2: the device refuses; the child takes its pages back, and stays. */
START_TEST(doctor__open_failed)
{
	struct vmbus_vsp refuses = echo_vsp;
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	refuses.open = no_open;
	open_with(&host, &refuses);
	pid = kid_start(&host, KID_REFUSED);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_REFUSED]);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "open-failed", 1);
	must(strstr(ctl(&host, "doctor -s %s -g 0.2 -i 0.05")->text, "the device refused: PERM") !=
	     NULL);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* The child's process is stopped: no doorbell was lost. */
START_TEST(doctor__child_stopped)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "hello", .len = 5 };
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	open_with(&host, &echo_vsp);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_OPENED]);
	serve_for(&host, SECOND_NS / 2); /* past the signal that comes after an open */
	must_eq(kill(pid, SIGSTOP), 0);
	must_eq(vmbus_chan_send(host.chan, &msg, 1), 1);
	expect_found(&host, "child-not-reading", 1);
	must(strstr(ctl(&host, "doctor -s %s -i 0.05")->text, "whose process is stopped") != NULL);
	must_eq(kill(pid, SIGCONT), 0);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 3: another channel of the class is open, so there is a driver, and it does not have this one. */
START_TEST(doctor__driver_bound_elsewhere)
{
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	NEED_TOOL();
	host_init(&host);
	host.channels = 2;
	host_listen(&host);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, (look(&host, 0, &diag) && diag.steps[VMBUS_STEP_OPENED]) ||
				  (look(&host, 1, &diag) && diag.steps[VMBUS_STEP_OPENED]));
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "not-opened", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 3, of a class that everybody has a driver for: the child opens nothing at all. */
START_TEST(doctor__driver_of_a_known_class_opens_nothing)
{
	static const struct vmbus_guid shutdown_class = VMBUS_GUID(
		0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb);
	struct vmbus_vsp known = echo_vsp;
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	must(vmbus_class_name(&shutdown_class) != NULL);
	known.class_id = shutdown_class;
	open_with(&host, &known);
	pid = kid_start(&host, KID_NOTHING);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_TOLD]);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "not-opened", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 4: the child writes a packet, and its doorbell rings nowhere. */
START_TEST(doctor__doorbell_of_the_child_lost)
{
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid;

	open_with(&host, &echo_vsp);
	pid = kid_start(&host, KID_LOSES);
	host_until(&host, look(&host, 0, &diag) && diag.from_child.used);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "wakeup-lost", 1);
	out = ctl(&host, "doctor -s %s -i 0.05");
	must(strstr(out->text, "from the child: ") != NULL);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 4, the other way: the child sleeps, and what we knock with is no bell of its. */
START_TEST(doctor__knock_of_the_parent_lost)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "hello", .len = 5 };
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid;
	int other;

	open_with(&host, &echo_vsp);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_OPENED]);
	serve_for(&host, SECOND_NS / 2); /* past the signal that comes after an open */
	other = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	must(dup2(other, host.child->knock) == host.child->knock);
	close(other);
	must_eq(vmbus_chan_send(host.chan, &msg, 1), 1);
	expect_found(&host, "wakeup-lost", 1);
	out = ctl(&host, "doctor -s %s -i 0.05");
	must(strstr(out->text, "to the child: ") != NULL);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 5: a device with a thread of its own, which is stuck in its first packet. */
struct hung {
	struct host *host;
	pthread_t thread;
	int go_on, stop, stuck;
	bool never_comes; /* it dispatches until the channel is open, and no more */
};
static struct hung hung;

static void hung_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
	__atomic_store_n(&hung.stuck, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&hung.go_on, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static int hung_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	if (hung.never_comes)
		__atomic_store_n(&hung.stuck, 1, __ATOMIC_RELEASE);
	return 0;
}

static const struct vmbus_vsp hung_vsp = {
	.struct_bytes = sizeof(hung_vsp),
	.name = "hung",
	.class_id = ECHO_CLASS,
	.open = hung_open,
	.packets = hung_packets,
};

static void *hung_thread(void *arg)
{
	struct pollfd fd = { .fd = vmbus_chan_fd(hung.host->chan), .events = POLLIN };

	(void)arg;
	while (!__atomic_load_n(&hung.stop, __ATOMIC_ACQUIRE)) {
		(void)poll(&fd, 1, 10);
		if (!hung.never_comes || !__atomic_load_n(&hung.stuck, __ATOMIC_ACQUIRE) ||
		    __atomic_load_n(&hung.go_on, __ATOMIC_ACQUIRE))
			(void)vmbus_chan_dispatch(hung.host->chan, 64);
		else
			usleep(1000);
	}
	return NULL;
}

static void hung_stop(struct host *host)
{
	(void)host;
	__atomic_store_n(&hung.stop, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(hung.thread, NULL), 0);
}

static int attached_hung(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	const int err = attached_one(ctx, child, bus);

	if (!err)
		must_eq(pthread_create(&hung.thread, NULL, hung_thread, NULL), 0);
	return err;
}

START_TEST(doctor__provider_hung)
{
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid;

	memset(&hung, 0, sizeof(hung));
	hung.never_comes = _i == 1;
	NEED_TOOL();
	host_init(&host);
	hung.host = &host;
	offered_vsp = &hung_vsp;
	host.own_fd = true;
	host.stop = hung_stop;
	host.opts.attached = attached_hung;
	host_listen(&host);
	pid = kid_start(&host, KID_SENDS);
	host_until(&host, __atomic_load_n(&hung.stuck, __ATOMIC_ACQUIRE) && look(&host, 0, &diag) &&
				  diag.from_child.used);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "provider-hung", 1);
	out = ctl(&host, "stat -s %s -n 1 -i 0.05");
	must_eq(out->status, 0);
	must(strstr(out->text, " hung ") != NULL && strstr(out->text, "[#") != NULL);
	__atomic_store_n(&hung.go_on, 1, __ATOMIC_RELEASE); /* it must close the channel */
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

static int paused_open(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	vmbus_chan_pause(chan, true);
	return 0;
}

static void paused_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	(void)n;
	vmbus_chan_fail(chan, "it is paused");
}

static const struct vmbus_vsp paused_vsp = {
	.struct_bytes = sizeof(paused_vsp),
	.name = "paused",
	.class_id = ECHO_CLASS,
	.open = paused_open,
	.packets = paused_packets,
};

/* It does not read, and says so: it is not taken for one that hangs. */
START_TEST(doctor__device_paused)
{
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid;

	NEED_TOOL();
	host_init(&host);
	offered_vsp = &paused_vsp;
	host.opts.attached = attached_one;
	host_listen(&host);
	pid = kid_start(&host, KID_SENDS);
	host_until(&host, look(&host, 0, &diag) && diag.from_child.used);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "device-paused", 1);
	out = ctl(&host, "stat -s %s -n 1 -i 0.05");
	must_eq(out->status, 0);
	must(strstr(out->text, " paused ") != NULL);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

static unsigned int held;

static void holding_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	held += n;
	vmbus_chan_under_way(chan, held);
}

static const struct vmbus_vsp holding_vsp = {
	.struct_bytes = sizeof(holding_vsp),
	.name = "holding",
	.class_id = ECHO_CLASS,
	.packets = holding_packets,
};

/* It reads, and answers nothing. */
START_TEST(doctor__device_busy)
{
	struct vmbus_chan_diag diag;
	struct host host;
	pid_t pid;

	NEED_TOOL();
	held = 0;
	host_init(&host);
	offered_vsp = &holding_vsp;
	host.opts.attached = attached_one;
	host_listen(&host);
	pid = kid_start(&host, KID_SENDS);
	host_until(&host, look(&host, 0, &diag) && diag.under_way == 20);
	must(diag.under_way_since > 0 && diag.under_way_since <= diag.now);
	must_eq(diag.from_child.used, 0);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "device-busy", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/*
 * It takes no more than it can have under way, and nothing of that ends: busy is told, once that is old;
 * paused before, and for no longer than it has stood still.
 */
START_TEST(doctor__device_busy_at_its_bound)
{
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	double seconds = 0;
	const char *age;
	pid_t pid;

	NEED_TOOL();
	host_init(&host);
	offered_vsp = &paused_vsp;
	host.opts.attached = attached_one;
	host.opts.record_bytes = 65536; /* so that the time of the last signal is known */
	host_listen(&host);
	pid = kid_start(&host, KID_SENDS);
	host_until(&host, look(&host, 0, &diag) && diag.from_child.used);
	/* The child sends none while the device is awake. */
	must_eq(vmbus_bus_signal_event(vmbus_shm_child_bus(host.child), diag.info.conn_id, 0), 0);
	serve_for(&host, 3ull * SECOND_NS / 2);
	must(look(&host, 0, &diag) && diag.signal_at + SECOND_NS < diag.now);
	vmbus_chan_under_way(host.chan, 16);
	out = ctl(&host, "doctor -s %s -t 20 -g 20 -i 0.1");
	must(strstr(out->text, "device-paused") != NULL);
	age = strstr(out->text, ", for ");
	must(age && sscanf(age, ", for %lf s", &seconds) == 1);
	if (seconds > 1.4)
		ck_abort_msg("%s", out->text);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "device-busy", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* 6: under load, and with an idle child beside. */
START_TEST(doctor__healthy)
{
	static const struct job busy = { .channels = 3,
					 .payload = 512,
					 .ring = 16384,
					 .memory = 8 << 20,
					 .vps = 2,
					 .forever = true };
	struct vmbus_chan_diag diag;
	const struct out *out;
	struct host host;
	pid_t pid[3];
	int i;

	NEED_TOOL();
	host_init(&host);
	host.channels = 3;
	host.opts.record_bytes = 65536;
	host_listen(&host);
	pid[0] = guest_start(host.path, &busy);
	pid[1] = guest_start(host.path, &busy);
	host_until(&host, host.packets > 2000);
	for (i = 0; i < 3; i++)
		expect_found(&host, "", 0);
	out = ctl(&host, "stat -s %s -n 2 -i 0.2 --json");
	must_eq(out->status, 0);
	must_eq(count(out->text, "vmbusctl-stat/1"), 2);
	must_eq(count(out->text, "\"relid\""), 12);
	must(strstr(out->text, "\"packets_in_s\": 0.0,") == NULL);
	kid_kill(&host, pid[0]);
	kid_kill(&host, pid[1]);
	host_close(&host);
	host_init(&host); /* idle: one channel, opened and quiet */
	host.channels = 1;
	host_listen(&host);
	pid[2] = kid_start(&host, KID_OPENS);
	host_until(&host, look(&host, 0, &diag) && diag.steps[VMBUS_STEP_OPENED]);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "", 0);
	out = ctl(&host, "doctor -s %s -i 0.05");
	must(strstr(out->text, "nothing found: 1 child, 1 channel\n") != NULL);
	kid_kill(&host, pid[2]);
	out = ctl(&host, "doctor -s %s -i 0.05");
	must_eq(out->status, 0);
	must(strstr(out->text, "no child is attached") != NULL);
	host_close(&host);
}
END_TEST

START_TEST(doctor__no_contact)
{
	struct host host;
	pid_t pid;

	open_with(&host, &echo_vsp);
	pid = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 1);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "no-contact", 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* A device that does not close, of a child that died. */
START_TEST(doctor__close_unanswered)
{
	struct host host;
	pid_t pid;

	open_with(&host, &slow_vsp);
	pid = kid_start(&host, KID_SENDS);
	host_until(&host, host.packets);
	kill(pid, SIGKILL);
	must_eq(guest_end(&host, pid), 1000 + SIGKILL);
	host_until(&host, slow != NULL);
	serve_for(&host, SECOND_NS / 4);
	expect_found(&host, "close-unanswered", 1);
	vmbus_chan_close_done(slow);
	slow = NULL;
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

static struct added added;

/* 2 again: too small, and not on page boundaries. */
START_TEST(doctor__rings_of_a_machine_refused)
{
	struct vmbus_ctl ctl_msg = { .type = VMBUS_CTL_GPADL_HEADER };
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	if (_i == 0) {
		fake_rings(&a->fake, &a->chan, 4, 4);
		a->chan.gpadl = 77;
		must_eq(fake_share(&a->fake, a->chan.relid, 77, a->chan.first, 3), 0);
		a->chan.up = 2; /* one page for the ring to the child */
		fake_post_open(&a->fake, &a->chan, 0);
		fake_run(&a->fake);
	} else {
		fake_rings(&a->fake, &a->chan, 4, 4);
		ctl_msg.u.gpadl.relid = a->chan.relid;
		ctl_msg.u.gpadl.gpadl = a->chan.gpadl = 77;
		ctl_msg.u.gpadl.range_bytes = 8 + 9 * 8;
		ctl_msg.u.gpadl.range_count = 1;
		ctl_msg.u.gpadl.count = 10;
		ctl_msg.u.gpadl.qwords[0] = (uint64_t)512 << 32 | 8 * FAKE_PAGE;
		for (int i = 0; i < 9; i++)
			ctl_msg.u.gpadl.qwords[1 + i] = a->chan.first + (uint64_t)i;
		fake_post(&a->fake, &ctl_msg);
		fake_run(&a->fake);
		fake_post_open(&a->fake, &a->chan, 0);
		fake_run(&a->fake);
	}
	expect_found(&a->host, "ring-refused", 1);
	added_close(a);
}
END_TEST

START_TEST(doctor__message_slot_taken)
{
	struct vmbus_ctl ctl_msg = { .type = VMBUS_CTL_UNLOAD };
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	a->fake.busy = true;
	ctl_msg.type = VMBUS_CTL_MODIFY;
	ctl_msg.u.modify.relid = a->chan.relid;
	ctl_msg.u.modify.target_vp = 1;
	fake_post(&a->fake, &ctl_msg);
	while (vmbus_bus_dispatch(a->fake.bus, 64) > 0)
		;
	serve_for(&a->host, SECOND_NS / 4);
	expect_found(&a->host, "slot-taken", 1);
	a->fake.busy = false;
	vmbus_bus_slot_free(a->fake.bus, 0, 2);
	fake_expect(&a->fake, VMBUS_CTL_MODIFY_RESPONSE, NULL);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

/*
 * The ring to the child is full, it says that it is awake, and it reads nothing.  Test 1: more of its
 * packets wait, which the device is not given before it has room for answers.  2 and 3: it has asked for
 * a signal, got it, and does not come.
 */
START_TEST(doctor__child_does_not_read)
{
	struct added *const a = &added;
	const char *text;
	int i;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	if (_i < 2)
		vmbus_ring_rx_disarm(&a->chan.rx);
	for (i = 0; i < 400 * (1 + 2 * (_i & 1)); i++) {
		if (i % 400 == 399)
			fake_run(&a->fake);
		(void)fake_send(&a->chan, (uint64_t)i + 1, "0123456789abcdef0123456789abcdef", 32);
	}
	fake_run(&a->fake);
	expect_found(&a->host, "child-not-reading", 1);
	text = ctl(&a->host, "doctor -s %s -i 0.05")->text;
	must(strstr(text, "the device waits for room") != NULL);
	must(!strstr(text, "it asked for a signal") == (_i < 2));
	added_close(a);
}
END_TEST

/* Not full, and the signal came to nobody: this is no child that is known not to read. */
START_TEST(doctor__signal_to_a_machine_lost)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "hello", .len = 5 };
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	must_eq(vmbus_chan_send(a->offered, &msg, 1), 1);
	expect_found(&a->host, "wakeup-lost", 1);
	added_close(a);
}
END_TEST

START_TEST(doctor__channel_faulted)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	*(uint32_t *)(void *)(a->fake.mem + a->chan.first * FAKE_PAGE) = 12345; /* write index */
	(void)vmbus_bus_signal_event(a->fake.bus, a->chan.conn, 0);
	fake_run(&a->fake);
	expect_found(&a->host, "channel-faulted", 1);
	added_close(a);
}
END_TEST

START_TEST(doctor__parent_that_does_not_dispatch)
{
	struct runner r = { .done = 0 };
	struct host host;
	char who[32];

	open_with(&host, &echo_vsp);
	(void)snprintf(r.command, sizeof(r.command), "%s doctor -s %s -t 0.2 2>&1", tool(),
		       host.path);
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	must(strncmp(r.out.text, "parent-silent: ", 15) == 0);
	(void)snprintf(who, sizeof(who), " (process %d)\n", (int)getpid());
	must(strstr(r.out.text, who) && strstr(r.out.text, "it does not dispatch"));
	(void)snprintf(r.command, sizeof(r.command), "%s doctor -s %s -t 0.2 --json 2>&1", tool(),
		       host.path);
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	must(strstr(r.out.text, "\"code\": \"parent-silent\"") != NULL);
	(void)snprintf(who, sizeof(who), "\"pid\": %d,", (int)getpid());
	must(strstr(r.out.text, who) != NULL);
	host_close(&host);
}
END_TEST

/* A process that listens and is stopped. */
START_TEST(doctor__parent_stopped)
{
	struct runner r = { .done = 0 };
	struct host host;
	char who[32];
	int status;
	pid_t pid;

	NEED_TOOL();
	host_init(&host);
	offered_vsp = &echo_vsp;
	host.opts.attached = attached_one;
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		alarm(60);
		host_listen(&host);
		raise(SIGSTOP);
		_exit(0);
	}
	must_eq(waitpid(pid, &status, WUNTRACED), pid);
	must(WIFSTOPPED(status));
	(void)snprintf(r.command, sizeof(r.command), "%s doctor -s %s -t 0.2 2>&1", tool(),
		       host.path);
	(void)run_thread(&r);
	must_eq(kill(pid, SIGKILL), 0);
	must_eq(waitpid(pid, &status, 0), pid);
	unlink(host.path);
	must_eq(r.out.status, 1);
	(void)snprintf(who, sizeof(who), " (process %d)\n", (int)pid);
	if (!strstr(r.out.text, who) || !strstr(r.out.text, "its process is stopped"))
		ck_abort_msg("%s", r.out.text);
}
END_TEST

START_TEST(doctor__usage)
{
	static const char *const wrong[] = {
		"doctor",	    "doctor -s",  "doctor -s x y",    "doctor -s x -n 3",
		"doctor -s x -g 0", "stat",	  "stat -s x -n 0",   "stat -s x -g 1",
		"record",	    "record a b", "record -s x -i 1", "stat -s x -n x"
	};
	static struct runner r;
	uint32_t i;

	NEED_TOOL();
	unsetenv("VMBUS_SOCKET");
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vmbus_test_at("vmbusctl %s", wrong[i]);
		(void)snprintf(r.command, sizeof(r.command), "%s %s 2>&1", tool(), wrong[i]);
		(void)run_thread(&r);
		must_eq(r.out.status, 2);
		must(r.out.text[0] != 0);
	}
	(void)snprintf(r.command, sizeof(r.command), "%s doctor -s /tmp/none.sock 2>&1", tool());
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	must(strstr(r.out.text, "no parent listens there") != NULL);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "doctor", 60);

	tcase_add_test(tc, doctor__wrong_guid);
	tcase_add_test(tc, doctor__ring_refused);
	tcase_add_test(tc, doctor__open_failed);
	tcase_add_test(tc, doctor__child_stopped);
	tcase_add_test(tc, doctor__driver_bound_elsewhere);
	tcase_add_test(tc, doctor__driver_of_a_known_class_opens_nothing);
	tcase_add_test(tc, doctor__doorbell_of_the_child_lost);
	tcase_add_test(tc, doctor__knock_of_the_parent_lost);
	tcase_add_loop_test(tc, doctor__provider_hung, 0, 2);
	tcase_add_test(tc, doctor__device_paused);
	tcase_add_test(tc, doctor__device_busy);
	tcase_add_test(tc, doctor__device_busy_at_its_bound);
	tcase_add_test(tc, doctor__healthy);
	tcase_add_test(tc, doctor__no_contact);
	tcase_add_test(tc, doctor__close_unanswered);
	tcase_add_loop_test(tc, doctor__rings_of_a_machine_refused, 0, 2);
	tcase_add_test(tc, doctor__message_slot_taken);
	tcase_add_loop_test(tc, doctor__child_does_not_read, 0, 4);
	tcase_add_test(tc, doctor__signal_to_a_machine_lost);
	tcase_add_test(tc, doctor__channel_faulted);
	tcase_add_test(tc, doctor__parent_that_does_not_dispatch);
	tcase_add_test(tc, doctor__parent_stopped);
	tcase_add_test(tc, doctor__usage);
}

VMBUS_TEST_MAIN("diag.doctor", tests)
