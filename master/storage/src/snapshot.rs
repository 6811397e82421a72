//! A snapshot on the wire: chunks of rows, each with its checksum, and a last frame with the number of
//! rows and the checksum of all of it.
//!
//! Pure: bytes in, rows out.

/// A chunk is closed when it has this many bytes; one row may make it longer.
const CHUNK: usize = 512 * 1024;
const DIGEST: usize = 32;
const ROWS: u8 = 1;
const END: u8 = 2;

/// Makes frames out of rows.
#[derive(Default)]
pub(crate) struct Packer {
    chunk: Vec<u8>,
    count: u64,
    all: Vec<u8>,
}

impl Packer {
    /// Adds a row; gives a frame when a chunk is full.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        for part in [key, value] {
            let length = u32::try_from(part.len()).expect("rows are shorter than entries");
            self.chunk.extend_from_slice(&length.to_le_bytes());
            self.chunk.extend_from_slice(part);
        }
        self.count += 1;
        (self.chunk.len() >= CHUNK).then(|| self.close())
    }

    /// The last frames.
    pub(crate) fn end(mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if !self.chunk.is_empty() {
            frames.push(self.close());
        }
        let mut last = vec![END];
        last.extend_from_slice(&self.count.to_le_bytes());
        last.extend_from_slice(&link::pki::digest(&self.all));
        frames.push(last);
        frames
    }

    fn close(&mut self) -> Vec<u8> {
        let digest = link::pki::digest(&self.chunk);
        // The checksum of all is that of the chunks' checksums.
        self.all.extend_from_slice(&digest);
        let mut frame = Vec::with_capacity(1 + DIGEST + self.chunk.len());
        frame.push(ROWS);
        frame.extend_from_slice(&digest);
        frame.append(&mut self.chunk);
        frame
    }
}

/// Checks frames and takes the rows out of them.
#[derive(Default)]
pub(crate) struct Unpacker {
    count: u64,
    all: Vec<u8>,
    complete: bool,
}

/// A frame that is not what the sender packed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot is damaged: {0}")]
pub(crate) struct Damaged(&'static str);

/// Rows as they lie in a frame.
type Rows<'a> = Vec<(&'a [u8], &'a [u8])>;

impl Unpacker {
    /// The rows of the next frame; none at the end.
    pub(crate) fn frame<'a>(&mut self, frame: &'a [u8]) -> Result<Rows<'a>, Damaged> {
        match frame.split_first() {
            _ if self.complete => Err(Damaged("a frame after the end")),
            Some((&ROWS, rest)) => self.rows(rest),
            Some((&END, rest)) => {
                let (count, digest) = rest.split_first_chunk::<8>().ok_or(Damaged("a short last frame"))?;
                if u64::from_le_bytes(*count) != self.count || digest != link::pki::digest(&self.all) {
                    return Err(Damaged("rows are missing"));
                }
                self.complete = true;
                Ok(Vec::new())
            }
            _ => Err(Damaged("an unknown frame")),
        }
    }

    /// Whether the last frame has been seen and everything was there.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    fn rows<'a>(&mut self, rest: &'a [u8]) -> Result<Rows<'a>, Damaged> {
        let (digest, mut chunk) = rest.split_first_chunk::<DIGEST>().ok_or(Damaged("a short frame"))?;
        if link::pki::digest(chunk) != *digest {
            return Err(Damaged("a chunk's checksum is wrong"));
        }
        self.all.extend_from_slice(digest);
        let mut rows = Vec::new();
        while !chunk.is_empty() {
            let key = part(&mut chunk)?;
            rows.push((key, part(&mut chunk)?));
        }
        self.count += rows.len() as u64;
        Ok(rows)
    }
}

fn part<'a>(chunk: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let cut = Damaged("a row is cut");
    let Some((length, rest)) = chunk.split_first_chunk::<4>() else { return Err(cut) };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((part, rest)) = rest.split_at_checked(length) else { return Err(cut) };
    *chunk = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn packed(rows: usize) -> Vec<Vec<u8>> {
        let mut packer = Packer::default();
        let mut frames = Vec::new();
        for index in 0..rows {
            frames.extend(packer.row(&index.to_be_bytes(), &vec![index as u8; 1000]));
        }
        frames.extend(packer.end());
        frames
    }

    fn unpacked(frames: &[Vec<u8>]) -> Result<usize, Damaged> {
        let mut unpacker = Unpacker::default();
        let mut rows = 0;
        for frame in frames {
            rows += unpacker.frame(frame)?.len();
        }
        if unpacker.is_complete() { Ok(rows) } else { Err(Damaged("not complete")) }
    }

    #[test]
    fn rows_survive_the_way() {
        for rows in [0, 1, 500, 2000] {
            assert_eq!(unpacked(&packed(rows)).unwrap(), rows);
        }
    }

    #[test]
    fn every_kind_of_damage_is_noticed() {
        let good = packed(1200);
        assert!(good.len() > 2);
        for index in 0..good.len() {
            let mut lost = good.clone();
            lost.remove(index);
            assert!(unpacked(&lost).is_err(), "frame {index} lost");
            let mut flipped = good.clone();
            let last = flipped[index].len() - 1;
            flipped[index][last] ^= 1;
            assert!(unpacked(&flipped).is_err(), "frame {index} flipped");
            let mut cut = good.clone();
            cut[index].truncate(last);
            assert!(unpacked(&cut).is_err(), "frame {index} cut");
        }
        let mut more = good.clone();
        more.push(good[0].clone());
        assert!(unpacked(&more).is_err());
        assert!(Unpacker::default().frame(&[]).is_err());
    }
}
