//! `eastwest ca wait-ready`: for scripts that start a server and need it.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use clap::Args;

use super::{super::runtime, Exit, Failure, Result};
use crate::{
    config::{Problems, duration},
    output::write_out,
    remote,
};

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest time for one answer; then the server is asked again.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct WaitReadyArgs {
    /// HTTP address of `eastwest ca serve` or `eastwest serve`: http://HOST:PORT or HOST:PORT.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15014", env = "EASTWEST_SERVER")]
    server: String,
    /// Longest time to wait.
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "EASTWEST_WAIT_TIMEOUT")]
    timeout: String,
}

impl WaitReadyArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let timeout = problems.take("--timeout", duration(&self.timeout));
        let server = match self.server.contains("://") {
            true => self.server,
            false => format!("http://{}", self.server),
        };
        if !server.starts_with("http://") || server.parse::<http::Uri>().is_err() {
            problems.add("--server", format!("{server:?} is not a URL: write http://HOST:PORT or HOST:PORT"));
        }
        let timeout = timeout.filter(|_| problems.is_empty()).ok_or(Failure::Usage(problems))?;
        runtime()?.block_on(wait(&server, timeout))?;
        write_out(&format!("{server} is ready"))?;
        Ok(Exit::Success)
    }
}

/// Polls until the server is ready or `timeout` is over; then the last reason is the error.
async fn wait(server: &str, timeout: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut progress = Progress::default();
    loop {
        let left = timeout.saturating_sub(begun.elapsed()).max(PAUSE);
        let reason = match tokio::time::timeout(left.min(ANSWER), remote::ready(server)).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(reason))) => reason,
            Ok(Err(error)) => match error.downcast_ref::<remote::Unreachable>() {
                Some(nobody) => format!(
                    "{}: is that the HTTP address of `eastwest ca serve` or `eastwest serve`?",
                    nobody.cause()
                ),
                None => format!("{error:#}"),
            },
            Err(_) => "it does not answer".to_owned(),
        };
        if begun.elapsed() >= timeout {
            return Err(anyhow!("{server} is not ready after {timeout:?}: {reason}"));
        }
        progress.show(begun.elapsed(), server, &reason);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A status line that is rewritten in place, on terminals only, and erased at the end.
#[derive(Default)]
struct Progress(bool);

impl Progress {
    fn show(&mut self, waited: Duration, server: &str, reason: &str) {
        let mut err = std::io::stderr();
        if err.is_terminal() {
            self.0 = true;
            let reason: String = reason.chars().take(60).collect();
            // Nobody to tell it to is no reason to stop waiting.
            let _ = write!(err, "\r\x1b[Kwaiting for {server}, {}s: {reason}", waited.as_secs());
            let _ = err.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
