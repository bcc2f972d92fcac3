/* SPDX-License-Identifier: MIT */
/* Ring memory on a sealed memfd: backends/shm/ring_map.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm.h>

#include "vmbus_test.h"

static const enum vmbus_ring_window windows[] = { VMBUS_RING_PLAIN, VMBUS_RING_MIRRORED,
						  VMBUS_RING_SCATTERED };
#define WINDOWS 3

static uint64_t host_page(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct vmbus_shm_ring_opts opts_of(enum vmbus_ring_window window, uint32_t size)
{
	return (struct vmbus_shm_ring_opts){ .struct_bytes = sizeof(struct vmbus_shm_ring_opts),
					     .window = window,
					     .size = size };
}

/* Lines of this process's map that have that text in them; -1 where there is no such file. */
static int mappings(const char *text)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	fclose(f);
	return n;
}

static bool is_mapped(const void *p)
{
	unsigned char v;

	return mincore((void *)(uintptr_t)p, 1, &v) == 0;
}

START_TEST(shm_create__sealed_and_zeroed)
{
	static const uint64_t sizes[] = { 1, 4095, 4096, 4097, 1 << 20 };
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const int fd = vmbus_shm_create(sizes[i]);
		struct stat st;
		char c = 1;

		must(fd >= 0);
		must_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		must_eq(fcntl(fd, F_GET_SEALS) & all, all);
		must_eq(fstat(fd, &st), 0);
		must_eq(st.st_size, (sizes[i] + host_page() - 1) / host_page() * host_page());
		must_eq(ftruncate(fd, 0), -1);
		must_eq(errno, EPERM);
		must_eq(ftruncate(fd, 1 << 24), -1);
		must_eq(pread(fd, &c, 1, st.st_size - 1), 1);
		must_eq(c, 0);
		close(fd);
	}
}
END_TEST

START_TEST(shm_create__refuses_sizes)
{
	must_eq(vmbus_shm_create(0), VMBUS_E_RANGE);
	must_eq(vmbus_shm_create(((uint64_t)1 << 40) + 1), VMBUS_E_RANGE);
	must_eq(vmbus_shm_create(UINT64_MAX), VMBUS_E_RANGE);
}
END_TEST

START_TEST(shm_create__says_when_descriptors_run_out)
{
	struct rlimit limit;

	must_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	must_eq(vmbus_shm_create(4096), VMBUS_E_NOMEM);
	must_eq(errno, EMFILE);
	limit.rlim_cur = limit.rlim_max;
	must_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
END_TEST

START_TEST(shm_ring_bytes__whole_pages)
{
	const uint64_t head = host_page() > 4096 ? host_page() : 4096;

	must_eq(vmbus_shm_ring_bytes(4096), head + (host_page() > 4096 ? host_page() : 4096));
	must_eq(vmbus_shm_ring_bytes(65536), head + 65536);
	must_eq(vmbus_shm_ring_bytes(1u << 30), head + (1u << 30));
	must_eq(vmbus_shm_ring_bytes(1u << 30) % host_page(), 0);
}
END_TEST

/* A sender on one mapping and a receiver on another of the same memfd, in each pair of windows. */
START_TEST(shm_ring_map__two_windows_of_one_ring)
{
	const uint32_t size = 16384;
	struct vmbus_shm_ring_opts a = opts_of(windows[_i / WINDOWS], size);
	struct vmbus_shm_ring_opts b = opts_of(windows[_i % WINDOWS], size);
	struct vmbus_ring_opts end = { .struct_bytes = sizeof(end),
				       .buf_bytes = vmbus_ring_rx_buf_bytes(size) };
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(size) + 4 * host_page());
	const int before = mappings("memfd:");
	struct vmbus_shm_ring ra, rb;
	const void *map;
	static struct vmbus_ring_tx tx;
	static struct vmbus_ring_rx rx;
	struct vmbus_packet pkt;
	static uint8_t data[3000];
	uint32_t k, j;

	a.offset = b.offset = 3 * host_page();
	must_eq(vmbus_shm_ring_map(&ra, fd, &a), 0);
	must_eq(vmbus_shm_ring_map(&rb, fd, &b), 0);
	close(fd); /* the mappings keep the memory */
	end.buf = malloc(end.buf_bytes);
	vmbus_ring_mem_clear(&ra.mem);
	must_eq(vmbus_ring_tx_init(&tx, &ra.mem, NULL), 0);
	must_eq(vmbus_ring_rx_init(&rx, &rb.mem, &end), 0);
	for (k = 0; k < 400; k++) {
		struct vmbus_msg msg = { .id = k,
					 .type = VMBUS_PKT_INBAND,
					 .data = data,
					 .len = k * 61 % sizeof(data) };

		for (j = 0; j < msg.len; j++)
			data[j] = (uint8_t)(k + j * 3);
		must_eq(vmbus_ring_tx_put(&tx, &msg, 1), 1);
		must_eq(vmbus_ring_rx_get(&rx, &pkt, 1), 1);
		must_eq(pkt.id, k);
		must_eq(pkt.len, (msg.len + 7) / 8 * 8);
		must(memcmp(pkt.payload, data, msg.len) == 0);
	}
	free(end.buf);
	map = ra.map_p;
	vmbus_shm_ring_unmap(&ra);
	vmbus_shm_ring_unmap(&rb);
	must(!is_mapped(map));
	must_eq(mappings("memfd:"), before);
	vmbus_shm_ring_unmap(&ra); /* nothing mapped: nothing happens */
}
END_TEST

/* Two rings side by side in one memfd do not touch each other. */
START_TEST(shm_ring_map__offsets)
{
	const uint64_t bytes = vmbus_shm_ring_bytes(8192);
	const int fd = vmbus_shm_create(2 * bytes);
	struct vmbus_shm_ring_opts opts = opts_of(windows[_i], 8192);
	struct vmbus_shm_ring first, second;
	static struct vmbus_ring_tx tx;
	static uint8_t data[8000], zero[4096], page[4096];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = data,
				       .len = sizeof(data) };
	uint64_t at;

	must_eq(vmbus_shm_ring_map(&first, fd, &opts), 0);
	opts.offset = bytes;
	must_eq(vmbus_shm_ring_map(&second, fd, &opts), 0);
	memset(data, 0xff, sizeof(data));
	vmbus_ring_mem_clear(&second.mem);
	must_eq(vmbus_ring_tx_init(&tx, &second.mem, NULL), 0);
	must_eq(vmbus_ring_tx_put(&tx, &msg, 1), 1);
	for (at = 0; at < bytes; at += 4096) {
		must_eq(pread(fd, page, 4096, (off_t)at), 4096);
		must(memcmp(page, zero, 4096) == 0);
	}
	must_eq(pread(fd, page, 4096, (off_t)(2 * bytes - 8192)), 4096);
	must_eq(page[16], 0xff);
	must_eq(page[4095], 0xff);
	vmbus_shm_ring_unmap(&first);
	vmbus_shm_ring_unmap(&second);
	close(fd);
}
END_TEST

/* A failed call leaves no mapping behind, and storage that may be unmapped. */
static void must_refuse(int fd, const struct vmbus_shm_ring_opts *opts, int err)
{
	struct vmbus_shm_ring ring;
	const int before = mappings("memfd:"), reserved = mappings(" ---p ");
	int k;

	memset(&ring, 0x5a, sizeof(ring));
	for (k = 0; k < 3; k++)
		must_eq(vmbus_shm_ring_map(&ring, fd, opts), err);
	vmbus_shm_ring_unmap(&ring);
	must_eq(mappings("memfd:"), before);
	must_eq(mappings(" ---p "), reserved);
}

START_TEST(shm_ring_map__refuses_sizes_and_places)
{
	static const uint32_t sizes[] = { 0,	       1,	   4095,       4097,
					  6144,	       0x40000001, 0x40001000, 0x80000000u,
					  0xfffff000u, UINT32_MAX };
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(8192));
	struct vmbus_shm_ring_opts opts = opts_of(windows[_i], 8192);
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		opts.size = sizes[i];
		must_refuse(fd, &opts, VMBUS_E_RANGE);
	}
	opts.size = 8192;
	for (i = 1; i < 4096; i *= 2) {
		opts.offset = i;
		must_refuse(fd, &opts, VMBUS_E_INVAL);
	}
	opts.offset = host_page(); /* reaches past the end by a page */
	must_refuse(fd, &opts, VMBUS_E_RANGE);
	opts.offset = UINT64_MAX - host_page() + 1; /* a sum that wraps */
	must_refuse(fd, &opts, VMBUS_E_RANGE);
	opts.offset = (uint64_t)1 << 63;
	must_refuse(fd, &opts, VMBUS_E_RANGE);
	opts.offset = 0;
	opts.size = 16384;
	must_refuse(fd, &opts, VMBUS_E_RANGE);
	opts = opts_of(windows[_i], 8192);
	opts.struct_bytes--;
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	opts = opts_of((enum vmbus_ring_window)7, 8192);
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	close(fd);
}
END_TEST

/* What can shrink under us, or is no memfd, is refused. */
START_TEST(shm_ring_map__refuses_what_is_not_sealed)
{
	const struct vmbus_shm_ring_opts opts = opts_of(windows[_i], 8192);
	struct vmbus_shm_ring ring;
	int fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING), p[2];

	must(fd >= 0);
	must_eq(ftruncate(fd, (off_t)vmbus_shm_ring_bytes(8192)), 0);
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	must_eq(vmbus_shm_ring_map(&ring, fd, &opts), 0);
	vmbus_shm_ring_unmap(&ring);
	close(fd);
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	must_refuse(-1, &opts, VMBUS_E_INVAL);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	must_refuse(fd, &opts, VMBUS_E_INVAL);
	close(fd);
	must_eq(pipe(p), 0);
	must_refuse(p[0], &opts, VMBUS_E_INVAL);
	close(p[0]);
	close(p[1]);
}
END_TEST

/* A memfd that was sealed against writing: the system refuses, and we say so. */
/* The seal does not keep holes out of huge pages. */
START_TEST(shm_ring_map__refuses_huge_pages)
{
	const struct vmbus_shm_ring_opts opts = opts_of(VMBUS_RING_PLAIN, 4096);
	struct vmbus_shm_ring ring;
	const int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	if (fd < 0)
		VMBUS_TEST_SKIP("no huge pages in this kernel");
	must_eq(ftruncate(fd, 1 << 21), 0);
	must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	must_eq(vmbus_shm_ring_map(&ring, fd, &opts), VMBUS_E_INVAL);
	close(fd);
}
END_TEST

START_TEST(shm_ring_map__read_only_memory)
{
	const struct vmbus_shm_ring_opts opts = opts_of(windows[_i], 8192);
	const int fd = memfd_create("readable", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0);
	must_eq(ftruncate(fd, (off_t)vmbus_shm_ring_bytes(8192)), 0);
	must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);
	must_refuse(fd, &opts, VMBUS_E_PERM);
	close(fd);
}
END_TEST

START_TEST(shm_ring_map__no_such_node)
{
	static const uint32_t nodes[] = { 1000, 4096, 0x7fffffff, 0x80000000u, UINT32_MAX };
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(8192));
	struct vmbus_shm_ring_opts opts = opts_of(VMBUS_RING_MIRRORED, 8192);
	unsigned int i;

	opts.on_node = true;
	for (i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		opts.node = nodes[i];
		must_refuse(fd, &opts, VMBUS_E_NOTSUP);
	}
	close(fd);
}
END_TEST

START_TEST(shm_ring_map__on_node_0)
{
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(8192));
	struct vmbus_shm_ring_opts opts = opts_of(VMBUS_RING_MIRRORED, 8192);
	struct vmbus_shm_ring ring;
	int err;

	opts.on_node = true;
	err = vmbus_shm_ring_map(&ring, fd, &opts);
	close(fd);
	if (err == VMBUS_E_NOTSUP || err == VMBUS_E_PERM)
		VMBUS_TEST_SKIP("no NUMA here, or not allowed");
	must_eq(err, 0);
	vmbus_ring_mem_clear(&ring.mem);
	vmbus_shm_ring_unmap(&ring);
}
END_TEST

/* What follows the window is reserved or gone: a stray access faults instead of hitting others. */
START_TEST(shm_ring_unmap__nothing_stays)
{
	const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(65536));
	const struct vmbus_shm_ring_opts opts = opts_of(windows[_i], 65536);
	struct vmbus_shm_ring ring;
	const uint8_t *map;
	size_t bytes, at;

	must_eq(vmbus_shm_ring_map(&ring, fd, &opts), 0);
	map = ring.map_p;
	bytes = ring.map_bytes_p;
	must(bytes >= vmbus_shm_ring_bytes(65536));
	must(is_mapped(map));
	vmbus_shm_ring_unmap(&ring);
	for (at = 0; at < bytes; at += host_page())
		must(!is_mapped(map + at));
	must(ring.map_p == NULL);
	close(fd);
}
END_TEST

/* The mapping works in pages of the protocol, whatever the host's are: sizes of 4096 times n. */
START_TEST(lesson_32_sizes_in_pages_of_4096)
{
	uint32_t n;

	for (n = 1; n <= 17; n++) {
		const uint32_t size = n * 4096;
		struct vmbus_shm_ring_opts opts = opts_of(windows[_i], size);
		const int fd = vmbus_shm_create(vmbus_shm_ring_bytes(size));
		struct vmbus_shm_ring ring;
		int err = vmbus_shm_ring_map(&ring, fd, &opts);

		close(fd);
		if (windows[_i] == VMBUS_RING_MIRRORED && size % host_page()) {
			must_eq(err, VMBUS_E_RANGE);
			continue;
		}
		must_eq(err, 0);
		must_eq(ring.mem.size_p, size);
		/* No more than the ring, its control page and the rounding to the host's page. */
		must(vmbus_shm_ring_bytes(size) < size + 4096 + 2 * host_page());
		vmbus_shm_ring_unmap(&ring);
	}
}
END_TEST

START_TEST(err_to_errno__of_each_error)
{
	static const struct {
		int err, number;
	} table[] = {
		{ 0, 0 },
		{ 5, 0 },
		{ INT_MAX, 0 },
		{ VMBUS_E_AGAIN, EAGAIN },
		{ VMBUS_E_FULL, ENOBUFS },
		{ VMBUS_E_INVAL, EINVAL },
		{ VMBUS_E_RANGE, ERANGE },
		{ VMBUS_E_STATE, EBUSY },
		{ VMBUS_E_PEER, EPROTO },
		{ VMBUS_E_FAULT, ENOTCONN },
		{ VMBUS_E_NOMEM, ENOMEM },
		{ VMBUS_E_PERM, EPERM },
		{ VMBUS_E_NOTSUP, ENOTSUP },
		{ VMBUS_E_SYSTEM, EIO },
		{ -99, EIO },
		{ INT_MIN, EIO },
	};
	unsigned int i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		must_eq(vmbus_err_to_errno(table[i].err), table[i].number);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "create", 5);

	tcase_add_test(tc, shm_create__sealed_and_zeroed);
	tcase_add_test(tc, shm_create__refuses_sizes);
	tcase_add_test(tc, shm_create__says_when_descriptors_run_out);
	tcase_add_test(tc, shm_ring_bytes__whole_pages);
	tc = vmbus_test_case(suite, "map", 5);
	tcase_add_loop_test(tc, shm_ring_map__two_windows_of_one_ring, 0, WINDOWS * WINDOWS);
	tcase_add_loop_test(tc, shm_ring_map__offsets, 0, WINDOWS);
	tcase_add_loop_test(tc, shm_ring_map__refuses_sizes_and_places, 0, WINDOWS);
	tcase_add_loop_test(tc, shm_ring_map__refuses_what_is_not_sealed, 0, WINDOWS);
	tcase_add_test(tc, shm_ring_map__refuses_huge_pages);
	tcase_add_loop_test(tc, shm_ring_map__read_only_memory, 0, WINDOWS);
	tcase_add_test(tc, shm_ring_map__no_such_node);
	tcase_add_test(tc, shm_ring_map__on_node_0);
	tcase_add_loop_test(tc, shm_ring_unmap__nothing_stays, 0, WINDOWS);
	tcase_add_loop_test(tc, lesson_32_sizes_in_pages_of_4096, 0, WINDOWS);
	tc = vmbus_test_case(suite, "errno", 5);
	tcase_add_test(tc, err_to_errno__of_each_error);
}

VMBUS_TEST_MAIN("shm.ring_map", tests)
