use super::*;
use onebit_train::recipe::Recipe;
use onebit_train::recipes;
use onebit_train::run::record::Outcome;

fn epoch(n: usize) -> Epoch {
    Epoch {
        epoch: n,
        steps: 430 * n,
        train_loss: 0.5 / n as f64,
        train_accuracy: 0.9,
        valid_loss: Some(0.25),
        valid_accuracy: Some(0.9 + 0.01 * n as f64),
        learning_rate: 1e-4,
        images_per_second: 5310.4,
        seconds: 12.5,
        best: n < 3,
        ..Epoch::default()
    }
}

fn job() -> Job {
    let text = recipes::text(recipes::names()[0]).unwrap();
    Job {
        recipe: Recipe::parse(text, &[("train.epochs".into(), "3".into())]).unwrap(),
        data: "mnist".into(),
        folder: "runs/x".into(),
        resume: false,
        teacher: None,
        start: None,
        strict: false,
        limit: 0,
        test: true,
        devices: vec!["cpu".into()],
    }
}

/// A run of three epochs that trains nothing; the epochs that it did before it was asked to stop.
fn fake_run(job: &Job, observer: &mut dyn Observer, after_step: &dyn Fn(usize, usize)) -> usize {
    let mut log = Log { name: job.recipe.name.clone(), ..Log::default() };
    observer.see(Event::Start { log: &log });
    for n in 1..=3 {
        for i in 1..=4 {
            let step = Step {
                epoch: n,
                epochs: 3,
                step: i,
                steps: 4,
                loss: 0.5,
                accuracy: 0.9,
                learning_rate: 1e-3,
                flips: 0.012,
                images_per_second: 5000.0,
                seconds_left: 65.0,
            };
            after_step(n, i);
            if !observer.see(Event::Step(&step)) {
                return n - 1;
            }
        }
        observer.see(Event::Warning("a warning"));
        observer.see(Event::Epoch(&epoch(n)));
        log.epochs.push(epoch(n));
    }
    log.result = Some(Outcome::default());
    observer.see(Event::End { log: &log });
    3
}

#[test]
fn a_run_goes_on_until_it_is_asked_to_stop() {
    let job = job();
    let mut display = Display::new(&job);
    assert_eq!(fake_run(&job, &mut display, &|_, _| ()), 3);
    assert_eq!(display.validation_line(), "validation ▁▅█ 93.00 %, best 92.00 % in epoch 2");
    let mut display = Display::new(&job);
    let stop = display.stop.clone();
    let at = |epoch, step| stop.store((epoch, step) == (2, 3), Ordering::SeqCst);
    assert_eq!(fake_run(&job, &mut display, &at), 1);
    assert!(display.is_stopped());
}

#[test]
fn earlier_epochs_are_remembered() {
    let mut display = Display::new(&job());
    let log = Log { epochs: vec![epoch(1), epoch(2)], ..Log::default() };
    assert!(display.see(Event::Start { log: &log }));
    assert!(display.validation_line().ends_with("▁█ 92.00 %, best 92.00 % in epoch 2"));
}

#[test]
fn lines_of_epochs_stand_below_their_headings() {
    let line = epoch_line(&epoch(2), 20, 0.0012);
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>().join(" "),
        "2/20 0.2500 90.00 % 0.2500 92.00 % 1.00e-4 0.120 % 5,310 0:13 best"
    );
    assert_eq!(line.strip_suffix("  best").unwrap().chars().count(), HEADINGS.chars().count());
    let mut bare = epoch(3);
    (bare.valid_loss, bare.valid_accuracy) = (None, None);
    (bare.train_loss, bare.seconds) = (f64::NAN, f64::INFINITY);
    let line = epoch_line(&bare, 20, f64::NAN);
    assert_eq!(line.chars().count(), HEADINGS.chars().count());
    assert_eq!(line.matches('–').count(), 3);
}

#[test]
fn times_and_curves() {
    assert_eq!([0.4, 65.0, 7384.0].map(clock), ["0:00", "1:05", "2:03:04"]);
    assert_eq!(clock(f64::NAN), "?");
    assert_eq!(sparkline(&[0.0, 0.5, 1.0]), "▁▅█");
    assert_eq!(sparkline(&[f64::NAN, 0.5, 0.5]), " ██");
    assert_eq!(sparkline(&[]), "");
}
