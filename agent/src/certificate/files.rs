//! `--write-certs`: the certificate as files, for programs that do not use SDS.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_io::files::{PUBLIC, SECRET, replace};
use tokio::sync::watch;

use super::svid::Svid;

/// Writes each new certificate into `dir` and then sends it to `written`, so that a receiver of that channel finds the
/// files. A failure is logged; the next certificate is tried again. Ends with the sender of `held`.
pub(crate) async fn follow(
    mut held: watch::Receiver<Option<Arc<Svid>>>,
    dir: PathBuf,
    written: watch::Sender<Option<Arc<Svid>>>,
) {
    while held.changed().await.is_ok() {
        let svid = held.borrow_and_update().clone();
        if let Some(svid) = &svid
            && let Err(error) = write(svid, &dir)
        {
            tracing::error!("cannot write to {}: {error}; is --write-certs writable?", dir.display());
        }
        written.send_replace(svid);
    }
}

/// Replaces each file as a whole, the key first: a reader that waits for `cert-chain.pem` to change finds the key that
/// belongs to it.
pub(crate) fn write(svid: &Svid, dir: &Path) -> io::Result<()> {
    replace(&dir.join("key.pem"), svid.key_pem.as_bytes(), SECRET)?;
    replace(&dir.join("root-cert.pem"), svid.bundle_pem.as_bytes(), PUBLIC)?;
    replace(&dir.join("cert-chain.pem"), svid.chain_pem.as_bytes(), PUBLIC)
}
