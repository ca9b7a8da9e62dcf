//! Statistics in the format of Prometheus, served once on a loopback port: `cargo run --package
//! prometheus`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use larder::{Persistence, mcache, ucache};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(5);
/// Bounds of the buckets, in seconds: from a read of the page cache to a slow source.
const SECONDS: [f64; 8] = [1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 1e-1, 1.0, 10.0];

fn main() -> Outcome<()> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?.install_recorder()?;

    let dir = tempfile::tempdir()?;
    let squares = mcache::<u64, u64>("squares").capacity(100).build()?;
    let pages = ucache::<u64, String>("pages").dir(dir.path()).persistence(Persistence::LongTerm).build()?;
    for n in 0..1_000_u64 {
        squares.get_with(n % 150, || n * n);
        pages.get_with(n % 20, || "page ".repeat(2_000));
    }

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || serve_once(&listener, &handle));
    let page = fetch(address)?;
    server.join().map_err(|_| "the server panicked")??;

    println!("GET http://{address}/metrics, without descriptions, buckets and what is zero:\n");
    let is_left_out = |line: &&str| line.starts_with('#') || line.contains("_bucket") || line.ends_with(" 0");
    let mut shown: Vec<_> = page.lines().filter(|line| !line.is_empty() && !is_left_out(line)).collect();
    shown.sort_unstable();
    println!("{}", shown.join("\n"));
    let loads = page.lines().find(|line| line.starts_with(r#"larder_loads_total{cache="pages"}"#));
    assert_eq!(loads, Some(r#"larder_loads_total{cache="pages"} 20"#), "each page was loaded once");
    assert!(page.contains(r#"larder_tier_operation_seconds_bucket{cache="pages",tier="disk""#));
    pages.close()?;
    Ok(())
}

/// Answers one request. The handler of a service publishes like this.
fn serve_once(listener: &TcpListener, handle: &PrometheusHandle) -> Outcome<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let _request = stream.read(&mut [0; 1024])?;
    larder::metrics::publish();
    let page = handle.render();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", page.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(page.as_bytes())?;
    Ok(())
}

fn fetch(address: SocketAddr) -> Outcome<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
    Ok(body.to_owned())
}
