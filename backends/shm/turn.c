/* SPDX-License-Identifier: MIT */
/*
 * A child's turn: its event flags, its mailbox, its bus, each within the budget; and its end.  What
 * it sent without pause waits for its next turn, so that one child takes no more than its share.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "shm/parent.h"

#define RECORDS_PER_EVENT 8

static const char *const end_names[] = { "detached", "died", "broke the rules" };
static const char thrown[] = "was thrown out by the embedder";

static void end_child(struct vmbus_shm_child *child, enum vmbus_shm_end why, const char *reason)
{
	struct vmbus_shm_server *const server = child->server;

	if (child->state == VMBUS_SHM_ENDING)
		return;
	vmbus__shm_log(&server->log, why == VMBUS_SHM_LEFT ? VMBUS_LOG_INFO : VMBUS_LOG_ERROR,
		       "%s: process %d %s%s%s", child->name, child->pid,
		       child->kicked && why == VMBUS_SHM_BROKE ? thrown : end_names[why],
		       reason ? ": " : "", reason ? reason : "");
	if (child->state == VMBUS_SHM_ATTACHED) {
		server->attached--;
		server->ending++;
		server->stats.ended[why]++;
	}
	child->state = VMBUS_SHM_ENDING;
	child->why = why;
	vmbus__shm_record_note(child, VMBUS_RECORD_ENDED, why, reason);
	child->rung = child->box_due = child->kicked = false; /* whatever it wanted last */
	vmbus__shm_child_silence(child);
	vmbus__shm_providers_remove(child);
	vmbus_bus_reset(child->bus);
	child->bus_due = true;
}

static void throw_out(struct vmbus_shm_child *child, uint32_t code, const char *reason)
{
	if (child->state == VMBUS_SHM_ENDING)
		return;
	vmbus__shm_send_text(child->sock, VMBUS_SHM_BYE, code, reason);
	end_child(child, VMBUS_SHM_BROKE, reason);
}

static void flush_words(struct vmbus_shm_child *child)
{
	uint32_t relid;

	if (!child->unbind_due)
		return;
	if (child->parent_due && vmbus__shm_child_tell_parent(child) == VMBUS_E_AGAIN)
		return;
	for (relid = 1; relid < VMBUS_SHM_RELIDS; relid++) {
		if (!(child->unbind[relid / 64] >> relid % 64 & 1u))
			continue;
		if (vmbus__shm_child_unbind(child, relid) == VMBUS_E_AGAIN)
			return;
		child->unbind[relid / 64] &= ~((uint64_t)1 << relid % 64);
	}
	child->unbind_due = false;
	(void)vmbus__shm_epoll_mod(child->server->epoll_fd, child->sock, EPOLLIN | EPOLLRDHUP,
				   vmbus__shm_tag(VMBUS_SHM_EV_SOCK, child->slot, child->gen));
}

/* An attached child may say BYE and nothing else. */
static void take_record(struct vmbus_shm_child *child, const struct vmbus__shm_record *record)
{
	struct vmbus__shm_msg msg;

	if (record->cut || record->fd_count ||
	    vmbus__shm_decode(record->bytes, record->len, &msg) || msg.type != VMBUS_SHM_BYE)
		throw_out(child, VMBUS_SHM_CODE_MESSAGE,
			  "a message that an attached child may not send");
	else
		end_child(child, VMBUS_SHM_LEFT, NULL);
}

void vmbus__shm_child_socket(struct vmbus_shm_child *child, bool dead)
{
	struct vmbus__shm_record record;
	int i, got = 1;

	for (i = 0; i < RECORDS_PER_EVENT && child->state != VMBUS_SHM_ENDING; i++) {
		got = vmbus__shm_recv(child->sock, &record);
		if (got <= 0)
			break;
		take_record(child, &record);
		vmbus__shm_record_close(&record);
	}
	if (child->state == VMBUS_SHM_ENDING)
		return;
	if (got < 0 || dead)
		end_child(child, VMBUS_SHM_DIED, NULL);
	else
		flush_words(child);
}

void vmbus_shm_child_kick(struct vmbus_shm_child *child, const char *why)
{
	if (child->kicked || child->state == VMBUS_SHM_ENDING)
		return;
	child->kicked = true;
	(void)snprintf(child->kick_why, sizeof(child->kick_why), "%s", why ? why : "");
	vmbus__shm_again(child->server->again_fd, &child->server->again_set, true);
}

/* Messages that found their slot taken may go now. */
static void free_slots(struct vmbus_shm_child *child)
{
	uint32_t vp, sint;

	for (vp = 0; vp < child->vps; vp++) {
		const uint32_t waiting = child->waiting[vp];

		child->waiting[vp] = 0;
		for (sint = 0; waiting >> sint; sint++)
			if (waiting >> sint & 1u)
				vmbus_bus_slot_free(child->bus, vp, sint);
	}
}

/* Take the child's event flags, each word once. */
static void take_flags(struct vmbus_shm_child *child)
{
	uint32_t word;

	child->rung = false;
	for (word = 0; word < VMBUS_SHM_FLAG_WORDS; word++)
		child->flags[word] |= vmbus_synic_take_flags(vmbus__shm_child_flags(child),
							     VMBUS_SINT_MESSAGE, word);
	vmbus__shm_child_wrote_flags(child);
	if (!(child->flags[0] >> VMBUS_SHM_CONTROL_BIT & 1u))
		return;
	child->flags[0] &= ~((uint64_t)1 << VMBUS_SHM_CONTROL_BIT);
	child->box_due = true;
	free_slots(child);
}

static bool flags_left(const struct vmbus_shm_child *child)
{
	uint32_t word;

	for (word = 0; word < VMBUS_SHM_FLAG_WORDS; word++)
		if (child->flags[word])
			return true;
	return false;
}

/* Forward signals, going on where the last turn stopped: a low number has no advantage. */
static uint32_t forward(struct vmbus_shm_child *child, uint32_t budget)
{
	uint32_t i, done = 0;

	for (i = 0; i < VMBUS_SHM_FLAG_WORDS && done < budget; i++) {
		const uint32_t at = child->flag_word;

		while (child->flags[at] && done < budget) {
			const uint32_t bit = (uint32_t)__builtin_ctzll(child->flags[at]);

			child->flags[at] &= child->flags[at] - 1;
			(void)vmbus_bus_signal_event(child->bus,
						     VMBUS_SHM_CONN_BASE + 64 * at + bit, 0);
			done++;
		}
		if (!child->flags[at])
			child->flag_word = (at + 1) % VMBUS_SHM_FLAG_WORDS;
	}
	return done;
}

/* One hypercall of the mailbox; the child is told that its answer is there. */
static uint32_t serve_mailbox(struct vmbus_shm_child *child)
{
	int served;

	child->box_due = false;
	served = vmbus_hcbox_serve(&child->box, vmbus_bus_hc_ops(), child->bus);
	vmbus__shm_child_wrote_box(child);
	if (served < 0)
		throw_out(child, VMBUS_SHM_CODE_MESSAGE, "impossible words in the mailbox");
	if (served <= 0)
		return 0;
	vmbus__shm_ring_doorbell(child->knock);
	return 1;
}

static uint32_t dispatch_bus(struct vmbus_shm_child *child, uint32_t budget)
{
	const int done = vmbus_bus_dispatch(child->bus, budget);

	child->bus_due = done > 0 && (uint32_t)done >= budget;
	return done > 0 ? (uint32_t)done : 0;
}

static void look_if_open(void *ctx, const struct vmbus_chan_info *info)
{
	bool *const open = ctx;

	*open = *open || info->send_bytes || info->recv_bytes;
}

/* A child that is gone: its devices close, however long they take, then it is forgotten. */
static uint32_t end_turn(struct vmbus_shm_child *child, uint32_t budget)
{
	struct vmbus_shm_server *const server = child->server;
	const uint32_t done = dispatch_bus(child, budget);
	bool open = false;

	if (child->bus_due)
		return done;
	vmbus_bus_list(child->bus, look_if_open, &open);
	if (open)
		return done; /* the bus wakes us when a device is done */
	if (!child->told && server->opts.detached)
		server->opts.detached(server->opts.ctx, child, child->why);
	vmbus__shm_child_retire(child);
	return done + 1;
}

/*
 * A thread of a channel may be on its way out of the bus for a moment: then the next dispatch tries
 * again, so that this one waits for nobody.
 */
void vmbus__shm_child_retire(struct vmbus_shm_child *child)
{
	struct vmbus_shm_server *const server = child->server;

	child->told = true;
	child->bus_due = true;
	child->tried = server->round;
	if (vmbus__shm_child_free(child))
		server->ending--;
}

bool vmbus__shm_child_due_later(const struct vmbus_shm_child *child)
{
	return child->state == VMBUS_SHM_ENDING && child->told;
}

bool vmbus__shm_child_due(const struct vmbus_shm_child *child)
{
	if (vmbus__shm_child_due_later(child))
		return child->tried != child->server->round;
	if (child->bus_due || child->state == VMBUS_SHM_ENDING)
		return child->bus_due;
	return child->rung || child->box_due || child->kicked || flags_left(child);
}

uint32_t vmbus__shm_child_turn(struct vmbus_shm_child *child, uint32_t budget)
{
	uint32_t done = 0;

	if (child->kicked)
		throw_out(child, VMBUS_SHM_CODE_KICKED, child->kick_why);
	if (child->state == VMBUS_SHM_ENDING)
		return end_turn(child, budget);
	if (child->rung) {
		take_flags(child);
		done++;
	}
	if (done < budget)
		done += forward(child, budget - done);
	if (child->box_due && done < budget)
		done += serve_mailbox(child);
	if (child->state == VMBUS_SHM_ATTACHED && done < budget)
		done += dispatch_bus(child, budget - done);
	else
		child->bus_due = true;
	return done;
}

void vmbus__shm_child_destroy(struct vmbus_shm_child *child)
{
	static const char why[] = "the parent ends";

	if (child->state == VMBUS_SHM_ATTACHED)
		vmbus__shm_send_text(child->sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_NONE, why);
	vmbus__shm_child_leave(child, why);
}

void vmbus__shm_child_leave(struct vmbus_shm_child *child, const char *why)
{
	struct vmbus_shm_server *const server = child->server;

	end_child(child, VMBUS_SHM_LEFT, why);
	vmbus_bus_close(child->bus);
	if (!child->told && server->opts.detached)
		server->opts.detached(server->opts.ctx, child, child->why);
	vmbus__shm_epoll_del(server->epoll_fd, vmbus_bus_fd(child->bus));
	vmbus_bus_destroy(child->bus);
	child->bus = NULL;
	(void)vmbus__shm_child_free(child);
	server->ending--;
}

struct vmbus_bus *vmbus_shm_child_bus(const struct vmbus_shm_child *child)
{
	return child->bus;
}

int32_t vmbus_shm_child_pid(const struct vmbus_shm_child *child)
{
	return child->pid;
}

const char *vmbus_shm_child_name(const struct vmbus_shm_child *child)
{
	return child->name;
}
