"""Holds bills of materials against CycloneDX's own schema, and against Cargo.lock.

    target/testbench/supply/bin/python check_sbom.py FILE…
"""

import hashlib
import json
import pathlib
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

assert sys.argv[1:], "no file is named"
locked = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]}
for name in sys.argv[1:]:
    file = pathlib.Path(name)
    text = file.read_text()
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, f"{file}: {wrong}"
    bom = json.loads(text)
    refs = {c["bom-ref"] for c in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    for crate in bom["components"]:
        checksum = locked[crate["name"], crate["version"]]
        assert crate["licenses"] and crate["purl"], f"{file}: {crate['name']} has no licence"
        # Ours have no digest: they are this repository.
        assert checksum is None or crate["hashes"][0]["content"] == checksum, f"{file}: {crate['name']}"
        assert checksum is not None or crate["name"].startswith("sentinel-"), f"{file}: {crate['name']} comes from nowhere"
    for edge in bom["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= refs, f"{file}: {edge['ref']} rests on what is not listed"
    zipped = hashlib.sha256((file.parent / "bootstrap.zip").read_bytes()).hexdigest()
    assert bom["metadata"]["component"]["hashes"][0]["content"] == zipped, f"{file} is another zip's"
    print(f"{file}: on CycloneDX 1.6's schema, {len(bom['components'])} crates, each with licence and origin")
