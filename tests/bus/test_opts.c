/* SPDX-License-Identifier: MIT */
/* Options of a bus that are refused, and what the log says of them. */
#include "fake.h"

static uint64_t *no_list(void *ctx, uint32_t qwords)
{
	(void)ctx;
	(void)qwords;
	return NULL;
}

/* What an embedder got wrong, and what the log says of it. */
static void wrong_backend(struct fake *f)
{
	f->backend.raise = NULL;
}

static void wrong_limits(struct fake *f)
{
	f->opts.limits.tl_max = 5;
}

static void wrong_chans(struct fake *f)
{
	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .chans_max = 2048 };
}

static void wrong_queue(struct fake *f)
{
	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .queue_max = 5000 };
}

static void wrong_list_get(struct fake *f)
{
	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .list_get = no_list };
}

static void no_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	(void)ctx;
	(void)list;
	(void)qwords;
}

static void wrong_list_put(struct fake *f)
{
	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .list_put = no_put };
}

static void wrong_posts(struct fake *f)
{
	f->opts.posts_max = 65;
}

static void wrong_record(struct fake *f)
{
	f->opts.record = f->mem;
	f->opts.record_bytes = 100;
}

static void wrong_count(struct fake *f)
{
	f->opts.region_count = 65;
}

static void wrong_bytes(struct fake *f)
{
	f->region.bytes = 0x1001;
}

static void wrong_gpa(struct fake *f)
{
	f->region.gpa = 0x1234;
}

static void wrong_host(struct fake *f)
{
	f->region.host = NULL;
}

static void wrong_access(struct fake *f)
{
	f->region.access = 0;
}

static void wrong_end(struct fake *f)
{
	f->region.gpa = UINT64_MAX - 4095;
}

static void wrong_overlap(struct fake *f)
{
	static struct vmbus_region other;
	static struct vmbus_region *both[2];

	other = f->region;
	other.gpa = 0x1000;
	both[0] = &f->region;
	both[1] = &other;
	f->opts.regions = both;
	f->opts.region_count = 2;
}

static void wrong_null(struct fake *f)
{
	f->regions[0] = NULL;
}

static const struct {
	void (*fn)(struct fake *f);
	int err;
	const char *line;
} wrongs[] = {
	{ wrong_backend, VMBUS_E_INVAL, "kid: no bus: opts.backend->raise is NULL (INVAL)" },
	{ wrong_limits, VMBUS_E_INVAL, "opts.limits are set without limits.struct_bytes" },
	{ wrong_chans, VMBUS_E_RANGE, "opts.limits.chans_max is 2048, must be at most 2047" },
	{ wrong_queue, VMBUS_E_RANGE, "queue_max 5000," },
	{ wrong_list_get, VMBUS_E_INVAL, "opts.limits.list_get and list_put must be NULL (INVAL)" },
	{ wrong_list_put, VMBUS_E_INVAL, "opts.limits.list_get and list_put must be NULL (INVAL)" },
	{ wrong_posts, VMBUS_E_RANGE, "opts.posts_max is 65, must be at most 64 (RANGE)" },
	{ wrong_record, VMBUS_E_RANGE, "opts.record_bytes is 100, must be " },
	{ wrong_count, VMBUS_E_RANGE, "opts.region_count is 65, must be at most 64" },
	{ wrong_bytes, VMBUS_E_RANGE, "regions[0]->bytes is 0x1001, must be a multiple of 4096" },
	{ wrong_gpa, VMBUS_E_RANGE, "regions[0]->gpa is 0x1234, must be a multiple of 4096" },
	{ wrong_host, VMBUS_E_INVAL, "regions[0]->host is NULL" },
	{ wrong_access, VMBUS_E_INVAL, "regions[0]->access is 0x0" },
	{ wrong_end, VMBUS_E_RANGE, "regions[0]->bytes is 0x10000, must be less" },
	{ wrong_overlap, VMBUS_E_INVAL, "regions[1]->gpa is 0x1000" },
	{ wrong_null, VMBUS_E_INVAL, "regions[0] is NULL" },
};

START_TEST(bus_create__says_what_is_wrong)
{
	struct fake f;

	fake_prepare(&f, 16);
	wrongs[_i].fn(&f);
	must_eq(vmbus_bus_create(&f.opts, &f.bus), wrongs[_i].err);
	must_eq(f.lines, 1);
	if (!fake_logged(&f, wrongs[_i].line))
		ck_abort_msg("\"%s\", expected \"%s\"", f.last[0], wrongs[_i].line);
	f.opts.log = NULL; /* nobody listens: refused all the same */
	must_eq(vmbus_bus_create(&f.opts, &f.bus), wrongs[_i].err);
	must_eq(f.lines, 1);
	f.bus = NULL;
	fake_fini(&f);
}
END_TEST

START_TEST(bus_create__errors)
{
	struct fake f;
	struct vmbus_bus *bus;
	struct vmbus_bus_opts good;
	struct vmbus_region *twice[2];

	fake_prepare(&f, 16);
	good = f.opts;
#define BAD(change, err)                                                                           \
	do {                                                                                       \
		const uint64_t lines = f.lines;                                                    \
                                                                                                   \
		f.opts = good;                                                                     \
		change;                                                                            \
		must_eq(vmbus_bus_create(&f.opts, &bus), err);                                     \
		must_eq(f.lines - lines, f.opts.struct_bytes == sizeof(f.opts)); /* one line */    \
	} while (0)
	must_eq(vmbus_bus_create(NULL, &bus), VMBUS_E_INVAL);
	must_eq(vmbus_bus_create(&good, NULL), VMBUS_E_INVAL);
	BAD(f.opts.struct_bytes--, VMBUS_E_INVAL);
	BAD(f.opts.backend = NULL, VMBUS_E_INVAL);
	BAD(f.opts.regions = NULL, VMBUS_E_INVAL);
	BAD(f.opts.limits.list_get = no_list, VMBUS_E_INVAL);
	BAD(f.opts.limits.struct_bytes = 8, VMBUS_E_INVAL);
	BAD(f.opts.limits.chans_max = 5, VMBUS_E_INVAL); /* without its size */
	good.limits.struct_bytes = sizeof(good.limits);
	BAD(f.opts.limits.chans_max = 2048, VMBUS_E_RANGE);
	BAD(f.opts.limits.gpadls_max = 100000, VMBUS_E_RANGE);
	BAD((f.backend.post = NULL), VMBUS_E_INVAL);
	f.backend.post = fake_backend_post;
	BAD((f.backend.raise = NULL), VMBUS_E_INVAL);
	f.backend.raise = fake_backend_raise;
	BAD((f.backend.bind = fake_backend_bind), VMBUS_E_INVAL); /* without unbind */
	f.backend.bind = NULL;
	BAD(f.backend.struct_bytes--, VMBUS_E_INVAL);
	f.backend.struct_bytes++;
	twice[0] = twice[1] = &f.region;
	BAD((f.opts.regions = twice, f.opts.region_count = 2), VMBUS_E_INVAL);
	BAD((f.region.gpa = 8), VMBUS_E_RANGE);
	f.region.gpa = 0;
#undef BAD
	f.opts = good;
	f.opts.region_count = 0; /* memory may come later */
	f.opts.regions = NULL;
	fake_create(&f);
	ck_assert_str_eq(vmbus_bus_name(f.bus), "kid");
	must_eq(vmbus_bus_time(f.bus), 12345); /* [HV-MSR] */
	f.backend.time = NULL;		       /* the table is kept, not copied */
	must_eq(vmbus_bus_time(f.bus), 0);
	vmbus_bus_destroy(NULL);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *s)
{
	TCase *tc = vmbus_test_case(s, "opts", 20);

	tcase_add_test(tc, bus_create__errors);
	tcase_add_loop_test(tc, bus_create__says_what_is_wrong, 0,
			    (int)(sizeof(wrongs) / sizeof(wrongs[0])));
}

VMBUS_TEST_MAIN("bus.opts", tests)
