//! The listener of a function's cache.

use std::any::Any;

use larder_core::events::Event;

/// A listener for keys of type `K`, as one for the keys of the cache. Those are of
/// the same type, which nobody can write there: it is found from the expression
/// that makes a key.
pub fn listener<K: Send + Sync + 'static, Same: Send + Sync + 'static>(
    mut told: impl FnMut(Event<K>) + Send + 'static,
) -> impl FnMut(Event<Same>) + Send + 'static {
    move |event| {
        let mut event = Some(event);
        let event: &mut dyn Any = &mut event;
        if let Some(event) = event.downcast_mut().and_then(Option::take) {
            told(event);
        }
    }
}
