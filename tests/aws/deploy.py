#!/usr/bin/env python3
"""Deploys infra/template.yaml to a local AWS, as a user without SAM deploys it to a real one: package, deploy.

Prints the stack's outputs as one JSON object, with two more: `LocalUrl`, the API's base on the loopback, and
`MappingId`, the worker's event source mapping. Run it with target/testbench/aws/bin/python (tests/setup.sh aws).
"""

import argparse
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "infra/aws.yaml"
FUNCTIONS = ("ingest", "worker", "sweeper", "watcher")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint", help="ministack's address, such as http://127.0.0.1:4566")
    parser.add_argument("--stack", default="sentinel", help="the stack's name")
    parser.add_argument("--zips", type=Path, default=ROOT / "target/lambda",
                        help="a folder of sentinel-<function>/bootstrap.zip, as cargo lambda build leaves it")
    parser.add_argument("--config", type=Path, help="a file to stand in the zips in place of infra/aws.yaml")
    parser.add_argument("--only-adjust", action="store_true", help="deploy nothing: make a stack work that is deployed already")
    parser.add_argument("parameters", nargs="*", metavar="Parameter=Value", help="parameters of the template")
    args = parser.parse_intermixed_args()

    endpoint = args.endpoint.rstrip("/")
    if not endpoint.startswith(("http://127.0.0.1:", "http://localhost:")):
        sys.exit(f"{endpoint} is not this machine: this script is for a local AWS only")
    for function in () if args.only_adjust else FUNCTIONS:
        zip_file = args.zips / f"sentinel-{function}" / "bootstrap.zip"
        if not zip_file.is_file():
            sys.exit(f"{zip_file} is not there: run infra/build.sh")

    with tempfile.TemporaryDirectory() as work:
        zips = args.zips.resolve()
        if args.config:
            zips = with_config(zips, args.config, Path(work) / "zips")
        if not args.only_adjust:
            create(Path(work), endpoint, args.stack, zips, args.parameters)
    session = boto3.Session("test", "test", region_name="us-east-1")
    outputs = adjusted(lambda service: session.client(service, endpoint_url=endpoint), args.stack)
    # The name under execute-api.localhost does not resolve everywhere; ministack has a path for the same.
    outputs["LocalUrl"] = f"{endpoint}/_aws/execute-api/{outputs['ApiId']}/$default"
    print(json.dumps(outputs, indent=2))


def with_config(zips, config, into):
    """Copies the zips, with `config` as their infra/aws.yaml; gives the copies' folder."""
    for function in FUNCTIONS:
        name = f"sentinel-{function}/bootstrap.zip"
        (into / name).parent.mkdir(parents=True)
        with zipfile.ZipFile(zips / name) as old, zipfile.ZipFile(into / name, "w", zipfile.ZIP_STORED) as new:
            if CONFIG not in old.namelist():
                sys.exit(f"{zips / name} holds no {CONFIG}")
            for entry in old.infolist():
                text = config.read_bytes() if entry.filename == CONFIG else old.read(entry)
                # The entry keeps its permissions: bootstrap stays executable. Not compressed: it goes to this machine.
                entry.compress_type = zipfile.ZIP_STORED
                new.writestr(entry, text)
    return into


def create(work, endpoint, stack, zips, parameters):
    """Uploads the zips and creates or updates the stack."""
    # The template names the zips relative to itself.
    (work / "infra").mkdir()
    (work / "target").mkdir()
    template = Path(shutil.copy(ROOT / "infra/template.yaml", work / "infra"))
    (work / "target/lambda").symlink_to(zips)
    packaged = work / "packaged.yaml"

    def aws(*args, check=True):
        # Nothing of this machine's own AWS configuration, so that a mistake cannot reach a real account.
        env = {"PATH": os.environ["PATH"], "HOME": str(work), "AWS_ENDPOINT_URL": endpoint, "AWS_PAGER": "",
               "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        command = [Path(sys.executable).parent / "aws", *args]
        done = subprocess.run(command, env=env, stdout=sys.stderr, check=False)
        if check and done.returncode != 0:
            sys.exit(f"aws {args[0]} {args[1]} ended with {done.returncode}")
        return done.returncode == 0

    aws("s3", "mb", f"s3://{stack}-zips")
    aws("cloudformation", "package", "--template-file", template, "--s3-bucket", f"{stack}-zips",
        "--output-template-file", packaged)
    certificates = ssl.get_default_verify_paths().openssl_cafile
    created = aws("cloudformation", "deploy", "--template-file", packaged, "--stack-name", stack,
                  "--no-fail-on-empty-changeset", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND",
                  "--s3-bucket", f"{stack}-zips", "--parameter-overrides", "Architecture=x86_64",
                  f"CertificateBundle={certificates}", "AwsCertificateBundle=infra/aws-roots.pem", *parameters,
                  check=False)
    if not created:
        aws("cloudformation", "describe-stack-events", "--stack-name", stack, "--output", "text", "--query",
            "StackEvents[?ends_with(ResourceStatus, `_FAILED`)].[LogicalResourceId, ResourceStatusReason]")
        sys.exit(f"stack {stack} was not created")


def adjusted(client, stack):
    """Makes up for where ministack is not AWS; gives the stack's outputs."""
    formation = client("cloudformation")
    described = formation.describe_stacks(StackName=stack)["Stacks"][0]
    resources = formation.describe_stack_resources(StackName=stack)["StackResources"]
    physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in described["Parameters"]}

    # A number that comes from a parameter arrives here as text, and then cannot be compared. AWS converts it.
    client("lambda").update_event_source_mapping(
        UUID=physical["WorkerFunctionJobs"],
        ScalingConfig={"MaximumConcurrency": int(parameters["WorkerConcurrency"])})

    # With AUTH=true, a batch is an action of its own here. On AWS, sqs:SendMessage allows SendMessageBatch.
    sqs = client("sqs")
    queue = sqs.get_queue_attributes(QueueUrl=physical["Queue"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Version": "2012-10-17",
             "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessageBatch", "Resource": queue}]}
    for role in (name for name in physical if name.endswith("Role")):
        client("iam").put_role_policy(RoleName=physical[role], PolicyName="sends-batches",
                                      PolicyDocument=json.dumps(allow))

    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    outputs["MappingId"] = physical["WorkerFunctionJobs"]
    return outputs


if __name__ == "__main__":
    main()
