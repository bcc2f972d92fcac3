# SPDX-License-Identifier: MIT
#
# What this build tree has and what it has not, said once at the end of configuring.
message(STATUS "libvmbus ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}, ${CMAKE_C_COMPILER_ID} "
	"${CMAKE_C_COMPILER_VERSION}, ${CMAKE_SYSTEM_PROCESSOR}")
foreach(what IN ITEMS HOSTED BUILD_TESTS BUILD_BENCH BUILD_EXAMPLES BUILD_MAN WERROR MINICHECK)
	message(STATUS "  VMBUS_${what}: ${VMBUS_${what}}")
endforeach()
foreach(module IN LISTS VMBUS_STORE_MODULES)
	if(module IN_LIST VMBUS_STORE_FOUND)
		message(STATUS "  component ${module}: found")
	else()
		list(GET ${module}_needs 2 package)
		message(STATUS "  component ${module}: not built (Debian: ${package})")
	endif()
endforeach()
get_property(peers GLOBAL PROPERTY vmbus_bench_peers)
foreach(line IN LISTS peers)
	message(STATUS "  peer of the benchmark: ${line}")
endforeach()
