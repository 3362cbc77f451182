use super::*;

fn epoch(n: usize, loss: f64) -> Epoch {
    Epoch {
        epoch: n,
        steps: 100 * n,
        train_loss: loss,
        train_accuracy: 1.0 - 0.3 / n as f64,
        valid_loss: Some(1.1 * loss),
        valid_accuracy: Some(1.0 - 0.35 / n as f64),
        learning_rate: 1e-3 / n as f64,
        flips: (0..6).map(|l| (format!("conv{l}"), 0.05 / (n + l) as f64)).collect(),
        images_per_second: 5310.4,
        seconds: 12.5,
        cpu_seconds: 24.0,
        best: n % 3 != 2,
    }
}

const RECIPE: &str = "\
name = \"lenet\"
about = \"Small\"
network = { input = [4, 4, 1], layers = [{ dense = { units = 10 } }] }
train = { epochs = 25, seed = 77 }
";

/// A run over `classes` classes.
fn log(epochs: usize, classes: usize) -> Log {
    let confusion = (0..classes)
        .map(|i| (0..classes).map(|j| if i == j { 940 } else { (i * 7 + j * 3) % 11 }).collect())
        .collect();
    Log {
        name: "lenet".into(),
        recipe: RECIPE.into(),
        data: "mnist/".into(),
        data_hash: "0123456789abcdef".repeat(4),
        classes: (0..classes).map(|i| format!("class {i}")).collect(),
        pictures: [54_000, 6000, 10_000],
        parameters: [430_500, 425_000],
        device: "cpu".into(),
        threads: 2,
        version: "0.1.0".into(),
        epochs: (1..=epochs).map(|n| epoch(n, 1.0 / n as f64)).collect(),
        result: Some(Outcome {
            best_epoch: epochs,
            ended: "all epochs done".into(),
            test: Some((9781, 10_000)),
            confusion,
            differences: Vec::new(),
            file_bytes: 63_420,
            cpu_seconds: 512.0,
            seconds: 270.0,
        }),
        warnings: Vec::new(),
    }
}

/// The page, which must be whole whatever is in the log: no number that is none, nothing from elsewhere, every tag of SVG closed.
fn page(log: &Log) -> String {
    let text = html(log);
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    let lower = text.to_lowercase();
    for word in ["nan", "inf", "<script", "http://", "https://", "@import", "url("] {
        assert!(!lower.contains(word), "{word} is in the page");
    }
    for tag in ["svg", "g", "text", "title", "figure", "section", "table", "div", "dl", "pre"] {
        let open = text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
        assert_eq!(open, text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    text
}

#[test]
fn a_finished_run() {
    let text = page(&log(20, 10));
    for part in [
        "97.81 %",
        "9,781 of 10,000",
        "63.4 kB",
        "8.53",
        "4 min 30 s",
        "All epochs done after epoch 20",
        "Small</p>",
        "<dd>77<",
        "430,500",
    ] {
        assert!(text.contains(part), "{part} is missing");
    }
    assert!(text.contains("computes what was trained"));
    assert_eq!(text.matches("<figure").count(), 4);
    assert_eq!(text.matches("class=\"curve\"").count(), 2 + 2 + 6 + 1);
    assert_eq!(text.matches("class=\"right\"").count(), 10);
    assert_eq!(text.matches("class=\"mark\"").count(), 2);
    assert!(text.contains("class 3 given class 3: 940 of "));
    assert_eq!(text.matches("<tr class=\"best\"").count(), 1);
}

#[test]
fn runs_that_are_not_over() {
    let mut open = log(3, 10);
    open.result = None;
    let text = page(&open);
    assert!(text.contains("not over: 3 of 25 epochs") && !text.contains("class=\"confusion\""));
    assert!(text.contains("best validation"));
    let one = page(&log(1, 2));
    assert_eq!(one.matches("<figure").count(), 4);
    let empty = page(&Log::default());
    assert!(empty.contains("0 epochs are done") && !empty.contains("<svg"));
    // Validation came and went, as when a run goes on with other options.
    let mut some = log(4, 10);
    some.epochs[1].valid_loss = None;
    some.epochs[1].valid_accuracy = None;
    some.epochs[2].flips.clear();
    page(&some);
}

#[test]
fn diverged_runs() {
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for value in bad {
        let mut log = log(5, 3);
        for e in &mut log.epochs[1..4] {
            e.train_loss = value;
            e.train_accuracy = value;
            e.valid_loss = Some(value);
            e.valid_accuracy = Some(value);
            e.learning_rate = value;
            e.flips = vec![("conv".into(), value)];
            e.images_per_second = value;
            e.seconds = value;
            e.cpu_seconds = value;
        }
        page(&log);
        log.result = None;
        page(&log);
    }
    let mut nothing = log(2, 3);
    nothing.result.as_mut().unwrap().test = Some((0, 0));
    nothing.result.as_mut().unwrap().confusion = vec![vec![0; 3]; 3];
    page(&nothing);
}

#[test]
fn many_classes() {
    let hundred = page(&log(2, 100));
    assert_eq!(hundred.matches("class=\"right\"").count(), 100);
    let more = page(&log(2, 101));
    assert!(!more.contains("class=\"confusion\"") && more.contains("Confused most"));
    // Names may be missing, rows of any length.
    let mut ragged = log(2, 3);
    ragged.classes.truncate(1);
    ragged.result.as_mut().unwrap().confusion = vec![vec![], vec![1, 2, 3, 4], vec![usize::MAX, usize::MAX]];
    page(&ragged);
    ragged.result.as_mut().unwrap().confusion = vec![vec![]; 3];
    page(&ragged);
}

#[test]
fn every_text_is_escaped() {
    let evil = "<img src=x onerror='alert(1)'>&\"";
    let mut log = log(2, 3);
    for text in
        [&mut log.name, &mut log.recipe, &mut log.data, &mut log.data_hash, &mut log.device, &mut log.version]
    {
        *text = evil.into();
    }
    log.classes = vec![evil.into(); 3];
    log.warnings = vec![evil.into(); 60];
    log.epochs[0].flips[0].0 = evil.into();
    let result = log.result.as_mut().unwrap();
    result.ended = evil.into();
    result.differences = vec![evil.into()];
    let text = page(&log);
    assert!(!text.contains("<img") && !text.contains("onerror='") && text.contains("&lt;img"));
    assert!(text.contains("and 10 more"));
    assert!(!text.contains("computes what was trained"));
}

#[test]
fn files_are_replaced() {
    let dir = std::env::temp_dir().join(format!("onebit-report-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("report.html");
    write(&log(1, 2), &path).unwrap();
    write(&log(20, 10), &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), html(&log(20, 10)));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no other file is left");
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(write(&log(1, 2), &path).is_err());
}
