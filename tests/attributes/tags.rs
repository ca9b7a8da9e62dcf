//! Cached functions with tags, computed from the arguments or the value.

use larder::{Tag, bcache, mcache, ucache};

use super::{Runs, empty, folder};

#[test]
fn tags_can_be_a_list_over_the_arguments() {
    static RUNS: Runs = Runs::new();

    #[mcache(tags = ["users", format!("user:{id}"), name])]
    fn greeting(id: u32, name: &str) -> String {
        RUNS.count();
        format!("{name}, {id}")
    }

    let all = || (greeting(1, "Ada"), greeting(2, "Bob"), greeting(2, "Ada"));
    all();
    assert_eq!((all(), RUNS.take()), (("Ada, 1".into(), "Bob, 2".into(), "Ada, 2".into()), 3));
    greeting::invalidate_tag("user:2").unwrap();
    assert!(greeting::contains(1, "Ada") && !greeting::contains(2, "Bob"));
    all();
    assert_eq!(RUNS.take(), 2);
    greeting::invalidate_tag(String::from("Ada")).unwrap();
    all();
    assert_eq!(RUNS.take(), 2);
    greeting::cache().unwrap().invalidate_tag("users").unwrap();
    all();
    assert_eq!(RUNS.take(), 3);
    let cache = greeting::cache().unwrap();
    let entry = cache.inspect(&(1, "Ada".to_owned())).unwrap().unwrap();
    assert_eq!(entry.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["users", "user:1", "Ada"]);
}

/// The generated code had variables of these names in scope where it put the user's expressions, which then
/// read the result of the function in place of the argument.
#[test]
fn options_name_arguments_that_are_called_like_generated_variables() {
    #[mcache(tags = |_| [format!("{value} {options} {error} {answer}")], exclude = |length| *length == value)]
    fn single(value: usize, options: u8, error: u8, answer: &str) -> Result<usize, String> {
        assert!(value < 100);
        Ok(usize::from(options + error) + answer.len())
    }
    #[mcache(batch, tags = [format!("{answer} {answers} {value}")])]
    fn batch(answer: u8, answers: u8, value: &[u8]) -> Vec<u8> {
        value.iter().map(|value| value + answer + answers).collect()
    }
    fn name() -> std::time::Duration {
        std::time::Duration::from_secs(3600)
    }
    fn value(key: &u8, value: &u8) -> u32 {
        u32::from(*key + *value)
    }
    #[mcache(ttl = name(), memory_bytes = "1 MiB", weigher = value)]
    fn built(n: u8) -> u8 {
        n
    }

    assert_eq!(single(1, 2, 3, "four"), Ok(9));
    assert_eq!(single::cache().unwrap().tags().unwrap(), [Tag::from("1 2 3 four")]);
    assert_eq!((single(9, 2, 3, "four"), single::contains(9, 2, 3, "four")), (Ok(9), false), "excluded");
    assert_eq!(batch(1, 2, &[3]), [6]);
    assert_eq!(batch::cache().unwrap().tags().unwrap(), [Tag::from("1 2 3")]);
    assert_eq!((built(7), built::cache().unwrap().bytes()), (7, 14));
}

#[test]
fn tags_can_be_a_function_of_key_and_value() {
    static RUNS: Runs = Runs::new();

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[mcache(tags = words)]
    fn by_path(n: u8) -> String {
        RUNS.count();
        format!("number {n}")
    }
    #[mcache(tags = |text| [format!("{id}/{}", text.len())], skip_none, exclude = String::is_empty)]
    fn by_closure(id: u8, text: &str) -> Result<Option<String>, String> {
        RUNS.count();
        assert_eq!(id, 7);
        match text {
            "fail" => Err("failed".into()),
            "none" => Ok(None),
            text => Ok(Some(text.to_owned())),
        }
    }
    #[mcache(tags = words(&text))]
    fn by_call(text: String) -> usize {
        RUNS.count();
        text.len()
    }

    (by_path(1), by_path(2)).0.clear();
    by_path::invalidate_tag("2").unwrap();
    assert!(by_path::contains(1) && !by_path::contains(2));
    by_path::invalidate_tag("number").unwrap();
    assert!(!by_path::contains(1));
    RUNS.take();

    for text in ["fail", "none", "", "a", "b"] {
        assert_eq!(by_closure(7, text), by_closure(7, text));
    }
    assert_eq!(RUNS.take(), 2 + 2 + 2 + 1 + 1);
    by_closure::invalidate_tag("7/1").unwrap();
    assert!(!by_closure::contains(7, "a") && !by_closure::contains(7, "b"));

    assert_eq!((by_call("a b".into()), by_call("c".into())), (3, 1));
    by_call::invalidate_tag("b").unwrap();
    assert!(!by_call::contains("a b".into()) && by_call::contains("c".into()));
}

#[tokio::test]
async fn tags_work_in_tasks_over_lower_tiers() {
    static RUNS: Runs = Runs::new();
    empty("tags");

    #[ucache(dir = folder("tags"), memory_bytes = 0, tags = [format!("page:{page}"), region])]
    async fn fetch(region: String, page: u32) -> Result<String, u8> {
        RUNS.count();
        tokio::task::yield_now().await;
        if page == 0 { Err(4) } else { Ok(format!("{region}/{page}")) }
    }

    let both = async || (fetch("north".into(), 1).await, fetch("south".into(), 1).await);
    let _pages = both().await;
    assert_eq!((both().await, RUNS.take()), ((Ok("north/1".into()), Ok("south/1".into())), 2));
    fetch::invalidate_tag("north").await.unwrap();
    assert!(!fetch::contains("north".into(), 1).await && fetch::contains("south".into(), 1).await);
    fetch::invalidate_tag("page:1").await.unwrap();
    let _pages = both().await;
    assert_eq!(RUNS.take(), 2);
    assert_eq!(
        (fetch("north".into(), 0).await, fetch("north".into(), 0).await, RUNS.take()),
        (Err(4), Err(4), 2)
    );
}

#[test]
fn recorded_iterator_has_tags_and_respects_their_invalidation() {
    empty("tagged records");

    #[bcache(dir = folder("tagged records"), tags = [format!("upto:{n}")])]
    fn numbers(n: u32) -> impl Iterator<Item = u32> {
        0..n
    }

    assert_eq!((numbers(3).count(), numbers::contains(3)), (3, true));
    numbers::invalidate_tag("upto:4").unwrap();
    assert!(numbers::contains(3));
    numbers::invalidate_tag("upto:3").unwrap();
    assert!(!numbers::contains(3));

    let mut outdated = numbers(5);
    outdated.next();
    numbers::cache().unwrap().invalidate_tag("upto:5").unwrap();
    assert_eq!((outdated.count(), numbers::contains(5)), (4, false));
    let mut cleared = numbers(5);
    cleared.next();
    numbers::cache().unwrap().clear().unwrap();
    assert_eq!((cleared.count(), numbers::contains(5)), (4, false));
}

#[test]
fn result_with_too_many_tags_is_returned_and_not_stored() {
    #[mcache(tags = (0..n).map(|tag| tag.to_string()))]
    fn tagged(n: u32) -> u32 {
        n
    }

    assert_eq!((tagged(64), tagged(65)), (64, 65));
    assert!(tagged::contains(64) && !tagged::contains(65));
}
