#!/usr/bin/env bash
# Runs every check of the project, installing first what the tests need: formatting, lints, documentation, unit and
# contract tests, documentation tests, the architecture test, and the end-to-end tests against real programs: first those
# of the service in one process, then the functions on a local AWS. With `--proof` also the tables of what was explored
# (tests/proof.sh). What takes longer than every change can wait for is in tests/extra.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
# Snapshots are compared, never written.
export INSTA_UPDATE=no

step "install what the tests need"
bash tests/setup.sh aws

step "formatting"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "licences, sources and doubles of all crates"
target/testbench/supply/bin/cargo-deny --locked check bans licenses sources

step "deployment template"
target/testbench/venv/bin/cfn-lint infra/template.yaml
target/testbench/iac/bin/python tests/aws/same_template.py
python3 infra/cost/cost.py --check
python3 infra/cost/scale.py --check

step "release"
bash tests/aws/release.sh

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

step "build"
# All targets at once: building packages one by one would compile their dependencies again with other features.
cargo build --workspace --all-targets --locked

step "unit and contract tests"
# With ten thousand random episodes of the handlers; tests/proof.sh plays a hundred thousand.
SENTINEL_EPISODES=${SENTINEL_EPISODES:-10000} cargo nextest run --workspace --locked -E 'not package(sentinel-tests)'

step "documentation tests"
cargo test --workspace --doc --locked --quiet

step "architecture"
cargo nextest run --workspace --locked -E 'package(sentinel-tests) & binary(architecture)'

step "end to end"
cargo nextest run --workspace --locked -E 'package(sentinel-tests) - binary(architecture) - binary(aws) - binary(local_loop)'

step "build the functions"
# As they are deployed, but not optimised when they are linked: that takes longer than all the rest. `bash tests/extra.sh
# deployed` plays the same tests with the zips of a release.
export CARGO_PROFILE_DEPLOY_LTO=off CARGO_PROFILE_DEPLOY_CODEGEN_UNITS=16
bash infra/build.sh x86_64
target/testbench/supply/bin/python tests/aws/check_sbom.py target/lambda/sentinel-*/bom.json

step "end to end on a local AWS"
cargo nextest run --workspace --locked -E 'package(sentinel-tests) & (binary(aws) + binary(local_loop))'

if [[ " $* " == *" --proof "* ]]; then
  step "no alert lost, none paid for twice"
  bash tests/proof.sh
fi

step "all checks passed"
