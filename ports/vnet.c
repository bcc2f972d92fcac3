/* SPDX-License-Identifier: MIT */
/*
 * Frames before and behind the virtio-net header of the kernel.  See vnet.h.
 */
#include "vnet/vnet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"

_Static_assert(sizeof(struct virtio_net_hdr) == VMBUS__VNET_BYTES, "the header of the kernel");

static void put_header(const struct vmbus_frame *frame, uint32_t shift, struct virtio_net_hdr *hdr)
{
	const uint32_t tso = frame->flags & VMBUS__VNET_TSO;

	memset(hdr, 0, sizeof(*hdr));
	if (frame->flags & (VMBUS_FRAME_CSUM | VMBUS__VNET_TSO)) {
		hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr->csum_start = (uint16_t)(frame->csum_start + shift);
		hdr->csum_offset = frame->csum_offset;
	} else if (frame->flags & VMBUS_FRAME_CSUM_OK) {
		hdr->flags = VIRTIO_NET_HDR_F_DATA_VALID;
	}
	if (tso) {
		hdr->gso_type = tso == VMBUS_FRAME_TSO4 ? VIRTIO_NET_HDR_GSO_TCPV4
							: VIRTIO_NET_HDR_GSO_TCPV6;
		hdr->gso_size = frame->mss;
		hdr->hdr_len = (uint16_t)(frame->header_bytes + shift);
	}
}

static void add(struct vmbus__vnet_out *out, const void *base, size_t len)
{
	/* What is written is not written to. */
	out->iov[out->iovs].iov_base = (void *)(uintptr_t)base;
	out->iov[out->iovs++].iov_len = len;
}

static void put_tag(const struct vmbus_frame *frame, struct vmbus__vnet_out *out)
{
	memcpy(out->head, frame->piece[0].base, VMBUS__VNET_MAC_BYTES);
	out->head[12] = 0x81;
	out->head[13] = 0x00;
	out->head[14] = (uint8_t)(frame->vlan >> 8);
	out->head[15] = (uint8_t)frame->vlan;
	add(out, out->head, VMBUS__VNET_HEAD_BYTES);
}

bool vmbus__vnet_put(const struct vmbus_frame *frame, bool with_header, struct vmbus__vnet_out *out)
{
	const uint32_t shift = frame->flags & VMBUS_FRAME_VLAN ? 4 : 0;
	const uint32_t skip = shift ? VMBUS__VNET_MAC_BYTES : 0;
	uint32_t i;

	out->iovs = 0;
	if (frame->pieces == 0 || frame->pieces > VMBUS__VNET_IOV - 2 ||
	    frame->piece[0].len < skip || (!with_header && frame->flags & VMBUS__VNET_OFFLOADS))
		return false;
	if (with_header) {
		put_header(frame, shift, &out->hdr);
		add(out, &out->hdr, VMBUS__VNET_BYTES);
	}
	if (shift)
		put_tag(frame, out);
	if (frame->piece[0].len > skip)
		add(out, (const uint8_t *)frame->piece[0].base + skip, frame->piece[0].len - skip);
	for (i = 1; i < frame->pieces; i++)
		add(out, frame->piece[i].base, frame->piece[i].len);
	return true;
}

bool vmbus__vnet_get(const struct virtio_net_hdr *hdr, uint32_t bytes, uint32_t takes,
		     struct vmbus__vnet_in *in)
{
	memset(in, 0, sizeof(*in));
	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		in->flags = VMBUS_FRAME_CSUM;
		in->csum_start = hdr->csum_start;
		in->csum_offset = hdr->csum_offset;
		if ((uint32_t)hdr->csum_start + hdr->csum_offset + 2 > bytes)
			return false;
	} else if (hdr->flags & VIRTIO_NET_HDR_F_DATA_VALID) {
		in->flags = VMBUS_FRAME_CSUM_OK;
	}
	switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		in->flags |= VMBUS_FRAME_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		in->flags |= VMBUS_FRAME_TSO6;
		break;
	default:
		return false;
	}
	in->mss = hdr->gso_size;
	if (in->flags & VMBUS__VNET_TSO && (!(in->flags & VMBUS_FRAME_CSUM) || !in->mss))
		return false;
	return !(in->flags & VMBUS__VNET_OFFLOADS & ~takes);
}

uint16_t vmbus__vnet_header_bytes(const struct vmbus__vnet_in *in, uint8_t offset_byte,
				  uint32_t bytes)
{
	const uint32_t tcp = (offset_byte >> 4) * 4u, end = in->csum_start + tcp;

	return tcp < 20 || end >= bytes || end > UINT16_MAX ? 0 : (uint16_t)end;
}

void vmbus__vnet_drop_sent(struct vmbus__vnet_words *words, uint64_t n)
{
	vmbus__add64_relaxed(vmbus__as_a64(&words->sent), n); /* PORTDROP.count */
}

void vmbus__vnet_drop_received(struct vmbus__vnet_words *words, uint64_t n)
{
	vmbus__add64_relaxed(vmbus__as_a64(&words->received), n); /* PORTDROP.count */
}

void vmbus__vnet_dropped(struct vmbus__vnet_words *words, uint64_t *sent, uint64_t *received)
{
	const uint64_t out = vmbus__ld64_relaxed(vmbus__as_a64(&words->sent)); /* PORTDROP.look */
	const uint64_t in =
		vmbus__ld64_relaxed(vmbus__as_a64(&words->received)); /* PORTDROP.look */

	*sent = out;
	*received = in;
}

void vmbus__vnet_set(struct vmbus__vnet_words *words, const struct vmbus_port_config *config)
{
	const uint32_t begun =
		vmbus__ld32_relaxed(vmbus__as_a32(&words->running)) & ~1u; /* PORTCONF.look */
	const uint32_t more = vmbus__vnet_begins(words, config) ? 2u : 0u;

	vmbus__st32_relaxed(vmbus__as_a32(&words->takes), config->takes); /* PORTCONF.set */
	vmbus__st32_relaxed(vmbus__as_a32(&words->running),
			    (begun + more) | config->running); /* PORTCONF.set */
}

bool vmbus__vnet_begins(struct vmbus__vnet_words *words, const struct vmbus_port_config *config)
{
	bool running;

	(void)vmbus__vnet_takes(words, &running);
	return config->running && !running;
}

uint32_t vmbus__vnet_begins_count(struct vmbus__vnet_words *words)
{
	return vmbus__ld32_relaxed(vmbus__as_a32(&words->running)) >> 1; /* PORTCONF.look */
}

uint32_t vmbus__vnet_takes(struct vmbus__vnet_words *words, bool *running)
{
	*running = vmbus__ld32_relaxed(vmbus__as_a32(&words->running)) & 1u; /* PORTCONF.look */
	return vmbus__ld32_relaxed(vmbus__as_a32(&words->takes));	     /* PORTCONF.look */
}

static int code(int error)
{
	switch (error) {
	case ENOMEM:
	case ENOBUFS:
	case EMFILE:
	case ENFILE:
		return VMBUS_E_NOMEM;
	case EACCES:
	case EPERM:
		return VMBUS_E_PERM;
	case EBUSY:
		return VMBUS_E_STATE;
	case ENODEV:
	case ENXIO:
	case EAFNOSUPPORT:
	case EPROTONOSUPPORT:
		return VMBUS_E_NOTSUP;
	default:
		return VMBUS_E_SYSTEM;
	}
}

int vmbus__vnet_error(char *why, size_t why_bytes, const char *name, const char *what)
{
	const int error = errno;
	char reason[64];

	if (why && why_bytes)
		(void)snprintf(why, why_bytes, "%s: %s: %s", name, what,
			       strerror_r(error, reason, sizeof(reason)));
	errno = error;
	return code(error);
}
