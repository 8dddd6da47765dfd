#!/usr/bin/env bash
# What `tpu_scripts/pod` runs on each worker of a slice of TPU VMs: worker.sh VERB [WORD ...]
#
#   setup REPOSITORY COMMIT   the code of that commit, and exactly requirements.lock
#   preflight WORD ...        what `mre doctor` finds; all workers at the same time
#   launch WORD ...           start the command, detached, as attempt $ATTEMPT
#   poll                      tell how it goes, in a line that starts with "mre-pod"
#   stop SECONDS              SIGTERM, and after so long SIGKILL
#
# $LOGS, $ATTEMPT, $WORKERS, $HOSTS (of a slice), $ALONE (chips of a host, if workers share
# nothing) and $SECRET come with the call. It lies in a folder of its own, with all that it keeps.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
code=$here/code
venv=$code/.venv
uv_version=0.13.9
python_version=3.12
upload_seconds=${UPLOAD_SECONDS:-60}
export PATH=$HOME/.local/bin:$PATH

main() {
  local verb=${1:-}
  case $verb in
  setup | preflight | launch | run | poll | stop) shift ;;
  *) fail "no verb '$verb'" ;;
  esac
  "$verb" "$@"
}

setup() {
  local repository=$1 commit=$2
  if [[ -f $venv/installed && $(<"$venv/installed") == "$commit" ]]; then
    tell "setup=there"
    return
  fi
  command -v uv >/dev/null || python3 -m pip install --quiet --user "uv==$uv_version"
  [[ -d $code/.git ]] || git init --quiet "$code"
  git -C "$code" fetch --quiet --depth 1 "$repository" "$commit"
  git -C "$code" checkout --quiet --force --detach FETCH_HEAD
  rm -f "$venv/installed"
  uv venv --quiet --allow-existing --python "$python_version" "$venv"
  uv pip sync --quiet --python "$venv" --require-hashes "$code/tpu_scripts/requirements.lock"
  uv pip install --quiet --python "$venv" --no-deps --no-build-isolation --editable "$code"
  printf '%s\n' "$commit" >"$venv/installed"
  tell "setup=done"
}

# One of the workers prints what all have found; each tells how bad it is.
preflight() {
  local exit_code=0
  copy "$venv/installed" "$LOGS/preflight/worker-$(number).commit"
  free_worker
  cd "$code"
  "$venv/bin/mre" doctor "$@" || exit_code=$?
  tell "exit_code=$exit_code"
}

launch() {
  local folder=$here/$ATTEMPT
  [[ ! -s $folder/pid ]] || return 0 # by a call whose answer was lost
  ! alive || fail "attempt $(<"$here/attempt") is still there: stop it first"
  mkdir -p "$folder"
  printf '%s\n' "$ATTEMPT" >"$here/attempt"
  # A session of its own outlives ssh; its number is that of the group to kill.
  setsid bash "$here/worker.sh" run "$@" </dev/null >"$folder/log" 2>&1 &
  printf '%s\n' "$!" >"$folder/pid"
}

run() {
  local folder=$here/$ATTEMPT index child='' uploads exit_code=0
  index=$(number)
  if ! read_secrets; then
    end 78
    return
  fi
  free_worker
  cd "$code"
  local words=("${@//\{worker\}/$index}")
  words[0]=$venv/bin/${words[0]}
  trap '[[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
  "${words[@]}" &
  child=$!
  while sleep "$upload_seconds"; do upload log; done &
  uploads=$!
  # A signal ends `wait`, not the child.
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  wait "$child" || exit_code=$?
  kill "$uploads" 2>/dev/null || true
  end "$exit_code"
}

end() {
  local folder=$here/$ATTEMPT
  printf '{"attempt": "%s", "worker": %d, "exit_code": %d}\n' \
    "$ATTEMPT" "$(number)" "$1" >"$folder/end.json"
  upload log
  upload end.json
  printf '%s\n' "$1" >"$folder/exit_code.new"
  mv "$folder/exit_code.new" "$folder/exit_code"
}

poll() {
  local newest file
  newest=$(cat "$here/attempt" 2>/dev/null || true)
  file=$here/$newest/exit_code
  if [[ -z $newest ]]; then
    tell "state=none"
  elif alive; then
    tell "state=running attempt=$newest"
  elif [[ -f $file ]]; then
    tell "state=ended attempt=$newest exit_code=$(<"$file")"
  else
    tell "state=ended attempt=$newest exit_code=137"
  fi
}

stop() {
  local grace=$1 second process
  if alive; then
    process=$(<"$here/$(<"$here/attempt")/pid")
    kill -TERM "$process"
    for ((second = 0; second < grace; second++)); do
      alive || break
      sleep 1
    done
    ! alive || kill -KILL -- "-$process"
  fi
  poll
}

# Whether the newest attempt's process is there, and is no other that has got its number since.
alive() {
  local newest process
  newest=$(cat "$here/attempt" 2>/dev/null) || return 1
  process=$(cat "$here/$newest/pid" 2>/dev/null) || return 1
  grep -qsF "$here/worker.sh" "/proc/$process/cmdline"
}

# The worker's number among those of all slices.
number() {
  local worker=${TPU_WORKER_ID:-} slice=${MEGASCALE_SLICE_ID:-}
  [[ -n $worker ]] || worker=$(attribute agent-worker-number)
  if [[ -z $slice && $WORKERS -gt $HOSTS ]]; then
    slice=$(attribute tpu-env | sed -n "s/^MEGASCALE_SLICE_ID: *'\{0,1\}\([0-9]*\).*/\1/p")
  fi
  printf '%d\n' "$((${slice:-0} * HOSTS + worker))"
}

attribute() {
  curl --silent --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Into the environment alone: arguments can be read by every user of the machine.
read_secrets() {
  local line text=
  if [[ -n ${SECRET:-} ]]; then
    text=$(gcloud secrets versions access latest --secret "$SECRET") || return 1
  elif [[ -f $here/secrets ]]; then
    text=$(<"$here/secrets")
  fi
  while IFS= read -r line; do
    [[ $line != [A-Za-z_]*=* ]] || export "${line?}"
  done <<<"$text"
}

# A worker that shares nothing must not wait for the others of its slice.
free_worker() {
  [[ -n ${ALONE:-} ]] || return 0
  export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=$ALONE
}

upload() {
  copy "$here/$ATTEMPT/$1" "$LOGS/$ATTEMPT/worker-$(number).${1##*.}" || true
}

copy() {
  case $2 in
  gs://*) gcloud storage cp --quiet "$1" "$2" 2>&1 ;;
  *) mkdir -p "${2%/*}" && cp "$1" "$2" ;;
  esac
}

tell() {
  printf 'mre-pod worker=%s %s\n' "$(number)" "$1"
}

fail() {
  printf 'worker.sh: %s\n' "$1" >&2
  exit 70
}

main "$@"
