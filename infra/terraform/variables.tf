variable "name" {
  description = "The stack's name, with which the names of its functions begin."
  type        = string
  default     = "sentinel"
}

variable "bucket" {
  description = "A bucket of yours, in the stack's region, for the zips and the template."
  type        = string
}

variable "zips" {
  description = "The folder of sentinel-FUNCTION/bootstrap.zip, as infra/build.sh leaves it."
  type        = string
  default     = "target/lambda"
}

variable "parameters" {
  description = "Parameters of ../template.yaml, by name; what is not there is as the template has it."
  type        = map(string)
  default     = {}
}
