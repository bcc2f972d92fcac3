/* SPDX-License-Identifier: MIT */
/*
 * Answers to LIST: a line for each child, and one for each of its channels.  A few at a time, from
 * where the last ones ended; what comes and goes meanwhile may be missing or told twice.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>

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

static int tell_child(const struct vmbus_shm_child *child, int sock)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_CHILD };
	struct vmbus__shm_child_line *const line = &msg.u.child;

	line->memory = child->bytes;
	line->pid = child->pid;
	line->vps = child->vps;
	line->state = child->state == VMBUS_SHM_ENDING;
	copy_text(line->name, sizeof(line->name), child->name);
	return vmbus__shm_send(sock, &msg, NULL, 0);
}

/* Returns how many were told, or an error; fewer than room: there are no more. */
static int tell_channels(struct vmbus_shm_child *child, struct vmbus__shm_lister *lister, int sock,
			 uint32_t room)
{
	struct rows rows = { .first = lister->index, .room = room };
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_CHANNEL };
	uint32_t i;
	int err;

	vmbus_bus_list(child->bus, take_row, &rows);
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

static void next_child(struct vmbus__shm_lister *lister)
{
	lister->slot++;
	lister->named = false;
	lister->index = 0;
}

/* The child at the cursor; NULL: none there, or not the one that was begun. */
static struct vmbus_shm_child *child_of(const struct vmbus_shm_server *server,
					const struct vmbus__shm_lister *lister)
{
	struct vmbus_shm_child *const child = server->children[lister->slot];

	if (!child || child->state == VMBUS_SHM_STARTING)
		return NULL;
	return !lister->named || child->gen == lister->gen ? child : NULL;
}

int vmbus__shm_list_some(struct vmbus_shm_server *server, struct vmbus__shm_lister *lister,
			 int sock, uint32_t rows)
{
	struct vmbus__shm_msg end = { .type = VMBUS_SHM_LIST_END };
	int err, told;

	while (lister->slot < server->slots) {
		struct vmbus_shm_child *const child = child_of(server, lister);

		if (!child) {
			next_child(lister);
			continue;
		}
		if (rows == 0)
			return 0;
		if (!lister->named) {
			err = tell_child(child, sock);
			if (err)
				return err;
			lister->named = true;
			lister->gen = child->gen;
			lister->children++;
			rows--;
			continue;
		}
		told = tell_channels(child, lister, sock, rows < ROWS_MAX ? rows : ROWS_MAX);
		if (told < 0)
			return told;
		rows -= (uint32_t)told;
		if (told == 0)
			next_child(lister);
	}
	end.u.end.children = lister->children;
	end.u.end.channels = lister->channels;
	err = vmbus__shm_send(sock, &end, NULL, 0);
	return err ? err : 1;
}
