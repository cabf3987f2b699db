//! Who gets which arm whatever the draw says: callers of the canary by its own name, and clients that bring a cookie.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod vm;

use vm::{ID, Vm, canary, config, to};
use weir_filter::Choice;
use weir_wire::names::{Arm, Cohort, Kind, Metric, direct_route};
use weir_wire::{Canary, Limits, Lookup, TOKEN_HEADER};

#[test]
fn who_calls_the_canarys_own_service_gets_the_canary_at_any_weight_and_is_no_draw() {
    let of = |parts| Canary {
        hosts: vec!["*".into()],
        direct: vec!["cart-canary".into(), "cart-canary.shop".into()],
        limits: vec![Limits { epoch: 1, absolute: vec![[1, 2]], end: [0, 1_000], ..Limits::default() }],
        ..canary(parts)
    };
    let mut vm = Vm::running(&config(1, vec![of(0)]));
    let ask = |vm: &mut Vm, host: &str, connection: u64, status: &str| {
        let (stream, choice) = vm.begin(host);
        let token = vm.host.request.iter().any(|(name, _)| name == TOKEN_HEADER);
        vm.host.connection = connection;
        vm.end(stream, status);
        (choice, token)
    };
    let direct = Some(Choice::Given { arm: Arm::Canary, cohort: Cohort::Direct, cookie: None });
    assert_eq!(ask(&mut vm, "cart-canary.shop:9898", 1, "200"), (direct, true));
    assert_eq!(ask(&mut vm, "Cart-Canary", 1, "404"), (direct, true));
    assert_eq!(ask(&mut vm, "cart.shop", 1, "200"), (to(Arm::Primary), false));
    vm.filter.tick(&mut vm.host);
    let counted =
        |vm: &Vm, kind| vm.metric(Metric::Requests { id: ID, slot: 1, arm: Arm::Canary, cohort: Cohort::Direct, kind });
    let kinds = [Kind::Assigned, Kind::Success, Kind::ClientError, Kind::Latency(0)];
    assert_eq!(kinds.map(|kind| counted(&vm, kind)), [2, 2, 1, 2]);
    assert_eq!(vm.counter(1, Arm::Primary, Kind::Assigned), 1, "the draw");
    // What fails there counts for the guard, and once it has tripped the canary gets none of them either.
    ask(&mut vm, "cart-canary", 2, "500");
    ask(&mut vm, "cart-canary", 3, "500");
    assert_eq!(vm.metric(Metric::Tripped(ID)), 1);
    assert_eq!(ask(&mut vm, "cart-canary", 4, "200"), (Some(Choice::Refused), false));
}

#[test]
fn who_comes_by_the_route_of_the_canarys_own_service_calls_it_by_whichever_name() {
    let inside = Canary {
        lookup: Lookup::Route,
        hosts: Vec::new(),
        routes: vec!["shop/cart".into(), direct_route(ID)],
        direct: vec!["cart-canary".into(), "cart-canary.shop.svc.cluster.local".into()],
        ..canary(5_000)
    };
    let mut vm = Vm::running(&config(1, vec![inside]));
    let direct = Some(Choice::Given { arm: Arm::Canary, cohort: Cohort::Direct, cookie: None });
    vm.host.route = direct_route(ID);
    for authority in ["cart-canary.shop.svc.cluster.local.", "10.96.0.7", "load-test.alias:80", "Cart-Canary"] {
        let (stream, choice) = vm.begin(authority);
        assert_eq!(choice, direct, "{authority}");
        vm.end(stream, "500");
    }
    assert_eq!(vm.counter(1, Arm::Primary, Kind::Assigned) + vm.counter(1, Arm::Canary, Kind::Assigned), 0, "no draws");
    // By another route the same names say nothing but what is listed.
    vm.host.route = "shop/cart".into();
    let drawn = |choice: Option<Choice>| matches!(choice, Some(Choice::Given { cohort: Cohort::Draw, .. }));
    assert!(drawn(vm.begin("10.96.0.7").1));
    assert_eq!(vm.begin("cart-canary").1, direct);
}

#[test]
fn a_client_of_the_primary_has_a_cookie_of_its_own_is_led_past_its_end_and_brings_it_over_to_the_canary() {
    let both = |parts, epoch| Canary {
        affinity: Some(weir_wire::Affinity {
            cookie: "arm".into(),
            primary_cookie: Some("home".into()),
            ..weir_wire::Affinity::default()
        }),
        epoch,
        ..canary(parts)
    };
    let mut vm = Vm::running(&config(1, vec![both(1, 1)]));
    let ask = |vm: &mut Vm, cookie: &str| {
        vm.next += 1;
        vm.host.request =
            [(":authority", "shop.example.com"), ("cookie", cookie)].map(|(n, v)| (n.into(), v.into())).to_vec();
        vm.host.response.clear();
        let choice = vm.filter.request(&mut vm.host, vm.next);
        vm.filter.response(&mut vm.host, vm.next);
        let header = |headers: &[(String, String)], name: &str| {
            headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let said = (header(&vm.host.request, TOKEN_HEADER), header(&vm.host.response, "set-cookie"));
        vm.end(vm.next, "200");
        (choice, said)
    };
    let mine = "home=00000000000000aa";
    let given = |arm, cohort, cookie| Some(Choice::Given { arm, cohort, cookie });
    let kept = (weir_wire::KEPT.to_owned(), String::new());
    assert_eq!(ask(&mut vm, mine), (given(Arm::Primary, Cohort::Sticky, None), kept));
    let (_, (token, cookie)) = ask(&mut vm, "a=b");
    assert!(token.is_empty() && cookie.starts_with("home="), "{token} {cookie}");
    // The weight passes its place: it moves, with the same number.
    vm.configure(&config(2, vec![both(10_000, 2)])).unwrap();
    let moved = ("t0ken".to_owned(), "arm=00000000000000aa".to_owned());
    assert_eq!(ask(&mut vm, mine), (given(Arm::Canary, Cohort::Sticky, Some(0xaa)), moved));
    // No weight, no cookie: the route may end it.
    vm.configure(&config(3, vec![both(0, 3)])).unwrap();
    assert_eq!(ask(&mut vm, mine).1, (String::new(), String::new()));
}
