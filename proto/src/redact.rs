//! `Debug` of messages that may hold a private key: what is there and how long, never the content.

use std::fmt;

use crate::envoy::config::core::v3::DataSource;
use crate::envoy::config::core::v3::data_source::Specifier;

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSource")
            .field("specifier", &self.specifier)
            .field("watched_directory", &self.watched_directory)
            .finish()
    }
}

impl fmt::Debug for Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filename(name) => write!(f, "Filename({name:?})"),
            Self::EnvironmentVariable(name) => write!(f, "EnvironmentVariable({name:?})"),
            Self::InlineBytes(bytes) => write!(f, "InlineBytes({} bytes)", bytes.len()),
            Self::InlineString(text) => write!(f, "InlineString({} bytes)", text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Any;
    use crate::envoy::config::core::v3::DataSource;
    use crate::envoy::config::core::v3::data_source::Specifier;
    use crate::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};

    #[test]
    fn no_debug_output_shows_a_key() {
        for specifier in
            [Specifier::InlineString("SECRET-KEY".into()), Specifier::InlineBytes("SECRET-KEY".into())]
        {
            let certificate = TlsCertificate {
                private_key: Some(DataSource { specifier: Some(specifier), watched_directory: None }),
                ..Default::default()
            };
            let secret =
                Secret { name: "default".into(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
            let text = format!("{secret:?} {:?}", Any::pack(&secret));
            assert!(text.contains("(10 bytes)"), "{text}");
            let bytes = format!("{:?}", "SECRET".as_bytes());
            assert!(!text.contains("SECRET") && !text.contains(bytes.trim_matches(['[', ']'])));
        }
    }
}
