//! Tests of the configuration file.

use std::collections::BTreeSet;

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/example.ron");

fn told(text: &str) -> String {
    parse("site.ron".as_ref(), text).unwrap_err().to_string()
}

#[test]
fn h27_an_empty_configuration_is_the_defaults() {
    for text in ["()", "( )\n", "(pmm: ())", "// nothing\n()"] {
        assert_eq!(parse("x".as_ref(), text).unwrap(), Tunables::default());
    }
}

#[test]
fn h27_the_example_equals_the_defaults_and_names_every_field() {
    assert_eq!(
        parse("example.ron".as_ref(), EXAMPLE).unwrap(),
        Tunables::default()
    );
    // The fields by their names in the controller, where a time ends in its unit.
    let all = serde_json::to_value(Tunables::default()).unwrap();
    let sections = all.as_object().unwrap();
    let fields = sections
        .iter()
        .filter(|(name, _)| *name != "policy")
        .flat_map(|(_, section)| section.as_object().unwrap().keys());
    let named: BTreeSet<_> = EXAMPLE
        .lines()
        .filter_map(|line| line.split("//").next()?.split_once(':'))
        .map(|(name, _)| name.trim())
        .collect();
    for field in sections.keys().chain(fields) {
        assert!(
            named.contains(field.trim_end_matches("_ms")),
            "{field} is not in example.ron"
        );
    }
    // A policy is said in the words of `arun`.
    for command in crate::commands::all() {
        let of_group = |arg: &&clap::Arg| {
            let name = arg.get_id().as_str();
            name != "gid" && arg.get_help().is_some() && is_policy(name)
        };
        for arg in command.get_arguments().filter(of_group) {
            assert!(
                named.contains(arg.get_id().as_str()),
                "{arg} is not in example.ron"
            );
        }
    }
}

fn is_policy(option: &str) -> bool {
    use clap::Args;
    let command = crate::policy::PolicyArgs::augment_args(clap::Command::new("policy"));
    command.get_arguments().any(|arg| arg.get_id() == option)
}

#[test]
fn h33_a_policy_is_read_for_all_groups_and_for_single_ones() {
    let text = r#"(policy: (max_restarts: 3, past_limit: "stop"),
        groups: { 7: (backoff: "100ms,1.5,2s", healthy_after: "1m", interval: "30s", permanent_exit: [2, 78]) })"#;
    let tunables = parse("x".as_ref(), text).unwrap();
    assert_eq!(tunables.policy.max_restarts, Some(3));
    assert_eq!(
        tunables.policy.past_limit,
        Some(refrain_abi::PastLimit::Stop)
    );
    let of_group = &tunables.groups[&7];
    let backoff = (of_group.first_ms, of_group.factor_percent, of_group.cap_ms);
    assert_eq!(backoff, (Some(100), Some(150), Some(2000)));
    assert_eq!(
        (of_group.healthy_ms, of_group.interval_ms),
        (Some(60_000), Some(30_000))
    );
    assert_eq!(of_group.permanent_exit, Some(vec![2, 78]));
    assert_eq!(of_group.max_restarts, None);
    // What one lacks comes from the other.
    let both = of_group.clone().over(&tunables.policy);
    assert_eq!((both.max_restarts, both.first_ms), (Some(3), Some(100)));
}

#[test]
fn h33_what_is_wrong_in_a_policy_is_told_with_its_place() {
    for (text, why) in [
        (
            r#"(policy: (past_limit: "never"))"#,
            "\"site\", \"stop\" or \"retry\"",
        ),
        (r#"(policy: (backoff: "soon"))"#, "'soon' is no time"),
        (r#"(groups: { 1: (permanent_exit: [256]) })"#, "x:1:"),
        (r#"(groups: { 1: (bogus: 1) })"#, "bogus"),
    ] {
        let said = parse("x".as_ref(), text).unwrap_err().to_string();
        assert!(said.starts_with("x:1:") && said.contains(why), "{said}");
    }
}

#[test]
fn h27_sizes_and_times_have_units() {
    let text = r#"(pmm: (ram_bank_size: "1GiB", window_size: "2 TiB"),
        hr_ctrl: (interval: "500ms", grace: "2m"), console: (log_size: "4096"))"#;
    let tunables = parse("x".as_ref(), text).unwrap();
    assert_eq!(tunables.pmm.ram_bank_size, 1 << 30);
    assert_eq!(tunables.pmm.window_size, 2 << 40);
    assert_eq!(tunables.hr_ctrl.interval_ms, 500);
    assert_eq!(tunables.hr_ctrl.grace_ms, 120_000);
    assert_eq!(tunables.console.log_size, 4096);
}

#[test]
fn h27_keep_on_halt_is_plain_yes_or_no() {
    let kept = |text| parse("x".as_ref(), text).unwrap().pmm.keep_on_halt;
    assert_eq!(kept("(pmm: (keep_on_halt: true))"), Some(true));
    assert_eq!(kept("(pmm: (keep_on_halt: None))"), None);
}

#[test]
fn h27_an_unknown_key_is_an_error_with_line_and_column() {
    let text = "(\n    pmm: (\n        ram_bonk_size: \"64MiB\",\n    ),\n)";
    let told = told(text);
    assert!(told.starts_with("site.ron:3:9: "), "{told}");
    assert!(
        told.contains("ram_bonk_size") && told.contains("ram_bank_size"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn h27_an_ill_typed_key_is_an_error_with_line_and_column() {
    for (text, at) in [
        ("(pmm: (ram_bank_size: 64))", "site.ron:1:"),
        ("(\npmm: (max_blocks: \"many\"))", "site.ron:2:"),
        ("(\n\nhr_ctrl: (interval: 10))", "site.ron:3:"),
        ("(hr_ctrl: 3)", "site.ron:1:"),
        ("(", "site.ron:1:"),
        ("", "site.ron:1:"),
    ] {
        let told = told(text);
        assert!(told.starts_with(at), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn h27_values_out_of_bounds_are_refused() {
    for text in [
        r#"(pmm: (ram_bank_size: "0"))"#,
        r#"(pmm: (ram_bank_size: "12 parsecs"))"#,
        r#"(pmm: (ram_bank_size: "99999999999TiB"))"#,
        r#"(pmm: (ram_bank_size: "-1"))"#,
        "(pmm: (max_blocks: 0))",
        "(pmm: (max_blocks: 4294967296))",
        "(pmm: (window_base: 0x1000_0000_0001))",
        "(pmm: (window_base: 0))",
        "(pmm: (window_base: 0x7fff_ff80_0000))",
        r#"(pmm: (window_size: "1MiB"))"#,
        "(hr_ctrl: (max_actors: 0))",
        r#"(hr_ctrl: (interval: "0s"))"#,
        r#"(hr_ctrl: (interval: "10"))"#,
    ] {
        let told = told(text);
        assert!(told.starts_with("site.ron:"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn c4_a_configuration_that_cannot_be_read_is_one_line() {
    let told = read("/nonexistent/site.ron".as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("/nonexistent/site.ron: cannot be read: "),
        "{told}"
    );
    assert!(read("/".as_ref()).is_err());
}
