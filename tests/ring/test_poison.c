/* SPDX-License-Identifier: MIT */
/*
 * A scripted session of both ends in which one word of the control page is overwritten with one
 * value before one step: every word, every boundary value, every step, every window, and the
 * many-thread sender as well.  Only clean results are allowed:
 *
 *  - an end answers as in a sound session, or says PEER once and FAULT from then on, with the word
 *    and the value that it saw in its fault;
 *  - the word of one side never breaks the end of that same side, which does not read it back;
 *  - mask, pending size and features break nothing and change no byte of what is received;
 *  - an index that cannot be is either overwritten unseen or a fault, never taken;
 *  - private cursors stay within the ring, and signals are at most one a publication.
 *
 * The window and the receiver's buffer lie between guard pages.
 */
#include "ringbox.h"

#include "ring/index.h"

#define SIZE 8192u
#define START 7600u /* the session wraps */

static const enum ringbox_word words[] = { RINGBOX_IN, RINGBOX_OUT, RINGBOX_MASK, RINGBOX_PENDING,
					   RINGBOX_FEATURES };
#define WORDS (sizeof(words) / sizeof(words[0]))

static const uint32_t values[] = { 0,
				   1,
				   7,
				   8,
				   16,
				   24,
				   2048,
				   2052,
				   4096,
				   START - 8,
				   START,
				   START + 8,
				   SIZE - 24,
				   SIZE - 16,
				   SIZE - 9,
				   SIZE - 8,
				   SIZE - 1,
				   SIZE,
				   SIZE + 1,
				   SIZE + 8,
				   2 * SIZE,
				   0x7fffffffu,
				   0x80000000u,
				   0x80000008u,
				   0xfffff000u,
				   UINT32_MAX - 7,
				   UINT32_MAX - 1,
				   UINT32_MAX };
#define VALUES (sizeof(values) / sizeof(values[0]))

static struct ringbox *rb;
static bool with_mtx;

/* What was poisoned in this session, and how the ends took it. */
static enum ringbox_word word;
static uint32_t value, poke_at;
static bool poked;
static bool tx_broken, rx_broken;
static uint32_t sent, received, publications;
static unsigned int faults_seen, sound_sessions;

static bool possible(uint32_t index)
{
	return index < SIZE && index % 8 == 0;
}

/* An answer of an end: whether it may be, and whether the end is broken from now on. */
static bool judge(int answer, bool *broken, enum ringbox_word peers,
		  const struct vmbus_fault *fault)
{
	if (*broken) {
		must_eq(answer, VMBUS_E_FAULT);
		return false;
	}
	if (answer == VMBUS_E_PEER) {
		*broken = true;
		faults_seen++;
		must(poked);
		must(word == RINGBOX_IN || word == RINGBOX_OUT);
		must(word == peers || possible(value)); /* a lie that can be may mislead both */
		must(fault->field != VMBUS_FAULT_NONE);
		if (fault->field != VMBUS_FAULT_NONE && !possible(value)) {
			must_eq(fault->value, value);
			must_eq(fault->field,
				value >= SIZE
					? (peers == RINGBOX_IN ? VMBUS_FAULT_WRITE_INDEX
							       : VMBUS_FAULT_READ_INDEX)
					: (peers == RINGBOX_IN ? VMBUS_FAULT_WRITE_INDEX_ALIGN
							       : VMBUS_FAULT_READ_INDEX_ALIGN));
			must_eq(fault->limit, value >= SIZE ? SIZE - 8 : 8);
		}
		return false;
	}
	must(answer >= 0 || answer == VMBUS_E_FULL);
	return answer >= 0;
}

/* The fault of the sender; a poisoned session with many threads keeps it behind a call. */
static const struct vmbus_fault *tx_fault(void)
{
	static struct vmbus_fault copy;

	if (!with_mtx)
		return vmbus_ring_tx_fault(&rb->tx);
	vmbus_ring_mtx_fault(rb->mtx, &copy);
	return &copy;
}

static uint32_t len_of(uint32_t id)
{
	static const uint32_t lens[] = { 8, 300, 0, 64, 1500, 17, 256, 900 };

	return lens[id % 8];
}

static void step_put(uint32_t n)
{
	static uint8_t data[4][1500];
	struct vmbus_msg msg[4];
	uint32_t i;
	int got;

	for (i = 0; i < n; i++) {
		ringbox_fill(data[i], len_of(sent + i), sent + i);
		msg[i] = ringbox_msg(sent + i, data[i], len_of(sent + i));
	}
	got = with_mtx ? vmbus_ring_mtx_put(rb->mtx, msg, n) : vmbus_ring_tx_put(&rb->tx, msg, n);
	if (judge(got, &tx_broken, RINGBOX_OUT, tx_fault())) {
		must(got > 0 && got <= (int)n);
		sent += (uint32_t)got;
		publications++;
	}
}

static void step_reserve(void)
{
	struct vmbus_msg msg = ringbox_msg(sent, NULL, len_of(sent));
	static uint8_t data[1500];
	struct vmbus_span span[4];
	uint32_t done = 0;
	int n, k;

	if (with_mtx) {
		step_put(1);
		return;
	}
	n = vmbus_ring_tx_reserve(&rb->tx, &msg, span, 4);
	if (!judge(n, &tx_broken, RINGBOX_OUT, tx_fault()))
		return;
	ringbox_fill(data, len_of(sent), sent);
	for (k = 0; k < n; k++) {
		memcpy(span[k].base, data + done, span[k].len);
		done += (uint32_t)span[k].len;
	}
	must_eq(done, len_of(sent));
	must_eq(vmbus_ring_tx_commit(&rb->tx), 1);
	sent++;
	publications++;
}

/* With an index of the peer's that is possible and a lie, packets may be any. */
static void check_packets(const struct vmbus_packet *pkt, uint32_t n)
{
	const bool lied = poked && (word == RINGBOX_IN || word == RINGBOX_OUT) && possible(value);
	static uint8_t data[1500];
	uint32_t i;

	for (i = 0; i < n; i++, received++) {
		must(pkt[i].where < SIZE);
		must(pkt[i].len + pkt[i].ext_len + 24 <= SIZE - 8);
		if (lied)
			continue;
		must(received < sent);
		ringbox_fill(data, len_of(received), received);
		ringbox_must_be(&pkt[i], received, data, len_of(received));
	}
}

static void step_get(uint32_t n, bool in_place)
{
	struct vmbus_packet pkt[8];
	const int got = in_place ? vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, n)
				 : vmbus_ring_rx_get(&rb->rx, pkt, n);

	if (judge(got, &rx_broken, RINGBOX_IN, vmbus_ring_rx_fault(&rb->rx)))
		check_packets(pkt, (uint32_t)got);
	publications++;
}

static void step_rx(int answer)
{
	(void)judge(answer, &rx_broken, RINGBOX_IN, vmbus_ring_rx_fault(&rb->rx));
	publications++;
}

static void step_tx_arm(void)
{
	const int answer =
		with_mtx ? vmbus_ring_mtx_arm(rb->mtx, 2048) : vmbus_ring_tx_arm(&rb->tx, 2048);

	(void)judge(answer, &tx_broken, RINGBOX_OUT, tx_fault());
}

static void step_tx_disarm(void)
{
	if (with_mtx)
		vmbus_ring_mtx_disarm(rb->mtx);
	else
		vmbus_ring_tx_disarm(&rb->tx);
}

/* Cursors stay where they can be, whatever was read. */
static void check_private(void)
{
	const struct vmbus_ring_tx *tx = &rb->tx;
	const struct vmbus_ring_rx *rx = &rb->rx;

	if (!with_mtx) {
		must(possible(tx->next_p) && possible(tx->committed_p) && possible(tx->out_p));
		must_eq(tx->room_p, vmbus__ring_room(SIZE, tx->next_p, tx->out_p));
	}
	must(possible(rx->next_p) && possible(rx->committed_p));
	must_eq(rx->held_p, vmbus__ring_used(SIZE, rx->next_p, rx->committed_p));
	must(rx->held_p + rx->avail_p <= SIZE - 8);
	must(rx->left_p <= rx->avail_p);
	must(rx->at_p >= rx->buf_p && rx->at_p + rx->left_p <= rx->buf_p + rx->buf_bytes_p);
	must(rb->tx_signals + rb->rx_signals <= publications);
}

#define STEPS 34u

static void step(uint32_t k)
{
	switch (k) {
	case 0:
	case 7:
	case 12:
		step_put(4);
		break;
	case 1:
	case 26:
		step_get(1, false);
		break;
	case 2:
	case 23:
		step_get(8, true);
		break;
	case 3:
	case 15:
		step_rx(vmbus_ring_rx_arm(&rb->rx));
		break;
	case 4:
	case 28:
		step_put(1);
		break;
	case 5:
	case 16:
		vmbus_ring_rx_disarm(&rb->rx);
		break;
	case 6:
	case 27:
		step_reserve();
		break;
	case 8:
	case 13:
	case 18:
		step_put(3);
		break;
	case 9:
	case 20:
		step_tx_arm();
		break;
	case 10:
	case 21:
		step_get(3, false);
		break;
	case 11:
	case 22:
		step_rx(vmbus_ring_rx_consume(&rb->rx));
		break;
	case 14:
	case 24:
		step_tx_disarm();
		break;
	case 17:
	case 29:
		step_get(2, true);
		break;
	case 19:
	case 25:
		step_put(2);
		break;
	default:
		step_get(8, false);
		break;
	}
}

/* One session; k is the step before which the word is overwritten, STEPS for none. */
static void session(uint32_t at)
{
	uint32_t k;

	ringbox_reopen(rb, START);
	memset(ringbox_data(rb), 0xe5, SIZE);
	if (with_mtx)
		must_eq(ringbox_open_mtx(rb, 8), 0);
	poked = tx_broken = rx_broken = false;
	sent = received = publications = 0;
	for (k = 0; k < STEPS; k++) {
		vmbus_test_at("%s%s word %d value %u before step %u, now %u",
			      with_mtx ? "mtx " : "", ringbox_window_name[rb->window], (int)word,
			      value, at, k);
		if (k == at) {
			ringbox_set(rb, word, value);
			poked = true;
		}
		step(k);
		check_private();
	}
	if (!poked || (word != RINGBOX_IN && word != RINGBOX_OUT)) {
		must(!tx_broken && !rx_broken);
		must_eq(received, sent);
		must(sent >= 20);
		sound_sessions++;
	}
	/* The owner's next store has put an unseen index right, or an end has seen it. */
	if (poked && !possible(value) && word == RINGBOX_IN)
		must(!tx_broken);
	if (poked && !possible(value) && word == RINGBOX_OUT)
		must(!rx_broken);
}

/* _i: window and kind of sender. */
START_TEST(ring_poison__every_word_value_and_step)
{
	uint32_t w, v;

	with_mtx = _i % 2;
	rb = ringbox_open(SIZE, ringbox_windows[_i / 2], START);
	session(STEPS);
	must_eq(sound_sessions, 1);
	for (w = 0; w < WORDS; w++)
		for (v = 0; v < VALUES; v++)
			for (poke_at = 0; poke_at < STEPS; poke_at++) {
				word = words[w];
				value = values[v];
				session(poke_at);
			}
	must(faults_seen > 300);
	must_eq(sound_sessions, 1 + 3 * VALUES * STEPS);
	ringbox_free(rb);
}
END_TEST

static enum ringbox_word hooked_word;
static uint32_t hooked_value;
static unsigned int hooked_skip;

static void poke_before_load(const volatile void *p)
{
	(void)p;
	if (hooked_skip--)
		return;
	vmbus__test_hook = NULL;
	ringbox_set(rb, hooked_word, hooked_value);
	poked = true;
}

/* The same before each load within the calls, in the copying reader's or in any other moment. */
START_TEST(ring_poison__before_every_load)
{
	uint32_t w, v, skip, longest = 0;

	with_mtx = _i % 2;
	rb = ringbox_open(SIZE, ringbox_windows[_i / 2], START);
	for (w = 0; w < WORDS; w++)
		for (v = 0; v < VALUES; v++)
			for (skip = 0; skip < 400; skip += vmbus_test_full() ? 1 : 3) {
				hooked_word = word = words[w];
				hooked_value = value = values[v];
				hooked_skip = skip + v % 3;
				/* Set after the session is open: init reads words as well. */
				ringbox_reopen(rb, START);
				vmbus__test_hook = NULL;
				memset(ringbox_data(rb), 0xe5, SIZE);
				if (with_mtx)
					must_eq(ringbox_open_mtx(rb, 8), 0);
				poked = tx_broken = rx_broken = false;
				sent = received = publications = 0;
				vmbus__test_hook = poke_before_load;
				for (poke_at = 0; poke_at < STEPS; poke_at++) {
					vmbus_test_at(
						"%s%s word %d value %u before load %u, step %u",
						with_mtx ? "mtx " : "",
						ringbox_window_name[rb->window], (int)word, value,
						skip, poke_at);
					step(poke_at);
					check_private();
				}
				vmbus__test_hook = NULL;
				if (!poked)
					break; /* the session has no more loads */
				longest = skip > longest ? skip : longest;
			}
	must(longest > 60);
	must(faults_seen > 300);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "poison", 20);

	tcase_add_loop_test(tc, ring_poison__every_word_value_and_step, 0, 2 * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_poison__before_every_load, 0, 2 * RINGBOX_WINDOWS);
}

VMBUS_TEST_MAIN("ring.poison", tests)
