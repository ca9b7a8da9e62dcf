//! A connection to an observed process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

/// How long a process may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

pub(super) struct Connection {
    pub(super) pid: u64,
    pub(super) program: String,
    requests: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Connection {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let requests = UnixStream::connect(path)?;
        requests.set_read_timeout(Some(PATIENCE))?;
        requests.set_write_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(requests.try_clone()?);
        let mut connection = Self { pid: 0, program: String::new(), requests, answers };
        let hello = connection.read()?;
        if hello["larder"].as_u64() != Some(larder::observation::PROTOCOL) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "another protocol"));
        }
        connection.pid = hello["pid"].as_u64().unwrap_or(0);
        connection.program = hello["program"].as_str().unwrap_or("?").to_owned();
        Ok(connection)
    }

    pub(super) fn ask(&mut self, request: &Json) -> io::Result<Json> {
        self.requests.write_all(format!("{request}\n").as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Json> {
        let mut line = String::new();
        self.answers.by_ref().take(ANSWER_MAX).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(answer) => Ok(answer),
            Err(_) if line.is_empty() => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
            Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is no JSON")),
        }
    }
}
