#!/bin/bash
# usage: tests/package/package_test.sh BUILD_DIRECTORY
set -euo pipefail
build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
daemon=
finish() {
  if [[ -n $daemon ]]; then kill "$daemon" 2>/dev/null && wait "$daemon" || true; fi
  rm -rf "$work"
}
trap finish EXIT

expect() {
  if [[ $1 != "$2" ]]; then
    printf 'expected: %s\ngot:      %s\n' "$2" "$1"
    exit 1
  fi
}

echo "--- install"
cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
bin=$work/prefix/bin

echo "--- build the example with CMake"
cmake -S "$here/example" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)"
cmake --build "$work/cmake"

echo "--- and with pkg-config"
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name taskpool.pc)")
flags=$(pkg-config --cflags --libs --static taskpool)
# The flags are words.
# shellcheck disable=SC2086
"${CXX:-g++}" -std=c++20 "$here/example/main.cpp" $flags -o "$work/example"

echo "--- run"
export TASKPOOL_SOCKET=$work/socket
"$bin/taskpoold" --workers 2 --modules "demo,$work/cmake/greetings.so" &
daemon=$!
for ((tries = 0; tries < 200; tries++)); do
  "$bin/taskpool" ping --quiet 2>/dev/null && break
  kill -0 "$daemon"
  sleep 0.05
done
for program in "$work/cmake/example" "$work/example"; do
  output=$("$program")
  expect "$(head -n 1 <<<"$output")" "144 999998000001"
  [[ $output == *"signal 9"* ]] || { echo "$output"; exit 1; }
done
expect "$("$bin/taskpool" apply greet '"you"' 2)" '"hello you\nhello you\n"'

echo "--- the README shows this very program"
python3 - "$here/../../README.md" "$here/example/main.cpp" <<'PYTHON'
import sys
readme, program = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
sys.exit(0 if program in readme else "README.md does not have " + sys.argv[2])
PYTHON
