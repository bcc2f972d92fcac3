/* SPDX-License-Identifier: MIT */
/*
 * A record as bytes, and the memory of a tap: a page of counters, the control page of a ring, the
 * ring's data.  In the ring each record is one in-band packet: time and drops, 8 bytes each, then
 * the header that files have too, then the bytes of the record.  Little-endian everywhere.
 */
#ifndef VMBUS_CAPTURE_FRAME_H
#define VMBUS_CAPTURE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <vmbus/capture.h>
#include <vmbus/ring.h>

#define VMBUS__TAP_MAGIC 0x50415456u /* "VTAP" */
#define VMBUS__TAP_VERSION 1u
#define VMBUS__TAP_STAMP_BYTES 16u
#define VMBUS__TAP_FRAME_BYTES (VMBUS__TAP_STAMP_BYTES + VMBUS_CAPTURE_HEADER_BYTES)

/* Page 0.  Written by the tap; its reader believes none of it. */
struct vmbus__tap_page {
	uint32_t magic;
	uint32_t version;
	uint32_t ring_bytes; /* data bytes of the ring from page 2 on */
	uint32_t snap;
	uint64_t records;
	uint64_t dropped;
	uint32_t ended;
	uint32_t reserved;
};

#define VMBUS__CAPTURE_CHANNEL_BYTES 144u
#define VMBUS__CAPTURE_OPEN_BYTES 136u
#define VMBUS__CAPTURE_CLOSE_BYTES 168u

/* The 32 bytes before the bytes of a record. */
void vmbus__capture_header_put(const struct vmbus_capture_record *record,
			       uint8_t out[VMBUS_CAPTURE_HEADER_BYTES]);

/*
 * Read a record from its header on: bytes of it were kept.  Returns 0, or what is wrong with it as
 * a text in *why and INVAL.
 */
int vmbus__capture_record_get(const uint8_t *from, uint32_t bytes,
			      struct vmbus_capture_record *record, const char **why);

/* Bodies; each returns its bytes. */
uint32_t vmbus__capture_channel_put(const struct vmbus_capture_channel *body, uint8_t *out);
uint32_t vmbus__capture_open_put(const struct vmbus_capture_open *body, uint8_t *out);
uint32_t vmbus__capture_close_put(const struct vmbus_capture_close *body, uint8_t *out);

/* The ring of a tap's memory. */
int vmbus__tap_ring(void *mem, uint32_t ring_bytes, struct vmbus_ring_mem *ring);

void vmbus__capture_put64(uint8_t *out, uint64_t v);
uint64_t vmbus__capture_get64(const uint8_t *from);
void vmbus__capture_put32(uint8_t *out, uint32_t v);
uint32_t vmbus__capture_get32(const uint8_t *from);

#endif
