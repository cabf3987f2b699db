//! What a push costs istiod, by the number of Canaries that the gateway's object names.

use std::time::Duration;

use weir_wire::Canary;

use crate::api::Api;
use crate::figures::table;
use crate::gateways::{Pod, Small, acknowledged};
use crate::process::Process;

/// Canaries in an object.
const SIZES: [usize; 3] = [1, 100, 1000];
/// Pushes of each size.
const PUSHES: u32 = 30;
/// Time between two pushes, in which istiod has long ended what a push gives it to do.
const PAUSE: Duration = Duration::from_millis(500);

/// Pushes objects that name the first of `canaries`, and native weights by `native`; prints istiod's processor time for each.
pub(crate) async fn measure(api: &Api, small: &mut Small, pod: &Pod, mut native: impl FnMut()) {
    let istiod = Process::find("pilot-discovery", None).expect("istiod runs here");
    let canaries: Vec<Canary> = small.config.canaries.clone();
    let idle = spent(&istiod, || ()).await;
    let row = |what: String, bytes: String, all: f64| vec![what, bytes, format!("{:.1}", all - idle)];
    let mut rows =
        vec![row("native weights, by a VirtualService".into(), "–".into(), spent(&istiod, &mut native).await)];
    for size in SIZES {
        small.config.canaries = canaries[..size].to_vec();
        let push = || {
            small.push(api);
            acknowledged(std::slice::from_ref(pod), small.config.generation, PAUSE / 5);
        };
        let all = spent(&istiod, push).await;
        let bytes = serde_json::to_string(&small.config).unwrap().len();
        rows.push(row(format!("Weir, Canaries in the object: {size}"), bytes.to_string(), all));
    }
    table(&["a push of", "configuration, bytes", "istiod's processor time, ms"], &rows);
    println!("Mean of {PUSHES} pushes, without what istiod does anyway.\n");
}

/// Returns istiod's processor time for one push and the pause after it, in milliseconds.
async fn spent(istiod: &Process, mut push: impl FnMut()) -> f64 {
    // The first of a size is not like those after it.
    push();
    tokio::time::sleep(PAUSE).await;
    let before = istiod.cpu();
    for _ in 0..PUSHES {
        push();
        tokio::time::sleep(PAUSE).await;
    }
    (istiod.cpu() - before) * 1000.0 / f64::from(PUSHES)
}
