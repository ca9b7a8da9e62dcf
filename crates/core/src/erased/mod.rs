//! Type-erased keys, values and memory stores.
//!
//! A hit in memory uses the types of the user. The code after a miss uses [`Key`], [`Value`] and [`Memory`],
//! so that it is compiled once for all caches of a program.

mod memory;

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use equivalent::Equivalent;

use crate::codec::{Encoded, Plain, ValueCodec};
use crate::frame::CodecId;
use crate::key::{EncodedKey, KeyCodec, Lookup};
use crate::{Error, ErrorKind, Result};

pub use self::memory::{Memory, VisitKey};

/// A key or a borrowed form of one, as far as a hash table needs it.
///
/// # Behavior
/// Feeds a hasher the same data as the equal key.
pub trait AnyForm {
    /// Feeds the hash of the key.
    fn feed(&self, state: &mut dyn Hasher);

    /// Whether this is `key`, or the borrowed form of it.
    fn is_key(&self, key: &dyn Any) -> bool;
}

/// Finds the entry of a key: the key itself, or a borrowed form of it.
///
/// # Behavior
/// `lend` calls its argument once, with a key that [`is_key`](AnyForm::is_key) holds for.
pub trait AnyLookup: AnyForm + Sync {
    /// Lends the key. Costs an allocation for a borrowed form.
    fn lend(&self, to: &mut dyn FnMut(&(dyn Any + Send + Sync)));
}

impl Hash for dyn AnyLookup + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.feed(state);
    }
}

/// Adapts a borrowed form `Q` of a key `K` to [`AnyLookup`].
pub struct Borrowed<'a, K, Q: ?Sized> {
    form: &'a Q,
    key: PhantomData<fn() -> K>,
}

impl<'a, K, Q: ?Sized> Borrowed<'a, K, Q> {
    /// Wraps a borrowed form of a key.
    pub fn new(form: &'a Q) -> Self {
        Self { form, key: PhantomData }
    }
}

impl<K, Q: ?Sized> fmt::Debug for Borrowed<'_, K, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrowed").finish_non_exhaustive()
    }
}

impl<K, Q> AnyForm for Borrowed<'_, K, Q>
where
    K: 'static,
    Q: Hash + Equivalent<K> + ?Sized,
{
    fn feed(&self, mut state: &mut dyn Hasher) {
        self.form.hash(&mut state);
    }

    fn is_key(&self, key: &dyn Any) -> bool {
        key.downcast_ref::<K>().is_some_and(|key| self.form.equivalent(key))
    }
}

impl<K, Q> AnyLookup for Borrowed<'_, K, Q>
where
    K: Hash + Eq + Send + Sync + 'static,
    Q: Lookup<K> + Sync + ?Sized,
{
    fn lend(&self, to: &mut dyn FnMut(&(dyn Any + Send + Sync))) {
        self.form.with_key(|key| to(key));
    }
}

/// A key of any type.
trait AnyKey: Any + Send + Sync {
    fn feed(&self, state: &mut dyn Hasher);
    fn is(&self, other: &dyn Any) -> bool;
}

impl<K: Hash + Eq + Send + Sync + 'static> AnyKey for K {
    fn feed(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }

    fn is(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<K>().is_some_and(|other| self == other)
    }
}

/// Clones a key of one type.
type CloneKey = fn(&dyn Any) -> Box<dyn Any>;

/// A type-erased key. A clone shares the key.
#[derive(Clone)]
pub struct Key {
    key: Arc<dyn AnyKey>,
    /// Clones the key, if its type is `Clone`.
    copy: Option<CloneKey>,
}

impl Key {
    /// Wraps a key that need not be `Clone`. Costs an allocation.
    pub fn new<K: Hash + Eq + Send + Sync + 'static>(key: K) -> Self {
        Self { key: Arc::new(key), copy: None }
    }

    /// Wraps a key whose type is `Clone`. Costs an allocation.
    pub fn cloneable<K: Hash + Eq + Clone + Send + Sync + 'static>(key: K) -> Self {
        Self::shared(Arc::new(key))
    }

    /// Wraps a key that is already shared.
    pub fn shared<K: Hash + Eq + Clone + Send + Sync + 'static>(key: Arc<K>) -> Self {
        Self { key, copy: Some(copy::<K>) }
    }

    /// Whether the type of the key is known to be `Clone`.
    pub fn is_cloneable(&self) -> bool {
        self.copy.is_some()
    }

    /// The key by reference.
    pub fn as_any(&self) -> &(dyn Any + Send + Sync) {
        &*self.key
    }

    /// The key by reference; `None` if it is not a `K`.
    pub fn downcast_ref<K: 'static>(&self) -> Option<&K> {
        self.as_any().downcast_ref()
    }

    /// The key as a shared pointer; `None` if it is not a `K`.
    pub fn into_shared<K: Send + Sync + 'static>(self) -> Option<Arc<K>> {
        let key: Arc<dyn Any + Send + Sync> = self.key;
        key.downcast().ok()
    }

    /// The key by value. `None` if it is not a `K`, or if it is shared and not `Clone`.
    pub fn into_inner<K: Send + Sync + 'static>(self) -> Option<K> {
        let copy = self.copy;
        Arc::try_unwrap(self.into_shared::<K>()?)
            .or_else(|shared| copy.and_then(|copy| copy(&*shared).downcast().ok()).map(|key| *key).ok_or(()))
            .ok()
    }
}

fn copy<K: Clone + 'static>(key: &dyn Any) -> Box<dyn Any> {
    match key.downcast_ref::<K>() {
        Some(key) => Box::new(key.clone()),
        None => Box::new(()),
    }
}

impl AnyForm for Key {
    fn feed(&self, state: &mut dyn Hasher) {
        self.key.feed(state);
    }

    fn is_key(&self, key: &dyn Any) -> bool {
        self.key.is(key)
    }
}

impl AnyLookup for Key {
    fn lend(&self, to: &mut dyn FnMut(&(dyn Any + Send + Sync))) {
        to(self.as_any());
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.feed(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.key.is(other.as_any())
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// A type-erased value. A clone shares the value.
#[derive(Clone)]
pub struct Value(Arc<dyn Any + Send + Sync>);

impl Value {
    /// Wraps a value. Costs an allocation.
    pub fn new<V: Send + Sync + 'static>(value: V) -> Self {
        Self(Arc::new(value))
    }

    /// Wraps a value that is already shared.
    pub fn shared<V: Send + Sync + 'static>(value: Arc<V>) -> Self {
        Self(value)
    }

    /// The value by reference; `None` if it is not a `V`.
    pub fn downcast_ref<V: 'static>(&self) -> Option<&V> {
        self.0.downcast_ref()
    }

    /// The value as a shared pointer; `None` if it is not a `V`.
    pub fn into_shared<V: Send + Sync + 'static>(self) -> Option<Arc<V>> {
        self.0.downcast().ok()
    }

    /// The value by reference.
    pub fn as_any(&self) -> &(dyn Any + Send + Sync) {
        &*self.0
    }

    /// The value by value, cloned if it is shared. `None` if it is not a `V`.
    pub fn into_inner<V: Clone + Send + Sync + 'static>(self) -> Option<V> {
        Some(Arc::unwrap_or_clone(self.into_shared()?))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").finish_non_exhaustive()
    }
}

/// A type-erased error of a loader, shared by the callers that waited for the load.
#[derive(Clone)]
pub struct AnyError(Arc<dyn Any + Send + Sync>);

impl AnyError {
    /// Wraps an error.
    pub fn new<E: Send + Sync + 'static>(error: E) -> Self {
        Self(Arc::new(error))
    }

    /// Whether the error has this type.
    pub fn is(&self, error: TypeId) -> bool {
        (*self.0).type_id() == error
    }

    /// The error; `None` if it is not an `E`.
    pub fn into_shared<E: Send + Sync + 'static>(self) -> Option<Arc<E>> {
        self.0.downcast().ok()
    }
}

impl fmt::Debug for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyError").finish_non_exhaustive()
    }
}

/// A type-erased [`KeyCodec`].
pub trait AnyKeyCodec: Send + Sync {
    /// Encodes a key.
    ///
    /// # Errors
    /// Those of [`KeyCodec::encode`]; `ErrorKind::Codec` for a key of another type.
    fn encode(&self, key: &(dyn Any + Send + Sync)) -> Result<EncodedKey>;

    /// Decodes a key.
    ///
    /// # Errors
    /// Those of [`KeyCodec::decode`].
    fn decode(&self, bytes: &[u8]) -> Result<Key>;
}

impl<C: AnyKeyCodec + ?Sized> AnyKeyCodec for Arc<C> {
    fn encode(&self, key: &(dyn Any + Send + Sync)) -> Result<EncodedKey> {
        (**self).encode(key)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Key> {
        (**self).decode(bytes)
    }
}

/// Adapts a codec of typed keys or values to type-erased ones.
#[derive(Debug)]
pub struct TypedCodec<C, T: ?Sized> {
    codec: C,
    of: PhantomData<fn() -> Box<T>>,
}

impl<C, T> TypedCodec<C, T> {
    /// Wraps a codec.
    pub fn new(codec: C) -> Self {
        Self { codec, of: PhantomData }
    }
}

impl<K> AnyKeyCodec for TypedCodec<Box<dyn KeyCodec<K>>, K>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    fn encode(&self, key: &(dyn Any + Send + Sync)) -> Result<EncodedKey> {
        self.codec.encode(key.downcast_ref().ok_or_else(of_another_type)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Key> {
        self.codec.decode(bytes).map(Key::new)
    }
}

impl<V> ValueCodec<Value> for TypedCodec<Box<dyn ValueCodec<V>>, V>
where
    V: Send + Sync + 'static,
{
    fn fingerprint(&self) -> u64 {
        self.codec.fingerprint()
    }

    fn accepts(&self, codec: CodecId, shape: u64) -> Option<bool> {
        self.codec.accepts(codec, shape)
    }

    fn measure(&self, value: &Value) -> Result<u64> {
        self.codec.measure(value.downcast_ref().ok_or_else(of_another_type)?)
    }

    fn encode(&self, value: &Value) -> Result<Encoded> {
        let typed = value.downcast_ref().ok_or_else(of_another_type)?;
        match self.codec.plain() {
            Some(Plain { codec, shape, bytes }) if bytes(typed).len() >= SHARED_BYTES_MIN => {
                let bytes = Bytes::from_owner(ValueBytes { value: value.clone(), bytes });
                Ok(Encoded { codec, shape, bytes })
            }
            _ => self.codec.encode(typed),
        }
    }

    fn decode(&self, encoded: Encoded) -> Result<Value> {
        self.codec.decode(encoded).map(Value::new)
    }
}

/// An encoding of at least this many bytes shares the memory of its value, if it is a part of it.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// The bytes of a value that are its encoding.
struct ValueBytes<V> {
    value: Value,
    bytes: fn(&V) -> &[u8],
}

impl<V: 'static> AsRef<[u8]> for ValueBytes<V> {
    fn as_ref(&self) -> &[u8] {
        self.value.downcast_ref().map_or(&[], self.bytes)
    }
}

fn of_another_type() -> Error {
    Error::new(ErrorKind::Codec, "the key or value is not of the type of the cache")
}
