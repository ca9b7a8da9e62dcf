//! Rewrites of parts of a key, and the places where they apply.

use std::borrow::Cow;

use super::{moment, spellings};

/// A place in the type of a key: a path of fields, variants and elements. All elements of a sequence share
/// one place, since they have one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

/// A step from a value to one of its parts.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The field, or tuple element, with this number.
    Field(u64),
    Variant(u32),
    Some,
    Element,
    MapKey,
    MapValue,
}

impl Place {
    /// The whole key.
    pub(super) const ROOT: Self = Self(0x9e37_79b9_7f4a_7c15);

    pub(super) fn step(self, step: Step) -> Self {
        let step = match step {
            Step::Some => 1,
            Step::Element => 2,
            Step::MapKey => 3,
            Step::MapValue => 4,
            Step::Variant(index) => 1 << 32 | u64::from(index),
            Step::Field(index) => 1 << 33 | index,
        };
        Self((self.0 ^ step).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29))
    }
}

/// A rewrite replaces a part of a key by another spelling that may be equal.
///
/// The order of the variants is the order in which they are tried: rewrites that make more keys equal come
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rewrite {
    /// Zero, empty text, no elements: for parts that equality ignores.
    Blank,
    /// A date and time in numbers, converted to UTC.
    Moment,
    /// A date and time as text, converted to UTC.
    Utc,
    /// A path, normalized by its components.
    Path,
    /// A path without repeated and trailing separators.
    Separators,
    /// A number as text, without insignificant zeros.
    Number,
    /// Text with full case folding.
    Fold,
    /// Text in lower case.
    Lower,
    /// Text whose ASCII letters are in lower case.
    AsciiLower,
    /// Text in upper case.
    Upper,
    /// Text whose ASCII letters are in upper case.
    AsciiUpper,
    /// `0.0` for `-0.0`, and one NaN for all.
    Float,
    /// The elements of a collection, sorted.
    Sort,
}

impl Rewrite {
    /// The rewrites of a text.
    pub(super) const OF_TEXT: [Self; 9] = [
        Self::Utc,
        Self::Path,
        Self::Separators,
        Self::Number,
        Self::Fold,
        Self::Lower,
        Self::AsciiLower,
        Self::Upper,
        Self::AsciiUpper,
    ];

    /// The rewritten text; `None` if it is unchanged.
    pub(super) fn text(self, given: &str) -> Option<String> {
        let rewritten = match self {
            Self::Blank => String::new(),
            Self::Utc => moment::utc(given)?,
            Self::Path => spellings::path(given)?,
            Self::Separators => spellings::separators(given)?,
            Self::Number => spellings::number(given)?,
            Self::Fold => spellings::fold(given)?,
            Self::Lower => spellings::lower(given)?,
            Self::AsciiLower => spellings::ascii_lower(given)?,
            Self::Upper => given.to_uppercase(),
            Self::AsciiUpper => given.to_ascii_uppercase(),
            Self::Moment | Self::Float | Self::Sort => return None,
        };
        (rewritten != given).then_some(rewritten)
    }

    /// Whether the rewritten text begins with the same letter, apart from its case.
    pub(super) fn keeps_the_first_letter(self) -> bool {
        matches!(self, Self::Fold | Self::Lower | Self::AsciiLower | Self::Upper | Self::AsciiUpper)
    }

    fn kind(self) -> Self {
        match self {
            Self::Separators => Self::Path,
            Self::Lower | Self::AsciiLower => Self::Fold,
            other => other,
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The rewrites that a key is encoded with.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan(pub(super) Vec<(Place, Rewrite)>);

impl Plan {
    pub(super) fn has(&self, place: Place, rewrite: Rewrite) -> bool {
        self.0.contains(&(place, rewrite))
    }

    /// Whether the plan already has a rewrite of the same kind for this place.
    pub(super) fn outdoes(&self, (place, rewrite): (Place, Rewrite)) -> bool {
        self.0.iter().any(|(at, other)| *at == place && other.kind() == rewrite.kind())
    }

    pub(super) fn text<'t>(&self, place: Place, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for (_, rewrite) in self.0.iter().filter(|(at, _)| *at == place) {
            if let Some(rewritten) = rewrite.text(&text) {
                text = Cow::Owned(rewritten);
            }
        }
        text
    }
}

/// The maximum number of places that are considered; further ones stay unchanged.
const PLACES_MAX: usize = 32;

/// The rewrites that may apply to a key.
#[derive(Default)]
pub(super) struct Notes(Vec<(Place, u16)>);

impl Notes {
    pub(super) fn note(&mut self, place: Place, rewrite: Rewrite) {
        if let Some((_, noted)) = self.0.iter_mut().find(|(at, _)| *at == place) {
            *noted |= rewrite.bit();
        } else if self.0.len() < PLACES_MAX {
            self.0.push((place, rewrite.bit()));
        }
    }

    pub(super) fn note_text(&mut self, place: Place, given: &str) {
        self.note(place, Rewrite::Blank);
        let has_case = spellings::has_case(given);
        // Upper case applies only to keys that hash it.
        let is_noted =
            |rewrite: &Rewrite| *rewrite < Rewrite::Upper && (has_case || !rewrite.keeps_the_first_letter());
        for rewrite in Rewrite::OF_TEXT.into_iter().filter(is_noted) {
            if rewrite.text(given).is_some() {
                self.note(place, rewrite);
            }
        }
    }

    /// The rewrites to try, in order. Collections come last, inner ones first, so that elements have their
    /// final form when they are sorted.
    pub(super) fn attempts(&self) -> Vec<(Place, Rewrite)> {
        // If the key is a single part, equality must look at it.
        let first = if self.0.len() > 1 { Rewrite::Blank } else { Rewrite::Moment };
        let all = [
            Rewrite::Blank,
            Rewrite::Moment,
            Rewrite::Utc,
            Rewrite::Path,
            Rewrite::Separators,
            Rewrite::Number,
            Rewrite::Fold,
            Rewrite::Lower,
            Rewrite::AsciiLower,
            Rewrite::Float,
        ];
        let of_place = |(place, noted): &(Place, u16)| {
            let (place, noted) = (*place, *noted);
            all.into_iter()
                .filter(move |rewrite| *rewrite >= first && noted & rewrite.bit() != 0)
                .map(move |rewrite| (place, rewrite))
        };
        let parts = self.0.iter().flat_map(of_place);
        let sorts = self.0.iter().rev().filter(|(_, noted)| noted & Rewrite::Sort.bit() != 0);
        parts.chain(sorts.map(|(place, _)| (*place, Rewrite::Sort))).collect()
    }
}
