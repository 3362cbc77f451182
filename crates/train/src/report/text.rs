//! Text for HTML: escaping, and numbers as people read them.

/// Text with nothing in it that HTML would take for markup; control characters become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A number with `digits` significant digits; a dash for what is no number.
pub fn significant(x: f64, digits: i32) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    if x == 0.0 {
        return "0".into();
    }
    let magnitude = x.abs().log10().floor() as i32;
    if !(-4..9).contains(&magnitude) {
        return format!("{x:.*e}", (digits - 1).max(0) as usize);
    }
    format!("{x:.*}", (digits - 1 - magnitude).max(0) as usize)
}

/// A share as percent with two decimals; a dash for what is no number.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2} %", 100.0 * share) } else { "–".into() }
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as B, kB or MB.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", significant(n as f64 / 1e3, 3)),
        _ => format!("{} MB", significant(n as f64 / 1e6, 3)),
    }
}

/// Seconds as `42 s`, `3 min 5 s` or `2 h 7 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "–".into();
    }
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            escape("<a href='x'>\"&\"\u{0}\u{1b}ü"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;\u{fffd}\u{fffd}ü"
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(significant(0.012_345, 3), "0.0123");
        assert_eq!(significant(123.45, 3), "123");
        assert_eq!(significant(1e-5, 2), "1.0e-5");
        assert_eq!(significant(f64::NAN, 3), "–");
        assert_eq!(percent(0.98765), "98.77 %");
        assert_eq!(grouped(1_234_567_usize), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(13_240), "13.2 kB");
        assert_eq!(duration(4.25), "4.2 s");
        assert_eq!(duration(185.0), "3 min 5 s");
        assert_eq!(duration(7620.0), "2 h 7 min");
        assert_eq!(duration(f64::INFINITY), "–");
    }
}
