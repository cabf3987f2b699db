//! Asks one pod of a gateway what its filter counted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::header::ACCEPT;
use tokio::sync::{Semaphore, SemaphorePermit};
use weir_engine::{Span, Timestamp};

use crate::http_client::{HttpClient, Limits};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::Pod;
use crate::kubernetes::render::Proxies;
use crate::scrape::{Reader, Report, ScrapeError};

/// The port at which Envoy alone answers. pilot-agent's passes the query on to Envoy too, and adds what an application says.
const ENVOY: u16 = 15090;
/// A pod that is read at its agent's port is tried at Envoy's again after this.
const AGENT_FOR: Span = Span::seconds(60);
/// Envoy's own port answers by then, or the agent's is asked.
const ENVOY_TIMEOUT: Duration = Duration::from_millis(400);
/// Of Envoy's metrics only the filter's, the number of workers, and the counters of routes that have the filter on. The
/// expression sees Envoy's own names.
const PATH: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency\
                    %7Cvhost%5C..*%5C.route%5C.weir_.*%5C.upstream_rq_total%24)";
/// A pod that does not answer by then is asked again in the next round. The body is more than a gateway says that has met
/// thousands of canaries in its life; it is never in memory, and nothing is kept of it but what is of canaries that are known now.
const LIMITS: Limits = Limits { timeout: Duration::from_millis(900), body: 64 << 20 };

type Answer = Result<Option<Report>, Box<dyn std::error::Error + Send + Sync>>;

/// Pods that are asked at a time, of all workloads together: hundreds of callers take their turns.
static TURNS: Semaphore = Semaphore::const_new(256);
/// Beside them, of pods that did not answer last: each takes the whole of the timeout, and nobody else waits for it.
static LATE_TURNS: Semaphore = Semaphore::const_new(64);
/// Pods of one workload that are asked at a time.
const OWN_TURNS: usize = 64;

/// Asks pods.
pub(super) struct Scraper {
    http: HttpClient,
    /// What the pods are. A sidecar's agent passes on what the application beside it says, so only Envoy itself is asked.
    proxies: Proxies,
    /// Pods that are read at their agent's port, until when.
    agents: HashMap<String, Timestamp>,
    /// Pods that did not answer last.
    late: HashSet<String>,
    turns: Arc<Semaphore>,
}

/// What a pod said.
pub(super) struct Scraped {
    pub(super) pod: String,
    pub(super) asked_at: Timestamp,
    /// Why it is not known, where it did not answer; nothing where its filter does not run.
    pub(super) report: Result<Option<Report>, String>,
    /// Whether it was read at its agent's port.
    by_agent: bool,
}

impl Scraper {
    pub(super) fn new(proxies: Proxies) -> Self {
        Self {
            http: HttpClient::persistent(),
            proxies,
            agents: HashMap::new(),
            late: HashSet::new(),
            turns: Arc::new(Semaphore::new(OWN_TURNS)),
        }
    }

    /// Takes note of how a pod was read.
    pub(super) fn note(&mut self, scraped: &Scraped) {
        if scraped.by_agent && scraped.report.is_ok() {
            self.agents.entry(scraped.pod.clone()).or_insert(scraped.asked_at + AGENT_FOR);
        }
        self.agents.retain(|_, until| *until > scraped.asked_at);
        match &scraped.report {
            Ok(_) => self.late.remove(&scraped.pod),
            Err(_) => self.late.insert(scraped.pod.clone()),
        };
    }

    /// Asks one pod for what is of these canaries.
    pub(super) fn scrape(
        &self,
        pod: &Pod,
        address: &str,
        known: &Arc<HashSet<String>>,
    ) -> impl Future<Output = Scraped> + use<> {
        let (http, known, agent) = (self.http.clone(), known.clone(), pod.agent_port());
        let (pod, address) = (pod.name().to_owned(), address.to_owned());
        let only_agent = self.agents.get(&pod).is_some_and(|until| *until > now());
        let only_envoy = self.proxies == Proxies::Sidecars;
        let (turns, late) = (self.turns.clone(), self.late.contains(&pod));
        async move {
            let _turn = turn(&turns, late).await;
            let asked_at = now();
            if only_envoy {
                let report = ask(&http, &address, ENVOY, &known).await;
                let report = report.map_err(|error| format!("its metrics cannot be read at port {ENVOY}: {error}"));
                return Scraped { pod, asked_at, report, by_agent: false };
            }
            let envoy = match only_agent {
                true => None,
                false => tokio::time::timeout(ENVOY_TIMEOUT, ask(&http, &address, ENVOY, &known)).await.ok(),
            };
            if let Some(Ok(report)) = envoy {
                return Scraped { pod, asked_at, report: Ok(report), by_agent: false };
            }
            let report = ask(&http, &address, agent, &known).await;
            let report =
                report.map_err(|error| format!("its metrics cannot be read at port {ENVOY} or {agent}: {error}"));
            if let Err(problem) = &report {
                tracing::debug!(pod, problem, "scrape failed");
            }
            Scraped { pod, asked_at, report, by_agent: true }
        }
    }
}

/// Waits for a workload's turn, then for one of all. Turns end with the process alone.
async fn turn(own: &Semaphore, late: bool) -> [Option<SemaphorePermit<'_>>; 2] {
    let own = own.acquire().await.ok();
    let all = if late { &LATE_TURNS } else { &TURNS };
    [own, all.acquire().await.ok()]
}

async fn ask(http: &HttpClient, address: &str, port: u16, known: &HashSet<String>) -> Answer {
    // An IPv6 address stands in brackets.
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let request = Request::get(format!("http://{host}:{port}{PATH}"));
    // pilot-agent complains in its log of whoever names none.
    let request = request.header(ACCEPT, "text/plain").body(http_body_util::Full::default())?;
    // Read as it comes in: a thousand pods that send what they like take no more memory than what is known of their canaries.
    let mut reader = Reader::of(Some(known));
    let status = http.send_through(request, LIMITS, |piece| reader.read(piece)).await?;
    if !status.is_success() {
        return Err(format!("status {status}").into());
    }
    match reader.finish() {
        Ok(report) => Ok(Some(report)),
        Err(ScrapeError::NoFilter) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const ID: &str = "a3f09c11d2e4b877";

    /// Answers one request with a head and these pieces, and returns what [`ask`] makes of them.
    async fn asked(head: &str, pieces: Vec<Vec<u8>>) -> Answer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(head.as_bytes()).await;
            for piece in pieces {
                let _ = stream.write_all(&piece).await;
            }
            let _ = stream.shutdown().await;
        });
        ask(&HttpClient::persistent(), "127.0.0.1", port, &HashSet::from([ID.to_owned()])).await
    }

    const TEXT: &str = "weir_a3f09c11d2e4b877_refused{} 7\nweir_boot{} 9\nweir_generation_0{} 8\nweir_vms_0{} 2\n";

    #[tokio::test]
    async fn a_report_is_read_however_it_is_cut_into_pieces() {
        for length in [1, 3, 40, TEXT.len()] {
            let pieces = TEXT.as_bytes().chunks(length).map(<[u8]>::to_vec).collect();
            let report = asked("200 OK", pieces).await.unwrap().unwrap();
            assert_eq!(report.scrape(ID, "pod", Timestamp(0)).refused, 7);
        }
        assert!(asked("404 Not Found", vec![TEXT.into()]).await.is_err());
        assert!(
            asked("200 OK", vec![b"envoy_x{} 1\n".to_vec()]).await.unwrap().is_none(),
            "the filter does not run there"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_one_workload_that_hang_leave_turns_for_everybody_elses() {
        let many = Scraper::new(Proxies::Sidecars);
        let hang = |late: bool| {
            let turns = many.turns.clone();
            tokio::spawn(async move {
                let _turn = turn(&turns, late).await;
                std::future::pending::<()>().await;
            })
        };
        let hanging: Vec<_> = (0..300).map(|i| hang(i % 2 == 0)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let other = Scraper::new(Proxies::Gateways);
        let soon = tokio::time::timeout(Duration::from_secs(1), turn(&other.turns, false));
        assert!(soon.await.is_ok(), "as soon as ever");
        hanging.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn who_did_not_answer_last_is_late_until_it_answers() {
        let mut scraper = Scraper::new(Proxies::Sidecars);
        let scraped = |report| Scraped { pod: "pod".into(), asked_at: Timestamp(1), report, by_agent: false };
        scraper.note(&scraped(Err("no answer".into())));
        assert!(scraper.late.contains("pod"));
        scraper.note(&scraped(Ok(None)));
        assert!(scraper.late.is_empty());
    }

    #[tokio::test]
    async fn a_pod_that_sends_other_things_than_lines_is_left_off_at_the_first_of_them() {
        let error = asked("200 OK", vec![vec![b'x'; 1 << 20]; 8]).await.unwrap_err().to_string();
        assert!(error.contains("a line of more than"), "{error}");
    }

    #[tokio::test]
    async fn a_flood_of_other_peoples_counters_leaves_nothing_in_memory() {
        // So many as any machine reads within the time of a scrape, and hundreds of times what is kept.
        let strangers =
            |i: usize| (0..400).map(|j| format!("weir_{:016x}_late{{}} 1\n", i * 400 + j)).collect::<String>();
        let mut pieces: Vec<Vec<u8>> = (0..20).map(|i| strangers(i).into_bytes()).collect();
        pieces.push(TEXT.into());
        let report = asked("200 OK", pieces).await.unwrap().unwrap();
        assert_eq!(report, Report::parse(TEXT).unwrap(), "8,000 strangers are none of its canaries");
    }
}
