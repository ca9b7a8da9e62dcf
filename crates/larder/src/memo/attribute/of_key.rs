//! Options that see keys, for functions whose key has a type that can be written.
//!
//! The cache is built for a type of key that is found from the expression that
//! makes one, and has no name there. It is the same type, which is seen at run time.

use std::any::Any;

use larder_core::events::Event;

/// A listener for keys of type `K`, as one for the keys of the cache.
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

/// A weigher for keys of type `K`, as one for the keys of the cache.
pub fn weigher<K: 'static, Same: 'static, V>(
    weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
) -> impl Fn(&Same, &V) -> u32 + Send + Sync + 'static {
    move |key, value| {
        let key: &dyn Any = key;
        key.downcast_ref().map_or(0, |key| weigh(key, value))
    }
}
