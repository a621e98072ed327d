//! The cycle figures do not rise: the same runs as `make bench` makes, against the committed values.

use volplane_tests::bench::{baseline, cycles};

#[test]
fn cycle_figures_do_not_rise() {
    let update = "where the change is meant, `make bench-baseline` writes docs/bench-baseline.json anew";
    let committed = baseline::read().unwrap_or_else(|error| panic!("{error}; {update}"));
    let figures = cycles::figures();
    for figure in &figures {
        println!("{} = {} {}", figure.name, figure.value, figure.unit);
    }
    let objections = baseline::objections(&committed, &figures);
    assert!(objections.is_empty(), "{}\n{update}", objections.join("\n"));
}
