//! All trials of a run: case by case, and within a case in rounds, so that its variants meet the same machine.

use std::time::Duration;

use crate::interrupt::Interrupts;
use crate::screen::Screen;

use super::case::{Case, Scale, Variant};
use super::daemon;
use super::report::{Line, Report};
use super::stage::Place;
use super::telling::Telling;
use super::trial::{Ground, Trial};
use super::usage::OwnPeak;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cases: Vec<Case>,
    pub(crate) scale: Scale,
    /// Trials of each variant, of which medians are shown.
    pub(crate) repeat: u32,
    pub(crate) place: Place,
    /// The time of one trial.
    pub(crate) most: Duration,
}

/// A run that is about to begin.
pub(crate) struct Course {
    settings: Settings,
    own_peak: OwnPeak,
}

impl Course {
    /// Nothing is started yet.
    pub(crate) fn new(settings: Settings) -> Course {
        Course { settings, own_peak: OwnPeak::open() }
    }

    /// Runs all of it.
    pub(crate) async fn run(self, screen: &Screen) -> anyhow::Result<Report> {
        let Course { settings, mut own_peak } = self;
        daemon::adopt_orphans()?;
        let cases: Vec<Vec<Variant>> =
            settings.cases.iter().map(|case| case.variants(&settings.scale)).collect();
        let of = cases.iter().map(Vec::len).sum::<usize>() * settings.repeat as usize;
        let mut ground = Ground {
            place: &settings.place,
            most: settings.most,
            interrupts: Interrupts::listen()?,
            telling: Telling::new(screen),
        };
        let machine = ground.machine().await.map_err(|error| error.context("measure the machine"))?;
        let (mut number, mut lines) = (0, Vec::new());
        for variants in cases {
            let mut trials: Vec<Vec<Trial>> = variants.iter().map(|_| Vec::new()).collect();
            for _ in 0..settings.repeat {
                for (variant, trials) in variants.iter().zip(&mut trials) {
                    number += 1;
                    ground.telling.begin(variant, number, of);
                    own_peak.forget();
                    let trial = ground.trial(variant).await.map_err(|error| {
                        error.context(format!("case {} {}", variant.case.name(), variant.name))
                    })?;
                    trials.push(trial);
                }
            }
            let of_case: Vec<Line> = variants
                .iter()
                .zip(&trials)
                .map(|(variant, trials)| Line::of(variant, trials, settings.place.slots))
                .collect();
            lines.extend(Line::compared(of_case, &variants));
        }
        Ok(Report { taskq: env!("CARGO_PKG_VERSION"), machine, cases: lines })
    }
}
