//! One alert, as Alertmanager speaks of it, whatever wire shape it came in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::UnixMs;
use crate::members::MemberId;

/// A label set, sorted by name.
pub type Labels = BTreeMap<String, String>;

/// Whether the alert's condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// It holds.
    Firing,
    /// It no longer holds.
    Resolved,
}

/// One alert of a notification.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Firing or resolved. A payload that says neither means firing.
    pub status: AlertStatus,
    /// The identity of the alert. Untrusted text.
    pub labels: Labels,
    /// Text for people; its values change from one notification to the next. Untrusted text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Labels,
    /// When it began to fire, by the sender's clock. `None` where the payload does not say: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<UnixMs>,
    /// When it resolved, by the sender's clock; `None` while it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<UnixMs>,
    /// The payload named no end, so `ends_at` is the time of receipt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_at_is_receipt: bool,
    /// A link to the rule's graph. Untrusted text.
    #[serde(rename = "generatorURL", default, skip_serializing_if = "Option::is_none")]
    pub generator_url: Option<String>,
    /// The sender's own 64-bit fingerprint: data, never identity (absent in old payloads).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The measured values, where the sender gives them (Grafana's `values`), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// Which member of its incident it is, decided on the labels as they were sent: what is kept of them may lack a
    /// secret. `None`: nobody has decided, or an older record does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
}

impl Alert {
    /// Whether it fires.
    pub fn is_firing(&self) -> bool {
        self.status == AlertStatus::Firing
    }
}
