/* SPDX-License-Identifier: MIT */
/*
 * A child of vmbus-bench soak, one thread: every device that it is offered is opened, and has one request
 * under way every 50 ms or so, which is timed and checked; channels are closed and opened again now and
 * then.  It is killed at any moment, and its devices come and go.
 */
#include "soak_child.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define TURN_NS 50000000u
#define MEMORY_BYTES (8u << 20)
#define RING_BYTES 16384u
#define REOPEN 400u
#define TRY_US 1000u
#define ECHO_BYTES 64u

void child_done(struct client *c)
{
	struct soak_shared *const shared = c->child->shared;
	const uint64_t now = now_ns();

	soak_add(&shared->hist[c->series], now - c->from_ns);
	soak_count(&c->child->mine->done[c->series]);
	store64(&c->child->mine->last_ns[c->series], now);
	c->busy = false;
}

/* ---- echo ---- */

static void echo_opened(struct vmbus_vsc *vsc, int err)
{
	struct client *const c = vmbus_vsc_priv(vsc);

	if (err) {
		c->begun = false;
		return;
	}
	soak_count(&c->child->mine->opened);
	c->usable = true;
	c->until = c->number + REOPEN / 2 + soak_random(&c->child->random) % REOPEN;
}

static void echo_closed(struct vmbus_vsc *vsc)
{
	struct client *const c = vmbus_vsc_priv(vsc);

	soak_count(&c->child->mine->closed);
	c->usable = c->begun = false;
}

static void echo_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct client *const c = vmbus_vsc_priv(vsc);
	uint64_t number = 0;

	(void)cookie;
	if (!pkt) {
		c->busy = false;
		return;
	}
	if (pkt->len == ECHO_BYTES)
		memcpy(&number, pkt->payload, sizeof(number));
	if (number != c->number)
		soak_count(&c->child->mine->wrong);
	child_done(c);
}

static void echo_turn(struct client *c)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = RING_BYTES,
				       .recv_bytes = RING_BYTES,
				       .requests_max = 4,
				       .opened = echo_opened,
				       .completed = echo_completed,
				       .closed = echo_closed,
				       .priv = c };
	uint64_t payload[ECHO_BYTES / 8] = { 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = payload, .len = ECHO_BYTES };

	if (!c->begun) {
		c->begun = vmbus_vsc_open(c->vsc, &opts) == 0;
		return;
	}
	if (!c->usable || c->busy)
		return;
	if (c->number >= c->until) {
		c->usable = false;
		(void)vmbus_vsc_close(c->vsc);
		return;
	}
	payload[0] = c->number + 1;
	c->from_ns = now_ns();
	if (vmbus_vsc_request(c->vsc, &msg, c) < 0)
		return;
	c->number++;
	c->busy = true;
}

/* ---- what comes and goes ---- */

static void offered(void *ctx, struct vmbus_vsc *vsc)
{
	struct child *const child = ctx;
	struct vmbus_vsc_info info;

	vmbus_vsc_info(vsc, &info);
	for (uint32_t i = 0; i < SOAK_DEVICES; i++) {
		const struct vmbus_guid id = SOAK_INSTANCE(i);

		if (memcmp(&id, &info.offer.instance_id, sizeof(id)) || info.offer.sub_index)
			continue;
		if (i == SOAK_NET_OUT && child->seat != 0)
			return; /* a NIC is one guest's */
		if (child->all[i]->vsc)
			soak_count(&child->mine->failed); /* the old one must have gone */
		child->all[i]->vsc = vsc;
		store64(&child->mine->last_ns[i], now_ns());
	}
}

static void gone(void *ctx, struct vmbus_vsc *vsc)
{
	struct child *const child = ctx;

	for (uint32_t i = 0; i < SOAK_DEVICES; i++)
		if (child->all[i]->vsc == vsc)
			child->all[i]->vsc = NULL;
}

static void set_up(struct child *child)
{
	static const enum soak_series blocks[] = { SOAK_BLOCK, SOAK_BLOCK_OUT, SOAK_BLOCK_STEADY };

	child->all[SOAK_ECHO] = &child->echo[0];
	child->all[SOAK_ECHO_OUT] = &child->echo[1];
	child->all[SOAK_NET] = &child->net[0].c;
	child->all[SOAK_NET_OUT] = &child->net[1].c;
	for (uint32_t i = 0; i < 3; i++)
		child->all[blocks[i]] = &child->block[i].c;
	for (uint32_t i = 0; i < SOAK_DEVICES; i++) {
		child->all[i]->child = child;
		child->all[i]->series = (enum soak_series)i;
	}
}

static int attach(struct child *child, const char *path)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	const uint64_t until = now_ns() + 10 * SOAK_SECOND;
	char name[16], why[160] = "";
	int err;

	snprintf(name, sizeof(name), "%u", child->seat);
	opts.name = name;
	opts.memory_bytes = MEMORY_BYTES;
	opts.guest.struct_bytes = sizeof(opts.guest);
	opts.guest.offered = offered;
	opts.guest.gone = gone;
	opts.guest.ctx = child;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	while ((err = vmbus_shm_attach(&opts, &child->attach)) < 0 && now_ns() < until)
		(void)usleep(TRY_US);
	if (!err) {
		child->guest = vmbus_shm_guest(child->attach);
		err = vmbus_guest_connect(child->guest);
	}
	if (!err)
		err = vmbus_guest_wait(child->guest, VMBUS_GUEST_CONNECTED, 10 * SOAK_SECOND);
	if (err < 0)
		fprintf(stderr, "vmbus-bench: child %u cannot begin: %s (%s)\n", child->seat,
			vmbus_err_name(err), why);
	return err < 0 ? err : 0;
}

static void turn(struct child *child)
{
	for (uint32_t i = 0; i < 2; i++)
		if (child->echo[i].vsc)
			echo_turn(&child->echo[i]);
	for (uint32_t i = 0; i < 3; i++)
		child_block_turn(&child->block[i]);
	for (uint32_t i = 0; i < 2; i++)
		child_net_turn(&child->net[i]);
}

int soak_child(struct soak_shared *shared, const char *path, uint32_t seat, uint64_t seed)
{
	struct child *const child = must_alloc(sizeof(*child));
	uint64_t next;
	int err;

	memset(child, 0, sizeof(*child));
	child->shared = shared;
	child->mine = &shared->seat[seat];
	child->seat = seat;
	child->random = seed;
	set_up(child);
	if (attach(child, path))
		return BENCH_EXIT_FAILED;
	store32(&child->mine->ready, 1);
	next = now_ns();
	while (!load32(&shared->stop)) {
		const uint64_t now = now_ns();

		if (now >= next) {
			turn(child);
			next = now + TURN_NS / 2 + soak_random(&child->random) % TURN_NS;
		}
		err = vmbus_shm_attach_wait(child->attach, next > now ? next - now : 0);
		if (err < 0 && err != VMBUS_E_AGAIN)
			break;
	}
	vmbus_shm_detach(child->attach);
	free(child);
	return load32(&shared->stop) ? BENCH_EXIT_OK : BENCH_EXIT_FAILED;
}
