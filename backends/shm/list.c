/* SPDX-License-Identifier: MIT */
/*
 * Answers to LIST: a line for each child, and one for each of its channels; then the same for buses
 * that are no child's, if the embedder named any.  A few at a time, from where the last ones ended;
 * what comes and goes meanwhile may be missing or told twice.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/capture.h"
#include "shm/diag_proto.h"
#include "shm/parent.h"

#define ROWS_MAX 32u

/* Channels first to first + room - 1 of one child. */
struct rows {
	uint32_t first;
	uint32_t seen;
	uint32_t count;
	uint32_t room;
	struct vmbus__shm_channel_line row[ROWS_MAX];
};

static void copy_text(char *to, size_t bytes, const char *from)
{
	(void)snprintf(to, bytes, "%s", from ? from : "");
}

static void take_row(void *ctx, const struct vmbus_chan_info *info)
{
	struct rows *const rows = ctx;
	struct vmbus__shm_channel_line *row;

	if (rows->seen++ < rows->first || rows->count >= rows->room)
		return;
	row = &rows->row[rows->count++];
	*row = (struct vmbus__shm_channel_line){
		.class_id = info->class_id,
		.instance_id = info->instance_id,
		.opens = info->opens,
		.relid = info->relid,
		.conn_id = info->conn_id,
		.sub_index = info->sub_index,
		.target_vp = info->target_vp,
		.send_bytes = info->send_bytes,
		.recv_bytes = info->recv_bytes,
		.subchannels = info->subchannels,
		.flags = (info->mirrored ? VMBUS_SHM_CHANNEL_MIRRORED : 0) |
			 (info->faulted ? VMBUS_SHM_CHANNEL_FAULTED : 0),
	};
	copy_text(row->vsp, sizeof(row->vsp), info->vsp);
	copy_text(row->state, sizeof(row->state), info->state);
}

/* What a listing can stand at: a child, or a bus that is no child's. */
struct entry {
	struct vmbus_bus *bus;
	const char *name;
	uint64_t bytes;
	int32_t pid;
	uint32_t vps;
	uint32_t gen;
	bool ending;
};

static int tell_entry(const struct entry *entry, struct vmbus__shm_lister *lister, int sock)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_CHILD };
	struct vmbus__shm_child_line *const line = &msg.u.child;
	int err;

	line->memory = entry->bytes;
	line->pid = entry->pid;
	line->vps = entry->vps;
	line->state = entry->ending;
	copy_text(line->name, sizeof(line->name), entry->name);
	if (!lister->half) {
		err = vmbus__shm_send(sock, &msg, NULL, 0);
		if (err)
			return err;
		lister->gen = entry->gen;
		lister->children++;
		if (lister->query != VMBUS_DG_DIAG)
			return 0;
		lister->half = true; /* the socket may have no room for the second now */
	}
	err = vmbus__shm_tell_bus(entry->bus, sock);
	lister->half = err != 0;
	return err;
}

/* Returns how many were told, or an error; fewer than room: there are no more. */
static int tell_infos(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
		      uint32_t room)
{
	struct rows rows = { .first = lister->index, .room = room };
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_CHANNEL };
	uint32_t i;
	int err;

	vmbus_bus_list(bus, take_row, &rows);
	for (i = 0; i < rows.count; i++) {
		msg.u.channel = rows.row[i];
		err = vmbus__shm_send(sock, &msg, NULL, 0);
		if (err)
			return err;
		lister->index++;
		lister->channels++;
	}
	return (int)rows.count;
}

static int tell_channels(struct vmbus_bus *bus, struct vmbus__shm_lister *lister, int sock,
			 uint32_t room)
{
	switch (lister->query) {
	case VMBUS_DG_DIAG:
		return vmbus__shm_tell_diags(bus, lister, sock, room);
	case VMBUS_DG_RECORDS:
		return vmbus__shm_tell_record(bus, lister, sock, room);
	default:
		return tell_infos(bus, lister, sock, room);
	}
}

static void next_entry(struct vmbus__shm_lister *lister)
{
	lister->slot++;
	lister->named = lister->half = false;
	lister->index = 0;
}

static bool child_entry(const struct vmbus_shm_child *child, struct entry *entry)
{
	if (!child || child->state == VMBUS_SHM_STARTING)
		return false;
	*entry = (struct entry){
		.bus = child->bus,
		.name = child->name,
		.bytes = child->bytes,
		.pid = child->pid,
		.vps = child->vps,
		.gen = child->gen,
		.ending = child->state == VMBUS_SHM_ENDING,
	};
	return true;
}

static bool other_entry(const struct vmbus__shm_other *other, struct entry *entry)
{
	if (!other->bus)
		return false;
	*entry = (struct entry){
		.bus = other->bus,
		.name = vmbus_bus_name(other->bus),
		.bytes = other->bytes,
		.pid = (int32_t)getpid(),
		.vps = other->vps,
		.gen = other->gen,
	};
	return true;
}

/* What is at the cursor; false: nothing, or not what was begun. */
static bool entry_of(const struct vmbus_shm_server *server, const struct vmbus__shm_lister *lister,
		     struct entry *entry)
{
	const bool found =
		lister->slot < server->slots
			? child_entry(server->children[lister->slot], entry)
			: other_entry(&server->others[lister->slot - server->slots], entry);

	return found && ((!lister->named && !lister->half) || entry->gen == lister->gen);
}

int vmbus__shm_list_some(struct vmbus_shm_server *server, struct vmbus__shm_lister *lister,
			 int sock, uint32_t rows)
{
	struct vmbus__shm_msg end = { .type = VMBUS_SHM_LIST_END };
	struct entry entry;
	int err, told;

	while (lister->slot < server->slots + VMBUS_SHM_BUSES_MAX) {
		if (!entry_of(server, lister, &entry)) {
			next_entry(lister);
			continue;
		}
		if (rows == 0)
			return 0;
		if (!lister->named) {
			err = tell_entry(&entry, lister, sock);
			if (err)
				return err;
			lister->named = true;
			rows--;
			continue;
		}
		told = tell_channels(entry.bus, lister, sock, rows < ROWS_MAX ? rows : ROWS_MAX);
		if (told < 0)
			return told;
		rows -= (uint32_t)told;
		if (told == 0)
			next_entry(lister);
	}
	end.u.end.children = lister->children;
	end.u.end.channels = lister->channels;
	err = vmbus__shm_send(sock, &end, NULL, 0);
	return err ? err : 1;
}

int vmbus_shm_server_add_bus(struct vmbus_shm_server *server, struct vmbus_bus *bus, uint32_t vps,
			     uint64_t memory_bytes)
{
	struct vmbus__shm_other *free_at = NULL;
	uint32_t i;

	for (i = 0; i < VMBUS_SHM_BUSES_MAX; i++) {
		struct vmbus__shm_other *const other = &server->others[i];

		if (other->bus == bus)
			return VMBUS_E_STATE;
		if (!other->bus && !free_at)
			free_at = other;
	}
	for (i = 0; i < server->slots; i++)
		if (server->children[i] && server->children[i]->bus == bus)
			return VMBUS_E_STATE;
	if (!free_at)
		return VMBUS_E_FULL;
	*free_at = (struct vmbus__shm_other){
		.bus = bus, .bytes = memory_bytes, .vps = vps, .gen = ++server->gen
	};
	return 0;
}

void vmbus_shm_server_remove_bus(struct vmbus_shm_server *server, const struct vmbus_bus *bus)
{
	uint32_t i;

	for (i = 0; bus && i < VMBUS_SHM_BUSES_MAX; i++)
		if (server->others[i].bus == bus) {
			vmbus__shm_capture_forget(server, bus);
			server->others[i].bus = NULL;
		}
}
