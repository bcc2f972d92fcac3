# SPDX-License-Identifier: MIT
#
# The one list of modules: their files, and whose headers each may include.  The compiler is given
# only what is named here (cmake/modules.cmake); the test tree.borders checks the tree against it.

file(REMOVE ${PROJECT_BINARY_DIR}/borders.txt)

vmbus_module(base DIR src/base
	PUBLIC base.h version.h
	HEADERS atomic.h contract.h dirty.h probe.h state.h untrusted.h
	SOURCES err.c hook.c version.c)

vmbus_module(wire DIR src/wire
	USES base
	PUBLIC wire.h ctl.h
	HEADERS le.h msg.h pkt.h
	SOURCES ctl.c guid.c pkt.c)

vmbus_module(ring DIR src/ring
	USES base wire
	PUBLIC look.h ring.h mtx.h
	HEADERS copy.h ctl.h emit.h index.h
	SOURCES emit.c look.c mem.c mtx.c rx.c tx.c)

vmbus_module(hypercall DIR src/hypercall
	USES base wire
	PUBLIC hypercall.h synic.h
	HEADERS
	SOURCES hc.c hcbox.c hv.c synic.c)

vmbus_module(channel DIR src/channel
	USES base wire
	PUBLIC srv.h srv_save.h cli.h
	HEADERS cli_machine.h srv.h srv_state.h
	SOURCES cli.c cli_chan.c cli_msg.c cli_post.c cli_store.c cli_table.c
		srv.c srv_chan.c srv_conn.c srv_list.c srv_msg.c srv_offer.c srv_out.c srv_restore.c
		srv_restore_check.c srv_save.c srv_sock.c)

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

# Records of packets that pass through channels, and files of them.
vmbus_module(capture DIR src/capture HOSTED
	USES base wire ring
	SEES base
	PUBLIC capture.h
	HEADERS ether.h frame.h pcapng.h
	SOURCES frame.c pcapng_read.c pcapng_write.c tap_read.c)

# Memory of which most is never used.
vmbus_module(lazy DIR src/lazy HOSTED
	HEADERS lazy.h
	SOURCES lazy.c)

vmbus_module(bus DIR src/bus HOSTED
	USES base wire ring hypercall channel mem backend capture lazy
	SEES base wire capture lazy
	PUBLIC bus.h diag.h foreign.h poll.h save.h tap.h vsp.h watch.h
	HEADERS note.h record.h bus.h journal.h rcu.h save.h
	SOURCES bind.c bus.c chan.c conns.c control.c diag.c end.c foreign.c inbox.c info.c journal.c kick.c
		life.c log.c memory.c note.c offers.c opts.c own.c pend.c poll.c record.c record_read.c resume.c restore.c
		save.c tap.c timer.c watch.c window.c)

# A captured channel, fed to a VSP again.
vmbus_module(replay DIR src/replay HOSTED
	USES base wire ring hypercall channel mem backend capture bus
	PUBLIC replay.h
	HEADERS replay.h
	SOURCES part.c replay.c)

vmbus_module(pool DIR src/pool HOSTED
	USES base wire ring hypercall channel mem backend capture bus
	SEES base
	PUBLIC pool.h
	HEADERS pool.h
	SOURCES pool.c worker.c)

# SEES base: the parent marks the pages that it writes by itself.
vmbus_module(shm DIR backends/shm HOSTED
	USES base wire ring hypercall channel mem backend capture bus guest
	SEES base
	PUBLIC provider.h shm.h shm_bus.h shm_capture.h shm_query.h shm_restart.h
	HEADERS attached.h capture.h capture_proto.h restart_proto.h diag_proto.h cursor.h header.h pages.h parent.h proto.h
		provider_client.h provider_host.h provider_proto.h sys.h
	SOURCES attach.c capture.c capture_proto.c capture_query.c hand_over.c restart_proto.c take_over.c child.c diag.c diag_proto.c diag_query.c guest_backend.c list.c pages.c
		proto.c provider_chan.c provider_client.c provider_emit.c provider_glue.c
		provider_client_memory.c provider_client_spin.c provider_host.c provider_memory.c provider_part.c provider_proto.c provider_sandbox.c
		provider_seat.c provider_session.c provider_words.c query.c record.c ring_map.c server.c server_providers.c socket.c sys.c
		turn.c wake.c)

# SEES base: the monitor page and the rings' first words are shared with the parent.
vmbus_module(uio DIR backends/uio HOSTED
	USES base wire ring hypercall channel backend guest
	SEES base
	PUBLIC uio.h
	HEADERS sys.h sysfs.h uio.h
	SOURCES backend.c bind.c device.c parent.c sys.c sysfs.c uio.c)

# x86-64 only.
vmbus_module(kvm DIR backends/kvm HOSTED
	USES base wire ring hypercall channel mem backend capture bus
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
	USES base wire ring hypercall channel mem backend guest capture bus echo
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
	USES base wire ring hypercall channel mem backend guest capture bus ic
	SEES ic
	HEADERS vsp.h
	SOURCES vsp.c vsp_msg.c vsp_state.c)

# Where the bytes of block devices are.
vmbus_module(store DIR stores HOSTED
	USES base
	PUBLIC store.h
	SOURCES faulty.c memory.c null.c store.c)

# A store in files and on block devices: a component of its own, built where liburing is.
# SEES base: a word that its queues share.
vmbus_module(uring DIR stores HOSTED
	USES base store
	SEES base
	PUBLIC store_uring.h
	HEADERS uring.h
	SOURCES uring.c uring_file.c)

# A store behind an NBD server: a component of its own, built where libnbd is.
vmbus_module(nbd DIR stores HOSTED
	USES base store
	PUBLIC store_nbd.h
	HEADERS nbd.h
	SOURCES nbd.c nbd_conn.c)

# Messages of the block device, for both of its ends.
vmbus_module(storwire DIR devices/block OUTSIDE
	USES base
	HEADERS wire.h
	SOURCES wire.c)

# The block device's provider: controller, protocol, and a SCSI disk on a store.
# SEES base: words that channels share; storwire: the layout of messages.
vmbus_module(block DIR devices/block HOSTED
	USES base wire ring hypercall channel mem backend capture bus store storwire lazy
	SEES base storwire lazy
	PUBLIC block.h
	HEADERS scsi.h scsi_cmd.h vsp.h
	SOURCES block.c disk.c nexus.c port.c srb.c state.c view.c vsp.c
		scsi.c scsi_inquiry.c scsi_io.c scsi_mode.c scsi_task.c scsi_unmap.c)

# Its client.  SEES base: a channel's thread and the guest's share two words of it.
vmbus_module(storvsc DIR devices/block OUTSIDE
	USES base wire ring hypercall channel mem backend guest storwire
	SEES base storwire
	PUBLIC storvsc.h
	HEADERS storvsc_state.h
	SOURCES storvsc.c storvsc_disk.c storvsc_found.c storvsc_init.c storvsc_io.c storvsc_probe.c)

# Messages of the network device, for both of its ends.
vmbus_module(netwire DIR devices/net OUTSIDE
	USES base
	HEADERS wire.h wire_oid.h
	SOURCES wire.c)

# Ethernet frames: headers, sums, segments, the hash.
vmbus_module(frame DIR ports OUTSIDE
	USES base
	PUBLIC frame.h
	HEADERS bytes.h
	SOURCES frame.c frame_cut.c frame_hash.c frame_tag.c)

# Where the frames of NICs go to, and come from.
# SEES base: words that threads share.
vmbus_module(port DIR ports HOSTED
	USES base wire ring frame lazy
	SEES base lazy
	PUBLIC port.h
	HEADERS inbox.h
	SOURCES inbox.c pair.c port.c)

# SEES base: the table of addresses, and counters; port: the inbox.
vmbus_module(switch DIR ports HOSTED
	USES base wire ring frame port lazy
	SEES base port lazy
	PUBLIC switch.h
	HEADERS switch.h
	SOURCES switch.c switch_plug.c switch_send.c switch_table.c)

# What the ports on interfaces of the kernel share.  SEES base: words that threads share.
vmbus_module(vnet DIR ports HOSTED
	USES base frame port
	SEES base
	HEADERS vnet.h
	SOURCES vnet.c)

vmbus_module(tap_port DIR ports HOSTED
	USES base frame port vnet
	SEES vnet
	PUBLIC port_tap.h
	SOURCES tap.c)

vmbus_module(packet_port DIR ports HOSTED
	USES base frame port vnet
	SEES vnet
	PUBLIC port_packet.h
	SOURCES packet.c)

# A port before another one.  SEES capture: frames in a file.
vmbus_module(portcap DIR ports HOSTED
	USES base wire ring frame port capture
	SEES capture
	PUBLIC port_capture.h
	SOURCES capture.c)

# A user-mode network: a component of its own, built where libslirp is.  SEES base: words that threads share.
vmbus_module(slirp DIR ports HOSTED
	USES base frame port
	SEES base
	PUBLIC port_slirp.h
	HEADERS slirp.h
	SOURCES slirp.c slirp_conf.c slirp_wait.c)

# The network device's provider.  SEES base: words that threads share; netwire: the layout of
# messages; port: the inbox.
vmbus_module(net DIR devices/net HOSTED
	USES base wire ring hypercall channel mem backend capture bus frame port netwire lazy
	SEES base netwire port lazy
	PUBLIC net.h
	HEADERS control.h rx.h tx.h vsp.h
	SOURCES buffer.c glue.c link.c net.c nvsp.c offload.c oid.c oid_set.c rndis.c rss.c rx.c rx_frame.c
		rx_room.c rx_steer.c save.c shape.c state.c tx.c tx_frame.c tx_offload.c vsp.c)

# Its client.  SEES base: channels' threads share a word of it; netwire: the layout of messages.
vmbus_module(netvsc DIR devices/net OUTSIDE
	USES base wire ring hypercall channel mem backend guest frame netwire
	SEES base netwire
	PUBLIC netvsc.h
	HEADERS netvsc_state.h
	SOURCES netvsc.c netvsc_control.c netvsc_info.c netvsc_init.c netvsc_receive.c netvsc_send.c)

# A port that is a NIC of another parent's, over shared memory.
vmbus_module(uplink DIR ports HOSTED
	USES base wire ring hypercall channel mem backend capture bus guest shm frame port netvsc net
	PUBLIC port_uplink.h
	SOURCES uplink.c)

# Of the core, what has probes in vmbus::vmbus; in the freestanding library it has none.
set(VMBUS_PROBED_MODULES ring channel guest)
# In the freestanding library, and added to it in vmbus::vmbus.
set(VMBUS_CORE_MODULES base wire ring hypercall channel mem guest echo ic storwire storvsc netwire frame netvsc)
set(VMBUS_HOSTED_MODULES lazy capture replay bus shm uio echo_vsp ic_vsp store block port switch vnet tap_port packet_port portcap net uplink)
# Components of their own.
set(VMBUS_POOL_MODULES pool)
set(VMBUS_STORE_MODULES uring nbd slirp)
set(VMBUS_BARE_MODULES)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
	set(VMBUS_BARE_MODULES bare)
	list(APPEND VMBUS_HOSTED_MODULES kvm)
endif()
