# SPDX-License-Identifier: MIT
#
# ./check --full coverage does the same, and records it; here a test that fails ends it.
add_custom_target(coverage
	COMMAND ${CMAKE_CTEST_COMMAND} --output-on-failure -j2
	COMMAND python3 ${PROJECT_SOURCE_DIR}/cmake/coverage ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}
	WORKING_DIRECTORY ${PROJECT_BINARY_DIR} USES_TERMINAL
	COMMENT "Running all tests, then counting lines and branches")
