//! What a model file may contain at most. Real networks stay far below; files that do not are refused
//! before anything large is allocated.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Longest header, in bytes.
pub const MAX_HEADER: usize = 8 << 20;
/// Most layers.
pub const MAX_NODES: usize = 8192;
/// Most inputs of a layer.
pub const MAX_INPUTS: usize = 1024;
/// Longest name of a layer, in bytes.
pub const MAX_NAME: usize = 256;
/// Longest short side that pictures are resized to.
pub const MAX_RESIZE: usize = 4096;

/// Reads a list of at most `N` elements.
pub(super) fn bounded<'de, D, T, const N: usize>(d: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const N: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {N} elements")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while all.len() < N {
                match seq.next_element()? {
                    Some(element) => all.push(element),
                    None => return Ok(all),
                }
            }
            match seq.next_element::<serde::de::IgnoredAny>()? {
                Some(_) => Err(A::Error::custom(format!("a list has more than {N} elements"))),
                None => Ok(all),
            }
        }
    }
    d.deserialize_seq(List::<T, N>(PhantomData))
}
