//! Webhook wire types of Alertmanager, Grafana and Amazon `CloudWatch` to core types: one function, [`parse`].
//!
//! This is the only place that knows what a webhook looks like on the wire. It reads leniently, because senders grow
//! and are templated: unknown fields are ignored, missing ones defaulted, `null` is like missing, a number or a
//! `true` where a text belongs becomes that text. What says who an alert is or when it happened is never guessed:
//! an alert whose labels, times or status cannot be read is refused with its path, and its neighbours go on.
//!
//! # What the shapes look like
//!
//! | sender | shape |
//! |---|---|
//! | Alertmanager, version `4` (since 0.6) | `alerts`, `groupLabels`, `commonLabels`, `commonAnnotations`, `externalURL`, `receiver`, `groupKey` (text); newer releases add `fingerprint`, `truncatedAlerts`, `routeLabels`, `notification_reason` (`notify/webhook/webhook.go`, `template/template.go`) |
//! | the same as documented in 2018 | no `fingerprint`, no status on an alert, no `truncatedAlerts`; some senders still have a number as `groupKey` |
//! | Alertmanager, version `3` (0.1 to 0.5) | as 4, with an unsigned 64-bit number as `groupKey` (`notify/impl.go`) |
//! | Alertmanager, version `2` (0.1.0-beta) | `version`, `status` and the list, which is called `alert`; an alert has no status (`notify/impl.go`) |
//! | Alertmanager, version `1` (0.0.x) | as 2, but an alert has `summary`, `description`, `labels` and a `payload` of texts: `value`, `activeSince`, `generatorURL`, `alertingRule` (`manager/notifier.go`, `manager/alert.go`) |
//! | Grafana, version `1` | Alertmanager's 4 with `orgId`, `title`, `state`, `message`, and on each alert `values`, `valueString`, `dashboardURL`, `panelURL`, `silenceURL`, `imageURL` |
//! | an alarm of Amazon `CloudWatch` | `AlarmName`, `NewStateValue`, `Trigger` as its action sends them to Amazon SNS; or `EventBridge`'s `detail-type`, `detail` with `alarmName`, `state`, `configuration` |
//! | anything else | an object with an array `alerts`, each with `labels` |
//!
//! # What becomes of them
//!
//! - **Status**: the alert's, else the notification's, else firing. The receiver's clock takes no part, so an alert of
//!   version 2 that ended while others of its group fire is taken as firing until the group resolves: taking a
//!   firing one as resolved would lose it.
//! - **Start**: missing, empty or Go's zero time (year 1) is unknown; so is an unreadable one of what has resolved.
//! - **End**: none while firing (before Alertmanager 0.16 a firing alert's `endsAt` lies in the future). Resolved without a
//!   readable one (or with Go's zero time): the time of receipt, marked so.
//! - **Times** are RFC 3339 of the years up to 9999, or as Go prints them (`2026-11-20 10:00:00 +0000 UTC`).
//! - **Annotations** are texts, whatever is sent: an object or array is the JSON that stands in the body. They also take
//!   what older or other senders say beside them: version 1's `summary`, `description`, `value` and `alertingRule`,
//!   Grafana's `valueString` and links. An annotation of that name wins.
//! - **Alarms** of `CloudWatch` are one alert: `alertname`, `account`, `region` and the dimensions of its metrics are labels
//!   (the group's are `account` and `region`). `OK` is resolved, everything else fires.
//! - **No alerts**: `"alerts": []` is a message without alerts, not an error. Alertmanager never sends it; a custom
//!   sender that has nothing to say gets its 200.
//! - `groupLabels` that cannot be read are an error, because the dedupe key is made of them; the other fields of the
//!   envelope only inform, and count as missing where their type is wrong.

mod cloudwatch;
mod envelope;
mod error;
mod json;
mod one_alert;

pub use envelope::parse;
pub use error::EnvelopeError;

/// The largest body that is read, in bytes: what AWS Lambda carries.
pub const MAX_BODY_BYTES: usize = 6_291_456;

/// How many arrays and objects may lie within each other. A real payload needs five.
pub const MAX_DEPTH: usize = 64;

/// The most that the envelope may take once each alert has its own, in bytes: each incident keeps it, and each alert may be
/// one. Real ones have a few hundred bytes.
pub const MOST_COPIED: usize = 64 << 20;

/// How many alerts one body may carry. Alertmanager needs over 96 bytes for one, so none of its bodies under
/// [`MAX_BODY_BYTES`] has more; without the bound 6 MB of `1,1,1` would become 600 MB of refusals.
pub const MAX_ALERTS: usize = 65_536;
