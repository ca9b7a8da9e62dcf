//! Tests of the checker with handwritten histories: each verdict is found, and no false
//! one.

use super::*;

/// Parses lines of a transcript: `writer: what`. `b` begins a call, `r` runs a loader,
/// and `e` ends the open call of the writer.
fn transcript(lines: &str) -> Transcript {
    let mut transcript = Transcript::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "crash" {
            transcript.crash();
            continue;
        }
        let (writer, rest) = line.split_once(": ").unwrap();
        let (letter, what) = rest.split_once(' ').unwrap();
        transcript.line(&format!("@{letter} {writer} 0 {what}"));
    }
    assert_eq!(transcript.unreadable(), 0);
    transcript
}

/// Checks a history, and returns the verdict of the first offence.
fn check(lines: &str, contract: Contract, expect: Option<Verdict>) {
    let report = transcript(lines).check(&contract);
    assert_eq!(report.first().map(|offence| offence.verdict), expect, "{lines}\n{report}");
}

const STRICT: Contract = Contract { keeps: Keeps::Nothing, failures_change: true };
const KEEPS: Contract = Contract { keeps: Keeps::Acknowledged, failures_change: true };
const FLUSHED: Contract = Contract { keeps: Keeps::Flushed, failures_change: true };

const WRITTEN: &str = "1: b insert 7 1\n1: e done\n";

fn after(first: &str, rest: &str) -> String {
    format!("{first}{rest}")
}

#[test]
fn read_of_a_written_value_is_explained() {
    check(&after(WRITTEN, "2: b get 7\n2: e found 7 1 1"), STRICT, None);
    check(&after(WRITTEN, "2: b contains 7\n2: e held"), STRICT, None);
}

#[test]
fn miss_is_explained_because_a_cache_may_forget() {
    check(&after(WRITTEN, "2: b get 7\n2: e missing"), STRICT, None);
}

#[test]
fn value_of_another_key_is_wrong() {
    check(&after(WRITTEN, "2: b get 8\n2: e found 7 1 1"), STRICT, Some(Verdict::Wrong));
}

#[test]
fn value_that_was_never_written_is_unwritten() {
    check(&after(WRITTEN, "2: b get 7\n2: e found 7 1 2"), STRICT, Some(Verdict::Unwritten));
    let early = "2: b get 7\n2: e found 7 1 1\n1: b insert 7 1\n1: e done";
    check(early, STRICT, Some(Verdict::Unwritten));
}

#[test]
fn read_finds_a_write_in_progress_or_the_value_before() {
    let during = after(WRITTEN, "2: b insert 7 1\n3: b get 7\n2: e done\n");
    check(&after(&during, "3: e found 7 1 1"), STRICT, None);
    check(&after(&during, "3: e found 7 2 1"), STRICT, None);
}

#[test]
fn value_replaced_before_the_read_began_is_stale() {
    let replaced = after(WRITTEN, "2: b insert 7 1\n2: e done\n");
    check(&after(&replaced, "3: b get 7\n3: e found 7 1 1"), STRICT, Some(Verdict::Stale));
    check(&after(&replaced, "3: b load 7\n3: e found 7 1 1"), STRICT, Some(Verdict::Stale));
}

#[test]
fn overlapping_writes_may_come_in_either_order() {
    let both = "1: b insert 7 1\n2: b insert 7 1\n2: e done\n1: e done\n3: b get 7\n";
    check(&after(both, "3: e found 7 1 1"), STRICT, None);
    check(&after(both, "3: e found 7 2 1"), STRICT, None);
}

#[test]
fn old_value_is_stale_after_the_new_one_was_read() {
    let seen = after(WRITTEN, "2: b insert 7 1\n3: b get 7\n3: e found 7 2 1\n3: b get 7\n");
    check(&after(&seen, "3: e found 7 1 1\n2: e done"), STRICT, Some(Verdict::Stale));
    check(&after(&seen, "3: e found 7 2 1\n2: e done"), STRICT, None);
}

#[test]
fn value_removed_before_the_read_began_is_resurrected() {
    for removal in ["remove 7", "clear", "take 7"] {
        let removed = after(WRITTEN, &format!("2: b {removal}\n2: e done\n"));
        let read = after(&removed, "3: b get 7\n3: e found 7 1 1");
        check(&read, STRICT, Some(Verdict::Resurrected));
        let held = after(&removed, "3: b contains 7\n3: e held");
        check(&held, STRICT, Some(Verdict::Resurrected));
        let again = after(&removed, "1: b insert 7 2\n1: e done\n3: b get 7\n3: e found 7 1 2");
        check(&again, STRICT, None);
    }
}

#[test]
fn removal_in_progress_explains_a_value_and_a_miss() {
    let removing = after(WRITTEN, "2: b remove 7\n3: b get 7\n");
    check(&after(&removing, "3: e found 7 1 1\n2: e done"), STRICT, None);
    check(&after(&removing, "3: e missing\n2: e done"), KEEPS, None);
}

#[test]
fn failed_removal_counts_if_the_contract_says_so() {
    let failed = after(WRITTEN, "2: b remove 7\n2: e failed\n3: b get 7\n3: e found 7 1 1");
    check(&failed, STRICT, Some(Verdict::Resurrected));
    check(&failed, Contract::CACHE, None);
}

#[test]
fn parts_of_values_are_torn() {
    check(&after(WRITTEN, "2: b get 7\n2: e torn 9 bytes: abc"), STRICT, Some(Verdict::Torn));
}

#[test]
fn value_taken_once_is_not_taken_again() {
    let taken = after(WRITTEN, "2: b take 7\n3: b take 7\n2: e found 7 1 1\n");
    check(&after(&taken, "3: e missing"), STRICT, None);
    check(&after(&taken, "3: e found 7 1 1"), STRICT, Some(Verdict::Twice));
}

#[test]
fn load_returns_the_value_of_its_loader() {
    let ran = "1: b load 7\n1: r 7 1\n1: e found 7 1 1\n";
    check(&after(ran, "2: b get 7\n2: e found 7 1 1"), STRICT, None);
    let again = after(WRITTEN, "2: b load 7\n2: r 7 1\n2: e found 7 2 1\n");
    check(&again, KEEPS, None);
    check(&after(&again, "3: b load 7\n3: e found 7 2 1"), STRICT, None);
    check(&again.replace("e found 7 2 1", "e found 7 1 1"), STRICT, None);
    check(&again.replace("e found 7 2 1", "e found 8 1 1"), STRICT, Some(Verdict::Wrong));
}

#[test]
fn change_that_began_after_the_loader_wins() {
    let loaded = "1: b load 7\n1: r 7 1\n2: b insert 7 1\n2: e done\n1: e found 7 1 1\n3: b get 7\n";
    check(&after(loaded, "3: e found 7 2 1"), STRICT, None);
    check(&after(loaded, "3: e found 7 1 1"), STRICT, Some(Verdict::Stale));
    let joined = "1: b load 7\n1: r 7 1\n3: b load 7\n2: b remove 7\n2: e done\n1: e found 7 1 1\n";
    check(&after(joined, "3: e found 7 1 1"), STRICT, None);
}

#[test]
fn acknowledged_value_is_kept_if_the_contract_promises_it() {
    let crashed = after(WRITTEN, "crash\n2: b get 7\n2: e missing");
    check(&crashed, STRICT, None);
    check(&crashed, KEEPS, Some(Verdict::Lost));
    check(&crashed, FLUSHED, None);
    let flushed = after(WRITTEN, "1: b flush\n1: e done\ncrash\n2: b get 7\n2: e missing");
    check(&flushed, FLUSHED, Some(Verdict::Lost));
    let flushing = "3: b flush\n1: b insert 7 1\n1: e done\n3: e done\ncrash\n2: b get 7\n2: e missing";
    check(flushing, FLUSHED, None);
    let unflushed = "1: b insert 7 2\n1: e done\ncrash\n2: b get 7\n2: e missing\n2: b flush\n2: e done\n";
    let flushed = after(WRITTEN, "1: b flush\n1: e done\n");
    check(&after(&flushed, unflushed), FLUSHED, None);
    check(&after(&flushed, &after(unflushed, "2: b get 7\n2: e missing")), FLUSHED, None);
}

#[test]
fn call_interrupted_by_a_crash_took_effect_or_did_not() {
    let cut = after(WRITTEN, "2: b insert 7 1\ncrash\n3: b get 7\n");
    for answer in ["found 7 1 1", "found 7 2 1", "missing"] {
        check(&after(&cut, &format!("3: e {answer}")), KEEPS, None);
    }
    let removing = after(WRITTEN, "2: b remove 7\ncrash\n3: b get 7\n");
    for answer in ["found 7 1 1", "missing"] {
        check(&after(&removing, &format!("3: e {answer}")), KEEPS, None);
    }
    let later = after(&cut, "3: e missing\n3: b insert 7 1\n3: e done\n3: b get 7\n3: e found 7 2 1");
    check(&later, KEEPS, Some(Verdict::Stale));
}

#[test]
fn old_value_is_stale_and_removed_one_resurrected_after_a_crash() {
    let replaced = after(WRITTEN, "1: b insert 7 2\n1: e done\ncrash\n2: b get 7\n2: e found 7 1 1");
    check(&replaced, KEEPS, Some(Verdict::Stale));
    let removed = after(WRITTEN, "1: b remove 7\n1: e done\ncrash\n2: b get 7\n2: e found 7 1 1");
    check(&removed, KEEPS, Some(Verdict::Resurrected));
}

#[test]
fn offence_is_reported_in_lines() {
    let replaced = after(WRITTEN, "2: b insert 7 1\n2: e done\n3: b get 7\n3: e found 7 1 1");
    let report = transcript(&replaced).check(&STRICT);
    let told = report.to_string();
    assert!(told.starts_with("1 reads, 1 stale\nthe first: stale\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.contains("<-- stale")).count(), 1, "{told}");
    assert_eq!(told.lines().count(), 6, "{told}");
}

#[test]
fn recorders_of_threads_join_one_history() {
    let history = History::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut recorder = history.recorder();
            scope.spawn(move || {
                let stamp = recorder.stamp(1);
                let call = recorder.begin(Act::Insert(stamp));
                recorder.end_done::<(), ()>(call, &Ok(()));
                let call = recorder.begin(Act::Get(1));
                recorder.end_with(call, Some(stamp.text(50).as_bytes()));
            });
        }
    });
    let report = history.check(&Contract::CACHE);
    assert_eq!(report.reads(), 4);
    assert_eq!(history.clock().ticks(), 16);
}

/// Writes key 7 under schema 1, then makes a call under schema 2, and reads under schema 1 again.
fn two_schemas(between: Option<Act>, second_read: Answer) -> Report {
    let history = History::new();
    let call = |recorder: &mut Recorder, act, answer| {
        let call = recorder.begin(act);
        recorder.end(call, answer);
    };
    let mut one = history.recorder().with_schema(1);
    let stamp = one.stamp(7);
    call(&mut one, Act::Insert(stamp), Answer::Done);
    let mut other = history.recorder().with_schema(2);
    if let Some(act) = between {
        call(&mut other, act, Answer::Done);
    }
    call(&mut other, Act::Get(7), second_read);
    call(&mut one, Act::Get(7), Answer::Found(Seen::Stamp(stamp)));
    drop((one, other));
    history.check(&STRICT)
}

#[test]
fn value_of_another_schema_is_foreign() {
    let stamp = Stamp { key: 7, writer: 0, number: 1 };
    let report = two_schemas(None, Answer::Found(Seen::Stamp(stamp)));
    assert_eq!((report.of(Verdict::Foreign), report.of(Verdict::Explained)), (1, 1), "{report}");
    let report = two_schemas(None, Answer::Missing);
    assert_eq!((report.is_sound(), report.of(Verdict::Explained)), (true, 1), "{report}");
}

#[test]
fn change_under_another_schema_replaces_the_value() {
    let insert = Act::Insert(Stamp { key: 7, writer: 1, number: 1 });
    let report = two_schemas(Some(insert), Answer::Missing);
    assert_eq!(report.of(Verdict::Resurrected), 1, "{report}");
    let report = two_schemas(Some(Act::Remove(7)), Answer::Missing);
    assert_eq!(report.of(Verdict::Resurrected), 1, "{report}");
}

#[test]
fn presence_under_another_schema_is_no_presence() {
    let history = History::new();
    let mut one = history.recorder().with_schema(1);
    let stamp = one.stamp(7);
    let call = one.begin(Act::Insert(stamp));
    one.end(call, Answer::Done);
    let mut other = history.recorder().with_schema(2);
    let call = other.begin(Act::Contains(7));
    other.end(call, Answer::Held);
    drop((one, other));
    assert_eq!(history.check(&STRICT).of(Verdict::Resurrected), 1);
}
