# Every header compiles alone, and a second time in the same file: what it uses it includes, and its guard works.
file(GLOB_RECURSE HEADERS CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/src/*.hpp")
list(FILTER HEADERS EXCLUDE REGEX "\\.inl\\.hpp$")  # bodies for several including files, see their first lines
if(NOT MPISHARDS_HAVE_CUDA)
  list(FILTER HEADERS EXCLUDE REGEX "^kernels/cuda/")
endif()
set(HEADER_SOURCES)
foreach(HEADER ${HEADERS})
  string(REGEX REPLACE "[/.]" "_" NAME "${HEADER}")
  set(SOURCE "${CMAKE_CURRENT_BINARY_DIR}/headers/${NAME}.cpp")
  file(CONFIGURE OUTPUT "${SOURCE}" CONTENT "#include \"${HEADER}\"\n#include \"${HEADER}\"\n")
  list(APPEND HEADER_SOURCES "${SOURCE}")
endforeach()
add_library(mpishards_headers OBJECT ${HEADER_SOURCES})
target_compile_options(mpishards_headers PRIVATE -O0)
target_include_directories(mpishards_headers SYSTEM PRIVATE ${TOMLPLUSPLUS_INCLUDE_DIR})
target_link_libraries(mpishards_headers PRIVATE mpishards::app mpishards::proto mpishards_settings cxxopts::cxxopts
  nlohmann_json::nlohmann_json spdlog::spdlog hdf5::hdf5 PkgConfig::XXHASH PkgConfig::HWLOC PkgConfig::OPENBLAS PkgConfig::HTTPLIB)
