# tests/e2e/test_*.py drive the built program from outside, one CTest test a file: e2e.<name>.
# A file whose tests were all skipped counts as skipped (conftest.py ends with 77 then).
file(GLOB E2E_TESTS CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/test_*.py")
foreach(SCRIPT ${E2E_TESTS})
  get_filename_component(NAME ${SCRIPT} NAME_WE)
  string(REGEX REPLACE "^test_" "" NAME ${NAME})
  set(LABELS e2e)
  if(NAME STREQUAL "slurm")
    list(APPEND LABELS slurm)
  elseif(NAME MATCHES "^nightly")
    set(LABELS nightly)
  endif()
  add_test(NAME e2e.${NAME}
           COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider --rootdir "${CMAKE_CURRENT_LIST_DIR}" "${SCRIPT}"
           WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set(E2E_TOOLS "MPISHARDS=$<TARGET_FILE:mpishards>")
  if(MPISHARDS_BUILD_BENCH)
    list(APPEND E2E_TOOLS "MPISHARDS_LOAD_TOOL=$<TARGET_FILE:bench_serve>")
  endif()
  set_tests_properties(e2e.${NAME} PROPERTIES LABELS "${LABELS}" TIMEOUT 900 PROCESSORS 2 SKIP_RETURN_CODE 77
                       ENVIRONMENT "${E2E_TOOLS};PYTHONDONTWRITEBYTECODE=1")
endforeach()
# These wait more than they compute, or use one core: one may run beside another.
set_tests_properties(e2e.command_line e2e.crash_points e2e.kill_resume e2e.serve_life e2e.serve_milvus
                     e2e.serve_milvus_lite e2e.serve_soak e2e.slurm PROPERTIES PROCESSORS 1)
set_tests_properties(e2e.nightly_soak PROPERTIES TIMEOUT 2400)
