//! What a byte must save, so that the entries that save most fit.

use super::counts::COUNTS;

/// Classes of entries by the time that a hit saves a byte, and of what all their hits save: [`STEPS`] for each
/// power of two.
const CLASSES: usize = 128;
const STEPS: f64 = 2.0;
/// The classes begin at two to the power of this, in nanoseconds a byte, negated.
const FIRST: f64 = 28.0;

/// The bytes of the entries that were requested lately, by what a hit saves a byte and by count.
pub(super) struct Demand {
    bytes: Box<[[f64; COUNTS]]>,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self { bytes: vec![[0.0; COUNTS]; CLASSES].into() }
    }

    /// Notes that an entry, of which each byte saves this many nanoseconds, has another count.
    pub(super) fn recount(&mut self, bytes: f64, saved: f64, (from, to): (usize, usize)) {
        let class = &mut self.bytes[class_of(saved)];
        if from > 0 {
            // It may have been in another class: times vary.
            class[from] = (class[from] - bytes).max(0.0);
        }
        class[to] += bytes;
    }

    /// Halves every count. Entries that were requested once are forgotten.
    pub(super) fn halve(&mut self) {
        self.bytes.iter_mut().for_each(halve);
    }

    /// The nanoseconds that all further requests must save a byte, so that the entries that save as much fit.
    /// `requests` are those that are expected for each count. Zero if all entries fit.
    pub(super) fn price(&self, requests: &[f64; COUNTS], room: f64) -> f64 {
        let mut by_worth = [0.0; CLASSES];
        for (count, requests) in requests.iter().enumerate().skip(1) {
            let steps = (requests.max(1e-3).log2() * STEPS).floor() as isize;
            for (class, bytes) in self.bytes.iter().enumerate() {
                let worth = class.saturating_add_signed(steps).min(CLASSES - 1);
                by_worth[worth] += bytes[count];
            }
        }
        let mut held = 0.0;
        let full = (0..CLASSES).rev().find(|class| {
            held += by_worth[*class];
            held > room
        });
        full.map_or(0.0, |class| least_of(class + 1))
    }
}

/// Halves the count of everything that is summed up by count.
pub(super) fn halve(by_count: &mut [f64; COUNTS]) {
    let mut halved = [0.0; COUNTS];
    by_count.iter().enumerate().for_each(|(count, sum)| halved[count / 2] += sum);
    halved[0] = 0.0;
    *by_count = halved;
}

/// The class of entries of which each byte saves this many nanoseconds.
fn class_of(saved: f64) -> usize {
    // The conversion saturates.
    (((saved.max(1e-9).log2() + FIRST) * STEPS) as usize).min(CLASSES - 1)
}

/// The least that a byte of the class saves.
fn least_of(class: usize) -> f64 {
    (class as f64 / STEPS - FIRST).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE_EACH: [f64; COUNTS] = [1.0; COUNTS];

    /// 1,000 entries of 1,000 bytes each, whose bytes save 1, 2, 4 or 8 ns, requested once.
    fn demand() -> Demand {
        let mut demand = Demand::new();
        (0..1000).for_each(|number| demand.recount(1000.0, f64::from(1 << (number % 4)) * 1.01, (0, 1)));
        demand
    }

    #[test]
    fn price_is_zero_while_everything_fits() {
        assert_eq!(demand().price(&ONCE_EACH, 1_000_000.0), 0.0);
        assert_eq!(demand().price(&ONCE_EACH, f64::INFINITY), 0.0);
    }

    #[test]
    fn price_rises_until_the_rest_fits() {
        let dear = demand().price(&ONCE_EACH, 510_000.0);
        assert!(dear > 2.0 && dear <= 4.0, "the half that saves 4 and 8 ns fits, not {dear}");
        let dearest = demand().price(&ONCE_EACH, 260_000.0);
        assert!(dearest > 4.0 && dearest <= 8.0, "{dearest}");
    }

    #[test]
    fn entries_that_are_requested_more_often_are_worth_more() {
        let mut demand = demand();
        (0..250).for_each(|_| demand.recount(1000.0, 1.01, (1, 2)));
        let mut requests = ONCE_EACH;
        requests[2] = 32.0;
        let price = demand.price(&requests, 260_000.0);
        assert!(price > 8.0 && price <= 32.0, "those that save 1 ns, 32 times, and not {price}");
    }

    #[test]
    fn entry_is_counted_once_and_forgotten_by_halving() {
        let mut demand = Demand::new();
        demand.recount(1000.0, 1.0, (0, 1));
        demand.recount(1000.0, 1.0, (1, 2));
        assert_eq!(demand.price(&ONCE_EACH, 1000.0), 0.0);
        demand.halve();
        assert!(demand.price(&ONCE_EACH, 999.0) > 0.0, "it has the count 1");
        demand.halve();
        assert_eq!(demand.price(&ONCE_EACH, 0.0), 0.0);
    }

    #[test]
    fn classes_begin_where_they_say() {
        for class in 0..CLASSES {
            assert_eq!(class_of(least_of(class) * 1.0001), class);
        }
        assert_eq!((class_of(0.0), class_of(f64::MAX)), (0, CLASSES - 1));
    }
}
