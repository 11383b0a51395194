#!/usr/bin/env bash
# bind_gpu.sh COMMAND...: gives each rank of a node one GPU, by its local rank modulo the visible devices, and runs the
# command. Without a GPU the command runs unchanged.
set -euo pipefail

local_rank=${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}}

devices=()
if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
  IFS=, read -r -a devices <<< "$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi >/dev/null; then
  mapfile -t devices < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)
fi
if [ ${#devices[@]} -gt 0 ]; then
  export CUDA_VISIBLE_DEVICES=${devices[local_rank % ${#devices[@]}]}
fi
exec "$@"
