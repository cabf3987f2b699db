//! Clients: HTTP/1.1 by hand, because a test must be able to leave at any moment and to send what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0 if nothing came.
    pub status: u16,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    /// As much of it as came.
    pub body: String,
}

impl Answer {
    /// Returns a header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// Returns the name of the service that answered.
    pub fn served_by(&self) -> &str {
        self.header("x-served-by")
    }
}

/// A connection that is used again and again.
pub struct Client {
    socket: BufReader<TcpStream>,
    line: String,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("the gateway listens")
    }

    /// Connects, if anybody listens.
    pub async fn try_connect(address: SocketAddr) -> Option<Self> {
        let socket = TcpStream::connect(address).await.ok()?;
        socket.set_nodelay(true).ok()?;
        Some(Self { socket: BufReader::new(socket), line: String::new() })
    }

    /// Asks the shop.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("shop.example.com", path, &[]).await
    }

    /// Asks with headers; an answer that breaks off has the status that it began with.
    pub async fn ask(&mut self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n").as_bytes()).await;
        self.answer().await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("the gateway answers in time")
    }

    /// Reads the head of an answer, not its body.
    pub async fn head(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            self.line.clear();
            if self.socket.read_line(&mut self.line).await.unwrap_or(0) == 0 {
                return answer;
            }
            let line = self.line.trim_end();
            if answer.status == 0 {
                answer.status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            } else if line.is_empty() {
                return answer;
            } else if let Some((name, value)) = line.split_once(':') {
                answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    async fn read(&mut self) -> Answer {
        let mut answer = self.head().await;
        let mut body = Vec::new();
        if let Ok(length) = answer.header("content-length").parse() {
            self.piece(length, &mut body).await;
        } else if answer.header("transfer-encoding") == "chunked" {
            loop {
                self.line.clear();
                if self.socket.read_line(&mut self.line).await.unwrap_or(0) == 0 {
                    break;
                }
                let size = u64::from_str_radix(self.line.trim(), 16).unwrap_or(0);
                self.piece(size, &mut body).await;
                self.piece(2, &mut Vec::new()).await;
                if size == 0 {
                    break;
                }
            }
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    }

    async fn piece(&mut self, length: u64, into: &mut Vec<u8>) {
        let _ = (&mut self.socket).take(length).read_to_end(into).await;
    }
}

/// Asks the shop many times over a few connections; every answer is a 200.
pub async fn many(gateway: SocketAddr, path: &'static str, requests: u64) {
    const CONNECTIONS: u64 = 4;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let share = requests / CONNECTIONS + u64::from(number < requests % CONNECTIONS);
            tokio::spawn(async move {
                let mut client = Client::connect(gateway).await;
                for _ in 0..share {
                    assert_eq!(client.get(path).await.status, 200);
                }
            })
        })
        .collect();
    for connection in connections {
        connection.await.expect("every request is answered with 200");
    }
}

/// Sends a request and leaves after a while, with no answer or in the middle of one.
pub async fn leave(gateway: SocketAddr, path: &str, after: Duration) {
    let mut client = Client::connect(gateway).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").as_bytes()).await;
    let _ = tokio::time::timeout(after, client.answer()).await;
}

/// What came back over HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer2 {
    /// 0 if nothing came.
    pub status: u16,
    /// From the trailers or the headers.
    pub grpc_status: String,
}

/// A connection that speaks HTTP/2.
pub struct Client2(h2::client::SendRequest<Bytes>);

impl Client2 {
    /// Connects.
    pub async fn connect(gateway: SocketAddr) -> Self {
        let socket = TcpStream::connect(gateway).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self(send)
    }

    /// Asks the service that speaks HTTP/2.
    pub async fn post(&mut self, path: &str, content_type: &str) -> Answer2 {
        tokio::time::timeout(PATIENCE, self.exchange(path, content_type)).await.expect("the gateway answers in time")
    }

    /// Asks, and resets the stream after a while.
    pub async fn reset(&mut self, path: &str, after: Duration) {
        let (answer, mut send) = self.begin(path, "application/grpc");
        let waited = tokio::time::timeout(after, async move {
            let answer = answer.await;
            std::future::pending::<()>().await;
            drop(answer);
        });
        let _ = waited.await;
        send.send_reset(h2::Reason::CANCEL);
        // The frame leaves with the connection's task.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn begin(&mut self, path: &str, content_type: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let request = http::Request::post(format!("http://grpc.example.com{path}"))
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(())
            .unwrap();
        self.0.send_request(request, false).unwrap()
    }

    async fn exchange(&mut self, path: &str, content_type: &str) -> Answer2 {
        self.0 = self.0.clone().ready().await.unwrap();
        let (answer, mut send) = self.begin(path, content_type);
        send.send_data(Bytes::from_static(&[0, 0, 0, 0, 1, 9]), true).unwrap();
        let Ok(answer) = answer.await else { return Answer2::default() };
        let text = |headers: &http::HeaderMap| {
            headers.get("grpc-status").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let mut result = Answer2 { status: answer.status().as_u16(), grpc_status: text(answer.headers()) };
        let mut body = answer.into_body();
        while let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
        }
        if let Ok(Some(trailers)) = body.trailers().await {
            result.grpc_status = text(&trailers);
        }
        result
    }
}
