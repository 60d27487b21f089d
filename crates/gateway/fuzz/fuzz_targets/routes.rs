#![no_main]

use std::sync::LazyLock;

use serin_gateway::fuzzing::Routes;

static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::new().expect("rules"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ROUTES.find(bytes));
