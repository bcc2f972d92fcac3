/* SPDX-License-Identifier: MIT */
/*
 * A host machine and a client machine with a queue each way between them, a device that answers when
 * it is told to, and a caller of the client that remembers what it asked for.  Which of them moves
 * next is the test's choice, so that any order and any delay can be had again from a number.
 */
#ifndef VMBUS_TESTS_CHANNEL_PAIR_H
#define VMBUS_TESTS_CHANNEL_PAIR_H

#include <vmbus/srv.h>

#include "clibox.h"

#define PAIR_QUEUE 64
#define PAIR_ASKS 8192
#define PAIR_LISTS 4200

struct pair_msg {
	uint32_t conn_id;
	uint32_t len;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
};

struct pair_queue {
	struct pair_msg msg[PAIR_QUEUE];
	uint32_t first, count;
};

/* Something that the device was asked for and has not answered. */
struct pair_ask {
	uint32_t act;
	struct vmbus_srv_ref chan, list;
	struct vmbus_ctl_tl tl;
};

/* A page list that the caller may use. */
struct pair_list {
	struct vmbus_cli_ref chan, list;
	bool torn; /* teardown was called */
};

/* What the caller has asked for and what it was answered. */
struct pair_ledger {
	uint64_t opens, opened;
	uint64_t gpadls, ready, teardowns, gone;
	uint64_t modifies, modified;
	uint64_t connects, connected;
	uint64_t unloads, unloaded;
	uint64_t pauses, paused;
	uint64_t tl_asked, tl_refused;
	uint64_t conn_modifies, conn_modified;
};

struct pair {
	struct clibox c;
	void *srv_storage;
	struct vmbus_srv *srv;
	struct vmbus_srv_opts srv_opts;
	struct pair_queue up, down; /* to the parent, to the child */
	struct pair_ask asks[PAIR_ASKS];
	uint32_t ask_count;
	struct pair_list lists[PAIR_LISTS];
	uint32_t list_count;
	struct pair_ledger ledger;
	uint64_t seed;
	uint64_t list_qwords; /* of the host's memory */
	uint32_t refuse;      /* the device refuses one request in so many, 0: none */
	uint32_t offers_seen, all_offered, rescinded;
	bool connected, contact_port, host_open;
	bool liar; /* somebody changes messages on their way */
};

static inline uint32_t pair_random(struct pair *p, uint32_t below)
{
	p->seed ^= p->seed << 13;
	p->seed ^= p->seed >> 7;
	p->seed ^= p->seed << 17;
	return (uint32_t)(p->seed >> 33) % below;
}

static inline uint64_t *pair_list_get(void *ctx, uint32_t qwords)
{
	((struct pair *)ctx)->list_qwords += qwords;
	return malloc(qwords * sizeof(uint64_t));
}

static inline void pair_list_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	((struct pair *)ctx)->list_qwords -= qwords;
	free(list);
}

static inline void pair_host(struct pair *p)
{
	size_t bytes;

	p->srv_opts.struct_bytes = sizeof(p->srv_opts);
	p->srv_opts.list_get = pair_list_get;
	p->srv_opts.list_put = pair_list_put;
	p->srv_opts.list_ctx = p;
	bytes = vmbus_srv_bytes(&p->srv_opts);
	must(bytes > 0);
	p->srv_storage = aligned_alloc(16, (bytes + 15) / 16 * 16);
	must(p->srv_storage != NULL);
	must_eq(vmbus_srv_init(p->srv_storage, bytes, &p->srv_opts, &p->srv), 0);
	p->host_open = true;
}

static inline void pair_host_end(struct pair *p)
{
	vmbus_srv_fini(p->srv);
	free(p->srv_storage);
	must_eq(p->list_qwords, 0);
	p->ask_count = 0;
	p->down.count = 0;
	p->up.count = 0;
	p->host_open = false;
}

static inline struct pair *pair_new(const struct vmbus_cli_opts *cli,
				    const struct vmbus_srv_opts *srv, uint64_t seed)
{
	struct pair *const p = calloc(1, sizeof(*p));

	must(p != NULL);
	p->seed = seed * 0x9e3779b97f4a7c15u + 1;
	p->srv_opts = *srv;
	p->contact_port = true;
	pair_host(p);
	clibox_open(&p->c, cli);
	return p;
}

static inline void pair_free(struct pair *p)
{
	if (p->host_open)
		pair_host_end(p);
	clibox_close(&p->c);
	free(p);
}

static inline bool pair_put(struct pair_queue *q, uint32_t conn_id, const void *bytes, uint32_t len)
{
	struct pair_msg *m;

	if (q->count == PAIR_QUEUE)
		return false;
	m = &q->msg[(q->first + q->count++) % PAIR_QUEUE];
	m->conn_id = conn_id;
	m->len = len;
	memcpy(m->bytes, bytes, len);
	return true;
}

static inline void pair_drop(struct pair_queue *q)
{
	q->first = (q->first + 1) % PAIR_QUEUE;
	q->count--;
}

static inline bool pair_ref_eq(struct vmbus_cli_ref a, struct vmbus_cli_ref b)
{
	return a.slot == b.slot && a.gen == b.gen;
}

/* A page list is over: an answer to its teardown, or to gpadl() if it never became ready. */
static inline void pair_list_over(struct pair *p, struct vmbus_cli_ref list, bool lost)
{
	uint32_t i;

	for (i = 0; i < p->list_count; i++)
		if (pair_ref_eq(p->lists[i].list, list)) {
			must(lost || p->lists[i].torn);
			p->ledger.gone += p->lists[i].torn;
			p->lists[i] = p->lists[--p->list_count];
			return;
		}
	must(lost);
	p->ledger.ready++;
}

static inline void pair_teardown(struct pair *p, struct pair_list *l)
{
	if (vmbus_cli_gpadl_teardown(p->c.cli, l->list) == 0) {
		p->ledger.teardowns++;
		must(!l->torn);
		l->torn = true;
	}
}

/* The hypercall: the parent's inbox takes it, or says that it has no room. */
static inline uint32_t pair_hypercall(struct pair *p, const struct vmbus_cli_action *a)
{
	if (a->conn_id == VMBUS_CONN_CONTACT && !p->contact_port)
		return 0x12;
	if (a->conn_id != VMBUS_CONN_CONTACT && a->conn_id != VMBUS_CONN_MESSAGE &&
	    a->conn_id != p->srv_opts.message_conn)
		return 0x12;
	return pair_put(&p->up, a->conn_id, a->bytes, a->len) ? 0 : 0x13;
}

static inline void pair_list_told(struct pair *p, const struct vmbus_cli_action *a)
{
	if (a->act == VMBUS_CLI_GPADL_READY) {
		p->ledger.ready++;
		if (a->status)
			return;
		must(p->list_count < PAIR_LISTS);
		p->lists[p->list_count++] = (struct pair_list){ a->chan, a->list, false };
		return;
	}
	pair_list_over(p, a->list, a->act == VMBUS_CLI_GPADL_LOST);
}

/* The caller of the client takes one action; whether there was one. */
static inline bool pair_guest(struct pair *p)
{
	struct vmbus_cli_action *const a = &p->c.act;

	if (vmbus_cli_next(p->c.cli, a) != 1)
		return false;
	switch (a->act) {
	case VMBUS_CLI_POST:
		must_eq(vmbus_cli_posted(p->c.cli, pair_hypercall(p, a)), 0);
		break;
	case VMBUS_CLI_CONNECTED:
		p->connected = true;
		p->ledger.connected++;
		break;
	case VMBUS_CLI_REFUSED:
		p->ledger.connected++;
		break;
	case VMBUS_CLI_UNLOADED:
		p->connected = false;
		p->ledger.unloaded++;
		break;
	case VMBUS_CLI_OFFERED:
		p->offers_seen++;
		break;
	case VMBUS_CLI_ALL_OFFERED:
		p->all_offered++;
		break;
	case VMBUS_CLI_RESCINDED:
		p->rescinded++;
		break;
	case VMBUS_CLI_OPENED:
		p->ledger.opened++;
		break;
	case VMBUS_CLI_MODIFIED:
		p->ledger.modified++;
		break;
	case VMBUS_CLI_TL_RESULT:
		p->ledger.tl_refused++;
		break;
	case VMBUS_CLI_PAUSED:
		p->ledger.paused++;
		break;
	case VMBUS_CLI_CONNECTION_MODIFIED:
		p->ledger.conn_modified++;
		break;
	default:
		pair_list_told(p, a);
		break;
	}
	return true;
}

/* The parent takes one action; SEND waits while the queue to the child is full. */
static inline bool pair_parent(struct pair *p)
{
	static struct vmbus_srv_action a;
	const bool room = p->down.count < PAIR_QUEUE;

	if ((room ? vmbus_srv_next(p->srv, &a) : vmbus_srv_next_local(p->srv, &a)) != 1)
		return false;
	switch (a.act) {
	case VMBUS_SRV_SEND:
		must(pair_put(&p->down, 0, a.bytes, a.len));
		break;
	case VMBUS_SRV_CONNECTED:
	case VMBUS_SRV_DISCONNECTED:
	case VMBUS_SRV_RELEASED:
		break;
	default:
		must(p->ask_count < PAIR_ASKS);
		p->asks[p->ask_count++] = (struct pair_ask){ a.act, a.chan, a.list, a.tl };
		break;
	}
	return true;
}

static inline bool pair_deliver_down(struct pair *p)
{
	const struct pair_msg *const m = &p->down.msg[p->down.first];
	int err;

	if (!p->down.count)
		return false;
	err = vmbus_cli_message(p->c.cli, m->bytes, m->len);
	must(err == 0 || (err == VMBUS_E_PEER && p->liar));
	pair_drop(&p->down);
	return true;
}

static inline bool pair_deliver_up(struct pair *p)
{
	const struct pair_msg *const m = &p->up.msg[p->up.first];
	int err;

	if (!p->up.count)
		return false;
	err = vmbus_srv_message(p->srv, m->conn_id, m->bytes, m->len);
	if (err == VMBUS_E_AGAIN)
		return false;
	must_eq(err, 0);
	pair_drop(&p->up);
	return true;
}

static inline void pair_answer_tl(struct pair *p, const struct vmbus_ctl_tl *tl, bool refuse)
{
	struct vmbus_offer offer = { .flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_PIPE |
					      VMBUS_OFFER_TLNPI,
				     .monitor_id = VMBUS_MONITOR_NONE };
	struct vmbus_srv_ref ref;

	offer.class_id = tl->service_id;
	offer.instance_id = tl->endpoint_id;
	if (refuse || vmbus_srv_offer(p->srv, &offer, &ref) < 0)
		(void)vmbus_srv_tl_refuse(p->srv, tl, VMBUS_STATUS_REFUSED);
}

/* The device answers the nth thing that it was asked for. */
static inline bool pair_device(struct pair *p, uint32_t n)
{
	const bool refuse = p->refuse && pair_random(p, p->refuse) == 0;
	const uint32_t status = refuse ? VMBUS_STATUS_FAILED : 0;
	struct pair_ask a;

	if (!p->ask_count)
		return false;
	n %= p->ask_count;
	a = p->asks[n];
	memmove(&p->asks[n], &p->asks[n + 1], (p->ask_count - n - 1) * sizeof(a));
	p->ask_count--;
	switch (a.act) {
	case VMBUS_SRV_OPEN:
		must_eq(vmbus_srv_opened(p->srv, a.chan, status), 0);
		break;
	case VMBUS_SRV_CLOSE:
		must_eq(vmbus_srv_closed(p->srv, a.chan), 0);
		break;
	case VMBUS_SRV_GPADL:
		must_eq(vmbus_srv_gpadl_ready(p->srv, a.list, status), 0);
		break;
	case VMBUS_SRV_GPADL_DOWN:
		must_eq(vmbus_srv_gpadl_gone(p->srv, a.list), 0);
		break;
	case VMBUS_SRV_MODIFY:
		must_eq(vmbus_srv_modified(p->srv, a.chan, status), 0);
		break;
	case VMBUS_SRV_TL_CONNECT:
		pair_answer_tl(p, &a.tl, refuse);
		break;
	case VMBUS_SRV_MODIFY_CONNECTION:
		must_eq(vmbus_srv_connection_modified(p->srv, refuse ? 2 : 0), 0);
		break;
	default:
		ck_abort_msg("action %u", a.act);
	}
	return true;
}

/* Who moves first when everybody can. */
enum pair_order {
	PAIR_CHILD_FIRST,
	PAIR_PARENT_FIRST,
	PAIR_ORDERS
};

/* Let all go on until nobody has anything to do. */
static inline void pair_settle(struct pair *p, enum pair_order order)
{
	uint32_t idle = 0, n;

	for (n = 0; idle < 2; n++) {
		bool moved;

		must(n < 4000000);
		if (order == PAIR_CHILD_FIRST)
			moved = pair_guest(p) || pair_deliver_down(p) || pair_deliver_up(p) ||
				pair_parent(p) || pair_device(p, 0);
		else
			moved = pair_device(p, 0) || pair_parent(p) || pair_deliver_up(p) ||
				pair_deliver_down(p) || pair_guest(p);
		idle = moved ? 0 : idle + 1; /* a held message comes after one idle look */
	}
}

/* One move of somebody's, by chance. */
static inline void pair_move(struct pair *p)
{
	switch (pair_random(p, 5)) {
	case 0:
		(void)pair_guest(p);
		break;
	case 1:
		(void)pair_deliver_down(p);
		break;
	case 2:
		(void)pair_deliver_up(p);
		break;
	case 3:
		(void)pair_parent(p);
		break;
	default:
		(void)pair_device(p, pair_random(p, 1000));
		break;
	}
}

static inline struct vmbus_srv_ref pair_offer(struct pair *p, uint32_t instance, uint16_t sub_index)
{
	struct vmbus_offer offer = { .monitor_id = VMBUS_MONITOR_NONE, .sub_index = sub_index };
	struct vmbus_srv_ref ref = { 0, 0 };

	offer.class_id = clibox_class;
	offer.instance_id = clibox_instance(instance);
	(void)vmbus_srv_offer(p->srv, &offer, &ref);
	return ref;
}

/* Channels of the last connection are let go of first, so that there is room. */
static inline void pair_connect(struct pair *p)
{
	struct vmbus_cli *const cli = p->c.cli;
	struct vmbus_cli_info info;
	uint32_t slot;

	if (cli->conn != VMBUS__CONN_IDLE)
		return;
	while (cli->tell_first != VMBUS__CLI_NONE)
		(void)pair_guest(p);
	for (slot = 0; slot < cli->opts.chans_max; slot++)
		if (vmbus_cli_info(cli, slot, &info) == 1)
			must_eq(vmbus_cli_release(cli, info.chan), 0);
	must_eq(vmbus_cli_connect(cli), 0);
	p->ledger.connects++;
}

/* The host's channel with a relid: its state, FREE if none has it. */
static inline uint32_t pair_srv_state(struct pair *p, uint32_t relid, struct vmbus_srv_info *info)
{
	uint32_t slot;

	for (slot = 0; slot < p->srv_opts.chans_max; slot++)
		if (vmbus_srv_info(p->srv, slot, info) == 1 && info->relid == relid)
			return info->state;
	return VMBUS_SRV_FREE;
}

/* Nobody has anything to do: every request was answered, and both see the same. */
static inline void pair_must_agree(struct pair *p)
{
	const struct pair_ledger *const l = &p->ledger;
	struct vmbus_cli *const cli = p->c.cli;
	struct vmbus_srv_info host;
	struct vmbus_cli_info info;
	uint32_t slot, state, known = 0, i, lists, offered = 0;

	must(!p->up.count && !p->down.count && !p->ask_count && !cli->queue_count);
	must_eq(l->opens, l->opened);
	must_eq(l->gpadls, l->ready);
	must_eq(l->teardowns, l->gone);
	must_eq(l->modifies, l->modified);
	must_eq(l->connects, l->connected);
	must_eq(l->unloads, l->unloaded);
	must_eq(l->pauses, l->paused);
	must_eq(l->conn_modifies, l->conn_modified);
	cli_check(cli);
	must_eq(vmbus_srv_version(p->srv), vmbus_cli_version(cli));
	for (slot = 0; slot < cli->opts.chans_max; slot++) {
		if (vmbus_cli_info(cli, slot, &info) != 1 || cli->chans[slot].orphan)
			continue;
		known++;
		state = pair_srv_state(p, info.offer.relid, &host);
		for (i = 0, lists = 0; i < p->list_count; i++)
			lists += pair_ref_eq(p->lists[i].chan, info.chan);
		must_eq(info.gpadls, lists);
		must(info.state != VMBUS_CLI_OPENING);
		if (info.state == VMBUS_CLI_CLOSED)
			must_eq(state, VMBUS_SRV_CLOSED);
		else if (info.state == VMBUS_CLI_OPEN)
			must_eq(state, VMBUS_SRV_OPENED);
		else
			must_eq(state, VMBUS_SRV_REVOKED);
		if (info.state == VMBUS_CLI_CLOSED || info.state == VMBUS_CLI_OPEN)
			must_eq(host.gpadls, lists);
		else
			must(host.gpadls >= lists);
	}
	for (slot = 0; slot < p->srv_opts.chans_max; slot++) {
		if (vmbus_srv_info(p->srv, slot, &host) != 1)
			continue;
		offered += host.state != VMBUS_SRV_CLIENT_RELEASED;
	}
	must_eq(offered, known);
}

#endif
