//! The runtime of the attributes. Not a public interface: it changes with the macros.

mod batch;
mod bounds;
mod call;
mod flusher;
mod handle;
mod lazy_cache;
mod of_key;
mod record;
mod tags;
#[cfg(feature = "async")]
pub mod tasks;
pub mod threads;
mod total;

#[cfg(feature = "disk")]
pub use crate::bcache;
#[cfg(feature = "file")]
pub use crate::fcache;
pub use crate::mcache;
#[cfg(feature = "_codec")]
pub use crate::ucache;
pub use batch::{BatchInput, ItemResult, call_batch, each};
#[cfg(feature = "_codec")]
pub use bounds::{Encoded, EncodedPart, EncodedValue, TieredPart, TieredValue};
pub use bounds::{
    Fallible, Kept, Keyed, Many, Maybe, MemoryPart, MemoryValue, NoResult, Part, Probe, SharedError,
};
pub use call::{Passed, by_value, call, call_sorted, excludes, never, shared};
pub use handle::{Handle, keyed_by};
pub use lazy_cache::{LazyCache, Owner, open};
pub use of_key::{listener, weigher};
pub use record::{RECORD_BYTES, Record, Recorded, replayed};
pub use tags::{Label, call_tagged, of_value, tag, tags};
pub use total::Total;

pub use larder_core::entry_meta::EntryOptions;
pub use larder_engine::WithOptions;

/// The type that the companions belong to. Its name is the hint of the compiler error in an `impl` block,
/// where this macro cannot stand; an attribute cannot detect an `impl` block.
#[doc(hidden)]
#[macro_export]
macro_rules! __add_the_option_method_in_an_impl_block {
    (#[doc = $doc:literal] $vis:vis $name:ident) => {
        #[doc = $doc]
        #[allow(non_camel_case_types, dead_code, unreachable_pub)]
        $vis enum $name {}
    };
}
