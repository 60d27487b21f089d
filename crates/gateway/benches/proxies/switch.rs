//! A version goes and another one comes, under load: what users lose of it, in every order of the switch and the end of the old
//! version, for applications that end well and for those that do not.

use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::application::{Application, End};
use crate::load::{Load, Method};
use crate::options::Options;
use crate::peers::{Front, Peer};

/// Of the load before anything happens, and after all has happened.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(700);
/// How long the bench waits for answers that a proxy sits on.
const LONGEST: Duration = Duration::from_secs(30);
const RATES: [u32; 3] = [500, 2_000, 5_000];
/// Connections for so many requests a second; an answer takes a fiftieth of a second.
const PER_CONNECTION: u32 = 15;

/// When the old version is asked to end.
#[derive(Clone, Copy)]
enum Order {
    LongAfter,
    RightAfter,
    Before,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LongAfter => "1 s after the switch",
            Self::RightAfter => "right after the switch",
            Self::Before => "100 ms before the switch",
        })
    }
}

/// What one switch is tried with.
struct Trial {
    order: Order,
    end: End,
    method: Method,
    rate: u32,
}

impl Trial {
    fn all() -> impl Iterator<Item = Self> {
        let orders = [Order::LongAfter, Order::RightAfter, Order::Before];
        orders.into_iter().flat_map(|order| {
            [End::Graceful, End::Kill].into_iter().flat_map(move |end| {
                let methods = [Method::Get, Method::Post].into_iter();
                methods.flat_map(move |method| {
                    RATES.map(|rate| Self {
                        order,
                        end,
                        method,
                        rate,
                    })
                })
            })
        })
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.end {
            End::Graceful => "graceful",
            End::Kill => "kill",
        };
        write!(
            f,
            "{:25} {end:9} {:5} {:6}",
            self.order, self.method, self.rate
        )
    }
}

/// What became of the requests of one switch, or of several.
#[derive(Default)]
struct Outcome {
    requests: usize,
    lost: u64,
    /// Of the lost ones, those that the old version had received when it went: no proxy can save them but by asking twice.
    cut: u64,
    longest_ms: u32,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.lost += other.lost;
        self.cut += other.cut;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            cut,
            longest_ms,
            ..
        } = self;
        f.pad(&format!("{lost} lost ({cut} cut), {longest_ms} ms"))
    }
}

pub(crate) async fn run(options: &Options) {
    let mut all = Vec::new();
    for kind in &options.peers {
        let first = Application::start().await;
        let started = Peer::start_switching(*kind, first.address).await;
        all.extend(started.map(|peer| Switched { peer, old: first }));
    }
    println!(
        "switches: {} of each; lost requests, of these those that the old version left unanswered, and the longest wait",
        options.switches
    );
    let mut sums: Vec<Outcome> = all.iter().map(|_| Outcome::default()).collect();
    for trial in Trial::all() {
        print!("{trial}");
        let mut row: Vec<Outcome> = all.iter().map(|_| Outcome::default()).collect();
        for turn in 0..options.switches {
            for index in 0..all.len() {
                let index = (index + turn) % all.len();
                let (Some(proxy), Some(sum)) = (all.get_mut(index), row.get_mut(index)) else {
                    continue;
                };
                sum.add(&proxy.try_one(&trial).await);
            }
        }
        for ((proxy, outcome), sum) in all.iter().zip(&row).zip(&mut sums) {
            print!("  {}: {outcome:34}", proxy.peer.kind());
            sum.add(outcome);
        }
        println!();
    }
    for (proxy, sum) in all.iter().zip(&sums) {
        println!(
            "  {:8} {sum}, of {} requests",
            proxy.peer.kind(),
            sum.requests
        );
    }
}

/// A proxy, and the version that it leads to.
struct Switched {
    peer: Peer,
    old: Application,
}

impl Switched {
    async fn try_one(&mut self, trial: &Trial) -> Outcome {
        let new = Application::start().await;
        let load = Load {
            address: self.peer.address(Front::Plain),
            front: Front::Plain,
            method: trial.method,
            path: "/small",
            connections: usize::try_from(trial.rate / PER_CONNECTION).unwrap(),
            rate_per_second: Some(trial.rate.into()),
            time: LONGEST,
            stop: Arc::default(),
        };
        let stop = Arc::clone(&load.stop);
        let running = tokio::spawn(async move { load.run().await });
        tokio::time::sleep(BEFORE).await;
        match trial.order {
            Order::LongAfter => {
                self.peer.switch(new.address).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.old.end(trial.end);
            }
            Order::RightAfter => {
                self.peer.switch(new.address).await;
                self.old.end(trial.end);
            }
            Order::Before => {
                self.old.end(trial.end);
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.peer.switch(new.address).await;
            }
        }
        tokio::time::sleep(AFTER).await;
        stop.store(true, Ordering::Relaxed);
        let measured = running.await.unwrap();
        let old = std::mem::replace(&mut self.old, new);
        Outcome {
            requests: measured.micros.len(),
            lost: measured.errors,
            cut: old.cut(),
            longest_ms: measured.micros.iter().max().copied().unwrap_or(0) / 1_000,
        }
    }
}

/// HAProxy's servers: while one is used, the other one gets the next address.
pub(crate) struct Runtime {
    pub(crate) socket: std::path::PathBuf,
    pub(crate) used: &'static str,
}

impl Runtime {
    pub(crate) fn switch(&mut self, to: SocketAddr) {
        let next = if self.used == "a" { "b" } else { "a" };
        let (ip, port, used) = (to.ip(), to.port(), self.used);
        self.ask(&format!("set server app/{next} addr {ip} port {port}"));
        self.ask(&format!("set server app/{next} state ready"));
        self.ask(&format!("set server app/{used} state maint"));
        self.used = next;
    }

    fn ask(&self, command: &str) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        writeln!(stream, "{command}").unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let refused = ["No such", "Invalid", "Unknown", "require"];
        assert!(
            !refused.iter().any(|word| told.contains(word)),
            "{command}: {told}"
        );
    }
}
