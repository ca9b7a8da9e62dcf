//! The checks, one for each promise.

mod batches;
mod closing;
mod keys;
mod nothing;
mod removal;
mod reopening;
mod scanning;
mod shared;
mod streams;
mod threads;
mod values;
mod versioned;

use larder_core::Bytes;
use larder_core::key::EncodedKey;
use larder_core::tier::Tier;

use super::report::Verdict;
use super::subject::Place;
use crate::{block_on, sample};

type Check = fn(&Place) -> Verdict;

macro_rules! checks {
    ($($module:ident: $($check:ident),+;)+) => {
        pub(super) const ALL: &[(&str, Check)] = &[$($((stringify!($check), $module::$check as Check)),+),+];
    };
}

checks! {
    nothing: a_tier_that_stores_nothing_answers_that_nothing_is_there;
    values: get_of_an_absent_key_is_none, get_after_put_returns_the_frame_byte_for_byte,
        put_replaces_what_was_there, put_above_the_limit_is_too_large_and_stores_nothing,
        contains_tells_whether_there_is_an_entry, kind_and_capability_are_constant,
        usage_grows_with_entries_and_shrinks_without, a_blocking_tier_is_ready_in_the_first_poll;
    keys: keys_that_differ_in_one_byte_are_different, an_empty_key_is_a_key, a_key_of_1_mib_is_a_key;
    removal: remove_tells_whether_there_was_an_entry, get_after_remove_is_none,
        get_after_clear_is_none, put_after_remove_and_clear_is_there;
    scanning: scan_visits_each_head_exactly_once, scan_passes_over_what_was_removed,
        scan_visits_once_what_stays_while_others_come_and_go;
    reopening: flushed_entries_are_there_after_closing_and_reopening,
        flushed_entries_are_there_after_dropping_and_reopening, close_flushes,
        reopening_finds_the_last_frame, removed_entries_stay_removed_after_reopening,
        a_cleared_tier_is_empty_after_reopening;
    batches: batches_answer_in_order_key_by_key, the_later_of_two_puts_in_a_batch_stays,
        an_empty_batch_is_a_batch;
    shared: of_several_with_one_version_one_stores, every_change_changes_the_version,
        conditional_removal_requires_the_version, take_gives_the_frame_to_one, steps_in_a_batch_are_steps_of_their_own,
        leases_of_a_batch_are_taken_once, a_released_lease_can_be_taken_again,
        the_last_removal_is_remembered, a_clear_changes_the_epoch;
    versioned: every_change_changes_the_version_at_once, a_write_by_a_former_version_stores_nothing;
    closing: after_close_every_call_fails_with_closed, after_close_usage_is_zero,
        a_second_close_succeeds, destroy_leaves_nothing_and_closes;
    streams: open_reads_what_put_stored, what_was_opened_stays_what_it_was,
        a_frame_in_parts_is_stored_as_one_in_one_piece, an_upload_that_is_not_published_changes_nothing,
        two_uploads_of_one_key_do_not_meet, a_stream_is_refused_as_a_put_is;
    threads: calls_on_different_keys_never_disturb_one_another,
        gets_during_puts_of_one_key_see_whole_frames;
}

/// Puts a payload made from `seed` and `len`.
fn put(tier: &dyn Tier, key: &EncodedKey, seed: u64, len: usize) {
    let frame = sample::frame(key, sample::payload(seed, len));
    block_on(tier.put(key, &frame)).unwrap_or_else(|error| panic!("put of {key:?}, {len} bytes: {error:?}"));
}

fn get(tier: &dyn Tier, key: &EncodedKey) -> Option<Bytes> {
    block_on(tier.get(key)).unwrap_or_else(|error| panic!("get of {key:?}: {error:?}"))
}

fn remove(tier: &dyn Tier, key: &EncodedKey) -> bool {
    block_on(tier.remove(key)).unwrap_or_else(|error| panic!("remove of {key:?}: {error:?}"))
}

fn contains(tier: &dyn Tier, key: &EncodedKey) -> bool {
    block_on(tier.contains(key)).unwrap_or_else(|error| panic!("contains of {key:?}: {error:?}"))
}

fn clear(tier: &dyn Tier) {
    block_on(tier.clear()).expect("clear succeeds");
}

fn flush(tier: &dyn Tier) {
    block_on(tier.flush()).expect("flush succeeds");
}

fn close(tier: &dyn Tier) {
    block_on(tier.close()).expect("close succeeds");
}

/// Asserts that the entry is the frame that [`put`] made from `seed` and `len`.
fn expect(tier: &dyn Tier, key: &EncodedKey, seed: u64, len: usize) {
    let whole = get(tier, key).unwrap_or_else(|| panic!("{key:?}, {len} bytes: put, and absent"));
    let frame = sample::frame(key, sample::payload(seed, len));
    assert!(whole == frame.to_vec(), "{key:?}, {len} bytes: other bytes than were put");
    assert!(contains(tier, key), "{key:?}: get finds it and contains does not");
}

fn expect_none(tier: &dyn Tier, key: &EncodedKey) {
    let found = get(tier, key).map(|whole| whole.len());
    assert_eq!(found, None, "{key:?}: a frame of so many bytes where none should be");
    assert!(!contains(tier, key), "{key:?}: contains finds it and get does not");
}
