//! Dictionaries of nodes that share a server.

use larder::{Cache, Compress, TierKind, ucache};
use larder_testkit::RedisServer;
use tempfile::TempDir;

use super::{ENOUGH, counts, fill, record, until, writes_with_dictionary};

fn node(server: &RedisServer, dir: &TempDir) -> Cache<u64, String> {
    let builder = ucache("records").dir(dir.path()).memory_bytes(0).redis(server.url()).namespace("nodes");
    builder.compress(Compress::dictionary()).build().unwrap()
}

#[test]
fn second_node_finds_the_dictionary_of_the_first() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = node(&server, &dirs[0]);
    fill(&one);
    let two = node(&server, &dirs[1]);
    assert!((0..=ENOUGH).all(|number| two.get(&number) == Some(record(number))));
    until("the second node writes with it, after few records", || writes_with_dictionary(&two, 5000));
    assert_eq!(one.get(&5000), Some(record(5000)));
    // A clear by one node takes the dictionary from both.
    two.clear().unwrap();
    until("the second node writes with it", || writes_with_dictionary(&two, 6000));
    assert_eq!(one.get(&6000), Some(record(6000)));
    for cache in [&one, &two] {
        assert_eq!(counts(cache, TierKind::Redis).lost_dictionary, 0);
    }
    two.close().unwrap();
    one.close().unwrap();
}

#[test]
fn nodes_that_train_at_one_time_read_one_another() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let nodes = dirs.each_ref().map(|dir| node(&server, dir));
    std::thread::scope(|scope| {
        for (at, cache) in nodes.iter().enumerate() {
            scope.spawn(move || {
                let first = 10_000 * (at as u64 + 1);
                (first..first + ENOUGH).for_each(|number| cache.insert(number, record(number)));
                until("a dictionary writes", || writes_with_dictionary(cache, first + ENOUGH));
            });
        }
    });
    for (at, cache) in nodes.iter().enumerate() {
        let first = 10_000 * (2 - at as u64);
        assert!((first..=first + ENOUGH).all(|number| cache.get(&number) == Some(record(number))));
        assert_eq!(counts(cache, TierKind::Redis).lost_dictionary, 0);
    }
    nodes.into_iter().for_each(|cache| cache.close().unwrap());
}
