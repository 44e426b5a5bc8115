use super::*;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

fn document(token: bool) -> Value {
    let (_, mut api) = super::super::control_table().split_for_parts();
    api.merge(super::super::MediaTable::openapi());
    serde_json::from_slice(&finish(api, Wanted { control: token, stream: token })).unwrap()
}

fn each_operation(document: &Value) -> Vec<(String, String, &Map<String, Value>)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((path.clone(), method.to_uppercase(), operation.as_object().unwrap()));
        }
    }
    all
}

#[test]
fn the_calls_are_those_of_the_contract() {
    let document = document(false);
    let calls: BTreeSet<String> =
        each_operation(&document).iter().map(|(path, method, _)| format!("{method} {path}")).collect();
    let contract = [
        "DELETE /jobs/{id}",
        "DELETE /jobs/{id}/output",
        "GET /healthz",
        "GET /jobs",
        "GET /jobs/{id}",
        "GET /jobs/{id}/events",
        "GET /metrics",
        "GET /node",
        "GET /openapi.json",
        "GET /readyz",
        "GET /roots",
        "GET /roots/{root}",
        "GET /roots/{root}/{path}",
        "GET /stream/{job}/{path}",
        "HEAD /stream/{job}/{path}",
        "OPTIONS /stream/{job}/{path}",
        "GET /vod/{root}/{path}",
        "HEAD /vod/{root}/{path}",
        "OPTIONS /vod/{root}/{path}",
        "POST /jobs",
        "PUT /node/state",
    ];
    assert_eq!(calls, contract.map(str::to_owned).into());
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn every_refusal_is_a_problem_and_says_its_codes() {
    let document = document(true);
    for (path, method, operation) in each_operation(&document) {
        let responses = operation["responses"].as_object().unwrap();
        if method == "OPTIONS" {
            assert_eq!(responses.keys().collect::<Vec<_>>(), ["204"], "{path}");
            continue;
        }
        let common: &[&str] = if is_media(&path) {
            &["304", "401", "412", "414", "431", "500", "503"]
        } else {
            &["400", "403", "414", "431", "500", "503"]
        };
        for status in common {
            assert!(responses.contains_key(*status), "{method} {path} lacks {status}");
        }
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            let shown = schema == "#/components/schemas/Problem";
            assert_eq!(shown, method != "HEAD", "{method} {path} {status}");
            let description = response["description"].as_str().unwrap();
            assert!(description.contains('`'), "{method} {path} {status} names no code: {description}");
            let retry = response["headers"]["Retry-After"]["schema"]["type"] == "integer";
            assert_eq!(retry, ["429", "503"].contains(&status.as_str()), "{method} {path} {status}");
        }
        let body = operation.contains_key("requestBody");
        for status in ["408", "413", "415"] {
            assert_eq!(responses.contains_key(status), body, "{method} {path} {status}");
        }
    }
}

#[test]
fn a_token_is_in_the_document_where_the_node_wants_one() {
    for token in [false, true] {
        let document = document(token);
        assert_eq!(document["components"]["securitySchemes"]["control_token"]["scheme"] == "bearer", token);
        assert_eq!(document["components"]["securitySchemes"]["stream_token"]["scheme"] == "bearer", token);
        for (path, method, operation) in each_operation(&document) {
            let name = if is_media(&path) { "stream_token" } else { "control_token" };
            let wanted = token && !OPEN.contains(&path.as_str()) && method != "OPTIONS";
            let secured = operation.get("security").is_some_and(|s| s[0][name].is_array());
            assert_eq!(secured, wanted, "{method} {path}");
            assert_eq!(operation["responses"]["401"].is_object(), wanted, "{method} {path}");
        }
    }
}

#[test]
fn parameters_are_bounded_and_never_null() {
    let document = document(false);
    let mut seen = 0;
    for (path, method, operation) in each_operation(&document) {
        let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        for parameter in parameters {
            let place = format!("{method} {path} {parameter}");
            seen += 1;
            assert_eq!(parameter["required"] == true, parameter["in"] == "path", "{place}");
            let schema = &parameter["schema"];
            assert!(schema["type"].is_string() || schema["$ref"].is_string(), "{place}");
            // OPTIONS says of any path which pages may ask.
            if parameter["in"] != "header" && schema["type"] == "string" && method != "OPTIONS" {
                assert!(schema["minLength"].is_u64() && schema["maxLength"].is_u64(), "{place}");
            }
            if schema["type"] == "integer" {
                assert_eq!((&schema["minimum"], &schema["maximum"]), (&1.into(), &200.into()), "{place}");
            }
        }
        let in_path = path.matches('{').count();
        let named = operation.get("parameters").and_then(Value::as_array).map_or(0, |all| {
            all.iter().filter(|p| path.contains(&format!("{{{}}}", p["name"].as_str().unwrap()))).count()
        });
        assert_eq!(named, in_path, "{method} {path}");
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_one() {
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    into.insert(target.clone());
                }
                fields.values().for_each(|value| references(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }
    let document = document(true);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/Job"), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let names: Vec<String> =
        each_operation(&document).iter().map(|(_, _, o)| o["operationId"].to_string()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn problems_events_and_lists_keep_their_schemas() {
    use crate::model::document;
    use crate::model::record::Job;
    let api = document(false);
    let valid = |name: &str, value: &Value| {
        let mut root = api["components"]["schemas"][name].clone();
        root["components"] = api["components"].clone();
        let validator = jsonschema::validator_for(&root).unwrap();
        validator.iter_errors(value).map(|e| e.to_string()).collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();
    let problem = serde_json::json!({"type": "about:blank", "title": "Not Found", "status": 404,
        "detail": "x", "code": "job_not_found"});
    assert_eq!(valid("Problem", &problem), none);
    let mut faulty = problem.clone();
    faulty["faults"] = serde_json::json!([{"pointer": "/a", "message": "b"}]);
    assert_eq!(valid("Problem", &faulty), none);
    faulty["status"] = 200.into();
    assert!(!valid("Problem", &faulty).is_empty());

    let document = document::parse(br#"{"id": "a", "input": "nas://m/a.mkv"}"#).unwrap();
    let job = Job::accepted(document, jiff::Timestamp::UNIX_EPOCH);
    let job = serde_json::to_value(job).unwrap();
    let list = serde_json::json!({"jobs": [job], "next": null});
    assert_eq!(valid("JobList", &list), none);
    let event = serde_json::json!({"number": 1, "state": "queued", "at": "1970-01-01T00:00:00Z",
        "job": "a", "record": job});
    assert_eq!(valid("StateEvent", &event), none);
    assert!(!valid("StateEvent", &serde_json::json!({"number": 1})).is_empty());
    let entry = serde_json::json!({"name": "a", "kind": "folder", "size_bytes": null, "mtime": null});
    let listing = serde_json::json!({"root": "r", "path": "", "uri": "nas://m", "entries": [entry],
        "next": null, "skipped": 0});
    assert_eq!(valid("Listing", &listing), none);
}

#[test]
fn media_says_what_any_range_and_condition_comes_to() {
    let document = document(false);
    let [get, head] = ["get", "head"].map(|method| &document["paths"]["/stream/{job}/{path}"][method]);
    let statuses = |operation: &Value| -> BTreeSet<String> {
        operation["responses"].as_object().unwrap().keys().cloned().collect()
    };
    for (operation, ranged) in [(get, true), (head, false)] {
        for status in ["206", "416"] {
            assert_eq!(statuses(operation).contains(status), ranged, "{status}");
        }
        let names = operation["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
        assert_eq!(names.clone().any(|name| name == "Range"), ranged);
        assert!(names.clone().any(|name| name == "If-None-Match"));
        assert!(operation["responses"]["200"]["headers"]["ETag"].is_object());
    }
    assert!(get["responses"]["206"]["content"]["video/mp2t"].is_object(), "{get:#}");
    assert!(get["responses"]["206"]["headers"]["Content-Range"].is_object());
    assert!(head["responses"]["200"]["content"].as_object().is_none_or(Map::is_empty), "{head:#}");
}

#[test]
fn media_lie_where_the_document_says() {
    let document = document(false);
    for route in [super::super::stream::ROUTE, super::super::vod::ROUTE] {
        assert!(document["paths"][route.replace("{*path}", "{path}")].is_object(), "{route}");
    }
}
