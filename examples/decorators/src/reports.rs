//! Methods, async functions, and errors that are not stored.

use std::cell::Cell;
use std::fmt;

use larder::{mcache, ucache};

use crate::folder;

/// A service that is slow and sometimes fails.
struct Service {
    region: &'static str,
    asked: Cell<u32>,
}

#[derive(Clone, Debug)]
struct NotFound(u64);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no report {}", self.0)
    }
}

impl Service {
    fn new(region: &'static str) -> Self {
        Self { region, asked: Cell::new(0) }
    }

    /// The key contains the inputs of the result.
    #[ucache(dir = folder(), key = "(self.region.to_owned(), id)")]
    async fn report(&self, id: u64) -> Result<String, NotFound> {
        self.asked.set(self.asked.get() + 1);
        tokio::task::yield_now().await;
        if id == 0 { Err(NotFound(id)) } else { Ok(format!("report {id} of {}", self.region)) }
    }

    /// Does not depend on `self`.
    #[mcache(skip(self))]
    fn title(&self, id: u64) -> String {
        format!("Report No. {id}")
    }
}

pub(crate) async fn show() -> larder::Result<()> {
    let (north, south) = (Service::new("the north"), Service::new("the south"));
    for id in [7, 7, 0, 0] {
        let (first, second) = tokio::join!(north.report(id), south.report(id));
        match (first, second) {
            (Ok(first), Ok(second)) => println!("{}: {first}, {second}", north.title(id)),
            (Err(error), _) | (_, Err(error)) => println!("{error}"),
        }
    }
    println!("asked {} and {} times", north.asked.get(), south.asked.get());
    north.report_purge(7).await;
    println!("after a purge: {:?}, and {:?}", north.report_get(7).await, south.report_get(7).await);
    south.report_flush().await?;
    println!("\n{}", Service::report_stats());
    Ok(())
}
