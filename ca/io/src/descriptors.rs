//! How many file descriptors the process may have.

use std::fs::File;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// What the process keeps for itself: files, watches, connections that it opens.
const RESERVE: u64 = 256;
/// The most connections of one port, however many descriptors there are.
const MOST: u64 = 65_536;

/// Raises the limit of file descriptors as far as the system allows.
pub fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, the limit is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How many connections one gRPC port may have: half of what the process does not need itself.
pub fn connections_of_port() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST * 2 + RESERVE);
    usize::try_from((limit.saturating_sub(RESERVE) / 2).clamp(16, MOST)).unwrap_or(16)
}

/// Whether nothing can be opened any more, because the process or the system has no descriptor left.
pub fn are_exhausted() -> bool {
    const NULL: &str = "/dev/null";
    let no_more = |error: std::io::Error| {
        [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
    };
    File::open(NULL).err().is_some_and(no_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_some_descriptors_are_kept() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let connections = u64::try_from(connections_of_port()).unwrap();
        assert!(current.is_none_or(|limit| limit < 64 || 2 * connections + RESERVE / 2 <= limit));
    }
}
