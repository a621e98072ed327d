//! Prints `docs/registers.md`.

fn main() {
    print!("{}", volplane_tests::register_map::page());
}
