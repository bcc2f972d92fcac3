/* SPDX-License-Identifier: MIT */
/*
 * Another process that raises a guest's event flags by itself, over a KVM of our own: where it is
 * told to do so, that it is told of every change, and that setting the flag and writing the
 * descriptor is all that is needed.  The loop variable _i is the way: 0 user space, 1 the kernel's.
 */
#include "kvm/part.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

#define NONE UINT64_MAX /* no wake-up is possible */

struct dev {
	struct vmbus_chan *chan;
	uint32_t opens, closes, modified;
};

static struct part p;
static struct dev dev;

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;

	d->chan = chan;
	d->opens++;
	return 0;
}

static int dev_close(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static void dev_modified(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->modified++;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "elsewhere",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 6),
	.flags = VMBUS_VSP_FOREIGN,
	.open = dev_open,
	.close = dev_close,
	.modified = dev_modified,
};

static uint32_t child_packets, child_opened;

static void got_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)vsc;
	(void)pkt;
	child_packets += n;
}

static void got_opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	must_eq(err, 0);
	child_opened++;
}

/* The guest has opened the channel, on VP 0. */
static void begin(bool kernel)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
					     .packets = got_packets,
					     .opened = got_opened,
					     .send_bytes = 16384,
					     .recv_bytes = 16384 };

	memset(&dev, 0, sizeof(dev));
	child_packets = child_opened = 0;
	part_begin(&p, kernel);
	part_enable(&p);
	must_eq(vmbus_bus_offer(p.bus, &vsp, &dev, NULL, &dev.chan), 0);
	part_guest(&p);
	part_connect(&p);
	part_settle(&p);
	must(p.vsc != NULL);
	must_eq(vmbus_vsc_open(p.vsc, &opts), 0);
	part_settle(&p);
	must_eq(child_opened, 1);
	must_eq(dev.opens, 1);
	(void)fake_interrupts(0);
	dev.modified = 0;
}

/* Where the flags are now; NONE: there is no way. */
static uint64_t flags_gpa(void)
{
	struct vmbus_wake wake;
	const int err = vmbus_chan_wake(dev.chan, &wake);

	if (err) {
		must_eq(err, VMBUS_E_NOTSUP);
		return NONE;
	}
	must_eq(wake.fd, fake.wake_fd[32]);
	must(wake.fd > 0 && wake.fd != fake.event_fd[32]);
	return wake.gpa;
}

static uint64_t usual_gpa(void)
{
	return part_gpa(&p, p.siefp) + 2 * 256;
}

/* What another process does: all that struct vmbus_wake says. */
static void wake_up(void)
{
	const uint64_t one = 1;
	struct vmbus_chan_rings rings;
	struct vmbus_wake wake;
	_Atomic(uint8_t) *flags;
	uint8_t bit;

	must_eq(vmbus_chan_rings(dev.chan, &rings), 0);
	must_eq(vmbus_chan_wake(dev.chan, &wake), 0);
	flags = (_Atomic(uint8_t) *)(void *)((uint8_t *)p.mem.host + wake.gpa);
	bit = (uint8_t)(1u << rings.event_flag % 8);
	if (!(atomic_fetch_or_explicit(&flags[rings.event_flag / 8], bit, memory_order_release) &
	      bit))
		must(write(wake.fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

/* A change, and what it makes of the way. */
static void changed(uint64_t gpa)
{
	const uint32_t before = dev.modified;

	part_dispatch(&p);
	must(dev.modified > before);
	must_eq(flags_gpa(), gpa);
}

static void part_done(void)
{
	part_end(&p);
	must_eq(dev.closes, 1);
}

START_TEST(kvm_wake__sets_a_flag_that_the_guest_sees)
{
	struct vmbus_chan_rings rings;
	uint64_t word;

	begin(_i);
	must_eq(flags_gpa(), usual_gpa());
	must_eq(vmbus_chan_rings(dev.chan, &rings), 0);
	wake_up();
	wake_up(); /* it is set already: one interrupt */
	must_eq(fake_interrupts(0), 1);
	word = vmbus_synic_take_flags(p.siefp, 2, rings.event_flag / 64);
	must_eq(word, (uint64_t)1 << rings.event_flag % 64);
	wake_up();
	must_eq(fake_interrupts(0), 1);
	/* The bus's own way and this one see each other's flags. */
	vmbus_chan_signal(dev.chan);
	must_eq(fake_interrupts(0), 0);
	(void)vmbus_synic_take_flags(p.siefp, 2, rings.event_flag / 64);
	vmbus_chan_signal(dev.chan);
	wake_up();
	must_eq(fake_interrupts(0), 1);
	part_done();
}
END_TEST

START_TEST(kvm_wake__follows_its_page)
{
	uint8_t *other;

	begin(_i);
	other = child_alloc_shared(&p.mem, 1);
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, part_gpa(&p, other) | 1));
	changed(part_gpa(&p, other) + 2 * 256);
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, 0));
	changed(NONE);
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, ((uint64_t)PART_PAGES + 9) * 4096 | 1));
	changed(NONE); /* it is no memory */
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, part_gpa(&p, p.siefp) | 1));
	changed(usual_gpa());
	must(!fake_wrmsr(p.kvm, 0, 0x40000080, 0));
	changed(NONE);
	must(!fake_wrmsr(p.kvm, 0, 0x40000080, 1));
	changed(usual_gpa());
	part_done();
}
END_TEST

/* In the user-space way we know what the guest makes of its SINT; else KVM does. */
START_TEST(kvm_wake__not_while_the_sint_is_masked)
{
	static const uint64_t asleep[] = { 1u << 16 | PART_VECTOR, 1u << 18 | PART_VECTOR };
	size_t i;

	begin(false);
	for (i = 0; i < 2; i++) {
		must(!fake_wrmsr(p.kvm, 0, 0x40000092, asleep[i]));
		changed(NONE);
		must(!fake_wrmsr(p.kvm, 0, 0x40000092, PART_VECTOR + i));
		changed(usual_gpa());
	}
	must(!fake_wrmsr(p.kvm, 0, 0x40000092, 1u << 17 | PART_VECTOR)); /* auto-EOI */
	changed(usual_gpa());
	must_eq(fake.routes[fake.route_count - 1].u.msi.data, PART_VECTOR);
	must_eq(fake.routes[fake.route_count - 1].gsi, 32);
	wake_up();
	must_eq(fake_interrupts(0), 1);
	part_done();
}
END_TEST

/* The process may be late: a wake-up after the guest has masked its SINT changes nothing else. */
START_TEST(kvm_wake__that_comes_after_a_change)
{
	const uint64_t one = 1;
	struct vmbus_chan_rings rings;
	struct vmbus_wake wake;

	begin(_i);
	must_eq(vmbus_chan_rings(dev.chan, &rings), 0);
	must_eq(vmbus_chan_wake(dev.chan, &wake), 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000092, 1u << 16 | PART_VECTOR));
	must(write(wake.fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	((uint8_t *)p.mem.host)[wake.gpa + rings.event_flag / 8] |=
		(uint8_t)(1u << rings.event_flag % 8);
	must(!fake_wrmsr(p.kvm, 0, 0x40000092, PART_VECTOR));
	/* The guest looks after it has unmasked, as it must. */
	must(vmbus_synic_take_flags(p.siefp, 2, rings.event_flag / 64) != 0);
	part_done();
}
END_TEST

START_TEST(kvm_wake__ends_with_the_vcpu)
{
	begin(_i);
	must(flags_gpa() != NONE);
	must_eq(vmbus_kvm_remove_vcpu(p.kvm, 0), 0);
	changed(NONE);
	must_eq(part_add(&p, 0), 0);
	changed(NONE); /* its registers are new */
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, part_gpa(&p, p.simp) | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, part_gpa(&p, p.siefp) | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000092, PART_VECTOR));
	must(!fake_wrmsr(p.kvm, 0, 0x40000080, 1));
	changed(usual_gpa());
	part_done();
}
END_TEST

START_TEST(kvm_wake__ends_with_its_memory)
{
	struct vmbus_region more = {
		.gpa = 1u << 30, .bytes = 4 * CHILD_PAGE, .fd = -1, .access = VMBUS_READ_WRITE
	};

	begin(_i);
	more.host =
		mmap(NULL, more.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(more.host != MAP_FAILED);
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, more.gpa | 1));
	changed(NONE);
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
	changed(more.gpa + 2 * 256);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &more), 0);
	changed(NONE);
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, part_gpa(&p, p.siefp) | 1));
	changed(usual_gpa());
	part_done();
	munmap(more.host, more.bytes);
}
END_TEST

START_TEST(kvm_wake__after_reset_and_restore)
{
	uint8_t *state;
	int bytes;

	begin(_i);
	bytes = vmbus_kvm_save(p.kvm, NULL, 0);
	must(bytes > 0);
	state = malloc((size_t)bytes);
	must_eq(vmbus_kvm_save(p.kvm, state, (size_t)bytes), bytes);
	must(!fake_wrmsr(p.kvm, 0, 0x40000080, 0));
	changed(NONE);
	must_eq(vmbus_kvm_restore(p.kvm, state, (size_t)bytes), 0);
	changed(usual_gpa());
	free(state);
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	part_dispatch(&p);
	must_eq(dev.closes, 1); /* the child is gone */
	part_end(&p);
}
END_TEST

START_TEST(kvm_wake__of_other_vps_and_sints)
{
	extern const struct vmbus_backend vmbus__kvm_backend;
	const struct vmbus_backend *be = &vmbus__kvm_backend;
	struct vmbus_wake wake;

	begin(_i);
	must_eq(be->wake(p.kvm, FAKE_VPS, 2, &wake), VMBUS_E_RANGE);
	must_eq(be->wake(p.kvm, 1, 2, &wake), VMBUS_E_NOTSUP); /* not there */
	must_eq(be->wake(p.kvm, 0, 3, &wake), VMBUS_E_NOTSUP);
	fake.fail_request = KVM_IRQFD;
	fake.fail_in = 1;
	must_eq(be->wake(p.kvm, 0, 2, &wake), VMBUS_E_NOTSUP);
	must_eq(be->wake(p.kvm, 0, 2, &wake), 0);
	must_eq(wake.fd, fake.wake_fd[32]);
	must_eq(be->wake(p.kvm, 0, 2, &wake), 0); /* the same again */
	must_eq(wake.fd, fake.wake_fd[32]);
	part_done();
}
END_TEST

/* The child's signals, bound to a descriptor of another process, come to nobody else. */
START_TEST(kvm_bind__for_another_process)
{
	const int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
	struct vmbus_chan_rings rings;

	begin(_i);
	must_eq(vmbus_chan_rings(dev.chan, &rings), 0);
	must_eq(vmbus_chan_bind(dev.chan, fd), 0);
	part_dispatch(&p);
	(void)fake_drain(fd);
	must_eq(part_signal(&p, rings.conn_id, 0), 0);
	must_eq(fake_drain(fd), 1);
	must_eq(vmbus_chan_bind(dev.chan, other), 0);
	part_dispatch(&p);
	(void)fake_drain(other);
	must_eq(part_signal(&p, rings.conn_id, 0), 0);
	must_eq(fake_drain(other), 1);
	must_eq(fake_drain(fd), 0);
	must_eq(vmbus_chan_bind(dev.chan, -1), 0);
	must_eq(part_signal(&p, rings.conn_id, 0), 0); /* comes to the bus, and is dropped */
	part_dispatch(&p);
	must_eq(fake_drain(other) + fake_drain(fd), 0);
	must_eq(vmbus_chan_bind(dev.chan, fd), 0);
	part_done(); /* where nothing is bound any more */
	close(fd);
	close(other);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "wake", 20);

	tcase_add_loop_test(tc, kvm_wake__sets_a_flag_that_the_guest_sees, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__follows_its_page, 0, 2);
	tcase_add_test(tc, kvm_wake__not_while_the_sint_is_masked);
	tcase_add_loop_test(tc, kvm_wake__that_comes_after_a_change, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__ends_with_the_vcpu, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__ends_with_its_memory, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__after_reset_and_restore, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__of_other_vps_and_sints, 0, 2);
	tcase_add_loop_test(tc, kvm_bind__for_another_process, 0, 2);
}

VMBUS_TEST_MAIN("kvm.wake", tests)
