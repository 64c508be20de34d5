#!/usr/bin/env bash
# Builds the command line for one machine: dist/sentinel-VERSION-TARGET.tar.gz.
#
#     bash infra/release/command.sh TARGET      x86_64-unknown-linux-gnu, aarch64-unknown-linux-musl, aarch64-apple-darwin, …
#
# For a C library or a processor that is not this machine's, cargo-zigbuild links.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${1?usage: infra/release/command.sh TARGET}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
build=(cargo build)
if [ "$(rustc -vV | sed -n 's/^host: //p')" != "$target" ] && [[ $target != *-apple-* ]]; then build=(cargo zigbuild); fi
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
"${build[@]}" --release --locked --package sentinel-cli --target "$target"
name=sentinel-$version-$target
rm -rf "dist/$name"
mkdir -p "dist/$name"
cp "target/$target/release/sentinel" LICENSE README.md "dist/$name/"
tar -C dist -czf "dist/$name.tar.gz" "$name"
rm -rf "dist/$name"
printf 'dist/%s.tar.gz\n' "$name"
