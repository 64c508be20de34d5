# The stack of ../template.yaml as a Terraform module: the zips go into your bucket, and CloudFormation makes of the very same
# template the very same resources and roles. So there is one description of them, and nothing to keep equal.
#
#     module "sentinel" {
#       source     = "./infra/terraform"
#       bucket     = "my-bucket"
#       parameters = { Architecture = "x86_64", AlarmTopicArn = aws_sns_topic.alarms.arn }
#     }
#
# `bash infra/build.sh` builds the zips first.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

locals {
  functions = toset(["ingest", "worker", "sweeper", "watcher"])
  zips      = { for name in local.functions : name => "${var.zips}/sentinel-${name}/bootstrap.zip" }
  # By what is in it, so that another zip is another key, and CloudFormation sees the change.
  keys = { for name, zip in local.zips : name => "${var.name}/sentinel-${name}-${filesha256(zip)}.zip" }

  source   = file("${path.module}/../template.yaml")
  ingest   = replace(local.source, "../target/lambda/sentinel-ingest/bootstrap.zip", "s3://${var.bucket}/${local.keys["ingest"]}")
  worker   = replace(local.ingest, "../target/lambda/sentinel-worker/bootstrap.zip", "s3://${var.bucket}/${local.keys["worker"]}")
  sweeper  = replace(local.worker, "../target/lambda/sentinel-sweeper/bootstrap.zip", "s3://${var.bucket}/${local.keys["sweeper"]}")
  template = replace(local.sweeper, "../target/lambda/sentinel-watcher/bootstrap.zip", "s3://${var.bucket}/${local.keys["watcher"]}")
}

resource "aws_s3_object" "zip" {
  for_each    = local.functions
  bucket      = var.bucket
  key         = local.keys[each.key]
  source      = local.zips[each.key]
  source_hash = filesha256(local.zips[each.key])
}

# Larger than what CloudFormation takes in a request.
resource "aws_s3_object" "template" {
  bucket  = var.bucket
  key     = "${var.name}/template-${sha256(local.template)}.yaml"
  content = local.template
}

resource "aws_cloudformation_stack" "sentinel" {
  name         = var.name
  template_url = "https://${aws_s3_object.template.bucket}.s3.amazonaws.com/${aws_s3_object.template.key}"
  parameters   = var.parameters
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  depends_on   = [aws_s3_object.zip]
}
