//! The record of an incident: two hundred events of one, and everything that may be done to it is named.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::executor::block_on;
use sentinel_core::chain::{
    Finding, IncidentRecord, Kind, PublicKey, Sealed, Signature, SigningKey, anchor, read_export, unsealed,
    verify, write_export,
};
use sentinel_core::drive::{Start, drive_sealing};
use sentinel_core::incident::{Child, ChildName, DeliveryKey, Event, Fence, Head, IncidentId, Job};
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::{Abort, Claim, ClaimDelivery, Commit, Delivered, Input, Paid, Rules};
use sentinel_core::ports::{Appended, IncidentStore as _, JobQueue, Ports, QueueError};
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;
use sentinel_testkit::builders::{alert, card, message};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::memory::MemoryStore;
use sha2::{Digest as _, Sha256};

/// Takes every job and hands none out.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl JobQueue for Nobody {
    async fn send(&self, _: &Job, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

struct House {
    ports: Ports,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    rules: Rules,
    id: IncidentId,
}

impl House {
    fn head(&self) -> Head {
        self.store.head(&self.id).unwrap()
    }

    async fn happens<I: Input>(&self, input: &I, sealed: &[Sealed]) -> I::Outcome {
        self.clock.advance(Duration::from_secs(1));
        drive_sealing(&self.ports, &self.id, input, &self.rules, Start::Load, sealed).await.unwrap().outcome
    }

    async fn stores(&self, name: ChildName) -> Sealed {
        let body = format!("{{\"what\":\"{name}\"}}");
        let child = Child { generation: self.head().generation, name, body };
        assert_eq!(self.store.append(&self.id, &child).await.unwrap(), Appended::Written);
        Sealed::of(&child)
    }
}

/// An incident with as many events: it is received, joined, investigated over many turns of three calls each, told.
async fn incident(events: u64) -> House {
    let store = Arc::new(MemoryStore::default());
    let clock = Arc::new(ManualClock::default());
    let card = card("pods").build();
    let rules = Rules { sinks: Vec::new(), ..Rules::of(&card) };
    let writers = AtomicU32::new(0);
    let fresh = Arc::new(move || format!("writer-{}", writers.fetch_add(1, Ordering::Relaxed)));
    let ports = Ports {
        store: store.clone(),
        queue: Arc::new(Nobody),
        clock: clock.clone(),
        fresh,
        signing_key: Some(Arc::new(key(7))),
    };
    let cards = [card];
    let post = async |names: &[&str]| {
        let alerts = names.iter().map(|pod| alert("PodDown").label("pod", pod));
        intake(&ports, &cards, &Redactor::default(), &message(alerts)).await.unwrap()
    };
    let received = post(&["a"]).await;
    let id = received.incidents[0].id.clone();
    let house = House { ports: ports.clone(), store, clock, rules, id };
    let generation = house.head().generation;
    let _ = post(&["a", "b"]).await;
    let _ = house.happens(&Claim { generation, owner: "worker".into() }, &[]).await;
    let fence = Fence { generation, epoch: house.head().epoch };
    // As an investigation begins.
    let children = house.store.children(&house.id, generation).await.unwrap();
    let mut sealed = unsealed(&house.head(), &children);
    assert_eq!(sealed.len(), 1, "the first notification: it was announced, and stored after its entry");
    for turn in 1.. {
        let paid = Paid { fence, turn, timeout: Duration::from_mins(1) };
        let _ = house.happens(&paid, &std::mem::take(&mut sealed)).await;
        if anchor(&house.head()).unwrap().0 + 1 >= events {
            break;
        }
        sealed.push(house.stores(ChildName::Turn(turn)).await);
        // Every third turn calls three tools, and their list is a child of its own.
        for call in (1..=3).filter(|_| u32::is_multiple_of(turn, 3)) {
            sealed.push(house.stores(ChildName::Output(3 * turn + call)).await);
        }
    }
    sealed.push(house.stores(ChildName::Report).await);
    let _ = house.happens(&Commit { fence, verdict: Verdict::NoAction }, &sealed).await;
    house
}

fn two_hundred() -> &'static IncidentRecord {
    static RECORD: OnceLock<IncidentRecord> = OnceLock::new();
    RECORD.get_or_init(|| {
        let house = block_on(incident(200));
        house.store.record(&house.id)
    })
}

fn export() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| write_export(two_hundred()).unwrap())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// What is found in a file.
fn found(text: &str) -> Vec<Finding> {
    let (record, mut found) = read_export(text);
    found.extend(verify(&record, None).findings);
    found
}

fn breaks(text: &str) -> bool {
    found(text).iter().any(|finding| finding.kind == Kind::Breach)
}

/// With the last line that these lines should have: what whoever changes them would write.
fn resealed(lines: &[&str]) -> String {
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let digest = Sha256::digest(&text).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("{text}{{\"sha256\":\"{digest}\"}}\n")
}

fn lines() -> Vec<&'static str> {
    let mut lines: Vec<_> = export().lines().collect();
    lines.pop();
    lines
}

#[test]
fn a_record_of_two_hundred_events_verifies_and_its_export_does() {
    let verified = verify(two_hundred(), None);
    assert_eq!((verified.n, verified.entries, &*verified.findings), (200, 200, &[][..]));
    assert_eq!(found(export()), []);
    assert_eq!(resealed(&lines()), export());
    let (read, _) = read_export(export());
    assert_eq!(&read, two_hundred());
}

/// Flips every `step`-th byte, once as it is and once with the last line made to fit.
fn every_flip_is_named(step: usize) {
    let body = lines();
    let end = body.iter().map(|line| line.len() + 1).sum::<usize>();
    for at in (0..export().len()).step_by(step) {
        let mut bytes = export().as_bytes().to_vec();
        bytes[at] ^= 1;
        let text = String::from_utf8(bytes).unwrap();
        assert!(breaks(&text), "byte {at}");
        if at < end {
            let lines: Vec<&str> = text[..end].trim_end_matches('\n').split('\n').collect();
            assert!(breaks(&resealed(&lines)), "byte {at}, with the last line made to fit");
        }
    }
}

#[test]
fn flipped_bytes_of_an_export_are_named_also_where_its_last_line_is_made_to_fit() {
    every_flip_is_named(export().len() / 60);
}

#[test]
#[ignore = "minutes in release: tests/extra.sh"]
fn each_flipped_byte_of_an_export_is_named() {
    every_flip_is_named(1);
}

#[test]
#[ignore = "a measurement: tests/extra.sh"]
fn at_least_five_thousand_events_a_second_are_verified() {
    let record = two_hundred();
    let began = Instant::now();
    let mut events = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let (read, _) = read_export(export());
        assert_eq!(&read, record);
        events += verify(&read, None).entries;
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = events as f64 / began.elapsed().as_secs_f64();
    println!("audit: {rate:.0} events a second read from an export and verified");
    assert!(rate >= 5_000.0, "{rate}");
}

#[test]
fn lines_that_are_deleted_put_elsewhere_put_in_or_cut_off_are_named() {
    let lines = lines();
    let step = lines.len() / 30;
    for at in (0..lines.len()).step_by(step).chain([1, 2]) {
        let mut without = lines.clone();
        let line = without.remove(at);
        assert!(breaks(&resealed(&without)), "line {at} deleted");
        let mut elsewhere = without.clone();
        elsewhere.insert((at + 7) % lines.len(), line);
        assert!(breaks(&resealed(&elsewhere)), "line {at} put elsewhere");
        let mut twice = lines.clone();
        twice.insert(at, line);
        assert!(breaks(&resealed(&twice)), "line {at} twice");
        assert!(breaks(&resealed(&lines[..at])), "cut off at line {at}");
    }
    assert!(breaks(&export()[..export().len() - 1]), "without its last byte");
}

#[test]
fn children_of_the_store_that_are_changed_deleted_put_in_or_exchanged_are_named_by_their_place() {
    let record = two_hundred();
    let first = record.children[0].clone();
    let broken = |children: Vec<Child>, place: &str| {
        let record = IncidentRecord::new(record.id.clone(), record.head.clone(), children);
        let found: Vec<_> = verify(&record, None).breaches().cloned().collect();
        assert!(found.iter().any(|f| f.to_string().contains(place)), "{place}: {found:?}");
    };
    for at in (0..record.children.len()).step_by(5) {
        let name = record.children[at].name.to_string();
        let mut changed = record.children.clone();
        changed[at].body.push(' ');
        broken(changed, if name.starts_with("AUD#") { "" } else { &name });
        let mut deleted = record.children.clone();
        deleted.remove(at);
        broken(deleted, if name.starts_with("AUD#") { "entr" } else { &name });
        if at > 0 {
            let mut exchanged = record.children.clone();
            let body = std::mem::replace(&mut exchanged[at].body, first.body.clone());
            exchanged[0].body = body;
            broken(exchanged, "");
        }
    }
    for name in [ChildName::Turn(9_999), ChildName::Output(9_999)] {
        let mut put_in = record.children.clone();
        let place = name.to_string();
        put_in.push(Child { generation: first.generation, name, body: "{}".into() });
        broken(put_in, &place);
    }
}

#[test]
fn a_head_that_was_changed_behind_the_chain_is_named() {
    let record = two_hundred();
    let head = Head { verdict: Some(Verdict::ActionRequired), ..record.head.clone().unwrap() };
    let verified = verify(&IncidentRecord::new(record.id.clone(), Some(head), record.children.clone()), None);
    let breaches: Vec<_> = verified.breaches().map(ToString::to_string).collect();
    assert_eq!(breaches, ["HEAD: it is not what entry 200 says it is"]);
}

/// What breaks a record that this key has to have signed.
fn breaches(record: &IncidentRecord, by: &PublicKey) -> Vec<String> {
    verify(record, Some(by)).breaches().map(ToString::to_string).collect()
}

/// With the head changed by somebody who can write the whole store.
fn with_head(record: &IncidentRecord, change: impl FnOnce(&mut Head)) -> IncidentRecord {
    let mut head = record.head.clone().unwrap();
    change(&mut head);
    IncidentRecord::new(record.id.clone(), Some(head), record.children.clone())
}

#[test]
fn a_signature_that_is_forged_another_ones_or_not_there_is_named() {
    let (record, ours, other) = (two_hundred(), key(7).public(), key(8).public());
    assert_eq!(breaches(record, &ours), [""; 0]);
    assert_eq!(verify(record, None).signed_by, Some(ours.to_string()));
    let not_by = |by: &PublicKey| format!("HEAD: the signature in it is not one of {by} over entry 200");
    assert_eq!(breaches(record, &other), [format!("HEAD: it is signed by {ours}, and not by {other}")]);
    let unsigned = with_head(record, |head| head.signed = None);
    assert_eq!(breaches(&unsigned, &ours), [format!("HEAD: no signature by {ours} stands in it")]);
    // Our key's name on another one's signature, a flipped bit, another spelling of the same digits.
    let claimed = with_head(record, |head| head.signed.as_mut().unwrap().key = other.to_string());
    assert_eq!(breaches(&claimed, &ours), [not_by(&other)]);
    let forged = with_head(record, |head| {
        let signature = &mut head.signed.as_mut().unwrap().signature;
        let last = if signature.ends_with('0') { "1" } else { "0" };
        signature.replace_range(127.., last);
    });
    assert_eq!(breaches(&forged, &ours), [not_by(&ours)]);
    let loud = with_head(record, |head| {
        let signature = &mut head.signed.as_mut().unwrap().signature;
        *signature = signature.to_uppercase();
    });
    assert_eq!(breaches(&loud, &ours), [not_by(&ours)]);
    // Over an entry that is not there, and over one that is not the newest.
    let beyond = with_head(record, |head| head.signed.as_mut().unwrap().n = 201);
    assert_eq!(
        breaches(&beyond, &ours),
        ["HEAD: the signature in it is over entry 201, which is not on the chain"]
    );
    let before = with_head(record, |head| head.signed.as_mut().unwrap().n = 199);
    assert_eq!(breaches(&before, &ours).len(), 1);
}

#[test]
fn another_chain_without_the_key_is_named_however_well_its_hashes_fit() {
    // The same incident, told otherwise, by somebody who writes every hash anew and keeps the signature.
    let told_otherwise = block_on(async {
        let house = incident(199).await;
        house.store.record(&house.id)
    });
    assert_eq!(told_otherwise.id, two_hundred().id);
    let signature = two_hundred().head.clone().unwrap().signed;
    let by_nobody = with_head(&told_otherwise, |head| head.signed = None);
    assert_eq!(verify(&by_nobody, None).findings, []);
    let with_ours = with_head(&told_otherwise, |head| head.signed = signature);
    assert!(verify(&with_ours, None).breaches().next().is_some(), "the signature is of another chain");
    let ours = key(7).public();
    assert_eq!(breaches(&by_nobody, &ours), [format!("HEAD: no signature by {ours} stands in it")]);
    let of_the_last = two_hundred().head.clone().unwrap().signed.map(|signed| Signature { n: 199, ..signed });
    let moved = with_head(&told_otherwise, |head| head.signed = of_the_last);
    assert_eq!(
        breaches(&moved, &ours),
        [format!("HEAD: the signature in it is not one of {ours} over entry 199")]
    );
}

#[test]
fn entries_that_a_process_without_the_key_wrote_after_a_signed_one_are_noted() {
    block_on(async {
        let mut house = incident(20).await;
        house.ports.signing_key = None;
        house.clock.advance(Duration::from_hours(2));
        let cards = [card("pods").build()];
        let again = alert("PodDown").label("pod", "c").starts_at(house.ports.clock.now());
        let _ = intake(&house.ports, &cards, &Redactor::default(), &message([again])).await.unwrap();
        let verified = verify(&house.store.record(&house.id), Some(&key(7).public()));
        let found: Vec<_> = verified.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["HEAD: the entries after 20 were written without a key"]);
        assert_eq!(verified.findings[0].kind, Kind::Note);
    });
}

#[test]
fn a_generation_that_has_expired_as_a_whole_is_no_breach_and_a_part_of_it_is() {
    block_on(async {
        let house = incident(20).await;
        // The same alert, an hour after it resolved.
        house.clock.advance(Duration::from_hours(2));
        let cards = [card("pods").build()];
        let again = alert("PodDown").label("pod", "c").starts_at(house.ports.clock.now());
        let first = house.head().generation;
        let _ = intake(&house.ports, &cards, &Redactor::default(), &message([again])).await.unwrap();
        let second = house.head().generation;
        assert!(second > first, "it opened again");
        let claim = Claim { generation: second, owner: "worker".into() };
        let _ = house.happens(&claim, &[]).await;
        let record = house.store.record(&house.id);
        assert_eq!(verify(&record, None).findings, []);
        let mut expired = record.clone();
        expired.children.retain(|child| child.generation == second);
        let verified = verify(&expired, None);
        assert_eq!(verified.breaches().count(), 0, "{:?}", verified.findings);
        assert!(verified.findings.iter().any(|f| f.what.contains("expired")), "{:?}", verified.findings);
        let mut torn = record;
        torn.children.retain(|child| child.generation == second || child.name != ChildName::Report);
        assert!(verify(&torn, None).breaches().any(|f| f.place.ends_with("REPORT")));
    });
}

#[test]
fn a_head_from_before_the_record_begins_one_with_its_next_change() {
    block_on(async {
        let house = incident(5).await;
        let old = Head { schema: 1, chain: Vec::new(), ..house.head() };
        house.store.put(old.clone());
        let before = verify(&house.store.record(&house.id), None);
        assert_eq!(before.n, 0);
        let delivery = DeliveryKey { event: Event::Findings, sink: "chat".into() };
        // Nothing is owed: nothing changes, and nothing is recorded.
        let claim = ClaimDelivery { generation: old.generation, key: delivery.clone(), claimer: "c".into() };
        let _ = house.happens(&claim, &[]).await;
        let told = Delivered {
            generation: old.generation,
            key: delivery,
            claimer: "c".into(),
            remote: None,
            amiss: None,
        };
        let _ = house.happens(&told, &[]).await;
        assert_eq!(house.head(), old);
        house.clock.advance(Duration::from_hours(2));
        let cards = [card("pods").build()];
        let again = alert("PodDown").label("pod", "c").starts_at(house.ports.clock.now());
        let _ = intake(&house.ports, &cards, &Redactor::default(), &message([again])).await.unwrap();
        let verified = verify(&house.store.record(&house.id), None);
        assert_eq!((verified.n, verified.breaches().count()), (1, 0), "{:?}", verified.findings);
        let text = house.head().chain[0].clone();
        assert!(text.contains(&format!("\"began_at\":{}", old.version)), "{text}");
    });
}

#[test]
fn a_child_that_a_worker_without_its_lease_may_have_stored_is_noted_and_one_after_the_commit_is_a_breach() {
    block_on(async {
        let house = incident(8).await;
        let committed = house.head();
        house.stores(ChildName::Output(500)).await;
        let kinds = || {
            verify(&house.store.record(&house.id), None).findings.iter().map(|f| f.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(), [Kind::Breach]);
        // The same of an incident that is opened again and aborted while it runs.
        house.clock.advance(Duration::from_hours(2));
        let cards = [card("pods").build()];
        let again = alert("PodDown").label("pod", "c").starts_at(house.ports.clock.now());
        let _ = intake(&house.ports, &cards, &Redactor::default(), &message([again])).await.unwrap();
        assert!(house.head().generation > committed.generation);
        let claim = Claim { generation: house.head().generation, owner: "worker".into() };
        let _ = house.happens(&claim, &[]).await;
        let _ = house.happens(&Abort { who: "somebody".into() }, &[]).await;
        house.stores(ChildName::Turn(1)).await;
        assert_eq!(kinds(), [Kind::Breach, Kind::Note]);
    });
}

#[test]
fn a_program_that_knows_the_format_alone_verifies_an_export_and_refuses_a_changed_one() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/audit/verify.py");
    let folder = tempfile::tempdir().unwrap();
    let run_by = |text: &str, key: &PublicKey| {
        let file = folder.path().join("export.jsonl");
        std::fs::write(&file, text).unwrap();
        let output = Command::new("python3").arg(&script).arg(&file).arg(key.to_string()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (ours, other) = (key(7).public(), key(8).public());
    let run = |text: &str| run_by(text, &ours);
    let (good, said) = run(export());
    assert!(good, "{said}");
    let (good, said) = run_by(export(), &other);
    assert!(!good && said.contains(&format!("is signed by {ours}")), "{said}");
    let claimed = export().replace(&ours.to_string(), &other.to_string());
    let (good, said) = run_by(&resealed(&claimed.lines().take(lines().len()).collect::<Vec<_>>()), &other);
    assert!(!good && said.contains("the signature is not one of"), "{said}");
    for at in (0..export().len()).step_by(export().len() / 8) {
        let mut bytes = export().as_bytes().to_vec();
        bytes[at] ^= 1;
        let (good, said) = run(&String::from_utf8(bytes).unwrap());
        assert!(!good && !said.is_empty(), "byte {at}");
    }
    let mut without = lines();
    without.remove(lines().len() / 2);
    assert!(!run(&resealed(&without)).0, "a line less");
}

#[test]
fn no_change_of_an_incident_is_without_its_entry() {
    let record = two_hundred();
    let head = record.head.clone().unwrap();
    assert_eq!(verify(record, None).n, head.version, "one entry for each version");
}
