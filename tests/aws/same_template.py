#!/usr/bin/env python3
"""Holds the Terraform module and samconfig.toml against infra/template.yaml: all three make the same resources and roles.

The module hands the template itself to CloudFormation, with each zip's place in a bucket in place of its place in target. So
what is held is that it hands on all of it: each zip is uploaded, each place is replaced, and nothing else is changed. Run it
with target/testbench/iac/bin/python (tests/setup.sh).
"""

import pathlib
import re
import sys
import tomllib

import hcl2

INFRA = pathlib.Path(__file__).resolve().parents[2] / "infra"
TEMPLATE = (INFRA / "template.yaml").read_text()


def parsed(name):
    with open(INFRA / "terraform" / name) as file:
        return hcl2.load(file)


def plain(value):
    """Without the quotes that some versions of the parser leave around names and texts."""
    return str(value).strip('"')


def of(blocks, *names):
    """The body of a block by its labels."""
    for block in blocks:
        inner = block
        for name in names:
            inner = next((body for label, body in inner.items() if plain(label) == name), None)
            if inner is None:
                break
        else:
            return inner
    sys.exit(f"no {' '.join(names)} in the Terraform module")


def main():
    main_tf, variables = parsed("main.tf"), parsed("variables.tf")
    places = re.findall(r"^ +CodeUri: (\S+)$", TEMPLATE, re.M)
    functions = sorted(re.search(r"sentinel-(\w+)/", place)[1] for place in places)
    (local,) = main_tf["locals"]
    named = sorted(re.findall(r"\w+", str(local["functions"]).replace("toset", "")))
    if named != functions:
        sys.exit(f"the module uploads {named}, the template wants {functions}")

    # The same replacements, done here, from the same lines.
    text, chain = TEMPLATE, "source"
    for _ in functions:
        step = next((name for name, value in local.items() if f"replace(local.{chain}," in str(value)), None)
        if step is None:
            sys.exit(f"nothing is replaced after local.{chain}")
        old = re.search(r'"?(\.\./target/[^"]+)"', str(local[step]))[1]
        function = re.search(r"sentinel-(\w+)/", old)[1]
        if f'keys["{function}"]' not in str(local[step]).replace("\\", ""):
            sys.exit(f"{old} is replaced by another function's zip: {local[step]}")
        if text.count(old) != 1:
            sys.exit(f"{old} stands {text.count(old)} times in the template")
        text, chain = text.replace(old, f"s3://bucket/{function}.zip"), step
    if "../target/" in text:
        sys.exit("a zip's place is left in the template: " + re.search(r"\.\./target/\S+", text)[0])
    if [line for line in TEMPLATE.splitlines() if "CodeUri" not in line] != [line for line in text.splitlines() if "CodeUri" not in line]:
        sys.exit("more than the zips' places is changed")

    stack = of(main_tf["resource"], "aws_cloudformation_stack", "sentinel")
    content = of(main_tf["resource"], "aws_s3_object", "template")["content"]
    if f"local.{chain}" not in str(content):
        sys.exit(f"{content} is uploaded, not local.{chain}")
    if "aws_s3_object.template" not in str(stack["template_url"]) or "var.parameters" not in str(stack["parameters"]):
        sys.exit("the stack is not made of the template that is uploaded, with the parameters that are given")
    kinds = {plain(kind) for block in main_tf["resource"] for kind in block}
    if kinds != {"aws_s3_object", "aws_cloudformation_stack"}:
        sys.exit(f"the module makes something beside the template: {kinds}")
    if plain(of(variables["variable"], "name")["default"]) != "sentinel":
        sys.exit("the module's stack has another name")

    sam = tomllib.loads((INFRA / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
    parameters = set(re.findall(r"^  (\w+):$", TEMPLATE.split("\nParameters:\n")[1].split("\nMappings:\n")[0], re.M))
    for override in sam["parameter_overrides"]:
        if override.split("=")[0] not in parameters:
            sys.exit(f"samconfig.toml: the template has no parameter {override}")
    print(f"the Terraform module and samconfig.toml deploy template.yaml: {len(functions)} functions, {len(parameters)} parameters")


if __name__ == "__main__":
    main()
