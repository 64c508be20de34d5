use super::*;
use crate::incident::{Again, Delivery, DeliveryKey, Members};
use crate::notification::Notification;
use crate::test_support::{alert, envelope, labels};

/// 2026-11-22T12:00:00Z.
const NOON: UnixMs = UnixMs::new(1_795_348_800_000);
const HOUR: Duration = Duration::from_hours(1);

fn berlin() -> Display {
    Display { zone: TimeZone::get("Europe/Berlin").unwrap(), ..Display::default() }
}

fn opened(state: State) -> Head {
    Head {
        schema: Head::SCHEMA,
        id: IncidentId::new("abc"),
        card: "c".into(),
        labels: labels(&[("alertname", "Down"), ("ns", "web")]),
        version: 1,
        writer: "w".into(),
        state,
        generation: Gen(NOON.minus(HOUR).get()),
        epoch: 1,
        owner: None,
        lease_until: None,
        attempts: 1,
        slices: 0,
        turn: 1,
        not_before: NOON,
        sent_at: None,
        sends: 0,
        reopen_after: NOON,
        began: Some(NOON.minus(HOUR)),
        seen: None,
        resolved_at: None,
        again: None,
        digest: String::new(),
        known: Members::default(),
        firing: Members::default(),
        truncated: false,
        deliveries: vec![],
        verdict: None,
        reason: None,
        openings: None,
        ttl: None,
        deleted: None,
        chain: vec![],
        signed: None,
    }
}

fn notification(alerts: Vec<Alert>) -> Notification {
    Notification { card: "c".into(), key_labels: Labels::new(), envelope: envelope(&[]), alerts }
}

fn down(more: &[(&str, &str)], hours_ago: u64) -> Alert {
    let starts_at = Some(NOON.minus(HOUR * u32::try_from(hours_ago).unwrap()));
    Alert { starts_at, ..alert("Down", more) }
}

fn quote(id: &str, quote: &str, found: bool) -> Citation {
    Citation { id: id.into(), quote: quote.into(), found: Some(found) }
}

fn cause(statement: &str, confidence: f64, evidence: Vec<Citation>) -> Statement {
    let supported = Some(evidence.iter().any(|c| c.found == Some(true)));
    Statement { statement: statement.into(), confidence: Some(confidence), evidence, supported }
}

fn report(hypotheses: Vec<Statement>) -> Report {
    Report {
        verdict: Verdict::ActionRequired,
        title: "api is out of memory".into(),
        summary: "It is killed at its limit.".into(),
        hypotheses,
        ruled_out: vec![],
        gaps: vec![],
        next_steps: vec![NextStep { action: "raise the limit".into(), why: "it is reached".into() }],
        checklist: vec![],
        notes: vec![],
        source: ReportSource::Model,
        model: None,
        usage: Usage::default(),
        truncated_alerts: 0,
    }
}

fn beside(display: Display) -> Beside {
    Beside { outputs: Arc::from([]), openings: vec![], display: Arc::new(display), now: NOON }
}

fn view(head: &Head, notification: Option<&Notification>, report: Option<&Report>) -> View {
    View::of(Stored { head, notification, report, beside: &beside(berlin()) })
}

#[test]
fn the_first_look_is_the_cause_that_its_quotes_carry_with_its_quote_and_the_first_step() {
    let text = "see https://ci.example/7";
    let output =
        |id: &str, tool: &str, text: &str| Output { id: id.into(), tool: tool.into(), text: text.into() };
    let vector = r#"{"result":[{"metric":{"pod":"api-1"},"value":[1795345200,"0"]}]}"#;
    let outputs = Arc::from([output("E2", "prom.query", vector), output("E1", "k8s.get", text)]);
    let report = report(vec![
        cause("Invented", 0.9, vec![quote("E1", "nowhere to be found", false)]),
        cause(
            "Out of memory",
            1.8,
            vec![quote("E1", "not there", false), quote("E2", r#"[1795345200,"0"]"#, true)],
        ),
    ]);
    let head = opened(State::Done);
    let display = Display {
        link_hosts: vec!["ci.example".into()],
        console: Some(Url::parse("https://s.example/x/").unwrap()),
        ..berlin()
    };
    let beside = Beside { outputs, ..beside(display) };
    let view = View::of(Stored { head: &head, notification: None, report: Some(&report), beside: &beside });
    assert_eq!((view.standing, &*view.title), (Standing::ActionRequired, "api is out of memory"));
    let cause = view.cause.as_ref().unwrap();
    assert_eq!(
        (&*cause.statement, cause.confidence, cause.supported, cause.found()),
        ("Out of memory", Some(1.0), true, 1)
    );
    let best = cause.best_quote().unwrap();
    assert_eq!((&*best.evidence, best.tool.as_deref()), ("E2", Some("prom.query")));
    assert_eq!(best.said.as_deref(), Some("pod=api-1: 0 at 12:00 CET"));
    assert_eq!(view.next_step.as_ref().unwrap().action, "raise the limit");
    assert_eq!(view.link(LinkKind::Page).unwrap().address, "https://s.example/x/incidents/abc");
    assert_eq!(view.link(LinkKind::Evidence).unwrap().address, "https://ci.example/7");
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(
        serde_json::from_str::<View>(&text).unwrap(),
        view,
        "the command line reads what the service says"
    );
}

#[test]
fn an_unsupported_cause_is_shown_as_such_where_there_is_no_other() {
    let report = report(vec![cause("Invented", 0.9, vec![quote("E9", "nowhere", false)])]);
    let view = view(&opened(State::Done), None, Some(&report));
    let cause = view.cause.unwrap();
    assert!(!cause.supported && cause.best_quote().is_none());
}

#[test]
fn how_it_stands_follows_the_state_and_then_the_verdict() {
    let evidence_only = Report { source: ReportSource::EvidenceOnly, ..report(vec![]) };
    let stands = |state, report: Option<&Report>| view(&opened(state), None, report).standing;
    assert_eq!(stands(State::Pending, None), Standing::Investigating);
    assert_eq!(stands(State::Running, None), Standing::Investigating);
    assert_eq!(stands(State::Failed, None), Standing::NotInvestigated);
    assert_eq!(stands(State::Aborted, None), Standing::Aborted);
    assert_eq!(stands(State::Suppressed, None), Standing::FiresAgain);
    assert_eq!(stands(State::Done, Some(&evidence_only)), Standing::EvidenceOnly);
    assert_eq!(stands(State::Done, None), Standing::Inconclusive, "a report that cannot be read");
    let over = Head { resolved_at: Some(NOON), ..opened(State::Suppressed) };
    assert_eq!(view(&over, None, None).standing, Standing::ResolvedByItself);
}

#[test]
fn several_alerts_are_told_by_the_labels_in_which_they_differ_at_most_five_and_the_count() {
    let mut alerts: Vec<Alert> = (0..9)
        .map(|n| down(&[("pod", &format!("api-{n}")), ("ns", "web"), ("severity", "info")], 2))
        .collect();
    alerts[0].status = crate::alert::AlertStatus::Resolved;
    alerts[8].labels.insert("severity".into(), "critical".into());
    let affected = view(&opened(State::Done), Some(&notification(alerts.clone())), None).affected;
    assert_eq!(affected.objects, ["pod=api-1", "pod=api-2", "pod=api-3", "pod=api-4", "pod=api-5"]);
    assert_eq!((affected.count, affected.firing, affected.left_out), (9, 8, 0));
    let severity =
        |alerts: Vec<Alert>| view(&opened(State::Done), Some(&notification(alerts)), None).severity;
    assert_eq!(severity(alerts.clone()).unwrap(), "critical", "the worst");
    alerts[8].status = crate::alert::AlertStatus::Resolved;
    assert_eq!(severity(alerts).unwrap(), "info", "the worst of what fires");
}

#[test]
fn one_alert_is_told_by_what_the_key_has_not_without_who_collected_it() {
    let one = down(
        &[
            ("ns", "web"),
            ("pod", "api-1"),
            ("severity", "page"),
            ("job", "kube-state-metrics"),
            ("container", "kube-state-metrics"),
            ("uid", "5b0f"),
        ],
        2,
    );
    let affected = view(&opened(State::Done), Some(&notification(vec![one])), None).affected;
    assert_eq!(affected.objects, ["pod=api-1"]);
    assert_eq!(view(&opened(State::Done), None, None).affected, Affected::default());
}

#[test]
fn it_fires_since_the_first_that_fires_and_has_lasted_until_all_had_ended() {
    let alerts = notification(vec![down(&[("pod", "a")], 26), down(&[("pod", "b")], 3)]);
    let firing = view(&opened(State::Done), Some(&alerts), None).firing;
    let since = firing.since.unwrap();
    assert_eq!((&*since.local, &*since.distance), ("21 Nov 11:00 CET", "1 d 2 h"));
    assert_eq!((firing.resolved, firing.lasted), (None, None));

    let over = Head { resolved_at: Some(NOON.minus(HOUR)), ..opened(State::Done) };
    let firing = view(&over, Some(&alerts), None).firing;
    assert_eq!(firing.lasted.as_deref(), Some("1 d 1 h"));
    assert_eq!(
        firing.to_string(),
        "21 Nov 11:00 CET, 1 d 2 h ago; resolved 12:00 CET, 1 h ago, after 1 d 1 h"
    );
    assert_eq!(format!("{firing:#}"), "21 Nov 11:00 CET; resolved 12:00 CET, after 1 d 1 h");

    let again = Again { since: NOON.minus(HOUR), not_before: NOON.plus(HOUR) };
    let mut members = Members::default();
    members.insert(crate::incident::MemberId(1));
    let again = Head { again: Some(again), firing: members, ..over };
    let firing = view(&again, Some(&alerts), None).firing;
    assert_eq!(firing.resolved, None);
    assert_eq!(firing.again_not_before.unwrap().local, "14:00 CET");
    let silent = view(&Head { began: None, ..opened(State::Done) }, None, None).firing;
    assert_eq!(silent.since, None, "nobody says since when");
}

#[test]
fn what_came_before_within_seven_days_is_counted_with_this_time() {
    let head = opened(State::Done);
    let before = |hours: u64| Gen(head.generation.0 - i64::try_from(hours).unwrap() * 3_600_000);
    let recurrence = |openings: &[Gen]| {
        let beside = Beside { openings: openings.to_vec(), ..beside(berlin()) };
        View::of(Stored { head: &head, notification: None, report: None, beside: &beside }).recurrence
    };
    assert_eq!(recurrence(&[head.generation, before(24 * 7)]), None, "seven days ago is long ago");
    let third = recurrence(&[before(30), head.generation, before(20), Gen(head.generation.0 + 1)]).unwrap();
    assert_eq!(
        (third.to_string(), third.before.local),
        ("third time in 7 days, before on 21 Nov 16:00 CET".to_owned(), "21 Nov 16:00 CET".to_owned())
    );
    let said = |count| Recurrence { count, before: third_before() }.to_string();
    let all = [2, 4, 11, 12, 13, 21, 22, 23, 101, 111, 112, 113].map(said);
    let words: Vec<&str> = all.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(
        words,
        ["second", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st", "111th", "112th", "113th"]
    );
}

fn third_before() -> When {
    When::of(NOON, NOON, &TimeZone::UTC)
}

#[test]
fn a_card_fills_in_what_its_alerts_do_not_annotate() {
    let mut own = down(&[], 1);
    own.annotations = labels(&[("summary", "it is down")]);
    let defaults = labels(&[("summary", "of the card"), ("runbook", "https://wiki.example/down")]);
    let display = Display { annotations: [("c".to_owned(), defaults)].into(), ..berlin() };
    let head = Head { card: "c".into(), ..opened(State::Done) };
    let told = notification(vec![own]);
    let beside = beside(display);
    let view = View::of(Stored { head: &head, notification: Some(&told), report: None, beside: &beside });
    assert_eq!(view.alert.as_deref(), Some("it is down"));
    assert_eq!(view.link(LinkKind::Runbook).unwrap().address, "https://wiki.example/down");
}

#[test]
fn who_was_told_is_in_it_and_every_text_is_bounded() {
    let delivery = Delivery {
        key: DeliveryKey { event: Event::Findings, sink: "slack:ops".into() },
        state: DeliveryState::Failed,
        at: NOON,
        tries: 3,
        claimer: None,
        remote: None,
        rearmed: false,
        armed: None,
        error: None,
    };
    let long = "x".repeat(1 << 20);
    let head = Head { deliveries: vec![delivery], reason: Some(long.clone()), ..opened(State::Failed) };
    let mut told = down(&[("pod", &long)], 1);
    told.annotations = labels(&[("summary", &long)]);
    let mut report = report(vec![cause(&long, 0.5, vec![quote("E1", &long, true)])]);
    report.title = long;
    let view = view(&head, Some(&notification(vec![told])), Some(&report));
    let sent = ToldTo { sink: "slack:ops".into(), event: Event::Findings, state: DeliveryState::Failed };
    assert_eq!(view.told, [sent]);
    let size = serde_json::to_string(&view).unwrap().len();
    assert!(size < 20 * LONGEST_TEXT, "{size} bytes");
}
