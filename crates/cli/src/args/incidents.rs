//! What can be said of incidents.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sentinel_core::UnixMs;

use super::{ConfigFlag, DATA_DIR};
use crate::listing::{Cursor, Wanted};

/// Arguments of `incidents`.
#[derive(Args, Debug)]
pub struct Incidents {
    /// What to do with them.
    #[command(subcommand)]
    pub command: IncidentsCommand,
}

/// What to do with incidents.
#[derive(Subcommand, Debug)]
pub enum IncidentsCommand {
    /// The newest incidents
    List(List),
    /// One incident, with its report; what is read in ten seconds is at the end
    Show(Show),
    /// The outputs of its tools, as they are kept, with the report's quotes marked
    Evidence(EvidenceOf),
    /// What its model answered, turn by turn
    Turns(OneIncident),
    /// Its alerts, as they were told
    Alerts(OneIncident),
    /// All that is kept of it, in the order of time
    Record(OneIncident),
    /// Make a case of it that `sentinel eval` runs: its alert, what its tools said, its model's turns, and what is expected
    Export(Export),
    /// Stop an investigation
    Abort(Abort),
    /// Take away all that is kept of incidents that are over; what stays is who did it and when
    Delete(Delete),
    /// Decide about what fell due while nobody swept a table on AWS: it came from a backup, say
    Resume(Resume),
}

impl IncidentsCommand {
    /// Whether everything is to be said as JSON.
    pub(super) const fn json(&self) -> bool {
        match self {
            Self::List(a) => a.store.json,
            Self::Show(a) => a.store.json,
            Self::Evidence(a) => a.store.json,
            Self::Turns(a) | Self::Alerts(a) | Self::Record(a) => a.store.json,
            Self::Export(a) => a.store.json,
            Self::Abort(a) => a.store.json,
            Self::Delete(a) => a.store.json,
            Self::Resume(a) => a.json,
        }
    }
}

/// Which store.
#[derive(Args, Clone, Debug)]
pub struct StoreFlags {
    /// The store of `up`: through it where it runs, else its folder
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, conflicts_with = "table")]
    pub data_dir: PathBuf,
    /// A table on AWS, in the region and with the credentials of the environment
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Which configuration: who is told of an abort, where no `up` runs.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `incidents list`.
#[derive(Args, Debug)]
pub struct List {
    /// Which incidents.
    #[command(flatten)]
    pub wanted: Wanted,
    /// After the last one of a list before, which says so
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<Cursor>,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Arguments of `incidents show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Its id, or the beginning of it
    pub id: String,
    /// With the evidence, all checks, deliveries, costs, and quotes as they stand in the outputs
    #[arg(long)]
    pub full: bool,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents turns`, `alerts` and `record`.
#[derive(Args, Debug)]
pub struct OneIncident {
    /// Its id, or the beginning of it
    pub id: String,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents evidence`.
#[derive(Args, Debug)]
pub struct EvidenceOf {
    /// Its id, or the beginning of it
    pub id: String,
    /// One output whole: E4 [default: a line for each]
    #[arg(value_name = "E")]
    pub evidence: Option<String>,
    /// Of that output only the lines around this text
    #[arg(long, value_name = "QUOTE", requires = "evidence")]
    pub around: Option<String>,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents abort`.
#[derive(Args, Debug)]
pub struct Abort {
    /// Its id, or the beginning of it
    pub id: String,
    /// Who stops it, for the record
    #[arg(long, default_value = "the command line")]
    pub who: String,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents delete`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("meant").required(true).multiple(true).args(["ids", "before", "label"]))]
pub struct Delete {
    /// Their ids, or the beginnings of them
    #[arg(value_name = "ID", conflicts_with_all = ["before", "label"])]
    pub ids: Vec<String>,
    /// Whatever opened last before this time
    #[arg(long, value_name = "DATE", value_parser = crate::deletion::time)]
    pub before: Option<UnixMs>,
    /// Whatever has this label among those of its key; several: all of them
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::deletion::label)]
    pub label: Vec<(String, String)>,
    /// Say which would go, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who deletes them, for the record
    #[arg(long, default_value = "the command line")]
    pub who: String,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Its id, or the beginning of it
    pub id: String,
    /// The folder of cases; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    pub case: PathBuf,
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// Arguments of `incidents resume`.
#[derive(Args, Debug)]
pub struct Resume {
    /// The table, in the region and with the credentials of the environment
    #[arg(long, value_name = "NAME")]
    pub table: String,
    /// What fell due from this time on is investigated and told; what did before stays as it is
    #[arg(long, value_name = "TIME", value_parser = crate::deletion::time)]
    pub since: UnixMs,
    /// JSON on stdout
    #[arg(long)]
    pub json: bool,
}
