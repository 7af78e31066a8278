//! The pods and Services of `docs/examples/bookshop`, and a copy of its manifests to edit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A pod of the bookshop.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Kubernetes namespace.
    pub namespace: &'static str,
    /// Name of the pod.
    pub pod: &'static str,
    /// Service account, and the value of its label `app`.
    pub app: &'static str,
    /// The value of its label `version`.
    pub version: &'static str,
    /// Its address.
    pub address: &'static str,
    /// Its other addresses.
    pub more_addresses: &'static [&'static str],
    /// Ports where the application answers HTTP requests and echoes lines.
    pub ports: &'static [u16],
    /// Ports where it greets whoever connects, and then echoes lines.
    pub greeting_ports: &'static [u16],
}

impl Member {
    /// All its addresses.
    pub fn addresses(&self) -> Vec<&'static str> {
        [&[self.address], self.more_addresses].concat()
    }

    /// Its identity in the mesh.
    pub fn spiffe_id(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace, self.app)
    }

    /// Host name of the Service it belongs to.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.app, self.namespace)
    }

    /// ClusterIP of the Service it belongs to. The manifests give a Service at 10.96.1.x to pods
    /// at 10.77.0.x, with the same tens.
    pub fn cluster_ip(&self) -> String {
        let last: u8 = self.address.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        format!("10.96.1.{}", last / 10 * 10)
    }
}

/// Calls the others.
pub const STOREFRONT: Member = Member {
    namespace: "bookshop",
    pod: "storefront-0",
    app: "storefront",
    version: "v1",
    address: "10.77.0.10",
    more_addresses: &[],
    ports: &[8080],
    greeting_ports: &[],
};

/// HTTP; the old version.
pub const CATALOG: Member = Member {
    namespace: "bookshop",
    pod: "catalog-0",
    app: "catalog",
    version: "v1",
    address: "10.77.0.20",
    more_addresses: &[],
    ports: &[8080],
    greeting_ports: &[],
};

/// HTTP; the new version, a subset of its DestinationRule.
pub const CATALOG_NEXT: Member = Member { pod: "catalog-1", version: "v2", address: "10.77.0.21", ..CATALOG };

/// HTTP, and a TCP port where the server speaks first.
pub const ORDERS: Member = Member {
    namespace: "bookshop",
    pod: "orders-0",
    app: "orders",
    version: "v1",
    address: "10.77.0.30",
    more_addresses: &[],
    ports: &[8080],
    greeting_ports: &[5000],
};

/// STRICT, but for the port 9090.
pub const PAYMENTS: Member = Member {
    namespace: "payments",
    pod: "payments-0",
    app: "payments",
    version: "v1",
    address: "10.77.0.40",
    more_addresses: &[],
    ports: &[8080, 6000, 9090],
    greeting_ports: &[],
};

/// Its port 7000 has no declared protocol.
pub const WAREHOUSE: Member = Member {
    namespace: "warehouse",
    pod: "warehouse-0",
    app: "warehouse",
    version: "v1",
    address: "10.77.0.50",
    more_addresses: &[],
    ports: &[7000, 8080],
    greeting_ports: &[],
};

/// Has no sidecar.
pub const LEGACY: Member = Member {
    namespace: "bookshop",
    pod: "legacy-0",
    app: "legacy",
    version: "v1",
    address: "10.77.0.60",
    more_addresses: &[],
    ports: &[8080],
    greeting_ports: &[],
};

/// The folder of the manifests.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/bookshop")
}

/// A copy of the manifests.
#[derive(Debug)]
pub struct Manifests {
    dir: PathBuf,
}

impl Manifests {
    /// Copies the manifests into a new folder.
    pub fn copy_to(dir: &Path) -> Result<Self> {
        let original = manifests();
        fs::create_dir(dir)?;
        for entry in fs::read_dir(&original).with_context(|| format!("no {}", original.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                fs::copy(&path, dir.join(path.file_name().context("a file has a name")?))?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces a file as editors and `kubectl` do: written beside, then renamed.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let draft = self.dir.join(format!(".{file}.draft"));
        fs::write(&draft, text)?;
        Ok(fs::rename(draft, self.dir.join(file))?)
    }

    /// Replaces `from`, which must occur exactly once, in a file.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let text = fs::read_to_string(self.dir.join(file))?;
        if text.matches(from).count() != 1 {
            bail!("{file} does not have exactly one {from:?}");
        }
        self.write(file, &text.replace(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_manifests() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::copy_to(&dir.path().join("copy")).unwrap();
        for member in [STOREFRONT, CATALOG, CATALOG_NEXT, ORDERS, PAYMENTS, WAREHOUSE, LEGACY] {
            let text = fs::read_to_string(manifests.dir().join(format!("{}.yaml", member.app))).unwrap();
            for fact in [
                format!("name: {}\n", member.pod),
                format!("namespace: {}\n", member.namespace),
                format!("serviceAccountName: {}\n", member.app),
                format!("podIP: {}\n", member.address),
                format!("clusterIP: {}\n", member.cluster_ip()),
            ] {
                assert!(text.contains(&fact), "{} lacks {fact}", member.app);
            }
            for port in member.ports.iter().chain(member.greeting_ports) {
                assert!(text.contains(&format!("containerPort: {port}\n")), "{} {port}", member.app);
            }
        }
    }
}
