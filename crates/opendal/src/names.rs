//! The names of objects.

use larder_core::key::EncodedKey;

/// Names objects under a prefix by the digests of their keys. Two keys may have one digest: the frame holds the
/// key, and readers compare it.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Empty, or it ends with `/`.
    prefix: String,
}

impl Names {
    pub(crate) fn under(prefix: &str) -> Self {
        let parts: Vec<_> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        let prefix = if parts.is_empty() { String::new() } else { parts.join("/") + "/" };
        Self { prefix }
    }

    /// The folder of all objects, as it is listed.
    pub(crate) fn folder(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }

    /// The name of the object of a key: two hexadecimal digits, `/`, thirty more.
    pub(crate) fn of(&self, key: &EncodedKey) -> String {
        let digest = format!("{:032x}", key.digest());
        format!("{}{}/{}", self.prefix, &digest[..2], &digest[2..])
    }

    /// Whether this is the name of an object of the tier.
    pub(crate) fn is_ours(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let Some((shard, rest)) = path.strip_prefix(&self.prefix).and_then(|name| name.split_once('/'))
        else {
            return false;
        };
        let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex(shard, 2) && is_hex(rest, 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_those_of_other_objects() {
        for (prefix, folder) in [("", "/"), ("/", "/"), ("a/b", "a/b/"), ("/a//b/", "a/b/")] {
            let names = Names::under(prefix);
            assert_eq!(names.folder(), folder);
            let name = names.of(&EncodedKey::new(*b"\xa3key"));
            assert!(names.is_ours(&name), "{name}");
            assert!(!names.is_ours(&format!("{name}0")));
            assert!(!names.is_ours(&format!("c/{name}")), "{name}");
            assert!(!names.is_ours("a/b/readme.txt"));
        }
    }
}
