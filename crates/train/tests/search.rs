//! Whole searches on small data: what is trained fits, what is decided by a seed, what survives a stop, and who trains what.

mod patterns;

use onebit::ModelFile;
use onebit::codegen::Target;
use onebit_train::search::cost::{Budget, Costs, Planned};
use onebit_train::search::space::Space;
use onebit_train::search::trial::Stage;
use onebit_train::search::{Event, Found, Task, Watch, search};
use std::path::Path;

const SPACE: &str = r#"
depth = [1, 2]
filters = [2, 4, 8]
kernel = [3]
stride = [1]
pool = [1, 2]
hidden = [0, 8]
[train]
batch = 16
validation = 0.25
optimizer = { adam = { rate = 0.01 } }
"#;

const COSTS: Planned = Planned { target: Target::CortexM4, with_input: false };

fn task(data: &Path, folder: &Path) -> Task {
    Task {
        data: data.into(),
        folder: folder.into(),
        resume: false,
        space: Space::parse(SPACE).unwrap(),
        budget: Budget { flash_bytes: Some(2200), ram_bytes: Some(420), instructions: Some(60_000) },
        trials: 9,
        epochs: 4,
        finals: 2,
        seed: 1,
        limit: 0,
        devices: vec!["cpu".into()],
    }
}

/// Remembers what was trained, and stops after so many steps; 0 never does.
#[derive(Default)]
struct Seen {
    trained: Vec<(usize, Stage)>,
    steps: usize,
    stop: usize,
}

impl Watch for Seen {
    fn see(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Step(_) => self.steps += 1,
            Event::End(trial, stage) => self.trained.push((trial.number, stage)),
            _ => {}
        }
        self.stop == 0 || self.steps < self.stop
    }
}

fn run(task: &Task) -> (Found, Seen) {
    let mut seen = Seen::default();
    (search(task, &COSTS, &mut seen).unwrap(), seen)
}

/// What a search found, without times.
fn facts(mut found: Found) -> Found {
    for t in &mut found.trials {
        t.rungs.iter_mut().chain(&mut t.last).for_each(|r| r.cpu_seconds = 0.0);
    }
    found
}

fn data(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    patterns::write_data(&data, 12, 3, 160, 40);
    data
}

#[test]
fn what_is_found_fits_and_a_seed_decides_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let whole = task(&data, &dir.path().join("whole"));
    let (found, seen) = run(&whole);
    assert!(found.done && found.trials.len() == 9);
    // Nothing that exceeds the budget is trained.
    for t in &found.trials {
        assert!(whole.budget.allows(&t.cost), "{} {:?}", t.point, t.cost);
        assert!(!t.rungs.is_empty() && t.rungs.iter().all(|r| r.test.is_none()));
    }
    let points: std::collections::HashSet<String> =
        found.trials.iter().map(|t| t.point.to_string()).collect();
    assert_eq!(points.len(), 9, "no network twice");
    assert!(found.trials.iter().any(|t| t.like.is_some()) && found.trials[0].like.is_none());
    // The better third goes on.
    let mut ranked: Vec<_> = found.trials.iter().collect();
    ranked.sort_by(|a, b| {
        b.accuracy(0).unwrap().total_cmp(&a.accuracy(0).unwrap()).then(a.number.cmp(&b.number))
    });
    for (place, t) in ranked.iter().enumerate() {
        assert_eq!(
            t.rungs.iter().map(|r| r.epochs).collect::<Vec<_>>(),
            [1, 3][..if place < 3 { 2 } else { 1 }],
            "{place}"
        );
    }
    assert_eq!(seen.trained.iter().filter(|(_, s)| *s == Stage::Rung(0)).count(), 9);
    // What is on the front is there, fits and classifies.
    assert!(!found.front.is_empty());
    for n in &found.front {
        let t = &found.trials[*n];
        let last = t.last.as_ref().unwrap();
        let (right, all) = last.test.unwrap();
        assert!(last.epochs == 4 && all == 40 && right > 20, "{last:?}");
        let folder = whole.folder.join("networks").join(t.name());
        assert!(folder.join("recipe.toml").exists());
        let file = ModelFile::open(&folder.join("model.onebit")).unwrap();
        let cost = COSTS.cost(&file.load().unwrap().0).unwrap();
        assert!(whole.budget.allows(&cost) && Some(cost) == last.cost, "{cost:?}");
    }
    assert!(found.trials.iter().filter(|t| t.last.is_some()).count() <= 2);
    let svg = std::fs::read_to_string(whole.folder.join("pareto.svg")).unwrap();
    assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"budget\"").count()), (27, 3));
    assert!(svg.contains("class=\"front\"") && !svg.contains("NaN") && !svg.contains("inf"));
    // Stopped three times, each time in the middle of a training, it ends with the same.
    let mut parts = task(&data, &dir.path().join("parts"));
    for stop in [5, 40, 70] {
        let found = search(&parts, &COSTS, &mut Seen { stop, ..Seen::default() }).unwrap();
        assert!(!found.done, "{stop}");
        parts.resume = true;
    }
    let (again, _) = run(&parts);
    assert_eq!(facts(again), facts(found));
    let names = |t: &Task| std::fs::read_dir(t.folder.join("trials")).unwrap().count();
    assert_eq!((names(&parts), names(&whole)), (9, 9), "claims are given back");
}

#[test]
fn programs_that_share_a_folder_share_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let mut first = task(&data, &dir.path().join("search"));
    // The folder has to be there before others join.
    search(&first, &COSTS, &mut Seen { stop: 1, ..Seen::default() }).unwrap();
    first.resume = true;
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&first));
        let this = run(&first);
        (this, other.join().unwrap())
    });
    let mut trained = [a.1.trained, b.1.trained].concat();
    let all = trained.len();
    trained.sort_by_key(|(n, s)| (*n, s.to_string()));
    trained.dedup();
    assert_eq!(trained.len(), all, "nothing twice: {trained:?}");
    assert!(a.0.done && b.0.done);
    let told: usize = a.0.trials.iter().map(|t| t.rungs.len() + usize::from(t.last.is_some())).sum();
    assert_eq!(told, all);
}

#[test]
fn what_cannot_be_searched_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path());
    let small = Task {
        budget: Budget { ram_bytes: Some(100), ..Budget::default() },
        ..task(&data, &dir.path().join("small"))
    };
    let error = search(&small, &COSTS, &mut Seen::default()).unwrap_err().to_string();
    assert!(error.contains("the smallest that was found (") && error.contains("bytes of RAM"), "{error}");
    assert!(!small.folder.exists(), "nothing is left behind");
    let none = Task { budget: Budget::default(), ..small.clone() };
    let error = search(&none, &COSTS, &mut Seen::default()).unwrap_err().to_string();
    assert!(error.contains("budget"), "{error}");
    let kernel = Space { kernel: vec![31], pad: vec![false], ..small.space.clone() };
    let error =
        search(&Task { space: kernel, ..small }, &COSTS, &mut Seen::default()).unwrap_err().to_string();
    assert!(error.contains("can be built") && error.contains("conv1"), "{error}");
}
