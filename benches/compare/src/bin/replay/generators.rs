//! Requests made by formulas, the same ones in every run.

use fastrand::Rng;

use larder_simulate::Workload;

pub(crate) const NAMES: [&str; 7] =
    ["zipf-0.99", "zipf-0.7", "loop", "scans", "shifting", "sizes", "uniform"];

/// Requests of each generator.
const REQUESTS: usize = 2_000_000;
const SEED: u64 = 17;
/// The requests between two scans, the keys of a scan, and the keys that all scans go through.
const SCAN: (usize, u64, u64) = (10_000, 5_000, 200_000);
/// The keys of a hot set, and the requests after which another set is hot.
const HOT: (u64, usize) = (5_000, 100_000);
/// The smallest and the largest entry where sizes differ, in bytes.
const BYTES: (f64, f64) = (100.0, 65_536.0);

/// The workload of a generator, by its name.
pub(crate) fn generate(name: &str) -> Option<Workload> {
    generate_some(name, REQUESTS)
}

fn generate_some(name: &str, requests: usize) -> Option<Workload> {
    let (about, keys) = match name {
        "zipf-0.99" => ("zipf 0.99 of 200,000 keys", zipf(200_000, 0.99, requests)),
        "zipf-0.7" => ("zipf 0.7 of 200,000 keys", zipf(200_000, 0.7, requests)),
        "loop" => ("a loop over 50,000 keys", looping(50_000, requests)),
        "scans" => (
            "zipf 0.99 of 100,000 keys; after 10,000 requests a scan of 5,000 keys out of 200,000 others",
            with_scans(zipf(100_000, 0.99, requests), SCAN),
        ),
        "shifting" => (
            "9 of 10 requests for 5,000 hot keys, other ones after each 100,000 requests; the rest for 200,000 keys",
            shifting(200_000, HOT, requests),
        ),
        "sizes" => ("zipf 0.9 of 100,000 keys, entries of 100 B to 64 KiB", zipf(100_000, 0.9, requests)),
        "uniform" => ("100,000 keys, each as likely as any other", uniform(100_000, requests)),
        _ => return None,
    };
    let workload = Workload::new(name, about.to_owned(), keys);
    Some(if name == "sizes" { workload.weighed(sizes()) } else { workload })
}

/// The key `n` of `keys` is asked for in proportion to `1 / (n + 1)^exponent`.
fn zipf(keys: u64, exponent: f64, requests: usize) -> Vec<u64> {
    let mut sums = Vec::with_capacity(keys as usize);
    let mut sum = 0.0;
    for key in 1..=keys {
        sum += (key as f64).powf(-exponent);
        sums.push(sum);
    }
    let mut random = Rng::with_seed(SEED);
    let mut key = || {
        let at = random.f64() * sum;
        (sums.partition_point(|sum| *sum <= at) as u64).min(keys - 1)
    };
    (0..requests).map(|_| key()).collect()
}

fn looping(keys: u64, requests: usize) -> Vec<u64> {
    (0..keys).cycle().take(requests).collect()
}

/// After each `every` of the requests, the next `length` of `keys` others in turn.
fn with_scans(requests: Vec<u64>, (every, length, keys): (usize, u64, u64)) -> Vec<u64> {
    let first = requests.iter().max().map_or(0, |largest| largest + 1);
    let mut scanned = (first..first + keys).cycle();
    let mut all = Vec::new();
    for part in requests.chunks(every) {
        all.extend(part);
        all.extend(scanned.by_ref().take(length as usize));
    }
    all
}

/// Nine of ten requests are for `hot` keys of `keys`, after each `every` requests for the next ones.
fn shifting(keys: u64, (hot, every): (u64, usize), requests: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(SEED);
    let mut key = |request: usize| {
        let first = (request / every) as u64 * hot;
        if random.u8(0..10) < 9 { (first + random.u64(0..hot)) % keys } else { random.u64(0..keys) }
    };
    (0..requests).map(&mut key).collect()
}

fn uniform(keys: u64, requests: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(SEED);
    (0..requests).map(|_| random.u64(0..keys)).collect()
}

/// Sizes whose logarithms are spread evenly, whatever the key is.
fn sizes() -> impl FnMut(u32) -> u32 {
    let mut random = Rng::with_seed(SEED);
    let (least, most) = BYTES;
    move |_| (least * (most / least).powf(random.f64())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_asks_for_keys_in_proportion_to_their_rank() {
        let keys = zipf(4, 1.0, 100_000);
        // 1, 1/2, 1/3 and 1/4 of 25/12.
        for (key, share) in [(0, 0.48), (1, 0.24), (2, 0.16), (3, 0.12)] {
            let found = keys.iter().filter(|other| **other == key).count() as f64 / 100_000.0;
            assert!((found - share).abs() < 0.01, "{key}: {found}");
        }
    }

    #[test]
    fn loop_starts_again_after_its_last_key() {
        assert_eq!(looping(3, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn scans_go_through_keys_of_their_own() {
        assert_eq!(with_scans(vec![0, 1, 0, 1], (2, 2, 3)), [0, 1, 2, 3, 0, 1, 4, 2]);
    }

    #[test]
    fn hot_set_is_followed_by_the_next_one() {
        let keys = shifting(1_000, (10, 500), 1_000);
        let count =
            |part: &[u64], hot: std::ops::Range<u64>| part.iter().filter(|key| hot.contains(key)).count();
        assert!(count(&keys[..500], 0..10) > 400);
        assert!(count(&keys[500..], 10..20) > 400);
        assert!(count(&keys[500..], 0..10) < 20);
    }

    #[test]
    fn sizes_are_between_their_bounds_and_half_of_them_below_the_geometric_mean() {
        let mut size = sizes();
        let sizes: Vec<u32> = (0..10_000).map(&mut size).collect();
        assert!(sizes.iter().all(|size| (100..65_536).contains(size)));
        let below = sizes.iter().filter(|size| **size < 2_560).count();
        assert!((4_700..5_300).contains(&below), "{below}");
    }

    #[test]
    fn every_name_is_generated_and_no_other() {
        for name in NAMES {
            assert!(
                generate_some(name, 1_000).is_some_and(|workload| workload.requests.len() >= 1_000),
                "{name}"
            );
        }
        assert!(generate("P3").is_none());
    }

    #[test]
    fn uniform_requests_differ_little_in_number() {
        let keys = uniform(10, 100_000);
        for key in 0..10 {
            let found = keys.iter().filter(|other| **other == key).count();
            assert!((9_500..10_500).contains(&found), "{key}: {found}");
        }
    }
}
