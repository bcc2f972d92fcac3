# SPDX-License-Identifier: MIT
#
# What is built only where something of others is.  Each has a cache variable VMBUS_WITH_<NAME>:
# AUTO builds it if that is found, ON stops if it is not, OFF does not look for it.

# vmbus_optional(NAME PACKAGE HEADER [LIBRARY]): sets VMBUS_FOUND_<NAME>; <NAME>_INCLUDE_DIR and
# <NAME>_LIBRARY hold what was found.  PACKAGE is what Debian calls it.
function(vmbus_optional name package header)
	set(found FALSE)
	set(VMBUS_WITH_${name} AUTO CACHE STRING "Use ${package}: AUTO (if it is found), ON or OFF")
	set_property(CACHE VMBUS_WITH_${name} PROPERTY STRINGS AUTO ON OFF)
	if(VMBUS_WITH_${name} STREQUAL AUTO OR VMBUS_WITH_${name})
		find_path(${name}_INCLUDE_DIR ${header})
		mark_as_advanced(${name}_INCLUDE_DIR)
		if(ARGC GREATER 3)
			find_library(${name}_LIBRARY ${ARGV3})
			mark_as_advanced(${name}_LIBRARY)
		endif()
		if(${name}_INCLUDE_DIR AND (ARGC EQUAL 3 OR ${name}_LIBRARY))
			set(found TRUE)
		endif()
	endif()
	if(found)
		set(VMBUS_FOUND_${name} TRUE PARENT_SCOPE)
		return()
	endif()
	set(VMBUS_FOUND_${name} FALSE PARENT_SCOPE)
	vmbus_optional_missing(${name} ${package})
endfunction()

# ON is a promise to whoever builds.
function(vmbus_optional_missing name package)
	if(VMBUS_WITH_${name} AND NOT VMBUS_WITH_${name} STREQUAL AUTO)
		message(FATAL_ERROR "VMBUS_WITH_${name} is ON, and it was not found (Debian: ${package})")
	endif()
endfunction()
