/* SPDX-License-Identifier: MIT */
/*
 * What a provider leaves to the one after it: journals as they are, however it ends, and whatever
 * the parent has heard of its end; and what a parent must have heard before the child.
 */
#include "play.h"

static struct vmbus_chan *served;

static int open_it(struct vmbus_chan *chan, void *ctx)
{
	served = chan;
	return on_open(chan, ctx);
}

/* It keeps all requests. */
static void keep(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	packets += n;
	for (i = 0; i < n; i++)
		must_eq(vmbus_chan_pend(chan, &pkt[i]), 0);
}

struct kept {
	struct play p;
	int memfd; /* journal */
	size_t bytes;
	uint64_t *words;
};

static void kept_attach(struct kept *k)
{
	play_prepare(&k->p);
	k->p.vsp.flags = VMBUS_VSP_RESUMABLE;
	k->p.vsp.open = open_it;
	k->p.vsp.packets = keep;
	k->bytes = vmbus_journal_bytes(&k->p.vsp);
	k->memfd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must_eq(ftruncate(k->memfd, (off_t)k->bytes), 0);
	must_eq(fcntl(k->memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	k->words = mmap(NULL, k->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->memfd, 0);
	must(k->words != MAP_FAILED);
	must_eq(attach(&k->p, NULL), 0);
	bring_bus(&k->p);
}

static struct vmbus__pv_msg kept_open(struct kept *k, uint32_t flags)
{
	const struct vmbus__pv_msg list = list_msg();
	const int fds[] = { k->p.listener, k->memfd, k->p.wake };
	struct vmbus__pv_msg msg = open_msg();

	msg.flags |= VMBUS_PV_JOURNAL | flags;
	script_send(k->p.sock, &list);
	must_eq(vmbus__pv_send(k->p.sock, &msg, fds, 3), 0);
	return expect(&k->p, VMBUS_PV_OPENED);
}

static void put(struct play *p, uint64_t id)
{
	const struct vmbus_msg msg = { .id = id,
				       .data = &id,
				       .len = sizeof(id),
				       .type = VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };

	must_eq(vmbus_ring_tx_put(&p->tx, &msg, 1), 1);
	must_eq(run(p), 0);
}

static void kept_fini(struct kept *k)
{
	play_fini(&k->p);
	munmap(k->words, k->bytes);
	close(k->memfd);
}

/* The number of the commit that counts. */
static uint64_t active(const struct kept *k)
{
	return k->words[4];
}

static void must_end(struct play *p, const struct vmbus__pv_msg *msg)
{
	script_send(p->sock, msg);
	must_eq(run(p), VMBUS_E_PEER);
}

/* Ends of a provider, all but one that the parent asked for. */
static void end_by(struct play *p, uint32_t how)
{
	const struct vmbus__pv_msg bye = { .type = VMBUS_SHM_BYE,
					   .code = VMBUS_SHM_CODE_KICKED,
					   .text = "you hang" };
	const struct vmbus__pv_msg wrong = { .type = VMBUS_PV_PROVIDE };
	const struct vmbus__pv_msg yield = { .type = VMBUS_PV_YIELD };

	switch (how) {
	case 0:
		must_end(p, &bye);
		break;
	case 1:
		must_end(p, &wrong);
		break;
	case 2:
		must_end(p, &yield);
		break;
	case 3:
		close(p->sock);
		p->sock = -1;
		must_eq(run(p), VMBUS_E_PEER);
		break;
	default:
		vmbus_provider_detach(p->provider);
		p->provider = NULL;
		break;
	}
}

START_TEST(provider__leaves_its_journals_however_it_ends)
{
	uint32_t how;

	for (how = 0; how < 5; how++) {
		struct vmbus__pv_msg msg;
		struct kept k, next;
		uint64_t was;

		vmbus_test_at("end %u", how);
		kept_attach(&k);
		must_eq(kept_open(&k, 0).err, 0);
		put(&k.p, 7);
		must_eq(packets, 1);
		was = active(&k);
		must(was > 0);
		end_by(&k.p, how);
		must_eq(closes, 1);
		must_eq(active(&k), was);
		/* The next one goes on with it: what was kept is kept, and comes again. */
		kept_attach(&next);
		memcpy(next.words, k.words, k.bytes);
		memcpy(next.p.mem, k.p.mem, PAGES * PAGE);
		msg = kept_open(&next, VMBUS_PV_RESUME);
		must_eq(msg.err, 0);
		must_eq(run(&next.p), 0);
		must_eq(packets, 1);
		must(active(&next) > 0);
		kept_fini(&next);
		kept_fini(&k);
	}
}
END_TEST

/* Words that wait for room are lost with the connection: no BYE goes before them. */
START_TEST(provider_detach__says_bye)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct kept k;

	kept_attach(&k);
	must_eq(kept_open(&k, 0).err, 0);
	vmbus_provider_detach(k.p.provider);
	k.p.provider = NULL;
	must(script_take(k.p.sock, &record, &msg));
	must_eq(msg.type, VMBUS_SHM_BYE);
	kept_fini(&k);
}
END_TEST

/* A close, and a device that ended the channel, do say so; and that is nothing to go on from. */
START_TEST(provider_dispatch__resumes_no_closed_channel)
{
	const struct vmbus__pv_msg shut = { .type = VMBUS_PV_CLOSE, .bus = 1, .open = 3 };
	uint32_t how;

	for (how = 0; how < 4; how++) {
		struct kept k;

		vmbus_test_at("case %u", how);
		kept_attach(&k);
		if (how == 1 || how == 2)
			must_eq(kept_open(&k, 0).err, 0);
		if (how == 1) {
			script_send(k.p.sock, &shut);
			(void)expect(&k.p, VMBUS_PV_CLOSED);
		}
		if (how == 2) {
			vmbus_chan_fail(served, "no more");
			(void)expect(&k.p, VMBUS_PV_FAULT);
		}
		if (how == 3)
			memset(k.words, 0x5a, k.bytes);
		else
			must_eq(active(&k), 0);
		if (how == 1 || how == 2) { /* another provider, the same journal */
			struct kept next;

			kept_attach(&next);
			memcpy(next.words, k.words, k.bytes);
			must(kept_open(&next, VMBUS_PV_RESUME).err != 0);
			must_eq(opens, 0);
			must(memcmp(next.words, k.words, k.bytes) == 0);
			kept_fini(&next);
		} else {
			must(kept_open(&k, VMBUS_PV_RESUME).err != 0);
			must_eq(opens, 0);
		}
		kept_fini(&k);
	}
}
END_TEST

/* YIELD comes when the device has ended a channel and nobody has heard of it. */
START_TEST(provider_dispatch__tells_what_is_broken_before_it_yields)
{
	const struct vmbus__pv_msg yield = { .type = VMBUS_PV_YIELD };
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	struct kept k;

	kept_attach(&k);
	must_eq(kept_open(&k, 0).err, 0);
	script_send(k.p.sock, &yield);
	vmbus_chan_fail(served, "no more");
	must_eq(run(&k.p), VMBUS_E_PEER);
	must(script_take(k.p.sock, &record, &msg));
	must_eq(msg.type, VMBUS_PV_FAULT);
	must_eq(msg.open, 3);
	must(script_take(k.p.sock, &record, &msg));
	must_eq(msg.type, VMBUS_PV_YIELDED);
	must_eq(active(&k), 0);
	must_eq(closes, 1);
	kept_fini(&k);
}
END_TEST

/* ---- sub-channels ---- */

static int parent_sock;

static void offer_two(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	uint32_t i;

	packets += n;
	must_eq(vmbus_chan_offer_subchannels(chan, 2), 0);
	/* The parent has read it while nothing of this callback is published. */
	for (i = 1; i <= 2; i++) {
		must(script_take(parent_sock, &record, &msg));
		must_eq(msg.type, VMBUS_PV_SUBS);
		must_eq(msg.count, packets * 2 - 2 + i);
	}
	must_eq(vmbus_chan_complete(chan, pkt[0].id, pkt[0].payload, pkt[0].len), 0);
}

START_TEST(provider_dispatch__tells_of_sub_channels_before_it_publishes)
{
	struct play p;

	play_prepare(&p);
	p.vsp.packets = offer_two;
	must_eq(attach(&p, NULL), 0);
	parent_sock = p.sock;
	bring_bus(&p);
	open_chan(&p);
	request(&p, 1);
	request(&p, 2);
	must_eq(packets, 2);
	play_fini(&p);
}
END_TEST

/* ---- words that cross ---- */

START_TEST(provider_dispatch__ignores_what_is_about_a_partition_that_went)
{
	static const uint32_t types[] = { VMBUS_PV_GPADL, VMBUS_PV_GPADL_GONE, VMBUS_PV_OPEN,
					  VMBUS_PV_CLOSE, VMBUS_PV_MODIFY,     VMBUS_PV_SIGNAL };
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_BUS_GONE, .bus = 1 };
	struct play p;
	uint32_t i;
	int fds;

	play_init(&p);
	bring_bus(&p);
	open_chan(&p);
	script_send(p.sock, &msg);
	must_eq(run(&p), 0);
	must_eq(closes, 1);
	fds = vmbus_test_count_fds();
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		vmbus_test_at("type %u", types[i]);
		msg = types[i] == VMBUS_PV_GPADL ? list_msg() : open_msg();
		msg.type = types[i];
		if (types[i] == VMBUS_PV_OPEN)
			send_open(&p, msg);
		else
			script_send(p.sock, &msg);
		must_eq(run(&p), 0);
		must_eq(vmbus_test_count_fds(), fds);
	}
	msg.bus = 2;
	script_send(p.sock, &msg);
	must_eq(run(&p), VMBUS_E_PEER);
	play_fini(&p);
}
END_TEST

/* The parent does not read for longer than its socket and our queue hold. */
START_TEST(provider_dispatch__keeps_one_signal_of_a_channel)
{
	const struct vmbus__pv_msg list = list_msg();
	struct vmbus__pv_msg msg = open_msg();
	struct vmbus__shm_record record;
	uint32_t i, n = 0;
	struct play p;

	play_init(&p);
	bring_bus(&p);
	msg.flags = VMBUS_PV_LISTENER;
	script_send(p.sock, &list);
	send_open(&p, msg);
	(void)expect(&p, VMBUS_PV_OPENED);
	for (i = 0; i < 20000; i++)
		request(&p, i);
	while (script_take(p.sock, &record, &msg)) {
		must_eq(msg.type, VMBUS_PV_SIGNAL);
		n++;
	}
	must(n > 0 && n < 8192);
	/* The one that waited, now that there is room, and the one that was due behind it. */
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	must_eq(script_take(p.sock, &record, &msg), false);
	request(&p, i);
	must_eq(expect(&p, VMBUS_PV_SIGNAL).open, 3);
	play_fini(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "keep", 20);

	tcase_add_test(tc, provider__leaves_its_journals_however_it_ends);
	tcase_add_test(tc, provider_detach__says_bye);
	tcase_add_test(tc, provider_dispatch__resumes_no_closed_channel);
	tcase_add_test(tc, provider_dispatch__tells_what_is_broken_before_it_yields);
	tcase_add_test(tc, provider_dispatch__tells_of_sub_channels_before_it_publishes);
	tcase_add_test(tc, provider_dispatch__ignores_what_is_about_a_partition_that_went);
	tcase_add_test(tc, provider_dispatch__keeps_one_signal_of_a_channel);
}
VMBUS_TEST_MAIN("provider.keep", tests)
