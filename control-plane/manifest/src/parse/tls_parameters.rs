//! Cipher suites and curves: Envoy refuses a whole secret, and with it each cluster that uses it, for one that it does not
//! know.

use std::collections::BTreeSet;

use eastwest_model::Name;

use crate::{field::Field, spelling};

/// The cipher suites of TLS 1.2 that Envoy takes, by their names in OpenSSL and at IANA.
const CIPHER_SUITES: &[(&str, &str)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    ("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    ("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ("AES256-SHA", "TLS_RSA_WITH_AES_256_CBC_SHA"),
    ("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
];

/// Those of TLS 1.3, which cannot be chosen: all of them are always on.
const CIPHER_SUITES_OF_TLS_1_3: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// The curves that Envoy takes; of each line the first name is written.
const CURVES: &[(&str, &str)] = &[
    ("P-256", "prime256v1"),
    ("P-384", "secp384r1"),
    ("P-521", "secp521r1"),
    ("X25519", "x25519"),
    ("X25519MLKEM768", "X25519MLKEM768"),
];

/// The suites of a list that Envoy takes. Of the others each is an error, and left out.
pub(super) fn cipher_suites(field: &Field<'_>) -> Vec<Name> {
    known(field, CIPHER_SUITES, |item, text| {
        if CIPHER_SUITES_OF_TLS_1_3.contains(&text) {
            item.warn(format_args!(
                "{text:?} is left out: suites of TLS 1.3 are always on and cannot be chosen"
            ));
            return;
        }
        let hint = spelling::did_you_mean(text, CIPHER_SUITES.iter().map(|(name, _)| *name));
        item.left_out(format_args!("{text:?} is no cipher suite that Envoy knows, and is left out{hint}"));
    })
}

/// The curves of a list that Envoy takes, each once. Of the others each is an error, and left out.
pub(super) fn curves(field: &Field<'_>) -> Vec<Name> {
    let curves: Vec<&str> = CURVES.iter().map(|(name, _)| *name).collect();
    known(field, CURVES, |item, text| {
        item.left_out(format_args!(
            "{text:?} is no curve that Envoy knows, and is left out; known are {}",
            curves.join(", ")
        ));
    })
}

fn known(field: &Field<'_>, names: &[(&str, &str)], unknown: impl Fn(&Field<'_>, &str)) -> Vec<Name> {
    let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
    for item in field.list() {
        let Some(text) = item.text() else { continue };
        match names.iter().find(|(one, other)| text == *one || text == *other) {
            // Envoy refuses a curve that stands twice.
            Some((name, _)) if seen.insert(*name) => list.push((*name).into()),
            Some(_) => item.warn(format_args!("{text:?} stands twice: this one is left out")),
            None => unknown(&item, text),
        }
    }
    list
}
