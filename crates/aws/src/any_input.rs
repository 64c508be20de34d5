//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;

use crate::item::{Item, Keep, Partition, children_from_items, head_from_item, head_to_item};

const KEEP: Keep = Keep { record: std::time::Duration::from_hours(1) };

/// Items of the table are records, or refused by name; a head that was read comes back the same.
///
/// # Panics
/// Where that does not hold.
pub fn items(body: &[u8]) {
    let Ok(Value::Array(items)) = serde_json::from_slice(body) else { return };
    let items: Vec<Item> = items.iter().filter_map(item).collect();
    for item in &items {
        match head_from_item(item.clone()) {
            Ok(head) => {
                let again = head_to_item(&head, KEEP).and_then(head_from_item);
                assert!(again.is_ok_and(|again| again == head));
            }
            Err(refused) => assert!(!refused.is_retryable() && !refused.to_string().is_empty()),
        }
    }
    if let Err(refused) = children_from_items(Partition::Record, items) {
        assert!(!refused.is_retryable() && !refused.to_string().is_empty());
    }
}

/// An item as `DynamoDB` writes it in JSON.
fn item(json: &Value) -> Option<Item> {
    let fields = json.as_object()?;
    Some(fields.iter().filter_map(|(name, typed)| Some((name.clone(), value(typed)?))).collect())
}

fn value(typed: &Value) -> Option<AttributeValue> {
    let (kind, value) = typed.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "S" => AttributeValue::S(value.as_str()?.to_owned()),
        "N" => AttributeValue::N(value.as_str()?.to_owned()),
        "B" => AttributeValue::B(value.as_str()?.as_bytes().into()),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(true),
        "L" => AttributeValue::L(value.as_array()?.iter().filter_map(self::value).collect()),
        "M" => AttributeValue::M(item(value)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_core::incident::{Child, ChildName, Gen};
    use sentinel_testkit::inputs::near;
    use serde_json::json;

    use super::*;
    use crate::item::child_to_items;
    use crate::test_support::{largest_head, usual_head};

    fn written(item: &Item) -> Value {
        Value::Object(item.iter().map(|(name, value)| (name.clone(), typed(value))).collect())
    }

    fn typed(value: &AttributeValue) -> Value {
        match value {
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::B(bytes) => json!({"B": String::from_utf8_lossy(bytes.as_ref())}),
            AttributeValue::Bool(is) => json!({"BOOL": is}),
            AttributeValue::L(list) => json!({"L": list.iter().map(typed).collect::<Vec<_>>()}),
            AttributeValue::M(map) => json!({"M": written(map)}),
            _ => json!({"NULL": true}),
        }
    }

    fn stored() -> Vec<String> {
        let usual = usual_head();
        let child = Child { generation: Gen(5), name: ChildName::Output(1), body: "{\"a\":1}".to_owned() };
        let child = child_to_items(&usual.id, &child, KEEP, sentinel_core::UnixMs::new(5)).named;
        let head = |head| written(&head_to_item(&head, KEEP).unwrap());
        vec![json!([head(usual), written(&child)]).to_string(), json!([head(largest_head())]).to_string()]
    }

    #[test]
    fn a_head_is_among_the_seeds() {
        let seeds = stored();
        let Value::Array(items) = serde_json::from_str(&seeds[0]).unwrap() else { panic!("{seeds:?}") };
        assert!(head_from_item(item(&items[0]).unwrap()).is_ok());
    }

    proptest! {
        #[test]
        fn any_item_is_a_record_or_refused(body in near(stored())) {
            items(&body);
        }
    }
}
