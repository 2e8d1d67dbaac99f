#!/bin/bash
# What ./dev demo shows: the main job on real input, with a daemon of its own. usage: tests/demo.sh BIN_DIRECTORY
set -euo pipefail
PATH=$(cd "$1" && pwd):$PATH
work=$(mktemp -d)
export TASKPOOL_SOCKET=$work/socket

taskpoold --log-level warning --modules demo,shared &
daemon=$!
finish() {
  kill "$daemon" 2>/dev/null || true
  for ((tries = 0; tries < 150; tries++)); do
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$daemon" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

say() { printf '\n=== %s\n' "$1"; }
show() {
  printf '$ %s\n' "$*"
  "$@"
}

for ((tries = 0; ; tries++)); do
  taskpool ping --quiet 2>/dev/null && break
  if ((tries == 100)) || ! kill -0 "$daemon" 2>/dev/null; then
    echo "the daemon did not start" >&2
    exit 1
  fi
  sleep 0.1
done

say "A function over a list"
show taskpool map square 0 1 2 3 4 5 6 7

say "The words in every file below /usr/share/doc and /usr/include"
find /usr/share/doc /usr/include -type f -print0 >"$work/files"
xargs -0 cat <"$work/files" >/dev/null # so that both runs below find the files in memory

# count_words WORKERS
count_words() {
  taskpool resize default "$1" --quiet
  echo "\$ find /usr/share/doc /usr/include -type f -print0 | taskpool map word_count --lines --null --unordered"
  local begin=$EPOCHREALTIME
  taskpool map word_count --lines --null --unordered <"$work/files" >"$work/counts"
  local us=$((${EPOCHREALTIME/./} - ${begin/./}))
  awk -v us="$us" -v workers="$1" '{ words += $1 } END {
    printf "%d words in %d files, %d worker%s: %.2f s\n", words, NR, workers, workers == 1 ? "" : "s", us / 1e6 }' \
    "$work/counts"
}
count_words 1
count_words "$(nproc)"

say "A worker is killed in the middle of a map: its item fails, the rest completes"
naps=()
for ((i = 0; i < 12; i++)); do naps+=(0.3); done
printf '$ taskpool map sleep %s --chunk 1 & kill -9 WORKER\n' "${naps[*]}"
taskpool map sleep "${naps[@]}" --chunk 1 --no-progress >"$work/naps" &
map=$!
victim=
for ((tries = 0; tries < 100; tries++)); do
  victim=$(taskpool workers default --json | python3 -c '
import json, sys
busy = [w["pid"] for w in json.load(sys.stdin)["workers"] if w["state"] == "busy"]
print(busy[0] if busy else "")')
  [[ -n $victim ]] && break
  sleep 0.02
done
kill -9 "$victim"
wait "$map" && { echo "no item failed" >&2; exit 1; }
cat "$work/naps"

say "Workers add 1 to a shared number, at the same time: with a lock, in one operation, and directly in shared memory"
taskpool value total set 0
show taskpool map add_with_lock '["total", 1000]' '["total", 1000]' '["total", 1000]' '["total", 1000]' --chunk 1
show taskpool value total get
show taskpool map add_with_incr '["total", 1000]' '["total", 1000]' '["total", 1000]' '["total", 1000]' --chunk 1
show taskpool value total get
show taskpool map add_direct '["cell", 1000000]' '["cell", 1000000]' --chunk 1
show taskpool apply read_direct '"cell"'
[[ $(taskpool value total get) == 8000 && $(taskpool apply read_direct '"cell"') == 2000000 ]] || {
  echo "a sum is not exact" >&2
  exit 1
}

say "Workers count words into a shared dict, and note the files in a shared list"
echo "\$ taskpool map tally --lines /usr/share/common-licenses/*"
taskpool map tally --lines /usr/share/common-licenses/* >/dev/null
show taskpool list files len
show taskpool dict words len
echo "\$ taskpool dict words items --lines | sort -t \$'\\t' -k 2 -rn | head -5"
taskpool dict words items --lines | sort -t $'\t' -k 2 -rn >"$work/words"
head -5 "$work/words"
show taskpool objects
show taskpool lock backup -- echo "what runs here runs alone"

say "What the daemon can tell"
taskpool submit sleep 5 >/dev/null
show taskpool workers
show taskpool ps
show taskpool stats
