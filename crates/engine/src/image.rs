//! Pictures: decoding files, and making a picture the network's input.

use crate::error::{Error, Result};
use crate::meta::Preprocessing;
use onebit_core::types::Shape;
#[cfg(feature = "images")]
use std::path::Path;

/// Largest picture that is decoded, in pixels.
pub const MAX_PIXELS: u64 = 1 << 28;

/// A picture of bytes, `[height][width][channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// The bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Wraps `[height][width][channels]` bytes.
    ///
    /// # Errors
    /// When the number of bytes does not match.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if expected != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::Input(format!(
                "{} bytes are not a picture of {width} x {height} x {channels}",
                pixels.len()
            )));
        }
        Ok(Image { width, height, channels, pixels })
    }

    /// Decodes a PNG or JPEG file; the content decides, not the name.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    #[cfg(feature = "images")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        use image::{ColorType, DynamicImage, ImageReader, Limits};
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let refuse = |e: &dyn std::fmt::Display| Error::file(path, format!("not a usable picture: {e}"));
        let mut reader =
            ImageReader::new(std::io::BufReader::new(file)).with_guessed_format().map_err(|e| refuse(&e))?;
        if reader.format().is_none() {
            return Err(Error::file(path, "is neither PNG nor JPEG"));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_PIXELS * 4);
        limits.max_image_width = Some(1 << 16);
        limits.max_image_height = Some(1 << 16);
        reader.limits(limits);
        let picture = reader.decode().map_err(|e| refuse(&e))?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let grey =
            matches!(picture.color(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
        if grey {
            let pixels = DynamicImage::into_luma8(picture).into_raw();
            Image::new(width, height, 1, pixels)
        } else {
            Image::new(width, height, 3, DynamicImage::into_rgb8(picture).into_raw())
        }
    }

    /// The picture with `channels` channels: grey is repeated, colours become luma (ITU-R BT.601).
    pub fn with_channels(&self, channels: usize) -> Result<Image> {
        let pixels = match (self.channels, channels) {
            (a, b) if a == b => self.pixels.clone(),
            (1, 3) => self.pixels.iter().flat_map(|p| [*p; 3]).collect(),
            (3, 1) => self
                .pixels
                .chunks_exact(3)
                .map(|p| {
                    let sum = 299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2]);
                    ((sum + 500) / 1000) as u8
                })
                .collect(),
            (from, to) => {
                return Err(Error::Input(format!(
                    "a picture with {from} channels cannot feed a network with {to}"
                )));
            }
        };
        Image::new(self.width, self.height, channels, pixels)
    }

    /// The picture as the network sees it: right channels, short side resized, centre cropped.
    ///
    /// # Errors
    /// When the network's input is no picture of 1 or 3 channels.
    pub fn fit(&self, shape: Shape, pre: &Preprocessing) -> Result<Image> {
        let picture = self.with_channels(shape.c)?;
        if (picture.height, picture.width) == (shape.h, shape.w) {
            return Ok(picture);
        }
        let short = pre.resize.max(shape.h).max(shape.w);
        let (w, h) = (picture.width, picture.height);
        let scaled = if w <= h {
            picture.resize(short, (h * short).div_ceil(w).max(short))
        } else {
            picture.resize((w * short).div_ceil(h).max(short), short)
        };
        let (top, left) = ((scaled.height - shape.h) / 2, (scaled.width - shape.w) / 2);
        let c = shape.c;
        let mut pixels = Vec::with_capacity(shape.elements());
        for y in top..top + shape.h {
            pixels.extend_from_slice(&scaled.pixels[(y * scaled.width + left) * c..][..shape.w * c]);
        }
        Image::new(shape.w, shape.h, c, pixels)
    }

    /// Bilinear resampling with a triangle filter that widens when shrinking (as Pillow's `BILINEAR`).
    pub fn resize(&self, width: usize, height: usize) -> Image {
        let (c, w, h) = (self.channels, self.width, self.height);
        let columns = taps(w, width);
        let mut narrow = vec![0f32; width * h * c];
        for y in 0..h {
            for (x, (first, weights)) in columns.iter().enumerate() {
                for (i, weight) in weights.iter().enumerate() {
                    let from = &self.pixels[(y * w + first + i) * c..][..c];
                    let to = &mut narrow[(y * width + x) * c..][..c];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += weight * f32::from(*from);
                    }
                }
            }
            for v in &mut narrow[y * width * c..][..width * c] {
                *v = v.round();
            }
        }
        let mut pixels = Vec::with_capacity(width * height * c);
        let mut row = vec![0f32; width * c];
        for (first, weights) in taps(h, height) {
            row.fill(0.0);
            for (i, weight) in weights.iter().enumerate() {
                let from = &narrow[(first + i) * width * c..][..width * c];
                for (to, from) in row.iter_mut().zip(from) {
                    *to += weight * from;
                }
            }
            pixels.extend(row.iter().map(|v| v.round().clamp(0.0, 255.0) as u8));
        }
        Image { width, height, channels: c, pixels }
    }
}

/// For each of `to` outputs: first of `from` inputs and their weights, which sum to 1.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(from).max(first + 1);
            let raw = (first..last).map(|j| {
                let distance = (j as f64 + 0.5 - centre).abs() / support;
                (1.0 - distance).max(0.0)
            });
            let raw: Vec<f64> = raw.collect();
            let sum: f64 = raw.iter().sum();
            (first, raw.iter().map(|w| (w / sum) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_flat_pictures_and_means() {
        let flat = Image::new(37, 21, 3, vec![77; 37 * 21 * 3]).unwrap();
        for (w, h) in [(5, 4), (37, 21), (80, 64)] {
            assert!(flat.resize(w, h).pixels.iter().all(|p| *p == 77));
        }
        let halves = Image::new(4, 1, 1, vec![0, 0, 200, 200]).unwrap();
        // Pillow 10: Image.fromarray([[0,0,200,200]]).resize((2,1), BILINEAR) is [[29, 171]].
        assert_eq!(halves.resize(2, 1).pixels, [29, 171]);
    }

    #[test]
    fn fitting_crops_the_centre() {
        let mut pixels = vec![0; 6 * 4];
        pixels[2 * 6 + 3] = 9;
        let picture = Image::new(6, 4, 1, pixels).unwrap();
        let fit = picture.fit(Shape::new(4, 4, 1), &Preprocessing::default()).unwrap();
        assert_eq!((fit.width, fit.height, fit.pixels[2 * 4 + 2]), (4, 4, 9));
        assert_eq!(picture.fit(Shape::new(2, 2, 3), &Preprocessing::default()).unwrap().channels, 3);
        assert!(picture.fit(Shape::new(2, 2, 7), &Preprocessing::default()).is_err());
    }
}
