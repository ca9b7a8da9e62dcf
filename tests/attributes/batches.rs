//! Cached functions of many keys: one entry per key, and one call for the missing keys.

use std::io;
use std::sync::Arc;

use larder::{bcache, mcache};
use parking_lot::Mutex;

use super::{empty, folder};

/// Records the keys of each call of a function.
struct Calls(Mutex<Vec<Vec<u32>>>);

impl Calls {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn note(&self, keys: &[u32]) {
        self.0.lock().push(keys.to_vec());
    }

    fn take(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.0.lock())
    }
}

#[test]
fn function_gets_missing_keys_in_order_and_results_match_the_keys() {
    static CALLS: Calls = Calls::new();

    #[mcache(batch)]
    fn squares(keys: &[u32]) -> Vec<u32> {
        CALLS.note(keys);
        keys.iter().map(|key| key * key).collect()
    }

    assert_eq!(squares(&[3, 1, 3, 2]), [9, 1, 9, 4]);
    assert_eq!(squares(&[4, 2, 1, 5]), [16, 4, 1, 25]);
    assert_eq!(squares(&[5, 4]), [25, 16]);
    assert_eq!(CALLS.take(), [vec![3, 1, 2], vec![4, 5]]);
    assert_eq!(squares(&[]), [0; 0]);
    assert_eq!(squares::get(&[1, 7, 2]), [Some(1), None, Some(4)]);
    assert_eq!(squares::contains(&[7, 1]), [false, true]);
    assert_eq!((squares::purge(&[1, 7, 2]), squares::purge(&[1])), (2, 0));
    assert_eq!((squares::uncached(&[3]), squares::cache().unwrap().get(&3)), (vec![9], Some(9)));
    assert_eq!(CALLS.take(), [vec![3]]);
    assert_eq!((squares(&[2, 3]), CALLS.take()), (vec![4, 9], vec![vec![2]]));
    squares::clear().unwrap();
    assert_eq!((squares(&[3]), CALLS.take(), squares::stats().cache.loads), (vec![9], vec![vec![3]], 4));
}

#[test]
fn other_arguments_are_part_of_each_key() {
    static CALLS: Calls = Calls::new();
    empty("batches");

    #[bcache(batch = keys, skip(log), dir = folder("batches"))]
    fn named(log: &mut Vec<u32>, prefix: String, keys: Vec<u32>, weights: &[f64]) -> Vec<String> {
        CALLS.note(&keys);
        log.extend(&keys);
        keys.iter().map(|key| format!("{prefix}{key}{}", weights.len())).collect()
    }
    #[mcache(batch)]
    fn lengths(words: &[&str], more: impl Into<usize>) -> Vec<usize> {
        let more = more.into();
        CALLS.note(&[words.len() as u32]);
        words.iter().map(|word| word.len() + more).collect()
    }
    #[mcache(batch, key = "format!(\"{keys:.1}\")")]
    fn rounded(keys: &[f64]) -> Vec<f64> {
        CALLS.note(&[keys.len() as u32]);
        keys.to_vec()
    }
    #[mcache(batch)]
    #[allow(clippy::ptr_arg, reason = "a function may take one")]
    fn by_total_order(keys: &Vec<f64>) -> Vec<u64> {
        CALLS.note(&[keys.len() as u32]);
        keys.iter().map(|key| key.to_bits()).collect()
    }

    let mut log = Vec::new();
    assert_eq!(named(&mut log, "a".into(), vec![1, 2], &[0.5]), ["a11", "a21"]);
    assert_eq!(named(&mut log, "a".into(), vec![2, 3], &[0.5]), ["a21", "a31"]);
    assert_eq!(named(&mut log, "b".into(), vec![2], &[0.5]), ["b21"]);
    assert_eq!(named(&mut log, "b".into(), vec![2], &[0.5, -0.0]), ["b22"]);
    assert_eq!((log, CALLS.take()), (vec![1, 2, 3, 2, 2], vec![vec![1, 2], vec![3], vec![2], vec![2]]));
    assert_eq!(named::get("a".into(), vec![3], &[0.5]), [Some("a31".to_owned())]);

    let owned = String::from("bc");
    assert_eq!(lengths(&["a", &owned], 1_u8), [2, 3]);
    assert_eq!(lengths(&["bc", "a"], 1_u16), [3, 2]);
    assert_eq!((lengths(&["a"], 2_usize), CALLS.take()), (vec![3], vec![vec![2], vec![1]]));
    assert_eq!((rounded(&[1.01, 2.0]), rounded(&[2.04, 1.04])), (vec![1.01, 2.0], vec![2.0, 1.01]));
    assert_eq!((rounded::contains(&[0.98]), CALLS.take()), (vec![true], vec![vec![2]]));
    by_total_order(&vec![0.0, f64::NAN, f64::NAN]);
    by_total_order(&vec![f64::NAN, -0.0]);
    assert_eq!(CALLS.take(), [vec![2], vec![1]]);
}

#[test]
fn values_inside_results_and_options_are_stored() {
    static CALLS: Calls = Calls::new();

    #[mcache(batch)]
    fn failing(keys: &[u32]) -> Result<Vec<u32>, String> {
        CALLS.note(keys);
        keys.iter().map(|key| key.checked_sub(1).ok_or_else(|| format!("no {key}"))).collect()
    }
    #[mcache(batch, skip_none, exclude = |value| *value > 100)]
    fn some(keys: &[u32]) -> Vec<Option<u32>> {
        CALLS.note(keys);
        keys.iter().map(|key| key.checked_sub(1)).collect()
    }
    #[mcache(batch)]
    fn options(keys: &[u32]) -> Vec<Option<u32>> {
        CALLS.note(keys);
        keys.iter().map(|key| key.checked_sub(1)).collect()
    }
    #[mcache(batch, skip_none, share_err = |error: Arc<io::Error>| error.kind().into())]
    fn both(keys: &[u32]) -> io::Result<Vec<Option<u32>>> {
        CALLS.note(keys);
        let one =
            |key: &u32| if *key == 9 { Err(io::ErrorKind::NotFound.into()) } else { Ok(key.checked_sub(1)) };
        keys.iter().map(one).collect()
    }

    assert_eq!(failing(&[1, 2]), Ok(vec![0, 1]));
    for _ in 0..2 {
        assert_eq!(failing(&[2, 0, 3]), Err("no 0".to_owned()));
    }
    assert_eq!(failing::contains(&[1, 2, 3, 0]), [true, true, false, false]);
    assert_eq!(CALLS.take(), [vec![1, 2], vec![0, 3], vec![0, 3]]);

    for _ in 0..2 {
        assert_eq!(some(&[0, 1, 200, 0]), [None, Some(0), Some(199), None]);
    }
    assert_eq!(CALLS.take(), [vec![0, 1, 200], vec![0, 200]]);
    for _ in 0..2 {
        assert_eq!(options(&[0, 1]), [None, Some(0)]);
    }
    assert_eq!((options::get(&[0, 5]), CALLS.take()), (vec![Some(None), None], vec![vec![0, 1]]));

    assert_eq!(both(&[0, 1]).unwrap(), [None, Some(0)]);
    assert_eq!(both(&[1, 9]).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!((both(&[1]).unwrap(), CALLS.take()), (vec![Some(0)], vec![vec![0, 1], vec![9]]));
}

#[test]
fn results_of_another_length_than_the_keys_are_not_stored() {
    static CALLS: Calls = Calls::new();

    #[mcache(batch)]
    fn uneven(keys: &[u32], more: usize) -> Vec<u32> {
        CALLS.note(keys);
        let odd = |key: &u32| key % 2 == 1;
        let extra = std::iter::repeat_n(0, more);
        keys.iter().copied().filter(odd).chain(extra).collect()
    }

    assert_eq!(uneven(&[1, 3], 0), [1, 3]);
    assert_eq!((uneven(&[1, 2], 0), uneven(&[1, 5], 1)), (vec![1], vec![1, 5, 0]));
    assert_eq!(CALLS.take(), [vec![1, 3], vec![2], vec![1, 2], vec![1, 5], vec![1, 5]]);
    assert_eq!(uneven::contains(&[1, 2, 5], 1), [false; 3]);
}

#[test]
fn batch_function_without_a_usable_cache_runs_for_all_keys() {
    static CALLS: Calls = Calls::new();
    let occupied = empty("unusable batch");
    std::fs::create_dir_all(occupied.parent().unwrap()).unwrap();
    std::fs::write(&occupied, "a file where a folder should be").unwrap();

    #[bcache(batch, dir = folder("unusable batch"), tags = [keys.to_string()])]
    fn unusable(keys: &[u32]) -> Result<Vec<u32>, String> {
        CALLS.note(keys);
        Ok(keys.to_vec())
    }

    assert_eq!((unusable(&[1, 1]), unusable(&[1])), (Ok(vec![1, 1]), Ok(vec![1])));
    assert_eq!(CALLS.take(), [vec![1, 1], vec![1]]);
    assert_eq!(
        (unusable::get(&[1]), unusable::contains(&[1]), unusable::purge(&[1])),
        (vec![None], vec![false], 0)
    );
    assert!(unusable::invalidate_tag("1").is_err());
    std::fs::remove_file(occupied).unwrap();
}

#[test]
fn ten_threads_with_overlapping_keys_load_each_once() {
    static CALLS: Calls = Calls::new();

    #[mcache(batch)]
    fn slow(keys: &[u32]) -> Vec<u32> {
        CALLS.note(keys);
        (0..100).for_each(|_| std::thread::yield_now());
        keys.to_vec()
    }

    let start = std::sync::Barrier::new(10);
    std::thread::scope(|scope| {
        for first in 0..10 {
            let start = &start;
            scope.spawn(move || {
                let keys: Vec<u32> = (first..first + 10).collect();
                start.wait();
                assert_eq!(slow(&keys), keys);
            });
        }
    });
    let mut loaded = CALLS.take().concat();
    loaded.sort_unstable();
    assert_eq!(loaded, (0..19).collect::<Vec<_>>());
}

struct Users {
    base: u32,
    calls: Calls,
}

#[derive(Clone, Debug, PartialEq)]
struct User {
    id: u32,
    group: &'static str,
}

impl Users {
    #[mcache(batch, key = "(self.base, *ids)", tags = [format!("user:{ids}"), "users"])]
    fn plain(&self, ids: &[u32]) -> Vec<u32> {
        self.calls.note(ids);
        ids.iter().map(|id| self.base + id).collect()
    }

    #[mcache(batch, skip(self), tags = |user: &User| [format!("{kind}:{ids}"), user.group.to_owned()])]
    async fn found(&self, kind: String, ids: &[u32]) -> Result<Vec<User>, String> {
        self.calls.note(ids);
        tokio::task::yield_now().await;
        let _kind = kind;
        let user = |id: &u32| User { id: *id, group: if id % 2 == 1 { "odd" } else { "even" } };
        ids.iter().map(|id| if *id == 0 { Err("nobody".to_owned()) } else { Ok(user(id)) }).collect()
    }
}

#[test]
fn batch_method_can_tag_each_key() {
    let users = Users { base: 10, calls: Calls::new() };
    assert_eq!((users.plain(&[1, 2]), users.plain(&[2, 3])), (vec![11, 12], vec![12, 13]));
    users.plain_invalidate_tag("user:2").unwrap();
    assert_eq!(users.plain_contains(&[1, 2, 3]), [true, false, true]);
    assert_eq!(users.plain(&[1, 2, 3]), [11, 12, 13]);
    assert_eq!(users.calls.take(), [vec![1, 2], vec![3], vec![2]]);
    users.plain_invalidate_tag("users").unwrap();
    assert_eq!(users.plain_get(&[1, 2]), [None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_function_works_in_tasks() {
    let users = Arc::new(Users { base: 0, calls: Calls::new() });
    let calls: Vec<_> = (1..5)
        .map(|first| {
            let users = Arc::clone(&users);
            tokio::spawn(async move { users.found("user".to_owned(), &[first, first + 1]).await })
        })
        .collect();
    for (call, first) in calls.into_iter().zip(1..) {
        let ids: Vec<_> = call.await.unwrap().unwrap().iter().map(|user| user.id).collect();
        assert_eq!(ids, [first, first + 1]);
    }
    let mut loaded = users.calls.take().concat();
    loaded.sort_unstable();
    assert_eq!(loaded, [1, 2, 3, 4, 5]);

    Users::found_invalidate_tag("even").await.unwrap();
    Users::found_invalidate_tag("user:1").await.unwrap();
    let there = Users::found_contains("user".to_owned(), &[1, 2, 3, 4, 5]).await;
    assert_eq!(there, [false, false, true, false, true]);
    assert_eq!(users.found("user".to_owned(), &[3, 0]).await, Err("nobody".to_owned()));
    assert_eq!(users.calls.take(), [vec![0]]);
    assert_eq!(Users::found_purge("user".to_owned(), &[3, 6]).await, 1);
    assert_eq!(Users::found_get("user".to_owned(), &[5]).await[0].as_ref().unwrap().id, 5);

    #[mcache(batch)]
    async fn free(keys: Vec<u32>) -> Vec<u32> {
        tokio::task::yield_now().await;
        keys
    }
    assert_eq!((free(vec![2, 1]).await, free(vec![1, 3]).await), (vec![2, 1], vec![1, 3]));
    assert_eq!(free::stats().cache.loads, 2);
}
