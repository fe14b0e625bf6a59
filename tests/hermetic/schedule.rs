//! When work falls due. Instants of the expected side come from GNU date, e.g. `date -u -d '2026-03-29 02:00 CEST' +%s`.

use std::collections::BTreeSet;
use std::time::Duration;

use castoff::schedule::{Cron, Schedule, Verdict, Zone, jitter};
use proptest::prelude::*;

/// `date -d TEXT +%s`, as GNU date knows it.
fn at(text: &str) -> i64 {
    let output = std::process::Command::new("date").args(["-d", text, "+%s"]).output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn paris(pattern: &str) -> Cron {
    Cron::parse(pattern, "Europe/Paris".parse().unwrap()).unwrap()
}

fn plain(cron: Cron) -> Schedule {
    Schedule { cron, delay: Duration::ZERO, grace: Duration::from_secs(6 * 3600) }
}

#[test]
fn a_daily_time_stays_the_same_on_the_wall_across_both_changes() {
    let cron = paris("0 4 * * *");
    for (from, next) in [
        ("2026-03-28 12:00 CET", "2026-03-29 04:00 CEST"),
        ("2026-03-29 12:00 CEST", "2026-03-30 04:00 CEST"),
        ("2026-10-24 12:00 CEST", "2026-10-25 04:00 CET"),
        ("2026-10-25 12:00 CET", "2026-10-26 04:00 CET"),
    ] {
        assert_eq!(cron.after(at(&with_offset(from))), Some(at(&with_offset(next))), "{from}");
    }
}

/// Zone letters as offsets, which GNU date reads without a time zone database.
fn with_offset(text: &str) -> String {
    text.replace("CEST", "+0200").replace("CET", "+0100")
}

#[test]
fn the_hour_left_out_runs_when_it_is_over_and_the_hour_that_comes_twice_runs_once() {
    let cron = paris("30 2 * * *");
    assert_eq!(cron.after(at("2026-03-28 12:00 +0100")), Some(at("2026-03-29 03:00 +0200")));
    let first = at("2026-10-25 02:30 +0200");
    assert_eq!(cron.after(at("2026-10-24 12:00 +0200")), Some(first));
    assert_eq!(cron.after(first), Some(at("2026-10-26 02:30 +0100")));
    // Asked from within the second pass of the hour, it does not run again.
    let second_pass = at("2026-10-25 02:45 +0100");
    let last = first;
    assert_eq!(plain(cron).verdict(last, second_pass), Verdict::Wait { next: at("2026-10-26 02:30 +0100") });
}

#[test]
fn a_run_is_due_once_however_often_it_is_asked() {
    let schedule = plain(Cron::parse("3 3 * * *", Zone::UTC).unwrap());
    let scheduled = at("2026-05-02 03:03 +0000");
    let yesterday = at("2026-05-01 03:03 +0000");
    assert_eq!(schedule.verdict(yesterday, scheduled - 1), Verdict::Wait { next: scheduled });
    assert_eq!(schedule.verdict(yesterday, scheduled), Verdict::Run { scheduled, collapsed: 0 });
    assert_eq!(schedule.verdict(yesterday, scheduled + 3600), Verdict::Run { scheduled, collapsed: 0 });
    assert_eq!(schedule.verdict(scheduled, scheduled + 1), Verdict::Wait { next: at("2026-05-03 03:03 +0000") });
}

#[test]
fn a_machine_that_slept_runs_once_or_says_what_it_missed() {
    let schedule = plain(Cron::parse("0 * * * *", Zone::UTC).unwrap());
    let (slept, woke) = (at("2026-05-02 00:00 +0000"), at("2026-05-02 05:30 +0000"));
    let scheduled = at("2026-05-02 05:00 +0000");
    assert_eq!(schedule.verdict(slept, woke), Verdict::Run { scheduled, collapsed: 4 });
    let daily = plain(Cron::parse("3 3 * * *", Zone::UTC).unwrap());
    let scheduled = at("2026-05-02 03:03 +0000");
    assert_eq!(
        daily.verdict(at("2026-05-01 03:03 +0000"), at("2026-05-02 12:03 +0000")),
        Verdict::Missed { scheduled, late: Duration::from_secs(9 * 3600), next: at("2026-05-03 03:03 +0000") }
    );
}

#[test]
fn a_clock_set_back_neither_repeats_nor_blocks() {
    let schedule = plain(Cron::parse("3 3 * * *", Zone::UTC).unwrap());
    let last = at("2026-05-10 03:03 +0000");
    // A week back: it waits for the next time of the clock as it stands, not for a week.
    let now = at("2026-05-03 12:00 +0000");
    assert_eq!(schedule.verdict(last, now), Verdict::Wait { next: at("2026-05-04 03:03 +0000") });
}

#[test]
fn a_delay_moves_the_start_and_nothing_else() {
    let mut schedule = plain(Cron::parse("3 3 * * *", Zone::UTC).unwrap());
    schedule.delay = Duration::from_secs(600);
    let scheduled = at("2026-05-02 03:03 +0000");
    let yesterday = at("2026-05-01 03:03 +0000");
    assert_eq!(schedule.verdict(yesterday, scheduled + 599), Verdict::Wait { next: scheduled + 600 });
    assert_eq!(schedule.verdict(yesterday, scheduled + 600), Verdict::Run { scheduled, collapsed: 0 });
    assert_eq!(schedule.upcoming(scheduled + 599, 2), [scheduled + 600, scheduled + 600 + 86_400]);
}

#[test]
fn cron_hour_and_cron_minute_are_fields() {
    let cron = Cron::daily("3", "3", Zone::UTC).unwrap();
    assert_eq!(cron.to_string(), "3 3 * * * UTC");
    assert_eq!(cron.after(at("2026-05-02 00:00 +0000")), Some(at("2026-05-02 03:03 +0000")));
    let often = Cron::daily("*/6", "15", Zone::UTC).unwrap();
    assert_eq!(often.after(at("2026-05-02 06:15 +0000")), Some(at("2026-05-02 12:15 +0000")));
    for (hour, minute) in [("", "3"), ("3", "3 4"), ("@daily", "3"), ("25", "3"), ("3", "60"), ("3", "x"), ("3", "-1")]
    {
        assert!(Cron::daily(hour, minute, Zone::UTC).is_err(), "{hour:?} {minute:?}");
    }
}

#[test]
fn a_schedule_that_never_comes_is_refused() {
    for pattern in ["0 0 31 2 *", "0 0 31 4,6 *", "* * * *", "0 0 0 * * *", "", "0 0 32 * *", "0 24 * * *", "@reboot"] {
        let error = Cron::parse(pattern, Zone::UTC).unwrap_err();
        assert!(error.render().contains("is not a schedule"), "{pattern}: {error}");
    }
    assert_eq!(
        Cron::parse("0 0 29 2 *", Zone::UTC).unwrap().after(at("2026-01-01 00:00 +0000")),
        Some(at("2028-02-29 00:00 +0000"))
    );
    assert!("Europe/Atlantis".parse::<Zone>().is_err());
}

#[test]
fn five_hundred_hosts_are_spread_over_the_window() {
    let window = Duration::from_secs(900);
    let delays: Vec<u64> = (0..500).map(|host| jitter(&format!("host{host}"), "sync", window).as_secs()).collect();
    assert!(delays.iter().all(|delay| *delay < 900));
    let minutes: BTreeSet<u64> = delays.iter().map(|delay| delay / 60).collect();
    assert_eq!(minutes.len(), 15);
    let most = (0..15).map(|minute| delays.iter().filter(|delay| **delay / 60 == minute).count()).max().unwrap();
    assert!(most < 60, "{most} hosts in one minute");
    assert_eq!(jitter("host1", "sync", window), jitter("host1", "sync", window));
    assert_eq!(jitter("host1", "sync", Duration::ZERO), Duration::ZERO);
}

proptest! {
    /// Asked every minute over weeks around a change of the clock, each instant runs exactly once.
    #[test]
    fn nothing_runs_twice_and_nothing_is_lost(hour in 0_u8..24, minute in 0_u8..60, start in 0_i64..400, step in 30_i64..5000) {
        let cron = paris(&format!("{minute} {hour} * * *"));
        let schedule = Schedule { cron: cron.clone(), delay: Duration::ZERO, grace: Duration::from_secs(86_400) };
        let begin = 1_767_225_600 + start * 86_400;
        let end = begin + 10 * 86_400;
        let mut last = begin;
        let mut runs = Vec::new();
        let mut now = begin;
        while now < end {
            now += step;
            if let Verdict::Run { scheduled, collapsed } = schedule.verdict(last, now) {
                prop_assert_eq!(collapsed, 0);
                runs.push(scheduled);
                last = scheduled;
            }
        }
        let mut expected = Vec::new();
        let mut from = begin;
        while let Some(next) = cron.after(from).filter(|next| *next <= now) {
            expected.push(next);
            from = next;
        }
        prop_assert_eq!(runs, expected);
    }
}

#[test]
fn late_is_two_periods_without_a_success_and_a_weekend_is_none() {
    let weekdays = plain(paris("3 3 * * 1-5"));
    let friday = at("2026-11-20 03:10 CET");
    for (now, late) in [
        ("2026-11-22 12:00 CET", false), // Sunday
        ("2026-11-23 12:00 CET", false), // Monday's run failed
        ("2026-11-24 03:05 CET", false), // Tuesday's has had as long as Friday's took
        ("2026-11-24 03:11 CET", true),
    ] {
        assert_eq!(weekdays.is_late(friday, at(now)), late, "{now}");
    }
    let delayed = Schedule { delay: Duration::from_secs(600), ..plain(paris("0 4 * * *")) };
    let success = at("2026-10-24 04:10:30 CEST");
    assert!(!delayed.is_late(success, at("2026-10-26 04:10:30 CET")));
    assert!(delayed.is_late(success, at("2026-10-26 04:10:31 CET")));
}

#[test]
fn a_moment_is_shown_as_the_clocks_of_its_zone_show_it() {
    let zone: Zone = "Europe/Paris".parse().unwrap();
    for text in ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-07-01T00:00:00+02:00"] {
        assert_eq!(zone.show(at(text)), text);
    }
    assert_eq!(Zone::UTC.show(0), "1970-01-01T00:00:00+00:00");
}
