//! Presets: option sets for common sorts of values.
//!
//! A builder takes a preset. Options set by methods of the builder override the preset, in whichever order
//! the two are called.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use larder::{TierKind, presets, ucache};
//!
//! let matrices = ucache::<u32, Vec<f64>>("matrices").dir(dir.path()).preset(presets::arrays()).build()?;
//! let placement = matrices.try_insert(1, vec![0.5; 100_000])?;
//! assert_ne!(placement.home, TierKind::Memory);
//! # matrices.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use larder_core::compress::Compress;
use larder_core::kinds;
use larder_core::place::{Access, Kind, Persistence};

use crate::options::Settings;

/// A named set of options; see [`presets`](self).
#[derive(Clone, Copy)]
pub struct Preset(Choice);

#[derive(Clone, Copy)]
enum Choice {
    Row(&'static Row),
    /// Chosen by the kind of a type, which is looked up when the cache is built.
    Of(fn() -> Kind),
}

struct Row {
    name: &'static str,
    kind: Kind,
    persistence: Persistence,
    access: Access,
    /// Whether a payload is compressed if that makes it smaller.
    compresses: bool,
}

const fn row(
    name: &'static str,
    kind: Kind,
    persistence: Persistence,
    access: Access,
    compresses: bool,
) -> Row {
    Row { name, kind, persistence, access, compresses }
}

use Access::{Balanced, ReadHeavy};
use Persistence::{Auto, LongTerm, Session};

static SCALARS: Row = row("scalars", Kind::Scalar, Auto, ReadHeavy, false);
static TEXT: Row = row("text", Kind::Text, Auto, Balanced, true);
static JSON: Row = row("json", Kind::Json, LongTerm, Balanced, true);
static IMAGES: Row = row("images", Kind::Image, LongTerm, Balanced, false);
static BYTES: Row = row("bytes", Kind::Bytes, Auto, Balanced, true);
static ARRAYS: Row = row("arrays", Kind::Array, LongTerm, Balanced, false);
static DATA_FRAMES: Row = row("data_frames", Kind::Frame, LongTerm, Balanced, false);
static MODELS: Row = row("models", Kind::Model, LongTerm, ReadHeavy, false);
static SESSIONS: Row = row("sessions", Kind::Other, Session, ReadHeavy, true);

/// Numbers, booleans and characters: in memory, optimized for reads, never compressed.
pub fn scalars() -> Preset {
    Preset(Choice::Row(&SCALARS))
}

/// Text: placed by its size, compressed if that makes it smaller.
pub fn text() -> Preset {
    Preset(Choice::Row(&TEXT))
}

/// JSON documents: persisted on disk, compressed if that makes them smaller.
pub fn json() -> Preset {
    Preset(Choice::Row(&JSON))
}

/// Images: persisted, stored in files from a smaller size on, not compressed.
pub fn images() -> Preset {
    Preset(Choice::Row(&IMAGES))
}

/// Opaque bytes: placed by their size, compressed if that makes them smaller.
pub fn bytes() -> Preset {
    Preset(Choice::Row(&BYTES))
}

/// Arrays of numbers of one width: persisted, not compressed.
pub fn arrays() -> Preset {
    Preset(Choice::Row(&ARRAYS))
}

/// Data frames (columns of arrays): persisted, not compressed.
pub fn data_frames() -> Preset {
    Preset(Choice::Row(&DATA_FRAMES))
}

/// Trained models: persisted, not compressed, with copies of larger ones in memory.
pub fn models() -> Preset {
    Preset(Choice::Row(&MODELS))
}

/// Session data of a visitor: kept while the process lives, optimized for reads, compressed if that makes it
/// smaller.
pub fn sessions() -> Preset {
    Preset(Choice::Row(&SESSIONS))
}

/// The preset for values of type `T`, by its kind. A kind that was registered with [`kinds::register`] before
/// the cache is built takes precedence over the table of known types. A type of no known kind gets no
/// options.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::{Kind, Source, configure_for, kinds, ucache};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Weights(Vec<f32>);
///
/// let builder = ucache::<u32, Weights>("weights").dir(dir.path()).preset(configure_for::<Weights>());
/// kinds::register::<Weights>(Kind::Model);
/// let explained = builder.explain_config()?;
/// assert!(explained.iter().any(|row| row.option == "kind" && row.value == "model"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn configure_for<T: 'static>() -> Preset {
    Preset(Choice::Of(kinds::of::<T>))
}

impl Preset {
    /// The name of the preset, as `explain_config` shows it.
    pub fn name(&self) -> &'static str {
        self.row().map_or("of an unknown kind", |row| row.name)
    }

    pub(crate) fn settings(&self) -> Settings {
        let Some(row) = self.row() else { return Settings::default() };
        Settings {
            kind: Some(row.kind),
            persistence: Some(row.persistence),
            access: Some(row.access),
            compress: Some(if row.compresses { Compress::Auto } else { Compress::None }),
            ..Settings::default()
        }
    }

    fn row(&self) -> Option<&'static Row> {
        match self.0 {
            Choice::Row(row) => Some(row),
            Choice::Of(kind) => of_kind(kind()),
        }
    }
}

fn of_kind(kind: Kind) -> Option<&'static Row> {
    [&SCALARS, &TEXT, &JSON, &IMAGES, &BYTES, &ARRAYS, &DATA_FRAMES, &MODELS]
        .into_iter()
        .find(|row| row.kind == kind)
}

impl fmt::Debug for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Preset").field(&self.name()).finish()
    }
}
