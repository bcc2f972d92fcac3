/* SPDX-License-Identifier: MIT */
/* vmbusctl list: a parent's children and channels, as a table or as JSON. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vmbus/shm_bus.h>

#include "ctl.h"

struct listing {
	bool json;
	unsigned int children;
	unsigned int channels; /* of the present child */
};

/* The text is printable ASCII: the library saw to it. */
void ctl_json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
	putchar('"');
}

static void json_member(const char *name, const char *text)
{
	printf("\"%s\": ", name);
	ctl_json_string(text);
	fputs(", ", stdout);
}

static void end_child(const struct listing *l)
{
	if (l->children && l->json)
		printf("%s]}", l->channels ? "\n    " : "");
	if (l->children && !l->json && l->channels == 0)
		puts("  no channel is offered to it");
}

static void child(void *ctx, const struct vmbus_shm_child_info *info)
{
	struct listing *const l = ctx;

	end_child(l);
	if (l->json) {
		printf("%s\n    {", l->children ? "," : "");
		json_member("name", info->name);
		printf("\"pid\": %d, \"vps\": %u, \"memory_bytes\": %llu, \"ending\": %s, "
		       "\"channels\": [",
		       info->pid, info->vps, (unsigned long long)info->memory_bytes,
		       info->ending ? "true" : "false");
	} else {
		printf("%schild %s, process %d, %u processor%s, %llu KiB%s\n",
		       l->children ? "\n" : "", info->name, info->pid, info->vps,
		       info->vps == 1 ? "" : "s", (unsigned long long)info->memory_bytes / 1024,
		       info->ending ? ", gone: its devices are closing" : "");
	}
	l->children++;
	l->channels = 0;
}

static void channel_json(const struct listing *l, const struct vmbus_chan_info *info)
{
	const char *name = vmbus_class_name(&info->class_id);
	char guid[37];

	printf("%s\n      {\"relid\": %u, \"sub_index\": %u, ", l->channels ? "," : "", info->relid,
	       info->sub_index);
	vmbus_guid_format(&info->class_id, guid);
	json_member("class_id", guid);
	json_member("class", name ? name : "");
	vmbus_guid_format(&info->instance_id, guid);
	json_member("instance_id", guid);
	json_member("owner", info->vsp);
	json_member("state", info->state);
	printf("\"connection\": %u, \"target_vp\": %u, \"send_bytes\": %u, \"recv_bytes\": %u, "
	       "\"mirrored\": %s, \"faulted\": %s, \"subchannels\": %u, \"opens\": %llu}",
	       info->conn_id, info->target_vp, info->send_bytes, info->recv_bytes,
	       info->mirrored ? "true" : "false", info->faulted ? "true" : "false",
	       info->subchannels, (unsigned long long)info->opens);
}

static void channel_row(const struct listing *l, const struct vmbus_chan_info *info)
{
	const char *name = vmbus_class_name(&info->class_id);
	char class_id[37], instance_id[37], rings[32] = "-";

	if (l->channels == 0)
		printf("  %5s %3s  %-12s %-12s %-16s %-13s %4s %5s  %-36s  %s\n", "relid", "sub",
		       "class", "owner", "state", "rings KiB", "subs", "opens", "instance",
		       "class GUID");
	if (info->send_bytes || info->recv_bytes)
		(void)snprintf(rings, sizeof(rings), "%u+%u%s%s", info->send_bytes / 1024,
			       info->recv_bytes / 1024, info->mirrored ? " m" : "",
			       info->faulted ? " !" : "");
	vmbus_guid_format(&info->class_id, class_id);
	vmbus_guid_format(&info->instance_id, instance_id);
	printf("  %5u %3u  %-12s %-12s %-16s %-13s %4u %5llu  %-36s  %s\n", info->relid,
	       info->sub_index, name ? name : "-", info->vsp, info->state, rings, info->subchannels,
	       (unsigned long long)info->opens, instance_id, class_id);
}

static void channel(void *ctx, const struct vmbus_chan_info *info)
{
	struct listing *const l = ctx;

	if (l->json)
		channel_json(l, info);
	else
		channel_row(l, info);
	l->channels++;
}

int ctl_failed(const char *path, int err)
{
	const int no = errno;

	fprintf(stderr, "vmbusctl: %s: ", path);
	switch (err) {
	case VMBUS_E_AGAIN:
		fputs("no complete answer in time; is the parent dispatching? -t sets the time\n",
		      stderr);
		break;
	case VMBUS_E_PEER:
		fputs("the answer makes no sense; who listens there is no parent of ours\n",
		      stderr);
		break;
	case VMBUS_E_NOTSUP:
		fputs("the parent is of another version: it does not know this question\n", stderr);
		break;
	case VMBUS_E_RANGE:
		fputs("a path of a socket has 1 to 107 bytes\n", stderr);
		break;
	default:
		fprintf(stderr, "%s (errno %d)%s\n", strerror(no), no,
			no == ENOENT || no == ECONNREFUSED
				? ": no parent listens there; start it, or name its socket with -s"
			: no == EACCES || no == EPERM
				? ": run as the socket's owner, or have the parent set its mode"
			: no == EPROTOTYPE
				? ": a socket of another kind listens there, no parent of ours"
			: no == EMFILE ? ": raise ulimit -n"
				       : "");
		break;
	}
	return CTL_FAILED;
}

int ctl_list(const char *path, bool json, uint64_t timeout_ns)
{
	const struct vmbus_shm_list_ops ops = { .struct_bytes = sizeof(ops),
						.child = child,
						.channel = channel };
	struct listing l = { .json = json };
	int n;

	if (json) {
		printf("{\"schema\": \"vmbusctl-list/1\", \"socket\": ");
		ctl_json_string(path);
		printf(", \"children\": [");
	}
	n = vmbus_shm_list(path, timeout_ns, &ops, &l);
	if (n >= 0 || json)
		end_child(&l);
	if (json)
		printf("%s], \"complete\": %s}\n", l.children ? "\n  " : "",
		       n >= 0 ? "true" : "false");
	if (n < 0)
		return ctl_failed(path, n);
	if (!json && l.children == 0)
		puts("no child is attached");
	return CTL_OK;
}
