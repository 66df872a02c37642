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
# The workspace's own packages, one a line.
packages() { cargo metadata --no-deps --format-version 1 | jq -r '.packages[].name'; }
