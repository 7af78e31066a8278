//! Hostile certification requests (CA.md A1 to A8a, and as many again of our own): the exact error.

#![allow(clippy::unwrap_used, reason = "tests")]

mod forge;

use std::collections::BTreeSet;

use eastwest_ca::VerifiedCsr;
use forge::attacks;

/// CA.md A1 to A8a.
#[test]
fn every_hostile_request_gets_its_own_answer() {
    let wrong: Vec<_> = attacks()
        .into_iter()
        .filter_map(|attack| {
            let outcome = VerifiedCsr::from_pem(&attack.text).map(|_| ());
            (outcome != attack.outcome)
                .then(|| format!("{}: {outcome:?}, not {:?}", attack.name, attack.outcome))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_attacks_are_many_and_each_has_a_name() {
    let attacks = attacks();
    let names: BTreeSet<_> = attacks.iter().map(|attack| attack.name).collect();
    assert!(attacks.len() >= 150, "{}", attacks.len());
    // Some games are played with several parts of a request.
    assert!(attacks.len() - names.len() <= 10, "{} of {}", names.len(), attacks.len());
}

/// Errors do not repeat what was sent: it may be a private key.
#[test]
fn no_error_repeats_what_was_sent() {
    for attack in attacks() {
        let Err(error) = VerifiedCsr::from_pem(&attack.text) else { continue };
        for line in attack.text.lines().filter(|line| line.len() > 40 && !line.starts_with('-')) {
            let said = format!("{error} {error:?}");
            assert!(!said.contains(&line[..line.floor_char_boundary(40)]), "{}: {said}", attack.name);
        }
    }
}
