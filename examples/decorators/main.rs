use std::cell::Cell;
thread_local! { static LAST: Cell<usize> = const { Cell::new(0) }; }
#[larder::mcache]
fn fibonacci(n: u64) -> u64 {
    let here = 0u8;
    let at = &raw const here as usize;
    if n > 85 { println!("{n} {}", LAST.get() as isize - at as isize); }
    LAST.set(at);
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}
fn main() { std::thread::Builder::new().stack_size(64<<20).spawn(|| println!("{}", fibonacci(90))).unwrap().join().unwrap(); }
