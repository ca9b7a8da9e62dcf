//! Images of the crate `image`, stored as raw pixels.
//!
//! Not as PNG: its length is unknown before it is encoded, and encoding takes longer than most loads that a
//! cache saves. Pixels can be compressed like other payloads.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use image::metadata::Cicp;
use image::{DynamicImage, ImageBuffer, Pixel};

use super::serde::{Natural, as_bytes};
use crate::{Error, ErrorKind, Result};

/// Bytes before the samples: layout number, width, height.
const HEAD: usize = 4 + 4 + 4;

/// A decoded image, stored with all its pixels.
///
/// For images that are expensive to decode or to generate. Store an encoded file as [`Bytes`].
///
/// ```
/// use image::DynamicImage;
/// use larder_core::natural::Image;
///
/// let picture = Image::from(DynamicImage::new_rgb8(640, 480));
/// assert_eq!((picture.width(), picture.encoded_len().unwrap()), (640, 12 + 640 * 480 * 3));
/// ```
#[derive(Clone, PartialEq)]
pub struct Image(Arc<DynamicImage>);

impl From<DynamicImage> for Image {
    fn from(image: DynamicImage) -> Self {
        Self(Arc::new(image))
    }
}

impl Deref for Image {
    type Target = DynamicImage;

    fn deref(&self) -> &DynamicImage {
        &self.0
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}x{}, {:?})", self.width(), self.height(), self.color())
    }
}

macro_rules! layouts {
    ($($number:literal = $variant:ident),+) => {
        /// The layout number, and the total size of the samples in bytes.
        fn layout(image: &DynamicImage) -> Option<(u32, usize)> {
            match image {
                $(DynamicImage::$variant(buffer) => Some(($number, size_of_val(&buffer.as_raw()[..]))),)+
                _ => None,
            }
        }

        fn put_samples(image: &DynamicImage, bytes: &mut Vec<u8>) {
            match image {
                $(DynamicImage::$variant(buffer) => Sample::put_all(buffer.as_raw(), bytes),)+
                _ => {}
            }
        }

        fn read(number: u32, size: (u32, u32), samples: &[u8]) -> Option<DynamicImage> {
            match number {
                $($number => buffer(size, samples).map(DynamicImage::$variant),)+
                _ => None,
            }
        }
    };
}

layouts!(
    0 = ImageLuma8,
    1 = ImageLumaA8,
    2 = ImageRgb8,
    3 = ImageRgba8,
    4 = ImageLuma16,
    5 = ImageLumaA16,
    6 = ImageRgb16,
    7 = ImageRgba16,
    8 = ImageRgb32F,
    9 = ImageRgba32F
);

/// A sample (one channel of a pixel).
trait Sample: Sized {
    fn put_all(samples: &[Self], bytes: &mut Vec<u8>);

    /// Ignores the bytes of an incomplete last sample.
    fn take_all(bytes: &[u8]) -> Vec<Self>;
}

impl Sample for u8 {
    fn put_all(samples: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(samples);
    }

    fn take_all(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }
}

macro_rules! samples {
    ($($sample:ident),+) => {$(
        impl Sample for $sample {
            fn put_all(samples: &[Self], bytes: &mut Vec<u8>) {
                samples.iter().for_each(|sample| bytes.extend_from_slice(&sample.to_le_bytes()));
            }

            fn take_all(bytes: &[u8]) -> Vec<Self> {
                bytes.as_chunks().0.iter().map(|sample| Self::from_le_bytes(*sample)).collect()
            }
        }
    )+};
}

samples!(u16, f32);

/// Decodes only if the length matches the claimed size, so no claim leads to an allocation.
fn buffer<P: Pixel<Subpixel: Sample>>(
    (width, height): (u32, u32),
    bytes: &[u8],
) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
    let sample = size_of::<P::Subpixel>();
    let len = u64::from(width) * u64::from(height);
    let len = len.checked_mul(u64::from(P::CHANNEL_COUNT))?.checked_mul(sample as u64)?;
    if len != bytes.len() as u64 {
        return None;
    }
    ImageBuffer::from_raw(width, height, P::Subpixel::take_all(bytes))
}

impl Image {
    /// The length of [`encode`](Self::encode), in bytes. Costs nothing.
    ///
    /// # Errors
    /// The same as [`encode`](Self::encode).
    pub fn encoded_len(&self) -> Result<u64> {
        self.check().map(|(_, len)| (HEAD + len) as u64)
    }

    /// Encodes size and pixels; `docs/format.md` specifies every byte.
    ///
    /// # Errors
    /// `ErrorKind::Codec` for a color space other than sRGB, which would be lost.
    pub fn encode(&self) -> Result<Bytes> {
        let (number, len) = self.check()?;
        let mut bytes = Vec::with_capacity(HEAD + len);
        for word in [number, self.width(), self.height()] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        put_samples(self, &mut bytes);
        Ok(bytes.into())
    }

    fn check(&self) -> Result<(u32, usize)> {
        let refused = |why: &str| Error::new(ErrorKind::Codec, format!("the image cannot be encoded: {why}"));
        if self.color_space() != Cicp::SRGB {
            return Err(refused("its color space is not sRGB, and would be lost"));
        }
        layout(self).ok_or_else(|| refused("its pixel layout is not supported"))
    }

    /// Decodes the result of [`encode`](Self::encode).
    ///
    /// # Errors
    /// `ErrorKind::Corrupt` for other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let words = bytes.split_at_checked(HEAD).and_then(|(head, samples)| {
            let (words, _) = head.as_chunks();
            let [number, width, height] = [0, 1, 2].map(|at| words.get(at).copied().map(u32::from_le_bytes));
            read(number?, (width?, height?), samples)
        });
        words.map(Self::from).ok_or_else(|| Error::new(ErrorKind::Corrupt, "the payload is not an image"))
    }
}

impl Natural for Image {
    fn to_bytes(&self) -> Result<Bytes> {
        self.encode()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self> {
        Self::decode(&bytes)
    }
}

as_bytes!(Image);
