# core/version.hpp declares what this fills in: version, git revision, build type.
find_package(Git QUIET)
set(MPISHARDS_REVISION "unknown")
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --always --dirty --abbrev=12
                  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE MPISHARDS_REVISION
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE GIT_RESULT)
  if(NOT GIT_RESULT EQUAL 0)
    set(MPISHARDS_REVISION "unknown")
  endif()
endif()
