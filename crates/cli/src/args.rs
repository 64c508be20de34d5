//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand};
use sentinel_core::chain::PublicKey;

use crate::aws::args::AwsArgs;

mod incidents;

pub use incidents::{
    Abort, Delete, EvidenceOf, Export, Incidents, IncidentsCommand, List, OneIncident, Resume, Show,
    StoreFlags,
};

/// Investigates Prometheus alerts and reports what it found, with its sources.
#[derive(Parser, Debug)]
#[command(name = "sentinel", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Say more: -v logs at debug, -vv at trace
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say less: -q only warnings and errors, -qq only errors
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

/// Where `up` keeps incidents, unless told otherwise.
pub(crate) const DATA_DIR: &str = ".sentinel";
/// Where standard input is a file.
pub(crate) const STANDARD_INPUT: &str = "/dev/stdin";

/// A file that is read; `-` is standard input.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new()
        .map(|given| if given.as_os_str() == "-" { PathBuf::from(STANDARD_INPUT) } else { given })
}

impl Cli {
    /// Whether everything is to be said as JSON.
    pub fn json(&self) -> bool {
        match &self.command {
            Command::Up(a) => a.json,
            Command::Replay(a) => a.json,
            Command::Capture(a) => a.json,
            Command::Eval(a) => a.json,
            Command::Render(a) => a.json,
            Command::Validate(a) => a.json,
            Command::Schema => false,
            Command::Incidents(a) => a.command.json(),
            Command::Tools(a) => match &a.command {
                ToolsCommand::Lock(a) => a.json,
                ToolsCommand::Diff(a) => a.json,
            },
            Command::Models(a) => a.json,
            Command::Doctor(a) => a.json,
            Command::Audit(a) => match &a.command {
                AuditCommand::Verify(a) => a.store.json,
                AuditCommand::Export(a) => a.store.json,
                AuditCommand::Key(_) => false,
            },
            Command::Aws(a) => a.json(),
        }
    }

    /// How many -v there are more than -q.
    pub fn louder(&self) -> i8 {
        let most = |times: u8| i8::try_from(times).unwrap_or(i8::MAX);
        most(self.verbose).saturating_sub(most(self.quiet))
    }
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the whole pipeline in this process: webhook in, reports out.
    #[command(visible_alias = "run")]
    Up(Up),
    /// Put sample webhooks, or a stored incident, through the pipeline and print what comes out.
    Replay(Replay),
    /// Keep webhooks as they arrive in files that `replay` takes; nothing is investigated
    Capture(Capture),
    /// Run a folder of cases and print a scorecard.
    Eval(Eval),
    /// Show what the model would be sent first for an event. Nothing is called
    Render(Render),
    /// Check a configuration, its prompts and its rules.
    Validate(Validate),
    /// Print the configuration's JSON Schema, for editors.
    Schema,
    /// Look at incidents.
    Incidents(Incidents),
    /// Look at the tools of MCP servers.
    Tools(Tools),
    /// Try everything that a first evening trips over: models, servers and their tools, destinations, clock, data folder. Exit
    /// code 1 where something is to be mended
    Doctor(Doctor),
    /// Ask each service of models whether it has the configured ones; exit code 1 where one is missing
    Models(Models),
    /// Hold the record of incidents against its hash chain.
    Audit(Audit),
    /// Make, look at, try and remove a deployment on AWS, by the AWS command line.
    Aws(AwsArgs),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigFlag {
    /// Configuration file [default: `SENTINEL_CONFIG`, else ./config.yaml, else the built-in one]
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub config: Option<PathBuf>,
}

/// Arguments of `up`.
#[derive(Args, Debug)]
pub struct Up {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Where to listen. Port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8765")]
    pub listen: SocketAddr,
    /// Where incidents are kept
    #[arg(long, value_name = "DIR", default_value = ".sentinel")]
    pub data_dir: PathBuf,
    /// Logs and progress as JSON lines on stderr; the address as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Replay {
    /// Webhook bodies, in the order in which they arrive, `-` for standard input; with --from-store an incident's id, or the
    /// beginning of it
    #[arg(required = true, value_name = "EVENT", value_parser = file())]
    pub events: Vec<PathBuf>,
    /// Run a stored incident again, offline, and print what differs: tools are answered from its transcript
    #[arg(long, conflicts_with = "recorded")]
    pub from_store: bool,
    /// With this card in place of the one of its name: one card as it stands in `incident-cards`
    #[arg(long, value_name = "FILE", requires = "from_store", value_parser = file())]
    pub card: Option<PathBuf>,
    /// Ask this model instead of taking the stored turns
    #[arg(long, value_name = "NAME", requires = "from_store")]
    pub model: Option<String>,
    /// The incident is in this table on AWS
    #[arg(long, value_name = "NAME", requires = "from_store", conflicts_with = "data_dir")]
    pub table: Option<String>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Take the model's turns and the tools' outputs from this file [default: without `OPENAI_API_KEY`, the example
    /// run beside the event]
    #[arg(long, value_name = "RUN")]
    pub recorded: Option<PathBuf>,
    /// Keep the incidents here [default: in memory]; with --from-store the incident is there [default: .sentinel]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Tell the cards' own sinks as well [default: those that write to the log, and nobody else]
    #[arg(long, conflicts_with = "from_store")]
    pub deliver: bool,
    /// With the evidence, all checks, deliveries, costs, and quotes as they stand in the outputs
    #[arg(long)]
    pub full: bool,
    /// The incidents as JSON on stdout, progress as JSON lines on stderr
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    /// A folder of cases (*.json)
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Ask this model [default: the turns of the cases' recorded runs]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The scorecard as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `render`.
#[derive(Args, Debug)]
pub struct Render {
    /// A webhook body; `-` for standard input
    #[arg(value_name = "EVENT", value_parser = file())]
    pub event: PathBuf,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Only this card, as if it were the only one [default: those that take the event's alerts]
    #[arg(long, value_name = "NAME")]
    pub card: Option<String>,
    /// Take the tools' descriptions and outputs from this file instead of placeholders
    #[arg(long, value_name = "RUN")]
    pub recorded: Option<PathBuf>,
    /// The requests as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `validate`.
#[derive(Args, Debug)]
pub struct Validate {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// The same file, without the flag
    #[arg(value_name = "FILE", conflicts_with = "config", value_parser = file())]
    pub file: Option<PathBuf>,
    /// Problems and cards as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// What to do with the record.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What to do with the record.
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Name whatever was changed, deleted, put in or put elsewhere. Ends with 1 where something was
    Verify(AuditVerify),
    /// Write one incident's whole record into a file that `audit verify --file` verifies, offline
    Export(AuditExport),
    /// Make the key that signs the ends of records from the next start of `up` on, where there is none; print its public half
    Key(AuditKey),
}

/// Arguments of `audit verify`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "all", "file"]))]
pub struct AuditVerify {
    /// An incident's id, or the beginning of it
    pub id: Option<String>,
    /// All incidents, the oldest first
    #[arg(long)]
    pub all: bool,
    /// A file that `audit export` wrote
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// With --all: those that were opened, or opened again, since then. It says how to go on when it is interrupted
    #[arg(long, value_name = "TIME", requires = "all")]
    pub since: Option<String>,
    /// The public key that must have signed them: 64 hexadecimal digits, as `audit key` prints them
    #[arg(long, value_name = "KEY")]
    pub key: Option<PublicKey>,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `audit key`.
#[derive(Args, Debug)]
pub struct AuditKey {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = ".sentinel")]
    pub data_dir: PathBuf,
}

/// Arguments of `audit export`.
#[derive(Args, Debug)]
pub struct AuditExport {
    /// Its id, or the beginning of it
    pub id: String,
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `capture`.
#[derive(Args, Debug)]
pub struct Capture {
    /// Where to listen. Port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8765")]
    pub listen: SocketAddr,
    /// The folder that they are kept in, as they are: with whatever secrets they hold, in files that only you can read
    #[arg(long, value_name = "DIR", default_value = "captured")]
    pub to: PathBuf,
    /// How many are kept before it ends
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub most: u32,
    /// A JSON line each on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// The data folder of `up`
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// What was seen as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `models`.
#[derive(Args, Debug)]
pub struct Models {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// The models as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tools`.
#[derive(Args, Debug)]
pub struct Tools {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ToolsCommand,
}

/// What to do with tools.
#[derive(Subcommand, Debug)]
pub enum ToolsCommand {
    /// Pin the tools that cards allow, as their servers describe them now, in tools.lock beside the configuration
    Lock(Lock),
    /// Show, word by word, what servers say of the allowed tools that tools.lock does not; exit code 1 where anything
    /// differs
    Diff(Diff),
}

/// Arguments of `tools diff`.
#[derive(Args, Debug)]
pub struct Diff {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// The differences as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tools lock`.
#[derive(Args, Debug)]
pub struct Lock {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Write nothing; fail if tools.lock would change
    #[arg(long)]
    pub check: bool,
    /// What became of each tool as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_another_name_of_up() {
        let cli = Cli::parse_from(["sentinel", "run", "--listen", "127.0.0.1:0"]);
        assert!(matches!(cli.command, Command::Up(_)));
    }
}
