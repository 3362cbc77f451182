//! What dominates the time of a network, and what would help: one sentence, chosen by rules from the measured layers.

use crate::limits::Fraction;
use crate::text::{bytes, duration};

/// What a layer computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Single bits, or values of a few bits as planes of them.
    Bits,
    /// Bytes, as integers or as floats.
    Bytes,
    /// Floats.
    Float,
    /// Nothing that is multiplied: thresholds, pools, sums.
    Other,
}

/// A layer as it was measured.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Name of the layer.
    pub name: &'a str,
    /// Name of the op.
    pub op: &'a str,
    /// What it computes with.
    pub kind: Kind,
    /// Seconds for one image.
    pub seconds: f64,
    /// Multiply-adds of whole values.
    pub macs: u64,
    /// Bits of a weight times bits of an activation.
    pub products: u64,
    /// Elements that lie side by side in the input: the channels of a map, all of a vector.
    pub side_by_side: usize,
    /// Every weight is used once for an image.
    pub one_row: bool,
    /// Bytes of the weights.
    pub weight_bytes: usize,
    /// How close it is to its limit.
    pub limit: Option<Fraction>,
}

/// Why a layer takes its time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    /// It computes with floats.
    Float,
    /// It computes with bytes.
    Bytes,
    /// It waits for weights that are used once.
    Weights,
    /// It is a small part of what the kernel could do.
    Slow,
    /// Every value has several bits.
    Planes,
    /// It computes with bits, well.
    Bits,
    /// It multiplies nothing.
    Other,
}

const CAUSES: [Cause; 7] =
    [Cause::Float, Cause::Bytes, Cause::Weights, Cause::Slow, Cause::Planes, Cause::Bits, Cause::Other];

/// A layer below this fraction of its limit is slow.
const SLOW: f64 = 0.3;
/// Binary layers above this fraction of their limit are good.
const GOOD: f64 = 0.6;
/// Below this time of the network, in seconds, the work is not what counts.
const TINY: f64 = 10e-6;
/// Rows of fewer channels than this are short.
const NARROW: usize = 128;

impl Row<'_> {
    fn cause(&self) -> Cause {
        // Far from both limits, it waits for something else.
        let memory = self.limit.is_some_and(|f| f.of != "compute" && f.part >= SLOW);
        match self.kind {
            Kind::Other => Cause::Other,
            _ if self.one_row && memory => Cause::Weights,
            Kind::Float => Cause::Float,
            Kind::Bytes => Cause::Bytes,
            Kind::Bits if self.limit.is_some_and(|f| f.part < SLOW) => Cause::Slow,
            Kind::Bits if self.products > 1 => Cause::Planes,
            Kind::Bits => Cause::Bits,
        }
    }
}

/// The sentence about a network. `binary` is the fraction of the limit that its binary layers reach together.
pub fn diagnose(rows: &[Row<'_>], binary: Option<f64>) -> String {
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    if total < TINY {
        return format!(
            "All layers together take {}: calls and the first touch of memory weigh more than the work; only batches help.",
            duration(total)
        );
    }
    let time = |cause| rows.iter().filter(|r| r.cause() == cause).map(|r| r.seconds).sum::<f64>();
    let Some(cause) = CAUSES.into_iter().max_by(|a, b| time(*a).total_cmp(&time(*b))) else {
        return String::new();
    };
    let group: Vec<&Row<'_>> = rows.iter().filter(|r| r.cause() == cause).collect();
    let Some(worst) = group.iter().copied().max_by(|a, b| a.seconds.total_cmp(&b.seconds)) else {
        return String::new();
    };
    let one = group.len() == 1;
    let whole = |part: f64| format!("{:.0} %", 100.0 * part);
    let share = whole(time(cause) / total);
    let sum = |rows: &mut dyn Iterator<Item = u64>| rows.sum::<u64>() as f64;
    let macs = sum(&mut group.iter().map(|r| r.macs)) / sum(&mut rows.iter().map(|r| r.macs)).max(1.0);
    // "The float layer conv1 takes" or "4 float layers, mostly conv1, take".
    let takes = |what: &str| match one {
        true => format!("The {what} {} takes {share} of the time", worst.name),
        false => {
            let what = what.replace("layer", "layers");
            format!("{} {what}, mostly {}, take {share} of the time", group.len(), worst.name)
        }
    };
    let although = || {
        let link = if macs < 0.5 * time(cause) / total { "although" } else { "and" };
        format!("{link} {} {} of the multiply-adds", if one { "it has" } else { "they have" }, whole(macs))
    };
    let of_limit = |f: f64| format!("{} of this machine's limit", whole(f));
    let binary_too =
        || binary.map_or(String::new(), |f| format!("; the binary layers run at {}", of_limit(f)));
    let part = worst.limit.map_or(0.0, |f| f.part);
    match cause {
        Cause::Float => {
            let first = rows.iter().find(|r| r.macs > 0).is_some_and(|r| r.name == worst.name);
            let help = if first {
                "a smaller stem (as QuickNet has), or bits for it,"
            } else {
                "bits for them, or fewer channels,"
            };
            let takes = takes("float layer");
            format!("{takes} {}: {help} would help most{}.", although(), binary_too())
        }
        Cause::Bytes => format!(
            "{} {}: a smaller first layer would help most{}.",
            takes("layer on bytes"),
            although(),
            binary_too()
        ),
        Cause::Weights => {
            let all: usize = group.iter().map(|r| r.weight_bytes).sum();
            let from = worst.limit.map_or("memory", |f| f.of);
            format!(
                "{}, waiting for {} of weights from {from} that one image uses once: a batch (--batch 64) shares them.",
                takes("dense layer"),
                bytes(all as u64)
            )
        }
        Cause::Slow => {
            let why = if worst.side_by_side < NARROW {
                format!(
                    "rows of {} channels are too short for the kernel, and more channels would cost little",
                    worst.side_by_side
                )
            } else {
                "what surrounds the kernel (lowering, thresholds, storing) takes longer than the counting"
                    .into()
            };
            let runs = if one { "and runs".into() } else { format!("{} runs", worst.name) };
            format!("{}, {runs} at {}: {why}.", takes("binary layer"), of_limit(part))
        }
        Cause::Planes => format!(
            "{}: {} needs {} products of bits for each product of values, so fewer bits would help most{}.",
            takes("layer of several bits"),
            worst.name,
            worst.products,
            binary_too()
        ),
        Cause::Bits => {
            let f = binary.unwrap_or(part);
            let help = if f < GOOD {
                "the rest goes into lowering and storing, and layers with more channels would come closer"
            } else {
                "only fewer or smaller layers, or more threads, would make it faster"
            };
            format!("{} at {}: {help}.", takes("binary layer"), of_limit(f))
        }
        Cause::Other => format!(
            "{} ({}): thresholds and pools on the integers or bits of a binary layer, instead of floats, would help most{}.",
            takes("layer without multiply-adds"),
            worst.op,
            binary_too()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, kind: Kind, microseconds: f64, macs: u64) -> Row<'static> {
        Row {
            name,
            op: "op",
            kind,
            seconds: microseconds * 1e-6,
            macs,
            products: 1,
            side_by_side: 256,
            one_row: false,
            weight_bytes: 1 << 20,
            limit: Some(Fraction { part: 0.8, of: "compute" }),
        }
    }

    /// The sentence has all of these words.
    fn says(rows: &[Row<'_>], words: &[&str]) {
        let text = diagnose(rows, Some(0.81));
        for word in words {
            assert!(text.contains(word), "'{word}' is missing: {text}");
        }
    }

    #[test]
    fn what_dominates_is_named() {
        let binary = || row("b1", Kind::Bits, 50.0, 94);
        let float = || row("conv1", Kind::Float, 50.0, 3);
        let part = |part, of| Some(Fraction { part, of });

        let stem = Row { seconds: 48e-6, macs: 6, ..float() };
        says(
            &[stem.clone(), Row { seconds: 30e-6, ..binary() }, row("pool", Kind::Other, 22.0, 0)],
            &[
                "The float layer conv1 takes 48 % of the time although it has 6 % of the multiply-adds",
                "QuickNet",
                "binary layers run at 81 %",
            ],
        );
        let later = Row { name: "conv9", seconds: 100e-6, ..float() };
        says(&[binary(), later.clone(), stem], &["2 float layers, mostly conv9, take", "bits for them"]);
        says(&[later], &["and it has 100 % of the multiply-adds"]);

        let bytes = row("first", Kind::Bytes, 60.0, 10);
        says(&[bytes, binary()], &["The layer on bytes first takes 55 %", "smaller first layer"]);

        let waits = Row { one_row: true, limit: part(0.7, "L3"), weight_bytes: 2_100_000, ..binary() };
        says(
            std::slice::from_ref(&waits),
            &["The dense layer b1 takes 100 %", "2.10 MB of weights from L3", "--batch"],
        );
        says(&[Row { kind: Kind::Float, ..waits }], &["from L3"]);
        let idle = Row { one_row: true, limit: part(0.18, "L2"), ..binary() };
        says(&[idle], &["runs at 18 %", "what surrounds the kernel"]);
        // A convolution is not told to wait for batches.
        says(&[Row { limit: part(0.7, "L3"), ..binary() }], &["fewer or smaller layers"]);

        let slow = Row { limit: part(0.12, "compute"), side_by_side: 16, ..binary() };
        says(std::slice::from_ref(&slow), &["and runs at 12 %", "rows of 16 channels are too short"]);
        says(
            &[slow.clone(), slow.clone()],
            &["2 binary layers, mostly b1, take 100 % of the time, b1 runs at 12 %"],
        );
        says(&[Row { side_by_side: 512, ..slow.clone() }], &["what surrounds the kernel"]);
        // Slow goes before several bits: the bits are not what costs.
        says(&[Row { products: 2, ..slow }], &["too short"]);

        says(&[Row { products: 4, ..binary() }], &["layer of several bits b1", "needs 4 products"]);
        says(
            &[row("pool2", Kind::Other, 60.0, 0), binary()],
            &["without multiply-adds pool2 takes 55 %", "(op)"],
        );
        says(
            &[row("pool2", Kind::Other, 60.0, 0), row("add", Kind::Other, 20.0, 0), binary()],
            &["2 layers without multiply-adds, mostly pool2, take 62 %"],
        );

        says(&[binary(), binary()], &["2 binary layers, mostly b1, take 100 %", "81 %", "more threads"]);
        assert!(diagnose(&[binary()], Some(0.5)).contains("more channels"));
    }

    #[test]
    fn the_group_counts_and_not_its_largest_layer() {
        let rows = [
            row("float", Kind::Float, 40.0, 1),
            row("b1", Kind::Bits, 30.0, 1),
            row("b2", Kind::Bits, 30.0, 1),
        ];
        says(&rows, &["2 binary layers"]);
    }

    #[test]
    fn tiny_networks_are_overhead() {
        says(&[row("b1", Kind::Bits, 4.2, 1)], &["4.20 µs", "batches"]);
        assert!(diagnose(&[], None).contains("calls"));
    }
}
