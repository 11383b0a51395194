#!/usr/bin/env bash
# What each CUDA kernel takes of a multiprocessor, as ptxas reports it for every target: the table of docs/gpu.md.
# Needs nvcc, no device.
set -euo pipefail
cd "$(dirname "$0")/../.."
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)

# report TARGET: rows "kernel | registers | spilled bytes | shared memory".
report() {
  local source
  for source in src/kernels/cuda/*.cu; do
    "$nvcc" -ccbin "${CXX:-c++}" -std=c++20 -Isrc -O3 --expt-relaxed-constexpr --fmad=false \
      -gencode="arch=compute_$1,code=sm_$1" -Xptxas=-v -c "$source" -o /dev/null 2>&1
  done | c++filt | awk '
    function number(line, unit) { return match(line, "[0-9]+ " unit) ? substr(line, RSTART, RLENGTH) + 0 : 0 }
    /Compiling entry function/ {
      match($0, /[a-z0-9_]+_kernel(<\(mpishards::DType\)[0-9]+>)?/); kernel = substr($0, RSTART, RLENGTH)
    }
    /spill stores/ { spilled = number($0, "bytes spill stores") + number($0, "bytes spill loads") }
    /Used [0-9]+ registers/ {
      printf "| %s | %d | %d | %d |\n", kernel, number($0, "registers"), spilled, number($0, "bytes smem")
    }' | sed -e 's/(mpishards::DType)0/f32/; s/(mpishards::DType)1/f16/; s/(mpishards::DType)2/bf16/' \
      -e 's/(mpishards::DType)3/f64/; s/(mpishards::DType)4/u8/; s/(mpishards::DType)5/i8/' | sort
}

for target in 80 90a; do
  printf '\nsm_%s:\n\n| kernel | registers | spilled bytes | shared memory |\n|---|---|---|---|\n' "$target"
  report "$target"
done
