/* SPDX-License-Identifier: MIT */
/*
 * The block device's client from inside: what its files share.
 */
#ifndef VMBUS_STORVSC_STATE_H
#define VMBUS_STORVSC_STATE_H

#include <vmbus/storvsc.h>

#include "base/atomic.h"
#include "storwire/wire.h"

/* storvsc_io.c: a request of ours has ended, with an answer or, pkt NULL, without. */
void vmbus__storvsc_done(struct vmbus_storvsc *s, struct vmbus_storvsc_req *req,
			 const struct vmbus_packet *pkt);
/* An answer made no sense. */
void vmbus__storvsc_bad(struct vmbus_storvsc *s);

/* storvsc_init.c: begin to agree on version and limits, on a primary that is open.  Errors: as
   vmbus_vsc_request(). */
int vmbus__storvsc_begin(struct vmbus_storvsc *s);
/* The answer to a message of that. */
void vmbus__storvsc_answer(struct vmbus_storvsc *s, const struct vmbus_packet *pkt);
bool vmbus__storvsc_is_ready(const struct vmbus_storvsc *s);

/* storvsc_io.c: the sense key, of either format; 0: there is none. */
uint32_t vmbus__storvsc_key(const struct vmbus_storvsc_req *req);

/* storvsc_probe.c: probes that found no room go on; end with PEER. */
void vmbus__storvsc_probe_more(struct vmbus_storvsc *s);
void vmbus__storvsc_probe_end(struct vmbus_storvsc *s);

/* storvsc_found.c: what the answers say.  Each gets a private copy; bytes of it are there. */
#define VMBUS__FOUND_SERIAL 1u /* pages that the disk has */
#define VMBUS__FOUND_ID 2u
#define VMBUS__FOUND_LIMITS 4u
#define VMBUS__FOUND_PROVISIONING 8u
bool vmbus__found_inquiry(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
void vmbus__found_pages(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
void vmbus__found_serial(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
void vmbus__found_id(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
void vmbus__found_limits(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
void vmbus__found_provisioning(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
bool vmbus__found_capacity16(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
bool vmbus__found_capacity10(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);
bool vmbus__found_modes(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes);

#endif
