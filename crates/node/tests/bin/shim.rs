//! What the integration tests run: a shim, and a small web application to run under it.
//!
//! The application answers `GET /PATH` with the code that the file `PATH` in its working directory holds, with 200 when there is
//! none, and `GET /env/NAME` with that variable.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.get(1..) {
        Some(["shim", "--dir", dir]) => serin_node::shim_main(Path::new(dir)),
        Some(["terminal", rest @ ..]) => {
            let rest: Vec<_> = rest.iter().map(std::ffi::OsString::from).collect();
            serin_node::terminal_main(&rest)
        }
        Some(["demo-app"]) => serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        _ => ExitCode::FAILURE,
    }
}

fn serve() -> std::io::Result<()> {
    let var = |name| std::env::var(name).unwrap_or_default();
    let listener = TcpListener::bind(format!("{}:{}", var("POD_IP"), var("PORT")))?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    for stream in listener.incoming().flatten() {
        let _ = answer(stream);
    }
    Ok(())
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/');
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let (code, body) = match path.strip_prefix("env/") {
        Some(name) => ("200".to_owned(), std::env::var(name).unwrap_or_default()),
        None => {
            let code = std::fs::read_to_string(path).unwrap_or_default();
            let code = code.trim();
            (
                if code.is_empty() { "200" } else { code }.to_owned(),
                String::new(),
            )
        }
    };
    write!(
        &stream,
        "HTTP/1.1 {code} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
