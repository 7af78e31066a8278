//! The names of files within the Secret `istio-ca-secret`.
//!
//! In a state directory the files of a root keep their names for its life. In the Secret, `ca-key.pem` and `ca-cert.pem`
//! are always those of the root that signs, because istiod and other programs read them so; the first root has the names
//! `ca-1-key.pem` and `ca-1-cert.pem` once another one signs.

use eastwest_ca::rotation::Rotation;
use eastwest_ca_server::root_files::{ROTATION, names};

use super::data::Data;

/// The generation that signs, by the record of the rotation.
pub(super) fn active(data: &Data) -> u32 {
    let record = data.0.get(ROTATION).and_then(|text| serde_json::from_slice::<Rotation>(text).ok());
    record.map_or(1, |rotation| rotation.active().generation)
}

/// The key of the Secret that has the file `name` while the generation `active` signs.
pub(super) fn key_of(name: &str, active: u32) -> String {
    exchange(name, active).unwrap_or_else(|| name.to_owned())
}

/// The other name of a file that has one: that of the first root becomes `ca-1-…`, that of the active root `ca-…`.
fn exchange(name: &str, active: u32) -> Option<String> {
    if active == 1 {
        return None;
    }
    let (first, of_active) = (names(1), names(active));
    if name == of_active.0 {
        Some(first.0)
    } else if name == of_active.1 {
        Some(first.1)
    } else if name == first.0 {
        Some("ca-1-key.pem".to_owned())
    } else if name == first.1 {
        Some("ca-1-cert.pem".to_owned())
    } else {
        None
    }
}

/// The file that a key of the Secret has while the generation `active` signs.
fn file_of(key: &str, active: u32) -> String {
    if active == 1 {
        return key.to_owned();
    }
    let (first, of_active) = (names(1), names(active));
    match key {
        "ca-1-key.pem" => first.0,
        "ca-1-cert.pem" => first.1,
        key if key == first.0 => of_active.0,
        key if key == first.1 => of_active.1,
        key => key.to_owned(),
    }
}

/// The files that a Secret has.
pub(super) fn files(secret: &Data) -> Data {
    let active = active(secret);
    Data(secret.0.iter().map(|(key, content)| (file_of(key, active), content.clone())).collect())
}

/// The Secret that has these files.
pub(super) fn secret(files: &Data) -> Data {
    let active = active(files);
    Data(files.0.iter().map(|(name, content)| (key_of(name, active), content.clone())).collect())
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn data(names: &[&str], active: u32) -> Data {
        let slot = format!(
            r#"{{"generation":{active},"sha256":"x","not_before":"2026-01-01T00:00:00Z","not_after":"2036-01-01T00:00:00Z"}}"#
        );
        let record = format!(r#"{{"active":{slot},"phase":"steady"}}"#);
        let one = |name: &&str| ((*name).to_owned(), Zeroizing::new(name.as_bytes().to_vec()));
        let mut data = Data(names.iter().map(one).collect());
        if active > 0 {
            data.0.insert(ROTATION.to_owned(), Zeroizing::new(record.into_bytes()));
        }
        data
    }

    fn of(data: &Data, key: &str) -> String {
        String::from_utf8(data.0[key].to_vec()).unwrap()
    }

    #[test]
    fn what_signs_is_where_istiod_looks_for_it() {
        let all =
            ["ca-key.pem", "ca-cert.pem", "ca-2-key.pem", "ca-2-cert.pem", "ca-3-key.pem", "ca-3-cert.pem"];
        for active in [0, 1, 2, 3] {
            let logical = data(&all, active);
            let physical = secret(&logical);
            let wanted = if active < 2 { "ca-key.pem".to_owned() } else { format!("ca-{active}-key.pem") };
            assert_eq!(of(&physical, "ca-key.pem"), wanted);
            assert_eq!(files(&physical), logical, "{active}");
        }
        let physical = secret(&data(&all, 2));
        assert_eq!(of(&physical, "ca-1-cert.pem"), "ca-cert.pem");
        assert_eq!(of(&physical, "ca-3-cert.pem"), "ca-3-cert.pem");
        assert!(!physical.0.contains_key("ca-2-key.pem"));
        assert_eq!(key_of("ca-2-cert.pem", 2), "ca-cert.pem");
    }
}
