//! Pictures: decoding files, and making a picture the network's input.

use crate::error::{Error, Result};
use crate::meta::Preprocessing;
use onebit_core::types::Shape;
use std::ops::Range;
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

    /// Decodes a PNG or JPEG file, upright; the content decides, not the name. Transparency is ignored.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    #[cfg(feature = "images")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};
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
        let mut decoder = reader.into_decoder().map_err(|e| refuse(&e))?;
        if decoder.total_bytes() > MAX_PIXELS * 4 {
            let (w, h) = decoder.dimensions();
            let limit = MAX_PIXELS >> 20;
            return Err(Error::file(
                path,
                format!("is too large, {w} x {h}: scale it to below {limit} megapixels"),
            ));
        }
        // Cameras store pictures as the sensor lies and say how to turn them.
        let orientation = decoder.orientation().map_err(|e| refuse(&e))?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| refuse(&e))?;
        picture.apply_orientation(orientation);
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
        if self.channels == shape.c {
            return Ok(self.crop_scaled(shape, pre));
        }
        Ok(self.with_channels(shape.c)?.crop_scaled(shape, pre))
    }

    fn crop_scaled(&self, shape: Shape, pre: &Preprocessing) -> Image {
        let (w, h) = (self.width, self.height);
        if (h, w) == (shape.h, shape.w) {
            return self.clone();
        }
        let short = pre.resize.max(shape.h).max(shape.w);
        let (width, height) = if w <= h {
            (short, (h * short).div_ceil(w).max(short))
        } else {
            ((w * short).div_ceil(h).max(short), short)
        };
        let (left, top) = ((width - shape.w) / 2, (height - shape.h) / 2);
        self.resample((width, left..left + shape.w), (height, top..top + shape.h))
    }

    /// Bilinear resampling with a triangle filter that widens when shrinking (as Pillow's `BILINEAR`).
    pub fn resize(&self, width: usize, height: usize) -> Image {
        self.resample((width, 0..width), (height, 0..height))
    }

    /// Some columns and rows of the picture resized to a width and height. Only those are computed, so that
    /// a very long picture costs no more than what is seen of it.
    fn resample(
        &self,
        (width, columns): (usize, Range<usize>),
        (height, rows): (usize, Range<usize>),
    ) -> Image {
        let (c, w) = (self.channels, self.width);
        let columns = taps(w, width, columns);
        let rows = taps(self.height, height, rows);
        let row_elements = columns.len() * c;
        let first_row = rows.first().map_or(0, |r| r.0);
        let end_row = rows.last().map_or(0, |(first, weights)| first + weights.len());
        let mut narrow = vec![0f32; row_elements * (end_row - first_row)];
        for (y, narrow) in (first_row..end_row).zip(narrow.chunks_exact_mut(row_elements)) {
            for ((first, weights), to) in columns.iter().zip(narrow.chunks_exact_mut(c)) {
                let from = self.pixels[(y * w + first) * c..].chunks_exact(c);
                for (weight, from) in weights.iter().zip(from) {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += weight * f32::from(*from);
                    }
                }
            }
            narrow.iter_mut().for_each(|v| *v = v.round());
        }
        let mut pixels = Vec::with_capacity(row_elements * rows.len());
        let mut row = vec![0f32; row_elements];
        for (first, weights) in &rows {
            row.fill(0.0);
            let from = narrow[(first - first_row) * row_elements..].chunks_exact(row_elements);
            for (weight, from) in weights.iter().zip(from) {
                for (to, from) in row.iter_mut().zip(from) {
                    *to += weight * from;
                }
            }
            pixels.extend(row.iter().map(|v| v.round().clamp(0.0, 255.0) as u8));
        }
        Image { width: columns.len(), height: rows.len(), channels: c, pixels }
    }
}

/// For some of `to` outputs: first of `from` inputs and their weights, which sum to 1.
fn taps(from: usize, to: usize, outputs: Range<usize>) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    outputs
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
    #[test]
    fn a_crop_is_part_of_the_resized_picture() {
        let mut x = 7u32;
        let noise = (0..61 * 40 * 3).map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        });
        let picture = Image::new(61, 40, 3, noise.collect()).unwrap();
        for (shape, resize) in
            [(Shape::new(8, 8, 3), 11), (Shape::new(32, 24, 3), 0), (Shape::new(90, 90, 3), 96)]
        {
            let pre = Preprocessing { resize, ..Default::default() };
            let short = resize.max(shape.h);
            let whole = picture.resize((61 * short).div_ceil(40), short);
            let fit = picture.fit(shape, &pre).unwrap();
            let (top, left) = ((whole.height - shape.h) / 2, (whole.width - shape.w) / 2);
            for y in 0..shape.h {
                let row = &whole.pixels[((top + y) * whole.width + left) * 3..][..shape.w * 3];
                assert_eq!(&fit.pixels[y * shape.w * 3..][..shape.w * 3], row);
            }
        }
    }

    #[test]
    fn very_long_pictures_cost_no_more_than_what_is_seen() {
        let picture = Image::new(1 << 16, 1, 3, vec![5; 3 << 16]).unwrap();
        let fit = picture.fit(Shape::new(224, 224, 3), &Preprocessing::default()).unwrap();
        assert!(fit.pixels.len() == 224 * 224 * 3 && fit.pixels.iter().all(|p| *p == 5));
        let picture = Image::new(1, 1 << 16, 1, vec![5; 1 << 16]).unwrap();
        assert_eq!(picture.fit(Shape::new(28, 28, 3), &Preprocessing::default()).unwrap().pixels[0], 5);
    }
}
