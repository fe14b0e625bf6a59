//! The function table as JSON, for people and generators: `/v1/functions` and `/openapi.json`.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::one_line;
use crate::function::{self, Accepts, Argument, Function};
use crate::job::State;

/// Both texts, made once.
#[derive(Debug)]
pub(super) struct Tables {
    /// `/v1/functions`.
    pub(super) functions: Bytes,
    /// `/openapi.json`.
    pub(super) openapi: Bytes,
}

impl Tables {
    /// The texts of the table.
    pub(super) fn new() -> Self {
        let all = function::functions();
        let rows: Vec<Value> = all.iter().map(|function| row(function)).collect();
        Self {
            functions: Bytes::from(json!({"functions": rows}).to_string()),
            openapi: Bytes::from(document(&all).to_string()),
        }
    }
}

fn default_of(argument: &Argument) -> Value {
    argument
        .default
        .map_or(Value::Null, |default| serde_json::from_str(&one_line(&default.value())).unwrap_or(Value::Null))
}

fn row(function: &Function) -> Value {
    let arguments: Vec<Value> = function
        .arguments
        .iter()
        .map(|argument| {
            json!({
                "name": argument.name,
                "accepts": argument.accepts.to_string(),
                "required": argument.default.is_none(),
                "default": default_of(argument),
                "doc": argument.doc,
            })
        })
        .collect();
    json!({
        "name": function.name,
        "doc": function.doc,
        "arguments": arguments,
        "takes_extra": function.takes_extra,
        "takes_more": function.takes_more,
        "changes": function.changes,
        "long": function.long,
    })
}

/// The OpenAPI 3.1 description: one schema of a call for each function, chosen by `fun`.
fn document(all: &[&Function]) -> Value {
    let mut schemas = Map::new();
    let mut choices = Vec::new();
    for function in all {
        let reference = format!("#/components/schemas/{}", function.name);
        choices.push(json!({"$ref": reference}));
        schemas.insert(function.name.to_owned(), call_schema(function));
    }
    schemas.insert("Error".to_owned(), error_schema());
    schemas.insert(
        "PillarError".to_owned(),
        json!({
            "type": "object",
            "required": ["_errors"],
            "properties": {"_errors": {"type": "array", "items": {"type": "string"}}},
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {"title": "castoff", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths(&choices),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{"token": []}, {"certificate": []}, {}],
    })
}

fn call_schema(function: &Function) -> Value {
    let mut properties = Map::new();
    for argument in function.arguments {
        let mut schema = type_schema(argument.accepts);
        schema["description"] = json!(argument.doc);
        schema["default"] = default_of(argument);
        if argument.default.is_none() {
            schema.as_object_mut().map(|schema| schema.remove("default"));
        }
        properties.insert(argument.name.to_owned(), schema);
    }
    if function.changes {
        properties.insert(
            "test".to_owned(),
            json!({"type": "boolean", "default": false, "description": "Only say what would be done"}),
        );
    }
    json!({
        "type": "object",
        "description": function.doc,
        "required": ["fun"],
        "properties": {
            "fun": {"const": function.name},
            "arg": {"type": "array", "description": "Positional arguments"},
            "words": {"type": "array", "items": {"type": "string"},
                "description": "Further arguments as words of a command line, `name=value` among them"},
            "kwarg": {"type": "object", "properties": properties, "additionalProperties": function.takes_more},
            "minion": {"type": "object", "properties": {
                "id": {"type": "string"}, "opts": {"type": "object"}, "pillar": {"type": "object"}, "grains": {"type": "object"},
            }},
        },
        "additionalProperties": false,
        "x-castoff-changes": function.changes,
    })
}

fn type_schema(accepts: Accepts) -> Value {
    match accepts {
        Accepts::Any => json!({}),
        Accepts::Text | Accepts::Reference | Accepts::Tree | Accepts::Path => json!({"type": ["string", "null"]}),
        Accepts::Bool => json!({"type": ["boolean", "null"]}),
        Accepts::Int => json!({"type": ["integer", "null"]}),
        Accepts::List | Accepts::Items => json!({"type": ["array", "string", "null"]}),
        Accepts::Map => json!({"type": ["object", "null"]}),
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["kind", "message", "causes", "hint"],
                "properties": {
                    "kind": {"type": "string"},
                    "message": {"type": "string"},
                    "causes": {"type": "array", "items": {"type": "string"}},
                    "hint": {"type": ["string", "null"]},
                },
            },
            "request_id": {"type": "string"},
        },
    })
}

fn paths(choices: &[Value]) -> Value {
    let failure = || json!({"description": "Failure", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    let pillar_failure = || json!({"description": "Failure", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PillarError"}}}});
    let job_id = || json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    let json_answer = |description: &str| json!({"200": {"description": description, "content": {"application/json": {}}}, "default": failure()});
    json!({
        "/v1/call": {"post": {
            "summary": "Call a function",
            "requestBody": {"required": true, "content": {"application/json": {"schema": {"oneOf": choices}}}},
            "responses": {
                "200": {"description": "The result", "content": {"application/json": {"schema": {
                    "type": "object",
                    "required": ["return", "retcode", "request_id"],
                    "properties": {"return": {}, "retcode": {"type": "integer"}, "request_id": {"type": "string"}},
                }}}},
                "202": {"description": "A job was begun; `Location` says where to follow it"},
                "default": failure(),
            },
        }},
        "/v1/pillar/{minion}": {"get": {
            "summary": "The pillar of a minion",
            "parameters": [
                {"name": "minion", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$"}},
                {"name": "prefixed", "in": "query", "schema": {"type": "boolean", "default": true}},
                {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            ],
            "responses": {
                "200": {"description": "The document; `Castoff-Stale` if it is the last good one", "content": {"application/json": {"schema": {"type": "object"}}}},
                "304": {"description": "The caller has it already"},
                "default": pillar_failure(),
            },
        }},
        "/v1/pillar": {"post": {
            "summary": "The pillars of many minions",
            "requestBody": {"required": true, "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["minions"],
                "properties": {"minions": {"type": "array", "items": {"type": "string"}}, "prefixed": {"type": "boolean", "default": true}},
                "additionalProperties": false,
            }}}},
            "responses": {
                "200": {"description": "Pillars and errors by minion", "content": {"application/json": {"schema": {
                    "type": "object",
                    "required": ["pillars", "errors"],
                    "properties": {
                        "pillars": {"type": "object", "additionalProperties": {"type": "object"}},
                        "errors": {"type": "object", "additionalProperties": {"type": "string"}},
                    },
                }}}},
                "default": pillar_failure(),
            },
        }},
        "/v1/jobs": {"get": {"summary": "Jobs, the newest first", "parameters": [
            {"name": "state", "in": "query", "schema": {"enum": State::ALL.map(State::word)}},
            {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50, "maximum": 1000}},
            {"name": "before", "in": "query", "schema": {"type": "string"}},
        ], "responses": json_answer("Jobs without their results")}},
        "/v1/jobs/{id}": {
            "parameters": [job_id()],
            "get": {"summary": "A job with its result", "responses": json_answer("The job")},
            "delete": {"summary": "End a job", "responses": json_answer("The job as it stands then")},
        },
        "/v1/jobs/{id}/events": {"get": {
            "summary": "What a job tells, as server-sent events",
            "parameters": [job_id(), {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer"}}],
            "responses": {
                "200": {"description": "Events `state`, `progress`, `message`, `end`", "content": {"text/event-stream": {}}},
                "204": {"description": "The job has ended and has nothing more to tell"},
                "default": failure(),
            },
        }},
        "/v1/functions": {"get": {"summary": "The function table", "responses": json_answer("Every function with its arguments")}},
        "/healthz": {"get": {"summary": "Whether the process answers", "responses": json_answer("It does")}},
        "/readyz": {"get": {"summary": "Whether queries can be answered", "responses": json_answer("They can")}},
        "/metrics": {"get": {"summary": "Numbers for Prometheus", "responses": {"200": {"description": "Text format 0.0.4", "content": {"text/plain": {}}}}}},
        "/v1/log-level": {
            "get": {"summary": "The level of the log", "responses": json_answer("The level")},
            "put": {
                "summary": "Change the level of the log",
                "requestBody": {"required": true, "content": {"application/json": {"schema": {
                    "type": "object", "required": ["level"], "properties": {"level": {"enum": crate::config::LEVELS}},
                }}}},
                "responses": json_answer("The new level"),
            },
        },
    })
}
