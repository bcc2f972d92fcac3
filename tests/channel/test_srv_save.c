/* SPDX-License-Identifier: MIT */
/*
 * The host machine saved and restored: at every step of long random runs, and from states that
 * were changed.
 */
#include "srv_drive.h"

#include <vmbus/srv_save.h>
#include "srv_state_check.h"
#include "srvbox.h"

static uint64_t seed;

static uint8_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint8_t)(seed >> 24);
}

static uint8_t *save(const struct vmbus_srv *srv, size_t *bytes)
{
	size_t again = 0;
	uint8_t *state;

	must_eq(vmbus_srv_save(srv, NULL, 0, bytes), VMBUS_E_RANGE);
	state = malloc(*bytes);
	must(state != NULL);
	must_eq(vmbus_srv_save(srv, state, *bytes, &again), 0);
	must_eq(again, *bytes);
	return state;
}

/* The machine of a drive gives way to another one that was restored from it. */
static const char *swap(struct srv_drive *d)
{
	const struct vmbus_srv_opts o = d->srv->opts;
	const char *why = "";
	size_t bytes, twice;
	uint8_t *state = save(d->srv, &bytes), *other;

	vmbus_srv_fini(d->srv);
	memset(d->storage, 0xa5, vmbus_srv_bytes(&o));
	must_eq(vmbus_srv_init(d->storage, vmbus_srv_bytes(&o), &o, &d->srv), 0);
	if (vmbus_srv_restore(d->srv, state, bytes, &why)) {
		free(state);
		return why;
	}
	other = save(d->srv, &twice);
	must_eq(twice, bytes);
	must(memcmp(state, other, bytes) == 0);
	free(state);
	free(other);
	return NULL;
}

/* lesson 06: a state saved at any point of a session goes on as the session would have */
START_TEST(srv_restore__at_any_step_of_random_runs)
{
	static uint8_t stream[3000];
	const uint32_t rounds = vmbus_test_full() ? 5000 : 100;
	uint32_t round, i;

	for (round = 0; round < rounds; round++) {
		struct srv_drive d;

		seed = 0xd1b54a32d192ed03ull * (round + 1) + (uint32_t)_i;
		for (i = 0; i < sizeof(stream); i++)
			stream[i] = any();
		drive_begin(&d, stream, sizeof(stream));
		while (drive_step(&d)) {
			if (_i && any() % 8)
				continue;
			d.trouble = swap(&d);
			if (!d.trouble)
				drive_check(&d);
		}
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

/* A machine that has been through some steps of a random run, and its state. */
struct sample {
	struct srv_drive d;
	uint8_t *state;
	size_t bytes;
};

static void sample_begin(struct sample *s, uint64_t from, uint32_t steps)
{
	static uint8_t stream[1200];
	uint32_t i;

	seed = 0x2545f4914f6cdd1dull * (from + 1);
	for (i = 0; i < sizeof(stream); i++)
		stream[i] = any();
	stream[0] = 0xff; /* the largest limits */
	drive_begin(&s->d, stream, sizeof(stream));
	while (s->d.steps < steps && drive_step(&s->d))
		continue;
	must(!s->d.trouble);
	s->state = save(s->d.srv, &s->bytes);
}

static void sample_end(struct sample *s)
{
	s->d.trouble = NULL;
	drive_end(&s->d);
	must(!s->d.trouble);
	free(s->state);
}

/* Another machine from a state; what it is, if it can be, must go through anything. */
static int restore_and_use(struct sample *s, const struct vmbus_srv_opts *opts,
			   const uint8_t *state, size_t bytes)
{
	const size_t room = vmbus_srv_bytes(opts);
	struct srv_drive d = { .storage = aligned_alloc(16, (room + 15) / 16 * 16) };
	struct vmbus_srv_opts o = *opts;
	const char *why = NULL;
	uint8_t noise[400];
	uint32_t i;
	int err;

	(void)s;
	must(d.storage != NULL);
	o.list_ctx = &d;
	must_eq(vmbus_srv_init(d.storage, room, &o, &d.srv), 0);
	err = vmbus_srv_restore(d.srv, state, bytes, &why);
	must(why != NULL && (err == 0) == (why[0] == '\0'));
	must(err == 0 || err == VMBUS_E_INVAL || err == VMBUS_E_NOTSUP || err == VMBUS_E_NOMEM);
	if (err) {
		must_eq(d.lists, 0);
		must(srv_check(d.srv) == NULL);
		must_eq(d.srv->stats.channels, 0);
	}
	for (i = 0; i < sizeof(noise); i++)
		noise[i] = any();
	d.at = noise;
	d.left = sizeof(noise);
	for (i = 0; i < 60 && !err; i++) {
		const char *wrong = srv_check(d.srv);

		if (wrong)
			ck_abort_msg("%s (%s, step %u)", wrong, vmbus_test_where, i);
		(void)drive_step(&d);
		d.trouble = NULL; /* nobody has kept the shadow */
	}
	vmbus_srv_fini(d.srv);
	must_eq(d.lists, 0);
	free(d.storage);
	return err;
}

/* lesson 36, lesson 37: what comes back is as hostile as a message */
START_TEST(lesson_36_every_byte_of_a_state_changed)
{
	static const uint8_t with[] = { 0x01, 0x80, 0xff };
	struct sample s;
	uint32_t good = 0, bad = 0;
	size_t at;
	uint32_t w;

	sample_begin(&s, (uint64_t)_i * 7, 40 + 30 * (uint32_t)_i);
	for (at = 0; at < s.bytes; at++)
		for (w = 0; w < sizeof(with); w++) {
			uint8_t *copy = malloc(s.bytes);

			must(copy != NULL);
			memcpy(copy, s.state, s.bytes);
			copy[at] ^= with[w];
			vmbus_test_at("byte %zu of %zu by %x", at, s.bytes, with[w]);
			/* The sum tells of damage, and without it something else does, or it is no harm. */
			must_eq(restore_and_use(&s, &s.d.srv->opts, copy, s.bytes) != 0, true);
			if (at >= VMBUS__STATE_HEAD) {
				state_mend(copy, s.bytes);
				if (restore_and_use(&s, &s.d.srv->opts, copy, s.bytes))
					bad++;
				else
					good++;
			}
			free(copy);
		}
	must(good > 0 && bad > 0);
	sample_end(&s);
}
END_TEST

START_TEST(lesson_36_every_length_of_a_state)
{
	struct sample s;
	size_t bytes;

	sample_begin(&s, 3, 120);
	for (bytes = 0; bytes < s.bytes; bytes++) {
		uint8_t *copy = malloc(bytes + 1); /* exact, so that a sanitizer sees its end */

		must(copy != NULL);
		memcpy(copy, s.state, bytes);
		vmbus_test_at("%zu of %zu bytes", bytes, s.bytes);
		must(restore_and_use(&s, &s.d.srv->opts, copy, bytes) == VMBUS_E_INVAL);
		if (bytes >= VMBUS__STATE_HEAD) {
			state_mend(copy, bytes);
			must(restore_and_use(&s, &s.d.srv->opts, copy, bytes) == VMBUS_E_INVAL);
		}
		free(copy);
	}
	sample_end(&s);
}
END_TEST

/* Numbers at random in place of others, four bytes at a time. */
START_TEST(lesson_36_numbers_of_a_state_changed)
{
	static const uint32_t odd[] = {
		0, 1, 2, 5, 0x7f, 0xffff, 0x7fffffff, 0x80000000, UINT32_MAX
	};
	const uint32_t rounds = vmbus_test_full() ? 40000 : 3000;
	struct sample s;
	uint32_t round, n;

	sample_begin(&s, 11 + (uint64_t)_i, 300);
	for (round = 0; round < rounds; round++) {
		uint8_t *copy = malloc(s.bytes);

		must(copy != NULL);
		memcpy(copy, s.state, s.bytes);
		for (n = 1 + any() % 3u; n > 0; n--) {
			const size_t at =
				VMBUS__STATE_HEAD +
				((size_t)any() << 8 | any()) % (s.bytes - VMBUS__STATE_HEAD - 4);

			memcpy(copy + at, &odd[any() % 9u], any() % 2 ? 4 : 1);
		}
		state_mend(copy, s.bytes);
		vmbus_test_at("round %u", round);
		(void)restore_and_use(&s, &s.d.srv->opts, copy, s.bytes);
		free(copy);
	}
	sample_end(&s);
}
END_TEST

START_TEST(vmbus_srv_save__errors)
{
	struct sample s;
	uint8_t *buf;
	size_t need, room;

	sample_begin(&s, 1, 100);
	must_eq(vmbus_srv_save(s.d.srv, NULL, 0, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_srv_save(s.d.srv, NULL, 1, &need), VMBUS_E_INVAL);
	for (room = 0; room < s.bytes; room++) {
		need = 0;
		buf = malloc(room + 1);
		must(buf != NULL);
		must_eq(vmbus_srv_save(s.d.srv, buf, room, &need), VMBUS_E_RANGE);
		must_eq(need, s.bytes);
		free(buf);
	}
	sample_end(&s);
}
END_TEST

static struct srvbox *box_with(uint32_t chans)
{
	struct vmbus_srv_opts o = { .chans_max = chans,
				    .gpadls_max = 8,
				    .gpadls_unfinished_max = 4,
				    .queue_max = 8,
				    .tl_max = 4,
				    .version_max = VMBUS_PROTO_6_0,
				    .features = SRVBOX_FEATURES };

	return srvbox_new(&o);
}

/* A machine with something of everything. */
static struct srvbox *busy_box(void)
{
	struct srvbox *box = box_with(6);
	struct vmbus_ctl tl = { .type = VMBUS_CTL_TL_CONNECT };
	uint32_t i;

	for (i = 1; i <= 4; i++)
		(void)srvbox_offer(box, (uint8_t)i);
	srvbox_connect(box, VMBUS_PROTO_6_0, SRVBOX_FEATURES);
	(void)srvbox_gpadl(box, 1, 1, 8);
	(void)srvbox_gpadl(box, 2, 2, 8);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(vmbus_srv_opened(box->srv, box->act.chan, 0), 0);
	must_eq(srvbox_say_open(box, 2, 2, 4), 0);	/* not answered */
	must_eq(srvbox_say_header(box, 3, 3, 8, 2), 0); /* not finished */
	must_eq(srvbox_say_header(box, 3, 4, 8, 2), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 77, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 77, 0), 0); /* a reply to nobody */
	tl.u.tl.endpoint_id.b[0] = 9;
	must_eq(srvbox_post(box, &tl), 0);
	return box;
}

static int restore_with(const struct vmbus_srv_opts *opts, const uint8_t *state, size_t bytes,
			bool no_lists)
{
	struct srvbox *box = srvbox_new(opts);
	int err;

	box->use_shadow = false;
	box->no_lists = no_lists;
	err = vmbus_srv_restore(box->srv, state, bytes, NULL);
	srvbox_check(box);
	srvbox_free(box);
	return err;
}

/* A machine whose limits the state does not keep to says so; higher ones are no matter. */
START_TEST(vmbus_srv_restore__limits)
{
	struct srvbox *box = busy_box();
	const struct vmbus_srv_opts same = box->srv->opts;
	struct vmbus_srv_opts o;
	size_t bytes;
	uint8_t *state = save(box->srv, &bytes);

	must_eq(restore_with(&same, state, bytes, false), 0);
	must_eq(restore_with(&same, state, bytes, true), VMBUS_E_NOMEM);
#define REFUSED(member, value)                                                                     \
	do {                                                                                       \
		o = same;                                                                          \
		o.member = (value);                                                                \
		vmbus_test_at("%s", #member);                                                      \
		must_eq(restore_with(&o, state, bytes, false), VMBUS_E_NOTSUP);                    \
	} while (0)
	REFUSED(chans_max, 3);
	REFUSED(gpadls_max, 3);
	REFUSED(gpadls_unfinished_max, 1);
	REFUSED(gpadl_bytes_max, 31 * 4096);
	REFUSED(version_max, VMBUS_PROTO_5_3);
	REFUSED(features, SRVBOX_FEATURES & ~VMBUS_FEATURE_PAUSE);
	REFUSED(message_conn, 0x99);
#undef REFUSED
	o = same;
	o.chans_max = 2047;
	o.gpadls_max = 8192;
	o.queue_max = 4096;
	o.tl_max = 1024;
	must_eq(restore_with(&o, state, bytes, false), 0);
	o = same;
	o.chans_max = 4; /* all that are offered fit */
	must_eq(restore_with(&o, state, bytes, false), 0);
	free(state);
	srvbox_free(box);
}
END_TEST

/* Queues that are fuller than ours may be. */
START_TEST(vmbus_srv_restore__queue_limits)
{
	struct srvbox *box = busy_box();
	struct vmbus_srv_opts o = box->srv->opts;
	struct vmbus_ctl tl = { .type = VMBUS_CTL_TL_CONNECT };
	size_t bytes;
	uint8_t *state;

	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 78, 0), 0);
	tl.u.tl.endpoint_id.b[0] = 10;
	must_eq(srvbox_post(box, &tl), 0);
	state = save(box->srv, &bytes);
	o.queue_max = 1;
	must_eq(restore_with(&o, state, bytes, false), VMBUS_E_NOTSUP);
	o = box->srv->opts;
	o.tl_max = 1;
	must_eq(restore_with(&o, state, bytes, false), VMBUS_E_NOTSUP);
	free(state);
	srvbox_free(box);
}
END_TEST

START_TEST(vmbus_srv_restore__only_into_a_new_machine)
{
	struct srvbox *box = busy_box(), *other = box_with(6);
	const char *why = "";
	size_t bytes;
	uint8_t *state = save(box->srv, &bytes);

	must_eq(vmbus_srv_restore(box->srv, state, bytes, &why), VMBUS_E_STATE);
	must(why[0] != '\0');
	must_eq(vmbus_srv_restore(other->srv, NULL, 0, &why), VMBUS_E_INVAL);
	other->use_shadow = false;
	(void)srvbox_offer(other, 1);
	must_eq(vmbus_srv_restore(other->srv, state, bytes, &why), VMBUS_E_STATE);
	srvbox_free(other);
	other = box_with(6);
	other->use_shadow = false;
	must_eq(vmbus_srv_restore(other->srv, state, bytes, NULL), 0);
	must_eq(vmbus_srv_restore(other->srv, state, bytes, NULL), VMBUS_E_STATE);
	srvbox_free(other);
	free(state);
	srvbox_free(box);
}
END_TEST

/* What a later version may have written. */
START_TEST(vmbus_srv_restore__version_skew)
{
	struct srvbox *box = busy_box();
	const struct vmbus_srv_opts opts = box->srv->opts;
	uint8_t section[VMBUS__SECTION_HEAD + 4] = { 99, 0, 0, 0, 1, 0, 1, 0, 4 };
	size_t bytes, n, len, at;
	uint8_t *state = save(box->srv, &bytes), *copy;
	uint32_t type;

	n = bytes; /* a section that may be skipped, in front and behind */
	copy = state_with(state, &n, VMBUS__STATE_HEAD, section, sizeof(section));
	must_eq(restore_with(&opts, copy, n, false), 0);
	free(copy);
	n = bytes;
	copy = state_with(state, &n, bytes, section, sizeof(section));
	must_eq(restore_with(&opts, copy, n, false), 0);
	free(copy);
	section[6] = 0; /* one that may not */
	n = bytes;
	copy = state_with(state, &n, bytes, section, sizeof(section));
	must_eq(restore_with(&opts, copy, n, false), VMBUS_E_NOTSUP);
	free(copy);
	state[14] = 7; /* the minor version alone says nothing */
	state_mend(state, bytes);
	must_eq(restore_with(&opts, state, bytes, false), 0);
	state[12] = 2;
	state_mend(state, bytes);
	must_eq(restore_with(&opts, state, bytes, false), VMBUS_E_NOTSUP);
	state[12] = 1;
	state[8] = 2; /* of a bus */
	state_mend(state, bytes);
	must_eq(restore_with(&opts, state, bytes, false), VMBUS_E_INVAL);
	state[8] = 1;
	state_mend(state, bytes);
	for (type = 1; type <= 7; type++) {
		vmbus_test_at("section %u", type);
		at = state_section(state, bytes, type, &len);
		must(at != 0);
		state[at + 4] = 2;
		state_mend(state, bytes);
		must_eq(restore_with(&opts, state, bytes, false), VMBUS_E_NOTSUP);
		state[at + 4] = 1;
		n = bytes; /* twice */
		copy = state_with(state, &n, at, state + at, len + VMBUS__SECTION_HEAD);
		must_eq(restore_with(&opts, copy, n, false), VMBUS_E_INVAL);
		/* and not at all */
		n = bytes - len - VMBUS__SECTION_HEAD;
		memcpy(copy, state, at);
		memcpy(copy + at, state + at + len + VMBUS__SECTION_HEAD, n - at);
		state_mend(copy, n);
		must_eq(restore_with(&opts, copy, n, false), VMBUS_E_INVAL);
		free(copy);
	}
	state_mend(state, bytes);
	must_eq(restore_with(&opts, state, bytes, false), 0);
	free(state);
	srvbox_free(box);
}
END_TEST

/* What was asked and not answered is asked again, and CONNECTED comes first. */
START_TEST(vmbus_srv_restore__asks_again)
{
	struct srvbox *box = busy_box(), *other = box_with(6);
	struct vmbus_srv_list_info list;
	struct vmbus_srv_action open;
	size_t bytes;
	uint8_t *state;

	while (srvbox_take(box) != VMBUS_SRV_OPEN)
		continue;
	open = box->act;
	state = save(box->srv, &bytes);
	other->use_shadow = false;
	must_eq(vmbus_srv_restore(other->srv, state, bytes, NULL), 0);
	must_eq(srvbox_take_local(other), VMBUS_SRV_CONNECTED);
	must_eq(other->act.version, VMBUS_PROTO_6_0);
	must_eq(srvbox_take_local(other), VMBUS_SRV_OPEN);
	must(memcmp(&other->act, &open, sizeof(open)) == 0);
	must_eq(srvbox_take_local(other), VMBUS_SRV_TL_CONNECT);
	must_eq(srvbox_take_local(other), 0);
	must_eq(vmbus_srv_open_info(other->srv, open.chan, &open), 0); /* it is opening */
	must_eq(vmbus_srv_opened(other->srv, open.chan, 0), 0);
	must_eq(vmbus_srv_open_info(other->srv, open.chan, &open), 1);
	must_eq(open.act, VMBUS_SRV_OPEN);
	must_eq(open.downstream_page, 4);
	must_eq(vmbus_srv_open_info(other->srv, (struct vmbus_srv_ref){ 5, 1 }, &open), 0);
	must_eq(vmbus_srv_list_info(other->srv, open.list.slot, &list), 1);
	must(list.had && !list.going);
	must_eq(list.gpadl, 2);
	must_eq(list.chan.slot, 1);
	must_eq(list.list.gen, open.list.gen);
	must_eq(vmbus_srv_list_info(other->srv, 7, &list), 0);
	must_eq(vmbus_srv_list_info(other->srv, 8, &list), VMBUS_E_RANGE);
	srvbox_free(other);
	free(state);
	srvbox_free(box);
}
END_TEST

/* ---- contradictions, one by one ---- */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
	uint32_t i;

	for (i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* Every device answers, the child is told all, and leaves: then nothing may be left, or stuck. */
static const char *come_to_rest(struct vmbus_srv *srv)
{
	struct vmbus_srv_action a;
	uint32_t round, i;

	for (round = 0; round < 60; round++) {
		const char *wrong = srv_check(srv);

		if (wrong)
			return wrong;
		if (round == 20)
			vmbus_srv_disconnect(srv);
		for (i = 0; i < 200 && vmbus_srv_next(srv, &a); i++)
			continue;
		for (i = 0; i < srv->opts.chans_max; i++) {
			const struct vmbus_srv_ref chan = { i, srv->chans[i].gen };

			(void)vmbus_srv_opened(srv, chan, 0);
			(void)vmbus_srv_closed(srv, chan);
			(void)vmbus_srv_modified(srv, chan, 0);
			if (round == 40)
				(void)vmbus_srv_revoke(srv, chan);
		}
		for (i = 0; i < srv->opts.gpadls_max; i++) {
			const struct vmbus_srv_ref list = { i, srv->lists[i].gen };

			(void)vmbus_srv_gpadl_ready(srv, list, 0);
			(void)vmbus_srv_gpadl_gone(srv, list);
		}
		(void)vmbus_srv_connection_modified(srv, 0);
	}
	SRV_BROKEN(srv->conn != CONN_OFF || srv->away);
	SRV_BROKEN(srv->head[SIDE_CHILD] != NIL || srv->head[SIDE_LOCAL] != NIL);
	SRV_BROKEN(srv->stats.channels != 0);
	SRV_BROKEN(srv->stats.gpadls != 0);
	return NULL;
}

static uint32_t taken, refused;

/* A state that was changed is refused, or is one that a machine can live with. */
static void live_with(const struct vmbus_srv_opts *opts, uint8_t *state, size_t bytes)
{
	struct srvbox *box = srvbox_new(opts);
	const char *wrong;

	box->use_shadow = false;
	state_mend(state, bytes);
	if (vmbus_srv_restore(box->srv, state, bytes, NULL) == 0) {
		wrong = come_to_rest(box->srv);
		if (wrong)
			ck_abort_msg("%s (%s)", wrong, vmbus_test_where);
		taken++;
	} else {
		refused++;
	}
	srvbox_free(box);
}

/* What is due, on one side: where its count is, in the state. */
static size_t side_at(const uint8_t *state, size_t bytes, uint32_t side)
{
	size_t len = 0, at = state_section(state, bytes, 6, &len) + VMBUS__SECTION_HEAD;

	return side ? at + 4 + get32(state + at) * 5u : at;
}

/* Without one that is due, and with each that might be. */
static void change_due(const struct vmbus_srv_opts *opts, const uint8_t *state, size_t bytes)
{
	size_t len = 0, n;
	const size_t section = state_section(state, bytes, 6, &len);
	uint32_t side, i, kind;

	for (side = 0; side < 2; side++) {
		const size_t at = side_at(state, bytes, side);
		const uint32_t count = get32(state + at);
		uint8_t *copy;

		for (i = 0; i < count; i++) {
			copy = malloc(bytes);
			must(copy != NULL);
			n = at + 4 + i * 5u;
			memcpy(copy, state, n);
			memcpy(copy + n, state + n + 5, bytes - n - 5);
			put32(copy + at, count - 1);
			put32(copy + section + 8, (uint32_t)len - 5);
			vmbus_test_at("%s; side %u without %u, kind %u", "due", side, i, state[n]);
			live_with(opts, copy, bytes - 5);
			free(copy);
		}
		for (kind = 0; kind < K_KINDS; kind++)
			for (i = 0; i < 6; i++) {
				const uint8_t more[5] = { (uint8_t)kind, (uint8_t)i };

				n = bytes;
				copy = state_with(state, &n, at + 4, more, sizeof(more));
				put32(copy + at, count + 1);
				put32(copy + section + 8, (uint32_t)len + 5);
				vmbus_test_at("due; side %u with kind %u of %u", side, kind, i);
				live_with(opts, copy, n);
				free(copy);
			}
	}
}

static void change_chans(const struct vmbus_srv_opts *opts, uint8_t *state, size_t bytes)
{
	size_t len = 0;
	uint8_t *at = state + state_section(state, bytes, 2, &len) + VMBUS__SECTION_HEAD;
	uint32_t count = get32(at), s, b;

	for (at += 4; count; count--, at += 364) {
		const uint8_t state_was = at[8], fate_was = at[9], bits_was = at[10];
		const uint32_t ring_was = get32(at + 352);

		for (s = 0; s < 16; s++)
			for (b = 0; b < 128; b++) {
				at[8] = (uint8_t)s;
				at[9] = (uint8_t)(b / 32);
				at[10] = (uint8_t)(b % 32);
				vmbus_test_at("channel in slot %u: state %u, fate %u, bits %x",
					      get32(at), s, b / 32, b % 32);
				live_with(opts, state, bytes);
				put32(at + 352, ring_was == NIL ? 0 : NIL);
				live_with(opts, state, bytes);
				put32(at + 352, ring_was);
			}
		at[8] = state_was;
		at[9] = fate_was;
		at[10] = bits_was;
	}
}

static void change_lists(const struct vmbus_srv_opts *opts, uint8_t *state, size_t bytes)
{
	size_t len = 0;
	uint8_t *at = state + state_section(state, bytes, 3, &len) + VMBUS__SECTION_HEAD;
	uint32_t count = get32(at), s, b, c;

	for (at += 4; count; count--, at += 36 + get32(at + 28) * 8u) {
		const uint8_t state_was = at[16], bits_was = at[17];
		const uint32_t chan_was = get32(at + 4);

		for (s = 0; s < 10; s++)
			for (b = 0; b < 4; b++)
				for (c = 0; c < 6; c++) {
					at[16] = (uint8_t)s;
					at[17] = (uint8_t)b;
					put32(at + 4, c);
					vmbus_test_at("list %u: state %u, bits %x, channel %u",
						      get32(at), s, b, c);
					live_with(opts, state, bytes);
				}
		at[16] = state_was;
		at[17] = bits_was;
		put32(at + 4, chan_was);
	}
}

static void change_conn(const struct vmbus_srv_opts *opts, uint8_t *state, size_t bytes)
{
	size_t len = 0;
	uint8_t *const at = state + state_section(state, bytes, 1, &len) + VMBUS__SECTION_HEAD;
	const uint32_t conn_was = get32(at + 4), version_was = get32(at + 8);
	const uint32_t bits_was = get32(at + 28);
	uint32_t s, b, v;

	for (s = 0; s < 9; s++)
		for (b = 0; b < 16; b++)
			for (v = 0; v < 3; v++) {
				put32(at + 4, s);
				put32(at + 28, b);
				put32(at + 8, v == 0 ? version_was : v == 1 ? 0 : VMBUS_PROTO_5_3);
				vmbus_test_at("connection: state %u, bits %x, version %u", s, b, v);
				live_with(opts, state, bytes);
			}
	put32(at + 4, conn_was);
	put32(at + 8, version_was);
	put32(at + 28, bits_was);
}

/* The OPEN that was held and dropped names other rings: those that close are smaller. */
static struct srvbox *dropped_box(bool unload)
{
	struct srvbox *box = busy_box();

	box->use_shadow = false;
	while (srvbox_take(box))
		continue;
	(void)srvbox_gpadl(box, 1, 5, 12);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
	must_eq(srvbox_say_open(box, 1, 5, 10), 0);
	must_eq(unload ? srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0)
		       : vmbus_srv_revoke(box->srv, (struct vmbus_srv_ref){ 0, 1 }),
		0);
	return box;
}

/* Several stages of a life, so that every object is in many states. */
static struct srvbox *staged_box(uint32_t stage)
{
	struct srvbox *box = busy_box();
	const struct vmbus_srv_ref first = { 0, 1 };

	box->use_shadow = false;
	if (stage >= 1) {
		must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 2), 0);
		must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
	}
	if (stage >= 2) {
		while (srvbox_take(box))
			continue;
		must_eq(vmbus_srv_modified(box->srv, first, 0), 0);
		must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
		must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0), 0);
	}
	if (stage == 3)
		must_eq(vmbus_srv_revoke(box->srv, (struct vmbus_srv_ref){ 1, 1 }), 0);
	if (stage == 4)
		must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	if (stage == 5) {
		while (srvbox_take(box))
			continue;
		must_eq(vmbus_srv_closed(box->srv, first), 0);
		while (srvbox_take(box))
			continue;
		vmbus_srv_disconnect(box->srv);
		while (srvbox_take(box))
			continue;
	}
	return box;
}

START_TEST(lesson_37_contradictions_in_a_state)
{
	struct srvbox *box = _i < 6 ? staged_box((uint32_t)_i) : dropped_box(_i == 7);
	const struct vmbus_srv_opts opts = box->srv->opts;
	size_t bytes;
	uint8_t *state = save(box->srv, &bytes);

	taken = refused = 0;
	live_with(&opts, state, bytes);
	must_eq(taken, 1);
	change_due(&opts, state, bytes);
	change_lists(&opts, state, bytes);
	change_conn(&opts, state, bytes);
	change_chans(&opts, state, bytes);
	must(refused > 1000 && taken > 1);
	free(state);
	box->use_shadow = false;
	srvbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save", 30);

	tcase_add_loop_test(tc, srv_restore__at_any_step_of_random_runs, 0, 4);
	tcase_add_loop_test(tc, lesson_36_every_byte_of_a_state_changed, 0, 3);
	tcase_add_test(tc, lesson_36_every_length_of_a_state);
	tcase_add_loop_test(tc, lesson_36_numbers_of_a_state_changed, 0, 4);
	tcase_add_loop_test(tc, lesson_37_contradictions_in_a_state, 0, 8);
	tcase_add_test(tc, vmbus_srv_save__errors);
	tcase_add_test(tc, vmbus_srv_restore__limits);
	tcase_add_test(tc, vmbus_srv_restore__queue_limits);
	tcase_add_test(tc, vmbus_srv_restore__only_into_a_new_machine);
	tcase_add_test(tc, vmbus_srv_restore__version_skew);
	tcase_add_test(tc, vmbus_srv_restore__asks_again);
}
VMBUS_TEST_MAIN("channel.srv_save", tests)
