"""What a Python team would deploy for the same: Powertools' idempotency over DynamoDB, then a message to SQS.

Each alert is taken once by its labels. THREADS says how many alerts of one webhook are taken at once (1: one after the
other).
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import boto3
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from botocore.config import Config

THREADS = int(os.environ.get("THREADS", "1"))
# The same limits as Sentinel's: three attempts of a second.
CLIENT = Config(max_pool_connections=max(10, THREADS), connect_timeout=1, read_timeout=1,
                retries={"total_max_attempts": 3, "mode": "standard"})
QUEUE = os.environ["QUEUE_URL"]

sqs = boto3.client("sqs", config=CLIENT)
store = DynamoDBPersistenceLayer(table_name=os.environ["TABLE"], boto_config=CLIENT)
config = IdempotencyConfig(event_key_jmespath="labels", expires_after_seconds=4 * 3600)
pool = ThreadPoolExecutor(THREADS) if THREADS > 1 else None


@idempotent_function(data_keyword_argument="alert", persistence_store=store, config=config)
def take(alert):
    sent = sqs.send_message(QueueUrl=QUEUE, MessageBody=json.dumps(alert))
    return {"message": sent["MessageId"]}


def handler(event, context):
    config.register_lambda_context(context)
    alerts = json.loads(event["body"])["alerts"]
    if pool:
        taken = list(pool.map(lambda alert: take(alert=alert), alerts))
    else:
        taken = [take(alert=alert) for alert in alerts]
    return {"statusCode": 200, "headers": {"content-type": "application/json"},
            "body": json.dumps({"taken": len(taken)})}
