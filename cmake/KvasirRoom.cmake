include_guard(GLOBAL)

# kvasir_room(<name> [DEPENDS <rooms and libraries>...])
#
# The static library kvasir_<name> from every .cpp under src/<name>, and, from every *_test.cpp under
# tests/<name>, the test program <name>_tests. A file whose name ends in _avx2, _avx512, _avx512bf16 or
# _amx is compiled for that instruction set; nothing else is.
function(kvasir_room name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "_(main|cuda)\\.cpp$")
  add_library(kvasir_${name} STATIC ${sources})
  target_include_directories(kvasir_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(kvasir_${name} PUBLIC ${ARG_DEPENDS})
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # Its own _mm512_undefined_*() trips these.
    list(APPEND avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  foreach(source IN LISTS sources)
    if(source MATCHES "_amx\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "${avx512};-mavx512bf16;-mamx-tile;-mamx-bf16")
    elseif(source MATCHES "_avx512bf16\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${avx512};-mavx512bf16")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${avx512}")
    elseif(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${avx2}")
    endif()
  endforeach()
  kvasir_room_tests(${name})
endfunction()

# The tests of a room: gtest cases, registered one by one. Labels by suite name: `oracle` where it holds
# "Oracle" (needs the oracle environment), `full` where it holds "Full" (long), `fast` otherwise.
function(kvasir_room_tests name)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.cpp)
  list(FILTER tests EXCLUDE REGEX "_gpu_test\\.cpp$")
  if(NOT KVASIR_TESTS OR NOT tests)
    return()
  endif()
  add_executable(${name}_tests ${tests})
  target_include_directories(${name}_tests PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name}_tests PRIVATE kvasir_${name} GTest::gtest_main)
  target_compile_definitions(${name}_tests PRIVATE KVASIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  include(GoogleTest)
  set(filter_fast "-*Full*.*:*Oracle*.*")
  set(filter_full "*Full*.*")
  set(filter_oracle "*Oracle*.*")
  set(timeout_fast 300)
  set(timeout_full 1200)
  set(timeout_oracle 600)
  foreach(label fast full oracle)
    gtest_discover_tests(${name}_tests TEST_FILTER "${filter_${label}}" TEST_PREFIX ${name}:
      TEST_LIST ${name}_${label}_tests DISCOVERY_TIMEOUT 120
      PROPERTIES LABELS ${label} TIMEOUT ${timeout_${label}})
  endforeach()
endfunction()
