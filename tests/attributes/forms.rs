//! The places and forms of cached functions, and the forms of their arguments.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use larder::{bcache, fcache, mcache, ucache};

use super::{Runs, empty, folder};

#[test]
fn cached_function_has_companion_functions() {
    static RUNS: Runs = Runs::new();

    /// Doubles a number.
    #[mcache(capacity = 100)]
    fn double(n: u64) -> u64 {
        RUNS.count();
        n * 2
    }

    assert_eq!(double::stats().cache.loads, 0, "statistics open nothing");
    assert_eq!((double(4), double(4), double(5)), (8, 8, 10));
    assert_eq!(RUNS.take(), 2);
    assert!(double::contains(4) && !double::contains(6));
    assert_eq!((double::get(4), double::get(6)), (Some(8), None));
    assert_eq!((double::uncached(4), RUNS.take()), (8, 1));
    assert!(double::purge(4) && !double::purge(4));
    assert_eq!((double(4), RUNS.take()), (8, 1));
    double::clear().unwrap();
    double::flush().unwrap();
    assert_eq!((double(4), double(5), RUNS.take()), (8, 10, 2));
    assert_eq!(double::cache().unwrap().get(&4), Some(8));
    assert!(double::stats().cache.loads >= 4);
}

#[test]
fn each_attribute_uses_its_kind_of_cache() {
    fn dir() -> std::path::PathBuf {
        folder("each_attribute")
    }
    empty("each_attribute");
    static RUNS: Runs = Runs::new();

    #[bcache(dir = dir(), disk_bytes = "64 MiB")]
    fn on_disk(name: &str) -> String {
        RUNS.count();
        name.to_uppercase()
    }
    #[fcache(dir = dir(), compress = larder::Compress::None)]
    fn in_files(name: &str) -> Vec<u8> {
        RUNS.count();
        name.as_bytes().repeat(1000)
    }
    #[ucache(dir = dir(), persistence = larder::Persistence::LongTerm)]
    fn anywhere(name: &str) -> String {
        RUNS.count();
        name.to_lowercase()
    }

    for _ in 0..3 {
        assert_eq!((on_disk("a"), in_files("a").len(), anywhere("A")), ("A".into(), 1000, "a".into()));
    }
    assert_eq!(RUNS.take(), 3);
    let home = |tiers: &larder::Stats, kind| tiers.tier(kind).unwrap().usage.entries;
    assert_eq!(home(&on_disk::stats(), larder::TierKind::Disk), 1);
    assert_eq!(home(&in_files::stats(), larder::TierKind::File), 1);
    assert_eq!(home(&anywhere::stats(), larder::TierKind::Disk), 1);
}

mod left {
    #[larder::mcache]
    pub(super) fn named(n: u8) -> &'static str {
        let _same = n;
        "left"
    }
}

mod right {
    #[larder::mcache]
    pub(super) fn named(n: u8) -> &'static str {
        let _same = n;
        "right"
    }
}

#[test]
fn functions_of_the_same_name_are_separate() {
    assert_eq!((left::named(1), right::named(1)), ("left", "right"));
    assert!(left::named::purge(1) && right::named::contains(1));

    #[mcache]
    fn named(n: u8) -> &'static str {
        let _same = n;
        "inner"
    }
    assert_eq!(named(1), "inner");
}

#[test]
fn functions_have_different_directories() {
    empty("names_on_disk");

    fn outer_one() -> (u8, String) {
        #[bcache(dir = folder("names_on_disk"))]
        fn inner(n: u8) -> u8 {
            n + 1
        }
        (inner(1), name_of(inner::cache().unwrap().dir().unwrap()))
    }
    fn outer_two() -> (u8, String) {
        #[bcache(dir = folder("names_on_disk"))]
        fn inner(n: u8) -> u8 {
            n + 2
        }
        (inner(1), name_of(inner::cache().unwrap().dir().unwrap()))
    }
    #[bcache(dir = folder("names_on_disk"), name = "by hand")]
    fn by_hand(n: u8) -> u8 {
        n
    }

    let ((one, first), (two, second)) = (outer_one(), outer_two());
    assert_eq!((one, two), (2, 3));
    assert_ne!(first, second);
    assert!(first.contains("outer_one"), "{first}");
    by_hand(1);
    assert_eq!(name_of(by_hand::cache().unwrap().dir().unwrap()), "by%20hand");
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}

#[derive(Clone)]
struct Client {
    id: u32,
    runs: Arc<Runs>,
}

impl Client {
    fn new(id: u32) -> Self {
        Self { id, runs: Arc::new(Runs::new()) }
    }

    #[mcache(skip(self))]
    fn skipping(&self, page: u32) -> u32 {
        self.runs.count();
        page
    }

    #[mcache(key = "(self.id, page)")]
    fn keyed(&self, page: u32) -> u32 {
        self.runs.count();
        self.id * 100 + page
    }

    #[mcache(method)]
    fn associated(page: u32) -> u32 {
        page + 1
    }

    #[mcache(key = "self.id")]
    fn twin(&mut self) -> Self {
        self.runs.count();
        Self::new(self.id + 1)
    }

    #[mcache]
    fn of(id: u32) -> Arc<Self> {
        Arc::new(Self::new(id))
    }
}

#[test]
fn methods_can_include_or_skip_self_in_the_key() {
    let (a, b) = (Client::new(1), Client::new(2));
    assert_eq!((a.skipping(7), b.skipping(7)), (7, 7));
    assert_eq!((a.runs.take(), b.runs.take()), (1, 0));
    assert!(Client::skipping_contains(7) && Client::skipping_purge(7));
    assert_eq!(Client::skipping_get(7), None);
    assert_eq!(a.skipping_uncached(8), 8);

    assert_eq!((a.keyed(7), b.keyed(7), a.keyed(7)), (107, 207, 107));
    assert_eq!((a.runs.take(), b.runs.take()), (2, 1));
    assert!(a.keyed_purge(7) && b.keyed_contains(7));
    assert_eq!(b.keyed_get(7), Some(207));
    b.keyed_clear().unwrap();
    assert!(!b.keyed_contains(7));
    assert_eq!(Client::keyed_stats().cache.loads, 2);

    assert_eq!((Client::associated(1), Client::associated(1)), (2, 2));
    assert_eq!(Client::associated_stats().cache.loads, 1);

    let mut c = Client::new(5);
    assert_eq!((c.twin().id, c.twin().id, c.runs.take()), (6, 6, 1));
    assert!(Arc::ptr_eq(&Client::of(3), &Client::of(3)));
}

struct Unit<T>(T);

impl<T: Default + Clone + Send + Sync + std::fmt::Debug + 'static> Unit<T> {
    #[mcache(skip(self))]
    fn describe(&self, n: u8) -> String {
        format!("{:?} {n}", self.0)
    }

    #[mcache(method)]
    fn make(n: u8) -> (T, u8, Option<Self>) {
        (T::default(), n, None)
    }
}

impl<T: Clone> Clone for Unit<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[test]
fn method_of_a_generic_type_has_a_cache_per_type() {
    assert_eq!((Unit(1).describe(0), Unit("one").describe(0)), ("1 0".into(), "\"one\" 0".into()));
    assert_eq!((Unit(2).describe(0), Unit("two").describe(0)), ("1 0".into(), "\"one\" 0".into()));
    assert_eq!((Unit::<u8>::make(1).0, Unit::<String>::make(1).0), (0, String::new()));
    assert!(Unit::<u8>::make_purge(1));
    assert!(Unit::<String>::make_contains(1) && !Unit::<u8>::make_contains(1));
}

struct Borrowing<'a>(&'a str);

impl Borrowing<'_> {
    #[mcache(key = "self.0.to_owned()")]
    fn length(&self) -> usize {
        self.0.len()
    }

    #[mcache(key = "(self.0.len(), *more)")]
    fn longer<'b>(&'b mut self, more: &'b usize) -> usize {
        self.0.len() + more
    }
}

#[mcache(key = "text.len()", tags = ["text"])]
#[allow(clippy::needless_lifetimes, reason = "a function may have some")]
fn named_lifetime<'a>(text: &'a str, other: &'a str) -> usize {
    text.len() + other.len()
}

#[test]
fn method_of_a_borrowing_type_can_be_cached() {
    let text = String::from("larder");
    assert_eq!((Borrowing(&text).length(), Borrowing("cool").length()), (6, 4));
    assert!(Borrowing("larder").length_contains());
    let mut larder = Borrowing(&text);
    assert_eq!((larder.longer(&1), larder.longer_get(&1)), (7, Some(7)));
    larder.longer_clear().unwrap();
    assert!(!larder.longer_contains(&1));
    assert_eq!(named_lifetime("a", "b"), 2);
    named_lifetime::invalidate_tag("text").unwrap();
    named_lifetime::set_ttl(None);
    assert!(!named_lifetime::contains("a") && named_lifetime::cache().is_ok());
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    name: String,
}

#[test]
fn arguments_can_be_references_conversions_and_patterns() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    #[allow(clippy::needless_lifetimes, reason = "a function may have some")]
    fn lent<'a>(text: &'a str, all: &[u8], place: &Place, path: &Path, maybe: Option<&str>) -> usize {
        RUNS.count();
        text.len() + all.len() + place.name.len() + path.as_os_str().len() + maybe.map_or(0, str::len)
    }
    #[mcache]
    fn into(name: impl Into<String>, n: impl Into<u64>) -> String {
        RUNS.count();
        format!("{} {}", name.into(), n.into())
    }
    #[mcache]
    fn apart((a, b): (u8, u8), Place { name }: Place, mut n: u64, _: char) -> String {
        RUNS.count();
        n += u64::from(a) + u64::from(b);
        format!("{name}{n}")
    }
    #[mcache]
    #[allow(clippy::boxed_local, reason = "a function may take some")]
    fn nested(
        words: &[&str],
        pairs: Vec<(&str, u8)>,
        cow: Cow<'_, str>,
        boxed: Box<[u8]>,
        list: [&str; 2],
    ) -> usize {
        RUNS.count();
        words.len() + pairs.len() + cow.len() + boxed.len() + list.len()
    }

    let place = Place { name: "here".into() };
    for _ in 0..2 {
        assert_eq!(lent("a", &[1, 2], &place, Path::new("/"), Some("b")), 9);
    }
    assert!(lent::contains(&String::from("a"), &[1, 2], &place, Path::new("/"), Some("b")));
    assert_eq!(
        (into("a", 7_u8), into(String::from("a"), 7_u64), into('a', 7_u32)),
        ("a 7".into(), "a 7".into(), "a 7".into())
    );
    assert!(into::purge("a", 7_u16));
    for _ in 0..2 {
        assert_eq!(apart((1, 2), place.clone(), 3, 'x'), "here6");
        assert_eq!(nested(&["a"], vec![("b", 1)], "cd".into(), Box::new([1]), ["e", "f"]), 7);
    }
    assert_eq!(RUNS.take(), 4);
}

#[test]
fn skipped_arguments_are_not_part_of_the_key() {
    struct Log(Vec<u32>);

    #[mcache(skip(log))]
    fn logged(log: &mut Log, n: u32) -> u32 {
        log.0.push(n);
        n
    }
    #[mcache(skip(a, b))]
    fn all_skipped(a: f64, b: &dyn Fn() -> u8) -> u8 {
        let _ = a;
        b()
    }

    let mut log = Log(Vec::new());
    assert_eq!((logged(&mut log, 1), logged(&mut log, 1), logged(&mut log, 2)), (1, 1, 2));
    assert_eq!(log.0, [1, 2]);
    assert!(logged::purge(1));
    assert_eq!((all_skipped(1.0, &|| 1), all_skipped(2.0, &|| 2)), (1, 1));
    assert!(all_skipped::purge());
}

#[test]
fn custom_key_expression_is_used() {
    #[mcache(key = "(place.name.clone(), n / 10)")]
    fn coarse(place: &Place, n: u32, unused: &[f32]) -> u32 {
        let _ = (place, unused);
        n
    }
    #[mcache(key = name.to_lowercase())]
    fn folded(name: &str) -> String {
        name.to_owned()
    }

    let place = Place { name: "here".into() };
    assert_eq!((coarse(&place, 11, &[]), coarse(&place, 19, &[1.0]), coarse(&place, 20, &[])), (11, 11, 20));
    assert!(coarse::purge(&place, 15) && !coarse::contains(&place, 11));
    assert_eq!((folded("Ada"), folded("ADA")), ("Ada".into(), "Ada".into()));
    folded::clear().unwrap();
    assert_eq!((folded("ADA"), folded::cache().unwrap().len()), ("ADA".into(), 1));
}

#[mcache]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

#[test]
fn recursion() {
    assert_eq!(fibonacci(90), 2_880_067_194_370_816_120);
    assert_eq!(fibonacci::stats().cache.loads, 91);
}

#[test]
fn function_without_arguments_and_result_runs_once() {
    static RUNS: Runs = Runs::new();

    #[mcache]
    fn nothing() {
        RUNS.count();
    }

    nothing();
    nothing();
    assert_eq!((RUNS.take(), nothing::get()), (1, Some(())));
}

#[test]
fn weigher_gets_the_arguments() {
    fn by_length(name: &str, text: &str) -> u32 {
        (name.len() + text.len()) as u32
    }

    #[mcache(memory_bytes = "1 MiB", weigher = by_length)]
    fn named(name: &str) -> String {
        name.to_owned()
    }
    #[mcache(memory_bytes = "1 MB", weigher = |key, text| (key.0.len() + text.len()) as u32)]
    fn inferred(name: &str, n: u8) -> String {
        format!("{name}{n}")
    }
    #[mcache(memory_bytes = "64 KiB", key = "n / 10", weigher = |_, bytes| bytes.len() as u32)]
    fn keyed(n: u32) -> Vec<u8> {
        vec![0; n as usize]
    }

    (named("ab"), inferred("abc", 1), keyed(10)).0.clear();
    assert_eq!(named::cache().unwrap().bytes(), 4);
    assert_eq!(inferred::cache().unwrap().bytes(), 7);
    assert_eq!(keyed::cache().unwrap().bytes(), 10);
}

#[test]
fn shared_pointer_result_is_shared() {
    #[mcache]
    fn shared(n: usize) -> Arc<[u8]> {
        vec![0; n].into()
    }
    assert!(Arc::ptr_eq(&shared(10), &shared(10)));
}
