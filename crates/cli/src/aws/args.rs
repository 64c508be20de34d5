//! What can be said after `sentinel aws`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sentinel_core::UnixMs;

/// Arguments of `aws`.
#[derive(Args, Debug)]
pub struct AwsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AwsCommand,
}

impl AwsArgs {
    /// Whether everything is to be said as JSON.
    pub const fn json(&self) -> bool {
        match &self.command {
            AwsCommand::Init(a) => a.stack.json,
            AwsCommand::Doctor(flags) | AwsCommand::Redrive(flags) => flags.json,
            AwsCommand::Send(a) => a.stack.json,
            AwsCommand::Remove(a) => a.stack.json,
            AwsCommand::Resume(a) => a.stack.json,
            AwsCommand::Config(a) => match &a.command {
                ConfigCommand::Push(a) => a.stack.json,
            },
        }
    }
}

/// What to do with a stack.
#[derive(Subcommand, Debug)]
pub enum AwsCommand {
    /// Make the whole stack, or bring its functions and template to these zips; asks for nothing
    Init(Init),
    /// Look at a deployed stack from outside and say what to mend; exit code 1 where something is wrong
    Doctor(StackFlags),
    /// Post a sample webhook with the stack's token, wait for its reports and print them
    Send(Send),
    /// Send what was put aside into the dead-letter queue back to the queue
    Redrive(StackFlags),
    /// Decide about what fell due while nobody swept the stack's table: it came from a backup, say
    Resume(Resume),
    /// Delete the stack, its bucket and its model key; the table with the incidents stays
    Remove(Remove),
    /// The configuration that the functions read from S3
    Config(ConfigArgs),
}

/// Arguments of `aws resume`.
#[derive(Args, Debug)]
pub struct Resume {
    /// Which stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// What fell due from this time on is investigated and told; what did before stays as it is
    #[arg(long, value_name = "TIME", value_parser = crate::deletion::time)]
    pub since: UnixMs,
}

/// Which stack, and whose credentials.
#[derive(Args, Clone, Debug)]
pub struct StackFlags {
    /// The stack's name: lower-case letters, digits and hyphens
    #[arg(long, default_value = "sentinel", value_parser = stack_name)]
    pub name: String,
    /// The region [default: that of the AWS command line]
    #[arg(long)]
    pub region: Option<String>,
    /// The profile of the AWS command line [default: its own]
    #[arg(long)]
    pub profile: Option<String>,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// The functions, the bucket and the model key are called after the stack: all of them have to be able to.
fn stack_name(text: &str) -> Result<String, String> {
    let good = text.len() <= 30
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good {
        Ok(text.to_owned())
    } else {
        Err("30 lower-case letters, digits and hyphens at most, the first one a letter, the last one no hyphen".to_owned())
    }
}

/// The processor of the functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Architecture {
    /// Graviton: a fifth cheaper.
    Arm64,
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86,
}

impl Architecture {
    /// As the template and Lambda say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86 => "x86_64",
        }
    }
}

/// Arguments of `aws init`.
#[derive(Args, Debug)]
pub struct Init {
    /// Which stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// What the zips are built for
    #[arg(long, value_enum, default_value = "arm64")]
    pub architecture: Architecture,
    /// A folder of sentinel-FUNCTION/bootstrap.zip, as infra/build.sh leaves it in target/lambda [default: placeholders, which
    /// `cargo lambda deploy` replaces]
    #[arg(long, value_name = "DIR")]
    pub zips: Option<PathBuf>,
    /// The configuration that travels in the zips, to see that it can work on Lambda [default: infra/aws.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A parameter of the template; may be given several times
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
}

/// Arguments of `aws send`.
#[derive(Args, Debug)]
pub struct Send {
    /// A webhook body
    #[arg(value_name = "EVENT")]
    pub event: PathBuf,
    /// Which stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// Where to post to, such as a front of your own [default: the stack's webhook]
    #[arg(long, env = "SENTINEL_WEBHOOK_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The longest time to wait for the reports, in seconds
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: u64,
}

/// Arguments of `aws remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// Which stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// Delete the table too, with every incident in it
    #[arg(long)]
    pub with_table: bool,
}

/// Arguments of `aws config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration in S3.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Validate a configuration, then put it and its prompts where the stack reads them
    Push(Push),
}

/// Arguments of `aws config push`.
#[derive(Args, Debug)]
pub struct Push {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which stack.
    #[command(flatten)]
    pub stack: StackFlags,
}
