set(MPISHARDS_WITH_CUDA AUTO CACHE STRING "Build the CUDA engine: AUTO, ON or OFF")
set_property(CACHE MPISHARDS_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)
option(MPISHARDS_BUILD_TESTS "Build the tests" ON)
option(MPISHARDS_BUILD_BENCH "Build the benchmarks" ON)
option(MPISHARDS_BUILD_FUZZERS "Build the fuzzers" OFF)
option(MPISHARDS_WARNINGS_AS_ERRORS "Warnings are errors" ON)
option(MPISHARDS_COVERAGE "Instrument for gcov" OFF)
set(MPISHARDS_SANITIZE "" CACHE STRING "Value of -fsanitize")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
# -O3 is for the kernels alone (src/CMakeLists.txt): elsewhere it only makes the build slower.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

# Settings of every target of ours, as one interface that the layers link.
add_library(mpishards_settings INTERFACE)
set(MPISHARDS_CXX_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wno-sign-conversion
  $<$<BOOL:${MPISHARDS_WARNINGS_AS_ERRORS}>:-Werror>
  # GCC 12 sees overlaps in plain string concatenation (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# What nvcc makes of a .cu file for the host is not pedantic.
target_compile_options(mpishards_settings INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${MPISHARDS_CXX_WARNINGS}>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>"
  "$<$<AND:$<BOOL:${MPISHARDS_WARNINGS_AS_ERRORS}>,$<COMPILE_LANGUAGE:CUDA>>:--Werror=all-warnings>")
# A result must not depend on which target fused what: products and sums are contracted only where the code says fma.
target_compile_options(mpishards_settings INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-ffp-contract=off;--fmad=false>")
if(MPISHARDS_SANITIZE)
  # Instrumented, GCC 12 takes the inside of std::regex for uninitialised.
  target_compile_options(mpishards_settings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_compile_options(mpishards_settings INTERFACE -fsanitize=${MPISHARDS_SANITIZE} -fno-omit-frame-pointer
                                                     -fno-sanitize-recover=all)
  target_link_options(mpishards_settings INTERFACE -fsanitize=${MPISHARDS_SANITIZE})
endif()
if(MPISHARDS_COVERAGE)
  target_compile_options(mpishards_settings INTERFACE --coverage -O0)
  target_link_options(mpishards_settings INTERFACE --coverage)
endif()
