//! What all cases share: the configuration, and what production makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use sentinel_config::{Source, load};
use sentinel_core::card::Card;
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::Ports;
use sentinel_local::LocalQueue;
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::memory::MemoryStore;
use sentinel_worker::{Worker, assemble, compile};

/// What all cards of a house begin with.
const SHARED: &str = "
openai: {model: gpt-4.1-mini, max-output-tokens: 4096, timeout: 60s}
dispatcher: {dedupe-ttl-seconds: 600}
mcp-servers: [{name: k8s, server-url: 'https://mcp.example/mcp'}]
sinks:
- {name: hook, type: logger}
- {name: chat, type: logger, events: [started, findings, updated, resolved]}
";

/// Kinds of cards, how the names of their alerts begin, and what is special about each: one starts at once, one waits for its
/// alert to resolve by itself, one may investigate once an hour and be opened twice in it, and one has money for the
/// first call of a single investigation at a time.
const KINDS: [(&str, &str, &str); 4] = [
    ("pods", "Pod", ""),
    ("disks", "Disk", ", wait: 60s"),
    ("metered", "Metered", ", budget: {per-hour: 1, generations-per-hour: 2}"),
    ("dear", "Dear", ", budget: {usd-per-hour: 0.015}"),
];

/// Each kind twice: the one of the lean house has one sink only, so that all pairs of faults are not too many.
fn config() -> String {
    let (mut resources, mut cards) = (vec![], vec![]);
    for (house, alerts, sinks) in [("", "", "hook, chat"), ("lean ", "Lean", "hook")] {
        for (kind, alert, special) in KINDS {
            let name = format!("{house}{kind}");
            resources.push(format!("{{name: {name}, filters: {{alertname: '=~{alerts}{alert}.*'}}}}"));
            let tools = format!("tools: [k8s.pod], sinks: [{sinks}]{special}");
            cards.push(format!("{{name: {name}, resource: {name}, prompt: Find out why., {tools}}}"));
        }
    }
    format!("{SHARED}resources: [{}]\nincident-cards: [{}]\n", resources.join(", "), cards.join(", "))
}

/// What is made of the configuration.
pub(crate) struct Base {
    /// The cards.
    pub(crate) cards: Arc<[Card]>,
    /// Their rules.
    pub(crate) rules: BTreeMap<String, Rules>,
    /// As production wires it; each process gets its own ports, model, tools and sinks.
    pub(crate) worker: Worker,
}

/// What all cases share: the configuration.
pub(crate) static BASE: LazyLock<Base> = LazyLock::new(|| {
    let source = Source { name: "case.yaml".into(), text: config(), base_dir: None };
    let loaded = load(&source, &|_| None).unwrap();
    let cards: Arc<[Card]> = loaded.settings.cards.clone().into();
    let ports = Ports {
        store: Arc::new(MemoryStore::default()),
        queue: Arc::new(LocalQueue::new(Arc::new(ManualClock::default())).0),
        clock: Arc::new(ManualClock::default()),
        fresh: Arc::new(String::new),
        signing_key: None,
    };
    Base {
        rules: sentinel_sweeper::lambda::rules(&cards),
        cards,
        worker: assemble(&loaded.settings, compile(&loaded).unwrap(), ports, None, None).unwrap(),
    }
});

/// The rules of a card.
pub(crate) fn rules(card: &str) -> Rules {
    BASE.rules.get(card).cloned().unwrap_or_else(Rules::of_no_card)
}
