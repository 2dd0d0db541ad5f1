//! Which memory an instruction accesses.
//!
//! As much of the encoding as is needed to tell where an operand in memory lies. Nobody relies on it for what
//! is right or wrong: an access that is not seen is an instant that is not tried.

use nix::libc::user_regs_struct as Registers;

/// Longest instruction.
pub(crate) const LONGEST: usize = 15;

/// A set of at most two addresses that an instruction accesses, apart from its stack.
pub(crate) fn addresses(code: &[u8; LONGEST], registers: &Registers) -> [Option<u64>; 2] {
    operands(code, registers).unwrap_or([None, None])
}

fn operands(code: &[u8; LONGEST], registers: &Registers) -> Option<[Option<u64>; 2]> {
    let mut bytes = code.iter().copied();
    let mut byte = bytes.next()?;
    while matches!(byte, 0x66 | 0xF0 | 0xF2 | 0xF3 | 0x2E | 0x36 | 0x3E | 0x26) {
        byte = bytes.next()?;
    }
    // How the numbers of registers are extended: as in a REX prefix.
    let mut rex = 0;
    if byte & 0xF0 == 0x40 {
        rex = byte;
        byte = bytes.next()?;
    }
    match byte {
        // Copies and comparisons of strings; stores and searches; loads.
        0xA4..=0xA7 => return Some([Some(registers.rsi), Some(registers.rdi)]),
        0xAA | 0xAB | 0xAE | 0xAF => return Some([Some(registers.rdi), None]),
        0xAC | 0xAD => return Some([Some(registers.rsi), None]),
        0x0F => {
            byte = bytes.next()?;
            match byte {
                0x38 | 0x3A => _ = bytes.next()?,
                // Hints, no-ops, conditional jumps, and what has no operand.
                0x05
                | 0x0B
                | 0x0D
                | 0x18..=0x1F
                | 0x31
                | 0x77
                | 0x80..=0x8F
                | 0xA2
                | 0xC8..=0xCF => {
                    return None;
                }
                _ => {}
            }
        }
        // Prefixes of two, three and four bytes, with the same bits inverted.
        0xC5 => _ = bytes.nth(1)?,
        0xC4 => {
            rex = !bytes.next()? >> 5;
            bytes.nth(1)?;
        }
        0x62 => {
            rex = !bytes.next()? >> 5;
            bytes.nth(2)?;
        }
        0x00..=0x3F if byte & 7 < 4 => {}
        0x63 | 0x69 | 0x6B | 0x80..=0x8C | 0x8E | 0x8F => {}
        0xC0 | 0xC1 | 0xC6 | 0xC7 | 0xD0..=0xD3 | 0xD8..=0xDF | 0xF6 | 0xF7 | 0xFE | 0xFF => {}
        // Among them what has a segment of its own: the memory of a thread.
        _ => return None,
    }

    let modrm = bytes.next()?;
    let (mode, base) = (modrm >> 6, modrm & 7);
    let mut address = match (mode, base) {
        // A register, or what belongs to the code.
        (3, _) | (0, 5) => return None,
        (_, 4) => {
            let sib = bytes.next()?;
            let index = match sib >> 3 & 7 | (rex & 2) << 2 {
                4 => 0,
                index => register(registers, index) << (sib >> 6),
            };
            let base = match (mode, sib & 7) {
                (0, 5) => displacement(&mut bytes, 4)?,
                (_, base) => register(registers, base | (rex & 1) << 3),
            };
            base.wrapping_add(index)
        }
        (_, base) => register(registers, base | (rex & 1) << 3),
    };
    let length = [0, 1, 4, 0][usize::from(mode)];
    address = address.wrapping_add(displacement(&mut bytes, length)?);
    Some([Some(address), None])
}

fn register(registers: &Registers, number: u8) -> u64 {
    let r = registers;
    let all = [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15,
    ];
    all[usize::from(number & 15)]
}

/// A number of so many bytes, with its sign.
fn displacement(bytes: &mut impl Iterator<Item = u8>, length: usize) -> Option<u64> {
    Some(match length {
        0 => 0,
        1 => bytes.next()? as i8 as u64,
        _ => {
            let bytes = [bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?];
            i32::from_le_bytes(bytes) as u64
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], expected: Option<u64>) {
        let mut bytes = [0x90; LONGEST];
        bytes[..code.len()].copy_from_slice(code);
        assert_eq!(addresses(&bytes, &numbered())[0], expected, "{code:x?}");
    }

    /// A thousand times its number in each register.
    fn numbered() -> Registers {
        let at = |n: u64| n * 1000;
        Registers {
            r15: at(15),
            r14: at(14),
            r13: at(13),
            r12: at(12),
            rbp: at(5),
            rbx: at(3),
            r11: at(11),
            r10: at(10),
            r9: at(9),
            r8: at(8),
            rax: 0,
            rcx: at(1),
            rdx: at(2),
            rsi: at(6),
            rdi: at(7),
            orig_rax: 0,
            rip: 0,
            cs: 0,
            eflags: 0,
            rsp: at(4),
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    #[test]
    fn operands_of_common_instructions_are_found() {
        // mov rax, [rbx]; mov [r9 + 0x10], ecx; mov eax, [rdi - 8]; mov rax, [rsi + 2 * rcx + 0x100]
        check(&[0x48, 0x8B, 0x03], Some(3000));
        check(&[0x41, 0x89, 0x49, 0x10], Some(9016));
        check(&[0x8B, 0x47, 0xF8], Some(6992));
        check(&[0x48, 0x8B, 0x84, 0x4E, 0, 1, 0, 0], Some(8256));
        // lock cmpxchg [r15], rdx; lock xadd [r12 + r13], rax; xchg [rdx], al
        check(&[0xF0, 0x49, 0x0F, 0xB1, 0x17], Some(15_000));
        check(&[0xF0, 0x4B, 0x0F, 0xC1, 0x04, 0x2C], Some(25_000));
        check(&[0x86, 0x02], Some(2000));
        // movups xmm0, [rbp + 1]; vmovdqu ymm0, [r8]; rep movsb
        check(&[0x0F, 0x10, 0x45, 1], Some(5001));
        check(&[0xC4, 0xC1, 0x7E, 0x6F, 0x00], Some(8000));
        check(&[0xF3, 0xA4], Some(6000));
    }

    #[test]
    fn what_has_no_operand_in_memory_has_none() {
        // mov rax, rbx; lea rax, [rbx]; jne; syscall; mov rax, fs:[rbx]; mov rax, [rip + 1]; nop [rax]
        check(&[0x48, 0x89, 0xD8], None);
        check(&[0x48, 0x8D, 0x03], None);
        check(&[0x75, 0x03], None);
        check(&[0x0F, 0x05], None);
        check(&[0x64, 0x48, 0x8B, 0x03], None);
        check(&[0x48, 0x8B, 0x05, 1, 0, 0, 0], None);
        check(&[0x0F, 0x1F, 0x00], None);
    }
}
