#!/usr/bin/env bash
# Searches a base in independent pieces and joins them:
#
#   slurm/submit_array.sh [--dry-run] PARTS RESULT SEARCH-ARGUMENTS...
#   slurm/submit_array.sh 8 result.h5 --base emb.h5 --queries q.h5 -k 100
#
# Two submissions: an array of PARTS searches, and one merge that starts when all of them succeeded. Options for both
# come by Slurm's own variables (SBATCH_PARTITION, SBATCH_ACCOUNT, ...), see sites/example.env. --dry-run prints the two
# command lines instead. Prints the two job ids.
set -euo pipefail

submit=sbatch
if [ "${1:-}" = --dry-run ]; then
  submit=print_command
  shift
fi
if [ $# -lt 3 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 64
fi
parts=$1
result=$2
shift 2
case $parts in '' | *[!0-9]* | 0) echo "submit_array.sh: '$parts' is no number of parts" >&2; exit 64 ;; esac

print_command() { printf 'sbatch' >&2; printf ' %q' "$@" >&2; printf '\n' >&2; echo JOB_ID; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suffix=
case ${result##*/} in *.*) suffix=.${result##*.} ;; esac
stem=${result%"$suffix"}
export MPISHARDS_PART_STEM=$stem MPISHARDS_PART_SUFFIX=$suffix

pieces=()
for ((part = 0; part < parts; ++part)); do pieces+=("$stem.part-$part-of-$parts$suffix"); done

array=$($submit --parsable --array="0-$((parts - 1))" "$here/array.sbatch" "$@")
array=${array%%;*}
merge=$($submit --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes "$here/merge.sbatch" --output "$result" "${pieces[@]}")
echo "array $array, merge ${merge%%;*}"
