//! Fuzzes the frames of the spool and the history: reading of any bytes, reading of written frames,
//! and a cut at any byte.

use std::io;

use sensor_user::base::framing::{
    FrameFormat, FrameReader, FrameStep, LittleEndian, PREFIX, append_frame,
};

/// Bytes read at once, at most: the reader's read-ahead, which is more than a frame and a search.
const READ_MAX: usize = 256 << 10;
/// Written bytes that are cut at each byte.
const WRITTEN_MAX: usize = 600;

/// Frames as in the spool: none is empty, and damage is searched for the next frame.
struct Searched;

impl FrameFormat for Searched {
    const LEN_MIN: u32 = 2;
    const LEN_MAX: u32 = 200;
    const SEARCH_MAX: usize = 64 << 10;
    type Body<'b> = &'b [u8];

    fn decode<'b>(&mut self, body: &'b [u8]) -> Option<&'b [u8]> {
        is_valid(body).then_some(body)
    }

    fn may_follow(&self, body: &[u8]) -> bool {
        is_valid(body)
    }
}

/// Frames as in the history: any may be empty, and damage ends the file.
struct Sequential;

impl FrameFormat for Sequential {
    const LEN_MIN: u32 = 0;
    const LEN_MAX: u32 = 100;
    const SEARCH_MAX: usize = 0;
    type Body<'b> = &'b [u8];

    fn decode<'b>(&mut self, body: &'b [u8]) -> Option<&'b [u8]> {
        is_valid(body).then_some(body)
    }

    fn may_follow(&self, _body: &[u8]) -> bool {
        false
    }
}

fn is_valid(body: &[u8]) -> bool {
    body.first() != Some(&0xff)
}

/// Fuzzes the reader and the writer of frames.
pub fn framing(data: &[u8]) {
    let mut fixed = data.to_vec();
    let _stopped_early = fix_frames(&mut fixed);
    for bytes in [data, &fixed] {
        check_reader(bytes, Searched);
        check_reader(bytes, Sequential);
    }
    check_written::<Searched>(data, || Searched);
    check_written::<Sequential>(data, || Sequential);
}

/// Frames and damage cover all bytes, in order and without overlap.
fn check_reader<F>(bytes: &[u8], format: F)
where
    F: for<'b> FrameFormat<Body<'b> = &'b [u8]>,
{
    let length = bytes.len() as u64;
    let mut reader = FrameReader::new(|offset, max| read(bytes, offset, max), format, 0..length);
    let mut end = 0;
    loop {
        let step = match reader.next_step() {
            Ok(FrameStep::Frame(start, body)) => Some((start, start + frame_len(body))),
            Ok(FrameStep::Damage(damage)) => {
                assert_eq!(damage.is_tail, damage.end == length);
                assert!(!damage.error.to_string().is_empty(), "each error has a message");
                Some((damage.start, damage.end))
            }
            Ok(FrameStep::Zeros(start)) => {
                let zeros = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
                assert!(zeros.is_some_and(|rest| rest.iter().all(|byte| *byte == 0)));
                Some((start, length))
            }
            Ok(FrameStep::End) => None,
            Err(error) => {
                assert_eq!(error.to_string(), "", "a slice can be read");
                None
            }
        };
        let Some((start, next)) = step else { break };
        assert_eq!(start, end, "nothing is skipped or read twice");
        assert!(next > start && next == reader.offset());
        end = next;
    }
    assert_eq!(end, length);
}

/// What was written is read back, and a cut at any byte loses only the frame that it is in.
fn check_written<F>(data: &[u8], format: impl Fn() -> F)
where
    F: for<'b> FrameFormat<Body<'b> = &'b [u8]>,
{
    let (mut written, mut bodies, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = LittleEndian(data);
    while let Some(length) = rest.u8() {
        let length = u32::from(length).clamp(F::LEN_MIN, F::LEN_MAX) as usize;
        let Some(body) = rest.bytes(length).filter(|body| is_valid(body)) else { break };
        append_frame(&mut written, |out| out.extend(body));
        if written.len() > WRITTEN_MAX {
            return;
        }
        bodies.push(body);
        ends.push(written.len());
    }
    for cut in 0..=written.len() {
        let bytes = written.get(..cut).unwrap_or_default();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let found = |offset, max| read(bytes, offset, max);
        let mut reader = FrameReader::new(found, format(), 0..cut as u64);
        for body in bodies.iter().take(whole) {
            let step = reader.next_step();
            assert!(matches!(&step, Ok(FrameStep::Frame(_, found)) if found == body), "{step:?}");
        }
        let end_of_whole =
            whole.checked_sub(1).map_or(0, |last| ends.get(last).copied().unwrap_or(0));
        let step = reader.next_step();
        let is_expected = match &step {
            Ok(FrameStep::End) => end_of_whole == cut,
            Ok(FrameStep::Damage(damage)) => damage.is_tail && end_of_whole < cut,
            _ => false,
        };
        assert!(is_expected, "cut at {cut}: {step:?}");
    }
}

fn frame_len(body: &[u8]) -> u64 {
    (PREFIX + body.len()) as u64
}

/// Reads as from a file, and checks that the reader requests no more than its limit.
#[expect(clippy::unnecessary_wraps, reason = "the signature that the reader takes")]
fn read(bytes: &[u8], offset: u64, length: usize) -> io::Result<Vec<u8>> {
    assert!(length <= READ_MAX, "{length} bytes requested at once");
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = bytes.get(offset..).unwrap_or_default();
    assert!(length <= rest.len(), "memory is requested only for bytes of the file");
    Ok(rest.get(..length).unwrap_or_default().to_vec())
}

/// Corrects the checksums of frames: length, checksum, body.
pub(super) fn fix_frames(mut rest: &mut [u8]) -> Option<()> {
    loop {
        let (prefix, after) = rest.split_first_chunk_mut::<PREFIX>()?;
        let [a, b, c, d, crc @ ..] = prefix;
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        *crc = crc32fast::hash(after.get(..length)?).to_le_bytes();
        rest = after.get_mut(length..)?;
    }
}
