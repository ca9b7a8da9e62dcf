//! What a dictionary saves, and whether that falls.

/// Payloads that are compared at once.
const WINDOW: u64 = 1 << 11;
const WINDOW_MAX: u64 = 1 << 20;
/// The share that is stored may grow by one in so many before it counts as falling gain.
const TOLERANCE: u64 = 4;

/// Compares the share that is stored of each window of payloads with the best one.
#[derive(Debug)]
pub(super) struct Gain {
    /// Payloads of a window.
    window: u64,
    payloads: u64,
    plain: u64,
    stored: u64,
    /// The best share so far, in millionths.
    best: Option<u64>,
    last: u64,
}

impl Default for Gain {
    fn default() -> Self {
        Self { window: WINDOW, payloads: 0, plain: 0, stored: 0, best: None, last: 0 }
    }
}

impl Gain {
    /// Notes a payload. Returns whether it ends a window in which a quarter more was stored than in the best
    /// one.
    pub(super) fn is_falling(&mut self, plain: usize, stored: usize) -> bool {
        self.payloads += 1;
        self.plain += plain as u64;
        self.stored += stored as u64;
        if self.payloads < self.window {
            return false;
        }
        self.last = self.stored.saturating_mul(1_000_000) / self.plain.max(1);
        (self.payloads, self.plain, self.stored) = (0, 0, 0);
        let best = self.best.map_or(self.last, |best| best.min(self.last));
        self.best = Some(best);
        self.last > best + best / TOLERANCE
    }

    /// Nothing better was found: the last window is the measure, and the next ones are twice as long.
    pub(super) fn accept(&mut self) {
        self.best = Some(self.last);
        self.window = (self.window * 2).min(WINDOW_MAX);
        (self.payloads, self.plain, self.stored) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(gain: &mut Gain, stored: usize) -> bool {
        (0..gain.window).fold(false, |_, _| gain.is_falling(100, stored))
    }

    #[test]
    fn gain_falls_when_a_quarter_more_is_stored() {
        let mut gain = Gain::default();
        assert!(!window(&mut gain, 40));
        assert!(!window(&mut gain, 30));
        assert!(!window(&mut gain, 37));
        assert!(window(&mut gain, 38));
    }

    #[test]
    fn accepted_share_is_the_next_measure_and_the_window_doubles() {
        let mut gain = Gain::default();
        assert!(!window(&mut gain, 30));
        assert!(window(&mut gain, 60));
        gain.accept();
        assert_eq!(gain.window, 2 * WINDOW);
        assert!(!window(&mut gain, 70));
        assert!(window(&mut gain, 80));
    }
}
