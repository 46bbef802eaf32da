#!/usr/bin/env bash
# Times llama.cpp on the shapes of `kvasir bench`: same machine, threads, bf16 weights; flash attention (its fastest here).
# usage: bench/peers/llama_cpp/run.sh [16m|1b]...   (builds on first use, under build/peers)
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
  [ "$shape" = 1b ] && lengths=512,2048
  "$work/llama.cpp/bin/llama-bench" -m "$model" -t "$threads" -p "$lengths" -n 64 -fa 1 -r 3
done
