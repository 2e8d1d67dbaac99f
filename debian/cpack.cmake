# Debian packages: `cpack -G DEB` in a build directory makes taskpool, libtaskpool-dev and, where the Python package is built,
# python3-taskpool.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME taskpool)
set(CPACK_PACKAGE_VENDOR "taskpool")
set(CPACK_PACKAGE_CONTACT "taskpool maintainers <maintainers@taskpool.example>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_COMPONENTS_ALL taskpool dev)
if(TASKPOOL_PYTHON_VERSION)
  list(APPEND CPACK_COMPONENTS_ALL python)
endif()
set(CPACK_DEBIAN_TASKPOOL_PACKAGE_NAME taskpool)
set(CPACK_DEBIAN_TASKPOOL_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_TASKPOOL_PACKAGE_RECOMMENDS "systemd")
set(CPACK_COMPONENT_TASKPOOL_DESCRIPTION "worker pools and shared objects for every program on a host
A daemon that keeps worker processes warm, runs functions and commands that
programs send over a Unix socket, and keeps a store of shared objects; with a
command line and units for systemd.")
set(CPACK_DEBIAN_TASKPOOL_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_LIST_DIR}/postinst;${CMAKE_CURRENT_LIST_DIR}/prerm;${CMAKE_CURRENT_LIST_DIR}/postrm;${CMAKE_CURRENT_LIST_DIR}/conffiles")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libtaskpool-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "nlohmann-json3-dev, libboost1.81-dev")
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
set(CPACK_COMPONENT_DEV_DESCRIPTION "C++ library and module headers of taskpool
The client library, the headers that modules of tasks are written against, and
their CMake package and pkg-config file.")

set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-taskpool)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
# The extension is for one minor version of the interpreter.
string(REGEX MATCH "^([0-9]+)\\.([0-9]+)" python ${TASKPOOL_PYTHON_VERSION}.0)
math(EXPR python_next "${CMAKE_MATCH_2} + 1")
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS
  "python3 (>= ${python}), python3 (<< ${CMAKE_MATCH_1}.${python_next}), taskpool (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PYTHON_PACKAGE_SUGGESTS "python3-cloudpickle, python3-joblib, python3-numpy")
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_LIST_DIR}/python/postinst;${CMAKE_CURRENT_LIST_DIR}/python/prerm")
set(CPACK_COMPONENT_PYTHON_DESCRIPTION "multiprocessing on the workers of a daemon
Python's multiprocessing (Pool, Process, Manager, Queue, Pipe, locks) on the
warm workers and the shared store of taskpoold, and the runtime with which the
daemon runs Python functions.")

# What only a package has: its licence, what changed in it, and the configuration file, which is an absolute path.
find_program(GZIP gzip REQUIRED)
set(changelog ${PROJECT_BINARY_DIR}/debian/changelog.gz)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/debian)
add_custom_command(OUTPUT ${changelog}
  COMMAND ${GZIP} -9nc ${PROJECT_SOURCE_DIR}/debian/changelog > ${changelog}
  DEPENDS ${PROJECT_SOURCE_DIR}/debian/changelog)
add_custom_target(debian_changelog ALL DEPENDS ${changelog})
foreach(component ${CPACK_COMPONENTS_ALL})
  string(TOUPPER ${component} upper)
  set(doc share/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  install(FILES debian/copyright ${changelog} DESTINATION ${doc} COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
install(FILES daemon/taskpool.example.toml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/taskpool RENAME taskpool.toml
  COMPONENT taskpool EXCLUDE_FROM_ALL)
