//! Deadlock avoidance between loaders: which loaders a caller is part of, and which flights wait
//! for which.
//!
//! A loader may ask the cache for other keys. A caller inside a loader must not wait for that
//! loader, nor for a flight that waits for it. It loads alone instead. So each thread records the
//! loaders that it polls ([`Loaders`]), and the waits between flights form a graph.

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

/// For each flight, the flights that its loader waits for now.
static WAITS: Mutex<HashMap<u64, Vec<u64>, FixedState>> =
    Mutex::new(HashMap::with_hasher(FixedState::with_seed(0)));

std::thread_local! {
    /// The loaders that this thread polls.
    static CURRENT: RefCell<Current> = const { RefCell::new(Current { loaders: Loaders(None), inmost: None }) };
}

/// The loaders that a thread polls.
struct Current {
    loaders: Loaders,
    /// The flight of a loader inside them that has no link yet. Most loaders ask the cache for nothing.
    inmost: Option<u64>,
}

impl Current {
    /// Returns all loaders, as links.
    fn linked(&mut self) -> &Loaders {
        if let Some(flight) = self.inmost.take() {
            let outer = std::mem::replace(&mut self.loaders, Loaders(None));
            self.loaders = Loaders(Some(Arc::new(Link { flights: FlightIds::One(flight), outer })));
        }
        &self.loaders
    }
}

/// The loaders that a caller is inside, from the innermost to the outermost.
///
/// A linked list. Callers inside the same loader share its link, so nested loaders take memory in
/// proportion to their depth.
#[derive(Clone)]
pub(crate) struct Loaders(Option<Arc<Link>>);

/// One call of a loader.
struct Link {
    flights: FlightIds,
    outer: Loaders,
}

/// The flights that one call of a loader is for.
#[derive(Clone)]
pub(crate) enum FlightIds {
    One(u64),
    Many(Arc<[u64]>),
}

impl FlightIds {
    fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(flight) => std::slice::from_ref(flight),
            Self::Many(flights) => flights,
        }
    }
}

impl From<[u64; 1]> for FlightIds {
    fn from([flight]: [u64; 1]) -> Self {
        Self::One(flight)
    }
}

impl From<Vec<u64>> for FlightIds {
    fn from(flights: Vec<u64>) -> Self {
        Self::Many(flights.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Unlink in a loop: recursive drops would use stack for each link.
        let mut outer = self.outer.0.take();
        while let Some(mut link) = outer.and_then(Arc::into_inner) {
            outer = link.outer.0.take();
        }
    }
}

impl Loaders {
    /// Returns the loaders of the caller. `None` in the destructor of a thread-local, where they
    /// may be unknown.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(|current| current.borrow_mut().linked().clone()).ok()
    }

    /// Returns whether the caller is inside no loader.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(link), Some(other)) => Arc::ptr_eq(link, other),
            (None, None) => true,
            _ => false,
        }
    }

    fn flights(&self) -> Vec<u64> {
        let links = std::iter::successors(self.0.as_ref(), |link| link.outer.0.as_ref());
        links.flat_map(|link| link.flights.as_slice().iter().copied()).collect()
    }
}

/// A future that is part of loaders. It is recognized as such on whatever thread polls it.
pub(crate) struct Running<F> {
    place: Place,
    future: Pin<Box<F>>,
}

/// Which loaders a future is part of.
enum Place {
    /// Always these loaders, whichever thread polls it.
    Within(Loaders),
    /// A loader call for these flights, inside the loaders of the caller that polls it.
    Call { flights: FlightIds, link: Option<Loaders> },
}

impl<F: Future> Running<F> {
    /// Polls `future` as part of `loaders`.
    pub(crate) fn within(loaders: Loaders, future: F) -> Self {
        Self { place: Place::Within(loaders), future: Box::pin(future) }
    }

    /// Polls `future` as the loader of `flights`, inside the loaders of its caller.
    pub(crate) fn call(flights: impl Into<FlightIds>, future: F) -> Self {
        Self { place: Place::Call { flights: flights.into(), link: None }, future: Box::pin(future) }
    }
}

/// Marks this thread as running a loader, until it is dropped.
pub(crate) struct Entered(#[expect(dead_code, reason = "restores on drop")] Option<Restore>);

impl Entered {
    /// Enters the loader of `flights`.
    pub(crate) fn call(flights: impl Into<FlightIds>) -> Self {
        let mut place = Place::Call { flights: flights.into(), link: None };
        Self(Loaders::current().map(|outer| place.enter_from(outer)))
    }

    /// Enters the loader of one flight. Costs no allocation unless the loader asks the cache for another key.
    pub(crate) fn one(flight: u64) -> Self {
        let entered = CURRENT.try_with(|current| {
            let mut current = current.borrow_mut();
            let outer = current.linked().clone();
            current.inmost = Some(flight);
            Restore(Some(outer))
        });
        Self(entered.ok())
    }
}

impl Place {
    /// Sets the loaders of this thread. The returned value restores the former ones.
    fn enter_from(&mut self, outer: Loaders) -> Restore {
        replace(self.enter(&outer));
        Restore(Some(outer))
    }

    /// Returns the loaders for a poll by a caller that is inside `outer`.
    fn enter(&mut self, outer: &Loaders) -> Loaders {
        match self {
            Self::Within(loaders) => loaders.clone(),
            Self::Call { flights, link } => {
                let known =
                    link.take().filter(|link| link.0.as_ref().is_some_and(|link| link.outer.is(outer)));
                let flights = flights.clone();
                let entered =
                    known.unwrap_or_else(|| Loaders(Some(Arc::new(Link { flights, outer: outer.clone() }))));
                *link = Some(entered.clone());
                entered
            }
        }
    }
}

impl<F: Future> Future for Running<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _restored = Loaders::current().map(|outer| self.place.enter_from(outer));
        self.future.as_mut().poll(context)
    }
}

/// Sets the loaders of this thread.
fn replace(loaders: Loaders) {
    // Drop the former loaders after the cell is released.
    let _former = CURRENT.try_with(|current| {
        let mut current = current.borrow_mut();
        current.inmost = None;
        std::mem::replace(&mut current.loaders, loaders)
    });
}

/// Restores the loaders from before a poll, also when the loader panics.
struct Restore(Option<Loaders>);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(replace);
    }
}

/// The right to wait for a flight: an edge of the wait graph, from every loader that the caller is
/// inside to that flight. Dropping it removes the edge.
pub(crate) struct WaitEdge {
    waiting: Vec<u64>,
    target: u64,
}

impl WaitEdge {
    /// Adds the edge. `None` where the wait might never end: the flight is a loader that the caller
    /// is inside, or waits for one, or the caller's loaders are unknown.
    pub(crate) fn take(target: u64) -> Option<Self> {
        Self::take_for(target, Loaders::current()?.flights())
    }

    fn take_for(target: u64, waiting: Vec<u64>) -> Option<Self> {
        if waiting.is_empty() {
            return Some(Self { waiting, target });
        }
        let ends: HashSet<u64> = waiting.iter().copied().collect();
        let mut waits = WAITS.lock();
        if reaches(&waits, target, &ends) {
            return None;
        }
        for flight in &waiting {
            waits.entry(*flight).or_default().push(target);
        }
        Some(Self { waiting, target })
    }
}

impl Drop for WaitEdge {
    fn drop(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waits = WAITS.lock();
        for flight in &self.waiting {
            let Some(targets) = waits.get_mut(flight) else { continue };
            if let Some(at) = targets.iter().position(|target| *target == self.target) {
                targets.swap_remove(at);
            }
            if targets.is_empty() {
                waits.remove(flight);
            }
        }
    }
}

/// Returns whether `from` is one of `ends`, or waits for one of them directly or indirectly.
fn reaches(waits: &HashMap<u64, Vec<u64>, FixedState>, from: u64, ends: &HashSet<u64>) -> bool {
    let (mut seen, mut next) = (HashSet::from([from]), vec![from]);
    while let Some(flight) = next.pop() {
        if ends.contains(&flight) {
            return true;
        }
        let targets = waits.get(&flight).into_iter().flatten().copied();
        next.extend(targets.filter(|target| seen.insert(*target)));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use larder_exec::runtime::block_on;

    #[test]
    fn wait_that_would_close_a_cycle_is_refused() {
        let (a, b, c) = (1 << 40, 2 << 40, 3 << 40);
        let _a_for_b = WaitEdge::take_for(b, vec![a]).unwrap();
        let b_for_c = WaitEdge::take_for(c, vec![b]).unwrap();
        assert!(WaitEdge::take_for(a, vec![a]).is_none(), "itself");
        assert!(WaitEdge::take_for(a, vec![c]).is_none(), "over two others");
        assert!(WaitEdge::take_for(a, vec![4 << 40, c]).is_none(), "from within another loader");
        drop(b_for_c);
        assert!(WaitEdge::take_for(a, vec![c]).is_some(), "the ring is open again");
    }

    fn flights() -> Vec<u64> {
        Loaders::current().unwrap().flights()
    }

    /// Regression: a flight that ran on its caller's thread recorded every enclosing loader a
    /// second time, so that each level doubled the list.
    #[test]
    fn nested_loaders_record_each_loader_once() {
        fn within(depth: u64) -> Vec<u64> {
            let inner = async { if depth == 0 { flights() } else { within(depth - 1) } };
            let around = Loaders::current().unwrap();
            block_on(Running::within(around, Running::call([depth], inner)))
        }
        assert_eq!(within(40), (0..=40).collect::<Vec<_>>());
        assert!(flights().is_empty(), "none is left behind");
    }

    #[test]
    fn loader_of_one_flight_is_recognized_at_any_depth() {
        let around = Entered::one(1);
        assert_eq!(flights(), [1]);
        let inside = Entered::one(2);
        let inmost = Entered::one(3);
        drop(inmost);
        assert_eq!(flights(), [2, 1]);
        drop(inside);
        assert_eq!(flights(), [1]);
        drop(around);
        assert!(flights().is_empty());
    }

    #[test]
    fn moved_future_is_part_of_the_loaders_that_poll_it() {
        let mut seen = Vec::new();
        let mut inner = Running::call(
            [7],
            poll_fn(|_| {
                seen.push(flights());
                if seen.len() < 3 { Poll::Pending } else { Poll::Ready(()) }
            }),
        );
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut inner).poll(&mut context).is_pending());
        let mut outer = Running::call([8], poll_fn(|context| Pin::new(&mut inner).poll(context)));
        assert!(Pin::new(&mut outer).poll(&mut context).is_pending());
        assert!(Pin::new(&mut outer).poll(&mut context).is_ready());
        drop(outer);
        drop(inner);
        assert_eq!(seen, [vec![7], vec![7, 8], vec![7, 8]]);
    }

    #[test]
    fn long_list_of_loaders_is_dropped_without_recursion() {
        let mut loaders = Loaders(None);
        for flight in 0..1_000_000 {
            loaders = Loaders(Some(Arc::new(Link { flights: FlightIds::One(flight), outer: loaders })));
        }
        assert_eq!(loaders.flights().len(), 1_000_000);
    }
}
