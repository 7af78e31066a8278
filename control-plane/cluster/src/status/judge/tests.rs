use eastwest_model::{Kind, ObjectRef, Origin};

use super::*;

const EARLIER: &str = "2026-03-01T08:00:00Z";
const NOW: &str = "2026-03-02T08:00:00Z";

fn finding(severity: Severity, field: &str, message: &str, effect: Option<Effect>) -> Diagnostic {
    let winner = ObjectRef::new(Kind::DestinationRule, "shop", "older");
    Diagnostic {
        severity,
        object: "DestinationRule/shop/a".to_owned(),
        origin: Origin::default(),
        field: field.to_owned(),
        message: message.to_owned(),
        beaten_by: (effect == Some(Effect::Shadowed)).then_some(winner),
        effect,
    }
}

fn summary(findings: &[Diagnostic]) -> Vec<(&'static str, bool, &'static str)> {
    let conditions = judge(&findings.iter().collect::<Vec<_>>(), None, true);
    conditions.iter().map(|one| (one.kind, one.status == TRUE, one.reason)).collect()
}

#[test]
fn errors_refuse_an_object_and_only_typed_findings_take_its_effect_away() {
    let good = [("Accepted", true, "Accepted"), ("Effective", true, "Effective")];
    assert_eq!(summary(&[]), good);
    let advice = finding(Severity::Warning, "spec.host", "is ignored", None);
    assert_eq!(summary(std::slice::from_ref(&advice)), good, "advice");
    let error = finding(Severity::Error, "spec.mtls.mode", "must be one of A, B", None);
    assert_eq!(
        summary(&[error.clone(), advice.clone()]),
        [("Accepted", false, "Invalid"), ("Effective", false, "NoEffect")]
    );
    assert_eq!(judge(&[&error], None, true)[0].message, "spec.mtls.mode: must be one of A, B");
    let lacking = Diagnostic { effect: Some(Effect::None), ..error };
    let message = "spec.mtls.mode: must be one of A, B; no earlier version of it is known, so nothing of it is in force";
    assert_eq!(judge(&[&lacking], None, true)[0].message, message);
    let none = finding(Severity::Warning, "spec.host", "matches no service", Some(Effect::None));
    assert_eq!(summary(std::slice::from_ref(&none))[1], ("Effective", false, "NoEffect"));
    let shadowed = finding(Severity::Warning, "spec", "adds nothing", Some(Effect::Shadowed));
    assert_eq!(summary(&[none, shadowed.clone(), advice])[1], ("Effective", false, "Shadowed"));
    assert_eq!(judge(&[&shadowed], None, true)[1].message, "DestinationRule/shop/older wins: adds nothing");
}

#[test]
fn who_wins_elsewhere_is_named_of_an_object_that_is_in_force() {
    let message = |findings: &[&Diagnostic], overridden: &[ObjectRef]| {
        let overridden: BTreeSet<_> = overridden.iter().cloned().collect();
        let conditions = judge(findings, Some(&overridden), true);
        assert_eq!((conditions[1].status, conditions[1].reason), (TRUE, "Effective"));
        conditions[1].message.clone()
    };
    let older = ObjectRef::new(Kind::DestinationRule, "shop", "older");
    let part = finding(Severity::Warning, "spec", "its traffic policy is ignored", None);
    let part = Diagnostic { beaten_by: Some(older.clone()), ..part };
    assert_eq!(message(&[], &[]), "is in force");
    let told =
        "is in force, but not everywhere; DestinationRule/shop/older wins: its traffic policy is ignored";
    assert_eq!(message(&[&part], std::slice::from_ref(&older)), told);
    let other = ObjectRef::new(Kind::DestinationRule, "blue", "own");
    let told = "is in force, but not everywhere; DestinationRule/blue/own wins for some workloads";
    assert_eq!(message(&[], &[other]), told);
}

#[test]
fn of_a_kind_that_is_not_read_nothing_is_claimed_but_that_it_has_no_effect() {
    let conditions = judge(&[], None, false);
    let said: Vec<_> = conditions.iter().map(|one| (one.kind, one.status, one.reason)).collect();
    assert_eq!(said, [("Accepted", "Unknown", "NotRead"), ("Effective", FALSE, "NoEffect")]);
}

#[test]
fn messages_are_bounded() {
    let error = |at: usize| finding(Severity::Error, "spec", &format!("{at} {}", "ü".repeat(200)), None);
    let errors: Vec<_> = (0..9).map(error).collect();
    let message = &judge(&errors.iter().collect::<Vec<_>>(), None, true)[0].message;
    assert!(message.len() <= LONGEST + 20 && message.ends_with("; and 7 more"), "{message}");
    let long = finding(Severity::Error, "spec", &"ü".repeat(2000), None);
    let message = &judge(&[&long], None, true)[0].message;
    assert!(message.len() <= LONGEST && message.ends_with('…'), "{message}");
}

fn accepted() -> Vec<Condition> {
    judge(&[], None, true)
}

#[test]
fn what_is_written_once_is_not_written_again() {
    let first = merged(&Value::Null, &accepted(), 3, EARLIER).unwrap();
    assert_eq!((first.len(), &first[0]["lastTransitionTime"]), (2, &json!(EARLIER)));
    let first = Value::from(first);
    assert_eq!(merged(&first, &accepted(), 3, NOW), None);
    assert!(shows(&first, &accepted()[0], 3) && !shows(&first, &accepted()[0], 4));
    // As a Go program of Istio would write the number.
    let mut text = first.clone();
    text[0]["observedGeneration"] = json!("3");
    assert_eq!(merged(&text, &accepted(), 3, NOW), None);
    // Another generation with the same status keeps the time.
    let next = merged(&first, &accepted(), 4, NOW).unwrap();
    assert_eq!(
        (&next[0]["observedGeneration"], &next[0]["lastTransitionTime"]),
        (&json!(4), &json!(EARLIER))
    );
}

#[test]
fn a_changed_status_gets_a_new_time_and_conditions_of_others_stay() {
    let theirs = json!({"type": "Reconciled", "status": "True", "lastProbeTime": null, "x": [1]});
    let mut known = merged(&Value::Null, &accepted(), 1, EARLIER).unwrap();
    known.insert(1, theirs.clone());
    known.push(known[0].clone());
    let error = finding(Severity::Error, "spec", "is wrong", None);
    let all = merged(&known.into(), &judge(&[&error], None, true), 2, NOW).unwrap();
    let kinds: Vec<_> = all.iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Accepted", "Reconciled", "Effective"], "each once, in their places");
    assert_eq!((&all[1], &all[0]["lastTransitionTime"]), (&theirs, &json!(NOW)));
    assert_eq!((&all[0]["status"], &all[0]["reason"]), (&json!("False"), &json!("Invalid")));
}
