//! The kernels themselves, on every rung of this machine, against one line of plain Rust each.

use onebit_core::cases::Rng;
use onebit_core::kernels::{
    self, Accumulators, Bgemm, Block, Fgemm, Igemm, IntLimits, LOWER_SLACK, Limits, Offsets, Pair, Rows,
    Target,
};

/// Row counts that are one tile, none, and tiles with every rest.
fn row_counts(mr: usize) -> impl Iterator<Item = usize> {
    [1].into_iter().chain(mr.max(2)..=2 * mr + 1)
}

/// Random or uniform rows of `k` words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Random,
    /// Every product is 1: the largest counts, which overflow a counter that is too narrow.
    Opposite,
    /// Every product is 0.
    Equal,
}

/// `rows` rows of `a` and `nr` rows of `b`.
fn operands(rng: &mut Rng, fill: Fill, rows: usize, nr: usize, k: usize) -> [Vec<Vec<u64>>; 2] {
    let mut matrix = |rows: usize, uniform: u64| -> Vec<Vec<u64>> {
        let word = |rng: &mut Rng| if fill == Fill::Random { rng.word() } else { uniform };
        (0..rows).map(|_| (0..k).map(|_| word(rng)).collect()).collect()
    };
    [matrix(rows, u64::MAX), matrix(nr, if fill == Fill::Equal { u64::MAX } else { 0 })]
}

/// A row as the kernel wants it: padded to its length, running XOR along K if it asks for that.
fn lower(gemm: &Bgemm, row: &[u64]) -> Vec<u64> {
    let mut row = row.to_vec();
    row.resize(gemm.padded(row.len()), 0);
    if gemm.prefix {
        for i in 1..row.len() {
            row[i] ^= row[i - 1];
        }
    }
    row
}

/// Planes of rows as columns of `a`, `lda` apart with junk between them, and `b` as `panels` panels `[plane][k][nr]`.
fn lay_out(gemm: &Bgemm, a: &[Vec<Vec<u64>>], b: &[Vec<Vec<u64>>], lda: usize) -> [Vec<u64>; 2] {
    let k = gemm.padded(a[0][0].len());
    let mut columns = vec![0xDEAD_BEEF_0BAD_F00D; a.len() * k * lda];
    for (p, rows) in a.iter().enumerate() {
        for (r, row) in rows.iter().enumerate() {
            for (w, word) in lower(gemm, row).into_iter().enumerate() {
                columns[(p * k + w) * lda + r] = word;
            }
        }
    }
    let mut panels = Vec::new();
    for panel in 0..b[0].len() / gemm.nr {
        for plane in b {
            let rows: Vec<_> =
                plane[panel * gemm.nr..][..gemm.nr].iter().map(|row| lower(gemm, row)).collect();
            panels.extend((0..k).flat_map(|w| rows.iter().map(move |row| row[w])));
        }
    }
    [columns, panels]
}

fn count(a: &[u64], b: &[u64]) -> i64 {
    a.iter().zip(b).map(|(a, b)| i64::from((a ^ b).count_ones())).sum()
}

/// Checks accumulators, floats and bits of one block: one plane a side, or two with weights 4, 2 and -1.
fn check_bgemm(rng: &mut Rng, isa: &str, gemm: &Bgemm, rows: usize, words: usize, fill: Fill, planes: usize) {
    const GUARD: u64 = 0x5A5A_5A5A_5A5A_5A5A;
    let what = format!("{} on {isa}: {rows} rows of {words} words, {fill:?}, {planes} planes", gemm.name);
    let panels = 1 + (rows + words) % (64 / gemm.nr).min(3);
    let n = panels * gemm.nr;
    let [a, b]: [Vec<_>; 2] = {
        let both: Vec<_> = (0..planes).map(|_| operands(rng, fill, rows, n, words)).collect();
        [0, 1].map(|i| both.iter().map(|m| m[i].clone()).collect())
    };
    let k = gemm.padded(words);
    let lda = rows + words % 3;
    let [columns, panel_words] = lay_out(gemm, &a, &b, lda);
    let pair = |a, b, doublings, negative| Pair { a, b, doublings, negative };
    let pairs = match planes {
        1 => vec![Pair::SINGLE],
        _ => {
            vec![pair(1, 1, 0, rows % 2 == 1), pair(0, 1, 1, false), pair(1, 0, 0, true), pair(0, 0, 1, true)]
        }
    };
    let base: Vec<i64> = (0..rows).map(|r| 17 * r as i64 - 40).collect();
    let base = if planes == 1 { &[][..] } else { &base[..] };
    let block = Block {
        rows,
        k,
        a: &columns,
        lda,
        plane: k * lda,
        b: &panel_words,
        panels,
        stride: planes * k * gemm.nr,
        pairs: &pairs,
        base,
    };
    let combined = |r: usize, c: usize| {
        let mut sum = 0;
        for p in &pairs {
            let product = count(&a[p.a][r], &b[p.b][c]);
            sum = (sum << p.doublings) + if p.negative { -product } else { product };
        }
        sum - base.get(r).unwrap_or(&0)
    };
    let sums: Vec<i64> = (0..rows * n).map(|at| combined(at / n, at % n)).collect();
    let sum = |r: usize, c: usize| sums[r * n + c];
    // Rows find their constants and outputs in another order than they come, as border classes do.
    let order: Vec<usize> = (0..rows).map(|r| (r * 7 + 3) % rows.max(1)).collect();
    let order: Vec<usize> = if order.iter().collect::<std::collections::BTreeSet<_>>().len() == rows {
        order
    } else {
        (0..rows).rev().collect()
    };

    let half: Vec<i32> = (0..rows * n).map(|_| rng.below(1 << 20) as i32 * 2).collect();
    let at: Vec<usize> = order.iter().map(|o| o * n).collect();
    let to: Vec<usize> = order.iter().map(|o| o * n).collect();
    let acc = Accumulators { half: &half, at: &at, to: &to, shift: (words % 3) as u32 };
    let want = |r: usize, c: usize| (i64::from(half[at[r] + c]) - (sum(r, c) << acc.shift)) >> 1;
    let mut ints = vec![GUARD as i32; rows * n + 1];
    gemm.ints(&block, &acc, &mut ints);
    assert_eq!(ints.pop(), Some(GUARD as i32), "{what}: writes behind its rows");
    for r in 0..rows {
        for c in 0..n {
            assert_eq!(i64::from(ints[to[r] + c]), want(r, c), "{what}: row {r}, channel {c}");
        }
    }
    // Of very different size, so that a step that is not rounded shows.
    let constants = [(); 3].map(|()| rough_floats(rng, n));
    let mut floats = vec![0.5f32; rows * n + 1];
    gemm.floats(&block, &acc, constants.each_ref().map(|c| &c[..]), &mut floats);
    assert_eq!(floats.pop(), Some(0.5), "{what}: writes behind its rows");
    for r in 0..rows {
        for c in 0..n {
            let affine = (want(r, c) as f32 - constants[0][c]) * constants[1][c] + constants[2][c];
            assert_eq!(floats[to[r] + c].to_bits(), affine.to_bits(), "{what}: row {r}, channel {c}");
        }
    }

    // Limits around each sum find a comparison that is off by one; the smallest and the largest are the ends.
    let steps = 3;
    for shift in 0..8 {
        let mut table = vec![0; rows * steps * n];
        let at: Vec<usize> = order.iter().map(|o| o * steps * n).collect();
        for r in 0..rows {
            for i in 0..steps * n {
                let sum = sum(r, i % n);
                table[at[r] + i] = match (i + shift) % 8 {
                    0 => i64::MIN,
                    1 => i64::MAX,
                    2 => sum,
                    3 => sum + 1,
                    4 => sum - 1,
                    5 => 1 << 31,
                    6 => -sum,
                    _ => rng.below(64 * words + 1) as i64,
                };
            }
        }
        let to: Vec<usize> = order.iter().map(|o| o * steps).collect();
        let flips = if n == 64 { rng.word() } else { rng.word() & ((1 << n) - 1) };
        let mut masks = vec![GUARD; rows * steps + 1];
        let limits = Limits { table: &table, at: &at, to: &to, steps, step: n, flips };
        gemm.bits(&block, &limits, &mut masks);
        assert_eq!(masks.pop(), Some(GUARD), "{what}: writes behind its rows");
        for r in 0..rows {
            for s in 0..steps {
                let bit = |c: usize| u64::from(sum(r, c) < table[at[r] + s * n + c]) << c;
                let want = (0..n).map(bit).sum::<u64>() ^ flips;
                assert_eq!(masks[to[r] + s], want, "{what}: row {r}, step {s}");
            }
        }
    }
}

#[test]
fn names_tell_the_tile() {
    for rung in kernels::available() {
        let gemm = &rung.bgemm;
        assert_eq!(gemm.name, format!("bgemm_{}x{}_{}", gemm.mr, gemm.nr, rung.isa));
    }
}

#[test]
fn lowered_pixels_are_columns_of_words() {
    let mut rng = Rng::new(72);
    for rung in kernels::available() {
        let gemm = &rung.bgemm;
        for (n, words) in [(1, 1), (7, 2), (8, 9), (9, 18), (31, 5), (64, 3)] {
            let reach = 5 * words;
            let planes: Vec<u64> = (0..11 + reach + n + LOWER_SLACK).map(|_| rng.word()).collect();
            let of: Vec<usize> = (0..words).map(|w| (w * 7) % words * 5).collect();
            let (offsets, lda) = (Offsets::new(of.clone()), n + LOWER_SLACK + words % 2);
            let mut out = vec![1; gemm.padded(words) * lda];
            let mut sums = vec![100; n + LOWER_SLACK];
            gemm.lower(n, &offsets, &planes, 11, lda, &mut out, -3, &mut sums);
            gemm.lower(n, &offsets, &planes, 11, lda, &mut out, 0, &mut []);
            for i in 0..n {
                let column: Vec<u64> = of.iter().map(|o| planes[11 + o + i]).collect();
                for (w, word) in lower(gemm, &column).iter().enumerate() {
                    assert_eq!(out[w * lda + i], *word, "{}: word {w} of pixel {i} of {n}", gemm.name);
                }
                assert_eq!(sums[i], 100 - 3 * count(&column, &vec![0; words]), "{}: {i} of {n}", gemm.name);
            }
        }
    }
}

#[test]
fn binary_products_of_short_rows_equal_popcounts() {
    let mut rng = Rng::new(70);
    for rung in kernels::available() {
        for words in 1..=40 {
            for rows in row_counts(rung.bgemm.mr) {
                for fill in [Fill::Random, Fill::Opposite, Fill::Equal] {
                    check_bgemm(&mut rng, rung.isa, &rung.bgemm, rows, words, fill, 1);
                }
                check_bgemm(&mut rng, rung.isa, &rung.bgemm, rows, words, Fill::Random, 2);
            }
        }
    }
}

#[test]
fn binary_products_of_long_rows_equal_popcounts() {
    let mut rng = Rng::new(71);
    for rung in kernels::available() {
        // Around the lengths at which bytes, 16-bit and 20-bit counters of popcounts are full.
        for words in [61, 62, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 4095, 8193, 70_000] {
            for rows in row_counts(rung.bgemm.mr) {
                for fill in [Fill::Random, Fill::Opposite] {
                    check_bgemm(&mut rng, rung.isa, &rung.bgemm, rows, words, fill, 1);
                }
            }
        }
    }
}

/// Floats of very different size, so that an unfused or reordered sum rounds differently.
fn rough_floats(rng: &mut Rng, n: usize) -> Vec<f32> {
    let one = |rng: &mut Rng| match rng.below(16) {
        0 => 0.0,
        1 => -0.0,
        2 => f32::from_bits(rng.below(1 << 23) as u32),
        _ => rng.float(-1.0, 1.0) * [1e-6, 1.0, 1e3, 16_777_216.0][rng.below(4)],
    };
    (0..n).map(|_| one(rng)).collect()
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|x| x.to_bits()).collect()
}

fn check_fgemm(rng: &mut Rng, isa: &str, gemm: &Fgemm, rows: usize, k: usize) {
    let lda = k + k % 3;
    let a = rough_floats(rng, (rows - 1) * lda + k);
    let b = rough_floats(rng, k * gemm.nr);
    let chain = |i: usize, j: usize| {
        (0..k).fold(0.0, |acc, kk| libm::fmaf(a[i * lda + kk], b[kk * gemm.nr + j], acc))
    };
    let want: Vec<f32> = (0..rows * gemm.nr).map(|at| chain(at / gemm.nr, at % gemm.nr)).collect();
    let mut got = vec![f32::NAN; rows * gemm.nr + 1];
    gemm.product(rows, k, &a, lda, &b, &mut got);
    assert!(got.pop().unwrap().is_nan(), "{} writes behind its tile", gemm.name);
    assert_eq!(bits(&got), bits(&want), "{} on {isa}, {rows} rows of {k}", gemm.name);
}

#[test]
fn float_products_are_one_chain_of_fused_multiply_adds() {
    let mut rng = Rng::new(72);
    for rung in kernels::available() {
        for k in (1..=20).chain([63, 500]) {
            for rows in row_counts(rung.fgemm.mr) {
                check_fgemm(&mut rng, rung.isa, &rung.fgemm, rows, k);
            }
        }
    }
}

/// Rows of shifted runs, partial widths, biases: as a convolution calls it.
#[test]
fn products_of_taps_are_one_chain_and_a_bias() {
    let mut rng = Rng::new(73);
    for rung in kernels::available() {
        let gemm = &rung.fgemm;
        for width in 1..=gemm.nr {
            let (count, run, stride, out_stride) =
                (1 + rng.below(3 * gemm.mr), 1 + rng.below(9), rng.below(9), width + 3);
            let taps: Vec<usize> = (0..1 + rng.below(5)).map(|_| rng.below(40)).collect();
            let a = rough_floats(&mut rng, (count - 1) * stride + taps.iter().max().unwrap() + run);
            let b = rough_floats(&mut rng, taps.len() * run * gemm.nr);
            let bias = rough_floats(&mut rng, gemm.nr);
            let rows = Rows { a: &a, count, stride, taps: &taps, run };
            let mut got = vec![7.0; (count - 1) * out_stride + width + 1];
            let mut want = got.clone();
            for (i, j) in (0..count).flat_map(|i| (0..width).map(move |j| (i, j))) {
                let tap = |kk: usize| a[i * stride + taps[kk / run] + kk % run];
                let chain = |acc, kk: usize| libm::fmaf(tap(kk), b[kk * gemm.nr + j], acc);
                want[i * out_stride + j] = (0..taps.len() * run).fold(0.0, chain) + bias[j];
            }
            gemm.multiply(rows, &b, Some(&bias), Target { out: &mut got, stride: out_stride, width });
            assert_eq!(bits(&got), bits(&want), "{count} rows, {width} columns on {}", rung.isa);
        }
    }
}

#[test]
fn depthwise_products_are_one_chain_and_a_bias() {
    let mut rng = Rng::new(76);
    for rung in kernels::available() {
        for c in 1..70 {
            let (count, stride, out_stride) = (1 + rng.below(20), rng.below(3) * c, c + rng.below(3));
            let taps: Vec<usize> = (0..1 + rng.below(9)).map(|_| rng.below(40)).collect();
            let a = rough_floats(&mut rng, (count - 1) * stride + taps.iter().max().unwrap() + c);
            let (w, bias) = (rough_floats(&mut rng, taps.len() * c), rough_floats(&mut rng, c));
            let rows = Rows { a: &a, count, stride, taps: &taps, run: c };
            let mut got = vec![7.0; (count - 1) * out_stride + c + 1];
            let mut want = got.clone();
            for (i, ch) in (0..count).flat_map(|i| (0..c).map(move |ch| (i, ch))) {
                let chain = |acc, t: usize| libm::fmaf(a[i * stride + taps[t] + ch], w[t * c + ch], acc);
                want[i * out_stride + ch] = (0..taps.len()).fold(0.0, chain) + bias[ch];
            }
            rung.fgemm.depthwise(rows, &w, &bias, Target { out: &mut got, stride: out_stride, width: c });
            assert_eq!(bits(&got), bits(&want), "{count} pixels of {c} channels on {}", rung.isa);
        }
    }
}

#[test]
fn floats_are_compared_as_scalars_are() {
    let mut rng = Rng::new(74);
    for rung in kernels::available() {
        for n in 0..=64 {
            let mut x = rough_floats(&mut rng, n);
            let t: Vec<f32> = x.iter().map(|x| [*x, -*x, x - 1.0, x + 1.0][rng.below(4)]).collect();
            if n > 2 {
                x[rng.below(n)] = f32::NAN;
            }
            let want = (0..n).fold(0, |mask, i| mask | u64::from(x[i] >= t[i]) << i);
            assert_eq!(rung.fgemm.reaches(&x, &t), want, "{n} floats on {}", rung.isa);
        }
    }
}

/// Random numbers, or the ends of the range that make the largest sums of either sign.
#[derive(Clone, Copy, Debug)]
enum Ends {
    None,
    /// Weights of the largest magnitude, all negative.
    Lowest,
    /// Weights of the largest magnitude, all positive.
    Highest,
    /// Either end, at random.
    Mixed,
}

/// Checks sums and bits of one product of `rows` rows with `panels` panels.
fn check_igemm(rng: &mut Rng, isa: &str, gemm: &Igemm, rows: usize, k: usize, panels: usize, ends: Ends) {
    let what = format!("{} on {isa}, {rows} rows of {k} bytes, {panels} panels, {ends:?}", gemm.name);
    let (low, high) = (-i32::from(gemm.largest_weight), i32::from(gemm.largest_weight.min(127)));
    let mut weight = || match ends {
        Ends::None => low + rng.below((high - low + 1) as usize) as i32,
        Ends::Lowest => low,
        Ends::Highest => high,
        Ends::Mixed => [low, high][rng.below(2)],
    } as i8;
    // The last panel lacks a channel where it has more than one.
    let channels = panels * gemm.nr - usize::from(gemm.nr > 1);
    let b: Vec<i8> = (0..channels * k).map(|_| weight()).collect();
    let start: Vec<i32> = (0..channels).map(|_| rng.word() as i32).collect();
    let mut packed = vec![0x5A; panels * gemm.panel_len(k)];
    gemm.pack(k, &b, &start, &mut packed);

    // Junk in the padding and between the rows.
    let (kk, lda) = (gemm.padded(k), gemm.padded(k) + k % 3);
    let mut a: Vec<u8> = (0..(rows - 1) * lda + kk).map(|_| rng.word() as u8).collect();
    match ends {
        Ends::None => {}
        Ends::Lowest | Ends::Highest => a.fill(255),
        Ends::Mixed => a.iter_mut().for_each(|x| *x = [0, 255][usize::from(*x & 1)]),
    }
    let width = panels * gemm.nr;
    let sum = |i: usize, n: usize| {
        let products = |q: usize| i32::from(a[i * lda + q]) * i32::from(b[n * k + q]);
        if n < channels { (0..k).map(products).fold(start[n], i32::wrapping_add) } else { 0 }
    };
    let want: Vec<i32> = (0..rows * width).map(|at| sum(at / width, at % width)).collect();

    const GUARD: i32 = 0x5A5A_5A5A;
    for panel in 0..panels {
        let mut sums = vec![GUARD; rows * gemm.nr + 1];
        gemm.sums(rows, kk, &a, lda, &packed[panel * gemm.panel_len(k)..], &mut sums);
        assert_eq!(sums.pop(), Some(GUARD), "{what}: writes behind its tile");
        for (i, row) in sums.chunks(gemm.nr).enumerate() {
            assert_eq!(row, &want[i * width + panel * gemm.nr..][..gemm.nr], "{what}: row {i}");
        }
    }

    // Limits around each sum, in another order than the rows, as border classes are; of the second step those of a
    // neighbouring channel.
    let limit = |(i, sum): (usize, &i32)| match i % 5 {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => *sum,
        3 => sum.saturating_add(1),
        _ => sum.saturating_sub(1),
    };
    let table: Vec<i32> = want.iter().chain(&want[..1]).enumerate().map(limit).collect();
    let at: Vec<usize> = (0..rows).map(|i| (i * 7 + k) % rows * width).collect();
    let others = if width < 64 { 1 << 63 } else { 0 };
    for steps in [1, 2] {
        let mut masks = vec![others; rows * steps + 1];
        let limits = IntLimits { table: &table, at: &at, steps, step: 1 };
        gemm.bits(rows, panels, kk, &a, lda, &packed, &limits, &mut masks);
        assert_eq!(masks.pop(), Some(others), "{what}: writes behind its rows");
        for (i, mask) in masks.iter().enumerate() {
            let (i, step) = (i / steps, i % steps);
            let (sums, limits) = (&want[i * width..][..width], &table[at[i] + step..][..width]);
            let bit = |j: usize| u64::from(sums[j] >= limits[j]) << j;
            let expected: u64 = (0..width).map(bit).sum();
            assert_eq!(*mask, expected | others, "{what}: row {i}, step {step}");
            assert_eq!(gemm.reaches(sums, limits), expected, "{what}: row {i}");
            let fewer = expected & !(1 << (width - 1));
            assert_eq!(gemm.reaches(&sums[..width - 1], &limits[..width - 1]), fewer);
        }
    }
}

#[test]
fn integer_products_are_exact() {
    let mut rng = Rng::new(76);
    for rung in kernels::available() {
        for gemm in rung.igemms() {
            println!("{} on {}", gemm.name, rung.isa);
            for k in (1..=20).chain([27, 147, 1152]) {
                for rows in row_counts(gemm.mr) {
                    for panels in [1, 64 / gemm.nr] {
                        for ends in [Ends::None, Ends::Lowest, Ends::Highest, Ends::Mixed] {
                            check_igemm(&mut rng, rung.isa, gemm, rows, k, panels, ends);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sums_become_floats_in_three_rounded_steps() {
    let mut rng = Rng::new(77);
    for rung in kernels::available() {
        for gemm in rung.igemms() {
            for n in 0..=gemm.nr {
                let sums: Vec<i32> = (0..gemm.nr + n).map(|_| rng.word() as i32).collect();
                let offsets: Vec<i32> = (0..n + 5).map(|_| rng.word() as i32).collect();
                let [center, scale, bias] = [(); 3].map(|()| rough_floats(&mut rng, n));
                // Two rows, whose constants and places are in another order.
                let (at, to) = ([5, 2], [n + 1, 0]);
                let mut want = vec![7.0; 2 * n + 2];
                for (r, i) in [0, 1].into_iter().flat_map(|r| (0..n).map(move |i| (r, i))) {
                    let sum = sums[r * gemm.nr + i].wrapping_add(offsets[at[r] + i]);
                    let difference = sum as f32 - center[i];
                    let product = difference * scale[i];
                    want[to[r] + i] = product + bias[i];
                }
                let mut got = vec![7.0; 2 * n + 2];
                gemm.affine(n, &sums, &offsets, &at, &[&center, &scale, &bias], &to, &mut got);
                assert_eq!(bits(&got), bits(&want), "{n} sums on {}", gemm.name);
            }
        }
    }
}

#[test]
fn integer_kernels_take_the_weights_that_they_are_chosen_for() {
    for rung in kernels::available() {
        for largest in [0, 1, 64, 65, 127, 128] {
            assert!(rung.igemm(largest).largest_weight >= largest, "{largest} on {}", rung.isa);
        }
        // The plain kernel stands in for none on these machines: every rung with vectors has one of its own.
        assert!(
            ["scalar", "popcnt"].contains(&rung.isa)
                || rung.igemm(128).name != kernels::named("scalar").unwrap().igemm(128).name
        );
    }
}

#[test]
fn signs_of_pixels_are_comparisons() {
    let mut rng = Rng::new(77);
    for rung in kernels::available() {
        for c in 1..=140 {
            let pixels = rng.below(4);
            let (x, t) = (rough_floats(&mut rng, pixels * c), rough_floats(&mut rng, c));
            let words = c.div_ceil(64);
            let flips: Vec<u64> = (0..words).map(|_| rng.word()).collect();
            let mut want = vec![0; pixels * words + 1];
            for (i, x) in x.iter().enumerate() {
                let ch = i % c;
                let bit = u64::from(*x >= t[ch]) ^ flips[ch / 64] >> (ch % 64) & 1;
                want[i / c * words + ch / 64] |= bit << (ch % 64);
            }
            let mut got = vec![0; pixels * words + 1];
            rung.fgemm.signs(&x, &t, &flips, &mut got);
            assert_eq!(got, want, "{pixels} pixels of {c} channels on {}", rung.isa);
        }
    }
}

/// Reads behind the end must be refused, however large the numbers.
#[test]
#[should_panic]
fn rows_that_overflow_are_refused() {
    let gemm = &kernels::best().fgemm;
    let rows = Rows { a: &[0.0; 8], count: 3, stride: usize::MAX / 2 + 1, taps: &[0], run: 1 };
    gemm.multiply(rows, &vec![0.0; gemm.nr], None, Target { out: &mut [0.0; 8], stride: 1, width: 1 });
}

#[test]
fn rungs_are_found_by_name_and_scalar_is_last() {
    assert_eq!(kernels::names().last(), Some("scalar"));
    for k in kernels::available() {
        assert_eq!(kernels::named(k.isa).unwrap().isa, k.isa);
    }
    assert!(kernels::named("mmx").is_none());
    assert_eq!(kernels::best().isa, kernels::available().next().unwrap().isa);
}

/// A rung that is compiled but never chosen would pass every other test.
#[test]
fn this_machine_has_the_rungs_that_it_should() {
    let mut expected = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        // Small builds have few rungs.
        let rungs = cfg!(feature = "rungs");
        if rungs
            && std::is_x86_feature_detected!("avx512vpopcntdq")
            && std::is_x86_feature_detected!("avx512vl")
        {
            expected.push("avx512");
        }
        if rungs && std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512vl") {
            expected.push("avx512bw");
        }
        if rungs && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            expected.push("avx2");
        }
        if std::is_x86_feature_detected!("popcnt") {
            expected.push("popcnt");
        }
    }
    if cfg!(target_arch = "aarch64") {
        expected.push("neon");
    }
    if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) {
        expected.push("simd128");
    }
    expected.push("scalar");
    let found: Vec<&str> = kernels::available().map(|k| k.isa).collect();
    println!("kernel rungs tested here: {}", found.join(", "));
    assert_eq!(found, expected);
}

/// A kernel that is compiled but never chosen would pass every other test.
#[test]
#[cfg(feature = "std")]
fn dot_product_instructions_are_used_where_the_cpu_has_them() {
    #[cfg(target_arch = "x86_64")]
    let (found, expected) = (
        std::is_x86_feature_detected!("avx512vnni") && kernels::named("avx512").is_some(),
        "igemm_avx512_vnni",
    );
    #[cfg(target_arch = "aarch64")]
    let (found, expected) = (std::arch::is_aarch64_feature_detected!("i8mm"), "igemm_neon_i8mm");
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    assert_eq!(kernels::best().igemm(128).name == expected, found);
}

/// The one-row bit kernel of the best rung, on operands of the given lengths.
fn bits_of(a: usize, b: usize, limits: usize, out: usize) {
    let gemm = &kernels::best().bgemm;
    let (a, b, table) = (vec![0; a], vec![0; b * gemm.nr], vec![0; limits * gemm.nr]);
    let (k, pairs) = (4, [Pair::SINGLE]);
    let block =
        Block { rows: 1, k, a: &a, lda: 1, plane: k, b: &b, panels: 1, stride: 0, pairs: &pairs, base: &[] };
    let limits = Limits { table: &table, at: &[0], to: &[0], steps: 1, step: 0, flips: 0 };
    gemm.bits(&block, &limits, &mut vec![0; out]);
}

#[test]
fn operands_of_the_right_length_are_accepted() {
    bits_of(4, 4, 1, 1);
}

/// Sizes that wrap around to small ones.
#[test]
#[cfg(panic = "unwind")]
fn blocks_that_overflow_are_refused() {
    let gemm = &kernels::best().bgemm;
    let (a, b, half) = (vec![0; 64], vec![0; 4 * gemm.nr], vec![0; gemm.nr]);
    let pairs = [Pair::SINGLE];
    let good = Block {
        rows: 1,
        k: 4,
        a: &a,
        lda: 1,
        plane: 0,
        b: &b,
        panels: 1,
        stride: 0,
        pairs: &pairs,
        base: &[],
    };
    let acc = Accumulators { half: &half, at: &[0], to: &[0], shift: 0 };
    let runs = |block: Block<'_>| {
        std::panic::catch_unwind(|| gemm.ints(&block, &acc, &mut vec![0; gemm.nr])).is_ok()
    };
    assert!(runs(good));
    assert!(!runs(Block { lda: usize::MAX / 3 + 1, ..good }));
    assert!(!runs(Block { lda: usize::MAX - 7, ..good }));
    assert!(!runs(Block { panels: usize::MAX / gemm.nr + 2, ..good }));
    assert!(!runs(Block { panels: 2, stride: usize::MAX - 1, ..good }));
    let igemm = kernels::best().igemm(1);
    let (a, b) = (vec![0u8; 64], vec![0i8; igemm.panel_len(4)]);
    let sums = |lda| {
        let run = || igemm.sums(4, 4, &a, lda, &b, &mut vec![0; 4 * igemm.nr]);
        std::panic::catch_unwind(run).is_ok()
    };
    assert!(sums(4) && !sums(usize::MAX / 3 + 1));
}

#[test]
#[should_panic]
fn rows_that_are_too_short_are_refused() {
    bits_of(3, 4, 1, 1);
}

#[test]
#[should_panic]
fn panels_that_are_too_short_are_refused() {
    bits_of(4, 3, 1, 1);
}

#[test]
#[should_panic]
fn limits_that_are_too_short_are_refused() {
    bits_of(4, 4, 0, 1);
}

#[test]
#[should_panic]
fn bits_without_room_are_refused() {
    bits_of(4, 4, 1, 0);
}

#[test]
#[should_panic]
fn floats_without_room_are_refused() {
    let gemm = &kernels::best().fgemm;
    gemm.product(1, 2, &[0.0; 2], 2, &vec![0.0; 2 * gemm.nr], &mut vec![0.0; gemm.nr - 1]);
}

#[test]
#[should_panic]
fn integers_without_room_are_refused() {
    let gemm = kernels::best().igemm(128);
    gemm.sums(1, 4, &[0; 4], 4, &vec![0; gemm.panel_len(4)], &mut vec![0; gemm.nr - 1]);
}

#[test]
#[should_panic]
fn bytes_that_are_too_short_are_refused() {
    let gemm = kernels::best().igemm(128);
    gemm.sums(2, 4, &[0; 7], 4, &vec![0; gemm.panel_len(4)], &mut vec![0; 2 * gemm.nr]);
}

#[test]
#[should_panic]
fn integer_panels_that_are_too_short_are_refused() {
    let gemm = kernels::best().igemm(128);
    gemm.sums(1, 4, &[0; 4], 4, &vec![0; gemm.panel_len(4) - 1], &mut vec![0; gemm.nr]);
}

#[test]
#[should_panic]
fn integer_limits_that_are_too_short_are_refused() {
    let gemm = kernels::best().igemm(128);
    let (panel, limits) = (vec![0; gemm.panel_len(4)], vec![0; gemm.nr]);
    let limits = IntLimits { table: &limits, at: &[1], steps: 1, step: 0 };
    gemm.bits(1, 1, 4, &[0; 4], 4, &panel, &limits, &mut [0]);
}
