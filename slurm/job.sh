# Sourced by search.sbatch, serve.sbatch and array.sbatch: what a job does around its one step.
# shellcheck shell=bash

# Settings, from the environment or a file of sites/ (see sites/example.env):
#   MPISHARDS_PROGRAM    the program; default: build/release/mpishards of the submit folder, else mpishards on PATH
#   MPISHARDS_MODULES    modules to load, separated by blanks
#   MPISHARDS_SRUN_MPI   value of srun --mpi; default: pmix
#   MPISHARDS_MAX_REQUEUES  restarts after which the job stops instead; default: 100
requeue_exit_code=75

# One index of an array by name: its number may be that of the whole array.
this_job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || this_job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

: "${here:?the folder of this file, set by the script that sources it}"

find_program() {
  local built=$SLURM_SUBMIT_DIR/build/release/mpishards
  if [ -n "${MPISHARDS_PROGRAM:-}" ]; then echo "$MPISHARDS_PROGRAM"
  elif [ -x "$built" ]; then echo "$built"
  else command -v mpishards; fi
}

load_modules() {
  local name
  for name in ${MPISHARDS_MODULES:-}; do module load "$name"; done
}

# option_value NAME LETTER ARGUMENT...: the last value of --NAME or -LETTER among the arguments.
option_value() {
  local name=$1 letter=$2 value=
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      "--$name" | "-${letter:- }") value=${2:-}; [ $# -eq 1 ] || shift ;;
      "--$name="*) value=${1#*=} ;;
      "-${letter:- }"?*) value=${1#-"$letter"} ;;
    esac
    shift
  done
  echo "$value"
}

# output_of ARGUMENT...: the result file that this search will write: flag over environment over job file.
output_of() {
  local output job
  output=$(option_value output o "$@")
  [ -n "$output" ] || output=${MPISHARDS_OUTPUT:-}
  job=$(option_value job j "$@")
  if [ -z "$output" ] && [ -f "${job:-${MPISHARDS_JOB:-}}" ]; then
    output=$(sed -nE 's/^ *output *= *["'\'']([^"'\'']*)["'\''].*/\1/p' "${job:-$MPISHARDS_JOB}" | head -n 1)
  fi
  echo "${output:-mpishards-$SLURM_JOB_ID}"
}

# record OUTPUT COMMAND...: what ran and in which surroundings, beside the result, one folder a start of the job.
# Of the environment only what bears on the run is kept: a dump of all of it would publish tokens.
record() {
  local folder job
  folder=$1.slurm/$this_job.${SLURM_RESTART_COUNT:-0}
  shift
  if ! mkdir -p "$folder"; then echo "mpishards job: no record, cannot create $folder" >&2; return; fi
  printf '%q ' "$@" > "$folder/command"
  printf '\n' >> "$folder/command"
  job=$(option_value job j "$@")
  [ ! -f "$job" ] || cp "$job" "$folder/job.toml"
  "$program" version --json > "$folder/revision.json" || true
  scontrol show job "$this_job" > "$folder/slurm_job" || true
  env | grep -E '^(CUDA|HDF5|HWLOC|LD_LIBRARY_PATH|MPISHARDS|NCCL|OMP|OMPI|OPENBLAS|PATH|PMIX|SBATCH|SLURM|UCX)' |
    grep -v '^SLURM_JWT=' | sort > "$folder/environment"
  echo "${LOADEDMODULES:-none}" | tr ':' '\n' > "$folder/modules"
}

# From here on a signal asks for a checkpoint. It goes to the tasks as SIGUSR1, which srun hands on; SIGTERM srun would
# take for an order to end the step. Before the step runs there is nothing to save and the step is left out.
signals=0
asked_for="a checkpoint"
step=
step_code=0
last_signal=
on_signal() {
  signals=$((signals + 1))
  last_signal=$1
  echo "mpishards job: SIG$1, asking for $asked_for"
  [ -z "$step" ] || kill -USR1 "$step" || true
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

# run_step COMMAND...: the command on all tasks. Sets step_code.
# A task that ended for good, say by the kernel's out-of-memory killer, would leave the others waiting: they get 30 s to
# end as well. Ending them at the first non-zero code would cut short the orderly end of a checkpoint.
end_of_step=(--kill-on-bad-exit=0 --wait=30)
run_step() {
  local seen=-1
  if [ "$signals" -gt 0 ]; then step_code=$requeue_exit_code; return; fi
  # Since Slurm 22.05 a step no longer takes the job's cores per task by itself.
  srun --mpi="${MPISHARDS_SRUN_MPI:-pmix}" ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    "${end_of_step[@]}" "$here/bind_gpu.sh" "$@" &
  step=$!
  # wait returns early when a trap ran; then the step is still there.
  while [ "$seen" -ne "$signals" ]; do
    seen=$signals
    step_code=0
    wait "$step" || step_code=$?
  done
}

# left_a_checkpoint: the tasks said so, or our signal reached them before they listened to it.
left_a_checkpoint() {
  [ "$step_code" -eq "$requeue_exit_code" ] || { [ "$signals" -gt 0 ] && [ "$step_code" -eq $((128 + 10)) ]; }
}

# search_and_requeue OUTPUT ARGUMENT...: one search; a checkpoint (75) puts the job back into the queue.
search_and_requeue() {
  local output=$1
  shift
  program=$(find_program) || { echo "mpishards job: no program; set MPISHARDS_PROGRAM" >&2; exit 69; }
  load_modules
  record "$output" "$program" search "$@"
  run_step "$program" search "$@"
  if left_a_checkpoint; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "${MPISHARDS_MAX_REQUEUES:-100}" ]; then
      echo "mpishards job: ${SLURM_RESTART_COUNT} restarts and not done; submit again to continue" >&2
    else
      echo "mpishards job: checkpoint written, requeue of job $this_job"
      scontrol requeue "$this_job" || echo "mpishards job: not requeued; submit again to continue" >&2
    fi
  fi
  exit "$step_code"
}

# serve_and_restart DISCOVERY_FILE ARGUMENT...: a server, started again in the same job whenever it dies. SIGTERM drains
# it and ends the job; SIGUSR1, which comes before the time limit, drains it and puts the job back into the queue.
serve_and_restart() {
  local discovery=$1 pause=1 began
  shift
  asked_for="a drain"
  end_of_step=(--kill-on-bad-exit=1)  # a server without one of its ranks has no answers
  program=$(find_program) || { echo "mpishards job: no program; set MPISHARDS_PROGRAM" >&2; exit 69; }
  load_modules
  record "$discovery" "$program" serve "$@"
  while true; do
    began=$SECONDS
    MPISHARDS_DISCOVERY_FILE=$discovery run_step "$program" serve "$@"
    rm -f "$discovery"
    [ "$signals" -eq 0 ] || break
    case $step_code in 0 | 64 | 65 | 66 | 73 | 77 | 78) exit "$step_code" ;; esac
    [ $((SECONDS - began)) -lt 60 ] || pause=1
    echo "mpishards job: the server ended with exit code $step_code; starting it again in $pause s"
    sleep "$pause" || true
    [ "$signals" -eq 0 ] || break
    pause=$((pause < 15 ? pause * 2 : 30))
  done
  [ "$last_signal" = USR1 ] || exit 0
  echo "mpishards job: near its time limit, requeue of job $this_job"
  scontrol requeue "$this_job" || echo "mpishards job: not requeued; submit again to continue" >&2
}
