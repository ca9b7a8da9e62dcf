//! Measured times of tiers, by the size of the frame.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use larder_core::place::TIERS_MAX;
use larder_core::tier::TierKind;

use super::codec::{Reader, Writer};

/// Sizes in steps of four: below 64 B, below 256 B, and so on, from 256 MiB on.
const SIZES: usize = 13;
/// A new measurement counts this much, and more as long as there are fewer.
const RECENT: u32 = 8;
/// What is left of the deviation of a factor after a round without a measurement.
const FADING: f32 = 0.985;

/// How long a tier takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) read: f64,
    pub(super) write: f64,
}

/// What is assumed of a tier that was not measured, in nanoseconds a call and a byte.
struct Assumed {
    read: (f64, f64),
    write: (f64, f64),
}

impl Assumed {
    fn of(kind: TierKind) -> Self {
        match kind {
            TierKind::Memory | TierKind::Null => Self { read: (200.0, 0.0), write: (300.0, 0.0) },
            TierKind::Disk => Self { read: (2e3, 0.1), write: (8e3, 0.3) },
            TierKind::File => Self { read: (15e3, 0.1), write: (60e3, 0.3) },
            TierKind::Redis => Self { read: (60e3, 1.0), write: (60e3, 1.0) },
            TierKind::Own(_) => Self { read: (1e6, 10.0), write: (1e6, 10.0) },
            _ => Self { read: (1e6, 10.0), write: (1e6, 10.0) },
        }
    }

    fn cost(&self, bytes: u64) -> Cost {
        let of = |(call, byte): (f64, f64)| call + byte * bytes as f64;
        Cost { read: of(self.read), write: of(self.write) }
    }
}

/// The logarithm of measured over assumed times, with recent ones counting more. Logarithms, because single
/// calls take a thousand times as long as others.
#[derive(Default)]
struct Factor {
    log: AtomicU32,
    samples: AtomicU32,
    is_fresh: AtomicBool,
}

impl Factor {
    fn log(&self) -> Option<f32> {
        (self.samples.load(Relaxed) > 0).then(|| f32::from_bits(self.log.load(Relaxed)))
    }

    fn set(&self, log: f32, samples: u32) {
        self.log.store(log.to_bits(), Relaxed);
        self.samples.store(samples, Relaxed);
    }

    /// Two threads at once may lose a measurement, which does no harm.
    fn record(&self, measured: f32) {
        let samples = self.samples.load(Relaxed).saturating_add(1).min(RECENT);
        let log = self.log().unwrap_or(measured);
        self.set(log + (measured - log) / samples as f32, samples);
        self.is_fresh.store(true, Relaxed);
    }

    fn fade(&self) {
        if !self.is_fresh.swap(false, Relaxed)
            && let Some(log) = self.log()
        {
            self.log.store((log * FADING).to_bits(), Relaxed);
        }
    }
}

/// The factors of one tier.
#[derive(Default)]
struct TierFactors {
    kind: OnceLock<TierKind>,
    reads: [Factor; SIZES],
    writes: [Factor; SIZES],
}

/// The times of all tiers beyond memory. Read and written without a lock.
#[derive(Default)]
pub(super) struct Times {
    tiers: [TierFactors; TIERS_MAX],
}

impl Times {
    pub(super) fn read(&self, kind: TierKind, bytes: u64, time: Duration) {
        if let Some(tier) = self.enter(kind) {
            let assumed = Assumed::of(kind).cost(bytes).read;
            tier.reads[size_of(bytes)].record(log_of(time, assumed));
        }
    }

    pub(super) fn written(&self, kind: TierKind, bytes: u64, time: Duration) {
        if let Some(tier) = self.enter(kind) {
            let assumed = Assumed::of(kind).cost(bytes).write;
            tier.writes[size_of(bytes)].record(log_of(time, assumed));
        }
    }

    /// What a read and a write of this many bytes take.
    pub(super) fn cost(&self, kind: TierKind, bytes: u64) -> Cost {
        let assumed = Assumed::of(kind).cost(bytes);
        let Some(tier) = self.tiers.iter().find(|tier| tier.kind.get() == Some(&kind)) else {
            return assumed;
        };
        let size = size_of(bytes);
        let factor = |factors| nearest(factors, size).map_or(1.0, |log| f64::from(log).exp());
        Cost { read: assumed.read * factor(&tier.reads), write: assumed.write * factor(&tier.writes) }
    }

    /// Enters a tier, so that [`kinds`](Self::kinds) has it before it was measured.
    pub(super) fn know(&self, kind: TierKind) {
        self.enter(kind);
    }

    /// The tiers beyond memory that are known.
    pub(super) fn kinds(&self) -> impl Iterator<Item = TierKind> + '_ {
        self.tiers.iter().map_while(|tier| tier.kind.get().copied())
    }

    /// Lets the factors fade that were not measured since the last call.
    pub(super) fn fade(&self) {
        self.tiers.iter().flat_map(|tier| tier.reads.iter().chain(&tier.writes)).for_each(Factor::fade);
    }

    fn enter(&self, kind: TierKind) -> Option<&TierFactors> {
        if matches!(kind, TierKind::Memory | TierKind::Null) {
            return None;
        }
        self.tiers.iter().find(|tier| *tier.kind.get_or_init(|| kind) == kind)
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.u8(u8::try_from(self.kinds().count()).unwrap_or(0));
        for tier in self.tiers.iter().take_while(|tier| tier.kind.get().is_some()) {
            to.text(tier.kind.get().map_or("", |kind| kind.name()));
            for factor in tier.reads.iter().chain(&tier.writes) {
                to.f32(factor.log().unwrap_or(f32::NAN));
            }
        }
    }

    /// Takes over the times of the tiers that the process knows. `None` if the bytes end too early.
    pub(super) fn restore(&self, from: &mut Reader<'_>) -> Option<()> {
        for _ in 0..from.u8()? {
            let tier = TierKind::by_name(from.text()?).and_then(|kind| self.enter(kind));
            for at in 0..SIZES * 2 {
                let log = from.f32()?;
                let factor = tier.and_then(|tier| tier.reads.iter().chain(&tier.writes).nth(at));
                if let Some(factor) = factor.filter(|_| log.is_finite()) {
                    // One measurement: those of this process soon count more.
                    factor.set(log.clamp(-30.0, 30.0), 1);
                }
            }
        }
        Some(())
    }
}

fn log_of(time: Duration, assumed: f64) -> f32 {
    ((time.as_nanos() as f64).max(1.0) / assumed).ln() as f32
}

fn size_of(bytes: u64) -> usize {
    (bytes.max(1).ilog2() as usize).saturating_sub(4).div_euclid(2).min(SIZES - 1)
}

/// The factor of this size, or else of the nearest one that was measured.
fn nearest(factors: &[Factor; SIZES], size: usize) -> Option<f32> {
    (0..SIZES).find_map(|away| {
        let below = size.checked_sub(away).and_then(|size| factors[size].log());
        below.or_else(|| factors.get(size + away).and_then(Factor::log))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tier_without_measurements_takes_what_is_assumed() {
        let times = Times::default();
        let cost = times.cost(TierKind::Disk, 10_000);
        assert_eq!(cost, Cost { read: 3e3, write: 11e3 });
    }

    #[test]
    fn measured_times_of_a_size_apply_to_sizes_near_it() {
        let times = Times::default();
        for _ in 0..20 {
            times.read(TierKind::Disk, 1000, Duration::from_micros(21));
        }
        let near = |bytes| times.cost(TierKind::Disk, bytes).read / 1e3;
        assert!((20.0..22.0).contains(&near(1000)), "{}", near(1000));
        assert!((119.0..121.0).contains(&near(100_000)), "{}", near(100_000));
        assert_eq!(times.cost(TierKind::Disk, 1000).write, 8.3e3);
    }

    #[test]
    fn slower_tier_is_noticed_and_forgotten_without_measurements() {
        let times = Times::default();
        let read = |micros| {
            for _ in 0..40 {
                times.read(TierKind::File, 1000, Duration::from_micros(micros));
            }
            times.fade();
            times.cost(TierKind::File, 1000).read / 1e3
        };
        assert!(read(15) < 16.0);
        assert!(read(150) > 140.0);
        (0..200).for_each(|_| times.fade());
        assert!(times.cost(TierKind::File, 1000).read < 17e3);
    }

    #[test]
    fn sizes_are_steps_of_four() {
        assert_eq!([0, 63, 64, 255, 256, 1 << 30].map(size_of), [0, 0, 1, 1, 2, SIZES - 1]);
    }
}
