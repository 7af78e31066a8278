use prost_reflect::DescriptorPool;

use super::*;

const API: &str = r#"
syntax = "proto3";
package api.v1;
import "other.proto";
message Kept {
  reserved 9;
  Gone gone = 1;
  oneof first { Gone lost = 2; }
  oneof second { string text = 3; Gone also_lost = 4; Colour colour = 5; }
  map<string, Gone> gone_map = 6;
  map<string, Inner> kept_map = 7;
  string old = 8 [deprecated = true];
  optional bool maybe = 10;
  other.v1.Far far = 11;
  message Inner { Shade shade = 1; }
  enum Shade { DARK = 0; }
  enum Unused { NOTHING = 0; }
}
message Gone {}
enum Colour { RED = 0; }
enum Spare { NONE = 0; }
service Wanted { rpc Call(Kept) returns (Kept.Inner); }
service Unwanted { rpc Call(Gone) returns (Gone); }
"#;

const OTHER: &str = r#"
syntax = "proto3";
package other.v1;
message Far {}
"#;

fn pruned(list: &str) -> anyhow::Result<Pruned> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("api.proto"), API)?;
    std::fs::write(dir.path().join("other.proto"), OTHER)?;
    let set = protox::compile(["api.proto"], [dir.path()])?;
    prune(set, &AllowList::parse(list)?)
}

fn fields(file: &FileDescriptorProto) -> Vec<(&str, i32, Option<i32>)> {
    let fields = file.message_type[0].field.iter();
    fields.map(|f| (f.name(), f.number(), f.oneof_index)).collect()
}

#[test]
fn what_refers_to_dropped_messages_goes_and_the_rest_keeps_its_numbers() {
    let pruned = pruned("api.v1\n  Kept Kept.Inner Wanted").unwrap();
    let [file] = pruned.files.file.as_slice() else {
        panic!("the other file is not needed: {:?}", pruned.files);
    };
    assert_eq!(
        fields(file),
        [("text", 3, Some(0)), ("colour", 5, Some(0)), ("kept_map", 7, None), ("maybe", 10, Some(1)),]
    );
    let enums =
        |list: &[EnumDescriptorProto]| -> Vec<String> { list.iter().map(|e| e.name().to_owned()).collect() };
    assert_eq!(enums(&file.enum_type), ["Colour"]);
    assert_eq!(enums(&file.message_type[0].enum_type), ["Shade"]);
    assert_eq!(file.service.len(), 1);
    assert!(file.dependency.is_empty());
    assert_eq!(pruned.dropped.len(), 6, "{:?}", pruned.dropped);
}

#[test]
fn the_result_is_a_valid_descriptor_set() {
    let pruned = pruned("api.v1\n  Kept Kept.Inner Wanted\nother.v1\n  Far").unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(pruned.files).unwrap();
    let kept = pool.get_message_by_name("api.v1.Kept").unwrap();
    assert!(kept.get_field_by_name("far").is_some());
    assert!(kept.get_field_by_name("maybe").unwrap().supports_presence());
}

#[test]
fn a_name_that_does_not_exist_is_an_error() {
    let error = pruned("api.v1\n  Kept Misspelt").err().unwrap().to_string();
    assert!(error.ends_with("api.v1.Misspelt"), "{error}");
}

#[test]
fn a_service_whose_messages_are_not_listed_is_an_error() {
    let error = pruned("api.v1\n  Unwanted").err().unwrap().to_string();
    assert!(error.contains("Unwanted/Call needs .api.v1.Gone"), "{error}");
}
