use serde_json::{Value, json};

use super::kinds::{ALERT, FILTERS, Kind, RESOURCE, TESTS, VARIABLES};
use super::*;

fn environment() -> Environment<'static> {
    super::environment(UndefinedBehavior::Chainable)
}

/// What is wrong with a template, by line.
fn wrong(text: &str) -> Vec<(u32, String)> {
    let checked = check(&environment(), text).unwrap();
    checked.problems.into_iter().map(|p| (p.line, p.message)).collect()
}

fn variables() -> Value {
    json!({
        "now": "noon", "truncated_alerts": 0,
        "labels": {"pod": "a", "n": "3"},
        "label_values": {"queue": ["mail", "pay"]},
        "alert": {"labels": {"pod": "a"}, "annotations": {}, "values": {}},
        "alerts": [{"labels": {"pod": "a", "queue": "mail"}}, {"labels": {"pod": "a"}}],
    })
}

fn render(text: &str) -> Rendered {
    let environment = environment();
    let checked = check(&environment, text).unwrap();
    assert_eq!(checked.problems, [], "{text}");
    let differing = BTreeSet::from(["labels.queue".to_owned()]);
    Template::new(text, checked).render(&environment, &variables(), &differing, 1 << 22)
}

#[test]
fn what_can_be_known_without_an_alert_is_found_on_every_path() {
    for (text, line, message) in [
        ("{{ alert.starts_at }}", 1, "alert has no field starts_at"),
        ("{{ alert['startsat'] }}", 1, "alert has no field startsat"),
        (
            "{% if truncated_alerts > 90 %}\n{{ labels.a | nofilter }}{% endif %}",
            2,
            "unknown filter nofilter",
        ),
        ("{% if false %}{% else %}{{ lables.a }}{% endif %}", 1, "unknown variable lables"),
        ("{% for a in alerts %}\n\n{{ a.label.pod }}{% endfor %}", 3, "a has no field label"),
        ("{% for a in alerts if a.state == 'x' %}{% endfor %}", 1, "a has no field state"),
        ("{% set first = alerts | first %}{{ first.starts }}", 1, "first has no field starts"),
        ("{{ alerts[0].start }}", 1, "alerts.0 has no field start"),
        ("{{ alerts.labels }}", 1, "alerts has no field labels"),
        ("{{ labels.pod.name }}", 1, "labels.pod has no field name"),
        ("{{ resource.title }}", 1, "resource has no field title"),
        ("{% for a in alerts %}{{ loop.number }}{% endfor %}", 1, "loop has no field number"),
        ("{{ labels.a is gone }}", 1, "unknown test gone"),
        ("{{ 'x' if labels.a is gone else 'y' }}", 1, "unknown test gone"),
        ("{{ alerts | map('nofilter') | join }}", 1, "unknown filter nofilter"),
        ("{{ alerts | selectattr('state', 'eq', 'x') | list }}", 1, "an alert has no field state"),
        ("{{ alerts | selectattr('status', 'is', 'x') | list }}", 1, "unknown test is"),
        ("{{ alerts | map(attribute='lables.pod') | join }}", 1, "an alert has no field lables"),
        ("{{ labels.items() }}", 1, "unknown method items"),
        ("{{ strftime(now) }}", 1, "unknown function strftime"),
        ("{{ now | default('a', 'b', 'c') }}", 1, "the filter default: too many arguments"),
        ("{{ now | replace('a') }}", 1, "the filter replace: missing argument"),
        ("{% if labels.a %}{% set b = 1 %}{% endif %}{{ b }}", 1, "unknown variable b"),
        ("{{ now | shown_if_missing(0) }}", 1, "unknown filter shown_if_missing"),
    ] {
        assert_eq!(wrong(text), [(line, message.to_owned())], "{text}");
    }
}

#[test]
fn what_only_a_sender_knows_is_no_problem() {
    for text in [
        "{{ labels.anything }} {{ alert.annotations.x }} {{ alert.values.A }} {{ group_labels['y'] }}",
        "{% for name, value in labels | items %}{{ name }}={{ value | upper }}{% endfor %}",
        "{% for name, all in label_values | items %}{{ all | join(', ') }}{% endfor %}",
        "{% for a in alerts | sort(attribute='startsAt') %}{{ loop.index }} {{ a.labels.pod }}{% endfor %}",
        "{% if labels.a %}{% set b = 1 %}{% else %}{% set b = 2 %}{% endif %}{{ b }}",
        "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}",
        "{{ alerts | selectattr('labels.pod', 'eq', 'a') | list | length }} {{ range(3) | join }}",
        "{% with x = alert.labels %}{{ x.pod }}{% endwith %}{% filter upper %}a{% endfilter %}",
    ] {
        assert_eq!(wrong(text), [], "{text}");
    }
}

#[test]
fn the_nearest_name_is_told() {
    let help = |text: &str| check(&environment(), text).unwrap().problems[0].help.clone();
    assert!(help("{{ alert.starts_at }}").starts_with("the nearest known one is startsAt;"));
    assert!(help("{{ labels.a | uper }}").starts_with("the nearest known one is upper;"));
    assert!(help("{{ anotations.a }}").starts_with("the nearest known one is annotations;"));
}

#[test]
fn every_name_that_is_told_exists() {
    let environment = environment();
    for filter in FILTERS {
        let tried = environment.empty_state().apply_filter(filter, &[minijinja::Value::from("x")]);
        assert!(tried.err().is_none_or(|e| e.kind() != ErrorKind::UnknownFilter), "{filter}");
    }
    for test in TESTS {
        let tried = environment.empty_state().perform_test(test, &[minijinja::Value::from("x")]);
        assert!(tried.err().is_none_or(|e| e.kind() != ErrorKind::UnknownTest), "{test}");
    }
}

#[test]
fn the_fields_that_are_known_are_those_that_a_situation_has() {
    use sentinel_testkit::builders::{NOON, alert, card, notification};
    let told = notification("c", [alert("X").label("pod", "a")]);
    let situation = crate::situation::Situation::of(
        &[("d".to_owned(), told)],
        &sentinel_core::incident::Head { digest: "d".into(), ..sentinel_testkit::builders::head("i") },
    );
    let all = situation.unwrap().variables(&card("c").build(), NOON);
    let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let known = |of: &[(&str, Kind)]| of.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(keys(&all), known(&VARIABLES));
    assert_eq!(keys(&all["alert"]), known(&ALERT));
    assert_eq!(keys(&all["resource"]), known(&RESOURCE));
}

#[test]
fn what_is_missing_is_seen_in_its_place_and_told_and_the_rest_stands() {
    for (text, want, told) in [
        ("a {{ labels.zone }} b", "a (missing: labels.zone) b", vec!["labels.zone is missing"]),
        (
            "{{ labels['queue'] }}",
            "(the alerts differ in it: labels.queue)",
            vec!["the alerts differ in labels.queue: label_values.queue has all of its values"],
        ),
        ("{{ labels.zone | lower }}.", "(missing: labels.zone).", vec!["labels.zone is missing"]),
        ("{{ labels.zone | tojson }}", "\"(missing: labels.zone)\"", vec!["labels.zone is missing"]),
        ("{{ 'in ' ~ labels.zone }}", "in (missing: labels.zone)", vec!["labels.zone is missing"]),
        ("{% set z = labels.zone %}{{ z }}", "(missing: z)", vec!["z is missing"]),
        (
            "{{ label_values.zone | join(', ') }}",
            "(missing: label_values.zone)",
            vec!["label_values.zone is missing"],
        ),
        (
            "{{ (alerts | last).labels.queue }}",
            "(missing: (alerts | last).labels.queue)",
            vec!["(alerts | last).labels.queue is missing"],
        ),
        ("{{ labels.zone or labels.rack }}", "(missing: labels.rack)", vec!["labels.rack is missing"]),
        (
            "{{ labels.zone | default(labels.rack) }}",
            "(missing: labels.rack)",
            vec!["labels.rack is missing"],
        ),
        (
            "{% for a in alerts %}{{ a.labels.queue }},{% endfor %}",
            "mail,(missing: a.labels.queue),",
            vec!["a.labels.queue is missing"],
        ),
        // Whoever asks whether it is there has thought of it.
        ("{{ labels.zone | default('none') }}", "none", vec![]),
        ("{{ labels.zone | default(labels.pod) }} {{ labels.pod | default(labels.zone) }}", "a a", vec![]),
        ("{% if labels.zone %}x{% endif %}{{ labels.zone is defined }}", "false", vec![]),
        ("{{ 'x' if labels.zone }}{{ labels.zone == 'a' }}", "false", vec![]),
        (
            "{% for v in label_values.zone %}{{ v }}{% endfor %}{{ label_values.queue | join('+') }}",
            "mail+pay",
            vec![],
        ),
        (
            "{{ labels.pod }} {{ alert.labels.pod }} {{ alerts | length }} {{ alerts[0].labels.queue }}",
            "a a 2 mail",
            vec![],
        ),
    ] {
        let Rendered { text: written, unshown } = render(text);
        assert_eq!(written.to_lowercase(), want, "{text}");
        assert_eq!(unshown.iter().map(ToString::to_string).collect::<Vec<_>>(), told, "{text}");
    }
}

#[test]
fn what_fails_costs_its_own_place_and_nothing_else() {
    let text = "one {{ labels.pod + 1 }} two\n{{ labels.pod }}\n{% for x in labels.n | length %}{{ x }}{% endfor %} three {{ labels.zone }}";
    let Rendered { text: written, unshown } = render(text);
    assert_eq!(
        written,
        "one (could not be rendered: labels.pod + 1) two\na\n(could not be rendered: for x in labels.n | length %}{{ \
         x }}{% endfor) three (missing: labels.zone)"
    );
    let told: Vec<_> = unshown.iter().map(|u| (u.line, u.variable.as_str())).collect();
    assert_eq!(
        told,
        [(1, "labels.pod + 1"), (3, "for x in labels.n | length %}{{ x }}{% endfor"), (3, "labels.zone")]
    );
    let Rendered { unshown, .. } =
        render("{{ ('é' ~ now) | label_value }} {{ now + 1 }} {{ now | label_value }}");
    assert_eq!(unshown.len(), 2, "{unshown:?}");
}

#[test]
fn a_template_that_never_ends_is_stopped_and_what_it_wrote_is_kept() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    let Rendered { text, unshown } = render(&format!("kept {endless}"));
    assert!(text.starts_with("kept x") && text.ends_with("(could not be rendered: the rest of it)"));
    assert!(unshown.iter().any(|u| u.to_string().contains("fuel")), "{unshown:?}");
    let many: String = (0..100).map(|_| "{{ now + 1 }}").collect();
    assert!(render(&many).text.ends_with("(could not be rendered: the rest of it)"));
}

proptest::proptest! {
    #[test]
    fn any_template_that_parses_renders_and_its_marks_parse(
        parts in proptest::collection::vec(
            "\\{\\{ (labels\\.a|alert\\[\"labels\"\\]\\.b|now|é|labels\\[labels\\.a\\]|\\(now\\)|a) ?(\\| (upper|length|default\\(labels\\.b\\)|first) ?)?(~ labels\\.b )?\\}\\}|\\{% if labels\\.a %\\}|\\{% endif %\\}|\\{% for a in (alerts|labels|now) %\\}|\\{% endfor %\\}|\\{% set a = labels\\.c %\\}|[a-zé{}%\n]{0,4}",
            0..8,
        ),
    ) {
        let (environment, text) = (environment(), parts.concat());
        if let Ok(checked) = check(&environment, &text) {
            let template = Template::new(&text, checked);
            proptest::prop_assert!(environment.template_from_str(&template.text).is_ok(), "{}", template.text);
            let _ = template.render(&environment, &variables(), &BTreeSet::new(), 1 << 12);
        }
    }
}
