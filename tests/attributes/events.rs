//! Cached functions with an event listener.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use larder::{Event, mcache};
use once_cell::sync::Lazy;
use parking_lot::Mutex;

/// A channel of the lines that listeners send.
struct Heard(Mutex<Sender<String>>, Mutex<Receiver<String>>);

impl Heard {
    fn new() -> Self {
        let (said, heard) = channel();
        Self(Mutex::new(said), Mutex::new(heard))
    }

    fn say(&self, text: String) {
        self.0.lock().send(text).unwrap();
    }

    fn next(&self) -> String {
        self.1.lock().recv_timeout(Duration::from_secs(60)).unwrap()
    }
}

#[test]
fn listener_gets_the_arguments() {
    static HEARD: Lazy<Heard> = Lazy::new(Heard::new);

    fn told(event: Event<(String, u64)>) {
        HEARD.say(format!("{} {:?}", event.name(), event.key()));
    }
    #[mcache(on_event = "told")]
    fn typed(name: &str, n: u64) -> u64 {
        name.len() as u64 + n
    }
    #[mcache(on_event = |event| HEARD.say(format!("{} {:?}", event.name(), event.key())))]
    async fn inferred(n: u8) -> u8 {
        n
    }

    typed("a", 1);
    typed("a", 1);
    typed::purge("a", 1);
    assert_eq!(
        (HEARD.next(), HEARD.next()),
        ("inserted Some((\"a\", 1))".into(), "removed Some((\"a\", 1))".into())
    );
    larder_testkit::block_on(inferred(7));
    assert_eq!(HEARD.next(), "inserted Some(7)");
}

#[test]
fn generic_listener_works_with_a_custom_key() {
    static HEARD: Lazy<Heard> = Lazy::new(Heard::new);

    fn told<K>(event: Event<K>) {
        HEARD.say(event.name().to_owned());
    }
    struct Shop(u32);
    impl Shop {
        #[mcache(key = "(self.0, day)", on_event = told)]
        fn turnover(&self, day: u32) -> u32 {
            self.0 + day
        }
    }
    #[mcache(batch, key = "ids % 10", on_event = told, memory_bytes = "1 GB")]
    fn names(ids: &[u32]) -> Vec<u32> {
        ids.to_vec()
    }

    Shop(1).turnover(2);
    assert_eq!(HEARD.next(), "inserted");
    names(&[1, 11]);
    assert_eq!(HEARD.next(), "inserted");
}
