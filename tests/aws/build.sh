#!/usr/bin/env bash
# Builds the functions' zips as they are deployed: target/lambda/sentinel-<function>/bootstrap.zip, and beside each the bill
# of its materials, bom.json (CycloneDX). For x86_64, or with `build.sh arm64` for what the template deploys by default;
# `build.sh MACHINE FUNCTION…` builds these only. `tests/setup.sh aws` installs cargo-lambda.
#
# The same commit gives the same zips, byte by byte, in whatever folder it is built: no path gets into a program, and no
# time, order or mode of a file into a zip (`bash tests/extra.sh builds`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bench=target/testbench/aws/bin
if [ ! -x "$bench/cargo-lambda" ]; then
  printf '%s is not there: run tests/setup.sh aws\n' "$bench/cargo-lambda" >&2
  exit 1
fi
case "${1-x86_64}" in
  x86_64) machine=x86_64 flag=--x86-64 ;;
  arm64) machine=aarch64 flag=--arm64 ;;
  *) printf 'usage: tests/aws/build.sh [x86_64|arm64 [FUNCTION…]]\n' >&2; exit 2 ;;
esac
functions=("${@:2}")
[ "${#functions[@]}" -gt 0 ] || functions=(ingest worker sweeper watcher)

# Static programs, as .cargo/config.toml says. Where Rust's own parts for that cannot be had, dynamic ones, which do the same
# and start more slowly.
target=$machine-unknown-linux-musl
if rustup target list --installed | grep -qx "$target" || rustup target add "$target"; then
  for_target=(--target "$target")
else
  printf 'build: %s cannot be installed: building for the C library of Amazon Linux instead\n' "$target" >&2
  for_target=("$flag")
  target=$machine-unknown-linux-gnu
fi

# Paths of this folder and of cargo's stand in messages of Rust and of C alike; they are written as if they were these.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
remap="" remap_c=""
for pair in "$PWD=/sentinel" "$cargo_home=/cargo"; do
  remap+=" --remap-path-prefix=$pair"
  remap_c+=" -ffile-prefix-map=$pair"
done
triple=${target//-/_}
# What .cargo/config.toml says of the target stays: cargo joins the two.
export "CARGO_TARGET_${triple^^}_RUSTFLAGS=${remap# }"
export "CFLAGS_$triple=${remap_c# }"

# Zig, which links, is in the same folder. cargo-lambda itself does not look for the target: it would go to the network.
PATH="$PWD/$bench:$PATH" cargo lambda build --profile deploy "${for_target[@]}" --skip-target-check --locked --output-format zip \
  --include infra/sentinel.yaml --include infra/aws-roots.pem --include prompts \
  "${functions[@]/#/--package=sentinel-}"

for function in "${functions[@]}"; do
  folder=target/lambda/sentinel-$function
  python3 tests/aws/same_zip.py "$folder/bootstrap.zip"
  python3 tests/aws/sbom.py "sentinel-$function" "$target" "$folder/bootstrap.zip" "$folder/bom.json"
  printf '%s: %s bytes, sha256 %s\n' "$folder/bootstrap.zip" "$(stat --format=%s "$folder/bootstrap.zip")" \
    "$(sha256sum "$folder/bootstrap.zip" | cut -d' ' -f1)"
done
