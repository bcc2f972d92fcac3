# SPDX-License-Identifier: MIT
#
# Flags in one place.  Never -march: one library runs on every machine of its architecture.

if(top_level AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
	set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

set(VMBUS_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(VMBUS_WERROR)
	list(APPEND VMBUS_WARNINGS -Werror)
endif()

# The library is built in ISO mode (cmake/modules.cmake), programs with the system's interfaces.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)

set(vmbus_sanitizers)
if(VMBUS_SANITIZE)
	set(vmbus_sanitizers -fsanitize=${VMBUS_SANITIZE} -fno-sanitize-recover=all
		-fno-omit-frame-pointer)
endif()
set(vmbus_lib_sanitizers ${vmbus_sanitizers})
if(VMBUS_SANITIZE_LIB)
	list(APPEND vmbus_lib_sanitizers -fsanitize=${VMBUS_SANITIZE_LIB} -fno-sanitize-recover=all)
endif()
if(VMBUS_FUZZ)
	list(APPEND vmbus_lib_sanitizers -fsanitize=fuzzer-no-link)
endif()

# Atomics are instructions here, never calls into a support library.
set(vmbus_core_flags -ffreestanding)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
	list(APPEND vmbus_core_flags -mno-outline-atomics)
endif()
if(NOT VMBUS_HOSTED)
	list(APPEND vmbus_core_flags -fno-stack-protector)
endif()

# For programs at level 0 whose handlers save no vector registers, or which have none.
set(vmbus_bare_flags)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
	set(vmbus_bare_flags -mno-red-zone -mgeneral-regs-only -fno-stack-protector)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$") # no red zone there
	set(vmbus_bare_flags -mgeneral-regs-only -fno-stack-protector)
endif()

# What every program of the project has: tests, benchmark, examples.
function(vmbus_program_flags target)
	target_compile_options(${target} PRIVATE ${VMBUS_WARNINGS} ${vmbus_sanitizers})
	target_link_options(${target} PRIVATE ${vmbus_sanitizers})
endfunction()
