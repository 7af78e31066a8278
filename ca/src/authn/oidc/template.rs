//! Templates that make names of claims.

use eastwest_identity::is_dns_label;
use thiserror::Error;

/// Why a template is none, or makes no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Braces that are not in pairs, or without a name between them.
    #[error("a claim is written {{name}}")]
    Braces,
    /// The parts between the claims can be no part of a name.
    #[error("{0:?} can never be a name: use a-z, 0-9 and '-' around {{claims}}")]
    Literal(String),
    /// Two claims side by side: different jobs could make the same name.
    #[error("two claims need a character between them, else different jobs could get one name")]
    Adjacent,
    /// The job has no such claim.
    #[error("the job has no claim {0:?} that is text")]
    Missing(String),
    /// The claim is no DNS label, so it could change the meaning of the name around it.
    #[error("the claim {0:?} is no DNS label")]
    Value(String),
}

/// A name, parts of which are claims: `ci-{environment}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Claim(String),
}

impl Template {
    /// Reads a template; `is_name` says what a name is.
    ///
    /// # Errors
    /// Braces out of order, or literals that no name can have.
    pub fn parse(text: &str, is_name: fn(&str) -> bool) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (claim, after) = after.split_once('}').ok_or(TemplateError::Braces)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if claim.is_empty() || !claim.chars().all(plain) || literal.contains('}') {
                return Err(TemplateError::Braces);
            }
            match (literal, parts.is_empty()) {
                ("", true) => {}
                ("", false) => return Err(TemplateError::Adjacent),
                (literal, _) => parts.push(Part::Literal(literal.to_owned())),
            }
            parts.push(Part::Claim(claim.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(TemplateError::Braces);
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let template = Self(parts);
        match template.fill(|_| Some("a")) {
            Ok(example) if is_name(&example) => Ok(template),
            _ => Err(TemplateError::Literal(text.to_owned())),
        }
    }

    /// The name for these claims, each of which must be a DNS label by itself.
    ///
    /// # Errors
    /// A claim that is missing or no DNS label.
    pub fn fill<'a>(&self, claim: impl Fn(&str) -> Option<&'a str>) -> Result<String, TemplateError> {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => Ok(text.as_str()),
            Part::Claim(name) => {
                let value = claim(name).ok_or_else(|| TemplateError::Missing(name.clone()))?;
                is_dns_label(value).then_some(value).ok_or_else(|| TemplateError::Value(name.clone()))
            }
        });
        parts.collect()
    }

    /// Whether some claims make this name.
    pub fn can_make(&self, name: &str) -> bool {
        can_make(&self.0, name)
    }
}

/// Tries every end of the first claim; there are few claims and names are short.
fn can_make(parts: &[Part], name: &str) -> bool {
    match parts.split_first() {
        None => name.is_empty(),
        Some((Part::Literal(text), rest)) => {
            name.strip_prefix(&**text).is_some_and(|name| can_make(rest, name))
        }
        Some((Part::Claim(_), rest)) => {
            (1..=name.len()).any(|end| is_dns_label(&name[..end]) && can_make(rest, &name[end..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use eastwest_identity::is_dns_subdomain;

    use super::*;

    #[test]
    fn names_are_made_of_dns_labels_alone() {
        let template = Template::parse("ci-{env}.{team}", is_dns_subdomain).unwrap();
        let fill = |env: &'static str, team: &'static str| {
            template.fill(|claim| {
                [("env", env), ("team", team)].into_iter().find(|(name, _)| *name == claim).map(|(_, v)| v)
            })
        };
        assert_eq!(fill("prod", "a-1").as_deref(), Ok("ci-prod.a-1"));
        for bad in ["", "a.b", "a/b", "Prod", "-a", "a-", "\u{e4}", "a b", "..", &*"a".repeat(64).leak()] {
            assert!(fill(bad, "x").is_err(), "{bad:?}");
        }
        assert!(template.fill(|_| None).is_err());
        for (name, can) in [("ci-prod.x", true), ("ci-.x", false), ("ci-prod", false), ("prod.x", false)] {
            assert_eq!(template.can_make(name), can, "{name}");
        }
    }

    #[test]
    fn templates_that_are_none() {
        for bad in [
            "", "{", "}", "{}", "a{b", "a}b", "{a b}", "{{a}}", "{a}{b}", "A-{b}", "x/{b}", "-{b}", "{b}-",
            "{b}.", "x y",
        ] {
            assert!(Template::parse(bad, is_dns_subdomain).is_err(), "{bad:?}");
        }
        let fixed = Template::parse("shop", is_dns_label).unwrap();
        assert!(fixed.can_make("shop") && !fixed.can_make("shop2"));
        assert!(Template::parse("a.{b}", is_dns_label).is_err(), "a namespace has no dots");
    }
}
