/* SPDX-License-Identifier: MIT */
/*
 * Children that flood, block descriptors or write noise: what they take from the others is counted
 * in turns, not in time.  backends/shm/turn.c.
 */
#include "shm/local.h"

#include <vmbus/hypercall.h>

#define REQUESTS 2000u
#define TURN_BUDGET 128u

/* An honest child of this process that echoes; returns the dispatch calls that it took. */
struct honest {
	struct local local;
	struct guest_run run;
	struct job job;
};

static void honest_open(struct host *host, struct honest *honest)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = 8192,
				       .recv_bytes = 8192,
				       .requests_max = 32,
				       .completed = guest_completed };
	struct guest_run *const run = &honest->run;
	struct vmbus_vsc *vsc;
	int i;

	honest->job = (struct job){ .channels = 1, .requests = REQUESTS, .payload = 64 };
	memset(run, 0, sizeof(*run));
	run->job = &honest->job;
	guest_now = run;
	local_attach(host, &honest->local);
	run->attach = honest->local.attach;
	run->guest = vmbus_shm_guest(run->attach);
	must_eq(vmbus_guest_connect(run->guest), 0);
	for (i = 0; i < 1000 && vmbus_guest_state(run->guest) != VMBUS_GUEST_CONNECTED; i++) {
		must(vmbus_shm_attach_dispatch(run->attach, 64) >= 0);
		must(vmbus_shm_server_dispatch(host->server, TURN_BUDGET) >= 0);
	}
	vsc = vmbus_vsc_find(run->guest, &echo_class, 0);
	must(vsc != NULL);
	run->chan[0].vsc = vsc;
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	for (i = 0; i < 1000 && vmbus_vsc_state(vsc) != VMBUS_VSC_OPEN; i++) {
		must(vmbus_shm_attach_dispatch(run->attach, 64) >= 0);
		must(vmbus_shm_server_dispatch(host->server, TURN_BUDGET) >= 0);
	}
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_OPEN);
}

/* Send what goes, let the server have one dispatch, take the answers. */
static void honest_round(struct host *host, struct honest *honest)
{
	struct guest_run *const run = &honest->run;
	struct guest_chan *const chan = &run->chan[0];
	uint8_t buf[64];

	while (chan->sent < REQUESTS && chan->sent < chan->done + 16) {
		struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = buf };

		msg.len = guest_fill(buf, 0, chan->sent, run->job->payload);
		if (vmbus_vsc_request(chan->vsc, &msg, (void *)(uintptr_t)chan->sent) < 0)
			break;
		chan->sent++;
	}
	must(vmbus_shm_server_dispatch(host->server, TURN_BUDGET) >= 0);
	must(vmbus_shm_attach_dispatch(run->attach, 256) >= 0);
}

/* Every event flag, bell and mailbox of a child that means no good. */
static void flood(struct raw_child *child, uint32_t turn)
{
	uint8_t *const flags = raw_child_page(child, child->welcome.flags_page);
	uint8_t *const box = raw_child_page(child, child->welcome.mailbox);

	memset(flags, 0xFF, VMBUS_PAGE_BYTES);
	/* A call with the next number: posted messages of all sorts. */
	memcpy(box + 64, &turn, sizeof(turn));
	memcpy(box, &turn, sizeof(turn));
	raw_child_ring(child);
}

static uint32_t rounds_with(unsigned int flooders)
{
	struct raw_child bad[4];
	struct honest *const honest = calloc(1, sizeof(*honest));
	struct host host;
	uint32_t rounds, i;

	host_init(&host);
	host.opts.budget = 32;
	host_listen(&host);
	host.channels = 1;
	for (i = 0; i < flooders; i++)
		raw_child_attach(&host, &bad[i]);
	honest_open(&host, honest);
	for (rounds = 0; honest->run.done < REQUESTS; rounds++) {
		must(rounds < 100 * REQUESTS);
		for (i = 0; i < flooders; i++)
			flood(&bad[i], rounds + 1);
		honest_round(&host, honest);
	}
	must_eq(honest->run.wrong, 0);
	must_eq(host.detached, 0); /* to flood is no crime */
	vmbus_shm_detach(honest->local.attach);
	for (i = 0; i < flooders; i++)
		raw_child_leave(&bad[i]);
	host_until(&host, host.detached == flooders + 1);
	host_close(&host);
	free(honest);
	return rounds;
}

START_TEST(flood__the_others_keep_their_share)
{
	const uint32_t alone = rounds_with(0);
	const uint32_t one = rounds_with(1);
	const uint32_t three = rounds_with(3);

	vmbus_test_at("rounds: %u alone, %u with one, %u with three", alone, one, three);
	/* The budget of a dispatch is four turns: everybody has one of them, or two. */
	must(one <= 2 * alone);
	must(three <= 2 * alone);
	must(alone >= REQUESTS / 16);
}
END_TEST

/* A turn of the flooder costs no more than its budget, whatever it set. */
START_TEST(flood__a_turn_is_bounded)
{
	struct raw_child bad;
	struct host host;
	uint32_t i;

	host_init(&host);
	host.opts.budget = 16;
	host_listen(&host);
	raw_child_attach(&host, &bad);
	host_spin(&host);
	for (i = 1; i < 1000; i++) {
		flood(&bad, i);
		must(vmbus_shm_server_dispatch(host.server, 16) <= 16 + 1);
	}
	host_spin(&host); /* and ends */
	must_eq(vmbus_shm_server_dispatch(host.server, 16), 0);
	raw_child_leave(&bad);
	host_close(&host);
}
END_TEST

/* Every flag that was set is forwarded in the end, none twice. */
START_TEST(signals__each_once_in_turns)
{
	struct vmbus_bus_stats stats;
	struct raw_child child;
	struct host host;

	host_init(&host);
	host.opts.budget = 100;
	host_listen(&host);
	raw_child_attach(&host, &child);
	memset(raw_child_page(&child, 1) + 2 * 256, 0xFF, 256); /* those of SINT 2 */
	raw_child_ring(&child);
	host_spin(&host);
	vmbus_bus_stats(vmbus_shm_child_bus(host.child), &stats);
	must_eq(stats.signals + stats.signals_unknown, 2047); /* flag 0 is no channel's */
	raw_child_leave(&child);
	host_close(&host);
}
END_TEST

/*
 * O_NONBLOCK belongs to the open file, which the child has too: it makes the bells block, fills and
 * empties them.  A parent that read or wrote the child's descriptors would hang in this test.
 */
START_TEST(doorbells__a_child_cannot_make_the_parent_wait)
{
	const uint64_t most = UINT64_MAX - 1;
	struct raw_child child;
	struct host host;
	uint64_t count;
	int i;

	host_open(&host);
	host.channels = 4;
	raw_child_attach(&host, &child);
	must_eq(fcntl(child.bell, F_SETFL, O_RDWR), 0); /* now it blocks */
	for (i = 0; i < 10; i++) {
		memset(raw_child_page(&child, 1), 0xFF, VMBUS_PAGE_BYTES);
		raw_child_ring(&child);
		must_eq(read(child.bell, &count, sizeof(count)), sizeof(count)); /* stolen */
		host_spin(&host);
	}
	must_eq(write(child.bell, &most, sizeof(most)), sizeof(most)); /* full */
	host_spin(&host);
	raw_child_leave(&child);
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

START_TEST(mailbox__impossible_words_end_the_child)
{
	const uint32_t number = 77;
	struct raw_child child;
	struct host host;

	host_open(&host);
	raw_child_attach(&host, &child);
	memcpy(raw_child_page(&child, child.welcome.mailbox), &number, sizeof(number));
	raw_child_page(&child, 1)[2 * 256] = 1; /* flag 0 */
	raw_child_ring(&child);
	host_spin(&host);
	must_eq(host.ends[VMBUS_SHM_BROKE], 1);
	must(raw_is_closed(child.sock));
	raw_child_leave(&child);
	host_close(&host);
}
END_TEST

extern const struct vmbus_backend vmbus__shm_backend;
extern const struct vmbus_guest_backend vmbus__shm_guest_backend;

START_TEST(backend__refuses_numbers)
{
	const struct vmbus_backend *const be = &vmbus__shm_backend;
	uint8_t payload[240] = { 0 };
	struct raw_child child;
	struct host host;

	host_open(&host);
	raw_child_attach(&host, &child);
	must_eq(be->vps(host.child), 1);
	must(be->time(host.child) > 0);
	must_eq(be->post(host.child, 1, 2, 1, payload, 240), VMBUS_E_RANGE);
	must_eq(be->post(host.child, 0, 16, 1, payload, 240), VMBUS_E_RANGE);
	must_eq(be->post(host.child, 0, 2, 1, payload, 241), VMBUS_E_RANGE);
	must_eq(be->post(host.child, 0, 2, 1, payload, 240), 0);
	must(raw_child_hears(&child));
	must_eq(be->post(host.child, 0, 2, 1, payload, 240), VMBUS_E_AGAIN); /* not taken */
	must_eq(be->raise(host.child, 1, 2, 5), VMBUS_E_RANGE);
	must_eq(be->raise(host.child, 0, 16, 5), VMBUS_E_RANGE);
	must_eq(be->raise(host.child, 0, 2, 2048), VMBUS_E_RANGE);
	must_eq(be->raise(host.child, 0, 2, 5), 0);
	must(raw_child_hears(&child));
	must_eq(be->raise(host.child, 0, 2, 5), 0); /* still set: no second bell */
	must(!raw_child_hears(&child));
	must_eq(be->bind(host.child, 0x2000, 0), VMBUS_E_RANGE);
	must_eq(be->bind(host.child, 0x2800, 0), VMBUS_E_RANGE);
	must_eq(be->unbind(host.child, 0x2000), VMBUS_E_RANGE);
	must_eq(be->unbind(host.child, UINT32_MAX), VMBUS_E_RANGE);
	raw_child_leave(&child);
	host_close(&host);
}
END_TEST

/*
 * Descriptors on their way to it count against a limit that all children share, so it holds few: the next
 * BIND is refused.  UNBIND that finds no room is kept and sent when there is room.
 */
START_TEST(bind__a_child_that_does_not_read_its_socket)
{
	const struct vmbus_backend *const be = &vmbus__shm_backend;
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	uint32_t bound = 0, binds = 0, unbinds = 0, conn;
	struct raw_child child;
	struct host host;
	int err = 0, turns;

	host_open(&host);
	raw_child_attach(&host, &child);
	for (conn = 0x2001; conn < 0x2800 && !err; conn++) {
		err = be->bind(host.child, conn, child.bell);
		bound += !err;
	}
	must_eq(err, VMBUS_E_AGAIN);
	must(bound >= 2);
	must(bound <= 10);
	for (conn = 0x2001; conn < 0x2800; conn++)
		must_eq(be->unbind(host.child, conn), 0);
	must_eq(be->bind(host.child, 0x2001, child.bell), VMBUS_E_AGAIN);
	host_spin(&host);
	for (turns = 0; turns < 100 && unbinds < 0x7FF; turns++) {
		while (vmbus__shm_recv(child.sock, &record) > 0) {
			must_eq(vmbus__shm_decode(record.bytes, record.len, &msg), 0);
			binds += msg.type == VMBUS_SHM_BIND;
			unbinds += msg.type == VMBUS_SHM_UNBIND;
			must_eq(record.fd_count, msg.type == VMBUS_SHM_BIND);
			vmbus__shm_record_close(&record);
		}
		host_spin(&host);
	}
	must_eq(binds, bound);
	must_eq(unbinds, 0x7FF);
	must_eq(be->bind(host.child, 0x2001, child.bell), 0); /* there is room again */
	raw_child_leave(&child);
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

START_TEST(mailbox__the_child_is_woken_for_the_answer)
{
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	const struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE,
					    .conn_id = 99,
					    .type = 1 };
	struct vmbus_hc_regs regs = { .control = vmbus_hc_control_encode(&control) };
	uint8_t input[VMBUS_HC_INPUT_MAX];
	struct vmbus_hcbox_child box;
	struct raw_child child;
	struct host host;
	uint64_t result;
	int bytes;

	host_open(&host);
	raw_child_attach(&host, &child);
	must_eq(vmbus_hcbox_child_init(&box, raw_child_page(&child, child.welcome.mailbox)), 0);
	bytes = vmbus_hc_encode(&call, input, sizeof(input));
	must(bytes > 0);
	must_eq(vmbus_hcbox_put(&box, &regs, input, (size_t)bytes), 0);
	raw_child_page(&child, 1)[2 * 256] = 1; /* flag 0 */
	must(!raw_child_hears(&child));
	raw_child_ring(&child);
	host_spin(&host);
	must(raw_child_hears(&child));
	must(!raw_child_hears(&child));
	must_eq(vmbus_hcbox_result(&box, &result), 1);
	must((result & 0xFFFF) != VMBUS_HC_OK); /* there is no connection 99 */
	raw_child_leave(&child);
	host_close(&host);
}
END_TEST

/* Message slots that the child never empties, or says it emptied all the time. */
START_TEST(slots__a_child_that_never_takes_its_messages)
{
	struct honest *const honest = calloc(1, sizeof(*honest));
	struct host host;
	int i;

	host_open(&host);
	host.channels = 200;
	local_attach(&host, &honest->local);
	must_eq(vmbus_guest_connect(vmbus_shm_guest(honest->local.attach)), 0);
	for (i = 0; i < 20; i++) { /* contact and request offers, then it sleeps */
		must(vmbus_shm_attach_dispatch(honest->local.attach, 1) >= 0);
		host_spin(&host);
	}
	must_eq(vmbus_shm_server_dispatch(host.server, 64), 0); /* nothing goes round in circles */
	must_eq(host.detached, 0);
	vmbus_shm_detach(honest->local.attach);
	host_until(&host, host.detached == 1);
	host_close(&host);
	free(honest);
}
END_TEST

/* It rings and dies at once, and its device is slow to close: that is no reason to go in circles. */
START_TEST(ending__a_last_ring_is_forgotten)
{
	struct honest *const honest = calloc(1, sizeof(*honest));
	struct host host;

	host_init(&host);
	host.opts.attached = slow_attached;
	host_listen(&host);
	honest_open(&host, honest);
	host_spin(&host);
	must_eq(vmbus__shm_guest_backend.signal(honest->run.attach, 0x2001, 0), 0);
	vmbus_shm_detach(honest->run.attach);
	host_spin(&host);
	must(slow != NULL);
	must_eq(host.detached, 0);
	vmbus_chan_close_done(slow);
	host_spin(&host);
	must_eq(host.ends[VMBUS_SHM_LEFT], 1);
	host_close(&host);
	free(honest);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "flood", 5);

	tcase_add_test(tc, flood__the_others_keep_their_share);
	tcase_add_test(tc, flood__a_turn_is_bounded);
	tcase_add_test(tc, signals__each_once_in_turns);
	tcase_add_test(tc, doorbells__a_child_cannot_make_the_parent_wait);
	tcase_add_test(tc, mailbox__impossible_words_end_the_child);
	tcase_add_test(tc, backend__refuses_numbers);
	tcase_add_test(tc, bind__a_child_that_does_not_read_its_socket);
	tcase_add_test(tc, mailbox__the_child_is_woken_for_the_answer);
	tcase_add_test(tc, ending__a_last_ring_is_forgotten);
	tcase_add_test(tc, slots__a_child_that_never_takes_its_messages);
}

VMBUS_TEST_MAIN("shm.flood", tests)
