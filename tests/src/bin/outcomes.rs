//! Prints `docs/plan-outcomes.md`.

fn main() {
    print!("{}", volplane_tests::plan_outcomes::page());
}
