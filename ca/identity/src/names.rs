//! Names as Kubernetes and DNS allow them.

use std::sync::Arc;

/// A short shared text: a namespace, an object's name, a label value, …
pub type Name = Arc<str>;

/// Whether a text is a DNS label (RFC 1123) of at most 63 bytes in lower case, as every namespace is.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_label_of_any_length(text)
}

/// Whether a text is a DNS subdomain of at most 253 bytes in lower case, as names of objects are.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label_of_any_length)
}

fn is_dns_label_of_any_length(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}
