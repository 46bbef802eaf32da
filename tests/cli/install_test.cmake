# Installs the build into a folder of its own, builds examples/ there as a user's project would, and
# runs everything that was installed.
#   cmake -DBUILD=... -DSOURCE=... -DWORK=... -P install_test.cmake
cmake_minimum_required(VERSION 3.25)

# Runs a command; its standard output in `output`.
function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text ERROR_VARIABLE errors RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGN}\ngave ${code}:\n${text}${errors}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

function(expect text pattern)
  if(NOT text MATCHES "${pattern}")
    message(FATAL_ERROR "expected ${pattern}, found:\n${text}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
set(prefix ${WORK}/prefix)
set(model ${SOURCE}/models/bootstrap-16m)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

run(${CMAKE_COMMAND} -S ${SOURCE}/examples -B ${WORK}/examples -G Ninja -DCMAKE_BUILD_TYPE=Release
  -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK}/examples)
file(READ ${SOURCE}/examples/frankenstein.txt book LIMIT 3000)
file(WRITE ${WORK}/book.txt "${book}")
run(${WORK}/examples/ask_a_book ${model} ${WORK}/book.txt "Who are you?" "Where?")
expect("${output}" "\\[0 of [0-9]+ prompt tokens were there already\\]\n")
expect("${output}" "\\[[1-9][0-9]+ of [0-9]+ prompt tokens were there already\\]\n$")

run(${prefix}/bin/kvasir run --model ${model} --prompt "Hi" --max-tokens 4 --json)
expect("${output}" "^{\"text\":")
run(${prefix}/bin/kvasir completion bash)
file(READ ${prefix}/share/bash-completion/completions/kvasir shipped)
if(NOT output STREQUAL shipped)
  message(FATAL_ERROR "the installed completion is not what `kvasir completion bash` prints")
endif()
if(EXISTS ${prefix}/bin/kvasir-bench)
  run(${prefix}/bin/kvasir bench load --model ${model} --repetitions 1 --json)
  expect("${output}" "\"benchmark\"")
endif()
file(REMOVE_RECURSE ${WORK})
