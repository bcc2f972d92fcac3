/* SPDX-License-Identifier: MIT */
/*
 * The host machine under long random runs with the shadow of srv_check.h, and under handshakes that
 * are repeated or cut off anywhere (lesson 26).
 */
#include "srv_drive.h"
#include "srvbox.h"

static uint64_t seed;

static uint8_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint8_t)(seed >> 24);
}

/* lesson 19: nothing that a child can send stops the parent */
START_TEST(srv__random_runs)
{
	static uint8_t stream[6000];
	const uint32_t rounds = vmbus_test_full() ? 20000 : 300;
	uint32_t round, i;

	for (round = 0; round < rounds; round++) {
		struct srv_drive d;

		seed = 0x9e3779b97f4a7c15ull * (round + 1) + (uint32_t)_i;
		for (i = 0; i < sizeof(stream); i++)
			stream[i] = any();
		drive_begin(&d, stream, sizeof(stream));
		while (drive_step(&d))
			continue;
		if (!d.trouble)
			drive_finish(&d);
		if (d.trouble)
			ck_abort_msg("%s: round %u of %d, step %u", d.trouble, round, _i, d.steps);
		drive_end(&d);
		if (d.trouble)
			ck_abort_msg("%s: round %u of %d", d.trouble, round, _i);
	}
}
END_TEST

/* The whole life of a connection as messages; twice: repeated, or cut off before step cut. */
#define LIFE 17

static void live(struct srvbox *box, uint32_t step)
{
	const struct vmbus_srv_ref chan = { 0, 1 };

	switch (step) {
	case 0:
		must_eq(srvbox_contact(box, VMBUS_PROTO_6_0, SRVBOX_FEATURES), 0);
		break;
	case 1:
		(void)srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0);
		break;
	case 2:
		(void)srvbox_say_header(box, 1, 1, 8, 2);
		break;
	case 3:
		(void)srvbox_say_body(box, 1, 6);
		break;
	case 4:
		(void)srvbox_say_header(box, 1, 2, 8, 8);
		break;
	case 5:
		(void)srvbox_say_open(box, 1, 1, 4);
		break;
	case 6:
		(void)srvbox_say(box, VMBUS_CTL_MODIFY, 1, 1);
		break;
	case 7:
		(void)srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0);
		break;
	case 8:
		(void)srvbox_say(box, VMBUS_CTL_RESUME, 0, 0);
		break;
	case 9:
		(void)srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 2);
		break;
	case 10:
		(void)srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0);
		break;
	case 11:
		(void)srvbox_say_open_reserved(box, 1, 1, 4);
		break;
	case 12:
		(void)srvbox_say(box, VMBUS_CTL_CLOSE_RESERVED, 1, 0);
		break;
	case 13:
		(void)srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1);
		break;
	case 14:
		(void)vmbus_srv_revoke(box->srv, chan);
		srvbox_check(box);
		break;
	case 15:
		(void)srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0);
		break;
	default:
		(void)srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0);
		break;
	}
}

/* Devices answer what they are asked. */
static void answer(struct srvbox *box, bool devices)
{
	while (srvbox_take(box)) {
		if (!devices)
			continue;
		switch (box->act.act) {
		case VMBUS_SRV_OPEN:
			must_eq(vmbus_srv_opened(box->srv, box->act.chan, 0), 0);
			break;
		case VMBUS_SRV_CLOSE:
			must_eq(vmbus_srv_closed(box->srv, box->act.chan), 0);
			break;
		case VMBUS_SRV_GPADL:
			must_eq(vmbus_srv_gpadl_ready(box->srv, box->act.list, 0), 0);
			break;
		case VMBUS_SRV_GPADL_DOWN:
			must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
			break;
		case VMBUS_SRV_MODIFY:
			must_eq(vmbus_srv_modified(box->srv, box->act.chan, 0), 0);
			break;
		default:
			break;
		}
	}
}

static struct srvbox *newborn(void)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	o.features = SRVBOX_FEATURES;
	box = srvbox_new(&o);
	(void)srvbox_offer(box, 1);
	return box;
}

START_TEST(lesson_26_every_message_twice)
{
	struct srvbox *box = newborn();
	uint32_t step;

	for (step = 0; step < LIFE; step++) {
		vmbus_test_at("step %u, devices %d", step, _i);
		live(box, step);
		answer(box, _i);
		live(box, step);
		answer(box, _i);
		if (_i == 0 && step >= 5)
			break; /* without devices nothing goes on */
	}
	vmbus_srv_disconnect(box->srv);
	memset(&box->shadow, 0, sizeof(box->shadow));
	srvbox_check(box);
	answer(box, true);
	must_eq(vmbus_srv_version(box->srv), 0);
	srvbox_free(box);
}
END_TEST

/* Each prefix, with and without answers of the devices, then each way to leave. */
START_TEST(lesson_26_every_prefix_then_the_end)
{
	uint32_t cut, step, way;

	for (cut = 0; cut <= LIFE; cut++)
		for (way = 0; way < 6; way++) {
			struct srvbox *box = newborn();

			vmbus_test_at("cut before %u, way %u", cut, way);
			for (step = 0; step < cut; step++) {
				live(box, step);
				if (way % 2)
					answer(box, true);
			}
			if (way / 2 == 0)
				vmbus_srv_disconnect(box->srv);
			else if (way / 2 == 1)
				(void)srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0);
			else
				(void)srvbox_contact(box, VMBUS_PROTO_4_0, 0);
			box->use_shadow = way / 2 != 0;
			answer(box, true);
			/* And the next child finds everything in order. */
			box->use_shadow = true;
			memset(&box->shadow, 0, sizeof(box->shadow));
			must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
			answer(box, true);
			must_eq(vmbus_srv_version(box->srv), VMBUS_PROTO_5_3);
			/* A reserved channel stays open until it is closed. */
			(void)srvbox_say(box, VMBUS_CTL_CLOSE_RESERVED, 1, 0);
			answer(box, true);
			must_eq(box->srv->stats.gpadls, 0);
			must_eq(box->lists, 0);
			srvbox_free(box);
		}
}
END_TEST

/* lesson 30: every call with every parameter at once, in a state that cannot serve it */
START_TEST(lesson_30_calls_in_the_wrong_state_are_refused)
{
	struct srvbox *box = newborn();
	const struct vmbus_srv_ref chan = { 0, 1 }, none = { 5, 1 }, past = { 500, 1 };
	const struct vmbus_ctl_tl tl = { .status = 1 };
	struct vmbus_srv_ref list;
	struct vmbus_srv_info info;
	const uint64_t *qwords;
	uint32_t n;
	const struct vmbus_srv_ref refs[] = { chan, none, past };

	for (n = 0; n < 3; n++) {
		must_eq(vmbus_srv_opened(box->srv, refs[n], 0), VMBUS_E_STATE);
		must_eq(vmbus_srv_closed(box->srv, refs[n]), VMBUS_E_STATE);
		must_eq(vmbus_srv_modified(box->srv, refs[n], 0), VMBUS_E_STATE);
		must_eq(vmbus_srv_gpadl_ready(box->srv, refs[n], 0), VMBUS_E_STATE);
		must_eq(vmbus_srv_gpadl_gone(box->srv, refs[n]), VMBUS_E_STATE);
		must_eq(vmbus_srv_find_list(box->srv, refs[n], 1, &list), VMBUS_E_RANGE);
		must_eq(vmbus_srv_list(box->srv, refs[n], &qwords, &n), 0);
		srvbox_check(box);
	}
	must_eq(vmbus_srv_connection_modified(box->srv, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_revoke(box->srv, none), VMBUS_E_STATE);
	must_eq(vmbus_srv_reoffer(box->srv, past), VMBUS_E_STATE);
	must_eq(vmbus_srv_reoffer(box->srv, chan), 0); /* nobody knows of it: as it was */
	must_eq(vmbus_srv_info(box->srv, 0, &info), 1);
	must_eq(info.state, VMBUS_SRV_CLIENT_RELEASED);
	must_eq(info.fate, VMBUS_SRV_KEEP);
	must_eq(vmbus_srv_info(box->srv, 1, &info), 0);
	must_eq(vmbus_srv_info(box->srv, 8, &info), 0);
	srvbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "random", 20);

	tcase_add_loop_test(tc, srv__random_runs, 0, 4);
	tcase_add_loop_test(tc, lesson_26_every_message_twice, 0, 2);
	tcase_add_test(tc, lesson_26_every_prefix_then_the_end);
	tcase_add_test(tc, lesson_30_calls_in_the_wrong_state_are_refused);
}
VMBUS_TEST_MAIN("channel.srv_random", tests)
