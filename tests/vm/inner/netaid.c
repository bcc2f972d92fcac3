/* SPDX-License-Identifier: MIT */
/*
 * What ping and iperf3 do not tell the scenarios with networks, inside and outside of the guest:
 * whether every byte of a stream and of an echo is right, whether datagrams of a flow keep their order,
 * and whether an answer came late although nothing was lost.  Linked statically; it knows nothing
 * about VMBus.  Each command prints one line of figures; its exit status is 0 if all is well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536u

static int fail(const char *what)
{
	printf("netaid: %s: %s\n", what, strerror(errno));
	return 1;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The bytes of a stream, of which each place has its own. */
static void fill(uint64_t *words, size_t n, uint64_t seed, uint64_t at)
{
	for (size_t i = 0; i < n; i++)
		words[i] = (seed + at + i) * UINT64_C(0x9e3779b97f4a7c15);
}

struct address {
	struct sockaddr_storage sa;
	socklen_t bytes;
	int family;
};

static int address_of(const char *name, const char *port, struct address *a)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->sa;
	const uint16_t number = htons((uint16_t)atoi(port));

	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, name, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = number;
		a->bytes = sizeof(*v4);
	} else if (inet_pton(AF_INET6, name, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = number;
		a->bytes = sizeof(*v6);
	} else {
		printf("netaid: %s is no address\n", name);
		return 1;
	}
	a->family = a->sa.ss_family;
	return 0;
}

static void time_limit(int fd, int which, int ms)
{
	const struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, which, &t, sizeof(t));
}

/* ---- ICMP echo: every size once, each answer compared ---- */

#define ICMP_HEAD 8u

static uint16_t inet_sum(const uint8_t *bytes, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (n % 2 != 0)
		sum += (uint32_t)bytes[n - 1] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

struct echo {
	int fd;
	int v6;
	uint16_t id, sequence;
	struct address to;
	uint8_t request[CHUNK + ICMP_HEAD];
	uint8_t answer[CHUNK + 128];
	long sizes, lost, wrong, retried;
};

static int echo_send(struct echo *e, size_t size)
{
	uint8_t *p = e->request;
	uint16_t sum;

	memset(p, 0, ICMP_HEAD);
	p[0] = e->v6 ? 128 : 8;
	p[4] = (uint8_t)(e->id >> 8);
	p[5] = (uint8_t)e->id;
	p[6] = (uint8_t)(e->sequence >> 8);
	p[7] = (uint8_t)e->sequence;
	for (size_t i = 0; i < size; i++)
		p[ICMP_HEAD + i] = (uint8_t)(i * 7 + e->sequence + (i >> 8));
	if (!e->v6) {
		sum = inet_sum(p, ICMP_HEAD + size);
		p[2] = (uint8_t)(sum >> 8);
		p[3] = (uint8_t)sum;
	}
	return sendto(e->fd, p, ICMP_HEAD + size, 0, (struct sockaddr *)&e->to.sa, e->to.bytes) < 0;
}

/* 1: the answer is there and right, 0: wrong, -1: none in time. */
static int echo_wait(struct echo *e, size_t size, int ms)
{
	const int64_t end = now_ns() + (int64_t)ms * 1000000;

	while (now_ns() < end) {
		struct pollfd p = { .fd = e->fd, .events = POLLIN };
		const uint8_t *got = e->answer;
		ssize_t n;
		size_t head = 0;

		if (poll(&p, 1, (int)((end - now_ns()) / 1000000) + 1) <= 0)
			continue;
		n = recv(e->fd, e->answer, sizeof(e->answer), 0);
		if (n < 0)
			continue;
		if (!e->v6)
			head = (size_t)(got[0] & 15) * 4;
		if ((size_t)n < head + ICMP_HEAD || got[head] != (e->v6 ? 129 : 0) ||
		    memcmp(got + head + 4, e->request + 4, 4) != 0)
			continue;
		return (size_t)n == head + ICMP_HEAD + size &&
		       memcmp(got + head + ICMP_HEAD, e->request + ICMP_HEAD, size) == 0;
	}
	return -1;
}

static void echo_size(struct echo *e, size_t size)
{
	int is = -1;

	e->sizes++;
	for (int tries = 0; tries < 2 && is < 0; tries++) {
		e->sequence++;
		e->retried += tries;
		if (echo_send(e, size) == 0)
			is = echo_wait(e, size, 3000);
		else
			printf("netaid: ping of %zu bytes cannot be sent: %s\n", size,
			       strerror(errno));
	}
	if (is == 1)
		return;
	if (is == 0)
		e->wrong++;
	else
		e->lost++;
	if (e->wrong + e->lost <= 5)
		printf("netaid: ping of %zu bytes: %s\n", size,
		       is == 0 ? "wrong bytes" : "no answer");
}

/* pings ADDRESS FROM TO STEP whole|cut */
static int pings(char **a)
{
	static struct echo e;
	const long from = atol(a[1]), to = atol(a[2]), step = atol(a[3]);
	const int whole = strcmp(a[4], "whole") == 0;
	const int mode4 = whole ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT, big = 1 << 20;

	if (address_of(a[0], "0", &e.to) != 0 || from < 0 || to > 65500 || step < 1)
		return 2;
	e.v6 = e.to.family == AF_INET6;
	e.fd = socket(e.to.family, SOCK_RAW | SOCK_CLOEXEC, e.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	if (e.fd < 0)
		return fail("raw socket");
	if (!e.v6)
		setsockopt(e.fd, IPPROTO_IP, IP_MTU_DISCOVER, &mode4, sizeof(mode4));
	else if (whole)
		setsockopt(e.fd, IPPROTO_IPV6, IPV6_DONTFRAG, &whole, sizeof(whole));
	setsockopt(e.fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	setsockopt(e.fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	e.id = (uint16_t)getpid();
	for (long size = from; size <= to && e.lost + e.wrong < 20; size += step)
		echo_size(&e, (size_t)size);
	printf("pings %s %ld to %ld bytes: %ld sizes, %ld lost, %ld wrong, %ld again\n", a[0], from,
	       to, e.sizes, e.lost, e.wrong, e.retried);
	return e.lost + e.wrong != 0;
}

/* ---- UDP: echo of small packets, and flows one way ---- */

struct datagram {
	uint64_t magic, flow, number, count;
};
#define ECHO_MAGIC UINT64_C(0x6f68636574656e76)
#define FLOW_MAGIC UINT64_C(0x776f6c6674656e76)
#define ASK_MAGIC UINT64_C(0x6b73616674656e76)
#define TELL_MAGIC UINT64_C(0x6c6c657474656e76)
#define FLOWS 64u

/* What came of each flow. */
struct flow {
	uint64_t next, received, late, twice;
	uint64_t seen[64]; /* a window of 4096 numbers below next */
};
static struct flow flows[FLOWS];

static void flow_one(struct flow *f, uint64_t number)
{
	uint64_t *word = &f->seen[number / 64 % 64];
	const uint64_t bit = UINT64_C(1) << (number % 64);

	if (number >= f->next) {
		if (number - f->next > 4096) {
			memset(f->seen, 0, sizeof(f->seen));
		} else {
			for (uint64_t n = f->next; n <= number; n++)
				f->seen[n / 64 % 64] &= ~(UINT64_C(1) << (n % 64));
		}
		f->next = number + 1;
	} else if (f->next - number <= 4096 && (*word & bit) != 0) {
		f->twice++;
		return;
	} else {
		f->late++;
	}
	*word |= bit;
	f->received++;
}

static void answer_totals(int fd, struct datagram *d, struct sockaddr *to, socklen_t bytes)
{
	uint64_t line[5] = { TELL_MAGIC, d->number, 0, 0, 0 };

	for (unsigned i = 0; i < FLOWS; i++) {
		line[2] += flows[i].received;
		line[3] += flows[i].late;
		line[4] += flows[i].twice;
	}
	if (d->count != 0)
		memset(flows, 0, sizeof(flows));
	sendto(fd, line, sizeof(line), 0, to, bytes);
}

/*
 * A word back now and then.  A TAP with several queues gives a flow the queue that its other direction
 * came by, and forgets that after three seconds of silence: then the flow moves to another queue, and
 * what waits in both is out of order, which is no fault of who reads them.
 */
static void answer_flow(int fd, const struct datagram *d, struct sockaddr *to, socklen_t bytes)
{
	static int64_t answered[FLOWS];
	const uint64_t line[5] = { FLOW_MAGIC, d->number, 0, 0, 0 };
	const int64_t now = now_ns();

	if (now - answered[d->flow] < 200000000)
		return;
	answered[d->flow] = now;
	sendto(fd, line, sizeof(line), 0, to, bytes);
}

static int udp_socket(const char *port, struct address *any)
{
	const int no = 0, big = 8 << 20;
	int fd;

	if (address_of("::", port, any) != 0)
		return -1;
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any->sa, any->bytes) != 0)
		return -1;
	return fd;
}

/* udp PORT: answers echoes, counts flows, tells what it counted; for ever. */
static int udp_server(char **a)
{
	static union {
		struct datagram d;
		uint8_t bytes[CHUNK];
	} u;
	struct address any;
	const int fd = udp_socket(a[0], &any);

	if (fd < 0)
		return fail("udp");
	for (;;) {
		struct sockaddr_storage from;
		socklen_t bytes = sizeof(from);
		const ssize_t n = recvfrom(fd, &u, sizeof(u), 0, (struct sockaddr *)&from, &bytes);

		if (n < (ssize_t)sizeof(u.d))
			continue;
		if (u.d.magic == ECHO_MAGIC)
			sendto(fd, &u, (size_t)n, 0, (struct sockaddr *)&from, bytes);
		else if (u.d.magic == FLOW_MAGIC && u.d.flow < FLOWS) {
			flow_one(&flows[u.d.flow], u.d.number);
			answer_flow(fd, &u.d, (struct sockaddr *)&from, bytes);
		} else if (u.d.magic == ASK_MAGIC)
			answer_totals(fd, &u.d, (struct sockaddr *)&from, bytes);
	}
}

static int udp_to(const char *name, const char *port)
{
	const int big = 4 << 20;
	struct address to;
	int fd;

	if (address_of(name, port, &to) != 0)
		return -1;
	fd = socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to.sa, to.bytes) != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	return fd;
}

#define WINDOW_MAX 256u
struct packets {
	int fd;
	uint64_t count, sent, answered, window, bytes;
	uint64_t lost, stalls, wrong;
	int64_t longest;
	uint8_t is_out[WINDOW_MAX];
	uint64_t words[2048 / 8], got[2048 / 8];
};

static void packets_send(struct packets *p)
{
	struct datagram *d = (struct datagram *)p->words;

	fill(p->words, p->bytes / 8, p->sent, 0);
	d->magic = ECHO_MAGIC;
	d->number = p->sent;
	p->is_out[p->sent % p->window] = 1;
	p->sent++;
	send(p->fd, p->words, p->bytes, 0);
}

/* Takes one answer; false when none came in a second. */
static int packets_take(struct packets *p)
{
	struct pollfd wait = { .fd = p->fd, .events = POLLIN };
	struct datagram *d = (struct datagram *)p->got;
	const int64_t before = now_ns();
	ssize_t n = recv(p->fd, p->got, sizeof(p->got), MSG_DONTWAIT);

	if (n < 0) {
		if (poll(&wait, 1, 1000) <= 0)
			return 0;
		if (now_ns() - before > p->longest)
			p->longest = now_ns() - before;
		n = recv(p->fd, p->got, sizeof(p->got), MSG_DONTWAIT);
	}
	if (n != (ssize_t)p->bytes || d->number >= p->sent || p->sent - d->number > p->window)
		return 1;
	fill(p->words, p->bytes / 8, d->number, 0);
	if (memcmp(p->words + 4, p->got + 4, p->bytes - sizeof(*d)) != 0)
		p->wrong++;
	if (p->is_out[d->number % p->window]) {
		p->is_out[d->number % p->window] = 0;
		p->answered++;
	}
	return 1;
}

static uint64_t packets_out(const struct packets *p)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < p->window; i++)
		n += p->is_out[i];
	return n;
}

/*
 * packets ADDRESS PORT COUNT WINDOW BYTES: echoes, so many under way.  One whose answer does not come
 * in a second is lost, or late for want of a wake-up: both count.
 */
static int packets(char **a)
{
	static struct packets p;
	const int64_t began = now_ns();

	p.fd = udp_to(a[0], a[1]);
	p.count = strtoull(a[2], NULL, 10);
	p.window = strtoull(a[3], NULL, 10);
	p.bytes = strtoull(a[4], NULL, 10);
	if (p.fd < 0)
		return fail("packets");
	if (p.window < 1 || p.window > WINDOW_MAX || p.bytes < 32 || p.bytes > 2048 || p.bytes % 8)
		return 2;
	while ((p.sent < p.count || packets_out(&p) != 0) && p.lost < 100) {
		while (p.sent < p.count && !p.is_out[p.sent % p.window])
			packets_send(&p);
		if (packets_take(&p))
			continue;
		p.stalls++;
		p.lost += packets_out(&p);
		memset(p.is_out, 0, sizeof(p.is_out));
	}
	printf("packets %llu of %llu bytes window %llu: %llu answered, %llu lost, %llu stalls, "
	       "%llu wrong, "
	       "longest wait %.1f ms, %.0f a second\n",
	       (unsigned long long)p.sent, (unsigned long long)p.bytes,
	       (unsigned long long)p.window, (unsigned long long)p.answered,
	       (unsigned long long)p.lost, (unsigned long long)p.stalls,
	       (unsigned long long)p.wrong, (double)p.longest / 1e6,
	       (double)p.answered * 1e9 / (double)(now_ns() - began));
	return p.lost + p.stalls + p.wrong != 0 || p.answered != p.count;
}

/* The totals of the other side: received, late, twice. */
static int ask_totals(int fd, int clear, uint64_t totals[3])
{
	static uint64_t number;
	uint64_t line[5];
	struct datagram d = { .magic = ASK_MAGIC, .number = ++number, .count = (uint64_t)clear };

	d.number += (uint64_t)getpid() << 32;
	time_limit(fd, SO_RCVTIMEO, 500);
	for (int tries = 0; tries < 20; tries++) {
		send(fd, &d, sizeof(d), 0);
		while (recv(fd, line, sizeof(line), 0) == sizeof(line)) {
			if (line[0] != TELL_MAGIC || line[1] != d.number)
				continue;
			memcpy(totals, line + 2, sizeof(line) - 2 * sizeof(line[0]));
			return 0;
		}
	}
	return 1;
}

/*
 * flows ADDRESS PORT FLOWS COUNT BYTES: so many datagrams in all, in flows of their own sockets, as
 * fast as it can; then what the other side has of them.  Lost ones are told, not judged.
 */
static int one_way(char **a)
{
	static uint64_t words[9000 / 8];
	struct datagram *d = (struct datagram *)words;
	const uint64_t wanted = strtoull(a[2], NULL, 10), count = strtoull(a[3], NULL, 10);
	const uint64_t bytes = strtoull(a[4], NULL, 10);
	uint64_t totals[3], number[FLOWS] = { 0 }, sent = 0;
	int fd[FLOWS];

	if (wanted < 1 || wanted > FLOWS || bytes < 32 || bytes > sizeof(words))
		return 2;
	for (uint64_t i = 0; i < wanted; i++) {
		fd[i] = udp_to(a[0], a[1]);
		if (fd[i] < 0)
			return fail("flows");
	}
	/* Each flow has been answered once before it begins: see answer_flow(). */
	for (uint64_t i = 0; i < wanted; i++) {
		if (ask_totals(fd[i], 1, totals) != 0)
			return fail("flows: no answer before");
	}
	d->magic = FLOW_MAGIC;
	for (uint64_t i = 0; i < count; i++) {
		d->flow = i % wanted;
		d->number = number[d->flow]++;
		sent += send(fd[d->flow], words, bytes, 0) == (ssize_t)bytes;
	}
	usleep(200000);
	if (ask_totals(fd[0], 1, totals) != 0)
		return fail("flows: no answer after");
	printf("flows %llu sent %llu received %llu late %llu twice %llu lost %llu\n",
	       (unsigned long long)wanted, (unsigned long long)sent, (unsigned long long)totals[0],
	       (unsigned long long)totals[1], (unsigned long long)totals[2],
	       (unsigned long long)(sent - totals[0]));
	return totals[0] == 0 || totals[1] + totals[2] != 0;
}

/* ---- TCP: a stream of which each byte is compared ---- */

struct head {
	uint64_t up, mib, seed;
};

static int write_all(int fd, const void *from, size_t n)
{
	const char *p = from;

	while (n > 0) {
		const ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		if (done <= 0)
			return -1;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int read_all(int fd, void *to, size_t n)
{
	return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n ? 0 : -1;
}

static int stream_out(int fd, const struct head *h)
{
	static uint64_t words[CHUNK / 8];

	for (uint64_t at = 0; at < h->mib * (1048576 / CHUNK); at++) {
		fill(words, CHUNK / 8, h->seed, at * (CHUNK / 8));
		if (write_all(fd, words, CHUNK) != 0)
			return -1;
	}
	return 0;
}

/* The first wrong byte, or the number of bytes if none is; -1 if the stream ends early. */
static int64_t stream_in(int fd, const struct head *h)
{
	static uint64_t words[CHUNK / 8], got[CHUNK / 8];

	for (uint64_t at = 0; at < h->mib * (1048576 / CHUNK); at++) {
		fill(words, CHUNK / 8, h->seed, at * (CHUNK / 8));
		if (read_all(fd, got, CHUNK) != 0)
			return -1;
		for (size_t i = 0; i < CHUNK / 8; i++) {
			if (words[i] != got[i])
				return (int64_t)(at * CHUNK + i * 8);
		}
	}
	return (int64_t)(h->mib * 1048576);
}

static void serve_one(int fd)
{
	struct head h;
	int64_t good = -1;

	time_limit(fd, SO_RCVTIMEO, 60000);
	time_limit(fd, SO_SNDTIMEO, 60000);
	if (read_all(fd, &h, sizeof(h)) == 0) {
		if (h.up == 1) {
			good = stream_in(fd, &h);
			write_all(fd, &good, sizeof(good));
		} else {
			stream_out(fd, &h);
		}
		read_all(fd, &good, sizeof(good));
	}
	_exit(0);
}

/* tcp PORT: for ever. */
static int tcp_server(char **a)
{
	const int yes = 1, no = 0;
	struct address any;
	int fd;

	if (address_of("::", a[0], &any) != 0)
		return 2;
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any.sa, any.bytes) != 0 || listen(fd, 64) != 0)
		return fail("tcp");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		const int one = accept(fd, NULL, NULL);

		if (one < 0)
			continue;
		if (fork() == 0)
			serve_one(one);
		close(one);
	}
}

/* A stream to it, or -1.  Who listens may begin a little later than we do. */
static int tcp_to(const struct address *to)
{
	const int fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	time_limit(fd, SO_RCVTIMEO, 30000);
	time_limit(fd, SO_SNDTIMEO, 30000);
	for (int tries = 0; connect(fd, (const struct sockaddr *)&to->sa, to->bytes) != 0;
	     tries++) {
		if (errno != ECONNREFUSED || tries == 50)
			return -1;
		usleep(100000);
	}
	return fd;
}

/* transfer ADDRESS PORT up|down MIB */
static int transfer(char **a)
{
	const struct head h = { .up = strcmp(a[2], "up") == 0,
				.mib = strtoull(a[3], NULL, 10),
				.seed = (uint64_t)getpid() << 32 };
	const int64_t began = now_ns(), bytes = (int64_t)(h.mib * 1048576);
	struct address to;
	int64_t good = -1;
	int fd;

	if (address_of(a[0], a[1], &to) != 0)
		return 2;
	fd = tcp_to(&to);
	if (fd < 0)
		return fail("transfer: connect");
	if (write_all(fd, &h, sizeof(h)) != 0)
		return fail("transfer: head");
	if (h.up) {
		if (stream_out(fd, &h) != 0)
			return fail("transfer: send");
		if (read_all(fd, &good, sizeof(good)) != 0)
			return fail("transfer: no verdict");
	} else {
		good = stream_in(fd, &h);
	}
	if (good != bytes) {
		printf("transfer %s: byte %lld of %lld is wrong or missing (%s)\n", a[2],
		       (long long)good, (long long)bytes, strerror(errno));
		return 1;
	}
	printf("transfer %s %lld bytes right, %.1f MB/s\n", a[2], (long long)bytes,
	       (double)bytes * 1000 / (double)(now_ns() - began));
	return 0;
}

/*
 * fetch ADDRESS PORT: what comes until the other side ends the stream, to stdout.  This side stays open
 * until then: a busybox's nc that listens takes the peer's half-close for the end, and leaves the rest.
 */
static int fetch(char **a)
{
	static char bytes[CHUNK];
	struct address to;
	ssize_t n;
	int fd;

	if (address_of(a[0], a[1], &to) != 0)
		return 2;
	fd = tcp_to(&to);
	if (fd < 0) {
		fprintf(stderr, "netaid: fetch: connect: %s\n", strerror(errno));
		return 1;
	}
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		if (fwrite(bytes, 1, (size_t)n, stdout) != (size_t)n)
			return 1;
	}
	if (n < 0)
		fprintf(stderr, "netaid: fetch: %s\n", strerror(errno));
	return n < 0 || fflush(stdout) != 0;
}

static const struct command {
	const char *name;
	int arguments;
	int (*run)(char **arguments);
	const char *usage;
} commands[] = {
	{ "pings", 5, pings, "ADDRESS FROM TO STEP whole|cut" },
	{ "udp", 1, udp_server, "PORT" },
	{ "packets", 5, packets, "ADDRESS PORT COUNT WINDOW BYTES" },
	{ "flows", 5, one_way, "ADDRESS PORT FLOWS COUNT BYTES" },
	{ "tcp", 1, tcp_server, "PORT" },
	{ "transfer", 4, transfer, "ADDRESS PORT up|down MIB" },
	{ "fetch", 2, fetch, "ADDRESS PORT" },
};

int main(int argc, char **argv)
{
	const size_t n = sizeof(commands) / sizeof(commands[0]);

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < n; i++) {
		if (argc == commands[i].arguments + 2 && strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argv + 2);
	}
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "usage: netaid %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}
