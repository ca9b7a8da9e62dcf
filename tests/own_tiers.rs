//! Tiers that the user brings: where they stand, by which name they are known, and what they are held to.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use larder::{
    BoxFuture, Cache, Capability, EntryOptions, ErrorKind, Event, OnRuntime, Persistence, Position, Result,
    Tier, TierKind, TieredBuilder, ucache,
};
use larder_core::tier::{BatchItem, Call, Layer, TierReply, forward_tier};
use larder_testkit::conformance::{self, Subject};
use larder_testkit::{FaultyTier, HashMapTier, ManualClock, MapStorage, Operation, Times};

use TierKind::{Disk, File, Memory};

type Texts = Cache<u32, String>;

fn kind(name: &str) -> TierKind {
    TierKind::own(name).unwrap()
}

fn map(name: &str) -> HashMapTier {
    HashMapTier::new().with_kind(kind(name))
}

/// A tier whose entries outlive the cache in `storage`.
fn kept(name: &str, storage: &MapStorage) -> HashMapTier {
    HashMapTier::on(storage).with_kind(kind(name))
}

fn builder(dir: &tempfile::TempDir) -> TieredBuilder<u32, String> {
    ucache("own").dir(dir.path())
}

const MEDIUM: usize = 50_000;

#[test]
fn kind_by_a_name_alone_is_the_users() {
    assert!(kind("shelf").is_own());
    assert!(![Memory, Disk, File, TierKind::Redis, TierKind::Null].iter().any(|kind| kind.is_own()));
}

#[test]
fn own_tier_is_preferred_by_its_position() {
    for (position, home, alternatives) in [
        (Position::First, kind("first"), &[Disk, File, Memory][..]),
        (Position::Before(Disk), kind("first"), &[Disk, File, Memory]),
        (Position::After(Disk), Disk, &[kind("first"), File, Memory]),
        (Position::Before(TierKind::Redis), kind("first"), &[Disk, File, Memory]),
        (Position::After(File), Disk, &[File, kind("first"), Memory]),
        (Position::Last, Disk, &[File, Memory, kind("first")]),
        (Position::After(TierKind::Redis), Disk, &[File, Memory, kind("first")]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let cache = builder(&dir).tier(position, map("first")).build().unwrap();
        let placement = cache.try_insert(1, "m".repeat(MEDIUM)).unwrap();
        assert_eq!(placement.home, home, "{position:?}: {placement}");
        assert!(
            placement.alternatives.iter().eq(alternatives.iter().copied()),
            "{position:?}: {placement:?}"
        );
        assert_eq!(cache.try_insert(2, "small".into()).unwrap().home, Memory, "{position:?}");
        cache.close().unwrap();
    }
}

/// Memory was taken for the first tier of a row when the built-in tiers before it were absent.
#[test]
fn own_tier_beside_memory_alone_takes_medium_entries() {
    for position in [Position::First, Position::Before(Disk), Position::Before(File)] {
        let dir = tempfile::tempdir().unwrap();
        let builder = builder(&dir).url("memory:").tier(position, kept("alone", &MapStorage::default()));
        let cache = builder.build().unwrap();
        let placement = cache.try_insert(1, "m".repeat(MEDIUM)).unwrap();
        assert_eq!((placement.home, placement.copy_in_memory), (kind("alone"), true), "{position:?}");
        assert_eq!(cache.try_insert(2, "small".into()).unwrap().home, Memory, "{position:?}");
        cache.close().unwrap();
    }
}

#[test]
fn own_tiers_are_read_in_the_order_of_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (FaultyTier::new(map("near")), FaultyTier::new(map("far")));
    let cache = builder(&dir).tier(Position::Last, far.clone()).tier(Position::First, near.clone());
    let cache = cache.build().unwrap();
    assert_eq!(cache.get(&1), None);
    assert_eq!([near.calls(Operation::Get), far.calls(Operation::Get)], [1, 1]);
    let kinds: Vec<_> = cache.stats().tiers.iter().map(|tier| tier.kind).collect();
    assert_eq!(kinds, [Memory, kind("near"), Disk, File, kind("far")]);
    cache.insert_with(
        1,
        "a".into(),
        EntryOptions::new().home(kind("near")).access(larder::Access::WriteHeavy),
    );
    assert_eq!(cache.get(&1).as_deref(), Some("a"));
    assert_eq!(far.calls(Operation::Get), 1, "the nearer tier had it");
    cache.close().unwrap();
}

#[test]
fn everything_names_an_own_tier_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let builder = builder(&dir).tier(Position::First, map("attic")).on_event(move |event| {
        let _ended = told.send(event);
    });
    let cache = builder.build().unwrap();
    let placement = cache.try_insert(1, "m".repeat(MEDIUM)).unwrap();
    assert_eq!(placement.to_string(), "attic (copy in memory): medium: disk");
    let entry = cache.inspect(&1).unwrap().unwrap();
    assert_eq!((entry.tier, entry.home), (Memory, kind("attic")));
    let explanation = cache.explain(&1).unwrap();
    assert!(explanation.to_string().starts_with("home attic, copy in memory"), "{explanation}");
    let stats = cache.stats();
    assert_eq!(stats.tier(kind("attic")).unwrap().counts.puts, 1);
    assert!(stats.to_string().contains("attic"), "{stats}");
    let inserted = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    let expected =
        Event::Inserted { key: Arc::new(1), home: kind("attic"), by: larder::events::Writer::Caller };
    assert_eq!(inserted, expected);
    cache.close().unwrap();
}

#[test]
fn own_tier_can_be_required_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let url = |tier: &str| format!("memory: sled://{}?require=memory,{tier}", dir.path().display());
    let build =
        |require: &str| ucache::<u32, String>("own").url(url(require)).tier(Position::Last, map("needed"));
    build("needed").build().unwrap().close().unwrap();
    kind("other-needed");
    let missing = build("other-needed").build().unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    assert!(missing.to_string().contains("other-needed"), "{missing}");
    let unknown = build("no-such-tier").build().unwrap_err().to_string();
    assert!(unknown.contains("no-such-tier") && unknown.contains("tiers of your own"), "{unknown}");
}

#[test]
fn wrong_own_tiers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |builder: TieredBuilder<u32, String>| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let built_in = refused(builder(&dir).tier(Position::Last, HashMapTier::new()));
    assert!(built_in.contains("a tier of the kind disk") && built_in.contains("TierKind::own"), "{built_in}");
    let twice = refused(builder(&dir).tier(Position::Last, map("twice")).tier(Position::First, map("twice")));
    assert!(twice.contains("two tiers with the name twice"), "{twice}");
    let beside = refused(builder(&dir).tier(Position::After(Memory), map("beside")));
    assert!(beside.contains("After(Memory)") && beside.contains("beside Disk, File or Redis"), "{beside}");
    let many = |count: u32| {
        (0..count).fold(builder(&dir), |builder, n| builder.tier(Position::Last, map(&format!("n{n}"))))
    };
    assert!(refused(many(9)).contains("9 tiers of your own"));
    let cache = many(8).build().unwrap();
    assert_eq!(cache.stats().tiers.len(), 11);
    cache.close().unwrap();
}

#[test]
fn cache_over_memory_and_an_own_tier_alone_keeps_what_it_promises() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let open = || -> Texts {
        let cache = builder(&dir).url("memory:").persistence(Persistence::LongTerm);
        cache.tier(Position::First, kept("shelf", &storage)).build().unwrap()
    };
    let cache = open();
    let tagged = |tag: &str| EntryOptions::new().tag(tag);
    for key in 0..10 {
        cache.insert_with(key, format!("{key}"), tagged(if key < 5 { "old" } else { "new" }));
    }
    assert_eq!(cache.explain(&1).unwrap().home, Some(kind("shelf")));
    assert!(cache.remove(&9));
    cache.invalidate_tag("old").unwrap();
    cache.close().unwrap();
    let cache = open();
    let mut keys: Vec<u32> = cache.keys().unwrap().into_iter().map(|key| *key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [5, 6, 7, 8], "what was removed and invalidated stays so after a restart");
    assert_eq!(cache.get(&5).as_deref(), Some("5"));
    assert_eq!(cache.compute(5, |_| larder::Compute::Put("five".into())).unwrap().as_deref(), Some("five"));
    cache.clear().unwrap();
    assert_eq!((cache.len(), cache.get(&6)), (0, None));
    cache.close().unwrap();
}

/// The log of invalidations is in the directory of the cache. Without it nothing tells which entries were
/// invalidated.
#[test]
fn own_tier_starts_empty_if_the_directory_of_the_cache_was_lost() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let open = |name: &str| -> Texts {
        let cache = ucache(name).dir(dir.path()).url("memory:").persistence(Persistence::LongTerm);
        cache.tier(Position::First, kept("shelf", &storage)).build().unwrap()
    };
    let cache = open("one");
    cache.insert(1, "a".into());
    cache.close().unwrap();
    let cache = open("another");
    assert_eq!(cache.get(&1), None);
    cache.close().unwrap();
    let shared = |storage: &MapStorage| {
        let tier = kept("shared-shelf", storage);
        let capability = Capability { shared: true, ..tier.capability() };
        ucache::<u32, String>("shared").url("memory:").tier(Position::First, tier.with_capability(capability))
    };
    let cache = shared(&storage).build().unwrap();
    assert!(cache.dir().is_none(), "others own the entries: the cache needs no directory");
    cache.insert_with(1, "a".into(), EntryOptions::new().home(kind("shared-shelf")));
    cache.close().unwrap();
    let cache = shared(&storage).build().unwrap();
    assert_eq!(cache.get(&1).as_deref(), Some("a"));
    assert_eq!(cache.invalidate_tag("t").unwrap_err().kind(), ErrorKind::Unsupported);
    cache.close().unwrap();
}

#[test]
fn failing_own_tier_never_fails_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let tier = FaultyTier::new(map("flaky"));
    let cache = builder(&dir).clock(clock.clone()).tier(Position::First, tier.clone()).build().unwrap();
    tier.fail(Operation::Put, Times::Forever, ErrorKind::Io);
    let placement = cache.try_insert(1, "m".repeat(MEDIUM)).unwrap();
    assert_eq!(
        (placement.home, placement.rule),
        (Disk, "an alternative, because the home refused the entry")
    );
    tier.fail_all(ErrorKind::Io);
    assert_eq!(cache.get_with(2, || "loaded".into()), "loaded");
    assert_eq!(cache.get(&1).map(|text| text.len()), Some(MEDIUM));
    let stats = cache.stats();
    let flaky = stats.tier(kind("flaky")).unwrap();
    assert!(flaky.counts.errors > 0 && flaky.counts.fallbacks == 0, "{stats}");
    tier.heal();
    clock.advance(Duration::from_secs(120));
    let healed = |_: &u32| cache.try_insert(3, "m".repeat(MEDIUM)).unwrap().home == kind("flaky");
    assert!(
        (0..1000).any(|n| {
            clock.advance(Duration::from_secs(1));
            healed(&n)
        }),
        "it is tried again"
    );
    cache.close().unwrap();
}

/// A tier that waits by a timer of tokio before each call, which panics without a runtime.
struct OnTimer<T>(T);

async fn tick() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}

impl<T: Tier> Layer for OnTimer<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.0
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        _: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        let timer = tokio::time::sleep(Duration::from_micros(1));
        Box::pin(async move {
            timer.await;
            tick().await;
            make().await
        })
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        _: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(async move {
            tick().await;
            make(Cow::Borrowed(items)).await
        })
    }
}

forward_tier!([T: Tier] OnTimer<T>);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A socket or timer of tokio in a tier panicked when a thread without a runtime used the cache.
#[test]
fn tier_on_a_runtime_serves_threads_and_tasks_of_any_executor() {
    let runtime = runtime();
    let tier = OnRuntime::new(runtime.handle().clone(), OnTimer(map("timed")));
    let cache = ucache::<u32, String>("timed").url("memory:").tier(Position::First, tier).build().unwrap();
    assert_eq!(cache.try_insert(1, "m".repeat(MEDIUM)).unwrap().home, kind("timed"));
    assert_eq!(cache.get_with(2, || "m".repeat(MEDIUM)).len(), MEDIUM);
    assert_eq!(cache.get_many(&[1, 2, 3]).iter().flatten().count(), 2);
    assert_eq!((cache.remove(&1), cache.keys().unwrap().len()), (true, 1));
    let tasks = cache.to_async();
    larder_testkit::block_on(async {
        assert_eq!(tasks.get_with(3, async { "m".repeat(MEDIUM) }).await.len(), MEDIUM);
    });
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(async { assert!(tasks.try_insert(4, "m".repeat(MEDIUM)).await.is_ok()) });
    assert_eq!(cache.stats().tier(kind("timed")).unwrap().usage.entries, 3);
    cache.close().unwrap();
}

#[test]
fn tier_on_a_runtime_keeps_what_it_promises() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let subject = Subject::new("on a runtime", move || {
        let (storage, handle) = (MapStorage::default(), handle.clone());
        move || OnRuntime::new(handle.clone(), OnTimer(HashMapTier::on(&storage)))
    });
    conformance::run(&subject).assert_all();
}

#[test]
fn own_tier_takes_the_inserts_of_a_batch_together() {
    let dir = tempfile::tempdir().unwrap();
    let far = FaultyTier::new(map("afar"));
    let cache = builder(&dir).tier(Position::First, far.clone()).build().unwrap();
    let texts = (0..300).map(|key| (key, format!("{key} {}", "m".repeat(MEDIUM))));
    cache.insert_many(texts.clone());
    assert!((1..=4).contains(&far.calls(Operation::PutMany)), "{} batches", far.calls(Operation::PutMany));
    for (key, text) in texts {
        assert_eq!(
            cache.inspect(&key).unwrap().map(|entry| (entry.value, entry.home)),
            Some((text, kind("afar")))
        );
    }
    far.fail(Operation::PutMany, Times::Next(1), ErrorKind::Io);
    let new = [1, 2].map(|key| (key, "new ".repeat(MEDIUM)));
    let outcomes = cache.try_insert_many(new, EntryOptions::new());
    assert!(outcomes.iter().all(Result::is_ok), "one by one: {outcomes:?}");
    assert_eq!(cache.get(&1), Some("new ".repeat(MEDIUM)));
    cache.close().unwrap();
}

#[test]
fn own_tier_takes_the_removals_of_a_batch_together() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let far = FaultyTier::new(map("afar"));
    let cache = builder(&dir).tier(Position::First, far.clone()).clock(clock.clone()).build().unwrap();
    let medium = |key: u32| (key, format!("{key} {}", "m".repeat(MEDIUM)));
    cache.insert_many((0..300).map(medium));
    let over = EntryOptions::new().ttl(Duration::from_secs(1));
    cache.try_insert_with(400, "o".repeat(MEDIUM), over).unwrap();
    clock.advance(Duration::from_secs(2));
    let keys: Vec<u32> = (0..200).chain([400, 500]).collect();
    assert_eq!(cache.remove_many(&keys).unwrap(), 200, "an expired and an absent entry do not count");
    let (batches, alone) = (far.calls(Operation::RemoveMany), far.calls(Operation::Remove) - keys.len());
    assert!((1..=4).contains(&batches) && alone == 0, "{batches} batches, {alone} alone");
    assert_eq!((cache.get(&0), cache.get(&199), cache.get(&200)), (None, None, Some(medium(200).1)));
    far.fail(Operation::RemoveMany, Times::Next(1), ErrorKind::Io);
    assert!(cache.remove_many(&[200, 201]).is_err());
    assert_eq!((cache.get(&200), cache.get(&201)), (None, None), "what could not be removed is not served");
    cache.close().unwrap();
}

#[test]
fn own_tier_takes_the_loads_of_a_batch_together() {
    let dir = tempfile::tempdir().unwrap();
    let far = FaultyTier::new(map("afar"));
    let cache = builder(&dir).tier(Position::First, far.clone()).build().unwrap();
    let text = |key: u32| format!("{key} {}", "m".repeat(MEDIUM));
    let load = |keys: Vec<u32>| keys.into_iter().map(|key| (key, text(key))).collect::<Vec<_>>();
    let keys: Vec<u32> = (0..200).collect();
    let loaded = cache.get_many_with(keys.clone(), load);
    assert!(loaded.into_iter().zip(&keys).all(|(loaded, key)| loaded == Some(text(*key))));
    assert!((1..=4).contains(&far.calls(Operation::PutMany)), "{} batches", far.calls(Operation::PutMany));
    assert_eq!(far.calls(Operation::Put), 200, "none alone");
    let entry = cache.inspect(&7).unwrap().unwrap();
    assert_eq!((entry.value, entry.home), (text(7), kind("afar")));
    far.fail(Operation::PutMany, Times::Next(1), ErrorKind::Io);
    let loaded = cache.get_many_with(vec![300, 301], load);
    assert_eq!(loaded, [Some(text(300)), Some(text(301))]);
    assert_eq!(cache.get(&301), Some(text(301)), "stored alone");
    cache.close().unwrap();
}
