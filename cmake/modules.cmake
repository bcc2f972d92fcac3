# SPDX-License-Identifier: MIT
#
# A module is a folder of sources that sees its own headers and those of the modules that it was
# allowed, and nothing else: each gets an include folder of its own in the build tree, with links.

# vmbus_module(NAME DIR folder [SOURCES ...] [HEADERS ...] [PUBLIC ...] [USES ...] [SEES ...]
#	[HOSTED] [OUTSIDE])
#
# DIR      its folder, which modules may share: a device's two halves do
# SOURCES  files of the module, in DIR
# HEADERS  its private headers, in DIR; others write "NAME/header.h"
# PUBLIC   its headers in include/vmbus
# USES     the modules whose headers it may include, each one named
# HOSTED   may use the C library and the system
# OUTSIDE  gets only the public headers of what it uses; HOSTED modules always are
# SEES     OUTSIDE only: the modules whose private headers it may include all the same
macro(vmbus_module name)
	cmake_parse_arguments(VMBUS_${name} "HOSTED;OUTSIDE" "DIR" "SOURCES;HEADERS;PUBLIC;USES;SEES" ${ARGN})
	if(VMBUS_${name}_HOSTED)
		set(VMBUS_${name}_OUTSIDE TRUE)
	endif()
	list(APPEND VMBUS_MODULES ${name})
	vmbus_module_folder(${name})
endmacro()

function(vmbus_link_header from to)
	if(NOT EXISTS "${from}")
		message(FATAL_ERROR "${from} is in the list of cmake/borders.cmake but not in the tree")
	endif()
	file(CREATE_LINK "${from}" "${to}" SYMBOLIC)
endfunction()

# The include folder of a module: <build>/borders/<module>/{vmbus,<module used>}/*.h
function(vmbus_module_folder name)
	set(folder ${PROJECT_BINARY_DIR}/borders/${name})
	file(REMOVE_RECURSE ${folder})
	file(MAKE_DIRECTORY ${folder}/vmbus)
	foreach(module IN LISTS VMBUS_${name}_USES ITEMS ${name})
		foreach(header IN LISTS VMBUS_${module}_PUBLIC)
			vmbus_link_header(${PROJECT_SOURCE_DIR}/include/vmbus/${header} ${folder}/vmbus/${header})
		endforeach()
		if(VMBUS_${name}_OUTSIDE AND NOT module STREQUAL name AND NOT module IN_LIST VMBUS_${name}_SEES)
			continue()
		endif()
		if(VMBUS_${module}_HEADERS)
			file(MAKE_DIRECTORY ${folder}/${module})
		endif()
		foreach(header IN LISTS VMBUS_${module}_HEADERS)
			vmbus_link_header(${PROJECT_SOURCE_DIR}/${VMBUS_${module}_DIR}/${header}
				${folder}/${module}/${header})
		endforeach()
	endforeach()
	# For tests/tree/borders: what the compiler was given, from the same list.
	string(REPLACE ";" " " lists
		"${VMBUS_${name}_USES}|${VMBUS_${name}_PUBLIC}|${VMBUS_${name}_HEADERS}|${VMBUS_${name}_SEES}|${VMBUS_${name}_SOURCES}")
	file(APPEND ${PROJECT_BINARY_DIR}/borders.txt
		"${name}|${VMBUS_${name}_DIR}|${VMBUS_${name}_HOSTED}|${VMBUS_${name}_OUTSIDE}|${lists}\n")
endfunction()

# An object library of a module's sources.  Flavours (shipped, with test hooks) differ in
# definitions only.
function(vmbus_module_objects target name)
	list(TRANSFORM VMBUS_${name}_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/${VMBUS_${name}_DIR}/
		OUTPUT_VARIABLE sources)
	add_library(${target} OBJECT ${sources})
	set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON
		C_EXTENSIONS OFF C_VISIBILITY_PRESET hidden)
	target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/borders/${name})
	target_compile_options(${target} PRIVATE ${VMBUS_WARNINGS} ${vmbus_lib_sanitizers})
	target_compile_definitions(${target} PRIVATE ${ARGN})
	if(NOT VMBUS_${name}_HOSTED)
		target_compile_options(${target} PRIVATE ${vmbus_core_flags})
	endif()
endfunction()
