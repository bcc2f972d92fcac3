# SPDX-License-Identifier: MIT
#
# The libraries.  All flavours compile the same sources.

# Static probes, vmbus_probes(7): in what has an operating system below it, and not in builds that
# are instrumented anyway.
set(vmbus_probes)
if(VMBUS_HOSTED AND NOT VMBUS_SANITIZE AND NOT VMBUS_COVERAGE)
	vmbus_optional(PROBES systemtap-sdt-dev sys/sdt.h)
	if(VMBUS_FOUND_PROBES)
		set(vmbus_probes VMBUS_PROBES)
	endif()
endif()

set(core_objects)
set(probed_objects) # the core as it is in vmbus::vmbus
set(hosted_objects)
set(hooks_objects)
set(pool_objects)
set(store_objects)
foreach(module IN LISTS VMBUS_CORE_MODULES)
	if(NOT VMBUS_${module}_SOURCES)
		continue()
	endif()
	vmbus_module_objects(vmbus_${module} ${module})
	list(APPEND core_objects $<TARGET_OBJECTS:vmbus_${module}>)
	if(vmbus_probes AND module IN_LIST VMBUS_PROBED_MODULES)
		vmbus_module_objects(vmbus_${module}_probed ${module} ${vmbus_probes})
		list(APPEND probed_objects $<TARGET_OBJECTS:vmbus_${module}_probed>)
	else()
		list(APPEND probed_objects $<TARGET_OBJECTS:vmbus_${module}>)
	endif()
	if(VMBUS_BUILD_TESTS)
		vmbus_module_objects(vmbus_${module}_hooks ${module} VMBUS_TEST_HOOKS)
		list(APPEND hooks_objects $<TARGET_OBJECTS:vmbus_${module}_hooks>)
	endif()
endforeach()

function(vmbus_library_interface target)
	target_include_directories(${target} INTERFACE
		$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
	if(vmbus_lib_sanitizers)
		target_link_options(${target} PUBLIC $<BUILD_INTERFACE:${vmbus_sanitizers}>)
	endif()
endfunction()

add_library(vmbus_core STATIC ${core_objects})
add_library(vmbus::core ALIAS vmbus_core)
set_target_properties(vmbus_core PROPERTIES OUTPUT_NAME vmbus_core EXPORT_NAME core LINKER_LANGUAGE C)
vmbus_library_interface(vmbus_core)

# The same without a red zone and vector registers.  Builds that are instrumented, and machines
# that need no flags for it, have the objects of the other.
set(core_bare_objects ${core_objects})
if(vmbus_bare_flags AND NOT VMBUS_SANITIZE AND NOT VMBUS_SANITIZE_LIB AND NOT VMBUS_FUZZ AND NOT VMBUS_COVERAGE)
	set(core_bare_objects)
	foreach(module IN LISTS VMBUS_CORE_MODULES)
		if(NOT VMBUS_${module}_SOURCES)
			continue()
		endif()
		vmbus_module_objects(vmbus_${module}_bare ${module})
		# A guest that is interpreted pays for each instruction.
		target_compile_options(vmbus_${module}_bare PRIVATE ${vmbus_bare_flags} $<$<CONFIG:Debug>:-O2>)
		list(APPEND core_bare_objects $<TARGET_OBJECTS:vmbus_${module}_bare>)
	endforeach()
endif()
add_library(vmbus_core_bare STATIC ${core_bare_objects})
add_library(vmbus::core_bare ALIAS vmbus_core_bare)
set_target_properties(vmbus_core_bare PROPERTIES OUTPUT_NAME vmbus_core_bare EXPORT_NAME core_bare
	LINKER_LANGUAGE C)
vmbus_library_interface(vmbus_core_bare)

# The guest side without an operating system: its users run at level 0, with interrupts.
set(bare_objects)
foreach(module IN LISTS VMBUS_BARE_MODULES)
	vmbus_module_objects(vmbus_${module}_objects ${module})
	target_compile_options(vmbus_${module}_objects PRIVATE ${vmbus_bare_flags})
	list(APPEND bare_objects $<TARGET_OBJECTS:vmbus_${module}_objects>)
endforeach()
if(bare_objects)
	add_library(vmbus_bare STATIC ${bare_objects})
	add_library(vmbus::bare ALIAS vmbus_bare)
	set_target_properties(vmbus_bare PROPERTIES OUTPUT_NAME vmbus-bare EXPORT_NAME bare
		LINKER_LANGUAGE C)
	target_link_libraries(vmbus_bare PUBLIC vmbus_core_bare)
	vmbus_library_interface(vmbus_bare)
endif()

if(VMBUS_HOSTED)
	find_path(NUMA_INCLUDE_DIR numa.h)
	find_library(NUMA_LIBRARY numa)
	mark_as_advanced(NUMA_INCLUDE_DIR NUMA_LIBRARY)
	if(NOT NUMA_LIBRARY OR NOT NUMA_INCLUDE_DIR)
		message(FATAL_ERROR "libnuma is missing (Debian: libnuma-dev); "
			"-DVMBUS_HOSTED=OFF builds the freestanding core alone")
	endif()
	find_path(URCU_INCLUDE_DIR urcu-bp.h)
	find_library(URCU_LIBRARY urcu-bp)
	find_library(URCU_COMMON_LIBRARY urcu-common)
	mark_as_advanced(URCU_INCLUDE_DIR URCU_LIBRARY URCU_COMMON_LIBRARY)
	if(NOT URCU_LIBRARY OR NOT URCU_INCLUDE_DIR OR NOT URCU_COMMON_LIBRARY)
		message(FATAL_ERROR "liburcu is missing (Debian: liburcu-dev); "
			"-DVMBUS_HOSTED=OFF builds the freestanding core alone")
	endif()
	set(vmbus_system_libraries numa urcu-bp urcu-common)
	foreach(module IN LISTS VMBUS_HOSTED_MODULES)
		if(NOT VMBUS_${module}_SOURCES)
			continue()
		endif()
		vmbus_module_objects(vmbus_${module} ${module} ${vmbus_probes})
		list(APPEND hosted_objects $<TARGET_OBJECTS:vmbus_${module}>)
	endforeach()

	add_library(vmbus SHARED ${probed_objects} ${hosted_objects})
	add_library(vmbus::vmbus ALIAS vmbus)
	set(map ${PROJECT_SOURCE_DIR}/cmake/libvmbus.map)
	set_target_properties(vmbus PROPERTIES VERSION ${PROJECT_VERSION}
		SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C LINK_DEPENDS ${map})
	target_link_options(vmbus PRIVATE LINKER:--version-script=${map})
	if(NOT VMBUS_SANITIZE)
		target_link_options(vmbus PRIVATE LINKER:-z,defs)
	endif()
	target_link_libraries(vmbus PRIVATE ${vmbus_system_libraries})
	vmbus_library_interface(vmbus)

	add_library(vmbus_static STATIC ${probed_objects} ${hosted_objects})
	add_library(vmbus::vmbus_static ALIAS vmbus_static)
	set_target_properties(vmbus_static PROPERTIES OUTPUT_NAME vmbus LINKER_LANGUAGE C)
	target_link_libraries(vmbus_static PRIVATE ${vmbus_system_libraries})
	vmbus_library_interface(vmbus_static)

	# A component of its own: it starts threads, and uses the library by its public calls.
	foreach(module IN LISTS VMBUS_POOL_MODULES)
		vmbus_module_objects(vmbus_${module}_objects ${module})
		list(APPEND pool_objects $<TARGET_OBJECTS:vmbus_${module}_objects>)
	endforeach()
	add_library(vmbus_pool SHARED ${pool_objects})
	add_library(vmbus::pool ALIAS vmbus_pool)
	set(map ${PROJECT_SOURCE_DIR}/cmake/libvmbus-pool.map)
	set_target_properties(vmbus_pool PROPERTIES OUTPUT_NAME vmbus-pool EXPORT_NAME pool
		INSTALL_RPATH $ORIGIN # finds libvmbus.so beside it
		VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C
		LINK_DEPENDS ${map})
	target_link_options(vmbus_pool PRIVATE LINKER:--version-script=${map})
	if(NOT VMBUS_SANITIZE)
		target_link_options(vmbus_pool PRIVATE LINKER:-z,defs)
	endif()
	target_link_libraries(vmbus_pool PUBLIC vmbus PRIVATE numa pthread)
	vmbus_library_interface(vmbus_pool)

	add_library(vmbus_pool_static STATIC ${pool_objects})
	add_library(vmbus::pool_static ALIAS vmbus_pool_static)
	set_target_properties(vmbus_pool_static PROPERTIES OUTPUT_NAME vmbus-pool
		EXPORT_NAME pool_static LINKER_LANGUAGE C)
	target_link_libraries(vmbus_pool_static PUBLIC vmbus_static PRIVATE numa pthread)
	vmbus_library_interface(vmbus_pool_static)

	# Stores and ports on libraries of others: components of their own, which are built where those are.
	set(VMBUS_STORE_FOUND)
	set(uring_needs liburing-dev liburing.h uring)
	set(nbd_needs libnbd-dev libnbd.h nbd)
	set(slirp_needs libslirp-dev slirp/libslirp.h slirp)
	foreach(module IN LISTS VMBUS_STORE_MODULES)
		list(GET ${module}_needs 2 library)
		string(TOUPPER ${module} upper)
		vmbus_optional(${upper} ${${module}_needs})
		if(NOT VMBUS_FOUND_${upper})
			continue()
		endif()
		list(APPEND VMBUS_STORE_FOUND ${module})
		vmbus_module_objects(vmbus_${module}_objects ${module})
		list(APPEND store_objects $<TARGET_OBJECTS:vmbus_${module}_objects>)
		add_library(vmbus_${module} SHARED $<TARGET_OBJECTS:vmbus_${module}_objects>)
		add_library(vmbus::${module} ALIAS vmbus_${module})
		set(map ${PROJECT_SOURCE_DIR}/cmake/libvmbus-${module}.map)
		set_target_properties(vmbus_${module} PROPERTIES OUTPUT_NAME vmbus-${module}
			EXPORT_NAME ${module} INSTALL_RPATH $ORIGIN
			VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C
			LINK_DEPENDS ${map})
		target_link_options(vmbus_${module} PRIVATE LINKER:--version-script=${map})
		if(NOT VMBUS_SANITIZE)
			target_link_options(vmbus_${module} PRIVATE LINKER:-z,defs)
		endif()
		target_link_libraries(vmbus_${module} PUBLIC vmbus PRIVATE ${library})
		vmbus_library_interface(vmbus_${module})

		add_library(vmbus_${module}_static STATIC $<TARGET_OBJECTS:vmbus_${module}_objects>)
		add_library(vmbus::${module}_static ALIAS vmbus_${module}_static)
		set_target_properties(vmbus_${module}_static PROPERTIES OUTPUT_NAME vmbus-${module}
			EXPORT_NAME ${module}_static LINKER_LANGUAGE C)
		target_link_libraries(vmbus_${module}_static PUBLIC vmbus_static PRIVATE ${library})
		vmbus_library_interface(vmbus_${module}_static)
	endforeach()
endif()

# For tests only: the same sources with the hook before each load of the peer's memory.
if(VMBUS_BUILD_TESTS)
	add_library(vmbus_core_hooks STATIC ${hooks_objects} ${hosted_objects} ${pool_objects}
		${store_objects} ${bare_objects})
	set_target_properties(vmbus_core_hooks PROPERTIES LINKER_LANGUAGE C)
	target_compile_definitions(vmbus_core_hooks INTERFACE VMBUS_TEST_HOOKS)
	if(VMBUS_HOSTED)
		target_link_libraries(vmbus_core_hooks PRIVATE ${vmbus_system_libraries})
		foreach(module IN LISTS VMBUS_STORE_FOUND)
			list(GET ${module}_needs 2 library)
			string(TOUPPER ${module} upper)
			target_link_libraries(vmbus_core_hooks PRIVATE ${library})
			target_compile_definitions(vmbus_core_hooks INTERFACE VMBUS_HAVE_${upper})
		endforeach()
	endif()
	vmbus_library_interface(vmbus_core_hooks)
endif()
