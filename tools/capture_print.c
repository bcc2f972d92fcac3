/* SPDX-License-Identifier: MIT */
/* vmbusctl capture --print: the records of a file, as lines or as JSON. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "capture.h"

#define BYTES_SHOWN 32u

static long read_in(void *ctx, void *bytes, size_t n)
{
	FILE *const in = ctx;
	const size_t got = fread(bytes, 1, n, in);

	return got == 0 && ferror(in) ? VMBUS_E_SYSTEM : (long)got;
}

struct vmbus_capture_reader *ctl_capture_open(const char *path, FILE **file)
{
	FILE *const in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
	const struct vmbus_capture_reader_opts opts = { .struct_bytes = sizeof(opts),
							.read = read_in,
							.ctx = in };
	struct vmbus_capture_reader *reader = NULL;

	*file = in;
	if (!in || vmbus_capture_reader_create(&opts, &reader))
		fprintf(stderr, "vmbusctl: %s: %s (errno %d)\n", path, strerror(errno), errno);
	if (in && !reader)
		fclose(in);
	return reader;
}

int ctl_capture_failed(const char *path, const struct vmbus_capture_reader *reader, int err)
{
	const char *const why = vmbus_capture_reader_why(reader);

	fprintf(stderr, "vmbusctl: %s: %s\n", path,
		*why			? why
		: err == VMBUS_E_SYSTEM ? strerror(errno)
					: vmbus_err_name(err));
	return CTL_FAILED;
}

struct printer {
	bool json;
	uint64_t number;
	uint64_t first_ns;
	uint64_t dropped;
};

static void hex(const uint8_t *bytes, uint32_t n, uint32_t most)
{
	uint32_t i;

	for (i = 0; i < n && i < most; i++)
		printf("%02x", bytes[i]);
}

static const char *direction(uint32_t dir)
{
	return dir == VMBUS_CAPTURE_FROM_CHILD ? "from" : "to";
}

static void packet(const struct printer *p, const struct vmbus_capture_record *r)
{
	const uint32_t ext = r->ext_len < r->data_len ? r->ext_len : r->data_len;

	if (p->json) {
		printf(", \"direction\": \"%s child\", \"batch\": %llu, \"type\": \"%s\", "
		       "\"id\": %llu, \"completion\": %s, \"header_bytes\": %u, "
		       "\"payload_bytes\": %u, \"header\": \"",
		       direction(r->dir), (unsigned long long)r->batch,
		       vmbus_wire_type_name(r->type), (unsigned long long)r->id,
		       r->flags & VMBUS_PKT_FLAG_COMPLETE ? "true" : "false", r->ext_len, r->len);
		hex(r->data, ext, UINT32_MAX);
		printf("\", \"payload\": \"");
		hex(r->data + ext, r->data_len - ext, UINT32_MAX);
		putchar('"');
		return;
	}
	printf("%-4s batch %llu  %s  id %llu%s", direction(r->dir), (unsigned long long)r->batch,
	       vmbus_wire_type_name(r->type), (unsigned long long)r->id,
	       r->flags & VMBUS_PKT_FLAG_COMPLETE ? " wants completion" : "");
	if (r->ext_len)
		printf("  header %u", r->ext_len);
	printf("  %u bytes", r->len);
	if (r->data_len < r->ext_len + r->len)
		printf(" (%u kept)", r->data_len - ext);
	printf("%s", r->data_len > ext ? "  " : "");
	hex(r->data + ext, r->data_len - ext, BYTES_SHOWN);
	if (r->data_len - ext > BYTES_SHOWN)
		printf("...");
}

static void channel(const struct printer *p, const struct vmbus_capture_record *r)
{
	struct vmbus_capture_channel body;
	char class_id[37], instance_id[37];
	const char *name;

	if (vmbus_capture_channel_get(r, &body))
		return;
	vmbus_guid_format(&body.class_id, class_id);
	vmbus_guid_format(&body.instance_id, instance_id);
	name = vmbus_class_name(&body.class_id);
	if (p->json) {
		printf(", \"child\": ");
		ctl_json_string(body.child);
		printf(", \"owner\": ");
		ctl_json_string(body.vsp);
		printf(", \"relid\": %u, \"sub_index\": %u, \"class\": \"%s\", "
		       "\"class_id\": \"%s\", \"instance_id\": \"%s\", \"snap\": %u",
		       body.relid, body.sub_index, name ? name : "", class_id, instance_id,
		       body.snap);
		return;
	}
	printf("     channel %u.%u of %s, %s, class %s, instance %s", body.relid, body.sub_index,
	       body.child, body.vsp, class_id, instance_id);
}

static void opening(const struct printer *p, const struct vmbus_capture_record *r)
{
	struct vmbus_capture_open body;

	if (vmbus_capture_open_get(r, &body))
		return;
	if (p->json)
		printf(", \"already\": %s, \"from_bytes\": %u, \"to_bytes\": %u, \"target_vp\": "
		       "%u, \"data\": \"",
		       body.flags & VMBUS_CAPTURE_OPEN_ALREADY ? "true" : "false", body.from_bytes,
		       body.to_bytes, body.target_vp);
	else
		printf("     open%s, rings of %u and %u KiB, VP %d, data ",
		       body.flags & VMBUS_CAPTURE_OPEN_ALREADY ? " already" : "",
		       body.from_bytes / 1024, body.to_bytes / 1024, (int)body.target_vp);
	hex(body.user, sizeof(body.user), p->json ? UINT32_MAX : 16);
	fputs(p->json ? "\"" : "...", stdout);
}

static void closing(const struct printer *p, const struct vmbus_capture_record *r)
{
	struct vmbus_capture_close body;

	if (vmbus_capture_close_get(r, &body))
		return;
	if (p->json) {
		printf(", \"error\": \"%s\", \"why\": ", body.err ? vmbus_err_name(body.err) : "");
		ctl_json_string(body.why);
		return;
	}
	printf("     closed%s%s%s%s", body.err ? ", " : "",
	       body.err ? vmbus_err_name(body.err) : "", body.why[0] ? ": " : "", body.why);
}

static void record(struct printer *p, const struct vmbus_capture_record *r)
{
	static const char *const kinds[] = { "", "packet", "open", "close", "channel" };
	uint64_t at;

	if (p->number++ == 0)
		p->first_ns = r->time_ns;
	p->dropped += r->dropped;
	at = r->time_ns > p->first_ns ? r->time_ns - p->first_ns : 0;
	if (p->json)
		printf("%s\n  {\"number\": %llu, \"time_ns\": %llu, \"channel\": %u, \"kind\": "
		       "\"%s\", \"dropped_before\": %llu",
		       p->number > 1 ? "," : "", (unsigned long long)p->number,
		       (unsigned long long)r->time_ns, r->channel, kinds[r->kind],
		       (unsigned long long)r->dropped);
	else if (r->dropped)
		printf("%8s %llu records were dropped here\n", "", (unsigned long long)r->dropped);
	if (!p->json)
		printf("%8llu %5llu.%09llu #%u ", (unsigned long long)p->number,
		       (unsigned long long)(at / 1000000000u),
		       (unsigned long long)(at % 1000000000u), r->channel);
	if (r->kind == VMBUS_CAPTURE_PACKET)
		packet(p, r);
	else if (r->kind == VMBUS_CAPTURE_CHANNEL)
		channel(p, r);
	else if (r->kind == VMBUS_CAPTURE_OPEN)
		opening(p, r);
	else
		closing(p, r);
	fputs(p->json ? "}" : "\n", stdout);
}

int ctl_capture_print(const char *path, bool json)
{
	struct vmbus_capture_record r;
	struct printer p = { .json = json };
	struct vmbus_capture_reader *reader;
	FILE *file;
	int got, status = CTL_OK;

	reader = ctl_capture_open(path, &file);
	if (!reader)
		return CTL_FAILED;
	if (json)
		printf("{\"schema\": \"vmbusctl-capture/1\", \"records\": [");
	while ((got = vmbus_capture_reader_next(reader, &r)) == 1)
		record(&p, &r);
	if (json)
		printf("%s], \"dropped\": %llu, \"complete\": %s}\n", p.number ? "\n" : "",
		       (unsigned long long)p.dropped, got == 0 ? "true" : "false");
	if (got < 0)
		status = ctl_capture_failed(path, reader, got);
	vmbus_capture_reader_destroy(reader);
	fclose(file);
	return status;
}
