/* SPDX-License-Identifier: MIT */
/*
 * The way of a frame through the switch: from the port that it comes from, on that port's thread, to
 * the inboxes of those that it is for.  Frames of one call that go the same way go together.
 */
#include <string.h>

#include "switch/switch.h"

#define ETHER_BYTES 14u
#define GROUP 1u	 /* in the first byte of an address */
#define FLOOD_UNIT 2048u /* bytes that are copied for the price of a copy */

/* What else is done with a frame than to send it to one port. */
#define FLOOD (VMBUS__SWITCH_NONE - 1)
#define NOWHERE (VMBUS__SWITCH_NONE - 2)
#define BAD (VMBUS__SWITCH_NONE - 3)

static uint64_t address(const uint8_t *from)
{
	uint64_t mac = 0;
	uint32_t i;

	for (i = 6; i > 0; i--)
		mac = mac << 8 | from[i - 1];
	return mac;
}

/* 01:80:c2:00:00:00 to 0f: for the next bridge only, which keeps them [802.1D]. */
static bool is_for_bridges(uint64_t mac)
{
	return (mac & UINT64_C(0xf0ffffffffff)) == UINT64_C(0x000000c28001);
}

static uint32_t decide(struct vmbus__switch_port *from, const uint8_t *head, uint32_t now)
{
	const uint64_t to = address(head), source = address(head + 6);
	uint32_t found;

	if (source & GROUP)
		return BAD;
	if (source)
		vmbus__switch_learn(from, source, now);
	if (is_for_bridges(to))
		return NOWHERE;
	if (to & GROUP)
		return FLOOD;
	found = vmbus__switch_find(from->sw, to, now);
	if (found == VMBUS__SWITCH_NONE)
		return FLOOD;
	return found % (1u << VMBUS__SWITCH_NUMBER_BITS) == from->number ? NOWHERE : found;
}

/* Fill in where each frame goes. */
static void decide_all(struct vmbus__switch_port *from, const struct vmbus_frame *frame, uint32_t n,
		       uint32_t *way)
{
	const uint32_t now = vmbus__switch_now();
	const uint8_t *last = NULL;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint8_t *const head = frame[i].piece[0].base;

		if (frame[i].bytes < ETHER_BYTES || frame[i].piece[0].len < ETHER_BYTES) {
			way[i] = BAD;
			last = NULL;
			continue;
		}
		/* A frame between the same two goes where the one before it went. */
		way[i] = last && memcmp(last, head, 12) == 0 ? way[i - 1] : decide(from, head, now);
		last = head;
	}
}

static bool is_open(const struct vmbus_switch *sw, uint32_t number)
{
	const uint64_t bits =
		vmbus__ld64_acquire(vmbus__as_a64c(&sw->open[number / 64])); /* SWITCHOPEN.see */

	return bits >> number % 64 & 1u;
}

static void put(struct vmbus__switch_port *to, uint32_t generation, const struct vmbus_frame *frame,
		uint32_t n)
{
	const uint32_t done = vmbus__inbox_put(to->inbox, frame, n, generation);

	if (done < n)
		vmbus__add64_relaxed(vmbus__as_a64(&to->no_room), n - done); /* SWITCHCOUNT.count */
}

static void send_to(struct vmbus__switch_port *from, const struct vmbus_frame *frame, uint32_t n,
		    uint32_t way)
{
	const uint32_t number = way % (1u << VMBUS__SWITCH_NUMBER_BITS);

	/* An end of the port since then: what waits for it is dropped by its generation. */
	if (is_open(from->sw, number))
		put(&from->sw->port[number], way >> VMBUS__SWITCH_NUMBER_BITS, frame, n);
	else
		vmbus__switch_count(&from->nowhere, n);
}

static uint64_t open_ports(const struct vmbus_switch *sw, uint32_t word)
{
	return vmbus__ld64_acquire(vmbus__as_a64c(&sw->open[word])); /* SWITCHOPEN.see */
}

/* How many others a frame for all is copied to, at least 1. */
static uint32_t copies(const struct vmbus_switch *sw)
{
	uint32_t n = 0, word;

	for (word = 0; word * 64 < sw->opts.ports; word++)
		n += (uint32_t)__builtin_popcountll(open_ports(sw, word));
	return n > 2 ? n - 1 : 1;
}

/* How many of n frames may go to all: so many copies in each second, a large frame's for each FLOOD_UNIT
   begun.  While any are left, one more frame may. */
static uint32_t flood_share(struct vmbus__switch_port *from, const struct vmbus_frame *frame,
			    uint32_t n)
{
	const uint32_t now = vmbus__switch_now(), each = copies(from->sw);
	uint32_t i, cost;

	if (now != from->flood_second) {
		from->flood_second = now;
		from->flood_left = from->sw->opts.flood_max;
	}
	for (i = 0; i < n && from->flood_left; i++) {
		cost = (frame[i].bytes / FLOOD_UNIT + 1u) * each;
		from->flood_left -= cost < from->flood_left ? cost : from->flood_left;
	}
	return i;
}

static void flood(struct vmbus__switch_port *from, const struct vmbus_frame *frame, uint32_t n)
{
	struct vmbus_switch *const sw = from->sw;
	const uint32_t may = flood_share(from, frame, n);
	uint32_t word;

	vmbus__switch_count(&from->flooded, may);
	if (may < n)
		vmbus__switch_count(&from->flood_limit, n - may);
	for (word = 0; may && word * 64 < sw->opts.ports; word++) {
		uint64_t bits = open_ports(sw, word);

		for (; bits; bits &= bits - 1) {
			const uint32_t number = word * 64 + (uint32_t)__builtin_ctzll(bits);
			struct vmbus__switch_port *const to = &sw->port[number];

			if (to != from)
				put(to,
				    vmbus__ld32_relaxed(
					    vmbus__as_a32(&to->generation)), /* SWITCHOPEN.see */
				    frame, may);
		}
	}
}

void vmbus__switch_send(struct vmbus__switch_port *from, const struct vmbus_frame *frame,
			uint32_t n)
{
	uint32_t way[VMBUS_PORT_BURST];
	uint64_t bytes = 0;
	uint32_t i, first;

	decide_all(from, frame, n, way);
	for (i = 0; i < n; i++)
		bytes += frame[i].bytes;
	vmbus__switch_count(&from->in_frames, n);
	vmbus__switch_count(&from->in_bytes, bytes);
	for (first = 0; first < n; first = i) {
		for (i = first + 1; i < n && way[i] == way[first]; i++)
			;
		if (way[first] == FLOOD)
			flood(from, frame + first, i - first);
		else if (way[first] == NOWHERE)
			vmbus__switch_count(&from->nowhere, i - first);
		else if (way[first] == BAD)
			vmbus__switch_count(&from->bad, i - first);
		else
			send_to(from, frame + first, i - first, way[first]);
	}
}

uint32_t vmbus__switch_peek(struct vmbus__switch_port *port, const struct vmbus_frame **frame)
{
	const uint32_t own =
		vmbus__ld32_relaxed(vmbus__as_a32(&port->generation)); /* SWITCHOPEN.own */
	const uint32_t *tag;
	uint32_t n, i;

	while ((n = vmbus__inbox_look(port->inbox, frame, &tag)) != 0) {
		for (i = 0; i < n && tag[i] == own; i++)
			;
		if (i)
			return i;
		/* For who had this slot before. */
		vmbus__inbox_done(port->inbox, 1);
	}
	return 0;
}

void vmbus__switch_done(struct vmbus__switch_port *port, const struct vmbus_frame *frame,
			uint32_t n)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		bytes += frame[i].bytes;
	vmbus__inbox_done(port->inbox, n);
	vmbus__switch_count(&port->out_frames, n);
	vmbus__switch_count(&port->out_bytes, bytes);
}
