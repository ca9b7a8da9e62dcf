//! Which loaders a caller is part of, and which flights wait for which.
//!
//! A loader may ask for other keys. A caller that is part of a loader must not
//! wait for that loader, nor for one that waits for it: it loads alone instead.
//! So the loaders around a caller are known per thread while they are polled
//! ([`Loaders`]), and the flights that wait for one another are a graph.

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

/// The flights that the loader of a flight waits for now.
static WAITS: Mutex<HashMap<u64, Vec<u64>, FixedState>> =
    Mutex::new(HashMap::with_hasher(FixedState::with_seed(0)));

std::thread_local! {
    /// The loaders that this thread polls.
    static CURRENT: RefCell<Loaders> = const { RefCell::new(Loaders(None)) };
}

/// The loaders that a caller is part of, each within the next.
///
/// A list of links, the innermost first. Those within a loader share its link,
/// so loaders within loaders take memory in proportion to their depth.
#[derive(Clone)]
pub(crate) struct Loaders(Option<Arc<Link>>);

/// One call of a loader.
struct Link {
    flights: Arc<[u64]>,
    outer: Loaders,
}

impl Drop for Link {
    fn drop(&mut self) {
        // In a loop: each link that dropped the next one would take stack.
        let mut outer = self.outer.0.take();
        while let Some(mut link) = outer.and_then(Arc::into_inner) {
            outer = link.outer.0.take();
        }
    }
}

impl Loaders {
    /// The loaders of the caller. `None` in the destructor of a thread-local,
    /// where they may be unknown.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(|current| current.borrow().clone()).ok()
    }

    /// Whether the caller is part of no loader.
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
        links.flat_map(|link| link.flights.iter().copied()).collect()
    }
}

/// A future that is part of loaders, known as such wherever it is polled.
pub(crate) struct Running<F> {
    place: Place,
    future: Pin<Box<F>>,
}

/// Which loaders a future is part of.
enum Place {
    /// These, whoever polls it.
    Within(Loaders),
    /// The call of a loader for these flights, and the loaders of the caller that polls it.
    Call { flights: Arc<[u64]>, link: Option<Loaders> },
}

impl<F: Future> Running<F> {
    /// Polls `future` as a part of `loaders`.
    pub(crate) fn within(loaders: Loaders, future: F) -> Self {
        Self { place: Place::Within(loaders), future: Box::pin(future) }
    }

    /// Polls `future` as the loader of `flights`, within the loaders of its caller.
    pub(crate) fn call(flights: impl Into<Arc<[u64]>>, future: F) -> Self {
        Self { place: Place::Call { flights: flights.into(), link: None }, future: Box::pin(future) }
    }
}

/// Makes this thread part of a loader, until it is dropped.
pub(crate) struct Entered(#[expect(dead_code, reason = "restores on drop")] Option<Restore>);

impl Entered {
    /// The loader of these flights.
    pub(crate) fn call(flights: impl Into<Arc<[u64]>>) -> Self {
        let mut place = Place::Call { flights: flights.into(), link: None };
        Self(Loaders::current().map(|outer| place.enter_from(outer)))
    }
}

impl Place {
    /// Enters it; what restores the loaders that there were before.
    fn enter_from(&mut self, outer: Loaders) -> Restore {
        replace(self.enter(&outer));
        Restore(Some(outer))
    }

    /// The loaders of a poll, within those of the caller that polls.
    fn enter(&mut self, outer: &Loaders) -> Loaders {
        match self {
            Self::Within(loaders) => loaders.clone(),
            Self::Call { flights, link } => {
                let known =
                    link.take().filter(|link| link.0.as_ref().is_some_and(|link| link.outer.is(outer)));
                let flights = Arc::clone(flights);
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
    // The former ones are dropped after the cell was let go of.
    let _former = CURRENT.try_with(|current| current.replace(loaders));
}

/// Restores the loaders of before a poll, also when the loader panics.
struct Restore(Option<Loaders>);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(replace);
    }
}

/// Leave to wait for a flight, on behalf of the loaders that the caller is part of.
pub(crate) struct WaitEdge {
    waiting: Vec<u64>,
    target: u64,
}

impl WaitEdge {
    /// `None` where the wait might never end: the flight is a loader that the
    /// caller is part of, or waits for one, or the caller's loaders are unknown.
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

/// Whether `from` is one of `ends`, or waits for one of them, over however many others.
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
    fn a_ring_of_waiters_is_not_closed() {
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

    /// A flight that ran on the thread of its caller noted every loader around
    /// it a second time, so that each level doubled the list.
    #[test]
    fn each_loader_is_noted_once_where_loaders_run_within_loaders() {
        fn within(depth: u64) -> Vec<u64> {
            let inner = async { if depth == 0 { flights() } else { within(depth - 1) } };
            let around = Loaders::current().unwrap();
            block_on(Running::within(around, Running::call([depth], inner)))
        }
        assert_eq!(within(40), (0..=40).collect::<Vec<_>>());
        assert!(flights().is_empty(), "none is left lagging");
    }

    #[test]
    fn a_future_that_moves_is_part_of_the_loaders_that_poll_it() {
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
    fn a_long_list_of_loaders_is_dropped_without_recursion() {
        let mut loaders = Loaders(None);
        for flight in 0..1_000_000 {
            loaders = Loaders(Some(Arc::new(Link { flights: Arc::new([flight]), outer: loaders })));
        }
        assert_eq!(loaders.flights().len(), 1_000_000);
    }
}
