//! A TCP relay in front of a server, for faults of the network between.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

/// How often a connection looks whether its fault changed.
const POLL: Duration = Duration::from_millis(10);

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// They pass later.
    Delay(Duration),
    /// They are dropped and no side closes: a load balancer that lost the connection.
    Stall,
    /// Connections are reset, new ones too.
    Cut,
}

/// A relay on a port of loopback; it ends when dropped.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    ended: AtomicBool,
}

impl Shared {
    fn mode(&self) -> Mode {
        if self.ended.load(Ordering::Relaxed) {
            return Mode::Cut;
        }
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TcpRelay {
    /// Starts a relay to a port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(upstream: u16, mode: Mode) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let shared = Arc::new(Shared { mode: Mutex::new(mode), ended: AtomicBool::new(false) });
        let relay = Self { address: listener.local_addr()?, shared: shared.clone() };
        thread::spawn(move || accept(&listener, upstream, &shared));
        Ok(relay)
    }

    /// The port of the relay.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes what happens to the bytes, of open connections too.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.mode() == Mode::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
        let Ok((client_again, server_again)) = client.try_clone().and_then(|c| Ok((c, server.try_clone()?)))
        else {
            continue;
        };
        let (forth, back) = (shared.clone(), shared.clone());
        thread::spawn(move || carry(client, server, &forth));
        thread::spawn(move || carry(server_again, client_again, &back));
    }
}

/// Carries bytes one way until an end closes or the mode cuts.
fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    let _ = from.set_read_timeout(Some(POLL));
    let _ = to.set_nodelay(true);
    loop {
        match shared.mode() {
            Mode::Cut => break,
            Mode::Stall => {
                thread::sleep(POLL);
                continue;
            }
            Mode::Pass | Mode::Delay(_) => {}
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        if let Mode::Delay(delay) = shared.mode() {
            thread::sleep(delay);
        }
        // What was read when the stall began is held back too.
        while shared.mode() == Mode::Stall {
            thread::sleep(POLL);
        }
        if shared.mode() == Mode::Cut || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
