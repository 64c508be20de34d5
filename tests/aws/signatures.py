"""Signs the requests on standard input once more, with botocore, and prints each Authorization header, as JSON."""

import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

asked = json.load(sys.stdin)
credentials = Credentials(asked["access_key"], asked["secret_key"], asked["token"])
told = []
for request in asked["requests"]:
    auth = SigV4Auth(credentials, asked["service"], asked["region"])
    sent = request["headers"]
    signed = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    again = AWSRequest(
        method=request["method"],
        url=request["url"],
        data=bytes.fromhex(request["body"]),
        headers={name: sent[name] for name in signed},
    )
    again.context["timestamp"] = sent["x-amz-date"]
    signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    scope = auth.scope(again)
    told.append(f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(signed)}, Signature={signature}")
json.dump(told, sys.stdout)
