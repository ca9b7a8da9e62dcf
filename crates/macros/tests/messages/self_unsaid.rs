use larder::mcache;

struct Shop {
    id: u32,
}

impl Shop {
    #[mcache]
    fn turnover(&self, day: u32, currency: &str) -> u32 {
        self.id + day + currency.len() as u32
    }

    #[mcache(ttl = "1h", skip(day))]
    fn total(&self, day: u32) -> u32 {
        self.id + day
    }

    #[mcache(key = "day")]
    fn opened(&self, day: u32) -> u32 {
        self.id + day
    }
}

fn main() {}
