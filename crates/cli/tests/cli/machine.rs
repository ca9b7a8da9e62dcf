//! What concerns the machine and the command itself: doctor, config, arguments, completions, manual.

use std::fs;

use crate::fixtures::{command, folder, larder, plain};

#[cfg(unix)]
#[test]
fn doctor_names_permissions_that_are_too_wide_and_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    larder(dir.path(), &["doctor"]).exits(0).says(&["format 1", "free space", "open files", "pages"]);
    let pages = dir.path().join("pages");
    fs::set_permissions(&pages, fs::Permissions::from_mode(0o777)).unwrap();
    larder(dir.path(), &["doctor"]).exits(5).says(&["problem", "other users may write to", "chmod 0700"]);
    fs::set_permissions(&pages, fs::Permissions::from_mode(0o755)).unwrap();
    let document = larder(dir.path(), &["doctor", "--json"]).exits(0).json();
    let findings = document["findings"].as_array().unwrap();
    // The file system of the machine may be about full, which is a warning too.
    let mut warnings = findings.iter().filter(|finding| finding["level"] == "warning");
    let is_warned = warnings.any(|one| one["found"].as_str().unwrap().contains("other users may read"));
    assert!(is_warned, "{document}");
}

#[cfg(unix)]
#[test]
fn doctor_asks_processes_that_are_observed() {
    let traffic = crate::observed::traffic();
    larder(traffic.dir(), &["doctor"]).exits(0).says(&["pages, process ", "% of the look-ups hit"]);
    let baskets = larder::ucache::<String, String>("baskets").dir(traffic.dir()).redis("redis://127.0.0.1:1");
    let baskets = baskets.observe(true).build().unwrap();
    assert_eq!(baskets.get("none"), None);
    let thumbnails = larder::mcache::<u64, u64>("thumbnails").capacity(10).observe(true).build().unwrap();
    for n in 0..2000 {
        thumbnails.get_with(n, || n);
    }
    // The caches of a process are behind one socket, which is in the directory of the first.
    larder(traffic.dir(), &["doctor"]).exits(5).says(&[
        "problem  baskets, process ",
        "the redis tier is down: ",
        "warning  thumbnails, process ",
        "memory is full with 10 entries, and most look-ups miss",
        "larder simulate",
    ]);
}

#[test]
fn config_names_the_source_of_each_option() {
    let dir = folder();
    let place = dir.path().to_str().unwrap();
    let file = dir.path().join("larder.toml");
    fs::write(&file, "[pages]\nttl = \"1h\"\n[all]\nversion = 3\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = command(&[&["--dir", place, "config"], arguments].concat());
        command.env("LARDER_CONFIG", &file).env("LARDER_PAGES__DISK_BYTES", "64 MiB");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let text = run(&["--cache", "pages"]);
    for part in ["ttl", "1h", "larder.toml, line 2", "64 MiB", "LARDER_PAGES__DISK_BYTES", "version"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(!text.contains("default"), "{text}");
    assert!(run(&["--cache", "pages", "--all"]).contains("default"));
    let document: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(document["caches"].as_array().unwrap().len(), 3);
    larder(dir.path(), &["config", "--cache", "films"]).exits(0).says(&["neither a variable nor a file"]);
}

#[test]
fn config_refuses_an_invalid_option() {
    let dir = folder();
    let mut command = command(&["--dir", dir.path().to_str().unwrap(), "config", "--cache", "pages"]);
    let output = command.env("LARDER_TTL", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(["ttl", "LARDER_TTL", "`soon`", "allowed"].iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn invalid_arguments_are_named_with_what_is_allowed() {
    let dir = folder();
    for (arguments, parts) in [
        (&["keys", "--tier", "memory"][..], &["--tier", "memory", "disk, file"][..]),
        (&["keys", "--kind", "film"], &["--kind", "film", "scalar"]),
        (&["keys", "--min-size", "1 TB"], &["--min-size", "1 TB", "10 KiB"]),
        (&["keys", "--older", "soon"], &["--older", "soon", "1h 30m"]),
        (&["keys", "--state", "gone"], &["--state", "gone", "fresh"]),
        (&["du", "--by", "size"], &["--by", "size", "tag"]),
        (&["lst"], &["lst"]),
    ] {
        larder(dir.path(), arguments).exits(2).complains(parts);
    }
}

#[test]
fn completions_and_manual_name_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        plain(&["completions", shell]).exits(0).says(&["doctor", "larder"]);
    }
    plain(&["man"]).exits(0).says(&[".TH larder", "COMMAND DOCTOR", "Exit codes", "dry"]);
    plain(&["--help"]).exits(0).says(&["Exit codes", "doctor"]);
    plain(&["--version"]).exits(0).says(&["larder 0."]);
}
