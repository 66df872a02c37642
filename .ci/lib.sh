# Shared by the scripts in this folder; sourced, never run.
# shellcheck shell=bash
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
exec </dev/null
export CARGO_TERM_COLOR=never
# As the tests print them, so that `totals` counts the checks of a script too: result PASSED FAILED WHAT
result() {
  local word=ok
  [ "$2" = 0 ] || word=FAILED
  echo "test result: $word. $1 passed; $2 failed; 0 ignored; ($3)"
}
# Ends a script that cannot run here; in CI that is a failure.
skip() {
  local name
  name=$(basename "$0")
  echo "SKIP .ci/$name: $1"
  [ -z "${CI:-}" ] || exit 1
  result 0 0 "$name"
  exit 0
}
# Skips unless these programs are here: needs_programs PROGRAM...
needs_programs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || skip "the program $program is not here"
  done
}
# Ends a script by what a guest counted in the file: counted FILE
counted() {
  local name passed failed
  name=$(basename "$0")
  if [ ! -s "$1" ]; then
    echo "$name: the guest did not come to its end"
    result 0 1 "$name"
    exit 1
  fi
  read -r passed failed < "$1"
  result "$passed" "$failed" "$name"
  [ "$failed" = 0 ]
}
# The workspace's own packages, one a line.
packages() { cargo metadata --no-deps --format-version 1 | jq -r '.packages[].name'; }
