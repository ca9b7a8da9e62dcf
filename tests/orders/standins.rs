//! The stand-ins: what they stand in for would be caught by them, too.
