use super::*;

const NONE_SPARED: u128 = u128::MAX;

fn victims(index: &mut Index) -> Vec<u128> {
    std::iter::from_fn(|| index.victim(0, NONE_SPARED)).map(|id| id.digest).collect()
}

#[test]
fn never_read_entries_are_evicted_first_then_the_least_recently_used() {
    let mut index = Index::default();
    for digest in 1..=5 {
        index.insert(digest, 1);
    }
    index.touch(1);
    index.touch(4);
    index.touch(1);
    assert_eq!(victims(&mut index), [2, 3, 5, 4, 1]);
}

/// Regression: once all other entries had been read, each new entry was evicted for the next one.
#[test]
fn new_entries_stay_while_they_take_less_than_a_quarter() {
    let mut index = Index::default();
    let (old, new) = (1..=100, 101..=300);
    for digest in old.clone() {
        index.insert(digest, 1);
        index.touch(digest);
    }
    for digest in new.clone() {
        index.insert(digest, 1);
        let victim = index.victim(1, digest).unwrap();
        index.remove(victim).unwrap();
        // This entry is read regularly.
        index.touch(100).unwrap();
    }
    let left = |digests: std::ops::RangeInclusive<u128>| {
        digests.filter(|digest| index.find(*digest).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(left(new), (276..=300).collect::<Vec<_>>(), "the newest");
    assert_eq!(left(old), (26..=100).collect::<Vec<_>>(), "those that were read last");
}

#[test]
fn overwritten_entry_still_counts_as_read() {
    let mut index = Index::default();
    index.insert(1, 1);
    index.touch(1);
    index.insert(1, 1);
    for digest in 2..=5 {
        index.insert(digest, 1);
    }
    assert_eq!(victims(&mut index), [2, 3, 4, 1, 5]);
}

#[test]
fn spared_entry_is_evicted_last() {
    let mut index = Index::default();
    index.insert(1, 1);
    index.insert(2, 1);
    assert_eq!(index.victim(1, 1).map(|id| id.digest), Some(2));
    assert_eq!(index.victim(1, 1).map(|id| id.digest), Some(1));
    assert_eq!(index.victim(1, 1), None);
}

#[test]
fn no_victim_if_all_entries_are_smaller_than_the_excess() {
    let mut index = Index::default();
    index.insert(1, 1);
    assert_eq!(index.victim(4 * BLOCK, NONE_SPARED), None);
    assert!(index.victim(3 * BLOCK, NONE_SPARED).is_some());
}

#[test]
fn entry_counts_as_expired_once_its_deadline_is_known() {
    let mut index = Index::default();
    let at = |millis| KnownDeadline::At(Time::from_millis(millis));
    index.insert_until(1, 1, at(50));
    index.insert_until(2, 1, at(20));
    index.insert_until(3, 1, KnownDeadline::NEVER);
    index.insert(4, 1);
    let expired = |index: &Index, now| index.expired(Time::from_millis(now)).map(|id| id.digest);
    assert_eq!([expired(&index, 19), expired(&index, 20)], [None, Some(2)]);
    let id = index.unknown().unwrap();
    index.set_deadline(id, at(10));
    assert_eq!((index.unknown(), expired(&index, 19)), (None, Some(4)));
    index.remove(id);
    index.insert_until(2, 1, KnownDeadline::NEVER);
    assert_eq!(expired(&index, 60), Some(1));
    index.clear();
    assert_eq!(expired(&index, 60), None);
}

#[test]
fn victim_that_stays_is_chosen_again() {
    let mut index = Index::default();
    index.insert(1, 1);
    let id = index.victim(1, NONE_SPARED).unwrap();
    assert_eq!(index.victim(1, NONE_SPARED), None);
    index.requeue(id);
    assert_eq!(index.victim(1, NONE_SPARED), Some(id));
}

#[test]
fn reconcile_adopts_found_files_and_keeps_newer_entries() {
    let mut index = Index::default();
    for digest in 1..=3 {
        index.insert(digest, 1);
    }
    index.touch(2);
    let seen = index.now();
    index.insert(3, 5 * BLOCK);
    index.insert(4, 1);
    let change = index.reconcile([(2, 1), (3, 1), (5, 2 * BLOCK)].into_iter(), seen);
    assert_eq!(change, Change { taken: 2 * BLOCK, freed: BLOCK });
    assert!(index.find(1).is_none() && !index.differs(3, 5 * BLOCK));
    assert_eq!(index.usage().bytes, (1 + 5 + 1 + 2 + 2) * BLOCK);
    assert_eq!(victims(&mut index), [3, 4, 2, 5]);
}

#[test]
fn remove_of_an_older_version_changes_nothing() {
    let mut index = Index::default();
    index.insert(1, 1);
    let old = index.victim(1, NONE_SPARED).unwrap();
    index.insert(1, 1);
    index.requeue(old);
    assert_eq!(index.remove(old), None);
    assert!(index.find(1).is_some());
}

#[test]
fn files_and_directories_are_counted_in_blocks() {
    let mut index = Index::default();
    let (one, sibling, cousin) = (1, 2, 3 | 1 << 112);
    assert_eq!(index.insert(one, 1), Change { taken: 3 * BLOCK, freed: 0 });
    assert_eq!(index.insert(sibling, BLOCK), Change { taken: BLOCK, freed: 0 });
    assert_eq!(index.insert(cousin, 1), Change { taken: 2 * BLOCK, freed: 0 });
    assert_eq!(index.insert(sibling, BLOCK + 1), Change { taken: 2 * BLOCK, freed: BLOCK });
    assert_eq!(index.usage().bytes, 7 * BLOCK);
    let mut remove = |digest| {
        let id = index.find(digest).unwrap();
        index.remove(id).unwrap()
    };
    assert_eq!(remove(one), Removed { freed: BLOCK, empty_folders: 0 });
    assert_eq!(remove(cousin), Removed { freed: 2 * BLOCK, empty_folders: 1 });
    assert_eq!(remove(sibling), Removed { freed: 4 * BLOCK, empty_folders: 2 });
    assert_eq!(index.usage(), Usage::default());
}
