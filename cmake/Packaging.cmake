# cmake --install, the exported package mpishards::core ... ::app, the manual pages, TGZ and DEB.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(MPISHARDS_LAYERS core comm io kernels merge rank serve app)
set(PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/mpishards")
set(SHARE_DIR "${CMAKE_INSTALL_DATADIR}/mpishards")

install(TARGETS mpishards RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(DIRECTORY jobs datasets DESTINATION ${SHARE_DIR} COMPONENT runtime
        USE_SOURCE_PERMISSIONS PATTERN "__pycache__" EXCLUDE)
install(DIRECTORY slurm DESTINATION ${SHARE_DIR} COMPONENT runtime USE_SOURCE_PERMISSIONS)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES packaging/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME mpishards COMPONENT runtime)

# One manual page for the program and one for each command, from what they say under --help.
find_program(HELP2MAN help2man)
if(HELP2MAN AND NOT MPISHARDS_SANITIZE AND NOT MPISHARDS_COVERAGE)
  set(MAN_DIR "${CMAKE_BINARY_DIR}/man")
  add_custom_command(OUTPUT "${MAN_DIR}/mpishards.1"
    COMMAND "${PROJECT_SOURCE_DIR}/packaging/make_man.sh" $<TARGET_FILE:mpishards> "${MAN_DIR}"
    DEPENDS mpishards packaging/make_man.sh VERBATIM COMMENT "Manual pages")
  add_custom_target(man ALL DEPENDS "${MAN_DIR}/mpishards.1")
  install(DIRECTORY "${MAN_DIR}/" DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime OPTIONAL
          FILES_MATCHING PATTERN "*.1")
endif()

# What programs link.
set_target_properties(mpishards_mpi PROPERTIES EXPORT_NAME mpi)
set_target_properties(mpishards_faiss PROPERTIES EXPORT_NAME faiss)
set(EXPORTED mpishards_mpi mpishards_faiss mpishards_proto)
foreach(LAYER ${MPISHARDS_LAYERS})
  list(APPEND EXPORTED mpishards_${LAYER})
endforeach()
if(TARGET mpishards_kernels_cuda)
  list(APPEND EXPORTED mpishards_kernels_cuda)
endif()
install(TARGETS ${EXPORTED} EXPORT mpishards ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mpishards COMPONENT dev
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh" PATTERN "*.inc")
install(DIRECTORY "${CMAKE_BINARY_DIR}/src/serve/proto/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mpishards COMPONENT dev
        FILES_MATCHING PATTERN "*.pb.h" PATTERN "CMakeFiles" EXCLUDE)
install(EXPORT mpishards NAMESPACE mpishards:: FILE mpishardsTargets.cmake DESTINATION ${PACKAGE_DIR} COMPONENT dev)
configure_package_config_file(cmake/mpishardsConfig.cmake.in "${CMAKE_BINARY_DIR}/mpishardsConfig.cmake"
                              INSTALL_DESTINATION ${PACKAGE_DIR})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/mpishardsConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/mpishardsConfig.cmake" "${CMAKE_BINARY_DIR}/mpishardsConfigVersion.cmake"
        DESTINATION ${PACKAGE_DIR} COMPONENT dev)

# One archive with everything; two Debian packages, mpishards and mpishards-dev.
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_PACKAGE_NAME mpishards)
set(CPACK_PACKAGE_VENDOR "mpishards developers")
set(CPACK_PACKAGE_CONTACT "mpishards developers <developers@mpishards.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime dev)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME mpishards)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS openmpi-bin)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS "slurm-client, dataset-fashion-mnist, librsvg2-bin, python3-h5py")
set(CPACK_DEBIAN_DEV_PACKAGE_NAME mpishards-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
string(CONCAT CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
  "libopenmpi-dev, libhdf5-openmpi-dev, libopenblas-dev, libxxhash-dev, libhwloc-dev, libspdlog-dev, "
  "libcxxopts-dev, libfaiss-dev, nlohmann-json3-dev, libgrpc++-dev, libprotobuf-dev, libcpp-httplib-dev, prometheus-cpp-dev, "
  "pkg-config")
include(CPack)
