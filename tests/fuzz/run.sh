#!/usr/bin/env bash
# run.sh SECONDS [TARGET...]: runs every fuzz target (or those named) that long, two at a time, on
# the kept corpus. New inputs stay in the build folder. Fails on a crash, a leak, a timeout or an
# input that needs too much memory, and says where that input is.
set -uo pipefail
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build/fuzz
targets=("$@")
[ ${#targets[@]} -eq 0 ] && targets=(safetensors tokenizer_json chat_template model_config head_config shard recipe session_file prefill_files outcome)

fuzz_one() {
  local target=$1 found=$build/fuzz-corpus/$1 log=$build/fuzz-$1.log seeds=("$here/corpus/$1")
  [ "$target" = chat_template ] && seeds+=("$here/../text/data/templates")
  mkdir -p "$found"
  if ! "$build/bin/${target}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -max_len=16384 -dict="$here/$target.dict" -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/$target-" "$found" "${seeds[@]}" >"$log" 2>&1; then
    echo "fuzz: $target failed; the end of $log:" >&2
    tail -n 40 "$log" >&2
    return 1
  fi
  local executions inputs
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  inputs=$(grep -oE 'corp: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)
  printf 'fuzz: %-15s %9s executions, corpus of %s inputs\n' "$target" "$executions" "$inputs"
}

status=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  pids=()
  for target in "${targets[@]:i:2}"; do
    fuzz_one "$target" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
done
exit $status
