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
	PUBLIC wire.h
	HEADERS pkt.h
	SOURCES pkt.c)

vmbus_module(ring DIR src/ring
	USES base wire
	PUBLIC ring.h mtx.h
	HEADERS copy.h ctl.h emit.h index.h
	SOURCES emit.c mem.c mtx.c rx.c tx.c)

vmbus_module(shm DIR backends/shm HOSTED
	USES base wire ring
	PUBLIC shm.h
	SOURCES ring_map.c)

# In the freestanding library, and added to it in vmbus::vmbus.
set(VMBUS_CORE_MODULES base wire ring)
set(VMBUS_HOSTED_MODULES shm)
