//! `Debug` of messages that may hold a private key or a token: what is there and how long, never the content.

use std::fmt;

use crate::eastwest::v1::CreateJwtSvidResponse;
use crate::envoy::config::core::v3::DataSource;
use crate::envoy::config::core::v3::data_source::Specifier;
use crate::spiffe::{Jwtsvid, ValidateJwtsvidRequest, X509svid};

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

impl fmt::Debug for X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.x509_svid_key.len();
        write!(f, "X509SVID({}, hint {:?}, key of {key} bytes)", self.spiffe_id, self.hint)
    }
}

impl fmt::Debug for Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JWTSVID({}, hint {:?}, {} bytes)", self.spiffe_id, self.hint, self.svid.len())
    }
}

impl fmt::Debug for ValidateJwtsvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidateJWTSVIDRequest({:?}, {} bytes)", self.audience, self.svid.len())
    }
}

impl fmt::Debug for CreateJwtSvidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreateJwtSvidResponse({} bytes)", self.svid.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Any;
    use crate::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
    use crate::spiffe::X509svidResponse;

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

    #[test]
    fn no_debug_output_shows_an_identity_of_the_workload_api() {
        let secret = || "SECRET".to_owned();
        let x509 = X509svid { x509_svid_key: "SECRET".into(), ..Default::default() };
        let texts = [
            format!("{:?}", X509svidResponse { svids: vec![x509], ..Default::default() }),
            format!("{:?}", Jwtsvid { svid: secret(), ..Default::default() }),
            format!("{:?}", ValidateJwtsvidRequest { svid: secret(), ..Default::default() }),
            format!("{:?}", CreateJwtSvidResponse { svid: secret() }),
        ];
        for text in texts {
            assert!(
                text.contains("6 bytes") && !text.contains("SECRET") && !text.contains("83, 69"),
                "{text}"
            );
        }
    }
}
