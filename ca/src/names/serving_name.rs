//! A DNS name or an IP address in a certificate.

use std::{fmt, net::IpAddr, str::FromStr};

use der::asn1::Ia5String;
use rustls_pki_types::ServerName;
use thiserror::Error;
use x509_cert::ext::pkix::name::GeneralName;

use crate::x509::network;

/// A DNS name or IP address in a certificate: in our own serving certificate, or beside the identity of a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServingName {
    /// A DNS name in lower case.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

/// Neither a DNS name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is neither a DNS name nor an IP address; wildcards are not allowed")]
pub struct ServingNameError(String);

impl FromStr for ServingName {
    type Err = ServingNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(name)) => {
                Ok(Self::Dns(name.as_ref().trim_end_matches('.').to_ascii_lowercase()))
            }
            Ok(ServerName::IpAddress(ip)) => Ok(Self::Ip(ip.into())),
            _ => Err(ServingNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for ServingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl ServingName {
    /// The name of this form, if it is a DNS name or an address.
    pub(crate) fn of(name: &GeneralName) -> Option<Result<Self, ServingNameError>> {
        match name {
            GeneralName::DnsName(name) => Some(match name.as_str().parse() {
                Ok(Self::Dns(name)) => Ok(Self::Dns(name)),
                Ok(Self::Ip(_)) | Err(_) => Err(ServingNameError(name.to_string())),
            }),
            GeneralName::IpAddress(bytes) => {
                let address = network::ip(bytes.as_bytes()).map(Self::Ip);
                Some(address.ok_or_else(|| ServingNameError("an address of another length".to_owned())))
            }
            _ => None,
        }
    }

    /// As it stands in a certificate.
    pub(crate) fn general_name(&self) -> der::Result<GeneralName> {
        match self {
            Self::Dns(name) => Ia5String::new(name).map(GeneralName::DnsName),
            Self::Ip(ip) => Ok(GeneralName::from(*ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serving_names() {
        for (text, good) in [
            ("istiod.istio-system.svc", true),
            ("LocalHost.", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("a b", false),
            ("*.a", false),
            ("", false),
        ] {
            assert_eq!(ServingName::from_str(text).is_ok(), good, "{text}");
        }
        assert_eq!(ServingName::from_str("LocalHost."), Ok(ServingName::Dns("localhost".into())));
    }
}
