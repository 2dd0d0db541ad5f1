//! `StreamDict`, with nested maps and watches: files that somebody wrote who means harm, and who goes on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;

use forkmap::{Options, StreamDict, Watch, WatchEvent};
use tempfile::TempDir;

use super::damage::{GEOMETRY, HEADER, PARTICIPANTS, Shape, damage_header, get, put, reseal};
use super::input::Input;
use super::records::{HEAD_WORDS, KEYS, LOG, Plan, SEAL, append};
use super::{MOMENT, OPERATIONS, Outcome, memory, vandal};

type Dict = StreamDict<str, str>;

const NAME: &str = "dict";
/// Log bytes and budgets.
const SIZES: [(u64, Option<u64>); 4] = [
    (0, None),
    (200, None),
    (1000, Some(40_000)),
    (5000, Some(1 << 20)),
];
/// Ids of generations, of which the first one is current.
const IDS: [u64; 3] = [0x11, 0x22, 0x33];

/// Where the control starts, for so many participants, and what stands there.
const fn control_body(participants: usize) -> usize {
    1344 + 32 * participants
}

/// The files that a dictionary has been made with: the control, and the header of a generation.
#[derive(Clone)]
struct Made {
    control: Vec<u8>,
    header: Vec<u8>,
}

/// A directory for each thread, and what was made in it once.
struct Place {
    dir: TempDir,
    made: RefCell<HashMap<usize, Made>>,
}

thread_local! {
    static PLACE: Place = Place {
        dir: tempfile::tempdir_in("/dev/shm").unwrap(),
        made: RefCell::default(),
    };
}

impl Place {
    fn options(&self) -> Options<Dict> {
        let mut options = Dict::options();
        options.dir(self.dir.path());
        options
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Removes whatever is there, and tells what there was.
    fn clear(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(self.dir.path()).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        // The control comes first.
        paths.sort();
        let read = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap_or_default();
            fs::remove_file(path).unwrap();
            bytes
        };
        paths.iter().map(read).collect()
    }

    fn made(&self, variant: usize) -> Made {
        let make = || {
            let (log_bytes, budget) = SIZES[variant % 4];
            let mut options = self.options();
            options
                .log_bytes(log_bytes)
                .participants([2, 8][variant / 4]);
            if let Some(budget) = budget {
                options.budget(budget);
            }
            drop(options.create(NAME).unwrap());
            let mut files = self.clear();
            let header = files.remove(1)[..HEADER].to_vec();
            let control = files.remove(0);
            Made { control, header }
        };
        self.made
            .borrow_mut()
            .entry(variant)
            .or_insert_with(make)
            .clone()
    }

    fn open_file(&self, name: &str) -> Option<File> {
        File::options()
            .read(true)
            .write(true)
            .open(self.path(name))
            .ok()
    }

    /// A file to damage: the control, or the generation that is current.
    fn victim(&self, is_control: bool) -> Option<(File, Shape)> {
        let control = self.open_file(NAME)?;
        if is_control {
            let shape = control_shape(&memory::read(&control));
            return Some((control, shape));
        }
        let bytes = memory::read(&control);
        let body = control_shape(&bytes).parts[HEAD].start;
        let file = self.open_file(&generation_name(&bytes, get(&bytes, body)))?;
        let shape = generation_shape(&memory::read(&file));
        Some((file, shape))
    }
}

fn generation_name(control: &[u8], id: u64) -> String {
    format!("{NAME}.{:016x}.{id:016x}", get(control, 64))
}

/// The part of a control that says what is current.
const HEAD: usize = 2;

fn control_shape(bytes: &[u8]) -> Shape {
    // (The header may be damaged already.)
    let participants = get(bytes, PARTICIPANTS).clamp(1, 8) as usize;
    let body = control_body(participants);
    let rows = body + 64;
    Shape {
        parts: vec![
            HEADER..1344,
            1344..body,
            body..rows,
            rows..rows + 32 * participants,
        ],
        plausible: |_, _, _, input| match input.byte() % 4 {
            0 => input.about(4),
            _ => input.pick(&IDS),
        },
    }
}

fn generation_shape(bytes: &[u8]) -> Shape {
    let arena = LOG + 8 * HEAD_WORDS;
    let words = (bytes.len() - LOG) / 8;
    let log_words = (get(bytes, GEOMETRY + 24) as usize).clamp(HEAD_WORDS + 1, words - 1);
    let log_end = LOG + 8 * log_words;
    let near = (arena + 400).min(log_end);
    Shape {
        parts: vec![
            HEADER..LOG,
            LOG..arena,
            arena..near,
            LOG..near,
            log_end..bytes.len(),
        ],
        plausible: |shape, bytes, offset, input| {
            let words = (bytes.len() - LOG) / 8;
            let near = (shape.parts[3].len() / 8).max(1);
            match input.byte() % 8 {
                0 => SEAL,
                1 => input.pick(&IDS),
                2 => input.about(words),
                3 => input.about(60) << 32 | get(bytes, offset) & 0xFFFF_FFFF,
                4 => get(bytes, LOG + 8 * input.below(near)),
                _ => input.about(near),
            }
        },
    }
}

/// Makes a dictionary, damages it, and uses it.
pub fn run(data: &[u8]) -> Outcome {
    PLACE.with(|place| {
        let outcome = run_in(place, &mut Input::new(data));
        place.clear();
        outcome
    })
}

fn run_in(place: &Place, input: &mut Input<'_>) -> Outcome {
    let Made {
        mut control,
        header,
    } = place.made(input.below(8));
    let (body, name) = (control_shape(&control).parts[HEAD].start, generation_name);
    put(&mut control, body, IDS[0]);
    // One generation, or several that follow each other.
    let count = [1, 1, 1, 2, 3][input.below(5)];
    for n in 0..count {
        let is_last = n + 1 == count;
        let plan = Plan {
            id: IDS[n],
            previous: if n == 0 { 0 } else { IDS[n - 1] },
            number: 1 + n as u64,
            end: if is_last {
                input.pick(&[0, 0, 0, SEAL])
            } else {
                SEAL
            },
            next: if is_last { 0 } else { IDS[n + 1] },
        };
        let mut bytes = plan.write(&header, input);
        let id = get(&bytes, GEOMETRY);
        for _ in 0..(input.byte() % 8).saturating_sub(6) {
            let edits = generation_shape(&bytes).damage(&bytes, input);
            edits.iter().for_each(|edit| edit.apply(&mut bytes));
        }
        if input.one_in(16) {
            damage_header(&mut bytes, input);
        }
        fs::write(place.path(&name(&control, id)), &bytes).unwrap();
    }
    let to = place.path(NAME);
    for _ in 0..(input.byte() % 8).saturating_sub(6) {
        let edits = control_shape(&control).damage(&control, input);
        edits.iter().for_each(|edit| edit.apply(&mut control));
    }
    if input.one_in(16) {
        damage_header(&mut control, input);
        // So much memory may be there, and is not to be taken.
        if ((1 << 16)..1 << 50).contains(&get(&control, GEOMETRY)) {
            put(&mut control, GEOMETRY, 1 << 16);
            reseal(&mut control);
        }
    }
    fs::write(to, &control).unwrap();
    let mut options = place.options();
    let Ok(dict) = options.read_only(input.one_in(8)).open(NAME) else {
        return Outcome::REFUSED;
    };
    let victim = place.victim(input.one_in(4)).filter(|_| input.one_in(16));
    match victim {
        Some((file, shape)) => {
            let bytes = memory::read(&file);
            let edits = shape.damage(&bytes, input);
            vandal::beside(&file, &bytes, &edits, || play(place, dict, input))
        }
        None => play(place, dict, input),
    }
}

/// Every operation, on the whole, on maps in it, and by way of another attachment.
fn play(place: &Place, dict: Dict, input: &mut Input<'_>) -> Outcome {
    let mut out = Outcome::default();
    let mut handles = vec![dict];
    let mut watches: Vec<Watch<str, str>> = Vec::new();
    for _ in 0..OPERATIONS / 2 {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let key = KEYS[usize::from(kind >> 6)];
        let dict = handles[input.below(handles.len())].clone();
        match kind % 32 {
            0..6 => change(&dict, key, input, &mut out),
            6..12 => look(&dict, key, input, &mut out),
            12 | 13 => {
                let opened = match kind % 2 {
                    0 => dict.nested(key).map(Some),
                    _ => dict.get_nested(key),
                };
                handles.extend(opened.as_ref().ok().cloned().flatten());
                out.count(opened);
            }
            14 => match place.options().open(NAME) {
                Ok(other) => handles.push(other),
                error => out.count(error),
            },
            15 | 16 if watches.len() < 4 => {
                let watch = match input.byte() % 3 {
                    0 => dict.watch(),
                    1 => dict.watch_key(key),
                    _ => dict.watch_prefix(key),
                };
                match watch {
                    Ok(watch) => watches.push(watch),
                    error => out.count(error),
                }
            }
            15..20 => watches.iter_mut().for_each(|watch| follow(watch, &mut out)),
            20 => out.count(dict.dump()),
            21 => out.count(dict.reload()),
            22 => {
                out.count(Dict::gc(place.dir.path(), NAME));
                out.count(dict.status());
                out.count(dict.participants());
            }
            23 if input.one_in(8) => out.count(place.options().unlink(NAME)),
            23..28 => {
                if let Some((file, _)) = place.victim(false) {
                    append(&file, input);
                }
            }
            _ => {
                if let Some((file, shape)) = place.victim(input.one_in(3)) {
                    let edits = shape.damage(&memory::read(&file), input);
                    edits.iter().for_each(|edit| edit.write(&file));
                }
            }
        }
        handles.truncate(6);
    }
    watches.iter_mut().for_each(|watch| follow(watch, &mut out));
    out.count(handles.swap_remove(0).close());
    out
}

/// All events that there are: each of them was some change in some record.
fn follow(watch: &mut Watch<str, str>, out: &mut Outcome) {
    let mut copy = forkmap::Tree::new();
    for n in 0.. {
        assert!(n < 20_000, "events without end");
        let event = watch.next_within(MOMENT);
        match event {
            Ok(None) => break,
            Ok(Some(WatchEvent::Changed { change, .. })) => _ = copy.apply(change),
            Ok(Some(WatchEvent::Resync { changes, .. })) => {
                changes
                    .into_iter()
                    .for_each(|change| _ = copy.apply(change));
            }
            Ok(Some(_)) => {}
            // The next call goes on behind what cannot be decoded, and tells all else again.
            Err(forkmap::StreamError::Decode { .. }) => out.operations += 1,
            error => {
                out.count(error);
                break;
            }
        }
    }
    let _ = watch.reached();
}

fn change(dict: &Dict, key: &str, input: &mut Input<'_>, out: &mut Outcome) {
    let value = input.text(30);
    match input.byte() % 16 {
        0..3 => out.count(dict.set(key, &value)),
        3 => out.count(dict.insert(key, &value)),
        4 => out.count(dict.remove(key)),
        5 => out.count(dict.get_or_insert_with(key, || value.clone())),
        6 => out.count(dict.fetch_update(key, |_| Some(value.clone()))),
        7 => out.count(dict.compare_exchange(key, None, Some(&value))),
        8 => out.count(dict.clear()),
        9 => out.count(dict.remove_node(key)),
        10 => match dict.get_node(KEYS[input.below(4)]) {
            Ok(Some(node)) => out.count(dict.set_node(key, &node)),
            found => out.count(found),
        },
        11 => out.count(dict.extend([(key, value.as_str()), ("b", "new")])),
        12 => match dict.position() {
            Ok(seen) => {
                out.count(dict.wait_for_change(seen, MOMENT));
                out.count(dict.append_if(seen, |tx| tx.set(key, &value)));
            }
            error => out.count(error),
        },
        13 => match dict.entry(key) {
            Ok(entry) => out.count(entry.or_insert(&value)),
            Err(error) => out.count(Err::<(), _>(error)),
        },
        // More than fits into the log.
        14 => out.count(dict.set(key, &value.repeat(100))),
        _ => out.count(dict.transaction(|tx| {
            tx.set("a", &value)?;
            tx.nested(key)?.set("below", &value)?;
            tx.remove_node("b")?;
            if input.one_in(4) {
                tx.clear();
            }
            tx.get_nested("c").map(drop)
        })),
    }
}

fn look(dict: &Dict, key: &str, input: &mut Input<'_>, out: &mut Outcome) {
    match input.byte() % 8 {
        0 => out.count(dict.get(key)),
        1 => out.count(dict.contains_key(key)),
        2 => out.count(dict.len().and(dict.is_empty())),
        3 => out.count(dict.tree()),
        4 => out.count(dict.position().and_then(|seen| dict.is_at(seen))),
        5 => out.count(dict.get_node(key)),
        _ => match dict.view() {
            Ok(view) => {
                assert!(view.iter().filter(Result::is_ok).count() <= view.len());
                assert_eq!(view.keys().count(), view.len());
                assert_eq!(view.nodes().count(), view.len());
                out.count(
                    view.get_nested(key)
                        .map(|below| below.map(|below| below.len())),
                );
                assert!(!format!("{view:?}").is_empty());
            }
            Err(error) => out.count(Err::<(), _>(error)),
        },
    }
}
