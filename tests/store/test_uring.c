/* SPDX-License-Identifier: MIT */
/* The store in files and on block devices. */
#if defined(VMBUS_HAVE_URING)
#include "conform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <vmbus/store_uring.h>

static char path[256];
static char loop_path[64];
static int loop_fd = -1;

static void file_at(const char *folder, uint64_t bytes)
{
	int fd;

	(void)snprintf(path, sizeof(path), "%s/vmbus-test-XXXXXX", folder);
	fd = mkstemp(path);
	must(fd >= 0 && !ftruncate(fd, (off_t)bytes) && !close(fd));
}

/* A file system on a disk, if the build folder is on one. */
static const char *folder(void)
{
	const char *const build = getenv("VMBUS_BUILD_DIR");

	return build ? build : "/tmp";
}

static void remove_file(void)
{
	must(!unlink(path));
}

static struct vmbus_store_uring_opts options(void)
{
	return (struct vmbus_store_uring_opts){
		.struct_bytes = sizeof(struct vmbus_store_uring_opts), .path = path, .fd = -1
	};
}

static const char *make(const struct vmbus_store_uring_opts *opts, struct vmbus_store *store)
{
	const int err = vmbus_store_uring(opts, store);

	if (err == VMBUS_E_NOTSUP) {
		remove_file();
		return "no io_uring, or no O_DIRECT, here";
	}
	must_eq(err, 0);
	return NULL;
}

static const char *make_tmpfs(struct vmbus_store *store)
{
	const struct vmbus_store_uring_opts opts = options();

	if (access("/dev/shm", W_OK))
		return "no /dev/shm";
	file_at("/dev/shm", CONFORM_BYTES);
	return make(&opts, store);
}

static const char *make_disk(struct vmbus_store *store)
{
	struct vmbus_store_uring_opts opts = options();

	file_at(folder(), CONFORM_BYTES);
	opts.sparse = true;
	opts.busy_ns = 20000;
	return make(&opts, store);
}

static const char *make_direct(struct vmbus_store *store)
{
	struct vmbus_store_uring_opts opts = options();

	file_at(folder(), CONFORM_BYTES);
	opts.direct = true;
	opts.sparse = true;
	return make(&opts, store);
}

static const char *make_few(struct vmbus_store *store)
{
	struct vmbus_store_uring_opts opts = options();

	file_at(folder(), CONFORM_BYTES);
	opts.direct = true;
	opts.entries = 2;
	return make(&opts, store);
}

/* A loop device on the file; it goes when nobody has it open. */
static const char *make_loop_of(uint32_t block, bool direct, struct vmbus_store *store)
{
	struct loop_config config = { .block_size = block,
				      .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
	const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct vmbus_store_uring_opts opts = options();
	int number, file, tries, err = -1;

	if (control < 0)
		return "no loop devices for us (root?)";
	file_at(folder(), CONFORM_BYTES);
	file = open(path, O_RDWR | O_CLOEXEC);
	must(file >= 0);
	config.fd = (uint32_t)file;
	for (tries = 0; err && tries < 20; tries++) { /* others may take it first */
		number = ioctl(control, LOOP_CTL_GET_FREE);
		(void)snprintf(loop_path, sizeof(loop_path), "/dev/loop%d", number);
		loop_fd = number < 0 ? -1 : open(loop_path, O_RDWR | O_CLOEXEC);
		err = loop_fd < 0 ? -1 : ioctl(loop_fd, LOOP_CONFIGURE, &config);
		if (err && loop_fd >= 0)
			must(!close(loop_fd));
	}
	must(!close(control) && !close(file));
	if (err) {
		remove_file();
		return "no free loop device";
	}
	opts.path = loop_path;
	opts.direct = direct;
	opts.sparse = true;
	must_eq(vmbus_store_uring(&opts, store), 0);
	must(!close(loop_fd));
	return NULL;
}

static const char *make_loop(struct vmbus_store *store)
{
	return make_loop_of(0, true, store);
}

static const char *make_large_blocks(struct vmbus_store *store)
{
	return make_loop_of(4096, false, store);
}

static const struct variant variants[] = {
	{ "tmpfs", make_tmpfs, remove_file, 512, false, VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA,
	  VMBUS_STORE_READ_ONLY | VMBUS_STORE_ZEROES },
	{ "file, sparse", make_disk, remove_file, 512, false, VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
	{ "file, direct, sparse", make_direct, remove_file, 4096, false, VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
	{ "file, direct, a small ring", make_few, remove_file, 4096, false, VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_ZEROES },
	{ "loop device, blocks of 4096", make_large_blocks, remove_file, 512, false,
	  VMBUS_STORE_VOLATILE, VMBUS_STORE_READ_ONLY },
	{ "loop device, direct", make_loop, remove_file, 4096, false, VMBUS_STORE_VOLATILE,
	  VMBUS_STORE_READ_ONLY },
};

/* Whether there is io_uring at all. */
#define NEED_URING()                                                                               \
	do {                                                                                       \
		struct vmbus_store_uring_opts need = options();                                    \
		struct vmbus_store probe;                                                          \
		int got;                                                                           \
                                                                                                   \
		file_at(folder(), 65536);                                                          \
		got = vmbus_store_uring(&need, &probe);                                            \
		if (got == VMBUS_E_NOTSUP) {                                                       \
			remove_file();                                                             \
			VMBUS_TEST_SKIP("no io_uring here");                                       \
		}                                                                                  \
		must_eq(got, 0);                                                                   \
		vmbus_store_destroy(&probe);                                                       \
	} while (0)

START_TEST(store_uring__refuses_what_it_cannot_open)
{
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store = { NULL, NULL };
	int fd;

	NEED_URING();
	must_eq(vmbus_store_uring(NULL, &store), VMBUS_E_INVAL);
	opts.struct_bytes--;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_INVAL);
	opts = options();
	opts.path = NULL;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_INVAL);
	opts.fd = 1000;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_INVAL);
	opts = options();
	opts.entries = 3;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_RANGE);
	opts.entries = 8192;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_RANGE);
	opts = options();
	opts.path = "/dev/null";
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_NOTSUP);
	opts.path = "/";
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_NOTSUP);
	opts.path = "/nowhere/at/all";
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_SYSTEM);
	must_eq(errno, ENOENT);
	must(!truncate(path, 0));
	opts = options();
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_RANGE);
	must(!truncate(path, 4096));
	fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	opts.path = NULL;
	opts.fd = fd;
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_INVAL);
	must(!close(fd));
	opts.fd = open(path, O_RDONLY | O_CLOEXEC);
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_PERM);
	must(!close(opts.fd));
	must(!store.ops);
	remove_file();
}
END_TEST

START_TEST(store_uring__needs_descriptors)
{
	struct vmbus_store_queue queue = { .fd = -1, .depth = 1 };
	const struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store = { NULL, NULL };
	uint32_t n;

	NEED_URING();
	for (n = 0; n < 2; n++) { /* the file's, the ring's */
		struct rlimit limit;

		must(!getrlimit(RLIMIT_NOFILE, &limit));
		drive_limit_fds(n);
		must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_NOMEM);
		must(!setrlimit(RLIMIT_NOFILE, &limit));
	}
	must(!store.ops);
	must_eq(vmbus_store_uring(&opts, &store), 0);
	queue.ctx = store.ctx;
	drive_limit_fds(0);
	must_eq(store.ops->open(&queue), VMBUS_E_NOMEM);
	must(queue.fd == -1 && !queue.priv);
	vmbus_store_destroy(&store);
	remove_file();
}
END_TEST

START_TEST(store_uring__locks_the_file)
{
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store one, other;

	NEED_URING();
	must_eq(vmbus_store_uring(&opts, &one), 0);
	must_eq(vmbus_store_uring(&opts, &other), VMBUS_E_PERM);
	opts.read_only = true;
	must_eq(vmbus_store_uring(&opts, &other), VMBUS_E_PERM);
	vmbus_store_destroy(&one);
	must_eq(vmbus_store_uring(&opts, &one), 0);
	must_eq(vmbus_store_uring(&opts, &other), 0); /* readers do not disturb each other */
	vmbus_store_destroy(&one);
	vmbus_store_destroy(&other);
	remove_file();
}
END_TEST

START_TEST(store_uring__reads_only)
{
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store_info info;
	struct vmbus_store store;
	uint8_t data[512];
	struct drive d;

	NEED_URING();
	opts.read_only = true;
	opts.sparse = true;
	must_eq(vmbus_store_uring(&opts, &store), 0);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must(info.flags & VMBUS_STORE_READ_ONLY);
	must(!store.ops->write && !store.ops->discard && !store.ops->zero);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 512, data, 512), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
}
END_TEST

START_TEST(store_uring__gathers_until_commit)
{
	uint8_t *data = conform_memory(4096);
	const struct iovec iov = { data, 4096 };
	struct req req = { .io = { .bytes = 4096, .iov = &iov, .iov_count = 1 } };
	const struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store;
	struct drive d;

	NEED_URING();
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	drive_begin(&d, &req, DRIVE_READ);
	must(!drive_wait(&d, 20));
	must(req.ends == 0 && data[0] == 0x5a);
	drive_all(&d);
	must(req.ends == 1 && data[0] == 0);
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	free(data);
}
END_TEST

START_TEST(store_uring__sees_another_size)
{
	const struct vmbus_store_uring_opts opts = options();
	struct vmbus_store_info info;
	struct vmbus_store store;
	struct drive d;
	uint8_t data[8192];
	const struct iovec iov = { data, sizeof(data) };
	struct req req = { .io = { .offset = 61440, .bytes = 8192, .iov = &iov, .iov_count = 1 } };

	NEED_URING();
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	must(!truncate(path, 1 << 20));
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.bytes, 1 << 20);
	/* Cut behind its back: what is there is read, and the rest is told as lost. */
	must(!truncate(path, 65536));
	drive_begin(&d, &req, DRIVE_READ);
	drive_all(&d);
	must(req.end == VMBUS_IO_MEDIUM && req.io.bad_offset == 65536);
	must(!truncate(path, 0));
	must_eq(store.ops->info(store.ctx, &info), VMBUS_E_RANGE);
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
}
END_TEST

START_TEST(store_uring__tells_of_no_space_and_no_right)
{
	struct rlimit limit = { 32768, 32768 };
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store;
	uint8_t data[4096] = { 1 };
	struct drive d;

	NEED_URING();
	must(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	must(!setrlimit(RLIMIT_FSIZE, &limit)); /* as a full disk does */
	must_eq(drive_move(&d, DRIVE_WRITE, 40960, data, 4096), VMBUS_IO_SPACE);
	must_eq(drive_move(&d, DRIVE_WRITE, 4096, data, 4096), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	opts.path = NULL;
	opts.fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(opts.fd >= 0 && !ftruncate(opts.fd, 8192));
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, data, 4096), VMBUS_IO_OK);
	must(!fcntl(opts.fd, F_ADD_SEALS, F_SEAL_WRITE));
	must_eq(drive_move(&d, DRIVE_WRITE, 0, data, 4096), VMBUS_IO_READ_ONLY);
	must_eq(drive_move(&d, DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!close(opts.fd));
}
END_TEST

START_TEST(store_uring__gives_back_what_is_discarded)
{
	uint8_t *data = conform_memory(1 << 20);
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store;
	struct stat full, less;
	struct drive d;

	NEED_URING();
	must(!truncate(path, 1 << 20));
	must_eq(vmbus_store_uring(&opts, &store), 0);
	must(!store.ops->discard && store.ops->zero);
	vmbus_store_destroy(&store);
	opts.sparse = true;
	must_eq(vmbus_store_uring(&opts, &store), 0);
	if (!store.ops->discard) {
		vmbus_store_destroy(&store);
		remove_file();
		VMBUS_TEST_SKIP("no holes on this file system");
	}
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, data, 1 << 20), VMBUS_IO_OK);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	must(!stat(path, &full));
	must_eq(drive_range(&d, DRIVE_DISCARD, 0, 512 << 10, 0), VMBUS_IO_OK);
	must(!stat(path, &less));
	must(full.st_blocks - less.st_blocks >= (512 << 10) / 512);
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	free(data);
}
END_TEST

/* A device takes whole blocks: these become holes, and what is left at both ends is written. */
START_TEST(store_uring__gives_back_the_whole_blocks_of_a_range)
{
	const uint64_t bytes = 1 << 20, at = 512, range = bytes - 1536;
	uint8_t *const data = conform_memory(1 << 20), *const back = conform_memory(1 << 20);
	struct stat full, less;
	struct vmbus_store store;
	struct drive d;
	const char *why;

	NEED_URING();
	remove_file();
	why = make_large_blocks(&store);
	if (why)
		VMBUS_TEST_SKIP(why);
	if (!store.ops->discard) {
		vmbus_store_destroy(&store);
		remove_file();
		VMBUS_TEST_SKIP("no holes on this file system");
	}
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, data, bytes), VMBUS_IO_OK);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	must(!stat(path, &full));
	must_eq(drive_range(&d, _i ? DRIVE_ZERO : DRIVE_DISCARD, at, range,
			    _i ? VMBUS_IO_MAY_DISCARD : 0),
		VMBUS_IO_OK);
	must_eq(drive_range(&d, DRIVE_FLUSH, 0, 0, 0), VMBUS_IO_OK);
	must(!stat(path, &less));
	must(full.st_blocks - less.st_blocks >= (1000 << 10) / 512);
	memset(data + at, 0, range);
	must_eq(drive_move(&d, DRIVE_READ, 0, back, bytes), VMBUS_IO_OK);
	must(!memcmp(data, back, bytes));
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	free(data);
	free(back);
}
END_TEST

/* Writes until it is killed; tells by a byte that it has begun. */
static void write_until_killed(int tell)
{
	struct vmbus_store_uring_opts opts = options();
	static struct req req[DRIVE_DEPTH];
	uint8_t *data = conform_memory(65536);
	const struct iovec iov = { data, 65536 };
	struct vmbus_store store;
	struct drive d;
	uint32_t i;

	opts.direct = true;
	if (vmbus_store_uring(&opts, &store)) {
		opts.direct = false;
		must_eq(vmbus_store_uring(&opts, &store), 0);
	}
	drive_open(&d, &store);
	for (;;) {
		for (i = 0; i < DRIVE_DEPTH; i++) {
			req[i] = (struct req){ .io = { .offset = i * 65536,
						       .bytes = 65536,
						       .iov = &iov,
						       .iov_count = 1 } };
			drive_begin(&d, &req[i], DRIVE_WRITE);
		}
		drive_commit(&d);
		must(write(tell, "x", 1) == 1);
		drive_all(&d);
	}
}

/*
 * The lock of a killed process is had when its ring has let go of the file, so that nothing of its
 * writes comes later: what the next one writes stays.
 */
START_TEST(store_uring__takes_over_from_a_killed_process)
{
	uint8_t *data = conform_memory(65536), *back = conform_memory(65536);
	const struct vmbus_store_uring_opts opts = options();
	int turn, pipe_fd[2], status;
	struct vmbus_store store;
	struct drive d;
	uint32_t i;
	pid_t pid;
	char byte;

	NEED_URING();
	must(!truncate(path, 8 << 20));
	drive_fill(data, 65536, 1);
	for (turn = 0; turn < 10; turn++) {
		vmbus_test_at("turn %d", turn);
		must(!pipe(pipe_fd));
		pid = fork();
		must(pid >= 0);
		if (pid == 0)
			write_until_killed(pipe_fd[1]);
		for (i = 0; i < 2u + (uint32_t)turn % 3; i++)
			must(read(pipe_fd[0], &byte, 1) == 1);
		must(!kill(pid, SIGKILL));
		must(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		must_eq(vmbus_store_uring(&opts, &store), 0);
		drive_open(&d, &store);
		for (i = 0; i < DRIVE_DEPTH; i++)
			must_eq(drive_move(&d, DRIVE_WRITE, i * 65536, data, 65536), VMBUS_IO_OK);
		for (i = 0; i < DRIVE_DEPTH; i++) {
			must_eq(drive_move(&d, DRIVE_READ, i * 65536, back, 65536), VMBUS_IO_OK);
			must(!memcmp(data, back, 65536));
		}
		drive_close(&d);
		vmbus_store_destroy(&store);
		must(!close(pipe_fd[0]) && !close(pipe_fd[1]));
	}
	remove_file();
	free(data);
	free(back);
}
END_TEST

/* ---- a kernel that has no memory for requests ---- */

static uint32_t refusals;
static int bad_fd = -1; /* of the next fsync */
static int (*real)(struct io_uring *);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real = dlsym(RTLD_NEXT, "io_uring_submit");
}

/* In the place of liburing's. */
int io_uring_submit(struct io_uring *ring)
{
	unsigned at;

	must(real != NULL);
	for (at = *ring->sq.khead; bad_fd >= 0 && at != ring->sq.sqe_tail; at++)
		if (ring->sq.sqes[at & *ring->sq.kring_mask].opcode == IORING_OP_FSYNC)
			ring->sq.sqes[at & *ring->sq.kring_mask].fd = bad_fd;
	if (refusals == 0)
		return real(ring);
	refusals--;
	return -EAGAIN;
}

static void refused_again(struct req *req)
{
	must_eq(req->end, VMBUS_IO_BUSY);
	req->then = NULL;
	drive_begin(req->drive, req, DRIVE_READ); /* from within: BUSY too */
}

/* Requests that are not taken end, for nothing would call for them any more; later ones are done. */
START_TEST(store_uring__gives_back_what_the_kernel_does_not_take)
{
	struct vmbus_store_uring_opts opts = options();
	uint8_t *const data = conform_memory(DRIVE_DEPTH * 4096);
	struct iovec iov[DRIVE_DEPTH];
	struct req req[DRIVE_DEPTH];
	struct vmbus_store store;
	uint32_t i, turn;
	struct drive d;

	NEED_URING();
	must(!truncate(path, 8 << 20));
	opts.entries = _i ? 16 : 0; /* less than what comes */
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	for (turn = 0; turn < 3; turn++) {
		refusals = 1u << 24;
		for (i = 0; i < DRIVE_DEPTH; i++) {
			iov[i] = (struct iovec){ data + i * 4096, 4096 };
			req[i] = (struct req){
				.io = { .offset = i * 4096,
					.bytes = 4096,
					.iov = &iov[i],
					.iov_count = 1 },
				.then = i % 2 ? refused_again : NULL,
			};
			drive_begin(&d, &req[i], DRIVE_READ);
		}
		drive_commit(&d);
		must_eq(d.under_way, 0);
		for (i = 0; i < DRIVE_DEPTH; i++)
			must_eq(req[i].end, VMBUS_IO_BUSY);
		refusals = turn ? 5 : 0;
		for (i = 0; i < 2 * DRIVE_DEPTH; i++)
			must_eq(drive_move(&d, DRIVE_WRITE, 4096 * i, data, 4096), VMBUS_IO_OK);
	}
	refusals = 0;
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	free(data);
}
END_TEST

/* Linux tells an error of writing back once for an open file, whose pages are then held for written: a
   flush of another queue would be told that all is well.  A pipe stands for the disk that fails. */
START_TEST(store_uring__has_no_good_flush_after_one_that_failed)
{
	uint8_t *const data = conform_memory(4096);
	struct vmbus_store_uring_opts opts = options();
	const struct iovec iov = { data, 4096 };
	const struct vmbus_io none = { 0 };
	struct vmbus_io fua = { .bytes = 4096, .iov = &iov, .iov_count = 1, .flags = VMBUS_IO_FUA };
	struct vmbus_store store;
	struct drive d[2];
	int pipe_fd[2];

	NEED_URING();
	must(!pipe(pipe_fd));
	opts.direct = _i; /* then nothing is in the page cache */
	if (make(&opts, &store))
		VMBUS_TEST_SKIP("no O_DIRECT here");
	drive_open(&d[0], &store);
	drive_open(&d[1], &store);
	must_eq(drive_move(&d[0], DRIVE_WRITE, 0, data, 4096), VMBUS_IO_OK);
	bad_fd = pipe_fd[0];
	must_eq(drive_one(&d[1], DRIVE_FLUSH, none), VMBUS_IO_GONE);
	bad_fd = -1;
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), _i ? VMBUS_IO_OK : VMBUS_IO_MEDIUM);
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), _i ? VMBUS_IO_OK : VMBUS_IO_MEDIUM);
	must_eq(drive_one(&d[1], DRIVE_WRITE, fua), _i ? VMBUS_IO_OK : VMBUS_IO_MEDIUM);
	must_eq(drive_move(&d[0], DRIVE_WRITE, 0, data, 4096), VMBUS_IO_OK);
	must_eq(drive_move(&d[0], DRIVE_READ, 0, data, 4096), VMBUS_IO_OK);
	drive_close(&d[0]);
	drive_open(&d[0], &store); /* another channel */
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), _i ? VMBUS_IO_OK : VMBUS_IO_MEDIUM);
	drive_close(&d[0]);
	drive_close(&d[1]);
	vmbus_store_destroy(&store);
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d[0], &store);
	must_eq(drive_one(&d[0], DRIVE_FLUSH, none), VMBUS_IO_OK);
	drive_close(&d[0]);
	vmbus_store_destroy(&store);
	must(!close(pipe_fd[0]) && !close(pipe_fd[1]));
	remove_file();
	free(data);
}
END_TEST

/* Zeroes that the file system cannot make are many writes: those that are not begun yet never are. */
START_TEST(store_uring__begins_no_further_round_when_it_is_cancelled)
{
	struct req req = { .io = { .bytes = 64 << 20 } };
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store;
	struct stat stat;
	struct drive d;

	NEED_URING();
	remove_file();
	opts.path = NULL;
	opts.fd = memfd_create("zeroes", MFD_CLOEXEC);
	must(opts.fd >= 0 && !ftruncate(opts.fd, 64 << 20));
	if (!fallocate(opts.fd, FALLOC_FL_ZERO_RANGE, 0, 4096)) {
		must(!close(opts.fd));
		VMBUS_TEST_SKIP("this kernel's tmpfs makes zeroes");
	}
	must_eq(vmbus_store_uring(&opts, &store), 0);
	drive_open(&d, &store);
	drive_begin(&d, &req, DRIVE_ZERO);
	drive_cancel(&d);
	drive_all(&d);
	must_eq(req.end, VMBUS_IO_GONE);
	must(!fstat(opts.fd, &stat) && stat.st_blocks == 0);
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!close(opts.fd));
}
END_TEST

/* A descriptor that has O_DIRECT already is direct, whatever the option says: the file system refuses
   memory and offsets that are not aligned. */
START_TEST(store_uring__takes_a_direct_descriptor_as_direct)
{
	struct vmbus_store_uring_opts opts = options();
	uint8_t *const data = conform_memory(8192), *const back = conform_memory(8192);
	struct vmbus_store_info want, info;
	struct vmbus_store store;
	struct drive d;

	NEED_URING();
	opts.direct = true;
	if (make(&opts, &store))
		VMBUS_TEST_SKIP("no O_DIRECT here");
	must_eq(store.ops->info(store.ctx, &want), 0);
	vmbus_store_destroy(&store);
	opts = options();
	opts.path = NULL;
	opts.fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	must(opts.fd >= 0);
	must_eq(vmbus_store_uring(&opts, &store), 0);
	must((fcntl(opts.fd, F_GETFL) & O_DIRECT) != 0);
	must_eq(store.ops->info(store.ctx, &info), 0);
	must_eq(info.align_bytes, want.align_bytes);
	memset(data, 0x5a, 8192);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_WRITE, 4096, data + 1, 4096), VMBUS_IO_OK);
	must_eq(drive_move(&d, DRIVE_READ, 4096, back + 3, 4096), VMBUS_IO_OK);
	must(!memcmp(data + 1, back + 3, 4096));
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!close(opts.fd));
	remove_file();
	free(data);
	free(back);
}
END_TEST

#define LARGE (1u << 20)

/* A guest's memory that is not aligned: buffers for 32 MiB on a queue, and for one request that is more. */
START_TEST(store_uring__has_a_limit_for_buffers)
{
	static struct req req[34];
	struct vmbus_store_uring_opts opts = options();
	uint8_t *const data = malloc(40u << 20);
	const struct iovec iov = { data + 1, LARGE }, more = { data + 1, 33 * LARGE };
	const struct vmbus_io wide = { .bytes = 33 * LARGE, .iov = &more, .iov_count = 1 };
	struct vmbus_store store;
	struct drive d;
	uint32_t i, turn;

	NEED_URING();
	must(data && !truncate(path, 40 << 20));
	opts.direct = true;
	if (make(&opts, &store))
		VMBUS_TEST_SKIP("no O_DIRECT here");
	drive_open(&d, &store);
	for (turn = 0; turn < 2; turn++) {
		for (i = 0; i < 34; i++) {
			req[i].io =
				(struct vmbus_io){ .bytes = LARGE, .iov = &iov, .iov_count = 1 };
			drive_begin(&d, &req[i], DRIVE_READ);
			must_eq(req[i].ends, i >= 32);
		}
		drive_all(&d);
		for (i = 0; i < 34; i++)
			must_eq(req[i].end, i < 32 ? VMBUS_IO_OK : VMBUS_IO_BUSY);
		must_eq(drive_one(&d, DRIVE_READ, wide), VMBUS_IO_OK);
	}
	drive_close(&d);
	vmbus_store_destroy(&store);
	remove_file();
	free(data);
}
END_TEST

/* A file of nearly 2^63 bytes is refused by its size. */
START_TEST(store_uring__refuses_a_file_that_is_too_large)
{
	struct vmbus_store_uring_opts opts = options();
	struct vmbus_store store;

	NEED_URING();
	opts.sparse = true;
	opts.path = NULL;
	opts.fd = memfd_create("large", MFD_CLOEXEC);
	must(opts.fd >= 0 && !ftruncate(opts.fd, INT64_MAX));
	must_eq(vmbus_store_uring(&opts, &store), VMBUS_E_RANGE);
	must(!close(opts.fd));
	remove_file();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "uring", 30);

	conform_tests(suite, variants, (int)(sizeof(variants) / sizeof(variants[0])));
	tcase_add_test(tc, store_uring__refuses_what_it_cannot_open);
	tcase_add_test(tc, store_uring__needs_descriptors);
	tcase_add_test(tc, store_uring__locks_the_file);
	tcase_add_test(tc, store_uring__reads_only);
	tcase_add_test(tc, store_uring__gathers_until_commit);
	tcase_add_test(tc, store_uring__sees_another_size);
	tcase_add_test(tc, store_uring__tells_of_no_space_and_no_right);
	tcase_add_test(tc, store_uring__gives_back_what_is_discarded);
	tcase_add_loop_test(tc, store_uring__gives_back_the_whole_blocks_of_a_range, 0, 2);
	tcase_add_test(tc, store_uring__takes_over_from_a_killed_process);
	tcase_add_loop_test(tc, store_uring__gives_back_what_the_kernel_does_not_take, 0, 2);
	tcase_add_loop_test(tc, store_uring__has_no_good_flush_after_one_that_failed, 0, 2);
	tcase_add_test(tc, store_uring__begins_no_further_round_when_it_is_cancelled);
	tcase_add_test(tc, store_uring__takes_a_direct_descriptor_as_direct);
	tcase_add_test(tc, store_uring__has_a_limit_for_buffers);
	tcase_add_test(tc, store_uring__refuses_a_file_that_is_too_large);
}

VMBUS_TEST_MAIN("store.uring", tests)
#else
#include <stdio.h>

int main(void)
{
	puts("SKIP store.uring: built without liburing (Debian: liburing-dev)");
	return 77;
}
#endif
