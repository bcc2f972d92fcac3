/* SPDX-License-Identifier: MIT */
/*
 * Frames and the RNDIS messages around them, made by hand for tests of the data path.
 */
#ifndef VMBUS_TESTS_NET_FRAMES_H
#define VMBUS_TESTS_NET_FRAMES_H

#include "netbox.h"

#define FR_HEAD 44u

static const uint8_t fr_guest[6] = { 0x02, 1, 2, 3, 4, 5 }; /* as in nb_prepare() */
static const uint8_t fr_other[6] = { 0x02, 9, 9, 9, 9, 9 };

/* One element of per-packet information. */
struct fr_ppi {
	uint32_t type;
	uint32_t word;
};

static inline uint32_t fr_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	uint32_t i;

	for (i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (len & 1u)
		sum += (uint32_t)p[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xFFFFu) + (sum >> 16);
	return sum;
}

static inline void fr_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Any frame of len bytes with a pattern that begins at seed. */
static inline void fr_plain(uint8_t *f, uint32_t len, uint32_t seed)
{
	uint32_t i;

	memcpy(f, fr_other, 6);
	memcpy(f + 6, fr_guest, 6);
	fr_put16(f + 12, 0x88B5);
	for (i = 14; i < len; i++)
		f[i] = (uint8_t)(seed + i * 7u);
}

/* A TCP or UDP frame over IPv4 with payload bytes of payload.  Sums are 0.  Returns its bytes. */
static inline uint32_t fr_ipv4(uint8_t *f, uint32_t protocol, uint32_t payload)
{
	const uint32_t header = protocol == 6 ? 20 : 8;
	const uint32_t bytes = 34 + header + payload;
	uint32_t i;

	memset(f, 0, 34 + header);
	memcpy(f, fr_other, 6);
	memcpy(f + 6, fr_guest, 6);
	fr_put16(f + 12, 0x0800);
	f[14] = 0x45;
	fr_put16(f + 16, bytes - 14);
	f[22] = 64;
	f[23] = (uint8_t)protocol;
	memcpy(f + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
	fr_put16(f + 34, 1234);
	fr_put16(f + 36, 80);
	if (protocol == 6) {
		f[46] = 0x50;
		f[47] = 0x18; /* PSH, ACK */
	} else {
		fr_put16(f + 38, 8 + payload);
	}
	for (i = 34 + header; i < bytes; i++)
		f[i] = (uint8_t)(i * 5u + 3u);
	return bytes;
}

/* The sum of the pseudo header of an IPv4 frame, with a length. */
static inline uint32_t fr_pseudo4(const uint8_t *f, uint32_t len)
{
	return fr_sum(f + 26, 8, f[23] + len);
}

/* Whether the transport checksum of an IPv4 frame is right. */
static inline bool fr_is_summed4(const uint8_t *f)
{
	const uint32_t len = ((uint32_t)f[16] << 8 | f[17]) - 20;

	return fr_sum(f + 34, len, fr_pseudo4(f, len)) == 0xFFFFu;
}

/* An RNDIS message with a frame, padded to 8 if pad; returns its bytes. */
static inline uint32_t fr_message(uint8_t *m, const struct fr_ppi *ppi, uint32_t ppis,
				  const uint8_t *frame, uint32_t len, bool pad)
{
	const uint32_t ppi_bytes = 16 * ppis;
	const uint32_t plain = FR_HEAD + ppi_bytes + len;
	const uint32_t bytes = pad ? (plain + 7) / 8 * 8 : plain;
	uint32_t i;

	memset(m, 0, FR_HEAD + ppi_bytes);
	nb_put(m, 4, 1);
	nb_put(m + 4, 4, bytes);
	nb_put(m + 8, 4, 36 + ppi_bytes);
	nb_put(m + 12, 4, len);
	if (ppis)
		nb_put(m + 28, 4, 36);
	nb_put(m + 32, 4, ppi_bytes);
	for (i = 0; i < ppis; i++) {
		nb_put(m + FR_HEAD + 16 * i, 4, 16);
		nb_put(m + FR_HEAD + 16 * i + 4, 4, ppi[i].type);
		nb_put(m + FR_HEAD + 16 * i + 8, 4, 12);
		nb_put(m + FR_HEAD + 16 * i + 12, 4, ppi[i].word);
	}
	memcpy(m + FR_HEAD + ppi_bytes, frame, len);
	memset(m + plain, 0, bytes - plain);
	return bytes;
}

/* Send bytes of a section, and return the status of the 108; 0: there was none yet. */
static inline uint32_t fr_section(struct netbox *b, uint32_t chan, uint32_t section, uint32_t bytes)
{
	uint8_t msg[40] = { 107 };
	const uint32_t before = b->completions;

	nb_put(msg + 8, 4, section);
	nb_put(msg + 12, 4, bytes);
	if (!nb_ask(b, chan, msg, sizeof(msg)))
		return 0;
	must_eq(b->completions, before + 1);
	must_eq(nb_32(b->done), 108);
	return nb_32(b->done + 4);
}

static inline uint8_t *fr_at(struct netbox *b, uint32_t section)
{
	return nb_page(b, b->tx) + (size_t)section * b->tx_section;
}

/* A frame alone in a section. */
static inline uint32_t fr_send(struct netbox *b, const struct fr_ppi *ppi, uint32_t ppis,
			       const uint8_t *frame, uint32_t len)
{
	return fr_section(b, 0, 1, fr_message(fr_at(b, 1), ppi, ppis, frame, len, false));
}

static inline struct vmbus_net_stats fr_stats(const struct netbox *b)
{
	struct vmbus_net_stats stats;

	must_eq(vmbus_net_stats(b->net, VMBUS_NET_ALL, &stats), 0);
	return stats;
}

#endif
