# mpishards_layer(NAME ARROWS a b LIBRARIES x y)
# One library per src folder: all its *.cpp files, linked to the layers below it and to what it wraps.
# ARROWS are the folders that this one may include (DESIGN: the house).
function(mpishards_layer NAME)
  cmake_parse_arguments(ARG "" "" "ARROWS;LIBRARIES;PUBLIC_LIBRARIES" ${ARGN})
  file(GLOB_RECURSE SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${NAME}/*.cpp")
  list(FILTER SOURCES EXCLUDE REGEX "/app/main\\.cpp$|/kernels/cuda/")
  add_library(mpishards_${NAME} STATIC ${SOURCES})
  add_library(mpishards::${NAME} ALIAS mpishards_${NAME})
  set_target_properties(mpishards_${NAME} PROPERTIES EXPORT_NAME ${NAME} POSITION_INDEPENDENT_CODE ON)
  target_include_directories(mpishards_${NAME} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:include/mpishards>)
  target_link_libraries(mpishards_${NAME} PRIVATE $<BUILD_INTERFACE:mpishards_settings> ${ARG_LIBRARIES})
  foreach(BELOW ${ARG_ARROWS})
    target_link_libraries(mpishards_${NAME} PUBLIC mpishards::${BELOW})
  endforeach()
  target_link_libraries(mpishards_${NAME} PUBLIC ${ARG_PUBLIC_LIBRARIES})
endfunction()
