//! What the wire carried.
//!
//! TLS 1.3 encrypts the certificates, so a capture shows that a connection is TLS, for which name
//! it asked (SNI), which protocols it offered (ALPN), and that no payload can be read. Who was at
//! the two ends is seen at the ends: `x-forwarded-client-cert` at the server, `/certs` at both.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::{
    app::url_host,
    netns::{Namespace, port_of},
    process::{Process, run, until},
    programs,
};

/// How long starting and ending a capture may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a capture: packets reach the file late, and what came before this one is there when it is.
const END: &str = "end of the capture";

/// A running capture of one pod's interface.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts capturing at the hub's end of the pod's cable.
    pub fn start(hub: &Namespace, pod: &str, dir: &Path) -> Result<Self> {
        let number = std::fs::read_dir(dir)?.count();
        let file = dir.join(format!("{pod}-{number}.pcap"));
        let mut dumpcap = hub.command("dumpcap");
        dumpcap.args(["-q", "-P", "-f", "tcp or udp port 9", "-i", &port_of(pod), "-w"]).arg(&file);
        let mut process = Process::spawn("dumpcap", dumpcap, &file.with_extension("log"))?;
        // Said when the first packet could be taken.
        process.wait_for_line("File:", PATIENCE)?;
        Ok(Self { process, file })
    }

    /// Ends it, when everything that has passed to and from the pod at `address` is in the file.
    pub fn stop(mut self, hub: &Namespace, address: &str) -> Result<Wire> {
        let mut mark = hub.command(programs::testapp()?);
        mark.args(["mark", &format!("{}:9", url_host(address)), END]);
        run(mark)?;
        let wire = Wire { file: self.file.clone() };
        until("the end of the capture", PATIENCE, || Ok(wire.contains(END)?.then_some(())))?;
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(PATIENCE)?;
        Ok(wire)
    }
}

/// A finished capture.
#[derive(Debug)]
pub struct Wire {
    file: PathBuf,
}

/// What a TLS client said first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientHello {
    /// Whom it called.
    pub destination: String,
    /// Server name indication.
    pub sni: String,
    /// Protocols offered, joined with commas.
    pub alpn: String,
}

/// The two directions of the TCP connections to one port.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Connections that carried bytes.
    pub count: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The first bytes of each direction that is not a sequence of TLS records.
    pub not_tls: Vec<String>,
}

impl Wire {
    /// Whether `text` can be read in any packet.
    pub fn contains(&self, text: &str) -> Result<bool> {
        let bytes = std::fs::read(&self.file)?;
        Ok(bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// All first messages of TLS clients to `port`.
    pub fn client_hellos(&self, port: u16) -> Result<BTreeSet<ClientHello>> {
        let mut tshark = self.tshark();
        // Some of our ports are known as those of other protocols.
        tshark.args(["-d", &format!("tcp.port=={port},tls")]);
        tshark.args(["-Y", &format!("tls.handshake.type == 1 && tcp.dstport == {port}")]);
        tshark.args(["-T", "fields", "-e", "ip.dst", "-e", "ipv6.dst"]);
        tshark.args([
            "-e",
            "tls.handshake.extensions_server_name",
            "-e",
            "tls.handshake.extensions_alpn_str",
        ]);
        let hello = |line: &str| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut next = || fields.next().unwrap_or_default();
            ClientHello { destination: next() + &next(), sni: next(), alpn: next() }
        };
        Ok(run(tshark)?.lines().map(hello).collect())
    }

    /// What the connections to `port` carried, reassembled.
    pub fn streams(&self, port: u16) -> Result<Streams> {
        let mut tshark = self.tshark();
        tshark.args(["-Y", &format!("tcp.dstport == {port} && tcp.len > 0")]);
        tshark.args(["-T", "fields", "-e", "tcp.stream"]);
        let numbers: BTreeSet<String> = run(tshark)?.lines().map(str::to_owned).collect();
        let mut streams = Streams { count: numbers.len(), ..Streams::default() };
        for number in numbers {
            for direction in self.follow(&number)? {
                streams.bytes += direction.len();
                if !is_tls(&direction) {
                    let start = &direction[..direction.len().min(40)];
                    streams.not_tls.push(String::from_utf8_lossy(start).into_owned());
                }
            }
        }
        Ok(streams)
    }

    /// A line about each packet of `protocol` (`tls`, `http`) at `port`, for a person.
    pub fn summary(&self, protocol: &str, port: u16) -> Result<Vec<String>> {
        let mut tshark = self.tshark();
        tshark.args(["-d", &format!("tcp.port=={port},{protocol}")]);
        tshark.args(["-Y", &format!("{protocol} && tcp.port == {port}")]);
        tshark.args(["-T", "fields", "-E", "separator= ", "-e", "ip.src", "-e", "tcp.srcport"]);
        tshark.args(["-e", "ip.dst", "-e", "tcp.dstport", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"]);
        Ok(run(tshark)?.lines().map(str::to_owned).collect())
    }

    /// Bytes of both directions of a stream.
    fn follow(&self, stream: &str) -> Result<[Vec<u8>; 2]> {
        let mut tshark = self.tshark();
        tshark.args(["-q", "-z", &format!("follow,tcp,raw,{stream}")]);
        let mut directions = [Vec::new(), Vec::new()];
        for line in run(tshark)?.lines() {
            // The answers of the server are indented.
            let from_server = usize::from(line.starts_with('\t'));
            let text = line.trim();
            if !text.is_empty() && text.len() % 2 == 0 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                directions[from_server].extend(unhex(text)?);
            }
        }
        Ok(directions)
    }

    fn tshark(&self) -> Command {
        let mut tshark = Command::new("tshark");
        tshark.arg("-n").arg("-r").arg(&self.file);
        tshark
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|d| d as u8).collect();
    if digits.len() != text.len() {
        bail!("not hexadecimal: {text}");
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Whether these bytes are TLS records and nothing else (RFC 8446 section 5.1). The last one may
/// be cut off.
fn is_tls(mut bytes: &[u8]) -> bool {
    while let [kind, major, minor, high, low, rest @ ..] = bytes {
        let known = (20..=23).contains(kind) && *major == 3 && *minor <= 4;
        if !known {
            return false;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_are_tls() {
        assert!(is_tls(&[22, 3, 1, 0, 2, 9, 9, 23, 3, 3, 0, 1, 7]));
        assert!(is_tls(&[23, 3, 3, 0, 9, 1]), "cut off at the end of the capture");
        assert!(!is_tls(b"GET / HTTP/1.1\r\n"));
        assert!(!is_tls(&[22, 3, 1, 0, 1, 9, b'G', b'E', b'T', b' ', b'/']), "plaintext after a record");
        assert!(!is_tls(b"SSH-2.0-x\r\n"));
    }

    #[test]
    fn hexadecimal_comes_back() {
        assert_eq!(unhex("00ff1a").unwrap(), [0, 255, 26]);
    }
}
