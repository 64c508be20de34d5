#!/usr/bin/env bash
# Builds the functions' zips as they are deployed: target/lambda/sentinel-<function>/bootstrap.zip, and beside each the bill
# of its materials, bom.json (CycloneDX); target/lambda/parameters says to the template what they were built for.
#
#     bash infra/build.sh arm64|x86_64 [FUNCTION…]
#
# It needs cargo-lambda (on PATH, or where `tests/setup.sh aws` puts it) and Python. The same commit gives the same zips, byte
# by byte, in whatever folder it is built: no path gets into a program, and no time, order or mode of a file into a zip
# (`bash tests/extra.sh builds`). What travels beside the programs stands in functions/*/Cargo.toml; infra/tools.lock is
# taken along where it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Zig, which links, is in the same folder.
PATH="$PWD/target/testbench/aws/bin:$PATH"
if ! command -v cargo-lambda > /dev/null; then
  printf 'build: cargo-lambda is not on PATH: https://www.cargo-lambda.info says how to install it\n' >&2
  exit 1
fi
case "${1-}" in
  x86_64) machine=x86_64 flag=--x86-64 ;;
  arm64) machine=aarch64 flag=--arm64 ;;
  *) printf 'usage: infra/build.sh arm64|x86_64 [FUNCTION…]\n' >&2; exit 2 ;;
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

# Of several packages at once, cargo-lambda does not read what each says of itself in its Cargo.toml.
files=(--include infra/aws.yaml --include infra/aws-roots.pem --include prompts)
[ ! -e infra/tools.lock ] || files+=(--include infra/tools.lock)
# cargo-lambda itself does not look for the target: it would go to the network.
cargo lambda build --profile deploy "${for_target[@]}" --skip-target-check --locked --output-format zip "${files[@]}" \
  "${functions[@]/#/--package=sentinel-}"

for function in "${functions[@]}"; do
  folder=target/lambda/sentinel-$function
  python3 infra/same_zip.py "$folder/bootstrap.zip"
  python3 infra/sbom.py "sentinel-$function" "$target" "$folder/bootstrap.zip" "$folder/bom.json"
  printf '%s: %s bytes, sha256 %s\n' "$folder/bootstrap.zip" "$(stat --format=%s "$folder/bootstrap.zip")" \
    "$(sha256sum "$folder/bootstrap.zip" | cut -d' ' -f1)"
done
printf 'Architecture=%s\n' "$1" > target/lambda/parameters
