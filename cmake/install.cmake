# SPDX-License-Identifier: MIT
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vmbus)
set(installed vmbus_core vmbus_core_bare)
set(public_headers)
set(installed_modules ${VMBUS_CORE_MODULES} backend)
if(VMBUS_BARE_MODULES)
	list(APPEND installed vmbus_bare)
	list(APPEND installed_modules ${VMBUS_BARE_MODULES})
endif()
if(VMBUS_HOSTED)
	list(APPEND installed vmbus vmbus_static vmbus_pool vmbus_pool_static)
	list(APPEND installed_modules ${VMBUS_HOSTED_MODULES} ${VMBUS_POOL_MODULES})
	foreach(module IN LISTS VMBUS_STORE_FOUND)
		list(APPEND installed vmbus_${module} vmbus_${module}_static)
		list(APPEND installed_modules ${module})
	endforeach()
	set(public_headers include/vmbus/vmbus.h)
endif()
foreach(module IN LISTS installed_modules)
	list(TRANSFORM VMBUS_${module}_PUBLIC PREPEND include/vmbus/ OUTPUT_VARIABLE headers)
	list(APPEND public_headers ${headers})
endforeach()

install(TARGETS ${installed} EXPORT vmbusTargets)
install(FILES ${public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vmbus)
install(EXPORT vmbusTargets NAMESPACE vmbus:: DESTINATION ${config_dir})

configure_package_config_file(cmake/vmbusConfig.cmake.in
	${PROJECT_BINARY_DIR}/vmbusConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vmbusConfigVersion.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vmbusConfig.cmake ${PROJECT_BINARY_DIR}/vmbusConfigVersion.cmake
	DESTINATION ${config_dir})

# What to read first, and the programs that it is about, beside it.
if(VMBUS_HOSTED)
	file(READ docs/tutorial.md tutorial)
	string(REPLACE "](../examples" "](examples" tutorial "${tutorial}")
	file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/tutorial.md CONTENT "@tutorial@" @ONLY)
	set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS docs/tutorial.md)
	install(FILES ${PROJECT_BINARY_DIR}/tutorial.md docs/embedding.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
	install(DIRECTORY examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples FILES_MATCHING PATTERN "*.[ch]")
endif()

# Each component has its pkg-config file.  Paths are relative to it, so a copy can be moved.
file(RELATIVE_PATH pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
list(TRANSFORM VMBUS_STORE_FOUND PREPEND vmbus- OUTPUT_VARIABLE store_components)
foreach(component IN ITEMS vmbus-core vmbus-core-bare vmbus-bare vmbus vmbus-pool LISTS store_components)
	if(NOT component MATCHES "-(core|bare)$" AND NOT VMBUS_HOSTED)
		continue()
	endif()
	if(component STREQUAL vmbus-bare AND NOT VMBUS_BARE_MODULES)
		continue()
	endif()
	configure_file(cmake/${component}.pc.in ${PROJECT_BINARY_DIR}/${component}.pc @ONLY)
	install(FILES ${PROJECT_BINARY_DIR}/${component}.pc
		DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
