//! The kernels themselves, on every rung of this machine, against one line of plain Rust each.

use onebit_core::cases::Rng;
use onebit_core::kernels::{self, Bgemm, Fgemm};

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

/// The rows of `a` in one slice, `lda` apart with junk between them, and `b` as a panel `[k][nr]`.
fn lay_out(gemm: &Bgemm, a: &[Vec<u64>], b: &[Vec<u64>], gap: usize) -> (Vec<u64>, usize, Vec<u64>) {
    let a: Vec<Vec<u64>> = a.iter().map(|row| lower(gemm, row)).collect();
    let b: Vec<Vec<u64>> = b.iter().map(|row| lower(gemm, row)).collect();
    let (k, lda) = (a[0].len(), a[0].len() + gap);
    let mut rows = vec![0xDEAD_BEEF_0BAD_F00D; (a.len() - 1) * lda + k];
    for (i, row) in a.iter().enumerate() {
        rows[i * lda..][..k].copy_from_slice(row);
    }
    let panel = (0..k).flat_map(|kk| b.iter().map(move |row| row[kk])).collect();
    (rows, lda, panel)
}

fn count(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Checks counts and bits of one tile.
fn check_bgemm(rng: &mut Rng, isa: &str, gemm: &Bgemm, rows: usize, words: usize, fill: Fill) {
    let [a, b] = operands(rng, fill, rows, gemm.nr, words);
    let what = format!("{} on {isa}, {rows} rows of {words} words, {fill:?}", gemm.name);
    let want: Vec<u32> = a.iter().flat_map(|a| b.iter().map(|b| count(a, b))).collect();
    let (lowered, lda, panel) = lay_out(gemm, &a, &b, words % 3);
    let k = gemm.padded(words);

    const GUARD: u32 = 0xA5A5_A5A5;
    let mut counts = vec![GUARD; rows * gemm.nr + 1];
    gemm.counts(rows, k, &lowered, lda, &panel, &mut counts);
    assert_eq!(counts.pop(), Some(GUARD), "{what}: writes behind its tile");
    assert_eq!(counts, want, "{what}");

    // Limits around each count find a comparison that is off by one; 0 and the largest are the ends.
    for shift in 0..8 {
        let limits: Vec<u32> = want
            .iter()
            .enumerate()
            .map(|(i, count)| match (i + shift) % 8 {
                0 => 0,
                1 => u32::MAX,
                2 => *count,
                3 => count + 1,
                4 => count.saturating_sub(1),
                5 => 1 << 31,
                6 => rng.word() as u32,
                _ => rng.below(64 * words + 1) as u32,
            })
            .collect();
        // Limits in another order than the rows, as border classes are.
        let at: Vec<usize> = (0..rows).map(|i| (i * 7 + shift) % rows * gemm.nr).collect();
        let mut masks = vec![GUARD; rows + 1];
        gemm.bits(rows, k, &lowered, lda, &panel, &limits, &at, &mut masks);
        assert_eq!(masks.pop(), Some(GUARD), "{what}: writes behind its rows");
        for (i, mask) in masks.iter().enumerate() {
            let row = &limits[at[i]..][..gemm.nr];
            let bit = |j: usize| u32::from(want[i * gemm.nr + j] < row[j]) << j;
            let expected = (0..gemm.nr).map(bit).sum();
            assert_eq!(*mask, expected, "{what}: row {i} against {row:?}");
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
                    check_bgemm(&mut rng, rung.isa, &rung.bgemm, rows, words, fill);
                }
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
                    check_bgemm(&mut rng, rung.isa, &rung.bgemm, rows, words, fill);
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

#[test]
fn multiply_add_is_fused_for_every_length() {
    let mut rng = Rng::new(73);
    for rung in kernels::available() {
        for n in 0..70 {
            let [x, w, acc] = [(); 3].map(|()| rough_floats(&mut rng, n));
            let want: Vec<f32> = (0..n).map(|i| libm::fmaf(x[i], w[i], acc[i])).collect();
            let mut got = acc;
            rung.fgemm.madd(&x, &w, &mut got);
            assert_eq!(bits(&got), bits(&want), "{n} floats on {}", rung.isa);
        }
    }
}

#[test]
fn counts_become_floats_in_three_rounded_steps() {
    let mut rng = Rng::new(75);
    for rung in kernels::available() {
        for n in 0..=40 {
            let counts: Vec<u32> = (0..n).map(|_| rng.below(1 << 27) as u32).collect();
            let offsets: Vec<i32> = (0..n).map(|_| rng.below(1 << 28) as i32 - (1 << 27)).collect();
            let [center, scale, bias] = [(); 3].map(|()| rough_floats(&mut rng, n));
            let one = |i: usize| {
                let difference = (offsets[i] - 2 * counts[i] as i32) as f32 - center[i];
                let product = difference * scale[i];
                product + bias[i]
            };
            let want: Vec<f32> = (0..n).map(one).collect();
            let mut got = vec![0.0; n];
            rung.bgemm.affine(&counts, &offsets, [&center, &scale, &bias], &mut got);
            assert_eq!(bits(&got), bits(&want), "{n} counts on {}", rung.isa);
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

#[test]
fn rungs_are_found_by_name_and_scalar_is_last() {
    assert_eq!(kernels::ALL.last().unwrap().isa, "scalar");
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
        if std::is_x86_feature_detected!("avx512vpopcntdq") && std::is_x86_feature_detected!("avx512vl") {
            expected.push("avx512");
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            expected.push("avx2");
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

/// The one-row bit kernel of the best rung, on operands of the given lengths.
fn bits_of(k: usize, a: usize, b: usize, limits: usize) {
    let gemm = &kernels::best().bgemm;
    let (a, b, limits) = (vec![0; a], vec![0; b * gemm.nr], vec![0; limits * gemm.nr]);
    gemm.bits(1, k, &a, k, &b, &limits, &[0], &mut [0]);
}

#[test]
fn operands_of_the_right_length_are_accepted() {
    bits_of(2, 2, 2, 1);
}

#[test]
#[should_panic]
fn rows_that_are_too_short_are_refused() {
    bits_of(4, 3, 4, 1);
}

#[test]
#[should_panic]
fn panels_that_are_too_short_are_refused() {
    bits_of(4, 4, 3, 1);
}

#[test]
#[should_panic]
fn limits_that_are_too_short_are_refused() {
    bits_of(4, 4, 4, 0);
}

#[test]
#[should_panic]
fn counts_without_room_are_refused() {
    let gemm = &kernels::best().bgemm;
    gemm.counts(1, 2, &[0; 2], 2, &vec![0; 2 * gemm.nr], &mut vec![0; gemm.nr - 1]);
}

#[test]
#[should_panic]
fn floats_without_room_are_refused() {
    let gemm = &kernels::best().fgemm;
    gemm.product(1, 2, &[0.0; 2], 2, &vec![0.0; 2 * gemm.nr], &mut vec![0.0; gemm.nr - 1]);
}
