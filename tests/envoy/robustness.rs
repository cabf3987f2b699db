//! What a gateway lives through: nonsense from clients, a module that is not there, a very large configuration.

use std::path::PathBuf;

use weir_wire::names::Arm;
use weir_wire::{Affinity, Canary};

use crate::harness::client::Client;
use crate::harness::config::{canary, config};
use crate::harness::envoy::{Gateway, Options, module};

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_headers_traps_nothing() {
    let mut picky = canary(5_000);
    picky.conditions = serde_json::from_str(
        r#"[{"headers": {"x-a": {"regex": "(a|aa)*b"}}}, {"cookies": {"c": {"regex": ".*"}}}, {"queryParams": {"q": {"suffix": "x"}}}]"#,
    )
    .unwrap();
    picky.affinity = Some(Affinity { cookie: "weir".into(), ..Affinity::default() });
    let gateway = Gateway::start(&config(vec![picky])).await;
    let long = "a".repeat(20_000);
    let lines: Vec<Vec<u8>> = vec![
        b"x-a: \xff\xfe\xfd".to_vec(),
        format!("x-a: {long}").into_bytes(),
        b"cookie: ;;;===;c;=c=;weir=;weir=zzzzzzzzzzzzzzzz;weir".to_vec(),
        b"cookie: c\xff=\xfe; weir=\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"x-weir-token: ".to_vec(),
        b"x-a:".to_vec(),
    ];
    let hosts: [&[u8]; 7] =
        [b"shop.example.com", b"shop.example.com:99999999999", b":", b"[::1", b"\xc3\xa4.example.com", b"..", b"*"];
    let paths: [&[u8]; 5] = [b"/", b"/?q", b"/?q=%zz&&&=x&q=x", b"/??q=x#q=x", b"/\xc3\xa4?q=\xc3\xa4x"];
    let mut answered = 0;
    for host in hosts {
        for path in paths {
            for line in &lines {
                let mut client = Client::connect(gateway.address).await;
                let request = [b"GET ", path, b" HTTP/1.1\r\nhost: ", host, b"\r\n", line, b"\r\n\r\n"].concat();
                client.send(&request).await;
                answered += u32::from(client.answer().await.status == 200);
            }
        }
    }
    assert!(answered > 30, "{answered} were good enough for Envoy");
    alive(&gateway, config(vec![canary(10_000)])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_endings_trap_nothing() {
    let gateway = Gateway::start(&config(vec![canary(5_000)])).await;
    for path in ["/", "/hang", "/stall", "/cut", "/cut/headers", "/cut/at-once", "/upgrade", "/status/204", "/large"] {
        for after in [0, 1, 20, 120] {
            crate::harness::client::leave(gateway.address, path, std::time::Duration::from_millis(after)).await;
        }
    }
    let metrics = gateway
        .metrics_when("every request has ended", |metrics| {
            [Arm::Primary, Arm::Canary].iter().all(|arm| metrics.under_way(*arm) == 0)
        })
        .await;
    assert!(metrics.arm(Arm::Canary)[0] > 0);
    alive(&gateway, config(vec![canary(10_000)])).await;
}

/// A VM that trapped would let everything through to the primary and acknowledge nothing.
async fn alive(gateway: &Gateway, everything_to_the_canary: weir_wire::Config) {
    gateway.push(&everything_to_the_canary).await;
    assert_eq!(Client::connect(gateway.address).await.get("/").await.served_by(), "canary");
    assert!(!gateway.log().contains("proxy_on_"), "a trap names the function: {}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_module_everything_goes_to_the_primary() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), b"\0asm\x01\0\0\0 and no more").unwrap();
    for module in [PathBuf::from("/nowhere/weir-filter.wasm"), broken.path().to_owned()] {
        let options = Options { module: Some(module), ..Options::default() };
        let gateway = Gateway::start_with(options, &config(vec![canary(10_000)])).await;
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..5 {
            let answer = client.get("/").await;
            assert_eq!((answer.status, answer.served_by()), (200, "primary"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_canaries_fit() {
    let other = |number: u32| Canary {
        id: format!("{number:016x}"),
        name: format!("shop/service-{number}"),
        hosts: vec![format!("service-{number}.example.com")],
        run: String::new(),
        ..canary(0)
    };
    let canaries = (0..1_000).map(other).chain([canary(10_000)]).collect();
    let gateway = Gateway::start(&config(canaries)).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/").await.served_by(), "canary");
    assert_eq!(client.ask("service-7.example.com", "/", &[]).await.served_by(), "primary");
    gateway.metrics_when("both are counted", |metrics| metrics.0.keys().any(|name| name.contains("0000000007_"))).await;
}

#[test]
fn the_module_is_small() {
    let size = std::fs::metadata(module()).unwrap().len();
    println!("weir-filter.wasm: {size} bytes");
    // 419 KB, and 4 KB for what proxies that each see a part have to be told.
    assert!(size < 425_000, "{size} bytes: what has grown?");
}
