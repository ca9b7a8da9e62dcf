//! Interleaved rounds: each contender runs once in each round, in rotating order, and is compared with the
//! first contender of the same round. A slow phase of the machine slows the whole round, so the ratios are
//! more stable than the times.

use std::hint::black_box;
use std::time::Instant;

/// One implementation of the operation of a row.
pub(crate) struct Contender<'a> {
    name: &'static str,
    /// Performs one operation, given its number.
    operate: Box<dyn FnMut(usize) + 'a>,
    nanos: Vec<f64>,
}

/// A row of the comparison: contenders for one operation; the first is the baseline.
pub(crate) struct Row<'a> {
    title: String,
    operations: usize,
    rounds: usize,
    contenders: Vec<Contender<'a>>,
}

/// The default number of rounds of a row; the medians are over these.
const ROUNDS: usize = 15;

impl<'a> Row<'a> {
    /// A row with this number of operations for each contender and round.
    pub(crate) fn new(title: impl Into<String>, operations: usize) -> Self {
        Self { title: title.into(), operations, rounds: ROUNDS, contenders: Vec::new() }
    }

    #[allow(dead_code, reason = "the comparison over Redis alone needs it")]
    /// Sets the number of rounds: many short ones on a busy machine.
    pub(crate) fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }

    /// Adds a contender.
    pub(crate) fn with(mut self, name: &'static str, operate: impl FnMut(usize) + 'a) -> Self {
        self.contenders.push(Contender { name, operate: Box::new(operate), nanos: Vec::new() });
        self
    }

    /// Runs the rounds and prints the row.
    pub(crate) fn run(mut self) {
        self.round(0, false);
        for round in 0..self.rounds {
            self.round(round, true);
        }
        self.print();
    }

    fn round(&mut self, round: usize, counts: bool) {
        let count = self.contenders.len();
        for turn in 0..count {
            let contender = &mut self.contenders[(round + turn) % count];
            let started = Instant::now();
            for operation in 0..self.operations {
                (contender.operate)(black_box(operation + round * self.operations));
            }
            let nanos = started.elapsed().as_nanos() as f64 / self.operations as f64;
            if counts {
                contender.nanos.push(nanos);
            }
        }
    }

    fn print(&self) {
        println!("\n{}", self.title);
        println!("  {:<30}{:>15}{:>24}{:>9}", "", "median", "p10 .. p90", "ratio");
        let measure = &self.contenders[0].nanos;
        for contender in &self.contenders {
            let ratios: Vec<f64> =
                contender.nanos.iter().zip(measure).map(|(one, base)| one / base).collect();
            let at = |q| quantile(&contender.nanos, q);
            let spread = format!("{:.0} .. {:.0} ns", at(0.1), at(0.9));
            println!(
                "  {:<30}{:>12.0} ns{spread:>24}{:>9.2}",
                contender.name,
                at(0.5),
                quantile(&ratios, 0.5)
            );
        }
    }
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

/// The numbers below `below`, shuffled the same way every time.
pub(crate) fn shuffled(below: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..below).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..below).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(at, (state % (at as u64 + 1)) as usize);
    }
    numbers
}
