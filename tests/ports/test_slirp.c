/* SPDX-License-Identifier: MIT */
/* The slirp port: a guest by hand, which asks for its address, and talks to servers of this process. */
#include "drive.h"
#include "frames.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#if defined(VMBUS_HAVE_SLIRP)
#include <vmbus/port_slirp.h>
#endif

#if !defined(VMBUS_HAVE_SLIRP)
START_TEST(port_slirp__is_built)
{
	VMBUS_TEST_SKIP("built without libslirp");
}
END_TEST

static void tests(Suite *suite)
{
	tcase_add_test(vmbus_test_case(suite, "slirp", 1), port_slirp__is_built);
}
#else

#define MAC "\x02\0\0\0\0\x01"
#define HOST 0x0a000202u /* 10.0.2.2 */
#define GUEST 0x0a00020fu
#define ALL UINT32_MAX
#define SYN 2u
#define RST 4u
#define ACK 16u
#define FIN 1u

static char why[200];

static int make_port(struct vmbus_port_slirp_opts opts, struct vmbus_port *port)
{
	opts.struct_bytes = sizeof(opts);
	opts.why = why;
	opts.why_bytes = sizeof(why);
	return vmbus_port_slirp(&opts, port);
}

static void begin(struct drive *d, struct vmbus_port_slirp_opts opts)
{
	struct vmbus_port port;

	vmbus_test_at("%s", why);
	must_eq(make_port(opts, &port), 0);
	drive_open(d, &port);
}

static void end(struct drive *d)
{
	struct vmbus_port port = d->port;

	drive_close(d);
	vmbus_port_destroy(&port);
}

/* ---- frames ---- */

static void put32(uint8_t *to, uint32_t v)
{
	put16(to, v >> 16);
	put16(to + 2, v & 0xffffu);
}

/* An IPv4 frame from the guest; what stands behind byte 34 is there already. */
static void finish_ip(uint8_t *at, uint32_t bytes, uint32_t from, uint32_t to, int protocol)
{
	memcpy(at, "\x52\x55\x0a\x00\x02\x02" MAC, 12);
	if (to == ALL)
		memset(at, 0xff, 6);
	put16(at + 12, 0x0800);
	memset(at + 14, 0, 20);
	at[14] = 0x45;
	put16(at + 16, bytes - 14);
	at[22] = 64;
	at[23] = (uint8_t)protocol;
	put32(at + 26, from);
	put32(at + 30, to);
	put16(at + 24, 0xffffu - slow_sum(0, at + 14, 20));
}

static void finish_sum(uint8_t *at, uint32_t bytes, int protocol, uint32_t offset)
{
	put16(at + 34 + offset, 0);
	put16(at + 34 + offset, transport_wrong(at + 14, at + 34, protocol, bytes - 34));
}

static void send_udp(struct drive *d, uint32_t from, uint32_t to, uint32_t ports, const void *data,
		     uint32_t len)
{
	uint8_t at[600];
	const uint32_t bytes = 42 + len;

	put32(at + 34, ports);
	put16(at + 38, 8 + len);
	memcpy(at + 42, data, len);
	finish_ip(at, bytes, from, to, 17);
	finish_sum(at, bytes, 17, 6);
	drive_send(d, at, bytes);
}

struct tcp {
	uint32_t to, ports; /* ours, then the other one's */
	uint32_t seq, ack;
};

/* In two pieces, as a guest gives what is longer. */
static void send_tcp(struct drive *d, struct tcp *t, uint32_t flags, const void *data, uint32_t len)
{
	uint8_t at[1514];
	const uint32_t bytes = 54 + len;
	const struct vmbus_iov piece[2] = { { at, 54 }, { at + 54, len } };

	put32(at + 34, t->ports);
	put32(at + 38, t->seq);
	put32(at + 42, t->ack);
	at[46] = 0x50;
	at[47] = (uint8_t)flags;
	put16(at + 48, 60000);
	put32(at + 50, 0);
	if (len)
		memcpy(at + 54, data, len);
	finish_ip(at, bytes, GUEST, t->to, 6);
	finish_sum(at, bytes, 6, 16);
	t->seq += len + (flags & SYN) / SYN + (flags & FIN);
	must_eq(drive_send_pieces(d, piece, len ? 2 : 1, (struct vmbus_frame){ 0 }), 1);
}

struct want {
	int protocol;
	uint32_t ports; /* the other one's, then ours */
	uint32_t flags; /* of TCP */
	bool data;
};

static bool matches(const struct got *got, const void *what)
{
	const struct want *const w = what;
	const uint8_t *const at = got->at;

	if (got->bytes < 42 || get16(at + 12) != 0x0800 || at[23] != w->protocol ||
	    (w->ports && get32(at + 34) != w->ports))
		return false;
	if (w->protocol != 6)
		return true;
	return (at[47] & w->flags) == w->flags && (!w->data || get16(at + 16) > 40);
}

static bool is_arp(const struct got *got, const void *what)
{
	(void)what;
	return got->bytes >= 42 && get16(got->at + 12) == 0x0806;
}

static const struct got *find(struct drive *d, struct want want, int ms)
{
	return drive_find(d, matches, &want, ms);
}

static uint32_t swap(uint32_t ports)
{
	return ports << 16 | ports >> 16;
}

/* libslirp asks who has the guest's address before it sends there. */
static void tell_address(struct drive *d)
{
	uint8_t at[42] = { 0 };

	memset(at, 0xff, 6);
	memcpy(at + 6, MAC, 6);
	put16(at + 12, 0x0806);
	memcpy(at + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(at + 22, MAC, 6);
	put32(at + 28, GUEST);
	put32(at + 38, HOST);
	drive_send(d, at, sizeof(at));
	must(drive_find(d, is_arp, NULL, WAIT_MS));
	drive_forget(d);
}

/* ---- servers ---- */

static int listener(int type, uint16_t *port)
{
	const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr = { .s_addr = htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);

	must(fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0);
	must(type != SOCK_STREAM || listen(fd, 64) == 0);
	must(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* The guest opens a connection to it. */
static void connect_to(struct drive *d, struct tcp *t, uint16_t port, uint16_t from)
{
	const struct got *got;

	*t = (struct tcp){ .to = HOST, .ports = (uint32_t)from << 16 | port, .seq = 1000 };
	send_tcp(d, t, SYN, NULL, 0);
	got = find(d, (struct want){ .protocol = 6, .ports = swap(t->ports), .flags = SYN | ACK },
		   WAIT_MS);
	must(got);
	must_eq(transport_wrong(got->at + 14, got->at + 34, 6, got->bytes - 34), 0);
	must(got->flags & VMBUS_FRAME_CSUM_OK);
	t->ack = get32(got->at + 38) + 1;
	send_tcp(d, t, ACK, NULL, 0);
	drive_forget(d);
}

/* ---- tests ---- */

START_TEST(port_slirp__refuses_what_makes_no_sense)
{
	static const char *const networks[] = { "",
						"10.0.2.0",
						"10.0.2.0/7",
						"10.0.2.0/29",
						"10.0.2.1/24",
						"10.0.2/24",
						"0.0.0.0/8",
						"10.0.2.0/24x",
						"a.b.c.d/24",
						"10.0.2.0/",
						"1111.1111.1111.11/24" };
	static const char *const forwards[] = { "",
						"tcp",
						"tcp::1-:",
						"tcp::0-:80",
						"tcp::65536-:80",
						"tcp::80",
						"sctp::1-:1",
						"tcp:x:1-:1",
						"tcp::1-10.1.2.3:1",
						"tcp::1-:1x",
						"tcp:127.0.0.1-:1",
						"udp::99999999999999999999-:1" };
	struct vmbus_port_slirp_opts opts = { 0 };
	struct vmbus_port port = { NULL, NULL };
	uint32_t i;

	must_eq(vmbus_port_slirp(&opts, &port), VMBUS_E_INVAL);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .flags = 32 }, &port), VMBUS_E_INVAL);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .hostfwds = 1 }, &port), VMBUS_E_INVAL);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .mtu = 575 }, &port), VMBUS_E_RANGE);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .mtu = 65522 }, &port), VMBUS_E_RANGE);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .sockets_max = 15 }, &port),
		VMBUS_E_RANGE);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .sockets_max = 4097 }, &port),
		VMBUS_E_RANGE);
	must_eq(make_port((struct vmbus_port_slirp_opts){ .hostfwd = forwards, .hostfwds = 65 },
			  &port),
		VMBUS_E_RANGE);
	must(strstr(why, "hostfwds 65: 64 are the most"));
	(void)make_port((struct vmbus_port_slirp_opts){ .flags = 1u << 30 }, &port);
	must(strstr(why, "flags 0x40000000"));
	(void)make_port((struct vmbus_port_slirp_opts){ .mtu = 10 }, &port);
	must(strstr(why, "mtu 10: it is 576 to 65521"));
	(void)make_port((struct vmbus_port_slirp_opts){ .sockets_max = 1u << 30 }, &port);
	must(strstr(why, "sockets_max 1073741824: it is 16 to 4096"));
	for (i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
		vmbus_test_at("network %s", networks[i]);
		opts.network = networks[i];
		must_eq(make_port(opts, &port), VMBUS_E_INVAL);
		must(strstr(why, "/8 to /28"));
	}
	for (i = 0; i < sizeof(forwards) / sizeof(forwards[0]); i++) {
		vmbus_test_at("forward %s", forwards[i]);
		opts = (struct vmbus_port_slirp_opts){ .hostfwd = &forwards[i], .hostfwds = 1 };
		must_eq(make_port(opts, &port), VMBUS_E_INVAL);
		must(strstr(why, "tcp:[HOST]:PORT"));
	}
	must(!port.ops);
}
END_TEST

START_TEST(port_slirp__tells_what_it_can)
{
	struct vmbus_port_queue past = { .number = 1 }, second = { .number = 0 };
	struct vmbus_port_info info;
	struct drive d;

	begin(&d, (struct vmbus_port_slirp_opts){ .mtu = 9000 });
	must_eq(d.port.ops->info(d.port.ctx, &info), 0);
	must(info.can == 0 && info.queues == 1 && info.up && info.mtu_max == 9000);
	past.ctx = second.ctx = d.port.ctx;
	must_eq(d.port.ops->open(&past), VMBUS_E_RANGE);
	must_eq(d.port.ops->open(&second), VMBUS_E_STATE);
	end(&d);
}
END_TEST

static uint32_t dhcp(uint8_t *at, uint32_t kind)
{
	memset(at, 0, 300);
	memcpy(at, "\1\1\6\0\x12\x34\x56\x78", 8);
	memcpy(at + 28, MAC, 6);
	memcpy(at + 236, "\x63\x82\x53\x63\x35\1", 6);
	at[242] = (uint8_t)kind;
	if (kind == 3) {
		memcpy(at + 243, "\x32\4", 2);
		put32(at + 245, GUEST);
		at[249] = 0xff;
	} else {
		at[243] = 0xff;
	}
	return 300;
}

/* An option's place, 0: it is not there. */
static uint32_t dhcp_option(const struct got *got, uint8_t code)
{
	uint32_t at = 42 + 240;

	while (at + 2 < got->bytes && got->at[at] != 0xff) {
		if (got->at[at] == code)
			return at + 2;
		at += got->at[at] ? 2u + got->at[at + 1] : 1;
	}
	return 0;
}

START_TEST(port_slirp__gives_addresses)
{
	static const struct {
		const char *network;
		uint32_t base, guest;
	} nets[] = { { NULL, 0x0a000200, 15 },
		     { "192.168.7.0/24", 0xc0a80700, 15 },
		     { "10.4.0.16/28", 0x0a040010, 4 } };
	const uint32_t base = nets[_i].base, guest = base + nets[_i].guest;
	const struct want want = { .protocol = 17, .ports = 67u << 16 | 68u };
	const struct got *got;
	struct drive d;
	uint8_t at[300];
	uint32_t place;

	begin(&d, (struct vmbus_port_slirp_opts){ .network = nets[_i].network,
						  .hostname = "tester",
						  .domain = "example.org" });
	send_udp(&d, 0, ALL, 68u << 16 | 67u, at, dhcp(at, 1));
	got = find(&d, want, WAIT_MS);
	must(got);
	must_eq(get32(got->at + 42 + 16), guest);
	place = dhcp_option(got, 53);
	must(place && got->at[place] == 2); /* an offer */
	drive_forget(&d);
	(void)dhcp(at, 3);
	put32(at + 245, guest);
	send_udp(&d, 0, ALL, 68u << 16 | 67u, at, 300);
	got = find(&d, want, WAIT_MS);
	must(got);
	must_eq(get32(got->at + 42 + 16), guest);
	place = dhcp_option(got, 53);
	must(place && got->at[place] == 5); /* acknowledged */
	place = dhcp_option(got, 3);
	must(place && get32(got->at + place) == base + 2);
	place = dhcp_option(got, 6);
	must(place && get32(got->at + place) == base + 3);
	place = dhcp_option(got, 12);
	must(place && memcmp(got->at + place, "tester", 6) == 0);
	end(&d);
}
END_TEST

START_TEST(port_slirp__leaves_out_what_is_not_wanted)
{
	struct drive d;
	uint8_t at[300];

	begin(&d, (struct vmbus_port_slirp_opts){ .flags = VMBUS_PORT_SLIRP_NO_DHCP |
							   VMBUS_PORT_SLIRP_NO_DNS |
							   VMBUS_PORT_SLIRP_NO_IPV6 });
	send_udp(&d, 0, ALL, 68u << 16 | 67u, at, dhcp(at, 1));
	must(!find(&d, (struct want){ .protocol = 17 }, 100));
	tell_address(&d);
	send_udp(&d, GUEST, 0x0a000203, 5000u << 16 | 53u, at, 30);
	must(!find(&d, (struct want){ .protocol = 17 }, 100));
	end(&d);
}
END_TEST

#define PING_BYTES (42u + 56u)

static void send_ping(struct drive *d, uint8_t number)
{
	uint8_t at[PING_BYTES];

	memset(at + 34, 0, 64);
	at[34] = 8;
	at[42] = number;
	finish_ip(at, sizeof(at), GUEST, HOST, 1);
	put16(at + 36, 0xffffu - slow_sum(0, at + 34, 64));
	drive_send(d, at, sizeof(at));
}

START_TEST(port_slirp__answers_pings)
{
	const struct got *got;
	struct drive d;

	begin(&d, (struct vmbus_port_slirp_opts){ 0 });
	tell_address(&d);
	send_ping(&d, 77);
	got = find(&d, (struct want){ .protocol = 1 }, WAIT_MS);
	must(got && got->bytes >= PING_BYTES && got->at[34] == 0 && got->at[42] == 77);
	end(&d);
}
END_TEST

START_TEST(port_slirp__carries_datagrams)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	const struct got *got;
	struct drive d;
	uint16_t port;
	char bytes[64];
	const int fd = listener(SOCK_DGRAM, &port);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	begin(&d, (struct vmbus_port_slirp_opts){ 0 });
	tell_address(&d);
	send_udp(&d, GUEST, HOST, 4000u << 16 | port, "question", 8);
	must_eq(poll(&pollfd, 1, WAIT_MS), 1);
	must_eq(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len), 8);
	must(memcmp(bytes, "question", 8) == 0);
	must_eq(sendto(fd, "answer", 6, 0, (const struct sockaddr *)&from, len), 6);
	got = find(&d, (struct want){ .protocol = 17, .ports = (uint32_t)port << 16 | 4000u },
		   WAIT_MS);
	must(got && memcmp(got->at + 42, "answer", 6) == 0);
	must_eq(transport_wrong(got->at + 14, got->at + 34, 17, 14), 0);
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

/* 64 KiB each way, while the guest has little room. */
START_TEST(port_slirp__carries_connections)
{
	static uint8_t out[65536], in[65536];
	uint32_t i, sent = 0, back = 0, wrote = 0, received = 0;
	const struct got *got;
	struct drive d;
	struct tcp t;
	uint16_t port;
	const int fd = listener(SOCK_STREAM, &port);
	int peer;

	for (i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 31 + i / 256);
	begin(&d, (struct vmbus_port_slirp_opts){ 0 });
	tell_address(&d);
	connect_to(&d, &t, port, 4001);
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	must(peer >= 0);
	while (sent < sizeof(out)) {
		send_tcp(&d, &t, ACK, out + sent, 1024);
		sent += 1024;
		while (received < sent) {
			const ssize_t n = recv(peer, in + received, sizeof(in) - received, 0);

			must(n > 0);
			received += (uint32_t)n;
		}
		drive_forget(&d);
	}
	must(memcmp(in, out, sizeof(out)) == 0);
	while (back < sizeof(out)) {
		if (wrote < sizeof(out)) {
			const ssize_t n =
				send(peer, out + wrote, sizeof(out) - wrote, MSG_DONTWAIT);

			wrote += n > 0 ? (uint32_t)n : 0;
		}
		d.room = 2;
		must(drive_turn(&d, WAIT_MS));
		for (i = 0; i < d.n; i++) {
			got = &d.got[i];
			if (!matches(got, &(struct want){ .protocol = 6, .data = true }) ||
			    get32(got->at + 38) != t.ack)
				continue;
			must(memcmp(got->at + 54, out + back, got->bytes - 54) == 0);
			back += got->bytes - 54;
			t.ack += got->bytes - 54;
		}
		drive_forget(&d);
		send_tcp(&d, &t, ACK, NULL, 0);
	}
	drive_drops(&d, 0, 0);
	must(close(peer) == 0 && close(fd) == 0);
	end(&d);
}
END_TEST

/* The far end waits, in the socket, and what was read is kept until there is room. */
START_TEST(port_slirp__reads_no_socket_while_the_guest_is_full)
{
	static uint8_t bytes[1400];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct drive d;
	uint16_t port;
	const int fd = listener(SOCK_DGRAM, &port);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	uint32_t i;

	begin(&d, (struct vmbus_port_slirp_opts){ 0 });
	tell_address(&d);
	send_udp(&d, GUEST, HOST, 4000u << 16 | port, "question", 8);
	must_eq(poll(&pollfd, 1, WAIT_MS), 1);
	must_eq(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len), 8);
	d.room = 0;
	must_eq(sendto(fd, bytes, 100, 0, (const struct sockaddr *)&from, len), 100);
	must(drive_turn(&d, WAIT_MS));
	must(drive_turn(&d, 100)); /* nothing else comes, and libslirp's next timer is later */
	for (i = 0; i < 1000; i++) {
		(void)!sendto(fd, bytes, sizeof(bytes), 0, (const struct sockaddr *)&from, len);
		must(drive_turn(&d, WAIT_MS)); /* what waits keeps it readable */
	}
	must_eq(d.n, 0);
	drive_drops(&d, 0, 0);
	d.room = 3;
	must(drive_turn(&d, WAIT_MS) && d.n);
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

/* Nor while it goes on to send. */
START_TEST(port_slirp__reads_no_socket_for_a_guest_that_sends_and_is_full)
{
	static uint8_t bytes[1400];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct drive d;
	uint16_t port;
	const int fd = listener(SOCK_DGRAM, &port);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	uint32_t i, others;

	begin(&d, (struct vmbus_port_slirp_opts){ 0 });
	tell_address(&d);
	send_udp(&d, GUEST, HOST, 4000u << 16 | port, "question", 8);
	must_eq(poll(&pollfd, 1, WAIT_MS), 1);
	must_eq(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len), 8);
	d.room = 0;
	for (i = 0; i < 2; i++) { /* one is read, then the other stays where it is */
		must_eq(sendto(fd, bytes, 100, 0, (const struct sockaddr *)&from, len), 100);
		must(drive_turn(&d, WAIT_MS));
	}
	for (i = 0; i < 5; i++) {
		must_eq(usleep(5000), 0);
		send_udp(&d, GUEST, HOST, 4000u << 16 | port, "more", 4);
	}
	others = d.n;
	d.room = UINT32_MAX;
	d.port.ops->send(&d.queue, NULL, 0); /* what has been read, no more */
	must_eq(d.n - others, 1);
	must(find(&d, (struct want){ .protocol = 17 }, WAIT_MS));
	drive_forget(&d);
	must(find(&d, (struct want){ .protocol = 17 }, WAIT_MS)); /* and the other one */
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

/* Another guest, or the same one after a reset, has not asked for what waits: it is lost, and counted. */
START_TEST(port_slirp__drops_what_waited_for_a_guest_that_is_gone)
{
	uint32_t before;
	struct drive d;

	begin(&d, (struct vmbus_port_slirp_opts){ .flags = VMBUS_PORT_SLIRP_NO_IPV6 });
	tell_address(&d);
	before = d.n;
	d.room = 0;
	send_ping(&d, 1);
	send_ping(&d, 2);
	drive_drops(&d, 0, 0);
	d.port.ops->close(&d.queue);
	d.queue.fd = -1;
	must_eq(d.port.ops->open(&d.queue), 0);
	drive_drops(&d, 0, 2);
	d.room = UINT32_MAX;
	(void)drive_turn(&d, 50);
	must_eq(d.n, before);
	end(&d);
}
END_TEST

START_TEST(port_slirp__leads_ports_into_the_guest)
{
	char text[64];
	const char *const forward[] = { text };
	const struct got *got;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr = { .s_addr = htonl(INADDR_LOOPBACK) } };
	struct vmbus_port second = { NULL, NULL };
	struct vmbus_port_slirp_opts opts = { .hostfwd = forward, .hostfwds = 1 };
	struct tcp t;
	struct drive d;
	uint16_t port;
	char bytes[8];
	int fd = listener(SOCK_STREAM, &port);
	struct pollfd pollfd;

	(void)snprintf(text, sizeof(text), "tcp::%u-:80", port);
	must_eq(make_port(opts, &second), VMBUS_E_STATE); /* in use */
	must(strstr(why, text) && !second.ops);
	must_eq(close(fd), 0);
	begin(&d, opts);
	tell_address(&d);
	to.sin_port = htons(port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0);
	got = find(&d, (struct want){ .protocol = 6, .flags = SYN }, WAIT_MS);
	must(got && get16(got->at + 36) == 80 && get32(got->at + 30) == GUEST);
	t = (struct tcp){ .to = get32(got->at + 26),
			  .ports = swap(get32(got->at + 34)),
			  .seq = 5000,
			  .ack = get32(got->at + 38) + 1 };
	drive_forget(&d);
	send_tcp(&d, &t, SYN | ACK, NULL, 0);
	must(find(&d, (struct want){ .protocol = 6, .flags = ACK }, WAIT_MS));
	send_tcp(&d, &t, ACK, "welcome", 7);
	pollfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	must_eq(poll(&pollfd, 1, WAIT_MS), 1);
	must_eq(recv(fd, bytes, sizeof(bytes), 0), 7);
	must(memcmp(bytes, "welcome", 7) == 0);
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

/* A guest that may not, is not answered, or told that nobody is there; the server sees nothing. */
START_TEST(port_slirp__keeps_the_guest_in)
{
	struct drive d;
	uint16_t port;
	const int fd = listener(SOCK_STREAM, &port);
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct tcp t = { .to = HOST, .ports = 4002u << 16 | port, .seq = 1 };

	begin(&d, (struct vmbus_port_slirp_opts){ .flags = _i ? VMBUS_PORT_SLIRP_NO_LOOPBACK
							      : VMBUS_PORT_SLIRP_RESTRICTED });
	tell_address(&d);
	send_tcp(&d, &t, SYN, NULL, 0);
	must(!find(&d, (struct want){ .protocol = 6, .flags = SYN | ACK }, 100));
	must_eq(poll(&pollfd, 1, 0), 0);
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

START_TEST(port_slirp__has_a_limit_of_sockets)
{
	struct tcp t[40];
	struct drive d;
	uint16_t port;
	const int fd = listener(SOCK_STREAM, &port);
	uint32_t i, round, ended;
	uint64_t sent, received, before = 0;

	begin(&d, (struct vmbus_port_slirp_opts){ .sockets_max = 16 });
	tell_address(&d);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 40; i++) {
			t[i] = (struct tcp){ .to = HOST,
					     .ports = (5000u + round * 100 + i) << 16 | port,
					     .seq = 1 };
			send_tcp(&d, &t[i], SYN, NULL, 0);
		}
		d.port.ops->dropped(d.port.ctx, &sent, &received);
		vmbus_test_at("round %u", round);
		must_eq(sent - before, 40 - 16);
		/* A datagram that would need one more is dropped too, and DHCP needs none. */
		send_udp(&d, GUEST, HOST, 4000u << 16 | port, "x", 1);
		d.port.ops->dropped(d.port.ctx, &sent, &received);
		must_eq(sent - before, 40 - 16 + 1);
		for (i = 0, ended = 0; i < 16; i++) {
			const struct got *const got =
				find(&d, (struct want){ 6, swap(t[i].ports), SYN | ACK, false },
				     WAIT_MS);
			const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

			must(got && peer >= 0);
			t[i].ack = get32(got->at + 38) + 1;
			send_tcp(&d, &t[i], RST | ACK, NULL, 0);
			must_eq(close(peer), 0);
			ended++;
		}
		must_eq(ended, 16);
		drive_forget(&d);
		before = sent;
	}
	must_eq(close(fd), 0);
	end(&d);
}
END_TEST

static uint32_t descriptors(void)
{
	uint32_t n = 0;
	int fd;

	for (fd = 0; fd < 2000; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A datagram over IPv6 to this machine, whose header tells less than there is. */
static void send_udp6(struct drive *d, uint32_t ports, uint32_t told)
{
	uint8_t at[62] = "\x52\x56\0\0\0\x02" MAC "\x86\xdd\x60";

	put16(at + 18, told);
	at[20] = 17;
	at[21] = 64;
	memcpy(at + 22, "\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f", 16);
	memcpy(at + 38, "\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
	put32(at + 54, ports);
	put16(at + 58, told);
	put16(at + 60, transport_wrong(at + 14, at + 54, 17, 8));
	drive_send(d, at, sizeof(at));
}

/* Only DHCP that libslirp answers itself needs no socket. */
START_TEST(port_slirp__has_that_limit_for_every_datagram)
{
	const uint32_t others[] = { 0x08080808u, HOST + 1, GUEST | 0xffu, 0x7f000001u };
	uint32_t i, before = 0;
	uint64_t sent, received;
	struct drive d;
	uint8_t at[300];

	begin(&d, (struct vmbus_port_slirp_opts){ .sockets_max = 16 });
	tell_address(&d);
	for (i = 0; i < 400; i++) {
		send_udp(&d, GUEST, others[i % 4], (5000u + i) << 16 | 67u, "x", 1);
		send_udp6(&d, (5000u + i) << 16 | 67u, i % 2 ? 8 : 4);
		if (i == 20)
			before = descriptors();
	}
	must_eq(descriptors(), before);
	d.port.ops->dropped(d.port.ctx, &sent, &received);
	must(sent > 300);
	drive_forget(&d);
	send_udp(&d, 0, ALL, 68u << 16 | 67u, at, dhcp(at, 1));
	must(find(&d, (struct want){ .protocol = 17, .ports = 67u << 16 | 68u }, WAIT_MS));
	drive_forget(&d);
	send_udp(&d, GUEST, HOST, 68u << 16 | 67u, at, dhcp(at, 3));
	must(find(&d, (struct want){ .protocol = 17, .ports = 67u << 16 | 68u }, WAIT_MS));
	end(&d);
}
END_TEST

START_TEST(port_slirp__drops_what_no_guest_wants)
{
	struct drive d;
	uint8_t at[1600] = { 0 };
	uint64_t sent, received;

	begin(&d, (struct vmbus_port_slirp_opts){ .flags = VMBUS_PORT_SLIRP_NO_IPV6 });
	drive_config(&d, 0, false);
	memset(at, 0, sizeof(at));
	memcpy(at + 6, MAC, 6);
	send_udp(&d, 0, ALL, 68u << 16 | 67u, at, dhcp(at, 1));
	must(!find(&d, (struct want){ .protocol = 17 }, 50));
	d.port.ops->dropped(d.port.ctx, &sent, &received);
	must(sent == 0 && received >= 1);
	drive_send(&d, at, sizeof(at)); /* longer than the MTU */
	d.port.ops->dropped(d.port.ctx, &sent, &received);
	must_eq(sent, 1);
	end(&d);
}
END_TEST

/* Anything may come from a guest. */
START_TEST(port_slirp__survives_nonsense)
{
	struct drive d;
	uint8_t at[1514];
	uint32_t i, k, seed = 1;

	begin(&d, (struct vmbus_port_slirp_opts){ .flags = VMBUS_PORT_SLIRP_RESTRICTED });
	for (i = 0; i < 3000; i++) {
		const uint32_t bytes = 14 + i % 1500;

		for (k = 0; k < bytes; k++) {
			seed = seed * 1103515245u + 12345u;
			at[k] = (uint8_t)(seed >> 16);
		}
		if (i % 4)
			finish_ip(at, bytes < 34 ? 34 : bytes, GUEST, HOST + i % 3,
				  i % 4 == 1 ? 6 : (int)(i % 60));
		drive_send(&d, at, bytes);
		if (d.n > 100)
			drive_forget(&d);
	}
	while (drive_turn(&d, 0) && d.n < 200)
		continue;
	end(&d);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "slirp", 20);

	tcase_add_test(tc, port_slirp__refuses_what_makes_no_sense);
	tcase_add_test(tc, port_slirp__tells_what_it_can);
	tcase_add_loop_test(tc, port_slirp__gives_addresses, 0, 3);
	tcase_add_test(tc, port_slirp__leaves_out_what_is_not_wanted);
	tcase_add_test(tc, port_slirp__answers_pings);
	tcase_add_test(tc, port_slirp__carries_datagrams);
	tcase_add_test(tc, port_slirp__carries_connections);
	tcase_add_test(tc, port_slirp__reads_no_socket_while_the_guest_is_full);
	tcase_add_test(tc, port_slirp__reads_no_socket_for_a_guest_that_sends_and_is_full);
	tcase_add_test(tc, port_slirp__drops_what_waited_for_a_guest_that_is_gone);
	tcase_add_test(tc, port_slirp__leads_ports_into_the_guest);
	tcase_add_loop_test(tc, port_slirp__keeps_the_guest_in, 0, 2);
	tcase_add_test(tc, port_slirp__has_a_limit_of_sockets);
	tcase_add_test(tc, port_slirp__has_that_limit_for_every_datagram);
	tcase_add_test(tc, port_slirp__drops_what_no_guest_wants);
	tcase_add_test(tc, port_slirp__survives_nonsense);
}
#endif

VMBUS_TEST_MAIN("ports.slirp", tests)
