#!/usr/bin/env bash
# Stands on a worker's PATH as uv: the environment it makes is that of the tests, with $TEST_PYTHON
# as python and $TEST_MRE as mre.
set -euo pipefail

if [[ $1 == venv ]]; then
  folder=${*: -1}
  mkdir -p "$folder/bin"
  printf '#!/bin/sh\nexec %q "$@"\n' "$TEST_PYTHON" >"$folder/bin/python"
  printf '#!/bin/sh\nexec %s "$@"\n' "$TEST_MRE" >"$folder/bin/mre"
  chmod +x "$folder/bin/python" "$folder/bin/mre"
elif [[ "$1 $2" == "pip sync" ]]; then
  grep -q -- --hash= "${*: -1}" # the lock of the commit is there
fi
printf '%s\n' "$*" >>"$HOME/uv.log"
