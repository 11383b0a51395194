#!/usr/bin/env bash
# Everything of the CUDA engine that needs a device: its tests, the same under compute-sanitizer, and its benchmark
# beside the device's limit and its rivals. Prints one table last; docs/gpu.md keeps it.
#
#   tests/gpu/run.sh                 on a machine with a device, a driver and cuBLASLt; neither MPI nor HDF5
#   tests/gpu/run.sh --bundle FILE   writes FILE, a tar archive to carry to such a machine: unpack it, then run.sh there
#   tests/gpu/run.sh --quick         small cases, memcheck only
#
# Logs go to $OUT, default build/gpu, or out/ beside the script of a bundle.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/release
tools=(tests/kernels_flat_cuda_test bench/cuda_flat)

fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

# The programs are built with the project, or lie beside this script in a bundle.
find_programs() {
  if [ -x "$here/cuda_flat" ]; then programs=$here; return; fi
  (cd "$root" && cmake --preset cpu-release --log-level=WARNING) >/dev/null
  cmake --build "$build" -j "$(nproc)" --target kernels_flat_cuda_test bench_cuda_flat >/dev/null || fail "the build failed"
  programs=$(mktemp -d)
  trap 'rm -rf "$programs"' EXIT
  for tool in "${tools[@]}"; do ln -s "$build/$tool" "$programs/"; done
}

write_bundle() {
  find_programs
  revision=$(git -C "$root" describe --always --dirty)
  cp "$here/run.sh" "$here/rivals.py" "$programs/"
  printf '%s\n' "$revision" >"$programs/revision"
  tar -C "$programs" --dereference -czf "$1" run.sh rivals.py revision kernels_flat_cuda_test cuda_flat
  printf 'bundle of %s: %s\n' "$revision" "$1"
}

# Where the loader does not find cuBLASLt: the toolkit's folders, and those of Python's packages.
find_cublas() {
  local folder
  for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib $(python3 -c \
    'import glob, nvidia; print(*(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2>/dev/null); do
    [ -e "$folder/libcublasLt.so.13" ] || continue
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    return
  done
}

# sanitize TOOL: the tests under one tool of compute-sanitizer; the larger ones are left out, as it is slow.
sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer $1: not run, it is not installed"; return; }
  if compute-sanitizer --tool "$1" --error-exitcode 9 "$programs/kernels_flat_cuda_test" \
    --gtest_filter="*ties*:*dtype*:*zero*:*tiles*:*fused*" >"$out/$1.log" 2>&1; then echo "compute-sanitizer $1: clean"
  else echo "compute-sanitizer $1: FAILED, see $out/$1.log"; failed=yes; fi
}

quick=
case ${1:-} in
  --bundle) write_bundle "${2:?--bundle needs a file}"; exit ;;
  --quick) quick=yes ;;
  "") ;;
  *) fail "unknown argument '$1'; known: --bundle FILE, --quick" ;;
esac

command -v nvidia-smi >/dev/null || fail "no NVIDIA driver on this machine; carry a bundle to one that has it"
PATH=$PATH:/usr/local/cuda/bin
find_programs
find_cublas
if [ "$programs" = "$here" ]; then out=${OUT:-$here/out}; else out=${OUT:-$root/build/gpu}; fi
mkdir -p "$out"
failed=
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/device.txt"
cat "$programs/revision" 2>/dev/null || git -C "$root" describe --always --dirty

echo "== tests"
"$programs/kernels_flat_cuda_test" >"$out/tests.log" 2>&1 || { failed=yes; grep -E 'FAILED|Failure' "$out/tests.log" | head -n 40 || true; }
grep -E '^\[ +(PASSED|SKIPPED) ' "$out/tests.log" | head -n 1 || true

echo "== sanitizer"
for tool in memcheck $([ -n "$quick" ] || echo racecheck initcheck synccheck); do sanitize "$tool"; done

echo "== benchmark"
"$programs/cuda_flat" --cases "$([ -n "$quick" ] && echo small || echo all)" --json "$out/cuda_flat.jsonl" || failed=yes
if python3 -c 'import torch' 2>/dev/null; then
  python3 "$([ -f "$programs/rivals.py" ] && echo "$programs" || echo "$here")/rivals.py" "$out/cuda_flat.jsonl" || failed=yes
else
  echo "rivals: no torch here"
fi
[ -z "$failed" ] || fail "something failed, see above"
