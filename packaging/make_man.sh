#!/usr/bin/env bash
# make_man.sh PROGRAM FOLDER: manual pages of the program and of each of its commands, from their --help.
set -euo pipefail
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

program=$1
folder=$2
version=$("$program" --version | awk '{ print $2 }')
mkdir -p "$folder/commands"

# page NAME SUMMARY CALL: help2man takes the page's name from the file that it runs, hence a small file of that name.
page() {
  local wrapper=$folder/commands/$1
  printf '#!/bin/sh\nexec %s "$@"\n' "$3" > "$wrapper"
  chmod +x "$wrapper"
  help2man --no-info --no-discard-stderr --version-string="$version" --name="$2" --source="mpishards $version" \
    --output="$folder/$1.1" "$wrapper"
}

"$program" --help | sed -nE 's/^  ([a-z]+)  +(.*)$/\1\t\2/p' | while IFS=$'\t' read -r command summary; do
  page "mpishards-$command" "$summary" "'$program' $command"
done
# Last: this page is the one that the build waits for.
page mpishards "exact nearest-neighbour search for MPI clusters" "'$program'"
