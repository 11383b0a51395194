# The CUDA engine's tests: on a device where the toolkit is (skipped without a device), and with its kernels run on the
# host, thread by thread, so that what they compute is tested everywhere.
set(CUDA_TEST "${CMAKE_CURRENT_SOURCE_DIR}/kernels/flat_cuda_test.cpp")

if(MPISHARDS_HAVE_CUDA)
  add_executable(kernels_flat_cuda_test ${CUDA_TEST})
  set_target_properties(kernels_flat_cuda_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_include_directories(kernels_flat_cuda_test PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_libraries(kernels_flat_cuda_test PRIVATE mpishards::kernels mpishards_settings GTest::gtest GTest::gtest_main)
  # For bare machines, see gpu/run.sh.
  target_link_options(kernels_flat_cuda_test PRIVATE -static-libstdc++ -static-libgcc -Wl,--as-needed)
  add_test(NAME kernels.flat_cuda COMMAND kernels_flat_cuda_test)
  set_tests_properties(kernels.flat_cuda PROPERTIES LABELS gpu TIMEOUT 300 SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endif()

# The sanitizers do not follow fibers from stack to stack.
if(NOT MPISHARDS_SANITIZE)
  set(CUDA_SOURCES "${PROJECT_SOURCE_DIR}/src/kernels/cuda")
  set(CUDA_KERNELS "${CUDA_SOURCES}/flat_kernels.cu" "${CUDA_SOURCES}/fused_screen.cu")
  set_source_files_properties(${CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
  add_executable(kernels_flat_cuda_on_host_test ${CUDA_TEST} kernels/on_host/fibers.cpp kernels/on_host/device.cpp
    "${CUDA_SOURCES}/flat.cpp" ${CUDA_KERNELS})
  set_target_properties(kernels_flat_cuda_on_host_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  # on_host stands before src: its launch.cuh takes the place of the one that needs CUDA.
  target_include_directories(kernels_flat_cuda_on_host_test BEFORE PRIVATE
    "${CMAKE_CURRENT_SOURCE_DIR}/kernels/on_host" "${CMAKE_CURRENT_SOURCE_DIR}/kernels" "${CMAKE_CURRENT_SOURCE_DIR}")
  target_compile_options(kernels_flat_cuda_on_host_test PRIVATE -Wno-unknown-pragmas)  # of nvcc
  target_compile_definitions(kernels_flat_cuda_on_host_test PRIVATE MPISHARDS_KERNELS_ON_HOST)
  target_link_libraries(kernels_flat_cuda_on_host_test PRIVATE mpishards::kernels mpishards_settings
    GTest::gtest GTest::gtest_main)
  add_test(NAME kernels.flat_cuda_on_host COMMAND kernels_flat_cuda_on_host_test)
  set_tests_properties(kernels.flat_cuda_on_host PROPERTIES LABELS unit TIMEOUT 300)
endif()
