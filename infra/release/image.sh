#!/usr/bin/env bash
# Builds the image of `up` for both processors out of the command lines in dist, and with --push puts it into the registry.
#
#     bash infra/release/image.sh NAME [--push]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
name=${1?usage: infra/release/image.sh NAME [--push]}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
engine=${CONTAINER_ENGINE:-podman}
manifest=$name:$version
"$engine" manifest rm "$manifest" > /dev/null 2>&1 || true
"$engine" manifest create "$manifest"
for machine in x86_64:amd64 aarch64:arm64; do
  target=${machine%:*}-unknown-linux-musl
  mkdir -p "target/$target/release"
  tar -xzf "dist/sentinel-$version-$target.tar.gz" -C "target/$target/release" --strip-components 1 "sentinel-$version-$target/sentinel"
  "$engine" build --platform "linux/${machine#*:}" --build-arg "TARGET=$target" --manifest "$manifest" --file Containerfile .
done
if [ "${2-}" = --push ]; then
  printf '%s' "${REGISTRY_TOKEN?a token of the registry}" | "$engine" login --username "${GITHUB_ACTOR:-sentinel}" --password-stdin "${name%%/*}"
  "$engine" manifest push --all "$manifest" "docker://$manifest"
fi
