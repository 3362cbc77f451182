//! The kernels themselves, on every rung of this machine, against one line of plain Rust each.

use onebit_core::cases::Rng;
use onebit_core::kernels::{self, Bgemm, Fgemm, Igemm};

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

    // Limits around each sum, in another order than the rows, as border classes are.
    let limit = |(i, sum): (usize, &i32)| match i % 5 {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => *sum,
        3 => sum.saturating_add(1),
        _ => sum.saturating_sub(1),
    };
    let limits: Vec<i32> = want.iter().enumerate().map(limit).collect();
    let at: Vec<usize> = (0..rows).map(|i| (i * 7 + k) % rows * width).collect();
    let others = if width < 64 { 1 << 63 } else { 0 };
    let mut masks = vec![others; rows + 1];
    gemm.bits(rows, panels, kk, &a, lda, &packed, &limits, &at, &mut masks);
    assert_eq!(masks.pop(), Some(others), "{what}: writes behind its rows");
    for (i, mask) in masks.iter().enumerate() {
        let (sums, limits) = (&want[i * width..][..width], &limits[at[i]..][..width]);
        let bit = |j: usize| u64::from(sums[j] >= limits[j]) << j;
        let expected: u64 = (0..width).map(bit).sum();
        assert_eq!(*mask, expected | others, "{what}: row {i}");
        assert_eq!(gemm.reaches(sums, limits), expected, "{what}: row {i}");
        assert_eq!(gemm.reaches(&sums[..width - 1], &limits[..width - 1]), expected & !(1 << (width - 1)));
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
            for n in 0..=40 {
                let sums: Vec<i32> = (0..n).map(|_| rng.word() as i32).collect();
                let offsets: Vec<i32> = (0..n).map(|_| rng.word() as i32).collect();
                let [center, scale, bias] = [(); 3].map(|()| rough_floats(&mut rng, n));
                let one = |i: usize| {
                    let difference = sums[i].wrapping_add(offsets[i]) as f32 - center[i];
                    let product = difference * scale[i];
                    product + bias[i]
                };
                let want: Vec<f32> = (0..n).map(one).collect();
                let mut got = vec![0.0; n];
                gemm.affine(&sums, &offsets, [&center, &scale, &bias], &mut got);
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
        // The plain kernel stands in for none on these machines: every rung has one of its own.
        assert!(rung.isa == "scalar" || rung.igemm(128).name != kernels::ALL.last().unwrap().igemm(128).name);
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
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
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
    gemm.bits(1, 1, 4, &[0; 4], 4, &panel, &limits, &[1], &mut [0]);
}
