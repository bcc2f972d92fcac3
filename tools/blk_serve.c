/* SPDX-License-Identifier: MIT */
/*
 * vmbus-blk serve: a provider with disks.  A file is locked before the first request to it is made:
 * while one that was killed still has requests in the kernel, so does its lock last.  In a hand-over
 * all is ready before the other one stops, but for this lock, which is taken in the first open().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/provider.h>

#include "blk.h"
#include "blk_disks.h"

#define LOCK_WAIT_NS (2 * BLK_SECOND)
#define GONE_WAIT_NS BLK_SECOND /* until a parent knows that a provider of this name is dead */
#define PAUSE_NS 10000000

struct serve {
	struct blk_disks disks;
	const char *socket, *name;
	bool take_over, no_sandbox;
	bool locked;		  /* all files */
	int files[BLK_DISKS_MAX]; /* of the disks that have one, or -1 */
	struct vmbus_vsp vsp;	  /* the block device's, with an open() of ours before its own */
	struct vmbus_provider *provider;
};

static struct serve serve = { .name = "blk" };

/* What stores do beyond what serving takes. */
static const int of_stores[] = {
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_fallocate,	    SYS_fdatasync,	SYS_fsync,
	SYS_preadv,	    SYS_pwritev,	SYS_getsockopt,
	SYS_setsockopt,	    SYS_ioctl,		SYS_statx,
	SYS_socket,	    SYS_connect, /* from here on: of nbd=, whose channels connect by themselves */
};
#define OF_NBD 2u

static int parse(int argc, char **argv, struct serve *s)
{
	int i, err;

	for (i = 1; i < argc; i++) {
		const char *const arg = argv[i];
		const bool has_value = i + 1 < argc;

		if (strcmp(arg, "--take-over") == 0) {
			s->take_over = true;
		} else if (strcmp(arg, "--no-sandbox") == 0) {
			s->no_sandbox = true;
		} else if (strcmp(arg, "--quiet") == 0) {
			blk_quiet = true;
		} else if (strcmp(arg, "-s") == 0 && has_value) {
			s->socket = argv[++i];
		} else if (strcmp(arg, "--name") == 0 && has_value) {
			s->name = argv[++i];
		} else if (arg[0] != '-') {
			err = blk_disks_word(&s->disks, arg);
			if (err)
				return err;
		} else {
			return blk_usage("what is this: %s: no option, or its value is missing",
					 arg);
		}
	}
	if (!s->socket)
		return blk_usage("of which parent: -s SOCKET is missing");
	if (s->disks.count == 0)
		return blk_usage("which disks? for instance file=disk.img");
	return 0;
}

static int attach(struct serve *s)
{
	char why[160] = "";
	const struct vmbus_provider_opts opts = {
		.struct_bytes = sizeof(opts),
		.path = s->socket,
		.name = s->name,
		.vsp = &s->vsp,
		.ctx = s->disks.block,
		.take_over = s->take_over,
		.spin_ns = 1000u * (uint64_t)s->disks.spin_us,
		.log = blk_log,
		.why = why,
		.why_bytes = sizeof(why),
	};
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	const uint64_t until = blk_now_ns() + GONE_WAIT_NS;
	int err = vmbus_provider_attach(&opts, &s->provider);

	while (err == VMBUS_E_STATE && !s->take_over && !blk_stopped() && blk_now_ns() < until) {
		(void)nanosleep(&pause, NULL);
		err = vmbus_provider_attach(&opts, &s->provider);
	}
	if (err == VMBUS_E_STATE && !s->take_over)
		return blk_failed("%s: there is a provider of this class and name, %s: "
				  "--take-over replaces it, --name makes another",
				  s->socket, s->name);
	return err ? blk_failed("cannot attach: %s (%s)", why[0] ? why : s->socket,
				vmbus_err_name(err))
		   : 0;
}

/* Memory of the parent's, which stays when this process dies. */
static int memory(const struct serve *s, uint32_t i)
{
	char name[32];
	int fd = -1, err;

	(void)snprintf(name, sizeof(name), "disk%u", i);
	err = vmbus_provider_memory(s->provider, name, s->disks.spec[i].bytes, &fd);
	if (!err)
		return fd;
	(void)blk_failed("mem=%s: %s%s", s->disks.spec[i].source, vmbus_err_name(err),
			 err == VMBUS_E_FULL ? ": the parent does not give so much memory" : "");
	return -1;
}

static int lock_files(struct serve *s, uint64_t wait_ns)
{
	char why[800];
	uint32_t i;

	for (i = 0; i < s->disks.count && !s->locked; i++)
		if (s->files[i] >= 0 &&
		    disk_lock(&s->disks.spec[i], s->files[i], wait_ns, why, sizeof(why)))
			return blk_failed("%s", why);
	s->locked = true;
	return 0;
}

/* Before anything can be asked of the disks. */
static int gate(struct vmbus_chan *chan, void *ctx)
{
	if (lock_files(&serve, LOCK_WAIT_NS))
		return VMBUS_E_SYSTEM;
	return vmbus_block_vsp()->open(chan, ctx);
}

/* Those that need no parent. */
static int open_files(struct serve *s)
{
	char why[800];
	uint32_t i;

	for (i = 0; i < s->disks.count; i++) {
		const struct disk_spec *const spec = &s->disks.spec[i];

		s->files[i] = -1;
		if (spec->kind != DISK_FILE)
			continue;
		s->files[i] = disk_open_file(spec, !s->take_over, why, sizeof(why));
		if (s->files[i] < 0)
			return blk_failed("%s", why);
	}
	return s->take_over ? 0 : lock_files(s, LOCK_WAIT_NS);
}

static int add_disks(struct serve *s)
{
	uint32_t i;
	int err = 0, fd;

	for (i = 0; i < s->disks.count && !err; i++) {
		fd = s->disks.spec[i].kind == DISK_MEM ? memory(s, i) : s->files[i];
		if (s->disks.spec[i].kind == DISK_MEM && fd < 0)
			return BLK_FAILED;
		err = blk_disks_add(&s->disks, i, fd);
		if (fd != s->files[i])
			close(fd);
	}
	return err;
}

/* Whoever takes over waits for it. */
static void unlock_files(struct serve *s)
{
	uint32_t i;

	for (i = 0; i < s->disks.count && s->locked; i++)
		if (s->files[i] >= 0)
			disk_unlock(s->files[i]);
}

/* Names are looked up in files and by the network, which the sandbox forbids. */
static bool needs_names(const char *uri)
{
	const char *host = strstr(uri, "://");
	struct in_addr address;
	char text[INET_ADDRSTRLEN];
	size_t n;

	if (!host || strncmp(uri, "nbd+unix", 8) == 0 || strncmp(uri, "nbds+unix", 9) == 0)
		return false;
	host += 3;
	n = strcspn(host, "@/?"); /* what is behind the address may have an @, too */
	if (host[n] == '@')	  /* of a user's name before it */
		host += n + 1;
	n = strcspn(host, ":/?");
	if (host[0] == '[' || n >= sizeof(text))
		return host[0] != '[';
	memcpy(text, host, n);
	text[n] = '\0';
	return inet_pton(AF_INET, text, &address) != 1;
}

static int enter_sandbox(const struct serve *s)
{
	uint32_t n = sizeof(of_stores) / sizeof(of_stores[0]) - OF_NBD, i;
	int err;

	for (i = 0; i < s->disks.count; i++) {
		if (s->disks.spec[i].kind != DISK_NBD)
			continue;
		n = sizeof(of_stores) / sizeof(of_stores[0]);
		if (!s->no_sandbox && needs_names(s->disks.spec[i].source))
			return blk_failed(
				"nbd=%s: in the sandbox no name can be looked up: give the "
				"server's address, or --no-sandbox",
				s->disks.spec[i].source);
	}

	if (s->no_sandbox) {
		blk_say("not sandboxed, as asked for");
		return 0;
	}
	err = vmbus_provider_sandbox_more(of_stores, n);
	if (!err)
		return 0;
	return blk_failed("no sandbox: %s; --no-sandbox goes on without one",
			  err == VMBUS_E_SYSTEM ? strerror(errno) : vmbus_err_name(err));
}

static int run(struct serve *s)
{
	int err;

	while (!blk_stopped()) {
		err = vmbus_provider_wait(s->provider, BLK_SECOND); /* a signal may come before */
		if (err == VMBUS_E_PEER) {
			unlock_files(s);
			blk_say("%s", vmbus_provider_why(s->provider));
			return BLK_GONE;
		}
		if (err < 0 && err != VMBUS_E_AGAIN)
			return blk_failed("waiting failed: %s", vmbus_err_name(err));
	}
	blk_say("stopped by a signal: leaving");
	return BLK_OK;
}

int blk_serve(int argc, char **argv)
{
	struct serve *const s = &serve;
	int status = parse(argc, argv, s);

	if (status)
		return status;
	blk_catch_signals();
	s->vsp = *vmbus_block_vsp();
	s->vsp.open = gate;
	status = blk_disks_create(&s->disks, s->socket, s->name);
	if (!status)
		status = open_files(s);
	if (!status)
		status = attach(s);
	if (!status)
		status = add_disks(s);
	if (!status)
		status = enter_sandbox(s);
	if (!status) {
		blk_say("%u disk%s for %s, as %s", s->disks.count, s->disks.count == 1 ? "" : "s",
			s->socket, s->name);
		status = run(s);
	}
	vmbus_provider_detach(s->provider);
	blk_disks_destroy(&s->disks);
	return status;
}
