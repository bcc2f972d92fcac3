/* SPDX-License-Identifier: MIT */
/* All public headers of the library, but for those of its components.  Start with vmbus(7). */
#ifndef VMBUS_VMBUS_H
#define VMBUS_VMBUS_H

#include <vmbus/backend.h>
#include <vmbus/base.h>
#include <vmbus/block.h>
#include <vmbus/bus.h>
#include <vmbus/capture.h>
#include <vmbus/cli.h>
#include <vmbus/ctl.h>
#include <vmbus/diag.h>
#include <vmbus/echo.h>
#include <vmbus/foreign.h>
#include <vmbus/frame.h>
#include <vmbus/guest.h>
#include <vmbus/hypercall.h>
#include <vmbus/ic.h>
#if defined(__x86_64__)
#include <vmbus/kvm.h>
#endif
#include <vmbus/look.h>
#include <vmbus/mem.h>
#include <vmbus/mtx.h>
#include <vmbus/net.h>
#include <vmbus/netvsc.h>
#include <vmbus/poll.h>
#include <vmbus/port.h>
#include <vmbus/port_capture.h>
#include <vmbus/port_packet.h>
#include <vmbus/port_tap.h>
#include <vmbus/port_uplink.h>
#include <vmbus/provider.h>
#include <vmbus/replay.h>
#include <vmbus/ring.h>
#include <vmbus/save.h>
#include <vmbus/shm.h>
#include <vmbus/shm_bus.h>
#include <vmbus/shm_capture.h>
#include <vmbus/shm_query.h>
#include <vmbus/shm_restart.h>
#include <vmbus/srv.h>
#include <vmbus/srv_save.h>
#include <vmbus/store.h>
#include <vmbus/storvsc.h>
#include <vmbus/switch.h>
#include <vmbus/synic.h>
#include <vmbus/tap.h>
#include <vmbus/uio.h>
#include <vmbus/version.h>
#include <vmbus/vsc.h>
#include <vmbus/vsp.h>
#include <vmbus/watch.h>
#include <vmbus/wire.h>

#endif
