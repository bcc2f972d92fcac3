# SPDX-License-Identifier: MIT
#
# What this build tree has and what it has not, said once at the end of configuring.
message(STATUS "libvmbus ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}, ${CMAKE_C_COMPILER_ID} "
	"${CMAKE_C_COMPILER_VERSION}, ${CMAKE_SYSTEM_PROCESSOR}")
foreach(what IN ITEMS HOSTED BUILD_TESTS BUILD_BENCH BUILD_EXAMPLES BUILD_MAN WERROR MINICHECK)
	message(STATUS "  VMBUS_${what}: ${VMBUS_${what}}")
endforeach()
get_property(peers GLOBAL PROPERTY vmbus_bench_peers)
foreach(line IN LISTS peers)
	message(STATUS "  peer of the benchmark: ${line}")
endforeach()
