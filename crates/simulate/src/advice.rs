//! What another size or another policy would have done, in one sentence.

/// The hit ratios of one policy at several sizes, and of other policies at the present size.
///
/// Shares are between 0 and 1.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// The name of the present policy.
    pub policy: &'a str,
    /// What it reaches now.
    pub now: f64,
    /// Other sizes, as a factor of the present one, with what the policy reaches there.
    pub sizes: &'a [(f64, f64)],
    /// The other policies, with what they reach at the present size.
    pub others: &'a [(&'a str, f64)],
}

/// A change of the hit ratio below this many points is not worth a change.
const POINTS_MIN: f64 = 1.0;

impl Compared<'_> {
    /// The advice.
    ///
    /// ```
    /// use larder_simulate::advice::Compared;
    ///
    /// let compared =
    ///     Compared { policy: "Auto", now: 0.71, sizes: &[(2.0, 0.74)], others: &[("Lru", 0.68)] };
    /// assert_eq!(
    ///     compared.sentence(),
    ///     "Twice the size would raise the hit ratio from 71.0 to 74.0 %; no other policy does better than Auto."
    /// );
    /// ```
    pub fn sentence(&self) -> String {
        format!("{}; {}.", self.of_sizes(), self.of_policies())
    }

    fn of_sizes(&self) -> String {
        let points = |share: f64| (share - self.now) * 100.0;
        let larger = self.sizes.iter().filter(|(factor, _)| *factor > 1.0);
        let smaller = self.sizes.iter().filter(|(factor, _)| *factor < 1.0);
        // The least growth that pays, then the smallest size that costs nothing.
        let growth = larger.filter(|(_, share)| points(*share) >= POINTS_MIN);
        if let Some((factor, share)) = growth.min_by(|one, other| one.0.total_cmp(&other.0)) {
            return format!(
                "{} would raise the hit ratio from {} to {} %",
                times(*factor),
                percent(self.now),
                percent(*share)
            );
        }
        let enough = smaller.filter(|(_, share)| points(*share) > -POINTS_MIN);
        match enough.min_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((factor, share)) => {
                format!(
                    "{} would do: a hit ratio of {} in place of {} %",
                    times(*factor),
                    percent(*share),
                    percent(self.now)
                )
            }
            None => format!(
                "The size fits: the hit ratio is {} %, and no larger size adds a point",
                percent(self.now)
            ),
        }
    }

    fn of_policies(&self) -> String {
        let best = self.others.iter().max_by(|one, other| one.1.total_cmp(&other.1));
        match best {
            Some((name, share)) if (share - self.now) * 100.0 >= POINTS_MIN => {
                format!(
                    "{name} in place of {} would reach {} % at the present size",
                    self.policy,
                    percent(*share)
                )
            }
            _ => format!("no other policy does better than {}", self.policy),
        }
    }
}

fn times(factor: f64) -> String {
    match factor {
        2.0 => "Twice the size".to_owned(),
        0.5 => "Half the size".to_owned(),
        0.25 => "A quarter of the size".to_owned(),
        factor => format!("{factor} times the size"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(sizes: &[(f64, f64)], others: &[(&str, f64)]) -> String {
        Compared { policy: "Auto", now: 0.5, sizes, others }.sentence()
    }

    #[test]
    fn least_growth_that_pays_is_advised() {
        let text = sentence(&[(0.5, 0.3), (2.0, 0.505), (4.0, 0.6)], &[]);
        assert_eq!(
            text,
            "4 times the size would raise the hit ratio from 50.0 to 60.0 %; no other policy does better than Auto."
        );
    }

    #[test]
    fn smallest_size_that_costs_nothing_is_advised() {
        let text = sentence(&[(0.25, 0.495), (0.5, 0.499), (2.0, 0.505)], &[("Lru", 0.509)]);
        assert!(
            text.starts_with("A quarter of the size would do: a hit ratio of 49.5 in place of 50.0 %"),
            "{text}"
        );
    }

    #[test]
    fn size_and_policy_that_fit_are_left() {
        let text = sentence(&[(0.5, 0.3), (2.0, 0.5)], &[("Lru", 0.4)]);
        assert_eq!(
            text,
            "The size fits: the hit ratio is 50.0 %, and no larger size adds a point; no other policy does better than Auto."
        );
    }

    #[test]
    fn better_policy_is_named() {
        let text = sentence(&[], &[("Lru", 0.4), ("S3Fifo", 0.55)]);
        assert!(
            text.ends_with("; S3Fifo in place of Auto would reach 55.0 % at the present size."),
            "{text}"
        );
    }
}
