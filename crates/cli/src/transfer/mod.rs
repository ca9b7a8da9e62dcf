//! The export file: the frames of a cache in one file. `docs/format.md` specifies its bytes.

mod reader;
mod writer;

use larder_core::tier::TierKind;

pub(crate) use reader::{ExportReader, ExportSummary, FrameHead};
pub(crate) use writer::ExportWriter;

const MAGIC: &[u8; 4] = b"LRDX";
const VERSION: u8 = 1;
/// Bytes before the first record: magic, version, zeros.
const START: [u8; 8] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];

/// The kind of the last record.
const END: u8 = 0;

/// The kind of a record with a frame of this tier: 2 for files, 1 (disk) for any other tier.
fn kind_of(tier: TierKind) -> u8 {
    match tier {
        TierKind::File => 2,
        _ => 1,
    }
}

/// The tier of a record of this kind.
fn tier_of(kind: u8) -> Option<TierKind> {
    match kind {
        1 => Some(TierKind::Disk),
        2 => Some(TierKind::File),
        _ => None,
    }
}
