//! `--write-certs`: the certificate held as files, for programs that read no SDS.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::svid::Svid;
use crate::files::{PRIVATE, PUBLIC, write_atomically};

/// Writes every certificate that comes into `dir`, and then passes it on: who waits for the second channel
/// finds the files. A failure is logged; the next certificate is another chance. Ends with the sender.
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

/// Each file is replaced in one step, the key first: a reader that waits for `cert-chain.pem` to change
/// finds the key that belongs to it.
pub(crate) fn write(svid: &Svid, dir: &Path) -> io::Result<()> {
    write_atomically(&dir.join("key.pem"), svid.key_pem.as_bytes(), PRIVATE)?;
    write_atomically(&dir.join("root-cert.pem"), svid.bundle_pem.as_bytes(), PUBLIC)?;
    write_atomically(&dir.join("cert-chain.pem"), svid.chain_pem.as_bytes(), PUBLIC)
}
