/* SPDX-License-Identifier: MIT */
/*
 * The load: numbered frames from one end to the other, each of which must arrive, once and in order.
 * It runs the subjects whose near end is in this process; testpmd has a producer and a sink of its own.
 */
#include "net.h"

#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LOOK_EVERY 64u /* turns between two looks at the clock */

int net_fail(struct net_link *link, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(link->why, sizeof(link->why), fmt, ap);
	va_end(ap);
	return -1;
}

struct net_ctl *net_ctl_new(void)
{
	void *const p = mmap(NULL, sizeof(struct net_ctl), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die(BENCH_EXIT_MACHINE, "out of memory: %s", strerror(errno));
	return p;
}

/* Ethernet, IPv4 and UDP, as testpmd sends them; nobody on the way computes a checksum. */
static const uint8_t headers[42] = {
	0x02, 0,  0,  0, 0, 0x02, 0x02, 0, 0, 0,   0,  0x01, 0x08, 0, 0x45, 0, 0, 50, 0,  0, 0,
	0,    64, 17, 0, 0, 198,  18,	0, 1, 198, 18, 0,    2,	   0, 9,    0, 9, 0,  30, 0, 0,
};

void net_end_new(struct net_end *end)
{
	end->frame = aligned_alloc(64, (size_t)NET_FRAMES * NET_FRAME_STRIDE);
	if (!end->frame)
		die(BENCH_EXIT_MACHINE, "out of memory");
	memset(end->frame, 0x5a, (size_t)NET_FRAMES * NET_FRAME_STRIDE);
	for (uint32_t i = 0; i < NET_FRAMES; i++)
		memcpy(net_frame(end, i), headers, sizeof(headers));
}

void net_end_free(struct net_end *end)
{
	free(end->frame);
	end->frame = NULL;
}

void net_end_begin(struct net_end *end, uint32_t bytes)
{
	const uint32_t ip = bytes - 14u, udp = bytes - 34u;

	end->next = 0;
	end->wrong = 0;
	end->at = 0;
	end->bytes = bytes;
	for (uint32_t i = 0; i < NET_FRAMES; i++) {
		uint8_t *const p = net_frame(end, i);

		p[16] = (uint8_t)(ip >> 8);
		p[17] = (uint8_t)ip;
		p[38] = (uint8_t)(udp >> 8);
		p[39] = (uint8_t)udp;
	}
}

/* ---- one run ---- */

struct net_load {
	struct net_link *link;
	const struct net_work *work;
	uint64_t moved; /* frames that this end has sent or received */
	uint32_t due;	/* of it that are stamped and not sent */
	bool broken;
};

/* Send or receive once.  False: nothing moved. */
static bool step(struct net_load *load)
{
	struct net_link *const link = load->link;
	int n;

	if (!load->work->to_host) {
		n = link->subject->receive(link);
	} else {
		if (!load->due) {
			for (uint32_t i = 0; i < NET_BURST; i++)
				net_stamp(&link->end, i);
			load->due = NET_BURST;
		}
		n = link->subject->send(link, NET_BURST - load->due, load->due);
		if (n > 0)
			load->due -= (uint32_t)n;
	}
	if (n > 0)
		load->moved += (uint32_t)n;
	else if (load->work->to_host && link->subject->turn && n == 0)
		n = link->subject->turn(link);
	load->broken = load->broken || n < 0;
	return n > 0;
}

static uint64_t arrived(const struct net_load *load)
{
	return load->work->to_host ? load64(&load->link->ctl->received) : load->moved;
}

/* Until the time has come.  False: nothing goes on. */
static bool until(struct net_load *load, uint64_t end)
{
	uint64_t now = now_ns(), last = now, seen = arrived(load);
	uint32_t turns = 0;

	while (!load->broken && now < end) {
		if (!step(load))
			relax();
		if (++turns % LOOK_EVERY)
			continue;
		now = now_ns();
		if (arrived(load) != seen)
			last = now;
		seen = arrived(load);
		if (now - last > NET_WAIT_NS)
			return false;
	}
	return !load->broken;
}

/* What was sent arrives, and no more than that.  False: frames were lost, or came twice. */
static bool drain(struct net_load *load)
{
	struct net_link *const link = load->link;
	const uint64_t end = now_ns() + NET_WAIT_NS;
	bool over = false;

	while (load->work->to_host && load->due && !load->broken && now_ns() < end)
		(void)step(load);
	if (load->work->to_host) {
		while (load64(&link->ctl->received) < load->moved && now_ns() < end)
			(void)(link->subject->turn && link->subject->turn(link));
	}
	store32(&link->ctl->what, NET_IDLE);
	if (link->subject->tell)
		link->subject->tell(link);
	while (!over && !load->broken && now_ns() < end) {
		if (!load->work->to_host)
			(void)step(load);
		else if (link->subject->turn)
			(void)link->subject->turn(link);
		over = load32(&link->ctl->idle) == link->ctl->go &&
		       (load->work->to_host ? load->moved == load64(&link->ctl->received)
					    : load->moved == load64(&link->ctl->sent));
	}
	return over;
}

static void begin(struct net_load *load)
{
	struct net_link *const link = load->link;
	struct net_ctl *const ctl = link->ctl;

	net_end_begin(&link->end, load->work->bytes);
	ctl->bytes = load->work->bytes;
	ctl->sent = ctl->received = ctl->wrong = 0;
	ctl->go++;
	store32(&ctl->what, load->work->to_host ? NET_SINK : NET_PRODUCE);
	if (link->subject->tell)
		link->subject->tell(link);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts = { 0, 0 };

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t net_cpu_ns(pid_t pid)
{
	clockid_t id = CLOCK_PROCESS_CPUTIME_ID;

	return !pid || clock_getcpuclockid(pid, &id) == 0 ? clock_ns(id) : 0;
}

void net_reap(pid_t *pid)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, SIGKILL);
	(void)waitpid(*pid, NULL, 0);
	*pid = 0;
}

static void load_run(struct net_link *link, const struct net_work *work, uint32_t us,
		     struct net_outcome *out)
{
	struct net_load load = { .link = link, .work = work };
	uint64_t from, mine, far, count, took;
	bool moves, all;

	begin(&load);
	moves = until(&load, now_ns() + us * 250u);
	from = now_ns();
	mine = net_cpu_ns(0);
	far = net_cpu_ns(link->far);
	count = arrived(&load);
	moves = moves && until(&load, from + us * 1000u);
	count = arrived(&load) - count;
	took = now_ns() - from;
	mine = net_cpu_ns(0) - mine;
	far = net_cpu_ns(link->far) - far;
	all = drain(&load);
	out->error = load.broken				    ? "a call failed"
		     : !moves					    ? "stalled"
		     : link->end.wrong || load64(&link->ctl->wrong) ? "a frame is not what was sent"
		     : !all ? "frames were lost, or came twice"
			    : NULL;
	if (out->error || !count)
		return; /* a busy machine may not let it run at all */
	out->per_s = (double)count * 1e9 / (double)took;
	out->cpu_ns = (double)(mine + far) / (double)count;
	out->on_cpu = (double)(mine < far ? mine : far) / (double)took;
}

/* ---- a link ---- */

int net_open(struct net_link *link)
{
	if (!link->subject->run) {
		net_end_new(&link->end);
		link->ctl = net_ctl_new();
	}
	if (link->subject->open(link)) {
		net_end_free(&link->end);
		if (link->ctl)
			(void)munmap(link->ctl, sizeof(*link->ctl));
		link->ctl = NULL;
		return -1;
	}
	link->open = true;
	net_stop(link);
	return 0;
}

void net_close(struct net_link *link)
{
	if (!link->open)
		return;
	link->open = false;
	net_go(link);
	link->subject->close(link);
	net_end_free(&link->end);
	if (link->ctl)
		(void)munmap(link->ctl, sizeof(*link->ctl));
	link->ctl = NULL;
}

static void stand_still(pid_t pid)
{
	int status;

	if (pid > 0 && kill(pid, SIGSTOP) == 0)
		(void)waitpid(pid, &status, WUNTRACED);
}

void net_stop(const struct net_link *link)
{
	stand_still(link->near);
	stand_still(link->far);
}

void net_go(const struct net_link *link)
{
	if (link->far > 0)
		(void)kill(link->far, SIGCONT);
	if (link->near > 0)
		(void)kill(link->near, SIGCONT);
}

void net_run(struct net_link *link, const struct net_work *work, uint32_t us,
	     struct net_outcome *out)
{
	memset(out, 0, sizeof(*out));
	if (link->subject->run)
		link->subject->run(link, work, us, out);
	else
		load_run(link, work, us, out);
}
