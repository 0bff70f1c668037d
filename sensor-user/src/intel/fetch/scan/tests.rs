//! JSON in chunks of any size, deep and hostile.

use super::*;

fn scan(text: &str, chunk: usize) -> Scan {
    let mut scan = Scan::new(&["more", "next"], &[&["objects"], &["response", "Attribute"], &[]]);
    for part in text.as_bytes().chunks(chunk) {
        scan.add(part);
    }
    scan
}

#[test]
fn members_and_counts_are_found_in_chunks_of_any_size() {
    for (text, more, next, counts, whole) in [
        ("{}", false, None, [0, 0, 0], true),
        (r#"{"more":true,"next":"a\"b\u00e9"}"#, true, Some("a\"bé"), [0; 3], true),
        (r#"{"next" : 12 ,"more": true }"#, true, Some("12"), [0; 3], true),
        ("\u{feff}{\"more\":true,\"next\":\"2\"}", true, Some("2"), [0; 3], true),
        ("\u{feff} {\"objects\":[1],\"more\":true}", true, None, [1, 0, 0], true),
        ("\u{feff}[1,2]", false, None, [0, 0, 2], true),
        (r#"{"next":null,"more":"true"}"#, false, None, [0; 3], true),
        (r#"{"objects":[{"more":true,"objects":[1,2]},2,"x",[3]]}"#, false, None, [4, 0, 0], true),
        (r#"{"response":{"Attribute":[{"a":[1]},{}],"more":true}}"#, false, None, [0, 2, 0], true),
        (r#"{"x":{"next":"no"},"next":"yes"}"#, false, Some("yes"), [0; 3], true),
        (r#"{"x":"\\\"}","next":"{[\"","more":true}"#, true, Some("{[\""), [0; 3], true),
        (r#"[1,{"a":2},[]]"#, false, None, [0, 0, 3], true),
        (r#"{"objects":[1,2"#, false, None, [2, 0, 0], false),
        (r#"{"next":"abc"#, false, None, [0; 3], false),
        ("", false, None, [0; 3], false),
        ("null", false, None, [0; 3], true),
        (r#"{"next":{"a":1},"more":[true]}"#, false, None, [0; 3], true),
    ] {
        for chunk in [1, 2, 3, 7, 1000] {
            let scan = scan(text, chunk);
            assert_eq!(scan.is_true("more"), more, "{text} by {chunk}");
            assert_eq!(scan.value("next").as_deref(), next, "{text} by {chunk}");
            assert_eq!([0, 1, 2].map(|at| scan.count(at)), counts, "{text} by {chunk}");
            assert_eq!(scan.is_whole(), whole, "{text} by {chunk}");
        }
    }
}

#[test]
fn an_object_in_the_position_of_an_array_counts_with_its_members() {
    for (text, counts) in [
        (r#"{"objects":{"0":{"a":[1,2]},"1":{}},"next":1}"#, [2, 0, 0]),
        (r#"{"response":{"Attribute":{"0":1,"7":{"b":{"c":1}}}}}"#, [0, 2, 0]),
        (r#"{"objects":{}}"#, [0, 0, 0]),
        (r#"{"objects":null,"a":{"objects":[1]}}"#, [0, 0, 0]),
    ] {
        for chunk in [1, 5, 1000] {
            let scan = scan(text, chunk);
            assert_eq!([0, 1, 2].map(|at| scan.count(at)), counts, "{text} by {chunk}");
        }
    }
}

#[test]
fn a_wanted_member_is_present_whatever_its_type() {
    for (text, more, next) in [
        (r#"{"more":null,"next":[]}"#, true, true),
        (r#"{"next":{"more":1}}"#, false, true),
        (r#"{"objects":[{"more":1}]}"#, false, false),
        (r#"{"more" : "next"}"#, true, false),
        (r#"["more","next"]"#, false, false),
    ] {
        let scan = scan(text, 3);
        assert_eq!((scan.has("more"), scan.has("next")), (more, next), "{text}");
    }
}

#[test]
fn the_digest_is_of_the_items_whatever_surrounds_them() {
    let digest = |text: &str, chunk| scan(text, chunk).digest();
    let page = r#"{"next":"1","objects":[{"id":"a","n":[1,{"x":"}"}]},{"id":"b"},3]}"#;
    let first = digest(page, 1000);
    for same in [
        page,
        r#"{"objects":[{"id":"b"},3,{"id":"a","n":[1,{"x":"}"}]}],"next":"2"}"#,
        r#"{ "objects" : [ {"id": "a", "n":[1 ,{"x": "}"} ] } , {"id":"b"} , 3 ] }"#,
        r#"{"objects":{"0":{"id":"a","n":[1,{"x":"}"}]},"1":{"id":"b"},"2":3}}"#,
    ] {
        for chunk in [1, 3, 1000] {
            assert_eq!(digest(same, chunk), first, "{same} by {chunk}");
        }
    }
    for other in [
        r#"{"objects":[{"id":"a","n":[1,{"x":"}"}]},{"id":"b"},4]}"#,
        r#"{"objects":[{"id":"a","n":[1,{"x":"]"}]},{"id":"b"},3]}"#,
        r#"{"objects":[{"id":"a","n":[1,{"x":"}"}]},{"id":"b"}]}"#,
        r#"{"objects":[{"id":"a","n":[1,{"x":"}"}]},{"id":"b"},3,{"id":"c d"}]}"#,
    ] {
        assert_ne!(digest(other, 2), first, "{other}");
    }
    assert_ne!(digest(r#"{"objects":["a b"]}"#, 2), digest(r#"{"objects":["ab"]}"#, 2));
    assert_eq!(digest(r#"{"objects":[],"a":[1]}"#, 2), 0);
}

#[test]
fn depth_and_length_need_no_memory() {
    let deep = format!("{{\"objects\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let found = scan(&deep, 4096);
    assert!(found.is_whole() && found.levels.capacity() <= 4 && found.count(0) == 1);
    let long = format!("{{\"next\":\"{}\",\"more\":true}}", "x".repeat(1 << 20));
    let found = scan(&long, 4096);
    assert!(found.is_true("more") && found.value("next").is_none());
    assert!(found.token.capacity() <= 2 * TOKEN_MAX);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_accepted(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let mut scan = Scan::new(&["a"], &[&["a"]]);
        scan.add(&bytes);
        let _any_result = (scan.is_whole(), scan.value("a"), scan.count(0));
    }
}
