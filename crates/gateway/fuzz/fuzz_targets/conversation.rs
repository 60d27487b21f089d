#![no_main]

use std::cell::OnceCell;

use serin_gateway::fuzzing::Proxy;

thread_local! {
    static PROXY: OnceCell<Proxy> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PROXY.with(|proxy| {
        let new = || Proxy::new().expect("a socket");
        proxy.get_or_init(new).conversation(bytes);
    });
});
