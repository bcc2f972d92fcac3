# SPDX-License-Identifier: MIT
#
# The one list of modules: their files, and whose headers each may include.  The compiler is given
# only what is named here (cmake/modules.cmake); the test tree.borders checks the tree against it.

file(REMOVE ${PROJECT_BINARY_DIR}/borders.txt)

vmbus_module(base DIR src/base
	PUBLIC base.h version.h
	HEADERS atomic.h contract.h dirty.h untrusted.h
	SOURCES err.c hook.c version.c)

vmbus_module(wire DIR src/wire
	USES base
	PUBLIC wire.h ctl.h
	HEADERS le.h pkt.h
	SOURCES ctl.c guid.c pkt.c)

vmbus_module(ring DIR src/ring
	USES base wire
	PUBLIC ring.h mtx.h
	HEADERS copy.h ctl.h emit.h index.h
	SOURCES emit.c mem.c mtx.c rx.c tx.c)

vmbus_module(hypercall DIR src/hypercall
	USES base wire
	PUBLIC hypercall.h synic.h
	HEADERS
	SOURCES hc.c hcbox.c hv.c synic.c)

vmbus_module(channel DIR src/channel
	USES base wire
	PUBLIC srv.h cli.h
	HEADERS cli_machine.h srv.h
	SOURCES cli.c cli_chan.c cli_msg.c cli_post.c cli_store.c cli_table.c
		srv.c srv_chan.c srv_conn.c srv_list.c srv_msg.c srv_offer.c srv_out.c srv_sock.c)

vmbus_module(mem DIR src/mem
	USES base wire
	PUBLIC mem.h
	HEADERS
	SOURCES mem.c sgl.c)

# The downward seam: a header without sources, which both runtimes and every backend include.
vmbus_module(backend DIR -
	USES base
	PUBLIC backend.h)

vmbus_module(guest DIR src/guest
	USES base wire ring hypercall channel mem backend
	PUBLIC guest.h vsc.h
	HEADERS state.h
	SOURCES conn.c dispatch.c guest.c life.c list.c log.c memory.c packet.c request.c vsc.c)

vmbus_module(bus DIR src/bus HOSTED
	USES base wire ring hypercall channel mem backend
	SEES base
	PUBLIC bus.h vsp.h
	HEADERS bus.h rcu.h
	SOURCES bind.c bus.c chan.c conns.c control.c end.c info.c inbox.c kick.c life.c log.c memory.c offers.c
		own.c timer.c window.c)

vmbus_module(pool DIR src/pool HOSTED
	USES base wire ring hypercall channel mem backend bus
	SEES base
	PUBLIC pool.h
	HEADERS pool.h
	SOURCES pool.c worker.c)

# SEES base: the parent marks the pages that it writes by itself.
vmbus_module(shm DIR backends/shm HOSTED
	USES base wire ring hypercall channel mem backend bus guest
	SEES base
	PUBLIC shm.h shm_bus.h
	HEADERS attached.h pages.h parent.h proto.h sys.h
	SOURCES attach.c child.c guest_backend.c list.c pages.c proto.c query.c ring_map.c server.c
		socket.c sys.c turn.c wake.c)

# SEES base: the monitor page and the rings' first words are shared with the parent.
vmbus_module(uio DIR backends/uio HOSTED
	USES base wire ring hypercall channel backend guest
	SEES base
	PUBLIC uio.h
	HEADERS sys.h sysfs.h uio.h
	SOURCES backend.c bind.c device.c parent.c sys.c sysfs.c uio.c)

# x86-64 only.
vmbus_module(kvm DIR backends/kvm HOSTED
	USES base wire ring hypercall channel mem backend bus
	SEES base
	PUBLIC kvm.h
	HEADERS grace.h numbers.h partition.h sys.h
	SOURCES call.c create.c deliver.c memory.c msr.c route.c state.c sys.c vcpu.c)

# Devices: one folder for each pair, its freestanding client and its hosted provider.
vmbus_module(echo DIR devices/echo OUTSIDE
	USES base wire ring hypercall channel mem backend guest
	PUBLIC echo.h
	SOURCES vsc.c)

vmbus_module(echo_vsp DIR devices/echo HOSTED
	USES base wire ring hypercall channel mem backend guest bus echo
	SOURCES vsp.c)

# Freestanding too, but for one processor only: a component of its own.
vmbus_module(bare DIR backends/bare OUTSIDE
	USES base hypercall backend
	PUBLIC bare.h
	HEADERS bare.h cpu.h
	SOURCES bare.c cpu.c guest_backend.c pages.c)

vmbus_module(ic DIR devices/ic OUTSIDE
	USES base wire ring hypercall channel mem backend guest
	PUBLIC ic.h
	HEADERS wire.h
	SOURCES vsc.c wire.c)

vmbus_module(ic_vsp DIR devices/ic HOSTED
	USES base wire ring hypercall channel mem backend guest bus ic
	SEES ic
	HEADERS vsp.h
	SOURCES vsp.c vsp_msg.c)

# In the freestanding library, and added to it in vmbus::vmbus.
set(VMBUS_CORE_MODULES base wire ring hypercall channel mem guest echo ic)
set(VMBUS_HOSTED_MODULES bus shm uio echo_vsp ic_vsp)
# Components of their own.
set(VMBUS_POOL_MODULES pool)
set(VMBUS_BARE_MODULES)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
	set(VMBUS_BARE_MODULES bare)
	list(APPEND VMBUS_HOSTED_MODULES kvm)
endif()
