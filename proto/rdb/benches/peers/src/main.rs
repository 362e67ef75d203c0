//! Reads every value of an RDB with the crate `rdb`: `urtext-rdb-peers FILE`. Prints how many items there were.

use std::{env, error::Error, fs::File, io::BufReader};

use rdb::{RdbDecoder, filter::Simple};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: urtext-rdb-peers FILE")?;
    let file = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut items = 0_u64;
    for item in RdbDecoder::new(file, Simple::new())? {
        std::hint::black_box(item?);
        items += 1;
    }
    println!("{items} items");
    Ok(())
}
