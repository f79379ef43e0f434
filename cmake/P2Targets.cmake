# p2_library(NAME SRCS a.cc b.cc [DEPS ...] [PRIVATE_DEPS ...] [TORCH]): one static library a directory.
#   Headers are included by their path from the repository's root ("common/clock.h").
#   TORCH: links LibTorch and shares its precompiled header. Such a target must not see protobuf, gRPC or spdlog headers.
# p2_binary(NAME SRCS ... DEPS ... [TORCH]): a program in bin/.
# p2_test(NAME SRCS ... DEPS ... [TORCH] [LABEL unit|integration|gpu] [TIMEOUT s]): a GoogleTest program, one ctest entry.
include(GoogleTest)

function(_p2_common target torch)
  target_include_directories(${target} PUBLIC "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE p2_warnings)
  if(torch)
    target_link_libraries(${target} PUBLIC p2_torch)
    target_precompile_headers(${target} REUSE_FROM p2_torch_pch)
    target_compile_options(${target} PRIVATE -fPIC)  # As the precompiled header was made; CMake gives programs -fPIE.
  endif()
endfunction()

function(p2_library name)
  cmake_parse_arguments(A "TORCH" "" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${A_SRCS})
  _p2_common(${name} "${A_TORCH}")
  target_link_libraries(${name} PUBLIC ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS})
endfunction()

function(p2_binary name)
  cmake_parse_arguments(A "TORCH" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  _p2_common(${name} "${A_TORCH}")
  target_link_libraries(${name} PRIVATE ${A_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

function(p2_test name)
  cmake_parse_arguments(A "TORCH" "LABEL;TIMEOUT" "SRCS;DEPS" ${ARGN})
  if(NOT A_LABEL)
    set(A_LABEL unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${name} ${A_SRCS})
  _p2_common(${name} "${A_TORCH}")
  target_link_libraries(${name} PRIVATE ${A_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  # Tests find the golden numbers and sources by these, never by the working directory.
  # GCC 12 sees overlapping copies in `"literal" + string` (its bug 105651).
  target_compile_options(${name} PRIVATE -Wno-restrict)
  target_compile_definitions(${name} PRIVATE
    P2_SOURCE_DIR="${CMAKE_SOURCE_DIR}" P2_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${A_LABEL} TIMEOUT ${A_TIMEOUT})
  if(A_LABEL STREQUAL gpu)  # Where there is no GPU ctest says "Skipped", not "Passed".
    set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
  endif()
endfunction()
