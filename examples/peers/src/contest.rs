//! Contestants take turns; each is told by its fastest and its middle round.

use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 25;
const TURN: Duration = Duration::from_millis(4);

/// One contestant: a name, and what it does once.
pub struct Contestant<'a> {
    name: String,
    once: Box<dyn FnMut() -> bool + 'a>,
    nanos: Vec<f64>,
    batch: u32,
    asked: u64,
    yes: u64,
}

/// A table of contestants that decide the same questions.
#[derive(Default)]
pub struct Contest<'a> {
    contestants: Vec<Contestant<'a>>,
}

impl<'a> Contest<'a> {
    /// Adds a contestant. `once` makes one decision and says whether it was yes.
    ///
    /// The first added is what the others are compared with.
    pub fn add(&mut self, name: impl Into<String>, once: impl FnMut() -> bool + 'a) {
        self.contestants.push(Contestant {
            name: name.into(),
            once: Box::new(once),
            nanos: Vec::new(),
            batch: 1,
            asked: 0,
            yes: 0,
        });
    }

    /// Lets them take turns and prints the table under `title`.
    pub fn run(mut self, title: &str) {
        for contestant in &mut self.contestants {
            contestant.calibrate();
        }
        for _ in 0..ROUNDS {
            for contestant in &mut self.contestants {
                contestant.turn();
            }
        }
        println!("\n{title}");
        println!("  {:<44} {:>12} {:>12} {:>10} {:>6}", "", "fastest", "middle", "times", "yes");
        let first = self.contestants.first_mut().map_or(1.0, |first| first.middle());
        for contestant in &mut self.contestants {
            let middle = contestant.middle();
            let fastest = contestant.nanos.first().copied().unwrap_or_default();
            println!(
                "  {:<44} {:>9.1} ns {:>9.1} ns {:>9.1}x {:>4.0} %",
                contestant.name,
                fastest,
                middle,
                middle / first,
                contestant.yes as f64 * 100.0 / contestant.asked.max(1) as f64
            );
        }
    }
}

impl Contestant<'_> {
    fn calibrate(&mut self) {
        loop {
            let took = self.time();
            if took >= TURN / 2 || self.batch >= 1 << 24 {
                return;
            }
            self.batch *= 2;
        }
    }

    fn time(&mut self) -> Duration {
        let (mut yes, begun) = (0, Instant::now());
        for _ in 0..self.batch {
            yes += u64::from(black_box((self.once)()));
        }
        let took = begun.elapsed();
        self.asked += u64::from(self.batch);
        self.yes += yes;
        took
    }

    fn turn(&mut self) {
        let nanos = self.time().as_nanos() as f64 / f64::from(self.batch);
        self.nanos.push(nanos);
    }

    fn middle(&mut self) -> f64 {
        self.nanos.sort_by(f64::total_cmp);
        self.nanos.get(self.nanos.len() / 2).copied().unwrap_or_default()
    }
}
