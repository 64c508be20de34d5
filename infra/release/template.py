#!/usr/bin/env python3
"""Writes the template of a release: the zips come from a bucket and a version that are its parameters, with no `package`.

    python3 infra/release/template.py OUT

    aws s3 cp --recursive sentinel-VERSION s3://BUCKET/sentinel-VERSION      # the unpacked release
    aws cloudformation deploy --template-file sentinel-template.yaml --s3-bucket BUCKET --stack-name sentinel \\
        --capabilities CAPABILITY_IAM --parameter-overrides CodeBucket=BUCKET
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARAMETERS = """\
  CodeBucket:
    Description: The bucket, in this region, that holds the release's zips.
    Type: String
  CodeVersion:
    Description: The release's version, which names the zips' folder.
    Type: String
    Default: VERSION
"""


def main(out):
    text = (ROOT / "infra/template.yaml").read_text()
    version = re.search(r"^    Template: \{Version: (\S+)\}$", text, re.M)[1]
    key = r'{Bucket: {Ref: CodeBucket}, Key: {Fn::Sub: "sentinel-${CodeVersion}/${Architecture}/sentinel-\1.zip"}}'
    text, places = re.subn(r"\.\./target/lambda/sentinel-(\w+)/bootstrap\.zip", key, text)
    text, begun = re.subn(r"^Parameters:\n", "Parameters:\n" + PARAMETERS.replace("VERSION", version), text, count=1, flags=re.M)
    if (places, begun) != (4, 1):
        sys.exit(f"the template has {places} zips and {begun} sections of parameters: this script knows another one")
    pathlib.Path(out).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
