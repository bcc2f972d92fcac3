/* SPDX-License-Identifier: MIT */
/* Numbers of pcapng that the writer and the reader share; vmbus_capture(7) names their source. */
#ifndef VMBUS_CAPTURE_PCAPNG_H
#define VMBUS_CAPTURE_PCAPNG_H

#define PCAPNG_SHB 0x0A0D0D0Au
#define PCAPNG_IDB 1u
#define PCAPNG_ISB 5u
#define PCAPNG_EPB 6u
#define PCAPNG_ORDER 0x1A2B3C4Du
#define PCAPNG_MAJOR 1u

#define PCAPNG_ETHERNET 1u /* link type */

#define PCAPNG_OPT_END 0u
#define PCAPNG_OPT_COMMENT 1u
#define PCAPNG_SHB_USERAPPL 4u
#define PCAPNG_IF_NAME 2u
#define PCAPNG_IF_DESCRIPTION 3u
#define PCAPNG_IF_TSRESOL 9u
#define PCAPNG_EPB_FLAGS 2u
#define PCAPNG_EPB_DROPCOUNT 4u
#define PCAPNG_EPB_PACKETID 5u
#define PCAPNG_ISB_IFRECV 4u
#define PCAPNG_ISB_IFDROP 5u

#define PCAPNG_INBOUND 1u  /* epb_flags: from the child */
#define PCAPNG_OUTBOUND 2u /* to the child */

#define PCAPNG_EPB_FIXED 28u /* bytes of the block before the packet's */

#endif
