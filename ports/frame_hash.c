/* SPDX-License-Identifier: MIT */
/*
 * The Toeplitz hash of receive-side scaling, by tables: one entry for each half of a byte at each
 * place of what is hashed.
 *
 * The hash of a string of bits is the sum, without carry, of the 32 bits of the key that begin at
 * each place where the string has a one [NET-RSS].
 */
#include <vmbus/frame.h>

/* 32 bits of the key from a bit on; past its end are zeroes. */
static uint32_t window(const uint8_t *bytes, uint32_t bit)
{
	uint64_t v = 0;
	uint32_t i;

	for (i = 0; i < 5; i++) {
		const uint32_t at = bit / 8 + i;

		v = v << 8 | (at < VMBUS_FRAME_KEY_BYTES ? bytes[at] : 0u);
	}
	return (uint32_t)(v >> (8 - bit % 8) & 0xffffffffu);
}

void vmbus_frame_key(struct vmbus_frame_key *key, const uint8_t *bytes)
{
	uint32_t half, value, bit;

	for (half = 0; half < 2 * VMBUS_FRAME_HASH_BYTES_MAX; half++) {
		for (value = 0; value < 16; value++) {
			uint32_t part = 0;

			for (bit = 0; bit < 4; bit++)
				part ^= value >> (3 - bit) & 1u ? window(bytes, half * 4 + bit) : 0;
			key->part_p[half][value] = part;
		}
	}
}

/* Of len bytes that stand at byte `at` of what is hashed. */
static inline uint32_t part(const struct vmbus_frame_key *key, uint32_t at, const uint8_t *data,
			    uint32_t len)
{
	uint32_t hash = 0, i;

	for (i = 0; i < len; i++)
		hash ^= key->part_p[2 * (at + i)][data[i] >> 4] ^
			key->part_p[2 * (at + i) + 1][data[i] & 15u];
	return hash;
}

uint32_t vmbus_toeplitz(const struct vmbus_frame_key *key, const void *data, uint32_t len)
{
	return part(key, 0, data,
		    len < VMBUS_FRAME_HASH_BYTES_MAX ? len : VMBUS_FRAME_HASH_BYTES_MAX);
}

bool vmbus_frame_hash(const struct vmbus_frame_key *key, uint32_t what, const void *head,
		      const struct vmbus_frame_headers *h, uint32_t *hash)
{
	const bool v4 = h->ip == 4;
	const uint8_t *const frame = head;
	const uint8_t *const ip = frame + h->network;
	const uint32_t tcp = v4 ? VMBUS_FRAME_HASH_TCPV4 : VMBUS_FRAME_HASH_TCPV6;
	const uint32_t udp = v4 ? VMBUS_FRAME_HASH_UDPV4 : VMBUS_FRAME_HASH_UDPV6;
	/* All fragments of a packet go the same way. */
	const bool ports = !h->fragment && ((h->tcp && (what & tcp)) || (h->udp && (what & udp)));

	if (!h->ip || (!ports && !(what & (v4 ? VMBUS_FRAME_HASH_IPV4 : VMBUS_FRAME_HASH_IPV6))))
		return false;
	*hash = v4 ? part(key, 0, ip + 12, 8) : part(key, 0, ip + 8, 32);
	if (ports)
		*hash ^= part(key, v4 ? 8 : 32, frame + h->transport, 4);
	return true;
}
