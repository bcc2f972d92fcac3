/* SPDX-License-Identifier: MIT */
/*
 * The options of a bus: what is refused is told by the log that they name, with the member, its
 * value and what it must be.
 */
#include "bus/bus.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bus/record.h"

#define LINE_BYTES 320

__attribute__((format(printf, 3, 4))) static int refuse(const struct vmbus_bus_opts *opts, int err,
							const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;
	int n;

	if (!opts->log)
		return err;
	n = snprintf(line, sizeof(line), "%.63s: no bus: opts.", opts->name ? opts->name : "child");
	va_start(args, format);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	if ((size_t)n < sizeof(line))
		(void)snprintf(line + n, sizeof(line) - (size_t)n, " (%s)", vmbus_err_name(err));
	opts->log(opts->log_ctx, VMBUS_LOG_ERROR, line);
	return err;
}

static int check_backend(const struct vmbus_bus_opts *opts)
{
	const struct vmbus_backend *const be = opts->backend;

	if (!be)
		return refuse(opts, VMBUS_E_INVAL, "backend is NULL");
	if (be->struct_bytes < sizeof(*be))
		return refuse(opts, VMBUS_E_INVAL, "backend->struct_bytes is %zu, must be %zu",
			      be->struct_bytes, sizeof(*be));
	if (!be->post || !be->raise)
		return refuse(opts, VMBUS_E_INVAL, "backend->%s is NULL",
			      be->post ? "raise" : "post");
	if (be->bind && !be->unbind)
		return refuse(opts, VMBUS_E_INVAL, "backend->bind is set without unbind");
	return 0;
}

/* Either set up, or all of it zero: a limit without struct_bytes was forgotten, not left out. */
static int check_limits(const struct vmbus_bus_opts *opts)
{
	static const struct vmbus_srv_opts none;
	const struct vmbus_srv_opts *const limits = &opts->limits;

	if (limits->struct_bytes == 0) {
		if (memcmp(limits, &none, sizeof(none)) == 0)
			return 0;
		return refuse(opts, VMBUS_E_INVAL, "limits are set without limits.struct_bytes");
	}
	if (limits->struct_bytes < sizeof(*limits))
		return refuse(opts, VMBUS_E_INVAL, "limits.struct_bytes is %zu, must be %zu",
			      limits->struct_bytes, sizeof(*limits));
	if (limits->list_get || limits->list_put)
		return refuse(opts, VMBUS_E_INVAL, "limits.list_get and list_put must be NULL");
	if (limits->chans_max > VMBUS_RELID_MAX)
		return refuse(opts, VMBUS_E_RANGE,
			      "limits.chans_max is %" PRIu32 ", must be at most %u",
			      limits->chans_max, VMBUS_RELID_MAX);
	if (vmbus_srv_bytes(limits) == 0)
		return refuse(opts, VMBUS_E_RANGE,
			      "limits: gpadls_max %" PRIu32 ", queue_max %" PRIu32
			      ", tl_max %" PRIu32 ", version_max 0x%" PRIx32
			      " or features 0x%" PRIx32 " is past what vmbus_srv_init(3) takes",
			      limits->gpadls_max, limits->queue_max, limits->tl_max,
			      limits->version_max, limits->features);
	return 0;
}

static int check_record(const struct vmbus_bus_opts *opts)
{
	if (!opts->record)
		return 0;
	if ((uintptr_t)opts->record % VMBUS__RECORD_ALIGN)
		return refuse(opts, VMBUS_E_INVAL, "record is %p, must be aligned to %u bytes",
			      opts->record, VMBUS__RECORD_ALIGN);
	if (opts->record_bytes < VMBUS_RECORD_BYTES_MIN ||
	    opts->record_bytes > VMBUS__RECORD_BYTES_MAX)
		return refuse(opts, VMBUS_E_RANGE, "record_bytes is %zu, must be %zu to %zu",
			      opts->record_bytes, (size_t)VMBUS_RECORD_BYTES_MIN,
			      (size_t)VMBUS__RECORD_BYTES_MAX);
	return 0;
}

int vmbus__opts_check(const struct vmbus_bus_opts *opts)
{
	int err;

	if (!opts || opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL; /* then log is not where it should be */
	err = check_backend(opts);
	if (!err)
		err = check_limits(opts);
	if (!err)
		err = check_record(opts);
	if (err)
		return err;
	if (opts->posts_max > VMBUS__INBOX)
		return refuse(opts, VMBUS_E_RANGE, "posts_max is %" PRIu32 ", must be at most %u",
			      opts->posts_max, VMBUS__INBOX);
	if (opts->region_count && !opts->regions)
		return refuse(opts, VMBUS_E_INVAL, "regions is NULL, region_count %" PRIu32,
			      opts->region_count);
	if (opts->region_count > VMBUS_REGIONS_MAX)
		return refuse(opts, VMBUS_E_RANGE,
			      "region_count is %" PRIu32 ", must be at most %u", opts->region_count,
			      VMBUS_REGIONS_MAX);
	return 0;
}

static int refuse_number(const struct vmbus_bus_opts *opts, int err, uint32_t n, const char *member,
			 uint64_t value, const char *must)
{
	return refuse(opts, err, "regions[%" PRIu32 "]->%s is 0x%" PRIx64 ", must be %s", n, member,
		      value, must);
}

/* Why a map refused region n, after it had taken those before. */
static int tell_region(const struct vmbus_bus_opts *opts, uint32_t n, int err)
{
	const struct vmbus_region *const region = opts->regions[n];

	if (!region)
		return refuse(opts, err, "regions[%" PRIu32 "] is NULL", n);
	if (!region->host)
		return refuse(opts, err, "regions[%" PRIu32 "]->host is NULL", n);
	if (region->access == 0 || region->access > VMBUS_READ_WRITE)
		return refuse_number(opts, err, n, "access", region->access,
				     "an enum vmbus_access");
	if (region->gpa % VMBUS_PAGE_BYTES)
		return refuse_number(opts, err, n, "gpa", region->gpa, "a multiple of 4096");
	if (region->bytes == 0 || region->bytes % VMBUS_PAGE_BYTES)
		return refuse_number(opts, err, n, "bytes", region->bytes,
				     "a multiple of 4096, and not 0");
	if (region->bytes - 1 > UINT64_MAX - region->gpa)
		return refuse_number(opts, err, n, "bytes", region->bytes,
				     "less: the end is past the last address");
	return refuse_number(opts, err, n, "gpa", region->gpa,
			     "outside of the regions before it: they overlap");
}

void vmbus__opts_tell_regions(const struct vmbus_bus_opts *opts, int err)
{
	struct vmbus_mem map;
	uint32_t n = 1;

	while (n < opts->region_count && vmbus_mem_init(&map, opts->regions, n, NULL) == 0)
		n++;
	(void)tell_region(opts, n - 1u, err);
}
