//! G.711: eight bits a sample, decoded by table.

/// Linear values of µ-law bytes.
pub(in super::super) static ULAW: [i16; 256] = table(true);
/// Linear values of A-law bytes.
pub(in super::super) static ALAW: [i16; 256] = table(false);

const fn table(ulaw: bool) -> [i16; 256] {
    let mut values = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        values[byte] = if ulaw { decode_ulaw(byte as u8) } else { decode_alaw(byte as u8) };
        byte += 1;
    }
    values
}

const fn decode_ulaw(byte: u8) -> i16 {
    let inverted = !byte;
    let exponent = (inverted >> 4) & 7;
    let magnitude = ((((inverted & 0x0f) as i16) << 3) + 0x84) << exponent;
    if inverted & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

const fn decode_alaw(byte: u8) -> i16 {
    let toggled = byte ^ 0x55;
    let mantissa = ((toggled & 0x0f) as i16) << 4;
    let magnitude = match (toggled >> 4) & 7 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    if toggled & 0x80 == 0 { -magnitude } else { magnitude }
}

/// The µ-law byte nearest below in magnitude.
pub(in super::super) fn encode_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs().min(32_635) + 0x84;
    // Its highest bit is one of 7 to 14.
    let exponent = 8 - magnitude.leading_zeros() as u8;
    let mantissa = (magnitude >> (exponent + 3)) as u8 & 0x0f;
    !(sign | exponent << 4 | mantissa)
}

/// The A-law byte nearest below in magnitude.
pub(in super::super) fn encode_alaw(sample: i16) -> u8 {
    let mask = if sample < 0 { 0x55 } else { 0xd5 };
    let magnitude = if sample < 0 { !sample } else { sample } >> 3;
    let segment = 11u32.saturating_sub(magnitude.leading_zeros()) as u8;
    let mantissa = (magnitude >> segment.max(1)) as u8 & 0x0f;
    (segment << 4 | mantissa) ^ mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_decodes_to_a_value_that_encodes_back() {
        for byte in 0..=u8::MAX {
            let (ulaw, alaw) = (ULAW[byte as usize], ALAW[byte as usize]);
            assert_eq!(ULAW[encode_ulaw(ulaw) as usize], ulaw, "µ-law {byte:#x}");
            assert_eq!(encode_alaw(alaw), byte, "A-law {byte:#x}");
        }
    }

    #[test]
    fn the_extremes_and_silence_are_those_of_the_standard() {
        assert_eq!((ULAW[0xff], ULAW[0x80], ULAW[0x00]), (0, 32_124, -32_124));
        assert_eq!((ALAW[0xd5], ALAW[0xaa], ALAW[0x2a]), (8, 32_256, -32_256));
        for sample in [i16::MIN, i16::MAX] {
            assert_eq!(ULAW[encode_ulaw(sample) as usize].unsigned_abs(), 32_124);
            assert_eq!(ALAW[encode_alaw(sample) as usize].unsigned_abs(), 32_256);
        }
    }
}
