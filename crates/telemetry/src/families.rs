//! The one list of what `/metrics` gives: every name with its kind, its labels and its help.

/// How long a tool or a turn may take, in seconds.
const OF_A_CALL: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// How long an incident waits, or is investigated, in seconds.
const OF_AN_INCIDENT: &[f64] =
    &[0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0];

/// What a family's values are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it was when it was looked at last.
    Gauge,
    /// How often each size came; the upper bounds of its buckets, without the last, which has none.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Its name in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// All series of one name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Family {
    /// By Prometheus's conventions: with its unit, and `_total` where it is a counter.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// The names of its labels. None has values that come from alerts.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(
    name: &'static str,
    bounds: &'static [f64],
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram(bounds), labels, help }
}

/// Declares the families, and [`FAMILIES`], in which each of them stands.
macro_rules! families {
    ($($constant:ident = $family:expr;)*) => {
        $(#[doc = concat!("See [`FAMILIES`]: ", stringify!($constant), ".")] pub const $constant: Family = $family;)*

        /// Every family, in the order in which they are written.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD_INFO = gauge("sentinel_build_info", &["version"], "Always 1: which version runs.");
    STORE_UP = gauge("sentinel_store_up", &[], "Whether the store answered: 1, or 0.");
    CONFIGURATION_REFUSED = counter("sentinel_configuration_refused_total", &[], "Changed configurations that could not be used; the one before is used on.");
    SECRETS_STALE = counter("sentinel_secrets_stale_total", &[], "Uses of secrets beyond their five minutes, because the secret store did not answer.");
    AWS_THROTTLED = counter("sentinel_aws_throttled_total", &[], "Attempts of calls to AWS that were throttled.");

    HTTP_REFUSED = counter("sentinel_http_refused_total", &["reason"], "Requests and connections that were turned away.");
    HTTP_CONNECTIONS = gauge("sentinel_http_connections", &[], "Open connections.");
    HTTP_BODY_BYTES = gauge("sentinel_http_body_bytes", &[], "Bytes of bodies that are held just now.");

    WEBHOOKS = counter("sentinel_webhooks_total", &[], "Webhooks that were answered with 200.");
    WEBHOOKS_REFUSED = counter("sentinel_webhooks_refused_total", &["status"], "Requests that were answered with a 4xx.");
    WEBHOOKS_PUT_OFF = counter("sentinel_webhooks_put_off_total", &[], "Webhooks that were answered with a 503: the store, the queue or the secret store did not do its part.");
    ALERTS_RECEIVED = counter("sentinel_alerts_received_total", &[], "Alerts of readable notifications; one that is sent again counts again.");
    ALERTS = counter("sentinel_alerts_total", &["outcome"], "Alerts that opened an incident (accepted), brought nothing new (duplicate), are no card's (unmatched) or cannot be read (refused, whole requests as one).");

    JOBS_WAITING = gauge("sentinel_jobs_waiting", &[], "Incidents that wait in the queue, for their time or for a free place.");
    JOBS_RUNNING = gauge("sentinel_jobs_running", &[], "Incidents that are worked on just now.");
    JOBS_FAILED = counter("sentinel_jobs_failed_total", &[], "Jobs that were not handled, because the store or the queue did not do its part.");
    JOBS_SENT_AGAIN = counter("sentinel_jobs_sent_again_total", &[], "Jobs that the sweeper sent again.");
    OLDEST_DUE = gauge("sentinel_oldest_due_seconds", &[], "How long the incident that waits longest has been due, at the last sweep; 0: none is.");
    ALERT_TO_CLAIM = histogram("sentinel_alert_to_claim_seconds", OF_AN_INCIDENT, &[], "From the opening of an incident to its first claim, the wait of its card included.");
    CLAIM_TO_START = histogram("sentinel_claim_to_start_seconds", OF_AN_INCIDENT, &[], "From a claim to the beginning of its investigation.");

    INVESTIGATIONS = counter("sentinel_investigations_total", &["verdict", "source"], "Reports, by verdict and by who concluded: model, evidence_only or recorded.");
    INVESTIGATIONS_FAILED = counter("sentinel_investigations_failed_total", &[], "Investigations that were given up without a report.");
    INVESTIGATION_RETRIES = counter("sentinel_investigation_retries_total", &[], "Claims of investigations that an earlier attempt had begun and not ended.");
    INVESTIGATION_DURATION = histogram("sentinel_investigation_duration_seconds", OF_AN_INCIDENT, &[], "From the beginning of an investigation to its report, over all attempts.");

    TURNS = counter("sentinel_turns_total", &[], "Model turns of investigations that have ended.");
    TURN_DURATION = histogram("sentinel_turn_duration_seconds", OF_A_CALL, &[], "How long a model took to answer.");
    TOKENS = counter("sentinel_tokens_total", &[], "Tokens sent and received by investigations that have ended.");
    COST = counter("sentinel_cost_usd_total", &[], "What investigations that have ended cost, in US dollars.");
    MODEL_REFUSALS = counter("sentinel_model_refusals_total", &[], "Requests that a service of models did not take, and would not take later.");
    MODEL_LEFT_ALONE = gauge("sentinel_model_left_alone", &["model"], "Whether a model is left alone for a while because it failed again and again: 1, or 0.");

    TOOL_CALLS = counter("sentinel_tool_calls_total", &["server", "tool"], "Tool calls that were made.");
    TOOL_CALL_DURATION = histogram("sentinel_tool_call_duration_seconds", OF_A_CALL, &["server"], "How long tool calls took.");
    TOOL_CALLS_REFUSED = counter("sentinel_tool_calls_refused_total", &["reason"], "Tool calls that were asked for and not made.");
    SERVER_LEFT_ALONE = gauge("sentinel_mcp_server_left_alone", &["server"], "Whether an MCP server is left alone for a while because it failed: 1, or 0.");

    BUDGET_EXHAUSTED = counter("sentinel_budget_exhausted_total", &[], "Investigations that ended on their evidence alone because the budget was used up.");
    BUDGET_INVESTIGATIONS_USED = gauge("sentinel_budget_investigations_used", &["scope", "window"], "Investigations that are counted against a limit of this hour or day.");
    BUDGET_INVESTIGATIONS_LEFT = gauge("sentinel_budget_investigations_left", &["scope", "window"], "Investigations that a limit of this hour or day leaves.");
    BUDGET_USD_USED = gauge("sentinel_budget_usd_used", &["scope", "window"], "US dollars that are spent or reserved, where this hour or day has a limit.");
    BUDGET_USD_LEFT = gauge("sentinel_budget_usd_left", &["scope", "window"], "US dollars that a limit of this hour or day leaves.");

    SINK_RESULTS = counter("sentinel_sink_results_total", &["sink", "result"], "Tries to tell a destination: sent, retry or refused.");
    SINK_REFUSALS = counter("sentinel_sink_refusals_total", &[], "Tries to tell a destination that will never work.");
}
