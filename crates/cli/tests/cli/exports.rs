//! `export` and `import`: what another cache gets, and what a damaged or foreign file changes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::{Bytes, EntryOptions, Persistence};

use crate::fixtures::{FILM, SMALL, command, files_of, folder, keys, larder};

fn export(dir: &Path, cache: &str, arguments: &[&str]) -> std::path::PathBuf {
    let file = dir.join(format!("{cache}.export"));
    let place = file.to_str().unwrap().to_owned();
    larder(dir, &[&["export", &place, "--cache", cache, "--force"], arguments].concat()).exits(0);
    file
}

fn import(dir: &Path, file: &Path, arguments: &[&str]) -> crate::fixtures::Ran {
    larder(dir, &[&["import", file.to_str().unwrap()], arguments].concat())
}

#[test]
fn new_cache_is_warmed_from_an_export() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let before = files_of(&from.path().join("numbers"));
    let file = export(from.path(), "numbers", &[]);
    assert_eq!(files_of(&from.path().join("numbers")), before);
    import(to.path(), &file, &["--cache", "my/copy", "--create", "--dry-run"])
        .exits(0)
        .says(&["my/copy, a new cache: would import 2 entries"]);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    import(to.path(), &file, &["--cache", "my/copy", "--create"]).exits(0).says(&["imported 2 entries"]);
    let copy = larder::ucache::<(String, u64), Vec<f32>>("my/copy").dir(to.path()).build().unwrap();
    assert_eq!(copy.get(&("small".to_owned(), 1)), Some(vec![1.0, -2.5]));
    assert_eq!(copy.get(&("large".to_owned(), 2)), Some(vec![0.5; FILM / 4]));
    copy.close().unwrap();
    larder(to.path(), &["check"]).exits(0).says(&["1 whole entry, 0 damaged"]);
}

#[test]
fn expired_and_invalidated_entries_are_not_exported() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let file = export(from.path(), "pages", &[]);
    import(to.path(), &file, &["--cache", "pages", "--create"]).exits(0);
    let found = keys(to.path(), "pages", &[]);
    assert_eq!(found.len() as u64, SMALL + 5);
    assert!(!found.contains(&"brief".to_owned()) && !found.contains(&"withdrawn".to_owned()), "{found:?}");
    let pages = larder::bcache::<String, String>("pages").dir(to.path()).build().unwrap();
    assert_eq!(pages.get("hourly").as_deref(), Some("an hour"));
    assert_eq!(pages.inspect("hourly").unwrap().unwrap().tags.len(), 0);
    assert_eq!(pages.get("large").map(|value| value.len()), Some(9000));
    pages.invalidate_tag("red").unwrap();
    assert_eq!((pages.get("large"), pages.get("tagged")), (None, None), "tags work as before");
}

#[test]
fn filter_chooses_what_is_exported() {
    let from = folder();
    let file = export(from.path(), "pages", &["--tag", "red"]);
    import(from.path(), &file, &["--cache", "reds", "--create"]).exits(0);
    assert_eq!(keys(from.path(), "reds", &[]), ["large", "tagged"]);
}

#[test]
fn entries_of_the_target_stay_unless_they_are_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| larder::bcache::<String, String>(name).dir(dir.path()).build().unwrap();
    let (one, other) = (open("one"), open("other"));
    for key in ["a", "b"] {
        one.try_insert(key.to_owned(), "of one".to_owned()).unwrap();
    }
    other.try_insert("a".to_owned(), "of other".to_owned()).unwrap();
    // An earlier invalidation of the target does not apply to imported entries.
    other.try_insert_with("c".to_owned(), "old".to_owned(), EntryOptions::new().tag("t")).unwrap();
    other.clear().unwrap();
    other.try_insert("a".to_owned(), "of other".to_owned()).unwrap();
    other.invalidate_tag("t").unwrap();
    one.close().unwrap();
    other.close().unwrap();
    let file = export(dir.path(), "one", &[]);
    import(dir.path(), &file, &["--cache", "other"])
        .exits(0)
        .says(&["imported 1 entry", "1 entry left out: the cache has them already"]);
    let other = open("other");
    assert_eq!((other.get("a").as_deref(), other.get("b").as_deref()), (Some("of other"), Some("of one")));
    other.close().unwrap();
    import(dir.path(), &file, &["--cache", "other", "--replace"]).exits(0).says(&["imported 2 entries"]);
    assert_eq!(open("other").get("a").as_deref(), Some("of one"));
}

#[test]
fn entry_has_one_tier_after_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let files = larder::fcache::<String, Bytes>("files").dir(dir.path()).build().unwrap();
    files.try_insert("a".to_owned(), Bytes::from_static(b"of files")).unwrap();
    files.insert_from("stream".to_owned(), std::io::Read::take(std::io::repeat(7), 600_000)).unwrap();
    files.close().unwrap();
    let file = export(dir.path(), "files", &[]);
    let both = larder::ucache::<String, Bytes>("both")
        .dir(dir.path())
        .persistence(Persistence::LongTerm)
        .build()
        .unwrap();
    both.try_insert("a".to_owned(), Bytes::from_static(b"of disk")).unwrap();
    both.close().unwrap();
    import(dir.path(), &file, &["--cache", "both", "--replace"]).exits(0);
    let document = larder(dir.path(), &["du", "--json", "--cache", "both"]).exits(0).json();
    let groups = document["caches"][0]["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]["group"], &groups[0]["entries"]), (1, &"file".into(), &2.into()));
    // Only the disk tier: a stream becomes a frame without the checksums of its chunks.
    let disk = larder::bcache::<String, Bytes>("disk").dir(dir.path()).build().unwrap();
    disk.close().unwrap();
    import(dir.path(), &file, &["--cache", "disk"]).exits(0).says(&["imported 2 entries"]);
    let disk = larder::bcache::<String, Bytes>("disk").dir(dir.path()).build().unwrap();
    assert_eq!(disk.get("stream"), Some(vec![7; 600_000].into()));
    assert_eq!(disk.get("a"), Some(Bytes::from_static(b"of files")));
}

/// A record of about 200 bytes, which compresses with a dictionary only.
fn record(number: u64) -> String {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{{\"id\":{number},\"token\":\"{noise:016x}\",\"first_name\":\"Ada\",\"last_name\":\"Lovelace\",\
         \"status\":\"active\",\"created_at\":\"2026-01-{:02}T{:02}:00:00Z\",\"roles\":[\"writer\",\"reader\"],\
         \"newsletter\":{},\"address\":{{\"city\":\"Lisbon\",\"zip\":\"{:05}\"}}}}",
        noise % 28 + 1,
        noise % 24,
        noise.is_multiple_of(2),
        noise / 7 % 100_000,
    )
}

#[test]
fn entries_with_a_dictionary_are_read_in_another_directory() {
    const ENOUGH: u64 = 1_100;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (compress, with) =
        (larder::Compress::dictionary(), Some(larder_core::frame::Compression::Dictionary));
    let records =
        larder::bcache::<u64, String>("records").dir(from.path()).compress(compress).build().unwrap();
    (0..ENOUGH).for_each(|number| records.insert(number, record(number)));
    let explained = |number: u64| records.explain(&number).unwrap();
    crate::observed::until("a dictionary is trained", || {
        records.insert(ENOUGH, record(ENOUGH));
        (explained(ENOUGH).compression == with).then_some(())
    });
    (0..10).for_each(|number| records.insert(number, record(number)));
    assert!((0..10).all(|number| explained(number).compression == with));
    records.close().unwrap();
    let file = export(from.path(), "records", &[]);
    fs::remove_dir_all(from.path().join("records")).unwrap();
    let entries = format!("{} entries", ENOUGH + 1);
    import(to.path(), &file, &["--cache", "disk", "--create", "--dry-run"])
        .exits(0)
        .says(&[&format!("would import {entries}")]);
    import(to.path(), &file, &["--cache", "disk", "--create"])
        .exits(0)
        .says(&[&format!("imported {entries}")]);
    larder(to.path(), &["show", "3", "--cache", "disk"]).exits(0).says(&["Lovelace"]);
    larder(to.path(), &["check"]).exits(0).says(&["0 damaged"]);
    // A cache that has files in place of the disk tier, and is set to compress otherwise.
    larder::fcache::<u64, String>("files").dir(to.path()).build().unwrap().close().unwrap();
    import(to.path(), &file, &["--cache", "files"]).exits(0).says(&[&format!("imported {entries}")]);
    for copy in [larder::bcache("disk"), larder::fcache("files")] {
        let copy = copy.dir(to.path()).compress(larder::Compress::None).memory_bytes(0).build().unwrap();
        for number in 0..=ENOUGH {
            assert_eq!(copy.get(&number), Some(record(number)), "{}", copy.name());
        }
        assert_eq!(copy.explain(&3).unwrap().compression, with);
        assert_eq!(copy.keys().unwrap().len() as u64, ENOUGH + 1);
        copy.close().unwrap();
    }
}

#[test]
fn damaged_or_foreign_file_changes_nothing() {
    let dir = folder();
    let file = export(dir.path(), "pages", &[]);
    let whole = fs::read(&file).unwrap();
    let bad = dir.path().join("bad.export");
    let before = files_of(&dir.path().join("films"));
    for (bytes, why) in [
        (whole[..whole.len() - 1].to_vec(), "truncated"),
        (whole[..whole.len() / 2].to_vec(), "truncated"),
        (b"PK\x03\x04 something else".to_vec(), "not an export"),
        (Vec::new(), "truncated"),
        ([&b"LRDX\x02\0\0\0"[..], &whole[8..]].concat(), "later version"),
    ] {
        fs::write(&bad, bytes).unwrap();
        import(dir.path(), &bad, &["--cache", "films"]).exits(1).complains(&["bad.export", why]);
    }
    for at in (8..whole.len()).step_by(97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&bad, flipped).unwrap();
        import(dir.path(), &bad, &["--cache", "new", "--create"]).exits(1);
    }
    assert_eq!(files_of(&dir.path().join("films")), before);
    assert!(!dir.path().join("new").exists());
}

#[test]
fn entry_that_expired_since_the_export_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<String, String>("brief").dir(dir.path()).build().unwrap();
    let options = EntryOptions::new().ttl(Duration::from_millis(1500));
    cache.try_insert_with("a".to_owned(), "value".to_owned(), options).unwrap();
    cache.close().unwrap();
    let file = export(dir.path(), "brief", &[]);
    // Until it is over; the clock of the file is that of the machine.
    while keys(dir.path(), "brief", &["--state", "fresh"]).len() == 1 {}
    import(dir.path(), &file, &["--cache", "copy", "--create"])
        .exits(0)
        .says(&["imported 0 entries", "time is over"]);
}

#[test]
fn export_overwrites_nothing_unless_it_is_told_to() {
    let dir = folder();
    let file = export(dir.path(), "films", &[]);
    let place = file.to_str().unwrap();
    larder(dir.path(), &["export", place, "--cache", "films"]).exits(2).complains(&["FILE", "--force"]);
    larder(dir.path(), &["export", place, "--force"]).exits(2).complains(&["--cache"]);
    let film = larder::fcache::<String, Bytes>("films").dir(dir.path()).build().unwrap();
    import(dir.path(), &file, &["--cache", "films"]).exits(4);
    import(dir.path(), &file, &["--cache", "absent"]).exits(3);
    drop(film);
}

/// A pipe in place of an export file: the command waits for it as it would for a slow disk.
#[cfg(unix)]
struct Stalled {
    dir: tempfile::TempDir,
}

#[cfg(unix)]
impl Stalled {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("slow")).status().unwrap();
        assert!(made.success());
        Self { dir }
    }

    fn place(&self) -> std::path::PathBuf {
        self.dir.path().join("slow")
    }

    /// Lets the command go on, with an empty file.
    fn end(&self) {
        drop(fs::File::options().write(true).open(self.place()).unwrap());
    }
}

/// What `source` gives until it ends, part by part.
#[cfg(unix)]
fn parts(mut source: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (told, parts) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // A terminal reports an error when its process has ended.
        while let Ok(read @ 1..) = source.read(&mut bytes) {
            let _ended = told.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
        }
    });
    parts
}

#[cfg(unix)]
#[test]
fn long_work_prints_lines_into_a_pipe_and_nothing_beside_json() {
    use std::process::Stdio;
    let (folder, stalled) = (folder(), Stalled::new());
    let place = stalled.place();
    let dir = ["--dir", folder.path().to_str().unwrap(), "import", "--cache", "pages"];
    for is_json in [false, true] {
        let json = if is_json { &["--json"][..] } else { &[] };
        let mut command = command(&[&dir[..], json, &[place.to_str().unwrap()]].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = parts(process.stderr.take().unwrap());
        // A line comes after two seconds, perhaps in several parts.
        let mut line = String::new();
        while !line.ends_with('\n')
            && let Ok(part) = said.recv_timeout(Duration::from_secs(if is_json { 3 } else { 60 }))
        {
            line += &part;
        }
        assert_eq!(line, if is_json { "" } else { "larder: verifying the export: 2 s\n" });
        stalled.end();
        let output = process.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]));
        assert!(said.iter().collect::<String>().contains("truncated"));
    }
}

#[cfg(unix)]
#[test]
fn long_work_draws_a_bar_in_a_terminal() {
    use portable_pty::{CommandBuilder, PtySize, native_pty_system};
    let (folder, stalled) = (folder(), Stalled::new());
    let pair = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["--dir", folder.path().to_str().unwrap(), "import", "--cache", "pages"]);
    command.arg(stalled.place());
    command.env("TERM", "xterm-256color");
    let mut process = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let shown = parts(pair.master.try_clone_reader().unwrap());
    let mut screen = String::new();
    while !screen.contains("verifying the export, 1s") {
        screen += &shown.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    stalled.end();
    assert_eq!(process.wait().unwrap().exit_code(), 1);
    assert!(shown.iter().collect::<String>().contains("truncated"), "{screen}");
}
