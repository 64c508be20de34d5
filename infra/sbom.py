"""Writes what is in a function's program as a CycloneDX bill of materials, beside its zip.

    python3 sbom.py PACKAGE TARGET ZIP OUT

What is in it is what cargo builds for this package and this target; names, versions and licences are cargo's, digests
Cargo.lock's. Crates that only build it (build scripts, macros) have the scope "excluded": they are not in the program. The
same commit and the same zip give the same file.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

package, target, archive, out = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])


def cargo(*words):
    return subprocess.run(["cargo", *words], check=True, capture_output=True, text=True).stdout


def built(*edges):
    """Names and versions of what the package's program is made from over these kinds of dependencies."""
    tree = cargo("tree", "--locked", "--package", package, "--target", target, "--edges", ",".join(edges), "--prefix", "none",
                 "--format", "{p}")
    return {tuple(line.split()[:2]) for line in tree.splitlines() if line}


inside = built("normal", "no-proc-macro")
everything = built("normal", "build")
metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
locked = tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]
digests = {(p["name"], "v" + p["version"]): p.get("checksum") for p in locked}
crates = {(p["name"], "v" + p["version"]): p for p in metadata["packages"]}
named = {p["id"]: key for key, p in crates.items()}
(root,) = [key for key in everything if key[0] == package]


def purl(key):
    return f"pkg:cargo/{key[0]}@{key[1][1:]}"


def component(key):
    crate = crates[key]
    found = {
        "type": "library", "bom-ref": purl(key), "name": key[0], "version": key[1][1:], "purl": purl(key),
        "scope": "required" if key in inside else "excluded",
        # "/" is how cargo said "OR" before it knew expressions.
        "licenses": [{"expression": crate["license"].replace(" / ", " OR ").replace("/", " OR ")}],
    }
    if crate.get("description"):
        found["description"] = " ".join(crate["description"].split())
    if crate.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": crate["repository"]}]
    if digests[key]:
        found["hashes"] = [{"alg": "SHA-256", "content": digests[key]}]
    return found


dependencies = []
for node in metadata["resolve"]["nodes"]:
    key = named[node["id"]]
    if key in everything:
        on = sorted({purl(named[d["pkg"]]) for d in node["deps"] if named[d["pkg"]] in everything and any(k["kind"] != "dev" for k in d["dep_kinds"])})
        dependencies.append({"ref": purl(key), "dependsOn": on})

digest = hashlib.sha256(archive.read_bytes()).hexdigest()
commit = subprocess.run(["git", "log", "-1", "--format=%H %cI"], capture_output=True, text=True).stdout.split()
whole = component(root) | {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
del whole["scope"]
bom = {
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
    "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
    "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
    "metadata": {
        "component": whole,
        "properties": [{"name": "sentinel:target", "value": target}] + [{"name": "sentinel:commit", "value": c} for c in commit[:1]],
    },
    "components": [component(key) for key in sorted(everything - {root})],
    "dependencies": sorted(dependencies, key=lambda d: d["ref"]),
}
if commit:
    bom["metadata"]["timestamp"] = commit[1]
out.write_text(json.dumps(bom, indent=1) + "\n")
print(f"{out}: {len(inside)} crates in the program, {len(everything - inside)} that only build it")
