/* SPDX-License-Identifier: MIT */
/*
 * Two dpdk-testpmd with a port each, joined by memif, or by vhost-user and virtio-user: one sends frames
 * that it makes, the other one drops what it gets.  They are asked by their consoles; the rate is what
 * the receiving one tells, by its clock, between two questions.
 *
 * Each has two threads on its one processor, and that of the console sleeps while nothing is asked.
 */
#include "../block.h"
#include "../net.h"
#include "../run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define MEMPOOL "8192" /* frames of each program */
#define MEGABYTES "64"
#define TEXT_MAX 16384u
#define PROMPT "testpmd> "

/* One program. */
struct pmd {
	pid_t pid;
	int fd; /* our end of its console */
	bool is_host;
	char prefix[48];
	size_t len;
	char text[TEXT_MAX]; /* what it has printed since it was asked last */
};

struct pair {
	struct pmd host, guest;
	const char *fwd_host; /* what is set now */
	uint32_t bytes;
	bool runs;
	char path[64];
};

static const char *pmd_version(void)
{
	static char text[32];

	/* Debian's package says so, and the program only when it starts. */
	if (!text[0]) {
		FILE *const f = popen("dpkg-query -W -f '${Version}' dpdk-dev 2>/dev/null", "re");

		if (!f || !fgets(text, sizeof(text), f))
			(void)snprintf(text, sizeof(text), "unknown");
		text[strcspn(text, "\n")] = '\0';
		if (f)
			(void)pclose(f);
	}
	return text;
}

/* ---- a console ---- */

/* Read until that text is there; false: it did not come. */
static bool wait_text(struct pmd *p, const char *text, uint64_t wait_ns)
{
	const uint64_t until = now_ns() + wait_ns;

	while (!strstr(p->text, text)) {
		struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
		const uint64_t now = now_ns();
		ssize_t n;

		if (now >= until || p->len + 1 >= TEXT_MAX)
			return false;
		if (poll(&pfd, 1, (int)((until - now) / 1000000u) + 1) <= 0)
			continue;
		n = read(p->fd, p->text + p->len, TEXT_MAX - 1 - p->len);
		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (!p->text[p->len + (size_t)i])
				p->text[p->len + (size_t)i] = ' ';
		p->len += (size_t)n;
		p->text[p->len] = '\0';
	}
	return true;
}

/* Type a line, and read until the text comes. */
static bool ask(struct pmd *p, const char *line, const char *text)
{
	char typed[64];
	const int len = snprintf(typed, sizeof(typed), "%s\n", line);

	p->len = 0;
	p->text[0] = '\0';
	return write(p->fd, typed, (size_t)len) == len && wait_text(p, text, NET_WAIT_NS);
}

/* The console prompts again when a command is done. */
static bool tell(struct pmd *p, const char *line)
{
	return ask(p, line, "\n" PROMPT);
}

/* ---- a program ---- */

static void exec_pmd(const struct pmd *p, const char *console, const struct net_link *link,
		     const char *vdev)
{
	char lcores[48], prefix[64];
	const char *argv[32];
	unsigned int n = 0;
	int fd;

	fd = open(console, O_RDWR);
	if (fd < 0)
		_exit(1);
	(void)dup2(fd, STDIN_FILENO);
	(void)dup2(fd, STDOUT_FILENO);
	(void)dup2(fd, STDERR_FILENO);
	(void)snprintf(prefix, sizeof(prefix), "--file-prefix=%s", p->prefix);
	argv[n++] = "dpdk-testpmd";
	argv[n++] = prefix;
	argv[n++] = "--no-pci";
	argv[n++] = "--no-telemetry";
	argv[n++] = "--no-shconf"; /* nothing is left behind */
	argv[n++] = "--log-level=3";
	argv[n++] = "-m";
	argv[n++] = MEGABYTES;
	argv[n++] = link->huge ? "--in-memory" : "--no-huge";
	if (link->huge)
		argv[n++] = "--single-file-segments"; /* virtio-user hands over few files */
	if (link->place->pin) {
		const int cpu = p->is_host ? link->place->cpu_there : link->place->cpu_here;

		(void)snprintf(lcores, sizeof(lcores), "--lcores=0@%d,1@%d", cpu, cpu);
	} else {
		(void)snprintf(lcores, sizeof(lcores), "--lcores=0@(0-1),1@(0-1)");
	}
	argv[n++] = lcores;
	argv[n++] = "--vdev";
	argv[n++] = vdev;
	argv[n++] = "--";
	argv[n++] = "-i";
	argv[n++] = "--burst=32";
	argv[n++] = "--total-num-mbufs=" MEMPOOL;
	argv[n] = NULL;
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* 0, or -1: it does not start. */
static int start(struct pmd *p, const struct net_link *link, const char *vdev)
{
	const char *console;

	p->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->fd < 0 || grantpt(p->fd) || unlockpt(p->fd))
		return -1;
	console = ptsname(p->fd);
	if (!console)
		return -1;
	p->pid = block_fork(&(struct place){ .pin = false });
	if (p->pid == 0)
		exec_pmd(p, console, link, vdev);
	return p->pid > 0 ? 0 : -1;
}

static void end(struct pmd *p)
{
	char folder[96];

	if (p->pid > 0 && p->fd >= 0 && ask(p, "quit", "Bye..."))
		(void)wait_text(p, "no such text", 20000000u);
	net_reap(&p->pid);
	if (p->fd >= 0)
		(void)close(p->fd);
	p->fd = -1;
	/* It leaves its folder behind. */
	for (unsigned int i = 0; i < 2; i++) {
		static const char *const file[] = { "/config", "" };

		(void)snprintf(folder, sizeof(folder), "/var/run/dpdk/%s%s", p->prefix, file[i]);
		(void)remove(folder);
	}
}

static void pair_close(struct net_link *link)
{
	struct pair *const pair = link->priv;

	end(&pair->guest);
	end(&pair->host);
	link->far = link->near = 0;
	(void)unlink(pair->path);
	free(pair);
}

/* The vdev of each side; PATH is the socket's. */
struct kind {
	const char *host, *guest;
};

static int pair_open(struct net_link *link, const struct kind *kind)
{
	static unsigned int count;
	struct pair *pair;
	char vdev[192];

	if (!block_is_installed("dpdk-testpmd")) {
		link->missing = "dpdk-dev";
		return net_fail(link, "dpdk-testpmd is not installed");
	}
	pair = must_alloc(sizeof(*pair));
	memset(pair, 0, sizeof(*pair));
	pair->host.fd = pair->guest.fd = -1;
	pair->host.is_host = true;
	(void)snprintf(pair->path, sizeof(pair->path), "/tmp/vmbus-bench-%d-net%u.sock",
		       (int)getpid(), count);
	(void)snprintf(pair->host.prefix, sizeof(pair->host.prefix), "host-vmbus-bench-%d-%u",
		       (int)getpid(), count);
	(void)snprintf(pair->guest.prefix, sizeof(pair->guest.prefix), "guest-vmbus-bench-%d-%u",
		       (int)getpid(), count++);
	link->priv = pair;
	(void)snprintf(vdev, sizeof(vdev), kind->host, pair->path);
	if (start(&pair->host, link, vdev) || !wait_text(&pair->host, PROMPT, NET_WAIT_NS)) {
		pair_close(link);
		return net_fail(link, "dpdk-testpmd does not start");
	}
	(void)snprintf(vdev, sizeof(vdev), kind->guest, pair->path);
	if (start(&pair->guest, link, vdev) || !wait_text(&pair->guest, PROMPT, NET_WAIT_NS)) {
		pair_close(link);
		return net_fail(link, "the second dpdk-testpmd does not start");
	}
	link->far = pair->host.pid;
	link->near = pair->guest.pid;
	return 0;
}

static int memif_open(struct net_link *link)
{
	static const struct kind kind = {
		"net_memif0,role=server,socket-abstract=no,socket=%s",
		"net_memif0,role=client,socket-abstract=no,socket=%s",
	};

	return pair_open(link, &kind);
}

static int virtio_open(struct net_link *link)
{
	static const struct kind kind = { "net_vhost0,iface=%s", "net_virtio_user0,path=%s" };

	return pair_open(link, &kind);
}

static int packed_open(struct net_link *link)
{
	static const struct kind kind = {
		"net_vhost0,iface=%s",
		"net_virtio_user0,packed_vq=1,in_order=1,mrg_rxbuf=0,vectorized=1,path=%s",
	};

	return pair_open(link, &kind);
}

/* ---- one run ---- */

static bool set_up(struct pair *pair, const struct net_work *work)
{
	const char *const fwd_host = work->to_host ? "set fwd rxonly" : "set fwd txonly";
	const char *const fwd_guest = work->to_host ? "set fwd txonly" : "set fwd rxonly";
	char txpkts[32];

	if (pair->runs && pair->bytes == work->bytes && pair->fwd_host == fwd_host)
		return true;
	if (pair->runs && (!tell(&pair->host, "stop") || !tell(&pair->guest, "stop")))
		return false;
	pair->runs = true;
	pair->bytes = work->bytes;
	pair->fwd_host = fwd_host;
	(void)snprintf(txpkts, sizeof(txpkts), "set txpkts %u", work->bytes);
	return tell(&pair->host, fwd_host) && tell(&pair->guest, fwd_guest) &&
	       tell(&pair->host, txpkts) && tell(&pair->guest, txpkts) &&
	       tell(&pair->host, "start") && tell(&pair->guest, "start");
}

/* Frames a second that it has received since it was asked last; less than 0: it does not tell. */
static double ask_rate(struct pmd *p)
{
	const char *at;

	if (!ask(p, "show port stats 0", "Tx-bps:"))
		return -1;
	at = strstr(p->text, "Rx-pps:");
	return at ? strtod(at + 7, NULL) : -1;
}

static void sleep_us(uint32_t us)
{
	const struct timespec ts = { us / 1000000u, (long)(us % 1000000u) * 1000 };

	(void)nanosleep(&ts, NULL);
}

static void pair_run(struct net_link *link, const struct net_work *work, uint32_t us,
		     struct net_outcome *out)
{
	struct pair *const pair = link->priv;
	struct pmd *const sink = work->to_host ? &pair->host : &pair->guest;
	uint64_t from, host, guest, took;
	double rate;

	out->error = "a dpdk-testpmd does not answer";
	if (!set_up(pair, work))
		return;
	sleep_us(us / 4u);
	if (ask_rate(sink) < 0)
		return;
	from = now_ns();
	host = net_cpu_ns(pair->host.pid);
	guest = net_cpu_ns(pair->guest.pid);
	sleep_us(us);
	rate = ask_rate(sink);
	took = now_ns() - from;
	host = net_cpu_ns(pair->host.pid) - host;
	guest = net_cpu_ns(pair->guest.pid) - guest;
	if (rate < 0)
		return;
	out->error = NULL; /* a busy machine may not let them run at all */
	out->per_s = rate;
	out->cpu_ns = rate > 0 ? (double)(host + guest) * 1e9 / (rate * (double)took) : 0;
	out->on_cpu = (double)(host < guest ? host : guest) / (double)took;
}

const struct net_subject net_memif = {
	.name = "memif",
	.what = "two dpdk-testpmd joined by memif",
	.version = pmd_version,
	.open = memif_open,
	.close = pair_close,
	.run = pair_run,
};

const struct net_subject net_virtio = {
	.name = "virtio-user",
	.what = "two dpdk-testpmd: virtio-user and vhost-user, split rings",
	.version = pmd_version,
	.open = virtio_open,
	.close = pair_close,
	.run = pair_run,
};

const struct net_subject net_virtio_packed = {
	.name = "virtio-user-packed",
	.what = "the same with a packed ring, in order, vectorized",
	.version = pmd_version,
	.open = packed_open,
	.close = pair_close,
	.run = pair_run,
};
