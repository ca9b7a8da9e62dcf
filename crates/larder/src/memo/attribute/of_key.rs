//! Listeners and weighers for functions whose key type is named.
//!
//! The cache is generic over a key type that the compiler infers from the key expression, and which has no
//! name in the builder. Both are the same type, which a downcast confirms at run time.

use std::any::Any;

use larder_core::events::Event;

/// Adapts a listener for keys of type `K` to the key type of the cache.
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

/// Adapts a weigher for keys of type `K` to the key type of the cache.
pub fn weigher<K: 'static, Same: 'static, V>(
    weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
) -> impl Fn(&Same, &V) -> u32 + Send + Sync + 'static {
    move |key, value| {
        let key: &dyn Any = key;
        key.downcast_ref().map_or(0, |key| weigh(key, value))
    }
}
