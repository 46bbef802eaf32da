include_guard(GLOBAL)

# libFuzzer targets. Including this file instruments everything that follows for coverage; only clang
# has the engine.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "KVASIR_FUZZERS needs clang, found ${CMAKE_CXX_COMPILER_ID}; use the preset `fuzz`")
endif()
add_compile_options(-fsanitize=fuzzer-no-link)
add_compile_options(-Wno-deprecated-declarations)  # libstdc++ 12 uses its own in std::stable_sort

# kvasir_fuzzer(<name> <room>...): the program <name>_fuzz from <name>_fuzz.cpp.
function(kvasir_fuzzer name)
  add_executable(${name}_fuzz ${name}_fuzz.cpp)
  list(TRANSFORM ARGN PREPEND kvasir_)
  target_link_libraries(${name}_fuzz PRIVATE ${ARGN})
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()
