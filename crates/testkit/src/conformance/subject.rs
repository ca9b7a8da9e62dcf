//! The subject of the checks: creates storage places, and opens tiers on them.

use std::rc::Rc;
use std::sync::Arc;

use larder_core::tier::Tier;

use super::report::NotApplicable;

type Open = Box<dyn Fn() -> Box<dyn Tier>>;

/// A tier under test: how to create an empty place, and how to open the tier there.
#[derive(Clone)]
pub struct Subject {
    name: String,
    fresh: Rc<dyn Fn() -> Open>,
}

impl Subject {
    /// Creates a subject called `name`.
    ///
    /// `fresh` creates an empty place with room for 64 MiB, so that nothing is evicted,
    /// and returns a closure that opens the tier there. A check calls the closure again
    /// after it closed or dropped the former tier. What the closure owns, such as a
    /// temporary folder, lives until the check is over. Both may panic.
    pub fn new<F, O, T>(name: impl Into<String>, fresh: F) -> Self
    where
        F: Fn() -> O + 'static,
        O: Fn() -> T + 'static,
        T: Tier,
    {
        let fresh = move || -> Open {
            let open = fresh();
            Box::new(move || Box::new(open()))
        };
        Self { name: name.into(), fresh: Rc::new(fresh) }
    }

    /// Returns the same tier behind an [`Arc`].
    #[must_use]
    pub fn through_arc(&self) -> Self {
        self.wrapped("through Arc", |tier| Box::new(Arc::new(tier)))
    }

    /// Returns the same tier behind another [`Box`].
    #[must_use]
    pub fn through_box(&self) -> Self {
        self.wrapped("through Box", |tier| Box::new(Box::new(tier)))
    }

    /// Returns the same tier behind a wrapper, called `how` in the report.
    #[must_use]
    pub fn wrapped(&self, how: &str, wrap: impl Fn(Box<dyn Tier>) -> Box<dyn Tier> + 'static) -> Self {
        let (fresh, wrap) = (Rc::clone(&self.fresh), Rc::new(wrap));
        let fresh = move || -> Open {
            let (open, wrap) = (fresh(), Rc::clone(&wrap));
            Box::new(move || wrap(open()))
        };
        Self { name: format!("{} {how}", self.name), fresh: Rc::new(fresh) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn fresh(&self) -> Place {
        Place { open: (self.fresh)() }
    }
}

/// An empty place, for one check.
pub(super) struct Place {
    open: Open,
}

impl Place {
    /// Opens the tier here once more.
    pub(super) fn open(&self) -> Box<dyn Tier> {
        (self.open)()
    }

    /// Opens the tier, if it stores entries.
    pub(super) fn storing(&self) -> Result<Box<dyn Tier>, NotApplicable> {
        let tier = self.open();
        if tier.capability().stores { Ok(tier) } else { Err(NotApplicable("it keeps nothing")) }
    }

    /// Opens the tier, if its entries survive closing it.
    pub(super) fn persistent(&self) -> Result<Box<dyn Tier>, NotApplicable> {
        let tier = self.storing()?;
        if tier.capability().persistent { Ok(tier) } else { Err(NotApplicable("it is not persistent")) }
    }
}
