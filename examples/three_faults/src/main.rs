//! A shop under load, with three faults to find from outside: `cargo run --release --package three_faults`, then
//! `larder top` in another terminal.
//!
//! One of its caches is too small, one has a slow loader, and one has a tier that is down. It runs for the seconds that
//! its argument says, by default ten; `forever` runs it until it is stopped. On platforms other than Unix there is nothing to see.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(clippy::disallowed_methods, reason = "a load that takes its time")]

use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, mcache, ucache};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The customers, as threads.
const CUSTOMERS: usize = 4;

#[derive(Clone)]
struct Shop {
    /// Too small: people look at more products than it holds.
    thumbnails: Cache<u32, Vec<u8>>,
    /// Each exchange rate takes 40 ms to fetch.
    rates: Cache<String, f64>,
    /// Its server does not run.
    baskets: Cache<String, Vec<u32>>,
    /// Nothing is wrong with it.
    products: Cache<u32, String>,
}

fn main() -> Outcome<()> {
    let given = std::env::args().nth(1).unwrap_or_else(|| "10".to_owned());
    let end = match given.as_str() {
        "forever" => None,
        seconds => Some(Instant::now() + Duration::from_secs(seconds.parse()?)),
    };
    let dir = tempfile::tempdir()?;
    let can_observe = cfg!(unix);
    let shop = Shop {
        thumbnails: mcache("thumbnails").capacity(200).observe(can_observe).build()?,
        rates: mcache("rates").ttl(Duration::from_millis(500)).observe(can_observe).build()?,
        baskets: ucache("baskets")
            .dir(dir.path())
            .redis("redis://127.0.0.1:1")
            .observe(can_observe)
            .build()?,
        products: ucache("products").dir(dir.path()).observe(can_observe).observe_control(true).build()?,
    };
    println!(
        "the shop is open; look into it with `larder top --dir {}`, or without `--dir`",
        dir.path().display()
    );
    thread::scope(|scope| {
        for _ in 0..CUSTOMERS {
            scope.spawn(|| {
                while end.is_none_or(|end| Instant::now() < end) {
                    shop.visit();
                }
            });
        }
    });
    let stats = shop.thumbnails.stats();
    println!("thumbnails: {:.0} % of the look-ups hit", 100.0 * stats.hit_ratio().unwrap_or_default());
    Ok(())
}

impl Shop {
    /// A customer looks at a product, asks for its price, and puts it into the basket.
    fn visit(&self) {
        // Few products are in fashion: half of the customers look at a tenth of them.
        let product = (fastrand::f32().powi(3) * 5000.0) as u32;
        self.products.get_with(product, || format!("product {product}"));
        self.thumbnails.get_with(product, || {
            thread::sleep(Duration::from_micros(200));
            vec![0; 100]
        });
        let currency = ["EUR", "USD", "JPY", "CHF"][fastrand::usize(..4)];
        self.rates.get_with(currency.to_owned(), || {
            thread::sleep(Duration::from_millis(40));
            1.0
        });
        let customer = format!("customer {}", fastrand::u8(..50));
        let mut basket = self.baskets.get(&customer).unwrap_or_default();
        basket.truncate(9);
        basket.push(product);
        self.baskets.insert(customer, basket);
        thread::sleep(Duration::from_millis(1));
    }
}
