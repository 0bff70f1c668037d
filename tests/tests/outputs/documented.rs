//! The examples in `docs/formats.md` match the sinks' output.

use sensor_user::deliver::Format;
use serde_json::Value;

use super::{items, written, written_cef};

/// The code block of the section whose heading has this prefix.
fn example(heading: &str) -> &'static str {
    let text = include_str!("../../../docs/formats.md");
    let section = text.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let block = section.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1
}

#[test]
fn documented_examples_match_the_output() {
    for (heading, format, id) in
        [("ECS", Format::Ecs, "/event/id"), ("OCSF", Format::Ocsf, "/metadata/uid")]
    {
        let (_folder, documents) = written(format);
        let is_it = |it: &&Value| it.pointer(id).is_some_and(|id| id == "alert-new");
        let sent = documents.iter().find(is_it).unwrap();
        let shown: Value = serde_json::from_str(example(heading)).unwrap();
        assert_eq!(&shown, sent, "{heading}: {sent:#}");
    }
    assert_eq!(written_cef(vec![items::alerts().remove(0)]), example("CEF"));
}
