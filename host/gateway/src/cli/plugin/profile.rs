//! A profile by samples, as the file that Chrome's developer tools, VS Code and speedscope open (`.cpuprofile`).
//!
//! Source: the type `Profile` of the Chrome DevTools Protocol,
//! <https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile>.

use std::{collections::HashMap, time::Duration};

use hookloom_runtime::{Frame, Sample};
use serde::Serialize;

/// Samples of many calls.
pub struct Profile {
    interval: Duration,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    nodes: Vec<Node>,
    /// In microseconds.
    start_time: u64,
    end_time: u64,
    /// The node of each sample.
    samples: Vec<usize>,
    /// Microseconds since the sample before.
    time_deltas: Vec<u64>,
}

/// A function as it was called from the functions above it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: usize,
    call_frame: CallFrame,
    hit_count: usize,
    children: Vec<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    function_name: String,
    script_id: &'static str,
    url: String,
    /// Counted from 0; -1 where it is not known.
    line_number: i64,
    column_number: i64,
}

impl Profile {
    /// An empty profile of samples that come so often.
    pub fn new(interval: Duration) -> Profile {
        Profile { interval, samples: Vec::new() }
    }

    /// Takes the samples of a call.
    pub fn add(&mut self, samples: Vec<Sample>) {
        self.samples.extend(samples);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The file's text; `describe` gives the lines of each frame, innermost first.
    ///
    /// # Errors
    /// As `describe`.
    pub fn write<E>(&self, describe: impl FnOnce(&[Frame]) -> Result<Vec<Vec<String>>, E>) -> Result<String, E> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut known: HashMap<&Frame, usize> = HashMap::new();
        for frame in self.samples.iter().flat_map(|sample| &sample.frames) {
            known.entry(frame).or_insert_with(|| {
                frames.push(frame.clone());
                frames.len() - 1
            });
        }
        let lines = describe(&frames)?;
        let mut tree = Tree::new();
        let mut samples = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            let stack = sample.frames.iter().rev().flat_map(|frame| lines[known[frame]].iter().rev());
            samples.push(tree.hit(stack));
        }
        let interval = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX);
        let document = Document {
            nodes: tree.nodes,
            start_time: 0,
            end_time: interval.saturating_mul(samples.len() as u64),
            time_deltas: vec![interval; samples.len()],
            samples,
        };
        Ok(serde_json::to_string(&document).expect("texts and numbers always serialize"))
    }
}

/// The calls by their callers. A node's id is its place, from 1 on.
struct Tree {
    nodes: Vec<Node>,
    by_line: HashMap<(usize, String), usize>,
}

impl Tree {
    fn new() -> Tree {
        let mut tree = Tree { nodes: Vec::new(), by_line: HashMap::new() };
        tree.push("(root)");
        tree
    }

    /// Counts a stack, outermost first; answers the innermost call's id.
    fn hit<'a>(&mut self, stack: impl Iterator<Item = &'a String>) -> usize {
        let mut at = 1;
        for line in stack {
            let key = (at, line.clone());
            at = match self.by_line.get(&key) {
                Some(id) => *id,
                None => {
                    let id = self.push(line);
                    self.nodes[at - 1].children.push(id);
                    self.by_line.insert(key, id);
                    id
                }
            };
        }
        self.nodes[at - 1].hit_count += 1;
        at
    }

    fn push(&mut self, line: &str) -> usize {
        let id = self.nodes.len() + 1;
        self.nodes.push(Node { id, call_frame: CallFrame::of(line), hit_count: 0, children: Vec::new() });
        id
    }
}

impl CallFrame {
    /// From `name at file:line`, or a name alone.
    fn of(line: &str) -> CallFrame {
        let (name, place) = line.rsplit_once(" at ").unwrap_or((line, ""));
        let (file, number) = place.rsplit_once(':').unwrap_or((place, ""));
        let line_number = number.parse::<i64>().map_or(-1, |number| number - 1);
        CallFrame {
            function_name: name.to_owned(),
            script_id: "0",
            url: file.to_owned(),
            line_number,
            column_number: -1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn frame(function: u32) -> Frame {
        Frame { function, offset: None, name: None }
    }

    #[test]
    fn calls_are_joined_by_their_callers() {
        let sample = |functions: &[u32]| Sample {
            at: Duration::ZERO,
            frames: functions.iter().rev().map(|function| frame(*function)).collect(),
        };
        let mut profile = Profile::new(Duration::from_millis(1));
        profile.add(vec![sample(&[0, 1]), sample(&[0, 1]), sample(&[0])]);
        let names = ["map", "inner at src/lib.rs:7"];
        let text = profile.write(|frames| {
            let line = |frame: &Frame| vec![names[frame.function as usize].to_owned()];
            Ok::<_, std::convert::Infallible>(frames.iter().map(line).collect())
        });
        let found: Value = serde_json::from_str(&text.unwrap()).unwrap();
        assert_eq!((&found["samples"], &found["endTime"]), (&json!([3, 3, 2]), &json!(3_000)));
        let node = |index: usize| &found["nodes"][index];
        assert_eq!((&node(0)["children"], &node(1)["children"]), (&json!([2]), &json!([3])));
        assert_eq!((&node(1)["hitCount"], &node(2)["hitCount"]), (&json!(1), &json!(2)));
        let inner = &node(2)["callFrame"];
        assert_eq!(
            (&inner["functionName"], &inner["url"], &inner["lineNumber"]),
            (&json!("inner"), &json!("src/lib.rs"), &json!(6))
        );
    }
}
