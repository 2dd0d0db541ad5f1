//! What an instruction does that other processes can see: its accesses to shared memory.
//!
//! As much of the encoding as is needed to tell where an operand in memory lies, and whether it may be changed.
//! Nobody relies on it for what is right or wrong: an access that is not seen is an instant that is not tried.

use std::ops::Range;

use nix::libc::user_regs_struct as Registers;

/// Longest instruction.
pub(crate) const LONGEST: usize = 15;

/// Bytes of a word, the most that instructions access which do not work on vectors.
const WORD: u64 = 8;

/// Bytes of the longest vector.
const VECTOR: u64 = 64;

/// A file, by its device and its number there.
pub(crate) type FileId = (u64, u64);

/// A step of a process that others can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// The bytes of a file that it is about; `None` if it may be about anything, as a system call.
    pub(crate) bytes: Option<(FileId, Range<u64>)>,
    /// Whether it may change them.
    pub(crate) is_write: bool,
}

impl Access {
    /// Whether it makes no difference which of two that are next to each other comes first.
    pub(crate) fn commutes_with(&self, other: &Self) -> bool {
        let (Some((file, bytes)), Some((other_file, others))) = (&self.bytes, &other.bytes) else {
            return false;
        };
        let overlap = file == other_file && bytes.start < others.end && others.start < bytes.end;
        !overlap || !self.is_write && !other.is_write
    }
}

/// An operand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) address: u64,
    /// Its bytes, at most; `None` if that depends.
    pub(crate) length: Option<u64>,
    /// Whether the instruction may change it.
    pub(crate) is_written: bool,
}

/// The operands of an instruction, apart from its stack: two at most.
pub(crate) fn operands(code: &[u8; LONGEST], registers: &Registers) -> [Option<Operand>; 2] {
    decoded(code, registers).unwrap_or([None, None])
}

fn decoded(code: &[u8; LONGEST], registers: &Registers) -> Option<[Option<Operand>; 2]> {
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
    let string = |address| {
        Some(Operand {
            address,
            length: None,
            is_written: true,
        })
    };
    // What is not known better is a vector that is changed.
    let (mut length, mut is_written) = (Some(VECTOR), true);
    match byte {
        // Copies and comparisons of strings; stores and searches; loads.
        0xA4..=0xA7 => return Some([string(registers.rsi), string(registers.rdi)]),
        0xAA | 0xAB | 0xAE | 0xAF => return Some([string(registers.rdi), None]),
        0xAC | 0xAD => return Some([string(registers.rsi), None]),
        0x0F => {
            byte = bytes.next()?;
            match byte {
                0x38 | 0x3A => _ = bytes.next()?,
                // Conditional moves, products, extensions.
                0x40..=0x4F | 0xAF | 0xB6 | 0xB7 | 0xBE | 0xBF => {
                    (length, is_written) = (Some(WORD), false);
                }
                // Conditions, one bit, compare-exchange, exchange-add, stores past the cache.
                0x90..=0x9F | 0xB0 | 0xB1 | 0xBA | 0xC0 | 0xC1 | 0xC3 => length = Some(WORD),
                // One bit, which may be far away.
                0xA3 | 0xAB | 0xB3 | 0xBB => length = None,
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
        // Arithmetic: into a register, or comparisons, or into memory.
        0x00..=0x3F if byte & 7 < 4 => {
            (length, is_written) = (Some(WORD), byte & 7 < 2 && byte & 0xF8 != 0x38);
        }
        0x63 | 0x69 | 0x6B | 0x84 | 0x85 | 0x8A | 0x8B | 0x8E => {
            (length, is_written) = (Some(WORD), false);
        }
        0x80..=0x83 | 0x86..=0x89 | 0x8C | 0x8F => length = Some(WORD),
        0xC0 | 0xC1 | 0xC6 | 0xC7 | 0xD0..=0xD3 | 0xF6 | 0xF7 | 0xFE | 0xFF => length = Some(WORD),
        0xD8..=0xDF => {}
        // Among them what has a segment of its own: the memory of a thread.
        _ => return None,
    }

    let modrm = bytes.next()?;
    let (mode, base) = (modrm >> 6, modrm & 7);
    // Comparisons with a number.
    is_written &= !(matches!(byte, 0x80..=0x83) && modrm >> 3 & 7 == 7);
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
    let digits = [0, 1, 4, 0][usize::from(mode)];
    address = address.wrapping_add(displacement(&mut bytes, digits)?);
    let operand = Operand {
        address,
        length,
        is_written,
    };
    Some([Some(operand), None])
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
        let [first, _] = operands(&bytes, &numbered());
        assert_eq!(first.map(|it| it.address), expected, "{code:x?}");
    }

    fn check_kind(code: &[u8], length: Option<u64>, is_written: bool) {
        let mut bytes = [0x90; LONGEST];
        bytes[..code.len()].copy_from_slice(code);
        let [first, _] = operands(&bytes, &numbered());
        let found = first.map(|it| (it.length, it.is_written));
        assert_eq!(found, Some((length, is_written)), "{code:x?}");
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
    fn what_may_be_changed_is_known() {
        // mov rax, [rbx]; cmp [rbx], rax; cmp rax, [rbx]; cmp qword [rbx], 1; add rax, [rbx]; test [rbx], rax; movzx
        check_kind(&[0x48, 0x8B, 0x03], Some(8), false);
        check_kind(&[0x48, 0x39, 0x03], Some(8), false);
        check_kind(&[0x48, 0x3B, 0x03], Some(8), false);
        check_kind(&[0x48, 0x83, 0x3B, 1], Some(8), false);
        check_kind(&[0x48, 0x03, 0x03], Some(8), false);
        check_kind(&[0x48, 0x85, 0x03], Some(8), false);
        check_kind(&[0x0F, 0xB6, 0x03], Some(8), false);
        // mov [rbx], rax; add [rbx], rax; lock or qword [rbx], 1; lock cmpxchg; xchg; lock xadd; mov [rbx], 1
        check_kind(&[0x48, 0x89, 0x03], Some(8), true);
        check_kind(&[0x48, 0x01, 0x03], Some(8), true);
        check_kind(&[0xF0, 0x48, 0x83, 0x0B, 1], Some(8), true);
        check_kind(&[0xF0, 0x49, 0x0F, 0xB1, 0x17], Some(8), true);
        check_kind(&[0x48, 0x87, 0x03], Some(8), true);
        check_kind(&[0xF0, 0x48, 0x0F, 0xC1, 0x03], Some(8), true);
        check_kind(&[0x48, 0xC7, 0x03, 1, 0, 0, 0], Some(8), true);
        // movups xmm0, [rbp + 1]; lock cmpxchg16b [rbx]; rep movsb; lock bts [rbx], rax
        check_kind(&[0x0F, 0x10, 0x45, 1], Some(64), true);
        check_kind(&[0xF0, 0x48, 0x0F, 0xC7, 0x0B], Some(64), true);
        check_kind(&[0xF3, 0xA4], None, true);
        check_kind(&[0xF0, 0x48, 0x0F, 0xAB, 0x03], None, true);
    }

    #[test]
    fn accesses_commute_that_are_about_other_bytes_or_change_nothing() {
        let access = |start: u64, is_write| Access {
            bytes: Some(((1, 1), start..start + 8)),
            is_write,
        };
        let commute = |a: &Access, b: &Access| {
            assert_eq!(a.commutes_with(b), b.commutes_with(a));
            a.commutes_with(b)
        };
        assert!(commute(&access(8, true), &access(16, true)));
        assert!(commute(&access(8, false), &access(8, false)));
        assert!(!commute(&access(8, false), &access(8, true)));
        assert!(!commute(&access(8, true), &access(12, false)));
        let elsewhere = Access {
            bytes: Some(((1, 2), 8..16)),
            is_write: true,
        };
        assert!(commute(&access(8, true), &elsewhere));
        let call = Access {
            bytes: None,
            is_write: true,
        };
        assert!(!commute(&access(8, false), &call) && !commute(&call, &call));
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
