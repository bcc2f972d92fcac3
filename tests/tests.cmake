# SPDX-License-Identifier: MIT
#
# How tests are built and registered.
if(NOT VMBUS_MINICHECK)
	find_package(PkgConfig REQUIRED)
	pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check)
endif()

# vmbus_add_test(NAME LABEL label TIMEOUT seconds COMMAND ...)
function(vmbus_add_test name)
	cmake_parse_arguments(T "" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
	math(EXPR timeout "${T_TIMEOUT} * ${VMBUS_TEST_TIMEOUT_FACTOR}")
	set(environment VMBUS_BUILD_DIR=${PROJECT_BINARY_DIR} VMBUS_SOURCE_DIR=${PROJECT_SOURCE_DIR}
		CC=${CMAKE_C_COMPILER} CK_DEFAULT_TIMEOUT=${timeout} PYTHONDONTWRITEBYTECODE=1)
	if(T_LABEL STREQUAL unit)
		# What is freed is no longer what it was, and what is new is not zero.
		list(APPEND environment MALLOC_PERTURB_=255 GLIBC_TUNABLES=glibc.malloc.tcache_count=0)
	endif()
	add_test(NAME ${name} COMMAND ${T_COMMAND})
	set_tests_properties(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${timeout}
		SKIP_RETURN_CODE 77
		ENVIRONMENT "${environment}")
endfunction()

# Flags and include folders of a test program; it sees private headers.
function(vmbus_test_flags target)
	vmbus_program_flags(${target})
	target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests
		${PROJECT_SOURCE_DIR}/tests/support)
	if(CMAKE_C_COMPILER_ID MATCHES Clang)
		# Check's own macros leave their last argument out.
		target_compile_options(${target} PRIVATE -Wno-gnu-zero-variadic-macro-arguments)
	endif()
	if(VMBUS_MINICHECK)
		target_compile_definitions(${target} PRIVATE VMBUS_MINICHECK)
	else()
		target_link_libraries(${target} PRIVATE PkgConfig::CHECK)
	endif()
	if(VMBUS_HOSTED)
		find_package(Threads REQUIRED)
		target_link_libraries(${target} PRIVATE Threads::Threads)
	endif()
endfunction()

# A program of Check tests: vmbus_check_program(NAME LABEL TIMEOUT source...)
function(vmbus_check_program name label timeout)
	string(REPLACE "." "_" target ${name})
	add_executable(${target} ${ARGN})
	target_link_libraries(${target} PRIVATE vmbus_core_hooks)
	vmbus_test_flags(${target})
	vmbus_add_test(${name} LABEL ${label} TIMEOUT ${timeout} COMMAND ${target})
endfunction()

# Every test_*.c of a folder is a program; found by name, so none can be forgotten.
function(vmbus_unit_tests folder)
	file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/test_*.c)
	foreach(source IN LISTS sources)
		get_filename_component(name ${source} NAME_WE)
		string(REGEX REPLACE "^test_" "" name ${name})
		vmbus_check_program(${folder}.${name} unit 120 ${source})
	endforeach()
endfunction()
