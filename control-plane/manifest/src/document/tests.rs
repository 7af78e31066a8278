use super::*;

/// Documents as `line: json`, mistakes as `line! message`.
fn show(text: &str, file: &str) -> Vec<String> {
    let (documents, errors): (Vec<_>, Vec<_>) = read(text, file).into_iter().partition(Result::is_ok);
    let documents: Vec<_> = documents.into_iter().map(Result::unwrap).collect();
    let errors: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
    let twice =
        |d: &Document| d.duplicates.iter().map(|one| format!(" twice {}", one.key())).collect::<String>();
    let documents = documents.iter().map(|d| format!("{}: {}{}", d.line, d.value, twice(d)));
    documents.chain(errors.iter().map(|e| format!("{}! {}", e.line, e.message))).collect()
}

#[test]
fn documents_know_the_line_on_which_they_begin() {
    let text =
        "# head\n%YAML 1.2\n---\n# a\na: 1\n---\n---   # empty\n\n--- {b: 2}\n...\n---\nc: |\n  ---\n  x\n";
    assert_eq!(show(text, "x.yaml"), ["5: {\"a\":1}", "9: {\"b\":2}", "12: {\"c\":\"---\\nx\\n\"}"]);
}

#[test]
fn a_broken_document_leaves_the_others_readable() {
    let shown = show("a: 1\n---\nb: [1\nc: 2\n---\nd: 4\n---\ne: 1\ne: 2\n", "x.yaml");
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert_eq!(shown[..3], ["1: {\"a\":1}", "6: {\"d\":4}", "8: {\"e\":1} twice e"]);
    assert!(shown[3].contains("! this is not valid YAML: "), "{shown:?}");
}

/// Whatever is wrong with an item of a List, the others are read, with their own lines.
#[test]
fn a_broken_item_of_a_list_leaves_the_others_readable() {
    for bad in ["a: [1", "a: {{ x }}-y", "a: !unknown {b: 1}", "a: 'x", "a: *nowhere", "\ta: 1"] {
        for indent in ["", "  "] {
            let list = format!(
                "apiVersion: v1\nitems:\n{indent}- kind: Pod\n{indent}  a: |\n{indent}    - x\n{indent}# c\n\
                 {indent}- {bad}\n{indent}  kind: Service\n{indent}-\n{indent}  kind: Node\nkind: List\nmetadata: {{}}\n"
            );
            let shown = show(&list, "x.yaml");
            assert_eq!(shown.len(), 3, "{shown:?}");
            assert_eq!(shown[0], r##"3: {"kind":"Pod","a":"- x\n"}"##);
            assert_eq!(shown[1], r#"10: {"kind":"Node"}"#);
            assert!(shown[2].contains("this is not valid YAML"), "{shown:?}");
        }
    }
    let typed = "kind: PodList\napiVersion: v1\nitems:\n- a: [\n- metadata: {name: a}\n";
    assert_eq!(show(typed, "x.yaml")[0], r#"5: {"metadata":{"name":"a"},"kind":"Pod","apiVersion":"v1"}"#);
}

#[test]
fn scalars_have_the_types_of_yaml_1_2() {
    let text = "a: yes\nb: true\nc: 0x10\nd: 2025-03-01T08:00:00Z\ne: '5'\nf: ~\n8080: {g: h}\nh: 1_000\n";
    let expected = r#"1: {"a":"yes","b":true,"c":16,"d":"2025-03-01T08:00:00Z","e":"5","f":null,"8080":{"g":"h"},"h":1000}"#;
    assert_eq!(show(text, "x.yaml"), [expected]);
}

#[test]
fn lists_are_taken_apart() {
    let list = "kind: List\napiVersion: v1\nitems:\n- {kind: Pod}\n- {kind: Service}\n";
    assert_eq!(show(list, "x.yaml"), [r#"1: {"kind":"Pod"}"#, r#"1: {"kind":"Service"}"#]);
    let typed = "kind: PodList\napiVersion: v1\nitems:\n- {metadata: {name: a}}\n";
    assert_eq!(show(typed, "x.yaml"), [r#"1: {"metadata":{"name":"a"},"kind":"Pod","apiVersion":"v1"}"#]);
}

#[test]
fn json_may_be_a_value_an_array_or_a_stream() {
    assert_eq!(
        show("\n{\"a\": 1}\n\n{\"b\": \"\\ud83d\\ude00\"}", "x.json"),
        ["2: {\"a\":1}", "4: {\"b\":\"😀\"}"]
    );
    assert_eq!(show("[{\"a\": 1}, {\"b\": 2}]", "x.json"), ["1: {\"a\":1}", "1: {\"b\":2}"]);
    assert_eq!(show("", "x.json"), [""; 0]);
    let twice = show("{\"a\": 1,\n \"a\": 2} {\"b\": 1}", "x.json");
    assert_eq!(twice, ["1: {\"a\":1} twice a", "2: {\"b\":1}"]);
}

#[test]
fn what_would_blow_up_is_refused() {
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)
    });
    let deep = format!("a: {}", "[".repeat(100_000));
    for text in [bomb, deep.clone(), format!("{}{}", "a: {".repeat(300), "}".repeat(300))] {
        let shown = show(&text, "x.yaml");
        assert!(shown.len() == 1 && shown[0].contains("! this is not valid YAML"), "{shown:?}");
    }
    assert!(show(&deep[3..], "x.json")[0].contains("! this is not valid JSON"));
}

/// An address that ends with a colon is text in flow style, as for kubectl, at whatever place; nothing else changes.
#[test]
fn addresses_that_end_with_a_colon_are_text_in_flow_style() {
    for (text, expected) in [
        ("[1.2.3.4, 2001:db8::]", r#"["1.2.3.4","2001:db8::"]"#),
        ("[2001:db8::, 1.2.3.4]", r#"["2001:db8::","1.2.3.4"]"#),
        ("[\n  2001:db8::,\n  ::]", r#"["2001:db8::","::"]"#),
        ("[{b: 2001:db8::}, {b: 2001:db8::, c: d}]", r#"[{"b":"2001:db8::"},{"b":"2001:db8::","c":"d"}]"#),
        ("[fd00::1, fd00::/8]", r#"["fd00::1","fd00::/8"]"#),
        (
            "['2001:db8::', \"2001:db8::\", \"a\\\", 2001:db8::]\"]",
            r#"["2001:db8::","2001:db8::","a\", 2001:db8::]"]"#,
        ),
        ("it's [2001:db8::] here", r#""it's [2001:db8::] here""#),
        ("text, ::, text", r#""text, ::, text""#),
        ("[a] # 2001:db8::]", r#"["a"]"#),
        ("[{c: null}, {d: }]", r#"[{"c":null},{"d":null}]"#),
    ] {
        assert_eq!(show(&format!("a: {text}\n"), "x.yaml"), [format!("1: {{\"a\":{expected}}}")], "{text}");
    }
}
