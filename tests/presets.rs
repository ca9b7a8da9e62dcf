//! The effect of presets on entries.

use larder::{Bytes, Compression, Kind, Preset, TierKind, kinds, presets, ucache};
use serde::{Deserialize, Serialize};

/// Returns the tier of a value, its compression, and whether memory has a copy.
fn stored(preset: Preset, bytes: usize) -> (TierKind, Option<Compression>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let cache = ucache::<u8, Bytes>("preset").dir(dir.path()).preset(preset).build().unwrap();
    let home = cache.try_insert(1, Bytes::from(vec![7; bytes])).unwrap().home;
    let explanation = cache.explain(&1).unwrap();
    let in_memory = explanation.tiers.contains(&TierKind::Memory);
    (home, explanation.compression, in_memory)
}

#[test]
fn preset_decides_tier_and_compression() {
    let check = |preset: Preset, bytes: usize, home: TierKind, compressed: bool| {
        let (seen, compression, _) = stored(preset, bytes);
        assert_eq!(seen, home, "{preset:?} {bytes}");
        let is_compressed = compression.is_some_and(|compression| compression != Compression::None);
        assert_eq!(is_compressed, compressed, "{preset:?} {bytes}: {compression:?}");
    };
    check(presets::scalars(), 8, TierKind::Memory, false);
    check(presets::text(), 100, TierKind::Memory, false);
    check(presets::text(), 200_000, TierKind::Disk, true);
    check(presets::json(), 2_000, TierKind::Disk, true);
    check(presets::images(), 200_000, TierKind::File, false);
    check(presets::bytes(), 100, TierKind::Memory, false);
    check(presets::arrays(), 2 << 20, TierKind::File, false);
    check(presets::data_frames(), 2 << 20, TierKind::File, false);
    check(presets::models(), 2 << 20, TierKind::File, false);
    check(presets::sessions(), 500, TierKind::Memory, false);
}

#[test]
fn models_are_copied_to_memory_and_arrays_are_not() {
    assert!(stored(presets::models(), 3 << 20).2);
    assert!(!stored(presets::arrays(), 3 << 20).2);
}

#[test]
fn method_wins_over_preset_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let value = |builder: larder::TieredBuilder<u8, String>| {
        let rows = builder.explain_config().unwrap();
        rows.into_iter().find(|row| row.option == "kind").unwrap().to_string()
    };
    let builder = || ucache::<u8, String>("order").dir(dir.path());
    assert_eq!(value(builder().kind(Kind::Text).preset(presets::images())), "kind = text (code)");
    assert_eq!(value(builder().preset(presets::images()).kind(Kind::Text)), "kind = text (code)");
    assert_eq!(value(builder().preset(presets::images())), "kind = image (the preset images)");
}

#[test]
fn kind_registered_before_build_is_used() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Scan(Vec<u8>);

    let dir = tempfile::tempdir().unwrap();
    let builder = ucache::<u8, Scan>("scans").dir(dir.path());
    kinds::register::<Scan>(Kind::Image);
    let scans = builder.build().unwrap();
    let placement = scans.try_insert(1, Scan(vec![1; 200_000])).unwrap();
    assert_eq!(placement.home, TierKind::File, "{placement}");
}
