/* SPDX-License-Identifier: MIT */
/*
 * A lying parent and a lying child: host machine and client machine with somebody between them who
 * changes, repeats, drops, reorders and invents messages, in one direction or in both.
 *
 * After each move the invariants of both machines hold.  A machine believes nothing that would make
 * it break its own rules towards its caller: devices are asked in order, and each call of the client's
 * is answered at most once.  When the liar is gone and the connection was ended, everything was
 * answered, nothing is leaked, and the next connection works.
 */
#include "channel/pair_use.h"

enum lies {
	TO_CHILD = 1,
	TO_PARENT = 2
};

static struct pair_msg *any_msg(struct pair *p, struct pair_queue *q)
{
	return q->count ? &q->msg[(q->first + pair_random(p, q->count)) % PAIR_QUEUE] : NULL;
}

/* Numbers that a message may well have in the place. */
static uint32_t likely(struct pair *p)
{
	static const uint32_t edges[] = { 0, 1, 2, 3, 4, 255, 2047, 2048, 0x8000FFFF, UINT32_MAX };
	struct vmbus_cli *const cli = p->c.cli;

	switch (pair_random(p, 4)) {
	case 0:
		return edges[pair_random(p, 10)];
	case 1:
		return cli->lists[pair_random(p, cli->opts.gpadls_max)].id;
	case 2:
		return cli->next_open_id - pair_random(p, 2);
	default:
		return 1 + pair_random(p, 4);
	}
}

static void change(struct pair *p, struct pair_queue *q)
{
	struct pair_msg *const m = any_msg(p, q);
	uint32_t at;

	if (!m)
		return;
	switch (m->len < 4 ? 3 : pair_random(p, 4)) {
	case 0: /* a byte */
		m->bytes[pair_random(p, m->len)] ^= (uint8_t)(1u << pair_random(p, 8));
		break;
	case 1: /* a word */
		at = pair_random(p, m->len / 4) * 4;
		if (at + 4 <= m->len) {
			const uint32_t v = likely(p);

			memcpy(m->bytes + at, &v, 4);
		}
		break;
	case 2: /* the type */
		m->bytes[0] = (uint8_t)pair_random(p, VMBUS_CTL_TYPES + 2);
		break;
	default: /* the length */
		m->len = pair_random(p, VMBUS_CTL_BYTES_MAX + 1);
		break;
	}
}

static void repeat(struct pair *p, struct pair_queue *q)
{
	const struct pair_msg *const m = any_msg(p, q);
	struct pair_msg copy;

	if (!m)
		return;
	copy = *m;
	(void)pair_put(q, copy.conn_id, copy.bytes, copy.len);
}

static void reorder(struct pair *p, struct pair_queue *q)
{
	struct pair_msg *const a = any_msg(p, q), *const b = any_msg(p, q);
	struct pair_msg copy;

	if (!a)
		return;
	copy = *a;
	*a = *b;
	*b = copy;
}

static void invent(struct pair *p, struct pair_queue *q)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX] = { 0 };
	uint32_t at;

	bytes[0] = (uint8_t)pair_random(p, VMBUS_CTL_TYPES + 1);
	for (at = 8; at + 4 <= sizeof(bytes); at += 4) {
		const uint32_t v = likely(p);

		if (pair_random(p, 2))
			memcpy(bytes + at, &v, 4);
	}
	(void)pair_put(q, pair_random(p, 2) ? VMBUS_CONN_MESSAGE : VMBUS_CONN_CONTACT, bytes,
		       pair_random(p, 8) ? sizeof(bytes) : pair_random(p, sizeof(bytes)));
}

static void lie(struct pair *p, struct pair_queue *q)
{
	switch (pair_random(p, 5)) {
	case 0:
		change(p, q);
		break;
	case 1:
		repeat(p, q);
		break;
	case 2:
		reorder(p, q);
		break;
	case 3:
		invent(p, q);
		break;
	default:
		if (q->count)
			pair_drop(q);
		break;
	}
}

static void run_with_liar(struct pair *p, uint32_t lies, uint32_t moves)
{
	uint32_t i;

	for (i = 0; i < moves; i++) {
		const uint32_t what = pair_random(p, 100);

		if (what < 10)
			lie(p, lies == TO_CHILD	   ? &p->down
			       : lies == TO_PARENT ? &p->up
			       : what % 2	   ? &p->up
						   : &p->down);
		else if (what < 30)
			use(p);
		else if (what < 32)
			manage(p);
		else
			pair_move(p);
		must_hold(p);
		must(p->ledger.opened <= p->ledger.opens);
		must(p->ledger.ready <= p->ledger.gpadls);
		must(p->ledger.gone <= p->ledger.teardowns);
		must(p->ledger.modified <= p->ledger.modifies);
		must(p->ledger.tl_refused <= p->ledger.tl_asked);
		must(p->ledger.paused <= p->ledger.pauses);
	}
}

static const uint32_t versions[] = { VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_4_1,
				     VMBUS_PROTO_2_4 };

START_TEST(channel_liar__between_the_machines)
{
	const uint32_t lies = 1 + (uint32_t)_i % 3, version = versions[_i / 3 % 4];
	const uint32_t rounds = vmbus_test_full() ? 60 : 6;
	uint32_t round;

	for (round = 0; round < rounds; round++) {
		const uint64_t seed = (uint64_t)_i * 1000 + round + 77;
		struct pair *const p = new_pair(version, VMBUS_PROTO_6_0, 4, seed);

		vmbus_test_at("lies %u seed %u", lies, (unsigned int)seed);
		p->refuse = 6;
		p->liar = true;
		(void)pair_offer(p, 1, 0);
		(void)pair_offer(p, 2, 0);
		pair_connect(p);
		run_with_liar(p, lies, 3000);
		p->liar = false;
		vmbus_test_at("lies %u seed %u, the end", lies, (unsigned int)seed);
		end_somehow(p, round % 2); /* the child's, or the parent's */
		must_work(p, (enum pair_order)(round % PAIR_ORDERS));
		pair_free(p);
	}
}
END_TEST

/* A child that is only a liar: whatever it posts, the host keeps its rules and the device its order. */
START_TEST(channel_liar__child_of_lies)
{
	struct pair *const p = new_pair(versions[_i], VMBUS_PROTO_6_0, 4, (uint64_t)_i + 5);
	uint32_t i;

	(void)pair_offer(p, 1, 0);
	(void)pair_offer(p, 2, 0);
	pair_connect(p);
	pair_settle(p, PAIR_CHILD_FIRST);
	for (i = 0; i < 20000; i++) {
		invent(p, &p->up);
		(void)pair_deliver_up(p);
		if (!pair_random(p, 4))
			(void)pair_parent(p);
		if (!pair_random(p, 4))
			(void)pair_device(p, pair_random(p, 100));
		if (!pair_random(p, 8) && p->down.count)
			pair_drop(&p->down);
		must_hold(p);
	}
	kill_child(p);
	must_work(p, PAIR_CHILD_FIRST);
	pair_free(p);
}
END_TEST

/* A parent that is only a liar: no call of the client's caller hangs longer than the connection. */
START_TEST(channel_liar__parent_of_lies)
{
	struct pair *const p = new_pair(versions[_i], VMBUS_PROTO_6_0, 4, (uint64_t)_i + 9);
	uint32_t i;

	p->liar = true;
	pair_connect(p);
	for (i = 0; i < 20000; i++) {
		invent(p, &p->down);
		(void)pair_deliver_down(p);
		(void)pair_guest(p);
		if (!pair_random(p, 3))
			use(p);
		p->up.count = 0;
		must_hold(p);
	}
	p->liar = false;
	kill_parent(p);
	must_work(p, PAIR_PARENT_FIRST);
	pair_free(p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "liar", 30);

	tcase_add_loop_test(tc, channel_liar__between_the_machines, 0, 12);
	tcase_add_loop_test(tc, channel_liar__child_of_lies, 0, 4);
	tcase_add_loop_test(tc, channel_liar__parent_of_lies, 0, 4);
}

VMBUS_TEST_MAIN("hostile.channel_liar", tests)
