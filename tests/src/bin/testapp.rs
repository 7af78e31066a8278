//! The applications of the whole-system tests: an echo server and its clients.
//!
//! ```text
//! testapp serve NAME [greet:]PORT…      HTTP requests and lines are echoed
//! testapp talk ADDRESS                  standard input to a connection, what comes to standard output
//! testapp once ADDRESS                  one line and its echo; exit 1 if it does not come
//! testapp greeting ADDRESS              the first line that the server says
//! testapp mark ADDRESS TEXT             one datagram
//! testapp load http|tcp HOST ADDRESS    one request after the other; a line of output for each
//! ```

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two requests of a load.
const PAUSE: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", name, ports @ ..] => serve(name, ports),
        ["talk", address] => talk(address),
        ["once", address] => line_and_echo(address, "once"),
        ["greeting", address] => greeting(address),
        ["mark", address, text] => mark(address, text),
        ["load", kind, host, address] => load(kind, host, address),
        _ => Err(anyhow::anyhow!("usage: testapp serve|talk|once|greeting|mark|load …")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, ports: &[&str]) -> Result<()> {
    let mut threads = Vec::new();
    for port in ports {
        let (greets, number) = port.strip_prefix("greet:").map_or((false, *port), |number| (true, number));
        let number: u16 = number.parse()?;
        // At all addresses of both families, where there are two.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, number))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)))
            .context(number)?;
        let name = name.to_owned();
        threads.push(thread::spawn(move || accept(&listener, &name, greets)));
    }
    println!("serving");
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn accept(listener: &TcpListener, name: &str, greets: bool) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        // A client that disconnects ends its thread; the result does not matter.
        thread::spawn(move || answer(stream, &name, greets));
    }
}

/// Answers requests and lines until the client closes the connection.
fn answer(mut stream: TcpStream, name: &str, greets: bool) -> Result<()> {
    if greets {
        stream.write_all(format!("welcome to {name}\n").as_bytes())?;
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let text = line.trim_end();
        if text.contains(" HTTP/1.") {
            let body = describe(name, text, &stream.peer_addr()?, &mut reader)?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            // In one piece: the second of two small ones would wait for an acknowledgement.
            stream.write_all((head + &body).as_bytes())?;
        } else {
            stream.write_all(format!("echo {text}\n").as_bytes())?;
        }
        line.clear();
    }
    Ok(stream.shutdown(Shutdown::Both)?)
}

/// Reads the rest of a request and describes it.
fn describe(
    name: &str,
    request: &str,
    peer: &SocketAddr,
    reader: &mut BufReader<TcpStream>,
) -> Result<String> {
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        if let Some((header, value)) = line.trim_end().split_once(": ") {
            headers.insert(header.to_lowercase(), value.to_owned());
        }
        line.clear();
    }
    if let Some(length) = headers.get("content-length") {
        io::copy(&mut reader.take(length.parse()?), &mut io::sink())?;
    }
    let description = json!({
        "pod": name, "request": request, "peer": peer.ip().to_canonical().to_string(), "headers": headers,
    });
    Ok(description.to_string())
}

fn talk(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    let reader = BufReader::new(stream.try_clone()?);
    let listening = thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            println!("{line}");
        }
        // The other side has closed: so do we, although standard input is still open.
        println!("closed");
        std::process::exit(0);
    });
    for line in io::stdin().lines().map_while(Result::ok) {
        stream.write_all(format!("{line}\n").as_bytes())?;
    }
    let _ = listening.join();
    Ok(())
}

fn line_and_echo(address: &str, text: &str) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(format!("{text}\n").as_bytes())?;
    let expected = format!("echo {text}");
    for line in BufReader::new(stream).lines() {
        if line? == expected {
            return Ok(());
        }
    }
    bail!("closed without an echo");
}

fn greeting(address: &str) -> Result<()> {
    let mut line = String::new();
    BufReader::new(connect(address)?).read_line(&mut line)?;
    println!("{}", line.trim_end());
    Ok(())
}

fn mark(address: &str, text: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let any: IpAddr =
        if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))?.send_to(text.as_bytes(), address)?;
    Ok(())
}

fn load(kind: &str, host: &str, address: &str) -> Result<()> {
    for number in 0_u64.. {
        let done = match kind {
            "http" => request(address, host),
            "tcp" => line_and_echo(address, &number.to_string()),
            _ => bail!("a load is http or tcp, not {kind}"),
        };
        match done {
            Ok(()) => println!("ok"),
            Err(error) => println!("request {number}: {error:#}"),
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn request(address: &str, host: &str) -> Result<()> {
    let mut stream = connect(address)?;
    let head = format!("GET /load HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!("answered {:?}", answer.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.parse()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
