output "outputs" {
  description = "The outputs of ../template.yaml, by name: WebhookUrl, TableName, IngestTokenArn and the others."
  value       = aws_cloudformation_stack.sentinel.outputs
}
