//! The samples that a probe answers with, in the order in which they are tried.
//!
//! Most types accept the first sample of each kind. Samples may be added; the accepted sample is not part of
//! the fingerprint.

/// Numbers. Most types for nonzero numbers, percentages, months, years and status codes accept one. None is
/// large, so that a decoder that takes it for a length does not allocate much. None is negative, since it
/// would be large as an unsigned number.
pub(super) const NUMBERS: &[u16] = &[1, 0, 2, 7, 12, 16, 48, 64, 100, 200, 404, 1_024, 2_020];

/// Booleans.
pub(super) const BOOLS: &[bool] = &[false, true];

/// Characters.
pub(super) const CHARS: &[char] = &['a', '0', 'A', ' ', '#', '+'];

/// Lengths of byte strings: addresses, identifiers, hashes, keys, signatures.
pub(super) const LENGTHS: &[usize] =
    &[0, 16, 4, 6, 8, 10, 12, 18, 20, 24, 28, 32, 33, 36, 48, 64, 65, 96, 128, 1, 2, 3, 256];

/// Byte strings are slices of this.
pub(super) const BYTES: &[u8; 256] = &[b'1'; 256];

/// Text.
pub(super) const TEXTS: &[&str] = &[
    "",
    "a",
    "1",
    // Identifiers.
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "507f1f77bcf86cd799439011",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0x1f",
    // Times.
    "2024-02-03T04:05:06Z",
    "2024-02-03T04:05:06.000000000Z",
    "2024-02-03T04:05:06+00:00[UTC]",
    "2024-02-03T04:05:06",
    "2024-02-03 04:05:06",
    "2024-02-03 04:05:06 UTC",
    "2024-02-03",
    "04:05:06",
    "04:05",
    "Sat, 03 Feb 2024 04:05:06 GMT",
    "Sat, 03 Feb 2024 04:05:06 +0000",
    "PT1H",
    "1h",
    "1s",
    "+01:00",
    "UTC",
    "Europe/Paris",
    "Mon",
    "Monday",
    "January",
    // Network addresses.
    "https://example.org/a",
    "example.org",
    "user@example.org",
    "127.0.0.1",
    "::1",
    "127.0.0.1:80",
    "[::1]:80",
    "10.0.0.0/8",
    "00:00:5e:00:53:01",
    "urn:isbn:0451450523",
    "mailto:user@example.org",
    // Numbers, versions and units.
    "1.5",
    "-1",
    "1/2",
    "100",
    "1.2.3",
    "^1.2.3",
    "1 KiB",
    "10%",
    // Words and codes.
    "true",
    "/a",
    "/a/b",
    "C:\\a",
    "a-b",
    "a_b",
    "A",
    "ABC",
    "en",
    "en-US",
    "US",
    "USD",
    "EUR 1.00",
    "GET",
    "text/plain",
    "utf-8",
    "#ffffff",
    "+14155552671",
    "YWJj",
    "YQ==",
    "{}",
    "[]",
    "null",
    "correct-horse-Battery-staple-1",
];
