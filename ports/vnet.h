/* SPDX-License-Identifier: MIT */
/*
 * What the ports on interfaces of the kernel share: the virtio-net header before each frame, by which
 * offloads pass, the words that threads share, and errors.  It knows no port.
 */
#ifndef VMBUS_PORT_VNET_H
#define VMBUS_PORT_VNET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/virtio_net.h>
#include <sys/uio.h>

#include <vmbus/port.h>

#define VMBUS__VNET_BYTES 10u	   /* of the header, in the byte order of this machine */
#define VMBUS__VNET_MAC_BYTES 12u  /* two addresses, behind which a VLAN tag goes */
#define VMBUS__VNET_HEAD_BYTES 16u /* with the tag */
#define VMBUS__VNET_IOV 72u	   /* pieces of a frame on its way out, with those of ours */
#define VMBUS__VNET_TSO (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)
#define VMBUS__VNET_OFFLOADS (VMBUS_FRAME_CSUM | VMBUS__VNET_TSO)

/* A frame as the kernel is given it. */
struct vmbus__vnet_out {
	struct virtio_net_hdr hdr;
	uint8_t head[VMBUS__VNET_HEAD_BYTES]; /* if a tag is put in */
	struct iovec iov[VMBUS__VNET_IOV];
	uint32_t iovs;
};

/* What the kernel said of a frame that it gave. */
struct vmbus__vnet_in {
	uint32_t flags; /* VMBUS_FRAME_* */
	uint16_t csum_start, csum_offset, mss;
};

/* Words of a port that its threads share. */
struct vmbus__vnet_words {
	uint64_t sent, received; /* frames dropped */
	uint32_t takes;		 /* what the guest takes, as in struct vmbus_port_config */
	uint32_t running;	 /* 1: it does; and 2 for each time that it began to */
};

/* false: it cannot be given to the kernel.  with_header: whether it is before the frame. */
bool vmbus__vnet_put(const struct vmbus_frame *frame, bool with_header,
		     struct vmbus__vnet_out *out);

/* false: it makes no sense, or is more than takes says.  bytes: of the frame. */
bool vmbus__vnet_get(const struct virtio_net_hdr *hdr, uint32_t bytes, uint32_t takes,
		     struct vmbus__vnet_in *in);

/* Bytes up to the end of the TCP header, by its word of lengths; 0: that makes no sense. */
uint16_t vmbus__vnet_header_bytes(const struct vmbus__vnet_in *in, uint8_t offset_byte,
				  uint32_t bytes);
#define VMBUS__VNET_TCP_OFFSET 12u /* of that byte in a TCP header */

void vmbus__vnet_drop_sent(struct vmbus__vnet_words *words, uint64_t n);
void vmbus__vnet_drop_received(struct vmbus__vnet_words *words, uint64_t n);
void vmbus__vnet_dropped(struct vmbus__vnet_words *words, uint64_t *sent, uint64_t *received);
void vmbus__vnet_set(struct vmbus__vnet_words *words, const struct vmbus_port_config *config);
/* Whether a guest begins to take frames with that: what waits now is old. */
bool vmbus__vnet_begins(struct vmbus__vnet_words *words, const struct vmbus_port_config *config);
/* How often one began. */
uint32_t vmbus__vnet_begins_count(struct vmbus__vnet_words *words);
/* What the guest takes; running: whether it takes anything. */
uint32_t vmbus__vnet_takes(struct vmbus__vnet_words *words, bool *running);

/* Our code for an errno, and a text about it, where the caller wants one; errno stays. */
int vmbus__vnet_error(char *why, size_t why_bytes, const char *name, const char *what);

#endif
