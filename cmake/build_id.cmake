# Writes OUTPUT, the definition of taskpool::build_id(), from the sources below SOURCE. Run at each build; touches OUTPUT only
# when the hash has changed.
file(GLOB_RECURSE sources LIST_DIRECTORIES false
  ${SOURCE}/proto/*.[ch]pp ${SOURCE}/proto/*.h ${SOURCE}/daemon/*.[ch]pp ${SOURCE}/client/cpp/*.[ch]pp)
list(SORT sources)
set(hashes "")
foreach(source IN LISTS sources)
  file(SHA256 ${source} hash)
  string(APPEND hashes ${hash})
endforeach()
string(SHA256 build ${hashes})
string(SUBSTRING ${build} 0 16 build)
set(text "#include \"proto/build_id.hpp\"\n\nstd::string_view taskpool::build_id() { return \"${build}\"; }\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT text STREQUAL "${before}")
  file(WRITE ${OUTPUT} "${text}")
endif()
