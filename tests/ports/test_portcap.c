/* SPDX-License-Identifier: MIT */
/* The capturing port: before a port of this file, and before one half of a pair; tcpdump reads the file. */
#include "drive.h"
#include "frames.h"

#include <pthread.h>
#include <sys/stat.h>
#include <vmbus/capture.h>
#include <vmbus/port_capture.h>

/* ---- a port that does as it is told ---- */

struct fake {
	uint32_t takes;	 /* frames of a send(), at most */
	uint32_t frames; /* that come by receive() or ready() */
	uint32_t number; /* of the next one */
	uint32_t sent;
	bool answers; /* each frame that is sent */
	bool destroyed;
	int broken; /* open() fails */
	uint32_t configured;
};

static struct fake fake;

static int fake_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->can = VMBUS_FRAME_VLAN;
	info->queues = 2;
	info->mtu_max = 1400;
	info->tso_max = 20000;
	return 0;
}

static int fake_open(struct vmbus_port_queue *queue)
{
	if (fake.broken)
		return VMBUS_E_AGAIN;
	queue->fd = 77;
	queue->priv = &fake;
	return 0;
}

static void fake_close(struct vmbus_port_queue *queue)
{
	must(queue->priv == &fake && queue->fd == 77);
}

static void fill(uint8_t *at, uint32_t bytes, uint32_t number)
{
	uint32_t i;

	memcpy(at, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x88\xb5", 14);
	put16(at + 14, number);
	for (i = 16; i < bytes; i++)
		at[i] = (uint8_t)(number + i);
}

static uint32_t give(struct vmbus_port_queue *queue)
{
	uint8_t bytes[3][100];
	struct vmbus_iov piece[3];
	struct vmbus_frame frame[3];
	uint32_t i, n = fake.frames < 3 ? fake.frames : 3;

	for (i = 0; i < n; i++) {
		fill(bytes[i], 100, fake.number + i);
		piece[i] = (struct vmbus_iov){ bytes[i], 100 };
		frame[i] = (struct vmbus_frame){ .piece = &piece[i], .pieces = 1, .bytes = 100 };
	}
	n = n ? vmbus_port_deliver(queue, frame, n) : 0;
	fake.frames -= n;
	fake.number += n;
	return n;
}

static uint32_t fake_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	const uint32_t taken = n < fake.takes ? n : fake.takes;

	must(frame && queue->ctx == &fake && (queue->priv == &fake || queue->fd == -1));
	fake.sent += taken;
	if (fake.answers) {
		fake.frames = 1;
		(void)give(queue);
	}
	return taken;
}

static uint32_t fake_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			     uint32_t n)
{
	uint32_t i;

	must(queue->priv == &fake);
	for (i = 0; i < n && fake.frames; i++, fake.frames--) {
		uint8_t bytes[100];
		size_t head;

		fill(bytes, 100, fake.number++);
		head = room[i].span[0].len < 100 ? room[i].span[0].len : 100;
		memcpy(room[i].span[0].base, bytes, head);
		if (head < 100)
			memcpy(room[i].span[1].base, bytes + head, 100 - head);
		room[i].bytes = 100;
		room[i].flags = VMBUS_FRAME_VLAN;
		room[i].vlan = 0x123;
	}
	return i;
}

static void fake_ready(struct vmbus_port_queue *queue)
{
	(void)give(queue);
}

static void fake_configure(void *ctx, const struct vmbus_port_config *config)
{
	(void)ctx;
	fake.configured = config->mtu;
}

static void fake_destroy(void *ctx)
{
	must(ctx == &fake && !fake.destroyed);
	fake.destroyed = true;
}

static void fake_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	must(ctx == &fake);
	*sent = 3;
	*received = 4;
}

static const struct vmbus_port_ops fake_ops = {
	.struct_bytes = sizeof(fake_ops),
	.name = "fake",
	.info = fake_info,
	.open = fake_open,
	.close = fake_close,
	.send = fake_send,
	.ready = fake_ready,
	.configure = fake_configure,
	.destroy = fake_destroy,
	.dropped = fake_dropped,
};

static const struct vmbus_port_ops bare_ops = {
	.struct_bytes = sizeof(bare_ops),
	.name = "bare",
	.info = fake_info,
	.send = fake_send,
};

/* ---- files ---- */

static char file[64];

static int new_file(void)
{
	int fd;

	(void)snprintf(file, sizeof(file), "/tmp/vmbus-portcap-XXXXXX");
	fd = mkostemp(file, O_CLOEXEC);
	must(fd >= 0);
	return fd;
}

/* What tcpdump prints of the file, into text; -1 when there is no tcpdump. */
static int dump(const char *options, char *text, size_t bytes)
{
	char command[200];
	size_t n;
	FILE *out;

	(void)snprintf(command, sizeof(command), "tcpdump %s -nr %s 2>/dev/null", options, file);
	if (system("tcpdump --version >/dev/null 2>&1"))
		return -1;
	out = popen(command, "re");
	must(out);
	n = fread(text, 1, bytes - 1, out);
	text[n] = '\0';
	must_eq(pclose(out), 0);
	return 0;
}

static uint32_t lines(const char *text)
{
	uint32_t n = 0;

	while ((text = strchr(text, '\n')) != NULL) {
		text++;
		n++;
	}
	return n;
}

static void begin_with(struct drive *d, struct vmbus_port_capture_opts opts,
		       const struct vmbus_port_ops *ops)
{
	const struct vmbus_port below = { ops, &fake };
	struct vmbus_port port;

	memset(&fake, 0, sizeof(fake));
	fake.takes = 1000;
	opts.struct_bytes = sizeof(opts);
	must_eq(vmbus_port_capture(&opts, &below, &port), 0);
	memset(d, 0, sizeof(*d));
	drive_open(d, &port);
}

static void end(struct drive *d)
{
	struct vmbus_port port = d->port;

	drive_close(d);
	vmbus_port_destroy(&port);
}

static struct vmbus_port_capture_counts counts_of(const struct drive *d)
{
	struct vmbus_port_capture_counts counts;

	must_eq(vmbus_port_capture_counts(&d->port, &counts), 0);
	return counts;
}

static void send_some(struct drive *d, uint32_t number, uint32_t bytes)
{
	uint8_t at[2000];

	fill(at, bytes, number);
	drive_send(d, at, bytes);
}

/* ---- tests ---- */

START_TEST(port_capture__refuses_what_makes_no_sense)
{
	struct vmbus_port_ops old = fake_ops;
	struct vmbus_port below = { &fake_ops, &fake }, port = { NULL, NULL };
	struct vmbus_port_capture_opts opts = { .fd = new_file() };
	struct vmbus_port_capture_counts counts;
	const int fd = opts.fd;

	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	opts.struct_bytes = sizeof(opts);
	must_eq(vmbus_port_capture(&opts, NULL, &port), VMBUS_E_INVAL);
	must_eq(vmbus_port_capture(&opts, &port, &port), VMBUS_E_INVAL);
	old.struct_bytes = 8;
	below.ops = &old;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	old = fake_ops;
	old.send = NULL;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	below.ops = &fake_ops;
	opts.name = "two\nlines";
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	opts.name = "0123456789012345678901234567890123456789012345678901234567890123";
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	opts.name = NULL;
	opts.snap = 59;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_RANGE);
	opts.snap = VMBUS_FRAME_BYTES_MAX + 1;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_RANGE);
	opts.snap = 0;
	opts.buffer_bytes = 1;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = (64u << 20) + 1;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_RANGE);
	opts.buffer_bytes = 0;
	opts.fd = -1;
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	opts.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_INVAL);
	must_eq(close(opts.fd), 0);
	opts.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	must_eq(vmbus_port_capture(&opts, &below, &port), VMBUS_E_SYSTEM);
	must_eq(errno, ENOSPC);
	must_eq(close(opts.fd), 0);
	must(!port.ops);
	must_eq(vmbus_port_capture_counts(NULL, &counts), VMBUS_E_INVAL);
	must_eq(vmbus_port_capture_counts(&port, &counts), VMBUS_E_INVAL);
	must_eq(vmbus_port_capture_counts(&below, &counts), VMBUS_E_INVAL);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__has_what_the_port_below_has)
{
	const int fd = new_file();
	struct vmbus_port_info info;
	struct vmbus_port port;
	struct drive d;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &fake_ops);
	must(d.port.ops->ready && !d.port.ops->receive && d.queue.fd == 77);
	must(strcmp(d.port.ops->name, "fake") == 0);
	must_eq(d.port.ops->info(d.port.ctx, &info), 0);
	must(info.queues == 2 && info.can == VMBUS_FRAME_VLAN && info.mtu_max == 1400);
	must_eq(info.tso_max, 20000); /* who is above cuts */
	must_eq(fake.configured, 1500);
	drive_drops(&d, 3, 4);
	port = d.port;
	drive_close(&d);
	fake.broken = 1;
	must_eq(port.ops->open(&(struct vmbus_port_queue){ .ctx = port.ctx }), VMBUS_E_AGAIN);
	vmbus_port_destroy(&port);
	must(fake.destroyed && !port.ops);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &bare_ops);
	must(!d.port.ops->ready && !d.port.ops->receive && !d.port.ops->dropped &&
	     !d.port.ops->configure);
	must_eq(d.queue.fd, -1);
	send_some(&d, 1, 60);
	end(&d);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__goes_before_a_port_without_a_name)
{
	struct vmbus_port_ops ops = fake_ops;
	const int fd = new_file();
	struct drive d;

	ops.name = NULL;
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &ops);
	must(!d.port.ops->name);
	send_some(&d, 1, 100);
	must_eq(counts_of(&d).frames, 1);
	end(&d);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__writes_what_tcpdump_reads)
{
	const int fd = new_file();
	char text[4096];
	struct built b;
	struct drive d;
	const char *at;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd, .name = "eth7" }, &fake_ops);
	build(&b, &(struct shape){ .ip = 4, .protocol = 17, .payload = 32 });
	must_eq(drive_send_pieces(&d, &(struct vmbus_iov){ b.at, b.bytes }, 1,
				  (struct vmbus_frame){ 0 }),
		1);
	must_eq(drive_send_pieces(
			&d,
			(struct vmbus_iov[]){
				{ b.at, 11 }, { b.at + 11, 1 }, { b.at + 12, b.bytes - 12 } },
			3, (struct vmbus_frame){ .flags = VMBUS_FRAME_VLAN, .vlan = 0x6123 }),
		1);
	fake.frames = 2;
	d.port.ops->ready(&d.queue);
	must_eq(d.n, 2);
	must_eq(counts_of(&d).frames, 4);
	must_eq(counts_of(&d).dropped, 0);
	must_eq(lseek(fd, 0, SEEK_END), (long long)counts_of(&d).bytes); /* all at once */
	end(&d);
	if (dump("-e -x", text, sizeof(text))) {
		must(unlink(file) == 0 && close(fd) == 0);
		VMBUS_TEST_SKIP("tcpdump is not installed");
	}
	at = strstr(text, "10.17.24.31.2794 > 38.45.52.59.1766: UDP, length 32");
	must(at && strstr(at + 1, "802.1Q (0x8100), length 78: vlan 291, p 3, ethertype IPv4"));
	must(strstr(text, "ethertype Unknown (0x88b5), length 100"));
	must(strstr(text, "0x0000:  0000 1011 1213"));
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

/* Whatever is before an answer is in the file before it, though the answer comes within send(). */
START_TEST(port_capture__keeps_the_order)
{
	const int fd = new_file();
	char text[4096];
	struct drive d;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &fake_ops);
	fake.answers = true;
	fake.number = 500;
	send_some(&d, 1, 60);
	send_some(&d, 2, 61);
	end(&d);
	if (dump("-e", text, sizeof(text)) == 0) {
		const char *const a = strstr(text, "length 60"), *const b =
									 strstr(text, "length 61");
		const char *const c = strstr(text, "length 100");

		must(a && b && c && a < c && c < b && lines(text) >= 4);
	}
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__writes_a_frame_once_that_comes_again)
{
	const int fd = new_file();
	uint8_t bytes[5][60];
	struct vmbus_iov piece[5];
	struct vmbus_frame frame[5];
	struct drive d;
	uint32_t i;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &fake_ops);
	for (i = 0; i < 5; i++) {
		fill(bytes[i], 60, i);
		piece[i] = (struct vmbus_iov){ bytes[i], 60 };
		frame[i] = (struct vmbus_frame){ .piece = &piece[i], .pieces = 1, .bytes = 60 };
	}
	fake.takes = 1;
	must_eq(d.port.ops->send(&d.queue, frame, 3), 1);
	must_eq(d.port.ops->send(&d.queue, frame + 1, 1), 1);
	fake.takes = 0;
	must_eq(d.port.ops->send(&d.queue, frame + 2, 2), 0);
	fake.takes = 9;
	must_eq(d.port.ops->send(&d.queue, frame + 2, 3), 3);
	must_eq(counts_of(&d).frames, 5);
	must_eq(fake.sent, 5);
	end(&d);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__writes_frames_after_some_were_given_up)
{
	const int fd = new_file();
	uint8_t bytes[5][60];
	struct vmbus_iov piece[5];
	struct vmbus_frame frame[5];
	struct drive d;
	uint32_t i;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &fake_ops);
	for (i = 0; i < 5; i++) {
		fill(bytes[i], 60, i);
		piece[i] = (struct vmbus_iov){ bytes[i], 60 };
		frame[i] = (struct vmbus_frame){ .piece = &piece[i], .pieces = 1, .bytes = 60 };
	}
	fake.takes = 0;
	must_eq(d.port.ops->send(&d.queue, frame, 2), 0);
	fake.takes = 9;
	must_eq(d.port.ops->send(&d.queue, frame + 2, 3), 3);
	must_eq(counts_of(&d).frames, 5);
	end(&d);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__sees_rooms)
{
	struct vmbus_port_ops ops = fake_ops;
	const int fd = new_file();
	char text[4096];
	struct drive d;

	ops.receive = fake_receive;
	ops.ready = NULL;
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd }, &ops);
	must(d.port.ops->receive && !d.port.ops->ready);
	fake.frames = 3;
	d.room_bytes = 150; /* a frame ends in its second span */
	must_eq(drive_receive(&d), 3);
	must_eq(counts_of(&d).frames, 3);
	end(&d);
	if (dump("-e", text, sizeof(text)) == 0)
		must(strstr(text, "length 104: vlan 291") && lines(text) >= 3);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

START_TEST(port_capture__keeps_no_more_than_it_is_told)
{
	const int fd = new_file();
	char text[4096];
	struct stat st;
	struct drive d;
	uint32_t i;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd, .snap = 64 }, &fake_ops);
	for (i = 0; i < 10; i++)
		send_some(&d, i, 1500);
	end(&d);
	must(fstat(fd, &st) == 0 && st.st_size < 2000);
	if (dump("-e", text, sizeof(text)) == 0)
		must(strstr(text, "length 1500"));
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

static uint32_t word(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

/* Frames of a file, and how many it says were left out before one of them. */
static uint32_t count_frames(const uint8_t *at, size_t bytes, uint64_t *left_out)
{
	size_t from, option;
	uint32_t n = 0, len;

	*left_out = 0;
	for (from = 0; from < bytes; from += word(at + from + 4)) {
		must(bytes - from >= 12 && word(at + from + 4) <= bytes - from);
		len = word(at + from + 4);
		must(len >= 12 && len % 4 == 0 && word(at + from + len - 4) == len);
		if (word(at + from) != 6)
			continue;
		n++;
		/* Flags first, 8 bytes, then the count. */
		option = from + 28 + (word(at + from + 20) + 3) / 4 * 4 + 8;
		must_eq(word(at + option), 8u << 16 | 4);
		*left_out += word(at + option + 4);
	}
	return n;
}

/* A reader that does not read: frames are left out and counted, and the port goes on. */
START_TEST(port_capture__leaves_out_what_a_pipe_does_not_take)
{
	static uint8_t got[4u << 20];
	struct drive d;
	struct vmbus_port_capture_counts counts;
	int fd[2];
	uint32_t i;
	uint64_t left_out;
	ssize_t n;
	size_t all = 0;

	must(pipe2(fd, O_CLOEXEC) == 0);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd[1], .buffer_bytes = 256u << 10 },
		   &fake_ops);
	for (i = 0; i < 1000; i++)
		send_some(&d, i, 1000);
	must_eq(fake.sent, 1000);
	counts = counts_of(&d);
	must(counts.dropped > 100 && counts.frames + counts.dropped == 1000 && counts.error == 0);
	must_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 8; i++) {
		while ((n = read(fd[0], got + all, sizeof(got) - all)) > 0)
			all += (size_t)n;
		send_some(&d, i, 1000); /* what waited goes, as much as the pipe takes */
	}
	counts = counts_of(&d);
	must_eq(counts.frames + counts.dropped, 1008);
	end(&d);
	while ((n = read(fd[0], got + all, sizeof(got) - all)) > 0)
		all += (size_t)n;
	must_eq(count_frames(got, all, &left_out), counts.frames);
	must_eq(left_out, counts.dropped);
	must(close(fd[0]) == 0 && close(fd[1]) == 0);
}
END_TEST

static void call_without_frames(struct drive *d, int way)
{
	struct vmbus_frame frame;
	struct vmbus_iov piece;
	uint8_t at[1000];

	switch (way) {
	case 0:
		d->port.ops->ready(&d->queue);
		break;
	case 1:
		d->room_bytes = 150;
		must_eq(drive_receive(d), 0);
		break;
	case 2: /* one that is in the file, and comes again */
		fill(at, sizeof(at), 29);
		piece = (struct vmbus_iov){ at, sizeof(at) };
		frame = (struct vmbus_frame){ .piece = &piece, .pieces = 1, .bytes = sizeof(at) };
		must_eq(d->port.ops->send(&d->queue, &frame, 1), 0);
		break;
	case 3:
		(void)counts_of(d);
		break;
	default: /* of one that is not the last: the file goes on */
		drive_close(d);
		drive_open(d, &(struct vmbus_port){ d->port.ops, d->port.ctx });
		break;
	}
}

/* A network that is silent after a burst. */
START_TEST(port_capture__writes_the_rest_without_new_frames)
{
	static uint8_t got[1u << 20];
	struct vmbus_port_ops ops = fake_ops;
	struct drive d;
	uint64_t left_out;
	size_t all = 0;
	uint32_t i;
	ssize_t n;
	int fd[2];

	if (_i == 1) {
		ops.receive = fake_receive;
		ops.ready = NULL;
	}
	must(pipe2(fd, O_CLOEXEC) == 0 && fcntl(fd[1], F_SETPIPE_SZ, 4096) >= 0);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd[1] }, &ops);
	for (i = 0; i < 29; i++)
		send_some(&d, i, 1000);
	fake.takes = 0;
	call_without_frames(&d, 2); /* the thirtieth */
	must_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 30; i++) {
		while ((n = read(fd[0], got + all, sizeof(got) - all)) > 0)
			all += (size_t)n;
		call_without_frames(&d, _i);
	}
	must_eq(count_frames(got, all, &left_out), 30);
	must_eq(left_out, 0);
	end(&d);
	must(close(fd[0]) == 0 && close(fd[1]) == 0);
}
END_TEST

/* All that waits would be moved for each frame of a guest that sends more than is read. */
START_TEST(port_capture__takes_more_when_half_of_what_waited_is_gone)
{
	struct vmbus_port_capture_counts counts, before;
	static uint8_t got[256u << 10];
	struct drive d;
	uint32_t n = 0;
	int fd[2];

	must(pipe2(fd, O_CLOEXEC) == 0 && fcntl(fd[1], F_SETPIPE_SZ, 4096) >= 0);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd[1], .buffer_bytes = 256u << 10 },
		   &fake_ops);
	do {
		send_some(&d, n++, 1000);
		before = counts_of(&d);
	} while (!before.dropped);
	do {
		must(n < 1000 && read(fd[0], got, 4096) > 0);
		send_some(&d, n++, 1000);
		counts = counts_of(&d);
	} while (counts.frames == before.frames);
	must(counts.bytes - before.bytes >= (128u << 10) - 4096);
	must(counts.bytes - before.bytes <= (128u << 10) + 8192);
	must_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	while (read(fd[0], got, sizeof(got)) > 0)
		;
	close(fd[0]); /* it need not be waited for */
	end(&d);
	must_eq(close(fd[1]), 0);
}
END_TEST

static void *read_late(void *arg)
{
	static uint8_t got[1u << 20];
	const int *const fd = arg;
	size_t all = 0, from;
	ssize_t n;

	usleep(50000);
	while ((n = read(*fd, got + all, sizeof(got) - all)) > 0)
		all += (size_t)n;
	for (from = 0; from < all && word(got + from) != 5; from += word(got + from + 4))
		must(word(got + from + 4) >= 12);
	return from < all ? arg : NULL;
}

START_TEST(port_capture__ends_with_the_counts_of_a_pipe_that_was_full)
{
	pthread_t reader;
	struct drive d;
	uint32_t n = 0;
	void *has;
	int fd[2];

	must(pipe2(fd, O_CLOEXEC) == 0);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd[1], .buffer_bytes = 256u << 10 },
		   &fake_ops);
	while (counts_of(&d).dropped == 0)
		send_some(&d, n++, 1000);
	while (counts_of(&d).dropped < 10)
		send_some(&d, n++, 60);
	must_eq(close(fd[1]), 0);
	must_eq(pthread_create(&reader, NULL, read_late, &fd[0]), 0);
	end(&d);
	must_eq(pthread_join(reader, &has), 0);
	must(has != NULL);
	must_eq(close(fd[0]), 0);
}
END_TEST

START_TEST(port_capture__survives_a_reader_that_goes)
{
	struct vmbus_port_capture_counts counts;
	struct drive d;
	int fd[2];

	must(pipe2(fd, O_CLOEXEC) == 0);
	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd[1] }, &fake_ops);
	send_some(&d, 1, 100);
	must_eq(close(fd[0]), 0);
	send_some(&d, 2, 100); /* no signal */
	send_some(&d, 3, 100);
	counts = counts_of(&d);
	must(counts.error == EPIPE && counts.frames == 2 && counts.dropped == 1);
	must_eq(fake.sent, 3);
	end(&d);
	must_eq(close(fd[1]), 0);
}
END_TEST

/* Both halves of a pair, each with a file; frames with nothing done to them yet. */
START_TEST(port_capture__goes_before_a_pair)
{
	struct vmbus_port two[2];
	struct vmbus_port_capture_opts opts = { .struct_bytes = sizeof(opts), .fd = new_file() };
	struct drive d[2];
	char text[8192];
	uint32_t i;

	must_eq(vmbus_port_pair(0, two), 0);
	must_eq(vmbus_port_capture(&opts, &two[0], &two[0]), 0);
	drive_open(&d[0], &two[0]);
	drive_open(&d[1], &two[1]);
	for (i = 0; i < 20; i++)
		send_some(&d[i % 2], i, 60 + i);
	while (d[0].n < 10)
		must(drive_turn(&d[0], WAIT_MS));
	while (d[1].n < 10)
		must(drive_turn(&d[1], WAIT_MS));
	must_eq(counts_of(&d[0]).frames, 20);
	for (i = 0; i < 2; i++) {
		drive_close(&d[i]);
		vmbus_port_destroy(&two[i]);
	}
	if (dump("", text, sizeof(text)) == 0)
		must(lines(text) >= 20);
	must(unlink(file) == 0 && close(opts.fd) == 0);
}
END_TEST

static long read_file(void *ctx, void *bytes, size_t n)
{
	return (long)read(*(const int *)ctx, bytes, n);
}

/* Our own reader passes over what is no record. */
START_TEST(port_capture__is_well_formed)
{
	int fd = new_file();
	const struct vmbus_capture_reader_opts opts = { .struct_bytes = sizeof(opts),
							.read = read_file,
							.ctx = &fd };
	struct vmbus_capture_reader *reader;
	struct vmbus_capture_record record;
	struct drive d;
	uint32_t bytes;

	begin_with(&d, (struct vmbus_port_capture_opts){ .fd = fd, .snap = 70 }, &fake_ops);
	for (bytes = 14; bytes < 100; bytes++) {
		const struct vmbus_frame frame = { .flags = bytes % 2 ? VMBUS_FRAME_VLAN : 0 };
		uint8_t at[128];

		fill(at, 100, bytes);
		must_eq(drive_send_pieces(&d, &(struct vmbus_iov){ at, bytes }, 1, frame), 1);
	}
	end(&d);
	must_eq(lseek(fd, 0, SEEK_SET), 0);
	must_eq(vmbus_capture_reader_create(&opts, &reader), 0);
	vmbus_test_at("%s", vmbus_capture_reader_why(reader));
	must_eq(vmbus_capture_reader_next(reader, &record), 0);
	vmbus_capture_reader_destroy(reader);
	must(unlink(file) == 0 && close(fd) == 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "capture", 10);

	tcase_add_test(tc, port_capture__refuses_what_makes_no_sense);
	tcase_add_test(tc, port_capture__has_what_the_port_below_has);
	tcase_add_test(tc, port_capture__goes_before_a_port_without_a_name);
	tcase_add_test(tc, port_capture__writes_what_tcpdump_reads);
	tcase_add_test(tc, port_capture__keeps_the_order);
	tcase_add_test(tc, port_capture__writes_a_frame_once_that_comes_again);
	tcase_add_test(tc, port_capture__writes_frames_after_some_were_given_up);
	tcase_add_test(tc, port_capture__sees_rooms);
	tcase_add_test(tc, port_capture__keeps_no_more_than_it_is_told);
	tcase_add_test(tc, port_capture__leaves_out_what_a_pipe_does_not_take);
	tcase_add_loop_test(tc, port_capture__writes_the_rest_without_new_frames, 0, 5);
	tcase_add_test(tc, port_capture__takes_more_when_half_of_what_waited_is_gone);
	tcase_add_test(tc, port_capture__ends_with_the_counts_of_a_pipe_that_was_full);
	tcase_add_test(tc, port_capture__survives_a_reader_that_goes);
	tcase_add_test(tc, port_capture__goes_before_a_pair);
	tcase_add_test(tc, port_capture__is_well_formed);
}

VMBUS_TEST_MAIN("ports.portcap", tests)
