#![doc = include_str!("../README.md")]

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod arguments;
mod aside;
mod checklist;
mod conversation;
mod error;
mod evidence;
mod fence;
mod filters;
mod hosted;
mod placeholders;
mod playbook;
mod policy;
pub mod ports;
mod problem;
mod progress;
mod quotes;
mod refusal;
mod report;
mod rule;
mod run;
pub mod schema;
mod search;
mod situation;
mod template;
mod tools;
mod transcript;
mod turn;
mod usage;

pub use aside::aside;
pub use error::InvestigateError;
pub use evidence::{CallStatus, EvidenceRecord, Kept, OwnCall, outputs};
pub use hosted::{HostedOutput, hosted_tools};
pub use playbook::{Playbook, PromptPlace};
pub use problem::{CompileProblem, Part};
pub use progress::{EventSender, HELD, Progress, events, told_before};
pub use refusal::{RefusalReason, Unfit};
pub use run::{Outcome, Run, investigate};
pub use template::{Unshown, Why};
pub use tools::{READ_EVIDENCE, SUBMIT_REPORT, names as function_names};
pub use transcript::{Forced, Opening, TurnRecord, Without, evidence_of, turns_of};
pub use usage::estimated_tokens;
