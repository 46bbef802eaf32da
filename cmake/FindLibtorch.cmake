# Finds libtorch and links libtorch_cpu and libc10 by path.
#
# The package's own CMake configuration is not used: that of the CUDA wheel stops where no CUDA toolkit
# is installed. Looked for in this order:
#   1. LIBTORCH_DIR        (-DLIBTORCH_DIR=..., the folder that holds include/ and lib/)
#   2. <source>/.venv      (where ./dev setup puts it)
#   3. the torch package of python3
# Sets Libtorch_FOUND, Libtorch_VERSION, Libtorch_DIRECTORY; defines Libtorch::Libtorch and, where the
# package has them, Libtorch::Cuda (libtorch_cuda, libc10_cuda) and Libtorch::Nccl (NCCL's header).

set(LIBTORCH_DIR "" CACHE PATH "Folder of a libtorch: holds include/ and lib/")

set(_libtorch_candidates ${LIBTORCH_DIR})
if(NOT LIBTORCH_DIR)
  file(GLOB _libtorch_venv ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(APPEND _libtorch_candidates ${_libtorch_venv})
  if(NOT _libtorch_venv)
    find_package(Python3 QUIET COMPONENTS Interpreter)
    if(Python3_FOUND)
      execute_process(COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE _libtorch_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      list(APPEND _libtorch_candidates ${_libtorch_python})
    endif()
  endif()
endif()

unset(Libtorch_DIRECTORY)
foreach(_candidate IN LISTS _libtorch_candidates)
  if(EXISTS ${_candidate}/include/ATen/ATen.h AND EXISTS ${_candidate}/lib/libtorch_cpu.so
     AND EXISTS ${_candidate}/lib/libc10.so)
    set(Libtorch_DIRECTORY ${_candidate})
    break()
  endif()
endforeach()

if(Libtorch_DIRECTORY)
  # The version header carries the numbers; wheels and archives both have it.
  set(_libtorch_version_header ${Libtorch_DIRECTORY}/include/torch/headeronly/version.h)
  if(NOT EXISTS ${_libtorch_version_header})
    set(_libtorch_version_header
      ${Libtorch_DIRECTORY}/include/torch/csrc/api/include/torch/version.h)
  endif()
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS ${_libtorch_version_header} _line
      REGEX "#define TORCH_VERSION_${_part} ")
    string(REGEX MATCH "[0-9]+" _number "${_line}")
    list(APPEND _libtorch_version ${_number})
  endforeach()
  string(REPLACE ";" "." Libtorch_VERSION "${_libtorch_version}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_DIRECTORY
  VERSION_VAR Libtorch_VERSION
  REASON_FAILURE_MESSAGE "run ./dev setup, or name a libtorch of 2.11 or later with -DLIBTORCH_DIR=...")

if(Libtorch_FOUND AND NOT TARGET Libtorch::Libtorch)
  add_library(Libtorch::Libtorch INTERFACE IMPORTED)
  set_target_properties(Libtorch::Libtorch PROPERTIES
    # After the system's folders: libtorch brings headers of its own fmt along.
    INTERFACE_COMPILE_OPTIONS
      "-idirafter${Libtorch_DIRECTORY}/include;-idirafter${Libtorch_DIRECTORY}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES "${Libtorch_DIRECTORY}/lib/libtorch_cpu.so;${Libtorch_DIRECTORY}/lib/libc10.so"
    # The CUDA wheel's libtorch_cpu names CUDA libraries that its own run path finds at run time.
    INTERFACE_LINK_OPTIONS "-Wl,--allow-shlib-undefined;-Wl,-rpath,${Libtorch_DIRECTORY}/lib")
endif()

if(Libtorch_FOUND AND NOT TARGET Libtorch::Cuda
   AND EXISTS ${Libtorch_DIRECTORY}/lib/libtorch_cuda.so)
  add_library(Libtorch::Cuda INTERFACE IMPORTED)
  set_target_properties(Libtorch::Cuda PROPERTIES
    # Its registrations make the device known: nothing need refer to it.
    INTERFACE_LINK_LIBRARIES "Libtorch::Libtorch;-Wl,--push-state,--no-as-needed;${Libtorch_DIRECTORY}/lib/libtorch_cuda.so;${Libtorch_DIRECTORY}/lib/libc10_cuda.so;-Wl,--pop-state")
  find_path(Libtorch_NCCL_INCLUDE nccl.h NO_DEFAULT_PATH
    PATHS ${Libtorch_DIRECTORY}/../nvidia/nccl/include ${Libtorch_DIRECTORY}/include /usr/include)
  mark_as_advanced(Libtorch_NCCL_INCLUDE)
  if(Libtorch_NCCL_INCLUDE)
    add_library(Libtorch::Nccl INTERFACE IMPORTED)
    # Before the system's, whose NCCL may be another than libtorch's: sizes of c10d's classes
    # depend on it.
    if(Libtorch_NCCL_INCLUDE STREQUAL "/usr/include")
      set(nccl_option "")
    else()
      set(nccl_option "-isystem${Libtorch_NCCL_INCLUDE}")
    endif()
    set_target_properties(Libtorch::Nccl PROPERTIES
      INTERFACE_LINK_LIBRARIES Libtorch::Cuda
      INTERFACE_COMPILE_OPTIONS "${nccl_option}")
  endif()
endif()
