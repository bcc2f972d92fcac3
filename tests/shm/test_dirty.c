/* SPDX-License-Identifier: MIT */
/*
 * The option dirty: every byte of a child's memory that the parent changes lies in a page that is
 * marked.  Parent and child take turns in one thread, so what changes within the parent's turn is the
 * parent's.
 */
#include "shm/local.h"

#define BYTES ((size_t)16 << 20) /* what a child has that asks for nothing */
#define PAGES (BYTES / VMBUS_PAGE_BYTES)

static struct {
	struct host host;
	struct local local;
	uint8_t *map;	 /* the child's memory */
	uint8_t *before; /* a copy of it */
	uint64_t *marks;
	unsigned int changed, unmarked;
	bool every[PAGES]; /* pages that the parent changed at any time */
} t;

/* One turn of the parent, with its changes looked at. */
static void parent_turn(void)
{
	uint64_t taken[PAGES / 64];
	size_t page, i;

	memcpy(t.before, t.map, BYTES);
	must(vmbus_shm_server_dispatch(t.host.server, 64) >= 0);
	for (i = 0; i < PAGES / 64; i++)
		taken[i] = __atomic_exchange_n(&t.marks[i], 0, __ATOMIC_ACQUIRE);
	for (page = 0; page < PAGES; page++) {
		const size_t at = page * VMBUS_PAGE_BYTES;

		if (memcmp(t.before + at, t.map + at, VMBUS_PAGE_BYTES) == 0)
			continue;
		t.every[page] = true;
		t.changed++;
		t.unmarked += !(taken[page / 64] >> page % 64 & 1u);
	}
}

/* Both, until the child has what it waits for. */
#define run_until(cond)                                                                            \
	do {                                                                                       \
		const uint64_t end_ns = vmbus__shm_now_ns() + 10ull * SECOND_NS;                   \
		while (!(cond)) {                                                                  \
			must(vmbus_shm_attach_dispatch(t.local.attach, 64) >= 0);                  \
			parent_turn();                                                             \
			must(vmbus__shm_now_ns() < end_ns);                                        \
		}                                                                                  \
	} while (0)

static unsigned int completions;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc, (void)cookie;
	completions += pkt != NULL;
}

/* The child's memory as this process has mapped it for the parent. */
static uint8_t *find_map(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	uint8_t *found = NULL;
	char line[512];

	must(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "memfd:vmbus") && sscanf(line, "%lx-%lx", &from, &to) == 2 &&
		    to - from >= BYTES)
			found = (uint8_t *)(uintptr_t)from; /* NOLINT: an address is what it is */
	fclose(f);
	return found;
}

static void begin(void)
{
	uint64_t pages = 0;

	host_init(&t.host);
	t.host.opts.dirty = true;
	t.host.channels = 2;
	host_listen(&t.host);
	local_attach(&t.host, &t.local);
	t.marks = vmbus_shm_child_dirty(t.host.child, &pages);
	must(t.marks != NULL);
	must_eq(pages, PAGES);
	/* The mailbox, and the pages of the first processor, were set up. */
	must((t.marks[0] & 0xDu) == 0xDu);
	t.map = find_map();
	must(t.map != NULL);
	t.before = malloc(BYTES);
	must(t.before != NULL);
}

START_TEST(child_dirty__every_byte_changed_lies_in_a_marked_page)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
					     .send_bytes = 16384,
					     .recv_bytes = 16384,
					     .completed = completed };
	static uint8_t data[1500];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = 1500 };
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc;
	uint32_t page, pages = 0, sent = 0;

	begin();
	guest = vmbus_shm_guest(t.local.attach);
	must_eq(vmbus_guest_connect(guest), 0);
	run_until(vmbus_guest_state(guest) == VMBUS_GUEST_CONNECTED);
	vsc = vmbus_vsc_find(guest, &echo_class, 0);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	run_until(vmbus_vsc_state(vsc) == VMBUS_VSC_OPEN);
	while (completions < 40) { /* more than once around */
		data[0] = (uint8_t)sent;
		if (sent < completions + 4 && vmbus_vsc_request(vsc, &msg, NULL) == 0)
			sent++;
		must(vmbus_shm_attach_dispatch(t.local.attach, 64) >= 0);
		parent_turn();
	}
	must_eq(vmbus_vsc_close(vsc), 0);
	run_until(vmbus_vsc_state(vsc) == VMBUS_VSC_OFFERED);
	must_eq(t.unmarked, 0);
	for (page = 0; page < PAGES; page++)
		pages += t.every[page];
	/* Mailbox, flags, messages, their flags, and the rings' pages: control and data. */
	must(t.every[0] && t.every[1] && t.every[2] && t.every[3]);
	must(pages >= 4 + 4 + 1);
	must(pages < 4 + 10);
	must(t.changed > 40);
	vmbus_shm_detach(t.local.attach);
	free(t.before);
	host_until(&t.host, t.host.detached == 1);
	host_close(&t.host);
}
END_TEST

START_TEST(child_dirty__is_an_option)
{
	struct local local;
	struct host host;

	host_open(&host);
	local_attach(&host, &local);
	must(vmbus_shm_child_dirty(host.child, NULL) == NULL);
	vmbus_shm_detach(local.attach);
	host_close(&host);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "dirty", 8);

	tcase_add_test(tc, child_dirty__every_byte_changed_lies_in_a_marked_page);
	tcase_add_test(tc, child_dirty__is_an_option);
}

VMBUS_TEST_MAIN("shm.dirty", tests)
