#!/usr/bin/env bash
# The checks that take longer than those of every change may (tests/run.sh), one after the other, up to the first that fails.
#
#     bash tests/extra.sh              all of them
#     bash tests/extra.sh NAME…        these
#     bash tests/extra.sh --list       their names, and what each shows
#
# A step is a function below, with its name and what it shows in `steps`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
export INSTA_UPDATE=no

steps=(
  'dependencies  licences, sources and doubles of all crates, and known vulnerabilities where their list can be had'
  'proof         no alert lost, none paid for twice: all states, all faults (tests/proof.sh)'
)

dependencies() {
  local deny=target/testbench/supply/bin/cargo-deny
  "$deny" check bans licenses sources
  # RustSec's list is a git repository. Where it cannot be reached nothing was looked up, and that is no failure of what
  # is checked here; a vulnerability is.
  if ! git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD > /dev/null 2>&1; then
    printf 'extra: NOT CHECKED: https://github.com/RustSec/advisory-db cannot be reached from here\n'
    return
  fi
  "$deny" check advisories
}

proof() { bash tests/proof.sh; }

listed() { printf '%s\n' "${steps[@]}"; }
names=()
case "${1-}" in
  --list) listed; exit 0 ;;
  '') mapfile -t names < <(listed | cut -d' ' -f1) ;;
  *) names=("$@") ;;
esac
for name in "${names[@]}"; do
  listed | cut -d' ' -f1 | grep -qx -- "$name" || { printf 'extra: no step %s; there are:\n' "$name" >&2; listed >&2; exit 2; }
done

printf '== install what the steps need\n'
bash tests/setup.sh aws extra
for name in "${names[@]}"; do
  printf '\n== %s (%s s)\n' "$(listed | grep -- "^$name ")" "$SECONDS"
  "$name"
done
printf '\n== all of these passed: %s (%s s)\n' "${names[*]}" "$SECONDS"
