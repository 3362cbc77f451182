//! Pictures without a decoder: binary PGM and PPM, or bytes alone.

use alloc::format;
use alloc::string::String;
use onebit::core::types::Shape;

/// The pixels of a picture that must have the network's size, `[height][width][channels]`.
///
/// # Errors
/// Says what is wrong with it.
pub fn pixels(bytes: &[u8], shape: Shape) -> Result<&[u8], String> {
    if bytes.len() == shape.elements() {
        return Ok(bytes);
    }
    let Some((width, height, channels, pixels)) = netpbm(bytes) else {
        return Err(format!("is neither a binary PGM or PPM of 8 bits, nor {} bytes", shape.elements()));
    };
    // A network on vectors takes any picture with as many pixels.
    let vector = shape.pixels() == 1 && pixels.len() == shape.c;
    if !vector && (height, width, channels) != (shape.h, shape.w, shape.c) {
        return Err(format!("is {height} x {width} x {channels}, but the network takes {shape}"));
    }
    Ok(pixels)
}

/// Width, height, channels and pixels of a complete PGM or PPM (netpbm's `P5` and `P6`), up to 255.
fn netpbm(bytes: &[u8]) -> Option<(usize, usize, usize, &[u8])> {
    let channels = match bytes.split_at_checked(2)?.0 {
        b"P5" => 1,
        b"P6" => 3,
        _ => return None,
    };
    let mut rest = &bytes[2..];
    let [width, height, most] = [number(&mut rest)?, number(&mut rest)?, number(&mut rest)?];
    let (end, pixels) = rest.split_first()?;
    let whole = width.checked_mul(height)?.checked_mul(channels)? == pixels.len();
    (end.is_ascii_whitespace() && most == 255 && whole).then_some((width, height, channels, pixels))
}

/// The next number of a header, after white space and comments.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let start = *rest;
    *rest = rest.trim_ascii_start();
    while let [b'#', ..] = rest {
        let line = rest.iter().position(|b| *b == b'\n')?;
        *rest = rest[line..].trim_ascii_start();
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (text, after) = rest.split_at(digits);
    *rest = after;
    let separate = start.first().is_some_and(|b| b.is_ascii_whitespace());
    str::from_utf8(text).ok()?.parse().ok().filter(|_| separate)
}
