//! `larder serve`: the observed caches as a page in the browser.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use larder_web::{ObservedProcess, PageOptions, ProcessSource};
use serde_json::Value as Json;

use crate::args::{Arguments, ServeArguments};
use crate::exit::{Exit, Failure, Outcome};
use crate::live::Processes;
use crate::printer::{self, Printer};

/// The longest token, in bytes.
const TOKEN_MAX: u64 = 4096;

/// The processes behind the page. Requests are answered one after another.
struct Observed(Mutex<Processes>);

impl ProcessSource for Observed {
    fn read(&self) -> Vec<ObservedProcess> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).read();
        found.into_iter().map(|found| ObservedProcess::new(found.pid, found.program, found.caches)).collect()
    }

    fn ask(&self, pid: u64, request: &Json) -> Json {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ask(pid, request)
    }
}

pub(crate) fn run(arguments: &Arguments, serve: &ServeArguments, printer: &mut Printer) -> Outcome {
    let mut options = PageOptions::new().interval(serve.interval).host(serve.listen.ip().to_string());
    for host in &serve.host {
        options = options.host(host);
    }
    if let Some(file) = &serve.token_file {
        let of_file = |allowed: String| Failure::argument("--token-file", file.display(), allowed);
        options = options.token(token(file)?).map_err(of_file)?;
    }
    let router = larder_web::router(Observed(Mutex::new(Processes::chosen(arguments)?)), options);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(serve.listen).await?;
        let address = listener.local_addr()?;
        printer.line(&format!("http://{address}/"))?;
        printer.flush()?;
        if !address.ip().is_loopback() {
            printer::to_stderr("larder: everyone who reaches this address sees the keys of the caches");
        }
        let serving = axum::serve(listener, router);
        tokio::select! {
            served = serving => served?,
            () = ended() => {}
        }
        Ok(Exit::Done)
    })
}

/// Waits for the signal to end.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// The first line of a file that its owner alone can read.
fn token(file: &Path) -> Outcome<String> {
    let opened = fs::File::open(file).map_err(|error| {
        Failure::argument("--token-file", file.display(), format!("a readable file ({error})"))
    })?;
    if opened.metadata()?.mode() & 0o077 != 0 {
        let allowed = "a file that only its owner can read (mode 0600)";
        return Err(Failure::argument("--token-file", file.display(), allowed));
    }
    let mut line = String::new();
    let read: io::Result<usize> = BufReader::new(opened.take(TOKEN_MAX)).read_line(&mut line);
    read?;
    Ok(line.trim().to_owned())
}
