include_guard(GLOBAL)

# CUDA, where nvcc is found. Sets KVASIR_HAS_CUDA. The runtime is linked statically, so that a program
# built with CUDA starts on a machine without a driver.
set(KVASIR_HAS_CUDA FALSE)
if(KVASIR_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # each file's own, below
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know nvcc 13's
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    # By path, as CMake links the runtime only where a target has CUDA sources of its own.
    set(CMAKE_CUDA_RUNTIME_LIBRARY None)
    find_library(KVASIR_CUDART cudart_static REQUIRED HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES}
      ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}/../lib)
    if(CCACHE)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
    endif()
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
      message(FATAL_ERROR "expected nvcc 12.4 or later, found ${CMAKE_CUDA_COMPILER_VERSION}; "
        "update it, or build without with -DKVASIR_CUDA=OFF")
    endif()
    set(KVASIR_HAS_CUDA TRUE)
  elseif(NOT KVASIR_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "KVASIR_CUDA is on, but no nvcc was found; put it on PATH or name it with "
      "-DCMAKE_CUDA_COMPILER=...")
  endif()
endif()

# kvasir_cuda_room(<name> [DEPENDS <rooms and libraries>...])
#
# The static library kvasir_<name>_cuda from every .cu and every *_cuda.cpp under src/<name>, and the
# tests of kvasir_gpu_tests().
function(kvasir_cuda_room name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cu
    ${CMAKE_SOURCE_DIR}/src/${name}/*_cuda.cpp)
  add_library(kvasir_${name}_cuda STATIC ${sources})
  kvasir_cuda_options(kvasir_${name}_cuda ${sources})
  target_include_directories(kvasir_${name}_cuda PUBLIC ${CMAKE_SOURCE_DIR}/src
    ${CMAKE_SOURCE_DIR}/include ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(kvasir_${name}_cuda PUBLIC ${ARG_DEPENDS} ${KVASIR_CUDART} Threads::Threads
    ${CMAKE_DL_LIBS} rt)
  kvasir_gpu_tests(${name} kvasir_${name}_cuda)
endfunction()

# The tests of a room that need a GPU: the program <name>_gpu_tests from every *_gpu_test.cpp and .cu
# under tests/<name>. They have the label `gpu`, and skip where there is none.
function(kvasir_gpu_tests name library)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_gpu_test.cpp)
  file(GLOB_RECURSE test_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*.cu)
  if(NOT KVASIR_TESTS OR NOT tests)
    return()
  endif()
  add_executable(${name}_gpu_tests ${tests} ${test_kernels})
  kvasir_cuda_options(${name}_gpu_tests ${test_kernels})
  target_include_directories(${name}_gpu_tests PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name}_gpu_tests PRIVATE ${library} GTest::gtest_main)
  target_compile_definitions(${name}_gpu_tests PRIVATE KVASIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  include(GoogleTest)
  gtest_discover_tests(${name}_gpu_tests TEST_PREFIX ${name}: DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS gpu TIMEOUT 600 RESOURCE_LOCK gpu)
endfunction()

# How a target's CUDA sources are compiled: a file whose name ends in _sm90 for Hopper alone, every
# other one for Hopper and, as PTX, for whatever runs code of compute capability 8.0. -lineinfo costs
# nothing at run time and lets profilers and sanitisers name lines.
function(kvasir_cuda_options target)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-lineinfo;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra>")
  foreach(source IN LISTS ARGN)
    if(source MATCHES "_sm90\\.cu$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-gencode=arch=compute_90a,code=sm_90a")
    elseif(source MATCHES "\\.cu$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-gencode=arch=compute_90a,code=sm_90a;-gencode=arch=compute_80,code=compute_80")
    endif()
  endforeach()
endfunction()
