use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::waiting::soon;

/// What a client writes to open a stream.
fn opening(packer: &mut Packer, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let packed = packer.write(headers).unwrap();
    let mut payload = stream.to_be_bytes().to_vec();
    payload.extend([0; 6]);
    payload.extend(packed);
    let mut frame = vec![0x80, 3, 0, 1, 0, 0, 0, u8::try_from(payload.len()).unwrap()];
    frame.extend(payload);
    frame
}

fn data(stream: u32, fin: bool, payload: &[u8]) -> Vec<u8> {
    [&frame::data_head(stream, fin, payload.len()), payload].concat()
}

#[tokio::test]
async fn streams_are_opened_written_and_closed() {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let (opened, mut streams) = mpsc::channel(4);
    let session = tokio::spawn(run(server, opened, mpsc::channel(QUEUE)));
    let mut packer = Packer::new().unwrap();
    for (id, kind) in [(1, "error"), (3, "stdin")] {
        let frame = opening(&mut packer, id, &[("Streamtype", kind)]);
        client.write_all(&frame).await.unwrap();
    }
    let mut open = async || soon("a stream", streams.recv()).await.unwrap();
    let (first, mut second) = (open().await, open().await);
    assert_eq!(first.headers["streamtype"], "error");
    assert_eq!(second.headers["streamtype"], "stdin");
    client.write_all(&data(3, false, b"ab")).await.unwrap();
    client.write_all(&data(3, true, b"c")).await.unwrap();
    for part in [Some("ab"), Some("c"), None] {
        let given = soon("a part of the input", second.incoming.recv()).await;
        assert_eq!(given.as_deref(), part.map(str::as_bytes));
    }

    first.outgoing.finish(Bytes::from_static(b"done")).await;
    client.write_all(&ping_of(5)).await.unwrap();
    let mut told = BytesMut::new();
    while !told.ends_with(&ping_of(5)) {
        let read = soon("the answer to a ping", client.read_buf(&mut told)).await;
        assert_ne!(read.unwrap(), 0);
    }
    assert!(told.windows(4).any(|w| w == b"done"));
    drop(client);
    let end = soon("the end of the session", session).await;
    end.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_is_told_after_all_that_was_said_before() {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let (opened, _streams) = mpsc::channel(4);
    let (out, messages) = mpsc::channel(QUEUE);
    let sink = Sink::new(1, out.clone());
    sink.finish(Bytes::from_static(b"last")).await;
    out.send(Message::End).await.unwrap();
    let session = run(server, opened, (out, messages));
    soon("the end of the session", session).await.unwrap();
    let mut told = Vec::new();
    let read = client.read_to_end(&mut told);
    soon("the end of the connection", read).await.unwrap();
    assert_eq!(
        told,
        [data(1, true, b"last"), frame::go_away().to_vec()].concat()
    );
}

fn ping_of(id: u32) -> Vec<u8> {
    frame::ping(id).to_vec()
}

#[tokio::test]
async fn what_is_no_spdy_ends_the_connection() {
    let check = async |sent: &[u8], want: expect_test::Expect| {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let (opened, _streams) = mpsc::channel(4);
        client.write_all(sent).await.unwrap();
        drop(client);
        let session = run(server, opened, mpsc::channel(QUEUE));
        let ended = soon("the end of the session", session).await;
        want.assert_eq(&ended.unwrap_err().to_string());
    };
    check(
        b"GET / HTTP/1.1\r\n",
        expect!["a frame of 2115668 bytes: the limit is 1048576"],
    )
    .await;
    check(&[0x80, 2, 0, 1, 0, 0, 0, 0], expect!["version 2 of SPDY"]).await;
    check(
        &[0x80, 3, 0, 6, 0, 0, 0, 1, 0],
        expect!["a frame is cut off"],
    )
    .await;
    check(
        &[0x80, 3, 0, 6, 0, 0xff, 0, 0],
        expect!["a frame of 16711680 bytes: the limit is 65536"],
    )
    .await;
    let mut noise = vec![0x80, 3, 0, 1, 0, 0, 0, 20, 0, 0, 0, 1];
    noise.extend([7; 16]);
    check(
        &noise,
        expect!["the headers of a stream: they cannot be unpacked"],
    )
    .await;
}

#[test]
fn headers_that_unpack_without_end_are_refused() {
    let long = "a".repeat(1 << 20);
    let packed = {
        let mut packed = Vec::with_capacity(1 << 16);
        let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
        let flush = flate2::FlushCompress::Sync;
        compress
            .compress_vec(long.as_bytes(), &mut packed, flush)
            .unwrap();
        packed
    };
    let error = Unpacker::new().read(&packed).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the headers of a stream: they are too long"
    );
}

proptest! {
    #[test]
    fn headers_come_back(pairs in prop::collection::btree_map("[a-z]{1,20}", "[ -~]{0,40}", 0..6)) {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new());
        for _ in 0..2 {
            let given: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let packed = packer.write(&given).unwrap();
            prop_assert_eq!(unpacker.read(&packed).unwrap(), pairs.clone());
        }
    }

    /// Whatever comes, frames are read or refused.
    #[test]
    fn damaged_frames_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut packer = Packer::new().unwrap();
        let mut sent = opening(&mut packer, 1, &[("streamtype", "stdin")]);
        sent.extend(data(1, false, b"some text"));
        sent.extend(opening(&mut packer, 3, &[("streamtype", "error"), ("port", "80")]));
        sent.extend(ping_of(1));
        for (at, byte) in changes {
            let at = at.index(sent.len());
            sent[at] = byte;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            let (opened, mut streams) = mpsc::channel(4);
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let take = async { while streams.recv().await.is_some() {} };
            let read = async {
                let mut told = Vec::new();
                let _ = client.read_to_end(&mut told).await;
            };
            let session = async { tokio::join!(run(server, opened, mpsc::channel(QUEUE)), take, read) };
            let _ = soon("the end of the session", session).await;
        });
    }
}
