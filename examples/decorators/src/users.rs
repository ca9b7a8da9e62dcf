//! Results with tags, and a batch function.

use larder::mcache;

/// A table whose rows take a query to read.
const NAMES: [(u32, &str); 4] = [(1, "Ada"), (2, "Barbara"), (3, "Edsger"), (4, "Grace")];

/// One query for all missing names; each name is an entry of its own.
#[mcache(batch, skip_none, tags = ["names", format!("user:{ids}")])]
fn names(ids: &[u32]) -> Vec<Option<String>> {
    println!("  a query for {ids:?}");
    let name = |id: &u32| NAMES.iter().find(|(known, _)| known == id).map(|(_, name)| (*name).to_owned());
    ids.iter().map(name).collect()
}

/// Depends on two users, and has a tag for each.
#[mcache(tags = [format!("user:{one}"), format!("user:{other}")])]
fn greeting(one: u32, other: u32) -> String {
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "somebody".to_owned());
    match names(&[one, other]).as_slice() {
        [one, other] => format!("{} greets {}", name(one), name(other)),
        _ => String::new(),
    }
}

pub(crate) fn show() -> larder::Result<()> {
    println!("{:?}", names(&[1, 2, 3]));
    println!("{:?}", names(&[4, 3, 2, 9]));
    println!("{}, {}", greeting(1, 4), greeting(2, 3));
    names::invalidate_tag("user:2")?;
    greeting::invalidate_tag("user:2")?;
    println!("without user 2: {:?}, {:?}", names::get(&[1, 2]), greeting::contains(1, 4));
    println!("{}\n", greeting(2, 3));
    Ok(())
}
