/* SPDX-License-Identifier: MIT */
/* Where a child's memory lies: on a NUMA node, in huge pages; with data through it. */
#include "shm/local.h"

#include <numa.h>
#include <numaif.h>
#include <sys/vfs.h>

#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif

/* A mapping of the child's memory; where it lies is the memory's own, whoever maps it. */
static uint8_t *map_of(struct vmbus_shm_child *child)
{
	struct vmbus_bus *const bus = vmbus_shm_child_bus(child);
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long from = 0;
	char line[512];

	must(bus && f != NULL);
	while (!from && fgets(line, sizeof(line), f))
		if (strstr(line, "memfd:vmbus"))
			must_eq(sscanf(line, "%lx-", &from), 1);
	fclose(f);
	must(from != 0);
	return (uint8_t *)(uintptr_t)from;
}

/* Attach and say what came of it; the server is dispatched meanwhile. */
static int try_attach(struct host *host, struct local *local, bool huge)
{
	memset(local, 0, sizeof(*local));
	local->opts.struct_bytes = sizeof(local->opts);
	local->opts.path = host->path;
	local->opts.allow_huge_pages = huge;
	must_eq(pthread_create(&local->thread, NULL, local_thread, local), 0);
	host_until(host, __atomic_load_n(&local->done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(local->thread, NULL), 0);
	return local->result;
}

static unsigned int completions;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc, (void)cookie;
	completions += pkt && pkt->len == 1504;
}

#define local_until(cond)                                                                          \
	do {                                                                                       \
		const uint64_t end_ns = vmbus__shm_now_ns() + 10ull * SECOND_NS;                   \
		while (!(cond)) {                                                                  \
			must(vmbus_shm_attach_dispatch(local->attach, 64) >= 0);                   \
			must(vmbus_shm_server_dispatch(host->server, 64) >= 0);                    \
			must(vmbus__shm_now_ns() < end_ns);                                        \
		}                                                                                  \
	} while (0)

/* A hundred requests through rings in that memory. */
static void talk(struct host *host, struct local *local)
{
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = completed };
	static uint8_t data[1500];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = 1500 };
	struct vmbus_guest *const guest = vmbus_shm_guest(local->attach);
	struct vmbus_vsc *vsc;
	unsigned int i;

	must_eq(vmbus_guest_connect(guest), 0);
	local_until(vmbus_guest_state(guest) == VMBUS_GUEST_CONNECTED);
	vsc = vmbus_vsc_find(guest, &echo_class, 0);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	local_until(vmbus_vsc_state(vsc) == VMBUS_VSC_OPEN);
	for (i = 0; i < 100; i++) {
		must_eq(vmbus_vsc_request(vsc, &msg, NULL), 0);
		local_until(completions > i);
	}
}

static void finish(struct host *host, struct local *local)
{
	vmbus_shm_detach(local->attach);
	host_until(host, host->detached == 1);
	host_close(host);
	must_eq(count_memory(), 0);
}

START_TEST(on_node__memory_is_bound_and_lies_there)
{
	unsigned long mask[32] = { 0 };
	struct local local;
	struct host host;
	int mode = -1, node = -1, last;
	uint8_t *map;

	if (numa_available() < 0)
		VMBUS_TEST_SKIP("no NUMA in this kernel");
	for (last = numa_max_node(); !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)last);)
		last--;
	host_init(&host);
	host.opts.on_node = true;
	host.opts.node = (uint32_t)last;
	host.channels = 1;
	host_listen(&host);
	if (try_attach(&host, &local, false)) {
		must(strstr(host.line, "PERM") || strstr(host.line, "NOTSUP"));
		host_close(&host);
		VMBUS_TEST_SKIP("not allowed to place memory (mbind)");
	}
	talk(&host, &local);
	map = map_of(host.child);
	must_eq(get_mempolicy(&mode, mask, sizeof(mask) * 8, map, MPOL_F_ADDR), 0);
	must_eq(mode, MPOL_BIND);
	must_eq(mask[last / 64], 1ul << last % 64);
	must_eq(get_mempolicy(&node, NULL, 0, map, MPOL_F_NODE | MPOL_F_ADDR), 0);
	must_eq(node, last); /* of the first page, which is in use */
	finish(&host, &local);
	if (last == 0)
		printf("one node only: the memory is bound to it, but could lie nowhere else\n");
}
END_TEST

START_TEST(huge_pages__carry_data)
{
	struct local local;
	struct statfs fs;
	struct host host;
	int fd, is_huge = 0;

	host_init(&host);
	host.opts.huge_pages = true;
	host.channels = 1;
	host_listen(&host);
	if (try_attach(&host, &local, true)) {
		must_eq(host.attached, 0);
		host_close(&host);
		VMBUS_TEST_SKIP("no huge page is free (vm.nr_hugepages); 8 of 2 MiB are needed");
	}
	for (fd = 3; fd < 256; fd++) {
		if (fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC)
			is_huge++;
	}
	must(is_huge >= 1);
	talk(&host, &local);
	finish(&host, &local);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "place", 8);

	tcase_add_test(tc, on_node__memory_is_bound_and_lies_there);
	tcase_add_test(tc, huge_pages__carry_data);
}

VMBUS_TEST_MAIN("shm.place", tests)
