#!/usr/bin/env bash
# Times llama.cpp and kvasir on the same shapes, machine and threads, one after the other: bf16 weights, random
# values; llama.cpp with flash attention (its fastest here).
# usage: bench/peers/llama_cpp/run.sh [16m|1b]...   (builds llama.cpp on first use, under build/peers)
# Writes bench/records/peer-llama.cpp-SHAPE.json.
set -euo pipefail
cd "$(dirname "$0")/../../.."
work=build/peers
threads=$(nproc)
mkdir -p "$work"

if [ ! -x "$work/llama.cpp/bin/llama-bench" ]; then
  [ -d "$work/venv" ] || { python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q numpy pyyaml requests tqdm; }
  # The source package of llama-cpp-python carries llama.cpp whole.
  "$work/venv/bin/pip" download -q --no-deps --no-binary llama-cpp-python -d "$work" llama-cpp-python==0.3.36
  tar xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
  cmake -S "$work"/llama_cpp_python-*/vendor/llama.cpp -B "$work/llama.cpp" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF >/dev/null
  ninja -C "$work/llama.cpp" llama-bench
fi

for shape in "${@:-16m}"; do
  model=$work/$shape.gguf
  if [ ! -e "$model" ]; then
    PYTHONPATH=$(echo "$work"/llama_cpp_python-*/vendor/llama.cpp/gguf-py) \
      "$work/venv/bin/python" bench/peers/llama_cpp/write_gguf.py "$shape" "$model"
  fi
  lengths=512,4096,16384
  ours=(--model models/bootstrap-16m)
  if [ "$shape" = 1b ]; then
    lengths=512,2048
    ours=(--shape 1b)
  fi
  # Alternately, so that both see the same neighbours.
  "$work/llama.cpp/bin/llama-bench" -m "$model" -t "$threads" -p "$lengths" -n 64 -fa 1 -r 3 -o json >"$work/peer.json"
  build/release/bin/kvasir bench prefill "${ours[@]}" --lengths "$lengths" --json >"$work/prefill.json"
  build/release/bin/kvasir bench decode "${ours[@]}" --lengths 128 --json >"$work/decode.json"
  python3 bench/peers/llama_cpp/compare.py "$shape" "$work/peer.json" "$work/prefill.json" "$work/decode.json" \
    "bench/records/peer-llama.cpp-$shape.json"
done
